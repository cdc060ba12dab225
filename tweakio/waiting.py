"""For how long a command waits for another machine, all in all."""

from __future__ import annotations

import math
import os
import time

from tweakio.errors import InvalidInputError

__all__ = ["DEFAULT", "VARIABLE", "Deadline", "limit", "longer"]

VARIABLE = "TWEAKIO_TIMEOUT"
"""The environment variable that sets it, in seconds."""
DEFAULT = 300.0
_LONGEST = 86400.0


def limit() -> float:
    """The seconds that a command may wait for another machine.

    Raises:
        InvalidInputError: what the variable has is no such number.
    """
    text = os.environ.get(VARIABLE, "")
    if not text:
        return DEFAULT
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 1 <= seconds <= _LONGEST:
        raise InvalidInputError(
            f"{VARIABLE} is {ascii(text)[:40]}, which is no time to wait",
            hint=f"give it seconds, 1 to {_LONGEST:.0f}; without it, it is {DEFAULT:.0f}",
        )
    return seconds


def longer() -> str:
    """The hint for whoever wants to wait for longer."""
    return f"check the network and the host; {VARIABLE}=SECONDS waits for longer"


class Deadline:
    """The end of the wait of one command, for all the questions that it asks.

    Args:
        seconds: from now on.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """The seconds that are left, 0 at the end."""
        return max(self._end - time.monotonic(), 0.0)

    def renew(self) -> None:
        """Begin again, as something came."""
        self._end = time.monotonic() + self.seconds
