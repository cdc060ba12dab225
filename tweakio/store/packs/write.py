"""Writing a pack, with each root tree as a delta."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tweakio import durable
from tweakio.store.packs.delta import make_delta
from tweakio.store.packs.files import (
    BINARY,
    CHUNK,
    CLOEXEC,
    MODE,
    may_be_there,
    pieces,
    reading,
    temporary_pair,
    unlink,
)
from tweakio.store.packs.format import (
    HEADER,
    OFS_DELTA,
    PACK_LIMIT,
    entry_head,
    index_bytes,
    pack_header,
)
from tweakio.store.packs.index import Index, find_pack
from tweakio.store.packs.plan import Found, plan
from tweakio.store.packs.verify import verify

if TYPE_CHECKING:
    from pathlib import Path

    from tweakio.store.packs.record import Record

__all__ = ["DEPTH", "PackWriter", "put_in_place", "write_pack"]

# As git's own default: reading one object takes at most so many steps.
DEPTH = 50


class PackWriter:
    """A pack that is being written under a temporary name.

    Attributes:
        entries: name, CRC and offset of what was added one by one.
        count: how many objects are in it.
        offset: how many bytes.
    """

    def __init__(self, path: str, count: int) -> None:
        self.entries: list[tuple[bytes, int, int]] = []
        self.count = 0
        self.offset = 0
        self._path = path
        self._expected = count
        self._buffer = bytearray()
        self._hash = hashlib.sha1(usedforsecurity=False)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | BINARY | CLOEXEC
        self._descriptor = os.open(path, flags, MODE)
        self.raw(pack_header(count))

    def close(self) -> None:
        os.close(self._descriptor)

    def fits(self, size: int) -> bool:
        """Whether an object of this size can be added without passing the limit."""
        return self.offset + size + size // 512 + 1024 < PACK_LIMIT

    def add(self, name: bytes, kind: int, data: bytes, base: int | None = None) -> int:
        """Add an object, or a delta against the one at ``base``; its offset is returned."""
        offset = self.offset
        if base is None:
            head = entry_head(kind, len(data))
        else:
            head = entry_head(OFS_DELTA, len(data), offset - base)
        self.entry(name, head + zlib.compress(data))
        return offset

    def entry(self, name: bytes, data: bytes) -> None:
        """Add an entry whose bytes are ready."""
        self.entries.append((name, zlib.crc32(data), self.offset))
        self.count += 1
        self.raw(data)

    def raw(self, data: bytes) -> None:
        """Add bytes that are no entry, or several, which the caller counts."""
        self._hash.update(data)
        self._buffer += data
        self.offset += len(data)
        if len(self._buffer) >= CHUNK:
            self._flush()

    def _flush(self) -> None:
        view = memoryview(bytes(self._buffer))
        self._buffer.clear()
        while view:
            view = view[os.write(self._descriptor, view) :]

    def finish(self) -> bytes:
        """Write the trailer, bring all to the disk and return the pack's hash."""
        self._flush()
        if self.count != self._expected:
            # Some objects turned out damaged or went away; the header comes first in the
            # hash, so all of it has to be done again.
            head = pack_header(self.count)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            self._buffer += head
            self._flush()
            os.lseek(self._descriptor, 0, os.SEEK_END)
            self._hash = hashlib.sha1(head, usedforsecurity=False)
            with reading(self._path) as descriptor:
                for piece in pieces(descriptor, HEADER, self.offset):
                    self._hash.update(piece)
        digest = self._hash.digest()
        self._buffer += digest
        self._flush()
        if hasattr(os, "fchmod"):
            os.fchmod(self._descriptor, MODE)
        durable.sync_descriptor(self._descriptor)
        return digest


@dataclass(frozen=True)
class _Base:
    data: bytes
    offset: int
    depth: int


def _write_chain(writer: PackWriter, chain: list[Found]) -> None:
    """Each tree as a delta against the one before.

    Where that would get too deep, the next tree builds on the last one at which that
    happened, so that it costs a somewhat longer delta and not a whole tree.
    """
    last: _Base | None = None
    anchor: _Base | None = None
    for found in chain:
        data = found.load() if writer.fits(found.size) else None
        if data is None:
            continue
        name = bytes.fromhex(found.name)
        base = last if last and last.depth < DEPTH else anchor
        delta = None
        if base and base.depth < DEPTH:
            delta = make_delta(base.data, data, len(data) // 2)
        if base is None or delta is None:
            last = anchor = _Base(data, writer.add(name, found.kind, data), 0)
            continue
        offset = writer.add(name, found.kind, delta, base.offset)
        fresh = _Base(data, offset, base.depth + 1)
        if base is not last:
            anchor = fresh
        last = fresh


def new_stem() -> str:
    """A name for a pack that no pack has had before.

    Git names packs by their content. A pack of ours with the same content, and name, as one
    that a running ``git repack`` has on its list of what to remove would go with it.
    """
    return f"pack-{secrets.token_hex(20)}"


def write_pack(
    record: Record, fresh: list[Found], temporary: Path
) -> tuple[str | None, Index | None]:
    """Write one pack of what can be read and put it in place, with a shield.

    Args:
        record: notes it.
        fresh: what to pack.
        temporary: for files being written.

    Returns:
        Its name without suffix and its index; None if nothing could be read.
    """
    order = plan(fresh)
    with temporary_pair(temporary) as (pack_path, index_path):
        writer = PackWriter(pack_path, len(fresh))
        try:
            _write_whole(writer, order.whole)
            for chain in order.chains:
                _write_chain(writer, chain)
            _write_whole(writer, order.rest)
            if not writer.entries:
                return None, None
            digest = writer.finish()
        finally:
            writer.close()
        index = index_bytes(writer.entries, digest)
        durable.create(index_path, index, mode=MODE)
        verify(pack_path, index_path, resolve=True)
        stem = new_stem()
        put_in_place(record, stem, pack_path, index_path, shield=True)
    # Read again from where it is now: only what git can find there may be removed elsewhere.
    pack = find_pack(record.objects, stem)
    return stem, pack.index if pack else None


def _write_whole(writer: PackWriter, objects: list[Found]) -> None:
    for found in objects:
        data = found.load() if writer.fits(found.size) else None
        if data is not None:
            writer.add(bytes.fromhex(found.name), found.kind, data)


def put_in_place(
    record: Record,
    stem: str,
    pack_path: str,
    index_path: str,
    *,
    instead_of: tuple[str, ...] = (),
    shield: bool = False,
) -> None:
    """Make a pack visible.

    Args:
        record: notes it.
        stem: its name without suffix.
        pack_path: the pack, under a temporary name.
        index_path: its index, likewise.
        instead_of: packs that are to go for it.
        shield: protect it from ``git repack`` until the shield is lifted.
    """
    directory = record.objects / "pack"
    if durable.make_directory(directory):
        durable.fsync_directory(record.objects)
    pack_target, index_target = record.path(stem, ".pack"), record.path(stem, ".idx")
    record.begin(stem)
    try:
        if shield:
            record.shield(stem)
        durable.move(pack_path, pack_target)
        durable.fsync_directory(directory)
        durable.move(index_path, index_target)
    except BaseException:
        if not may_be_there(index_target):
            with contextlib.suppress(OSError):
                unlink(pack_target)
                record.lift(stem)
        raise
    durable.fsync_directory(directory)
    record.add(stem, instead_of)
