"""``profile list``: the short way and Typer's give the same bytes, and little is imported."""

from __future__ import annotations

import json
import sys

import pytest
from cli_helpers import Cli, Holder

# Both ways in one process each, over the whole table: what they print and how they end.
BOTH = """\
import io, json, sys
from tweakio.cli import lane, main

class Bytes(io.TextIOWrapper):
    def __init__(self):
        super().__init__(io.BytesIO(), encoding="utf-8")
    def taken(self):
        self.flush()
        return self.buffer.getvalue().decode()

found = []
short = lane.parse
for arguments in json.loads(sys.argv[2]):
    taken = short(arguments) is not None
    if sys.argv[1] == "typer":
        lane.parse = lambda _: None
    real = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = out, err = Bytes(), Bytes()
    try:
        code = main(arguments)
    finally:
        sys.stdout, sys.stderr = real
    found.append([taken, code, out.taken(), err.taken()])
print(json.dumps(found))
"""
FLAGS = [
    [],
    ["--all"],
    ["--active"],
    ["--corrupted"],
    ["--json"],
    ["--json", "--active"],
    ["--corrupted", "--json"],
    ["--all", "--all"],
    ["--json", "--json", "--active", "--active"],
    ["--all", "--active"],
    ["--active", "--corrupted", "--all"],
    ["--tag", "x"],
    ["--platform", "whatsapp"],
    ["--platform", "icq"],
    ["--tag", "--all"],
    ["--jso"],
    ["--json=1"],
    ["--"],
    ["--", "--json"],
    ["alpha"],
    ["-v"],
    [""],
    ["-h"],
]


def table(homes):
    lines = [["profile", "list", *flags] for flags in FLAGS]
    lines += [["--home", home, "profile", "list", *flags] for home in homes for flags in FLAGS[:7]]
    lines += [
        [f"--home={homes[0]}", "profile", "list"],
        ["--home", homes[0], "--home", homes[1], "profile", "list"],
        ["--home", "", "profile", "list"],
        ["--home", "-x", "profile", "list"],
        ["--home", "--debug", "profile", "list"],
        ["--home", "profile", "list"],
        ["--home"],
        ["--debug", "profile", "list"],
        ["-v", "profile", "list"],
        ["profile"],
        ["profile", "--json", "list"],
        ["profile", "ls"],
        ["list"],
    ]
    return lines


@pytest.fixture(scope="module")
def homes(tmp_path_factory):
    """One with everything in it, one that is empty, one that is missing, one that is a file."""
    base = tmp_path_factory.mktemp("listing")
    full = Cli(base)
    full.ok(
        "profile", "create", "alpha", "beta", "--platform", "whatsapp", "--tag", "é", "--tag", "x"
    )
    full.ok("profile", "create", "gamma", "--platform", "telegram", "--note", "two\nlines")
    full.ok("profile", "activate", "alpha")
    full.damage("beta")
    (base / "empty").mkdir()
    (base / "file").write_text("")
    return [str(base / name) for name in ("home", "empty", "missing", "file")]


def run_table(homes, way, lines):
    from pathlib import Path

    cli = Cli(Path(homes[0]).parent)
    result = cli.python(BOTH, way, json.dumps(lines))
    assert result.code == 0, result.err
    return json.loads(result.out)


def test_both_ways_print_the_same(homes):
    lines = table(homes)
    short = run_table(homes, "short", lines)
    typer = run_table(homes, "typer", lines)
    for line, one, other in zip(lines, short, typer, strict=True):
        if line[:1] != ["--debug"]:  # its tracebacks name the modules of each way
            assert one == other, line
    taken = [line for line, answer in zip(lines, short, strict=True) if answer[0]]
    # The lines that are worth it are taken, and none with a value that a parser must read.
    assert ["profile", "list"] in taken
    assert ["profile", "list", "--json"] in taken
    assert ["--home", homes[0], "profile", "list", "--corrupted"] in taken
    assert len(taken) == 9 + 4 * 7 + 1
    assert {answer[1] for answer in short} >= {0, 2, 9, 12}


def test_the_short_way_is_what_the_command_takes(homes, tmp_path):
    cli = Cli(tmp_path)
    source = (
        "import sys\nfrom tweakio.cli import main\ncode = main(sys.argv[1:])\n"
        "print('typer' in sys.modules, code, file=sys.stderr)\n"
    )
    arguments = ["--home", homes[0], "profile", "list"]
    assert cli.python(source, *arguments).err.splitlines()[-1] == "False 0"
    assert cli.python(source, *arguments, "--tag", "x").err.splitlines()[-1] == "True 0"


HEAVY = {"pydantic", "dulwich", "filelock", "psutil", "rich", "platformdirs"}
IMPORTS = (
    "import sys\nfrom tweakio.cli import main\ncode = main(sys.argv[1:])\n"
    "print(*sorted(sys.modules), file=sys.stderr)\nsys.exit(code)\n"
)


@pytest.mark.parametrize(
    "arguments",
    [[], ["--json"], ["--active"], ["--tag", "x"], ["--platform", "whatsapp"]],
    ids=" ".join,
)
def test_listing_imports_nothing_heavy(tmp_path, arguments):
    cli = Cli(tmp_path)
    cli.create("alpha", "beta")
    cli.ok("profile", "activate", "alpha")
    cli.ok("profile", "list")
    result = cli.python(IMPORTS, "profile", "list", *arguments)
    assert result.code == 0
    loaded = {name.partition(".")[0] for name in result.err.split()}
    assert not loaded & HEAVY
    if not any(argument in ("--tag", "--platform") for argument in arguments):
        assert "typer" not in loaded


def test_listing_makes_no_dataclasses(tmp_path):
    """They cost a sixth of its time; what Python's own modules import is not ours to choose."""
    cli = Cli(tmp_path)
    cli.create("alpha")
    source = (
        "import sys, datetime, hashlib, json, logging, pathlib, typing\n"
        "before = set(sys.modules)\n"
        "from tweakio.cli import main\ncode = main(sys.argv[1:])\n"
        "print(*sorted(set(sys.modules) - before), file=sys.stderr)\n"
    )
    loaded = set(cli.python(source, "profile", "list").err.split())
    assert "tweakio.manager" in loaded
    assert not loaded & {"dataclasses", "getpass", "inspect"}


def test_listing_what_is_in_use_stays_light(tmp_path):
    cli = Cli(tmp_path)
    cli.create("alpha")
    with Holder(cli, "alpha"):
        result = cli.python(IMPORTS, "profile", "list")
    assert result.out.split("\t")[3] == "in_use"
    loaded = {name.partition(".")[0] for name in result.err.split()}
    # psutil tells whether a process lives only where there is no /proc.
    assert not loaded & (HEAVY if sys.platform == "linux" else HEAVY - {"psutil"})


def test_a_command_with_plain_values_needs_no_pydantic_of_typers(tmp_path):
    cli = Cli(tmp_path)
    cli.create("alpha")
    result = cli.python(IMPORTS, "profile", "history", "alpha", "-n", "3")
    assert len(result.out.splitlines()) == 1
    loaded = {name.partition(".")[0] for name in result.err.split()}
    assert not loaded & {"pydantic", "rich"}
