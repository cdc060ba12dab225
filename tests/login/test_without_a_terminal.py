"""Logging in from scripts: pipes instead of a terminal, and nothing secret left anywhere."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest
from cli_helpers import Cli, errors

from login.helpers import (
    NOBODY,
    Phone,
    Running,
    as_nobody,
    browsers,
    check,
    create,
    login_of,
    needs_root,
    operations,
    wait_until,
)
from login.screen import read_png

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("browser")]


class Spy:
    """Reads the arguments of all processes again and again, as ``ps`` shows them to everybody."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.02):
            for name in os.listdir("/proc"):
                if name.isdecimal():
                    with contextlib.suppress(OSError):
                        self.seen.add(Path("/proc", name, "cmdline").read_bytes())


def objects(cli: Cli) -> bytes:
    """Every object of the repository, reachable or not."""
    return subprocess.run(
        ["git", "-C", str(cli.profiles), "cat-file", "--batch-all-objects", "--batch"],
        capture_output=True,
        check=True,
    ).stdout


def test_no_secret_is_left_anywhere(cli, telegram):
    telegram.set_password("correct-horse")
    create(cli, telegram)
    log = ("-vv", "telegram", "login")
    with Spy() as spy, Phone(telegram, "alice") as phone:
        with Running(cli, *log, stdin="wrong-horse\n") as running:
            refused = running.end()
        assert refused.code == 29
        assert "Incorrect password" in refused.err
        with Running(cli, *log, stdin="correct-horse\r\n") as running:
            done = running.end()
        assert done.code == 0, done
        assert done.out == "logged in default\n"
    (device,) = telegram.accounts["alice"].devices.values()
    session = (cli.profiles / "default" / "session.json").read_text()
    assert device.secret in session, "the test knows what a secret is"
    assert device.cookie in session
    assert len(phone.scanned) == 2
    secrets = [*phone.scanned, "wrong-horse", "correct-horse", device.secret, device.cookie]
    said = "".join(part.out + part.err for part in (refused, done))
    assert "debug: the login page shows: needs_password" in said, "the log is on"
    places = {
        "output and log": said.encode(),
        "arguments": b"\n".join(spy.seen),
        "git objects": objects(cli),
        "working files": (cli.profiles / "default" / "metadata.json").read_bytes(),
    }
    for secret in secrets:
        assert {name for name, data in places.items() if secret.encode() in data} == set()
    assert any(b"--user-data-dir=" in arguments for arguments in spy.seen), "the spy looks"


def test_no_secret_of_whatsapp_is_left_anywhere(cli, whatsapp):
    create(cli, whatsapp)
    with Spy() as spy, Phone(whatsapp, "alice") as phone:
        with Running(cli, "--debug", "whatsapp", "login") as running:
            done = running.end()
        assert done.code == 0, done
    create(cli, whatsapp, "second")
    with (
        Spy() as again,
        Running(cli, "-vv", "profile", "login", "second", "--phone", "4915112345678") as running,
    ):
        code = running.wait_for("pairing code: ").partition(": ")[2]
        assert code in running.out, "standard output, which is no log"
        whatsapp.enter_code(code)
        coded = running.end()
    assert coded.code == 0, coded
    said = (done.out + done.err + coded.err).encode()
    places = said, b"\n".join(spy.seen | again.seen), objects(cli)
    for secret in (*phone.scanned, code, code.replace("-", "")):
        assert not any(secret.encode() in data for data in places)
    assert b"4915112345678" not in said + objects(cli)


def test_a_picture_in_a_place_of_ones_choice(cli, whatsapp, tmp_path):
    create(cli, whatsapp)
    file = tmp_path / "my qr.png"
    arguments = ("whatsapp", "login", "--qr-file", "my qr.png")
    with Running(cli, *arguments, stdin="") as running:
        assert running.qr_file() == file
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        first = read_png(file.read_bytes())
        assert first in whatsapp.qr_codes()
        whatsapp.rotate()
        wait_until(lambda: read_png(file.read_bytes()) != first)
        whatsapp.scan(read_png(file.read_bytes()))
        assert running.end().code == 0
    assert not file.exists()


def test_nobody_scans(cli, whatsapp, tmp_path):
    create(cli, whatsapp)
    # Chromium cannot put its socket into a directory with a name like this, and is given another.
    long = tmp_path / ("x" * 100)
    long.mkdir()
    before = cli.head(), (cli.profiles / "default" / "session.json").read_bytes()
    result = cli.run("whatsapp", "login", "--timeout", "2", TMPDIR=str(long))
    assert result.code == 28, result
    (line,) = errors(result)
    assert "not logged in after 2 seconds: the " in line
    assert (cli.head(), (cli.profiles / "default" / "session.json").read_bytes()) == before
    assert browsers(cli.profiles / "default") == []
    assert login_of(cli, "default") is None


def test_a_service_that_cannot_be_reached(cli, whatsapp):
    create(cli, whatsapp)
    whatsapp.go_offline()
    with Running(cli, "whatsapp", "login") as running, Phone(whatsapp, "alice"):
        running.wait_for("the service cannot be reached")
        whatsapp.go_online()
        assert running.end().code == 0


def test_a_login_that_synchronises_has_time_for_it(cli, whatsapp):
    whatsapp.sync_seconds = None
    create(cli, whatsapp)
    with Phone(whatsapp, "alice"), Running(cli, "whatsapp", "login") as running:
        running.wait_for("messages are being synchronised")
        assert running.process.poll() is None
        whatsapp.finish_sync()
        assert running.end().code == 0


def test_the_browser_is_killed_at_the_code(cli, whatsapp):
    create(cli, whatsapp)
    before = cli.head()
    with Running(cli, "whatsapp", "login") as running:
        running.qr_file()
        (pid,) = browsers(cli.profiles / "default")
        os.kill(pid, 9)
        result = running.end()
    assert result.code == 27
    assert len(errors(result)) == 1
    assert cli.head() == before


def test_a_profile_in_use_is_named(cli, whatsapp):
    create(cli, whatsapp)
    with Running(cli, "whatsapp", "login") as running:
        running.qr_file()
        assert check(cli) == {"default": "in_use"}
        refused = cli.run("profile", "clean", "default")
        assert refused.code == 5
        assert f"process {running.process.pid}" in refused.err
        refused = cli.run("profile", "delete", "default", "--force")
        assert refused.code == 5
    assert operations(cli, "default") == ["create"]


@needs_root
def test_as_another_user(whatsapp):
    with tempfile.TemporaryDirectory(prefix="tweakio-test-") as base:
        os.chown(base, NOBODY, NOBODY)
        cli = Cli(Path(base))
        command, changes = as_nobody(base)
        as_user = {"command": command, "changes": changes}
        made = ("profile", "create", "default", "--platform", "whatsapp",
                "--config", f"url={whatsapp.url}")  # fmt: skip
        with Running(cli, *made, **as_user) as running:
            assert running.end().code == 0
        with Spy() as spy, Running(cli, "-v", "whatsapp", "login", **as_user) as running:
            with Phone(whatsapp, "alice"):
                result = running.end()
        assert result.code == 0, result
        session = cli.profiles / "default" / "session.json"
        assert session.stat().st_uid == NOBODY
        assert stat.S_IMODE(session.stat().st_mode) == 0o600
        wanted = f"--user-data-dir={cli.profiles}/default/browser_profile".encode()
        started = [arguments for arguments in spy.seen if wanted in arguments]
        assert started
        # Unlike root's, this user's browser has its sandbox.
        assert not any(b"--no-sandbox" in arguments for arguments in started)


def test_windows_need_a_display(cli, whatsapp):
    create(cli, whatsapp)
    for arguments in (("profile", "open", "default"), ("whatsapp", "login", "--headed")):
        result = cli.run(*arguments)
        assert result.code == 27
        assert "there is no display" in result.err
        assert "hint: " in result.err


def test_mistakes_are_said_before_a_browser_starts(cli, whatsapp):
    create(cli, whatsapp)
    session = cli.profiles / "default" / "session.json"
    before = cli.head(), session.read_bytes()
    for code, arguments in (
        (2, ("--phone", "0151 1234567")),
        (2, ("--qr-file", "no/qr.png")),
        (2, ("--timeout", "soon")),
        (3, ("--profile", "other")),
        (25, ("--browser", "/nowhere/chromium")),
    ):
        result = cli.run("whatsapp", "login", *arguments)
        assert (result.code, len(errors(result))) == (code, 1), result
    assert cli.run("telegram", "login").code == 2
    assert cli.run("telegram", "logout").code == 2
    assert (cli.head(), session.read_bytes()) == before
    cli.ok("profile", "create", "own", "--platform", "custom")
    assert "does not say where" in cli.run("profile", "login", "own").err
    cli.damage("default")
    assert cli.run("whatsapp", "login").code == 7
