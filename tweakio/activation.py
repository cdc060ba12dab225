"""Which profile a program has activated: in the history, by its lock, and in memory."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from tweakio import changes, directories
from tweakio.errors import ConcurrentChangeError, ProfileNotFoundError, TweakioError
from tweakio.metadata import healthy
from tweakio.models import format_time, parse_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from tweakio.models import Profile
    from tweakio.registry import ProfileRegistry
    from tweakio.store.locks import ProfileLockManager
    from tweakio.store.repository import Repository
    from tweakio.store.transaction import Transaction

__all__ = ["Activation", "AtExit"]

log = logging.getLogger(__name__)


class Activation:
    """What one manager has activated; its commits, locks and registry change together.

    Args:
        locks: which profiles are in use, and which are held here.
        registry: is told what is active.
        clock: the present moment.
    """

    def __init__(
        self,
        locks: ProfileLockManager,
        registry: ProfileRegistry,
        clock: Callable[[], datetime],
    ) -> None:
        self._locks = locks
        self._registry = registry
        self._clock = clock
        self.switching = threading.RLock()
        """Held while what is active changes."""

    def is_mine(self, profile_id: str) -> bool:
        """Whether it is what this object activated last, and still holds."""
        return profile_id in self._locks.held and self._registry.get_active() == profile_id

    @contextmanager
    def taking(self, profile_id: str, hold: Callable[[], object]) -> Iterator[None]:
        """Hold a profile's lock while it is activated, and from then on if that succeeds.

        Args:
            profile_id: which.
            hold: takes the lock.
        """
        was_held = profile_id in self._locks.held
        hold()
        try:
            yield
        except BaseException:  # Ctrl-C as well
            if not was_held:
                self._locks.release(profile_id)
            raise
        self._registry.set_active(profile_id)

    def switch(
        self, repository: Repository, profile_id: str, pid: int | None, command: str
    ) -> dict[str, Any]:
        """Commit that a profile is active, and that others are not any more.

        Args:
            repository: where.
            profile_id: an existing profile whose lock is held here.
            pid: the process that goes on holding it; None if it is only selected.
            command: for the history.

        Returns:
            The profile's metadata then.
        """
        left: list[str] = []
        change: Transaction | None = None
        try:
            with changes.begin(
                repository, self._locks, "activate", [profile_id], command=command
            ) as change:
                value, left = self._put(change, repository, profile_id, pid)
        finally:
            # Also if a Ctrl-C came just after the commit point.
            if change is not None and change.commit_id is not None:
                self._let_go(left)
        return value

    def _put(
        self, change: Transaction, repository: Repository, profile_id: str, pid: int | None
    ) -> tuple[dict[str, Any], list[str]]:
        """Put an activation into a change: the profile's metadata then, and whom it leaves."""
        # Again, now that nobody can change it.
        value = healthy(change, profile_id)
        if not self._locks.is_current(profile_id):
            raise ConcurrentChangeError(
                f"profile '{profile_id}' was deleted and made anew just now",
                hint="run the command again",
                profile_id=profile_id,
            )
        left = [
            other
            for other in change.head.active
            if other != profile_id and self._is_to_leave(change, repository, other)
        ]
        selected = value["status"] == "active" and value.get("lock_pid") is None
        if selected and pid is None and not left:
            # An id of a process says nothing: one that died may have had the same.
            return value, []
        for other in left:
            changes.set_inactive(change, other)
        directories.complete(
            repository,
            profile_id,
            str(value["platform"]),
            parse_time(value["created_at"]),
        )
        now = format_time(self._clock())
        value = {**value, "lock_pid": pid, "status": "active", "last_used": now}
        change.put_metadata(profile_id, value)
        was = f" (was {changes.name_some(left)})" if left else ""
        change.summary = f"activate {profile_id}{was}"
        return value, left

    def _is_to_leave(self, change: Transaction, repository: Repository, profile_id: str) -> bool:
        """Whether an active profile is held here, or by nobody alive."""
        if not change.exists(profile_id):
            return False
        guard = self._locks.guard
        if guard is not None and guard.is_lost(profile_id):
            return False  # it is not ours to change any more
        found = repository.work_tree.examine(change.head, profile_id)
        if found is None or found.state not in ("clean", "edited"):
            return False  # damaged: left to a recovery, its bytes stay
        return self._may_deactivate(profile_id)

    def _may_deactivate(self, profile_id: str) -> bool:
        return profile_id in self._locks.held or not self._locks.is_locked(profile_id)

    def deactivate(
        self, repository: Repository, profile_id: str, command: str
    ) -> dict[str, Any] | None:
        """Commit that a profile is not active any more, and let go of it.

        Returns:
            Its metadata then; None if it was not active, or is another program's.
        """
        value = None
        try:
            with changes.begin(
                repository, self._locks, "deactivate", [profile_id], command=command
            ) as change:
                found = change.examine(profile_id)
                if (
                    found is not None
                    and found.metadata is not None
                    and found.metadata["status"] == "active"
                    # What was only selected may have got a holder meanwhile.
                    and self._may_deactivate(profile_id)
                ):
                    changes.set_inactive(change, profile_id)
                    change.summary = f"deactivate {profile_id}"
                    value = change.metadata(profile_id)
        finally:
            self._locks.release(profile_id)
            self._registry.set_active(None)
        return value

    def _let_go(self, profile_ids: Iterable[str]) -> None:
        """Release what a change has deactivated, as far as it is held here."""
        for profile_id in profile_ids:
            self._locks.release(profile_id)
            if self._registry.get_active() == profile_id:
                self._registry.set_active(None)

    def forget(self, profile_ids: Iterable[str]) -> None:
        """Let go of profiles that were deleted."""
        for profile_id in profile_ids:
            self._locks.release(profile_id)
            self._registry.unregister(profile_id)

    def release_lost(self, look: Callable[[str], Profile]) -> None:
        """Let go of profiles that an undo or a redo deactivated or removed.

        Args:
            look: gives a profile as it is now.
        """
        with self.switching:
            for profile_id in self._locks.held:
                try:
                    # One that somebody has damaged is active all the same, and in use here.
                    if look(profile_id).status == "inactive":
                        self._let_go([profile_id])
                except ProfileNotFoundError:
                    self.forget([profile_id])
                except (TweakioError, OSError) as error:
                    # The change has taken place; what is held stays held until it is known.
                    log.warning("profile %s cannot be read: %s", profile_id, error)

    def release_all(self) -> None:
        """Let go of everything, without a commit."""
        self._locks.release_all()
        self._registry.set_active(None)


class Closable(Protocol):
    """What ``AtExit`` closes."""

    def close(self) -> None:
        """Release everything."""


class AtExit:
    """Closes an object when the program ends, unless that was called off or it is gone.

    A forked child inherits the handler, and does nothing in it: the parent's is not its own.
    """

    def __init__(self) -> None:
        self._handler: Callable[[], None] | None = None

    def register(self, target: Closable) -> None:
        """Close the target at the end; nothing to do if that is so already."""
        if self._handler is not None:
            return
        reference = weakref.ref(target)
        owner = os.getpid()

        def close() -> None:
            found = reference()
            if found is not None and os.getpid() == owner:
                try:
                    found.close()
                except TweakioError as error:
                    log.warning("the active profile could not be deactivated: %s", error)

        self._handler = close
        atexit.register(close)

    def call_off(self) -> None:
        """Do nothing at the end."""
        if self._handler is not None:
            atexit.unregister(self._handler)
            self._handler = None
