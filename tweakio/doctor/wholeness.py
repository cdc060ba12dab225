"""How much of a history can be read."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tweakio.doctor.strict import content
from tweakio.errors import RepositoryDamagedError
from tweakio.store.objects import parse_tree
from tweakio.store.refs import NO_COMMIT

if TYPE_CHECKING:
    from pathlib import Path

    from tweakio.store.repository import Repository


__all__ = [
    "Walk",
    "Wholeness",
    "is_whole_commit",
    "peel",
    "shallow_commits",
    "target",
    "unreadable",
]

_ID = re.compile(rb"[0-9a-f]{40}")
_TAG = re.compile(rb"object [0-9a-f]{40}\n")
# Of tags that are on one another.
_MOST_TAGS = 9


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


def is_whole_commit(repository: Repository, commit_id: str, seen: set[bytes]) -> bool:
    """Whether a commit's own state can be read."""
    try:
        commit = repository.reader.commit(commit_id)
    except RepositoryDamagedError:
        return False
    return not unreadable(repository, commit.tree, seen)[0]


def target(repository: Repository, name: str) -> tuple[bytes, str] | None:
    """Kind and id of a ref's object or, of a tag, of what it is on; None for an endless tag.

    The kind is empty if it cannot be read at all.
    """
    for _ in range(_MOST_TAGS):
        kind, body = repository.reader.read_any(bytes.fromhex(name))
        if kind != b"tag" or not _TAG.match(body):
            return kind, name
        name = body[7:47].decode()
    return None


def peel(repository: Repository, name: str) -> str | None:
    """The commit that a ref's object is or, as a tag, stands for; None if it is none."""
    found = target(repository, name)
    return found[1] if found is not None and found[0] == b"commit" else None


def shallow_commits(git_dir: Path) -> set[str]:
    """The commits whose parents git does not look for."""
    data = content(git_dir / "shallow", 1 << 28) or b""
    return {line.decode() for line in data.split(b"\n") if _ID.fullmatch(line)}


class Wholeness:
    """Which objects may be named by refs and reflogs: those that can be read whole.

    Args:
        repository: where.
        known: what need not be read.
    """

    def __init__(self, repository: Repository, known: set[bytes]) -> None:
        self._repository = repository
        self._seen = set(known)
        self._known = {NO_COMMIT: True}

    def is_whole(self, name: str) -> bool:
        """Whether it may be named; an annotated tag stands for what it is on."""
        if name not in self._known:
            self._known[name] = self._look(name)
        return self._known[name]

    def _look(self, name: str) -> bool:
        read = self._repository.reader.read_any
        kind, body = read(bytes.fromhex(name))
        for _ in range(_MOST_TAGS):
            if kind != b"tag":
                break
            if not _TAG.match(body):
                return False
            name = body[7:47].decode()
            kind, body = read(bytes.fromhex(name))
        if kind == b"tree":
            return not unreadable(self._repository, bytes.fromhex(name), self._seen)[0]
        if kind == b"blob":
            return True
        return kind == b"commit" and is_whole_commit(self._repository, name, self._seen)

    def is_lost(self, name: str) -> bool:
        """Whether it, or something that belongs to it, cannot be read."""
        found = target(self._repository, name)
        return found is not None and (not found[0] or not self.is_whole(name))

    def is_whole_commit(self, name: str) -> bool:
        """Whether it may be what a branch or a reflog names."""
        if name == NO_COMMIT:
            return True
        return self._repository.reader.read_any(bytes.fromhex(name))[0] == b"commit" and (
            self.is_whole(name)
        )
