"""What ``tweakio repo doctor`` prints."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from tweakio.cli.output import clean, emit, is_terminal, notice, say
from tweakio.cli.render import json_text, plain_rows
from tweakio.doctor.report import Report
from tweakio.errors import RepositoryDamagedError

if TYPE_CHECKING:
    from tweakio.doctor.report import Finding

__all__ = ["agrees", "joined", "print_report"]


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
    for item in report.kept:
        notice(f"set aside: {item.path}")
        notice(f"to bring it back: {item.command}")
    what = f"{report.commits} commits and {report.profiles} profiles were looked at"
    if not as_json:
        notice(f"{what}: {'all is well' if report.healthy else 'something is wrong'}")
    return 0 if report.healthy else RepositoryDamagedError.exit_code


def agrees(report: Report) -> bool:
    """Ask at a terminal whether to give up what a repair would cost."""
    if not report.losses or sys.stdin is None or sys.stderr is None:
        return False
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    for loss in report.losses:
        say(f"this cannot be repaired without giving up {loss}")
    say("the damaged files are set aside; a backup or a remote may have more")
    sys.stderr.write("tweakio: go on without it? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def joined(first: Report, second: Report) -> Report:
    """Two runs as one: what the first has repaired the second does not find."""
    return Report(
        [item for item in first.findings if item.fixed] + second.findings,
        second.commits,
        second.profiles,
        first.kept + second.kept,
        second.losses,
    )


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
        "losses": report.losses,
        "kept": [{"path": item.path, "command": item.command} for item in report.kept],
    }


def _row(finding: Finding) -> tuple[str, ...]:
    fixed = "fixed" if finding.fixed else ""
    return finding.code, finding.severity, fixed, finding.message, finding.hint


def _text(finding: Finding) -> str:
    fixed = " (fixed)" if finding.fixed else ""
    hint = f"  {clean(finding.hint)}\n" if finding.hint else ""
    return f"{finding.severity}{fixed}: {clean(finding.message)}\n{hint}"
