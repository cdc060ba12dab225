"""WhatsApp Web."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from tweakio.platforms.page import PageHandler

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["WhatsAppSessionHandler"]


class WhatsAppSessionHandler(PageHandler):
    """WhatsApp Web keeps keys that a browser does not export: the browser profile is the login."""

    login_url = "https://web.whatsapp.com/"
    session_of_record: Literal["browser_profile", "session.json"] = "browser_profile"
    expired_url = "post_logout=1"
    selectors: ClassVar[Mapping[str, str]] = {
        "logged_in": "#pane-side",
        "syncing": "[data-testid='wa-web-loading-screen'] progress, #app progress",
        "code": "[data-link-code]",
        "qr_stale": "[data-ref] button, button[data-ref]",
        "qr": "[data-ref]",
        "loading": "#initial_startup, #startup, [data-testid='loading-spinner']",
        "health": "[data-testid='alert-phone'], [data-testid='alert-computer'],"
        " [data-icon^='alert-phone'], [data-icon^='alert-computer']",
        "phone_link": "[data-testid='link-device-qrcode-alt-linking-hint']",
        "phone": "[data-testid='link-device-phone-number-input'],"
        " [data-testid='phone-number-input'], input[aria-label^='Type your phone number']",
        "phone_submit": "[data-testid='link-device-phone-number-entry-next-button'],"
        " [data-testid='link-device-phone-number-entry-screen']"
        " button[aria-disabled='false']:last-of-type",
        "phone_error": "#link-device-phone-number-entry-screen-error",
        "menu": "[data-testid='menu-bar-menu'], header [aria-label='Menu'],"
        " header button:has([data-icon^='more'])",
        "log_out": "[data-testid='mi-logout'], [role='menu'] [aria-label='Log out'],"
        " [role='application'] [aria-label='Log out']",
        "confirm_log_out": "[data-testid='popup-controls-ok'], [role='dialog'] button:last-of-type",
    }
    attributes: ClassVar[Mapping[str, str]] = {"qr": "data-ref", "code": "data-link-code"}

    def code_text(self, shown: str | None) -> str:
        """The page holds ``A,B,C,D,E,F,G,H``; the phone shows two groups of four."""
        code = (shown or "").replace(",", "").replace("-", "").strip()
        return f"{code[:4]}-{code[4:]}" if len(code) == 8 else code
