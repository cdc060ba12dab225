"""The files below objects/, each by itself."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tweakio import durable
from tweakio.doctor.salvage import (
    BrokenPack,
    is_sound_loose,
    is_sound_pack,
    loose_files,
    pack_files,
    sealed,
)
from tweakio.doctor.strict import content
from tweakio.errors import run
from tweakio.store.objects import ObjectWriter
from tweakio.store.packs.format import PACK_LIMIT, index_bytes
from tweakio.store.packs.index import Index

if TYPE_CHECKING:
    from tweakio.doctor.case import Case
    from tweakio.store.repository import Repository

__all__ = ["LARGEST", "ObjectFiles"]

# What git derives from its objects, and would believe although they are gone.
_GRAPH, _MULTI_INDEX = "info/commit-graph", "pack/multi-pack-index"
_DERIVED = (_GRAPH, f"{_GRAPH}s", _MULTI_INDEX)
_MANY_BYTES = 64 << 20
LARGEST = 64 << 20


class ObjectFiles:
    """Loose objects and packs.

    Args:
        case: the examination that it is part of.
        repository: whose.
    """

    def __init__(self, case: Case, repository: Repository) -> None:
        self._case = case
        self._repository = repository

    def look(self) -> None:
        """Look at each file of objects by itself; take damaged ones out of git's way.

        What can still be read of a damaged pack is written again first.
        """
        objects = self._case.layout.git_dir / "objects"
        # Each that is not sound is read a second time before anything follows from it.
        loose = [p for p in loose_files(objects) if not is_sound_loose(p) and not is_sound_loose(p)]
        packs = [p for p in pack_files(objects) if not is_sound_pack(p) and not is_sound_pack(p)]
        saved = 0
        left: list[tuple[str, str]] = []
        if self._case.fix:
            for path in packs:
                mended, hint = self.mend_pack(path)
                saved += mended
                if hint:
                    left.append((os.path.basename(path), hint))
            for file in loose:
                self._case.keep(file)
            if packs or loose:
                self.drop_derived()
                durable.fsync_directory(objects)
                self._repository.reader.close()
        derived = [
            name
            for name in (_GRAPH, _MULTI_INDEX)
            if durable.is_there(objects / name) and not sealed(os.fspath(objects / name))
        ]
        if derived:
            if self._case.fix:
                self.drop_derived()
            message = f"{' and '.join(derived)}, which git can do without, is damaged"
            self._case.add("derived-damaged", "damage", message, fixed=self._case.fix)
        if loose:
            message = f"{len(loose)} damaged objects"
            self._case.add("objects-damaged", "damage", message, fixed=self._case.fix)
        if packs:
            what = f"; {saved} objects in them could be read" if self._case.fix else ""
            message = f"{len(packs)} damaged packs{what}"
            if left:
                message += f"; {left[0][0]} has an object that only git can read, and was left"
            fixed = self._case.fix and not left
            hint = left[0][1] if left else ""
            self._case.add("packs-damaged", "damage", message, fixed=fixed, hint=hint)

    def look_at_indexes(self, known: set[bytes]) -> None:
        """Find indexes of packs that name what is not there; they are made anew.

        Args:
            known: what could be read by its name; only the rest is looked at.
        """
        wrong = []
        for path in pack_files(self._case.layout.git_dir / "objects"):
            data = content(path + ".idx", PACK_LIMIT)
            index = None if data is None else Index.parse(data)
            names = index.names() if index is not None else ()
            strange = any(name not in known and not self._is_readable(name) for name in names)
            # A damaged one is reported as that.
            if index is not None and strange and is_sound_pack(path) and self._lies(index, path):
                wrong.append(path)
        if not wrong:
            return
        if self._case.fix:
            for path in wrong:
                self.mend_pack(path)
            self._repository.reader.close()
        message = f"{len(wrong)} indexes of packs name objects that are not there"
        self._case.add("pack-index-wrong", "damage", message, fixed=self._case.fix)

    def _lies(self, index: Index, path: str) -> bool:
        """Whether an entry is another object than its index says.

        One that cannot be read, being larger than any of ours, says nothing.
        """
        places = {offset: name for name, _, offset in index.entries()}
        entries = BrokenPack(path, self._repository).objects()
        return any(places.get(offset) != name for name, _, _, _, offset in entries)

    def _is_readable(self, name: bytes) -> bool:
        return bool(self._repository.reader.read_any(name)[0])

    def drop_derived(self) -> None:
        """Put aside what git derives from its objects, which it makes again itself."""
        objects = self._case.layout.git_dir / "objects"
        for name in _DERIVED:
            if durable.is_there(objects / name):
                self._case.keep(objects / name)
                durable.fsync_directory((objects / name).parent)

    def mend_pack(self, path: str) -> tuple[int, str]:
        """Replace a pack by what can be read of it.

        It stays where it is if it has an object that only git can read, being larger than any
        of ours.

        Returns:
            The number of objects, and what a person has to run if the pack was left.
        """
        broken = BrokenPack(path, self._repository)
        writer = ObjectWriter(self._case.layout.git_dir / "objects", self._case.layout.temporary)
        entries: list[tuple[bytes, int, int]] = []
        size = 0
        stays = broken.whole
        if stays:
            count = sum(1 for _ in broken.objects())
            # Otherwise somebody gave it the checksum of what was wrong in it already.
            stays = count == broken.count and not broken.gaps
            if not stays and broken.large:
                return count, run("git index-pack", f"{path}.pack")
        for name, kind, body, check, offset in broken.objects():
            entries.append((name, check, offset))
            if stays:
                continue
            writer.add(kind, body)
            size += len(body)
            if size > _MANY_BYTES:
                writer.flush()
                size = 0
        suffixes = [".idx", ".rev", ".bitmap"]
        if not stays:
            if not self._read_otherwise(broken.names() - {name for name, _, _ in entries}, writer):
                return len(entries), run("git -C", self._case.layout.profiles, then="repack -ad")
            writer.flush()
            suffixes += [".pack", ".keep", ".mtimes"]
        for suffix in suffixes:
            if durable.is_there(path + suffix):
                self._case.keep(self._case.layout.git_dir / (path + suffix))
        if stays:
            index = index_bytes(entries, broken.digest)
            durable.create(path + ".idx", index, mode=0o444)
        return len(entries), ""

    def _read_otherwise(self, names: set[bytes], writer: ObjectWriter) -> bool:
        """Write what only the reader or git can read; False if that is too large to be written."""
        lost = []
        for name in names:
            kind, body = self._repository.reader.read_any(name)
            if kind:
                writer.add(kind, body)
            else:
                lost.append(name.hex())
        found = self._case.witness.read(lost, LARGEST) if self._case.witness and lost else ()
        for item in found:
            if item.body is None:
                return False
            writer.add(item.kind, item.body)
        return True
