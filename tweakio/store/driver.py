"""The merge driver: how a person's own ``git merge`` merges a metadata.json field by field.

Which files it is for stands in ``.git/info/attributes``, which counts more than any tracked
``.gitattributes``: what somebody pushes cannot take it away, nor name a filter for our files.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from tweakio import durable

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ATTRIBUTES", "ensure_driver", "gone_python", "lacks_driver", "section"]

_HEAD = '[merge "tweakio"]'
_CHECKS = "[fetch]\n\tfsckObjects = true\n"
"""Git's own check of objects, also for what a person fetches."""
ATTRIBUTES = """\
# tweakio: these count more than .gitattributes, whoever wrote that.
* -text -ident -filter -working-tree-encoding
metadata.json merge=tweakio
fingerprint.json -merge
session.json.age -merge -diff
"""
_CODE = (
    "import sys; sys.path[:] = [p for p in sys.path if p]; "
    "from tweakio.sync.driver import main; sys.exit(main())"
)
_MOST = 1 << 20
_BEGIN = b"\tdriver = \"'"


def section() -> str:
    """The lines of ``.git/config`` that say what to run."""
    return f"{_HEAD}\n\tname = tweakio, field by field\n{_line()}{_CHECKS}"


def _line() -> str:
    python = sys.executable.replace("'", "'\\''")
    command = f"'{python}' -c '{_CODE}' %O %A %B %P"
    quoted = command.replace("\\", "\\\\").replace('"', '\\"')
    return f'\tdriver = "{quoted}"\n'


def lacks_driver(git_dir: Path) -> bool:
    """Whether a repository was made before there was a driver, or the checks beside it.

    Or its Python is gone, as when a virtual environment was removed.
    """
    present = durable.read_regular(git_dir / "config", _MOST)
    return (
        _HEAD.encode() not in present
        or _CHECKS.encode() not in present
        or _gone_python(present) != ""
    )


def gone_python(git_dir: Path) -> str:
    """The Python that the driver is to run with, if there is none at its place any more."""
    try:
        return _gone_python(durable.read_regular(git_dir / "config", _MOST))
    except FileNotFoundError:
        return ""


def _gone_python(config: bytes) -> str:
    line = _our_line(config)
    quoted, _, _ = line.removeprefix(_BEGIN).partition(b"' -c ")
    text = quoted.decode("utf-8", "surrogateescape").replace("\\\\", "\\")
    python = text.replace("'\\''", "'")
    return "" if not line or os.access(python, os.X_OK) else python


def _our_line(config: bytes) -> bytes:
    """The line that says what to run; empty if there is none, or a person's own."""
    for line in config.splitlines(keepends=True):
        if line.startswith(_BEGIN) and b"tweakio.sync.driver" in line:
            return line
    return b""


def ensure_driver(git_dir: Path, temporary: Path) -> None:
    """Install it in a repository that lacks it; its lock is held.

    Args:
        git_dir: of the repository.
        temporary: a directory for files that are being written.
    """
    config = git_dir / "config"
    present = durable.read_regular(config, _MOST)
    attributes = git_dir / "info" / "attributes"
    durable.make_directory(attributes.parent)
    try:
        before = durable.read_regular(attributes, _MOST)
    except FileNotFoundError:
        before = b""
    if ATTRIBUTES.encode() not in before:
        # Later lines count more; a person's own stay, and stand before ours.
        gap = b"" if not before or before.endswith(b"\n") else b"\n"
        durable.remove(temporary / "attributes")
        content = before + gap + ATTRIBUTES.encode()
        durable.replace(attributes, content, temporary / "attributes")
    if _gone_python(present):
        present = present.replace(_our_line(present), _line().encode(), 1)
    gap = b"" if not present or present.endswith(b"\n") else b"\n"
    durable.remove(temporary / "config")
    if _HEAD.encode() not in present:
        present += gap + section().encode()
    elif _CHECKS.encode() not in present:
        present += gap + _CHECKS.encode()
    durable.replace(config, present, temporary / "config")
