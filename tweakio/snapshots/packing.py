"""A profile's bundle as a file, sealed on its way there and opened on its way back."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

from tweakio import bundle, durable
from tweakio.vault import binding

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tweakio.layout import ProfilePaths
    from tweakio.vault.binding import Bound

__all__ = ["Packed", "pack", "unpack"]


class Packed(NamedTuple):
    """What was packed, or unpacked.

    Attributes:
        files: how many.
        bytes: of them.
        content_sha256: of the bundle before it was sealed: the same for the same content.
        stored_bytes: of what is stored.
        stored_sha256: of that.
    """

    files: int
    bytes: int
    content_sha256: str
    stored_bytes: int
    stored_sha256: str


def pack(
    paths: ProfilePaths,
    target: Path,
    recipients: Sequence[str],
    progress: Callable[[int], None] | None = None,
    begin: bytes = b"",
) -> Packed:
    """Write the bundle of a stopped profile into a new file, and sync that.

    What is sealed touches no disk in the clear.

    Args:
        paths: of the profile.
        target: the file, which must not exist.
        recipients: whom to seal it for; nobody means that it is not sealed.
        progress: called with the number of bytes packed so far.
        begin: encrypted before the bundle, and not part of it.
    """
    content: list[str] = []

    def seal(reader: BinaryIO, writer: BinaryIO) -> None:
        from tweakio.vault import age

        counted = bundle.Counted(reader)
        source = _Behind(begin, cast("BinaryIO", counted))
        age.seal_stream(cast("BinaryIO", source), writer, recipients)
        content.append(counted.sha256)

    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, durable.FILE_MODE)
    with durable.writer(descriptor) as file:
        info = bundle.write_bundle(
            paths, file, seal=seal if recipients else None, progress=progress
        )
        file.flush()
        durable.sync_descriptor(file.fileno())
    return _packed(info, content[0] if recipients else info.sha256)


class _Behind:
    """A stream that begins with something else."""

    def __init__(self, begin: bytes, stream: BinaryIO) -> None:
        self._begin = begin
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        if not self._begin:
            return self._stream.read(size)
        found = self._begin if size < 0 else self._begin[:size]
        self._begin = self._begin[len(found) :]
        return found


def unpack(
    source: BinaryIO,
    into: Path | None,
    identities: Sequence[str],
    limit_bytes: int,
    check: Callable[[Bound], None],
) -> Packed:
    """Unpack a bundle into an empty directory, or only check it.

    Args:
        source: from here to its end.
        into: the directory; None to check only.
        identities: what opens it if it is sealed; nothing means that it is not.
        limit_bytes: more bytes of files than this are refused.
        check: called with what is said inside of what is encrypted, before any of it is used.

    Raises:
        VaultError: no identity opens it.
        ArchiveError: it is damaged.
    """
    content: list[str] = []

    def unseal(reader: BinaryIO, writer: BinaryIO) -> None:
        from tweakio.vault import age

        counted = bundle.Counted(writer)
        target = binding.Unframed(cast("BinaryIO", counted), check)
        age.unseal_stream(reader, cast("BinaryIO", target), identities)
        target.end()
        content.append(counted.sha256)

    info = bundle.read_bundle(
        source, into, limit_bytes=limit_bytes, unseal=unseal if identities else None
    )
    return _packed(info, content[0] if identities else info.sha256)


def _packed(info: bundle.BundleInfo, content: str) -> Packed:
    return Packed(info.files, info.bytes, content, info.size, info.sha256)
