"""Waiting without deciding how: a generator yields the seconds that it wants to pass.

So that what waits for processes and locks is written once, for asyncio and without it. What
waits by itself, such as for an answer from another machine, is yielded as a function.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import TypeVar

__all__ = ["Pauses", "aside", "blocking", "in_thread", "waiting"]

_T = TypeVar("_T")
Pauses = Generator[float | Callable[[], None], None, _T]
"""Yields seconds and what waits by itself, and returns a result."""


def aside(work: Callable[[], _T]) -> Pauses[_T]:
    """Have something done that waits by itself; it has ended when this goes on or is closed."""
    done: Future[_T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except Exception as error:
            done.set_exception(error)

    yield run
    return done.result()


async def in_thread(work: Callable[[], _T]) -> _T:
    """Do what blocks while the loop runs on; a cancellation waits for its end.

    What it takes would otherwise be held by nobody.
    """
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # nobody asks for it any more
        raise


def blocking(steps: Pauses[_T]) -> _T:
    """Run it in a program without asyncio."""
    try:
        while True:
            step = next(steps)
            if callable(step):
                step()
            else:
                time.sleep(step)
    except StopIteration as end:
        result: _T = end.value
        return result
    finally:
        steps.close()


async def waiting(steps: Pauses[_T]) -> _T:
    """Run it in a coroutine; others run in its pauses."""
    try:
        while True:
            step = next(steps)
            if callable(step):
                await in_thread(step)
            else:
                await asyncio.sleep(step)
    except StopIteration as end:
        result: _T = end.value
        return result
    finally:
        steps.close()
