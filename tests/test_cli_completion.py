"""What a shell offers behind the cursor."""

from __future__ import annotations

import os

import pytest
from cli_helpers import Cli

BROKEN = "--home /nonexistent/there"


@pytest.fixture(scope="module")
def cli(tmp_path_factory):
    cli = Cli(tmp_path_factory.mktemp("completion"))
    cli.create("alpha", "alpine", "beta")
    cli.ok("profile", "delete", "beta")
    other = str(cli.base / "other")
    cli.ok("--home", other, "profile", "create", "elsewhere", "--platform", "telegram")
    return cli


def offers(cli, line):
    """What bash gets for ``tweakio LINE`` with the cursor at its end."""
    words = f"tweakio {line}"
    result = cli.run(
        _TWEAKIO_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(words.count(" "))
    )
    assert result.err == ""
    return [line for line in result.lines if line]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("prof", ["profile"]),
        ("what", ["whatsapp"]),
        ("profile de", ["deactivate", "delete"]),
        ("profile activate al", ["alpha", "alpine"]),
        ("profile status ", ["alpha", "alpine"]),
        ("profile delete alpha a", ["alpine"]),
        ("profile history alp", ["alpha", "alpine"]),
        ("profile create x --platform t", ["telegram"]),
        ("profile list --platform w", ["whatsapp"]),
        ("profile set alpha --timezone Europe/Berl", ["Europe/Berlin"]),
        ("profile set alpha --locale de-", ["de-AT", "de-CH", "de-DE"]),
        ("profile create x --color-scheme ", ["light", "dark"]),
        ("--home other profile status ", ["elsewhere"]),
        (f"{BROKEN} profile status ", []),
    ],
)
def test_bash(cli, line, expected):
    assert offers(cli, line) == expected


def test_revisions(cli):
    revisions = [row[0] for row in cli.ok("profile", "history").rows]
    assert offers(cli, "profile show ") == revisions
    assert offers(cli, f"profile restore beta --to {revisions[1][:6]}") == [revisions[1]]
    assert offers(cli, f"profile diff alpha {revisions[2][:6]}") == [revisions[2]]


def test_trash_entries(cli):
    entry = cli.ok("profile", "trash", "list").rows[0][0]
    assert offers(cli, "profile trash restore ") == [entry]
    assert offers(cli, "profile trash purge ") == [entry]


def test_what_carries_profiles(cli):
    """Snapshots, remotes and recipients, where a name of one is wanted."""
    cli.ok("repo", "remote", "add", "backup", "/nowhere/there")
    name = cli.ok("profile", "snapshot", "create", "alpha").out.split()[1]
    for what in ("restore", "verify"):
        assert offers(cli, f"profile snapshot {what} alpha ") == [name]
    assert offers(cli, "profile snapshot restore alpine ") == []
    for what in ("push", "pull", "sync", "remote remove"):
        assert offers(cli, f"repo {what} b") == ["backup"]
    assert offers(cli, "repo lease release alp") == ["alpha", "alpine"]
    assert offers(cli, "profile export alpha a") == ["alpine"]
    cli.ok("vault", "init", "--file")
    (recipient,) = cli.ok("vault", "recipients", "list").lines
    assert offers(cli, "vault recipients remove age") == [recipient]


def test_zsh_and_fish_get_help_with_it(cli):
    zsh = cli.run(
        _TWEAKIO_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS="tweakio profile status al"
    )
    fish = cli.run(
        _TWEAKIO_COMPLETE="complete_fish",
        _TYPER_COMPLETE_ARGS="tweakio profile status al",
        _TYPER_COMPLETE_FISH_ACTION="get-args",
    )
    for result in (zsh, fish):
        assert result.err == ""
        assert "alpha" in result.out
        assert "whatsapp" in result.out


def test_warnings_do_not_land_in_the_prompt(cli):
    info = cli.base / "broken-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[tweakio.platforms]\nbroken = no_such_module\n")
    assert "cannot be loaded" in cli.run("profile", "list", "--platform", "broken").err
    assert offers(cli, "profile create x --platform wh") == ["whatsapp"]


def test_a_damaged_repository_offers_nothing_and_says_nothing(tmp_path):
    cli = Cli(tmp_path)
    cli.create("alpha")
    os.truncate(cli.profiles / ".git" / "refs" / "heads" / "main", 0)
    assert offers(cli, "profile status ") == []
    cli.damage("alpha")
    assert offers(cli, "profile show ") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_scripts_can_be_shown(cli, shell):
    result = cli.run(_TWEAKIO_COMPLETE=f"source_{shell}")
    assert (result.code, result.err) == (0, "")
    assert "_TWEAKIO_COMPLETE" in result.out
