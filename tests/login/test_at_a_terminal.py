"""The whole command line at an emulated terminal, in a real browser, against stand-in services."""

from __future__ import annotations

import signal
import stat
import tempfile
import termios
from pathlib import Path

import pytest

from login.helpers import browsers, create, ended_in_order, login_of, operations
from login.screen import Screen, read_png

BLOCKS = "\u2580\u2584\u2588"

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("browser")]


def place_of_code(screen: Screen) -> tuple[int, int] | None:
    """The first and the last line of the screen that a QR code stands on."""
    found = [number for number, line in enumerate(screen.lines) if set(line) & set(BLOCKS)]
    return (found[0], found[-1]) if found else None


def test_a_qr_code_that_changes_is_drawn_again_in_its_place(cli, whatsapp):
    create(cli, whatsapp)
    with Screen(cli, "whatsapp", "login") as screen:
        first = screen.qr_other_than(None)
        assert first in whatsapp.qr_codes()
        place = place_of_code(screen)
        whatsapp.rotate()
        second = screen.qr_other_than(first)
        assert second in whatsapp.qr_codes()
        assert place_of_code(screen) == place
        assert screen.text.count("scan it with WhatsApp") == 1
        whatsapp.make_stale()  # the page wants a click before it shows the next
        third = screen.qr_other_than(second)
        whatsapp.scan(third)
        assert screen.end() == 0
        # Nothing is left of the code, and nothing else stands on the screen.
        assert screen.text == "logged in default"
    assert whatsapp.logged_in() == ["alice"]
    assert login_of(cli, "default")["state"] == "logged_in"
    session = cli.profiles / "default" / "session.json"
    assert stat.S_IMODE(session.stat().st_mode) == 0o600
    assert operations(cli, "default") == ["login", "create"]
    assert browsers(cli.profiles / "default") == []


@pytest.fixture
def temporary():
    # Chromium puts a socket into it, whose name must not be long.
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as directory:
        yield Path(directory)


def test_a_small_terminal_gets_a_picture(cli, whatsapp, temporary):
    create(cli, whatsapp)
    small = {"rows": 24, "columns": 80, "TMPDIR": str(temporary)}
    with Screen(cli, "whatsapp", "login", **small) as screen:
        screen.wait_for("it is renewed there")
        assert screen.shows("57 columns and 32 lines")
        (path,) = temporary.glob("tweakio-*/qr.png")
        assert screen.shows(f"the QR code is in {path};")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert place_of_code(screen) is None
        first = read_png(path.read_bytes())
        whatsapp.rotate()
        screen.wait_for(lambda: read_png(path.read_bytes()) != first)
        # Larger, and it is drawn.
        screen.resize(40, 100)
        whatsapp.scan(screen.qr_other_than(None))
        assert screen.end() == 0
    assert not path.parent.exists()
    assert whatsapp.logged_in() == ["alice"]


def test_a_pairing_code(cli, whatsapp):
    create(cli, whatsapp)
    with Screen(cli, "profile", "login", "default", "--phone", "+49 (151) 1234-5678") as screen:
        screen.wait_for("pairing code: ")
        code = screen.text.partition("pairing code: ")[2].split()[0]
        (page,) = whatsapp.open_pages()
        assert page.view["phone"] == "4915112345678"
        assert screen.qr() is None
        whatsapp.enter_code(code)
        assert screen.end() == 0
    assert whatsapp.logged_in() == ["alice"]
    assert code not in cli.ok("profile", "history").out


def test_a_password_wrong_and_right(cli, telegram):
    telegram.set_password("correct horse \u00fc")
    create(cli, telegram)
    with Screen(cli, "telegram", "login") as screen:
        telegram.scan(screen.qr_other_than(None))
        screen.wait_for("password for telegram")
        screen.type("wrong horse\n")
        screen.wait_for("the service says: ")
        screen.wait_for("password for telegram")
        screen.type("correct horse \u00fc\n")
        assert screen.end() == 0
        assert b"horse" not in screen.raw
    assert telegram.logged_in() == ["alice"]


def echoes(screen: Screen) -> bool:
    return bool(termios.tcgetattr(screen.master)[3] & termios.ECHO)


@pytest.mark.parametrize("at", ["qr", "password"])
def test_ctrl_c_leaves_everything_as_it_was(cli, telegram, at):
    telegram.set_password("secret")
    create(cli, telegram)
    before = cli.head(), (cli.profiles / "default" / "session.json").read_bytes()
    with Screen(cli, "telegram", "login") as screen:
        code = screen.qr_other_than(None)
        if at == "password":
            telegram.scan(code)
            screen.wait_for("password for telegram")
            assert not echoes(screen)
        screen.type("\x03")
        assert screen.end() == 130
        assert echoes(screen)
        assert screen.text.endswith("tweakio: interrupted")
        assert screen.qr() is None
    assert (cli.head(), (cli.profiles / "default" / "session.json").read_bytes()) == before
    assert browsers(cli.profiles / "default") == []
    status = cli.ok("profile", "status", "default")
    assert "in_use\tno" in status.out
    assert ended_in_order(cli, "default")


def test_a_window_that_is_closed_closes_the_browser_as_well(cli, whatsapp):
    create(cli, whatsapp)
    before = cli.head()
    with Screen(cli, "whatsapp", "login") as screen:
        screen.qr_other_than(None)
        screen.hang_up()
        assert screen.end() == -signal.SIGHUP
    assert cli.head() == before
    assert browsers(cli.profiles / "default") == []
    assert login_of(cli, "default") is None
    assert ended_in_order(cli, "default")
