"""A fork or an exec while something is held: the child holds nothing unless that was meant.

Each case is a process of its own: forking is not for a test runner that has threads.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.invariants import check
from tweakio import ProfileManager
from tweakio.errors import LockTimeoutError

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")

BEGIN = """
import multiprocessing, os, subprocess, sys
from tweakio import ProfileManager, TweakioError
home = sys.argv[1]
manager = ProfileManager(home)

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def wait():
    while os.read(0, 1):  # until the test closes it
        pass
"""
# What comes to live beside the holder, until the test closes its standard input.
SURVIVORS = {
    "os.fork": """
if os.fork() == 0:
    say("child", os.getpid())
    wait()
    os._exit(0)
""",
    "multiprocessing": """
def live():
    say("child", os.getpid())
    wait()
process = multiprocessing.get_context("fork").Process(target=live)
process.start()
""",
    "subprocess": """
code = "import os; os.write(1, b'child %d\\\\n' % os.getpid()); os.read(0, 1)"
process = subprocess.Popen([sys.executable, "-c", code], close_fds=False)
""",
}


Start = Callable[[str], subprocess.Popen[str]]


@pytest.fixture
def start(home: Path) -> Iterator[Start]:
    """Starts a process; what still runs in the end is ended."""
    processes: list[subprocess.Popen[str]] = []

    def run(code: str) -> subprocess.Popen[str]:
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", BEGIN + code, str(home)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        return processes[-1]

    yield run
    for process in processes:
        process.kill()
        end(process)


def said(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    return process.stdout.readline().split()


def end(process: subprocess.Popen[str]) -> int:
    if process.stdin is not None and not process.stdin.closed:
        process.communicate(timeout=30)
    return process.wait()


@pytest.fixture
def other(home: Path) -> Iterator[ProfileManager]:
    """A manager of this process, with a profile to hold."""
    with ProfileManager(home) as found:
        found.create_profile("x", "custom")
        yield found


@pytest.mark.parametrize("how", SURVIVORS)
def test_a_child_that_outlives_its_parent_keeps_nothing_locked(
    other: ProfileManager, home: Path, start: Start, how: str
) -> None:
    process = start('manager.activate_profile("x")\n' + SURVIVORS[how] + "wait()")
    try:
        _, child = said(process)
        with pytest.raises(LockTimeoutError, match=f"process {process.pid}"):
            other.activate_profile("x", 0)
        process.send_signal(signal.SIGKILL)
        process.wait()
        os.kill(int(child), 0)  # it lives
        assert other.get_profile("x").status == "inactive"
        assert other.activate_profile("x", 0).lock_pid == os.getpid()
    finally:
        end(process)
    other.close()
    check(home)


@pytest.mark.parametrize(
    "leave",
    [
        "os._exit(0)",
        "sys.exit(0)",
        "os.kill(os.getpid(), 9)",
        "manager.close(); os._exit(0)",
        "manager.deactivate_profile(); os._exit(0)",
        "del manager; import gc; gc.collect(); os._exit(0)",
    ],
)
def test_a_child_that_ends_first_takes_nothing_from_its_parent(
    other: ProfileManager, home: Path, start: Start, leave: str
) -> None:
    code = f"""
manager.activate_profile("x")
if (pid := os.fork()) == 0:
    {leave}
os.waitpid(pid, 0)
say(sorted(manager.locks.held), manager.get_profile("x").status)
wait()
manager.close()
"""
    process = start(code)
    assert said(process) == ["['x']", "active"]
    head = other.history(limit=1)[0]
    assert head.operation == "activate"
    profile = other.get_profile("x")
    assert (profile.status, profile.in_use, profile.lock_pid) == ("active", True, process.pid)
    with pytest.raises(LockTimeoutError):
        other.activate_profile("x", 0)
    assert end(process) == 0
    assert other.get_profile("x").status == "inactive"
    other.close()
    check(home)


def test_a_child_can_go_on_with_the_object_that_it_inherited(
    other: ProfileManager, home: Path, start: Start
) -> None:
    """It holds nothing then, and is refused as any other process."""
    code = """
manager.activate_profile("x")
if (pid := os.fork()) == 0:
    try:
        manager.activate_profile("x", 0)
    except TweakioError as error:
        say(type(error).__name__, sorted(manager.locks.held))
    manager.create_profile("y", "custom")
    manager.activate_profile("y")
    os._exit(0)
os.waitpid(pid, 0)
say([(p.id, p.in_use) for p in manager.list_profiles()])
manager.close()
"""
    process = start(code)
    assert said(process) == ["LockTimeoutError", "[]"]
    assert " ".join(said(process)) == "[('x', True), ('y', False)]"
    assert end(process) == 0
    other.close()
    check(home)


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_fork_in_the_middle_of_a_change(
    other: ProfileManager, home: Path, start: Start, goes_on: bool
) -> None:
    """The child has a copy of what is being collected, and must neither commit nor remove it."""
    code = f"""
def progress(number):
    global pid
    if number == 1 and (pid := os.fork()) == 0 and not {goes_on}:
        raise KeyboardInterrupt
try:
    manager.create_profiles(["a", "b"], "custom", progress=progress)
except BaseException as error:
    say(type(error).__name__, pid)
if pid == 0:
    os._exit(0)
os.waitpid(pid, 0)
say("parent", [p.id for p in manager.list_profiles()])
"""
    process = start(code)
    lines = sorted((said(process), said(process)))
    assert lines[0] == ["ConcurrentChangeError" if goes_on else "KeyboardInterrupt", "0"]
    assert lines[1] == ["parent", "['a',", "'b',", "'x']"]
    assert end(process) == 0
    assert [change.operation for change in other.history()][:2] == ["create", "create"]
    other.close()
    check(home)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are listed in /proc")
def test_no_descriptor_of_ours_passes_an_exec(
    other: ProfileManager, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is open while a profile is held and in the middle of a change is close-on-exec."""
    seen = set()

    def look(*_: object) -> None:
        for name in os.listdir("/proc/self/fd"):
            try:
                target = os.readlink(f"/proc/self/fd/{name}")
                inheritable = os.get_inheritable(int(name))
            except OSError:
                continue
            if target.startswith(str(home)):
                assert not inheritable, target
                seen.add(os.path.basename(target))

    other.activate_profile("x")
    other.history()
    other.create_profiles(["a", "b"], "custom", progress=look)
    assert {".lock", "repository.lock"} <= seen
    other.close()


def test_a_descriptor_that_is_passed_on_keeps_the_lock(
    other: ProfileManager, home: Path, start: Start
) -> None:
    """As a browser will have it: the profile is in use as long as that one lives."""
    code = """
manager.activate_profile("x")
descriptor = manager.locks._held["x"].descriptor
child = subprocess.Popen([sys.executable, "-c", "import os; print(1, flush=True); os.read(0, 1)"],
                         pass_fds=[descriptor])
wait()
"""
    process = start(code)
    assert said(process) == ["1"]
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert other.get_profile("x").in_use
    with pytest.raises(LockTimeoutError):
        other.activate_profile("x", 0)
    end(process)
    assert other.activate_profile("x", 10).in_use
    other.close()
    check(home)
