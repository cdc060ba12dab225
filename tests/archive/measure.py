"""How fast and how large in memory export and import are, beside ``tar | zstd``.

``python -m tests.archive.measure [--megabytes 1024] [--profiles 1000] [--directory DIR]``

The same files, the same level and threads, one after the other in one run; both end with what
was written being on the disk.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tweakio import ProfileManager
from tweakio.bundle import LEVEL

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
memory = int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])  # of this program only
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


def measure_one(directory: Path, megabytes: int) -> list[str]:
    """A large profile: seconds, ratios to ``tar | zstd`` and megabytes of memory."""
    with ProfileManager(directory / "one") as manager:
        manager.create_profile("a", "custom")
        source = manager.layout.profile("a").directory
    fill(source, megabytes << 20)
    with ProfileManager(directory / "two") as manager:
        manager.create_profile("z", "custom")
    out, packed, into = directory / "f.zip", directory / "f.tar.zst", directory / "plain"
    into.mkdir()
    subprocess.run(
        ["bash", "-c", f"cat {source}/browser_profile/Default/* > /dev/null"], check=True
    )
    plain = _shell(
        f"tar -C {source} -c session.json browser_profile | zstd -q -{LEVEL} -T1 > {packed}"
        f" && sync {packed}"
    )
    os.sync()
    ours, memory = _child(directory / "one", "export", out)
    lines = [
        (
            f"export of {megabytes} MB: {ours:.2f} s, tar | zstd -{LEVEL} -T1 {plain:.2f} s, "
            f"ratio {ours / plain:.2f} (at most 1.3), memory {memory:.0f} MB (at most 64), "
            f"sizes {out.stat().st_size >> 20} and {packed.stat().st_size >> 20} MB"
        )
    ]
    plain = _shell(f"zstd -q -dc {packed} | tar -C {into} -x && sync -f {into}")
    shutil.rmtree(into)
    os.sync()
    ours, memory = _child(directory / "two", "import", out)
    lines.append(
        f"import of {megabytes} MB: {ours:.2f} s, zstd -d | tar -x {plain:.2f} s, "
        f"ratio {ours / plain:.2f} (at most 1.3), memory {memory:.0f} MB (at most 64)"
    )
    return lines


def measure_many(directory: Path, profiles: int) -> list[str]:
    """Many small profiles: an import as one commit, beside writing the same files."""
    names = [f"p{number:05}" for number in range(profiles)]
    with ProfileManager(directory / "many") as manager:
        manager.create_profiles(names, "custom")
        manager.archives.export(names, directory / "many.zip")
        tree = manager.home / "profiles"
        contents = [
            (f"{name}/{file}", (tree / name / file).read_bytes())
            for name in names
            for file in ("metadata.json", "fingerprint.json", "session.json")
        ]
    with ProfileManager(directory / "target") as manager:
        manager.create_profile("z", "custom")
        before = len(manager.history())
        os.sync()
        started = time.perf_counter()
        manager.archives.import_file(directory / "many.zip")
        ours = time.perf_counter() - started
        commits = len(manager.history()) - before
    os.sync()
    started = time.perf_counter()
    for name, content in contents:
        path = directory / "written" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    plain = time.perf_counter() - started
    return [
        (
            f"import of {profiles} profiles: {ours:.2f} s, writing their files {plain:.2f} s, "
            f"difference {ours - plain:.2f} s (at most 2), commits {commits} (1)"
        )
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.archive.measure", description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--profiles", type=int, default=1000)
    parser.add_argument("--directory", help="where to work")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.directory) as place:
        if given.megabytes:
            for line in measure_one(Path(place), given.megabytes):
                print(line, flush=True)
        if given.profiles:
            for line in measure_many(Path(place), given.profiles):
                print(line, flush=True)


if __name__ == "__main__":
    main()
