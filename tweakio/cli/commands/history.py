"""``tweakio profile history``, ``show`` and ``diff``."""

from typing import TYPE_CHECKING, Annotated

import typer

from tweakio.cli.completion import complete_profiles, complete_revisions
from tweakio.cli.options import Json, ProfileId, Revision, parse_count
from tweakio.cli.output import emit, is_terminal, notice
from tweakio.cli.render import (
    change_json,
    diff_json,
    diff_lines,
    json_text,
    plain_change_row,
    plain_rows,
    show_lines,
)
from tweakio.errors import ProfileNotFoundError
from tweakio.models import ProfileDiff, format_time

if TYPE_CHECKING:
    from tweakio.cli.context import State

__all__ = ["diff", "history", "show"]


def history(
    ctx: typer.Context,
    *,
    profile_id: Annotated[
        str | None,
        typer.Argument(metavar="ID", help="Only this profile's.", autocompletion=complete_profiles),
    ] = None,
    number: Annotated[
        int | None, typer.Option("-n", metavar="N", help="At most so many, the newest.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show who changed what and when, newest first."""
    state: State = ctx.obj
    limit = parse_count(number)
    with state.manager("profile history") as manager:
        changes = manager.history(profile_id, limit)
    if profile_id is not None and not changes:
        raise ProfileNotFoundError(
            f"no profile '{profile_id}' in the history", hint="run 'tweakio profile history'"
        )
    if as_json:
        emit(json_text([change_json(change) for change in changes]))
    elif not changes:
        notice("no history yet")
    elif is_terminal():
        from tweakio.cli.tables import change_table

        emit(change_table(changes))
    else:
        emit(plain_rows(plain_change_row(change) for change in changes))


def show(ctx: typer.Context, *, revision: Revision, as_json: Json = False) -> None:
    """Show what one commit did to which fields."""
    state: State = ctx.obj
    with state.manager("profile show") as manager:
        change, differences = manager.show(revision)
    if as_json:
        emit(json_text({**change_json(change), "changes": [diff_json(d) for d in differences]}))
        return
    if is_terminal():
        from tweakio.cli.tables import local_time as when
    else:
        when = format_time
    emit("".join(f"{line}\n" for line in show_lines(change, differences, when)))


def diff(
    ctx: typer.Context,
    *,
    profile_id: ProfileId,
    revision: Annotated[
        str | None,
        typer.Argument(
            metavar="REV",
            help="Else what is not committed yet is shown.",
            autocompletion=complete_revisions,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show how a profile differs from a commit or its files."""
    state: State = ctx.obj
    with state.manager("profile diff") as manager:
        difference = manager.diff(profile_id, revision)
    if as_json:
        nothing = {"profile_id": profile_id, "kind": "unchanged", "fields": []}
        emit(json_text(nothing if difference is None else diff_json(difference)))
    elif difference is None:
        notice(f"profile '{profile_id}' does not differ")
    else:
        _print(difference)


def _print(difference: ProfileDiff) -> None:
    emit("".join(f"{line}\n" for line in diff_lines(difference)))
