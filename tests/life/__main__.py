"""The long life of one repository, in figures and a picture.

    python -m tests.life
    python -m tests.life --activations 2000 --profiles 50 --svg life.svg

One program activates profiles in random order, each activation durable, and is looked at a
hundred times: what an activation costs, and what the repository and the program take. At the
end the real git counts and checks the commits.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tests.benchmark.homes import git, make_home, name
from tests.life.picture import Panel, draw

if TYPE_CHECKING:
    from tweakio import ProfileManager

Row = dict[str, float]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.life",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--activations", type=int, default=200_000)
    parser.add_argument("--profiles", type=int, default=1_000)
    parser.add_argument("--looks", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--directory", type=Path, help="where; a temporary one")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--svg", type=Path, help="draw them into this file")
    return parser.parse_args()


def live(manager: ProfileManager, given: argparse.Namespace) -> list[Row]:
    """Activate, and look at it all at equal distances."""
    chance = random.Random(given.seed)
    process = psutil.Process()
    rows = []
    done = 0
    last = ""
    for look in range(1, given.looks + 1):
        walls = []
        cpu = time.process_time()
        until = given.activations * look // given.looks
        count = until - done
        while done < until:
            profile = name(chance.randrange(given.profiles))
            if profile == last:
                continue
            began = time.perf_counter()
            manager.activate_profile(profile)
            walls.append(time.perf_counter() - began)
            last = profile
            done += 1
        cpu = time.process_time() - cpu
        walls.sort()
        git_dir = manager.home / "profiles" / ".git"
        files, size = tally(git_dir)
        rows.append(
            {
                "activations": done,
                "median_ms": statistics.median(walls) * 1000,
                "percentile_99_ms": walls[int(count * 0.99)] * 1000,
                "largest_ms": walls[-1] * 1000,
                "processor_ms": cpu / count * 1000,
                "bytes": size,
                "files": files,
                "memory_bytes": process.memory_info().rss,
                "descriptors": process.num_fds() if hasattr(process, "num_fds") else 0,
                "list_command_ms": list_command(manager.home),
            }
        )
        print(line(rows, given.profiles), flush=True)
    return rows


def tally(git_dir: Path) -> tuple[int, int]:
    """Files of a git directory, and their bytes."""
    sizes = [
        os.lstat(os.path.join(base, file)).st_size
        for base, _, files in os.walk(git_dir)
        for file in files
    ]
    return len(sizes), sum(sizes)


def list_command(home: Path) -> float:
    """Milliseconds of ``tweakio profile list --active``, in a process of its own; median of 3."""
    times = []
    for _ in range(3):
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "tweakio", "--home", os.fspath(home), "profile", "list",
             "--active"],
            check=True, capture_output=True,
        )  # fmt: skip
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000


def line(rows: list[Row], profiles: int) -> str:
    row = rows[-1]
    return (
        f"{row['activations']:9,.0f}  {row['median_ms']:6.2f} ms ({row['processor_ms']:.2f} of a "
        f"processor, 99 % below {row['percentile_99_ms']:.1f})  {row['bytes'] / 1e6:7.1f} MB in "
        f"{row['files']:.0f} files  memory {row['memory_bytes'] / 1e6:.0f} MB  "
        f"list {row['list_command_ms']:.0f} ms"
    )


def growth(rows: list[Row]) -> list[tuple[float, float]]:
    """Bytes that an activation added, from look to look; both just packed or not evens out."""
    step = max(1, len(rows) // 10)
    return [
        (
            row["activations"],
            (row["bytes"] - before["bytes"]) / (row["activations"] - before["activations"]),
        )
        for before, row in zip(rows[:-step], rows[step:], strict=True)
    ]


def panels(rows: list[Row]) -> list[Panel]:
    def series(key: str, scale: float = 1.0) -> list[tuple[float, float]]:
        return [(row["activations"], row[key] * scale) for row in rows]

    return [
        Panel("Time of one activation, ms", {
            "median": series("median_ms"), "processor time, mean": series("processor_ms"),
        }),
        Panel("Bytes that one activation adds", {"mean of a tenth of the run": growth(rows)}),
        Panel("Files in the git directory", {"files": series("files")}),
        Panel("Memory of the program, MB", {"resident": series("memory_bytes", 1e-6)}),
        Panel("tweakio profile list --active, ms", {"median of 3": series("list_command_ms")}),
    ]  # fmt: skip


def conclude(rows: list[Row]) -> None:
    """Print the last tenth beside the second."""
    tenth = max(1, len(rows) // 10)
    early, late = rows[tenth : 2 * tenth] or rows, rows[-tenth:]
    print("\nThe last tenth to the second:")
    for key in ("median_ms", "processor_ms", "percentile_99_ms", "files", "memory_bytes",
                "descriptors", "list_command_ms"):  # fmt: skip
        one, two = (statistics.median(row[key] for row in part) for part in (early, late))
        print(f"  {key:18} {two / one if one else 0.0:5.2f}  ({one:,.1f} to {two:,.1f})")


def main() -> int:
    given = arguments()
    directory = Path(tempfile.mkdtemp(prefix="tweakio-life-", dir=given.directory))
    try:
        manager = make_home(directory / "home", given.profiles)
        profiles = manager.home / "profiles"
        before = int(git(profiles, "rev-list", "--count", "HEAD"))
        began = time.monotonic()
        rows = live(manager, given)
        seconds = time.monotonic() - began
        manager.close()
        commits = int(git(profiles, "rev-list", "--count", "HEAD")) - before
        checked = git(profiles, "fsck", "--strict", "--no-dangling").decode().strip()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    conclude(rows)
    # Closing deactivates: one commit more.
    whole = commits == given.activations + 1 and not checked
    print(f"\n{commits:,} commits, git fsck --strict: {checked or 'clean'}; {seconds:,.0f} s")
    if given.json:
        figures = {
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
            "profiles": given.profiles, "seed": given.seed, "seconds": seconds, "rows": rows,
        }  # fmt: skip
        given.json.write_text(json.dumps(figures, indent=1) + "\n")
    if given.svg:
        title = f"{given.activations:,} activations over {given.profiles:,} profiles"
        given.svg.write_text(draw(title, panels(rows)))
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
