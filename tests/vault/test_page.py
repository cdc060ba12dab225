"""The commands of docs/vault.md that need the ``age`` program, or a repository beside it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli_helpers import ROOT, environment

PAGE = (ROOT / "docs" / "vault.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```bash\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.skipif(shutil.which("age") is None, reason="age is not installed")
@pytest.mark.parametrize("code", BLOCKS)
def test_it_runs(code: str, tmp_path: Path) -> None:
    tool = f'tweakio() {{ "{sys.executable}" -m tweakio "$@"; }}\n'
    tool += f'python() {{ "{sys.executable}" "$@"; }}\n'
    prepare = "set -e\ntweakio profile create scratch --platform custom >/dev/null\n"
    done = subprocess.run(
        ["sh", "-c", tool + prepare + code],
        capture_output=True, text=True, check=False, env=environment(tmp_path), cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    if "age -d" in code:
        assert '"name": "sid"' in done.stdout
    assert "top secret" not in done.stdout + done.stderr
