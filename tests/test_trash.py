"""The trash and the rescued: what is kept, brought back and purged."""

from __future__ import annotations

import os
from datetime import timedelta

import pytest
from cli_helpers import Cli, Holder
from invariants import check, tree_digest

from tweakio import (
    ProfileActiveError,
    ProfileCorruptedError,
    ProfileExistsError,
    ProfileManager,
    ProfileNotFoundError,
    TrashEntryNotFoundError,
)

DATA = b"\0login" * 1000


@pytest.fixture
def alpha(manager):
    profile = manager.create_profile("alpha", "telegram", note="kept")
    (profile.path / "browser_profile" / "Cookies").write_bytes(DATA)
    return profile


def cookies(profile):
    return (profile.path / "browser_profile" / "Cookies").read_bytes()


def test_a_deleted_profile_is_in_it(manager, alpha):
    inode = alpha.path.stat().st_ino
    manager.delete_profile("alpha")
    (entry,) = manager.trash()
    assert (entry.profile_id, entry.kind) == ("alpha", "deleted")
    assert entry.profile_created_at == alpha.created_at
    assert entry.time >= alpha.created_at
    assert entry.size > len(DATA)
    # Renamed, not copied.
    assert (entry.path / "data").stat().st_ino == inode
    assert manager.trash("beta") == []
    check(manager.home, permissions=False)


@pytest.mark.parametrize("method", ["entry", "undo", "restore", "reset"])
def test_all_ways_back_bring_the_data(manager, alpha, git, method):
    manager.delete_profile("alpha")
    if method == "entry":
        manager.restore_from_trash(manager.trash()[0].name)
    elif method == "undo":
        manager.undo()
    elif method == "restore":
        manager.restore("alpha", "HEAD~1")
    else:
        git("reset", "-q", "--hard", "HEAD~1")
        manager.create_profile("beta", "custom")
    profile = manager.get_profile("alpha")
    assert (profile.note, profile.created_at) == ("kept", alpha.created_at)
    assert cookies(profile) == DATA
    assert manager.trash() == []
    check(manager.home, permissions=False)


def test_restoring_can_be_undone_and_redone(manager, alpha):
    manager.delete_profile("alpha")
    manager.restore_from_trash(manager.trash()[0].name)
    manager.undo()
    assert manager.list_profiles() == []
    manager.redo()
    assert cookies(alpha) == DATA


def test_it_comes_back_inactive(manager, alpha):
    manager.select_profile("alpha")
    manager.delete_profile("alpha", force=True)
    assert manager.restore_from_trash(manager.trash()[0].name).status == "inactive"


@pytest.mark.parametrize("other", ["alpha", "ALPHA"])
def test_never_over_another_profile(manager, alpha, other):
    manager.delete_profile("alpha")
    new = manager.create_profile(other, "custom")
    (entry,) = manager.trash()
    with pytest.raises(ProfileExistsError):
        manager.restore_from_trash(entry.name)
    assert manager.trash() == [entry]
    assert manager.get_profile(other) == new


def test_two_of_the_same_name_are_told_apart(manager, alpha):
    manager.delete_profile("alpha")
    second = manager.create_profile("alpha", "custom")
    (second.path / "browser_profile" / "Cookies").write_bytes(b"second")
    manager.delete_profile("alpha")
    new, old = manager.trash("alpha")
    assert (new.profile_created_at, old.profile_created_at) == (
        second.created_at,
        alpha.created_at,
    )
    assert cookies(manager.restore_from_trash(old.name)) == DATA
    manager.delete_profile("alpha")
    assert cookies(manager.restore_from_trash(new.name)) == b"second"


def test_ids_that_contain_each_other(manager):
    for name in ("a", "a-b", "b", "a-b-c"):
        profile = manager.create_profile(name, "custom")
        (profile.path / "browser_profile" / "Cookies").write_bytes(name.encode())
        manager.delete_profile(name)
    assert [entry.profile_id for entry in manager.trash("b")] == ["b"]
    assert [entry.profile_id for entry in manager.trash("a-b")] == ["a-b"]
    for name in ("b", "a-b-c", "a", "a-b"):
        profile = manager.restore(name, next(c for c in manager.history(name) if c).revision + "~1")
        assert cookies(profile) == name.encode()


def test_what_was_reset_comes_back_in_exchange(manager, alpha):
    before = tree_digest(alpha.path / "browser_profile")
    manager.recover_profile("alpha", "hard")
    (alpha.path / "browser_profile" / "Cookies").write_bytes(b"new login")
    (entry,) = manager.trash("alpha")
    assert entry.kind == "reset"
    manager.restore_from_trash(entry.name)
    assert tree_digest(alpha.path / "browser_profile") == before
    (exchanged,) = manager.trash("alpha")
    assert (exchanged.path / "data/browser_profile/Cookies").read_bytes() == b"new login"
    manager.undo()
    assert cookies(alpha) == b"new login"
    check(manager.home, permissions=False)


def test_a_reset_is_given_to_nobody_else(manager, alpha):
    manager.recover_profile("alpha", "hard")
    (entry,) = manager.trash("alpha")
    manager.delete_profile("alpha")
    with pytest.raises(ProfileNotFoundError):
        manager.restore_from_trash(entry.name)
    other = manager.create_profile("alpha", "telegram")
    with pytest.raises(ProfileExistsError, match="another profile"):
        manager.restore_from_trash(entry.name)
    assert os.listdir(other.path / "browser_profile") == [".git"]
    assert entry.path.exists()


def test_a_reset_is_not_exchanged_while_it_is_used(manager, alpha, tmp_path):
    manager.recover_profile("alpha", "hard")
    (entry,) = manager.trash("alpha")
    cli = Cli(tmp_path)
    with Holder(cli, "alpha"), pytest.raises(ProfileActiveError):
        manager.restore_from_trash(entry.name)
    manager.activate_profile("alpha")
    assert manager.restore_from_trash(entry.name).status == "active"
    assert cookies(alpha) == DATA


def test_damaged_bytes_are_shown_not_restored(manager, alpha):
    (alpha.path / "metadata.json").write_bytes(b"bytes")
    manager.recover_profile("alpha")
    (entry,) = manager.trash()
    with pytest.raises(ProfileCorruptedError) as caught:
        manager.restore_from_trash(entry.name)
    assert str(entry.path) in caught.value.hint


@pytest.mark.parametrize("content", [b"", b"{", None])
def test_an_entry_with_damaged_metadata(manager, alpha, content):
    manager.delete_profile("alpha")
    (entry,) = manager.trash()
    path = entry.path / "data" / "metadata.json"
    path.unlink() if content is None else path.write_bytes(content)
    (entry.path / "data" / "fingerprint.json").unlink()
    profile = manager.restore_from_trash(entry.name)
    assert (profile.note, profile.created_at) == ("kept", alpha.created_at)
    assert cookies(profile) == DATA
    check(manager.home, permissions=False)


def test_damaged_metadata_of_an_older_profile_of_the_name(manager, alpha):
    """What history has of a later one is not taken for it, nor does it hide what it has of this."""
    (alpha.path / "metadata.json").write_bytes(b"{")
    manager.delete_profile("alpha", force=True)
    (entry,) = manager.trash("alpha")
    manager.create_profile("alpha", "custom", note="another")
    manager.delete_profile("alpha", purge=True)
    found = manager.restore_from_trash(entry.name)
    assert (found.platform, found.note) == ("telegram", "kept")
    assert found.created_at == alpha.created_at
    assert cookies(found) == DATA


def test_a_directory_that_history_never_knew(manager, alpha, caplog):
    stray = manager.layout.profiles / "stray"
    (stray / "browser_profile").mkdir(parents=True)
    (stray / "browser_profile" / "Cookies").write_bytes(b"stray")
    manager.update_profiles(["alpha"], note="x")
    assert not stray.exists()
    assert "not in history" in caplog.text
    (entry,) = manager.trash("stray")
    assert entry.kind == "unknown"
    profile = manager.restore_from_trash(entry.name)
    assert cookies(profile) == b"stray"
    assert profile.platform == "custom"
    manager.activate_profile("stray")
    check(manager.home, permissions=False)


def test_what_is_no_profile_is_left(manager, alpha):
    notes = manager.layout.profiles / "notes"
    notes.mkdir()
    (notes / "todo.txt").write_text("mine")
    (manager.layout.profiles / "README").write_text("mine")
    manager.update_profiles(["alpha"], note="x")
    assert (notes / "todo.txt").read_text() == (manager.layout.profiles / "README").read_text()
    assert manager.trash() == []


BAD_NAMES = ["", ".", "..", "/", "../../../x", "nonsense", "a\0b", "\ud800", "x" * 5000, "*"]


@pytest.mark.parametrize("name", BAD_NAMES, ids=range(len(BAD_NAMES)))
def test_names_that_are_none(manager, alpha, name):
    manager.delete_profile("alpha")
    for action in (manager.restore_from_trash, manager.purge_trash):
        with pytest.raises(TrashEntryNotFoundError) as caught:
            action(name)
        assert len(caught.value.message) < 150
    assert len(manager.trash()) == 1


def test_purging(manager, alpha):
    for _ in range(3):
        manager.delete_profile("alpha")
        manager.create_profile("alpha", "custom")
    first, second, third = manager.trash()
    assert [entry.name for entry in manager.purge_trash(second.name)] == [second.name]
    assert manager.purge_trash(older_than=timedelta(days=1)) == []
    assert [e.name for e in manager.trash()] == [first.name, third.name]
    removed = manager.purge_trash(older_than=timedelta(0))
    assert {entry.name for entry in removed} == {first.name, third.name}
    assert all(entry.size > 0 for entry in removed)
    assert manager.trash() == manager.purge_trash() == []
    assert os.listdir(manager.layout.trash) == []


def test_purging_everything_takes_the_rescued_too(manager, alpha):
    (alpha.path / "metadata.json").write_bytes(b"bytes")
    manager.recover_profile("alpha")
    manager.delete_profile("alpha")
    assert {entry.kind for entry in manager.purge_trash()} == {"deleted", "damaged"}
    assert manager.trash() == []


def test_delete_with_purge_keeps_nothing(manager, alpha):
    manager.delete_profile("alpha", purge=True)
    assert manager.trash() == []
    left = [f for _, _, files in os.walk(manager.home) for f in files if f == "Cookies"]
    assert left == []


def test_only_the_old_expires(manager, alpha):
    manager.delete_profile("alpha")
    manager.create_profile("beta", "custom")
    manager.delete_profile("beta")
    new, old = manager.trash()
    record = old.path / "entry.json"
    year = str(old.time.year)
    record.write_text(record.read_text().replace(f'"time": "{year}', '"time": "2020'))
    assert manager.gc()[1] == 1
    assert [entry.name for entry in manager.trash()] == [new.name]


def test_a_damaged_entry_is_passed_over(manager, alpha):
    manager.delete_profile("alpha")
    root = manager.layout.trash
    (root / "20200101T000000-x-abcdef" / "data").mkdir(parents=True)
    (root / "20200101T000000-x-abcdef" / "data" / "f").write_text("x")
    (root / "a file").write_text("x")
    assert [entry.profile_id for entry in manager.trash()] == ["alpha"]
    manager.undo()
    assert cookies(manager.get_profile("alpha")) == DATA


def test_a_link_in_the_browser_data_is_not_followed(manager, alpha):
    outside = manager.home / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    (alpha.path / "browser_profile" / "link").symlink_to(outside)
    manager.delete_profile("alpha")
    manager.purge_trash()
    assert (outside / "precious").read_text() == "x"


def test_an_empty_home_has_none(home):
    home.mkdir()
    with ProfileManager(home) as manager:
        assert manager.trash() == manager.purge_trash() == []
    assert os.listdir(home) == []


@pytest.mark.skipif(os.name == "nt", reason="paths from a directory's descriptor")
def test_a_path_that_is_longer_than_the_system_takes_one(manager):
    """Such an entry once kept the list and the purge of all the others from working."""
    manager.create_profiles(["a", "b"], "custom")
    above = os.open(manager.layout.profile("a").browser_profile, os.O_RDONLY)
    for _ in range(22):
        os.mkdir("n" * 200, dir_fd=above)
        below = os.open("n" * 200, os.O_RDONLY, dir_fd=above)
        os.close(above)
        above = below
    file = os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=above)
    os.write(file, b"x" * 1000)
    os.close(file)
    os.close(above)
    manager.delete_profile("a")
    manager.delete_profile("b")
    sizes = {entry.profile_id: entry.size for entry in manager.trash()}
    assert sizes["a"] == sizes["b"] + 1000
    manager.undo()
    manager.undo()
    assert [profile.id for profile in manager.list_profiles()] == ["a", "b"]
    manager.delete_profile("a")
    assert [entry.profile_id for entry in manager.purge_trash()] == ["a"]
    assert manager.trash() == []
