"""Reads that tell what is there, or raise.

What cannot be read for a reason of the moment (a limit, a permission, the device) is an ``OSError``
here: nothing follows from it, so that nothing is repaired for it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tweakio import durable
from tweakio.errors import is_of_the_moment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["content", "files_below", "names_in"]


def content(path: Path | str, limit: int) -> bytes | None:
    """A regular file; None if there is certainly no such file, or something else in its place.

    Raises:
        OSError: it cannot be read now.
    """
    try:
        return durable.read_regular(path, limit)
    except OSError as error:
        if is_of_the_moment(error):
            raise
        return None


def names_in(directory: Path | str) -> list[str]:
    """What is in a directory, sorted; nothing if there is certainly none.

    Raises:
        OSError: it cannot be listed now. ``Path.glob`` takes that for an empty one.
    """
    try:
        return sorted(os.listdir(directory))
    except OSError as error:
        if is_of_the_moment(error):
            raise
        return []


def files_below(top: Path) -> Iterator[str]:
    """The paths of all refs or reflogs below a directory, relative to it, with slashes.

    No name of one begins with a dot; what does (such as .DS_Store) is of a file manager.

    Raises:
        OSError: a directory cannot be listed now.
    """

    def refuse(error: OSError) -> None:
        if is_of_the_moment(error):
            raise error

    for directory, _, files in os.walk(top, onerror=refuse):
        for file in files:
            if file.startswith("."):
                continue
            yield os.path.relpath(os.path.join(directory, file), top).replace(os.sep, "/")
