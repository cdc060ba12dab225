"""The tables of docs/performance.md, made from what was measured."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.benchmark.timing import Comparison, NotRun

__all__ = ["replace_tables", "tables"]

_BEGIN = re.compile(r"<!-- figures: python -m tests\.benchmark .*-->\n")
_END = "<!-- end of figures -->\n"


def tables(machine: str, rows: Sequence[Comparison], not_run: Sequence[NotRun]) -> str:
    """The figures as Markdown: what has a target, then the rest."""
    parts = [
        f"{machine}.\n",
        "| operation | against | profiles | ours | other | ratio | half of the rounds | target | |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_line(row) for row in rows if row.target is not None),
        "\nWithout a target:\n",
        "| operation | against | profiles | ours | other | ratio | half of the rounds |",
        "|---|---|---|---|---|---|---|",
        *(_line(row) for row in rows if row.target is None),
        *(f"\nNot run: {item.what}: {item.reason}." for item in not_run),
    ]
    return "\n".join(parts) + "\n"


def _line(row: Comparison) -> str:
    cells = [row.operation, row.against, f"{row.profiles:,}" if row.profiles else ""]
    if row.other is None:
        cells += [_amount(row.ours, row.unit), "", "", ""]
    else:
        cells += [
            _amount(row.ours, row.unit),
            _amount(row.other, row.unit),
            f"{row.ratio:.2f}",
            f"{row.low:.2f} to {row.high:.2f}",
        ]
    if row.target is not None:
        cells += [f"{row.target:,g}", "missed" if row.missed else "met"]
    return f"| {' | '.join(cells)} |"


def _amount(value: float, unit: str) -> str:
    digits = 0 if value >= 100 else 1 if value >= 1 else 2
    return f"{value:,.{digits}f} {unit}"


def replace_tables(page: Path, content: str) -> None:
    """Put tables into a page, between its two marks."""
    text = page.read_text()
    begin = _BEGIN.search(text)
    _, end, after = text[begin.end() :].partition(_END) if begin else ("", "", "")
    if begin is None or not end:
        raise ValueError(f"{page} has no place for figures")
    page.write_text(f"{text[: begin.end()]}\n{content}\n{end}{after}")
