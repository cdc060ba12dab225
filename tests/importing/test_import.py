"""User data directories and storage states become profiles; the source stays as it is."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.archive.test_export_import import commits, state
from tests.cli_helpers import Cli
from tests.invariants import git
from tweakio import (
    BrowserLockedError,
    ForeignDataError,
    ProfileExistsError,
    ProfileManager,
    UnknownPlatformError,
)
from tweakio.importing import from_storage_state, from_user_data_dir


@pytest.fixture
def manager(tmp_path):
    with ProfileManager(tmp_path / "home") as made:
        made.create_profile("other", "custom")
        yield made


def chromium(path: Path) -> Path:
    files = {
        "Local State": "{}",
        "Default/Cookies": "MARKER",
        "Default/Cache/old": "cache",
        "Default/Code Cache/old": "cache",
        "Default/Local Storage/leveldb/CURRENT": "x",
        "ShaderCache/old": "cache",
        "DevToolsActivePort": "1",
        "tweakio.json": '{"running": {}}',
    }
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(content)
        (path / name).chmod(0o644)
    (path / "Default" / "link").symlink_to("/etc/passwd")
    (path / "Default" / "directory").symlink_to("/etc")
    os.mkfifo(path / "Default" / "fifo")
    (path / "SingletonLock").symlink_to(f"{socket.gethostname()}-{gone()}")
    (path / "SingletonSocket").symlink_to("/nowhere/SingletonSocket")
    return path


def firefox(path: Path) -> Path:
    for name in ("prefs.js", "cookies.sqlite", "cache2/entries/1", "storage/default/1"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(name)
    (path / ".parentlock").touch()
    (path / "lock").symlink_to(f"127.0.0.1:+{gone()}")
    return path


def gone() -> int:
    """The id of a process that has ended."""
    with subprocess.Popen(["true"]) as process:
        pass
    return process.pid


def inventory(path: Path) -> dict[str, object]:
    found = {}
    for item in sorted(path.rglob("*")):
        status = item.lstat()
        content = item.read_bytes() if stat.S_ISREG(status.st_mode) else None
        found[str(item)] = (status.st_mode, status.st_mtime_ns, status.st_ino, content)
    return found


STATE = {
    "cookies": [
        {"name": "mine", "value": "MARKER-1", "domain": "web.telegram.org", "path": "/"},
        {"name": "theirs", "value": "MARKER-2", "domain": "example.org", "path": "/"},
    ],
    "origins": [
        {
            "origin": "https://web.telegram.org",
            "localStorage": [{"name": "k", "value": "MARKER-3"}],
            "indexedDB": [{"name": "db"}],
        },
        {"origin": "https://example.org", "localStorage": [{"name": "k", "value": "MARKER-4"}]},
    ],
}


def written(path: Path, value: object = STATE) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_chromium(manager, tmp_path):
    source = chromium(tmp_path / "chrome")
    before, count = inventory(source), commits(manager)
    incoming = from_user_data_dir(source, "a", "whatsapp", tags=["t"], note="n")
    (came,) = manager.archives.bring_in(incoming, source="user-data-dir")
    assert (came.profile_id, came.action, came.with_session) == ("a", "created", True)
    assert inventory(source) == before
    assert commits(manager) == count + 1
    assert manager.history()[0].summary == "import a (user-data-dir)"
    paths = manager.layout.profile("a")
    found = {
        str(path.relative_to(paths.browser_profile)) for path in paths.browser_profile.rglob("*")
    }
    assert found == {
        *(".git", ".git/HEAD", ".git/objects", ".git/refs"),
        *("Local State", "Default", "Default/Cookies", "Default/Local Storage"),
        *("Default/Local Storage/leveldb", "Default/Local Storage/leveldb/CURRENT"),
    }
    for path in paths.browser_profile.rglob("*"):
        assert stat.S_IMODE(path.lstat().st_mode) == (0o700 if path.is_dir() else 0o600)
    profile = manager.get_profile("a")
    assert (profile.platform, profile.status, profile.note) == ("whatsapp", "inactive", "n")
    assert (
        paths.fingerprint.read_bytes() != manager.layout.profile("other").fingerprint.read_bytes()
    )
    assert manager.doctor().healthy
    assert git(manager.home / "profiles", "status", "--porcelain").stdout == b""
    manager.undo()
    assert [item.id for item in manager.list_profiles()] == ["other"]


def test_firefox(manager, tmp_path):
    source = firefox(tmp_path / "fire fox")
    before = inventory(source)
    manager.archives.bring_in(from_user_data_dir(source, "a", "custom"))
    assert inventory(source) == before
    there = manager.layout.profile("a").browser_profile
    found = {str(path.relative_to(there)) for path in there.rglob("*") if path.is_file()}
    assert found == {".git/HEAD", "prefs.js", "cookies.sqlite", "storage/default/1"}


def lock_here(source: Path, pid: int) -> None:
    (source / "SingletonLock").unlink()
    (source / "SingletonLock").symlink_to(f"{socket.gethostname()}-{pid}")


def lock_elsewhere(source: Path, pid: int) -> None:
    (source / "SingletonLock").unlink()
    (source / "SingletonLock").symlink_to(f"elsewhere-{pid}")


def lock_unreadable(source: Path, pid: int) -> None:
    (source / "SingletonLock").unlink()
    (source / "SingletonLock").write_text(str(pid))


@pytest.mark.parametrize("lock", [lock_here, lock_elsewhere, lock_unreadable])
def test_a_lock_is_respected(manager, tmp_path, lock):
    source = chromium(tmp_path / "chrome")
    lock(source, os.getpid())
    before = inventory(source), state(manager.home)
    with pytest.raises(BrowserLockedError):
        from_user_data_dir(source, "a", "whatsapp")
    assert (inventory(source), state(manager.home)) == before


def test_a_running_browser_is_seen_without_a_lock(tmp_path):
    source = chromium(tmp_path / "chrome")
    waiting = "import sys; print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", waiting, f"--user-data-dir={source}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        with pytest.raises(BrowserLockedError, match=str(process.pid)):
            from_user_data_dir(source, "a", "whatsapp")
        process.stdin.close()
    assert from_user_data_dir(source, "a", "whatsapp")


def test_a_lock_of_the_system_is_respected(tmp_path):
    source = firefox(tmp_path / "firefox")
    holding = (
        "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.lockf(file, fcntl.LOCK_EX);"
        "print(flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", holding, str(source / ".parentlock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        with pytest.raises(BrowserLockedError):
            from_user_data_dir(source, "a", "whatsapp")
        process.stdin.close()
    assert from_user_data_dir(source, "a", "whatsapp")


def test_a_browser_that_opens_it_meanwhile(manager, tmp_path):
    source = chromium(tmp_path / "chrome")
    incoming = from_user_data_dir(source, "a", "whatsapp")
    before = state(manager.home)
    with pytest.raises(BrowserLockedError):
        manager.archives.bring_in(incoming, progress=lambda _: lock_here(source, os.getpid()))
    assert state(manager.home) == before
    assert manager.doctor().healthy


def test_a_file_that_shrinks_or_goes(manager, tmp_path):
    source = chromium(tmp_path / "chrome")
    incoming = from_user_data_dir(source, "a", "whatsapp")
    before = state(manager.home)

    def remove(_: int) -> None:
        (source / "Local State").unlink(missing_ok=True)

    with pytest.raises(ForeignDataError, match="changed"):
        manager.archives.bring_in(incoming, progress=remove)
    assert state(manager.home) == before


def test_no_user_data(manager, tmp_path):
    (tmp_path / "empty").mkdir()
    for path in ("empty", "missing"):
        with pytest.raises(ForeignDataError):
            from_user_data_dir(tmp_path / path, "a", "whatsapp")
    deep = chromium(tmp_path / "deep")
    at = os.open(deep, os.O_RDONLY)
    for _ in range(100):
        os.mkdir("d", dir_fd=at)
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    with pytest.raises(ForeignDataError, match="deep"):
        from_user_data_dir(deep, "a", "whatsapp")
    with pytest.raises(UnknownPlatformError):
        from_user_data_dir(deep, "a", "nowhere")
    around = chromium(tmp_path / "home" / "chrome")
    manager.layout.temporary.mkdir(exist_ok=True)
    (tmp_path / "home" / "Local State").touch()
    before = commits(manager)
    with pytest.raises(ForeignDataError, match="inside"):
        manager.archives.bring_in(from_user_data_dir(around.parent, "a", "whatsapp"))
    assert commits(manager) == before


def test_storage_state(manager, tmp_path):
    source = written(tmp_path / "state.json")
    before = inventory(tmp_path / "state.json")
    manager.archives.bring_in(from_storage_state(source, "a", "telegram"))
    assert inventory(source) == before
    path = manager.layout.profile("a").session
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text()) == {
        "cookies": STATE["cookies"][:1],
        "origins": [
            {
                "origin": "https://web.telegram.org",
                "localStorage": [{"name": "k", "value": "MARKER-3"}],
            }
        ],
    }
    manager.archives.bring_in(from_storage_state(source, "b", "custom"))
    assert len(json.loads(manager.layout.profile("b").session.read_text())["origins"]) == 2
    assert manager.get_profile("b").platform_config == {"session_of_record": "session.json"}
    assert manager.doctor().healthy


def test_storage_state_is_sealed_where_there_is_a_vault(manager, tmp_path, monkeypatch):
    monkeypatch.delenv("TWEAKIO_IDENTITY", raising=False)
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))
    manager.vault.init()
    manager.archives.bring_in(from_storage_state(written(tmp_path / "s"), "a", "telegram"))
    listed = git(manager.home / "profiles", "ls-tree", "-r", "--name-only", "HEAD").stdout
    assert b"a/session.json.age" in listed
    assert b"a/session.json\n" not in listed


@pytest.mark.parametrize(
    "value",
    [
        "", "[]", "{}", "not json", "\ud83d", "[" * 100_000, '{"cookies": {}}',
        {"cookies": [{"name": "MARKER"}]},
        {"cookies": ["MARKER"]},
        {"origins": [{"origin": "file:///etc", "localStorage": []}]},
        {"origins": [{"origin": "https://web.telegram.org", "localStorage": [["MARKER"]]}]},
        {"cookies": STATE["cookies"][1:], "origins": []},
        {"cookies": [{**STATE["cookies"][0], "value": "MARKER\ud800"}]},
        {"cookies": [{**STATE["cookies"][0], "expires": float("nan")}]},
    ],
)  # fmt: skip
def test_no_storage_state(tmp_path, value):
    path = tmp_path / "state.json"
    text = value if isinstance(value, str) else json.dumps(value)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ForeignDataError) as caught:
        from_storage_state(path, "a", "telegram")
    assert "MARKER" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_storage_state_of_whatsapp_nor_behind_a_link(tmp_path):
    source = written(tmp_path / "state.json")
    with pytest.raises(ForeignDataError, match="whatsapp"):
        from_storage_state(source, "a", "whatsapp")
    (tmp_path / "link").symlink_to(source)
    os.mkfifo(tmp_path / "fifo")
    for name in ("link", "fifo", "missing", "."):
        with pytest.raises(ForeignDataError):
            from_storage_state(tmp_path / name, "a", "telegram")


def test_duplicates(manager, tmp_path):
    source = written(tmp_path / "state.json")
    incoming = from_storage_state(source, "Other", "telegram")
    with pytest.raises(ProfileExistsError):
        manager.archives.bring_in(incoming)
    (skipped,) = manager.archives.bring_in(incoming, existing="skip")
    (renamed,) = manager.archives.bring_in(incoming, existing="rename")
    assert (skipped.action, renamed.profile_id) == ("skipped", "Other-2")


def test_command(tmp_path):
    cli = Cli(tmp_path)
    chromium(tmp_path / "chrome")
    source = written(tmp_path / "state.json")
    common = ("profile", "import", "--from-user-data-dir", tmp_path / "chrome")
    done = cli.ok(*common, "--as", "a", "--platform", "whatsapp", "--dry-run")
    assert done.out == "would import a (whatsapp)\n"
    assert not (tmp_path / "home" / "profiles" / "a").exists()
    done = cli.ok(*common, "--as", "a", "--platform", "whatsapp")
    assert done.out == "imported a (whatsapp)\n"
    done = cli.ok(
        *("profile", "import", "--from-storage-state", source, "--as", "b"),
        *("--platform", "telegram", "--json"),
    )
    assert json.loads(done.out)[0]["profile_id"] == "b"
    for code, arguments in [
        (2, (*common, "file.zip")),
        (42, (*common[:2], "--from-storage-state", common[3], "--as", "c", "--platform", "custom")),
    ]:
        failed = cli.run(*arguments)
        assert (failed.code, failed.out) == (code, "")
        assert len(failed.err.splitlines()) <= 2
        assert "Traceback" not in failed.err


def test_a_lock_of_a_machine_that_is_gone(tmp_path):
    """As in the volume of a container: the commonest move."""
    cli = Cli(tmp_path)
    source = tmp_path / "volume" / "one"
    (source / "Default").mkdir(parents=True)
    (source / "Local State").write_text("{}")
    (source / "SingletonLock").symlink_to("3f2a-container-17")
    for options in (
        ("--from-user-data-dir", str(source), "--as", "a"),
        ("--from-folder", str(source.parent)),
    ):
        command = ("profile", "import", *options, "--platform", "custom")
        refused = cli.run(*command)
        assert refused.code == 26
        assert "run this again with --force" in refused.err
        cli.ok(*command, "--force")
    assert [row[0] for row in cli.ok("profile", "list").rows] == ["a", "one"]
    assert not os.path.lexists(cli.profiles / "a" / "browser_profile" / "SingletonLock")
    assert os.path.lexists(source / "SingletonLock")
    assert cli.run("profile", "import", "x.zip", "--force").code == 2
