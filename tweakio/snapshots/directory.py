"""A snapshot store that is a directory of this machine, or of a share that is mounted here."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import stat
from typing import TYPE_CHECKING, BinaryIO

from tweakio import durable
from tweakio.errors import SnapshotError, storage_error
from tweakio.snapshots.manifest import part_file

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Directory"]

log = logging.getLogger(__name__)

_CHUNK = 1 << 20


class Directory:
    """A directory of this machine or of a share.

    Args:
        root: absolute.
        make_root: whether it is made if it is missing; a share that is not mounted is not.
    """

    def __init__(self, root: Path, *, make_root: bool) -> None:
        self._root = root
        self._make_root = make_root

    def _path(self, profile_id: str, name: str = "") -> Path:
        """Where a profile's files are.

        Raises:
            SnapshotError: that is a link, which would lead out of the store.
        """
        directory = self._root / profile_id
        with contextlib.suppress(OSError):
            status = os.lstat(directory)
            # On Windows a junction is a directory with this tag.
            junction = getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", 0)
            tag = getattr(status, "st_reparse_tag", 0)
            if stat.S_ISLNK(status.st_mode) or (tag and tag == junction):
                raise _link(directory)
        return directory / name if name else directory

    def files(self, profile_id: str) -> dict[str, int]:
        """See ``Place``; links and whatever else is no file are left out."""
        found = {}
        directory = self._path(profile_id)
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        found[entry.name] = status.st_size
        except (FileNotFoundError, NotADirectoryError):
            self._need_root()
        except OSError as error:
            raise storage_error(error, "list the snapshots") from error
        return found

    def _need_root(self) -> None:
        if not self._make_root and not self._root.is_dir():
            raise SnapshotError(
                f"the snapshot store {self._root} is not there",
                hint="mount it, or set another: tweakio profile snapshot store URL",
            )

    def read(self, profile_id: str, name: str, limit: int) -> bytes:
        """See ``Place``."""
        try:
            return durable.read_regular(self._path(profile_id, name), limit)
        except OSError as error:
            raise storage_error(error, "read a snapshot") from error

    def open(self, profile_id: str, name: str) -> BinaryIO:
        """See ``Place``."""
        try:
            return open(self._path(profile_id, name), "rb", opener=_open_own)
        except OSError as error:
            raise storage_error(error, "read a snapshot") from error

    def put_file(self, profile_id: str, name: str, source: Path) -> None:
        """See ``Place``."""
        directory = self._directory(profile_id)
        part = directory / part_file(name)
        try:
            try:
                os.rename(source, directory / name)
            except OSError:
                # Another file system.
                durable.remove(part)
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
                descriptor = os.open(part, flags, durable.FILE_MODE)
                with open(source, "rb") as reader, durable.writer(descriptor) as writer:
                    shutil.copyfileobj(reader, writer, _CHUNK)
                    writer.flush()
                    durable.sync_descriptor(descriptor)
                os.rename(part, directory / name)
            durable.fsync_directory(directory)
        except OSError as error:
            with contextlib.suppress(OSError):  # of a full disk it would take the rest
                durable.remove(part)
            raise storage_error(error, "store a snapshot", ours=False) from error

    def put(self, profile_id: str, name: str, content: bytes) -> None:
        """See ``Place``."""
        directory = self._directory(profile_id)
        part = directory / part_file(name)
        try:
            durable.remove(part)
            durable.replace(directory / name, content, part)
        except OSError as error:
            if os.path.lexists(directory / name) and not _took_back(directory / name):
                log.warning("%s may not outlive a power cut: %s", name, error)
                return
            raise storage_error(error, "store a snapshot") from error

    def _directory(self, profile_id: str) -> Path:
        self._need_root()
        path = self._path(profile_id)
        try:
            if durable.make_directory(path, parents=self._make_root):
                durable.fsync_directory(self._root)
        except OSError as error:
            raise storage_error(error, "store a snapshot") from error
        return path

    def remove(self, profile_id: str, name: str) -> None:
        """See ``Place``."""
        directory = self._path(profile_id)
        try:
            durable.remove(directory / name)
            durable.fsync_directory(directory)
        except OSError as error:
            raise storage_error(error, "remove a snapshot") from error


def _link(directory: Path) -> SnapshotError:
    return SnapshotError(
        f"{directory} is a symbolic link, which a snapshot store does not follow",
        hint="remove the link, or set the store to where the snapshots are: "
        "tweakio profile snapshot store URL",
    )


def _open_own(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0))


def _took_back(path: Path) -> bool:
    """Remove a file whose name could not be synced; if not even that works, it is there."""
    try:
        durable.remove(path)
    except OSError:
        return False
    return True
