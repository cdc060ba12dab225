"""A store on another machine, over SFTP: a real sshd with keys of its own."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.snapshots.test_snapshots import data, fill_stopped, make, refill
from tweakio import ProfileManager
from tweakio.errors import SnapshotError

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip("paramiko")
SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
if SSHD is None or shutil.which("ssh-keygen") is None:
    pytest.skip("sshd is not installed", allow_module_level=True)


class Host:
    """A server that has one directory.

    Attributes:
        port: on which it listens.
        directory: where the store is.
        client: the home directory of who connects, with a key that it takes.
    """

    def __init__(self, place: Path) -> None:
        self.directory = place / "store"
        self.directory.mkdir()
        self.client = place / "client"
        ssh = self.client / ".ssh"
        ssh.mkdir(parents=True, mode=0o700)
        for key in (place / "host", ssh / "id_ed25519"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key]
            subprocess.run(command, check=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        known = (place / "host.pub").read_text()
        (ssh / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {known}")
        settings = {
            "Port": self.port,
            "ListenAddress": "127.0.0.1",
            "HostKey": place / "host",
            "PidFile": "none",
            "AuthorizedKeysFile": ssh / "id_ed25519.pub",
            "StrictModes": "no",
            "UsePAM": "no",
            "PasswordAuthentication": "no",
            "Subsystem": "sftp internal-sftp",
        }
        (place / "config").write_text("".join(f"{k} {v}\n" for k, v in settings.items()))
        self._command = [str(SSHD), "-D", "-e", "-f", str(place / "config")]
        self.start()

    @property
    def url(self) -> str:
        return f"sftp://{getpass.getuser()}@127.0.0.1:{self.port}{self.directory}"

    def start(self) -> None:
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)
        self.process = subprocess.Popen(
            self._command, stderr=subprocess.PIPE, start_new_session=True
        )
        assert self.process.stderr is not None
        while b"listening on" not in (line := self.process.stderr.readline()):
            if not line:
                pytest.skip("sshd does not run here")

    def stop(self) -> None:
        """End it and its connections."""
        assert self.process.stderr is not None
        for process in [self.process.pid, *_children(self.process.pid)]:
            os.kill(process, signal.SIGKILL)
        self.process.wait(10)
        self.process.stderr.close()


def _children(pid: int) -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    made = Host(tmp_path_factory.mktemp("sftp"))
    yield made
    made.stop()


@pytest.fixture
def manager(home: Path, host: Host, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("HOME", str(host.client))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with ProfileManager(home) as found:
        found.create_profile("a", "whatsapp")
        fill_stopped(home, "first")
        found.snapshots.set_store(host.url)
        yield found
    shutil.rmtree(host.directory)
    host.directory.mkdir()


def test_to_another_machine_and_back(manager: ProfileManager, home: Path, host: Host) -> None:
    first = data(home)
    assert manager.snapshots.list("a") == []
    snapshot = make(manager)
    assert (host.directory / "a").stat().st_mode & 0o777 == 0o700
    refill(home, "second")
    newest = make(manager)
    assert manager.snapshots.list("a") == [newest, snapshot]
    assert [found.problem for found in manager.snapshots.verify("a")] == ["", ""]
    manager.snapshots.restore("a", snapshot.name)
    assert data(home) == first
    from tweakio.snapshots.retention import Keep

    assert manager.snapshots.prune("a", Keep(last=1)) == [snapshot]
    assert sorted(os.listdir(host.directory / "a")) == [
        f"{newest.name}.json",
        f"{newest.name}.tar.zst",
    ]


def test_a_link_in_the_place_of_a_profile_is_refused(
    manager: ProfileManager, host: Host, tmp_path: Path
) -> None:
    (host.directory / "a").symlink_to(tmp_path)
    for step in (make, lambda manager: manager.snapshots.list("a")):
        with pytest.raises(SnapshotError, match="symbolic link"):
            step(manager)
    assert list(tmp_path.glob("*.tar.zst")) == []


def test_a_host_that_nobody_knows_is_refused(manager: ProfileManager, host: Host) -> None:
    known = host.client / ".ssh" / "known_hosts"
    content = known.read_text()
    known.write_text("")
    try:
        with pytest.raises(SnapshotError, match="is not in ~/.ssh/known_hosts"):
            make(manager)
    finally:
        known.write_text(content)


def test_a_directory_that_is_not_there(manager: ProfileManager, host: Host) -> None:
    manager.snapshots.set_store(f"{host.url}/unmounted")
    for ask in (make, lambda manager: manager.snapshots.list("a")):
        with pytest.raises(SnapshotError, match="store is not there"):
            ask(manager)
    assert os.listdir(host.directory) == []


def test_a_host_that_goes_and_comes_back(
    manager: ProfileManager, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tweakio.snapshots.remote import Remote

    put_file = Remote.put_file

    def interrupted(self: Remote, profile_id: str, name: str, source: Path) -> None:
        put_file(self, profile_id, name, source)
        host.stop()

    with monkeypatch.context() as patch:
        patch.setattr(Remote, "put_file", interrupted)
        before = time.monotonic()
        with pytest.raises(SnapshotError, match="cannot be used"):
            make(manager)
        assert time.monotonic() - before < 20
    host.start()
    assert manager.snapshots.list("a") == []
    snapshot = make(manager)
    assert manager.snapshots.list("a") == [snapshot]
    assert [found.problem for found in manager.snapshots.verify("a")] == [""]
