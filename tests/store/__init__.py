"""Tests of the layers below ProfileManager, on real files, real git and real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tweakio import schema
from tweakio.layout import Layout
from tweakio.store.initialise import open_repository
from tweakio.store.repository import Repository

ROOT = Path(__file__).resolve().parents[2]
NOW = "2026-01-02T03:04:05.000006Z"


def git(path: Path, *arguments: str, data: bytes | None = None, check: bool = True) -> str:
    """The output of a real git."""
    done = subprocess.run(["git", "-C", str(path), *arguments], input=data, capture_output=True)
    if check:
        assert done.returncode == 0, done.stderr.decode()
    return (done.stdout if check else done.stdout + done.stderr).decode()


def open_store(home: Path) -> Repository:
    """The repository of a home, made if it is missing."""
    found = open_repository(Layout(home), create=True)
    assert found is not None
    return found


def metadata(profile_id: str, **changes: object) -> bytes:
    """A valid metadata.json."""
    value = {
        "profile_id": profile_id, "platform": "custom", "created_at": NOW, "last_used": NOW,
        "status": "inactive", "schema_version": 1,
    }  # fmt: skip
    return schema.dump({**value, **changes})


def create(repository: Repository, *profile_ids: str, **changes: object) -> str | None:
    """Profiles with tracked files and a session, as one commit."""
    with repository.transaction("create", profile_ids) as change:
        for profile_id in profile_ids:
            staged = change.stage(f"new-{profile_id}")
            files = {"metadata.json": metadata(profile_id, **changes), "fingerprint.json": b"{}\n"}
            for name, content in files.items():
                (staged / name).write_bytes(content)
                change.put(profile_id, name, content)
            (staged / "session.json").write_text(profile_id)
            (staged / "browser_profile").mkdir()
            (staged / "browser_profile" / "data").write_bytes(os.urandom(32))
            change.move(staged, repository.layout.profile(profile_id).directory)
    return change.commit_id


def child(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A python process that has imported these helpers; it says lines on its stdout."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    text = f"import sys, os, time\nfrom pathlib import Path\nfrom tests.store import *\n{code}"
    return subprocess.Popen(
        [sys.executable, "-c", text, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line of a child."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(process: subprocess.Popen[str], *, kill: bool = False) -> int:
    """Close a child's pipes and wait for it."""
    if kill:
        process.kill()
    process.communicate()
    return process.returncode
