"""What the commands about logins share: the profile, its browser, and the words at the end."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tweakio.cli import interruptible
from tweakio.cli.output import around_lines, emit, notice
from tweakio.cli.passphrase import unlock_for
from tweakio.errors import BrowserError, InvalidInputError, MissingExtraError, command
from tweakio.metadata import corrupted_error

if TYPE_CHECKING:
    from tweakio.browsing import BrowserManager
    from tweakio.cli.login_screen import LoginScreen, PlainLogin
    from tweakio.login.qr import QrFile
    from tweakio.manager import ProfileManager
    from tweakio.models import Profile
    from tweakio.platforms.protocols import Snapshot

__all__ = ["account", "browser_of", "hold_open", "log_in", "log_out", "require_display"]

DEFAULT = "default"


def account(
    manager: ProfileManager, profile_id: str, platform: str | None, *, make: bool = True
) -> Profile:
    """The profile that a command logs in or out.

    Args:
        manager: of the home.
        profile_id: which.
        platform: that it has to be of; None for any.
        make: whether ``default`` is made, or taken over, if it is missing.

    Raises:
        ProfileNotFoundError: there is none.
        InvalidInputError: it is of another platform.
        ProfileCorruptedError: it has to be recovered first.
    """
    if make and platform is not None and profile_id == DEFAULT:
        profile = manager.ensure_default(platform)
    else:
        profile = manager.get_profile(profile_id)
    if profile.status == "corrupted":
        raise corrupted_error(profile.id, profile.problem)
    if platform not in (None, profile.platform):
        raise InvalidInputError(
            f"the profile '{profile.id}' is of the platform {profile.platform}, not {platform}",
            hint="make one for it: " + command("tweakio profile create ID --platform", platform),
        )
    return profile


def require_display(instead: str = "") -> None:
    """Fail early, and clearly, where no window can be shown.

    Args:
        instead: what else can be done, such as "..., or ".

    Raises:
        BrowserError: so it is.
    """
    if sys.platform in ("win32", "darwin"):
        return
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise BrowserError(
            "there is no display to show a window on",
            hint=f"{instead}use 'ssh -X' or 'xvfb-run -a tweakio ...'",
        )


def browser_of(
    manager: ProfileManager,
    profile: Profile,
    *,
    headed: bool = False,
    executable: str | None = None,
    force: bool = False,
) -> BrowserManager:
    """The browser of a profile, not open.

    Args:
        manager: of the home.
        profile: which.
        headed: with a window.
        executable: of the browser; found if it is None.
        force: take another machine's lock on the browser data for dead.
    """
    from tweakio.browsing import BrowserManager

    return BrowserManager(
        profile, manager=manager, headless=not headed, executable=executable, force=force
    )


def log_in(
    manager: ProfileManager,
    profile: Profile,
    *,
    phone: str | None,
    headed: bool,
    executable: str | None,
    qr_file: str | None,
    timeout: float,
    force: bool = False,
) -> None:
    """Log a profile in; what a person needs is shown while it goes on."""
    from tweakio.login.flow import check_phone
    from tweakio.login.flow import log_in as flow
    from tweakio.login.qr import QrFile

    if phone is not None:
        check_phone(phone)
    if headed:
        require_display("log in without --headed, or ")
    file = QrFile(None if qr_file is None else Path(qr_file))
    try:
        unlock_for(manager, [profile])
        browser = browser_of(manager, profile, headed=headed, executable=executable, force=force)
        screen = _screen(file, profile.platform)
        try:
            with around_lines(screen.around):
                outcome = interruptible.run(
                    lambda: flow(browser, screen, phone=phone, timeout=timeout)
                )
        finally:
            screen.close()
    except MissingExtraError:
        notice(f"profile '{profile.id}' is ready: {profile.path}")
        raise
    finally:
        file.remove()
    if outcome.already:
        notice(f"profile '{profile.id}' was logged in before")
    emit(f"logged in {profile.id}\n")


def _screen(file: QrFile, platform: str) -> LoginScreen | PlainLogin:
    from tweakio.cli.login_screen import LoginScreen, PlainLogin, terminal

    stream = terminal()
    return PlainLogin(file, platform) if stream is None else LoginScreen(stream, file, platform)


def log_out(
    manager: ProfileManager,
    profile: Profile,
    *,
    executable: str | None,
    timeout: float,
    force: bool = False,
) -> None:
    """Log a profile out at its service and here."""
    from tweakio.login.leaving import log_out as flow
    from tweakio.login.ui import IN_WORDS

    said = ""

    def shown(snapshot: Snapshot) -> None:
        nonlocal said
        if snapshot.state != said:
            said = snapshot.state
            notice(IN_WORDS[snapshot.state])

    unlock_for(manager, [profile])
    browser = browser_of(manager, profile, executable=executable, force=force)
    outcome = interruptible.run(lambda: flow(browser, timeout=timeout, shown=shown))
    if not outcome.at_service:
        notice(f"the service was not told: {outcome.detail}; end this login on the phone")
    emit(f"logged out {profile.id}\n")
    notice("the old session is in the trash; 'tweakio profile undo' brings it back")


def hold_open(
    manager: ProfileManager,
    profile: Profile,
    url: str | None,
    *,
    executable: str | None,
    force: bool = False,
) -> None:
    """Open a profile's browser in a window, until that is closed or Ctrl-C comes."""
    from tweakio.login.opening import hold_open as flow

    require_display()
    unlock_for(manager, [profile])
    browser = browser_of(manager, profile, headed=True, executable=executable, force=force)

    def opened() -> None:
        notice(f"profile '{profile.id}' is open; close its window or press Ctrl-C to end")

    try:
        interruptible.run(lambda: flow(browser, url, opened=opened))
    except KeyboardInterrupt:
        notice("the window was closed")  # one of the two ways to end it
    emit(f"closed {profile.id}\n")
