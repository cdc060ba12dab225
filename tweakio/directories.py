"""A profile's directory: built, taken away and brought back as part of a change."""

from __future__ import annotations

import json
import logging
import os
from typing import TYPE_CHECKING, Any

from tweakio import durable, schema, seen
from tweakio.errors import InvalidMetadataError, NewerFormatError, is_of_the_moment
from tweakio.layout import ProfilePaths
from tweakio.models import parse_time
from tweakio.references import is_age_file
from tweakio.shelter import shelter
from tweakio.store.worktree import (
    FINGERPRINT,
    METADATA,
    MOST_SEALED,
    SEALED,
    UNTRACKED_PARTS,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime
    from pathlib import Path

    from tweakio.models import TrashEntry
    from tweakio.store.repository import Repository
    from tweakio.store.transaction import Transaction

__all__ = [
    "bring_back",
    "build",
    "complete",
    "complete_directory",
    "complete_parts",
    "identity_at",
    "json_bytes",
    "keep_damaged_files",
    "keep_file",
    "new_fingerprint",
    "replace_parts",
    "reset",
    "take_away",
]

log = logging.getLogger(__name__)

_MORE_TRIES = 2
_NO_FILES: Mapping[str, bytes] = {}


def json_bytes(value: Mapping[str, Any]) -> bytes:
    """JSON as our files have it."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _empty_session(platform: str) -> bytes:
    from tweakio.platforms import find_platform

    known = find_platform(platform)
    # A profile of a platform whose package is not installed can still be undone.
    return json_bytes(known.session_handler().empty_session() if known else {})


def new_fingerprint(change: Transaction, platform: str, profile_id: str) -> bytes:
    """The content of fingerprint.json for a new profile, or for the copy of one.

    No other profile of the repository has the same. Ours are random; of what somebody else's
    generator makes twice, the second gets a member ``unique``, if asking again does not help.

    Args:
        change: the transaction that it becomes part of.
        platform: whose generator makes it; ours does if that is not installed.
        profile_id: whose it will be.
    """
    from tweakio.platforms import find_platform
    from tweakio.platforms.fingerprints import SeededFingerprintGenerator, is_seeded

    known = find_platform(platform)
    generator = known.fingerprint_generator() if known else SeededFingerprintGenerator()
    content = json_bytes(generator.generate(profile_id))
    if is_seeded(generator):
        return content
    for _ in range(_MORE_TRIES):
        if not change.has_content(FINGERPRINT, content):
            return content
        made = generator.generate(profile_id)
        content = json_bytes(made)
    if change.has_content(FINGERPRINT, content):
        import secrets

        content = json_bytes({**made, "unique": secrets.token_hex(16)})
    return content


def complete_directory(
    directory: Path,
    platform: str,
    *,
    leave_out: Collection[str] = (),
    files: Mapping[str, bytes] = _NO_FILES,
) -> None:
    """Make the untracked parts that a directory lacks.

    Args:
        directory: the profile's, in its place or being built.
        platform: whose empty session it begins with.
        leave_out: names of parts that will be put there otherwise.
        files: others to write there.
    """
    paths = ProfilePaths(directory)
    if "browser_profile" not in leave_out:
        durable.make_directory(paths.browser_profile)
        shelter(paths.browser_profile)
    durable.make_directory(paths.cache)
    with durable.Batch() as batch:
        for name, content in files.items():
            batch.create(directory / name, content)
        if "session.json" not in leave_out and not durable.is_there(paths.session):
            batch.create(paths.session, _empty_session(platform))
    if not durable.is_there(paths.lock):
        durable.create(paths.lock, b"", sync=False)
    durable.fsync_directory(directory)


def build(
    change: Transaction,
    repository: Repository,
    profile_id: str,
    platform: str,
    files: Mapping[str, bytes],
) -> None:
    """Make a new profile's directory and track its files.

    Args:
        change: the transaction that it becomes part of.
        repository: where.
        profile_id: validated, and free.
        platform: whose empty session it begins with.
        files: the tracked files; their content is checked by the caller.
    """
    staged = change.stage(f"new-{profile_id}")
    for name, content in files.items():
        change.put(profile_id, name, content)
    complete_directory(staged, platform, files=files)
    change.move(staged, repository.layout.profile(profile_id).directory)


def complete(
    repository: Repository, profile_id: str, platform: str, created: datetime | None = None
) -> None:
    """Make the untracked parts that a profile lacks, as after a clone.

    Args:
        repository: where.
        profile_id: whose.
        platform: whose empty session it begins with.
        created: when it was made; then browser data that were lost are not made anew, which would
            hide the loss.
    """
    paths = repository.layout.profile(profile_id)
    parts = (paths.browser_profile, paths.cache, paths.session)
    if all(durable.is_there(path) for path in parts):
        return
    lost = created is not None and seen.is_lost(repository.layout, profile_id, created)
    durable.make_directory(paths.directory)
    complete_directory(
        paths.directory, platform, leave_out=(paths.browser_profile.name,) if lost else ()
    )
    if lost:
        log.warning("the browser data of profile '%s' are gone; doctor says more", profile_id)


def identity_at(repository: Repository, root: bytes, profile_id: str) -> datetime | None:
    """When the profile of this id in a tree was created; None if that cannot be read."""
    content = repository.file_at(root, profile_id, METADATA)
    try:
        return parse_time(schema.load(content or b"", profile_id)["created_at"])
    except (InvalidMetadataError, NewerFormatError):
        return None


def take_away(
    change: Transaction, repository: Repository, profile_id: str, *, purge: bool = False
) -> None:
    """Remove a profile: from the tree, and its directory into the trash.

    Args:
        change: the transaction that it becomes part of.
        repository: where.
        profile_id: an existing profile that nobody uses.
        purge: remove what came to the trash once the change has taken place.
    """
    from tweakio.browser.data import refuse_link, refuse_live

    directory = repository.layout.profile(profile_id).directory
    refuse_live(repository.layout.profile(profile_id).browser_profile, profile_id)
    if purge:
        refuse_link(repository.layout.profile(profile_id).browser_profile, profile_id)
    if durable.is_there(directory):
        created = identity_at(repository, change.head.root, profile_id)
        name = change.keep(repository.trash, profile_id, "deleted", created, directory)
        if purge:
            change.purge_after(repository.trash.root / name)
    change.remove(profile_id)


def find_deleted(
    repository: Repository, profile_id: str, created: datetime | None, names: tuple[str, ...] = ()
) -> TrashEntry | None:
    """The newest trash entry of a profile that was deleted.

    Args:
        repository: where.
        profile_id: whose.
        created: the profile's identity; another one's data is never taken.
        names: entries to prefer, as the commit that deleted it names them.
    """
    entries = [
        entry
        for attic in (repository.trash, repository.rescued)
        for entry in attic.entries(profile_id)
        if entry.kind in ("deleted", "unknown")
    ]
    named = [entry for entry in entries if entry.name in names]
    same = [entry for entry in entries if created and entry.profile_created_at == created]
    return next(iter(named + same), None)


def bring_back(
    change: Transaction,
    repository: Repository,
    profile_id: str,
    files: Mapping[str, bytes],
    names: tuple[str, ...] = (),
) -> bool:
    """Bring a deleted profile back with its browser data, as far as that was kept.

    Args:
        change: the transaction that it becomes part of.
        repository: where.
        profile_id: a free id.
        files: its tracked files.
        names: trash entries to prefer.

    Returns:
        Whether it was kept: the newest encrypted session comes with it, and that of ``files`` else.
    """
    try:
        metadata = schema.load(files.get(METADATA, b""), profile_id)
        created, platform = parse_time(metadata["created_at"]), str(metadata["platform"])
    except (InvalidMetadataError, NewerFormatError):
        created, platform = None, "custom"
    entry = find_deleted(repository, profile_id, created, names)
    if entry is None:
        # Purged, expired, or gone before it was deleted: only that there is none is certain.
        log.warning("no browser data of profile %s is kept; it starts empty", profile_id)
        build(change, repository, profile_id, platform, files)
        return False
    if not durable.is_there(entry.path / "data" / "browser_profile"):
        log.warning("profile %s had no browser data when it was deleted", profile_id)
    directory = repository.layout.profile(profile_id).directory
    staged = change.stage(f"back-{profile_id}")
    # The tracked files of the directory are as they were when it was deleted; the ones to
    # bring back may be older. Both ways the new ones take their place after the commit.
    files = {**files, **_last_sealed(entry)}
    for name in (METADATA, FINGERPRINT, SEALED):
        old = entry.path / "data" / name
        if durable.is_there(old) and not old.parent.is_symlink():
            change.move(old, staged / name)
    change.move(entry.path / "data", directory)
    change.purge_after(entry.path)
    for name, content in files.items():
        change.put(profile_id, name, content)
    return True


def _last_sealed(entry: TrashEntry) -> dict[str, bytes]:
    """The sealed session that was deleted with the session it is of.

    That of an older revision would be an older session than the one that comes back.
    """
    path = entry.path / "data" / SEALED
    try:
        content = durable.read_regular(path, MOST_SEALED)
    except OSError as error:
        if is_of_the_moment(error):
            raise
        return {}
    return {SEALED: content} if is_age_file(content) and not path.parent.is_symlink() else {}


def reset(
    change: Transaction,
    repository: Repository,
    profile_id: str,
    platform: str,
    back: str | None = None,
) -> None:
    """Replace session.json and browser_profile/; the present ones go into the trash.

    Args:
        change: the transaction that it becomes part of.
        repository: where.
        profile_id: an existing profile that nobody else uses.
        platform: whose empty session takes the place.
        back: a trash entry whose parts take the place instead.
    """
    paths = repository.layout.profile(profile_id)
    _refuse_to_replace(paths.browser_profile, profile_id)
    present = {
        name: paths.directory / name
        for name in UNTRACKED_PARTS
        if durable.is_there(paths.directory / name)
    }
    if present:
        created = identity_at(repository, change.head.root, profile_id)
        change.keep(repository.trash, profile_id, "reset", created, present)
    if back is not None:
        entry = repository.trash.get(back)
        for name in UNTRACKED_PARTS:
            if durable.is_there(entry.path / "data" / name):
                change.move(entry.path / "data" / name, paths.directory / name)
        change.purge_after(entry.path)
        return
    if SEALED in (repository.files_at(change.head.root, profile_id) or {}):
        # Or the next opening would take the old session from there.
        change.put(profile_id, SEALED, None)
    staged = change.stage(f"reset-{profile_id}")
    durable.make_directory(staged / "browser_profile")
    durable.create(staged / "session.json", _empty_session(platform))
    durable.fsync_directory(staged)
    if not durable.is_there(paths.directory):
        change.move(staged, paths.directory)
        return
    for name in UNTRACKED_PARTS:
        change.move(staged / name, paths.directory / name)


def _refuse_to_replace(user_data: Path, profile_id: str) -> None:
    from tweakio.browser.data import refuse_link, refuse_live

    refuse_live(user_data, profile_id)
    refuse_link(user_data, profile_id)


def complete_parts(directory: Path, platform: str) -> None:
    """Make what a directory lacks of a profile's session and browser data."""
    paths = ProfilePaths(directory)
    durable.make_directory(paths.browser_profile)
    shelter(paths.browser_profile)
    if not durable.is_there(paths.session):
        durable.create(paths.session, _empty_session(platform))
    durable.fsync_directory(directory)


def replace_parts(
    change: Transaction, repository: Repository, profile_id: str, source: Path
) -> None:
    """Replace session.json and browser_profile/ by others; the present ones go into the trash.

    Args:
        change: the transaction that it becomes part of.
        repository: where.
        profile_id: an existing profile that nobody else uses.
        source: a directory of the same file system that has both.
    """
    directory = repository.layout.profile(profile_id).directory
    _refuse_to_replace(directory / "browser_profile", profile_id)
    present = {
        name: directory / name for name in UNTRACKED_PARTS if durable.is_there(directory / name)
    }
    if present:
        created = identity_at(repository, change.head.root, profile_id)
        change.keep(repository.trash, profile_id, "reset", created, present)
    for name in UNTRACKED_PARTS:
        change.move(source / name, directory / name)


def keep_file(change: Transaction, repository: Repository, profile_id: str, path: Path) -> None:
    """Move a damaged file into the rescued, in the same step as a change."""
    if durable.is_there(path):
        change.keep(repository.rescued, profile_id, "damaged", None, {path.name: path})


def keep_damaged_files(change: Transaction, repository: Repository, profile_id: str) -> bool:
    """The same for each tracked file that is not as HEAD has it; whether there was one.

    A valid edit was adopted when the change began, so what differs now is damaged.
    """
    paths = repository.layout.profile(profile_id)
    if os.path.islink(paths.directory):
        return False  # what a link leads to is not the profile's
    found = False
    for path in (paths.metadata, paths.fingerprint):
        try:
            content = durable.read_regular(path, schema.MAX_BYTES)
        except FileNotFoundError:
            continue
        except OSError as error:
            if is_of_the_moment(error):
                raise  # sound bytes must not be put aside as damaged
            content = None
        committed = repository.file_at(change.head.root, profile_id, path.name)
        if content is None or content != committed:
            keep_file(change, repository, profile_id, path)
            found = True
    return found
