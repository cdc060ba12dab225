"""A service's login page: opened, looked at again and again, and known when it is gone."""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tweakio.errors import BrowserError, InvalidInputError, MissingExtraError, SessionError, run
from tweakio.platforms.protocols import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.async_api import BrowserContext, Page

    from tweakio.browsing import BrowserManager
    from tweakio.platforms.protocols import LoginState, SessionHandler

__all__ = ["INTERVAL", "LOGGED_OUT", "LoginPage", "require", "settled"]

log = logging.getLogger(__name__)

INTERVAL = 0.5
"""Seconds between two looks."""

LOGGED_OUT: frozenset[LoginState] = frozenset(
    {"needs_qr", "qr_stale", "needs_code", "needs_password", "confirm_on_phone", "expired"}
)
"""States in which the account is not logged in."""

_LOAD_TIME = 30.0
_LOOK_TIME = 15.0  # a page that hangs, or a browser that was stopped, answers never
_TRY_AGAIN = 5.0
_OFFLINE = 6.0  # after a second try
_NEEDED = ("configure", "snapshot", "refresh_qr", "request_code", "submit_password",
           "export_session", "import_session", "log_out", "health")  # fmt: skip


def require(browser: BrowserManager) -> SessionHandler:
    """Check that a login can be tried at all, before anything is started.

    Returns:
        The handler of the profile's platform.

    Raises:
        MissingExtraError: Playwright is not installed.
        InvalidInputError: the platform can keep profiles, but not log in; or the profile does
            not say where.
        UnknownPlatformError, SecretNotFoundError: see ``BrowserManager.handler``.
    """
    try:
        import playwright.async_api  # noqa: F401
    except ImportError:
        raise MissingExtraError(
            "logging in needs a browser, which comes with tweakio[browser]",
            hint="run pip install 'tweakio[browser]'",
        ) from None
    handler = browser.handler
    profile = browser.profile
    missing = [name for name in _NEEDED if not callable(getattr(handler, name, None))]
    if missing:
        raise InvalidInputError(
            f"the platform {profile.platform} cannot log in: its handler has no {missing[0]}()",
            hint="use a newer version of the package that provides it",
        )
    if not handler.login_url:
        raise InvalidInputError(
            f"profile '{profile.id}' does not say where to log in",
            hint=run("tweakio profile set", profile.id, then="--config url=https://..."),
        )
    return handler


class LoginPage:
    """The page of one open browser.

    Args:
        context: the open browser.
        handler: configured for the profile.
        interval: seconds between two looks.
    """

    def __init__(
        self, context: BrowserContext, handler: SessionHandler, *, interval: float = INTERVAL
    ) -> None:
        self.context = context
        self.page: Page | None = None
        self._handler = handler
        self._interval = interval
        self._gone = asyncio.Event()
        self._reached = False
        self._visited = 0.0
        self._last: LoginState | None = None
        context.on("close", lambda _: self._gone.set())

    async def visit(self) -> None:
        """Open the login page, or open it again; what comes of it shows the next look.

        Raises:
            BrowserError: the browser ended.
        """
        from playwright import async_api

        loop = asyncio.get_running_loop()
        with self.watched():
            if self.page is None:
                self.page = self.context.pages[0] if self.context.pages else None
                self.page = self.page or await self.context.new_page()
                self.page.on("close", lambda _: self._gone.set())
                self.page.on("crash", lambda _: self._gone.set())
            try:
                await self.page.goto(
                    self._handler.login_url,
                    wait_until="domcontentloaded",
                    timeout=_LOAD_TIME * 1000,
                )
                self._reached = True
            except async_api.TimeoutError:
                self._reached = True  # slow; what there is of it is looked at
            except async_api.Error as error:
                self.refuse_gone()
                # Its message has the address, which is no secret, and nothing else of ours.
                log.debug("the login page cannot be opened: %s", str(error).partition("\n")[0])
                self._reached = False
        self._visited = loop.time()

    async def look(self) -> Snapshot:
        """What the page shows now; ``offline`` if it could not be opened.

        Raises:
            BrowserError: the browser ended.
        """
        from playwright.async_api import Error

        loop = asyncio.get_running_loop()
        if self.page is None or (not self._reached and loop.time() - self._visited > _TRY_AGAIN):
            await self.visit()
        if not self._reached:
            found = Snapshot("offline")
        else:
            assert self.page is not None
            with self.watched():
                try:
                    found = await asyncio.wait_for(self._handler.snapshot(self.page), _LOOK_TIME)
                except (asyncio.TimeoutError, TimeoutError):
                    found = Snapshot("loading", detail="it does not answer")
                except Error:
                    self.refuse_gone()
                    found = Snapshot("loading")  # it was on its way to another page
        if found.state != self._last:
            log.debug("the login page shows: %s", found.state)
            self._last = found.state
        return found

    async def pause(self) -> None:
        """Wait until it is time for the next look.

        Raises:
            BrowserError: the browser ended meanwhile.
        """
        try:
            await asyncio.wait_for(self._gone.wait(), self._interval)
        except (asyncio.TimeoutError, TimeoutError):  # one and the same from Python 3.11 on
            return
        self.refuse_gone()

    def refuse_gone(self) -> None:
        """Fail if the browser or the page has ended.

        Raises:
            BrowserError: so it is.
        """
        if self._gone.is_set() or self.page is None or self.page.is_closed():
            raise BrowserError(
                "the browser ended, or its window was closed, before the work was done",
                hint="run the command again",
            ) from None

    @contextmanager
    def watched(self, doing: str = "look at the login page") -> Iterator[None]:
        """Turn what the browser's driver raises into errors of ours.

        Its messages and its log can hold what was typed, so neither is passed on.

        Args:
            doing: the action in the infinitive.

        Raises:
            BrowserError: the browser ended.
            SessionError: it did not do what it was asked to.
        """
        from playwright.async_api import Error

        try:
            yield
        except SessionError:
            self.refuse_gone()
            raise
        except Error:
            self.refuse_gone()
            raise SessionError(
                f"the browser could not {doing}", hint="run it with --headed to see the page"
            ) from None


async def settled(
    page: LoginPage, timeout: float, shown: Callable[[Snapshot], None] | None = None
) -> Snapshot:
    """Look until it is clear whether the account is logged in.

    Args:
        page: not opened yet, or just opened.
        timeout: seconds after which it is as the last look says.
        shown: called with each look.

    Returns:
        A snapshot with ``logged_in``, with one of ``LOGGED_OUT`` if two looks in a row agree
        (a page may show its login form before it has read what it keeps), with ``offline`` if
        it stays so for some seconds, or the last one.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    online = loop.time()
    before = False
    while True:
        seen = await page.look()
        if shown is not None:
            shown(seen)
        now = loop.time()
        if seen.state != "offline":
            online = now
        out = seen.state in LOGGED_OUT
        clear = seen.state == "logged_in" or (out and before) or now - online > _OFFLINE
        if clear or now >= deadline:
            return seen
        before = out
        await page.pause()
