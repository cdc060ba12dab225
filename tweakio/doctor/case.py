"""What every part of an examination shares: the home, whether to mend it, what was found."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from tweakio import durable
from tweakio.doctor.report import Finding, Report, Severity

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tweakio.layout import Layout

__all__ = ["Case"]


class Case:
    """One examination.

    Args:
        layout: the home.
        fix: mend what can be mended.
        command: for the history.
        progress: called with the number of commits read so far.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        fix: bool,
        command: str,
        progress: Callable[[int], None],
    ) -> None:
        self.layout = layout
        self.fix = fix
        self.command = command
        self.progress = progress
        self.report = Report()

    def add(
        self, code: str, severity: Severity, message: str, *, fixed: bool = False, hint: str = ""
    ) -> None:
        """Report something."""
        if not hint and not fixed and severity != "note":
            hint = "run 'tweakio repo doctor --fix'"
        self.report.findings.append(Finding(code, severity, message, fixed, "" if fixed else hint))

    def keep(self, path: Path) -> None:
        """Move damaged bytes of the git directory aside."""
        shelf = self.layout.local / "damaged"
        durable.make_directory(shelf, parents=True)
        os.replace(path, shelf / f"{path.name}-{time.time_ns()}")
