"""Snapshots: what is in them, where they are, and that nothing half of one counts."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cli_helpers import Cli, Holder

from tests.crash.operations import fill
from tests.invariants import check, tree_digest
from tweakio import ProfileManager
from tweakio.errors import (
    InvalidInputError,
    ProfileActiveError,
    ProfileNotFoundError,
    SnapshotError,
    VaultError,
)
from tweakio.snapshots.directory import Directory
from tweakio.snapshots.retention import Keep

DAY = timedelta(days=1)


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 5, 12, tzinfo=timezone.utc)  # a Monday

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


@pytest.fixture(autouse=True)
def _hermetic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TWEAKIO_IDENTITY", raising=False)
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def manager(home: Path, clock: Clock) -> Any:
    with ProfileManager(home, clock=clock) as found:
        found.create_profile("a", "whatsapp")
        fill_stopped(home, "first")
        yield found


@pytest.fixture(params=["own", "directory", "memory"])
def stored(request: pytest.FixtureRequest, manager: ProfileManager, tmp_path: Path) -> Any:
    """A manager whose snapshots go to one of the kinds of places."""
    if request.param == "directory":
        (tmp_path / "share").mkdir()
        manager.snapshots.set_store((tmp_path / "share").as_uri())
    elif request.param == "memory":
        import fsspec

        fsspec.filesystem("memory").makedirs("bucket/tweakio", exist_ok=True)
        manager.snapshots.set_store("memory://bucket/tweakio")
        yield manager
        fsspec.filesystem("memory").store.clear()
        return
    yield manager


def fill_stopped(home: Path, label: str) -> None:
    directory = home / "profiles" / "a"
    fill(directory, label)
    (directory / "browser_profile" / "SingletonLock").unlink()


def refill(home: Path, label: str) -> None:
    shutil.rmtree(home / "profiles" / "a" / "browser_profile" / "Default")
    fill_stopped(home, label)


def data(home: Path) -> str:
    """What a profile's browser data is."""
    browser = home / "profiles" / "a" / "browser_profile"
    return tree_digest(browser) + tree_digest(browser.parent / "session.json")


def make(manager: ProfileManager, **options: Any) -> Any:
    return manager.snapshots.create("a", **{"encrypt": False, **options}).snapshot


def test_a_snapshot_comes_back_and_undo_takes_it_away(stored: ProfileManager, home: Path) -> None:
    first = data(home)
    snapshot = make(stored)
    assert (snapshot.files, snapshot.profile_id, snapshot.complete) == (3, "a", True)
    refill(home, "second")
    second = data(home)
    assert stored.snapshots.restore("a") == snapshot
    assert data(home) == first
    change = stored.history()[0]
    assert (change.operation, change.profiles) == ("restore", ("a",))
    assert stored.undo().revision == change.revision
    assert data(home) == second
    stored.redo()
    assert data(home) == first
    check(home)
    work = home / "profiles" / ".git" / "tweakio" / "work"
    assert list(work.iterdir()) == []


def test_the_same_content_is_not_kept_twice(stored: ProfileManager, home: Path) -> None:
    first = make(stored)
    again = stored.snapshots.create("a", encrypt=False)
    assert (again.is_new, again.snapshot) == (False, first)
    refill(home, "second")
    second = make(stored)
    refill(home, "first")
    # Only the last one is compared with.
    third = make(stored)
    assert third.content_sha256 == first.content_sha256
    assert stored.snapshots.list("a") == [third, second, first]


def test_what_is_no_snapshot_is_not_listed(stored: ProfileManager, home: Path) -> None:
    snapshot = make(stored)
    place = stored.snapshots._place()
    other = "20260101T000000Z-00000000"
    manifest = place.read("a", f"{snapshot.name}.json", 1 << 16)
    for name, content in {
        "README": b"",
        f"{other}.tar.zst": b"half of it",
        f"{other}.json": b"{",
        "20260101T000000Z-00000001.json": manifest,  # says another name
        "20260101T000000Z-00000002.json": b"[]",
        "20260101T000000Z-00000003.json": manifest.replace(b'"format": 1', b'"format": 2'),
        "20260101T000000Z-00000004.json": b"[" * 60_000,
        "20260101T000000Z-00000005.json": b'{"name": 1e999, "recipients": 7}',
    }.items():
        place.put("a", name, content)
    assert stored.snapshots.list("a") == [snapshot]
    assert [found.problem for found in stored.snapshots.verify("a")] == [""]
    assert stored.snapshots.create("a", encrypt=False).snapshot == snapshot
    assert stored.snapshots.prune("a", Keep(last=1)) == []
    # An upload that was given up goes; what is somebody else's stays.
    left = place.files("a")
    assert "README" in left
    assert stored.snapshots.list("b") == []


def test_an_upload_that_was_given_up_is_swept(stored: ProfileManager, clock: Clock) -> None:
    place = stored.snapshots._place()
    make(stored)
    old, young = (
        "20260101T000000Z-00000000.tar.zst",
        f"{clock.now:%Y%m%dT%H%M%SZ}-00000000.tar.zst",
    )
    for name in (old, young, f".{old}.part"):
        place.put("a", name, b"half")
    stored.snapshots.prune("a", Keep(last=1))
    files = place.files("a")
    assert young in files
    assert old not in files
    assert f".{old}.part" not in files


def test_data_that_is_missing_or_cut(stored: ProfileManager, home: Path) -> None:
    first, file = make(stored), ""
    refill(home, "second")
    second = make(stored)
    place = stored.snapshots._place()
    file = f"{second.name}.tar.zst"
    place.put("a", file, b"short")
    found = stored.snapshots.list("a")
    assert [item.complete for item in found] == [False, True]
    # The newest that is whole.
    assert stored.snapshots.restore("a") == first
    with pytest.raises(SnapshotError, match="not there in full"):
        stored.snapshots.restore("a", second.name)
    assert [item.problem for item in stored.snapshots.verify("a")] == [
        "its data is not there in full",
        "",
    ]
    assert stored.snapshots.prune("a", Keep(last=1)) == [found[0]]
    assert stored.snapshots.list("a") == [first]


@pytest.mark.parametrize("at", [5, 60, -5])
def test_a_changed_byte_is_found_and_changes_nothing(
    stored: ProfileManager, home: Path, at: int
) -> None:
    snapshot = make(stored)
    before = data(home), stored.history()
    place = stored.snapshots._place()
    name = f"{snapshot.name}.tar.zst"
    content = bytearray(place.read("a", name, 1 << 20))
    content[at] ^= 1
    place.put("a", name, bytes(content))
    (found,) = stored.snapshots.verify("a")
    assert found.problem
    with pytest.raises(SnapshotError, match="is damaged"):
        stored.snapshots.restore("a")
    assert (data(home), stored.history()) == before


def test_another_manifest_does_not_help(stored: ProfileManager, home: Path) -> None:
    """Sound data of another snapshot is not what was stored."""
    first = make(stored)
    refill(home, "other")
    second = make(stored)
    place = stored.snapshots._place()
    place.put("a", f"{first.name}.tar.zst", place.read("a", f"{second.name}.tar.zst", 1 << 20))
    value = json.loads(place.read("a", f"{first.name}.json", 1 << 16))
    value["stored_bytes"] = second.stored_bytes
    place.put("a", f"{first.name}.json", json.dumps(value).encode())
    assert [bool(item.problem) for item in stored.snapshots.verify("a")] == [False, True]


def test_a_live_profile_is_refused(manager: ProfileManager, home: Path, tmp_path: Path) -> None:
    snapshot = make(manager)
    cli = Cli(tmp_path)
    with Holder(cli, "a") as holder:
        for command in ("create", "restore"):
            refused = cli.run("profile", "snapshot", command, "a")
            assert refused.code == 5
            assert f"process {holder.pid}" in refused.err
    manager.activate_profile("a")
    with pytest.raises(ProfileActiveError):
        manager.snapshots.create("a")
    with pytest.raises(ProfileActiveError):
        manager.snapshots.restore("a")
    manager.deactivate_profile()
    assert manager.snapshots.list("a") == [snapshot]
    assert list((home / "profiles" / ".git" / "tweakio" / "work").iterdir()) == []


def test_permissions(manager: ProfileManager, home: Path) -> None:
    mask = os.umask(0)
    try:
        make(manager)
    finally:
        os.umask(mask)
    for directory, _, files in os.walk(home / "profiles" / ".git" / "tweakio" / "snapshots"):
        assert stat.S_IMODE(os.stat(directory).st_mode) == 0o700
        for name in files:
            assert stat.S_IMODE(os.stat(os.path.join(directory, name)).st_mode) == 0o600


def test_another_profile_of_the_same_name(manager: ProfileManager, home: Path) -> None:
    make(manager)
    first = data(home)
    manager.delete_profile("a")
    manager.create_profile("a", "whatsapp")
    with pytest.raises(SnapshotError, match="another profile of the name"):
        manager.snapshots.restore("a")
    assert manager.snapshots.create("a").is_new
    old = manager.snapshots.list("a")[-1]
    manager.snapshots.restore("a", old.name, other=True)
    assert data(home) == first
    # Each of the two keeps one.
    assert manager.snapshots.prune("a", Keep(last=1)) == []
    manager.delete_profile("a")
    manager.create_profile("a", "telegram")
    with pytest.raises(SnapshotError, match="is for telegram"):
        manager.snapshots.restore("a", old.name, other=True)


def test_names(manager: ProfileManager, home: Path) -> None:
    with pytest.raises(SnapshotError, match="no snapshot of profile 'a'"):
        manager.snapshots.restore("a")
    first = make(manager)
    refill(home, "second")
    second = make(manager)
    with pytest.raises(SnapshotError, match="more than one"):
        manager.snapshots.restore("a", "2026")
    assert manager.snapshots.restore("a", second.name[:-1]) == second
    assert manager.snapshots.restore("a", first.name) == first
    with pytest.raises(ProfileNotFoundError):
        manager.snapshots.create("nobody")
    for name in ("../a", ".git", ""):
        with pytest.raises(InvalidInputError):
            manager.snapshots.list(name)


# Which stay


def test_retention(manager: ProfileManager, home: Path, clock: Clock) -> None:
    made = []
    for number in range(20):  # two a day, ten days from a Monday on
        refill(home, f"number {number}")
        made.append(make(manager))
        clock.now += DAY / 2 - timedelta(seconds=60)
    newest = [item.name for item in reversed(made)]

    def stays(**rules: int) -> list[int]:
        gone = {i.name for i in manager.snapshots.prune("a", Keep(**rules), dry_run=True)}
        return [newest.index(name) for name in newest if name not in gone]

    days = sorted({item.time.date() for item in made}, reverse=True)
    last_of = [
        min(i for i, name in enumerate(newest) if name.startswith(f"{day:%Y%m%d}")) for day in days
    ]
    assert stays(last=3) == [0, 1, 2]
    assert stays(daily=3) == last_of[:3]
    assert stays(daily=100) == last_of
    assert stays(monthly=5) == [0]
    weekly = stays(weekly=2)
    assert weekly[0] == 0
    assert [made[19 - i].time.isocalendar()[1] for i in weekly] == [3, 2]
    assert stays(last=2, daily=3) == sorted({0, 1, *last_of[:3]})
    assert len(manager.snapshots.list("a")) == 20
    removed = manager.snapshots.prune("a", Keep(last=3))
    assert [item.name for item in removed] == newest[3:]
    assert [item.name for item in manager.snapshots.list("a")] == newest[:3]
    directory = home / "profiles" / ".git" / "tweakio" / "snapshots" / "a"
    assert len(list(directory.iterdir())) == 6


@pytest.mark.parametrize("keep", [Keep(), Keep(last=-1, daily=3)])
def test_rules_that_keep_nothing(manager: ProfileManager, keep: Keep) -> None:
    make(manager)
    with pytest.raises(InvalidInputError):
        manager.snapshots.prune("a", keep)
    assert len(manager.snapshots.list("a")) == 1


# Sealed


def test_sealed_for_the_vault(stored: ProfileManager, home: Path, tmp_path: Path) -> None:
    stored.vault.init()
    first = data(home)
    made = stored.snapshots.create("a")
    assert made.snapshot.recipients == tuple(stored.vault.recipients())
    place = stored.snapshots._place()
    content = place.read("a", f"{made.snapshot.name}.tar.zst.age", 1 << 20)
    assert content.startswith(b"age-encryption.org/v1\n")
    assert b"cookies of first" not in content
    # Sealed anew it would be other bytes; its content is the same.
    assert not stored.snapshots.create("a").is_new
    refill(home, "second")
    stored.snapshots.restore("a")
    assert data(home) == first
    assert [(v.problem, v.opened) for v in stored.snapshots.verify("a")] == [("", True)]
    if shutil.which("age") and shutil.which("zstd"):
        target = tmp_path / "by-hand"
        target.mkdir()
        (tmp_path / "sealed").write_bytes(content)
        subprocess.run(
            f"age -d -i {home}/identity {tmp_path}/sealed | tar --zstd -x -C {target}",
            shell=True, check=True,
        )  # fmt: skip
        assert tree_digest(target / "session.json") == tree_digest(
            home / "profiles" / "a" / "session.json"
        )
        assert (target / "browser_profile" / "Default" / "Cookies").read_bytes()[:7] == b"cookies"


def test_without_the_identity(stored: ProfileManager, home: Path) -> None:
    stored.vault.init()
    snapshot = stored.snapshots.create("a").snapshot
    (home / "identity").rename(home / "elsewhere")
    refill(home, "second")
    before = data(home)
    with pytest.raises(VaultError):
        stored.snapshots.restore("a")
    assert data(home) == before
    # That it is what was stored can be told all the same.
    assert [(v.problem, v.opened) for v in stored.snapshots.verify("a")] == [("", False)]
    place = stored.snapshots._place()
    name = f"{snapshot.name}.tar.zst.age"
    content = bytearray(place.read("a", name, 1 << 20))
    content[-3] ^= 1
    place.put("a", name, bytes(content))
    assert [bool(v.problem) for v in stored.snapshots.verify("a")] == [True]
    (home / "elsewhere").rename(home / "identity")
    assert [bool(v.problem) for v in stored.snapshots.verify("a")] == [True]
    with pytest.raises(SnapshotError, match="damaged"):
        stored.snapshots.restore("a")


def test_a_restored_session_is_sealed_in_the_same_commit(
    manager: ProfileManager, home: Path
) -> None:
    manager.vault.init()
    manager.snapshots.create("a")
    refill(home, "second")
    manager.record_login("a")
    manager.snapshots.restore("a")
    from tweakio.vault import age, binding

    sealed = (home / "profiles" / "a" / "session.json.age").read_bytes()
    opened = binding.read(age.unseal(sealed, manager.vault.identities())).content
    assert opened == (home / "profiles" / "a" / "session.json").read_bytes()
    assert b"first" in opened
    check(home)


def test_a_snapshot_without_a_session_takes_the_sealed_one_away(
    manager: ProfileManager, home: Path
) -> None:
    """Else the next activation put the later session beside the older browser data."""
    pytest.importorskip("pyrage")
    manager.vault.init(in_file=True)
    session = home / "profiles" / "a" / "session.json"
    session.write_text('{"cookies": [], "origins": []}')
    make(manager)
    session.write_text('{"cookies": [{"name": "c", "value": "later"}], "origins": []}')
    manager.record_login("a")
    assert manager.vault.status().sealed == ["a"]
    manager.snapshots.restore("a")
    assert manager.vault.status().sealed == []
    manager.activate_profile("a")
    assert "later" not in session.read_text()
    manager.deactivate_profile()
    for _ in range(3):
        manager.undo()
    assert manager.vault.status().sealed == ["a"]
    assert "later" in session.read_text()


def test_nothing_leaves_the_home_unsealed_unasked(manager: ProfileManager, tmp_path: Path) -> None:
    (tmp_path / "share").mkdir()
    manager.snapshots.set_store(str(tmp_path / "share"))
    with pytest.raises(VaultError, match="no vault"):
        manager.snapshots.create("a")
    assert list((tmp_path / "share").iterdir()) == []
    assert not manager.snapshots.create("a", encrypt=False).snapshot.sealed


# The store's address


@pytest.mark.parametrize(
    "url",
    ["s3://key:hunter2@bucket", "sftp://me:hunter2@host/x", "http://host/?token=hunter2",
     "s3://bucket/#hunter2", "hunter2", "simplecache::s3://hunter2", "env:1hunter2"],
)  # fmt: skip
def test_no_secret_is_kept(manager: ProfileManager, home: Path, tmp_path: Path, url: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        manager.snapshots.set_store(url)
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"
    assert manager.snapshots.store == ""
    assert b"hunter2" not in b"".join(p.read_bytes() for p in home.rglob("*") if p.is_file())


def test_the_address_may_be_in_the_environment(
    manager: ProfileManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fsspec

    for name in ("elsewhere", "nothing"):
        fsspec.filesystem("memory").makedirs(name, exist_ok=True)
    manager.snapshots.set_store("env:SNAPSHOT_STORE")
    monkeypatch.setenv("SNAPSHOT_STORE", "memory://elsewhere")
    make(manager)
    assert manager.snapshots._place().files("a")
    monkeypatch.setenv("SNAPSHOT_STORE", "memory://nothing")
    assert manager.snapshots.list("a") == []


def test_a_store_that_is_not_there(manager: ProfileManager, tmp_path: Path) -> None:
    manager.snapshots.set_store(str(tmp_path / "unmounted"))
    with pytest.raises(SnapshotError, match="is not there"):
        manager.snapshots.create("a", encrypt=False)
    with pytest.raises(SnapshotError, match="is not there"):
        manager.snapshots.list("a")
    assert not (tmp_path / "unmounted").exists()


def test_what_a_library_says_is_not_repeated(
    manager: ProfileManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager.snapshots.set_store("memory://bucket")
    from fsspec.implementations.memory import MemoryFileSystem

    MemoryFileSystem().makedirs("bucket", exist_ok=True)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the key hunter2 is wrong")

    for name in ("ls", "put_file", "pipe_file"):
        with monkeypatch.context() as patch:
            patch.setattr(MemoryFileSystem, name, fail)
            with pytest.raises(SnapshotError, match="RuntimeError") as caught:
                make(manager)
            assert "hunter2" not in f"{caught.value} {caught.value.hint}"
    assert manager.snapshots.list("a") == []


def test_another_file_system(
    manager: ProfileManager, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be renamed to its place is copied, and appears whole or not at all."""
    (tmp_path / "share").mkdir()
    manager.snapshots.set_store(str(tmp_path / "share"))
    rename = os.rename

    def refuse(source: Any, target: Any) -> None:
        if Path(source).parent.parent.name == "work":
            raise OSError(18, "Invalid cross-device link")
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    make(manager)
    assert [found.problem for found in manager.snapshots.verify("a")] == [""]


# The command line


def test_commands(manager: ProfileManager, home: Path, tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    manager.close()
    first = data(home)
    name = cli.ok("profile", "snapshot", "create", "a").out.split()[1]
    assert cli.ok("profile", "snapshot", "create", "a").out == f"unchanged since {name}\n"
    ((shown, _, size, stored, kept, state),) = cli.ok("profile", "snapshot", "list", "a").rows
    assert (shown, kept, state) == (name, "clear", "complete")
    assert int(size) > int(stored) > 0
    refill(home, "second")
    result = cli.ok("profile", "snapshot", "restore", "a")
    assert result.out == f"restored a from {name}\n"
    assert data(home) == first
    assert cli.ok("profile", "history", "-n", "1").rows[0][2] == "restore"
    assert cli.run("profile", "snapshot", "prune", "a").code == 2
    assert cli.ok("profile", "snapshot", "verify", "a").rows == [[name, "ok", "content", "-"]]
    path = home / "profiles" / ".git" / "tweakio" / "snapshots" / "a" / f"{name}.tar.zst"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    damaged = cli.run("profile", "snapshot", "verify", "a")
    assert damaged.code == 36
    assert damaged.rows[0][1] == "damaged"
    assert cli.run("profile", "snapshot", "restore", "a").code == 36
    gone = cli.ok("profile", "snapshot", "prune", "a", "--keep-last", "1")
    assert gone.err.endswith("nothing to prune\n")
    assert cli.ok("profile", "snapshot", "store").out == f"{path.parent.parent}\n"
    for wrong in ("s3://a:b@c", "s4://bucket"):
        assert cli.run("profile", "snapshot", "store", wrong).code == 2
    assert cli.run("profile", "snapshot", "list", "mistyped").code == 3
    cli.ok("profile", "delete", "a")
    assert len(cli.ok("profile", "snapshot", "list", "a").rows) == 1


def test_the_doctor_takes_snapshots_over(manager: ProfileManager, home: Path) -> None:
    snapshot = make(manager)
    git_dir = home / "profiles" / ".git"
    shutil.rmtree(git_dir / "objects")
    (git_dir / "HEAD").unlink()
    assert manager.doctor(fix=True, cut=True).healthy
    assert [item.name for item in manager.snapshots.list("a")] == [snapshot.name]


@pytest.mark.parametrize("place", ["own", "directory", "local"])
def test_a_link_in_the_place_of_a_profile_is_refused(
    manager: ProfileManager, home: Path, tmp_path: Path, place: str
) -> None:
    root = home / "profiles" / ".git" / "tweakio" / "snapshots"
    if place != "own":
        root = tmp_path / "share"
        root.mkdir()
        manager.snapshots.set_store(str(root) if place == "directory" else f"local://{root}")
    elsewhere = tmp_path / "elsewhere"
    make(manager)
    shutil.move(root / "a", elsewhere)
    (root / "a").symlink_to(elsewhere)
    before = tree_digest(elsewhere)
    for step in (
        make,
        lambda manager: manager.snapshots.list("a"),
        lambda manager: manager.snapshots.restore("a"),
        lambda manager: manager.snapshots.verify("a"),
        lambda manager: manager.snapshots.prune("a", Keep(last=1)),
        lambda manager: manager.snapshots.purge("a"),
        lambda manager: manager.snapshots.left("a"),
    ):
        with pytest.raises(SnapshotError, match="share/a|snapshots/a") as caught:
            step(manager)
        assert "symbolic link" in caught.value.message
    assert tree_digest(elsewhere) == before
    check(home)


def test_a_purge_says_what_is_left_and_takes_it_along(
    manager: ProfileManager, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "share").mkdir()
    make(manager)
    manager.snapshots.set_store(str(tmp_path / "share"))
    make(manager)
    manager.create_profile("b", "telegram")
    manager.close()
    cli = Cli(tmp_path)
    kept = [home / "profiles" / ".git" / "tweakio" / "snapshots" / "a", tmp_path / "share" / "a"]
    assert cli.run("profile", "delete", "a", "--snapshots").code == 2
    cli.ok("profile", "recover", "b", "--mode", "hard")
    left = cli.ok("profile", "delete", "b", "--purge").err
    assert "the trash still has 1 older entry of b: tweakio profile trash list" in left
    left = cli.ok("profile", "delete", "a", "--purge").err
    how = "tweakio profile snapshot prune --all a"
    assert f"2 snapshots of a not removed, 2 of them unencrypted: {how}\n" in left
    assert all(any(place.iterdir()) for place in kept)
    (kept[0] / "20260101T000000Z-00000000.json").write_bytes(b"no manifest")
    assert cli.ok(*how.split()[1:], "--dry-run").out == "would prune 2 snapshots of a\n"
    assert cli.ok(*how.split()[1:]).out == "pruned 2 snapshots of a\n"
    assert not any(any(place.iterdir()) for place in kept)
    assert cli.ok(*how.split()[1:]).err.endswith("nothing to prune\n")
    assert cli.run(*how.split()[1:], "--keep-last", "1").code == 2


def test_a_purge_with_snapshots_does_not_begin_without_the_store(
    manager: ProfileManager, home: Path, tmp_path: Path
) -> None:
    make(manager)
    (tmp_path / "share").mkdir()
    manager.snapshots.set_store(str(tmp_path / "share"))
    (tmp_path / "share").rmdir()
    manager.close()
    cli = Cli(tmp_path)
    assert cli.run("profile", "delete", "a", "--purge", "--snapshots").code == 36
    assert cli.ok("profile", "list").rows[0][0] == "a"
    (tmp_path / "share").mkdir()
    result = cli.ok("profile", "delete", "a", "--purge", "--snapshots")
    assert "not removed" not in result.err
    assert list((home / "profiles" / ".git" / "tweakio" / "snapshots" / "a").iterdir()) == []


def test_what_needs_the_newest_reads_no_other(manager, monkeypatch):
    """A thousand manifests in a store far away would be a thousand questions."""
    manager.create_profile("many", "custom")
    first = manager.snapshots.create("many").snapshot
    directory = manager.layout.snapshots / "many"
    described = (directory / f"{first.name}.json").read_text()
    data = (directory / f"{first.name}.tar.zst").read_bytes()
    for number in range(20):
        name = f"20200101T0000{number:02}Z-00000000"
        time = f"2020-01-01T00:00:{number:02}.000000Z"
        value = {**json.loads(described), "name": name, "time": time}
        (directory / f"{name}.json").write_text(json.dumps(value))
        (directory / f"{name}.tar.zst").write_bytes(data)
    assert len(manager.snapshots.list("many")) == 21
    read: list[str] = []
    before = Directory.read
    monkeypatch.setattr(
        Directory,
        "read",
        lambda self, i, name, most: read.append(name) or before(self, i, name, most),
    )
    assert not manager.snapshots.create("many").is_new
    assert manager.snapshots.restore("many").name == first.name
    assert manager.snapshots.restore("many", "20200101T000003").name.startswith("20200101T000003")
    assert len(read) == 3
