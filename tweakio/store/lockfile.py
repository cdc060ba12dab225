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
import stat
import sys
import time
from typing import TYPE_CHECKING

from tweakio.errors import LockTimeoutError
from tweakio.models import LockRecord
from tweakio.store.processes import is_alive, own_record
from tweakio.store.system_lock import is_held, read_bytes, system_lock

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["RecordedLock", "describe_owner", "read_record"]

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


def read_record(path: Path) -> LockRecord | None:
    """The record in a lock file; None if it is empty, missing or unreadable."""
    try:
        return _parse(read_bytes(path))
    except OSError:
        return None


def _parse(data: bytes) -> LockRecord | None:
    if not data:
        return None
    try:
        value = json.loads(data)
        return LockRecord(
            int(value["pid"]), float(value["start"]), str(value["boot"]), str(value["host"])
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def describe_owner(record: LockRecord | None) -> str:
    """A lock's holder in words."""
    if record is None:
        return "another process"
    if is_alive(record) is None:
        return f"process {record.pid} on {record.host}"
    return f"process {record.pid}"


class RecordedLock:
    """An exclusive lock on a file, with a record of its holder in it.

    Args:
        path: the lock file; made if it is missing, never removed.
        line: for a lock that many want, another file: who has its lock is the next.
    """

    def __init__(self, path: Path, line: Path | None = None) -> None:
        self.path = path
        self._line = line
        self._lock = system_lock(path)

    def acquire(self, timeout: float) -> LockRecord | None:
        """Take the lock.

        Args:
            timeout: seconds to wait; 0 does not wait.

        Returns:
            The record of a last holder that died holding it.

        Raises:
            LockTimeoutError: it is still held; the message names the holder.
            FileNotFoundError: the directory of the file is gone.
            RuntimeError: this object holds it.
        """
        if self.descriptor >= 0:
            raise RuntimeError(f"{self.path.name} is held already")
        deadline = time.monotonic() + max(timeout, _AT_ONCE)
        if self._line is None:
            return self._acquire(deadline, _PROFILE_POLL)
        if not is_held(self._line):
            # Nobody waits: a tenth of a millisecond saved. Who gets it now is first in line.
            with contextlib.suppress(LockTimeoutError):
                return self._acquire(time.monotonic(), _POLL)
        line = system_lock(self._line)
        try:
            line_ends = min(time.monotonic() + _LINE_WAIT, deadline)
            while not line.take() and time.monotonic() < line_ends:
                time.sleep(_LINE_POLL)
            return self._acquire(deadline, _POLL)
        finally:
            line.drop()

    def _acquire(self, deadline: float, poll: float) -> LockRecord | None:
        lock = self._lock
        tell_after = time.monotonic() + _AT_ONCE
        try:
            while True:
                self._refuse_strange()
                if lock.take():
                    if self.is_current() and not self._lost_to_another_name():
                        return self._exchange_record()
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
        self._lock.drop(emptied=True)

    @property
    def descriptor(self) -> int:
        """Of the locked file; -1 while it is not held."""
        return self._lock.descriptor

    def is_current(self) -> bool:
        """Whether the file that is locked is still the one at the path."""
        held = os.fstat(self.descriptor)
        try:
            named = os.stat(self.path)
        except FileNotFoundError:
            return False
        return (held.st_dev, held.st_ino) == (named.st_dev, named.st_ino)

    def _refuse_strange(self) -> None:
        """Neither follow a link nor open what does things when it is opened.

        Raises:
            OSError: the file is no regular one, or where it belongs is no directory.
        """
        parent = self.path.parent
        if not stat.S_ISDIR(os.lstat(parent).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "not a directory", str(parent))
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG(os.lstat(self.path).st_mode):
                raise OSError(errno.EINVAL, "not a regular file", str(self.path))

    def _lost_to_another_name(self, *, platform: str = sys.platform) -> bool:
        """Leave the file to its other name, if it has one elsewhere.

        A backup by hard links, or a trap: the record must not be written into that. Nobody else
        takes this one meanwhile, for it is locked. Windows does not remove an open file.
        """
        if platform == "win32" or os.fstat(self.descriptor).st_nlink == 1:
            return False
        os.unlink(self.path)
        return True

    def _exchange_record(self) -> LockRecord | None:
        """Write our record.

        Returns:
            The record of a holder that did not empty it.
        """
        descriptor, previous = self.descriptor, None
        with contextlib.suppress(OSError):
            previous = _parse(read_bytes(descriptor))
        if previous is None and (before := _parse(self._lock.before)) is not None:
            # Read before the lock was taken, so its holder may have let go since.
            previous = None if is_alive(before) is True else before
        text = b"\n" + json.dumps(own_record()._asdict()).encode() + b"\n"
        # Written over the old one and cut after, so that no reader finds it empty.
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, text)
        os.ftruncate(descriptor, len(text))
        return previous
