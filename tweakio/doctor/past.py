"""The commits: whether history can be read, and where to go on from if it cannot."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from tweakio import durable
from tweakio.doctor.files import ObjectFiles
from tweakio.doctor.references import References
from tweakio.doctor.regenerate import Known
from tweakio.doctor.remains import Remains, is_kept
from tweakio.doctor.salvage import pack_files
from tweakio.doctor.skeleton import branch_of
from tweakio.doctor.tracking import Tracking
from tweakio.doctor.wholeness import Walk, is_whole_commit, shallow_commits, unreadable
from tweakio.errors import RepositoryDamagedError
from tweakio.store.journal import Journal
from tweakio.store.objects import ObjectWriter
from tweakio.store.refs import NO_COMMIT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tweakio.doctor.case import Case
    from tweakio.store.repository import Repository

__all__ = ["Past"]


class Past:
    """The history of one repository.

    Args:
        case: the examination that it is part of.
        repository: whose.
    """

    def __init__(self, case: Case, repository: Repository) -> None:
        self._case = case
        self._repository = repository
        self._files = ObjectFiles(case, repository)
        self._references = References(case, repository)
        self._remains = Remains(case, repository)

    def look(self) -> bool:
        """Make sure that the branch names a commit whose state can be read.

        Returns:
            Whether there is anything more to look at.
        """
        head, problem = self._head_of()
        walk = self.walk(head) if head is not None else Walk()
        if self._case.fix and (head is None or walk.missing or self._remains.chart().missing):
            walk = self._regenerate(head, walk)
        self._case.report.commits = walk.commits
        if self._case.fix and (head is None or walk.missing or self._remains.chart().missing):
            # Git would believe them although what they tell of is gone.
            self._files.drop_derived()
        if head is None or walk.own:
            problem = problem or walk.problem
            found = self._best_commit()
            if not self._case.fix:
                then = "cannot be read at all" if found is None else f"goes back to {found[:12]}"
                self._case.add("history-damaged", "damage", f"{problem}; what is left {then}")
                return False
            if found is None:
                raise RepositoryDamagedError(f"{problem}; no commit can be read")
            self._go_on(found, problem)
        self._references.look_at_head(self._repository.refs.head())
        self._look_at_the_rest(head, walk)
        return True

    def _look_at_the_rest(self, lost_head: str | None, walk: Walk) -> None:
        """Refs, reflogs and older history; HEAD itself is whole."""
        chart = self._remains.chart()
        gaps = chart.broken.keys() - {lost_head}
        problem = chart.problem
        if not self._case.fix:
            self._files.look_at_indexes(walk.objects)
            self._references.look(logs=not gaps)
            if gaps:
                self._case.add("old-history-damaged", "damage", problem)
        else:
            with self._repository.exclusive_unhealed():
                self._files.look_at_indexes(walk.objects)
                now = self._repository.refs.head()
                mended = self._references.mend(now, logs=not gaps)
                made = []
                if mended or chart.broken or lost_head is None:
                    made = self._remains.settle(search=lost_head is None)
            kept = f"; {', '.join(made)} lead to what is left of it" if made else ""
            if gaps:
                message = f"{problem}; history begins anew there{kept}"
                self._case.add("old-history-damaged", "damage", message, fixed=True)
            elif made:
                self._case.add("history-kept", "note", f"some history is on no branch{kept}")
        if cut := shallow_commits(self._case.layout.git_dir):
            kept = ", ".join(name for name in self._repository.refs.names() if is_kept(name))
            message = f"what came before {', '.join(name[:12] for name in sorted(cut))} is lost"
            self._case.add("history-cut", "note", message + (kept and f"; older: {kept}"))

    def _head_of(self) -> tuple[str | None, str]:
        try:
            head = self._repository.refs.head()
        except RepositoryDamagedError as error:
            return None, error.message
        if head == NO_COMMIT:
            return None, "the branch has no commit"
        return head, ""

    def walk(self, head: str) -> Walk:
        """Read the whole history of a commit."""
        walk = Walk()
        parents: tuple[str, ...]
        seen = walk.objects
        shallow = shallow_commits(self._case.layout.git_dir)
        todo, known = [head], {head}
        while todo:
            commit_id = todo.pop()
            try:
                commit = self._repository.reader.commit(commit_id)
            except RepositoryDamagedError as error:
                missing, message, parents = {commit_id}, error.message, ()
            else:
                missing, message, parents = (
                    *unreadable(self._repository, commit.tree, seen),
                    commit.parents,
                )
                walk.commits += not missing
                seen.add(bytes.fromhex(commit_id))
            if missing:
                walk.missing |= missing
                walk.own |= commit_id == head
                what = f"commit {commit_id[:12]} cannot be read whole: {message}"
                walk.problem = walk.problem or what
            if walk.commits % 64 == 0:
                self._case.progress(walk.commits)
            if commit_id not in shallow:
                todo += [parent for parent in parents if parent not in known]
                known.update(parents)
        return walk

    def _regenerate(self, head: str | None, walk: Walk) -> Walk:
        """Write missing objects again whose content is somewhere else.

        That may be a pack that lost its index, the work tree, the index or the trash.
        """
        with self._repository.exclusive_unhealed():
            for path in pack_files(self._case.layout.git_dir / "objects", orphans=True):
                self._files.mend_pack(path)
            self._repository.reader.close()
            lost = walk.missing | self._remains.chart().missing
            again = 0
            known = dict(Known(self._repository).objects)
            # With a tree its children become known to be missing.
            while lost:
                walk = self.walk(head) if head is not None else Walk()
                missing = walk.missing | self._remains.chart().missing
                again += len(lost - missing)
                # Once each: what a branch names may be there, and no commit.
                useful = missing & known.keys()
                if not useful:
                    break
                writer = ObjectWriter(
                    self._case.layout.git_dir / "objects", self._case.layout.temporary
                )
                for name in useful:
                    writer.add(*known.pop(name))
                writer.flush()
                self._repository.reader.close()
                lost = missing
        if again:
            message = f"{again} lost objects were found elsewhere and written again"
            self._case.add("objects-lost", "damage", message, fixed=True)
        return walk

    def _best_commit(self) -> str | None:
        """The commit to go on from: of those whose own state is whole, the one with the most
        history that can be read; the newest of several.

        The newest readable commit can stand above a gap, and what is below that is lost to
        it; the work tree has the newest state anyway.
        """
        best, most = None, -1
        for commit_id in self._whole_commits():
            walk = self.walk(commit_id)
            if walk.commits > most:
                best, most = commit_id, walk.commits
            if not walk.missing:
                break
        return best

    def _whole_commits(self) -> Iterator[str]:
        """The commits whose own state is whole, the newest first, by the branch and its reflogs."""
        refs = self._repository.refs
        candidates: list[str] = []
        journal = self._pending()
        if journal is not None:
            candidates.append(journal.new)
        with_head, _ = self._head_of()
        if with_head is not None:
            candidates.append(with_head)
        for name in ("HEAD", branch_of(self._case.layout.git_dir / "HEAD")):
            for old, new in refs.reflog(name):
                candidates += [new, old]
        known = dict.fromkeys(candidates)
        for commit_id in known:
            if commit_id != NO_COMMIT and is_whole_commit(self._repository, commit_id):
                yield commit_id
        # Nothing tells which the branch was on; other branches are as good as what none leads to.
        commits = [
            self._repository.reader.commit(commit_id)
            for commit_id in self._repository.reader.all_commits()
            if commit_id not in known and is_whole_commit(self._repository, commit_id)
        ]
        # Many have the same second; the newest of them is nobody's parent, and most likely ours.
        parents = {parent for commit in commits for parent in commit.parents}
        commits.sort(
            key=lambda commit: (
                commit.id not in parents,
                commit.trailer("Tweakio-Op") is not None,
                commit.time,
            )
        )
        yield from (commit.id for commit in reversed(commits))

    def _pending(self) -> Journal | None:
        """The journal of a change all of whose moves were made, so that it may have taken place."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            journal = Journal.parse(durable.read_regular(self._case.layout.journal, 1 << 28))
            home = self._case.layout.home
            if all(os.path.lexists(home / move.target) for move in journal.moves):
                return journal
        return None

    def _go_on(self, found: str, problem: str) -> None:
        """Make a readable commit the newest, and bring what the work tree has into history.

        All under one lock: another program would take the directories that the older commit
        does not know for unknown ones, and put them aside.
        """
        with self._repository.transaction_unreconciled(
            "rebuild", self._case.command, first=lambda: self._references.reset_to(found)
        ) as change:
            names = Tracking(self._case, self._repository, change).put()
            change.summary = f"go on from {found[:12]} with the state of the work tree"
        with self._repository.exclusive():
            self._repository.checkout.rebuild_index()
        branch = branch_of(self._case.layout.git_dir / "HEAD")
        taken = f"; {len(names)} profiles were taken from the work tree" if names else ""
        self._case.add(
            "history-damaged",
            "damage",
            f"{problem}; history goes on from {found[:12]} on {branch}{taken}",
            fixed=True,
        )
        self._case.report.commits = self.walk(self._repository.refs.head()).commits
