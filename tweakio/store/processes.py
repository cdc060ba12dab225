"""Who a process is, so that a process id used again is not taken for the old one."""

from __future__ import annotations

import os
import sys
from functools import lru_cache

from tweakio.models import LockRecord

__all__ = ["is_alive", "own_record", "process_start"]


def process_start(pid: int, *, platform: str = sys.platform) -> float | None:
    """When a process started, in a unit that only serves to compare; None if it is gone.

    On Linux clock ticks since the boot, which a step of the wall clock does not change
    (psutil adds the boot's wall-clock time); elsewhere seconds since the epoch.
    A zombie counts as gone: it holds nothing any more. So does a number that no process can
    have, which may stand in a file.
    """
    if not 0 < pid < 1 << 32:
        return None
    if platform.startswith("linux"):
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                # The command's name is in parentheses and may hold any character.
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            return None
        return None if fields[0] in (b"Z", b"X") else float(fields[19])
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return float(process.create_time())
    except psutil.NoSuchProcess:
        return None
    except psutil.AccessDenied:
        return -1.0


@lru_cache(maxsize=1)
def _boot(platform: str = sys.platform) -> str:
    if platform.startswith("linux"):
        try:
            with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
                return file.read().strip()
        except OSError:
            return ""
    return ""


def own_record() -> LockRecord:
    """This process, as it is written into the locks it holds."""
    return _record(os.getpid())


@lru_cache(maxsize=2)
def _record(pid: int) -> LockRecord:
    import socket

    return LockRecord(pid, process_start(pid) or 0.0, _boot(), socket.gethostname())


def is_alive(record: LockRecord) -> bool | None:
    """Whether the process of a record still runs; None if it is of another machine."""
    import socket

    if record.host != socket.gethostname():
        return None
    if record.boot and _boot() and record.boot != _boot():
        return False
    start = process_start(record.pid)
    # psutil's times differ by a hundredth of a second between calls on some systems.
    return start is not None and (start < 0 or abs(start - record.start) < 0.5)
