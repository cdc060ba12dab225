"""The kinds of the things in a git directory: directories and regular files, nothing else.

A link that stands for a directory would lead all that is done below it out of the home, and a
FIFO in the place of a file would stop whoever opens it. Neither is made by git or by tweakio.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from tweakio import durable
from tweakio.errors import RepositoryDamagedError, is_of_the_moment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["misplaced", "refuse_misplaced"]

_FILES = (
    *("HEAD", "config", "index", "packed-refs", "logs/HEAD", "tweakio/journal.json"),
    *("tweakio/packs.json", "tweakio/cache/head", "tweakio/cache/profiles", "tweakio/locks/marker"),
    *("tweakio/locks/repository.lock", "tweakio/locks/line"),
)
# What is below these is looked at too; not the loose objects, of which there may be many, and
# which are opened with care, and not what the trash keeps, which is never looked into.
_DEEP = ("refs", "logs")
_SHALLOW = ("objects", "objects/pack", "tweakio", "tweakio/locks", "tweakio/cache")
_DIRECTORIES = ("trash", "rescued", "staging", "tmp", "locks", "cache", "damaged")


def misplaced(git_dir: Path) -> list[str]:
    """The paths in a git directory that are links or special files, outermost first.

    Args:
        git_dir: a directory; paths are relative to it.

    Raises:
        OSError: something cannot be looked at now.
    """
    return list(_misplaced(os.fspath(git_dir)))


def refuse_misplaced(git_dir: Path) -> None:
    """Return if nothing is a link or a special file.

    Raises:
        RepositoryDamagedError: it names the first that is not.
    """
    for name in _misplaced(os.fspath(git_dir)):
        kind = _kind(os.path.join(git_dir, name))
        # A file or a directory in the way harms nobody; who needs the place says so.
        if kind in ("a symbolic link", "a special file"):
            raise RepositoryDamagedError(
                f"{name[:200]!r} in the git directory is not what belongs there: {kind}",
                hint="run 'tweakio repo doctor --fix', which puts it aside",
            )


def _misplaced(base: str) -> Iterator[str]:
    odd: set[str] = set()
    for name in (*_SHALLOW, *_DEEP, *_FILES):
        above = name.rpartition("/")[0]
        if above in odd or name in odd:
            odd.add(name)
        elif _is_odd(os.path.join(base, name), directory=name not in _FILES):
            odd.add(name)
            yield name
        elif name not in _FILES:
            for found in _below(base, name, deep=name in _DEEP):
                if found not in odd:
                    odd.add(found)
                    yield found


def _below(base: str, directory: str, *, deep: bool) -> Iterator[str]:
    todo = [directory]
    while todo:
        place = todo.pop()
        try:
            with os.scandir(os.path.join(base, place)) as items:
                entries = list(items)
        except OSError as error:
            if is_of_the_moment(error):
                raise
            continue
        for item in entries:
            name = f"{place}/{item.name}"
            if item.is_dir(follow_symlinks=False):
                todo += [name] * deep
            elif not item.is_file(follow_symlinks=False) or (
                place == "tweakio" and item.name in _DIRECTORIES
            ):
                yield name


def _is_odd(path: str, *, directory: bool) -> bool:
    mode = durable.mode_of(path)
    return bool(mode) and not (stat.S_ISDIR(mode) if directory else stat.S_ISREG(mode))


def _kind(path: str) -> str:
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        return "a symbolic link"
    if stat.S_ISREG(mode):
        return "a file"
    return "a directory" if stat.S_ISDIR(mode) else "a special file"
