"""Whatever whoever starts us did to signals and descriptors, what we run is told apart."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_helpers import COMMAND, Cli, environment

from tweakio.children import prepare_signals

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")

# As `trap '' CHLD`, and programs that start us with signals held back or descriptors closed.
BEFORE = """
import os, signal, sys
for name in ("SIGCHLD", "SIGPIPE", "SIGHUP"):
    signal.signal(getattr(signal, name), signal.SIG_IGN)
if "mask" in sys.argv[1]:
    signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
if "closed" in sys.argv[1]:
    for descriptor in (0, 1, 2):
        os.close(descriptor)
os.execv(sys.argv[2], sys.argv[2:])
"""


def started_badly(base: Path, how: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BEFORE, how, *arguments],
        env=environment(base),
        cwd=base,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    made = Cli(tmp_path)
    made.create("a")
    subprocess.run(
        ["git", "init", "-q", "--bare", "-b", "main", "remote"], cwd=tmp_path, check=True
    )
    made.ok("repo", "remote", "add", "origin", str(tmp_path / "remote"))
    return made


@pytest.mark.parametrize("how", ["ignored", "ignored,mask", "ignored,mask,closed"])
def test_a_remote_is_not_blamed_for_what_our_parent_ignores(cli: Cli, how: str) -> None:
    done = started_badly(cli.base, how, *COMMAND, "repo", "push")
    # What it says cannot be written where descriptors are closed.
    assert done.returncode == (17 if "closed" in how else 0), done.stderr
    there = cli.base / "remote" / "refs" / "heads" / "main"
    assert there.read_text().strip() == cli.head()
    (cli.base / "remote").rename(cli.base / "moved")
    done = started_badly(cli.base, how, *COMMAND, "repo", "push")
    assert done.returncode == 39
    if "closed" not in how:
        assert "cannot reach" in done.stderr


def test_a_hook_of_ours_refuses_in_the_same_surroundings(cli: Cli) -> None:
    (cli.profiles / "a" / "session.json").write_text("{}")
    git = ["git", "-C", str(cli.profiles)]
    subprocess.run([*git, "add", "-f", "a/session.json"], check=True)
    done = started_badly(cli.base, "ignored", "/usr/bin/env", *git, "commit", "-qm", "by hand")
    assert done.returncode != 0
    assert "session.json" in done.stderr


PROGRAM = """
import signal, sys, threading
from tweakio import ProfileManager
def push():
    with ProfileManager() as manager:
        try:
            manager.remotes.push()
            print("pushed")
        except Exception as error:
            print(type(error).__name__, error)
if "thread" in sys.argv:
    thread = threading.Thread(target=push)
    thread.start()
    thread.join()
else:
    push()
print(signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN)
"""


def test_a_program_that_ignores_the_end_of_its_children(cli: Cli) -> None:
    done = started_badly(cli.base, "ignored", sys.executable, "-c", PROGRAM)
    assert done.stdout.splitlines() == ["pushed", "True"], done.stderr
    done = started_badly(cli.base, "ignored", sys.executable, "-c", PROGRAM, "thread")
    said = done.stdout.splitlines()[0]
    assert said.startswith("StorageError the exit code of git cannot be read"), done.stderr


REAPER = """
import os, threading, time
from tweakio import ProfileManager
def reap():
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            time.sleep(0.001)
threading.Thread(target=reap, daemon=True).start()
with ProfileManager() as manager:
    try:
        manager.remotes.push()
        print("pushed")
    except Exception as error:
        print(type(error).__name__)
"""


def test_a_program_that_waits_for_the_children_of_others(cli: Cli) -> None:
    (cli.base / "remote").rename(cli.base / "moved")
    # Either of the two gets the exit code; that it was pushed is no possible answer.
    said = cli.python(REAPER).out.strip()
    assert said in ("StorageError", "RemoteError")


def test_what_goes_on_in_the_background_stays_ignored() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGCHLD)}
    try:
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        prepare_signals()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
