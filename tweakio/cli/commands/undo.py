"""``tweakio profile undo``, ``redo`` and ``restore``."""

from typing import TYPE_CHECKING, Annotated

import typer

from tweakio.cli.completion import complete_revisions
from tweakio.cli.options import ProfileId
from tweakio.cli.output import clean, emit, notice

if TYPE_CHECKING:
    from tweakio.cli.context import State

__all__ = ["redo", "restore", "undo"]


def undo(ctx: typer.Context) -> None:
    """Take back the last change, browser data included."""
    state: State = ctx.obj
    with state.manager("profile undo") as manager:
        change = manager.undo()
    emit(f"undone: {clean(change.summary)}\n")
    notice("'tweakio profile redo' brings it back")


def redo(ctx: typer.Context) -> None:
    """Do again what the last undo took back."""
    state: State = ctx.obj
    with state.manager("profile redo") as manager:
        change = manager.redo()
    emit(f"done again: {clean(change.summary)}\n")
    notice("'tweakio profile undo' takes it back")


def restore(
    ctx: typer.Context,
    *,
    profile_id: ProfileId,
    to: Annotated[
        str,
        typer.Option(
            metavar="REV",
            help="A commit id, its first digits, or HEAD~2.",
            show_default=False,
            autocompletion=complete_revisions,
        ),
    ],
) -> None:
    """Bring a profile back to what it was at a commit."""
    state: State = ctx.obj
    with state.manager("profile restore") as manager:
        profile = manager.restore(profile_id, to)
    emit(f"restored {profile.id} to {clean(to)}\n")
    notice("'tweakio profile undo' takes it back")
