"""Reading QR codes from pictures."""

from __future__ import annotations

import random
import struct
import sys
import zlib

import pytest
import segno

from tweakio.errors import MissingExtraError
from tweakio.platforms.qr import grey, read_qr

TEXT = "2@" + "abcDEF012+/" * 20


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(rows: list[bytes], channels: int, filters: list[int], *, depth=8, interlaced=0) -> bytes:
    """A PNG of these rows of bytes, each filtered as it is wanted."""
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    width = len(rows[0]) // channels
    raw, above = b"", bytes(len(rows[0]))
    for row, kind in zip(rows, filters, strict=True):
        raw += bytes([kind])
        for x, value in enumerate(row):
            left = row[x - channels] if x >= channels else 0
            corner = above[x - channels] if x >= channels else 0
            up = above[x]
            near = min((left, up, corner), key=lambda one: abs(left + up - corner - one))
            guess = (0, left, up, (left + up) // 2, near)[kind]
            raw += bytes([(value - guess) & 255])
        above = row
    header = struct.pack(">IIBBBBB", width, len(rows), depth, colour, 0, 0, interlaced)
    packed = zlib.compress(raw)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"tEXt", b"a\0b")
        + chunk(b"IDAT", packed[:10])
        + chunk(b"IDAT", packed[10:])
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_filter_of_every_kind_of_picture(channels):
    dice = random.Random(channels)
    rows = [bytes(dice.randrange(256) for _ in range(9 * channels)) for _ in range(40)]
    width, height, values = grey(png(rows, channels, [dice.randrange(5) for _ in rows]))
    wanted = b"".join(row[1 if channels > 2 else 0 :: channels] for row in rows)
    assert (width, height, values) == (9, 40, wanted)


@pytest.mark.parametrize("border", [0, 4])
@pytest.mark.parametrize("colours", ["000000 ffffff", "ffffff 000000", "8774e1 212121"])
def test_codes_are_read(border, colours):
    code = segno.make_qr(TEXT, error="l")
    dark, light = (bytes.fromhex(one) for one in colours.split())
    rows = [
        b"".join((dark if module else light) * 4 for module in row)
        for row in code.matrix_iter(border=border)
        for _ in range(4)
    ]
    assert read_qr(png(rows, 3, [0] * len(rows))) == TEXT


def test_pictures_that_are_no_codes():
    plain = [bytes([200] * 30)] * 10
    assert read_qr(png(plain, 3, [0] * 10)) is None
    assert read_qr(b"GIF89a") is None
    assert read_qr(b"\x89PNG\r\n\x1a\n") is None
    assert grey(png(plain, 3, [0] * 10, depth=16)) is None
    assert grey(png(plain, 3, [0] * 10, interlaced=1)) is None
    good = png(plain, 3, [0] * 10)
    for cut in range(0, len(good), 7):
        assert grey(good[:cut]) is None or cut > len(good) - 20
    assert grey(good.replace(good[70:80], b"0123456789")) is None


def test_without_zxing(monkeypatch):
    monkeypatch.setitem(sys.modules, "zxingcpp", None)
    with pytest.raises(MissingExtraError, match="zxing-cpp") as caught:
        read_qr(b"")
    assert "tweakio[browser]" in caught.value.hint
