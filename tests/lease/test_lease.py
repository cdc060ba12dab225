"""Leases against a real Redis and in files, between processes and homes."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from cli_helpers import environment

from tweakio import LeaseError, LeaseLostError, ProfileManager
from tweakio.errors import InvalidInputError
from tweakio.layout import Layout
from tweakio.lease.backends import check_url, open_backend
from tweakio.lease.shared import RedisBackend

HOLD = """
import sys
from tweakio import LeaseLostError, ProfileManager
manager = ProfileManager(sys.argv[1])
manager.activate_profile("a")
print("held", flush=True)
sys.stdin.readline()
try:
    manager.record_login("a")
    print("committed", flush=True)
except LeaseLostError:
    print("refused", flush=True)
manager.close()
"""


@pytest.fixture
def homes(redis_url, tmp_path):
    """Two machines, as far as a lease can tell."""
    with ProfileManager(tmp_path / "one") as one, ProfileManager(tmp_path / "two") as two:
        for manager in (one, two):
            manager.create_profile("a", "custom")
            manager.leases.use(redis_url, ttl=1.5)
        yield one, two
        for item in one.leases.status().leases:
            one.leases.release(item.profile_id, force=True)


def hold(home: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", HOLD, str(home)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(home.parent),
    )  # fmt: skip
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("kind", ["file", "redis"])
def test_a_backend(kind, tmp_path, request):
    layout = Layout(tmp_path)
    layout.local.mkdir(parents=True)
    url = request.getfixturevalue("redis_url") if kind == "redis" else kind
    backend = open_backend(url, layout, 1.0)
    first = backend.acquire("p", "x", 5.0)
    assert first is not None
    assert backend.acquire("p", "y", 5.0) is None
    assert backend.read(["q", "p"])["p"][:2] == ("x", first)
    assert list(backend.read(["q", "p"])) == ["p"]
    assert backend.renew("p", first, 0.05)
    time.sleep(0.1)  # its time to live is over
    assert backend.read(["p"]) == {}
    assert not backend.renew("p", first, 5.0)
    second = backend.acquire("p", "y", 5.0)
    assert second > first
    assert not backend.release("p", first)
    assert backend.release("p", second)
    third = backend.acquire("p", "x", 5.0)
    assert third > second
    assert backend.release("p", third)


def test_one_machine_at_a_time_and_release_on_close(homes):
    one, two = homes
    one.activate_profile("a")
    with pytest.raises(LeaseError) as error:
        two.activate_profile("a")
    assert f"process {os.getpid()} on {socket.gethostname()}" in str(error.value)
    assert not two.locks.is_locked("a")
    first = one.leases.status().leases[0].token
    time.sleep(1.3)  # longer than its time to live: it was renewed
    assert one.leases.status().leases[0].token == first
    one.close()
    assert two.leases.status().leases == []
    two.activate_profile("a")
    assert two.leases.status().leases[0].token > first
    log = subprocess.run(
        ["git", "-C", str(two.layout.profiles), "log", "-1", "--format=%B"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert f"Tweakio-Fence: a {two.leases.status().leases[0].token}" in log


def test_a_stopped_holder_loses_it_and_is_refused(homes):
    one, two = homes
    with hold(one.home) as process:
        token = two.leases.status().leases[0].token
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(1.8)  # nobody renews it, so that its time to live passes
        two.activate_profile("a")
        assert two.leases.status().leases[0].token > token
        os.kill(process.pid, signal.SIGCONT)
        out, _ = process.communicate("\n", 20)
    assert (out, process.returncode) == ("refused\n", 0)
    two.record_login("a")


def test_a_holder_that_dies_lets_it_expire(homes):
    one, two = homes
    with hold(one.home) as process:
        process.kill()
    with pytest.raises(LeaseError):
        two.activate_profile("a")
    time.sleep(1.7)  # until the time to live of the dead one has passed
    two.activate_profile("a")


def test_a_dead_process_of_this_machine_keeps_no_file(home):
    with ProfileManager(home) as manager:
        manager.create_profile("a", "custom")
        manager.leases.use("file", ttl=600.0)
        with hold(home) as process:
            token = manager.leases.status().leases[0].token
            process.kill()
        assert manager.leases.status().leases == []
        manager.activate_profile("a")
        assert [item.token for item in manager.leases.status().leases] == [token + 1]


def test_taken_away_by_force_in_files(home):
    with ProfileManager(home) as manager:
        manager.create_profile("a", "custom")
        manager.leases.use("file", ttl=5.0)
        manager.activate_profile("a")
        lost = threading.Event()
        manager.locks.guard.watch("a", lost.set)
        with pytest.raises(LeaseError):
            manager.leases.release("a")
        manager.leases.release("a", force=True)
        with pytest.raises(LeaseLostError):
            manager.record_login("a")
        assert lost.wait(10)
        with pytest.raises(LeaseLostError):
            manager.deactivate_profile()
        with pytest.raises(LeaseLostError):  # also after it let go
            manager.record_login("a")
        manager.activate_profile("a")
        manager.record_login("a")


@pytest.mark.parametrize("url", ["http://x", "redis://u:secret@x", "redis://x/0?password=secret"])
def test_no_secret_is_kept(url):
    with pytest.raises(InvalidInputError) as error:
        check_url(url)
    assert "secret" not in str(error.value) + error.value.hint


def test_nothing_without_a_backend(manager):
    manager.create_profile("a", "custom")
    manager.activate_profile("a")
    assert manager.locks.guard is None
    assert not manager.layout.leases.exists()


FENCE, LEASE = "tweakio:{a}:fence", "tweakio:{a}:lease"
POISONS = {
    "a last token that is a word": (FENCE, ["SET", FENCE, "abc"]),
    "a last token without end": (FENCE, ["SET", FENCE, "1e308"]),
    "a last token that is infinite": (FENCE, ["SET", FENCE, "inf"]),
    "a last token that is no number": (FENCE, ["SET", FENCE, "nan"]),
    "a last token that is negative": (FENCE, ["SET", FENCE, "-5"]),
    "the last token that can be counted": (FENCE, ["SET", FENCE, str((1 << 53) - 1)]),
    "a last token of a megabyte": (FENCE, ["SET", FENCE, "9" * 1_000_000]),
    "a last token that is a list": (FENCE, ["RPUSH", FENCE, "1"]),
    "a lease that is a text": (LEASE, ["SET", LEASE, "x"]),
    "a lease without a token": (LEASE, ["HSET", LEASE, "holder", "h/1/x"]),
    "a lease that never ends": (LEASE, ["HSET", LEASE, "holder", "h/1/x", "token", "5"]),
    "a token that is a word": (LEASE, ["HSET", LEASE, "holder", "h/1/x", "token", "abc"]),
    "a token of many digits": (LEASE, ["HSET", LEASE, "holder", "h/1/x", "token", "9" * 5000]),
    "a token in other digits": (LEASE, ["HSET", LEASE, "holder", "h/1/x", "token", "\uff15"]),
    "a token that is not text": (LEASE, ["HSET", LEASE, "holder", "h", "token", b"\xff\xfe"]),
    "a holder of a megabyte": (LEASE, ["HSET", LEASE, "holder", "h" * 1_000_000, "token", "5"]),
}


@pytest.mark.parametrize("poison", POISONS)
def test_what_others_write_into_redis_ends_in_an_error_that_names_it(
    tmp_path: Path, redis_url: str, poison: str
) -> None:
    import redis as library

    key, written = POISONS[poison]
    client = library.Redis.from_url(redis_url)
    with ProfileManager(tmp_path / "home") as manager:
        manager.create_profile("a", "custom")
        manager.leases.use(redis_url, ttl=1.5)
        manager.activate_profile("a")
        manager.deactivate_profile()
        client.delete(LEASE)
        try:
            client.delete(key)
            client.execute_command(*written)
            if "never ends" not in poison and key == LEASE:
                client.pexpire(key, 60_000)
            actions = [lambda: manager.activate_profile("a")]
            if key == LEASE:
                actions.append(lambda: manager.leases.status())
                actions.append(lambda: manager.update_profiles(["a"], note="x"))
            for action in actions:
                with pytest.raises(LeaseError) as caught:
                    action()
                assert key in caught.value.message
                assert f"'{key}'" in caught.value.hint
                assert not manager.locks.is_locked("a")
        finally:
            client.delete(FENCE, LEASE)
        manager.activate_profile("a")
        manager.deactivate_profile()
        client.delete(FENCE, LEASE)


def test_a_holder_of_another_alphabet_or_with_a_number_of_any_length_is_somebody_else(
    tmp_path: Path, redis_url: str
) -> None:
    import redis as library

    client = library.Redis.from_url(redis_url)
    with ProfileManager(tmp_path / "home") as manager:
        manager.create_profile("a", "custom")
        manager.leases.use(redis_url, ttl=1.5)
        for holder in (f"{socket.gethostname()}/{'9' * 500}/x"[:500], b"\xff/1/x", "h/\u00b2/x"):
            client.hset(LEASE, mapping={"holder": holder, "token": "5"})
            client.pexpire(LEASE, 60_000)
            with pytest.raises(LeaseError, match="is held by"):
                manager.activate_profile("a")
            assert len(manager.leases.status().leases) == 1
            client.delete(LEASE)


@pytest.mark.parametrize(
    "content",
    [
        '{"holder": "h/1/x", "token": 1e308, "expires": 1}',
        '{"holder": "h/1/x", "token": 1, "expires": Infinity}',
        '{"holder": "h/1/x", "token": 1, "expires": NaN}',
        '{"holder": "h/1/x", "token": true, "expires": 1}',
        '{"holder": 7, "token": 1, "expires": 1}',
        '{"holder": "h/1/x", "token": -1, "expires": 1}',
        '{"holder": "h/1/x", "token": %s, "expires": 1}' % ("9" * 4000),
        "[" * 10_000,
    ],
)
def test_a_lease_file_that_somebody_wrote_is_named(tmp_path: Path, content: str) -> None:
    with ProfileManager(tmp_path / "home") as manager:
        manager.create_profile("a", "custom")
        manager.leases.use("file", ttl=1.5)
        manager.layout.leases.mkdir(mode=0o700)
        path = manager.layout.leases / "a.json"
        path.write_text(content)
        with pytest.raises(LeaseError, match="cannot be read") as caught:
            manager.activate_profile("a")
        assert str(path) in caught.value.hint


def test_over_tls_the_certificate_has_to_be_of_that_host(tmp_path: Path) -> None:
    pytest.importorskip("redis")
    server = tmp_path / "server"
    server.mkdir()
    for name, host in (("right", "IP:127.0.0.1"), ("wrong", "DNS:other.example")):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-days", "1", "-subj", "/CN=x", "-addext", f"subjectAltName={host}",
             "-keyout", server / f"{name}.key", "-out", server / f"{name}.pem"],
            check=True, capture_output=True,
        )  # fmt: skip
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(server / f"{name}.pem", server / f"{name}.key")
        outcome = []
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(10)

            def serve(context: ssl.SSLContext = context, outcome: list[bool] = outcome) -> None:
                with listener.accept()[0] as plain:
                    plain.settimeout(10)
                    try:
                        with context.wrap_socket(plain, server_side=True) as encrypted:
                            outcome.append(bool(encrypted.recv(100)))
                    except OSError:
                        outcome.append(False)

            thread = threading.Thread(target=serve)
            thread.start()
            port = listener.getsockname()[1]
            ca = server / f"{name}.pem"
            backend = RedisBackend(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={ca}", timeout=5)
            with pytest.raises(LeaseError):  # that listener is no Redis
                backend.acquire("a", "x", 5.0)
            thread.join()
        # Whether it was told anything.
        assert outcome == [name == "right"]
