"""What is left of history as a whole, and how git can live with what is not.

Where a commit stands on one that cannot be read, git is told that history begins with it
(``.git/shallow``, as in a clone of limited depth); what lies below the lost commit gets a ref
of its own. So everything that can be read is found by a name, git finds nothing wrong, and its
``gc`` neither fails nor removes it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tweakio import durable
from tweakio.doctor.skeleton import branch_of
from tweakio.doctor.strict import content, files_below
from tweakio.doctor.wholeness import peel, shallow_commits, target, unreadable
from tweakio.errors import RepositoryDamagedError
from tweakio.store.refs import NO_COMMIT

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tweakio.doctor.case import Case
    from tweakio.store.repository import Repository

__all__ = ["Chart", "Remains", "counted", "is_kept", "logged_commits"]

_KEPT = "refs/tweakio/kept/"
_IDS = re.compile(rb"([0-9a-f]{40}) ([0-9a-f]{40}) ")


def logged_commits(git_dir: Path) -> set[str]:
    """The ids that the lines of all reflogs name.

    Raises:
        OSError: one of them cannot be read now.
    """
    found: set[str] = set()
    for name in files_below(git_dir / "logs"):
        for line in (content(git_dir / "logs" / name, 1 << 30) or b"").split(b"\n"):
            if match := _IDS.match(line):
                found.update((match[1].decode(), match[2].decode()))
    return found - {NO_COMMIT}


def is_kept(ref: str) -> bool:
    """Whether a ref is one that the doctor made."""
    return ref.startswith(_KEPT)


def counted(number: int, noun: str) -> str:
    """The number and the noun, which takes an s for every number but 1."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@dataclass
class Chart:
    """The commits that can be reached from some tips.

    Attributes:
        whole: those whose own state can be read, with their parents.
        broken: the others, with the parents that are known.
        missing: the hexadecimal ids of the objects that could not be read.
        problem: the first of them in words.
    """

    whole: dict[str, tuple[str, ...]] = field(default_factory=dict)
    broken: dict[str, tuple[str, ...]] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    problem: str = ""

    def cuts(self) -> set[str]:
        """The commits whose parents git must not look for."""
        return {
            commit
            for commit, parents in self.whole.items()
            if any(parent not in self.whole for parent in parents)
        }

    def reach(self, tips: Iterable[str]) -> set[str]:
        """The whole commits that git reaches from these."""
        cuts = self.cuts()
        todo = [tip for tip in tips if tip in self.whole]
        found = set(todo)
        while todo:
            commit = todo.pop()
            if commit not in cuts:
                new = [parent for parent in self.whole[commit] if parent not in found]
                found.update(new)
                todo += new
        return found


class Remains:
    """All that refs and reflogs name, noted before any of them is mended.

    Args:
        case: the examination that it is part of.
        repository: whose.
    """

    def __init__(self, case: Case, repository: Repository) -> None:
        self._case = case
        self._repository = repository
        self._refs = repository.refs.names()
        self._named = set(self._refs.values())
        self._logged = logged_commits(case.layout.git_dir)

    def chart(self) -> Chart:
        """Look at all of it, but for what names nothing at all: that is its own damage."""
        chart = Chart()
        self._draw(chart, self._commits(self._named | self._logged))
        return chart

    def _commits(self, names: Iterable[str]) -> set[str]:
        found = {peel(self._repository, name) for name in names}
        return {name for name in found if name is not None}

    def _draw(self, chart: Chart, tips: Iterable[str]) -> None:
        reader = self._repository.reader
        shallow = shallow_commits(self._case.layout.git_dir)
        seen = set(self._case.only_git)
        todo = [tip for tip in tips if tip not in chart.whole and tip not in chart.broken]
        known = {*todo, *chart.whole, *chart.broken}
        while todo:
            name = todo.pop()
            parents: tuple[str, ...] = ()
            try:
                commit = reader.commit(name)
            except RepositoryDamagedError as error:
                missing, message = {name}, error.message
            else:
                parents = () if name in shallow else commit.parents
                missing, message = unreadable(self._repository, commit.tree, seen)
            (chart.broken if missing else chart.whole)[name] = parents
            chart.missing |= missing
            if missing and not chart.problem:
                chart.problem = f"commit {name[:12]} cannot be read whole: {message}"
            new = [parent for parent in parents if parent not in known]
            known.update(new)
            todo += new

    def loss(self, chart: Chart) -> str:
        """What would be given up by going on without what cannot be read; empty if nothing.

        Args:
            chart: as it was just made; what no name leads to is added to it.
        """
        branch = branch_of(self._case.layout.git_dir / "HEAD")  # its end is a matter of its own
        lost = [
            ref
            for ref, name in sorted(self._refs.items())
            if ref != branch
            and (self._is_absent(name) or peel(self._repository, name) in chart.broken)
        ]
        if not (lost or chart.broken):
            return ""
        self._search(chart)
        cuts = sorted(chart.cuts())
        parts = []
        if cuts:
            left = len(chart.whole.keys() - chart.reach(self._commits(self._named)))
            gone = counted(len(chart.broken) + left, "commit")
            stay = f", of which {left} can be reached by {_KEPT}" if left else ""
            parts.append(f"history before {', '.join(c[:12] for c in cuts)}: {gone}{stay}")
        elif chart.broken:
            parts.append(counted(len(chart.broken), "commit"))
        if lost:
            parts.append(f"what {', '.join(lost)} names")
        return "; ".join(parts)

    def _is_absent(self, name: str) -> bool:
        """Whether what a ref names, or what its tag is on, cannot be read at all."""
        final = target(self._repository, name)
        return final is not None and not final[0]

    def _search(self, chart: Chart) -> None:
        """Add what stood below a lost commit, which is found in the object store only."""
        named = self._commits(self._named | self._logged)
        if len(named) < len(self._named | self._logged) or not all(chart.broken.values()):
            self._draw(chart, self._whole_commits(chart))

    def settle(self, *, search: bool = False) -> list[str]:
        """Cut history where something is lost, and name what no ref leads to any more.

        The refs and reflogs name whole commits only, already.

        Args:
            search: there were refs that nothing is known of.

        Returns:
            The refs that were made.
        """
        chart = self.chart()
        if search:
            self._draw(chart, self._whole_commits(chart))
        else:
            self._search(chart)
        refs = self._repository.refs
        git_dir = self._case.layout.git_dir
        present = self._commits(refs.names().values())
        self._draw(chart, present)
        covered = chart.reach(present)
        left = chart.whole.keys() - covered
        cuts = chart.cuts()
        below = {parent for name in left if name not in cuts for parent in chart.whole[name]}
        made = []
        # First the refs: were it cut before, a gc could remove what is below.
        for name in sorted(left - below):
            ref = f"{_KEPT}{name[:12]}"
            durable.make_directory((git_dir / ref).parent, parents=True)
            refs.publish(ref, name)
            made.append(ref)
        if cuts:
            lines = sorted(cuts | shallow_commits(git_dir))
            content = "".join(f"{name}\n" for name in lines).encode()
            durable.replace(git_dir / "shallow", content, self._case.layout.temporary / "shallow")
        return made

    def _whole_commits(self, chart: Chart) -> list[str]:
        seen = set(self._case.only_git)
        reader = self._repository.reader
        return [
            name
            for name in reader.all_commits()
            if name not in chart.broken
            and not unreadable(self._repository, reader.commit(name).tree, seen)[0]
        ]
