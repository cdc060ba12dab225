"""``tweakio profile activate`` and ``deactivate``."""

from typing import TYPE_CHECKING, Annotated

import typer

from tweakio.cli.options import ProfileId, parse_seconds
from tweakio.cli.output import emit, notice

if TYPE_CHECKING:
    from tweakio.cli.context import State

__all__ = ["activate", "deactivate"]


def activate(
    ctx: typer.Context,
    *,
    profile_id: ProfileId,
    timeout: Annotated[
        str, typer.Option(metavar="SECONDS", help="How long to wait for who uses it.")
    ] = "30",
) -> None:
    """Select a profile; the one before is deactivated."""
    state: State = ctx.obj
    seconds = parse_seconds(timeout)
    with state.manager("profile activate") as manager:
        profile = manager.select_profile(profile_id, timeout=seconds)
    emit(f"activated {profile.id}\n")


def deactivate(ctx: typer.Context) -> None:
    """Deactivate the selected profile."""
    state: State = ctx.obj
    with state.manager("profile deactivate") as manager:
        profile = manager.deactivate_profile()
        held = [] if profile is not None else manager.list_profiles()
    if profile is not None:
        emit(f"deactivated {profile.id}\n")
        return
    notice("no profile is selected: nothing to deactivate")
    for other in held:
        if other.in_use:
            owner = f"process {other.lock_pid}" if other.lock_pid else "a process"
            notice(f"profile '{other.id}' is in use by {owner}, which deactivates it at its end")
