"""What a platform provides, and the records that it speaks in.

Nothing here imports a browser: keeping profiles needs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from playwright.async_api import BrowserContext, Page

__all__ = [
    "BrowserVersion",
    "FingerprintGenerator",
    "LoginState",
    "Presentation",
    "SessionHandler",
    "Snapshot",
]

LoginState = Literal[
    "loading",
    "needs_qr",
    "qr_stale",
    "needs_code",
    "needs_password",
    "confirm_on_phone",
    "syncing",
    "logged_in",
    "expired",
    "offline",
    "unknown",
]
"""What a login page shows: ``loading`` (nothing to judge by yet), ``needs_qr`` (a QR code to
scan), ``qr_stale`` (one that has to be renewed), ``needs_code`` (a pairing code to type on the
phone), ``needs_password`` (a second factor to type here), ``confirm_on_phone``, ``syncing``
(accepted, and still loading messages), ``logged_in``, ``expired`` (logged out by the service or
from another device; opening ``login_url`` again begins a new login), ``offline`` (the service
cannot be reached), ``unknown``. A service that just shows its login again when it has ended one
says ``needs_qr``, not ``expired``."""


class Snapshot(NamedTuple):
    """What a login page shows at one moment.

    ``repr`` leaves out what would log somebody in.

    Attributes:
        state: see ``LoginState``.
        qr: the text to put into a QR code, verbatim; with ``needs_qr`` always, else never.
        code: the pairing code as the page shows it; with ``needs_code`` only. None then if it is
            the page into which a code has to be typed, which needs a browser with a window;
            ``detail`` says where the code was sent.
        detail: one line for a person, such as the progress of syncing or the page's complaint
            about a password; empty if there is none.
    """

    state: LoginState
    qr: str | None = None
    code: str | None = None
    detail: str = ""

    def __repr__(self) -> str:
        """Without the QR code and the pairing code: both are secrets while they are valid."""
        return f"Snapshot(state={self.state!r}, detail={self.detail!r})"


@runtime_checkable
class SessionHandler(Protocol):
    """How a platform logs in and keeps a login.

    The methods with a page are coroutines, and await nothing but what the page and the context
    give, so that ``tweakio.platforms.sync.synchronous`` can run them on Playwright's
    synchronous pages too. They make no pauses longer than a second: whoever calls them does.

    Attributes:
        login_url: the page on which a person logs in; empty if it depends on the profile, and
            the profile has no setting ``url``.
        session_of_record: what holds the login. ``browser_profile`` where the service keeps
            keys that a browser does not export, ``session.json`` where the cookies and the
            local storage are enough.
    """

    login_url: str
    session_of_record: Literal["browser_profile", "session.json"]

    def empty_session(self) -> Mapping[str, Any]:
        """The content of a new profile's session.json, as JSON data."""
        ...

    def configure(self, config: Mapping[str, Any]) -> None:
        """Take over a profile's ``platform_config``, before any method with a page.

        Args:
            config: with references to secrets already resolved. ``url`` is the service's
                address instead of the usual one; ``selector_<name>`` one of its selectors.

        Raises:
            InvalidInputError: a setting cannot be used.
        """
        ...

    async def snapshot(self, page: Page) -> Snapshot:
        """What the page shows now. It changes nothing and does not wait."""
        ...

    async def refresh_qr(self, page: Page) -> None:
        """Ask for a new QR code when the present one is stale."""
        ...

    async def request_code(self, page: Page, phone: str) -> None:
        """Ask for a pairing code instead of a QR code.

        Args:
            page: where the QR code is shown.
            phone: the number with its country code, digits only.

        Raises:
            InvalidInputError: the service has no pairing codes.
        """
        ...

    async def submit_password(self, page: Page, password: str) -> None:
        """Type the password that the page asks for, send it, and wait for what the page says.

        A wrong one is no error here: ``snapshot`` says ``needs_password`` again, with ``detail``.
        """
        ...

    async def export_session(self, context: BrowserContext) -> Mapping[str, Any]:
        """What goes into session.json, as JSON data, from a browser that is logged in.

        Raises:
            SessionError: it cannot be read.
        """
        ...

    async def import_session(self, context: BrowserContext, session: Mapping[str, Any]) -> None:
        """Put an exported session into a browser, before it has opened the service's page.

        Raises:
            SessionError: it is not of this platform, or cannot be put there.
        """
        ...

    async def log_out(self, page: Page) -> bool:
        """Log out at the service, as its own page does.

        Returns:
            Whether the page says that it is done; False if it offers no way.
        """
        ...

    async def health(self, page: Page) -> str | None:
        """What is wrong with a logged-in page, in one line, such as a phone that is offline.

        Returns:
            None if nothing is.
        """
        ...


class BrowserVersion(NamedTuple):
    """A browser's kind and version.

    Attributes:
        engine: ``chromium`` or ``firefox``.
        version: as it names itself, such as ``156.0.8078.79``.
        product: what its user agent names besides, such as Edge's ``Edg``; empty if nothing.
    """

    engine: str
    version: str
    product: str = ""

    @property
    def major(self) -> int:
        """The first number of the version; 0 if there is none."""
        digits = self.version.partition(".")[0]
        return int(digits) if digits.isdecimal() else 0


class Presentation(NamedTuple):
    """How a browser presents itself; only what launch options can make true everywhere.

    Attributes:
        user_agent: with the real browser's major version.
        languages: most wanted first, such as ``("de-DE", "de", "en")``; the first is the locale.
        timezone: an IANA name such as ``Europe/Berlin``; None for the machine's own.
        window: width and height in CSS pixels.
        color_scheme: ``light`` or ``dark``.
    """

    user_agent: str
    languages: tuple[str, ...]
    timezone: str | None
    window: tuple[int, int]
    color_scheme: Literal["light", "dark"]


@runtime_checkable
class FingerprintGenerator(Protocol):
    """How a platform's browsers present themselves."""

    def generate(self, profile_id: str) -> Mapping[str, Any]:
        """The content of a new profile's fingerprint.json, as JSON data.

        It is committed: no secret and no path belongs in it.
        """
        ...

    def present(
        self,
        fingerprint: Mapping[str, Any],
        settings: Mapping[str, Any],
        browser: BrowserVersion,
    ) -> Presentation:
        """What a profile's browser is launched with, each time.

        Args:
            fingerprint: the content of fingerprint.json.
            settings: the profile's ``browser`` settings: ``locale``, ``timezone``, ``window``
                (``[width, height]``), ``color_scheme``; each may be absent.
            browser: what will be launched.
        """
        ...
