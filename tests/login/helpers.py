"""What the tests of logging in share."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import site
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_helpers import COMMAND, ROOT, TIMEOUT, Cli, Result, environment, wait_until
from standin import Discord, NotCurrentError, Service


def find_browser() -> str | None:
    """The browser that tweakio would take."""
    from tweakio.browser import finder
    from tweakio.errors import BrowserNotFoundError

    try:
        return str(finder.find().path)
    except BrowserNotFoundError:
        return None


def create(cli: Cli, service: Service, *profile_ids: str) -> None:
    """Profiles whose service is a stand-in."""
    cli.ok("profile", "create", *(profile_ids or ("default",)), "--platform", service.name,
           "--config", f"url={service.url}")  # fmt: skip


def browsers(profile: Path) -> list[int]:
    """The browsers that run on a profile's data, without their helpers."""
    wanted = f"--user-data-dir={profile / 'browser_profile'}".encode()
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with contextlib.suppress(OSError):
                arguments = Path("/proc", name, "cmdline").read_bytes().split(b"\0")
                if wanted in arguments and not any(a.startswith(b"--type=") for a in arguments):
                    stat = Path("/proc", name, "stat").read_bytes().rpartition(b")")[2].split()
                    if stat[0] != b"Z":
                        parents[int(name)] = int(stat[1])
    # Between fork and exec a helper still has the browser's arguments.
    return [pid for pid, parent in parents.items() if parent not in parents]


def login_of(cli: Cli, profile_id: str) -> dict[str, Any] | None:
    """What is written down of a profile's login."""
    record = cli.profiles / profile_id / "browser_profile" / "tweakio.json"
    found: dict[str, Any] | None = json.loads(record.read_bytes())["login"]
    return found


def ended_in_order(cli: Cli, profile_id: str) -> bool:
    """Whether the profile's browser has been closed each time as it should be."""
    record = cli.profiles / profile_id / "browser_profile" / "tweakio.json"
    value = json.loads(record.read_bytes())
    return value["running"] is None and value["unclean_exits"] == 0


def operations(cli: Cli, profile_id: str) -> list[str]:
    """A profile's history, newest first."""
    rows = cli.ok("profile", "history", profile_id).rows
    return [row[2] for row in rows]


class Running:
    """One run of ``tweakio`` with pipes, as in a script."""

    def __init__(self, cli: Cli, *arguments: str, stdin: str = "", **options: Any) -> None:
        changes = options.pop("changes", {})
        self.process = subprocess.Popen(
            [*options.pop("command", COMMAND), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(cli.base, **changes),
            cwd=cli.base,
            **options,
        )
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(stdin.encode())
            self.process.stdin.close()
        self.out = self.err = ""
        self._readers = [
            threading.Thread(target=self._read, args=(name,), daemon=True)
            for name in ("out", "err")
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(15)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def _read(self, name: str) -> None:
        stream = self.process.stdout if name == "out" else self.process.stderr
        assert stream is not None
        with stream:
            for line in stream:
                setattr(self, name, getattr(self, name) + line.decode("utf-8", "replace"))

    def wait_for(self, text: str, seconds: float = TIMEOUT) -> str:
        """Wait for a line on standard error or output that has this text; the line."""

        def line() -> str | None:
            lines = (self.err + self.out).splitlines()
            return next((line for line in lines if text in line), None)

        deadline = time.monotonic() + seconds
        while (found := line()) is None:
            assert time.monotonic() < deadline, f"waited in vain for {text!r}: {self.err}"
            ended = self.process.poll() is not None
            if ended and not any(reader.is_alive() for reader in self._readers):
                found = line()
                assert found is not None, f"ended before {text!r}: {self.err}"
                return found
            time.sleep(0.02)
        return found

    def qr_file(self) -> Path:
        """The picture that the run names."""
        line = self.wait_for("the QR code is in ")
        return Path(line.partition("the QR code is in ")[2].partition(";")[0])

    def end(self, seconds: float = TIMEOUT) -> Result:
        code = self.process.wait(seconds)
        for reader in self._readers:
            reader.join(5)
        return Result(code, self.out, self.err)


NOBODY = 65534
needs_root = pytest.mark.skipif(
    os.name != "posix" or os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="only root can become another user, with setpriv",
)
_CAN_RUN = """\
import subprocess, sys, tweakio.manager, playwright.async_api
subprocess.run(["sh", "-c", 'exec "$0" -V', sys.executable], check=True)
"""


def as_nobody(base: str) -> tuple[list[str], dict[str, str]]:
    """What runs the command as a user without rights, who has to be able to read Python.

    Args:
        base: a directory for temporary files.

    Returns:
        The command, and changes of the environment.
    """
    become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    packages = os.pathsep.join([str(ROOT), *site.getsitepackages()])
    changes = {"PYTHONPATH": packages, "TMPDIR": base, "PYTHONDONTWRITEBYTECODE": "1"}
    # The one that runs the tests may be in root's own home.
    for python in ("/usr/bin/python3", sys.executable):
        command = [*become, python, "-c", _CAN_RUN]
        if subprocess.run(command, capture_output=True, cwd="/", env=changes).returncode == 0:
            return [*become, python, "-m", "tweakio"], changes
    pytest.skip("no other user can run this Python")


class Phone:
    """Somebody who scans whatever QR code comes, and confirms, in the background.

    Args:
        service: where.
        account: whose phone it is.
        when: whether the code can be seen yet.
    """

    def __init__(
        self, service: Service, account: str, when: Callable[[], bool] = lambda: True
    ) -> None:
        self._service = service
        self._account = account
        self._when = when
        self._stop = threading.Event()
        self.scanned: list[str] = []
        self._thread = threading.Thread(target=self._scan, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _scan(self) -> None:
        while not self._stop.wait(0.02):
            for code in self._service.qr_codes() if self._when() else ():
                with contextlib.suppress(NotCurrentError):
                    self._service.scan(code, self._account)
                    self.scanned.append(code)
            if isinstance(self._service, Discord):
                self._service.confirm(self._account)


def log_in(cli: Cli, service: Service, profile_id: str = "default", account: str = "alice") -> None:
    """Log a profile in, as in a script."""
    with Phone(service, account), Running(cli, "profile", "login", profile_id) as running:
        result = running.end()
    assert result.code == 0, result
    assert result.out == f"logged in {profile_id}\n"


def check(cli: Cli, *arguments: str) -> dict[str, str]:
    """The state of each profile, as ``profile check`` tells it."""
    result = cli.run("profile", "check", *(arguments or ("--all",)))
    found = {row[0]: row[2] for row in result.rows}
    assert found, result
    good = set(found.values()) <= {"logged_in", "in_use"}
    assert result.code == (0 if good else 30), result
    return found


__all__ = ["NOBODY", "Phone", "Running", "as_nobody", "browsers", "check", "create",
           "ended_in_order", "find_browser", "log_in", "login_of", "needs_root",
           "operations", "wait_until"]  # fmt: skip
