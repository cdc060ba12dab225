"""ProfileLockManager: which profiles are in use, and by whom."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from tweakio import durable
from tweakio.errors import (
    LockTimeoutError,
    ProfileActiveError,
    ProfileNotFoundError,
    is_of_the_moment,
    run,
    storage_error,
)
from tweakio.models import LockRecord
from tweakio.owners import refuse_foreign_owner
from tweakio.store.lockfile import RecordedLock, describe_owner, read_record
from tweakio.store.processes import own_record
from tweakio.store.system_lock import is_held

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from types import TracebackType

    from tweakio.layout import Layout

__all__ = ["Guard", "HeldLock", "ProfileLockManager"]

log = logging.getLogger(__name__)


class Guard(Protocol):
    """What is taken and given back together with a profile's lock: a lease."""

    def take(self, profile_id: str) -> None:
        """The lock was taken; an error releases it again. Nothing to do if it is held here."""

    def give(self, profile_id: str) -> None:
        """The lock is about to be released."""

    def watch(self, profile_id: str, lost: Callable[[], None]) -> None:
        """Have something called, in another thread, when the profile is lost to another."""

    def is_lost(self, profile_id: str) -> bool:
        """Whether the profile was lost, and not taken again since."""

    def refuse_lost(self, profile_id: str) -> None:
        """Return unless it was lost."""

    def tokens(
        self,
        profile_ids: Sequence[str],
        is_owner: Callable[[str, int], bool],
        strict: Collection[str],
    ) -> dict[str, int]:
        """The numbers that tell the holds under which profiles are changed from every other."""


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

    One object is one holder. Threads may share it. It may hold a profile for itself and for a
    browser that runs on the profile; the lock goes when both are done with it.

    Args:
        layout: the home whose profiles it locks.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._held: dict[str, RecordedLock] = {}
        self._own: set[str] = set()
        self._browsers: dict[str, object] = {}
        self._pid = os.getpid()
        self._guard: Guard | None = None
        self.make_guard: Callable[[Layout], Guard] | None = None
        """Makes the guard, which is needed once a lease backend was set."""

    @property
    def guard(self) -> Guard | None:
        """What keeps leases; None while no backend was set."""
        if self._guard is None and self.make_guard is not None:
            self._after_fork()
            if durable.is_there(self._layout.lease):
                self._guard = self.make_guard(self._layout)
        return self._guard

    def acquire(self, profile_id: str, timeout: float = 30.0) -> HeldLock:
        """Take a profile's lock and keep it until ``release`` or the end of the process.

        Args:
            profile_id: an existing profile.
            timeout: seconds to wait for another holder.

        Raises:
            LockTimeoutError: the holder did not release it in time.
            ProfileNotFoundError: its directory is gone.
        """
        self._lock(profile_id, timeout)
        self._own.add(profile_id)
        return HeldLock(profile_id, self.release)

    @contextmanager
    def hold_without_lease(self, profile_id: str) -> Iterator[None]:
        """Hold a profile's lock for a block that clears up after a dead holder on this machine.

        A lease is another machine's business then, and would have to be waited for.

        Args:
            profile_id: which; another holder is not waited for.

        Raises:
            LockTimeoutError: somebody holds it.
            ProfileNotFoundError: its directory is gone.
        """
        self._lock(profile_id, 0, guarded=False)
        self._own.add(profile_id)
        try:
            yield
        finally:
            self.release(profile_id)

    def _lock(self, profile_id: str, timeout: float, *, guarded: bool = True) -> RecordedLock:
        self._after_fork()
        known = self._held.get(profile_id)
        guard = self.guard
        if known is not None:
            if guard is not None:
                guard.refuse_lost(profile_id)
            return known
        lock = RecordedLock(self._layout.profile(profile_id).lock)
        refuse_foreign_owner(self._layout)
        try:
            dead = lock.acquire(timeout)
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
                hint=run("tweakio profile recover", profile_id),
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
        if guard is not None and guarded:
            try:
                guard.take(profile_id)
            except BaseException:
                lock.release()
                raise
        self._held[profile_id] = lock
        return lock

    def release(self, profile_id: str) -> None:
        """Let go of a profile that this object holds; nothing to do if it does not.

        While its browser is open the profile stays locked all the same.
        """
        self._after_fork()
        self._own.discard(profile_id)
        self._unlock(profile_id)

    def _unlock(self, profile_id: str) -> None:
        if profile_id in self._own or profile_id in self._browsers:
            return
        lock = self._held.pop(profile_id, None)
        if lock is not None:
            try:
                if self._guard is not None:
                    self._guard.give(profile_id)
            finally:
                lock.release()

    def release_all(self) -> None:
        """Let go of every profile that this object holds."""
        for profile_id in list(self._own):
            self.release(profile_id)

    def acquire_for_browser(
        self, profile_id: str, timeout: float = 30.0, *, guarded: bool = True
    ) -> int:
        """Lock a profile for as long as a browser runs on it.

        Args:
            profile_id: an existing profile; it may be held here already.
            timeout: seconds to wait for another holder.
            guarded: whether its lease is taken as well, if there are leases.

        Returns:
            The descriptor of the locked file. A process that has it, too, keeps the lock.

        Raises:
            LockTimeoutError: another holder did not release it in time, or this object has a
                browser on it.
            ProfileNotFoundError: its directory is gone.
        """
        self._after_fork()
        mine = object()
        if self._browsers.setdefault(profile_id, mine) is not mine:
            raise LockTimeoutError(
                f"profile '{profile_id}' has its browser open in this process, {os.getpid()}",
                hint="close it first",
                profile_id=profile_id,
                owner=own_record(),
            )
        try:
            return self._lock(profile_id, timeout, guarded=guarded).descriptor
        except BaseException:
            self._browsers.pop(profile_id, None)
            raise

    def release_for_browser(self, profile_id: str) -> None:
        """A profile's browser has ended; it stays locked if this object holds it besides."""
        self._after_fork()
        if self._browsers.pop(profile_id, None) is not None:
            self._unlock(profile_id)

    def has_browser(self, profile_id: str) -> bool:
        """Whether this object holds a profile for its browser."""
        self._after_fork()
        return profile_id in self._browsers

    @property
    def held(self) -> frozenset[str]:
        """The profiles that this object holds for itself."""
        self._after_fork()
        return frozenset(self._own)

    def is_current(self, profile_id: str) -> bool:
        """Whether what this object holds is the lock of the profile that is there now.

        It is not if the profile was deleted, and another made of the same id, between the
        look at the lock file and the change that needed it.
        """
        self._after_fork()
        lock = self._held.get(profile_id)
        return lock is not None and lock.is_current()

    def is_locked(self, profile_id: str, *, quick: bool = False) -> bool:
        """Whether a live process, this one included, holds the profile.

        Args:
            profile_id: which.
            quick: believe an empty record, which only who locks the file without tweakio leaves in
                a lock that is held. It costs one stat, and a list of thousands asks for each.
        """
        self._after_fork()
        if profile_id in self._held:
            return True
        path = self._layout.profile(profile_id).lock
        try:
            if os.lstat(path).st_size == 0 and quick:
                return False
        except OSError as error:
            if is_of_the_moment(error):
                raise storage_error(error, f"look at the lock of '{profile_id}'") from error
            return False
        # What a link leads to is nobody's profile.
        return not os.path.islink(path.parent) and is_held(path)

    def owner(self, profile_id: str) -> LockRecord | None:
        """The live holder of a profile, if its lock is held."""
        self._after_fork()
        if profile_id in self._held:
            return own_record()
        if not self.is_locked(profile_id):
            return None
        return read_record(self._layout.profile(profile_id).lock)

    def refuse_in_use(self, profile_id: str, *, own: bool = False) -> None:
        """Return unless a change would pull a profile from under a live process.

        Args:
            profile_id: which.
            own: whether it is no obstacle that this object holds it. Its browser is one.

        Raises:
            ProfileActiveError: somebody uses it.
        """
        mine = profile_id in self.held and not self.has_browser(profile_id)
        if (own and mine) or not self.is_locked(profile_id):
            return
        owner = self.owner(profile_id)
        raise ProfileActiveError(
            f"profile '{profile_id}' is in use by {describe_owner(owner)}",
            hint="close it there first",
            profile_id=profile_id,
        )

    def cleanup_stale(self, profile_id: str) -> bool:
        """Clear the record of a holder that died; True if there was one."""
        path = self._layout.profile(profile_id).lock
        if read_record(path) is None or self.is_locked(profile_id):
            return False
        try:
            with self.hold_without_lease(profile_id):
                return True
        except (LockTimeoutError, ProfileNotFoundError):
            return False

    def _after_fork(self) -> None:
        if self._pid != os.getpid():
            # A child owns none of its parent's profiles.
            self._own.clear()
            self._browsers.clear()
            self._held.clear()
            self._guard = None
            self._pid = os.getpid()
