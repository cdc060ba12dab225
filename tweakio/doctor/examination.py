"""The examination itself, from the git directory to the profiles."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

from tweakio import durable, seen, trust
from tweakio.doctor.encrypted import look_at_encrypted
from tweakio.doctor.files import ObjectFiles
from tweakio.doctor.leftovers import look_at_leftovers
from tweakio.doctor.local import look_at_hooks, look_at_locks, look_elsewhere
from tweakio.doctor.ownership import look_at_owners
from tweakio.doctor.past import Past
from tweakio.doctor.rebuild import rebuild, take_over_attics
from tweakio.doctor.rules import look_at_rules
from tweakio.doctor.skeleton import Skeleton, looks_gutted
from tweakio.errors import (
    ForeignRepositoryError,
    RepositoryBusyError,
    RepositoryDamagedError,
    run,
)
from tweakio.layout import not_a_home
from tweakio.models import parse_time
from tweakio.store import initialise
from tweakio.store.objects import TREE_MODE, parse_tree
from tweakio.store.refs import NO_COMMIT
from tweakio.store.repository import Repository
from tweakio.store.underway import under_way
from tweakio.validation import objection_to_names, ours

if TYPE_CHECKING:
    from tweakio.doctor.case import Case
    from tweakio.doctor.report import Report, Severity

__all__ = ["Examination"]

_IndexState = Literal["sound", "outdated", "conflict", "damaged"]


class Examination:
    """Goes from the outside in; what cannot be mended in its place is rebuilt.

    Args:
        case: what to examine, and whether to mend it.
    """

    def __init__(self, case: Case) -> None:
        self._case = case

    def run(self) -> Report:
        """Look at everything."""
        layout = self._case.layout
        if not durable.is_directory(layout.home):
            raise not_a_home(layout.home, "give another --home")
        if not durable.is_there(layout.git_dir):
            self._without_git_dir()
        else:
            try:
                initialise.refuse_foreign(layout)
            except ForeignRepositoryError:
                if not initialise.profile_like_directories(layout) or not looks_gutted(layout):
                    raise
                self._rebuild("the git directory has lost what makes it one")
            else:
                self._git_dir()
        return self._case.report

    def _without_git_dir(self) -> None:
        initialise.refuse_foreign_places(self._case.layout)
        names = initialise.profile_like_directories(self._case.layout)
        if not names:
            self._case.add("no-repository", "note", "there is no repository yet; 'create' makes it")
            return
        self._rebuild(f".git is gone; {len(names)} profile directories are there")

    def _git_dir(self) -> None:
        skeleton = Skeleton(self._case)
        broken = skeleton.problem()
        if broken:
            if not self._case.fix:
                self._case.add("git-dir-damaged", "damage", f"git directory: {broken}")
                return
            skeleton.mend()
            self._case.add("git-dir-damaged", "damage", f"git directory: {broken}", fixed=True)
        if self._case.fix:
            skeleton.complete()
        repository = Repository(self._case.layout)
        try:
            look_at_locks(self._case, repository)
            files = ObjectFiles(self._case, repository)
            if self._case.fix:
                with repository.exclusive_unhealed():
                    files.look()
            else:
                files.look()
            if not Past(self._case, repository).look():
                return
            look_elsewhere(self._case)
        except RepositoryDamagedError as error:
            repository.close()
            self._rebuild(error.message)
            return
        except RepositoryBusyError as error:
            self._case.add("busy", "problem", error.message, hint=error.hint)
            return
        finally:
            repository.close()
        self._contents()

    def _rebuild(self, reason: str) -> None:
        if rebuild(self._case, reason):
            self._contents()

    def _contents(self) -> None:
        look_at_owners(self._case)
        repository = Repository(self._case.layout)
        try:
            index = self._index_state(repository)
            if self._case.fix:
                with repository.exclusive():
                    look_at_hooks(self._case)
                    initialise.remove_dead_buildings(self._case.layout)
                    take_over_attics(self._case)
                # Finishes what was interrupted, adopts and rescues.
                with repository.transaction("doctor", command=self._case.command):
                    pass
                self._mend_index(repository)
            else:
                look_at_hooks(self._case)
            look_at_rules(self._case, repository)
            look_at_leftovers(self._case, repository)
            self._report_index(index, repository)
            self._profiles(repository)
            self._names(repository)
            look_at_encrypted(self._case, repository)
        except RepositoryBusyError as error:
            self._case.add("busy", "problem", error.message, hint=error.hint)
        finally:
            repository.close()

    def _index_state(self, repository: Repository) -> _IndexState:
        index = repository.index_file.read()
        if index is None:
            return "damaged"
        if index.conflicts:
            # Of a person's merge, which is reported besides.
            return "sound" if under_way(self._case.layout.git_dir) else "conflict"
        if repository.work_tree.outdated_entries(index, repository.head().root):
            return "outdated"
        if repository.work_tree.has_lost_blobs(index, repository.head().root):
            return "damaged"
        return "sound"

    def _report_index(self, state: _IndexState, repository: Repository) -> None:
        """Say what was wrong with the index, and what a person has staged."""
        if state != "sound":
            severity: Severity = "damage" if state == "damaged" else "problem"
            message = f"the index {_INDEX_STATES[state]}"
            self._case.add(f"index-{state}", severity, message, fixed=self._case.fix)
        index = repository.index_file.read()
        if index is None or index.conflicts or (state != "sound" and not self._case.fix):
            return
        paths = repository.work_tree.staged_paths(index, repository.head().root)
        if paths:
            more = f" and {len(paths) - 5} more" if len(paths) > 5 else ""
            names = ", ".join(ascii(path)[1:-1] for path in paths[:5])
            self._case.add("staged", "note", f"not committed yet: {names}{more}")

    def _mend_index(self, repository: Repository) -> None:
        with repository.exclusive():
            if self._index_state(repository) == "outdated":
                repository.checkout.update_index()
            if self._index_state(repository) in ("damaged", "conflict"):
                path = self._case.layout.git_dir / "index"
                if durable.is_there(path):
                    self._case.keep(path)
                repository.checkout.rebuild_index()

    def _profiles(self, repository: Repository) -> None:
        head = repository.head()
        for found in repository.work_tree.examine_all(head):
            profile_id = found.profile_id
            self._case.report.profiles += 1
            marked = (found.metadata or {}).get("status") == "corrupted"
            if found.state in ("damaged", "newer") or marked:
                self._case.add(
                    "profile-corrupted",
                    "problem",
                    f"profile '{profile_id}': {found.problem or 'marked as corrupted'}",
                    hint=run("tweakio profile recover", profile_id),
                )
            created = (found.metadata or {}).get("created_at")
            created = None if created is None else parse_time(created)
            if seen.is_lost(self._case.layout, profile_id, created):
                self._case.add(
                    "browser-data-lost",
                    "problem",
                    f"the browser data of profile '{profile_id}' are gone, and it was not tweakio "
                    "that removed them",
                    hint="bring them back from a snapshot, "
                    + run("tweakio profile snapshot list", profile_id)
                    + ", or start anew, "
                    + run("tweakio profile recover --mode hard", profile_id),
                )
            data = self._case.layout.profile(profile_id).browser_profile
            if os.path.islink(data):
                self._case.add(
                    "browser-data-linked",
                    "problem",
                    f"{data} is a symbolic link, which tweakio does not use",
                    hint="put the directory itself there, or let the home be a link",
                )
            for doubt in trust.doubts(repository, found.metadata or {}):
                self._case.add(
                    "untrusted-settings",
                    "note",
                    f"profile '{profile_id}' has settings from elsewhere that are not used here "
                    f"before 'tweakio profile trust' confirms them: {'; '.join(doubt.lines())}",
                )
        known = {name.decode("utf-8", "replace") for name in _names(head.root)}
        for name in initialise.profile_like_directories(self._case.layout):
            if name not in known:
                self._case.add(
                    "unknown-directory",
                    "note",
                    f"directory {name!r} is not in history; the next change moves it aside",
                )

    def _names(self, repository: Repository) -> None:
        """What a plain git clone, or a commit past the hooks, may have brought into history."""
        head = repository.head()
        if head.commit == NO_COMMIT:
            return
        tree = repository.reader.commit(head.commit).tree
        objection = objection_to_names(tree, ours(repository.reader))
        if objection:
            self._case.add(
                "foreign-name",
                "problem",
                f"history has {objection}",
                hint="take it out with 'git rm --cached', and commit; no other machine takes it",
            )


_INDEX_STATES = {
    "outdated": "has not what both history and the files have: it was written by a git that had "
    "read an older one, or by hand",
    "conflict": "has the conflicts of a merge that nobody ends",
    "damaged": "was missing or damaged",
}


def _names(root: bytes) -> list[bytes]:
    return [entry.name for entry in parse_tree(root) if entry.mode == TREE_MODE]
