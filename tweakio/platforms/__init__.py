"""Platforms: what tells one messaging service from another.

A platform is registered under a name with two classes. An installed package can do so
without being imported by anybody: it names a module in the entry-point group
``tweakio.platforms``, and the module calls ``register_platform`` when it is loaded.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tweakio.errors import InvalidInputError
from tweakio.platforms.protocols import FingerprintGenerator, SessionHandler

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "ENTRY_POINT_GROUP",
    "FingerprintGenerator",
    "Platform",
    "SessionHandler",
    "check_name",
    "find_platform",
    "platform_names",
    "register_platform",
]

log = logging.getLogger(__name__)

ENTRY_POINT_GROUP = "tweakio.platforms"
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}", re.ASCII)


@dataclass(frozen=True)
class Platform:
    """A registered platform.

    Attributes:
        name: what metadata.json calls it.
        session_handler: makes a ``SessionHandler``.
        fingerprint_generator: makes a ``FingerprintGenerator``.
    """

    name: str
    session_handler: Callable[[], SessionHandler]
    fingerprint_generator: Callable[[], FingerprintGenerator]


_platforms: dict[str, Platform] = {}
_entry_points_loaded = False


def check_name(name: object) -> str:
    """Return a text that can be a platform's name; it need not be registered.

    Raises:
        InvalidInputError: it cannot.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidInputError(
            f"{repr(name)[:60]} is not a platform name",
            hint="use up to 32 lower-case letters, digits, '_' and '-'",
        )
    return name


def register_platform(
    name: str,
    session_handler: Callable[[], SessionHandler],
    fingerprint_generator: Callable[[], FingerprintGenerator],
) -> None:
    """Make a platform known, or replace one.

    Args:
        name: up to 32 lower-case letters, digits, ``_`` and ``-``.
        session_handler: a class, or anything else that makes a ``SessionHandler`` when it
            is called without arguments.
        fingerprint_generator: the same for a ``FingerprintGenerator``.

    Raises:
        InvalidInputError: the name cannot be used, or one of the two cannot be called.
    """
    check_name(name)
    for what, factory in (
        ("session_handler", session_handler),
        ("fingerprint_generator", fingerprint_generator),
    ):
        if not callable(factory):
            raise InvalidInputError(f"{what} of platform {name!r} cannot be called")
    _platforms[name] = Platform(name, session_handler, fingerprint_generator)


def find_platform(name: str) -> Platform | None:
    """The platform of this name; installed packages are asked for one not yet known."""
    if name not in _platforms:
        _load_entry_points()
    return _platforms.get(name)


def platform_names() -> list[str]:
    """The names of all platforms, in alphabetical order."""
    _load_entry_points()
    return sorted(_platforms)


def _load_entry_points() -> None:
    global _entry_points_loaded
    if _entry_points_loaded:
        return
    _entry_points_loaded = True
    from importlib.metadata import entry_points

    for point in entry_points(group=ENTRY_POINT_GROUP):
        try:
            loaded = point.load()
            if callable(loaded):
                loaded()
        except Exception:
            # Somebody else's broken package must not take the user's profiles away.
            log.warning("the platform package %s cannot be loaded", point.value, exc_info=True)


def _register_own() -> None:
    from tweakio.platforms.builtin import register

    register()


_register_own()
