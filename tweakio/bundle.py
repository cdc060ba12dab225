"""The browser data of a stopped profile as one stream: tar, zstd, and sealed if asked for.

Any tar opens it (``tar --zstd -xf``). It has ``session.json`` and ``browser_profile/`` without
caches and browsers' locks, and last ``tweakio-bundle-1.sha256``: the format's version by its
name, and the SHA-256 of each file as ``sha256sum -c`` takes them.

Memory does not grow with the size of the files: pieces of a megabyte go through. Python's
``tarfile`` is used for the headers only; its reader would keep every member, and takes extended
headers of any length, links and devices.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import tarfile
import threading
import unicodedata
from typing import IO, TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

from tweakio import durable
from tweakio.disk import caches_in
from tweakio.errors import ArchiveError, MissingExtraError, NewerFormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from types import TracebackType

    from tweakio.layout import ProfilePaths

    Filter = Callable[[BinaryIO, BinaryIO], None]

__all__ = [
    "FORMAT",
    "BundleInfo",
    "content_size",
    "copy_contents",
    "copy_files",
    "folded",
    "piped_from",
    "piped_into",
    "read_bundle",
    "refuse_path",
    "user_data_files",
    "write_bundle",
]

FORMAT = 1
LEVEL = 3
"""zstd's own default."""
MOST_FILES = 200_000
"""What a bundle may have; a profile of years has some thousand."""

_SUMS = f"tweakio-bundle-{FORMAT}.sha256"
_SUMS_OF_ANY = re.compile(r"tweakio-bundle-[0-9]{1,6}\.sha256")
_PIECE = 1 << 20
_BLOCK = tarfile.BLOCKSIZE
_LONGEST_PATH = 4096
_JOB = 1 << 21
_WINDOW = 1 << 23
_OPEN = 64
# A browser's own locks and ports, at the top of its directory. Links are left out anyway.
_LOCKS = frozenset(
    {
        ".parentlock",
        "DevToolsActivePort",
        "lock",
        "lockfile",
        "parent.lock",
        "RunningChromeVersion",
        "SingletonCookie",
        "SingletonLock",
        "SingletonSocket",
    }
)


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


def content_size(directory: ProfilePaths) -> int:
    """Bytes of the files that a bundle of this profile would have, for a progress bar."""
    return sum(os.lstat(path).st_size for name, path in _sources(directory) if path and name)


# Names


def refuse_path(path: str) -> None:
    """Refuse a path of an archive that is not plainly relative, on any platform.

    Raises:
        ArchiveError: it could lead elsewhere.
    """
    parts = path.split("/")
    if (
        not path
        or len(path) > _LONGEST_PATH
        or any(part in ("", ".", "..") or len(part) > 255 for part in parts)
        or "\\" in path
        or any(ord(character) < 32 or ord(character) == 127 for character in path)
        or (os.name == "nt" and set(path) & set(':<>"|?*'))
        or re.match(r"[A-Za-z]:", path)
    ):
        raise ArchiveError(
            f"the archive has the name {_shown(path)}, which leads out of its place",
            hint="do not trust where it came from",
        )


def folded(path: str) -> str:
    """What two names have in common that one file system takes for the same."""
    return unicodedata.normalize("NFC", path).casefold()


def _shown(path: str) -> str:
    return ascii(path if len(path) <= 60 else f"{path[:57]}...")


class _Names:
    """The names so far; refuses one that is there, also by case, or is a file's and a directory's.

    Attributes:
        count: how many there are.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, bool]] = {}

    def add(self, path: str, *, is_directory: bool) -> list[str]:
        """Add a path and the directories above it; what is new of them, outermost first."""
        refuse_path(path)
        parts = path.split("/")
        new = []
        for depth in range(1, len(parts) + 1):
            name = "/".join(parts[:depth])
            wanted = (name, is_directory or depth < len(parts))
            found = self._known.setdefault(folded(name), wanted)
            if found is wanted:
                new.append(name)
            elif found != wanted or not wanted[1]:
                raise ArchiveError(
                    f"{_shown(name)} is in it twice, or differs from another name only by case",
                    hint="nothing was changed",
                )
        if len(self._known) > MOST_FILES:
            raise ArchiveError(f"it has more than {MOST_FILES} files", hint="nothing was changed")
        return new


# Writing


def write_bundle(
    directory: ProfilePaths,
    out: BinaryIO,
    *,
    session: bool = True,
    level: int = LEVEL,
    threads: int = 0,
    seal: Filter | None = None,
    progress: Callable[[int], None] | None = None,
) -> BundleInfo:
    """Write the browser data of a profile that nobody uses.

    Args:
        directory: the profile; the caller holds its lock.
        out: where to, opened for writing bytes; need not be able to seek.
        session: with session.json.
        level: of zstd.
        threads: that compress beside the one that reads; none is the least work and the smallest
            result.
        seal: takes what it reads from its first argument, seals it and writes it to the second,
            such as ``seal_stream`` of the vault with its recipients.
        progress: called with the bytes of content that were read so far.

    Raises:
        ArchiveError: a file changed while it was read, or names differ only by case.
        MissingExtraError: zstandard is not installed.
    """
    zstandard = _zstandard()
    target = _Counted(out)
    parameters: dict[str, Any] = {"compression_level": level, "write_checksum": True}
    if threads:
        parameters |= {"threads": threads, "job_size": _JOB}
    compressor = zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters.from_level(
            level,
            window_log=21,
            **{key: value for key, value in parameters.items() if key != "compression_level"},
        )
    )
    with contextlib.ExitStack() as stack:
        sink: Any = stack.enter_context(piped_into(target, seal)) if seal else target
        with compressor.stream_writer(sink, closefd=False) as stream:
            files, size = _write_tar(directory, stream, session=session, progress=progress)
    return BundleInfo(files, size, target.sha256, target.size)


def _write_tar(
    directory: ProfilePaths,
    stream: Any,
    *,
    session: bool,
    progress: Callable[[int], None] | None,
) -> tuple[int, int]:
    names = _Names()
    sums: list[str] = []
    done = 0
    for name, path in _sources(directory):
        if name == directory.session.name and not session:
            continue
        names.add(name, is_directory=path is None)
        if path is None:
            stream.write(_header(name, None))
            continue
        before = done
        digest = hashlib.sha256()
        for piece in _file_pieces(path, name):
            if isinstance(piece, int):
                stream.write(_header(name, piece))
                continue
            stream.write(piece)
            digest.update(piece)
            done += len(piece)
            if progress is not None:
                progress(done)
        stream.write(bytes(-(done - before) % _BLOCK))
        sums.append(f"{digest.hexdigest()}  {name}\n")
    content = "".join(sums).encode("utf-8", "surrogateescape")
    stream.write(_header(_SUMS, len(content)) + content + bytes(-len(content) % _BLOCK))
    stream.write(bytes(2 * _BLOCK))
    return len(sums), done


def _sources(directory: ProfilePaths) -> Iterator[tuple[str, str | None]]:
    """Names and paths, sorted; directories without a path."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISREG(os.lstat(directory.session).st_mode):
            yield directory.session.name, os.fspath(directory.session)
    top = os.fspath(directory.browser_profile)
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISDIR(os.lstat(top).st_mode):
            yield from user_data_files(directory.browser_profile, directory.browser_profile.name)


def user_data_files(user_data: Path, name: str) -> Iterator[tuple[str, str | None]]:
    """What of a browser's user data directory is worth keeping: no caches, locks, links, devices.

    Args:
        user_data: the directory.
        name: what it will be called.

    Yields:
        Names that begin with ``name``, sorted, and paths; directories without a path.
    """
    top = os.fspath(user_data)
    left_out = {os.fspath(path) for path in caches_in(user_data)}
    left_out |= {os.path.join(top, lock) for lock in _LOCKS}
    yield from _walk(top, name, left_out)


def _walk(top: str, name: str, left_out: set[str]) -> Iterator[tuple[str, str | None]]:
    yield name, None
    with os.scandir(top) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        inner = f"{name}/{entry.name}"
        if entry.path in left_out:
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path, inner, left_out)
        elif entry.is_file(follow_symlinks=False):
            yield inner, entry.path


def _header(name: str, size: int | None) -> bytes:
    """A member's header; of a directory if there is no size. No time, owner or machine in it."""
    member = tarfile.TarInfo(name)
    member.type, member.mode = (
        (tarfile.DIRTYPE, 0o700) if size is None else (tarfile.REGTYPE, 0o600)
    )
    member.size = size or 0
    return member.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _file_pieces(path: str, name: str) -> Iterator[int | bytes]:
    """A regular file's size, and then its content, which must have it."""
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags | getattr(os, "O_CLOEXEC", 0))
    try:
        size = os.fstat(descriptor).st_size
        yield size
        while size:
            piece = os.read(descriptor, min(size, _PIECE))
            if not piece:
                raise ArchiveError(
                    f"{_shown(name)} changed while it was read",
                    hint="end the browser of the profile and run the command again",
                )
            size -= len(piece)
            yield piece
    finally:
        os.close(descriptor)


# Copying


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
    copy_files(_sources(directory), into, progress)


def copy_files(
    files: Iterable[tuple[str, str | None]],
    into: Path,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Copy files as ``user_data_files`` gives them; see ``copy_contents``."""
    done = 0
    with _Written(into) as written:
        for name, path in files:
            if path is None:
                written.make_directory(name)
                continue
            descriptor = written.create(name)
            for piece in _file_pieces(path, name):
                if isinstance(piece, int):
                    continue
                durable.write_all(descriptor, piece)
                done += len(piece)
                if progress is not None:
                    progress(done)
            durable.begin_writing(descriptor)


# Reading


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
    zstandard = _zstandard()
    counted = _Counted(source)
    with contextlib.ExitStack() as stack:
        plain: Any = stack.enter_context(piped_from(counted, unseal)) if unseal else counted
        stream = zstandard.ZstdDecompressor(max_window_size=_WINDOW).stream_reader(
            plain, read_size=1 << 17, closefd=False
        )
        try:
            written = None if into is None else stack.enter_context(_Written(into))
            unpacking = _Unpacking(stream, written, limit_bytes, progress)
            unpacking.run()
            if stream.read(1) or plain.read(1):
                raise ArchiveError("there is something behind the end of the browser data")
        except zstandard.ZstdError:
            raise _damaged() from None
    return BundleInfo(unpacking.files, unpacking.bytes, counted.sha256, counted.size)


def _damaged() -> ArchiveError:
    return ArchiveError("the browser data is damaged or cut short", hint="get the file anew")


class _Written:
    """Files and directories that are being written, and on the disk when the block has ended.

    Args:
        into: an existing directory, where nothing of these names is.
    """

    def __init__(self, into: Path) -> None:
        self._into = into
        self._directories: list[str] = []
        self._open: list[int] = []

    def __enter__(self) -> _Written:  # noqa: PYI034 - Self came with Python 3.11
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._sync()
                durable.sync_tree(reversed(self._directories))
        finally:
            while self._open:
                os.close(self._open.pop())

    def make_directory(self, name: str) -> None:
        """Make a directory of this name, for its owner only."""
        path = os.path.join(self._into, *name.split("/"))
        os.mkdir(path, 0o700)
        os.chmod(path, 0o700)
        self._directories.append(path)

    def create(self, name: str) -> int:
        """A new file's descriptor, which is closed here; the file is its owner's only."""
        if len(self._open) >= _OPEN:
            self._sync()
        path = os.path.join(self._into, *name.split("/"))
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        flags |= getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        descriptor = os.open(path, flags, 0o600)
        self._open.append(descriptor)
        if hasattr(os, "fchmod"):
            os.fchmod(descriptor, 0o600)
        return descriptor

    def _sync(self) -> None:
        while self._open:
            descriptor = self._open[0]
            durable.sync_descriptor(descriptor)
            os.close(self._open.pop(0))


class _Unpacking:
    """One run of ``read_bundle``."""

    def __init__(
        self,
        stream: Any,
        written: _Written | None,
        limit_bytes: int,
        progress: Callable[[int], None] | None,
    ) -> None:
        self.files = 0
        self.bytes = 0
        self._stream = stream
        self._written = written
        self._limit = limit_bytes
        self._progress = progress
        self._names = _Names()
        self._sums: dict[str, bytes] = {}

    def run(self) -> None:
        """Unpack everything, and compare the hashes at the end."""
        while True:
            block = self._exactly(_BLOCK)
            if block == bytes(_BLOCK):
                raise ArchiveError("the browser data has no list of hashes", hint="it is no bundle")
            name, size = self._member(block)
            if _SUMS_OF_ANY.fullmatch(name):
                break
            if name.split("/")[0] not in ("session.json", "browser_profile") or (
                name.startswith("session.json") and (name != "session.json" or size is None)
            ):
                raise ArchiveError(f"{_shown(name)} is nothing that browser data has")
            if size is None:
                self._make_directories(self._names.add(name, is_directory=True))
            else:
                if name == "browser_profile":
                    raise ArchiveError("browser_profile is a file in it")
                self._make_directories(self._names.add(name, is_directory=False)[:-1])
                self._file(name, size)
        if name != _SUMS:
            raise NewerFormatError(
                f"a newer tweakio has written it ({_shown(name)})", hint="update tweakio"
            )
        self._compare(size or 0)
        if any(self._exactly(2 * _BLOCK)):
            raise _damaged()

    def _exactly(self, size: int) -> bytes:
        data: bytes = self._stream.read(size)
        while len(data) < size:
            more = self._stream.read(size - len(data))
            if not more:
                raise _damaged()
            data += more
        return data

    def _member(self, block: bytes) -> tuple[str, int | None]:
        """Name and size of a member; directories have no size."""
        member = _parse(block)
        long_name = None
        if member.type == tarfile.GNUTYPE_LONGNAME:
            if not 0 < member.size <= _LONGEST_PATH + 1:
                raise _damaged()
            content = self._exactly(member.size + -member.size % _BLOCK)[: member.size]
            long_name = content.rstrip(b"\0").decode("utf-8", "surrogateescape")
            member = _parse(self._exactly(_BLOCK))
        name = long_name if long_name is not None else member.name
        if member.type == tarfile.DIRTYPE and not member.size:
            return name.rstrip("/"), None
        if member.type == tarfile.REGTYPE and member.size >= 0:
            return name, member.size
        raise ArchiveError(
            f"{_shown(name)} is a link, a device or something else that is no file",
            hint="do not trust where it came from",
        )

    def _make_directories(self, names: list[str]) -> None:
        if self._written is not None:
            for name in names:
                self._written.make_directory(name)

    def _file(self, name: str, size: int) -> None:
        if self.bytes + size > self._limit:
            raise ArchiveError(
                f"its files have more than {self._limit} bytes", hint="nothing was changed"
            )
        digest = hashlib.sha256()
        descriptor = None if self._written is None else self._written.create(name)
        left = size
        while left:
            piece = self._stream.read(min(left, _PIECE))
            if not piece:
                raise _damaged()
            digest.update(piece)
            if descriptor is not None:
                durable.write_all(descriptor, piece)
            left -= len(piece)
            self.bytes += len(piece)
            if self._progress is not None:
                self._progress(self.bytes)
        self._exactly(-size % _BLOCK)
        if descriptor is not None:
            durable.begin_writing(descriptor)
        self.files += 1
        self._sums[name] = digest.digest()

    def _compare(self, size: int) -> None:
        """Compare with the list of hashes, which must have just the files that there are."""
        if size > self.files * (_LONGEST_PATH * 4 + 70):
            raise _damaged()
        rest, left = b"", size
        while left:
            piece = self._exactly(min(left, _PIECE))
            left -= len(piece)
            *lines, rest = (rest + piece).split(b"\n")
            if len(rest) > _LONGEST_PATH * 5:
                raise _damaged()
            for line in lines:
                name = line[66:].decode("utf-8", "surrogateescape")
                expected = self._sums.pop(name, None)
                if expected is None or line[:66] != expected.hex().encode() + b"  ":
                    raise ArchiveError(
                        f"the SHA-256 of {_shown(name)} is not what it should be",
                        hint="the file is damaged or was changed; get it anew",
                    )
        self._exactly(-size % _BLOCK)
        if rest or self._sums:
            raise _damaged()


def _parse(block: bytes) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        raise _damaged() from None


# Streams


class _Counted:
    """A stream that knows how much went through it, and its SHA-256."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        """Of all so far, in hexadecimal."""
        return self._digest.hexdigest()

    def write(self, data: bytes) -> int:
        """Write all of it."""
        self._stream.write(data)
        self._digest.update(data)
        self.size += len(data)
        return len(data)

    def read(self, size: int = -1) -> bytes:
        """Read at most so much."""
        data = self._stream.read(size)
        self._digest.update(data)
        self.size += len(data)
        return data

    def flush(self) -> None:
        """Flush what it writes to."""
        self._stream.flush()


@contextlib.contextmanager
def piped_into(target: Any, through: Filter) -> Iterator[BinaryIO]:
    """A stream to write to, of which a filter makes something else for another one.

    Args:
        target: what the filter writes to, in a thread of its own; it is not closed.
        through: reads its first argument to the end and writes to its second.

    Raises:
        What the filter raised.
    """
    with _thread(lambda inner: through(inner, target), writes=False) as stream:
        yield stream


@contextlib.contextmanager
def piped_from(source: Any, through: Filter) -> Iterator[BinaryIO]:
    """A stream to read what a filter makes of another one; see ``piped_into``.

    Who leaves the block before the end ends the filter.
    """
    with _thread(lambda inner: through(source, inner), writes=True) as stream:
        yield stream


@contextlib.contextmanager
def _thread(run: Callable[[BinaryIO], None], *, writes: bool) -> Iterator[BinaryIO]:
    reading, writing = os.pipe()
    own: IO[bytes] = os.fdopen(writing, "wb", 0) if not writes else os.fdopen(reading, "rb", 0)
    its = os.fdopen(reading, "rb", 0) if not writes else os.fdopen(writing, "wb", 0)
    # Unbuffered, a write may be of a part only.
    errors: list[BaseException] = []

    def work() -> None:
        try:
            run(cast("BinaryIO", _Whole(its)))
        except BaseException as error:
            errors.append(error)
        finally:
            its.close()

    thread = threading.Thread(target=work, name="tweakio-pipe", daemon=True)
    thread.start()
    outer: BaseException | None = None
    try:
        yield cast("BinaryIO", _Whole(own))
    except BaseException as error:
        outer = error
    finally:
        own.close()
        thread.join()
    inner = errors[0] if errors else None
    # A broken pipe is what the other side's error looks like from here; and data that ends too
    # early is damaged for who reads it because the filter refused it.
    if inner is not None and not (isinstance(inner, BrokenPipeError) and outer is not None):
        raise inner
    if outer is not None:
        raise outer


class _Whole:
    """A pipe's end whose writes are complete."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        size = len(view)
        while view:
            view = view[self._stream.write(view) :]
        return size

    def read(self, size: int = -1) -> bytes:
        return self._stream.read(size)

    def flush(self) -> None:
        """Nothing is held back."""


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError:
        raise MissingExtraError(
            "exports and snapshots need the package zstandard, which is not installed",
            hint="run 'pip install tweakio[archive]'",
            extra="archive",
        ) from None
    return zstandard
