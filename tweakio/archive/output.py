"""A file that appears complete or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import TYPE_CHECKING, BinaryIO

from tweakio import durable
from tweakio.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["new_file"]


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Write a new file that only its owner can read; an error or a kill leaves none.

    Until it is complete it has no name where the system can do that (Linux), else one beside. A
    name that the disk did not confirm is taken back, so that what failed has not happened.

    Raises:
        InvalidInputError: the name is taken, and nothing is ever replaced; or there is no such
            directory.
    """
    _refuse(path)
    temporary: Path | None = None
    flags = os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path.parent, flags | os.O_TMPFILE, 0o600)
    except (AttributeError, OSError):
        # The file system knows no such files.
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        descriptor = os.open(temporary, flags | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with durable.writer(descriptor) as file:
            if hasattr(os, "fchmod"):
                os.fchmod(descriptor, 0o600)
            yield file
            file.flush()
            durable.sync_descriptor(descriptor)
            try:
                _name(descriptor, temporary, path)
                durable.fsync_directory(path.parent)
            except BaseException as error:  # Ctrl-C may come just after it has its name
                _take_back(descriptor, path)
                if isinstance(error, FileExistsError):
                    _refuse(path)
                raise
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def _refuse(path: Path) -> None:
    if os.path.lexists(path):
        raise InvalidInputError(
            f"{path} exists", hint="give another name, or remove it first; nothing was written"
        )
    if not path.parent.is_dir():
        raise InvalidInputError(f"there is no directory {path.parent}", hint="make it first")


def _take_back(descriptor: int, path: Path) -> None:
    """Remove the name, if it is ours and not one that somebody else took first."""
    with contextlib.suppress(OSError):  # Windows removes no file that is open
        if os.path.samestat(os.fstat(descriptor), os.lstat(path)):
            os.unlink(path)


def _name(descriptor: int, temporary: Path | None, path: Path) -> None:
    if temporary is None:
        # With a directory's descriptor Python follows the link, which names the open file.
        os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=descriptor, follow_symlinks=True)
    elif os.name == "nt":
        os.rename(temporary, path)  # fails if the name is taken
    else:
        os.link(temporary, path)
