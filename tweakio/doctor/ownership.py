"""Whose the files of a home are, and what others can read or write of it."""

from __future__ import annotations

import os
import stat
import sys
from functools import lru_cache
from typing import TYPE_CHECKING

from tweakio import owners
from tweakio.errors import command

if TYPE_CHECKING:
    from tweakio.doctor.case import Case

__all__ = ["look_at_owners"]

_SECRETS = ("identity", "session.json")


def look_at_owners(case: Case) -> None:
    """Report files of another owner, and modes that are too open; mend the modes."""
    if sys.platform == "win32":
        return
    foreign = owners.is_foreign(case.layout)
    # To whoever only looks, the home's owner is right.
    right = os.stat(case.layout.home).st_uid if foreign else os.geteuid()
    others: list[str] = []
    names: set[str] = set()
    opened: list[tuple[str, int]] = []
    for path, status in owners.walk(case.layout.home):
        if status.st_uid != right and not (status.st_uid == 0 and path == str(case.layout.home)):
            others.append(path)
            names.add(owners.name_of(status.st_uid))
        elif wanted := _too_open(path, status):
            opened.append((path, wanted))
    if others:
        case.add(
            "foreign-owner",
            "problem",
            f"{_first(others)} {'belongs' if len(others) == 1 else 'belong'} to "
            f"{', '.join(sorted(names))}, and the home to {owners.name_of(right)}",
            hint="run: " + command("sudo chown -R", owners.name_of(right), case.layout.home),
        )
    if opened:
        if case.fix and not foreign:
            for path, wanted in opened:
                os.chmod(path, wanted)
        case.add(
            "open-mode",
            "problem",
            f"others can read or change {_first([path for path, _ in opened])}",
            fixed=case.fix and not foreign,
        )


def _too_open(path: str, status: os.stat_result) -> int:
    """The mode that something should have; 0 if it has it."""
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISLNK(status.st_mode):
        return 0
    if stat.S_ISREG(status.st_mode) and os.path.basename(path) in _SECRETS:
        return mode & 0o700 if mode & 0o077 else 0
    loose = (
        stat.S_IWOTH
        if _is_group_of_one(status.st_uid, status.st_gid)
        else stat.S_IWOTH | stat.S_IWGRP
    )
    if stat.S_ISDIR(status.st_mode) and mode & stat.S_ISVTX:
        return 0
    return mode & ~loose if mode & loose else 0


@lru_cache(maxsize=64)
def _is_group_of_one(uid: int, gid: int) -> bool:
    """Whether a group is the one that a distribution gives to a user alone."""
    if sys.platform == "win32":
        return True
    import grp
    import pwd

    try:
        own = pwd.getpwuid(uid)
        members = grp.getgrgid(gid).gr_mem
    except (KeyError, OSError):
        return False
    return own.pw_gid == gid and set(members) <= {own.pw_name}


def _first(paths: list[str]) -> str:
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f"{paths[0][:300]!a}{more}"
