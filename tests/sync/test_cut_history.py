"""Homes whose history is cut or has gaps, beside a sound remote: shallow clones, lost objects.

With the git that is installed and, as where there is none, with dulwich.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.gits import GITS, run
from tweakio import ProfileManager, RemoteError, RepositoryDamagedError, TweakioError
from tweakio.doctor import examine
from tweakio.layout import Layout
from tweakio.store.repository import Repository
from tweakio.sync.configuration import read_remotes
from tweakio.sync.healing import heal
from tweakio.sync.transport import GitTransport, Transport
from tweakio.sync.wire import DulwichTransport

GIT = GITS[0]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with some history, all of it pushed to a bare repository."""
    base = tmp_path_factory.mktemp("cut")
    run(GIT, base, "init", "-q", "--bare", "-b", "main", "remote.git")
    with ProfileManager(base / "home") as manager:
        manager.create_profiles(["x", "y", "z"], "custom", tags=["t"])
        for number in range(6):
            manager.update_profiles(["x"], note=f"note {number}")
        manager.remotes.add("origin", os.fspath(base / "remote.git"))
        manager.remotes.push()
    return base


@pytest.fixture
def base(template: Path, tmp_path: Path) -> Path:
    for name in ("home", "remote.git"):
        shutil.copytree(template / name, tmp_path / name, symlinks=True)
    point_at(tmp_path / "home", tmp_path / "remote.git")
    return tmp_path


@pytest.fixture(params=["git", "dulwich"])
def transport(request: pytest.FixtureRequest) -> Transport:
    return GitTransport() if request.param == "git" else DulwichTransport()


@pytest.fixture
def other(base: Path) -> Iterator[ProfileManager]:
    """Another machine with the whole history."""
    shutil.copytree(base / "home", base / "other", symlinks=True)
    with ProfileManager(base / "other") as manager:
        yield manager


def point_at(home: Path, remote: Path | str) -> None:
    run(GIT, home / "profiles", "config", "remote.origin.url", os.fspath(remote))


def at(home: Path, transport: Transport) -> ProfileManager:
    manager = ProfileManager(home)
    manager.remotes._transport = transport
    return manager


def profiles(home: Path) -> Path:
    return home / "profiles"


def git(home: Path, *arguments: str, data: bytes | None = None) -> str:
    return run(GIT, profiles(home), *arguments, data=data)


def shallow(base: Path, depth: int = 1) -> Path:
    """A home that is a shallow clone by git."""
    home = base / "shallow"
    home.mkdir()
    url = (base / "remote.git").as_uri()
    run(GIT, home, "clone", "-q", "--depth", str(depth), url, "profiles")
    return home


def lose(home: Path, *revisions: str) -> list[str]:
    """Take objects away; their ids."""
    objects = profiles(home) / ".git" / "objects"
    packs = [path.read_bytes() for path in sorted((objects / "pack").glob("*.pack"))]
    for path in (objects / "pack").iterdir():
        path.unlink()
    for pack in packs:
        git(home, "unpack-objects", "-q", data=pack)
    names = [git(home, "rev-parse", revision) for revision in revisions]
    for name in names:
        (objects / name[:2] / name[2:]).unlink()
    return names


def cut(home: Path, *revisions: str) -> Path:
    """What the doctor leaves after a loss."""
    lose(home, *revisions)
    examine(Layout(home), fix=True, cut=True)
    assert (profiles(home) / ".git" / "shallow").is_file()
    return home


def count(home: Path, revision: str = "HEAD") -> int:
    return int(git(home, "rev-list", "--count", revision))


def is_whole(home: Path, commits: int, *, keeps: bool = False) -> None:
    """History is as long as it was, git finds nothing wrong, and nothing of a cut is left.

    ``keeps``: but for names and marks that keep what git would keep without them.
    """
    git_dir = profiles(home) / ".git"
    assert not (git_dir / "shallow").exists()
    assert not (git_dir / "shallow.lock").exists()
    assert count(home) >= commits
    assert git(home, "fsck", "--strict", "--no-dangling") == ""
    assert keeps or git(home, "for-each-ref", "refs/tweakio") == ""
    marks = (git_dir / "objects" / "pack").glob("pack-*.keep")
    assert keeps or not [path for path in marks if b"fetched" in path.read_bytes()]
    assert not (git_dir / "tweakio" / "incoming").exists()
    assert [item for item in examine(Layout(home)).findings if item.severity != "note"] == []


# A remote that has it


@pytest.mark.parametrize("depth", [1, 3])
def test_a_shallow_clone_pulls_pushes_and_becomes_whole(
    base: Path,
    other: ProfileManager,
    transport: Transport,
    depth: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    home = shallow(base, depth)
    other.update_profiles(["x"], note="from the other")
    other.remotes.push()
    with at(home, transport) as manager:
        manager.update_profiles(["y"], note="from here")
        begin = git(home, "rev-list", "--max-parents=0", "HEAD")
        pulled = manager.remotes.pull()
        assert pulled.changed == ("x",)
        assert f"the history before {begin[:12]} is here again, from 'origin'" in caplog.text
        assert manager.remotes.push().commit
        assert manager.get_profile("x").note == "from the other"
        assert manager.remotes.sync().pushed.commit is None
        manager.undo()
    is_whole(home, 12)
    other.remotes.pull()
    assert other.get_profile("y").note == "from here"


LOSSES = {
    "commit": ("HEAD~3",),
    "commits": ("HEAD~2", "HEAD~4", "HEAD~5"),
    "tree": ("HEAD~3^{tree}",),
    "blob": ("HEAD~3:x/metadata.json",),
    "first commit": ("HEAD~7",),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_what_the_doctor_cut_once_comes_back_with_a_pull(
    base: Path, other: ProfileManager, transport: Transport, loss: str
) -> None:
    home = cut(base / "home", *LOSSES[loss])
    other.update_profiles(["x"], note="from the other")
    other.remotes.push()
    with at(home, transport) as manager:
        manager.update_profiles(["y"], note="from here")
        done = manager.remotes.sync()
        assert done.pulled.changed == ("x",)
        assert done.pushed.commit
    is_whole(home, 11)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_that_nobody_saw_yet_is_made_good_by_a_pull(
    base: Path, other: ProfileManager, transport: Transport, loss: str
) -> None:
    home = base / "home"
    lose(home, *LOSSES[loss])
    other.update_profiles(["x"], note="from the other")
    other.remotes.push()
    with at(home, transport) as manager:
        assert manager.remotes.sync().pulled.changed == ("x",)
        assert manager.get_profile("x").note == "from the other"
    if loss.startswith("commit"):
        is_whole(home, 10)


def test_the_newest_commit_comes_back(base: Path, transport: Transport) -> None:
    """Of a repository whose HEAD cannot be read: what the doctor asks before it cuts anything."""
    home = base / "home"
    lost = lose(home, "HEAD", "HEAD~2^{tree}")
    repository = Repository(Layout(home))
    try:
        healed = heal(repository, transport, lost)
    finally:
        repository.close()
    assert healed.remotes == ("origin",)
    assert healed.found == tuple(sorted(lost))
    assert healed.notes == ()
    is_whole(home, 8)


def test_all_objects_come_back(base: Path, transport: Transport) -> None:
    home = base / "home"
    (profiles(home) / ".git" / "objects" / "pack").rename(base / "lost")
    (profiles(home) / ".git" / "objects" / "pack").mkdir()
    repository = Repository(Layout(home))
    try:
        healed = heal(repository, transport, (repository.refs.head(),))
    finally:
        repository.close()
    assert healed.remotes == ("origin",)
    is_whole(home, 8)


def test_nothing_is_asked_where_nothing_is_lost(base: Path) -> None:
    class Nobody:
        def __getattr__(self, name: str) -> None:
            raise AssertionError(name)

    repository = Repository(Layout(base / "home"))
    try:
        assert heal(repository, Nobody()) == ((), (), (), ())  # type: ignore[arg-type]
    finally:
        repository.close()


def test_every_remote_is_asked_until_one_has_it(base: Path, transport: Transport) -> None:
    home = cut(base / "home", "HEAD~3")
    point_at(home, base / "nowhere.git")
    git(home, "config", "remote.second.url", os.fspath(base / "remote.git"))
    git(home, "config", "remote.wrong.url", "ext::sh -c 'touch ran'")
    repository = Repository(Layout(home))
    try:
        healed = heal(repository, transport)
    finally:
        repository.close()
    assert healed.remotes == ("second",)
    assert len(healed.joined) == 1
    assert len(healed.notes) == 1
    assert healed.notes[0].startswith("'origin': cannot reach")
    is_whole(home, 8)


# One that has not, or cannot be used


def spied(tmp_path: Path, before: str = "") -> tuple[GitTransport, Callable[[], list[str]]]:
    """A git whose commands are written down; what is to be done before each, for a shell."""
    seen = tmp_path / "seen"
    program = tmp_path / "spied"
    program.write_text(f'#!/bin/sh\necho "$*" >> "{seen}"\n{before}\nexec {GIT} "$@"\n')
    program.chmod(0o755)

    def commands() -> list[str]:
        found = [line for line in seen.read_text().splitlines() if " fetch " in line]
        seen.unlink()
        return found

    return GitTransport(os.fspath(program)), commands


def test_above_a_cut_that_the_remote_has_as_well(
    base: Path, other: ProfileManager, tmp_path: Path
) -> None:
    """Both were cut at one place, such as two shallow clones: all goes on above it, and what the
    remote has not is not fetched again and again."""
    run(
        GIT,
        base,
        "clone",
        "-q",
        "--bare",
        "--depth",
        "3",
        (base / "remote.git").as_uri(),
        "less.git",
    )
    home = base / "less"
    home.mkdir()
    run(GIT, home, "clone", "-q", (base / "less.git").as_uri(), "profiles")
    assert count(home) == 3
    transport, commands = spied(tmp_path)
    with at(home, transport) as manager:
        manager.update_profiles(["y"], note="from here")
        assert manager.remotes.sync().pushed.commit
        commands()
        git(base / "other", "config", "remote.origin.url", os.fspath(base / "less.git"))
        other.update_profiles(["x"], note="from the other")
        other.remotes.sync()
        assert manager.remotes.pull().changed == ("x",)
        assert manager.get_profile("x").note == "from the other"
        for _ in range(2):
            commands()
            assert manager.remotes.pull().commit is None
    assert git(home, "fsck", "--strict") == ""


def test_a_history_that_the_remote_never_had(base: Path, transport: Transport) -> None:
    """What is lost was not pushed: the error names the side where it is missing."""
    home = base / "home"
    with at(home, transport) as manager:
        for number in range(4):
            manager.update_profiles(["y"], note=f"not pushed {number}")
    cut(home, "HEAD~2")
    begin = (profiles(home) / ".git" / "shallow").read_text()[:12]
    head = git(home, "rev-parse", "HEAD")
    with at(home, transport) as manager:
        for act in (manager.remotes.pull, manager.remotes.sync):
            with pytest.raises(RemoteError) as caught:
                act()
            assert f"the history here is cut short before {begin}" in caught.value.message
            assert "repo clone URL" in caught.value.hint
        with pytest.raises(TweakioError):
            manager.remotes.push()
    assert git(home, "rev-parse", "HEAD") == head
    assert git(home, "fsck", "--strict", "--no-dangling") == ""


def test_a_cut_history_into_an_empty_remote(base: Path, transport: Transport) -> None:
    home = cut(base / "home", "HEAD~3")
    run(GIT, base, "init", "-q", "--bare", "-b", "main", "empty.git")
    point_at(home, base / "empty.git")
    git(home, "update-ref", "-d", "refs/remotes/origin/main")
    with at(home, transport) as manager:
        with pytest.raises(RemoteError) as caught:
            manager.remotes.push()
        assert "the history here is cut short" in caught.value.message
    assert run(GIT, base / "empty.git", "for-each-ref") == ""


def test_an_unreachable_remote_is_a_note(base: Path, transport: Transport) -> None:
    home = cut(base / "home", "HEAD~3")
    before = (profiles(home) / ".git" / "shallow").read_bytes()
    point_at(home, base / "nowhere.git")
    repository = Repository(Layout(home))
    try:
        healed = heal(repository, transport)
    finally:
        repository.close()
    assert healed.remotes == healed.joined == ()
    assert len(healed.notes) == 1
    assert "cannot reach" in healed.notes[0]
    assert (profiles(home) / ".git" / "shallow").read_bytes() == before
    with at(home, transport) as manager, pytest.raises(RemoteError, match="cannot reach"):
        manager.remotes.pull()


def test_a_remote_that_hangs_is_given_up(base: Path, tmp_path: Path) -> None:
    home = cut(base / "home", "HEAD~3")
    transport, _ = spied(tmp_path, 'case $* in *" fetch "*) sleep 60 & wait;; esac')
    repository = Repository(Layout(home))
    began = time.monotonic()
    try:
        healed = heal(repository, transport, seconds=1)
    finally:
        repository.close()
    assert time.monotonic() - began < 8
    assert healed.remotes == ()
    assert "waited 1 seconds for " in healed.notes[0]


def test_what_git_refuses_is_not_brought_back(base: Path, other: ProfileManager) -> None:
    """Below the cut the remote has an object that no git makes: a pull goes on above it."""
    sender = base / "other"
    tree = body_of(git(sender, "ls-tree", "HEAD").replace("\t.gitignore", "\t.git"))
    bad = git(sender, "hash-object", "-t", "tree", "-w", "--literally", "--stdin", data=tree)
    parent = git(sender, "commit-tree", "-m", "bad", "-p", "HEAD", bad)
    good = git(sender, "commit-tree", "-m", "good", "-p", parent, "HEAD^{tree}")
    git(sender, "push", "-q", os.fspath(base / "remote.git"), f"+{good}:refs/heads/main")
    home = shallow(base, 1)
    git(sender, "reset", "-q", "--hard", good)
    other.update_profiles(["x"], note="from the other")
    git(sender, "push", "-q", os.fspath(base / "remote.git"), "main")
    with at(home, GitTransport()) as manager:
        assert manager.remotes.pull().changed == ("x",)
        assert manager.get_profile("x").note == "from the other"
    assert (profiles(home) / ".git" / "shallow").exists()
    kinds = git(home, "cat-file", "--batch-all-objects", "--batch-check")
    assert bad not in kinds


def body_of(listed: str) -> bytes:
    """The body of a tree by what ``git ls-tree`` prints."""
    body = b""
    for line in listed.splitlines():
        what, _, name = line.partition("\t")
        mode, _, blob = what.split()
        body += f"{mode.lstrip('0')} {name}\0".encode() + bytes.fromhex(blob)
    return body


# The local side is named


def test_the_side_where_something_is_missing_is_named(
    base: Path, other: ProfileManager, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a remote that helps it is the repository here that is damaged, not the remote."""
    home = base / "home"
    with at(home, transport) as manager:
        for number in range(3):
            manager.update_profiles(["y"], note=f"not pushed {number}")
    (lost,) = lose(home, "HEAD~1")
    other.update_profiles(["x"], note="from the other")
    other.remotes.push()
    with at(home, transport) as manager, pytest.raises(RepositoryDamagedError) as caught:
        manager.remotes.pull()
    assert lost[:12] in caught.value.message
    assert "remote" not in caught.value.message


# The doctor asks the remotes before it cuts


def codes(manager: ProfileManager, *, fix: bool = True) -> dict[str, bool]:
    found = manager.doctor(fix=fix).findings
    return {item.code: item.fixed for item in found if item.severity != "note"}


@pytest.mark.parametrize("loss", [*LOSSES, "HEAD", "everything"])
def test_the_doctor_brings_back_what_a_remote_has(base: Path, loss: str) -> None:
    """Nobody is asked whether history may be given up, since none of it is."""
    home = base / "home"
    before = git(home, "rev-list", "HEAD")
    if loss == "everything":
        shutil.rmtree(profiles(home) / ".git" / "objects" / "pack")
    else:
        lose(home, *LOSSES.get(loss, (loss,)))
    with ProfileManager(home) as manager:
        assert not any(codes(manager, fix=False).values())
        fixed = codes(manager)
        assert fixed["history-fetched"]
        assert all(fixed.values()), fixed
        assert codes(manager) == {}
        assert manager.get_profile("x").note == "note 5"
    assert git(home, "rev-list", "HEAD") == before
    is_whole(home, 8)


def test_the_doctor_undoes_a_cut(base: Path) -> None:
    home = cut(base / "home", "HEAD~3")
    with ProfileManager(home) as manager:
        assert codes(manager) == {"history-fetched": True}
    is_whole(home, 8)


def test_the_doctor_notes_a_remote_that_it_cannot_reach(base: Path) -> None:
    home = base / "home"
    lose(home, "HEAD~3")
    point_at(home, base / "nowhere.git")
    with ProfileManager(home) as manager:
        report = manager.doctor(fix=True)
        notes = [item.message for item in report.findings if item.code == "not-fetched"]
        assert len(notes) == 1
        assert "'origin': cannot reach" in notes[0]
        assert not codes(manager)["old-history-damaged"]
    assert not (profiles(home) / ".git" / "shallow").exists()


def test_without_remotes_the_doctor_says_nothing_of_them(base: Path) -> None:
    home = base / "home"
    lose(home, "HEAD~3")
    git(home, "remote", "remove", "origin")
    with ProfileManager(home) as manager:
        found = {item.code for item in manager.doctor(fix=True).findings}
    assert not found & {"not-fetched", "history-fetched"}


# In the middle of it


def test_a_git_that_holds_the_lock_of_shallow_is_not_disturbed(base: Path) -> None:
    home = cut(base / "home", "HEAD~3")
    lock = profiles(home) / ".git" / "shallow.lock"
    lock.write_bytes(b"git's")
    with at(home, GitTransport()) as manager:
        manager.remotes.pull()
        assert lock.read_bytes() == b"git's"
        assert (profiles(home) / ".git" / "shallow").exists()
        lock.unlink()
        manager.remotes.pull()
    is_whole(home, 8)


KILLED = """
import os, signal, sys
from pathlib import Path
from tweakio import durable
from tweakio.layout import Layout
from tweakio.store.repository import Repository
from tweakio.sync.healing import heal
from tweakio.sync.transport import GitTransport

count = int(sys.argv[2])
def dying(function):
    def call(*arguments, **options):
        global count
        count -= 1
        if count < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return call
for name in ("move", "create", "remove", "fsync_directory"):
    setattr(durable, name, dying(getattr(durable, name)))
heal(Repository(Layout(Path(sys.argv[1]))), GitTransport())
"""


@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL")
def test_killed_at_any_step(base: Path) -> None:
    """Before each step that changes something: git finds a sound repository, cut or whole."""
    cut(base / "home", "HEAD~3")
    step, code, cuts = 8, -9, set()
    while code and step < 90:
        home = base / f"killed {step}"
        shutil.copytree(base / "home", home, symlinks=True)
        done = subprocess.run([sys.executable, "-c", KILLED, home, str(step)], check=False)
        code = done.returncode
        (profiles(home) / ".git" / "shallow.lock").unlink(missing_ok=True)
        assert git(home, "fsck", "--strict", "--no-dangling") == ""
        cuts.add((profiles(home) / ".git" / "shallow").exists())
        with at(home, GitTransport()) as manager:
            manager.remotes.pull()
        is_whole(home, 8, keeps=True)
        step += 2
    assert cuts == {True, False}
    assert step > 12


def test_addresses_are_those_of_the_configuration(base: Path) -> None:
    assert read_remotes(Layout(base / "home")) == {"origin": os.fspath(base / "remote.git")}


def test_quiet(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A sound repository is told nothing, and one that was healed is told once."""
    caplog.set_level(logging.INFO, "tweakio.sync")
    with at(base / "home", GitTransport()) as manager:
        manager.remotes.pull()
    assert "again" not in caplog.text
