"""What a repository that came from elsewhere needs before anybody works with it."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING

from tweakio import changes, durable, trust
from tweakio.errors import (
    FileAccessError,
    InvalidMetadataError,
    LockTimeoutError,
    NewerFormatError,
    RepositoryBusyError,
    RepositoryDamagedError,
)
from tweakio.vault import confirmed
from tweakio.vault.recipients import RECIPIENTS, parse

if TYPE_CHECKING:
    from tweakio.store.locks import ProfileLockManager
    from tweakio.store.repository import Repository
    from tweakio.store.transaction import Transaction

__all__ = ["put_arrival", "settle_in"]

log = logging.getLogger(__name__)

_IN_THE_WAY = (LockTimeoutError, RepositoryBusyError, RepositoryDamagedError)


def put_arrival(change: Transaction, locks: ProfileLockManager, profile_ids: list[str]) -> None:
    """Put into a change that nothing of another machine is active here.

    Args:
        change: the transaction.
        locks: tells what is in use here.
        profile_ids: the profiles to look at.
    """
    left = []
    for profile_id in profile_ids:
        try:
            value = change.metadata(profile_id)
        except (InvalidMetadataError, NewerFormatError):
            continue
        if value["status"] != "active" and value.get("lock_pid") is None:
            continue
        if not locks.is_locked(profile_id):
            changes.set_inactive(change, profile_id)
            left.append(profile_id)
    change.summary = f"arrive: {changes.name_some(left) or 'nothing'} is not active here"


def settle_in(repository: Repository, locks: ProfileLockManager) -> None:
    """Settle in a clone that plain git made.

    What is in the way of any change now is left to the next opener: looking must go on.

    Raises:
        StorageError: it cannot be written.
    """
    try:
        names = list(repository.work_tree.ids(repository.head()))
        with changes.begin(repository, locks, "arrive", names, command="git clone") as change:
            confirmed.note_first(repository.layout, parse(change.root_file(RECIPIENTS)))
            put_arrival(change, locks, names)
        trust.arrived(repository, trust.committed(repository, names))
        with contextlib.suppress(OSError):
            durable.remove(repository.layout.arrived)
    except FileAccessError as error:
        if os.access(repository.layout.local, os.W_OK):
            raise
        log.debug("read-only: the clone is settled in later: %s", error)
    except _IN_THE_WAY as error:
        log.debug("the clone is settled in by the next command: %s", error)
