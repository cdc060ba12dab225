"""The command line: one place where an exception becomes a line and an exit code."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

__all__ = [
    "EXIT_INTERNAL",
    "EXIT_INTERRUPTED",
    "EXIT_PIPE",
    "EXIT_USAGE",
    "TerminatedError",
    "main",
]

EXIT_USAGE = 2
EXIT_INTERNAL = 70  # EX_SOFTWARE of sysexits.h
EXIT_INTERRUPTED = 130  # as a shell reports SIGINT
EXIT_PIPE = 141  # as a shell reports SIGPIPE


class TerminatedError(BaseException):
    """A signal that ends the program came, and what ran has ended in order.

    Not an ``Exception``: nothing but ``main`` has to do with it.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.number = number


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; those of the process by default.

    Returns:
        The exit code (docs/exit-codes.md).
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _open_standard_streams()
        _prepare_signals()
        code = _run(given)
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except SystemExit as error:  # Typer's completion, and its way to end at a closed pipe
        code = _code_of(error)
    except Exception as error:
        code = _report(error, given)
    except TerminatedError as error:
        _finish(0)
        _end_by(error.number)
        code = 128 + error.number
    if code == EXIT_INTERRUPTED:
        _say_interrupted()
    return _finish(code)


def _report(error: Exception, given: Sequence[str]) -> int:
    try:
        from tweakio.cli.boundary import report

        return report(error, given)
    except (OSError, ImportError, MemoryError) as obstacle:
        # Not even what says it can be imported, so it is not known what else went wrong.
        text = f"tweakio: error: cannot finish the command: {' '.join(str(obstacle).split())}\n"
        with contextlib.suppress(OSError):
            os.write(2, text.encode("utf-8", "backslashreplace"))
        return 17


def _run(given: list[str]) -> int:
    from tweakio.cli import lane

    plain = lane.parse(given)
    if plain is not None:
        return lane.run(plain)
    from tweakio.cli.app import run

    return run(given)


def _end_by(number: int) -> None:
    """End by a signal that was put off until all was closed, as if it had not been."""
    import signal

    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _code_of(error: SystemExit) -> int:
    if isinstance(error.__context__, BrokenPipeError):
        return EXIT_PIPE
    if error.code is None:
        return 0
    return error.code if isinstance(error.code, int) else 1


def _open_standard_streams() -> None:
    """Keep a file of ours from becoming "standard output" when a caller closed that."""
    if os.name != "posix":
        return
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            # What we start has them as well.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # noqa: FBT003 - no keywords


def _prepare_signals() -> None:
    from tweakio.children import prepare_signals

    prepare_signals()


def _say_interrupted() -> None:
    from tweakio.cli.output import say

    say("interrupted")


def _finish(code: int) -> int:
    """Leave nothing behind that the interpreter would complain about at its end.

    What it cannot flush then changes the exit code to 120.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            _turn_away(stream)
    return code


def _turn_away(stream: TextIO) -> None:
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
    except (OSError, ValueError):
        return
