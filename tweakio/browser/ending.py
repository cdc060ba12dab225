"""Closing browsers in order when the program ends, by itself or by a signal."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import signal
import threading
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

__all__ = ["Ending"]

log = logging.getLogger(__name__)

_SIGNALS = tuple(
    number for name in ("SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None
)
_open = 0


def _leave(number: int, _: FrameType | None) -> NoReturn:
    """End the program as Ctrl-C does, through every ``finally`` and ``with`` on the way."""
    raise SystemExit(128 + number)


def _catch_signals() -> None:
    """Turn what would end this program at once into an orderly end.

    Only what nobody else has set, and only in the main thread: elsewhere Python allows none.
    """
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, _leave)


def _let_signals_be() -> None:
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            if signal.getsignal(number) is _leave:
                signal.signal(number, signal.SIG_DFL)


class Ending:
    """Sees that something is closed before the program ends.

    Args:
        close: does it, without an event loop.
    """

    def __init__(self, close: Callable[[], None]) -> None:
        self._close = close
        self._owner = 0

    def expect(self) -> None:
        """From now on it is open."""
        global _open
        if self._owner == os.getpid():
            return
        self._owner = os.getpid()
        _open += 1
        _catch_signals()
        atexit.register(self._at_exit)

    def call_off(self) -> None:
        """It is closed."""
        global _open
        if self._owner != os.getpid():
            return
        self._owner = 0
        _open -= 1
        atexit.unregister(self._at_exit)
        if not _open:
            _let_signals_be()

    def _at_exit(self) -> None:
        # A forked child inherits this; its parent's browser is not its own.
        if self._owner != os.getpid():
            return
        with contextlib.suppress(ValueError):
            _let_signals_be()
        try:
            self._close()
        except Exception as error:
            log.warning("a browser could not be closed: %s", error)
