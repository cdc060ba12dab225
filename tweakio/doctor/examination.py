"""The examination itself, from the git directory to the profiles."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import time
from functools import cached_property
from typing import TYPE_CHECKING

from tweakio import directories, durable, identity, schema
from tweakio.errors import (
    ForeignRepositoryError,
    HomeNotFoundError,
    InvalidMetadataError,
    NewerFormatError,
    RepositoryBusyError,
    RepositoryDamagedError,
)
from tweakio.layout import Layout
from tweakio.recovery import rebuild_metadata
from tweakio.store import initialise
from tweakio.store.journal import Journal
from tweakio.store.objects import (
    TREE_MODE,
    ObjectWriter,
    parse_tree,
)
from tweakio.store.packs.format import (
    index_bytes,
)
from tweakio.store.refs import (
    NO_COMMIT,
    Refs,
    is_abandoned,
    operation_in_progress,
    set_aside,
)
from tweakio.store.repository import Repository
from tweakio.store.worktree import FINGERPRINT, METADATA
from tweakio.validator import ProfileValidator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from tweakio.store.head import Head
    from tweakio.store.transaction import Transaction


from tweakio.doctor.regenerate import Known
from tweakio.doctor.report import Finding, Report, Severity
from tweakio.doctor.salvage import (
    BrokenPack,
    is_sound_loose,
    is_sound_pack,
    loose_files,
    pack_files,
)
from tweakio.doctor.wholeness import Walk, Wholeness, is_whole_commit, unreadable

__all__ = ["Examination"]

log = logging.getLogger(__name__)

_ASIDE = "damaged-git-"
# What git derives from its objects, and would believe although they are gone.
_DERIVED = ("info/commit-graph", "info/commit-graphs", "pack/multi-pack-index")
_REFLOG_LINE = re.compile(r"([0-9a-f]{40}) ([0-9a-f]{40}) (.*\n)", re.DOTALL)
_MANY_BYTES = 64 << 20


class Examination:
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
        loose = [path for path in loose_files(objects) if not is_sound_loose(path)]
        packs = [path for path in pack_files(objects) if not is_sound_pack(path)]
        saved = 0
        if self.fix:
            saved = sum(self._mend_pack(repository, path) for path in packs)
            for file in loose:
                self._keep(file)
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
        broken = BrokenPack(path, repository)
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
            index = index_bytes(entries, broken.digest)
            durable.create(path + ".idx", index, mode=0o444)
        return mended

    # History

    def _history(self, repository: Repository) -> bool:
        """Make sure that the branch names a commit whose state can be read.

        Returns:
            Whether there is anything more to look at.
        """
        head, problem = self._head_of(repository)
        walk = self._walk(repository, head) if head is not None else Walk()
        if self.fix and (head is None or walk.missing):
            walk = self._regenerate(repository, head, walk)
        self.report.commits = walk.commits
        if head is not None and not walk.missing:
            self._detached(repository, head)
            return True
        problem = problem or walk.problem
        if head is not None and not walk.own:
            # HEAD's own state is whole, and only older history is damaged: it is kept.
            self._gap(walk)
            self._detached(repository, head)
            return True
        found = self._best_commit(repository)
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
        same = repository.refs.names().get(branch) == head
        if same and self.fix:
            durable.replace(path, f"ref: {branch}\n".encode(), self.layout.temporary / "head")
        self.add(
            "head-detached",
            "problem",
            "HEAD is on no branch, so nothing can be changed",
            fixed=same and self.fix,
            hint="" if same else f"run 'git -C {self.layout.profiles} switch main'",
        )

    def _walk(self, repository: Repository, head: str) -> Walk:
        """Read the whole history of a commit."""
        walk = Walk()
        parents: tuple[str, ...]
        seen: set[bytes] = set()
        todo, known = [head], {head}
        while todo:
            commit_id = todo.pop()
            try:
                commit = repository.reader.commit(commit_id)
            except RepositoryDamagedError as error:
                missing, message, parents = {commit_id}, error.message, ()
            else:
                missing, message, parents = (
                    *unreadable(repository, commit.tree, seen),
                    commit.parents,
                )
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

    def _regenerate(self, repository: Repository, head: str | None, walk: Walk) -> Walk:
        """Write missing objects again whose content is somewhere else.

        That may be a pack that lost its index, the work tree, the index or the trash.
        """
        with repository.exclusive_unhealed():
            for path in pack_files(self.layout.git_dir / "objects", orphans=True):
                self._mend_pack(repository, path)
            repository.reader.close()
            if head is None:
                return walk
            lost = walk.missing
            walk = self._walk(repository, head)
            again = len(lost - walk.missing)
            known = Known(repository).objects
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
            message = f"{again} lost objects were found elsewhere and written again"
            self.add("objects-lost", "damage", message, fixed=True)
        return walk

    def _best_commit(self, repository: Repository) -> str | None:
        """The commit to go on from: of those whose own state is whole, the one with the most
        history that can be read; the newest of several.

        The newest readable commit can stand above a gap, and what is below that is lost to
        it; the work tree has the newest state anyway.
        """
        best, most = None, -1
        for commit_id in self._whole_commits(repository):
            walk = self._walk(repository, commit_id)
            if walk.commits > most:
                best, most = commit_id, walk.commits
            if not walk.missing:
                break
        return best

    def _whole_commits(self, repository: Repository) -> Iterator[str]:
        """The commits whose own state is whole, the newest first, by the reflogs and the refs."""
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
        known = dict.fromkeys(candidates)
        for commit_id in known:
            if commit_id != NO_COMMIT and is_whole_commit(repository, commit_id):
                yield commit_id
        commits = [
            repository.reader.commit(commit_id)
            for commit_id in repository.reader.all_commits()
            if commit_id not in known and is_whole_commit(repository, commit_id)
        ]
        # Many have the same second; the newest of them is nobody's parent.
        parents = {parent for commit in commits for parent in commit.parents}
        for commit in sorted(commits, key=lambda item: (item.id not in parents, item.time))[::-1]:
            yield commit.id

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
            repository.checkout.rebuild_index()
        taken = f"; {len(names)} profiles were taken from the work tree" if names else ""
        self.add(
            "history-damaged",
            "damage",
            f"{problem}; history goes on from {found[:12]}{taken}",
            fixed=True,
        )
        walk = self._walk(repository, repository.refs.head())
        self.report.commits = walk.commits
        if walk.missing:
            self._gap(walk)

    def _gap(self, walk: Walk) -> None:
        self.add(
            "old-history-damaged",
            "damage",
            walk.problem,
            hint="HEAD is whole; older changes cannot be shown or undone",
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
        whole = Wholeness(repository, found)
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

    def _rewrite_reflog(self, path: str, whole: Wholeness) -> None:
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

    def _rewrite_packed_refs(self, whole: Wholeness) -> None:
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
        aside: Path | None = None
        building = _Building(layout.home, f".git.new-{os.getpid()}-{time.time_ns()}")
        try:
            initialise.make_git_directory(building.git_dir)
            names = self._commit_directories(building)
            if _inode(layout.git_dir) != before:
                raise RepositoryBusyError(
                    "the git directory was replaced meanwhile", hint="run the command again"
                )
            if before is not None:
                aside = layout.home / f"{_ASIDE}{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}"
                os.rename(layout.git_dir, aside)
            os.rename(building.git_dir, layout.git_dir)
        finally:
            if before is not None and aside is not None and _inode(layout.git_dir) is None:
                os.rename(aside, layout.git_dir)
            # With damaged files of profiles in it, it is kept.
            if os.path.lexists(building.git_dir) and not building.rescued.is_dir():
                shutil.rmtree(building.git_dir, ignore_errors=True)
        durable.sync_tree((layout.profiles, layout.home))
        kept = f"; the old git directory is {aside}" if aside is not None else ""
        self.add(
            "repository-lost",
            "damage",
            f"{reason}; rebuilt with {len(names)} profiles{kept}",
            fixed=True,
        )
        self._contents()

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
            self.report.commits = self._walk(repository, repository.refs.head()).commits
            return names
        finally:
            repository.close()

    def _directories_by_id(self, known: Iterable[str]) -> list[str]:
        """The profile directories that can be profiles again; no two differ by case only."""
        rules = ProfileValidator()
        found = {name.lower(): name for name in known}
        present = initialise.profile_like_directories(self.layout)
        # Of several, the one that says what it is.
        present.sort(key=lambda name: not os.path.lexists(self.layout.profile(name).metadata))
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
        self._hooks()
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
            repository.checkout.rebuild_index()

    def _hooks(self) -> None:
        hook = self.layout.git_dir / "hooks" / "pre-commit"
        if not os.path.lexists(hook):
            if self.fix:
                initialise.install_hooks(self.layout.git_dir)
            message = "the pre-commit hook is missing, so commits by hand are not checked"
            self.add("hook-missing", "problem", message, fixed=hook.exists())
        elif self.fix:
            initialise.install_hooks(self.layout.git_dir)
        for name in initialise.foreign_hooks(self.layout.git_dir):
            self.add(
                "foreign-hook",
                "note",
                f"the hook {name} is not tweakio's, so commits by hand are not checked",
            )

    def _profiles(self, repository: Repository) -> None:
        head = repository.head()
        for found in repository.work_tree.examine_all(head):
            profile_id = found.profile_id
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


class _Building(Layout):
    """A home whose git directory is being built beside the place of the old one."""

    def __init__(self, home: Path, name: str) -> None:
        super().__init__(home)
        self._name = name

    @cached_property
    def git_dir(self) -> Path:
        return self.profiles / self._name


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


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
