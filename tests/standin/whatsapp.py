"""A stand-in for WhatsApp Web.

The login is a key pair that the page makes with WebCrypto, not extractable, and keeps in
IndexedDB. The service knows the public half and lets a page in that signs what it is given, at
each load. So nothing but the browser's own profile can carry the login.
"""

from __future__ import annotations

import base64
import secrets

from . import p256
from .service import Account, OpenPage, Service, View

ALPHABET = "123456789ABCDEFGHJKLMNPQRSTVWXYZ"


class WhatsApp(Service):
    """WhatsApp Web's login page, with QR codes and pairing codes."""

    name = "whatsapp"

    def hello(self, page: OpenPage, said: View, cookie: str) -> None:
        """``said["public"]`` is the page's public key, ``said["linked"]`` whether it has one."""
        page.secret = said["public"]
        if not said["linked"]:
            self._next_qr(page)
        elif self._device(page.secret):
            page.nonce = secrets.token_hex(16)
            self._show(page, view="challenge", nonce=page.nonce)
        else:
            self.logged_out(page)

    def do_prove(self, page: OpenPage, said: View) -> None:
        """The page has signed the nonce, or has not."""
        known = self._device(page.secret)
        nonce, page.nonce = page.nonce, ""
        signed = p256.verify(
            base64.b64decode(page.secret), nonce.encode(), base64.b64decode(said["signature"])
        )
        if known and nonce and signed:
            self._enter(page, *known)
        else:
            self.logged_out(page)

    def qr_text(self, page: OpenPage) -> str:
        """As long as the real one, so that it takes as much room on a terminal."""
        parts = [secrets.token_bytes(64), secrets.token_bytes(32), secrets.token_bytes(32)]
        return "2@" + ",".join(base64.b64encode(part).decode() for part in parts)

    def scanned(self, page: OpenPage, account: Account) -> None:
        """Link the page's key; the page is let in when it says that it has stored it."""
        self._link(page, account, page.secret)
        self._show(page, view="paired")

    def do_stored(self, page: OpenPage, _: View) -> None:
        """The page has its key in IndexedDB."""
        if page.account and page.device:
            self._enter(page, page.account, page.device)

    def do_phone(self, page: OpenPage, said: View) -> None:
        """A phone number was typed, to get a pairing code."""
        page.phone = "".join(filter(str.isdigit, said["phone"]))
        if not 8 <= len(page.phone) <= 15:
            self._show(page, view="phone", error="Invalid phone number")
            return
        code = "".join(secrets.choice(ALPHABET) for _ in range(8))
        self._show(page, view="code", code=code, phone=page.phone)

    def do_phone_page(self, page: OpenPage, _: View) -> None:
        """The link to logging in with a phone number."""
        self._show(page, view="phone", error="")

    def enter_code(self, code: str, account: str = "alice") -> None:
        """Type a pairing code into the phone, with or without its hyphen."""
        super().enter_code(code.replace("-", ""), account)

    def new_code(self) -> None:
        """Replace the pairing codes of all open pages."""
        with self._news:
            for page in self.pages.values():
                if page.view["view"] == "code":
                    self.do_phone(page, {"phone": page.phone})
