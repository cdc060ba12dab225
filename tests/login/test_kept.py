"""A login stays: over delete and undo, recovery and undo, clean; and it ends when it should."""

from __future__ import annotations

import json

import pytest
from cli_helpers import errors
from test_cli_json import CHECK
from test_cli_json import check as contract

from login.helpers import Running, browsers, create, log_in, login_of, operations
from login.screen import Screen

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("browser")]


def test_a_login_stays_until_it_ends(cli, whatsapp, telegram, discord):
    """One long story, because each browser takes seconds to start."""
    create(cli, whatsapp, "ended", "in", "out", "used")
    create(cli, telegram, "tg")
    log_in(cli, whatsapp, "ended", "eve")
    log_in(cli, whatsapp, "in", "ina")
    log_in(cli, telegram, "tg", "bob")

    # Neither deleting nor recovering nor cleaning loses it.
    kept = ("in", "tg")
    cli.ok("profile", "delete", *kept)
    cli.ok("profile", "undo")
    assert [state_of(cli, name) for name in kept] == ["logged_in", "logged_in"]
    cli.ok("profile", "recover", *kept, "--mode", "hard")
    assert [state_of(cli, name) for name in kept] == [None, None]
    cli.ok("profile", "undo")
    cli.ok("profile", "clean", "--all")
    cli.ok("profile", "undo")  # of what the history says of the login of tg, and no more
    assert operations(cli, "tg")[0] == "undo"

    # A logout while the service is away is one here only, and undone.
    whatsapp.go_offline()
    result = cli.ok("whatsapp", "logout", "--profile", "in", "--timeout", "1")
    assert "the service was not told: the service cannot be reached" in result.err
    assert operations(cli, "in")[0] == "logout"
    whatsapp.go_online()
    cli.ok("profile", "undo")
    assert state_of(cli, "in") == "logged_in"

    # Else the service is told. The data come back, and it does not take them any more.
    result = cli.ok("whatsapp", "logout", "--profile", "ended")
    assert result.out == "logged out ended\n"
    # And neither has the other's.
    assert (whatsapp.logged_in(), telegram.logged_in()) == (["ina"], ["bob"])
    assert state_of(cli, "ended") == "logged_out"
    assert operations(cli, "ended")[0] == "logout"
    cli.ok("profile", "undo")
    assert state_of(cli, "ended") == "logged_in"

    create(cli, discord, "away")
    discord.go_offline()
    cli.create("damaged")
    cli.damage("damaged")
    whatsapp.warn("Phone not connected", "ina")
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
        "tg": "logged_in",
        "used": "in_use",
    }
    assert found["in"]["detail"] == "Phone not connected"
    assert found["in"]["since"] < found["in"]["verified_at"]
    assert str(running.process.pid) in found["used"]["detail"]
    assert found["damaged"]["platform"] is None
    assert operations(cli, "ended") == ["expire", *before]
    assert cli.ok("profile", "history", "-n", "1").rows[0][3] == "ended"
    assert browsers(cli.profiles / "ended") == []

    # A person sees a bar and a table. What is known already is not recorded again.
    head = cli.head()
    with Screen(cli, "profile", "check", "ended", "out") as screen:
        assert screen.end() == 30
        assert b"checking" in screen.raw
        lines = screen.text.splitlines()
    assert lines[0].split() == ["ID", "PLATFORM", "LOGIN", "VERIFIED", "DETAIL"]
    assert [line.split()[:3] for line in lines[1:3]] == [
        ["ended", "whatsapp", "expired"],
        ["out", "whatsapp", "logged_out"],
    ]
    assert cli.head() == head


def state_of(cli, name):
    """What is written down; None if the data are not there."""
    try:
        login = login_of(cli, name)
    except FileNotFoundError:
        return None
    return login and login["state"]


def test_what_check_has_to_be_told(cli):
    for arguments in ((), ("a", "--all")):
        assert cli.run("profile", "check", *arguments).code == 2
    cli.create("a")
    assert cli.run("profile", "check", "a", "--jobs", "0").code == 2
    assert cli.run("profile", "check", "b").code == 3
