"""What encrypted data is for, said inside of it: whoever moves it elsewhere cannot change that.

Encryption hides a content and does not say whose it is. Who can push, or write to a snapshot
store, could give one profile's session to another one, or send it to a proxy as its password. So
a header is encrypted with each content: what it is, of which profile, and a counter. It is one
line, ``tweakio/1`` and a JSON object; the content follows byte for byte.
"""

from __future__ import annotations

import json
import struct
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Literal, NamedTuple

from tweakio.errors import NewerFormatError, VaultError
from tweakio.models import format_time, parse_time

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

__all__ = [
    "AHEAD",
    "LONGEST",
    "Bound",
    "Place",
    "Unframed",
    "bind",
    "counter_of",
    "framed",
    "is_bound",
    "is_too_new",
    "now",
    "read",
    "session",
    "setting",
    "shown_time",
    "snapshot",
]

_FAMILY = b"tweakio/"
_BEGIN = b"tweakio/1 "
LONGEST = 2048
"""Bytes that a header may have; ours have some 200."""
AHEAD = 24 * 60 * 60 * 1000
"""Milliseconds that a counter may be ahead of this machine's clock. Whoever can push can encrypt
for us with any counter: one of the year 3000 would make every later one too old."""
_MOST = 1 << 53

Purpose = Literal["session", "setting", "snapshot"]
_PURPOSES = ("session", "setting", "snapshot")

# A zstd frame that every decompressor skips, so that `age -d | zstd -d | tar x` works.
_FRAME = struct.Struct("<II")
_MAGIC = 0x184D2A5E


class Place(NamedTuple):
    """What something encrypted is for.

    Attributes:
        purpose: ``session``, ``setting`` or ``snapshot``.
        profile_id: whose.
        created_at: of the profile, which tells it from a later one of the same id; in the form of
            ``format_time``.
        name: of the setting, such as ``browser.proxy_password``, or of the snapshot; empty for a
            session.
    """

    purpose: Purpose
    profile_id: str
    created_at: str
    name: str = ""

    @property
    def text(self) -> str:
        """The place within its profile, for notes: ``session`` or ``setting KEY``."""
        return f"{self.purpose} {self.name}".rstrip()

    @property
    def described(self) -> str:
        """For people, who may read what somebody else wrote."""
        owner = f"profile '{_plain(self.profile_id)}'"
        if self.purpose == "session":
            return f"the session of {owner}"
        return f"the {self.purpose} {_plain(self.name)} of {owner}"

    @property
    def where(self) -> str:
        """The same as the place where something was found."""
        profile_id = _plain(self.profile_id)
        if self.purpose == "session":
            return f"the encrypted session in '{profile_id}'"
        return f"the encrypted {self.purpose} {_plain(self.name)} in '{profile_id}'"

    def difference(self, said: Place) -> str:
        """How what was found here belongs to another place; empty if it is this one's.

        Args:
            said: what the header says.
        """
        if said == self:
            return ""
        if (said.purpose, said.name) != (self.purpose, self.name):
            return f"{self.where} is {said.described}"
        if said.profile_id != self.profile_id:
            return f"{self.where} belongs to profile '{_plain(said.profile_id)}'"
        return (
            f"{self.where} belongs to another profile of this name, created {said.created_at[:19]}Z"
        )


class Bound(NamedTuple):
    """Something decrypted.

    Attributes:
        place: what it is for; None if it does not say so, as before there were headers.
        counter: milliseconds since 1970, more than any before it at its place; 0 if it has none.
        content: without the header.
    """

    place: Place | None
    counter: int
    content: bytes

    def __repr__(self) -> str:
        return f"Bound(place={self.place!r}, counter={self.counter})"


def session(profile_id: str, created_at: datetime | str) -> Place:
    """The place of a profile's session."""
    return Place("session", profile_id, _canonical(created_at))


def setting(profile_id: str, created_at: datetime | str, key: str) -> Place:
    """The place of a secret in a profile's settings.

    Args:
        profile_id: whose.
        created_at: of the profile.
        key: such as ``browser.proxy_password`` or ``platform_config.token``.
    """
    return Place("setting", profile_id, _canonical(created_at), key)


def snapshot(profile_id: str, created_at: datetime | str, name: str) -> Place:
    """The place of a snapshot; its counter is its time."""
    return Place("snapshot", profile_id, _canonical(created_at), name)


def _canonical(moment: datetime | str) -> str:
    return format_time(parse_time(moment) if isinstance(moment, str) else moment)


def counter_of(moment: datetime) -> int:
    """A moment as a counter."""
    return max(0, int(moment.timestamp() * 1000))


def now() -> int:
    """The present moment as a counter."""
    return max(0, time.time_ns() // 1_000_000)


def is_too_new(counter: int) -> bool:
    """Whether a counter is so far ahead of this machine's clock that it is not believed."""
    return counter > now() + AHEAD


def shown_time(counter: int) -> str:
    """A counter as people read it."""
    try:
        moment = datetime.fromtimestamp(counter / 1000, timezone.utc)
    except (OverflowError, OSError, ValueError):
        return f"the year {1970 + counter // 31_556_952_000}"
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def bind(place: Place, counter: int, content: bytes) -> bytes:
    """A content as it is encrypted: with what it is for."""
    return header(place, counter) + content


def header(place: Place, counter: int) -> bytes:
    """What stands before a content."""
    value: dict[str, object] = {"purpose": place.purpose, "profile_id": place.profile_id}
    value["created_at"] = place.created_at
    if place.name:
        value["name"] = place.name
    value["counter"] = counter
    return _BEGIN + json.dumps(value, separators=(",", ":")).encode() + b"\n"


def is_bound(content: bytes) -> bool:
    """Whether a content begins with a header, as tweakio of any version writes it."""
    return content.startswith(_FAMILY)


def read(plain: bytes) -> Bound:
    """Take a decrypted content apart.

    Raises:
        VaultError: its header cannot be read.
        NewerFormatError: a newer tweakio has written it.
    """
    if not is_bound(plain):
        return Bound(None, 0, plain)
    end = plain.find(b"\n", 0, LONGEST)
    if end < 0:
        raise _unreadable()
    place, counter = _parse(plain[: end + 1])
    return Bound(place, counter, plain[end + 1 :])


def _parse(line: bytes) -> tuple[Place, int]:
    if not line.startswith(_BEGIN):
        raise NewerFormatError("a newer tweakio has encrypted it", hint="update tweakio")
    try:
        value = json.loads(line[len(_BEGIN) :])
        name, counter = value.get("name", ""), value["counter"]
        texts = (value["profile_id"], value["created_at"], name)
        if (
            value["purpose"] not in _PURPOSES
            or not all(isinstance(text, str) for text in texts)
            or type(counter) is not int
            or not 0 < counter < _MOST
        ):
            raise ValueError("not a header")
        created_at = _canonical(value["created_at"])
        return Place(value["purpose"], value["profile_id"], created_at, name), counter
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise _unreadable() from None


def _unreadable() -> VaultError:
    problem = "what it is encrypted for cannot be read"
    return VaultError(problem, hint="encrypt it again", problem=problem)


# Before a stream of zstd


def framed(place: Place, counter: int) -> bytes:
    """A header in a frame that zstd skips."""
    content = header(place, counter)
    return _FRAME.pack(_MAGIC, len(content)) + content


class Unframed:
    """A stream to write to, which takes the header off what comes and hands on the rest.

    Args:
        target: gets the rest.
        check: is called with the header, or with one without a place if there is none, before
            anything is handed on; it raises if this is not to be used.
    """

    def __init__(self, target: BinaryIO, check: Callable[[Bound], None]) -> None:
        self._target = target
        self._check = check
        self._begin: bytes | None = b""

    def write(self, data: bytes) -> int:
        """Take all of it."""
        if self._begin is None:
            return self._target.write(data)
        self._begin += data
        self._look(at_end=False)
        return len(data)

    def flush(self) -> None:
        """Flush the target."""
        self._target.flush()

    def end(self) -> None:
        """There will be no more."""
        self._look(at_end=True)

    def _look(self, *, at_end: bool) -> None:
        begin = self._begin
        if begin is None:
            return
        size = -1
        if len(begin) >= _FRAME.size:
            magic, size = _FRAME.unpack_from(begin)
            if magic != _MAGIC:
                size = -1
            elif size > LONGEST:
                raise _unreadable()
            elif len(begin) < _FRAME.size + size and not at_end:
                return
        elif not at_end:
            return
        found, used = Bound(None, 0, b""), 0
        if size >= 0:
            used = _FRAME.size + size
            place, counter = _parse(begin[_FRAME.size : used])
            found = Bound(place, counter, b"")
        self._check(found)
        self._begin = None
        if len(begin) > used:
            self._target.write(begin[used:])


def _plain(text: str) -> str:
    """What somebody else may have written, as a part of one line."""
    return ascii(text)[1:-1][:80]
