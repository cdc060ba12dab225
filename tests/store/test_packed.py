"""Packs whose entries are no objects, with indexes and checksums as they should be."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tweakio.doctor import salvage
from tweakio.store.packed import PackedObjects
from tweakio.store.packs.format import OFS_DELTA, entry_head, index_bytes, pack_header

BLOB, REF_DELTA = 3, 7
BASE = b"0123456789"
SOUND = hashlib.sha1(b"blob 10\0" + BASE, usedforsecurity=False).digest()


def pack(
    objects: Path, entries: list[tuple[bytes, Callable[[int], bytes]]], *, spoil: bytes = b""
) -> PackedObjects:
    """Write a pack.

    Args:
        objects: the directory.
        entries: the name of each, and what makes its bytes of the offset where it begins.
        spoil: the index instead of the right one.
    """
    data = pack_header(len(entries))
    places = []
    for name, made in entries:
        entry = made(len(data))
        places.append((name, zlib.crc32(entry), len(data)))
        data += entry
    data += hashlib.sha1(data, usedforsecurity=False).digest()
    (objects / "pack").mkdir(parents=True)
    (objects / "pack/pack-1.pack").write_bytes(data)
    (objects / "pack/pack-1.idx").write_bytes(spoil or index_bytes(places, data[-20:]))
    return PackedObjects(str(objects))


def whole(_: int) -> bytes:
    return entry_head(BLOB, len(BASE)) + zlib.compress(BASE)


def delta(content: bytes) -> Callable[[int], bytes]:
    """One of the first entry."""
    return lambda at: entry_head(OFS_DELTA, len(content), at - 12) + zlib.compress(content)


def by_name(base: bytes, content: bytes) -> Callable[[int], bytes]:
    return lambda _: entry_head(REF_DELTA, len(content)) + base + zlib.compress(content)


COPY = b"\x91\0\5"  # of five bytes from the begin
DELTAS = {
    "of another base": b"\x0b\5" + COPY,
    "larger than any of ours": b"\x0a\xff\xff\xff\xff\x7f" + COPY,
    "a number without end": b"\x0a" + b"\xff" * 12 + b"\1" + COPY,
    "an unknown command": b"\x0a\5\0",
    "copies what is not there": b"\x0a\5\x91\7\5",
    "makes more than it says": b"\x0a\4" + COPY,
    "makes less than it says": b"\x0a\6" + COPY,
    "cut short": b"\x0a\5\x91",
    "an insertion that is cut short": b"\x0a\5\5ab",
    "nothing": b"",
}
OTHERS: dict[str, Callable[[int], bytes]] = {
    "an unknown kind": lambda _: entry_head(5, 10) + zlib.compress(BASE),
    "another length": lambda _: entry_head(BLOB, 9) + zlib.compress(BASE),
    "a longer one": lambda _: entry_head(BLOB, 11) + zlib.compress(BASE),
    "larger than any of ours": lambda _: entry_head(BLOB, 1 << 30) + zlib.compress(BASE),
    "cut short": lambda _: entry_head(BLOB, 100_000) + zlib.compress(bytes(100_000))[:20],
    "no stream": lambda _: entry_head(BLOB, 10) + b"\xff" * 20,
    "a delta of what comes later": lambda at: entry_head(OFS_DELTA, 5, at) + zlib.compress(COPY),
    "a delta of what is in no pack": by_name(b"\7" * 20, b"\x0a\5" + COPY),
    "a delta of itself": by_name(b"\1" * 20, b"\x0a\5" + COPY),
}


@pytest.mark.parametrize(
    "entry", [*map(delta, DELTAS.values()), *OTHERS.values()], ids=[*DELTAS, *OTHERS]
)
def test_an_entry_that_is_no_object(tmp_path: Path, entry: Callable[[int], bytes]) -> None:
    packs = pack(tmp_path, [(SOUND, whole), (b"\1" * 20, entry)])
    assert packs.find(b"\1" * 20) is None
    assert packs.find(SOUND) == (b"blob", BASE)


@pytest.mark.parametrize("made", [delta, lambda content: by_name(SOUND, content)])
def test_a_delta_is_what_it_makes(
    tmp_path: Path, made: Callable[[bytes], Callable[[int], bytes]]
) -> None:
    content = b"\x0a\x0d" + COPY + b"\3abc" + COPY
    name = hashlib.sha1(b"blob 13\00001234abc01234", usedforsecurity=False).digest()
    packs = pack(tmp_path, [(SOUND, whole), (name, made(content))])
    assert packs.find(name) == (b"blob", b"01234abc01234")
    assert set(packs.names()) == {SOUND, name}
    assert set(packs.names(name.hex()[:2])) == {name}


def test_another_object_than_the_index_says(tmp_path: Path) -> None:
    packs = pack(tmp_path, [(b"\2" * 20, whole)])
    assert packs.find(b"\2" * 20) is None


@pytest.mark.parametrize(
    "index",
    [
        b"\xfftOc\0\0\0\3" + bytes(2000),
        b"\xfftOc\0\0\0\2" + bytes(100),
        b"\xfftOc\0\0\0\2" + b"\0\0\0\5" * 256 + bytes(40),
        b"\xfftOc\0\0\0\2" + b"\0\0\0\1" * 255 + bytes(4 + 40),
        b"short",
    ],
)
def test_an_index_that_cannot_be_right(tmp_path: Path, index: bytes) -> None:
    packs = pack(tmp_path, [(SOUND, whole)], spoil=index)
    assert packs.find(SOUND) is None
    assert list(packs.names()) == []


@pytest.mark.parametrize("name", ["pack-1.idx", "pack-1.pack"])
def test_a_directory_in_the_place_of_a_file(tmp_path: Path, name: str) -> None:
    packs = pack(tmp_path, [(SOUND, whole)])
    (tmp_path / "pack" / name).unlink()
    (tmp_path / "pack" / name).mkdir()
    assert packs.find(SOUND) is None


@pytest.mark.parametrize("content", DELTAS.values(), ids=list(DELTAS))
def test_the_doctor_takes_no_such_delta_either(content: bytes) -> None:
    with pytest.raises((ValueError, IndexError)):
        salvage._apply_delta(BASE, content)
