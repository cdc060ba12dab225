"""The group ``tweakio vault``."""

from typing import TYPE_CHECKING, Annotated

import typer

from tweakio.changes import name_some
from tweakio.cli.completion import complete_profiles, complete_recipients
from tweakio.cli.options import Json
from tweakio.cli.output import counted, emit, notice
from tweakio.cli.progress import busy
from tweakio.cli.tree import SETTINGS, group
from tweakio.errors import InvalidInputError, VaultError, command, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tweakio.cli.context import State
    from tweakio.vault.vault import RecipientsChange

__all__ = [
    *("add", "app", "init", "list_", "recipients", "remove", "reseal", "restore", "seal"),
    "status",
]

_HERE = "tweakio.cli.commands.vault"
_MOST_SHOWN = 20

app = typer.Typer(
    cls=group(
        {
            "init": f"{_HERE}:init",
            "status": f"{_HERE}:status",
            "recipients": f"{_HERE}:recipients",
            "reseal": f"{_HERE}:reseal",
            "restore": f"{_HERE}:restore",
            "seal": f"{_HERE}:seal",
        }
    ),
    **SETTINGS,
)

recipients = typer.Typer(
    cls=group({"add": f"{_HERE}:add", "remove": f"{_HERE}:remove", "list": f"{_HERE}:list_"}),
    **SETTINGS,
)


@app.callback()
def vault() -> None:
    """Sessions in history, sealed in the age format."""


@recipients.callback()
def _recipients() -> None:
    """Who can open what is sealed."""


def init(
    ctx: typer.Context,
    *,
    passphrase: Annotated[
        bool, typer.Option("--passphrase", help="Protect the identity with a passphrase.")
    ] = False,
    in_file: Annotated[
        bool, typer.Option("--file", help="Keep the identity in a file, not in the key ring.")
    ] = False,
) -> None:
    """Make an identity, and a vault with it as recipient."""
    from tweakio.cli.passphrase import ask_new, unlock

    state: State = ctx.obj
    with state.manager("vault init") as manager:
        if passphrase:
            manager.vault.refuse_another_identity(in_file=in_file)
        else:
            unlock(manager.vault)
        chosen = ask_new() if passphrase else None
        with busy("sealing"):
            change = manager.vault.init(passphrase=chosen, in_file=in_file)
        place = manager.vault.status().identity
    _report(change, f"the identity is in {place}")
    notice("keep a copy of the identity: without it what is sealed cannot be opened")
    for profile_id in change.left:
        notice(f"the session of {profile_id} is sealed for others")
    if change.left:
        notice("have a recipient run 'tweakio vault recipients add' with your recipient")


def _report(change: "RecipientsChange", first: str) -> None:
    first = f"{first}\n" if first else ""
    recipients = counted(len(change.recipients), "recipient")
    emit(f"{first}{recipients}, sealed {counted(len(change.sealed), 'session')}\n")
    _say_unconfirmed(change.unconfirmed)


def _say_unconfirmed(recipients: "Sequence[str]") -> None:
    if recipients:
        from tweakio.vault.confirmed import unconfirmed_hint

        notice(f"not confirmed here, so that nothing is sealed for them: {len(recipients)}")
        notice(unconfirmed_hint(recipients))


def status(ctx: typer.Context, *, as_json: Json = False) -> None:
    """Show the vault, this machine's identity and what is sealed."""
    state: State = ctx.obj
    with state.manager("vault status") as manager:
        found = manager.vault.status()
        examined = manager.vault.examine()
    if as_json:
        from tweakio.cli.render import json_text

        problems = [{"profile_id": name, "problem": text} for name, text in examined.problems]
        emit(
            json_text(
                {**found._asdict(), "problems": problems, "not_bound": list(examined.unbound)}
            )
        )
        return
    yes = {True: "yes", False: "no", None: "unknown"}
    for name, value in (
        ("vault", yes[found.exists]),
        ("identity", found.identity or "none"),
        ("passphrase", yes[found.protected]),
        ("is a recipient", yes[found.is_recipient] if found.identity else "no"),
        ("recipients", str(len(found.recipients))),
        ("not confirmed here", str(len(found.unconfirmed))),
        ("misplaced", str(len(examined.problems))),
        ("of the old form", str(len(examined.unbound))),
        ("sealed sessions", str(len(found.sealed))),
        ("not restored here", str(len(found.missing))),
    ):
        emit(f"{name}\t{value}\n")
    for _, problem in examined.problems[:_MOST_SHOWN]:
        notice(problem)
    if len(examined.problems) > _MOST_SHOWN:
        notice(f"and {len(examined.problems) - _MOST_SHOWN} more; --json has all of them")
    if examined.unbound:
        notice(
            f"does not say whose it is: what is encrypted of {name_some(examined.unbound)};"
            " run 'tweakio vault reseal'"
        )
    _say_unconfirmed(found.unconfirmed)


def list_(ctx: typer.Context, *, as_json: Json = False) -> None:
    """List who can open what is sealed."""
    state: State = ctx.obj
    with state.manager("vault recipients list") as manager:
        found = manager.vault.recipients()
        unconfirmed = manager.vault.status().unconfirmed
    if as_json:
        from tweakio.cli.render import json_text

        emit(json_text(found))
        return
    for recipient in found:
        emit(f"{recipient}\n")
    _say_unconfirmed(unconfirmed)


def add(
    ctx: typer.Context,
    given: Annotated[list[str], typer.Argument(metavar="RECIPIENT...", show_default=False)],
) -> None:
    """Seal everything for others as well, by their age or ssh key."""
    from tweakio.cli.passphrase import unlock

    state: State = ctx.obj
    with state.manager("vault recipients add") as manager:
        unlock(manager.vault)
        with busy("sealing"):
            change = manager.vault.add_recipients(given)
    _report(change, f"added {len(given)}")
    for profile_id in change.left:
        notice(f"what {profile_id} has sealed cannot be opened here and stays as it is")


def remove(
    ctx: typer.Context,
    given: Annotated[
        str,
        typer.Argument(metavar="RECIPIENT", show_default=False, autocompletion=complete_recipients),
    ],
) -> None:
    """Seal nothing more for somebody; says what has to be rotated."""
    from tweakio.cli.passphrase import unlock

    state: State = ctx.obj
    with state.manager("vault recipients remove") as manager:
        unlock(manager.vault)
        with busy("sealing"):
            change = manager.vault.remove_recipient(given)
        platforms = {profile.id: profile.platform for profile in manager.list_profiles()}
    _report(change, "removed 1")
    notice("history still holds what was sealed for it, and it can go on opening that")
    if change.sealed:
        notice("only new logins make that worthless; to rotate, for each profile:")
    for profile_id in change.sealed:
        platform = platforms.get(profile_id) or "custom"
        notice("  " + command(command("tweakio", platform, then="logout --profile"), profile_id))
        notice("  " + command(command("tweakio", platform, then="login --profile"), profile_id))
    if change.secrets:
        notice("and these secrets, to be replaced where they came from and sealed anew:")
    for profile_id, path in change.secrets:
        notice(f"  {profile_id}: {path}")
        option = _option_of(path)
        if option:
            sealed = f'{option}"$(tweakio vault seal)"'
            notice("    " + command("tweakio profile set", profile_id, then=sealed))


def _option_of(path: str) -> str:
    """How a setting is given on the command line; empty for what stands deeper."""
    if path == "browser.proxy_password":
        return "--proxy-password "
    field, _, key = path.partition(".")
    simple = field == "platform_config" and key.replace("_", "").replace("-", "").isalnum()
    return f"--config {key}=" if simple else ""


def reseal(ctx: typer.Context) -> None:
    """Seal everything anew for the recipients confirmed here."""
    from tweakio.cli.passphrase import unlock

    state: State = ctx.obj
    with state.manager("vault reseal") as manager:
        unlock(manager.vault)
        with busy("sealing"):
            change = manager.vault.reseal()
    _report(change, "")
    for profile_id in change.left:
        notice(f"what {profile_id} has sealed cannot be opened here and stays as it is")


def restore(
    ctx: typer.Context,
    *,
    profile_ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ID]...",
            help="Profiles to restore; all by default.",
            show_default=False,
            autocompletion=complete_profiles,
        ),
    ] = None,
    older: Annotated[
        bool,
        typer.Option(
            "--older",
            help="Accept sessions older than seen here, or dated in the future; needs an ID.",
        ),
    ] = False,
) -> None:
    """Decrypt the sessions of profiles that have none here."""
    from tweakio.cli.passphrase import ask

    if older and not profile_ids:
        raise InvalidInputError("--older needs the ID of a profile", hint="name the profile")
    state: State = ctx.obj
    failed = None
    with state.manager("vault restore") as manager:
        manager.vault.ask_passphrase = ask
        try:
            done, left = manager.vault.restore_sessions(profile_ids or (), older=older)
        except VaultError as error:
            if "done" not in error.details:
                raise
            failed = error
            done, left = error.details["done"], error.details["left"]  # type: ignore[assignment]
    for profile_id in done:
        emit(f"restored {profile_id}\n")
    for profile_id in left:
        notice(f"the session of {profile_id} is sealed for others, or the profile is in use")
    if failed is not None:
        raise failed
    if not done and not left:
        notice("no session is missing")


def seal(
    ctx: typer.Context,
    *,
    profile_id: Annotated[
        str,
        typer.Argument(
            metavar="[ID",
            help="Profile whose settings get the secret.",
            show_default=False,
            autocompletion=complete_profiles,
        ),
    ] = "",
    key: Annotated[
        str,
        typer.Argument(
            metavar="KEY]",
            help="Setting: browser.proxy_password or platform_config.NAME.",
            show_default=False,
        ),
    ] = "",
) -> None:
    """Encrypt a one-line secret for one setting of a profile."""
    from tweakio.cli.passphrase import ask_secret

    state: State = ctx.obj
    if bool(profile_id) != bool(key):
        raise InvalidInputError(
            "give both a profile and a setting, or neither",
            hint=run("tweakio vault seal", profile_id, "browser.proxy_password"),
        )
    with state.manager("vault seal") as manager:
        if profile_id:
            manager.get_profile(profile_id)
        emit(f"{manager.vault.seal_secret(ask_secret('secret'), profile_id, key)}\n")
