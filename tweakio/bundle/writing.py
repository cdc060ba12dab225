"""A bundle written."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, BinaryIO

from tweakio.bundle.content import name_others, sources
from tweakio.bundle.files import file_pieces
from tweakio.bundle.filters import PIECE, Counted, copied, piped_into
from tweakio.bundle.names import Names
from tweakio.bundle.tar import BLOCK, LEVEL, SUMS, WINDOW_LOG, BundleInfo, header, zstd

if TYPE_CHECKING:
    from collections.abc import Callable

    from tweakio.bundle.filters import Filter
    from tweakio.layout import ProfilePaths

__all__ = ["write_bundle"]


def write_bundle(
    directory: ProfilePaths,
    out: BinaryIO,
    *,
    session: bool = True,
    level: int = LEVEL,
    seal: Filter | None = None,
    progress: Callable[[int], None] | None = None,
) -> BundleInfo:
    """Write the browser data of a profile that nobody uses.

    Args:
        directory: the profile; the caller holds its lock.
        out: where to, opened for writing bytes; need not be able to seek.
        session: with session.json.
        level: of zstd.
        seal: takes what it reads from its first argument, seals it and writes it to the second,
            such as ``seal_stream`` of the vault with its recipients.
        progress: called with the bytes of content that were read so far.

    Raises:
        ArchiveError: a file changed while it was read, or names differ only by case.
        MissingExtraError: zstandard is not installed.
    """
    zstandard = zstd()
    target = Counted(out)
    compressor = zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters.from_level(
            level, window_log=WINDOW_LOG, write_checksum=True
        )
    )

    def compress(reader: BinaryIO, writer: BinaryIO) -> None:
        compressor.copy_stream(reader, writer, read_size=PIECE, write_size=PIECE)

    with (
        piped_into(target, seal or copied) as packed,
        piped_into(packed, compress) as stream,
    ):
        files, size = _write_tar(directory, stream, session=session, progress=progress)
    return BundleInfo(files, size, target.sha256, target.size)


def _write_tar(
    directory: ProfilePaths,
    stream: BinaryIO,
    *,
    session: bool,
    progress: Callable[[int], None] | None,
) -> tuple[int, int]:
    names = Names()
    sums: list[str] = []
    done = 0
    name_others(directory)
    for name, path in sources(directory):
        if name == directory.session.name and not session:
            continue
        names.add(name, is_directory=path is None)
        if path is None:
            stream.write(header(name, None))
            continue
        before = done
        digest = hashlib.sha256()
        for piece in file_pieces(path, name):
            if isinstance(piece, int):
                stream.write(header(name, piece))
                continue
            stream.write(piece)
            digest.update(piece)
            done += len(piece)
            if progress is not None:
                progress(done)
        stream.write(bytes(-(done - before) % BLOCK))
        sums.append(f"{digest.hexdigest()}  {name}\n")
    content = "".join(sums).encode("utf-8", "surrogateescape")
    stream.write(header(SUMS, len(content)) + content + bytes(-len(content) % BLOCK))
    stream.write(bytes(2 * BLOCK))
    return len(sums), done
