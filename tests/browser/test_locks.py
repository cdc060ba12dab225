"""Locks, orphans and states, with stand-ins for the browser: real processes, links and locks."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys

import pytest

from tests.browsers import wait_until
from tweakio import BrowserLockedError, LockTimeoutError, ProfileManager
from tweakio.browser import orphans, record
from tweakio.browser.engines.chromium import Chromium
from tweakio.browser.finder import Found
from tweakio.browser.keeper import Keeper
from tweakio.browser.pausing import blocking
from tweakio.browser.record import BrowserRecord, Running
from tweakio.browser.state import BrowserState, browser_state
from tweakio.errors import BrowserError
from tweakio.models import utc_now
from tweakio.store.locks import ProfileLockManager
from tweakio.store.processes import own_record, process_start

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links and signals")

HOST = socket.gethostname()
SLEEP = "import time; print(1, flush=True); time.sleep(1000)"
# Takes the lock, writes a record, starts a browser that has the lock's descriptor, and waits.
OWNER = """
import subprocess, sys, time
from tweakio import ProfileManager
home, profile, user_data = sys.argv[1:]
manager = ProfileManager(home)
descriptor = manager.locks.acquire_for_browser(profile)
child = subprocess.Popen(
    [sys.executable, "-c", "import time; print(1, flush=True); time.sleep(1000)",
     f"--user-data-dir={user_data}"],
    pass_fds=[descriptor], stdout=subprocess.PIPE, start_new_session=True,
)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(1000)
"""


@pytest.fixture
def paths(manager, monkeypatch):
    # These do not notice that their program is gone.
    monkeypatch.setattr(orphans, "_BY_ITSELF", 0.1)
    monkeypatch.setattr(orphans, "_HELPERS", 0.1)
    manager.create_profile("a", "custom")
    return manager.layout.profile("a")


def take(manager, *, timeout=0.0, force=False):
    """A keeper that has taken the profile, with a lock manager of its own."""
    locks = ProfileLockManager(manager.layout)
    keeper = Keeper("a", manager.layout, locks, Chromium(), Found("/bin/true", "150.0.1.2"))
    blocking(keeper.take(timeout, lambda: None, force=force))
    return keeper


@contextlib.contextmanager
def fake_browser(user_data, *arguments):
    """A process that looks like a browser of this directory."""
    child = subprocess.Popen(
        [sys.executable, "-c", SLEEP, f"--user-data-dir={user_data}", *arguments],
        stdout=subprocess.PIPE,
    )
    try:
        child.stdout.readline()
        yield child
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


@contextlib.contextmanager
def owner_with_browser(manager, paths):
    """A program that has a browser open; (program, id of the browser)."""
    program = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(manager.home), "a", str(paths.browser_profile)],
        stdout=subprocess.PIPE,
        text=True,
    )
    browser = 0
    try:
        browser = int(program.stdout.readline())
        yield program, browser
    finally:
        program.kill()
        program.wait()
        program.stdout.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(browser, signal.SIGKILL)


def lock_by(paths, host, pid):
    os.symlink(f"{host}-{pid}", paths.browser_profile / "SingletonLock")
    os.symlink("/nowhere", paths.browser_profile / "SingletonSocket")


def dead_pid():
    child = subprocess.Popen(["true"])
    child.wait()
    return child.pid


def running(pid, start=None, host=HOST):
    me = own_record()
    return Running(
        pid, process_start(pid) or 0.0 if start is None else start, me.boot, host,
        "chromium", "150.0.1.2", utc_now(),
    )  # fmt: skip


# Browsers' own locks


def test_a_dead_lock_is_cleared(manager, paths):
    lock_by(paths, HOST, dead_pid())
    take(manager).give_up()
    assert os.listdir(paths.browser_profile) == [".git"]


def test_a_lock_with_the_id_of_something_else_is_dead_too(manager, paths):
    # In a container that was started anew, the browser's id is soon another program's.
    lock_by(paths, HOST, os.getpid())
    take(manager).give_up()
    assert os.listdir(paths.browser_profile) == [".git"]


def test_a_lock_of_another_host_is_named_and_refused(manager, paths):
    lock_by(paths, "container-7", 4711)
    with pytest.raises(BrowserLockedError) as caught:
        take(manager)
    assert caught.value.exit_code == 26
    assert "4711" in caught.value.message
    assert "'container-7'" in caught.value.message
    assert "--force" in caught.value.hint
    assert os.path.lexists(paths.browser_profile / "SingletonLock")
    assert browser_state(manager.layout, "a") == BrowserState("other_host", 4711, "container-7")
    # The profile is not locked by the attempt.
    assert not manager.locks.is_locked("a")


def test_unless_it_is_forced(manager, paths):
    lock_by(paths, "container-7", 4711)
    take(manager, force=True).give_up()
    assert not os.path.lexists(paths.browser_profile / "SingletonLock")


def test_a_browser_that_somebody_else_started_is_refused_even_then(manager, paths):
    with fake_browser(paths.browser_profile) as child:
        lock_by(paths, HOST, child.pid)
        for force in (False, True):
            with pytest.raises(BrowserLockedError, match=str(child.pid)):
                take(manager, force=force)
        assert browser_state(manager.layout, "a") == BrowserState("open", child.pid, HOST)
        assert child.poll() is None
    assert os.path.lexists(paths.browser_profile / "SingletonLock")


@pytest.mark.parametrize("name", ["browser_profile", "cache"])
def test_a_link_in_place_of_a_directory_is_refused(manager, paths, tmp_path, name):
    path = paths.directory / name
    shutil.rmtree(path)
    path.symlink_to(tmp_path)
    with pytest.raises(BrowserError, match=name):
        take(manager)
    assert not manager.locks.is_locked("a")


def test_missing_directories_are_made(manager, paths):
    shutil.rmtree(paths.browser_profile)
    os.rmdir(paths.cache)
    take(manager).give_up()
    for path in (paths.browser_profile, paths.cache):
        assert os.stat(path).st_mode & 0o777 == 0o700


# What is left of the last browser


def test_an_end_that_was_not_noted_is_counted(manager, paths):
    record.write(paths, BrowserRecord(running(dead_pid(), 1.0), 2))
    take(manager).give_up()
    # Nothing has been started yet, so nothing is noted yet; the next keeper counts it as well.
    keeper = take(manager)
    assert keeper._record.unclean_exits == 3
    assert keeper._record.last_unclean_exit is not None
    keeper.give_up()


def test_a_recorded_browser_without_a_lock_is_ended(manager, paths):
    with fake_browser(paths.browser_profile) as child:
        record.write(paths, BrowserRecord(running(child.pid)))
        assert browser_state(manager.layout, "a") == BrowserState("orphaned", child.pid, HOST)
        take(manager).give_up()
        assert child.wait() == -signal.SIGTERM


def test_so_is_one_whose_id_was_not_known_yet(manager, paths):
    with fake_browser(paths.browser_profile) as child:
        record.write(paths, BrowserRecord(running(0)))
        take(manager).give_up()
        assert child.wait() == -signal.SIGTERM


def test_a_process_that_got_the_recorded_id_is_left_alone(manager, paths):
    with fake_browser(paths.directory / "another") as child:
        record.write(paths, BrowserRecord(running(child.pid, start=1.0)))
        take(manager).give_up()
        assert child.poll() is None


def test_what_another_host_recorded_is_left_alone(manager, paths):
    with fake_browser(paths.browser_profile) as child:
        record.write(paths, BrowserRecord(running(child.pid, host="container-7")))
        take(manager).give_up()
        assert child.poll() is None


def test_helpers_that_hang_after_their_browser_are_ended(manager, paths):
    with fake_browser(paths.browser_profile, "--type=utility") as child:
        record.write(paths, BrowserRecord(running(dead_pid(), 1.0)))
        take(manager).give_up()
        assert child.wait() == -signal.SIGKILL


# Orphans


def test_a_browser_whose_program_died_is_ended_by_the_next(manager, paths):
    with owner_with_browser(manager, paths) as (program, browser):
        assert orphans.orphans_of(paths) == []
        with pytest.raises(LockTimeoutError, match=str(program.pid)):
            take(manager)
        program.kill()
        program.wait()
        assert [found.pid for found in orphans.orphans_of(paths)] == [browser]
        assert manager.locks.is_locked("a")
        assert browser_state(manager.layout, "a") == BrowserState("orphaned", browser, HOST)
        take(manager, timeout=60).give_up()
        wait_until(lambda: process_start(browser) is None)
    assert not manager.locks.is_locked("a")
    assert browser_state(manager.layout, "a") == BrowserState("closed")


@pytest.mark.parametrize("what", ["activate", "select", "delete", "recover"])
def test_so_does_whatever_needs_the_profile(manager, paths, what):
    with owner_with_browser(manager, paths) as (program, browser):
        program.kill()
        program.wait()
        if what == "activate":
            manager.activate_profile("a", timeout=0)
        elif what == "select":
            manager.select_profile("a", timeout=0)
        elif what == "delete":
            manager.delete_profile("a", force=True)
        else:
            manager.recover_profile("a", mode="hard")
        assert process_start(browser) is None


def test_a_stopped_browser_of_a_live_program_is_not_touched(manager, paths):
    with owner_with_browser(manager, paths) as (program, browser):
        os.kill(browser, signal.SIGSTOP)
        os.kill(program.pid, signal.SIGSTOP)
        with pytest.raises(LockTimeoutError) as caught:
            take(manager, timeout=0.3)
        assert f"process {program.pid}" in caught.value.message
        assert process_start(browser) is not None
        assert browser_state(manager.layout, "a") == BrowserState("closed")
        record.write(paths, BrowserRecord(running(browser)))
        expected = BrowserState("open", browser, HOST, program.pid)
        assert browser_state(manager.layout, "a") == expected


def test_a_holder_on_another_host_is_named(manager, paths):
    with owner_with_browser(manager, paths):
        text = json.dumps({**own_record()._asdict(), "host": "container-7"})
        with open(paths.lock, "r+") as file:
            file.write(f"\n{text}\n")
        state = browser_state(manager.layout, "a")
        assert (state.kind, state.host) == ("other_host", "container-7")
        with pytest.raises(LockTimeoutError, match="on container-7"):
            take(manager)


# One lock for a program and for its browser


def test_the_lock_stays_until_program_and_browser_are_done_with_it(manager, paths):
    locks, other = manager.locks, ProfileLockManager(manager.layout)
    locks.acquire("a")
    locks.acquire_for_browser("a", 0)
    assert locks.held == {"a"}
    locks.release("a")
    assert locks.held == frozenset()
    assert locks.is_locked("a")
    assert other.is_locked("a")
    assert locks.owner("a") == own_record()
    locks.release_for_browser("a")
    assert not other.is_locked("a")

    locks.acquire_for_browser("a", 0)
    locks.acquire("a")
    locks.release_for_browser("a")
    assert other.is_locked("a")
    locks.release("a")
    assert not other.is_locked("a")


def test_one_browser_at_a_time(manager, paths):
    manager.locks.acquire_for_browser("a", 0)
    with pytest.raises(LockTimeoutError, match=f"in this process, {os.getpid()}"):
        manager.locks.acquire_for_browser("a", 0)
    assert manager.locks.has_browser("a")
    manager.locks.release_for_browser("a")
    assert not manager.locks.has_browser("a")


def test_nothing_is_pulled_from_under_an_own_browser(manager, paths):
    from tweakio import ProfileActiveError

    manager.activate_profile("a")
    manager.locks.acquire_for_browser("a", 0)
    for attempt in (
        lambda: manager.delete_profile("a", force=True),
        lambda: manager.recover_profile("a", mode="hard"),
    ):
        with pytest.raises(ProfileActiveError):
            attempt()
    manager.deactivate_profile()
    with ProfileManager(manager.home) as another:
        assert another.get_profile("a").in_use
    manager.locks.release_for_browser("a")
    manager.delete_profile("a")


def test_looking_at_a_browser_needs_a_profile(manager, paths):
    from tweakio import ProfileNotFoundError

    assert manager.browser_status("a") == (BrowserState("closed"), BrowserRecord())
    with pytest.raises(ProfileNotFoundError):
        manager.browser_status("b")
