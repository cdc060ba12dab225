"""A command at a terminal of its own, as a person sees it: read, typed into, photographed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
import zlib
from collections.abc import Callable
from typing import Any

import pyte
from cli_helpers import COMMAND, Cli, environment

TIMEOUT = 60.0
# The terminal becomes the controlling one, so that a Ctrl-C typed into it is a signal.
_TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    " os.execv(sys.argv[1], sys.argv[1:])"
)
# A dark terminal: what a code does not colour itself is inverted here.
_COLORS = {"default": None, "black": 0, "000000": 0, "white": 255, "ffffff": 255}
_SCALE = 4


class Screen:
    """One run of ``tweakio`` at a terminal.

    Args:
        cli: whose home and environment.
        *arguments: of the command.
        rows: of the terminal.
        columns: of the terminal.
        **changes: of the environment.
    """

    def __init__(
        self, cli: Cli, *arguments: str, rows: int = 40, columns: int = 100, **changes: str
    ) -> None:
        import pty

        self.master, slave = pty.openpty()
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._lock = threading.Lock()
        self.raw = b""
        self.resize(rows, columns)
        self.process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_TERMINAL, *COMMAND, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment(cli.base, **changes),
            cwd=cli.base,
            start_new_session=True,
        )
        os.close(slave)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join(5)
        with contextlib.suppress(OSError):
            os.close(self.master)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self.master, 65536)
            except OSError:  # Linux reports the end of a terminal as an error
                return
            if not data:
                return
            with self._lock:
                self.raw += data
                self._stream.feed(data)

    def resize(self, rows: int, columns: int) -> None:
        """Change the size, as a person does with the mouse."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        with self._lock:
            self._screen.resize(rows, columns)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def hang_up(self) -> None:
        """The terminal's window is closed: the kernel tells the programs in it."""
        os.killpg(self.process.pid, signal.SIGHUP)

    @property
    def lines(self) -> list[str]:
        with self._lock:
            return [line.rstrip() for line in self._screen.display]

    @property
    def text(self) -> str:
        return "\n".join(self.lines).rstrip()

    def shows(self, text: str) -> bool:
        """Whether a text is on the screen, which may break it at its edge."""
        with self._lock:
            return text in "".join(self._screen.display)

    def wait_for(self, what: str | Callable[[], Any], seconds: float = TIMEOUT) -> Any:
        """Wait until a text is on the screen, or something else is true; that is returned."""
        deadline = time.monotonic() + seconds
        while True:
            found = self.shows(what) if isinstance(what, str) else what()
            if found:
                return found
            ended = self.process.poll()
            assert time.monotonic() < deadline, f"waited in vain for {what}:\n{self.text}"
            if ended is not None and not self._reader.is_alive():
                found = self.shows(what) if isinstance(what, str) else what()
                assert found, f"ended with {ended} before {what}:\n{self.text}"
                return found
            time.sleep(0.02)

    def end(self, seconds: float = TIMEOUT) -> int:
        """Wait for the command's end; its exit code, negative for a signal."""
        code = self.process.wait(seconds)
        self._reader.join(5)
        return code

    def qr(self) -> str | None:
        """The QR code on the screen, read as a phone's camera would; None if there is none."""
        with self._lock:
            picture = photograph(self._screen)
        return read(picture)

    def qr_other_than(self, old: str | None) -> str:
        """Wait for a QR code on the screen."""

        def found() -> str | None:
            seen = self.qr()
            return seen if seen != old else None

        return str(self.wait_for(found))


def photograph(screen: pyte.Screen) -> memoryview:
    """A screen in shades of grey, with two rows of modules for each line of cells."""
    rows: list[bytes] = []
    for number in range(screen.lines):
        upper, lower = bytearray(), bytearray()
        for column in range(screen.columns):
            cell = screen.buffer[number][column]
            ink, paper = _shade(cell.fg, 255), _shade(cell.bg, 0)
            if cell.reverse:
                ink, paper = paper, ink
            upper += bytes([ink if cell.data in "\u2588\u2580" else paper]) * _SCALE
            lower += bytes([ink if cell.data in "\u2588\u2584" else paper]) * _SCALE
        rows += [bytes(upper)] * _SCALE + [bytes(lower)] * _SCALE
    return memoryview(b"".join(rows)).cast("B", (len(rows), len(rows[0])))


def read(picture: memoryview) -> str | None:
    """The QR code in a picture; inverted ones are left out, as many apps do."""
    import zxingcpp

    found = zxingcpp.read_barcodes(picture, formats=zxingcpp.BarcodeFormat.QRCode, try_invert=False)
    return found[0].text if found else None


def read_png(data: bytes) -> str | None:
    """The QR code in a picture of ours: one bit for each pixel."""
    width, height = struct.unpack_from(">II", data, 16)
    assert data[24:26] == b"\1\0"
    packed, at = b"", 8
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        packed += data[at + 8 : at + 8 + size] if kind == b"IDAT" else b""
        at += size + 12
    raw = zlib.decompress(packed)
    stride = 1 + (width + 7) // 8
    rows, above = [], bytes(stride - 1)
    for start in range(0, stride * height, stride):
        line = raw[start + 1 : start + stride]
        assert raw[start] in (0, 2)  # as it is, or the difference to the line above
        if raw[start]:
            line = bytes((one + two) & 255 for one, two in zip(line, above, strict=True))
        above = line
        bits = "".join(f"{byte:08b}" for byte in line)
        rows.append(bytes(255 * int(bit) for bit in bits[:width]))
    return read(memoryview(b"".join(rows)).cast("B", (height, width)))


def _shade(color: str, default: int) -> int:
    shade = _COLORS.get(color)
    return default if shade is None else shade
