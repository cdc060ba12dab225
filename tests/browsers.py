"""What the tests with a real browser share: whether there is one, a page, and processes."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from tests.servers import Server
from tweakio.browser import finder
from tweakio.errors import BrowserNotFoundError

ROOT = Path(__file__).resolve().parent.parent
ARGUMENTS = ("--disable-quic",)
"""So that a browser talks to 127.0.0.1 only; the rest of what is needed, tweakio gives itself."""
PATIENCE = 60.0
"""Seconds after which a condition is taken for one that never comes."""


@lru_cache(maxsize=1)
def _look() -> tuple[str | None, str]:
    if importlib.util.find_spec("playwright") is None:
        return None, "Playwright is not installed"
    try:
        return finder.find().path, ""
    except BrowserNotFoundError as error:
        return None, str(error)[:200]


# Before a test points HOME elsewhere: Playwright's own browsers are below it.
_look()


def chromium_path() -> str | None:
    """The browser that the tests use; None if none can be had."""
    return _look()[0]


needs_browser = pytest.mark.skipif(chromium_path() is None, reason=_look()[1] or "no browser")


def environment(**more: str) -> dict[str, str]:
    """For a program that opens browsers: the test's environment with the browser in it."""
    return {**os.environ, finder.VARIABLE: chromium_path() or "", **more}


def wait_until(condition: Callable[[], Any], what: str = "", seconds: float = PATIENCE) -> Any:
    """Wait until something is true, and return it."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"still not so: {what or condition}"
        time.sleep(0.02)
    return found


# A page

_PAGE = b"<!doctype html><title>page</title><p>A page of the tests."
_WORKER = b"""
self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", event => event.waitUntil(self.clients.claim()));
"""


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        script = self.path.endswith(".js")
        body = _WORKER if script else _PAGE
        self.send_response(200)
        self.send_header("Content-Type", "text/javascript" if script else "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Server(Server):
    def handle_error(self, *_: object) -> None:
        """A browser that is killed leaves broken connections, which are no news."""


@contextlib.contextmanager
def page_server() -> Iterator[str]:
    """A service with one page and a service worker; its origin."""
    server = _Server(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# Another program that opens a profile


class Opener:
    """A program that opens a profile, and then does what it is told.

    Args:
        home: of the profile.
        profile: its id.
        *options: see ``tests.browser.opener``.
        before: what runs it, such as another user.
        **keywords: of ``subprocess.Popen``.

    Attributes:
        browser: the browser's process id.
        driver: that of Playwright's driver.
    """

    def __init__(
        self,
        home: Path,
        profile: str,
        *options: str,
        before: Sequence[str] = (),
        **keywords: Any,
    ) -> None:
        keywords.setdefault("env", environment())
        self.process = subprocess.Popen(
            [*before, sys.executable, "-m", "tests.browser.opener", str(home), profile, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            **keywords,
        )
        self.browser = self.driver = 0

    def opened(self) -> Opener:
        """Wait until it is open."""
        answer = self._answer()
        self.browser, self.driver = answer["browser"], answer["driver"]
        return self

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"it ended with {self.process.wait()}"
        return json.loads(line)

    def tell(self, command: str, *arguments: Any) -> Any:
        """Let it do something, and return what came of it."""
        assert self.process.stdin is not None
        print(json.dumps([command, *arguments]), file=self.process.stdin, flush=True)
        return self._answer()

    def end(self) -> int:
        """Let it close everything, and return its exit code."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        return self.process.wait(PATIENCE)

    def __enter__(self) -> Opener:  # noqa: PYI034 - Self came with Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                stream.close()
