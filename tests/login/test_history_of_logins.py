"""What the history says of logins, and what undo does with it: without a browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from invariants import check

from tweakio import ProfileActiveError, ProfileCorruptedError, ProfileManager, ProfileNotFoundError
from tweakio.models import utc_now


@pytest.fixture
def alpha(manager):
    profile = manager.create_profile("alpha", "whatsapp", note="kept")
    put(profile, b"login")
    return profile


def put(profile, data: bytes) -> None:
    (profile.path / "session.json").write_bytes(b'{"data": "%s"}' % data)
    (profile.path / "browser_profile" / "Cookies").write_bytes(data)


def data(profile) -> tuple[bytes, bytes | None]:
    cookies: Path = profile.path / "browser_profile" / "Cookies"
    return (profile.path / "session.json").read_bytes(), (
        cookies.read_bytes() if cookies.exists() else None
    )


def operations(manager):
    return [change.operation for change in manager.history("alpha")]


def test_a_login_is_one_commit_that_changes_when_it_was_used(manager, alpha, git):
    before = utc_now()
    after = manager.record_login("alpha")
    assert after._replace(last_used=None) == alpha._replace(last_used=None)
    assert after.last_used >= before
    change = manager.history("alpha", 1)[0]
    assert (change.operation, change.summary) == ("login", "log in alpha")
    assert git("show", "--stat", "--format=").split()[:1] == ["alpha/metadata.json"]
    assert "Tweakio-Op: login\nTweakio-Profile: alpha\n" in git("log", "-1", "--format=%B")
    check(manager.home)


def test_undo_and_redo_of_a_login_leave_the_session_alone(manager, alpha):
    manager.record_login("alpha")
    put(alpha, b"newer")
    before = data(alpha)
    assert manager.undo().operation == "login"
    assert manager.get_profile("alpha").last_used == alpha.last_used
    assert data(alpha) == before
    assert manager.redo().operation == "login"
    assert manager.get_profile("alpha").last_used > alpha.last_used
    assert data(alpha) == before
    assert operations(manager) == ["redo", "undo", "login", "create"]
    check(manager.home)


def test_restoring_the_time_before_a_login_leaves_the_session_alone(manager, alpha):
    manager.record_login("alpha")
    manager.update_profiles(["alpha"], note="changed")
    before = data(alpha)
    assert manager.restore("alpha", "HEAD~2").note == "kept"
    assert data(alpha) == before


def test_a_logout_starts_anew_and_is_undone(manager, alpha):
    manager.record_login("alpha")
    old = data(alpha)
    manager.reset_login("alpha")
    assert data(alpha)[1] is None
    new = data(alpha)
    assert [(entry.kind, entry.profile_id) for entry in manager.trash()] == [("reset", "alpha")]
    assert manager.undo().summary == "log out alpha"
    assert data(alpha) == old
    assert manager.redo().summary == "log out alpha"
    assert data(alpha) == new
    manager.undo()
    assert data(alpha) == old
    assert manager.get_profile("alpha").note == "kept"
    check(manager.home, work=True)


def test_a_logout_can_be_taken_back_from_the_trash(manager, alpha):
    old = data(alpha)
    manager.reset_login("alpha")
    manager.restore_from_trash(manager.trash()[0].name)
    assert data(alpha) == old
    check(manager.home)


def test_delete_and_recovery_after_a_login_are_undone_with_it(manager, alpha):
    manager.record_login("alpha")
    old = data(alpha)
    manager.delete_profile("alpha")
    manager.undo()
    assert data(alpha) == old
    manager.recover_profile("alpha", "hard")
    assert data(alpha) != old
    manager.undo()
    assert data(alpha) == old
    check(manager.home)


def test_logins_that_ended_are_one_commit(manager, alpha):
    beta = manager.create_profile("beta", "telegram")
    put(beta, b"other")
    before = data(alpha), data(beta)
    manager.record_expiry(["alpha", "beta"])
    change = manager.history(limit=1)[0]
    assert (change.operation, change.profiles) == ("expire", ("alpha", "beta"))
    assert change.summary == "login of alpha, beta has ended"
    assert manager.get_profile("beta").last_used > beta.last_used
    manager.undo()
    assert manager.get_profile("beta").last_used == beta.last_used
    assert (data(alpha), data(beta)) == before
    check(manager.home)


def test_a_login_that_ended_in_a_profile_that_is_gone_or_damaged(manager, alpha, caplog):
    manager.create_profile("beta", "telegram")
    (alpha.path / "metadata.json").write_bytes(b"{ broken")
    manager.record_expiry(["alpha", "beta", "gone"])
    assert manager.history(limit=1)[0].profiles == ("beta",)
    assert "'gone'" in caplog.text
    head = manager.history(limit=1)[0].revision
    manager.record_expiry(["alpha", "gone"])
    manager.record_expiry([])
    assert manager.history(limit=1)[0].revision == head
    assert (alpha.path / "metadata.json").read_bytes() == b"{ broken"


@pytest.mark.parametrize("method", ["record_login", "reset_login"])
def test_it_needs_a_sound_profile(manager, alpha, method):
    with pytest.raises(ProfileNotFoundError):
        getattr(manager, method)("beta")
    before = data(alpha)
    (alpha.path / "metadata.json").write_bytes(b"{ broken")
    with pytest.raises(ProfileCorruptedError):
        getattr(manager, method)("alpha")
    assert data(alpha) == before


def test_a_profile_in_use_is_not_logged_out(manager, alpha):
    before = data(alpha)
    with ProfileManager(manager.home) as other:
        other.activate_profile("alpha")
        with pytest.raises(ProfileActiveError):
            manager.reset_login("alpha")
        assert data(alpha) == before
        other.reset_login("alpha")  # by who uses it
    assert data(alpha) != before
    check(manager.home)
