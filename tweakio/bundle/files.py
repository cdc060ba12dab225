"""Files on the disk: read as they are, and written so that they stay."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tweakio import durable
from tweakio.bundle.filters import PIECE
from tweakio.bundle.names import shown
from tweakio.errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

__all__ = ["Written", "file_pieces"]

_OPEN = 64


def file_pieces(path: str, name: str) -> Iterator[int | bytes]:
    """A regular file's size, and then its content, which must have it."""
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags | getattr(os, "O_CLOEXEC", 0))
    try:
        size = os.fstat(descriptor).st_size
        yield size
        while size:
            piece = os.read(descriptor, min(size, PIECE))
            if not piece:
                raise ArchiveError(
                    f"{shown(name)} changed while it was read",
                    hint="end the browser of the profile and run the command again",
                )
            size -= len(piece)
            yield piece
    finally:
        os.close(descriptor)


class Written:
    """Files and directories that are being written, and on the disk when the block has ended.

    Args:
        into: an existing directory, where nothing of these names is.
    """

    def __init__(self, into: Path) -> None:
        self._into = into
        self._directories: list[str] = []
        self._open: list[int] = []

    def __enter__(self) -> Written:  # noqa: PYI034 - Self came with Python 3.11
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._sync()
                durable.sync_tree(reversed(self._directories))
        finally:
            while self._open:
                os.close(self._open.pop())

    def make_directory(self, name: str) -> None:
        """Make a directory of this name, for its owner only."""
        path = os.path.join(self._into, *name.split("/"))
        os.mkdir(path, 0o700)
        os.chmod(path, 0o700)
        self._directories.append(path)

    def create(self, name: str) -> int:
        """A new file's descriptor, which is closed here; the file is its owner's only."""
        if len(self._open) >= _OPEN:
            self._sync()
        path = os.path.join(self._into, *name.split("/"))
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        flags |= getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        descriptor = os.open(path, flags, 0o600)
        self._open.append(descriptor)
        if hasattr(os, "fchmod"):
            os.fchmod(descriptor, 0o600)
        return descriptor

    def _sync(self) -> None:
        while self._open:
            descriptor = self._open[0]
            durable.sync_descriptor(descriptor)
            os.close(self._open.pop(0))
