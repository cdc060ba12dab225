"""Refs and reflogs: what names commits."""

from __future__ import annotations

import re
import stat
import time
from typing import TYPE_CHECKING, NamedTuple

from tweakio import durable, identity
from tweakio.doctor.skeleton import branch_of
from tweakio.doctor.strict import content, files_below
from tweakio.doctor.wholeness import Wholeness
from tweakio.store.refs import NO_COMMIT, is_ref_name
from tweakio.store.underway import on_no_branch

if TYPE_CHECKING:
    from tweakio.doctor.case import Case
    from tweakio.store.repository import Repository

__all__ = ["References"]

_MOST_BYTES = 1 << 28
_ID = re.compile("[0-9a-f]{40}")
_PACKED_LINE = re.compile(r"([0-9a-f]{40}) (refs/[^\0-\x20\x7f~^:?*\[\\]+)")
_PEELED = re.compile(r"\^[0-9a-f]{40}")
# As git reads it: the time stands behind the first ">".
_REFLOG_LINE = re.compile(
    r"([0-9a-f]{40}) ([0-9a-f]{40}) ([^\n>]*> [0-9]+ [+-][0-9]{4}\t?[^\n]*\n)"
)


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
        if (content(path, 4096) or b"").startswith(b"ref: "):
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
            hint="" if same else self._back_to_a_branch(),
        )

    def _back_to_a_branch(self) -> str:
        names = self._repository.refs.names()
        branches = [name for name in names if name.startswith("refs/heads/")]
        return on_no_branch(self._case.layout.git_dir, branches)

    def reset_to(self, found: str) -> None:
        """Make a commit the newest, and forget what names commits that cannot be read."""
        git_dir = self._case.layout.git_dir
        branch = branch_of(git_dir / "HEAD")
        self.mend(found, logs=False, go_on=True)
        self._publish(branch, found)
        head = f"ref: {branch}\n".encode()
        if content(git_dir / "HEAD", 4096) != head:
            durable.replace(git_dir / "HEAD", head, self._case.layout.temporary / "head")
        # The index is of the lost commit; the transaction that follows makes a new one.
        if durable.is_there(git_dir / "index"):
            self._case.keep(git_dir / "index")

    def look(self, *, logs: bool) -> None:
        """Report refs and reflogs that name nothing, or nothing that can be read.

        Args:
            logs: reflogs as well; with history damaged their lines are what must be expected.
        """
        whole = Wholeness(self._repository, self._case.only_git)
        for name in sorted({*self._broken(whole), *self._packed(whole).broken}):
            self._report_ref(name, fixed=False)
        for name in self._gone(whole):
            self._report_gone(name)
        if not self._packed(whole).sound:
            self._report_packed_refs()
        broken = [name for name in self._reflogs() if self._mended_log(name, whole) is not None]
        if logs and broken:
            self._report_reflogs(broken)
        elif logs and any(self._last(name) != commit for name, commit in self._ends()):
            self._report_behind()

    def mend(self, head: str, *, logs: bool, go_on: bool = False, cut: bool = True) -> bool:
        """Take what names unreadable commits out of refs and reflogs; the old files are kept.

        Args:
            head: what the reflogs of HEAD and its branch end with.
            logs: report reflogs as well.
            go_on: the branch is about to be moved there.
            cut: what names a lost commit may go; else only what names nothing at all.

        Returns:
            Whether there was anything.
        """
        whole = Wholeness(self._repository, self._case.only_git)
        anything = self._mend_refs(whole, cut=cut)
        gone = self._gone(whole)
        for name, commit in gone.items():
            self._publish(name, commit)
            self._report_gone(name)
        if not cut:
            return anything or bool(gone)
        mended = self._mend_logs(whole)
        behind = [
            self._go_on_with(name, commit) for name, commit in self._ends(head if go_on else None)
        ]
        if logs and mended:
            self._report_reflogs(mended)
        elif logs and any(behind):
            self._report_behind()
        return anything or bool(mended or gone)

    def _mend_refs(self, whole: Wholeness, *, cut: bool) -> bool:
        git_dir = self._case.layout.git_dir
        broken, packed = self._broken(whole), self._packed(whole, cut=cut)
        for name in broken:
            if cut or not self._is_lost(name, whole):
                self._case.keep(git_dir / name)
        for name in sorted({*broken, *packed.broken, *packed.lost}):
            fixed = name not in packed.lost and not durable.is_there(git_dir / name)
            self._report_ref(name, fixed=fixed)
        if not packed.sound:
            self._report_packed_refs()
        if packed.content is not None:
            self._case.keep(git_dir / "packed-refs")
            durable.create(git_dir / "packed-refs", packed.content)
        return bool(broken or packed.broken or not packed.sound)

    def _is_lost(self, ref: str, whole: Wholeness) -> bool:
        text = (content(self._case.layout.git_dir / ref, 4096) or b"").strip()
        name = text.decode("utf-8", "replace")
        return _ID.fullmatch(name) is not None and whole.is_lost(name)

    def _mend_logs(self, whole: Wholeness) -> list[str]:
        top = self._case.layout.git_dir / "logs"
        mended = []
        for name in self._reflogs():
            if (content := self._mended_log(name, whole)) is not None:
                self._case.keep(top / name)
                if content:
                    durable.create(top / name, content)
                mended.append(name)
        return mended

    def _publish(self, name: str, commit: str) -> None:
        path = self._case.layout.git_dir / name
        if stat.S_ISDIR(durable.mode_of(path)):
            self._case.keep(path)
        durable.make_directory(path.parent, parents=True)
        self._repository.refs.publish(name, commit)

    def _ends(self, head: str | None = None) -> list[tuple[str, str]]:
        """What the reflogs of HEAD and its branch have to end with."""
        refs = self._repository.refs
        branch = branch_of(self._case.layout.git_dir / "HEAD")
        if head is not None:
            return [("HEAD", head), (branch, head)]
        ends = [("HEAD", refs.head()), (branch, refs.names().get(branch, NO_COMMIT))]
        return [(name, commit) for name, commit in ends if commit != NO_COMMIT]

    def _last(self, name: str) -> str:
        return next((new for _, new in self._repository.refs.reflog(name)), NO_COMMIT)

    def _go_on_with(self, name: str, head: str) -> bool:
        log = self._case.layout.git_dir / "logs" / name
        if stat.S_ISDIR(durable.mode_of(log)):
            self._case.keep(log)
        last = self._last(name)
        if last == head:
            return False
        author = identity.author(self._case.layout.git_dir / "config")
        who = f"{author} {identity.stamp(int(time.time()))}"
        line = f"{last} {head} {who}\ttweakio: {self._case.command}: go on from here\n"
        self._repository.refs.append_reflog(name, line.encode("utf-8", "replace"))
        return True

    def _report_behind(self) -> None:
        message = "the reflog lacks its last lines, which nothing needs"
        self._case.add("reflog-behind", "note", message, fixed=self._case.fix)

    def _report_ref(self, name: str, *, fixed: bool) -> None:
        message = f"{name} names nothing that can be read"
        self._case.add("ref-damaged", "damage", message, fixed=fixed)

    def _gone(self, whole: Wholeness) -> dict[str, str]:
        """The refs that are gone although their reflog, which git removes with them, is not."""
        names = self._repository.refs.names()
        branch = branch_of(self._case.layout.git_dir / "HEAD")
        logged = (name for name in self._reflogs() if name.startswith("refs/") and name != branch)
        found = {name: self._last(name) for name in logged if name not in names}
        return {
            name: commit
            for name, commit in found.items()
            if commit != NO_COMMIT and whole.is_whole_commit(commit)
        }

    def _report_gone(self, name: str) -> None:
        message = f"{name} is gone, and its reflog is not"
        self._case.add("ref-damaged", "damage", message, fixed=self._case.fix)

    def _report_packed_refs(self) -> None:
        message = "packed-refs has lines that are none"
        self._case.add("ref-damaged", "damage", message, fixed=self._case.fix)

    def _report_reflogs(self, names: list[str]) -> None:
        message = f"the reflog of {', '.join(names)} has lines that name nothing that can be read"
        self._case.add("reflog-damaged", "problem", message, fixed=self._case.fix)

    def _may_name(self, whole: Wholeness, ref: str, name: str) -> bool:
        if ref.startswith("refs/heads/"):
            return whole.is_whole_commit(name)
        return whole.is_whole(name)

    def _broken(self, whole: Wholeness) -> list[str]:
        """The loose refs to take away; what HEAD names is another's affair."""
        git_dir = self._case.layout.git_dir
        found = []
        for path in files_below(git_dir / "refs"):
            name = f"refs/{path}"
            if name == branch_of(git_dir / "HEAD") or name.endswith(".lock"):
                continue
            text = (content(git_dir / name, 4096) or b"").strip().decode("utf-8", "replace")
            symbolic = text.startswith("ref: refs/")
            if not symbolic and not (_ID.fullmatch(text) and self._may_name(whole, name, text)):
                found.append(name)
        return found

    def _packed(self, whole: Wholeness, *, cut: bool = True) -> _PackedRefs:
        path = self._case.layout.git_dir / "packed-refs"
        data = content(path, _MOST_BYTES)
        if data is None:
            there = durable.is_there(path)
            return _PackedRefs(not there, [], b"" if there else None)
        sound = data.endswith(b"\n") or not data
        kept: dict[str, str] = {}
        broken: list[str] = []
        lost: list[str] = []
        for number, line in enumerate(data.decode("utf-8", "surrogateescape").split("\n")):
            match = _PACKED_LINE.fullmatch(line)
            if match and is_ref_name(match[2]) and self._may_name(whole, match[2], match[1]):
                kept[match[2]] = match[1]
            elif match and is_ref_name(match[2]) and not cut and whole.is_lost(match[1]):
                kept[match[2]] = match[1]
                lost.append(match[2])
            elif match:
                broken.append(match[2])
            elif line and not _PEELED.fullmatch(line) and (number or not line.startswith("# ")):
                sound = False
        if sound and not broken:
            return _PackedRefs(sound, [], None, lost)
        # Without a header git takes nothing for granted.
        lines = (f"{commit} {name}\n" for name, commit in sorted(kept.items()))
        text = "".join(lines).encode("utf-8", "surrogateescape")
        return _PackedRefs(sound, broken, text, lost)

    def _reflogs(self) -> list[str]:
        logs = files_below(self._case.layout.git_dir / "logs")
        return sorted(name for name in logs if not name.endswith(".lock"))

    def _mended_log(self, name: str, whole: Wholeness) -> bytes | None:
        """A reflog without what cannot be read; None if there is nothing to mend."""
        data = content(self._case.layout.git_dir / "logs" / name, _MOST_BYTES)
        if data is None:
            return b""
        lines = []
        last = NO_COMMIT
        sound = not data or data.endswith(b"\n")
        # Not splitlines: a name or message may have what only Python takes for the end of a line.
        for text in data.decode("utf-8", "surrogateescape").split("\n")[:-1]:
            line = f"{text}\n"
            match = _REFLOG_LINE.fullmatch(line)
            sound &= match is not None and whole.is_whole_commit(match[1])
            if match is None or not whole.is_whole_commit(match[2]):
                sound = False
                continue
            # As "git reflog expire --rewrite" does, each line goes on from the one before.
            lines.append(f"{last} {match[2]} {match[3]}")
            last = match[2]
        return None if sound else "".join(lines).encode("utf-8", "surrogateescape")


class _PackedRefs(NamedTuple):
    """What packed-refs is worth.

    Attributes:
        sound: every line is one.
        broken: the refs to take out, which name nothing that can be read.
        content: what to replace it with; None if it can stay.
        lost: the refs of lost commits that stay for now.
    """

    sound: bool
    broken: list[str]
    content: bytes | None
    lost: list[str] = []  # noqa: RUF012 - never changed
