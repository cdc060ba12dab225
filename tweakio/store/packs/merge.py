"""Joining packs of ours, so that they stay few."""

from __future__ import annotations

import heapq
import sys
from array import array
from typing import TYPE_CHECKING

from tweakio import durable
from tweakio.store.packs.files import MODE, damaged, pieces, read_at, reading, temporary_pair
from tweakio.store.packs.format import (
    HEADER,
    entry_head,
    index_bytes,
    read_head,
    sealed_index,
)
from tweakio.store.packs.index import Pack, find_pack, gc_is_running, remove_pack
from tweakio.store.packs.record import Record
from tweakio.store.packs.verify import verify
from tweakio.store.packs.write import PackWriter, new_stem, put_in_place

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from tweakio.store.packs.index import Index

__all__ = ["merge", "merge_packs"]

# No larger pack comes of joining. What a join needs in memory grows with the objects, some 60
# bytes for each, and so does its time; this is what 35,000 activations leave behind.
JOIN_LIMIT = 64 << 20
# Of these the first two are git's to manage; the last two say that git wrote the pack.
_HANDS_OFF = (".keep", ".promisor", ".bitmap", ".mtimes")


def merge_packs(objects: Path, temporary: Path, *, keep: int = 8) -> int:
    """Join our own small packs geometrically so that their number stays logarithmic.

    After a join every pack of ours is at least twice the size of all smaller ones
    together, so each byte is copied a logarithmic number of times over the years. Entries
    are copied as they are; nothing is unpacked, and no object is in a pack twice. Packs of
    git, kept ones and ones that a multi-pack-index may name are never touched.

    Args:
        objects: the repository's ``objects`` directory.
        temporary: as in ``pack_recent``.
        keep: up to so many packs of ours there is nothing to do.

    Returns:
        The number of packs that are gone, their objects being in another pack of ours.

    Raises:
        OSError: what the system said. The repository is intact.
    """
    record = Record(objects, temporary)
    record.settle()
    return merge(record, temporary, keep)


def merge(record: Record, temporary: Path, keep: int) -> int:
    """As ``merge_packs``, for a record that is settled."""
    ours = _joinable(record)
    if _growing(ours) <= keep:
        return 0
    gone = _drop_superfluous(record, ours)
    group = _choose_group(ours) if _growing(ours) > keep else []
    group = [pack for pack in group if pack.intact()]
    if len(group) < 2:
        return gone
    with temporary_pair(temporary) as (pack_path, index_path):
        try:
            stem = _join(group, pack_path, index_path)
        except FileNotFoundError as error:
            if error.filename in (pack_path, index_path):
                raise
            return gone  # git repacked everything in the meantime
        put_in_place(
            record, stem, pack_path, index_path, instead_of=tuple(pack.stem for pack in group)
        )
    if find_pack(record.objects, stem) is None:
        return gone  # or even the new one
    for pack in group:
        remove_pack(pack)
    return gone + len(group)


def _joinable(record: Record) -> list[Pack]:
    """Our packs by size, without those that git has a hand on."""
    objects = record.objects
    if any(durable.is_there(objects / "pack" / f"multi-pack-index{end}") for end in ("", ".d")):
        # It names packs; the person's git maintenance joins them itself.
        return []
    if gc_is_running(objects):
        return []
    found = []
    for stem in sorted(record.ours):
        if any(durable.is_there(record.path(stem, suffix)) for suffix in _HANDS_OFF):
            continue
        pack = find_pack(objects, stem)
        if pack is not None and pack.index.plain:
            found.append(pack)
    found.sort(key=lambda pack: (pack.size, pack.stem))
    return found


def _growing(ours: list[Pack]) -> int:
    """How many are not so large that they stay as they are."""
    return sum(2 * pack.size < JOIN_LIMIT for pack in ours)


def _drop_superfluous(record: Record, ours: list[Pack]) -> int:
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
            remove_pack(pack)
            ours.remove(pack)
            gone += 1
    return gone


def _choose_group(ours: list[Pack]) -> list[Pack]:
    """The smallest packs up to the last that is less than twice all before it."""
    candidates = list(ours)
    while candidates:
        total = chosen = taken = 0
        for position, pack in enumerate(candidates, 1):
            if pack.size < 2 * total:
                chosen, taken = position, total + pack.size
            total += pack.size
        if taken < JOIN_LIMIT:
            return candidates[:chosen]
        # Chosen anew without it, or a full pack would be copied for every small one.
        candidates.pop()
    return []


def _join(group: list[Pack], pack_path: str, index_path: str) -> str:
    """Write the packs one after the other into a new one; returns its name.

    Deltas name their base by distance, so a pack's entries can be copied as one piece,
    unless some object is in two of them: a pack must not hold one twice.
    """
    doubles = _have_doubles(group)
    writer = PackWriter(pack_path, sum(pack.index.count for pack in group))
    shifts = []
    places: dict[bytes, int] = {}
    try:
        for pack in group:
            shifts.append(writer.offset - HEADER)
            with reading(pack.path + ".pack") as descriptor:
                if doubles:
                    _copy_new(writer, pack, descriptor, places)
                    continue
                for piece in pieces(descriptor, HEADER, pack.size - 20):
                    writer.raw(piece)
                writer.count += pack.index.count
        digest = writer.finish()
    finally:
        writer.close()
    index = (
        index_bytes(writer.entries, digest)
        if doubles
        else _merged_index(
            [_shifted(pack.index, by) for pack, by in zip(group, shifts, strict=True)], digest
        )
    )
    durable.create(index_path, index, mode=MODE)
    verify(pack_path, index_path, resolve=doubles)
    return new_stem()


def _have_doubles(group: list[Pack]) -> bool:
    """Whether an object is in two of the packs; their indexes are in the order of names."""
    last = b""
    for name in heapq.merge(*(pack.index.names() for pack in group)):
        if name == last:
            return True
        last = name
    return False


def _merged_index(sources: Sequence[Iterable[tuple[bytes, int, int]]], digest: bytes) -> bytes:
    """As ``index_bytes`` for sources that are in the order of names, in little memory."""
    fan_out = [0] * 256
    names = bytearray()
    checks, offsets = array("I"), array("I")
    assert checks.itemsize == 4
    for name, check, offset in heapq.merge(*sources):
        fan_out[name[0]] += 1
        names += name
        checks.append(check)
        offsets.append(offset)
    if sys.byteorder == "little":
        checks.byteswap()
        offsets.byteswap()
    return sealed_index(fan_out, (names, checks, offsets), digest)


def _shifted(index: Index, by: int) -> Iterator[tuple[bytes, int, int]]:
    return ((name, check, offset + by) for name, check, offset in index.entries())


def _copy_new(writer: PackWriter, pack: Pack, descriptor: int, places: dict[bytes, int]) -> None:
    """Copy the entries of objects that are not there yet.

    A delta whose base was left out finds it where it is already, which is further back
    than its own place in any case.
    """
    entries = sorted(pack.index.entries(), key=lambda entry: entry[2])
    ends = [offset for _, _, offset in entries[1:]] + [pack.size - 20]
    moved: dict[int, int] = {}
    for (name, _, offset), end in zip(entries, ends, strict=True):
        if name not in places:
            entry = read_at(descriptor, offset, end - offset)
            try:
                kind, size, distance, content = read_head(entry)
                if distance:
                    base = moved[offset - distance]
                    entry = entry_head(kind, size, writer.offset - base) + entry[content:]
            except LookupError:
                raise damaged(pack.path + ".pack") from None
            places[name] = writer.offset
            writer.entry(name, entry)
        moved[offset] = places[name]
