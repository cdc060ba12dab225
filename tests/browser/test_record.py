"""What is kept of a browser: complete, private, and never in the way."""

from __future__ import annotations

import json
import os
from datetime import datetime, timedelta, timezone

import pytest

from tweakio.browser import record
from tweakio.browser.record import BrowserRecord, LoginStatus, Running
from tweakio.layout import ProfilePaths

NOW = datetime(2026, 2, 10, 14, 30, 0, 123456, tzinfo=timezone.utc)
RUNNING = Running(4711, 12.5, "boot", "host", "chromium", "156.0.1.2", NOW)
LOGIN = LoginStatus("expired", NOW, NOW + timedelta(hours=1))


@pytest.fixture
def paths(tmp_path):
    found = ProfilePaths(tmp_path)
    found.browser_profile.mkdir()
    return found


@pytest.mark.parametrize(
    "kept",
    [
        BrowserRecord(),
        BrowserRecord(RUNNING),
        BrowserRecord(RUNNING, 3, NOW, LOGIN, session_to_import=True),
    ],
)
def test_what_is_written_is_read(paths, kept):
    record.write(paths, kept)
    assert record.read(paths) == kept
    assert os.stat(paths.browser_record).st_mode & 0o777 == 0o600
    assert os.listdir(paths.browser_profile) == ["tweakio.json"]


def test_a_missing_one_is_empty(tmp_path):
    assert record.read(ProfilePaths(tmp_path / "nothing")) == BrowserRecord()


def damaged():
    good = json.loads(
        b'{"running": null, "unclean_exits": 0, "last_unclean_exit": null, "login": null}'
    )
    yield from (b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b" " * (1 << 17))
    for name, value in (
        ("running", {}),
        ("running", [1]),
        ("running", {**RUNNING._asdict(), "opened_at": "yesterday"}),
        ("unclean_exits", "many"),
        ("last_unclean_exit", 5),
        ("login", {"state": "owner", "since": "2026-02-10T00:00:00Z"}),
    ):
        yield json.dumps({**good, name: value}).encode()


@pytest.mark.parametrize("content", list(damaged()))
def test_a_damaged_one_is_empty(paths, content):
    paths.browser_record.write_bytes(content)
    assert record.read(paths) == BrowserRecord()


def test_a_link_is_not_followed(paths, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine")
    paths.browser_record.symlink_to(elsewhere)
    assert record.read(paths) == BrowserRecord()
    record.write(paths, BrowserRecord(unclean_exits=1))
    assert elsewhere.read_text() == "mine"
    assert record.read(paths).unclean_exits == 1


def test_the_remains_of_a_killed_writer_are_no_obstacle(paths):
    left = paths.browser_profile / f".tweakio.json.{os.getpid()}"
    left.write_bytes(b"half")
    record.write(paths, BrowserRecord(unclean_exits=2))
    assert record.read(paths).unclean_exits == 2
    assert not left.exists()


def test_an_unclean_exit_is_counted():
    kept = BrowserRecord(RUNNING, 1, None, LOGIN).after_unclean_exit(NOW)
    assert kept == BrowserRecord(None, 2, NOW, LOGIN)
