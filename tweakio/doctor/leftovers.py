"""Copies of sessions and browser data that git has left among its objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tweakio.store.leftovers import find_leftovers, remove_leftovers

if TYPE_CHECKING:
    from tweakio.doctor.case import Case
    from tweakio.store.repository import Repository

__all__ = ["look_at_leftovers"]


def look_at_leftovers(case: Case, repository: Repository) -> None:
    """Report them; remove them to mend."""
    found = len(find_leftovers(repository).unnamed)
    if not found:
        return
    removed = 0
    if case.fix:
        with repository.exclusive():
            removed = len(remove_leftovers(repository).unnamed)
    copies = "1 copy" if found == 1 else f"{found} copies"
    case.add(
        "secret-left",
        "problem",
        f"git has left {copies} of session or browser data in .git/objects",
        fixed=removed >= found,
        hint="" if not case.fix else "run it again when no git is at work here",
    )
