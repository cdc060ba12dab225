"""ProfileManager: one method per use case, with good and with bad arguments."""

from __future__ import annotations

import os
import threading
from datetime import timezone
from pathlib import Path

import pytest
from invariants import check

from tweakio import (
    FileAccessError,
    HomeNotFoundError,
    InvalidInputError,
    InvalidMetadataError,
    InvalidProfileIdError,
    ProfileExistsError,
    ProfileManager,
    ProfileNotFoundError,
    RepositoryDamagedError,
    UnknownPlatformError,
)


def snapshot(home):
    return {
        path.relative_to(home): path.read_bytes()
        for path in home.rglob("*")
        if path.is_file() and "cache" not in path.parts and "locks" not in path.parts
    }


# Homes


def test_making_a_manager_touches_nothing(home):
    ProfileManager(home)
    assert not home.exists()


@pytest.mark.parametrize("kind", [str, Path])
def test_a_home_can_be_text_or_a_path(home, kind):
    with ProfileManager(kind(home)) as manager:
        manager.create_profile("alpha", "custom")
    assert (home / "profiles" / "alpha").is_dir()


def test_a_relative_home_stays_when_the_directory_changes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ProfileManager("home") as manager:
        manager.create_profile("alpha", "custom")
        os.mkdir("other")
        os.chdir("other")
        manager.create_profile("beta", "custom")
    assert sorted(p.name for p in (tmp_path / "home" / "profiles").iterdir() if p.name[0] != ".")


def test_the_variable_names_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("TWEAKIO_HOME", str(tmp_path / "named"))
    with ProfileManager() as manager:
        assert manager.home == tmp_path / "named"
        assert ProfileManager(tmp_path / "given").home == tmp_path / "given"


def test_the_platforms_directory_by_default(monkeypatch):
    with ProfileManager() as manager:
        assert manager.home.name == "tweakio"
        assert str(manager.home).startswith(os.environ["XDG_DATA_HOME"])
        assert manager.list_profiles() == []
        manager.create_profile("alpha", "custom")
        check(manager.home)


def test_a_home_that_is_missing(home, tmp_path):
    with ProfileManager(home) as manager:
        for action in (manager.list_profiles, manager.history, manager.trash):
            with pytest.raises(HomeNotFoundError):
                action()
    assert not home.exists()
    with (
        ProfileManager(tmp_path / "no" / "such" / "home") as manager,
        pytest.raises(HomeNotFoundError),
    ):
        manager.create_profile("alpha", "custom")
    assert not (tmp_path / "no").exists()


def test_a_home_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("mine")
    with ProfileManager(tmp_path / "file") as manager:
        for action in (manager.list_profiles, lambda: manager.create_profile("alpha", "custom")):
            with pytest.raises(HomeNotFoundError):
                action()
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_home_that_cannot_be_written(home):
    with ProfileManager(home) as manager:
        manager.create_profile("alpha", "custom")
    for directory, _, _ in os.walk(home):
        os.chmod(directory, 0o500)
    try:
        with ProfileManager(home) as manager:
            assert [p.id for p in manager.list_profiles()] == ["alpha"]
            with pytest.raises(FileAccessError):
                manager.create_profile("beta", "custom")
    finally:
        for directory, _, _ in os.walk(home):
            os.chmod(directory, 0o700)


# Creating


def test_what_create_returns(manager):
    profile = manager.create_profile(
        "alpha",
        "whatsapp",
        tags=["b", "a", "b"],
        note="note\nwith lines",
        platform_version="2",
        platform_config={"k": [1, None]},
    )
    assert profile.tags == ("a", "b")
    assert profile.note == "note\nwith lines"
    assert profile.platform_version == "2"
    assert profile.platform_config == {"k": [1, None]}
    assert profile.created_at.tzinfo == timezone.utc
    assert profile == manager.get_profile("alpha") == manager.list_profiles()[0]
    assert "k" not in repr(profile).split("platform_version")[1].split("lock_pid")[0]


def test_a_batch_is_one_commit(manager):
    ids = [f"p{number:03}" for number in range(50)]
    progress = []
    made = manager.create_profiles(ids, "custom", tags=["t"], progress=progress.append)
    assert [profile.id for profile in made] == ids
    assert progress == list(range(1, 51))
    assert len(manager.history()) == 2
    assert len({(p.path / "fingerprint.json").read_bytes() for p in made}) == 50
    manager.delete_profiles(ids[10:])
    manager.undo()
    manager.update_profiles(ids, note="x")
    assert {p.note for p in manager.list_profiles()} == {"x"}
    assert len(manager.history()) == 5
    check(manager.home)


def test_batches_of_nothing(manager):
    manager.create_profile("alpha", "custom")
    before = manager.history()
    assert manager.create_profiles([], "custom") == []
    assert manager.update_profiles([]) == manager.recover_profiles([]) == []
    manager.delete_profiles([])
    assert manager.history() == before


BAD = {
    "id": (lambda m: m.create_profile("a b", "custom"), InvalidProfileIdError),
    "second id": (lambda m: m.create_profiles(["x", ".."], "custom"), InvalidProfileIdError),
    "platform": (lambda m: m.create_profile("x", "icq"), UnknownPlatformError),
    "tag": (lambda m: m.create_profile("x", "custom", tags=[""]), InvalidInputError),
    "tags as text": (lambda m: m.create_profile("x", "custom", tags=[None]), InvalidInputError),
    "note": (lambda m: m.create_profile("x", "custom", note="x" * 5000), InvalidMetadataError),
    "note kind": (lambda m: m.create_profile("x", "custom", note=3), InvalidMetadataError),
    "control": (lambda m: m.create_profile("x", "custom", note="\x1b[0m"), InvalidMetadataError),
    "version": (
        lambda m: m.create_profile("x", "custom", platform_version="x" * 65),
        InvalidMetadataError,
    ),
    "secret": (
        lambda m: m.create_profile("x", "custom", platform_config={"token": "x"}),
        InvalidMetadataError,
    ),
    "not JSON": (
        lambda m: m.create_profile("x", "custom", platform_config={"n": float("nan")}),
        InvalidMetadataError,
    ),
    "taken": (lambda m: m.create_profiles(["x", "Alpha"], "custom"), ProfileExistsError),
    "twice": (lambda m: m.create_profiles(["x", "X"], "custom"), InvalidInputError),
    "delete none": (lambda m: m.delete_profiles(["alpha", "no"]), ProfileNotFoundError),
    "delete twice": (lambda m: m.delete_profiles(["alpha", "alpha"]), InvalidInputError),
    "set none": (lambda m: m.update_profiles(["alpha", "no"], note="x"), ProfileNotFoundError),
    "set tag": (lambda m: m.update_profiles(["alpha"], add_tags=["a\n"]), InvalidInputError),
    "set secret": (
        lambda m: m.update_profiles(["alpha"], platform_config={"api_key": "x"}),
        InvalidMetadataError,
    ),
    "get": (lambda m: m.get_profile("no"), ProfileNotFoundError),
    "mode": (lambda m: m.recover_profile("alpha", "x"), InvalidInputError),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_arguments_change_nothing(manager, kind):
    manager.create_profile("alpha", "custom")
    before = snapshot(manager.home)
    action, error = BAD[kind]
    with pytest.raises(error):
        action(manager)
    assert snapshot(manager.home) == before


# After the commit point


def restore_deleted(manager):
    manager.delete_profile("alpha")
    return lambda: manager.restore("alpha", "HEAD~1")


def restore_trashed(manager):
    manager.delete_profile("alpha")
    (entry,) = manager.trash()
    return lambda: manager.restore_from_trash(entry.name)


def restore_reset(manager):
    manager.recover_profile("alpha", "hard")
    (entry,) = manager.trash()
    return lambda: manager.restore_from_trash(entry.name)


def recover(manager):
    manager.get_profile("alpha").path.joinpath("metadata.json").write_bytes(b"{")
    return lambda: manager.recover_profile("alpha")


LATE = {
    "restore": lambda m: lambda: m.restore("alpha", "HEAD"),
    "restore a deleted one": restore_deleted,
    "restore from the trash": restore_trashed,
    "restore a reset": restore_reset,
    "recover": recover,
    "recover what is whole": lambda m: lambda: m.recover_profile("alpha"),
    "recover hard": lambda m: lambda: m.recover_profile("alpha", "hard"),
    "activate": lambda m: lambda: m.activate_profile("alpha"),
}


@pytest.mark.parametrize(
    "error",
    [ProfileNotFoundError("no profile 'alpha'"), RepositoryDamagedError("x"), OSError(5, "x")],
    ids=["deleted since", "damaged since", "unreadable"],
)
@pytest.mark.parametrize("operation", LATE)
def test_what_was_done_is_no_error_because_it_cannot_be_read_after(
    manager, operation, error, monkeypatch
):
    manager.create_profile("alpha", "custom", note="n", tags=["t"])
    work = LATE[operation](manager)
    with monkeypatch.context() as patch:
        patch.setattr(manager, "get_profile", raising(error))
        profile = work()
    assert profile == manager.get_profile("alpha")
    assert (profile.note, profile.tags) == ("n", ("t",))


def raising(error):
    def late(profile_id):
        raise error

    return late


@pytest.mark.parametrize("method", ["undo", "redo"])
def test_undo_is_no_error_because_what_is_held_cannot_be_read_after(manager, method, monkeypatch):
    manager.create_profiles(["alpha", "beta"], "custom")
    manager.activate_profile("alpha")
    manager.update_profiles(["beta"], note="n")
    if method == "redo":
        manager.undo()
    with monkeypatch.context() as patch:
        patch.setattr(manager, "get_profile", raising(RepositoryDamagedError("x")))
        assert getattr(manager, method)().operation == "set"
    assert manager.locks.held == {"alpha"}
    assert manager.get_profile("alpha").status == "active"


# Reading and setting


def test_listing_is_filtered(manager):
    manager.create_profiles(["b", "a"], "whatsapp", tags=["x", "y"])
    manager.create_profiles(["c", "D"], "custom", tags=["x"])
    manager.select_profile("a")
    manager.layout.profile("b").metadata.write_bytes(b"")

    def ids(**filters):
        return [profile.id for profile in manager.list_profiles(**filters)]

    assert ids() == ["D", "a", "b", "c"]
    assert ids(status="active") == ["a"]
    assert ids(status="inactive") == ["D", "c"]
    assert ids(status="corrupted") == ["b"]
    assert ids(platform="custom") == ["D", "c"]
    assert ids(tags=["x"]) == ["D", "a", "c"]
    assert ids(tags=["x", "y"]) == ["a"]
    assert ids(platform="custom", tags=["y"]) == []


def test_setting(manager):
    manager.create_profile("alpha", "custom", platform_config={"a": 1, "b": 2}, tags=["x"])
    profile = manager.update_profiles(
        ["alpha"],
        add_tags=["y", "x"],
        remove_tags=["x", "none"],
        note="n",
        platform_version="1",
        platform_config={"a": None, "c": [3]},
    )[0]
    assert profile.tags == ("y",)
    assert (profile.note, profile.platform_version) == ("n", "1")
    assert profile.platform_config == {"b": 2, "c": [3]}
    profile = manager.update_profiles(["alpha"], note="", platform_version="")[0]
    assert (profile.note, profile.platform_version) == ("", None)
    before = manager.history()
    manager.update_profiles(["alpha"])
    assert manager.history() == before


def test_settings_of_the_browser(manager):
    wished = {"window": (1280, 800), "locale": "de-DE"}
    profile = manager.create_profile("alpha", "custom", browser=wished)
    assert profile.browser == {"locale": "de-DE", "window": [1280, 800]}
    assert "de-DE" not in repr(profile)
    changed = manager.update_profiles(["alpha"], browser={"locale": None, "timezone": "UTC"})[0]
    assert changed.browser == {"timezone": "UTC", "window": [1280, 800]}
    before = manager.history()
    manager.update_profiles(["alpha"], browser={"timezone": "UTC"})
    manager.update_profiles(["alpha"], browser={})
    assert manager.history() == before
    with pytest.raises(InvalidMetadataError, match=r"browser\.zoom is not a browser setting"):
        manager.update_profiles(["alpha"], browser={"zoom": 1})
    assert (
        manager.update_profiles(["alpha"], browser={"timezone": None, "window": None})[0].browser
        == {}
    )


def test_what_a_caller_does_to_settings_stays_his(manager):
    manager.create_profile("alpha", "custom", browser={"window": [1280, 800]})
    for _ in range(2):
        (profile,) = manager.list_profiles()
        assert profile.browser == {"window": [1280, 800]}
        profile.browser["window"][0] = 5


def test_setting_leaves_the_identity_and_the_files(manager):
    profile = manager.create_profile("alpha", "custom")
    files = ["session.json", "fingerprint.json"]
    before = [(profile.path / name).stat().st_mtime_ns for name in files]
    changed = manager.update_profiles(["alpha"], note="x")[0]
    assert (changed.created_at, changed.last_used) == (profile.created_at, profile.last_used)
    assert [(profile.path / name).stat().st_mtime_ns for name in files] == before


def test_readers_are_not_disturbed_by_writers(manager):
    """Listing while another thread switches never sees a damaged profile."""
    manager.create_profiles(["alpha", "beta"], "custom")
    stop = threading.Event()
    odd = []

    def read():
        with ProfileManager(manager.home) as other:
            while not stop.is_set():
                odd.extend(p for p in other.list_profiles() if p.status == "corrupted")

    thread = threading.Thread(target=read)
    thread.start()
    for _ in range(30):
        manager.select_profile("alpha")
        manager.select_profile("beta")
    stop.set()
    thread.join()
    assert odd == []


def test_the_default_profile_is_made_when_it_is_needed(manager):
    assert manager.ensure_default("whatsapp").id == "default"
    before = manager.history()
    assert manager.ensure_default("whatsapp") == manager.get_profile("default")
    assert manager.history() == before
    with pytest.raises(UnknownPlatformError):
        manager.ensure_default("icq")


def test_there_is_nothing_to_migrate(manager):
    assert manager.migrate() is None


def test_gc_and_doctor_of_a_healthy_home(manager):
    manager.create_profile("alpha", "custom")
    packed, expired = manager.gc()
    assert packed > 0
    assert expired == 0
    assert manager.gc() == (0, 0)
    manager.doctor()
    assert [p.id for p in manager.list_profiles()] == ["alpha"]
    check(manager.home)


def test_gc_of_nothing(home):
    home.mkdir()
    with ProfileManager(home) as manager:
        assert manager.gc() == (0, 0)
    assert os.listdir(home) == []
