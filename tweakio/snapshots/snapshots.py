"""Making, listing, restoring, pruning and verifying snapshots."""

from __future__ import annotations

import contextlib
import logging
import secrets
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from tweakio import bundle, changes, directories, durable, seen
from tweakio.errors import (
    ProfileCorruptedError,
    ProfileNotFoundError,
    SnapshotError,
    StorageError,
    TweakioError,
    VaultError,
    command,
    in_the_tree,
    run,
    storage_error,
)
from tweakio.layout import ProfilePaths
from tweakio.models import parse_time
from tweakio.snapshots import manifest, packing, setting
from tweakio.snapshots.directory import Directory
from tweakio.snapshots.listing import find, list_snapshots, newest_first
from tweakio.snapshots.manifest import Snapshot
from tweakio.snapshots.reading import Verified, unpack, verify
from tweakio.snapshots.retention import Keep, kept
from tweakio.store.worktree import SEALED
from tweakio.vault import binding, sealing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime
    from pathlib import Path

    from tweakio.layout import Layout
    from tweakio.snapshots.places import Place
    from tweakio.store.locks import ProfileLockManager
    from tweakio.store.repository import Repository

__all__ = ["Created", "Left", "Snapshots", "Verified"]

log = logging.getLogger(__name__)

_ABANDONED = timedelta(days=1)
"""After this long, data without a manifest is not an upload that is under way."""


class Created(NamedTuple):
    """What ``create`` did.

    Attributes:
        snapshot: that has the data as they are now.
        is_new: False if the last one has just these data, so that none was made.
    """

    snapshot: Snapshot
    is_new: bool


class Left(NamedTuple):
    """How many snapshots there are of a profile, in the repository's own store and the one set.

    Attributes:
        snapshots: all of them, also those whose manifest cannot be read.
        unencrypted: those of them that whoever can read the store can log in with.
    """

    snapshots: int
    unencrypted: int


_Found = list[Snapshot]
_Results = list[Verified]


@in_the_tree
class Snapshots:
    """The snapshots of one home's profiles.

    Args:
        layout: of the home.
        repository: gives the repository.
        locks: tells which profiles are in use.
        stopped: holds a profile of which no browser is open, or refuses.
        recipients: whom the vault seals for; nobody if there is none.
        identities: what opens what is sealed.
        name: makes what the history says ran of a method's name.
        clock: the present moment, aware.
    """

    def __init__(
        self,
        layout: Layout,
        repository: Callable[[], Repository],
        locks: ProfileLockManager,
        stopped: Callable[[str], AbstractContextManager[object]],
        recipients: Callable[[], Sequence[str]],
        identities: Callable[[], Sequence[str]],
        name: Callable[[str], str],
        clock: Callable[[], datetime],
    ) -> None:
        self._layout = layout
        self._repository = repository
        self._locks = locks
        self._stopped = stopped
        self._recipients = recipients
        self._identities = identities
        self._name = name
        self._clock = clock

    # The store

    @property
    def store(self) -> str:
        """The address of the store, as it was set; empty for the one in the repository."""
        return setting.read_store(self._layout)

    def set_store(self, url: str) -> None:
        """Set where snapshots are kept from now on; those that there are stay where they are.

        Args:
            url: an absolute path, a URL that fsspec understands (``s3://bucket/path``), without a
                secret in it, or ``env:NAME``; empty for the repository's own store.

        Raises:
            InvalidInputError: it is none of these, or has a secret in it.
        """
        setting.write_store(self._layout, self._repository(), url)

    # What there is

    def list(self, profile_id: str) -> _Found:
        """A profile's snapshots, newest first; files that are none are left out.

        A snapshot whose data is not there in full is among them, as not ``complete``.

        Args:
            profile_id: which; it need not exist any more.
        """
        self._layout.profile(profile_id)
        return list_snapshots(self._place(), profile_id)

    def _place(self) -> Place:
        return setting.open_store(self._layout)

    # Making one

    def create(
        self,
        profile_id: str,
        *,
        encrypt: bool = True,
        progress: Callable[[int], None] | None = None,
    ) -> Created:
        """Make a snapshot of a stopped profile's browser data.

        With a vault it is sealed for the vault's recipients. Without one, a snapshot in the
        repository's own store is protected by its permissions only, and any other store needs
        ``encrypt=False``.

        Args:
            profile_id: of which no browser is open.
            encrypt: whether to seal it.
            progress: called with the number of bytes packed so far.

        Raises:
            ProfileNotFoundError, ProfileCorruptedError: there is no such profile, or not whole.
            ProfileActiveError: a live process uses it.
            VaultError: it would leave the home unsealed.
            SnapshotError: the store cannot be used.
        """
        with self._stopped(profile_id), self._repository().workshop.room() as room:
            platform, created_at = self._identity(profile_id)
            recipients = tuple(sorted(self._recipients())) if encrypt else ()
            if encrypt and not recipients and self.store:
                raise VaultError(
                    "there is no vault to seal the snapshot with",
                    hint="run 'tweakio vault init', or give --no-encryption",
                )
            place = self._place()
            path = room / "data"
            now = self._clock()
            name = f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
            begin = binding.framed(
                binding.snapshot(profile_id, created_at, name), binding.counter_of(now)
            )
            try:
                packed = packing.pack(
                    self._layout.profile(profile_id), path, recipients, progress, begin
                )
            except OSError as error:
                raise storage_error(error, f"make a snapshot of '{profile_id}'") from error
            last = self._last(place, profile_id, created_at)
            if (
                last is not None
                and last.content_sha256 == packed.content_sha256
                and last.recipients == recipients
                and last.bound == bool(recipients)
            ):
                return Created(last, is_new=False)
            snapshot = Snapshot(
                name=name,
                profile_id=profile_id,
                platform=platform,
                profile_created_at=created_at,
                time=now,
                recipients=recipients,
                bound=bool(recipients),
                **packed._asdict(),
            )
            self._store(place, snapshot, path)
            return Created(snapshot, is_new=True)

    def _store(self, place: Place, snapshot: Snapshot, packed: Path) -> None:
        """Store a snapshot, or nothing: what a full disk cut off would keep it full."""
        data, described = manifest.data_file(snapshot), manifest.manifest_file(snapshot.name)
        try:
            place.put_file(snapshot.profile_id, data, packed)
            # From here on there is a snapshot.
            place.put(snapshot.profile_id, described, manifest.dump(snapshot))
        except (TweakioError, KeyboardInterrupt):
            # The manifest first: it may have arrived all the same. If neither can be removed,
            # pruning does it one day.
            with contextlib.suppress(TweakioError):
                place.remove(snapshot.profile_id, described)
                place.remove(snapshot.profile_id, data)
            raise

    def _last(self, place: Place, profile_id: str, created_at: datetime) -> Snapshot | None:
        return next(
            (
                item
                for item in newest_first(place, profile_id)
                if item.complete and item.profile_created_at == created_at
            ),
            None,
        )

    def _identity(self, profile_id: str) -> tuple[str, datetime]:
        """The platform of a profile as it is committed, and when it was created."""
        repository = self._repository()
        from tweakio.metadata import ProfileMetadataHandler

        found = ProfileMetadataHandler(repository).examine(profile_id)
        if found.metadata is None or found.state == "damaged":
            raise ProfileCorruptedError(
                f"profile '{profile_id}' is damaged",
                hint=run("tweakio profile recover", profile_id),
                profile_id=profile_id,
            )
        return str(found.metadata["platform"]), parse_time(found.metadata["created_at"])

    # Restoring

    def restore(
        self,
        profile_id: str,
        name: str | None = None,
        *,
        other: bool = False,
        unbound: bool = False,
    ) -> Snapshot:
        """Bring a profile's browser data to what a snapshot has, as a commit.

        The present ones go to the trash, and ``undo`` brings them back.

        Args:
            profile_id: an existing profile of which no browser is open.
            name: of the snapshot, or the beginning of it; the newest one by default.
            other: take it also if it was made of another profile of this id, such as one that
                was deleted since or that was created on another machine.
            unbound: take it also if it is encrypted and does not say whose it is, as an older
                tweakio made it.

        Returns:
            The snapshot.

        Raises:
            SnapshotError: there is none, it is damaged, of another profile, or encrypted as
                something else than its manifest says.
            VaultError: no identity here opens it.
            ProfileActiveError: a live process uses the profile.
        """
        with self._stopped(profile_id), self._repository().workshop.room() as room:
            place = self._place()
            snapshot = find(place, profile_id, name)
            self._refuse_other(snapshot, other=other)
            into = room / "profile"
            try:
                durable.make_directory(into)
                unpack(place, snapshot, into, self._identities, unbound=unbound)
                if self.store:
                    self._clean(profile_id, into)
                directories.complete_parts(into, snapshot.platform)
            except OSError as error:
                if isinstance(error, StorageError):
                    raise
                raise storage_error(error, "unpack the snapshot") from error
            self._put(profile_id, snapshot, into)
        seen.note(self._layout, profile_id, self._identity(profile_id)[1])
        return snapshot

    def _clean(self, profile_id: str, into: Path) -> None:
        """Whoever can write to a store can put browser data of theirs there."""
        if removed := bundle.clean(ProfilePaths(into).browser_profile):
            log.warning(
                "removed from the browser data of profile '%s', as the store is outside of the "
                "repository: %s",
                profile_id,
                bundle.told(removed),
            )

    def _refuse_other(self, snapshot: Snapshot, *, other: bool) -> None:
        platform, created_at = self._identity(snapshot.profile_id)
        if snapshot.platform != platform:
            raise SnapshotError(
                f"snapshot {snapshot.name} is of a profile for {ascii(snapshot.platform)[:40]}, "
                f"and '{snapshot.profile_id}' is for {platform}",
                hint="take another one: "
                + command("tweakio profile snapshot list", snapshot.profile_id),
            )
        if snapshot.profile_created_at != created_at and not other:
            raise SnapshotError(
                f"snapshot {snapshot.name} is of another profile of the name "
                f"'{snapshot.profile_id}'",
                hint="give --other-profile if its login is the one that you want",
            )

    def _put(self, profile_id: str, snapshot: Snapshot, into: Path) -> None:
        repository = self._repository()
        command = self._name("snapshots.restore")
        with changes.begin(
            repository, self._locks, "restore", [profile_id], command=command
        ) as change:
            self._locks.refuse_in_use(profile_id, own=True)
            value = change.metadata(profile_id)
            if parse_time(value["created_at"]) != self._identity(profile_id)[1]:
                raise ProfileNotFoundError(f"profile '{profile_id}' has just been replaced")
            try:
                staged = change.take_in(f"snapshot-{profile_id}", into)
            except OSError as error:
                raise storage_error(error, "restore the snapshot") from error
            directories.replace_parts(change, repository, profile_id, staged)
            change.put_metadata(profile_id, value)
            session = staged / "session.json"
            has_session = sealing.read_session(session) is not None
            sealing.put_session(change, repository, profile_id, session)
            sealed = (repository.files_at(change.head.root, profile_id) or {}).get(SEALED)
            if sealed is not None and not has_session:
                # Or the next opening would mix the later session with the older browser data.
                change.put(profile_id, SEALED, None)
            change.add_trailer("Tweakio-Snapshot", snapshot.name)
            change.record_always = True
            change.summary = f"restore {profile_id} from snapshot {snapshot.name}"

    # Pruning

    def prune(self, profile_id: str, keep: Keep, *, dry_run: bool = False) -> _Found:
        """Remove the snapshots that no rule keeps, and what interrupted uploads left.

        The rules apply by themselves to each profile that had this id.

        Args:
            profile_id: whose; it need not exist any more.
            keep: the rules.
            dry_run: only say which.

        Returns:
            What was removed, newest first. Incomplete ones are among it.

        Raises:
            InvalidInputError: the rules would keep nothing.
        """
        keep.check()
        self._layout.profile(profile_id)
        place = self._place()
        found = list_snapshots(place, profile_id)
        stay = set()
        for created_at in {item.profile_created_at for item in found}:
            group = [i for i in found if i.complete and i.profile_created_at == created_at]
            stay |= kept(group, keep)
        removed = [item for item in found if item.name not in stay]
        if dry_run:
            return removed
        for item in reversed(removed):
            # The manifest first: what is left then is no snapshot.
            place.remove(profile_id, manifest.manifest_file(item.name))
            place.remove(profile_id, manifest.data_file(item))
        self._sweep(place, profile_id)
        return removed

    def left(self, profile_id: str) -> Left:
        """What the stores still have of a profile.

        Raises:
            SnapshotError, StorageError: a store cannot be used.
        """
        self._layout.profile(profile_id)
        found = [
            file
            for place in self._places()
            for file in place.files(profile_id)
            if manifest.is_data(file) is not None
        ]
        return Left(len(found), sum(not file.endswith(".age") for file in found))

    def purge(self, profile_id: str) -> int:
        """Remove all snapshots of a profile, whole or not, from both stores.

        Args:
            profile_id: whose; it need not exist any more.

        Returns:
            How many snapshots it were.

        Raises:
            SnapshotError, StorageError: a store cannot be used.
        """
        self._layout.profile(profile_id)
        count = 0
        for place in self._places():
            files = sorted(place.files(profile_id), key=lambda file: not manifest.is_manifest(file))
            for file in files:
                is_data = manifest.is_data(file) is not None
                if is_data or manifest.is_manifest(file) or manifest.is_part(file):
                    place.remove(profile_id, file)
                    count += is_data
        return count

    def _places(self) -> Sequence[Place]:
        """The repository's own store, and the one that was set."""
        own = Directory(self._layout.snapshots, make_root=True)
        return (own, self._place()) if self.store else (own,)

    def _sweep(self, place: Place, profile_id: str) -> None:
        """Remove what snapshots that never came to be left; other files are left alone."""
        files = place.files(profile_id)
        limit = f"{self._clock() - _ABANDONED:%Y%m%dT%H%M%SZ}"
        for file in files:
            name = manifest.is_part(file)
            if name is None and manifest.manifest_file(manifest.is_data(file) or "") not in files:
                name = manifest.is_data(file)
            if name is not None and name < limit:
                place.remove(profile_id, file)

    # Verifying

    def verify(
        self,
        profile_id: str,
        name: str | None = None,
        *,
        progress: Callable[[int], None] | None = None,
    ) -> _Results:
        """Read snapshots as a whole and compare every hash.

        Args:
            profile_id: whose.
            name: of one snapshot, or the beginning of it; all by default.
            progress: called with the number of snapshots read so far.

        Raises:
            SnapshotError: there is none of this name, or the store cannot be used.
        """
        self._layout.profile(profile_id)
        place = self._place()
        found = (
            list_snapshots(place, profile_id) if name is None else [find(place, profile_id, name)]
        )
        results = []
        for number, snapshot in enumerate(found, 1):
            results.append(verify(place, snapshot, self._identities))
            if progress is not None:
                progress(number)
        return results
