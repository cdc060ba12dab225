"""Playwright's driver: a process of its own, which all open profiles of a loop or thread share.

Five of them for five profiles would take 500 MB more; and Playwright's synchronous side cannot be
started twice in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
import weakref
from typing import TYPE_CHECKING

from tweakio import references
from tweakio.errors import BrowserError, InvalidInputError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.async_api import Playwright as AsyncPlaywright
    from playwright.sync_api import Playwright as SyncPlaywright

__all__ = ["AsyncDriver", "SyncDriver", "browser_error", "is_over"]

log = logging.getLogger(__name__)

_STOP_SECONDS = 10.0
_FOR_DRIVER = (
    "PW_", "PWDEBUG", "DEBUG", "NODE_OPTIONS", "NODE_EXTRA_CA_CERTS", "PLAYWRIGHT_BROWSERS_PATH",
    "PLAYWRIGHT_SKIP_", "PLAYWRIGHT_HOST_PLATFORM_OVERRIDE",
)  # fmt: skip
_patching = threading.Lock()


def _missing() -> MissingExtraError:
    return MissingExtraError(
        "browsers need a package that is not installed",
        hint="run pip install 'tweakio[browser]'",
    )


_of_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncDriver] = (
    weakref.WeakKeyDictionary()
)


class AsyncDriver:
    """Playwright in one event loop. It runs as long as somebody uses it."""

    def __init__(self) -> None:
        self._users = 0
        self._starting = asyncio.Lock()
        self._playwright: AsyncPlaywright | None = None
        self._witness: asyncio.Task[None] | None = None

    @classmethod
    async def use(cls) -> AsyncDriver:
        """The driver of the running loop, started if it was not; ``leave`` it afterwards.

        Raises:
            MissingExtraError: Playwright is not installed.
        """
        loop = asyncio.get_running_loop()
        driver = _of_loops.get(loop)
        if driver is None:
            driver = _of_loops[loop] = cls()
        driver._users += 1
        try:
            async with driver._starting:
                if driver._playwright is None:
                    driver._playwright = await _start_async()
                    driver._witness = asyncio.create_task(_sleep())
        except BaseException:
            await driver.leave()
            raise
        return driver

    @property
    def playwright(self) -> AsyncPlaywright:
        """Playwright's object."""
        assert self._playwright is not None
        return self._playwright

    @property
    def broken(self) -> bool:
        """Whether all tasks of the loop were cancelled, Playwright's own among them.

        ``asyncio.run`` does so when an exception such as SystemExit ends it. Each further call
        of Playwright's would wait for ever.
        """
        return self._witness is not None and self._witness.done()

    def give_up(self) -> None:
        """It has died: who comes next starts another."""
        for loop, driver in list(_of_loops.items()):
            if driver is self:
                del _of_loops[loop]

    async def leave(self) -> None:
        """Stop it if nobody uses it any more."""
        self._users -= 1
        if self._users:
            return
        self.give_up()
        broken = self.broken
        if self._witness is not None:
            self._witness.cancel()
        playwright, self._playwright = self._playwright, None
        if playwright is not None and not broken:
            # One that has died does not always answer.
            with contextlib.suppress(Exception):
                await asyncio.wait_for(playwright.stop(), _STOP_SECONDS)


async def _sleep() -> None:
    """Until it is cancelled."""
    await asyncio.get_running_loop().create_future()


async def _start_async() -> AsyncPlaywright:
    try:
        from playwright.async_api import async_playwright
    except ImportError as error:
        raise _missing() from error
    with _driver_environment():
        return await async_playwright().start()


class SyncDriver:
    """Playwright in one thread without asyncio. It runs as long as somebody uses it."""

    _of_thread = threading.local()

    def __init__(self, playwright: SyncPlaywright) -> None:
        self.playwright = playwright
        self._users = 0

    @classmethod
    def use(cls) -> SyncDriver:
        """The driver of this thread, started if it was not; ``leave`` it afterwards.

        Raises:
            MissingExtraError: Playwright is not installed.
            InvalidInputError: this thread runs an event loop.
        """
        driver: SyncDriver | None = getattr(cls._of_thread, "driver", None)
        if driver is None:
            driver = cls._of_thread.driver = cls(_start_sync())
        driver._users += 1
        return driver

    @property
    def broken(self) -> bool:
        """Whether an exception such as Ctrl-C's ended Playwright's loop.

        Each further call of Playwright's would wait for ever.
        """
        fiber = getattr(self.playwright, "_dispatcher_fiber", None)
        return bool(getattr(fiber, "dead", False))

    @property
    def is_shared(self) -> bool:
        """Whether more than one browser is driven by it."""
        return self._users > 1

    def give_up(self) -> None:
        """It has died: who comes next starts another."""
        if getattr(self._of_thread, "driver", None) is self:
            self._of_thread.driver = None

    def leave(self) -> None:
        """Stop it if nobody uses it any more."""
        self._users -= 1
        if self._users:
            return
        self.give_up()
        if not self.broken:
            with contextlib.suppress(Exception):
                self.playwright.stop()


def _start_sync() -> SyncPlaywright:
    with contextlib.suppress(RuntimeError):
        # Without a running loop this raises.
        if asyncio.get_running_loop().is_running():
            raise InvalidInputError(
                "SyncBrowserManager cannot be used where an event loop runs",
                hint="use BrowserManager there",
            )
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise _missing() from error
    with _driver_environment():
        return sync_playwright().start()


@contextlib.contextmanager
def _driver_environment() -> Iterator[None]:
    """Have Playwright's driver started with as little of the environment as a browser.

    Playwright copies all of it, and has no option for another one. A program's own use of
    Playwright gets everything again.
    """
    name = "get_driver_env"
    owners = [
        module
        for place, module in list(sys.modules.items())
        if place.startswith("playwright._impl") and callable(vars(module).get(name))
    ]
    with _patching:
        before = [(module, getattr(module, name)) for module in owners]

        def less(made: Callable[[], dict[str, str]]) -> Callable[[], dict[str, str]]:
            return lambda: references.browser_environment(made(), *_FOR_DRIVER)

        for module, made in before:
            setattr(module, name, less(made))
        try:
            yield
        finally:
            for module, made in before:
                setattr(module, name, made)


# Errors


def is_over(error: BaseException) -> bool:
    """Whether an error of Playwright says that the driver itself is gone."""
    return "connection closed" in str(error).lower()


def browser_error(error: BaseException, doing: str, **details: object) -> BrowserError:
    """An error of Playwright's in one line.

    Its first line only: below it are logs with the whole command line of the browser.

    Args:
        error: what was raised.
        doing: what failed, such as ``the browser of profile 'x' did not start``.
        **details: for the error.
    """
    text = str(error)
    reason = next((line.strip() for line in text.splitlines() if line.strip(" ╔═╗║")), "")
    reason = reason.rpartition("launch_persistent_context: ")[2] or type(error).__name__
    hint = "run it again with --debug before the command to see more"
    if "XServer" in text or "DISPLAY" in text or "ozone" in text:
        reason, hint = "there is no display for a window", "run it without --headed"
    elif "No usable sandbox" in text:
        reason = "this system lets no user have Chromium's sandbox"
        hint = "allow user namespaces; docs/browsers.md says what else can be done"
    elif "Timeout" in reason:
        hint = "give a longer --timeout; a machine under load takes longer"
    log.debug("%s: %s", doing, text)
    return BrowserError(f"{doing}: {reason[:300]}", hint=hint, **details)
