"""``tweakio repo doctor``: says what is wrong with a repository, and mends what can be.

It trusts nothing: every object that history needs is read, and what can be derived again is
derived again. Nothing is thrown away: a git directory that cannot be mended is put aside
whole, and its trash is taken over into the new one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import time
import zlib
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property
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
from tweakio.layout import Layout
from tweakio.models import parse_time
from tweakio.recovery import rebuild_metadata
from tweakio.store import initialise
from tweakio.store.journal import Journal
from tweakio.store.objects import (
    BLOB_MODE,
    EMPTY_TREE,
    TREE_MODE,
    ObjectWriter,
    TreeEntry,
    object_id,
    parse_tree,
    serialise_tree,
)
from tweakio.store.packs.format import (
    HEADER,
    KIND_NAMES,
    OFS_DELTA,
    PACK_LIMIT,
    index_bytes,
    read_head,
)
from tweakio.store.packs.index import Index as PackIndex
from tweakio.store.refs import NO_COMMIT, is_abandoned, operation_in_progress, set_aside
from tweakio.store.repository import Repository
from tweakio.store.worktree import FINGERPRINT, METADATA
from tweakio.validator import ProfileValidator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from tweakio.store.head import Head
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
        if self.fix:
            initialise.complete_local(self.layout)
        repository = Repository(self.layout)
        try:
            self._locks(repository)
            if self.fix:
                with repository.exclusive_unhealed():
                    self._files(repository)
            else:
                self._files(repository)
            if not self._history(repository):
                return
        except RepositoryDamagedError as error:
            repository.close()
            self._rebuild(error.message)
            return
        except RepositoryBusyError as error:
            self.add("busy", "problem", error.message, hint=error.hint)
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
            ("HEAD", _valid_head, f"ref: {self._likely_branch()}\n".encode()),
            ("config", _valid_config, initialise.CONFIG.encode()),
        ):
            path = git_dir / name
            if not valid(path):
                if os.path.lexists(path):
                    self._keep(path)
                durable.create(path, content)
        durable.fsync_directory(git_dir)

    def _likely_branch(self) -> str:
        """The branch that HEAD was on: the one whose commit HEAD's reflog ends with."""
        refs = Refs(self.layout.git_dir, self.layout.temporary)
        last = next((new for _, new in refs.reflog()), None)
        branches = {n: c for n, c in refs.names().items() if n.startswith("refs/heads/")}
        if not branches or "refs/heads/main" in branches:
            return "refs/heads/main"
        return next((name for name, commit in branches.items() if commit == last), min(branches))

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

    # The files below objects/

    def _files(self, repository: Repository) -> None:
        """Look at each file of objects by itself; take damaged ones out of git's way.

        What can still be read of a damaged pack is written again first.
        """
        objects = self.layout.git_dir / "objects"
        loose = [path for path in _loose_files(objects) if not _is_sound_loose(path)]
        packs = [path for path in _pack_files(objects) if not _is_sound_pack(path)]
        saved = 0
        if self.fix:
            for path in packs:
                saved += self._mend_pack(repository, path)
            for path in loose:
                self._keep(path)
            if packs or loose:
                for name in _DERIVED:
                    if os.path.lexists(objects / name):
                        self._keep(objects / name)
                durable.fsync_directory(objects / "pack")
                repository.reader.close()
        if loose:
            message = f"{len(loose)} damaged objects"
            self.add("objects-damaged", "damage", message, fixed=self.fix)
        if packs:
            what = f"; {saved} objects in them could be read" if self.fix else ""
            message = f"{len(packs)} damaged packs{what}"
            self.add("packs-damaged", "damage", message, fixed=self.fix)

    def _mend_pack(self, repository: Repository, path: str) -> int:
        """Replace a pack by what can be read of it; the number of objects."""
        broken = _BrokenPack(path, repository)
        writer = ObjectWriter(self.layout.git_dir / "objects", self.layout.temporary)
        entries: list[tuple[bytes, int, int]] = []
        size = 0
        mended = 0
        for name, kind, body, check, offset in broken.objects():
            entries.append((name, check, offset))
            mended += 1
            if broken.whole:
                continue  # the pack itself stays
            writer.add(kind, body)
            size += len(body)
            if size > _MANY_BYTES:
                writer.flush()
                size = 0
        writer.flush()
        suffixes = [".idx", ".rev", ".bitmap"]
        if not (broken.whole and len(entries) == broken.count):
            suffixes += [".pack", ".keep", ".mtimes"]
        for suffix in suffixes:
            if os.path.lexists(path + suffix):
                self._keep(self.layout.git_dir / (path + suffix))
        if ".pack" not in suffixes:
            durable.create(path + ".idx", index_bytes(entries, broken.digest), mode=0o444)
        return mended

    # History

    def _history(self, repository: Repository) -> bool:
        """Make sure that the branch names a commit whose state can be read.

        Returns:
            Whether there is anything more to look at.
        """
        head, problem = self._head_of(repository)
        walk = self._walk(repository, head) if head is not None else _Walk()
        if walk.missing and self.fix:
            walk = self._regenerate(repository, head or "", walk)
        self.report.commits = walk.commits
        if head is not None and not walk.missing:
            self._detached(repository, head)
            return True
        problem = problem or walk.problem
        if head is not None and not walk.own:
            # HEAD's own state is whole, and only older history is damaged: it is kept.
            self.add(
                "old-history-damaged",
                "damage",
                problem,
                hint="HEAD is whole; older changes cannot be shown or undone",
            )
            self._detached(repository, head)
            return True
        found = self._newest_readable(repository)
        if not self.fix:
            then = "cannot be read at all" if found is None else f"goes back to {found[:12]}"
            self.add("history-damaged", "damage", f"{problem}; what is left {then}")
            return False
        if found is None:
            raise RepositoryDamagedError(f"{problem}; no commit can be read")
        self._go_on(repository, found, problem)
        return True

    def _head_of(self, repository: Repository) -> tuple[str | None, str]:
        try:
            head = repository.refs.head()
        except RepositoryDamagedError as error:
            return None, error.message
        if head == NO_COMMIT:
            return None, "the branch has no commit"
        return head, ""

    def _detached(self, repository: Repository, head: str) -> None:
        path = self.layout.git_dir / "HEAD"
        if durable.read_regular(path, 4096).startswith(b"ref: "):
            return
        branch = _branch_of(path)
        same = repository.refs.resolve(branch) == head
        if same and self.fix:
            durable.replace(path, f"ref: {branch}\n".encode(), self.layout.temporary / "head")
        self.add(
            "head-detached",
            "problem",
            "HEAD is on no branch, so nothing can be changed",
            fixed=same and self.fix,
            hint="" if same else f"run 'git -C {self.layout.profiles} switch main'",
        )

    def _walk(self, repository: Repository, head: str) -> _Walk:
        """Read the whole history of a commit."""
        walk = _Walk()
        seen: set[bytes] = set()
        todo, known = [head], {head}
        while todo:
            commit_id = todo.pop()
            try:
                commit = repository.reader.commit(commit_id)
            except RepositoryDamagedError as error:
                missing, message, parents = {commit_id}, error.message, ()
            else:
                missing, message, parents = *_unreadable(repository, commit.tree, seen), commit.parents
                walk.commits += not missing
            if missing:
                walk.missing |= missing
                walk.own |= commit_id == head
                what = f"commit {commit_id[:12]} cannot be read whole: {message}"
                walk.problem = walk.problem or what
            if walk.commits % 64 == 0:
                self.progress(walk.commits)
            todo += [parent for parent in parents if parent not in known]
            known.update(parents)
        return walk

    def _regenerate(self, repository: Repository, head: str, walk: _Walk) -> _Walk:
        """Write missing objects again whose content is in the work tree, the index or the trash."""
        with repository.exclusive_unhealed():
            known = _Known(repository).objects
            again = 0
            # With a tree its children become known to be missing.
            while useful := walk.missing & known.keys():
                writer = ObjectWriter(self.layout.git_dir / "objects", self.layout.temporary)
                for name in useful:
                    writer.add(*known[name])
                writer.flush()
                again += len(useful)
                repository.reader.close()
                walk = self._walk(repository, head)
        if again:
            message = f"{again} lost objects were written again from what the work tree holds"
            self.add("objects-lost", "damage", message, fixed=True)
        return walk

    def _newest_readable(self, repository: Repository) -> str | None:
        """The newest commit, by the reflogs and the refs, whose own state is whole."""
        refs = repository.refs
        candidates: list[str] = []
        journal = self._pending()
        if journal is not None:
            candidates.append(journal.new)
        with_head, _ = self._head_of(repository)
        if with_head is not None:
            candidates.append(with_head)
        for name in ("HEAD", _branch_of(self.layout.git_dir / "HEAD")):
            for old, new in refs.reflog(name):
                candidates += [new, old]
        candidates += refs.names().values()
        for commit_id in dict.fromkeys(candidates):
            if commit_id != NO_COMMIT and _is_whole(repository, commit_id):
                return commit_id
        commits = [
            repository.reader.commit(commit_id)
            for commit_id in repository.reader.all_commits()
            if _is_whole(repository, commit_id)
        ]
        # Many have the same second; the newest of them is nobody's parent.
        parents = {parent for commit in commits for parent in commit.parents}
        tips = [commit for commit in commits if commit.id not in parents]
        return max(tips, key=lambda item: item.time).id if tips else None

    def _pending(self) -> Journal | None:
        """The journal of a change all of whose moves were made, so that it may have taken place."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            text = durable.read_regular(self.layout.journal, 1 << 28)
            value = json.loads(text)
            home = self.layout.home
            if all(os.path.lexists(home / move["target"]) for move in value["moves"]):
                return Journal.read(self.layout)
        return None

    # Going on from an older commit

    def _go_on(self, repository: Repository, found: str, problem: str) -> None:
        """Make a readable commit the newest, and bring what the work tree has into history.

        All under one lock: another program would take the directories that the older commit
        does not know for unknown ones, and put them aside.
        """
        with repository.transaction_unreconciled(
            "rebuild", self.command, first=lambda: self._reset_to(repository, found)
        ) as change:
            names = self._track_directories(repository, change)
            change.summary = f"go on from {found[:12]} with the state of the work tree"
        with repository.exclusive():
            repository.rebuild_index()
        taken = f"; {len(names)} profiles were taken from the work tree" if names else ""
        self.add(
            "history-damaged",
            "damage",
            f"{problem}; history goes on from {found[:12]}, the newest commit that can be read"
            f"{taken}",
            fixed=True,
        )

    def _reset_to(self, repository: Repository, found: str) -> None:
        git_dir = self.layout.git_dir
        branch = _branch_of(git_dir / "HEAD")
        self._clean_refs(repository, found)
        if (git_dir / branch).is_dir():
            self._keep(git_dir / branch)
        durable.make_directory((git_dir / branch).parent, parents=True)
        repository.refs.publish(branch, found)
        head = f"ref: {branch}\n".encode()
        if durable.read_regular(git_dir / "HEAD", 4096) != head:
            durable.replace(git_dir / "HEAD", head, self.layout.temporary / "head")
        # The index is of the lost commit; the transaction that follows makes a new one.
        if os.path.lexists(git_dir / "index"):
            self._keep(git_dir / "index")

    def _clean_refs(self, repository: Repository, found: str) -> None:
        """Take what names unreadable commits out of the reflogs and the refs.

        The old files are kept aside.
        """
        git_dir = self.layout.git_dir
        whole = _Wholeness(self, repository, found)
        for directory, _, files in os.walk(git_dir / "logs"):
            for file in files:
                self._rewrite_reflog(os.path.join(directory, file), whole)
        names = ["HEAD", _branch_of(git_dir / "HEAD")]
        for name in names:
            last = next((new for _, new in repository.refs.reflog(name)), NO_COMMIT)
            if last != found:
                who = f"{identity.author(git_dir / 'config')} {identity.stamp(int(time.time()))}"
                line = f"{last} {found} {who}\ttweakio: {self.command}: go on from here\n"
                repository.refs.append_reflog(name, line.encode("utf-8", "replace"))
        for name, commit_id in repository.refs.names().items():
            path = git_dir / name
            if name not in names and path.is_file() and not whole.is_whole(commit_id):
                self._keep(path)
                self.add("ref-damaged", "damage", f"{name} named a damaged commit", fixed=True)
        self._rewrite_packed_refs(whole)

    def _rewrite_reflog(self, path: str, whole: _Wholeness) -> None:
        data = durable.read_regular(path, 1 << 30)
        lines = []
        last = NO_COMMIT
        for line in data.decode("utf-8", "surrogateescape").splitlines(keepends=True):
            match = _REFLOG_LINE.fullmatch(line)
            if match is None or not whole.is_whole(match[2]):
                continue
            # As "git reflog expire --rewrite" does, each line goes on from the one before.
            lines.append(f"{last} {match[2]} {match[3]}")
            last = match[2]
        self._replace(path, "".join(lines).encode("utf-8", "surrogateescape"), data)

    def _rewrite_packed_refs(self, whole: _Wholeness) -> None:
        path = self.layout.git_dir / "packed-refs"
        try:
            data = durable.read_regular(path, 1 << 28)
        except OSError:
            if os.path.lexists(path):
                self._keep(path)
            return
        kept = []
        skipping = False
        for line in data.split(b"\n"):
            commit_id = line[:40].decode("ascii", "replace")
            if line.startswith(b"^"):
                if skipping:
                    continue
            elif re.fullmatch("[0-9a-f]{40}", commit_id):
                skipping = not whole.is_whole(commit_id)
                if skipping:
                    continue
            elif line and not line.startswith(b"#"):
                continue
            kept.append(line)
        self._replace(os.fspath(path), b"\n".join(kept), data)

    def _replace(self, path: str, data: bytes, before: bytes) -> None:
        if data != before:
            target = self.layout.git_dir / os.path.relpath(path, self.layout.git_dir)
            self._keep(target)
            durable.replace(target, data, self.layout.temporary / "mended")

    def _track_directories(self, repository: Repository, change: Transaction) -> list[str]:
        """Bring profiles into history as the work tree has them; the ids of those."""
        head = change.head
        known = repository.work_tree.ids(head)
        tracked = []
        for profile_id in self._directories_by_id(known):
            found = repository.work_tree.examine(head, profile_id)
            # One that is damaged here but whole in history is left to its recovery.
            if found is None or found.state in ("edited", "newer"):
                self._track(repository, change, profile_id)
                tracked.append(profile_id)
        for profile_id in known:
            if self._was_deleted(repository, head, profile_id):
                change.remove(profile_id)
        return tracked

    def _was_deleted(self, repository: Repository, head: Head, profile_id: str) -> bool:
        """Whether a profile of an older commit is in the trash since."""
        if os.path.lexists(self.layout.profile(profile_id).directory):
            return False
        created = directories.identity_at(repository, head.root, profile_id)
        return created is not None and any(
            entry.kind == "deleted" and entry.profile_created_at == created
            for entry in repository.trash.entries(profile_id)
        )

    # Rebuilding

    def _rebuild(self, reason: str) -> None:
        """Make a new git directory from the work tree, and put the old one aside.

        The new one is complete, with every profile in its history, before it takes the place.
        """
        if not self.fix:
            self.add("repository-lost", "damage", reason)
            return
        layout = self.layout
        before = _inode(layout.git_dir)
        building = _Building(layout.home, f".git.new-{os.getpid()}-{time.time_ns()}")
        try:
            initialise.make_git_directory(building.git_dir)
            names = self._commit_directories(building)
            if _inode(layout.git_dir) != before:
                raise RepositoryBusyError(
                    "the git directory was replaced meanwhile", hint="run the command again"
                )
            aside = None
            if before is not None:
                aside = layout.home / f"{_ASIDE}{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}"
                os.rename(layout.git_dir, aside)
            os.rename(building.git_dir, layout.git_dir)
        finally:
            # Damaged files of profiles are in it, if it did not come into its place.
            if os.path.lexists(building.git_dir) and not os.listdir(building.local / "tmp"):
                self._discard(building)
        durable.sync_tree((layout.profiles, layout.home))
        kept = f"; the old git directory is {aside}" if aside is not None else ""
        self.add(
            "repository-lost",
            "damage",
            f"{reason}; rebuilt with {len(names)} profiles{kept}",
            fixed=True,
        )
        self._contents()

    @staticmethod
    def _discard(building: Layout) -> None:
        if not building.rescued.is_dir():
            shutil.rmtree(building.git_dir, ignore_errors=True)

    def _take_over_attics(self) -> None:
        """Take the trash and the rescued out of git directories that were put aside."""
        for aside in sorted(self.layout.home.glob(f"{_ASIDE}*")):
            for old, new in (
                (aside / "tweakio" / "trash", self.layout.trash),
                (aside / "tweakio" / "rescued", self.layout.rescued),
            ):
                if not old.is_dir() or old.is_symlink():
                    continue
                durable.make_directory(new)
                for name in os.listdir(old):
                    if not os.path.lexists(new / name):
                        os.rename(old / name, new / name)
                durable.sync_tree((old, new, new.parent))

    def _commit_directories(self, layout: Layout) -> list[str]:
        repository = Repository(layout)
        try:
            with repository.transaction_unreconciled("rebuild", self.command) as change:
                names = self._track_directories(repository, change)
                change.summary = f"rebuild history from {len(names)} profile directories"
                change.record_always = bool(names)
            return names
        finally:
            repository.close()

    def _directories_by_id(self, known: Iterable[str]) -> list[str]:
        """The profile directories that can be profiles again; no two differ by case only."""
        rules = ProfileValidator()
        found = {name.lower(): name for name in known}
        present = initialise.profile_like_directories(self.layout)
        for name in present:
            if rules.is_id(name) and found.get(name.lower(), name) == name:
                found[name.lower()] = name
            else:
                self.add(
                    "bad-name",
                    "problem",
                    f"directory {name!r} cannot be a profile and was left",
                    hint="rename it to a valid id that is free",
                )
        return sorted(set(found.values()).intersection(present))

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
        left = initialise.foreign_hooks(self.layout.git_dir)
        if self.fix:
            initialise.complete_local(self.layout)
            initialise.install_hooks(self.layout.git_dir)
        repository = Repository(self.layout)
        try:
            index_is_whole = self._index_is_whole(repository)
            if self.fix:
                with repository.exclusive():
                    self._take_over_attics()
                # Finishes what was interrupted, adopts and rescues.
                with repository.transaction("doctor", command=self.command):
                    pass
                if not self._index_is_whole(repository):
                    self._mend_index(repository)
            if not index_is_whole:
                message = "the index was missing or damaged"
                self.add("index-damaged", "damage", message, fixed=self.fix)
            self._hooks(left)
            self._profiles(repository)
        except RepositoryBusyError as error:
            self.add("busy", "problem", error.message, hint=error.hint)
        finally:
            repository.close()

    def _index_is_whole(self, repository: Repository) -> bool:
        index = repository.index_file.read()
        if index is None:
            return False
        # With conflicts it is of a person's merge, which is reported besides.
        return index.conflicts or repository.expected_index_names().issubset(index.entries())

    def _mend_index(self, repository: Repository) -> None:
        with repository.exclusive():
            path = self.layout.git_dir / "index"
            if os.path.lexists(path):
                self._keep(path)
            repository.rebuild_index()

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
