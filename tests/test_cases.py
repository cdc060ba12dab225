"""What broke in comparable systems (cases.md); the number of each test is the case's."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from cli_helpers import Cli, Holder
from invariants import check, data_digests, tree_digest

from tweakio import (
    InvalidProfileIdError,
    LockTimeoutError,
    ProfileActiveError,
    ProfileExistsError,
    ProfileManager,
    ProfileNotFoundError,
    StorageError,
    TweakioError,
)

posix = pytest.mark.skipif(os.name != "posix", reason="signals and limits of POSIX")


@pytest.fixture
def two(manager):
    for name in ("alpha", "beta"):
        profile = manager.create_profile(name, "whatsapp")
        (profile.path / "browser_profile" / "Cookies").write_bytes(name.encode())
    return manager


def everything(home):
    paths = [path.relative_to(home).as_posix() for path in home.rglob("*")]
    return sorted(path for path in paths if "/cache/" not in path)


@pytest.mark.parametrize("name", ["", " ", ".", "/", None])
def test_case_1(two, name):
    """No name is no profile: nothing is created, and above all nothing is deleted by it."""
    before = everything(two.home)
    for action in (
        lambda: two.delete_profile(name, force=True, purge=True),
        lambda: two.delete_profiles(["alpha", name], force=True),
        lambda: two.create_profile(name, "custom"),
        lambda: two.activate_profile(name),
        lambda: two.recover_profile(name, "hard"),
        lambda: two.restore(name, "HEAD"),
        lambda: two.update_profiles([name], note="x"),
    ):
        with pytest.raises(InvalidProfileIdError):
            action()
    assert everything(two.home) == before
    check(two.home)


@pytest.mark.parametrize(
    "name", ["../../../escape", "../escape", "a/../../escape", "/tmp/escape", "..\\escape", "a/b"]
)
def test_case_2(two, tmp_path, name):
    """An id is a name and no path; nothing appears outside the root."""
    before = everything(tmp_path)
    for action in (two.create_profile, two.history, two.delete_profile, two.get_profile):
        arguments = (name, "custom") if action == two.create_profile else (name,)
        with pytest.raises(InvalidProfileIdError):
            action(*arguments)
    assert everything(tmp_path) == before


def activate_at_once(home, barrier, results):
    problems = []
    with ProfileManager(home) as manager:
        manager.list_profiles()
        barrier.wait()
        try:
            manager.activate_profile("alpha", timeout=0)
            won = True
        except LockTimeoutError:
            won = False
        for _ in range(20):
            try:
                json.loads(manager.layout.profile("alpha").metadata.read_bytes())
            except ValueError as error:
                problems.append(repr(error))
        results.put((won, problems))
        barrier.wait()


def test_case_3(two):
    """Of eight processes that activate one profile at once one wins; no reader sees a torn file."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(8), context.Queue()
    processes = [
        context.Process(target=activate_at_once, args=(two.home, barrier, results))
        for _ in range(8)
    ]
    for process in processes:
        process.start()
    found = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert sorted(won for won, _ in found) == [False] * 7 + [True]
    assert [problems for _, problems in found if problems] == []
    operations = [change.operation for change in two.history("alpha")]
    assert operations == ["deactivate", "activate", "create"]
    check(two.home, permissions=False)


def test_case_4(two, tmp_path):
    """What a second process closes or deactivates stays in use by the first."""
    cli = Cli(tmp_path)
    with Holder(cli, "alpha") as holder:
        with ProfileManager(two.home) as other:
            assert other.deactivate_profile() is None
            other.locks.release("alpha")
            other.locks.release_all()
            other.locks.cleanup_stale("alpha")
        two.deactivate_profile()
        assert two.get_profile("alpha").lock_pid == holder.pid
        with pytest.raises(ProfileActiveError):
            two.delete_profile("alpha", force=True)
        assert two.get_profile("alpha").status == "active"


@posix
@pytest.mark.parametrize("reused", [False, True])
def test_case_5(two, tmp_path, reused):
    """An owner that died does not block, even if its pid belongs to another process by now."""
    cli = Cli(tmp_path)
    with Holder(cli, "alpha") as holder:
        os.kill(holder.pid, signal.SIGKILL)
        holder._process.wait()
        if reused:
            lock = two.layout.profile("alpha").lock
            record = json.loads(lock.read_bytes())
            lock.write_bytes(b"\n" + json.dumps({**record, "pid": os.getpid()}).encode())
        assert not two.get_profile("alpha").in_use
        two.delete_profile("alpha")


@posix
def test_case_6(two, tmp_path):
    """Force ends nobody: neither the caller nor the process that uses the profile."""
    received = []
    before = signal.signal(signal.SIGTERM, lambda *_: received.append("SIGTERM"))
    try:
        cli = Cli(tmp_path)
        with Holder(cli, "alpha") as holder:
            with pytest.raises(ProfileActiveError):
                two.delete_profile("alpha", force=True)
            two.activate_profile("beta")
            two.delete_profile("beta", force=True)
            time.sleep(0.1)
            assert holder._process.poll() is None
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == []


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\0" * 100, b"[]", b'"x"', b"\xff\xfe\x00", b'{"profile_id": "beta"}', b"{}"],
    ids=range(8),
)
def test_case_7(two, content):
    """Metadata that is empty, cut off or foreign is one corrupted profile, not a traceback."""
    two.layout.profile("alpha").metadata.write_bytes(content)
    assert {p.id: p.status for p in two.list_profiles()} == {
        "alpha": "corrupted",
        "beta": "inactive",
    }
    two.activate_profile("beta")
    two.create_profile("gamma", "custom")
    two.history("alpha")
    assert two.diff("alpha").kind == "invalid"
    for action in (
        lambda: two.activate_profile("alpha"),
        lambda: two.update_profiles(["alpha"], note="x"),
    ):
        with pytest.raises(TweakioError):
            action()
    two.undo()
    assert two.layout.profile("alpha").metadata.read_bytes() == content
    two.recover_profile("alpha")
    two.delete_profile("alpha")


def test_case_8(two):
    """A directory that is half of a profile is none: not listed, not in the way, not lost."""
    half = two.layout.profiles / "half"
    (half / "browser_profile").mkdir(parents=True)
    (half / "browser_profile" / "Cookies").write_bytes(b"half")
    assert [p.id for p in two.list_profiles()] == ["alpha", "beta"]
    with pytest.raises(ProfileNotFoundError):
        two.activate_profile("half")
    with pytest.raises(TweakioError):
        two.create_profile("late", "custom", platform_config={"token": "clear"})
    assert [p.id for p in two.list_profiles()] == ["alpha", "beta"]
    profile = two.create_profile("half", "custom")
    assert os.listdir(profile.path / "browser_profile") == [".git"]
    (entry,) = two.trash("half")
    assert (entry.path / "data/browser_profile/Cookies").read_bytes() == b"half"
    check(two.home, permissions=False)


@pytest.mark.parametrize("name", ["alpha", "ALPHA"])
def test_case_9(two, name):
    """Creating what exists is an error, and the existing one stays as it is."""
    before = two.get_profile("alpha"), two.history(), everything(two.home)
    with pytest.raises(ProfileExistsError):
        two.create_profile(name, "telegram", note="other")
    with pytest.raises(ProfileExistsError):
        two.create_profiles(["new", name], "telegram")
    assert (two.get_profile("alpha"), two.history(), everything(two.home)) == before


def test_case_10(two, caplog):
    """No password in a file that others can read, in git, in repr() or in the log."""
    caplog.set_level("DEBUG")
    secret = "hunter2_correct_horse"
    for config in ({"password": secret}, {"a": [{"api_key": secret}]}, {"tokens": [secret]}):
        with pytest.raises(TweakioError) as caught:
            two.create_profile("gamma", "telegram", platform_config=config)
        assert secret not in f"{caught.value} {caught.value!r} {caught.value.details}"
        with pytest.raises(TweakioError):
            two.update_profiles(["alpha"], platform_config=config)
    profile = two.create_profile("gamma", "telegram", platform_config={"password": "env:" + secret})
    assert secret not in repr(profile)
    assert secret not in caplog.text
    (profile.path / "session.json").write_text(secret)
    two.update_profiles(["gamma"], note="x")
    for name in ("session.json", "metadata.json", "fingerprint.json"):
        assert os.stat(profile.path / name).st_mode & 0o077 == 0
    done = subprocess.run(
        ["git", "-C", two.layout.profiles, "grep", "-c", secret, "HEAD"], capture_output=True
    )
    assert done.stdout == b"HEAD:gamma/metadata.json:1\n"  # the reference, not the session


def test_case_11(two, tmp_path):
    """A home can be moved: nothing in it knows where it was."""
    two.select_profile("alpha")
    two.delete_profile("beta")
    two.close()
    moved = tmp_path / "some" / "where"
    moved.parent.mkdir()
    shutil.move(two.home, moved)
    with ProfileManager(moved) as manager:
        manager.undo()
        assert manager.get_profile("beta").path == moved / "profiles" / "beta"
        manager.activate_profile("beta")
        tracked = subprocess.run(
            ["git", "-C", moved / "profiles", "grep", "-c", str(tmp_path), "HEAD"],
            capture_output=True,
        )
        assert tracked.stdout == b""
    check(moved, permissions=False)


def test_case_13(tmp_path):
    """Listing and creating need no display, no terminal and no user's name."""
    unset = dict.fromkeys(("DISPLAY", "WAYLAND_DISPLAY", "TERM", "USER", "LOGNAME"), "\0unset")
    done = Cli(tmp_path).python(
        "from tweakio import ProfileManager\n"
        "with ProfileManager() as pm:\n"
        "    pm.create_profile('alpha', 'whatsapp'); print(len(pm.list_profiles()))\n",
        **unset,
    )
    assert (done.code, done.out, done.err) == (0, "1\n", "")


def test_case_14(two, tmp_path):
    """Activating one profile leaves another live one locked."""
    cli = Cli(tmp_path)
    with Holder(cli, "alpha") as holder:
        with ProfileManager(two.home) as other:
            other.activate_profile("beta")
            with pytest.raises(LockTimeoutError):
                other.activate_profile("alpha", timeout=0.1)
            assert other.locks.held == {"beta"}
        found = two.get_profile("alpha")
        assert (found.status, found.in_use, found.lock_pid) == ("active", True, holder.pid)


def test_case_15(two):
    """A listing has the same fields at every call, whatever happened to the profiles."""
    two.create_profile("Gamma", "custom")
    two.activate_profile("alpha")
    two.layout.profile("beta").metadata.write_bytes(b"")
    first, second = two.list_profiles(), two.list_profiles()
    assert first == second
    assert len({profile._fields for profile in first}) == 1
    assert all(re.fullmatch("[a-z_]+", name) for name in first[0]._fields)
    assert [p.id for p in first] == ["Gamma", "alpha", "beta"]
    assert two.get_profile("alpha") == first[1]


def test_case_16(tmp_path):
    """The Python code of the README runs."""
    text = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    for number, block in enumerate(blocks):
        base = tmp_path / str(number)
        base.mkdir()
        done = Cli(base).python(block)
        assert done.code == 0, (block, done.err)


LIMITED = """
import resource, signal, sys
from tweakio import DiskFullError, ProfileManager
manager = ProfileManager()
manager.list_profiles()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
try:
    manager.update_profiles(["alpha"], note="n" * 4000)
except DiskFullError as error:
    print("full", error.hint)
else:
    print("done")
"""


@posix
@pytest.mark.parametrize("size", [0, 1, 50, 300, 1000])
def test_case_17(two, tmp_path, size):
    """No room for a write: the old state stays whole, and so does the login."""
    path = two.layout.profile("alpha").metadata
    before = data_digests(two.home), two.history(), tree_digest(path)
    two.close()
    done = Cli(tmp_path).python(LIMITED, str(size))
    assert done.code == 0, done.err
    assert done.out.startswith("full free some space"), done
    with ProfileManager(two.home) as manager:
        assert (data_digests(two.home), manager.history(), tree_digest(path)) == before
        manager.update_profiles(["alpha"], note="n" * 4000)
    check(two.home, permissions=False)


def test_case_18(two):
    """A delete that failed is said to have failed; what goes is kept, and nothing else goes."""
    two.close()
    with ProfileManager(two.home) as manager:
        place = manager.layout.trash
        place.write_text("in the way")
        with pytest.raises(StorageError):
            manager.delete_profile("alpha")
        assert [p.id for p in manager.list_profiles()] == ["alpha", "beta"]
        assert manager.layout.profile("alpha").browser_profile.joinpath("Cookies").exists()
        place.unlink()
        manager.activate_profile("alpha")
    with ProfileManager(two.home) as manager:
        manager.deactivate_profile()
        assert [p.id for p in manager.list_profiles()] == ["alpha", "beta"]
        manager.delete_profile("alpha")
        assert len(manager.trash("alpha")) == 1
    check(two.home, permissions=False)


def test_case_21(two):
    """Many small commits stay small once they are packed."""
    for _ in range(75):
        two.select_profile("alpha")
        two.select_profile("beta")
    two.gc()
    objects = two.layout.git_dir / "objects"
    size = sum(path.stat().st_size for path in objects.rglob("*") if path.is_file())
    assert len(two.history()) == 153
    assert size / 150 < 2048
    loose = [path for path in objects.glob("??/*") if path.is_file()]
    assert len(loose) < 64 * 6
    check(two.home, permissions=False)


@posix
def test_case_22(two, git):
    """The index.lock of a git that was killed is put aside without anybody's help."""
    git("config", "filter.stop.clean", "kill -9 $PPID; sleep 1; cat")
    (two.layout.git_dir / "info" / "attributes").write_text("README filter=stop\n")
    (two.layout.profiles / "README").write_text("mine")
    done = subprocess.run(
        ["git", "-C", two.layout.profiles, "add", "README"], capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL
    lock = two.layout.git_dir / "index.lock"
    assert lock.exists()
    os.utime(lock, (time.time() - 60,) * 2)
    two.activate_profile("alpha")
    assert not lock.exists()
    (two.layout.git_dir / "info" / "attributes").unlink()
    git("add", "README")
    git("commit", "-qm", "goes on")
    check(two.home, permissions=False)


def test_the_cases_are_all_here():
    """Those about browsers, remotes and archives (12, 19, 20, 23, 24) are tested elsewhere."""
    here = {int(name[10:]) for name in globals() if re.fullmatch(r"test_case_\d+", name)}
    assert here == {*range(1, 12), *range(13, 19), 21, 22}
    assert all(globals()[f"test_case_{number}"].__doc__ for number in here)
