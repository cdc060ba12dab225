"""The gits that tests of git's own forms run with: the one on the PATH, and others that are named.

``TWEAKIO_TEST_GITS`` names further programs, separated like the PATH. Some forms are made by
later versions only; a test that wants one asks for it here.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

PERSON = ("-c", "user.name=Tester", "-c", "user.email=tester@example.org")
GITS = [
    path
    for path in (shutil.which("git"), *os.environ.get("TWEAKIO_TEST_GITS", "").split(os.pathsep))
    if path
]


def version(program: str) -> tuple[int, ...]:
    """The version of a git."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"(\d+)\.(\d+)", said.stdout)
    assert found is not None
    return tuple(int(part) for part in found.groups())


def with_at_least(*wanted: int) -> list[str]:
    """Those that are of this version, or later."""
    return [program for program in GITS if version(program) >= wanted]


def run(program: str, path: Path, *arguments: str, data: bytes | None = None) -> str:
    """What a git says; it has to succeed. Hooks are not run."""
    done = subprocess.run(
        [program, *PERSON, "-c", f"core.hooksPath={os.devnull}", "-C", str(path), *arguments],
        input=data,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()
