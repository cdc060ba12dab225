"""A login that goes to another machine as a snapshot, in a real browser."""

from __future__ import annotations

import pytest
from cli_helpers import Cli

from login.helpers import check, create, ended_in_order, log_in


@pytest.mark.slow
def test_whatsapp_by_snapshot(cli: Cli, tmp_path, browser, whatsapp) -> None:
    """Its login is a key that no script can read: only the browser's own data has it."""
    assert browser
    cli.ok("vault", "init", "--file")
    create(cli, whatsapp, "wa")
    log_in(cli, whatsapp, "wa")
    store = f"local://{tmp_path}/store"
    cli.ok("profile", "snapshot", "store", store)
    name = cli.ok("profile", "snapshot", "create", "wa").out.split()[1]
    content = (tmp_path / "store" / "wa" / f"{name}.tar.zst.age").read_bytes()
    assert content.startswith(b"age-encryption.org/v1\n")

    (tmp_path / "b").mkdir()
    other = Cli(tmp_path / "b")
    key = {"TWEAKIO_IDENTITY": str(cli.home / "identity")}
    other.ok("repo", "clone", str(cli.profiles), **key)
    assert check(other, "wa") == {"wa": "logged_out"}
    other.ok("profile", "snapshot", "store", store)
    assert other.ok("profile", "snapshot", "restore", "wa", **key).out == (
        f"restored wa from {name}\n"
    )
    assert check(other, "wa") == {"wa": "logged_in"}
    assert ended_in_order(other, "wa")
    # And away again: what was there before was not logged in.
    while other.ok("profile", "history", "-n", "1").rows[0][2] != "restore":
        other.ok("profile", "undo")
    other.ok("profile", "undo")
    assert check(other, "wa") == {"wa": "logged_out"}
