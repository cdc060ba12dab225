"""A new git directory from the work tree, when the old one cannot be mended."""

from __future__ import annotations

import os
import shutil
import time
from functools import cached_property
from typing import TYPE_CHECKING

from tweakio import durable
from tweakio.doctor.past import Past
from tweakio.doctor.remains import counted, logged_commits
from tweakio.doctor.report import Kept
from tweakio.doctor.tracking import Tracking
from tweakio.errors import RepositoryBusyError, command
from tweakio.layout import Layout
from tweakio.store import initialise
from tweakio.store.repository import Repository

if TYPE_CHECKING:
    from pathlib import Path

    from tweakio.doctor.case import Case

__all__ = ["rebuild", "take_over_attics"]


def rebuild(case: Case, reason: str) -> bool:
    """Make a new git directory from the work tree, and put the old one aside.

    The new one is complete, with every profile in its history, before it takes the place.

    Returns:
        Whether it was made; without ``fix`` its want is reported only.
    """
    if not case.fix:
        case.add("repository-lost", "damage", reason)
        return False
    layout = case.layout
    loss = _loss(layout)
    if not case.agrees(loss):
        case.add(
            "repository-lost",
            "damage",
            f"{reason}; to rebuild it from the profile directories would give up {loss}",
            hint="to agree to that, run 'tweakio repo doctor --fix --yes'",
        )
        return False
    before = _inode(layout.git_dir)
    aside: Path | None = None
    building = _Building(layout.home, f"{initialise.BUILDING}{os.getpid()}-{time.time_ns()}")
    try:
        initialise.make_git_directory(building.git_dir)
        names = _commit_directories(case, building)
        if _inode(layout.git_dir) != before:
            raise RepositoryBusyError(
                "the git directory was replaced meanwhile", hint="run the command again"
            )
        if before is not None:
            aside = (
                layout.home / f"{initialise.ASIDE}{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}"
            )
            os.rename(layout.git_dir, aside)
        os.rename(building.git_dir, layout.git_dir)
    finally:
        if before is not None and aside is not None and _inode(layout.git_dir) is None:
            os.rename(aside, layout.git_dir)
        # With damaged files of profiles in it, it is kept.
        if durable.is_there(building.git_dir) and not building.rescued.is_dir():
            shutil.rmtree(building.git_dir, ignore_errors=True)
    durable.sync_tree((layout.profiles, layout.home))
    kept = ""
    if aside is not None:
        kept = f"; the old git directory is {aside}"
        # The new one goes where the next repair finds the trash that it has taken over.
        back = (
            command("cd", layout.home),
            command("mv", f"{layout.profiles.name}/.git", f"{aside.name}-new"),
            command("mv", aside.name, f"{layout.profiles.name}/.git"),
        )
        case.report.kept.append(Kept(os.fspath(aside), " && ".join(back)))
    message = f"{reason}; rebuilt with {len(names)} profiles; given up is {loss}{kept}"
    case.add("repository-lost", "damage", message, fixed=True)
    return True


def _loss(layout: Layout) -> str:
    """What a new git directory does not have of the old one."""
    logged = logged_commits(layout.git_dir) if _inode(layout.git_dir) is not None else set()
    return "the whole history" + (f": {counted(len(logged), 'commit')}" if logged else "")


def take_over_attics(case: Case) -> None:
    """Take the trash, the rescued, the snapshots and what was confirmed on this machine out of git
    directories that were put aside.
    """
    for aside in sorted(case.layout.home.glob(f"{initialise.ASIDE}*")):
        if aside.is_symlink() or (aside / "tweakio").is_symlink():
            continue  # elsewhere, and nothing of ours
        for old, new in (
            (aside / "tweakio" / "trash", case.layout.trash),
            (aside / "tweakio" / "rescued", case.layout.rescued),
            (aside / "tweakio" / "trusted", case.layout.trusted),
        ):
            if not old.is_dir() or old.is_symlink():
                continue
            _take_over(old, new)
        _take_over_snapshots(case.layout, aside)


def _take_over_snapshots(layout: Layout, aside: Path) -> None:
    old = aside / "tweakio" / layout.snapshots.name
    if old.is_dir() and not old.is_symlink():
        for directory in list(old.iterdir()):
            if directory.is_dir() and not directory.is_symlink():
                durable.make_directory(layout.snapshots)
                _take_over(directory, layout.snapshots / directory.name)
    for target in (layout.snapshot_store, layout.confirmed, layout.key_ring):
        kept = aside / "tweakio" / target.name
        if kept.is_file() and not kept.is_symlink() and not os.path.lexists(target):
            os.rename(kept, target)
            durable.fsync_directory(layout.local)


def _take_over(old: Path, new: Path) -> None:
    durable.make_directory(new)
    for name in os.listdir(old):
        if not os.path.lexists(new / name):
            os.rename(old / name, new / name)
    durable.sync_tree((old, new, new.parent))


def _commit_directories(case: Case, layout: Layout) -> list[str]:
    repository = Repository(layout)
    try:
        with repository.transaction_unreconciled("rebuild", case.command) as change:
            names = Tracking(case, repository, change).put()
            change.summary = f"rebuild history from {len(names)} profile directories"
            change.record_always = bool(names)
        case.report.commits = Past(case, repository).walk(repository.refs.head()).commits
        return names
    finally:
        repository.close()


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
