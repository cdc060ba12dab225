"""The groups ``tweakio whatsapp``, ``telegram`` and so on: one for each platform."""

from typing import TYPE_CHECKING, Annotated

import typer

from tweakio.cli.completion import complete_profiles
from tweakio.cli.options import (
    Browser,
    Force,
    Headed,
    LoginTimeout,
    Phone,
    QrPath,
    parse_seconds,
)
from tweakio.cli.tree import SETTINGS, group

if TYPE_CHECKING:
    from tweakio.cli.context import State

__all__ = ["app", "login", "logout"]

app = typer.Typer(
    cls=group({"login": f"{__name__}:login", "logout": f"{__name__}:logout"}), **SETTINGS
)

_Profile = Annotated[
    str,
    typer.Option(
        "--profile",
        metavar="ID",
        help="Another profile than 'default'.",
        autocompletion=complete_profiles,
    ),
]


@app.callback()
def platform() -> None:
    """Log in and out; in the profile 'default' if none is named."""


def _platform_of(ctx: typer.Context) -> str:
    name = ctx.parent.info_name if ctx.parent is not None else None
    assert name is not None
    return name


def login(
    ctx: typer.Context,
    *,
    profile_id: _Profile = "default",
    phone: Phone = None,
    headed: Headed = False,
    qr_file: QrPath = None,
    timeout: LoginTimeout = "300",
    browser: Browser = None,
    force: Force = False,
) -> None:
    """Log in: scan the QR code, or type the code, with the phone."""
    from tweakio.cli import accounts

    state: State = ctx.obj
    name = _platform_of(ctx)
    seconds = parse_seconds(timeout)
    with state.manager(f"{name} login") as manager:
        accounts.log_in(
            manager,
            accounts.account(manager, profile_id, name),
            phone=phone,
            headed=headed,
            executable=browser,
            qr_file=qr_file,
            timeout=seconds,
            force=force,
        )


def logout(
    ctx: typer.Context,
    *,
    profile_id: _Profile = "default",
    timeout: Annotated[
        str, typer.Option("--timeout", metavar="SECONDS", help="How long to wait for the page.")
    ] = "60",
    browser: Browser = None,
    force: Force = False,
) -> None:
    """Log out at the service and here; undo brings the session back."""
    from tweakio.cli import accounts

    state: State = ctx.obj
    name = _platform_of(ctx)
    seconds = parse_seconds(timeout)
    with state.manager(f"{name} logout") as manager:
        manager.validator.validate_platform(name)
        profile = accounts.account(manager, profile_id, name, make=False)
        accounts.log_out(manager, profile, executable=browser, timeout=seconds, force=force)
