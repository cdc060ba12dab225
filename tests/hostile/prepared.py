"""One home that somebody prepared, used with every command, and what came of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tests.hostile import homes
from tests.hostile.attacks import ATTACKS, Canaries
from tests.hostile.campaign import LEFT, browser_data
from tests.hostile.worker import Worker

__all__ = ["STEPS", "attack"]

STEPS: tuple[Any, ...] = (
    "list", "get", "history", "tag", "trash", "diff", "activate", ["profile", "list"],
    ["profile", "history"], ["profile", "history", "--json"], "set", "undo", "delete",
    "recover-hard", "trash-restore", "gc", "doctor", ["repo", "doctor"], "doctor-fix",
    ["profile", "list"], "recover", "set", "undo", LEFT,
)  # fmt: skip


def attack(
    name: str, template: Path, base: Path, worker: Worker
) -> tuple[list[str], dict[str, str]]:
    """Prepare a copy of a home and use it.

    Args:
        name: in ``ATTACKS``.
        template: a sound home.
        base: an empty directory.
        worker: does it.

    Returns:
        What was wrong, and what each step said.
    """
    home, outside = base / "home", base / "outside"
    for path in (home, outside):
        shutil.rmtree(path, ignore_errors=True)
    outside.mkdir()
    homes.copy(template, home)
    canaries = Canaries(outside)
    ATTACKS[name](home, outside)
    canaries.arm()
    before = browser_data(home)
    answer = worker.run(home, list(STEPS))
    problems: list[str] = list(answer["problems"])
    problems += [f"touched: {text[:300]}" for text in canaries.touched()]
    if lost := before - browser_data(home):
        problems.append(f"{len(lost)} of {len(before)} browser data are gone")
    return problems, answer["said"]
