"""Which packs are ours."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
from typing import TYPE_CHECKING

from tweakio import durable
from tweakio.store.packs.files import MODE, unlink

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["Record"]

_STEM = re.compile(r"pack-[0-9a-f]{40}")
_SHIELD = b"tweakio: until the packs of single commits are gone\n"


class Record:
    """Which packs are ours, and which are being put in place or taken away.

    It is a file outside ``objects/``: a marker beside the pack would be reported as garbage
    by ``git count-objects``, and a pack has no room for a comment. The second list is what
    lets the ``.pack`` that a crash left without its ``.idx`` go: git never removes one, and
    a pack that lost its index in any other way must stay.
    """

    def __init__(self, objects: Path, temporary: Path) -> None:
        self.objects = objects
        self._path = temporary.parent / "packs.json"
        self._temporary = temporary
        self.ours: set[str] = set()
        self._unfinished: set[str] = set()
        with contextlib.suppress(
            FileNotFoundError, ValueError, AttributeError, TypeError, RecursionError
        ):
            data = json.loads(durable.read_regular(self._path, 16 << 20))
            self.ours = {name for name in data.get("packs", ()) if _STEM.fullmatch(name)}
            self._unfinished = {
                name for name in data.get("unfinished", ()) if _STEM.fullmatch(name)
            }

    def path(self, stem: str, suffix: str) -> str:
        """One of a pack's files."""
        return os.path.join(self.objects, "pack", stem + suffix)

    def settle(self) -> None:
        """Finish or drop what a crash interrupted."""
        if not self._unfinished:
            return
        for stem in sorted(self._unfinished):
            if durable.is_there(self.path(stem, ".idx")):
                self.ours.add(stem)
            else:
                self.ours.discard(stem)
                unlink(self.path(stem, ".pack"))
                unlink(self.path(stem, ".keep"))
        self._unfinished = set()
        self._save()

    def begin(self, *stems: str) -> None:
        """Note what is about to appear or to vanish."""
        self._unfinished.update(stems)
        self._save()

    def add(self, stem: str, instead_of: Iterable[str] = ()) -> None:
        """Note that a pack is in place, and the others are to go."""
        self._unfinished.discard(stem)
        self.ours.add(stem)
        self._unfinished.update(instead_of)
        self.ours.difference_update(instead_of)
        self._save()

    def shield(self, stem: str) -> None:
        """Keep git from removing a pack that is about to appear.

        Durable, because a ``.keep`` without its content would be taken for a person's.
        """
        with contextlib.suppress(FileExistsError):
            durable.create(self.path(stem, ".keep"), _SHIELD, mode=MODE)

    def is_shielded(self, stem: str) -> bool:
        """Whether the pack's ``.keep`` is ours."""
        try:
            return durable.read_regular(self.path(stem, ".keep"), 4096) == _SHIELD
        except OSError:
            return False

    def lift(self, stem: str) -> None:
        """Take the shield away."""
        if self.is_shielded(stem):
            unlink(self.path(stem, ".keep"))

    def _save(self) -> None:
        self.ours = {stem for stem in self.ours if durable.is_there(self.path(stem, ".pack"))}
        data = {"packs": sorted(self.ours), "unfinished": sorted(self._unfinished)}
        durable.replace(
            self._path,
            json.dumps(data, indent=1).encode() + b"\n",
            self._temporary / f"packs-{secrets.token_hex(8)}",
        )
