"""A list believes what it read before as long as nothing can have changed, and no longer."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tweakio import ProfileManager, durable
from tweakio.store import listing
from tweakio.store.repository import Repository
from tweakio.store.worktree import Found

from . import create, git, open_store

IDS = [f"p{number:02}" for number in range(60)]


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written just now counts as old: the files here get new inodes or sizes."""
    monkeypatch.setattr(listing, "_SETTLED", -(10**10))


@pytest.fixture
def store(home: Path) -> Iterator[Repository]:
    repository = open_store(home)
    create(repository, *IDS)
    yield repository
    repository.close()


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The profiles whose metadata.json was read."""
    seen: list[str] = []
    real = durable.read_regular

    def spy(path: Path | str, limit: int) -> bytes:
        if os.path.basename(path) == "metadata.json":
            seen.append(os.path.basename(os.path.dirname(path)))
        return real(path, limit)

    monkeypatch.setattr(durable, "read_regular", spy)
    return seen


def look(repository: Repository) -> dict[str, Found]:
    """What the list says, after making sure that a look at everything says the same."""
    head = repository.head()
    found = {item.profile_id: item for item in repository.listing.examine_all(head)}
    thorough = {item.profile_id: item for item in repository.work_tree.examine_all(head)}
    assert list(found) == list(thorough)
    for profile_id, item in thorough.items():
        assert found[profile_id][:4] == item[:4]
    return found


def again(repository: Repository) -> Repository:
    return Repository(repository.layout)


def test_what_is_known_is_not_read_again(store: Repository, read: list[str]) -> None:
    head = store.head()
    store.listing.examine_all(head)
    assert read == IDS
    read.clear()
    assert [item.profile_id for item in store.listing.examine_all(head)] == IDS
    other = again(store)
    assert [item.metadata for item in other.listing.examine_all(other.head())] == [
        item.metadata for item in store.listing.examine_all(head)
    ]
    assert read == []


def test_what_changed_a_moment_ago_is_read_again(
    store: Repository, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "_SETTLED", 10**12)
    for _ in range(2):
        store.listing.examine_all(store.head())
    assert read == IDS * 2
    assert not store.layout.listing_cache.exists()


@pytest.mark.parametrize("fresh", [False, True])
def test_every_change_is_seen(store: Repository, fresh: bool) -> None:
    profiles = store.layout.profiles
    look(store)

    def now() -> dict[str, Found]:
        return look(again(store) if fresh else store)

    path = profiles / "p01" / "metadata.json"
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"custom"', b'"custom",\n  "note": "by hand"'))
    assert now()["p01"].state == "edited"
    path.write_bytes(b"{")
    assert now()["p01"].state == "damaged"
    path.write_bytes(content)
    assert now()["p01"].state == "clean"
    (profiles / "p02" / "fingerprint.json").write_bytes(b"[1]")
    (profiles / "p03" / "metadata.json").unlink()
    os.rename(profiles / "p04", profiles / "gone")
    found = now()
    assert [found[name].state for name in ("p02", "p03", "p04")] == ["damaged"] * 3


def test_same_size_and_time(store: Repository) -> None:
    """An edit whose author put the old time back is seen by the time of that."""
    look(store)
    path = store.layout.profile("p01").metadata
    status = path.stat()
    path.write_bytes(path.read_bytes().replace(b"inactive", b"inactivE"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert look(store)["p01"].state == "damaged"


@pytest.mark.skipif(os.name == "nt", reason="making links needs a privilege there")
def test_directory_replaced_by_a_link(store: Repository, tmp_path: Path) -> None:
    """Its files are the same ones then, and still must not be followed."""
    look(store)
    directory = store.layout.profile("p01").directory
    os.rename(directory, tmp_path / "elsewhere")
    directory.symlink_to(tmp_path / "elsewhere")
    assert look(store)["p01"].problem == "its directory is not a directory"


def test_another_head(store: Repository) -> None:
    look(store)
    git(store.layout.profiles, "rm", "-rq", "p05")
    changed = store.layout.profile("p06").metadata
    changed.write_bytes(changed.read_bytes().replace(b'"custom"', b'"other"'))
    git(store.layout.profiles, "commit", "-qam", "by hand")
    found = look(store)
    assert "p05" not in found
    assert found["p06"].metadata is not None
    assert found["p06"].metadata["platform"] == "other"


@pytest.mark.parametrize("content", [b"", b"[]", b"[[1]]", b"{", b"null", b"\xff" * 50])
def test_damaged_cache_file(store: Repository, content: bytes) -> None:
    look(store)
    path = store.layout.listing_cache
    for data in (content, path.read_bytes()[:-5], b"x" + path.read_bytes()):
        path.write_bytes(data)
        assert len(look(again(store))) == len(IDS)
    again(store).listing._file.write(content)
    assert len(look(again(store))) == len(IDS)


def test_few_profiles_keep_no_file(home: Path) -> None:
    repository = open_store(home)
    create(repository, *IDS[:40])
    look(repository)
    repository.close()
    assert not repository.layout.listing_cache.exists()


def test_what_the_caller_does_to_a_list_stays_with_him(home: Path) -> None:
    config = {"proxy": {"server": "a"}}
    with ProfileManager(home) as manager:
        manager.create_profile("a", "custom", platform_config=config)
        for _ in range(3):
            (profile,) = manager.list_profiles()
            assert profile.platform_config == config
            profile.platform_config["proxy"]["server"] = "b"


def test_in_use_is_never_remembered(home: Path) -> None:
    with ProfileManager(home) as manager, ProfileManager(home) as other:
        manager.create_profile("a", "custom")
        for manager_of_it in (manager, other):
            for _ in range(2):
                assert not manager_of_it.list_profiles()[0].in_use
            manager.activate_profile("a")
            assert manager_of_it.list_profiles()[0].in_use
            manager.deactivate_profile()
            assert not manager_of_it.list_profiles()[0].in_use


def test_cache_file_is_json(store: Repository) -> None:
    look(store)
    rows = json.loads(store.layout.listing_cache.read_bytes().split(b"\n", 2)[2])
    assert [row[0] for row in rows] == IDS
