"""A stand-in for Discord.

The login is a token in the local storage, and a cookie that has to go with it. The QR code is an
SVG; after it was scanned the login has to be confirmed on the phone. The page takes
``localStorage`` away from its scripts, as the real one does.
"""

from __future__ import annotations

import secrets

from .service import Account, OpenPage, Service, View


class Discord(Service):
    """Discord's login page."""

    name = "discord"
    start = "/login"

    def qr_text(self, page: OpenPage) -> str:
        """An address with the fingerprint of a key."""
        return "https://discord.com/ra/" + secrets.token_urlsafe(32)

    def scanned(self, page: OpenPage, account: Account) -> None:
        """Wait for the person's confirmation."""
        page.account = account
        self._show(page, view="confirm", account=account.name)

    def confirm(self, account: str = "alice") -> None:
        """Tap on "Log in" on the phone."""
        with self._news:
            for page in self._confirming(account):
                device = self._link(page, self.account(account))
                self._show(page, view="token", token=device.secret)

    def decline(self, account: str = "alice") -> None:
        """Tap on "Cancel" on the phone."""
        with self._news:
            for page in self._confirming(account):
                page.account = None
                self._next_qr(page)

    def _confirming(self, account: str) -> list[OpenPage]:
        return [page for page in self.open_pages(account) if page.view["view"] == "confirm"]

    def do_stored(self, page: OpenPage, _: View) -> None:
        """The page has its token in the local storage."""
        if page.account and page.device:
            self._enter(page, page.account, page.device)
