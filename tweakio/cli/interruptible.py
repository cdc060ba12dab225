"""Running what needs an event loop, so that signals end it in order."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from typing import TYPE_CHECKING, Any, TypeVar

from tweakio.cli import TerminatedError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

__all__ = ["run"]

_T = TypeVar("_T")
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


def run(work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """Run a coroutine to its end.

    Ctrl-C, SIGTERM and SIGHUP cancel it once and then wait until it has closed what it opened;
    what comes after the first of them does not hurry it, so a browser is closed in order.

    Raises:
        KeyboardInterrupt: Ctrl-C came.
        TerminatedError: one of the others came.
    """
    return asyncio.run(_guarded(work))


async def _guarded(work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    task = asyncio.current_task()
    came: list[int] = []

    def stop(number: int) -> None:
        if not came and task is not None:
            came.append(number)
            task.cancel()

    with _handled(stop):
        try:
            found = await work()
        except BaseException:
            if came:
                _raise(came[0])
            raise
    if came:  # in the last moment; the work is done, and its result nobody waits for
        _raise(came[0])
    return found


def _raise(number: int) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt from None
    raise TerminatedError(number) from None


@contextlib.contextmanager
def _handled(stop: Callable[[int], None]) -> Iterator[None]:
    """Have ``stop`` called in the event loop for each signal that nobody has turned off."""
    loop = asyncio.get_running_loop()
    before: dict[int, Any] = {}
    for name in _NAMES:
        number = getattr(signal, name, None)
        # As under nohup, which means that it shall not end the program.
        if number is None or signal.getsignal(number) == signal.SIG_IGN:
            continue
        before[number] = signal.getsignal(number)
        if sys.platform == "win32":
            signal.signal(number, lambda came, _: loop.call_soon_threadsafe(stop, came))
        else:
            loop.add_signal_handler(number, stop, number)
    try:
        yield
    finally:
        for number, handler in before.items():
            if sys.platform != "win32":
                loop.remove_signal_handler(number)
            signal.signal(number, handler)
