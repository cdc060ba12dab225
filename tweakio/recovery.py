"""Recovery of damaged profiles: soft from history, hard with a new session besides."""

from __future__ import annotations

import json
import logging
import os
import re
import stat
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from tweakio import changes, directories, durable, schema
from tweakio.errors import (
    InvalidMetadataError,
    NewerFormatError,
    is_of_the_moment,
    storage_error,
)
from tweakio.metadata import not_found_error
from tweakio.models import RecoveryMode, format_time, utc_now
from tweakio.platforms import find_platform
from tweakio.store.refs import NO_COMMIT
from tweakio.store.worktree import FINGERPRINT, METADATA

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tweakio.models import LockRecord
    from tweakio.store.locks import ProfileLockManager
    from tweakio.store.repository import Repository
    from tweakio.store.transaction import Transaction

__all__ = ["Recovery", "rebuild_metadata"]

log = logging.getLogger(__name__)

_PLATFORM = re.compile(rb'"platform"\s*:\s*"([a-z][a-z0-9_-]{0,31})"')
_CREATED = re.compile(rb'"created_at"\s*:\s*"([0-9T:.+Z-]{10,40})"')


class Recovery:
    """Mends profiles of one repository.

    Args:
        repository: which one.
        locks: tells which profiles are in use.
    """

    def __init__(self, repository: Repository, locks: ProfileLockManager) -> None:
        self._repository = repository
        self._locks = locks

    def recover(
        self, profile_ids: Iterable[str], mode: RecoveryMode = "soft", *, command: str = ""
    ) -> dict[str, dict[str, Any]]:
        """Recover profiles, as one commit.

        Soft: metadata.json is checked out as it was last valid in history (else rebuilt from
        the directory), fingerprint.json likewise. Hard: session.json and browser_profile/
        start anew besides; the old ones go to the trash. Damaged bytes are always kept. A
        healthy profile is left alone by a soft recovery.

        Args:
            profile_ids: existing profiles, or directories that HEAD has under these names.
            mode: ``soft`` or ``hard``.
            command: for the history.

        Returns:
            The metadata that each of them has then.

        Raises:
            ProfileNotFoundError: HEAD has no directory of one of these names.
            ProfileActiveError: hard, and another live process uses the profile.
            NewerFormatError: the metadata was written by a newer tweakio.
            StorageError: a file cannot be read now; nothing was put aside or replaced.
        """
        ids = list(profile_ids)
        with changes.begin(
            self._repository, self._locks, f"recover-{mode}", ids, command=command
        ) as change:
            done = [name for name in ids if self._recover_one(change, name, mode)]
            names = ", ".join(done[:5]) + (f" and {len(done) - 5} more" if len(done) > 5 else "")
            change.summary = f"recover {names} ({mode})"
            change.record_always = bool(done)
            return {name: change.metadata(name) for name in ids}

    def _recover_one(self, change: Transaction, profile_id: str, mode: RecoveryMode) -> bool:
        repository = self._repository
        if not change.exists(profile_id):
            raise not_found_error(profile_id)
        found = repository.work_tree.examine(change.head, profile_id)
        if found is not None and found.state == "newer":
            raise NewerFormatError(
                f"profile '{profile_id}': {found.problem}", hint="upgrade tweakio"
            )
        marked = found is not None and (found.metadata or {}).get("status") == "corrupted"
        damaged = found is None or found.state == "damaged"
        paths = repository.layout.profile(profile_id)
        browser = stat.S_ISDIR(durable.mode_of(paths.browser_profile))
        incomplete = not (durable.is_there(paths.session) and browser)
        if mode == "soft" and not (damaged or marked or incomplete):
            return False
        owner = None
        if mode == "hard":
            self._locks.refuse_in_use(profile_id, own=True)
        if mode == "soft" or profile_id in self._locks.held:
            # Who takes the lock during a hard recovery waits for it, and has activated nothing.
            owner = self._locks.owner(profile_id)
        staged = self._mend_directory(change, profile_id)
        metadata, fingerprint = self._tracked_files(
            change, profile_id, owner, rewrite=damaged or marked
        )
        if staged is not None:
            directories.complete_directory(staged, str(metadata["platform"]))
            change.move(staged, paths.directory)
        elif mode == "hard":
            directories.reset(change, repository, profile_id, str(metadata["platform"]))
        elif stat.S_ISDIR(durable.mode_of(paths.directory)):
            directories.complete(repository, profile_id, str(metadata["platform"]))
        change.put_metadata(profile_id, metadata)
        if fingerprint is not None:
            change.put(profile_id, FINGERPRINT, fingerprint)
        return True

    def _mend_directory(self, change: Transaction, profile_id: str) -> Path | None:
        """Put aside what stands where the profile's directory has to be.

        Returns:
            The new directory that has to be completed and moved there; None if the present
            one is good.
        """
        repository = self._repository
        directory = repository.layout.profile(profile_id).directory
        if not durable.is_there(directory):
            durable.make_directory(directory)
            durable.fsync_directory(directory.parent)
        elif not stat.S_ISDIR(durable.mode_of(directory)):
            directories.keep_file(change, repository, profile_id, directory)
            return change.stage(f"new-{profile_id}")
        return None

    def _tracked_files(
        self, change: Transaction, profile_id: str, owner: LockRecord | None, *, rewrite: bool
    ) -> tuple[dict[str, Any], bytes | None]:
        """The metadata to have afterwards, and the fingerprint if it has to be written."""
        repository = self._repository
        paths = repository.layout.profile(profile_id)
        metadata = self.last_valid_metadata(profile_id)
        if metadata is None:
            metadata = rebuild_metadata(paths.directory, profile_id)
            log.warning("no valid metadata of %s in history; rebuilt from its files", profile_id)
        if rewrite:
            directories.keep_damaged_files(change, repository, profile_id)
        if metadata["status"] == "corrupted" or (metadata["status"] == "active" and rewrite):
            metadata["status"] = "active" if owner is not None else "inactive"
        metadata["lock_pid"] = owner.pid if owner is not None else None
        fingerprint = repository.file_at(change.head.root, profile_id, FINGERPRINT)
        if not _is_object(fingerprint):
            fingerprint = self._last_valid_fingerprint(profile_id) or directories.new_fingerprint(
                change, str(metadata["platform"]), profile_id
            )
        return metadata, fingerprint

    def last_valid_metadata(
        self, profile_id: str, created_at: str | None = None
    ) -> dict[str, Any] | None:
        """The newest metadata in history that fits the schema and is not marked corrupted.

        Args:
            profile_id: whose.
            created_at: of the profile that was made then, whatever had its name later.
        """
        for content in self._versions(profile_id, METADATA):
            try:
                metadata = schema.load(content, profile_id)
            except (InvalidMetadataError, NewerFormatError):
                continue
            if created_at is not None and metadata["created_at"] != created_at:
                continue
            if metadata["status"] != "corrupted":
                return metadata
        return None

    def _last_valid_fingerprint(self, profile_id: str) -> bytes | None:
        return next(filter(_is_object, self._versions(profile_id, FINGERPRINT)), None)

    def _versions(self, profile_id: str, name: str) -> Iterable[bytes]:
        """The distinct contents of one tracked file, newest first."""
        repository = self._repository
        head = repository.refs.head()
        if head == NO_COMMIT:
            return
        last = None
        for commit in repository.reader.first_parents(head):
            root = repository.reader.read(commit.tree, b"tree")
            # One search in the raw root tree per commit; the file is read when its
            # directory has changed.
            entry = repository.directory_id(root, profile_id)
            if entry is None or entry == last:
                continue
            last = entry
            content = repository.file_at(root, profile_id, name)
            if content is not None:
                yield content


def rebuild_metadata(directory: Path, profile_id: str) -> dict[str, Any]:
    """Metadata made from what a profile's directory still tells.

    Args:
        directory: the profile's; its metadata.json may be damaged or missing.
        profile_id: validated.
    """
    remains = b""
    if not os.path.islink(directory):
        try:
            remains = durable.read_regular(directory / METADATA, schema.MAX_BYTES)
        except OSError as error:
            if is_of_the_moment(error):
                raise storage_error(error, f"read {METADATA} of profile '{profile_id}'") from error
    platform = "custom"
    if (match := _PLATFORM.search(remains)) and find_platform(match[1].decode()) is not None:
        platform = match[1].decode()
    value: dict[str, Any] = {
        "profile_id": profile_id,
        "platform": platform,
        "created_at": format_time(_oldest(directory)),
        "last_used": format_time(utc_now()),
        "status": "inactive",
        "tags": [],
        "note": "",
        "schema_version": schema.SCHEMA_VERSION,
    }
    if match := _CREATED.search(remains):
        try:
            return schema.validate({**value, "created_at": match[1].decode()})
        except InvalidMetadataError:
            pass
    return schema.validate(value)


def _oldest(directory: Path) -> datetime:
    """The oldest modification of the files directly in a directory."""
    times = [utc_now().timestamp()]
    for name in ("session.json", "browser_profile", "fingerprint.json", "cache", "metadata.json"):
        try:
            times.append(os.lstat(directory / name).st_mtime)
        except OSError:
            continue
    return datetime.fromtimestamp(max(0.0, min(times)), timezone.utc)


def _is_object(content: bytes | None) -> bool:
    if content is None:
        return False
    try:
        return isinstance(json.loads(content), dict)
    except (ValueError, RecursionError):
        return False
