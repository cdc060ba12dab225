"""Which snapshots stay: the rules that users of restic and borg know."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tweakio.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from tweakio.snapshots.manifest import Snapshot

__all__ = ["Keep", "kept"]


class Keep(NamedTuple):
    """How many to keep by each rule; one that any rule keeps stays.

    Attributes:
        last: the newest ones.
        daily: the newest of each of the last days that have one.
        weekly: the same by week, which begins on Monday (ISO 8601).
        monthly: the same by month.
    """

    last: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0

    def check(self) -> None:
        """Refuse rules that would keep nothing.

        Raises:
            InvalidInputError: none is given, or one is negative.
        """
        if min(self) < 0:
            raise InvalidInputError(
                "a number of snapshots to keep is negative", hint="give it from 0"
            )
        if not any(self):
            raise InvalidInputError(
                "these rules would keep no snapshot",
                hint="give at least one of --keep-last, --keep-daily, --keep-weekly, "
                "--keep-monthly",
            )


_PERIODS: dict[str, Callable[[datetime], object]] = {
    "daily": lambda time: time.date(),
    "weekly": lambda time: time.isocalendar()[:2],
    "monthly": lambda time: (time.year, time.month),
}


def kept(snapshots: Sequence[Snapshot], keep: Keep) -> set[str]:
    """The names of those that stay.

    Days, weeks and months are those of UTC, so that two machines with one store agree. A period
    without a snapshot does not count.

    Args:
        snapshots: of one profile, in any order.
        keep: the rules.
    """
    newest_first = sorted(snapshots, key=lambda item: (item.time, item.name), reverse=True)
    stay = {item.name for item in newest_first[: keep.last]}
    for rule, period_of in _PERIODS.items():
        seen: set[object] = set()
        for item in newest_first:
            period = period_of(item.time)
            if period not in seen and len(seen) < getattr(keep, rule):
                seen.add(period)
                stay.add(item.name)
    return stay
