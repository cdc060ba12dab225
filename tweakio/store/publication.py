"""From what a change has collected to a commit: the objects, the commit point, what follows it."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from tweakio import durable, identity, schema
from tweakio.errors import (
    ConcurrentChangeError,
    InvalidMetadataError,
    NewerFormatError,
    RepositoryBusyError,
    RepositoryDamagedError,
    command,
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
from tweakio.store.refs import NO_COMMIT
from tweakio.store.rules import RULES, is_weaker
from tweakio.store.underway import under_way

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tweakio.store.checkout import Placement
    from tweakio.store.repository import Repository

__all__ = ["METADATA", "MOST_SEALED", "SEALED", "Collected", "Publication"]

log = logging.getLogger(__name__)

METADATA = "metadata.json"
SEALED = "session.json.age"
"""The session as the vault seals it; there only with a vault."""
MOST_SEALED = 64 << 20
"""What is read of one; of every other file, ``schema.MAX_BYTES``."""
_SOUND = {name: object_id(b"blob", content) for name, content in RULES.items()}


class Collected:
    """What a change will do.

    Attributes:
        head: the state that it starts from.
        operation, command: for the history.
        summary: the first line of the commit's message.
        notes: further lines for people.
        trailers: lines for programs.
        record_always: commit even if no tracked file changes.
        rebasable: whether it stays right on top of what plain git commits meanwhile, if that
            touches other profiles.
        files: the content of tracked files by profile and name; None removes one.
        root_files: the same at the root of the repository.
        removed: the profiles that leave the tree.
        unchecked: those whose metadata did not have to fit the schema.
        parents: of a merge, besides the head.
        moves: what is renamed together with the commit.
        purge: what is removed for good after it, relative to the home.
        commit_id: the new commit, once there is one.
    """

    def __init__(self, head: Head, operation: str, command: str) -> None:
        self.head = head
        self.operation = operation
        self.command = command
        self.summary = operation
        self.notes: list[str] = []
        self.trailers: list[tuple[str, str]] = []
        self.record_always = False
        self.rebasable = True
        self.files: dict[str, dict[str, bytes | None]] = {}
        self.root_files: dict[str, bytes | None] = {}
        self.removed: set[str] = set()
        self.unchecked: set[str] = set()
        self.parents: list[str] = []
        self.moves: list[Move] = []
        self.purge: list[str] = []
        self.commit_id: str | None = None

    def touched(self) -> set[str]:
        """The profiles that it has something to do with."""
        return {*self.files, *self.removed}

    def entry(self, profile_id: str) -> TreeEntry | None:
        """A profile's tree at the head."""
        return find_entry(self.head.root, profile_id.encode())


class Publication:
    """Makes a commit of it; the repository's lock is held."""

    def __init__(self, repository: Repository, change: Collected) -> None:
        self._repository = repository
        self._change = change
        self._body = b""
        self._placements: list[Placement] | None = None

    def commit(self) -> str | None:
        """Make the change durable; None if there is nothing to change."""
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
            if repository.refs.resolve(branch) != self._change.head.commit:
                self._rebase(repository.head())
                again = self._build(writer)
                assert again is not None
                built = again
                writer.prepare(batch)
            commit_id, root, line = built
            index = repository.index_file.read()
            # Nobody can begin a merge any more now that index.lock is ours.
            if found := under_way(layout.git_dir):
                raise RepositoryBusyError(
                    f"a {found.what} is under way in the profile repository",
                    hint=found.hint(layout.profiles),
                )
            if index is not None and index.conflicts:
                raise RepositoryBusyError(
                    "the profile repository has unresolved conflicts",
                    hint="resolve them and add the files, or give them up: "
                    + command("git -C", layout.profiles, then="reset --merge"),
                )
            journal = Journal(
                branch=branch,
                old=self._change.head.commit,
                new=commit_id,
                reflog=line,
                profiles=tuple(sorted(self._change.touched())),
                root_files=tuple(sorted(self._change.root_files)),
                moves=tuple(self._change.moves),
                purge=tuple(self._change.purge),
            )
            interruption = self._publish(journal, root, writer, batch)
            self._change.commit_id = commit_id
            interruption = self._complete(journal, root) or interruption
        finally:
            # While the index may not be as HEAD is, plain git must not use it.
            locks.release(keep=Journal.may_exist(layout))
        if interruption is not None:
            raise interruption
        return commit_id

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
            prepared = checkout.prepare(journal, self._change.head, root, batch)
            self._placements = prepared.placements
            # One commit of the file system's journal for all of this instead of one for the
            # objects, one for ours and one for the rest: an activation took 7.2 ms, not 9.3.
            batch.sync()
            writer.put_in_place()
            checkout.publish(journal, prepared)
        except BaseException as error:  # Ctrl-C as well: half a change must not stay
            batch.discard()
            if self._took_place(journal):
                # The branch has moved and only the sync after it failed.
                log.warning("the commit point was reached but not confirmed", exc_info=True)
                return None if isinstance(error, Exception) else error
            # If this fails as well, the journal stays and the next opener does it.
            self._repository.checkout.take_back(journal)
            raise
        return None

    def _took_place(self, journal: Journal) -> bool:
        """Whether the commit point was reached before an error."""
        refs = self._repository.refs
        # What the error was may keep the branch from being read as well.
        return refs.moved_to == journal.new or refs.resolve(journal.branch) == journal.new

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
            except BaseException as error:  # Ctrl-C: raised when the change is complete
                interruption = error
                repository.checkout.finish(journal)
        except (OSError, RepositoryDamagedError, ImportError, MemoryError) as error:
            log.warning("committed; the next command completes the work tree (%s)", error)
            repository.left_unfinished()
        first = self._change.head.commit == NO_COMMIT
        # After a head with invalid metadata the next change looks again: it may be mended.
        known = first or (self._change.head.surveyed and self._change.head.valid)
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
        if self._change.moves:
            repository.names_changed()
        return interruption

    def _is_valid(self) -> bool:
        """Whether all metadata of the change fits the schema: an undo may bring back what a
        person had committed."""
        try:
            for profile_id in self._change.unchecked - self._change.removed:
                content = self._change.files.get(profile_id, {}).get(METADATA)
                if content is not None:
                    schema.load(content, profile_id)
        except (InvalidMetadataError, NewerFormatError):
            return False
        return True

    def _active(self) -> dict[str, int | None]:
        change = self._change
        active = dict(change.head.active)
        for profile_id in change.removed:
            active.pop(profile_id, None)
        for profile_id, files in change.files.items():
            content = files.get(METADATA)
            if content is not None:
                value = schema.load_trusted(content, profile_id)
                active.pop(profile_id, None)
                if value.get("status") == "active":
                    active[profile_id] = value.get("lock_pid")
        return active

    def _rebase(self, head: Head) -> None:
        """Take over what plain git committed meanwhile, if it touched other things."""
        change = self._change
        if not change.rebasable:
            raise ConcurrentChangeError(
                "another program made a change just now", hint="run the command again"
            )
        for profile_id in change.touched():
            name = profile_id.encode()
            if find_entry(head.root, name) != find_entry(change.head.root, name):
                raise ConcurrentChangeError(
                    f"profile '{profile_id}' was changed by another program just now",
                    hint="run the command again",
                    profile_id=profile_id,
                )
        now, then = _root_blobs(head.root), _root_blobs(change.head.root)
        if any(now.get(name) != then.get(name) for name in change.root_files):
            raise ConcurrentChangeError(
                "another program made a change just now", hint="run the command again"
            )
        change.head = head

    def _build(self, writer: ObjectWriter) -> tuple[str, bytes, str] | None:
        """Queue the objects; the commit's id, its root tree and its reflog line."""
        change = self._change
        self._keep_rules()
        edits: dict[bytes, bytes | None] = {
            profile_id.encode(): None for profile_id in change.removed
        }
        for profile_id, files in change.files.items():
            edits[profile_id.encode()] = self._build_directory(writer, profile_id, files)
        root = edit_tree(change.head.root, edits)
        if change.root_files:
            root = self._with_root_files(writer, root)
        if (
            root == change.head.root
            and not change.record_always
            and change.head.commit != NO_COMMIT
        ):
            return None
        tree = writer.add(b"tree", root)
        author = identity.author(self._repository.layout.git_dir / "config")
        stamp = identity.stamp(int(time.time()))
        message = self._message()
        first = () if change.head.commit == NO_COMMIT else (change.head.commit,)
        parents = "".join(f"parent {commit}\n" for commit in (*first, *change.parents))
        body = (
            f"tree {tree.hex()}\n{parents}author {author} {stamp}\n"
            f"committer {author} {stamp}\n\n{message}"
        )
        self._body = body.encode("utf-8", "replace")
        commit_id = self._add(writer, b"commit", self._body).hex()
        line = f"{change.head.commit} {commit_id} {author} {stamp}\ttweakio: {change.summary}\n"
        return commit_id, root, line

    def _keep_rules(self) -> None:
        """Have every commit keep sessions from git: put back what a person took away of it."""
        change = self._change
        for name, content in RULES.items():
            present: bytes | None = content
            if name in change.root_files:
                present = change.root_files[name]
            elif b"100644 %b\0%b" % (name.encode(), _SOUND[name]) not in change.head.root:
                present = self._repository.root_file(change.head.root, name)
            if is_weaker(name, present):
                change.root_files[name] = content
                change.notes.append(f"puts {name} back, which keeps sessions out of history")
            elif not durable.is_there(self._repository.layout.profiles / name):
                change.root_files[name] = present

    def _with_root_files(self, writer: ObjectWriter, root: bytes) -> bytes:
        changed = {
            name.encode("utf-8", "surrogateescape"): content
            for name, content in self._change.root_files.items()
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
        entry = self._change.entry(profile_id)
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

    def _message(self) -> str:
        change = self._change
        notes = [*change.notes, ""] if change.notes else []
        lines = [change.summary, "", *notes, f"Tweakio-Op: {change.operation}"]
        lines += [f"Tweakio-Profile: {name}" for name in sorted(change.touched())]
        if change.command:
            lines.append(f"Tweakio-Command: {change.command}")
        lines += [f"{name}: {value}" for name, value in change.trailers]
        return "\n".join(lines) + "\n"


def _root_blobs(root: bytes) -> dict[str, bytes]:
    return {
        entry.name.decode("utf-8", "surrogateescape"): entry.id
        for entry in parse_tree(root)
        if entry.is_blob
    }
