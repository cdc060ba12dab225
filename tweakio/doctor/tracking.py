"""Bringing the profile directories of a work tree into history as they are."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from tweakio import directories, durable, schema
from tweakio.doctor.strict import content
from tweakio.errors import InvalidMetadataError, NewerFormatError
from tweakio.recovery import rebuild_metadata
from tweakio.references import is_age_file
from tweakio.store import initialise
from tweakio.store.worktree import FINGERPRINT, METADATA, MOST_SEALED, SEALED
from tweakio.validator import ProfileValidator
from tweakio.vault.recipients import RECIPIENTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tweakio.doctor.case import Case
    from tweakio.store.head import Head
    from tweakio.store.repository import Repository
    from tweakio.store.transaction import Transaction

__all__ = ["Tracking"]

log = logging.getLogger(__name__)


class Tracking:
    """The profile directories that a change takes as they are.

    Args:
        case: the examination that it is part of.
        repository: whose history gets them.
        change: the transaction that it becomes part of.
    """

    def __init__(self, case: Case, repository: Repository, change: Transaction) -> None:
        self._case = case
        self._repository = repository
        self._change = change

    def put(self) -> list[str]:
        """Bring profiles into history as the work tree has them; the ids of those."""
        if self._change.root_file(RECIPIENTS) is None:
            recipients = content(self._case.layout.profiles / RECIPIENTS, schema.MAX_BYTES)
            if recipients is not None:
                self._change.put_root(RECIPIENTS, recipients)
        head = self._change.head
        known = self._repository.work_tree.ids(head)
        tracked = []
        for profile_id in self._directories_by_id(known):
            found = self._repository.work_tree.examine(head, profile_id)
            # One that is damaged here but whole in history is left to its recovery.
            if found is None or found.state in ("edited", "newer"):
                self._track(profile_id)
                tracked.append(profile_id)
        for profile_id in known:
            if self._was_deleted(head, profile_id):
                self._change.remove(profile_id)
        return tracked

    def _was_deleted(self, head: Head, profile_id: str) -> bool:
        """Whether a profile of an older commit is in the trash since."""
        if durable.is_there(self._case.layout.profile(profile_id).directory):
            return False
        created = directories.identity_at(self._repository, head.root, profile_id)
        return created is not None and any(
            entry.kind == "deleted" and entry.profile_created_at == created
            for entry in self._repository.trash.entries(profile_id)
        )

    def _directories_by_id(self, known: Iterable[str]) -> list[str]:
        """The profile directories that can be profiles again; no two differ by case only."""
        rules = ProfileValidator()
        found = {name.lower(): name for name in known}
        present = initialise.profile_like_directories(self._case.layout)
        # Of several, the one that says what it is.
        profiles = self._case.layout.profiles
        present.sort(key=lambda name: not durable.is_there(profiles / name / METADATA))
        for name in present:
            if rules.is_id(name) and found.get(name.lower(), name) == name:
                found[name.lower()] = name
            else:
                self._case.add(
                    "bad-name",
                    "problem",
                    f"directory {name!r} cannot be a profile and was left",
                    hint="rename it to a valid id that is free",
                )
        return sorted(set(found.values()).intersection(present))

    def _track(self, profile_id: str) -> None:
        paths = self._case.layout.profile(profile_id)
        # What cannot be read now is no reason to make it anew.
        written = content(paths.metadata, schema.MAX_BYTES) or b""
        try:
            metadata = schema.load(written, profile_id)
        except InvalidMetadataError:
            metadata = rebuild_metadata(paths.directory, profile_id)
            directories.keep_file(self._change, self._repository, profile_id, paths.metadata)
            log.warning("the metadata of %s was rebuilt from its files", profile_id)
        except NewerFormatError:
            self._change.put(profile_id, METADATA, written)
            metadata = {}
        if metadata:
            metadata = {key: item for key, item in metadata.items() if key != "lock_pid"}
            self._change.put_metadata(profile_id, metadata)
        fingerprint = content(paths.fingerprint, schema.MAX_BYTES) or b""
        try:
            if not isinstance(json.loads(fingerprint), dict):
                raise ValueError
        except (ValueError, RecursionError):
            directories.keep_file(self._change, self._repository, profile_id, paths.fingerprint)
            fingerprint = directories.new_fingerprint(
                self._change, str(metadata.get("platform", "custom")), profile_id
            )
        self._change.put(profile_id, FINGERPRINT, fingerprint)
        sealed = content(paths.sealed, MOST_SEALED)
        if sealed is not None and is_age_file(sealed):
            self._change.put(profile_id, SEALED, sealed)
