"""Recovery: soft from history, hard with a new session besides; nothing is lost."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from cli_helpers import Cli, Holder
from invariants import check, tree_digest

from tweakio import (
    InvalidInputError,
    ProfileActiveError,
    ProfileCorruptedError,
    ProfileManager,
    ProfileNotFoundError,
)

SESSION = b'{"cookies": [{"name": "sid", "value": "x"}], "origins": []}'


@pytest.fixture
def alpha(manager):
    profile = manager.create_profile("alpha", "telegram", tags=["t"], note="kept")
    (profile.path / "session.json").write_bytes(SESSION)
    (profile.path / "browser_profile" / "Cookies").write_bytes(b"\0cookies" * 100)
    return profile


def login(profile):
    return [tree_digest(profile.path / name) for name in ("browser_profile", "session.json")]


def cut(path):
    path.write_bytes(path.read_bytes()[:40])


def empty(path):
    path.write_bytes(b"")


def zeros(path):
    path.write_bytes(b"\0" * 400)


def foreign(path):
    path.write_bytes(path.read_bytes().replace(b'"alpha"', b'"other"'))


def link(path):
    path.rename(path.parents[2] / "aside.json")
    path.symlink_to("../../aside.json")


def directory(path):
    path.unlink()
    path.mkdir()
    (path / "inside").write_bytes(b"precious")


def fifo(path):
    path.unlink()
    os.mkfifo(path)


def gone(path):
    path.unlink()


def huge(path):
    with path.open("ab") as file:
        file.truncate(3 << 20)


DAMAGES = [cut, empty, zeros, foreign, link, directory, fifo, gone, huge]
ids = [function.__name__ for function in DAMAGES]


@pytest.mark.parametrize("mode", ["soft", "hard"])
@pytest.mark.parametrize("damage", DAMAGES, ids=ids)
def test_damaged_metadata(manager, alpha, damage, mode):
    before = login(alpha)
    path = alpha.path / "metadata.json"
    damage(path)
    content = path.read_bytes() if path.is_file() and not path.is_symlink() else None
    (found,) = manager.list_profiles()
    assert (found.status, bool(found.problem)) == ("corrupted", True)
    with pytest.raises(ProfileCorruptedError):
        manager.activate_profile("alpha")
    profile = manager.recover_profile("alpha", mode)
    assert (profile.status, profile.platform, profile.tags, profile.note) == (
        "inactive",
        "telegram",
        ("t",),
        "kept",
    )
    assert profile.created_at == alpha.created_at
    kept = {entry.kind: entry for entry in manager.trash("alpha")}
    if content:
        assert (kept["damaged"].path / "data" / "metadata.json").read_bytes() == content
    elif damage is directory:
        assert (kept["damaged"].path / "data/metadata.json/inside").read_bytes() == b"precious"
    if mode == "soft":
        assert login(profile) == before
    else:
        old = kept["reset"].path / "data"
        assert [tree_digest(old / n) for n in ("browser_profile", "session.json")] == before
        assert json.loads((profile.path / "session.json").read_bytes())["cookies"] == []
        assert os.listdir(profile.path / "browser_profile") == []
    manager.activate_profile("alpha")
    check(manager.home, permissions=False)


@pytest.mark.parametrize("damage", [cut, empty, directory, gone], ids=lambda f: f.__name__)
def test_damaged_fingerprint(manager, alpha, damage):
    path = alpha.path / "fingerprint.json"
    content = path.read_bytes()
    damage(path)
    assert manager.get_profile("alpha").status == "corrupted"
    manager.recover_profile("alpha")
    assert path.read_bytes() == content
    check(manager.home, permissions=False)


def test_a_committed_damage_is_passed_over_in_history(manager, alpha, git):
    manager.update_profiles(["alpha"], note="last good")
    for number in range(3):
        (alpha.path / "metadata.json").write_bytes(b"broken %d" % number)
        (alpha.path / "fingerprint.json").write_bytes(b"[]")
        git("commit", "-qnam", f"broken {number}")
    assert manager.get_profile("alpha").status == "corrupted"
    profile = manager.recover_profile("alpha")
    assert (profile.status, profile.note) == ("inactive", "last good")
    assert json.loads((alpha.path / "fingerprint.json").read_bytes())["seed"]
    check(manager.home, permissions=False)


@pytest.mark.parametrize("remains", [b"", b'{"platform": "telegram", "created_at": "20', None])
def test_without_anything_valid_in_history_it_is_rebuilt(manager, git, remains):
    """A person committed a profile whose metadata never was valid."""
    manager.create_profile("other", "custom")
    path = manager.layout.profile("alpha").directory
    (path / "browser_profile").mkdir(parents=True)
    (path / "session.json").write_bytes(SESSION)
    (path / "metadata.json").write_bytes(b"never valid")
    git("add", "-f", "alpha/metadata.json")
    git("commit", "-qnm", "by hand")
    if remains is None:
        (path / "metadata.json").unlink()
    else:
        (path / "metadata.json").write_bytes(remains)
    profile = manager.recover_profile("alpha")
    assert profile.status == "inactive"
    assert profile.platform == ("telegram" if remains else "custom")
    assert (path / "session.json").read_bytes() == SESSION
    assert (path / "fingerprint.json").exists()
    manager.activate_profile("alpha")
    check(manager.home, permissions=False)


def test_a_readable_moment_of_creation_is_kept_when_it_is_rebuilt(manager, git):
    manager.create_profile("other", "custom")
    path = manager.layout.profile("alpha").directory
    path.mkdir()
    (path / "metadata.json").write_bytes(b'"created_at": "2020-02-02T02:02:02Z", broken')
    git("add", "-f", "alpha/metadata.json")
    git("commit", "-qnm", "by hand")
    assert manager.recover_profile("alpha").created_at.year == 2020


@pytest.mark.parametrize("mode", ["soft", "hard"])
@pytest.mark.parametrize("what", ["file", "link", "nothing"])
def test_the_directory_itself(manager, alpha, what, mode):
    """Recovery said it was done and left no directory at all."""
    aside = manager.home / "aside"
    alpha.path.rename(aside)
    before = tree_digest(aside)
    if what == "file":
        alpha.path.write_bytes(b"a file")
    elif what == "link":
        alpha.path.symlink_to(aside)
    assert manager.get_profile("alpha").status == "corrupted"
    profile = manager.recover_profile("alpha", mode)
    assert (profile.status, profile.note) == ("inactive", "kept")
    assert profile.path.is_dir()
    assert not profile.path.is_symlink()
    assert tree_digest(aside) == before
    if what != "nothing":
        kept = next(e for e in manager.trash("alpha") if e.kind == "damaged")
        assert os.path.lexists(kept.path / "data" / "alpha")
    manager.activate_profile("alpha")
    check(manager.home, permissions=False)


def test_soft_leaves_a_healthy_profile_alone(manager, alpha):
    before = manager.history()
    assert manager.recover_profile("alpha") == manager.get_profile("alpha")
    assert manager.history() == before


def test_soft_adopts_a_valid_edit(manager, alpha):
    path = alpha.path / "metadata.json"
    path.write_text(path.read_text().replace("kept", "mine"))
    assert manager.recover_profile("alpha").note == "mine"


@pytest.mark.parametrize("name", ["session.json", "browser_profile", "cache"])
def test_soft_completes_what_is_missing(manager, alpha, name):
    path = alpha.path / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    manager.recover_profile("alpha")
    manager.activate_profile("alpha")
    assert path.exists()
    check(manager.home, permissions=False)


def test_hard_of_a_healthy_profile_can_be_undone(manager, alpha):
    before = login(alpha)
    manager.recover_profile("alpha", "hard")
    assert login(alpha) != before
    manager.undo()
    assert login(alpha) == before
    manager.redo()
    assert login(alpha) != before
    manager.undo()
    assert login(alpha) == before
    check(manager.home, permissions=False)


def test_hard_is_refused_while_another_process_uses_it(manager, alpha, tmp_path):
    before = login(alpha)
    cli = Cli(tmp_path)
    with Holder(cli, "alpha") as holder:
        cut(alpha.path / "metadata.json")
        with pytest.raises(ProfileActiveError, match=str(holder.pid)):
            manager.recover_profile("alpha", "hard")
        profile = manager.recover_profile("alpha", "soft")
        assert (profile.status, profile.lock_pid) == ("active", holder.pid)
    assert login(alpha) == before
    check(manager.home, permissions=False)


def test_several_are_one_commit_or_none(manager, alpha):
    manager.create_profile("beta", "custom")
    for name in ("alpha", "beta"):
        cut(manager.layout.profile(name).metadata)
    before = manager.history()
    with pytest.raises(ProfileNotFoundError):
        manager.recover_profiles(["alpha", "nobody"])
    assert manager.history() == before
    assert manager.get_profile("alpha").status == "corrupted"
    manager.recover_profiles(["alpha", "beta"])
    assert len(manager.history()) == len(before) + 1
    assert manager.history()[0].profiles == ("alpha", "beta")
    assert manager.list_profiles(status="corrupted") == []


def test_bad_arguments(manager, home, alpha):
    with pytest.raises(InvalidInputError, match="unknown mode"):
        manager.recover_profile("alpha", "medium")
    with pytest.raises(InvalidInputError):
        manager.recover_profile("../alpha")
    with pytest.raises(ProfileNotFoundError):
        manager.recover_profile("nobody")


def test_of_nothing_in_an_empty_home(home):
    home.mkdir()
    with ProfileManager(home) as manager:
        assert manager.recover_profiles([]) == []
        with pytest.raises(ProfileNotFoundError):
            manager.recover_profile("alpha")
    assert os.listdir(home) == []


def test_damage_of_one_profile_stops_nothing_else(manager, alpha):
    manager.create_profile("beta", "custom")
    cut(alpha.path / "metadata.json")
    content = (alpha.path / "metadata.json").read_bytes()
    manager.activate_profile("beta")
    manager.update_profiles(["beta"], note="x")
    manager.create_profile("gamma", "custom")
    manager.undo()
    manager.deactivate_profile()
    assert {p.id: p.status for p in manager.list_profiles()} == {
        "alpha": "corrupted",
        "beta": "inactive",
    }
    assert (alpha.path / "metadata.json").read_bytes() == content
    manager.delete_profile("alpha")
    manager.undo()
    assert manager.get_profile("alpha").note == "kept"
