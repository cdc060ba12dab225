"""Browsers' own locks on their data: cleared if they are dead, respected if they are not.

They are looked at only when the profile's lock is held, so no browser of tweakio is beside.
"""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING, NamedTuple

from tweakio.errors import BrowserLockedError

if TYPE_CHECKING:
    from pathlib import Path

    from tweakio.browser.engines import Engine

__all__ = ["BrowserLock", "clear_dead_lock", "this_host"]

log = logging.getLogger(__name__)


class BrowserLock(NamedTuple):
    """Whom a browser's own lock names.

    Attributes:
        host: the machine, as the browser names it; empty if it cannot be read.
        pid: the process there; 0 if it cannot be read.
        here: whether it is this machine.
    """

    host: str
    pid: int
    here: bool


def this_host() -> str:
    """This machine's name, as browsers and our own records have it."""
    return socket.gethostname()


def clear_dead_lock(engine: Engine, user_data: Path, profile_id: str, *, force: bool) -> None:
    """Remove the lock of a browser that is gone.

    Args:
        engine: whose lock it would be.
        user_data: the browser's directory, in a profile whose lock is held.
        profile_id: for messages.
        force: take the lock of another machine for dead.

    Raises:
        BrowserLockedError: it is another machine's, or a browser that runs here has it.
    """
    lock = engine.lock_of(user_data)
    if lock is None:
        return
    if lock.here:
        running = [process.pid for process in engine.processes_of(user_data)]
        if running:
            # Not one of ours: those have been ended by now.
            raise BrowserLockedError(
                f"a browser that tweakio did not start, process {running[0]}, has the data of "
                f"profile '{profile_id}' open",
                hint="close it, and run this again",
                profile_id=profile_id,
                pid=running[0],
                host=lock.host,
            )
    elif not force:
        where = f"process {lock.pid} on host {lock.host!r}" if lock.pid else "an unknown browser"
        raise BrowserLockedError(
            f"the browser data of profile '{profile_id}' is locked by {where}",
            hint="if that browser is gone, as after a move to another container, run this again "
            "with --force",
            profile_id=profile_id,
            pid=lock.pid,
            host=lock.host,
        )
    log.warning(
        "the lock of a browser that is gone (process %d on %s) was cleared from profile %s",
        lock.pid,
        lock.host,
        profile_id,
    )
    engine.clear_lock(user_data)
