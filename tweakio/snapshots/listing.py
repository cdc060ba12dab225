"""Which snapshots a store has."""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING

from tweakio.errors import SnapshotError, StorageError, command, is_of_the_moment, run
from tweakio.snapshots import manifest
from tweakio.vault import binding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tweakio.snapshots.manifest import Snapshot
    from tweakio.snapshots.places import Place

__all__ = ["find", "list_snapshots", "newest_first"]

log = logging.getLogger(__name__)


def list_snapshots(place: Place, profile_id: str) -> list[Snapshot]:
    """A profile's snapshots, newest first; files that are none are left out.

    One whose data is not there in full is among them, as not ``complete``.

    Raises:
        StorageError: one of them cannot be read now.
    """
    found = newest_first(place, profile_id)
    return sorted(found, key=lambda item: (item.time, item.name), reverse=True)


def newest_first(place: Place, profile_id: str, begin: str = "") -> Iterator[Snapshot]:
    """As ``list_snapshots``, but each is read only when it is asked for, in a store far away.

    Args:
        place: the store.
        profile_id: whose.
        begin: only those whose names begin so.

    Raises:
        StorageError: one of them cannot be read now.
    """
    files = place.files(profile_id)
    names = {name for file in files if (name := manifest.is_manifest(file))}
    # Names begin with the second; which of one second is the newest the manifests say.
    by_second: dict[str, list[str]] = {}
    for name in sorted(names):
        if name.startswith(begin):
            by_second.setdefault(name.partition("-")[0], []).append(name)
    for second in sorted(by_second, reverse=True):
        found = [_read(place, profile_id, name, files) for name in by_second[second]]
        known = [item for item in found if item is not None]
        yield from sorted(known, key=lambda item: (item.time, item.name), reverse=True)


def _read(place: Place, profile_id: str, name: str, files: Mapping[str, int]) -> Snapshot | None:
    file = manifest.manifest_file(name)
    try:
        content = place.read(profile_id, file, manifest.MAX_BYTES)
        snapshot = manifest.load(content, name, profile_id)
    except (StorageError, SnapshotError, ValueError) as error:
        if isinstance(error, StorageError) and is_of_the_moment(error):
            # What is left out is no snapshot to whoever decides which of them go.
            raise
        log.warning("%s is not the manifest of a snapshot (%s)", file, type(error).__name__)
        return None
    stored = files.get(manifest.data_file(snapshot))
    return snapshot._replace(complete=stored == snapshot.stored_bytes)


def _is_too_new(snapshot: Snapshot) -> bool:
    """Whether a snapshot claims a time to come: it would be the newest until then."""
    if not binding.is_too_new(binding.counter_of(snapshot.time)):
        return False
    log.warning("snapshot %s is dated more than a day ahead; it is left out", snapshot.name)
    return True


def find(place: Place, profile_id: str, name: str | None) -> Snapshot:
    """One snapshot whose data is there.

    Args:
        place: the store.
        profile_id: whose.
        name: of the snapshot, or the beginning of it; None for the newest that is not dated
            in the future.

    Raises:
        SnapshotError: there is none, more than one, or its data is not there in full.
    """
    if name is None:
        whole = (item for item in newest_first(place, profile_id) if item.complete)
        chosen = list(itertools.islice((item for item in whole if not _is_too_new(item)), 1))
    else:
        found = list(newest_first(place, profile_id, name))
        chosen = [item for item in found if item.name == name] or found
    if len(chosen) != 1:
        what = "no snapshot" if not chosen else "more than one snapshot"
        called = "" if name is None else f" called {ascii(name)[:60]}"
        raise SnapshotError(
            f"there is {what} of profile '{profile_id}'{called}",
            hint=run("tweakio profile snapshot list", profile_id),
        )
    if not chosen[0].complete:
        raise SnapshotError(
            f"the data of snapshot {chosen[0].name} is not there in full",
            hint="take another one: " + command("tweakio profile snapshot list", profile_id),
        )
    return chosen[0]
