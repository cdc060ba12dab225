"""Time: every pattern is linear, and what is long is refused before it is compared.

What ``re`` does cannot be watched from Python: no profiler and no trace sees inside it, and a
clock says something else on each machine. So its steps are counted in a model of it
(``tests.hostile.linear``), for every pattern that the package has.
"""

from __future__ import annotations

from tests.hostile.linear import growth
from tests.hostile.patterns import all_patterns


def test_the_model_knows_what_is_slow() -> None:
    for pattern, how in (
        (r"[^/]*//[^/]*:[^/]*@|[^/:]+:[^/]+@", "match"),
        (r"\s*\s*x", "fullmatch"),
        (r"\d+(?:\.\d+){1,3}", "search"),
        (r"(?:a|b)*b*c", "match"),
        (r"storage_?state.*\.json$", "search"),
        (r"[a-z]+://x", "all"),
        (r"(?:[a-z]+-?)*;", "match"),
    ):
        assert growth(pattern, how)[0] > 3, pattern
    for pattern, how in ((r"a*b", "fullmatch"), (r"(?<![a-z])[a-z]+://", "search")):
        assert growth(pattern, how)[0] < 2.5, pattern


def test_no_pattern_takes_more_than_twice_as_long_for_twice_as_much() -> None:
    patterns = all_patterns()
    assert len(patterns) > 80
    slow = []
    for used in patterns:
        times, text = growth(used.pattern, used.how, used.flags)
        if times > 3:
            slow.append(f"{used.where}: {used.how} {used.pattern!r}: {times:.1f} for {text[:40]!r}")
    assert not slow, "\n".join(slow)
