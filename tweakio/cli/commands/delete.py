"""``tweakio profile delete``."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from tweakio.cli.options import DryRun, ProfileIds, SelectPlatform, SelectTags
from tweakio.cli.output import emit, notice
from tweakio.cli.selection import make_selection

if TYPE_CHECKING:
    from tweakio.cli.context import State
    from tweakio.manager import ProfileManager

__all__ = ["delete"]


def delete(
    ctx: typer.Context,
    *,
    profile_ids: ProfileIds = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also if it is active; never if a process uses it.")
    ] = False,
    purge: Annotated[
        bool, typer.Option("--purge", help="Keep no browser data to undo it with. Does not ask.")
    ] = False,
    tags: SelectTags = None,
    platform: SelectPlatform = None,
    dry_run: DryRun = False,
) -> None:
    """Delete profiles; undo brings them back with their data."""
    state: State = ctx.obj
    selection = make_selection(profile_ids, tags, platform, "--tag and --platform")
    with state.manager("profile delete") as manager:
        ids = selection.resolve(manager)
        if dry_run:
            _check(manager, ids, force=force)
        else:
            manager.delete_profiles(ids, force=force, purge=purge)
    what = "would delete" if dry_run else "deleted"
    emit("".join(f"{what} {profile_id}\n" for profile_id in ids))
    if dry_run:
        notice("nothing was changed")
    elif purge:
        notice("the browser data is gone for good")
    else:
        notice("'tweakio profile undo' brings it back with its browser data")


def _check(manager: "ProfileManager", ids: Sequence[str], *, force: bool) -> None:
    """Refuse what the deletion would refuse."""
    for profile_id in ids:
        manager.validator.can_delete(manager.get_profile(profile_id), force=force)
