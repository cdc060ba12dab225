"""A profile's browser, open for a person until its window is closed."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tweakio.browsing import BrowserManager

__all__ = ["hold_open"]

log = logging.getLogger(__name__)


async def hold_open(
    browser: BrowserManager,
    url: str | None = None,
    *,
    opened: Callable[[], None] | None = None,
) -> None:
    """Open a profile's browser, and hold the profile until the last window is closed.

    Cancelling it closes the browser in order.

    Args:
        browser: of the profile, not open.
        url: what to open; the service's page by default.
        opened: called once there is something to see.

    Raises:
        BrowserError: the browser could not be started.
        LockTimeoutError, BrowserLockedError: somebody else uses the profile.
    """
    from playwright.async_api import Error, Page

    context = await browser.open()
    ended = asyncio.Event()

    def closed(_: object) -> None:
        # On macOS a browser goes on without a window.
        if not context.pages:
            ended.set()

    def watch(page: Page) -> None:
        page.on("close", closed)

    try:
        context.on("close", lambda _: ended.set())
        context.on("page", watch)
        page = context.pages[0] if context.pages else await context.new_page()
        for other in context.pages:
            watch(other)
        address = url or browser.handler.login_url
        try:
            if address:
                await page.goto(address, wait_until="commit")
        except Error as error:
            if not ended.is_set():
                log.warning("the page cannot be opened: %s", str(error).partition("\n")[0])
        if opened is not None:
            opened()
        await ended.wait()
    finally:
        await browser.close()
