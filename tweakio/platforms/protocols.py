"""What a platform provides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FingerprintGenerator", "SessionHandler"]


@runtime_checkable
class SessionHandler(Protocol):
    """How a platform keeps a login.

    Attributes:
        login_url: the page on which a person logs in; empty if it depends on the profile.
        session_of_record: what holds the login. ``browser_profile`` where the service keeps
            keys that a browser does not export, ``session.json`` where the cookies and the
            local storage are enough.
    """

    login_url: str
    session_of_record: Literal["browser_profile", "session.json"]

    def empty_session(self) -> Mapping[str, Any]:
        """The content of a new profile's session.json, as JSON data."""
        ...


@runtime_checkable
class FingerprintGenerator(Protocol):
    """How a platform's browsers present themselves."""

    def generate(self, profile_id: str) -> Mapping[str, Any]:
        """The content of a new profile's fingerprint.json, as JSON data.

        It is committed: no secret and no path belongs in it.
        """
        ...
