"""Undo and redo, as new commits and with the browser data that moved."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tweakio import changes, directories, schema
from tweakio.errors import (
    ConcurrentChangeError,
    InvalidMetadataError,
    NewerFormatError,
    NothingToRedoError,
    NothingToUndoError,
)
from tweakio.history import HISTORY_HINT, History, changed_names
from tweakio.store.worktree import METADATA, SEALED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tweakio.models import Change
    from tweakio.store.locks import ProfileLockManager
    from tweakio.store.objects import Commit
    from tweakio.store.repository import Repository
    from tweakio.store.transaction import Transaction

__all__ = ["Undo"]

log = logging.getLogger(__name__)

_TRIES = 5
# What a machine writes about itself, which undoing must not bring back.
_RUNTIME = frozenset({"lock_pid"})
# An old session, or an old set of recipients, is never brought back.
_NOT_UNDONE = frozenset({"seal", "vault-init", "vault-recipients"})


class Undo:
    """Takes changes of one repository back, and does them again.

    Args:
        repository: which one.
        locks: tells which profiles are in use.
    """

    def __init__(self, repository: Repository, locks: ProfileLockManager) -> None:
        self._repository = repository
        self._locks = locks
        self._history = History(repository)

    def undo(self, *, command: str = "") -> Change:
        """Take back the newest change that is not taken back yet, as a new commit.

        Profiles that it deleted or reset return with their browser data.

        Returns:
            The change that was undone.

        Raises:
            NothingToUndoError: there is none.
            ProfileActiveError: a live process uses a profile that would go.
        """
        return self._invert("undo", "Tweakio-Undoes", self._undo_target, command)

    def redo(self, *, command: str = "") -> Change:
        """Do again what the last undo took back, as a new commit.

        Returns:
            The change that was done again.

        Raises:
            NothingToRedoError: nothing was undone since the last change.
            ProfileActiveError: a live process uses a profile that would go.
        """
        return self._invert("redo", "Tweakio-Redoes", self._redo_target, command)

    def _invert(
        self,
        operation: str,
        trailer: str,
        find: Callable[[str], tuple[Commit, Commit]],
        command: str,
    ) -> Change:
        """Commit the opposite of a commit.

        Which one that is may be another one if plain git commits something meanwhile.

        Args:
            operation: for the history.
            trailer: names the change in the new commit.
            find: from a head the change, and the commit that last had or took its effect.
            command: for the history.
        """
        self._repository.refs.branch()  # on none, nothing is done or undone
        for _ in range(_TRIES - 1):
            try:
                return self._try_to_invert(operation, trailer, find, command)
            except ConcurrentChangeError as error:
                log.debug("%s: once more, as %s", operation, error)
        return self._try_to_invert(operation, trailer, find, command)

    def _try_to_invert(
        self,
        operation: str,
        trailer: str,
        find: Callable[[str], tuple[Commit, Commit]],
        command: str,
    ) -> Change:
        _, last = find(self._repository.refs.head())
        touched = self._history.describe(last).profiles
        with changes.begin(
            self._repository, self._locks, operation, touched, command=command
        ) as change:
            target, last = find(change.head.commit)
            _Inverse(self._repository, self._locks, change, last).put(self._names(target, last))
            change.add_trailer(trailer, target.id)
            change.record_always = True
            change.rebasable = False
            change.summary = f"{operation}: {target.summary}"
        return self._history.describe(target)

    def _names(self, target: Commit, last: Commit) -> set[str]:
        """The profiles to change back.

        What an undo wrote down besides, that a holder died, is not taken back.
        """
        names = set(changed_names(*self._history.roots(last)))
        if last.id != target.id:
            names.intersection_update(changed_names(*self._history.roots(target)))
        return names

    def _undo_target(self, head: str) -> tuple[Commit, Commit]:
        """The change to undo, and the commit that last had its effect (it or a redo)."""
        undone: set[str] = set()
        redone: dict[str, Commit] = {}
        for commit in self._history.commits(head):
            operation = commit.trailer("Tweakio-Op")
            if operation in _NOT_UNDONE:
                continue
            if operation == "redo" and (again := commit.trailer("Tweakio-Redoes")):
                redone.setdefault(again, commit)
            elif operation == "undo" and (taken := commit.trailer("Tweakio-Undoes")):
                if taken not in redone or taken in undone:
                    undone.add(taken)
            elif operation == "init" or not commit.parents:
                break
            elif commit.id not in undone:
                return commit, redone.get(commit.id, commit)
        raise NothingToUndoError("there is nothing to undo", hint=HISTORY_HINT)

    def _redo_target(self, head: str) -> tuple[Commit, Commit]:
        """The change to do again, and the commit that undid it."""
        redone: set[str] = set()
        commits = self._history.commits(head)
        for commit in commits:
            operation = commit.trailer("Tweakio-Op")
            if operation in _NOT_UNDONE:
                continue
            if operation == "redo" and (again := commit.trailer("Tweakio-Redoes")):
                redone.add(again)
            elif operation == "undo" and (taken := commit.trailer("Tweakio-Undoes")):
                if taken in redone:
                    redone.discard(taken)
                    continue
                # Anybody can write a trailer: what it names is looked for, and not looked up.
                target = next((older for older in commits if older.id == taken), None)
                if target is None:
                    break
                return target, commit
            else:
                break
        raise NothingToRedoError(
            "there is nothing to redo", hint="a redo is possible right after an undo"
        )


class _Inverse:
    """The opposite of one commit, as part of a change.

    Args:
        repository: where.
        locks: tells which profiles are in use.
        change: where to put it.
        commit: which one.
    """

    def __init__(
        self,
        repository: Repository,
        locks: ProfileLockManager,
        change: Transaction,
        commit: Commit,
    ) -> None:
        self._repository = repository
        self._locks = locks
        self._change = change
        self._before, self._after = History(repository).roots(commit)
        self._kept = commit.trailers.get("Tweakio-Trash", ())

    def put(self, names: set[str]) -> None:
        """Put it into the change.

        Args:
            names: the profiles that the commit changed; those whose session it reset are
                added.
        """
        resets = self._resets()
        for profile_id in names | resets.keys():
            existed = self._change.exists(profile_id)
            self._put_profile(profile_id)
            if profile_id in resets and existed:
                self._put_reset(profile_id, resets[profile_id])

    def _resets(self) -> dict[str, str]:
        """The trash entries of sessions that the commit reset, by profile."""
        if not self._kept:
            return {}
        return {
            entry.profile_id: entry.name
            for entry in self._repository.trash.entries()
            if entry.kind == "reset" and entry.name in self._kept
        }

    def _put_profile(self, profile_id: str) -> None:
        old, new = (
            self._repository.files_at(root, profile_id) for root in (self._before, self._after)
        )
        exists = self._change.exists(profile_id)
        if old is None:
            if exists:
                self._take_away(profile_id)
        elif not exists:
            self._bring_back(profile_id, old)
        elif new is None:
            pass  # it was deleted then, and something brought it back since
        elif self._is_another(profile_id):
            self._take_away(profile_id)
            self._bring_back(profile_id, old)
        else:
            self._put_files(profile_id, old, new)

    def _put_reset(self, profile_id: str, entry: str) -> None:
        self._locks.refuse_in_use(profile_id, own=True)
        change = self._change
        directories.reset(change, self._repository, profile_id, "custom", back=entry)
        sealed = self._repository.file_at(self._before, profile_id, SEALED)
        if sealed is not None:
            self._put_sealed(profile_id, sealed, self._repository.trash.get(entry).path)
        if not change.touches(profile_id):
            change.put_metadata(profile_id, change.metadata(profile_id))

    def _put_sealed(self, profile_id: str, sealed: bytes, entry: Path) -> None:
        """The session that comes back; where there is a newer one it is encrypted again.

        Or a machine that has seen the newer one would take it for something old.
        """
        from tweakio.vault import sealing

        change, repository = self._change, self._repository
        session = entry / "data" / "session.json"
        if (
            repository.file_at(change.head.root, profile_id, SEALED) is None
            or sealing.put_session(change, repository, profile_id, session) is None
        ):
            change.put(profile_id, SEALED, sealed)
            sealing.accept_older(change, repository, profile_id)

    def _is_another(self, profile_id: str) -> bool:
        """Whether the commit replaced the profile by another one of the same id, data and all."""
        was, became = (
            directories.identity_at(self._repository, root, profile_id)
            for root in (self._before, self._after)
        )
        return (
            None not in (was, became)
            and was != became
            and any(f"-{profile_id}-" in name for name in self._kept)
        )

    def _take_away(self, profile_id: str) -> None:
        self._locks.refuse_in_use(profile_id)
        directories.take_away(self._change, self._repository, profile_id)

    def _bring_back(self, profile_id: str, blobs: Mapping[str, bytes]) -> None:
        read = self._repository.reader.read
        files = {name: read(blob, b"blob") for name, blob in blobs.items()}
        try:
            metadata = schema.load(files.get(METADATA, b""), profile_id)
        except (InvalidMetadataError, NewerFormatError):
            pass
        else:
            files[METADATA] = schema.dump({**metadata, "lock_pid": None})
        found = directories.bring_back(
            self._change, self._repository, profile_id, files, self._kept
        )
        if SEALED in files and not found:
            from tweakio.vault import sealing

            sealing.accept_older(self._change, self._repository, profile_id)

    def _put_files(
        self, profile_id: str, old: Mapping[str, bytes], new: Mapping[str, bytes]
    ) -> None:
        read = self._repository.reader.read
        for name in {*old, *new} - {METADATA, SEALED}:
            if old.get(name) != new.get(name):
                content = read(old[name], b"blob") if name in old else None
                self._change.put(profile_id, name, content)
        if METADATA in old and old[METADATA] != new.get(METADATA):
            then = read(new[METADATA], b"blob") if METADATA in new else b""
            self._put_metadata(profile_id, read(old[METADATA], b"blob"), then)

    def _put_metadata(self, profile_id: str, content: bytes, replaced_by: bytes) -> None:
        """Change the fields back that the commit changed; later changes of others stay."""
        try:
            was = schema.load(content, profile_id)
            became = schema.load(replaced_by, profile_id)
            now = self._change.metadata(profile_id)
        except InvalidMetadataError:
            # One side is a person's invalid commit: the file as a whole goes back.
            self._change.put(profile_id, METADATA, content)
            return
        for key in {*was, *became} - _RUNTIME:
            if (key in was, was.get(key)) == (key in became, became.get(key)):
                continue
            if key == "status":
                self._locks.refuse_in_use(profile_id, own=True)
            if key in was:
                now[key] = was[key]
            else:
                now.pop(key, None)
        if not self._locks.is_locked(profile_id) or now.get("status") != "active":
            now["lock_pid"] = None
        self._change.put_metadata(profile_id, now)
