"""The frame of a git directory: what has to be there before git or we can read any of it."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from tweakio import durable
from tweakio.store import initialise
from tweakio.store.frame import misplaced
from tweakio.store.refs import Refs, is_ref_name

if TYPE_CHECKING:
    from pathlib import Path

    from tweakio.doctor.case import Case
    from tweakio.layout import Layout

__all__ = ["Skeleton", "branch_of", "looks_gutted"]


class Skeleton:
    """Directories, HEAD and config.

    Args:
        case: the examination that it is part of.
    """

    def __init__(self, case: Case) -> None:
        self._case = case

    def problem(self) -> str:
        """What is broken; empty if nothing is."""
        git_dir = self._case.layout.git_dir
        for name in misplaced(git_dir):
            return f"{name[:200]!r} is a link or a special file"
        for name in ("objects", "refs"):
            if not (git_dir / name).is_dir():
                return f"{name}/ is missing"
        if not (git_dir / "HEAD").is_file() or not _valid_head(git_dir / "HEAD"):
            return "HEAD is missing or damaged"
        if not _valid_config(git_dir / "config"):
            return "config is missing or damaged"
        return ""

    def mend(self) -> None:
        """Make what is missing; what was damaged is kept aside."""
        git_dir = self._case.layout.git_dir
        for name in misplaced(git_dir):
            # Not below tweakio/, which may itself be what is put aside.
            aside = f"{name.replace('/', '-')}-aside-{time.time_ns()}"
            os.rename(git_dir / name, git_dir / aside)
        for name in ("objects", "objects/pack", "refs", "refs/heads"):
            if os.path.lexists(git_dir / name) and not (git_dir / name).is_dir():
                self._case.keep(git_dir / name)
            durable.make_directory(git_dir / name)
        for name, valid, content in (
            ("HEAD", _valid_head, f"ref: {self._likely_branch()}\n".encode()),
            ("config", _valid_config, initialise.CONFIG.encode()),
        ):
            path = git_dir / name
            if not valid(path):
                if os.path.lexists(path):
                    self._case.keep(path)
                durable.create(path, content)
        durable.fsync_directory(git_dir)

    def _likely_branch(self) -> str:
        """The branch that HEAD was on: the one whose commit HEAD's reflog ends with."""
        refs = Refs(self._case.layout.git_dir, self._case.layout.temporary)
        last = next((new for _, new in refs.reflog()), None)
        branches = {n: c for n, c in refs.names().items() if n.startswith("refs/heads/")}
        if not branches or "refs/heads/main" in branches:
            return "refs/heads/main"
        return next((name for name, commit in branches.items() if commit == last), min(branches))


def _valid_head(path: Path) -> bool:
    try:
        content = durable.read_regular(path, 4096).strip()
    except OSError:
        return False
    if len(content) == 40:
        return all(byte in b"0123456789abcdef" for byte in content)
    name = content.decode("utf-8", "replace")
    return name.startswith("ref: refs/heads/") and is_ref_name(name[5:])


def _valid_config(path: Path) -> bool:
    try:
        text = durable.read_regular(path, 1 << 20).decode()
    except (OSError, UnicodeDecodeError):
        return False
    return "[core]" in text.replace(" ", "") and "\0" not in text


def branch_of(head: Path) -> str:
    """The branch that a HEAD names; main if it names none."""
    content = durable.read_regular(head, 4096).decode("utf-8", "replace").strip()
    named = content.startswith("ref: refs/heads/") and is_ref_name(content[5:])
    return content[5:] if named else "refs/heads/main"


def looks_gutted(layout: Layout) -> bool:
    """A git directory that is not anybody's any more: empty, or without objects and HEAD."""
    if not layout.git_dir.is_dir() or layout.git_dir.is_symlink():
        return False
    return not (layout.git_dir / "objects").is_dir() or not (layout.git_dir / "HEAD").exists()
