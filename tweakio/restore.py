"""Bringing a profile to what it was at a revision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tweakio import changes, directories, schema
from tweakio.errors import (
    InvalidMetadataError,
    ProfileExistsError,
    RevisionNotFoundError,
    run,
)
from tweakio.errors import (
    command as pasted,
)
from tweakio.history import History
from tweakio.store.worktree import METADATA, SEALED
from tweakio.validator import ProfileValidator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tweakio.store.locks import ProfileLockManager
    from tweakio.store.repository import Repository
    from tweakio.store.transaction import Transaction

__all__ = ["restore"]


def restore(
    repository: Repository,
    locks: ProfileLockManager,
    profile_id: str,
    revision: str,
    *,
    command: str = "",
) -> dict[str, Any]:
    """Bring a profile to what it was at a revision, as a new commit.

    An existing profile gets its metadata and fingerprint of then; whether it is active
    stays as it is. One that does not exist any more returns with its browser data and
    inactive. If another profile has the id by now, that one goes into the trash.

    Args:
        repository: where.
        locks: tells which profiles are in use.
        profile_id: an existing profile or one that was deleted.
        revision: see ``History.resolve``.
        command: for the history.

    Returns:
        The metadata of the profile then.

    Raises:
        RevisionNotFoundError: no such revision, or the profile was not in it.
        ProfileActiveError: the profile that has the id now is in use.
    """
    commit_id, files = _files_at(repository, profile_id, revision)
    try:
        wanted = schema.load(files[METADATA], profile_id)
    except InvalidMetadataError as error:
        error.hint = "give another revision: " + pasted("tweakio profile history", profile_id)
        raise
    with changes.begin(repository, locks, "restore", [profile_id], command=command) as change:
        change.summary = f"restore {profile_id} to {commit_id[:12]}"
        if change.exists(profile_id) and _is_same(change, profile_id, wanted):
            if directories.keep_damaged_files(change, repository, profile_id):
                change.record_always = True
            wanted.update(_runtime_state(change, locks, profile_id))
            for name, content in files.items():
                if name == SEALED:
                    continue  # the session stays the one of now
                change.put(profile_id, name, content)
            change.put_metadata(profile_id, wanted)
            return wanted
        if change.exists(profile_id):
            locks.refuse_in_use(profile_id)
            directories.take_away(change, repository, profile_id)
        else:
            _refuse_other_case(change, profile_id)
        wanted = {**wanted, "lock_pid": None, "status": "inactive"}
        files[METADATA] = schema.dump(wanted)
        found = directories.bring_back(change, repository, profile_id, files)
        if SEALED in files and not found:
            from tweakio.vault import sealing

            sealing.accept_older(change, repository, profile_id)
    return wanted


def _files_at(
    repository: Repository, profile_id: str, revision: str
) -> tuple[str, dict[str, bytes]]:
    """The commit that a revision names, and the profile's tracked files in it."""
    commit_id = History(repository).resolve(revision)
    blobs = repository.files_at(repository.root_of(commit_id), profile_id)
    if blobs is None or METADATA not in blobs:
        raise RevisionNotFoundError(
            f"profile '{profile_id}' is not in revision {revision[:80]!r}",
            hint=run("tweakio profile history", profile_id),
            profile_id=profile_id,
            revision=revision,
        )
    read = repository.reader.read
    return commit_id, {name: read(blob, b"blob") for name, blob in blobs.items()}


def _is_same(change: Transaction, profile_id: str, wanted: Mapping[str, Any]) -> bool:
    """Whether the id is still that profile's, and not another one's by now."""
    try:
        return bool(change.metadata(profile_id)["created_at"] == wanted["created_at"])
    except InvalidMetadataError:
        return True


def _runtime_state(
    change: Transaction, locks: ProfileLockManager, profile_id: str
) -> dict[str, Any]:
    """What a restore leaves as it is."""
    try:
        now = change.metadata(profile_id)
    except InvalidMetadataError:
        # A person's invalid commit, which says nothing about it.
        owner = locks.owner(profile_id)
        if owner is None:
            return {"status": "inactive", "lock_pid": None}
        return {"status": "active", "lock_pid": owner.pid}
    status = "inactive" if now["status"] == "corrupted" else now["status"]
    return {"status": status, "lock_pid": now.get("lock_pid"), "last_used": now.get("last_used")}


def _refuse_other_case(change: Transaction, profile_id: str) -> None:
    other = ProfileValidator().find_case_collision(profile_id, change.profile_ids())
    if other is not None:
        raise ProfileExistsError(
            f"profile '{other}' differs from '{profile_id}' only by case",
            hint="delete that one first",
            profile_id=other,
        )
