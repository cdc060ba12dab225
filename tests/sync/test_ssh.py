"""Over ssh, with a real sshd: what works, and how it fails."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_helpers import Cli
from login.screen import Screen

from tests.invariants import check, git
from tweakio import ProfileManager, clone_repository
from tweakio.errors import RemoteError
from tweakio.sync.transport import GitTransport

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs sshd")
_SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/libexec")

# What a host does with a key that may only read.
_READS = (
    "case $SSH_ORIGINAL_COMMAND in git-upload-pack*) eval $SSH_ORIGINAL_COMMAND;; "
    "*) echo 'ERROR: this key may only read' >&2; exit 1;; esac"
)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Server:
    """An sshd of our own, with keys that are thrown away."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.port = _free_port()
        phrases = {"host": "", "mine": "", "other": "", "reader": "", "locked": "secret"}
        for name, phrase in phrases.items():
            made = ["ssh-keygen", "-q", "-t", "ed25519", "-N", phrase, "-f", str(place / name)]
            subprocess.run(made, check=True)
        known = [(place / f"{name}.pub").read_text() for name in ("mine", "locked")]
        reader = (place / "reader.pub").read_text()
        (place / "authorized").write_text(f'{"".join(known)}restrict,command="{_READS}" {reader}')
        kind, key = (place / "host.pub").read_text().split()[:2]
        (place / "known").write_text(f"[127.0.0.1]:{self.port} {kind} {key}\n")
        (place / "nobody").write_text("")
        (place / "config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {place}/host\nPidFile none\n"
            f"AuthorizedKeysFile {place}/authorized\nStrictModes no\nUsePAM no\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n"
        )
        assert _SSHD is not None
        with (place / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [_SSHD, "-D", "-e", "-f", str(place / "config")], stderr=log
            )
        end = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > end:
                    self.process.kill()
                    self.process.wait()
                    pytest.skip(f"sshd does not run: {(place / 'log').read_text()[-200:]}")
                time.sleep(0.02)  # it says nothing on a pipe when it listens

    def command(self, key: str = "mine", known: str = "known") -> str:
        return (
            f"ssh -F none -o IdentitiesOnly=yes -i {shlex.quote(str(self.place / key))} "
            f"-o UserKnownHostsFile={shlex.quote(str(self.place / known))} "
            "-o GlobalKnownHostsFile=/dev/null"
        )

    def url(self, path: Path) -> str:
        return f"ssh://127.0.0.1:{self.port}{path}"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    if _SSHD is None or shutil.which("ssh") is None:
        pytest.skip("needs OpenSSH's sshd")
    if os.geteuid() == 0:
        # Absent where no sshd runs as a service; without it one that root starts ends.
        os.makedirs("/run/sshd", exist_ok=True)
    found = Server(tmp_path_factory.mktemp("sshd"))
    yield found
    found.process.terminate()
    found.process.wait()


@pytest.fixture
def remote(tmp_path):
    path = tmp_path / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", path], check=True)
    return path


@pytest.fixture
def home(tmp_path, server, remote):
    """A home whose remote is reached by ssh, and has everything."""
    with ProfileManager(tmp_path / "a") as manager:
        manager.create_profiles(["x", "y"], "custom")
        manager.remotes.add("origin", server.url(remote))
        yield manager


def test_there_and_back(tmp_path, server, remote, home, monkeypatch):
    monkeypatch.setenv("GIT_SSH_COMMAND", server.command())
    home.remotes.push()
    assert clone_repository(server.url(remote), tmp_path / "b").profiles == 2
    with ProfileManager(tmp_path / "b") as other:
        other.update_profiles(["x"], note="by ssh")
        other.remotes.sync()
    assert home.remotes.pull().changed == ("x",)
    check(tmp_path / "b")


def test_a_key_that_may_only_read(server, remote, home, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_SSH_COMMAND", server.command())
    home.remotes.push()
    monkeypatch.setenv("GIT_SSH_COMMAND", server.command("reader"))
    clone_repository(server.url(remote), tmp_path / "b")
    with ProfileManager(tmp_path / "b") as other:
        other.update_profiles(["x"], note="theirs")
        with pytest.raises(RemoteError, match="this key may only read$"):
            other.remotes.push()
        other.remotes.pull()
    check(tmp_path / "b")


FAILURES = {
    "wrong key": ({"key": "other"}, "Permission denied (publickey)", "your key"),
    "unknown host": ({"known": "nobody"}, "Host key verification failed", "by hand"),
    "a passphrase and no terminal": ({"key": "locked"}, "Permission denied", "your key"),
}


@pytest.mark.parametrize("name", [*FAILURES, "no repository", "no host"])
def test_what_fails_says_why_in_one_line_and_changes_nothing(
    name, tmp_path, server, remote, home, monkeypatch
):
    options, why, hint = FAILURES.get(name, ({}, "", ""))
    monkeypatch.setenv("GIT_SSH_COMMAND", server.command(**options))
    if name == "no repository":
        home.remotes.remove("origin")
        home.remotes.add("origin", server.url(tmp_path / "nothing.git"))
        why, hint = "does not appear to be a git repository", "that exists"
    if name == "no host":
        home.remotes.remove("origin")
        home.remotes.add("origin", f"ssh://127.0.0.1:{_free_port()}{remote}")
        why, hint = "Connection refused", "network"
    head = home.repository.head().commit
    url = home.remotes.list()[0].url
    for act in (
        home.remotes.push,
        home.remotes.pull,
        home.remotes.sync,
        lambda: clone_repository(url, tmp_path / "b"),
    ):
        with pytest.raises(RemoteError) as caught:
            act()
        assert why in caught.value.message
        assert hint in caught.value.hint
        assert "\n" not in caught.value.message
    assert home.repository.head().commit == head
    assert not (tmp_path / "b").exists()
    check(home.home)


def test_a_passphrase_at_a_terminal(tmp_path, server, home):
    """ssh asks the person itself, unseen; what is shown meanwhile does not hide it."""
    home.close()
    cli = Cli(tmp_path)
    locked = {
        "TWEAKIO_HOME": str(home.home),
        "GIT_SSH_COMMAND": server.command("locked"),
        "SSH_ASKPASS_REQUIRE": "never",
    }
    prompt = b"Enter passphrase for key"
    with Screen(cli, "repo", "sync", rows=24, columns=80, **locked) as screen:
        # A wrong one once, then one for each of git's connections: of a new remote it is asked
        # as well whether it has a branch of another name.
        for count, answer in enumerate(("wrong\n", "secret\n", "secret\n", "secret\n"), 1):
            screen.wait_for(lambda count=count: screen.raw.count(prompt) == count)
            # The question stays: nothing is drawn while it stands.
            asked = len(screen.raw)
            time.sleep(0.4)
            # Its end may be on a line of its own.
            screen.wait_for(lambda: prompt.decode() in "".join(screen.text.splitlines()[-2:]))
            assert len(screen.raw) <= asked + 100
            assert b"\x1b[2K" not in screen.raw
            screen.type(answer)
        assert screen.end() == 0, screen.text
        assert b"secret" not in screen.raw
        assert "syncing with origin, ssh://127.0.0.1" in screen.text
        assert screen.raw.count(prompt) == 4
    with Screen(cli, "repo", "pull", rows=24, columns=80, **locked) as screen:
        screen.wait_for(lambda: prompt in screen.raw)
        screen.type("\x03")
        assert screen.end() == 130, screen.text
        assert b"Traceback" not in screen.raw
    check(home.home)


def test_interrupted_while_it_waits_for_the_host(tmp_path, home):
    """Ctrl-C ends git and ssh as well, and nothing is left."""
    home.close()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        git(home.layout.profiles, "config", "remote.origin.url",
            f"ssh://127.0.0.1:{silent.getsockname()[1]}/x.git")  # fmt: skip
        process = subprocess.Popen(
            [sys.executable, "-m", "tweakio", "--home", str(home.home), "repo", "pull"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "GIT_SSH_COMMAND": "ssh -F none"},
        )  # fmt: skip
        silent.settimeout(20)
        connection, _ = silent.accept()  # ssh is there, and waits
        with connection:
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
            assert process.returncode == 130
            assert "Traceback" not in err
            assert out == ""
            connection.settimeout(10)
            while connection.recv(1000):
                pass  # ends with ssh
    assert not list((home.layout.git_dir / "tweakio" / "incoming").glob("*"))
    check(home.home)


def test_interrupted_before_the_start_of_git_was_noted(tmp_path, home, monkeypatch):
    """Git has a session of its own then: nobody else would end it."""
    started = []

    class Interrupted(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            started.append(self)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setenv("GIT_SSH_COMMAND", "ssh -F none")
    monkeypatch.setattr(sys, "stdin", None)
    # Run in the background, a shell's children ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"ssh://127.0.0.1:{silent.getsockname()[1]}/x.git"
            monkeypatch.setattr(subprocess, "Popen", Interrupted)
            with pytest.raises(KeyboardInterrupt):
                GitTransport().branches(url, home.layout.git_dir)
            (process,) = started
            assert process.returncode == -signal.SIGTERM
    finally:
        signal.signal(signal.SIGINT, before)
        for process in started:
            with process:  # closes its pipes
                process.kill()
