"""The processes of a browser: found by the directory they run on, ended by their id.

Never by name, and never an id that another process has got meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from tweakio.store.processes import process_start

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tweakio.browser.pausing import Pauses

__all__ = [
    "Process",
    "command_lines",
    "end",
    "end_parent",
    "is_running",
    "this_one",
    "without_forks",
]

_POLL = 0.02


class Process(NamedTuple):
    """A process that is not mistaken for a later one of the same id.

    Attributes:
        pid: its id.
        start: when it began, in the unit of ``process_start``.
    """

    pid: int
    start: float


def this_one(pid: int) -> Process | None:
    """The process that has this id now; None if there is none."""
    start = process_start(pid)
    return None if start is None else Process(pid, start)


def is_running(process: Process) -> bool:
    """Whether it still runs."""
    start = process_start(process.pid)
    # See store.processes.is_alive about both.
    return start is not None and (start < 0 or abs(start - process.start) < 0.5)


def command_lines(*, platform: str = sys.platform) -> Iterator[tuple[Process, tuple[str, ...]]]:
    """Every process that can be seen, with its arguments.

    The title of a process that was forked without an ``exec`` is one text; it comes as one
    argument.
    """
    if platform.startswith("linux"):
        yield from _from_proc()
        return
    import psutil

    for process in psutil.process_iter(["cmdline"]):
        arguments = process.info["cmdline"]
        found = this_one(process.pid) if arguments else None
        if found is not None:
            yield found, tuple(arguments)


def _from_proc() -> Iterator[tuple[Process, tuple[str, ...]]]:
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                content = file.read()
        except OSError:
            continue
        found = this_one(int(name)) if content else None
        if found is not None:
            yield found, tuple(os.fsdecode(part) for part in content.rstrip(b"\0").split(b"\0"))


def without_forks(found: Sequence[Process]) -> list[Process]:
    """Processes without the children of others among them.

    Between a ``fork`` and an ``exec``, as of a browser that starts a helper, or of the shell
    script that starts a browser, a child has its parent's arguments.
    """
    if len(found) < 2:
        return list(found)
    import psutil

    pids = {process.pid for process in found}
    left = []
    for process in found:
        with contextlib.suppress(psutil.Error):
            if psutil.Process(process.pid).ppid() not in pids:
                left.append(process)
    return left


def _send(process: Process, number: int) -> None:
    """Send a signal to this process and to no later one.

    Raises:
        PermissionError: it is another user's.
    """
    if not hasattr(os, "pidfd_open"):
        if is_running(process):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)
        return
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    except OSError:  # a kernel without it
        if is_running(process):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)
        return
    try:
        # What the descriptor means cannot change any more; is it the right one?
        if is_running(process):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, number)
    finally:
        os.close(descriptor)


def end_parent(process: Process) -> None:
    """Kill the parent of a process, if it is a child of this program.

    That is Playwright's driver. A browser that loses it closes by itself, in order.
    """
    import psutil

    with contextlib.suppress(psutil.Error):
        parent = psutil.Process(process.pid).parent()
        if parent is not None and parent.ppid() == os.getpid():
            parent.kill()


def _wait(processes: Iterable[Process], seconds: float) -> Pauses[bool]:
    """Wait until all have ended; whether they have."""
    left = list(processes)
    deadline = time.monotonic() + seconds
    while left := [process for process in left if is_running(process)]:
        if time.monotonic() >= deadline:
            return False
        yield _POLL
    return True


def end(
    processes: Iterable[Process],
    *,
    by_itself: float,
    asked: float = 3.0,
    killed: float = 10.0,
    platform: str = sys.platform,
) -> Pauses[bool]:
    """End processes in order: wait, SIGTERM, SIGKILL.

    Waiting matters: SIGTERM ends a Chromium without a window at once, and what it has not
    written yet is lost. A stopped one is let go on, so that it can end by itself.

    Args:
        processes: which.
        by_itself: seconds to wait before it is ended.
        asked: seconds to wait after SIGTERM; with 0 it is not sent.
        killed: seconds to wait after SIGKILL.
        platform: of Python; on Windows there is nothing between waiting and killing.

    Returns:
        Whether they ended without being killed.

    Raises:
        PermissionError: one is another user's.
        TimeoutError: one is still there.
    """
    left = list(processes)
    if by_itself > 0 and platform != "win32":
        for process in left:
            _send(process, signal.SIGCONT)
    if (yield from _wait(left, by_itself)):
        return True
    if asked > 0 and platform != "win32":
        for process in left:
            _send(process, signal.SIGTERM)
            _send(process, signal.SIGCONT)
        if (yield from _wait(left, asked)):
            return True
    for process in left:
        # On Windows SIGTERM is TerminateProcess.
        _send(process, getattr(signal, "SIGKILL", signal.SIGTERM))
    if not (yield from _wait(left, killed)):
        raise TimeoutError(f"process {left[0].pid} does not end")
    return False
