"""What a real Chromium says about itself: in pages, frames, workers of every kind and headers.

Everything runs against a server on 127.0.0.1, in a headless browser.
"""

from __future__ import annotations

import base64
import json
import logging
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from tests.servers import Server
from tweakio import BrowserError, ProfileManager, SecretNotFoundError, VaultError
from tweakio.browsing import SyncBrowserManager
from tweakio.platforms.fingerprints import SeededFingerprintGenerator, present, screen_of
from tweakio.platforms.protocols import BrowserVersion, Presentation
from tweakio.settings import KEYS

sync_api = pytest.importorskip("playwright.sync_api")
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="no Chromium here")]

SECRET = "hunter2-correct-horse"
SEED = {"schema_version": 1, "generator": "seeded", "seed": "5e" * 16, "locale": "en-GB"}
REPORT = """\
async function report(from) {
  const options = Intl.DateTimeFormat().resolvedOptions(), data = navigator.userAgentData;
  const asked = ["architecture", "bitness", "fullVersionList", "model", "platformVersion", "wow64"];
  await fetch("/headers?" + from);
  const told = {
    user_agent: navigator.userAgent, app_version: navigator.appVersion,
    platform: navigator.platform, language: navigator.language, languages: navigator.languages,
    locale: options.locale, zone: options.timeZone, number: (1234.5).toLocaleString(),
    date: new Date(0).toLocaleDateString(), offset: new Date(2026, 6, 1).getTimezoneOffset(),
    text: new Date(0).toString(), brands: data.brands, mobile: data.mobile,
    ua_platform: data.platform, high: await data.getHighEntropyValues(asked),
    cores: navigator.hardwareConcurrency,
  };
  if (self.document) {
    told.dark = matchMedia("(prefers-color-scheme: dark)").matches;
    told.light = matchMedia("(prefers-color-scheme: light)").matches;
    told.screen = [screen.width, screen.height];
    told.available = [screen.availWidth, screen.availHeight];
    told.ratio = devicePixelRatio;
  }
  return told;
}
"""
PAGE = f"""\
<!doctype html><title>page</title><script>
{REPORT}
const once = (target, name) =>
  new Promise(done => target.addEventListener(name, done, {{once: true}}));
async function framed(url) {{
  const frame = document.createElement("iframe"), answer = once(window, "message");
  frame.src = url;
  document.body.append(frame);
  return (await answer).data;
}}
async function all(elsewhere) {{
  const found = {{page: await report("page")}};
  found.page.outer = [outerWidth, outerHeight];
  found.page.inner = [innerWidth, innerHeight];
  found.frame = await framed("/frame");
  found.foreign = await framed(elsewhere + "/frame");
  const worker = new Worker("/worker.js");
  found.worker = (await once(worker, "message")).data;
  const shared = new SharedWorker("/shared.js");
  shared.port.start();
  found.shared = (await once(shared.port, "message")).data;
  const registration = await navigator.serviceWorker.register("/service.js");
  await navigator.serviceWorker.ready;
  const channel = new MessageChannel(), answer = once(channel.port1, "message");
  channel.port1.start();
  registration.active.postMessage(0, [channel.port2]);
  found.service = (await answer).data;
  return found;
}}
</script><body>"""
FILES = {
    "/": ("text/html", PAGE),
    "/frame": (
        "text/html",
        f"<script>{REPORT}\nreport('frame').then(told => parent.postMessage(told, '*'))</script>",
    ),
    "/worker.js": (
        "text/javascript",
        f"{REPORT}\nreport('worker').then(told => postMessage(told))",
    ),
    "/shared.js": (
        "text/javascript",
        f"{REPORT}\nonconnect = async event => event.ports[0].postMessage(await report('shared'))",
    ),
    "/service.js": (
        "text/javascript",
        f"{REPORT}\nonmessage = async event => event.ports[0].postMessage(await report('service'))",
    ),
    "/headers": ("text/plain", "ok"),
}
HINTS = (
    "Sec-CH-UA-Full-Version-List, Sec-CH-UA-Platform-Version, Sec-CH-UA-Arch, Sec-CH-UA-Bitness, "
    "Sec-CH-Prefers-Color-Scheme"
)
CONTEXTS = ("page", "frame", "foreign", "worker", "shared", "service")


class Site(Server):
    """Pages and scripts that report, and the headers that came with each request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), SiteHandler)
        self.headers: dict[str, dict[str, str]] = {}
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.elsewhere = f"http://localhost:{self.server_port}"


class SiteHandler(BaseHTTPRequestHandler):
    server: Site
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        kind, text = FILES.get(urlsplit(self.path).path, ("text/plain", ""))
        self.server.headers[self.path] = {name.lower(): item for name, item in self.headers.items()}
        self.send_response(200)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(text.encode())))
        self.send_header("Accept-CH", HINTS)
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *arguments: object) -> None:
        pass


class Proxy(Server):
    """A forward proxy that wants a name and a password."""

    def __init__(self, user: str, password: str) -> None:
        super().__init__(("127.0.0.1", 0), ProxyHandler)
        self.wanted = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        self.passed: list[str] = []
        self.refused: list[str] = []


class ProxyHandler(BaseHTTPRequestHandler):
    server: Proxy
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.headers.get("Proxy-Authorization") != self.server.wanted:
            self.server.refused.append(self.path)
            self.send_response(407)
            self.send_header("Proxy-Authenticate", 'Basic realm="test"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.server.passed.append(self.path)
        target = urlsplit(self.path)
        lines = [f"GET {target.path or '/'}{'?' + target.query if target.query else ''} HTTP/1.1"]
        kept = [item for item in self.headers.items() if not item[0].lower().startswith("proxy-")]
        lines += [f"{name}: {value}" for name, value in kept if name.lower() != "connection"]
        lines += ["Via: 1.1 test", "Connection: close", "", ""]
        with socket.create_connection(("127.0.0.1", target.port or 80)) as upstream:
            upstream.sendall("\r\n".join(lines).encode())
            while data := upstream.recv(65536):
                self.wfile.write(data)
        self.close_connection = True

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def served(server: Any) -> Iterator[Any]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def site() -> Iterator[Site]:
    with served(Site()) as found:
        yield found


@pytest.fixture(scope="module")
def version() -> BrowserVersion:
    assert BROWSER is not None
    said = subprocess.run([BROWSER, "--version"], capture_output=True, text=True, check=True).stdout
    number = next(word for word in said.split() if word[:1].isdigit())
    return BrowserVersion("chromium", number)


@contextmanager
def browser(
    manager: ProfileManager, version: BrowserVersion, fingerprint: Any = SEED, **settings: Any
) -> Iterator[tuple[Any, Presentation]]:
    """The profile ``alpha`` with these settings, opened; made if it is missing."""
    if not manager.home.exists():
        profile = manager.create_profile("alpha", "custom")
        (profile.path / "fingerprint.json").write_text(json.dumps(fingerprint))
    nothing = dict.fromkeys(KEYS)
    manager.update_profiles(["alpha"], browser={**nothing, **settings})
    made = present(SeededFingerprintGenerator(), fingerprint, settings, version)
    with SyncBrowserManager("alpha", manager=manager, executable=BROWSER) as context:
        yield context, made


def told(context: Any, site: Site) -> dict[str, dict[str, Any]]:
    """What every context says."""
    page = context.pages[0]
    page.goto(f"{site.address}/")
    found: dict[str, dict[str, Any]] = page.evaluate("url => all(url)", site.elsewhere)
    assert list(found) == list(CONTEXTS)
    return found


SEEN_BY_ALL = ("user_agent", "app_version", "platform", "language", "languages", "locale", "zone",
               "number", "date", "offset", "text", "brands", "mobile", "ua_platform", "high",
               "cores")  # fmt: skip
SEEN_BY_PAGES = ("dark", "light", "screen", "available", "ratio")


def check_consistency(found: dict[str, dict[str, Any]], site: Site) -> None:
    """Every context says the same, and so do the headers of what it asks for."""
    page = found["page"]
    for name in CONTEXTS:
        said = found[name]
        assert {key: said[key] for key in SEEN_BY_ALL} == {key: page[key] for key in SEEN_BY_ALL}
        if name in ("frame", "foreign"):
            assert {key: said[key] for key in SEEN_BY_PAGES} == {
                key: page[key] for key in SEEN_BY_PAGES
            }
    asked = {path for path in site.headers if path != "/favicon.ico"}
    assert {"/", "/frame", "/worker.js", "/shared.js", "/service.js"} <= asked
    assert {f"/headers?{name}" for name in ("page", "frame", "worker", "shared", "service")} < asked
    qualities = [f";q=0.{9 - place}" for place in range(len(page["languages"]) - 1)]
    languages = ",".join(map("".join, zip(page["languages"], ["", *qualities], strict=True)))
    brands = ", ".join(f'"{item["brand"]}";v="{item["version"]}"' for item in page["brands"])
    scheme = "dark" if page["dark"] else "light"
    for path in asked:
        headers = site.headers[path]
        assert headers["user-agent"] == page["user_agent"], path
        assert headers["accept-language"] == languages, path
        assert headers.get("sec-ch-ua", brands) == brands, path
        assert headers.get("sec-ch-ua-platform", f'"{page["ua_platform"]}"') == (
            f'"{page["ua_platform"]}"'
        )
        assert headers.get("sec-ch-prefers-color-scheme", scheme) == scheme, path
        assert "headless" not in repr(headers).lower()
    assert "sec-ch-ua" in site.headers["/"]
    assert site.headers["/headers?page"]["sec-ch-prefers-color-scheme"] == scheme


def check_presented(page: dict[str, Any], made: Presentation, version: BrowserVersion) -> None:
    """A page says what was meant, and nothing contradicts it."""
    assert page["user_agent"] == made.user_agent
    assert f"Chrome/{version.major}.0.0.0" in made.user_agent
    assert {"brand": "Chromium", "version": str(version.major)} in page["brands"]
    assert "headless" not in json.dumps(page).lower()
    assert page["app_version"] == made.user_agent.removeprefix("Mozilla/")
    assert page["platform"].split()[0] in made.user_agent
    assert page["ua_platform"] in made.user_agent
    assert page["mobile"] is False
    assert page["languages"] == list(made.languages)
    assert page["language"] == made.languages[0]
    assert page["outer"] == list(made.window)
    assert page["screen"] == page["available"] == list(screen_of(made.window))
    assert page["inner"][0] <= page["outer"][0]
    assert page["inner"][1] < page["outer"][1]
    assert (page["dark"], page["light"]) == (
        made.color_scheme == "dark",
        made.color_scheme == "light",
    )
    if made.timezone is not None:
        assert page["zone"] == made.timezone


def speaks_german() -> bool:
    """Whether the browser's language packages are installed; Debian has them apart."""
    assert BROWSER is not None
    places = [Path(BROWSER).resolve().parent, Path("/usr/lib/chromium")]
    return any((place / "locales" / "de.pak").exists() for place in places)


@pytest.mark.parametrize(
    "settings",
    [
        {
            "locale": "de-AT",
            "timezone": "Asia/Tokyo",
            "window": [1280, 800],
            "color_scheme": "dark",
        },
        {},
    ],
    ids=["set", "derived"],
)
def test_all_contexts_and_headers_say_the_same(manager, version, site, settings):
    with browser(manager, version, **settings) as (context, made):
        found = told(context, site)
        with context.expect_page() as opened:
            context.pages[0].evaluate("void open('/')")
        opened.value.wait_for_load_state()
        popup_says = opened.value.evaluate("report('page')")
    check_consistency(found, site)
    check_presented(found["page"], made, version)
    assert {key: popup_says[key] for key in SEEN_BY_ALL + SEEN_BY_PAGES} == {
        key: found["page"][key] for key in SEEN_BY_ALL + SEEN_BY_PAGES
    }
    if settings:
        assert found["service"]["offset"] == -540
        assert "GMT+0900" in found["worker"]["text"]
        expected = ("de", "1.234,5") if speaks_german() else ("en-US", "1,234.5")
        assert (found["page"]["locale"], found["page"]["number"]) == expected


def test_a_restart_changes_nothing_but_what_was_set(manager, version, site):
    """The same browser data: neither what is kept in them nor a service worker wins."""
    found = []
    for settings in ({}, {"window": [900, 700]}):
        site.headers.clear()
        with browser(manager, version, **settings) as (context, made):
            found.append(told(context, site))
            check_presented(found[-1]["page"], made, version)
    assert found[0] != found[1]
    for said in found:
        for name in ("page", "frame", "foreign"):
            for key in ("outer", "inner", "screen", "available"):
                said[name].pop(key, None)
    assert found[0] == found[1]


# Through a proxy


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    monkeypatch.setenv("PROXY_PASSWORD", SECRET)
    with served(Proxy("bob@home", SECRET)) as found:
        yield found


def settings_of(proxy: Proxy) -> dict[str, str]:
    return {
        "proxy": f"http://bob%40home@127.0.0.1:{proxy.server_port}",
        "proxy_password": "env:PROXY_PASSWORD",
    }


def command_lines() -> str:
    lines = []
    for process in psutil.process_iter():
        try:
            lines.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return "\n".join(lines)


def test_everything_goes_through_the_proxy(manager, home, version, site, proxy, caplog):
    caplog.set_level(logging.DEBUG)
    with browser(manager, version, **settings_of(proxy)) as (context, _):
        found = told(context, site)
        candidates = context.pages[0].evaluate(
            """async () => {
              const peer = new RTCPeerConnection(), found = [];
              peer.createDataChannel("any");
              const done = new Promise(end => peer.onicecandidate = event =>
                event.candidate ? found.push(event.candidate.candidate) : end());
              await peer.setLocalDescription(await peer.createOffer());
              await done;
              return found;
            }"""
        )
        running = command_lines()
    check_consistency(found, site)
    assert all(headers.get("via") == "1.1 test" for headers in site.headers.values())
    assert not any("proxy-authorization" in headers for headers in site.headers.values())
    assert len(proxy.passed) >= len(site.headers)
    assert candidates == []
    assert f"--proxy-server=http://127.0.0.1:{proxy.server_port}" in running
    assert SECRET not in running
    assert SECRET not in caplog.text
    kept = [path for path in home.rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(kept) > 20
    assert not [path for path in kept if SECRET.encode() in path.read_bytes()]


def environments() -> bytes:
    """Of all processes below this one."""
    found = b""
    for process in psutil.Process().children(recursive=True):
        with suppress(OSError):
            found += Path(f"/proc/{process.pid}/environ").read_bytes()
    return found


def test_a_sealed_password_reaches_the_proxy_and_nothing_else(
    manager, home, version, site, proxy, monkeypatch, caplog
):
    pytest.importorskip("pyrage")
    monkeypatch.delenv("PROXY_PASSWORD")
    monkeypatch.delenv("TWEAKIO_IDENTITY", raising=False)
    caplog.set_level(logging.DEBUG)
    manager.create_profile("alpha", "custom")
    manager.vault.init(in_file=True)
    settings = {**settings_of(proxy), "proxy_password": manager.vault.seal_secret(SECRET)}
    with browser(manager, version, **settings) as (context, _):
        context.pages[0].goto(site.address)
        running, around = command_lines(), environments()
    assert proxy.passed
    assert "--proxy-server=" in running
    assert b"HOME=" in around or not Path("/proc/self/environ").exists()
    assert SECRET not in running
    assert SECRET.encode() not in around
    assert SECRET not in caplog.text
    kept = [path for path in home.rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(kept) > 20
    assert not [path for path in kept if SECRET.encode() in path.read_bytes()]
    (home / "identity").rename(home / "away")
    with pytest.raises(VaultError, match=r"browser.proxy_password is sealed and cannot be opened"):
        SyncBrowserManager("alpha", manager=manager, executable=BROWSER).open()
    assert "--user-data-dir=" + str(home) not in command_lines()
    assert not manager.get_profile("alpha").in_use


def test_a_wrong_password_opens_nothing_and_is_not_told(manager, version, site, proxy, monkeypatch):
    wrong = f"wrong-{SECRET}"
    monkeypatch.setenv("PROXY_PASSWORD", wrong)
    with browser(manager, version, **settings_of(proxy)) as (context, _):
        with pytest.raises(sync_api.Error) as caught:
            context.pages[0].goto(site.address)
    assert wrong not in str(caught.value)
    assert proxy.refused
    assert not proxy.passed
    assert not site.headers


def test_a_failed_launch_does_not_tell_the_password(manager, proxy, tmp_path):
    pretender = tmp_path / "chromium"
    pretender.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && exec echo Chromium 156.0.1.2\nexit 9\n'
    )
    pretender.chmod(0o755)
    manager.create_profile("alpha", "custom", browser=settings_of(proxy))
    with pytest.raises(BrowserError) as caught:
        SyncBrowserManager("alpha", manager=manager, executable=pretender).open()
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in str(error)
        error = error.__cause__ or error.__context__


def test_without_the_password_nothing_is_started(manager, proxy, monkeypatch):
    monkeypatch.delenv("PROXY_PASSWORD")
    manager.create_profile("alpha", "custom", browser=settings_of(proxy))
    with pytest.raises(SecretNotFoundError, match="browser.proxy_password needs env:PROXY_PASSWOR"):
        SyncBrowserManager("alpha", manager=manager, executable=BROWSER).open()
    assert "--user-data-dir=" + str(manager.home) not in command_lines()
    assert not manager.get_profile("alpha").in_use
