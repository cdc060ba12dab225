"""The highest counters that this machine has seen, so that nothing older comes back unnoticed.

One small file for each profile in ``.git/tweakio/counters``, which never travels. Written when
something was encrypted and committed, or used: never on the way of what is only looked at. Two
programs that write at the same time may lose one of two counters; the next use notes it again.
"""

from __future__ import annotations

import json
import logging
import os
from typing import TYPE_CHECKING

from tweakio import durable
from tweakio.errors import StorageError, is_of_the_moment, storage_error
from tweakio.vault import binding

if TYPE_CHECKING:
    from tweakio.layout import Layout
    from tweakio.vault.binding import Place

__all__ = ["forget", "highest", "note", "upcoming"]

log = logging.getLogger(__name__)

_MOST = 1 << 20
_MOST_PLACES = 4096
_TRIES = 5


def _places(layout: Layout, place: Place) -> dict[str, int]:
    """The counters of one profile; of an earlier one of the same id there are none.

    Raises:
        StorageError: they cannot be read now; who takes that for none would use something old.
    """
    try:
        content = durable.read_regular(layout.counters_of(place.profile_id), _MOST)
        value = json.loads(content)
        if value["created_at"] != place.created_at:
            return {}
        return {
            str(text): counter
            for text, counter in value["places"].items()
            # A clock that was wrong must not make everything too old for ever.
            if type(counter) is int and counter > 0 and not binding.is_too_new(counter)
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, OSError) and is_of_the_moment(error):
            raise storage_error(error, "read which encrypted data is the newest") from error
        log.warning(
            "which encrypted data of profile '%s' is the newest cannot be read (%s)",
            place.profile_id,
            type(error).__name__,
        )
        return {}


def highest(layout: Layout, place: Place) -> int:
    """The highest counter that was seen at a place; 0 if none was."""
    return _places(layout, place).get(place.text, 0)


def upcoming(layout: Layout, place: Place, present: int = 0) -> int:
    """The counter for what is encrypted now: the time, and more than any before.

    Args:
        layout: the home.
        place: what it is for.
        present: the counter of what it replaces, if that could be read; another machine's clock
            may be ahead of this one's.
    """
    before = max(highest(layout, place), 0 if binding.is_too_new(present) else present)
    return max(binding.now(), before + 1)


def note(layout: Layout, place: Place, counter: int) -> None:
    """Note a counter that was seen, if it is the highest.

    An error is logged only: what was done with the data has taken place.
    """
    try:
        known = _places(layout, place)
    except StorageError as error:
        log.warning("%s", error)
        return
    if counter <= known.get(place.text, 0) or binding.is_too_new(counter):
        return
    _write(layout, place, {**known, place.text: counter})


def forget(layout: Layout, place: Place) -> None:
    """Forget what was seen at a place: a person brought something older back."""
    try:
        known = _places(layout, place)
    except StorageError as error:
        log.warning("%s", error)
        return
    if known.pop(place.text, None) is not None:
        _write(layout, place, known)


def _write(layout: Layout, place: Place, places: dict[str, int]) -> None:
    """Replace the file of a profile; not synced, as a power cut costs one counter at most."""
    newest = sorted(places.items(), key=lambda item: item[1])[-_MOST_PLACES:]
    value = {"created_at": place.created_at, "places": dict(sorted(newest))}
    path = layout.counters_of(place.profile_id)
    try:
        durable.make_directory(path.parent, parents=True)
        for attempt in range(_TRIES):
            temporary = layout.temporary / f"counters-{os.urandom(8).hex()}"
            try:
                durable.create(temporary, f"{json.dumps(value)}\n".encode(), sync=False)
                os.replace(temporary, path)
                return
            except FileNotFoundError:
                # Whoever takes the repository's lock empties the directory.
                if attempt == _TRIES - 1:
                    raise
    except OSError as error:
        log.warning(
            "which encrypted data of profile '%s' is the newest cannot be noted: %s",
            place.profile_id,
            error.strerror or error,
        )
