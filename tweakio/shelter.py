"""What keeps plain git away from browser data: git takes them for a repository of their own.

``git clean -fdx`` and ``git stash --all`` remove what is ignored, but no directory with a
repository in it. For git 2.39 a repository is ``HEAD``, ``objects/`` and ``refs/``: less does not
help. ``git clean -ffdx`` and a sparse checkout remove it all the same.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from tweakio import durable

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SHELTER", "is_repository", "shelter"]

SHELTER = ".git"
"""Its name in the browser data; it belongs to the place, and travels nowhere with them."""
_HEAD = b"ref: refs/heads/none\n"
# What git, HFS+ and NTFS take for the same name. What comes from elsewhere could have hooks in it.
_SAME_ON_NTFS = "git~1"
_IGNORED_BY_HFS = dict.fromkeys(
    [*range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF]
)


def shelter(browser_data: Path) -> None:
    """Make the repository in a directory of browser data, unless one is there.

    It is not synced: if a power cut takes it, or its content, the next opening makes it anew.
    """
    place = browser_data / SHELTER
    head = place / "HEAD"
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        if os.lstat(head).st_size:
            return
    if not stat.S_ISDIR(os.lstat(browser_data).st_mode):
        return  # what a link leads to is not the profile's
    durable.make_directory(place)
    if not stat.S_ISDIR(os.lstat(place).st_mode):
        return
    for name in ("objects", "refs"):
        durable.make_directory(place / name)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(head)
    durable.create(head, _HEAD, sync=False)


def is_repository(name: str) -> bool:
    """Whether a file system may take one part of a path for ``.git``."""
    plain = name.translate(_IGNORED_BY_HFS).casefold().split(":")[0].rstrip(" .")
    return plain in (SHELTER, _SAME_ON_NTFS)
