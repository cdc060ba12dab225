"""What becomes of the programs that we start, whatever our own parent did to signals.

A process inherits which signals are ignored and which are held back. Where SIGCHLD is ignored
the system keeps no exit code, and Python takes each program for one that succeeded.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

from tweakio.errors import StorageError

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

__all__ = ["exit_codes_kept", "prepare_signals", "require_exit_code"]


def prepare_signals() -> None:
    """Set the signals of a program of ours to what it and its children need, at its start.

    What is ignored so that a command goes on in the background (SIGHUP of nohup, SIGINT of a
    shell's ``&``) stays ignored.
    """
    if sys.platform == "win32":
        return
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        with contextlib.suppress(ValueError):  # called from a thread of a program
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # Nobody holds back signals for another program on purpose, and a browser that gets no SIGTERM
    # can only be killed.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


@contextlib.contextmanager
def exit_codes_kept() -> Iterator[None]:
    """While it runs, the system keeps the exit codes of what is started, if that can be had.

    For programs that use us as a library: theirs is put back after that. Only the main thread
    can do it; elsewhere ``require_exit_code`` says that there is none.
    """
    if sys.platform == "win32" or signal.getsignal(signal.SIGCHLD) is not signal.SIG_IGN:
        yield
        return
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def require_exit_code(process: subprocess.Popen[str]) -> None:
    """Wait for the end of a program, and return if its exit code can be read then.

    Raises:
        StorageError: somebody else has taken it, or the system keeps none.
    """
    if process.returncode is not None or not hasattr(os, "waitid"):
        return
    try:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    except ChildProcessError:
        # The thread that ended it may have taken the code, and not have noted it yet.
        for _ in range(100):
            if process.returncode is not None:
                return
            time.sleep(0.001)
        raise StorageError(
            "the exit code of git cannot be read: this program ignores SIGCHLD, or waits for "
            "processes that are not its own",
            hint="set SIGCHLD to signal.SIG_DFL, and wait only for what you started",
        ) from None
