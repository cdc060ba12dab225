"""The cache of HEAD is believed for one commit and one tree, and may vanish."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tweakio.store.head import Head, HeadCache
from tweakio.store.objects import TREE_MODE, TreeEntry, serialise_tree
from tweakio.store.refs import NO_COMMIT

ROOT = serialise_tree(
    [TreeEntry(TREE_MODE, b"a\n", b"\n" * 20), TreeEntry(TREE_MODE, b"b", bytes(20))]
)
HEAD = Head("1" * 40, ROOT, surveyed=True, valid=True, active={"b": 12, "c": None})


@pytest.fixture
def cache(tmp_path: Path) -> HeadCache:
    (tmp_path / "tmp").mkdir()
    return HeadCache(tmp_path / "cache" / "head", tmp_path / "tmp")


def test_round_trip(cache: HeadCache, tmp_path: Path) -> None:
    assert cache.read(HEAD.commit) is None
    cache.write(HEAD)
    assert cache.read(HEAD.commit) == HEAD
    assert cache.read("2" * 40) is None
    assert os.listdir(tmp_path / "tmp") == []


def test_only_what_was_looked_at(cache: HeadCache, tmp_path: Path) -> None:
    cache.write(Head("1" * 40, ROOT))
    cache.write(Head(NO_COMMIT, b"", surveyed=True))
    assert not (tmp_path / "cache").exists()


def test_wrong_tree_or_garbage(cache: HeadCache, tmp_path: Path) -> None:
    path = tmp_path / "cache" / "head"
    cache.write(HEAD)
    good = path.read_bytes()
    header, _, root = good.partition(b"\n")
    value = json.loads(header)
    cases = [
        b"", b"\n", b"x\n" + root, good[:-1], good + b"x", header, b"[]\n" + root, b"null\n" + root,
        json.dumps({**value, "tree": "2" * 40}).encode() + b"\n" + root,
        json.dumps({**value, "active": 5}).encode() + b"\n" + root,
        json.dumps({key: value[key] for key in ("commit", "tree")}).encode() + b"\n" + root,
    ]  # fmt: skip
    for content in cases:
        path.write_bytes(content)
        assert cache.read(HEAD.commit) is None
    path.unlink()
    path.mkdir()
    assert cache.read(HEAD.commit) is None


def test_failure_to_write_is_only_slower(
    cache: HeadCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: object) -> None:
        raise OSError(28, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fails)
        cache.write(HEAD)
    assert os.listdir(tmp_path / "tmp") == []
    assert cache.read(HEAD.commit) is None
    (tmp_path / "tmp").rmdir()
    cache.write(HEAD)
    assert cache.read(HEAD.commit) is None
