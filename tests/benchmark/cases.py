"""What is measured: the targets of the project, and what is good to know."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmark.homes import add_history, clone, make_home, metadata_bytes, name
from tests.benchmark.timing import Comparison, in_turns, measure
from tweakio import ProfileManager

if TYPE_CHECKING:
    from collections.abc import Callable

    Work = tuple[Callable[[], object], Callable[[], object]]

__all__ = ["against_git", "growth", "list_command", "long_history", "other_operations"]

ACTIVATE_TARGETS = {100: 0.6, 1_000: 0.5, 10_000: 0.3}
HISTORY_TARGET = 1.3
GROWTH_TARGET = 2048.0
LIST_TARGET = 7.0


def _nothing() -> None:
    pass


def _pairs(profiles: int) -> list[int]:
    """Which profiles take their turn: spread over all of them."""
    step = max(1, profiles // 16)
    return list(range(0, profiles, step))


def against_git(directory: Path, profiles: int, rounds: int) -> list[Comparison]:
    """A selection, and a switch, against ``git add && git commit`` of the same change."""
    manager = make_home(directory / "home", profiles)
    plain = clone(directory / "home", directory / "clone")
    turn = _pairs(profiles)

    def commit(changed: list[tuple[str, bool]], *options: str) -> Callable[[], object]:
        paths = [f"{profile}/metadata.json" for profile, _ in changed]
        for (profile, active), path in zip(changed, paths, strict=True):
            (plain / path).write_bytes(metadata_bytes(plain, profile, active=active))

        def work() -> None:
            base = ["git", "-C", os.fspath(plain), *options]
            subprocess.run([*base, "add", "--", *paths], check=True, capture_output=True)
            subprocess.run([*base, "commit", "-qm", "x"], check=True, capture_output=True)

        return work

    def select(number: int) -> Work:
        profile = name(turn[number % len(turn)])
        return lambda: manager.select_profile(profile), manager.deactivate_profile

    def git_select(number: int) -> Work:
        profile = name(turn[number % len(turn)])
        return commit([(profile, True)]), _nothing

    def synced_select(number: int) -> Work:
        profile = name(turn[number % len(turn)])
        return commit([(profile, True)], "-c", "core.fsync=all"), _nothing

    def switch(number: int) -> Work:
        profile = name(turn[number % len(turn)])
        return lambda: manager.select_profile(profile), _nothing

    def git_switch(number: int) -> Work:
        profile, other = (name(turn[at % len(turn)]) for at in (number, number - 1))
        return commit([(profile, True), (other, False)]), _nothing

    target = ACTIVATE_TARGETS.get(profiles)
    found = [
        in_turns(f"activate, {profiles:,} profiles, to git", rounds, select, git_select, target),
        in_turns(
            f"activate, {profiles:,} profiles, to git that syncs as well",
            rounds,
            select,
            synced_select,
        ),
        in_turns(f"switch, {profiles:,} profiles, to git", rounds, switch, git_switch),
    ]
    manager.close()
    return found


def long_history(directory: Path, commits: int, rounds: int) -> tuple[list[Comparison], str]:
    """A selection with a long history behind it against one with 100 commits."""
    profiles = 100
    short = make_home(directory / "short", profiles)
    long = make_home(directory / "long", profiles)
    add_history(short, 100)
    how = add_history(long, commits)

    def select(manager: ProfileManager) -> Callable[[int], Work]:
        return lambda number: (
            lambda: manager.select_profile(name(number % profiles)),
            manager.deactivate_profile,
        )

    title = f"activate after {commits:,} commits, to after 100"
    warm = in_turns(title, rounds, select(long), select(short), HISTORY_TARGET)

    def history(manager: ProfileManager) -> Callable[[int], Work]:
        return lambda number: (
            lambda: manager.history(name(number % profiles), limit=1),
            _nothing,
        )

    newest = in_turns(
        f"newest change of a profile after {commits:,} commits, to after 100",
        max(3, rounds // 3),
        history(long),
        history(short),
    )
    long.close()
    short.close()
    return [warm, newest], how


def _size(directory: Path) -> int:
    cache = directory / "tweakio" / "cache"
    return sum(
        (Path(base) / file).stat().st_size
        for base, _, files in os.walk(directory)
        if Path(base) != cache  # one file with the present state, which does not grow
        for file in files
    )


def growth(directory: Path, profiles: int, activations: int) -> Comparison:
    """Bytes that one activation adds to the git directory, reflogs included, once packed."""
    manager = make_home(directory / "home", profiles)
    names = [name(number % profiles) for number in range(activations)]
    manager.select_profile(name(profiles - 1))
    manager.gc()
    before = _size(manager.home / "profiles" / ".git")
    for profile in names:
        manager.select_profile(profile)
    manager.gc()
    grown = (_size(manager.home / "profiles" / ".git") - before) / activations
    manager.close()
    return Comparison(
        f"growth per activation, {profiles:,} profiles, packed",
        grown, None, grown, grown, grown, GROWTH_TARGET, "bytes",
    )  # fmt: skip


def list_command(directory: Path, rounds: int) -> list[Comparison]:
    """``tweakio profile list`` of 100 profiles against a Python that does nothing."""
    make_home(directory / "home", 100).close()
    # Installed packages have their bytecode; a checkout has it after the first run.
    unwanted = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
    environment = {key: value for key, value in os.environ.items() if key not in unwanted}
    environment["PYTHONPATH"] = os.fspath(Path(__file__).resolve().parents[2])

    def run(command: list[str]) -> Callable[[int], Work]:
        def work() -> None:
            subprocess.run(command, check=True, capture_output=True, env=environment)

        return lambda _: (work, _nothing)

    arguments = ["--home", os.fspath(directory / "home"), "profile", "list"]
    bare = run([sys.executable, "-c", "pass"])
    run([sys.executable, "-m", "tweakio", *arguments])(0)[0]()
    found = [
        in_turns(
            "python -m tweakio profile list of 100, to python -c pass",
            rounds,
            run([sys.executable, "-m", "tweakio", *arguments]),
            bare,
            LIST_TARGET,
        )
    ]
    script = shutil.which("tweakio", path=os.path.dirname(sys.executable))
    if script is not None:
        found.append(
            in_turns(
                "tweakio profile list of 100, to python -c pass",
                rounds,
                run([script, *arguments]),
                bare,
                LIST_TARGET,
            )
        )
    return found


def other_operations(directory: Path, profiles: int, rounds: int) -> list[tuple[str, str]]:
    """Milliseconds of the other operations at one size, for information."""
    manager = make_home(directory / "home", profiles)
    home = manager.home
    fresh = (f"new-{number:05}" for number in itertools.count())
    made: list[str] = []

    def create(_: int) -> Work:
        made.append(next(fresh))
        return lambda: manager.create_profile(made[-1], "whatsapp"), _nothing

    def delete(_: int) -> Work:
        return lambda: manager.delete_profile(made.pop()), _nothing

    def undo(_: int) -> Work:
        manager.select_profile(name(0))
        return manager.undo, _nothing

    def first_list(_: int) -> tuple[Callable[[], object], None]:
        def work() -> None:
            with ProfileManager(home) as opened:
                opened.list_profiles()

        return work, None

    def history(_: int) -> Work:
        return lambda: manager.history(name(profiles // 2)), _nothing

    def recover(_: int) -> Work:
        (manager.layout.profile(name(1)).metadata).write_bytes(b"{")
        return lambda: manager.recover_profile(name(1)), _nothing

    few = max(2, rounds // 3)
    found = [
        ("create", str(measure(rounds, create))),
        ("delete, into the trash", str(measure(rounds, delete))),
        ("undo of an activation", str(measure(few, undo))),
        ("list", str(measure(few, lambda _: (manager.list_profiles, None)))),
        ("open and list", str(measure(few, first_list))),
        ("history of one profile", str(measure(few, history))),
        ("soft recovery", str(measure(few, recover))),
    ]
    manager.close()
    return found
