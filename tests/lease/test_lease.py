"""Leases against a real Redis and in files, between processes and homes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from cli_helpers import environment

from tweakio import LeaseError, LeaseLostError, ProfileManager
from tweakio.errors import InvalidInputError
from tweakio.layout import Layout
from tweakio.lease.backends import check_url, open_backend

HOLD = """
import sys
from tweakio import LeaseLostError, ProfileManager
manager = ProfileManager(sys.argv[1])
manager.activate_profile("a")
print("held", flush=True)
sys.stdin.readline()
try:
    manager.record_login("a")
    print("committed", flush=True)
except LeaseLostError:
    print("refused", flush=True)
manager.close()
"""


@pytest.fixture
def homes(redis_url, tmp_path):
    """Two machines, as far as a lease can tell."""
    with ProfileManager(tmp_path / "one") as one, ProfileManager(tmp_path / "two") as two:
        for manager in (one, two):
            manager.create_profile("a", "custom")
            manager.leases.use(redis_url, ttl=1.5)
        yield one, two
        for item in one.leases.status().leases:
            one.leases.release(item.profile_id, force=True)


def hold(home: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", HOLD, str(home)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(home.parent),
    )  # fmt: skip
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("kind", ["file", "redis"])
def test_a_backend(kind, tmp_path, request):
    layout = Layout(tmp_path)
    layout.local.mkdir(parents=True)
    url = request.getfixturevalue("redis_url") if kind == "redis" else kind
    backend = open_backend(url, layout, 1.0)
    first = backend.acquire("p", "x", 5.0)
    assert first is not None
    assert backend.acquire("p", "y", 5.0) is None
    assert backend.read(["q", "p"])["p"][:2] == ("x", first)
    assert list(backend.read(["q", "p"])) == ["p"]
    assert backend.renew("p", first, 0.05)
    time.sleep(0.1)  # its time to live is over
    assert backend.read(["p"]) == {}
    assert not backend.renew("p", first, 5.0)
    second = backend.acquire("p", "y", 5.0)
    assert second > first
    assert not backend.release("p", first)
    assert backend.release("p", second)
    third = backend.acquire("p", "x", 5.0)
    assert third > second
    assert backend.release("p", third)


def test_one_machine_at_a_time_and_release_on_close(homes):
    one, two = homes
    one.activate_profile("a")
    with pytest.raises(LeaseError) as error:
        two.activate_profile("a")
    assert f"process {os.getpid()} on {socket.gethostname()}" in str(error.value)
    assert not two.locks.is_locked("a")
    first = one.leases.status().leases[0].token
    time.sleep(1.3)  # longer than its time to live: it was renewed
    assert one.leases.status().leases[0].token == first
    one.close()
    assert two.leases.status().leases == []
    two.activate_profile("a")
    assert two.leases.status().leases[0].token > first
    log = subprocess.run(
        ["git", "-C", str(two.layout.profiles), "log", "-1", "--format=%B"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert f"Tweakio-Fence: a {two.leases.status().leases[0].token}" in log


def test_a_stopped_holder_loses_it_and_is_refused(homes):
    one, two = homes
    with hold(one.home) as process:
        token = two.leases.status().leases[0].token
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(1.8)  # nobody renews it, so that its time to live passes
        two.activate_profile("a")
        assert two.leases.status().leases[0].token > token
        os.kill(process.pid, signal.SIGCONT)
        out, _ = process.communicate("\n", 20)
    assert (out, process.returncode) == ("refused\n", 0)
    two.record_login("a")


def test_a_holder_that_dies_lets_it_expire(homes):
    one, two = homes
    with hold(one.home) as process:
        process.kill()
    with pytest.raises(LeaseError):
        two.activate_profile("a")
    time.sleep(1.7)  # until the time to live of the dead one has passed
    two.activate_profile("a")


def test_a_dead_process_of_this_machine_keeps_no_file(home):
    with ProfileManager(home) as manager:
        manager.create_profile("a", "custom")
        manager.leases.use("file", ttl=600.0)
        with hold(home) as process:
            token = manager.leases.status().leases[0].token
            process.kill()
        assert manager.leases.status().leases == []
        manager.activate_profile("a")
        assert [item.token for item in manager.leases.status().leases] == [token + 1]


def test_taken_away_by_force_in_files(home):
    with ProfileManager(home) as manager:
        manager.create_profile("a", "custom")
        manager.leases.use("file", ttl=5.0)
        manager.activate_profile("a")
        lost = threading.Event()
        manager.locks.guard.watch("a", lost.set)
        with pytest.raises(LeaseError):
            manager.leases.release("a")
        manager.leases.release("a", force=True)
        with pytest.raises(LeaseLostError):
            manager.record_login("a")
        assert lost.wait(10)
        with pytest.raises(LeaseLostError):
            manager.deactivate_profile()
        with pytest.raises(LeaseLostError):  # also after it let go
            manager.record_login("a")
        manager.activate_profile("a")
        manager.record_login("a")


@pytest.mark.parametrize("url", ["http://x", "redis://u:secret@x", "redis://x/0?password=secret"])
def test_no_secret_is_kept(url):
    with pytest.raises(InvalidInputError) as error:
        check_url(url)
    assert "secret" not in str(error.value) + error.value.hint


def test_nothing_without_a_backend(manager):
    manager.create_profile("a", "custom")
    manager.activate_profile("a")
    assert manager.locks.guard is None
    assert not manager.layout.leases.exists()
