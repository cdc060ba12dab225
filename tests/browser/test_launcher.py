"""The lock's descriptor goes into the program that is started, and stays there."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys

import pytest

from tests.browsers import wait_until
from tweakio.browser import launcher
from tweakio.browser.launcher import Launcher, can_hand_over
from tweakio.store.system_lock import is_held

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="not on Windows")


@pytest.fixture
def locked(tmp_path):
    """A locked file and its descriptor."""
    path = tmp_path / ".lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield path, descriptor
    try:
        os.close(descriptor)
    except OSError:
        return


def start(found, *arguments):
    """As Playwright does: nothing but the standard streams is inherited."""
    return subprocess.Popen([found.program, *arguments], close_fds=True)


def test_the_program_keeps_the_lock_when_we_are_gone(locked):
    path, descriptor = locked
    pids = []
    with Launcher("/bin/sleep", descriptor, pids.append) as found:
        process = start(found, "1000")
        wait_until(lambda: pids)
        with open(f"/proc/{process.pid}/comm") as file:
            wait_until(lambda: (file.seek(0), file.read())[1].strip() == "sleep")
    try:
        assert pids == [process.pid]
        os.close(descriptor)
        assert is_held(path)
        opened = {
            os.readlink(f"/proc/{process.pid}/fd/{name}")
            for name in os.listdir(f"/proc/{process.pid}/fd")
        }
        assert str(path) in opened
        assert not any("socket" in target for target in opened)
    finally:
        process.kill()
        process.wait()
    assert not is_held(path)
    assert not os.path.exists(found.program)


def test_arguments_and_names_with_blanks_arrive(tmp_path, locked):
    target = tmp_path / "a browser's $(name)"
    target.write_text('#!/bin/sh\nprintf "%s\\n" "$@" >"$0.out"\n')
    target.chmod(0o755)
    with Launcher(str(target), locked[1], lambda _: None) as found:
        assert start(found, "a b", "'$HOME'", "", "ü").wait() == 0
    assert (tmp_path / "a browser's $(name).out").read_text() == "a b\n'$HOME'\n\nü\n"


def test_nothing_runs_if_it_cannot_be_noted(tmp_path, locked, capfd):
    def refuse(_):
        raise OSError(28, "no space left")

    with Launcher("/bin/echo", locked[1], refuse) as found:
        assert start(found, "it runs").wait() != 0
    assert isinstance(found.failure, OSError)
    assert "it runs" not in capfd.readouterr().out


def test_a_program_that_is_not_there_is_an_error(locked, capfd):
    with Launcher("/no/browser", locked[1], lambda _: None) as found:
        assert start(found).wait() == 1
    assert "/no/browser: No such file" in capfd.readouterr().err


def test_after_giving_up_nothing_runs(locked, capfd):
    with Launcher("/bin/echo", locked[1], lambda _: None) as found:
        with open(found.program) as file:
            script = file.read()
    again = subprocess.run(["/bin/sh", "-c", script, "x", "it runs"], check=False)
    assert again.returncode != 0
    assert "it runs" not in capfd.readouterr().out


def test_another_users_process_gets_nothing(monkeypatch):
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        theirs.sendall(b"%d\n" % os.getpid())
        assert launcher._peer(ours) == os.getpid()
        theirs.sendall(b"1\n")
        monkeypatch.setattr(launcher.os, "geteuid", lambda: 4711)
        assert launcher._peer(ours) is None
        # Where the system does not tell, the private directory has to do.
        theirs.sendall(b"4712\n")
        assert launcher._peer(ours, platform="darwin") == 4712
        theirs.close()
        assert launcher._peer(ours) is None


def test_a_directory_without_programs_is_not_used(tmp_path, monkeypatch):
    long = tmp_path / ("x" * 120)
    long.mkdir()
    good = tmp_path / "good"
    good.mkdir()
    monkeypatch.setattr(
        launcher, "temporary_parents", lambda: map(str, (tmp_path / "no", long, good))
    )
    found = launcher._private_directory()
    assert os.path.dirname(found) == str(good)
    assert os.stat(found).st_mode & 0o777 == 0o700
    monkeypatch.setattr(launcher, "temporary_parents", lambda: [str(tmp_path / "no")])
    with pytest.raises(FileNotFoundError):
        launcher._private_directory()


@pytest.mark.parametrize(
    ("platform", "frozen", "expected"),
    [
        ("linux", False, True),
        ("darwin", False, True),
        ("win32", False, False),
        ("linux", True, False),
    ],
)
def test_where_it_can_be_done(platform, frozen, expected):
    assert can_hand_over(platform=platform, frozen=frozen) is expected
