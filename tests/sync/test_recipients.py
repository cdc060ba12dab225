"""Recipients of the vault that arrive by a merge, or are gone by one."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from tests.invariants import check, git
from tweakio import ProfileManager, clone_repository
from tweakio.errors import MergeConflictError, VaultError
from tweakio.references import sealed_bytes
from tweakio.vault import age, binding


@pytest.fixture(autouse=True)
def _hermetic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TWEAKIO_IDENTITY", raising=False)
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")


def inside(data: bytes, secret: str) -> bytes:
    """The content of something encrypted, without the header that says what it is for."""
    return binding.read(age.unseal(data, [secret])).content


class Team:
    """Two machines that open everything, and the repository between them."""

    checked = True

    def __init__(self, base: Path) -> None:
        self.bare = base / "bare.git"
        assert git(base, "init", "-q", "--bare", "-b", "main", str(self.bare)).returncode == 0
        self.a = ProfileManager(base / "a")
        self.a.create_profiles(["one", "two", "idle"], "telegram")
        self.a.vault.init(in_file=True)
        self.log_in(self.a, "one", "first")
        self.log_in(self.a, "two", "first")
        token = self.a.vault.seal_secret("the token")
        self.a.update_profiles(["two"], platform_config={"token": token})
        self.a.remotes.add("origin", str(self.bare))
        self.a.remotes.push()
        clone_repository(str(self.bare), base / "b")
        self.b = ProfileManager(base / "b")
        [_, self.b_recipient] = self.b.vault.init(in_file=True).recipients
        self.b.remotes.push()
        self.a.remotes.pull()
        self.a.vault.add_recipients([self.b_recipient])
        self.a.remotes.push()
        self.b.remotes.pull()
        assert self.b.vault.restore_sessions() == ([], [])  # the pull did it
        assert self.content(self.b, "one") == "first"

    def close(self) -> None:
        self.a.close()
        self.b.close()

    @staticmethod
    def log_in(manager: ProfileManager, profile_id: str, mark: str) -> None:
        path = manager.layout.profile(profile_id).session
        path.write_text(json.dumps({"cookies": [{"name": "c", "value": mark}], "origins": []}))
        path.chmod(0o600)
        manager.record_login(profile_id)

    @staticmethod
    def content(manager: ProfileManager, profile_id: str, secret: str | None = None) -> str | None:
        """What is sealed for an identity in HEAD; None if that cannot open it."""
        profiles = manager.layout.profiles
        sealed = git(profiles, "show", f"HEAD:{profile_id}/session.json.age").stdout
        key = secret or (manager.home / "identity").read_text()
        try:
            return str(json.loads(inside(sealed, key))["cookies"][0]["value"])
        except VaultError:
            return None

    def settle(self) -> None:
        """Sync both until neither has anything new; it must not go on for ever."""
        for _ in range(4):
            done = [manager.remotes.sync() for manager in (self.a, self.b)]
            if all(not one.pulled.commit and not one.pushed.commit for one in done):
                return
        raise AssertionError("they answer each other")

    def push_by_hand(self, base: Path, recipients: str) -> None:
        """As whoever can push, without any identity: another list of recipients."""
        work = base / "work"
        git(base, "clone", "-q", str(self.bare), str(work))
        path = work / ".age-recipients"
        path.write_text(recipients)
        name = ("-c", "user.name=x", "-c", "user.email=x@x")
        assert git(work, *name, "commit", "-qam", "tidy up").returncode == 0
        assert git(work, "push", "-q", "origin", "HEAD:main").returncode == 0


@pytest.fixture
def team(tmp_path: Path):
    made = Team(tmp_path)
    yield made
    made.close()
    for name in ("a", "b") if made.checked else ():
        check(tmp_path / name, work=True)


def secret_of(manager: ProfileManager, profile_id: str, field: str = "token") -> bytes:
    profile = manager.get_profile(profile_id)
    return sealed_bytes({**profile.platform_config, **profile.browser}[field])


def test_both_sides_add_a_recipient(team: Team) -> None:
    x_secret, x = age.generate_identity()
    y_secret, y = age.generate_identity()
    team.a.vault.add_recipients([x])
    team.b.vault.add_recipients([y])
    team.a.remotes.push()
    # Every session and every secret differs on both sides, and none of them has changed.
    pulled = team.b.remotes.sync().pulled
    assert pulled.unconfirmed == (x,)
    assert team.b.vault.recipients()[-2:] in ([y, x], [x, y])
    for profile_id in ("one", "two"):
        assert team.content(team.b, profile_id) == "first"
        assert team.content(team.b, profile_id, y_secret) == "first"
        assert team.content(team.b, profile_id, x_secret) is None
    two = team.b.get_profile("two")
    opener = team.b.vault.opener("two", two.created_at)
    assert opener(two.platform_config["token"], "platform_config.token") == "the token"
    team.settle()
    # Whoever confirms seals for all; the other side takes it as it comes.
    assert team.b.vault.add_recipients([x]).unconfirmed == []
    assert team.content(team.b, "one", x_secret) == "first"
    team.settle()
    assert team.a.vault.status().unconfirmed == [y]
    for secret in (x_secret, y_secret):
        assert team.content(team.a, "two", secret) == "first"
        assert inside(secret_of(team.a, "two"), secret) == b"the token"


def test_a_login_made_while_a_recipient_was_removed_is_sealed_without_it(team: Team) -> None:
    secret, recipient = age.generate_identity()
    team.a.vault.add_recipients([recipient])
    team.settle()
    team.b.vault.add_recipients([recipient])  # confirmed there as well
    team.settle()
    team.a.vault.remove_recipient(recipient)
    team.a.remotes.push()
    team.log_in(team.b, "one", "second")
    token = team.b.vault.seal_secret("another token")
    team.b.update_profiles(["two"], platform_config={"token": token})
    assert team.content(team.b, "one", secret) == "second"
    before = len(team.b.history())
    pulled = team.b.remotes.pull()
    assert (pulled.sealed, pulled.left, pulled.unconfirmed) == (("one", "two"), (), ())
    assert len(team.b.history()) == before + 1  # in the merge itself
    assert team.content(team.b, "one") == "second"
    assert team.content(team.b, "one", secret) is None
    assert age.unseal(secret_of(team.b, "two"), [(team.b.home / "identity").read_text()])
    with pytest.raises(VaultError):
        inside(secret_of(team.b, "two"), secret)
    team.settle()
    assert team.content(team.a, "one") == "second"
    # It is not confirmed any more, so that nobody brings it back by a push.
    assert team.b.vault.recipients() == team.a.vault.recipients()
    assert len(team.b.vault.recipients()) == 2


def test_a_login_made_while_a_recipient_was_added_is_sealed_for_it(team: Team) -> None:
    secret, recipient = age.generate_identity()
    team.log_in(team.b, "one", "second")
    team.b.create_profile("three", "telegram")
    team.log_in(team.b, "three", "new")
    team.b.remotes.push()
    team.a.vault.add_recipients([recipient])
    assert team.a.remotes.pull().sealed == ("one", "three")
    for profile_id, mark in (("one", "second"), ("two", "first"), ("three", "new")):
        assert team.content(team.a, profile_id, secret) == mark
    assert team.content(team.a, "three") == "new"
    team.settle()


def test_both_log_in_anew_is_a_conflict_all_the_same(team: Team) -> None:
    team.log_in(team.a, "one", "of a")
    team.log_in(team.b, "one", "of b")
    team.a.remotes.push()
    with pytest.raises(MergeConflictError, match=r"one \(session\)"):
        team.b.remotes.pull()
    team.b.remotes.pull(resolve="theirs")
    assert team.content(team.b, "one") == "of a"


def test_a_profile_deleted_there_and_sealed_anew_here_is_deleted(team: Team) -> None:
    team.b.delete_profile("one")
    team.b.remotes.push()
    team.a.vault.reseal()
    assert team.a.remotes.pull().deleted == ("one",)


def test_who_adds_itself_by_a_push_gets_nothing(
    team: Team, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret, hostile = age.generate_identity()
    kept = team.a.vault.recipients()
    team.push_by_hand(tmp_path, "\n".join([*kept, hostile]) + "\n")
    caplog.set_level(logging.WARNING)
    pulled = team.a.remotes.pull()
    assert (pulled.unconfirmed, pulled.sealed) == ((hostile,), ())
    assert f"tweakio vault recipients add {hostile}" in caplog.text
    status = team.a.vault.status()
    assert status.unconfirmed == [hostile]
    # All that seals: a login, a secret, another recipient, a snapshot, sealing anew.
    team.log_in(team.a, "one", "second")
    team.log_in(team.a, "idle", "new")
    text = team.a.vault.seal_secret("another token")
    with pytest.raises(VaultError, match="sealed for others"):
        age.unseal(sealed_bytes(text), [secret])
    team.a.vault.add_recipients([age.generate_identity()[1]])
    team.a.vault.reseal()
    team.a.vault.init()
    snapshot = team.a.snapshots.create("one").snapshot
    assert set(snapshot.recipients) == set(team.a.vault.recipients()) - {hostile}
    for profile_id in ("one", "two", "idle"):
        assert team.content(team.a, profile_id, secret) is None
        assert team.content(team.a, profile_id) is not None
    assert team.a.vault.status().unconfirmed == [hostile]
    # A person says so, and that is all it takes.
    assert team.a.vault.add_recipients([hostile]).unconfirmed == []
    assert team.content(team.a, "one", secret) == "second"


def test_who_takes_all_others_away_gets_nothing_either(team: Team, tmp_path: Path) -> None:
    secret, hostile = age.generate_identity()
    team.push_by_hand(tmp_path, f"{hostile}\n")
    pulled = team.a.remotes.pull()
    assert pulled.left == ("one", "two")
    team.log_in(team.a, "one", "second")  # not sealed, which the log says
    assert team.content(team.a, "one", secret) is None
    assert team.content(team.a, "one") == "first"
    with pytest.raises(VaultError, match="confirmed"):
        team.a.vault.seal_secret("x")
    with pytest.raises(VaultError, match="confirmed"):
        team.a.snapshots.create("one")
    own = team.a.vault.init()  # this machine is one again
    assert own.unconfirmed == [hostile]
    team.log_in(team.a, "one", "third")
    assert team.content(team.a, "one") == "third"
    assert team.content(team.a, "one", secret) is None


def test_who_was_removed_does_not_come_back_by_a_push(team: Team, tmp_path: Path) -> None:
    secret, recipient = age.generate_identity()
    team.a.vault.add_recipients([recipient])
    team.a.vault.remove_recipient(recipient)
    team.a.remotes.push()
    team.push_by_hand(tmp_path, "\n".join([*team.a.vault.recipients(), recipient]) + "\n")
    assert team.a.remotes.pull().unconfirmed == (recipient,)
    team.a.vault.reseal()
    assert team.content(team.a, "one", secret) is None


def test_what_cannot_be_opened_is_named_and_sealed_anew_later(
    team: Team, caplog: pytest.LogCaptureFixture
) -> None:
    secret, recipient = age.generate_identity()
    for machine in (team.a, team.b):
        machine.vault.add_recipients([recipient])
        team.settle()
    team.b.create_profile("three", "telegram")
    team.log_in(team.b, "three", "new")
    team.a.vault.remove_recipient(recipient)
    team.a.remotes.push()
    away = team.b.home / "away"
    (team.b.home / "identity").rename(away)
    caplog.set_level(logging.WARNING)
    assert team.b.remotes.pull().left == ("three",)
    assert "tweakio vault reseal" in caplog.text
    away.rename(team.b.home / "identity")
    assert team.content(team.b, "three", secret) == "new"
    change = team.b.vault.reseal()
    assert "three" in change.sealed
    assert team.content(team.b, "three", secret) is None


def test_a_list_that_plain_git_merged(team: Team, tmp_path: Path) -> None:
    secret, hostile = age.generate_identity()
    team.push_by_hand(tmp_path, "\n".join([*team.a.vault.recipients(), hostile]) + "\n")
    name = ("-c", "user.name=x", "-c", "user.email=x@x")
    done = git(team.a.layout.profiles, *name, "pull", "-q", "--no-rebase", "origin", "main")
    assert done.returncode == 0, done.stderr
    team.checked = False  # git's files have git's modes
    assert team.a.vault.status().unconfirmed == [hostile]
    team.log_in(team.a, "one", "second")
    assert team.content(team.a, "one", secret) is None
