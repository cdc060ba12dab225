"""From an exception to one line, a hint and an exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tweakio.cli import EXIT_INTERNAL, EXIT_INTERRUPTED, EXIT_PIPE
from tweakio.cli.output import OutputClosedError, say
from tweakio.errors import TweakioError, system_error

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["report"]

_PROGRAM = "tweakio"


def report(error: Exception, arguments: Sequence[str]) -> int:
    """Say on standard error what went wrong.

    Args:
        error: what reached the top.
        arguments: of the command line.

    Returns:
        The exit code.
    """
    if isinstance(error, (OutputClosedError, BrokenPipeError)):
        return EXIT_PIPE  # whoever read our output has enough of it
    if _wants_debug(arguments):
        _print_traceback(error)
    if not isinstance(error, TweakioError):
        # Not known to be about the repository, so the doctor is no advice.
        error = system_error(error, "finish the command") or error
    if isinstance(error, TweakioError):
        say(f"error: {error.message}")
        if error.hint:
            say(f"hint: {error.hint}")
        return error.exit_code
    return _report_typer(error)


def _wants_debug(arguments: Sequence[str]) -> bool:
    from tweakio.cli.context import current

    state = current()
    if state is not None:
        return state.debug
    return "--debug" in arguments  # the error is in the arguments themselves


def _print_traceback(error: Exception) -> None:
    import sys
    import traceback

    try:
        traceback.print_exception(error, file=sys.stderr)
    except OSError:
        return


def _report_typer(error: Exception) -> int:
    """Typer's errors; anything else is a mistake of ours."""
    import typer

    if isinstance(error, typer.Abort):
        return EXIT_INTERRUPTED
    # Typer's usage errors come from click, which it carries inside since 0.26; their
    # classes are reached through the public name, wherever they live.
    click_error: Any = typer.BadParameter.__mro__[2]
    if not isinstance(error, click_error):
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        say(f"error: internal error: {text}")
        say("hint: run it again with --debug before the command to see where")
        return EXIT_INTERNAL
    found: Any = error
    message = " ".join(str(found.format_message()).split())
    context = getattr(found, "ctx", None)
    path = str(context.command_path) if context is not None else _PROGRAM
    say(f"error: {message[:1].lower()}{message[1:].rstrip('.')}")
    say(f"hint: run '{path} -h'")
    return int(found.exit_code)
