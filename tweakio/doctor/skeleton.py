"""The frame of a git directory: what has to be there before git or we can read any of it."""

from __future__ import annotations

import os
import re
import stat
import time
from typing import TYPE_CHECKING

from tweakio import durable
from tweakio.doctor.strict import content
from tweakio.store import initialise
from tweakio.store.frame import misplaced
from tweakio.store.refs import Refs, is_ref_name

if TYPE_CHECKING:
    from pathlib import Path

    from tweakio.doctor.case import Case
    from tweakio.layout import Layout

__all__ = ["Skeleton", "branch_of", "looks_gutted"]


_SWITCHES = ("core.filemode", "core.logallrefupdates", "core.autocrlf", "core.trustctime")
_MOST_NAMES = 5
_VALUES = ("true", "false", "yes", "no", "on", "off", "1", "0", "", "input", "always")
_CONFIG_LINE = re.compile(
    r"""(?: \[ (?P<section>[A-Za-z0-9.-]{1,256}) (?:\s+"[^"\0]*")? \] )?
    \s* (?: (?P<key>[A-Za-z][A-Za-z0-9-]*) \s* (?: = (?P<value>[^\0]*) )? )? (?:[#;].*)?""",
    re.VERBOSE,
)


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
            return f"{name[:200]!r} is not of the kind that belongs there"
        for name in ("objects", "refs"):
            if not _is_directory(git_dir / name):
                return f"{name}/ is missing"
        if not _valid_head(git_dir / "HEAD"):
            return "HEAD is missing or damaged"
        if self._branch_is_another():
            return "HEAD names a branch that there is not"
        if not self._valid_config(git_dir / "config"):
            return "config is missing or damaged, or hides the profiles from git"
        if not _valid_shallow(git_dir / "shallow"):
            return "shallow is damaged"
        return ""

    def mend(self) -> None:
        """Make what is missing; what was damaged is kept aside."""
        git_dir = self._case.layout.git_dir
        for name in misplaced(git_dir):
            # Not below tweakio/, which may itself be what is put aside.
            aside = f"{name.replace('/', '-')}-aside-{time.time_ns()}"
            os.rename(git_dir / name, git_dir / aside)
            self._case.moved(git_dir / name, git_dir / aside)
        for name in ("objects", "objects/pack", "refs", "refs/heads"):
            if durable.is_there(git_dir / name) and not _is_directory(git_dir / name):
                self._case.keep(git_dir / name)
            durable.make_directory(git_dir / name)
        for name, valid, text in (
            (
                "HEAD",
                lambda path: _valid_head(path) and not self._branch_is_another(),
                f"ref: {self._likely_branch()}\n".encode(),
            ),
            ("config", self._valid_config, initialise.CONFIG.encode()),
        ):
            path = git_dir / name
            if not valid(path):
                if durable.is_there(path):
                    self._case.keep(path)
                durable.create(path, text)
        if not _valid_shallow(git_dir / "shallow"):
            self._case.keep(git_dir / "shallow")
        durable.fsync_directory(git_dir)

    def _valid_config(self, path: Path) -> bool:
        """Whether git can read the configuration, and finds the profiles with it."""
        try:
            found = _settings(path)
        except ValueError:
            return False
        return (
            found.get("core.repositoryformatversion") in ("0", "1")
            and found.get("core.bare", "false").lower() in ("false", "no", "off", "0")
            and "core.worktree" not in found
            # Git ends at a value of another kind.
            and all(found.get(key, "true").lower() in _VALUES for key in _SWITCHES)
            and re.fullmatch("-?[0-9]+[kmg]?", found.get("gc.auto", "0").lower()) is not None
            # A clone gets it when it is opened for the first time.
            and ("tweakio.format" in found or not _is_directory(self._case.layout.local))
        )

    def complete(self) -> None:
        """Make the directories and files of this machine's own that are missing."""
        layout = self._case.layout
        initialise.complete_local(layout)
        for path in (layout.locks, layout.staging, layout.temporary):
            durable.make_directory(path)

    def _branch_is_another(self) -> bool:
        """Whether HEAD names a branch that is not there, and its reflog ends where another is."""
        if not (content(self._case.layout.git_dir / "HEAD", 4096) or b"").startswith(b"ref: "):
            return False
        refs = Refs(self._case.layout.git_dir, self._case.layout.temporary)
        branch = branch_of(self._case.layout.git_dir / "HEAD")
        names = refs.names()
        last = next((new for _, new in refs.reflog()), None)
        return not any(
            durable.is_there(self._case.layout.git_dir / place)
            for place in (branch, f"logs/{branch}")
        ) and (branch not in names and names.get(self._likely_branch()) == last is not None)

    def _likely_branch(self) -> str:
        """The branch that HEAD was on: the one whose commit HEAD's reflog ends with."""
        refs = Refs(self._case.layout.git_dir, self._case.layout.temporary)
        last = next((new for _, new in refs.reflog()), None)
        branches = {n: c for n, c in refs.names().items() if n.startswith("refs/heads/")}
        if not branches or "refs/heads/main" in branches:
            return "refs/heads/main"
        return next((name for name, commit in branches.items() if commit == last), min(branches))


def _is_directory(path: Path) -> bool:
    return stat.S_ISDIR(durable.mode_of(path))


def _valid_head(path: Path) -> bool:
    text = (content(path, 4096) or b"").strip()
    if len(text) == 40:
        return all(byte in b"0123456789abcdef" for byte in text)
    name = text.decode("utf-8", "replace")
    return name.startswith("ref: refs/heads/") and is_ref_name(name[5:])


def _settings(path: Path) -> dict[str, str]:
    """What a git configuration sets, ``section.key`` to value, subsections left out.

    Raises:
        ValueError: it is not there, or git would refuse it.
    """
    data = content(path, 1 << 20)
    if data is None:
        raise ValueError(path)
    section = ""
    found = {}
    for line in data.decode().split("\n"):
        match = _CONFIG_LINE.fullmatch(line.strip())
        if match is None:
            raise ValueError(line)
        if match["section"]:
            section = match["section"].lower()
        if match["key"] and section:
            value = "true" if match["value"] is None else match["value"].strip()
            found[f"{section}.{match['key'].lower()}"] = value
    return found


def _valid_shallow(path: Path) -> bool:
    if not durable.is_there(path):
        return True
    lines = (content(path, 1 << 28) or b"\0").split(b"\n")
    return lines.pop() == b"" and all(re.fullmatch(rb"[0-9a-f]{40}", line) for line in lines)


def branch_of(head: Path) -> str:
    """The branch that a HEAD names, also by another name for it; main if it names none."""
    found, path = "refs/heads/main", head
    for _ in range(_MOST_NAMES):
        text = (content(path, 4096) or b"").decode("utf-8", "replace").strip()
        if not (text.startswith("ref: refs/heads/") and is_ref_name(text[5:])):
            break
        found, path = text[5:], head.parent / text[5:]
    return found


def looks_gutted(layout: Layout) -> bool:
    """A git directory that is not anybody's any more: empty, or without objects and HEAD.

    Or a file that names no other git directory, as a file there does.
    """
    text = content(layout.git_dir, 1 << 20)
    if text is not None:
        return not text.startswith(b"gitdir:")
    if not _is_directory(layout.git_dir):
        return False
    return not _is_directory(layout.git_dir / "objects") or not durable.is_there(
        layout.git_dir / "HEAD"
    )
