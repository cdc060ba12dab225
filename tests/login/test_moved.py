"""A login that is carried to another home in a file is a login there."""

from __future__ import annotations

import pytest
from cli_helpers import Cli

from login.helpers import check, create, log_in

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("browser")]


def test_exported_and_imported(tmp_path, whatsapp):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    here, there = Cli(tmp_path / "a"), Cli(tmp_path / "b")
    create(here, whatsapp, "wa")
    log_in(here, whatsapp, "wa")
    path = str(tmp_path / "wa.age")
    typed = {"stdin": "correct horse\n"}
    here.ok("profile", "export", "wa", path, "--with-session", "--passphrase", **typed)
    here.ok("profile", "delete", "wa", "--purge")
    there.ok("profile", "import", path, "--as", "carried", "--passphrase", **typed)
    assert check(there) == {"carried": "logged_in"}
