"""One of the many: random operations on random profiles, everything written down."""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import random
import signal
import time
import traceback
from typing import TYPE_CHECKING, Any

import psutil

from tests.concurrency.journal import Journal
from tweakio import ProfileManager, identity
from tweakio.errors import (
    ConcurrentChangeError,
    LockTimeoutError,
    NothingToUndoError,
    ProfileActiveError,
    ProfileExistsError,
    ProfileNotFoundError,
    TweakioError,
)
from tweakio.store.lockfile import RecordedLock
from tweakio.store.locks import ProfileLockManager
from tweakio.store.transaction import Transaction

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tweakio.layout import Layout

__all__ = ["Worker"]

# What each operation may answer when others are at work. Everything else is a finding.
_REFUSALS: dict[str, tuple[type[TweakioError], ...]] = {
    "create": (ProfileExistsError, LockTimeoutError),
    "activate": (ProfileNotFoundError, ConcurrentChangeError, LockTimeoutError),
    "select": (ProfileNotFoundError, ConcurrentChangeError, LockTimeoutError),
    "deactivate": (LockTimeoutError,),
    "delete": (ProfileNotFoundError, ProfileActiveError, LockTimeoutError),
    "undo": (NothingToUndoError, ProfileActiveError, LockTimeoutError),
    "list": (),
}
_WEIGHTS = {
    "create": 24,
    "activate": 26,
    "select": 14,
    "deactivate": 8,
    "delete": 18,
    "undo": 6,
    "list": 4,
}


class WatchedLocks(ProfileLockManager):
    """The library's own locks, with a note of when this process had which lock file."""

    journal: Journal

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self._places = layout
        self._noted: dict[str, str] = {}

    def acquire(self, profile_id: str, timeout: float = 30.0):
        held = super().acquire(profile_id, timeout)
        if profile_id not in self._noted:
            # The file, not the name: a profile that was deleted and made anew has another.
            status = os.fstat(self._held[profile_id].descriptor)
            key = f"{profile_id} (inode {status.st_ino})"
            self._noted[profile_id] = key
            self.journal.say("lock", key=key)
        return held

    def release(self, profile_id: str) -> None:
        key = self._noted.pop(profile_id, None)
        if key is not None:
            self.journal.say("unlock", key=key)
        super().release(profile_id)


class Worker:
    """Runs until its time is over.

    Args:
        home: the home that all share.
        run: where journals and sentinels are.
        name: unique among the processes of the campaign, the killed ones included.
        names: the profile names to use.
        seed: of everything random here.
    """

    def __init__(self, home: Path, run: Path, name: str, names: list[str], seed: str) -> None:
        self.home = home
        self.run = run
        self.name = name
        self.names = names
        self.random = random.Random(seed)
        self.journal = Journal(run / "journals", name)
        self.number = 0
        self.commits: list[str] = []
        self.worst = {"repository.lock": 0.0, ".lock": 0.0}
        self.holding: str | None = None
        self.manager: ProfileManager = self._manager()

    def main(self, until: float) -> None:
        faulthandler.register(signal.SIGUSR1, (self.run / f"{self.name}.stack").open("w"))
        logging.getLogger("tweakio").setLevel(logging.CRITICAL)
        os.environ["GIT_AUTHOR_NAME"] = self.name
        os.environ["GIT_AUTHOR_EMAIL"] = f"{self.name}@campaign.example"
        identity.author.cache_clear()
        WatchedLocks.journal = self.journal
        self._watch_commits()
        self._watch_waits()
        operations = list(_WEIGHTS)
        weights = list(_WEIGHTS.values())
        while time.monotonic() < until:
            if self.random.random() < 0.05:
                self._close()
                self.manager = self._manager()
            self._step(self.random.choices(operations, weights)[0])
        self._close()
        self.journal.say("end")

    def _manager(self) -> ProfileManager:
        return ProfileManager(self.home, lock_manager=WatchedLocks)

    # Watching

    def _watch_commits(self) -> None:
        original = Transaction.commit
        commits = self.commits

        def commit(transaction: Transaction) -> str | None:
            found = original(transaction)
            if found is not None:
                commits.append(found)
            return found

        Transaction.commit = commit  # type: ignore[method-assign]

    def _watch_waits(self) -> None:
        original = RecordedLock.acquire

        def acquire(lock: RecordedLock, timeout: float) -> object:
            began = time.monotonic()
            try:
                return original(lock, timeout)
            finally:
                waited = time.monotonic() - began
                if waited > self.worst.get(lock.path.name, 0.0):
                    self.worst[lock.path.name] = waited
                    self.journal.say("wait", lock=lock.path.name, seconds=waited)

        RecordedLock.acquire = acquire  # type: ignore[method-assign, assignment]

    # Operations

    def _step(self, operation: str) -> None:
        profile = self.random.choice(self.names)
        if self.holding is not None and operation in ("activate", "deactivate", "undo", "delete"):
            self._check_held()
        getattr(self, f"_{operation}")(profile)
        if self.holding is not None and self.random.random() < 0.7:
            time.sleep(self.random.uniform(0.0, 0.05))
            self._deactivate("")

    def _do(
        self, operation: str, profile: str, work: Callable[[], Any], **intent: Any
    ) -> tuple[bool, Any]:
        """Run one operation between its two lines; whether it was acknowledged, its result."""
        self.number += 1
        marker = f"{self.name}-{self.number}"
        # Told to the history as the command that ran: every commit then names its intent.
        self.manager._command = marker
        self.commits.clear()
        self.journal.say(
            "intent", marker=marker, operation=operation, profile=profile, pid=os.getpid(), **intent
        )
        try:
            result = work()
        except _REFUSALS[operation] as error:
            self._refused(marker, error)
        except Exception as error:
            self._refused(marker, error)
            text = "".join(traceback.format_exception(error))[-3000:]
            self.journal.say("violation", text=f"{operation} {profile}: unexpected {text}")
        else:
            self.journal.say("done", marker=marker, commits=list(self.commits))
            return True, result
        return False, None

    def _refused(self, marker: str, error: Exception) -> None:
        self.journal.say("refused", marker=marker, error=type(error).__name__, text=str(error))

    def _create(self, profile: str) -> None:
        note = f"{self.name}-{self.number + 1}"
        self._do(
            "create",
            profile,
            lambda: self.manager.create_profile(profile, "custom", note=note, tags=[self.name]),
            note=note,
        )

    def _activate(self, profile: str) -> None:
        before = self.holding
        if profile == before:
            return
        timeout = self.random.choice((0.0, 0.1, 1.0, 30.0))
        # What is held is let go in the same step, at a moment that only the library knows.
        self._drop()
        done, _ = self._do(
            "activate", profile, lambda: self.manager.activate_profile(profile, timeout)
        )
        if done:
            self._hold(profile)
        elif before is not None and before in self.manager.locks.held:
            self._hold(before)

    def _select(self, profile: str) -> None:
        if profile == self.holding:
            return
        timeout = self.random.choice((0.0, 0.1, 1.0))
        before = self.holding
        self._drop()  # a selection deactivates what this process has active
        self._do("select", profile, lambda: self.manager.select_profile(profile, timeout))
        if before is not None and before in self.manager.locks.held:
            if self.manager.get_profile(before).status == "active":
                self._hold(before)
            else:
                self._deactivate("")

    def _deactivate(self, _: str) -> None:
        profile = self.holding or ""
        if profile:
            self._check_held()
        self._drop()
        self._do("deactivate", profile, self.manager.deactivate_profile)

    def _delete(self, profile: str) -> None:
        if profile == self.holding:
            self._drop()
        force, purge = self.random.random() < 0.2, self.random.random() < 0.1
        self._do(
            "delete",
            profile,
            lambda: self.manager.delete_profile(profile, force, purge=purge),
            force=force,
        )
        if self.holding is None:
            for left in self.manager.locks.held:
                self._hold(left)

    def _undo(self, _: str) -> None:
        if self.holding is not None:
            self._deactivate("")
        self._do("undo", "", self.manager.undo)

    def _list(self, _: str) -> None:
        for _ in range(3):
            done, found = self._do("list", "", self.manager.list_profiles)
            for profile in found if done else ():
                if profile.status == "corrupted":
                    self.journal.say(
                        "violation", text=f"{profile.id} listed as corrupted: {profile.problem}"
                    )

    def _close(self) -> None:
        profile = self.holding or ""
        if profile:
            self._check_held()
        self._drop()
        self._do("deactivate", profile, self.manager.close)

    # Holding: nobody else may, from the moment the library said so to the next call

    def _hold(self, profile: str) -> None:
        self.journal.say("hold", key=profile)
        self.holding = profile
        path = self.run / "sentinels" / profile
        mine = self.run / f"{self.name}.sentinel"
        mine.write_text(json.dumps([os.getpid(), self.name]))
        deadline = time.monotonic() + 5.0
        while True:
            try:
                os.link(mine, path)  # exclusive, and never seen without its content
            except FileExistsError:
                other = self._other(path)
                if other is not None and _is_gone(other[0]):
                    # It was killed while it held the profile; that is no violation.
                    path.unlink()
                    continue
                if time.monotonic() < deadline and other is not None:
                    time.sleep(0.001)
                    continue
                self.journal.say("violation", text=f"{profile} is held by {self.name} and {other}")
                return
            return

    def _other(self, path: Path) -> tuple[int, str] | None:
        try:
            pid, name = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        return pid, name

    def _drop(self) -> None:
        profile, self.holding = self.holding, None
        if profile is None:
            return
        path = self.run / "sentinels" / profile
        other = self._other(path)
        if other is None or other[0] != os.getpid():
            self.journal.say("violation", text=f"{profile}: the sentinel of {self.name} is {other}")
        else:
            path.unlink()
        self.journal.say("drop", key=profile)

    def _check_held(self) -> None:
        """While it is held, the profile stays what its holder made it."""
        found = None
        try:
            found = self.manager.get_profile(str(self.holding))
        except TweakioError as error:
            self.journal.say("violation", text=f"held profile {self.holding}: {error!r}")
            return
        state = (found.status, found.in_use, found.lock_pid)
        if state != ("active", True, os.getpid()):
            self.journal.say(
                "violation", text=f"{self.holding}, held by {self.name} ({os.getpid()}), is {state}"
            )


def _is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return True
