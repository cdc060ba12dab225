"""Where this machine's identity is: the key that opens what is sealed.

In this order: what ``TWEAKIO_IDENTITY`` names, the file ``identity`` in the home, beside the
repository and not in it, and the system's key ring, where its name is its recipient.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tweakio import durable, keyrings
from tweakio.errors import VaultError, storage_error
from tweakio.owners import refuse_foreign_owner
from tweakio.references import IDENTITY_PREFIX, IDENTITY_VARIABLE, SERVICE, is_age_file

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tweakio.layout import Layout

__all__ = [
    "KEY_RING",
    "VARIABLE",
    "Stored",
    "find",
    "identity_path",
    "keep_in_file",
    "keep_in_key_ring",
    "note_place",
    "was_in_key_ring",
]

VARIABLE = IDENTITY_VARIABLE
KEY_RING = "key ring"
"""The place of an identity that the key ring has."""
_MOST = 1 << 20
_HINT_IF_KEPT = f"unlock it and run the command again, or name an identity's file in {VARIABLE}"
_HINT = "unlock it and run the command again; 'tweakio vault init --file' does without it"


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


def find(layout: Layout, recipients: Iterable[str], *, required: bool = True) -> Stored | None:
    """This machine's identity; None if it has none.

    Args:
        layout: the home.
        recipients: of the vault: under which the key ring may have an identity.
        required: False if a key ring that gives no answer counts as none, unless this home's
            identity was put into it.

    Raises:
        VaultError: the named file cannot be read, or the key ring, which may have it, gives no
            answer or has lost it.
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
    return _in_key_ring(layout, tuple(recipients), required=required)


def _in_key_ring(layout: Layout, recipients: tuple[str, ...], *, required: bool) -> Stored | None:
    def look(ring: Any) -> str | None:
        keyrings.require_one_that_keeps(ring)
        found = (ring.get_password(SERVICE, _name(recipient)) for recipient in recipients)
        return next((str(content) for content in found if content), None)

    if not recipients:
        return None
    noted = was_in_key_ring(layout)
    try:
        content = keyrings.ask(look)
    except keyrings.KeyRingError as error:
        if not noted and (not required or isinstance(error, keyrings.NoKeyRingError)):
            return None
        raise _unavailable(error, noted) from None
    if content:
        return Stored(KEY_RING, content.encode())
    if noted and noted in recipients:
        raise VaultError(
            "the identity of this home was kept in the system's key ring, and is not there now",
            hint=_HINT_IF_KEPT,
        )
    return None


def _unavailable(error: keyrings.KeyRingError, noted: str) -> VaultError:
    kept = ", and the identity of this home is kept in it" if noted else ""
    return VaultError(
        f"the system's key ring {error}{kept}", hint=_HINT_IF_KEPT if noted else _HINT
    )


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


def keep_in_key_ring(layout: Layout, content: str, recipient: str) -> bool:
    """Put an identity into the system's key ring; False if there is none that keeps it.

    Raises:
        VaultError: there is one, and it cannot be used now. To make a file instead would leave
            two identities as soon as it can be.
    """

    def keep(ring: Any) -> bool:
        keyrings.require_one_that_keeps(ring)
        ring.set_password(SERVICE, _name(recipient), content)
        return bool(ring.get_password(SERVICE, _name(recipient)) == content)

    noted = was_in_key_ring(layout)
    try:
        return keyrings.ask(keep)
    except keyrings.KeyRingError as error:
        if isinstance(error, keyrings.NoKeyRingError) and not noted:
            return False
        raise _unavailable(error, noted) from None


def was_in_key_ring(layout: Layout) -> str:
    """The recipient whose identity this home has in the key ring; empty if it has none there."""
    try:
        return durable.read_regular(layout.key_ring, _MOST).decode("ascii", "replace").strip()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise storage_error(error, "read where the identity is") from error


def note_place(layout: Layout, recipient: str, *, in_key_ring: bool) -> None:
    """Note whether the identity is in the key ring, for a time when that cannot be asked.

    The repository's lock is held.
    """
    try:
        if not in_key_ring:
            durable.remove(layout.key_ring)
        elif was_in_key_ring(layout) != recipient:
            temporary = layout.temporary / "key_ring"
            durable.remove(temporary)
            durable.replace(layout.key_ring, recipient.encode() + b"\n", temporary)
    except OSError as error:
        raise storage_error(error, "note where the identity is") from error


def _name(recipient: str) -> str:
    return f"{IDENTITY_PREFIX}{recipient}"
