"""A repository is made whole or not at all; what is somebody else's is not touched."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tweakio.errors import (
    FileAccessError,
    ForeignRepositoryError,
    HomeNotFoundError,
    NewerFormatError,
    RepositoryDamagedError,
)
from tweakio.layout import Layout
from tweakio.store import hooks, initialise, rules
from tweakio.store.hooks import foreign_hooks, install_hooks
from tweakio.store.initialise import (
    complete_local,
    make_git_directory,
    open_repository,
    profile_like_directories,
    refuse_foreign,
)
from tweakio.store.journal import Journal

from . import child, create, end, git, line_of, open_store


def modes(path: Path) -> dict[str, int]:
    return {
        os.path.relpath(os.path.join(directory, name), path): stat.S_IMODE(
            os.lstat(os.path.join(directory, name)).st_mode
        )
        for directory, names, files in os.walk(path)
        for name in (*names, *files)
    }


def test_new_repository(home: Path) -> None:
    assert open_repository(Layout(home), create=False) is None
    assert not home.exists()
    repository = open_store(home)
    profiles = home / "profiles"
    assert git(profiles, "status", "--porcelain") == ""
    assert git(profiles, "fsck", "--strict") == ""
    assert git(profiles, "log", "--format=%s").strip() == "init: new profile repository"
    assert git(profiles, "ls-files").split() == [".gitattributes", ".gitignore"]
    assert git(profiles, "symbolic-ref", "HEAD").strip() == "refs/heads/main"
    assert git(profiles, "config", "gc.auto").strip() == "0"
    assert len(git(profiles, "reflog").splitlines()) == 1
    assert not Journal.exists(repository.layout)
    assert sorted(os.listdir(profiles)) == [".git", ".gitattributes", ".gitignore"]
    repository.close()


@pytest.mark.parametrize("umask", [0, 0o077, 0o277])
def test_permissions(home: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        repository = open_store(home)
        create(repository, "a")
        repository.close()
    finally:
        os.umask(before)
    found = modes(home)
    assert found["profiles"] == 0o700
    for name, mode in found.items():
        if name.startswith("profiles/a/"):
            continue  # made by the test itself
        path = home / name
        if path.is_dir():
            assert mode == 0o700, name
        elif "/objects/" in name:
            # A .keep is another name of the marker, but for that of the first commit.
            assert mode == 0o444 or (path.suffix == ".keep" and mode == 0o600), name
        elif "/hooks/" in name:
            assert mode == 0o755, name
        else:
            assert mode == 0o600, name


def test_ignored_and_tracked(home: Path) -> None:
    repository = open_store(home)
    create(repository, "a")
    repository.close()
    profiles = home / "profiles"
    for name in ("cookies", "cache/x", "browser_profile/metadata.json", ".lock"):
        (profiles / "a" / name).parent.mkdir(exist_ok=True)
        (profiles / "a" / name).write_text("x")
    assert git(profiles, "status", "--porcelain") == ""
    tracked = git(profiles, "ls-files", "a").split()
    assert tracked == ["a/fingerprint.json", "a/metadata.json"]
    (profiles / "a" / "metadata.json").write_bytes(b"{}\r\n")
    git(profiles, "-c", "core.autocrlf=true", "add", "a")
    assert git(profiles, "cat-file", "-s", ":a/metadata.json").strip() == "4"


def test_clone_is_completed(home: Path, tmp_path: Path) -> None:
    repository = open_store(home)
    create(repository, "a")
    repository.close()
    other = tmp_path / "other"
    other.mkdir()
    subprocess.run(
        ["git", "clone", "-q", str(home / "profiles"), str(other / "profiles")], check=True
    )
    copy = open_store(other)
    assert (other / "profiles/.git/hooks/pre-commit").exists()
    assert git(other / "profiles", "config", "tweakio.format").strip() == "1"
    assert create(copy, "b") is not None
    assert git(other / "profiles", "status", "--porcelain") == ""
    assert (
        copy.layout.locks.joinpath("marker").read_text()
        != (repository.layout.locks / "marker").read_text()
    )
    copy.close()


def test_completing_is_repeatable(home: Path) -> None:
    open_store(home).close()
    layout = Layout(home)
    marker = layout.locks / "marker"
    before = marker.read_bytes()
    config = (layout.git_dir / "config").read_bytes()
    complete_local(layout)
    assert marker.read_bytes() == before
    marker.write_bytes(b"")  # what a power cut left
    complete_local(layout)
    assert marker.read_bytes()
    shutil.rmtree(layout.local)
    complete_local(layout)
    assert (layout.git_dir / "config").read_bytes() == config
    open_store(home).close()


CREATE = """
print("ready", flush=True)
sys.stdin.readline()
repository = open_store(Path(sys.argv[1]))
create(repository, sys.argv[2])
repository.close()
"""


def test_many_at_once(home: Path) -> None:
    """Six processes open a home that does not exist; one repository comes of it."""
    processes = [child(CREATE, home, f"p{number}") for number in range(6)]
    for process in processes:
        assert line_of(process) == "ready"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [end(process) for process in processes] == [0] * 6
    profiles = home / "profiles"
    assert git(profiles, "rev-list", "--count", "HEAD").strip() == "7"
    assert git(profiles, "status", "--porcelain") == ""
    assert not [name for name in os.listdir(profiles) if name.startswith(".git.new")]


def test_killed_while_it_was_made(home: Path) -> None:
    """What a dead process was building goes; what a living one builds stays."""
    profiles = home / "profiles"
    profiles.mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True
    )
    dead = profiles / f".git.new-{int(done.stdout)}-abcd"
    live = profiles / f".git.new-{os.getpid()}-abcd"
    strange = profiles / ".git.new-x"
    for path in (dead, live, strange):
        path.mkdir()
        (path / "HEAD").touch()
    open_store(home).close()
    assert not dead.exists()
    assert live.exists()
    assert strange.exists()


def test_failure_while_it_is_made(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(
            initialise, "install_hooks", lambda path: (_ for _ in ()).throw(OSError(28, "full"))
        )
        with pytest.raises(OSError, match="full"):
            open_store(home)
    assert not home.exists()
    open_store(home).close()


def test_interrupted_before_the_first_files(home: Path) -> None:
    layout = Layout(home)
    layout.profiles.mkdir(parents=True)
    make_git_directory(layout.git_dir)
    assert Journal.exists(layout)
    open_store(home).close()
    assert git(layout.profiles, "status", "--porcelain") == ""
    assert (layout.profiles / ".gitignore").read_text() == rules.IGNORE


# Refusals


def test_profiles_without_their_repository(home: Path) -> None:
    repository = open_store(home)
    create(repository, "a")
    repository.close()
    shutil.rmtree(home / "profiles" / ".git")
    for make in (True, False):
        with pytest.raises(RepositoryDamagedError, match="'a'") as caught:
            open_repository(Layout(home), create=make)
        assert "doctor --fix" in caught.value.hint
    assert not (home / "profiles" / ".git").exists()


def test_profile_like(home: Path) -> None:
    layout = Layout(home)
    assert profile_like_directories(layout) == []
    layout.profiles.mkdir(parents=True)
    for name in ("a", "b", "c", "notes", ".git.new-1"):
        (layout.profiles / name).mkdir()
    (layout.profiles / "a" / "metadata.json").symlink_to("nowhere")
    (layout.profiles / "b" / "browser_profile").mkdir()
    (layout.profiles / "c" / "session.json").touch()
    (layout.profiles / ".git.new-1" / "session.json").touch()
    (layout.profiles / "link").symlink_to(layout.profiles / "a")
    (layout.profiles / "session.json").touch()
    assert profile_like_directories(layout) == ["a", "b", "c"]


def test_newer_format(home: Path) -> None:
    open_store(home).close()
    git(home / "profiles", "config", "tweakio.format", "2")
    with pytest.raises(NewerFormatError, match="format 2"):
        open_store(home)


def test_newer_format_of_a_clone(home: Path, tmp_path: Path) -> None:
    open_store(home).close()
    profiles = home / "profiles"
    text = (profiles / ".gitignore").read_text().replace("format 1", "format 7")
    (profiles / ".gitignore").write_text(text)
    git(profiles, "-c", "core.hooksPath=/nowhere", "commit", "-q", "-am", "newer")
    (tmp_path / "o").mkdir()
    subprocess.run(["git", "clone", "-q", str(profiles), str(tmp_path / "o/profiles")], check=True)
    with pytest.raises(NewerFormatError, match="format 7"):
        open_store(tmp_path / "o")


@pytest.mark.parametrize(
    "text",
    ["", "[core]\n\tformat = 1\n", "[tweakio]\n\tformat = x\n", "[tweakio]\n[core]\n\tformat=1\n"],
)
def test_config_that_does_not_say_ours(home: Path, text: str) -> None:
    git_dir = home / "profiles" / ".git"
    (home / "profiles").mkdir(parents=True)
    subprocess.run(["git", "init", "-q", str(home / "profiles")], check=True)
    with (git_dir / "config").open("a") as file:
        file.write(text)
    with pytest.raises(ForeignRepositoryError):
        refuse_foreign(Layout(home))


def test_config_in_other_spellings(home: Path) -> None:
    open_store(home).close()
    layout = Layout(home)
    shutil.rmtree(layout.local)
    (layout.git_dir / "config").write_text("[Tweakio]\n  FORMAT=1\n[core]\n bare=false\n")
    refuse_foreign(layout)


def test_profiles_is_a_link_or_a_file(home: Path, tmp_path: Path) -> None:
    home.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (home / "profiles").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ForeignRepositoryError):
        open_store(home)
    assert os.listdir(tmp_path / "elsewhere") == []
    (home / "profiles").unlink()
    (home / "profiles").touch()
    with pytest.raises((ForeignRepositoryError, HomeNotFoundError)):
        open_store(home)


def test_denied(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: object, *arguments: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", denied)
        with pytest.raises(FileAccessError, match="Permission denied"):
            open_store(home)


# Hooks


def test_hooks(home: Path) -> None:
    open_store(home).close()
    git_dir = home / "profiles" / ".git"
    hook = git_dir / "hooks" / "pre-commit"
    ours = hook.read_bytes()
    assert os.access(hook, os.X_OK)
    assert os.fsencode(sys.executable) in ours
    assert foreign_hooks(git_dir) == []
    hook.write_bytes(ours.replace(b"tweakio hook", b"tweakio hook of an older version", 1))
    assert install_hooks(git_dir) == []
    assert hook.read_bytes() == ours
    hook.write_bytes(b"#!/bin/sh\n")
    assert install_hooks(git_dir) == ["pre-commit"]
    assert foreign_hooks(git_dir) == ["pre-commit"]
    assert hook.read_bytes() == b"#!/bin/sh\n"
    hook.unlink()
    hook.symlink_to("/bin/true")
    assert install_hooks(git_dir) == ["pre-commit"]
    assert foreign_hooks(git_dir) == ["pre-commit"]
    hook.unlink()
    shutil.rmtree(git_dir / "hooks")
    assert foreign_hooks(git_dir) == []
    assert install_hooks(git_dir) == []
    assert hook.read_bytes() == ours


def test_python_with_a_quote_in_its_path(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_store(home).close()
    monkeypatch.setattr(sys, "executable", "/it's/python")
    install_hooks(home / "profiles" / ".git")
    text = (home / "profiles/.git/hooks/pre-commit").read_text()
    line = next(line for line in text.splitlines() if "it'" in line)
    script = f'{line}\nprintf "%s\\n" "$python"\ndone'
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True)
    assert "/it's/python" in done.stdout.splitlines()


def test_without_hook_sources(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "_hook_sources", lambda: ())
    open_store(home).close()
    assert os.listdir(home / "profiles/.git/hooks") == []
