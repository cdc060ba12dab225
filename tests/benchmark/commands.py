"""Whole processes: the command line from cold, and what an import takes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmark.homes import make_home
from tests.benchmark.peers import CAMOUCHAT, environment, plain_environment
from tests.benchmark.targets import target
from tests.benchmark.timing import Comparison, NotRun, in_turns, timed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.benchmark.timing import Side

__all__ = ["commands", "imports"]

_ROOT = Path(__file__).resolve().parents[2]
_NOTHING = "python -c pass"
_CAMOUCHAT = "import camouchat_browser"


def commands(
    directory: Path, profiles: int, rounds: int, *, peers: bool
) -> Iterator[Comparison | NotRun]:
    """``tweakio profile list`` against a Python that imports camouchat or does nothing."""
    home = directory / "home"
    make_home(home, profiles).close()
    listing = ["--home", os.fspath(home), "profile", "list"]
    module = _process([sys.executable, "-m", "tweakio", *listing])
    sides = {"python -m tweakio profile list": module}
    script = shutil.which("tweakio", path=os.path.dirname(sys.executable))
    if script is not None:
        sides["tweakio profile list"] = _process([script, *listing])
    yield from _compare(profiles, rounds, sides, peers=peers)


def imports(rounds: int, *, peers: bool) -> Iterator[Comparison | NotRun]:
    """What a program pays before its first call."""
    ours = _process([sys.executable, "-c", "from tweakio import ProfileManager"])
    yield from _compare(0, rounds, {"from tweakio import ProfileManager": ours}, peers=peers)


def _compare(
    profiles: int, rounds: int, ours: dict[str, Side], *, peers: bool
) -> Iterator[Comparison | NotRun]:
    others = {_NOTHING: _process([sys.executable, "-c", "pass"])}
    python = environment(CAMOUCHAT) if peers else None
    if isinstance(python, NotRun):
        yield python
    elif python is not None:
        others[_CAMOUCHAT] = _process([os.fspath(python), "-c", "import camouchat_browser"])
    found = in_turns(rounds, {**ours, **others}, seconds=120)
    for operation in ours:
        for against in others:
            limit = target(operation, against, profiles)
            yield Comparison.of(
                operation, against, profiles, found[operation], found[against], limit
            )


def _process(command: list[str]) -> Side:
    variables = plain_environment(PYTHONPATH=os.fspath(_ROOT))

    def run() -> None:
        subprocess.run(command, check=True, capture_output=True, env=variables)

    return timed(lambda _: run)
