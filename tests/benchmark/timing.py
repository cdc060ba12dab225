"""Measuring in turns: what is compared runs alternately, so that a busy moment hits both."""

from __future__ import annotations

import gc
import statistics
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Comparison", "Measurement", "in_turns", "measure"]


@dataclass
class Measurement:
    """The times of one thing, in milliseconds."""

    times: list[float] = field(default_factory=list)

    def run(self, work: Callable[[], object]) -> None:
        gc.disable()
        began = time.perf_counter()
        try:
            work()
        finally:
            self.times.append((time.perf_counter() - began) * 1000)
            gc.enable()

    @property
    def median(self) -> float:
        return statistics.median(self.times)

    def __str__(self) -> str:
        return f"{self.median:.1f} ({min(self.times):.1f} to {max(self.times):.1f})"


@dataclass
class Comparison:
    """One row of the table: ours against another, with the target if there is one.

    Attributes:
        name: what is compared.
        ours: median, or the size of something.
        other: the median of what it is compared with.
        ratio: ours to the other.
        low: the smallest ratio of one round.
        high: the largest ratio of one round.
        target: what the ratio must not exceed; None if it is for information.
        unit: of ours and other.
    """

    name: str
    ours: float
    other: float | None
    ratio: float
    low: float
    high: float
    target: float | None = None
    unit: str = "ms"

    @property
    def missed(self) -> bool:
        return self.target is not None and self.ratio > self.target

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "missed": self.missed}


def in_turns(
    name: str,
    rounds: int,
    ours: Callable[[int], tuple[Callable[[], object], Callable[[], object]]],
    other: Callable[[int], tuple[Callable[[], object], Callable[[], object]]],
    target: float | None = None,
) -> Comparison:
    """Compare two things, once each in every round, the first of them in turns.

    Args:
        name: of the comparison.
        rounds: how many; two more come before them and do not count.
        ours: makes, from the number of the round, what is timed and what follows untimed.
        other: the same for what it is compared with.
        target: see ``Comparison``.
    """
    mine, theirs = Measurement(), Measurement()
    for number in range(-2, rounds):
        pair = [(mine, ours), (theirs, other)]
        for measurement, prepare in pair if number % 2 else reversed(pair):
            work, after = prepare(number)
            measurement.run(work)
            after()
    for measurement in (mine, theirs):
        del measurement.times[:2]
    ratios = [first / second for first, second in zip(mine.times, theirs.times, strict=True)]
    return Comparison(
        name, mine.median, theirs.median, mine.median / theirs.median, min(ratios), max(ratios),
        target,
    )  # fmt: skip


def measure(rounds: int, prepare: Callable[[int], tuple[Callable[[], object], Any]]) -> Measurement:
    """Time one thing alone."""
    found = Measurement()
    for number in range(rounds):
        work, after = prepare(number)
        found.run(work)
        if after is not None:
            after()
    return found
