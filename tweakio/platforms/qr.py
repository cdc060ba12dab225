"""Reads the QR code in a screenshot.

zxing-cpp takes any two-dimensional buffer of grey values. A screenshot is a PNG of eight bits
per channel that is not interlaced, which a few lines decode; so neither Pillow nor numpy is
needed. Filters work on each channel by itself, so only one is undone: for a code in two colours
that differ in brightness green is as good as grey.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

from tweakio.errors import MissingExtraError

__all__ = ["grey", "read_qr"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}
_MARGIN = 16  # pixels; a code without a quiet zone is not found


def read_qr(png: bytes) -> str | None:
    """The text of the QR code in a picture.

    Args:
        png: as Playwright's screenshots are.

    Returns:
        None if there is no code in it that can be read.

    Raises:
        MissingExtraError: zxing-cpp is not installed.
    """
    try:
        import zxingcpp
    except ImportError:
        raise MissingExtraError(
            "reading this QR code needs zxing-cpp", hint="pip install 'tweakio[browser]'"
        ) from None
    picture = grey(png)
    if picture is None:
        return None
    only: Any = zxingcpp.BarcodeFormat.QRCode  # its type has another name in each version
    for edge in (None, b"\xff", b"\0"):
        width, height, values = picture if edge is None else _with_margin(*picture, edge)
        image: Any = memoryview(values).cast("B", (height, width))
        for found in zxingcpp.read_barcodes(image, formats=only):
            if found.text:
                return str(found.text)
    return None


def grey(png: bytes) -> tuple[int, int, bytes] | None:
    """Width, height and one value per pixel, row by row; None if the picture is of another kind."""
    if not png.startswith(_SIGNATURE):
        return None
    at, packed, header = len(_SIGNATURE), [], b""
    while at + 8 <= len(png):
        size, kind = struct.unpack_from(">I4s", png, at)
        body = png[at + 8 : at + 8 + size]
        if kind == b"IHDR":
            header = body
        elif kind == b"IDAT":
            packed.append(body)
        at += 12 + size
    if len(header) != 13:
        return None
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    if depth != 8 or interlaced or colour not in _CHANNELS:
        return None
    try:
        raw = zlib.decompress(b"".join(packed))
    except zlib.error:
        return None
    channels = _CHANNELS[colour]
    stride = 1 + width * channels
    if len(raw) < stride * height:
        return None
    rows, above = [], bytes(width)
    for start in range(0, stride * height, stride):
        # The second of three or four channels is green; of one or two the first is grey.
        values = raw[start + 1 + (channels > 2) : start + stride : channels]
        above = _unfiltered(raw[start], values, above)
        rows.append(above)
    return width, height, b"".join(rows)


def _unfiltered(kind: int, values: bytes, above: bytes) -> bytes:
    """Undo one row's filter."""
    if kind == 0:
        return values
    if kind == 2:
        return bytes((value + up) & 255 for value, up in zip(values, above, strict=True))
    row = bytearray(len(values))
    left = corner = 0
    for x, (value, up) in enumerate(zip(values, above, strict=True)):
        if kind == 1:
            guess = left
        elif kind == 3:
            guess = (left + up) >> 1
        else:
            guess = _paeth(left, up, corner)
        row[x] = left = (value + guess) & 255
        corner = up
    return bytes(row)


def _paeth(left: int, up: int, corner: int) -> int:
    towards = left + up - corner
    distances = abs(towards - left), abs(towards - up), abs(towards - corner)
    if distances[0] <= distances[1] and distances[0] <= distances[2]:
        return left
    return up if distances[1] <= distances[2] else corner


def _with_margin(width: int, height: int, values: bytes, edge: bytes) -> tuple[int, int, bytes]:
    """The picture with a border of one colour."""
    band = edge * (width + 2 * _MARGIN)
    rows = [band] * _MARGIN
    for start in range(0, width * height, width):
        rows.append(edge * _MARGIN + values[start : start + width] + edge * _MARGIN)
    rows += [band] * _MARGIN
    return width + 2 * _MARGIN, height + 2 * _MARGIN, b"".join(rows)
