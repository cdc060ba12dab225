"""Browsers whose program died: found, and ended in order."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tweakio.browser import engines, processes
from tweakio.browser.locks import this_host
from tweakio.browser.processes import Process
from tweakio.errors import BrowserLockedError
from tweakio.models import LockRecord
from tweakio.store.lockfile import read_record
from tweakio.store.processes import is_alive
from tweakio.store.system_lock import is_held

if TYPE_CHECKING:
    from pathlib import Path

    from tweakio.browser.pausing import Pauses
    from tweakio.browser.record import Running
    from tweakio.layout import ProfilePaths

__all__ = ["browsers_of", "end_left", "end_orphans", "orphans_of", "still_runs"]

log = logging.getLogger(__name__)

# A browser whose program died notices that by itself, and closes in order.
_BY_ITSELF = 5.0
_HELPERS = 2.0


def browsers_of(user_data: Path) -> list[Process]:
    """The browsers of any engine that run on a directory, without their helper processes."""
    return [found for engine in engines.every() for found in engine.processes_of(user_data)]


def _helpers_of(user_data: Path) -> list[Process]:
    return [found for engine in engines.every() for found in engine.helpers_of(user_data)]


def orphans_of(paths: ProfilePaths) -> list[Process]:
    """The browsers that hold a profile's lock for a program that is dead.

    A new holder writes its record before it starts a browser. So what is found before the
    record of the dead one is read is not a new holder's.
    """
    if (record := read_record(paths.lock)) is None or is_alive(record) is not False:
        return []
    found = browsers_of(paths.browser_profile)
    return found if is_held(paths.lock) and read_record(paths.lock) == record else []


def end_orphans(paths: ProfilePaths, profile_id: str) -> Pauses[bool]:
    """End the browsers of a dead program; takes 8 seconds if they hang.

    Args:
        paths: of the profile.
        profile_id: for messages.

    Returns:
        Whether there was one.

    Raises:
        BrowserLockedError: one cannot be ended.
    """
    found = orphans_of(paths)
    if found:
        yield from _end(paths.browser_profile, profile_id, found)
    return bool(found)


def still_runs(running: Running) -> bool:
    """Whether a recorded browser still runs, on this machine."""
    record = LockRecord(running.pid, running.start, running.boot, running.host)
    return running.pid > 0 and is_alive(record) is True


def end_left(paths: ProfilePaths, profile_id: str, running: Running) -> Pauses[None]:
    """End a recorded browser that does not hold the lock, and what is left of a dead one.

    Args:
        paths: of a profile whose lock is held.
        profile_id: for messages.
        running: from its record.

    Raises:
        BrowserLockedError: it cannot be ended.
    """
    if running.host != this_host():
        return
    found: list[Process] = []
    if still_runs(running):
        found = [Process(running.pid, running.start)]
    elif running.pid == 0:
        # Its program died before it knew, where there is no launcher to tell it in time.
        found = browsers_of(paths.browser_profile)
    yield from _end(paths.browser_profile, profile_id, found)


def _end(user_data: Path, profile_id: str, found: list[Process]) -> Pauses[None]:
    try:
        if found:
            log.warning(
                "profile %s has a browser, process %d, whose program is gone; ending it",
                profile_id,
                found[0].pid,
            )
            yield from processes.end(found, by_itself=_BY_ITSELF)
        if not browsers_of(user_data):
            # Its helpers end with it, unless they hang.
            yield from processes.end(_helpers_of(user_data), by_itself=_HELPERS, asked=0)
    except (PermissionError, TimeoutError) as error:
        raise BrowserLockedError(
            f"the browser of profile '{profile_id}' whose program is gone cannot be ended: {error}",
            hint="end it yourself, and run this again",
            profile_id=profile_id,
            pid=found[0].pid if found else 0,
        ) from error
