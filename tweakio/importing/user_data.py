"""A browser's user data directory as a profile's browser data."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tweakio import bundle
from tweakio.archive.importer import Incoming
from tweakio.browser import engines, processes
from tweakio.errors import (
    ArchiveError,
    BrowserLockedError,
    ForeignDataError,
    TweakioError,
    in_the_tree,
    storage_error,
)
from tweakio.importing.settings import settings
from tweakio.layout import ProfilePaths

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tweakio.browser.engines import Engine

__all__ = ["from_user_data_dir", "incoming", "is_user_data"]

_NAME = "browser_profile"
_DEEPEST = 64
"""Directories; browsers nest about ten."""
# Firefox's on Linux and macOS; Windows opens these and Chromium's "lockfile" for one only.
_LOCKED_BY_SYSTEM = (".parentlock", "parent.lock", "lockfile")


@in_the_tree
def from_user_data_dir(
    path: str | os.PathLike[str],
    profile_id: str,
    platform: str,
    *,
    force: bool = False,
    **others: Any,
) -> list[Incoming]:
    """A user data directory of Chromium, or of what is made of it, or a profile of Firefox.

    Caches, locks, links and devices stay behind. No browser may have it open, neither now nor
    while it is copied.

    Args:
        path: the directory.
        profile_id: of the new profile.
        platform: whose login is in it.
        force: take another machine's lock on it for dead, as of a container that is gone.
        **others: further settings, as for ``create_profile``.

    Raises:
        ForeignDataError: it is no such directory, or changes while it is read.
        BrowserLockedError: a browser has it open.
        InvalidProfileIdError, UnknownPlatformError, InvalidMetadataError: bad arguments.
    """
    metadata = settings(profile_id, platform, **others)
    return [incoming(Path(os.path.realpath(path)), metadata, force=force)]


def is_user_data(path: Path) -> bool:
    """Whether a directory, which is no link, looks like a browser's user data."""
    return path.is_dir() and not path.is_symlink() and engines.of_data(path) is not None


def incoming(
    user_data: Path,
    metadata: dict[str, Any],
    *,
    fingerprint: bytes | None = None,
    session: bytes | None = None,
    force: bool = False,
) -> Incoming:
    """What a profile is made of that has this user data directory, and maybe a session.json.

    Raises:
        As ``from_user_data_dir``.
    """
    if not user_data.is_dir():
        raise ForeignDataError(f"there is no directory {os.fspath(user_data)!r}")
    engine = engines.of_data(user_data)
    if engine is None:
        raise ForeignDataError(
            f"{user_data.name!r} holds no user data of Chromium or Firefox",
            hint="name the directory that has 'Local State' (Chromium) or 'prefs.js' (Firefox)",
        )
    with _reading(user_data):
        _refuse_open(engine, user_data, force=force)
        size = sum(os.lstat(path).st_size for _, path in _files(user_data) if path is not None)

    def unpack(into: Path | None, progress: Callable[[int], None] | None) -> None:
        with _reading(user_data):
            _refuse_open(engine, user_data, force=force)
            if into is None:
                for _, path in _files(user_data):
                    if path is not None and not os.access(path, os.R_OK):
                        raise PermissionError(13, "it cannot be read", path)
                return
            if Path(os.path.realpath(into)).is_relative_to(user_data):
                raise ForeignDataError("the repository is inside of what is to be imported")
            if session is not None:
                from tweakio import durable

                durable.create(ProfilePaths(into).session, session)
            bundle.copy_files(_files(user_data), into, progress)
            _refuse_open(engine, user_data, force=force)

    return Incoming(metadata, fingerprint, has_data=True, unpack=unpack, size=size)


def _files(user_data: Path) -> Iterator[tuple[str, str | None]]:
    """Without a record of ours, which would speak of another machine's browser and login."""
    ours = f"{_NAME}/{ProfilePaths(user_data).browser_record.name}"
    for count, (name, path) in enumerate(bundle.user_data_files(user_data, _NAME)):
        if count > bundle.MOST_FILES:
            raise ForeignDataError(f"it has more than {bundle.MOST_FILES} files")
        if name.count("/") > _DEEPEST:
            raise ForeignDataError(f"{user_data.name!r} has directories that are nested too deeply")
        if name != ours:
            yield name, path


@contextlib.contextmanager
def _reading(user_data: Path) -> Iterator[None]:
    """What goes wrong with somebody else's directory, as errors of ours."""
    name = user_data.name
    try:
        yield
    except (FileNotFoundError, ArchiveError):
        raise ForeignDataError(
            f"{name!r} changed while it was read", hint="close its browser and run this again"
        ) from None
    except OSError as error:
        if isinstance(error, TweakioError):
            raise
        raise storage_error(error, f"copy {name!r}", ours=False) from error


def _refuse_open(engine: Engine, user_data: Path, *, force: bool) -> None:
    """Refuse the data of a browser that runs.

    Args:
        engine: whose data they are.
        user_data: the directory.
        force: take another machine's lock for dead.

    Raises:
        BrowserLockedError: one does, or one of another machine may.
    """
    running = [process.pid for process in engine.processes_of(user_data)]
    lock = engine.lock_of(user_data)
    if lock is not None and lock.here and processes.this_one(lock.pid) is not None:
        # A browser that was started for its default directory does not name it.
        running.append(lock.pid)
    if running:
        raise BrowserLockedError(
            f"process {running[0]} has {user_data.name!r} open",
            hint="close that browser and run this again",
            pid=running[0],
        )
    if lock is not None and not lock.here and not force:
        where = f"process {lock.pid} on host {lock.host!r}" if lock.pid else "an unknown browser"
        raise BrowserLockedError(
            f"{user_data.name!r} is locked by {where}",
            hint="close that browser; if it is gone, as with a container, run this again with "
            "--force",
            pid=lock.pid,
            host=lock.host,
        )
    if any(_is_locked(user_data / name) for name in _LOCKED_BY_SYSTEM):
        raise BrowserLockedError(
            f"a browser has {user_data.name!r} open", hint="close it and run this again"
        )


def _is_locked(path: Path) -> bool:
    """Whether somebody holds the system's lock on a file; the file is not changed."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError:
        # Windows refuses a file that was opened for one only.
        return os.name == "nt" and os.path.lexists(path)
    try:
        if os.name == "nt":
            return False
        import fcntl

        try:
            fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return True
        except OSError:  # a file system without locks, or no file that can have one
            return False
        return False
    finally:
        os.close(descriptor)
