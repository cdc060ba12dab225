"""The bytes of a pack (version 2) and of its index (version 2)."""

from __future__ import annotations

import hashlib
import struct
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterable

    Buffer = bytes | bytearray | array[int]

__all__ = [
    "BLOB", "COMMIT", "HEADER", "KINDS", "KIND_NAMES", "OFS_DELTA", "PACK_LIMIT", "TAG", "TREE",
    "entry_head", "index_bytes", "object_name", "pack_header", "read_head", "sealed_index",
    "split_entry",
]  # fmt: skip

# Offsets in the index have 31 bits; above that comes a second table that we do not write.
PACK_LIMIT = 1 << 30
# Two numbers of 64 bits, seven in a byte.
_LONGEST_HEAD = 20
# The length of a pack's header, where the first entry begins.
HEADER = 12

COMMIT, TREE, BLOB, TAG, OFS_DELTA = 1, 2, 3, 4, 6
KINDS = {b"commit": COMMIT, b"tree": TREE, b"blob": BLOB, b"tag": TAG}
KIND_NAMES = {number: name for name, number in KINDS.items()}


def object_name(kind: int, data: bytes) -> bytes:
    """The 20 bytes that git names an object by."""
    digest = hashlib.sha1(b"%s %d\0" % (KIND_NAMES[kind], len(data)), usedforsecurity=False)
    digest.update(data)
    return digest.digest()


def pack_header(count: int) -> bytes:
    """What a pack of so many objects begins with."""
    return struct.pack(">4sII", b"PACK", 2, count)


def entry_head(kind: int, size: int, distance: int = 0) -> bytes:
    """What stands before an entry's compressed content.

    Args:
        kind: of the object, or ``OFS_DELTA``.
        size: of the content, which is the delta if it is one.
        distance: how far before this entry the base begins.
    """
    head = bytearray([kind << 4 | size & 15])
    size >>= 4
    while size:
        head[-1] |= 0x80
        head.append(size & 0x7F)
        size >>= 7
    if distance:
        tail = bytearray([distance & 0x7F])
        distance >>= 7
        while distance:
            distance -= 1
            tail.append(distance & 0x7F | 0x80)
            distance >>= 7
        tail.reverse()
        head += tail
    return bytes(head)


def read_head(data: bytes, at: int = 0) -> tuple[int, int, int, int]:
    """Kind, size, distance to the base (0 if none) and where the compressed content begins.

    Raises:
        IndexError: the data ends before, or a number does not end.
    """
    longest = at + _LONGEST_HEAD
    byte = data[at]
    at += 1
    kind = byte >> 4 & 7
    size = byte & 15
    shift = 4
    while byte & 0x80:
        if at > longest:
            raise IndexError("a number without end")
        byte = data[at]
        at += 1
        size |= (byte & 0x7F) << shift
        shift += 7
    distance = 0
    if kind == OFS_DELTA:
        byte = data[at]
        at += 1
        distance = byte & 0x7F
        while byte & 0x80:
            if at > longest:
                raise IndexError("a number without end")
            byte = data[at]
            at += 1
            distance = (distance + 1 << 7) | byte & 0x7F
    return kind, size, distance, at


def split_entry(entry: bytes) -> tuple[int, int, bytes]:
    """Kind, distance to the base (0 if none) and content of exactly one entry.

    Raises:
        ValueError: the content has another size.
        IndexError: the entry is cut short.
        zlib.error: the content is damaged.
    """
    kind, size, distance, at = read_head(entry)
    stream = zlib.decompressobj()
    data = stream.decompress(entry[at:], size + 1)
    if len(data) != size or not stream.eof or stream.unused_data:
        raise ValueError("entry of a wrong size")
    return kind, distance, data


def index_bytes(entries: list[tuple[bytes, int, int]], pack_hash: bytes) -> bytes:
    """The index of a pack whose entries are (name, CRC, offset); sorts them."""
    entries.sort()
    fan_out = [0] * 256
    for name, _, _ in entries:
        fan_out[name[0]] += 1
    count = len(entries)
    tables = (
        b"".join(name for name, _, _ in entries),
        struct.pack(f">{count}I", *(check for _, check, _ in entries)),
        struct.pack(f">{count}I", *(offset for _, _, offset in entries)),
    )
    return sealed_index(fan_out, tables, pack_hash)


def sealed_index(counts: list[int], tables: Iterable[Buffer], pack_hash: bytes) -> bytes:
    """The index from how many names begin with each byte, and its tables."""
    total = 0
    fan_out = [total := total + count for count in counts]
    head = b"\xfftOc\0\0\0\2" + struct.pack(">256I", *fan_out)
    data = b"".join((head, *tables, pack_hash))
    return data + hashlib.sha1(data, usedforsecurity=False).digest()
