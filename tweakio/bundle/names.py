"""Which names a bundle may have: none that leads out of its place, and none twice."""

from __future__ import annotations

import os
import re
import unicodedata

from tweakio.errors import ArchiveError

__all__ = ["LONGEST_PATH", "MOST_FILES", "Names", "folded", "refuse_path", "shown"]

MOST_FILES = 200_000
"""What a bundle may have; a profile of years has some thousand."""
LONGEST_PATH = 4096
_MOST_CHARACTERS = 64 << 20
"""Of all names together, those of the directories above included; they are kept in memory."""

_NEVER = re.compile(r"[\x00-\x1f\x7f\\]")


def refuse_path(path: str) -> None:
    """Refuse a path of an archive that is not plainly relative, on any platform.

    Raises:
        ArchiveError: it could lead elsewhere.
    """
    parts = path.split("/")
    if (
        not path
        or len(path) > LONGEST_PATH
        or any(part in ("", ".", "..") or len(part) > 255 for part in parts)
        or _NEVER.search(path)
        or (os.name == "nt" and set(path) & set(':<>"|?*'))
        or re.match(r"[A-Za-z]:", path)
    ):
        raise ArchiveError(
            f"the archive has the name {shown(path)}, which leads out of its place",
            hint="do not trust where it came from",
        )


def folded(path: str) -> str:
    """What two names have in common that one file system takes for the same."""
    return unicodedata.normalize("NFC", path).casefold()


def shown(path: str) -> str:
    """A name as an error may show it: short, and nothing in it that a terminal obeys."""
    return ascii(path if len(path) <= 60 else f"{path[:57]}...")


class Names:
    """The names so far; refuses one that is there, also by case, or is a file's and a directory's.

    Attributes:
        count: how many there are.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, bool]] = {}
        self._characters = 0

    def add(self, path: str, *, is_directory: bool) -> list[str]:
        """Add a path and the directories above it; what is new of them, outermost first.

        It is walked upwards, to the first directory that is known: of a path with thousands of
        parts, each above its beginning, the names together would be long.
        """
        refuse_path(path)
        new = []
        name, wanted = path, (path, is_directory)
        while name:
            key = folded(name)
            found = self._known.get(key)
            if found is not None:
                if found != wanted or not wanted[1]:
                    raise ArchiveError(
                        f"{shown(name)} is in it twice, or differs from another name only by case",
                        hint="nothing was changed",
                    )
                break
            self._known[key] = wanted
            new.append(name)
            self._characters += len(name)
            if len(self._known) > MOST_FILES:
                raise ArchiveError(
                    f"it has more than {MOST_FILES} files", hint="nothing was changed"
                )
            if self._characters > _MOST_CHARACTERS:
                raise ArchiveError("its names are too long together", hint="nothing was changed")
            name = name.rpartition("/")[0]
            wanted = (name, True)
        return new[::-1]
