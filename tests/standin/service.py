"""What all stand-in services share: the server, the pages that are open, the accounts."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from tests.servers import Server

if TYPE_CHECKING:
    from typing_extensions import Self

PAGES = Path(__file__).parent / "pages"
TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
LONGEST_POLL = 15.0  # seconds that a page waits for news before it asks again
ALIVE = 1.5  # seconds without a request after which a page counts as closed

View = dict[str, Any]


class NotCurrentError(Exception):
    """No open page shows this QR code or pairing code now; a phone would refuse it."""


@dataclass
class Device:
    """A browser that is linked to an account.

    Attributes:
        id: what the service calls it.
        secret: what it proves itself with: a public key, or a token.
        cookie: what the service gave it as a cookie.
        proofs: how often it has proved itself since it was linked.
    """

    id: str
    secret: str
    cookie: str
    proofs: int = 0


@dataclass
class Account:
    """A person's account at the service.

    Attributes:
        name: what tests call it.
        devices: the browsers that are logged in to it now, by id.
        password: the second factor, or None.
        sync: how much has been synced to the newest device, 0 to 1; None when it is done.
        warning: what the page tells about the phone or the connection; empty if nothing.
        said: what was sent to the account's other devices, such as a code, newest last.
    """

    name: str
    devices: dict[str, Device] = field(default_factory=dict)
    password: str | None = None
    sync: float | None = None
    warning: str = ""
    said: list[str] = field(default_factory=list)

    @property
    def logged_in(self) -> bool:
        """Whether any browser is linked to it and has been let in."""
        return any(device.proofs for device in self.devices.values())


@dataclass(eq=False)
class OpenPage:
    """A page that a browser has open."""

    id: str
    view: View
    version: int = 0
    secret: str = ""
    nonce: str = ""
    account: Account | None = None
    device: Device | None = None
    phone: str = ""
    qr_since: float = 0.0
    qr_count: int = 0
    waiting: int = 0
    last_seen: float = field(default_factory=time.monotonic)


class Service:
    """A service on a port of its own.

    Args:
        rotate_every: seconds after which a QR code is replaced; None for never.
        rotations: how many QR codes are shown until the page wants a click; None for no end.
        sync_seconds: how long syncing takes; None until ``finish_sync`` is called.
    """

    name = ""
    start = "/"

    def __init__(
        self,
        *,
        rotate_every: float | None = None,
        rotations: int | None = None,
        sync_seconds: float | None = 0.0,
    ) -> None:
        self.rotate_every = rotate_every
        self.rotations = rotations
        self.sync_seconds = sync_seconds
        self.accounts: dict[str, Account] = {}
        self.pages: dict[str, OpenPage] = {}
        self.requests: list[str] = []
        self.offline = False
        self._closed = False
        self._sync_since: dict[str, float] = {}
        self._news = threading.Condition()
        handler = type("Handler", (_Handler,), {"service": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )

    # The server

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop; pages that are open see a server that is gone."""
        with self._news:
            self._closed = self.offline = True
            self._news.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        """The port on 127.0.0.1."""
        return self._server.server_address[1]

    @property
    def url(self) -> str:
        """The address to log in at."""
        return f"http://127.0.0.1:{self.port}{self.start}"

    @property
    def cookie_name(self) -> str:
        """Cookies know no ports, so the name has it."""
        return f"{self.name}_{self.port}"

    # What a test sees

    def account(self, name: str) -> Account:
        """The account of this name; it exists from when it is first asked for."""
        with self._news:
            return self.accounts.setdefault(name, Account(name))

    def logged_in(self) -> list[str]:
        """The names of the accounts that a browser is logged in to."""
        with self._news:
            return sorted(name for name, each in self.accounts.items() if each.logged_in)

    def open_pages(self, account: str | None = None) -> list[OpenPage]:
        """The pages that a browser has open now, or those that are logged in to an account."""
        with self._news:
            now = time.monotonic()
            return [
                page
                for page in self.pages.values()
                if (page.waiting or now - page.last_seen < ALIVE)
                and (account is None or (page.account and page.account.name == account))
            ]

    def shown(self, view: str, key: str) -> list[str]:
        """What open pages show, such as ``shown("qr", "qr")``."""
        with self._news:
            for page in self.open_pages():
                self._tick(page)
            return [page.view[key] for page in self.open_pages() if page.view["view"] == view]

    def qr_codes(self) -> list[str]:
        """The texts of the QR codes on open pages."""
        return self.shown("qr", "qr")

    def codes(self) -> list[str]:
        """The pairing codes on open pages."""
        return self.shown("code", "code")

    def wait_for(self, condition: Callable[[], object], timeout: float = 30.0) -> bool:
        """Wait until a condition on this service holds; whether it does."""
        end = time.monotonic() + timeout
        with self._news:
            while not condition():
                left = end - time.monotonic()
                if left <= 0:
                    return False
                self._news.wait(min(left, 0.05))
        return True

    # What a person does on the phone

    def scan(self, text: str, account: str = "alice") -> None:
        """Scan a QR code with the phone of an account.

        Raises:
            NotCurrentError: no open page shows it now.
        """
        with self._news:
            self.scanned(self._showing("qr", "qr", text), self.account(account))

    def enter_code(self, code: str, account: str = "alice") -> None:
        """Type a pairing code into the phone of an account.

        Raises:
            NotCurrentError: no open page shows it now.
        """
        with self._news:
            self.scanned(self._showing("code", "code", code), self.account(account))

    def set_password(self, password: str | None, account: str = "alice") -> None:
        """Give the account a second factor."""
        with self._news:
            self.account(account).password = password

    def log_out_remotely(self, account: str = "alice") -> None:
        """Log out all browsers of the account, as its phone can."""
        with self._news:
            found = self.account(account)
            found.devices.clear()
            for page in self.pages.values():
                if page.account is found:
                    self.logged_out(page)

    def warn(self, text: str, account: str = "alice") -> None:
        """Let pages of the account show a warning, such as a phone that is offline."""
        with self._news:
            found = self.account(account)
            found.warning = text
            self._refresh(found)

    # What the service does

    def go_offline(self) -> None:
        """Answer nobody any more; the port stays taken."""
        with self._news:
            self.offline = True
            self._news.notify_all()

    def go_online(self) -> None:
        """Answer again."""
        with self._news:
            self.offline = False

    def rotate(self) -> None:
        """Replace the QR codes of all open pages."""
        with self._news:
            for page in self.pages.values():
                if page.view["view"] == "qr":
                    self._next_qr(page)

    def make_stale(self) -> None:
        """Let all QR codes want a click."""
        with self._news:
            for page in self.pages.values():
                if page.view["view"] == "qr":
                    self._show(page, view="stale", qr=page.view["qr"])

    def set_sync(self, share: float, account: str = "alice") -> None:
        """Set how much is synced, 0 to 1; with ``sync_seconds=None``."""
        with self._news:
            found = self.account(account)
            if found.sync is not None:
                found.sync = share
                self._refresh(found)

    def finish_sync(self, account: str = "alice") -> None:
        """Let syncing come to its end."""
        with self._news:
            found = self.account(account)
            found.sync = None
            self._refresh(found)

    # For the services: everything below is called with the lock held

    def qr_text(self, page: OpenPage) -> str:
        """A new text for a page's QR code."""
        raise NotImplementedError

    def scanned(self, page: OpenPage, account: Account) -> None:
        """A phone of the account has read the page's code."""
        raise NotImplementedError

    def logged_out(self, page: OpenPage) -> None:
        """The page's device is linked no more."""
        page.account = page.device = None
        self._show(page, view="gone")

    def do_log_out(self, page: OpenPage, _: View) -> None:
        """The page's own menu."""
        if page.account and page.device:
            page.account.devices.pop(page.device.id, None)
        self.logged_out(page)

    def do_refresh(self, page: OpenPage, _: View) -> None:
        """A click on a stale QR code."""
        page.qr_count = 0
        self._next_qr(page)

    def hello(self, page: OpenPage, said: View, cookie: str) -> None:
        """A page was loaded. ``said["secret"]`` is what it has from an earlier login, if any."""
        known = self._device(said.get("secret") or "")
        if known and known[1].cookie == cookie:
            self._enter(page, *known)
        elif said.get("secret"):
            self.logged_out(page)
        else:
            self._next_qr(page)

    def _device(self, secret: str) -> tuple[Account, Device] | None:
        for account in self.accounts.values():
            for device in account.devices.values():
                if secret and device.secret == secret:
                    return account, device
        return None

    def _link(self, page: OpenPage, account: Account, secret: str = "") -> Device:
        """Make the page's browser a device of the account."""
        device = Device(
            secrets.token_hex(8), secret or secrets.token_urlsafe(32), secrets.token_urlsafe(16)
        )
        account.devices[device.id] = device
        page.account, page.device = account, device
        account.sync = 0.0
        self._sync_since[account.name] = time.monotonic()
        return device

    def _enter(self, page: OpenPage, account: Account, device: Device) -> None:
        """Let a device in that has proved itself."""
        device.proofs += 1
        page.account, page.device = account, device
        self._home(page)

    def _home(self, page: OpenPage) -> None:
        """Show the account, or how far its syncing is."""
        account = page.account
        assert account
        if account.sync is not None and self.sync_seconds is not None:
            gone = time.monotonic() - self._sync_since.get(account.name, 0.0)
            account.sync = gone / self.sync_seconds if gone < self.sync_seconds else None
        view: View = {"view": "home", "account": account.name, "warning": account.warning}
        if account.sync is not None:
            view = {"view": "syncing", "share": int(account.sync * 20) / 20}
        if any(page.view.get(key) != value for key, value in view.items()):
            self._show(page, **view)

    def _next_qr(self, page: OpenPage) -> None:
        """Show a new QR code, or that there is none without a click."""
        if self.rotations is not None and page.qr_count >= self.rotations:
            self._show(page, view="stale", qr=page.view.get("qr", ""))
            return
        page.qr_count += 1
        page.qr_since = time.monotonic()
        text = self.qr_text(page)
        self._show(page, view="qr", qr=text, matrix=drawn(text))

    def _show(self, page: OpenPage, **view: Any) -> None:
        page.view = view
        page.version += 1
        self._news.notify_all()

    def _refresh(self, account: Account) -> None:
        for page in self.pages.values():
            if page.account is account and page.view["view"] in ("home", "syncing"):
                self._home(page)

    def _tick(self, page: OpenPage) -> float:
        """Do what time does to a page; the seconds until it has to be looked at again."""
        if page.view["view"] == "qr" and self.rotate_every is not None:
            left = page.qr_since + self.rotate_every - time.monotonic()
            if left > 0:
                return left
            self._next_qr(page)
            return self.rotate_every
        if page.view["view"] == "syncing":
            self._home(page)
            return 0.05
        return LONGEST_POLL

    def _showing(self, view: str, key: str, text: str) -> OpenPage:
        for page in self.open_pages():
            self._tick(page)
            if page.view["view"] == view and page.view[key] == text:
                return page
        raise NotCurrentError(f"no page of {self.name} shows this {key}")

    # Requests

    def answer_hello(self, said: View, cookie: str) -> View:
        """A page introduces itself."""
        with self._news:
            page = OpenPage(secrets.token_hex(8), {"view": "loading"})
            self.pages[page.id] = page
            self.hello(page, said, cookie)
            return {"page": page.id, "version": page.version, **page.view}

    def answer_act(self, said: View) -> View:
        """Something was clicked or typed on a page."""
        with self._news:
            page = self.pages.get(said["page"])
            if page is None:
                return {}
            page.last_seen = time.monotonic()
            getattr(self, "do_" + said["do"])(page, said)
            cookie = page.device.cookie if page.device else ""
            return {"version": page.version, "cookie": cookie, **page.view}

    def answer_poll(self, page_id: str, seen: int) -> View | None:
        """A page waits for news; None if there was none in time."""
        end = time.monotonic() + LONGEST_POLL
        with self._news:
            page = self.pages.get(page_id)
            if page is None:
                return {"version": 0, "view": "loading"}
            page.waiting += 1
            try:
                while not self.offline:
                    wait = min(self._tick(page), end - time.monotonic())
                    if page.version != seen or wait <= 0:
                        break
                    self._news.wait(wait)
            finally:
                page.waiting -= 1
                page.last_seen = time.monotonic()
            return None if self.offline else {"version": page.version, **page.view}


def drawn(text: str) -> list[str]:
    """The modules of a QR code, row by row, as texts of 0 and 1."""
    import segno

    return [
        "".join(map(str, row)) for row in segno.make_qr(text, error="m", boost_error=False).matrix
    ]


class _Server(Server):
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that was killed is no news."""


class _Handler(BaseHTTPRequestHandler):
    service: Service
    protocol_version = "HTTP/1.1"
    timeout = 60

    def log_message(self, *_: object) -> None:
        """Say nothing: what is asked for are secrets."""

    def do_GET(self) -> None:
        if self._dropped():
            return
        address = urlsplit(self.path)
        if address.path == "/poll":
            query = parse_qs(address.query)
            news = self.service.answer_poll(query["page"][0], int(query["seen"][0]))
            if news is None:
                self._drop()
            else:
                self._send(news)
            return
        name = "common.js" if address.path == "/common.js" else f"{self.service.name}.html"
        if address.path not in ("/common.js", *self.pages()):
            self._send_bytes(404, "text/plain", b"not here\n")
            return
        file = PAGES / name
        self._send_bytes(200, TYPES[file.suffix], file.read_bytes())

    def do_POST(self) -> None:
        if self._dropped():
            return
        said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/hello":
            self._send(self.service.answer_hello(said, self._cookie()))
        else:
            self._send(self.service.answer_act(said))

    def pages(self) -> tuple[str, ...]:
        """The paths at which the page is."""
        return ("/", self.service.start, "/login", "/channels/@me")

    def _cookie(self) -> str:
        for part in self.headers.get("Cookie", "").split(";"):
            name, _, value = part.strip().partition("=")
            if name == self.service.cookie_name:
                return value
        return ""

    def _send(self, data: View) -> None:
        cookie = data.pop("cookie", "")
        self._send_bytes(200, "application/json", json.dumps(data).encode(), cookie)

    def _send_bytes(self, status: int, kind: str, body: bytes, cookie: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        if cookie:
            self.send_header(
                "Set-Cookie",
                f"{self.service.cookie_name}={cookie}; Path=/; Max-Age=31536000; HttpOnly;"
                " SameSite=Lax",
            )
        self.end_headers()
        self.wfile.write(body)

    def _dropped(self) -> bool:
        self.service.requests.append(self.path.partition("?")[0])
        if self.service.offline:
            self._drop()
        return self.service.offline

    def _drop(self) -> None:
        self.close_connection = True
