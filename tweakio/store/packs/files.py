"""What the other modules here do with files."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from typing import TYPE_CHECKING

from tweakio import durable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = [
    "BINARY", "CHUNK", "CLOEXEC", "MODE",
    "damaged", "may_be_there", "pieces", "read_at", "reading", "temporary_pair", "unlink",
]  # fmt: skip

BINARY = getattr(os, "O_BINARY", 0)
CLOEXEC = getattr(os, "O_CLOEXEC", 0)
# git's own mode for packs. On Windows it would mean a file that cannot be unlinked.
MODE = 0o600 if sys.platform == "win32" else 0o444
CHUNK = 1 << 20


def damaged(path: Path | str) -> OSError:
    """The error for a file of ours that is not what was written."""
    return OSError(errno.EIO, "what was written reads back differently", str(path))


def may_be_there(path: str) -> bool:
    """Whether a file is there, or that cannot be told now: then nothing is to be removed for it."""
    try:
        return durable.is_there(path)
    except OSError:
        return True


@contextlib.contextmanager
def reading(path: Path | str) -> Iterator[int]:
    """A descriptor to read from."""
    descriptor = os.open(path, os.O_RDONLY | BINARY | CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def read_at(descriptor: int, offset: int, size: int) -> bytes:
    """May be shorter at the end of the file."""
    os.lseek(descriptor, offset, os.SEEK_SET)
    chunks = []
    while size > 0 and (chunk := os.read(descriptor, size)):
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)


def pieces(descriptor: int, start: int, end: int) -> Iterator[bytes]:
    """A stretch of a file in parts that fit into memory."""
    while start < end:
        piece = read_at(descriptor, start, min(CHUNK, end - start))
        if not piece:
            return
        yield piece
        start += len(piece)


def unlink(path: str) -> int:
    """1 if the file was there and is gone."""
    try:
        if sys.platform == "win32":
            os.chmod(path, 0o600)  # a read-only file cannot be unlinked there
        os.unlink(path)
    except FileNotFoundError:
        return 0
    except PermissionError:
        if sys.platform != "win32":
            raise
        return 0  # a reader has it open; what is removed here is superfluous anyway
    return 1


@contextlib.contextmanager
def temporary_pair(temporary: Path) -> Iterator[tuple[str, str]]:
    """Free names for a pack and its index; whatever is still there afterwards is removed."""
    path = os.path.join(temporary, f"pack-{os.urandom(8).hex()}")
    try:
        yield path + ".pack", path + ".idx"
    finally:
        for suffix in (".pack", ".idx"):
            with contextlib.suppress(OSError):
                unlink(path + suffix)
