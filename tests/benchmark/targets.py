"""What is promised: how large a ratio may be, by operation, opponent and number of profiles."""

from __future__ import annotations

__all__ = ["GROWTH", "target"]

GROWTH = 2048.0
"""Bytes of the git directory for one activation, packed."""

_TARGETS = {
    ("activate", "git add, git commit"): {100: 0.4, 1_000: 0.35, 10_000: 0.15},
    ("activate", "pygit2 with index and fsync"): {100: 0.7, 1_000: 0.8, 10_000: 0.4},
    ("activate", "the floor"): {100: 1.6, 1_000: 1.8, 10_000: 3.0},
    ("create", "git add, git commit"): {100: 0.5, 1_000: 0.45, 10_000: 0.2},
    ("list, warm", "camouchat-browser"): {100: 0.2, 1_000: 0.1, 10_000: 0.1},
    ("list, first in a process", "camouchat-browser"): {100: 0.8, 1_000: 0.5, 10_000: 0.4},
    ("soft recovery", "git log -- path"): {100: 0.6, 1_000: 0.5, 10_000: 0.3},
    ("tweakio profile list", "import camouchat_browser"): {100: 0.2, 1_000: 0.25, 10_000: 0.6},
    ("tweakio profile list", "python -c pass"): {100: 7.0},
    ("python -m tweakio profile list", "python -c pass"): {100: 7.0},
    ("open a profile", "Playwright's persistent context"): {0: 1.15},
    ("memory of five open profiles", "Playwright's persistent context"): {0: 1.05},
    ("activate, long history", "after 100 commits"): {100: 1.3},
}


def target(operation: str, against: str, profiles: int) -> float | None:
    """The largest ratio that is allowed; None if the figure is for information."""
    return _TARGETS.get((operation, against), {}).get(profiles)
