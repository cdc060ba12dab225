"""Whether a profile's browser is open, and whose it is. Looking changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from tweakio.browser import engines
from tweakio.browser.data import live_browser
from tweakio.browser.locks import this_host
from tweakio.browser.orphans import browsers_of, still_runs
from tweakio.browser.record import BrowserRecord, read
from tweakio.store.lockfile import read_record
from tweakio.store.processes import is_alive
from tweakio.store.system_lock import is_held

if TYPE_CHECKING:
    from tweakio.layout import Layout, ProfilePaths
    from tweakio.models import LockRecord

__all__ = ["BrowserState", "BrowserStatus", "browser_state", "browser_status"]


class BrowserState(NamedTuple):
    """What a profile's browser does.

    Attributes:
        kind: ``closed``; ``open``; ``orphaned``: it runs, and the program that opened it is
            gone, so the next one to open the profile ends it; ``other_host``: another machine
            has it, or had it when it was last heard of.
        pid: the browser's process; None if there is none, or it is not known.
        host: the machine; None if there is no browser.
        owner: the program that has it open; None if there is none.
    """

    kind: Literal["closed", "open", "orphaned", "other_host"]
    pid: int | None = None
    host: str | None = None
    owner: int | None = None


class BrowserStatus(NamedTuple):
    """A profile's browser now, and what is kept of it.

    Attributes:
        state: what it does.
        record: how it ended, and whether it is logged in.
    """

    state: BrowserState
    record: BrowserRecord


_CLOSED = BrowserState("closed")


def browser_status(layout: Layout, profile_id: str) -> BrowserStatus:
    """What a profile's browser does, with its record; the id must have been validated."""
    paths = layout.profile(profile_id)
    record = read(paths)
    return BrowserStatus(_state(paths, record), record)


def browser_state(layout: Layout, profile_id: str) -> BrowserState:
    """What a profile's browser does; the id must have been validated."""
    return browser_status(layout, profile_id).state


def _state(paths: ProfilePaths, record: BrowserRecord) -> BrowserState:
    owner = read_record(paths.lock) if is_held(paths.lock) else None
    if owner is not None:
        alive = is_alive(owner)
        if alive is None:
            return BrowserState("other_host", None, owner.host, owner.pid)
        return _held(paths, record, owner, alive=alive)
    return _free(paths, record)


def _held(
    paths: ProfilePaths, record: BrowserRecord, owner: LockRecord, *, alive: bool
) -> BrowserState:
    running = record.running
    if alive:
        if running is not None and still_runs(running):
            return BrowserState("open", running.pid, this_host(), owner.pid)
        return _CLOSED
    found = browsers_of(paths.browser_profile)
    return BrowserState("orphaned", found[0].pid, this_host()) if found else _CLOSED


def _free(paths: ProfilePaths, record: BrowserRecord) -> BrowserState:
    """Without anybody who holds the profile's lock."""
    running = record.running
    if running is not None and still_runs(running):
        return BrowserState("orphaned", running.pid, running.host)
    for engine in engines.every():
        lock = engine.lock_of(paths.browser_profile)
        if lock is None:
            continue
        if not lock.here:
            return BrowserState("other_host", lock.pid or None, lock.host or None)
    if found := live_browser(paths.browser_profile):
        return BrowserState("open", found[1].pid, this_host())
    return _CLOSED
