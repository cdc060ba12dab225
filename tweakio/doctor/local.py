"""What is this machine's own in a git directory: locks, hooks, and what is under way."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tweakio import durable
from tweakio.doctor.strict import content
from tweakio.errors import run
from tweakio.identity import configuration
from tweakio.store import driver, hooks
from tweakio.store.elsewhere import objects_elsewhere
from tweakio.store.journal import Journal
from tweakio.store.refs import is_abandoned, set_aside
from tweakio.store.underway import under_way

if TYPE_CHECKING:
    from tweakio.doctor.case import Case
    from tweakio.store.repository import Repository

__all__ = ["look_at_hooks", "look_at_locks", "look_elsewhere"]

_ALTERNATES = "objects/info/alternates"

_CHECKED = {
    "pre-commit": "commits",
    "pre-push": "pushes",
    "reference-transaction": "fetches and merges",
}


def look_at_locks(case: Case, repository: Repository) -> None:
    """Report interrupted changes and lock files; set those aside that a dead git left."""
    if Journal.exists(case.layout):
        case.add("interrupted", "note", "a change was interrupted; the next one finishes it")
    if found := under_way(case.layout.git_dir):
        case.add(
            "git-in-progress",
            "problem",
            f"a {found.what} is under way in the profile repository",
            hint=found.hint(case.layout.profiles),
        )
    for lock in sorted(case.layout.git_dir.glob("*.lock")) + sorted(
        (case.layout.git_dir / "refs").rglob("*.lock")
    ):
        if repository.git_locks.is_ours(lock):
            continue  # the next change removes it
        if is_abandoned(lock, case.layout.git_dir, after=1.0):
            if case.fix:
                set_aside(lock, case.layout.locks / "abandoned")
            message = f"{lock.name} was left by a git that is gone"
            case.add("abandoned-lock", "problem", message, fixed=case.fix)
        else:
            message = f"{lock.name} is held by a git that is running"
            case.add("git-running", "note", message)


def look_at_hooks(case: Case) -> None:
    """Report hooks that are missing or not ours; install ours.

    To mend, the repository's lock is held.
    """
    place = case.layout.git_dir / "hooks"
    missing = [name for name in hooks.HOOKS if not os.path.lexists(place / name)]
    gone = driver.gone_python(case.layout.git_dir)
    if case.fix:
        hooks.install_hooks(case.layout.git_dir)
        if gone:
            driver.ensure_driver(case.layout.git_dir, case.layout.temporary)
    if gone:
        case.add(
            "driver-gone",
            "problem",
            f"the Python that git merges profiles with is gone ({gone[:200]!a}), so git finds "
            "conflicts where there are none",
            fixed=case.fix,
        )
    if missing:
        names = f"hook {missing[0]} is" if len(missing) == 1 else f"hooks {', '.join(missing)} are"
        message = f"the {names} missing, so {_unchecked(missing)}"
        fixed = all((place / name).exists() for name in missing)
        case.add("hook-missing", "problem", message, fixed=fixed)
    for name in hooks.foreign_hooks(case.layout.git_dir):
        message = f"the hook {name} is not tweakio's, so {_unchecked([name])}"
        case.add("foreign-hook", "note", message)
    if elsewhere := _hooks_elsewhere(case):
        case.add(
            "hooks-elsewhere",
            "note",
            f"core.hooksPath sends git to {elsewhere[:200]!a} for hooks, "
            f"so {_unchecked(list(hooks.HOOKS))}",
            hint=run("git -C", case.layout.profiles, then="config core.hooksPath .git/hooks"),
        )


def _hooks_elsewhere(case: Case) -> str:
    """Where git looks for hooks, if that is not where ours are."""
    git_dir = case.layout.git_dir
    path = configuration(git_dir / "config")("core", "hooksPath")
    if not path:
        return ""
    place = os.path.join(case.layout.profiles, os.path.expanduser(path))
    return "" if os.path.realpath(place) == os.path.realpath(git_dir / "hooks") else path


def look_elsewhere(case: Case) -> None:
    """Report that objects are in another place.

    Nothing is missing here, or reading it would have ended everything; so a place that is gone
    can be forgotten.
    """
    git_dir = case.layout.git_dir
    found = objects_elsewhere(git_dir)
    if found is None:
        return
    lines = (content(git_dir / _ALTERNATES, 1 << 20) or b"").split(b"\n")
    objects = os.fsencode(git_dir / "objects")
    named = [line for line in lines if line and not line.startswith(b"#")]
    if not named or any(durable.is_there(os.fsdecode(os.path.join(objects, n))) for n in named):
        case.add("objects-elsewhere", "note", found.reason, hint=found.hint)
        return
    if case.fix:
        case.keep(git_dir / _ALTERNATES)
    message = f"{_ALTERNATES} names a place that is gone, and nothing of which is needed"
    case.add("objects-elsewhere", "problem", message, fixed=case.fix)


def _unchecked(names: list[str]) -> str:
    what = " and ".join(_CHECKED[name] for name in names)
    return f"{what} by hand are not checked"
