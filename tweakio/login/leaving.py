"""Logging out: at the service, as far as its page offers that, and here."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from tweakio.login.keeping import holding, note
from tweakio.login.page import INTERVAL, LOGGED_OUT, LoginPage, require, settled
from tweakio.login.ui import in_words

if TYPE_CHECKING:
    from collections.abc import Callable

    from tweakio.browsing import BrowserManager
    from tweakio.platforms.protocols import SessionHandler, Snapshot

__all__ = ["LogoutOutcome", "log_out"]

log = logging.getLogger(__name__)


class LogoutOutcome(NamedTuple):
    """A profile that is not logged in any more.

    Attributes:
        profile_id: which.
        at_service: whether the service knows that this login has ended.
        detail: why it may not know, in a few words; empty if it does.
    """

    profile_id: str
    at_service: bool
    detail: str


async def log_out(
    browser: BrowserManager,
    *,
    timeout: float = 60.0,
    interval: float = INTERVAL,
    shown: Callable[[Snapshot], None] | None = None,
) -> LogoutOutcome:
    """Log out at the service if its page offers that, then start the session anew, as one commit.

    What was session and browser data goes to the trash, so that ``undo`` brings it back (and a
    service that was told does not take it any more).

    Args:
        browser: of the profile, not open; with a manager that somebody else closes.
        timeout: seconds to wait for the page; after them the profile is reset all the same.
        interval: seconds between two looks.
        shown: called with what the page shows.

    Raises:
        BrowserError: the browser could not be started, or ended; nothing was reset.
        ProfileActiveError, LockTimeoutError, BrowserLockedError: somebody else uses the profile.
    """
    require(browser)
    manager = browser.manager
    context = await browser.open()
    profile_id = browser.profile.id
    with holding(browser):
        try:
            page = LoginPage(context, browser.handler, interval=interval)
            detail = await _leave(page, browser.handler, await settled(page, timeout, shown))
        finally:
            await browser.close()
        manager.reset_login(profile_id)
        note(manager, profile_id, "logged_out")
    log.info("profile %s is logged out", profile_id)
    return LogoutOutcome(profile_id, not detail, detail)


async def _leave(page: LoginPage, handler: SessionHandler, seen: Snapshot) -> str:
    """Log out on the page; why the service may not know of it, empty if it does."""
    if seen.state in LOGGED_OUT:
        return ""
    if seen.state != "logged_in":
        return in_words(seen)
    assert page.page is not None
    with page.watched("log out"):
        done = await handler.log_out(page.page)
    return "" if done else "its page offers no way"
