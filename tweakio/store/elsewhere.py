"""Repositories some of whose objects are in another place, so that none here is lost.

``git clone --shared`` and ``--reference`` leave objects in the repository that was cloned, and a
partial clone (``--filter``) leaves them with a remote until git needs them. Neither is followed:
``objects/info/alternates`` of a home that somebody handed over may name any place, and a fetch in
the middle of a read would talk to whoever the configuration names. What is missing here for such
a reason is said to be elsewhere, with git's own command that brings it here.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

from tweakio import durable
from tweakio.errors import (
    ForeignRepositoryError,
    StorageError,
    command,
    is_of_the_moment,
    storage_error,
)

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Elsewhere", "git_directory_elsewhere", "objects_elsewhere", "refuse_elsewhere"]

_MOST = 1 << 20
_SECTION = re.compile(r'\[\s*(\w[\w.-]*)(?:\s+"((?:[^"\\\n]|\\.)*)")?\s*\](.*)')
_NO = ("false", "no", "off", "0")


class Elsewhere(NamedTuple):
    """Why an object that is not here need not be lost.

    Attributes:
        reason: what this repository is, as a clause.
        hint: how git brings the objects here.
    """

    reason: str
    hint: str


def objects_elsewhere(git_dir: Path) -> Elsewhere | None:
    """Where else the objects of a repository may be; None if nowhere.

    Raises:
        StorageError: that cannot be told now.
    """
    try:
        return _alternates(git_dir) or _promised(git_dir)
    except OSError as error:
        raise storage_error(error, "look where the objects of history are") from error


def refuse_elsewhere(git_dir: Path, missing: str = "") -> None:
    """Return if every object that is not here is lost.

    Args:
        git_dir: the git directory.
        missing: what is not here, such as ``"commit 0123456789ab"``.

    Raises:
        StorageError: it may be in another place; the hint says how git brings it here.
    """
    found = objects_elsewhere(git_dir)
    if found is not None:
        what = f"{missing} is not here: " if missing else ""
        raise StorageError(f"{what}{found.reason}", hint=found.hint, elsewhere=True)


def git_directory_elsewhere(path: Path) -> ForeignRepositoryError | None:
    """The error for a ``.git`` that is a file and says where the git directory is.

    None if it is something else.
    """
    try:
        first, _, place = _text(path).partition("\n")[0].partition(":")
    except OSError:
        return None
    if first != "gitdir":
        return None
    place = os.path.normpath(os.path.join(path.parent, place.strip()))
    parts = place.replace(os.sep, "/").split("/")
    copy = "make a home of it: " + command("tweakio --home NEW repo clone", path.parent)
    if parts[-2] == "worktrees":
        what, hint = "a linked work tree", copy
    elif "modules" in parts:
        what, hint = "a submodule", copy
    else:
        what = "separated from its git directory"
        hint = "put that back: " + command("rm", path) + " && " + command("mv", place, path)
    return ForeignRepositoryError(f"{path.parent} is {what}, which tweakio does not use", hint=hint)


def _alternates(git_dir: Path) -> Elsewhere | None:
    path = git_dir / "objects" / "info" / "alternates"
    lines = _text(path).split("\n")
    if not any(line.strip() and not line.startswith("#") for line in lines):
        return None
    # Without the option git leaves out what the other one has in packs with a .keep, such as ours.
    repack = f"{command('git -C', git_dir.parent)} repack -ad --pack-kept-objects"
    return Elsewhere(
        "objects of this repository are in another one (objects/info/alternates)",
        f"run: {repack} && {command('rm', path)}",
    )


def _promised(git_dir: Path) -> Elsewhere | None:
    remote = _promisor(git_dir)
    if remote is None:
        return None
    fetch = f"{command('git -C', git_dir.parent)} fetch --refetch --no-filter"
    return Elsewhere(
        "this repository is a partial clone, whose other objects are with its remote",
        f"run: {command(fetch, *([remote] if remote else []))}",
    )


def _promisor(git_dir: Path) -> str | None:
    """The remote of a partial clone, by git's configuration or by its packs."""
    for name in ("config", "config.worktree"):
        section = remote = ""
        for line in _text(git_dir / name).split("\n"):
            rest = line.strip()
            if (head := _SECTION.match(rest)) is not None:
                section, remote, rest = head[1].lower(), head[2] or "", head[3].strip()
            key, _, value = rest.partition("=")
            key, value = key.strip().lower(), value.strip().strip('"')
            if section == "extensions" and key == "partialclone" and value:
                return value
            if section == "remote" and key == "promisor" and value.lower() not in _NO:
                return remote
    try:
        names = os.listdir(git_dir / "objects" / "pack")
    except OSError as error:
        if is_of_the_moment(error):
            raise
        names = []
    return "" if any(name.endswith(".promisor") and name[0] != "." for name in names) else None


def _text(path: Path) -> str:
    try:
        return durable.read_regular(path, _MOST).decode("utf-8", "replace")
    except OSError as error:
        if is_of_the_moment(error):
            raise
        return ""
