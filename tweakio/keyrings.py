"""Questions to the system's key ring, each with a bound.

A key ring is another program: it may be locked and wait for somebody who is not there, or never
answer at all. What it is asked runs in a thread of its own, which is left behind if it hangs.
"""

from __future__ import annotations

import importlib
import logging
import math
import os
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from tweakio.errors import InvalidInputError, system_error

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["TIMEOUT_VARIABLE", "KeyRingError", "NoKeyRingError", "ask", "require_one_that_keeps"]

log = logging.getLogger(__name__)

TIMEOUT_VARIABLE = "TWEAKIO_KEYRING_TIMEOUT"
"""The environment variable that says how many seconds a key ring may take to answer."""
_DEFAULT_SECONDS = 30.0
_MOST_SECONDS = 3600.0
_QUIET_SECONDS = 2.0  # an answer that takes longer is worth a word
_Answer = TypeVar("_Answer")


class KeyRingError(Exception):
    """The key ring gave no answer; callers make an error of the tree of it.

    Args:
        reason: one clause, which repeats nothing that the key ring said.
        missing: whether the package that speaks with it is not installed.
    """

    def __init__(self, reason: str, *, missing: bool = False) -> None:
        super().__init__(reason)
        self.missing = missing


class NoKeyRingError(KeyRingError):
    """There is none, rather than one that gives no answer."""


# Those that did not answer in time. As long as one hangs, the next would as well.
_hanging: list[threading.Thread] = []


def ask(question: Callable[[Any], _Answer]) -> _Answer:
    """Ask the key ring something, and wait for the answer only so long.

    Args:
        question: is given the module ``keyring``.

    Raises:
        KeyRingError: it failed, or did not answer in time.
        InvalidInputError: the time it is given is not a number of seconds.
    """
    seconds = _seconds()
    _hanging[:] = [thread for thread in _hanging if thread.is_alive()]
    if _hanging:
        raise KeyRingError("still does not answer")
    answers: list[_Answer] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            # Here, since finding the backends asks other programs as well.
            answers.append(question(_module()))
        except BaseException as error:  # each backend has errors of its own
            failures.append(error)

    thread = threading.Thread(target=run, name="tweakio-key-ring", daemon=True)
    thread.start()
    thread.join(min(_QUIET_SECONDS, seconds))
    if thread.is_alive() and seconds > _QUIET_SECONDS:
        log.warning(
            "waiting for the system's key ring, up to %.0f seconds: it may ask to be unlocked",
            seconds,
        )
        thread.join(seconds - _QUIET_SECONDS)
    if answers:
        return answers[0]
    if not failures:
        _hanging.append(thread)
        raise KeyRingError(f"did not answer in {seconds:g} seconds")
    failure = failures[0]
    if isinstance(failure, KeyRingError):
        raise failure
    # Its own words may quote anything.
    raise KeyRingError(f"cannot be used ({type(failure).__name__})") from None


def _module() -> Any:
    try:
        return importlib.import_module("keyring")
    except ImportError as error:
        if system_error(error, "ask the key ring") is not None:
            raise
        raise NoKeyRingError(
            "needs the package keyring, which is not installed", missing=True
        ) from None


def require_one_that_keeps(ring: Any) -> None:
    """Return if the module ``keyring`` has a backend that keeps something.

    Raises:
        NoKeyRingError: it has not.
    """
    try:
        usable = ring.get_keyring().priority >= 1
    except ImportError:  # PYTHON_KEYRING_BACKEND names one that is not installed
        usable = False
    if not usable:
        raise NoKeyRingError("is not there")


def _seconds() -> float:
    text = os.environ.get(TIMEOUT_VARIABLE)
    if not text:
        return _DEFAULT_SECONDS
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= _MOST_SECONDS:
        raise InvalidInputError(
            f"{TIMEOUT_VARIABLE} is not a number of seconds up to {_MOST_SECONDS:.0f}",
            hint=f"write it like {TIMEOUT_VARIABLE}=60, or unset it",
        )
    return seconds
