"""History that was cut here, or lost, brought back from a remote that has it.

A shallow clone has no more than its newest commits, and where a commit was lost the doctor tells
git to look no further; both stand in ``.git/shallow``. A remote mostly has what is below. It is
fetched whole and by itself, as by a clone: nothing that is damaged here can then stand in its way,
and nothing that it lacks is taken for there. It is looked at like everything that is fetched.
"""

from __future__ import annotations

import hashlib
import logging
import time
from typing import TYPE_CHECKING, NamedTuple

from tweakio import durable
from tweakio.doctor.wholeness import shallow_commits, unreadable
from tweakio.errors import RepositoryDamagedError, StorageError, TweakioError, storage_error
from tweakio.store.refs import NO_COMMIT
from tweakio.sync.configuration import read_remotes
from tweakio.sync.graph import Graph
from tweakio.sync.quarantine import quarantine
from tweakio.sync.transport import find_transport
from tweakio.sync.urls import check_name, check_url
from tweakio.validation import validate_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from tweakio.store.repository import Repository
    from tweakio.sync.quarantine import Quarantine
    from tweakio.sync.transport import Transport

    _Look = Callable[[str], tuple[tuple[str, ...], set[str]]]

__all__ = ["Healed", "heal", "healer"]

log = logging.getLogger(__name__)

_SECONDS = 120.0
_LOCK_WAIT = 30.0
_KEPT = "refs/tweakio/kept/"
_MOST_MARK = 4096


class Healed(NamedTuple):
    """What came back.

    Attributes:
        remotes: the names of the remotes that had something.
        found: of the lost objects, those that are here again.
        joined: the commits at which history was cut and is not any more.
        notes: why a remote was of no use, one line for each.
    """

    remotes: tuple[str, ...] = ()
    found: tuple[str, ...] = ()
    joined: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def heal(
    repository: Repository,
    transport: Transport,
    lost: Collection[str] = (),
    *,
    remotes: Mapping[str, str] | None = None,
    seconds: float = _SECONDS,
    again: bool = True,
) -> Healed:
    """Fetch what is lost here from the remotes, and undo the cuts that it makes needless.

    No lock of the repository is held by the caller. Nothing is changed but that objects come in,
    and that ``.git/shallow`` and the doctor's own refs no longer say what is not so any more. A
    remote that is of no use is noted, and is no error.

    Args:
        repository: where; it may be damaged.
        transport: moves objects.
        lost: the hexadecimal ids of objects that cannot be read, beside those below a cut.
        remotes: names and addresses; all that are configured by default.
        seconds: how long all of it may take.
        again: ask a remote that had nothing of it the last time, though it has not changed.
    """
    until = time.monotonic() + seconds
    attempt = _Attempt(repository, transport, lost)
    if not attempt.wanted():
        return Healed(joined=attempt.join())
    try:
        known = read_remotes(repository.layout) if remotes is None else dict(remotes)
    except TweakioError as error:
        return Healed(notes=(error.message,))
    notes = []
    helped = []
    for name in sorted(known, key=lambda name: (name != "origin", name)):
        left = until - time.monotonic()
        if left <= 0:
            notes.append(f"'{name}' was not asked: the time was over")
            continue
        try:
            if attempt.fetch(check_name(name), check_url(known[name]), left, again=again):
                helped.append(name)
        except OSError as error:
            if not isinstance(error, TweakioError):
                raise storage_error(error, "fetch what is lost") from error
            if isinstance(error, StorageError):
                raise
            notes.append(f"'{name}': {error.message}")
        except TweakioError as error:
            notes.append(f"'{name}': {error.message}")
        if not attempt.wanted():
            break
    joined = attempt.join()
    found = tuple(sorted(name for name in lost if attempt.has(name)))
    return Healed(tuple(helped), found, joined, tuple(notes))


def healer(
    repository: Repository, lost: Collection[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What the doctor calls: ``heal``, told in lines: what came back, and what was of no use."""
    try:
        if not read_remotes(repository.layout):
            return (), ()
    except TweakioError:
        return (), ()  # the configuration is damaged, too, which is said
    healed = heal(repository, find_transport(), lost)
    places = ", ".join(f"'{name}'" for name in healed.remotes)
    came = []
    if healed.found or healed.remotes:
        came.append(f"what was lost of the history was fetched from {places}")
    if healed.joined:
        cuts = ", ".join(commit[:12] for commit in healed.joined)
        came.append(f"the history before {cuts} is here again")
    return tuple(came), tuple(f"nothing that is lost was fetched from {n}" for n in healed.notes)


class _Attempt:
    """One attempt at a repository, with any number of remotes."""

    def __init__(self, repository: Repository, transport: Transport, lost: Collection[str]) -> None:
        self._repository = repository
        self._transport = transport
        self._lost = frozenset(lost)
        self._git_dir = repository.layout.git_dir
        self._cut = shallow_commits(self._git_dir)

    def has(self, name: str) -> bool:
        """Whether an object is here and can be read."""
        return bool(self._repository.reader.read_any(bytes.fromhex(name))[0])

    def wanted(self) -> set[str]:
        """The ids of the objects that are looked for: what is lost, and what is below cuts."""
        # What a remote is known to have had leads to all that it had.
        names = self._repository.refs.names()
        found = {*self._lost, *(c for n, c in names.items() if n.startswith("refs/remotes/"))}
        found = {name for name in found if name != NO_COMMIT and not self.has(name)}
        for missing in self._below(shallow_commits(self._git_dir)).values():
            found |= missing
        return found

    def fetch(self, name: str, url: str, seconds: float, *, again: bool) -> bool:
        """Fetch a remote's branch whole; whether it had something that is wanted."""
        repository = self._repository
        began = time.monotonic()
        with quarantine(repository.layout, None, (), min(_LOCK_WAIT, seconds)) as place:
            branches, named = self._transport.branches(url, place.path)
            branch = self._branch()
            if branch not in branches:
                branch = named if named in branches and named is not None else branch
            tip = branches.get(branch)
            if tip is None:
                return False
            mark = self._mark(url, tip)
            if not again and self._read_mark() == mark:
                return False
            left = seconds - (time.monotonic() - began)
            commit = self._transport.fetch(url, branch, place.path, max(left, 1.0))
            if commit is None:
                return False
            place.check_bounds()
            validate_tree(place.commit(commit).tree, place.read)
            if not any(place.has(wanted) for wanted in self.wanted()):
                self._write_mark(mark)
                return False
            self._take_over(place)
        log.info("fetched what '%s' has of what is lost here", name)
        return True

    def _take_over(self, place: Quarantine) -> None:
        repository = self._repository
        with repository.exclusive_unhealed():
            kept = place.take_over(self._git_dir / "objects")
            repository.reader.close()
            self._open()
            for keep in kept:
                durable.remove(keep)

    def _branch(self) -> str:
        try:
            return self._repository.refs.branch().removeprefix("refs/heads/")
        except TweakioError:
            return "main"  # HEAD may be what is damaged

    def join(self) -> tuple[str, ...]:
        """Undo the cuts below which all is there, whoever brought it; the commits of all undone."""
        now = shallow_commits(self._git_dir)
        if now and self._needless(now):
            with self._repository.exclusive_unhealed():
                self._open()
        return tuple(sorted(self._cut - shallow_commits(self._git_dir)))

    def _open(self) -> None:
        """Take out of ``.git/shallow`` what is needless; the repository's lock is held."""
        before = shallow_commits(self._git_dir)
        needless = self._needless(before)
        if not needless:
            return
        path, lock = self._git_dir / "shallow", self._git_dir / "shallow.lock"
        left = sorted(before - needless)
        # Git's own lock of the file, which a "git fetch" that is under way holds.
        try:
            durable.create(lock, "".join(f"{name}\n" for name in left).encode())
        except FileExistsError:
            log.info("git is changing where history is cut; the next pull looks again")
            return
        try:
            if left:
                durable.move(lock, path)
            else:
                durable.remove(path)
        finally:
            durable.remove(lock)
        durable.fsync_directory(self._git_dir)
        self._drop_kept(left)

    def _needless(self, cut: set[str]) -> set[str]:
        """The commits of ``cut`` whose whole past can be read, down to other cuts at most."""
        return {name for name, missing in self._below(cut).items() if not missing}

    def _below(self, cut: set[str]) -> dict[str, set[str]]:
        """For each commit at which history is cut: what cannot be read of it and its past."""
        reader = self._repository.reader
        seen: set[bytes] = set()
        known: dict[str, tuple[tuple[str, ...], set[str]]] = {}

        def look(name: str) -> tuple[tuple[str, ...], set[str]]:
            if name not in known:
                try:
                    commit = reader.commit(name)
                    missing, _ = unreadable(self._repository, commit.tree, seen)
                    known[name] = commit.parents, missing
                except RepositoryDamagedError:
                    known[name] = (), {name}
            return known[name]

        found: dict[str, set[str]] = {name: set() for name in cut}
        while True:
            stay = {name for name, missing in found.items() if missing}
            for name in cut - stay:
                found[name] = _missing_from(name, stay, look)
            if stay == {name for name, missing in found.items() if missing}:
                return found

    def _drop_kept(self, cut: Collection[str]) -> None:
        """Remove the names that the doctor gave to what HEAD leads to again."""
        repository = self._repository
        names = {n: c for n, c in repository.refs.names().items() if n.startswith(_KEPT)}
        if not names:
            return
        try:
            before = Graph(repository.reader.commit, cut).ancestors(repository.refs.head())
        except TweakioError:
            return
        for name, commit in names.items():
            if commit in before:
                durable.remove(self._git_dir / name)

    # So that a remote that has nothing of it is not fetched whole with every pull.

    def _mark(self, url: str, tip: str) -> bytes:
        text = "\n".join((url, tip, *sorted(self.wanted())))
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest().encode()

    def _mark_path(self) -> Path:
        return self._repository.layout.head_cache.with_name("unhealed")

    def _read_mark(self) -> bytes:
        try:
            return durable.read_regular(self._mark_path(), _MOST_MARK)
        except OSError:
            return b""  # it is only asked once more

    def _write_mark(self, mark: bytes) -> None:
        path = self._mark_path()
        try:
            durable.make_directory(path.parent)
            durable.remove(path)
            durable.create(path, mark, sync=False)
        except OSError as error:
            log.debug("not noted that the remote has nothing of it: %s", error)


def _missing_from(name: str, cut: set[str], look: _Look) -> set[str]:
    """What cannot be read of a commit and of what is before it, down to cuts."""
    found: set[str] = set()
    todo, known = [name], {name}
    while todo:
        commit = todo.pop()
        parents, missing = look(commit)
        found |= missing
        if commit not in cut:
            todo += [parent for parent in parents if parent not in known]
            known.update(parents)
    return found
