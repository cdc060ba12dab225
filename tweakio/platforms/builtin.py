"""WhatsApp, Telegram, Discord and custom, registered by the same call as any other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from tweakio.platforms import register_platform
from tweakio.platforms.fingerprints import SeededFingerprintGenerator

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "CustomSessionHandler",
    "DiscordSessionHandler",
    "SeededFingerprintGenerator",
    "TelegramSessionHandler",
    "WhatsAppSessionHandler",
    "register",
]


class _StorageStateHandler:
    """Sessions in Playwright's storage-state form, which starts empty."""

    def empty_session(self) -> Mapping[str, Any]:
        """No cookies and no local storage."""
        return {"cookies": [], "origins": []}


class WhatsAppSessionHandler(_StorageStateHandler):
    """WhatsApp Web keeps a key that cannot be exported from the browser."""

    login_url = "https://web.whatsapp.com/"
    session_of_record: Literal["browser_profile", "session.json"] = "browser_profile"


class TelegramSessionHandler(_StorageStateHandler):
    """Telegram Web keeps its key in the local storage."""

    login_url = "https://web.telegram.org/"
    session_of_record: Literal["browser_profile", "session.json"] = "session.json"


class DiscordSessionHandler(_StorageStateHandler):
    """Discord keeps a token in the local storage."""

    login_url = "https://discord.com/login"
    session_of_record: Literal["browser_profile", "session.json"] = "session.json"


class CustomSessionHandler(_StorageStateHandler):
    """Any other service; its address stands in the profile's ``platform_config``."""

    login_url = ""
    session_of_record: Literal["browser_profile", "session.json"] = "browser_profile"


def register() -> None:
    """Register the four."""
    for name, handler in (
        ("whatsapp", WhatsAppSessionHandler),
        ("telegram", TelegramSessionHandler),
        ("discord", DiscordSessionHandler),
        ("custom", CustomSessionHandler),
    ):
        register_platform(name, handler, SeededFingerprintGenerator)
