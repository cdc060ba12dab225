"""Whose a home is: who else could change it, and what somebody else has left in it.

One command as root in somebody's home leaves files that its owner can no longer read, and a home
that somebody else made may have anything in it, such as an identity of theirs. So nothing is
changed in a home of another user, as git and ssh have it; reading stays allowed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import tempfile
from typing import TYPE_CHECKING, NamedTuple

from tweakio.errors import FileAccessError, command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tweakio.layout import Layout

__all__ = [
    "VARIABLE",
    "is_foreign",
    "name_of",
    "refuse_foreign_data",
    "refuse_foreign_owner",
    "temporary_directory",
    "temporary_parents",
    "walk",
]

VARIABLE = "TWEAKIO_SAFE_HOME"
"""Names homes that are used whoever owns them, separated like ``PATH``; ``*`` is every one."""
_MOST_LOOKED_AT = 100_000


class _Foreign(NamedTuple):
    path: Path
    uid: int


def refuse_foreign_owner(layout: Layout) -> None:
    """Return if the home is one's own, or was called safe.

    Raises:
        FileAccessError: it belongs to somebody else.
    """
    found = _foreign(layout)
    if found is None:
        return
    owner = name_of(found.uid)
    user = f"#{owner}" if owner.isdecimal() else owner
    raise FileAccessError(
        f"{found.path} belongs to {owner}, and this runs as {name_of(os.geteuid())}: "
        "nothing is changed in it",
        hint=f"run it as its owner: {command('sudo -u', user, then='tweakio ...')}; or, to use it "
        f"all the same, set {command(VARIABLE)}={layout.home}",
        owner=owner,
    )


def is_foreign(layout: Layout) -> bool:
    """Whether the home is somebody else's, and was not called safe."""
    return _foreign(layout) is not None


def _foreign(layout: Layout) -> _Foreign | None:
    if sys.platform == "win32":
        return None  # files have owners there, too, but who may change one is another matter
    me = os.geteuid()
    places = (layout.home, layout.profiles, layout.git_dir, layout.local, layout.home / "identity")
    for path in places:
        try:
            uid = os.stat(path).st_uid
        except OSError:
            continue  # what is done with it says so better
        # Root may have made the directory for its user; what is in it is the user's.
        if uid not in (me, 0 if path == layout.home else me):
            return None if _is_safe(layout.home) else _Foreign(path, uid)
    return None


def _is_safe(home: Path) -> bool:
    named = [part for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]
    return "*" in named or os.path.realpath(home) in map(os.path.realpath, named)


def refuse_foreign_data(data: Path, profile_id: str) -> None:
    """Return if a browser that runs as this user can use all of its data.

    One that cannot says nothing: it starts with damaged cookies and looks logged out.

    Args:
        data: the directory of the browser data.
        profile_id: whose.

    Raises:
        FileAccessError: something in it belongs to somebody else, or cannot be written.
    """
    if sys.platform == "win32":
        return
    me = os.geteuid()
    # profiles/ID/browser_profile
    anybody = _is_safe(data.parent.parent.parent)
    others = 0
    first: tuple[str, os.stat_result] | None = None
    for path, status in walk(data):
        if stat.S_ISLNK(status.st_mode):
            continue
        if not ((anybody or status.st_uid == me) and _can_change(path, status)):
            others += 1
            first = first or (path, status)
    if first is None:
        return
    path, status = first
    owner = name_of(status.st_uid)
    more = f" and {others - 1} more" if others > 1 else ""
    me_name = name_of(me)
    mend = (
        command("chmod -R u+rwX", data)
        if status.st_uid == me
        else command("sudo chown -R", me_name, data)
    )
    raise FileAccessError(
        f"the browser could not use {path}{more} (owner {owner}, mode "
        f"{stat.S_IMODE(status.st_mode):04o}), and would look logged out",
        hint=f"run: {mend}",
        profile_id=profile_id,
        owner=owner,
    )


def _can_change(path: str, status: os.stat_result) -> bool:
    if os.geteuid() == 0:
        return True
    wanted = os.R_OK | os.W_OK | (os.X_OK if stat.S_ISDIR(status.st_mode) else 0)
    return os.access(path, wanted)


def temporary_parents() -> Iterator[str]:
    """Directories for temporary files in which nobody else can put something in their places.

    One's own first. In one that others can write to, and that is not sticky, they could rename
    what is in it, and have a program of theirs run instead.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    for parent in (runtime, tempfile.gettempdir(), "/tmp", os.path.expanduser("~")):  # noqa: S108
        if parent and _only_ours_can_rename_in(parent):
            yield parent


def temporary_directory() -> str:
    """A new directory in the first of them.

    Raises:
        OSError: there is none in which one can be made.
    """
    for parent in temporary_parents():
        with contextlib.suppress(OSError):
            return tempfile.mkdtemp(prefix="tweakio-", dir=parent)
    raise FileNotFoundError(
        errno.ENOENT, "there is no directory for temporary files that only its owners can change"
    )


def _only_ours_can_rename_in(place: str) -> bool:
    if sys.platform == "win32":
        return True  # each user has one of their own
    place = os.path.realpath(place)
    while True:
        try:
            status = os.stat(place)
        except OSError:
            return False
        open_to_others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if status.st_uid not in (0, os.geteuid()) or (
            open_to_others and not status.st_mode & stat.S_ISVTX
        ):
            return False
        above = os.path.dirname(place)
        if above == place:
            return True
        place = above


def walk(top: Path) -> Iterator[tuple[str, os.stat_result]]:
    """What is in a directory, and itself; a bounded number."""
    left = _MOST_LOOKED_AT
    todo = [os.fspath(top)]
    try:
        yield todo[0], os.lstat(top)
    except OSError:
        return
    while todo and left > 0:
        try:
            with os.scandir(todo.pop()) as entries:
                for entry in entries:
                    left -= 1
                    status = entry.stat(follow_symlinks=False)
                    yield entry.path, status
                    if stat.S_ISDIR(status.st_mode):
                        todo.append(entry.path)
        except OSError:
            continue  # it was named already, or is gone


def name_of(uid: int) -> str:
    """A user's name; the number if there is none, as in some containers."""
    if sys.platform == "win32":
        return str(uid)
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OSError):
        return str(uid)
