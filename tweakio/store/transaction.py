"""One change: collected in memory and in a staging directory, then published in one step."""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tweakio import durable, schema
from tweakio.errors import (
    ConcurrentChangeError,
    InvalidMetadataError,
    ProfileNotFoundError,
    RepositoryDamagedError,
)
from tweakio.store.journal import Journal, Move
from tweakio.store.objects import (
    object_id,
    parse_tree,
)
from tweakio.store.publication import METADATA, MOST_SEALED, SEALED, Collected, Publication

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from datetime import datetime
    from pathlib import Path

    from tweakio.store.attic import Attic, Kind
    from tweakio.store.head import Head
    from tweakio.store.repository import Repository
    from tweakio.store.worktree import Found

__all__ = ["Transaction"]

log = logging.getLogger(__name__)


class Transaction(Collected):
    """Collects one change; ``Repository.transaction`` makes and commits it."""

    def __init__(
        self,
        repository: Repository,
        operation: str,
        command: str,
        examined: Mapping[str, Found] | None = None,
        base: Head | None = None,
    ) -> None:
        super().__init__(base or repository.head(), operation, command)
        self._repository = repository
        self._contents: dict[str, set[bytes]] = {}
        # What was clean a moment ago; a file edited since then stays in any case.
        self._examined = examined or {}
        self._staging: Path | None = None
        self._pid = os.getpid()
        self.afterwards: list[Callable[[], None]] = []
        """Called once the change has taken place; what they raise would say that it has not."""

    # What is there

    def exists(self, profile_id: str) -> bool:
        """Whether the profile exists, this change included."""
        if profile_id in self.removed:
            return False
        return profile_id in self.files or self.entry(profile_id) is not None

    def is_at_base(self, profile_id: str) -> bool:
        """Whether the profile existed before this change."""
        return self.entry(profile_id) is not None

    def touches(self, profile_id: str) -> bool:
        """Whether the change has something to do with a profile."""
        return profile_id in self.files or profile_id in self.removed

    def sets_only(self, profile_id: str, keys: Collection[str]) -> bool:
        """Whether the change does nothing else with a profile than setting some of its metadata.

        Args:
            profile_id: which; nothing of it is moved.
            keys: of the metadata, which may be set.
        """
        content = self.files.get(profile_id, {}).get(METADATA)
        before = self._repository.file_at(self.head.root, profile_id, METADATA)
        if content is None or before is None or len(self.files[profile_id]) > 1:
            return False
        try:
            old, new = json.loads(before), json.loads(content)
            return all(old.get(key) == new.get(key) for key in {*old, *new}.difference(keys))
        except (ValueError, TypeError, AttributeError, RecursionError):
            return False

    def has_changes(self) -> bool:
        """Whether anything was collected."""
        return bool(self.files or self.removed or self.moves or self.root_files)

    def profile_ids(self) -> list[str]:
        """The names of the directories at the base."""
        return [
            entry.name.decode("utf-8", "surrogateescape")
            for entry in parse_tree(self.head.root)
            if entry.is_tree
        ]

    def may_have(self, profile_ids: Iterable[str]) -> bool:
        """False if the base certainly has none of these ids, in whatever case.

        A search in the raw tree: at 10,000 profiles its names take 30 ms to read.
        """
        lowered = self.head.root.lower()
        return any(b"40000 %b\0" % name.lower().encode() in lowered for name in profile_ids)

    def metadata(self, profile_id: str) -> dict[str, Any]:
        """A profile's metadata as committed, this change included.

        Raises:
            ProfileNotFoundError: there is no such profile.
            InvalidMetadataError: what is committed does not fit the schema.
        """
        changed = self.files.get(profile_id, {}).get(METADATA)
        if changed is None:
            changed = self._repository.file_at(self.head.root, profile_id, METADATA)
        if changed is None or profile_id in self.removed:
            raise ProfileNotFoundError(
                f"no profile '{profile_id}'",
                hint="run 'tweakio profile list'",
                profile_id=profile_id,
            )
        if self.head.surveyed and self.head.valid and profile_id not in self.unchecked:
            return schema.load_trusted(changed, profile_id)
        return schema.load(changed, profile_id)

    def file(self, profile_id: str, name: str) -> bytes | None:
        """A tracked file of a profile, this change included; None if there is none."""
        if profile_id in self.removed:
            return None
        if name in self.files.get(profile_id, {}):
            return self.files[profile_id][name]
        return self._repository.file_at(self.head.root, profile_id, name)

    def examine(self, profile_id: str) -> Found | None:
        """The profile as it stands in the work tree; None if the base has no such profile."""
        found = self._examined.get(profile_id)
        if found is None:
            found = self._repository.work_tree.examine(self.head, profile_id)
        return found

    def has_content(self, name: str, content: bytes) -> bool:
        """Whether a profile has just this content in a tracked file of this name.

        What the change has put so far counts as well. The first question costs a look at the
        whole index, further ones nothing.
        """
        if name not in self._contents:
            self._contents[name] = self._blobs_at_base(name)
            for files in self.files.values():
                self._know_content(name, files.get(name))
        return object_id(b"blob", content) in self._contents[name]

    def _know_content(self, name: str, content: bytes | None) -> None:
        if content is not None and name in self._contents:
            self._contents[name].add(object_id(b"blob", content))

    def _blobs_at_base(self, name: str) -> set[bytes]:
        """The ids of the contents of one tracked file, of all profiles."""
        index = self._repository.index_file.read()
        written = self.head.index_checksum
        if index is not None and written and written == self._repository.index_file.checksum():
            # It is the one that was written with the base, so it is as the base is; the trees
            # of all profiles take a hundred times as long to read.
            end = f"/{name}".encode()
            return {header[40:60] for path, header in index.entries().items() if path.endswith(end)}
        found = set()
        for profile_id in self.profile_ids():
            with suppress(RepositoryDamagedError):  # what cannot be read is nobody's content
                files = self._repository.files_at(self.head.root, profile_id) or {}
                found |= {blob for child, blob in files.items() if child == name}
        return found

    # Collecting

    def put(self, profile_id: str, name: str, content: bytes | None) -> None:
        """Set a tracked file of a profile, or remove it with None."""
        self.files.setdefault(profile_id, {})[name] = content
        self._know_content(name, content)
        self.unchecked.add(profile_id)

    def put_root(self, name: str, content: bytes | None) -> None:
        """Set a tracked file at the root of the repository, or remove it with None.

        Args:
            name: of a file that tweakio knows, such as ``.gitignore``; never a person's text.
            content: its bytes.
        """
        self.root_files[name] = content

    def root_file(self, name: str) -> bytes | None:
        """The content of a tracked file at the root, this change included."""
        if name in self.root_files:
            return self.root_files[name]
        return self._repository.root_file(self.head.root, name)

    def add_parent(self, commit_id: str) -> None:
        """Make it a merge: the commit gets a further parent, whose objects are here already."""
        self.parents.append(commit_id)
        self.record_always = True
        # What it merges with is the state that it began from.
        self.rebasable = False

    def add_note(self, line: str) -> None:
        """Add a line to the commit's message that people read, between summary and trailers."""
        self.notes.append(line)

    def put_metadata(self, profile_id: str, value: Mapping[str, Any]) -> None:
        """Set a profile's metadata, after checking it.

        Raises:
            InvalidMetadataError: it does not fit the schema.
            NewerFormatError: the profile was written by a newer tweakio.
        """
        content = schema.dump(schema.validate(value))
        self.files.setdefault(profile_id, {})[METADATA] = content

    def stage(self, name: str) -> Path:
        """A new directory to build in, which becomes something else's place by a move."""
        path = self._place_to_stage(name)
        durable.make_directory(path)
        return path

    def take_in(self, name: str, built: Path) -> Path:
        """Stage a directory that was built in the workshop.

        What a change moves is the store's to sweep, whatever becomes of the change.
        """
        path = self._place_to_stage(name)
        os.rename(built, path)
        return path

    def _place_to_stage(self, name: str) -> Path:
        self._refuse_fork()
        if self._staging is None:
            import secrets

            self._staging = self._repository.layout.staging / secrets.token_hex(8)
            durable.make_directory(self._staging)
        return self._staging / name

    def move(self, source: Path, target: Path) -> None:
        """Rename something in the same step as the commit; nothing may be at the target."""
        relative = self._repository.layout.relative
        self.moves.append(Move(relative(source), relative(target)))

    def remove(self, profile_id: str) -> None:
        """Take a profile out of the tree; its directory is moved by ``keep``."""
        self.files.pop(profile_id, None)
        self.removed.add(profile_id)

    def keep(
        self,
        attic: Attic,
        profile_id: str,
        kind: Kind,
        created_at: datetime | None,
        parts: dict[str, Path] | Path,
    ) -> str:
        """Move a directory, or some of its parts, into the attic.

        Args:
            attic: the trash or the rescued.
            profile_id: whose they are.
            kind: see ``TrashEntry``.
            created_at: the profile's identity besides its id, if known.
            parts: what to move: one directory as a whole, or names and paths.

        Returns:
            The entry's name, which the commit records.
        """
        durable.make_directory(attic.root)
        entry = attic.prepare(self.stage("attic"), profile_id, kind, created_at)
        kept = attic.root / entry.name
        if isinstance(parts, dict):
            durable.make_directory(entry / "data")
        # The record first: then every directory that receives something has its final path
        # and can be synced by it.
        self.move(entry, kept)
        if isinstance(parts, dict):
            for name, path in parts.items():
                self.move(path, kept / "data" / name)
        else:
            self.move(parts, kept / "data")
        self.trailers.append(("Tweakio-Trash", entry.name))
        return entry.name

    def purge_after(self, path: Path) -> None:
        """Remove a directory for good once the change has taken place."""
        self.purge.append(self._repository.layout.relative(path))

    def add_trailer(self, name: str, value: str) -> None:
        """Add a line to the commit's message that programs read."""
        self.trailers.append((name, value))

    def commit(self) -> str | None:
        """Make the change durable; None if there is nothing to change.

        Raises:
            InvalidMetadataError: a file would be larger than what is read of one.
        """
        self._refuse_fork()
        self._refuse_too_large()
        return Publication(self._repository, self).commit()

    def _refuse_too_large(self) -> None:
        """What every reader refuses must not be committed: the profile would be corrupted."""
        for profile_id, files in self.files.items():
            for name, content in files.items():
                most = MOST_SEALED if name == SEALED else schema.MAX_BYTES
                if content is not None and len(content) > most:
                    raise InvalidMetadataError(
                        f"{name} of '{profile_id}' would have {len(content)} bytes, and {most} are "
                        "read of one",
                        hint="give it fewer or shorter values: tags, note, platform_config",
                    )

    def _refuse_fork(self) -> None:
        """The change is the parent's, which holds the lock, and so is what was staged."""
        if self._pid != os.getpid():
            raise ConcurrentChangeError(
                "this process was forked in the middle of its parent's change",
                hint="make the change in one of them",
            )

    def discard(self) -> None:
        """Remove what was staged and did not become part of the repository."""
        if self._pid != os.getpid():
            return
        if self._staging is not None and not Journal.may_exist(self._repository.layout):
            try:
                durable.remove_tree(self._staging)
            except OSError:
                log.debug("staging is left to the next transaction", exc_info=True)
