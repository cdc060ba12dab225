"""Refs and reflogs: what names commits."""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING

from tweakio import durable, identity
from tweakio.doctor.skeleton import branch_of
from tweakio.doctor.wholeness import Wholeness
from tweakio.store.refs import NO_COMMIT

if TYPE_CHECKING:
    from tweakio.doctor.case import Case
    from tweakio.store.repository import Repository

__all__ = ["References"]

_REFLOG_LINE = re.compile(r"([0-9a-f]{40}) ([0-9a-f]{40}) (.*\n)", re.DOTALL)


class References:
    """HEAD, the branches, the tags and their logs.

    Args:
        case: the examination that it is part of.
        repository: whose.
    """

    def __init__(self, case: Case, repository: Repository) -> None:
        self._case = case
        self._repository = repository

    def look_at_head(self, head: str) -> None:
        """Report a HEAD that is on no branch; put it back if the branch is at the same commit."""
        path = self._case.layout.git_dir / "HEAD"
        if durable.read_regular(path, 4096).startswith(b"ref: "):
            return
        branch = branch_of(path)
        same = self._repository.refs.names().get(branch) == head
        if same and self._case.fix:
            durable.replace(path, f"ref: {branch}\n".encode(), self._case.layout.temporary / "head")
        self._case.add(
            "head-detached",
            "problem",
            "HEAD is on no branch, so nothing can be changed",
            fixed=same and self._case.fix,
            hint="" if same else f"run 'git -C {self._case.layout.profiles} switch main'",
        )

    def reset_to(self, found: str) -> None:
        """Make a commit the newest, and forget what names commits that cannot be read."""
        git_dir = self._case.layout.git_dir
        branch = branch_of(git_dir / "HEAD")
        self._clean(found)
        if (git_dir / branch).is_dir():
            self._case.keep(git_dir / branch)
        durable.make_directory((git_dir / branch).parent, parents=True)
        self._repository.refs.publish(branch, found)
        head = f"ref: {branch}\n".encode()
        if durable.read_regular(git_dir / "HEAD", 4096) != head:
            durable.replace(git_dir / "HEAD", head, self._case.layout.temporary / "head")
        # The index is of the lost commit; the transaction that follows makes a new one.
        if os.path.lexists(git_dir / "index"):
            self._case.keep(git_dir / "index")

    def _clean(self, found: str) -> None:
        """Take what names unreadable commits out of the reflogs and the refs.

        The old files are kept aside.
        """
        git_dir = self._case.layout.git_dir
        whole = Wholeness(self._repository, found)
        for directory, _, files in os.walk(git_dir / "logs"):
            for file in files:
                self._rewrite_reflog(os.path.join(directory, file), whole)
        names = ["HEAD", branch_of(git_dir / "HEAD")]
        for name in names:
            last = next((new for _, new in self._repository.refs.reflog(name)), NO_COMMIT)
            if last != found:
                who = f"{identity.author(git_dir / 'config')} {identity.stamp(int(time.time()))}"
                line = f"{last} {found} {who}\ttweakio: {self._case.command}: go on from here\n"
                self._repository.refs.append_reflog(name, line.encode("utf-8", "replace"))
        for name, commit_id in self._repository.refs.names().items():
            path = git_dir / name
            if name not in names and path.is_file() and not whole.is_whole(commit_id):
                self._case.keep(path)
                self._case.add(
                    "ref-damaged", "damage", f"{name} named a damaged commit", fixed=True
                )
        self._rewrite_packed_refs(whole)

    def _rewrite_reflog(self, path: str, whole: Wholeness) -> None:
        try:
            data = durable.read_regular(path, 1 << 28)
        except OSError:
            self._case.keep(self._case.layout.git_dir / path)
            return
        lines = []
        last = NO_COMMIT
        for line in data.decode("utf-8", "surrogateescape").splitlines(keepends=True):
            match = _REFLOG_LINE.fullmatch(line)
            if match is None or not whole.is_whole(match[2]):
                continue
            # As "git reflog expire --rewrite" does, each line goes on from the one before.
            lines.append(f"{last} {match[2]} {match[3]}")
            last = match[2]
        self._replace(path, "".join(lines).encode("utf-8", "surrogateescape"), data)

    def _rewrite_packed_refs(self, whole: Wholeness) -> None:
        path = self._case.layout.git_dir / "packed-refs"
        try:
            data = durable.read_regular(path, 1 << 28)
        except OSError:
            if os.path.lexists(path):
                self._case.keep(path)
            return
        kept = []
        skipping = False
        for line in data.split(b"\n"):
            commit_id = line[:40].decode("ascii", "replace")
            if line.startswith(b"^"):
                if skipping:
                    continue
            elif re.fullmatch("[0-9a-f]{40}", commit_id):
                skipping = not whole.is_whole(commit_id)
                if skipping:
                    continue
            elif line and not line.startswith(b"#"):
                continue
            kept.append(line)
        self._replace(os.fspath(path), b"\n".join(kept), data)

    def _replace(self, path: str, data: bytes, before: bytes) -> None:
        if data != before:
            target = self._case.layout.git_dir / os.path.relpath(path, self._case.layout.git_dir)
            self._case.keep(target)
            durable.replace(target, data, self._case.layout.temporary / "mended")
