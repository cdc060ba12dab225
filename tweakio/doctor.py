"""``tweakio repo doctor``: says what is wrong with a repository, and mends what can be.

It trusts nothing: every object that history needs is read, and what can be derived again is
derived again. Nothing is thrown away: a git directory that cannot be mended is put aside
whole, and its trash is taken over into the new one.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from tweakio import directories, durable, schema
from tweakio.errors import (
    ForeignRepositoryError,
    HomeNotFoundError,
    InvalidMetadataError,
    NewerFormatError,
    RepositoryBusyError,
    RepositoryDamagedError,
    TweakioError,
    storage_error,
)
from tweakio.recovery import rebuild_metadata
from tweakio.store import initialise
from tweakio.store.journal import Journal
from tweakio.store.objects import TREE_MODE, parse_tree
from tweakio.store.refs import NO_COMMIT, is_abandoned, operation_in_progress, set_aside
from tweakio.store.repository import Repository
from tweakio.store.worktree import FINGERPRINT, METADATA
from tweakio.validator import ProfileValidator

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tweakio.layout import Layout
    from tweakio.store.transaction import Transaction

__all__ = ["Finding", "Report", "examine"]

log = logging.getLogger(__name__)

Severity = Literal["note", "problem", "damage"]


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        code: a stable word for programs, such as ``ref-damaged``.
        severity: ``note`` (harmless), ``problem`` (a profile or a lock), ``damage`` (the
            repository itself).
        message: one line.
        fixed: whether it was mended in this run.
        hint: what to do about it, if it was not.
    """

    code: str
    severity: Severity
    message: str
    fixed: bool = False
    hint: str = ""


@dataclass
class Report:
    """What the doctor found.

    Attributes:
        findings: in the order in which they were found.
        commits: how many commits of history could be read.
        profiles: how many profiles there are.
    """

    findings: list[Finding] = field(default_factory=list)
    commits: int = 0
    profiles: int = 0

    @property
    def healthy(self) -> bool:
        """Nothing but notes and mended things."""
        return all(item.severity == "note" or item.fixed for item in self.findings)


def examine(
    layout: Layout,
    *,
    fix: bool = False,
    command: str = "repo doctor",
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Look at everything, and mend it if asked.

    Args:
        layout: the home.
        fix: mend what can be mended; else nothing is changed.
        command: for the history.
        progress: called with the number of commits read so far.

    Raises:
        HomeNotFoundError: there is no such home.
        ForeignRepositoryError: the repository is somebody else's.
        NewerFormatError: made by a newer tweakio.
    """
    try:
        return _Doctor(layout, fix, command, progress or (lambda _: None)).run()
    except OSError as error:
        if isinstance(error, TweakioError):
            raise
        raise storage_error(error, "examine the repository") from error


class _Doctor:
    def __init__(
        self,
        layout: Layout,
        fix: bool,  # noqa: FBT001 - private
        command: str,
        progress: Callable[[int], None],
    ) -> None:
        self.layout = layout
        self.fix = fix
        self.command = command
        self.progress = progress
        self.report = Report()

    def add(
        self, code: str, severity: Severity, message: str, *, fixed: bool = False, hint: str = ""
    ) -> None:
        if not hint and not fixed and severity != "note":
            hint = "run 'tweakio repo doctor --fix'"
        self.report.findings.append(Finding(code, severity, message, fixed, "" if fixed else hint))

    def run(self) -> Report:
        layout = self.layout
        if not layout.home.is_dir():
            raise HomeNotFoundError(
                f"home {layout.home} does not exist", hint="give another --home"
            )
        if not os.path.lexists(layout.git_dir):
            self._without_git_dir()
        else:
            try:
                initialise.refuse_foreign(layout)
            except ForeignRepositoryError:
                if not initialise.profile_like_directories(layout) or not _looks_gutted(layout):
                    raise
                self._rebuild("the git directory has lost what makes it one")
            else:
                self._git_dir()
        return self.report

    # The git directory

    def _without_git_dir(self) -> None:
        names = initialise.profile_like_directories(self.layout)
        if not names:
            self.add("no-repository", "note", "there is no repository yet; 'create' makes it")
            return
        self._rebuild(f".git is gone; {len(names)} profile directories are there")

    def _git_dir(self) -> None:
        broken = self._broken_skeleton()
        if broken:
            if not self.fix:
                self.add("git-dir-damaged", "damage", f"git directory: {broken}")
                return
            self._mend_skeleton()
            self.add("git-dir-damaged", "damage", f"git directory: {broken}", fixed=True)
        repository = Repository(self.layout)
        try:
            self._locks(repository)
            if not self._refs(repository):
                return
        except RepositoryDamagedError as error:
            repository.close()
            self._rebuild(error.message)
            return
        finally:
            repository.close()
        self._contents()

    def _broken_skeleton(self) -> str:
        git_dir = self.layout.git_dir
        for name in ("objects", "refs"):
            if not (git_dir / name).is_dir():
                return f"{name}/ is missing"
        if not (git_dir / "HEAD").is_file() or not _valid_head(git_dir / "HEAD"):
            return "HEAD is missing or damaged"
        if not _valid_config(git_dir / "config"):
            return "config is missing or damaged"
        return ""

    def _mend_skeleton(self) -> None:
        git_dir = self.layout.git_dir
        for name in ("objects", "objects/pack", "refs", "refs/heads"):
            if os.path.lexists(git_dir / name) and not (git_dir / name).is_dir():
                self._keep(git_dir / name)
            durable.make_directory(git_dir / name)
        for name, valid, content in (
            ("HEAD", _valid_head, b"ref: refs/heads/main\n"),
            ("config", _valid_config, initialise.CONFIG.encode()),
        ):
            path = git_dir / name
            if not valid(path):
                if os.path.lexists(path):
                    self._keep(path)
                durable.create(path, content)
        durable.fsync_directory(git_dir)
        initialise.complete_local(self.layout)

    def _keep(self, path: Path) -> None:
        """Move damaged bytes of the git directory aside."""
        shelf = self.layout.local / "damaged"
        durable.make_directory(shelf, parents=True)
        os.replace(path, shelf / f"{path.name}-{time.time_ns()}")

    def _locks(self, repository: Repository) -> None:
        if Journal.exists(self.layout):
            self.add("interrupted", "note", "a change was interrupted; the next one finishes it")
        if what := operation_in_progress(self.layout.git_dir):
            self.add(
                "git-in-progress",
                "problem",
                f"a {what} is under way in the profile repository",
                hint=f"finish it, or run 'git -C {self.layout.profiles} {what} --abort'",
            )
        for lock in sorted(self.layout.git_dir.glob("*.lock")) + sorted(
            (self.layout.git_dir / "refs").rglob("*.lock")
        ):
            if repository.git_locks.is_ours(lock):
                continue  # the next change removes it
            if is_abandoned(lock, self.layout.git_dir, after=1.0):
                if self.fix:
                    set_aside(lock, self.layout.locks / "abandoned")
                message = f"{lock.name} was left by a git that is gone"
                self.add("abandoned-lock", "problem", message, fixed=self.fix)
            else:
                message = f"{lock.name} is held by a git that is running"
                self.add("git-running", "note", message)

    # History

    def _refs(self, repository: Repository) -> bool:
        """Make sure that the branch names a commit whose state can be read.

        Returns:
            Whether there is anything more to look at.
        """
        head, problem = self._head_of(repository)
        if head is not None and not problem:
            broken = self._first_unreadable(repository, head)
            if broken is None:
                return True
            problem = broken
        if not self.fix:
            self.add("history-damaged", "damage", problem)
            return False
        found = self._newest_readable(repository)
        if found is None:
            raise RepositoryDamagedError(f"{problem}; no commit can be read")
        branch = _branch_of(self.layout.git_dir / "HEAD")
        if found == head:
            # HEAD's own state is whole, and only older history is damaged: it is kept.
            self.add(
                "old-history-damaged",
                "damage",
                problem,
                hint="HEAD is whole; older changes cannot be shown or undone",
            )
            return True
        with repository.exclusive_unhealed():
            if (self.layout.git_dir / branch).is_dir():
                self._keep(self.layout.git_dir / branch)
            durable.make_directory((self.layout.git_dir / branch).parent, parents=True)
            repository.refs.publish(branch, found)
        self.add(
            "history-damaged",
            "damage",
            f"{problem}; history goes on from {found[:12]}, the newest commit that can be read",
            fixed=True,
        )
        return True

    def _head_of(self, repository: Repository) -> tuple[str | None, str]:
        try:
            head = repository.refs.head()
        except RepositoryDamagedError as error:
            return None, error.message
        if head == NO_COMMIT:
            return None, "the branch has no commit"
        return head, ""

    def _first_unreadable(self, repository: Repository, head: str) -> str | None:
        """What keeps the history of a commit from being read whole; None if nothing."""
        seen: set[bytes] = set()
        count = 0
        todo = [head]
        known = {head}
        while todo:
            commit_id = todo.pop()
            try:
                commit = repository.reader.commit(commit_id)
                _read_tree(repository, commit.tree, seen)
            except RepositoryDamagedError as error:
                return f"commit {commit_id[:12]} cannot be read whole: {error.message}"
            count += 1
            if count % 64 == 0:
                self.progress(count)
            todo += [parent for parent in commit.parents if parent not in known]
            known.update(commit.parents)
        self.report.commits = count
        return None

    def _newest_readable(self, repository: Repository) -> str | None:
        """The newest commit, by the reflogs and the refs, whose own state is whole."""
        candidates: list[str] = []
        with_head, _ = self._head_of(repository)
        if with_head is not None:
            candidates.append(with_head)
        for name in ("HEAD", _branch_of(self.layout.git_dir / "HEAD")):
            for old, new in repository.refs.reflog(name):
                candidates += [new, old]
        candidates += repository.refs.names().values()
        commits = []
        for commit_id in dict.fromkeys(candidates):
            if commit_id == NO_COMMIT:
                continue
            try:
                commit = repository.reader.commit(commit_id)
                _read_tree(repository, commit.tree, set())
            except RepositoryDamagedError:
                continue
            return commit_id
        for commit_id in repository.reader.all_commits():
            try:
                commit = repository.reader.commit(commit_id)
                _read_tree(repository, commit.tree, set())
            except RepositoryDamagedError:
                continue
            commits.append(commit)
        return max(commits, key=lambda item: item.time).id if commits else None

    # Rebuilding

    def _rebuild(self, reason: str) -> None:
        """Put the git directory aside and make a new one from the work tree."""
        if not self.fix:
            self.add("repository-lost", "damage", reason)
            return
        layout = self.layout
        names = self._directories_by_id()
        aside = None
        if os.path.lexists(layout.git_dir):
            aside = layout.home / f"damaged-git-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}"
        building = layout.profiles / f".git.new-{os.getpid()}-doctor"
        initialise.make_git_directory(building)
        try:
            if aside is not None:
                os.rename(layout.git_dir, aside)
            os.rename(building, layout.git_dir)
        except OSError:
            shutil.rmtree(building, ignore_errors=True)
            if aside is not None and not os.path.lexists(layout.git_dir):
                os.rename(aside, layout.git_dir)
            raise
        durable.sync_tree((layout.profiles, layout.home))
        if aside is not None:
            self._take_over_attics(aside)
        repository = initialise.open_repository(layout, create=False)
        assert repository is not None
        try:
            self._commit_directories(repository, names)
        finally:
            repository.close()
        kept = f"; the old git directory is {aside}" if aside is not None else ""
        self.add(
            "repository-lost",
            "damage",
            f"{reason}; rebuilt with {len(names)} profiles{kept}",
            fixed=True,
        )
        self._contents()

    def _directories_by_id(self) -> list[str]:
        """The profile directories that can be profiles again; no two differ by case only."""
        rules = ProfileValidator()
        found: dict[str, str] = {}
        for name in initialise.profile_like_directories(self.layout):
            if rules.is_id(name) and name.lower() not in found:
                found[name.lower()] = name
            else:
                self.add(
                    "bad-name",
                    "problem",
                    f"directory {name!r} cannot be a profile and was left",
                    hint="rename it to a valid id that is free",
                )
        return sorted(found.values())

    def _take_over_attics(self, aside: Path) -> None:
        for name in ("trash", "rescued"):
            old, new = aside / "tweakio" / name, self.layout.local / name
            if old.is_dir() and not os.path.lexists(new):
                os.rename(old, new)
        durable.fsync_directory(self.layout.local)

    def _commit_directories(self, repository: Repository, names: list[str]) -> None:
        with repository.transaction_unreconciled("rebuild", self.command) as change:
            for profile_id in names:
                self._track(repository, change, profile_id)
            change.summary = f"rebuild history from {len(names)} profile directories"
            change.record_always = bool(names)

    def _track(self, repository: Repository, change: Transaction, profile_id: str) -> None:
        paths = self.layout.profile(profile_id)
        try:
            content = durable.read_regular(paths.metadata, schema.MAX_BYTES)
            metadata = schema.load(content, profile_id)
        except (OSError, InvalidMetadataError):
            metadata = rebuild_metadata(paths.directory, profile_id)
            directories.keep_file(change, repository, profile_id, paths.metadata)
            log.warning("the metadata of %s was rebuilt from its files", profile_id)
        except NewerFormatError:
            change.put(profile_id, METADATA, content)
            metadata = {}
        if metadata:
            metadata = {key: item for key, item in metadata.items() if key != "lock_pid"}
            change.put_metadata(profile_id, metadata)
        try:
            fingerprint = durable.read_regular(paths.fingerprint, schema.MAX_BYTES)
            if not isinstance(json.loads(fingerprint), dict):
                raise ValueError
        except (OSError, ValueError, RecursionError):
            directories.keep_file(change, repository, profile_id, paths.fingerprint)
            fingerprint = directories.new_fingerprint(
                str(metadata.get("platform", "custom")), profile_id
            )
        change.put(profile_id, FINGERPRINT, fingerprint)

    # What is in it

    def _contents(self) -> None:
        if self.fix:
            initialise.complete_local(self.layout)
            initialise.install_hooks(self.layout.git_dir)
        repository = initialise.open_repository(self.layout, create=False)
        assert repository is not None
        try:
            if self.fix:
                # Finishes what was interrupted, adopts and rescues.
                with repository.transaction("doctor", command=self.command):
                    pass
            self._index(repository)
            self._hooks()
            self._profiles(repository)
        except RepositoryBusyError as error:
            self.add("busy", "problem", error.message, hint=error.hint)
        finally:
            repository.close()

    def _index(self, repository: Repository) -> None:
        index = repository.index_file.read()
        if index is not None and not index.conflicts:
            expected = repository.expected_index_names()
            if expected.issubset(index.entries()):
                return
        if index is not None and index.conflicts:
            return  # a person's merge, reported above
        if self.fix:
            with repository.exclusive():
                path = self.layout.git_dir / "index"
                if index is None and os.path.lexists(path):
                    self._keep(path)
                repository.rebuild_index()
        self.add("index-damaged", "damage", "the index was missing or damaged", fixed=self.fix)

    def _hooks(self) -> None:
        left = initialise.foreign_hooks(self.layout.git_dir)
        for name in left:
            self.add(
                "foreign-hook",
                "note",
                f"the hook {name} is not tweakio's, so commits by hand are not checked",
            )

    def _profiles(self, repository: Repository) -> None:
        head = repository.head()
        for profile_id in repository.work_tree.ids(head):
            found = repository.work_tree.examine(head, profile_id)
            if found is None:
                continue
            self.report.profiles += 1
            marked = (found.metadata or {}).get("status") == "corrupted"
            if found.state in ("damaged", "newer") or marked:
                self.add(
                    "profile-corrupted",
                    "problem",
                    f"profile '{profile_id}': {found.problem or 'marked as corrupted'}",
                    hint=f"run 'tweakio profile recover {profile_id}'",
                )
        known = {name.decode("utf-8", "replace") for name in _names(head.root)}
        for name in initialise.profile_like_directories(self.layout):
            if name not in known:
                self.add(
                    "unknown-directory",
                    "note",
                    f"directory {name!r} is not in history; the next change moves it aside",
                )


def _names(root: bytes) -> list[bytes]:
    return [entry.name for entry in parse_tree(root) if entry.mode == TREE_MODE]


def _read_tree(repository: Repository, tree: bytes, seen: set[bytes]) -> None:
    """Read everything below a tree."""
    if tree in seen:
        return
    for entry in repository.reader.tree(tree):
        if entry.is_tree:
            _read_tree(repository, entry.id, seen)
        elif entry.mode != b"160000" and entry.id not in seen:
            repository.reader.read(entry.id, b"blob")
            seen.add(entry.id)
    seen.add(tree)


def _valid_head(path: Path) -> bool:
    try:
        content = durable.read_regular(path, 4096).strip()
    except OSError:
        return False
    if len(content) == 40:
        return all(byte in b"0123456789abcdef" for byte in content)
    return content.startswith(b"ref: refs/heads/") and b".." not in content


def _valid_config(path: Path) -> bool:
    try:
        text = durable.read_regular(path, 1 << 20).decode()
    except (OSError, UnicodeDecodeError):
        return False
    return "[core]" in text.replace(" ", "") and "\0" not in text


def _branch_of(head: Path) -> str:
    content = durable.read_regular(head, 4096).decode("utf-8", "replace").strip()
    return content[5:] if content.startswith("ref: refs/heads/") else "refs/heads/main"


def _looks_gutted(layout: Layout) -> bool:
    """A git directory that is not anybody's any more: empty, or without objects and HEAD."""
    if not layout.git_dir.is_dir() or layout.git_dir.is_symlink():
        return False
    return not (layout.git_dir / "objects").is_dir() or not (layout.git_dir / "HEAD").exists()
