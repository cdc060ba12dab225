"""Kills at random moments, for as long as you like.

    python -m tests.browser --rounds 100 --seed 1

In each round a program opens a profile, and after a random time the browser, the program, its
Playwright driver or several of them are killed. The next start must open the profile without
help, with its storage as it was, and there must never be two browsers on it.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time

from tests.browser.test_isolation import READ, WRITE, held
from tests.browsers import Opener, chromium_path, page_server, wait_until
from tweakio import ProfileManager
from tweakio.browser import record
from tweakio.browser.engines.chromium import Chromium
from tweakio.store.processes import process_start


def descendants(pid: int) -> list[int]:
    import psutil

    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def campaign(
    manager: ProfileManager, origin: str, rounds: int, seed: int, start: float = 0.0
) -> None:
    """Kill, and start again; an AssertionError says which seed to try again.

    Args:
        manager: with a profile ``a`` that holds something.
        origin: of the page that shows it.
        rounds: how many.
        seed: of the moments and the victims.
        start: seconds that a start takes here and now; measured if it is 0.
    """
    chance = random.Random(seed)
    paths = manager.layout.profile("a")
    if not start:
        began = time.monotonic()
        with Opener(manager.home, "a") as program:
            program.opened()
            start = time.monotonic() - began
            assert program.end() == 0
    for number in range(rounds):
        where = f"seed {seed}, round {number}"
        with Opener(manager.home, "a") as program:
            began = time.monotonic()
            # Half of the moments are in the middle of a start.
            moment = chance.uniform(0.3, 1.7) * start
            kind = chance.choice(["browser", "program", "program and driver", "all"])
            # A random moment is what is wanted here; nothing is waited for.
            while time.monotonic() - began < moment:
                crowd = [found.pid for found in Chromium().processes_of(paths.browser_profile)]
                assert len(crowd) <= 1, f"{where}: browsers {crowd}"
                time.sleep(0.01)
            strike(program, kind, paths)
            if kind == "browser":
                program.end()
            with Opener(manager.home, "a") as after:
                after.opened()
                crowd = [found.pid for found in Chromium().processes_of(paths.browser_profile)]
                assert crowd == [after.browser], f"{where}: {kind}, browsers {crowd}"
                found = after.tell("evaluate", f"{origin}/", f"({READ})()")
                assert found == held("a"), f"{where}: {kind}, {found}"
                assert after.end() == 0, where
        assert manager.browser_status("a").state.kind == "closed", where
        assert not manager.locks.is_locked("a"), where
        assert record.read(paths).running is None, where


def strike(program: Opener, kind: str, paths) -> None:
    """Kill what there is of the kind by now."""
    children = descendants(program.process.pid)
    browsers = [found.pid for found in Chromium().processes_of(paths.browser_profile)]
    others = [pid for pid in children if pid not in browsers]
    victims = {
        "browser": browsers,
        "program": [program.process.pid],
        "program and driver": [program.process.pid, *others[:1]],
        "all": [program.process.pid, *others[:1], *browsers],
    }[kind]
    for pid in victims:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    if kind != "browser":
        program.process.wait()
    else:
        wait_until(lambda: not any(process_start(pid) for pid in browsers))


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.browser",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    given = parser.parse_args()
    if chromium_path() is None:
        print("there is no browser")
        return 2
    print(f"seed {given.seed}")
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="tweakio-kills-", ignore_cleanup_errors=True) as place,
        page_server() as origin,
    ):
        with ProfileManager(f"{place}/home") as manager:
            manager.create_profile("a", "custom")
            with Opener(manager.home, "a") as program:
                program.opened().tell("evaluate", f"{origin}/", f"({WRITE})('a')")
                program.end()
            campaign(manager, origin, given.rounds, given.seed)
            unclean = manager.browser_status("a").record.unclean_exits
    took = time.monotonic() - began
    print(f"{given.rounds} rounds in {took:.0f} s, {unclean} unclean exits, nothing lost")
    return 0


if __name__ == "__main__":
    sys.exit(main())
