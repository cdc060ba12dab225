"""``tweakio profile recover``."""

from typing import TYPE_CHECKING, Annotated, cast

import typer

from tweakio.cli.options import DryRun, ProfileIds, SelectPlatform, SelectTags
from tweakio.cli.output import emit, notice
from tweakio.cli.selection import make_selection
from tweakio.errors import InvalidInputError

if TYPE_CHECKING:
    from tweakio.cli.context import State
    from tweakio.models import RecoveryMode

__all__ = ["recover"]


def recover(
    ctx: typer.Context,
    *,
    profile_ids: ProfileIds = None,
    mode: Annotated[
        str,
        typer.Option(
            metavar="soft|hard",
            help="hard also starts a new session; the old one is kept in the trash.",
        ),
    ] = "soft",
    tags: SelectTags = None,
    platform: SelectPlatform = None,
    dry_run: DryRun = False,
) -> None:
    """Mend damaged profiles."""
    state: State = ctx.obj
    if mode not in ("soft", "hard"):
        raise InvalidInputError(f"unknown mode {mode[:40]!r}", hint="use 'soft' or 'hard'")
    selection = make_selection(profile_ids, tags, platform, "--tag and --platform")
    with state.manager("profile recover") as manager:
        ids = selection.resolve(manager, corrupted_only=True)
        if dry_run:
            profiles = [manager.get_profile(profile_id) for profile_id in ids]
            lines = [
                f"would recover {profile.id} ({mode}): {profile.problem or 'not damaged'}"
                for profile in profiles
            ]
        else:
            manager.recover_profiles(ids, cast("RecoveryMode", mode))
            lines = [f"recovered {profile_id} ({mode})" for profile_id in ids]
    from tweakio.cli.output import clean

    emit("".join(f"{clean(line)}\n" for line in lines))
    if dry_run:
        notice("nothing was changed")
    elif mode == "hard":
        notice("the old sessions are in the trash; log in again")
