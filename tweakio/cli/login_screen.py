"""What a person sees of a login: at a terminal, and where there is none."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, TextIO

from tweakio.cli.asking import SecretLines
from tweakio.cli.output import clean, emit, notice
from tweakio.cli.region import Region, has_many_colors
from tweakio.login.qr import draw
from tweakio.login.ui import IN_WORDS, in_words

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tweakio.login.qr import Drawing, QrFile
    from tweakio.platforms.protocols import Snapshot

__all__ = ["LoginScreen", "PlainLogin", "terminal"]

_WHERE = {
    "whatsapp": "WhatsApp on the phone: Settings, Linked devices, Link a device",
    "telegram": "Telegram on the phone: Settings, Devices, Link Desktop Device",
    "discord": "Discord on the phone: the own picture, Scan QR Code",
}
_LINES_BELOW = 3  # two of ours, and the one in which the cursor stands


def terminal() -> TextIO | None:
    """The terminal that a person looks at; None if there is none that can draw."""
    if os.environ.get("TERM") == "dumb":
        return None
    for stream in (sys.stderr, sys.stdout):
        if stream is not None and stream.isatty():
            return stream
    return None


def _where(platform: str) -> str:
    return _WHERE.get(platform, f"the {platform} app on the phone")


class LoginScreen:
    """A login at a terminal: the QR code and where it stands, drawn again in their place.

    Args:
        stream: the terminal.
        file: takes the QR code if the terminal has no room for it, or somebody wants it there.
        platform: of the profile.
    """

    def __init__(self, stream: TextIO, file: QrFile, platform: str) -> None:
        self._region = Region(stream)
        self._file = file
        self._platform = platform
        self._lines = SecretLines()
        self._qr: str | None = None
        self._drawing: Drawing | None = None
        self._written: tuple[str, Path] | None = None
        self._blocks = _can_show("\u2588\u2580\u2584", stream)

    def around(self) -> AbstractContextManager[None]:
        """Makes way for a line that is written by others."""
        return self._region.aside()

    def show(self, snapshot: Snapshot, remaining: float) -> None:
        """Draw what has changed."""
        lines: list[str] = []
        if snapshot.qr is not None:
            lines += self._code(snapshot.qr)
            lines.append(f"scan it with {_where(self._platform)}")
        elif snapshot.code is not None:
            lines.append(f"pairing code: {snapshot.code}")
            lines.append(f"type it into {_where(self._platform)}")
        lines.append(f"{in_words(snapshot)} ({remaining:.0f} s left)")
        width = self._region.size.columns - 1
        # A code's lines are made to fit and have colours, which must not be cut.
        self._region.draw([line if "\x1b" in line else clean(line)[:width] for line in lines])

    def _code(self, text: str) -> list[str]:
        if text != self._qr:
            self._qr = text
            self._drawing = draw(text, many_colors=has_many_colors())
        assert self._drawing is not None
        size = self._region.size
        drawing = self._drawing
        fits = (
            self._blocks
            and drawing.width <= size.columns
            and drawing.height + _LINES_BELOW <= size.lines
        )
        if not fits or self._file.is_wanted:
            self._write(text, drawing, fits=fits)
        return list(drawing.lines) if fits else []

    def _write(self, text: str, drawing: Drawing, *, fits: bool) -> None:
        if self._written is not None and self._written[0] == text:
            return
        path = self._file.write(text)
        if self._written is None or self._written[1] != path:
            if not fits:
                needed = f"{drawing.width} columns and {drawing.height + _LINES_BELOW} lines"
                notice(f"the terminal is too small for the QR code, which needs {needed}")
            notice(f"the QR code is in {path}; it is renewed there")
        self._written = text, path

    async def ask_password(self, complaint: str) -> str:
        """Ask at the terminal, without echo."""
        self._region.erase()
        if complaint:
            notice(f"the service says: {complaint}")
        self._region.draw([clean(f"password for {self._platform} (it is not shown):")])
        try:
            return await self._lines.next()
        finally:
            self._region.erase()

    def close(self) -> None:
        """Leave nothing of it at the terminal."""
        self._region.erase()


class PlainLogin:
    """A login where no terminal can draw: each thing is said once, and codes are in a file.

    Standard error may go to a log, so a pairing code goes to standard output.

    Args:
        file: takes the QR code.
        platform: of the profile.
    """

    def __init__(self, file: QrFile, platform: str) -> None:
        self._file = file
        self._platform = platform
        self._lines = SecretLines()
        self._qr: str | None = None
        self._code: str | None = None
        self._path: Path | None = None
        self._said = ""

    def show(self, snapshot: Snapshot, remaining: float) -> None:  # noqa: ARG002 - the protocol's
        """Say what has changed."""
        if snapshot.qr is not None and snapshot.qr != self._qr:
            self._qr = snapshot.qr
            path = self._file.write(snapshot.qr)
            if path != self._path:
                self._path = path
                notice(f"the QR code is in {path}; it is renewed there")
                notice(f"scan it with {_where(self._platform)}")
        if snapshot.code is not None and snapshot.code != self._code:
            self._code = snapshot.code
            emit(f"pairing code: {clean(snapshot.code)}\n")
            notice(f"type the pairing code into {_where(self._platform)}")
        words = IN_WORDS[snapshot.state]  # without details, such as each percent of syncing
        if words != self._said:
            self._said = words
            notice(words)

    async def ask_password(self, complaint: str) -> str:
        """Take the next line of standard input."""
        notice(f"the service says: {complaint}" if complaint else "the service asks for a password")
        return await self._lines.next()

    def around(self) -> AbstractContextManager[None]:
        """Lines are in nobody's way."""
        return nullcontext()

    def close(self) -> None:
        """Nothing is left of it."""


def _can_show(text: str, stream: TextIO) -> bool:
    try:
        text.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
