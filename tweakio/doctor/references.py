"""Refs and reflogs: what names commits."""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING

from tweakio import durable, identity
from tweakio.doctor.skeleton import branch_of
from tweakio.doctor.wholeness import Walk, Wholeness
from tweakio.errors import RepositoryDamagedError
from tweakio.store.refs import NO_COMMIT, is_ref_name

if TYPE_CHECKING:
    from tweakio.doctor.case import Case
    from tweakio.store.repository import Repository

__all__ = ["References"]

_REFLOG_LINE = re.compile(r"([0-9a-f]{40}) ([0-9a-f]{40}) ([^\n]+ <[^\n]*> \d+ [+-]\d{4}(?:\t.*)?)")
_MOST_BYTES = 1 << 28


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

    def look(self, head: str, walk: Walk) -> None:
        """Report reflogs and refs that name what cannot be read; take it out of them.

        Args:
            head: the commit of HEAD, whose own state is whole.
            walk: what reading its history found.
        """
        git_dir = self._case.layout.git_dir
        whole = Wholeness(self._repository, head, walk)
        logs = [
            os.path.join(directory, file)
            for directory, _, files in os.walk(git_dir / "logs")
            for file in files
            if self._mended_reflog(os.path.join(directory, file), whole) is not None
        ]
        current = branch_of(git_dir / "HEAD")
        names = [
            name
            for name, commit_id in self._repository.refs.names().items()
            if name != current and not whole.may_be_named(commit_id)
        ]
        names += self._unreadable()
        packed = self._mended_packed_refs(whole) is not None
        if not (logs or names or packed):
            return
        if self._case.fix:
            self._clean(head, whole)
        if logs or packed:
            what = f"{len(logs)} reflogs" if logs else "packed-refs"
            message = f"{what} named commits that cannot be read, or were damaged"
            self._case.add("refs-damaged", "damage", message, fixed=self._case.fix)
        elif not self._case.fix:
            message = f"{len(names)} refs name commits that cannot be read"
            self._case.add("ref-damaged", "damage", message)

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

    def _clean(self, found: str, whole: Wholeness | None = None) -> None:
        """Take what names unreadable commits out of the reflogs and the refs.

        The old files are kept aside.
        """
        git_dir = self._case.layout.git_dir
        whole = whole or Wholeness(self._repository, found)
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
            if name not in names and path.is_file() and not whole.may_be_named(commit_id):
                self._case.keep(path)
                self._case.add(
                    "ref-damaged", "damage", f"{name} named a damaged commit", fixed=True
                )
        for name in self._unreadable():
            self._case.keep(git_dir / name)
            if (git_dir / "logs" / name).is_file():
                self._case.keep(git_dir / "logs" / name)
            self._case.add("ref-damaged", "damage", f"{name} named nothing", fixed=True)
        self._rewrite_packed_refs(whole)

    def _unreadable(self) -> list[str]:
        """The files below refs/ that are no refs, but for the branch that HEAD names."""
        git_dir = self._case.layout.git_dir
        found = (
            os.path.relpath(os.path.join(directory, file), git_dir).replace(os.sep, "/")
            for directory, _, files in os.walk(git_dir / "refs")
            for file in files
            if not file.endswith(".lock")
        )
        current = branch_of(git_dir / "HEAD")
        return sorted(name for name in found if name != current and not self._names_a_commit(name))

    def _names_a_commit(self, name: str) -> bool:
        try:
            return self._repository.refs.resolve(name) is not None
        except RepositoryDamagedError:
            return False

    def _rewrite_reflog(self, path: str, whole: Wholeness) -> None:
        mended = self._mended_reflog(path, whole)
        if mended is not None:
            self._replace(path, mended)

    def _mended_reflog(self, path: str, whole: Wholeness) -> bytes | None:
        """What a reflog should be; None if it is."""
        try:
            data = durable.read_regular(path, _MOST_BYTES)
        except FileNotFoundError:
            return None
        except OSError:
            return b""
        lines = []
        last = NO_COMMIT
        for line in data.decode("utf-8", "surrogateescape").split("\n")[:-1]:
            match = _REFLOG_LINE.fullmatch(line)
            if match is None or not whole.is_whole(match[2]):
                continue
            # As "git reflog expire --rewrite" does, each line goes on from the one before.
            old = match[1] if match[1] == last or whole.is_whole(match[1]) else last
            lines.append(f"{old} {match[2]} {match[3]}\n")
            last = match[2]
        mended = "".join(lines).encode("utf-8", "surrogateescape")
        return None if mended == data else mended

    def _rewrite_packed_refs(self, whole: Wholeness) -> None:
        mended = self._mended_packed_refs(whole)
        if mended is not None:
            self._replace(os.fspath(self._case.layout.git_dir / "packed-refs"), mended)

    def _mended_packed_refs(self, whole: Wholeness) -> bytes | None:
        """What packed-refs should be; None if it is."""
        path = self._case.layout.git_dir / "packed-refs"
        try:
            data = durable.read_regular(path, _MOST_BYTES)
        except FileNotFoundError:
            return None
        except OSError:
            return b""
        kept = []
        skipping = True
        lines = data.split(b"\n")
        for number, line in enumerate(lines[:-1]):
            commit_id, _, name = line.decode("utf-8", "replace").partition(" ")
            if line.startswith(b"^"):
                good = not skipping and re.fullmatch(rb"\^[0-9a-f]{40}", line) is not None
            elif line.startswith(b"#"):
                good = number == 0 and line.startswith(b"# pack-refs with:")
            else:
                good = (
                    re.fullmatch("[0-9a-f]{40}", commit_id) is not None
                    and is_ref_name(name)
                    and whole.is_whole(commit_id)
                )
                skipping = not good
            if good:
                kept.append(line + b"\n")
        mended = b"".join(kept)
        return None if mended == data else mended

    def _replace(self, path: str, data: bytes) -> None:
        """Put another content in the place of a file, which is kept aside."""
        target = self._case.layout.git_dir / os.path.relpath(path, self._case.layout.git_dir)
        self._case.keep(target)
        durable.replace(target, data, self._case.layout.temporary / "mended")
