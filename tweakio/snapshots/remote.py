"""A snapshot store through fsspec, which may be anywhere."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, Any, BinaryIO

from tweakio.errors import MissingExtraError, SnapshotError, TweakioError, storage_error
from tweakio.snapshots.manifest import part_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Remote"]

_BLOCK = 4 << 20
"""Bytes that are read at once; some file systems take more than ten times as many."""
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_PACKAGES = {
    "s3": "s3fs",
    "sftp": "paramiko",
    "ssh": "paramiko",
    "gs": "gcsfs",
    "smb": "smbprotocol",
}


class Remote:
    """A store through fsspec.

    Args:
        url: as fsspec understands it, credentials apart.
    """

    def __init__(self, url: str) -> None:
        try:
            import fsspec  # type: ignore[import-untyped]
        except ImportError:
            raise MissingExtraError(
                "a snapshot store at a URL needs the package fsspec, which is not installed",
                hint="run 'pip install tweakio[snapshots]'",
                extra="snapshots",
            ) from None
        scheme = url.partition("://")[0]
        self._fs: Any
        try:
            with _asking():
                if scheme in ("sftp", "ssh"):
                    from tweakio.snapshots.sftp import open_sftp

                    self._fs, root = open_sftp(url)
                else:
                    self._fs, root = fsspec.core.url_to_fs(url)
        except ImportError:
            package = _PACKAGES.get(scheme)
            raise MissingExtraError(
                f"fsspec needs another package for {scheme}://, which is not installed",
                hint=f"run 'pip install {package}'"
                if package
                else "see https://filesystem-spec.readthedocs.io for which",
                extra="snapshots",
            ) from None
        self._root = str(root).rstrip("/")
        self._is_local = scheme in ("file", "local")

    def _path(self, profile_id: str, name: str = "") -> str:
        directory = f"{self._root}/{profile_id}"
        if hasattr(self._fs, "refuse_link"):
            self._fs.refuse_link(directory)
        return f"{directory}/{name}" if name else directory

    def files(self, profile_id: str) -> dict[str, int]:
        """See ``Place``."""
        with _asking():
            self._fs.invalidate_cache()
            try:
                entries = self._fs.ls(self._path(profile_id), detail=True)
            except FileNotFoundError:
                self._need_root()
                return {}
            return {
                str(entry["name"]).rpartition("/")[2]: int(entry.get("size") or 0)
                for entry in entries
                if entry.get("type") == "file"
            }

    def _need_root(self) -> None:
        # What is called a directory below a bucket is the beginning of names, and may be new.
        top = self._root.partition("/")[0] or self._root
        try:
            self._fs.info(top)  # "exists" would say no as well if nobody answers
        except FileNotFoundError:
            raise SnapshotError(
                "the snapshot store is not there",
                hint="make it, or set another: tweakio profile snapshot store URL",
            ) from None

    def _make_directory(self, profile_id: str) -> None:
        """Make a profile's directory, but none above it, nor a bucket."""
        path = self._path(profile_id)
        if self._fs.isdir(path):
            return
        self._need_root()
        with contextlib.suppress(FileExistsError):  # another writer
            self._fs.mkdir(path, create_parents=False)
            if self._is_local:  # what is not sealed is nobody else's to read
                os.chmod(path, 0o700)

    def read(self, profile_id: str, name: str, limit: int) -> bytes:
        """See ``Place``."""
        with _asking(), self.open(profile_id, name) as file:
            content = bytes(file.read(limit + 1))
        if len(content) > limit:
            raise SnapshotError(f"{name} in the snapshot store is larger than it may be")
        return content

    def open(self, profile_id: str, name: str) -> BinaryIO:
        """See ``Place``."""
        with _asking():
            path = self._path(profile_id, name)
            opened: BinaryIO = self._fs.open(path, "rb", block_size=_BLOCK)
            return opened

    def put_file(self, profile_id: str, name: str, source: Path) -> None:
        """See ``Place``."""
        with _asking():
            self._make_directory(profile_id)
            self._fs.put_file(os.fspath(source), self._path(profile_id, name))

    def put(self, profile_id: str, name: str, content: bytes) -> None:
        """See ``Place``."""
        with _asking():
            part = self._path(profile_id, part_file(name))
            self._make_directory(profile_id)
            self._fs.pipe_file(part, content)
            self._fs.mv(part, self._path(profile_id, name))

    def remove(self, profile_id: str, name: str) -> None:
        """See ``Place``."""
        with _asking(), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._path(profile_id, name))


@contextlib.contextmanager
def _asking() -> Iterator[None]:
    """Whatever a file system's library raises becomes an error of the tree."""
    try:
        yield
    except (TweakioError, ImportError):
        raise
    except OSError as error:
        if error.errno in _FULL:
            raise storage_error(error, "store a snapshot", ours=False) from None
        raise _unusable(error) from None
    except Exception as error:  # each library has a tree of its own
        raise _unusable(error) from None


def _unusable(error: Exception) -> SnapshotError:
    # What it says may have credentials in it.
    return SnapshotError(
        f"the snapshot store cannot be used ({type(error).__name__})",
        hint="see that it can be reached, and that fsspec has the right credentials for it",
    )
