"""A file with something derived, which may be lost or removed at any time.

It is written over and not synced, which costs a third of a millisecond less than a new file:
half a one, of a crash or seen beside its writer, has the wrong checksum and is none.
"""

from __future__ import annotations

import logging
from hashlib import sha1
from typing import TYPE_CHECKING

from tweakio import durable
from tweakio.errors import is_of_the_moment

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["CacheFile"]

_MOST_BYTES = 1 << 26

log = logging.getLogger(__name__)


class CacheFile:
    """One such file.

    Args:
        path: the file; its directory is made when it is written.
        summed: what of a content the checksum is of.
    """

    def __init__(self, path: Path, summed: Callable[[bytes], bytes] = bytes) -> None:
        self._path = path
        self._summed = summed

    def read(self, *, insist: bool = False) -> bytes | None:
        """What was written last, if all of it is there.

        Args:
            insist: raise the ``OSError`` if it cannot be read now; else that only costs time.
        """
        try:
            data = durable.read_regular(self._path, _MOST_BYTES)
            checksum, length, rest = data.split(b"\n", 2)
            content = rest[: int(length)]
        except (OSError, ValueError) as error:
            if insist and isinstance(error, OSError) and is_of_the_moment(error):
                raise
            return None
        return content if checksum == self._checksum(content) else None

    def write(self, content: bytes) -> None:
        """Keep it; a failure only costs time later."""
        begin = b"%b\n%d\n" % (self._checksum(content), len(content))
        try:
            durable.make_directory(self._path.parent)
            durable.write_over(self._path, begin + content)
        except OSError as error:
            log.debug("the cache %s was not written: %s", self._path.name, error)

    def forget(self) -> None:
        """Know nothing any more."""
        durable.remove(self._path)

    def _checksum(self, content: bytes) -> bytes:
        return sha1(self._summed(content), usedforsecurity=False).hexdigest().encode()
