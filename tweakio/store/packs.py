"""Packing loose objects without the git program.

One commit leaves four to six loose objects, one of them a root tree of up to 400 KB that
differs from the one before by 20 bytes. Here they become pack files in which each root
tree is a delta against the next newer one.

What makes this safe beside a running ``git gc`` and through a crash:

- An object's loose file is removed only after a pack that holds it is in place, durable
  and was read back; so every object is at every moment in at least one place where git
  looks, and git looks again at the list of packs before it calls an object missing.
- A pack becomes visible by its ``.idx``, which comes last and goes first, as in git.
- Only packs that we wrote are ever joined or removed. They are known by name from a
  record file outside ``objects/``: a marker beside the pack would be reported as garbage
  by ``git count-objects``, and a pack has no room for a comment. A pack's name is the hash
  of its content, so the record cannot name a wrong one; without it our packs are taken
  for somebody else's, and nothing worse happens than that they stay as they are.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import heapq
import json
import os
import re
import secrets
import struct
import sys
import time
import zlib
from bisect import bisect_left
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tweakio import durable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

__all__ = [
    "LooseStatistics",
    "PackReport",
    "loose_statistics",
    "merge_packs",
    "pack_loose",
]

_BINARY = getattr(os, "O_BINARY", 0)
_CLOEXEC = getattr(os, "O_CLOEXEC", 0)
# git's own mode for packs. On Windows it would mean a file that cannot be unlinked.
_MODE = 0o600 if sys.platform == "win32" else 0o444
_CHUNK = 1 << 20
# Offsets in the index have 31 bits; above that comes a second table that we do not write.
_PACK_LIMIT = 1 << 30
# Held in memory whole; tweakio itself writes nothing that is near it.
_OBJECT_LIMIT = 64 << 20
_HEAD = 4096

_COMMIT, _TREE, _BLOB, _TAG, _OFS_DELTA = 1, 2, 3, 4, 6
_KINDS = {b"commit": _COMMIT, b"tree": _TREE, b"blob": _BLOB, b"tag": _TAG}
_KIND_NAMES = {number: name for name, number in _KINDS.items()}

# As git's own default: reading one object takes at most so many steps.
_DEPTH = 50
# Below this a tree that is no root is not worth the search for a base.
_TREE_DELTA = 1024

_FAN_OUT = re.compile(r"[0-9a-f]{2}")
_LOOSE = re.compile(r"[0-9a-f]{38}")
_STEM = re.compile(r"pack-[0-9a-f]{40}")
# Of these the first two are git's to manage; the last two say that git wrote the pack.
_HANDS_OFF = (".keep", ".promisor", ".bitmap", ".mtimes")
# git takes a gc.pid that is older for one that a crash left.
_GC_SECONDS = 12 * 3600


@dataclass(frozen=True)
class LooseStatistics:
    """What there is to pack.

    Attributes:
        count: loose objects.
        bytes: the sum of their file sizes.
    """

    count: int
    bytes: int


@dataclass(frozen=True)
class PackReport:
    """What one packing did.

    Attributes:
        packed: objects in the new pack.
        removed: loose files that went because a pack has the object.
        merged: packs of ours that were joined into one, or were found superfluous.
        pack: the new pack's name without suffix; None if there was nothing to pack. If
            packs were joined in the same run, it may be part of another by now.
    """

    packed: int
    removed: int
    merged: int
    pack: str | None


def loose_statistics(objects: Path) -> LooseStatistics:
    """Count the loose objects; reads directories only.

    Args:
        objects: the repository's ``objects`` directory.
    """
    count = size = 0
    for entry in _loose_entries(objects):
        with contextlib.suppress(FileNotFoundError):
            size += entry.stat(follow_symlinks=False).st_size
            count += 1
    return LooseStatistics(count, size)


def pack_loose(objects: Path, temporary: Path, *, keep: int = 8) -> PackReport:
    """Pack every readable loose object that is in no pack yet, then remove the loose ones
    that are now in a pack, then join small packs.

    Damaged loose objects and those larger than 64 MiB are left as they are. The caller
    holds the repository's lock.

    Args:
        objects: the repository's ``objects`` directory.
        temporary: an existing directory in the same file system for files being written.
            The record of our packs is kept beside it.
        keep: as in ``merge_packs``.

    Raises:
        OSError: what the system said. The repository is intact, at worst with objects
            both loose and packed.
    """
    record = _Record(objects, temporary)
    record.settle()
    packs = _packs(objects)
    fresh: list[_Loose] = []
    doubles: list[_Loose] = []
    for loose in _loose_objects(objects):
        name = bytes.fromhex(loose.name)
        (doubles if any(name in pack.index for pack in packs) else fresh).append(loose)
    stem, index = _write_pack(record, fresh, temporary) if fresh else (None, None)
    removed = 0
    if index is not None:
        for loose in fresh:
            # These were read and verified when they were packed.
            if bytes.fromhex(loose.name) in index:
                removed += _unlink(loose.path)
    for loose in doubles:
        if _load(loose) is not None:
            removed += _unlink(loose.path)
    merged = _merge(record, temporary, keep)
    return PackReport(index.count if index else 0, removed, merged, stem)


def merge_packs(objects: Path, temporary: Path, *, keep: int = 8) -> int:
    """Join our own small packs geometrically so that their number stays logarithmic.

    After a join every pack of ours is at least twice the size of all smaller ones
    together, so each byte is copied a logarithmic number of times over the years. Entries
    are copied as they are; nothing is unpacked. Packs of git, kept ones and ones that a
    multi-pack-index may name are never touched.

    Args:
        objects: the repository's ``objects`` directory.
        temporary: as in ``pack_loose``.
        keep: up to so many packs of ours there is nothing to do.

    Returns:
        The number of packs that are gone, their objects being in another pack of ours.

    Raises:
        OSError: what the system said. The repository is intact.
    """
    record = _Record(objects, temporary)
    record.settle()
    return _merge(record, temporary, keep)


# --- loose objects -----------------------------------------------------------------------


@dataclass(frozen=True)
class _Commit:
    tree: str
    parents: tuple[str, ...]
    when: int


@dataclass(frozen=True)
class _Loose:
    name: str
    path: str
    kind: int
    size: int
    commit: _Commit | None = None


def _loose_entries(objects: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(objects) as directories:
        names = [entry.path for entry in directories if _FAN_OUT.fullmatch(entry.name)]
    for path in sorted(names):
        try:
            entries = os.scandir(path)
        except (FileNotFoundError, NotADirectoryError):
            continue  # git gc removes empty ones
        with entries:
            for entry in entries:
                if _LOOSE.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    yield entry


def _loose_objects(objects: Path) -> Iterator[_Loose]:
    """Those whose head can be read; the rest of the content is not looked at yet."""
    for entry in _loose_entries(objects):
        name = entry.path[-41:-39] + entry.name
        try:
            descriptor = os.open(entry.path, os.O_RDONLY | _BINARY | _CLOEXEC)
            try:
                packed = os.read(descriptor, _HEAD)
            finally:
                os.close(descriptor)
            head = zlib.decompressobj().decompress(packed, _HEAD)
        except (OSError, zlib.error):
            continue
        found = _parse_header(head)
        if found is None:
            continue
        kind, size, start = found
        if size <= _OBJECT_LIMIT:
            commit = _parse_commit(head[start:]) if kind == _COMMIT else None
            yield _Loose(name, entry.path, kind, size, commit)


def _parse_header(head: bytes) -> tuple[int, int, int] | None:
    """Kind, size and where the content begins."""
    end = head.find(b"\0", 0, 32)
    kind, _, size = head[: max(end, 0)].partition(b" ")
    if kind not in _KINDS or not size.isdigit():
        return None
    return _KINDS[kind], int(size), end + 1


def _parse_commit(content: bytes) -> _Commit:
    """Only for the order in the pack, so whatever is odd just sorts last."""
    tree = ""
    parents = []
    when = 0
    for line in content.partition(b"\n\n")[0].split(b"\n"):
        key, _, value = line.partition(b" ")
        text = value.decode("ascii", "replace")
        if key == b"tree":
            tree = text
        elif key == b"parent":
            parents.append(text)
        elif key == b"committer":
            stamp = text.rpartition("> ")[2].split(" ")[0]
            if re.fullmatch(r"[0-9]{1,18}", stamp):
                when = int(stamp)
            break
    return _Commit(tree, tuple(parents), when)


def _load(loose: _Loose) -> bytes | None:
    """The content, or None if it is damaged, unreadable or gone."""
    try:
        packed = durable.read_regular(loose.path, loose.size + loose.size // 64 + _CHUNK)
    except OSError:
        return None
    stream = zlib.decompressobj()
    try:
        # One byte more than is due, so that a longer content shows without filling memory.
        raw = stream.decompress(packed, loose.size + 33)
    except zlib.error:
        return None
    found = _parse_header(raw)
    if found is None or not stream.eof or stream.unused_data:
        return None
    kind, size, start = found
    if (kind, size) != (loose.kind, loose.size) or len(raw) - start != size:
        return None
    if hashlib.sha1(raw, usedforsecurity=False).hexdigest() != loose.name:
        return None
    return raw[start:]


def _unlink(path: str) -> int:
    """1 if the file was there."""
    try:
        if sys.platform == "win32":
            os.chmod(path, 0o600)  # a read-only file cannot be unlinked there
        os.unlink(path)
    except FileNotFoundError:
        return 0
    except PermissionError:
        if sys.platform != "win32":
            raise
        return 0  # a reader has it open; what is removed here is superfluous anyway
    return 1


# --- order of the objects ----------------------------------------------------------------


def _newest_first(commits: list[_Loose]) -> list[_Loose]:
    """Children before parents, else by date.

    Dates alone are not enough: they count seconds, and a second holds dozens of commits.
    """
    by_name = {loose.name: loose for loose in commits}
    children = dict.fromkeys(by_name, 0)
    for loose in commits:
        for parent in _parents(loose):
            if parent in children:
                children[parent] += 1
    heap = [(-_when(loose), loose.name) for loose in commits if not children[loose.name]]
    heapq.heapify(heap)
    ordered = []
    while heap:
        loose = by_name[heapq.heappop(heap)[1]]
        ordered.append(loose)
        for parent in _parents(loose):
            if parent in children:
                children[parent] -= 1
                if not children[parent]:
                    heapq.heappush(heap, (-_when(by_name[parent]), parent))
    return ordered


def _parents(loose: _Loose) -> tuple[str, ...]:
    return loose.commit.parents if loose.commit else ()


def _when(loose: _Loose) -> int:
    return loose.commit.when if loose.commit else 0


@dataclass
class _Plan:
    """What to write, in order; each chain is one run of deltas."""

    whole: list[_Loose] = field(default_factory=list)
    chains: list[list[_Loose]] = field(default_factory=list)
    rest: list[_Loose] = field(default_factory=list)


def _plan(fresh: list[_Loose]) -> _Plan:
    commits = _newest_first([loose for loose in fresh if loose.kind == _COMMIT])
    tags = [loose for loose in fresh if loose.kind == _TAG]
    trees = {loose.name: loose for loose in fresh if loose.kind == _TREE}
    roots = []
    for loose in commits:
        # pop: a revert brings an old tree back, which is one object all the same.
        tree = trees.pop(loose.commit.tree, None) if loose.commit else None
        if tree is not None:
            roots.append(tree)
    others = [loose for loose in trees.values() if loose.size > _TREE_DELTA]
    small = [loose for loose in trees.values() if loose.size <= _TREE_DELTA]
    # Without a history to go by, trees of about the same size are the likeliest relatives.
    others.sort(key=lambda loose: (-loose.size, loose.name))
    blobs = [loose for loose in fresh if loose.kind == _BLOB]
    return _Plan(commits + tags, [roots, others], small + blobs)


# --- deltas ------------------------------------------------------------------------------

# Long enough to hold part of a hash wherever it begins in a tree with usual names; a
# shorter one would match in "40000 account_0" and lead astray.
_ANCHOR = 32
_WINDOW = 16
_BLOCK = 16
_SHIFT = 64
_REACH = 4096
_SHORTEST_COPY = 8
_LONGEST_COPY = 0xFFFF0
_LONGEST_INSERT = 127


def _delta(base: bytes, target: bytes, limit: int) -> bytes | None:
    """Instructions that make ``target`` from ``base``; None if they exceed ``limit`` bytes.

    Equal stretches are compared as memory, whatever their length; only around a
    difference is there any search.
    """
    out = bytearray(_varint(len(base)) + _varint(len(target)))
    blocks: dict[bytes, int] | None = None
    i = j = pending = 0
    run = _common(base, 0, target, 0)
    while True:
        if run >= _SHORTEST_COPY:
            _insert(out, target[pending:j])
            _copy(out, i, run)
            pending = j + run
        i += run
        j += run
        if j >= len(target) or len(out) + j - pending > limit:
            break
        found = _nearby(base, i, target, j)
        if found is None:
            if blocks is None:
                blocks = _blocks(base)
            found = _distant(blocks, base, target, j, limit)
            if found is None:
                break
        i, j, run = found
    _insert(out, target[pending:])
    return bytes(out) if len(out) <= limit else None


def _common(a: bytes, i: int, b: bytes, j: int) -> int:
    """How many bytes are equal from ``a[i]`` and ``b[j]`` on."""
    most = min(len(a) - i, len(b) - j)
    done = 0
    step = 64
    while done < most:
        step = min(step, most - done)
        if a[i + done : i + done + step] == b[j + done : j + done + step]:
            done += step
            step = min(step * 4, 1 << 16)
            continue
        while step > 1:
            half = step // 2
            if a[i + done : i + done + half] == b[j + done : j + done + half]:
                done += half
                step -= half
            else:
                step = half
        return done
    return done


def _nearby(base: bytes, i: int, target: bytes, j: int) -> tuple[int, int, int] | None:
    """Where the two agree again soon after a difference, and for how long.

    Tried are a replacement of equal length, a removal and an insertion; the one after
    which they agree longest is right.
    """
    candidates = []
    for shift in range(1, _SHIFT):
        window = base[i + shift : i + shift + _WINDOW]
        if len(window) == _WINDOW and window == target[j + shift : j + shift + _WINDOW]:
            candidates.append((i + shift, j + shift))
            break
    anchor = target[j : j + _ANCHOR]
    if len(anchor) == _ANCHOR and (at := base.find(anchor, i, i + _REACH)) >= 0:
        candidates.append((at, j))
    anchor = base[i : i + _ANCHOR]
    if len(anchor) == _ANCHOR and (at := target.find(anchor, j, j + _REACH)) >= 0:
        candidates.append((i, at))
    best = None
    for a, b in candidates:
        run = _common(base, a, target, b)
        if best is None or run > best[2]:
            best = (a, b, run)
    return best


def _blocks(base: bytes) -> dict[bytes, int]:
    last = len(base) // _BLOCK * _BLOCK - _BLOCK
    # Backwards, so that of equal blocks the first one stays.
    return {base[at : at + _BLOCK]: at for at in range(last, -1, -_BLOCK)}


def _distant(
    blocks: dict[bytes, int], base: bytes, target: bytes, j: int, limit: int
) -> tuple[int, int, int] | None:
    """The next place in ``target`` that is anywhere in ``base``."""
    for at in range(j, min(len(target) - _BLOCK + 1, j + limit)):
        i = blocks.get(target[at : at + _BLOCK])
        if i is not None:
            while i and at > j and base[i - 1] == target[at - 1]:
                i -= 1
                at -= 1
            return i, at, _common(base, i, target, at)
    return None


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _insert(out: bytearray, data: bytes) -> None:
    for at in range(0, len(data), _LONGEST_INSERT):
        piece = data[at : at + _LONGEST_INSERT]
        out.append(len(piece))
        out += piece


def _copy(out: bytearray, offset: int, size: int) -> None:
    while size:
        piece = min(size, _LONGEST_COPY)
        command = 0x80
        operands = bytearray()
        # Zero bytes of the offset (4) and the size (3) are left out.
        for bit, byte in enumerate(struct.pack("<I", offset) + struct.pack("<I", piece)[:3]):
            if byte:
                command |= 1 << bit
                operands.append(byte)
        out.append(command)
        out += operands
        offset += piece
        size -= piece


# --- files -------------------------------------------------------------------------------


def _damaged(path: Path | str) -> OSError:
    return OSError(errno.EIO, "what was written reads back differently", str(path))


@contextlib.contextmanager
def _reading(path: Path | str) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | _BINARY | _CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read_at(descriptor: int, offset: int, size: int) -> bytes:
    """May be shorter at the end of the file."""
    os.lseek(descriptor, offset, os.SEEK_SET)
    chunks = []
    while size > 0 and (chunk := os.read(descriptor, size)):
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)


def _pieces(descriptor: int, start: int, end: int) -> Iterator[bytes]:
    while start < end:
        piece = _read_at(descriptor, start, min(_CHUNK, end - start))
        if not piece:
            return
        yield piece
        start += len(piece)


class _Index:
    """A pack's index, version 2."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._fan_out = (0, *struct.unpack_from(">256I", data, 8))
        self.count: int = self._fan_out[-1]
        self.pack_hash = data[-40:-20]

    @classmethod
    def read(cls, path: Path | str) -> _Index | None:
        """None for one of another version or a damaged one."""
        try:
            data = durable.read_regular(path, _PACK_LIMIT)
        except OSError:
            return None
        if len(data) < 1072 or data[:8] != b"\xfftOc\0\0\0\2":
            return None
        if hashlib.sha1(data[:-20], usedforsecurity=False).digest() != data[-20:]:
            return None
        index = cls(data)
        return index if len(data) >= 1072 + 28 * index.count else None

    @property
    def plain(self) -> bool:
        """No table of large offsets."""
        return len(self._data) == 1072 + 28 * self.count

    def name(self, position: int) -> bytes:
        at = 1032 + 20 * position
        return self._data[at : at + 20]

    def __contains__(self, name: bytes) -> bool:
        low, high = self._fan_out[name[0]], self._fan_out[name[0] + 1]
        at = bisect_left(range(low, high), name, key=self.name) + low
        return at < high and self.name(at) == name

    def names(self) -> Iterator[bytes]:
        return map(self.name, range(self.count))

    def entries(self) -> Iterator[tuple[bytes, int, int]]:
        """Name, CRC and offset."""
        checks = 1032 + 20 * self.count
        offsets = checks + 4 * self.count
        for position in range(self.count):
            (check,) = struct.unpack_from(">I", self._data, checks + 4 * position)
            (offset,) = struct.unpack_from(">I", self._data, offsets + 4 * position)
            yield self.name(position), check, offset


def _index_bytes(entries: list[tuple[bytes, int, int]], pack_hash: bytes) -> bytes:
    entries.sort()
    fan_out = [0] * 256
    for name, _, _ in entries:
        fan_out[name[0]] += 1
    for first in range(1, 256):
        fan_out[first] += fan_out[first - 1]
    count = len(entries)
    data = b"".join(
        (
            b"\xfftOc\0\0\0\2",
            struct.pack(">256I", *fan_out),
            b"".join(name for name, _, _ in entries),
            struct.pack(f">{count}I", *(check for _, check, _ in entries)),
            struct.pack(f">{count}I", *(offset for _, _, offset in entries)),
            pack_hash,
        )
    )
    return data + hashlib.sha1(data, usedforsecurity=False).digest()


@dataclass(frozen=True)
class _Pack:
    """A pack in place; ``path`` has no suffix."""

    stem: str
    path: str
    size: int
    index: _Index

    def intact(self) -> bool:
        digest = hashlib.sha1(usedforsecurity=False)
        try:
            with _reading(self.path + ".pack") as descriptor:
                for piece in _pieces(descriptor, 0, self.size - 20):
                    digest.update(piece)
        except OSError:
            return False
        return digest.digest() == self.index.pack_hash


def _packs(objects: Path) -> list[_Pack]:
    """The packs whose objects count as packed."""
    try:
        with os.scandir(objects / "pack") as entries:
            names = {entry.name for entry in entries}
    except FileNotFoundError:
        return []
    found = []
    for name in sorted(names):
        stem, suffix = os.path.splitext(name)
        if suffix == ".idx" and (pack := _pack(objects, stem)) is not None:
            found.append(pack)
    return found


def _pack(objects: Path, stem: str) -> _Pack | None:
    """One pack, if its index and its two ends fit together.

    None for a cruft pack too: git drops what is in it when it has aged.
    """
    path = os.path.join(objects, "pack", stem)
    if os.path.lexists(path + ".mtimes"):
        return None
    index = _Index.read(path + ".idx")
    if index is None:
        return None
    try:
        with _reading(path + ".pack") as descriptor:
            size = os.fstat(descriptor).st_size
            head = _read_at(descriptor, 0, 12)
            tail = _read_at(descriptor, max(0, size - 20), 20)
    except OSError:
        return None
    if head != struct.pack(">4sII", b"PACK", 2, index.count) or tail != index.pack_hash:
        return None
    return _Pack(stem, path, size, index)


# --- the record of our packs -------------------------------------------------------------


class _Record:
    """Which packs are ours, and which are being put in place or taken away.

    The second list is what lets the ``.pack`` that a crash left without its ``.idx`` go:
    git never removes one, and a pack that lost its index in any other way must stay.
    """

    def __init__(self, objects: Path, temporary: Path) -> None:
        self.objects = objects
        self._path = temporary.parent / "packs.json"
        self._temporary = temporary
        self.ours: set[str] = set()
        self._unfinished: set[str] = set()
        with contextlib.suppress(OSError, ValueError, AttributeError, TypeError):
            data = json.loads(durable.read_regular(self._path, 16 << 20))
            self.ours = {name for name in data.get("packs", ()) if _STEM.fullmatch(name)}
            self._unfinished = {
                name for name in data.get("unfinished", ()) if _STEM.fullmatch(name)
            }

    def path(self, stem: str, suffix: str) -> str:
        return os.path.join(self.objects, "pack", stem + suffix)

    def settle(self) -> None:
        """Finish or drop what a crash interrupted."""
        if not self._unfinished:
            return
        for stem in sorted(self._unfinished):
            if os.path.lexists(self.path(stem, ".idx")):
                self.ours.add(stem)
            else:
                self.ours.discard(stem)
                _unlink(self.path(stem, ".pack"))
        self._unfinished = set()
        self._save()

    def begin(self, *stems: str) -> None:
        """Note what is about to appear or to vanish."""
        self._unfinished.update(stems)
        self._save()

    def add(self, stem: str, instead_of: Iterable[str] = ()) -> None:
        """Note that a pack is in place, and the others are to go."""
        self._unfinished.discard(stem)
        self.ours.add(stem)
        self._unfinished.update(instead_of)
        self.ours.difference_update(instead_of)
        self._save()

    def _save(self) -> None:
        self.ours = {stem for stem in self.ours if os.path.lexists(self.path(stem, ".pack"))}
        data = {"packs": sorted(self.ours), "unfinished": sorted(self._unfinished)}
        durable.replace(
            self._path,
            json.dumps(data, indent=1).encode() + b"\n",
            self._temporary / f"packs-{secrets.token_hex(8)}",
        )


# --- writing a pack ----------------------------------------------------------------------


class _PackWriter:
    """A pack that is being written under a temporary name."""

    def __init__(self, path: str, count: int) -> None:
        self.entries: list[tuple[bytes, int, int]] = []
        self.offset = 0
        self._path = path
        self._count = count
        self._buffer = bytearray()
        self._hash = hashlib.sha1(usedforsecurity=False)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY | _CLOEXEC
        self._descriptor = os.open(path, flags, _MODE)
        self.raw(struct.pack(">4sII", b"PACK", 2, count))

    def close(self) -> None:
        os.close(self._descriptor)

    def fits(self, size: int) -> bool:
        """Whether an object of this size can be added without passing the limit."""
        return self.offset + size + size // 512 + 1024 < _PACK_LIMIT

    def add(self, name: bytes, kind: int, data: bytes, base: int | None = None) -> int:
        """Add an object, or a delta against the one at ``base``; its offset is returned."""
        size = len(data)
        head = bytearray([(kind if base is None else _OFS_DELTA) << 4 | size & 15])
        size >>= 4
        while size:
            head[-1] |= 0x80
            head.append(size & 0x7F)
            size >>= 7
        offset = self.offset
        if base is not None:
            head += _distance(offset - base)
        entry = bytes(head) + zlib.compress(data)
        self.entries.append((name, zlib.crc32(entry), offset))
        self.raw(entry)
        return offset

    def raw(self, data: bytes) -> None:
        self._hash.update(data)
        self._buffer += data
        self.offset += len(data)
        if len(self._buffer) >= _CHUNK:
            self._flush()

    def _flush(self) -> None:
        view = memoryview(bytes(self._buffer))
        self._buffer.clear()
        while view:
            view = view[os.write(self._descriptor, view) :]

    def finish(self) -> bytes:
        """Write the trailer, bring all to the disk and return the pack's hash."""
        self._flush()
        if len(self.entries) != self._count:
            # Some objects turned out damaged or went away; the header comes first in the
            # hash, so all of it has to be done again.
            head = struct.pack(">4sII", b"PACK", 2, len(self.entries))
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            self._buffer += head
            self._flush()
            os.lseek(self._descriptor, 0, os.SEEK_END)
            self._hash = hashlib.sha1(head, usedforsecurity=False)
            with _reading(self._path) as descriptor:
                for piece in _pieces(descriptor, 12, self.offset):
                    self._hash.update(piece)
        digest = self._hash.digest()
        self._buffer += digest
        self._flush()
        if hasattr(os, "fchmod"):
            os.fchmod(self._descriptor, _MODE)
        durable.sync_descriptor(self._descriptor)
        return digest


def _distance(value: int) -> bytes:
    """The form of an offset in an OFS_DELTA entry."""
    out = bytearray([value & 0x7F])
    value >>= 7
    while value:
        value -= 1
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.reverse()
    return bytes(out)


@dataclass(frozen=True)
class _Base:
    data: bytes
    offset: int
    depth: int


def _write_chain(writer: _PackWriter, chain: list[_Loose]) -> None:
    """Each tree as a delta against the one before.

    Where that would get too deep, the next tree builds on the last one at which that
    happened, so that it costs a somewhat longer delta and not a whole tree.
    """
    last: _Base | None = None
    anchor: _Base | None = None
    for loose in chain:
        data = _load(loose) if writer.fits(loose.size) else None
        if data is None:
            continue
        name = bytes.fromhex(loose.name)
        base = last if last and last.depth < _DEPTH else anchor
        delta = None
        if base and base.depth < _DEPTH:
            delta = _delta(base.data, data, len(data) // 2)
        if base is None or delta is None:
            last = anchor = _Base(data, writer.add(name, loose.kind, data), 0)
            continue
        offset = writer.add(name, loose.kind, delta, base.offset)
        fresh = _Base(data, offset, base.depth + 1)
        if base is not last:
            anchor = fresh
        last = fresh


def _write_pack(
    record: _Record, fresh: list[_Loose], temporary: Path
) -> tuple[str | None, _Index | None]:
    """Write one pack of what can be read, put it in place, and return its index."""
    plan = _plan(fresh)
    with _temporary_pair(temporary) as (pack_path, index_path):
        writer = _PackWriter(pack_path, len(fresh))
        try:
            _write_whole(writer, plan.whole)
            for chain in plan.chains:
                _write_chain(writer, chain)
            _write_whole(writer, plan.rest)
            if not writer.entries:
                return None, None
            digest = writer.finish()
        finally:
            writer.close()
        index = _index_bytes(writer.entries, digest)
        durable.create(index_path, index, mode=_MODE)
        _verify(pack_path, index_path, resolve=True)
        stem = f"pack-{digest.hex()}"
        _put_in_place(record, stem, pack_path, index_path)
    # Read again from where it is now: only what git can find there may lose its loose file.
    pack = _pack(record.objects, stem)
    return stem, pack.index if pack else None


def _write_whole(writer: _PackWriter, objects: list[_Loose]) -> None:
    for loose in objects:
        data = _load(loose) if writer.fits(loose.size) else None
        if data is not None:
            writer.add(bytes.fromhex(loose.name), loose.kind, data)


@contextlib.contextmanager
def _temporary_pair(temporary: Path) -> Iterator[tuple[str, str]]:
    path = os.path.join(temporary, f"pack-{secrets.token_hex(8)}")
    try:
        yield path + ".pack", path + ".idx"
    finally:
        for suffix in (".pack", ".idx"):
            with contextlib.suppress(OSError):
                _unlink(path + suffix)


def _put_in_place(
    record: _Record,
    stem: str,
    pack_path: str,
    index_path: str,
    instead_of: tuple[str, ...] = (),
) -> None:
    directory = record.objects / "pack"
    if durable.make_directory(directory):
        durable.fsync_directory(record.objects)
    pack_target, index_target = record.path(stem, ".pack"), record.path(stem, ".idx")
    new = not os.path.lexists(index_target)
    record.begin(stem)
    try:
        durable.move(pack_path, pack_target)
        durable.fsync_directory(directory)
        durable.move(index_path, index_target)
    except BaseException:
        if new:
            with contextlib.suppress(OSError):
                _unlink(pack_target)
        raise
    durable.fsync_directory(directory)
    record.add(stem, instead_of)


# --- reading back ------------------------------------------------------------------------


def _verify(pack_path: str, index_path: str, *, resolve: bool) -> None:
    """Read a new pack as a stranger would, before anything depends on it.

    Args:
        pack_path: the pack.
        index_path: its index.
        resolve: also rebuild every object and compare its hash with its name.
    """
    index = _Index.read(index_path)
    if index is None:
        raise _damaged(index_path)
    with _reading(pack_path) as descriptor:
        size = os.fstat(descriptor).st_size
        head = _read_at(descriptor, 0, 12)
        digest = hashlib.sha1(head, usedforsecurity=False)
        entries = sorted(index.entries(), key=lambda entry: entry[2])
        offsets = [offset for _, _, offset in entries]
        ends = dict(zip(offsets, [*offsets[1:], size - 20], strict=True))
        if head != struct.pack(">4sII", b"PACK", 2, len(ends)) or offsets[0] != 12:
            raise _damaged(pack_path)
        resolver = _Resolver(descriptor, ends)
        for name, check, offset in entries:
            entry = _read_at(descriptor, offset, ends[offset] - offset)
            digest.update(entry)
            if zlib.crc32(entry) != check or (resolve and resolver.name(offset, entry) != name):
                raise _damaged(pack_path)
        if not digest.digest() == _read_at(descriptor, size - 20, 20) == index.pack_hash:
            raise _damaged(pack_path)


class _Resolver:
    """Rebuilds objects, keeping the few trees that the next ones build on."""

    def __init__(self, descriptor: int, ends: dict[int, int]) -> None:
        self._descriptor = descriptor
        self._ends = ends
        self._trees: OrderedDict[int, bytes] = OrderedDict()

    def name(self, offset: int, entry: bytes) -> bytes | None:
        """The object's hash; None if the entry makes no sense."""
        # dulwich's, so that an error in our idea of the format is not made twice.
        from dulwich.errors import ApplyDeltaError
        from dulwich.pack import apply_delta

        start = offset
        deltas = []
        try:
            while True:
                if offset in self._trees:
                    kind, data = _TREE, self._trees[offset]
                    self._trees.move_to_end(offset)
                    break
                kind, distance, data = _split_entry(entry)
                if not distance:
                    break
                deltas.append(data)
                offset -= distance
                entry = _read_at(self._descriptor, offset, self._ends[offset] - offset)
            for delta in reversed(deltas):
                data = b"".join(apply_delta(data, delta))
            header = b"%s %d\0" % (_KIND_NAMES[kind], len(data))
        except (ApplyDeltaError, ValueError, LookupError, AssertionError, zlib.error):
            return None
        if kind == _TREE:
            self._trees[start] = data
            while len(self._trees) > 4:
                self._trees.popitem(last=False)
        digest = hashlib.sha1(header, usedforsecurity=False)
        digest.update(data)
        return digest.digest()


def _split_entry(entry: bytes) -> tuple[int, int, bytes]:
    """Kind, distance to the base (0 if none) and content."""
    byte = entry[0]
    kind = byte >> 4 & 7
    size = byte & 15
    at, shift = 1, 4
    while byte & 0x80:
        byte = entry[at]
        size |= (byte & 0x7F) << shift
        at += 1
        shift += 7
    distance = 0
    if kind == _OFS_DELTA:
        byte = entry[at]
        at += 1
        distance = byte & 0x7F
        while byte & 0x80:
            byte = entry[at]
            at += 1
            distance = (distance + 1 << 7) | byte & 0x7F
    stream = zlib.decompressobj()
    data = stream.decompress(entry[at:], size + 1)
    if len(data) != size or not stream.eof or stream.unused_data:
        raise ValueError("entry of a wrong size")
    return kind, distance, data


# --- joining packs -----------------------------------------------------------------------


def _merge(record: _Record, temporary: Path, keep: int) -> int:
    ours = _joinable(record)
    if len(ours) <= keep:
        return 0
    gone = _drop_superfluous(record, ours)
    group = _choose_group(ours) if len(ours) > keep else []
    group = _without_doubles([pack for pack in group if pack.intact()])
    if len(group) < 2:
        return gone
    with _temporary_pair(temporary) as (pack_path, index_path):
        try:
            stem = _join(group, pack_path, index_path)
        except FileNotFoundError as error:
            if error.filename in (pack_path, index_path):
                raise
            return gone  # git repacked everything in the meantime
        _put_in_place(record, stem, pack_path, index_path, tuple(pack.stem for pack in group))
    if _pack(record.objects, stem) is None:
        return gone  # or even the new one
    for pack in group:
        _remove_pack(pack)
    return gone + len(group)


def _joinable(record: _Record) -> list[_Pack]:
    """Our packs by size, without those that git has a hand on."""
    objects = record.objects
    if any(os.path.lexists(objects / "pack" / f"multi-pack-index{end}") for end in ("", ".d")):
        # It names packs; the person's git maintenance joins them itself.
        return []
    with contextlib.suppress(OSError):
        if time.time() - os.stat(objects.parent / "gc.pid").st_mtime < _GC_SECONDS:
            # It would stop with an error if packs vanished below it.
            return []
    found = []
    for stem in sorted(record.ours):
        if any(os.path.lexists(record.path(stem, suffix)) for suffix in _HANDS_OFF):
            continue
        pack = _pack(objects, stem)
        if pack is not None and pack.index.plain:
            found.append(pack)
    found.sort(key=lambda pack: (pack.size, pack.stem))
    return found


def _drop_superfluous(record: _Record, ours: list[_Pack]) -> int:
    """Remove packs whose objects are all in others of ours.

    A crash between the joined pack and the removal of its parts leaves such.
    """
    gone = 0
    for pack in list(ours):
        others = [other for other in ours if other is not pack]
        if not all(any(name in other.index for other in others) for name in pack.index.names()):
            continue
        if all(other.intact() for other in others):
            record.begin(pack.stem)
            _remove_pack(pack)
            ours.remove(pack)
            gone += 1
    return gone


def _choose_group(ours: list[_Pack]) -> list[_Pack]:
    """The smallest packs up to the last that is less than twice all before it."""
    candidates = list(ours)
    while candidates:
        total = chosen = taken = 0
        for position, pack in enumerate(candidates, 1):
            if pack.size < 2 * total:
                chosen, taken = position, total + pack.size
            total += pack.size
        if taken < _PACK_LIMIT:
            return candidates[:chosen]
        # Chosen anew without it, or a full pack would be copied for every small one.
        candidates.pop()
    return []


def _without_doubles(group: list[_Pack]) -> list[_Pack]:
    """A pack must not hold an object twice."""
    seen: set[bytes] = set()
    result = []
    for pack in group:
        if not any(name in seen for name in pack.index.names()):
            seen.update(pack.index.names())
            result.append(pack)
    return result


def _join(group: list[_Pack], pack_path: str, index_path: str) -> str:
    """Write the packs one after the other into a new one; returns its name.

    Deltas name their base by distance, so a pack's entries can be copied as one piece.
    """
    writer = _PackWriter(pack_path, sum(pack.index.count for pack in group))
    try:
        for pack in group:
            shift = writer.offset - 12
            writer.entries += [
                (name, check, offset + shift) for name, check, offset in pack.index.entries()
            ]
            with _reading(pack.path + ".pack") as descriptor:
                for piece in _pieces(descriptor, 12, pack.size - 20):
                    writer.raw(piece)
        digest = writer.finish()
    finally:
        writer.close()
    durable.create(index_path, _index_bytes(writer.entries, digest), mode=_MODE)
    _verify(pack_path, index_path, resolve=False)
    return f"pack-{digest.hex()}"


def _remove_pack(pack: _Pack) -> None:
    """In git's order: without its index a pack is not there for anybody."""
    _unlink(pack.path + ".idx")
    if not os.path.lexists(pack.path + ".idx"):
        _unlink(pack.path + ".pack")
        _unlink(pack.path + ".rev")
