"""Moves of directories, also where the file system cannot rename them.

On overlayfs a directory of a lower layer (of a Docker image, of a live system) cannot be renamed.
As mv does it, it is then copied and removed, but so that a crash at any moment leaves it whole at
one place: the copy is made and synced under a temporary name, noted, and put in its place by a
rename, and only then the source is removed. Whoever takes the lock next goes on with that, as with
a journal; so to everybody else a move has taken place, or not.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import secrets
import shutil
import stat
import sys
import time
from typing import TYPE_CHECKING

from tweakio import durable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tweakio.layout import Layout

__all__ = ["finish_moves", "is_below", "move", "place"]

log = logging.getLogger(__name__)

_MOST = 1 << 16
_PIECE = 1 << 20
_ATTEMPTS = 20


def move(layout: Layout, source: Path, target: Path) -> None:
    """Move a file or a directory to a name that is free; the repository's lock is held.

    Args:
        layout: the home, in which both are.
        source: what is moved; a link itself, and not what it leads to.
        target: where to.

    Raises:
        OSError: it stays where it was.
    """
    try:
        _rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV or not stat.S_ISDIR(os.lstat(source).st_mode):
            raise
        log.info("%s cannot be renamed here; it is copied", source)
        _copy_and_remove(layout, source, target)


def _rename(source: Path, target: Path) -> None:
    for left in range(_ATTEMPTS - 1, -1, -1):
        try:
            os.rename(source, target)
            return
        except PermissionError:
            # On Windows a file in it is open; a virus scanner has it for some milliseconds.
            if sys.platform != "win32" or not left:
                raise
            time.sleep(0.01)


def _copy_and_remove(layout: Layout, source: Path, target: Path) -> None:
    if durable.is_there(target):
        raise FileExistsError(errno.EEXIST, "something is in the way", os.fspath(target))
    name = secrets.token_hex(8)
    # Whoever takes the lock empties that directory.
    copy = layout.temporary / name
    note = layout.moving / f"{name}.json"
    try:
        _copy(source, copy)
        durable.make_directory(layout.moving)
        paths = [path.relative_to(layout.home).as_posix() for path in (source, target)]
        durable.create(note, json.dumps(paths).encode())
        durable.sync_tree((layout.moving, layout.local, layout.temporary))
        os.rename(copy, target)
    except BaseException:  # Ctrl-C as well: half a copy must not stay
        if not durable.is_there(target):
            durable.remove_tree(copy)
            durable.remove(note)
        raise
    durable.fsync_directory(target.parent)
    _finish(layout, note, source)


def finish_moves(layout: Layout) -> None:
    """Remove what copies have taken the place of; the repository's lock is held.

    Raises:
        OSError: something cannot be removed now.
    """
    try:
        names = os.listdir(layout.moving)
    except FileNotFoundError:
        return
    for name in names:
        note = layout.moving / name
        try:
            source, target = map(str, json.loads(durable.read_regular(note, _MOST)))
        except (ValueError, TypeError):
            source = target = ""  # cut short by a crash, before the copy was put in its place
        if is_below(source) and is_below(target) and durable.is_there(place(layout, target)):
            _finish(layout, note, place(layout, source))
        else:
            durable.remove(note)


def _finish(layout: Layout, note: Path, source: Path) -> None:
    durable.remove_tree(source)
    if source.parent.is_dir():
        durable.fsync_directory(source.parent)
    durable.remove(note)
    durable.fsync_directory(layout.moving)


def place(layout: Layout, path: str) -> Path:
    """A path below the home that was written down, which no link leads out of the home.

    Raises:
        OSError: with ``ELOOP``, a directory above it is a link.
    """
    parts = path.split("/")
    for count in range(1, len(parts)):
        above = layout.home / "/".join(parts[:count])
        if os.path.islink(above):
            raise OSError(errno.ELOOP, "a symbolic link is in the way", str(above))
    return layout.home / path


def is_below(path: str) -> bool:
    """Whether it is a relative path without detours."""
    parts = path.split("/")
    return all(part not in ("", ".", "..") for part in parts) and not set(path) & {"\0", "\\", ":"}


# A copy of a directory


def _copy(source: Path, target: Path) -> None:
    """Copy a directory with all that is in it, and bring it to the disk."""
    links: dict[tuple[int, int], Path] = {}
    _copy_directory(source, target, links)


def _copy_directory(source: Path, target: Path, links: dict[tuple[int, int], Path]) -> None:
    os.mkdir(target, 0o700)
    with os.scandir(source) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        status = entry.stat(follow_symlinks=False)
        begin, end = source / entry.name, target / entry.name
        if stat.S_ISDIR(status.st_mode):
            _copy_directory(begin, end, links)
        elif (same := links.get((status.st_dev, status.st_ino))) is not None:
            os.link(same, end, follow_symlinks=False)
        else:
            _copier(status.st_mode)(begin, end)
            if status.st_nlink > 1:
                links[status.st_dev, status.st_ino] = end
    durable.fsync_directory(target)
    _copy_attributes(source, target)


def _copier(mode: int) -> Callable[[Path, Path], None]:
    if stat.S_ISLNK(mode):
        return _copy_link
    return _copy_file if stat.S_ISREG(mode) else _copy_node


def _copy_link(source: Path, target: Path) -> None:
    os.symlink(os.readlink(source), target)
    _copy_attributes(source, target)


def _copy_node(source: Path, target: Path) -> None:
    """A socket or a FIFO, which has no content."""
    if sys.platform != "win32":
        os.mknod(target, os.lstat(source).st_mode)
        _copy_attributes(source, target)


def _copy_file(source: Path, target: Path) -> None:
    reader = durable.open_regular(source)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        writer = os.open(target, flags, durable.FILE_MODE)
        try:
            _copy_content(reader, writer)
            durable.sync_descriptor(writer)
        finally:
            os.close(writer)
    finally:
        os.close(reader)
    _copy_attributes(source, target)


def _copy_content(reader: int, writer: int) -> None:
    """Holes stay holes: a database that was made large at once has more of them than disk."""
    size = os.fstat(reader).st_size
    at = 0
    while at < size:
        begin, end = at, size
        if sys.platform == "linux":
            try:
                begin = os.lseek(reader, at, os.SEEK_DATA)
                end = os.lseek(reader, begin, os.SEEK_HOLE)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    break  # a hole up to the end
        os.lseek(reader, begin, os.SEEK_SET)
        os.lseek(writer, begin, os.SEEK_SET)
        while begin < end:
            piece = os.read(reader, min(_PIECE, end - begin))
            if not piece:
                return
            begin += len(piece)
            while piece:
                piece = piece[os.write(writer, piece) :]
        at = end
    os.ftruncate(writer, size)


def _copy_attributes(source: Path, target: Path) -> None:
    """Mode, times, extended attributes and, as root, the owner."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        status = os.lstat(source)
        os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    shutil.copystat(source, target, follow_symlinks=False)
