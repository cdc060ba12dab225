"""Waiting without deciding how: a generator yields the seconds that it wants to pass.

So that what waits for processes and locks is written once, for asyncio and without it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from typing import TypeVar

__all__ = ["Pauses", "blocking", "waiting"]

_T = TypeVar("_T")
Pauses = Generator[float, None, _T]
"""Yields seconds, and returns a result."""


def blocking(steps: Pauses[_T]) -> _T:
    """Run it in a program without asyncio."""
    try:
        while True:
            time.sleep(next(steps))
    except StopIteration as end:
        result: _T = end.value
        return result
    finally:
        steps.close()


async def waiting(steps: Pauses[_T]) -> _T:
    """Run it in a coroutine; others run in its pauses."""
    try:
        while True:
            await asyncio.sleep(next(steps))
    except StopIteration as end:
        result: _T = end.value
        return result
    finally:
        steps.close()
