"""Reading back what was written."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections import OrderedDict

from tweakio.store.packs.files import damaged, read_at, reading
from tweakio.store.packs.format import HEADER, TREE, object_name, pack_header, split_entry
from tweakio.store.packs.index import Index

__all__ = ["verify"]


def verify(pack_path: str, index_path: str, *, resolve: bool) -> None:
    """Read a new pack as a stranger would, before anything depends on it.

    Args:
        pack_path: the pack.
        index_path: its index.
        resolve: also rebuild every object and compare its hash with its name.
    """
    index = Index.read(index_path)
    if index is None:
        raise damaged(index_path)
    with reading(pack_path) as descriptor:
        size = os.fstat(descriptor).st_size
        head = read_at(descriptor, 0, HEADER)
        digest = hashlib.sha1(head, usedforsecurity=False)
        # The offsets by themselves, and not the entries: there may be a million.
        offsets = index.offsets()
        order = sorted(range(index.count), key=offsets.__getitem__)
        if head != pack_header(index.count) or offsets[order[0]] != HEADER:
            raise damaged(pack_path)
        ends = [*(offsets[position] for position in order[1:]), size - 20]
        resolver = None
        if resolve:
            begins = (offsets[position] for position in order)
            resolver = _Resolver(descriptor, dict(zip(begins, ends, strict=True)))
        for position, end in zip(order, ends, strict=True):
            offset = offsets[position]
            entry = read_at(descriptor, offset, end - offset)
            digest.update(entry)
            if zlib.crc32(entry) != index.check(position) or (
                resolver and resolver.name(offset, entry) != index.name(position)
            ):
                raise damaged(pack_path)
        if not digest.digest() == read_at(descriptor, size - 20, 20) == index.pack_hash:
            raise damaged(pack_path)


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
                    kind, data = TREE, self._trees[offset]
                    self._trees.move_to_end(offset)
                    break
                kind, distance, data = split_entry(entry)
                if not distance:
                    break
                deltas.append(data)
                offset -= distance
                entry = read_at(self._descriptor, offset, self._ends[offset] - offset)
            for delta in reversed(deltas):
                data = b"".join(apply_delta(data, delta))
            name = object_name(kind, data)
        except (ApplyDeltaError, ValueError, LookupError, AssertionError, zlib.error):
            return None
        if kind == TREE:
            self._trees[start] = data
            while len(self._trees) > 4:
                self._trees.popitem(last=False)
        return name
