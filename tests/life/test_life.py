"""The long life in its short form: it runs, git agrees, and the picture is one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.life.picture import Panel, draw

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("git") is None, reason="git counts and checks the commits")
@pytest.mark.no_cover
def test_short_form(tmp_path: Path) -> None:
    figures, picture = tmp_path / "life.json", tmp_path / "life.svg"
    done = subprocess.run(
        [sys.executable, "-m", "tests.life", "--activations", "400", "--profiles", "20",
         "--looks", "10", "--json", str(figures), "--svg", str(picture)],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "401 commits, git fsck --strict: clean" in done.stdout
    rows = json.loads(figures.read_text())["rows"]
    assert [row["activations"] for row in rows] == list(range(40, 401, 40))
    # Some 64 commits are loose packs of their own between two packings.
    assert max(row["files"] for row in rows) < 600
    assert rows[-1]["descriptors"] <= rows[1]["descriptors"] + 4
    lines = ET.parse(picture).getroot().findall("{*}polyline")
    assert len(lines) == 6


def test_picture() -> None:
    text = draw("a < b", [Panel("x", {"one": [(0, 0), (10, 3.7)]}), Panel("empty", {})])
    root = ET.fromstring(text)
    (line,) = root.findall("{*}polyline")
    first, last = (point.split(",") for point in line.attrib["points"].split())
    assert float(first[0]) < float(last[0])
    assert float(first[1]) > float(last[1])  # SVG counts downwards
    assert "4" in [label.text for label in root.findall("{*}text")]
