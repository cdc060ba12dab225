"""What a person sees at a terminal of 80 columns and 24 lines."""

from __future__ import annotations

import os
import re

import pytest
from cli_helpers import Cli, Holder, run_in_terminal

if os.name != "posix":
    pytest.skip("pseudo-terminals of POSIX", allow_module_level=True)

CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
LONGEST = "x" * 32


@pytest.fixture(scope="module")
def cli(tmp_path_factory):
    cli = Cli(tmp_path_factory.mktemp("terminal"))
    tags = [part for number in range(4) for part in ("--tag", f"tag-number-{number}")]
    cli.ok("profile", "create", LONGEST, "short", "--platform", "whatsapp", *tags,
           "--note", "a note of many words " * 10 + "[bold]not markup[/bold]")  # fmt: skip
    cli.create("gone", "broken")
    cli.ok("profile", "activate", "short")
    cli.ok("profile", "delete", "gone")
    cli.damage("broken")
    return cli


def show(cli, *arguments, columns=80, **changes):
    code, text = run_in_terminal(cli, *arguments, columns=columns, **changes)
    assert code == 0, text
    lines = CODES.sub("", text).splitlines()
    assert max(len(line) for line in lines) <= columns
    return text, lines


@pytest.mark.parametrize("columns", [80, 140])
def test_list(cli, columns):
    text, lines = show(cli, "profile", "list", columns=columns)
    assert "\x1b[" in text
    assert lines[0].split()[:6] == ["ID", "PLATFORM", "STATUS", "PID", "USED", "TAGS"]
    firsts = [line.split()[0] for line in lines[1:] if not line.startswith(" ")]
    assert firsts == ["broken", "short", LONGEST]
    assert "tag-number-3" in "".join("".join(lines).split())
    assert ("NOTE" in lines[0]) is (columns == 140)


def test_list_is_all_there_in_a_narrow_terminal(cli):
    _, text = run_in_terminal(cli, "profile", "list", columns=40)
    assert LONGEST in text


def test_the_holder_is_named(cli):
    with Holder(cli, LONGEST) as holder:
        _, lines = show(cli, "profile", "list")
    assert [str(holder.pid)] == [line.split()[3] for line in lines if line.startswith(LONGEST)]


def test_no_color(cli):
    text, _ = show(cli, "profile", "list", NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]", text)
    plain, _ = show(cli, "profile", "list", TERM="dumb")
    assert "\x1b" not in plain


def test_status(cli):
    _, lines = show(cli, "profile", "status", "short")
    assert lines[0].split() == ["profile_id", "short"]
    assert "[bold]not markup[/bold]" in " ".join(" ".join(lines).split())


def test_history(cli):
    _, lines = show(cli, "profile", "history")
    assert lines[0].split() == ["REVISION", "TIME", "OPERATION", "SUMMARY"]
    rows = [line for line in lines[1:] if not line.startswith(" ")]
    assert [row.split()[3] for row in rows[-5:]] == [
        "delete",
        "activate",
        "create",
        "create",
        "init",
    ]
    assert all(re.match(r"[0-9a-f]{12}  \d{4}-\d\d-\d\d \d\d:\d\d  ", row) for row in rows)
    _, wide = show(cli, "profile", "history", columns=140)
    assert wide[0].split()[3:] == ["PROFILES", "SUMMARY", "AUTHOR"]


def test_trash(cli):
    _, lines = show(cli, "profile", "trash", "list")
    assert lines[0].split()[:2] == ["ENTRY", "KIND"]
    assert "-gone-" in lines[1]
    assert lines[1].split()[1] == "deleted"


def test_an_empty_list_says_what_to_do(tmp_path):
    cli = Cli(tmp_path)
    cli.home.mkdir()
    _, lines = show(cli, "profile", "list")
    assert len(lines) == 1
    assert "tweakio profile create" in lines[0]


def test_progress_is_shown_and_gone(tmp_path):
    cli = Cli(tmp_path)
    names = [f"profile-{number}" for number in range(30)]
    code, text = run_in_terminal(cli, "profile", "create", *names, "--platform", "custom")
    assert code == 0
    assert "creating" in text
    assert CODES.sub("", text).splitlines()[-1] == "created profile-29 (custom)"


@pytest.mark.parametrize(
    "command",
    [
        "",
        "profile",
        "profile create",
        "profile delete",
        "profile set",
        "profile trash purge",
        "profile snapshot",
        "repo",
        "repo remote",
        "vault",
        "vault recipients",
    ],
)
def test_help_fits(cli, command):
    text, lines = show(cli, *command.split(), "-h")
    assert "\x1b" not in text
    assert lines[0].startswith(f"Usage: tweakio {command}".rstrip())
    assert not [line for line in lines if line.rstrip().endswith("...") and line[:1] == " "]
