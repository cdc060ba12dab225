"""The benchmark.

    python -m tests.benchmark
    python -m tests.benchmark --quick
    python -m tests.benchmark --profiles 100,1000 --rounds 15 --json figures.json

Times are compared within one run on one machine only. It ends with 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmark import cases

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.benchmark.timing import Comparison

Row = tuple[int, str, str]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmark",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--profiles",
        type=lambda text: [int(part) for part in text.split(",")],
        help="sizes to measure; 100,1000,10000",
    )
    parser.add_argument("--rounds", type=int, help="of each comparison; 21")
    parser.add_argument("--history", type=int, help="commits of the long history; 10000")
    parser.add_argument("--quick", action="store_true", help="small and few, to see that it works")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    parser.add_argument(
        "--directory", type=Path, help="where to measure: the file system matters; a temporary one"
    )
    given = parser.parse_args()
    given.profiles = given.profiles or ([20] if given.quick else [100, 1_000, 10_000])
    given.rounds = given.rounds or (3 if given.quick else 21)
    given.history = given.history or (40 if given.quick else 10_000)
    return given


def scratch(parent: Path | None) -> Iterator[Path]:
    """A new directory for every case, gone after it."""
    while True:
        directory = Path(tempfile.mkdtemp(prefix="tweakio-benchmark-", dir=parent))
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)


def main() -> int:
    given = arguments()
    began = time.monotonic()
    os.environ.pop("TWEAKIO_HOME", None)
    os.environ.setdefault("GIT_AUTHOR_NAME", "Benchmark")
    os.environ.setdefault("GIT_AUTHOR_EMAIL", "benchmark@example.com")
    os.environ.setdefault("GIT_COMMITTER_NAME", "Benchmark")
    os.environ.setdefault("GIT_COMMITTER_EMAIL", "benchmark@example.com")
    places = scratch(given.directory)
    git = subprocess.run(["git", "--version"], capture_output=True, text=True, check=True).stdout
    machine = (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors, "
        f"Python {platform.python_version()}, {git.strip()}"
    )
    print(machine)
    print(f"{given.rounds} rounds\n")
    header(given)
    comparisons: list[Comparison] = []
    others: list[Row] = []

    def say(found: list[Comparison]) -> None:
        comparisons.extend(found)
        for row in found:
            print(line(row), flush=True)

    for profiles in given.profiles:
        say(cases.against_git(next(places), profiles, given.rounds))
    found, how = cases.long_history(next(places), given.history, given.rounds)
    say(found)
    middle = 1_000 if 1_000 in given.profiles else given.profiles[-1]
    say([cases.growth(next(places), middle, 20 if given.quick else 300)])
    say(cases.list_command(next(places), given.rounds))
    print(f"\nThe long history was made by {how}.")
    print("\nFor information, median (smallest to largest), in ms:\n")
    for profiles in given.profiles:
        for title, text in cases.other_operations(next(places), profiles, given.rounds):
            others.append((profiles, title, text))
            print(f"{profiles:7,}  {title:24} {text}", flush=True)
    places.close()  # type: ignore[attr-defined]
    missed = [row for row in comparisons if row.missed]
    print(f"\n{time.monotonic() - began:.0f} s in all")
    for row in missed:
        assert row.target is not None
        print(
            f"missed: {row.name}: {number(row.ratio, row)}, the target is at most "
            f"{number(row.target, row)}; {row.ratio / row.target * 100 - 100:.0f} % too much"
        )
    if given.json:
        figures = {
            "machine": machine,
            "rounds": given.rounds,
            "comparisons": [row.as_json() for row in comparisons],
            "others": [
                {"profiles": size, "name": title, "ms": text} for size, title, text in others
            ],
        }
        given.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 1 if missed else 0


def header(given: argparse.Namespace) -> None:
    print(f"{'':60} {'ours':>9} {'other':>9} {'ratio':>7} {'(of one round)':>16} {'target':>7}")


def number(value: float, row: Comparison) -> str:
    return f"{value:.0f} {row.unit}" if row.other is None else f"{value:.2f}"


def line(row: Comparison) -> str:
    target = "" if row.target is None else number(row.target, row)
    mark = "" if row.target is None else "  missed" if row.missed else "  met"
    if row.other is None:
        return f"{row.name:60} {row.ours:9.0f} {row.unit:>9} {'':24} {target:>7}{mark}"
    spread = f"({row.low:.2f} to {row.high:.2f})"
    return (
        f"{row.name:60} {row.ours:9.1f} {row.other:9.1f} {row.ratio:7.2f} {spread:>16} "
        f"{target:>7}{mark}"
    )


if __name__ == "__main__":
    sys.exit(main())
