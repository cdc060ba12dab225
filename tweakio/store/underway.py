"""What a person has begun with git and not ended, and the command that ends it."""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING, NamedTuple

from tweakio import durable
from tweakio.errors import command, is_of_the_moment, run, storage_error

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["Underway", "give_up_merge", "on_no_branch", "under_way"]

_STEPS = {
    "MERGE_HEAD": "merge",
    "rebase-merge": "rebase",
    "rebase-apply": "rebase",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
}
_MOST_REFLOG = 1 << 20
_MOVED = re.compile(r"\tcheckout: moving from (\S{1,1024}) to ")


class Underway(NamedTuple):
    """Something that git does in several steps.

    Attributes:
        what: its name, such as ``"rebase"``.
        stop: what git has to be told to give it up, such as ``"rebase --abort"``.
    """

    what: str
    stop: str

    def hint(self, work_tree: Path) -> str:
        """What a person can do."""
        return "finish it, or " + run("git -C", work_tree, then=self.stop)


def under_way(git_dir: Path | str) -> Underway | None:
    """What is under way in a repository, of what puts files or commits in their places later."""
    names = set(os.listdir(git_dir))
    found = next((what for name, what in _STEPS.items() if name in names), None)
    if found == "rebase" and os.path.lexists(os.path.join(git_dir, "rebase-apply", "applying")):
        found = "am"
    return None if found is None else Underway(found, f"{found} --abort")


def on_no_branch(git_dir: Path, branches: Iterable[str]) -> str:
    """The hint for a HEAD that is detached.

    Args:
        git_dir: the git directory.
        branches: the full names of those that there are.
    """
    found = under_way(git_dir)
    if found is None and durable.is_there(git_dir / "BISECT_LOG"):
        found = Underway("bisect", "bisect reset")
    if found is not None:
        return f"a {found.what} is under way: {found.hint(git_dir.parent)}"
    names = sorted(name.removeprefix("refs/heads/") for name in branches)
    last = _last_branch(git_dir, names)
    if last:
        return run("git -C", git_dir.parent, then=command("switch", last))
    return "switch to one of its branches: " + command("git -C", git_dir.parent, then="branch")


def give_up_merge(git_dir: str, action: str) -> str:
    """What to tell git to give up a merge of files that is at work right now.

    A merge notes that it is under way only when it has ended with a conflict.

    Args:
        git_dir: the git directory.
        action: what git has in ``GIT_REFLOG_ACTION``; empty for a ``git stash pop``.
    """
    found = under_way(git_dir)
    if found is not None and found.what in ("rebase", "am"):
        return f"git {found.stop}"
    first = action.partition(" ")[0].partition(":")[0]
    if first in ("cherry-pick", "revert"):
        return f"git {first} --abort"
    return "git merge --abort" if first in ("merge", "pull") else "git reset --merge"


def _last_branch(git_dir: Path, names: list[str]) -> str:
    """The branch that was left last; the only one, or none, if no reflog tells."""
    log = b""
    try:
        log = durable.read_end(git_dir / "logs" / "HEAD", _MOST_REFLOG)
    except OSError as error:
        if is_of_the_moment(error):
            raise storage_error(error, "read the reflog of HEAD") from error
    with contextlib.suppress(StopIteration):
        found = reversed(list(_MOVED.finditer(log.decode("utf-8", "replace"))))
        return next(match[1] for match in found if match[1] in names)
    if len(names) == 1:
        return names[0]
    return "main" if "main" in names else ""
