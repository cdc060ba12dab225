"""QR codes: as half blocks for a terminal, and as a picture in a private file."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tweakio import durable
from tweakio.errors import InvalidInputError, MissingExtraError, storage_error
from tweakio.owners import temporary_directory

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["BORDER", "Drawing", "QrFile", "draw", "picture"]

BORDER = 4
"""Light modules around a code, which scanners need to find it."""

_SCALE = 8
# The upper and the lower module of a cell, dark or light.
_BLOCKS = {(True, True): "\u2588", (True, False): "\u2580", (False, True): "\u2584"}
# Black on white whatever the terminal's own colours are: many apps do not read the inverse.
_EXACT = "\x1b[0;38;5;16;48;5;231m"
_PLAIN = "\x1b[0;30;47m"
_END = "\x1b[0m"


class Drawing(NamedTuple):
    """A code as lines of text.

    Attributes:
        lines: each sets its colours and ends them.
        width: cells of a line.
    """

    lines: tuple[str, ...]
    width: int

    @property
    def height(self) -> int:
        """The number of lines."""
        return len(self.lines)


def _code(text: str) -> Any:
    try:
        import segno
    except ImportError:
        raise MissingExtraError(
            "QR codes need the package segno, which comes with tweakio[browser]",
            hint="pip install 'tweakio[browser]'",
        ) from None
    # Error correction L: a screen has no scratches, and a code that is larger does not fit.
    return segno.make(text, error="l", boost_error=False, micro=False)


def draw(text: str, *, many_colors: bool = True) -> Drawing:
    """A code as half blocks, two modules one above the other in a cell.

    Args:
        text: encoded verbatim.
        many_colors: whether the terminal has 256 colours; of 8 the white is often grey.
    """
    rows = [[bool(module) for module in row] for row in _code(text).matrix_iter(border=BORDER)]
    width = len(rows[0])
    rows.append([False] * width)
    begin = _EXACT if many_colors else _PLAIN
    lines = tuple(
        begin + _cells(rows[number], rows[number + 1]) + _END
        for number in range(0, len(rows) - 1, 2)
    )
    return Drawing(lines, width)


def _cells(upper: Sequence[bool], lower: Sequence[bool]) -> str:
    return "".join(_BLOCKS.get(pair, " ") for pair in zip(upper, lower, strict=True))


def picture(text: str) -> bytes:
    """A code as a PNG."""
    buffer = io.BytesIO()
    _code(text).save(buffer, kind="png", scale=_SCALE, border=BORDER)
    return buffer.getvalue()


class QrFile:
    """The one file into which codes are written, each in the place of the one before.

    It can be read by its owner only, and is removed in the end: what it shows is a secret
    for as long as the service takes it. If this program is killed, a small one that waits for its
    end removes it; on Windows there is none.

    Args:
        path: where; None for a private directory that is made when it is needed.

    Raises:
        InvalidInputError: there can be no such file.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._wanted = None if path is None else Path(os.path.abspath(path))
        self._directory: Path | None = None
        self._path: Path | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        if self._wanted is not None:
            if self._wanted.is_dir():
                raise InvalidInputError(
                    f"{self._wanted} is a directory", hint="name a file, such as qr.png"
                )
            if not self._wanted.parent.is_dir():
                raise InvalidInputError(
                    f"there is no directory {self._wanted.parent}", hint="make it first"
                )

    @property
    def is_wanted(self) -> bool:
        """Whether somebody named the file, and so wants it in any case."""
        return self._wanted is not None

    def write(self, text: str) -> Path:
        """Put a code into the file.

        Returns:
            The file.

        Raises:
            StorageError: it cannot be written.
        """
        data = picture(text)
        try:
            path = self._place()
            temporary = path.with_name(f".{path.name}.new")
            durable.remove(temporary)
            # Not synced: after a crash nobody needs it.
            durable.create(temporary, data, sync=False)
            durable.move(temporary, path)
        except OSError as error:
            raise storage_error(error, "write the QR code") from error
        return path

    def _place(self) -> Path:
        if self._path is None:
            if self._wanted is not None:
                self._path = self._wanted
            else:
                self._directory = Path(temporary_directory())
                self._path = self._directory / "qr.png"
            self._watcher = _watcher(self._path, self._directory)
        return self._path

    def remove(self) -> None:
        """Remove the file; nothing to do if there is none."""
        if self._watcher is not None:
            # First: it would remove what the next login puts there.
            self._watcher.kill()
            self._watcher.communicate()
            self._watcher = None
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
        elif self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
        self._directory = self._path = None


def _watcher(path: Path, directory: Path | None) -> subprocess.Popen[bytes] | None:
    """A process that removes the file as soon as this program has ended in any way.

    Or its directory, if it has one of its own. The process' input ends then. It is in a session
    of its own, where no signal for ours reaches it.
    """
    if os.name != "posix":
        return None
    beside = path.with_name(f".{path.name}.new")
    how, what = ("-f", [path, beside]) if directory is None else ("-rf", [directory])
    try:
        return subprocess.Popen(
            ["/bin/sh", "-c", 'read -r _; exec rm "$@"', "sh", how, "--", *map(str, what)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={"PATH": "/usr/bin:/bin"},
            cwd="/",
        )
    except OSError:
        return None
