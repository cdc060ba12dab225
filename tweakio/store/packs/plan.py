"""What is to be packed, and in which order."""

from __future__ import annotations

import heapq
import re
from dataclasses import dataclass, field

from tweakio.store.packs.format import BLOB, COMMIT, TAG, TREE

__all__ = ["OBJECT_LIMIT", "CommitHead", "Found", "Plan", "parse_commit", "plan"]

# Held in memory whole; tweakio itself writes nothing that is near it.
OBJECT_LIMIT = 64 << 20
# Below this a tree that is no root is not worth the search for a base.
_TREE_DELTA = 1024


@dataclass(frozen=True)
class CommitHead:
    """What the order needs of a commit."""

    tree: str
    parents: tuple[str, ...]
    when: int


@dataclass(frozen=True)
class Found:
    """An object that was found somewhere; only its head was looked at."""

    name: str
    path: str
    kind: int
    size: int
    commit: CommitHead | None

    def load(self) -> bytes | None:
        """The content, or None if it is damaged, unreadable or gone."""
        raise NotImplementedError


def parse_commit(content: bytes) -> CommitHead:
    """Only for the order in the pack, so whatever is odd just sorts last."""
    tree = ""
    parents = []
    when = 0
    for line in content.partition(b"\n\n")[0].split(b"\n"):
        key, _, value = line.partition(b" ")
        text = value.decode("ascii", "replace")
        if key == b"tree":
            tree = text
        elif key == b"parent":
            parents.append(text)
        elif key == b"committer":
            stamp = text.rpartition("> ")[2].split(" ")[0]
            if re.fullmatch(r"[0-9]{1,18}", stamp):
                when = int(stamp)
            break
    return CommitHead(tree, tuple(parents), when)


def _newest_first(commits: list[Found]) -> list[Found]:
    """Children before parents, else by date.

    Dates alone are not enough: they count seconds, and a second holds dozens of commits.
    """
    by_name = {found.name: found for found in commits}
    children = dict.fromkeys(by_name, 0)
    for found in commits:
        for parent in _parents(found):
            if parent in children:
                children[parent] += 1
    heap = [(-_when(found), found.name) for found in commits if not children[found.name]]
    heapq.heapify(heap)
    ordered = []
    while heap:
        found = by_name[heapq.heappop(heap)[1]]
        ordered.append(found)
        for parent in _parents(found):
            if parent in children:
                children[parent] -= 1
                if not children[parent]:
                    heapq.heappush(heap, (-_when(by_name[parent]), parent))
    return ordered


def _parents(found: Found) -> tuple[str, ...]:
    return found.commit.parents if found.commit else ()


def _when(found: Found) -> int:
    return found.commit.when if found.commit else 0


@dataclass
class Plan:
    """What to write, in order; each chain is one run of deltas."""

    whole: list[Found] = field(default_factory=list)
    chains: list[list[Found]] = field(default_factory=list)
    rest: list[Found] = field(default_factory=list)


def plan(fresh: list[Found]) -> Plan:
    """The order: commits first, then root trees as history has them, then the rest."""
    commits = _newest_first([found for found in fresh if found.kind == COMMIT])
    tags = [found for found in fresh if found.kind == TAG]
    trees = {found.name: found for found in fresh if found.kind == TREE}
    roots = []
    for found in commits:
        # pop: a revert brings an old tree back, which is one object all the same.
        tree = trees.pop(found.commit.tree, None) if found.commit else None
        if tree is not None:
            roots.append(tree)
    others = [found for found in trees.values() if found.size > _TREE_DELTA]
    small = [found for found in trees.values() if found.size <= _TREE_DELTA]
    # Without a history to go by, trees of about the same size are the likeliest relatives.
    others.sort(key=lambda found: (-found.size, found.name))
    blobs = [found for found in fresh if found.kind == BLOB]
    return Plan(commits + tags, [roots, others], small + blobs)
