"""``tweakio profile delete``."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from tweakio.cli.options import DryRun, ProfileIds, SelectPlatform, SelectTags
from tweakio.cli.output import counted, emit, notice
from tweakio.cli.selection import make_selection
from tweakio.errors import InvalidInputError, TweakioError, command, run

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
    snapshots: Annotated[
        bool,
        typer.Option("--snapshots", help="With --purge: remove all snapshots of the profiles too."),
    ] = False,
    tags: SelectTags = None,
    platform: SelectPlatform = None,
    dry_run: DryRun = False,
) -> None:
    """Delete profiles; undo brings them back with their data."""
    state: State = ctx.obj
    if snapshots and not purge:
        raise InvalidInputError("--snapshots needs --purge", hint="add --purge, or leave it out")
    selection = make_selection(profile_ids, tags, platform, "--tag and --platform")
    left: list[str] = []
    with state.manager("profile delete") as manager:
        ids = selection.resolve(manager)
        if purge:
            # Before anything is deleted: if a store does not answer, that is to be known now.
            left = _left(manager, ids, snapshots=snapshots)
        if dry_run:
            _check(manager, ids, force=force)
        else:
            manager.delete_profiles(ids, force=force, purge=purge)
            if snapshots:
                _purge_snapshots(manager, ids)
    what = "would delete" if dry_run else "deleted"
    emit("".join(f"{what} {profile_id}\n" for profile_id in ids))
    if dry_run:
        notice("nothing was changed")
    elif purge:
        notice("the browser data was deleted permanently; exported files are not touched")
    else:
        notice("'tweakio profile undo' brings it back with its browser data")
    for line in left:
        notice(line)


def _purge_snapshots(manager: "ProfileManager", ids: Sequence[str]) -> None:
    for profile_id in ids:
        try:
            manager.snapshots.purge(profile_id)
        except TweakioError as error:
            raise type(error)(
                f"the profiles were deleted, but not all of their snapshots: {error.message}",
                hint=run("tweakio profile snapshot prune --all", profile_id),
            ) from None


def _left(manager: "ProfileManager", ids: Sequence[str], *, snapshots: bool) -> list[str]:
    """What a purge does not remove, a line for each profile and kind."""
    from tweakio.store.worktree import SEALED

    lines = []
    kept = Counter(entry.profile_id for entry in manager.trash())
    for profile_id in ids:
        manager.get_profile(profile_id)
        if kept[profile_id]:
            number = counted(kept[profile_id], "older entry", "older entries")
            lines.append(
                f"the trash still has {number} of {profile_id}: tweakio profile trash list"
            )
        repository = manager.repository
        if repository.file_at(repository.head().root, profile_id, SEALED) is not None:
            lines.append(f"history keeps the encrypted session of {profile_id}")
        try:
            left = manager.snapshots.left(profile_id)
        except TweakioError as error:
            if snapshots:
                raise
            lines.append(f"whether there are snapshots of {profile_id} is unknown: {error.message}")
            continue
        if left.snapshots and not snapshots:
            which = f", {left.unencrypted} of them unencrypted" if left.unencrypted else ""
            how = command("tweakio profile snapshot prune --all", profile_id)
            number = counted(left.snapshots, "snapshot")
            lines.append(f"{number} of {profile_id} not removed{which}: {how}")
    return lines


def _check(manager: "ProfileManager", ids: Sequence[str], *, force: bool) -> None:
    """Refuse what the deletion would refuse."""
    for profile_id in ids:
        manager.validator.can_delete(manager.get_profile(profile_id), force=force)
