"""How much of a history can be read."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tweakio.errors import (
    RepositoryDamagedError,
)
from tweakio.store.objects import parse_tree
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
        objects: the ids, 20 bytes each, of what could be read.
        problem: the first of them in words.
    """

    commits: int = 0
    missing: set[str] = field(default_factory=set)
    own: bool = False
    problem: str = ""
    objects: set[bytes] = field(default_factory=set)


def unreadable(repository: Repository, tree: bytes, seen: set[bytes]) -> tuple[set[str], str]:
    """Read everything below a tree: the objects that cannot be read, and the first error.

    Args:
        repository: where.
        tree: the root.
        seen: objects of which all can be read; those found here are added.
    """
    missing: set[str] = set()
    message = ""

    def read(name: bytes, kind: bytes) -> bytes | None:
        nonlocal message
        try:
            body = repository.reader.read(name, kind)
            if kind == b"tree":
                parse_tree(body)
        except RepositoryDamagedError as error:
            missing.add(name.hex())
            message = message or error.message
            return None
        return body

    # Without recursion, because somebody else's trees may be nested however deeply; a tree
    # stays in the list until what is below it was read.
    bad: set[bytes] = set()
    below: dict[bytes, list[bytes]] = {}
    todo = [tree]
    while todo:
        name = todo[-1]
        if name in seen or name in bad:
            todo.pop()
        elif name in below:
            todo.pop()
            (bad if bad.intersection(below.pop(name)) else seen).add(name)
        elif (body := read(name, b"tree")) is None:
            bad.add(name)
        else:
            entries = [entry for entry in parse_tree(body) if entry.mode != b"160000"]
            below[name] = [entry.id for entry in entries]
            for entry in entries:
                if entry.is_tree:
                    todo.append(entry.id)
                elif entry.id not in seen:
                    known = read(entry.id, b"blob") is not None
                    (seen if known else bad).add(entry.id)
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
        walk: what reading that history found, if it was read.
    """

    def __init__(self, repository: Repository, found: str, walk: Walk | None = None) -> None:
        self._repository = repository
        self._seen: set[bytes] = set()
        self._known = {NO_COMMIT: True}
        self._with_history = True
        if walk is not None and not walk.missing:
            self._seen = walk.objects
        if not self.is_whole(found):
            self._known = {NO_COMMIT: True}
            self._with_history = False

    def may_be_named(self, commit_id: str) -> bool:
        """Whether a ref may name it; no ref names no commit."""
        return commit_id != NO_COMMIT and self.is_whole(commit_id)

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
