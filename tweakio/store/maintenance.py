"""What keeps a repository small: packing objects, and emptying the trash of what is old."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from tweakio.models import utc_now
from tweakio.store.hooks import install_hooks

if TYPE_CHECKING:
    from tweakio.store.repository import Repository

__all__ = ["TRASH_AGE", "expire_trash", "is_due", "maintain", "pack"]

log = logging.getLogger(__name__)

TRASH_AGE = timedelta(days=30)
# About 64 commits, each of 4 to 6 objects.
_MANY_OBJECTS = 64 * 5
_MANY_BYTES = 32 << 20
_EVERY = 16


def is_due(commit_id: str) -> bool:
    """Whether to look, after a commit, if there is anything to do.

    Counting what is new takes a millisecond and more, so it is done after every sixteenth
    commit; which one it is, its random id decides, and no counter has to be kept.
    """
    return int(commit_id[:8], 16) % _EVERY == 0


def maintain(repository: Repository) -> None:
    """Pack and expire if it is worth it; the repository's lock is held.

    The change before it is done and acknowledged, so nothing here makes it fail.
    """
    from tweakio.store.packs import recent_statistics

    try:
        found = recent_statistics(repository.layout.git_dir / "objects")
        if found.count >= _MANY_OBJECTS or found.bytes >= _MANY_BYTES:
            pack(repository)
        expire_trash(repository)
        # Those of an earlier version look at less.
        install_hooks(repository.layout.git_dir)
    except Exception as error:
        log.warning("packing the history was put off: %s", error)
        log.debug("because of this", exc_info=True)


def pack(repository: Repository) -> int:
    """Pack what is loose or in commit packs; the number of objects.

    The repository's lock is held.
    """
    from tweakio.store.leftovers import remove_leftovers
    from tweakio.store.packs import pack_recent

    secrets = remove_leftovers(repository).others
    # Windows does not unlink a file that is open.
    repository.reader.close()
    objects, temporary = repository.layout.git_dir / "objects", repository.layout.temporary
    report = pack_recent(objects, temporary, leave=secrets)
    log.info("packed %d objects", report.packed)
    return report.packed


def expire_trash(repository: Repository) -> int:
    """Remove trash entries that are older than 30 days; the number of them.

    What was rescued is removed by command only: nobody asked for it to be deleted.
    """
    now = utc_now()
    old = [entry for entry in repository.trash.entries() if now - entry.time > TRASH_AGE]
    for entry in old:
        repository.trash.discard(entry.name)
    return len(old)
