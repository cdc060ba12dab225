"""Opens five browsers and prints what all their processes and this one take, in MB.

python -m tests.benchmark.five ours|bare DIRECTORY
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import psutil

from tests.benchmark.browser import bare_options

COUNT = 5
_SETTLED = 5.0
_MB = 1_000_000


def memory() -> float:
    """The proportional share of what is mapped, so that what they share counts once."""
    me = psutil.Process()
    found = 0.0
    for process in (me, *me.children(recursive=True)):
        try:
            found += process.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return found / _MB


async def settled() -> float:
    """The lowest of some seconds: after a start the browsers still tidy up."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _SETTLED
    found = [memory()]
    while loop.time() < deadline:
        await asyncio.sleep(0.5)
        found.append(memory())
    return min(found)


async def ours(directory: Path) -> float:
    from tests.browsers import chromium_path
    from tweakio import BrowserManager, ProfileManager

    with ProfileManager(directory) as manager:
        names = [f"p{number}" for number in range(COUNT)]
        if not directory.exists():
            manager.create_profiles(names, "whatsapp")
        async with AsyncExitStack() as stack:
            for name in names:
                opener = BrowserManager(name, manager=manager, executable=chromium_path())
                await stack.enter_async_context(opener)
            return await settled()


async def bare(directory: Path) -> float:
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        contexts = [
            await playwright.chromium.launch_persistent_context(
                directory / str(number),
                **bare_options(),  # type: ignore[arg-type]
            )
            for number in range(COUNT)
        ]
        found = await settled()
        for context in contexts:
            await context.close()
        return found


if __name__ == "__main__":
    _, kind, place = sys.argv
    Path(place).parent.mkdir(parents=True, exist_ok=True)
    print(asyncio.run({"ours": ours, "bare": bare}[kind](Path(place))))
