"""Discord."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from tweakio.platforms.page import PageHandler

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["DiscordSessionHandler"]


class DiscordSessionHandler(PageHandler):
    """Discord keeps a token in the local storage.

    Its class names end in letters that change with every version, so only their beginnings are
    looked at.
    """

    login_url = "https://discord.com/login"
    session_of_record: Literal["browser_profile", "session.json"] = "session.json"
    selectors: ClassVar[Mapping[str, str]] = {
        "logged_in": "[data-list-id='guildsnav']",
        "confirm": "[class*='qrLogin'] [class*='qrAvatar'],"
        " [class*='qrLogin'] img[src*='/avatars/']",
        "confirm_text": "[class*='qrLogin']",
        "qr": "[class*='qrCodeContainer'] canvas, [class*='qrCodeContainer'] svg,"
        " [class*='qrCodeContainer'] img:not([class*='Overlay'])",
        "loading": "[class*='qrLogin'] [class*='spinner'], #app-mount > [class*='loading']",
        "menu": "[class*='panels'] button[aria-label='User Settings']",
        "log_out": "[class*='sidebar'] [data-tab-id='logout'], [class*='sidebar']"
        " [aria-label='Log Out']",
        "confirm_log_out": "[role='dialog'] button[type='submit']",
    }
    log_out_steps: ClassVar[Sequence[str]] = ("menu", "log_out", "confirm_log_out")
