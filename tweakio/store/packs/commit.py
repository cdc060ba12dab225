"""The objects of one commit as one pack.

It is meant for speed and not for size: no deltas, root trees as they are. ``pack_recent``
takes it away again.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import zlib
from typing import TYPE_CHECKING, NamedTuple

from tweakio import durable
from tweakio.store.packs.files import MODE, may_be_there, unlink
from tweakio.store.packs.format import HEADER, KINDS, entry_head, index_bytes, pack_header

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["PREFIX", "CommitPack"]

log = logging.getLogger(__name__)

# A commit pack has no content hash for a name but this and a random rest: no other pack can
# have the name, so there is never one to replace, and none that a running git repack wants
# to remove already. The ``.keep`` alone would not do to tell it: after a power cut it can
# have lost its content.
PREFIX = f"pack-{b'tweakio'.hex()}"
_KEEP = b"tweakio: one commit, until the next packing\n"


class CommitPack(NamedTuple):
    """A pack that was written and is not yet at its place.

    Objects that are somewhere else are not left out: who knows what a running git is about to
    remove.

    Attributes:
        path: of the temporary files, but for their suffixes.
    """

    path: str

    @classmethod
    def prepare(
        cls, temporary: Path, items: Iterable[tuple[bytes, bytes, bytes]], batch: durable.Batch
    ) -> CommitPack:
        """Write a pack of some objects and its index, as two of several files.

        Args:
            temporary: an existing directory in the file system of the repository.
            items: 20-byte name, kind and body of each object.
            batch: which takes them to the disk.
        """
        entries: dict[bytes, tuple[bytes, int, int]] = {}
        parts = []
        offset = HEADER
        for name, kind, body in items:
            if name in entries:
                continue
            # Trees are mostly object ids, which do not compress: level 0 took 1 ms instead of
            # 14 at 10,000 profiles.
            entry = entry_head(KINDS[kind], len(body)) + zlib.compress(
                body, 0 if kind == b"tree" else 1
            )
            entries[name] = (name, zlib.crc32(entry), offset)
            parts.append(entry)
            offset += len(entry)
        data = b"".join((pack_header(len(entries)), *parts))
        digest = hashlib.sha1(data, usedforsecurity=False).digest()
        path = os.path.join(temporary, f"pack-{os.urandom(8).hex()}")
        batch.create(path + ".pack", data + digest, mode=MODE)
        batch.create(path + ".idx", index_bytes(list(entries.values()), digest), mode=MODE)
        return cls(path)

    def put_in_place(self, objects: Path, marker: Path | None = None) -> None:
        """Let the repository have it, durably, after the batch was synced.

        Args:
            objects: the repository's ``objects`` directory.
            marker: a file, long synced, whose further name can be the ``.keep``: a new file
                takes 0.2 ms.

        Raises:
            OSError: what the system said. Nothing depends on the new objects, which may be
                there or not; the temporary files are gone.
        """
        stem = PREFIX + os.urandom(20).hex()[: len("pack-") + 40 - len(PREFIX)]
        path = os.path.join(objects, "pack", stem)
        try:
            try:
                _mark(path, marker)
            except FileNotFoundError:
                durable.make_directory(objects / "pack")
                durable.fsync_directory(objects)
                _mark(path, None)
            durable.move(self.path + ".pack", path + ".pack")
            durable.move(self.path + ".idx", path + ".idx")
        except BaseException:  # Ctrl-C as well: half a pack would be garbage for ever
            # Once it is visible, somebody else's commit may count on an object in it.
            if not may_be_there(path + ".idx"):
                for suffix in (".pack", ".keep"):
                    with contextlib.suppress(OSError):
                        unlink(path + suffix)
            self.discard()
            raise
        durable.fsync_directory(objects / "pack")

    def discard(self) -> None:
        """Remove the temporary files."""
        for suffix in (".pack", ".idx"):
            with contextlib.suppress(OSError):
                unlink(self.path + suffix)


def _mark(path: str, marker: Path | None) -> None:
    """Keep git from repacking a pack that is about to come."""
    if marker is not None:
        try:
            os.link(marker, path + ".keep")
            return
        except OSError as error:
            # No hard links here, too many of them, or no marker.
            log.debug("a .keep becomes a file of its own: %s", error)
    durable.create(path + ".keep", _KEEP, mode=MODE, sync=False)
