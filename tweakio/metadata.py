"""ProfileMetadataHandler: metadata.json of one profile, read with checks and saved as a commit."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from tweakio import changes, schema
from tweakio.directories import keep_file
from tweakio.errors import (
    InvalidMetadataError,
    NewerFormatError,
    ProfileCorruptedError,
    ProfileNotFoundError,
    run,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from tweakio.store.locks import ProfileLockManager
    from tweakio.store.repository import Repository
    from tweakio.store.transaction import Transaction
    from tweakio.store.worktree import Found

__all__ = ["ProfileMetadataHandler", "corrupted_error", "healthy", "not_found_error"]


def not_found_error(profile_id: str) -> ProfileNotFoundError:
    """The error for an id that no profile has."""
    return ProfileNotFoundError(
        f"no profile '{profile_id}'",
        hint="run 'tweakio profile list' to see them, or 'tweakio profile create'",
        profile_id=profile_id,
    )


def corrupted_error(profile_id: str, problem: str | None) -> ProfileCorruptedError:
    """The error for a profile that has to be recovered first."""
    return ProfileCorruptedError(
        f"profile '{profile_id}' is corrupted: {problem or 'it was marked so'}",
        hint=run("tweakio profile recover", profile_id),
        profile_id=profile_id,
    )


def healthy(change: Transaction, profile_id: str) -> dict[str, Any]:
    """A profile's metadata within a change that needs the profile to be sound.

    Raises:
        ProfileNotFoundError, ProfileCorruptedError, NewerFormatError: it is not.
    """
    found = change.examine(profile_id)
    if found is None:
        raise not_found_error(profile_id)
    if found.state == "newer":
        raise NewerFormatError(f"profile '{profile_id}': {found.problem}", hint="upgrade tweakio")
    if found.state == "damaged" or (found.metadata or {}).get("status") == "corrupted":
        raise corrupted_error(profile_id, found.problem)
    return change.metadata(profile_id)


class ProfileMetadataHandler:
    """Reads and writes the metadata of profiles.

    Args:
        repository: where they are.
        locks: which are in use, and whose; those of the ``ProfileManager`` that it is part of.
    """

    def __init__(self, repository: Repository, locks: ProfileLockManager | None = None) -> None:
        self._repository = repository
        self._locks = locks

    def examine(self, profile_id: str) -> Found:
        """What the work tree has of a profile, damaged or not.

        What looks damaged or edited while another program is at work is looked at again
        after that one has ended.

        Raises:
            ProfileNotFoundError: HEAD has no such profile.
        """
        repository = self._repository
        head = repository.head()
        found = repository.work_tree.examine(head, profile_id)
        if found is None or found.state in ("damaged", "edited"):
            with repository.undisturbed() if repository.is_busy(head) else nullcontext():
                found = repository.work_tree.examine(repository.head(), profile_id)
        if found is None:
            raise not_found_error(profile_id)
        return found

    def load(self, profile_id: str) -> dict[str, Any]:
        """The validated metadata of a profile.

        Raises:
            ProfileNotFoundError: there is no such profile.
            ProfileCorruptedError: its metadata is missing, damaged or not its own.
            NewerFormatError: it was written by a newer tweakio.
        """
        found = self.examine(profile_id)
        if found.state == "newer":
            raise NewerFormatError(
                f"profile '{profile_id}': {found.problem}", hint="upgrade tweakio"
            )
        if found.metadata is None:
            raise corrupted_error(profile_id, found.problem)
        return found.metadata

    def save(self, profile_id: str, metadata: Mapping[str, Any], *, command: str = "") -> None:
        """Replace a profile's metadata, as one commit.

        Args:
            profile_id: an existing profile; its identity (id and creation) stays.
            metadata: the whole new content.
            command: what to write into the history.

        Raises:
            InvalidMetadataError: it does not fit the schema or changes the identity.
            ProfileNotFoundError: there is no such profile.
        """
        value = self.validate(metadata)
        with self._change("set", profile_id, command) as change:
            before = change.metadata(profile_id)
            for key in ("profile_id", "created_at"):
                if value[key] != before[key]:
                    raise InvalidMetadataError(
                        f"{key} cannot be changed",
                        hint=f"leave it as it was, {before[key]!r}",
                        field=key,
                    )
            change.put_metadata(profile_id, value)
            fields = changes.name_some(changes.changed_fields(before, value))
            change.summary = f"set {profile_id} ({fields})"

    def _change(
        self, operation: str, profile_id: str, command: str
    ) -> AbstractContextManager[Transaction]:
        if self._locks is None:
            from tweakio.lease.locking import locks_of

            self._locks = locks_of(self._repository.layout)
        return changes.begin(
            self._repository, self._locks, operation, [profile_id], command=command
        )

    def validate(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Check metadata against the schema.

        Raises:
            InvalidMetadataError: it does not fit.
            NewerFormatError: its schema version is newer than this tweakio's.
        """
        return schema.validate(metadata)

    def mark_corrupted(self, profile_id: str, reason: str, *, command: str = "") -> None:
        """Record that a profile is damaged: it cannot be activated until it is recovered.

        Damaged bytes of its metadata.json go to the rescued; the file then holds the
        committed metadata with the status ``corrupted``.

        Raises:
            ProfileNotFoundError: there is no such profile.
            ProfileCorruptedError: the committed metadata is unreadable as well.
        """
        repository = self._repository
        with self._change("mark-corrupted", profile_id, command) as change:
            try:
                value = change.metadata(profile_id)
            except InvalidMetadataError as error:
                raise corrupted_error(profile_id, error.message) from None
            found = repository.work_tree.examine(change.head, profile_id)
            if found is not None and found.state == "damaged":
                keep_file(
                    change, repository, profile_id, repository.layout.profile(profile_id).metadata
                )
            change.put_metadata(profile_id, {**value, "status": "corrupted", "lock_pid": None})
            line = " ".join(reason.split())[:120]
            change.summary = f"mark {profile_id} as corrupted: {line}"
