"""The specification v0.1.6, section by section, each by the real condition."""

from __future__ import annotations

import json
import os
import signal
import textwrap
import threading
import time

import pytest
from cli_helpers import Cli, Holder
from invariants import check, tree_digest

import tweakio
from tweakio import (
    LockTimeoutError,
    ProfileActiveError,
    ProfileCorruptedError,
    ProfileExistsError,
    ProfileLockManager,
    ProfileManager,
    ProfileMetadataHandler,
    ProfileNotFoundError,
    ProfileRegistry,
    ProfileValidator,
    platforms,
)

SECTION_7_2 = """
from tweakio import ProfileManager

pm = ProfileManager()

# Create and activate
pm.create_profile("support_bot", platform="whatsapp")
pm.activate_profile("support_bot")

# Safe deletion
try:
    pm.delete_profile("support_bot")  # ← Fails if active
except ProfileActiveError:
    pm.deactivate_profile()
    pm.delete_profile("support_bot")

# List with metadata
profiles = pm.list_profiles()
for p in profiles:
    print(f"{p.id} ({p.platform}): {p.status} | last used: {p.last_used}")
"""


def test_7_2_runs_as_printed(home, monkeypatch, capsys):
    monkeypatch.setenv("TWEAKIO_HOME", str(home))
    # The listing uses a name that it does not import.
    names = {"ProfileActiveError": ProfileActiveError}
    exec(SECTION_7_2, names)
    manager = names["pm"]
    assert manager.home == home
    assert [change.operation for change in manager.history()] == [
        "delete",
        "deactivate",
        "activate",
        "create",
        "init",
    ]
    manager.create_profile("support_bot", platform="whatsapp")
    exec(SECTION_7_2.partition("# List with metadata")[2], names)
    assert capsys.readouterr().out.startswith("support_bot (whatsapp): inactive | last used: 20")
    manager.close()
    check(home)


def test_7_2_in_a_program_of_its_own(tmp_path):
    cli = Cli(tmp_path)
    code = SECTION_7_2.replace("import ProfileManager", "import ProfileActiveError, ProfileManager")
    done = cli.python(code)
    assert (done.code, done.out, done.err) == (0, "", "")


# 3


def test_3_the_directory_structure(manager):
    profile = manager.create_profile("default", "whatsapp")
    assert profile.path == manager.home / "profiles" / "default"
    assert {"metadata.json", "session.json", "browser_profile", "cache", ".lock"} <= set(
        os.listdir(profile.path)
    )
    assert profile.path.stat().st_mode & 0o777 == 0o700
    for name, mode in (("session.json", 0o600), ("metadata.json", 0o600), ("cache", 0o700)):
        assert (profile.path / name).stat().st_mode & 0o777 == mode


def test_3_the_umask_does_not_matter(manager):
    for mask in (0o000, 0o777 & ~0o700):
        before = os.umask(mask)
        try:
            manager.create_profile(f"u{mask}", "custom")
        finally:
            os.umask(before)
    check(manager.home)


def test_3_the_metadata_schema(manager):
    manager.create_profile("alpha", "whatsapp", platform_version="2.3000")
    profile = manager.activate_profile("alpha")
    value = json.loads((profile.path / "metadata.json").read_bytes())
    assert value["profile_id"] == "alpha"
    assert value["platform"] == "whatsapp"
    assert value["platform_version"] == "2.3000"
    assert value["status"] == "active"
    assert value["lock_pid"] == os.getpid()
    for key in ("created_at", "last_used"):
        assert tweakio.models.parse_time(value[key]).tzinfo is not None


# 4.2


def test_4_2_the_manager(home):
    with ProfileManager(home) as manager:
        created = manager.create("alpha", "custom")
        assert manager.activate("alpha").status == "active"
        assert manager.deactivate().id == "alpha"
        assert [p.id for p in manager.list()] == ["alpha"]
        (created.path / "metadata.json").write_bytes(b"")
        assert manager.recover("alpha").status == "inactive"
        manager.delete("alpha")
        assert manager.list() == []


def test_4_2_the_registry(manager):
    registry = ProfileRegistry()
    profile = manager.create_profile("alpha", "custom")
    registry.register(profile)
    with pytest.raises(ProfileExistsError):
        registry.register(profile)
    assert registry.get_active() is None
    assert not registry.is_active("alpha")
    registry.unregister("alpha")
    registry.register(profile)


def test_4_2_the_lock_manager(manager):
    manager.create_profile("alpha", "custom")
    locks = ProfileLockManager(manager.layout)
    with locks.acquire("alpha"):
        assert locks.is_locked("alpha")
        assert manager.locks.is_locked("alpha")
        assert not locks.cleanup_stale("alpha")
    assert not locks.is_locked("alpha")
    locks.acquire("alpha", timeout=0)
    locks.acquire("alpha", timeout=0)
    locks.release("alpha")
    locks.release("alpha")
    assert not locks.is_locked("alpha")


def test_4_2_there_is_no_lock_of_a_profile_that_is_not_there(manager):
    manager.create_profile("alpha", "custom")
    with pytest.raises(ProfileNotFoundError):
        manager.locks.acquire("nobody", timeout=0)
    assert not (manager.layout.profiles / "nobody").exists()


def test_4_2_the_metadata_handler(manager):
    manager.create_profile("alpha", "custom")
    handler = ProfileMetadataHandler(manager.repository)
    value = handler.validate(handler.load("alpha"))
    handler.save("alpha", {**value, "note": "x"})
    assert handler.load("alpha")["note"] == "x"
    handler.mark_corrupted("alpha", "why")
    assert manager.get_profile("alpha").status == "corrupted"


def test_4_2_the_validator(manager):
    validator = ProfileValidator()
    profile = manager.create_profile("alpha", "custom")
    assert validator.validate_id("alpha") == "alpha"
    assert validator.validate_platform("whatsapp") == "whatsapp"
    validator.can_delete(profile)
    with pytest.raises(ProfileActiveError):
        validator.can_delete(manager.select_profile("alpha"))


def test_4_2_each_can_be_injected(home):
    class Strict(ProfileValidator):
        def validate_id(self, profile_id):
            if not str(profile_id).startswith("team_"):
                raise tweakio.InvalidProfileIdError("not a team's", hint="team_...")
            return super().validate_id(profile_id)

    made = []

    def locks(layout):
        made.append(ProfileLockManager(layout))
        return made[-1]

    registry = ProfileRegistry()
    moment = tweakio.models.parse_time("2026-02-10T14:30:00Z")
    with ProfileManager(
        home, registry=registry, validator=Strict(), lock_manager=locks, clock=lambda: moment
    ) as manager:
        with pytest.raises(tweakio.InvalidProfileIdError):
            manager.create_profile("alpha", "custom")
        profile = manager.create_profile("team_a", "custom")
        assert profile.created_at == profile.last_used == moment
        assert manager.registry is registry
        assert manager.locks is made[0]


# 5


def test_5_1_creation_is_rolled_back_on_any_failure(manager, monkeypatch):
    """The third of five profiles cannot make its fingerprint."""
    calls = []

    class Failing:
        def generate(self, profile_id):
            calls.append(profile_id)
            if len(calls) == 3:
                raise RuntimeError("no entropy")
            return {}

    custom = platforms.find_platform("custom")
    failing = platforms.Platform("custom", custom.session_handler, Failing)
    monkeypatch.setitem(platforms._platforms, "custom", failing)
    manager.create_profile("before", "whatsapp")
    history = manager.history()
    with pytest.raises(RuntimeError, match="no entropy"):
        manager.create_profiles(["a", "b", "c", "d", "e"], "custom")
    assert [p.id for p in manager.list_profiles()] == ["before"]
    assert manager.registry.ids() == ["before"]
    assert manager.history() == history
    assert manager.trash() == []
    assert not (manager.layout.profiles / "a").exists()
    manager.create_profiles(["a", "b"], "custom")
    check(manager.home)


def test_5_1_something_is_in_the_way_of_a_creation(manager):
    manager.create_profile("before", "whatsapp")
    place = manager.layout.profiles / "alpha"
    place.write_text("a person's file")
    with pytest.raises(tweakio.StorageError):
        manager.create_profiles(["other", "alpha"], "custom")
    assert place.read_text() == "a person's file"
    assert [p.id for p in manager.list_profiles()] == ["before"]
    assert not (manager.layout.profiles / "other").exists()
    place.unlink()
    manager.create_profiles(["other", "alpha"], "custom")
    check(manager.home)


def test_5_2_activating_what_is_not_there(manager):
    manager.create_profile("alpha", "custom")
    with pytest.raises(ProfileNotFoundError):
        manager.activate_profile("nobody")


def test_5_3_deletion_is_protected(manager):
    manager.create_profile("alpha", "custom")
    manager.activate_profile("alpha")
    with pytest.raises(ProfileActiveError):
        manager.delete_profile("alpha")
    manager.delete_profile("alpha", force=True)
    assert manager.list_profiles() == []


# 6


def test_6_active_profile_deletion(manager, tmp_path):
    """By a second process, while the first uses it."""
    manager.create_profile("alpha", "custom")
    cli = Cli(tmp_path)
    with Holder(cli, "alpha"):
        with pytest.raises(ProfileActiveError):
            manager.delete_profile("alpha")
        assert manager.get_profile("alpha").status == "active"
    manager.delete_profile("alpha")


def test_6_concurrent_access(manager, tmp_path):
    """It waits until the other process releases the lock, or ends with the owner's name."""
    manager.create_profile("alpha", "custom")
    cli = Cli(tmp_path)
    holder = Holder(cli, "alpha").__enter__()
    with pytest.raises(LockTimeoutError) as caught:
        manager.activate_profile("alpha", timeout=0.2)
    assert f"process {holder.pid}" in caught.value.message
    timer = threading.Timer(0.3, holder.__exit__)
    timer.start()
    began = time.monotonic()
    manager.activate_profile("alpha")
    assert time.monotonic() - began > 0.2
    timer.join()


@pytest.mark.skipif(os.name != "posix", reason="kill -9")
def test_6_stale_lock(manager, tmp_path, caplog):
    manager.create_profile("alpha", "custom")
    cli = Cli(tmp_path)
    with Holder(cli, "alpha") as holder:
        os.kill(holder.pid, signal.SIGKILL)
        holder._process.wait()
        began = time.monotonic()
        manager.activate_profile("alpha")
        assert time.monotonic() - began < 5
        assert str(holder.pid) in caplog.text
    check(manager.home)


def test_6_metadata_corruption(manager):
    profile = manager.create_profile("alpha", "custom", note="kept")
    path = profile.path / "metadata.json"
    with path.open("r+b") as file:
        file.truncate(60)
    assert manager.get_profile("alpha").status == "corrupted"
    with pytest.raises(ProfileCorruptedError) as caught:
        manager.activate_profile("alpha")
    assert caught.value.hint == "run 'tweakio profile recover alpha'"
    assert manager.recover_profile("alpha", mode="soft").note == "kept"
    manager.activate_profile("alpha")


@pytest.mark.skipif(os.name != "posix", reason="kill -9")
def test_6_partial_creation(tmp_path):
    """Killed in the middle: what it was about to move is staged, nothing is listed."""
    cli = Cli(tmp_path)
    cli.python("from tweakio import ProfileManager\nProfileManager().create_profile('a', 'custom')")
    done = cli.python(
        textwrap.dedent("""
            import os, signal
            from tweakio import ProfileManager
            def stop(number):
                if number == 2:
                    os.kill(os.getpid(), signal.SIGKILL)
            ProfileManager().create_profiles(["b", "c", "d"], "custom", progress=stop)
        """)
    )
    assert done.code == -signal.SIGKILL
    with ProfileManager(cli.home) as manager:
        assert [p.id for p in manager.list_profiles()] == ["a"]
        assert os.listdir(manager.layout.staging) != []
        manager.create_profiles(["b", "c", "d"], "custom")
        assert os.listdir(manager.layout.staging) == []
    check(cli.home)


def test_6_the_recovery_modes(manager):
    profile = manager.create_profile("support_bot", "whatsapp")
    (profile.path / "browser_profile" / "Cookies").write_bytes(b"login")
    (profile.path / "metadata.json").unlink()
    manager.recover_profile("support_bot", mode="soft")
    assert (profile.path / "browser_profile" / "Cookies").read_bytes() == b"login"
    manager.recover_profile("support_bot", mode="hard")
    assert os.listdir(profile.path / "browser_profile") == []


# 8


def test_8_register_platform_as_printed(manager, monkeypatch):
    monkeypatch.setattr(platforms, "_platforms", dict(platforms._platforms))

    class TelegramSessionHandler:
        login_url = "https://example.org/"
        session_of_record = "session.json"

        def empty_session(self):
            return {"mine": True}

    class TelegramFingerprintGenerator:
        def generate(self, profile_id):
            return {"for": profile_id}

    from tweakio.platforms import register_platform

    register_platform(
        name="telegram",
        session_handler=TelegramSessionHandler,
        fingerprint_generator=TelegramFingerprintGenerator,
    )
    profile = manager.create_profile("news_bot", platform="telegram")
    assert json.loads((profile.path / "session.json").read_bytes()) == {"mine": True}
    assert json.loads((profile.path / "fingerprint.json").read_bytes()) == {"for": "news_bot"}


def test_8_platform_config(manager):
    config = {"api_id": "******", "api_hash": "******"}
    manager.create_profile("news_bot", "telegram", platform_config=config)
    assert manager.get_profile("news_bot").platform_config == config


# 9


@pytest.mark.parametrize("parts", [("browser_profile", "session.json"), ("browser_profile",)])
@pytest.mark.parametrize("first", ["list_profiles", "create"])
def test_9_the_single_account_is_taken_over(home, caplog, parts, first):
    (home / "browser_profile" / "Default").mkdir(parents=True)
    (home / "browser_profile" / "Default" / "Cookies").write_bytes(b"\0login")
    if "session.json" in parts:
        (home / "session.json").write_bytes(b'{"cookies": [1]}')
    digests = {name: tree_digest(home / name) for name in parts}
    with ProfileManager(home) as manager:
        if first == "create":
            manager.create_profile("other", "custom")
        profile = next(p for p in manager.list_profiles() if p.id == "default")
        assert (profile.platform, profile.status) == ("whatsapp", "inactive")
        assert {name: tree_digest(profile.path / name) for name in parts} == digests
        assert not (home / "browser_profile").exists()
        assert not (home / "session.json").exists()
        assert [c.operation for c in manager.history("default")] == ["migrate"]
        assert caplog.text.count("to the profile 'default'") == 1
        manager.activate_profile("default")
    check(home, permissions=False)


def test_9_a_default_that_exists_is_not_overwritten(home):
    with ProfileManager(home) as manager:
        profile = manager.create_profile("default", "custom")
        (profile.path / "session.json").write_bytes(b'{"mine": 1}')
        (home / "session.json").write_bytes(b'{"other": 1}')
        manager.list_profiles()
    with ProfileManager(home) as manager:
        manager.activate_profile("default")
        assert (profile.path / "session.json").read_bytes() == b'{"mine": 1}'
        assert (home / "session.json").read_bytes() == b'{"other": 1}'


def test_9_it_can_be_undone_like_any_change(home):
    (home / "browser_profile").mkdir(parents=True)
    (home / "browser_profile" / "Cookies").write_bytes(b"login")
    with ProfileManager(home) as manager:
        manager.list_profiles()
        assert manager.undo().operation == "migrate"
        assert manager.list_profiles() == []
        manager.redo()
        profile = manager.get_profile("default")
        assert (profile.path / "browser_profile" / "Cookies").read_bytes() == b"login"


# 11


def test_11_everything_is_typed():
    assert os.path.exists(os.path.join(os.path.dirname(tweakio.__file__), "py.typed"))
