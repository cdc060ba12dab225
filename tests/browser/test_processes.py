"""Real processes, found by their arguments and ended in order, and never a wrong one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.browsers import wait_until
from tweakio.browser import processes
from tweakio.browser.pausing import blocking
from tweakio.browser.processes import Process, end, is_running, this_one

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")

POLITE = "import sys, time; print(1, flush=True); time.sleep(100)"
# SIGTERM is ignored.
RUDE = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {POLITE}"


class Child(subprocess.Popen):
    def __init__(self, code=POLITE, *arguments):
        super().__init__(
            [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True
        )
        assert self.stdout.readline()
        self.known = this_one(self.pid)

    def __exit__(self, *_):
        self.kill()
        self.wait()
        self.stdout.close()


def test_one_that_ends_by_itself_gets_no_signal():
    with Child() as child:
        child.kill()  # it becomes a zombie, which counts as ended
        assert blocking(end([child.known], by_itself=60)) is True


def test_sigterm_comes_first():
    with Child() as child:
        assert blocking(end([child.known], by_itself=0)) is True
        assert child.wait() == -signal.SIGTERM


def test_one_that_does_not_listen_is_killed():
    with Child(RUDE) as child:
        assert blocking(end([child.known], by_itself=0, asked=0.1)) is False
        assert child.wait() == -signal.SIGKILL


def test_a_stopped_one_can_end_in_order():
    code = (
        "import signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        "print(1, flush=True); signal.pause()"
    )
    with Child(code) as child:
        child.send_signal(signal.SIGSTOP)
        assert blocking(end([child.known], by_itself=0, asked=60)) is True
        assert child.wait() == 7


def test_a_later_process_of_the_same_id_is_left_alone():
    with Child() as child:
        earlier = Process(child.pid, child.known.start - 100)
        assert not is_running(earlier)
        assert blocking(end([earlier], by_itself=0)) is True
        processes._send(earlier, signal.SIGKILL)
        assert child.poll() is None


def test_the_same_without_descriptors_of_processes(monkeypatch):
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    with Child() as child:
        processes._send(Process(child.pid, child.known.start - 100), signal.SIGKILL)
        assert child.poll() is None
        processes._send(child.known, signal.SIGTERM)
        assert child.wait() == -signal.SIGTERM


def test_on_windows_there_is_only_killing():
    with Child(RUDE) as child:
        began = time.monotonic()
        assert blocking(end([child.known], by_itself=0, asked=600, platform="win32")) is False
        assert time.monotonic() - began < 60
        assert child.wait() == -signal.SIGKILL


def test_one_that_cannot_be_killed_is_an_error(monkeypatch):
    monkeypatch.setattr(processes, "_send", lambda *_: None)
    with Child() as child, pytest.raises(TimeoutError, match=str(child.pid)):
        blocking(end([child.known], by_itself=0, asked=0.01, killed=0.01))


@pytest.mark.parametrize("platform", [sys.platform, "other"])
def test_arguments_of_processes(platform):
    with Child(POLITE, "--user-data-dir=/some where/x") as child:
        found = dict(processes.command_lines(platform=platform))
        assert found[child.known][-1] == "--user-data-dir=/some where/x"


def test_who_is_gone_is_not_running():
    with Child() as child:
        known = child.known
    wait_until(lambda: not is_running(known))
    assert this_one(2**22 + 1) is None


def test_a_fork_is_not_another_browser():
    code = "import os, sys, time; print(1, os.fork(), flush=True); time.sleep(100)"
    with Child(code) as parent, Child() as other:
        wait_until(lambda: psutil.Process(parent.pid).children())
        (fork,) = psutil.Process(parent.pid).children()
        found = [parent.known, this_one(fork.pid), other.known]
        assert processes.without_forks(found) == [parent.known, other.known]
        assert processes.without_forks(found[1:2]) == found[1:2]
        fork.kill()
