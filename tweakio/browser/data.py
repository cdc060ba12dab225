"""What stands in the way of moving, replacing or copying browser data."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from tweakio.browser import engines
from tweakio.errors import BrowserError, BrowserLockedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tweakio.browser.processes import Process

__all__ = ["live_browser", "refuse_link", "refuse_live"]


def refuse_live(user_data: Path, profile_id: str) -> None:
    """Return unless a browser runs on the data, whoever started it.

    Args:
        user_data: a profile's browser data.
        profile_id: whose.

    Raises:
        BrowserLockedError: one does.
    """
    found = live_browser(user_data)
    if found is None:
        return
    place, process = found
    below = "" if place == user_data else f" (in {os.path.relpath(place, user_data)})"
    raise BrowserLockedError(
        f"a browser, process {process.pid}, has the data of profile '{profile_id}' open{below}",
        hint="close it, and run this again",
        profile_id=profile_id,
        pid=process.pid,
    )


def live_browser(user_data: Path) -> tuple[Path, Process] | None:
    """The browser of this machine that runs on a directory, and on which.

    Also one directory deeper, where other libraries keep a browser's data. It is looked for only
    where one has left its lock, which takes some milliseconds.
    """
    if os.path.islink(user_data) or os.path.islink(user_data.parent):
        return None  # what a link leads to is nobody's profile
    for place in _places(user_data):
        for engine in engines.every():
            lock = engine.lock_of(place)
            if lock is not None and lock.here and (found := engine.processes_of(place)):
                return place, found[0]
    return None


def _places(user_data: Path) -> Iterator[Path]:
    yield user_data
    try:
        with os.scandir(user_data) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return
    for name in names:
        yield user_data / name


def refuse_link(user_data: Path, profile_id: str) -> None:
    """Return unless something else than a directory of its own is in the place of browser data.

    A link is not followed: two profiles could lead to one place, and what is removed, replaced or
    copied would be the link, while everybody believes that it was the data.

    Raises:
        BrowserError: it is a link, or no directory.
    """
    try:
        mode = os.lstat(user_data).st_mode
    except OSError:
        return  # what is done with it says so better
    if stat.S_ISDIR(mode):
        return
    what = "a symbolic link" if stat.S_ISLNK(mode) else "no directory"
    raise BrowserError(
        f"{user_data} is {what}, which tweakio does not use",
        hint="put the directory itself there; to have the data on another disk, mount it there, or "
        "let the home be a link",
        profile_id=profile_id,
    )
