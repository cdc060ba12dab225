"""Logins during which something is killed; and what the next start makes of it.

Each round kills, at a random moment of a login and of the moments after it, the browser, tweakio
or both. The next start has no help: either the profile is logged in, or the page shows a new QR
code, which is scanned then. Never is there a second browser, and never another profile's login.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from cli_helpers import Cli
from invariants import check as check_home
from standin import Service

from login.helpers import Phone, Running, browsers, create

SYNCING = "page shows: syncing"
STAGE_NAMES = {
    "start": "the browser's start",
    "page shows: needs_qr": "the QR code",
    SYNCING: "it was scanned",
    "page shows: logged_in": "the page was logged in",
}
STAGES = tuple(STAGE_NAMES)
WHOM = ("browser", "tweakio", "both")


def campaign(cli: Cli, service: Service, seed: int, rounds: int) -> Counter[str]:
    """So many rounds, each with a profile and an account of its own.

    Returns:
        How often each thing came of it.
    """
    chance = random.Random(seed)
    names = [f"p{number}" for number in range(rounds)]
    create(cli, service, *names)
    print(f"{service.name}, seed {seed}:")
    outcomes: Counter[str] = Counter()
    for number, name in enumerate(names):
        # Not every service has such a state.
        stage = chance.choice([one for one in STAGES if service.sync_seconds or one != SYNCING])
        # Closing takes less than that.
        delay = chance.uniform(0.0, 0.4 if stage == STAGES[-1] else 1.0)
        whom = WHOM[number % len(WHOM)] if rounds < 2 * len(WHOM) else chance.choice(WHOM)
        outcome = _round(cli, service, name, whom, stage, delay)
        print(
            f"  {name}: {whom} killed {delay:.2f} s after {STAGE_NAMES[stage]}: {outcome}",
            flush=True,
        )
        outcomes[outcome] += 1
    for name in names:
        assert service.accounts[name].logged_in
    check_home(cli.home)
    return outcomes


def _round(cli: Cli, service: Service, name: str, whom: str, stage: str, delay: float) -> str:
    profile = cli.profiles / name
    with Running(cli, "-vv", "profile", "login", name) as running:
        with Phone(service, name, lambda: "the QR code is in" in running.err):
            _until(running, lambda: _has_come(running, profile, stage))
            moment = time.monotonic() + delay
            _until(running, lambda: time.monotonic() >= moment)
            finished = running.process.poll()
            killed = _kill(running, profile, whom)
            first = running.end()
    assert first.code in (0, 27, 31, -9), first
    if first.code == 0 and finished is None and whom != "browser":
        raise AssertionError(f"killed and yet it says that all is well: {first}")
    with Running(cli, "profile", "login", name, "--timeout", "40") as again:
        _watch(again, profile)
        assert len(browsers(profile)) <= 1, "two browsers on one profile"
        if "the QR code is in" in again.err:
            assert first.code != 0, "a login that was reported is lost"
            with Phone(service, name):
                second = again.end()
            outcome = "logged in anew"
        else:
            second = again.end()
            outcome = "still logged in" if killed else "nothing was left to kill"
    assert second.code == 0, second
    assert browsers(profile) == []
    return outcome


def _has_come(running: Running, profile: Path, stage: str) -> bool:
    return bool(browsers(profile)) if stage == "start" else stage in running.err


def _until(running: Running, condition: Callable[[], bool]) -> None:
    # With the run's end there is nothing left to wait for.
    while running.process.poll() is None and not condition():
        time.sleep(0.005)


def _watch(running: Running, profile: Path) -> None:
    """Until it is clear what the next start finds."""
    while running.process.poll() is None and "the QR code is in" not in running.err:
        assert len(browsers(profile)) <= 1, "two browsers on one profile"
        time.sleep(0.05)


def _kill(running: Running, profile: Path, whom: str) -> bool:
    victims = browsers(profile) if whom in ("browser", "both") else []
    if whom in ("tweakio", "both") and running.process.poll() is None:
        victims.insert(0, running.process.pid)
    killed = False
    for victim in victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, 9)
            killed = True
    return killed
