"""Sealing a session as part of a change. It needs the recipients only, and no identity."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from tweakio import directories, durable
from tweakio.errors import (
    MissingExtraError,
    RecipientError,
    StorageError,
    VaultError,
    is_of_the_moment,
    storage_error,
)
from tweakio.store.objects import object_id
from tweakio.store.worktree import MOST_SEALED, SEALED
from tweakio.vault import age, confirmed
from tweakio.vault.recipients import RECIPIENTS, parse

if TYPE_CHECKING:
    from pathlib import Path

    from tweakio.store.repository import Repository
    from tweakio.store.transaction import Transaction

__all__ = ["is_empty", "put_sealed", "put_session", "read_session"]

log = logging.getLogger(__name__)


def is_empty(content: bytes) -> bool:
    """Whether a session.json says nothing of any login."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return not content.strip()
    return not value or (isinstance(value, dict) and not any(value.values()))


def read_session(path: Path) -> bytes | None:
    """A session that says something; None if there is none.

    Raises:
        StorageError: it cannot be read now; who takes that for none would put another in its place.
    """
    try:
        content = durable.read_regular(path, MOST_SEALED)
    except OSError as error:
        if is_of_the_moment(error):
            raise storage_error(error, "read session.json") from error
        return None
    return None if is_empty(content) else content


def put_session(
    change: Transaction, repository: Repository, profile_id: str, path: Path | None = None
) -> bytes | None:
    """Put a profile's session into a change, sealed, if there is a vault.

    A login must not fail because it cannot be sealed; that is said in the log.

    Args:
        change: the transaction that saves or records the session.
        repository: where.
        profile_id: whose.
        path: of its session.json, if that is elsewhere at the moment.

    Returns:
        What was put; None if nothing was.
    """
    listed = parse(change.root_file(RECIPIENTS))
    if not listed:
        return None
    # What cannot be read now fails the change, as what cannot be written does.
    content = read_session(path or repository.layout.profile(profile_id).session)
    if content is None:
        return None
    try:
        confirmed.note_first(repository.layout, listed)
        recipients = confirmed.among(repository.layout, listed)
        confirmed.require(recipients)
        sealed = age.seal(content, recipients)
    except (MissingExtraError, RecipientError, StorageError, VaultError) as error:
        log.warning("the session of profile %s is not sealed: %s", profile_id, error)
        return None
    put_sealed(change, repository, profile_id, sealed)
    return sealed


def put_sealed(change: Transaction, repository: Repository, profile_id: str, sealed: bytes) -> None:
    """Put a sealed session into a change; what stands in its place by mistake is put aside."""
    path = repository.layout.profile(profile_id).sealed
    if durable.is_there(path) and not path.parent.is_symlink():
        committed = (repository.files_at(change.head.root, profile_id) or {}).get(SEALED)
        try:
            present = object_id(b"blob", durable.read_regular(path, MOST_SEALED))
        except OSError as error:
            if is_of_the_moment(error):
                raise storage_error(error, f"read {SEALED} of profile '{profile_id}'") from error
            present = b""
        if present != committed:
            directories.keep_file(change, repository, profile_id, path)
    change.put(profile_id, SEALED, sealed)
