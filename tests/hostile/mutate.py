"""Ways to spoil bytes: blindly, and as what they are."""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections.abc import Callable
from hashlib import sha1
from random import Random
from typing import Any

__all__ = ["SEALS", "mutate", "seal_index", "seal_lines", "seal_pack", "seal_zlib"]

_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_TOKENS = (
    b"../../../outside/canary", b"..", b".", b"/", b"\\", b"C:\\x", b"a:b", b".git", b".GIT",
    b"git~1", b".git\xe2\x80\x8c", b"\0", b"\n", b"\r", b"\xef\xbb\xbf", b"\xff\xfe", b"\x1b[31m",
    b"\x9b31m", b"\xc2\x9b31m", b"\xe2\x80\xae", b"e\xcc\x81", b"\xed\xa0\x80", b"[" * 5000,
    b'{"a":' * 2000, b"9" * 5000, b"-1", b"1e999", b"NaN", b"null", b"true", b"[]", b"{}", b'""',
    b"ref: refs/heads/../../../x", b"ref: HEAD", b"refs/heads/main", b"0" * 40, b"f" * 40,
    b"40000 ", b"120000 ", b"160000 ", b"100644 ", b"tree ", b"parent ", b"\x78\x9c",
)  # fmt: skip
_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 10**30, 1.5, "", "x" * 5000, [], {}, [[]], {"a": {"b": []}}, "..",
    "../../x", "\x1b[31m", "\u202e", "\ud800", "\x00", "alpha", "ALPHA", [1, 2], ["a", "a"],
    "9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+14:00", "2026-02-10T14:30:00Z", "env:X",
)  # fmt: skip


def mutate(data: bytes, random: Random, others: list[bytes]) -> bytes:
    """One to four changes.

    Args:
        data: what to spoil.
        random: decides.
        others: more of the same kind, to splice with.
    """
    for _ in range(random.choice((1, 1, 2, 4))):
        if random.random() < 0.35 and (changed := _as_json(data, random)) is not None:
            data = changed
        else:
            data = random.choice(_BLIND)(data, random, others)
    return data[: 1 << 20]


def _place(data: bytes, random: Random) -> tuple[int, int]:
    start = random.randrange(len(data) + 1)
    return start, min(len(data), start + random.choice((1, 1, 2, 4, 8, 20, 64, 500)))


def _flip(data: bytes, random: Random, _: list[bytes]) -> bytes:
    if not data:
        return data
    out = bytearray(data)
    out[random.randrange(len(out))] ^= 1 << random.randrange(8)
    return bytes(out)


def _number(data: bytes, random: Random, _: list[bytes]) -> bytes:
    start = random.randrange(len(data) + 1)
    form = random.choice((">B", ">H", ">I", "<I", ">Q"))
    value = random.choice(_NUMBERS) & ((1 << 8 * struct.calcsize(form)) - 1)
    packed = struct.pack(form, value)
    return data[:start] + packed + data[start + len(packed) :]


def _digits(data: bytes, random: Random, _: list[bytes]) -> bytes:
    found = list(re.finditer(rb"-?\d+", data))
    if not found:
        return data
    match = random.choice(found)
    new = random.choice((b"0", b"-1", b"9" * 20, b"9" * 5000, b"1e400", b"4294967296", b"00"))
    return data[: match.start()] + new + data[match.end() :]


def _cut(data: bytes, random: Random, _: list[bytes]) -> bytes:
    start, stop = _place(data, random)
    return data[:start] + data[stop:]


def _truncate(data: bytes, random: Random, _: list[bytes]) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _double(data: bytes, random: Random, _: list[bytes]) -> bytes:
    start, stop = _place(data, random)
    return data[:start] + data[start:stop] * random.choice((2, 2, 50)) + data[stop:]


def _zero(data: bytes, random: Random, _: list[bytes]) -> bytes:
    start, stop = _place(data, random)
    return data[:start] + b"\0" * (stop - start) + data[stop:]


def _token(data: bytes, random: Random, _: list[bytes]) -> bytes:
    start, stop = _place(data, random)
    return data[:start] + random.choice(_TOKENS) + data[random.choice((start, stop)) :]


def _splice(data: bytes, random: Random, others: list[bytes]) -> bytes:
    other = random.choice(others) if others else data
    return data[: random.randrange(len(data) + 1)] + other[random.randrange(len(other) + 1) :]


def _noise(data: bytes, random: Random, _: list[bytes]) -> bytes:
    start, stop = _place(data, random)
    return data[:start] + random.randbytes(stop - start) + data[stop:]


_BLIND: tuple[Callable[[bytes, Random, list[bytes]], bytes], ...] = (
    _flip, _flip, _number, _digits, _cut, _truncate, _double, _zero, _token, _token, _splice,
    _noise,
)  # fmt: skip


def _as_json(data: bytes, random: Random) -> bytes | None:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, (dict, list)) or not value:
        return None
    if random.random() < 0.1 and isinstance(value, dict):
        key = random.choice(list(value))
        return b"{" + json.dumps(key).encode() + b": 1, " + json.dumps(value).encode()[1:]
    place: Any = value
    while True:
        key = random.choice(list(place) if isinstance(place, dict) else range(len(place)))
        if isinstance(place[key], (dict, list)) and place[key] and random.random() < 0.7:
            place = place[key]
            continue
        break
    choice = random.random()
    if choice < 0.15 and isinstance(place, dict):
        del place[key]
    elif choice < 0.3 and isinstance(place, dict):
        place[str(random.choice(_VALUES))] = place.pop(key)
    elif choice < 0.4:
        place[key] = [place[key]] * 1000
    else:
        place[key] = random.choice(_VALUES)
    try:
        return json.dumps(value).encode()
    except (ValueError, RecursionError):
        return None


# So that a change is not refused for its checksum alone.


def seal_lines(data: bytes) -> bytes:
    """As the journal has it: the hash of the second line first."""
    text = data.partition(b"\n")[2].split(b"\n")[0]
    return sha1(text).hexdigest().encode() + b"\n" + text + b"\n"


def seal_cache(data: bytes) -> bytes:
    """As the cache of HEAD has it: hash and length of what follows."""
    content = data.split(b"\n", 2)[-1]
    header = content.partition(b"\n")[0]
    return f"{sha1(header).hexdigest()}\n{len(content)}\n".encode() + content


def seal_listing(data: bytes) -> bytes:
    """As the cache of the listing has it: hash and length of all that follows."""
    content = data.split(b"\n", 2)[-1]
    return f"{sha1(content).hexdigest()}\n{len(content)}\n".encode() + content


def seal_index(data: bytes) -> bytes:
    """A hash at the end."""
    return data[:-20] + sha1(data[:-20]).digest()


def seal_pack(data: bytes) -> bytes:
    """The same."""
    return seal_index(data)


def seal_zlib(data: bytes) -> bytes:
    """The content is compressed."""
    return zlib.compress(data)


SEALS: dict[str, Callable[[bytes], bytes]] = {
    "journal": seal_lines,
    "cache": seal_cache,
    "listing": seal_listing,
    "index": seal_index,
    "pack": seal_pack,
    "pack-index": seal_index,
}
