"""Commands in hints: what somebody else wrote is one word of them at most."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tweakio.errors import command, run
from tweakio.vault import age
from tweakio.vault.confirmed import unconfirmed_hint
from tweakio.vault.recipients import checked

HOSTILE = [
    "age1qqq;touch${IFS}{}",
    "a;touch {}",
    "$(touch {})",
    "`touch {}`",
    "a\ntouch {}\n",
    "a & touch {} &",
    "a' ; touch {} ; '",
    'a" ; touch {} ; "',
    "a\\' ; touch {} ; \\'",
    "a|touch {}",
    "a>{}",
    "a\r;touch {}",
    "--force",
    "-ctouch {}",
    "!touch {}",
    "*",
    "",
    "~root",
    "a\u202eb;touch {}",
    "\x1b]0;x\x07;touch {}",
]


@pytest.mark.skipif(os.name == "nt", reason="pasted into a POSIX shell")
@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_pasted_command_has_the_value_as_one_word_and_runs_nothing(
    shell: str, tmp_path: Path
) -> None:
    script = [f"cd '{tmp_path}'"]
    wanted = []
    for template in HOSTILE:
        value = template.replace("{}", "mark")
        for made in (command("printf '[%s]\\n' x", value), command("printf '[%s]\\n'", value)):
            script.append(made)
        shown = value if value.isprintable() and not value.startswith("-") else "..."
        wanted += ["[x]", f"[{shown}]", f"[{shown}]"]
    done = subprocess.run(
        [shell], input="\n".join(script) + "\n", capture_output=True, text=True, check=False
    )
    assert done.stdout.split("\n")[:-1] == wanted
    assert os.listdir(tmp_path) == []


def test_what_is_pasted_with_its_quotes_is_still_one_word() -> None:
    assert run("tweakio profile recover", "alpha") == "run 'tweakio profile recover alpha'"
    hint = run("tweakio repo sync", "a;touch mark")
    assert hint == "run: tweakio repo sync 'a;touch mark'"
    assert shlex.split(hint.removeprefix("run: "))[-1] == "a;touch mark"


def test_on_windows_a_value_is_quoted_for_cmd_or_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "name", "nt")
    assert command("tweakio x", r"C:\Users\me") == r"tweakio x C:\Users\me"
    assert command("tweakio x", r"C:\My Files\me") == r'tweakio x "C:\My Files\me"'
    assert command("tweakio x", "a&b|c") == 'tweakio x "a&b|c"'
    for value in ("%PATH%", 'a"&calc&"', "!x!", "$(calc)", "`calc`", "ends in \\", "-x", "a\nb"):
        assert command("tweakio x", value) == "tweakio x ..."


def test_only_what_is_a_recipient_comes_into_the_command() -> None:
    _, good = age.generate_identity()
    other = good[:-1] + ("q" if good[-1] != "q" else "p")
    hostile = [other, good + ";touch${IFS}x", good[:-2] + "$(", "ssh-rsa AAAA;touch${IFS}x c"]
    hint = unconfirmed_hint([*hostile, good])
    assert hint == (
        f"If they are who they should be: tweakio vault recipients add {good}."
        " 4 lines are not a recipient at all; look at .age-recipients in an editor"
    )
    assert unconfirmed_hint(hostile[:1]).startswith("1 line is not")


def test_an_ssh_key_is_known_by_its_parts(tmp_path: Path) -> None:
    for kind, name in (("ed25519", "ssh-ed25519"), ("rsa", "ssh-rsa")):
        key = tmp_path / kind
        made = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "x;touch y", "-f", str(key)]
        subprocess.run(made, check=True)
        line = key.with_suffix(".pub").read_text().strip()
        blob = line.split()[1]
        assert checked(line) == f"{name} {blob}"
        assert "touch" not in unconfirmed_hint([line])
        assert f"add '{name} {blob}'" in unconfirmed_hint([line])
        wrong = "ssh-rsa" if name == "ssh-ed25519" else "ssh-ed25519"
        for bad in (f"{wrong} {blob}", f"{name} {blob[:-3]}", f"{name} {blob}!", f"{name}  {blob}"):
            assert checked(bad) is None
    assert checked("ecdsa-sha2-nistp256 AAAA") is None
