"""Lines at a terminal that are drawn again in their place."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Region", "has_many_colors"]


def has_many_colors() -> bool:
    """Whether the terminal says that it knows 256 colours."""
    return "256color" in os.environ.get("TERM", "") or bool(os.environ.get("COLORTERM"))


class Region:
    """The last lines of a terminal.

    A terminal that is gone, as after SIGHUP, is no error.

    Args:
        stream: a terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: tuple[str, ...] = ()
        self._size = self.size

    @property
    def size(self) -> os.terminal_size:
        """Columns and lines of the terminal as it is now."""
        try:
            return os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):
            return shutil.get_terminal_size()

    def draw(self, lines: Sequence[str]) -> None:
        """Put lines into the place of those before; none may be wider than the terminal."""
        wanted = tuple(lines)
        size = self.size
        if wanted == self._lines and size == self._size:
            return
        if len(wanted) == len(self._lines) and size == self._size:
            self._write(_changed(self._lines, wanted))
        else:
            self._write(self._back() + _all(wanted))
        self._lines, self._size = wanted, size

    def erase(self) -> None:
        """Leave nothing of it; what is written next stands in its place."""
        if self._lines:
            self._write(self._back())
            self._lines = ()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Make way for what is written inside, and be drawn again below it."""
        lines, size = self._lines, self.size
        as_it_was = size == self._size
        self.erase()
        self._size = size
        try:
            yield
        finally:
            # In another size they may not fit; who draws next knows.
            if lines and as_it_was:
                self.draw(lines)

    def _back(self) -> str:
        """To where it begins, with nothing below."""
        if not self._lines:
            return "\x1b[J"
        if self.size != self._size:
            # The terminal has broken the lines anew; where they begin cannot be told.
            return "\x1b[H\x1b[2J"
        return f"\x1b[{len(self._lines)}F\x1b[J"

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            return


def _all(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _changed(before: Sequence[str], after: Sequence[str]) -> str:
    """Only the lines that differ: the seconds that are left change more often than a code."""
    parts = []
    for number, (old, new) in enumerate(zip(before, after, strict=True)):
        up = len(before) - number
        if old != new:
            # Erased before it is written: after the last column it would erase the last cell.
            parts.append(f"\x1b[{up}F\x1b[2K{new}\r\x1b[{up}E")
    return "".join(parts)
