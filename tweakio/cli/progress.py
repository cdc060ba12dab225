"""Progress on standard error, if a person reads that; results never mix with it."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["WORTH_A_BAR", "announce", "busy", "counted"]

WORTH_A_BAR = 64 << 20
"""Bytes; fewer take less than a second."""

_MANY_PROFILES = 20
"""Fewer profiles are made before rich is imported."""


def _is_watched() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


@contextmanager
def counted(
    what: str, total: int, *, worth: int = _MANY_PROFILES
) -> Iterator[Callable[[int], None] | None]:
    """A bar; gives what takes the number done so far, or None where nobody would see it.

    Args:
        what: stands before the bar.
        total: how many there are.
        worth: fewer get no bar.
    """
    if total < worth or not _is_watched():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(task, completed=done)


@contextmanager
def busy(what: str) -> Iterator[Callable[[int], None] | None]:
    """A turning wheel for what has no known end; gives what takes the number done so far."""
    if not _is_watched():
        yield None
        return
    from rich.console import Console

    with Console(stderr=True).status(what) as status:
        yield lambda done: status.update(f"{what}: {done}")


def announce(what: str) -> None:
    """Say once what is waited for; nothing is drawn after that.

    For what runs a program that may ask the person, as git and ssh do for a password: a wheel that
    turns would erase the question.
    """
    if _is_watched():
        sys.stderr.write(f"{what}\n")
        sys.stderr.flush()
