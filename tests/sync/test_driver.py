"""What git runs to merge a metadata.json, called as git calls it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tweakio import ProfileManager
from tweakio.sync.driver import main


@pytest.fixture
def sides(manager: ProfileManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("GIT_REFLOG_ACTION", "GIT_DIR"):
        monkeypatch.delenv(name, raising=False)
    manager.create_profile("p1", "custom", note="base")
    monkeypatch.chdir(manager.layout.profiles)
    content = json.loads((manager.layout.profiles / "p1/metadata.json").read_bytes())
    paths = [tmp_path / name for name in ("base", "ours", "theirs")]

    def write(*changes: dict[str, Any] | bytes) -> list[str]:
        for path, change in zip(paths, changes, strict=True):
            path.write_bytes(
                change if isinstance(change, bytes) else json.dumps({**content, **change}).encode()
            )
        return [*map(str, paths), "p1/metadata.json"]

    return write


def ours(arguments: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(arguments[1]).read_bytes())
    return found


def test_both_changed_something_else(sides: Any) -> None:
    arguments = sides({}, {"note": "mine"}, {"tags": ["theirs"]})
    assert main(arguments) == 0
    assert (ours(arguments)["note"], ours(arguments)["tags"]) == ("mine", ["theirs"])


def test_only_theirs_changed_and_is_taken_byte_by_byte(sides: Any) -> None:
    arguments = sides({}, {}, {"note": "theirs"})
    theirs = Path(arguments[2]).read_bytes()
    assert main(arguments) == 0
    assert Path(arguments[1]).read_bytes() == theirs


def test_nothing_to_do_leaves_ours_as_it_is(sides: Any) -> None:
    arguments = sides(b"", {"note": "mine"}, {"note": "mine"})
    before = Path(arguments[1]).stat().st_mtime_ns
    assert main(arguments) == 0
    assert Path(arguments[1]).stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (({}, {"note": "mine"}, {"note": "theirs"}), ": note"),
        (({}, {}, b"<<<<<<< HEAD\n"), "JSON"),
        (({}, {}, {"schema_version": 99}), "newer"),
        (({}, {}, {"created_at": "2020-01-01T00:00:00.000000Z"}), "created_at"),
        (({"tags": []}, {"tags": ["a" * 60] * 2}, {"tags": 5}), "tags"),
    ],
)
def test_a_conflict_is_said_and_ours_stays(
    sides: Any, changes: Any, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = sides(*changes)
    before = Path(arguments[1]).read_bytes()
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert "tweakio: conflict in p1/metadata.json: " in error
    assert said in error
    assert "give up: git reset --merge" in error
    assert Path(arguments[1]).read_bytes() == before


def test_a_file_that_is_not_there(sides: Any, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = sides({}, {}, {})
    Path(arguments[2]).unlink()
    assert main(arguments) == 1
    assert "cannot be read" in capsys.readouterr().err
