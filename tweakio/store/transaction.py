"""One change: collected in memory and in a staging directory, then published in one step."""

from __future__ import annotations

import json
import logging
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tweakio import durable, identity, schema
from tweakio.errors import (
    ConcurrentChangeError,
    InvalidMetadataError,
    NewerFormatError,
    ProfileNotFoundError,
    RepositoryBusyError,
    RepositoryDamagedError,
)
from tweakio.store.head import Head
from tweakio.store.journal import Journal, Move, move_on
from tweakio.store.objects import (
    BLOB_MODE,
    EMPTY_TREE,
    ObjectWriter,
    TreeEntry,
    edit_tree,
    find_entry,
    object_id,
    parse_tree,
    serialise_tree,
)
from tweakio.store.refs import NO_COMMIT, operation_in_progress

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from datetime import datetime
    from pathlib import Path

    from tweakio.store.attic import Attic, Kind
    from tweakio.store.checkout import Placement
    from tweakio.store.repository import Repository
    from tweakio.store.worktree import Found

__all__ = ["Transaction"]

log = logging.getLogger(__name__)

METADATA = "metadata.json"


class Transaction:
    """Collects one change; ``Repository.transaction`` makes and commits it.

    Attributes:
        summary: the first line of the commit's message.
        record_always: commit even if no tracked file changes.
        rebasable: whether it stays right on top of what plain git commits meanwhile, if that
            touches other profiles.
        commit_id: the new commit, once there is one.
    """

    def __init__(
        self,
        repository: Repository,
        operation: str,
        command: str,
        examined: Mapping[str, Found] | None = None,
        base: Head | None = None,
    ) -> None:
        self.summary = operation
        self.record_always = False
        self.rebasable = True
        self.commit_id: str | None = None
        self._repository = repository
        self._operation = operation
        self._command = command
        self._base = base or repository.head()
        self._files: dict[str, dict[str, bytes | None]] = {}
        self._root_files: dict[str, bytes | None] = {}
        self._parents: list[str] = []
        self._notes: list[str] = []
        self._removed: set[str] = set()
        self._unchecked: set[str] = set()
        self._contents: dict[str, set[bytes]] = {}
        self._trailers: list[tuple[str, str]] = []
        self._moves: list[Move] = []
        self._purge: list[str] = []
        # What was clean a moment ago; a file edited since then stays in any case.
        self._examined = examined or {}
        self._body = b""
        self._staging: Path | None = None
        self._placements: list[Placement] | None = None
        self._pid = os.getpid()

    # What is there

    @property
    def head(self) -> Head:
        """The state that the change starts from."""
        return self._base

    def exists(self, profile_id: str) -> bool:
        """Whether the profile exists, this change included."""
        if profile_id in self._removed:
            return False
        return profile_id in self._files or self._entry(profile_id) is not None

    def is_at_base(self, profile_id: str) -> bool:
        """Whether the profile existed before this change."""
        return self._entry(profile_id) is not None

    def touches(self, profile_id: str) -> bool:
        """Whether the change has something to do with a profile."""
        return profile_id in self._files or profile_id in self._removed

    def sets_only(self, profile_id: str, keys: Collection[str]) -> bool:
        """Whether the change does nothing else with a profile than setting some of its metadata.

        Args:
            profile_id: which; nothing of it is moved.
            keys: of the metadata, which may be set.
        """
        content = self._files.get(profile_id, {}).get(METADATA)
        before = self._repository.file_at(self._base.root, profile_id, METADATA)
        if content is None or before is None or len(self._files[profile_id]) > 1:
            return False
        try:
            old, new = json.loads(before), json.loads(content)
            return all(old.get(key) == new.get(key) for key in {*old, *new}.difference(keys))
        except (ValueError, TypeError, AttributeError, RecursionError):
            return False

    def touched(self) -> set[str]:
        """The profiles of which that is so."""
        return {*self._files, *self._removed}

    def has_changes(self) -> bool:
        """Whether anything was collected."""
        return bool(self._files or self._removed or self._moves or self._root_files)

    def profile_ids(self) -> list[str]:
        """The names of the directories at the base."""
        return [
            entry.name.decode("utf-8", "surrogateescape")
            for entry in parse_tree(self._base.root)
            if entry.is_tree
        ]

    def may_have(self, profile_ids: Iterable[str]) -> bool:
        """False if the base certainly has none of these ids, in whatever case.

        A search in the raw tree: at 10,000 profiles its names take 30 ms to read.
        """
        lowered = self._base.root.lower()
        return any(b"40000 %b\0" % name.lower().encode() in lowered for name in profile_ids)

    def metadata(self, profile_id: str) -> dict[str, Any]:
        """A profile's metadata as committed, this change included.

        Raises:
            ProfileNotFoundError: there is no such profile.
            InvalidMetadataError: what is committed does not fit the schema.
        """
        changed = self._files.get(profile_id, {}).get(METADATA)
        if changed is None:
            changed = self._repository.file_at(self._base.root, profile_id, METADATA)
        if changed is None or profile_id in self._removed:
            raise ProfileNotFoundError(
                f"no profile '{profile_id}'",
                hint="run 'tweakio profile list'",
                profile_id=profile_id,
            )
        if self._base.surveyed and self._base.valid and profile_id not in self._unchecked:
            return schema.load_trusted(changed, profile_id)
        return schema.load(changed, profile_id)

    def file(self, profile_id: str, name: str) -> bytes | None:
        """A tracked file of a profile, this change included; None if there is none."""
        if profile_id in self._removed:
            return None
        if name in self._files.get(profile_id, {}):
            return self._files[profile_id][name]
        return self._repository.file_at(self._base.root, profile_id, name)

    def examine(self, profile_id: str) -> Found | None:
        """The profile as it stands in the work tree; None if the base has no such profile."""
        found = self._examined.get(profile_id)
        if found is None:
            found = self._repository.work_tree.examine(self._base, profile_id)
        return found

    def has_content(self, name: str, content: bytes) -> bool:
        """Whether a profile has just this content in a tracked file of this name.

        What the change has put so far counts as well. The first question costs a look at the
        whole index, further ones nothing.
        """
        if name not in self._contents:
            self._contents[name] = self._blobs_at_base(name)
            for files in self._files.values():
                self._know_content(name, files.get(name))
        return object_id(b"blob", content) in self._contents[name]

    def _know_content(self, name: str, content: bytes | None) -> None:
        if content is not None and name in self._contents:
            self._contents[name].add(object_id(b"blob", content))

    def _blobs_at_base(self, name: str) -> set[bytes]:
        """The ids of the contents of one tracked file, of all profiles."""
        index = self._repository.index_file.read()
        written = self._base.index_checksum
        if index is not None and written and written == self._repository.index_file.checksum():
            # It is the one that was written with the base, so it is as the base is; the trees
            # of all profiles take a hundred times as long to read.
            end = f"/{name}".encode()
            return {header[40:60] for path, header in index.entries().items() if path.endswith(end)}
        found = set()
        for profile_id in self.profile_ids():
            with suppress(RepositoryDamagedError):  # what cannot be read is nobody's content
                files = self._repository.files_at(self._base.root, profile_id) or {}
                found |= {blob for child, blob in files.items() if child == name}
        return found

    # Collecting

    def put(self, profile_id: str, name: str, content: bytes | None) -> None:
        """Set a tracked file of a profile, or remove it with None."""
        self._files.setdefault(profile_id, {})[name] = content
        self._know_content(name, content)
        self._unchecked.add(profile_id)

    def put_root(self, name: str, content: bytes | None) -> None:
        """Set a tracked file at the root of the repository, or remove it with None.

        Args:
            name: of a file that tweakio knows, such as ``.gitignore``; never a person's text.
            content: its bytes.
        """
        self._root_files[name] = content

    def root_file(self, name: str) -> bytes | None:
        """The content of a tracked file at the root, this change included."""
        if name in self._root_files:
            return self._root_files[name]
        return self._repository.root_file(self._base.root, name)

    def add_parent(self, commit_id: str) -> None:
        """Make it a merge: the commit gets a further parent, whose objects are here already."""
        self._parents.append(commit_id)
        self.record_always = True
        # What it merges with is the state that it began from.
        self.rebasable = False

    def add_note(self, line: str) -> None:
        """Add a line to the commit's message that people read, between summary and trailers."""
        self._notes.append(line)

    def put_metadata(self, profile_id: str, value: Mapping[str, Any]) -> None:
        """Set a profile's metadata, after checking it.

        Raises:
            InvalidMetadataError: it does not fit the schema.
            NewerFormatError: the profile was written by a newer tweakio.
        """
        content = schema.dump(schema.validate(value))
        self._files.setdefault(profile_id, {})[METADATA] = content

    def stage(self, name: str) -> Path:
        """A new directory to build in, which becomes something else's place by a move."""
        path = self._place_to_stage(name)
        durable.make_directory(path)
        return path

    def take_in(self, name: str, built: Path) -> Path:
        """Stage a directory that was built in the workshop.

        What a change moves is the store's to sweep, whatever becomes of the change.
        """
        path = self._place_to_stage(name)
        os.rename(built, path)
        return path

    def _place_to_stage(self, name: str) -> Path:
        self._refuse_fork()
        if self._staging is None:
            import secrets

            self._staging = self._repository.layout.staging / secrets.token_hex(8)
            durable.make_directory(self._staging)
        return self._staging / name

    def move(self, source: Path, target: Path) -> None:
        """Rename something in the same step as the commit; nothing may be at the target."""
        relative = self._repository.layout.relative
        self._moves.append(Move(relative(source), relative(target)))

    def remove(self, profile_id: str) -> None:
        """Take a profile out of the tree; its directory is moved by ``keep``."""
        self._files.pop(profile_id, None)
        self._removed.add(profile_id)

    def keep(
        self,
        attic: Attic,
        profile_id: str,
        kind: Kind,
        created_at: datetime | None,
        parts: dict[str, Path] | Path,
    ) -> str:
        """Move a directory, or some of its parts, into the attic.

        Args:
            attic: the trash or the rescued.
            profile_id: whose they are.
            kind: see ``TrashEntry``.
            created_at: the profile's identity besides its id, if known.
            parts: what to move: one directory as a whole, or names and paths.

        Returns:
            The entry's name, which the commit records.
        """
        durable.make_directory(attic.root)
        entry = attic.prepare(self.stage("attic"), profile_id, kind, created_at)
        kept = attic.root / entry.name
        if isinstance(parts, dict):
            durable.make_directory(entry / "data")
        # The record first: then every directory that receives something has its final path
        # and can be synced by it.
        self.move(entry, kept)
        if isinstance(parts, dict):
            for name, path in parts.items():
                self.move(path, kept / "data" / name)
        else:
            self.move(parts, kept / "data")
        self._trailers.append(("Tweakio-Trash", entry.name))
        return entry.name

    def purge_after(self, path: Path) -> None:
        """Remove a directory for good once the change has taken place."""
        self._purge.append(self._repository.layout.relative(path))

    def add_trailer(self, name: str, value: str) -> None:
        """Add a line to the commit's message that programs read."""
        self._trailers.append((name, value))

    # Publishing

    def commit(self) -> str | None:
        """Make the change durable; None if there is nothing to change."""
        self._refuse_fork()
        repository = self._repository
        layout = repository.layout
        branch = repository.refs.branch()
        locks = repository.git_locks
        writer = ObjectWriter(layout.git_dir / "objects", layout.temporary, locks.marker)
        built = self._build(writer)
        if built is None:
            return None
        repository.reader.coming = writer
        try:
            with durable.Batch() as batch:
                # Before git's locks, since compressing much takes long.
                writer.prepare(batch)
                return self._commit_built(built, branch, writer, batch)
        finally:
            repository.reader.coming = None

    def _commit_built(
        self,
        built: tuple[str, bytes, str],
        branch: str,
        writer: ObjectWriter,
        batch: durable.Batch,
    ) -> str:
        """The same, when the objects are being written."""
        repository = self._repository
        layout = repository.layout
        locks = repository.git_locks
        locks.acquire(branch, time.monotonic() + repository.timeout)
        try:
            if repository.refs.branch() != branch:
                raise ConcurrentChangeError(
                    "another branch was checked out just now", hint="run the command again"
                )
            if repository.refs.resolve(branch) != self._base.commit:
                self._rebase(repository.head())
                again = self._build(writer)
                assert again is not None
                built = again
                writer.prepare(batch)
            commit_id, root, line = built
            index = repository.index_file.read()
            # Nobody can begin a merge any more now that index.lock is ours.
            if what := operation_in_progress(layout.git_dir):
                raise self._busy(what)
            if index is not None and index.conflicts:
                raise RepositoryBusyError(
                    "the profile repository has unresolved conflicts",
                    hint=f"resolve them: git -C {layout.profiles} status",
                )
            journal = Journal(
                branch=branch,
                old=self._base.commit,
                new=commit_id,
                reflog=line,
                profiles=tuple(sorted({*self._files, *self._removed})),
                root_files=tuple(sorted(self._root_files)),
                moves=tuple(self._moves),
                purge=tuple(self._purge),
            )
            interruption = self._publish(journal, root, writer, batch)
            self.commit_id = commit_id
            interruption = self._complete(journal, root) or interruption
        finally:
            # While the index may not be as HEAD is, plain git must not use it.
            locks.release(keep=Journal.exists(layout))
        if interruption is not None:
            raise interruption
        return commit_id

    def _refuse_fork(self) -> None:
        """The change is the parent's, which holds the lock, and so is what was staged."""
        if self._pid != os.getpid():
            raise ConcurrentChangeError(
                "this process was forked in the middle of its parent's change",
                hint="make the change in one of them",
            )

    def _busy(self, what: str) -> RepositoryBusyError:
        return RepositoryBusyError(
            f"a {what} is under way in the profile repository",
            hint=f"finish it or run 'git -C {self._repository.layout.profiles} {what} --abort'",
        )

    def discard(self) -> None:
        """Remove what was staged and did not become part of the repository."""
        if self._pid != os.getpid():
            return
        if self._staging is not None and not Journal.exists(self._repository.layout):
            try:
                durable.remove_tree(self._staging)
            except OSError:
                log.debug("staging is left to the next transaction", exc_info=True)

    def _publish(
        self, journal: Journal, root: bytes, writer: ObjectWriter, batch: durable.Batch
    ) -> BaseException | None:
        """Up to the commit point; a Ctrl-C that came just after it, to be raised at the end."""
        layout = self._repository.layout
        checkout = self._repository.checkout
        try:
            if journal.moves:
                # They change what is there: only when it is known what they are of.
                journal.write(layout)
                move_on(layout, journal.moves)
            else:
                journal.prepare(layout, batch)
            prepared = checkout.prepare(journal, self._base, root, batch)
            self._placements = prepared.placements
            # One commit of the file system's journal for all of this instead of one for the
            # objects, one for ours and one for the rest: an activation took 7.2 ms, not 9.3.
            batch.sync()
            writer.put_in_place()
            checkout.publish(journal, prepared)
        except BaseException as error:
            batch.discard()
            if self._repository.refs.resolve(journal.branch) == journal.new:
                # The branch has moved and only the sync after it failed.
                log.warning("the commit point was reached but not confirmed", exc_info=True)
                return None if isinstance(error, Exception) else error
            # If this fails as well, the journal stays and the next opener does it.
            self._repository.checkout.take_back(journal)
            raise
        return None

    def _complete(self, journal: Journal, root: bytes) -> BaseException | None:
        """What follows the commit point: an error here is no failed operation.

        Returns:
            A Ctrl-C that came meanwhile, to be raised when all is done.
        """
        repository = self._repository
        interruption: BaseException | None = None
        try:
            try:
                repository.checkout.finish(journal, self._placements)
            except Exception:
                raise
            except BaseException as error:
                interruption = error
                repository.checkout.finish(journal)
        except (OSError, RepositoryDamagedError) as error:
            log.warning("committed; the next command completes the work tree (%s)", error)
            repository.left_unfinished()
        first = self._base.commit == NO_COMMIT
        # After a head with invalid metadata the next change looks again: it may be mended.
        known = first or (self._base.surveyed and self._base.valid)
        if known and self._is_valid():
            repository.remember(
                Head(
                    journal.new,
                    root,
                    surveyed=True,
                    valid=True,
                    active=self._active(),
                    index_checksum=repository.index_file.checksum(),
                    body=self._body,
                )
            )
        if self._moves:
            repository.names_changed()
        return interruption

    def _is_valid(self) -> bool:
        """Whether all metadata of the change fits the schema: an undo may bring back what a
        person had committed."""
        try:
            for profile_id in self._unchecked - self._removed:
                content = self._files.get(profile_id, {}).get(METADATA)
                if content is not None:
                    schema.load(content, profile_id)
        except (InvalidMetadataError, NewerFormatError):
            return False
        return True

    def _active(self) -> dict[str, int | None]:
        active = dict(self._base.active)
        for profile_id in self._removed:
            active.pop(profile_id, None)
        for profile_id, files in self._files.items():
            content = files.get(METADATA)
            if content is not None:
                value = schema.load_trusted(content, profile_id)
                active.pop(profile_id, None)
                if value.get("status") == "active":
                    active[profile_id] = value.get("lock_pid")
        return active

    def _rebase(self, head: Head) -> None:
        """Take over what plain git committed meanwhile, if it touched other things."""
        if not self.rebasable:
            raise ConcurrentChangeError(
                "another program made a change just now", hint="run the command again"
            )
        for profile_id in {*self._files, *self._removed}:
            name = profile_id.encode()
            if find_entry(head.root, name) != find_entry(self._base.root, name):
                raise ConcurrentChangeError(
                    f"profile '{profile_id}' was changed by another program just now",
                    hint="run the command again",
                    profile_id=profile_id,
                )
        now, then = _root_blobs(head.root), _root_blobs(self._base.root)
        if any(now.get(name) != then.get(name) for name in self._root_files):
            raise ConcurrentChangeError(
                "another program made a change just now", hint="run the command again"
            )
        self._base = head

    def _build(self, writer: ObjectWriter) -> tuple[str, bytes, str] | None:
        """Queue the objects; the commit's id, its root tree and its reflog line."""
        edits: dict[bytes, bytes | None] = {
            profile_id.encode(): None for profile_id in self._removed
        }
        for profile_id, files in self._files.items():
            edits[profile_id.encode()] = self._build_directory(writer, profile_id, files)
        root = edit_tree(self._base.root, edits)
        if self._root_files:
            root = self._with_root_files(writer, root)
        if root == self._base.root and not self.record_always and self._base.commit != NO_COMMIT:
            return None
        tree = writer.add(b"tree", root)
        author = identity.author(self._repository.layout.git_dir / "config")
        stamp = identity.stamp(int(time.time()))
        message = self._message()
        first = () if self._base.commit == NO_COMMIT else (self._base.commit,)
        parents = "".join(f"parent {commit}\n" for commit in (*first, *self._parents))
        body = (
            f"tree {tree.hex()}\n{parents}author {author} {stamp}\n"
            f"committer {author} {stamp}\n\n{message}"
        )
        self._body = body.encode("utf-8", "replace")
        commit_id = self._add(writer, b"commit", self._body).hex()
        line = f"{self._base.commit} {commit_id} {author} {stamp}\ttweakio: {self.summary}\n"
        return commit_id, root, line

    def _with_root_files(self, writer: ObjectWriter, root: bytes) -> bytes:
        changed = {
            name.encode("utf-8", "surrogateescape"): content
            for name, content in self._root_files.items()
        }
        entries = [entry for entry in parse_tree(root) if entry.name not in changed]
        entries += [
            TreeEntry(BLOB_MODE, name, self._add(writer, b"blob", content))
            for name, content in changed.items()
            if content is not None
        ]
        return serialise_tree(entries)

    def _build_directory(
        self, writer: ObjectWriter, profile_id: str, files: Mapping[str, bytes | None]
    ) -> bytes | None:
        entry = self._entry(profile_id)
        children = (
            {child.name: child for child in self._repository.reader.tree(entry.id)} if entry else {}
        )
        for name, content in files.items():
            key = name.encode("utf-8", "surrogateescape")
            if content is None:
                children.pop(key, None)
            else:
                children[key] = TreeEntry(BLOB_MODE, key, self._add(writer, b"blob", content))
        tree = self._add(writer, b"tree", serialise_tree(children.values()))
        return None if tree == EMPTY_TREE else tree

    def _add(self, writer: ObjectWriter, kind: bytes, body: bytes) -> bytes:
        name = writer.add(kind, body)
        self._repository.reader.remember(name.hex(), kind, body)
        return name

    def _entry(self, profile_id: str) -> TreeEntry | None:
        return find_entry(self._base.root, profile_id.encode())

    def _message(self) -> str:
        notes = [*self._notes, ""] if self._notes else []
        lines = [self.summary, "", *notes, f"Tweakio-Op: {self._operation}"]
        lines += [f"Tweakio-Profile: {name}" for name in sorted({*self._files, *self._removed})]
        if self._command:
            lines.append(f"Tweakio-Command: {self._command}")
        lines += [f"{name}: {value}" for name, value in self._trailers]
        return "\n".join(lines) + "\n"


def _root_blobs(root: bytes) -> dict[str, bytes]:
    return {
        entry.name.decode("utf-8", "surrogateescape"): entry.id
        for entry in parse_tree(root)
        if entry.is_blob
    }
