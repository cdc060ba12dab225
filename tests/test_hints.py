"""Commands in hints: what somebody else wrote is one word of them at most."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_helpers import Cli, environment

import tweakio
from tweakio import ProfileManager, references
from tweakio.errors import SecretNotFoundError, command, run
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


# The package


_COMMAND = re.compile(
    r"\b(?:tweakio (?:profile|repo|vault|platform|whatsapp|telegram|discord)"
    r"|git (?:-C|-c|restore|switch|fetch|add|rm|status|config|commit|merge|fsck|clone|index-pack)"
    r"|keyring (?:set|get)|redis-cli|pip install|ssh-keygen|age -d)\b[^'`\"]*$"
)


def unquoted(tree: ast.Module) -> Iterator[int]:
    """The lines where a value stands in a command without ``command`` or ``run``."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.JoinedStr):
            continue
        before = ""
        for part in node.values:
            if isinstance(part, ast.Constant):
                before += str(part.value)
            elif isinstance(part, ast.FormattedValue):
                by = part.value
                called = by.func if isinstance(by, ast.Call) else None
                name = called.id if isinstance(called, ast.Name) else ""
                if _COMMAND.search(before) and name not in ("command", "run"):
                    yield node.lineno
                before += "x"


def test_no_value_stands_in_a_command_without_being_quoted() -> None:
    # A package to install is one of ours, and an option's name is as well.
    allowed = {"tweakio/snapshots/remote.py", "tweakio/cli/commands/tour.py"}
    root = Path(tweakio.__file__).parent.parent
    found = [
        f"{path.relative_to(root)}:{line}"
        for path in sorted((root / "tweakio").rglob("*.py"))
        if path.relative_to(root).as_posix() not in allowed
        for line in unquoted(ast.parse(path.read_text()))
    ]
    assert not found, found
    assert [*unquoted(ast.parse("f\"run 'tweakio repo sync {name}'\""))] == [1]


def test_a_reference_to_the_key_ring_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Keyring:
        def get_password(self, *_: str) -> None:
            return None

    monkeypatch.setitem(sys.modules, "keyring", Keyring())
    for value in ("x;touch mark", "x$(touch mark)", "x`touch mark`", "x' ; touch mark; '"):
        with pytest.raises(SecretNotFoundError) as caught:
            references.resolve(f"keyring:{value}")
        pasted = caught.value.hint.removeprefix("run: ").replace("keyring set", "true")
        subprocess.run(["sh", "-c", pasted], cwd=tmp_path, check=True)
        assert os.listdir(tmp_path) == []


HOSTILE_TEXT = "a\x1b]0;owned\x07\x1b[2Jb\u202ec\u2066d\x9be"


def test_what_others_wrote_is_inert_wherever_it_is_shown(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with ProfileManager(home) as manager:
        manager.create_profile("alpha", "custom")
    profiles = home / "profiles"
    metadata = profiles / "alpha" / "metadata.json"
    metadata.write_text(metadata.read_text().replace("}", ',"\\u202ekey\\u001b[2J": "x"\n}', 1))
    message = f"{HOSTILE_TEXT}\n\nTweakio-Op: set{HOSTILE_TEXT}\nTweakio-Profile: {HOSTILE_TEXT}\n"
    git = ["git", "-c", f"user.name={HOSTILE_TEXT}", "-c", "user.email=x@x", "-C", profiles]
    quiet = ["-c", "core.hooksPath=/dev/null"]
    subprocess.run(
        [*git, *quiet, "commit", "-qam", message + f"Tweakio-Command: {HOSTILE_TEXT}\n"],
        check=True, env=environment(tmp_path),
    )  # fmt: skip
    with open(profiles / ".git" / "config", "a") as file:
        file.write(f'[remote "{HOSTILE_TEXT}"]\n\turl = "https://{HOSTILE_TEXT}/x"\n')
    (profiles / HOSTILE_TEXT).mkdir()
    cli = Cli(tmp_path)
    for arguments in (
        "profile history", "profile history alpha", "profile show HEAD", "profile list",
        "profile status alpha", "profile show alpha", "profile diff alpha",
        "profile diff alpha HEAD~1",
        "profile trash list", "repo doctor", "repo remote list", "repo remote", "profile undo",
        f"profile status {HOSTILE_TEXT}", f"profile show {HOSTILE_TEXT}",
        f"repo pull {HOSTILE_TEXT}",
        f"repo remote remove {HOSTILE_TEXT}", f"profile trash restore {HOSTILE_TEXT}",
        f"profile snapshot list {HOSTILE_TEXT}", f"profile snapshot restore alpha {HOSTILE_TEXT}",
        f"profile import {HOSTILE_TEXT}", f"vault recipients add {HOSTILE_TEXT}",
        f"repo clone {HOSTILE_TEXT}", f"profile create {HOSTILE_TEXT}",
    ):  # fmt: skip
        result = cli.run(*arguments.split(" "))
        odd = {c for c in result.out + result.err if not c.isprintable()} - {"\n", "\t"}
        assert not odd, (arguments, odd, result.out, result.err)
        assert result.code != 70, (arguments, result.err)
