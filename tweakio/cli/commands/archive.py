"""``tweakio profile export`` and ``import``."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tweakio.cli.completion import complete_platforms, complete_profiles
from tweakio.cli.options import DryRun, Force, Json, Trust
from tweakio.cli.output import clean, emit, notice
from tweakio.cli.progress import WORTH_A_BAR, counted
from tweakio.errors import (
    HomeNotFoundError,
    InvalidInputError,
    ProfileNotFoundError,
    VaultError,
    command,
)

if TYPE_CHECKING:
    from tweakio.archive.importer import Existing, Imported, Incoming
    from tweakio.cli.context import State
    from tweakio.manager import ProfileManager

__all__ = ["export", "import_"]

_MANY = ("folder", "csv", "camouchat-home")
"""Sources of several profiles, with ids of their own."""

Passphrase = Annotated[
    bool, typer.Option("--passphrase", help="Ask for a passphrase; from a pipe it is a line.")
]


def export(
    ctx: typer.Context,
    *,
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="ID... FILE",
            help="Profiles that nobody uses, and a new file.",
            show_default=False,
            autocompletion=complete_profiles,
        ),
    ],
    with_session: Annotated[
        bool, typer.Option("--with-session", help="With browser data: whoever has it is logged in.")
    ] = False,
    recipients: Annotated[
        list[str] | None,
        typer.Option(
            "--encrypt-to", metavar="R", help="Seal it for an age or ssh public key; repeatable."
        ),
    ] = None,
    passphrase: Passphrase = False,
    as_json: Json = False,
) -> None:
    """Write profiles into a ZIP file, to be imported elsewhere."""
    state: State = ctx.obj
    if len(names) < 2:
        raise InvalidInputError(
            "name the profiles and the file", hint="tweakio profile export ID... FILE.zip"
        )
    *ids, path = names
    if passphrase and recipients:
        raise InvalidInputError("give --encrypt-to or --passphrase, not both")
    secret = _ask(twice=True) if passphrase else None
    with state.manager("profile export") as manager:
        archives = manager.archives
        _refuse_profile(manager, path)
        for profile_id in ids:
            manager.get_profile(profile_id)
        total = archives.content_size(ids) if with_session else 0
        with counted("exporting", total, worth=WORTH_A_BAR) as progress:
            done = archives.export(
                ids,
                path,
                with_session=with_session,
                recipients=recipients or (),
                passphrase=secret,
                progress=progress,
            )
    if as_json:
        from tweakio.cli.render import json_text

        value: dict[str, Any] = {
            "path": str(done.path),
            "profiles": [*done.profile_ids],
            "with_session": done.with_session,
            "sealed": done.sealed,
            "bytes": done.bytes,
            "size": done.size,
        }
        emit(json_text(value))
    else:
        emit("".join(f"exported {profile_id}\n" for profile_id in done.profile_ids))
    if not done.with_session:
        notice("it has settings only; --with-session takes the logins along")
    elif not done.sealed:
        notice("whoever has this file is logged in; keep it as you keep a password")


def _refuse_profile(manager: "ProfileManager", path: str) -> None:
    """Refuse a file that is called as a profile is: its name was forgotten."""
    try:
        manager.get_profile(path)
    except (InvalidInputError, ProfileNotFoundError):
        return
    raise InvalidInputError(
        f"{path} is a profile, and the last word names the file",
        hint=command("tweakio profile export ...", path, then="FILE.zip") + f"; or give ./{path}",
    )


def import_(
    ctx: typer.Context,
    *,
    path: Annotated[
        str | None, typer.Argument(metavar="FILE", help="Of 'profile export'.", show_default=False)
    ] = None,
    user_data: Annotated[
        str | None,
        typer.Option(
            "--from-user-data-dir",
            metavar="DIR",
            help="Copy a closed Chromium's or Firefox's user data; with --as and --platform.",
        ),
    ] = None,
    storage_state: Annotated[
        str | None,
        typer.Option(
            "--from-storage-state",
            metavar="FILE",
            help="Take a Playwright storage state; with --as and --platform.",
        ),
    ] = None,
    folder: Annotated[
        str | None,
        typer.Option(
            "--from-folder",
            metavar="DIR",
            help="Take all such directories and files in a folder; with --platform.",
        ),
    ] = None,
    table: Annotated[
        str | None,
        typer.Option(
            "--from-csv",
            metavar="FILE",
            help="Make a profile of each row of a table.",
        ),
    ] = None,
    sdk_home: Annotated[
        str | None,
        typer.Option(
            "--from-sdk-home", metavar="DIR", help="The account of tweakio-sdk in a person's home."
        ),
    ] = None,
    camouchat_home: Annotated[
        str | None,
        typer.Option(
            "--from-camouchat-home",
            metavar="DIR",
            help="The profiles of camouchat-browser in a person's home.",
        ),
    ] = None,
    platform: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Whose login it is; an exported file says it itself.",
            autocompletion=complete_platforms,
        ),
    ] = None,
    as_id: Annotated[
        str | None, typer.Option("--as", metavar="ID", help="Another id for its one profile.")
    ] = None,
    skip: Annotated[bool, typer.Option("--skip", help="Leave out ids that are taken.")] = False,
    rename: Annotated[
        bool, typer.Option("--rename", help="Give a profile whose id is taken a new one.")
    ] = False,
    identity: Annotated[
        str | None,
        typer.Option("--identity", metavar="KEYFILE", help="The age identity that opens it."),
    ] = None,
    passphrase: Passphrase = False,
    dry_run: DryRun = False,
    trusted: Trust = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Make profiles of an exported file or of foreign data."""
    state: State = ctx.obj
    if skip and rename:
        raise InvalidInputError("give --skip or --rename, not both")
    existing: Existing = "skip" if skip else "rename" if rename else "refuse"
    foreign: dict[str, str] = {
        name: value
        for name, value in {
            "user-data-dir": user_data,
            "storage-state": storage_state,
            "folder": folder,
            "csv": table,
            "sdk-home": sdk_home,
            "camouchat-home": camouchat_home,
        }.items()
        if value is not None
    }
    if len(foreign) + (path is not None) != 1:
        raise InvalidInputError(
            "name one thing to import",
            hint="a FILE of 'profile export', or one of the options --from-...",
        )
    if path is None:
        if identity is not None or passphrase:
            raise InvalidInputError("--identity and --passphrase are for exported files")
        (kind,) = foreign
        with state.manager("profile import") as manager:
            incoming = _foreign(kind, foreign[kind], as_id, platform, existing, force=force)
            renamed = as_id if kind in _MANY else None
            found = _act(
                manager, incoming, renamed, existing, kind, dry_run=dry_run, trusted=trusted
            )
        show(found, dry_run=dry_run, as_json=as_json)
        return
    if platform is not None:
        raise InvalidInputError("an exported file says the platforms itself")
    if force:
        raise InvalidInputError("an exported file has no lock of a browser: leave out --force")
    from tweakio.archive.archives import is_sealed, needs_passphrase

    secret = _ask(twice=False) if passphrase or needs_passphrase(path) else None
    with state.manager("profile import") as manager:
        archives = manager.archives
        identities = _identities(identity)
        if identity is None and secret is None and is_sealed(path):
            identities = _own_identities(manager)
        with archives.opened(path, identities=identities, passphrase=secret) as incoming:
            found = _act(manager, incoming, as_id, existing, "", dry_run=dry_run, trusted=trusted)
    show(found, dry_run=dry_run, as_json=as_json)


def _act(
    manager: "ProfileManager",
    incoming: "list[Incoming]",
    as_id: str | None,
    existing: "Existing",
    source: str,
    *,
    dry_run: bool,
    trusted: bool,
) -> "list[Imported]":
    total = sum(item.size for item in incoming)
    with counted("importing", total, worth=WORTH_A_BAR) as progress:
        if dry_run:
            return manager.archives.check(
                incoming, as_id=as_id, existing=existing, progress=progress
            )
        return manager.archives.bring_in(
            incoming,
            as_id=as_id,
            existing=existing,
            source=source,
            progress=progress,
            trusted=trusted,
        )


def _foreign(
    kind: str,
    value: str,
    as_id: str | None,
    platform: str | None,
    existing: "Existing",
    *,
    force: bool,
) -> "list[Incoming]":
    """What another program keeps, as profiles."""
    from tweakio import importing

    if force and kind not in ("user-data-dir", "folder"):
        raise InvalidInputError("--force is for --from-user-data-dir and --from-folder")
    if kind == "csv":
        return importing.from_csv(value, platform, existing=existing)
    if kind in ("sdk-home", "camouchat-home"):
        if platform is not None:
            raise InvalidInputError(f"--from-{kind} says the platform itself")
        if kind == "sdk-home":
            return importing.from_sdk_home(value, as_id or "default")
        return importing.from_camouchat_home(value, existing=existing)
    if kind == "folder":
        if platform is None:
            raise InvalidInputError(
                "--from-folder does not say whose logins they are",
                hint="give --platform NAME with --from-folder",
            )
        return importing.from_folder(value, platform, existing=existing, force=force)
    if as_id is None or platform is None:
        raise InvalidInputError(
            f"--from-{kind} does not say whose login it is",
            hint=f"give --as ID and --platform NAME with --from-{kind}",
        )
    if kind == "user-data-dir":
        return importing.from_user_data_dir(value, as_id, platform, force=force)
    return importing.from_storage_state(value, as_id, platform)


def show(found: "list[Imported]", *, dry_run: bool, as_json: bool) -> None:
    """Say what became of profiles that came in, from whatever source."""
    if as_json:
        from tweakio.cli.render import json_text

        emit(json_text([item._asdict() for item in found]))
    else:
        emit("".join(_line(item, dry_run=dry_run) for item in found))
    if dry_run:
        notice("nothing was changed")


def _line(item: "Imported", *, dry_run: bool) -> str:
    if item.action == "skipped":
        return f"{'would skip' if dry_run else 'skipped'} {item.source_id}: it exists\n"
    was = f" as {item.profile_id}" if item.profile_id != item.source_id else ""
    does = "would import" if dry_run else "imported"
    return f"{does} {item.source_id}{was} ({clean(item.platform)})\n"


def _own_identities(manager: "ProfileManager") -> list[str]:
    """This machine's, also before there is a home."""
    try:
        return manager.vault.identities()
    except HomeNotFoundError:
        from tweakio.vault.identity import find

        stored = find(manager.layout, [])
        if stored is None or stored.protected:
            raise VaultError(
                "the file is sealed, and this machine has no identity",
                hint="give one with --identity",
            ) from None
        return [stored.content.decode("utf-8", "replace")]


def _identities(path: str | None) -> list[str]:
    if path is None:
        return []
    from tweakio import durable

    try:
        return [durable.read_regular(path, 1 << 20).decode("utf-8", "surrogateescape")]
    except OSError as error:
        raise VaultError(
            f"the identity {path} cannot be read: {error.strerror}",
            hint="give the file that age-keygen made",
        ) from None


def _ask(*, twice: bool) -> str:
    """A passphrase, from the terminal without echo, else the next line of standard input."""
    import sys

    if sys.stdin is None or not sys.stdin.isatty():
        line = sys.stdin.readline() if sys.stdin is not None else ""
        if not line.strip("\r\n"):
            raise InvalidInputError("there is no passphrase on standard input", hint="give a line")
        return line.rstrip("\r\n")
    import getpass

    typed = getpass.getpass("passphrase: ", sys.stderr)
    if twice and getpass.getpass("once more: ", sys.stderr) != typed:
        raise InvalidInputError("the two are not the same", hint="run the command again")
    return typed
