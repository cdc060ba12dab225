"""The cache of HEAD is believed for one commit and one tree, and may vanish."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from tweakio.store.head import Head, HeadCache
from tweakio.store.objects import TREE_MODE, TreeEntry, object_id, serialise_tree
from tweakio.store.refs import NO_COMMIT

ROOT = serialise_tree(
    [TreeEntry(TREE_MODE, b"a\n", b"\n" * 20), TreeEntry(TREE_MODE, b"b", bytes(20))]
)


def head_with(message: bytes, root: bytes = ROOT) -> Head:
    body = b"tree %b\n\n%b" % (object_id(b"tree", root).hex().encode(), message)
    commit = object_id(b"commit", body).hex()
    active = {"b": 12, "c": None}
    return Head(commit, root, surveyed=True, valid=True, active=active, body=body)


HEAD = head_with(b"one")
OTHER = head_with(b"two")


@pytest.fixture
def cache(tmp_path: Path) -> HeadCache:
    return HeadCache(tmp_path / "cache" / "head")


def test_round_trip(cache: HeadCache, tmp_path: Path) -> None:
    assert cache.read(HEAD.commit) is None
    cache.write(HEAD)
    assert cache.read(HEAD.commit) == HEAD
    assert cache.read(OTHER.commit) is None
    shorter = OTHER._replace(active={})
    cache.write(shorter)
    assert cache.last() == shorter
    assert os.listdir(tmp_path / "cache") == ["head"]


def test_only_what_was_looked_at(cache: HeadCache, tmp_path: Path) -> None:
    cache.write(HEAD._replace(surveyed=False))
    cache.write(HEAD._replace(body=b""))
    cache.write(Head(NO_COMMIT, b"", surveyed=True))
    assert not (tmp_path / "cache").exists()


def test_garbage(cache: HeadCache, tmp_path: Path) -> None:
    path = tmp_path / "cache" / "head"
    cache.write(HEAD)
    good = path.read_bytes()
    header, root = good.split(b"\n", 3)[2:]
    value = json.loads(header)
    cases = [
        b"", b"\n", b"x\n" + root, good[:-1], good.replace(b"12", b"13"), b"\xff\n",
        *(
            b"%b\n%d\n%b"
            % (hashlib.sha1(content.split(b"\n")[0]).hexdigest().encode(), len(content), content)
            for content in (
                b"[]\n" + root, b"null\n" + root,
                json.dumps({**value, "active": {"../x": 1}}).encode() + b"\n" + root,
                json.dumps({**value, "active": {"a": "1"}}).encode() + b"\n" + root,
                header + b"\n" + root.replace(b"b", b"d"), header + b"\n" + root + b"x",
                b"[" * 100_000 + b"\n" + root,
                json.dumps({**value, "active": 5}).encode() + b"\n" + root,
                json.dumps({"commit": value["commit"]}).encode() + b"\n" + root,
            )
        ),
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
    def fails(*arguments: object) -> int:
        raise OSError(28, "full")

    cache.write(HEAD)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fails)
        cache.write(OTHER)
    assert cache.read(OTHER.commit) is None
    path = tmp_path / "cache" / "head"
    path.unlink()
    path.mkdir()
    cache.write(HEAD)
    assert cache.read(HEAD.commit) is None


@pytest.mark.parametrize("length", [0, 10, 30, 60])
def test_half_of_it_is_none(cache: HeadCache, tmp_path: Path, length: int) -> None:
    """It is written over, so a crash leaves the begin of the new and the end of the old."""
    path = tmp_path / "cache" / "head"
    cache.write(HEAD)
    old = path.read_bytes()
    cache.write(OTHER)
    path.write_bytes(path.read_bytes()[:length] + old[length:])
    found = cache.last()
    assert found == (HEAD if length == 0 else None)
