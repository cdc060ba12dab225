"""One real Chromium for all tests here, asynchronous and, in a thread, synchronous."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import pytest  # noqa: E402

from platforms.cases import SignalSessionHandler, install_matrix  # noqa: E402
from tests.browsers import ARGUMENTS, chromium_path  # noqa: E402
from tweakio import platforms  # noqa: E402
from tweakio.platforms.fingerprints import SeededFingerprintGenerator  # noqa: E402

QUIET = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    *ARGUMENTS,
]


@pytest.fixture(scope="session")
def launch_options() -> dict[str, Any]:
    """What a browser is launched with, by either of Playwright's faces."""
    found = chromium_path()
    if found is None:
        pytest.skip("there is no Chromium")
    return {
        "executable_path": found,
        "args": QUIET,
        "chromium_sandbox": not hasattr(os, "geteuid") or os.geteuid() != 0,
    }


Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(scope="session")
def run() -> Iterator[Run]:
    """Run a coroutine on the one event loop of all these tests."""
    loop = asyncio.new_event_loop()
    yield lambda coroutine: loop.run_until_complete(asyncio.wait_for(coroutine, 90))
    loop.close()


@pytest.fixture(scope="session")
def chromium(launch_options: dict[str, Any], run: Run) -> Iterator[Any]:
    """Playwright's ``chromium``."""
    from playwright.async_api import async_playwright

    starting = async_playwright()
    playwright = run(starting.__aenter__())
    yield playwright.chromium
    run(starting.__aexit__(None, None, None))


@pytest.fixture(scope="session")
def browser(chromium: Any, launch_options: dict[str, Any], run: Run) -> Iterator[Any]:
    """A browser for all tests."""
    launched = run(chromium.launch(**launch_options))
    yield launched
    run(launched.close())


@pytest.fixture
def context(browser: Any, run: Run) -> Iterator[Any]:
    """An empty browser context."""
    opened = run(browser.new_context())
    yield opened
    run(opened.close())


@pytest.fixture(scope="session")
def shared(browser: Any, run: Run) -> Iterator[Any]:
    """One context for most tests: a new one takes half a second, and services are on a port, and
    so an origin, of their own.
    """
    opened = run(browser.new_context())
    yield opened
    run(opened.close())


@pytest.fixture
def page(shared: Any, run: Run) -> Iterator[Any]:
    """An empty page in the shared context, without cookies."""
    opened = shared.pages[0] if shared.pages else run(shared.new_page())
    yield opened

    async def tidy() -> None:
        for other in shared.pages:
            if other is not opened:
                await other.close()
        if not opened.is_closed():
            await opened.unroute_all()
            await opened.goto("about:blank")
        await shared.clear_cookies()

    run(tidy())


@pytest.fixture(scope="session")
def in_sync(launch_options: dict[str, Any]) -> Iterator[Callable[..., Any]]:
    """Call a function with a browser of Playwright's synchronous face.

    It has a thread of its own, because it does not live beside a running event loop.
    """
    with ThreadPoolExecutor(max_workers=1) as thread:
        state: dict[str, Any] = {}

        def start() -> None:
            from playwright.sync_api import sync_playwright

            state["manager"] = sync_playwright()
            state["playwright"] = state["manager"].__enter__()
            state["browser"] = state["playwright"].chromium.launch(**launch_options)

        def stop() -> None:
            state["browser"].close()
            state["manager"].__exit__(None, None, None)

        def call(function: Callable[..., Any], *arguments: Any) -> Any:
            return thread.submit(lambda: function(state["browser"], *arguments)).result(90)

        thread.submit(start).result(90)
        yield call
        thread.submit(stop).result(90)


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Two platforms that are not ours: one registered by a call, one by an installed package."""
    monkeypatch.setattr(platforms, "_entry_points_loaded", False)
    site = tmp_path / "site"
    site.mkdir()
    install_matrix(site)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "tweakio_matrix_for_tests", raising=False)
    platforms.register_platform("signal", SignalSessionHandler, SeededFingerprintGenerator)
