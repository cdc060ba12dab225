"""History: who changed what and when."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

from tweakio import schema
from tweakio.errors import (
    InvalidMetadataError,
    NewerFormatError,
    RevisionNotFoundError,
)
from tweakio.metadata import not_found_error
from tweakio.models import Change, FieldChange, ProfileDiff
from tweakio.store.objects import Commit, parse_tree
from tweakio.store.refs import NO_COMMIT
from tweakio.store.worktree import METADATA

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tweakio.store.repository import Repository

__all__ = ["HISTORY_HINT", "History", "changed_names"]

_HEX = re.compile(r"[0-9a-f]{4,40}")
_STEPS = re.compile(r"~[0-9]*|\^1?")
# As in git no name has one of the characters that steps begin with.
_REVISION = re.compile(r"(?P<base>[^~^]+)(?P<steps>(?:~[0-9]*|\^1?)*)", re.DOTALL)
_MOST_CHARACTERS = 1024
_MOST_TAGS = 16  # that point to tags
HISTORY_HINT = "run 'tweakio profile history'"


class History:
    """Reads the history of a repository.

    Args:
        repository: which one.
    """

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    def changes(self, profile_id: str | None = None) -> Iterator[Change]:
        """The commits, newest first.

        Args:
            profile_id: only those that touched this profile, existing or not.
        """
        for commit in self.commits(self._repository.refs.head()):
            if profile_id is None or self._may_touch(commit, profile_id):
                change = self.describe(commit)
                if profile_id is None or profile_id in change.profiles:
                    yield change

    @staticmethod
    def _may_touch(commit: Commit, profile_id: str) -> bool:
        """Whether to look closer; a commit by hand does not say what it touched."""
        return commit.has("Tweakio-Profile", profile_id) or not commit.has("Tweakio-Op")

    def commits(self, head: str) -> Iterator[Commit]:
        """A commit and those before it, along the first parents; none of ``NO_COMMIT``."""
        if head != NO_COMMIT:
            yield from self._repository.reader.first_parents(head)

    def resolve(self, revision: str) -> str:
        """The commit that a revision names.

        Args:
            revision: a commit id or 4 or more of its first digits, ``HEAD`` or ``@``, a branch
                or a tag, each with ``~N`` or ``^`` behind it.

        Raises:
            RevisionNotFoundError: it names none, or more than one.
        """
        match = _REVISION.fullmatch(revision) if len(revision) <= _MOST_CHARACTERS else None
        error = RevisionNotFoundError(
            f"no revision {revision[:80]!r}", hint=HISTORY_HINT, revision=revision
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
        for _ in range(_MOST_TAGS):
            kind, body = self._repository.reader.read_any(bytes.fromhex(name))
            if kind != b"tag" or not (match := re.match(rb"object ([0-9a-f]{40})\n", body)):
                return name if kind == b"commit" else None
            name = match[1].decode()
        return None

    def show(self, revision: str) -> tuple[Change, list[ProfileDiff]]:
        """One revision and what it did, in terms of profiles and fields."""
        commit = self._repository.reader.commit(self.resolve(revision))
        return self.describe(commit), self.compare(*self.roots(commit))

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
        for profile_id in changed_names(before, after):
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

    def describe(self, commit: Commit) -> Change:
        """What the history says of a commit."""
        operation = commit.trailer("Tweakio-Op")
        if operation is not None:
            profiles = commit.trailers.get("Tweakio-Profile", ())
        else:
            operation = "commit"
            profiles = tuple(changed_names(*self.roots(commit)))
        return Change(
            revision=commit.id,
            operation=operation,
            profiles=profiles,
            author=commit.author,
            time=commit.time,
            command=commit.trailer("Tweakio-Command") or "",
            summary=commit.summary,
        )

    def roots(self, commit: Commit) -> tuple[bytes, bytes]:
        """The root trees before and after a commit."""
        before = self._repository.root_of(commit.parents[0]) if commit.parents else b""
        return before, self._repository.reader.read(commit.tree, b"tree")


def changed_names(before: bytes, after: bytes) -> list[str]:
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
