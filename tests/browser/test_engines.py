"""One contract for all engines. Camoufox and both browsers are stand-ins here: programs with the
arguments that the real ones have. The real Chromium is in the other tests."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import types
from pathlib import Path

import pytest

from tests.browsers import wait_until
from tweakio import LockTimeoutError
from tweakio.browser import engines, finder, record
from tweakio.browser.engines import Engine, Launch
from tweakio.browser.engines.camoufox import Camoufox
from tweakio.browser.engines.chromium import Chromium
from tweakio.browser.finder import Found
from tweakio.browser.keeper import Keeper
from tweakio.browser.locks import BrowserLock
from tweakio.browser.pausing import blocking
from tweakio.errors import BrowserNotFoundError, InvalidInputError, MissingExtraError
from tweakio.platforms.protocols import Presentation
from tweakio.store.locks import ProfileLockManager

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links and processes")

SLEEP = "import time; print(1, flush=True); time.sleep(1000)"
PRESENTATION = Presentation(
    "Mozilla/5.0 (X11; Linux x86_64) Test", ("de-DE", "de"), "Europe/Berlin", (1000, 700), "dark"
)


class Stage:
    """What an engine's stand-ins look like."""

    def __init__(self, engine, kind, lock, own_host, arguments, helper, data, product):
        self.engine, self.kind, self.lock, self.own_host = engine, kind, lock, own_host
        self.arguments, self.helper, self.data, self.product = arguments, helper, data, product

    def link(self, user_data, host, pid):
        user_data.mkdir(exist_ok=True)
        separator = "-" if self.kind == "chromium" else ":+"
        os.symlink(f"{host}{separator}{pid}", user_data / self.lock)

    def run(self, user_data, *more):
        return subprocess.Popen(
            [sys.executable, "-c", SLEEP, *self.arguments(user_data), *more],
            stdout=subprocess.PIPE,
        )


STAGES = [
    Stage(
        Chromium(), "chromium", "SingletonLock", socket.gethostname(),
        lambda path: [f"--user-data-dir={path}"], "--type=renderer", "Local State", "Chromium",
    ),
    Stage(
        Camoufox(), "firefox", "lock", "127.0.1.1",
        lambda path: ["-no-remote", "-profile", str(path)], "-contentproc", "prefs.js",
        "Mozilla Firefox",
    ),
]  # fmt: skip


@pytest.fixture(params=STAGES, ids=lambda stage: stage.engine.name)
def stage(request, tmp_path, monkeypatch):
    found = request.param
    finder._known.clear()
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\necho "{found.product} 150.0.1"\n')
    program.chmod(0o755)
    found.program = str(program)
    package = types.ModuleType("camoufox")
    pkgman, utils = types.ModuleType("camoufox.pkgman"), types.ModuleType("camoufox.utils")
    pkgman.launch_path = lambda: str(program)
    pkgman.camoufox_path = lambda download_if_missing: download_if_missing and 1 / 0
    pkgman.installed_verstr = lambda: "150.0.1"
    utils.launch_options = lambda **options: {
        "made up": random.random(),
        "executable_path": str(program),
        "firefox_user_prefs": {"a": 1},
        **{name: options[name] for name in ("args", "env", "proxy", "headless")},
        "given": options,
    }
    for name, module in (("", package), (".pkgman", pkgman), (".utils", utils)):
        monkeypatch.setitem(sys.modules, f"camoufox{name}", module)
    return found


@pytest.fixture
def user_data(tmp_path):
    path = tmp_path / "browser_profile"
    path.mkdir()
    return path


def test_it_is_an_engine(stage):
    assert isinstance(stage.engine, Engine)
    assert engines.find_engine(stage.engine.name).name == stage.engine.name
    assert engines.find_engine(stage.engine) is stage.engine
    assert stage.engine.name in [engine.name for engine in engines.every()]


def test_the_named_browser_is_found(stage):
    found = stage.engine.find(stage.program)
    assert found[:2] == (stage.program, "150.0.1")
    version = stage.engine.version(found)
    assert (version.engine, version.major) == (stage.kind, 150)


def test_one_that_is_not_there_is_an_error(stage, tmp_path):
    with pytest.raises(BrowserNotFoundError) as caught:
        stage.engine.find(tmp_path / "nothing")
    assert "nothing" in caught.value.message
    assert caught.value.hint


def test_whose_data_they_are(stage, user_data):
    assert not stage.engine.owns(user_data)
    assert engines.of_data(user_data) is None
    (user_data / "tweakio.json").touch()
    assert engines.of_data(user_data) is None
    (user_data / stage.data).touch()
    assert stage.engine.owns(user_data)
    assert engines.of_data(user_data).name == stage.engine.name
    assert stage.engine.version_of_data(user_data) is None


def test_no_lock(stage, user_data, tmp_path):
    assert stage.engine.lock_of(user_data) is None
    assert stage.engine.lock_of(tmp_path / "nothing") is None


def test_a_lock_of_this_machine(stage, user_data):
    stage.link(user_data, stage.own_host, 4711)
    assert stage.engine.lock_of(user_data) == BrowserLock(stage.own_host, 4711, here=True)


def test_a_lock_of_another_machine(stage, user_data):
    host = "container-7" if stage.kind == "chromium" else "198.51.100.7"
    stage.link(user_data, host, 4711)
    assert stage.engine.lock_of(user_data) == BrowserLock(host, 4711, here=False)


@pytest.mark.parametrize("content", ["nonsense", "", "file"])
def test_a_lock_that_cannot_be_read(stage, user_data, content):
    path = user_data / stage.lock
    if content == "file":
        path.write_text("x")
    else:
        os.symlink(content or "-", path)
    assert stage.engine.lock_of(user_data) == BrowserLock("", 0, here=False)


def test_a_cleared_lock_is_gone_and_nothing_else(stage, user_data):
    stage.link(user_data, stage.own_host, 4711)
    (user_data / stage.data).touch()
    stage.engine.clear_lock(user_data)
    assert os.listdir(user_data) == [stage.data]
    stage.engine.clear_lock(user_data)


def test_on_windows_the_system_keeps_the_locks(stage, user_data):
    stage.link(user_data, stage.own_host, 4711)
    assert stage.engine.lock_of(user_data, platform="win32") is None


def test_processes_of_a_directory(stage, user_data, tmp_path):
    other = tmp_path / "browser_profile2"
    link = tmp_path / "link"
    link.symlink_to(tmp_path, target_is_directory=True)
    children = [
        stage.run(user_data),
        stage.run(other),
        stage.run(user_data, stage.helper),
        stage.run(link / "browser_profile"),
    ]
    try:
        for child in children:
            child.stdout.readline()
        found = {process.pid for process in stage.engine.processes_of(user_data)}
        assert found == {children[0].pid, children[3].pid}
        helpers = {process.pid for process in stage.engine.helpers_of(user_data)}
        assert helpers == ({children[2].pid} if stage.kind == "chromium" else set())
    finally:
        for child in children:
            child.kill()
            child.wait()
            child.stdout.close()
    wait_until(lambda: not stage.engine.processes_of(user_data))


class Playwright:
    """Notes what it is asked for."""

    def __init__(self):
        self.chromium = self.firefox = self

    def launch_persistent_context(self, user_data, **options):
        self.user_data, self.options = user_data, options
        return "the context"


def launched(stage, user_data, playwright=None, **changes):
    playwright = playwright or Playwright()
    launch = Launch(
        program="/tmp/launcher",
        user_data=user_data,
        cache=user_data.parent / "cache",
        fingerprint={"generator": "seeded", "seed": "0" * 32},
        presentation=PRESENTATION,
        settings={},
        headless=True,
        arguments=("--mine",),
        environment={"PATH": "/bin", "LANG": "C"},
        timeout=12.5,
    )
    assert stage.engine.launch(playwright, launch._replace(**changes)) == "the context"
    assert playwright.user_data == str(user_data)
    return playwright.options


def test_how_it_is_launched(stage, user_data):
    options = launched(stage, user_data)
    assert options["executable_path"] == "/tmp/launcher"
    assert options["headless"] is True
    assert options["timeout"] == 12_500
    assert "--mine" in options["args"]
    assert options["env"]["PATH"] == "/bin"
    assert not any(options[f"handle_sig{name}"] for name in ("int", "term", "hup"))
    assert options.get("proxy") is None
    assert launched(stage, user_data, headless=False)["headless"] is False


def test_a_proxy_is_passed_on_beside_the_command_line(stage, user_data, monkeypatch):
    monkeypatch.setenv("PROXY_SECRET", "hunter2")
    settings = {"proxy": "http://user@127.0.0.1:8080", "proxy_password": "env:PROXY_SECRET"}
    options = launched(stage, user_data, settings=settings)
    assert options["proxy"] == {
        "server": "http://127.0.0.1:8080", "username": "user", "password": "hunter2",
    }  # fmt: skip
    assert "hunter2" not in " ".join(options["args"])


class Starting(Playwright):
    """Starts what it is asked for, as Playwright does: with nothing inherited."""

    def launch_persistent_context(self, user_data, **options):
        super().launch_persistent_context(user_data, **options)
        arguments = self.stage.arguments(Path(user_data))
        self.child = subprocess.Popen([options["executable_path"], *arguments])
        return "the context"


def test_from_the_lock_to_the_end(stage, manager):
    """The whole way, with a program that does as little as a browser can."""
    manager.create_profile("a", "custom")
    paths = manager.layout.profile("a")
    program = paths.directory.parent.parent / "browser"
    program.write_text(f"#!{sys.executable}\nimport time\ntime.sleep(1000)\n")
    program.chmod(0o755)
    locks = ProfileLockManager(manager.layout)
    keeper = Keeper("a", manager.layout, locks, stage.engine, Found(str(program), "150.0.1"))
    stage.link(paths.browser_profile, stage.own_host, os.getpid())
    blocking(keeper.take(0, lambda: None, force=False))
    assert stage.engine.lock_of(paths.browser_profile) is None
    playwright = Starting()
    playwright.stage = stage
    with keeper.starting() as launcher:
        launched(stage, paths.browser_profile, playwright, program=launcher)
        wait_until(lambda: stage.engine.processes_of(paths.browser_profile))
        wait_until(lambda: keeper.process)
    try:
        wait_until(lambda: str(paths.lock) in opened_by(playwright.child.pid))
        kept = record.read(paths).running
        assert (kept.pid, kept.engine) == (playwright.child.pid, stage.engine.name)
        with pytest.raises(LockTimeoutError, match=f"process {os.getpid()}"):
            manager.locks.acquire("a", 0)
        assert manager.browser_status("a").state.kind == "open"
        blocking(keeper.finish(by_itself=0))
        assert playwright.child.wait() == -signal.SIGTERM
    finally:
        playwright.child.kill()
        playwright.child.wait()
    assert record.read(paths).running is None
    assert not manager.locks.is_locked("a")


def opened_by(pid):
    found = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            found.add(os.readlink(f"/proc/{pid}/fd/{name}"))
    return found


def test_chromium_has_a_sandbox_unless_it_is_roots(user_data, monkeypatch):
    for user, sandbox in ((0, False), (1000, True)):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        assert launched(STAGES[0], user_data)["chromium_sandbox"] is sandbox


def test_chromium_presents_itself_and_keeps_its_cache_apart(user_data):
    options = launched(STAGES[0], user_data)
    assert f"--disk-cache-dir={user_data.parent / 'cache'}" in options["args"]
    assert f"--user-agent={PRESENTATION.user_agent}" in options["args"]
    assert options["env"]["TZ"] == "Europe/Berlin"


@pytest.mark.parametrize("stage", STAGES[1:], indirect=True)
def test_camoufox_presents_itself(stage, user_data):
    options = launched(stage, user_data)
    assert options["given"]["locale"] == ["de-DE", "de"]
    assert options["given"]["window"] == (1000, 700)
    assert "fingerprint" not in options["given"]
    assert launched(stage, user_data)["made up"] == options["made up"]
    other = launched(stage, user_data, fingerprint={"seed": "1"})
    assert other["made up"] != options["made up"]
    assert options["firefox_user_prefs"] == {
        "a": 1,
        "browser.cache.disk.parent_directory": str(user_data.parent / "cache"),
    }


@pytest.mark.parametrize("stage", STAGES[1:], indirect=True)
def test_camoufox_keeps_the_fingerprint_of_the_sdk(stage, user_data, monkeypatch):
    forge = types.ModuleType("browserforge.fingerprints")
    for name in ("ScreenFingerprint", "NavigatorFingerprint", "VideoCard", "Fingerprint"):
        setattr(forge, name, types.SimpleNamespace)
    monkeypatch.setitem(sys.modules, "browserforge", types.ModuleType("browserforge"))
    monkeypatch.setitem(sys.modules, "browserforge.fingerprints", forge)
    data = {"screen": {"width": 7}, "navigator": {"userAgent": "x"}, "videoCard": {"vendor": "v"}}
    kept = {"generator": "browserforge", "data": data}
    given = launched(stage, user_data, fingerprint=kept)["given"]["fingerprint"]
    assert (given.screen.width, given.navigator.userAgent) == (7, "x")
    del forge.Fingerprint
    assert "fingerprint" not in launched(stage, user_data, fingerprint=kept)["given"]


def test_versions_that_the_data_tell(user_data):
    (user_data / "Last Version").write_text("156.0.1.2\n")
    assert Chromium().version_of_data(user_data) == "156.0.1.2"
    (user_data / "compatibility.ini").write_text("[Compatibility]\nLastVersion=135.0_2025/2025\n")
    assert Camoufox().version_of_data(user_data) == "135.0"


def test_without_its_package_camoufox_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "camoufox", None)
    with pytest.raises(MissingExtraError) as caught:
        Camoufox().find()
    assert "tweakio[camoufox]" in caught.value.hint


def test_an_unknown_engine():
    with pytest.raises(InvalidInputError, match="netscape"):
        engines.find_engine("netscape")
