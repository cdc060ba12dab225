"""Loose objects."""

from __future__ import annotations

import hashlib
import os
import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tweakio import durable
from tweakio.store.packs.files import BINARY, CHUNK, CLOEXEC
from tweakio.store.packs.format import COMMIT, KINDS
from tweakio.store.packs.plan import OBJECT_LIMIT, Found, parse_commit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Loose", "loose_entries", "loose_objects"]

_HEAD = 4096
_FAN_OUT = re.compile(r"[0-9a-f]{2}")
_LOOSE = re.compile(r"[0-9a-f]{38}")


@dataclass(frozen=True)
class Loose(Found):
    """An object in a file of its own, at ``path``."""

    def load(self) -> bytes | None:
        try:
            packed = durable.read_regular(self.path, self.size + self.size // 64 + CHUNK)
        except OSError:
            return None
        stream = zlib.decompressobj()
        try:
            # One byte more than is due, so that a longer content shows without filling memory.
            raw = stream.decompress(packed, self.size + 33)
        except zlib.error:
            return None
        found = _parse_header(raw)
        if found is None or not stream.eof or stream.unused_data:
            return None
        kind, size, start = found
        if (kind, size) != (self.kind, self.size) or len(raw) - start != size:
            return None
        if hashlib.sha1(raw, usedforsecurity=False).hexdigest() != self.name:
            return None
        return raw[start:]


def loose_entries(objects: Path) -> Iterator[os.DirEntry[str]]:
    """The files that have a loose object's name."""
    with os.scandir(objects) as directories:
        names = [entry.path for entry in directories if _FAN_OUT.fullmatch(entry.name)]
    for path in sorted(names):
        try:
            entries = os.scandir(path)
        except (FileNotFoundError, NotADirectoryError):
            continue  # git gc removes empty ones
        with entries:
            for entry in entries:
                if _LOOSE.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    yield entry


def loose_objects(objects: Path) -> Iterator[Loose]:
    """Those whose head can be read; the rest of the content is not looked at yet."""
    for entry in loose_entries(objects):
        name = entry.path[-41:-39] + entry.name
        try:
            descriptor = os.open(entry.path, os.O_RDONLY | BINARY | CLOEXEC)
            try:
                packed = os.read(descriptor, _HEAD)
            finally:
                os.close(descriptor)
            head = zlib.decompressobj().decompress(packed, _HEAD)
        except (OSError, zlib.error):
            continue
        found = _parse_header(head)
        if found is None:
            continue
        kind, size, start = found
        if size <= OBJECT_LIMIT:
            commit = parse_commit(head[start:]) if kind == COMMIT else None
            yield Loose(name, entry.path, kind, size, commit)


def _parse_header(head: bytes) -> tuple[int, int, int] | None:
    """Kind, size and where the content begins."""
    end = head.find(b"\0", 0, 32)
    kind, _, size = head[: max(end, 0)].partition(b" ")
    if kind not in KINDS or not size.isdigit():
        return None
    return KINDS[kind], int(size), end + 1
