"""What a profile takes of the disk, and its caches emptied."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from tweakio import durable
from tweakio.shelter import SHELTER

if TYPE_CHECKING:
    from pathlib import Path

    from tweakio.layout import ProfilePaths

__all__ = [
    "CACHES_OF_BROWSER",
    "CACHES_OF_PROFILE",
    "DiskUsage",
    "caches_in",
    "caches_of",
    "empty_caches",
    "usage",
]

# What Chromium and Firefox fetch or compile again. Not "Service Worker": its CacheStorage is
# what a site stored, and without its ScriptCache a site does not start offline.
CACHES_OF_BROWSER = frozenset(
    {
        "cache2",
        "component_crx_cache",
        "extensions_crx_cache",
        "GraphiteDawnCache",
        "GrShaderCache",
        "shader-cache",
        "ShaderCache",
        "startupCache",
    }
)
CACHES_OF_PROFILE = frozenset(
    {
        "Cache",
        "Code Cache",
        "DawnCache",
        "DawnGraphiteCache",
        "DawnWebGPUCache",
        "GPUCache",
        "Media Cache",
    }
)
_CHROMIUM_PROFILE = "Default"


class DiskUsage(NamedTuple):
    """Bytes of a profile's files, by part.

    Attributes:
        session: session.json.
        browser_profile: browser_profile/ without its caches.
        caches: ``cache/`` and the caches in browser_profile/: what can be emptied.
        other: the rest, above all the tracked files.
    """

    session: int
    browser_profile: int
    caches: int
    other: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self)


def usage(paths: ProfilePaths) -> DiskUsage:
    """Measure a profile; files that go meanwhile, as in an open browser, count as nothing."""
    everything = durable.size_of(paths.directory)
    session = durable.size_of(paths.session)
    browser = durable.size_of(paths.browser_profile) - durable.size_of(
        paths.browser_profile / SHELTER
    )
    caches = [durable.size_of(path) for path in caches_of(paths) if path != paths.cache]
    cache = durable.size_of(paths.cache)
    return DiskUsage(
        session=session,
        browser_profile=max(0, browser - sum(caches)),
        caches=cache + sum(caches),
        other=max(0, everything - session - browser - cache),
    )


def caches_of(paths: ProfilePaths) -> list[Path]:
    """The directories that hold what can be fetched again; links are none."""
    found = [paths.cache] if _is_directory(paths.cache) else []
    return found + caches_in(paths.browser_profile)


def caches_in(browser: Path) -> list[Path]:
    """The same of a browser's user data directory, wherever it is."""
    if not _is_directory(browser):
        return []
    found = [browser / name for name in sorted(CACHES_OF_BROWSER)]
    if _is_directory(browser / _CHROMIUM_PROFILE):
        found += [browser / _CHROMIUM_PROFILE / name for name in sorted(CACHES_OF_PROFILE)]
    return [path for path in found if _is_directory(path)]


def empty_caches(paths: ProfilePaths) -> int:
    """Remove what is in the caches of a profile that is held, and not the directories.

    Returns:
        The number of bytes that were freed.
    """
    freed = 0
    for cache in caches_of(paths):
        for entry in list(os.scandir(cache)):
            path = cache / entry.name
            freed += durable.size_of(path)
            if entry.is_dir(follow_symlinks=False):
                durable.remove_tree(path)
            else:
                durable.remove(path)
    return freed


def _is_directory(path: Path) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False
