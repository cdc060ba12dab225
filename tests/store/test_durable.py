"""Files are written whole or not at all, with the right permissions, and synced."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tweakio import durable


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o277])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The order of the system calls that matter."""
    seen: list[str] = []
    for name in ("fsync", "replace", "unlink"):
        real = getattr(os, name)

        def spy(*arguments: object, name: str = name, real: object = real) -> object:
            what = arguments[0]
            if name == "fsync":
                is_directory = stat.S_ISDIR(os.fstat(what).st_mode)  # type: ignore[arg-type]
                seen.append("fsync directory" if is_directory else "fsync file")
            else:
                seen.append(f"{name} {Path(str(what)).name}")
            return real(*arguments)  # type: ignore[operator]

        monkeypatch.setattr(os, name, spy)
    return seen


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_create_has_its_mode_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    durable.create(tmp_path / "a", b"x")
    durable.create(tmp_path / "b", b"x", mode=0o444)
    assert durable.make_directory(tmp_path / "c")
    assert durable.make_directory(tmp_path / "d" / "e" / "f", parents=True)
    assert (mode(tmp_path / "a"), mode(tmp_path / "b")) == (0o600, 0o444)
    assert {mode(tmp_path / name) for name in ("c", "d", "d/e", "d/e/f")} == {0o700}


@pytest.mark.parametrize("kind", ["file", "link", "directory"])
def test_create_never_overwrites(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    if kind == "file":
        path.write_bytes(b"old")
    elif kind == "link":
        path.symlink_to(tmp_path / "nowhere")
    else:
        path.mkdir()
    with pytest.raises(FileExistsError):
        durable.create(path, b"new")
    assert not (tmp_path / "nowhere").exists()
    assert kind != "file" or path.read_bytes() == b"old"


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:3]))
    durable.create(tmp_path / "x", b"0123456789")
    durable.append(tmp_path / "x", b"abcdefgh", create_missing=False)
    assert (tmp_path / "x").read_bytes() == b"0123456789abcdefgh"


def test_failed_create_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="full"):
        durable.create(tmp_path / "x", b"data")
    assert list(tmp_path.iterdir()) == []


def test_replace_syncs_bytes_before_the_name(tmp_path: Path, calls: list[str]) -> None:
    durable.replace(tmp_path / "x", b"new", tmp_path / "x.tmp")
    assert calls == ["fsync file", "replace x.tmp", "fsync directory"]
    assert (tmp_path / "x").read_bytes() == b"new"


def test_failed_replace_leaves_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def fails(source: object, target: object) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="broken"):
        durable.replace(path, b"new", tmp_path / "tmp")
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["x"]


def test_append(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        durable.append(tmp_path / "x", b"1", create_missing=False)
    durable.append(tmp_path / "x", b"1", create_missing=True)
    durable.append(tmp_path / "x", b"2", create_missing=True)
    assert (tmp_path / "x").read_bytes() == b"12"
    assert mode(tmp_path / "x") == 0o600


def test_make_directory(tmp_path: Path) -> None:
    assert durable.make_directory(tmp_path / "a")
    assert not durable.make_directory(tmp_path / "a")
    with pytest.raises(FileNotFoundError):
        durable.make_directory(tmp_path / "b" / "c")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        durable.make_directory(tmp_path / "file" / "c", parents=True)


# Windows


def test_move_is_tried_again_on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"x")
    left = [3]
    real = os.replace

    def busy(source: Path, target: Path) -> None:
        if left[0]:
            left[0] -= 1
            raise PermissionError(errno.EACCES, "a reader has it open")
        real(source, target)

    monkeypatch.setattr(durable.sys, "platform", "win32")
    monkeypatch.setattr(os, "replace", busy)
    durable.move(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"x"
    left[0] = 9
    with pytest.raises(PermissionError):
        durable.move(tmp_path / "b", tmp_path / "a", attempts=3)
    assert left == [6]


def test_move_is_tried_once_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def denied(source: Path, target: Path) -> None:
        tries.append(source)
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(os, "replace", denied)
    with pytest.raises(PermissionError):
        durable.move(tmp_path / "a", tmp_path / "b")
    assert len(tries) == 1


def test_windows_opens_no_directories(tmp_path: Path) -> None:
    durable.fsync_directory(tmp_path / "missing", platform="win32")
    with pytest.raises(FileNotFoundError):
        durable.fsync_directory(tmp_path / "missing")


# macOS


def test_the_stronger_sync_is_used(tmp_path: Path, calls: list[str]) -> None:
    with (tmp_path / "x").open("wb") as file:
        seen: list[int] = []
        durable.sync_descriptor(file.fileno(), seen.append)
        assert seen == [file.fileno()]
        assert calls == []


@pytest.mark.parametrize("code", [errno.ENOTSUP, errno.EINVAL, errno.ENOTTY])
def test_volumes_without_the_stronger_sync(tmp_path: Path, calls: list[str], code: int) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(code, "not here")

    with (tmp_path / "x").open("wb") as file:
        durable.sync_descriptor(file.fileno(), refuse)
    assert calls == ["fsync file"]


def test_failing_stronger_sync_is_an_error(tmp_path: Path) -> None:
    def fails(descriptor: int) -> None:
        raise OSError(errno.EIO, "lost")

    with (tmp_path / "x").open("wb") as file, pytest.raises(OSError, match="lost"):
        durable.sync_descriptor(file.fileno(), fails)


# Reading


def test_read_regular(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"12345")
    assert durable.read_regular(path, 5) == b"12345"
    path.write_bytes(b"")
    assert durable.read_regular(path, 0) == b""
    big = os.urandom((1 << 20) * 2 + 7)
    path.write_bytes(big)
    assert durable.read_regular(path, len(big)) == big


@pytest.mark.parametrize("kind", ["link", "dangling", "fifo", "directory", "device", "large"])
def test_read_regular_refuses(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    (tmp_path / "secret").write_bytes(b"s")
    if kind == "link":
        path.symlink_to(tmp_path / "secret")
    elif kind == "dangling":
        path.symlink_to(tmp_path / "nowhere")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "device":
        path = Path("/dev/zero")
    else:
        path.write_bytes(b"123456")
    expected = {"link": errno.ELOOP, "dangling": errno.ELOOP, "large": errno.EFBIG}
    with pytest.raises(OSError) as caught:
        durable.read_regular(path, 5)
    assert caught.value.errno == expected.get(kind, errno.EINVAL)


def test_fifo_with_a_writer_does_not_block(tmp_path: Path) -> None:
    path = tmp_path / "x"
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: os.close(os.open(path, os.O_WRONLY)), daemon=True)
    writer.start()
    with pytest.raises(OSError, match="not a regular file"):
        durable.read_regular(path, 5)
    os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    writer.join(5)


def test_a_file_that_grows_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"12345")
    real = os.fstat

    def grow(descriptor: int) -> os.stat_result:
        status = real(descriptor)
        with path.open("ab") as file:
            file.write(b"6789")
        return status

    monkeypatch.setattr(os, "fstat", grow)
    with pytest.raises(OSError, match="larger"):
        durable.read_regular(path, 5)


@pytest.mark.parametrize("most", [1, 2, 3, 4, 5])
def test_a_file_that_comes_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"12345")
    real = os.read
    monkeypatch.setattr(os, "read", lambda descriptor, size: real(descriptor, min(size, most)))
    assert durable.read_regular(path, 5) == b"12345"
    assert durable.read_regular(path, 9) == b"12345"


def test_a_file_that_changes_its_length_within_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    real = os.fstat
    for content in (b"", b"1", b"123456789"):
        path.write_bytes(b"12345")

        def change(descriptor: int, content: bytes = content) -> os.stat_result:
            status = real(descriptor)
            path.write_bytes(content)
            return status

        with monkeypatch.context() as patched:
            patched.setattr(os, "fstat", change)
            assert durable.read_regular(path, 9) == content


# Removing


def test_remove(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    durable.remove(tmp_path / "x")
    durable.remove(tmp_path / "x")


def test_remove_tree_does_not_follow_links(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    (kept / "deep").mkdir(parents=True)
    (kept / "deep" / "file").touch()
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "link").symlink_to(kept)
    durable.remove_tree(tree)
    (tmp_path / "direct").symlink_to(kept)
    durable.remove_tree(tmp_path / "direct")
    durable.remove_tree(tmp_path / "missing")
    assert (kept / "deep" / "file").exists()
    assert sorted(os.listdir(tmp_path)) == ["kept"]


def test_sync_tree(tmp_path: Path, calls: list[str]) -> None:
    durable.sync_tree([tmp_path, tmp_path])
    assert calls == ["fsync directory"] * 2


def test_batch_writes_all_before_it_syncs_any(tmp_path: Path, calls: list[str]) -> None:
    with durable.Batch() as batch:
        for name in ("a", "b"):
            batch.create(tmp_path / name, name.encode(), mode=0o400)
        assert calls == []
    assert calls == ["fsync file"] * 2
    assert (tmp_path / "b").read_bytes() == b"b"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o400 or os.name == "nt"


def test_batch_of_many_keeps_few_open(tmp_path: Path, calls: list[str]) -> None:
    with durable.Batch() as batch:
        for number in range(200):
            batch.create(tmp_path / str(number), b"x")
            assert len(batch._descriptors) <= 64
    assert calls == ["fsync file"] * 200


def test_batch_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = tmp_path / "taken"
    taken.write_bytes(b"mine")
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    with pytest.raises(FileExistsError), durable.Batch() as batch:
        batch.create(tmp_path / "a", b"x")
        batch.create(taken, b"x")

    def fails(descriptor: int) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="broken"), durable.Batch() as batch:
        batch.create(tmp_path / "a", b"x")
        batch.create(tmp_path / "b", b"x")
    assert os.listdir(tmp_path) == ["taken"]
    assert taken.read_bytes() == b"mine"
    if before:
        assert len(os.listdir("/proc/self/fd")) == before
