"""Copies of sessions and browser data that git has left among its objects.

``git add`` writes what it is given before any hook can refuse it, and ``git stash --all`` as well.
Nothing names these copies, but they stay, and a later packing would carry them on.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import subprocess
import time
from typing import TYPE_CHECKING, NamedTuple

from tweakio.errors import RepositoryBusyError
from tweakio.store.packs.files import unlink
from tweakio.store.packs.format import BLOB, COMMIT, TREE
from tweakio.store.packs.index import gc_is_running
from tweakio.store.packs.loose import loose_objects
from tweakio.store.refs import git_runs_in

if TYPE_CHECKING:
    from collections.abc import Iterable
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


class Leftovers(NamedTuple):
    """Loose objects that are a profile's secrets.

    Attributes:
        unnamed: those that nothing names any more.
        others: the ids of the others, of what is staged or stashed, say. They are not to be
            packed: out of a pack nothing can be taken.
    """

    unnamed: list[Loose]
    others: set[str]


def find_leftovers(git_dir: Path) -> Leftovers:
    """Look for them.

    Git says what is named: by refs, reflogs, the index and other work trees. Without a git
    program nothing is taken for unnamed; then no git has left anything either.

    Args:
        git_dir: the git directory.
    """
    found = list(loose_objects(git_dir / "objects"))
    blobs = [item for item in found if item.kind == BLOB]
    if not blobs:
        return Leftovers([], set())
    paths: set[str] = set()
    named: set[str] | None = None
    try:
        named = _named(git_dir)
        tops = [i.name for i in found if i.kind in (COMMIT, TREE) and i.name not in named]
        paths = _paths(git_dir, tops)
    except (OSError, subprocess.SubprocessError) as error:
        log.debug("what git has left is not known: %s", error)
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
    found = find_leftovers(git_dir)
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
        found = find_leftovers(git_dir)
        count = sum(unlink(item.path) for item in found.unnamed)
    finally:
        locks.release()
    log.info("removed %d copies of session or browser data that git had left", count)
    return found


def _git(git_dir: Path, *arguments: str, data: str = "") -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    done = subprocess.run(
        ["git", "--git-dir", os.fspath(git_dir), *arguments],
        check=True,
        input=data,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
        errors="surrogateescape",
        env={**environment, "GIT_NO_REPLACE_OBJECTS": "1"},
    )
    return done.stdout


def _named(git_dir: Path) -> set[str]:
    """The ids of all objects that something names."""
    besides = []
    for name in _BESIDES:
        try:
            with open(git_dir / name, encoding="ascii", errors="replace") as file:
                besides += re.findall(r"^[0-9a-f]{40}", file.read(1 << 20), re.MULTILINE)
        except FileNotFoundError:
            continue
    listed = _git(
        git_dir,
        *("rev-list", "--objects", "--no-object-names", "--ignore-missing", "--stdin"),
        *("--all", "--reflog", "--indexed-objects"),
        data="".join(f"{commit}\n" for commit in besides),
    )
    return set(listed.split())


def _paths(git_dir: Path, tops: Iterable[str]) -> set[str]:
    """The blobs that commits and trees without a name have in the places of secrets."""
    data = "".join(f"{name}\n" for name in tops)
    if not data:
        return set()
    found = set()
    for line in _git(
        git_dir, "rev-list", "--objects", "--ignore-missing", "--stdin", data=data
    ).split("\n"):
        name, _, path = line.partition(" ")
        if path and SECRET_PATH.fullmatch(path):
            found.add(name)
    return found


def _content_of_profiles(work_tree: Path, sizes: set[int]) -> set[str]:
    """The ids of sessions and browser data of these sizes that profiles have now."""
    found: set[str] = set()
    with os.scandir(work_tree) as entries:
        names = [entry.path for entry in entries if entry.name != ".git"]
    for profile in names:
        _add_id(found, os.path.join(profile, "session.json"), sizes)
        for directory, _, files in os.walk(os.path.join(profile, "browser_profile")):
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
