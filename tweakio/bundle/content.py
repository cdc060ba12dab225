"""What of a profile is in a bundle: no caches, locks, links, devices, repositories."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from typing import TYPE_CHECKING

from tweakio.browser.data import refuse_link
from tweakio.disk import caches_in
from tweakio.shelter import is_repository

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tweakio.layout import ProfilePaths

__all__ = ["content_size", "name_others", "sources", "user_data_files"]

log = logging.getLogger(__name__)

_PARTS = frozenset(
    {
        ".lock",
        "browser_profile",
        "cache",
        "fingerprint.json",
        "metadata.json",
        "session.json",
        "session.json.age",
    }
)

# A browser's own locks and ports, at the top of its directory. Links are left out anyway.
_LOCKS = frozenset(
    {
        ".parentlock",
        "DevToolsActivePort",
        "lock",
        "lockfile",
        "parent.lock",
        "RunningChromeVersion",
        "SingletonCookie",
        "SingletonLock",
        "SingletonSocket",
    }
)


def content_size(directory: ProfilePaths) -> int:
    """Bytes of the files that a bundle of this profile would have, for a progress bar."""
    return sum(os.lstat(path).st_size for name, path in sources(directory) if path and name)


def sources(directory: ProfilePaths) -> Iterator[tuple[str, str | None]]:
    """Names and paths of what a bundle of this profile has, sorted; directories without a path."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISREG(os.lstat(directory.session).st_mode):
            yield directory.session.name, os.fspath(directory.session)
    top = os.fspath(directory.browser_profile)
    with contextlib.suppress(FileNotFoundError):
        refuse_link(directory.browser_profile, directory.directory.name)
        if stat.S_ISDIR(os.lstat(top).st_mode):
            yield from user_data_files(directory.browser_profile, directory.browser_profile.name)


def name_others(directory: ProfilePaths) -> None:
    """Log what somebody else keeps in a profile's directory, of which a bundle has nothing."""
    with contextlib.suppress(OSError):
        others = sorted(name for name in os.listdir(directory.directory) if name not in _PARTS)
        if others:
            names = ", ".join(map(ascii, others[:5])) + (", ..." if len(others) > 5 else "")
            log.warning("left out, since no profile has it: %s in %s", names, directory.directory)


def user_data_files(user_data: Path, name: str) -> Iterator[tuple[str, str | None]]:
    """What of a browser's user data directory is worth keeping: no caches, locks, links, devices.

    No repositories either: the one in its place protects it there, and one that came along
    would have hooks and settings of somebody else's.

    Args:
        user_data: the directory.
        name: what it will be called.

    Yields:
        Names that begin with ``name``, sorted, and paths; directories without a path.
    """
    top = os.fspath(user_data)
    left_out = {os.fspath(path) for path in caches_in(user_data)}
    left_out |= {os.path.join(top, lock) for lock in _LOCKS}
    yield from _walk(top, name, left_out)


def _walk(top: str, name: str, left_out: set[str]) -> Iterator[tuple[str, str | None]]:
    yield name, None
    with os.scandir(top) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        inner = f"{name}/{entry.name}"
        if entry.path in left_out or is_repository(entry.name):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path, inner, left_out)
        elif entry.is_file(follow_symlinks=False):
            yield inner, entry.path
