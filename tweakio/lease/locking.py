"""The locks of a home, as everybody has them: with the leases on its profiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tweakio.lease.holder import LeaseHolder
from tweakio.store.locks import ProfileLockManager

if TYPE_CHECKING:
    from tweakio.layout import Layout

__all__ = ["locks_of"]


def locks_of(layout: Layout) -> ProfileLockManager:
    """A lock manager for who was given none.

    Nothing else makes one: a change by one without leases would pass by another machine's.

    Args:
        layout: the home.
    """
    locks = ProfileLockManager(layout)
    locks.make_guard = LeaseHolder
    return locks
