"""The trash and the rescued: an entry is complete or not there."""

from __future__ import annotations

import json
import os
import stat
from datetime import timedelta
from pathlib import Path

import pytest

from tweakio.errors import TrashEntryNotFoundError
from tweakio.layout import Layout
from tweakio.models import utc_now
from tweakio.store.attic import Attic


@pytest.fixture
def attic(tmp_path: Path) -> Attic:
    return Attic(Layout(tmp_path), tmp_path / "trash")


def directory(tmp_path: Path, name: str = "p", size: int = 10) -> Path:
    path = tmp_path / name
    (path / "deep").mkdir(parents=True)
    (path / "deep" / "file").write_bytes(bytes(size))
    return path


def test_empty(attic: Attic) -> None:
    assert attic.entries() == []
    assert attic.profile_ids() == frozenset()
    attic.discard_incomplete()
    assert not attic.root.exists()
    with pytest.raises(TrashEntryNotFoundError):
        attic.get("x")


def test_keep(attic: Attic, tmp_path: Path) -> None:
    moment = utc_now()
    path = attic.keep(directory(tmp_path), "my-id_1", "unknown", moment)
    assert (path / "data" / "deep" / "file").exists()
    assert not (tmp_path / "p").exists()
    (entry,) = attic.entries(sizes=True)
    assert (entry.profile_id, entry.kind) == ("my-id_1", "unknown")
    record = (path / "entry.json").stat().st_size
    assert entry.size == 10 + record
    assert entry.profile_created_at == moment
    assert abs(entry.time - utc_now()) < timedelta(seconds=20)
    assert entry.path == path
    assert attic.get(entry.name).name == entry.name
    assert attic.profile_ids() == {"my-id_1"}
    assert attic.entries()[0].size == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE((path / "entry.json").stat().st_mode) == 0o600


def test_ids_that_are_parts_of_others(attic: Attic, tmp_path: Path) -> None:
    for number, name in enumerate(("a", "a-b", "b", "a-b-a")):
        attic.keep(directory(tmp_path, str(number)), name, "deleted", None)
    for name in ("a", "a-b", "b", "a-b-a"):
        assert [entry.profile_id for entry in attic.entries(name)] == [name]
    assert attic.profile_ids() == {"a", "a-b", "b", "a-b-a"}


def test_newest_first(attic: Attic, tmp_path: Path) -> None:
    for number in range(3):
        path = attic.keep(directory(tmp_path, str(number)), "a", "deleted", None)
        value = json.loads((path / "entry.json").read_text())
        value["time"] = f"2026-01-0{number + 1}T00:00:00.000000Z"
        (path / "entry.json").write_text(json.dumps(value))
    assert [entry.time.day for entry in attic.entries()] == [3, 2, 1]


def test_prepared_elsewhere(attic: Attic, tmp_path: Path) -> None:
    """As a transaction does it: the record first, then the data."""
    attic.root.mkdir()
    entry = attic.prepare(tmp_path, "a", "deleted", None)
    assert attic.entries() == []
    os.rename(entry, attic.root / entry.name)
    assert attic.entries() == []
    os.rename(directory(tmp_path), attic.root / entry.name / "data")
    assert [item.name for item in attic.entries()] == [entry.name]


def test_files_and_links_are_kept_too(attic: Attic, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("/nowhere")
    attic.keep(tmp_path / "file", "a", "damaged", None)
    attic.keep(tmp_path / "link", "b", "damaged", None)
    attic.discard_incomplete()
    assert {entry.profile_id for entry in attic.entries()} == {"a", "b"}


RECORD = {
    "profile_id": "a",
    "kind": "deleted",
    "profile_created_at": None,
    "time": "2026-01-01T00:00:00Z",
}
JUST_WRONG = (
    b'{"profile_id": "a", "kind": %b, "profile_created_at": %b, "time": "2026-01-01T00:00:00Z"}'
)
BAD = [
    *(b"", b"[]", b"{", b"{}", b"\xff"),
    json.dumps({"kind": "deleted"}).encode(),
    json.dumps(RECORD | {"kind": "other"}).encode(),
    json.dumps(RECORD | {"time": "yesterday"}).encode(),
    json.dumps(RECORD | {"profile_created_at": 5}).encode(),
]


@pytest.mark.parametrize("content", BAD, ids=range(len(BAD)))
def test_unreadable_record(attic: Attic, tmp_path: Path, content: bytes) -> None:
    path = attic.keep(directory(tmp_path), "a", "deleted", None)
    (path / "entry.json").write_bytes(content)
    assert attic.entries() == []
    with pytest.raises(TrashEntryNotFoundError):
        attic.get(path.name)
    attic.discard_incomplete()
    # It has data, and nobody knows whose; so it stays.
    assert (path / "data" / "deep" / "file").exists()


def test_incomplete_entries(attic: Attic, tmp_path: Path) -> None:
    whole = attic.keep(directory(tmp_path), "a", "deleted", None)
    no_data = attic.prepare(attic.root, "b", "deleted", None)
    emptied = attic.prepare(attic.root, "c", "deleted", None)
    (emptied / "data").mkdir()
    (attic.root / "note.txt").write_text("a file of a person")
    assert [entry.profile_id for entry in attic.entries()] == ["a"]
    attic.discard_incomplete()
    assert whole.is_dir()
    assert not no_data.exists()
    assert not emptied.exists()
    assert (attic.root / "note.txt").exists()


def test_discard(attic: Attic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attic.keep(directory(tmp_path), "a", "deleted", None)
    (entry,) = attic.entries()
    outside = directory(tmp_path, "outside")
    (entry.path / "data" / "link").symlink_to(outside)
    attic.discard(entry.name)
    assert list(attic.root.iterdir()) == []
    assert (outside / "deep" / "file").exists()


def test_discard_that_is_cut_off(
    attic: Attic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the data must never be taken for the whole."""
    attic.keep(directory(tmp_path), "a", "deleted", None)
    (entry,) = attic.entries()

    def dies(path: Path) -> None:
        (path / "discarded" / "deep" / "file").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("tweakio.durable.remove_tree", dies)
        attic.discard(entry.name)
    assert attic.entries() == []
    attic.discard_incomplete()
    assert list(attic.root.iterdir()) == []


@pytest.mark.parametrize("name", ["", ".", "..", "../p", "/etc", "a/b"])
def test_names_that_are_paths(attic: Attic, tmp_path: Path, name: str) -> None:
    attic.keep(directory(tmp_path), "a", "deleted", None)
    with pytest.raises(TrashEntryNotFoundError):
        attic.get(name)
