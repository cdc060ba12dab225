"""One profile's metadata, merged field by field from three sides.

What is this machine's own (``status``, ``lock_pid``) stays as it is here; tags merge as a set; the
settings of platform and browser merge key by key; all the rest, fields of newer versions included,
merges by value: what only one side changed is taken. Of ``last_used`` that both sides changed the
later is taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from tweakio.models import parse_time
from tweakio.settings import fit_together

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "ABSENT",
    "RUNTIME",
    "Clash",
    "Merged",
    "merge_fields",
    "merge_value",
    "same_beside_runtime",
]

RUNTIME = frozenset({"status", "lock_pid"})
"""What is this machine's own and never travels."""
_BY_KEY = ("platform_config", "browser")
_SETS = ("tags",)
_TOGETHER = ("proxy", "proxy_password")


class _Marker:
    """A value that nothing in JSON is equal to."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


ABSENT: Any = _Marker("absent")
"""Stands for a field that is not there."""
_UNKNOWN: Any = _Marker("unknown")
"""What a field was before, if the two sides have several common beginnings that disagree."""


class Clash(NamedTuple):
    """One field that both sides changed, differently.

    Attributes:
        field: its name; ``platform_config.KEY`` for one of the settings.
        ours: what it is here; ``ABSENT`` if it is not there.
        theirs: what it is there.
    """

    field: str
    ours: Any
    theirs: Any


class Merged(NamedTuple):
    """What came of it.

    Attributes:
        value: the metadata, with ours where there is a clash.
        clashes: what a person has to decide.
    """

    value: dict[str, Any]
    clashes: tuple[Clash, ...]


def merge_value(bases: Sequence[Any], ours: Any, theirs: Any) -> tuple[Any, bool]:
    """One value from three sides.

    Args:
        bases: what it was at each common beginning; none if there is none.
        ours: what it is here.
        theirs: what it is there.

    Returns:
        The value, and whether both changed it differently; then it is ours.
    """
    base = bases[0] if bases and all(_same(bases[0], other) for other in bases[1:]) else _UNKNOWN
    if _same(ours, theirs) or _same(theirs, base):
        return ours, False
    if _same(ours, base):
        return theirs, False
    return ours, True


def _same(one: Any, other: Any) -> bool:
    # 1 == True in Python, and not in JSON.
    if isinstance(one, bool) != isinstance(other, bool):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _plain(field: str, value: Any) -> Any:
    """A field as it is compared: what is left out and what is empty are the same."""
    if value is None or value is ABSENT:
        return ABSENT
    if field in ("note", "tags", *_BY_KEY) and not value:
        return ABSENT
    if field == "schema_version" and value == 1:
        return ABSENT
    return value


def merge_fields(
    bases: Sequence[Mapping[str, Any]], ours: Mapping[str, Any], theirs: Mapping[str, Any]
) -> Merged:
    """Merge two descendants of a profile's metadata.

    Args:
        bases: the metadata at each common beginning.
        ours: as it is here.
        theirs: as it is there; both are of the same profile.
    """
    value = dict(ours)
    clashes: list[Clash] = []
    for field in dict.fromkeys([*ours, *theirs]):
        if field in RUNTIME:
            continue
        mine, other = ours.get(field, ABSENT), theirs.get(field, ABSENT)
        before = [base.get(field, ABSENT) for base in bases]
        if field == "last_used":
            # What only one side changed counts here too, also an undo that took it back: with the
            # later in any case a side that changed nothing would answer the undo with a merge
            # that is neither side's, and each pull of an undo would take a push and a pull more.
            found, both = merge_value(before, mine, other)
            if both:
                found = _later(mine, other)
        elif field in _SETS:
            found = _merge_set(before, mine, other)
        elif field in _BY_KEY:
            found = _merge_keys(field, before, mine, other, clashes)
        else:
            plain = _plain(field, mine), _plain(field, other)
            taken, clash = merge_value([_plain(field, item) for item in before], *plain)
            found = mine if _same(taken, plain[0]) else other
            if clash:
                clashes.append(Clash(field, mine, other))
        _set(value, field, found)
    clashes += _put_back_unfit(value, ours, theirs, {clash.field for clash in clashes})
    return Merged(value, tuple(clashes))


def _set(target: dict[str, Any], key: str, value: Any) -> None:
    if value is ABSENT:
        target.pop(key, None)
    else:
        target[key] = value


def _put_back_unfit(
    value: dict[str, Any],
    ours: Mapping[str, Any],
    theirs: Mapping[str, Any],
    clashing: set[str],
) -> list[Clash]:
    """A proxy and its password, which one side took away and the other set, say.

    Where they do not fit when merged, or one of them is in conflict, both are for a person to
    decide, or a choice of one side's proxy would leave it with the other side's password.
    """
    merged, mine, other = (dict(side.get("browser") or {}) for side in (value, ours, theirs))
    unfit = not fit_together(merged) and fit_together(mine) and fit_together(other)
    if not unfit and not clashing.intersection(f"browser.{key}" for key in _TOGETHER):
        return []
    clashes = []
    for key in _TOGETHER:
        sides = mine.get(key, ABSENT), other.get(key, ABSENT)
        if f"browser.{key}" not in clashing and sides[0] != sides[1]:
            clashes.append(Clash(f"browser.{key}", *sides))
            _set(merged, key, sides[0])
    if clashes:
        _set(value, "browser", merged or ABSENT)
    return clashes


def _later(ours: Any, theirs: Any) -> Any:
    if ours in (ABSENT, None) or theirs in (ABSENT, None):
        return theirs if ours in (ABSENT, None) else ours
    return theirs if parse_time(theirs) > parse_time(ours) else ours


def _merge_set(bases: Sequence[Any], ours: Any, theirs: Any) -> Any:
    """A list that is a set: what either side added, without what either side took away."""
    mine, other = _items(ours), _items(theirs)
    before = set.intersection(*map(_items, bases)) if bases else set()
    merged = (mine & other) | (mine - before) | (other - before)
    for side, value in ((mine, ours), (other, theirs)):
        if merged == side:
            return value  # in the order that it has there
    return sorted(merged)


def _items(value: Any) -> set[Any]:
    return set() if value in (ABSENT, None) else set(value)


def _merge_keys(
    field: str, bases: Sequence[Any], ours: Any, theirs: Any, clashes: list[Clash]
) -> Any:
    """Settings, each key for itself."""
    before = [{} if base in (ABSENT, None) else base for base in bases]
    mine = {} if ours in (ABSENT, None) else ours
    other = {} if theirs in (ABSENT, None) else theirs
    merged = {}
    for key in dict.fromkeys([*mine, *other]):
        sides = mine.get(key, ABSENT), other.get(key, ABSENT)
        found, clash = merge_value([base.get(key, ABSENT) for base in before], *sides)
        if clash:
            clashes.append(Clash(f"{field}.{key}", *sides))
        if found is not ABSENT:
            merged[key] = found
    if _same(merged, mine):
        return ours
    return merged or ABSENT


def same_beside_runtime(
    one: Mapping[str, Any], other: Mapping[str, Any], *, beside: frozenset[str] = RUNTIME
) -> bool:
    """Whether two metadata are the same but for what is a machine's own.

    Args:
        one: metadata.
        other: of the same profile.
        beside: the fields that do not count.
    """
    for field in one.keys() | other.keys():
        if field in beside:
            continue
        mine, their = _plain(field, one.get(field)), _plain(field, other.get(field))
        if field in _SETS:
            mine, their = _items(mine), _items(their)
        if not _same(mine, their):
            return False
    return True
