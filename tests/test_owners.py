"""Another owner: nothing is changed in a home that is somebody else's, and nothing of it believed.

With real users: root, who runs the tests then, and one without rights.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_helpers import Cli, Result

from tests.login.helpers import NOBODY, as_nobody
from tweakio import FileAccessError, ProfileManager, owners
from tweakio.browser import launcher
from tweakio.browsing import SyncBrowserManager
from tweakio.layout import Layout

pytestmark = pytest.mark.skipif(
    os.name != "posix" or os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="only root can become another user, with setpriv",
)


@pytest.fixture
def base() -> Iterator[Path]:
    """A directory that another user can reach."""
    path = Path(tempfile.mkdtemp(prefix="tweakio-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def root(base: Path) -> Cli:
    return Cli(base)


@pytest.fixture
def nobody(base: Path) -> Cli:
    command, changes = as_nobody(str(base))
    return Cli(base, command, **changes)


def make(cli: Cli) -> None:
    with ProfileManager(cli.home) as manager:
        manager.create_profiles(["p1", "p2"], "custom")
        manager.update_profiles(["p1"], note="one")
    (cli.profiles / "p1/browser_profile/Cookies").write_text("cookies")
    (cli.profiles / "p1/session.json").write_text('{"cookies": [], "origins": []}')
    (cli.profiles / "p1/session.json").chmod(0o600)


def give(path: Path, uid: int = NOBODY) -> None:
    subprocess.run(["chown", "-R", f"{uid}:{uid}", path], check=True)


def state(home: Path) -> dict[str, tuple[int, int, int, int]]:
    found = {}
    for directory, names, files in os.walk(home):
        for name in (*names, *files):
            status = os.lstat(os.path.join(directory, name))
            found[os.path.join(directory, name)] = (
                *(status.st_uid, status.st_mode, status.st_size, status.st_mtime_ns),
            )
    return found


READS = (
    ("profile", "list"), ("profile", "status", "p1"), ("profile", "history"),
    ("profile", "show", "HEAD"), ("profile", "trash", "list"), ("repo", "path"),
    ("profile", "snapshot", "list", "p1"), ("repo", "remote", "list"), ("vault", "status"),
    ("repo", "lease", "status"), ("repo", "doctor"),
)  # fmt: skip
CHANGES = (
    ("profile", "set", "p1", "--note", "x"), ("profile", "create", "q", "--platform", "custom"),
    ("profile", "activate", "p1"), ("profile", "delete", "p1", "--purge"), ("profile", "undo"),
    ("profile", "recover", "p1", "--mode", "hard"), ("profile", "snapshot", "create", "p1"),
    ("profile", "trash", "purge", "--all"), ("repo", "doctor", "--fix"), ("repo", "gc"),
    ("repo", "remote", "add", "origin", "/nowhere"), ("repo", "lease", "use", "file"),
    ("vault", "init", "--file"), ("profile", "trust", "p1"), ("whatsapp", "login"),
)  # fmt: skip


@pytest.mark.parametrize("form", ["as it is", "without a cache", "a plain clone", "a plain commit"])
def test_root_leaves_nothing_in_somebodys_home(root: Cli, form: str) -> None:
    make(root)
    if form == "without a cache":
        shutil.rmtree(root.profiles / ".git/tweakio/cache")
    elif form == "a plain clone":
        made = root.base / "clone"
        subprocess.run(["git", "clone", "-q", root.profiles, made / "profiles"], check=True)
        shutil.rmtree(root.home)
        made.rename(root.home)
    elif form == "a plain commit":
        who = ("-c", "user.name=x", "-c", "user.email=x@x")
        plain = ("commit", "-q", "--no-verify", "--allow-empty", "-m", "plain")
        subprocess.run(["git", "-C", root.profiles, *who, *plain], check=True)
    give(root.home)
    before = state(root.home)
    for arguments in READS:
        done = root.run(*arguments)
        assert done.code == 0 or (arguments[-1] == "doctor" and done.code == 14), done
    for arguments in CHANGES:
        refused = root.run(*arguments)
        assert refused.code == 19, (arguments, refused)
        assert f"{root.home} belongs to nobody, and this runs as root" in refused.err
        assert f"TWEAKIO_SAFE_HOME={root.home}" in refused.err
    assert state(root.home) == before


def test_both_ways_out_work(root: Cli, nobody: Cli) -> None:
    make(root)
    give(root.home)
    refused = root.run("profile", "set", "p1", "--note", "x")
    user = re.search(r"sudo -u (\S+) tweakio", refused.err)
    assert user
    assert user[1] == "nobody"
    nobody.ok("profile", "set", "p1", "--note", "by its owner")
    assert {item[0] for item in state(root.home).values()} == {NOBODY}
    setting = refused.err.rpartition("TWEAKIO_SAFE_HOME=")[2].strip()
    for value in (setting, "*", f"/elsewhere:{setting}/"):
        root.ok("profile", "set", "p1", "--note", value, TWEAKIO_SAFE_HOME=value)
    assert root.run("profile", "set", "p1", "--note", "x", TWEAKIO_SAFE_HOME="/else").code == 19


def test_python_is_refused_as_well(root: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    make(root)
    give(root.home)
    monkeypatch.delenv("TWEAKIO_SAFE_HOME", raising=False)
    with ProfileManager(root.home) as manager:
        assert [profile.id for profile in manager.list_profiles()] == ["p1", "p2"]
        with pytest.raises(FileAccessError) as caught:
            manager.update_profiles(["p1"], note="x")
    assert caught.value.details["owner"] == "nobody"


@pytest.mark.parametrize("part", ["", "profiles", "profiles/.git", "identity"])
def test_a_home_that_somebody_else_made_or_put_something_in(
    root: Cli, nobody: Cli, part: str
) -> None:
    """Even where their files can be read and written, an identity of theirs included."""
    make(root)
    (root.home / "identity").write_text("AGE-SECRET-KEY-1\n")
    give(root.home)
    path = root.home / part
    os.chown(path, 4711, 4711)
    subprocess.run(["chmod", "-R", "a+rwX", root.home], check=True)
    refused = nobody.run("profile", "set", "p1", "--note", "x")
    assert refused.code == 19, refused
    assert f"{path} belongs to 4711, and this runs as nobody" in refused.err
    assert "sudo -u '#4711' tweakio" in refused.err
    assert nobody.run("vault", "restore").code == 19
    assert nobody.run("profile", "list").code == 0


def test_a_directory_that_root_made_for_a_user_is_the_users(root: Cli, nobody: Cli) -> None:
    root.home.mkdir(mode=0o777)
    root.home.chmod(0o777)
    nobody.ok("profile", "create", "p1", "--platform", "custom")
    assert (root.home / "profiles").stat().st_uid == NOBODY


def test_a_file_that_root_left_is_no_damage(root: Cli, nobody: Cli) -> None:
    make(root)
    give(root.home)
    for name in ("p1/metadata.json", ".git/refs/heads/main", ".git/index", ".git/HEAD"):
        path = root.profiles / name
        os.chown(path, 0, 0)
        path.chmod(0o600)
        for arguments in (("profile", "set", "p1", "--note", name), ("repo", "doctor", "--fix")):
            refused = nobody.run(*arguments)
            assert refused.code == 19, (name, refused)
            assert "owner root" in refused.err
            assert "sudo chown -R nobody " in refused.err
        subprocess.run(
            shlex.split(refused.err.partition("sudo ")[2].strip().strip("'")), check=True
        )
        nobody.ok("profile", "set", "p1", "--note", name)


def findings(done: Result) -> dict[str, dict[str, str]]:
    return {item["code"]: item for item in json.loads(done.out)["findings"]}


def test_the_doctor_names_what_is_somebody_elses(root: Cli, nobody: Cli) -> None:
    make(root)
    give(root.home)
    os.chown(root.profiles / "p1/browser_profile/Cookies", 0, 0)
    done = nobody.run("repo", "doctor", "--json")
    found = findings(done)["foreign-owner"]
    assert "Cookies' belongs to root, and the home to nobody" in found["message"]
    # As root, who may only look, and then does what was advised.
    assert (
        findings(root.run("repo", "doctor", "--json"))["foreign-owner"]["message"]
        == (found["message"])
    )
    subprocess.run(shlex.split(found["hint"].removeprefix("run: sudo ")), check=True)
    assert nobody.run("repo", "doctor").out == ""


def test_modes_that_are_too_open_are_mended(root: Cli) -> None:
    """As a copy by a program that keeps none leaves them, or a generous person."""
    make(root)
    (root.home / "identity").write_text("secret")
    for name, mode in (
        ("identity", 0o644), ("profiles/p1/session.json", 0o644), ("profiles/.git", 0o777),
        ("profiles/.git/config", 0o666), ("profiles/p1/browser_profile/Cookies", 0o666),
    ):  # fmt: skip
        (root.home / name).chmod(mode)
    found = findings(root.run("repo", "doctor", "--json"))
    assert re.search(r"others can read or change '.*' and 4 more", found["open-mode"]["message"])
    assert root.run("repo", "doctor", "--fix").code == 0
    assert root.run("repo", "doctor").out == ""
    assert (root.home / "identity").stat().st_mode & 0o777 == 0o600
    assert (root.profiles / "p1/session.json").stat().st_mode & 0o777 == 0o600
    assert not (root.profiles / ".git").stat().st_mode & 0o002


# Browsers


@pytest.mark.parametrize("left", [0, NOBODY])
def test_browser_data_of_another_owner_are_named_before_a_browser_starts(
    base: Path, left: int
) -> None:
    """It would start without a word, with damaged cookies, and look logged out."""
    data = base / "home/profiles/p1/browser_profile"
    (data / "Default").mkdir(parents=True)
    (data / "Default/Cookies").write_text("x")
    (data / "SingletonLock").symlink_to("nowhere")
    give(base)
    os.chown(data / "Default", left, left)
    (data / "Default/Cookies").chmod(0o600 if left == 0 else 0o400)
    os.chown(data / "Default/Cookies", left, left)
    code = (
        "import os, sys; os.setgid(65534); os.setuid(65534); from pathlib import Path\n"
        "from tweakio import owners, FileAccessError\n"
        "try: owners.refuse_foreign_data(Path(sys.argv[1]), 'p1')\n"
        "except FileAccessError as error: print(error, '|', error.hint)\n"
    )
    command, changes = as_nobody(str(base))
    python = command[command.index("-m") - 1]
    done = subprocess.run(
        [python, "-c", code, data], env=changes, cwd="/", capture_output=True, text=True, check=True
    )
    said, _, hint = done.stdout.strip().partition(" | ")
    assert "Default" in said
    assert "would look logged out" in said
    assert hint.startswith("run: sudo chown -R nobody " if left == 0 else "run: chmod -R u+rwX ")
    subprocess.run(shlex.split(hint.removeprefix("run: ").removeprefix("sudo ")), check=True)
    done = subprocess.run(
        [python, "-c", code, data], env=changes, cwd="/", capture_output=True, text=True, check=True
    )
    assert done.stdout == ""


def test_opening_asks_for_that(base: Path) -> None:
    with ProfileManager(base / "home") as manager:
        manager.create_profile("p1", "custom")
        path = manager.layout.profile("p1").browser_profile / "Cookies"
        path.write_text("x")
        os.chown(path, NOBODY, NOBODY)
        with pytest.raises(FileAccessError, match="would look logged out"):
            with SyncBrowserManager("p1", manager=manager):
                pass
        assert not manager.get_profile("p1").in_use


# Directories for temporary files


def test_programs_are_not_run_where_others_can_rename(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = base / "opened"
    opened.mkdir()
    opened.chmod(0o777)
    own = base / "own"
    own.mkdir(mode=0o700)
    below = opened / "below"
    below.mkdir(mode=0o700)
    for place in (opened, below):
        monkeypatch.setattr(tempfile, "tempdir", str(place))
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
        assert str(place) not in owners.temporary_parents()
        found = launcher._private_directory()
        os.rmdir(found)
        assert not found.startswith(str(place))
    opened.chmod(0o1777)
    assert str(below) in owners.temporary_parents()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(own))
    found = owners.temporary_directory()
    assert os.path.dirname(found) == str(own)
    os.chown(own, NOBODY, NOBODY)
    assert str(own) not in owners.temporary_parents()


def test_a_home_that_is_not_there_yet_is_nobodys(base: Path) -> None:
    assert not owners.is_foreign(Layout(base / "new"))
    assert owners.name_of(4711) == "4711"
