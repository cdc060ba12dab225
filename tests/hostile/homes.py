"""A home with something of everything that is read from a disk."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tweakio import ProfileManager

__all__ = ["ENVIRONMENT", "build", "copy", "git", "interrupt"]

ROOT = Path(__file__).resolve().parent.parent.parent
ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_AUTHOR_NAME": "Tester",
    "GIT_AUTHOR_EMAIL": "tester@example.com",
    "GIT_COMMITTER_NAME": "Tester",
    "GIT_COMMITTER_EMAIL": "tester@example.com",
    "PYTHONPATH": str(ROOT),
    "PYTHONUTF8": "1",
    "TZ": "UTC",
}


def git(directory: Path, *arguments: str) -> str:
    """Run git as the one who prepares the home."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    done = subprocess.run(
        ["git", "-C", str(directory), *arguments],
        capture_output=True, text=True, check=True, env={**kept, **ENVIRONMENT},
    )  # fmt: skip
    return done.stdout.strip()


def build(home: Path) -> None:
    """Three profiles, a trash, refs of all kinds, loose objects, commit packs and a packed one."""
    profiles = home / "profiles"
    with ProfileManager(home) as manager:
        manager.create_profiles(["alpha", "beta", "gone", "spare"], "whatsapp", tags=["eu"])
        for name in ("alpha", "beta", "gone", "spare"):
            data = profiles / name / "browser_profile"
            (data / "Default").mkdir()
            (data / "Default" / "Cookies").write_bytes(name.encode() * 100)
            (profiles / name / "session.json").write_text(json.dumps({"login": name}))
        for number in range(8):
            manager.update_profiles(["alpha", "beta"], note=f"note {number}")
        manager.gc()
        manager.delete_profile("gone")
        manager.recover_profile("spare", "hard")
        manager.update_profiles(
            ["beta"],
            platform_config={"proxy": {"host": "a", "port": 1}},
            browser={"locale": "de-DE", "timezone": "UTC", "window": [1280, 800],
                     "proxy": "http://bob@[::1]:8080", "proxy_password": "env:PROXY"},
        )  # fmt: skip
        git(profiles, "tag", "-a", "v1", "-m", "annotated")
        git(profiles, "branch", "side")
        git(profiles, "pack-refs", "--all")
        metadata = profiles / "beta" / "metadata.json"
        value = json.loads(metadata.read_bytes())
        metadata.write_text(json.dumps({**value, "note": "by hand"}, indent=2))
        git(profiles, "commit", "-q", "--no-verify", "-am", "by hand")
        manager.select_profile("alpha")
        manager.undo()
        manager.redo()
    stray = profiles / "stray" / "browser_profile"
    stray.mkdir(parents=True)
    (stray / "data").write_text("of nobody")
    with ProfileManager(home) as manager:
        manager.update_profiles(["alpha"], note="last")


_KILLED = """\
import os, sys
from tweakio import ProfileManager
home, after = sys.argv[1], sys.argv[2] == "after"
manager = ProfileManager(home)
manager.list_profiles()
seen = [False]

def die(event, arguments):
    if seen[0] and event in ("open", "os.rename"):
        os._exit(9)
    if event == "os.rename":
        if str(arguments[1]).endswith("refs/heads/main"):
            seen[0] = True
            if not after:
                os._exit(9)

sys.addaudithook(die)
manager.delete_profile("beta")
"""


def interrupt(home: Path, *, after: bool) -> None:
    """Let a process die in the middle of a delete, before or after its commit point."""
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(home), "after" if after else "before"],
        env={**os.environ, **ENVIRONMENT}, check=False, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 9, done.stderr


def copy(template: Path, home: Path) -> None:
    """A copy of a home, whose index counts the files as they are there."""
    shutil.copytree(template, home, symlinks=True)
