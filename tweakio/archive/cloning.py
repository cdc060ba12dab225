"""A second profile with the settings of one that is here."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from tweakio import bundle, changes, seen, trust
from tweakio.archive.importer import Incoming, build, inactive, plan, unpacked
from tweakio.metadata import ProfileMetadataHandler, healthy
from tweakio.models import format_time

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager
    from datetime import datetime
    from pathlib import Path

    from tweakio.store.locks import ProfileLockManager
    from tweakio.store.repository import Repository
    from tweakio.validator import ProfileValidator

__all__ = ["clone"]

log = logging.getLogger(__name__)


def clone(
    repository: Repository,
    locks: ProfileLockManager,
    validator: ProfileValidator,
    hold: Callable[[str], AbstractContextManager[object]],
    command: str,
    profile_id: str,
    new_id: str,
    moment: datetime,
    moved: Callable[[Mapping[str, Any], str, str], tuple[dict[str, Any], list[str]]],
    *,
    with_session: bool = False,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Make the clone as one commit; see ``ProfileManager.clone_profile``.

    Args:
        repository: where.
        locks: tells which holders are alive.
        validator: the rules about names.
        hold: takes the lock of a profile whose browser is closed, or says why not.
        command: for the history.
        profile_id: a sound profile.
        new_id: a free id.
        moment: when the clone is created.
        moved: encrypts the secrets in its settings for the clone; see ``Vault.moved``.
        with_session: copy its session and browser data as well.
        progress: called with the bytes of browser data that were copied so far.

    Returns:
        The clone's metadata.
    """
    validator.validate_id(new_id)
    paths = repository.layout.profile(profile_id)

    def copy(into: Path | None, progress: Callable[[int], None] | None) -> None:
        if into is not None:
            bundle.copy_contents(paths, into, progress)

    def refuse_taken(item: Incoming, taken: list[str]) -> None:
        hint = "choose another id"
        plan([item], taken, validator, as_id=None, existing="refuse", taken_hint=hint)

    def incoming(value: dict[str, Any]) -> Incoming:
        value, lost[:] = moved(inactive(value), new_id, format_time(moment))
        value["last_used"] = value["created_at"]
        return Incoming(
            value,
            has_data=with_session,
            unpack=copy if with_session else None,
            foreign=False,
        )

    lost: list[str] = []
    # The profile's lock before the repository's: whoever holds one may need the other to let go.
    with hold(profile_id) if with_session else nullcontext():
        item = incoming(ProfileMetadataHandler(repository).load(profile_id))
        refuse_taken(item, repository.work_tree.ids(repository.head()))
        trust.prepare(repository)
        with (
            unpacked(repository, [item], [True], progress) as [built],
            changes.begin(repository, locks, "clone", [profile_id], command=command) as change,
        ):
            # Again, now that nobody can change it.
            item = incoming(healthy(change, profile_id))
            refuse_taken(item, change.profile_ids())
            trust.inherit(repository, change.metadata(profile_id), item.metadata)
            build(change, repository, item, new_id, built)
            change.summary = f"clone {profile_id} as {new_id}"
            if with_session:
                change.summary += " with its session"
    seen.note(repository.layout, new_id, moment)
    if lost:
        log.warning(
            "not copied to %s, as it cannot be decrypted here: %s; set it again",
            new_id,
            changes.name_some(lost),
        )
    return item.metadata
