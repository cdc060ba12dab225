"""Logging in: from an open browser to a login that is kept and recorded."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from tweakio.browser.pausing import in_thread
from tweakio.errors import (
    BrowserError,
    InvalidInputError,
    LoginRefusedError,
    LoginTimeoutError,
    SessionError,
)
from tweakio.login.keeping import holding, last_known, note, unclean_exits
from tweakio.login.page import INTERVAL, LoginPage, require
from tweakio.login.session import save_session
from tweakio.login.ui import in_words
from tweakio.platforms.protocols import Snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from tweakio.browsing import BrowserManager
    from tweakio.login.ui import LoginUI
    from tweakio.platforms.protocols import SessionHandler

__all__ = ["LoginOutcome", "check_phone", "log_in"]

log = logging.getLogger(__name__)

TIMEOUT = 300.0

_PASSWORDS = 3
# A page takes a moment to judge a password; with the same complaint as before it may be either.
_ANSWER = 15.0
_SAME_ANSWER = 3.0
_CODE_AGAIN = 15.0
_REOPEN = 5.0


class LoginOutcome(NamedTuple):
    """A login that is kept.

    Attributes:
        profile_id: whose.
        already: whether it was logged in before, and nothing was asked of anybody.
        verified_at: when the page showed that it is logged in.
    """

    profile_id: str
    already: bool
    verified_at: datetime


def check_phone(phone: str) -> str:
    """The digits of a phone number with its country code.

    Raises:
        InvalidInputError: it is none.
    """
    digits = phone.translate({ord(character): None for character in "+-() ./\u00a0"})
    if not (digits.isascii() and digits.isdecimal() and 6 <= len(digits) <= 15):
        raise InvalidInputError(
            "--phone needs a phone number with its country code",
            hint="write it like +4915112345678",
        )
    if digits.startswith("0"):
        raise InvalidInputError(
            "the phone number has no country code", hint="write it like +4915112345678"
        )
    return digits


async def log_in(
    browser: BrowserManager,
    ui: LoginUI,
    *,
    phone: str | None = None,
    timeout: float = TIMEOUT,
    interval: float = INTERVAL,
) -> LoginOutcome:
    """Log a profile in, keep the login, and record it as one commit.

    The session is in session.json and the browser is closed, its cookies on the disk, before
    the commit is made. However it ends, the browser is closed in order; cancelling it does so.

    Args:
        browser: of the profile, not open; with a manager that somebody else closes.
        ui: what a person sees and is asked with.
        phone: ask for a pairing code for this number instead of a QR code.
        timeout: seconds until the service has to have accepted the login; synchronising may
            take as long again.
        interval: seconds between two looks at the page.

    Raises:
        LoginTimeoutError: it was not completed in time.
        LoginRefusedError: the service did not take the password, or none was given.
        BrowserError: the browser could not be started, or ended.
        SessionError: the session could not be read.
        LockTimeoutError, BrowserLockedError: somebody else uses the profile.
    """
    digits = None if phone is None else check_phone(phone)
    manager = browser.manager
    require(browser)
    browser.start_anew()
    context = await browser.open()
    profile_id, handler = browser.profile.id, browser.handler
    with holding(browser):
        before = unclean_exits(manager, profile_id)
        try:
            page = LoginPage(context, handler, interval=interval)
            already = await _Attempt(page, handler, ui, digits, timeout).run()
            session = await export(handler, page)
            # A browser that ended by itself now may not have written what it knows.
            page.refuse_gone()
            if session is not None:
                save_session(manager.layout.profile(profile_id), session)
        finally:
            await browser.close()
        if unclean_exits(manager, profile_id) != before:
            raise BrowserError(
                "the browser did not end in order, so it may have lost the login",
                hint="run the command again to see",
            )
        known = last_known(manager, profile_id)
        if not (already and known is not None and known.state == "logged_in"):
            # The commit first: what is written down without one would never come into the
            # history, what is committed and not written down is found by the next check.
            # In a thread: where there are leases, another machine is asked.
            await in_thread(partial(manager.record_login, profile_id))
        elif session is not None:
            await in_thread(partial(manager.vault.seal_sessions, [profile_id]))
        login = note(manager, profile_id, "logged_in")
    log.info("profile %s is logged in", profile_id)
    return LoginOutcome(profile_id, already, login.verified_at)


async def export(handler: SessionHandler, page: LoginPage) -> Mapping[str, Any] | None:
    """The session of a page that is logged in; None if it cannot be had and is not needed.

    Raises:
        SessionError: it cannot be read, and the login is kept nowhere else.
    """
    try:
        with page.watched("export the session"):
            return await handler.export_session(page.context)
    except SessionError as error:
        if handler.session_of_record == "session.json":
            raise
        log.warning("session.json stays as it was: %s", error)
        return None


class _Attempt:
    """One attempt to log in: looks at the page, and does what each state asks for.

    Args:
        page: of the open browser.
        handler: of the platform.
        ui: what a person sees.
        phone: digits for a pairing code; None for a QR code.
        timeout: seconds; see ``log_in``.
    """

    def __init__(
        self,
        page: LoginPage,
        handler: SessionHandler,
        ui: LoginUI,
        phone: str | None,
        timeout: float,
    ) -> None:
        self._page = page
        self._handler = handler
        self._ui = ui
        self._phone = phone
        self._timeout = timeout
        self._time = asyncio.get_running_loop().time
        self._deadline = self._time() + timeout
        self._accepted = False
        self._asked = False
        self._passwords = 0
        self._next_code = 0.0
        self._next_visit = 0.0

    @property
    def _remaining(self) -> float:
        return max(0.0, self._deadline - self._time())

    async def run(self) -> bool:
        """Go on until the page shows that it is logged in.

        Returns:
            Whether it did so without anybody's help.
        """
        while True:
            seen = await self._look()
            if seen.state == "logged_in":
                return not self._asked
            if not self._remaining:
                raise _too_late(self._timeout, seen)
            await self._act(seen)
            await self._page.pause()

    async def _look(self) -> Snapshot:
        seen = await self._page.look()
        if seen.state == "syncing" and not self._accepted:
            self._accepted = True
            self._deadline = self._time() + self._timeout
        if self._phone is not None and seen.state == "needs_qr":
            self._ui.show(Snapshot("loading"), self._remaining)  # it makes way for the code
        else:
            self._ui.show(seen, self._remaining)
        return seen

    async def _act(self, seen: Snapshot) -> None:
        page = self._page.page
        assert page is not None
        if seen.state in ("needs_qr", "qr_stale", "needs_code", "confirm_on_phone"):
            self._asked = True
        if seen.state in ("needs_qr", "qr_stale") and self._phone is not None:
            if self._time() >= self._next_code:
                with self._page.watched("ask for a pairing code"):
                    await self._handler.request_code(page, self._phone)
                self._next_code = self._time() + _CODE_AGAIN
        elif seen.state == "qr_stale":
            with self._page.watched("ask for a new QR code"):
                await self._handler.refresh_qr(page)
        elif seen.state == "needs_password":
            self._asked = True
            await self._give_password(seen.detail)
        elif seen.state == "expired" and self._time() >= self._next_visit:
            self._next_visit = self._time() + _REOPEN
            await self._page.visit()

    async def _give_password(self, complaint: str) -> None:
        refused = f": {complaint}" if complaint else ""
        if self._passwords == _PASSWORDS:
            raise LoginRefusedError(
                f"the service refused {_PASSWORDS} passwords{refused}",
                hint="wait a while before the next try: services lock an account after many",
            )
        try:
            password = await asyncio.wait_for(
                self._ui.ask_password(complaint), max(self._remaining, 0.001)
            )
        except EOFError:
            raise LoginRefusedError(
                f"the service refused the password{refused}"
                if self._passwords
                else "the service asks for a password, and none was given",
                hint="type it at a terminal, or give it as one line on standard input",
            ) from None
        except (asyncio.TimeoutError, TimeoutError):
            raise _too_late(self._timeout, Snapshot("needs_password")) from None
        page = self._page.page
        assert page is not None
        with self._page.watched("type the password"):
            await self._handler.submit_password(page, password)
        self._passwords += 1
        await self._until_judged(complaint)

    async def _until_judged(self, before: str) -> None:
        """Wait until the page has something to say about a password."""
        begin = self._time()
        limit = _SAME_ANSWER if before else _ANSWER
        while self._time() < begin + limit:
            seen = await self._page.look()
            if seen.state != "needs_password" or (seen.detail and seen.detail != before):
                return
            if not seen.detail:
                limit, before = _ANSWER, ""  # the old complaint is gone; the next is about this
            await self._page.pause()


def _too_late(timeout: float, seen: Snapshot) -> LoginTimeoutError:
    hint = "run it again; --timeout gives it more seconds"
    if seen.state == "offline":
        hint = "look after the network, and the profile's proxy if it has one"
    elif seen.state in ("loading", "unknown"):
        hint = "--headed shows the page; docs/platforms.md says how to follow one that changed"
    return LoginTimeoutError(
        f"not logged in after {timeout:g} seconds: {in_words(seen)}",
        hint=hint,
        state=seen.state,
    )
