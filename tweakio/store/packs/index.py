"""Packs in place, and what their indexes say."""

from __future__ import annotations

import hashlib
import os
import struct
import sys
import time
from array import array
from bisect import bisect_left
from dataclasses import dataclass
from operator import le
from typing import TYPE_CHECKING

from tweakio import durable
from tweakio.errors import is_of_the_moment
from tweakio.store.packs.files import pieces, read_at, reading, unlink
from tweakio.store.packs.format import PACK_LIMIT, pack_header

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Index", "Pack", "find_pack", "find_packs", "gc_is_running", "remove_pack"]

# git takes a gc.pid that is older for one that a crash left.
_GC_SECONDS = 12 * 3600


class Index:
    """A pack's index, version 2."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._fan_out = (0, *struct.unpack_from(">256I", data, 8))
        self.count: int = self._fan_out[-1]
        self.pack_hash = data[-40:-20]

    @classmethod
    def read(cls, path: Path | str) -> Index | None:
        """None for one of another version, a damaged one, or none.

        Raises:
            OSError: it cannot be read now.
        """
        try:
            data = durable.read_regular(path, PACK_LIMIT)
        except OSError as error:
            if is_of_the_moment(error):
                raise
            return None
        return cls.parse(data)

    @classmethod
    def parse(cls, data: bytes) -> Index | None:
        """An index from the bytes of its file; None as ``read``."""
        if len(data) < 1072 or data[:8] != b"\xfftOc\0\0\0\2":
            return None
        if hashlib.sha1(data[:-20], usedforsecurity=False).digest() != data[-20:]:
            return None
        index = cls(data)
        if len(data) < 1072 + 28 * index.count or not index.is_ordered():
            return None
        return index

    def is_ordered(self) -> bool:
        """Whether the table that searches begin with can be right."""
        return all(map(le, self._fan_out, self._fan_out[1:]))

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
        for position, offset in enumerate(self.offsets()):
            yield self.name(position), self.check(position), offset

    def check(self, position: int) -> int:
        """The CRC of an entry."""
        at = 1032 + 20 * self.count + 4 * position
        return int.from_bytes(self._data[at : at + 4], "big")

    def offsets(self) -> array[int]:
        """Where the entries are, in the order of names."""
        begin = 1032 + 24 * self.count
        found = array("I", self._data[begin : begin + 4 * self.count])
        if sys.byteorder == "little":
            found.byteswap()
        return found


@dataclass(frozen=True)
class Pack:
    """A pack in place; ``path`` has no suffix."""

    stem: str
    path: str
    size: int
    index: Index

    def intact(self) -> bool:
        digest = hashlib.sha1(usedforsecurity=False)
        try:
            with reading(self.path + ".pack") as descriptor:
                for piece in pieces(descriptor, 0, self.size - 20):
                    digest.update(piece)
        except OSError:
            return False
        return digest.digest() == self.index.pack_hash


def find_packs(objects: Path) -> list[Pack]:
    """The packs whose objects count as packed."""
    try:
        with os.scandir(objects / "pack") as entries:
            names = {entry.name for entry in entries}
    except FileNotFoundError:
        return []
    found = []
    for name in sorted(names):
        stem, suffix = os.path.splitext(name)
        if suffix == ".idx" and (pack := find_pack(objects, stem)) is not None:
            found.append(pack)
    return found


def find_pack(objects: Path, stem: str) -> Pack | None:
    """One pack, if its index and its two ends fit together.

    None for a cruft pack too: git drops what is in it when it has aged. Nor does one that cannot
    be read now count: nothing is removed because of it.
    """
    path = os.path.join(objects, "pack", stem)
    if durable.is_there(path + ".mtimes"):
        return None
    try:
        index = Index.read(path + ".idx")
        if index is None:
            return None
        with reading(path + ".pack") as descriptor:
            size = os.fstat(descriptor).st_size
            head = read_at(descriptor, 0, 12)
            tail = read_at(descriptor, max(0, size - 20), 20)
    except OSError:
        return None
    if head != pack_header(index.count) or tail != index.pack_hash:
        return None
    return Pack(stem, path, size, index)


def remove_pack(pack: Pack) -> None:
    """In git's order: without its index a pack is not there for anybody."""
    unlink(pack.path + ".idx")
    if not durable.is_there(pack.path + ".idx"):
        unlink(pack.path + ".pack")
        unlink(pack.path + ".rev")


def gc_is_running(objects: Path) -> bool:
    """Whether a git gc says that it is at work; it would stop if packs vanished below it."""
    try:
        # One that is of the future is of before the clock was put back.
        return abs(time.time() - os.stat(objects.parent / "gc.pid").st_mtime) < _GC_SECONDS
    except OSError as error:
        return is_of_the_moment(error)
