"""Which of the recipients somebody confirmed on this machine; it seals for these and no others.

The list of recipients is tracked, so whoever can push can write into it. Who is confirmed is
noted in ``.git/tweakio`` and never travels. A machine that has no note yet, as after a clone,
takes the list as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tweakio import durable
from tweakio.errors import VaultError, command, storage_error
from tweakio.vault.recipients import checked, dump, parse

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from tweakio.layout import Layout

__all__ = ["among", "keep", "note", "note_first", "require", "unconfirmed_hint"]

_MOST = 1 << 20


def _noted(layout: Layout) -> set[str] | None:
    try:
        content = durable.read_regular(layout.confirmed, _MOST)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise storage_error(error, "read who is confirmed") from error
    return {_plain(line) for line in parse(content)}


def _plain(recipient: str) -> str:
    """A recipient without an ssh key's comment."""
    return " ".join(recipient.split()[:2]) if recipient.startswith("ssh-") else recipient


def among(layout: Layout, listed: Sequence[str]) -> list[str]:
    """Those of the listed recipients that are confirmed here, in their order.

    Raises:
        StorageError: that cannot be read; then nobody counts as confirmed.
    """
    noted = _noted(layout)
    return [item for item in listed if noted is None or _plain(item) in noted]


def note(layout: Layout, recipients: Iterable[str]) -> None:
    """Note who is confirmed; the repository's lock is held.

    Raises:
        StorageError: it cannot be written.
    """
    temporary = layout.temporary / "confirmed"
    try:
        durable.remove(temporary)
        durable.replace(layout.confirmed, dump(recipients), temporary)
    except OSError as error:
        raise storage_error(error, "write who is confirmed") from error


def keep(layout: Layout, recipients: Sequence[str]) -> None:
    """Note these and no others; the repository's lock is held."""
    if _noted(layout) != {_plain(item) for item in recipients}:
        note(layout, recipients)


def note_first(layout: Layout, listed: Collection[str]) -> None:
    """Take a list as it is if nothing was noted yet; the repository's lock is held."""
    if _noted(layout) is None:
        note(layout, listed)


def unconfirmed_hint(recipients: Sequence[str]) -> str:
    """How to confirm some, which somebody else wrote; what is not a recipient is not repeated."""
    known = [item for item in map(checked, recipients) if item is not None]
    unknown = len(recipients) - len(known)
    parts = []
    if known:
        shown = command("tweakio vault recipients add", *known)
        parts.append(f"If they are who they should be: {shown}")
    if unknown:
        lines = "1 line is" if unknown == 1 else f"{unknown} lines are"
        parts.append(f"{lines} not a recipient at all; look at .age-recipients in an editor")
    return ". ".join(parts)


def require(confirmed: Sequence[str]) -> None:
    """Refuse to seal for nobody.

    Raises:
        VaultError: there is no confirmed recipient.
    """
    if not confirmed:
        raise VaultError(
            "no recipient of the vault is confirmed on this machine",
            hint="run 'tweakio vault recipients list', then 'add' for those that should be",
        )
