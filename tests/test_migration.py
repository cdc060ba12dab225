"""Older layouts are taken over whole, once, and their data is never lost on the way."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pickle
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from invariants import check, tree_digest
from test_legacy_fingerprint import browserforge, fingerprint, install

from tweakio import ProfileManager
from tweakio.errors import DiskFullError, MigrationError, StorageError
from tweakio.migration import SdkPlaces, migrate_sdk, sdk_places

ROOT = Path(__file__).resolve().parent.parent
SESSION = b'{"cookies": [{"name": "precious"}]}'


def git(home: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(home / "profiles"), *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def browser(path: Path) -> None:
    """A browser's directory with all kinds of things in it."""
    (path / "Default" / "Local Storage").mkdir(parents=True)
    (path / "Default" / "Cookies").write_bytes(bytes(range(256)) * 500)
    (path / "Default" / "Local Storage" / "000003.log").write_bytes(b"log")
    (path / "Default" / "empty").touch()
    (path / "Default" / "link").symlink_to("Cookies")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# The single account of a home


@pytest.fixture
def single(home: Path) -> Path:
    home.mkdir(mode=0o700)
    browser(home / "browser_profile")
    (home / "session.json").write_bytes(SESSION)
    (home / "session.json").chmod(0o644)
    (home / "browser_profile").chmod(0o755)
    return home


def taken_over(home: Path, digest: str) -> None:
    default = home / "profiles" / "default"
    assert tree_digest(default / "browser_profile") == digest
    assert (default / "session.json").read_bytes() == SESSION
    assert not (home / "browser_profile").exists()
    assert not (home / "session.json").exists()


@pytest.mark.parametrize(
    "first",
    [
        lambda manager: manager.list_profiles(),
        lambda manager: manager.create_profile("other", "custom"),
        lambda manager: manager.get_profile("default"),
        lambda manager: manager.history(),
        lambda manager: manager.activate_profile("default"),
    ],
    ids=["list", "create", "get", "history", "activate"],
)
def test_single_account_on_first_use(
    single: Path, first: Callable[[ProfileManager], object], caplog: pytest.LogCaptureFixture
) -> None:
    digest = tree_digest(single / "browser_profile")
    with ProfileManager(single) as manager:
        first(manager)
        profile = manager.get_profile("default")
        assert profile.platform == "whatsapp"
    notices = [item for item in caplog.records if item.levelno >= logging.WARNING]
    assert [item.getMessage() for item in notices] == [
        "moved browser_profile and session.json to the profile 'default'"
    ]
    taken_over(single, digest)
    assert git(single, "log", "--grep=Tweakio-Op: migrate", "--format=%s") == (
        "migrate the single account to the profile 'default'"
    )
    check(single, work=True)


def test_permissions_are_tightened(single: Path) -> None:
    with ProfileManager(single) as manager:
        manager.list_profiles()
    default = single / "profiles" / "default"
    assert mode(default) == mode(default / "browser_profile") == 0o700
    assert mode(default / "session.json") == 0o600


@pytest.mark.parametrize("part", ["browser_profile", "session.json"])
def test_only_one_part(single: Path, part: str) -> None:
    other = single / ("session.json" if part == "browser_profile" else "browser_profile")
    if other.is_dir():
        subprocess.run(["rm", "-r", str(other)], check=True)
    else:
        other.unlink()
    digest = tree_digest(single / part)
    with ProfileManager(single) as manager:
        assert [profile.id for profile in manager.list_profiles()] == ["default"]
    assert tree_digest(single / "profiles" / "default" / part) == digest
    check(single)


def test_once(single: Path) -> None:
    for _ in range(3):
        with ProfileManager(single) as manager:
            manager.list_profiles()
    assert git(single, "rev-list", "--count", "HEAD") == "2"


def test_default_exists(single: Path) -> None:
    """Nothing is overwritten; what lies in the home stays there."""
    (single / "browser_profile").rename(single / "b")
    (single / "session.json").rename(single / "s")
    with ProfileManager(single) as manager:
        manager.create_profile("default", "custom")
    (single / "b").rename(single / "browser_profile")
    (single / "s").rename(single / "session.json")
    digest = tree_digest(single / "browser_profile")
    with ProfileManager(single) as manager:
        assert manager.get_profile("default").platform == "custom"
        manager.create_profile("x", "custom")
    assert tree_digest(single / "browser_profile") == digest
    assert (single / "session.json").read_bytes() == SESSION
    check(single)


def test_undo_and_open_again(single: Path) -> None:
    """Undone, the data is in the trash; it does not start anew and is not lost."""
    digest = tree_digest(single / "browser_profile")
    with ProfileManager(single) as manager:
        manager.list_profiles()
        manager.undo()
        assert manager.list_profiles() == []
    with ProfileManager(single) as manager:
        found = [profile.id for profile in manager.list_profiles()]
        if found == []:
            manager.redo()
    taken_over(single, digest)
    check(single, survivors={digest})


def test_deleted_then_a_new_default(single: Path) -> None:
    digest = tree_digest(single / "browser_profile")
    with ProfileManager(single) as manager:
        manager.list_profiles()
        manager.delete_profile("default")
        manager.create_profile("default", "custom")
        assert (single / "profiles/default/session.json").read_bytes() != SESSION
    check(single, survivors={digest})


def test_links_in_their_place(single: Path, tmp_path: Path) -> None:
    """The link itself moves, and where it points nothing is changed."""
    target = tmp_path / "elsewhere"
    (single / "browser_profile").rename(target)
    (single / "browser_profile").symlink_to(target)
    digest = tree_digest(target)
    before = mode(target)
    with ProfileManager(single) as manager:
        manager.list_profiles()
    assert os.readlink(single / "profiles/default/browser_profile") == str(target)
    assert tree_digest(target) == digest
    assert mode(target) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_other_file_system(single: Path) -> None:
    subprocess.run(["rm", "-r", str(single / "browser_profile")], check=True)
    (single / "browser_profile").mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "none", str(single / "browser_profile")])
    if done.returncode:
        pytest.skip("no mounting here")
    try:
        browser(single / "browser_profile")
        digest = tree_digest(single / "browser_profile")
        for _ in range(2):
            with ProfileManager(single) as manager:
                with pytest.raises(MigrationError, match="another file system"):
                    manager.list_profiles()
        assert tree_digest(single / "browser_profile") == digest
        assert (single / "session.json").read_bytes() == SESSION
        assert not (single / "profiles" / "default").exists()
    finally:
        subprocess.run(["umount", str(single / "browser_profile")], check=True)
    with ProfileManager(single) as manager:
        assert [profile.id for profile in manager.list_profiles()] == ["default"]


KILL = """
import os, sys
from tweakio import ProfileManager
from tweakio.migration import SdkPlaces, migrate_sdk
from pathlib import Path
home, call, point = sys.argv[1:4]
number, kind = int(sys.argv[4]), sys.argv[5]
real = getattr(os, call)
left = [number]
def dies(*arguments, **named):
    reads = call == "open" and not arguments[1] & os.O_WRONLY
    if not reads and any(point in str(argument) for argument in arguments[:2]):
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), 9)
    return real(*arguments, **named)
def begin():
    setattr(os, call, dies)
if kind == "single":
    begin()
    ProfileManager(home).list_profiles()
else:
    source = Path(sys.argv[6])
    manager = ProfileManager(home)
    manager.repository
    begin()
    migrate_sdk(manager.repository, SdkPlaces(source / "s.json", source / "f.pkl", source / "b"))
"""


def killed(home: Path, call: str, point: str, number: int, *more: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILL, str(home), call, point, str(number), *more],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
    )
    assert done.returncode == -9, done.stderr.decode()


SINGLE_POINTS = [
    ("mkdir", "staging", 0), ("mkdir", "new-default", 0), ("open", "journal.json", 2),
    ("rename", "profiles/default", 0), ("rename", "profiles/default", 1),
    ("rename", "profiles/default", 2), ("replace", "heads/main", 0), ("replace", ".git/index", 1),
    ("open", "journal.json", 3),
]  # fmt: skip


@pytest.mark.no_cover  # what is killed leaves no record
@pytest.mark.parametrize(("call", "point", "number"), SINGLE_POINTS)
def test_killed_in_the_middle_of_the_single_account(
    single: Path, call: str, point: str, number: int
) -> None:
    digest = tree_digest(single / "browser_profile")
    killed(single, call, point, number, "single")
    with ProfileManager(single) as manager:
        assert [profile.id for profile in manager.list_profiles()] == ["default"]
        manager.create_profile("other", "custom")
    taken_over(single, digest)
    assert git(single, "log", "--grep=Tweakio-Op: migrate", "--format=%H").count("\n") == 0
    check(single, survivors={digest}, work=True)


# tweakio-sdk 0.1.5


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The account of tweakio-sdk, with a real fingerprint."""
    root = tmp_path / "sdk"
    root.mkdir()
    browser(root / "b")
    (root / "s.json").write_bytes(SESSION)
    (root / "s.json").chmod(0o644)
    for name in ("SingletonLock", "SingletonSocket", "SingletonCookie"):
        (root / "b" / name).symlink_to("host-123")
    (root / "b" / "lock").touch()
    os.mkfifo(root / "b" / "fifo")
    with monkeypatch.context() as patch:
        classes = browserforge()
        install(patch, classes)
        (root / "f.pkl").write_bytes(pickle.dumps(fingerprint(classes)))
    return root


def places(source: Path) -> SdkPlaces:
    return SdkPlaces(source / "s.json", source / "f.pkl", source / "b")


def snapshot(root: Path) -> dict[str, tuple[int, int, int, bytes]]:
    found = {}
    for directory, names, files in os.walk(root):
        for name in (*names, *files):
            path = Path(directory, name)
            status = path.lstat()
            content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
            found[str(path)] = (status.st_mode, status.st_size, status.st_mtime_ns, content)
    return found


def test_sdk(home: Path, source: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = snapshot(source)
    with ProfileManager(home) as manager:
        assert migrate_sdk(manager.repository, places(source), command="repo migrate") == "default"
        profile = manager.get_profile("default")
        assert (profile.platform, profile.status) == ("whatsapp", "inactive")
        assert "tweakio-sdk 0.1.5" in profile.note
        assert migrate_sdk(manager.repository, places(source)) is None
    assert snapshot(source) == before
    assert "left as they were" in caplog.text
    default = home / "profiles" / "default"
    assert (default / "session.json").read_bytes() == SESSION
    assert mode(default / "session.json") == 0o600
    copied = default / "browser_profile"
    assert sorted(os.listdir(copied)) == [".git", "Default"]
    for name in ("Cookies", "Local Storage", "empty", "link"):
        path = Path("Default", name)
        assert tree_digest(copied / path) == tree_digest(source / "b" / path)
    cookies = Path("Default", "Cookies")
    assert (copied / cookies).stat().st_mtime_ns == (source / "b" / cookies).stat().st_mtime_ns
    value = json.loads((default / "fingerprint.json").read_bytes())
    assert value["generator"] == "browserforge"
    assert value["data"]["screen"]["width"] == 1920
    assert git(home, "rev-list", "--count", "HEAD") == "2"
    assert "Tweakio-Command: repo migrate" in git(home, "log", "-1", "--format=%B")
    check(home, work=True)


@pytest.mark.parametrize("umask", [0, 0o277], ids=oct)
def test_sdk_the_umask_does_not_matter(home: Path, source: Path, umask: int) -> None:
    with ProfileManager(home) as manager:
        repository = manager.repository
        before = os.umask(umask)
        try:
            migrate_sdk(repository, places(source))
        finally:
            os.umask(before)
    copied = home / "profiles" / "default"
    assert mode(copied / "session.json") == 0o600
    for directory, names, files in os.walk(copied / "browser_profile"):
        for name in names:
            assert mode(Path(directory, name)) == 0o700, name
        for name in files:
            assert mode(Path(directory, name)) == 0o600, name
    check(home)


def test_sdk_undo_and_again(home: Path, source: Path) -> None:
    with ProfileManager(home) as manager:
        migrate_sdk(manager.repository, places(source))
        (home / "profiles/default/session.json").write_bytes(b'{"newer": 1}')
        digest = tree_digest(home / "profiles/default/session.json")
        manager.undo()
    with ProfileManager(home) as manager:
        assert manager.list_profiles() == []
        manager.redo()
    assert (home / "profiles/default/session.json").read_bytes() == b'{"newer": 1}'
    check(home, survivors={digest})


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch " + os.environ["HOSTILE"],)


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"\x80\x05", None, bytes(2 << 20)], ids=["e", "g", "c", "h", "big"]
)
def test_bad_fingerprints(
    home: Path, source: Path, content: bytes | None, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """The account is taken over all the same, with a new fingerprint, and it is said."""
    monkeypatch.setenv("HOSTILE", str(tmp_path / "pwned"))
    (source / "f.pkl").write_bytes(pickle.dumps(Hostile()) if content is None else content)
    with ProfileManager(home) as manager:
        assert migrate_sdk(manager.repository, places(source)) == "default"
    assert "was left alone" in caplog.text
    assert not (tmp_path / "pwned").exists()
    value = json.loads((home / "profiles/default/fingerprint.json").read_bytes())
    assert value.get("generator") != "browserforge"
    check(home)


def test_fingerprint_missing_or_a_link(home: Path, source: Path, tmp_path: Path) -> None:
    (source / "f.pkl").rename(tmp_path / "f.pkl")
    (source / "f.pkl").symlink_to(tmp_path / "f.pkl")
    with ProfileManager(home) as manager:
        migrate_sdk(manager.repository, places(source))
    value = json.loads((home / "profiles/default/fingerprint.json").read_bytes())
    assert value.get("generator") != "browserforge"


def test_nothing_to_take_over(home: Path, tmp_path: Path) -> None:
    empty = SdkPlaces(tmp_path / "s", tmp_path / "f", tmp_path / "b")
    assert not empty.exists()
    (tmp_path / "b").mkdir()
    assert not empty.exists()
    with ProfileManager(home) as manager:
        assert migrate_sdk(manager.repository, empty) is None
        assert manager.migrate() is None
    (tmp_path / "b" / "chrome_debug.log").touch()
    assert not empty.exists()
    (tmp_path / "b" / "Local State").touch()
    assert empty.exists()


def test_sdk_parts(home: Path, source: Path) -> None:
    (source / "s.json").unlink()
    with ProfileManager(home) as manager:
        assert migrate_sdk(manager.repository, places(source)) == "default"
    assert json.loads((home / "profiles/default/session.json").read_bytes()) is not None
    check(home)


def test_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = tmp_path / "data" / "TweakioWhatsApp"
    found = sdk_places()
    assert found.storage_state == data / "BrowserManager" / "StorageState.json"
    assert found.fingerprint == data / "fingerprint.pkl"
    assert found.browser == tmp_path / "cache" / "TweakioWhatsApp"
    (data / "BrowserManager").mkdir(parents=True)
    (data / "BrowserManager" / "fingerprint.pkl").touch()
    assert sdk_places().fingerprint == data / "BrowserManager" / "fingerprint.pkl"


def test_through_the_manager(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    browser(tmp_path / "cache" / "TweakioWhatsApp")
    with ProfileManager(home) as manager:
        manager.create_profile("other", "custom")
        assert [profile.id for profile in manager.list_profiles()] == ["other"]
        assert manager.ensure_default("whatsapp").note.startswith("migrated")
        assert manager.migrate() is None


def test_source_that_cannot_be_read(home: Path, source: Path) -> None:
    before = snapshot(source)
    real = Path.open

    def fails(self: Path, *arguments: object, **named: object) -> object:
        if self.name == "Cookies":
            raise error
        return real(self, *arguments, **named)  # type: ignore[call-overload]

    patch = pytest.MonkeyPatch()
    patch.setattr(Path, "open", fails)
    with ProfileManager(home) as manager, contextlib.ExitStack() as stack:
        stack.callback(patch.undo)
        error: OSError = PermissionError(13, "Permission denied", "Cookies")
        with pytest.raises(StorageError, match="copy the account"):
            migrate_sdk(manager.repository, places(source))
        error = FileNotFoundError(2, "No such file", "Cookies")
        with pytest.raises(MigrationError, match="vanished"):
            migrate_sdk(manager.repository, places(source))
        error = OSError(28, "No space left on device", "Cookies")
        with pytest.raises(DiskFullError):
            migrate_sdk(manager.repository, places(source))
        assert manager.list_profiles() == []
    assert snapshot(source) == before
    check(home)


SDK_POINTS = [
    ("mkdir", "browser_profile", 0), ("utime", "Cookies", 0), ("symlink", "link", 0),
    ("open", "journal.json", 0), ("rename", "profiles/default", 0),
    ("replace", "heads/main", 0), ("replace", ".git/index", 0),
]  # fmt: skip


@pytest.mark.parametrize(("call", "point", "number"), SDK_POINTS)
def test_killed_in_the_middle_of_the_sdk(
    home: Path, source: Path, call: str, point: str, number: int
) -> None:
    before = snapshot(source)
    killed(home, call, point, number, "sdk", str(source))
    assert snapshot(source) == before
    with ProfileManager(home) as manager:
        found = manager.list_profiles()
        assert [profile.id for profile in found] in ([], ["default"])
        assert migrate_sdk(manager.repository, places(source)) == (None if found else "default")
    copied = home / "profiles" / "default" / "browser_profile" / "Default"
    assert tree_digest(copied) == tree_digest(source / "b" / "Default")
    assert (home / "profiles/default/session.json").read_bytes() == SESSION
    assert snapshot(source) == before
    check(home, work=True)
