"""Changes: create, activate, switch, delete and undo."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from tests.benchmark.homes import make_home, metadata_bytes, name
from tests.benchmark.opponents import Floor, PlainGit, Table
from tests.benchmark.peers import CAMOUCHAT, PYGIT2, Worker, environment
from tests.benchmark.targets import target
from tests.benchmark.timing import Comparison, NotRun, in_turns, milliseconds, timed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.benchmark.timing import Side
    from tweakio import ProfileManager

__all__ = ["changes"]

_GIT = "git add, git commit"
_SYNCED = "git with core.fsync=all"
_PYGIT2 = "pygit2 with index and fsync"
_SQLITE = "sqlite3, WAL, synchronous=FULL"
_CAMOUCHAT = "camouchat-browser"


def changes(
    directory: Path, profiles: int, rounds: int, *, peers: bool
) -> Iterator[Comparison | NotRun]:
    """Every change at one size.

    Args:
        directory: a new one to work in.
        profiles: how many there are.
        rounds: of each comparison.
        peers: install and run the libraries as well.
    """
    with ExitStack() as stack:
        field = _Field(directory, profiles, stack)
        if peers:
            yield from field.hire()
        for operation, sides in field.operations():
            found = in_turns(rounds, sides, seconds=120, settle=True)
            ours = found.pop("")
            for against, other in found.items():
                limit = target(operation, against, profiles)
                yield Comparison.of(operation, against, profiles, ours, other, limit)


class _Field:
    """One home, and what it is compared with."""

    def __init__(self, directory: Path, profiles: int, stack: ExitStack) -> None:
        self._directory = directory
        self._stack = stack
        self._profiles = profiles
        step = max(1, profiles // 16)
        self._turn = [name(number) for number in range(0, profiles, step)]
        home = directory / "home"
        self.manager: ProfileManager = stack.enter_context(make_home(home, profiles))
        self._git = PlainGit(home, directory / "git")
        self._synced = PlainGit(home, directory / "synced", "-c", "core.fsync=all")
        self._table = Table(directory / "table.db", home / "profiles")
        stack.callback(self._table.close)
        self._pygit2: Worker | None = None
        self._camouchat: Worker | None = None

    def hire(self) -> Iterator[NotRun]:
        """Start the libraries; what cannot be had is said."""
        python = environment(PYGIT2)
        if isinstance(python, NotRun):
            yield python
        else:
            self._pygit2_clone = PlainGit(self._directory / "home", self._directory / "pygit2")
            place = str(self._pygit2_clone.place)
            worker = Worker(python, "pygit2", place, variables={})
            self._pygit2 = self._stack.enter_context(worker)
        python = environment(CAMOUCHAT)
        if isinstance(python, NotRun):
            yield python
        else:
            place = str(self._directory / "camouchat")
            worker = Worker(python, "camouchat", variables={"XDG_DATA_HOME": place, "HOME": place})
            self._camouchat = self._stack.enter_context(worker)
            self._camouchat.ask("fill", self._profiles)

    def operations(self) -> Iterator[tuple[str, dict[str, Side]]]:
        """What is measured, with the sides of each; ours has no name."""
        yield "activate", self._activate()
        yield "switch", self._switch()
        yield "create", self._create()
        yield "delete", self._delete()
        yield "undo", self._undo()

    def _chosen(self, number: int) -> str:
        return self._turn[number % len(self._turn)]

    def _activate(self) -> dict[str, Side]:
        manager = self.manager
        manager.select_profile(name(0))
        floor = Floor(self._directory / "floor", manager.layout, name(0))
        manager.deactivate_profile()
        plain = manager.home / "profiles"

        def table(number: int) -> float:
            content = metadata_bytes(plain, self._chosen(number), active=True)
            return milliseconds(lambda: self._table.update(self._chosen(number), content))

        sides: dict[str, Side] = {
            "": timed(
                lambda number: lambda: manager.select_profile(self._chosen(number)),
                manager.deactivate_profile,
            ),
            _GIT: timed(lambda number: self._git.selecting((self._chosen(number), True))),
            _SYNCED: timed(lambda number: self._synced.selecting((self._chosen(number), True))),
            "the floor": timed(lambda _: floor.write),
            _SQLITE: table,
        }
        if (worker := self._pygit2) is not None:
            sides[_PYGIT2] = lambda number: worker.ask(
                "commit", *self._pygit2_clone.write((self._chosen(number), True))
            )
        return sides

    def _switch(self) -> dict[str, Side]:
        def git(number: int) -> Callable[[], object]:
            return self._git.selecting(
                (self._chosen(number), True), (self._chosen(number - 1), False)
            )

        return {
            "": timed(lambda number: lambda: self.manager.select_profile(self._chosen(number))),
            _GIT: timed(git),
        }

    def _create(self) -> dict[str, Side]:
        def new(number: int) -> str:
            return f"new-{number + 2:05}"

        sides: dict[str, Side] = {
            "": timed(lambda number: lambda: self.manager.create_profile(new(number), "whatsapp")),
            _GIT: timed(lambda number: self._git.creating(new(number), name(0))),
            _SQLITE: timed(lambda number: lambda: self._table.insert(new(number))),
        }
        if (worker := self._camouchat) is not None:
            sides[_CAMOUCHAT] = lambda number: worker.ask("create", new(number))
        return sides

    def _delete(self) -> dict[str, Side]:
        sides: dict[str, Side] = {
            "": timed(lambda number: lambda: self.manager.delete_profile(f"new-{number + 2:05}")),
            "git rm, git commit": timed(lambda number: self._git.removing(f"new-{number + 2:05}")),
            _SQLITE: timed(lambda number: lambda: self._table.delete(f"new-{number + 2:05}")),
        }
        if (worker := self._camouchat) is not None:
            sides[_CAMOUCHAT] = lambda number: worker.ask("delete", f"new-{number + 2:05}")
        return sides

    def _undo(self) -> dict[str, Side]:
        def ours(number: int) -> float:
            self.manager.select_profile(self._chosen(number))
            return milliseconds(self.manager.undo)

        def git(number: int) -> float:
            self._git.selecting((self._chosen(number), True))()
            return milliseconds(lambda: self._git.run("revert", "--no-edit", "HEAD"))

        return {"": ours, "git revert": git}
