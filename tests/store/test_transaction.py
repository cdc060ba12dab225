"""The one seam: old state or new state, whatever fails and whoever else is at work."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tweakio.errors import (
    ConcurrentChangeError,
    DiskFullError,
    FileAccessError,
    InvalidMetadataError,
    LockTimeoutError,
    ProfileNotFoundError,
    RepositoryBusyError,
    StorageError,
)
from tweakio.layout import Layout
from tweakio.store.journal import Journal
from tweakio.store.lockfile import RecordedLock
from tweakio.store.objects import ObjectWriter
from tweakio.store.repository import Repository
from tweakio.store.transaction import Transaction

from . import child, create, end, git, line_of, metadata, open_store


@pytest.fixture
def store(home: Path) -> Iterator[Repository]:
    repository = open_store(home)
    create(repository, "a", "b")
    yield repository
    repository.close()


@pytest.fixture
def profiles(home: Path) -> Path:
    return home / "profiles"


def set_note(repository: Repository, text: str, profile_id: str = "a") -> str | None:
    with repository.transaction("set", [profile_id]) as tx:
        tx.put_metadata(profile_id, {**tx.metadata(profile_id), "note": text})
    return tx.commit_id


def note(profiles: Path, profile_id: str = "a") -> str:
    return str(json.loads((profiles / profile_id / "metadata.json").read_bytes()).get("note", ""))


def head(profiles: Path) -> str:
    return git(profiles, "rev-parse", "HEAD").strip()


def assert_settled(profiles: Path) -> None:
    assert git(profiles, "status", "--porcelain") == ""
    assert git(profiles, "fsck", "--strict", "--no-dangling") == ""
    local = profiles / ".git" / "tweakio"
    assert not Journal.exists(Layout(profiles.parent))
    assert os.listdir(local / "staging") == []
    assert os.listdir(local / "tmp") == []
    assert list((profiles / ".git").rglob("*.lock")) in ([], [local / "locks" / "repository.lock"])
    reflog = git(profiles, "reflog", "main", "--format=%H").split()
    assert reflog == git(profiles, "rev-list", "HEAD").split()


def by_git(profiles: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A git command that may be refused."""
    return subprocess.run(
        ["git", "-C", str(profiles), *arguments], capture_output=True, text=True, check=False
    )


def by_hand(profiles: Path, name: str, content: bytes) -> str:
    """A commit of plain git."""
    (profiles / name).parent.mkdir(exist_ok=True)
    (profiles / name).write_bytes(content)
    git(profiles, "add", "-f", name)
    git(profiles, "-c", "core.hooksPath=/nowhere", "commit", "-q", "-m", "by hand")
    return head(profiles)


# What it makes


def test_message_and_parents(store: Repository, profiles: Path) -> None:
    before = head(profiles)
    with store.transaction("update", ["b", "a"], command="profile set") as tx:
        for name in ("b", "a"):
            tx.put_metadata(name, {**tx.metadata(name), "note": "n"})
        tx.summary = "set two"
        tx.add_trailer("Tweakio-More", "x")
    assert tx.commit_id == head(profiles)
    shown = git(profiles, "log", "-1", "--format=%P%n%an <%ae>%n%cn%n%B").splitlines()
    assert shown[:-1] if shown[-1] == "" else shown == [
        before, "Tester <tester@example.com>", "Tester", "set two", "", "Tweakio-Op: update",
        "Tweakio-Profile: a", "Tweakio-Profile: b", "Tweakio-Command: profile set",
        "Tweakio-More: x",
    ]  # fmt: skip
    assert git(profiles, "reflog", "-1", "--format=%gs").strip() == "tweakio: set two"
    assert_settled(profiles)


def test_index_has_the_stat_data_of_the_files(
    store: Repository, profiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git's plumbing, which does not refresh the index, finds nothing to compare either."""
    real = os.replace

    def later(source: str, target: str) -> None:
        if str(target).endswith("a/metadata.json"):
            time.sleep(1.1)  # most gits compare whole seconds
        real(source, target)

    monkeypatch.setattr(os, "replace", later)
    set_note(store, "new")
    create(store, "c")
    assert git(profiles, "diff-files") == ""


def test_edit_just_before_the_file_is_put_in_place(
    store: Repository, profiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It came after the commit point, and is adopted by the next change."""
    path = profiles / "a" / "metadata.json"
    edited = path.read_bytes().replace(b'"inactive"', b'"inactive",\n  "note": "by hand"')
    publish = store.refs.put_in_place

    def publish_and_edit(branch: str) -> None:
        publish(branch)
        path.write_bytes(edited)

    with monkeypatch.context() as patch:
        patch.setattr(store.refs, "put_in_place", publish_and_edit)
        set_note(store, "ours")
    assert path.read_bytes() == edited
    set_note(store, "x", "b")
    with store.transaction("x", ["a"]) as tx:
        assert tx.metadata("a")["note"] == "by hand"
    assert_settled(profiles)


def test_undisturbed_waits_and_keeps_others_away(store: Repository) -> None:
    lock = RecordedLock(store.layout.locks / "repository.lock")
    lock.acquire(0)
    entered, left = threading.Event(), threading.Event()

    def look() -> None:
        with store.undisturbed():
            entered.set()
            left.wait(10)

    thread = threading.Thread(target=look)
    thread.start()
    assert not entered.wait(0.2)
    lock.release()
    assert entered.wait(5)
    with pytest.raises(LockTimeoutError):
        lock.acquire(0)
    left.set()
    thread.join(5)


def test_nothing_to_change(store: Repository, profiles: Path) -> None:
    before = head(profiles)
    with store.transaction("set", ["a"]) as tx:
        pass
    assert tx.commit_id is None
    assert set_note(store, "") is not None
    assert set_note(store, "") is None
    with store.transaction("set", ["a"]) as tx:
        tx.record_always = True
    assert git(profiles, "rev-list", "--count", f"{before}..HEAD").strip() == "2"
    assert_settled(profiles)


def test_what_is_too_large_to_be_remembered(store: Repository, profiles: Path) -> None:
    """It is checked out while its pack is not yet at its place."""
    large = json.dumps({"schema_version": 1, "generator": "test", "x": "y" * 50_000}) + "\n"
    with store.transaction("set", ["a"]) as tx:
        tx.put("a", "fingerprint.json", large.encode())
    assert (profiles / "a" / "fingerprint.json").read_text() == large
    assert_settled(profiles)


def test_what_it_sees(store: Repository) -> None:
    with store.transaction("x", ["a"]) as tx:
        assert tx.profile_ids() == ["a", "b"]
        assert tx.exists("a")
        assert not tx.exists("c")
        assert not tx.touches("a")
        assert not tx.has_changes()
        with pytest.raises(ProfileNotFoundError):
            tx.metadata("c")
        tx.put_metadata("c", json.loads(metadata("c")))
        assert tx.exists("c")
        assert tx.touches("c")
        assert tx.metadata("c")["profile_id"] == "c"
        tx.remove("c")
        tx.remove("a")
        assert not tx.exists("a")
        assert tx.touches("a")
        with pytest.raises(ProfileNotFoundError):
            tx.metadata("a")
        with pytest.raises(InvalidMetadataError):
            tx.put_metadata("b", {"profile_id": "b"})
        tx.discard()
        raise_later = tx
    assert raise_later.commit_id is not None


def test_exception_in_the_block(store: Repository, profiles: Path) -> None:
    before = head(profiles)
    staged = None
    with pytest.raises(ZeroDivisionError), store.transaction("x", ["a"]) as tx:
        tx.put_metadata("a", {**tx.metadata("a"), "note": "lost"})
        staged = tx.stage("s")
        (staged / "file").touch()
        tx.move(staged, profiles / "s")
        raise ZeroDivisionError
    assert head(profiles) == before
    assert note(profiles) == ""
    assert not (profiles / "s").exists()
    assert_settled(profiles)
    assert set_note(store, "works") is not None


def test_nested_is_refused(store: Repository, profiles: Path) -> None:
    with store.transaction("x", ["a"]) as tx:
        with pytest.raises(RuntimeError, match="inside another"), store.transaction("y"):
            pass
        with pytest.raises(RuntimeError), store.exclusive():
            pass
        tx.put_metadata("a", {**tx.metadata("a"), "note": "kept"})
    assert note(profiles) == "kept"


def test_removing_files(store: Repository, profiles: Path) -> None:
    with store.transaction("x", ["a"]) as tx:
        tx.put("a", "fingerprint.json", None)
    assert git(profiles, "ls-files").split() == [
        ".gitattributes", ".gitignore", "a/metadata.json", "b/fingerprint.json", "b/metadata.json"
    ]  # fmt: skip
    with store.transaction("x", ["a"]) as tx:
        tx.put("a", "metadata.json", None)
    assert "a/" not in git(profiles, "ls-files")
    assert (profiles / "a" / "session.json").exists()
    assert_settled(profiles)


def test_keep_and_purge(store: Repository, profiles: Path) -> None:
    with store.transaction("x", ["a", "b"]) as tx:
        whole = tx.keep(store.trash, "a", "deleted", None, profiles / "a")
        tx.remove("a")
        parts = {"session.json": profiles / "b" / "session.json"}
        some = tx.keep(store.trash, "b", "reset", None, parts)
        tx.purge_after(store.trash.root / some)
    assert [entry.name for entry in store.trash.entries()] == [whole]
    assert not (profiles / "a").exists()
    assert not (profiles / "b" / "session.json").exists()
    trailers = git(
        profiles, "log", "-1", "--format=%(trailers:key=Tweakio-Trash,valueonly)"
    ).split()
    assert trailers == [whole, some]
    assert_settled(profiles)


def test_something_in_the_way_of_a_move(store: Repository, profiles: Path) -> None:
    before = head(profiles)
    with pytest.raises(StorageError, match="in the way"), store.transaction("x", ["a"]) as tx:
        one = tx.stage("one")
        tx.move(profiles / "b", profiles / "c")
        tx.move(one, profiles / "a")
        tx.put_metadata("a", {**tx.metadata("a"), "note": "lost"})
    assert head(profiles) == before
    assert (profiles / "b" / "session.json").read_text() == "b"
    assert not (profiles / "c").exists()
    assert_settled(profiles)


# Beside plain git


def test_commit_of_another_profile_meanwhile(store: Repository, profiles: Path) -> None:
    with store.transaction("x", ["a"]) as tx:
        tx.put_metadata("a", {**tx.metadata("a"), "note": "ours"})
        theirs = by_hand(profiles, "b/metadata.json", metadata("b", note="theirs"))
        new = by_hand(profiles, "c/metadata.json", metadata("c"))
    assert git(profiles, "rev-list", "HEAD").split()[:3] == [tx.commit_id, new, theirs]
    assert (note(profiles), note(profiles, "b")) == ("ours", "theirs")
    assert json.loads(git(profiles, "show", "HEAD:b/metadata.json"))["note"] == "theirs"
    assert git(profiles, "ls-tree", "--name-only", "HEAD", "c").strip() == "c"
    assert_settled(profiles)


@pytest.mark.parametrize("what", ["a/metadata.json", "a/fingerprint.json"])
def test_commit_of_the_same_profile_meanwhile(store: Repository, profiles: Path, what: str) -> None:
    content = metadata("a", note="theirs") if "meta" in what else b'{"x": 1}\n'
    with pytest.raises(ConcurrentChangeError, match="'a'") as caught:
        with store.transaction("x", ["a"]) as tx:
            tx.put_metadata("a", {**tx.metadata("a"), "note": "ours"})
            theirs = by_hand(profiles, what, content)
    assert caught.value.details["profile_id"] == "a"
    assert head(profiles) == theirs
    assert (profiles / what).read_bytes() == content
    assert_settled(profiles)
    assert set_note(store, "again") is not None


def test_another_branch_meanwhile(store: Repository, profiles: Path) -> None:
    """The change belongs to what is checked out when it is committed."""
    before = head(profiles)
    with store.transaction("x", ["a"]) as tx:
        tx.put_metadata("a", {**tx.metadata("a"), "note": "ours"})
        git(profiles, "switch", "-q", "-c", "other")
    assert git(profiles, "rev-parse", "main").strip() == before
    assert git(profiles, "rev-parse", "other").strip() == head(profiles) != before
    assert git(profiles, "status", "--porcelain") == ""


def test_another_branch_at_the_last_moment(
    store: Repository, profiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = head(profiles)
    real = store.git_locks.acquire

    def acquire(branch: str, deadline: float) -> None:
        git(profiles, "switch", "-q", "-c", "other")
        real(branch, deadline)

    with monkeypatch.context() as patch:
        patch.setattr(store.git_locks, "acquire", acquire)
        with pytest.raises(ConcurrentChangeError, match="branch"):
            set_note(store, "lost")
    assert head(profiles) == before
    assert note(profiles) == ""
    assert set_note(store, "on other") is not None


def test_detached(store: Repository, profiles: Path) -> None:
    git(profiles, "checkout", "-q", "--detach")
    with pytest.raises(RepositoryBusyError, match="detached"):
        set_note(store, "x")
    git(profiles, "switch", "-q", "main")
    assert_settled(profiles)


def test_merge_under_way(store: Repository, profiles: Path) -> None:
    (profiles / ".git" / "MERGE_HEAD").write_text(head(profiles) + "\n")
    with pytest.raises(RepositoryBusyError, match="merge") as caught:
        set_note(store, "x")
    assert "merge --abort" in caught.value.hint
    (profiles / ".git" / "MERGE_HEAD").unlink()
    assert note(profiles) == ""
    assert_settled(profiles)


def test_conflicts(store: Repository, profiles: Path) -> None:
    git(profiles, "switch", "-q", "-c", "other")
    by_hand(profiles, "b/metadata.json", metadata("b", note="1"))
    git(profiles, "switch", "-q", "main")
    by_hand(profiles, "b/metadata.json", metadata("b", note="2"))
    git(profiles, "merge", "-q", "other", check=False)
    (profiles / ".git" / "MERGE_HEAD").unlink()
    before = head(profiles)
    with pytest.raises(RepositoryBusyError, match="conflicts"):
        set_note(store, "x")
    assert head(profiles) == before


def test_lock_of_git_that_stays(store: Repository, profiles: Path) -> None:
    lock = profiles / ".git" / "index.lock"
    lock.touch()
    store.timeout = 0.3
    with pytest.raises(RepositoryBusyError, match=r"index\.lock"):
        set_note(store, "x")
    lock.unlink()
    assert note(profiles) == ""
    assert_settled(profiles)


def test_staged_changes_of_a_person_stay(store: Repository, profiles: Path) -> None:
    (profiles / "README").write_text("mine")
    git(profiles, "add", "README")
    set_note(store, "x")
    assert git(profiles, "status", "--porcelain") == "A  README\n"


@pytest.mark.parametrize("option", ["--index-version=4", "--split-index"])
def test_index_that_we_cannot_read(store: Repository, profiles: Path, option: str) -> None:
    git(profiles, "update-index", *option.split("="))
    set_note(store, "x")
    assert_settled(profiles)


# Failures of the system

AFTER = ["metadata.json", "index"]


def failing(
    monkeypatch: pytest.MonkeyPatch, name: str, code: int, when: object, *, times: int = 10**6
) -> list[int]:
    """Let a system call fail on paths that end as said."""
    left = [times]
    real = getattr(os, name)

    def fails(*arguments: object, **named: object) -> object:
        # Of "open" the path is first, and only writing counts.
        flags = arguments[1] if name == "open" else os.O_WRONLY
        reads = isinstance(flags, int) and not flags & os.O_WRONLY
        target = "" if reads else str(arguments[0 if name == "open" else -1])
        if left[0] and callable(when) and when(target):
            left[0] -= 1
            raise OSError(code, os.strerror(code), target)
        return real(*arguments, **named)

    monkeypatch.setattr(os, name, fails)
    return left


@pytest.mark.parametrize(
    ("call", "pattern"),
    [("write", ""), ("fsync", ""), ("open", "journal.json"), ("replace", "refs/heads/main"),
     ("replace", ".pack"), ("replace", ".idx")],
)  # fmt: skip
@pytest.mark.parametrize(
    ("code", "error"),
    [(errno.ENOSPC, DiskFullError), (errno.EACCES, FileAccessError), (errno.EIO, StorageError)],
)
def test_failure_before_the_commit_point(
    store: Repository, profiles: Path, monkeypatch: pytest.MonkeyPatch,
    call: str, pattern: str, code: int, error: type[StorageError],
) -> None:  # fmt: skip
    before = head(profiles)
    with monkeypatch.context() as patch, pytest.raises(error):
        with store.transaction("x", ["a"]) as tx:
            tx.put_metadata("a", {**tx.metadata("a"), "note": "lost"})
            staged = tx.stage("c")
            tx.move(staged, profiles / "c")
            failing(patch, call, code, lambda target: target.endswith(pattern))
    assert head(profiles) == before
    assert note(profiles) == ""
    assert not (profiles / "c").exists()
    with store.transaction("x"):
        pass
    assert_settled(profiles)
    assert set_note(store, "works") is not None
    assert_settled(profiles)


def test_failure_to_go_back(
    store: Repository, profiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the journal stays, and the next opener does it."""
    before = head(profiles)
    with monkeypatch.context() as patch, pytest.raises(StorageError):
        with store.transaction("x", ["a"]) as tx:
            tx.put_metadata("a", {**tx.metadata("a"), "note": "lost"})
            tx.move(profiles / "b", profiles / "c")
            failing(patch, "replace", errno.EIO, lambda target: target.endswith("heads/main"))
            failing(patch, "rename", errno.EIO, lambda target: target.endswith("/b"))
    assert (profiles / "c").exists()
    assert Journal.exists(Layout(profiles.parent))
    open_store(profiles.parent).close()
    assert head(profiles) == before
    assert (profiles / "b" / "session.json").read_text() == "b"
    assert_settled(profiles)


def test_failure_after_the_commit_point(
    store: Repository, profiles: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """It took place; the next opener ends it."""
    with monkeypatch.context() as patch:
        failing(patch, "replace", errno.EIO, lambda target: target.endswith("/a/metadata.json"))
        commit = set_note(store, "done")
    assert commit == head(profiles)
    assert "committed" in caplog.text
    assert Journal.exists(Layout(profiles.parent))
    # Until the files are as HEAD is, plain git is kept away from them.
    assert by_git(profiles, "commit", "--no-verify", "--allow-empty", "-m", "x").returncode
    assert head(profiles) == commit
    open_store(profiles.parent).close()
    assert note(profiles) == "done"
    assert_settled(profiles)


def test_index_that_cannot_be_written_before_the_commit_point(
    store: Repository, profiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = head(profiles)
    with monkeypatch.context() as patch, pytest.raises(DiskFullError):
        failing(patch, "replace", errno.ENOSPC, lambda target: target.endswith("/.git/index"))
        set_note(store, "lost")
    assert head(profiles) == before
    assert note(profiles) == ""
    assert_settled(profiles)


def test_index_that_cannot_be_taken_back(
    store: Repository, profiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then git is kept from committing it, until the next opener has done so."""
    before = head(profiles)
    with monkeypatch.context() as patch, pytest.raises(StorageError):
        written = []

        def fails(target: str) -> bool:
            if target.endswith("/.git/index"):
                written.append(target)
            return target.endswith("heads/main") or len(written) > 1

        failing(patch, "replace", errno.EIO, fails)
        set_note(store, "lost")
    assert by_git(profiles, "commit", "--no-verify", "--allow-empty", "-m", "x").returncode
    open_store(profiles.parent).close()
    assert head(profiles) == before
    assert note(profiles) == ""
    assert_settled(profiles)


def test_index_is_never_older_than_head(
    store: Repository, profiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a git commit that reads both between two of our steps takes the change back."""
    seen = []
    real = os.replace

    def replace(source: str, target: str) -> None:
        real(source, target)
        if str(target).endswith("refs/heads/main"):
            seen.append(git(profiles, "diff-index", "--cached", "HEAD"))

    monkeypatch.setattr(os, "replace", replace)
    create(store, "c")
    set_note(store, "new")
    with store.transaction("delete", ["b"]) as tx:
        tx.keep(store.trash, "b", "deleted", None, store.layout.profile("b").directory)
        tx.remove("b")
    assert seen == ["", "", ""]
    assert_settled(profiles)


def change_behind_git(store: Repository, profiles: Path) -> None:
    """What is left when a git commit reads the index before a change and locks it after."""
    index = profiles / ".git" / "index"
    old = index.read_bytes()
    set_note(store, "ours")
    create(store, "c")
    with store.transaction("delete", ["b"]) as tx:
        tx.keep(store.trash, "b", "deleted", None, store.layout.profile("b").directory)
        tx.remove("b")
    index.write_bytes(old)


def test_outdated_index_is_not_committed(store: Repository, profiles: Path) -> None:
    change_behind_git(store, profiles)
    before = head(profiles)
    refused = by_git(profiles, "commit", "--allow-empty", "-m", "x")
    assert refused.returncode == 1
    assert "the index is older than history" in refused.stderr
    assert "hint: git reset" in refused.stderr
    assert head(profiles) == before
    git(profiles, "reset", "-q")
    assert_settled(profiles)


def test_outdated_index_is_brought_up_to_date(store: Repository, profiles: Path) -> None:
    change_behind_git(store, profiles)
    create(store, "d")
    assert_settled(profiles)
    assert note(profiles) == "ours"
    assert not (profiles / "b").exists()


def test_what_a_person_has_staged_stays(store: Repository, profiles: Path) -> None:
    (profiles / "notes.txt").write_text("x")
    git(profiles, "add", "-f", "notes.txt")
    path = profiles / "b" / "metadata.json"
    path.write_bytes(path.read_bytes().replace(b'"inactive"', b'"broken"'))
    git(profiles, "add", "b")
    staged = git(profiles, "diff-index", "--cached", "HEAD")
    assert staged.count("\n") == 2
    set_note(store, "new")
    assert git(profiles, "diff-index", "--cached", "HEAD") == staged


def test_sync_of_the_commit_point_fails(
    store: Repository, profiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The branch has moved: that it is not yet certain to survive a power cut is not a failure."""
    real = os.open

    def fails(path: object, *arguments: object, **named: object) -> int:
        if str(path).endswith("refs/heads") and head(profiles) != before:
            raise OSError(errno.EIO, "cannot sync")
        return real(path, *arguments, **named)  # type: ignore[arg-type]

    before = head(profiles)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fails)
        assert set_note(store, "done") is not None
    assert head(profiles) != before
    assert note(profiles) == "done"
    assert_settled(profiles)


def test_interrupt_after_the_commit_point(
    store: Repository, profiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = store.checkout.finish
    calls = []

    def finish(*arguments: object, **named: object) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        real(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(store.checkout, "finish", finish)
    with pytest.raises(KeyboardInterrupt):
        set_note(store, "done")
    assert note(profiles) == "done"
    assert_settled(profiles)


KILL = """
repository = open_store(Path(sys.argv[1]))
point, call, left = sys.argv[2], sys.argv[3], int(sys.argv[4])
real = getattr(os, call)
def dies(*arguments, **named):
    global left
    reads = call == "open" and not arguments[1] & os.O_WRONLY
    if not reads and str(arguments[0 if call == "open" else -1]).endswith(point):
        left -= 1
        if not left:
            os.kill(os.getpid(), 9)
    return real(*arguments, **named)
with repository.transaction("x", ["a", "b"]) as tx:
    tx.put_metadata("a", {**tx.metadata("a"), "note": "new"})
    tx.keep(repository.trash, "b", "deleted", None, repository.layout.profile("b").directory)
    tx.remove("b")
    setattr(os, call, dies)
"""

POINTS = [
    ("replace", ".idx", 1, "old"), ("open", "journal.json", 1, "old"),
    ("rename", "/data", 1, "old"), ("replace", ".git/index", 1, "old"),
    ("replace", "heads/main", 1, "old"), ("replace", "a/metadata.json", 1, "new"),
    ("open", "journal.json", 2, "new"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "point", "time", "expected"), POINTS)
def test_killed(
    store: Repository, profiles: Path, call: str, point: str, time: int, expected: str
) -> None:
    data = (profiles / "b" / "browser_profile" / "data").read_bytes()
    before = head(profiles)
    assert end(child(KILL, profiles.parent, point, call, str(time))) == -9
    open_store(profiles.parent).close()
    if expected == "old":
        assert (head(profiles), note(profiles)) == (before, "")
        assert (profiles / "b" / "browser_profile" / "data").read_bytes() == data
    else:
        assert (head(profiles) != before, note(profiles)) == (True, "new")
        (entry,) = store.trash.entries()
        assert (entry.path / "data" / "browser_profile" / "data").read_bytes() == data
    with store.transaction("sweep"):
        pass
    assert_settled(profiles)


def test_commit_by_hand_between_the_crash_and_the_next_opener(
    store: Repository, profiles: Path
) -> None:
    """A person's commit stands on top of ours; what was left to do is done for it."""
    assert end(child(KILL, profiles.parent, "a/metadata.json", "replace", "1")) == -9
    for lock in list((profiles / ".git").glob("*.lock")) + list(
        (profiles / ".git/refs").rglob("*.lock")
    ):
        lock.unlink()
    ours = head(profiles)
    tree = git(profiles, "rev-parse", "HEAD^{tree}").strip()
    theirs = git(profiles, "commit-tree", tree, "-p", ours, "-m", "by hand").strip()
    git(profiles, "update-ref", "refs/heads/main", theirs)
    open_store(profiles.parent).close()
    assert head(profiles) == theirs
    assert note(profiles) == "new"
    assert git(profiles, "status", "--porcelain") == ""


# Several at once


def test_two_threads(store: Repository, profiles: Path) -> None:
    failed: list[BaseException] = []

    def work(profile_id: str) -> None:
        try:
            for number in range(15):
                assert set_note(store, str(number), profile_id) is not None
        except BaseException as error:
            failed.append(error)

    before = head(profiles)
    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert git(profiles, "rev-list", "--count", f"{before}..HEAD").strip() == "30"
    assert (note(profiles), note(profiles, "b")) == ("14", "14")
    assert_settled(profiles)


WRITER = """
repository = open_store(Path(sys.argv[1]))
ends = time.monotonic() + float(sys.argv[2])
number = 0
while time.monotonic() < ends:
    number += 1
    with repository.transaction("set", ["a", "b"]) as tx:
        for name in ("a", "b"):
            tx.put_metadata(name, {**tx.metadata(name), "note": f"{number:06}" * 100})
repository.close()
print(number, flush=True)
"""


def test_reader_never_sees_half_of_a_change(store: Repository, profiles: Path) -> None:
    writer = child(WRITER, profiles.parent, 2.0)
    while note(profiles) == "" and writer.poll() is None:
        time.sleep(0.01)
    reader = Repository(store.layout)
    seen = set()
    reads = 0
    while writer.poll() is None:
        root = reader.head().root
        notes = [
            json.loads(reader.file_at(root, name, "metadata.json") or b"")["note"]
            for name in ("a", "b")
        ]
        assert notes[0] == notes[1]
        seen.add(notes[0])
        for name in ("a", "b"):
            # The file itself is one or the other, never a part of it.
            value = json.loads((profiles / name / "metadata.json").read_bytes())
            assert len(set(map("".join, zip(*[iter(value.get("note", ""))] * 6, strict=True)))) <= 1
        reads += 1
    made = int(line_of(writer))
    end(writer)
    reader.close()
    assert reads > 10
    assert len(seen) > min(3, made)
    assert_settled(profiles)


def test_other_process_is_waited_for(store: Repository, profiles: Path) -> None:
    held = child(
        "from tweakio.store.lockfile import RecordedLock\n"
        "lock = RecordedLock(Path(sys.argv[1]))\nlock.acquire(5)\nprint('held', flush=True)\n"
        "sys.stdin.readline()\nlock.release()",
        store.layout.locks / "repository.lock",
    )
    assert line_of(held) == "held"
    with pytest.raises(LockTimeoutError, match=f"process {held.pid}"):
        with store.transaction("x", timeout=0.1):
            pass
    store.settle()  # does not wait
    timer = threading.Timer(0.3, end, [held])
    timer.start()
    began = time.monotonic()
    assert set_note(store, "x") is not None
    assert time.monotonic() - began > 0.1
    timer.join()


def test_exclusive(store: Repository) -> None:
    with store.exclusive(), pytest.raises(LockTimeoutError):
        RecordedLock(store.layout.locks / "repository.lock").acquire(0)
    RecordedLock(store.layout.locks / "repository.lock").acquire(0)


def test_unreconciled(store: Repository, profiles: Path) -> None:
    """For the doctor: nothing is adopted or rescued first, and HEAD may be mended before."""
    (profiles / "stray").mkdir()
    (profiles / "stray" / "session.json").touch()
    order = []
    with store.transaction_unreconciled("x", "", first=lambda: order.append("first")) as tx:
        order.append("block")
        tx.record_always = True
    assert order == ["first", "block"]
    assert (profiles / "stray").exists()


def test_objects_that_nothing_refers_to_are_no_harm(store: Repository, profiles: Path) -> None:
    writer = ObjectWriter(store.layout.git_dir / "objects", store.layout.temporary)
    writer.add(b"blob", b"garbage of a crash")
    writer.flush()
    set_note(store, "x")
    assert git(profiles, "fsck", "--strict", "--no-dangling") == ""


def test_without_any_commit(home: Path) -> None:
    """A repository whose branch was never born, such as a person's ``git checkout --orphan``."""
    repository = open_store(home)
    git(home / "profiles", "checkout", "-q", "--orphan", "new")
    git(home / "profiles", "rm", "-q", "--cached", "-r", ".")
    with repository.transaction("x") as tx:
        assert tx.profile_ids() == []
        tx.put("a", "metadata.json", metadata("a"))
    assert git(home / "profiles", "rev-list", "--count", "HEAD").strip() == "1"
    repository.close()


def test_transaction_is_made_by_the_repository(store: Repository) -> None:
    transaction = Transaction(store, "x", "")
    assert transaction.commit() is None


def test_plain_git_commits_in_a_loop_beside_us(store: Repository, profiles: Path) -> None:
    stop = threading.Event()
    theirs = [0]

    def loop() -> None:
        command = [
            "git",
            "-C",
            str(profiles),
            "commit",
            "-q",
            "--no-verify",
            "--allow-empty",
            "-m",
            "t",
        ]
        while not stop.is_set():
            theirs[0] += not subprocess.run(command, capture_output=True).returncode

    before = head(profiles)
    thread = threading.Thread(target=loop)
    thread.start()
    try:
        for number in range(20):
            set_note(store, str(number))
    finally:
        stop.set()
        thread.join()
    subjects = git(profiles, "log", "--format=%s", f"{before}..HEAD").split()
    assert (subjects.count("set"), subjects.count("t")) == (20, theirs[0])
    assert note(profiles) == "19"
    # The last git commit may have written back an index that it had read before our last change,
    # which without its hook nobody keeps it from: the next change mends that.
    set_note(store, "20")
    assert git(profiles, "status", "--porcelain") == ""


def test_a_file_at_the_root_and_a_merge_with_both_parents(manager, git):
    manager.create_profile("a", "custom")
    base = git("rev-parse", "HEAD").strip()
    git("switch", "-qc", "side")
    manager.create_profile("b", "custom")
    side = git("rev-parse", "HEAD").strip()
    git("switch", "-q", "main")
    with manager.repository.transaction("merge") as change:
        change.put_root(".age-recipients", b"# nobody\n")
        assert change.root_file(".age-recipients") == b"# nobody\n"
        assert change.root_file("README") is None
        change.add_parent(side)
        change.add_note("- a line for people")
        change.summary = "merge side"
    assert git("rev-parse", "HEAD^1", "HEAD^2").split() == [base, side]
    assert git("log", "-1", "--format=%B").strip() == (
        "merge side\n\n- a line for people\n\nTweakio-Op: merge"
    )
    assert git("show", "HEAD:.age-recipients") == "# nobody\n"
    assert not git("status", "--porcelain")
    git("fsck", "--strict", "--no-dangling")
    with manager.repository.transaction("less") as change:
        change.put_root(".age-recipients", None)
    assert ".age-recipients" not in git("ls-files")
    assert not (manager.layout.profiles / ".age-recipients").exists()
    assert not git("status", "--porcelain")
