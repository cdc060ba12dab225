"""What ``tweakio repo doctor`` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tweakio.cli.output import clean, emit, is_terminal, notice
from tweakio.cli.render import json_text, plain_rows
from tweakio.errors import RepositoryDamagedError

if TYPE_CHECKING:
    from tweakio.doctor import Finding, Report

__all__ = ["print_report"]


def print_report(report: Report, *, as_json: bool) -> int:
    """Print what the doctor found.

    Returns:
        The exit code: that of a damaged repository if anything is left wrong.
    """
    if as_json:
        emit(json_text(_report_json(report)))
    elif is_terminal():
        emit("".join(_text(finding) for finding in report.findings))
    else:
        emit(plain_rows(_row(finding) for finding in report.findings))
    what = f"{report.commits} commits and {report.profiles} profiles were looked at"
    if not as_json:
        notice(f"{what}: {'all is well' if report.healthy else 'something is wrong'}")
    return 0 if report.healthy else RepositoryDamagedError.exit_code


def _report_json(report: Report) -> dict[str, Any]:
    return {
        "healthy": report.healthy,
        "commits": report.commits,
        "profiles": report.profiles,
        "findings": [
            {
                "code": finding.code,
                "severity": finding.severity,
                "fixed": finding.fixed,
                "message": finding.message,
                "hint": finding.hint,
            }
            for finding in report.findings
        ],
    }


def _row(finding: Finding) -> tuple[str, ...]:
    fixed = "fixed" if finding.fixed else ""
    return finding.code, finding.severity, fixed, finding.message, finding.hint


def _text(finding: Finding) -> str:
    fixed = " (fixed)" if finding.fixed else ""
    hint = f"  {clean(finding.hint)}\n" if finding.hint else ""
    return f"{finding.severity}{fixed}: {clean(finding.message)}\n{hint}"
