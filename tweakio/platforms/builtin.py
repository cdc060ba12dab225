"""WhatsApp, Telegram, Discord and custom, registered by the same call as any other.

Their handlers are imported when one is made: keeping profiles needs none of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tweakio.platforms import register_platform
from tweakio.platforms.fingerprints import SeededFingerprintGenerator

if TYPE_CHECKING:
    from collections.abc import Callable

    from tweakio.platforms.custom import CustomSessionHandler
    from tweakio.platforms.discord import DiscordSessionHandler
    from tweakio.platforms.protocols import SessionHandler
    from tweakio.platforms.telegram import TelegramSessionHandler
    from tweakio.platforms.whatsapp import WhatsAppSessionHandler

__all__ = [
    "CustomSessionHandler",
    "DiscordSessionHandler",
    "SeededFingerprintGenerator",
    "TelegramSessionHandler",
    "WhatsAppSessionHandler",
    "register",
]

_HANDLERS = {
    "whatsapp": "WhatsAppSessionHandler",
    "telegram": "TelegramSessionHandler",
    "discord": "DiscordSessionHandler",
    "custom": "CustomSessionHandler",
}


def _handler(platform: str) -> Any:
    return getattr(import_module(f"tweakio.platforms.{platform}"), _HANDLERS[platform])


def _maker(platform: str) -> Callable[[], SessionHandler]:
    def make() -> SessionHandler:
        handler: SessionHandler = _handler(platform)()
        return handler

    return make


def __getattr__(name: str) -> Any:
    """The classes by their names."""
    for platform, handler in _HANDLERS.items():
        if name == handler:
            return _handler(platform)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def register() -> None:
    """Register the four."""
    for platform in _HANDLERS:
        register_platform(platform, _maker(platform), SeededFingerprintGenerator)
