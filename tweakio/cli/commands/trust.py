"""``tweakio profile trust``."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tweakio.cli.options import Json, ProfileIds
from tweakio.cli.output import clean, counted, emit, notice
from tweakio.errors import InvalidInputError, UntrustedSettingsError, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tweakio.cli.context import State
    from tweakio.trust import Doubt

__all__ = ["trust"]


def trust(
    ctx: typer.Context,
    *,
    profile_ids: ProfileIds = None,
    all_: Annotated[bool, typer.Option("--all", help="Every profile.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Confirm without asking.")] = False,
    as_json: Json = False,
) -> None:
    """Confirm settings that came from elsewhere, after a look."""
    state: State = ctx.obj
    if bool(profile_ids) == all_:
        raise InvalidInputError(
            "ids and --all were both given" if all_ else "no profile was given",
            hint="name profiles, or give --all",
        )
    with state.manager("profile trust") as manager:
        ids = profile_ids or [profile.id for profile in manager.list_profiles()]
        doubts = manager.untrusted(ids)
        named = ids if profile_ids else list(dict.fromkeys(item.profile_id for item in doubts))
        if as_json:
            from tweakio.cli.render import json_text

            emit(json_text([_record(item) for item in doubts]))
        else:
            emit("".join(f"{line}\n" for item in doubts for line in _lines(item)))
        if not yes and doubts and not as_json:
            _ask(named)
            yes = True
        if yes or not (as_json or doubts):
            manager.trust(named)
    if not doubts:
        notice("nothing was left to confirm")
    elif yes:
        notice(f"confirmed {counted(len(named), 'profile')} on this machine")


def _record(doubt: "Doubt") -> dict[str, Any]:
    return {**doubt._asdict(), "now": dict(doubt.now), "confirmed": dict(doubt.confirmed)}


def _lines(doubt: "Doubt") -> "list[str]":
    return [f"{doubt.profile_id}\t{clean(line)}" for line in doubt.lines()]


def _ask(ids: "Sequence[str]") -> None:
    """Have a person say yes.

    Raises:
        UntrustedSettingsError: nobody did.
    """
    what = f"use these settings of {counted(len(ids), 'profile')} on this machine?"
    if sys.stdin is None or not sys.stdin.isatty():
        raise UntrustedSettingsError(
            "nothing was confirmed: there is no terminal to ask on",
            hint=run("tweakio profile trust --yes", *ids)
            if len(ids) <= 5
            else "run 'tweakio profile trust --all --yes'",
        )
    if not typer.confirm(what, err=True):
        raise UntrustedSettingsError("nothing was confirmed")
