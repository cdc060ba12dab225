"""Reading a line without echo, in an event loop that goes on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SecretLines"]

_LONGEST = 64 * 1024


class SecretLines:
    """Lines of standard input that nobody is to see.

    From a terminal each is typed without echo; from a pipe or a file each is the next line.
    The event loop watches for them, so that the browser goes on, and Ctrl-C ends the waiting
    and gives the terminal its echo back. (getpass would keep a thread that nothing ends.)
    """

    def __init__(self) -> None:
        self._rest = b""

    async def next(self) -> str:
        """The next line, without its end.

        Raises:
            EOFError: there is none.
        """
        stream = sys.stdin
        if stream is None:
            raise EOFError
        try:
            descriptor = stream.fileno()
        except (OSError, ValueError):
            raise EOFError from None
        if sys.platform == "win32":
            return await _from_thread()
        with _no_echo(descriptor):
            while b"\n" not in self._rest and len(self._rest) < _LONGEST:
                data = await _read(descriptor)
                if not data:
                    break
                self._rest += data
        line, newline, self._rest = self._rest.partition(b"\n")
        if not line and not newline:
            raise EOFError
        return line.rstrip(b"\r").decode(stream.encoding or "utf-8", "surrogateescape")


async def _read(descriptor: int) -> bytes:
    """What there is to read next; nothing at the end."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    try:
        loop.add_reader(descriptor, wake)
    except PermissionError:
        return os.read(descriptor, 4096)  # a file, for which nobody has to wait
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)
    try:
        return os.read(descriptor, 4096)
    except OSError:
        return b""  # the terminal is gone


@contextlib.contextmanager
def _no_echo(descriptor: int) -> Iterator[None]:
    """Turn a terminal's echo off; other files have none."""
    import termios

    try:
        before = termios.tcgetattr(descriptor)
    except termios.error:
        yield
        return
    silent = [*before]
    silent[3] = before[3] & ~termios.ECHO
    # Flushed: what was typed before the question is no answer to it.
    termios.tcsetattr(descriptor, termios.TCSAFLUSH, silent)
    try:
        yield
    finally:
        with contextlib.suppress(termios.error):
            termios.tcsetattr(descriptor, termios.TCSAFLUSH, before)


async def _from_thread() -> str:
    """Windows has no way to wait for a console in the event loop."""
    import getpass
    import threading

    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str] = loop.create_future()

    def ask() -> None:
        try:
            line = getpass.getpass("")
        except (EOFError, OSError):
            line = None
        loop.call_soon_threadsafe(give, line)

    def give(line: str | None) -> None:
        if answer.done():
            return
        if line is None:
            answer.set_exception(EOFError())
        else:
            answer.set_result(line)

    threading.Thread(target=ask, daemon=True).start()
    return await answer
