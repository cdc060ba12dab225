"""What a transaction is about to do survives it, and one that makes no sense harms nothing."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from tweakio.errors import NewerFormatError
from tweakio.layout import Layout
from tweakio.store.journal import Journal, Move, move_back, move_on

JOURNAL = Journal(
    branch="refs/heads/main",
    old="0" * 40,
    new="1" * 40,
    reflog="line\n",
    profiles=("a", "b"),
    root_files=(".gitignore",),
    moves=(Move("x", "y"),),
    purge=("profiles/.git/tweakio/trash/w",),
)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    layout.temporary.mkdir(parents=True)
    return layout


def test_round_trip(layout: Layout) -> None:
    assert not Journal.exists(layout)
    assert Journal.read(layout) is None
    JOURNAL.write(layout)
    assert Journal.exists(layout)
    assert Journal.read(layout) == JOURNAL
    assert str(layout.home) not in layout.journal.read_text()
    Journal.drop(layout)
    Journal.drop(layout)
    assert not Journal.exists(layout)


def changed(layout: Layout, *changes: dict[str, object], without: str = "") -> None:
    """Change the journal as one that is not damaged."""
    value = json.loads(layout.journal.read_bytes().split(b"\n")[1])
    for change in changes:
        value.update(change)
    value.pop(without, None)
    text = json.dumps(value).encode()
    layout.journal.write_bytes(hashlib.sha1(text).hexdigest().encode() + b"\n" + text + b"\n")


def test_shorter_over_longer(layout: Layout) -> None:
    """It is written over: what an older one was longer stays and counts for nothing."""
    JOURNAL._replace(profiles=tuple(f"p{number}" for number in range(100))).write(layout)
    Journal.drop(layout)
    assert Journal.read(layout) is None
    JOURNAL.write(layout)
    assert Journal.read(layout) == JOURNAL


@pytest.mark.parametrize("length", [1, 20, 41, 60, 150])
def test_writing_that_was_cut_off(layout: Layout, length: int) -> None:
    """Nothing had begun then."""
    JOURNAL._replace(branch="refs/heads/other").write(layout)
    Journal.drop(layout)
    old = layout.journal.read_bytes()
    JOURNAL.write(layout)
    new = layout.journal.read_bytes()
    layout.journal.write_bytes(new[:length] + old[length:])
    assert Journal.exists(layout)
    assert Journal.read(layout) is None
    assert not Journal.exists(layout)


def test_newer_version_is_left(layout: Layout) -> None:
    JOURNAL.write(layout)
    changed(layout, {"version": 2})
    before = layout.journal.read_bytes()
    with pytest.raises(NewerFormatError):
        Journal.read(layout)
    assert layout.journal.read_bytes() == before


CASES = [b"\0" * 50, b"{", b"[]", b"null", b"{}", b"[" * 100_000, b'{"version": 1}', b"\xff"]


@pytest.mark.parametrize("content", CASES, ids=range(len(CASES)))
def test_garbage_is_kept_aside(layout: Layout, content: bytes) -> None:
    layout.journal.write_bytes(content)
    assert Journal.read(layout) is None
    assert not Journal.exists(layout)
    (kept,) = layout.rescued.iterdir()
    assert kept.read_bytes() == content


@pytest.mark.parametrize("key", ["branch", "old", "new", "reflog", "profiles", "moves", "purge"])
def test_incomplete(layout: Layout, key: str) -> None:
    JOURNAL.write(layout)
    changed(layout, without=key)
    assert Journal.read(layout) is None
    assert not Journal.exists(layout)


def moves(*pairs: str) -> tuple[Move, ...]:
    return tuple(Move(*pair.split(">")) for pair in pairs)


def names(layout: Layout) -> set[str]:
    return {str(p.relative_to(layout.home)) for p in layout.home.rglob("*")} - {
        "profiles", "profiles/.git", "profiles/.git/tweakio", "profiles/.git/tweakio/tmp",
    }  # fmt: skip


def test_moves_there_and_back(layout: Layout) -> None:
    """Also where one path is the source of one move and the target of another."""
    (layout.home / "a").mkdir()
    (layout.home / "a" / "old").touch()
    (layout.home / "new").mkdir()
    (layout.home / "new" / "fresh").touch()
    plan = moves("a>b", "new>a")
    before = names(layout)
    move_on(layout, plan)
    assert names(layout) == {"a", "a/fresh", "b", "b/old"}
    move_back(layout, plan)
    assert names(layout) == before
    move_back(layout, plan)
    assert names(layout) == before


@pytest.mark.parametrize("done", [0, 1, 2, 3])
def test_back_from_every_point(layout: Layout, done: int) -> None:
    (layout.home / "entry").mkdir()
    (layout.home / "a").mkdir()
    (layout.home / "a" / "file").touch()
    (layout.home / "b").mkdir()
    before = names(layout)
    plan = moves("entry>trash", "a>trash/data", "b>a")
    for move in plan[:done]:
        os.rename(layout.home / move.source, layout.home / move.target)
    move_back(layout, plan)
    assert names(layout) == before


def test_directory_of_a_source_is_made_again(layout: Layout) -> None:
    (layout.home / "deep" / "er").mkdir(parents=True)
    (layout.home / "deep" / "er" / "x").touch()
    plan = moves("deep/er/x>y")
    move_on(layout, plan)
    (layout.home / "deep" / "er").rmdir()
    (layout.home / "deep").rmdir()
    move_back(layout, plan)
    assert (layout.home / "deep" / "er" / "x").exists()


def test_nothing_is_overwritten(layout: Layout) -> None:
    (layout.home / "a").mkdir()
    (layout.home / "b").symlink_to("nowhere")
    with pytest.raises(FileExistsError, match="in the way"):
        move_on(layout, moves("a>b"))
    assert (layout.home / "a").is_dir()
    (layout.home / "c").mkdir()
    move_back(layout, moves("a>c"))  # the source is there: it never took place
    assert (layout.home / "a").is_dir()
    assert (layout.home / "c").is_dir()
