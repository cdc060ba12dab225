"""Sealed sessions that came from elsewhere, opened for the profiles that have none here."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from tweakio.errors import TweakioError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tweakio.store.locks import ProfileLockManager
    from tweakio.store.repository import Repository
    from tweakio.vault.vault import Vault

__all__ = ["make_vault", "restore_sessions"]

log = logging.getLogger(__name__)


def make_vault(repository: Repository, locks: ProfileLockManager) -> Vault:
    """The vault of a repository that no ProfileManager has open."""
    from tweakio.vault.vault import Vault

    layout = repository.layout
    return Vault(layout, lambda: repository, lambda: repository, locks, lambda name: name)


def restore_sessions(
    repository: Repository, profile_ids: Iterable[str], locks: ProfileLockManager | None = None
) -> list[str]:
    """Give profiles without a session their sealed one, if an identity here opens it.

    Nobody is asked for anything, and a profile in use is left alone; what stays sealed is opened
    when its browser is.

    Args:
        repository: where.
        profile_ids: those that came.
        locks: tells which are in use.

    Returns:
        The profiles that have a session now.
    """
    layout = repository.layout
    names = [name for name in profile_ids if os.path.lexists(layout.profile(name).sealed)]
    if not names:
        return []
    if locks is None:
        from tweakio.lease.locking import locks_of

        locks = locks_of(layout)
    vault = make_vault(repository, locks)
    done = []
    for name in names:
        try:
            if not locks.is_locked(name) and vault.restore_if_missing(name):
                done.append(name)
        except (TweakioError, OSError) as error:
            # What brought it has taken place, and an error would say that it has not.
            log.warning("the session of profile %s is not restored yet: %s", name, error)
    return done
