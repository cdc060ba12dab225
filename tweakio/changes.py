"""Beginning a change: the transaction that every use case runs in.

What is the same for all of them is here: a holder that died is written down in whatever
change comes next.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tweakio.errors import InvalidMetadataError, NewerFormatError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from tweakio.store.locks import Guard, ProfileLockManager
    from tweakio.store.repository import Repository
    from tweakio.store.transaction import Transaction

__all__ = ["begin", "changed_fields", "name_some", "set_inactive", "shown_field"]

log = logging.getLogger(__name__)

# A pull takes over what another machine has done, under its own lease; and who may read what is
# sealed does not wait until nobody uses anything.
_PAST_OTHERS = frozenset({"pull", "vault-init", "vault-recipients"})
"""Operations that change profiles of which another machine has the lease."""
_OWN = frozenset({"status", "lock_pid"})
"""What is each machine's own in a profile's metadata."""


@contextmanager
def begin(
    repository: Repository,
    locks: ProfileLockManager,
    operation: str,
    profile_ids: Iterable[str] = (),
    *,
    command: str = "",
) -> Iterator[Transaction]:
    """A transaction that also clears the selections of programs that died.

    Args:
        repository: where.
        locks: tells which holders are alive.
        operation: one word for the history.
        profile_ids: what will be touched.
        command: what the user ran, without its arguments.

    Raises:
        As ``Repository.transaction``.
        LeaseLostError: it touches a profile whose lease was lost.
        LeaseError: it touches a profile that another machine has a lease of.
    """
    named = tuple(profile_ids)
    with repository.transaction(operation, named, command=command) as change:
        yield change
        if change.has_changes() or change.record_always:
            if locks.guard is not None:
                _fence(change, locks, locks.guard, operation, named)
            _clear_dead(change, locks)
    for call in change.afterwards:
        call()


def _fence(
    change: Transaction,
    locks: ProfileLockManager,
    guard: Guard,
    operation: str,
    named: Collection[str],
) -> None:
    """Write down the leases under which a change is made; what was lost is not changed."""

    def is_owner(profile_id: str, pid: int) -> bool:
        owner = locks.owner(profile_id)
        return owner is not None and owner.pid == pid

    # Nobody has a lease of what this change makes.
    touched = [name for name in sorted({*named, *change.touched()}) if change.is_at_base(name)]
    strict = {name for name in touched if name in named or not change.sets_only(name, _OWN)}
    tokens = guard.tokens(touched, is_owner, () if operation in _PAST_OTHERS else strict)
    for profile_id, token in sorted(tokens.items()):
        change.add_trailer("Tweakio-Fence", f"{profile_id} {token}")


def _clear_dead(change: Transaction, locks: ProfileLockManager) -> None:
    for profile_id, pid in change.head.active.items():
        if pid is None or not change.exists(profile_id) or locks.is_locked(profile_id):
            continue
        log.warning("profile %s was left active by process %d", profile_id, pid)
        locks.cleanup_stale(profile_id)
        try:
            if change.metadata(profile_id)["status"] == "active":
                set_inactive(change, profile_id)
        except (InvalidMetadataError, NewerFormatError):
            # The change takes back a person's edit and puts what was invalid before.
            log.debug("the metadata of profile %s is left as it is", profile_id)


def set_inactive(change: Transaction, profile_id: str) -> None:
    """Put into a change that a profile is not active any more."""
    value = {**change.metadata(profile_id), "status": "inactive"}
    change.put_metadata(profile_id, {key: item for key, item in value.items() if key != "lock_pid"})


def changed_fields(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The names of the fields of metadata that differ, settings key by key, for a summary."""
    found = []
    for field in dict.fromkeys([*before, *after]):
        old, new = before.get(field), after.get(field)
        if old == new or not (old or new):
            continue
        sides = [{} if side is None else side for side in (old, new)]
        if field in ("platform_config", "browser") and all(isinstance(s, dict) for s in sides):
            one, other = sides
            keys = [k for k in dict.fromkeys([*one, *other]) if one.get(k) != other.get(k)]
            found += [f"{field}.{key}" for key in keys]
        else:
            found.append(field)
    return [shown_field(name) for name in found]


def shown_field(name: str) -> str:
    """The name of a field, which somebody else may have made up, as a part of one line."""
    return "".join(c if c.isprintable() else "?" for c in name[:60])


def name_some(names: Sequence[str]) -> str:
    """Names for a summary: at most three of them, and how many more there are."""
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
