"""The commits: whether history can be read, and where to go on from if it cannot."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tweakio import durable
from tweakio.doctor.files import LARGEST, ObjectFiles
from tweakio.doctor.references import References
from tweakio.doctor.regenerate import Known
from tweakio.doctor.remains import Remains, counted, is_kept
from tweakio.doctor.salvage import pack_files
from tweakio.doctor.skeleton import branch_of
from tweakio.doctor.strict import content
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
        self._agreed = False

    def look(self) -> bool:
        """Make sure that the branch names a commit whose state can be read.

        Returns:
            Whether there is anything more to look at.
        """
        head, problem = self._head_of()
        walk = self.walk(head) if head is not None else Walk()
        if head is None or walk.missing or self._remains.chart().missing:
            walk = self._regenerate(head, walk) if self._case.fix else self._ask_git(head, walk)
        walk = self._heal(head, walk)
        if self._case.only_git:
            what = counted(len(self._case.only_git), "object")
            self._case.add("only-git", "note", f"{what} of history can be read by git only")
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
            loss = self._loss_behind(found)
            if loss and not self._case.agrees(loss):
                self._refuse("history-damaged", problem, loss)
                return False
            self._agreed = True
            self._go_on(found, f"{problem}; given up is {loss}" if loss else problem)
        self._references.look_at_head(self._repository.refs.head())
        self._look_at_the_rest(head, walk)
        return True

    def _loss_behind(self, found: str) -> str:
        """What is given up if history goes on from a commit; empty if nothing."""
        newer = []
        for commit_id in self._last_commits():
            if commit_id == found:
                break
            newer.append(commit_id)
        parts = []
        if newer:
            what = counted(len(newer), "commit")
            parts.append(f"history after {found[:12]}: {what}; the profiles stay as they are")
        if loss := self._remains.loss(self._remains.chart()):
            parts.append(loss)
        return "; ".join(parts)

    def _refuse(self, code: str, problem: str, loss: str) -> None:
        """Report a damage that was not repaired, because nobody agreed to what it costs."""
        self._case.add(
            code,
            "damage",
            f"{problem}; to go on without it would give up {loss}",
            hint="to agree to that, run 'tweakio repo doctor --fix --yes'",
        )

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
            loss = self._remains.loss(chart)
            # Asked without a lock: nobody can say how long an answer takes.
            cut = self._agreed or not loss or self._case.agrees(loss)
            # Finishes what was interrupted: its line in the reflogs may name what is lost.
            with self._repository.exclusive():
                pass
            with self._repository.exclusive_unhealed():
                self._files.look_at_indexes(walk.objects)
                now = self._repository.refs.head()
                mended = self._references.mend(now, logs=not gaps, cut=cut)
                made = []
                if cut and (mended or chart.broken or lost_head is None):
                    made = self._remains.settle(search=lost_head is None)
            kept = f"; {', '.join(made)} lead to what is left of it" if made else ""
            if not cut:
                self._refuse("old-history-damaged", problem or "a ref leads nowhere", loss)
            elif gaps:
                message = f"{problem}; history begins anew there; given up is {loss}{kept}"
                self._case.add("old-history-damaged", "damage", message, fixed=True)
            elif loss and not self._agreed:
                message = f"a ref leads nowhere; given up is {loss}{kept}"
                self._case.add("old-history-damaged", "damage", message, fixed=True)
            elif made:
                self._case.add("history-kept", "note", f"some history is on no branch{kept}")
        if cuts := shallow_commits(self._case.layout.git_dir):
            kept = ", ".join(name for name in self._repository.refs.names() if is_kept(name))
            message = f"what came before {', '.join(name[:12] for name in sorted(cuts))} is lost"
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
        walk = Walk(objects=set(self._case.only_git))
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

    def _heal(self, head: str | None, walk: Walk) -> Walk:
        """Bring back from other places what is lost, before anything is cut or given up."""
        if not self._case.fix or self._case.healer is None:
            return walk
        lost = walk.missing | self._remains.chart().missing
        if not lost and head is not None and not shallow_commits(self._case.layout.git_dir):
            return walk
        came, notes = self._case.healer(self._repository, lost)
        for line in notes:
            self._case.add("not-fetched", "note", line)
        if not came:
            return walk
        self._repository.reader.close()
        for line in came:
            self._case.add("history-fetched", "damage", line, fixed=True)
        return self.walk(head) if head is not None else walk

    def _regenerate(self, head: str | None, walk: Walk) -> Walk:
        """Write missing objects again that are somewhere else, or that git can read.

        Somewhere else is a pack that lost its index, the work tree, the index or the trash.
        """
        with self._repository.exclusive_unhealed():
            for path in pack_files(self._case.layout.git_dir / "objects", orphans=True):
                self._files.mend_pack(path)
            self._repository.reader.close()
            lost = walk.missing | self._remains.chart().missing
            again = 0
            known = dict(Known(self._repository).objects)
            asked: set[str] = set()
            # With a tree its children become known to be missing.
            while lost:
                walk = self.walk(head) if head is not None else Walk()
                missing = walk.missing | self._remains.chart().missing
                again += len(lost - missing)
                # Once each: what a branch names may be there, and no commit.
                useful = {name: known.pop(name) for name in missing & known.keys()}
                useful |= self._read_by_git(missing - useful.keys() - asked)
                asked |= missing
                if not useful:
                    break
                writer = ObjectWriter(
                    self._case.layout.git_dir / "objects", self._case.layout.temporary
                )
                for kind, body in useful.values():
                    writer.add(kind, body)
                writer.flush()
                self._repository.reader.close()
                lost = missing
        if again:
            message = f"{again} lost objects were found elsewhere and written again"
            self._case.add("objects-lost", "damage", message, fixed=True)
        return walk

    def _ask_git(self, head: str | None, walk: Walk) -> Walk:
        """Look again without what git can read, which is not lost."""
        missing = self._unread(walk.missing | self._remains.chart().missing)
        if self._case.witness is None or not missing:
            return walk
        found = self._case.witness.read(missing, 0)
        self._case.only_git.update(bytes.fromhex(item.name) for item in found)
        return self.walk(head) if head is not None and self._case.only_git else walk

    def _read_by_git(self, names: set[str]) -> dict[str, tuple[bytes, bytes]]:
        """What git can read of what we cannot, small enough to be written again."""
        found = {}
        unread = self._unread(names)
        if self._case.witness is not None and unread:
            for item in self._case.witness.read(unread, LARGEST):
                if item.body is None:
                    # Not lost, whatever becomes of it: nothing is cut for it.
                    self._case.only_git.add(bytes.fromhex(item.name))
                else:
                    found[item.name] = (item.kind, item.body)
        return found

    def _unread(self, names: set[str]) -> list[str]:
        """Those that we cannot read; the others are there, and not what they should be."""
        read_any = self._repository.reader.read_any
        return sorted(name for name in names if not read_any(bytes.fromhex(name))[0])

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

    def _last_commits(self) -> list[str]:
        """The commits that the branch was at, the newest first, by itself and its reflogs."""
        found: list[str] = []
        head, _ = self._head_of()
        if head is not None:
            found.append(head)
        for name in ("HEAD", branch_of(self._case.layout.git_dir / "HEAD")):
            for old, new in self._repository.refs.reflog(name):
                found += [new, old]
        return [name for name in dict.fromkeys(found) if name != NO_COMMIT]

    def _whole_commits(self) -> Iterator[str]:
        """The commits whose own state is whole, the newest first, by the branch and its reflogs."""
        journal = self._pending()
        candidates = [] if journal is None else [journal.new]
        known = dict.fromkeys([*candidates, *self._last_commits()])
        for commit_id in known:
            if commit_id != NO_COMMIT and is_whole_commit(
                self._repository, commit_id, set(self._case.only_git)
            ):
                yield commit_id
        # Nothing tells which the branch was on; other branches are as good as what none leads to.
        commits = [
            self._repository.reader.commit(commit_id)
            for commit_id in self._repository.reader.all_commits()
            if commit_id not in known
            and is_whole_commit(self._repository, commit_id, set(self._case.only_git))
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
        data = content(self._case.layout.journal, 1 << 28) or b""
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
            journal = Journal.parse(data)
            home = self._case.layout.home
            if all(durable.is_there(home / move.target) for move in journal.moves):
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
