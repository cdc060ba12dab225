"""Memory: what somebody else's history has in it is bounded before it is built.

Measured in a process of its own, by the highest resident size that the system saw.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_helpers import environment

from tweakio import ProfileManager

if sys.platform != "linux":
    pytest.skip("the highest resident size is read from /proc", allow_module_level=True)

SCRIPT = """
import sys
from tweakio.cli import main
code = main(sys.argv[2:])
with open("/proc/self/status") as file:
    size = next(line.split()[1] for line in file if line.startswith("VmHWM"))
with open(sys.argv[1], "w") as file:
    print(size, file=file)
sys.exit(code)
"""


def git(directory: Path, *arguments: str, data: bytes | None = None) -> str:
    done = subprocess.run(
        ["git", "-c", "user.name=x", "-c", "user.email=x@x", "-C", directory, *arguments],
        input=data, capture_output=True, check=True, env=environment(directory.parent),
    )  # fmt: skip
    return done.stdout.decode().strip()


def run(home: Path, *arguments: str) -> tuple[int, int, str]:
    """The exit code, the megabytes that it took, and what it said."""
    note = home.parent / "size"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, note, "--home", home, *arguments],
        capture_output=True, check=False, env=environment(home.parent),
    )  # fmt: skip
    return done.returncode, int(note.read_text()) >> 10, done.stderr.decode()


def many_entries(repository: Path) -> str:
    """A commit with 300,000 files beside the profiles; a packed tree of 9 MB."""
    blob = git(repository, "rev-parse", "HEAD:a/metadata.json")
    names = git(repository, "ls-tree", "HEAD") + "\n"
    names += "".join(f"100644 blob {blob}\tz{number:06}\n" for number in range(300_000))
    tree = git(repository, "mktree", data=names.encode())
    return git(repository, "commit-tree", "-p", "HEAD", "-m", "many", tree)


def long_message(repository: Path) -> str:
    """A commit whose message has 24 MB."""
    tree, parent = git(repository, "rev-parse", "HEAD^{tree}", "HEAD").split()
    person = "x <x@x> 1700000000 +0000"
    head = f"tree {tree}\nparent {parent}\nauthor {person}\ncommitter {person}\n\n"
    body = head.encode() + (b"x" * 1023 + b"\n") * (24 << 10)
    return git(repository, "hash-object", "-t", "commit", "-w", "--stdin", data=body)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    with ProfileManager(tmp_path / "home") as manager:
        manager.create_profile("a", "custom")
    return tmp_path / "home"


@pytest.mark.parametrize("make", [many_entries, long_message])
def test_a_remote_with_it_takes_little_memory(
    home: Path, tmp_path: Path, make: Callable[[Path], str]
) -> None:
    remote = tmp_path / "remote.git"
    subprocess.run(
        ["git", "clone", "-q", "--bare", home / "profiles", remote],
        check=True, env=environment(tmp_path),
    )  # fmt: skip
    git(remote, "update-ref", "refs/heads/main", make(remote))
    git(remote, "repack", "-adq")
    assert run(home, "repo", "remote", "add", "origin", str(remote))[0] == 0
    for command in ("pull", "sync"):
        code, size, said = run(home, "repo", command)
        assert code == 41, said
        assert "of more than 8 MB" in said
        assert size < 100
    code, size, said = run(tmp_path / "clone", "repo", "clone", str(remote))
    assert code == 41, said
    assert size < 100


def test_a_tree_that_plain_git_brought_is_refused_and_nothing_is_repaired(home: Path) -> None:
    repository = home / "profiles"
    commit = many_entries(repository)
    git(repository, "update-ref", "refs/heads/main", commit)
    git(repository, "repack", "-adq")
    for command in ("profile list", "repo doctor --fix"):
        code, size, said = run(home, *command.split())
        assert code == 41, said
        assert "more entries than a profile repository can have" in said
        assert size < 150
    assert git(repository, "rev-parse", "HEAD") == commit
    git(repository, "fsck", "--strict")


def test_a_message_that_plain_git_brought_is_read_without_all_of_it(home: Path) -> None:
    repository = home / "profiles"
    commit = long_message(repository)
    git(repository, "update-ref", "refs/heads/main", commit)
    git(repository, "repack", "-adq")
    for command in ("profile list", "profile show HEAD", "repo doctor --fix"):
        code, size, said = run(home, *command.split())
        assert code == 0, said
        assert size < 160
    assert git(repository, "rev-parse", "HEAD") == commit
    code, size, said = run(home, "profile", "set", "a", "--note", "x")
    assert code == 0, said
    assert size < 160
    assert run(home, "profile", "undo")[0] == 0
