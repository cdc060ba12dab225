"""How much of a history can be read."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tweakio.errors import (
    RepositoryDamagedError,
)
from tweakio.store.refs import (
    NO_COMMIT,
)

if TYPE_CHECKING:
    from tweakio.store.repository import Repository


__all__ = ["Walk", "Wholeness", "is_whole_commit", "unreadable"]

_TAG = re.compile(rb"object [0-9a-f]{40}\n")


@dataclass
class Walk:
    """What reading a whole history found.

    Attributes:
        commits: how many could be read whole.
        missing: the hexadecimal ids of the objects that could not be read.
        own: whether one of them is of the newest commit's own state.
        problem: the first of them in words.
    """

    commits: int = 0
    missing: set[str] = field(default_factory=set)
    own: bool = False
    problem: str = ""


def unreadable(repository: Repository, tree: bytes, seen: set[bytes]) -> tuple[set[str], str]:
    """Read everything below a tree: the objects that cannot be read, and the last error."""
    if tree in seen:
        return set(), ""
    missing: set[str] = set()
    message = ""
    try:
        entries = repository.reader.tree(tree)
    except RepositoryDamagedError as error:
        return {tree.hex()}, error.message
    for entry in entries:
        if entry.is_tree:
            below, reason = unreadable(repository, entry.id, seen)
            missing |= below
            message = message or reason
        elif entry.mode != b"160000" and entry.id not in seen:
            try:
                repository.reader.read(entry.id, b"blob")
                seen.add(entry.id)
            except RepositoryDamagedError as error:
                missing.add(entry.id.hex())
                message = message or error.message
    if not missing:
        seen.add(tree)
    return missing, message


def is_whole_commit(repository: Repository, commit_id: str, seen: set[bytes] | None = None) -> bool:
    """Whether a commit's own state can be read."""
    try:
        commit = repository.reader.commit(commit_id)
    except RepositoryDamagedError:
        return False
    return not unreadable(repository, commit.tree, set() if seen is None else seen)[0]


class Wholeness:
    """Which commits may be named by reflogs and refs: those with a history that can be read.

    Args:
        repository: where.
        found: the commit that history goes on from. If its own history cannot be read
            whole, then no more is asked of the others than their own state.
    """

    def __init__(self, repository: Repository, found: str) -> None:
        self._repository = repository
        self._seen: set[bytes] = set()
        self._known = {NO_COMMIT: True}
        self._with_history = True
        if not self.is_whole(found):
            self._known = {NO_COMMIT: True}
            self._with_history = False

    def is_whole(self, commit_id: str) -> bool:
        """Whether it may be named; an annotated tag stands for its commit."""
        for _ in range(9):
            kind, body = self._repository.reader.read_any(bytes.fromhex(commit_id))
            if kind != b"tag" or not _TAG.match(body):
                break
            commit_id = body[7:47].decode()
        todo = [commit_id]
        while todo:
            current = todo[-1]
            if current in self._known:
                todo.pop()
                continue
            if not is_whole_commit(self._repository, current, self._seen):
                self._known[current] = False
                continue
            parents = self._repository.reader.commit(current).parents
            unknown = [parent for parent in parents if parent not in self._known]
            if self._with_history and unknown:
                todo += unknown
                continue
            self._known[current] = not self._with_history or all(
                self._known[parent] for parent in parents
            )
        return self._known[commit_id]
