"""Sound objects found in damaged files of the object store."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import zlib
from collections import OrderedDict
from typing import TYPE_CHECKING

from tweakio import durable
from tweakio.doctor.strict import content, names_in
from tweakio.errors import RepositoryDamagedError, is_of_the_moment, refuse_lack_of_memory
from tweakio.store.objects import object_id, parse_commit, parse_tree
from tweakio.store.packs.format import (
    HEADER,
    KIND_NAMES,
    OFS_DELTA,
    PACK_LIMIT,
    read_head,
)
from tweakio.store.packs.index import Index as PackIndex

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tweakio.store.repository import Repository


__all__ = ["BrokenPack", "is_sound_loose", "is_sound_pack", "loose_files", "pack_files", "sealed"]

_LOOSE_DIRECTORY = re.compile(r"[0-9a-f]{2}")
_LOOSE_NAME = re.compile(r"[0-9a-f]{38}")
_MANY_BYTES = 64 << 20
_PIECE = 1 << 16
_LARGEST = 64 << 20
# A kilobyte can say that it unpacks to a terabyte.
_ENDLESS = 1 << 30
_MOST_DERIVED = PACK_LIMIT * 4
_REF_DELTA = 7
# Git reads both versions, and writes the first.
_BEGINS = (b"PACK\0\0\0\2", b"PACK\0\0\0\3")
# A size of up to 64 bits, and the name of a base or the distance to it.
_LONGEST_HEAD = 10 + 20
# The two bytes that a zlib stream begins with: as one number a multiple of 31.
_STREAM = re.compile(
    b"|".join(
        re.escape(bytes([first])) + b"[" + b"".join(
            re.escape(bytes([second]))
            for second in range(256)
            if (first * 256 + second) % 31 == 0 and not second & 0x20
        ) + b"]"
        for first in range(0x08, 0x80, 0x10)
    ),
    re.DOTALL,
)  # fmt: skip
_MODES = frozenset({b"100644", b"100755", b"120000", b"160000", b"40000"})
_UNREADABLE = (
    ValueError, IndexError, KeyError, StopIteration, zlib.error, RepositoryDamagedError,
)  # fmt: skip


def loose_files(objects: Path) -> Iterator[Path]:
    for directory in names_in(objects):
        if _LOOSE_DIRECTORY.fullmatch(directory):
            for name in names_in(objects / directory):
                if _LOOSE_NAME.fullmatch(name):
                    yield objects / directory / name


def is_sound_loose(path: Path) -> bool:
    """Whether a loose object is what its name says, of whatever size.

    Raises:
        OSError: it cannot be read now.
    """
    digest = hashlib.sha1(usedforsecurity=False)
    stream = zlib.decompressobj()
    size = 0
    with _opened(path) as descriptor:
        if descriptor is None:
            return not durable.is_there(path)  # a gc packed it just now
        while not stream.eof:
            piece = stream.unconsumed_tail or os.read(descriptor, _PIECE)
            try:
                part = stream.decompress(piece, _PIECE)
            except zlib.error as error:
                refuse_lack_of_memory(error)
                return False
            if not piece and not part and not stream.eof:
                return False  # cut short
            digest.update(part)
            size += len(part)
            if size > _ENDLESS:
                return True  # nobody's profile; git may judge it
        # Git refuses what stands behind the compressed content, too.
        if stream.unused_data or os.read(descriptor, 1):
            return False
    return digest.hexdigest() == path.parent.name + path.name


@contextlib.contextmanager
def _opened(path: Path | str) -> Iterator[int | None]:
    """A regular file; None if it is certainly none."""
    try:
        descriptor = durable.open_regular(path)
    except OSError as error:
        if is_of_the_moment(error):
            raise
        yield None
        return
    try:
        yield descriptor
    except OSError as error:
        error.filename = error.filename or os.fspath(path)
        raise
    finally:
        os.close(descriptor)


def pack_files(objects: Path, *, orphans: bool = False) -> list[str]:
    """The packs, without their suffix.

    Args:
        objects: the directory.
        orphans: those that lack their index instead, as a crash leaves new ones.
    """
    names = set(names_in(objects / "pack"))
    return sorted(
        os.path.join(objects, "pack", name[: -len(".pack")])
        for name in names
        if name.startswith("pack-") and name.endswith(".pack")
        if orphans != (f"{name[: -len('.pack')]}.idx" in names)
    )


def sealed(path: str) -> bytes:
    """A file that ends with the hash of what stands before; nothing if it does not."""
    data = content(path, _MOST_DERIVED) or b""
    digest = hashlib.sha1(memoryview(data)[:-20], usedforsecurity=False).digest()
    return data if data[-20:] == digest else b""


def is_sound_pack(path: str) -> bool:
    index = sealed(path + ".idx")
    parsed = PackIndex.parse(index)
    if index[:8] == b"\xfftOc\0\0\0\2" and parsed is None:
        return False
    places = None
    if parsed is not None and parsed.plain:
        places = sorted((offset, check) for _, check, offset in parsed.entries())
    with _opened(path + ".pack") as descriptor:
        if descriptor is None:
            return not durable.is_there(path + ".pack")  # a gc removed it just now
        return len(index) > 40 and _pack_fits(descriptor, index[-40:-20], places)


def is_whole_pack(path: str) -> bool:
    """Whether a pack, by the hash at its end, is as it was written."""
    with _opened(path + ".pack") as descriptor:
        return descriptor is not None and _pack_fits(descriptor, None, None)


def _pack_fits(
    descriptor: int, expected: bytes | None, places: list[tuple[int, int]] | None
) -> bool:
    """Whether a pack begins as one, ends with its hash, and has each entry where the index says.

    Args:
        descriptor: of the pack.
        expected: the hash that the index has of it; None if there is no index.
        places: the offset and the checksum of each entry, sorted; None to leave them alone.
    """
    end = os.fstat(descriptor).st_size - 20
    if end < HEADER:
        return False
    head = os.read(descriptor, HEADER)
    if head[:8] not in _BEGINS or (
        places is not None and len(places) != int.from_bytes(head[8:], "big")
    ):
        return False
    digest = hashlib.sha1(head, usedforsecurity=False)
    checks = _Entries(places, end) if places is not None else None
    at = HEADER
    while at < end:
        piece = os.read(descriptor, min(_PIECE, end - at))
        if not piece:
            return False
        digest.update(piece)
        if checks is not None and not checks.take(at, piece):
            return False
        at += len(piece)
    tail = os.read(descriptor, 20)
    return (
        tail == digest.digest()
        and expected in (None, tail)
        and (checks is None or checks.is_complete())
    )


class _Entries:
    """Compares the entries of a pack with their checksums while the pack passes.

    Args:
        places: offset and checksum of each, sorted.
        end: where the last entry ends.
    """

    def __init__(self, places: list[tuple[int, int]], end: int) -> None:
        self._places = places
        self._ends = [offset for offset, _ in places[1:]] + [end]
        self._next = 0
        self._sum = 0
        self._sound = not places or places[0][0] == HEADER

    def take(self, at: int, piece: bytes) -> bool:
        """The next piece, which begins at an offset; False if something does not fit."""
        view = memoryview(piece)
        stop = at + len(piece)
        while self._sound and self._next < len(self._places):
            begin, check = self._places[self._next]
            end = self._ends[self._next]
            if begin >= stop:
                break
            self._sum = zlib.crc32(view[max(0, begin - at) : end - at], self._sum)
            if end > stop:
                break
            self._sound = begin < end and self._sum == check
            self._next += 1
            self._sum = 0
        return self._sound

    def is_complete(self) -> bool:
        return self._sound and self._next == len(self._places)


class _LargeError(ValueError):
    """An object is larger than any of ours."""


class BrokenPack:
    """Reads what can be read of a pack, whatever is wrong with it or its index.

    Attributes:
        large: whether an object was met, one after the other, that is larger than any of ours.
        gaps: whether something was met between the objects that is none.
        whole: whether the pack itself is as it was written.
        count: how many objects it says it has.
        digest: the hash at its end.
    """

    def __init__(self, path: str, repository: Repository) -> None:
        self._repository = repository
        self._path = path
        self.large = False
        self.gaps = False
        self.whole = is_whole_pack(path)
        try:
            self._data = durable.read_regular(path + ".pack", PACK_LIMIT * 4)
        except OSError as error:
            if is_of_the_moment(error) or error.errno == errno.EFBIG:
                raise
            self._data = b""
        self.count = int.from_bytes(self._data[8:HEADER], "big")
        self.digest = self._data[-20:]
        # The index of a pack that is whole is what may be wrong.
        self._index = None if self.whole else _index_of(path)
        self._cache: OrderedDict[int, tuple[int, bytes]] = OrderedDict()
        self._cached = 0
        self._places: dict[bytes, int] = {}

    def names(self) -> set[bytes]:
        """What its index says that is in it; nothing if that cannot be told."""
        index = _index_of(self._path) if self._index is None else self._index
        return set() if index is None else set(index.names())

    def objects(self) -> Iterator[tuple[bytes, bytes, bytes, int, int]]:
        """Name, kind, body, CRC and offset of each object that can be read."""
        places = self._sequence()
        if self._index is not None:
            self._places = {name: offset for name, _, offset in self._index.entries()}
            places = ((offset, 0) for offset in sorted(self._places.values()))
        for offset, end in places:
            try:
                number, body = self._object(offset)
                kind = KIND_NAMES[number]
                _check_form(kind, body)
            except _UNREADABLE as error:
                refuse_lack_of_memory(error)
                continue
            name = object_id(kind, body)
            if self._index is None:
                self._places[name] = offset
            elif self._places.get(name) != offset:
                continue  # not what the index says is there
            yield name, kind, body, zlib.crc32(memoryview(self._data)[offset:end]), offset

    def _sequence(self) -> Iterator[tuple[int, int]]:
        """The offsets one after the other.

        Where an entry ends is known only when it can be read. After one that cannot, the next
        is looked for at every byte; one in ten thousand looks like the begin of a compressed
        stream, and none that is not one has the right checksum at its end.
        """
        at = HEADER
        guessed = False
        while at < len(self._data) - 20:
            try:
                *_, end = self._entry(at)
            except _UNREADABLE as error:
                refuse_lack_of_memory(error)
                self.large |= isinstance(error, _LargeError) and not guessed
                self.gaps = True
                at = self._next_candidate(at + 1)
                guessed = True
            else:
                yield at, end
                at = end
                guessed = False

    def _next_candidate(self, at: int) -> int:
        """The next place from which the begin of a compressed stream can be reached.

        A search for that begin, because a gigabyte of zeros would take an hour byte by byte.
        """
        found = _STREAM.search(self._data, at)
        return max(at, found.start() - _LONGEST_HEAD) if found else len(self._data)

    def _entry(self, at: int) -> tuple[int, int | bytes, bytes, int]:
        """Kind, base (an offset or a name), content and end of an entry."""
        kind, size, distance, start = read_head(self._data, at)
        # What a head says may be what is damaged: large is what was seen to be.
        most = min(size, _LARGEST)
        base: int | bytes = at - distance
        if kind == _REF_DELTA:
            base = self._data[start : start + 20]
            start += 20
        elif kind == OFS_DELTA and not HEADER <= at - distance < at:
            raise ValueError("a delta without a base")
        stream = zlib.decompressobj()
        parts: list[bytes] = []
        length = 0
        while not stream.eof:
            piece = self._data[start : start + _PIECE]
            if not piece:
                raise ValueError("cut short")
            parts.append(stream.decompress(piece, most + 1 - length))
            length += len(parts[-1])
            if length > most:
                raise _LargeError if size > most else ValueError("too long")
            start += len(piece) - len(stream.unused_data) - len(stream.unconsumed_tail)
        if length != size:
            raise ValueError("of another size")
        return kind, base, b"".join(parts), start

    def _object(self, offset: int) -> tuple[int, bytes]:
        deltas: list[tuple[int, bytes]] = []
        passed: set[int] = set()
        at = offset
        while True:
            if at in self._cache:
                kind, body = self._cache[at]
                break
            kind, base, body, _ = self._entry(at)
            if kind not in (OFS_DELTA, _REF_DELTA):
                break
            deltas.append((at, body))
            if at in passed:
                raise ValueError("deltas in a circle")
            passed.add(at)
            if isinstance(base, bytes):
                place = self._places.get(base)
                if place is None:
                    name, body = self._repository.reader.read_any(base)
                    kind = next(number for number, kind in KIND_NAMES.items() if kind == name)
                    break
                at = place
            else:
                at = base
        for at, delta in reversed(deltas):
            body = _apply_delta(body, delta)
            self._remember(at, kind, body)
        return kind, body

    def _remember(self, at: int, kind: int, body: bytes) -> None:
        """Keep what the next objects of a chain build on."""
        self._cache[at] = (kind, body)
        self._cached += len(body)
        while self._cached > _MANY_BYTES:
            self._cached -= len(self._cache.popitem(last=False)[1][1])


def _index_of(path: str) -> PackIndex | None:
    data = content(path + ".idx", _MOST_DERIVED)
    return None if data is None else PackIndex.parse(data)


def _check_form(kind: bytes, body: bytes) -> None:
    """Refuse what git would not read: where only an entry's kind is damaged its name is new."""
    if kind == b"tree" and any(
        entry.mode not in _MODES or not entry.name for entry in parse_tree(body)
    ):
        raise ValueError("not a tree")
    if kind == b"commit":
        parse_commit("", body)


def _apply_delta(base: bytes, delta: bytes) -> bytes:
    """What a delta of a pack makes of its base.

    Raises:
        ValueError, IndexError: it does not fit.
    """
    size, at = _varint(delta, 0)
    result_size, at = _varint(delta, at)
    if size != len(base) or result_size > _LARGEST:
        raise ValueError("another base, or larger than any")
    out = bytearray()
    while at < len(delta):
        code = delta[at]
        at += 1
        if not code & 0x80:
            if not code:
                raise ValueError("reserved")
            out += delta[at : at + code]
            at += code
            continue
        values = []
        for bits in ((1, 2, 4, 8), (16, 32, 64)):
            value = 0
            for shift, bit in enumerate(bits):
                if code & bit:
                    value |= delta[at] << 8 * shift
                    at += 1
            values.append(value)
        start, length = values[0], values[1] or 0x10000
        out += base[start : start + length]
        if len(out) > result_size:
            break
    if len(out) != result_size:
        raise ValueError("of another size")
    return bytes(out)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a number without end")


# Small things
