"""Runs one operation with one fault, reopens the home and judges what it finds.

Every step is a forked child of one process that has imported everything: the operation is
killed there, and the next opener must not know anything that the killed one knew. What is
random or of the moment (names, seeds, times) is fixed, so that the n-th call of an operation
is the same call in each run and states can be compared as a whole.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import itertools
import json
import logging
import os
import pkgutil
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

import tweakio
from tests.crash.faults import DEADLY, ERRORS, POWER, READS, Injector, applies
from tests.crash.operations import OPERATIONS, Operation
from tests.invariants import check, data_digests, git, tree_digest
from tweakio import ProfileManager
from tweakio.errors import DiskFullError, FileAccessError, HomeNotFoundError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tests.crash.disk import Disk

__all__ = ["Harness", "Tally", "Violation", "preload", "scratch", "unavailable"]

HEALER = "zz-heal"
IDENTITY = (
    "a secret",
    "age16rug6059xp04scqrqwawylaltz0nlsq24l24z6uqyrl34ghzcqts9nvfu3",
)
_SECONDS = 40
_MODULES = ("zstandard", "dulwich.config", "dulwich.object_store", "psutil", "pyrage")


def unavailable() -> str:
    """Why the harness cannot run here; empty if it can."""
    if not hasattr(os, "fork") or not os.path.isdir("/proc/self/fd"):
        return "needs fork and /proc/self/fd (Linux)"
    return "" if shutil.which("git") else "needs the git program to check the repositories"


def preload() -> None:
    """Import all that an operation may import, so that a child only does its work."""
    for name in _MODULES:
        importlib.import_module(name)
    for module in pkgutil.walk_packages(tweakio.__path__, "tweakio."):
        if not module.name.startswith(("tweakio.cli", "tweakio.__main__", "tweakio.browser")):
            importlib.import_module(module.name)
    from tweakio.schema import metadata_model

    metadata_model()


# Children


def fork_and_report(work: Callable[[], Any]) -> tuple[int, Any, str]:
    """Run a function in a forked child.

    Returns:
        The wait status, what the function returned (None if it was killed) and, if it
        raised, the traceback.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        _child(work, reading, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    _, status = os.waitpid(pid, 0)
    value = json.loads(data) if data else {}
    return status, value.get("value"), value.get("error", "")


def _child(work: Callable[[], Any], reading: int, writing: int) -> None:
    try:
        os.close(reading)
        # What a Ctrl-C test raises must not come from the terminal, too.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.alarm(_SECONDS)
        gc.disable()
        logging.disable(logging.CRITICAL)
        try:
            report = {"value": work()}
        except BaseException:
            report = {"error": traceback.format_exc(limit=-12)}
        data = json.dumps(report).encode()
        while data:
            data = data[os.write(writing, data) :]
    finally:
        os._exit(0)


def fix_randomness(role: str, day: int) -> Callable[[], datetime]:
    """Make names, seeds and times of this process repeatable; returns its clock.

    Args:
        role: processes of different roles draw different numbers.
        day: of January 2001, when this process believes to live; in later months it would
            remove old trash.
    """
    numbers = itertools.count()
    start = datetime(2001, 1, day, tzinfo=timezone.utc)

    def token_hex(size: int = 32) -> str:
        return hashlib.sha512(f"{role} {next(numbers)}".encode()).hexdigest()[: 2 * size]

    def new_clock() -> Callable[[], datetime]:
        ticks = itertools.count()
        return lambda: start + timedelta(seconds=next(ticks))

    secrets.token_hex = token_hex
    os.urandom = lambda size: bytes.fromhex(token_hex(size))  # of up to 64 bytes
    for name, module in list(sys.modules.items()):
        if name.startswith("tweakio.") and hasattr(module, "utc_now"):
            # One for each: how often maintenance asks depends on the commit's id.
            module.utc_now = new_clock()
    fix_sealing()
    identity = importlib.import_module("tweakio.identity")
    identity.stamp = lambda _: f"{int(start.timestamp())} +0000"
    os.environ["GIT_AUTHOR_NAME"] = os.environ["GIT_COMMITTER_NAME"] = "Fault Test"
    os.environ["GIT_AUTHOR_EMAIL"] = os.environ["GIT_COMMITTER_EMAIL"] = "fault@test"
    return new_clock()


def fix_sealing() -> None:
    """Seal the same to the same: pyrage draws its random numbers where nobody can fix them.

    What is judged here is what becomes of the files; tests/vault tries the real format.
    """
    age = importlib.import_module("tweakio.vault.age")
    intro = b"age-encryption.org/v1\n"

    def seal(data: bytes, recipients: Sequence[str]) -> bytes:
        return intro + f"{' '.join(recipients)}\n".encode() + data.hex().encode()

    def unseal(data: bytes, identities: Sequence[str]) -> bytes:
        return bytes.fromhex(data.rsplit(b"\n", 1)[1].decode())

    age.seal, age.unseal = seal, unseal
    ticks = itertools.count(980_000_000_000)
    importlib.import_module("tweakio.vault.binding").now = lambda: next(ticks)
    age.generate_identity = lambda: IDENTITY
    # Which key rings there are is a question to another program.
    importlib.import_module("tweakio.vault.identity").keep_in_key_ring = lambda *_: False
    importlib.import_module("tweakio.vault.identity")._in_key_ring = lambda *_, **__: None


# What a home is like


def snapshot(
    home: Path, varies: tuple[str, ...], remotes: Callable[[Path], dict[str, str]]
) -> dict[str, Any]:
    """All that a user can tell about a home, without what differs from run to run.

    Args:
        home: which.
        varies: see ``Operation``.
        remotes: what to tell of them.
    """
    with ProfileManager(home) as manager:
        profiles = profiles_of(manager, varies)
        git_dir = home / "profiles" / ".git"
        trash = manager.trash() if git_dir.exists() else []
        entries = [
            {
                "kind": entry.kind,
                "profile": entry.profile_id,
                "created": str(entry.profile_created_at),
                "parts": {
                    name: tree_digest(entry.path / "data" / name)[:12]
                    for name in sorted(os.listdir(entry.path / "data"))
                    if name in ("browser_profile", "session.json", "metadata.json")
                }
                if (entry.path / "data").is_dir()
                else tree_digest(entry.path / "data")[:12],
            }
            for entry in trash
        ]
    with ProfileManager(home) as manager:
        snapshots = snapshots_of(manager)
        exports = exports_of(manager)
        leases = leases_of(manager, profiles)
    log = git(home / "profiles", "log", "--format=%B%x00").stdout if git_dir.exists() else b""
    return {
        "profiles": profiles,
        "trash": sorted(entries, key=str),
        "snapshots": snapshots,
        "exports": exports,
        "remotes": remotes(home),
        "leases": leases,
        "history": [
            [line for line in text.strip().split("\n") if not line.startswith(_VARYING)]
            for text in log.decode().split("\0")[:-1]
        ],
    }


_FILES = ("browser_profile", "session.json", "session.json.age", "fingerprint.json")
_VARYING = ("Tweakio-Trash: ", "Tweakio-Undoes: ", "Tweakio-Redoes: ")


def profiles_of(manager: ProfileManager, varies: tuple[str, ...]) -> dict[str, Any]:
    """The profiles as one manager shows them, with digests of their files.

    Args:
        manager: which.
        varies: profiles that were made when clock and random numbers stood elsewhere.
    """
    try:
        found = manager.list_profiles()
    except HomeNotFoundError:
        return {}
    shown = {}
    for profile in found:
        value = {
            key: str(getattr(profile, key))
            for key in (
                "platform", "status", "tags", "note", "platform_version", "platform_config",
                "browser", "in_use", "problem", "created_at", "last_used",
            )
        }  # fmt: skip
        for name in _FILES:
            path = profile.path / name
            value[name] = tree_digest(path)[:12] if os.path.lexists(path) else "missing"
        if profile.id in varies:
            for name in ("created_at", "last_used", "fingerprint.json"):
                del value[name]
        shown[profile.id] = value
    return shown


def snapshots_of(manager: ProfileManager) -> list[list[str]]:
    """The content of every snapshot, and what is wrong with it."""
    place = manager.layout.snapshots
    if not place.is_dir():
        return []
    return sorted(
        [profile_id, found.snapshot.content_sha256[:12], found.problem]
        for profile_id in os.listdir(place)
        for found in manager.snapshots.verify(profile_id)
    )


def exports_of(manager: ProfileManager) -> dict[str, list[str]]:
    """The files that exports left in the home, each read to its last byte."""
    found = {}
    for path in manager.home.glob("*.zip"):
        with ZipFile(path) as archive:
            names = [f"{item.filename} {item.CRC:x}" for item in archive.infolist()]
        checked = manager.archives.import_file(path, as_id="another", dry_run=True)
        found[path.name] = [*(str(item) for item in checked), *sorted(names)]
    return found


def remotes_of(home: Path) -> dict[str, str]:
    """What the remotes in the home have."""
    found = {}
    for path in home.glob("*.git"):
        assert git(path, "fsck", "--strict").returncode == 0, path
        found[path.name] = git(path, "for-each-ref").stdout.decode()
    return found


def tracked_of(home: Path) -> dict[str, str]:
    """What the home knows of its remotes."""
    if not (home / "profiles" / ".git").is_dir():
        return {}
    return {"tracked": git(home / "profiles", "for-each-ref", "refs/remotes").stdout.decode()}


def leases_of(manager: ProfileManager, profile_ids: Iterable[str]) -> dict[str, str]:
    """Whether each profile can be had by somebody new, where there are leases."""
    if not manager.layout.lease.exists():
        return {}
    found = {}
    for profile_id in profile_ids:
        if manager.locks.is_locked(profile_id):
            continue
        with manager.locks.acquire(profile_id, 0):
            taken = [item.profile_id for item in manager.leases.status().leases]
        found[profile_id] = "free" if taken == [profile_id] else str(taken)
    assert manager.leases.status().leases == []
    return found


def contents(home: Path) -> set[str]:
    """The digests of all files below a home and of all blobs in its history."""
    found = set()
    for directory, _, files in os.walk(home):
        for name in files:
            path = Path(directory, name)
            if not path.is_symlink():
                found.add(hashlib.sha256(path.read_bytes()).hexdigest())
    return found


# One fault


@dataclass
class Violation:
    """Something that must not be.

    Attributes:
        command: what shows it again.
    """

    operation: str
    fault: str
    point: int
    heal: str
    problem: str
    call: str = ""
    disk: str = ""

    @property
    def command(self) -> str:
        power = f"--power {self.disk} " if self.disk else ""
        return (
            f"python -m tests.crash {power}--operation {self.operation} --fault {self.fault} "
            f"--point {self.point} --heal {self.heal}"
        )

    def __str__(self) -> str:
        where = f" at {self.call}" if self.call else ""
        return f"{self.operation}: {self.fault} {self.point}{where}, heal by {self.heal}\n" + (
            "\n".join(f"    {line}" for line in self.problem.splitlines())
            + f"\n    again: {self.command}"
        )


@dataclass
class Tally:
    """How many points were tried and how many passed."""

    points: int = 0
    passed: int = 0
    violations: list[Violation] = field(default_factory=list)


class Harness:
    """Everything about one operation.

    Args:
        name: its row in the table.
        directory: where homes are made; a file system in memory makes it fast.
        disk: for power cuts: ``directory`` is on it.
        count: run it without a fault, which everything but ``record`` needs.
    """

    def __init__(
        self, name: str, directory: Path, disk: Disk | None = None, *, count: bool = True
    ) -> None:
        self.name = name
        self._disk = disk
        # After a power cut what the remotes have is not judged: in life they are another machine's,
        # and written by the git there, which syncs little.
        self._remotes = remotes_of
        if disk is not None:
            # A hint to begin writing, which a disk need not follow, hid syncs that were missing.
            os.posix_fadvise = lambda *_: None
            self._remotes = tracked_of if OPERATIONS[name].pushes else lambda _: {}
        self.operation: Operation = OPERATIONS[name]
        self.directory = directory / name
        self.directory.mkdir()
        self.template = self.directory / "template"
        self._varies = (HEALER, *self.operation.varies)
        self._references: dict[tuple[str, str, bool], Any] = {}
        self._numbers = itertools.count()
        self._prepare()
        self.kept = {
            hashlib.sha256((self.template / name).read_bytes()).hexdigest()
            for name in self.operation.keeps
        }
        self.calls: list[tuple[str, str, bool]] = []
        self.reads: list[tuple[str, str, bool]] = []
        if not count:
            return
        self.survivors = set(data_digests(self.template))
        if self.operation.purges:
            self.survivors &= set(self._reference("new", "list", same=False)["digests"])
        self._count()

    # Homes

    def _prepare(self) -> None:
        prepare = self.operation.prepare
        home = self.directory / "template"

        def work() -> None:
            os.umask(0)
            clock = fix_randomness(f"template {self.name}", 1)
            if prepare is not None:
                with ProfileManager(home, clock=clock) as manager:
                    prepare(manager, home)

        _expect(fork_and_report(work), "preparing")

    def _copy(self) -> Path:
        home = self.directory / f"home-{next(self._numbers)}"
        if self.template.exists():
            # Times are kept, as the index has them; hard links would share what is written.
            subprocess.run(["cp", "-pPR", self.template, home], check=True)
        return home

    # The child that makes the change

    def _work(
        self,
        home: Path,
        run: Callable[[ProfileManager, Any], object] | None,
        injector: Injector,
        heal: str,
    ) -> dict[str, Any]:
        os.umask(0)
        clock = fix_randomness("operation", 2)
        manager = ProfileManager(home, clock=clock)
        context = self.operation.begin(manager) if self.operation.begin else None
        injector.install()
        report: dict[str, Any] = {"outcome": "nothing"}
        if run is not None:
            injector.arm(on=True)
            try:
                run(manager, context)
                report["outcome"] = "done"
            except BaseException as error:
                report = _describe(error)
            finally:
                injector.arm(on=False)
        report["calls"] = injector.calls
        report["reads"] = injector.reads
        report["fired"] = injector.fired
        if heal:
            # The same process goes on with the same object.
            try:
                report["view"] = self._heal(manager, heal)
            except Exception:
                report["stuck"] = traceback.format_exc(limit=-8)
        return report

    def _heal(self, manager: ProfileManager, heal: str) -> dict[str, Any]:
        if self.operation.first is not None:
            self.operation.first(manager, None)
        if heal == "list":
            profiles_of(manager, ())
        if self._swept(heal):
            manager.create_profile(HEALER, "custom")
        return profiles_of(manager, self._varies)

    def _swept(self, heal: str) -> bool:
        # What people did is settled by the next change and not by a look.
        return heal == "create" or self.operation.dirty == "edits"

    # The child that opens the home next

    def _reopen(self, home: Path, heal: str, *, again: bool) -> dict[str, Any]:
        os.umask(0)
        clock = fix_randomness("next", 3)
        if not again:
            with ProfileManager(home, clock=clock) as manager:
                self._heal(manager, heal)
        return {
            "snapshot": snapshot(home, self._varies, self._remotes),
            "digests": sorted(data_digests(home)) if home.exists() else [],
            "contents": sorted(self.kept & contents(home)) if self.kept else [],
        }

    def _judge(self, home: Path, heal: str, state: str, fault: str, *, work: bool) -> None:
        dirty = self.operation.dirty
        settled = dirty != "damage" or state == "new"
        fix_randomness("judge", 4)
        check(
            home,
            swept=self._swept(heal),
            settled=settled,
            complete=settled,
            permissions=self.operation.permissions,
            # Nothing could be removed either.
            buildings=not (fault == "eio-on" or (fault in READS and fault.endswith("-on"))),
            lagging=fault in POWER and not self._swept(heal),
            survivors=self.survivors,
            work=work and settled,
        )

    # References

    def _reference(self, which: str, heal: str, *, same: bool) -> Any:
        """The state that a run without a fault leaves, and what it looks like.

        Args:
            which: ``old``, ``new`` or the number of a state in between.
            heal: the next command.
            same: whether the next command comes from the same process.
        """
        key = (which, heal, same)
        if key not in self._references:
            run = {"old": None, "new": self.operation.run}.get(which) or (
                self.operation.between[int(which)] if which.isdigit() else None
            )
            home = self._copy()
            own = heal if same else ""
            done = _expect(
                fork_and_report(lambda: self._work(home, run, Injector(home), own)), which
            )
            if done["outcome"] not in ("done", "nothing") or "stuck" in done:
                raise RuntimeError(f"{self.name} does not work without a fault: {done}")
            found = _expect(fork_and_report(lambda: self._reopen(home, heal, again=same)), which)
            found["view"] = done.get("view")
            shutil.rmtree(home, ignore_errors=True)
            self._references[key] = found
        return self._references[key]

    def _count(self) -> None:
        home = self._copy()
        done = _expect(
            fork_and_report(lambda: self._work(home, self.operation.run, Injector(home), "")),
            "counting",
        )
        if done["outcome"] != "done":
            raise RuntimeError(f"{self.name} does not work without a fault: {done}")
        _expect(
            fork_and_report(lambda: self._reopen(home, "list", again=False)), "opening it again"
        )
        _expect(
            fork_and_report(lambda: self._judge(home, "list", "new", "", work=True)),
            "the operation without a fault",
        )
        shutil.rmtree(home, ignore_errors=True)
        states = [
            self._reference(which, "list", same=False)["snapshot"] for which in ("old", "new")
        ]
        if states[0] == states[1] and self.operation.changes:
            raise RuntimeError(f"{self.name} changes nothing, so its row tests nothing")
        self.calls, self.reads = (
            [(kind, where, effect) for kind, where, effect in done[name]]
            for name in ("calls", "reads")
        )

    def record(self) -> dict[str, Any]:
        """Run it once for a trace: the process, the home and what was counted."""
        home = self._copy()

        def work() -> dict[str, Any]:
            injector = Injector(home)
            injector.marks = True
            done = self._work(home, self.operation.run, injector, "")
            return {"pid": os.getpid(), "home": os.fspath(home), "calls": done["calls"]}

        found: dict[str, Any] = _expect(fork_and_report(work), "recording")
        return found

    # Points

    def points(self, fault: str, *, short: bool = False) -> list[int]:
        """The calls at which a fault makes a state of its own.

        Args:
            short: leave out kills that find the disk as an earlier one did: before the first
                call after one that changed nothing that outlives the process (an fsync), or
                had no effect. A kill after a call is one before the next.
        """
        if fault in POWER:
            # The last is after the operation.
            return list(range(1, len(self.calls) + 2)) if self._disk else []
        if fault == "signals":
            return [0]
        if fault in READS:
            return [
                number for number, (kind, _, _) in enumerate(self.reads, 1) if applies(fault, kind)
            ]
        numbers = range(1, len(self.calls) + 1)
        if not short or fault not in ("kill", "kill-after"):
            return [number for number in numbers if applies(fault, self.calls[number - 1][0])]
        if fault == "kill-after":
            return [len(self.calls)]
        return [
            number
            for number in numbers
            if number == 1 or (self.calls[number - 2][2] and self.calls[number - 2][0] != "fsync")
        ]

    def try_point(self, fault: str, point: int, heal: str, *, work: bool = False) -> list[str]:
        """Run the operation with one fault; what is wrong afterwards."""
        home = self._copy()
        try:
            return self._try(home, fault, point, heal, work=work)
        finally:
            shutil.rmtree(home, ignore_errors=True)

    def _try(self, home: Path, fault: str, point: int, heal: str, *, work: bool) -> list[str]:
        deadly = fault in DEADLY
        injector = Injector(home, fault, point)
        if self._disk:
            self._disk.sync()
        status, done, trace = fork_and_report(
            lambda: self._work(home, self.operation.run, injector, "" if deadly else heal)
        )
        if os.WIFSIGNALED(status):
            if os.WTERMSIG(status) == signal.SIGALRM:
                return [f"the operation hung for {_SECONDS} s"]
            done = {"outcome": "killed"}
        elif done is None:
            return [f"the operation's process failed:\n{trace}"]
        if self._disk:
            if not os.WIFSIGNALED(status):
                self._disk.cut(after_sync=fault == "power-synced")
            self._disk.come_back()
        problems = _judge_outcome(done, fault)
        status, found, trace = fork_and_report(lambda: self._reopen(home, heal, again=not deadly))
        if os.WIFSIGNALED(status) or found is None:
            return [*problems, f"the next command failed ({status}):\n{trace}"]
        states = self._states(found, heal, same=not deadly)
        between = [str(number) for number, _ in enumerate(self.operation.between)]
        allowed = _allowed(done["outcome"], fault, between)
        if self.operation.purges and done["outcome"] == "refused":
            # Bytes that should be gone and are not are worth an error in any state.
            allowed.add("new")
        if self.operation.lasting and done["outcome"] == "refused" and fault == "eio-on":
            allowed.add("new")
        if not states:
            old, new = (
                self._reference(which, heal, same=not deadly)["snapshot"]
                for which in ("old", "new")
            )
            problems.append(
                "neither the old nor the new state; against the old:\n"
                + _difference(old, found["snapshot"])
                + "\nagainst the new:\n"
                + _difference(new, found["snapshot"])
            )
        elif not states & allowed:
            what = done.get("type", done["outcome"])
            problems.append(
                f"the operation was: {what}, but the state is: {states}\n{done.get('trace', '')}"
            )
        elif "view" in done:
            views = [self._reference(state, heal, same=True)["view"] for state in states & allowed]
            if fault.endswith("-on") and heal == "list":
                # What could not even be moved back waits for the next change or opener; a
                # look does not show files.
                views, done["view"] = (
                    [_without_files(v) for v in views],
                    _without_files(done["view"]),
                )
            if done["view"] not in views:
                problems.append(
                    "the same object shows something else than is there:\n"
                    + _difference(views[0], done["view"])
                )
        if len(found["contents"]) < len(self.kept):
            problems.append("damaged bytes were lost")
        if home.exists() or self.survivors:
            status, _, trace = fork_and_report(
                lambda: self._judge(
                    home, heal, "new" if states == {"new"} else "old", fault, work=work
                )
            )
            if trace or os.WIFSIGNALED(status):
                text = trace.partition("AssertionError: ")[2] or trace or f"status {status}"
                problems.append(text.strip())
        return problems

    def _states(self, found: dict[str, Any], heal: str, *, same: bool) -> set[str]:
        """The states that look like what was found."""
        between = [str(number) for number, _ in enumerate(self.operation.between)]
        return {
            which
            for which in ("new", "old", *between)
            if self._reference(which, heal, same=same)["snapshot"] == found["snapshot"]
        }

    def run(
        self,
        plan: list[tuple[str, int, str]],
        *,
        work_every: int = 0,
        tell: Callable[[str, int, bool], None] = lambda *_: None,
    ) -> dict[str, Tally]:
        """Try many points.

        Args:
            plan: fault, point and next command of each.
            work_every: after so many also make further changes.
            tell: called after each with the fault, the point and whether it passed.
        """
        tallies: dict[str, Tally] = {}
        for number, (fault, point, heal) in enumerate(plan, 1):
            work = bool(work_every) and number % work_every == 0
            problems = self.try_point(fault, point, heal, work=work)
            tally = tallies.setdefault(fault, Tally())
            tally.points += 1
            tally.passed += not problems
            if problems:
                calls = self.reads if fault in READS else self.calls
                kind, where, _ = calls[point - 1] if point <= len(calls) else ("?",) * 3
                tally.violations.append(
                    Violation(
                        self.name,
                        fault,
                        point,
                        heal,
                        "\n".join(problems),
                        f"{kind} {where}",
                        self._disk.kind if self._disk else "",
                    )
                )
            tell(fault, point, not problems)
        return tallies

    def plan(
        self,
        faults: list[str],
        *,
        sample: int = 0,
        seed: int = 0,
        thin: int = 1,
        both: bool = False,
        few: int | None = None,
    ) -> list[tuple[str, int, str]]:
        """Which points to try, with which next command.

        Args:
            faults: which.
            sample: of all but the kills only so many, and of the kills only those that
                differ; 0 means all.
            seed: of the sample.
            thin: of the kills of a sample only every so manieth.
            both: try each point with both next commands.
            few: of all these at most so many.
        """
        chosen = random.Random(f"{seed} {self.name}")
        found = []
        for fault in faults:
            points = self.points(fault, short=bool(sample))
            if sample and fault not in ("kill", "kill-after"):
                points = sorted(chosen.sample(points, min(sample, len(points))))
            elif sample:
                points = points[chosen.randrange(thin) :: thin]
            # Half of the points each, beginning with the one or the other.
            first = chosen.randrange(2)
            for number, point in enumerate(points, first):
                heals = ("list", "create")
                found += [(fault, point, heal) for heal in (heals if both else [heals[number % 2]])]
        if few is not None and few < len(found):
            kept = sorted(chosen.sample(range(len(found)), few))
            found = [found[index] for index in kept]
        return found


def _expect(result: tuple[int, Any, str], doing: str) -> Any:
    status, value, error = result
    if status or error:
        raise RuntimeError(f"{doing} failed ({status}):\n{error}")
    return value


def _describe(error: BaseException) -> dict[str, Any]:
    return {
        "outcome": "refused",
        "type": type(error).__name__,
        "message": str(error),
        "storage": isinstance(error, StorageError),
        "full": isinstance(error, DiskFullError),
        "denied": isinstance(error, FileAccessError),
        "interrupt": isinstance(error, KeyboardInterrupt),
        "trace": "".join(traceback.format_exception(error, limit=-8)),
    }


def _judge_outcome(done: dict[str, Any], fault: str) -> list[str]:
    problems = []
    if "stuck" in done:
        problems.append(f"the same object does not work any more:\n{done['stuck']}")
    if done["outcome"] == "refused":
        expected = {"enospc": "full", "eacces": "denied", "interrupt": "interrupt"}
        kind = expected.get(fault.removeprefix("read-").partition("-")[0], "storage")
        if not done[kind] and done["fired"]:
            problems.append(f"refused with {done['type']}, not the right class:\n{done['trace']}")
        elif not done["fired"]:
            problems.append(f"refused without a fault:\n{done['trace']}")
        elif fault in ERRORS and "\n" in done["message"]:
            problems.append(f"the message is not one line: {done['message']!r}")
    if fault == "signals" and (done["outcome"] != "done" or not done["fired"]):
        problems.append(f"signals that have a handler: {done}")
    elif done["outcome"] == "done" and fault.startswith("interrupt") and done["fired"]:
        problems.append("Ctrl-C was swallowed")
    return problems


def _without_files(view: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {key: value[key] for key in value if key not in _FILES}
        for name, value in view.items()
    }


def _allowed(outcome: str, fault: str, between: list[str]) -> set[str]:
    if outcome == "done":
        return {"new"}
    if outcome == "refused" and not fault.startswith("interrupt") and fault not in READS:
        return {"old", *between}
    # Killed or interrupted: both are right. So they are where something could not be read: what is
    # looked at after a change is its result, and the message does not say that nothing was done.
    return {"old", "new", *between}


def _difference(wanted: Any, found: Any) -> str:
    import difflib

    texts = [json.dumps(value, indent=1, sort_keys=True).splitlines() for value in (wanted, found)]
    lines = list(difflib.unified_diff(*texts, "wanted", "found", n=1, lineterm=""))
    return "\n".join(lines[:40])


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A directory for homes; in memory where there is one."""
    memory = "/dev/shm"
    usable = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 64 << 20
    return tempfile.TemporaryDirectory(prefix="tweakio-", dir=memory if usable else None)
