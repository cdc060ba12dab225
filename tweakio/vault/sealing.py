"""Encrypting a session as part of a change. It needs the recipients only, and no identity."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from tweakio import directories, durable
from tweakio.errors import (
    InvalidMetadataError,
    MissingExtraError,
    NewerFormatError,
    RecipientError,
    StorageError,
    TweakioError,
    VaultError,
    is_of_the_moment,
    storage_error,
)
from tweakio.store.objects import object_id
from tweakio.store.worktree import MOST_SEALED, SEALED
from tweakio.vault import age, binding, confirmed, counters, identity
from tweakio.vault.recipients import RECIPIENTS, parse

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tweakio.store.repository import Repository
    from tweakio.store.transaction import Transaction
    from tweakio.vault.binding import Place

__all__ = ["accept_older", "encrypted", "is_empty", "put_sealed", "put_session", "read_session"]

log = logging.getLogger(__name__)

_MOST_SESSION = MOST_SEALED - (1 << 20)
"""What age, its recipients and the header add is less than the rest."""


def is_empty(content: bytes) -> bool:
    """Whether a session.json says nothing of any login."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        # With a header, an older tweakio has decrypted it, and could not use it.
        return not content.strip() or binding.is_bound(content)
    return not value or (isinstance(value, dict) and not any(value.values()))


def read_session(path: Path) -> bytes | None:
    """A session that says something; None if there is none.

    Raises:
        StorageError: it cannot be read now; who takes that for none would put another in its place.
    """
    try:
        content = durable.read_regular(path, _MOST_SESSION)
    except OSError as error:
        if is_of_the_moment(error):
            raise storage_error(error, "read session.json") from error
        return None
    return None if is_empty(content) else content


def put_session(
    change: Transaction,
    repository: Repository,
    profile_id: str,
    path: Path | None = None,
    *,
    created_at: str = "",
) -> bytes | None:
    """Put a profile's session into a change, encrypted, if there is a vault.

    A login must not fail because it cannot be encrypted; that is said in the log.

    Args:
        change: the transaction that saves or records the session.
        repository: where.
        profile_id: whose.
        path: of its session.json, if that is elsewhere at the moment.
        created_at: of the profile, if the change does not have it yet.

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
        created_at = created_at or str(change.metadata(profile_id)["created_at"])
        place = binding.session(profile_id, created_at)
        sealed = encrypted(change, repository, place, content, recipients)
    except (
        InvalidMetadataError,
        MissingExtraError,
        NewerFormatError,
        RecipientError,
        StorageError,
        VaultError,
    ) as error:
        log.warning("the session of profile %s is not sealed: %s", profile_id, error)
        return None
    put_sealed(change, repository, profile_id, sealed)
    return sealed


def encrypted(
    change: Transaction,
    repository: Repository,
    place: Place,
    content: bytes,
    recipients: Sequence[str],
) -> bytes:
    """Encrypt a session for its place, with a counter above what is there.

    Args:
        change: what it becomes part of; once that has taken place, the counter is noted.
        repository: where.
        place: of the session.
        content: of it.
        recipients: who can decrypt it.

    Raises:
        RecipientError, MissingExtraError: as ``age.seal``.
    """
    layout = repository.layout
    present = repository.file_at(change.head.root, place.profile_id, SEALED)
    counter = counters.upcoming(layout, place, _counter(change, repository, place, present))
    sealed = age.seal(binding.bind(place, counter, content), recipients)
    change.afterwards.append(lambda: counters.note(layout, place, counter))
    return sealed


def _counter(
    change: Transaction, repository: Repository, place: Place, sealed: bytes | None
) -> int:
    """The counter of a session, if it can be decrypted without a question; else 0."""
    if sealed is None:
        return 0
    try:
        stored = identity.find(repository.layout, parse(change.root_file(RECIPIENTS)))
        if stored is None or stored.protected:
            return 0
        found = binding.read(age.unseal(sealed, [stored.content.decode("utf-8", "replace")]))
    except TweakioError:
        return 0
    return found.counter if found.place == place else 0


def accept_older(change: Transaction, repository: Repository, profile_id: str) -> None:
    """Let a session be used that a person brings back, whatever this machine has seen since."""
    try:
        created_at = str(change.metadata(profile_id)["created_at"])
    except (InvalidMetadataError, NewerFormatError):
        return
    place = binding.session(profile_id, created_at)
    counter = _counter(change, repository, place, change.file(profile_id, SEALED))

    def accept() -> None:
        counters.forget(repository.layout, place)
        counters.note(repository.layout, place, counter)

    change.afterwards.append(accept)


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
