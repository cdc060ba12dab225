"""A home and a remote whose branches have different names."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
from cli_helpers import Cli

BIN = {"git": {}, "dulwich": {"PATH": "/nonexistent"}}


@pytest.mark.parametrize("by", BIN)
@pytest.mark.parametrize("what", ["push", "pull", "sync"])
def test_two_names_are_not_two_histories(tmp_path: Path, what: str, by: str) -> None:
    remote = tmp_path / "remote"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "master", remote], check=True)
    (tmp_path / "one").mkdir()
    one = Cli(tmp_path / "one")
    one.create("a")
    one.ok("repo", "remote", "add", "origin", str(remote))
    # A name that nothing has is no other branch.
    one.ok("repo", "push", **BIN[by])
    git = ["git", "-C", str(remote)]
    subprocess.run([*git, "branch", "-m", "main", "master"], check=True)
    subprocess.run([*git, "symbolic-ref", "HEAD", "refs/heads/master"], check=True)
    (one.profiles / ".git" / "refs" / "remotes" / "origin" / "main").unlink()
    one.ok("profile", "set", "a", "--note", "x")
    done = one.run("repo", what, **BIN[by])
    assert done.code == 39
    assert "'origin' has the branch 'master', and this home is on 'main'" in done.err
    there = subprocess.run([*git, "branch"], capture_output=True, text=True, check=True).stdout
    assert there.split() == ["*", "master"]
    hint = done.err.split("hint: run '")[1].split("'\n")[0]
    subprocess.run(shlex.split(hint), check=True)
    one.ok("repo", "sync", **BIN[by])
    there = subprocess.run([*git, "branch"], capture_output=True, text=True, check=True).stdout
    assert there.split() == ["*", "master"]
    one.ok("repo", "doctor")
