"""Lines of standard input: from a pipe, from a file, and from nowhere."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from cli_helpers import ROOT

PROGRAM = """\
import asyncio, sys
from tweakio.cli.asking import SecretLines

async def main():
    lines = SecretLines()
    for _ in range(3):
        try:
            print(ascii(await asyncio.wait_for(lines.next(), 20)))
        except EOFError:
            print("end")

if "closed" in sys.argv:
    sys.stdin = None
asyncio.run(main())
"""


def ask(*arguments: str, **stdin: object) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        capture_output=True,
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"},
        **stdin,
    )
    return done.stdout.decode().splitlines()


@pytest.mark.parametrize(
    ("given", "lines"),
    [
        (b"one\ntwo\n", ["'one'", "'two'", "end"]),
        (b"one\r\n two \nthree", ["'one'", "' two '", "'three'"]),
        (b"\n\xff\n", ["''", r"'\udcff'", "end"]),
        ("\u00fc\n".encode(), [r"'\xfc'", "end", "end"]),
        (b"", ["end", "end", "end"]),
    ],
)
def test_lines(given, lines, tmp_path):
    assert ask(input=given) == lines
    file = tmp_path / "password.txt"
    file.write_bytes(given)
    with file.open("rb") as stream:
        assert ask(stdin=stream) == lines


def test_nobody_to_ask():
    assert ask("closed", stdin=subprocess.DEVNULL) == ["end", "end", "end"]
    assert ask(stdin=subprocess.DEVNULL) == ["end", "end", "end"]
