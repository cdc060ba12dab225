"""``tweakio tour``: it shows the main job, and fails if a step of it does not hold."""

from __future__ import annotations

import os
import re
import time

import pytest
from cli_helpers import Cli, run_in_terminal


@pytest.fixture
def cli(tmp_path):
    (tmp_path / "tmp").mkdir()
    return Cli(tmp_path)


def run(cli, *arguments):
    return cli.run("tour", *arguments, TMPDIR=str(cli.base / "tmp"), TEMP=str(cli.base / "tmp"))


def test_every_step_holds(cli):
    begin = time.monotonic()
    result = run(cli)
    assert time.monotonic() - begin < 15  # 5 on an idle machine
    assert (result.code, result.err) == (0, "")
    assert "Every step did what it says." in result.lines
    assert re.search(r"delete support_bot\n\(SIGKILL\)", result.out) or os.name != "posix"
    assert len(set(re.findall(r"sha256 (\w+)", result.out))) == 1
    assert result.out.count("the same as before") == 2
    assert "(exit code 5)" in result.lines
    assert "undo: delete support_bot" in result.out
    assert re.search(r"The home was .*tweakio-tour-\w+, and is removed\.", result.out)
    assert not os.listdir(cli.base / "tmp")
    assert not cli.home.exists()


def test_the_home_can_be_kept(cli):
    result = run(cli, "--keep")
    home = re.search(r"The home was (\S+), and is kept", result.out)[1]
    listed = cli.ok("--home", home, "profile", "list").rows
    assert [row[0] for row in listed] == ["sales_team", "support_bot"]


def test_it_fits_a_terminal(cli):
    if os.name != "posix":
        pytest.skip("pseudo-terminals of POSIX")
    code, text = run_in_terminal(cli, "tour", TMPDIR=str(cli.base / "tmp"))
    assert code == 0
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()
    assert max(len(line) for line in lines if not line.startswith("The home was")) <= 80


BROKEN_UNDO = """\
import shutil, sys
from tweakio.cli import main
from tweakio.manager import ProfileManager
real = ProfileManager.undo
def undo(self):
    change = real(self)
    shutil.rmtree(self.layout.profile("support_bot").browser_profile)
    return change
ProfileManager.undo = undo
sys.exit(main(["tour"]))
"""


def test_it_fails_if_browser_data_is_lost(cli):
    result = cli.python(BROKEN_UNDO, TMPDIR=str(cli.base / "tmp"))
    assert result.code == 1
    assert "The tour failed: the undo lost browser data." in result.out
    assert not os.listdir(cli.base / "tmp")
