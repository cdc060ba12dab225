"""Whose name stands on a commit."""

from __future__ import annotations

import io
import os
import time
from functools import lru_cache
from typing import TYPE_CHECKING

from tweakio import durable
from tweakio.errors import is_of_the_moment

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["author", "configuration", "stamp"]

_MOST_CONFIG = 1 << 20
_DAY = 24 * 60


def _clean(text: str) -> str:
    return "".join(
        character for character in text if character.isprintable() and character not in "<>"
    )


@lru_cache(maxsize=8)
def author(config: Path) -> str:
    """``Name <address>``: the user's git identity, else ``user@host``.

    Args:
        config: the repository's own git configuration; the user's and the system's are
            read as git does.
    """
    name, address = os.environ.get("GIT_AUTHOR_NAME"), os.environ.get("GIT_AUTHOR_EMAIL")
    if not (name and address):
        configured = configuration(config)
        name = name or configured("user", "name")
        address = address or configured("user", "email")
    if not (name and address):
        import getpass
        import socket

        try:
            user = getpass.getuser()
        except (KeyError, OSError):  # a user id without a name, as in some containers
            user = "unknown"
        name, address = name or user, address or f"{user}@{socket.gethostname()}"
    return f"{_clean(name) or 'unknown'} <{_clean(address)}>"


def configuration(config: Path) -> Callable[[str, str], str | None]:
    """What git is configured to do in a repository.

    Args:
        config: the repository's own git configuration; the user's and the system's are
            read as git does.

    Returns:
        The value of a section and a key; None if there is none.
    """
    from dulwich.config import ConfigFile, StackedConfig

    backends = list(StackedConfig.default_backends())
    try:
        # Without what it includes: a repository that was given to somebody may name any
        # file there. The user's own configuration is read as git does.
        data = durable.read_regular(config, _MOST_CONFIG)
        backends.insert(0, ConfigFile.from_file(io.BytesIO(data), expand_includes=False))
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and is_of_the_moment(error):
            raise  # or a commit would have somebody else's name
    stack = StackedConfig(backends)

    def configured(section: str, key: str) -> str | None:
        try:
            return stack.get((section.encode(),), key.encode()).decode("utf-8", "replace")
        except KeyError:
            return None

    return configured


def stamp(seconds: int) -> str:
    """Git's form of a moment: seconds since the epoch and the local offset from UTC.

    A clock before 1970, as of a machine that keeps no time while it is off, counts as 1970: git
    has no such dates, and would refuse the commit wherever it checks one.
    """
    seconds = max(0, seconds)
    offset = time.localtime(seconds).tm_gmtoff // 60
    if abs(offset) >= _DAY:  # TZ=UTC+25, which is no zone at all
        offset = 0
    sign = "-" if offset < 0 else "+"
    return f"{seconds} {sign}{abs(offset) // 60:02d}{abs(offset) % 60:02d}"
