"""Random operations on two clones, with syncs, against what must come of it.

A round is a few operations on each side, then syncs until both are at rest. Each operation is
also written down as an intention (what a field was set to, and from what), from which the
result of a round is told without any code of the merge: a field that one side touched has that
side's value; one that both touched, to different values, must have been reported as a conflict,
once, and has the chosen side's.
"""

from __future__ import annotations

import random
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.invariants import check, git
from tweakio import ProfileManager
from tweakio.errors import MergeConflictError, TweakioError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Campaign", "Report"]

_IDS = ("a", "b", "c")
_TAGS = ("eu", "us", "team", "old")
_CHECK_EVERY = 50


@dataclass
class Report:
    """What was seen.

    Attributes:
        conflicts: how many profiles were reported.
        problems: what must not be.
    """

    rounds: int = 0
    operations: int = 0
    conflicts: int = 0
    problems: list[str] = field(default_factory=list)


def _shown(manager: ProfileManager) -> dict[str, dict[str, Any]]:
    """The profiles without what is each machine's own."""
    return {
        profile.id: {
            "created": profile.created_at,
            "used": profile.last_used,
            "note": profile.note,
            "tags": frozenset(profile.tags),
            "version": profile.platform_version,
            **{f"config.{key}": value for key, value in profile.platform_config.items()},
            **{f"browser.{key}": value for key, value in profile.browser.items()},
            "fingerprint": (profile.path / "fingerprint.json").read_bytes(),
        }
        for profile in manager.list_profiles()
    }


class Campaign:
    """Two homes and a bare repository.

    Args:
        directory: where to make them.
        seed: of the random operations.
    """

    def __init__(self, directory: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.directory = directory
        self.report = Report()
        self.bare = directory / "remote.git"
        subprocess.run(["git", "init", "-q", "--bare", self.bare], check=True)
        self.homes = {name: directory / name for name in ("one", "two")}
        with ProfileManager(self.homes["one"]) as manager:
            manager.create_profiles(["a", "b"], "custom")
            manager.remotes.add("origin", str(self.bare))
            manager.remotes.push()
        from tweakio import clone_repository

        clone_repository(str(self.bare), self.homes["two"])
        self.managers = {name: ProfileManager(home) for name, home in self.homes.items()}

    def close(self) -> None:
        """Let go of both homes."""
        for manager in self.managers.values():
            manager.close()

    # Operations

    def operate(self, manager: ProfileManager) -> None:
        """One random operation; what cannot be done now is left."""
        pick = self.random
        profile_id = pick.choice(_IDS)
        number = pick.randrange(1000)
        known = {profile.id for profile in manager.list_profiles()}
        kind = pick.choice(
            ["create", "delete", "undo", "select", "deactivate", *["set"] * 6, "restore"]
        )
        self.report.operations += 1
        try:
            if kind == "create" or profile_id not in known:
                profile = manager.create_profile(profile_id, "custom", note=f"made {number}")
                (profile.path / "session.json").write_text(f'{{"login": {number}}}')
            elif kind == "delete":
                manager.delete_profile(profile_id, force=True)
            elif kind == "undo":
                manager.undo()
            elif kind == "select":
                manager.select_profile(profile_id)
            elif kind == "deactivate":
                manager.deactivate_profile()
            elif kind == "restore":
                manager.restore(profile_id, f"HEAD~{pick.randrange(1, 4)}")
            else:
                self._set(manager, profile_id, number)
        except TweakioError:
            return

    def _set(self, manager: ProfileManager, profile_id: str, number: int) -> None:
        changes: dict[str, Any] = self.random.choice(
            [
                {"note": f"note {number % 3}"},
                {"add_tags": [self.random.choice(_TAGS)]},
                {"remove_tags": [self.random.choice(_TAGS)]},
                {"platform_version": f"{number % 3}"},
                {"platform_config": {f"key{number % 3}": number % 2}},
                {"platform_config": {f"key{number % 3}": None}},
                {"browser": {"locale": self.random.choice(["de-DE", "en-GB", None])}},
                {"browser": {"timezone": self.random.choice(["UTC", "Europe/Berlin"])}},
            ]
        )
        manager.update_profiles([profile_id], **changes)

    # Rounds

    def round(self) -> None:
        """Change both, sync both, compare."""
        self.report.rounds += 1
        base = _shown(self.managers["one"])
        for manager in self.managers.values():
            for _ in range(self.random.randrange(5)):
                self.operate(manager)
        sides = {name: _shown(manager) for name, manager in self.managers.items()}
        order = list(self.managers)
        self.random.shuffle(order)
        first, second = order
        choice = self.random.choice(["ours", "theirs"])
        self._sync(first, ())
        expected = _expected(base, sides[second], sides[first])
        self._sync(second, expected, choice)
        self._sync(first, ())
        shown = [_shown(manager) for manager in self.managers.values()]
        self._require(shown[0] == shown[1], f"not converged: {shown}")
        self._compare(base, sides[second], sides[first], shown[0], choice)
        # Whoever came first has what came of both with its second sync; nobody answers that.
        for name in order:
            done = self.managers[name].remotes.sync()
            rest = (done.pulled.commit, done.pushed.commit) == (None, None)
            self._require(rest, f"{name} is not at rest: {done}")

    def _sync(self, name: str, expected: tuple[str, ...] | set[str], choice: str = "ours") -> None:
        manager = self.managers[name]
        before = manager.repository.head().commit
        try:
            manager.remotes.sync()
        except MergeConflictError as error:
            found = {
                (item.profile_id, clash)
                for item in error.details["conflicts"]
                for clash in (item.fields if item.kind == "changed" else ("",))
            }
            self.report.conflicts += len(found)
            self._require(found == set(expected), f"conflicts {found}, expected {expected}")
            self._require(manager.repository.head().commit == before, "a conflict changed HEAD")
            status = git(self.homes[name] / "profiles", "status", "--porcelain").stdout
            self._require(not status, f"a conflict changed the work tree: {status!r}")
            manager.remotes.sync(resolve=choice)
        else:
            self._require(not expected, f"no conflict was reported, expected {expected}")

    def _compare(self, base: Any, ours: Any, theirs: Any, now: Any, choice: str) -> None:
        """Nothing is lost: every profile and field is as it must be."""
        for profile_id in base.keys() | ours.keys() | theirs.keys():
            wanted = _merged(*(side.get(profile_id) for side in (base, ours, theirs)), choice)
            found = now.get(profile_id)
            self._require(found == wanted, f"{profile_id} is {found}, not {wanted}")

    def _require(self, sound: bool, problem: str) -> None:
        if not sound:
            self.report.problems.append(f"round {self.report.rounds}: {problem}")

    def check(self) -> None:
        """Both homes and the remote are sound, by git's own fsck."""
        for home in self.homes.values():
            check(home)
        done = git(self.bare, "fsck", "--strict", "--no-dangling")
        self._require(not done.returncode, f"fsck of the remote: {done.stderr!r}")

    def run(self, rounds: int, progress: Callable[[Report], None] = lambda _: None) -> Report:
        """So many rounds; stops at the first problem."""
        for _ in range(rounds):
            self.round()
            if self.report.rounds % _CHECK_EVERY == 0:
                self.check()
            progress(self.report)
            if self.report.problems:
                break
        self.check()
        self.close()
        if not self.report.problems:
            shutil.rmtree(self.directory, ignore_errors=True)
        return self.report


_FIELDS = {"note": "note", "version": "platform_version", "fingerprint": "fingerprint"}


def _name(key: str) -> str:
    return _FIELDS.get(key) or key.replace("config.", "platform_config.")


def _clashes(base: Any, ours: Any, theirs: Any) -> set[str]:
    """The fields that both sides set, from what it was, to different values."""
    return {
        _name(key)
        for key in base.keys() | ours.keys() | theirs.keys()
        if key not in ("tags", "created", "used")
        and base.get(key) != ours.get(key) != theirs.get(key) != base.get(key)
    }


def _same(one: Any, other: Any) -> bool:
    return one is not None and other is not None and one["created"] == other["created"]


def _whole(base: Any, ours: Any, theirs: Any) -> str:
    """What becomes of a profile as a whole: "ours", "theirs", "fields" or "conflict"."""
    if ours == theirs:
        return "ours"
    if _same(ours, theirs):
        return "fields"
    # To have used a profile keeps nobody from deleting it.
    base, ours, theirs = (side and {**side, "used": None} for side in (base, ours, theirs))
    if base == theirs:
        return "ours"
    if base == ours:
        return "theirs"
    # Deleted on both sides, and another one of this id made on one of them.
    if ours is None and not _same(base, theirs):
        return "theirs"
    if theirs is None and not _same(base, ours):
        return "ours"
    return "conflict"


def _expected(base: Any, ours: Any, theirs: Any) -> set[tuple[str, str]]:
    found = set()
    for profile_id in base.keys() | ours.keys() | theirs.keys():
        sides = [side.get(profile_id) for side in (base, ours, theirs)]
        whole = _whole(*sides)
        if whole == "conflict":
            found.add((profile_id, ""))
        elif whole == "fields":
            before = sides[0] if _same(sides[0], sides[1]) else {}
            found |= {(profile_id, name) for name in _clashes(before, sides[1], sides[2])}
    return found


def _merged(base: Any, ours: Any, theirs: Any, choice: str) -> Any:
    whole = _whole(base, ours, theirs)
    if whole == "conflict":
        whole = choice
    if whole != "fields":
        return ours if whole == "ours" else theirs
    before = base if _same(base, ours) else {}
    merged = {}
    for key in ours.keys() | theirs.keys():
        was, mine, other = before.get(key), ours.get(key), theirs.get(key)
        if key == "tags":
            was = was or frozenset()
            merged[key] = (mine & other) | (mine - was) | (other - was)
            continue
        if key == "used" and mine != was and other != was:
            merged[key] = max(mine, other)
            continue
        if mine == was or (mine != other and other != was and choice == "theirs"):
            mine = other
        if mine is not None:
            merged[key] = mine
        elif key in ("version", "used"):
            merged[key] = None
    return merged
