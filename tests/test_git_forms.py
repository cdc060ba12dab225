"""Homes in forms of git's that tweakio does not write: read, or refused by name, never damage."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_helpers import ROOT, Cli, environment

from tests.gits import GITS, run, with_at_least


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with three profiles, a few changes and browser data."""
    cli = Cli(tmp_path_factory.mktemp("forms"))
    cli.create("p1", "p2", "p3")
    cli.ok("profile", "set", "p1", "--note", "one")
    cli.ok("profile", "set", "p2", "--note", "two")
    (cli.profiles / "p1" / "browser_profile" / "Cookies").write_bytes(b"cookies")
    run(GITS[0], cli.profiles, "status")
    return cli.base


@pytest.fixture(params=GITS)
def program(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def cli(template: Path, tmp_path: Path) -> Cli:
    shutil.copytree(template / "home", tmp_path / "home", symlinks=True)
    return Cli(tmp_path)


def findings(cli: Cli, *options: str) -> tuple[int, dict[str, dict[str, str]]]:
    done = cli.run("repo", "doctor", "--json", *options)
    return done.code, {item["code"]: item for item in json.loads(done.out)["findings"]}


def sound(cli: Cli, *options: str) -> None:
    code, found = findings(cli, *options)
    wrong = [item["message"] for item in found.values() if item["severity"] != "note"]
    assert (code, [] if options else wrong) == (0, []), wrong


# The index

FORMS: dict[str, tuple[str, ...]] = {
    "version 4": ("update-index", "--index-version", "4"),
    "split": ("update-index", "--split-index"),
    "many files": ("-c", "feature.manyFiles=true", "-c", "index.version=4", "add", "-A", "NOTES"),
    "untracked cache": ("update-index", "--force-untracked-cache"),
}


@pytest.mark.parametrize("form", FORMS)
def test_what_is_staged_outlives_our_changes(cli: Cli, program: str, form: str) -> None:
    (cli.profiles / "NOTES").write_text("a person's\n")
    (cli.profiles / "LATER").write_text("to be added\n")
    if form != "split":  # the two together lose entries in git itself
        run(program, cli.profiles, "config", "index.skipHash", "true")
    run(program, cli.profiles, "add", "NOTES")
    run(program, cli.profiles, "add", "--intent-to-add", "LATER")
    run(program, cli.profiles, "update-index", "--assume-unchanged", "p3/metadata.json")
    run(program, cli.profiles, *FORMS[form])
    code, found = findings(cli)
    assert code == 0, found
    assert set(found) == {"staged"}
    assert found["staged"]["message"] == "not committed yet: NOTES"
    for arguments in (["set", "p2", "--note", "x"], ["delete", "p1"], ["undo"]):
        cli.ok("profile", *arguments)
    status = run(program, cli.profiles, "status", "--porcelain").splitlines()
    assert sorted(line.strip() for line in status) == ["A  NOTES", "A LATER"]
    assert "h p3/metadata.json" in run(program, cli.profiles, "ls-files", "-v")
    sound(cli, "--fix")
    run(program, cli.profiles, "commit", "-q", "-m", "notes")
    assert run(program, cli.profiles, "show", "--format=", "--name-only") == "NOTES"
    cli.ok("profile", "set", "p2", "--note", "y")
    assert run(program, cli.profiles, "fsck", "--strict") == ""
    assert findings(cli)[1].keys() == {"foreign-name"}


def test_a_sparse_index(cli: Cli, program: str) -> None:
    """Collapsed directories are read; what a person excluded stays excluded for git."""
    run(program, cli.profiles, "update-index", "--refresh", "--really-refresh")
    run(program, cli.profiles, "sparse-checkout", "set", "--cone", "--sparse-index", "p1", "p2")
    assert b"sdir" in (cli.profiles / ".git" / "index").read_bytes()
    (cli.profiles / "NOTES").write_text("a person's\n")
    run(program, cli.profiles, "add", "--sparse", "NOTES")
    cli.ok("profile", "set", "p2", "--note", "x")
    assert run(program, cli.profiles, "status", "--porcelain") == "A  NOTES"
    assert "S p3/metadata.json" in run(program, cli.profiles, "ls-files", "-t")
    assert "index" not in " ".join(findings(cli)[1])
    run(program, cli.profiles, "sparse-checkout", "disable")
    assert run(program, cli.profiles, "status", "--porcelain") == "A  NOTES"
    sound(cli)


def test_a_removal_that_is_staged_is_not_damage(cli: Cli, program: str) -> None:
    run(program, cli.profiles, "rm", "-q", "p3/metadata.json", "p3/fingerprint.json")
    code, found = findings(cli)
    assert code == 14
    assert found.keys() == {"staged", "profile-corrupted"}
    assert found["staged"]["message"] == "not committed yet: p3/fingerprint.json, p3/metadata.json"
    cli.ok("profile", "set", "p2", "--note", "x")
    gone = "D  p3/fingerprint.json\nD  p3/metadata.json"
    assert run(program, cli.profiles, "status", "--porcelain") == gone
    findings(cli, "--fix")
    assert run(program, cli.profiles, "status", "--porcelain") == gone


def test_a_removal_from_the_index_only_is_not_damage_either(cli: Cli, program: str) -> None:
    """It looks as what a ``git commit`` writes back that had read an older index."""
    run(program, cli.profiles, "rm", "-q", "--cached", "p3/metadata.json", "p3/fingerprint.json")
    code, found = findings(cli)
    assert code == 14
    assert found.keys() == {"index-outdated"}
    assert found["index-outdated"]["severity"] == "problem"
    sound(cli, "--fix")
    assert run(program, cli.profiles, "status", "--porcelain") == ""


def test_an_index_that_cannot_be_read_now_is_not_made_anew(cli: Cli) -> None:
    index = cli.profiles / ".git" / "index"
    (cli.profiles / "NOTES").write_text("a person's\n")
    run(GITS[0], cli.profiles, "add", "NOTES")
    data = index.read_bytes()
    # As root reads everything, the one thing that stands for it is a limit.
    program = (
        "import os, resource, sys; from tweakio.errors import TweakioError\n"
        "from tweakio.layout import Layout; from pathlib import Path\n"
        "from tweakio.store.repository import Repository\n"
        "r = Repository(Layout(Path(sys.argv[1])))\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))\n"
        "try: r.index_file.read(); print('read')\n"
        "except OSError as error: print(error.errno)\n"
    )
    done = cli.python(program, str(cli.home))
    assert done.out.strip() == "24", done
    assert index.read_bytes() == data


def test_an_index_of_a_later_form_is_refused_by_name(cli: Cli) -> None:
    import hashlib
    import struct

    index = cli.profiles / ".git" / "index"
    data = index.read_bytes()[:-20] + b"smth" + struct.pack(">I", 0)
    index.write_bytes(data + hashlib.sha1(data).digest())
    before = cli.snapshot()
    for arguments in (["profile", "set", "p2", "--note", "x"], ["repo", "doctor"]):
        done = cli.run(*arguments)
        assert done.code == 16, done
        assert "the extension 'smth'" in done.err
        assert "damage" not in done.err
    assert cli.snapshot() == before
    hinted(done.err, cli)
    cli.ok("profile", "set", "p2", "--note", "x")


# The repository

COMMANDS = (
    ["profile", "list"], ["profile", "show", "p1"],
    ["profile", "create", "n", "--platform", "custom"],
    ["profile", "set", "p1", "--note", "x"], ["profile", "undo"], ["profile", "status", "p1"],
    ["profile", "history", "p1"], ["repo", "doctor"], ["repo", "doctor", "--fix"], ["repo", "gc"],
    ["repo", "remote", "list"], ["profile", "delete", "p1"],
)  # fmt: skip


def hinted(text: str, cli: Cli, path: str | None = None) -> None:
    """Run the command that a hint gives."""
    command = re.search(r"run: (.+)", text)
    assert command is not None, text
    variables = environment(cli.base, **({"PATH": path} if path else {}))
    subprocess.run(command[1], shell=True, check=True, cwd=cli.base, env=variables)


def refused(cli: Cli, *words: str) -> str:
    """That every command names the reason and changes nothing; what was said."""
    before = cli.snapshot()
    for arguments in COMMANDS:
        done = cli.run(*arguments)
        assert done.code == 16, (arguments, done)
        assert len(done.err.splitlines()) == 2, done.err
        for word in words:
            assert word in done.err, (arguments, done.err)
        assert not re.search("damage|corrupt", done.err), done.err
    assert cli.snapshot() == before
    return done.err


def sha256(cli: Cli, program: str) -> None:
    """The same history, in a repository of that hash."""
    run(program, cli.home, "init", "-q", "--object-format=sha256", "-b", "main", "other")
    export = subprocess.run(
        [program, "-C", str(cli.profiles), "fast-export", "--all"], capture_output=True, check=True
    ).stdout
    run(program, cli.home / "other", "fast-import", "--quiet", data=export)
    shutil.move(cli.profiles / ".git" / "tweakio", cli.home / "other" / ".git" / "tweakio")
    shutil.rmtree(cli.profiles / ".git")
    shutil.move(cli.home / "other" / ".git", cli.profiles / ".git")
    run(program, cli.profiles, "reset", "-q")
    (cli.home / "other").rmdir()


def test_sha_256_is_refused_and_the_way_out_of_it_works(cli: Cli, program: str) -> None:
    log = run(program, cli.profiles, "log", "--format=%s")
    cli.ok("profile", "delete", "p3")
    log = f"delete p3\n{log}"
    sha256(cli, program)
    said = refused(cli, "extensions.objectformat = sha256", "fast-export", "docs/recovery.md")
    assert str(cli.profiles) in said
    text = (ROOT / "docs" / "recovery.md").read_text()
    commands = re.search(r"## The repository uses SHA-256.*?```sh\n(.*?)```", text, re.DOTALL)
    assert commands is not None
    *lines, doctor = commands[1].splitlines()
    script = "\n".join(
        [
            "set -e",
            *(
                line.replace("git ", f"{program} ", 1) if line.startswith("git ") else line
                for line in lines
            ),
        ]
    )
    script = script.replace("| git ", f"| {program} ")
    variables = environment(cli.base)
    subprocess.run(["sh", "-c", script], check=True, cwd=cli.home, env=variables)
    cli.ok(*doctor.split()[1:])
    assert run(program, cli.profiles, "log", "--format=%s") == log
    sound(cli)
    cli.ok("profile", "undo")
    assert (cli.profiles / "p1" / "browser_profile" / "Cookies").read_bytes() == b"cookies"
    assert (cli.profiles / "p3" / "browser_profile").is_dir()


def settings(**values: str) -> Callable[[Cli], None]:
    """The configuration of a form; nothing else is looked at to refuse it."""

    def change(cli: Cli) -> None:
        config = cli.profiles / ".git" / "config"
        text = config.read_text().replace(
            "formatversion = 0", f"formatversion = {values['version']}"
        )
        lines = [f"\t{name} = {value}\n" for name, value in values.items() if name != "version"]
        config.write_text(text + "[extensions]\n" + "".join(lines))

    return change


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"version": "1", "refStorage": "reftable"}, ("reftable", "refs migrate")),
        ({"version": "0", "refstorage": '"reftable" ; of git 2.45'}, ("= reftable)",)),
        ({"version": "1", "objectFormat": "SHA256"}, ("SHA256", "fast-export")),
        ({"version": "1", "unheardOf": "true"}, ("extensions.unheardof = true", "--unset")),
        ({"version": "1", "compatObjectFormat": "sha256"}, ("compatobjectformat", "--unset")),
        ({"version": "9"}, ("repository format 9",)),
    ],
)  # fmt: skip
def test_other_forms_are_refused_by_name(
    cli: Cli, values: dict[str, str], words: tuple[str, ...]
) -> None:
    settings(**values)(cli)
    said = refused(cli, *words)
    if "--unset" in words:
        hinted(said, cli)
        sound(cli)
        cli.ok("profile", "set", "p1", "--note", "x")


@pytest.mark.parametrize(
    "values",
    [
        {"version": "1", "objectformat": "sha1", "refstorage": "files"},
        {"version": "1", "noop": "true", "preciousObjects": "true"},
        {"version": "1", "worktreeConfig": "true", "relativeWorktrees": "true"},
        {"version": "0", "unheardOf": "git looks at it in version 1 only"},
    ],
)
def test_forms_that_change_nothing(cli: Cli, values: dict[str, str]) -> None:
    settings(**values)(cli)
    sound(cli)
    cli.ok("profile", "set", "p1", "--note", "x")
    cli.ok("repo", "gc")
    sound(cli, "--fix")
    if "unheardOf" in values:
        assert run(GITS[0], cli.profiles, "status", "--porcelain") == ""


@pytest.mark.parametrize("newer", with_at_least(2, 45))
def test_reftable_by_git_itself(cli: Cli, newer: str) -> None:
    """Two homes: one with reflogs, which git 2.48 migrates, and one without."""
    other = cli.base / "cloned"
    run(newer, cli.base, "-c", "core.logAllRefUpdates=false", "clone", "-q", "--no-hardlinks",
        "--ref-format=reftable", str(cli.profiles), str(other))  # fmt: skip
    shutil.rmtree(cli.profiles / ".git")
    shutil.move(other / ".git", cli.profiles / ".git")
    said = refused(cli, "extensions.refstorage = reftable", "refs migrate --ref-format=files")
    directory = cli.base / "bin"
    directory.mkdir()
    (directory / "git").symlink_to(newer)
    hinted(said, cli, f"{directory}:/usr/bin:/bin")
    sound(cli, "--fix")
    cli.ok("profile", "set", "p1", "--note", "x")


def test_a_foreign_repository_of_such_a_form_is_left_alone(tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    cli.profiles.mkdir(parents=True)
    run(GITS[0], cli.profiles, "init", "-q", "--object-format=sha256")
    (cli.profiles / "file").write_text("x")
    run(GITS[0], cli.profiles, "add", ".")
    run(GITS[0], cli.profiles, "commit", "-q", "-m", "x")
    refused(cli, "sha256")
