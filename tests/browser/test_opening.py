"""Opening and closing a profile's browser, in the real one."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import psutil
import pytest

from tests.browsers import (
    ARGUMENTS,
    ROOT,
    Opener,
    chromium_path,
    environment,
    needs_browser,
    wait_until,
)
from tweakio import (
    BrowserError,
    BrowserLockedError,
    BrowserManager,
    InvalidInputError,
    LockTimeoutError,
    ProfileCorruptedError,
    ProfileManager,
    ProfileNotFoundError,
    SessionError,
    StorageError,
    SyncBrowserManager,
    directories,
)
from tweakio.browser import keeper, record
from tweakio.browser.state import BrowserState
from tweakio.store.checkout import Checkout
from tweakio.store.processes import process_start

pytestmark = needs_browser


def opened(manager, profile="a", kind=BrowserManager, **options):
    options.setdefault("executable", chromium_path())
    return kind(profile, manager=manager, args=ARGUMENTS, **options)


def descriptors(pid):
    found = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.add(os.readlink(f"/proc/{pid}/fd/{name}"))
        except OSError:
            continue
    return found


def test_a_profile_is_opened_used_and_closed(manager, origin):
    manager.create_profile("a", "custom")
    paths = manager.layout.profile("a")
    before = manager.history()

    async def use():
        browser = opened(manager)
        assert browser.profile.id == "a"
        assert browser.browser is None
        async with browser as context:
            # Asked for again, it is the same one.
            assert await browser.open() is context
            assert await browser.getInstance() is context
            assert browser.browser is context
            page = await browser.getPage()
            assert page is await browser.getPage()
            await page.goto(f"{origin}/")
            assert await page.title() == "page"
            assert (await browser.getPage()) is not page

            kept = record.read(paths).running
            pid = browser._keeper.process.pid
            assert (kept.pid, kept.start) == (pid, process_start(pid))
            assert kept.engine == "chromium"
            assert kept.version in subprocess.check_output(
                [chromium_path(), "--version"], text=True
            )
            state = manager.browser_status("a").state
            assert state == BrowserState("open", pid, kept.host, os.getpid())
            # The lock is open in the browser itself, and nothing of the launcher is left in it.
            if sys.platform.startswith("linux"):
                assert str(paths.lock) in descriptors(pid)
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    arguments = file.read().split(b"\0")
                assert f"--user-data-dir={paths.browser_profile}".encode() in arguments
                assert not any(b"_exec.py" in argument for argument in arguments)
            with ProfileManager(manager.home) as another:
                assert another.get_profile("a").in_use
                with pytest.raises(LockTimeoutError, match=f"process {os.getpid()}"):
                    await opened(another, timeout=0).open()
        assert process_start(pid) is None
        assert browser.browser is None
        await browser.close()
        return pid

    pid = asyncio.run(use())
    assert record.read(paths) == record.BrowserRecord()
    assert manager.browser_status("a").state == BrowserState("closed")
    assert not manager.locks.is_locked("a")
    assert not os.path.lexists(paths.browser_profile / "SingletonLock")
    assert os.listdir(paths.cache)
    assert manager.history() == before, "opening is no change"
    assert process_start(pid) is None


def test_without_asyncio(manager, origin):
    manager.create_profile("a", "custom")
    manager.create_profile("b", "custom")
    first = opened(manager, kind=SyncBrowserManager)
    with first as context:
        page = first.getPage()
        page.goto(f"{origin}/")
        assert page.title() == "page"
        assert first.getInstance() is context is first.browser
        # A second one in the same thread, and one that cannot have the profile.
        with opened(manager, "b", SyncBrowserManager) as other:
            assert other.pages
        with pytest.raises(LockTimeoutError, match="in this process"):
            opened(manager, kind=SyncBrowserManager, timeout=0).open()
        assert page.title() == "page"
    first.CloseBrowser()
    for name in ("a", "b"):
        status = manager.browser_status(name)
        assert (status.state.kind, status.record.unclean_exits) == ("closed", 0)


def test_data_of_a_newer_browser_are_named(manager, caplog):
    """It opens them without a word. Nor does a bubble cover the page after a crash."""
    manager.create_profile("a", "custom")
    data = manager.layout.profile("a").browser_profile
    for version, named in (("999.0.1.2\n", True), ("1.0.0.0", False), ("nonsense", False)):
        caplog.clear()
        (data / "Last Version").write_text(version)
        with opened(manager, kind=SyncBrowserManager):
            [browser] = [
                process for process in psutil.process_iter(["cmdline"])
                if f"--user-data-dir={data}" in (process.info["cmdline"] or ())
                and not any(item.startswith("--type=") for item in process.info["cmdline"])
            ]  # fmt: skip
            assert "--hide-crash-restore-bubble" in browser.info["cmdline"]
        assert ("last used by version 999.0.1.2" in caplog.text) == named


def test_browser_data_that_git_removed_are_missed(manager, caplog):
    manager.create_profile("a", "custom")
    data = manager.layout.profile("a").browser_profile
    shutil.rmtree(data / ".git")  # as a profile of an older tweakio has none
    clean = ["git", "-C", manager.layout.profiles, "clean", "-qdx"]
    with SyncBrowserManager("a", manager=manager, executable=chromium_path()):
        pass
    subprocess.run([*clean, "-f"], check=True)
    assert (data / "Local State").exists()
    assert manager.lost_data(manager.list_profiles()) == []
    subprocess.run([*clean, "-ff"], check=True)
    browser = SyncBrowserManager("a", manager=manager, executable=chromium_path())
    with pytest.raises(ProfileCorruptedError, match="are gone"):
        browser.open()
    assert manager.lost_data(manager.list_profiles()) == ["a"]
    browser.start_anew()
    with browser:
        assert "it starts anew" in caplog.text
    assert manager.lost_data(manager.list_profiles()) == []


def test_a_loop_is_no_place_for_the_synchronous_one(manager):
    manager.create_profile("a", "custom")

    async def attempt():
        opened(manager, kind=SyncBrowserManager).open()

    with pytest.raises(InvalidInputError, match="event loop"):
        asyncio.run(attempt())


def test_the_active_profile_is_the_default(manager):
    manager.create_profile("a", "custom")
    with pytest.raises(ProfileNotFoundError, match="no profile is active"):
        _ = BrowserManager(manager=manager).profile
    manager.create_profile("default", "whatsapp")
    assert BrowserManager(manager=manager).profile.id == "default"
    manager.select_profile("a")
    assert BrowserManager(manager=manager).profile.id == "a"
    with ProfileManager(manager.home) as holder:
        holder.activate_profile("a")
        assert BrowserManager(manager=holder).profile.id == "a"
        # What another holds is its own.
        assert BrowserManager(manager=manager).profile.id == "default"
    assert BrowserManager(manager.get_profile("a"), home=manager.home).profile.id == "a"


def test_a_machine_without_profiles_gets_the_single_account(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    browser = BrowserManager(home=home)
    assert (browser.profile.id, browser.profile.platform) == ("default", "whatsapp")
    browser.manager.close()


def test_what_the_sdk_had_besides_warns(manager):
    with pytest.warns(DeprecationWarning, match="cache_dir_path has no effect.*home=") as caught:
        BrowserManager(manager=manager, cache_dir_path="x", headless=True, locale="en-US")
    assert caught[0].filename == __file__
    with pytest.raises(TypeError, match="adons"):
        BrowserManager(manager=manager, adons=[])
    with pytest.raises(InvalidInputError):
        BrowserManager(["an addon"], manager=manager)
    with pytest.raises(InvalidInputError):
        BrowserManager(manager=manager, home="x")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        BrowserManager(manager=manager, headless=False, locale="de-DE")


def test_a_corrupted_profile_is_not_opened(manager):
    manager.create_profile("a", "custom")
    manager.layout.profile("a").metadata.write_text("{")
    with pytest.raises(ProfileCorruptedError):
        asyncio.run(opened(manager).open())
    assert not manager.locks.is_locked("a")


def test_what_is_being_deleted_is_not_opened(manager, monkeypatch):
    """The deletion has looked at the lock, and not yet moved the directory."""
    manager.create_profile("a", "custom")
    raised = []
    with ProfileManager(manager.home) as other:
        browser = opened(other, kind=SyncBrowserManager)

        def open_it():
            try:
                with browser:
                    pass
            except ProfileNotFoundError as error:
                raised.append(error)

        thread = threading.Thread(target=open_it)
        take_away = directories.take_away

        def late(*arguments, **options):
            thread.start()
            wait_until(lambda: other.locks.has_browser("a"))
            take_away(*arguments, **options)

        monkeypatch.setattr(directories, "take_away", late)
        manager.delete_profile("a")
        thread.join(60)
        assert len(raised) == 1
        assert not other.locks.is_locked("a")
    assert not manager.layout.profile("a").directory.exists()


@pytest.mark.parametrize("fails", [False, True], ids=["deleted", "stays"])
def test_a_deletion_that_has_not_taken_place_is_waited_for(manager, fails, monkeypatch):
    """The directory is away, and the branch has not moved yet."""
    manager.create_profile("a", "custom")
    moved, missed = threading.Event(), threading.Event()
    prepare = Checkout.prepare
    seen = []

    def stop(*arguments):
        moved.set()
        assert missed.wait(30)
        if fails:
            raise OSError(errno.ENOSPC, "no space left")
        return prepare(*arguments)

    def delete():
        with contextlib.suppress(StorageError):
            manager.delete_profile("a")

    with ProfileManager(manager.home) as other:
        acquire = other.locks.acquire_for_browser
        deleting = threading.Thread(target=delete)

        def late(*arguments, **options):
            if not moved.is_set():
                deleting.start()
                assert moved.wait(30)
            try:
                return acquire(*arguments, **options)
            except ProfileNotFoundError:
                missed.set()
                raise

        monkeypatch.setattr(Checkout, "prepare", stop)
        monkeypatch.setattr(other.locks, "acquire_for_browser", late)
        try:
            with opened(other, kind=SyncBrowserManager):
                seen.append("opened")
        except ProfileNotFoundError:
            seen.append(other.history(limit=1)[0].operation)
        deleting.join(60)
    assert seen == ["opened" if fails else "delete"]


def test_data_of_another_engine_are_not_mixed(manager):
    manager.create_profile("a", "whatsapp")
    (manager.layout.profile("a").browser_profile / "prefs.js").touch()
    with pytest.raises(BrowserError, match="camoufox's, not chromium's") as caught:
        asyncio.run(opened(manager, engine="chromium").open())
    assert "--mode hard" in caught.value.hint
    assert not manager.locks.is_locked("a")


def test_a_program_that_is_no_browser_is_a_short_error(manager, tmp_path):
    manager.create_profile("a", "custom")
    program = tmp_path / "browser"
    program.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo Chromium 150.0.0.1 && exit\nexit 3\n'
    )
    program.chmod(0o755)
    with pytest.raises(BrowserError) as caught:
        asyncio.run(opened(manager, executable=program).open())
    assert caught.value.exit_code == 27
    assert "\n" not in caught.value.message
    assert "--user-data-dir" not in caught.value.message
    assert not manager.locks.is_locked("a")
    assert record.read(manager.layout.profile("a")).running is None


@pytest.mark.skipif(bool(os.environ.get("DISPLAY")), reason="there is a display")
def test_a_window_needs_a_display(manager):
    manager.create_profile("a", "custom")
    with pytest.raises(BrowserError, match="no display") as caught:
        asyncio.run(opened(manager, headless=False).open())
    assert "--headed" in caught.value.hint


def test_the_lock_of_a_manager_is_used_and_outlives_it(manager):
    manager.create_profile("a", "custom")
    manager.create_profile("b", "custom")

    async def use():
        manager.activate_profile("a")
        async with opened(manager):
            manager.activate_profile("b")
            assert manager.locks.held == {"b"}
            with ProfileManager(manager.home) as another:
                assert another.get_profile("a").in_use
                with pytest.raises(LockTimeoutError):
                    another.activate_profile("a", timeout=0)
        assert not manager.locks.is_locked("a")

    asyncio.run(use())


def test_locks_that_a_browser_left(manager):
    """A real one has to start over them: its own lock of a dead process, and another host's."""
    manager.create_profile("a", "custom")
    lock = manager.layout.profile("a").browser_profile / "SingletonLock"
    child = subprocess.Popen(["true"])
    child.wait()

    async def use():
        lock.symlink_to(f"{socket.gethostname()}-{child.pid}")
        async with opened(manager) as context:
            assert context.pages
            assert os.readlink(lock).endswith(f"-{opened_pid(manager)}")
        lock.symlink_to("container-7-4711")
        with pytest.raises(BrowserLockedError, match="4711 on host 'container-7'") as caught:
            await opened(manager).open()
        assert caught.value.exit_code == 26
        assert manager.browser_status("a").state.kind == "other_host"
        async with opened(manager, force=True) as context:
            assert context.pages
        assert not os.path.lexists(lock)

    asyncio.run(use())


def opened_pid(manager):
    return record.read(manager.layout.profile("a")).running.pid


def test_where_a_lock_cannot_be_handed_over(manager, monkeypatch):
    """As on Windows: the browser itself is started, and found by its arguments."""
    monkeypatch.setattr(keeper, "can_hand_over", lambda: False)
    manager.create_profile("a", "custom")
    paths = manager.layout.profile("a")

    async def use():
        async with opened(manager):
            pid = opened_pid(manager)
            assert process_start(pid) is not None
            assert manager.browser_status("a").state.pid == pid
            if sys.platform.startswith("linux"):
                assert str(paths.lock) not in descriptors(pid)
        assert process_start(pid) is None

    asyncio.run(use())
    assert record.read(paths) == record.BrowserRecord()


def test_a_session_is_put_into_a_browser_that_was_never_used(manager, origin):
    manager.create_profile("a", "telegram", platform_config={"url": f"{origin}/"})
    paths = manager.layout.profile("a")

    def session(who):
        kept = {"origin": origin, "localStorage": [{"name": "who", "value": who}]}
        paths.session.write_text(json.dumps({"cookies": [], "origins": [kept]}))

    async def read():
        async with opened(manager) as context:
            page = context.pages[0]
            await page.goto(f"{origin}/")
            return await page.evaluate("localStorage.getItem('who')")

    session("first")
    with opened(manager, kind=SyncBrowserManager) as context:
        page = context.pages[0]
        page.goto(f"{origin}/")
        assert page.evaluate("localStorage.getItem('who')") == "first"
    assert record.read(paths).session_to_import is False
    session("second")
    assert asyncio.run(read()) == "first", "it is used by now"


def test_a_session_that_cannot_be_put_there_is_tried_again(manager, monkeypatch):
    manager.create_profile("a", "telegram")
    paths = manager.layout.profile("a")
    paths.session.write_text('{"cookies": 5, "origins": [{"nonsense": 1}]}')
    with pytest.raises(SessionError):
        asyncio.run(opened(manager).open())
    assert not manager.locks.is_locked("a")
    kept = record.read(paths)
    assert (kept.session_to_import, kept.running) == (True, None)


def test_cancelled_while_it_opens_nothing_is_left(manager):
    manager.create_profile("a", "custom")
    paths = manager.layout.profile("a")

    async def use():
        browser = opened(manager)
        opening = asyncio.create_task(browser.open())
        # The browser's process is there, and Playwright still waits for it.
        while record.read(paths).running is None:
            await asyncio.sleep(0.005)
        pid = record.read(paths).running.pid
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        assert process_start(pid) is None
        async with browser as context:
            assert context.pages

    asyncio.run(use())
    assert not manager.locks.is_locked("a")


def test_a_browser_that_was_closed_from_outside_is_opened_again(manager):
    manager.create_profile("a", "custom")
    paths = manager.layout.profile("a")

    async def use():
        browser = opened(manager)
        first = await browser.open()
        gone = asyncio.Event()
        first.on("close", lambda *_: gone.set())
        session = await first.new_cdp_session(first.pages[0])
        await session.send("Browser.close")
        await asyncio.wait_for(gone.wait(), 60)
        second = await browser.open()
        assert second is not first
        assert record.read(paths).unclean_exits == 0, "it ended in order"

        gone.clear()
        second.on("close", lambda *_: gone.set())
        os.kill(browser._keeper.process.pid, signal.SIGKILL)
        await asyncio.wait_for(gone.wait(), 60)
        await browser.close()
        kept = record.read(paths)
        assert (kept.unclean_exits, kept.running) == (1, None)
        assert kept.last_unclean_exit is not None
        assert not manager.locks.is_locked("a")

    asyncio.run(use())


def status(cli_home, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "tweakio", "--home", str(cli_home), "profile", "status", "a",
         *arguments],
        capture_output=True, text=True, check=True, env=environment(),
    ).stdout  # fmt: skip


def test_the_status_shows_it(manager):
    manager.create_profile("a", "custom")
    manager.close()
    value = json.loads(status(manager.home, "--json"))
    assert value["browser_state"] == "closed"
    assert (value["unclean_exits"], value["login"]) == (0, None)
    browser = opened(manager, kind=SyncBrowserManager)
    with browser:
        pid = opened_pid(manager)
        value = json.loads(status(manager.home, "--json"))
        assert (value["browser_state"], value["browser_pid"]) == ("open", pid)
        assert f"browser_state\topen, process {pid}\n" in status(manager.home)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: process_start(pid) is None)
    value = json.loads(status(manager.home, "--json"))
    assert (value["browser_state"], value["unclean_exits"]) == ("closed", 1)
    assert value["last_unclean_exit"] is not None


@pytest.mark.parametrize(
    ("kind", "number"),
    [("--sync", signal.SIGINT), ("--hold", signal.SIGINT), ("--hold", signal.SIGTERM)],
)
def test_a_signal_closes_in_order(manager, kind, number):
    """Sent to the program and to Playwright's driver, as a terminal does."""
    manager.create_profile("a", "custom")
    manager.close()
    with Opener(manager.home, "a", kind, start_new_session=True) as program:
        program.opened()
        os.killpg(program.process.pid, number)
        code = program.process.wait(60)
    assert code in ((-number, 1, 130) if number == signal.SIGINT else (128 + number,))
    assert process_start(program.browser) is None
    kept = record.read(manager.layout.profile("a"))
    assert (kept.running, kept.unclean_exits) == (None, 0)
    assert not manager.locks.is_locked("a")


FORGETFUL = """
import asyncio, sys
from tweakio import BrowserManager
async def main():
    browser = BrowserManager("a", home=sys.argv[1])
    await browser.getInstance()
    print(browser._keeper.process.pid, flush=True)
asyncio.run(main())
"""


def test_a_program_that_forgets_to_close(manager):
    manager.create_profile("a", "custom")
    manager.close()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORGETFUL, str(manager.home)],
        capture_output=True, text=True, env=environment(), timeout=60, check=True,
    )  # fmt: skip
    assert process_start(int(done.stdout)) is None
    kept = record.read(manager.layout.profile("a"))
    assert (kept.running, kept.unclean_exits) == (None, 0)


def test_the_example_of_the_documentation_runs(manager):
    manager.create_profile("sales", "whatsapp")
    manager.close()
    text = (ROOT / "docs" / "browsers.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```py\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True, text=True, check=False,
        env=environment(TWEAKIO_HOME=str(manager.home)),
    )  # fmt: skip
    assert (done.stdout, done.stderr, done.returncode) == ("about:blank\n", "", 0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc tells the environment")
@pytest.mark.parametrize("kind", ["async", "sync"])
def test_no_secret_of_the_environment_reaches_a_browser_or_its_driver(manager, kind, tmp_path):
    told = tmp_path / "probe"
    wrapper = tmp_path / "browser"
    wrapper.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && env >> {told}\nexec {chromium_path()} "$@"\n'
    )
    wrapper.chmod(0o755)
    manager.create_profile("a", "whatsapp")
    manager.close()
    secrets = {
        "TWEAKIO_IDENTITY": "AGE-SECRET-KEY-1X",
        "AWS_SECRET_ACCESS_KEY": "swordfish",
        "VAULT_TOKEN": "swordfish",
        "Some_Password": "swordfish",
    }
    more = {
        "TWEAKIO_BROWSER": str(wrapper),
        "TWEAKIO_BROWSER_ENV": "SHOWN, OTHER_*,*,TWEAKIO_IDENTITY",
        "SHOWN": "1",
        "OTHER_ONE": "2",
        "LC_TIME": "C",
    }
    options = ["--sync"] if kind == "sync" else []
    env = {**environment(), **secrets, **more}
    with Opener(manager.home, "a", *options, env=env) as opener:
        opener.opened()
        pids = [opener.browser, opener.driver]
        pids += [child.pid for child in psutil.Process(opener.browser).children(recursive=True)]
        for pid in pids:
            try:
                found = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):
                continue  # a helper that has ended
            names = {one.partition(b"=")[0].decode() for one in found}
            assert not names & {*secrets}, pid
            if pid == opener.browser:
                assert {"SHOWN", "OTHER_ONE", "PATH", "HOME", "LC_TIME"} <= names
        assert opener.end() == 0
    assert "PATH=" in told.read_text()
    assert "swordfish" not in told.read_text()
    assert "AGE-SECRET-KEY" not in told.read_text()
