"""Whose lease a change is made under, and what is refused because another has it."""

from __future__ import annotations

import subprocess

import pytest
from cli_helpers import Cli

from tests.crash.operations import fill
from tweakio import (
    LeaseError,
    LeaseLostError,
    ProfileManager,
    ProfileMetadataHandler,
    clone_repository,
)


def fences(manager: ProfileManager) -> list[str]:
    """The tokens that the last commit has."""
    done = subprocess.run(
        ["git", "-C", str(manager.layout.profiles), "log", "-1",
         "--format=%(trailers:key=Tweakio-Fence,valueonly)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.split("\n")[:-2]


def head(manager: ProfileManager) -> str:
    return manager.history()[0].revision


@pytest.fixture
def homes(redis_url, tmp_path):
    """Two machines with one profile, as far as a lease can tell, and a remote between them."""
    with ProfileManager(tmp_path / "one") as one:
        one.create_profiles(["a", "b"], "telegram")
        fill(one.home / "profiles" / "a", "one")
        (one.home / "profiles" / "a" / "browser_profile" / "SingletonLock").unlink()
        subprocess.run(["git", "init", "-q", "--bare", tmp_path / "remote.git"], check=True)
        one.remotes.add("origin", str(tmp_path / "remote.git"))
        one.remotes.push()
        clone_repository(str(tmp_path / "remote.git"), tmp_path / "two")
        with ProfileManager(tmp_path / "two") as two:
            for manager in (one, two):
                manager.leases.use(redis_url, ttl=30.0)
            yield one, two
            for item in one.leases.status().leases:
                one.leases.release(item.profile_id, force=True)


def token(manager: ProfileManager) -> int:
    return next(item.token for item in manager.leases.status().leases if item.profile_id == "a")


def test_a_command_beside_the_holder_has_its_token(homes, tmp_path):
    one, _ = homes
    one.activate_profile("a")
    assert fences(one) == [f"a {token(one)}"]
    cli, home = Cli(tmp_path), {"TWEAKIO_HOME": str(one.home)}
    cli.ok("profile", "set", "a", "--note", "from beside", **home)
    assert fences(one) == [f"a {token(one)}"]
    cli.ok("profile", "set", "a", "b", "--note", "both", **home)
    assert fences(one) == [f"a {token(one)}"]
    cli.ok("profile", "set", "b", "--note", "the other", **home)
    assert fences(one) == []
    one.deactivate_profile()
    assert len(fences(one)) == 1
    cli.ok("profile", "set", "a", "--note", "nobody has it", **home)
    assert fences(one) == []


def test_metadata_are_saved_under_the_lease_and_not_past_another_machines(homes):
    one, two = homes
    one.activate_profile("a")
    value = one.metadata.load("a")
    one.metadata.save("a", {**value, "note": "by its holder"})
    assert fences(one) == [f"a {token(one)}"]
    before = head(two)
    value = two.metadata.load("a")
    for change in (
        lambda: two.metadata.save("a", {**value, "note": "past it"}),
        lambda: two.metadata.mark_corrupted("a", "past it"),
        lambda: ProfileMetadataHandler(two.repository).save("a", {**value, "note": "past it"}),
    ):
        with pytest.raises(LeaseError):
            change()
    assert head(two) == before


def test_what_another_machine_has_is_not_changed(homes):
    one, two = homes
    two.update_profiles(["a"], note="before")
    two.select_profile("a")
    two.delete_profile("b")
    two.undo()
    one.activate_profile("a")
    before = head(two)
    for change in (
        lambda: two.update_profiles(["a", "b"], note="x"),
        lambda: two.delete_profile("a", force=True),
        lambda: two.record_login("a"),
        lambda: two.reset_login("a"),
        lambda: two.restore("a", "HEAD~4"),
        lambda: two.recover_profile("a", "hard"),
        lambda: two.snapshots.create("a"),
    ):
        with pytest.raises(LeaseError, match="lease of profile 'a' is held by process"):
            change()
        assert head(two) == before
    # What does not concern it goes on.
    two.select_profile("b")
    two.update_profiles(["b"], note="x")
    two.create_profile("c", "custom")
    two.undo()
    assert fences(two) == []
    one.deactivate_profile()
    two.update_profiles(["a"], note="x")
    assert fences(two) == []


def test_a_pull_takes_over_what_the_holder_did(homes):
    one, two = homes
    one.activate_profile("a")
    one.update_profiles(["a"], note="from the holder")
    one.remotes.push()
    assert two.remotes.pull().changed == ("a",)
    assert two.get_profile("a").note == "from the holder"
    assert fences(two) == []
    # That takes it back here, which is a change of it.
    with pytest.raises(LeaseError):
        two.undo()
    two.vault.init(in_file=True)


def test_a_machine_that_lost_it_changes_nothing(homes, monkeypatch):
    one, two = homes
    one.activate_profile("a")
    two.leases.release("a", force=True)
    two.locks.acquire("a")
    before = head(one)
    with pytest.raises(LeaseLostError):
        one.update_profiles(["a"], note="x")
    monkeypatch.setattr("tweakio.lease.naming.socket.gethostname", lambda: "elsewhere")
    with ProfileManager(one.home) as beside, pytest.raises(LeaseError, match="is held by"):
        beside.update_profiles(["a"], note="x")
    assert head(one) == before
    two.update_profiles(["a"], note="mine")
    assert fences(two) == [f"a {token(two)}"]
