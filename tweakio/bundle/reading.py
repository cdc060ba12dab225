"""A bundle read, with distrust."""

from __future__ import annotations

import contextlib
import hashlib
import tarfile
from typing import TYPE_CHECKING, BinaryIO

from tweakio import durable
from tweakio.bundle.files import Written
from tweakio.bundle.filters import PIECE, Counted, copied, piped_from
from tweakio.bundle.names import LONGEST_PATH, Names, shown
from tweakio.bundle.tar import (
    BLOCK,
    SUMS,
    SUMS_OF_ANY,
    BundleInfo,
    damaged,
    parse,
    zstd,
)
from tweakio.errors import ArchiveError, NewerFormatError
from tweakio.shelter import is_repository

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tweakio.bundle.filters import Filter

__all__ = ["check_names", "read_bundle"]

_WINDOW = 1 << 23
"""More than any bundle of ours needs; what wants more would take memory."""


def read_bundle(
    source: BinaryIO,
    into: Path | None,
    *,
    limit_bytes: int,
    unseal: Filter | None = None,
    progress: Callable[[int], None] | None = None,
) -> BundleInfo:
    """Unpack a bundle; it is hostile until every byte of it was checked.

    If it raises, what was written so far is the caller's to remove: unpack into a staged
    directory.

    Args:
        source: from here to its end.
        into: an empty directory; None to check only. Everything in it is on the disk then.
        limit_bytes: how many bytes the files may have together.
        unseal: as ``seal`` of ``write_bundle``, the other way.
        progress: called with the bytes of content so far.

    Raises:
        ArchiveError: it is no bundle, damaged, cut short, larger than the limit, has names that
            lead elsewhere or twice the same, links or devices, or a wrong hash.
        NewerFormatError: a newer tweakio has written it.
        MissingExtraError: zstandard is not installed.
    """
    counted = Counted(source)
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(_tar(counted, unseal or copied))
        written = None if into is None else stack.enter_context(Written(into))
        unpacking = _Unpacking(stream, written, limit_bytes, progress)
        unpacking.run()
        if stream.read(1):
            raise ArchiveError("there is something behind the end of the browser data")
    return BundleInfo(unpacking.files, unpacking.bytes, counted.sha256, counted.size)


def check_names(source: BinaryIO, *, limit_bytes: int) -> None:
    """Refuse a bundle for its names and sizes alone, before anything of it is made.

    A megabyte of it can have some hundred thousand directories, each of which would take longer
    to make than to read. No content is hashed; ``read_bundle`` checks it all.

    Args:
        source: from here to the list of hashes; not sealed.
        limit_bytes: how many bytes the files may have together.

    Raises:
        As ``read_bundle``.
    """
    with _tar(source, copied) as stream:
        _Unpacking(stream, None, limit_bytes, None).names()


@contextlib.contextmanager
def _tar(source: object, unseal: Filter) -> Iterator[BinaryIO]:
    """The tar in a bundle."""
    zstandard = zstd()

    def decompress(reader: BinaryIO, writer: BinaryIO) -> None:
        stream = zstandard.ZstdDecompressor(max_window_size=_WINDOW).stream_reader(
            reader, read_size=PIECE, closefd=False
        )
        try:
            copied(stream, writer)
        except zstandard.ZstdError:
            raise damaged() from None
        if reader.read(1):
            raise ArchiveError("there is something behind the end of the browser data")

    with piped_from(source, unseal) as packed, piped_from(packed, decompress) as stream:
        yield stream


def _left_out(name: str) -> bool:
    """Whether it is a repository, or in one: its hooks and settings would be somebody else's."""
    return any(is_repository(part) for part in name.split("/"))


class _Unpacking:
    """One run of ``read_bundle``."""

    def __init__(
        self,
        stream: BinaryIO,
        written: Written | None,
        limit_bytes: int,
        progress: Callable[[int], None] | None,
    ) -> None:
        self.files = 0
        self.bytes = 0
        self._stream = stream
        self._written = written
        self._limit = limit_bytes
        self._progress = progress
        self._names = Names()
        self._sums: dict[str, bytes] = {}

    def run(self) -> None:
        """Unpack everything, and compare the hashes at the end."""
        self._compare(self._members(self._file) or 0)
        if any(self._exactly(2 * BLOCK)):
            raise damaged()

    def names(self) -> None:
        """Look at the names and sizes only."""
        self._members(self._skip)

    def _members(self, take: Callable[[str, int], None]) -> int | None:
        """All members up to the list of hashes, and its size."""
        while True:
            block = self._exactly(BLOCK)
            if block == bytes(BLOCK):
                raise ArchiveError("the browser data has no list of hashes", hint="it is no bundle")
            name, size = self._member(block)
            if SUMS_OF_ANY.fullmatch(name):
                break
            if name.split("/")[0] not in ("session.json", "browser_profile") or (
                name.startswith("session.json") and (name != "session.json" or size is None)
            ):
                raise ArchiveError(f"{shown(name)} is nothing that browser data has")
            if size is None:
                self._make_directories(self._names.add(name, is_directory=True))
            else:
                if name == "browser_profile":
                    raise ArchiveError("browser_profile is a file in it")
                self._make_directories(self._names.add(name, is_directory=False)[:-1])
                take(name, size)
        if name != SUMS:
            raise NewerFormatError(
                f"a newer tweakio has written it ({shown(name)})", hint="update tweakio"
            )
        return size

    def _exactly(self, size: int) -> bytes:
        data: bytes = self._stream.read(size)
        while len(data) < size:
            more = self._stream.read(size - len(data))
            if not more:
                raise damaged()
            data += more
        return data

    def _member(self, block: bytes) -> tuple[str, int | None]:
        """Name and size of a member; directories have no size."""
        member = parse(block)
        long_name = None
        if member.type == tarfile.GNUTYPE_LONGNAME:
            if not 0 < member.size <= LONGEST_PATH + 1:
                raise damaged()
            content = self._exactly(member.size + -member.size % BLOCK)[: member.size]
            long_name = content.rstrip(b"\0").decode("utf-8", "surrogateescape")
            member = parse(self._exactly(BLOCK))
        name = long_name if long_name is not None else member.name
        if member.type == tarfile.DIRTYPE and not member.size:
            return name.rstrip("/"), None
        if member.type == tarfile.REGTYPE and member.size >= 0:
            return name, member.size
        raise ArchiveError(
            f"{shown(name)} is a link, a device or something else that is no file",
            hint="do not trust where it came from",
        )

    def _make_directories(self, names: list[str]) -> None:
        if self._written is not None:
            for name in names:
                if not _left_out(name):
                    self._written.make_directory(name)

    def _refuse_larger(self, size: int) -> None:
        if self.bytes + size > self._limit:
            raise ArchiveError(
                f"its files have more than {self._limit} bytes", hint="nothing was changed"
            )

    def _skip(self, _: str, size: int) -> None:
        self._refuse_larger(size)
        self.bytes += size
        left = size + -size % BLOCK
        while left:
            piece = self._stream.read(min(left, PIECE))
            if not piece:
                raise damaged()
            left -= len(piece)

    def _file(self, name: str, size: int) -> None:
        self._refuse_larger(size)
        digest = hashlib.sha256()
        descriptor = None
        if self._written is not None and not _left_out(name):
            descriptor = self._written.create(name)
        left = size
        while left:
            piece = self._stream.read(min(left, PIECE))
            if not piece:
                raise damaged()
            digest.update(piece)
            if descriptor is not None:
                durable.write_all(descriptor, piece)
            left -= len(piece)
            self.bytes += len(piece)
            if self._progress is not None:
                self._progress(self.bytes)
        self._exactly(-size % BLOCK)
        if descriptor is not None:
            durable.begin_writing(descriptor)
        self.files += 1
        self._sums[name] = digest.digest()

    def _compare(self, size: int) -> None:
        """Compare with the list of hashes, which must have just the files that there are."""
        if size > self.files * (LONGEST_PATH * 4 + 70):
            raise damaged()
        rest, left = b"", size
        while left:
            piece = self._exactly(min(left, PIECE))
            left -= len(piece)
            *lines, rest = (rest + piece).split(b"\n")
            if len(rest) > LONGEST_PATH * 5:
                raise damaged()
            for line in lines:
                name = line[66:].decode("utf-8", "surrogateescape")
                expected = self._sums.pop(name, None)
                if expected is None or line[:66] != expected.hex().encode() + b"  ":
                    raise ArchiveError(
                        f"the SHA-256 of {shown(name)} is not what it should be",
                        hint="the file is damaged or was changed; get it anew",
                    )
        self._exactly(-size % BLOCK)
        if rest or self._sums:
            raise damaged()
