"""A stand-in for Telegram Web.

The login is a token in the local storage, and a cookie that has to go with it. The QR code is
drawn with round modules and a logo, as the real one is. An account can have a password.
"""

from __future__ import annotations

import secrets

from .service import Account, NotCurrentError, OpenPage, Service, View


class Telegram(Service):
    """Telegram Web's login page, with QR codes, codes by phone number, and passwords."""

    name = "telegram"
    start = "/a/"

    def qr_text(self, page: OpenPage) -> str:
        """Telegram's are short."""
        return "tg://login?token=" + secrets.token_urlsafe(32)

    def scanned(self, page: OpenPage, account: Account) -> None:
        """Let the page in, or ask for the account's password."""
        page.account = account
        if account.password is not None:
            self._show(page, view="password", error="")
        else:
            self._let_in(page, account)

    def do_password(self, page: OpenPage, said: View) -> None:
        """A password was typed."""
        account = page.account
        if account is None:
            raise NotCurrentError("nobody has scanned the QR code")
        if said["password"] == account.password:
            self._let_in(page, account)
        else:
            self._show(page, view="password", error="Incorrect password.")

    def _let_in(self, page: OpenPage, account: Account) -> None:
        device = self._link(page, account)
        self._show(page, view="token", token=device.secret)

    def do_stored(self, page: OpenPage, _: View) -> None:
        """The page has its token in the local storage."""
        if page.account and page.device:
            self._enter(page, page.account, page.device)

    def do_phone_page(self, page: OpenPage, _: View) -> None:
        """The button for logging in with a phone number."""
        self._show(page, view="phone")

    def do_phone(self, page: OpenPage, said: View) -> None:
        """A phone number was typed; tests use it as the account's name. A code is sent there."""
        page.phone = "".join(filter(str.isdigit, said["phone"]))
        page.nonce = f"{secrets.randbelow(100_000):05}"
        self.account(page.phone).said.append(page.nonce)
        self._show(page, view="typed", phone=page.phone, error="")

    def do_code(self, page: OpenPage, said: View) -> None:
        """The code was typed into the page."""
        if said["code"] == page.nonce:
            self.scanned(page, self.account(page.phone))
        else:
            self._show(page, view="typed", phone=page.phone, error="Invalid code")
