"""A real browser whose profile is lost to another is closed."""

from __future__ import annotations

import asyncio
import time

import pytest

from tweakio import (
    BrowserManager,
    LeaseError,
    LeaseLostError,
    ProfileManager,
    SyncBrowserManager,
)
from tweakio.browser import finder
from tweakio.errors import BrowserNotFoundError
from tweakio.lease import holder

pytest.importorskip("playwright")
try:
    finder.find()
except BrowserNotFoundError:
    pytest.skip("no browser is installed", allow_module_level=True)


@pytest.fixture
def leased(home):
    with ProfileManager(home) as manager:
        manager.create_profile("a", "custom")
        manager.leases.use("file", ttl=3.0)
        yield manager


def test_in_a_loop(leased):
    async def run():
        browser = BrowserManager("a", manager=leased)
        await browser.open()
        process = leased.browser_status("a").state.pid
        assert process
        leased.leases.release("a", force=True)
        for _ in range(100):
            if browser._keeper is None:
                break
            await asyncio.sleep(0.05)
        assert browser.browser is None
        assert not _runs(process)
        await browser.close()

    asyncio.run(run())
    assert leased.browser_status("a").record.unclean_exits == 0
    with pytest.raises(LeaseLostError):
        leased.record_login("a")


def test_in_a_thread(leased):
    with SyncBrowserManager("a", manager=leased) as context:
        assert context.pages
        process = leased.browser_status("a").state.pid
        assert process
        leased.leases.release("a", force=True)
        for _ in range(100):
            if not _runs(process):
                break
            time.sleep(0.05)  # it closes in order, which takes what it takes
        assert not _runs(process)
    assert leased.browser_status("a").record.unclean_exits == 0
    with pytest.raises(LeaseLostError):
        leased.record_login("a")


async def _longest_gap(gaps):
    """How long the loop ran nothing, as long as it is watched."""
    last = time.monotonic()
    while True:
        await asyncio.sleep(0.01)
        gaps.append(time.monotonic() - last)
        last = time.monotonic()


def test_redis_hangs_and_the_loop_does_not(home, redis):
    async def run(manager):
        browser = BrowserManager("a", manager=manager)
        await browser.open()
        process = manager.browser_status("a").state.pid
        lease = manager.locks.guard._leases["a"]
        redis.hang()
        gaps = []
        watching = asyncio.create_task(_longest_gap(gaps))
        while _runs(process):
            await asyncio.sleep(0.02)
        assert holder._now() < lease.expires
        while browser._keeper is not None:
            await asyncio.sleep(0.02)
        await browser.close()
        gaps.clear()
        with pytest.raises(LeaseError, match="does not answer"):
            await browser.open()
        watching.cancel()
        assert sum(gaps) > 0.4  # an answer was waited for
        assert max(gaps) < 0.3

    with ProfileManager(home) as manager:
        manager.create_profile("a", "custom")
        manager.leases.use(redis.url, ttl=4.5)
        asyncio.run(run(manager))
        assert manager.browser_status("a").record.unclean_exits == 0


def _runs(pid: int) -> bool:
    from tweakio.store.processes import process_start

    return process_start(pid) is not None
