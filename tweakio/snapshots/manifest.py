"""What is known of a snapshot: a small JSON file beside its data, written after that.

Without its manifest a snapshot does not exist, so that whatever an interrupted upload leaves is
none. The manifest is not secret: it has sizes, hashes and the profile's id, platform and time.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from tweakio.models import format_time, parse_time

if TYPE_CHECKING:
    from datetime import datetime

__all__ = [
    "MAX_BYTES",
    "Snapshot",
    "data_file",
    "dump",
    "is_data",
    "is_manifest",
    "is_part",
    "load",
    "manifest_file",
    "part_file",
]

MAX_BYTES = 1 << 16
_FORMAT = 1
_NAME = r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}"
_MANIFEST = re.compile(rf"({_NAME})\.json", re.ASCII)
_DATA = re.compile(rf"({_NAME})\.tar\.zst(?:\.age)?", re.ASCII)
_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)


class Snapshot(NamedTuple):
    """The browser data of one profile as they were at one time.

    Attributes:
        name: what it is called; names sort by time.
        profile_id: whose.
        platform: of the profile.
        profile_created_at: the profile's identity besides its id.
        time: when it was made.
        files: how many there are in it.
        bytes: of these files.
        stored_bytes: what it takes in the store.
        content_sha256: of what was packed; the same for the same content.
        stored_sha256: of what is stored.
        recipients: whom it is sealed for; empty if it is not sealed.
        bound: whether it says inside, encrypted, that it is this snapshot; one that an older
            tweakio made does not.
        complete: whether the store has its data, in their size.
    """

    name: str
    profile_id: str
    platform: str
    profile_created_at: datetime
    time: datetime
    files: int
    bytes: int
    stored_bytes: int
    content_sha256: str
    stored_sha256: str
    recipients: tuple[str, ...]
    bound: bool = False
    complete: bool = True

    @property
    def sealed(self) -> bool:
        """Whether an identity is needed to open it."""
        return bool(self.recipients)


def data_file(snapshot: Snapshot) -> str:
    """The name of the file that has a snapshot's data."""
    return f"{snapshot.name}.tar.zst.age" if snapshot.sealed else f"{snapshot.name}.tar.zst"


def manifest_file(name: str) -> str:
    """The name of a snapshot's manifest."""
    return f"{name}.json"


def is_data(file: str) -> str | None:
    """The snapshot that a file's name says it has the data of; None for other files."""
    match = _DATA.fullmatch(file)
    return match[1] if match else None


def is_manifest(file: str) -> str | None:
    """The snapshot that a file's name says it is the manifest of; None for other files."""
    match = _MANIFEST.fullmatch(file)
    return match[1] if match else None


def part_file(file: str) -> str:
    """The name that a file has until it is whole."""
    return f".{file}.part"


def is_part(file: str) -> str | None:
    """The snapshot of which a file is not whole yet; None for other files."""
    whole = file[1 : -len(".part")]
    return (is_data(whole) or is_manifest(whole)) if file == part_file(whole) else None


def dump(snapshot: Snapshot) -> bytes:
    """The content of a manifest."""
    value = {"format": _FORMAT, **snapshot._asdict()}
    del value["complete"]
    for key in ("profile_created_at", "time"):
        value[key] = format_time(value[key])
    value["recipients"] = list(snapshot.recipients)
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def load(content: bytes, name: str, profile_id: str) -> Snapshot:
    """Read a manifest, which may be anybody's.

    Args:
        content: of the file.
        name: what the file's name says.
        profile_id: what its directory's name says.

    Raises:
        ValueError: it is none, or that of a newer tweakio.
    """
    try:
        value: dict[str, Any] = json.loads(content)
        found = Snapshot(
            name=value["name"],
            profile_id=value["profile_id"],
            platform=value["platform"],
            profile_created_at=parse_time(value["profile_created_at"]),
            time=parse_time(value["time"]),
            files=value["files"],
            bytes=value["bytes"],
            stored_bytes=value["stored_bytes"],
            content_sha256=value["content_sha256"],
            stored_sha256=value["stored_sha256"],
            recipients=tuple(value["recipients"]),
            bound=value.get("bound", False) is True,
        )
        counts = (found.files, found.bytes, found.stored_bytes)
        if (
            value["format"] != _FORMAT
            or (found.name, found.profile_id) != (name, profile_id)
            or any(type(number) is not int or number < 0 for number in counts)
            or not all(
                _HASH.fullmatch(digest) for digest in (found.content_sha256, found.stored_sha256)
            )
            or not all(isinstance(text, str) for text in (*found.recipients, found.platform))
        ):
            raise ValueError("not a manifest of this format")
        return found
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("not a manifest") from error
