"""How fast and how large in memory export and import are, beside ``tar | zstd``.

``python -m tests.archive.measure [--megabytes 1024] [--rounds 3] [--profiles 1000]``

The same files, all of them in memory before, the same level and threads, in turns in one run, and
who begins changes with each round; both end with what was written being on the disk.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tweakio import ProfileManager
from tweakio.bundle import LEVEL
from tweakio.importing import from_csv

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["measure_many", "measure_one"]

_CHILD = """
import json, sys, time
from tweakio import ProfileManager
home, act, path = sys.argv[1:]
with ProfileManager(home) as manager:
    started = time.perf_counter()
    if act == "export":
        manager.archives.export(["a"], path, with_session=True)
    else:
        manager.archives.import_file(path)
    seconds = time.perf_counter() - started
    memory = int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])  # of this one
    if act == "import":
        manager.delete_profile("a", purge=True)
print(json.dumps([seconds, memory / 1024]))
"""


def fill(directory: Path, size: int) -> None:
    """Files as a browser has them: some can be compressed, some cannot."""
    chance = random.Random(1)
    default = directory / "browser_profile" / "Default"
    default.mkdir(parents=True, exist_ok=True)
    words = [chance.randbytes(chance.randrange(3, 12)) for _ in range(4000)]
    text = b"".join(chance.choice(words) for _ in range(200_000))
    number = 0
    while size > 0:
        length = min(size, chance.choice((20_000, 300_000, 4 << 20, 32 << 20)))
        content = bytearray()
        while len(content) < length:
            content += text if chance.random() < 0.5 else chance.randbytes(1 << 20)
        (default / f"{number:06}.ldb").write_bytes(content[:length])
        size -= length
        number += 1


def _child(home: Path, act: str, path: Path) -> tuple[float, float]:
    os.sync()
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(home), act, str(path)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    seconds, memory = json.loads(done.stdout)
    return seconds, memory


def _shell(line: str) -> float:
    os.sync()
    started = time.perf_counter()
    subprocess.run(["bash", "-o", "pipefail", "-c", line], check=True)
    return time.perf_counter() - started


class _Turns:
    """What two ways took, measured in turns."""

    def __init__(self) -> None:
        self.ours: list[float] = []
        self.plain: list[float] = []
        self.memory = 0.0

    def take(
        self, number: int, ours: Callable[[], tuple[float, float]], plain: Callable[[], float]
    ) -> None:
        """Measure both, whose turn it is first."""
        for turn in (number, number + 1):
            if turn % 2:
                seconds, memory = ours()
                self.ours.append(seconds)
                self.memory = max(self.memory, memory)
            else:
                self.plain.append(plain())

    def __str__(self) -> str:
        ratios = [ours / plain for ours, plain in zip(self.ours, self.plain, strict=True)]
        middle = statistics.median(self.ours) / statistics.median(self.plain)
        return (
            f"{_several(self.ours)} s, plain {_several(self.plain)} s, ratio {middle:.2f} "
            f"(of the rounds {min(ratios):.2f} to {max(ratios):.2f}; at most 1.3), "
            f"memory {self.memory:.0f} MB (at most 64)"
        )


def _several(seconds: list[float]) -> str:
    return " ".join(f"{one:.2f}" for one in seconds)


def measure_one(directory: Path, megabytes: int, rounds: int) -> Iterator[str]:
    """A large profile: seconds, ratios to ``tar | zstd`` and megabytes of memory."""
    with ProfileManager(directory / "one") as manager:
        manager.create_profile("a", "custom")
        source = manager.layout.profile("a").directory
    fill(source, megabytes << 20)
    with ProfileManager(directory / "two") as manager:
        manager.create_profile("z", "custom")
    out, packed, into = directory / "f.zip", directory / "f.tar.zst", directory / "plain"
    subprocess.run(
        ["bash", "-c", f"cat {source}/browser_profile/Default/* > /dev/null"], check=True
    )

    def ours_out() -> tuple[float, float]:
        out.unlink(missing_ok=True)
        return _child(directory / "one", "export", out)

    def plain_out() -> float:
        packed.unlink(missing_ok=True)
        return _shell(
            f"tar -C {source} -c session.json browser_profile | zstd -q -{LEVEL} -T1 > {packed}"
            f" && sync {packed}"
        )

    def ours_in() -> tuple[float, float]:
        return _child(directory / "two", "import", out)

    def plain_in() -> float:
        into.mkdir()
        seconds = _shell(f"zstd -q -dc {packed} | tar -C {into} -x && sync -f {into}")
        shutil.rmtree(into)
        return seconds

    exported, imported = _Turns(), _Turns()
    for number in range(rounds):
        exported.take(number, ours_out, plain_out)
        imported.take(number, ours_in, plain_in)
    sizes = f"sizes {out.stat().st_size >> 20} and {packed.stat().st_size >> 20} MB"
    yield f"export of {megabytes} MB, beside tar | zstd -{LEVEL} -T1: {exported}, {sizes}"
    yield f"import of {megabytes} MB, beside zstd -d | tar -x: {imported}"


def measure_many(directory: Path, profiles: int, rounds: int) -> Iterator[str]:
    """Many small profiles, out of a table and out of a file: one commit, beside the files."""
    names = [f"p{number:05}" for number in range(profiles)]
    table, file = directory / "many.csv", directory / "many.zip"
    rows = [f"{name},custom,shop;north,number {name}" for name in names]
    table.write_text("\n".join(["id,platform,tags,note", *rows, ""]))
    with ProfileManager(directory / "many") as manager:
        manager.create_profiles(names, "custom")
        manager.archives.export(names, file)
    for source in (table, file):
        ours, plain, synced = [], [], []
        for number in range(rounds):
            home = directory / f"{source.suffix}{number}"
            with ProfileManager(home) as manager:
                manager.create_profile("z", "custom")
                before = len(manager.history())
                os.sync()
                started = time.perf_counter()
                if source is table:
                    manager.archives.bring_in(from_csv(table))
                else:
                    manager.archives.import_file(file)
                ours.append(time.perf_counter() - started)
                commits = len(manager.history()) - before
                found = _contents(manager.home / "profiles", names)
            plain.append(_write(directory / "written", found, sync_each=False))
            synced.append(_write(directory / "written", found, sync_each=True))
            shutil.rmtree(home)
        difference = statistics.median(ours) - statistics.median(plain)
        yield (
            f"import of {profiles} profiles ({source.suffix}): {_several(ours)} s; writing the "
            f"same files and one sync {_several(plain)} s, difference {difference:.2f} s (at most "
            f"2); with a sync of each {_several(synced)} s; commits {commits} (1)"
        )


def _contents(tree: Path, names: list[str]) -> list[tuple[str, bytes | None]]:
    """What is in these directories; a directory has no content."""
    return [
        (path.relative_to(tree).as_posix(), path.read_bytes() if path.is_file() else None)
        for name in names
        for path in [tree / name, *sorted((tree / name).rglob("*"))]
    ]


def _write(directory: Path, found: list[tuple[str, bytes | None]], *, sync_each: bool) -> float:
    os.sync()
    started = time.perf_counter()
    directory.mkdir()
    for name, content in found:
        path = directory / name
        if content is None:
            path.mkdir()
            continue
        with path.open("wb") as file:
            file.write(content)
            if sync_each:
                file.flush()
                os.fsync(file.fileno())
    subprocess.run(["sync", "-f", directory], check=True)
    seconds = time.perf_counter() - started
    shutil.rmtree(directory)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.archive.measure", description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profiles", type=int, default=1000)
    parser.add_argument("--directory", help="where to work")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.directory) as place:
        if given.megabytes:
            for line in measure_one(Path(place), given.megabytes, given.rounds):
                print(line, flush=True)
        if given.profiles:
            for line in measure_many(Path(place), given.profiles, given.rounds):
                print(line, flush=True)


if __name__ == "__main__":
    main()
