"""``python -m tests.sync --rounds 1000``: the long form."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from tests.sync.campaign import Campaign, Report


def main() -> int:
    """Run the rounds; 1 if something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.sync", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    for name in ("NAME", "EMAIL"):
        for who in ("AUTHOR", "COMMITTER"):
            os.environ[f"GIT_{who}_{name}"] = "tester@example.com" if name == "EMAIL" else "Tester"
    began = time.monotonic()
    directory = Path(tempfile.mkdtemp(prefix="tweakio-sync-"))

    def progress(report: Report) -> None:
        if report.rounds % 50 == 0:
            print(f"{report.rounds} rounds, {time.monotonic() - began:.0f} s", file=sys.stderr)

    report = Campaign(directory, options.seed).run(options.rounds, progress)
    print(
        f"{report.rounds} rounds, {report.operations} operations, {report.conflicts} conflicts, "
        f"{len(report.problems)} problems, {time.monotonic() - began:.0f} s"
    )
    for problem in report.problems:
        print(f"  {problem}\n  in {directory}")
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
