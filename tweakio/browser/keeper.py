"""One profile's browser, from the profile's lock to the browser's end."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING

from tweakio import durable
from tweakio.browser import engines, finder, processes, record
from tweakio.browser.data import refuse_link
from tweakio.browser.launcher import Launcher, can_hand_over
from tweakio.browser.locks import clear_dead_lock
from tweakio.browser.orphans import end_left, end_orphans
from tweakio.browser.pausing import aside
from tweakio.browser.processes import Process, is_running, this_one
from tweakio.browser.record import Running
from tweakio.errors import BrowserError, LockTimeoutError, storage_error
from tweakio.models import utc_now
from tweakio.shelter import shelter
from tweakio.store.processes import own_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tweakio.browser.engines import Engine
    from tweakio.browser.finder import Found
    from tweakio.browser.pausing import Pauses
    from tweakio.layout import Layout
    from tweakio.store.locks import ProfileLockManager

__all__ = ["HANGS", "Keeper"]

log = logging.getLogger(__name__)

_POLL = 0.1
# A browser that was told to close, or lost its driver, has this long before it is ended.
_CLOSES = 10.0
HANGS = 2.0
"""Seconds for a browser that did not answer, and has been let go on if it was stopped."""


class Keeper:
    """Lets one browser run on a profile, and no other beside it.

    Args:
        profile_id: an existing profile.
        layout: the home.
        locks: the holder for which the profile is locked.
        engine: the kind of browser.
        found: the browser.
    """

    def __init__(
        self,
        profile_id: str,
        layout: Layout,
        locks: ProfileLockManager,
        engine: Engine,
        found: Found,
    ) -> None:
        self.profile_id = profile_id
        self.process: Process | None = None
        """The browser, once it has been started."""
        self._cache = layout.browser_cache
        self._paths = layout.profile(profile_id)
        self._locks = locks
        self._engine = engine
        self._found = found
        self._descriptor = -1

    def take(self, timeout: float, look: Callable[[], None], *, force: bool) -> Pauses[None]:
        """Lock the profile, and make sure that no browser runs on it.

        Args:
            timeout: seconds to wait for another holder.
            look: is called when the profile is locked, and raises if it is not there any more.
            force: take another machine's lock of a browser for dead.

        Raises:
            LockTimeoutError: another program has it.
            BrowserLockedError: a browser has it that is not ours to end.
            StorageError: a directory cannot be made.
        """
        yield from self._lock(timeout)
        try:
            look()
            yield from self._clear(force=force)
        except OSError as error:
            self.give_up()
            raise storage_error(error, f"prepare the browser of '{self.profile_id}'") from error
        except BaseException:
            self.give_up()
            raise

    def _lock(self, timeout: float) -> Pauses[None]:
        deadline = time.monotonic() + timeout
        while True:
            try:
                self._descriptor = self._locks.acquire_for_browser(
                    self.profile_id, 0, guarded=False
                )
                break
            except LockTimeoutError:
                left = deadline - time.monotonic()
                if not (yield from end_orphans(self._paths, self.profile_id)):
                    if left <= 0:
                        raise
                    yield _POLL
        guard = self._locks.guard
        if guard is not None:
            try:
                # A backend on another machine may take seconds to answer.
                yield from aside(lambda: guard.take(self.profile_id))
            except BaseException:
                self.give_up()
                raise

    def _clear(self, *, force: bool) -> Pauses[None]:
        for path in (self._paths.browser_profile, self._paths.cache):
            _own_directory(path)
        shelter(self._paths.browser_profile)
        kept = record.read(self._paths)
        if kept.running is not None:
            yield from end_left(self._paths, self.profile_id, kept.running)
            kept = kept.after_unclean_exit(utc_now())
            log.warning(
                "the browser of profile %s was not closed in order the last time",
                self.profile_id,
            )
        clear_dead_lock(self._engine, self._paths.browser_profile, self.profile_id, force=force)
        if engines.of_data(self._paths.browser_profile) is None:
            # Until it has been used, what session.json holds is all there is of a session.
            kept = kept._replace(session_to_import=True)
        self._record = kept

    @property
    def session_to_import(self) -> bool:
        """Whether session.json has to be put into the browser."""
        login = self._record.login
        return self._record.session_to_import and (login is None or login.state != "logged_in")

    def session_imported(self) -> None:
        """It has been put there, or there was nothing to put."""
        if self._record.session_to_import:
            self._record = record.read(self._paths)._replace(session_to_import=False)
            record.write(self._paths, self._record)

    @contextlib.contextmanager
    def starting(self) -> Iterator[str]:
        """What to start instead of the browser, while it is being started.

        Raises:
            StorageError: the record could not be written; no browser runs then.
        """
        if not can_hand_over():
            self._note(None)
            yield self._found.path
            return
        with Launcher(self._found.path, self._descriptor, self._started) as launcher:
            try:
                yield launcher.program
            except Exception as error:
                if isinstance(launcher.failure, OSError):
                    raise storage_error(
                        launcher.failure, f"note the browser of '{self.profile_id}'"
                    ) from error
                raise

    def _started(self, pid: int) -> None:
        """The browser's process is there; it becomes the browser when this returns."""
        self.process = this_one(pid)
        self._note(self.process)

    def _note(self, process: Process | None) -> None:
        me = own_record()
        running = Running(
            pid=process.pid if process else 0,
            start=process.start if process else 0.0,
            boot=me.boot,
            host=me.host,
            engine=self._engine.name,
            version=self._found.version,
            opened_at=utc_now(),
        )
        self._record = self._record._replace(running=running)
        record.write(self._paths, self._record)

    def launched(self) -> None:
        """It runs: learn what was not known before."""
        if self.process is None:
            found = self._engine.processes_of(self._paths.browser_profile)
            if found:
                self.process = found[0]
                self._note(self.process)
        version = self._engine.version_of_data(self._paths.browser_profile)
        if version is not None and version != self._found.version:
            log.info("the browser is %s by now, not %s", version, self._found.version)
            finder.forget(self._found.path, self._cache)

    def finish(self, *, by_itself: float = _CLOSES) -> Pauses[None]:
        """See the browser end, write down how, and let go of the profile.

        Args:
            by_itself: seconds that it has for closing, before it is ended.

        Raises:
            BrowserError: it cannot be ended; the profile stays locked.
        """
        in_order = True
        try:
            if self.process is not None:
                in_order = yield from self._end(self.process, by_itself)
            self._write_down(in_order=in_order)
        except (PermissionError, TimeoutError) as error:
            raise BrowserError(
                f"the browser of profile '{self.profile_id}' cannot be ended: {error}",
                hint="end it yourself",
                profile_id=self.profile_id,
            ) from error
        self.process = None
        if self._locks.guard is None:
            self.give_up()
        else:
            yield from aside(self.give_up)

    def _end(self, process: Process, by_itself: float) -> Pauses[bool]:
        in_order = yield from processes.end([process], by_itself=by_itself)
        user_data = self._paths.browser_profile
        # A browser that closes takes its lock away.
        if in_order and self._engine.lock_of(user_data) is None:
            return True
        yield from processes.end(self._engine.helpers_of(user_data), by_itself=2.0, asked=0)
        log.warning(
            "the browser of profile %s, process %d, did not end in order",
            self.profile_id,
            process.pid,
        )
        return False

    def _write_down(self, *, in_order: bool) -> None:
        """Errors here are no reason to keep the profile locked: the next opener looks again."""
        kept = record.read(self._paths)
        if kept.running is None and in_order:
            return
        now = kept._replace(running=None) if in_order else kept.after_unclean_exit(utc_now())
        try:
            record.write(self._paths, now)
        except OSError as error:
            log.warning("the end of the browser of %s is not noted: %s", self.profile_id, error)

    @property
    def runs(self) -> bool:
        """Whether the browser has not ended."""
        return self.process is None or is_running(self.process)

    def end_hung(self) -> Pauses[None]:
        """End a browser that does not close; ``finish`` follows."""
        if self.process is not None:
            with contextlib.suppress(PermissionError, TimeoutError):
                yield from processes.end([self.process], by_itself=HANGS)

    def end_for_another(self, by_itself: float) -> Pauses[None]:
        """Have the browser closed because the profile is another's by now; ``finish`` follows.

        Args:
            by_itself: seconds that it has for closing, before it is asked to by a signal.
        """
        process = self.process
        if process is not None:
            with contextlib.suppress(PermissionError, TimeoutError):
                yield from processes.end([process], by_itself=by_itself)

    def end_driver(self) -> None:
        """End Playwright's driver, so that the browser closes by itself; ``finish`` follows."""
        if self.process is not None:
            processes.end_parent(self.process)

    def give_up(self) -> None:
        """Let go of the profile; no browser runs on it."""
        self._descriptor = -1
        self._locks.release_for_browser(self.profile_id)


def _own_directory(path: Path) -> None:
    """Make a directory if it is missing.

    Raises:
        BrowserError: a link is there: two profiles may lead to one place.
    """
    durable.make_directory(path)
    refuse_link(path, path.parent.name)
