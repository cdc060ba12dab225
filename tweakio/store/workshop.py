"""Rooms to build in what takes long, while others go on changing the repository.

A transaction's own staging directory is emptied by whoever takes the repository's lock next, so
nothing may stay there without that lock. A room has a lock of its own instead: as long as its
builder lives, nobody clears it away.
"""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING

from tweakio import durable
from tweakio.errors import LockTimeoutError, storage_error
from tweakio.store.lockfile import RecordedLock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Workshop"]

log = logging.getLogger(__name__)

_LOCK = ".lock"
_WAIT = 5.0  # seconds for one who clears up to see that a new room is none of a dead process


class Workshop:
    """The rooms of one repository.

    Args:
        root: the directory that they are in; made with the first.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    @contextlib.contextmanager
    def room(self) -> Iterator[Path]:
        """An empty directory for a block, on the file system of the repository.

        Raises:
            StorageError: it cannot be made.
        """
        import secrets

        path = self._root / secrets.token_hex(8)
        lock = RecordedLock(self._root / f"{path.name}{_LOCK}")
        try:
            try:
                durable.make_directory(self._root)
                lock.acquire(_WAIT)
                durable.make_directory(path)
            except OSError as error:
                raise storage_error(error, "make room to build in") from error
            yield path
        finally:
            try:
                _remove(path, lock)
            except OSError:
                log.debug("a room is left to the next change", exc_info=True)
            finally:
                lock.release()

    def clear(self) -> None:
        """Remove the rooms of processes that died.

        Raises:
            OSError: one cannot be removed.
        """
        try:
            names = os.listdir(self._root)
        except FileNotFoundError:
            return
        for name in sorted({name.removesuffix(_LOCK) for name in names}):
            lock = RecordedLock(self._root / f"{name}{_LOCK}")
            try:
                lock.acquire(0)
            except LockTimeoutError:
                continue  # somebody works there
            try:
                _remove(self._root / name, lock)
            finally:
                lock.release()


def _remove(path: Path, lock: RecordedLock) -> None:
    durable.remove_tree(path)
    # While it is locked: who waits for it finds that it is gone, and makes another.
    lock.path.unlink(missing_ok=True)
