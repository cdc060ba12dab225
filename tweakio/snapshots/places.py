"""Where snapshots are kept: a directory, or whatever fsspec has a file system for.

Every profile has a directory. A file appears there under its name only when it is whole, as far
as the file system can do that; what counts is the manifest, which is written last.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

from tweakio import durable, references
from tweakio.errors import (
    InvalidInputError,
    MissingExtraError,
    SnapshotError,
    TweakioError,
    storage_error,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Directory", "Place", "Remote", "check_url", "open_place"]

log = logging.getLogger(__name__)

_CHUNK = 1 << 20
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.ASCII)
_SECRETS_HINT = "keep it in fsspec's own configuration, or give the whole address as env:NAME"


class Place(Protocol):
    """One store."""

    def files(self, profile_id: str) -> dict[str, int]:
        """The names and sizes in bytes of a profile's files."""

    def read(self, profile_id: str, name: str, limit: int) -> bytes:
        """A small file; more than ``limit`` bytes is an error."""

    def open(self, profile_id: str, name: str) -> BinaryIO:
        """A file to read from its beginning."""

    def put_file(self, profile_id: str, name: str, source: Path) -> None:
        """Store a file, which may be moved; it stays if the machine stops after that."""

    def put(self, profile_id: str, name: str, content: bytes) -> None:
        """Store a new small file in one step."""

    def remove(self, profile_id: str, name: str) -> None:
        """Remove a file; nothing to do if it is gone."""


class Directory:
    """A directory of this machine or of a share.

    Args:
        root: absolute.
        make_root: whether it is made if it is missing; a share that is not mounted is not.
    """

    def __init__(self, root: Path, *, make_root: bool) -> None:
        self._root = root
        self._make_root = make_root

    def files(self, profile_id: str) -> dict[str, int]:
        """See ``Place``; links and whatever else is no file are left out."""
        found = {}
        try:
            with os.scandir(self._root / profile_id) as entries:
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
            return durable.read_regular(self._root / profile_id / name, limit)
        except OSError as error:
            raise storage_error(error, "read a snapshot") from error

    def open(self, profile_id: str, name: str) -> BinaryIO:
        """See ``Place``."""
        try:
            return open(self._root / profile_id / name, "rb")
        except OSError as error:
            raise storage_error(error, "read a snapshot") from error

    def put_file(self, profile_id: str, name: str, source: Path) -> None:
        """See ``Place``."""
        directory = self._directory(profile_id)
        try:
            try:
                os.rename(source, directory / name)
            except OSError:
                # Another file system.
                part = directory / f".{name}.part"
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
            raise storage_error(error, "store a snapshot") from error

    def put(self, profile_id: str, name: str, content: bytes) -> None:
        """See ``Place``."""
        directory = self._directory(profile_id)
        part = directory / f".{name}.part"
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
        try:
            if durable.make_directory(self._root / profile_id, parents=self._make_root):
                durable.fsync_directory(self._root)
        except OSError as error:
            raise storage_error(error, "store a snapshot") from error
        return self._root / profile_id

    def remove(self, profile_id: str, name: str) -> None:
        """See ``Place``."""
        try:
            durable.remove(self._root / profile_id / name)
            durable.fsync_directory(self._root / profile_id)
        except OSError as error:
            raise storage_error(error, "remove a snapshot") from error


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
        try:
            self._fs: Any
            self._fs, root = fsspec.core.url_to_fs(url)
        except ImportError:
            raise MissingExtraError(
                f"fsspec needs another package for {scheme}://, which is not installed",
                hint="see https://filesystem-spec.readthedocs.io for which",
                extra="snapshots",
            ) from None
        except Exception as error:
            raise _unusable(error) from None
        self._root = str(root).rstrip("/")

    def _path(self, profile_id: str, name: str = "") -> str:
        return f"{self._root}/{profile_id}/{name}" if name else f"{self._root}/{profile_id}"

    def files(self, profile_id: str) -> dict[str, int]:
        """See ``Place``."""
        with _asking():
            self._fs.invalidate_cache()
            try:
                entries = self._fs.ls(self._path(profile_id), detail=True)
            except FileNotFoundError:
                return {}
            return {
                str(entry["name"]).rpartition("/")[2]: int(entry.get("size") or 0)
                for entry in entries
                if entry.get("type") == "file"
            }

    def read(self, profile_id: str, name: str, limit: int) -> bytes:
        """See ``Place``."""
        with _asking(), self._fs.open(self._path(profile_id, name), "rb") as file:
            content = bytes(file.read(limit + 1))
        if len(content) > limit:
            raise SnapshotError(f"{name} in the snapshot store is larger than it may be")
        return content

    def open(self, profile_id: str, name: str) -> BinaryIO:
        """See ``Place``."""
        with _asking():
            opened: BinaryIO = self._fs.open(self._path(profile_id, name), "rb")
            return opened

    def put_file(self, profile_id: str, name: str, source: Path) -> None:
        """See ``Place``."""
        with _asking():
            self._fs.makedirs(self._path(profile_id), exist_ok=True)
            self._fs.put_file(os.fspath(source), self._path(profile_id, name))

    def put(self, profile_id: str, name: str, content: bytes) -> None:
        """See ``Place``."""
        part = self._path(profile_id, f".{name}.part")
        with _asking():
            self._fs.makedirs(self._path(profile_id), exist_ok=True)
            self._fs.pipe_file(part, content)
            self._fs.mv(part, self._path(profile_id, name))

    def remove(self, profile_id: str, name: str) -> None:
        """See ``Place``."""
        with _asking(), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._path(profile_id, name))


def _took_back(path: Path) -> bool:
    """Remove a file whose name could not be synced; if not even that works, it is there."""
    try:
        durable.remove(path)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _asking() -> Iterator[None]:
    """Whatever a file system's library raises becomes an error of the tree."""
    try:
        yield
    except TweakioError:
        raise
    except Exception as error:
        raise _unusable(error) from None


def _unusable(error: Exception) -> SnapshotError:
    # What a library says may have credentials in it.
    return SnapshotError(
        f"the snapshot store cannot be used ({type(error).__name__})",
        hint="see that it can be reached and that the credentials are those of fsspec",
    )


def check_url(url: str) -> str:
    """A store's address as it may be kept: without a secret in it.

    Args:
        url: an absolute path, a URL that fsspec understands, or ``env:NAME`` for the environment
            variable that has it.

    Raises:
        InvalidInputError: it is none of these, or has a secret. It is not shown.
    """
    if references.is_reference(url) or os.path.isabs(url):
        return url
    if not _SCHEME.match(url) or "::" in url or not url.isprintable():
        raise InvalidInputError(
            "this is not the address of a snapshot store",
            hint="give an absolute path, a URL such as s3://bucket/path, or env:NAME",
        )
    try:
        parts = urlsplit(url)
        has_secret = parts.password is not None or bool(parts.query or parts.fragment)
    except ValueError:
        has_secret = True
    if has_secret:
        raise InvalidInputError(
            "the address of the snapshot store has a password or options in it", hint=_SECRETS_HINT
        )
    return url


def open_place(url: str) -> Place:
    """The store at an address that ``check_url`` has passed.

    Raises:
        SecretNotFoundError: the environment variable is not there.
        MissingExtraError: a package is missing.
        SnapshotError: it cannot be used.
    """
    if references.is_reference(url):
        url = references.resolve(url, "the snapshot store")
    if os.path.isabs(url):
        return Directory(Path(url), make_root=False)
    if url.startswith("file:///"):
        return Directory(Path(unquote(url[len("file://") :])), make_root=False)
    return Remote(url)
