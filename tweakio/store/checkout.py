"""The index and the work tree's files, brought to a commit or back from it.

The index is written before the branch moves. ``git commit`` reads HEAD first, then the index,
and takes ``index.lock`` only after that: with an index that is never older than HEAD, a commit
of what it read is refused by git's own comparison of HEAD, where it would otherwise take the
change back.

The files are written before as well, so that the index can have their stat data; what is left
for after the commit point is to rename them. That changes their ctime, which git is told not
to look at (``core.trustctime``).
"""

from __future__ import annotations

import logging
import os
import stat
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from tweakio import durable
from tweakio.errors import RepositoryDamagedError, is_of_the_moment
from tweakio.store.attic import Attic
from tweakio.store.index import Index, entry_header, files_below
from tweakio.store.journal import Journal, move_back
from tweakio.store.moving import place
from tweakio.store.objects import object_id, parse_tree
from tweakio.store.refs import NO_COMMIT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tweakio.store.head import Head
    from tweakio.store.index import Staged
    from tweakio.store.repository import Repository

__all__ = ["Checkout", "Placement", "Prepared"]

log = logging.getLogger(__name__)

_GIT_LOCK_WAIT = 30.0
_STAGED = "checkout-"
_MOST_BYTES = 64 << 20


class Placement(NamedTuple):
    """One file to put in place.

    Attributes:
        path: where.
        content: the new file under its temporary name; None to remove the present one.
        expected: the blob that must still be there; None if nothing must be.
    """

    path: Path
    content: Path | None
    expected: bytes | None


class Prepared(NamedTuple):
    """What was written for a change and is not yet at its place.

    Attributes:
        new_index: not yet at its place; None if it stays as it is.
        placements: the files of the work tree.
    """

    new_index: Staged | None
    placements: list[Placement]


class Checkout:
    """What a transaction does to the index and the work tree around its commit point.

    The caller of every method holds the repository's lock and, but for ``take_over``,
    ``rebuild_index`` and ``update_index``, git's three.

    Args:
        repository: which one.
    """

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._layout = repository.layout

    def prepare(
        self, journal: Journal, before: Head, after: bytes, batch: durable.Batch
    ) -> Prepared:
        """Write the new files, the index and the branch, none of them at its place.

        Args:
            journal: of the transaction.
            before: the state that is changed.
            after: the root tree of the new commit.
            batch: which takes them to the disk.
        """
        repository = self._repository
        staged = None
        entries, placements = self._stage(journal, before.root, after, batch)
        index = repository.index_file.read()
        if index is None:
            index = self._index_of(after)
        elif repository.index_file.checksum() != before.index_checksum:
            # Written by another program since we last looked.
            entries = {**repository.work_tree.outdated_entries(index, before.root), **entries}
        if entries:
            staged = repository.index_file.prepare(index.edit(entries), batch)
        repository.refs.prepare(journal.new, batch)
        return Prepared(staged, placements)

    def publish(self, journal: Journal, prepared: Prepared) -> None:
        """Put the index and then the branch in place, when all is on the disk.

        With the branch the commit point is reached.
        """
        if prepared.new_index is not None:
            self._repository.index_file.put_in_place(prepared.new_index)
        self._repository.refs.put_in_place(journal.branch)

    def finish(
        self,
        journal: Journal,
        placements: list[Placement] | None = None,
        *,
        insist: bool = True,
    ) -> None:
        """All that follows the commit point.

        Every step can be repeated. Files that are neither as the commit before nor as the
        one after had them were edited meanwhile and stay.

        Args:
            journal: of the transaction.
            placements: as ``prepare`` returned them; None if that was in another process, or
                if it is not the first try.
            insist: keep the journal if a trash entry cannot be removed, to try once more.
        """
        repository = self._repository
        line = journal.reflog.encode("utf-8", "replace")
        for name in ("HEAD", journal.branch):
            repository.refs.append_reflog(name, line)
        if placements is None:
            before = self._root_or_empty(journal.old)
            after = repository.root_of(repository.refs.resolve(journal.branch) or journal.new)
            with durable.Batch() as batch:
                entries, placements = self._stage(journal, before, after, batch)
            index = repository.index_file.read()
            if index is None:
                index = self._index_of(after)
            repository.index_file.write(index.edit(entries))
        self._place(placements)
        for name in journal.purge:
            self._purge(name, insist=insist)
        if journal.moves:
            # Directories are now as the new commit wants them. If a crash comes before the
            # cache is written again, the old one would tell the next opener otherwise.
            repository.forget_head()
        Journal.drop(self._layout)

    def take_back(self, journal: Journal) -> None:
        """Undo what was done before a commit point that was not reached.

        Files stay as they are: none was written yet, and one that is as the commit would have
        had it is a person's edit that the commit was to adopt.
        """
        repository = self._repository
        move_back(self._layout, journal.moves)
        self._discard_staged()
        head = self._root_or_empty(repository.refs.resolve(journal.branch) or NO_COMMIT)
        entries: dict[bytes, bytes | None] = {}
        for prefix, old, new in self._changes(journal, head, self._root_or_empty(journal.new)):
            for name in old.keys() | new.keys():
                key, path = _key(prefix, name), self._layout.profiles / prefix / name
                status = os.lstat(path) if name in old and _blob_of(path) == old[name] else None
                entries[key] = entry_header(old[name], status, key) if name in old else None
        index = repository.index_file.read()
        if index is None:
            repository.index_file.write(self._index_of(head))
        elif any(index.blob(path) != _blob_in(header) for path, header in entries.items()):
            repository.index_file.write(index.edit(entries))
        Journal.drop(self._layout)

    def take_over(self, journal: Journal, *, took_place: bool) -> None:
        """End the transaction of a process that died.

        Its locks are taken over: did they go first, a ``git commit`` in between would find an
        index that does not go with HEAD.

        Args:
            journal: of the transaction.
            took_place: whether it reached its commit point.
        """
        locks = self._repository.git_locks
        locks.acquire(journal.branch, time.monotonic() + _GIT_LOCK_WAIT)
        try:
            if took_place:
                self.finish(journal, insist=False)
            else:
                self.take_back(journal)
        finally:
            locks.release(keep=Journal.may_exist(self._layout))

    def rebuild_index(self) -> None:
        """Write a new index from HEAD."""
        with self._git_locks():
            repository = self._repository
            repository.index_file.write(self._index_of(repository.head().root))

    def update_index(self) -> None:
        """Bring entries up to date that are not as HEAD although the files are."""
        with self._git_locks():
            repository = self._repository
            index = repository.index_file.read()
            if index is not None:
                root = repository.head().root
                entries = repository.work_tree.outdated_entries(index, root)
                repository.index_file.write(index.edit(entries))

    @contextmanager
    def _git_locks(self) -> Iterator[None]:
        repository = self._repository
        repository.git_locks.acquire(repository.refs.branch(), time.monotonic() + _GIT_LOCK_WAIT)
        try:
            yield
        finally:
            repository.git_locks.release()

    def _changes(
        self, journal: Journal, before: bytes, after: bytes
    ) -> Iterable[tuple[str, dict[str, bytes], dict[str, bytes]]]:
        """For each directory of a change: its prefix, its files before and its files after."""
        for profile_id in journal.profiles:
            yield (
                f"{profile_id}/",
                self._repository.files_at(before, profile_id) or {},
                self._repository.files_at(after, profile_id) or {},
            )
        if journal.root_files:
            old, new = _root_files(before), _root_files(after)
            names = journal.root_files
            yield (
                "",
                {name: old[name] for name in names if name in old},
                {name: new[name] for name in names if name in new},
            )

    def _stage(
        self, journal: Journal, before: bytes, after: bytes, batch: durable.Batch
    ) -> tuple[dict[bytes, bytes | None], list[Placement]]:
        """Write the files of a change under temporary names.

        Returns:
            The index entries to set, and what is to be put in place.
        """
        entries: dict[bytes, bytes | None] = {}
        placements: list[Placement] = []
        for prefix, old, new in self._changes(journal, before, after):
            directory = self._layout.profiles / prefix if prefix else self._layout.profiles
            there = _is_directory(directory)
            for name in sorted(old.keys() | new.keys()):
                path = directory / name
                if name in new and old.get(name) == new[name] and durable.is_there(path):
                    continue
                key = _key(prefix, name)
                found = _blob_of(path) if there else None
                placement = None
                if name in new and there and found in (None, old.get(name)):
                    # What is no file of ours is a person's, or damaged; it stays.
                    if found is not None or not durable.is_there(path):
                        placement = self._write(batch, path, new[name], found, len(placements))
                elif name not in new and found is not None and found == old.get(name):
                    placement = Placement(path, None, found)
                if placement is not None:
                    placements.append(placement)
                entries[key] = None
                if name in new:
                    seen = placement.content if placement is not None else None
                    if seen is None and found == new[name]:
                        seen = path
                    status = os.lstat(seen) if seen is not None else None
                    entries[key] = entry_header(new[name], status, key)
        return entries, placements

    def _write(
        self, batch: durable.Batch, path: Path, blob: bytes, found: bytes | None, number: int
    ) -> Placement:
        temporary = self._layout.temporary / f"{_STAGED}{number}"
        durable.remove(temporary)
        batch.create(temporary, self._repository.reader.read(blob, b"blob"))
        return Placement(path, temporary, found)

    def _discard_staged(self) -> None:
        for name in os.listdir(self._layout.temporary):
            durable.remove_tree(self._layout.temporary / name)

    def _place(self, placements: list[Placement]) -> None:
        """Put files in place, or remove them, unless somebody edited them just now."""
        directories = set()
        for path, content, expected in placements:
            if _blob_of(path) != expected or (expected is None and durable.is_there(path)):
                if content is not None:
                    durable.remove(content)
                continue
            if content is None:
                durable.remove(path)
            else:
                durable.move(content, path)
                directories.add(path.parent)
        durable.sync_tree(sorted(directories))

    def _purge(self, name: str, *, insist: bool) -> None:
        """Remove a trash entry that a change used up, or was told not to keep."""
        try:
            entry = place(self._layout, name)
            Attic(self._layout, entry.parent).discard(entry.name)
        except OSError as error:
            # One file that cannot be removed must not stop every change from now on. What
            # is left of the entry is tried again whenever the work tree is looked through.
            if insist:
                raise
            log.warning("%s could not be removed: %s", name, error)

    def _root_or_empty(self, commit: str) -> bytes:
        # The state before a rebuilt history may be unreadable; then no file is as it was.
        try:
            return self._repository.root_of(commit)
        except RepositoryDamagedError:
            return b""

    def _index_of(self, root: bytes) -> Index:
        """A whole index from a root tree; git compares the files by content then."""
        try:
            files = files_below(root, lambda name: self._repository.reader.read(name, b"tree"))
            return Index.build(
                {path: entry_header(blob, None, path, mode) for path, mode, blob in files}
            )
        except ValueError as error:
            raise RepositoryDamagedError(
                f"HEAD has {error}",
                hint="no tweakio has made that commit; go back to an older one with git",
            ) from None


def _key(prefix: str, name: str) -> bytes:
    return f"{prefix}{name}".encode("utf-8", "surrogateescape")


def _blob_in(header: bytes | None) -> bytes | None:
    return None if header is None else header[40:60]


def _root_files(root: bytes) -> dict[str, bytes]:
    return {
        entry.name.decode("utf-8", "surrogateescape"): entry.id
        for entry in parse_tree(root)
        if entry.is_blob
    }


def _is_directory(path: os.PathLike[str]) -> bool:
    return stat.S_ISDIR(durable.mode_of(os.fspath(path).rstrip("/\\")))


def _blob_of(path: os.PathLike[str]) -> bytes | None:
    """The id of a file's content; None if nothing is there, or no file that could be ours.

    Raises:
        OSError: it cannot be read now. Left as it is, it would be taken for a person's edit that
            takes the change back.
    """
    try:
        return object_id(b"blob", durable.read_regular(os.fspath(path), _MOST_BYTES))
    except OSError as error:
        if is_of_the_moment(error):
            raise
        return None
