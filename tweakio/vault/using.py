"""Whether something decrypted may be used where it was found, or encrypted again.

Encryption is no signature. So what is used has to say inside that it is for this place, must not
come from the future, and not be older than what this machine has seen there. What says nothing,
as before there were headers, is used only in a place where this machine knew it, or a person
confirmed it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tweakio import trust
from tweakio.errors import VaultError, command
from tweakio.vault import binding, counters

if TYPE_CHECKING:
    from tweakio.layout import Layout
    from tweakio.vault.binding import Bound, Place

__all__ = ["belonging", "is_known", "rebound", "usable"]


def is_known(layout: Layout, place: Place, sealed: bytes) -> bool:
    """Whether just these encrypted bytes were confirmed here for a place."""
    name = place.name or trust.SESSION
    return trust.is_legacy(layout, place.profile_id, place.created_at, name, sealed)


def belonging(
    layout: Layout, place: Place, sealed: bytes, plain: bytes, *, assumed: bool = False
) -> Bound:
    """What was decrypted, if it belongs to the place where it was found.

    Args:
        layout: the home.
        place: where it was found.
        sealed: as it was found.
        plain: the same decrypted.
        assumed: take what says nothing for known here.

    Raises:
        VaultError: it belongs elsewhere, or says nothing and is not known here.
        NewerFormatError: a newer tweakio has encrypted it.
    """
    try:
        found = binding.read(plain)
    except VaultError as error:
        raise VaultError(f"{place.where}: {error.message}", hint=error.hint) from None
    if found.place is None:
        if assumed or is_known(layout, place, sealed):
            return found
        raise VaultError(
            f"{place.where} does not say whose it is, and is not known on this machine",
            hint=f"if you trust it: {command('tweakio profile trust', place.profile_id)}",
        )
    problem = place.difference(found.place)
    if problem:
        raise VaultError(problem, hint=_replace(place))
    return found


def usable(
    layout: Layout,
    place: Place,
    sealed: bytes,
    plain: bytes,
    *,
    older: bool = False,
    assumed: bool = False,
) -> Bound:
    """What was decrypted, if it may be used in the place where it was found.

    Args:
        layout: the home.
        place: where it was found.
        sealed: as it was found.
        plain: the same decrypted.
        older: use it also if this machine has seen a newer one, or it is dated in the future.
        assumed: take what says nothing for known here.

    Raises:
        VaultError, NewerFormatError: it must not be used; see ``belonging``.
    """
    found = belonging(layout, place, sealed, plain, assumed=assumed)
    if older:
        return found
    hint = _replace(place)
    if place.purpose == "session":
        hint += f", or {command('tweakio vault restore', place.profile_id)} --older"
    if binding.is_too_new(found.counter):
        raise VaultError(
            f"{place.where} is dated {binding.shown_time(found.counter)}, more than a day ahead of"
            f" this machine's clock ({binding.shown_time(binding.now())})",
            hint=f"check the clock; if it is right, {hint}",
        )
    seen = counters.highest(layout, place)
    if found.counter < seen:
        age = f"of {binding.shown_time(found.counter)}" if found.counter else "of an older tweakio"
        raise VaultError(
            f"{place.where} is {age}, older than that of {binding.shown_time(seen)} which this"
            " machine has seen",
            hint=hint,
        )
    return found


def rebound(layout: Layout, place: Place, sealed: bytes, plain: bytes) -> bytes:
    """What to encrypt for others: the same bytes, with a header if there was none.

    Raises:
        VaultError, NewerFormatError: it does not belong to the place; see ``belonging``.
    """
    found = belonging(layout, place, sealed, plain)
    if found.place is not None:
        return plain
    return binding.bind(place, counters.upcoming(layout, place), found.content)


def _replace(place: Place) -> str:
    return "log in again" if place.purpose == "session" else "set it again"
