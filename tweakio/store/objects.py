"""Git objects: trees and commits as bytes, new ones written durably, everything read.

The new objects of a change become one small pack (``packs.commit``). How packs are read
(``packed``) is imported only when an object is neither loose nor known from what was just read or
written.

Every read ends in one of three ways: with the content; with the certainty that an object is not
there or wrong; or with a ``StorageError``, which tells of the moment and not of the object.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import zlib
from collections import OrderedDict
from datetime import datetime, timedelta, timezone
from hashlib import sha1
from typing import TYPE_CHECKING, NamedTuple

from tweakio import durable
from tweakio.errors import (
    HostileContentError,
    RepositoryDamagedError,
    is_of_the_moment,
    refuse_lack_of_memory,
    storage_error,
)
from tweakio.models import is_usual

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from tweakio.store.packed import PackedObjects
    from tweakio.store.packs.commit import CommitPack

__all__ = [
    "BLOB_MODE",
    "EMPTY_TREE",
    "MOST_TREE",
    "TREE_MODE",
    "Commit",
    "ObjectReader",
    "ObjectWriter",
    "TreeEntry",
    "edit_tree",
    "find_entry",
    "object_id",
    "parse_commit",
    "parse_tree",
    "refuse_imitation",
    "serialise_tree",
]

log = logging.getLogger(__name__)

BLOB_MODE = b"100644"
TREE_MODE = b"40000"
_TREE_MODES = (TREE_MODE, b"040000")
# Patterns that not every command needs are left to be compiled, and kept, by "re" itself.
_HEX = rb"[0-9a-f]{40}"
_LARGEST = 64 << 20
_SMALL = 4096
_MANY = 4096
_TIME = rb"(-?[0-9]{1,20}) ([+-][0-9]{4})"
MOST_TREE = 8 << 20
"""Bytes of a tree: 140,000 profiles. Parsed, one of these sizes takes eight times as much."""
_MOST_HEAD = 1 << 20
_MOST_SUMMARY = 4096
_MOST_TRAILERS = 8 << 20
"""Bytes at the end of a message in which trailers are looked for: a change of 100,000 profiles
has four million."""


def object_id(kind: bytes, body: bytes) -> bytes:
    """The 20 bytes that git names an object by."""
    digest = sha1(b"%b %d\0" % (kind, len(body)), usedforsecurity=False)
    digest.update(body)  # one after the other, or a large one would be copied
    return digest.digest()


EMPTY_TREE = object_id(b"tree", b"")


class TreeEntry(NamedTuple):
    """One entry of a git tree; ``id`` has 20 bytes."""

    mode: bytes
    name: bytes
    id: bytes

    @property
    def is_tree(self) -> bool:
        """Whether it is a directory."""
        return self.mode in _TREE_MODES

    @property
    def is_blob(self) -> bool:
        """Whether it is a regular file."""
        return self.mode in (BLOB_MODE, b"100755", b"100664")


def _sort_key(entry: TreeEntry) -> bytes:
    return entry.name + b"/" if entry.is_tree else entry.name


def parse_tree(raw: bytes) -> list[TreeEntry]:
    """The entries of a tree object's body.

    Raises:
        RepositoryDamagedError: it is cut short or not a tree.
    """
    entries = []
    position = 0
    end = len(raw)
    try:
        while position < end:
            space = raw.index(b" ", position)
            zero = raw.index(b"\0", space)
            stop = zero + 21
            if stop > end:
                raise ValueError
            entries.append(
                TreeEntry(raw[position:space], raw[space + 1 : zero], raw[zero + 1 : stop])
            )
            position = stop
    except ValueError:
        raise RepositoryDamagedError(
            "a tree object is damaged", hint="run 'tweakio repo doctor'"
        ) from None
    return entries


def serialise_tree(entries: Iterable[TreeEntry]) -> bytes:
    """The body of a tree object with these entries, in git's order."""
    return b"".join(
        b"%b %b\0%b" % (entry.mode, entry.name, entry.id)
        for entry in sorted(entries, key=_sort_key)
    )


# A mode and the beginning of a name: what stands before a name's rest, and never before an
# entry, but for two in a billion object ids.
_IN_NAME = rb"[0-7]{5,6} "


# A whole entry: its mode, its name and its id.
_ENTRY = rb"(?s)([0-7]{5,6}) ([^\0]+)\0.{20}"
# From so many edits on a tree is parsed once instead of walked through for each.
_FEW = 16


def _head(name: bytes) -> bytes:
    """What stands before the id of a directory's entry."""
    return b"40000 %b\0" % name


def _place(raw: bytes, name: bytes) -> int:
    """Where the id of one directory's entry stands in a raw tree, or -1.

    A byte search, because parsing takes 30 ms at 10,000 profiles. What was found counts if
    an id ends before it: a tree that came from elsewhere can have a file named
    "40000 alpha". For the 8 or more bytes of "40000 name NUL" to stand inside an id somebody
    would have to find a 64-bit partial collision for every single position; a submodule's id,
    which anybody can choose, is looked at when HEAD is read (``refuse_imitation``).
    """
    needle = _head(name)
    at = raw.find(needle)
    while at > 0:
        before = raw[max(0, at - 21) : at]
        if len(before) == 21 and not before[0]:
            if re.search(_IN_NAME, before[1:].rpartition(b"\0")[2]):
                return _walk_to(raw, needle)
            break
        at = raw.find(needle, at + 1)
    return at + len(needle) if at >= 0 else -1


def _walk_to(raw: bytes, needle: bytes) -> int:
    """The same without doubt and slowly."""
    position = 0
    while position < len(raw):
        start = raw.find(b"\0", position) + 1
        if not start or raw[position:start] == needle:
            return start or -1
        position = start + 20
    return -1


def refuse_imitation(raw: bytes) -> None:
    """Return if no submodule's id looks like an entry; it alone needs to name no object.

    Raises:
        RepositoryDamagedError: one does, so that ``find_entry`` would take it for one.
    """
    if b"160000 " not in raw:
        return
    for entry in parse_tree(raw):
        if entry.mode == b"160000" and b"40000 " in entry.id:
            raise RepositoryDamagedError(
                f"HEAD has a submodule {ascii(entry.name)[1:80]} that imitates a profile",
                hint="no tweakio has made that commit; go back to an older one with git",
            )


def find_entry(raw: bytes, name: bytes) -> TreeEntry | None:
    """One directory's entry in a raw tree, without parsing the tree."""
    start = _place(raw, name)
    return TreeEntry(TREE_MODE, name, raw[start : start + 20]) if start >= 0 else None


def edit_tree(raw: bytes, edits: Mapping[bytes, bytes | None]) -> bytes:
    """A root tree with some of its directories set (20-byte id) or removed (None).

    Each is a splice: at 10,000 profiles parsing and serialising takes 30 ms. That is done
    only if many entries come or go.
    """
    rest: dict[bytes, bytes | None] = {}
    pieces = raw
    few = len(edits) <= _FEW
    for name, target in edits.items():
        start = _place(pieces, name)
        if start >= 0 and target is not None:
            pieces = pieces[:start] + target + pieces[start + 20 :]
        elif start >= 0 and few:
            pieces = pieces[: start - len(_head(name))] + pieces[start + 20 :]
        elif start < 0 and target is not None and few and (gap := _gap(pieces, name)) >= 0:
            pieces = pieces[:gap] + _head(name) + target + pieces[gap:]
        elif start >= 0 or target is not None:
            rest[name] = target
    if not rest:
        return pieces
    entries = [entry for entry in parse_tree(pieces) if entry.name not in rest]
    entries += [TreeEntry(TREE_MODE, name, target) for name, target in rest.items() if target]
    return serialise_tree(entries)


def _gap(raw: bytes, name: bytes) -> int:
    """Where a directory of this name would stand in a tree, or -1 if that needs parsing."""
    key = name + b"/"
    position = 0
    # One after the other: what is no tree would be searched from each of its bytes to the end.
    match = re.compile(_ENTRY).match
    while entry := match(raw, position):
        mode, there = entry.groups()
        if there == name:
            return -1
        if (there + b"/" if mode in _TREE_MODES else there) > key:
            return position
        position = entry.end()
    return position if position == len(raw) else -1


class Commit:
    """A commit object; what only some readers want is read when they ask for it.

    A history of 10,000 commits is filtered three times as fast as when all of each is read.

    Args:
        commit_id: 40 hexadecimal digits.
        tree: its root tree, 20 bytes.
        parents: hexadecimal ids.
        person: the author's line, without its key.
        text: the whole message.
    """

    __slots__ = ("_person", "_text", "id", "parents", "tree")

    def __init__(
        self, commit_id: str, tree: bytes, parents: tuple[str, ...], person: bytes, text: bytes
    ) -> None:
        self.id = commit_id
        self.tree = tree
        self.parents = parents
        self._person = person
        self._text = text

    @property
    def author(self) -> str:
        """``Name <address>``; empty if the line cannot be read."""
        name, time = self._parts()
        return name[:_MOST_SUMMARY].decode("utf-8", "replace") if time is not None else ""

    def _parts(self) -> tuple[bytes, re.Match[bytes] | None]:
        """Who it was, and when."""
        name, *time = self._person.rsplit(b" ", 2)
        return name, re.fullmatch(_TIME, b" ".join(time))

    @property
    def time(self) -> datetime:
        """When it was authored, with its offset; the epoch if that cannot be read."""
        _, match = self._parts()
        if match is not None:
            offset = match[2].decode()
            minutes = int(offset[1:3]) * 60 + int(offset[3:5])
            zone = timezone(timedelta(minutes=min(minutes, 1439) * (-1 if offset[0] == "-" else 1)))
            with contextlib.suppress(OverflowError, ValueError, OSError):
                when = datetime.fromtimestamp(int(match[1]), zone)
                if is_usual(when):
                    return when
        return datetime.fromtimestamp(0, timezone.utc)

    @property
    def message(self) -> str:
        """The text; of a long one, which none of ours is, the beginning and the end."""
        return self._text.decode("utf-8", "replace")

    @property
    def summary(self) -> str:
        """The first line of the message, or its beginning; what is not UTF-8 is replaced."""
        end = self._text.find(b"\n", 0, _MOST_SUMMARY)
        line = self._text[: end if end >= 0 else _MOST_SUMMARY]
        return line.decode("utf-8", "replace")

    @property
    def trailers(self) -> Mapping[str, tuple[str, ...]]:
        """The ``Tweakio-*`` lines of the last paragraph, name to values."""
        found: dict[str, list[str]] = {}
        for line in re.finditer(rb"(?m)^Tweakio-[^\n]*$", self._last_paragraph()):
            name, separator, value = line[0].decode("utf-8", "replace").partition(": ")
            if separator:
                found.setdefault(name, []).append(value.strip())
        return {name: tuple(values) for name, values in found.items()}

    def trailer(self, name: str) -> str | None:
        """The first value of a trailer."""
        values = self.trailers.get(name)
        return values[0] if values else None

    def has(self, trailer: str, begin: str = "") -> bool:
        """Whether there is such a trailer whose value begins like that."""
        return f"\n{trailer}: {begin}".encode() in b"\n" + self._last_paragraph()

    def _last_paragraph(self) -> bytes:
        text = self._text[-_MOST_TRAILERS:].rstrip(b"\n")
        return text[max(text.rfind(b"\n\n"), -2) + 2 :]


def parse_commit(commit_id: str, raw: bytes) -> Commit:
    """Read a commit object's body; encodings other than UTF-8 are replaced, not refused.

    Raises:
        RepositoryDamagedError: it is not a commit.
    """
    end = raw.find(b"\n\n", 0, _MOST_HEAD)
    if end < 0:
        end = len(raw)
    head = raw[: min(end, _MOST_HEAD)]
    tree: bytes | None = None
    parents: list[str] = []
    person = b""
    for line in head.split(b"\n"):
        key, _, value = line.partition(b" ")
        if key == b"tree" and re.fullmatch(_HEX, value):
            tree = bytes.fromhex(value.decode())
        elif key == b"parent" and re.fullmatch(_HEX, value):
            parents.append(value.decode())
        elif key == b"author":
            person = value
    if tree is None or end > _MOST_HEAD:
        raise RepositoryDamagedError(
            f"commit {commit_id[:12]} is damaged", hint="run 'tweakio repo doctor'"
        )
    start = end + 2
    if len(raw) - start > _MOST_SUMMARY + _MOST_TRAILERS:
        message = raw[start : start + _MOST_SUMMARY] + raw[-_MOST_TRAILERS:]
    else:
        message = raw[start:]
    return Commit(commit_id, tree, tuple(parents), person, message)


class ObjectReader:
    """Reads objects of one repository; safe beside a ``git gc`` that moves them.

    Args:
        objects: the repository's ``objects`` directory.
        part: it is known to be a part of a store, and the caller has the rest; what is not there
            is then only not there.
    """

    def __init__(self, objects: Path, *, part: bool = False) -> None:
        self._objects = objects
        self._base = os.fspath(objects)
        self._part = part
        self._packs: PackedObjects | None = None
        # Small trees and blobs, read again and again within one change; their ids name
        # their content, so nothing here can become wrong.
        self._recent: OrderedDict[str, tuple[bytes, bytes]] = OrderedDict()
        self.coming: ObjectWriter | None = None
        """What is being written and not yet at its place; found here as well."""

    def read(self, name: bytes, kind: bytes) -> bytes:
        """The body of an object.

        Args:
            name: its 20-byte id.
            kind: ``b"commit"``, ``b"tree"`` or ``b"blob"``.

        Raises:
            RepositoryDamagedError: it is certainly missing, of another kind, or its bytes are
                wrong.
            StorageError: what there is cannot be read now, or may be in another place.
        """
        found = self._find(name.hex(), kind.decode())
        if found is None or found[0] != kind:
            what = "missing" if found is None else f"a {found[0].decode()}"
            raise RepositoryDamagedError(
                f"{kind.decode()} {name.hex()[:12]} is {what} in the object store",
                hint="run 'tweakio repo doctor'",
                object=name.hex(),
            )
        if kind == b"tree" and len(found[1]) > MOST_TREE:
            # Not damaged, so that no repair begins with it.
            raise HostileContentError(
                f"tree {name.hex()[:12]} has more entries than a profile repository can have",
                hint="no tweakio has made that commit; go back to an older one with git",
            )
        return found[1]

    def read_any(self, name: bytes) -> tuple[bytes, bytes]:
        """The kind and the body of an object; both empty if it is certainly missing or damaged.

        Raises:
            StorageError: as ``read``.
        """
        return self._find(name.hex()) or (b"", b"")

    def _find(self, hexadecimal: str, what: str = "object") -> tuple[bytes, bytes] | None:
        recent = self._recent.get(hexadecimal)
        if recent is not None:
            return recent
        coming = self.coming
        if coming is not None and (queued := coming.get(bytes.fromhex(hexadecimal))) is not None:
            return queued
        try:
            found = self._search(hexadecimal)
        except OSError as error:
            raise storage_error(error, f"read {what} {hexadecimal[:12]}") from error
        if found is not None:
            self.remember(hexadecimal, *found)
        elif not self._part:
            from tweakio.store.elsewhere import refuse_elsewhere

            refuse_elsewhere(self._objects.parent, f"{what} {hexadecimal[:12]}")
        return found

    def _search(self, hexadecimal: str) -> tuple[bytes, bytes] | None:
        """Look in every place; an error counts only if the object is in none of them."""
        failure: OSError | None = None
        # Between two looks a gc may have moved it from loose to packed or back.
        for look in (self._read_loose, self._read_packed, self._read_loose):
            try:
                if (found := look(hexadecimal)) is not None:
                    return found
            except OSError as error:
                failure = failure or error
        if failure is not None:
            raise failure
        return None

    def remember(self, hexadecimal: str, kind: bytes, body: bytes) -> None:
        """Keep a small object that was just read or written."""
        if len(body) <= _SMALL:
            self._recent[hexadecimal] = (kind, body)
            if len(self._recent) > _MANY:
                self._recent.popitem(last=False)

    def commit(self, commit_id: str) -> Commit:
        """A commit by its hexadecimal id."""
        return parse_commit(commit_id, self.read(bytes.fromhex(commit_id), b"commit"))

    def first_parents(self, commit_id: str) -> Iterator[Commit]:
        """A commit and its ancestors along the first parent."""
        seen = set()
        while commit_id not in seen:
            seen.add(commit_id)
            commit = self.commit(commit_id)
            yield commit
            if not commit.parents:
                return
            commit_id = commit.parents[0]

    def tree(self, name: bytes) -> list[TreeEntry]:
        """The entries of a tree."""
        return parse_tree(self.read(name, b"tree"))

    def _read_loose(self, hexadecimal: str) -> tuple[bytes, bytes] | None:
        path = f"{self._base}/{hexadecimal[:2]}/{hexadecimal[2:]}"
        try:
            data = durable.read_regular(path, _LARGEST)
        except OSError as error:
            if is_of_the_moment(error):
                raise
            return None
        stream = zlib.decompressobj()
        try:
            raw = stream.decompress(data, _LARGEST)
        except zlib.error as error:
            refuse_lack_of_memory(error)
            return None
        if not stream.eof:
            return None  # cut short, or larger than anything of ours
        header, _, body = raw.partition(b"\0")
        kind = header.split(b" ")[0]
        if object_id(kind, body).hex() != hexadecimal:
            return None
        return kind, body

    def _store(self) -> PackedObjects:
        if self._packs is None:
            from tweakio.store.packed import PackedObjects

            self._packs = PackedObjects(self._base)
        return self._packs

    def _read_packed(self, hexadecimal: str) -> tuple[bytes, bytes] | None:
        return self._store().find(bytes.fromhex(hexadecimal))

    def close(self) -> None:
        """Close the packs that were opened."""
        if self._packs is not None:
            self._packs.close()

    def resolve_prefix(self, prefix: str) -> list[str]:
        """The hexadecimal ids that start with 4 or more digits.

        Raises:
            StorageError: some objects cannot be listed now.
        """
        if len(prefix) == 40:
            return [prefix] if self._find(prefix) else []
        try:
            loose = self._loose_names(prefix[:2])
            packed = {name.hex() for name in self._store().names(prefix)}
        except OSError as error:
            raise storage_error(error, "list the objects of history") from error
        found = sorted(packed.union(name for name in loose if name.startswith(prefix)))
        if not found and not self._part:
            from tweakio.store.elsewhere import refuse_elsewhere

            refuse_elsewhere(self._objects.parent, f"object {prefix}")
        return found

    def all_commits(self) -> Iterator[str]:
        """The ids of all commits that can be read, in whatever order.

        Raises:
            StorageError: some objects cannot be listed, or one not be read now.
        """
        try:
            names = {name.hex() for name in self._store().names()}
            for number in range(256):
                names.update(self._loose_names(f"{number:02x}"))
        except OSError as error:
            raise storage_error(error, "list the objects of history") from error
        for name in names:
            if self.read_any(bytes.fromhex(name))[0] == b"commit":
                yield name

    def _loose_names(self, begin: str) -> set[str]:
        try:
            names = os.listdir(f"{self._base}/{begin}")
        except OSError as error:
            if is_of_the_moment(error):
                raise
            return set()
        return {begin + name for name in names if re.fullmatch("[0-9a-f]{38}", name)}


class ObjectWriter:
    """Collects new objects and writes them durably in one go.

    They become one small pack, however many they are. Nothing refers to them until the branch
    moves, so a crash in between leaves garbage, which the next packing takes with the rest and
    ``git gc`` removes in the end.

    Args:
        objects: the repository's ``objects`` directory.
        temporary: an existing directory in the same file system for files being written.
        marker: see ``CommitPack.put_in_place``.
    """

    def __init__(self, objects: Path, temporary: Path, marker: Path | None = None) -> None:
        self._objects = objects
        self._temporary = temporary
        self._marker = marker
        self._queued: dict[bytes, tuple[bytes, bytes]] = {}
        self._packs: list[CommitPack] = []

    def add(self, kind: bytes, body: bytes) -> bytes:
        """Queue an object; returns its 20-byte id."""
        name = object_id(kind, body)
        self._queued[name] = (kind, body)
        return name

    def get(self, name: bytes) -> tuple[bytes, bytes] | None:
        """Kind and body of an object that is not yet at its place."""
        return self._queued.get(name)

    def flush(self) -> None:
        """Write what is queued; when this returns, it is durable.

        Raises:
            OSError: what the system said; all is still queued.
        """
        with durable.Batch() as batch:
            self.prepare(batch)
        self.put_in_place()

    def prepare(self, batch: durable.Batch) -> None:
        """Write what is queued under temporary names, as some of several files."""
        if self._queued:
            from tweakio.store.packs.commit import CommitPack

            items = ((name, kind, body) for name, (kind, body) in self._queued.items())
            self._packs.append(CommitPack.prepare(self._temporary, items, batch))

    def put_in_place(self) -> None:
        """Let the repository have what was prepared and synced, durably."""
        packs, self._packs = self._packs, []
        # The last one has what the others have, of a change that had to be built anew.
        for superseded in packs[:-1]:
            superseded.discard()
        if packs:
            packs[-1].put_in_place(self._objects, self._marker)
        self._queued.clear()
