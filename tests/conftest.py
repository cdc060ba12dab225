"""What every test runs in: a home of its own, and nothing of the person who runs it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tweakio import ProfileManager, identity, platforms

# A shell's background and nohup leave these ignored, and every process of the tests would inherit
# that: none could be interrupted.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def hermetic(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point everything that is the user's at empty directories.

    A test that would touch the real home fails loudly: it is not writable in name.
    """
    nowhere = tmp_path_factory.mktemp("nowhere")
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(nowhere / name.lower()))
    for name in list(os.environ):
        if name.startswith(("GIT_", "TWEAKIO_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(nowhere / "gitconfig"))
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Tester")
    monkeypatch.setenv("GIT_AUTHOR_EMAIL", "tester@example.com")
    monkeypatch.setenv("GIT_COMMITTER_NAME", "Tester")
    monkeypatch.setenv("GIT_COMMITTER_EMAIL", "tester@example.com")
    identity.author.cache_clear()


@pytest.fixture(autouse=True)
def children_uncovered(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``no_cover`` says of a test holds for the processes that it starts."""
    if request.node.get_closest_marker("no_cover"):
        for name in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"):
            monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def own_platforms(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone with it."""
    monkeypatch.setattr(platforms, "_platforms", dict(platforms._platforms))
    monkeypatch.setattr(platforms, "_entry_points_loaded", platforms._entry_points_loaded)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home that does not exist yet."""
    return tmp_path / "home"


@pytest.fixture
def manager(home: Path) -> Iterator[ProfileManager]:
    """A manager of that home."""
    with ProfileManager(home) as found:
        yield found


@pytest.fixture
def git(home: Path) -> Callable[..., str]:
    """Run the real git in the profile repository; its output, or CalledProcessError."""

    def run(*arguments: str, check: bool = True) -> str:
        done = subprocess.run(
            ["git", "-C", str(home / "profiles"), *arguments],
            check=False,
            capture_output=True,
            text=True,
        )
        if check and done.returncode:
            raise subprocess.CalledProcessError(
                done.returncode, done.args, done.stdout, done.stderr
            )
        return done.stdout + done.stderr

    return run
