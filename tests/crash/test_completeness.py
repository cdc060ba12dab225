"""No system call that changes something below a home escapes the fault injection.

The kernel's own account, by strace, has to agree call by call with what was counted.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash.harness import unavailable
from tests.crash.operations import OPERATIONS, on_an_overlay
from tests.invariants import git
from tweakio import ProfileManager

pytestmark = [
    pytest.mark.no_cover,  # its children end at once, and what they ran is in no record
    pytest.mark.slow,
    pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "available"),
]
ROOT = Path(__file__).resolve().parents[2]

# The kernel's names and the harness's.
KINDS = {
    "open": "open", "openat": "open", "openat2": "open", "creat": "open",
    "write": "write", "pwrite64": "pwrite", "writev": "writev", "pwritev": "writev",
    "fsync": "fsync", "fdatasync": "fdatasync", "sync_file_range": "fsync",
    "ftruncate": "ftruncate", "truncate": "truncate", "fallocate": "fallocate",
    "copy_file_range": "copy", "sendfile": "copy",
    "fchmod": "fchmod", "chmod": "chmod", "fchmodat": "chmod", "fchmodat2": "chmod",
    "chown": "chown", "fchown": "fchown", "lchown": "chown", "fchownat": "chown",
    "utime": "utime", "utimes": "utime", "utimensat": "utime", "futimesat": "utime",
    "mkdir": "mkdir", "mkdirat": "mkdir", "rmdir": "rmdir",
    "unlink": "unlink", "unlinkat": "unlink",
    "rename": "rename", "renameat": "rename", "renameat2": "rename",
    "link": "link", "linkat": "link", "symlink": "symlink", "symlinkat": "symlink",
    "mknod": "mknod", "mknodat": "mknod",
    "setxattr": "setxattr", "lsetxattr": "setxattr", "fsetxattr": "setxattr",
}  # fmt: skip
TARGET_LAST = {"rename", "link", "symlink"}
WRITING = ("O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC")
LINE = re.compile(r"(\w+)\((.*)\) += ")
NAMED = re.compile(r'(?:\w+<([^>]*)>, )?"((?:[^"\\]|\\.)*)"')
DESCRIPTOR = re.compile(r"\d+<([^>]*)>")


def strace(directory: Path, *command: str) -> subprocess.CompletedProcess[str]:
    names = ",".join(f"?{name}" for name in KINDS)
    return subprocess.run(
        # -y shows the paths of descriptors, -ff writes one file per process.
        ["strace", "-ff", "-y", "--seccomp-bpf", "-s", "4096", "-e", f"trace={names}",
         "-o", str(directory / "trace"), *command],
        cwd=ROOT, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip


def calls_in(trace: Path, home: str, *, counting: bool = False) -> list[tuple[str, str]]:
    """What a trace has between the two marks, as kind and path relative to the home.

    Args:
        trace: of one process.
        home: what is not below it does not count.
        counting: also what comes before the first mark.
    """
    found = []
    for line in trace.read_text(errors="replace").splitlines():
        if "/proc/counting-" in line:
            counting = "counting-on" in line
            continue
        match = LINE.match(line)
        if not counting or match is None:
            continue
        name, arguments = match.groups()
        kind = KINDS[name]
        if kind == "open" and not any(flag in arguments for flag in WRITING):
            continue
        if name == "unlinkat" and "AT_REMOVEDIR" in arguments:
            kind = "rmdir"
        path = path_of(kind, arguments)
        if path == home or path.startswith(home + "/"):
            found.append((kind, path[len(home) + 1 :].removesuffix(" (deleted)") or "."))
    return found


def path_of(kind: str, arguments: str) -> str:
    if kind in ("write", "pwrite", "writev", "fsync", "fdatasync", "ftruncate", "fchmod", "fchown",
                "fallocate", "copy"):  # fmt: skip
        match = DESCRIPTOR.match(arguments)
        return match[1] if match else ""
    named = NAMED.findall(arguments)
    if not named:
        match = DESCRIPTOR.match(arguments)
        return match[1] if match else ""
    directory, path = named[-1 if kind in TARGET_LAST else 0]
    return os.path.normpath(os.path.join(directory or "/", path))


def need_strace(tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed (apt-get install strace)")
    if strace(tmp_path, "true").returncode:
        pytest.skip("strace may not trace here (needs ptrace)")
    for trace in tmp_path.glob("trace.*"):
        trace.unlink()


def test_hook_changes_nothing(tmp_path: Path) -> None:
    """So there is nothing that a fault in it could leave half done."""
    need_strace(tmp_path)
    home = tmp_path / "home"
    with ProfileManager(home) as manager:
        manager.create_profile("a", "custom")
    profiles = home / "profiles"
    (profiles / "a" / "metadata.json").write_text("{}")
    git(profiles, "add", "-u")
    for content, expected in (("{}", 1), (None, 0)):
        if content is None:
            git(profiles, "reset", "--hard")
        hook = profiles / ".git" / "hooks" / "pre-commit"
        done = strace(tmp_path, "env", "-C", str(profiles), str(hook))
        assert done.returncode == expected, done.stderr
    traces = list(tmp_path.glob("trace.*"))
    assert len(traces) >= 2
    assert [call for trace in traces for call in calls_in(trace, str(home), counting=True)] == []
    # A trace of something that does change something is read.
    assert strace(tmp_path, "mkdir", str(home / "seen")).returncode == 0
    calls = [calls_in(path, str(home), counting=True) for path in tmp_path.glob("trace.*")]
    assert [("mkdir", "seen")] in calls


def test_strace_sees_what_the_harness_sees(tmp_path: Path) -> None:
    """A third of the operations, other ones in each run."""
    need_strace(tmp_path)
    seed = os.environ.get("CRASH_SEED") or str(random.SystemRandom().randrange(1 << 31))
    chosen = random.Random(seed).sample(list(OPERATIONS), len(OPERATIONS) // 3)
    print(f"seed {seed}")
    record = tmp_path / "record.json"
    named = [word for name in chosen for word in ("--operation", name)]
    done = strace(tmp_path, sys.executable, "-m", "tests.crash", "--record", str(record), *named)
    assert done.returncode == 0, done.stdout + done.stderr
    recorded = json.loads(record.read_text())
    assert sorted(recorded) == sorted(chosen)
    for name, run in recorded.items():
        seen = calls_in(tmp_path / f"trace.{run['pid']}", run["home"])
        # What the kernel says of a file that has no name yet, and strace outside the brackets.
        counted = [
            (kind, path.removesuffix(" (deleted)"))
            for kind, path, had_effect in run["calls"]
            # The renames that no overlay makes are refused before the kernel hears of them.
            if had_effect or kind != "rename" or OPERATIONS[name].begin is not on_an_overlay
        ]
        assert counted or OPERATIONS[name].looks, f"{name}: nothing was counted"
        assert seen == counted, f"{name}: strace and the harness disagree"
