"""What the global options say, and the manager that a command works with."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from tweakio.cli.output import say
from tweakio.errors import InvalidInputError

if TYPE_CHECKING:
    from tweakio.manager import ProfileManager

__all__ = ["State", "current", "resume", "silence", "start"]


class State:
    """The global options of one run.

    A plain class, because making a dataclass takes a millisecond of every command.

    Attributes:
        home: as it was given; None for the default.
        debug: tracebacks and everything in the log.
        verbose: more of the log; 2 for everything of tweakio.
    """

    __slots__ = ("debug", "home", "verbose")

    def __init__(self, home: str | None = None, *, debug: bool = False, verbose: int = 0) -> None:
        self.home = home
        self.debug = debug
        self.verbose = verbose

    def manager(self, command: str) -> ProfileManager:
        """The manager of the chosen home.

        Args:
            command: what the history says ran, such as ``profile create``.
        """
        from tweakio.manager import ProfileManager

        if self.home == "":
            raise InvalidInputError("the home directory is empty", hint="give --home a directory")
        try:
            return ProfileManager(self.home, command=command)
        except RuntimeError as error:  # "~name" of a user who does not exist
            raise InvalidInputError(
                f"the home directory cannot be found: {error}", hint="give --home a full path"
            ) from error


_current: State | None = None


def current() -> State | None:
    """The state of this run, once its global options have been read."""
    return _current


def start(home: str | None = None, *, debug: bool = False, verbose: int = 0) -> State:
    """Begin a run: set up the log and keep the global options."""
    state = State(home, debug=debug, verbose=verbose)
    resume(state)
    if not debug and not sys.warnoptions:
        import warnings

        warnings.simplefilter("ignore")  # they speak to programmers
    return state


def resume(state: State) -> None:
    """Make a state the current one (the tour runs commands inside a command)."""
    global _current
    _set_up_log(debug=state.debug, verbose=state.verbose)
    _current = state


def silence() -> None:
    """No log at all: while a shell completes a line, every byte lands in the user's prompt."""
    logging.disable(logging.CRITICAL)


def _set_up_log(*, debug: bool, verbose: int) -> None:
    level = logging.DEBUG if debug or verbose > 1 else logging.INFO if verbose else logging.WARNING
    for logger in (logging.getLogger(), logging.getLogger("tweakio")):
        for handler in logger.handlers[:]:
            if isinstance(handler, (_LineHandler, _Quiet)):
                logger.removeHandler(handler)
    ours = logging.getLogger("tweakio")
    ours.setLevel(level)
    if debug:
        logging.getLogger().setLevel(logging.DEBUG)
        logging.getLogger().addHandler(_LineHandler())
        return
    ours.addHandler(_LineHandler())
    # Without a handler of its own, Python would print other packages' warnings.
    logging.getLogger().addHandler(_Quiet())


class _Quiet(logging.NullHandler):
    """Ours, so that a second run in one process can take it away."""


class _LineHandler(logging.Handler):
    """A log record as one line on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write it."""
        try:
            text = record.getMessage()
            name = record.name.partition(".")[0]
            origin = "" if name == "tweakio" else f"{name}: "
            if record.exc_info and record.exc_info[1] is not None:
                text = f"{text}: {record.exc_info[1]}"
            say(f"{record.levelname.lower()}: {origin}{text}")
        except Exception:
            self.handleError(record)
