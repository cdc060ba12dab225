"""The vault: what is sealed when, who can open it, and what stays out of history."""

from __future__ import annotations

import base64
import errno
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from cli_helpers import Cli, errors

from tests.invariants import check, git
from tweakio import ProfileManager
from tweakio.errors import (
    InvalidInputError,
    MissingExtraError,
    NothingToUndoError,
    RecipientError,
    VaultError,
)
from tweakio.vault import age, binding

needs_age = pytest.mark.skipif(shutil.which("age") is None, reason="age is not installed")
MARK = "marker-of-the-session"


@pytest.fixture(autouse=True)
def _hermetic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TWEAKIO_IDENTITY", raising=False)
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
    monkeypatch.setattr(age, "_WORK", 10)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def write_session(home: Path, profile_id: str, mark: str = MARK) -> bytes:
    content = json.dumps({"cookies": [{"name": "c", "value": mark}], "origins": []}).encode()
    path = home / "profiles" / profile_id / "session.json"
    path.write_bytes(content)
    path.chmod(0o600)
    return content


def logged_in(home: Path, *profile_ids: str) -> ProfileManager:
    """A home with a vault and logged-in profiles."""
    manager = ProfileManager(home)
    manager.create_profiles([*profile_ids, "idle"], "telegram")
    manager.vault.init()
    for profile_id in profile_ids:
        write_session(home, profile_id, f"{MARK}-{profile_id}")
        manager.record_login(profile_id)
    return manager


def clone(home: Path, place: Path) -> Path:
    """A plain clone, as a home of its own."""
    place.mkdir(mode=0o700)
    done = git(place, "clone", "-q", str(home / "profiles"), str(place / "profiles"))
    assert done.returncode == 0, done.stderr
    return place


def objects(home: Path) -> bytes:
    profiles = home / "profiles"
    return git(profiles, "cat-file", "--batch-all-objects", "--batch", "--unordered").stdout


def session(home: Path, profile_id: str) -> bytes:
    return (home / "profiles" / profile_id / "session.json").read_bytes()


def sealed(home: Path, profile_id: str, revision: str = "HEAD") -> bytes:
    return git(home / "profiles", "show", f"{revision}:{profile_id}/session.json.age").stdout


def inside(data: bytes, secret: str) -> bytes:
    """The content of something encrypted, without the header that says what it is for."""
    return binding.read(age.unseal(data, [secret])).content


def opened(home: Path, profile_id: str) -> bytes:
    return inside(sealed(home, profile_id), (home / "identity").read_text())


def test_without_a_vault_no_session_is_in_history(home: Path) -> None:
    with ProfileManager(home) as manager:
        manager.create_profile("a", "telegram")
        write_session(home, "a")
        manager.record_login("a")
        assert manager.vault.recipients() == []
        assert manager.vault.seal_sessions(["a"]) == []
        with pytest.raises(VaultError, match="no vault"):
            manager.vault.seal_secret("x")
        with pytest.raises(VaultError, match="no vault"):
            manager.vault.add_recipients([age.generate_identity()[1]])
    assert MARK.encode() not in objects(home)
    assert b"session.json" not in git(home / "profiles", "ls-files").stdout
    assert not (home / "identity").exists()


def test_a_login_is_sealed_in_the_commit_that_records_it(home: Path) -> None:
    with logged_in(home, "a") as manager:
        assert manager.history()[0].operation == "login"
        assert opened(home, "a") == session(home, "a")
        assert (home / "identity").stat().st_mode & 0o777 == 0o600
        assert "idle" not in manager.vault.status().sealed
        assert manager.vault.status().is_recipient is True
    assert MARK.encode() not in objects(home)
    check(home, work=True)


def test_making_a_vault_seals_what_is_there(home: Path) -> None:
    with ProfileManager(home) as manager:
        manager.create_profiles(["a", "b"], "telegram")
        content = write_session(home, "a")
        # As a repository that was made before there were vaults.
        with manager.repository.transaction("older") as change:
            ignore = change.root_file(".gitignore")
            assert ignore is not None
            change.put_root(".gitignore", ignore.replace(b"!/*/session.json.age\n", b""))
        change = manager.vault.init()
        assert (change.sealed, change.left) == (["a"], [])
        assert opened(home, "a") == content
        again = manager.vault.init()
        assert again.recipients == change.recipients
        assert len(manager.history()) == 4
    check(home, work=True)
    assert git(home / "profiles", "check-ignore", "-q", "b/session.json.age").returncode == 1


@pytest.mark.parametrize("look", ["list_profiles", "get_profile"])
def test_a_full_disk_just_after_the_commit_hides_nothing_from_the_next_look(
    home: Path, monkeypatch: pytest.MonkeyPatch, look: str
) -> None:
    """The metadata of a profile shows that a change is not complete; this file alone does not."""
    with ProfileManager(home) as manager:
        manager.create_profile("a", "telegram")
        write_session(home, "a")
        sealed_file = home / "profiles" / "a" / "session.json.age"

        replace = os.replace

        def fail(source: str, target: str) -> None:
            if str(target).endswith("session.json.age"):
                raise OSError(errno.ENOSPC, "no space left")
            replace(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", fail)
            manager.vault.init()
        assert not sealed_file.exists()
        getattr(manager, look)(*(["a"] if look == "get_profile" else []))
        assert sealed_file.read_bytes() == sealed(home, "a")
    check(home)


def test_a_session_that_was_saved_again_is_sealed_once(home: Path) -> None:
    with logged_in(home, "a", "b") as manager:
        assert manager.vault.seal_sessions(["a", "b", "idle"]) == []
        content = write_session(home, "b", "renewed")
        assert manager.vault.seal_sessions(["a", "b", "gone"]) == ["b"]
        assert opened(home, "b") == content
        assert manager.history()[0].summary == "seal the session of b"


@needs_age
def test_age_opens_it_from_a_plain_clone_and_the_reverse(home: Path, tmp_path: Path) -> None:
    with logged_in(home, "a"):
        pass
    other = clone(home, tmp_path / "other")
    path = other / "profiles" / "a" / "session.json.age"
    done = subprocess.run(
        ["age", "-d", "-i", str(home / "identity"), str(path)], capture_output=True, check=False
    )
    said, content = done.stdout.split(b"\n", 1)
    assert content == session(home, "a"), done.stderr
    assert said.startswith(b'tweakio/1 {"purpose":"session","profile_id":"a",')
    # The reverse: age encrypts for the recipients in the tracked file, git commits, tweakio
    # decrypts, if it says whose it is.
    created = json.loads((other / "profiles" / "a" / "metadata.json").read_text())["created_at"]
    place = binding.session("a", created)
    for options in ([], ["-a"]):
        content = json.dumps({"cookies": [f"by age {options}"], "origins": []}).encode()
        done = subprocess.run(
            ["age", *options, "-R", str(other / "profiles" / ".age-recipients"), "-o", str(path)],
            input=binding.bind(place, binding.now(), content), capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        profiles = other / "profiles"
        (other / "identity").unlink(missing_ok=True)
        (profiles / "a" / "session.json").unlink(missing_ok=True)
        shutil.copy(home / "identity", other / "identity")
        git(profiles, "-c", "user.name=x", "-c", "user.email=x@x", "commit", "-qam", "by hand")
        with ProfileManager(other) as manager:
            assert manager.vault.restore_sessions() == (["a"], [])
        assert session(other, "a") == content


def test_a_clone_gets_its_sessions_back(home: Path, tmp_path: Path) -> None:
    with logged_in(home, "a", "b"):
        pass
    other = clone(home, tmp_path / "other")
    with ProfileManager(other) as manager:
        status = manager.vault.status()
        assert (status.identity, status.missing) == ("", ["a", "b"])
        assert manager.vault.restore_if_missing("a") is False
        with pytest.raises(VaultError, match="no identity"):
            manager.vault.restore_sessions()
        manager.activate_profile("a")  # the profile is there without its session
        manager.deactivate_profile()
        shutil.copy(home / "identity", other / "identity")
        (other / "identity").chmod(0o600)
        assert manager.vault.restore_if_missing("a") is True
        assert manager.vault.restore_sessions() == (["b"], [])
        for profile_id in "ab":
            assert session(other, profile_id) == session(home, profile_id)
            mode = (other / "profiles" / profile_id / "session.json").stat().st_mode
            assert mode & 0o777 == 0o600
        own = write_session(other, "a", "its own")
        assert manager.vault.restore_if_missing("a") is False
        assert session(other, "a") == own


def test_a_second_machine_becomes_a_recipient(home: Path, tmp_path: Path) -> None:
    with logged_in(home, "a"):
        pass
    other = clone(home, tmp_path / "other")
    with ProfileManager(other) as there, ProfileManager(home) as here:
        change = there.vault.init()
        assert (len(change.recipients), change.left) == (2, ["a"])
        mine = change.recipients[1]
        assert there.vault.restore_sessions() == ([], ["a"])
        git(home / "profiles", "pull", "-q", str(other / "profiles"), "main")
        assert here.vault.recipients() == change.recipients
        assert here.vault.add_recipients([mine]).sealed == ["a"]
        git(other / "profiles", "pull", "-q", str(home / "profiles"), "main")
        assert there.vault.restore_sessions() == (["a"], [])
        assert session(other, "a") == session(home, "a")


def test_who_was_removed_opens_nothing_new(home: Path) -> None:
    secret, recipient = age.generate_identity()
    with logged_in(home, "a", "b") as manager:
        manager.vault.add_recipients([recipient])
        assert inside(sealed(home, "a"), secret) == session(home, "a")
        before = len(manager.history())
        change = manager.vault.remove_recipient(recipient)
        assert change.sealed == ["a", "b"]
        assert len(manager.history()) == before + 1
        for profile_id in "ab":
            with pytest.raises(VaultError, match="sealed for others"):
                age.unseal(sealed(home, profile_id), [secret])
            assert opened(home, profile_id) == session(home, profile_id)
        # That is why it has to be said.
        assert inside(sealed(home, "a", "HEAD~1"), secret) == session(home, "a")
        with pytest.raises(RecipientError, match="not a recipient"):
            manager.vault.remove_recipient(recipient)
        with pytest.raises(RecipientError, match="only recipient"):
            manager.vault.remove_recipient(manager.vault.recipients()[0])
    check(home)


def test_the_identity_is_lost_and_no_profile_is(home: Path, tmp_path: Path) -> None:
    with logged_in(home, "a"):
        pass
    other = clone(home, tmp_path / "other")
    (home / "identity").unlink()
    for place in (home, other):
        with ProfileManager(place) as manager:
            first = manager.vault.recipients()[0]
            assert [profile.status for profile in manager.list_profiles()] == ["inactive"] * 2
    with ProfileManager(home) as manager:
        assert manager.vault.init().left == []  # it is logged in here, so it can be sealed anew
        manager.vault.remove_recipient(first)
        assert opened(home, "a") == session(home, "a")
    with ProfileManager(other) as manager:
        assert manager.vault.init().left == ["a"]
        with pytest.raises(VaultError, match="no identity here opens"):
            manager.vault.remove_recipient(first)
        write_session(other, "a", "logged in anew")
        manager.record_login("a")
        assert opened(other, "a") == session(other, "a")
        manager.vault.remove_recipient(first)


def test_a_passphrase_protects_the_identity(home: Path) -> None:
    with ProfileManager(home) as manager:
        manager.create_profile("a", "telegram")
        content = write_session(home, "a")
        manager.vault.init(passphrase="correct horse")
        assert b"AGE-SECRET-KEY" not in (home / "identity").read_bytes()
        with pytest.raises(InvalidInputError, match="already"):
            manager.vault.init(passphrase="x")
    (home / "profiles" / "a" / "session.json").unlink()
    with ProfileManager(home) as manager:
        assert manager.vault.status().protected
        assert manager.vault.restore_if_missing("a") is False
        manager.vault.ask_passphrase = lambda: "wrong"
        with pytest.raises(VaultError, match="not the right one"):
            manager.vault.restore_sessions()
        manager.vault.ask_passphrase = lambda: "correct horse"
        assert manager.vault.restore_sessions() == (["a"], [])
    assert session(home, "a") == content


def test_the_environment_names_another_identity(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret, recipient = age.generate_identity()
    path = tmp_path / "mine.txt"
    path.write_text(f"# mine\n{secret}\n")
    for value in (str(path), secret):
        monkeypatch.setenv("TWEAKIO_IDENTITY", value)
        with ProfileManager(home) as manager:
            assert manager.vault.init().recipients == [recipient]
            assert manager.vault.status().identity == "$TWEAKIO_IDENTITY"
    assert not (home / "identity").exists()
    monkeypatch.setenv("TWEAKIO_IDENTITY", str(tmp_path / "none"))
    with ProfileManager(home) as manager, pytest.raises(VaultError, match="cannot be read"):
        manager.vault.identities()


def test_a_key_ring_keeps_the_identity(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[tuple[str, str], str] = {}

    class Ring:
        priority = 5

        @staticmethod
        def get_keyring() -> type:
            return Ring

        @staticmethod
        def set_password(service: str, name: str, value: str) -> None:
            kept[service, name] = value

        @staticmethod
        def get_password(service: str, name: str) -> str | None:
            return kept.get((service, name))

    # A class stands in for the module.
    monkeypatch.setitem(__import__("sys").modules, "keyring", Ring)  # type: ignore[arg-type]
    with logged_in(home, "a") as manager:
        assert manager.vault.status().identity == "key ring"
        assert not (home / "identity").exists()
        [(service, name)] = kept
        assert (service, name) == ("tweakio", f"vault {manager.vault.recipients()[0]}")
        (home / "profiles" / "a" / "session.json").unlink()
        assert manager.vault.restore_if_missing("a")
    with ProfileManager(home.parent / "filed") as manager:
        manager.vault.init(in_file=True)
        assert (home.parent / "filed" / "identity").exists()


def test_without_the_extra_profiles_work_and_sessions_stay(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with logged_in(home, "a", "b") as manager:
        before = sealed(home, "a")
    (home / "profiles" / "b" / "session.json").unlink()
    # As Python marks a module that cannot be imported.
    monkeypatch.setitem(__import__("sys").modules, "pyrage", None)  # type: ignore[arg-type]
    with ProfileManager(home) as manager:
        write_session(home, "a", "second")
        manager.record_login("a")
        assert manager.vault.seal_sessions(["a"]) == []
        manager.activate_profile("b")
        assert manager.vault.status().is_recipient is None
        with pytest.raises(MissingExtraError) as refused:
            manager.vault.add_recipients(["age1x"])
        assert "pip install" in refused.value.hint
    assert "is not sealed" in caplog.text
    assert "stays encrypted" in caplog.text
    assert sealed(home, "a") == before
    check(home)


# Undo, restore, trash, recovery: an old session is never brought back by them


def test_undo_of_a_login_leaves_the_session(home: Path) -> None:
    with logged_in(home, "a") as manager:
        write_session(home, "a", "second")
        manager.record_login("a")
        second = sealed(home, "a")
        manager.undo()
        assert sealed(home, "a") == second
        manager.restore("a", "HEAD~4")
        assert sealed(home, "a") == second
    check(home)


def test_a_logout_takes_the_sealed_session_away_and_undo_brings_it_back(home: Path) -> None:
    with logged_in(home, "a") as manager:
        before, content = sealed(home, "a"), session(home, "a")
        manager.reset_login("a")
        assert sealed(home, "a") == b""
        assert not manager.vault.restore_if_missing("a")
        entry = manager.trash("a")[0].name
        manager.undo()
        assert (sealed(home, "a"), session(home, "a")) == (before, content)
        manager.recover_profile("a", "hard")
        assert sealed(home, "a") == b""
        entry = manager.trash("a")[0].name
        manager.restore_from_trash(entry)
        assert opened(home, "a") == session(home, "a") == content
    check(home)


def test_undo_of_a_delete_brings_the_newest_sealed_session_back(home: Path) -> None:
    with logged_in(home, "a") as manager:
        old = manager.history("a")[0].revision
        content = write_session(home, "a", "second")
        manager.record_login("a")
        for back in (manager.undo, lambda: manager.restore("a", old)):
            manager.delete_profile("a")
            back()
            assert opened(home, "a") == content == session(home, "a")
        manager.delete_profile("a", purge=True)
        manager.restore("a", old)  # nothing of the session is left but what history has
        assert manager.vault.restore_if_missing("a")
        assert MARK.encode() in session(home, "a")
    check(home)


def test_changes_of_the_vault_are_not_undone(home: Path) -> None:
    with logged_in(home, "a") as manager:
        manager.update_profiles(["a"], note="n")
        manager.vault.add_recipients([age.generate_identity()[1]])
        write_session(home, "a", "renewed")
        manager.vault.seal_sessions(["a"])
        assert manager.undo().operation == "set"
        write_session(home, "a", "renewed again")
        manager.vault.seal_sessions(["a"])
        assert manager.redo().operation == "set"
        assert len(manager.vault.recipients()) == 2
    with ProfileManager(home.parent / "empty") as manager:
        manager.vault.init()
        with pytest.raises(NothingToUndoError):
            manager.undo()


# What people do to the files


def test_a_file_that_cannot_be_a_sealed_session_damages_nothing(home: Path) -> None:
    with logged_in(home, "a") as manager:
        path = home / "profiles" / "a" / "session.json.age"
        path.write_bytes(b"garbage")
        assert manager.get_profile("a").status == "inactive"
        write_session(home, "a", "new")
        manager.record_login("a")
        assert opened(home, "a") == session(home, "a")
        path.unlink()
        manager.update_profiles(["a"], note="it is put back")
        assert path.read_bytes() == sealed(home, "a")
        assert [entry.kind for entry in manager.trash("a")] == ["damaged"]
        path.write_bytes(age.seal(b'{"by": "hand"}', manager.vault.recipients()))
        manager.update_profiles(["a"], note="an edit is adopted")
        assert opened(home, "a") == b'{"by": "hand"}'
    check(home)


def test_the_hook_takes_sealed_sessions_and_nothing_else(home: Path) -> None:
    with logged_in(home, "a", "b") as manager:
        recipients = manager.vault.recipients()
    profiles = home / "profiles"
    name = ("-c", "user.name=x", "-c", "user.email=x@x")
    (profiles / "a" / "session.json.age").write_bytes(session(home, "a"))
    refused = git(profiles, *name, "commit", "-qam", "clear")
    assert refused.returncode
    assert b"not sealed" in refused.stderr
    (profiles / "a" / "session.json.age").write_bytes(age.seal(b"{}", recipients))
    done = git(profiles, *name, "commit", "-qam", "sealed")
    assert done.returncode == 0, done.stderr


def test_the_doctor_keeps_the_vault_when_history_is_lost(home: Path) -> None:
    with logged_in(home, "a") as manager:
        recipients = manager.vault.recipients()
    shutil.rmtree(home / "profiles" / ".git")
    with ProfileManager(home) as manager:
        assert manager.doctor(fix=True, cut=True).healthy
        assert manager.vault.recipients() == recipients
        assert opened(home, "a") == session(home, "a")


# Secrets in settings


def test_a_secret_of_a_platform_is_sealed_in_its_place(home: Path) -> None:
    other, recipient = age.generate_identity()
    with logged_in(home, "a") as manager:
        text = manager.vault.seal_secret("top secret")
        manager.update_profiles(["a"], platform_config={"api_hash": text, "url": "https://x"})
        manager.update_profiles(["a"], browser={"proxy": "http://u@h:1", "proxy_password": text})
        manager.vault.add_recipients([recipient])
        password = manager.get_profile("a").browser["proxy_password"]
        assert inside(base64.b64decode(password[7:]), other) == b"top secret"
        now = manager.get_profile("a").platform_config["api_hash"]
        assert now != text
        profile = manager.get_profile("a")
        opener = manager.vault.opener("a", profile.created_at)
        assert opener(now, "platform_config.api_hash") == "top secret"
        raw = base64.b64decode(now.removeprefix("sealed:"))
        assert inside(raw, other) == b"top secret"
        from tweakio.references import resolve_config

        assert resolve_config(profile.platform_config, opener=opener)["api_hash"] == "top secret"
    assert b"top secret" not in objects(home)


# From the command line


def test_from_the_command_line(tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    quiet = {"PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}
    cli.create("a")
    write_session(cli.home, "a")
    assert "no vault" in errors(cli.run("vault", "recipients", "add", "age1x", **quiet))[0]
    made = cli.ok("vault", "init", **quiet)
    assert "sealed 1 session\n" in made.out
    assert "AGE-SECRET" not in made.out + made.err
    secret = cli.run("vault", "seal", stdin="top secret\n", **quiet).out.strip()
    cli.ok("profile", "set", "a", "--config", f"token={secret}", "--proxy", "http://u@h:1",
           "--proxy-password", secret)  # fmt: skip
    _, recipient = age.generate_identity()
    assert "added 1" in cli.ok("vault", "recipients", "add", recipient, **quiet).out
    assert recipient in cli.ok("vault", "recipients", "list", **quiet).lines
    removed = cli.ok("vault", "recipients", "remove", recipient, **quiet)
    assert "history still holds" in removed.err
    assert "tweakio whatsapp login --profile a" in removed.err
    assert 'tweakio profile set a --config token="$(tweakio vault seal)"' in removed.err
    assert 'tweakio profile set a --proxy-password "$(tweakio vault seal)"' in removed.err
    assert cli.run("vault", "recipients", "remove", recipient, **quiet).code == 34
    assert "sealed 1 session\n" in cli.ok("vault", "reseal", **quiet).out
    (cli.profiles / "a" / "session.json").unlink()
    assert "restored a" in cli.ok("vault", "restore", **quiet).out
    text = cli.run("vault", "seal", stdin="top secret\n", **quiet).out.strip()
    assert text.startswith("sealed:")
    cli.ok("profile", "set", "a", "--config", f"token={text}", **quiet)
    assert b"top secret" not in objects(cli.home)
    os.rename(cli.home / "identity", tmp_path / "away")
    status = json.loads(cli.ok("vault", "status", "--json", **quiet).out)
    assert status["exists"] is True
    assert status["identity"] == ""
    named = cli.ok("vault", "status", TWEAKIO_IDENTITY=str(tmp_path / "away"), **quiet)
    assert "is a recipient\tyes" in named.out


def test_a_passphrase_from_standard_input(tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    cli.create("a")
    write_session(cli.home, "a")
    done = cli.run("vault", "init", "--passphrase", stdin="correct horse\n")
    assert done.code == 0, done.err
    (cli.profiles / "a" / "session.json").unlink()
    assert cli.run("vault", "restore", stdin="wrong\n").code == 33
    assert cli.run("vault", "restore").code == 2
    assert "restored a" in cli.run("vault", "restore", stdin="correct horse\n").out
