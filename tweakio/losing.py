"""What brings browser data back that git or another program removed."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tweakio import durable
from tweakio.errors import TweakioError, run

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tweakio.models import Profile, TrashEntry
    from tweakio.snapshots.snapshots import Snapshots

__all__ = ["way_back"]


def way_back(profile: Profile, snapshots: Snapshots, trash: Iterable[TrashEntry]) -> str:
    """The commands that bring them back, or without a copy the one that starts anew, as a hint."""
    anew = "start anew, " + run("tweakio profile recover --mode hard", profile.id)
    if not durable.is_there(profile.path):
        anew = f"if this is a sparse checkout, run 'git sparse-checkout disable' first; or {anew}"
    with contextlib.suppress(TweakioError):
        for snapshot in snapshots.list(profile.id):
            if snapshot.complete and profile.created_at in (None, snapshot.profile_created_at):
                back = run("tweakio profile snapshot restore", profile.id, snapshot.name)
                return f"to have the newest snapshot, {back}; or {anew}"
    for entry in trash:
        if entry.kind == "reset" and profile.created_at in (None, entry.profile_created_at):
            back = run("tweakio profile trash restore", entry.name)
            return f"to have what came into the trash last, {back}; or {anew}"
    return f"no snapshot has them; {anew}"
