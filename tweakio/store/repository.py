"""The repository: HEAD, its trees and files, and the one way to change them."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tweakio import durable
from tweakio.errors import (
    DiskFullError,
    FileAccessError,
    LockTimeoutError,
    RepositoryBusyError,
    RepositoryDamagedError,
    TweakioError,
    storage_error,
    system_error,
)
from tweakio.models import LockRecord
from tweakio.owners import refuse_foreign_owner
from tweakio.store import maintenance
from tweakio.store.attic import Attic
from tweakio.store.checkout import Checkout
from tweakio.store.driver import ensure_driver, lacks_driver
from tweakio.store.head import Head, HeadCache
from tweakio.store.hooks import install_hooks
from tweakio.store.index import IndexFile
from tweakio.store.journal import Journal
from tweakio.store.listing import Listing
from tweakio.store.lockfile import RecordedLock, describe_owner
from tweakio.store.moving import finish_moves
from tweakio.store.objects import ObjectReader, find_entry, parse_tree, refuse_imitation
from tweakio.store.refs import NO_COMMIT, GitLocks, Refs
from tweakio.store.transaction import Transaction
from tweakio.store.workshop import Workshop
from tweakio.store.worktree import WorkTree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from tweakio.layout import Layout

__all__ = ["Repository"]

log = logging.getLogger(__name__)

# How much of the time may go into looking for edits of profiles that nobody changes.
_SCAN_SHARE = 50


class Repository:
    """One profile repository, opened.

    Threads may share it; processes each open their own.

    Args:
        layout: where it is; ``initialise.open_repository`` makes sure that it exists.
        timeout: seconds to wait for other programs' locks.
    """

    def __init__(self, layout: Layout, *, timeout: float = 30.0) -> None:
        self.layout = layout
        self.timeout = timeout
        self.refs = Refs(layout.git_dir, layout.temporary)
        self.reader = ObjectReader(layout.git_dir / "objects")
        self.index_file = IndexFile(layout.git_dir / "index", layout.temporary, self.reader)
        self.git_locks = GitLocks(layout.git_dir, layout.locks / "marker")
        self.trash = Attic(layout, layout.trash)
        self.rescued = Attic(layout, layout.rescued)
        self.work_tree = WorkTree(self)
        self.workshop = Workshop(layout.workshop)
        self.listing = Listing(self)
        self.checkout = Checkout(self)
        self._cache = HeadCache(layout.head_cache)
        self._index_lock = layout.git_dir / "index.lock"
        self._head: Head | None = None
        self._lock = RecordedLock(layout.locks / "repository.lock", line=layout.locks / "line")
        self._thread_lock = threading.RLock()
        self._in_transaction = False
        self._scanned_at = float("-inf")
        self._scan_cost = 0.0
        self._directory_time = -1
        self._driver_is_known = False
        self._unfinished = False

    # What HEAD says

    def head(self) -> Head:
        """HEAD's commit and root tree; known parts come from memory or the cache."""
        commit = self.refs.head()
        if self._head is not None and self._head.commit == commit:
            return self._head
        if commit == NO_COMMIT:
            return Head(NO_COMMIT, b"")
        head = self._cache.read(commit)
        if head is None:
            body = self.reader.read(bytes.fromhex(commit), b"commit")
            head = Head(commit, self.root_of(commit), body=body)
            refuse_imitation(head.root)
        self._head = head
        return head

    def last_known_root(self) -> bytes | None:
        """The root tree that a tweakio last made or looked at here."""
        try:
            last = self._cache.last(insist=True)
        except OSError as error:
            raise storage_error(error, "read what was last known of history") from error
        return last.root if last is not None else None

    def remember(self, head: Head) -> None:
        """Keep a head whose profiles were surveyed, for this and for other processes."""
        self._head = head
        self._cache.write(head)

    def forget_head(self) -> None:
        """Let the next opener look at everything, should this process die."""
        self._cache.forget()

    def root_of(self, commit: str) -> bytes:
        """The body of a commit's root tree; empty for ``NO_COMMIT``."""
        if commit == NO_COMMIT:
            return b""
        return self.reader.read(self.reader.commit(commit).tree, b"tree")

    def files_at(self, root: bytes, profile_id: str) -> dict[str, bytes] | None:
        """The regular files directly in one directory of a root tree: name to blob id.

        None if the tree has no such directory.
        """
        entry = find_entry(root, profile_id.encode())
        if entry is None:
            return None
        return {
            child.name.decode("utf-8", "surrogateescape"): child.id
            for child in self.reader.tree(entry.id)
            if child.is_blob
        }

    @staticmethod
    def directory_id(root: bytes, profile_id: str) -> bytes | None:
        """The 20-byte id of a directory in a root tree; equal ids have equal content."""
        entry = find_entry(root, profile_id.encode())
        return entry.id if entry else None

    def file_at(self, root: bytes, profile_id: str, name: str) -> bytes | None:
        """The content of one tracked file in a root tree."""
        blob = (self.files_at(root, profile_id) or {}).get(name)
        return None if blob is None else self.reader.read(blob, b"blob")

    def root_file(self, root: bytes, name: str) -> bytes | None:
        """The content of a tracked file at the root."""
        key = name.encode("utf-8", "surrogateescape")
        if b" %b\0" % key not in root:
            return None  # parsing takes 30 ms at 10,000 profiles
        for entry in parse_tree(root):
            if entry.name == key and entry.is_blob:
                return self.reader.read(entry.id, b"blob")
        return None

    # Changing it

    @contextmanager
    def transaction(
        self,
        operation: str,
        profile_ids: Iterable[str] = (),
        *,
        command: str = "",
        timeout: float | None = None,
    ) -> Iterator[Transaction]:
        """The only way to move the branch.

        Inside the block changes are collected; at its end they become one commit, with the
        moves that belong to it, or nothing. An exception in the block discards them.

        Args:
            operation: one word for the history.
            profile_ids: what will be touched; edits of these by hand are adopted first.
            command: what the user ran, without its arguments.
            timeout: seconds to wait for another program's transaction.

        Raises:
            LockTimeoutError: the repository stayed locked.
            RepositoryBusyError: a person's git operation stayed under way.
            StorageError: nothing was changed.
        """
        with self._locked(self.timeout if timeout is None else timeout):
            self._ensure_driver()
            try:
                transaction = self._begin(operation, command, list(profile_ids))
            except (OSError, ImportError, MemoryError) as error:
                raise _as_storage_error(error, operation) from error
            try:
                yield transaction
                commit_id = transaction.commit()
                if commit_id is not None and maintenance.is_due(commit_id):
                    maintenance.maintain(self)
            except (OSError, ImportError, MemoryError) as error:
                raise _as_storage_error(error, operation) from error
            finally:
                transaction.discard()

    def _begin(self, operation: str, command: str, profile_ids: list[str]) -> Transaction:
        """A transaction that knows which profiles are active where it starts from."""
        attempts = 8
        while True:
            head = self.head()
            head, clean = self.work_tree.reconcile(head, profile_ids, full=self._scan_is_due(head))
            if self._unfinished:
                # Edits by hand were committed but not completed: one thing at a time.
                self._heal()
            attempts -= 1
            if head.surveyed or head.commit == NO_COMMIT or not attempts:
                return Transaction(self, operation, command, clean, head)
            # Plain git, which takes none of our locks, has committed on top of what was adopted.
            # It is looked at, too: an activation that did not know of others would leave them
            # active.

    def _ensure_driver(self) -> None:
        """Install the merge driver and the hooks in a repository that is older than they are."""
        if self._driver_is_known:
            return
        try:
            if lacks_driver(self.layout.git_dir):
                install_hooks(self.layout.git_dir)
                # Last, since it says that the rest is there.
                ensure_driver(self.layout.git_dir, self.layout.temporary)
        except OSError as error:
            log.debug("the merge driver is not installed: %s", error)
        self._driver_is_known = True

    @contextmanager
    def transaction_unreconciled(
        self, operation: str, command: str, *, first: Callable[[], None] | None = None
    ) -> Iterator[Transaction]:
        """A transaction that takes the work tree as it is: for rebuilding history from it.

        Args:
            operation: one word for the history.
            command: what the user ran.
            first: mends what keeps HEAD from being read; called under the lock, before
                anything else looks at the repository.
        """
        with self._locked(self.timeout, first):
            transaction = Transaction(self, operation, command)
            try:
                yield transaction
                transaction.commit()
            finally:
                transaction.discard()

    @contextmanager
    def exclusive_unhealed(self) -> Iterator[None]:
        """Keep other tweakio programs away without reading anything that may be damaged."""
        refuse_foreign_owner(self.layout)
        lock = RecordedLock(self.layout.locks / "repository.lock")
        lock.acquire(self.timeout)
        try:
            _empty(self.layout.temporary)
            yield
        finally:
            lock.release()

    @contextmanager
    def exclusive(self, timeout: float | None = None) -> Iterator[None]:
        """Keep other tweakio programs from changing anything, for maintenance."""
        with self._locked(self.timeout if timeout is None else timeout):
            try:
                yield
            except OSError as error:
                raise _as_storage_error(error, "tidy the profile repository") from error

    def settle(self) -> None:
        """Finish what a program that died left, and follow a person who moved HEAD.

        Openers call this; nothing is done if another program is at work right now. On a
        read-only file system nothing can be done, and HEAD is the truth all the same.
        """
        moved = self._is_unknown_head()
        if not (moved or Journal.exists(self.layout) or self._index_lock.exists()):
            return
        with contextlib.suppress(RepositoryDamagedError), _if_it_can_be_changed(), self._locked(0):
            if moved:
                self.work_tree.settle_directories()
                self.work_tree.survey(self.head())

    def left_unfinished(self) -> None:
        """A change of this object is committed, and an error kept its files from their places."""
        self._unfinished = True

    def settle_own(self) -> None:
        """Finish that before something is shown: nobody else may come who would."""
        if self._unfinished:
            self.settle()

    def _is_unknown_head(self) -> bool:
        """Whether HEAD is a commit that no tweakio made or looked at here."""
        try:
            return not self.head().surveyed
        except TweakioError:
            return False  # the next reading says so better

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Look at the work tree when no other program is in the middle of a change.

        One that does not end, or a place where nothing can be locked, does not keep anybody
        from looking.
        """
        with contextlib.ExitStack() as stack:
            with _if_it_can_be_changed():
                stack.enter_context(self._locked(self.timeout))
            yield

    def is_busy(self, head: Head) -> bool:
        """Whether what was read under this head may be of the middle of a change."""
        return Journal.exists(self.layout) or self.refs.head() != head.commit

    def scanned(self, cost: float) -> None:
        """A look at every profile was taken.

        Args:
            cost: the seconds it took.
        """
        self._scanned_at, self._scan_cost = time.monotonic(), cost
        self._directory_time = os.stat(self.layout.profiles).st_mtime_ns

    def names_changed(self) -> None:
        """This process itself added or removed profile directories."""
        with contextlib.suppress(OSError):
            self._directory_time = os.stat(self.layout.profiles).st_mtime_ns

    def close(self) -> None:
        """Close what was opened."""
        self.reader.close()

    @contextmanager
    def _locked(self, timeout: float, first: Callable[[], None] | None = None) -> Iterator[None]:
        with self._thread_lock:
            if self._in_transaction:
                raise RuntimeError("a transaction was begun inside another")
            lock = self._lock
            refuse_foreign_owner(self.layout)
            try:
                lock.acquire(timeout)
            except LockTimeoutError as error:
                owner = error.details.get("owner")
                raise LockTimeoutError(
                    "the profile repository is being changed by "
                    f"{describe_owner(owner if isinstance(owner, LockRecord) else None)}",
                    hint="run the command again, or give a longer --timeout",
                    owner=owner,
                ) from None
            except OSError as error:
                raise _as_storage_error(error, "lock the profile repository") from error
            self._in_transaction = True
            try:
                try:
                    if first is not None:
                        first()
                    self._heal()
                except OSError as error:
                    raise _as_storage_error(error, "finish an interrupted change") from error
                yield
            finally:
                self._in_transaction = False
                lock.release()

    def _scan_is_due(self, head: Head) -> bool:
        """Whether profiles that will not be touched must be looked at, too.

        Yes at the first change, after somebody else moved HEAD or put directories here, and
        otherwise so rarely that it costs a fiftieth of the time.
        """
        if not head.surveyed:
            return True
        try:
            if os.stat(self.layout.profiles).st_mtime_ns != self._directory_time:
                return True
        except OSError:
            return True
        return time.monotonic() - self._scanned_at >= _SCAN_SHARE * self._scan_cost

    # Healing

    def _heal(self) -> None:
        """Finish or undo what a crash left; the repository's lock is held."""
        layout = self.layout
        # First of all: what follows writes to the same names. What is staged waits until the
        # journal, which may still move it, was dealt with.
        _empty(layout.temporary)
        finish_moves(layout)
        journal = Journal.read(layout)
        if journal is not None:
            log.info("finishing an interrupted change")
            self.checkout.take_over(journal, took_place=self._took_place(journal))
            self._directory_time = -1
            self.rescued.discard_incomplete()
        self._unfinished = False
        if journal is not None or self._index_lock.exists():
            # The first of git's locks to be taken and the last to go.
            with contextlib.suppress(RepositoryBusyError, RepositoryDamagedError):
                self.git_locks.remove_own_dead(journal.branch if journal else self.refs.branch())
        _empty_if_possible(layout.staging)
        try:
            self.workshop.clear()
        except OSError as error:
            log.warning("%s could not be cleared: %s", layout.workshop, error)

    def _took_place(self, journal: Journal) -> bool:
        current = self.refs.resolve(journal.branch) or NO_COMMIT
        if current in (journal.new, journal.old):
            return current == journal.new
        # A person's commits stand on top of it, or they have reset it away.
        with contextlib.suppress(RepositoryDamagedError):
            for commit in self.reader.first_parents(current):
                if commit.id in (journal.new, journal.old):
                    return commit.id == journal.new
        return False

    def set_survey(self, head: Head, *, valid: bool, active: dict[str, int | None]) -> Head:
        """Record what a look at every profile found."""
        surveyed = head._replace(surveyed=True, valid=valid, active=active)
        self.remember(surveyed)
        return surveyed


@contextmanager
def _if_it_can_be_changed() -> Iterator[None]:
    """Go on where others are at work, or nothing may be written; not where nothing can be read.

    In the middle of a change that cannot be finished now, sound profiles look damaged.
    """
    try:
        yield
    except (LockTimeoutError, RepositoryBusyError):
        return
    except OSError as error:
        failure = _as_storage_error(error, "finish an interrupted change")
        if not isinstance(failure, (DiskFullError, FileAccessError)):
            raise failure from error


def _empty_if_possible(directory: Path) -> None:
    """Remove garbage; what cannot be removed must not stop everything that comes after."""
    try:
        _empty(directory)
    except OSError as error:
        log.warning("%s could not be emptied: %s", directory, error)


def _empty(directory: Path) -> None:
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        durable.make_directory(directory)
        return
    for name in names:
        durable.remove_tree(directory / name)


def _as_storage_error(error: Exception, doing: str) -> Exception:
    """What a limit or the device made of it; anything else, one of the tree too, as it is."""
    return system_error(error, doing, ours=True) or error
