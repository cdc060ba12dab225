"""Which browser is taken, and which version it says it is."""

from __future__ import annotations

import json
import os
import plistlib

import pytest

from tweakio.browser import finder
from tweakio.errors import BrowserNotFoundError


@pytest.fixture(autouse=True)
def forgetful():
    finder._known.clear()


def program(path, version="Chromium 150.0.1.2 built on something", code=0):
    """A browser that tells its version, and keeps count of how often it was asked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\necho asked >>"{path}.asked"\necho "{version}"\nexit {code}\n')
    path.chmod(0o755)
    return str(path)


def asked(path) -> int:
    try:
        with open(f"{path}.asked") as file:
            return len(file.readlines())
    except FileNotFoundError:
        return 0


def environ(tmp_path, *directories, **more):
    return {"PATH": os.pathsep.join(map(str, directories)), "HOME": str(tmp_path / "h"), **more}


def test_the_named_one_comes_first(tmp_path):
    named = program(tmp_path / "mine", "Chromium 151.0.0.1")
    variable = program(tmp_path / "other", "Chromium 152.0.0.1")
    installed = program(tmp_path / "bin" / "google-chrome", "Google Chrome 153.0.0.1")
    env = environ(tmp_path, tmp_path / "bin", TWEAKIO_BROWSER=variable)
    assert finder.find(named, environ=env)[:2] == (named, "151.0.0.1")
    assert finder.find(environ=env)[:2] == (variable, "152.0.0.1")
    del env["TWEAKIO_BROWSER"]
    assert finder.find(environ=env)[:2] == (installed, "153.0.0.1")


def test_a_name_is_looked_up_on_the_path(tmp_path):
    path = program(tmp_path / "bin" / "brave")
    assert finder.find("brave", environ=environ(tmp_path, tmp_path / "bin")).path == path


def test_chrome_is_preferred_to_chromium_and_edge(tmp_path):
    program(tmp_path / "bin" / "microsoft-edge")
    program(tmp_path / "bin" / "chromium")
    chrome = program(tmp_path / "bin" / "google-chrome-stable")
    assert finder.find(environ=environ(tmp_path, tmp_path / "bin")).path == chrome


def test_one_that_does_not_answer_is_passed_over(tmp_path, monkeypatch):
    broken = program(tmp_path / "bin" / "chromium", "use the snap", code=1)
    good = program(tmp_path / "bin" / "microsoft-edge", "Microsoft Edge 150.0.9.9")
    monkeypatch.setattr(finder, "_NAMES", ("chromium", "microsoft-edge"))
    found = finder.find(environ=environ(tmp_path, tmp_path / "bin"))
    assert found == (good, "150.0.9.9", (f"{broken} (does not tell its version)",))


def test_playwrights_own_comes_last_and_the_newest_of_them(tmp_path, monkeypatch):
    monkeypatch.setattr(finder, "installed", lambda env, _: finder._playwrights(env["PW"]))
    program(tmp_path / "pw" / "chromium-900" / "chrome-linux" / "chrome")
    new = program(tmp_path / "pw" / "chromium-1100" / "chrome-linux64" / "chrome")
    program(tmp_path / "pw" / "chromium_headless_shell-1200" / "chrome-linux" / "headless_shell")
    assert finder.find(environ={"PW": str(tmp_path / "pw")}).path == new


def test_none_at_all_says_what_was_tried_and_how_to_install_one(tmp_path, monkeypatch):
    monkeypatch.setattr(finder.os.path, "isfile", lambda path: False)
    with pytest.raises(BrowserNotFoundError) as caught:
        finder.find(environ=environ(tmp_path))
    message = caught.value.message
    for name in ("google-chrome", "chromium", "microsoft-edge", "/opt/google", "ms-playwright"):
        assert name in message
    assert "install" in caught.value.hint
    assert caught.value.exit_code == 25


@pytest.mark.parametrize("variable", [False, True])
def test_a_named_one_that_is_none_is_an_error(tmp_path, variable):
    env = environ(tmp_path)
    text = program(tmp_path / "editor", "an editor")
    for name in (str(tmp_path / "nothing"), text):
        with pytest.raises(BrowserNotFoundError) as caught:
            if variable:
                finder.find(environ={**env, "TWEAKIO_BROWSER": name})
            else:
                finder.find(name, environ=env)
        assert name in caught.value.message
        assert ("TWEAKIO_BROWSER" in caught.value.message) == variable


def test_places_on_windows():
    env = {"PROGRAMFILES": r"C:\P", "LOCALAPPDATA": r"C:\U\L", "USERPROFILE": r"C:\U"}
    found = list(finder.installed(env, "win32"))
    assert found[:2] == [
        r"C:\P\Google\Chrome\Application\chrome.exe",
        r"C:\U\L\Google\Chrome\Application\chrome.exe",
    ]
    assert r"C:\P\Microsoft\Edge\Application\msedge.exe" in found
    assert found[-1] == r"C:\U\L\ms-playwright (Playwright's own)"


def test_places_on_macos():
    found = list(finder.installed({"HOME": "/Users/a"}, "darwin"))
    assert found[0] == "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
    assert "/Users/a/Applications/Chromium.app/Contents/MacOS/Chromium" in found
    assert found[-1] == "/Users/a/Library/Caches/ms-playwright (Playwright's own)"


# Versions


def test_a_browser_is_asked_once_until_it_changes(tmp_path):
    cache = tmp_path / "cache" / "browsers"
    path = program(tmp_path / "chrome", "Chromium 150.0.0.1")
    for _ in range(2):
        assert finder.version_of(path, cache=cache) == "150.0.0.1"
        finder._known.clear()  # another process
    assert asked(path) == 1
    program(tmp_path / "new", "Chromium 151.0.0.1")
    os.replace(tmp_path / "new", path)
    assert finder.version_of(path, cache=cache) == "151.0.0.1"


def test_a_version_can_be_forgotten(tmp_path):
    cache = tmp_path / "browsers"
    path = program(tmp_path / "chrome")
    finder.version_of(path, cache=cache)
    finder.forget(path, cache)
    finder.version_of(path, cache=cache)
    assert asked(path) == 2


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"x": 1}'])
def test_a_damaged_cache_is_no_error(tmp_path, content):
    cache = tmp_path / "browsers"
    cache.write_bytes(content)
    path = program(tmp_path / "chrome")
    assert finder.version_of(path, cache=cache) == "150.0.1.2"
    assert "150.0.1.2" in json.loads(cache.read_bytes()).values()


def test_what_snap_starts_is_asked_every_time(tmp_path):
    path = program(tmp_path / "snap")
    for _ in range(2):
        finder.version_of(path, cache=tmp_path / "browsers")
    assert asked(path) == 2


def test_on_windows_no_browser_is_run_for_its_version(tmp_path):
    path = program(tmp_path / "Application" / "chrome.exe")
    for name in ("99.0.1.2", "150.0.10.3", "150.0.9.4", "Dictionaries"):
        (tmp_path / "Application" / name).mkdir()
    assert finder.version_of(path, platform="win32") == "150.0.10.3"
    assert asked(path) == 0


def test_on_macos_the_bundle_tells(tmp_path):
    path = program(tmp_path / "C.app" / "Contents" / "MacOS" / "C")
    plist = tmp_path / "C.app" / "Contents" / "Info.plist"
    plist.write_bytes(plistlib.dumps({"CFBundleShortVersionString": "150.0.7.7"}))
    assert finder.version_of(path, platform="darwin") == "150.0.7.7"
    assert asked(path) == 0
    plist.write_bytes(b"damaged")
    finder._known.clear()
    assert finder.version_of(path, platform="darwin") == "150.0.1.2"
