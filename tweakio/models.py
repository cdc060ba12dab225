"""What the library hands out: small frozen records, without behaviour and without secrets.

They are named tuples: as dataclasses the records of all modules took 12 of the 70 ms of
``profile list``, because ``dataclasses`` imports ``inspect`` and each class is 0.7 ms of work
(a named tuple 0.1). Use the fields' names; their order is no promise.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = [
    "Change",
    "FieldChange",
    "LockRecord",
    "Profile",
    "ProfileContext",
    "ProfileDiff",
    "RecoveryMode",
    "Status",
    "TrashEntry",
    "composed",
    "format_time",
    "is_usual",
    "parse_time",
    "utc_now",
]

Status = Literal["active", "inactive", "corrupted"]
RecoveryMode = Literal["soft", "hard"]


def composed(text: str) -> str:
    """A text in the one form of Unicode (NFC) in which equal texts are equal.

    Keyboards and file systems give either form of a letter with an accent.
    """
    if text.isascii():
        return text
    import unicodedata

    return unicodedata.normalize("NFC", text)


def utc_now() -> datetime:
    """The present moment in UTC, with microseconds."""
    return datetime.now(timezone.utc)


def format_time(moment: datetime) -> str:
    """ISO 8601 in UTC with microseconds and a ``Z``, as metadata.json has it.

    Microseconds, because ``created_at`` tells a profile from a later one of the same id.
    """
    plain = moment.astimezone(timezone.utc).replace(tzinfo=None)
    return plain.isoformat(timespec="microseconds") + "Z"


def parse_time(text: str) -> datetime:
    """Read an ISO 8601 timestamp that names its offset.

    Raises:
        ValueError: if it is not one, or has no offset from UTC.
    """
    # Python 3.10's fromisoformat knows no "Z".
    moment = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith(("Z", "z")) else text)
    if moment.tzinfo is None:
        raise ValueError("a timestamp needs an offset from UTC, such as 'Z'")
    if not is_usual(moment):
        raise ValueError("too long ago or too far away")
    return moment.astimezone(timezone.utc)


def is_usual(moment: datetime) -> bool:
    """Whether a moment can be converted to every time zone."""
    return 1 < moment.year < 9999


class LockRecord(NamedTuple):
    """Who holds a lock.

    Attributes:
        pid: process id.
        start: when that process started, in seconds since the epoch; tells a reused pid.
        boot: identity of the machine's boot, if the platform has one.
        host: the machine's name.
    """

    pid: int
    start: float
    boot: str
    host: str


_NO_CONFIG: Mapping[str, Any] = {}


class Profile(NamedTuple):
    """One account's profile as it stood when it was read.

    Attributes:
        id: unique in the repository.
        platform: the registered platform's name.
        status: ``active`` (selected), ``inactive`` or ``corrupted``.
        created_at: aware, in UTC; with the id the profile's identity.
        last_used: aware, in UTC; the last activation, at first the creation.
        tags: sorted, without duplicates.
        note: free text.
        platform_version: as the user set it.
        platform_config: the platform's own settings; secrets only by reference.
        lock_pid: the live process that holds the profile's lock, if any.
        in_use: whether a live process holds the profile's lock.
        path: the profile's directory.
        problem: why it is corrupted, in one line.
        browser: how its browser presents itself and goes online, as far as that was set:
            ``locale``, ``timezone``, ``window``, ``color_scheme``, ``proxy`` and
            ``proxy_password`` (a reference).
    """

    id: str
    platform: str
    status: Status
    created_at: datetime | None
    last_used: datetime | None
    path: Path
    tags: tuple[str, ...] = ()
    note: str = ""
    platform_version: str | None = None
    platform_config: Mapping[str, Any] = _NO_CONFIG
    lock_pid: int | None = None
    in_use: bool = False
    problem: str | None = None
    browser: Mapping[str, Any] = _NO_CONFIG

    def __repr__(self) -> str:
        """Without the platform's and the browser's settings, which do not belong into a log."""
        shown = (
            f"{name}={value!r}"
            for name, value in zip(self._fields, self, strict=True)
            if name not in ("platform_config", "browser")
        )
        return f"Profile({', '.join(shown)})"


ProfileContext = Profile
"""The specification's name of what ``create_profile`` returns."""


class FieldChange(NamedTuple):
    """One field of metadata.json before and after; None where it was absent."""

    field: str
    before: Any
    after: Any


class ProfileDiff(NamedTuple):
    """What a change did to one profile.

    Attributes:
        kind: ``created``, ``deleted``, ``changed`` or ``invalid`` (unreadable metadata on
            one side, as a person may have committed).
    """

    profile_id: str
    kind: Literal["created", "deleted", "changed", "invalid"]
    fields: tuple[FieldChange, ...] = ()


class Change(NamedTuple):
    """One commit of the history.

    Attributes:
        revision: the commit's id, 40 hexadecimal digits.
        operation: ``create``, ``activate``, ... or ``commit`` for a person's own.
        profiles: the ids it touched.
        author: name and address.
        time: when, with the author's offset from UTC.
        command: what ran, such as ``profile create`` or ``ProfileManager.delete_profile``.
        summary: the message's first line.
    """

    revision: str
    operation: str
    profiles: tuple[str, ...]
    author: str
    time: datetime
    command: str
    summary: str


class TrashEntry(NamedTuple):
    """Something kept in the trash or among the rescued.

    Attributes:
        name: unique; what the commands take.
        profile_id: whose it is.
        kind: ``deleted`` (a whole profile), ``reset`` (session and browser data),
            ``unknown`` (a directory HEAD does not know) or ``damaged`` (bytes of a file).
        profile_created_at: the profile's identity besides its id; None if unknown.
        time: when it was put there.
        path: its directory.
        size: bytes on disk.
    """

    name: str
    profile_id: str
    kind: Literal["deleted", "reset", "unknown", "damaged"]
    profile_created_at: datetime | None
    time: datetime
    path: Path
    size: int
