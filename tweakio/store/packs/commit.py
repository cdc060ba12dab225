"""The objects of one commit as one pack.

It is meant for speed and not for size: no deltas, root trees as they are. ``pack_recent``
takes it away again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import zlib
from typing import TYPE_CHECKING

from tweakio import durable
from tweakio.store.packs.files import MODE, temporary_pair, unlink
from tweakio.store.packs.format import HEADER, KINDS, entry_head, index_bytes, pack_header

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["PREFIX", "write_commit_pack"]

# A commit pack has no content hash for a name but this and a random rest: no other pack can
# have the name, so there is never one to replace, and none that a running git repack wants
# to remove already. The ``.keep`` alone would not do to tell it: after a power cut it can
# have lost its content.
PREFIX = f"pack-{b'tweakio'.hex()}"
_KEEP = b"tweakio: one commit, until the next packing\n"


def write_commit_pack(
    objects: Path, temporary: Path, items: Iterable[tuple[bytes, bytes, bytes]]
) -> None:
    """Write objects durably as one pack; what is there already is simply there twice.

    Objects that are somewhere else are not left out: who knows what a running git is about
    to remove.

    Args:
        objects: the repository's ``objects`` directory.
        temporary: an existing directory in the same file system for files being written.
        items: 20-byte name, kind and body of each object.

    Raises:
        OSError: what the system said. Nothing depends on the new objects, which may be
            there or not.
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
    if not entries:
        return
    data = b"".join((pack_header(len(entries)), *parts))
    digest = hashlib.sha1(data, usedforsecurity=False).digest()
    stem = PREFIX + os.urandom(20).hex()[: len("pack-") + 40 - len(PREFIX)]
    with temporary_pair(temporary) as (pack, index):
        with durable.Batch() as batch:
            batch.create(pack, data + digest, mode=MODE)
            batch.create(index, index_bytes(list(entries.values()), digest), mode=MODE)
        _put_in_place(objects, os.path.join(objects, "pack", stem), pack, index)


def _put_in_place(objects: Path, path: str, pack: str, index: str) -> None:
    try:
        try:
            durable.create(path + ".keep", _KEEP, mode=MODE, sync=False)
        except FileNotFoundError:
            durable.make_directory(objects / "pack")
            durable.fsync_directory(objects)
            durable.create(path + ".keep", _KEEP, mode=MODE, sync=False)
        durable.move(pack, path + ".pack")
        durable.move(index, path + ".idx")
    except BaseException:
        # Once it is visible, somebody else's commit may count on an object in it.
        if not os.path.lexists(path + ".idx"):
            for suffix in (".pack", ".keep"):
                with contextlib.suppress(OSError):
                    unlink(path + suffix)
        raise
    durable.fsync_directory(objects / "pack")
