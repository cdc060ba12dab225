"""Reading packs, git's and ours, with a descriptor for one of them at a time.

Packs come one for each commit, and a process may have few descriptors: 256 on macOS, of which a
program with many sockets has some left. Nothing is mapped into memory either, for a disk that
fails below a mapping ends the process where a read says so.

What cannot be read for a reason of the moment is told apart from what was read and is wrong: the
first is raised when the object is in no other pack, the second makes the pack count for nothing.
"""

from __future__ import annotations

import logging
import os
import struct
import threading
import zlib
from bisect import bisect_left
from collections import OrderedDict
from hashlib import sha1
from operator import le
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from tweakio import durable
from tweakio.errors import is_of_the_moment, refuse_lack_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    _Signature = tuple[int, ...]

__all__ = ["PackedObjects"]

_T = TypeVar("_T")

log = logging.getLogger(__name__)

_KINDS = {1: b"commit", 2: b"tree", 3: b"blob", 4: b"tag"}
_OFS_DELTA, _REF_DELTA = 6, 7
_LARGEST = 64 << 20
_MOST_INDEX = 1 << 31
# Indexes are read as a whole: of a hundred thousand objects one has 3 MB.
_MOST_INDEXES = 64 << 20
# Root trees are deltas one against the other, in chains of up to 50 of ours and 4095 of git's.
_MOST_BASES = 16 << 20
_LONGEST_CHAIN = 5000
_LONGEST_NUMBER = 63
_CHUNK = 4096
_PIECE = 1 << 22
# How often packs are listed before a store that changes all the time is given up.
_TRIES = 8


class _DamagedError(Exception):
    """What was read is wrong."""


class _Index:
    """The bytes of an index, version 1 or 2, of which only what searches need was checked."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._second = data[:4] == b"\xfftOc"
        if self._second and data[4:8] != b"\0\0\0\2":
            raise _DamagedError("an index of an unknown version")
        head = 8 if self._second else 0
        if len(data) < head + 1024 + 40:
            raise _DamagedError("an index that is cut short")
        self._fan_out = (0, *struct.unpack_from(">256I", data, head))
        self.count = self._fan_out[-1]
        self._names = head + 1024 + (0 if self._second else 4)
        self._step = 20 if self._second else 24
        self._offsets = head + 1024 + 24 * self.count  # of version 2
        size = head + 1024 + (28 if self._second else 24) * self.count + 40
        if len(data) < size or not all(map(le, self._fan_out, self._fan_out[1:])):
            raise _DamagedError("an index that cannot be right")
        self.size = len(data)

    def name(self, position: int) -> bytes:
        at = self._names + self._step * position
        return self._data[at : at + 20]

    def find(self, name: bytes) -> int | None:
        """Where an object's entry begins in the pack."""
        low, high = self._fan_out[name[0]], self._fan_out[name[0] + 1]
        at = bisect_left(range(low, high), name, key=self.name) + low
        return self._offset(at) if at < high and self.name(at) == name else None

    def _offset(self, position: int) -> int:
        if not self._second:
            at = self._names + self._step * position - 4
            return int.from_bytes(self._data[at : at + 4], "big")
        at = self._offsets + 4 * position
        offset = int.from_bytes(self._data[at : at + 4], "big")
        if offset < 1 << 31:
            return offset
        at = self._offsets + 4 * self.count + 8 * (offset & (1 << 31) - 1)
        return int.from_bytes(self._data[at : at + 8], "big")

    def names(self, first: bytes = b"", last: bytes = b"\xff" * 20) -> Iterator[bytes]:
        """The names from one on to another, both included."""
        begin = bisect_left(range(self.count), first, key=self.name) if first else 0
        for position in range(begin, self.count):
            name = self.name(position)
            if name > last:
                return
            yield name


class _Open(NamedTuple):
    """The pack that was read from last."""

    stem: str
    descriptor: int


class PackedObjects:
    """The packs of one object store; threads may share it.

    Packs are found by the ``.idx`` beside them, as git does it. Names that begin with a dot are
    not git's: macOS puts a ``._pack-X.idx`` beside each file on a drive that keeps no attributes.

    Args:
        objects: the ``objects`` directory.
    """

    def __init__(self, objects: str) -> None:
        self._directory = os.path.join(objects, "pack")
        self._stems: list[str] | None = None
        self._indexes: OrderedDict[str, tuple[_Signature, _Index]] = OrderedDict()
        self._broken: set[str] = set()
        self._bases: OrderedDict[tuple[str, int], tuple[bytes, bytes]] = OrderedDict()
        self._based = 0
        self._open: _Open | None = None
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close what is open, and forget what was read; both come again when they are needed."""
        with self._lock:
            self._close()
            self._stems = None
            self._indexes.clear()
            self._forget_bases()

    def __del__(self) -> None:
        self._close()

    def find(self, name: bytes) -> tuple[bytes, bytes] | None:
        """Kind and body of an object.

        None only if all packs were looked through and none has it as what it should be.

        Raises:
            OSError: one of them cannot be read now.
        """
        with self._lock:
            if self._stems is not None:
                try:
                    found = self._look(name)
                except OSError:
                    found = None
                if found is not None:
                    return found
            return self._look_again(name)

    def _look_again(self, name: bytes) -> tuple[bytes, bytes] | None:
        """Look through the packs that there are now."""
        for left in range(_TRIES - 1, -1, -1):
            self._list()
            try:
                return self._look(name)
            except OSError as error:
                # A pack that a gc has removed since; its objects are in another one.
                if is_of_the_moment(error) or not left:
                    raise
        return None

    def names(self, prefix: str = "") -> Iterator[bytes]:
        """The names of all objects that begin with some hexadecimal digits; some may come twice.

        Raises:
            OSError: an index cannot be read now.
        """
        first, last = (bytes.fromhex(prefix + end * (40 - len(prefix))) for end in "0f")
        with self._lock:
            for left in range(_TRIES - 1, -1, -1):
                self._list()
                try:
                    found = [
                        name
                        for stem in self._stems or ()
                        if (index := self._index(stem)) is not None
                        for name in index.names(first, last)
                    ]
                except OSError as error:
                    if is_of_the_moment(error) or not left:
                        raise
                else:
                    break
        yield from found

    # All that follows is called with the lock held

    def _list(self) -> None:
        """Know the packs that there are now; what was read of a replaced one is forgotten."""
        self._broken.clear()
        try:
            names = set(os.listdir(self._directory))
        except OSError as error:
            if is_of_the_moment(error):
                raise
            names = set()
        stems = {
            name[:-4]
            for name in names
            if name.endswith(".idx") and name[0] != "." and name[:-4] + ".pack" in names
        }
        for stem in [*self._indexes]:
            if stem not in stems or self._signature(stem) != self._indexes[stem][0]:
                self._forget(stem)
        # The pack that had the last object comes first: most likely it has the next one, too.
        known = [stem for stem in self._stems or () if stem in stems]
        self._stems = known + sorted(stems.difference(known))

    def _signature(self, stem: str) -> _Signature:
        try:
            status = os.lstat(os.path.join(self._directory, stem + ".idx"))
        except OSError:
            return ()  # it will be read again, which says why it cannot
        return status.st_ino, status.st_size, status.st_mtime_ns

    def _look(self, name: bytes) -> tuple[bytes, bytes] | None:
        stems = self._stems or []
        failure: OSError | None = None
        for place, stem in enumerate(stems):
            try:
                index = self._index(stem)
                offset = index.find(name) if index is not None else None
                if offset is None:
                    continue
                found = self._read(stem, offset)
            except OSError as error:
                # One that is gone says to list the packs again, a permission not to.
                if failure is None or not is_of_the_moment(error):
                    failure = error
            except (_DamagedError, zlib.error, IndexError) as error:
                if isinstance(error, zlib.error):
                    refuse_lack_of_memory(error)
                log.debug("cannot read %s of %s: %s", name.hex(), stem, error)
                self._forget(stem)  # another pack may have taken its place
            else:
                if _name_of(*found) == name:
                    if place:
                        stems.insert(0, stems.pop(place))
                    return found
                self._forget(stem)
        if failure is not None:
            raise failure
        return None

    def _index(self, stem: str) -> _Index | None:
        """The index of a pack; None if it is damaged."""
        if stem in self._indexes:
            self._indexes.move_to_end(stem)
            return self._indexes[stem][1]
        if stem in self._broken:
            return None
        path = os.path.join(self._directory, stem + ".idx")
        signature = self._signature(stem)
        try:
            index = _Index(_unless_misplaced(path, durable.read_regular, path, _MOST_INDEX))
        except _DamagedError as error:
            log.debug("%s: %s", path, error)
            self._broken.add(stem)
            return None
        self._indexes[stem] = signature, index
        while len(self._indexes) > 1 and self._size_of_indexes() > _MOST_INDEXES:
            self._indexes.popitem(last=False)
        return index

    def _size_of_indexes(self) -> int:
        return sum(index.size for _, index in self._indexes.values())

    def _forget(self, stem: str) -> None:
        self._indexes.pop(stem, None)
        self._forget_bases()
        if self._open is not None and self._open.stem == stem:
            self._close()

    def _forget_bases(self) -> None:
        self._bases.clear()
        self._based = 0

    def _read(self, stem: str, offset: int) -> tuple[bytes, bytes]:
        deltas: list[tuple[int, bytes]] = []
        seen = set()
        size = 0
        while True:
            known = self._bases.get((stem, offset))
            if known is not None:
                self._bases.move_to_end((stem, offset))
                kind, body = known
                break
            if offset in seen or len(deltas) > _LONGEST_CHAIN:
                raise _DamagedError("deltas that lead nowhere")
            seen.add(offset)
            number, base, data = self._entry(stem, offset)
            if base is None:
                kind, body = _KINDS[number], data
                self._keep(stem, offset, kind, body)
                break
            size += len(data)
            if size > _LARGEST:
                raise _DamagedError("deltas that are larger than any of ours")
            deltas.append((offset, data))
            offset = base
        for place, delta in reversed(deltas):
            body = _apply(body, delta)
            self._keep(stem, place, kind, body)
        return kind, body

    def _keep(self, stem: str, offset: int, kind: bytes, body: bytes) -> None:
        if kind != b"tree" or len(body) > _MOST_BASES // 4:
            return  # of blobs and commits tweakio makes no deltas
        self._bases[stem, offset] = kind, body
        self._based += len(body)
        while self._based > _MOST_BASES:
            _, (_, old) = self._bases.popitem(last=False)
            self._based -= len(old)

    def _entry(self, stem: str, offset: int) -> tuple[int, int | None, bytes]:
        """The number of the kind, the offset of what it is a delta to, and the content."""
        descriptor = self._descriptor(stem)
        path = os.path.join(self._directory, stem + ".pack")
        chunk = _read_at(descriptor, offset, _CHUNK, path)
        number, size, at = _head(chunk)
        if size > _LARGEST:
            raise _DamagedError("an object that is larger than any of ours")
        base: int | None = None
        if number == _OFS_DELTA:
            byte = chunk[at]
            at += 1
            distance = byte & 0x7F
            while byte & 0x80:
                byte = chunk[at]
                at += 1
                distance = (distance + 1 << 7) | byte & 0x7F
            base = offset - distance
            if not 0 < distance < offset:
                raise _DamagedError("a delta to what is no object")
        elif number == _REF_DELTA:
            index = self._index(stem)
            base = index.find(chunk[at : at + 20]) if index is not None else None
            at += 20
            if base is None:
                raise _DamagedError("a delta to what is in no pack")
        elif number not in _KINDS:
            raise _DamagedError("an object of an unknown kind")
        return number, base, _inflated(descriptor, chunk[at:], offset + len(chunk), size, path)

    def _descriptor(self, stem: str) -> int:
        if self._open is not None and self._open.stem == stem:
            return self._open.descriptor
        self._close()
        path = os.path.join(self._directory, stem + ".pack")
        descriptor = _unless_misplaced(path, durable.open_regular, path)
        self._open = _Open(stem, descriptor)
        return descriptor

    def _close(self) -> None:
        opened, self._open = self._open, None
        if opened is not None:
            os.close(opened.descriptor)


def _name_of(kind: bytes, body: bytes) -> bytes:
    digest = sha1(b"%b %d\0" % (kind, len(body)), usedforsecurity=False)
    digest.update(body)  # one after the other, or a large one would be copied
    return digest.digest()


def _unless_misplaced(path: str, read: Callable[..., _T], *arguments: object) -> _T:
    """What a function returns, with another error for what is there and is no regular file."""
    try:
        return read(*arguments)
    except OSError as error:
        if not is_of_the_moment(error) and durable.is_there(path):
            raise _DamagedError(str(error)) from None
        raise


def _read_at(descriptor: int, offset: int, length: int, path: str) -> bytes:
    try:
        if hasattr(os, "pread"):
            return os.pread(descriptor, length, offset)
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.read(descriptor, length)
    except OSError as error:
        error.filename = path
        raise


def _inflated(descriptor: int, chunk: bytes, position: int, size: int, path: str) -> bytes:
    """The content of an entry, of which a piece was read up to a position."""
    stream = zlib.decompressobj()
    parts = []
    left = size + 1
    step = _CHUNK
    while True:
        # In pieces: zlib makes what is asked for twice, and a megabyte can hold a thousand.
        wanted = min(left, _PIECE)
        parts.append(stream.decompress(chunk, wanted))
        left -= len(parts[-1])
        if stream.eof or left <= 0:
            break
        chunk = stream.unconsumed_tail
        if not chunk and len(parts[-1]) < wanted:
            step = min(step * 4, 1 << 20)
            chunk = _read_at(descriptor, position, step, path)
            if not chunk:
                raise _DamagedError("an object that is cut short")
            position += len(chunk)
    data = b"".join(parts)
    if len(data) != size or not stream.eof:
        raise _DamagedError("an object of another length")
    return data


def _head(data: bytes) -> tuple[int, int, int]:
    """Kind and size of an entry, and where they end."""
    byte = data[0]
    at = 1
    number, size, shift = byte >> 4 & 7, byte & 15, 4
    while byte & 0x80:
        byte = data[at]
        at += 1
        size |= (byte & 0x7F) << shift
        shift += 7
    return number, size, at


def _apply(base: bytes, delta: bytes) -> bytes:
    """What a delta makes of its base; no more of it than it says, and that is bounded."""
    expected, at = _varint(delta, 0)
    size, at = _varint(delta, at)
    if expected != len(base) or size > _LARGEST:
        raise _DamagedError("a delta of something else")
    parts = []
    made = 0
    end = len(delta)
    while at < end:
        command = delta[at]
        at += 1
        if command & 0x80:
            offset = length = 0
            for bit in range(4):
                if command & 1 << bit:
                    offset |= delta[at] << 8 * bit
                    at += 1
            for bit in range(3):
                if command & 16 << bit:
                    length |= delta[at] << 8 * bit
                    at += 1
            length = length or 0x10000
            if offset + length > len(base):
                raise _DamagedError("a delta that copies what is not there")
            parts.append(base[offset : offset + length])
            made += length
        elif command:
            parts.append(delta[at : at + command])
            at += command
            made += command
        else:
            raise _DamagedError("a delta with an unknown command")
        if made > size:
            raise _DamagedError("a delta that makes more than it says")
    if made != size or at != end:
        raise _DamagedError("a delta that is cut short")
    return b"".join(parts)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, at
        if shift > _LONGEST_NUMBER:
            raise _DamagedError("a number without end")
