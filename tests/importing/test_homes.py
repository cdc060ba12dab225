"""The homes of tweakio-sdk and camouchat-browser, as their sources lay them out."""

from __future__ import annotations

import json
import os
import pickle
import stat
from pathlib import Path

import pytest

from tests.archive.test_export_import import commits
from tests.cli_helpers import Cli
from tests.importing.test_import import STATE, firefox, gone, inventory, written
from tests.test_legacy_fingerprint import browserforge, fingerprint, install
from tweakio import BrowserLockedError, ForeignDataError, ProfileManager
from tweakio.importing import from_camouchat_home, from_sdk_home

TIMES = {
    "created_at": "2026-02-03T04:05:06.789012+00:00",
    "last_used": "2026-03-03T04:05:06.789012+00:00",
}


class Hostile:
    """A pickle that makes a file if it is loaded."""

    def __reduce__(self):
        return os.mkdir, ("/tmp/tweakio-was-unpickled",)


@pytest.fixture
def manager(tmp_path):
    with ProfileManager(tmp_path / "home") as made:
        made.create_profile("other", "custom")
        yield made


def camouchat(root: Path, **metadata: object) -> Path:
    for platform, name in (("whatsapp", "Work One"), ("telegram", "work-one"), ("whatsapp", "new")):
        directory = root / "platforms" / platform / name
        for part in ("media/images", "backups", "cache"):
            (directory / part).mkdir(parents=True)
        (directory / "metadata.json").write_text(
            json.dumps(
                {
                    "profile_id": "../../x",
                    "platform": "WhatsApp",
                    **TIMES,
                    "database": {"password": "MARKER"},
                    "status": {"is_active": True, "last_active_pid": gone()},
                    **metadata,
                }
            )
        )
        (directory / "fingerprint.pkl").touch()
        (directory / "encryption.key").write_text("MARKER")
        (directory / ".lock").touch()
    firefox(root / "platforms" / "whatsapp" / "Work One" / "cache")
    (root / "platforms" / "elsewhere" / "one").mkdir(parents=True)
    (root / "platforms" / "whatsapp" / "link").symlink_to(root / "platforms" / "whatsapp" / "new")
    return root


def test_camouchat(manager, tmp_path, monkeypatch):
    person = tmp_path / "person"
    root = camouchat(person / ".local/share/CamouChat")
    with monkeypatch.context() as patch:
        classes = browserforge()
        install(patch, classes)
        pickled = pickle.dumps(fingerprint(classes))
    (root / "platforms/whatsapp/Work One/fingerprint.pkl").write_bytes(pickled)
    (root / "platforms/whatsapp/new/fingerprint.pkl").write_bytes(pickle.dumps(Hostile()))
    before, count = inventory(person), commits(manager)
    with pytest.raises(ForeignDataError, match="two profiles"):
        from_camouchat_home(person)
    found = manager.archives.bring_in(from_camouchat_home(person, existing="rename"))
    assert [(item.profile_id, item.platform, item.with_session) for item in found] == [
        ("work-one", "telegram", False),
        ("Work-One-2", "whatsapp", True),
        ("new", "whatsapp", False),
    ]
    assert not Path("/tmp/tweakio-was-unpickled").exists()
    assert (inventory(person), commits(manager)) == (before, count + 1)
    paths = manager.layout.profile("Work-One-2")
    assert json.loads(paths.fingerprint.read_text())["generator"] == "browserforge"
    assert (paths.browser_profile / "cookies.sqlite").is_file()
    assert not (paths.browser_profile / "cache2").exists()
    profile = manager.get_profile("Work-One-2")
    assert profile.created_at.isoformat().startswith("2026-02-03T04:05:06")
    assert profile.status == "inactive"
    for path in (manager.home / "profiles").rglob("*"):
        if stat.S_ISREG(path.lstat().st_mode):
            assert b"MARKER" not in path.read_bytes()
    assert manager.doctor().healthy
    assert len(from_camouchat_home(root, existing="skip")) == 2


def test_camouchat_in_use(tmp_path):
    camouchat(tmp_path, status={"is_active": True, "last_active_pid": os.getpid()})
    with pytest.raises(BrowserLockedError):
        from_camouchat_home(tmp_path, existing="skip")


def test_camouchat_times_that_are_none(manager, tmp_path):
    camouchat(tmp_path / "old", created_at=["x"], status=7)
    assert len(from_camouchat_home(tmp_path / "old", existing="skip")) == 2


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000])
def test_camouchat_damaged(tmp_path, text):
    root = camouchat(tmp_path)
    (root / "platforms/whatsapp/new/metadata.json").write_text(text)
    with pytest.raises(ForeignDataError):
        from_camouchat_home(tmp_path, existing="skip")


def sdk(person: Path) -> Path:
    data = person / ".local/share/TweakioWhatsApp"
    (data / "BrowserManager").mkdir(parents=True)
    written(data / "BrowserManager" / "StorageState.json")
    firefox(person / ".cache/TweakioWhatsApp")
    return person


def test_sdk(manager, tmp_path):
    person = sdk(tmp_path / "person")
    before = inventory(person)
    manager.archives.bring_in(from_sdk_home(person))
    assert inventory(person) == before
    paths = manager.layout.profile("default")
    assert (paths.browser_profile / "prefs.js").is_file()
    assert json.loads(paths.session.read_text())["cookies"] == STATE["cookies"]
    assert manager.get_profile("default").platform == "whatsapp"
    assert manager.doctor().healthy


def test_no_homes(tmp_path):
    sdk(tmp_path / "bad")
    state = tmp_path / "bad/.local/share/TweakioWhatsApp/BrowserManager/StorageState.json"
    state.write_text("{")
    for source in (tmp_path, tmp_path / "missing", tmp_path / "bad"):
        with pytest.raises(ForeignDataError):
            from_sdk_home(source)
        with pytest.raises(ForeignDataError):
            from_camouchat_home(source)


def test_command(tmp_path):
    cli = Cli(tmp_path)
    done = cli.ok("profile", "import", "--from-sdk-home", sdk(tmp_path / "p"), "--as", "old")
    assert done.out == "imported old (whatsapp)\n"
    camouchat(tmp_path / "c")
    common = ("profile", "import", "--from-camouchat-home", tmp_path / "c")
    assert len(cli.ok(*common, "--rename").lines) == 3
    failed = cli.run(*common)
    assert (failed.code, failed.out) == (42, "")
