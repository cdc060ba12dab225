"""What the doctor says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Finding", "Kept", "Report", "Severity"]

Severity = Literal["note", "problem", "damage"]


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        code: a stable word for programs, such as ``ref-damaged``.
        severity: ``note`` (harmless), ``problem`` (a profile or a lock), ``damage`` (the
            repository itself).
        message: one line.
        fixed: whether it was mended in this run.
        hint: what to do about it, if it was not.
    """

    code: str
    severity: Severity
    message: str
    fixed: bool = False
    hint: str = ""


@dataclass(frozen=True)
class Kept:
    """Something that was taken out of the way and not thrown away.

    Attributes:
        path: where it is now.
        command: what brings it back to where it was.
    """

    path: str
    command: str


@dataclass
class Report:
    """What the doctor found.

    Attributes:
        findings: in the order in which they were found.
        commits: how many commits of history could be read.
        profiles: how many profiles there are.
        kept: what was set aside in this run.
        losses: what a repair would have given up, which nobody agreed to.
    """

    findings: list[Finding] = field(default_factory=list)
    commits: int = 0
    profiles: int = 0
    kept: list[Kept] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)

    @property
    def healthy(self) -> bool:
        """Nothing but notes and mended things."""
        return all(item.severity == "note" or item.fixed for item in self.findings)
