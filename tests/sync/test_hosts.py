"""Real hosts: what they say, races that are lost there, certificates, and bad lines to them."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import hosts
from tests.invariants import check
from tests.sync import test_ssh
from tweakio import ProfileManager, clone_repository
from tweakio.errors import InvalidInputError, RemoteError
from tweakio.sync.saying import RejectedError, clean, refused, said_there, unreachable
from tweakio.sync.transport import GitTransport
from tweakio.sync.wire import DulwichTransport

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX host")
server = test_ssh.server

MOVERS = {"git": GitTransport, "dulwich": DulwichTransport}
ALL = pytest.mark.parametrize("mover", MOVERS)
# dulwich leaves pipes of ssh open when that fails.
LEAKS = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(autouse=True)
def collected():
    yield
    gc.collect()


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return hosts.Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def root(tmp_path):
    found = tmp_path / "root"
    found.mkdir()
    return found


@pytest.fixture
def bare(root):
    path = root / "r.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", path], check=True)
    subprocess.run(["git", "-C", path, "config", "http.receivepack", "true"], check=True)
    return path


@pytest.fixture
def host(root, authority, monkeypatch):
    """An https host whose certificate is known; its port."""
    monkeypatch.setenv("GIT_SSL_CAINFO", str(authority.file))
    with hosts.https(root, *authority.issue()) as port:
        yield port


def hook(repository: Path, text: str, name: str = "pre-receive") -> None:
    path = repository / "hooks" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def home_for(place: Path, url: str, mover: str = "git") -> ProfileManager:
    manager = ProfileManager(place)
    manager.create_profile("x", "custom")
    manager.remotes.add("origin", url)
    manager.remotes._transport = MOVERS[mover]()
    return manager


# What the host says


@ALL
def test_a_refusal_shows_what_the_host_says(mover, tmp_path, bare, host):
    hook(bare, r"printf 'only on weekdays\n\033[31mask Ann\033[0m\007 at ext. 12\n' >&2; exit 1")
    with home_for(tmp_path / "a", f"https://localhost:{host}/r.git", mover) as manager:
        for act in (manager.remotes.push, manager.remotes.sync):
            with pytest.raises(RemoteError, match="refused the push") as caught:
                act()
            message = caught.value.message
            assert "only on weekdays" in message
            assert "ask Ann" in message
            assert "hook declined" in message
            assert message.isprintable()
            assert "the host" in caught.value.hint
            assert "sync" not in caught.value.hint
    check(tmp_path / "a")


@ALL
def test_a_branch_that_is_checked_out_there(mover, tmp_path, root, host):
    subprocess.run(["git", "init", "-q", "-b", "main", root / "w"], check=True)
    subprocess.run(["git", "-C", root / "w", "config", "http.receivepack", "true"], check=True)
    with (
        home_for(tmp_path / "a", f"https://localhost:{host}/w", mover) as manager,
        pytest.raises(RemoteError, match="checked out") as caught,
    ):
        manager.remotes.push()
    assert "git init --bare" in caught.value.hint


@ALL
def test_a_full_disk_there(mover, tmp_path, root, host):
    place = root / "full"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", place], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a full disk needs root and a mount")
    try:
        repository = place / "r.git"
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", repository], check=True)
        subprocess.run(["git", "-C", repository, "config", "http.receivepack", "true"], check=True)
        with home_for(tmp_path / "a", f"https://localhost:{host}/full/r.git", mover) as manager:
            with open(place / "fill", "wb", buffering=0) as fill:
                try:
                    while fill.write(bytes(4096)):
                        pass
                except OSError:
                    pass
            with pytest.raises(RemoteError, match="No space left on device") as caught:
                manager.remotes.push()
            assert "the disk of the host is full" in caught.value.hint
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_a_key_that_may_only_read_by_gitolite(tmp_path, server, bare, monkeypatch):
    """As gitolite says it, before git speaks with anybody."""
    deny = tmp_path / "deny"
    deny.write_text(
        "#!/bin/sh\necho 'FATAL: W any r bob DENIED by fallthru' >&2\n"
        "echo '(or you mis-spelled the reponame)' >&2\nexit 1\n"
    )
    deny.chmod(0o755)
    authorized = server.place / "authorized"
    before = authorized.read_text()
    key = (server.place / "other.pub").read_text()
    authorized.write_text(f'{before}restrict,command="{deny}" {key}')
    monkeypatch.setenv("GIT_SSH_COMMAND", server.command("other"))
    try:
        with home_for(tmp_path / "a", server.url(bare)) as manager:
            with pytest.raises(RemoteError, match="FATAL: W any r bob DENIED") as caught:
                manager.remotes.push()
            assert "may read there at most" in caught.value.hint
            assert "mis-spelled" not in str(caught.value)
    finally:
        authorized.write_text(before)


# Races

AWAY = "refs/away/held"


@ALL
@pytest.mark.parametrize("first", [True, False], ids=["first push", "later push"])
def test_a_race_that_is_lost_at_the_host_is_tried_again(first, mover, tmp_path, bare, host):
    url = f"https://localhost:{host}/r.git"
    with home_for(tmp_path / "a", url) as manager:
        manager.remotes.push()
        clone_repository(url, tmp_path / "b")
        if first:
            # Both begin with nothing there: what is here goes to another name until the race.
            for change in ((AWAY, "main"), ("-d", "refs/heads/main")):
                subprocess.run(["git", "-C", bare, "update-ref", *change], check=True)
        else:
            manager.update_profiles(["x"], note="theirs")
            head = manager.repository.head().commit
            fetch = ["git", "-C", bare, "fetch", "-q", manager.layout.profiles]
            subprocess.run([*fetch, f"{head}:{AWAY}"], check=True)
    # Between the host's list of branches and its change of one, somebody else's push arrives.
    hook(
        bare,
        "unset GIT_QUARANTINE_PATH\nif [ ! -e raced ]; then touch raced; "
        f"git update-ref refs/heads/main {AWAY}; fi",
    )
    with ProfileManager(tmp_path / "b") as other:
        other.remotes._transport = MOVERS[mover]()
        other.create_profile("y", "custom")
        other.remotes.sync()
    assert (bare / "raced").exists()
    log = subprocess.run(["git", "-C", bare, "rev-list", "main"], check=True, capture_output=True)
    held = subprocess.run(["git", "-C", bare, "rev-parse", AWAY], check=True, capture_output=True)
    assert held.stdout.strip() in log.stdout.split()
    check(tmp_path / "b")


def test_after_a_push_that_was_interrupted_at_a_slow_host(tmp_path, bare, host):
    hook(bare, "[ -e slow ] || { touch slow; sleep 1.5; }")
    with home_for(tmp_path / "a", f"https://localhost:{host}/r.git") as manager:
        process = subprocess.Popen(
            [sys.executable, "-m", "tweakio", "--home", tmp_path / "a", "repo", "push"],
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        while not (bare / "slow").exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130, process.communicate()
        process.communicate()
        manager.update_profiles(["x"], note="later")
        manager.remotes.sync()
        time.sleep(1.5)  # the interrupted one comes to its end there
        manager.remotes.sync()
        head = subprocess.run(["git", "-C", bare, "rev-parse", "main"], capture_output=True)
        assert head.stdout.decode().strip() == manager.repository.head().commit
    check(tmp_path / "a")


def test_reasons_that_last_are_no_race():
    full = "remote: error: cannot lock ref 'refs/heads/main': No space left on device"
    assert isinstance(refused("failed to update ref", full, "/x"), RemoteError)
    held = "remote: error: cannot lock ref: Unable to create '/r/main.lock': File exists."
    assert isinstance(refused("failed to update ref", held, "/x"), RejectedError)
    for reason in ("stale info", "reference already exists", "fetch first", "incorrect old value"):
        assert isinstance(refused(reason, "", "/x"), RejectedError)
    assert isinstance(refused("protected branch hook declined", "", "/x"), RemoteError)


def test_words_are_bounded_and_inert():
    text = "".join(f"remote: \x1b[2J\x07line {n} https://u:secret@h/x\n" for n in range(1000))
    words = said_there(text)
    assert words.isprintable()
    assert len(words) <= 360
    assert "secret" not in words
    assert words.startswith("?line 0 ")
    assert said_there("fatal: no\n") == ""


# Lines


@ALL
def test_a_cut_line_says_so_and_sync_goes_on(mover, tmp_path, bare, host):
    with hosts.line(host) as line:
        url = f"https://localhost:{line.port}/r.git"
        with home_for(tmp_path / "a", url, mover) as manager:
            manager.update_profiles(["x"], note="n" * 900)
            # A certificate is sent back in these first bytes, so both are cut.
            for after in (0, 300):
                line.cut_after = after
                with pytest.raises(RemoteError) as caught:
                    manager.remotes.push()
                assert "cut" in caught.value.hint, caught.value.message
                assert "Error(" not in caught.value.message
            for after in (1200, 1800, 2400):
                line.cut_after = after
                with contextlib.suppress(RemoteError):
                    manager.remotes.push()
            line.cut_after = None
            manager.remotes.sync()
    check(tmp_path / "a")


@ALL
@LEAKS
@pytest.mark.parametrize("kind", ["ssh", "https"])
def test_a_silent_host_has_its_time(kind, mover, tmp_path, monkeypatch):
    monkeypatch.setenv("TWEAKIO_TIMEOUT", "2")
    monkeypatch.delenv("GIT_SSH_COMMAND", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"{kind}://127.0.0.1:{silent.getsockname()[1]}/r.git"
        began = time.monotonic()
        with pytest.raises(RemoteError) as caught:
            MOVERS[mover]().branches(url, tmp_path)
        assert time.monotonic() - began < 12
        text = f"{caught.value.message} {caught.value.hint}"
        assert "127.0.0.1" in text
        assert "network" in text
    if mover == "git":
        assert "TWEAKIO_TIMEOUT" in caught.value.hint or "timed out" in caught.value.message


def test_the_time_is_of_the_whole_command(tmp_path):
    slow = tmp_path / "git"
    # Each question starts it twice. On a busy machine a start may take a second.
    slow.write_text("#!/bin/sh\nsleep 1.2\n")
    slow.chmod(0o755)
    transport = GitTransport(str(slow), seconds=4.5)
    transport.branches("/x", tmp_path)
    with pytest.raises(RemoteError, match="waited 4 seconds for /x"):
        transport.branches("/x", tmp_path)


@pytest.mark.parametrize("value", ["soon", "0", "nan", "1e9"])
def test_a_time_that_is_none(value, monkeypatch):
    monkeypatch.setenv("TWEAKIO_TIMEOUT", value)
    with pytest.raises(InvalidInputError, match="TWEAKIO_TIMEOUT"):
        GitTransport()


# Who the host is

CERTIFICATES = {
    "expired": ({"expired": True}, True, "clock"),
    "of another host": ({"name": "elsewhere.example"}, True, "of another host"),
    "of somebody unknown": ({}, False, "http.sslCAInfo"),
}


@ALL
@pytest.mark.parametrize("name", CERTIFICATES)
def test_a_certificate_that_does_not_do(name, mover, tmp_path, root, bare, authority, monkeypatch):
    options, known, hint = CERTIFICATES[name]
    if known:
        monkeypatch.setenv("GIT_SSL_CAINFO", str(authority.file))
    else:
        monkeypatch.delenv("GIT_SSL_CAINFO", raising=False)
    with hosts.https(root, *authority.issue(**options)) as port:
        with pytest.raises(RemoteError) as caught:
            MOVERS[mover]().branches(f"https://localhost:{port}/r.git", tmp_path)
    assert hint in caught.value.hint, caught.value.message
    assert "Error" not in caught.value.message.replace("error:", "")


@ALL
def test_the_user_s_own_authority(mover, tmp_path, root, bare, authority, monkeypatch):
    (tmp_path / ".gitconfig").write_text(f"[http]\n\tsslCAInfo = {authority.file}\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("GIT_CONFIG_GLOBAL", "XDG_CONFIG_HOME", "GIT_SSL_CAINFO"):
        monkeypatch.delenv(name, raising=False)
    with hosts.https(root, *authority.issue()) as port:
        MOVERS[mover]().branches(f"https://localhost:{port}/r.git", tmp_path)


@ALL
@LEAKS
def test_a_host_whose_key_has_changed(mover, tmp_path, server, bare, monkeypatch):
    kind, key = (server.place / "other.pub").read_text().split()[:2]
    (server.place / "changed").write_text(f"[127.0.0.1]:{server.port} {kind} {key}\n")
    monkeypatch.setenv("GIT_SSH_COMMAND", f"{server.command(known='changed')} -o BatchMode=yes")
    with pytest.raises(RemoteError, match="HAS CHANGED") as caught:
        MOVERS[mover]().branches(server.url(bare), tmp_path)
    assert "SHA256:" in caught.value.message
    assert "changed:1" in caught.value.message  # the line of the file
    assert "do not connect" in caught.value.hint
    assert "take it on" not in caught.value.hint


def test_each_kind_has_a_hint_of_its_own():
    texts = (
        "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
        "Host key verification failed.",
        "fatal: unable to access 'https://h/': SSL certificate problem: certificate has expired",
        "fatal: unable to access 'https://h/': SSL: certificate does not match target host name",
        "fatal: unable to access 'https://h/': SSL certificate problem: unable to get local issuer",
        "fatal: early EOF",
        "fatal: '/r' does not appear to be a git repository",
        "FATAL: W any r bob DENIED by fallthru\n(or you mis-spelled the reponame)",
        "FATAL: R any r bob DENIED by fallthru\n(or you mis-spelled the reponame)",
        "ssh: connect to host h port 22: Connection refused",
    )
    assert len({unreachable(text, "/x").hint for text in texts}) == len(texts)
    assert clean("fatal: the remote end hung up unexpectedly") == "the connection was cut"
