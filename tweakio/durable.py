"""Writing files so that they survive a crash: temporary file, fsync, rename, fsync of the
directory.

Every byte that tweakio must not lose goes through here, with plain ``os`` calls, so that
the fault tests can see and break each one.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from tweakio.errors import is_of_the_moment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

__all__ = [
    "FILE_MODE",
    "Batch",
    "append",
    "begin_writing",
    "create",
    "cut_end",
    "fsync_directory",
    "is_directory",
    "is_there",
    "make_directory",
    "mode_of",
    "move",
    "open_regular",
    "read_begin",
    "read_end",
    "read_regular",
    "remove",
    "remove_tree",
    "replace",
    "sync_descriptor",
    "sync_tree",
    "write_all",
    "write_over",
    "writer",
]

FILE_MODE = 0o600
_BUFFER = 1 << 18
DIRECTORY_MODE = 0o700
_BINARY = getattr(os, "O_BINARY", 0)
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)
_CLOEXEC = getattr(os, "O_CLOEXEC", 0)


def _full_fsync() -> Callable[[int], object] | None:
    """macOS' fsync leaves the data in the drive's cache; F_FULLFSYNC does not."""
    if sys.platform != "darwin":
        return None
    import fcntl

    request = fcntl.F_FULLFSYNC
    return lambda descriptor: fcntl.fcntl(descriptor, request)


_FULL_FSYNC = _full_fsync()


def sync_descriptor(
    descriptor: int, full_fsync: Callable[[int], object] | None = _FULL_FSYNC
) -> None:
    """Bring an open file's bytes to the disk itself.

    Args:
        descriptor: an open file descriptor.
        full_fsync: the platform's stronger call, if it has one.
    """
    if full_fsync is not None:
        try:
            full_fsync(descriptor)
            return
        except OSError as error:
            # Network and FAT volumes do not know the request.
            if error.errno not in (errno.ENOTSUP, errno.EINVAL, errno.ENOTTY):
                raise
    os.fsync(descriptor)


def fsync_directory(path: Path | str, *, platform: str = sys.platform) -> None:
    """Make the renames and new names in a directory durable.

    Windows cannot open a directory for this; its file systems journal names themselves.
    """
    if platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY | _CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of it, in as many calls as that takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


class _Descriptor(io.RawIOBase):
    """A file that is written by ``os.write``, of which the fault tests can break each call.

    Python's own file objects write without it.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return os.lseek(self._descriptor, offset, whence)

    def write(self, data: Any) -> int:
        return os.write(self._descriptor, data)

    def close(self) -> None:
        if not self.closed:
            try:
                super().close()
            finally:
                os.close(self._descriptor)


def writer(descriptor: int) -> BinaryIO:
    """A buffered stream that writes to an open file, which it closes at its own end."""
    return cast("BinaryIO", io.BufferedWriter(_Descriptor(descriptor), _BUFFER))


def create(path: Path | str, data: bytes, *, mode: int = FILE_MODE, sync: bool = True) -> None:
    """Write a new file; the name must be free.

    Args:
        path: where; ``FileExistsError`` if anything is there, a dangling link included.
        data: the whole content.
        mode: permission bits, whatever the umask says.
        sync: False only for what can be derived again.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY | _CLOEXEC, mode)
    try:
        try:
            write_all(descriptor, data)
            if hasattr(os, "fchmod"):
                os.fchmod(descriptor, mode)
            if sync:
                sync_descriptor(descriptor)
        finally:
            os.close(descriptor)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise


class Batch:
    """Files that are on the disk, all of them, after ``sync`` or the end of the ``with`` block.

    All are written before the first is synced, and the system is told to begin with them: its
    journal then takes them in one commit, in half the time of one after the other. If the block
    fails before, the new ones are removed.
    """

    # Each is one open descriptor.
    _MOST = 64

    def __init__(self) -> None:
        self._descriptors: list[int] = []
        self._paths: list[Path | str] = []
        self._directories: set[Path] = set()

    def create(self, path: Path | str, data: bytes, *, mode: int = FILE_MODE) -> None:
        """As the function ``create``, but for the sync."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY | _CLOEXEC
        try:
            descriptor = os.open(path, flags, mode)
        except OSError as error:
            # The limit of this process, or the system's: with those of before closed it goes on.
            if error.errno not in (errno.EMFILE, errno.ENFILE) or not self._descriptors:
                raise
            self._sync()
            descriptor = os.open(path, flags, mode)
        self._descriptors.append(descriptor)
        self._paths.append(path)
        write_all(descriptor, data)
        if hasattr(os, "fchmod"):
            os.fchmod(descriptor, mode)
        self._begin(descriptor)

    def write_over(self, path: Path, data: bytes) -> None:
        """As the function ``write_over``; what it wrote stays if the block fails."""
        descriptor, new = _open_over(path)
        self._descriptors.append(descriptor)
        write_all(descriptor, data)
        if new:
            self._directories.add(path.parent)
        self._begin(descriptor)

    def _begin(self, descriptor: int) -> None:
        begin_writing(descriptor)
        if len(self._descriptors) >= self._MOST:
            self._sync()

    def sync(self) -> None:
        """Bring all that was written so far to the disk; it is the caller's from then on."""
        self._sync()
        sync_tree(sorted(self._directories))
        self._directories.clear()
        self._paths.clear()

    def _sync(self) -> None:
        while self._descriptors:
            sync_descriptor(self._descriptors[0])
            os.close(self._descriptors.pop(0))

    def __enter__(self) -> Batch:  # noqa: PYI034 - Self came with Python 3.11
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self.sync()
        except BaseException:  # Ctrl-C as well: no new file may stay that is not on the disk
            self.discard()
            raise
        if error is not None:
            self.discard()

    def discard(self) -> None:
        """Close what is open, and remove the new files that no sync has handed over."""
        while self._descriptors:
            with contextlib.suppress(OSError):
                os.close(self._descriptors.pop())
        while self._paths:
            with contextlib.suppress(OSError):
                os.unlink(self._paths.pop())


def begin_writing(descriptor: int) -> None:
    """Let the system begin to write a file, without waiting for it; it need not."""
    if hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def move(source: Path | str, target: Path | str, *, attempts: int = 20) -> None:
    """Rename, replacing a file that is there.

    On Windows a reader or a virus scanner that has the target open makes this fail for
    some milliseconds, so it is tried again there.
    """
    for left in range(attempts - 1, -1, -1):
        try:
            os.replace(source, target)
            return
        except PermissionError:
            if sys.platform != "win32" or not left:
                raise
            time.sleep(0.01)


def replace(path: Path, data: bytes, temporary: Path) -> None:
    """Put a file in the place of another in one step, or leave the other as it is.

    Args:
        path: the file to replace or make.
        data: the whole new content.
        temporary: a free name in the same file system, used for the time of writing.
    """
    create(temporary, data)
    try:
        move(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    fsync_directory(path.parent)


def _open_own(path: Path | str, flags: int) -> tuple[int, os.stat_result]:
    """Open a file to write in its place; links are not followed and a FIFO does not block."""
    descriptor = os.open(path, flags | _BINARY | _CLOEXEC | _NOFOLLOW | _NONBLOCK, FILE_MODE)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return descriptor, status


def write_over(path: Path, data: bytes, *, sync: bool = False) -> None:
    """Write over the begin of a file; what it had after that stays.

    Whoever reads it must know half a content, and the end of the new one. A file that has
    another name elsewhere, as in a backup of hard links, is left to that name.

    Args:
        path: the file; made if it is missing.
        data: its new begin.
        sync: bring it to the disk.
    """
    if sync:
        with Batch() as batch:
            batch.write_over(path, data)
        return
    descriptor, _ = _open_over(path)
    try:
        write_all(descriptor, data)
    finally:
        os.close(descriptor)


def _open_over(path: Path) -> tuple[int, bool]:
    """Open a file to write over it; whether its name may be a new one."""
    flags = os.O_WRONLY | os.O_CREAT
    descriptor, status = _open_own(path, flags)
    if status.st_nlink > 1:
        os.close(descriptor)
        os.unlink(path)
        descriptor, status = _open_own(path, flags | os.O_EXCL)
    new = not status.st_size
    if new and hasattr(os, "fchmod"):
        try:
            os.fchmod(descriptor, FILE_MODE)
        except BaseException:  # Ctrl-C as well: nobody else would close it
            os.close(descriptor)
            raise
    return descriptor, new


def is_there(path: Path | str) -> bool:
    """Whether anything, a dangling link included, has this name.

    Raises:
        OSError: that cannot be told now. ``os.path.exists`` and its kind take every error for a
            no, and a file that cannot be looked at for one that is gone.
    """
    return bool(mode_of(path))


def is_directory(path: Path | str) -> bool:
    """Whether it is a directory, or a link to one.

    Raises:
        OSError: that cannot be told now.
    """
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except OSError as error:
        if is_of_the_moment(error):
            raise
        return False


def mode_of(path: Path | str) -> int:
    """The type and the permissions of whatever has this name, a link included; 0 for nothing.

    Raises:
        OSError: that cannot be told now.
    """
    try:
        return os.lstat(path).st_mode
    except OSError as error:
        if is_of_the_moment(error):
            raise
        return 0


def open_regular(path: Path | str) -> int:
    """Open a regular file to read; links are not followed and a FIFO does not block."""
    return _open_own(path, os.O_RDONLY)[0]


def read_begin(path: Path | str, length: int) -> bytes:
    """The first bytes of a regular file."""
    descriptor = os.open(path, os.O_RDONLY | _BINARY | _CLOEXEC | _NOFOLLOW | _NONBLOCK)
    try:
        return os.read(descriptor, length)
    finally:
        os.close(descriptor)


def read_end(path: Path | str, length: int) -> bytes:
    """The last bytes of a regular file; links are not followed and a FIFO does not block."""
    descriptor, status = _open_own(path, os.O_RDONLY)
    try:
        os.lseek(descriptor, max(0, status.st_size - length), os.SEEK_SET)
        return _read_on(descriptor, length)
    finally:
        os.close(descriptor)


def cut_end(path: Path | str, length: int) -> None:
    """Take bytes from the end of a file; see ``append`` about its other names."""
    descriptor, status = _open_own(path, os.O_WRONLY)
    try:
        if status.st_nlink == 1:
            os.ftruncate(descriptor, status.st_size - length)
            return
    finally:
        os.close(descriptor)
    _copy_own(Path(path))
    cut_end(path, length)


def append(path: Path | str, data: bytes, *, create_missing: bool, sync: bool = True) -> None:
    """Add bytes to the end of a file and bring them to the disk.

    A file that has another name elsewhere, as in a backup of hard links, is replaced by a
    copy before.

    Args:
        path: the file.
        data: what to add.
        create_missing: make the file if it is not there.
        sync: False only for what can be lost without harm.
    """
    flags = os.O_WRONLY | os.O_APPEND
    if create_missing:
        flags |= os.O_CREAT
    descriptor, status = _open_own(path, flags)
    if status.st_nlink > 1:
        os.close(descriptor)
        _copy_own(Path(path))
        descriptor, status = _open_own(path, flags)
    try:
        if create_missing and hasattr(os, "fchmod") and not status.st_size:
            os.fchmod(descriptor, FILE_MODE)
        write_all(descriptor, data)
        if sync:
            sync_descriptor(descriptor)
    finally:
        os.close(descriptor)


def _copy_own(path: Path) -> None:
    temporary = path.with_name(f"{path.name}.lock~")
    remove(temporary)
    replace(path, read_regular(path, 1 << 28), temporary)


def make_directory(path: Path | str, *, parents: bool = False) -> bool:
    """Make a directory that only its owner can enter; True if it was not there."""
    try:
        os.mkdir(path, DIRECTORY_MODE)
    except FileExistsError:
        return False
    except FileNotFoundError:
        if not parents:
            raise
        make_directory(Path(path).parent, parents=True)
        return make_directory(path)
    os.chmod(path, DIRECTORY_MODE)
    return True


def read_regular(path: Path | str, limit: int) -> bytes:
    """Read a regular file that is not larger than ``limit`` bytes.

    Symbolic links are not followed and a FIFO does not block.

    Raises:
        OSError: with ``ELOOP`` for a link, ``EFBIG`` for a larger file, ``EINVAL`` for
            anything that is not a regular file, or what the system said.
    """
    try:
        return _read_regular(path, limit)
    except OSError as error:
        if error.filename is None:
            # What is done to a descriptor does not say of which file it is.
            error.filename = os.fspath(path)
        if sys.platform == "win32" and os.path.isdir(path):
            # There a directory that is opened as a file is a matter of permissions.
            raise IsADirectoryError(errno.EISDIR, "a directory", os.fspath(path)) from None
        raise


def _read_regular(path: Path | str, limit: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | _BINARY | _CLOEXEC | _NOFOLLOW | _NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if status.st_size > limit:
            raise OSError(errno.EFBIG, f"larger than {limit} bytes", str(path))
        # One byte more than there should be shows in the same call that this was all.
        data = os.read(descriptor, status.st_size + 1)
        if len(data) != status.st_size:
            data += _read_on(descriptor, limit + 1 - len(data))
        if len(data) > limit:
            raise OSError(errno.EFBIG, f"larger than {limit} bytes", str(path))
        return data
    finally:
        os.close(descriptor)


def _read_on(descriptor: int, most: int) -> bytes:
    """The rest of a file that is longer than it was, or comes in pieces."""
    chunks = []
    while most > 0 and (chunk := os.read(descriptor, min(most, 1 << 20))):
        chunks.append(chunk)
        most -= len(chunk)
    return b"".join(chunks)


def remove(path: Path | str) -> None:
    """Unlink a file; nothing to do if it is gone."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def size_of(path: Path | str) -> int:
    """The bytes of a file, or of all that is in a directory.

    What goes meanwhile, as in an open browser, and what may not be looked at count as nothing.
    A directory is opened from the one above it where that can be done: in the trash a path can be
    longer than the system takes one.
    """
    return _size_of(path, None)


def _size_of(path: Path | str, above: int | None) -> int:
    size = 0
    with contextlib.suppress(OSError):
        status = os.stat(path, dir_fd=above, follow_symlinks=False)
        if not stat.S_ISDIR(status.st_mode):
            return status.st_size
        if os.scandir not in os.supports_fd:
            with os.scandir(path) as entries:
                return sum(_size_of(entry.path, None) for entry in entries)
        flags = os.O_RDONLY | _CLOEXEC | _NOFOLLOW | os.O_DIRECTORY
        descriptor = os.open(path, flags, dir_fd=above)
        try:
            for name in os.listdir(descriptor):
                size += _size_of(name, descriptor)
        finally:
            os.close(descriptor)
    return size


def remove_tree(path: Path | str) -> None:
    """Remove a directory and what is in it, links themselves and not their targets."""
    if os.path.islink(path) or not os.path.isdir(path):
        remove(path)
        return
    import shutil

    shutil.rmtree(path)


def sync_tree(paths: Iterable[Path | str]) -> None:
    """fsync several directories."""
    for path in paths:
        fsync_directory(path)
