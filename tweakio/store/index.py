"""Git's index: every form of it read, edited by splicing, written whole and without extensions.

Extensions are dropped on purpose: a TREE extension that does not match the entries makes
the next ``git commit`` write a wrong tree. What belongs to the entries stays: what is staged,
intended to be added, assumed to be unchanged, or not wanted in the work tree.

Read are versions 2, 3 and 4, a checksum that was left out (``index.skipHash``), a split index
(the rest is in ``sharedindex.*``) and a sparse one (a directory stands for all that is in it).
Written is version 2, or 3 if an entry needs it, as one file with every entry; git goes on
with that, and splits it or makes it sparse again where it is configured to.
Format: https://git-scm.com/docs/index-format.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_left
from hashlib import sha1
from typing import TYPE_CHECKING, NamedTuple

from tweakio import durable
from tweakio.errors import NewerFormatError, command, is_of_the_moment, storage_error
from tweakio.store.objects import parse_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tweakio.store.objects import ObjectReader

__all__ = ["Index", "IndexFile", "UnknownIndexError", "entry_header", "files_below", "is_unchanged"]

_HEADER = struct.Struct(">4sII")
_FIXED = struct.Struct(">10I20sH")
_NAME_MASK = 0x0FFF
_STAGE_MASK = 0x3000
_EXTENDED = 0x4000
_ASSUMED = 0x8000
# Of the sixteen bits more that an extended entry has.
_INTENDED = 0x2000
_SKIPPED = 0x4000
_MAX_BYTES = 1 << 28
_WORD = 0xFFFFFFFF
_STAGED = "index"
_NO_CHECKSUM = bytes(20)
_DIRECTORY = 0o040000
# Each copies the whole index once.
_FEW = 16
_MOST_FILES = 1 << 20
_LONGEST_PATH = 4096
_TRIES = 3
_MODES_IN_TREES = {
    b"100644": 0o100644,
    b"100664": 0o100644,
    b"100755": 0o100755,
    b"120000": 0o120000,
    b"160000": 0o160000,
}
_MODES = frozenset(mode.to_bytes(4, "big") for mode in _MODES_IN_TREES.values())


# Four in twenty years: a larger number is no later version, but damage.
_NO_VERSION = 15


class UnknownIndexError(ValueError):
    """The index is sound, for all that can be told, and of a form that is not known here."""


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


def _flags(header: bytes) -> int:
    return int.from_bytes(header[60:62], "big")


def _more(header: bytes) -> int:
    return int.from_bytes(header[62:64], "big")


def _with_flags(header: bytes, flags: int, more: int) -> bytes:
    """A header with other flags; only if there are more than the first sixteen it has 64 bytes."""
    if more:
        return header[:60] + (flags | _EXTENDED).to_bytes(2, "big") + more.to_bytes(2, "big")
    return header[:60] + (flags & ~_EXTENDED).to_bytes(2, "big")


def _like(header: bytes, before: bytes) -> bytes:
    """A new header with what a person has said of the file: to assume it unchanged, to skip it.

    An intention to add it is fulfilled.
    """
    flags, more = _flags(before) & _ASSUMED, _more(before) & _SKIPPED
    return _with_flags(header, _flags(header) | flags, more) if flags or more else header


def files_below(
    tree: bytes, read: Callable[[bytes], bytes], prefix: bytes = b""
) -> Iterator[tuple[bytes, int, bytes]]:
    """Every file of a tree: its path, the mode that an index has for it, and its id.

    Args:
        tree: the body of the tree.
        read: gives the body of a tree by its id.
        prefix: of the paths; empty, or ending with a slash.

    Raises:
        ValueError: there are more files than an index can hold.
    """
    found = 0
    todo = [(tree, prefix)]
    while todo:
        raw, above = todo.pop()
        for entry in parse_tree(raw):
            path = above + entry.name
            if entry.is_tree:
                todo.append((read(entry.id), path + b"/"))
            elif (mode := _MODES_IN_TREES.get(entry.mode)) is not None:
                found += 1
                yield path, mode, entry.id
        # A few trees that name each other often stand for more files than there are atoms.
        if found + len(todo) > _MOST_FILES or len(above) > _LONGEST_PATH:
            raise ValueError("more files than an index can hold")


class Index:
    """The entries of an index as one string of bytes, as they are on the disk.

    A change of an entry is a search and a splice; at 10,000 profiles parsing 20,000 entries
    and putting them together again takes 80 ms and is done only if many come or go.

    Args:
        body: the entries, in version 2 or 3.
        paths: of each of them, in their order.
        conflicts: whether some are of a merge that is not resolved.
        extended: whether some have more flags than version 2 has.
    """

    def __init__(
        self, body: bytes, paths: list[bytes], *, conflicts: bool = False, extended: bool = False
    ) -> None:
        self.body = body
        self.conflicts = conflicts
        self._paths = paths
        self._extended = extended

    @property
    def count(self) -> int:
        """How many entries there are."""
        return len(self._paths)

    @classmethod
    def build(cls, headers: Mapping[bytes, bytes]) -> Index:
        """An index of these entries: path to header."""
        return cls._of([(headers[path], path) for path in sorted(headers)])

    @classmethod
    def _of(cls, entries: list[tuple[bytes, bytes]]) -> Index:
        return cls(
            b"".join(_entry(*pair) for pair in entries),
            [path for _, path in entries],
            conflicts=any(_flags(header) & _STAGE_MASK for header, _ in entries),
            extended=any(len(header) > 62 for header, _ in entries),
        )

    @classmethod
    def parse(
        cls,
        data: bytes,
        shared: Callable[[str], bytes] | None = None,
        tree: Callable[[bytes], bytes] | None = None,
    ) -> Index:
        """Read the bytes of an index file.

        Args:
            data: the file.
            shared: gives the bytes of the shared index of this name, for a split index.
            tree: gives the body of a tree by its id, for a sparse index.

        Raises:
            UnknownIndexError: of a later version, or with an extension that must be known.
            ValueError: damaged.
        """
        parsed = _parse(data)
        entries = parsed.entries
        if parsed.link is not None:
            entries = _join(entries, parsed.link, shared)
        elif parsed.plain:
            paths = [path for _, path in entries]
            extended = any(len(header) > 62 for header, _ in entries)
            body = data[_HEADER.size : parsed.stop]
            return cls(body, paths, conflicts=parsed.conflicts, extended=extended)
        if any(header[24:28] == _SPARSE for header, _ in entries):
            if tree is None:
                raise ValueError("a sparse index, and no trees")
            entries = _expand(entries, tree)
        if not _in_order(entries):
            raise ValueError("entries that git cannot read")
        return cls._of(entries)

    def _end(self, start: int) -> tuple[int, int, int]:
        """Where the name of the entry at this offset begins, where it ends, and the next entry."""
        name = start + (64 if self.body[start + 60] & (_EXTENDED >> 8) else 62)
        zero = self.body.index(b"\0", name)
        return name, zero, zero + 8 - (zero - start) % 8

    def entries(self) -> dict[bytes, bytes]:
        """Path to header, conflicting stages left out."""
        found = {}
        position = 0
        body = self.body
        while position < len(body):
            flags = int.from_bytes(body[position + 60 : position + 62], "big")
            name = position + (64 if flags & _EXTENDED else 62)
            zero = body.index(b"\0", name)
            if not flags & _STAGE_MASK:
                found[body[name:zero]] = body[position:name]
            position = zero + 8 - (zero - position) % 8
        return found

    def object_ids(self) -> Iterator[bytes]:
        """The ids of all entries, 20 bytes each, those of a conflict among them."""
        position = 0
        while position < len(self.body):
            yield self.body[position + 40 : position + 60]
            position = self._end(position)[2]

    def staged(self) -> dict[bytes, bytes]:
        """The same, of what a ``git commit`` would take: without what is only to be added once."""
        return {
            path: header for path, header in self.entries().items() if not _more(header) & _INTENDED
        }

    def find(self, path: bytes) -> int:
        """The offset of an entry in the body, or -1."""
        needle = path + b"\0"
        length = min(len(path), _NAME_MASK)
        at = self.body.find(needle, 62)
        while at >= 0:
            # An entry begins at a multiple of 8, so its name tells how long its header is.
            long = at % 8 == 0
            start = at - (64 if long else 62)
            flags = int.from_bytes(self.body[start + 60 : start + 62], "big") & ~_ASSUMED
            # The name's end can also be the end of a longer one, or stand in a hash.
            if (
                start >= 0
                and start % 8 == 0
                and flags == (length | _EXTENDED if long else length)
                and self.body[start + 24 : start + 28] in _MODES
            ):
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
        for path, wanted in changes.items():
            at = self.find(path)
            header = wanted
            if at >= 0 and header is not None:
                old = body[at : self._end(at)[0]]
                header = _like(header, old)
                if len(header) == len(old):
                    body = body[:at] + header + body[at + len(header) :]
                    continue
            if at >= 0 or header is not None:
                rest[path] = header
        edited = Index(body, self._paths, conflicts=self.conflicts, extended=self._extended)
        if not rest:
            return edited
        if len(rest) <= _FEW and not self.conflicts:
            return edited._splice(rest)
        headers: dict[bytes, bytes | None] = {**edited.entries(), **rest}
        return Index.build({path: header for path, header in headers.items() if header})

    def _splice(self, changes: Mapping[bytes, bytes | None]) -> Index:
        """The index with new entries, or without some that it has, or with others."""
        index = self
        paths = [*self._paths]
        for path, header in changes.items():
            body = index.body
            place = bisect_left(paths, path)
            known = place < len(paths) and paths[place] == path
            # Where the entry begins, or the one that will be behind it.
            at = index.find(paths[place]) if place < len(paths) else len(body)
            behind = index._end(at)[2] if known else at
            if known:
                del paths[place]
            if header is not None:
                paths.insert(place, path)
                body = body[:at] + _entry(header, path) + body[behind:]
            else:
                body = body[:at] + body[behind:]
            index = Index(body, paths, extended=self._extended)
        return index

    def __bytes__(self) -> bytes:
        content = _HEADER.pack(b"DIRC", 3 if self._extended else 2, len(self._paths)) + self.body
        return content + sha1(content, usedforsecurity=False).digest()


_SPARSE = _DIRECTORY.to_bytes(4, "big")


class _Parsed(NamedTuple):
    """An index file as it is, before what it refers to is looked at.

    Attributes:
        entries: header and path of each.
        plain: whether they stand in the file as they would be written.
        conflicts: whether some are of a merge that is not resolved.
        stop: where they end.
        link: the content of the extension of a split index.
    """

    entries: list[tuple[bytes, bytes]]
    plain: bool
    conflicts: bool
    stop: int
    link: bytes | None


def _parse(data: bytes) -> _Parsed:
    if len(data) < _HEADER.size + 20:
        raise ValueError("cut short")
    signature, version, count = _HEADER.unpack_from(data)
    if signature != b"DIRC":
        raise ValueError("not an index")
    if data[-20:] not in (_NO_CHECKSUM, sha1(data[:-20], usedforsecurity=False).digest()):
        raise ValueError("wrong checksum")
    if version < 2:
        raise ValueError("not an index of any version")
    if version > _NO_VERSION:
        raise ValueError("not an index of any version")
    if version > 4:
        raise UnknownIndexError(f"version {version}")
    parsed = _read_entries(data, version, count)
    return parsed._replace(link=_link(data, parsed.stop))


def _read_entries(data: bytes, version: int, count: int) -> _Parsed:
    position, stop = _HEADER.size, len(data) - 20
    entries = []
    last = (b"", _STAGE_MASK)  # no name is empty
    path = b""
    plain = version < 4
    conflicts = False
    length = 0
    for _ in range(count):
        if position + 62 > stop or length > _MAX_BYTES:
            raise ValueError("cut short, or too long")
        flags = int.from_bytes(data[position + 60 : position + 62], "big")
        name = position + 62
        more = 0
        if flags & _EXTENDED:
            name += 2
            more = int.from_bytes(data[position + 62 : name], "big")
            if version < 3 or more & ~(_INTENDED | _SKIPPED):
                raise ValueError("an entry of an unknown kind")
        kept = 0
        if version == 4:
            # So many bytes of the name before are not of this one.
            removed, name = _number(data, name, stop)
            kept = len(path) - removed
            if kept < 0:
                raise ValueError("a name that is made of nothing")
        zero = data.index(b"\0", name, stop)
        path = path[:kept] + data[name:zero]
        length += len(path)
        place = (path, flags & _STAGE_MASK)
        plain &= place > last and data[position + 24 : position + 28] in _MODES
        last = place
        conflicts |= bool(flags & _STAGE_MASK)
        # With a wrong length "find" would not find it.
        usual = flags & (_ASSUMED | _STAGE_MASK) | min(len(path), _NAME_MASK)
        plain &= flags == (usual | _EXTENDED if more else usual)
        entries.append((_with_flags(data[position : position + 60], usual, more), path))
        position = zero + 1 if version == 4 else zero + 8 - (zero - position) % 8
    return _Parsed(entries, plain, conflicts, position, None)


def _link(data: bytes, position: int) -> bytes | None:
    """The content of a split index's extension, if there is one."""
    link = None
    stop = len(data) - 20
    while position + 8 <= stop:
        kind, size = data[position : position + 4], data[position + 4 : position + 8]
        begin, position = position + 8, position + 8 + int.from_bytes(size, "big")
        if position > stop:
            raise ValueError("an extension that is cut short")
        if kind == b"link":
            link = data[begin:position]
        # Git as well goes on without one that it does not know only if it begins like that.
        elif kind != b"sdir" and not b"A" <= kind[:1] <= b"Z":
            raise UnknownIndexError(f"the extension {ascii(kind)[1:]}")
    return link


def _in_order(entries: list[tuple[bytes, bytes]]) -> bool:
    last = (b"", _STAGE_MASK)  # no name is empty
    for header, path in entries:
        place = (path, _flags(header) & _STAGE_MASK)
        if place <= last or header[24:28] not in _MODES:
            return False
        last = place
    return True


def _number(data: bytes, at: int, stop: int) -> tuple[int, int]:
    """A number as version 4 has it, and where it ends."""
    value = data[at] & 127
    while data[at] & 128:
        at += 1
        if at >= stop or value > _LONGEST_PATH:
            raise ValueError("a number without an end")
        value = ((value + 1) << 7) + (data[at] & 127)
    return value, at + 1


def _join(
    entries: list[tuple[bytes, bytes]], link: bytes, shared: Callable[[str], bytes] | None
) -> list[tuple[bytes, bytes]]:
    """The entries of a split index and of the one that it shares, as git joins them."""
    if len(link) < 20:
        raise ValueError("a split index that is cut short")
    base: list[tuple[bytes, bytes]] = []
    if link[:20] != bytes(20):
        if shared is None:
            raise ValueError("a split index without the other part")
        data = shared(link[:20].hex())
        parsed = _parse(data)
        if parsed.link is not None or data[-20:] not in (link[:20], _NO_CHECKSUM):
            raise ValueError("the shared index is another one")
        base = parsed.entries
    gone: set[int] = set()
    replaced: set[int] = set()
    if len(link) > 20:
        gone, at = _bitmap(link, 20, len(base))
        replaced, _ = _bitmap(link, at, len(base))
    nameless = [header for header, path in entries if not path]
    if len(nameless) != len(replaced):
        raise ValueError("a split index that replaces what is not there")
    others = dict(zip(sorted(replaced), nameless, strict=True))
    joined = {}
    for number, (header, path) in enumerate(base):
        if number in gone:
            continue
        instead = others.get(number)
        if instead is not None:
            flags = _flags(instead) | min(len(path), _NAME_MASK)
            joined[path, flags & _STAGE_MASK] = _with_flags(instead, flags, _more(instead))
        else:
            joined[path, _flags(header) & _STAGE_MASK] = header
    for header, path in entries:
        if path:
            joined[path, _flags(header) & _STAGE_MASK] = header
    return [(joined[place], place[0]) for place in sorted(joined)]


def _bitmap(data: bytes, at: int, most: int) -> tuple[set[int], int]:
    """The numbers in a compressed bitmap (EWAH), and where it ends."""
    if at + 8 > len(data):
        raise ValueError("a bitmap that is cut short")
    count = int.from_bytes(data[at + 4 : at + 8], "big")
    stop = at + 8 + 8 * count
    if stop + 4 > len(data):
        raise ValueError("a bitmap that is cut short")
    words = struct.unpack_from(f">{count}Q", data, at + 8)
    found: set[int] = set()
    place = position = 0
    while position < count:
        # So many words of nothing but ones or zeros, then so many as they are.
        ones, run, plain = words[position] & 1, words[position] >> 1 & _WORD, words[position] >> 33
        if ones and run:
            if place + 64 * (run - 1) > most:
                raise ValueError("a bitmap that is longer than what it is of")
            found.update(range(place, place + 64 * run))
        place += 64 * run
        for word in words[position + 1 : position + 1 + plain]:
            found.update(place + bit for bit in range(64) if word >> bit & 1)
            place += 64
        position += 1 + plain
    if found and max(found) >= most:
        raise ValueError("a bitmap that is longer than what it is of")
    return found, stop + 4


def _expand(
    entries: list[tuple[bytes, bytes]], tree: Callable[[bytes], bytes]
) -> list[tuple[bytes, bytes]]:
    """The entries of a sparse index, with the files in place of the directories."""
    found = []
    for header, path in entries:
        if header[24:28] != _SPARSE:
            found.append((header, path))
            continue
        if not path.endswith(b"/"):
            raise ValueError("a directory that is none")
        for name, mode, blob in files_below(tree(header[40:60]), tree, path):
            plain = entry_header(blob, None, name, mode)
            found.append((_with_flags(plain, _flags(plain), _SKIPPED), name))
        if len(found) > _MOST_FILES:
            raise ValueError("more files than an index can hold")
    return sorted(found, key=lambda pair: (pair[1], _flags(pair[0]) & _STAGE_MASK))


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
    """The index on disk, kept in memory as long as the file is the one we wrote.

    Args:
        path: the file.
        temporary: a directory for what is being written.
        reader: reads the trees that a sparse index names.
    """

    def __init__(self, path: Path, temporary: Path, reader: ObjectReader) -> None:
        self._path = path
        self._temporary = temporary
        self._reader = reader
        self._index: Index | None = None
        self._signature: tuple[int, ...] = ()
        self._checksum = b""

    def read(self) -> Index | None:
        """The index, or None if there is none, or a damaged one.

        Raises:
            NewerFormatError: it is of a form that is not known here.
            StorageError: it cannot be read now.
        """
        for attempt in range(_TRIES):
            try:
                signature = self._stat()
                if self._index is not None and signature == self._signature:
                    return self._index
                data = durable.read_regular(self._path, _MAX_BYTES)
                index = Index.parse(data, self._shared, self._tree)
            except UnknownIndexError as error:
                raise self._unknown(str(error)) from None
            except ValueError:
                return None
            except FileNotFoundError:
                # Git writes a new shared index before it replaces the index that names it.
                if attempt + 1 < _TRIES and os.path.lexists(self._path):
                    continue
                return None
            except OSError as error:
                if is_of_the_moment(error):
                    raise storage_error(error, "read the index") from error
                return None
            break
        self._index, self._signature = index, signature
        self._checksum = sha1(data[:-20], usedforsecurity=False).digest()
        return index

    def _shared(self, name: str) -> bytes:
        return durable.read_regular(self._path.with_name(f"sharedindex.{name}"), _MAX_BYTES)

    def _tree(self, name: bytes) -> bytes:
        return self._reader.read(name, b"tree")

    def _unknown(self, what: str) -> NewerFormatError:
        read_head = command("git -C", self._path.parent.parent, "read-tree", "HEAD")
        return NewerFormatError(
            f"git's index has {what}, which this tweakio does not know",
            hint=f"commit what is staged, then run: {read_head}",
        )

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
