"""``tweakio profile list`` and ``status``."""

from typing import TYPE_CHECKING, Annotated

import typer

from tweakio.cli.options import Json, Platform, ProfileId
from tweakio.cli.output import emit, is_terminal, notice
from tweakio.errors import InvalidInputError

if TYPE_CHECKING:
    from tweakio.cli.context import State

__all__ = ["list_", "status"]


def list_(
    ctx: typer.Context,
    *,
    all_: Annotated[
        bool, typer.Option("--all", help="All of them; so it is without this.")
    ] = False,
    active: Annotated[bool, typer.Option("--active", help="Only active ones.")] = False,
    corrupted: Annotated[bool, typer.Option("--corrupted", help="Only damaged ones.")] = False,
    platform: Platform = None,
    tags: Annotated[
        list[str] | None,
        typer.Option("--tag", metavar="TAG", help="Only with this tag; repeatable: with all."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List profiles."""
    if all_ + active + corrupted > 1:
        raise InvalidInputError(
            "--all, --active and --corrupted exclude each other", hint="give one of them"
        )
    from tweakio.cli.listing import list_profiles

    state: State = ctx.obj
    list_profiles(
        state,
        active=active,
        corrupted=corrupted,
        platform=platform,
        tags=tags or (),
        as_json=as_json,
    )


def status(ctx: typer.Context, *, profile_id: ProfileId, as_json: Json = False) -> None:
    """Show everything about one profile."""
    from tweakio.cli.browser_status import browser_json, browser_pairs
    from tweakio.cli.render import json_text, plain_rows, profile_json, profile_pairs

    state: State = ctx.obj
    with state.manager("profile status") as manager:
        profile = manager.get_profile(profile_id)
        browser = manager.browser_status(profile_id)
        doubts = manager.untrusted([profile_id])
        lost = bool(manager.lost_data([profile]))
        hint = manager.back_from_loss(profile_id) if lost else ""
    unsure = [key for doubt in doubts for key in doubt.settings()]
    if as_json:
        found = {**profile_json(profile), **browser_json(browser), "untrusted": unsure}
        found["browser_data_lost"] = lost
        emit(json_text(found))
    elif is_terminal():
        from tweakio.cli.tables import local_time, pairs_table

        pairs = profile_pairs(profile, local_time) + browser_pairs(browser, local_time)
        emit(pairs_table(pairs))
    else:
        emit(plain_rows(profile_pairs(profile) + browser_pairs(browser)))
    if lost and not as_json:
        notice(f"its browser data are gone, and it was not tweakio that removed them; {hint}")
    if unsure and not as_json:
        notice(f"not confirmed on this machine: {', '.join(unsure)}; see 'tweakio profile trust'")
