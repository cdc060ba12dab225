"""Lost objects made again from what the work tree, the index and the cache still have."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Any

from tweakio import durable, schema
from tweakio.doctor.strict import content
from tweakio.store import initialise, rules
from tweakio.store.head import HeadCache
from tweakio.store.objects import (
    BLOB_MODE,
    TREE_MODE,
    TreeEntry,
    object_id,
    serialise_tree,
)
from tweakio.store.worktree import FINGERPRINT, METADATA, SEALED

if TYPE_CHECKING:
    from pathlib import Path

    from tweakio.store.repository import Repository


__all__ = ["Known"]

_DEEPEST = 64


class Known:
    """The objects that can be made again from what is not in git's objects.

    Attributes:
        objects: hexadecimal id to kind and body.
    """

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._layout = repository.layout
        self.objects: dict[str, tuple[bytes, bytes]] = {}
        for text in rules.RULES.values():
            self._add(b"blob", text)
        for name in (".gitignore", ".gitattributes"):
            self._file(self._layout.profiles / name)
        for name in initialise.profile_like_directories(self._layout):
            self._directory(self._layout.profiles / name)
        for attic in (repository.trash, repository.rescued):
            for entry in attic.entries():
                self._directory(entry.path / "data")
        self._cached_root()
        self._index()

    def _add(self, kind: bytes, body: bytes) -> bytes:
        name = object_id(kind, body)
        self.objects[name.hex()] = (kind, body)
        return name

    def _file(self, path: Path) -> bytes | None:
        data = content(path, schema.MAX_BYTES)
        return None if data is None else self._add(b"blob", data)

    def _directory(self, path: Path) -> None:
        if not stat.S_ISDIR(durable.mode_of(path)):
            return
        found = {name: self._file(path / name) for name in (METADATA, FINGERPRINT, SEALED)}
        entries = [TreeEntry(BLOB_MODE, n.encode(), blob) for n, blob in found.items() if blob]
        self._add(b"tree", serialise_tree(entries))
        self._add(b"tree", serialise_tree(entry for entry in entries[:1]))

    def _cached_root(self) -> None:
        head = HeadCache(self._layout.head_cache).last()
        if head is not None:
            self._add(b"tree", head.root)

    def _index(self) -> None:
        """The trees that the index would be committed as."""
        index = self._repository.index_file.read()
        if index is None or index.conflicts:
            return
        nested: dict[bytes, Any] = {}
        for path, header in index.staged().items():
            *parents, name = path.split(b"/")
            if len(parents) > _DEEPEST:
                continue
            place = nested
            for parent in parents:
                place = place.setdefault(parent, {})
            mode = b"%o" % int.from_bytes(header[24:28], "big")
            place[name] = TreeEntry(mode, name, header[40:60])
        self._tree(nested)

    def _tree(self, nested: dict[bytes, Any]) -> bytes:
        return self._add(
            b"tree",
            serialise_tree(
                TreeEntry(TREE_MODE, name, self._tree(item)) if isinstance(item, dict) else item
                for name, item in nested.items()
            ),
        )


# The files below objects/
