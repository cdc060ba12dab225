"""The format: tar's headers, the list of hashes, zstd.

Python's ``tarfile`` is used for the headers only; its reader would keep every member, and takes
extended headers of any length, links and devices.
"""

from __future__ import annotations

import re
import tarfile
from typing import Any, NamedTuple

from tweakio.errors import ArchiveError, MissingExtraError

__all__ = [
    "BLOCK",
    "FORMAT",
    "LEVEL",
    "SUMS",
    "SUMS_OF_ANY",
    "WINDOW_LOG",
    "BundleInfo",
    "damaged",
    "header",
    "parse",
    "zstd",
]

FORMAT = 1
LEVEL = 3
"""zstd's own default."""
WINDOW_LOG = 21
"""How far zstd looks back: 2 MB, its own choice at this level for what has no known size."""
BLOCK = tarfile.BLOCKSIZE
SUMS = f"tweakio-bundle-{FORMAT}.sha256"
SUMS_OF_ANY = re.compile(r"tweakio-bundle-[0-9]{1,6}\.sha256")


class BundleInfo(NamedTuple):
    """What went into a bundle, or came out of it.

    Attributes:
        files: how many.
        bytes: of these files together.
        sha256: of the bundle itself, as it was written or read, in hexadecimal.
        size: bytes of the bundle.
    """

    files: int
    bytes: int
    sha256: str
    size: int


def header(name: str, size: int | None) -> bytes:
    """A member's header; of a directory if there is no size. No time, owner or machine in it."""
    member = tarfile.TarInfo(name)
    member.type, member.mode = (
        (tarfile.DIRTYPE, 0o700) if size is None else (tarfile.REGTYPE, 0o600)
    )
    member.size = size or 0
    return member.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def parse(block: bytes) -> tarfile.TarInfo:
    """A member as its header says.

    Raises:
        ArchiveError: it is no header.
    """
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        raise damaged() from None


def damaged() -> ArchiveError:
    """What is said of data that is not as it was written."""
    return ArchiveError("the browser data is damaged or cut short", hint="get the file anew")


def zstd() -> Any:
    """The package zstandard.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import zstandard
    except ImportError:
        raise MissingExtraError(
            "exports and snapshots need the package zstandard, which is not installed",
            hint="run 'pip install tweakio[archive]'",
            extra="archive",
        ) from None
    return zstandard
