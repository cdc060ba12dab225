"""What is known of a profile's browser: whether it ended in order, and whether it is logged in.

The record is among the browser data, because it goes wherever these go: into the trash, and back
by undo. Only who holds the profile's lock writes it.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from tweakio import durable
from tweakio.models import format_time, parse_time

if TYPE_CHECKING:
    from datetime import datetime

    from tweakio.layout import ProfilePaths

__all__ = ["BrowserRecord", "LoginStatus", "Running", "read", "write"]

_MOST_EXITS = 1 << 31
_LIMIT = 1 << 16
_SCHEMA = 1
_LOGINS = ("logged_in", "logged_out", "expired")


class Running(NamedTuple):
    """A browser that was started and has not been seen to end.

    Attributes:
        pid: its process; 0 if that was not known yet.
        start: when that began; see ``LockRecord``.
        boot: of the machine.
        host: the machine's name.
        engine: such as ``chromium``.
        version: as the browser names it.
        opened_at: aware, in UTC.
    """

    pid: int
    start: float
    boot: str
    host: str
    engine: str
    version: str
    opened_at: datetime


class LoginStatus(NamedTuple):
    """What was last seen of a login.

    Attributes:
        state: ``logged_in``, ``logged_out`` or ``expired``.
        since: when it became so, aware, in UTC.
        verified_at: when it was last seen to be so.
    """

    state: Literal["logged_in", "logged_out", "expired"]
    since: datetime
    verified_at: datetime


class BrowserRecord(NamedTuple):
    """What is kept of a profile's browser.

    Attributes:
        running: the browser that runs, or that ran when the machine or the program ended.
        unclean_exits: how often a browser did not end in order.
        last_unclean_exit: when that was noticed last; None if it never was.
        login: None if nothing was seen yet.
        session_to_import: whether session.json has to be put into the browser first.
    """

    running: Running | None = None
    unclean_exits: int = 0
    last_unclean_exit: datetime | None = None
    login: LoginStatus | None = None
    session_to_import: bool = False

    def after_unclean_exit(self, moment: datetime) -> BrowserRecord:
        """The record after a browser that did not end in order."""
        return self._replace(
            running=None, unclean_exits=self.unclean_exits + 1, last_unclean_exit=moment
        )


def read(paths: ProfilePaths) -> BrowserRecord:
    """The record of a profile; an empty one if it is missing or cannot be read."""
    try:
        value = json.loads(durable.read_regular(paths.browser_record, _LIMIT))
        return _record(value)
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return BrowserRecord()


def _record(value: Any) -> BrowserRecord:
    if not isinstance(value, dict):
        raise TypeError("no record")
    running, login, last = value.get("running"), value.get("login"), value.get("last_unclean_exit")
    return BrowserRecord(
        running=None if running is None else _running(running),
        unclean_exits=min(max(0, int(value.get("unclean_exits", 0))), _MOST_EXITS),
        last_unclean_exit=None if last is None else parse_time(str(last)),
        login=None if login is None else _login(login),
        session_to_import=value.get("session_to_import") is True,
    )


def _running(value: Any) -> Running:
    return Running(
        pid=int(value["pid"]),
        start=float(value["start"]),
        boot=str(value["boot"]),
        host=str(value["host"]),
        engine=str(value["engine"]),
        version=str(value["version"]),
        opened_at=parse_time(str(value["opened_at"])),
    )


def _login(value: Any) -> LoginStatus:
    if value["state"] not in _LOGINS:
        raise ValueError("not a state of a login")
    state = cast('Literal["logged_in", "logged_out", "expired"]', value["state"])
    return LoginStatus(
        state, parse_time(str(value["since"])), parse_time(str(value["verified_at"]))
    )


def write(paths: ProfilePaths, record: BrowserRecord) -> None:
    """Keep a record, in one step and on the disk.

    Args:
        paths: of a profile whose lock is held.
        record: what to keep.

    Raises:
        OSError: it could not be written; the old one stands.
    """
    running, login, last = record.running, record.login, record.last_unclean_exit
    value = {
        "schema_version": _SCHEMA,
        "running": running and {**running._asdict(), "opened_at": format_time(running.opened_at)},
        "unclean_exits": record.unclean_exits,
        "last_unclean_exit": last and format_time(last),
        "login": login
        and {
            "state": login.state,
            "since": format_time(login.since),
            "verified_at": format_time(login.verified_at),
        },
        "session_to_import": record.session_to_import,
    }
    path = paths.browser_record
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    durable.remove(temporary)  # of a program that was killed while it wrote
    durable.replace(path, json.dumps(value, indent=1).encode() + b"\n", temporary)
