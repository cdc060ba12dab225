"""Packing and emptying the trash: nothing that is needed goes, and no change fails for it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tweakio.models import format_time, utc_now
from tweakio.store import maintenance
from tweakio.store.maintenance import TRASH_AGE, expire_trash, is_due, maintain, pack
from tweakio.store.repository import Repository

from . import create, git, open_store


@pytest.fixture
def store(home: Path) -> Iterator[Repository]:
    repository = open_store(home)
    yield repository
    repository.close()


def put_in_trash(repository: Repository, path: Path, name: str, age: timedelta) -> str:
    path.mkdir()
    (path / "file").touch()
    entry = repository.trash.keep(path, name, "deleted", None)
    value = json.loads((entry / "entry.json").read_text())
    value["time"] = format_time(utc_now() - age)
    (entry / "entry.json").write_text(json.dumps(value))
    return entry.name


def commits(repository: Repository, number: int) -> None:
    for index in range(number):
        with repository.transaction("set", ["a"]) as tx:
            tx.put_metadata("a", {**tx.metadata("a"), "note": str(index)})


def packs(home: Path) -> list[str]:
    names = os.listdir(home / "profiles/.git/objects/pack")
    return [name for name in names if name.endswith(".pack")]


def test_one_in_sixteen() -> None:
    due = [number for number in range(1600) if is_due(f"{number:08x}" + "0" * 32)]
    assert len(due) == 100


def test_pack(store: Repository, home: Path) -> None:
    create(store, "a")
    commits(store, 10)
    before = git(home / "profiles", "log", "-p", "--format=%H")
    with store.exclusive():
        assert pack(store) > 30
        assert pack(store) == 0
    assert len(packs(home)) == 1
    assert git(home / "profiles", "log", "-p", "--format=%H") == before
    assert git(home / "profiles", "fsck", "--strict") == ""
    commits(store, 1)


def test_packing_happens_by_itself(
    store: Repository, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "_MANY_OBJECTS", 20)
    monkeypatch.setattr(maintenance, "is_due", lambda commit_id: True)
    create(store, "a")
    commits(store, 20)
    assert len(packs(home)) < 12
    assert git(home / "profiles", "fsck", "--strict") == ""


def test_not_for_a_few(store: Repository, home: Path) -> None:
    create(store, "a")
    before = packs(home)
    with store.exclusive():
        maintain(store)
    assert sorted(packs(home)) == sorted(before)


def test_trash_expires(store: Repository, tmp_path: Path) -> None:
    old = put_in_trash(store, tmp_path / "x", "a", TRASH_AGE + timedelta(minutes=1))
    young = put_in_trash(store, tmp_path / "y", "b", TRASH_AGE - timedelta(minutes=1))
    future = put_in_trash(store, tmp_path / "z", "c", -timedelta(days=400))
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "file").touch()
    rescued = store.rescued.keep(tmp_path / "r", "d", "unknown", None)
    value = json.loads((rescued / "entry.json").read_text()) | {"time": "2001-01-01T00:00:00Z"}
    (rescued / "entry.json").write_text(json.dumps(value))
    with store.exclusive():
        maintain(store)
        assert expire_trash(store) == 0
    assert {entry.name for entry in store.trash.entries()} == {young, future}
    assert not (store.trash.root / old).exists()
    # Nobody asked for this one to be deleted.
    assert len(store.rescued.entries()) == 1


def test_failure_is_put_off(
    store: Repository, home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The change before it is done and acknowledged."""

    def fails(repository: Repository) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(maintenance, "is_due", lambda commit_id: True)
    monkeypatch.setattr(maintenance, "_MANY_OBJECTS", 0)
    with monkeypatch.context() as patch:
        patch.setattr(maintenance, "pack", fails)
        assert create(store, "a") is not None
    assert "put off" in caplog.text
    assert git(home / "profiles", "status", "--porcelain") == ""
