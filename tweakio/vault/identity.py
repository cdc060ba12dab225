"""Where this machine's identity is: the key that opens what is sealed.

In this order: what ``TWEAKIO_IDENTITY`` names, the file ``identity`` in the home, beside the
repository and not in it, and the system's key ring, where its name is its recipient.
"""

from __future__ import annotations

import importlib
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tweakio import durable
from tweakio.errors import VaultError, storage_error
from tweakio.owners import refuse_foreign_owner
from tweakio.references import IDENTITY_PREFIX, IDENTITY_VARIABLE, SERVICE, is_age_file

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tweakio.layout import Layout

__all__ = ["VARIABLE", "Stored", "find", "identity_path", "keep_in_file", "keep_in_key_ring"]

log = logging.getLogger(__name__)

VARIABLE = IDENTITY_VARIABLE
_MOST = 1 << 20


class Stored(NamedTuple):
    """An identity that was found.

    Attributes:
        place: for people: ``$TWEAKIO_IDENTITY``, a path or ``key ring``.
        content: of the identity file; secret, or sealed with a passphrase.
    """

    place: str
    content: bytes

    def __repr__(self) -> str:
        return f"Stored(place={self.place!r})"

    @property
    def protected(self) -> bool:
        """Whether a passphrase is needed."""
        return is_age_file(self.content)


def identity_path(layout: Layout) -> Path:
    """The file of a home's identity."""
    return layout.home / "identity"


def find(layout: Layout, recipients: Iterable[str]) -> Stored | None:
    """This machine's identity; None if it has none.

    Args:
        layout: the home.
        recipients: of the vault: under which the key ring may have an identity.

    Raises:
        VaultError: the named file cannot be read.
    """
    named = os.environ.get(VARIABLE)
    if named:
        if named.startswith("AGE-SECRET-KEY-"):
            return Stored(f"${VARIABLE}", named.encode())
        try:
            return Stored(f"${VARIABLE}", Path(named).expanduser().read_bytes()[:_MOST])
        except (OSError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or "it cannot be found"
            raise VaultError(
                f"the identity that {VARIABLE} names cannot be read: {reason}",
                hint="it is the path of an identity file, as age-keygen writes it",
            ) from None
    path = identity_path(layout)
    if durable.is_there(path):
        refuse_foreign_owner(layout)  # whoever made it could have put an identity of theirs there
    try:
        return Stored(os.fspath(path), durable.read_regular(path, _MOST))
    except FileNotFoundError:
        pass
    except OSError as error:
        raise storage_error(error, "read the identity") from error
    ring = _key_ring()
    for recipient in recipients if ring is not None else ():
        try:
            found = ring.get_password(SERVICE, _name(recipient))
        except Exception as error:  # each backend has errors of its own, and they may quote
            log.warning("the key ring cannot be read (%s)", type(error).__name__)
            return None
        if found:
            return Stored("key ring", str(found).encode())
    return None


def keep_in_file(layout: Layout, content: bytes) -> str:
    """Write an identity beside the repository, for its owner's eyes only.

    Returns:
        The place, for people.
    """
    path = identity_path(layout)
    refuse_foreign_owner(layout)
    try:
        durable.make_directory(layout.home, parents=True)
        durable.create(path, content)
        durable.fsync_directory(layout.home)
    except OSError as error:
        raise storage_error(error, "write the identity") from error
    return os.fspath(path)


def keep_in_key_ring(content: str, recipient: str) -> bool:
    """Put an identity into the system's key ring; False if there is none that keeps it."""
    ring = _key_ring()
    if ring is None:
        return False
    try:
        ring.set_password(SERVICE, _name(recipient), content)
        return bool(ring.get_password(SERVICE, _name(recipient)) == content)
    except Exception as error:  # as above
        log.info("the key ring cannot be used (%s)", type(error).__name__)
        return False


def _name(recipient: str) -> str:
    return f"{IDENTITY_PREFIX}{recipient}"


def _key_ring() -> Any:
    """The package keyring with a backend that keeps something; None if there is none."""
    try:
        ring: Any = importlib.import_module("keyring")
        return ring if ring.get_keyring().priority >= 1 else None
    except Exception:  # not installed, or its backends cannot be loaded
        return None
