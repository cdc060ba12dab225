"""What every part of an examination shares: the home, whether to mend it, what was found."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from tweakio import durable
from tweakio.doctor.report import Finding, Kept, Report, Severity
from tweakio.errors import command

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from tweakio.doctor.witness import Witness
    from tweakio.layout import Layout
    from tweakio.store.repository import Repository

    Healer = Callable[[Repository, Collection[str]], tuple[Sequence[str], Sequence[str]]]

__all__ = ["Case"]


class Case:
    """One examination.

    Args:
        layout: the home.
        fix: mend what can be mended.
        command: for the history.
        progress: called with the number of commits read so far.
        consent: asked before history is cut or rebuilt, with what would be lost.
        witness: the git program here, which may read what we do not; None if there is none.
        healer: brings objects that are lost back from other places, and undoes cuts of history
            that are needless then; None if there are no other places. It is asked without a lock,
            and says in one line each what came back, and why a place was of no use.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        fix: bool,
        command: str,
        progress: Callable[[int], None],
        consent: Callable[[str], bool] = lambda _: False,
        witness: Witness | None = None,
        healer: Healer | None = None,
    ) -> None:
        self.layout = layout
        self.fix = fix
        self.command = command
        self.progress = progress
        self._consent = consent
        self.witness = witness
        self.healer = healer
        self.report = Report()
        self.only_git: set[bytes] = set()
        """What git can read and we cannot: it is larger than any object of ours."""
        self._shelf: Path | None = None

    def add(
        self, code: str, severity: Severity, message: str, *, fixed: bool = False, hint: str = ""
    ) -> None:
        """Report something."""
        if not hint and not fixed and severity != "note":
            hint = "run 'tweakio repo doctor --fix'"
        self.report.findings.append(Finding(code, severity, message, fixed, "" if fixed else hint))

    def agrees(self, loss: str) -> bool:
        """Whether somebody agrees to give something up; what nobody agrees to is reported."""
        if self._consent(loss):
            return True
        self.report.losses.append(loss)
        return False

    def keep(self, path: Path) -> None:
        """Move damaged bytes of the git directory aside, below one directory of this run.

        There they have the same path as they had in the git directory, so that one command
        brings all of them back.
        """
        if self._shelf is None:
            name = f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}-{time.time_ns() % 10**9:09}"
            self._shelf = self.layout.local / "damaged" / name
            back = (
                ("cp -a", f"{self._shelf}/.") if os.name != "nt" else ("robocopy /e", self._shelf)
            )
            self.report.kept.append(
                Kept(os.fspath(self._shelf), command(*back, self.layout.git_dir))
            )
        inside = path.is_relative_to(self.layout.git_dir)
        if inside:
            target = self._shelf / path.relative_to(self.layout.git_dir)
        else:  # of the work tree, which no copy back into the git directory is to bring
            target = self._shelf.with_name(f"{self._shelf.name}-{path.name}")
        durable.make_directory(target.parent, parents=True)
        while durable.is_there(target):
            target = target.with_name(f"{target.name}~")  # what took its place was damaged, too
        os.replace(path, target)
        if not inside:
            self.moved(path, target)

    def moved(self, path: Path, aside: Path) -> None:
        """Note that something was renamed to another place."""
        self.report.kept.append(Kept(os.fspath(aside), command("mv", aside, path)))
