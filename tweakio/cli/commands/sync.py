"""``tweakio repo clone``, ``remote``, ``push``, ``pull`` and ``sync``."""

import json
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer

from tweakio.cli.completion import complete_remotes
from tweakio.cli.options import Json, Trust
from tweakio.cli.output import clean, counted, emit, notice
from tweakio.cli.progress import announce
from tweakio.cli.tree import SETTINGS, group
from tweakio.errors import InvalidInputError, MergeConflictError
from tweakio.waiting import limit

if TYPE_CHECKING:
    from collections.abc import Callable

    from tweakio.cli.context import State
    from tweakio.manager import ProfileManager
    from tweakio.sync.merging import Conflict
    from tweakio.sync.remotes import Pulled, Pushed

__all__ = ["clone", "pull", "push", "remote_app", "sync"]

Url = Annotated[str, typer.Argument(metavar="URL", show_default=False)]
Name = Annotated[
    str | None,
    typer.Argument(metavar="REMOTE", show_default=False, autocompletion=complete_remotes),
]
Ours = Annotated[bool, typer.Option("--ours", help="In a conflict, what is here counts.")]
Theirs = Annotated[bool, typer.Option("--theirs", help="In a conflict, what is there counts.")]
Edit = Annotated[bool, typer.Option("--edit", help="Settle conflicts in an editor.")]

_HERE = "tweakio.cli.commands.sync"
_TRUSTED = "\ttrusted"
_Done = TypeVar("_Done")

remote_app = typer.Typer(
    cls=group({name: f"{_HERE}:{name}_remote" for name in ("add", "list", "remove")}),
    **SETTINGS,
)


@remote_app.callback()
def remote() -> None:
    """The other places where the repository is kept."""


def add_remote(
    ctx: typer.Context,
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", show_default=False)],
    url: Url,
    trusted: Annotated[
        bool,
        typer.Option("--trust", help="Only you push there: pulls from it need no confirmation."),
    ] = False,
) -> None:
    """Name another place; it is not contacted."""
    state: State = ctx.obj
    with state.manager("repo remote add") as manager:
        added = manager.remotes.add(name, url, trusted=trusted)
    emit(f"added {added.name}\t{clean(added.url)}\n")


def list_remotes(ctx: typer.Context, *, as_json: Json = False) -> None:
    """The remotes and their addresses."""
    state: State = ctx.obj
    with state.manager("repo remote list") as manager:
        found = manager.remotes.list()
    if as_json:
        emit(json.dumps([item._asdict() for item in found], indent=2) + "\n")
        return
    lines = (
        f"{clean(item.name)}\t{clean(item.url)}{_TRUSTED if item.trusted else ''}\n"
        for item in found
    )
    emit("".join(lines))


list_remote = list_remotes


def remove_remote(
    ctx: typer.Context,
    *,
    name: Annotated[
        str, typer.Argument(metavar="NAME", show_default=False, autocompletion=complete_remotes)
    ],
) -> None:
    """Forget a remote; what is there stays there."""
    state: State = ctx.obj
    with state.manager("repo remote remove") as manager:
        manager.remotes.remove(name)
    emit(f"removed {clean(name)}\n")


def clone(ctx: typer.Context, *, url: Url, trusted: Trust = False) -> None:
    """Make this home's repository from a remote."""
    from tweakio.sync import clone_repository

    state: State = ctx.obj
    if state.home == "":
        raise InvalidInputError("the home directory is empty", hint="give --home a directory")
    from tweakio.sync.urls import check_url, shown_url

    announce(f"cloning {clean(shown_url(check_url(url)))} (up to {limit():.0f} s)")
    made = clone_repository(url, state.home, command="repo clone", trusted=trusted)
    emit(f"cloned {counted(made.profiles, 'profile')} from {clean(made.url)} to {made.home}\n")
    with state.manager("repo clone") as manager:
        if not manager.vault.recipients():
            notice("logins stay where they were made: there is no vault")
        else:
            found = manager.vault.status()
            if found.missing:
                notice(f"{len(found.missing)} sessions stay sealed; see 'tweakio vault status'")
            notice(f"new logins will be sealed for its {len(found.recipients)} recipients;")
            notice("see 'tweakio vault recipients list'")
    notice("nothing is active here")


def push(ctx: typer.Context, *, remote_name: Name = None) -> None:
    """Send the history to a remote."""
    state: State = ctx.obj
    with state.manager("repo push") as manager:
        _announce("pushing to", manager, remote_name)
        pushed = manager.remotes.push(remote_name)
    _say_pushed(pushed)


def pull(
    ctx: typer.Context,
    *,
    remote_name: Name = None,
    ours: Ours = False,
    theirs: Theirs = False,
    edit: Edit = False,
    trusted: Trust = False,
) -> None:
    """Fetch a remote's profiles and merge them."""
    state: State = ctx.obj
    chosen = _one_of(ours=ours, theirs=theirs, edit=edit)
    with state.manager("repo pull") as manager:
        _announce("pulling from", manager, remote_name)
        run = partial(manager.remotes.pull, remote_name, trusted=trusted)
        pulled = _settled(chosen, run, manager)
    _say_pulled(pulled)


def sync(
    ctx: typer.Context,
    *,
    remote_name: Name = None,
    ours: Ours = False,
    theirs: Theirs = False,
    edit: Edit = False,
    trusted: Trust = False,
) -> None:
    """Pull, then push."""
    state: State = ctx.obj
    chosen = _one_of(ours=ours, theirs=theirs, edit=edit)
    with state.manager("repo sync") as manager:
        _announce("syncing with", manager, remote_name)
        run = partial(manager.remotes.sync, remote_name, trusted=trusted)
        done = _settled(chosen, run, manager)
    _say_pulled(done.pulled)
    _say_pushed(done.pushed)


def _one_of(*, ours: bool, theirs: bool, edit: bool) -> "Literal['ours', 'theirs', 'edit'] | None":
    if ours + theirs + edit > 1:
        raise InvalidInputError("--ours, --theirs and --edit exclude each other", hint="give one")
    return "ours" if ours else "theirs" if theirs else "edit" if edit else None


def _unlocked(manager: "ProfileManager", error: MergeConflictError) -> bool:
    """Have the identity unlocked if a conflict is over what is sealed.

    Two sides that sealed the same anew are in no conflict, which only who opens both can tell.
    """
    import sys

    conflicts: list[Conflict] = list(error.details["conflicts"])  # type: ignore[call-overload]
    fields = [field for conflict in conflicts for field in conflict.fields]
    if not any(field.startswith(("session", "platform_config", "browser")) for field in fields):
        return False
    if sys.stdin is None or not sys.stdin.isatty() or manager.vault.is_open():
        return False
    from tweakio.cli.passphrase import unlock

    unlock(manager.vault)
    return True


def _settled(
    chosen: "Literal['ours', 'theirs', 'edit'] | None",
    run: "Callable[..., _Done]",
    manager: "ProfileManager",
) -> "_Done":
    """Merge as was chosen: if in an editor, what is in conflict is asked and it runs again."""
    try:
        return run(resolve=None if chosen == "edit" else chosen)
    except MergeConflictError as error:
        if _unlocked(manager, error):
            return _settled(chosen, run, manager)
        if chosen != "edit":
            raise
        from tweakio.sync.editing import ask

        resolution = ask(error)
    return run(resolve=resolution)


def _announce(doing: str, manager: "ProfileManager", name: str | None) -> None:
    found = manager.remotes.find(name)
    announce(f"{doing} {clean(found.name)}, {clean(found.url)} (up to {limit():.0f} s)")


def _say_pulled(pulled: "Pulled") -> None:
    if pulled.commit is None:
        emit(f"nothing new in {clean(pulled.remote)}\n")
        return
    for what in ("changed", "created", "deleted"):
        for name in getattr(pulled, what):
            emit(f"{what} {name}\n")
    notice(f"merged from {clean(pulled.remote)}; 'tweakio profile undo' takes it back")


def _say_pushed(pushed: "Pushed") -> None:
    if pushed.commit is None:
        emit(f"{clean(pushed.remote)} has everything\n")
    else:
        emit(f"pushed {pushed.commit[:12]} to {clean(pushed.remote)}\n")
