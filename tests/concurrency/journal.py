"""What every process of a campaign writes down, one line of JSON at a time.

A line is one ``write`` to a file opened for appending, so a ``kill -9`` never cuts what
was said before it. The last line itself it can cut, where that crosses a page.
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Journal", "read_journals"]


class Journal:
    """The lines of one process."""

    def __init__(self, directory: Path, name: str) -> None:
        self.name = name
        path = directory / f"{name}.jsonl"
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def say(self, event: str, **values: Any) -> None:
        # CLOCK_MONOTONIC is one clock for all processes of a machine.
        line = {"event": event, "by": self.name, "at": time.monotonic_ns(), **values}
        os.write(self._descriptor, json.dumps(line).encode() + b"\n")


def read_journals(directory: Path) -> Iterator[Iterator[dict[str, Any]]]:
    """The lines of each process, in their order; never all at once."""
    for path in sorted(directory.glob("*.jsonl")):
        with path.open("rb") as file:
            yield (json.loads(line) for line in file if line.endswith(b"\n"))
