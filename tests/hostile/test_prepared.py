"""Work trees that somebody prepared: nothing of theirs runs, nothing outside is touched.

The long form tries all of ``attacks.ATTACKS``; here is one of each kind.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.hostile import homes
from tests.hostile.attacks import ATTACKS, Canaries
from tests.hostile.campaign import INTACT, LEFT
from tests.hostile.prepared import attack

# What the worker runs is in no record of coverage.
pytestmark = pytest.mark.no_cover

_GIT = "profiles/.git"
SHORT = (
    *(f"link {_GIT}/{name}" for name in ("objects", "refs/heads", "logs", "hooks", "tweakio")),
    *(f"link {_GIT}/tweakio/{name}" for name in ("trash", "tmp", "work", "locks", "journal.json")),
    f"link {_GIT}/logs/HEAD", "link profiles/alpha", "link profiles/beta/.lock", "link profiles",
    *(f"hard link {_GIT}/{name}" for name in ("logs/HEAD", "config", "tweakio/journal.json")),
    *(f"hard link {_GIT}/tweakio/{name}" for name in ("cache/head", "locks/repository.lock")),
    "hard link profiles/beta/.lock",
    *(f"fifo {_GIT}/{name}" for name in ("logs/HEAD", "tweakio/journal.json", "refs/heads/main")),
    "fifo profiles/beta/.lock", "socket profiles/alpha/session.json",
    f"huge {_GIT}/index", f"nested {_GIT}/tweakio/packs.json",
    "nested profiles/alpha/metadata.json", "journal moves out", "journal purges",
    "journal branch", "journal root files", "HEAD out", "HEAD chain out", "config", "clone",
    "trash links", "put aside", "packed refs", "alternates", "tags", "single account",
    "index paths", "tree bomb", "year 1", "year 9999",
    "tree 40000 b'..'", "tree 40000 b'.git'", "tree 40000 b'\\x1b[31m'", "tree link", "submodule",
)  # fmt: skip
# What is no repository of tweakio's any more is left alone, by the doctor as well.
_REFUSED = {"link profiles"}


def test_short_form_names_attacks() -> None:
    assert set(SHORT) <= ATTACKS.keys()


@pytest.mark.parametrize("name", SHORT)
def test_prepared(name, sound, tmp_path):
    template, worker = sound
    problems, said = attack(name, template, tmp_path, worker)
    assert problems == []
    if name not in _REFUSED and not name.startswith("submodule"):
        assert said[LEFT] == INTACT, said


# filelock before 4.2 tries in a temporary directory whether there are links.
_PROBE = rf"{re.escape(tempfile.gettempdir())}/(?:tmp)?\w{{8}}(?:/probe-\w+)?"
_HARMLESS = re.compile(rf"(?:/dev/(?:null|tty|urandom)|/proc/.*|{_PROBE})$")


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_system_calls(sound, tmp_path):
    """What Python's own audit cannot see: no program is started, no planted path is opened."""
    home, outside = tmp_path / "home", tmp_path / "outside"
    outside.mkdir()
    homes.copy(sound[0], home)
    canaries = Canaries(outside)
    for name in ("clone", "trash links", "link profiles/alpha", "hard link profiles/beta/.lock"):
        (home / "profiles/.git/tweakio/trash").mkdir(parents=True, exist_ok=True)
        ATTACKS[name](home, outside)
    canaries.arm()
    user = tmp_path / "user"
    user.mkdir()
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("COVERAGE")},
        **homes.ENVIRONMENT, "HOME": str(user), "XDG_CONFIG_HOME": str(user),
        "TWEAKIO_HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    log = tmp_path / "log"
    for command in (["profile", "list"], ["profile", "set", "beta", "--note", "x"],
                    ["profile", "activate", "beta"], ["repo", "doctor", "--fix"]):  # fmt: skip
        done = subprocess.run(
            ["strace", "-f", "-qq", "-y", "-o", str(log), "-e", "trace=%file,%process",
             sys.executable, "-m", "tweakio", *command],
            env=environment, capture_output=True, text=True, check=False, cwd=user,
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        lines = log.read_text(errors="replace").splitlines()
        assert [line for line in lines if "execve(" in line][1:] == []
        assert [line for line in lines if _touches(line, outside)] == []
        assert [line for line in lines if _writes(line, home)] == []
    assert canaries.touched() == []


def _touches(line: str, outside: Path) -> bool:
    """Whether a call opens or changes something outside, and did not only look at a name."""
    call = line.split("(")[0].split()[-1]
    looks = ("readlink", "readlinkat", "lstat", "newfstatat", "stat", "access", "faccessat2")
    return f"{outside}/" in line and call not in (*looks, "statx", "getcwd")


def _writes(line: str, home: Path) -> bool:
    """Whether a file is opened for writing that is not in the home."""
    match = re.search(r'openat\(.*?"([^"]*)", (\S+?)[,)].*= \d+<([^>]*)>', line)
    if match is None or not re.search("O_WRONLY|O_RDWR|O_CREAT", match[2]):
        return False
    return not match[3].startswith(f"{home}/") and not _HARMLESS.match(match[3])
