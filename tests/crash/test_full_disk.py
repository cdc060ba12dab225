"""A disk that is really full, and one that is really read-only: a small tmpfs."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.crash.operations import fill
from tests.invariants import check, data_digests
from tweakio import ProfileManager
from tweakio.errors import DiskFullError, FileAccessError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow
PAGE = 4096


class SmallDisk:
    """A mounted file system with the means to fill it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.filler = root / "filler"
        self.stuffing = root / "stuffing"
        self.stuffing.mkdir()

    def fill_up(self, pages: int) -> None:
        """Leave so many pages free."""
        with self.filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"x" * PAGE)
        size = self.filler.stat().st_size
        os.truncate(self.filler, max(0, size // PAGE - pages) * PAGE)

    def take_names(self, names: int) -> None:
        """Leave so many inodes free."""
        made = []
        with contextlib.suppress(OSError):
            while True:
                path = self.stuffing / str(len(made))
                path.touch()
                made.append(path)
        for path in made[len(made) - names :] if names else []:
            path.unlink()

    def free(self) -> None:
        self.filler.unlink(missing_ok=True)
        for path in self.stuffing.iterdir():
            path.unlink()

    def remount(self, option: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{option}", self.root], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    root = tmp_path / "disk"
    root.mkdir()
    options = "size=3m,nr_inodes=1000,mode=0700"
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tweakio-test", root], capture_output=True
        )
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.decode().strip()}")
    try:
        yield SmallDisk(root)
    finally:
        subprocess.run(["umount", root], check=True)


def state(home: Path) -> tuple[object, ...]:
    with ProfileManager(home) as manager:
        return (
            [(p.id, p.status, p.note) for p in manager.list_profiles()],
            len(manager.history()),
            sorted(data_digests(home)),
            len(manager.trash()),
        )


def attempt(
    step: Callable[[ProfileManager], object], manager: ProfileManager
) -> DiskFullError | None:
    try:
        step(manager)
    except DiskFullError as error:
        return error
    return None


STEPS: dict[str, Callable[[ProfileManager], object]] = {
    "create": lambda m: m.create_profile("c", "custom"),
    "activate": lambda m: m.select_profile("b"),
    "update": lambda m: m.update_profiles(["a", "b"], note="n" * 4000),
    "delete": lambda m: m.delete_profile("b"),
    "recover": lambda m: m.recover_profile("b", "hard"),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("what", ["bytes", "names"])
def test_full_disk_keeps_the_last_state_and_works_when_there_is_space(
    disk: SmallDisk, what: str, step: str
) -> None:
    home = disk.root / "home"
    with ProfileManager(home) as manager:
        manager.create_profiles(["a", "b"], "whatsapp")
        for name in ("a", "b"):
            fill(home / "profiles" / name, name)
        manager.select_profile("a")
    refused = done = 0
    for left in range(40):
        before = state(home)
        survivors = set(data_digests(home))
        (disk.fill_up if what == "bytes" else disk.take_names)(left)
        with ProfileManager(home) as manager:
            refusal = attempt(STEPS[step], manager)
            if refusal is not None:
                refused += 1
                assert refusal.hint
                assert "\n" not in str(refusal)
                disk.free()
                assert state(home) == before, f"with {left} {what} free"
            else:
                done += 1
                disk.free()
                assert state(home) != before, f"with {left} {what} free"
                manager.undo()  # the same object goes on
            check(home, survivors=survivors, swept=False)
        if done > 2:
            break
    assert done, "it never worked, so the disk was not full at varying points"
    assert refused, "the disk was never full"
    check(home, work=True)


def test_read_only_home_can_be_read_and_says_so_when_it_is_to_be_changed(disk: SmallDisk) -> None:
    home = disk.root / "home"
    with ProfileManager(home) as manager:
        manager.create_profiles(["a", "b"], "whatsapp")
        fill(home / "profiles" / "a", "a")
        manager.delete_profile("b")
    before = state(home)
    disk.remount("ro")
    try:
        assert state(home) == before
        for step in (
            lambda m: m.create_profile("c", "custom"),
            lambda m: m.activate_profile("a"),
            lambda m: m.delete_profile("a"),
            lambda m: m.undo(),
            lambda m: m.purge_trash(),
            lambda m: m.gc(),
            lambda m: m.recover_profile("a", "hard"),
        ):
            with ProfileManager(home) as manager, pytest.raises(FileAccessError):
                step(manager)
    finally:
        disk.remount("rw")
    assert state(home) == before
    check(home, swept=False, work=True)


@pytest.mark.parametrize("scheme", ["", "local://"])
def test_a_full_snapshot_store_keeps_nothing_of_what_it_cut_off(
    disk: SmallDisk, tmp_path: Path, scheme: str
) -> None:
    store = disk.root / "store"
    store.mkdir()
    with ProfileManager(tmp_path / "home") as manager:
        manager.create_profile("a", "custom")
        data = manager.layout.profile("a").browser_profile / "Default"
        data.mkdir(parents=True)
        (data / "large").write_bytes(os.urandom(4 << 20))
        manager.snapshots.set_store(f"{scheme}{store}")
        with pytest.raises(DiskFullError):
            manager.snapshots.create("a", encrypt=False)
        assert [path for path in store.rglob("*") if path.is_file()] == []
        (data / "large").write_bytes(os.urandom(1 << 20))
        assert manager.snapshots.create("a", encrypt=False).is_new
        assert stat.S_IMODE((store / "a").stat().st_mode) == 0o700
        assert not any(item.problem for item in manager.snapshots.verify("a"))
