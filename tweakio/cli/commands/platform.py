"""The groups ``tweakio whatsapp``, ``telegram`` and so on: one for each platform."""

from typing import TYPE_CHECKING

import typer

from tweakio.cli.output import notice
from tweakio.cli.tree import SETTINGS, group
from tweakio.errors import InvalidInputError, MissingExtraError

if TYPE_CHECKING:
    from tweakio.cli.context import State

__all__ = ["app", "login"]

app = typer.Typer(cls=group({"login": f"{__name__}:login"}), **SETTINGS)


@app.callback()
def platform() -> None:
    """This platform's account in the profile 'default'."""


def login(ctx: typer.Context) -> None:
    """Log in with the profile 'default'."""
    state: State = ctx.obj
    name = ctx.parent.info_name if ctx.parent is not None else None
    assert name is not None
    with state.manager(f"{name} login") as manager:
        profile = manager.ensure_default(name)
    if profile.platform and profile.platform != name:
        raise InvalidInputError(
            f"the profile 'default' is of the platform {profile.platform}, not {name}",
            hint=f"make one for it: tweakio profile create <id> --platform {name}",
        )
    notice(f"profile 'default' is ready: {profile.path}")
    raise MissingExtraError(
        "logging in needs a browser, which comes with tweakio[browser]",
        hint="this release has no browser yet; the profile keeps until there is one",
    )
