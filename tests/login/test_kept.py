"""A login stays: over delete and undo, recovery and undo, clean; and it ends when it should."""

from __future__ import annotations

import json

import pytest
from cli_helpers import errors
from test_cli_json import CHECK
from test_cli_json import check as contract

from login.helpers import Running, browsers, check, create, log_in, login_of, operations
from login.screen import Screen

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("browser")]


def test_delete_recovery_and_clean_do_not_lose_a_login(cli, whatsapp, telegram):
    create(cli, whatsapp, "wa")
    create(cli, telegram, "tg")
    log_in(cli, whatsapp, "wa", "alice")
    log_in(cli, telegram, "tg", "bob")
    cli.ok("profile", "delete", "wa", "tg")
    cli.ok("profile", "undo")
    assert login_of_all(cli) == {"wa": "logged_in", "tg": "logged_in"}
    cli.ok("profile", "recover", "wa", "tg", "--mode", "hard")
    assert login_of_all(cli) == {"wa": None, "tg": None}
    cli.ok("profile", "undo")
    cli.ok("profile", "clean", "--all")
    cli.ok("profile", "undo")  # of what the history says of the login of tg, and no more
    assert operations(cli, "tg")[0] == "undo"
    assert check(cli) == {"tg": "logged_in", "wa": "logged_in"}
    # And neither has the other's.
    assert (whatsapp.logged_in(), telegram.logged_in()) == (["alice"], ["bob"])


def login_of_all(cli):
    found = {}
    for name in ("wa", "tg"):
        try:
            login = login_of(cli, name)
        except FileNotFoundError:
            login = None
        found[name] = login and login["state"]
    return found


def test_a_logout_is_told_to_the_service_and_undone(cli, whatsapp):
    create(cli, whatsapp)
    log_in(cli, whatsapp)
    result = cli.ok("whatsapp", "logout")
    assert result.out == "logged out default\n"
    assert whatsapp.logged_in() == []
    assert login_of(cli, "default")["state"] == "logged_out"
    assert operations(cli, "default")[0] == "logout"
    cli.ok("profile", "undo")
    assert login_of(cli, "default")["state"] == "logged_in"
    # The data are back, and the service does not take them any more.
    assert check(cli) == {"default": "expired"}
    assert operations(cli, "default")[0] == "expire"


def test_a_logout_while_the_service_is_away(cli, whatsapp):
    create(cli, whatsapp)
    log_in(cli, whatsapp)
    whatsapp.go_offline()
    result = cli.ok("whatsapp", "logout", "--timeout", "1")
    assert "the service was not told: the service cannot be reached" in result.err
    assert operations(cli, "default")[0] == "logout"
    whatsapp.go_online()
    cli.ok("profile", "undo")
    assert check(cli) == {"default": "logged_in"}


def test_check_tells_each_state(cli, whatsapp, telegram):
    names = ["ended", "in", "out", "used"]
    create(cli, whatsapp, *names)
    create(cli, telegram, "away")
    cli.create("damaged")
    cli.damage("damaged")
    log_in(cli, whatsapp, "ended", "eve")
    log_in(cli, whatsapp, "in", "ina")
    whatsapp.log_out_remotely("eve")
    whatsapp.warn("Phone not connected", "ina")
    telegram.go_offline()
    before = operations(cli, "ended")
    with Running(cli, "profile", "login", "used") as running:
        running.qr_file()
        result = cli.run("profile", "check", "--all", "--json", "--jobs", "3")
        assert result.code == 30
        assert "away, damaged, ended and 1 more" in errors(result)[0]
    contract(json.loads(result.out), [CHECK])
    found = {item["profile_id"]: item for item in json.loads(result.out)}
    assert {name: item["state"] for name, item in found.items()} == {
        "away": "offline",
        "damaged": "corrupted",
        "ended": "expired",
        "in": "logged_in",
        "out": "logged_out",
        "used": "in_use",
    }
    assert found["in"]["detail"] == "Phone not connected"
    assert found["in"]["since"] < found["in"]["verified_at"]
    assert str(running.process.pid) in found["used"]["detail"]
    assert found["damaged"]["platform"] is None
    assert operations(cli, "ended") == ["expire", *before]
    assert cli.ok("profile", "history", "-n", "1").rows[0][3] == "ended"
    # What is known already is not recorded again.
    head = cli.head()
    assert check(cli, "ended") == {"ended": "expired"}
    assert cli.head() == head
    assert browsers(cli.profiles / "ended") == []


def test_check_shows_a_bar_and_a_table(cli, whatsapp):
    create(cli, whatsapp, "one", "two")
    with Screen(cli, "profile", "check", "--all") as screen:
        assert screen.end() == 30
        assert b"checking" in screen.raw
        lines = screen.text.splitlines()
    assert lines[0].split() == ["ID", "PLATFORM", "LOGIN", "VERIFIED", "DETAIL"]
    assert [line.split()[:3] for line in lines[1:3]] == [
        ["one", "whatsapp", "logged_out"],
        ["two", "whatsapp", "logged_out"],
    ]


def test_what_check_has_to_be_told(cli):
    for arguments in ((), ("a", "--all")):
        assert cli.run("profile", "check", *arguments).code == 2
    cli.create("a")
    assert cli.run("profile", "check", "a", "--jobs", "0").code == 2
    assert cli.run("profile", "check", "b").code == 3
