"""Steps of a stream that run beside each other, each in a thread of its own.

hashlib, zlib, zstandard and the system's calls let other threads run while they work on a large
piece, so that an export takes the time of its slowest step and not of all of them together.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, BinaryIO, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PIECE", "Counted", "Filter", "copied", "piped_from", "piped_into"]

Filter = Callable[[BinaryIO, BinaryIO], None]
"""Reads its first argument to the end and writes to its second."""

PIECE = 1 << 20
"""Bytes that are read and handed on at once."""
_SMALL = 1 << 16
"""Fewer are handed on together with others."""
_WAITING = 3
"""Pieces between two threads."""


def copied(reader: BinaryIO, writer: BinaryIO) -> None:
    """A filter that changes nothing, so that what its ends do is done beside."""
    while piece := reader.read(PIECE):
        writer.write(piece)


@contextlib.contextmanager
def piped_into(target: Any, through: Filter) -> Iterator[BinaryIO]:
    """A stream to write to, of which a filter makes something else for another one.

    If the block fails, so does the filter's next read: it does not finish what is not all.

    Args:
        target: what the filter writes to, in a thread of its own; it is not closed.
        through: the filter.

    Raises:
        What the filter raised.
    """
    pipe = _Pipe()

    def work() -> None:
        through(cast("BinaryIO", pipe), target)
        if pipe.read(1):
            raise BrokenPipeError("the filter has not read everything")

    with _beside(pipe, work) as thread:
        yield cast("BinaryIO", pipe)
        pipe.end()
        thread.join()
        pipe.check()


@contextlib.contextmanager
def piped_from(source: Any, through: Filter) -> Iterator[BinaryIO]:
    """A stream to read what a filter makes of another one; see ``piped_into``.

    The reader gets the filter's error instead of an end. Who leaves the block before the end
    ends the filter.
    """
    pipe = _Pipe()

    def work() -> None:
        through(source, cast("BinaryIO", pipe))
        pipe.end()

    with _beside(pipe, work):
        yield cast("BinaryIO", pipe)


@contextlib.contextmanager
def _beside(pipe: _Pipe, work: Callable[[], None]) -> Iterator[threading.Thread]:
    """Have work done in a thread, which has ended when the block has been left."""

    def run() -> None:
        try:
            work()
        except BaseException as error:  # nobody else hears of it in this thread
            pipe.abort(error)

    thread = threading.Thread(target=run, name="tweakio-filter", daemon=True)
    try:
        thread.start()
        yield thread
    finally:
        # A thread that waits at the pipe wakes up; one that has ended does not mind.
        pipe.abort(BrokenPipeError("the other end was left"))
        if thread.ident is not None:
            thread.join()


class _Pipe:
    """Pieces from one thread to another; few wait, and who is ahead waits for room.

    An error of either side is raised at the other one, with its next call. ``SimpleQueue`` is
    the only thing that is waited for: Ctrl-C interrupts it, and cannot leave it half locked.
    """

    def __init__(self) -> None:
        self._pieces: SimpleQueue[bytes] = SimpleQueue()
        self._room: SimpleQueue[None] = SimpleQueue()
        for _ in range(_WAITING):
            self._room.put(None)
        self._error: BaseException | None = None
        self._gathered: list[bytes] = []
        self._gathered_size = 0
        self._piece = b""
        self._taken = 0
        self._at_end = False

    def abort(self, error: BaseException) -> None:
        """Let the other side fail with this error; the first one counts."""
        if self._error is None:
            self._error = error
        self._pieces.put(b"")
        self._room.put(None)

    def check(self) -> None:
        """Raise the error of the other side, if it has failed."""
        if self._error is not None:
            raise self._error

    # The writing side

    def write(self, data: bytes) -> int:
        """Hand on all of it, sooner or later."""
        if len(data) >= _SMALL:
            self._hand_on_gathered()
            self._hand_on(data)
        elif data:  # an empty piece would be the end
            self._gathered.append(data)
            self._gathered_size += len(data)
            if self._gathered_size >= PIECE:
                self._hand_on_gathered()
        return len(data)

    def flush(self) -> None:
        """Nothing is gained by handing on earlier."""

    def end(self) -> None:
        """There will be no more."""
        self._hand_on_gathered()
        self._hand_on(b"")

    def _hand_on_gathered(self) -> None:
        if self._gathered:
            data = b"".join(self._gathered)
            self._gathered.clear()
            self._gathered_size = 0
            self._hand_on(data)

    def _hand_on(self, piece: bytes) -> None:
        self.check()
        self._room.get()
        self.check()
        self._pieces.put(piece)

    # The reading side

    def read(self, size: int = -1) -> bytes:
        """At most so many bytes, as many as are there; none at the end."""
        self.check()
        if self._taken == len(self._piece) and not self._at_end:
            piece = self._pieces.get()
            self.check()
            self._room.put(None)
            self._piece, self._taken, self._at_end = piece, 0, not piece
        left = len(self._piece) - self._taken
        if self._taken == 0 and (size < 0 or left <= size):
            self._taken = left
            return self._piece
        begin = self._taken
        self._taken += left if size < 0 else min(left, size)
        return self._piece[begin : self._taken]


class Counted:
    """A stream that knows how much went through it, and its SHA-256."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        """Of all so far, in hexadecimal."""
        return self._digest.hexdigest()

    def write(self, data: bytes) -> int:
        """Write all of it."""
        self._stream.write(data)
        self._digest.update(data)
        self.size += len(data)
        return len(data)

    def read(self, size: int = -1) -> bytes:
        """Read at most so much."""
        data = self._stream.read(size)
        self._digest.update(data)
        self.size += len(data)
        return data

    def flush(self) -> None:
        """Flush what it writes to."""
        self._stream.flush()
