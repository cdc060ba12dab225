"""History: who changed what and when; undo, redo and restore as new commits."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

from tweakio import changes, directories, schema
from tweakio.errors import (
    InvalidMetadataError,
    NewerFormatError,
    NothingToRedoError,
    NothingToUndoError,
    RevisionNotFoundError,
)
from tweakio.metadata import not_found_error
from tweakio.models import Change, FieldChange, ProfileDiff
from tweakio.store.objects import Commit, parse_tree
from tweakio.store.refs import NO_COMMIT
from tweakio.store.worktree import METADATA

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from tweakio.store.locks import ProfileLockManager
    from tweakio.store.repository import Repository
    from tweakio.store.transaction import Transaction

__all__ = ["History"]

_HEX = re.compile(r"[0-9a-f]{4,40}")
_STEPS = re.compile(r"(?:~\d*|\^1?)")
_REVISION = re.compile(r"(?P<base>.+?)(?P<steps>(?:~\d*|\^1?)*)", re.DOTALL)
_HISTORY_HINT = "run 'tweakio profile history'"
# What a machine writes about itself, which undoing must not bring back.
_RUNTIME = frozenset({"lock_pid"})


class History:
    """Reads the history of a repository and adds to it.

    Args:
        repository: which one.
        locks: tells which profiles are in use.
    """

    def __init__(self, repository: Repository, locks: ProfileLockManager) -> None:
        self._repository = repository
        self._locks = locks

    # Reading

    def changes(self, profile_id: str | None = None) -> Iterator[Change]:
        """The commits, newest first.

        Args:
            profile_id: only those that touched this profile, existing or not.
        """
        head = self._repository.refs.head()
        if head == NO_COMMIT:
            return
        for commit in self._repository.reader.first_parents(head):
            change = self._describe(commit)
            if profile_id is None or profile_id in change.profiles:
                yield change

    def resolve(self, revision: str) -> str:
        """The commit that a revision names.

        Args:
            revision: a commit id or 4 or more of its first digits, ``HEAD`` or ``@``, a branch
                or a tag, each with ``~N`` or ``^`` behind it.

        Raises:
            RevisionNotFoundError: it names none, or more than one.
        """
        match = _REVISION.fullmatch(revision)
        error = RevisionNotFoundError(
            f"no revision {revision[:80]!r}", hint=_HISTORY_HINT, revision=revision
        )
        if match is None:
            raise error
        commit_id = self._resolve_base(match["base"])
        if commit_id is None:
            raise error
        for step in _STEPS.findall(match["steps"]):
            for _ in range(1 if step in ("~", "^", "^1") else int(step[1:])):
                parents = self._repository.reader.commit(commit_id).parents
                if not parents:
                    raise error
                commit_id = parents[0]
        return commit_id

    def _resolve_base(self, base: str) -> str | None:
        repository = self._repository
        if base in ("HEAD", "@"):
            head = repository.refs.head()
            return None if head == NO_COMMIT else head
        names = repository.refs.names()
        for prefix in ("refs/heads/", "refs/tags/", "refs/", ""):
            if (found := names.get(prefix + base)) is not None:
                return self._peel(found)
        if not _HEX.fullmatch(base):
            return None
        commits = [
            commit
            for name in repository.reader.resolve_prefix(base)
            if (commit := self._peel(name))
        ]
        if len(set(commits)) > 1:
            raise RevisionNotFoundError(
                f"revision {base!r} is ambiguous", hint="give more of its digits", revision=base
            )
        return commits[0] if commits else None

    def _peel(self, name: str) -> str | None:
        """The commit that an object is, or that an annotated tag points to."""
        kind, body = self._repository.reader.read_any(bytes.fromhex(name))
        if kind == b"tag" and body.startswith(b"object "):
            return self._peel(body[7:47].decode())
        return name if kind == b"commit" else None

    def change(self, revision: str) -> Change:
        """What the history says of one revision."""
        return self._describe(self._repository.reader.commit(self.resolve(revision)))

    def show(self, revision: str) -> tuple[Change, list[ProfileDiff]]:
        """One revision and what it did, in terms of profiles and fields."""
        commit = self._repository.reader.commit(self.resolve(revision))
        before = self._parent_root(commit)
        after = self._repository.reader.read(commit.tree, b"tree")
        return self._describe(commit), self.compare(before, after)

    def diff(self, profile_id: str, revision: str | None = None) -> ProfileDiff | None:
        """How a profile differs from what it was at a revision; None if it does not.

        Args:
            profile_id: which.
            revision: compared with the profile as HEAD has it; None compares HEAD with the
                work tree.

        Raises:
            ProfileNotFoundError: it exists on neither side.
        """
        repository = self._repository
        head = repository.head()
        after = self._fields(head.root, profile_id)
        if revision is None:
            found = repository.work_tree.examine(head, profile_id)
            if found is None:
                raise not_found_error(profile_id)
            if found.metadata is None:
                return ProfileDiff(profile_id, "invalid")
            return _compare_fields(profile_id, after, found.metadata)
        root = repository.root_of(self.resolve(revision))
        before = self._fields(root, profile_id)
        if before is None and after is None:
            raise not_found_error(profile_id)
        return _compare_fields(profile_id, before, after)

    def compare(self, before: bytes, after: bytes) -> list[ProfileDiff]:
        """The profiles that differ between two root trees."""
        found = []
        for profile_id in _changed_names(before, after):
            difference = _compare_fields(
                profile_id, self._fields(before, profile_id), self._fields(after, profile_id)
            )
            if difference is not None:
                found.append(difference)
        return found

    def _fields(self, root: bytes, profile_id: str) -> Mapping[str, Any] | Literal[False] | None:
        """A profile's metadata in a tree: None if it is not there, False if unreadable."""
        content = self._repository.file_at(root, profile_id, METADATA)
        if content is None:
            return None
        try:
            return schema.load(content, profile_id)
        except (InvalidMetadataError, NewerFormatError):
            return False

    def _describe(self, commit: Commit) -> Change:
        operation = commit.trailer("Tweakio-Op")
        if operation is not None:
            profiles = commit.trailers.get("Tweakio-Profile", ())
        else:
            operation = "commit"
            profiles = tuple(self._changed_by(commit))
        return Change(
            revision=commit.id,
            operation=operation,
            profiles=profiles,
            author=commit.author,
            time=commit.time,
            command=commit.trailer("Tweakio-Command") or "",
            summary=commit.summary,
        )

    def _parent_root(self, commit: Commit) -> bytes:
        return self._repository.root_of(commit.parents[0]) if commit.parents else b""

    # Undo and redo

    def undo(self, *, command: str = "") -> Change:
        """Take back the newest change that is not taken back yet, as a new commit.

        Profiles that it deleted or reset return with their browser data.

        Returns:
            The change that was undone.

        Raises:
            NothingToUndoError: there is none.
            ProfileActiveError: a live process uses a profile that would go.
        """
        with self._change("undo", self._touched_by_undo(), command) as change:
            target, effective = self._undo_target(change.head.commit)
            self._invert(change, effective, target)
            change.add_trailer("Tweakio-Undoes", target.id)
            change.record_always = True
            change.summary = f"undo: {target.summary}"
        return self._describe(target)

    def redo(self, *, command: str = "") -> Change:
        """Do again what the last undo took back, as a new commit.

        Returns:
            The change that was done again.

        Raises:
            NothingToRedoError: nothing was undone since the last change.
            ProfileActiveError: a live process uses a profile that would go.
        """
        with self._change("redo", self._touched_by_redo(), command) as change:
            target, undone = self._redo_target(change.head.commit)
            self._invert(change, undone, target)
            change.add_trailer("Tweakio-Redoes", target.id)
            change.record_always = True
            change.summary = f"redo: {target.summary}"
        return self._describe(target)

    def _change(
        self, operation: str, profile_ids: list[str], command: str
    ) -> AbstractContextManager[Transaction]:
        return changes.begin(self._repository, self._locks, operation, profile_ids, command=command)

    def _touched_by_undo(self) -> list[str]:
        return list(self._describe(self._undo_target(self._repository.refs.head())[1]).profiles)

    def _touched_by_redo(self) -> list[str]:
        return list(self._describe(self._redo_target(self._repository.refs.head())[1]).profiles)

    def _walk(self, head: str) -> Iterator[Commit]:
        if head != NO_COMMIT:
            yield from self._repository.reader.first_parents(head)

    def _undo_target(self, head: str) -> tuple[Commit, Commit]:
        """The change to undo, and the commit that last had its effect (it or a redo)."""
        undone: set[str] = set()
        redone: dict[str, Commit] = {}
        for commit in self._walk(head):
            operation = commit.trailer("Tweakio-Op")
            if operation == "redo" and (again := commit.trailer("Tweakio-Redoes")):
                redone.setdefault(again, commit)
            elif operation == "undo" and (taken := commit.trailer("Tweakio-Undoes")):
                if taken not in redone or taken in undone:
                    undone.add(taken)
            elif operation == "init" or not commit.parents:
                break
            elif len(commit.parents) > 1:
                raise NothingToUndoError(
                    f"the last change {commit.id[:12]} is a merge",
                    hint="use 'tweakio profile restore <id> --to <rev>'",
                )
            elif commit.id not in undone:
                return commit, redone.get(commit.id, commit)
        raise NothingToUndoError("there is nothing to undo", hint=_HISTORY_HINT)

    def _redo_target(self, head: str) -> tuple[Commit, Commit]:
        """The change to do again, and the commit that undid it."""
        redone: set[str] = set()
        for commit in self._walk(head):
            operation = commit.trailer("Tweakio-Op")
            if operation == "redo" and (again := commit.trailer("Tweakio-Redoes")):
                redone.add(again)
            elif operation == "undo" and (taken := commit.trailer("Tweakio-Undoes")):
                if taken not in redone:
                    return self._repository.reader.commit(taken), commit
                redone.discard(taken)
            else:
                break
        raise NothingToRedoError(
            "there is nothing to redo", hint="a redo is possible right after an undo"
        )

    def _changed_by(self, commit: Commit) -> list[str]:
        after = self._repository.reader.read(commit.tree, b"tree")
        return _changed_names(self._parent_root(commit), after)

    def _invert(self, change: Transaction, commit: Commit, target: Commit) -> None:
        """Put the opposite of one commit into a change.

        Args:
            change: where to.
            commit: the change that is taken back or done again, or the undo or redo that last
                had its effect.
            target: that change itself. What an undo wrote down besides, that a holder died,
                is not taken back.
        """
        repository = self._repository
        before = self._parent_root(commit)
        after = repository.reader.read(commit.tree, b"tree")
        kept = commit.trailers.get("Tweakio-Trash", ())
        resets = (
            {
                entry.profile_id: entry.name
                for entry in repository.trash.entries()
                if entry.kind == "reset" and entry.name in kept
            }
            if kept
            else {}
        )
        names = set(_changed_names(before, after))
        if commit.id != target.id:
            names.intersection_update(self._changed_by(target))
        for profile_id in names | resets.keys():
            old, new = (repository.files_at(root, profile_id) for root in (before, after))
            exists = change.exists(profile_id)
            if old is None:
                if exists:
                    self._locks.refuse_in_use(profile_id)
                    directories.take_away(change, repository, profile_id)
            elif new is None or not exists:
                if not exists:
                    self._bring_back(change, profile_id, old, kept)
            elif self._is_another(before, after, profile_id, kept):
                self._locks.refuse_in_use(profile_id)
                directories.take_away(change, repository, profile_id)
                self._bring_back(change, profile_id, old, kept)
            else:
                self._invert_files(change, profile_id, old, new)
            if profile_id in resets and exists:
                self._locks.refuse_in_use(profile_id, own=True)
                directories.reset(change, repository, profile_id, "custom", back=resets[profile_id])
                if not change.touches(profile_id):
                    change.put_metadata(profile_id, change.metadata(profile_id))

    def _is_another(
        self, before: bytes, after: bytes, profile_id: str, kept: tuple[str, ...]
    ) -> bool:
        """Whether a commit replaced a profile by another one of the same id, data and all."""
        was, became = (
            directories.identity_at(self._repository, root, profile_id) for root in (before, after)
        )
        return (
            None not in (was, became)
            and was != became
            and any(f"-{profile_id}-" in name for name in kept)
        )

    def _bring_back(
        self,
        change: Transaction,
        profile_id: str,
        blobs: Mapping[str, bytes],
        kept: tuple[str, ...],
    ) -> None:
        read = self._repository.reader.read
        files = {name: read(blob, b"blob") for name, blob in blobs.items()}
        try:
            metadata = schema.load(files.get(METADATA, b""), profile_id)
        except (InvalidMetadataError, NewerFormatError):
            pass
        else:
            files[METADATA] = schema.dump({**metadata, "lock_pid": None})
        directories.bring_back(change, self._repository, profile_id, files, kept)

    def _invert_files(
        self,
        change: Transaction,
        profile_id: str,
        old: Mapping[str, bytes],
        new: Mapping[str, bytes],
    ) -> None:
        read = self._repository.reader.read
        for name in {*old, *new} - {METADATA}:
            if old.get(name) != new.get(name):
                content = read(old[name], b"blob") if name in old else None
                change.put(profile_id, name, content)
        if old.get(METADATA) == new.get(METADATA) or METADATA not in old:
            return
        content = read(old[METADATA], b"blob")
        try:
            was = schema.load(content, profile_id)
            became = schema.load(read(new[METADATA], b"blob"), profile_id)
            now = change.metadata(profile_id)
        except InvalidMetadataError:
            # One side is a person's invalid commit: the file as a whole goes back.
            change.put(profile_id, METADATA, content)
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
        change.put_metadata(profile_id, now)

    # Restore

    def restore(self, profile_id: str, revision: str, *, command: str = "") -> dict[str, Any]:
        """Bring a profile to what it was at a revision, as a new commit.

        An existing profile gets its metadata and fingerprint of then; whether it is active
        stays as it is. One that does not exist any more returns with its browser data and
        inactive. If another profile has the id by now, that one goes into the trash.

        Returns:
            The metadata of the profile then.

        Raises:
            RevisionNotFoundError: no such revision, or the profile was not in it.
            ProfileActiveError: the profile that has the id now is in use.
        """
        repository = self._repository
        commit_id = self.resolve(revision)
        root = repository.root_of(commit_id)
        blobs = repository.files_at(root, profile_id)
        if blobs is None or METADATA not in blobs:
            raise RevisionNotFoundError(
                f"profile '{profile_id}' is not in revision {revision[:80]!r}",
                hint=f"run 'tweakio profile history {profile_id}'",
                profile_id=profile_id,
                revision=revision,
            )
        files = {name: repository.reader.read(blob, b"blob") for name, blob in blobs.items()}
        try:
            wanted = schema.load(files[METADATA], profile_id)
        except InvalidMetadataError as error:
            error.hint = f"give another revision: tweakio profile history {profile_id}"
            raise
        with self._change("restore", [profile_id], command) as change:
            change.summary = f"restore {profile_id} to {commit_id[:12]}"
            if change.exists(profile_id) and self._is_same(change, profile_id, wanted):
                wanted.update(self._runtime_state(change, profile_id))
                if wanted["status"] == "corrupted":
                    wanted["status"] = "inactive"
                for name, content in files.items():
                    change.put(profile_id, name, content)
                change.put_metadata(profile_id, wanted)
                return wanted
            if change.exists(profile_id):
                self._locks.refuse_in_use(profile_id)
                directories.take_away(change, repository, profile_id)
            else:
                self._check_case(change, profile_id)
            wanted = {**wanted, "lock_pid": None, "status": "inactive"}
            files[METADATA] = schema.dump(wanted)
            directories.bring_back(change, repository, profile_id, files)
        return wanted

    def _runtime_state(self, change: Transaction, profile_id: str) -> dict[str, Any]:
        """What a restore leaves as it is."""
        try:
            now = change.metadata(profile_id)
        except InvalidMetadataError:
            # A person's invalid commit, which says nothing about it.
            owner = self._locks.owner(profile_id)
            if owner is None:
                return {"status": "inactive", "lock_pid": None}
            return {"status": "active", "lock_pid": owner.pid}
        return {key: now.get(key) for key in ("status", "lock_pid", "last_used")}

    def _check_case(self, change: Transaction, profile_id: str) -> None:
        from tweakio.errors import ProfileExistsError
        from tweakio.validator import ProfileValidator

        other = ProfileValidator().find_case_collision(profile_id, change.profile_ids())
        if other is not None:
            raise ProfileExistsError(
                f"profile '{other}' differs from '{profile_id}' only by case",
                hint="delete that one first",
                profile_id=other,
            )

    def _is_same(self, change: Transaction, profile_id: str, wanted: Mapping[str, Any]) -> bool:
        """Whether the id is still that profile's, and not another one's by now."""
        try:
            return bool(change.metadata(profile_id)["created_at"] == wanted["created_at"])
        except InvalidMetadataError:
            return True


def _changed_names(before: bytes, after: bytes) -> list[str]:
    """The directories that differ between two root trees."""
    old = {entry.name: entry.id for entry in parse_tree(before) if entry.is_tree}
    new = {entry.name: entry.id for entry in parse_tree(after) if entry.is_tree}
    return sorted(
        name.decode("utf-8", "replace") for name in {*old, *new} if old.get(name) != new.get(name)
    )


def _compare_fields(
    profile_id: str,
    before: Mapping[str, Any] | Literal[False] | None,
    after: Mapping[str, Any] | Literal[False] | None,
) -> ProfileDiff | None:
    if before is None and after is None:
        return None
    if before is False or after is False:
        return ProfileDiff(profile_id, "invalid")
    kind: Literal["created", "deleted", "changed"] = (
        "created" if before is None else "deleted" if after is None else "changed"
    )
    old, new = before or {}, after or {}
    fields = tuple(
        FieldChange(key, old.get(key), new.get(key))
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key)
    )
    return ProfileDiff(profile_id, kind, fields) if fields or kind != "changed" else None
