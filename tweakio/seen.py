"""Which profiles have had browser data on this machine, so that their loss is noticed.

One small file for each profile in ``.git/tweakio/seen``, which git does not reach. tweakio always
leaves a directory of browser data where one was, even an empty one: a reset makes a new one, in
the same step. git leaves none. So data are lost if the directory is gone, and the profile that has
the id now has had some.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from typing import TYPE_CHECKING

from tweakio import durable
from tweakio.errors import storage_error
from tweakio.models import format_time
from tweakio.shelter import SHELTER

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from pathlib import Path

    from tweakio.layout import Layout

__all__ = ["is_lost", "lost", "note"]

log = logging.getLogger(__name__)

_MOST = 1 << 12


def note(layout: Layout, profile_id: str, created_at: datetime | None) -> None:
    """Note that a profile has browser data, if it has; an error is logged only.

    Not synced: what a power cut takes is noted again with the next opening.

    Args:
        layout: the home.
        profile_id: whose; it must have been validated.
        created_at: when it was made, which tells it from an earlier one of the id.
    """
    path = layout.seen_of(profile_id)
    try:
        if created_at is None or not _has_data(layout.profile(profile_id).browser_profile):
            return
        if _noted(path) == format_time(created_at):
            return
        durable.make_directory(path.parent, parents=True)
        content = f"{json.dumps({'created_at': format_time(created_at)})}\n".encode()
        with contextlib.suppress(FileNotFoundError):
            # Whoever takes the repository's lock empties the directory; then the next time.
            temporary = layout.temporary / f"seen-{os.urandom(8).hex()}"
            durable.create(temporary, content, sync=False)
            os.replace(temporary, path)
    except OSError as error:
        log.warning("that '%s' has browser data cannot be noted: %s", profile_id, error)


def is_lost(layout: Layout, profile_id: str, created_at: datetime | None) -> bool:
    """Whether a profile had browser data, and something else than tweakio removed them.

    Args:
        layout: the home.
        profile_id: whose; it must have been validated.
        created_at: when it was made; None if that is gone as well, as in a sparse checkout.

    Raises:
        StorageError: it cannot be seen now.
    """
    try:
        if durable.is_there(layout.profile(profile_id).browser_profile):
            return False
        noted = _noted(layout.seen_of(profile_id))
    except OSError as error:
        raise storage_error(error, f"look at the browser data of '{profile_id}'") from error
    return noted is not None and (created_at is None or noted == format_time(created_at))


def lost(layout: Layout, profiles: Iterable[tuple[str, datetime | None]]) -> list[str]:
    """The same of many, of which most were never noted.

    Raises:
        StorageError: it cannot be seen now.
    """
    try:
        noted = set(os.listdir(layout.seen))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise storage_error(error, "look at the browser data of profiles") from error
    top = os.fspath(layout.profiles)
    return [
        profile_id
        for profile_id, created_at in profiles
        if f"{profile_id}.json" in noted
        # Of a thousand this is all that most need.
        and not os.path.lexists(f"{top}/{profile_id}/browser_profile")
        and is_lost(layout, profile_id, created_at)
    ]


def _noted(path: Path) -> str | None:
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError, RecursionError):
        return str(json.loads(durable.read_regular(path, _MOST))["created_at"])
    return None


def _has_data(browser_data: Path) -> bool:
    with (
        contextlib.suppress(FileNotFoundError, NotADirectoryError),
        os.scandir(browser_data) as found,
    ):
        return any(entry.name != SHELTER for entry in found)
    return False
