"""The git program as a second reader, before anything is taken for lost.

It reads with a git directory of its own that has nothing but our objects: no configuration of the
repository, which may be anybody's and could name programs, no hooks and no remotes. What it
returns is believed only if it hashes to its name.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import secrets
import shutil
import subprocess
from typing import TYPE_CHECKING, NamedTuple

from tweakio import durable
from tweakio.errors import storage_error
from tweakio.owners import temporary_directory
from tweakio.references import child_environment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

__all__ = ["Read", "Witness", "find_witness"]

_CONFIG = """\
[core]
\trepositoryformatversion = 0
\tbare = true
\tmultiPackIndex = false
\tcommitGraph = false
"""
_PIECE = 1 << 20
_KINDS = ("commit", "tree", "blob", "tag")
# A damaged object can end the program, which is then started again.
_MOST_STARTS = 200


class Read(NamedTuple):
    """An object that git can read.

    Attributes:
        name: its hexadecimal id.
        kind: such as ``b"blob"``.
        body: None if it is larger than what was asked for.
    """

    name: str
    kind: bytes
    body: bytes | None


def find_witness(objects: Path) -> Witness | None:
    """The git program here; None if none is installed.

    None too where it would follow ``info/alternates`` to whatever place that names.
    """
    program = shutil.which("git")
    if program is None or durable.is_there(objects / "info" / "alternates"):
        return None
    return Witness(program, objects)


class Witness:
    """The user's git, asked for single objects.

    Args:
        program: its path.
        objects: the object store that it reads.
    """

    def __init__(self, program: str, objects: Path) -> None:
        self._program = program
        self._objects = objects

    def read(self, names: Iterable[str], most: int) -> Iterator[Read]:
        """Those of some objects that git can read.

        Args:
            names: hexadecimal ids.
            most: bytes; the body of a larger one is not kept, and with it no memory taken.

        Raises:
            StorageError: git cannot be started now.
        """
        left = list(names)
        for _ in range(_MOST_STARTS):
            if not left:
                return
            with self._started() as process:
                while left:
                    try:
                        found = _ask(process, left.pop(), most)
                    except (EOFError, BrokenPipeError, ValueError):
                        break  # it ended of a damaged one, which is not asked for again
                    if found is not None:
                        yield found

    @contextlib.contextmanager
    def _started(self) -> Iterator[subprocess.Popen[bytes]]:
        try:
            place = temporary_directory()
        except OSError as error:
            raise storage_error(error, "let git read the history", ours=False) from error
        try:
            for name in ("objects", "refs"):
                os.mkdir(os.path.join(place, name))
            for name, text in (("HEAD", "ref: refs/heads/main\n"), ("config", _CONFIG)):
                with open(os.path.join(place, name), "w", encoding="utf-8") as file:
                    file.write(text)
            process = subprocess.Popen(
                [self._program, f"--git-dir={place}", "cat-file", "--batch"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=self._environment(),
                cwd=place,
            )
        except OSError as error:
            shutil.rmtree(place, ignore_errors=True)
            raise storage_error(error, "let git read the history", ours=False) from error
        try:
            yield process
        finally:
            process.kill()
            with contextlib.suppress(OSError):
                process.communicate()
            shutil.rmtree(place, ignore_errors=True)

    def _environment(self) -> dict[str, str]:
        environment = {
            name: value
            for name, value in child_environment(os.environ).items()
            if not name.upper().startswith("GIT_")
        }
        return environment | {
            "GIT_OBJECT_DIRECTORY": os.fspath(self._objects),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_ALLOW_PROTOCOL": "none",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_OPTIONAL_LOCKS": "0",
            "LC_ALL": "C",
        }


def _ask(process: subprocess.Popen[bytes], name: str, most: int) -> Read | None:
    """One object; None if git cannot read it.

    Raises:
        EOFError, BrokenPipeError: git has ended.
    """
    asked, said = process.stdin, process.stdout
    assert isinstance(asked, io.BufferedWriter)
    assert isinstance(said, io.BufferedReader)
    # Of a damaged file git can write less than it said, or more. So it is asked for what is
    # certainly not there as well: that answer, which nothing can know before, ends this one.
    nothing = secrets.token_hex(20)
    asked.write(f"{name}\n{nothing}\n".encode())
    asked.flush()
    end = f"{nothing} missing\n".encode()
    line = said.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    if line == end:
        return None
    words = line.decode("ascii", "replace").split()
    is_there = len(words) == 3 and words[1] in _KINDS
    kind, size = (words[1].encode(), int(words[2])) if is_there else (b"", 0)
    digest = hashlib.sha1(b"%s %d\0" % (kind, size), usedforsecurity=False)
    parts = []
    left = size
    for piece in _until(said, end):
        content = piece[:left]
        left -= len(content)
        digest.update(content)
        if size <= most:
            parts.append(content)
    if digest.hexdigest() != name:
        return None
    return Read(name, kind, b"".join(parts) if size <= most else None)


def _until(stream: io.BufferedReader, end: bytes) -> Iterator[bytes]:
    """What comes before an end, in pieces."""
    held = b""
    while not held.endswith(end):
        yield held[: -len(end)]
        held = held[-len(end) :]
        piece = stream.read1(_PIECE)
        if not piece:
            raise EOFError
        held += piece
    yield held[: -len(end)]
