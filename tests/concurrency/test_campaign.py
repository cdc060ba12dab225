"""The short form of ``python -m tests.concurrency``; each with a seed that it prints."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.no_cover,  # its children end at once, and what they ran is in no record
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forked"),
    pytest.mark.skipif(shutil.which("git") is None, reason="git runs beside the workers"),
]


def campaign(*arguments: str) -> None:
    # A process of its own: forking is not for a test runner that has threads.
    seed = str(random.SystemRandom().randrange(1 << 31))
    done = subprocess.run(
        [sys.executable, "-m", "tests.concurrency", "--seed", seed, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    print(done.stdout + done.stderr)
    assert done.returncode == 0, f"seed {seed}:\n{done.stdout}{done.stderr}"


def test_many_processes_and_plain_git() -> None:
    campaign("--seconds", "6", "--processes", "16", "--profiles", "8")


def test_workers_killed_at_random() -> None:
    campaign("--seconds", "6", "--processes", "12", "--profiles", "6", "--kill")
