"""The work tree beside HEAD: what people changed in it, adopted or rescued.

HEAD is the truth. A valid edit of a tracked file is a person's wish and is committed as
such. An invalid one makes the profile corrupted and stays as it is. Directories that HEAD
does not know are put aside, and come back when HEAD knows them again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import stat
import time
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from tweakio import durable, schema
from tweakio.errors import (
    InvalidMetadataError,
    NewerFormatError,
    RepositoryDamagedError,
    StorageError,
    TweakioError,
    is_of_the_moment,
    storage_error,
)
from tweakio.models import parse_time
from tweakio.references import is_age_file
from tweakio.store.index import entry_header, is_unchanged
from tweakio.store.moving import move
from tweakio.store.objects import (
    BLOB_MODE,
    TreeEntry,
    find_entry,
    object_id,
    parse_tree,
    serialise_tree,
)
from tweakio.store.publication import METADATA, MOST_SEALED, SEALED
from tweakio.store.system_lock import is_held
from tweakio.store.transaction import Transaction
from tweakio.validator import ProfileValidator

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

    from tweakio.store.head import Head
    from tweakio.store.index import Index
    from tweakio.store.repository import Repository

__all__ = [
    "FINGERPRINT",
    "METADATA",
    "MOST_SEALED",
    "SEALED",
    "UNTRACKED_PARTS",
    "Found",
    "WorkTree",
]

log = logging.getLogger(__name__)

FINGERPRINT = "fingerprint.json"
UNTRACKED_PARTS = ("browser_profile", "session.json")
"""What git does not keep and a person would miss."""
_PROFILE_NAMES = frozenset({METADATA, FINGERPRINT, SEALED, *UNTRACKED_PARTS, "cache", ".lock"})
_REMADE = frozenset({METADATA, FINGERPRINT, SEALED, "cache", ".lock"})
"""What is worth nothing in the trash once the profile has its own again."""
_SUBMODULE = (0o160000).to_bytes(4, "big")
_NO_FILES: Mapping[str, bytes] = {}
_ids = ProfileValidator()


class Found(NamedTuple):
    """One profile as it stands in the work tree.

    Attributes:
        state: ``clean`` (as HEAD has it), ``edited`` (differs and is valid), ``damaged``,
            or ``newer`` (valid for a newer tweakio only).
        metadata: the content of metadata.json; None if it is damaged.
        problem: what is wrong, in one line.
        contents: the bytes of the tracked files that could be read.
    """

    profile_id: str
    state: Literal["clean", "edited", "damaged", "newer"]
    metadata: dict[str, Any] | None = None
    problem: str | None = None
    contents: Mapping[str, bytes] = _NO_FILES


class WorkTree:
    """Looks at the work tree of one repository.

    Args:
        repository: which one.
    """

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._layout = repository.layout
        # Of the root tree that was last asked for: parsing takes 30 ms at 10,000 profiles.
        self._directories: tuple[bytes, Mapping[str, bytes]] = b"", {}

    # Reading

    def directories(self, head: Head) -> Mapping[str, bytes]:
        """The directories of HEAD whose names can be profile ids, with their trees' ids.

        In git's order. For all profiles at once this is what to use: looking each one up in
        the raw tree takes a search from its beginning.
        """
        root, directories = self._directories
        if root is not head.root:
            directories = {
                name: entry.id
                for entry in parse_tree(head.root)
                if entry.is_tree and _ids.is_id(name := entry.name.decode("utf-8", "replace"))
            }
            self._directories = head.root, directories
        return directories

    def ids(self, head: Head) -> list[str]:
        """The names of these directories."""
        return list(self.directories(head))

    def examine(self, head: Head, profile_id: str) -> Found | None:
        """Compare one profile's tracked files with HEAD.

        None if HEAD has no such profile. Nothing outside the profile's directory is read:
        links are not followed.

        Raises:
            StorageError: a file cannot be read now, which is no damage.
        """
        entry = find_entry(head.root, profile_id.encode())
        return None if entry is None else self.examine_tree(head, profile_id, entry.id)

    def examine_all(self, head: Head) -> list[Found]:
        """The same for every profile of HEAD, in git's order."""
        return [
            found
            for profile_id, tree in self.directories(head).items()
            if (found := self.examine_tree(head, profile_id, tree)) is not None
        ]

    def examine_tree(self, head: Head, profile_id: str, tree: bytes) -> Found | None:
        """The same for one of which the id of HEAD's tree is known already."""
        contents, problem = self._read(profile_id)
        if len(contents) == 2 and self._is_tree(contents, tree):
            same = True
        elif self._add_sealed(profile_id, contents) and self._is_tree(contents, tree):
            same = not problem
        else:
            tracked = self._repository.files_at(head.root, profile_id) or {}
            if METADATA not in tracked:
                return None
            if FINGERPRINT not in tracked and FINGERPRINT not in contents:
                problem.pop(FINGERPRINT, None)
            if SEALED not in tracked:
                contents.pop(SEALED, None)
            same = not problem and all(
                object_id(b"blob", contents[name]) == tracked.get(name) for name in contents
            )
        if problem:
            reason = problem.get(METADATA) or next(iter(problem.values()))
            return Found(profile_id, "damaged", problem=reason, contents=contents)
        return self._judge(profile_id, contents, same=same, trusted=same and head.valid)

    def _add_sealed(self, profile_id: str, contents: dict[str, bytes]) -> bool:
        """Read the sealed session as well, if it is there and can be one.

        What cannot be one damages nothing: HEAD has the session, and the next change of the
        profile puts it back or aside.
        """
        path = self._layout.profile(profile_id).sealed
        if path.parent.is_symlink():
            return False  # what a link leads to is not the profile's
        try:
            content = durable.read_regular(path, MOST_SEALED)
        except OSError as error:
            _refuse_moment(error, f"read {SEALED} of profile '{profile_id}'")
            return False
        if not is_age_file(content):
            return False
        contents[SEALED] = content
        return True

    def _is_tree(self, contents: dict[str, bytes], expected: bytes) -> bool:
        """Whether files are those of a tree; git's objects then need not be read for them."""
        blobs = {name: object_id(b"blob", content) for name, content in contents.items()}
        raw = _tree_bytes(blobs)
        if object_id(b"tree", raw) != expected:
            return False
        remember = self._repository.reader.remember
        remember(expected.hex(), b"tree", raw)
        for name, blob in blobs.items():
            remember(blob.hex(), b"blob", contents[name])
        return True

    def _judge(
        self, profile_id: str, contents: dict[str, bytes], *, same: bool, trusted: bool
    ) -> Found:
        load = schema.load_trusted if trusted else schema.load
        try:
            metadata = load(contents[METADATA], profile_id)
            if not same:
                _check_fingerprint(contents.get(FINGERPRINT))
        except NewerFormatError as error:
            return Found(profile_id, "newer", problem=error.message, contents=contents)
        except InvalidMetadataError as error:
            return Found(profile_id, "damaged", problem=error.message, contents=contents)
        return Found(profile_id, "clean" if same else "edited", metadata, contents=contents)

    def _read(self, profile_id: str) -> tuple[dict[str, bytes], dict[str, str]]:
        paths = self._layout.profile(profile_id)
        contents: dict[str, bytes] = {}
        problem: dict[str, str] = {}
        try:
            directory = os.lstat(paths.directory)
        except OSError as error:
            _refuse_moment(error, f"look at profile '{profile_id}'")
            return {}, {METADATA: "its directory is missing"}
        if not stat.S_ISDIR(directory.st_mode):
            return {}, {METADATA: "its directory is not a directory"}
        for path in (paths.metadata, paths.fingerprint):
            try:
                contents[path.name] = durable.read_regular(path, schema.MAX_BYTES)
            except FileNotFoundError:
                problem[path.name] = f"{path.name} is missing"
            except OSError as error:
                _refuse_moment(error, f"read {path.name} of profile '{profile_id}'")
                problem[path.name] = f"{path.name} cannot be read ({error.strerror})"
        return contents, problem

    # Settling; the repository's lock is held for all that follows

    def reconcile(
        self, head: Head, profile_ids: list[str], *, full: bool
    ) -> tuple[Head, dict[str, Found]]:
        """Adopt or rescue what people did, before a change.

        Args:
            head: the present one.
            profile_ids: what the change will touch.
            full: look at all others as well.

        Returns:
            The head then, and those profiles that were found to be as it has them.
        """
        repository = self._repository
        if not full:
            found = self._look_at(head, profile_ids)
            clean = {item.profile_id: item for item in found if item.state == "clean"}
            return self._adopt(head, [item for item in found if item.state == "edited"]), clean
        began = time.monotonic()
        for attic in (repository.trash, repository.rescued):
            attic.discard_incomplete()
        self.settle_directories()
        head = repository.head()
        if head.surveyed:
            found = self._look_at(head, self._suspects(head))
            edited = [item for item in found if item.state == "edited"]
        else:
            head, edited = self.survey(head)
        head = self._adopt(head, edited)
        repository.scanned(time.monotonic() - began)
        return head, {}

    def settle_directories(self) -> None:
        """Put the directories of the work tree where HEAD wants them; edits stay edits."""
        self._separate_identities()
        self._rescue_unknown()
        self._bring_back()

    def _separate_identities(self) -> None:
        """Put browser data aside that is of another profile than the one HEAD has now.

        That is the case after ``git reset --hard`` to before an id was given to another
        profile: git changed the tracked files, and the data of the later one is still there.
        """
        repository = self._repository
        last, root = repository.last_known_root(), repository.head().root
        if last is None or last == root:
            return
        before = {entry.name: entry.id for entry in parse_tree(last) if entry.is_tree}
        for entry in parse_tree(root):
            if before.get(entry.name, entry.id) == entry.id:
                continue
            name = entry.name.decode("utf-8", "replace")
            old, new = self._created_at(last, name), self._created_at(root, name)
            if old is None or new is None or old == new:
                continue
            paths = self._layout.profile(name)
            parts = [part for part in UNTRACKED_PARTS if durable.is_there(paths.directory / part)]
            if not parts or os.path.islink(paths.directory):
                continue
            if is_held(paths.lock):
                log.warning("%s is in use, but history has another profile of this name", name)
                continue
            kept = repository.rescued.keep_parts(
                [paths.directory / part for part in parts], name, "unknown", old
            )
            log.warning("%s is another profile by now; moved the data of the old to %s", name, kept)

    def _created_at(self, root: bytes, profile_id: str) -> datetime | None:
        try:
            content = self._repository.file_at(root, profile_id, METADATA)
            if content is not None:
                return parse_time(schema.load(content, profile_id)["created_at"])
        except StorageError:
            raise
        except (TweakioError, KeyError, ValueError):
            pass  # it tells nothing
        return None

    def _look_at(self, head: Head, profile_ids: Iterable[str]) -> list[Found]:
        """Those of some profiles that HEAD has, as they are."""
        looked_at = (self.examine(head, profile_id) for profile_id in profile_ids)
        return [found for found in looked_at if found is not None]

    def survey(self, head: Head) -> tuple[Head, list[Found]]:
        """Look at every profile's content; what HEAD holds, recorded, and the edited ones."""
        profiles = self.examine_all(head)
        surveyed = self._note_survey(head, profiles)
        return surveyed, [found for found in profiles if found.state == "edited"]

    def _note_survey(self, head: Head, profiles: list[Found]) -> Head:
        """Keep what a look at every profile of a head found out about it."""
        valid = True
        active: dict[str, int | None] = {}
        for found in profiles:
            committed = found.metadata
            if found.state != "clean":
                # HEAD's own content decides what is valid and active there.
                committed = self._committed(head, found.profile_id)
                valid &= committed is not None
            if committed is not None and committed.get("status") == "active":
                active[found.profile_id] = committed.get("lock_pid")
        return self._repository.set_survey(head, valid=valid, active=active)

    def _committed(self, head: Head, profile_id: str) -> dict[str, Any] | None:
        content = self._repository.file_at(head.root, profile_id, METADATA)
        try:
            return None if content is None else schema.load(content, profile_id)
        except StorageError:
            raise
        except TweakioError:
            return None

    def _suspects(self, head: Head) -> list[str]:
        """The profiles whose files do not look, by their stat, as the index has them."""
        index = self._repository.index_file.read()
        if index is None:
            return list(self.directories(head))
        entries, written = index.entries(), self._repository.index_file.written()
        suspects = []
        base = os.fspath(self._layout.profiles)
        for profile_id, tree in self.directories(head).items():
            blobs = {}
            for name in (METADATA, FINGERPRINT, SEALED):
                header = entries.get(f"{profile_id}/{name}".encode())
                if header is None and name == SEALED:
                    continue
                if header is None:
                    break
                try:
                    status = os.lstat(f"{base}/{profile_id}/{name}")
                except OSError:
                    break  # looked at more closely, which says why
                if not is_unchanged(header, status, written):
                    break
                blobs[name] = header[40:60]
            if len(blobs) < 2 or object_id(b"tree", _tree_bytes(blobs)) != tree:
                suspects.append(profile_id)
        return suspects

    def outdated_entries(self, index: Index, root: bytes) -> dict[bytes, bytes | None]:
        """What to set in an index that is not as HEAD where the work tree is.

        A ``git commit`` that read the index just before a change of ours, and took its lock
        just after, writes it back as it was and then fails. The next one would take the
        change back.

        Args:
            index: as it is.
            root: HEAD's root tree.

        Returns:
            Path to header, None for what is not in HEAD.
        """
        found: dict[bytes, bytes | None] = {}
        for directory, staged in _differing(index, root):
            if not _ids.is_id(directory):
                continue
            blobs = {name: blob for name, blob in staged.items() if "/" not in name}
            committed = self._repository.files_at(root, directory) or {}
            for name in blobs.keys() | committed.keys():
                wanted = committed.get(name)
                path = self._layout.profiles / directory / name
                if blobs.get(name) != wanted and _blob_or_nothing(path) == wanted:
                    key = f"{directory}/{name}".encode("utf-8", "surrogateescape")
                    found[key] = wanted and entry_header(wanted, os.lstat(path), key)
        return found

    def staged_paths(self, index: Index, root: bytes) -> list[str]:
        """The files that the next ``git commit`` of a person would change, by an index.

        Args:
            index: as it is.
            root: HEAD's root tree.
        """
        there = {
            path.decode("utf-8", "surrogateescape"): header[40:60]
            for path, header in index.staged().items()
            if b"/" not in path
        }
        known = {
            entry.name.decode("utf-8", "surrogateescape"): entry.id
            for entry in parse_tree(root)
            if not entry.is_tree
        }
        for directory, staged in _differing(index, root):
            there |= {f"{directory}/{name}": blob for name, blob in staged.items()}
            committed = self._repository.files_at(root, directory) or {}
            known |= {f"{directory}/{name}": blob for name, blob in committed.items()}
        names = there.keys() | known.keys()
        return sorted(name for name in names if there.get(name) != known.get(name))

    def has_lost_blobs(self, index: Index, root: bytes) -> bool:
        """Whether an index has entries whose content is nowhere.

        Args:
            index: as it is.
            root: HEAD's root tree, whose own files can be read.
        """
        known = {entry.id for entry in parse_tree(root)}
        blobs = {
            header[40:60]
            for path, header in index.staged().items()
            if b"/" not in path and header[24:28] != _SUBMODULE
        }
        for _, staged in _differing(index, root):
            blobs.update(staged.values())
        return any(self._repository.reader.read_any(blob)[0] != b"blob" for blob in blobs - known)

    def _adopt(self, head: Head, edited: list[Found]) -> Head:
        """Commit edits by hand as what they are; the head then."""
        if not edited:
            return head
        transaction = Transaction(self._repository, "adopt", "", base=head)
        names = ", ".join(found.profile_id for found in edited[:5])
        more = f" and {len(edited) - 5} more" if len(edited) > 5 else ""
        transaction.summary = f"adopt edits by hand: {names}{more}"
        for found in edited:
            for name, content in found.contents.items():
                transaction.put(found.profile_id, name, content)
        transaction.commit()
        log.info("adopted edits by hand: %s%s", names, more)
        return self._repository.head()

    def _rescue_unknown(self) -> None:
        """Put directories that HEAD does not know aside; nothing is ever deleted here."""
        root = self._repository.head().root
        for item in list(os.scandir(self._layout.profiles)):
            if item.name == ".git" or not item.is_dir(follow_symlinks=False):
                continue
            name = item.name
            if find_entry(root, os.fsencode(name)) is not None or not _ids.is_id(name):
                continue
            path = self._layout.profile(name)
            if not _PROFILE_NAMES.intersection(os.listdir(item.path)):
                continue
            if is_held(path.lock):
                log.warning("profile directory %s is in use but not in history; left", name)
                continue
            entry = self._repository.rescued.keep(
                path.directory, name, "unknown", self._former_identity(name)
            )
            log.warning("directory %s is not in history; moved to %s", name, entry)

    def _former_identity(self, profile_id: str) -> datetime | None:
        """When the profile was created that HEAD had under this id not long ago."""
        repository = self._repository
        for old, _ in list(repository.refs.reflog())[:20]:
            with contextlib.suppress(RepositoryDamagedError):
                created = self._created_at(repository.root_of(old), profile_id)
                if created is not None:
                    return created
        return None

    def _bring_back(self) -> None:
        """Give profiles that HEAD has again their browser data back.

        That is the case after ``git reset --hard`` to before a delete: git has made the
        directory with the tracked files only. Data returns to the same profile (id and
        moment of creation), never to another one of the same name.
        """
        repository = self._repository
        head = repository.head()
        for attic in (repository.trash, repository.rescued):
            for profile_id in attic.profile_ids():
                if find_entry(head.root, profile_id.encode()) is None:
                    continue
                paths = self._layout.profile(profile_id)
                missing = [
                    name for name in UNTRACKED_PARTS if not durable.is_there(paths.directory / name)
                ]
                if not missing or os.path.islink(paths.directory):
                    continue
                self._bring_back_parts(head, profile_id, missing)

    def _bring_back_parts(self, head: Head, profile_id: str, missing: list[str]) -> None:
        repository = self._repository
        metadata = self._committed(head, profile_id)
        if metadata is None:
            return
        created = parse_time(metadata["created_at"])
        directory = self._layout.profile(profile_id).directory
        entries = [
            (attic, entry)
            for attic in (repository.trash, repository.rescued)
            for entry in attic.entries(profile_id)
            if entry.kind in ("deleted", "unknown") and entry.profile_created_at == created
        ]
        for attic, entry in entries:
            data = entry.path / "data"
            if data.is_symlink():
                continue
            if not any(durable.is_there(data / name) for name in missing):
                continue
            durable.make_directory(directory)
            # What makes a profile look complete comes last, so that a crash is noticed. What
            # the profile has again goes before it, so that an entry of which all is taken
            # is empty.
            names = sorted(os.listdir(data), key=UNTRACKED_PARTS.__contains__)
            for name in names:
                if not durable.is_there(directory / name):
                    move(repository.layout, data / name, directory / name)
                elif name in _REMADE:
                    durable.remove_tree(data / name)
            durable.sync_tree((directory, data))
            log.warning("profile %s is in history again; its data came back", profile_id)
            if not os.listdir(data):
                attic.discard(entry.name)
            return


def _differing(index: Index, root: bytes) -> Iterator[tuple[str, dict[str, bytes]]]:
    """The directories whose entries in the index are not as a root tree has them."""
    staged: dict[str, dict[str, bytes]] = {}
    for path, header in index.staged().items():
        directory, slash, name = path.decode("utf-8", "surrogateescape").partition("/")
        if slash and header[24:28] != _SUBMODULE:
            staged.setdefault(directory, {})[name] = header[40:60]
    trees = {
        entry.name.decode("utf-8", "surrogateescape"): entry.id
        for entry in parse_tree(root)
        if entry.is_tree
    }
    for directory in staged.keys() | trees.keys():
        blobs = staged.get(directory, {})
        if object_id(b"tree", _tree_bytes(blobs)) != trees.get(directory):
            yield directory, blobs


def _check_fingerprint(content: bytes | None) -> None:
    if content is None:
        return
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        raise InvalidMetadataError("fingerprint.json is not JSON") from None
    if not isinstance(value, dict):
        raise InvalidMetadataError("fingerprint.json is not a JSON object")


def _blob_or_nothing(path: Path) -> bytes | None:
    """The id of a file's content, None if nothing is there, empty if it is no file."""
    try:
        return object_id(b"blob", durable.read_regular(path, schema.MAX_BYTES))
    except FileNotFoundError:
        return None
    except OSError as error:
        _refuse_moment(error, f"read {path.name} of profile '{path.parent.name}'")
        return b""


def _refuse_moment(error: OSError, doing: str) -> None:
    """Return if an error says what is at a path, and not only that it cannot be told now."""
    if is_of_the_moment(error):
        raise storage_error(error, doing) from error


def _tree_bytes(blobs: dict[str, bytes]) -> bytes:
    return serialise_tree(
        TreeEntry(BLOB_MODE, name.encode("utf-8", "surrogateescape"), blob)
        for name, blob in blobs.items()
    )
