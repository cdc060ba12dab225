"""Where leases are kept: what a backend does, and which one an address names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple, Protocol
from urllib.parse import urlsplit

from tweakio import references
from tweakio.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tweakio.layout import Layout

__all__ = ["LeaseBackend", "LeaseRecord", "check_url", "open_backend", "patience"]

_HINT = "give 'file', redis://HOST:PORT/DATABASE, or env:NAME for a variable that has it"


class LeaseRecord(NamedTuple):
    """A lease that is held.

    Attributes:
        holder: whose it is: machine, process, and what tells holders in one process apart.
        token: grows by each lease of the profile.
        expires_in: seconds that are left if it is not renewed.
    """

    holder: str
    token: int
    expires_in: float


class LeaseBackend(Protocol):
    """Keeps leases. Each method is one atomic step, and none waits for a holder.

    All raise a ``LeaseError`` if the backend cannot be asked, or a ``StorageError``.
    """

    def acquire(self, profile: str, holder: str, ttl: float) -> int | None:
        """Take a lease for ``ttl`` seconds.

        Returns:
            The fencing token, greater than every earlier one of the profile, also of expired
            leases; None if another has the lease.
        """

    def renew(self, profile: str, token: int, ttl: float) -> bool:
        """Let a lease last for ``ttl`` seconds from now; False if it is not this one any more."""

    def release(self, profile: str, token: int) -> bool:
        """Give a lease back; False if it is not this one any more."""

    def read(self, profiles: Sequence[str]) -> dict[str, LeaseRecord]:
        """The leases of some profiles, in one question; those that nobody has are left out."""


def patience(ttl: float) -> float:
    """For how many seconds an answer is waited for, where a lease lasts so many.

    A machine with much to do may need a third of a second for any.
    """
    return min(max(ttl / 9, 0.3), 5.0)


def check_url(url: str) -> str:
    """The address of a backend as it may be kept: without a secret in it.

    Raises:
        InvalidInputError: it is none, or has a password. It is not shown.
    """
    if url == "file" or (url.startswith("env:") and references.is_reference(url)):
        return url
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("redis", "rediss") and bool(parts.hostname) and parts.port != 0
        secret = parts.password is not None or bool(parts.query or parts.fragment)
    except ValueError:
        whole = secret = False
    if not whole or not url.isprintable() or not re.fullmatch(r"/?|/[0-9]{1,4}", parts.path):
        raise InvalidInputError("this is not the address of a lease backend", hint=_HINT)
    if secret:
        raise InvalidInputError(
            "the address of the lease backend has a password or options in it",
            hint="put the whole address into an environment variable and give env:NAME",
        )
    return url


def open_backend(url: str, layout: Layout, ttl: float) -> LeaseBackend:
    """The backend at an address that ``check_url`` has passed.

    Args:
        url: ``file``, ``redis://...`` or ``env:NAME``.
        layout: of the home, for ``file``.
        ttl: seconds that a lease lasts; what an answer is waited for follows from it.

    Raises:
        SecretNotFoundError: the environment variable is not there.
        InvalidInputError: what the variable has is no address.
        MissingExtraError: a package is missing.
    """
    if url.startswith("env:"):
        url = references.resolve(url, "the lease backend")
    if url == "file":
        from tweakio.lease.local import FileBackend

        return FileBackend(layout.leases)
    if not url.startswith(("redis://", "rediss://")):
        raise InvalidInputError(
            "the variable of the lease backend has no address of one", hint=_HINT
        )
    from tweakio.lease.shared import RedisBackend

    return RedisBackend(url, timeout=patience(ttl))
