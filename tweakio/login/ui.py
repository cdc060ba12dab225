"""What a login needs of a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tweakio.platforms.protocols import LoginState, Snapshot

__all__ = ["IN_WORDS", "LoginUI", "in_words"]

IN_WORDS: Mapping[LoginState, str] = {
    "loading": "the page is loading",
    "needs_qr": "the QR code is waiting to be scanned",
    "qr_stale": "the QR code is being renewed",
    "needs_code": "the code is waiting to be typed on the phone",
    "needs_password": "the service asks for the password",
    "confirm_on_phone": "the login is waiting to be confirmed on the phone",
    "syncing": "logged in; messages are being synchronised",
    "logged_in": "logged in",
    "expired": "the service has ended this login",
    "offline": "the service cannot be reached",
    "unknown": "the page shows something that is not known",
}
"""What each state means to a person."""


def in_words(snapshot: Snapshot) -> str:
    """What a page shows, in one line, with what it says itself."""
    words = IN_WORDS[snapshot.state]
    return f"{words}: {snapshot.detail}" if snapshot.detail else words


@runtime_checkable
class LoginUI(Protocol):
    """Shows a person what the login page shows, and asks for a password.

    The codes that it is given are secrets for as long as the service takes them: they are for
    a screen, never for a log.
    """

    def show(self, snapshot: Snapshot, remaining: float) -> None:
        """Show where the login stands; called at each look at the page, about twice a second.

        Args:
            snapshot: what the page shows now; the QR code and the pairing code are in it.
            remaining: seconds until the login is given up.
        """
        ...

    async def ask_password(self, complaint: str) -> str:
        """Ask for the account's password; cancelled when the time is over.

        Args:
            complaint: what the service says about the one before, in one line; empty at first.

        Raises:
            EOFError: there is nobody to ask, or no answer.
        """
        ...
