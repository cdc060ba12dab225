"""A program for Playwright to start, which becomes the browser and keeps the profile's lock.

See ``_exec`` for what it is good for. On Windows a lock ends with the process that took it, so
there the browser itself is started.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import socket
import struct
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from tweakio import durable
from tweakio.owners import temporary_parents

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Launcher", "can_hand_over"]

log = logging.getLogger(__name__)

_POLL = 0.05
# struct sockaddr_un has 108 bytes on Linux and 104 on macOS.
_LONGEST_ADDRESS = 100


def can_hand_over(*, platform: str = sys.platform, frozen: bool | None = None) -> bool:
    """Whether a browser can be made to keep a lock here.

    Args:
        platform: of Python.
        frozen: whether this program is one file without a Python of its own.
    """
    if frozen is None:
        frozen = bool(getattr(sys, "frozen", False))
    return platform != "win32" and not frozen and bool(sys.executable)


class Launcher:
    """Hands a descriptor over to the browser that is about to be started.

    Use it as a context manager around the start. ``program`` is what to start.

    Args:
        browser: the browser's program.
        descriptor: of the locked file.
        started: called with the browser's process id before it runs; what it raises keeps the
            browser from running, and is in ``failure`` then. It is called in another thread.
    """

    def __init__(self, browser: str, descriptor: int, started: Callable[[int], None]) -> None:
        self.failure: BaseException | None = None
        self.program = ""
        self._browser = browser
        self._descriptor = descriptor
        self._started = started
        self._directory: Path | None = None
        self._listener: socket.socket | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="tweakio-launcher", daemon=True)

    def __enter__(self) -> Launcher:  # noqa: PYI034 - Self came with Python 3.11
        self._directory = directory = Path(_private_directory())
        try:
            address = directory / "s"
            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._listener.bind(str(address))
            self._listener.listen(1)
            self._listener.settimeout(_POLL)
            program = directory / "browser"
            program.write_text(self._script(address), encoding="utf-8", errors="surrogateescape")
            program.chmod(0o700)
            self.program = str(program)
            self._thread.start()
        except BaseException:
            self._clean_up()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._clean_up()

    def _script(self, address: Path) -> str:
        command = [
            sys.executable, "-I", "-S", str(Path(__file__).with_name("_exec.py")),
            str(address), self._browser,
        ]  # fmt: skip
        return f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n'

    def _clean_up(self) -> None:
        if self._listener is not None:
            self._listener.close()
        if self._directory is not None:
            with contextlib.suppress(OSError):
                durable.remove_tree(self._directory)

    def _serve(self) -> None:
        """Wait for the launcher, once."""
        assert self._listener is not None
        while not self._over.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError as error:
                self.failure = error
                return
            with connection:
                try:
                    if (pid := _peer(connection)) is None:
                        continue
                    self._started(pid)
                    socket.send_fds(connection, [b"lock"], [self._descriptor])
                except BaseException as error:
                    # Without the descriptor the launcher ends, and Playwright says so.
                    self.failure = error
                return


def _peer(connection: socket.socket, *, platform: str = sys.platform) -> int | None:
    """The process at the other end; None if it is another user's.

    Nobody else can get into the directory of the socket; Linux says so besides.
    """
    connection.settimeout(10)
    text = b""
    while not text.endswith(b"\n"):
        piece = connection.recv(32)
        if not piece:
            return None
        text += piece
    if platform.startswith("linux"):
        form = "3i"
        data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize(form))
        pid, user, _ = struct.unpack(form, data)
        return int(pid) if user == os.geteuid() else None
    return int(text)


def _private_directory() -> str:
    """A new directory that programs can be run from, with a short name."""
    for parent in temporary_parents():
        try:
            directory = tempfile.mkdtemp(prefix="tweakio-", dir=parent)
        except OSError:
            continue
        no_programs = getattr(os, "ST_NOEXEC", 0) & os.statvfs(directory).f_flag
        if no_programs or len(directory) > _LONGEST_ADDRESS - 2:
            os.rmdir(directory)
            continue
        return directory
    raise FileNotFoundError("there is no directory for temporary programs")
