"""A login travels to another home by the vault, a push and a clone."""

from __future__ import annotations

import shutil

import pytest
from cli_helpers import Cli

from login.helpers import check, create, log_in, operations
from tests.invariants import git

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("browser")]
QUIET = {"PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}


def test_a_login_travels_sealed(cli, telegram, tmp_path):
    pytest.importorskip("pyrage")
    create(cli, telegram, "tg")
    cli.ok("vault", "init", **QUIET)
    log_in(cli, telegram, "tg", "bob")
    assert operations(cli, "tg")[0] == "login"
    shown = git(cli.profiles, "show", "--stat", "--format=%s", "HEAD").stdout.decode()
    assert shown.startswith("log in tg\n")
    assert "tg/session.json.age" in shown
    bare = tmp_path / "bare.git"
    git(tmp_path, "init", "-q", "--bare", "-b", "main", str(bare))
    cli.ok("repo", "remote", "add", "origin", str(bare))
    cli.ok("repo", "push")

    (tmp_path / "b").mkdir()
    other = Cli(tmp_path / "b")
    identity = tmp_path / "mine"
    shutil.copy(cli.home / "identity", identity)
    other.ok("repo", "clone", str(bare), TWEAKIO_IDENTITY=str(identity))
    assert (other.profiles / "tg" / "session.json").stat().st_mode & 0o777 == 0o600
    assert check(other) == {"tg": "logged_in"}
    assert telegram.logged_in() == ["bob"]
    # To look again needs no identity, and what the service renewed is sealed without one.
    assert set(operations(other, "tg")) >= {"login"}
