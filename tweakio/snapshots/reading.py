"""Reading a snapshot out of a store, every byte of it compared with the manifest."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from tweakio.errors import (
    ArchiveError,
    NewerFormatError,
    SnapshotError,
    VaultError,
    command,
    run,
    storage_error,
)
from tweakio.snapshots import manifest, packing
from tweakio.vault import binding

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tweakio.snapshots.manifest import Snapshot
    from tweakio.snapshots.places import Place
    from tweakio.vault.binding import Bound

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
        bound: whether its encrypted content says that it is this snapshot of this profile; of one
            that is not encrypted, or was made by an older tweakio, nobody can tell.
    """

    snapshot: Snapshot
    problem: str
    opened: bool
    bound: bool = False


def unpack(
    place: Place,
    snapshot: Snapshot,
    into: Path | None,
    identities: Callable[[], Sequence[str]],
    *,
    unbound: bool = False,
) -> bool:
    """Read a snapshot as a whole, compare every hash, and unpack it if ``into`` is given.

    Args:
        place: the store.
        snapshot: which.
        into: an empty directory.
        identities: what opens it if it is sealed.
        unbound: take it also if nothing inside says whose it is, as an older tweakio made it.

    Returns:
        Whether it says inside that it is this snapshot.

    Raises:
        SnapshotError: it is damaged, another one than its manifest says, or the store cannot be
            read.
        VaultError: it is sound, and none of the identities opens it.
    """
    opening = identities() if snapshot.sealed else ()
    bound = False

    def check(found: Bound) -> None:
        nonlocal bound
        bound = found.place is not None
        _refuse_another(snapshot, found, unbound=unbound)

    with place.open(snapshot.profile_id, manifest.data_file(snapshot)) as file:
        source: Any = _Stored(file)
        try:
            found = packing.unpack(source, into, opening, snapshot.bytes, check)
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
    return bound


def _refuse_another(snapshot: Snapshot, found: Bound, *, unbound: bool) -> None:
    """Refuse what was encrypted as something else than this snapshot.

    The manifest is not encrypted: whoever can write to the store can give any data another name,
    profile or time.
    """
    another = run("tweakio profile snapshot list", snapshot.profile_id)
    if found.place is None:
        if unbound:
            return
        raise SnapshotError(
            f"snapshot {snapshot.name} does not say whose it is: an older tweakio encrypted it,"
            " and whoever can write to the store may have exchanged it",
            hint="if you trust the store: "
            + command("tweakio profile snapshot restore", snapshot.profile_id, snapshot.name)
            + " --unbound",
        )
    place = binding.snapshot(snapshot.profile_id, snapshot.profile_created_at, snapshot.name)
    problem = place.difference(found.place)
    if not problem and found.counter != binding.counter_of(snapshot.time):
        problem = (
            f"it was made at {binding.shown_time(found.counter)}, and its manifest says "
            f"{binding.shown_time(binding.counter_of(snapshot.time))}"
        )
    if problem:
        raise SnapshotError(
            f"snapshot {snapshot.name} is not what its manifest says: {problem}",
            hint=another,
            problem=problem,
        )


def verify(place: Place, snapshot: Snapshot, identities: Callable[[], Sequence[str]]) -> Verified:
    """Read a snapshot as a whole, and say what is wrong with it."""
    if not snapshot.complete:
        return Verified(snapshot, "its data is not there in full", opened=False)
    try:
        bound = unpack(place, snapshot, None, identities, unbound=True)
    except NewerFormatError as error:
        return Verified(snapshot, error.message, opened=False)
    except VaultError as error:
        if problem := error.details.get("problem"):
            return Verified(snapshot, str(problem), opened=False)
        # What is stored is as it was stored; nobody here can look further.
        log.info("snapshot %s was not opened: %s", snapshot.name, error)
        if _is_damaged(place, snapshot):
            return Verified(snapshot, "it is not what was stored", opened=False)
        return Verified(snapshot, "", opened=False)
    except SnapshotError as error:
        return Verified(snapshot, str(error.details.get("problem") or error), opened=False)
    return Verified(snapshot, "", opened=True, bound=bound)


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
