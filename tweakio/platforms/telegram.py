"""Telegram Web, version A."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from tweakio.platforms.page import PageHandler

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["TelegramSessionHandler"]


class TelegramSessionHandler(PageHandler):
    """Telegram Web keeps its keys in the local storage.

    Its other login, by phone number, asks for a code that is typed into the page itself; that
    is for a browser with a window, and ``snapshot`` says so.
    """

    login_url = "https://web.telegram.org/a/"
    session_of_record: Literal["browser_profile", "session.json"] = "session.json"
    selectors: ClassVar[Mapping[str, str]] = {
        "logged_in": "#LeftColumn, #column-left .chatlist",
        "second_factor": "#auth-password-form input, .page-password input[type='password']",
        "second_factor_error": "#auth-password-form .input-group.error label,"
        " .page-password .input-field-input.error ~ label",
        "typed_code": "#auth-code-form #sign-in-code",
        "typed_code_text": "#auth-code-form .note",
        "qr": "#auth-qr-form .qr-container canvas, #auth-qr-form .qr-container svg,"
        " #auth-pages canvas",
        "loading": "#auth-qr-form .qr-loading, #auth-pages .preloader-circular",
        "menu": "#LeftColumn .main-menu button, #LeftMainHeader button",
        "settings": ".main-menu .MenuItem:has(.icon-settings)",
        "more": "#Settings .settings-more-menu button",
        "log_out": "#Settings .MenuItem:has(.icon-logout)",
        "confirm_log_out": ".modal-dialog .confirm-dialog-button.danger",
    }
    log_out_steps: ClassVar[Sequence[str]] = (
        "menu",
        "settings",
        "more",
        "log_out",
        "confirm_log_out",
    )
