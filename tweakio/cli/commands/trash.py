"""The group ``tweakio profile trash``."""

from typing import TYPE_CHECKING, Annotated

import typer

from tweakio.cli.completion import complete_trash
from tweakio.cli.options import Json, TrashName, parse_age
from tweakio.cli.output import emit, is_terminal, notice
from tweakio.cli.tree import SETTINGS, group
from tweakio.errors import InvalidInputError

if TYPE_CHECKING:
    from tweakio.cli.context import State

__all__ = ["app", "list_", "purge", "restore"]

_HERE = "tweakio.cli.commands.trash"

app = typer.Typer(
    cls=group({"list": f"{_HERE}:list_", "restore": f"{_HERE}:restore", "purge": f"{_HERE}:purge"}),
    **SETTINGS,
)


@app.callback()
def trash() -> None:
    """What was deleted or reset, kept for 30 days."""


def list_(ctx: typer.Context, *, as_json: Json = False) -> None:
    """List what the trash keeps, newest first."""
    from tweakio.cli.render import json_text, plain_rows, plain_trash_row, trash_json

    state: State = ctx.obj
    with state.manager("profile trash list") as manager:
        entries = manager.trash()
    if as_json:
        emit(json_text([trash_json(entry) for entry in entries]))
    elif not is_terminal():
        emit(plain_rows(plain_trash_row(entry) for entry in entries))
    elif entries:
        from tweakio.cli.tables import trash_table

        emit(trash_table(entries))
    else:
        notice("the trash is empty")


def restore(ctx: typer.Context, *, entry: TrashName) -> None:
    """Bring back a deleted profile, or a session that was reset."""
    state: State = ctx.obj
    with state.manager("profile trash restore") as manager:
        profile = manager.restore_from_trash(entry)
    emit(f"restored {profile.id}\n")


def purge(
    ctx: typer.Context,
    *,
    entry: Annotated[
        str | None,
        typer.Argument(metavar="ENTRY", help="This one.", autocompletion=complete_trash),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    older_than: Annotated[
        str | None,
        typer.Option(metavar="AGE", help="Those older than 30d, 12h, 2w; 30 is 30 days."),
    ] = None,
) -> None:
    """Remove from the trash for good. Does not ask."""
    state: State = ctx.obj
    if (entry is not None) + all_ + (older_than is not None) != 1:
        raise InvalidInputError(
            "purge needs one of an entry, --all and --older-than",
            hint="run 'tweakio profile trash list' to see what there is",
        )
    age = None if older_than is None else parse_age(older_than)
    with state.manager("profile trash purge") as manager:
        removed = manager.purge_trash(entry, older_than=age)
    emit("".join(f"purged {item.name}\n" for item in removed))
    if not removed:
        notice("nothing to purge")
