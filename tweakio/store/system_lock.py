"""The operating system's lock on a file, which ends with its holder however that ends.

Where there is flock, it is called here: that takes 4 microseconds, and 350 by filelock. Windows,
which locks ranges of bytes and has its own rules for open files, is filelock's.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Protocol

from tweakio import durable, interrupts
from tweakio.errors import StorageError, is_of_the_moment, storage_error

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "FilelockLock",
    "FlockLock",
    "SystemLock",
    "is_held",
    "read_bytes",
    "require_locks",
    "system_lock",
]

_MAX_RECORD = 4096
# What flock says on a network drive without a lock service, or on a file system without locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
_FLAGS = (
    getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_BINARY", 0)
)


class SystemLock(Protocol):
    """One try for a lock, and its end."""

    descriptor: int
    """Of the open file; -1 while it is not held."""
    before: bytes
    """What the file held, where taking the lock may empty it."""

    def take(self) -> bool:
        """Try once, without waiting; whether it is held now.

        Raises:
            FileNotFoundError: the directory of the file is gone.
        """

    def drop(self, *, emptied: bool = False) -> None:
        """Let go of it if it is held, after emptying the file if that is asked for."""


def system_lock(path: Path, *, platform: str = sys.platform) -> SystemLock:
    """The lock of a file on this system."""
    return FilelockLock(path) if platform == "win32" else FlockLock(path)


def is_held(path: Path, *, platform: str = sys.platform) -> bool:
    """Whether somebody holds a lock file's lock at this moment.

    Raises:
        StorageError: that cannot be told now.
    """
    if platform == "win32":
        from filelock import FileLock, Timeout

        try:
            with FileLock(path, timeout=0, preserve_lock_file=True, fallback_to_soft=False):
                return False
        except Timeout:
            return True
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDONLY | _FLAGS)
    except OSError as error:
        if is_of_the_moment(error):
            raise storage_error(error, "look at a lock") from error
        return False
    try:
        # Shared, so that two who look do not see each other.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise storage_error(error, "look at a lock") from error
    else:
        return False
    finally:
        os.close(descriptor)


def require_locks(path: Path) -> None:
    """Return if files can be locked where a new one is.

    Raises:
        StorageError: the file system has no locks.
    """
    lock = system_lock(path)
    lock.take()
    lock.drop()


def _no_locks(path: Path, error: OSError) -> StorageError:
    message = f"cannot lock {path}: the file system there has no locks ({error.strerror})"
    hint = "give a --home on a local disk; on a network drive, turn its locks (flock) on"
    return StorageError(message, hint=hint)


def read_bytes(file: Path | int) -> bytes:
    """What a lock file holds, but for its first byte, which Windows locks against reading."""
    descriptor = file if isinstance(file, int) else os.open(file, os.O_RDONLY | _FLAGS)
    try:
        os.lseek(descriptor, 1, os.SEEK_SET)
        return os.read(descriptor, _MAX_RECORD)
    finally:
        if not isinstance(file, int):
            os.close(descriptor)


class FlockLock:
    """By flock."""

    before = b""

    def __init__(self, path: Path) -> None:
        self.descriptor = -1
        self._path = path
        self._open = -1
        _LOCKS.add(self)

    def take(self) -> bool:
        """Try once, without waiting; whether it is held now."""
        import fcntl

        with _NO_FORK:
            # A Ctrl-C just here leaves a file open, but not locked.
            self._open = self._open_file()
        try:
            fcntl.flock(self._open, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.descriptor = self._open
        except BlockingIOError:
            self.drop()
            return False
        except BaseException as error:  # Ctrl-C as well: it may be locked by now
            self.drop()
            if isinstance(error, OSError) and error.errno in _NO_LOCKS:
                raise _no_locks(self._path, error) from error
            raise
        return True

    def _open_file(self) -> int:
        with contextlib.suppress(FileNotFoundError):
            return os.open(self._path, os.O_RDWR | _FLAGS)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | _FLAGS, durable.FILE_MODE)
        try:
            os.fchmod(descriptor, durable.FILE_MODE)  # whatever the umask has left of it
        except BaseException:  # Ctrl-C as well: nobody else would close it
            os.close(descriptor)
            raise
        return descriptor

    def drop(self, *, emptied: bool = False) -> None:
        """Let go of it if it is held, after emptying the file if that is asked for."""
        if self._open < 0:
            return
        import fcntl

        with interrupts.held_back():
            descriptor, held = self._open, self.descriptor >= 0
            try:
                if held and emptied:
                    with contextlib.suppress(OSError):
                        os.ftruncate(descriptor, 0)
            finally:
                self._open = self.descriptor = -1
                try:
                    # Closing would do, but for a program that another thread just starts: until
                    # that runs, it has a copy of the descriptor.
                    if held:
                        fcntl.flock(descriptor, fcntl.LOCK_UN)
                finally:
                    os.close(descriptor)

    def forget(self) -> None:
        """Close the file only: who has a copy of the descriptor keeps the lock."""
        descriptor, self._open, self.descriptor = self._open, -1, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self.forget()


# A child by fork has a copy of the descriptor, and the lock would stay for as long as it lives.
_LOCKS: weakref.WeakSet[FlockLock] = weakref.WeakSet()
# Held while a file is open that no lock of these has noted.
_NO_FORK = threading.RLock()


def _forget_all() -> None:
    for lock in list(_LOCKS):
        lock.forget()
    _NO_FORK.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_NO_FORK.acquire, after_in_parent=_NO_FORK.release, after_in_child=_forget_all
    )


class FilelockLock:
    """By filelock."""

    def __init__(self, path: Path) -> None:
        from filelock import FileLock

        self.descriptor = -1
        self.before = b""
        self._path = path
        self._lock = FileLock(
            path,
            mode=durable.FILE_MODE,
            thread_local=False,
            fallback_to_soft=False,
            preserve_lock_file=True,
            on_acquired=self._remember,
        )

    def _remember(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def take(self) -> bool:
        """Try once, without waiting; whether it is held now."""
        from filelock import Timeout

        directory = os.stat(self._path.parent)
        self.before = b""
        with contextlib.suppress(OSError):
            # Up to 4.1, the last for Python 3.10, filelock empties a file that it has locked.
            self.before = read_bytes(self._path)
        try:
            with interrupts.held_back():
                self._lock.acquire(timeout=0)
            self._refuse_stray(directory)
        except Timeout:
            return False
        except BaseException:  # Ctrl-C as well: it may be locked by now
            self.drop()
            raise
        return True

    def _refuse_stray(self, before: os.stat_result) -> None:
        """Remove an empty directory that filelock made because the real one went just then."""
        directory = self._path.parent
        if os.path.samestat(os.stat(directory), before):
            return
        if os.listdir(directory) == [self._path.name]:
            self.drop()
            with contextlib.suppress(OSError):
                os.unlink(self._path)
                os.rmdir(directory)
            raise FileNotFoundError(errno.ENOENT, "the directory is gone", str(directory))

    def drop(self, *, emptied: bool = False) -> None:
        """Let go of it if it is held, after emptying the file if that is asked for."""
        with interrupts.held_back():
            try:
                if emptied and self.descriptor >= 0:
                    with contextlib.suppress(OSError):
                        os.ftruncate(self.descriptor, 0)
            finally:
                self.descriptor = -1
                self._lock.release()
