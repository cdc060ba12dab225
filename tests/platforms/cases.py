"""The handlers that the contract suite is for, each with the service that it logs in at."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from standin import Custom, Discord, Service, Telegram, WhatsApp

from tweakio.errors import InvalidInputError, SessionError
from tweakio.platforms.protocols import Snapshot
from tweakio.platforms.qr import read_qr


@dataclass(frozen=True)
class Case:
    """A platform and what to try it with."""

    platform: str
    service: type[Service]
    confirms: bool = False
    ends_as: str = "needs_qr"

    def config(self, service: Service) -> dict[str, Any]:
        """The profile's ``platform_config``."""
        if self.platform == "custom" and isinstance(service, Custom):
            return {**service.config, "session_of_record": "session.json"}
        return {"url": service.url}


CASES = [
    Case("whatsapp", WhatsApp, ends_as="expired"),
    Case("telegram", Telegram),
    Case("discord", Discord, confirms=True),
    Case("custom", Custom, confirms=True, ends_as="expired"),
    Case("signal", Custom, confirms=True, ends_as="expired"),
    Case("matrix", Telegram),
]


class SignalSessionHandler:
    """Somebody else's handler, written without anything of ours but the protocol's records."""

    login_url = "https://signal.example/"
    session_of_record = "session.json"

    def empty_session(self) -> Mapping[str, Any]:
        return {}

    def configure(self, config: Mapping[str, Any]) -> None:
        url = config.get("url", self.login_url)
        if not isinstance(url, str) or not url.startswith(("https://", "http://")):
            raise InvalidInputError("no address")
        self.login_url = url

    async def snapshot(self, page: Any) -> Snapshot:
        if page.url.startswith("chrome-error:"):
            return Snapshot("offline")
        for selector, state in (
            ("#home", "logged_in"),
            ("#confirm", "confirm_on_phone"),
            ("#expired", "expired"),
            ("#qr button", "qr_stale"),
        ):
            if await page.locator(selector).is_visible():
                return Snapshot(state)
        image = await page.query_selector("#qr img")
        box = image and await image.bounding_box()
        text = box and box["height"] and read_qr(await page.screenshot(clip=box))
        return Snapshot("needs_qr", qr=text) if text else Snapshot("loading")

    async def refresh_qr(self, page: Any) -> None:
        await page.get_by_role("button", name="Renew").click()

    async def request_code(self, page: Any, phone: str) -> None:
        raise InvalidInputError("there are none")

    async def submit_password(self, page: Any, password: str) -> None:
        await page.locator("#password input").fill(password)

    async def export_session(self, context: Any) -> Mapping[str, Any]:
        return {"cookies": await context.cookies()}

    async def import_session(self, context: Any, session: Mapping[str, Any]) -> None:
        cookies = session.get("cookies")
        host = self.login_url.split("/")[2].split(":")[0]
        if not isinstance(cookies, list) or any(
            not isinstance(one, dict) or one.get("domain") != host for one in cookies
        ):
            raise SessionError("not one of Signal")
        await context.add_cookies(cookies)

    async def log_out(self, page: Any) -> bool:
        if not await page.locator("#log_out").is_visible():
            return False
        await page.locator("#log_out").click()
        await page.locator("#home").wait_for(state="hidden")
        return True

    async def health(self, page: Any) -> str | None:
        warning = page.locator("#warning")
        return await warning.inner_text() if await warning.is_visible() else None


MATRIX = """
    from tweakio.platforms import register_platform
    from tweakio.platforms.fingerprints import SeededFingerprintGenerator
    from tweakio.platforms.page import PageHandler

    class MatrixSessionHandler(PageHandler):
        login_url = "https://matrix.example/"
        session_of_record = "session.json"
        selectors = {
            "logged_in": ".chat-list",
            "second_factor": "#sign-in-password",
            "qr": ".qr-container > canvas",
            "menu": ".main-menu > button",
            "settings": "#menu .MenuItem",
            "more": ".settings-more-menu > button",
            "log_out": "#more .MenuItem",
            "confirm_log_out": ".modal-dialog .danger",
        }
        log_out_steps = ("menu", "settings", "more", "log_out", "confirm_log_out")

    register_platform("matrix", MatrixSessionHandler, SeededFingerprintGenerator)
"""


def install_matrix(site: Path) -> None:
    """Leave on the disk what pip would leave of a package with an entry point."""
    (site / "tweakio_matrix_for_tests.py").write_text(textwrap.dedent(MATRIX))
    info = site / "tweakio_matrix_for_tests-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: tweakio-matrix-for-tests\nVersion: 1.0\n"
    )
    (info / "entry_points.txt").write_text(
        "[tweakio.platforms]\nmatrix = tweakio_matrix_for_tests\n"
    )
