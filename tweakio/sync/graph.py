"""Where two histories part."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from tweakio.errors import RepositoryDamagedError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from tweakio.store.objects import Commit

__all__ = ["Graph"]


class Graph:
    """The commits of a repository by their parents.

    Whole sets of ancestors are compared, and no commit's date is believed: with dates, a machine
    whose clock is wrong would bring a later state in for an earlier one, and lose what came
    between.

    Args:
        read: gives a commit by its hexadecimal id.
        cut: commits whose parents are not kept (``.git/shallow``).
        known: the parents of commits that were read before, with the same cut; more are added.
    """

    def __init__(
        self,
        read: Callable[[str], Commit],
        cut: Collection[str] = (),
        known: dict[str, tuple[str, ...]] | None = None,
    ) -> None:
        self._read = read
        self._cut = frozenset(cut)
        self._parents = {} if known is None else known

    def parents(self, commit: str) -> tuple[str, ...]:
        """The parents of a commit; none where history was cut."""
        known = self._parents.get(commit)
        if known is None:
            known = self._parents[commit] = self._read_parents(commit)
        return known

    def _read_parents(self, commit: str) -> tuple[str, ...]:
        if commit not in self._cut:
            return self._read(commit).parents
        try:
            return self._read(commit).parents if self._all_there(commit) else ()
        except RepositoryDamagedError:
            return ()

    def _all_there(self, commit: str) -> bool:
        for parent in self._read(commit).parents:
            self._read(parent)
        return True

    def ancestors(self, *commits: str) -> set[str]:
        """Commits and all that is before them."""
        found: set[str] = set()
        todo = list(commits)
        while todo:
            commit = todo.pop()
            if commit not in found:
                found.add(commit)
                todo += self.parents(commit)
        return found

    def is_ancestor(self, older: str, newer: str) -> bool:
        """Whether a commit is another one or before it."""
        seen: set[str] = set()
        todo = deque([newer])
        while todo:
            # The nearest first: mostly it is one of these.
            commit = todo.popleft()
            if commit == older:
                return True
            if commit not in seen:
                seen.add(commit)
                todo += self.parents(commit)
        return False

    def bases(self, one: str, other: str) -> list[str]:
        """The latest commits that are before both; none if the histories have nothing in common."""
        mine = self.ancestors(one)
        found: set[str] = set()
        seen: set[str] = set()
        todo = [other]
        while todo:
            commit = todo.pop()
            if commit in seen:
                continue
            seen.add(commit)
            if commit in mine:
                found.add(commit)
            else:
                todo += self.parents(commit)
        if len(found) < 2:
            return sorted(found)
        above = {commit: self.ancestors(*self.parents(commit)) for commit in found}
        return sorted(
            commit
            for commit in found
            if not any(commit in above[later] for later in found if later != commit)
        )

    def between(self, older: Collection[str], newer: str, most: int) -> list[str]:
        """Commits of one history that are not before others, the nearest first.

        Args:
            older: whose histories do not count.
            newer: where to begin.
            most: how many at most.
        """
        before = self.ancestors(*older)
        found: list[str] = []
        seen: set[str] = set()
        todo = deque([newer])
        while todo and len(found) < most:
            commit = todo.popleft()
            if commit in seen or commit in before:
                continue
            seen.add(commit)
            found.append(commit)
            todo += self.parents(commit)
        return found
