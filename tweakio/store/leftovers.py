"""Copies of sessions and browser data that git has left among its objects.

``git add`` writes what it is given before any hook can refuse it, and ``git stash --all`` as well.
Nothing names these copies, but they stay, and a later packing would carry them on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import time
from typing import TYPE_CHECKING, NamedTuple

from tweakio import durable
from tweakio.errors import (
    NewerFormatError,
    RepositoryBusyError,
    RepositoryDamagedError,
    storage_error,
)
from tweakio.store.elsewhere import objects_elsewhere
from tweakio.store.objects import parse_commit, parse_tree
from tweakio.store.packs.files import unlink
from tweakio.store.packs.format import BLOB, COMMIT, TREE
from tweakio.store.packs.index import gc_is_running
from tweakio.store.packs.loose import loose_objects
from tweakio.store.refs import NO_COMMIT, git_runs_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tweakio.store.packs.loose import Loose
    from tweakio.store.repository import Repository

__all__ = ["SECRET_PATH", "Leftovers", "find_leftovers", "remove_leftovers"]

log = logging.getLogger(__name__)

# Anywhere in a tree: it need not have been made at the top of the work tree.
SECRET_PATH = re.compile(
    r"(?:.*/)?(?:session\.json|browser_profile(?:/.*)?)|[^/]+/cache/.*", re.IGNORECASE | re.DOTALL
)
_PRIVATE_KEY = re.compile(rb"AGE-SECRET-KEY-1|-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----")
_SQLITE = b"SQLite format 3\0"
_BESIDES = (
    *("ORIG_HEAD", "FETCH_HEAD", "MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD"),
    *("REBASE_HEAD", "AUTO_MERGE"),
)
_WAIT = 2.0
_MOST_BYTES = 1 << 28
_IDS = re.compile(r"(?<![0-9a-f])[0-9a-f]{40}(?![0-9a-f])")
_SUBMODULE = b"160000"


class Leftovers(NamedTuple):
    """Loose objects that are a profile's secrets.

    Attributes:
        unnamed: those that nothing names any more.
        others: the ids of the others, of what is staged or stashed, say. They are not to be
            packed: out of a pack nothing can be taken.
    """

    unnamed: list[Loose]
    others: set[str]


def find_leftovers(repository: Repository) -> Leftovers:
    """Look for them.

    No git is asked what names an object: it would read the configuration of the repository, which
    may be somebody else's and name programs. What cannot be told makes nothing unnamed.

    Args:
        repository: where.
    """
    git_dir = repository.layout.git_dir
    found = list(loose_objects(git_dir / "objects"))
    blobs = [item for item in found if item.kind == BLOB]
    if not blobs:
        return Leftovers([], set())
    named = _named(repository)
    tops = [
        item.name
        for item in found
        if item.kind in (COMMIT, TREE) and (named is None or item.name not in named)
    ]
    paths = {
        name
        for top in (tops if named is not None else ())
        for name, path in _walk(repository, [top], set())
        if SECRET_PATH.fullmatch(path)
    }
    here = _content_of_profiles(git_dir.parent, {item.size for item in blobs})
    secrets = [i for i in blobs if i.name in paths or i.name in here or _is_secret(i)]
    unnamed = [item for item in secrets if named is not None and item.name not in named]
    return Leftovers(unnamed, {item.name for item in secrets})


def remove_leftovers(repository: Repository) -> Leftovers:
    """Remove what nothing names; the repository's lock is held.

    Whoever adds to git's index holds its lock meanwhile, and so do we. While some git runs here,
    nothing is removed: what it has just written may not be named yet.

    Returns:
        What was found and removed, and what is left.
    """
    git_dir = repository.layout.git_dir
    found = find_leftovers(repository)
    if not found.unnamed:
        return found
    stays = Leftovers([], found.others)
    if gc_is_running(git_dir / "objects") or git_runs_in(git_dir.parent):
        return stays
    locks = repository.git_locks
    try:
        locks.acquire(repository.refs.branch(), time.monotonic() + _WAIT)
    except RepositoryBusyError:
        return stays
    try:
        found = find_leftovers(repository)
        count = sum(unlink(item.path) for item in found.unnamed)
    finally:
        locks.release()
    log.info("removed %d copies of session or browser data that git had left", count)
    return found


def _named(repository: Repository) -> set[str] | None:
    """The ids of all objects that something names; None if that cannot be told.

    Something is a ref, a reflog, the index, or what git keeps beside them.
    """
    git_dir = repository.layout.git_dir
    if durable.is_there(git_dir / "worktrees") and os.listdir(git_dir / "worktrees"):
        return None  # other work trees have heads and indexes of their own
    try:
        tops = {*repository.refs.names().values(), *_logged(git_dir)}
        index = repository.index_file.read()
        if index is None and durable.is_there(git_dir / "index"):
            return None
        if objects_elsewhere(git_dir) is not None:
            return None
    except (NewerFormatError, RepositoryDamagedError):
        return None
    for name in ("HEAD", *_BESIDES):
        with contextlib.suppress(FileNotFoundError):
            tops.update(_IDS.findall(_text(git_dir / name)))
    seen: set[str] = set() if index is None else {name.hex() for name in index.object_ids()}
    try:
        for _ in _walk(repository, tops, seen, strict=True):
            pass
    except RepositoryDamagedError:
        return None  # what lies below is named, perhaps
    return seen


def _logged(git_dir: Path) -> Iterator[str]:
    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise storage_error(error, "look for what git has left") from error

    for directory, _, files in os.walk(git_dir / "logs", onerror=refuse):
        for file in files:
            yield from _IDS.findall(_text(os.path.join(directory, file)))


def _text(path: Path | str) -> str:
    return durable.read_regular(path, _MOST_BYTES).decode("ascii", "replace")


def _walk(
    repository: Repository, tops: Iterable[str], seen: set[str], *, strict: bool = False
) -> Iterator[tuple[str, str]]:
    """All objects that are below some, each once, and the path at which it was found first.

    Args:
        repository: where.
        tops: the ids of commits, tags, trees or blobs; those that are not there are left out.
        seen: what was found already; what is found is added.
        strict: raise if something below is missing or damaged; else it is left out.
    """
    shallow = set(_IDS.findall(_text_if_there(repository.layout.git_dir / "shallow")))
    todo = [(name, "") for name in tops]
    top = {name for name, _ in todo}
    while todo:
        name, path = todo.pop()
        if name in seen or name == NO_COMMIT:
            continue
        kind, body = repository.reader.read_any(bytes.fromhex(name))
        if not kind:
            if strict and name not in top:
                raise RepositoryDamagedError(f"{name} is missing")
            continue
        seen.add(name)
        yield name, path
        if kind == b"commit":
            commit = parse_commit(name, body)
            todo.append((commit.tree.hex(), ""))
            if name not in shallow:
                todo += [(parent, "") for parent in commit.parents]
        elif kind == b"tag":
            todo += [(found, "") for found in _IDS.findall(body[:64].decode("ascii", "replace"))]
        elif kind == b"tree":
            todo += [
                (entry.id.hex(), f"{path}/{entry.name.decode('utf-8', 'replace')}".lstrip("/"))
                for entry in parse_tree(body)
                if entry.mode != _SUBMODULE
            ]


def _text_if_there(path: Path) -> str:
    try:
        return _text(path)
    except FileNotFoundError:
        return ""


def _content_of_profiles(work_tree: Path, sizes: set[int]) -> set[str]:
    """The ids of sessions and browser data of these sizes that profiles have now."""
    found: set[str] = set()
    with os.scandir(work_tree) as entries:
        names = [entry.path for entry in entries if entry.name != ".git"]
    for profile in names:
        data = os.path.join(profile, "browser_profile")
        if os.path.islink(profile) or os.path.islink(data):
            continue  # what a link leads to is not ours
        _add_id(found, os.path.join(profile, "session.json"), sizes)
        for directory, _, files in os.walk(data):
            for name in files:
                _add_id(found, os.path.join(directory, name), sizes)
    return found


def _add_id(found: set[str], path: str, sizes: set[int]) -> None:
    try:
        size = os.lstat(path).st_size
        # What is shorter is in many files that are no secret.
        if size not in sizes or size < 16:
            return
        with open(path, "rb") as file:
            content = file.read(size + 1)
    except OSError:
        return
    header = b"blob %d\0" % len(content)
    found.add(hashlib.sha1(header + content, usedforsecurity=False).hexdigest())


def _is_secret(item: Loose) -> bool:
    """Whether it is a session, a database of a browser or a private key, by its content."""
    content = item.load()
    if content is None:
        return False
    if content.startswith(_SQLITE) or _PRIVATE_KEY.search(content):
        return True
    if content[:1] != b"{" or (b'"cookies"' not in content and b'"origins"' not in content):
        return False
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and any(
        isinstance(value.get(key), list) and value[key] for key in ("cookies", "origins")
    )
