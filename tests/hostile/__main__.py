"""The long form: ``python -m tests.hostile [--seconds N] [--seed S] [--target T]``.

Targets are ``parser:NAME`` (bytes for one reader, led by the lines that they reach),
``home:NAME`` (whole operations on a home of which such a file was spoiled) and ``attacks`` (every
prepared work tree). Without ``--target`` all of them; the seconds are for each.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
from pathlib import Path

from tests.hostile import homes
from tests.hostile.attacks import ATTACKS
from tests.hostile.campaign import TARGETS, Campaign
from tests.hostile.parsers import PARSERS, fuzz
from tests.hostile.prepared import attack

_ALL = [*(f"parser:{name}" for name in PARSERS), *(f"home:{name}" for name in TARGETS), "attacks"]


def _parser(name: str, template: Path, seed: int, seconds: float) -> int:
    seen = fuzz(name, template, seed, seconds=seconds)
    print(
        f"parser:{name:<11} {seen.inputs:8} inputs, {seen.lines:4} line pairs, "
        f"slowest {seen.slowest:.2f} s, {len(seen.failures)} failures",
        flush=True,
    )
    for data, text in seen.failures[:3]:
        print(f"  {data[:200]!r}\n{text}")
    return len(seen.failures)


def _home(name: str, campaign: Campaign, seed: int, seconds: float) -> int:
    end = time.monotonic() + seconds
    tally = campaign.tally
    homes_before, steps_before, failed = tally.homes, tally.steps, 0
    while time.monotonic() < end:
        problems = campaign.run(name, seed)
        if problems:
            failed += 1
            print(f"  home:{name} --seed {seed}: {problems[0][-1500:]}", flush=True)
        seed += 1
    print(
        f"home:{name:<13} {tally.homes - homes_before:6} homes, "
        f"{tally.steps - steps_before:7} operations, {failed} failures",
        flush=True,
    )
    return failed


def _attacks(campaign: Campaign, base: Path) -> int:
    failed = 0
    for name in ATTACKS:
        problems, _ = attack(name, campaign.templates[0], base, campaign.worker)
        if problems:
            failed += 1
            print(f"  {name}: {problems[0][-1500:]}", flush=True)
    print(f"attacks            {len(ATTACKS):6} work trees, {failed} failures", flush=True)
    return failed


def main() -> int:
    """Run what was asked for; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--target", action="append", choices=_ALL, default=[])
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    logging.disable(logging.CRITICAL)
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        del os.environ[name]
    os.environ.update(homes.ENVIRONMENT)
    failed = 0
    with tempfile.TemporaryDirectory(prefix="tweakio-hostile-") as directory:
        base = Path(directory)
        campaign = Campaign(base)
        try:
            for target in given.target or _ALL:
                kind, _, name = target.partition(":")
                if kind == "parser":
                    failed += _parser(name, campaign.templates[0], given.seed, given.seconds)
                elif kind == "home":
                    failed += _home(name, campaign, given.seed, given.seconds)
                else:
                    failed += _attacks(campaign, base)
        finally:
            campaign.close()
        tally = campaign.tally
        print(f"peak memory of a process: {tally.peak // 1024} MiB")
        print("answers:", dict(sorted(tally.answers.items(), key=lambda item: -item[1])))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
