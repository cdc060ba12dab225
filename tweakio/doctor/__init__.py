"""``tweakio repo doctor``: says what is wrong with a repository, and mends what can be.

It trusts nothing: every object that history needs is read, and what can be derived again is
derived again. Nothing is thrown away: a git directory that cannot be mended is put aside
whole, and its trash is taken over into the new one.

What cannot be read for a reason of the moment is no damage, and ends everything. So before the
first repair all is looked at once without one; what is found damaged then is looked at again.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tweakio.doctor.case import Case
from tweakio.doctor.examination import Examination
from tweakio.doctor.report import Finding, Kept, Report
from tweakio.doctor.witness import find_witness
from tweakio.errors import StorageError, storage_error, system_error
from tweakio.owners import refuse_foreign_owner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tweakio.doctor.case import Healer
    from tweakio.layout import Layout

__all__ = ["Finding", "Kept", "Report", "examine"]

# Of these a repair may need: its locks, a pack and what it is written to, modules, git.
_DESCRIPTORS = 16


def examine(
    layout: Layout,
    *,
    fix: bool = False,
    cut: bool | Callable[[str], bool] = False,
    command: str = "repo doctor",
    progress: Callable[[int], None] | None = None,
    healer: Healer | None = None,
) -> Report:
    """Look at everything, and mend it if asked.

    Args:
        layout: the home.
        fix: mend what can be mended; else nothing is changed.
        cut: whether history may be cut or rebuilt where some of it is lost, or a function that is
            asked, with what would be given up.
        command: for the history.
        progress: called with the number of commits read so far.
        healer: brings lost objects back from other places; see ``Case``.

    Raises:
        HomeNotFoundError: there is no such home.
        ForeignRepositoryError: the repository is somebody else's.
        NewerFormatError: made by a newer tweakio.
        FileAccessError: the home is another user's, and something was to be mended.
        StorageError: something cannot be read now, which tells nothing of it.
    """

    def run(*, fix: bool) -> Report:
        consent = cut if callable(cut) else lambda _: cut is True
        witness = find_witness(layout.git_dir / "objects")
        case = Case(
            layout,
            fix=fix,
            command=command,
            progress=progress or (lambda _: None),
            consent=consent,
            witness=witness,
            healer=healer,
        )
        return Examination(case).run()

    if fix:
        refuse_foreign_owner(layout)
    with _examining():
        if fix:
            _reserve()
        report = run(fix=False)
    if not fix:
        return report
    try:
        return run(fix=True)
    except (OSError, ImportError, MemoryError) as error:
        failure = system_error(error, "repair the repository")
        if failure is None:
            raise
        raise failure from error


@contextmanager
def _examining() -> Iterator[None]:
    """Say of what cannot be read now that it is why nothing was examined."""
    try:
        yield
    except (OSError, ImportError, MemoryError) as error:
        failure = error if isinstance(error, StorageError) else system_error(error, "read it")
        if failure is None:
            raise
        raise type(failure)(
            f"cannot examine the repository now; nothing was changed: {failure.message}",
            # To ask the doctor is no advice here.
            hint="" if "repo doctor" in failure.hint else failure.hint,
            **failure.details,
        ) from error


def _reserve() -> None:
    """Return if a repair can have the descriptors that it needs.

    Raises:
        StorageError: it would end in the middle for want of them.
    """
    opened: list[int] = []
    try:
        for _ in range(_DESCRIPTORS):
            opened.append(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        lack = OSError(error.errno, error.strerror)
        raise storage_error(lack, f"open {_DESCRIPTORS} files, as a repair may have to") from error
    finally:
        for descriptor in opened:
            os.close(descriptor)
