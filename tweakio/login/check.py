"""Whether profiles are still logged in: several at once, and nobody waited for."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple

from tweakio.browser.pausing import in_thread
from tweakio.browsing import BrowserManager
from tweakio.errors import (
    BrowserLockedError,
    BrowserNotFoundError,
    LockTimeoutError,
    MissingExtraError,
    SessionError,
    StorageError,
    TweakioError,
    UntrustedSettingsError,
)
from tweakio.login.flow import export
from tweakio.login.keeping import holding, last_known, note
from tweakio.login.page import INTERVAL, LOGGED_OUT, LoginPage, require, settled
from tweakio.login.session import save_session
from tweakio.login.ui import in_words
from tweakio.store.lockfile import describe_owner
from tweakio.store.processes import is_alive

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from datetime import datetime

    from tweakio.browser.record import LoginStatus
    from tweakio.manager import ProfileManager
    from tweakio.models import Profile
    from tweakio.platforms.protocols import SessionHandler, Snapshot

__all__ = ["JOBS", "CheckState", "Checked", "check_profiles"]

log = logging.getLogger(__name__)

JOBS = 4
"""Browsers at a time; each takes some 200 MB."""

CheckState = Literal[
    "logged_in",
    "logged_out",
    "expired",
    "offline",
    "unknown",
    "in_use",
    "corrupted",
    "untrusted",
    "failed",
]
"""``offline`` and ``unknown``: the page did not tell. ``in_use``: somebody else has it open.
``untrusted``: its settings came from elsewhere and were not confirmed on this machine.
``failed``: it could not be looked at; the detail says why."""


class Checked(NamedTuple):
    """What was found about one profile.

    Attributes:
        profile_id: which.
        platform: empty if the profile is corrupted.
        state: see ``CheckState``.
        detail: more about it in one line; may be empty.
        since: since when the login is in this state; None if that is not known.
        verified_at: when it was last clear whether it is logged in; None if never.
    """

    profile_id: str
    platform: str
    state: CheckState
    detail: str = ""
    since: datetime | None = None
    verified_at: datetime | None = None


async def check_profiles(
    manager: ProfileManager,
    profiles: Sequence[Profile],
    *,
    open_with: Callable[[Profile], BrowserManager] | None = None,
    jobs: int = JOBS,
    timeout: float = 30.0,
    interval: float = INTERVAL,
    progress: Callable[[int], None] | None = None,
) -> list[Checked]:
    """Look at each profile's page in a browser of its own, and record which logins have ended.

    Args:
        manager: of the profiles' home.
        profiles: as they were read.
        open_with: makes the browser of a profile.
        jobs: so many browsers at a time.
        timeout: seconds for each page to become clear.
        interval: seconds between two looks.
        progress: called with the number of profiles done so far.

    Returns:
        What was found, in the order of ``profiles``.

    Raises:
        MissingExtraError, BrowserNotFoundError: there is no browser at all.
    """
    work = _Check(manager, open_with, timeout, interval)
    places = asyncio.Semaphore(max(1, jobs))
    done = 0

    async def one(profile: Profile) -> Checked:
        nonlocal done
        async with places:
            found = await work.check(profile)
        done += 1
        if progress is not None:
            progress(done)
        return found

    try:
        return await _together([one(profile) for profile in profiles])
    finally:
        # What was found before a Ctrl-C is true as well.
        if work.ended:
            await in_thread(partial(manager.record_expiry, sorted(work.ended)))
        if work.renewed:
            await in_thread(partial(manager.vault.seal_sessions, sorted(work.renewed)))


async def _together(work: Sequence[Coroutine[None, None, Checked]]) -> list[Checked]:
    """Run all of them; if one fails, or the whole is cancelled, wait until each has closed."""
    tasks = [asyncio.ensure_future(item) for item in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Check:
    """Looks at one profile after the other, several at a time.

    Attributes:
        ended: the profiles whose logins were found to have ended.
        renewed: those whose session was saved again.
    """

    def __init__(
        self,
        manager: ProfileManager,
        open_with: Callable[[Profile], BrowserManager] | None,
        timeout: float,
        interval: float,
    ) -> None:
        self.ended: set[str] = set()
        self.renewed: set[str] = set()
        self._manager = manager
        self._open_with = open_with or (lambda profile: BrowserManager(profile, manager=manager))
        self._timeout = timeout
        self._interval = interval

    async def check(self, profile: Profile) -> Checked:
        if profile.status == "corrupted":
            return Checked(profile.id, "", "corrupted", profile.problem or "")
        before = last_known(self._manager, profile.id)
        if (user := self._user(profile.id)) is not None:
            return _as_before(profile, before, "in_use", user)
        try:
            browser = self._open_with(profile)
            require(browser)
            return await self._look(browser, profile, before)
        except (LockTimeoutError, BrowserLockedError) as error:
            return _as_before(profile, before, "in_use", error.message)
        except (MissingExtraError, BrowserNotFoundError):
            raise
        except UntrustedSettingsError as error:
            return _as_before(profile, before, "untrusted", error.message)
        except TweakioError as error:
            return _as_before(profile, before, "failed", error.message)

    def _user(self, profile_id: str) -> str | None:
        """Who uses a profile, so that nobody waits for it; None if nobody alive does."""
        locks = self._manager.locks
        if profile_id in locks.held and not locks.has_browser(profile_id):
            return None
        owner = locks.owner(profile_id)
        if owner is None or is_alive(owner) is False:  # what is left of a dead one is ended
            return None
        return f"in use by {describe_owner(owner)}"

    async def _look(
        self, browser: BrowserManager, profile: Profile, before: LoginStatus | None
    ) -> Checked:
        trouble = ""
        context = await browser.open()
        handler = browser.handler
        with holding(browser):
            try:
                page = LoginPage(context, handler, interval=self._interval)
                seen = await settled(page, self._timeout)
                if seen.state == "logged_in":
                    assert page.page is not None
                    with page.watched():
                        trouble = await handler.health(page.page) or ""
                    if handler.session_of_record == "session.json":
                        await self._renew(handler, page, profile.id)
            finally:
                await browser.close()
            return self._judge(profile, before, seen, trouble)

    async def _renew(self, handler: SessionHandler, page: LoginPage, profile_id: str) -> None:
        """Keep what services renew in a session; the browser has it in any case."""
        try:
            session = await export(handler, page)
            if session is not None:
                save_session(self._manager.layout.profile(profile_id), session)
                self.renewed.add(profile_id)
        except (SessionError, StorageError) as error:
            log.warning("session.json of profile %s stays as it was: %s", profile_id, error)

    def _judge(
        self, profile: Profile, before: LoginStatus | None, seen: Snapshot, trouble: str
    ) -> Checked:
        """What a look means, written down."""
        known = before.state if before is not None else None
        if seen.state in ("logged_in", "syncing"):
            login = note(self._manager, profile.id, "logged_in")
            detail = trouble if seen.state == "logged_in" else in_words(seen)
        elif seen.state in LOGGED_OUT:
            lost = seen.state == "expired" or known in ("logged_in", "expired")
            login = note(self._manager, profile.id, "expired" if lost else "logged_out")
            detail = ""
            if lost and known != "expired":
                self.ended.add(profile.id)
        else:
            state: CheckState = "offline" if seen.state == "offline" else "unknown"
            return _as_before(profile, before, state, in_words(seen))
        return Checked(
            profile.id, profile.platform, login.state, detail, login.since, login.verified_at
        )


def _as_before(
    profile: Profile, before: LoginStatus | None, state: CheckState, detail: str
) -> Checked:
    """Nothing new is known."""
    verified_at = before.verified_at if before is not None else None
    return Checked(profile.id, profile.platform, state, detail, None, verified_at)
