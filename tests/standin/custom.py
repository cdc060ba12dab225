"""A service of nobody's, for the platform that takes everything from the profile.

It has all states, a QR code as an image, and a cookie for a login.
"""

from __future__ import annotations

import secrets
from typing import Any

from .service import Account, OpenPage, Service, View


class Custom(Service):
    """A page with everything that a login page can show."""

    name = "custom"
    start = "/login"

    @property
    def config(self) -> dict[str, Any]:
        """The ``platform_config`` that describes it."""
        return {
            "url": self.url,
            "selector_logged_in": "#home",
            "selector_syncing": "#syncing",
            "selector_confirm": "#confirm",
            "selector_second_factor": "#password input",
            "selector_second_factor_submit": "#password button",
            "selector_second_factor_error": "#password .error",
            "selector_code": "#code b",
            "selector_phone_link": "#by_phone",
            "selector_phone": "#phone input",
            "selector_expired": "#expired",
            "selector_qr": "#qr img",
            "selector_qr_stale": "#qr button",
            "selector_offline": "#offline",
            "selector_health": "#warning",
            "selector_log_out": "#log_out",
        }

    def hello(self, page: OpenPage, said: View, cookie: str) -> None:
        """The cookie alone is the login."""
        for account in self.accounts.values():
            for device in account.devices.values():
                if cookie and device.cookie == cookie:
                    self._enter(page, account, device)
                    return
        if cookie and not said["again"]:
            self._show(page, view="expired")
        else:
            self._next_qr(page)

    def qr_text(self, page: OpenPage) -> str:
        """Anything."""
        return "custom:" + secrets.token_hex(20)

    def scanned(self, page: OpenPage, account: Account) -> None:
        """Ask for the password, if there is one, then for a confirmation."""
        page.account = account
        if account.password is not None:
            self._show(page, view="password", error="")
        else:
            self._show(page, view="confirm", account=account.name)

    def do_password(self, page: OpenPage, said: View) -> None:
        """A password was typed."""
        if page.account and said["password"] == page.account.password:
            self._show(page, view="confirm", account=page.account.name)
        else:
            self._show(page, view="password", error="That is not the password")

    def confirm(self, account: str = "alice") -> None:
        """Confirm the login on the phone."""
        with self._news:
            for page in self.open_pages(account):
                if page.view["view"] == "confirm":
                    self._link(page, self.account(account))
                    self._show(page, view="token")

    def do_stored(self, page: OpenPage, _: View) -> None:
        """The page has the cookie."""
        if page.account and page.device:
            self._enter(page, page.account, page.device)

    def do_phone(self, page: OpenPage, said: View) -> None:
        """A phone number was typed."""
        page.phone = said["phone"]
        self._show(page, view="code", code=secrets.token_hex(3).upper())
