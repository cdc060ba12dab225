"""What the pages say that others can and cannot do: every cell is shown by a test."""

from __future__ import annotations

import re
from functools import cache

import pytest
from cli_helpers import ROOT

PAGES = ("vault.md", "sync.md")
HEADS = (("who", "can", "cannot"), ("they", "the answer"))
ROW = re.compile(r"^\|(.*)\|$", re.MULTILINE)
TEST = re.compile(r"^(?:async )?def (test_\w+)", re.MULTILINE)
NAMED = re.compile(r"<!-- (.*?) -->")


@cache
def known() -> frozenset[str]:
    """The names of all tests."""
    found: set[str] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        found.update(TEST.findall(path.read_text("utf-8")))
    return frozenset(found)


def rows(page: str) -> list[list[str]]:
    """The rows of the tables of a page that say who can and cannot do what."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found: list[list[str]] = []
    for block in text.split("\n\n"):
        cells = [[cell.strip() for cell in line.split(" | ")] for line in ROW.findall(block)]
        if cells and tuple(cells[0]) in HEADS:
            assert all(len(row) == len(cells[0]) for row in cells[2:])
            found += cells[2:]
    return found


@pytest.mark.parametrize("page", PAGES)
def test_every_cell_names_tests_that_are_there(page: str) -> None:
    assert len(rows(page)) >= 4
    for row in rows(page):
        for cell in row[1:]:
            if cell == "-":
                continue
            names = [name.strip() for item in NAMED.findall(cell) for name in item.split(",")]
            assert names, f"no test shows: {cell}"
            for name in names:
                assert name in known(), f"{name} is not a test"
            if len(row) == 3:  # and each part of such a cell has its own
                for part in NAMED.sub("<!-- -->", cell).split(";"):
                    assert "<!-- -->" in part, f"no test shows: {part}"
