"""``kill -9`` of the browser, of the program, of both, and what the next start finds."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from contextlib import ExitStack

import pytest

from tests.browser.__main__ import campaign
from tests.browser.test_isolation import READ, WRITE, held, opened
from tests.browsers import Opener, needs_browser, page_server, wait_until
from tweakio import ProfileManager, browsing
from tweakio.browser import orphans, record
from tweakio.browser.engines.chromium import Chromium
from tweakio.store.processes import process_start

pytestmark = [needs_browser, pytest.mark.skipif(sys.platform == "win32", reason="signals")]

VICTIMS = ("browser", "program", "program and driver", "all")


def kill(program: Opener, victims: str) -> None:
    pids = {
        "browser": [program.browser],
        "program": [program.process.pid],
        "program and driver": [program.process.pid, program.driver],
        "all": [program.process.pid, program.driver, program.browser],
    }[victims]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def browsers(manager):
    paths = manager.layout.profile("a")
    return Chromium().processes_of(paths.browser_profile)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A home with a profile that has something in its storage, and the page's origin."""
    with page_server() as origin, ProfileManager(tmp_path_factory.mktemp("home")) as manager:
        manager.create_profile("a", "custom")
        with Opener(manager.home, "a") as program:
            program.opened().tell("evaluate", f"{origin}/", f"({WRITE})('a')")
            assert program.end() == 0
        yield manager, origin


def test_the_next_start_needs_no_help(stored):
    """Whatever was killed before; each start is what is killed next."""
    manager, origin = stored
    paths = manager.layout.profile("a")
    unclean = record.read(paths).unclean_exits
    with ExitStack() as stack:
        program = stack.enter_context(Opener(manager.home, "a")).opened()
        for number, victims in enumerate(VICTIMS, 1):
            kill(program, victims)
            if victims == "browser":
                wait_until(lambda gone=program.browser: process_start(gone) is None)
                assert program.end() == 0
            before = program.browser
            program = stack.enter_context(Opener(manager.home, "a")).opened()
            assert process_start(before) is None
            assert [found.pid for found in browsers(manager)] == [program.browser]
            assert record.read(paths).unclean_exits == unclean + number, victims
            assert program.tell("evaluate", f"{origin}/", f"({READ})()") == held("a"), victims
        assert program.end() == 0
    assert manager.browser_status("a").state.kind == "closed"
    assert not manager.locks.is_locked("a")


def test_an_orphan_is_found_and_ended(stored):
    """One that does not notice by itself that its program is gone, because it is stopped."""
    profile, origin = stored
    with Opener(profile.home, "a") as program:
        program.opened()
        os.kill(program.browser, signal.SIGSTOP)
        kill(program, "program and driver")
        program.process.wait()
        state = profile.browser_status("a").state
        assert (state.kind, state.pid) == ("orphaned", program.browser)
        assert profile.locks.is_locked("a"), "the browser keeps the lock"
        with Opener(profile.home, "a") as after:
            after.opened()
            assert process_start(program.browser) is None
            assert after.tell("evaluate", f"{origin}/", f"({READ})()") == held("a")
            assert after.end() == 0


def test_a_hung_browser_of_a_live_program_is_not_touched(stored):
    profile, _ = stored
    unclean = profile.browser_status("a").record.unclean_exits
    with Opener(profile.home, "a") as program:
        program.opened()
        os.kill(program.browser, signal.SIGSTOP)
        with Opener(profile.home, "a", "--timeout", "0.5", stderr=-1) as second:
            _, errors = second.process.communicate(timeout=60)
        assert second.process.returncode == 6
        assert f"in use by process {program.process.pid}" in errors
        assert process_start(program.browser) is not None
        assert [found.pid for found in browsers(profile)] == [program.browser]
        assert orphans.orphans_of(profile.layout.profile("a")) == []
        os.kill(program.browser, signal.SIGCONT)
        assert program.end() == 0
    assert profile.browser_status("a").record.unclean_exits == unclean


def test_its_owner_closes_it(stored, monkeypatch):
    profile, _ = stored
    monkeypatch.setattr(browsing, "_CLOSE_SECONDS", 0.5)

    async def use():
        browser = opened(profile, "a")
        await browser.open()
        pid = browser._keeper.process.pid
        os.kill(pid, signal.SIGSTOP)
        await browser.close()
        assert process_start(pid) is None

    asyncio.run(use())
    assert profile.browser_status("a").state.kind == "closed"


def test_at_random_moments(stored):
    """Also in the middle of starting; ``python -m tests.browser`` does many more."""
    profile, origin = stored
    campaign(profile, origin, rounds=1, seed=random.randrange(1 << 32), start=1.5)
