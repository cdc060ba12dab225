"""The homes and clones that are measured, made as fast as possible."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from typing import TYPE_CHECKING
from unittest import mock

from tweakio import ProfileManager

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = [
    "add_history",
    "clone",
    "git",
    "import_history",
    "make_home",
    "metadata_bytes",
    "name",
    "without_sync",
]


def name(number: int) -> str:
    return f"profile-{number:05}"


def git(directory: Path, *arguments: str, data: bytes | None = None) -> bytes:
    return subprocess.run(
        ["git", "-C", os.fspath(directory), *arguments],
        input=data,
        capture_output=True,
        check=True,
    ).stdout


@contextlib.contextmanager
def without_sync() -> Iterator[None]:
    """What is only set up need not survive a power cut."""
    with mock.patch("os.fsync"):
        yield


def make_home(home: Path, profiles: int) -> ProfileManager:
    """A home of so many profiles, packed."""
    manager = ProfileManager(home)
    with without_sync():
        manager.create_profiles(
            [name(number) for number in range(profiles)], "whatsapp", tags=["work"]
        )
        manager.gc()
    manager.list_profiles()
    return manager


def clone(home: Path, target: Path) -> Path:
    """The same profiles in a repository that plain git made: the user's own configuration."""
    subprocess.run(
        ["git", "clone", "--quiet", "--no-local", os.fspath(home / "profiles"), os.fspath(target)],
        check=True,
        capture_output=True,
    )
    return target


def metadata_bytes(directory: Path, profile: str, *, active: bool) -> bytes:
    """The content that a selection or its end gives to metadata.json."""
    value = json.loads((directory / profile / "metadata.json").read_bytes())
    value["status"] = "active" if active else "inactive"
    value["last_used"] = f"2026-01-01T00:00:00.{time.time_ns() // 1000 % 1000000:06}Z"
    return (json.dumps(value, indent=2) + "\n").encode()


def add_history(manager: ProfileManager, commits: int) -> None:
    """Make so many commits by selecting one profile after the other."""
    names = [profile.id for profile in manager.list_profiles()]
    with without_sync():
        for number in range(commits - 1):
            manager.select_profile(names[number % len(names)])
        manager.deactivate_profile()


def import_history(manager: ProfileManager, commits: int) -> None:
    """The same history by ``git fast-import``; its last state is the present one."""
    profiles = manager.home / "profiles"
    names = [profile.id for profile in manager.list_profiles()]
    head = git(profiles, "rev-parse", "HEAD").decode().strip()
    stream: list[bytes] = []
    commits -= commits % 2
    for number in range(commits):
        chosen = names[(number // 2) % len(names)]
        content = (profiles / chosen / "metadata.json").read_bytes()
        operation = "deactivate"
        if number % 2 == 0:
            content = metadata_bytes(profiles, chosen, active=True)
            operation = "activate"
        message = (
            f"{operation} {chosen}\n\nTweakio-Op: {operation}\nTweakio-Profile: {chosen}\n"
            "Tweakio-Command: ProfileManager.select_profile\n"
        ).encode()
        start = f"from {head}\n" if number == 0 else ""
        stream.append(
            f"commit refs/heads/main\ncommitter Benchmark <b@example.com> {1700000000 + number} "
            f"+0000\ndata {len(message)}\n".encode()
            + message
            + f"{start}M 100644 inline {chosen}/metadata.json\ndata {len(content)}\n".encode()
            + content
            + b"\n"
        )
    git(profiles, "fast-import", "--quiet", data=b"".join(stream))
