"""Deltas: the instructions that make one object from another."""

from __future__ import annotations

import struct

__all__ = ["make_delta"]

# Long enough to hold part of a hash wherever it begins in a tree with usual names; a
# shorter one would match in "40000 account_0" and lead astray.
_ANCHOR = 32
_WINDOW = 16
_BLOCK = 16
_SHIFT = 64
_REACH = 4096
_SHORTEST_COPY = 8
_LONGEST_COPY = 0xFFFF0
_LONGEST_INSERT = 127


def make_delta(base: bytes, target: bytes, limit: int) -> bytes | None:
    """Instructions that make ``target`` from ``base``; None if they exceed ``limit`` bytes.

    Equal stretches are compared as memory, whatever their length; only around a
    difference is there any search.
    """
    out = bytearray(_varint(len(base)) + _varint(len(target)))
    blocks: dict[bytes, int] | None = None
    i = j = pending = 0
    run = _common(base, 0, target, 0)
    while True:
        if run >= _SHORTEST_COPY:
            _insert(out, target[pending:j])
            _copy(out, i, run)
            pending = j + run
        i += run
        j += run
        if j >= len(target) or len(out) + j - pending > limit:
            break
        found = _nearby(base, i, target, j)
        if found is None:
            if blocks is None:
                blocks = _blocks(base)
            found = _distant(blocks, base, target, j, limit)
            if found is None:
                break
        i, j, run = found
    _insert(out, target[pending:])
    return bytes(out) if len(out) <= limit else None


def _common(a: bytes, i: int, b: bytes, j: int) -> int:
    """How many bytes are equal from ``a[i]`` and ``b[j]`` on."""
    most = min(len(a) - i, len(b) - j)
    done = 0
    step = 64
    while done < most:
        step = min(step, most - done)
        if a[i + done : i + done + step] == b[j + done : j + done + step]:
            done += step
            step = min(step * 4, 1 << 16)
            continue
        while step > 1:
            half = step // 2
            if a[i + done : i + done + half] == b[j + done : j + done + half]:
                done += half
                step -= half
            else:
                step = half
        return done
    return done


def _nearby(base: bytes, i: int, target: bytes, j: int) -> tuple[int, int, int] | None:
    """Where the two agree again soon after a difference, and for how long.

    Tried are a replacement of equal length, a removal and an insertion; the one after
    which they agree longest is right.
    """
    candidates = []
    for shift in range(1, _SHIFT):
        window = base[i + shift : i + shift + _WINDOW]
        if len(window) == _WINDOW and window == target[j + shift : j + shift + _WINDOW]:
            candidates.append((i + shift, j + shift))
            break
    anchor = target[j : j + _ANCHOR]
    if len(anchor) == _ANCHOR and (at := base.find(anchor, i, i + _REACH)) >= 0:
        candidates.append((at, j))
    anchor = base[i : i + _ANCHOR]
    if len(anchor) == _ANCHOR and (at := target.find(anchor, j, j + _REACH)) >= 0:
        candidates.append((i, at))
    best = None
    for a, b in candidates:
        run = _common(base, a, target, b)
        if best is None or run > best[2]:
            best = (a, b, run)
    return best


def _blocks(base: bytes) -> dict[bytes, int]:
    last = len(base) // _BLOCK * _BLOCK - _BLOCK
    # Backwards, so that of equal blocks the first one stays.
    return {base[at : at + _BLOCK]: at for at in range(last, -1, -_BLOCK)}


def _distant(
    blocks: dict[bytes, int], base: bytes, target: bytes, j: int, limit: int
) -> tuple[int, int, int] | None:
    """The next place in ``target`` that is anywhere in ``base``."""
    for at in range(j, min(len(target) - _BLOCK + 1, j + limit)):
        i = blocks.get(target[at : at + _BLOCK])
        if i is not None:
            while i and at > j and base[i - 1] == target[at - 1]:
                i -= 1
                at -= 1
            return i, at, _common(base, i, target, at)
    return None


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _insert(out: bytearray, data: bytes) -> None:
    for at in range(0, len(data), _LONGEST_INSERT):
        piece = data[at : at + _LONGEST_INSERT]
        out.append(len(piece))
        out += piece


def _copy(out: bytearray, offset: int, size: int) -> None:
    while size:
        piece = min(size, _LONGEST_COPY)
        command = 0x80
        operands = bytearray()
        # Zero bytes of the offset (4) and the size (3) are left out.
        for bit, byte in enumerate(struct.pack("<I", offset) + struct.pack("<I", piece)[:3]):
            if byte:
                command |= 1 << bit
                operands.append(byte)
        out.append(command)
        out += operands
        offset += piece
        size -= piece
