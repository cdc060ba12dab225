"""A program that opens a profile's browser and does what standard input says.

    python -m tests.browser.opener HOME PROFILE [--sync] [--hold] [--timeout S]

It prints a line of JSON when the browser is open, and one for each command, a JSON array:
``["evaluate", URL, SCRIPT]`` opens a page and returns what the script does. At the end of its
input it closes everything.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys

import psutil

from tests.browsers import ARGUMENTS
from tweakio import BrowserManager, ProfileManager, SyncBrowserManager, TweakioError


def say(value) -> None:
    print(json.dumps(value), flush=True)


def pids(browser) -> dict[str, int]:
    driver = next(
        child.pid
        for child in psutil.Process().children()
        if "run-driver" in " ".join(child.cmdline())
    )
    return {"browser": browser._keeper.process.pid, "driver": driver}


async def evaluate(browser, url, script):
    page = await browser.getPage()
    await page.goto(url)
    return await page.evaluate(script)


async def run(browser) -> None:
    async with browser:
        say(pids(browser))
        # Not in a thread, which would keep the program from ending.
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )
        while line := await reader.readline():
            command, *arguments = json.loads(line)
            assert command == "evaluate"
            say(await evaluate(browser, *arguments))


def run_sync(browser) -> None:
    with browser:
        say(pids(browser))
        for line in sys.stdin:
            _, url, script = json.loads(line)
            page = browser.getPage()
            page.goto(url)
            say(page.evaluate(script))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("home")
    parser.add_argument("profile")
    parser.add_argument("--sync", action="store_true")
    parser.add_argument("--hold", action="store_true", help="activate the profile first")
    parser.add_argument("--timeout", type=float, default=60.0)
    given = parser.parse_args()
    with ProfileManager(given.home) as manager:
        if given.hold:
            manager.activate_profile(given.profile, timeout=given.timeout)
        kind = SyncBrowserManager if given.sync else BrowserManager
        browser = kind(given.profile, manager=manager, timeout=given.timeout, args=ARGUMENTS)
        try:
            if given.sync:
                run_sync(browser)
            else:
                asyncio.run(run(browser))
        except TweakioError as error:
            with contextlib.suppress(OSError):
                print(f"{type(error).__name__}: {error}", file=sys.stderr)
            return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
