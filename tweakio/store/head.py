"""What HEAD says, and the cache that saves reading it from git's objects.

The cache is derived: it is believed only for the commit it names and if its tree has the
right hash, and it may be removed at any time.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, NamedTuple

from tweakio import durable
from tweakio.store.objects import object_id
from tweakio.store.refs import NO_COMMIT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["Head", "HeadCache"]


_NOBODY: Mapping[str, int | None] = {}


class Head(NamedTuple):
    """The state of the repository at one commit.

    Attributes:
        commit: hexadecimal id, or ``NO_COMMIT``.
        root: the body of its root tree.
        surveyed: whether every profile in it was looked at, so that the next two are known.
        valid: whether every metadata.json in it fits the schema.
        active: the profiles with status ``active``, each with its ``lock_pid``.
        index_checksum: of the index that was written with it; empty if unknown.
    """

    commit: str
    root: bytes
    surveyed: bool = False
    valid: bool = False
    active: Mapping[str, int | None] = _NOBODY
    index_checksum: str = ""


class HeadCache:
    """One file with the last known ``Head``; written without sync.

    Args:
        path: the file.
        temporary: a directory for its next content.
    """

    def __init__(self, path: Path, temporary: Path) -> None:
        self._path = path
        self._temporary = temporary

    def read(self, commit: str) -> Head | None:
        """The head for a commit, if the cache has just that one."""
        head = self.last()
        return head if head is not None and head.commit == commit else None

    def last(self) -> Head | None:
        """The head that a tweakio last made or looked at here, wherever HEAD is now."""
        try:
            data = durable.read_regular(self._path, 1 << 28)
            header, _, root = data.partition(b"\n")
            value = json.loads(header)
            if value["tree"] != object_id(b"tree", root).hex():
                return None
            return Head(
                str(value["commit"]),
                root,
                surveyed=True,
                valid=bool(value["valid"]),
                active=dict(value["active"]),
                index_checksum=str(value.get("index", "")),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def forget(self) -> None:
        """Know nothing any more."""
        durable.remove(self._path)

    def write(self, head: Head) -> None:
        """Keep a surveyed head; a failure only costs time later."""
        if not head.surveyed or head.commit == NO_COMMIT:
            return
        header = {
            "commit": head.commit,
            "tree": object_id(b"tree", head.root).hex(),
            "valid": head.valid,
            "active": dict(head.active),
            "index": head.index_checksum,
        }
        data = json.dumps(header).encode() + b"\n" + head.root
        temporary = self._temporary / f"head-{os.getpid()}"
        try:
            durable.make_directory(self._path.parent)
            durable.replace(self._path, data, temporary, sync=False)
        except OSError:
            with contextlib.suppress(OSError):
                durable.remove(temporary)
