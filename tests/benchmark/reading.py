"""Reading: list, status, the history of a profile, and recovery from it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmark.homes import add_history, git, import_history, make_home, name
from tests.benchmark.opponents import Table
from tests.benchmark.peers import CAMOUCHAT, WORKER, Worker, environment, plain_environment
from tests.benchmark.targets import GROWTH, target
from tests.benchmark.timing import Comparison, NotRun, in_turns, milliseconds, timed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.benchmark.timing import Side

__all__ = ["growth", "listing", "long_history", "recovery", "run_once"]

_CAMOUCHAT = "camouchat-browser"
_SQLITE = "sqlite3, WAL, synchronous=FULL"
ROOT = Path(__file__).resolve().parents[2]


def run_once(python: Path | str, *arguments: str, **variables: str) -> dict[str, float]:
    """Measure something in a process of its own: milliseconds, and MB at most."""
    done = subprocess.run(
        [python, WORKER, "once", *arguments],
        check=True,
        capture_output=True,
        env=plain_environment(**variables),
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def listing(
    directory: Path, profiles: int, rounds: int, *, peers: bool
) -> Iterator[Comparison | NotRun]:
    """A list with the metadata of all, by a program that runs and by one that starts."""
    home = directory / "home"
    with ExitStack() as stack:
        manager = stack.enter_context(make_home(home, profiles))
        table = Table(directory / "table.db", home / "profiles")
        stack.callback(table.close)
        warm: dict[str, Side] = {
            "": timed(lambda _: manager.list_profiles),
            _SQLITE: timed(lambda _: table.list),
        }
        memory: dict[str, list[float]] = {"": []}

        def first(number: int) -> float:
            found = run_once(
                sys.executable, "tweakio-list", os.fspath(home), PYTHONPATH=os.fspath(ROOT)
            )
            memory[""] += [found["mb"]] * (number >= 0)
            return found["ms"]

        firsts: dict[str, Side] = {"": first}
        python = environment(CAMOUCHAT) if peers else None
        if isinstance(python, NotRun):
            yield python
        elif python is not None:
            place = os.fspath(directory / "camouchat")
            variables = {"XDG_DATA_HOME": place, "HOME": place}
            worker = stack.enter_context(Worker(python, "camouchat", variables=variables))
            worker.ask("fill", profiles)
            warm[_CAMOUCHAT] = lambda _: worker.ask("list")
            memory[_CAMOUCHAT] = []
            peer = python

            def their_first(number: int) -> float:
                found = run_once(peer, "camouchat-list", **variables)
                memory[_CAMOUCHAT] += [found["mb"]] * (number >= 0)
                return found["ms"]

            firsts[_CAMOUCHAT] = their_first
        yield from _against("list, warm", profiles, in_turns(rounds, warm, seconds=60))
        found = in_turns(rounds, firsts, seconds=90)
        if _CAMOUCHAT in found:
            yield from _against("list, first in a process", profiles, found)
            yield from _against("peak memory of a list", profiles, memory, unit="MB")
        status = timed(lambda number: lambda: manager.get_profile(name(number % profiles)))
        plain = ["status", "--porcelain"]
        theirs = timed(lambda _: lambda: git(home / "profiles", *plain))
        sides = {"": status, "git status": theirs}
        yield from _against("status of one profile", profiles, in_turns(rounds, sides, seconds=60))


def recovery(directory: Path, profiles: int, commits: int, rounds: int) -> Iterator[Comparison]:
    """Soft recovery and the history of one profile after many commits."""
    home = directory / "home"
    with make_home(home, profiles) as manager:
        import_history(manager, commits)
        manager.close()
        path = f"{name(1)}/metadata.json"

        def ours(_: int) -> float:
            manager.layout.profile(name(1)).metadata.write_bytes(b"{")
            return milliseconds(lambda: manager.recover_profile(name(1)))

        def log(_: int) -> float:
            return milliseconds(lambda: git(home / "profiles", "log", "--format=%H", "--", path))

        sides = {"": ours, "git log -- path": log}
        yield from _against("soft recovery", profiles, in_turns(rounds, sides, seconds=90))
        history = timed(lambda _: lambda: manager.history(name(1)))
        sides = {"": history, "git log -- path": log}
        found = in_turns(rounds, sides, seconds=60)
        yield from _against("history of one profile", profiles, found)


# Ext4 takes no inode that was freed within the last minute, and looks at each such one for a new
# file: right after 10,000 commits an activation took 9.4 instead of 6.8 ms, whatever the history.
_FORGOTTEN = 75.0
_FEW = 1_000


def long_history(directory: Path, commits: int, rounds: int) -> Iterator[Comparison]:
    """A selection with a long history behind it against one with 100 commits."""
    profiles = 100
    with ExitStack() as stack:
        sides: dict[str, Side] = {}
        for against, length in (("after 100 commits", 100), ("", commits)):
            manager = stack.enter_context(make_home(directory / f"home-{length}", profiles))
            add_history(manager, length)
            sides[against] = timed(
                lambda number, manager=manager: (  # type: ignore[misc]
                    lambda: manager.select_profile(name(number % profiles))
                ),
                manager.deactivate_profile,
            )
        if commits > _FEW:
            time.sleep(_FORGOTTEN)
        yield from _against("activate, long history", profiles, in_turns(rounds, sides))


def growth(directory: Path, profiles: int, activations: int) -> Comparison:
    """Bytes that one activation adds to the git directory, reflogs included, once packed."""
    with make_home(directory / "home", profiles) as manager:
        manager.select_profile(name(profiles - 1))
        manager.gc()
        before = _size(manager.layout.git_dir)
        for number in range(activations):
            manager.select_profile(name(number % profiles))
        manager.gc()
        grown = (_size(manager.layout.git_dir) - before) / activations
    return Comparison(
        "growth per activation, packed", "", profiles, grown, None, grown, grown, grown,
        activations, GROWTH, "bytes",
    )  # fmt: skip


def _size(directory: Path) -> int:
    cache = directory / "tweakio" / "cache"
    return sum(
        (Path(base) / file).stat().st_size
        for base, _, files in os.walk(directory)
        if Path(base) != cache  # files with the present state, which do not grow
        for file in files
    )


def _against(
    operation: str, profiles: int, found: dict[str, list[float]], unit: str = "ms"
) -> Iterator[Comparison]:
    for against, other in found.items():
        if against:
            limit = target(operation, against, profiles)
            yield Comparison.of(operation, against, profiles, found[""], other, limit, unit)
