"""Bringing back and purging what the trash and the rescued keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tweakio import changes, directories, durable, schema
from tweakio.errors import (
    InvalidMetadataError,
    NewerFormatError,
    ProfileCorruptedError,
    ProfileExistsError,
    TrashEntryNotFoundError,
)
from tweakio.errors import (
    command as pasted,
)
from tweakio.metadata import not_found_error
from tweakio.models import TrashEntry, format_time, utc_now
from tweakio.recovery import Recovery, rebuild_metadata
from tweakio.store.worktree import FINGERPRINT, METADATA
from tweakio.validator import ProfileValidator
from tweakio.vault import sealing

if TYPE_CHECKING:
    from datetime import timedelta

    from tweakio.store.attic import Attic
    from tweakio.store.locks import ProfileLockManager
    from tweakio.store.repository import Repository
    from tweakio.store.transaction import Transaction

__all__ = ["entries", "find_entry", "purge", "restore_entry"]


def entries(repository: Repository, profile_id: str | None = None) -> list[TrashEntry]:
    """What the trash and the rescued keep, newest first, with sizes.

    Args:
        repository: where.
        profile_id: only what is of this profile.
    """
    found = [
        entry
        for attic in (repository.trash, repository.rescued)
        for entry in attic.entries(profile_id, sizes=True)
    ]
    return sorted(found, key=lambda entry: (entry.time, entry.name), reverse=True)


def find_entry(repository: Repository, name: str) -> tuple[Attic, TrashEntry]:
    """An entry of the trash or of the rescued.

    Raises:
        TrashEntryNotFoundError: neither has one of this name.
    """
    try:
        return repository.trash, repository.trash.get(name)
    except TrashEntryNotFoundError:
        return repository.rescued, repository.rescued.get(name)


def restore_entry(
    repository: Repository, locks: ProfileLockManager, name: str, command: str
) -> dict[str, Any]:
    """Bring back what an entry keeps, as a new commit; see ``ProfileManager``.

    Returns:
        The metadata of the profile then.
    """
    _, entry = find_entry(repository, name)
    profile_id = ProfileValidator().validate_id(entry.profile_id)
    if entry.kind == "damaged":
        raise ProfileCorruptedError(
            f"{name} keeps damaged bytes of {profile_id}, not a profile",
            hint=f"look at them in {entry.path / 'data'}",
        )
    with changes.begin(repository, locks, "restore", [profile_id], command=command) as change:
        change.summary = f"restore {profile_id} from the trash"
        change.record_always = True
        if entry.kind == "reset":
            _restore_reset(change, repository, locks, entry)
        else:
            _restore_profile(change, repository, locks, entry)
        return change.metadata(profile_id)


def _restore_reset(
    change: Transaction, repository: Repository, locks: ProfileLockManager, entry: TrashEntry
) -> None:
    profile_id = entry.profile_id
    if not change.exists(profile_id):
        raise not_found_error(profile_id)
    created = directories.identity_at(repository, change.head.root, profile_id)
    if created != entry.profile_created_at:
        # Never another profile's session, even if it has the same name.
        raise ProfileExistsError(
            f"'{profile_id}' is another profile by now than the one that {entry.name} is of",
            hint="delete it first, then restore the old one: "
            + pasted("tweakio profile history", profile_id),
        )
    locks.refuse_in_use(profile_id, own=True)
    metadata = change.metadata(profile_id)
    directories.reset(change, repository, profile_id, metadata["platform"], back=entry.name)
    sealing.put_session(change, repository, profile_id, entry.path / "data" / "session.json")
    change.put_metadata(profile_id, metadata)


def _restore_profile(
    change: Transaction, repository: Repository, locks: ProfileLockManager, entry: TrashEntry
) -> None:
    profile_id = entry.profile_id
    taken = {other.lower(): other for other in change.profile_ids()}.get(profile_id.lower())
    if taken is not None:
        raise ProfileExistsError(
            f"profile '{taken}' exists", hint="delete it first; undo brings it back"
        )
    data = entry.path / "data"
    files = {}
    for name in (METADATA, FINGERPRINT):
        if durable.is_there(data / name) and not data.is_symlink():
            files[name] = durable.read_regular(data / name, schema.MAX_BYTES)
    try:
        metadata = schema.load(files.get(METADATA, b""), profile_id)
    except NewerFormatError:
        raise
    except InvalidMetadataError:
        known, created = None, entry.profile_created_at
        if created is not None:
            recovery = Recovery(repository, locks)
            known = recovery.last_valid_metadata(profile_id, format_time(created))
        metadata = known or rebuild_metadata(data, profile_id)
    metadata = {key: item for key, item in metadata.items() if key != "lock_pid"}
    files[METADATA] = schema.dump({**metadata, "status": "inactive"})
    if FINGERPRINT not in files:
        files[FINGERPRINT] = directories.new_fingerprint(change, metadata["platform"], profile_id)
    directories.bring_back(change, repository, profile_id, files, (entry.name,))


def purge(
    repository: Repository, name: str | None, older_than: timedelta | None
) -> list[TrashEntry]:
    """Remove entries for good.

    Args:
        repository: where.
        name: this entry.
        older_than: all that are older; neither means all.

    Returns:
        What was removed, with sizes.
    """
    with repository.exclusive():
        if name is not None:
            attic, entry = find_entry(repository, name)
            attic.discard(entry.name)
            return [entry]
        removed = []
        now = utc_now()
        for attic in (repository.trash, repository.rescued):
            for entry in attic.entries(sizes=True):
                if older_than is None or now - entry.time > older_than:
                    attic.discard(entry.name)
                    removed.append(entry)
            attic.discard_incomplete()
        return removed
