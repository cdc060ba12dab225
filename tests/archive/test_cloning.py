"""A profile cloned: settings only, or with its session."""

from __future__ import annotations

import errno
import json

import pytest
from cli_helpers import Cli

from tests.archive.homes import fill_closed
from tweakio import (
    InvalidProfileIdError,
    ProfileActiveError,
    ProfileCorruptedError,
    ProfileExistsError,
    ProfileManager,
    ProfileNotFoundError,
)


@pytest.fixture
def source(manager):
    manager.create_profile(
        "a",
        "telegram",
        tags=["t"],
        note="of a",
        platform_config={"url": "http://127.0.0.1:1/", "api_hash": "env:HASH"},
        browser={"locale": "de-DE", "proxy": "http://u@127.0.0.1:3128"},
    )
    fill_closed(manager.home / "profiles" / "a", "MARKER")
    (manager.home / "profiles" / "a" / "cache" / "big").write_bytes(b"cached")
    return manager.get_profile("a")


def metadata(profile):
    return json.loads((profile.path / "metadata.json").read_bytes())


def data(profile):
    return {
        path.relative_to(profile.path).as_posix(): path.read_bytes()
        for path in sorted(profile.path.rglob("*"))
        if path.is_file() and path.name not in ("metadata.json", "fingerprint.json", ".lock")
    }


def count(git):
    return int(git("rev-list", "--count", "HEAD"))


def test_settings_without_the_session(manager, source, git):
    manager.select_profile("a")
    before = count(git)
    clone = manager.clone_profile("a", "b")
    assert count(git) == before + 1
    assert clone == manager.get_profile("b")
    old, new = metadata(source), metadata(clone)
    own = ("profile_id", "created_at", "last_used", "status")
    assert {key: item for key, item in new.items() if key not in own} == {
        key: item for key, item in old.items() if key not in own
    }
    assert (new["profile_id"], new["status"]) == ("b", "inactive")
    assert new["created_at"] > old["created_at"]
    fingerprints = [(profile.path / "fingerprint.json").read_bytes() for profile in (source, clone)]
    assert fingerprints[0] != fingerprints[1]
    assert not any(b"MARKER" in content for content in data(clone).values())
    assert git("status", "--porcelain") == ""
    assert git("log", "-1", "--format=%s").strip() == "clone a as b"


def test_with_the_session_but_no_caches(manager, source, git):
    before = data(source)
    clone = manager.clone_profile("a", "b", with_session=True)
    expected = {name: content for name, content in before.items() if name != "cache/big"}
    assert data(clone) == expected
    assert any(b"MARKER" in content for content in expected.values())
    assert data(source) == before
    assert (clone.path / "session.json").stat().st_mode & 0o777 == 0o600
    assert not manager.get_profile("a").in_use
    assert (source.path / "fingerprint.json").read_bytes() != (
        clone.path / "fingerprint.json"
    ).read_bytes()
    manager.undo()
    assert [profile.id for profile in manager.list_profiles()] == ["a"]
    manager.redo()
    assert data(manager.get_profile("b")) == expected


def test_with_a_vault_the_session_is_sealed_as_well(manager, source, git):
    manager.vault.init(in_file=True)
    manager.clone_profile("a", "b", with_session=True)
    assert "b/session.json.age" in git("ls-tree", "-r", "--name-only", "HEAD").split()
    manager.clone_profile("a", "c")
    assert "c/session.json.age" not in git("ls-tree", "-r", "--name-only", "HEAD").split()


def test_what_is_refused_changes_nothing(manager, source, home, git):
    manager.create_profile("taken", "custom")
    before = count(git)
    with pytest.raises(ProfileExistsError, match="'taken' exists and differs from 'TAKEN' by case"):
        manager.clone_profile("a", "TAKEN")
    with pytest.raises(ProfileNotFoundError):
        manager.clone_profile("nobody", "b")
    with pytest.raises(InvalidProfileIdError):
        manager.clone_profile("a", "../b")
    with ProfileManager(home) as other:
        other.activate_profile("a")
        busy = count(git)
        with pytest.raises(ProfileActiveError):
            manager.clone_profile("a", "b", with_session=True)
        assert count(git) == busy
        assert manager.clone_profile("a", "b").status == "inactive"
        manager.undo()
    (source.path / "metadata.json").write_text("{")
    with pytest.raises(ProfileCorruptedError):
        manager.clone_profile("a", "b")
    assert {profile.id for profile in manager.list_profiles()} == {"a", "taken"}
    assert before < count(git)


def test_the_command_warns_of_two_clients(tmp_path):
    cli = Cli(tmp_path)
    cli.run("profile", "create", "a", "--platform", "telegram")
    fill_closed(cli.home / "profiles" / "a", "MARKER")
    plain = cli.run("profile", "clone", "a", "b")
    assert (plain.code, plain.out, plain.err) == (0, "cloned a as b (telegram)\n", "")
    done = cli.run("profile", "clone", "a", "c", "--with-session", "--json")
    assert done.code == 0
    assert json.loads(done.out)["profile_id"] == "c"
    assert "share one login" in done.err
    again = cli.run("profile", "clone", "a", "c")
    assert (again.code, again.out) == (ProfileExistsError.exit_code, "")


def test_a_sealed_session_arrives_with_its_directory(manager, source, monkeypatch):
    manager.vault.init(in_file=True)

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patch:  # behind the commit point, before files are checked out
        patch.setattr(type(manager.repository.refs), "append_reflog", fail)
        manager.clone_profile("a", "b", with_session=True)
        assert (manager.layout.profile("b").directory / "session.json.age").is_file()
