"""Signals end what runs in order: once, and after it has closed what it opened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from cli_helpers import ROOT

PROGRAM = """\
import asyncio, os, signal, sys
from tweakio import cli
from tweakio.cli import interruptible

async def work():
    print("begun", flush=True)
    try:
        await asyncio.sleep(60)
    finally:
        print("closing", flush=True)
        sys.stdin.readline()
        await asyncio.sleep(0)
        print("closed", flush=True)

cli._run = lambda given: interruptible.run(work)
sys.exit(cli.main([]))
"""


def begin(**options):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        **options,
    )
    assert process.stdout.readline() == "begun\n"
    return process


@pytest.mark.parametrize(
    ("number", "code"), [("SIGINT", 130), ("SIGTERM", "SIGTERM"), ("SIGHUP", "SIGHUP")]
)
def test_each_closes_what_is_open(number, code):
    with begin() as process:
        process.send_signal(getattr(signal, number))
        assert process.stdout.readline() == "closing\n"
        # An impatient person does not leave a browser half closed.
        process.send_signal(signal.SIGINT)
        process.send_signal(getattr(signal, number))
        out, err = process.communicate("\n", timeout=20)
    assert out == "closed\n"
    assert process.returncode == (code if isinstance(code, int) else -getattr(signal, code))
    assert err == ("tweakio: interrupted\n" if number == "SIGINT" else "")


def test_nohup_is_respected():
    ignore = "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN);"
    run = f"{ignore} os.execv(sys.executable, [sys.executable, '-c', sys.argv[1]])"
    process = subprocess.Popen(
        [sys.executable, "-c", run, PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    with process:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate("\n", timeout=20)
    assert out == "closing\nclosed\n"
    assert process.returncode == -signal.SIGTERM
