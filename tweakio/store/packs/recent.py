"""What came since the last packing, loose or in commit packs, becomes one pack."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tweakio import durable
from tweakio.store.packs.commit import PREFIX
from tweakio.store.packs.files import read_at, reading, unlink
from tweakio.store.packs.format import (
    COMMIT,
    HEADER,
    KIND_NAMES,
    PACK_LIMIT,
    object_name,
    pack_header,
    read_head,
    split_entry,
)
from tweakio.store.packs.index import Index, find_packs, gc_is_running
from tweakio.store.packs.loose import Loose, loose_entries, loose_objects
from tweakio.store.packs.merge import merge
from tweakio.store.packs.plan import Found, parse_commit
from tweakio.store.packs.record import Record
from tweakio.store.packs.write import write_pack

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

__all__ = ["PackReport", "RecentStatistics", "pack_recent", "recent_statistics"]

_STEM = re.compile(rf"{PREFIX}[0-9a-f]{{{len('pack-') + 40 - len(PREFIX)}}}")
_EMPTY_INDEX, _INDEX_ENTRY = 1072, 28


@dataclass(frozen=True)
class RecentStatistics:
    """What there is to pack.

    Attributes:
        count: objects that are loose or in commit packs.
        bytes: the sum of the sizes of their files.
    """

    count: int
    bytes: int


@dataclass(frozen=True)
class PackReport:
    """What one packing did.

    Attributes:
        packed: objects in the new pack.
        removed: loose files that went because a pack of ours has the object.
        merged: packs of ours that were joined into one, or were found superfluous.
        pack: the new pack's name without suffix; None if there was nothing to pack. If
            packs were joined in the same run, it may be part of another by now.
        commits: commit packs that went because another pack has their objects.
    """

    packed: int
    removed: int
    merged: int
    pack: str | None
    commits: int = 0


def recent_statistics(objects: Path) -> RecentStatistics:
    """Count what ``pack_recent`` would take; reads directories only.

    Args:
        objects: the repository's ``objects`` directory.
    """
    count = size = 0
    for entry in loose_entries(objects):
        with contextlib.suppress(FileNotFoundError):
            size += entry.stat(follow_symlinks=False).st_size
            count += 1
    for stem in _kept_commit_files(objects):
        base = os.path.join(objects, "pack", stem)
        with contextlib.suppress(FileNotFoundError):
            index = os.stat(base + ".idx").st_size
            size += index + os.stat(base + ".pack").st_size
            count += max(0, index - _EMPTY_INDEX) // _INDEX_ENTRY
    return RecentStatistics(count, size)


def pack_recent(
    objects: Path, temporary: Path, *, keep: int = 8, leave: Collection[str] = ()
) -> PackReport:
    """Write one pack of all commit packs and of every loose object, then remove what it
    replaces, then join small packs.

    Damaged loose objects, those larger than 64 MiB and damaged commit packs are left as
    they are. The caller holds the repository's lock.

    Args:
        objects: the repository's ``objects`` directory.
        temporary: an existing directory in the same file system for files being written.
            The record of our packs is kept beside it.
        keep: as in ``merge_packs``.
        leave: the ids of loose objects that stay as they are.

    Raises:
        OSError: what the system said. The repository is intact, at worst with objects
            that are in several places.
    """
    record = Record(objects, temporary)
    record.settle()
    kept = _kept_commit_files(objects)
    commits = _commit_packs(objects, kept)
    # A damaged commit pack counts for nothing, whatever its index says.
    packs = [pack for pack in find_packs(objects) if pack.stem not in kept]
    shields = {pack.stem: pack.index for pack in packs if record.is_shielded(pack.stem)}
    # Any other may be one that a running git gc is about to remove, after it has made loose
    # objects of what nothing refers to yet. So only a shielded pack of ours counts.
    sound = [pack.index for pack in packs if pack.stem in shields and pack.intact()]
    loose_ones = (found for found in loose_objects(objects) if found.name not in leave)
    fresh, doubles = _choose(commits, loose_ones, sound)

    stem, index = None, None
    if fresh:
        stem, index = write_pack(record, list(fresh.values()), temporary)
    if stem is not None and index is not None:
        shields[stem] = index
        sound.append(index)

    removed = 0
    for found in fresh.values():
        # These were read and verified when they were packed.
        if isinstance(found, Loose) and _has(sound, found.name):
            removed += unlink(found.path)
    for loose in doubles:
        if _has(sound, loose.name) and loose.load() is not None:
            removed += unlink(loose.path)
    gone = _remove_commit_packs(objects, commits, sound)
    left = {entry.name for commit in commits if commit.is_there() for entry in commit.objects}
    for shield, its in shields.items():
        if not any(_has([its], name) for name in left):
            record.lift(shield)
    merged = merge(record, temporary, keep)
    return PackReport(index.count if index else 0, removed, merged, stem, gone)


def _choose(
    commits: list[_CommitPack],
    loose_ones: Iterable[Loose],
    sound: list[Index],
) -> tuple[dict[str, Found], list[Loose]]:
    """What to pack, by name, and the loose objects that are in a commit pack or a sound one."""
    fresh: dict[str, Found] = {}
    doubles: list[Loose] = []
    for commit in commits:
        for entry in commit.objects:
            if not _has(sound, entry.name):
                fresh.setdefault(entry.name, entry)
    for loose in loose_ones:
        if loose.name in fresh or _has(sound, loose.name):
            doubles.append(loose)
        else:
            fresh[loose.name] = loose
    return fresh, doubles


def _has(indexes: list[Index], name: str) -> bool:
    binary = bytes.fromhex(name)
    return any(binary in index for index in indexes)


# --- commit packs ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Entry(Found):
    """An object in the commit pack at ``path``."""

    start: int
    end: int

    def load(self) -> bytes | None:
        try:
            with reading(self.path) as descriptor:
                entry = read_at(descriptor, self.start, self.end - self.start)
            kind, _, data = split_entry(entry)
        except (OSError, ValueError, IndexError, zlib.error):
            return None
        return data if object_name(kind, data).hex() == self.name else None


@dataclass(frozen=True)
class _CommitPack:
    """One commit pack; ``path`` has no suffix."""

    stem: str
    path: str
    objects: tuple[_Entry, ...]

    def is_there(self) -> bool:
        """Whether it, or a part of it, is still a commit pack."""
        return durable.is_there(self.path + ".keep")


def _kept_commit_files(objects: Path) -> dict[str, set[str]]:
    """By commit pack, the suffixes of its files. Without its ``.keep`` it is git's."""
    found: dict[str, set[str]] = {}
    with contextlib.suppress(FileNotFoundError), os.scandir(objects / "pack") as entries:
        for entry in entries:
            stem, suffix = os.path.splitext(entry.name)
            if _STEM.fullmatch(stem):
                found.setdefault(stem, set()).add(suffix)
    return {stem: suffixes for stem, suffixes in found.items() if ".keep" in suffixes}


def _commit_packs(objects: Path, kept: dict[str, set[str]]) -> list[_CommitPack]:
    """Those that are whole; what a crash left without a pack goes.

    The index is not needed, so that a pack which lost it, by a crash of ours or else, is
    one like the others.
    """
    found = []
    for stem in sorted(kept):
        path = os.path.join(objects, "pack", stem)
        if ".pack" not in kept[stem]:
            unlink(path + ".idx")
            unlink(path + ".keep")
            continue
        try:
            data = durable.read_regular(path + ".pack", PACK_LIMIT)
        except OSError:
            continue
        entries = _entries(path + ".pack", data)
        if entries is not None:
            found.append(_CommitPack(stem, path, tuple(entries)))
    return found


def _entries(path: str, data: bytes) -> list[_Entry] | None:
    """What is in a pack without deltas; None if it is damaged."""
    end = len(data) - 20
    if hashlib.sha1(data[:end], usedforsecurity=False).digest() != data[end:]:
        return None
    found = []
    at = HEADER
    while at < end:
        try:
            kind, size, _, content = read_head(data, at)
            stream = zlib.decompressobj()
            body = stream.decompress(data[content:end], size + 1)
        except (IndexError, zlib.error):
            return None
        if kind not in KIND_NAMES or len(body) != size or not stream.eof:
            return None
        commit = parse_commit(body) if kind == COMMIT else None
        start, at = at, end - len(stream.unused_data)
        found.append(_Entry(object_name(kind, body).hex(), path, kind, size, commit, start, at))
    return found if data[:HEADER] == pack_header(len(found)) else None


def _remove_commit_packs(objects: Path, commits: list[_CommitPack], sound: list[Index]) -> int:
    """Remove those whose objects are all in shielded packs."""
    if not commits or gc_is_running(objects):
        return 0
    named = _multi_pack_index(objects)
    gone = 0
    for commit in commits:
        if not all(_has(sound, found.name) for found in commit.objects):
            continue
        if named is None or commit.stem.encode() in named:
            # git's own maintenance joins these; removing one would break its index.
            unlink(commit.path + ".keep")
            continue
        unlink(commit.path + ".idx")
        if not durable.is_there(commit.path + ".idx"):
            unlink(commit.path + ".pack")
        if not durable.is_there(commit.path + ".pack"):
            # Last: it is what tells that the rest is ours to remove.
            unlink(commit.path + ".keep")
            gone += 1
    return gone


def _multi_pack_index(objects: Path) -> bytes | None:
    """The bytes of all that there are, to look for names in; None if they cannot be read."""
    paths = [os.path.join(objects, "pack", "multi-pack-index")]
    chain = paths[0] + ".d"
    data = []
    try:
        with contextlib.suppress(FileNotFoundError):
            paths += [os.path.join(chain, name) for name in os.listdir(chain)]
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                data.append(durable.read_regular(path, PACK_LIMIT))
    except OSError:
        return None
    return b"".join(data)
