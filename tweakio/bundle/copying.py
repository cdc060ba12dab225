"""What a bundle would have, copied file by file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tweakio import durable
from tweakio.bundle.content import name_others, sources
from tweakio.bundle.files import Written, file_pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from tweakio.layout import ProfilePaths

__all__ = ["copy_contents", "copy_files"]


def copy_contents(
    directory: ProfilePaths, into: Path, progress: Callable[[int], None] | None = None
) -> None:
    """Copy what a bundle of this profile would have; all of it is on the disk then.

    Args:
        directory: the profile; the caller holds its lock.
        into: a staged directory, empty.
        progress: called with the bytes that were copied so far.

    Raises:
        ArchiveError: a file changed while it was read.
    """
    name_others(directory)
    copy_files(sources(directory), into, progress)


def copy_files(
    files: Iterable[tuple[str, str | None]],
    into: Path,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Copy files as ``user_data_files`` gives them; see ``copy_contents``."""
    done = 0
    with Written(into) as written:
        for name, path in files:
            if path is None:
                written.make_directory(name)
                continue
            descriptor = written.create(name)
            for piece in file_pieces(path, name):
                if isinstance(piece, int):
                    continue
                durable.write_all(descriptor, piece)
                done += len(piece)
                if progress is not None:
                    progress(done)
            durable.begin_writing(descriptor)
