"""A login travels to another home of another user, by each way there is, and is a login there."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import tempfile
from pathlib import Path

import pytest
from cli_helpers import COMMAND, Cli

from login.helpers import (
    NOBODY,
    Phone,
    Running,
    as_nobody,
    check,
    create,
    ended_in_order,
    find_browser,
    log_in,
    needs_root,
    operations,
)
from tests.invariants import git
from tweakio.errors import VaultError
from tweakio.vault import age, binding

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("browser")]
QUIET = {"PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}
TYPED = {"stdin": "correct horse\n"}


class Elsewhere(Cli):
    """The home of another user of another machine, who has only what was handed over.

    Attributes:
        desk: where things are handed over.
        user: who it is; the one that runs the tests if nobody else can be had.
    """

    def __init__(self, base: Path) -> None:
        own = {"GIT_CONFIG_GLOBAL": str(base / "gitconfig")}
        # As for a share or a stick that somebody else has written.
        (base / "gitconfig").write_text("[safe]\n\tdirectory = *\n")
        if needs_root.args[0]:
            self.user = os.geteuid()
            super().__init__(base, COMMAND, **own)
        else:
            self.user = NOBODY
            command, changes = as_nobody(str(base))
            super().__init__(base, command, **changes, **own)
        self.desk = base / "desk"
        self.desk.mkdir()
        self.take_over()

    def take_over(self) -> None:
        """Own everything that lies here."""
        for path in (self.base, *self.base.rglob("*")):
            os.chown(path, self.user, -1, follow_symlinks=False)

    def is_its_own(self) -> bool:
        """Whether all of the home belongs to this user, and nobody else can look into it."""
        for path in self.home.rglob("*"):
            status = path.lstat()
            assert status.st_uid == self.user, path
            # What git and the browser write is shut off by the directory that it is in.
            inside = {".git", "browser_profile"} & set(path.relative_to(self.home).parts[:-1])
            if not stat.S_ISLNK(status.st_mode) and not inside:
                assert stat.S_IMODE(status.st_mode) & 0o077 == 0, path
        return True


@pytest.fixture
def there():
    # A path that other users can reach, and short enough for Chromium's socket.
    with tempfile.TemporaryDirectory(prefix="tweakio-test-") as base:
        yield Elsewhere(Path(base))


def test_whatsapp_as_a_snapshot_and_as_a_file(cli, there, whatsapp):
    """Its login is a key that no script can read: only the browser's own data has it."""
    create(cli, whatsapp, "wa")
    cli.ok("vault", "init", "--file")
    log_in(cli, whatsapp, "wa")
    store, file, bare = (
        f"local://{there.desk}/store",
        there.desk / "wa.age",
        there.desk / "bare.git",
    )
    (there.desk / "store").mkdir()
    cli.ok("profile", "snapshot", "store", store)
    name = cli.ok("profile", "snapshot", "create", "wa").out.split()[1]
    content = (there.desk / "store" / "wa" / f"{name}.tar.zst.age").read_bytes()
    assert content.startswith(b"age-encryption.org/v1\n")
    export = ("profile", "export", "wa", str(file))
    cli.ok(*export, "--with-session", "--passphrase", **TYPED)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    git(there.desk, "clone", "-q", "--bare", str(cli.profiles), str(bare))
    shutil.copy(cli.home / "identity", there.desk / "identity")
    cli.ok("profile", "delete", "wa", "--purge")
    there.take_over()

    key = {"TWEAKIO_IDENTITY": str(there.desk / "identity")}
    there.ok("repo", "clone", str(bare), "--trust", **key)
    there.ok("profile", "import", str(file), "--as", "carried", "--passphrase", "--trust", **TYPED)
    there.ok("profile", "snapshot", "store", store)
    there.ok("profile", "snapshot", "restore", "wa", **key)
    assert check(there) == {"carried": "logged_in", "wa": "logged_in"}
    assert ended_in_order(there, "wa")
    assert ended_in_order(there, "carried")
    assert there.is_its_own()
    # And away again: what was there before was not logged in.
    while there.ok("profile", "history", "-n", "1").rows[0][2] != "restore":
        there.ok("profile", "undo")
    there.ok("profile", "undo")
    assert check(there, "wa") == {"wa": "logged_out"}


def test_telegram_and_discord_by_vault_push_and_pull(cli, there, telegram, discord, tmp_path):
    pytest.importorskip("pyrage")
    create(cli, telegram, "tg")
    create(cli, discord, "dc")
    cli.ok("vault", "init", **QUIET)
    bare = there.desk / "bare.git"
    git(there.desk, "init", "-q", "--bare", "-b", "main", str(bare))
    cli.ok("repo", "remote", "add", "origin", str(bare))
    cli.ok("repo", "push")
    shutil.copy(cli.home / "identity", there.desk / "identity")
    there.take_over()
    key = {"TWEAKIO_IDENTITY": str(there.desk / "identity")}
    there.ok("repo", "clone", str(bare), "--trust", **key)
    assert there.ok("vault", "status", **key).out.endswith(
        "sealed sessions\t0\nnot restored here\t0\n"
    )

    log_in(cli, telegram, "tg", "bob")
    log_in(cli, discord, "dc", "eve")
    assert operations(cli, "tg")[0] == operations(cli, "dc")[0] == "login"
    shown = git(cli.profiles, "show", "--stat", "--format=%s", "HEAD").stdout.decode()
    assert shown.startswith("log in dc\n")
    assert "dc/session.json.age" in shown
    trusting = {"GIT_CONFIG_GLOBAL": str(there.base / "gitconfig")}
    cli.ok("repo", "push", **trusting)
    there.take_over()
    there.ok("repo", "pull", **key)
    (tmp_path / "c").mkdir()
    cloned = Cli(tmp_path / "c", **trusting)
    cloned.ok("repo", "clone", str(bare), **key)
    for name in ("dc", "tg"):
        content = (cli.profiles / name / "session.json").read_bytes()
        for other in (there, cloned):
            session = other.profiles / name / "session.json"
            assert session.read_bytes() == content
            assert stat.S_IMODE(session.stat().st_mode) == 0o600
    # To look again needs no identity, and what the service renewed is sealed without one.
    assert check(there) == {"dc": "logged_in", "tg": "logged_in"}
    assert (telegram.logged_in(), discord.logged_in()) == (["bob"], ["eve"])
    assert there.is_its_own()
    assert operations(there, "tg")[-2:] == ["pull", "create"]


def test_the_steps_that_a_removed_recipient_makes_necessary(cli, telegram):
    """As they are printed; after them what the other can still open is worth nothing."""
    pytest.importorskip("pyrage")
    create(cli, telegram, "tg")
    create(cli, telegram, "stolen", "copied")
    cli.ok("vault", "init", "--file")
    theirs, recipient = age.generate_identity()
    cli.ok("vault", "recipients", "add", recipient)
    log_in(cli, telegram, "tg", "bob")
    shared = git(cli.profiles, "show", "HEAD:tg/session.json.age").stdout
    session = binding.read(age.unseal(shared, [theirs])).content
    removed = cli.ok("vault", "recipients", "remove", recipient)
    steps = [line.partition("tweakio ")[2] for line in removed.err.splitlines()]
    logout, login = (shlex.split(step) for step in steps if "--profile tg" in step)
    assert (
        binding.read(age.unseal(shared, [theirs])).content == session
    )  # in history, as the notice says
    assert telegram.logged_in() == ["bob"]
    cli.ok(*logout)
    assert telegram.logged_in() == []
    with Phone(telegram, "bob"), Running(cli, *login) as running:
        assert running.end().code == 0
    assert telegram.logged_in() == ["bob"]
    new = git(cli.profiles, "show", "HEAD:tg/session.json.age").stdout
    with pytest.raises(VaultError):
        age.unseal(new, [theirs])
    own = binding.read(age.unseal(new, [(cli.home / "identity").read_text()])).content
    assert own == (cli.profiles / "tg" / "session.json").read_bytes() != session
    for name, content in (("stolen", session), ("copied", own)):
        (cli.profiles / name / "session.json").write_bytes(content)
    assert check(cli) == {"copied": "logged_in", "stolen": "logged_out", "tg": "logged_in"}


def test_what_a_plain_browser_has(there, whatsapp, telegram):
    """Logins that were made without tweakio: in a user data directory, and as a storage state."""
    from playwright.sync_api import sync_playwright

    data, state, table = (there.desk / name for name in ("chrome", "state.json", "table.csv"))
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            data, executable_path=find_browser(), args=["--disable-quic"]
        )
        for service, account in ((whatsapp, "alice"), (telegram, "bob")):
            context.new_page().goto(service.url)
            assert service.wait_for(service.qr_codes)
            service.scan(service.qr_codes()[0], account)
            assert service.wait_for(lambda: service.logged_in() == [account])  # noqa: B023 - runs now
        context.storage_state(path=state)
        context.close()
    table.write_text(
        f"id,platform,config.url,storage_state\ntg,telegram,{telegram.url},state.json\n"
    )
    there.take_over()

    source = ("--from-user-data-dir", str(data), "--platform", "whatsapp", "--as", "wa")
    there.ok("profile", "import", *source, "--trust")
    there.ok("profile", "set", "wa", "--config", f"url={whatsapp.url}")
    there.ok("profile", "import", "--from-csv", str(table), "--trust")
    assert check(there) == {"tg": "logged_in", "wa": "logged_in"}
    assert there.is_its_own()
    # As one browser each that has been there before, and not as new ones.
    assert [len(service.accounts[name].devices) for service, name in
            ((whatsapp, "alice"), (telegram, "bob"))] == [1, 1]  # fmt: skip
