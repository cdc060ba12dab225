"""Merges that need something unusual before: a profile made anew, damage in history."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.invariants import git
from tweakio import MergeConflictError, ProfileManager, clone_repository
from tweakio.sync import editing


@pytest.fixture
def pair(tmp_path):
    """Two homes with the profile x, one a clone of the other."""
    bare = tmp_path / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", bare], check=True)
    with ProfileManager(tmp_path / "a") as one:
        one.create_profile("x", "custom", browser={"proxy": "http://u@127.0.0.1:3128"})
        one.remotes.add("origin", os.fspath(bare))
        one.remotes.push()
        clone_repository(os.fspath(bare), tmp_path / "b")
        with ProfileManager(tmp_path / "b") as two:
            yield one, two


def make_anew(manager):
    manager.delete_profile("x")
    manager.create_profile("x", "telegram", note="anew")
    manager.remotes.sync()


def test_made_anew_there_and_only_used_here(pair):
    one, two = pair
    make_anew(two)
    (one.get_profile("x").path / "session.json").write_text('{"old": 1}')
    one.select_profile("x")
    one.deactivate_profile()
    assert one.remotes.pull().changed == ("x",)
    assert (one.get_profile("x").platform, one.get_profile("x").note) == ("telegram", "anew")
    # Its data went to the trash and did not become the other's.
    assert "old" not in (one.get_profile("x").path / "session.json").read_text()
    (entry,) = one.trash("x")
    assert (entry.path / "data" / "session.json").read_text() == '{"old": 1}'
    one.undo()
    assert one.get_profile("x").platform == "custom"
    assert (one.get_profile("x").path / "session.json").read_text() == '{"old": 1}'


def test_made_anew_here_and_only_used_there(pair):
    one, two = pair
    two.select_profile("x")
    two.update_profiles(["x"], note="")
    two.create_profile("y", "custom")
    two.remotes.push()
    one.delete_profile("x")
    one.create_profile("x", "telegram")
    assert one.remotes.pull().created == ("y",)
    assert one.get_profile("x").platform == "telegram"


def test_made_anew_there_and_in_use_here(pair):
    one, two = pair
    make_anew(two)
    with ProfileManager(one.home) as user:
        user.activate_profile("x")
        with pytest.raises(MergeConflictError, match=r"x \(in use\)"):
            one.remotes.pull()
        assert one.get_profile("x").platform == "custom"
    assert one.remotes.pull(resolve="theirs").changed == ("x",)
    assert one.get_profile("x").platform == "telegram"


@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_what_history_has_here_cannot_be_read(pair, side):
    one, two = pair
    two.update_profiles(["x"], note="sound")
    two.remotes.push()
    profiles = one.home / "profiles"
    (profiles / "x" / "metadata.json").write_text("{}\n")
    person = ("-c", "user.name=P", "-c", "user.email=p@example.com")
    assert git(profiles, *person, "commit", "-qam", "spoil", "--no-verify").returncode == 0
    with pytest.raises(MergeConflictError, match=r"x \(metadata.json\)"):
        one.remotes.pull()
    one.remotes.pull(resolve=side)
    assert one.get_profile("x").status == ("corrupted" if side == "ours" else "inactive")
    if side == "theirs":
        assert one.get_profile("x").note == "sound"


def test_a_profile_called_repository_is_answered_for_itself():
    """Its answers were taken for those about the repository."""
    answers = editing._read('{"repository": {"note": {"value": "v"}}}')
    assert answers == {"repository": {"note": {"value": "v"}}}
