"""Reading a snapshot out of a store, every byte of it compared with the manifest."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from tweakio.errors import ArchiveError, SnapshotError, VaultError, storage_error
from tweakio.snapshots import manifest, packing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tweakio.snapshots.manifest import Snapshot
    from tweakio.snapshots.places import Place

__all__ = ["Verified", "unpack", "verify"]

log = logging.getLogger(__name__)

_CHUNK = 1 << 20


class Verified(NamedTuple):
    """What ``verify`` found of one snapshot.

    Attributes:
        snapshot: which.
        problem: what is wrong with it; empty if nothing is.
        opened: whether its content was looked at, and not only what is stored: that needs an
            identity if it is sealed.
    """

    snapshot: Snapshot
    problem: str
    opened: bool


def unpack(
    place: Place,
    snapshot: Snapshot,
    into: Path | None,
    identities: Callable[[], Sequence[str]],
) -> None:
    """Read a snapshot as a whole, compare every hash, and unpack it if ``into`` is given.

    Raises:
        SnapshotError: it is damaged, or the store cannot be read.
        VaultError: it is sound, and none of the identities opens it.
    """
    opening = identities() if snapshot.sealed else ()
    with place.open(snapshot.profile_id, manifest.data_file(snapshot)) as file:
        source: Any = _Stored(file)
        try:
            found = packing.unpack(source, into, opening, snapshot.bytes)
        except (ArchiveError, VaultError) as error:
            # Which of them it is, the bytes tell: another identity may open what is sound.
            if isinstance(error, VaultError) and not _is_damaged(place, snapshot):
                raise
            raise _damaged(snapshot, "it cannot be unpacked") from error
    if found != packing.Packed(
        snapshot.files,
        snapshot.bytes,
        snapshot.content_sha256,
        snapshot.stored_bytes,
        snapshot.stored_sha256,
    ):
        raise _damaged(snapshot, "it is not what was stored")


def verify(place: Place, snapshot: Snapshot, identities: Callable[[], Sequence[str]]) -> Verified:
    """Read a snapshot as a whole, and say what is wrong with it."""
    if not snapshot.complete:
        return Verified(snapshot, "its data is not there in full", opened=False)
    try:
        unpack(place, snapshot, None, identities)
    except VaultError as error:
        # What is stored is as it was stored; nobody here can look further.
        log.info("snapshot %s was not opened: %s", snapshot.name, error)
        if _is_damaged(place, snapshot):
            return Verified(snapshot, "it is not what was stored", opened=False)
        return Verified(snapshot, "", opened=False)
    except SnapshotError as error:
        return Verified(snapshot, str(error.details.get("problem") or error), opened=False)
    return Verified(snapshot, "", opened=True)


def _is_damaged(place: Place, snapshot: Snapshot) -> bool:
    """Whether what is stored is not what was stored; for that nothing is opened."""
    digest, count = hashlib.sha256(), 0
    with place.open(snapshot.profile_id, manifest.data_file(snapshot)) as file:
        stored = _Stored(file)
        while (chunk := stored.read(_CHUNK)) and count <= snapshot.stored_bytes:
            count += len(chunk)
            digest.update(chunk)
    return (count, digest.hexdigest()) != (snapshot.stored_bytes, snapshot.stored_sha256)


def _damaged(snapshot: Snapshot, problem: str) -> SnapshotError:
    return SnapshotError(
        f"snapshot {snapshot.name} is damaged: {problem}",
        hint="take another one; 'tweakio profile snapshot verify' checks them all",
        problem=problem,
    )


class _Stored:
    """What is read from a store; its errors become those of the tree."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        try:
            return self._file.read(size)
        except OSError as error:
            raise storage_error(error, "read the snapshot") from error
        except Exception as error:  # whatever the library of a store raises
            raise SnapshotError(
                f"the snapshot cannot be read from the store ({type(error).__name__})",
                hint="see that the store can be reached",
            ) from None
