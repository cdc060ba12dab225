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
from tweakio.store.objects import ObjectWriter
from tweakio.store.packs.format import index_bytes
from tweakio.store.packs.index import Index

if TYPE_CHECKING:
    from tweakio.doctor.case import Case
    from tweakio.store.repository import Repository

__all__ = ["ObjectFiles"]

# What git derives from its objects, and would believe although they are gone.
_GRAPH, _MULTI_INDEX = "info/commit-graph", "pack/multi-pack-index"
_DERIVED = (_GRAPH, f"{_GRAPH}s", _MULTI_INDEX)
_MANY_BYTES = 64 << 20


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
        loose = [path for path in loose_files(objects) if not is_sound_loose(path)]
        packs = [path for path in pack_files(objects) if not is_sound_pack(path)]
        saved = 0
        if self._case.fix:
            saved = sum(self.mend_pack(path) for path in packs)
            for file in loose:
                self._case.keep(file)
            if packs or loose:
                self.drop_derived()
                durable.fsync_directory(objects)
                self._repository.reader.close()
        derived = [
            name
            for name in (_GRAPH, _MULTI_INDEX)
            if os.path.lexists(objects / name) and not sealed(os.fspath(objects / name))
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
            self._case.add("packs-damaged", "damage", message, fixed=self._case.fix)

    def look_at_indexes(self, known: set[bytes]) -> None:
        """Find indexes of packs that name what is not there; they are made anew.

        Args:
            known: what could be read by its name; only the rest is looked at.
        """
        wrong = []
        for path in pack_files(self._case.layout.git_dir / "objects"):
            index = Index.read(path + ".idx")
            names = index.names() if index is not None else ()
            strange = any(name not in known and not self._is_readable(name) for name in names)
            if strange and is_sound_pack(path):  # a damaged one is reported as that
                wrong.append(path)
        if not wrong:
            return
        if self._case.fix:
            for path in wrong:
                self.mend_pack(path)
            self._repository.reader.close()
        message = f"{len(wrong)} indexes of packs name objects that are not there"
        self._case.add("pack-index-wrong", "damage", message, fixed=self._case.fix)

    def _is_readable(self, name: bytes) -> bool:
        return bool(self._repository.reader.read_any(name)[0])

    def drop_derived(self) -> None:
        """Put aside what git derives from its objects, which it makes again itself."""
        objects = self._case.layout.git_dir / "objects"
        for name in _DERIVED:
            if os.path.lexists(objects / name):
                self._case.keep(objects / name)
                durable.fsync_directory((objects / name).parent)

    def mend_pack(self, path: str) -> int:
        """Replace a pack by what can be read of it; the number of objects."""
        broken = BrokenPack(path, self._repository)
        writer = ObjectWriter(self._case.layout.git_dir / "objects", self._case.layout.temporary)
        entries: list[tuple[bytes, int, int]] = []
        size = 0
        mended = 0
        for name, kind, body, check, offset in broken.objects():
            entries.append((name, check, offset))
            mended += 1
            if broken.whole:
                continue  # the pack itself stays
            writer.add(kind, body)
            size += len(body)
            if size > _MANY_BYTES:
                writer.flush()
                size = 0
        writer.flush()
        suffixes = [".idx", ".rev", ".bitmap"]
        if not (broken.whole and len(entries) == broken.count):
            suffixes += [".pack", ".keep", ".mtimes"]
        for suffix in suffixes:
            if os.path.lexists(path + suffix):
                self._case.keep(self._case.layout.git_dir / (path + suffix))
        if ".pack" not in suffixes:
            index = index_bytes(entries, broken.digest)
            durable.create(path + ".idx", index, mode=0o444)
        return mended
