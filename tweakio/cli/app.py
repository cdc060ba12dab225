"""The root of the command tree and its global options."""

from typing import Annotated, Any

import typer

from tweakio.cli.context import start
from tweakio.cli.tree import SETTINGS, group

__all__ = ["app", "run"]

_COMMANDS = "tweakio.cli.commands"
_OWN = {
    "profile": f"{_COMMANDS}.profile:app",
    "repo": f"{_COMMANDS}.repo:app",
    "vault": f"{_COMMANDS}.vault:app",
    "tour": f"{_COMMANDS}.tour:tour",
}


def _platforms() -> dict[str, str]:
    from tweakio.platforms import platform_names

    return {name: f"{_COMMANDS}.platform:app" for name in platform_names() if name not in _OWN}


app = typer.Typer(
    cls=group(_OWN, _platforms), **{**SETTINGS, "add_completion": True}, invoke_without_command=True
)


def run(arguments: list[str]) -> int:
    """Run a command line.

    Returns:
        The exit code; everything that went wrong is raised.
    """
    code = app(args=arguments, prog_name="tweakio", standalone_mode=False)
    # Commands return None; an int is typer.Exit's, and Ctrl-C's from Typer 0.26 on.
    return code if isinstance(code, int) else 0


def _print_version(value: bool) -> None:  # noqa: FBT001 - Typer's callback
    if value:
        from tweakio import __version__
        from tweakio.cli.output import emit

        emit(f"tweakio {__version__}\n")
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    *,
    home: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="Where everything is kept; else $TWEAKIO_HOME, else the default."
        ),
    ] = None,
    debug: Annotated[
        bool, typer.Option("--debug", help="Tracebacks, and a log of everything.")
    ] = False,
    verbose: Annotated[
        int, typer.Option("-v", "--verbose", count=True, metavar="", help="More log; -vv for all.")
    ] = 0,
    version: Annotated[  # noqa: ARG001 - its callback does it
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version and exit."
        ),
    ] = False,
) -> Any:
    """Many messaging accounts as isolated browser profiles, with undo."""
    ctx.obj = start(home, debug=debug, verbose=verbose)
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
