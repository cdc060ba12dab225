"""ProfileLockManager, and the recorded lock file that it and the repository use.

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

from tweakio import durable
from tweakio.errors import (
    LockTimeoutError,
    ProfileActiveError,
    ProfileNotFoundError,
    storage_error,
)
from tweakio.models import LockRecord
from tweakio.store.processes import is_alive, own_record

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    from filelock import BaseFileLock

    from tweakio.layout import Layout

__all__ = [
    "HeldLock",
    "ProfileLockManager",
    "RecordedLock",
    "describe_owner",
    "is_held",
    "read_record",
]

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
    except (OSError, ValueError, KeyError, TypeError):
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


def _file_lock(
    path: Path, poll: float = _POLL, *, on_acquired: Callable[[int], None] | None = None
) -> BaseFileLock:
    from filelock import FileLock

    return FileLock(
        path,
        mode=durable.FILE_MODE,
        thread_local=False,
        poll_interval=poll,
        fallback_to_soft=False,
        preserve_lock_file=True,
        on_acquired=on_acquired,
    )


class RecordedLock:
    """An exclusive lock on a file, with a record of its holder in it.

    Args:
        path: the lock file; made if it is missing, never removed.
        line: for a lock that many want, another file: who has its lock is the next.
    """

    def __init__(self, path: Path, line: Path | None = None) -> None:
        self.path = path
        self._line = line
        self._file: BaseFileLock | None = None
        self._lock: BaseFileLock | None = None
        self._descriptor = -1

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
        from filelock import Timeout

        line = _file_lock(self._line, _LINE_POLL)
        # A negative time would mean for ever to filelock.
        wait = min(_LINE_WAIT, deadline - time.monotonic())
        try:
            with contextlib.suppress(Timeout):
                line.acquire(timeout=max(0.0, wait))
            return self._acquire(deadline, _POLL)
        finally:
            line.release()

    def _acquire(self, deadline: float, poll: float) -> LockRecord | None:
        from filelock import Timeout

        lock = self._file = self._file or _file_lock(self.path, on_acquired=self._remember)
        tell_after = time.monotonic() + _AT_ONCE
        while True:
            # filelock would make a missing directory: that of a profile which is gone.
            if not stat.S_ISDIR(os.stat(self.path.parent).st_mode):
                raise NotADirectoryError(errno.ENOTDIR, "not a directory", str(self.path.parent))
            # Up to 4.1, the last for Python 3.10, filelock empties a file that it has locked.
            before = read_record(self.path)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                if time.monotonic() >= deadline:
                    owner = read_record(self.path)
                    raise LockTimeoutError(
                        f"{self.path.name} is held by {describe_owner(owner)}",
                        hint="wait for it to end, or give a longer --timeout",
                        owner=owner,
                    ) from None
                if time.monotonic() >= tell_after:
                    what = f"{self.path.parent.name}/{self.path.name}"
                    holder = describe_owner(read_record(self.path))
                    log.info("waiting for %s, held by %s", what, holder)
                    tell_after = math.inf
                time.sleep(poll)
                continue
            if self.is_current():
                break
            # The profile was deleted (its directory moved) while we waited for it.
            lock.release()
        self._lock = lock
        try:
            return self._exchange_record(before)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Empty the record and let go of the lock; nothing to do if it is not held."""
        lock, self._lock = self._lock, None
        if lock is None:
            return
        try:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, 0)
        finally:
            # Also if Ctrl-C came just now.
            self._descriptor = -1
            lock.release()

    def forget(self) -> None:
        """After a fork: the parent holds it, not this process."""
        self._file = self._lock = None
        self._descriptor = -1

    def _remember(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def is_current(self) -> bool:
        """Whether the file that is locked is still the one at the path."""
        held = os.fstat(self._descriptor)
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
        previous = _record_in(self._descriptor)
        if previous is None and before is not None and is_alive(before) is not True:
            previous = before
        text = b"\n" + json.dumps(own_record()._asdict()).encode() + b"\n"
        # Written over the old one and cut after, so that no reader finds it empty.
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        os.write(self._descriptor, text)
        os.ftruncate(self._descriptor, len(text))
        return previous


def _refuse_stray(lock: RecordedLock, before: int) -> None:
    """Remove an empty directory that filelock made because the profile's went just then.

    Args:
        lock: held.
        before: the inode of its directory before it was taken.

    Raises:
        FileNotFoundError: that is what the lock was in; it is released.
    """
    directory = lock.path.parent
    if os.stat(directory).st_ino != before and os.listdir(directory) == [lock.path.name]:
        lock.release()
        with contextlib.suppress(OSError):
            os.unlink(lock.path)
            os.rmdir(directory)
        raise FileNotFoundError(errno.ENOENT, "the profile is gone", str(directory))


class HeldLock:
    """A profile's lock that this process holds; leaving its ``with`` block releases it."""

    def __init__(self, profile_id: str, release: Callable[[str], None]) -> None:
        self.profile_id = profile_id
        self._release = release

    def __enter__(self) -> HeldLock:  # noqa: PYI034 - Self came with Python 3.11
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._release(self.profile_id)


class ProfileLockManager:
    """Which profiles are in use, and by whom.

    One object is one holder. Threads may share it.

    Args:
        layout: the home whose profiles it locks.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._held: dict[str, RecordedLock] = {}
        self._pid = os.getpid()

    def acquire(self, profile_id: str, timeout: float = 30.0) -> HeldLock:
        """Take a profile's lock and keep it until ``release`` or the end of the process.

        Args:
            profile_id: an existing profile.
            timeout: seconds to wait for another holder.

        Raises:
            LockTimeoutError: the holder did not release it in time.
            ProfileNotFoundError: its directory is gone.
        """
        self._after_fork()
        if profile_id not in self._held:
            lock = RecordedLock(self._layout.profile(profile_id).lock)
            try:
                before = os.stat(lock.path.parent).st_ino
                dead = lock.acquire(timeout)
                _refuse_stray(lock, before)
            except LockTimeoutError as error:
                owner = error.details.get("owner")
                raise LockTimeoutError(
                    f"profile '{profile_id}' is in use by "
                    f"{describe_owner(owner if isinstance(owner, LockRecord) else None)}",
                    hint="wait for it to end, or give a longer --timeout",
                    profile_id=profile_id,
                    owner=owner,
                ) from None
            except (FileNotFoundError, NotADirectoryError):
                raise ProfileNotFoundError(
                    f"the directory of profile '{profile_id}' does not exist",
                    hint=f"run 'tweakio profile recover {profile_id}'",
                    profile_id=profile_id,
                ) from None
            except OSError as error:
                raise storage_error(error, f"lock profile '{profile_id}'") from error
            if dead is not None:
                log.warning(
                    "the last user of profile %s (%s) ended without releasing it; lock cleared",
                    profile_id,
                    describe_owner(dead),
                )
            self._held[profile_id] = lock
        return HeldLock(profile_id, self.release)

    def release(self, profile_id: str) -> None:
        """Let go of a profile that this object holds; nothing to do if it does not."""
        self._after_fork()
        lock = self._held.pop(profile_id, None)
        if lock is not None:
            lock.release()

    def release_all(self) -> None:
        """Let go of every profile that this object holds."""
        for profile_id in list(self._held):
            self.release(profile_id)

    @property
    def held(self) -> frozenset[str]:
        """The profiles that this object holds."""
        self._after_fork()
        return frozenset(self._held)

    def is_current(self, profile_id: str) -> bool:
        """Whether what this object holds is the lock of the profile that is there now.

        It is not if the profile was deleted, and another made of the same id, between the
        look at the lock file and the change that needed it.
        """
        self._after_fork()
        lock = self._held.get(profile_id)
        return lock is not None and lock.is_current()

    def is_locked(self, profile_id: str) -> bool:
        """Whether a live process, this one included, holds the profile."""
        if profile_id in self.held:
            return True
        path = self._layout.profile(profile_id).lock
        try:
            # An empty record is the common case and costs one stat.
            if os.lstat(path).st_size == 0:
                return False
        except OSError:
            return False
        return is_held(path)

    def owner(self, profile_id: str) -> LockRecord | None:
        """The live holder of a profile, if its lock is held."""
        if profile_id in self.held:
            return own_record()
        if not self.is_locked(profile_id):
            return None
        return read_record(self._layout.profile(profile_id).lock)

    def refuse_in_use(self, profile_id: str, *, own: bool = False) -> None:
        """Return unless a change would pull a profile from under a live process.

        Args:
            profile_id: which.
            own: whether it is no obstacle that this object holds it.

        Raises:
            ProfileActiveError: somebody uses it.
        """
        if (own and profile_id in self.held) or not self.is_locked(profile_id):
            return
        owner = self.owner(profile_id)
        raise ProfileActiveError(
            f"profile '{profile_id}' is in use by process {owner.pid if owner else '?'}",
            hint="close it there first",
            profile_id=profile_id,
        )

    def cleanup_stale(self, profile_id: str) -> bool:
        """Clear the record of a holder that died; True if there was one."""
        path = self._layout.profile(profile_id).lock
        if read_record(path) is None or self.is_locked(profile_id):
            return False
        try:
            with self.acquire(profile_id, timeout=0):
                return True
        except (LockTimeoutError, ProfileNotFoundError):
            return False

    def _after_fork(self) -> None:
        if self._pid != os.getpid():
            # A child owns none of its parent's profiles.
            for lock in self._held.values():
                lock.forget()
            self._held.clear()
            self._pid = os.getpid()
