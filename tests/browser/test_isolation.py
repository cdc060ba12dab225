"""Profiles share nothing, many can be open, and what they hold survives what it has to."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.browsers import ARGUMENTS, ROOT, Opener, chromium_path, environment, needs_browser
from tweakio import BrowserManager

pytestmark = needs_browser

WRITE = """async name => {
    document.cookie = `who=${name}; max-age=86400`;
    localStorage.setItem("who", name);
    const database = await new Promise((done, fail) => {
        const request = indexedDB.open("who", 1);
        request.onupgradeneeded = () => request.result.createObjectStore("store");
        request.onsuccess = () => done(request.result);
        request.onerror = () => fail(request.error);
    });
    await new Promise((done, fail) => {
        const change = database.transaction("store", "readwrite", {durability: "strict"});
        change.objectStore("store").put(name, "who");
        change.oncomplete = done;
        change.onerror = () => fail(change.error);
    });
    database.close();
    await (await caches.open("who")).put("/who", new Response(name));
    await navigator.serviceWorker.register(`/${name}.js`);
    await navigator.serviceWorker.ready;
}"""
READ = """async () => {
    const names = (await indexedDB.databases()).map(database => database.name);
    const stored = names.includes("who") && await new Promise(done => {
        const request = indexedDB.open("who", 1);
        request.onsuccess = () => {
            const reading = request.result.transaction("store").objectStore("store").get("who");
            reading.onsuccess = () => { request.result.close(); done(reading.result); };
        };
    });
    const cached = await caches.match("/who");
    const workers = await navigator.serviceWorker.getRegistrations();
    return {
        cookie: document.cookie,
        local: localStorage.getItem("who"),
        indexed: stored || null,
        cached: cached ? await cached.text() : null,
        workers: workers.map(worker => new URL(worker.active.scriptURL).pathname),
    };
}"""
CREATE = """
import sys, tweakio
tweakio.ProfileManager(sys.argv[1]).create_profile("a", "custom")
"""
EMPTY = {"cookie": "", "local": None, "indexed": None, "cached": None, "workers": []}


def held(name):
    return {
        "cookie": f"who={name}",
        "local": name,
        "indexed": name,
        "cached": name,
        "workers": [f"/{name}.js"],
    }


def opened(manager, name):
    return BrowserManager(name, manager=manager, executable=chromium_path(), args=ARGUMENTS)


def test_two_profiles_on_one_origin(manager, origin):
    """Nothing is shared; and all is there again after a restart, a deletion, a hard recovery."""
    manager.create_profiles(["a", "b"], "custom")

    async def write():
        async with opened(manager, "a") as first, opened(manager, "b") as second:
            one, other = first.pages[0], second.pages[0]
            await one.goto(f"{origin}/")
            await other.goto(f"{origin}/")
            await one.evaluate(WRITE, "a")
            assert await other.evaluate(READ) == EMPTY
            await other.evaluate(WRITE, "b")
            assert await one.evaluate(READ) == held("a")

    async def read(*names):
        found = []
        for name in names:
            async with opened(manager, name) as context:
                page = context.pages[0]
                await page.goto(f"{origin}/")
                found.append(await page.evaluate(READ))
        return found

    asyncio.run(write())
    for name in ("a", "b"):
        paths = manager.layout.profile(name)
        assert not any("Cache_Data" in found for found, _, _ in os.walk(paths.browser_profile))
        assert any("Cache_Data" in found for found, _, _ in os.walk(paths.cache))

    manager.delete_profile("a")
    assert not manager.layout.profile("a").directory.exists()
    manager.undo()
    manager.recover_profile("b", mode="hard")
    assert asyncio.run(read("a", "b")) == [held("a"), EMPTY]
    manager.undo()
    assert asyncio.run(read("b")) == [held("b")]


def test_ten_at_once(manager):
    names = [f"p{number}" for number in range(10)]
    manager.create_profiles(names, "custom")

    async def use():
        browsers = [opened(manager, name) for name in names]
        try:
            contexts = await asyncio.gather(*(browser.open() for browser in browsers))
            assert len({id(context) for context in contexts}) == 10
            pids = {browser._keeper.process.pid for browser in browsers}
            assert len(pids) == 10
            titles = await asyncio.gather(
                *(context.pages[0].evaluate("document.title") for context in contexts)
            )
            assert titles == [""] * 10
            states = [manager.browser_status(name).state for name in names]
            assert {state.kind for state in states} == {"open"}
            assert {state.pid for state in states} == pids
        finally:
            await asyncio.gather(*(browser.close() for browser in browsers))

    asyncio.run(use())
    assert not any(manager.locks.is_locked(name) for name in names)
    assert {manager.browser_status(name).record.unclean_exits for name in names} == {0}


def _as(user) -> list[str] | None:
    """What runs this Python as a user; None if nothing does.

    A Python below root's home is closed to others: then with the right to read whatever there is.
    """
    me = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    read = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    for command in (me, [*me, *read]):
        try:
            # By a shell, so that the user and not setpriv opens Python.
            done = subprocess.run(
                [*command, "sh", "-c", '"$0" -c "import tweakio"', sys.executable],
                cwd=ROOT,
                capture_output=True,
            )
        except OSError:
            return None
        if done.returncode == 0:
            return command
    return None


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can be somebody else"
)
def test_as_another_user_and_without_a_display(origin):
    """With the sandbox, which root cannot have."""
    import pwd

    user = pwd.getpwnam("nobody")
    command = _as(user)
    if command is None:
        pytest.skip("that user cannot run this Python")
    # pytest's own directories are closed to others.
    with tempfile.TemporaryDirectory(prefix="tweakio-user-", dir="/tmp") as place:
        os.chown(place, user.pw_uid, user.pw_gid)
        env = environment(HOME=place, TMPDIR=place)
        for name in [*env]:
            if name.startswith("XDG_") or "DISPLAY" in name:
                del env[name]
        home = Path(place) / "home"
        subprocess.run([*command, sys.executable, "-c", CREATE, home], env=env, check=True)
        with Opener(home, "a", env=env, before=command) as program:
            program.opened()
            assert os.stat(f"/proc/{program.browser}").st_uid == user.pw_uid
            with open(f"/proc/{program.browser}/cmdline") as file:
                assert "--no-sandbox" not in file.read()
            assert program.tell("evaluate", f"{origin}/", "document.title") == "page"
            assert program.end() == 0
        owners = {path.lstat().st_uid for path in home.rglob("*")}
        assert owners == {user.pw_uid}
