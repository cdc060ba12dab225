"""The group ``tweakio profile snapshot``."""

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from tweakio.cli.completion import complete_snapshots
from tweakio.cli.options import DryRun, Json, ProfileId
from tweakio.cli.output import counted as how_many
from tweakio.cli.output import emit, is_terminal, notice
from tweakio.cli.progress import WORTH_A_BAR, busy, counted
from tweakio.cli.tree import SETTINGS, group
from tweakio.errors import InvalidInputError, SnapshotError, VaultError

if TYPE_CHECKING:
    from tweakio.cli.context import State
    from tweakio.manager import ProfileManager

__all__ = ["app", "create", "list_", "prune", "restore", "store", "verify"]

_HERE = "tweakio.cli.commands.snapshot"
_NAMES = {
    "create": "create",
    "list": "list_",
    "restore": "restore",
    "prune": "prune",
    "verify": "verify",
    "store": "store",
}

Name = Annotated[
    str | None,
    typer.Argument(
        metavar="SNAPSHOT",
        help="As 'snapshot list' names it, or the beginning of it.",
        autocompletion=complete_snapshots,
    ),
]

app = typer.Typer(
    cls=group({name: f"{_HERE}:{function}" for name, function in _NAMES.items()}), **SETTINGS
)


@app.callback()
def snapshot() -> None:
    """Copies of a stopped profile's browser data."""


def create(
    ctx: typer.Context,
    *,
    profile_id: ProfileId,
    no_encryption: Annotated[
        bool, typer.Option("--no-encryption", help="Do not seal it, whatever store it goes to.")
    ] = False,
) -> None:
    """Copy session and browser data of a profile that is not in use."""
    state: State = ctx.obj
    with state.manager("profile snapshot create") as manager:
        manager.get_profile(profile_id)
        total = manager.archives.content_size([profile_id])
        with counted("packing", total, worth=WORTH_A_BAR) as progress:
            made = manager.snapshots.create(
                profile_id, encrypt=not no_encryption, progress=progress
            )
        elsewhere = bool(manager.snapshots.store)
    if made.is_new:
        if elsewhere and not made.snapshot.sealed:
            notice("the snapshot is not sealed: who can read it can use the login")
        emit(f"created {made.snapshot.name}\n")
    else:
        emit(f"unchanged since {made.snapshot.name}\n")


def list_(ctx: typer.Context, *, profile_id: ProfileId, as_json: Json = False) -> None:
    """List the snapshots of a profile, newest first."""
    from tweakio.cli.render import json_text, plain_rows, plain_snapshot_row, snapshot_json

    state: State = ctx.obj
    with state.manager("profile snapshot list") as manager:
        found = manager.snapshots.list(profile_id)
        if not found:
            manager.get_profile(profile_id)  # of one that was deleted there may be some
    if as_json:
        emit(json_text([snapshot_json(item) for item in found]))
    elif not is_terminal():
        emit(plain_rows(plain_snapshot_row(item) for item in found))
    elif found:
        from tweakio.cli.tables import snapshot_table

        emit(snapshot_table(found))
    else:
        notice(f"there is no snapshot of '{profile_id}'")


def restore(
    ctx: typer.Context,
    *,
    profile_id: ProfileId,
    name: Name = None,
    other: Annotated[
        bool,
        typer.Option(
            "--other-profile", help="Also if it was made of another profile of this name."
        ),
    ] = False,
    unbound: Annotated[
        bool,
        typer.Option(
            "--unbound", help="Accept an encrypted snapshot that does not say whose it is."
        ),
    ] = False,
) -> None:
    """Bring session and browser data back to a snapshot."""
    state: State = ctx.obj
    with state.manager("profile snapshot restore") as manager:
        _unlock(manager, profile_id)
        with busy("unpacking"):
            found = manager.snapshots.restore(profile_id, name, other=other, unbound=unbound)
    emit(f"restored {profile_id} from {found.name}\n")


def _unlock(manager: "ProfileManager", profile_id: str) -> None:
    """Ask for the passphrase of the identity, if it is needed, before something is drawn."""
    from tweakio.cli.passphrase import ask

    sealed = any(item.sealed for item in manager.snapshots.list(profile_id))
    if sealed and manager.vault.status().protected:
        manager.vault.ask_passphrase = ask
        manager.vault.identities()


def prune(
    ctx: typer.Context,
    *,
    profile_id: ProfileId,
    keep_last: Annotated[
        int, typer.Option("--keep-last", metavar="N", help="Keep the newest N.")
    ] = 0,
    keep_daily: Annotated[
        int, typer.Option("--keep-daily", metavar="N", help="Keep the last of each of N days.")
    ] = 0,
    keep_weekly: Annotated[
        int, typer.Option("--keep-weekly", metavar="N", help="Keep the last of each of N weeks.")
    ] = 0,
    keep_monthly: Annotated[
        int, typer.Option("--keep-monthly", metavar="N", help="Keep the last of each of N months.")
    ] = 0,
    all_: Annotated[
        bool,
        typer.Option("--all", help="Remove all, from the repository's store and the one set."),
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Remove the snapshots that no rule keeps, for good. Does not ask."""
    from tweakio.snapshots.retention import Keep

    state: State = ctx.obj
    keep = Keep(keep_last, keep_daily, keep_weekly, keep_monthly)
    if all_ and any(keep):
        raise InvalidInputError("--all keeps no snapshot", hint="leave out --all or the rules")
    if all_:
        _purge(state, profile_id, dry_run=dry_run)
        return
    with state.manager("profile snapshot prune") as manager:
        removed = manager.snapshots.prune(profile_id, keep, dry_run=dry_run)
    verb = "would prune" if dry_run else "pruned"
    emit("".join(f"{verb} {item.name}\n" for item in removed))
    if not removed:
        notice("nothing to prune")


def _purge(state: "State", profile_id: str, *, dry_run: bool) -> None:
    with state.manager("profile snapshot prune") as manager:
        if dry_run:
            number = manager.snapshots.left(profile_id).snapshots
        else:
            number = manager.snapshots.purge(profile_id)
    verb = "would prune" if dry_run else "pruned"
    emit(f"{verb} {how_many(number, 'snapshot')} of {profile_id}\n" if number else "")
    if not number:
        notice("nothing to prune")


def verify(
    ctx: typer.Context, *, profile_id: ProfileId, name: Name = None, as_json: Json = False
) -> None:
    """Read snapshots as a whole and compare every hash."""
    from tweakio.cli.render import json_text, plain_rows, verified_json, verified_row

    state: State = ctx.obj
    with state.manager("profile snapshot verify") as manager:
        with suppress(VaultError):  # what is stored can be verified all the same
            _unlock(manager, profile_id)
        with busy("reading") as progress:
            found = manager.snapshots.verify(profile_id, name, progress=progress)
        if not found:
            # A deleted profile's can be verified; a mistyped id must not pass in a script.
            manager.get_profile(profile_id)
    if as_json:
        emit(json_text([verified_json(item) for item in found]))
    else:
        emit(plain_rows(verified_row(item) for item in found))
        if not found:
            notice(f"there is no snapshot of '{profile_id}'")
    if any(item.problem for item in found):
        raise typer.Exit(SnapshotError.exit_code)


def store(
    ctx: typer.Context,
    *,
    url: Annotated[
        str | None,
        typer.Argument(metavar="URL", help="A directory, a URL of fsspec's kind, or env:NAME."),
    ] = None,
    reset: Annotated[
        bool, typer.Option("--reset", help="Use the repository's own directory again.")
    ] = False,
) -> None:
    """Set where snapshots are kept, or print it."""
    state: State = ctx.obj
    if url is not None and reset:
        raise InvalidInputError("store takes a URL or --reset, not both", hint="leave one out")
    if url == "":
        raise InvalidInputError("the URL is empty", hint="give --reset for the repository's own")
    with state.manager("profile snapshot store") as manager:
        if url is not None or reset:
            manager.snapshots.set_store(url or "")
        emit(f"{manager.snapshots.store or manager.layout.snapshots}\n")
