"""What Python or a library says is an error of the program, never damage nor a remote's fault."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_helpers import Cli

from tweakio import InvalidMetadataError, schema

STRICT = [sys.executable, "-bb", "-W", "error", "-m", "tweakio"]
SESSION = '{"cookies": [{"name": "c", "value": "v"}], "origins": []}'


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", tmp_path / "remote"], check=True)
    return Cli(tmp_path, STRICT)


def test_every_warning_may_be_an_error(cli: Cli) -> None:
    file = os.fspath(cli.base / "a.zip")
    cli.ok("profile", "create", "a", "b", "--platform", "telegram")
    (cli.profiles / "a" / "session.json").write_text(SESSION)
    cli.ok("profile", "set", "a", "--tag", "x", "--note", "y")
    cli.ok("profile", "history")
    cli.ok("profile", "delete", "b")
    cli.ok("profile", "undo")
    cli.ok("profile", "export", "a", file)
    cli.ok("profile", "import", file, "--rename")
    cli.ok("profile", "snapshot", "create", "a")
    cli.ok("repo", "remote", "add", "origin", str(cli.base / "remote"))
    cli.ok("repo", "sync")
    subprocess.run(["git", "-C", cli.profiles, "gc", "-q"], check=True)
    cli.ok("profile", "list")
    cli.ok("repo", "doctor")
    cli.ok("vault", "status")


@pytest.fixture
def no_git(cli: Cli) -> dict[str, str]:
    """A PATH without git: dulwich does it."""
    (cli.base / "bin").mkdir()
    return {"PATH": str(cli.base / "bin")}


def test_a_library_that_compares_bytes_with_text(cli: Cli, no_git: dict[str, str]) -> None:
    cli.create("a")
    cli.ok("repo", "remote", "add", "origin", str(cli.base / "remote"))
    cli.ok("repo", "push", **no_git)
    cli.ok("repo", "pull", **no_git)
    cli.ok("profile", "set", "a", "--note", "x")
    cli.ok("repo", "sync", **no_git)


@pytest.mark.parametrize("error", ["DeprecationWarning", "MemoryError"])
def test_an_error_of_the_library_is_not_the_remotes(
    cli: Cli, no_git: dict[str, str], error: str
) -> None:
    cli.create("a")
    cli.ok("repo", "remote", "add", "origin", str(cli.base / "remote"))
    source = f"""
import sys
from dulwich.client import LocalGitClient
def broken(*_, **__):
    raise {error}("of the library")
LocalGitClient.fetch = LocalGitClient.get_refs = LocalGitClient.send_pack = broken
from tweakio.cli import main
sys.exit(main(["repo", "push"]))
"""
    done = cli.python(source, **no_git)
    assert done.code == (17 if error == "MemoryError" else 70), done
    assert "cannot reach" not in done.err
    cli.ok("repo", "doctor")


def test_a_stack_that_is_used_up_is_no_damage() -> None:
    content = (
        b'{"profile_id": "a", "platform": "custom", "created_at": "2026-01-01T00:00:00Z",'
        b'"status": "inactive", "note": "\\"[[{", "platform_config": {"a": [[[[[[1]]]]]]}}'
    )
    schema.load(content)
    answers = set()

    def below(depth: int) -> None:
        if depth:
            return below(depth - 1)
        schema.load(content)
        return None

    for depth in range(sys.getrecursionlimit() - 150, sys.getrecursionlimit()):
        try:
            below(depth)
            answers.add("read")
        except RecursionError:
            answers.add("too deep")
    assert answers == {"read", "too deep"}
    with pytest.raises(InvalidMetadataError, match="nested too deeply"):
        schema.load(b'{"a": ' + b"[" * 5_000 + b"]" * 5_000 + b"}")
