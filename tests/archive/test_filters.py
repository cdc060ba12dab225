"""Steps that run beside each other: everything arrives, and an error or Ctrl-C ends them all."""

from __future__ import annotations

import io
import os
import random
import signal
import threading
import time

import pytest

from tweakio import ProfileManager, StorageError, VaultError
from tweakio.bundle import piped_from, piped_into
from tweakio.bundle.filters import copied

BOTH = pytest.mark.parametrize("direction", ["into", "from"])


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def pieces(seed: int) -> list[bytes]:
    chance = random.Random(seed)
    sizes = [0, 1, 511, 512, 1 << 16, (1 << 16) - 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1]
    return [chance.randbytes(chance.choice(sizes)) for _ in range(60)]


def test_everything_arrives_in_order():
    written = pieces(1)
    out = io.BytesIO()
    with piped_into(out, copied) as inner, piped_into(inner, copied) as stream:
        for piece in written:
            assert stream.write(piece) == len(piece)
    assert out.getvalue() == b"".join(written)


def test_everything_is_read_in_order():
    content = b"".join(pieces(2))
    chance = random.Random(3)
    found = []
    with (
        piped_from(io.BytesIO(content), copied) as inner,
        piped_from(inner, copied) as stream,
    ):
        while piece := stream.read(chance.choice((1, 512, 70_000, 1 << 20, 1 << 21))):
            found.append(piece)
        assert stream.read(1) == b""
        assert stream.read() == b""
    assert b"".join(found) == content


def failing(reader, writer):
    writer.write(reader.read(1))
    raise VaultError("refused")


def test_the_error_of_a_filter_reaches_who_writes():
    with (
        pytest.raises(VaultError, match="refused"),
        piped_into(io.BytesIO(), failing) as inner,
        piped_into(inner, copied) as stream,
    ):
        while True:
            stream.write(bytes(1 << 20))


def test_the_error_of_a_filter_that_has_read_everything():
    def late(reader, writer):
        copied(reader, writer)
        raise VaultError("refused")

    with (
        pytest.raises(VaultError, match="refused"),
        piped_into(io.BytesIO(), late) as stream,
    ):
        stream.write(b"x")


def test_the_error_of_a_filter_is_no_end_for_who_reads():
    with (
        pytest.raises(VaultError, match="refused"),
        piped_from(io.BytesIO(b"content"), failing) as inner,
        piped_from(inner, copied) as stream,
    ):
        while stream.read(1):
            pass


def test_a_filter_that_does_not_read_everything():
    with pytest.raises(BrokenPipeError), piped_into(io.BytesIO(), lambda r, w: None) as stream:
        stream.write(bytes(1 << 20))


def test_what_failed_is_not_brought_to_an_end():
    """A sealed stream that ends well would say that it is all."""
    ended = []

    def through(reader, writer):
        copied(reader, writer)
        ended.append(True)

    with pytest.raises(ZeroDivisionError), piped_into(io.BytesIO(), through) as stream:
        stream.write(bytes(1 << 20))
        raise ZeroDivisionError
    assert not ended


def test_who_reads_can_leave_before_the_end():
    with piped_from(io.BytesIO(bytes(1 << 24)), copied) as stream:
        assert stream.read(5) == bytes(5)


@BOTH
def test_ctrl_c_is_not_replaced_by_an_error_of_the_filter(direction):
    failed = threading.Event()

    def through(reader, writer):
        try:
            raise VaultError("refused")
        finally:
            failed.set()

    piped = piped_into if direction == "into" else piped_from
    with pytest.raises(KeyboardInterrupt), piped(io.BytesIO(), through):
        failed.wait()
        raise KeyboardInterrupt


@BOTH
def test_ctrl_c_while_the_other_side_is_slow(direction):
    """Whoever waits, at the pipe or for its end, is interrupted."""

    def slow(reader, writer):
        while piece := reader.read(1 << 20):
            time.sleep(0.01)  # so that who writes is ahead and waits
            writer.write(piece)

    def press():
        # To the process, as a terminal does: Python wakes the main thread up.
        time.sleep(0.1)  # by then the pipe is full
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    with pytest.raises(KeyboardInterrupt):
        if direction == "into":
            with piped_into(io.BytesIO(), slow) as stream:
                while True:
                    stream.write(bytes(1 << 20))
        else:
            with piped_from(io.BytesIO(bytes(1 << 26)), slow) as stream:
                while stream.read(1 << 20):
                    pass
    presser.join()


# Export and import as a whole


@pytest.fixture
def home(tmp_path):
    with ProfileManager(tmp_path / "one") as manager:
        manager.create_profile("a", "custom")
        browser = manager.layout.profile("a").browser_profile / "Default"
        browser.mkdir(parents=True, exist_ok=True)
        for number in range(4):
            (browser / f"{number}.ldb").write_bytes(random.Random(number).randbytes(3 << 20))
        yield manager


@pytest.mark.parametrize(("when", "passphrase"), [(1, None), (6, None), (12, None), (6, "secret")])
def test_ctrl_c_leaves_nothing_of_an_export(home, tmp_path, when, passphrase):
    times = []

    def progress(_):
        times.append(1)
        if len(times) == when:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        home.archives.export(
            ["a"], tmp_path / "f.zip", with_session=True, progress=progress, passphrase=passphrase
        )
    assert os.listdir(tmp_path) == ["one"]
    home.archives.export(["a"], tmp_path / "f.zip", with_session=True)


@pytest.mark.parametrize("when", [1, 6, 12])
def test_ctrl_c_leaves_nothing_of_an_import(home, tmp_path, when):
    home.archives.export(["a"], tmp_path / "f.zip", with_session=True)
    times = []

    def progress(_):
        times.append(1)
        if len(times) == when:
            signal.raise_signal(signal.SIGINT)

    with ProfileManager(tmp_path / "two") as two:
        two.create_profile("z", "custom")
        before = len(two.history())
        with pytest.raises(KeyboardInterrupt):
            two.archives.import_file(tmp_path / "f.zip", progress=progress)
        assert len(two.history()) == before
        two.archives.import_file(tmp_path / "f.zip")
        assert not two.layout.staging.exists() or os.listdir(two.layout.staging) == []


def test_a_full_disk_is_the_error_of_an_export(home, tmp_path, monkeypatch):
    """The write fails in another thread than the one that the caller waits in."""
    real, left = os.write, [4]

    def write(descriptor, data):
        if len(data) > 1 << 15:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(28, os.strerror(28))
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(StorageError, match=r"write f\.zip"):
        home.archives.export(["a"], tmp_path / "f.zip", with_session=True)
    assert os.listdir(tmp_path) == ["one"]
