"""Whose name stands on a commit: what git itself would write."""

from __future__ import annotations

import getpass
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tweakio import ProfileManager, identity


@pytest.fixture
def anonymous(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("GIT_AUTHOR", "GIT_COMMITTER")):
            monkeypatch.delenv(name)
    identity.author.cache_clear()


@pytest.fixture(params=["UTC", "Asia/Kolkata", "America/St_Johns", "Etc/GMT+12", "Etc/GMT-14"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


def test_environment(tmp_path: Path) -> None:
    assert identity.author(tmp_path / "config") == "Tester <tester@example.com>"


@pytest.mark.usefixtures("anonymous")
def test_repository_before_user(tmp_path: Path) -> None:
    config = tmp_path / "config"
    with Path(os.environ["GIT_CONFIG_GLOBAL"]).open("w") as file:
        file.write("[user]\n\tname = Global Person\n\temail = global@example.com\n")
    assert identity.author(tmp_path / "missing") == "Global Person <global@example.com>"
    config.write_text("[user]\n\tname = Local Person\n")
    assert identity.author(config) == "Local Person <global@example.com>"


@pytest.mark.usefixtures("anonymous")
def test_one_of_two_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config"
    config.write_text("[user]\n\tname = Local\n\temail = local@example.com\n")
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Chosen")
    assert identity.author(config) == "Chosen <local@example.com>"


@pytest.mark.usefixtures("anonymous")
def test_nobody(tmp_path: Path) -> None:
    expected = f"{getpass.getuser()} <{getpass.getuser()}@{socket.gethostname()}>"
    assert identity.author(tmp_path / "missing") == expected


@pytest.mark.usefixtures("anonymous")
def test_user_id_without_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr(getpass, "getuser", unknown)
    expected = f"unknown <unknown@{socket.gethostname()}>"
    assert identity.author(tmp_path / "missing") == expected


@pytest.mark.usefixtures("anonymous")
@pytest.mark.parametrize("text", ["[user", "\0\xff", "[user]\nname\n", '[user]\n\tname = "x\n'])
def test_damaged_configuration(tmp_path: Path, text: str) -> None:
    config = tmp_path / "config"
    config.write_text(text, encoding="latin-1")
    assert re.fullmatch(r".+ <.+@.+>", identity.author(config))


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("A <b>\nauthor Evil", "x@y>\n\ntree"),
        ("\u202etxt\0", "<>"),
        ("<>", "a@b"),
        ("Zoë 张", "zoë@example.com"),
    ],
)
def test_nobody_can_write_another_line(
    home: Path, monkeypatch: pytest.MonkeyPatch, name: str, address: str
) -> None:
    monkeypatch.setattr(
        os, "environ", {**os.environ, "GIT_AUTHOR_NAME": name, "GIT_AUTHOR_EMAIL": address}
    )
    identity.author.cache_clear()
    found = identity.author(home / "config")
    assert re.fullmatch(r"[^<>\n\0]+ <[^<>\n\0]*>", found)
    with ProfileManager(home) as manager:
        manager.create_profile("a", "custom")
    monkeypatch.undo()
    profiles = str(home / "profiles")
    done = subprocess.run(
        ["git", "-C", profiles, "fsck", "--strict"], capture_output=True, text=True
    )
    # An empty address is git's own complaint, and not an error to it.
    assert done.returncode == 0, done.stderr
    shown = subprocess.run(
        ["git", "-C", profiles, "log", "-1", "--format=%an <%ae>"], capture_output=True, text=True
    )
    assert shown.stdout.strip() == found


def test_stamp_is_git_s(zone: str, tmp_path: Path) -> None:
    def git(*arguments: str, seconds: int = 0) -> str:
        return subprocess.run(
            ["git", "-C", str(tmp_path), *arguments],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "GIT_AUTHOR_DATE": f"@{seconds} +0000"},
        ).stdout.strip()

    git("init", "-q")
    tree = git("write-tree")
    for seconds in (86_400, 1_700_000_000, 1_720_000_000):
        commit = git("commit-tree", tree, "-m", "x", seconds=seconds)
        # What git makes of the moment in this zone.
        expected = git("log", "-1", "--date=raw-local", "--format=%ad", commit)
        assert identity.stamp(seconds) == expected or expected == str(seconds)
        offset = time.strftime("%z", time.localtime(seconds))
        assert identity.stamp(seconds) == f"{seconds} {offset}"
