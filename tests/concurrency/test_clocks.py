"""Clocks that step, and differ between processes: who holds what does not depend on them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from tests.concurrency.campaign import sweep_faketime
from tests.invariants import check
from tweakio import ProfileManager
from tweakio.errors import LockTimeoutError
from tweakio.store.packs.index import gc_is_running

YEAR = 365 * 86400
# With libfaketime 0.9.10 every sleep fails if the monotonic clock is left alone.
SLEEP = """
import select, time
time.sleep = lambda seconds: select.select([], [], [], seconds)
"""
LOOK = f"""{SLEEP}
import json, sys
from tweakio import ProfileManager, TweakioError
found = {{}}
with ProfileManager(sys.argv[1]) as manager:
    profile = manager.get_profile("x")
    found["shown"] = [profile.status, profile.in_use, profile.lock_pid]
    for name, work in {{
        "activate": lambda: manager.activate_profile("x", 0),
        "delete": lambda: manager.delete_profile("x", force=True),
        "create": lambda: manager.create_profile("y", "custom"),
        "undo": lambda: manager.undo(),
    }}.items():
        try:
            work()
            found[name] = "done"
        except TweakioError as error:
            found[name] = type(error).__name__
print(json.dumps(found))
"""
HOLD = f"""{SLEEP}
import os, sys
from tweakio import ProfileManager
manager = ProfileManager(sys.argv[1])
manager.activate_profile("x")
print("held", flush=True)
os.read(0, 1)
"""


def time_namespace(offset: int) -> list[str]:
    """Where the time since the boot, which a lock's record names, is another one."""
    if shutil.which("unshare") is None:
        pytest.skip("unshare, of util-linux, is not installed")
    command = ["unshare", "--time", "--boottime", str(offset), "--monotonic", str(offset), "--fork"]
    done = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no time namespace can be made here (as root it can): {done.stderr}")
    return command


def wall_clock(offset: int) -> list[str]:
    """Where it is another day."""
    if shutil.which("faketime") is None:
        pytest.skip("faketime is not installed")
    return ["env", "DONT_FAKE_MONOTONIC=1", "NO_FAKE_STAT=1", "faketime", "-f", f"{offset:+d}"]


ELSEWHEN = [
    pytest.param(time_namespace, 10 * YEAR, id="booted ten years ago"),
    pytest.param(wall_clock, 10 * YEAR, id="ten years ahead"),
    pytest.param(wall_clock, -10 * YEAR, id="ten years behind"),
]


@pytest.fixture(autouse=True)
def swept() -> Iterator[None]:
    yield
    sweep_faketime()


@pytest.fixture
def here(home: Path) -> ProfileManager:
    found = ProfileManager(home)
    found.create_profile("x", "custom")
    return found


@pytest.mark.parametrize(("elsewhen", "offset"), ELSEWHEN)
def test_a_holder_is_seen_from_another_time(
    here: ProfileManager, home: Path, elsewhen: Callable[[int], list[str]], offset: int
) -> None:
    here.activate_profile("x")
    command = [*elsewhen(offset), sys.executable, "-c", LOOK, str(home)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "shown": ["active", True, os.getpid()],
        "activate": "LockTimeoutError",
        "delete": "ProfileActiveError",
        "create": "done",
        "undo": "done",
    }
    profile = here.get_profile("x")
    assert (profile.status, profile.in_use) == ("active", True)
    here.close()
    check(home)


@pytest.mark.parametrize(("elsewhen", "offset"), ELSEWHEN)
def test_a_holder_of_another_time_is_seen_and_its_death(
    here: ProfileManager, home: Path, elsewhen: Callable[[int], list[str]], offset: int
) -> None:
    process = subprocess.Popen(
        [*elsewhen(offset), sys.executable, "-c", HOLD, str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        profile = here.get_profile("x")
        assert (profile.status, profile.in_use) == ("active", True)
        assert profile.lock_pid is not None
        with pytest.raises(LockTimeoutError):
            here.activate_profile("x", 0)
        os.kill(profile.lock_pid, signal.SIGKILL)
    finally:
        process.communicate()
    assert here.get_profile("x").status == "inactive"
    assert here.activate_profile("x", 10).lock_pid == os.getpid()
    here.close()
    check(home)


def test_history_is_in_the_order_of_what_happened(home: Path) -> None:
    """Not in that of the times that it shows."""
    moment = datetime(2026, 1, 1, tzinfo=timezone.utc)
    steps = [timedelta(days=days) for days in (0, 3650, -3650, 1, -1, 400, -400)]
    with ProfileManager(home, clock=lambda: moment + steps[0]) as manager:
        for _ in range(len(steps)):
            manager.create_profile("x", "custom")
            manager.activate_profile("x")
            manager.delete_profile("x", force=True)
            steps.append(steps.pop(0))
        operations = [change.operation for change in manager.history()]
        assert operations == ["delete", "activate", "create"] * len(steps) + ["init"]
        for _ in range(2):
            manager.undo()
        assert manager.get_profile("x").created_at == moment + steps[-1]


@pytest.mark.parametrize("age", [60, -YEAR])
def test_a_lock_that_a_dead_git_left_before_the_clock_was_put_back(
    here: ProfileManager, home: Path, age: int
) -> None:
    lock = home / "profiles" / ".git" / "index.lock"
    lock.touch(0o600)
    os.utime(lock, (time.time() - age,) * 2)
    here.repository.timeout = 5
    here.create_profile("y", "custom")
    assert not lock.exists()
    here.close()
    check(home)


def test_a_git_gc_that_died_before_the_clock_was_put_back(here: ProfileManager, home: Path) -> None:
    objects = home / "profiles" / ".git" / "objects"
    lock = objects.parent / "gc.pid"
    lock.touch()
    assert gc_is_running(objects)
    os.utime(lock, (time.time() + YEAR,) * 2)
    assert not gc_is_running(objects)
    here.close()
