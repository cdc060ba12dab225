"""``profile list`` with plain flags, without importing Typer.

Listing is what scripts and prompts run all the time, and importing Typer alone takes more
than five times as long as starting Python. So the command lines that this module knows are
answered directly, by the same function that Typer would call. Everything else, every
mistake included, is left to Typer. A test holds both ways to the same bytes.
"""

from __future__ import annotations

import atexit
import gc
import os

__all__ = ["Plain", "parse", "run"]

_CHOICES = frozenset({"--all", "--active", "--corrupted"})
_FLAGS = _CHOICES | {"--json"}
_COMPLETION = "_TWEAKIO_COMPLETE"


class Plain:
    """A command line that needs no parser (a plain class: typing's take a millisecond to make).

    Attributes:
        home: as it was given.
        flags: those that were given.
    """

    __slots__ = ("flags", "home")

    def __init__(self, home: str | None, flags: frozenset[str]) -> None:
        self.home = home
        self.flags = flags


def parse(arguments: list[str]) -> Plain | None:
    """Recognise ``[--home DIR] profile list [--all|--active|--corrupted] [--json]``.

    Returns:
        None for any other command line.
    """
    if _COMPLETION in os.environ:
        return None
    home = None
    rest = arguments
    if rest[:1] == ["--home"] and len(rest) > 1 and not rest[1].startswith("-"):
        home, rest = rest[1], rest[2:]
    flags = frozenset(rest[2:])
    if rest[:2] != ["profile", "list"] or not flags <= _FLAGS or len(flags & _CHOICES) > 1:
        return None
    return Plain(home, flags)


def run(plain: Plain) -> int:
    """Answer it."""
    from tweakio.cli.context import start
    from tweakio.cli.listing import list_profiles

    list_profiles(
        start(plain.home),
        active="--active" in plain.flags,
        corrupted="--corrupted" in plain.flags,
        as_json="--json" in plain.flags,
    )
    # The interpreter ends with a collection among all that was imported, 6 of 58 ms.
    atexit.register(gc.freeze)
    return 0
