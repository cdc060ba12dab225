"""Moments in which no Ctrl-C may come."""

from __future__ import annotations

import contextlib
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["held_back"]


@contextlib.contextmanager
def held_back() -> Iterator[set[signal.Signals] | set[int] | None]:
    """Let no Ctrl-C come between something and the note that it is so.

    Such as a lock that is held, or a program that runs. The signals that ask for an end wait
    until the block ends, and are raised from there. What is started in it inherits that.
    Windows has no such mask; and in a program with several threads the system may hand the
    signal to another one.

    Yields:
        The signals that were held back before; None where that cannot be done.
    """
    if sys.platform == "win32":
        yield None
        return
    before = signal.pthread_sigmask(
        signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
    )
    try:
        yield before
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
