"""What opening a profile costs over Playwright alone, with the same browser in the same run."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmark.targets import target
from tests.benchmark.timing import Comparison, NotRun, in_turns, milliseconds
from tests.browsers import chromium_path
from tweakio import ProfileManager, SyncBrowserManager
from tweakio.browser.driver import SyncDriver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.benchmark.timing import Side

__all__ = ["browser"]

_ROOT = Path(__file__).resolve().parents[2]
_BARE = "Playwright's persistent context"


def bare_options() -> dict[str, object]:
    """What a persistent context of the same browser needs, and nothing else."""
    return {
        "executable_path": chromium_path(),
        "headless": True,
        "chromium_sandbox": not hasattr(os, "geteuid") or os.geteuid() != 0,
    }


def browser(directory: Path, rounds: int) -> Iterator[Comparison | NotRun]:
    """Opening, opening and closing, and the memory of five."""
    if chromium_path() is None:
        yield NotRun("opening a profile", "there is no browser")
        return
    yield from _times(directory, rounds)
    yield _memory(directory, max(3, rounds // 4))


def _times(directory: Path, rounds: int) -> Iterator[Comparison]:
    driver = SyncDriver.use()
    closing: dict[str, list[float]] = {"ours": [], "bare": []}
    with ProfileManager(directory / "home") as manager:
        manager.create_profile("a", "whatsapp")

        def ours(number: int) -> float:
            opener = SyncBrowserManager("a", manager=manager, executable=chromium_path())
            took = milliseconds(opener.open)
            _count(closing["ours"], number, milliseconds(opener.close))
            return took

        def bare(number: int) -> float:
            contexts = []

            def start() -> None:
                contexts.append(
                    driver.playwright.chromium.launch_persistent_context(
                        directory / "bare", **bare_options()
                    )
                )

            took = milliseconds(start)
            _count(closing["bare"], number, milliseconds(contexts[0].close))
            return took

        sides: dict[str, Side] = {"ours": ours, "bare": bare}
        opening = in_turns(rounds, sides)
    driver.leave()
    both = {
        name: [first + second for first, second in zip(opening[name], closing[name], strict=True)]
        for name in opening
    }
    for operation, found in (("open a profile", opening), ("open and close", both)):
        yield Comparison.of(
            operation, _BARE, 0, found["ours"], found["bare"], target(operation, _BARE, 0)
        )


def _count(found: list[float], number: int, took: float) -> None:
    if number >= 0:
        found.append(took)


def _memory(directory: Path, rounds: int) -> Comparison:
    operation = "memory of five open profiles"
    found: dict[str, list[float]] = {"ours": [], "bare": []}
    for number in range(rounds):
        for kind in ("ours", "bare") if number % 2 else ("bare", "ours"):
            done = subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "tests.benchmark.five",
                    kind,
                    str(directory / f"five-{kind}"),
                ],
                cwd=_ROOT,
                capture_output=True,
                text=True,
                check=True,
            )
            found[kind].append(float(done.stdout))
    assert statistics.median(found["bare"]) > 0
    return Comparison.of(
        operation, _BARE, 0, found["ours"], found["bare"], target(operation, _BARE, 0), "MB"
    )
