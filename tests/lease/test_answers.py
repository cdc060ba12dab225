"""A Redis that answers no: each kind is named, and has a hint of its own."""

from __future__ import annotations

import os
import socket
import time

import pytest

from tests import hosts
from tests.lease.conftest import running
from tweakio import InvalidInputError, LeaseError, ProfileManager
from tweakio.lease.answers import explain
from tweakio.lease.shared import RedisBackend

SECRET = "hunter2-of-redis"


def refused(url: str, seconds: float = 5.0) -> LeaseError:
    backend = RedisBackend(url, timeout=seconds)
    with pytest.raises(LeaseError) as caught:
        backend.acquire("a", "x/1/y", 5.0)
    backend.close()
    assert SECRET not in str(caught.value)
    assert caught.value.exit_code == 37
    return caught.value


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    """One with users."""
    with running(
        tmp_path_factory.mktemp("acl"), "--requirepass", SECRET,
        "--user", "reader", "on", f">{SECRET}", "~*", "+@read", "+@connection",
    ) as server:  # fmt: skip
        yield server


def test_passwords_and_permissions(locked):
    host = f"127.0.0.1:{locked.port}/0"
    for url in (f"redis://{host}", f"redis://:wrong@{host}", f"redis://nobody:{SECRET}@{host}"):
        error = refused(url)
        assert error.message == "Redis refuses the password"
        assert "env:NAME" in error.hint
    error = refused(f"redis://reader:{SECRET}@{host}")
    assert "does not let this user" in error.message
    assert "ACL SETUSER" in error.hint
    assert RedisBackend(f"redis://:{SECRET}@{host}", timeout=5).acquire("a", "x/1/y", 1.0)


def test_the_permissions_that_the_hint_names_are_enough(locked):
    import redis

    client = redis.Redis.from_url(f"redis://:{SECRET}@127.0.0.1:{locked.port}/0")
    rules = refused(f"redis://reader:{SECRET}@127.0.0.1:{locked.port}/0").hint.split(" NAME ")[1]
    client.execute_command("ACL", "SETUSER", "made", "on", f">{SECRET}", *rules.split())
    client.close()
    backend = RedisBackend(f"redis://made:{SECRET}@127.0.0.1:{locked.port}/0", timeout=5)
    token = backend.acquire("p", "x/1/y", 5.0)
    assert token
    assert backend.renew("p", token, 5.0)
    assert backend.read(["p"])["p"].token == token
    assert backend.release("p", token)
    backend.close()


def test_a_database_that_there_is_not(redis_url):
    error = refused(redis_url.rsplit("/", 1)[0] + "/99")
    assert "no database of this number" in error.message


def test_a_replica(tmp_path):
    (tmp_path / "r").mkdir()
    with running(tmp_path / "r", "--replicaof", "127.0.0.1", "1") as replica:
        error = refused(replica.url)
    assert "replica" in error.message
    assert "primary" in error.hint


def test_one_that_is_full(tmp_path):
    (tmp_path / "r").mkdir()
    with running(tmp_path / "r", "--maxmemory", "1", "--maxmemory-policy", "noeviction") as full:
        assert "takes no changes" in refused(full.url).message


def test_certificates(tmp_path):
    authority = hosts.Authority(tmp_path / "ca")
    kinds = {
        "localhost": ({}, None),
        "elsewhere": ({"name": "elsewhere.example"}, "of another host"),
        "expired": ({"expired": True}, "has expired"),
    }
    for name, (options, message) in kinds.items():
        certificate, key = authority.issue(**options)
        place = tmp_path / name
        place.mkdir()
        tls = ("--port", "0", "--tls-port", "PORT", "--tls-cert-file", os.fspath(certificate),
               "--tls-key-file", os.fspath(key), "--tls-ca-cert-file", os.fspath(authority.file),
               "--tls-auth-clients", "no")  # fmt: skip
        with running(place, *tls) as server:
            if server.process.poll() is not None:
                pytest.skip("this redis-server has no TLS")
            base = f"rediss://localhost:{server.port}/0"
            url = f"{base}?ssl_ca_certs={authority.file}"
            if message is not None:
                assert message in refused(url).message
                continue
            unknown = refused(base)
            assert "by nobody who is known here" in unknown.message
            assert "ssl_ca_certs=FILE" in unknown.hint
            backend = RedisBackend(url, timeout=5)  # as the hint says
            assert backend.acquire("a", "x/1/y", 1.0)
            backend.close()
            assert "ended the connection" in refused(f"redis://localhost:{server.port}/0").message
            missing = refused(f"{base}?ssl_ca_certs={tmp_path}/none.pem")
            assert "a file of certificates" in missing.message


def test_tls_where_there_is_none(redis_url):
    error = refused(redis_url.replace("redis:", "rediss:"), 0.5)
    assert "does not answer" in error.message  # it waits for more of what it takes for a command
    assert "no TLS" in error.hint


def test_nothing_is_there(redis):
    redis.end()
    assert "nothing listens" in refused(redis.url).message
    with socket.create_server(("127.0.0.1", 0)) as silent:
        error = refused(f"redis://127.0.0.1:{silent.getsockname()[1]}/0", 0.3)
    assert "waited 0.3 s for Redis" in error.message


@pytest.mark.parametrize("option", ["nonsense=1", "ssl_ca_certz=x", "socket_timeout=never"])
def test_an_option_that_there_is_not(option, tmp_path, monkeypatch):
    pytest.importorskip("redis")
    monkeypatch.setenv("LEASES", f"redis://:{SECRET}@127.0.0.1:1/0?{option}")
    with ProfileManager(tmp_path / "h") as manager:
        manager.create_profile("a", "custom")
        with pytest.raises(InvalidInputError, match="cannot be used") as caught:
            manager.leases.use("env:LEASES")
    assert SECRET not in str(caught.value)
    assert "options" in caught.value.hint


def test_a_far_redis_is_asked_no_more_than_it_has_to(tmp_path, redis_url):
    port = int(redis_url.rsplit(":", 1)[1].split("/")[0])
    with hosts.line(port) as line, ProfileManager(tmp_path / "h") as manager:
        manager.create_profile("a", "custom")
        manager.leases.use(f"redis://127.0.0.1:{line.port}/0")
        line.pieces, line.delay = 0, 0.1
        began = time.monotonic()
        manager.activate_profile("a")
        manager.deactivate_profile()
        # The lease, its confirmation before each commit, and its end.
        assert line.pieces <= 4
        assert time.monotonic() - began < 5


def test_what_redis_says_otherwise():
    for text, message in (
        ("LOADING Redis is loading the dataset in memory", "not ready"),
        ("MOVED 1 10.0.0.1:1", "cluster"),
        ("max number of clients reached", "as many clients"),
        ("unknown command 'EVAL'", "too old"),
        ("something new", "does not answer (RuntimeError)"),
    ):
        assert message in explain(RuntimeError(text), 1.0).message
