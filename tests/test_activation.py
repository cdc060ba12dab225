"""Active, in use, locked: three things, in real processes, threads and forks."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import threading
import time

import pytest
from cli_helpers import Cli, Holder
from invariants import check

from tweakio import (
    LockTimeoutError,
    ProfileActiveError,
    ProfileCorruptedError,
    ProfileManager,
    ProfileNotFoundError,
)

posix = pytest.mark.skipif(os.name != "posix", reason="signals and fork of POSIX")


@pytest.fixture
def cli(tmp_path):
    return Cli(tmp_path)


@pytest.fixture
def three(manager):
    manager.create_profiles(["alpha", "beta", "gamma"], "custom")
    return manager


def stored(manager, profile_id):
    return json.loads((manager.layout.profile(profile_id).metadata).read_bytes())


def states(manager):
    return {p.id: (p.status, p.in_use) for p in manager.list_profiles()}


@contextlib.contextmanager
def killed(cli, profile_id):
    """The pid of a process that was killed while it used a profile."""
    with Holder(cli, profile_id) as holder:
        os.kill(holder.pid, signal.SIGKILL)
        holder._process.wait()
        yield holder.pid


def test_activate_selects_and_holds(three):
    profile = three.activate_profile("alpha")
    assert (profile.status, profile.in_use, profile.lock_pid) == ("active", True, os.getpid())
    assert stored(three, "alpha")["lock_pid"] == os.getpid()
    assert profile.last_used > profile.created_at
    assert three.locks.held == {"alpha"}
    again = len(three.history())
    assert three.activate_profile("alpha") == profile
    assert len(three.history()) == again


def test_deactivate_releases(three):
    three.activate_profile("alpha")
    profile = three.deactivate_profile()
    assert (profile.id, profile.status, profile.in_use) == ("alpha", "inactive", False)
    assert "lock_pid" not in stored(three, "alpha")
    assert (three.layout.profile("alpha").lock).read_bytes() == b""
    assert three.deactivate_profile() is None


def test_a_switch_is_one_commit_about_both(three):
    three.activate_profile("alpha")
    before = len(three.history())
    three.activate_profile("beta")
    (change,) = three.history(limit=1)
    assert len(three.history()) == before + 1
    assert change.operation == "activate"
    assert change.profiles == ("alpha", "beta")
    assert states(three)["alpha"] == ("inactive", False)
    assert three.locks.held == {"beta"}
    check(three.home)


def test_select_does_not_hold(three):
    profile = three.select_profile("alpha")
    assert (profile.status, profile.in_use, profile.lock_pid) == ("active", False, None)
    assert "lock_pid" not in stored(three, "alpha")
    assert three.locks.held == set()
    assert three.select_profile("beta").status == "active"
    assert states(three)["alpha"] == ("inactive", False)
    assert three.deactivate_profile().id == "beta"


def test_a_selection_outlives_the_one_who_made_it(three):
    three.select_profile("alpha")
    three.close()
    with ProfileManager(three.home) as other:
        assert states(other)["alpha"] == ("active", False)
        other.activate_profile("beta")
        assert states(other)["alpha"] == ("inactive", False)


def test_a_selected_profile_can_be_taken_into_use(three):
    three.select_profile("alpha")
    with ProfileManager(three.home) as other:
        assert other.activate_profile("alpha").in_use
    assert states(three)["alpha"] == ("inactive", False)


def test_selecting_what_this_program_uses_is_refused(three):
    three.activate_profile("alpha")
    with pytest.raises(ProfileActiveError):
        three.select_profile("alpha")
    assert three.locks.held == {"alpha"}


def test_selecting_another_lets_go_of_what_this_program_used(three):
    """It was inactive by the commit and still locked, so that no other program got it."""
    three.activate_profile("alpha")
    three.select_profile("beta")
    assert states(three) == {
        "alpha": ("inactive", False),
        "beta": ("active", False),
        "gamma": ("inactive", False),
    }
    assert three.locks.held == set()
    assert three.registry.get_active() == "beta"
    with ProfileManager(three.home) as other:
        assert other.activate_profile("alpha", timeout=0).in_use
    assert three.deactivate_profile() is None  # the other one's selection of alpha replaced it


def test_selecting_what_is_selected_deactivates_what_this_program_uses(three):
    three.activate_profile("alpha")
    with ProfileManager(three.home) as other:
        other.select_profile("beta")
    assert three.locks.held == {"alpha"}
    three.select_profile("beta")
    assert states(three)["alpha"] == ("inactive", False)
    assert three.locks.held == set()
    before = three.history()
    three.select_profile("beta")
    assert three.history() == before


def test_a_refused_selection_lets_go_of_nothing(three):
    three.activate_profile("alpha")
    three.layout.profile("beta").metadata.write_bytes(b"{")
    with pytest.raises(ProfileCorruptedError):
        three.select_profile("beta")
    assert three.locks.held == {"alpha"}
    assert states(three)["alpha"] == ("active", True)


def test_programs_run_their_own_profiles(three, cli):
    with Holder(cli, "alpha") as one, Holder(cli, "beta") as two:
        three.activate_profile("gamma")
        found = {p.id: (p.status, p.lock_pid) for p in three.list_profiles()}
        assert found == {
            "alpha": ("active", one.pid),
            "beta": ("active", two.pid),
            "gamma": ("active", os.getpid()),
        }
        three.deactivate_profile()
        assert three.deactivate_profile() is None
        assert states(three)["alpha"] == states(three)["beta"] == ("active", True)
    assert set(states(three).values()) == {("inactive", False)}
    check(three.home)


def test_a_selection_leaves_used_profiles_alone(three, cli):
    with Holder(cli, "alpha"):
        three.select_profile("beta")
        three.select_profile("gamma")
        assert states(three) == {
            "alpha": ("active", True),
            "beta": ("inactive", False),
            "gamma": ("active", False),
        }


@pytest.mark.parametrize("method", ["activate_profile", "select_profile"])
def test_waiting_ends_with_the_owners_name(three, cli, method):
    with Holder(cli, "alpha") as holder:
        before = len(three.history())
        began = time.monotonic()
        with pytest.raises(LockTimeoutError, match=rf"process {holder.pid}\b") as caught:
            getattr(three, method)("alpha", timeout=0.3)
        assert 0.25 < time.monotonic() - began < 5
        assert caught.value.details["owner"].pid == holder.pid
        assert len(three.history()) == before
        assert states(three)["alpha"] == ("active", True)


def test_waiting_ends_when_the_owner_ends(three, cli):
    holder = Holder(cli, "alpha").__enter__()
    timer = threading.Timer(0.3, holder.__exit__)
    timer.start()
    try:
        assert three.activate_profile("alpha", timeout=20).lock_pid == os.getpid()
    finally:
        timer.join()


@pytest.mark.parametrize("timeout", [0, -1, -0.001])
def test_no_time_means_at_once_and_never_for_ever(three, cli, timeout):
    with Holder(cli, "alpha"):
        began = time.monotonic()
        with pytest.raises(LockTimeoutError):
            three.activate_profile("alpha", timeout=timeout)
        assert time.monotonic() - began < 2


@pytest.mark.parametrize("force", [False, True])
def test_a_used_profile_cannot_be_deleted_from_outside(three, cli, force):
    with Holder(cli, "alpha") as holder:
        with pytest.raises(ProfileActiveError, match=rf"process {holder.pid}\b"):
            three.delete_profile("alpha", force=force)
        assert three.get_profile("alpha").path.is_dir()
        assert holder._process.poll() is None


def test_own_and_selected_profiles_are_deleted_by_force_only(three):
    for activate, profile_id in ((three.activate_profile, "alpha"), (three.select_profile, "beta")):
        activate(profile_id)
        with pytest.raises(ProfileActiveError):
            three.delete_profile(profile_id)
        three.delete_profile(profile_id, force=True)
    assert states(three) == {"gamma": ("inactive", False)}
    assert three.locks.held == set()
    assert three.registry.get_active() is None


# Owners that died


@posix
def test_a_dead_owner_does_not_block(three, cli, caplog):
    with killed(cli, "alpha") as pid:
        assert stored(three, "alpha")["lock_pid"] == pid
        assert states(three)["alpha"] == ("inactive", False)
        assert three.activate_profile("alpha", timeout=0).lock_pid == os.getpid()
        assert f"process {pid}" in caplog.text
        assert any(record.levelno == logging.WARNING for record in caplog.records)


@posix
@pytest.mark.parametrize(
    "change",
    [
        lambda manager: manager.create_profile("delta", "custom"),
        lambda manager: manager.activate_profile("beta"),
        lambda manager: manager.select_profile("beta"),
        lambda manager: manager.delete_profile("beta"),
        lambda manager: manager.update_profiles(["beta"], note="x"),
        lambda manager: manager.update_profiles(["alpha"], note="x"),
    ],
    ids=["create", "activate", "select", "delete", "set another", "set itself"],
)
def test_the_next_change_clears_a_dead_owner(three, cli, caplog, change):
    with killed(cli, "alpha") as pid:
        change(three)
    value = stored(three, "alpha")
    assert (value["status"], value.get("lock_pid")) == ("inactive", None)
    assert (three.layout.profile("alpha").lock).read_bytes() == b""
    assert str(pid) in caplog.text
    check(three.home)


def undone(manager):
    manager.update_profiles(["beta"], note="x")
    return manager.undo


def done_again(manager):
    manager.update_profiles(["beta"], note="x")
    manager.undo()
    return manager.redo


def restored(manager):
    manager.update_profiles(["beta"], note="x")
    return lambda: manager.restore("beta", "HEAD~2")


def recovered(manager):
    return lambda: manager.recover_profile("beta", "hard")


def from_the_trash(manager):
    manager.delete_profile("beta")
    return lambda: manager.restore_from_trash(manager.trash()[0].name)


def saved(manager):
    metadata = manager.metadata
    return lambda: metadata.save("beta", {**metadata.load("beta"), "note": "x"})


def marked(manager):
    return lambda: manager.metadata.mark_corrupted("beta", "why")


def taken_over(manager):
    def migrate():
        (manager.home / "session.json").write_bytes(b"{}")
        with ProfileManager(manager.home) as other:
            other.list_profiles()

    return migrate


@posix
@pytest.mark.parametrize(
    "prepare",
    [undone, done_again, restored, recovered, from_the_trash, saved, marked, taken_over],
)
def test_every_change_clears_a_dead_owner(three, cli, caplog, prepare):
    """Those that do not go through the manager's own changes left it as it was."""
    # While it is held; a change after the end would clear it at once.
    with Holder(cli, "alpha") as holder:
        change = prepare(three)
        os.kill(holder.pid, signal.SIGKILL)
        holder._process.wait()
    before = len(three.history())
    change()
    assert len(three.history()) == before + 1
    value = stored(three, "alpha")
    assert (value["status"], value.get("lock_pid")) == ("inactive", None)
    assert three.layout.profile("alpha").lock.read_bytes() == b""
    assert f"process {holder.pid}" in caplog.text
    check(three.home, permissions=False)


@posix
def test_marking_a_dead_owners_profile_as_corrupted(three, cli):
    with killed(cli, "alpha"):
        three.metadata.mark_corrupted("alpha", "why")
    value = stored(three, "alpha")
    assert (value["status"], value.get("lock_pid")) == ("corrupted", None)


@posix
def test_redo_does_not_bring_back_a_dead_owners_selection(three, cli):
    with Holder(cli, "alpha") as holder:
        undo = undone(three)
        os.kill(holder.pid, signal.SIGKILL)
        holder._process.wait()
    undo()
    three.redo()
    assert states(three)["alpha"] == ("inactive", False)
    assert three.get_profile("beta").note == "x"


@posix
def test_undo_past_a_dead_owner_to_something_invalid(three, git):
    """Taking back a mending by hand puts what is invalid there, dead owner or not."""
    path = three.layout.profile("alpha").metadata
    good = path.read_bytes()
    path.write_bytes(b"{}")
    git("commit", "-q", "--no-verify", "-am", "broken by hand")
    path.write_bytes(good.replace(b'"inactive"', b'"active",\n  "lock_pid": 4194304'))
    git("commit", "-q", "--no-verify", "-am", "mended by hand")
    assert three.undo().summary == "mended by hand"
    assert path.read_bytes() == b"{}"


@posix
@pytest.mark.parametrize("force", [False, True])
def test_a_dead_owners_profile_can_be_deleted(three, cli, force):
    with killed(cli, "alpha"):
        three.delete_profile("alpha", force=force)
    assert "alpha" not in states(three)


@posix
def test_cleanup_stale_says_whether_there_was_one(three, cli):
    with Holder(cli, "beta"):
        assert three.locks.cleanup_stale("beta") is False
    assert three.locks.cleanup_stale("gamma") is False
    with killed(cli, "alpha"):
        assert three.locks.cleanup_stale("alpha") is True
        assert three.locks.cleanup_stale("alpha") is False


@posix
def test_a_pid_used_again_is_not_the_owner(three, cli):
    with killed(cli, "alpha"):
        lock = three.layout.profile("alpha").lock
        record = json.loads(lock.read_bytes())
        # The pid of a live process that started at another moment.
        lock.write_bytes(b"\n" + json.dumps({**record, "pid": os.getppid()}).encode())
        assert not three.locks.is_locked("alpha")
        assert states(three)["alpha"] == ("inactive", False)
        three.delete_profile("alpha")


@posix
@pytest.mark.parametrize(
    "content", [b"\n{broken", b"\n[]", b"\0" * 10, b"x", b"\n" + b"9" * 6000], ids=range(5)
)
def test_a_damaged_record_does_not_block(three, content):
    (three.layout.profile("alpha").lock).write_bytes(content)
    assert states(three)["alpha"] == ("inactive", False)
    assert three.activate_profile("alpha", timeout=0).in_use


@posix
def test_sigterm_leaves_what_the_next_command_mends(three, cli):
    with Holder(cli, "alpha") as holder:
        os.kill(holder.pid, signal.SIGTERM)
        holder._process.wait()
    assert three.activate_profile("alpha", timeout=0).in_use


# Forks


FORK = """
import os, sys
from tweakio import ProfileManager
pm = ProfileManager(sys.argv[1])
pm.activate_profile("alpha")
pid = os.fork()
if pid == 0:
    import gc
    assert pm.locks.held == frozenset(), pm.locks.held
    assert pm.registry is not None
    pm.close()
    del pm
    gc.collect()
    # With the atexit handlers that it inherited.
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
print(pm.get_profile("alpha").lock_pid == os.getpid(), flush=True)
sys.stdin.read()
"""


@posix
def test_a_forked_child_owns_nothing_and_releases_nothing(three, cli):
    import subprocess
    import sys

    process = cli.start(
        sys.executable,
        "-c",
        FORK,
        str(cli.home),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout.readline() == b"True\n"
        assert states(three)["alpha"] == ("active", True)
        with pytest.raises(LockTimeoutError, match=str(process.pid)):
            three.activate_profile("alpha", timeout=0)
    finally:
        process.communicate(timeout=20)
    assert process.returncode == 0
    assert states(three)["alpha"] == ("inactive", False)


# Threads and several managers in one program


def in_threads(*functions):
    problems = []

    def run(function):
        try:
            function()
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return problems


def test_threads_activate_the_same_profile(three):
    """The others waited for the first one's lock, and gave up after the time-out."""
    assert in_threads(*[lambda: three.activate_profile("alpha", timeout=0)] * 4) == []
    assert three.locks.held == {"alpha"}
    assert [change.operation for change in three.history(limit=2)] == ["activate", "create"]


def test_threads_activate_different_profiles(three):
    """Each released what the other had just activated, and none was held in the end."""
    for _ in range(3):
        functions = [
            lambda profile_id=profile_id: three.activate_profile(profile_id)
            for profile_id in ("alpha", "beta", "gamma")
        ]
        assert in_threads(*functions) == []
        (held,) = three.locks.held
        assert three.registry.get_active() == held
        assert [p.id for p in three.list_profiles(status="active")] == [held]
    check(three.home)


def test_threads_do_different_things(three):
    def work(number):
        for step in range(3):
            three.create_profile(f"t{number}-{step}", "custom")
            three.update_profiles([f"t{number}-{step}"], note="x")
            three.list_profiles()
            three.delete_profile(f"t{number}-{step}")

    assert in_threads(*[lambda number=number: work(number) for number in range(4)]) == []
    assert [c.operation for c in three.history()].count("delete") == 12
    assert sorted(states(three)) == ["alpha", "beta", "gamma"]
    check(three.home)


def test_two_managers_are_two_holders(three):
    with ProfileManager(three.home) as other:
        three.activate_profile("alpha")
        other.activate_profile("beta")
        assert states(three)["alpha"] == states(three)["beta"] == ("active", True)
        with pytest.raises(LockTimeoutError, match=f"process {os.getpid()}"):
            other.activate_profile("alpha", timeout=0.1)
        with pytest.raises(ProfileActiveError):
            other.delete_profile("alpha", force=True)
        assert other.locks.held == {"beta"}
    assert states(three) == {
        "alpha": ("active", True),
        "beta": ("inactive", False),
        "gamma": ("inactive", False),
    }


def test_waiting_for_a_profile_that_is_deleted_meanwhile(three):
    three.activate_profile("alpha")
    with ProfileManager(three.home) as other:
        found = []

        def wait():
            try:
                other.activate_profile("alpha", timeout=20)
            except ProfileNotFoundError as error:
                found.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.2)
        three.delete_profile("alpha", force=True)
        thread.join()
        assert len(found) == 1
        assert other.locks.held == set()
    assert not three.layout.profile("alpha").directory.exists()


def test_close_can_be_repeated_and_used_after(three):
    three.activate_profile("alpha")
    three.close()
    three.close()
    assert states(three)["alpha"] == ("inactive", False)
    assert three.history()[0].command == "ProfileManager.close"
    three.activate_profile("alpha")


def test_a_program_that_forgets_to_close(three, cli):
    done = cli.python(
        "import sys\nfrom tweakio import ProfileManager\n"
        "pm = ProfileManager(); pm.activate_profile('alpha'); print(pm.locks.held)\n"
    )
    assert (done.code, done.err) == (0, "")
    assert "alpha" in done.out
    assert states(three)["alpha"] == ("inactive", False)
    assert stored(three, "alpha")["status"] == "inactive"


def test_a_program_that_ends_with_an_exception(three, cli):
    done = cli.python(
        "from tweakio import ProfileManager\n"
        "with ProfileManager() as pm:\n    pm.activate_profile('alpha')\n    1 / 0\n"
    )
    assert done.code == 1
    assert stored(three, "alpha")["status"] == "inactive"


def test_a_dropped_manager_releases_the_lock(three):
    other = ProfileManager(three.home)
    other.activate_profile("alpha")
    del other
    import gc

    gc.collect()
    assert states(three)["alpha"] == ("inactive", False)


# What cannot be activated


def test_a_refused_activation_leaves_no_lock(three):
    three.activate_profile("beta")
    (three.layout.profile("alpha").metadata).write_bytes(b"{")
    before = three.history()
    with pytest.raises(ProfileCorruptedError):
        three.activate_profile("alpha")
    assert three.history() == before
    assert three.locks.held == {"beta"}
    assert states(three)["beta"] == ("active", True)
    with pytest.raises(ProfileNotFoundError):
        three.activate_profile("nobody")


def test_a_directory_that_is_a_link_is_refused_without_touching_its_target(three):
    directory = three.layout.profile("alpha").directory
    target = three.home / "elsewhere"
    directory.rename(target)
    directory.symlink_to(target)
    before = sorted((path.name, path.stat().st_mtime_ns) for path in target.iterdir())
    with pytest.raises(ProfileCorruptedError):
        three.activate_profile("alpha")
    assert sorted((path.name, path.stat().st_mtime_ns) for path in target.iterdir()) == before


def link_to_nothing(directory):
    directory.symlink_to("nowhere")


@pytest.mark.parametrize("method", ["activate_profile", "select_profile"])
@pytest.mark.parametrize(
    ("put", "problem"),
    [
        (lambda directory: directory.write_bytes(b"plain"), "is not a directory"),
        (link_to_nothing, "is not a directory"),
        (lambda directory: None, "is missing"),
    ],
    ids=["file", "link to nothing", "nothing"],
)
def test_what_stands_in_the_place_of_a_directory_is_named(three, method, put, problem):
    directory = three.layout.profile("alpha").directory
    directory.rename(three.home / "aside")
    put(directory)
    with pytest.raises(ProfileCorruptedError, match=f"its directory {problem}") as caught:
        getattr(three, method)("alpha")
    assert caught.value.hint == "run 'tweakio profile recover alpha'"
    assert three.recover_profile("alpha").status == "inactive"
    assert three.activate_profile("alpha").in_use
    check(three.home)


def test_the_locks_of_a_profile_and_of_the_repository_are_two(three, cli):
    """Another process's profile lock does not stop changes to other profiles."""
    with Holder(cli, "alpha"):
        three.create_profile("delta", "custom")
        three.update_profiles(["alpha"], note="seen")
        assert stored(three, "alpha")["note"] == "seen"
        assert states(three)["alpha"] == ("active", True)
    assert stored(three, "alpha")["note"] == "seen"


def test_a_corrupted_profile_in_use_stays_in_use(three):
    three.activate_profile("alpha")
    (three.layout.profile("alpha").metadata).write_bytes(b"damage")
    profile = three.get_profile("alpha")
    assert (profile.status, profile.in_use, profile.lock_pid) == ("corrupted", True, os.getpid())
    assert three.recover_profile("alpha").status == "active"
    assert three.locks.held == {"alpha"}


def test_a_profile_that_is_held_stays_held_if_it_cannot_be_activated_again(manager, home):
    manager.create_profiles(["one", "two"], "custom")
    manager.activate_profile("one")
    manager.layout.profile("one").metadata.write_bytes(b"{")
    manager.activate_profile("two")  # which leaves a damaged one as it is
    assert manager.locks.held == {"one", "two"}
    with pytest.raises(ProfileCorruptedError):
        manager.activate_profile("one")
    assert manager.locks.held == {"one", "two"}
    with ProfileManager(home) as other, pytest.raises(LockTimeoutError):
        other.activate_profile("one", 0)


def test_an_undo_does_not_let_go_of_a_held_profile_that_somebody_has_damaged(manager):
    manager.create_profile("alpha", "custom")
    held = manager.activate_profile("alpha")
    manager.create_profile("beta", "custom")
    (held.path / "metadata.json").write_bytes(b"")
    manager.undo()
    assert [profile.id for profile in manager.list_profiles()] == ["alpha"]
    assert "alpha" in manager.locks.held
    assert manager.get_profile("alpha").in_use
