"""A lock file with a record of its holder.

The operating system's lock is the truth: it ends with its holder, however that ends. The
record in the file only tells people who the holder is, and the next holder that the last
one died (a clean release empties it).
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import math
import os
import signal
import stat
import sys
import time
from typing import TYPE_CHECKING

from tweakio import durable
from tweakio.errors import LockTimeoutError
from tweakio.models import LockRecord
from tweakio.store.processes import is_alive, own_record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["RecordedLock", "describe_owner", "is_held", "read_record"]

log = logging.getLogger(__name__)

# At filelock's default of 50 ms the worst wait among 8 processes was 5.3 s, at 1 ms 0.26 s.
_POLL = 0.001
# That is for one waiter. When 64 polled every millisecond they took the processor from the
# holder, and 2 instead of 23 changes were made in a second. So those who want the repository
# stand in line, where only the first polls like that, and a profile is asked for less often.
_PROFILE_POLL = 0.01
_LINE_POLL = 0.005
# Not for ever: the first in line may be a stopped process.
_LINE_WAIT = 5.0
# A probe (see is_held) takes the lock for microseconds; so "at once" means a few tries.
_AT_ONCE = 0.02
_MAX_RECORD = 4096
_READ = (
    os.O_RDONLY
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_BINARY", 0)
)


def read_record(path: Path) -> LockRecord | None:
    """The record in a lock file; None if it is empty, missing or unreadable."""
    try:
        descriptor = os.open(path, _READ)
        try:
            return _record_in(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        return None


def _record_in(descriptor: int) -> LockRecord | None:
    try:
        # Windows locks the first byte of the file against reading too.
        os.lseek(descriptor, 1, os.SEEK_SET)
        data = os.read(descriptor, _MAX_RECORD)
        if not data:
            return None
        value = json.loads(data)
        return LockRecord(
            int(value["pid"]), float(value["start"]), str(value["boot"]), str(value["host"])
        )
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def describe_owner(record: LockRecord | None) -> str:
    """A lock's holder in words."""
    if record is None:
        return "another process"
    if is_alive(record) is None:
        return f"process {record.pid} on {record.host}"
    return f"process {record.pid}"


def is_held(path: Path, *, platform: str = sys.platform) -> bool:
    """Whether somebody holds a lock file's lock at this moment."""
    if platform == "win32":
        from filelock import FileLock, Timeout

        try:
            with FileLock(path, timeout=0, preserve_lock_file=True, fallback_to_soft=False):
                return False
        except Timeout:
            return True
    import fcntl

    try:
        descriptor = os.open(path, _READ)
    except OSError:
        return False
    try:
        # Shared, so that two who look do not see each other.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def _refuse_shared_file(path: Path, *, platform: str = sys.platform) -> None:
    """Leave a lock file to its other name, if it has one elsewhere.

    A backup by hard links, or a trap: the record must not be written into that. Whoever holds
    the lock of this one keeps it; the lock that is taken here keeps others from taking it while
    the name goes.

    Raises:
        OSError: it is no regular file.
    """
    try:
        status = os.lstat(path)
    except OSError:
        return
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    if status.st_nlink == 1 or platform == "win32":
        return
    import fcntl

    descriptor = os.open(path, _READ)
    try:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), os.lstat(path)):
                os.unlink(path)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _signals_wait() -> Iterator[None]:
    """Let no Ctrl-C come between a lock and the note that it is held.

    Such a lock would stay until the program ends. filelock before 4.2, the last ones for
    Python 3.10, has this gap inside. Windows has no such mask; and in a program with several
    threads the system may hand the signal to another one.
    """
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(
        signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
    )
    try:
        yield
    finally:
        # What waited is raised from here.
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _SystemLock:
    """The operating system's lock on a file.

    Attributes:
        descriptor: of the open file; -1 while it is not held.
    """

    def __init__(self, path: Path) -> None:
        from filelock import FileLock

        self.descriptor = -1
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

        try:
            with _signals_wait():
                self._lock.acquire(timeout=0)
        except Timeout:
            return False
        except BaseException:
            self.drop()
            raise
        return True

    def drop(self, *, emptied: bool = False) -> None:
        """Let go of it if it is held, after emptying the file if that is asked for."""
        with _signals_wait():
            try:
                if emptied and self.descriptor >= 0:
                    with contextlib.suppress(OSError):
                        os.ftruncate(self.descriptor, 0)
            finally:
                self.descriptor = -1
                self._lock.release()


class RecordedLock:
    """An exclusive lock on a file, with a record of its holder in it.

    Args:
        path: the lock file; made if it is missing, never removed.
        line: for a lock that many want, another file: who has its lock is the next.
    """

    def __init__(self, path: Path, line: Path | None = None) -> None:
        self.path = path
        self._line = line
        self._lock: _SystemLock | None = None
        self._pid = os.getpid()

    def acquire(self, timeout: float) -> LockRecord | None:
        """Take the lock.

        Args:
            timeout: seconds to wait; 0 does not wait.

        Returns:
            The record of a last holder that died holding it.

        Raises:
            LockTimeoutError: it is still held; the message names the holder.
            FileNotFoundError: the directory of the file is gone.
        """
        deadline = time.monotonic() + max(timeout, _AT_ONCE)
        if self._line is None:
            return self._acquire(deadline, _PROFILE_POLL)
        if not is_held(self._line):
            # Nobody waits: a tenth of a millisecond saved. Who gets it now is first in line.
            with contextlib.suppress(LockTimeoutError):
                return self._acquire(time.monotonic(), _POLL)
        line = _SystemLock(self._line)
        try:
            line_ends = min(time.monotonic() + _LINE_WAIT, deadline)
            while not line.take() and time.monotonic() < line_ends:
                time.sleep(_LINE_POLL)
            return self._acquire(deadline, _POLL)
        finally:
            line.drop()

    def _acquire(self, deadline: float, poll: float) -> LockRecord | None:
        lock = self._lock = self._mine() or _SystemLock(self.path)
        tell_after = time.monotonic() + _AT_ONCE
        try:
            while True:
                # filelock would make a missing directory: that of a profile which is gone.
                if not stat.S_ISDIR(os.lstat(self.path.parent).st_mode):
                    raise NotADirectoryError(
                        errno.ENOTDIR, "not a directory", str(self.path.parent)
                    )
                _refuse_shared_file(self.path)
                # Up to 4.1, the last for Python 3.10, filelock empties a file it has locked.
                before = read_record(self.path)
                if lock.take():
                    if self.is_current():
                        return self._exchange_record(before)
                    # The profile was deleted (its directory moved) while we waited for it.
                    lock.drop()
                    continue
                if time.monotonic() >= deadline:
                    owner = read_record(self.path)
                    raise LockTimeoutError(
                        f"{self.path.name} is held by {describe_owner(owner)}",
                        hint="wait for it to end, or give a longer --timeout",
                        owner=owner,
                    )
                if time.monotonic() >= tell_after:
                    what = f"{self.path.parent.name}/{self.path.name}"
                    holder = describe_owner(read_record(self.path))
                    log.info("waiting for %s, held by %s", what, holder)
                    tell_after = math.inf
                time.sleep(poll)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Empty the record and let go of the lock; nothing to do if it is not held."""
        if (lock := self._mine()) is not None:
            lock.drop(emptied=True)

    @property
    def descriptor(self) -> int:
        """Of the locked file; -1 while it is not held."""
        return -1 if (lock := self._mine()) is None else lock.descriptor

    def _mine(self) -> _SystemLock | None:
        """What this process has made; after a fork that of the parent is forgotten.

        filelock has closed the descriptor in the child by then, so that nothing stays locked
        when the parent ends.
        """
        if self._pid != os.getpid():
            self._pid, self._lock = os.getpid(), None
        return self._lock

    def is_current(self) -> bool:
        """Whether the file that is locked is still the one at the path."""
        held = os.fstat(self.descriptor)
        try:
            named = os.stat(self.path)
        except FileNotFoundError:
            return False
        return (held.st_dev, held.st_ino) == (named.st_dev, named.st_ino)

    def _exchange_record(self, before: LockRecord | None) -> LockRecord | None:
        """Write our record.

        Args:
            before: what was there just before the lock was taken.

        Returns:
            The record of a holder that did not empty it.
        """
        descriptor = self.descriptor
        previous = _record_in(descriptor)
        if previous is None and before is not None and is_alive(before) is not True:
            previous = before
        text = b"\n" + json.dumps(own_record()._asdict()).encode() + b"\n"
        # Written over the old one and cut after, so that no reader finds it empty.
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, text)
        os.ftruncate(descriptor, len(text))
        return previous
