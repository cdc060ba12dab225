"""One of the many: random operations on random profiles, everything written down."""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import random
import select
import signal
import sys
import time
import traceback
from contextlib import contextmanager
from datetime import datetime, timedelta
from hashlib import sha1
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from tests.concurrency.journal import Journal
from tweakio import ProfileManager, identity
from tweakio.errors import (
    ConcurrentChangeError,
    LockTimeoutError,
    NothingToRedoError,
    NothingToUndoError,
    ProfileActiveError,
    ProfileCorruptedError,
    ProfileExistsError,
    ProfileNotFoundError,
    RevisionNotFoundError,
    TweakioError,
)
from tweakio.models import format_time, utc_now
from tweakio.store.lockfile import RecordedLock
from tweakio.store.locks import ProfileLockManager
from tweakio.store.transaction import Transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tweakio.layout import Layout
    from tweakio.models import Change, Profile, RecoveryMode

__all__ = ["Worker", "digest"]

# What each operation may answer when others are at work. Everything else is a finding.
_REFUSALS: dict[str, tuple[type[TweakioError], ...]] = {
    "create": (ProfileExistsError, LockTimeoutError),
    "activate": (
        ProfileNotFoundError,
        ProfileCorruptedError,
        ConcurrentChangeError,
        LockTimeoutError,
    ),
    "select": (
        ProfileNotFoundError,
        ProfileCorruptedError,
        ConcurrentChangeError,
        LockTimeoutError,
    ),
    "deactivate": (LockTimeoutError,),
    "delete": (ProfileNotFoundError, ProfileActiveError, LockTimeoutError),
    "update": (ProfileNotFoundError, ProfileCorruptedError, LockTimeoutError),
    "recover": (ProfileNotFoundError, ProfileActiveError, LockTimeoutError),
    "restore": (RevisionNotFoundError, ProfileActiveError, LockTimeoutError),
    "undo": (NothingToUndoError, ProfileActiveError, ConcurrentChangeError, LockTimeoutError),
    "redo": (NothingToRedoError, ProfileActiveError, ConcurrentChangeError, LockTimeoutError),
    "list": (),
    "history": (),
}
_WEIGHTS = {
    "create": 14,
    "activate": 14,
    "select": 8,
    "deactivate": 5,
    "delete": 10,
    "update": 8,
    "recover": 4,
    "damage": 2,
    "restore": 4,
    "undo": 4,
    "redo": 3,
    "list": 48,
    "history": 24,
}


class WatchedLocks(ProfileLockManager):
    """The library's own locks, with a note of when this process had which lock file."""

    journal: Journal

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self._places = layout
        self._noted: dict[str, str] = {}

    def acquire(self, profile_id: str, timeout: float = 30.0):
        if profile_id not in self._noted:
            self.journal.say("taking", key=profile_id, pid=os.getpid())
        try:
            held = super().acquire(profile_id, timeout)
        except BaseException:
            self.journal.say("let go", key=profile_id)
            raise
        if profile_id not in self._noted:
            # The file, not the name: a profile that was deleted and made anew has another.
            status = os.fstat(self._held[profile_id].descriptor)
            key = f"{profile_id} (inode {status.st_ino})"
            self._noted[profile_id] = key
            self.journal.say("lock", key=key, pid=os.getpid())
        return held

    @contextmanager
    def hold_without_lease(self, profile_id: str) -> Iterator[None]:
        self.journal.say("taking", key=profile_id, pid=os.getpid())
        try:
            with super().hold_without_lease(profile_id):
                yield
        finally:
            self.journal.say("let go", key=profile_id)

    def release(self, profile_id: str) -> None:
        key = self._noted.pop(profile_id, None)
        if key is not None:
            self.journal.say("unlock", key=key)
        super().release(profile_id)
        if key is not None:
            self.journal.say("let go", key=profile_id)


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
        self.unmended: str | None = None
        self.offset = self._some_time()
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
            if self.random.random() < 0.02:
                self._close()
                self.manager = self._manager()
            if self.random.random() < 0.02:
                self._step_clock()
            self._step(self.random.choices(operations, weights)[0])
        self._close()
        self.journal.say("end")

    def _manager(self) -> ProfileManager:
        return ProfileManager(self.home, lock_manager=WatchedLocks, clock=self._clock)

    # A clock that is wrong, and steps

    def _clock(self) -> datetime:
        return utc_now() + self.offset

    def _some_time(self) -> timedelta:
        """A day to ten years, in either direction."""
        return timedelta(days=self.random.choice((-1, 1)) * 3650 ** self.random.random())

    def _step_clock(self) -> None:
        self.offset = self._some_time()
        if path := os.environ.get("FAKETIME_TIMESTAMP_FILE"):
            # Of the whole process: libfaketime looks into this file once a second.
            Path(path).write_text(f"{self._some_time().total_seconds():+.0f}\n")

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
            answer = _ANSWER[operation](result) if operation in _ANSWER else None
            self.journal.say("done", marker=marker, commits=list(self.commits), answer=answer)
            return True, result
        return False, None

    def _refused(self, marker: str, error: Exception) -> None:
        self.journal.say("refused", marker=marker, error=type(error).__name__, text=str(error))

    def _create(self, profile: str) -> None:
        note = f"{self.name}-{self.number + 1}"
        names = [profile]
        if self.random.random() < 0.1:
            names = self.random.sample(self.names, 2)
        self._do(
            "create",
            names[0],
            lambda: self.manager.create_profiles(names, "custom", note=note, tags=[self.name]),
            names=names,
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

    def _update(self, profile: str) -> None:
        note = f"{self.name}-{self.number + 1}"
        self._do(
            "update", profile, lambda: self.manager.update_profiles([profile], note=note), note=note
        )

    def _recover(self, profile: str) -> None:
        if self.holding is not None:
            self._deactivate("")
        mode: RecoveryMode = self.random.choice(("soft", "hard"))
        self._do("recover", profile, lambda: self.manager.recover_profile(profile, mode), mode=mode)

    def _damage(self, profile: str) -> None:
        """Spoil a file of a profile that nobody else may touch now, and mend it."""
        self._activate(profile)
        if self.holding != profile:
            return
        self._check_held()
        self.journal.say("damage", key=profile, pid=os.getpid())
        path = self.manager.layout.profile(profile).metadata
        path.write_bytes(b'{"profile_id"')
        done, _ = self._do(
            "recover", profile, lambda: self.manager.recover_profile(profile), mode="soft"
        )
        if done:
            self.journal.say("mended", key=profile)
        else:  # a wait that was too long: it stays as it is until somebody else recovers it
            self.unmended = profile

    def _restore(self, profile: str) -> None:
        if self.holding is not None:
            self._deactivate("")
        found = self._history(profile)
        if found:
            revision = self.random.choice(found).revision
            self._do(
                "restore",
                profile,
                lambda: self.manager.restore(profile, revision),
                revision=revision,
            )

    def _undo(self, _: str) -> None:
        if self.holding is not None:
            self._deactivate("")
        self._do("undo", "", self.manager.undo)
        if self.random.random() < 0.5:
            self._redo("")  # before somebody changes something else

    def _redo(self, _: str) -> None:
        if self.holding is not None:
            self._deactivate("")
        self._do("redo", "", self.manager.redo)

    def _list(self, _: str) -> None:
        self._do("list", "", self.manager.list_profiles)

    def _history(self, _: str) -> list[Change]:
        _, found = self._do("history", "", lambda: self.manager.history(limit=8))
        return found or []

    def _close(self) -> None:
        profile = self.holding or ""
        if profile:
            self._check_held()
        self._drop()
        self._do("deactivate", profile, self.manager.close)

    # Holding: nobody else may, from the moment the library said so to the next call

    def _hold(self, profile: str) -> None:
        self.journal.say("hold", key=profile, pid=os.getpid())
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
        profile, self.holding, self.unmended = self.holding, None, None
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
        allowed = [("active", True, os.getpid())]
        if self.unmended == self.holding:
            allowed.append(("corrupted", True, os.getpid()))
        if state not in allowed:
            self.journal.say(
                "violation", text=f"{self.holding}, held by {self.name} ({os.getpid()}), is {state}"
            )


def digest(created: str, last_used: str, note: str, tags: Iterable[str]) -> str:
    """What a listing shows of a profile besides its state, in a few digits."""
    return sha1(" ".join((created, last_used, note, *tags)).encode()).hexdigest()[:10]


def _listed(profiles: list[Profile]) -> str:
    """A listing as one text: it may be judged much later, and there are many."""
    return ";".join(
        " ".join(
            (
                item.id,
                item.status,
                str(int(item.in_use)),
                digest(
                    format_time(item.created_at) if item.created_at else "",
                    format_time(item.last_used) if item.last_used else "",
                    item.note,
                    item.tags,
                ),
            )
        )
        for item in profiles
    )


_ANSWER: dict[str, Callable[[Any], str]] = {
    "list": _listed,
    "history": lambda changes: " ".join(change.revision for change in changes),
}


def _is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return True


if __name__ == "__main__":
    # One whose whole process has another time: libfaketime is loaded by the dynamic linker.
    # Its clock_nanosleep refuses what time.sleep asks for; its select does not.
    time.sleep = lambda seconds: select.select([], [], [], seconds)  # type: ignore[assignment]
    home, run, name, names, seed, until = sys.argv[1:]
    Worker(Path(home), Path(run), name, names.split(), seed).main(float(until))
