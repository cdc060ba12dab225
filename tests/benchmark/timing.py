"""Measuring in turns: what is compared runs alternately, so that a busy moment hits all."""

from __future__ import annotations

import gc
import math
import os
import statistics
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Side = Callable[[int], float]
    """Does one thing once, in the round of that number, and returns what it took."""

__all__ = ["Comparison", "NotRun", "in_turns", "milliseconds", "timed"]

_WARM_UP = 2
_FEWEST = 3


class NotRun(NamedTuple):
    """A comparison that could not be made, and why."""

    what: str
    reason: str


def milliseconds(work: Callable[[], object]) -> float:
    """How long something takes, without Python's collector."""
    gc.disable()
    began = time.perf_counter()
    try:
        work()
        return (time.perf_counter() - began) * 1000
    finally:
        gc.enable()


def timed(
    prepare: Callable[[int], Callable[[], object]], after: Callable[[], object] | None = None
) -> Side:
    """A side that is timed here.

    Args:
        prepare: makes what is timed, from the number of the round.
        after: what follows untimed.
    """

    def side(number: int) -> float:
        took = milliseconds(prepare(number))
        if after is not None:
            after()
        return took

    return side


def in_turns(
    rounds: int, sides: Mapping[str, Side], *, seconds: float = math.inf, settle: bool = False
) -> dict[str, list[float]]:
    """Run every side once in each round; who is first changes from round to round.

    Args:
        rounds: how many; two more come before them and do not count.
        sides: by name.
        seconds: after these it ends early, though not before three rounds.
        settle: bring everything to the disk before each, so that none pays, in its own syncs,
            for what another wrote and left unsynced.
    """
    found: dict[str, list[float]] = {name: [] for name in sides}
    began = time.monotonic()
    for number in range(-_WARM_UP, rounds):
        if number >= _FEWEST and time.monotonic() - began > seconds:
            break
        names = list(sides)
        at = number % len(names)
        turn = names[at:] + names[:at]
        for name in turn if number % 2 else reversed(turn):
            if settle and hasattr(os, "sync"):
                os.sync()
            took = sides[name](number)
            if number >= 0:
                found[name].append(took)
    return found


@dataclass
class Comparison:
    """One row of the table: ours against another, with the target if there is one.

    Attributes:
        operation: what is done.
        against: whom it is compared with; empty for a figure alone.
        profiles: how many there are.
        ours: median, or the size of something.
        other: the median of what it is compared with.
        ratio: ours to the other.
        low: of the ratios of single rounds the lower quartile.
        high: the upper one.
        rounds: how many there were.
        target: what the ratio must not exceed; None if it is for information.
        unit: of ours and other.
    """

    operation: str
    against: str
    profiles: int
    ours: float
    other: float | None
    ratio: float
    low: float
    high: float
    rounds: int = 1
    target: float | None = None
    unit: str = "ms"

    @classmethod
    def of(
        cls,
        operation: str,
        against: str,
        profiles: int,
        ours: list[float],
        other: list[float],
        target: float | None = None,
        unit: str = "ms",
    ) -> Comparison:
        """A row from what the rounds took."""
        single = [first / second for first, second in zip(ours, other, strict=True)]
        low, _, high = statistics.quantiles(single, method="inclusive")
        mine, theirs = statistics.median(ours), statistics.median(other)
        return cls(
            operation, against, profiles, mine, theirs, mine / theirs, low, high, len(ours),
            target, unit,
        )  # fmt: skip

    @property
    def missed(self) -> bool:
        return self.target is not None and self.ratio > self.target

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "missed": self.missed}
