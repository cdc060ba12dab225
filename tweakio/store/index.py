"""Git's index: read, edited by splicing, written whole and without extensions.

Extensions are dropped on purpose: a TREE extension that does not match the entries makes
the next ``git commit`` write a wrong tree.
Format: https://git-scm.com/docs/index-format, versions 2 and 3.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_left
from hashlib import sha1
from typing import TYPE_CHECKING, NamedTuple

from tweakio import durable
from tweakio.errors import is_of_the_moment, storage_error

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["Index", "IndexFile", "entry_header", "is_unchanged"]

_HEADER = struct.Struct(">4sII")
_FIXED = struct.Struct(">10I20sH")
_NAME_MASK = 0x0FFF
_STAGE_MASK = 0x3000
_EXTENDED = 0x4000
_KNOWN_EXTENDED = 0x6000
_MAX_BYTES = 1 << 28
_WORD = 0xFFFFFFFF
_STAGED = "index"
# Each copies the whole index once.
_FEW = 16


def entry_header(
    blob: bytes, status: os.stat_result | None, path: bytes, mode: int = 0o100644
) -> bytes:
    """The 62 fixed bytes of an index entry.

    Args:
        blob: the 20-byte id of the content.
        status: what ``stat`` says of the file, so that git need not read it; None makes git
            look at the content.
        path: relative to the work tree.
        mode: as git's trees have it.
    """
    flags = min(len(path), _NAME_MASK)
    if status is None:
        return _FIXED.pack(0, 0, 0, 0, 0, 0, mode, 0, 0, 0, blob, flags)
    changed, modified = status.st_ctime_ns, status.st_mtime_ns
    return _FIXED.pack(
        (changed // 10**9) & _WORD,
        changed % 10**9,
        (modified // 10**9) & _WORD,
        modified % 10**9,
        status.st_dev & _WORD,
        status.st_ino & _WORD,
        mode,
        status.st_uid & _WORD,
        status.st_gid & _WORD,
        status.st_size & _WORD,
        blob,
        flags,
    )


def _entry(header: bytes, path: bytes) -> bytes:
    length = len(header) + len(path)
    return b"%b%b%b" % (header, path, b"\0" * (8 - length % 8))


class Index:
    """The entries of an index as one string of bytes, as they are on the disk.

    A change of an entry is a search and a splice; at 10,000 profiles parsing 20,000 entries
    and putting them together again takes 80 ms and is done only if many come or go.

    Args:
        body: the entries.
        paths: of each of them, in their order.
        conflicts: whether some are of a merge that is not resolved.
    """

    def __init__(self, body: bytes, paths: list[bytes], *, conflicts: bool = False) -> None:
        self.body = body
        self.conflicts = conflicts
        self._paths = paths

    @property
    def count(self) -> int:
        """How many entries there are."""
        return len(self._paths)

    @classmethod
    def build(cls, headers: Mapping[bytes, bytes]) -> Index:
        """An index of these entries: path to 62-byte header."""
        paths = sorted(headers)
        return cls(b"".join(_entry(headers[path], path) for path in paths), paths)

    @classmethod
    def parse(cls, data: bytes) -> Index:
        """Read the bytes of an index file.

        Raises:
            ValueError: damaged, or a version or feature that is not read here.
        """
        if len(data) < _HEADER.size + 20:
            raise ValueError("cut short")
        signature, version, count = _HEADER.unpack_from(data)
        if signature != b"DIRC" or version not in (2, 3):
            raise ValueError("not an index of version 2 or 3")
        if sha1(data[:-20], usedforsecurity=False).digest() != data[-20:]:
            raise ValueError("wrong checksum")
        position, stop = _HEADER.size, len(data) - 20
        entries = []
        last = (b"", -1)
        sound = True
        plain = True
        conflicts = False
        for _ in range(count):
            if position + 62 > stop:
                raise ValueError("cut short")
            flags = int.from_bytes(data[position + 60 : position + 62], "big")
            name = position + (64 if flags & _EXTENDED else 62)
            if flags & _EXTENDED:
                more = int.from_bytes(data[position + 62 : position + 64], "big")
                if version < 3 or more & ~_KNOWN_EXTENDED:
                    raise ValueError("an entry of an unknown kind")
            zero = data.index(b"\0", name, stop)
            place = (data[name:zero], flags & _STAGE_MASK)
            sound &= place > last and data[position + 24 : position + 28] in _MODES
            last = place
            conflicts |= bool(flags & _STAGE_MASK)
            # Written as a plain entry: skip-worktree and intent-to-add have no use in a repository
            # whose work tree is its purpose, and with a wrong length "find" would not find it.
            usual = (flags & _STAGE_MASK) | min(zero - name, _NAME_MASK)
            plain &= flags == usual
            header = data[position : position + 60] + usual.to_bytes(2, "big")
            entries.append((header, data[name:zero]))
            position += (zero - position) // 8 * 8 + 8
        extension = data[position : position + 4]
        if extension in (b"link", b"sdir"):
            raise ValueError("a split or sparse index")
        if not sound:
            raise ValueError("entries that git cannot read")
        paths = [path for _, path in entries]
        if plain:
            return cls(data[_HEADER.size : position], paths, conflicts=conflicts)
        return cls(b"".join(_entry(*pair) for pair in entries), paths, conflicts=conflicts)

    def entries(self) -> dict[bytes, bytes]:
        """Path to 62-byte header, conflicting stages left out."""
        found = {}
        position = 0
        body = self.body
        while position < len(body):
            zero = body.index(b"\0", position + 62)
            path = body[position + 62 : zero]
            if not int.from_bytes(body[position + 60 : position + 62], "big") & _STAGE_MASK:
                found[path] = body[position : position + 62]
            position += (zero - position) // 8 * 8 + 8
        return found

    def find(self, path: bytes) -> int:
        """The offset of an entry in the body, or -1."""
        needle = path + b"\0"
        length = min(len(path), _NAME_MASK)
        at = self.body.find(needle, 62)
        while at >= 0:
            start = at - 62
            flags = int.from_bytes(self.body[at - 2 : at], "big")
            # The name's end can also be the end of a longer one, or stand in a hash.
            if start % 8 == 0 and flags == length and self.body[start + 24 : start + 28] in _MODES:
                return start
            at = self.body.find(needle, at + 1)
        return -1

    def blob(self, path: bytes) -> bytes | None:
        """The 20-byte id that an entry records."""
        at = self.find(path)
        return self.body[at + 40 : at + 60] if at >= 0 else None

    def edit(self, changes: Mapping[bytes, bytes | None]) -> Index:
        """The index with entries set to a header, or removed where it is None."""
        body = self.body
        rest: dict[bytes, bytes | None] = {}
        for path, header in changes.items():
            at = self.find(path)
            if at >= 0 and header is not None:
                body = body[:at] + header + body[at + 62 :]
            elif at >= 0 or header is not None:
                rest[path] = header
        edited = Index(body, self._paths, conflicts=self.conflicts)
        if not rest:
            return edited
        if len(rest) <= _FEW and not self.conflicts:
            return edited._splice(rest)
        headers: dict[bytes, bytes | None] = {**edited.entries(), **rest}
        return Index.build({path: header for path, header in headers.items() if header})

    def _splice(self, changes: Mapping[bytes, bytes | None]) -> Index:
        """The index with new entries, or without some that it has."""
        body, paths = self.body, [*self._paths]
        for path, header in changes.items():
            place = bisect_left(paths, path)
            # Where the entry begins, or the one that will be behind it.
            at = Index(body, paths).find(paths[place]) if place < len(paths) else len(body)
            if header is None:
                body = body[:at] + body[at + len(_entry(bytes(_FIXED.size), path)) :]
                del paths[place]
            else:
                body = body[:at] + _entry(header, path) + body[at:]
                paths.insert(place, path)
        return Index(body, paths)

    def __bytes__(self) -> bytes:
        content = _HEADER.pack(b"DIRC", 2, len(self._paths)) + self.body
        return content + sha1(content, usedforsecurity=False).digest()


_MODES = frozenset(
    mode.to_bytes(4, "big") for mode in (0o100644, 0o100755, 0o120000, 0o160000, 0o040000)
)


def is_unchanged(header: bytes, status: os.stat_result, written: int) -> bool:
    """Whether a file is, by its stat, still the one that an index entry records.

    Args:
        header: the entry's 62 bytes.
        status: of the file now.
        written: when the index was written, ``st_mtime_ns``; a file that is not older may
            have been changed in the same tick of the clock, so it counts as changed, as in
            git.
    """
    if status.st_mtime_ns >= written:
        return False
    # Without the ctime: putting the file in place changed it (see the checkout).
    return entry_header(header[40:60], status, b"")[8:40] == header[8:40]


class Staged(NamedTuple):
    """An index that was written and is not yet at its place."""

    content: Index
    checksum: bytes


class IndexFile:
    """The index on disk, kept in memory as long as the file is the one we wrote."""

    def __init__(self, path: Path, temporary: Path) -> None:
        self._path = path
        self._temporary = temporary
        self._index: Index | None = None
        self._signature: tuple[int, ...] = ()
        self._checksum = b""

    def read(self) -> Index | None:
        """The index, or None if there is none, or one that is damaged.

        Raises:
            StorageError: it cannot be read now.
        """
        try:
            signature = self._stat()
            if self._index is not None and signature == self._signature:
                return self._index
            data = durable.read_regular(self._path, _MAX_BYTES)
        except OSError as error:
            if is_of_the_moment(error):
                raise storage_error(error, "read the index") from error
            return None
        try:
            index = Index.parse(data)
        except ValueError:
            return None
        self._index, self._signature, self._checksum = index, signature, data[-20:]
        return index

    def write(self, index: Index) -> None:
        """Replace the file; the caller holds ``index.lock``."""
        with durable.Batch() as batch:
            staged = self.prepare(index, batch)
        self.put_in_place(staged)
        durable.fsync_directory(self._path.parent)

    def prepare(self, index: Index, batch: durable.Batch) -> Staged:
        """Write it under a temporary name, as one of several files."""
        data = bytes(index)
        batch.create(self._temporary / _STAGED, data)
        return Staged(index, data[-20:])

    def put_in_place(self, staged: Staged) -> None:
        """Replace the file by what was prepared and synced; its directory is not synced."""
        self._index = None
        try:
            durable.move(self._temporary / _STAGED, self._path)
        except BaseException:
            durable.remove(self._temporary / _STAGED)
            raise
        self._index, self._signature, self._checksum = staged.content, self._stat(), staged.checksum

    def checksum(self) -> str:
        """What tells the content that was last read or written from any other, in hex."""
        return self._checksum.hex() if self._index is not None else ""

    def written(self) -> int:
        """When the file that ``read`` returned was written, in nanoseconds."""
        return self._signature[2] if self._signature else 0

    def _stat(self) -> tuple[int, ...]:
        status = os.stat(self._path)
        return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
