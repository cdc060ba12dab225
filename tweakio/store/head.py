"""What HEAD says, and the cache that saves reading it from git's objects.

The cache is derived: it is believed only for the commit it names, and it may be removed at any
time.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from tweakio.store.cache import CacheFile
from tweakio.store.objects import object_id
from tweakio.store.refs import NO_COMMIT
from tweakio.validator import ProfileValidator

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["Head", "HeadCache"]

_ids = ProfileValidator()
_NOBODY: Mapping[str, int | None] = {}


_MOST_BODY = 8 << 20
"""Bytes of a commit object; a change of 100,000 profiles has four million."""


class Head(NamedTuple):
    """The state of the repository at one commit.

    Attributes:
        commit: hexadecimal id, or ``NO_COMMIT``.
        root: the body of its root tree.
        surveyed: whether every profile in it was looked at, so that the next two are known.
        valid: whether every metadata.json in it fits the schema.
        active: the profiles with status ``active``, each with its ``lock_pid``.
        index_checksum: of the index that was written with it; empty if unknown.
        body: the commit object, which names the root tree; without it nothing is cached.
    """

    commit: str
    root: bytes
    surveyed: bool = False
    valid: bool = False
    active: Mapping[str, int | None] = _NOBODY
    index_checksum: str = ""
    body: bytes = b""


class HeadCache:
    """One file with the last known ``Head``.

    The root tree is believed because the commit's id, by way of the commit, names it.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._file = CacheFile(path, _first_line)  # the root tree has a checksum, its id

    def read(self, commit: str) -> Head | None:
        """The head for a commit, if the cache has just that one."""
        head = self.last()
        return head if head is not None and head.commit == commit else None

    def last(self, *, insist: bool = False) -> Head | None:
        """The head that a tweakio last made or looked at here, wherever HEAD is now.

        Args:
            insist: raise the ``OSError`` if that cannot be read now.
        """
        content = self._file.read(insist=insist)
        if content is None:
            return None
        header, _, root = content.partition(b"\n")
        try:
            value = json.loads(header)
            body = str(value["body"]).encode("latin-1")
            if not _is_state_of(str(value["commit"]), body, root):
                return None
            return Head(
                str(value["commit"]),
                root,
                surveyed=True,
                valid=bool(value["valid"]),
                active=_selections(value["active"]),
                index_checksum=str(value.get("index", "")),
                body=body,
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None

    def forget(self) -> None:
        """Know nothing any more."""
        self._file.forget()

    def write(self, head: Head) -> None:
        """Keep a surveyed head; a failure only costs time later."""
        if not (head.surveyed and 0 < len(head.body) <= _MOST_BODY) or head.commit == NO_COMMIT:
            return
        header = {
            "commit": head.commit,
            "valid": head.valid,
            "active": dict(head.active),
            "index": head.index_checksum,
            "body": head.body.decode("latin-1"),
        }
        self._file.write(json.dumps(header).encode() + b"\n" + head.root)


def _selections(value: dict[object, object]) -> dict[str, int | None]:
    """What the cache says of active profiles; a ValueError if it cannot have been ours."""
    found: dict[str, int | None] = {}
    for profile_id, pid in value.items():
        if not _ids.is_id(profile_id) or not (pid is None or type(pid) is int):
            raise ValueError("not an active profile")
        found[str(profile_id)] = pid
    return found


def _is_state_of(commit: str, body: bytes, root: bytes) -> bool:
    """Whether a root tree is a commit's, by nothing but their ids."""
    names_root = body.startswith(b"tree %b\n" % object_id(b"tree", root).hex().encode())
    return names_root and object_id(b"commit", body).hex() == commit


def _first_line(content: bytes) -> bytes:
    return content.partition(b"\n")[0]
