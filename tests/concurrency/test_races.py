"""Moments between two steps of one process, at which another one acts."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tweakio import ProfileManager, directories
from tweakio.errors import (
    ConcurrentChangeError,
    NothingToRedoError,
    ProfileNotFoundError,
    StorageError,
)
from tweakio.store.checkout import Checkout
from tweakio.store.head import Head
from tweakio.store.packed import PackedObjects
from tweakio.store.refs import GitLocks, Refs
from tweakio.store.repository import Repository
from tweakio.store.worktree import Found, WorkTree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def two(home: Path) -> Iterator[tuple[ProfileManager, ProfileManager]]:
    """Two holders: one object is one, as one process is."""
    with ProfileManager(home) as first, ProfileManager(home) as second:
        first.create_profile("kept", "custom")
        second.list_profiles()
        yield first, second


def test_lock_of_a_profile_that_was_deleted_and_made_anew_is_worth_nothing(
    two: tuple[ProfileManager, ProfileManager], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, quick = two
    quick.create_profile("x", "custom")
    slow.list_profiles()
    raised: list[BaseException] = []
    gate = threading.Event()

    def activate() -> None:
        try:
            slow.activate_profile("x", 10)
        except ConcurrentChangeError as error:
            raised.append(error)

    thread = threading.Thread(target=activate)
    take_away, locked = directories.take_away, Repository._locked

    def take_the_lock_first(*arguments: Any, **options: Any) -> None:
        # After the look whether it is in use and before its directory is renamed.
        thread.start()
        while "x" not in slow.locks.held:
            time.sleep(0.001)
        take_away(*arguments, **options)

    def hold_back(repository: Repository, *arguments: Any) -> Any:
        if threading.current_thread() is thread:
            gate.wait(30)
        return locked(repository, *arguments)

    monkeypatch.setattr(Repository, "_locked", hold_back)
    with monkeypatch.context() as patch:
        patch.setattr(directories, "take_away", take_the_lock_first)
        quick.delete_profile("x")
    quick.create_profile("x", "custom")
    gate.set()
    thread.join(30)
    assert raised
    assert not slow.locks.held
    with ProfileManager(home) as third:
        assert third.activate_profile("x", 0).lock_pid == os.getpid()


def test_deactivate_leaves_what_another_holds_by_now(
    two: tuple[ProfileManager, ProfileManager], monkeypatch: pytest.MonkeyPatch
) -> None:
    holder, other = two
    other.select_profile("kept")
    deactivate = other._deactivate

    def late(*arguments: Any) -> Any:
        holder.activate_profile("kept")
        return deactivate(*arguments)

    monkeypatch.setattr(other, "_deactivate", late)
    assert other.deactivate_profile() is None
    found = holder.get_profile("kept")
    assert (found.status, found.in_use) == ("active", True)


@pytest.mark.parametrize("operation", ["create", "select", "deactivate", "set"])
def test_what_was_done_is_not_an_error_because_the_profile_is_gone_after(
    two: tuple[ProfileManager, ProfileManager], operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = two
    name = "x" if operation == "create" else "kept"
    if operation == "deactivate":
        first.select_profile(name)
    work: dict[str, Callable[[], Any]] = {
        "create": lambda: first.create_profile(name, "custom"),
        "select": lambda: first.select_profile(name),
        "deactivate": first.deactivate_profile,
        "set": lambda: first.update_profiles([name], note="n")[0],
    }
    committed = first._reader.committed

    def late(profile_id: str, metadata: Any) -> Any:
        second.delete_profile(profile_id, force=True)
        return committed(profile_id, metadata)

    monkeypatch.setattr(first._reader, "committed", late)
    found = work[operation]()
    assert found.id == name
    assert found.status == ("active" if operation == "select" else "inactive")
    assert next(change.operation for change in second.history(limit=2)) == "delete"


def test_a_profile_that_is_just_deleted_is_not_called_corrupted(
    two: tuple[ProfileManager, ProfileManager], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = two
    look = first.repository.directory_id

    def late(root: bytes, profile_id: str) -> bytes | None:
        found = look(root, profile_id)
        second.delete_profile(profile_id)
        return found

    monkeypatch.setattr(first.repository, "directory_id", late)
    with pytest.raises(ProfileNotFoundError):
        first.select_profile("kept")


@pytest.mark.parametrize("operation", ["undo", "redo"])
def test_undo_takes_back_what_is_the_last_change_when_it_is_made(
    two: tuple[ProfileManager, ProfileManager],
    git: Callable[..., str],
    operation: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A ``git commit`` ends between the look for the last change and the commit."""
    manager, _ = two
    manager.update_profiles(["kept"], note="one")
    if operation == "redo":
        manager.undo()
    before = manager.get_profile("kept").note
    acquire = GitLocks.acquire
    beside: list[str] = []

    def commit_first(*arguments: Any) -> None:
        if not beside:
            beside.append(git("commit", "--allow-empty", "--no-verify", "-m", "beside"))
        acquire(*arguments)

    monkeypatch.setattr(GitLocks, "acquire", commit_first)
    if operation == "undo":
        assert manager.undo().summary == "beside"
        assert manager.history(limit=1)[0].summary == "undo: beside"
    else:
        with pytest.raises(NothingToRedoError):
            manager.redo()
        assert manager.history(limit=1)[0].summary == "beside"
    assert beside
    assert manager.get_profile("kept").note == before


@pytest.mark.parametrize("full", [False, True], ids=["one", "all"])
def test_a_commit_by_plain_git_while_a_change_begins(
    home: Path, git: Callable[..., str], monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    """After the look at HEAD, and before the change starts from it."""
    with ProfileManager(home) as manager:
        manager.create_profiles(["a", "b"], "custom")
        manager.activate_profile("a")
        reconcile, scan_is_due = WorkTree.reconcile, Repository._scan_is_due
        done = []

        def commit_after(tree: WorkTree, *arguments: Any, **options: Any) -> Any:
            found = reconcile(tree, *arguments, **options)
            if not done:
                done.append(git("commit", "--allow-empty", "-m", "by hand"))
            return found

        def is_due(repository: Repository, head: Head) -> bool:
            return full or scan_is_due(repository, head)

        monkeypatch.setattr(WorkTree, "reconcile", commit_after)
        monkeypatch.setattr(Repository, "_scan_is_due", is_due)
        manager.activate_profile("b")
        assert done
        status = {profile.id: profile.status for profile in manager.list_profiles()}
        assert status == {"a": "inactive", "b": "active"}
        assert manager.locks.held == {"b"}


def test_a_commit_by_plain_git_on_top_of_what_was_adopted(
    home: Path, git: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a change starts from it: the new head is looked at as well."""
    with ProfileManager(home) as manager:
        manager.create_profiles(["a", "b"], "custom")
        manager.activate_profile("a")
        path = manager.layout.profile("b").metadata
        path.write_text(json.dumps({**json.loads(path.read_bytes()), "note": "by hand"}))
        adopt = WorkTree._adopt
        done = []

        def commit_after(tree: WorkTree, head: Head, edited: list[Found]) -> Head:
            adopt(tree, head, edited)
            if edited:
                done.append(git("commit", "--allow-empty", "-m", "on top"))
            return tree._repository.head()

        monkeypatch.setattr(WorkTree, "_adopt", commit_after)
        manager.activate_profile("b")
        assert len(done) == 1
        status = {profile.id: profile.status for profile in manager.list_profiles()}
        assert status == {"a": "inactive", "b": "active"}
        assert manager.get_profile("b").note == "by hand"
        summaries = [change.summary for change in manager.history(limit=3)]
        assert summaries == ["activate b (was a)", "on top", "adopt edits by hand: b"]


def test_an_adoption_that_was_not_completed_is_before_the_change(
    home: Path, git: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its reflog could not be written; the change that follows must not take its journal."""
    with ProfileManager(home) as manager:
        manager.create_profiles(["a", "b"], "custom")
        path = manager.layout.profile("b").metadata
        path.write_text(json.dumps({**json.loads(path.read_bytes()), "note": "by hand"}))
        append = Refs.append_reflog
        failed = []

        def fail_once(refs: Refs, name: str, line: bytes) -> None:
            if not failed:
                failed.append(line)
                raise OSError(errno.EIO, "once")
            append(refs, name, line)

        monkeypatch.setattr(Refs, "append_reflog", fail_once)
        manager.update_profiles(["b"], add_tags=["x"])
        assert b"adopt edits by hand" in failed[0]
        shown = git("reflog", "--format=%gs", "-n", "2").splitlines()
        assert shown[1] == "tweakio: adopt edits by hand: b"
        assert (manager.get_profile("b").note, git("status", "--porcelain")) == ("by hand", "")


@pytest.mark.parametrize("digits", [40, 39, 12])
def test_a_revision_is_found_while_packs_are_merged(
    two: tuple[ProfileManager, ProfileManager],
    home: Path,
    digits: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The pack of a commit is listed, and is gone when it is opened."""
    other, _ = two
    for note in ("one", "two", "three"):
        other.update_profiles(["kept"], note=note)
    revision = other.history(limit=2)[1].revision[:digits]
    listed = PackedObjects._list
    packed: list[int] = []

    def pack_now(store: PackedObjects) -> None:
        listed(store)
        if not packed:
            packed.append(0)
            packed[0], _ = other.gc()

    monkeypatch.setattr(PackedObjects, "_list", pack_now)
    with ProfileManager(home) as late:
        assert late.restore("kept", revision).note == "two"
    assert packed[0] > 3


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="a kill -9")
@pytest.mark.parametrize("operation", ["select", "create", "delete"])
def test_git_cannot_commit_the_old_index_after_a_kill(
    two: tuple[ProfileManager, ProfileManager],
    operation: str,
    git: Callable[..., str],
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed after the commit point; a ``git commit`` runs while the next program heals."""
    script = f"""
import os, signal, sys
from tweakio import ProfileManager
from tweakio.store.checkout import Checkout
Checkout.finish = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
manager = ProfileManager({os.fspath(home)!r})
{{"select": lambda: manager.select_profile("kept"),
  "create": lambda: manager.create_profile("x", "custom"),
  "delete": lambda: manager.delete_profile("kept")}}[{operation!r}]()
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    tree = git("rev-parse", "HEAD^{tree}")
    took_place = Repository._took_place
    said: list[str] = []

    def commit_now(*arguments: Any) -> Any:
        found = took_place(*arguments)
        said.append(git("commit", "--allow-empty", "--no-verify", "-m", "x", check=False))
        return found

    monkeypatch.setattr(Repository, "_took_place", commit_now)
    with ProfileManager(home) as healer:
        names = [profile.id for profile in healer.list_profiles()]
    assert "index.lock" in said[0]
    assert git("rev-parse", "HEAD^{tree}") == tree
    assert git("status", "--porcelain") == ""
    assert names == {"select": ["kept"], "create": ["kept", "x"], "delete": []}[operation]


def test_who_waits_with_the_lock_for_a_hard_recovery_has_not_activated_yet(
    two: tuple[ProfileManager, ProfileManager], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = two
    refuse = first.locks.refuse_in_use

    def late(profile_id: str, *, own: bool = False) -> None:
        refuse(profile_id, own=own)
        second.locks.acquire(profile_id, 0)

    monkeypatch.setattr(first.locks, "refuse_in_use", late)
    assert first.recover_profile("kept", "hard").status == "inactive"
    assert "lock_pid" not in json.loads(first.layout.profile("kept").metadata.read_bytes())
    second.locks.release("kept")


def test_a_list_is_not_of_the_middle_of_a_change_that_has_just_ended(
    two: tuple[ProfileManager, ProfileManager], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The branch has moved, the files have not; they have when the list asks who is at work."""
    first, second = two
    first.create_profile("x", "custom")
    first.select_profile("kept")
    looked, ended = threading.Event(), threading.Event()
    seen: list[dict[str, str]] = []
    listing = first.repository.listing
    examine_all, finish = listing.examine_all, Checkout.finish

    def late(head: Any) -> Any:
        found = examine_all(head)
        looked.set()
        assert ended.wait(30)
        return found

    def read() -> None:
        seen.append({profile.id: profile.status for profile in first.list_profiles()})

    thread = threading.Thread(target=read)

    def read_first(*arguments: Any) -> None:
        thread.start()
        assert looked.wait(30)
        finish(*arguments)

    monkeypatch.setattr(listing, "examine_all", late)
    with monkeypatch.context() as patch:
        patch.setattr(Checkout, "finish", read_first)
        second.select_profile("x")
    ended.set()
    thread.join(30)
    assert seen == [{"kept": "inactive", "x": "active"}]


@pytest.mark.parametrize("held", [False, True], ids=["free", "held"])
@pytest.mark.parametrize("fails", [False, True], ids=["deleted", "stays"])
@pytest.mark.parametrize("operation", ["select_profile", "activate_profile"])
def test_a_profile_is_not_gone_before_its_deletion_has_taken_place(
    two: tuple[ProfileManager, ProfileManager],
    operation: str,
    fails: bool,
    held: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its directory is away, and the branch has not moved yet; who holds it deletes it, if any."""
    first, second = two
    came, moved, missed = threading.Event(), threading.Event(), threading.Event()
    prepare, acquire = Checkout.prepare, first.locks.acquire
    answer: list[str] = []

    def delete() -> None:
        with contextlib.suppress(StorageError):
            second.delete_profile("kept", force=True)

    def stop(*arguments: Any) -> Any:
        # Who asks makes a change as well, perhaps before this is taken away again.
        if threading.current_thread() is deleting:
            moved.set()
            assert missed.wait(30)
            if fails:
                raise OSError(errno.ENOSPC, "no space left")
        return prepare(*arguments)

    def ask() -> None:
        try:
            answer.append(getattr(first, operation)("kept").status)
        except ProfileNotFoundError:
            answer.append(first.history(limit=1)[0].operation)

    def late(*arguments: Any) -> Any:
        """The profile was there a moment ago."""
        came.set()
        assert held or moved.wait(30)
        try:
            return acquire(*arguments)
        except ProfileNotFoundError:
            missed.set()
            raise

    if held:
        second.activate_profile("kept")
    monkeypatch.setattr(first.locks, "acquire", late)
    asking, deleting = threading.Thread(target=ask), threading.Thread(target=delete)
    with monkeypatch.context() as patch:
        patch.setattr(Checkout, "prepare", stop)
        asking.start()
        assert came.wait(30)
        deleting.start()
        deleting.join(60)
    if held and fails:
        second.deactivate_profile()
    asking.join(60)
    assert answer == ["active" if fails else "delete"]
