"""What is kept of a login besides the session: the record beside the browser data, a commit."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

from tweakio.browser import record
from tweakio.browser.record import LoginStatus
from tweakio.errors import storage_error
from tweakio.models import utc_now

if TYPE_CHECKING:
    from tweakio.browsing import BrowserManager
    from tweakio.manager import ProfileManager
    from tweakio.models import Profile
    from tweakio.store.locks import HeldLock

__all__ = ["holding", "keep_login", "last_known", "note"]

log = logging.getLogger(__name__)

State = Literal["logged_in", "logged_out", "expired"]


def holding(browser: BrowserManager) -> HeldLock:
    """Hold the profile of an open browser, also when that has been closed."""
    # The browser has the lock, so there is nothing to wait for.
    return browser.manager.locks.acquire(browser.profile.id, 0)


def last_known(manager: ProfileManager, profile_id: str) -> LoginStatus | None:
    """What was last known of a profile's login; None if nothing ever was."""
    return record.read(manager.layout.profile(profile_id)).login


def note(manager: ProfileManager, profile_id: str, state: State) -> LoginStatus:
    """Write down what was just seen of a login; the profile is held, its browser closed.

    Raises:
        StorageError: it cannot be written.
    """
    paths = manager.layout.profile(profile_id)
    found = record.read(paths)
    now = utc_now()
    since = found.login.since if found.login is not None and found.login.state == state else now
    login = LoginStatus(state, since, now)
    try:
        record.write(paths, found._replace(login=login))
    except OSError as error:
        raise storage_error(error, f"note the login of '{profile_id}'") from error
    return login


def keep_login(manager: ProfileManager, profile_id: str) -> tuple[Profile, LoginStatus]:
    """Commit that a profile is logged in, and write it down; it is held, its browser closed."""
    # The commit first: what is written down without one would never come into the history,
    # what is committed and not written down is found by the next check.
    profile = manager.record_login(profile_id)
    login = note(manager, profile_id, "logged_in")
    log.info("profile %s is logged in", profile_id)
    return profile, login
