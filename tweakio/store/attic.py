"""The trash and the rescued: what is kept although no profile has it any more.

Both are directories of entries, each with an ``entry.json`` and the kept files in ``data/``.
An entry is complete once its data is there; the record is written before.
"""

from __future__ import annotations

import errno
import json
import logging
import os
from typing import TYPE_CHECKING, Literal, cast

from tweakio import durable
from tweakio.errors import TrashEntryNotFoundError, is_of_the_moment, storage_error
from tweakio.models import TrashEntry, format_time, parse_time, utc_now
from tweakio.store.moving import move

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from tweakio.layout import Layout

__all__ = ["Attic", "Kind"]

log = logging.getLogger(__name__)

Kind = Literal["deleted", "reset", "unknown", "damaged"]
_KINDS = ("deleted", "reset", "unknown", "damaged")
# What entry.json becomes where the data of an entry that is being removed cannot be renamed.
_DISCARDED = "discarded.json"
_NAME_TIME = "%Y%m%dT%H%M%S"


class Attic:
    """One directory of entries.

    Args:
        layout: the home.
        root: the directory; made when the first entry comes.
    """

    def __init__(self, layout: Layout, root: Path) -> None:
        self._layout = layout
        self.root = root

    def prepare(
        self, parent: Path, profile_id: str, kind: Kind, created_at: datetime | None
    ) -> Path:
        """Build the directory of a new entry outside the attic, durably.

        Args:
            parent: an existing directory in which it is built.
            profile_id: whose data it will hold; validated.
            kind: see ``TrashEntry``.
            created_at: the profile's identity besides its id, if known.

        Returns:
            The entry's directory. The data goes to ``data`` in it, and the whole to a
            directory of the same name in ``root``.
        """
        now = utc_now()
        import secrets

        entry = parent / f"{now.strftime(_NAME_TIME)}-{profile_id}-{secrets.token_hex(3)}"
        durable.make_directory(entry)
        record = {
            "profile_id": profile_id,
            "kind": kind,
            "profile_created_at": format_time(created_at) if created_at else None,
            "time": format_time(now),
        }
        durable.create(entry / "entry.json", (json.dumps(record, indent=2) + "\n").encode())
        durable.fsync_directory(entry)
        return entry

    def keep(self, source: Path, profile_id: str, kind: Kind, created_at: datetime | None) -> Path:
        """Move something into a new entry at once, outside any transaction.

        The record comes first: a crash in between leaves an entry without data, which is
        ignored and later discarded.
        """
        durable.make_directory(self.root)
        entry = self.prepare(self.root, profile_id, kind, created_at)
        durable.fsync_directory(self.root)
        move(self._layout, source, entry / "data")
        durable.sync_tree((entry, source.parent))
        return entry

    def keep_parts(
        self, sources: list[Path], profile_id: str, kind: Kind, created_at: datetime | None
    ) -> Path:
        """The same for some files and directories of one profile."""
        durable.make_directory(self.root)
        entry = self.prepare(self.root, profile_id, kind, created_at)
        durable.make_directory(entry / "data")
        durable.sync_tree((entry, self.root))
        for source in sources:
            move(self._layout, source, entry / "data" / source.name)
        durable.sync_tree((entry / "data", *{source.parent for source in sources}))
        return entry

    def entries(self, profile_id: str | None = None, *, sizes: bool = False) -> list[TrashEntry]:
        """The complete entries, newest first.

        Args:
            profile_id: only this profile's.
            sizes: measure them, which walks every file; else their size is 0.
        """
        found = []
        for name in self._names():
            if profile_id is not None and f"-{profile_id}-" not in name:
                continue
            entry = self._read(name)
            if entry is not None and profile_id in (None, entry.profile_id):
                found.append(entry._replace(size=durable.size_of(entry.path)) if sizes else entry)
        return sorted(found, key=lambda entry: (entry.time, entry.name), reverse=True)

    def profile_ids(self) -> frozenset[str]:
        """The ids that have entries, from the entries' names alone."""
        return frozenset(
            name.split("-", 1)[1].rsplit("-", 1)[0] for name in self._names() if name.count("-") > 1
        )

    def get(self, name: str) -> TrashEntry:
        """One entry.

        Raises:
            TrashEntryNotFoundError: there is none of this name.
            StorageError: it cannot be read now.
        """
        entry = self._read(name) if name in self._names() else None
        if entry is None:
            raise TrashEntryNotFoundError(
                f"no trash entry {name[:80]!r}", hint="run 'tweakio profile trash list'"
            )
        return entry

    def discard(self, name: str) -> None:
        """Remove an entry for good; a crash in between leaves an incomplete one."""
        path = self.root / name
        # In one step, or a crash would leave an entry with half of its data, which an undo
        # would take for the whole.
        if os.path.lexists(path / "data"):
            try:
                os.rename(path / "data", path / "discarded")
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                os.rename(path / "entry.json", path / _DISCARDED)
            durable.fsync_directory(path)
        durable.remove_tree(path)

    def discard_incomplete(self) -> None:
        """Remove what a crash left of entries; the caller holds the repository's lock."""
        for name in self._names():
            path = self.root / name
            if path.is_symlink() or not path.is_dir():
                continue
            if not _has_data(path) or durable.is_there(path / _DISCARDED):
                try:
                    durable.remove_tree(path)
                except OSError as error:
                    # It is no entry any more, and must not stop every change.
                    log.warning("%s could not be removed: %s", path, error)

    def _names(self) -> list[str]:
        try:
            return sorted(os.listdir(self.root))
        except FileNotFoundError:
            return []

    def _read(self, name: str) -> TrashEntry | None:
        path = self.root / name
        if path.is_symlink():
            return None  # whatever it leads to was not put here
        try:
            value = json.loads(durable.read_regular(path / "entry.json", 1 << 16))
            kind = value["kind"]
            created = value["profile_created_at"]
            if kind not in _KINDS or not _has_data(path):
                return None
            return TrashEntry(
                name=name,
                profile_id=str(value["profile_id"]),
                kind=cast("Kind", kind),
                profile_created_at=parse_time(created) if created else None,
                time=parse_time(value["time"]),
                path=path,
                size=0,
            )
        except OSError as error:
            if is_of_the_moment(error):
                raise storage_error(error, "read an entry of the trash") from error
            return None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None


def _has_data(entry: Path) -> bool:
    """Whether an entry keeps anything; a directory of which all was taken is nothing.

    What cannot be looked at now is kept.
    """
    if os.path.islink(entry / "data"):
        return True  # the profile was a link; where it leads to is not looked at
    try:
        with os.scandir(entry / "data") as items:
            return next(items, None) is not None
    except OSError as error:
        return is_of_the_moment(error) or os.path.lexists(entry / "data")
