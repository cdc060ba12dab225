"""The long form: ``python -m tests.login [--seed S] [--rounds N]``.

Kills the browser, tweakio or both at N random moments of as many logins, half of them of WhatsApp
and half of Telegram; see ``kills``.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cli_helpers import Cli
from standin import Telegram, WhatsApp

from login.kills import campaign


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m tests.login", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--rounds", type=int, default=20)
    given = parser.parse_args()
    # git, which judges in the end, has the same settings as in the other tests.
    os.environ |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    began = time.monotonic()
    outcomes: Counter[str] = Counter()
    half = given.rounds // 2
    for service, rounds in (
        (WhatsApp(sync_seconds=1.0), given.rounds - half),
        (Telegram(), half),
    ):
        with service, tempfile.TemporaryDirectory(prefix="tweakio-logins-") as base:
            outcomes += campaign(Cli(Path(base)), service, given.seed, rounds)
    for outcome, times in sorted(outcomes.items()):
        print(f"{outcome}: {times}")
    print(f"{given.rounds} rounds in {time.monotonic() - began:.0f} s, no failure")
    return 0


if __name__ == "__main__":
    sys.exit(main())
