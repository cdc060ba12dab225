"""A process id used again is not the old process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from tweakio.models import LockRecord
from tweakio.store import processes
from tweakio.store.processes import is_alive, own_record, process_start


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def test_own_record() -> None:
    record = own_record()
    assert record.pid == os.getpid()
    assert record.host
    assert record is own_record()
    assert is_alive(record) is True


def test_start_time_does_not_change(sleeper: subprocess.Popen[bytes]) -> None:
    start = process_start(sleeper.pid)
    assert start is not None
    time.sleep(0.05)
    assert process_start(sleeper.pid) == start
    assert start != process_start(os.getpid())


def test_dead_processes_and_zombies(sleeper: subprocess.Popen[bytes]) -> None:
    record = own_record()._replace(pid=sleeper.pid, start=process_start(sleeper.pid) or 0.0)
    assert is_alive(record) is True
    sleeper.kill()
    deadline = time.monotonic() + 5
    while process_start(sleeper.pid) is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert psutil.Process(sleeper.pid).status() == psutil.STATUS_ZOMBIE
    assert is_alive(record) is False
    sleeper.wait()
    assert is_alive(record) is False
    assert process_start(sleeper.pid) is None


def test_reused_id_other_boot_other_host() -> None:
    own = own_record()
    assert is_alive(own._replace(start=own.start - 100)) is False
    assert is_alive(own._replace(boot="an earlier one")) is False
    assert is_alive(own._replace(boot="")) is True
    assert is_alive(own._replace(host="elsewhere")) is None
    assert is_alive(LockRecord(2**22 + 5, 0.0, "", own.host)) is False


def test_names_with_parentheses() -> None:
    code = "import ctypes, sys; ctypes.CDLL(None).prctl(15, b') Z 1 (', 0, 0, 0); print(flush=True)"
    process = subprocess.Popen(
        [sys.executable, "-c", code + "; sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        with open(f"/proc/{process.pid}/stat") as file:
            assert ") Z 1 (" in file.read()
        now = time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK")
        assert process_start(os.getpid()) <= process_start(process.pid) <= now + 1
    finally:
        process.communicate()


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_other_platforms(platform: str, sleeper: subprocess.Popen[bytes]) -> None:
    start = process_start(sleeper.pid, platform=platform)
    assert start == pytest.approx(psutil.Process(sleeper.pid).create_time())
    assert process_start(2**22 + 5, platform=platform) is None
    sleeper.kill()
    deadline = time.monotonic() + 5
    while process_start(sleeper.pid, platform=platform) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_process_we_may_not_look_at(monkeypatch: pytest.MonkeyPatch) -> None:
    class Denied:
        def __init__(self, pid: int) -> None:
            raise psutil.AccessDenied(pid)

    monkeypatch.setattr(psutil, "Process", Denied)
    assert process_start(1, platform="win32") == -1.0


def test_boot_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    processes._boot.cache_clear()
    assert processes._boot("darwin") == ""
    processes._boot.cache_clear()
    assert len(processes._boot("linux")) == 36
