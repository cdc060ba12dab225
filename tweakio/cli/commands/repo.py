"""The group ``tweakio repo``."""

from typing import TYPE_CHECKING, Annotated

import typer

from tweakio.cli.options import Json
from tweakio.cli.output import emit, notice
from tweakio.cli.progress import busy
from tweakio.cli.tree import SETTINGS, group
from tweakio.errors import InvalidInputError

if TYPE_CHECKING:
    from tweakio.cli.context import State

__all__ = ["app", "doctor", "gc", "migrate", "path"]

_HERE = "tweakio.cli.commands.repo"
_SYNC = "tweakio.cli.commands.sync"

app = typer.Typer(
    cls=group(
        {
            **{name: f"{_HERE}:{name}" for name in ("path", "doctor", "gc", "migrate")},
            **{name: f"{_SYNC}:{name}" for name in ("clone", "push", "pull", "sync")},
            "remote": f"{_SYNC}:remote_app",
            "lease": "tweakio.cli.commands.lease:app",
        }
    ),
    **SETTINGS,
)


@app.callback()
def repo() -> None:
    """The git repository that keeps the profiles."""


def path(ctx: typer.Context) -> None:
    """Print where the repository is, or would be."""
    state: State = ctx.obj
    with state.manager("repo path") as manager:
        emit(f"{manager.layout.profiles}\n")


def doctor(
    ctx: typer.Context,
    *,
    fix: Annotated[bool, typer.Option("--fix", help="Repair what can be repaired.")] = False,
    yes: Annotated[
        bool,
        typer.Option("--yes", help="Let --fix cut or rebuild a history that is lost in part."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Check the repository; exit code 14 if problems remain."""
    from tweakio.cli.checkup import agrees, joined, print_report

    if yes and not fix:
        raise InvalidInputError(
            "--yes belongs to --fix", hint="run 'tweakio repo doctor --fix --yes'"
        )
    state: State = ctx.obj
    with state.manager("repo doctor") as manager:
        with busy("reading the history") as progress:
            report = manager.doctor(fix=fix, cut=yes, progress=progress)
        if fix and agrees(report):
            with busy("reading the history") as progress:
                more = manager.doctor(fix=True, cut=True, progress=progress)
            report = joined(report, more)
    raise typer.Exit(print_report(report, as_json=as_json))


def gc(ctx: typer.Context) -> None:
    """Pack the history and empty the trash of old entries."""
    state: State = ctx.obj
    with state.manager("repo gc") as manager, busy("packing"):
        packed, removed = manager.gc()
    emit(f"packed {packed} objects, removed {removed} trash entries\n")


def migrate(ctx: typer.Context) -> None:
    """Take over the account of tweakio-sdk as 'default'."""
    state: State = ctx.obj
    with state.manager("repo migrate") as manager:
        profile = manager.migrate()
    if profile is None:
        notice("there is nothing to take over")
    else:
        emit(f"migrated {profile.id} ({profile.platform})\n")
