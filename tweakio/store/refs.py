"""HEAD, the branch it names, the reflogs, and git's own lock files."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import stat
import time
from functools import lru_cache
from typing import TYPE_CHECKING

from tweakio import durable
from tweakio.errors import (
    RepositoryBusyError,
    RepositoryDamagedError,
    StorageError,
    is_of_the_moment,
    storage_error,
)
from tweakio.store.underway import on_no_branch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = [
    "NO_COMMIT",
    "GitLocks",
    "Refs",
    "is_abandoned",
    "is_ref_name",
    "set_aside",
]

log = logging.getLogger(__name__)

NO_COMMIT = "0" * 40
_HEX = re.compile(r"[0-9a-f]{40}")
# As "git check-ref-format" has it: a name becomes a path.
_NOT_IN_REF = ("..", "@{", " ", "~", "^", ":", "?", "*", "[", "\\")
_MOST_REFLOG = 1 << 26
_MOST_PACKED = 1 << 26
_MOST_NAMES = 5
_LOCK_POLL = 0.005
_STAGED = "ref"
_ABANDONED_AFTER = 10.0


@lru_cache(maxsize=64)
def is_ref_name(name: str) -> bool:
    """Whether git would take it for the full name of a ref; only such a name is a safe path."""
    first, *parts = name.split("/")
    return (
        first == "refs"
        and bool(parts)
        and len(name) <= 1024
        and not any(mark in name for mark in _NOT_IN_REF)
        and name.isprintable()
        and all(part and part[0] != "." and not part.endswith((".", ".lock")) for part in parts)
    )


class Refs:
    """Reads and moves the branch that HEAD names."""

    def __init__(self, git_dir: Path, temporary: Path) -> None:
        self._git_dir = git_dir
        self._base = os.fspath(git_dir)
        self._temporary = temporary
        self.moved_to = ""
        """The commit that this object has last moved a branch to, synced or not."""
        self._prepared = ""

    def branch(self) -> str:
        """The full name of the branch that HEAD is on; behind another name for it, as git has it.

        Raises:
            RepositoryBusyError: HEAD is detached.
            RepositoryDamagedError: HEAD is missing or damaged.
            StorageError: HEAD cannot be read now.
        """
        content = self._head()
        if content.startswith("ref: refs/heads/") and is_ref_name(content[5:]):
            return self._followed(content[5:])
        if _HEX.fullmatch(content):
            branches = (name for name in self.names() if name.startswith("refs/heads/"))
            raise RepositoryBusyError(
                "HEAD of the profile repository is detached",
                hint=on_no_branch(self._git_dir, branches),
            )
        raise self._damaged("HEAD names no branch")

    def _followed(self, name: str) -> str:
        """The branch that a branch stands for, as ``git symbolic-ref`` makes one."""
        for _ in range(_MOST_NAMES):
            try:
                data = durable.read_regular(f"{self._base}/{name}", 4096)
            except OSError as error:
                if is_of_the_moment(error):
                    raise self._unreadable(name, error) from error
                return name  # packed, or without a commit
            if not data.startswith(b"ref: "):
                return name
            name = data[5:].strip().decode("utf-8", "replace")
            if not (name.startswith("refs/heads/") and is_ref_name(name)):
                break
        raise self._damaged("HEAD is on a branch that stands for none")

    def head(self) -> str:
        """The commit that HEAD stands for, or ``NO_COMMIT`` on a branch without one."""
        content = self._head()
        if _HEX.fullmatch(content):
            return content
        if not (content.startswith("ref: ") and is_ref_name(content[5:])):
            raise self._damaged("HEAD is damaged")
        return self.resolve(content[5:]) or NO_COMMIT

    def resolve(self, name: str) -> str | None:
        """The commit of a full ref name, loose or packed; None if there is none."""
        for _ in range(3):
            if not is_ref_name(name):
                raise self._damaged(f"{name[:80]!r} is not the name of a ref")
            try:
                data = durable.read_regular(f"{self._base}/{name}", 4096)
                content = data.strip().decode("ascii")
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                packed = self._packed().get(name)
                # pack-refs writes packed-refs first and unlinks the loose file after, so
                # what is in neither was looked for at the wrong moment.
                if packed is not None or not self._is_there(name):
                    return packed
            except OSError as error:
                raise self._unreadable(name, error) from error
            except UnicodeDecodeError as error:
                raise self._damaged(f"{name} cannot be read ({error})") from None
            else:
                if _HEX.fullmatch(content):
                    return content
                if content.startswith("ref: "):
                    name = content[5:]
                    continue
                raise self._damaged(f"{name} holds no commit id")
        raise self._damaged(f"{name} is a chain of symbolic refs")

    def names(self) -> dict[str, str]:
        """All refs below ``refs/`` with their commits; damaged ones are left out.

        Raises:
            StorageError: one of them, or their list, cannot be read now.
        """
        found = self._packed()
        for directory, _, files in os.walk(self._git_dir / "refs", onerror=self._not_listed):
            for file in files:
                if file.startswith("."):
                    continue  # of a file manager, such as .DS_Store: git does not look at it either
                name = os.path.relpath(os.path.join(directory, file), self._git_dir)
                name = name.replace(os.sep, "/")
                with contextlib.suppress(RepositoryDamagedError):
                    if commit := self.resolve(name):
                        found[name] = commit
        return found

    def publish(self, branch: str, commit_id: str) -> None:
        """Move a branch.

        The caller holds git's lock of the branch and has compared its value.
        """
        with durable.Batch() as batch:
            self.prepare(commit_id, batch)
        self.put_in_place(branch)

    def prepare(self, commit_id: str, batch: durable.Batch) -> None:
        """Write what the branch will hold under a temporary name, as one of several files."""
        batch.create(self._temporary / _STAGED, f"{commit_id}\n".encode())
        self._prepared = commit_id

    def put_in_place(self, branch: str) -> None:
        """Move a branch to what was prepared and synced: the commit point of a transaction.

        The index, replaced just before, gets its name to the disk here as well: one commit of
        the file system's journal has both. The branch's own comes last.
        """
        target = self._git_dir / branch
        try:
            durable.move(self._temporary / _STAGED, target)
        except BaseException:
            durable.remove(self._temporary / _STAGED)
            raise
        self.moved_to = self._prepared
        durable.sync_tree((self._git_dir, target.parent))

    def append_reflog(self, name: str, line: bytes) -> None:
        """Add a line to one reflog, once: a line that already ends it is not repeated.

        As in git it is not synced, but for the first line, since without it git would keep no
        reflog. A power cut can take the last lines of a reflog, which is a record of what the
        branch was; what it is, and all of history, are in the commits. One line stands for
        those that were lost.
        """
        path = self._git_dir / "logs" / name
        if os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode):
            # A link or a FIFO: not git's, and nothing to write to.
            set_aside(path, self._temporary.parent / "damaged")
        last = _last_line(path)
        while last and not last.endswith(b"\n"):
            # What a crash left of a line: git would read both as one.
            durable.cut_end(path, len(last))
            last = _last_line(path)
        if not last:
            durable.make_directory(path.parent, parents=True)
        # Without its time a line is the same if it records the same step.
        if last.split(b" ")[:2] == line.split(b" ")[:2]:
            return
        before = line[:40] if not last else last[41:81]
        if before != line[:40] and _HEX.fullmatch(before.decode("ascii", "replace")):
            lost, _, _ = line.partition(b"\t")
            line = before + b" " + line[:40] + lost[81:] + b"\ttweakio: lines were lost\n" + line
        durable.append(path, line, create_missing=True, sync=not last)

    def reflog(self, name: str = "HEAD") -> Iterator[tuple[str, str]]:
        """The (old, new) commit ids of a reflog, newest first; damaged lines are passed.

        Of one that no use of ours could make so long, the end is what is read.

        Raises:
            StorageError: it cannot be read now.
        """
        try:
            data = durable.read_end(self._git_dir / "logs" / name, _MOST_REFLOG)
        except OSError as error:
            if is_of_the_moment(error):
                raise storage_error(error, f"read the reflog of {name}") from error
            return
        for line in reversed(data.decode("utf-8", "replace").split("\n")):
            old, new = line[:40], line[41:81]
            if _HEX.fullmatch(old) and _HEX.fullmatch(new):
                yield old, new

    def _head(self) -> str:
        try:
            content = durable.read_regular(f"{self._base}/HEAD", 4096)
        except OSError as error:
            raise self._unreadable("HEAD", error) from error
        return content.decode("utf-8", "replace").strip()

    def _packed(self) -> dict[str, str]:
        try:
            data = durable.read_regular(self._git_dir / "packed-refs", _MOST_PACKED)
        except OSError as error:
            if is_of_the_moment(error):
                raise storage_error(error, "read packed-refs") from error
            return {}
        found = {}
        for line in data.decode("utf-8", "replace").split("\n"):
            commit, _, name = line.partition(" ")
            if _HEX.fullmatch(commit) and is_ref_name(name):
                found[name] = commit
        return found

    def _is_there(self, name: str) -> bool:
        try:
            return durable.is_there(self._git_dir / name)
        except OSError as error:
            raise storage_error(error, f"look for {name}") from error

    def _not_listed(self, error: OSError) -> None:
        # "git pack-refs" removes directories that it emptied.
        if is_of_the_moment(error):
            raise storage_error(error, "list the refs") from error

    def _unreadable(self, name: str, error: OSError) -> RepositoryDamagedError | StorageError:
        """What is there and is no ref is damage; what the system refuses to read is not."""
        if is_of_the_moment(error):
            return storage_error(error, f"read {name}")
        return self._damaged(f"{name} cannot be read ({error.strerror})")

    def _damaged(self, reason: str) -> RepositoryDamagedError:
        return RepositoryDamagedError(
            f"the profile repository is damaged: {reason}",
            hint="run 'tweakio repo doctor'",
        )


def _last_line(path: Path) -> bytes:
    try:
        tail = durable.read_end(path, 8192)
    except FileNotFoundError:
        return b""
    stop = tail.rfind(b"\n", 0, len(tail) - 1)
    return tail[stop + 1 :]


def is_abandoned(lock: Path, git_dir: Path, *, after: float = _ABANDONED_AFTER) -> bool:
    """Whether git's own lock file was left by a git that is no longer running.

    Args:
        lock: the lock file.
        git_dir: the repository that it is in.
        after: seconds it must have been there; programs that are not called git but write
            repositories (editors, desktop clients) hold it for milliseconds.
    """
    try:
        # A time that is to come is of before the clock was put back.
        if abs(time.time() - os.lstat(lock).st_mtime) < after:
            return False
    except OSError:
        return False
    return not git_runs_in(git_dir.parent)


def git_runs_in(work_tree: Path) -> bool:
    """Whether a program called git is at work in a work tree."""
    import psutil

    top = os.path.realpath(work_tree)
    for process in psutil.process_iter(["name", "cwd", "status"]):
        if not (process.info["name"] or "").lower().startswith("git"):
            continue
        if process.info["status"] == psutil.STATUS_ZOMBIE:
            continue
        directory = process.info["cwd"]
        # Git changes to the top of the work tree; one we may not look at counts as there.
        if directory is None or os.path.realpath(directory).startswith(top):
            return True
    return False


def set_aside(lock: Path, shelf: Path) -> Path:
    """Move an abandoned lock file of git out of the way; its bytes are kept."""
    durable.make_directory(shelf, parents=True)
    target = shelf / f"{lock.name}-{time.time_ns()}"
    os.replace(lock, target)
    log.warning("moved %s, left by a git that is gone, to %s", lock, target)
    return target


class GitLocks:
    """Holds ``index.lock``, ``HEAD.lock`` and the branch's lock, as git itself does.

    Our lock files are hard links to one file that was written and synced when the
    repository was made. So they appear with their content in one step and need no sync of
    their own; and since only the holder of the repository's lock makes them, whoever holds
    that lock knows that one it finds is of a process that died, and may remove it. A lock
    with any other content is git's and is waited for; if it is old and no git runs here any
    more it is set aside, never removed.

    Args:
        git_dir: the git directory.
        marker: the file that is linked.
    """

    def __init__(self, git_dir: Path, marker: Path) -> None:
        self._git_dir = git_dir
        self.marker = marker
        self._held: list[Path] = []

    def acquire(self, branch: str, deadline: float) -> None:
        """Take the three locks in git's own order.

        Args:
            branch: full name of the branch.
            deadline: ``time.monotonic()`` value until which git's locks are waited for.

        Raises:
            RepositoryBusyError: another program kept one of them until then.
        """
        self._held.clear()
        try:
            for name in ("index", "HEAD", branch):
                self._take(self._git_dir / f"{name}.lock", deadline)
        except BaseException:
            self.release()
            # Ctrl-C can come between a link and the note that it is ours.
            with contextlib.suppress(OSError):
                self.remove_own_dead(branch)
            raise

    def release(self, *, keep: bool = False) -> None:
        """Let go of what is held, in the reverse order.

        Args:
            keep: leave the files, to keep git away until the next tweakio takes them over.

        An error here must not make a change fail that took place. What cannot be removed
        stays, with what was taken before it: whoever comes next looks for ``index.lock``,
        the first to be taken, and removes them all.
        """
        if keep:
            self._held.clear()
        while self._held:
            try:
                durable.remove(self._held[-1])
            except OSError as error:
                log.warning("%s is left to the next command: %s", self._held[-1].name, error)
                self._held.clear()
                return
            self._held.pop()

    def remove_own_dead(self, branch: str) -> None:
        """Remove what a process of ours left; the caller holds the repository's lock."""
        for name in (branch, "HEAD", "index"):
            path = self._git_dir / f"{name}.lock"
            if self.is_ours(path):
                durable.remove(path)

    def _take(self, path: Path, deadline: float) -> None:
        look_again = min(deadline, time.monotonic() + 0.2)
        while True:
            try:
                self._link(path)
            except FileExistsError:
                if self.is_ours(path):
                    # Of a process that died; taken over without a moment in which it is free.
                    self._held.append(path)
                    return
                if time.monotonic() >= look_again:
                    if is_abandoned(path, self._git_dir):
                        with contextlib.suppress(FileNotFoundError):
                            set_aside(path, self.marker.parent / "abandoned")
                    elif time.monotonic() >= deadline:
                        raise self._busy(path) from None
                    look_again = min(deadline, time.monotonic() + 1.0)
                else:
                    time.sleep(_LOCK_POLL)
            except FileNotFoundError:
                # "git pack-refs" removes directories of refs that it emptied.
                durable.make_directory(path.parent, parents=True)
                if not self.marker.exists():
                    raise
            else:
                self._held.append(path)
                return

    def _link(self, path: Path) -> None:
        try:
            os.link(self.marker, path)
        except FileExistsError:
            raise
        except FileNotFoundError:
            raise
        except OSError:
            # No hard links here (FAT, some network shares): the content alone marks it.
            durable.create(path, durable.read_regular(self.marker, 4096))

    def is_ours(self, path: Path) -> bool:
        """Whether a lock file is one that a tweakio made.

        Raises:
            OSError: that cannot be told now.
        """
        try:
            return durable.read_regular(path, 4096) == durable.read_regular(self.marker, 4096)
        except OSError as error:
            if is_of_the_moment(error):
                raise
            return False

    def _busy(self, path: Path) -> RepositoryBusyError:
        try:
            age = f", {max(0.0, time.time() - os.stat(path).st_mtime):.0f} s old"
        except OSError:
            age = ""
        return RepositoryBusyError(
            f"another git process holds {path.name} in the profile repository{age}",
            hint="wait for it to end; 'tweakio repo doctor' tells whether it is still alive",
            path=str(path),
        )
