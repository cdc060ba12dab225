"""The tables of what somebody can do name a test for each answer, and that test is there."""

from __future__ import annotations

import re

import pytest
from cli_helpers import ROOT

TABLES = {"sync.md": "What somebody who can push can do"}
_ROW = re.compile(r"^\| [^|]+ \| [^|]+ \| ([^|]+) \|$", re.M)
_TEST = re.compile(r"`([\w/]+\.py)(?:::(\w+))?`")


def _rows(page: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    section = text[text.index(f"## {TABLES[page]}") :]
    return _ROW.findall(section.split("\n## ", 1)[0])[1:]


@pytest.mark.parametrize("page", TABLES)
def test_each_answer_has_a_test(page: str) -> None:
    rows = _rows(page)
    assert len(rows) > 5
    for tests in rows:
        named = _TEST.findall(tests)
        assert named, tests
        for path, name in named:
            source = (ROOT / "tests" / path).read_text(encoding="utf-8")
            assert not name or f"def {name}(" in source, (path, name)
