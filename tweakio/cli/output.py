"""Standard output and standard error: results on the one, everything else on the other."""

from __future__ import annotations

import sys
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from tweakio.errors import StorageError, storage_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

__all__ = [
    "OutputClosedError",
    "around_lines",
    "clean",
    "counted",
    "emit",
    "is_terminal",
    "notice",
    "say",
]

_LONGEST = 500


class OutputClosedError(Exception):
    """Nobody reads standard output any more.

    Not a ``BrokenPipeError``, because Typer ends the program with 1 for that.
    """


def clean(text: str) -> str:
    """The text with whatever could move a terminal's cursor or split a line escaped."""
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable()
        else character.encode("unicode_escape", "backslashreplace").decode("ascii")
        for character in text
    )


def counted(number: int, noun: str, plural: str = "") -> str:
    """The number and the noun, which takes an s for every number but 1 unless a plural is given."""
    return f"{number} {noun}" if number == 1 else f"{number} {plural or f'{noun}s'}"


def emit(text: str) -> None:
    """Write a result to standard output, complete, or raise.

    Raises:
        OutputClosedError: the reader is gone.
        StorageError: it cannot be written, such as on a full disk.
    """
    stream = sys.stdout
    if stream is None:
        raise StorageError("cannot write the output: standard output is closed")
    encoding = stream.encoding or "utf-8"
    try:
        text.encode(encoding, "surrogateescape")
        errors = "surrogateescape"  # a path that is not valid text goes out as it is
    except UnicodeEncodeError:
        errors = "backslashreplace"
    try:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=errors)
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        raise OutputClosedError from None
    except OSError as error:
        raise storage_error(error, "write the output", ours=False) from error


def can_encode(text: str) -> bool:
    """Whether standard output's encoding has all of the text's characters."""
    try:
        text.encode((sys.stdout and sys.stdout.encoding) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


_around: Callable[[], AbstractContextManager[None]] = nullcontext


@contextmanager
def around_lines(make: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    """Have each line on standard error written inside a context manager.

    What is drawn at a terminal makes way for the line by it, and is drawn again below.

    Args:
        make: gives one for each line.
    """
    global _around
    before, _around = _around, make
    try:
        yield
    finally:
        _around = before


def say(text: str) -> None:
    """One line on standard error; a standard error that cannot be written is no error."""
    stream = sys.stderr
    if stream is None:
        return
    line = clean(text)
    if len(line) > _LONGEST:
        line = line[: _LONGEST - 3] + "..."
    try:
        with _around():
            stream.write(f"tweakio: {line}\n")
            stream.flush()
    except (OSError, ValueError):
        return


def notice(text: str) -> None:
    """Something a person should know and a program does not need."""
    say(text)


def is_terminal() -> bool:
    """Whether a person reads standard output."""
    return sys.stdout is not None and sys.stdout.isatty()
