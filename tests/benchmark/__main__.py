"""The benchmark.

    python -m tests.benchmark
    python -m tests.benchmark --quick
    python -m tests.benchmark --profiles 100,1000 --rounds 15 --json figures.json
    python -m tests.benchmark --page docs/performance.md
    python -m tests.benchmark --only browser --page docs/browsers.md

Times are compared within one run on one machine only. It ends with 1 if a target is missed.
What it compares with is installed by pip, each in an environment of its own in the user's cache
directory, the first time; --no-peers leaves that out.
"""

from __future__ import annotations

import argparse
import contextlib
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

from tests.benchmark.changing import changes
from tests.benchmark.commands import commands, imports
from tests.benchmark.page import replace_tables, tables
from tests.benchmark.reading import growth, listing, long_history, recovery
from tests.benchmark.timing import Comparison, NotRun

if TYPE_CHECKING:
    from collections.abc import Iterator


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
    parser.add_argument("--history", type=int, help="commits of a long history; 10000")
    parser.add_argument(
        "--only",
        default="",
        help="some of changes,listing,recovery,commands,imports,long; or browser, which is "
        "measured only then",
    )
    parser.add_argument("--quick", action="store_true", help="small and few, to see that it works")
    parser.add_argument("--no-peers", action="store_true", help="install and run no libraries")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    parser.add_argument("--page", type=Path, help="put the tables into this page")
    parser.add_argument(
        "--directory", type=Path, help="where to measure: the file system matters; a temporary one"
    )
    given = parser.parse_args()
    given.profiles = given.profiles or ([20] if given.quick else [100, 1_000, 10_000])
    given.rounds = given.rounds or (3 if given.quick else 21)
    given.history = given.history or (40 if given.quick else 10_000)
    given.peers = not (given.quick or given.no_peers)
    return given


@contextlib.contextmanager
def scratch(parent: Path | None) -> Iterator[Path]:
    """A new directory, gone after it."""
    directory = Path(tempfile.mkdtemp(prefix="tweakio-benchmark-", dir=parent))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def measure(given: argparse.Namespace) -> Iterator[Comparison | NotRun]:
    """All that was asked for, one after the other."""
    rounds, peers = given.rounds, given.peers

    def wanted(part: str) -> bool:
        return not given.only or part in given.only.split(",")

    def place() -> contextlib.AbstractContextManager[Path]:
        return scratch(given.directory)

    if given.only == "browser":
        from tests.benchmark.browser import browser

        with place() as directory:
            yield from browser(directory, rounds)
        return
    if not peers:
        yield NotRun("pygit2, camouchat-browser", "they were not asked for")
    for profiles in given.profiles:
        if wanted("changes"):
            with place() as directory:
                yield from changes(directory, profiles, rounds, peers=peers)
        if wanted("listing"):
            with place() as directory:
                yield from listing(directory, profiles, rounds, peers=peers)
        if wanted("recovery"):
            with place() as directory:
                yield from recovery(directory, profiles, given.history, rounds)
        if wanted("commands"):
            with place() as directory:
                yield from commands(directory, profiles, rounds, peers=peers)
    if wanted("imports"):
        yield from imports(rounds, peers=peers)
    if wanted("long"):
        with place() as directory:
            yield from long_history(directory, given.history, rounds)
        middle = 1_000 if 1_000 in given.profiles else given.profiles[-1]
        with place() as directory:
            yield growth(directory, middle, 20 if given.quick else 300)


def machine(rounds: int) -> str:
    git = subprocess.run(["git", "--version"], capture_output=True, text=True, check=True).stdout
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors, "
        f"Python {platform.python_version()}, {git.strip()}, {rounds} rounds"
    )


def main() -> int:
    given = arguments()
    began = time.monotonic()
    os.environ.pop("TWEAKIO_HOME", None)
    for role in ("AUTHOR", "COMMITTER"):
        os.environ.setdefault(f"GIT_{role}_NAME", "Benchmark")
        os.environ.setdefault(f"GIT_{role}_EMAIL", "benchmark@example.com")
    what = machine(given.rounds)
    print(f"{what}\n")
    columns = ("ours", "other", "ratio", "half of them", "target")
    print(f"{'':72} {columns[0]:>12} {columns[1]:>12} {columns[2]:>6} {columns[3]:>14} target")
    rows: list[Comparison] = []
    not_run: list[NotRun] = []
    for found in measure(given):
        if isinstance(found, NotRun):
            if found not in not_run:
                not_run.append(found)
                print(f"not run: {found.what}: {found.reason}", flush=True)
            continue
        rows.append(found)
        print(line(found), flush=True)
    print(f"\n{time.monotonic() - began:.0f} s in all")
    for row in rows:
        if row.missed:
            assert row.target is not None
            print(
                f"missed: {title(row)}: {row.ratio:.2f}, the target is at most "
                f"{row.target:g}; {row.ratio / row.target * 100 - 100:.0f} % too much"
            )
    if given.json:
        figures = {
            "machine": what,
            "rows": [row.as_json() for row in rows],
            "not_run": [item._asdict() for item in not_run],
        }
        given.json.write_text(json.dumps(figures, indent=1) + "\n")
    if given.page:
        replace_tables(given.page, tables(what, rows, not_run))
    return 1 if any(row.missed for row in rows) else 0


def title(row: Comparison) -> str:
    size = f", {row.profiles:,} profiles" if row.profiles else ""
    return f"{row.operation}{size}" + (f", to {row.against}" if row.against else "")


def line(row: Comparison) -> str:
    target = "" if row.target is None else f"{row.target:g} {'missed' if row.missed else 'met'}"
    if row.other is None:
        return f"{title(row):72} {row.ours:9.0f} {row.unit:5} {'':31} {target}"
    spread = f"{row.low:.2f} to {row.high:.2f}"
    return (
        f"{title(row):72} {row.ours:9.2f} {row.unit:2} {row.other:9.2f} {row.unit:2} "
        f"{row.ratio:6.2f} {spread:>14} {target}"
    )


if __name__ == "__main__":
    sys.exit(main())
