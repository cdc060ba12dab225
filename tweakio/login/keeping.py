"""What is written down of a login, and the lock while it is."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Literal

from tweakio.browser import record
from tweakio.browser.record import LoginStatus
from tweakio.errors import storage_error
from tweakio.models import utc_now

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from tweakio.browsing import BrowserManager
    from tweakio.manager import ProfileManager

__all__ = ["holding", "last_known", "note", "unclean_exits"]

State = Literal["logged_in", "logged_out", "expired"]


def holding(browser: BrowserManager) -> AbstractContextManager[object]:
    """Hold the profile of an open browser, also when that has been closed."""
    locks, profile_id = browser.manager.locks, browser.profile.id
    if profile_id in locks.held:
        return nullcontext()  # whoever holds it goes on with that
    # The browser has the lock, so there is nothing to wait for.
    return locks.acquire(profile_id, 0)


def last_known(manager: ProfileManager, profile_id: str) -> LoginStatus | None:
    """What was last known of a profile's login; None if nothing ever was."""
    return record.read(manager.layout.profile(profile_id)).login


def unclean_exits(manager: ProfileManager, profile_id: str) -> int:
    """How often a profile's browser did not end in order."""
    return record.read(manager.layout.profile(profile_id)).unclean_exits


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
