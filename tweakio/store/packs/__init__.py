"""Packs without the git program: one for each commit, and delta-compressed ones for many.

A commit's four to six objects are first written as one small pack of their own, which takes
three fsyncs where loose objects take two each. From time to time these commit packs, and
whatever is loose, become one pack in which each root tree (up to 400 KB, 20 bytes different
from the one before) is a delta against the next newer one.

What makes this safe beside a running git and through a crash:

- A copy of an object is removed only after a pack that holds it is in place, durable and
  was read back; so every object is at every moment in at least one place where git looks,
  and git looks again at the list of packs before it calls an object missing.
- A pack becomes visible by its ``.idx``, which comes last and goes first, as in git.
- A commit pack has a ``.keep`` from before it is visible until it goes: ``git repack -a -d``
  drops what nothing refers to yet from every pack without one.
- ``git repack`` leaves out of its new pack what it finds in a kept pack, and then removes
  all packs that were not kept when it began. So the pack that replaces commit packs has all
  of their objects, even those that another pack has too, and is itself kept (its shield)
  from before it is visible until after they are gone: no git can count on a commit pack
  and remove its replacement. For the same reason no other pack counts as one that has a
  loose object, and a pack of ours has a name that none had before.
- Only packs that we wrote are ever joined or removed. A commit pack is known by its name
  and its ``.keep``; the others by their names in a record file outside ``objects/``. Without
  the record our packs are taken for somebody else's, and nothing worse happens than that they
  stay as they are.

The names below are imported when they are asked for: every commit of a short-lived process
imports ``packs.commit`` and nothing else of this package but what it needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tweakio.store.packs.merge import merge_packs
    from tweakio.store.packs.recent import (
        PackReport,
        RecentStatistics,
        pack_recent,
        recent_statistics,
    )

__all__ = [
    "PackReport",
    "RecentStatistics",
    "merge_packs",
    "pack_recent",
    "recent_statistics",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "merge" if name == "merge_packs" else "recent"
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
