"""Moves of directories that the file system cannot rename: on a real overlay, killed anywhere."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.invariants import check
from tweakio import ProfileManager
from tweakio.layout import Layout
from tweakio.store import moving

if sys.platform != "linux":
    pytest.skip("overlays are Linux'", allow_module_level=True)

_POINTS = int(os.environ.get("TWEAKIO_TEST_POINTS", "8"))


@pytest.fixture(scope="module")
def lower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home as an image would have it."""
    lower = tmp_path_factory.mktemp("lower")
    with ProfileManager(lower / "home") as manager:
        manager.create_profiles(["p1", "p2", "p3"], "custom")
        for name in ("p1", "p2", "p3"):
            fill(manager.layout.profile(name).directory, name)
        manager.snapshots.create("p1", encrypt=False)
        manager.delete_profile("p3")
    return lower


def fill(directory: Path, mark: str) -> None:
    data = directory / "browser_profile"
    (data / "Default" / "empty").mkdir(parents=True)
    (data / "Default" / "Cookies").write_text(mark)
    (data / "Default" / "same").hardlink_to(data / "Default" / "Cookies")
    (data / "link").symlink_to("nowhere")
    with (data / "sparse").open("wb") as file:
        file.seek(50 << 20)
        file.write(b"end")
    (data / "Default" / "Cookies").chmod(0o640)
    os.utime(data / "Default" / "Cookies", ns=(10**18, 10**18))
    (directory / "session.json").write_text(json.dumps({"cookies": [], "origins": []}))


@pytest.fixture
def home(lower: Path) -> Iterator[Path]:
    base = Path(tempfile.mkdtemp(prefix="tweakio-test-"))
    # A tmpfs, since an overlay's upper layer cannot be on another overlay, as in a container.
    for name in ("top", "merged"):
        (base / name).mkdir()
    options = f"lowerdir={lower},upperdir={base}/top/upper,workdir={base}/top/work"
    commands = (
        ["mount", "-t", "tmpfs", "none", base / "top"],
        ["mkdir", base / "top/upper", base / "top/work"],
        ["mount", "-t", "overlay", "overlay", "-o", options, base / "merged"],
    )
    try:
        if os.geteuid() != 0 or any(
            subprocess.run(command, capture_output=True, check=False).returncode
            for command in commands
        ):
            pytest.skip("no overlay can be mounted here")
        home = base / "merged/home"
        with pytest.raises(OSError, match="cross-device"):
            os.rename(home / "profiles/p1", home / "profiles/p9")
        yield home
    finally:
        for name in ("merged", "top"):
            subprocess.run(["umount", base / name], capture_output=True, check=False)
        shutil.rmtree(base)


def picture(directory: Path) -> dict[str, tuple[object, ...]]:
    """All that a move keeps."""
    found: dict[str, tuple[object, ...]] = {}
    for above, names, files in os.walk(directory):
        for name in (*names, *files):
            path = Path(above, name)
            status = path.lstat()
            content: object = path.readlink() if path.is_symlink() else ""
            if path.is_file() and not path.is_symlink():
                content = path.read_bytes() if status.st_size < 1000 else status.st_size
            time = status.st_mtime_ns if path.is_file() else 0
            found[str(path.relative_to(directory))] = (status.st_mode, content, time)
    return found


def test_every_move_of_a_lower_layer(home: Path) -> None:
    with ProfileManager(home) as manager:
        p1, p2 = (manager.layout.profile(name).directory for name in ("p1", "p2"))
        first, second = picture(p1 / "browser_profile"), picture(p2 / "browser_profile")
        manager.delete_profile("p1")
        assert not p1.exists()
        manager.undo()
        assert picture(p1 / "browser_profile") == first
        status = (p1 / "browser_profile/sparse").stat()
        assert status.st_blocks * 512 < status.st_size // 10
        same = p1 / "browser_profile/Default"
        assert (same / "same").samefile(same / "Cookies")
        manager.recover_profiles(["p2"], mode="hard")
        manager.undo()
        assert picture(p2 / "browser_profile") == second
        manager.restore_from_trash(manager.trash("p3")[0].name)
        manager.snapshots.restore("p1")
        manager.delete_profile("p2", purge=True)
        manager.create_profile("p4", "custom")
        manager.undo()
        assert sorted(profile.id for profile in manager.list_profiles()) == ["p1", "p3"]
        manager.purge_trash(older_than=timedelta(0))
        assert manager.doctor().healthy
    assert not any((home / "profiles/.git/tweakio/moving").iterdir())
    check(home)


def test_an_entry_of_the_trash_of_a_lower_layer_is_removed(home: Path) -> None:
    with ProfileManager(home) as manager:
        manager.purge_trash(older_than=timedelta(0))
        assert manager.trash() == []
    assert not any((home / "profiles/.git/tweakio/trash").iterdir())


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_copy_that_fails_leaves_all_as_it_was(
    home: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ProfileManager(home) as manager:
        before = picture(home / "profiles/p1")
        write = os.write

        def fail(descriptor: int, data: bytes) -> int:
            if data in (b"p1", b"end"):
                raise OSError(number, os.strerror(number))
            return write(descriptor, data)

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", fail)
            with pytest.raises(OSError) as caught:
                manager.delete_profile("p1")
            assert caught.value.errno == number
        assert picture(home / "profiles/p1") == before
        assert [profile.id for profile in manager.list_profiles()] == ["p1", "p2"]
        manager.delete_profile("p1")
        manager.undo()
    check(home)


CALLS = "rename replace unlink rmdir mkdir symlink link mknod fsync open"


def dying(at: int, work: Callable[[], object], counted: Path) -> None:
    """Do something in a process that dies at a call that may change something.

    Args:
        at: which call; 0 for none.
        work: what to do.
        counted: gets the number of calls.
    """
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    done = [0]
    for name in CALLS.split():
        real = getattr(os, name)

        def call(*arguments: object, real: Callable[..., object] = real, **more: object) -> object:
            done[0] += 1
            if done[0] == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **more)

        setattr(os, name, call)
    with contextlib.suppress(BaseException):
        work()
    counted.write_text(str(done[0]))
    os._exit(0)


def as_it_was(home: Path) -> None:
    """Take away what was written over the lower layer."""
    options = next(
        line.split()[3] for line in Path("/proc/mounts").read_text().splitlines()
        if line.split()[1] == str(home.parent)
    )  # fmt: skip
    subprocess.run(["umount", home.parent], check=True)
    top = home.parent.parent / "top"
    for name in ("upper", "work"):
        shutil.rmtree(top / name)
        (top / name).mkdir()
    places = ",".join(part for part in options.split(",") if part.partition("=")[0].endswith("dir"))
    mount = ["mount", "-t", "overlay", "overlay", "-o", places, home.parent]
    subprocess.run(mount, check=True)


@pytest.mark.no_cover  # each process would write a record, where it is killed
def test_a_kill_at_any_moment(home: Path) -> None:
    """The profile is whole, here or in the trash, and the next command goes on."""
    data = picture(home / "profiles/p1/browser_profile")
    counted = home.parent.parent / "count"

    def work() -> None:
        with ProfileManager(home) as manager:
            manager.delete_profile("p1")

    dying(0, work, counted)
    count = int(counted.read_text())
    assert count > 50
    points = sorted({*range(1, count, max(1, count // _POINTS)), count})
    for point in points:
        as_it_was(home)
        dying(point, work, counted)
        with ProfileManager(home) as manager:
            there = any(profile.id == "p1" for profile in manager.list_profiles())
            manager.update_profiles(["p2"], note=str(point))
            if not there:
                manager.restore_from_trash(manager.trash("p1")[0].name)
            assert picture(home / "profiles/p1/browser_profile") == data, point
            assert not list((home / "profiles/.git/tweakio").glob("moving/*")), point
            assert len(manager.trash("p1")) == 0, point
        check(home)


# Without an overlay


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    layout.temporary.mkdir(parents=True)
    return layout


@pytest.mark.parametrize(
    "note", [b"", b"[]", b"{", b"5", b'["a", "../b"]', b'["profiles/a", "profiles/gone"]']
)
def test_a_note_of_a_move_that_did_not_take_place(layout: Layout, note: bytes) -> None:
    layout.moving.mkdir()
    (layout.moving / "x.json").write_bytes(note)
    (layout.profiles / "a").mkdir()
    moving.finish_moves(layout)
    assert (layout.profiles / "a").is_dir()
    assert not any(layout.moving.iterdir())


def test_only_directories_of_a_lower_layer_are_copied(layout: Layout) -> None:
    with pytest.raises(FileNotFoundError):
        moving.move(layout, layout.home / "no", layout.home / "new")
    (layout.home / "file").write_text("x")
    moving.move(layout, layout.home / "file", layout.home / "other")
    assert (layout.home / "other").read_text() == "x"


def test_what_has_no_content_is_copied_as_well(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    os.mkfifo(source / "fifo", 0o640)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(source / "socket"))
    (source / "link").symlink_to("nowhere")
    source.chmod(0o710)
    moving._copy(source, tmp_path / "target")
    found = {name: (tmp_path / "target" / name).lstat() for name in os.listdir(tmp_path / "target")}
    assert {name: status.st_mode for name, status in found.items()} == {
        name: (source / name).lstat().st_mode for name in ("fifo", "socket", "link")
    }
    assert (tmp_path / "target").stat().st_mode == source.stat().st_mode
