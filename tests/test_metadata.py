"""ProfileMetadataHandler: load, save, validate, mark_corrupted."""

from __future__ import annotations

import json

import pytest
from invariants import check

from tweakio import (
    InvalidMetadataError,
    NewerFormatError,
    ProfileCorruptedError,
    ProfileManager,
    ProfileMetadataHandler,
    ProfileNotFoundError,
)


@pytest.fixture
def handler(manager):
    manager.create_profile("alpha", "whatsapp", note="first")
    return manager.metadata


def test_save_is_a_commit_and_load_reads_it(manager, handler, git):
    handler.save("alpha", {**handler.load("alpha"), "note": "second", "x_new": [1]}, command="me")
    assert handler.load("alpha")["note"] == "second"
    assert json.loads(git("show", "HEAD:alpha/metadata.json"))["x_new"] == [1]
    assert manager.history()[0].operation == "set"
    assert manager.history()[0].command == "me"
    check(manager.home)


def test_saving_the_same_makes_no_commit(manager, handler):
    before = manager.history()
    handler.save("alpha", handler.load("alpha"))
    assert manager.history() == before


def test_unknown_fields_survive_every_operation(manager, handler):
    manager.create_profile("beta", "custom")
    new = {"x_text": "ü", "x_null": None, "x_deep": {"y": [1, 2.5, None, {"z": True}]}}
    handler.save("alpha", {**handler.load("alpha"), **new})
    manager.activate_profile("alpha")
    manager.update_profiles(["alpha"], note="less", add_tags=["t"])
    manager.update_profiles(["alpha"], note="more", add_tags=["t"])
    manager.undo()
    manager.restore("alpha", "HEAD~1")
    manager.activate_profile("beta")
    manager.recover_profile("alpha", "hard")
    manager.delete_profile("alpha")
    manager.undo()
    value = handler.load("alpha")
    assert {key: value[key] for key in new} == new
    assert value["note"] == "more"


@pytest.mark.parametrize(
    "change",
    [
        {"profile_id": "beta"},
        {"created_at": "2020-01-01T00:00:00Z"},
        {"status": "sleeping"},
        {"platform_config": {"token": "clear"}},
        {"platform": None},
    ],
    ids=str,
)
def test_save_refuses_what_does_not_fit(manager, handler, change):
    before = manager.history(), handler.load("alpha")
    with pytest.raises(InvalidMetadataError) as caught:
        handler.save("alpha", {**handler.load("alpha"), **change})
    assert caught.value.hint
    assert (manager.history(), handler.load("alpha")) == before


def test_save_of_a_newer_version_is_refused(handler):
    with pytest.raises(NewerFormatError):
        handler.save("alpha", {**handler.load("alpha"), "schema_version": 2})


def test_there_must_be_such_a_profile(handler):
    value = {**handler.load("alpha"), "profile_id": "beta"}
    for action in (
        lambda: handler.load("beta"),
        lambda: handler.save("beta", value),
        lambda: handler.mark_corrupted("beta", "why"),
    ):
        with pytest.raises(ProfileNotFoundError):
            action()


@pytest.mark.parametrize("data", [b"", b"{", b"null", b"\0" * 50])
def test_a_damaged_file_is_reported_and_kept(manager, handler, data):
    path = manager.get_profile("alpha").path / "metadata.json"
    path.write_bytes(data)
    with pytest.raises(ProfileCorruptedError) as caught:
        handler.load("alpha")
    assert "profile recover alpha" in caught.value.hint
    assert path.read_bytes() == data


def test_a_missing_file_and_a_missing_directory(manager, handler):
    path = manager.get_profile("alpha").path
    (path / "metadata.json").unlink()
    with pytest.raises(ProfileCorruptedError, match=r"metadata\.json is missing"):
        handler.load("alpha")
    path.rename(manager.home / "elsewhere")
    with pytest.raises(ProfileCorruptedError, match="directory is missing"):
        handler.load("alpha")


def test_a_file_of_another_profile_is_corrupted(manager, handler):
    other = manager.create_profile("beta", "custom")
    (other.path / "metadata.json").write_bytes(
        (manager.get_profile("alpha").path / "metadata.json").read_bytes()
    )
    with pytest.raises(ProfileCorruptedError, match="in the directory 'beta'"):
        handler.load("beta")


def test_a_link_is_not_followed(manager, handler):
    path = manager.get_profile("alpha").path / "metadata.json"
    target = manager.home / "outside.json"
    path.rename(target)
    path.symlink_to(target)
    with pytest.raises(ProfileCorruptedError):
        handler.load("alpha")


def test_a_newer_file_is_neither_damaged_nor_touched(manager, handler):
    path = manager.get_profile("alpha").path / "metadata.json"
    data = json.dumps({**handler.load("alpha"), "schema_version": 2, "status": "asleep"}).encode()
    path.write_bytes(data)
    for action in (
        lambda: handler.load("alpha"),
        lambda: manager.activate_profile("alpha"),
        lambda: manager.recover_profile("alpha"),
    ):
        with pytest.raises(NewerFormatError) as caught:
            action()
        assert caught.value.hint == "upgrade tweakio"
    manager.create_profile("beta", "custom")
    assert path.read_bytes() == data


def test_mark_corrupted_blocks_until_it_is_recovered(manager, handler):
    handler.mark_corrupted("alpha", "the browser\nsaid so " * 50)
    profile = manager.get_profile("alpha")
    assert profile.status == "corrupted"
    assert profile.problem
    assert [found.id for found in manager.list_profiles(status="corrupted")] == ["alpha"]
    with pytest.raises(ProfileCorruptedError):
        manager.activate_profile("alpha")
    assert "\n" not in manager.history()[0].summary
    assert manager.recover_profile("alpha").status == "inactive"
    assert manager.get_profile("alpha").note == "first"
    manager.activate_profile("alpha")
    check(manager.home)


def test_mark_corrupted_keeps_the_damaged_bytes(manager, handler):
    path = manager.get_profile("alpha").path / "metadata.json"
    path.write_bytes(b"precious bytes")
    handler.mark_corrupted("alpha", "damaged")
    (entry,) = manager.trash("alpha")
    assert entry.kind == "damaged"
    assert (entry.path / "data" / "metadata.json").read_bytes() == b"precious bytes"
    assert json.loads(path.read_bytes())["status"] == "corrupted"
    check(manager.home)


def test_mark_corrupted_needs_something_valid_in_history(manager, handler, git):
    path = manager.get_profile("alpha").path / "metadata.json"
    path.write_bytes(b"{}")
    git("commit", "-q", "--no-verify", "-am", "broken by hand")
    with pytest.raises(ProfileCorruptedError):
        handler.mark_corrupted("alpha", "damaged")
    assert path.read_bytes() == b"{}"


def test_it_can_be_replaced(home):
    class Counting(ProfileMetadataHandler):
        loads = 0

        def examine(self, profile_id):
            Counting.loads += 1
            return super().examine(profile_id)

    with ProfileManager(home, metadata_handler=Counting) as manager:
        manager.create_profile("alpha", "custom")
        manager.get_profile("alpha")
    assert Counting.loads


def test_what_no_reader_takes_is_not_written(manager: ProfileManager) -> None:
    """The profile would be corrupted from then on, and lose its settings when it is recovered."""
    manager.create_profiles(["a", "b"], "custom", tags=["kept"], note="kept")
    head = manager.repository.head().commit
    tags = [f"tag-{number}-{'x' * 40}" for number in range(25_000)]
    large = {f"key{number}": "x" * 900 for number in range(1200)}
    for change in (
        lambda: manager.update_profiles(["a"], add_tags=tags),
        lambda: manager.update_profiles(["a", "b"], platform_config=large),
        lambda: manager.create_profile("c", "custom", tags=tags),
        lambda: manager.metadata.save("a", {**manager.metadata.load("a"), "tags": tags}),
    ):
        with pytest.raises(
            InvalidMetadataError, match="metadata.json of '[abc]' would have"
        ) as caught:
            change()
        assert "fewer or shorter" in caught.value.hint
    assert manager.repository.head().commit == head
    assert [profile.tags for profile in manager.list_profiles()] == [("kept",)] * 2
    assert not (manager.layout.profiles / "c").exists()
    check(manager.home)
