"""``tweakio repo doctor``: says what is wrong with a repository, and mends what can be.

It trusts nothing: every object that history needs is read, and what can be derived again is
derived again. Nothing is thrown away: a git directory that cannot be mended is put aside
whole, and its trash is taken over into the new one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tweakio.doctor.case import Case
from tweakio.doctor.examination import Examination
from tweakio.doctor.report import Finding, Report
from tweakio.errors import TweakioError, storage_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from tweakio.layout import Layout

__all__ = ["Finding", "Report", "examine"]


def examine(
    layout: Layout,
    *,
    fix: bool = False,
    command: str = "repo doctor",
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Look at everything, and mend it if asked.

    Args:
        layout: the home.
        fix: mend what can be mended; else nothing is changed.
        command: for the history.
        progress: called with the number of commits read so far.

    Raises:
        HomeNotFoundError: there is no such home.
        ForeignRepositoryError: the repository is somebody else's.
        NewerFormatError: made by a newer tweakio.
    """
    try:
        case = Case(layout, fix=fix, command=command, progress=progress or (lambda _: None))
        return Examination(case).run()
    except OSError as error:
        if isinstance(error, TweakioError):
            raise
        raise storage_error(error, "examine the repository") from error
