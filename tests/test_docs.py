"""The code in the documentation runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SET_UP = re.compile(r"^(sh \.ci/|python -m tests\.|pip )")


def blocks(language: str) -> list[tuple[str, str]]:
    return [
        (page.name, match[2])
        for page in PAGES
        for match in BLOCK.finditer(page.read_text(encoding="utf-8"))
        if match[1] == language
    ]


@pytest.mark.parametrize(("page", "code"), blocks("python"))
def test_python(page: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWEAKIO_HOME", str(tmp_path / "home"))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.no_cover  # some eighty commands, each of which has tests of its own
@pytest.mark.parametrize(("page", "code"), blocks("sh"))
def test_shell(page: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands on lines of their own, in a home where what they name exists."""
    home = tmp_path / "home"
    monkeypatch.setenv("TWEAKIO_HOME", str(home))
    lines = [line for line in code.splitlines() if line and not SET_UP.match(line)]
    if not lines:
        return  # the two commands of the README, which continuous integration runs itself
    tool = f'tweakio() {{ "{sys.executable}" -m tweakio "$@"; }}\n'
    prepare = "tweakio profile create scratch --platform custom 2>/dev/null\n"
    script = tool + prepare + "set -e\n" + "\n".join(lines)
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_dependency_has_a_reason() -> None:
    """Names and lower bounds in docs/dependencies.md are those of pyproject.toml."""
    text = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found = re.findall(r'^    "([a-z-]+)(?:\[[a-z]+\])?>=([0-9.]+)",$', project, re.MULTILINE)
    assert len(found) > 10
    for name, bound in found:
        in_table = re.search(rf"^\| {name} \| {re.escape(bound)} \|", text, re.MULTILINE)
        in_prose = re.search(rf"\b{name} \({re.escape(bound)}\)", text)
        assert in_table or in_prose, f"{name}>={bound}"
