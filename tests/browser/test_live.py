"""Browsers that tweakio did not start, links in the place of browser data, locks by others."""

from __future__ import annotations

import ast
import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tweakio
from tests.browsers import chromium_path, needs_browser
from tweakio import (
    BrowserError,
    BrowserLockedError,
    ProfileActiveError,
    ProfileManager,
    TweakioError,
)
from tweakio.browser.engines.chromium import Chromium
from tweakio.migration import SdkPlaces, migrate_sdk

pytestmark = pytest.mark.skipif(os.name != "posix", reason="browsers' locks of POSIX")


@pytest.fixture
def two(manager: ProfileManager) -> ProfileManager:
    manager.create_profiles(["p1", "p2"], "custom")
    return manager


@contextlib.contextmanager
def chromium(user_data: Path) -> Iterator[subprocess.Popen[bytes]]:
    """One that somebody else has started."""
    process = subprocess.Popen(
        [chromium_path() or "", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
         f"--user-data-dir={user_data}", "about:blank"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        end = time.monotonic() + 30
        while not (user_data / "Local State").exists() and time.monotonic() < end:
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait(30)
        # Its helpers write for a moment longer, and would make the directory anew.
        while Chromium().helpers_of(user_data) and time.monotonic() < end + 30:
            time.sleep(0.05)


@needs_browser
@pytest.mark.parametrize("below", ["", "session"])
def test_data_are_not_taken_from_under_a_live_browser(two: ProfileManager, below: str) -> None:
    two.recover_profiles(["p2"], mode="hard")
    [entry] = two.trash("p2")
    two.snapshots.create("p1", encrypt=False)
    data = two.layout.profile("p1").browser_profile
    tries: tuple[Callable[[], object], ...] = (
        lambda: two.delete_profile("p1"),
        lambda: two.delete_profile("p1", force=True, purge=True),
        lambda: two.recover_profiles(["p1"], mode="hard"),
        lambda: two.snapshots.restore("p1"),
        lambda: two.snapshots.create("p1", encrypt=False),
    )
    with chromium(data / below if below else data) as browser:
        for act in tries:
            with pytest.raises(BrowserLockedError) as caught:
                act()
            assert caught.value.exit_code == 26
            assert caught.value.details["pid"] == browser.pid
        assert two.browser_status("p1").state.kind == "open"
        assert browser.poll() is None
        assert (data / below / "SingletonLock").is_symlink()
    for act in tries[2:]:
        act()
    two.undo()
    with chromium(two.layout.profile("p2").browser_profile):
        with pytest.raises(BrowserLockedError):
            two.restore_from_trash(entry.name)
        two.create_profile("p3", "custom")
    with chromium(two.layout.profile("p3").browser_profile), pytest.raises(BrowserLockedError):
        two.undo()
    two.undo()
    two.redo()


@needs_browser
def test_an_account_is_not_migrated_from_under_its_browser(
    manager: ProfileManager, tmp_path: Path
) -> None:
    places = SdkPlaces(tmp_path / "s.json", tmp_path / "f.pkl", tmp_path / "browser")
    places.browser.mkdir()
    (places.browser / "chrome_debug.log").write_text("nothing else")
    assert migrate_sdk(manager.repository, places) is None
    with chromium(places.browser), pytest.raises(BrowserLockedError):
        migrate_sdk(manager.repository, places)
    assert migrate_sdk(manager.repository, places) == "default"


# Links


def test_a_link_in_the_place_of_browser_data_is_refused_by_all(
    two: ProfileManager, tmp_path: Path
) -> None:
    two.snapshots.create("p1", encrypt=False)
    data = two.layout.profile("p1").browser_profile
    elsewhere = tmp_path / "elsewhere"
    shutil.move(data, elsewhere)
    (elsewhere / "Cookies").write_text("precious")
    data.symlink_to(elsewhere)
    tries: tuple[Callable[[], object], ...] = (
        lambda: two.snapshots.create("p1", encrypt=False),
        lambda: two.snapshots.restore("p1"),
        lambda: two.archives.export(["p1"], tmp_path / "x.zip", with_session=True),
        lambda: two.clone_profile("p1", "p9", with_session=True),
        lambda: two.recover_profiles(["p1"], mode="hard"),
        lambda: two.delete_profile("p1", purge=True),
    )
    for act in tries:
        with pytest.raises(BrowserError, match="is a symbolic link, which tweakio does not use"):
            act()
        assert (data / "Cookies").read_text() == "precious"
    [found] = [item for item in two.doctor().findings if item.code == "browser-data-linked"]
    assert str(data) in found.message
    # Into the trash goes the link, and what it leads to stays.
    two.delete_profile("p1")
    two.undo()
    assert (data / "Cookies").read_text() == "precious"
    data.unlink()
    shutil.move(elsewhere, data)
    two.snapshots.create("p1", encrypt=False)
    assert two.doctor().healthy


# Locks


_HOLDS = """\
import fcntl, sys, time
file = open(sys.argv[1], "a")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""


def test_a_lock_by_another_program_is_one_although_it_says_nothing(two: ProfileManager) -> None:
    path = two.layout.profile("p1").lock
    path.touch()
    holder = subprocess.Popen([sys.executable, "-c", _HOLDS, path], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert two.get_profile("p1").in_use
        for act in (
            lambda: two.delete_profile("p1"),
            lambda: two.recover_profiles(["p1"], mode="hard"),
        ):
            with pytest.raises(ProfileActiveError, match="in use by another process"):
                act()
    finally:
        holder.kill()
        holder.communicate()
    assert not two.get_profile("p1").in_use
    two.delete_profile("p1")


def test_what_is_injected_is_what_is_used(tmp_path: Path) -> None:
    made = []

    class Locks(tweakio.ProfileLockManager):
        def __init__(self, layout: object) -> None:
            made.append(self)
            super().__init__(layout)  # type: ignore[arg-type]

    with ProfileManager(tmp_path / "home", lock_manager=Locks) as manager:
        manager.create_profile("p1", "custom")
        handler = manager.metadata
        handler.save("p1", {**handler.load("p1"), "note": "x"})
        assert handler._locks is manager.locks
    assert made == [manager.locks]


def test_no_module_but_one_makes_a_lock_manager() -> None:
    """One without leases would pass by another machine's."""
    root = Path(tweakio.__file__).parent
    found = [
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("ProfileLockManager")
    ]
    assert found == [os.path.join("lease", "locking.py")]


def test_directories_that_no_profile_has_are_named(
    two: ProfileManager, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (two.layout.profile("p1").directory / "session").mkdir()
    with contextlib.suppress(TweakioError):
        two.snapshots.create("p1", encrypt=False)
    assert "session" in caplog.text
    assert "left out" in caplog.text
