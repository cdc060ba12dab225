"""Sealing and opening, against the ``age`` program."""

from __future__ import annotations

import io
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tweakio.errors import InvalidInputError, RecipientError, VaultError
from tweakio.vault import age

needs_age = pytest.mark.skipif(shutil.which("age") is None, reason="age is not installed")
CHUNK = 64 * 1024
SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 5]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(age, "_WORK", 10)  # the format names the work, so nothing else changes


class Dribble(io.RawIOBase):
    """A pipe: it gives less than it is asked for."""

    def __init__(self, data: bytes) -> None:
        self._source = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        return self._source.read(min(size, 7000) if size >= 0 else 7000)


def run_age(*arguments: str, data: bytes) -> bytes:
    done = subprocess.run(["age", *arguments], input=data, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@needs_age
@pytest.mark.parametrize("size", SIZES)
def test_age_opens_what_we_seal_and_the_reverse(size: int, tmp_path: Path) -> None:
    data = os.urandom(size)
    identity, recipient = age.generate_identity()
    path = tmp_path / "identity"
    path.write_text(f"# a comment\n{identity}\n")
    out = io.BytesIO()
    age.seal_stream(io.BytesIO(data), out, [recipient])
    for sealed in (out.getvalue(), age.seal(data, [recipient])):
        assert run_age("-d", "-i", str(path), data=sealed) == data
    for options in ([], ["-a"]):
        sealed = run_age(*options, "-r", recipient, data=data)
        assert age.unseal(sealed, [path.read_text()]) == data
        out = io.BytesIO()
        age.unseal_stream(Dribble(sealed), out, [path.read_text()])
        assert out.getvalue() == data


@needs_age
def test_an_ssh_key_is_a_recipient_as_well(tmp_path: Path) -> None:
    if shutil.which("ssh-keygen") is None:
        pytest.skip("ssh-keygen is not installed")
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    recipient = age.check_recipient((tmp_path / "key.pub").read_text())
    assert recipient.startswith("ssh-ed25519 ")
    assert recipient.count(" ") == 1
    sealed = age.seal(b"data", [recipient])
    assert age.unseal(sealed, [key.read_text()]) == b"data"
    assert run_age("-d", "-i", str(key), data=sealed) == b"data"


@pytest.mark.parametrize("size", SIZES)
def test_pyrage_opens_what_a_passphrase_seals_and_the_reverse(size: int) -> None:
    import pyrage

    data = os.urandom(size)
    sealed = age.seal_passphrase(data, "correct horse")
    assert pyrage.passphrase.decrypt(sealed, "correct horse") == data
    out = io.BytesIO()
    age.unseal_stream_passphrase(Dribble(sealed), out, "correct horse")
    assert out.getvalue() == data
    if size == CHUNK + 1:
        assert age.unseal_passphrase(pyrage.passphrase.encrypt(data, "ü"), "ü") == data


@pytest.mark.parametrize("cut", [0, 10, 100, 170, 200, CHUNK, -1, -17])
def test_what_is_cut_short_is_refused(cut: int) -> None:
    data = os.urandom(2 * CHUNK + 9)
    identity, recipient = age.generate_identity()
    with pytest.raises(VaultError):
        age.unseal_passphrase(age.seal_passphrase(data, "p")[:cut], "p")
    with pytest.raises(VaultError):
        age.unseal(age.seal(data, [recipient])[:cut], [identity])
    with pytest.raises(VaultError):
        age.unseal_stream(io.BytesIO(age.seal(data, [recipient])[:cut]), io.BytesIO(), [identity])


def test_no_changed_byte_is_taken() -> None:
    sealed = bytearray(age.seal_passphrase(b"x" * 100, "p"))
    for place in [*range(0, len(sealed), 11), len(sealed) - 1]:
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(VaultError):
            age.unseal_passphrase(bytes(changed), "p")
    with pytest.raises(VaultError, match="not the right one"):
        age.unseal_passphrase(bytes(sealed), "q")


@pytest.mark.parametrize("work", [21, 22, 40, 99])
def test_more_work_than_can_be_done_is_refused_before_it_begins(work: int) -> None:
    sealed = age.seal_passphrase(b"x", "p").replace(b" 10\n", f" {work}\n".encode())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(VaultError, match=f"work factor {work}, which takes .*at most 20") as caught:
        age.unseal_passphrase(sealed, "p")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10
    assert "age -d" in caught.value.hint


def test_work_that_the_memory_limit_forbids_says_so() -> None:
    script = """
import resource, sys
from tweakio.errors import VaultError
from tweakio.vault import age
age._cipher()
resource.setrlimit(resource.RLIMIT_AS, (600 << 20, 600 << 20))
try:
    age.unseal_passphrase(sys.stdin.buffer.read(), "p")
except VaultError as error:
    print(error.message)
"""
    sealed = age.seal_passphrase(b"x", "p").replace(b" 10\n", b" 20\n")
    done = subprocess.run(
        [sys.executable, "-c", script], input=sealed, capture_output=True, check=False
    )
    assert done.stdout == b"there is not enough memory to use the passphrase: 1 GiB are needed\n"


def test_an_error_of_the_stream_stays_what_it_is() -> None:
    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(28, "No space left on device")

    identity, recipient = age.generate_identity()
    with pytest.raises(OSError, match="No space") as full:
        age.seal_stream(io.BytesIO(b"x" * 200_000), Full(), [recipient])
    assert full.value.errno == 28
    with pytest.raises(OSError, match="No space"):
        age.unseal_stream(io.BytesIO(age.seal(b"x", [recipient])), Full(), [identity])


def test_no_error_says_a_secret() -> None:
    identity, recipient = age.generate_identity()
    other, _ = age.generate_identity()
    wrong = identity[:-2] + "QQ"
    with pytest.raises(VaultError, match="sealed for others"):
        age.unseal(age.seal(b"x", [recipient]), [other])
    for attempt in (lambda: age.unseal(b"x", [wrong]), lambda: age.check_recipient(identity)):
        with pytest.raises((VaultError, RecipientError)) as refused:
            attempt()
        assert identity[15:40] not in f"{refused.value}{refused.value.hint}"


@pytest.mark.parametrize(
    "text", ["", "age1", "age1x", "ssh-ed25519 x", "ssh-dss AAAA", "me", "\x1b"]
)
def test_what_is_no_recipient_is_refused(text: str) -> None:
    with pytest.raises(RecipientError):
        age.check_recipient(text)


def test_nobody_is_sealed_for() -> None:
    with pytest.raises(RecipientError):
        age.seal(b"x", [])
    with pytest.raises(InvalidInputError):
        age.seal_passphrase(b"x", "")
