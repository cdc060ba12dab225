"""Taking over older layouts: the single account of a home, and tweakio-sdk 0.1.5.

Facts about tweakio-sdk 0.1.5 are from its source (BrowserManager/__init__.py and its
``directory`` module): ``PlatformDirs("TweakioWhatsApp", "Rohit")``; the user data directory
holds ``BrowserManager/StorageState.json`` and ``fingerprint.pkl``; the user cache directory
was given to the browser as its user data directory.
"""

from __future__ import annotations

import logging
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tweakio import changes, directories, durable, schema
from tweakio.browser import engines
from tweakio.browser.data import refuse_live
from tweakio.errors import MigrationError, StorageError, storage_error
from tweakio.lease.locking import locks_of
from tweakio.models import format_time, utc_now
from tweakio.store.worktree import FINGERPRINT, METADATA

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from tweakio.store.locks import ProfileLockManager
    from tweakio.store.repository import Repository
    from tweakio.store.transaction import Transaction

__all__ = [
    "SdkPlaces",
    "fingerprint_of_pickle",
    "migrate_sdk",
    "sdk_places",
    "take_over_single_account",
]

log = logging.getLogger(__name__)

DEFAULT = "default"
_PLATFORM = "whatsapp"
_SINGLE = ("browser_profile", "session.json")
_MAX_PICKLE = 1 << 20


def _metadata(note: str) -> bytes:
    now = format_time(utc_now())
    return schema.dump(
        schema.validate(
            {
                "profile_id": DEFAULT,
                "platform": _PLATFORM,
                "created_at": now,
                "last_used": now,
                "status": "inactive",
                "tags": [],
                "note": note,
                "schema_version": schema.SCHEMA_VERSION,
            }
        )
    )


def _change(
    repository: Repository, locks: ProfileLockManager, command: str
) -> AbstractContextManager[Transaction]:
    return changes.begin(repository, locks, "migrate", [DEFAULT], command=command)


def take_over_single_account(repository: Repository, locks: ProfileLockManager) -> bool:
    """Move a home's own ``browser_profile/`` and ``session.json`` to the profile ``default``.

    They are renamed in the same step as the commit, so a crash leaves them at the old place
    or at the new one. If there is a profile ``default`` they stay where they are.

    Returns:
        Whether they were taken over.

    Raises:
        MigrationError: they lie on another file system than the profiles.
    """
    layout = repository.layout
    if repository.directory_id(repository.head().root, DEFAULT) is not None:
        return False
    if not os.access(layout.home, os.W_OK):
        return False
    with _change(repository, locks, "first use") as change:
        present = [name for name in _SINGLE if durable.is_there(layout.home / name)]
        if change.exists(DEFAULT) or not present:
            return False  # another process was faster
        refuse_live(layout.home / "browser_profile", DEFAULT)
        _refuse_other_file_system([layout.home / name for name in present], layout.profiles)
        staged = _stage(change, {METADATA: _metadata(""), FINGERPRINT: _fingerprint(change)})
        directories.complete_directory(staged, _PLATFORM, leave_out=present)
        _tighten(layout.home)
        target = layout.profile(DEFAULT).directory
        change.move(staged, target)
        for name in present:
            change.move(layout.home / name, target / name)
        change.summary = "migrate the single account to the profile 'default'"
    log.warning("moved %s to the profile 'default'", " and ".join(present))
    return True


def _fingerprint(change: Transaction) -> bytes:
    return directories.new_fingerprint(change, _PLATFORM, DEFAULT)


def _stage(change: Transaction, files: dict[str, bytes]) -> Path:
    staged = change.stage(f"new-{DEFAULT}")
    for name, content in files.items():
        durable.create(staged / name, content)
        change.put(DEFAULT, name, content)
    return staged


def _refuse_other_file_system(sources: list[Path], target: Path) -> None:
    device = os.lstat(target).st_dev
    for source in sources:
        if os.lstat(source).st_dev != device:
            raise MigrationError(
                f"{source} is on another file system than {target}",
                hint="move it there yourself, or remove it, and run the command again",
            )


def _tighten(directory: Path) -> None:
    """The old layout had the permissions of the umask; sessions are for the owner only."""
    for name, mode in (("session.json", 0o600), ("browser_profile", 0o700)):
        path = directory / name
        if (kind := durable.mode_of(path)) and not stat.S_ISLNK(kind):
            os.chmod(path, mode)


@dataclass(frozen=True)
class SdkPlaces:
    """Where tweakio-sdk 0.1.5 kept its account.

    Attributes:
        storage_state: becomes session.json.
        fingerprint: a pickle, of which only plain data is read.
        browser: the browser's user data directory.
    """

    storage_state: Path
    fingerprint: Path
    browser: Path

    def exists(self) -> bool:
        """Whether there is an account to take over."""
        return self.storage_state.is_file() or (
            self.browser.is_dir() and engines.of_data(self.browser) is not None
        )


def sdk_places() -> SdkPlaces:
    """The places on this platform."""
    import platformdirs

    found = platformdirs.PlatformDirs("TweakioWhatsApp", "Rohit")
    data = Path(found.user_data_dir)
    fingerprint = data / "fingerprint.pkl"
    if not fingerprint.exists() and (data / "BrowserManager" / "fingerprint.pkl").exists():
        fingerprint = data / "BrowserManager" / "fingerprint.pkl"
    return SdkPlaces(
        data / "BrowserManager" / "StorageState.json", fingerprint, Path(found.user_cache_dir)
    )


def migrate_sdk(
    repository: Repository,
    places: SdkPlaces | None = None,
    *,
    locks: ProfileLockManager | None = None,
    command: str = "",
) -> str | None:
    """Copy the account of tweakio-sdk 0.1.5 to the profile ``default``.

    The source stays as it is, so that the old program goes on working until its user removes
    it. Nothing is done if there is a profile ``default``.

    Args:
        repository: where to.
        places: where from; this platform's by default.
        locks: which profiles are in use, and whose; those of the manager that does it.
        command: for the history.

    Returns:
        The profile's id, or None if there was nothing to take over.

    Raises:
        MigrationError: something in the source cannot be copied.
    """
    source = places if places is not None else sdk_places()
    if not source.exists() or repository.directory_id(repository.head().root, DEFAULT) is not None:
        return None
    refuse_live(source.browser, DEFAULT)
    locks = locks if locks is not None else locks_of(repository.layout)
    with _change(repository, locks, command) as change:
        if change.exists(DEFAULT):
            return None
        files = {
            METADATA: _metadata("migrated from tweakio-sdk 0.1.5"),
            FINGERPRINT: _read_fingerprint(change, source.fingerprint),
        }
        staged = _stage(change, files)
        if source.storage_state.is_file():
            _copy_file(source.storage_state, staged / "session.json")
        if source.browser.is_dir():
            _copy_tree(source.browser, staged / "browser_profile")
        directories.complete_directory(staged, _PLATFORM)
        change.move(staged, repository.layout.profile(DEFAULT).directory)
        change.summary = "migrate the account of tweakio-sdk to the profile 'default'"
    log.warning(
        "copied the account of tweakio-sdk to the profile 'default'; the old files in %s and %s "
        "are left as they were",
        source.storage_state.parent,
        source.browser,
    )
    return DEFAULT


def _read_fingerprint(change: Transaction, path: Path) -> bytes:
    try:
        return fingerprint_of_pickle(durable.read_regular(path, _MAX_PICKLE))
    except FileNotFoundError:
        return _fingerprint(change)
    except (OSError, MigrationError) as error:
        log.warning("%s was left alone, a new fingerprint is used: %s", path.name, error)
        return _fingerprint(change)


def fingerprint_of_pickle(data: bytes) -> bytes:
    """fingerprint.json out of the pickle of a fingerprint, of which only plain data is read.

    Raises:
        MigrationError: it is something else.
    """
    from tweakio.legacy_fingerprint import read_fingerprint_pickle

    value: dict[str, Any] = read_fingerprint_pickle(data)
    return directories.json_bytes(
        {"schema_version": 1, "generator": "browserforge", "engine": "camoufox", "data": value}
    )


def _copy_file(source: Path, target: Path) -> None:
    """Copy a regular file durably, readable by its owner only."""
    try:
        with source.open("rb") as reading:
            descriptor = os.open(
                target,
                os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0),
                durable.FILE_MODE,
            )
            try:
                if hasattr(os, "fchmod"):
                    os.fchmod(descriptor, durable.FILE_MODE)
                while chunk := reading.read(1 << 20):
                    view = memoryview(chunk)
                    while view:
                        view = view[os.write(descriptor, view) :]
                durable.sync_descriptor(descriptor)
            finally:
                os.close(descriptor)
        status = os.stat(source)
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
    except OSError as error:
        raise _cannot_copy(error) from error


def _copy_tree(source: Path, target: Path) -> None:
    """Copy a browser's directory without the locks of a browser that ran on it.

    Links within are copied as links and never followed; sockets and the like are left out.
    """
    try:
        durable.make_directory(target)
        for item in sorted(os.scandir(source), key=lambda entry: entry.name):
            path = Path(item.path)
            mode = item.stat(follow_symlinks=False).st_mode
            if item.name in ("SingletonLock", "SingletonCookie", "SingletonSocket", "lock", ".git"):
                continue
            if stat.S_ISDIR(mode):
                _copy_tree(path, target / item.name)
            elif stat.S_ISLNK(mode):
                os.symlink(os.readlink(path), target / item.name)
            elif stat.S_ISREG(mode):
                _copy_file(path, target / item.name)
        shutil.copystat(source, target, follow_symlinks=False)
        os.chmod(target, 0o700)
        durable.fsync_directory(target)
    except OSError as error:
        raise _cannot_copy(error) from error


def _cannot_copy(error: OSError) -> MigrationError | OSError:
    if isinstance(error, StorageError):
        return error
    if isinstance(error, FileNotFoundError):
        return MigrationError(
            f"{error.filename} vanished while it was copied",
            hint="close the browser of tweakio-sdk and run 'tweakio repo migrate'",
        )
    return storage_error(error, "copy the account of tweakio-sdk")
