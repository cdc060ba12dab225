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
from pathlib import Path

from cli_helpers import Cli
from invariants import check as check_home
from standin import Service

from login.helpers import Phone, Running, browsers, create

WHOM = ("browser", "tweakio", "both")


def campaign(cli: Cli, service: Service, seed: int, rounds: int) -> Counter[str]:
    """So many rounds, each with a profile and an account of its own.

    Returns:
        How often each thing came of it.
    """
    chance = random.Random(seed)
    names = [f"p{number}" for number in range(rounds)]
    create(cli, service, "measured", *names)
    takes = _measure(cli, service)
    print(f"seed {seed}: {takes:.2f} s from the browser's start to the end of a login")
    outcomes: Counter[str] = Counter()
    for number, name in enumerate(names):
        # Beyond its end as well: then there is nothing left to kill, and it has to stay.
        moment = chance.uniform(0.0, 1.15) * takes
        whom = WHOM[number % len(WHOM)] if rounds < 2 * len(WHOM) else chance.choice(WHOM)
        outcome = _round(cli, service, name, whom, moment)
        print(f"  {name}: {whom} killed {moment:.2f} s after the browser's start: {outcome}")
        outcomes[outcome] += 1
    for name in ("measured", *names):
        assert service.accounts[name].logged_in
    check_home(cli.home)
    return outcomes


def _measure(cli: Cli, service: Service) -> float:
    with Phone(service, "measured"), Running(cli, "profile", "login", "measured") as running:
        _until_browser(running, cli.profiles / "measured")
        began = time.monotonic()
        result = running.end()
    assert result.code == 0, result
    return time.monotonic() - began


def _round(cli: Cli, service: Service, name: str, whom: str, moment: float) -> str:
    profile = cli.profiles / name
    with Running(cli, "profile", "login", name) as running:
        with Phone(service, name):
            _until_browser(running, profile)
            _wait(running, moment)
            finished = running.process.poll()
            _kill(running, profile, whom)
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
            outcome = "still logged in" if first.code else "it had ended, and is logged in"
    assert second.code == 0, second
    assert browsers(profile) == []
    return outcome


def _until_browser(running: Running, profile: Path) -> None:
    while running.process.poll() is None and not browsers(profile):
        time.sleep(0.005)


def _wait(running: Running, seconds: float) -> None:
    # The moment is what is random; the end of the run is no reason to wait on.
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and running.process.poll() is None:
        time.sleep(0.005)


def _watch(running: Running, profile: Path) -> None:
    """Until it is clear what the next start finds."""
    while running.process.poll() is None and "the QR code is in" not in running.err:
        assert len(browsers(profile)) <= 1, "two browsers on one profile"
        time.sleep(0.05)


def _kill(running: Running, profile: Path, whom: str) -> None:
    victims = browsers(profile) if whom in ("browser", "both") else []
    if whom in ("tweakio", "both") and running.process.poll() is None:
        victims.insert(0, running.process.pid)
    for victim in victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, 9)
