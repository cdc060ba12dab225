"""HEAD, refs, reflogs and git's own locks, beside a real git."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tweakio.errors import RepositoryBusyError, RepositoryDamagedError
from tweakio.store import refs as refs_module
from tweakio.store.refs import (
    NO_COMMIT,
    GitLocks,
    Refs,
    is_abandoned,
    set_aside,
)
from tweakio.store.underway import under_way

from . import git

MAIN = "refs/heads/main"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "r"
    subprocess.run(["git", "init", "-q", "-b", "main", str(path)], check=True)
    (path / ".git" / "tmp").mkdir()
    (path / ".git" / "locks").mkdir()
    (path / ".git" / "locks" / "marker").write_text("tweakio 1234\n")
    return path


@pytest.fixture
def git_dir(path: Path) -> Path:
    return path / ".git"


@pytest.fixture
def refs(git_dir: Path) -> Refs:
    return Refs(git_dir, git_dir / "tmp")


@pytest.fixture
def locks(git_dir: Path) -> GitLocks:
    return GitLocks(git_dir, git_dir / "locks" / "marker")


def commit(path: Path, message: str = "m") -> str:
    git(path, "commit", "-q", "--allow-empty", "-m", message)
    return git(path, "rev-parse", "HEAD").strip()


def soon(seconds: float = 5.0) -> float:
    return time.monotonic() + seconds


# Reading


def test_unborn_branch(refs: Refs) -> None:
    assert refs.branch() == MAIN
    assert refs.head() == NO_COMMIT
    assert refs.resolve(MAIN) is None
    assert refs.names() == {}


@pytest.mark.parametrize("packed", [False, True])
def test_loose_and_packed(path: Path, refs: Refs, packed: bool) -> None:
    head = commit(path)
    git(path, "tag", "-a", "-m", "t", "annotated")
    git(path, "branch", "deep/er/branch")
    if packed:
        git(path, "pack-refs", "--all", "--prune")
        assert not (path / ".git" / MAIN).exists()
    assert refs.head() == refs.resolve(MAIN) == head
    expected = dict(reversed(line.split(" ")) for line in git(path, "show-ref").splitlines())
    assert refs.names() == expected


def test_loose_wins_over_packed(path: Path, refs: Refs) -> None:
    commit(path)
    git(path, "pack-refs", "--all", "--prune")
    head = commit(path)
    assert refs.head() == head
    assert refs.names()[MAIN] == head


def test_detached(path: Path, refs: Refs) -> None:
    head = commit(path)
    git(path, "checkout", "-q", "--detach")
    assert refs.head() == head
    with pytest.raises(RepositoryBusyError, match="detached") as caught:
        refs.branch()
    assert "switch main" in caught.value.hint


def test_symbolic_refs(path: Path, refs: Refs) -> None:
    head = commit(path)
    git(path, "symbolic-ref", "refs/heads/alias", MAIN)
    git(path, "symbolic-ref", "HEAD", "refs/heads/alias")
    assert refs.branch() == MAIN
    assert refs.head() == head
    git(path, "symbolic-ref", MAIN, "refs/heads/alias")
    with pytest.raises(RepositoryDamagedError, match="chain"):
        refs.head()
    with pytest.raises(RepositoryDamagedError, match="stands for none"):
        refs.branch()


@pytest.mark.parametrize(
    "content",
    [b"", b"garbage", b"\xff\xfe", bytes(41), b"ref: \n", b"ref: /etc/passwd\n", b"1" * 39],
)
def test_garbage(path: Path, refs: Refs, content: bytes) -> None:
    commit(path)
    (path / ".git" / MAIN).write_bytes(content)
    with pytest.raises(RepositoryDamagedError):
        refs.head()
    assert MAIN not in refs.names()
    (path / ".git" / "HEAD").write_bytes(content)
    with pytest.raises(RepositoryDamagedError):
        refs.head()
    with pytest.raises(RepositoryDamagedError):
        refs.branch()


@pytest.mark.parametrize("kind", ["missing", "directory", "fifo", "link"])
def test_strange_head(path: Path, refs: Refs, kind: str) -> None:
    head = path / ".git" / "HEAD"
    head.unlink()
    if kind == "directory":
        head.mkdir()
    elif kind == "fifo":
        os.mkfifo(head)
    elif kind == "link":
        head.symlink_to("refs/heads/main")
    with pytest.raises(RepositoryDamagedError, match="HEAD"):
        refs.branch()


def test_ref_that_is_a_directory_or_lies_below_a_file(path: Path, refs: Refs) -> None:
    head = commit(path)
    assert refs.resolve(f"{MAIN}/below") is None
    git(path, "pack-refs", "--all", "--prune")
    assert refs.head() == head
    (path / ".git" / MAIN).mkdir()
    with pytest.raises(RepositoryDamagedError):
        refs.head()


def test_reading_while_git_packs_refs(path: Path, refs: Refs) -> None:
    commit(path)
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            git(path, "pack-refs", "--all", "--prune")
            git(path, "commit", "-q", "--allow-empty", "-m", "x")

    thread = threading.Thread(target=churn)
    thread.start()
    ends = time.monotonic() + 1.0
    seen = set()
    while time.monotonic() < ends:
        seen.add(refs.head())
    stop.set()
    thread.join()
    assert NO_COMMIT not in seen
    assert len(seen) > 1


# Moving


def test_publish(path: Path, refs: Refs) -> None:
    first, second = commit(path), commit(path)
    refs.publish(MAIN, first)
    assert git(path, "rev-parse", "HEAD").strip() == first
    git(path, "pack-refs", "--all", "--prune")
    refs.publish(MAIN, second)
    assert git(path, "rev-parse", "HEAD").strip() == second
    assert os.listdir(path / ".git" / "tmp") == []


def line(old: str, new: str, when: int = 1) -> bytes:
    return f"{old} {new} A <a@b> {when} +0000\ttweakio: x\n".encode()


def test_reflog(path: Path, refs: Refs) -> None:
    assert list(refs.reflog()) == []
    one, two = commit(path, "1"), commit(path, "2")
    assert list(refs.reflog()) == [(one, two), (NO_COMMIT, one)]
    refs.publish(MAIN, one)
    for name in ("HEAD", MAIN):
        refs.append_reflog(name, line(two, one, 1_800_000_000))
    assert git(path, "reflog", "--format=%H %gs").splitlines()[0] == f"{one} tweakio: x"
    assert git(path, "rev-parse", "main@{1}").strip() == two
    assert list(refs.reflog(MAIN))[0] == (two, one)


def test_reflog_line_is_added_once(path: Path, refs: Refs) -> None:
    one, two = commit(path, "1"), commit(path, "2")
    file = path / ".git" / "logs" / "HEAD"
    for when in (5, 6, 7):
        refs.append_reflog("HEAD", line(two, one, when))
    assert len(file.read_bytes().splitlines()) == 3
    refs.append_reflog("HEAD", line(one, two))
    refs.append_reflog("HEAD", line(two, one))
    assert len(file.read_bytes().splitlines()) == 5


@pytest.mark.parametrize("cut", [1, 5, 40, 60, 100])
def test_torn_last_line_is_healed(path: Path, refs: Refs, cut: int) -> None:
    one, two = commit(path, "1"), commit(path, "2")
    file = path / ".git" / "logs" / "HEAD"
    before = file.read_bytes()
    added = line(two, one)
    torn = added[: len(added) - min(cut, len(added) - 1)]
    file.write_bytes(before + torn)
    refs.append_reflog("HEAD", added)
    assert file.read_bytes() == before + added
    assert list(refs.reflog()) == [(two, one), (one, two), (NO_COMMIT, one)]


def test_reflog_of_nothing_but_a_torn_line(refs: Refs, git_dir: Path) -> None:
    file = git_dir / "logs" / "HEAD"
    file.parent.mkdir(exist_ok=True)
    for torn in (b"", b"0000", b"x" * 9000):
        file.write_bytes(torn)
        refs.append_reflog("HEAD", line(NO_COMMIT, "1" * 40))
        assert file.read_bytes().endswith(line(NO_COMMIT, "1" * 40))
    file.unlink()
    file.parent.rmdir()
    refs.append_reflog("refs/heads/deep/branch", line(NO_COMMIT, "1" * 40))
    assert (git_dir / "logs/refs/heads/deep/branch").read_bytes() == line(NO_COMMIT, "1" * 40)


@pytest.mark.parametrize("torn", [b"", b"0123456789"])
def test_lines_that_a_power_cut_took_are_bridged(path: Path, refs: Refs, torn: bytes) -> None:
    one, two, three = (commit(path, text) for text in "123")
    file = path / ".git" / "logs" / "HEAD"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0] + torn)
    refs.append_reflog("HEAD", line(three, two))
    assert list(refs.reflog()) == [(three, two), (one, three), (NO_COMMIT, one)]
    assert git(path, "reflog", "--format=%gs").splitlines()[1] == "tweakio: lines were lost"
    assert git(path, "rev-parse", "HEAD@{2}").strip() == one


def test_damaged_reflog_lines_are_passed(path: Path, refs: Refs) -> None:
    one = commit(path, "1")
    with (path / ".git" / "logs" / "HEAD").open("ab") as file:
        file.write(b"\xff garbage\n\n" + b"z" * 81 + b"\n")
    assert list(refs.reflog()) == [(NO_COMMIT, one)]


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("MERGE_HEAD", "merge"), ("rebase-merge", "rebase"), ("rebase-apply", "rebase"),
        ("CHERRY_PICK_HEAD", "cherry-pick"), ("REVERT_HEAD", "revert"),
    ],
)  # fmt: skip
def test_operations_of_a_person(git_dir: Path, name: str, what: str) -> None:
    assert under_way(git_dir) is None
    (git_dir / name).mkdir()
    assert under_way(git_dir) == (what, f"{what} --abort")


# Git's locks


def names_of(git_dir: Path) -> list[str]:
    return sorted(str(path.relative_to(git_dir)) for path in git_dir.rglob("*.lock"))


ALL = ["HEAD.lock", "index.lock", "refs/heads/main.lock"]


def test_git_respects_them(path: Path, locks: GitLocks, git_dir: Path) -> None:
    head = commit(path)
    (path / "file").write_text("x")
    locks.acquire(MAIN, soon())
    assert names_of(git_dir) == ALL
    assert "index.lock" in git(path, "add", "file", check=False)
    assert "main.lock" in git(path, "update-ref", MAIN, head, "", check=False)
    assert "lock" in git(path, "commit", "--allow-empty", "-m", "x", check=False)
    assert "lock" in git(path, "checkout", "--detach", check=False)
    assert git(path, "rev-parse", "HEAD").strip() == head
    locks.release()
    locks.release()
    assert names_of(git_dir) == []
    assert commit(path) != head


def test_each_update_of_git_or_of_ours_is_kept(path: Path, locks: GitLocks, git_dir: Path) -> None:
    """Both write the same ref for a second; every one builds on the one before."""
    commit(path)
    refs = Refs(git_dir, git_dir / "tmp")
    tree = git(path, "rev-parse", "HEAD^{tree}").strip()
    loop = (
        "import subprocess, sys\n"
        "for number in range(12):\n"
        "    while subprocess.run(['git', '-C', sys.argv[1], 'commit', '-q', '--allow-empty',"
        " '-m', 'theirs'], capture_output=True).returncode: pass\n"
    )
    other = subprocess.Popen([sys.executable, "-c", loop, str(path)])
    for _ in range(12):
        locks.acquire(MAIN, soon(20))
        try:
            head = refs.head()
            new = git(path, "commit-tree", tree, "-p", head, "-m", "ours").strip()
            refs.publish(MAIN, new)
        finally:
            locks.release()
    assert other.wait(30) == 0
    subjects = git(path, "log", "--format=%s").split()
    assert (subjects.count("ours"), subjects.count("theirs")) == (12, 12)


def test_own_dead_locks_are_removed(path: Path, locks: GitLocks, git_dir: Path) -> None:
    commit(path)
    locks.acquire(MAIN, soon())
    locks._held.clear()  # the process dies
    fresh = GitLocks(git_dir, git_dir / "locks" / "marker")
    began = time.monotonic()
    fresh.acquire(MAIN, soon())
    assert time.monotonic() - began < 1
    fresh._held.clear()
    (git_dir / "index.lock").unlink()
    (git_dir / "index.lock").write_text("of git")
    fresh.remove_own_dead(MAIN)
    assert names_of(git_dir) == ["index.lock"]


def test_foreign_lock_is_waited_for(path: Path, locks: GitLocks, git_dir: Path) -> None:
    commit(path)
    (git_dir / "HEAD.lock").write_bytes(b"")
    timer = threading.Timer(0.4, (git_dir / "HEAD.lock").unlink)
    timer.start()
    began = time.monotonic()
    locks.acquire(MAIN, soon())
    assert 0.3 < time.monotonic() - began < 3
    locks.release()
    timer.join()


@pytest.mark.parametrize("name", ALL)
def test_foreign_lock_that_stays(path: Path, locks: GitLocks, git_dir: Path, name: str) -> None:
    commit(path)
    (git_dir / name).write_bytes(b"")
    with pytest.raises(RepositoryBusyError, match=name.rsplit("/", 1)[-1]) as caught:
        locks.acquire(MAIN, soon(0.3))
    assert caught.value.details["path"] == str(git_dir / name)
    assert names_of(git_dir) == [name]


def test_abandoned_lock_is_set_aside(path: Path, locks: GitLocks, git_dir: Path) -> None:
    commit(path)
    lock = git_dir / "index.lock"
    lock.write_bytes(b"half an index")
    os.utime(lock, (time.time() - 60,) * 2)
    locks.acquire(MAIN, soon())
    locks.release()
    (kept,) = (git_dir / "locks" / "abandoned").iterdir()
    assert kept.read_bytes() == b"half an index"
    assert kept.name.startswith("index.lock-")


def test_old_lock_of_a_living_git_is_not_abandoned(path: Path, git_dir: Path) -> None:
    lock = git_dir / "index.lock"
    lock.write_bytes(b"")
    assert not is_abandoned(lock, git_dir)
    os.utime(lock, (time.time() - 60,) * 2)
    assert is_abandoned(lock, git_dir)
    waiting = subprocess.Popen(
        ["git", "-C", str(path), "hash-object", "--stdin-paths"], stdin=subprocess.PIPE
    )
    try:
        deadline = soon()
        while is_abandoned(lock, git_dir) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not is_abandoned(lock, git_dir)
    finally:
        waiting.communicate()
    assert is_abandoned(lock, git_dir)
    assert not is_abandoned(git_dir / "no.lock", git_dir)


def test_git_elsewhere_does_not_count(git_dir: Path, tmp_path: Path) -> None:
    lock = git_dir / "index.lock"
    lock.write_bytes(b"")
    os.utime(lock, (time.time() - 60,) * 2)
    elsewhere = subprocess.Popen(
        ["git", "hash-object", "--stdin-paths"], stdin=subprocess.PIPE, cwd=tmp_path
    )
    try:
        assert is_abandoned(lock, git_dir)
    finally:
        elsewhere.communicate()


def test_set_aside_keeps_all(git_dir: Path) -> None:
    kept = []
    for number in range(3):
        (git_dir / "index.lock").write_text(str(number))
        kept.append(set_aside(git_dir / "index.lock", git_dir / "deep" / "shelf"))
    assert [path.read_text() for path in kept] == ["0", "1", "2"]


def test_without_hard_links(
    path: Path, locks: GitLocks, git_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(path)

    def no_links(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", no_links)
    locks.acquire(MAIN, soon())
    assert names_of(git_dir) == ALL
    assert locks.is_ours(git_dir / "index.lock")
    assert os.stat(git_dir / "index.lock").st_nlink == 1
    locks._held.clear()
    again = GitLocks(git_dir, git_dir / "locks" / "marker")
    again.acquire(MAIN, soon())  # the dead ones are known by their content
    again.release()
    assert names_of(git_dir) == []


def test_directory_of_the_branch_is_made_again(path: Path, locks: GitLocks, git_dir: Path) -> None:
    """``git pack-refs`` removes directories that it emptied."""
    commit(path)
    locks.acquire("refs/heads/deep/branch", soon())
    assert (git_dir / "refs/heads/deep/branch.lock").exists()
    locks.release()
    (git_dir / "locks" / "marker").unlink()
    with pytest.raises(FileNotFoundError):
        locks.acquire(MAIN, soon(0.1))
    assert names_of(git_dir) == []


def test_what_stands_in_the_way_of_a_lock(path: Path, locks: GitLocks, git_dir: Path) -> None:
    """A link or a FIFO is nobody's lock that could be read; it is waited for like any."""
    commit(path)
    for make in (os.mkfifo, lambda path: path.symlink_to("/etc/passwd"), os.mkdir):
        lock = git_dir / "index.lock"
        make(lock)
        began = time.monotonic()
        with pytest.raises(RepositoryBusyError):
            locks.acquire(MAIN, soon(0.3))
        assert time.monotonic() - began < 3
        lock.rmdir() if lock.is_dir() and not lock.is_symlink() else lock.unlink()


def test_poll_is_short() -> None:
    assert refs_module._LOCK_POLL <= 0.01
