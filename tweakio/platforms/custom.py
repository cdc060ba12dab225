"""Any other service, as the profile's ``platform_config`` describes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tweakio.errors import InvalidInputError
from tweakio.platforms.page import PageHandler

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CustomSessionHandler"]

_PLACES = ("browser_profile", "session.json")


class CustomSessionHandler(PageHandler):
    """A service of which only the profile knows anything.

    Settings besides ``url`` and ``selector_<name>``: ``attribute_qr`` and ``attribute_code``
    (the attribute that holds the text), ``expired_url`` (what the address contains when the
    service has ended the login) and ``session_of_record``.
    """

    only_own_site = False  # it may log in by way of another site

    def configure(self, config: Mapping[str, Any]) -> None:
        """Take everything from the profile.

        Raises:
            InvalidInputError: a setting cannot be used.
        """
        super().configure(config)
        for name in ("qr", "code"):
            if value := _text(config, f"attribute_{name}"):
                self._attributes[name] = value
        self.expired_url = _text(config, "expired_url") or self.expired_url
        place = _text(config, "session_of_record")
        if place and place not in _PLACES:
            raise InvalidInputError(f"session_of_record is not one of {', '.join(_PLACES)}")
        if place:
            self.session_of_record = "session.json" if place == _PLACES[1] else "browser_profile"


def _text(config: Mapping[str, Any], name: str) -> str:
    value = config.get(name, "")
    if not isinstance(value, str):
        raise InvalidInputError(f"{name} is not a text")
    return value
