"""Key rings that hang, are locked, or are gone: bounded, named, and never another identity."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from cli_helpers import Cli

pytest.importorskip("pyrage")

# Installed as the program's own package "keyring" would be: imported by it, in its process.
RING = """
import json, os, time
from pathlib import Path

STATE = Path(os.environ["RING"])

class Keyring:
    priority = 5

class KeyringLocked(Exception):
    pass

def _state():
    mode = (STATE / "mode").read_text()
    if mode == "hang":
        time.sleep(600)
    if mode == "locked":
        raise KeyringLocked("the secret AGE-SECRET-KEY-NEVER-SHOWN is locked")
    path = STATE / "kept"
    return json.loads(path.read_text()) if path.exists() and mode != "lost" else {}

def get_keyring():
    mode = (STATE / "mode").read_text()
    if mode == "slow":
        time.sleep(600)
    made = Keyring()
    made.priority = 0 if mode == "none" else 5
    return made

def get_password(service, name):
    return _state().get(f"{service}/{name}")

def set_password(service, name, value):
    found = _state()
    found[f"{service}/{name}"] = value
    (STATE / "kept").write_text(json.dumps(found))
"""
SESSION = '{"cookies": [{"name": "c", "value": "v"}], "origins": []}'


class Ring(Cli):
    """Commands with a key ring whose state is a file."""

    def __init__(self, base: Path) -> None:
        package = base / "packages"
        package.mkdir()
        (package / "keyring.py").write_text(RING)
        root = Path(__file__).resolve().parent.parent.parent
        super().__init__(
            base,
            PYTHONPATH=f"{package}:{root}",
            RING=str(package),
            TWEAKIO_KEYRING_TIMEOUT="0.3",
        )
        self.package = package
        self.set("open")

    def set(self, mode: str) -> None:
        (self.package / "mode").write_text(mode)

    def recipients(self) -> list[str]:
        return self.ok("vault", "recipients", "list").lines


@pytest.fixture
def ring(tmp_path: Path) -> Ring:
    return Ring(tmp_path)


def used(ring: Ring) -> Ring:
    """A home whose identity is in the key ring."""
    ring.create("a")
    (ring.profiles / "a" / "session.json").write_text(SESSION)
    assert "the identity is in key ring" in ring.ok("vault", "init").out
    return ring


REASONS = {
    "hang": "the system's key ring did not answer in 0.3 seconds",
    "slow": "the system's key ring did not answer in 0.3 seconds",
    "locked": "the system's key ring cannot be used (KeyringLocked)",
    "none": "the system's key ring is not there",
    "lost": "was kept in the system's key ring, and is not there now",
}


@pytest.mark.parametrize("mode", REASONS)
def test_where_a_key_ring_was_used_none_that_fails_leads_to_another_identity(
    ring: Ring, mode: str
) -> None:
    used(ring)
    before = ring.recipients()
    ring.set(mode)
    began = time.monotonic()
    (ring.profiles / "a" / "session.json").unlink()
    for arguments in (["init"], ["init", "--file"], ["restore"]):
        done = ring.run("vault", *arguments)
        assert done.code == 33, done
        assert "key ring" in done.err
        assert "TWEAKIO_IDENTITY" in done.err
        assert "NEVER-SHOWN" not in done.err
    status = ring.ok("vault", "status")
    assert REASONS[mode] in status.err
    assert "identity\tkey ring" in status.out
    assert "is a recipient\tunknown" in status.out
    assert REASONS[mode] in ring.run("vault", "reseal").err
    assert time.monotonic() - began < 40
    assert not (ring.home / "identity").exists()
    assert ring.recipients() == before
    ring.set("open")
    assert "restored a" in ring.ok("vault", "restore").out


@pytest.mark.parametrize("mode", ["hang", "locked"])
def test_a_first_identity_is_not_put_elsewhere_because_the_key_ring_fails(
    ring: Ring, mode: str
) -> None:
    ring.create("a")
    ring.set(mode)
    done = ring.run("vault", "init")
    assert done.code == 33
    assert "'tweakio vault init --file' does without it" in done.err
    assert not (ring.home / "identity").exists()
    assert ring.recipients() == []
    ring.ok("vault", "init", "--file")
    assert (ring.home / "identity").exists()
    assert len(ring.recipients()) == 1


def test_without_a_key_ring_the_identity_is_a_file(ring: Ring) -> None:
    ring.set("none")
    ring.create("a")
    ring.ok("vault", "init")
    assert (ring.home / "identity").exists()


def test_the_way_out_that_the_hint_names(ring: Ring) -> None:
    used(ring)
    ring.set("lost")
    key = ring.base / "key.txt"
    made = ring.python("from tweakio.vault import age; print(age.generate_identity()[0])")
    key.write_text(made.out)
    ring.ok("vault", "init", TWEAKIO_IDENTITY=str(key))
    assert len(ring.recipients()) == 2


def test_a_reference_to_a_key_ring_that_hangs_is_bounded(ring: Ring) -> None:
    ring.set("hang")
    source = "from tweakio.references import resolve; resolve('keyring:bot', 'browser.proxy')"
    done = ring.python(
        source, PYTHONPATH=f"{ring.package}", RING=str(ring.package), TWEAKIO_KEYRING_TIMEOUT="0.2"
    )
    assert "did not answer in 0.2 seconds" in done.err


@pytest.mark.parametrize("given", ["soon", "0", "-1", "nan", "inf"])
def test_a_time_that_is_none(ring: Ring, given: str) -> None:
    ring.create("a")
    done = ring.run("vault", "init", TWEAKIO_KEYRING_TIMEOUT=given)
    assert done.code == 2
    assert "TWEAKIO_KEYRING_TIMEOUT is not a number of seconds" in done.err
