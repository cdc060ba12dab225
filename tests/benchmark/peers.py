"""The libraries that are compared, each in an environment of its own, in a process of its own."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from tests.benchmark.timing import NotRun

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

__all__ = ["CAMOUCHAT", "PYGIT2", "WORKER", "Worker", "environment", "plain_environment"]

PYGIT2 = "pygit2"
CAMOUCHAT = "camouchat-browser==0.7.1"
WORKER = Path(__file__).with_name("worker.py")


def environment(requirement: str) -> Path | NotRun:
    """The Python of an environment that has one thing installed; made if it is missing.

    Args:
        requirement: as pip understands it; with another one it is another environment.
    """
    name = f"{sys.implementation.cache_tag}-{hashlib.sha256(requirement.encode()).hexdigest()[:8]}"
    place = Path(platformdirs.user_cache_dir("tweakio-benchmark", appauthor=False)) / name
    python = place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    complete = place / "complete"
    if complete.exists():
        return python
    try:
        venv.create(place, clear=True, with_pip=True)
        command = [python, "-m", "pip", "install", "--quiet", requirement]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=900)
    except subprocess.CalledProcessError as error:
        said = (error.stderr or "pip failed").strip().splitlines()
        return NotRun(requirement, f"it cannot be installed: {said[-1]}")
    except (OSError, subprocess.TimeoutExpired) as error:
        return NotRun(requirement, f"it cannot be installed: {error}")
    complete.touch()
    return python


def plain_environment(**more: str) -> dict[str, str]:
    """The variables for a process that is measured.

    An installed package has its modules compiled, and so has a checkout after the first run.
    """
    unwanted = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "TWEAKIO_HOME")
    return {**{key: value for key, value in os.environ.items() if key not in unwanted}, **more}


class Worker:
    """A process that has a library imported and does what it is told, timing itself.

    Args:
        python: of the library's environment.
        arguments: of ``worker.py``.
        variables: more of them for its environment.
    """

    def __init__(self, python: Path, *arguments: str, variables: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [python, WORKER, "serve", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=plain_environment(**variables),
            text=True,
        )

    def ask(self, what: str, *values: object) -> float:
        """Do one thing; the milliseconds that it took in there."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([what, *values]) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return float(answer["ms"])

    def __enter__(self) -> Worker:  # noqa: PYI034 - Self came with Python 3.11
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
