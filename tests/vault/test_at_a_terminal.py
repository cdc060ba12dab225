"""Passphrases at a real terminal: unseen, and its echo is always back."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from cli_helpers import Cli, environment
from login.screen import Screen

QUIET = {"PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}
PASSPHRASE = "correct horse \u00fc"


def echoes(screen: Screen) -> bool:
    return bool(termios.tcgetattr(screen.master)[3] & termios.ECHO)


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    made = Cli(tmp_path)
    made.create("a")
    session = json.dumps({"cookies": [{"name": "c", "value": "v"}], "origins": []})
    (made.profiles / "a" / "session.json").write_text(session)
    return made


def test_a_new_passphrase_and_its_use(cli: Cli) -> None:
    before = cli.head()
    for answers, code in (
        (["one\n", "other\n"], 2),
        (["one\n", "\x03"], 130),
    ):
        with Screen(cli, "vault", "init", "--passphrase", **QUIET) as screen:
            for prompt, answer in zip(("new passphrase: ", "once more: "), answers, strict=False):
                screen.wait_for(prompt)
                screen.wait_for(lambda: not echoes(screen))
                screen.type(answer)
            assert screen.end() == code, screen.text
            assert echoes(screen)
            assert screen.text.splitlines()[-1].startswith(("tweakio: hint: ", "tweakio: interr"))
    assert cli.head() == before
    assert not (cli.home / "identity").exists()
    with Screen(cli, "vault", "init", "--passphrase", **QUIET) as screen:
        screen.wait_for("new passphrase: ")
        screen.wait_for(lambda: not echoes(screen))
        screen.type(f"{PASSPHRASE}\n")
        screen.wait_for("once more: ")
        screen.wait_for(lambda: not echoes(screen))
        screen.type(f"{PASSPHRASE}\n")
        assert screen.end() == 0
        assert b"horse" not in screen.raw
        assert echoes(screen)
    # One that is there is said before anything is asked.
    assert "there is an identity already" in cli.run("vault", "init", "--passphrase", **QUIET).err
    (cli.profiles / "a" / "session.json").unlink()
    for answer, code in (("wrong\n", 33), (f"{PASSPHRASE}\n", 0)):
        with Screen(cli, "vault", "restore", **QUIET) as screen:
            screen.wait_for("passphrase of the identity: ")
            screen.wait_for(lambda: not echoes(screen))
            screen.type(answer)
            assert screen.end() == code, screen.text
            assert echoes(screen)
            assert answer.strip() not in screen.text
    assert (cli.profiles / "a" / "session.json").exists()


def test_without_a_terminal_it_ends(cli: Cli) -> None:
    done = cli.run("vault", "init", "--passphrase", **QUIET)
    assert (done.code, done.err.count("\n")) == (2, 2)
    assert "no new passphrase was given" in done.err
    assert not (cli.home / "identity").exists()


# The key ring of a desktop

PROGRAMS = ("dbus-run-session", "gnome-keyring-daemon")
SCRIPT = """
set -e
printf 'login password' | gnome-keyring-daemon --unlock --components=secrets >/dev/null
tweakio() { "$PYTHON" -m tweakio "$@"; }
tweakio profile create a --platform telegram
session="$TWEAKIO_HOME/profiles/a/session.json"
printf '{"cookies": [{"name": "c", "value": "v"}], "origins": []}' > "$session"
tweakio vault init
rm "$session"
tweakio vault restore
"""


@pytest.mark.skipif(not all(map(shutil.which, PROGRAMS)), reason="no gnome-keyring")
def test_a_desktops_key_ring_keeps_the_identity(tmp_path: Path) -> None:
    pytest.importorskip("keyring")
    pytest.importorskip("secretstorage")
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    done = subprocess.run(
        ["dbus-run-session", "--", "sh", "-c", SCRIPT],
        env=environment(tmp_path, PYTHON=sys.executable, XDG_RUNTIME_DIR=str(runtime)),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "the identity is in key ring" in done.stdout
    assert "restored a" in done.stdout
    assert not (tmp_path / "home" / "identity").exists()
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"AGE-SECRET-KEY" not in kept
