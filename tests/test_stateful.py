"""Random operations of two managers, of processes that die and of people, against the model."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from invariants import check, git
from model import Entry, Holder, Model

from tweakio import ProfileManager, TweakioError
from tweakio.models import format_time

NAMES = ("alpha", "beta", "gamma")
# Reads names of profiles; for each it forks a process that activates it and dies at once.
NURSERY = """
import os, signal, sys
from pathlib import Path
from tweakio import ProfileManager
for line in sys.stdin:
    home, name = line.split()
    if (pid := os.fork()) == 0:
        try:
            ProfileManager(home).activate_profile(name, 0)
        except BaseException as error:
            print(type(error).__name__, flush=True)
        else:
            print(os.getpid(), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    print("gone", flush=True)
"""


@pytest.fixture
def nursery():
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, "-c", NURSERY],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        yield process
        process.stdin.close()


class Clock:
    """Steps by days and years to either side; only that it never says the same twice matters."""

    def __init__(self):
        self.calls = itertools.count(1)
        self.offset = 0
        self.said = ""

    def __call__(self):
        moment = datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(
            days=self.offset, microseconds=next(self.calls)
        )
        self.said = format_time(moment)
        return moment


class Machine(RuleBasedStateMachine):
    """The library and the model, side by side."""

    nursery = None
    names = st.sampled_from(NAMES)
    which = st.integers(0, 1)
    some = st.lists(names, min_size=1, max_size=2, unique=True)

    def __init__(self):
        super().__init__()
        self.home = Path(tempfile.mkdtemp(), "home")
        self.clock = Clock()
        self.model = Model()
        self.managers = [ProfileManager(self.home, clock=self.clock) for _ in range(2)]
        self.holders = [Holder(name, os.getpid()) for name in "ab"]
        self.number = itertools.count(1)
        # The first change makes the repository and its first commit.
        self.managers[0].create_profiles(NAMES, "custom")
        self.model.create([*NAMES], self.clock.said)
        self.fill()
        self.base = len(self.managers[0].history()) - 1
        self.past = [{}] * self.base

    def teardown(self):
        for manager, holder in zip(self.managers, self.holders, strict=True):
            manager.close()
            self.model.close(holder)
        self.the_listing_is_the_models()
        check(self.home, settled=not self.model.damaged, swept=False, permissions=False)
        shutil.rmtree(self.home.parent)

    def both(self, library, model):
        """Do it in the library, then in the model; the same error or none."""
        found = expected = None
        try:
            library()
        except TweakioError as error:
            found = error
        try:
            model()
        except TweakioError as error:
            expected = error
        assert type(found) is type(expected), f"{found!r} where the model says {expected!r}"

    @rule(days=st.sampled_from([-3650, -400, -1, 1, 31, 3650]))
    def step_the_clock(self, days):
        self.clock.offset += days

    @rule(which=which, names=some, tag=st.sampled_from(["x", "y"]))
    def create(self, which, names, tag):
        note = f"note {next(self.number)}"
        self.both(
            lambda: self.managers[which].create_profiles(names, "custom", note=note, tags=[tag]),
            lambda: self.model.create(names, self.clock.said, note=note, tags=(tag,)),
        )
        self.fill()

    @rule()
    def fill(self):
        """A browser leaves something in every profile that has nothing yet."""
        for name in self.model.profiles:
            if self.model.data.get(name) is None:
                self.model.data[name] = str(next(self.number))
                self.cookies(name).write_text(self.model.data[name])

    @rule(which=which, name=names)
    def activate(self, which, name):
        self.both(
            lambda: self.managers[which].activate_profile(name, 0),
            lambda: self.model.activate(self.holders[which], name, self.clock.said),
        )

    @rule(which=which, name=names)
    def select(self, which, name):
        self.both(
            lambda: self.managers[which].select_profile(name, 0),
            lambda: self.model.select(self.holders[which], name, self.clock.said),
        )

    @rule(which=which)
    def deactivate(self, which):
        self.both(
            self.managers[which].deactivate_profile,
            lambda: self.model.deactivate(self.holders[which]),
        )

    @rule(which=which)
    def close(self, which):
        self.both(self.managers[which].close, lambda: self.model.close(self.holders[which]))

    @precondition(lambda self: self.nursery is not None)
    @rule(name=names)
    def activate_and_die(self, name):
        self.nursery.stdin.write(f"{self.home} {name}\n")
        self.nursery.stdin.flush()
        said, gone = (self.nursery.stdout.readline().strip() for _ in range(2))
        assert gone == "gone"
        pid = int(said) if said.isdigit() else 0
        holder = Holder("dead", pid)
        try:
            self.model.activate(holder, name, "")
            expected = None
        except TweakioError as error:
            expected = type(error).__name__
        assert said == (expected or str(pid))
        if expected is not None:
            return
        # That process had a clock of its own.
        value = self.managers[0].metadata.load(name)
        self.model.profiles[name]["last_used"] = value["last_used"]
        self.model.die(holder)

    @rule(which=which, names=some, force=st.booleans(), purge=st.booleans())
    def delete(self, which, names, force, purge):
        self.both(
            lambda: self.managers[which].delete_profiles(names, force=force, purge=purge),
            lambda: self.model.delete(self.holders[which], names, force=force, purge=purge),
        )

    @rule(which=which, names=some, new=st.booleans(), tag=st.sampled_from(["x", "y"]))
    def update(self, which, names, new, tag):
        note = f"note {next(self.number)}" if new else None
        self.both(
            lambda: self.managers[which].update_profiles(
                names, note=note, add_tags=[tag], remove_tags=["z"]
            ),
            lambda: self.model.update(names, note=note, add=(tag,), remove=("z",)),
        )

    @rule(name=names, content=st.sampled_from([b"", b"{", b"null", b'{"profile_id": "other"}']))
    def damage(self, name, content):
        if name in self.model.profiles:
            self.managers[0].layout.profile(name).metadata.write_bytes(content)
            self.model.damaged.add(name)

    @rule(which=which, name=names, mode=st.sampled_from(["soft", "hard"]))
    def recover(self, which, name, mode):
        self.both(
            lambda: self.managers[which].recover_profile(name, mode),
            lambda: self.model.recover(self.holders[which], name, mode),
        )

    @rule(which=which)
    def undo(self, which):
        self.both(self.managers[which].undo, lambda: self.model.undo(self.holders[which]))

    @rule(which=which)
    def redo(self, which):
        self.both(self.managers[which].redo, lambda: self.model.redo(self.holders[which]))

    @rule(which=which, name=names, back=st.integers(0, 12))
    def restore(self, which, name, back):
        index = max(0, len(self.past) - 1 - back)
        then = self.past[index].get(name) if self.past else None
        revision = self.managers[which].history()[len(self.past) - 1 - index].revision
        self.both(
            lambda: self.managers[which].restore(name, revision),
            lambda: self.model.restore(name, then),
        )

    def entry(self, number):
        """One entry of the trash, in the library and in the model."""
        if not self.model.trash:
            return "20260101T000000-alpha-000000", None
        index = number % len(self.model.trash)
        entry = self.model.trash[index]
        same = [
            item
            for item in self.model.trash
            if (item.kind, item.profile) == (entry.kind, entry.profile)
        ]
        found = [
            item
            for item in reversed(self.managers[0].trash(entry.profile))
            if item.kind == entry.kind
        ]
        return found[same.index(entry)].name, entry

    @rule(which=which, number=st.integers(0, 20))
    def restore_from_trash(self, which, number):
        name, entry = self.entry(number)
        missing = entry or Entry("deleted", "alpha", {}, None)
        self.both(
            lambda: self.managers[which].restore_from_trash(name),
            lambda: self.model.restore_from_trash(self.holders[which], missing),
        )

    @rule(which=which, number=st.integers(0, 60))
    def purge_trash(self, which, number):
        if number == 0:
            self.managers[which].purge_trash()
            self.model.purge_trash()
        elif number <= 20:
            name, entry = self.entry(number)
            if entry is not None:
                self.managers[which].purge_trash(name)
                self.model.purge_trash(entry)

    @rule()
    def commit_beside(self):
        who = ("-c", "user.name=Beside", "-c", "user.email=beside@example.com")
        commit = ("commit", "-q", "--allow-empty", "--no-verify", "-m", "beside")
        done = git(self.home / "profiles", *who, *commit)
        assert done.returncode == 0, done.stderr
        self.model.commit_beside()

    def cookies(self, name):
        return self.managers[0].layout.profile(name).browser_profile / "Cookies"

    @invariant()
    def the_listing_is_the_models(self):
        for manager in self.managers:
            found = {}
            for profile in manager.list_profiles():
                value = None
                if profile.status != "corrupted":
                    value = manager.metadata.load(profile.id)
                    shown = (profile.note, list(profile.tags), format_time(profile.created_at))
                    assert shown == (value["note"], value["tags"], value["created_at"])
                found[profile.id] = (profile.status, profile.in_use, profile.lock_pid, value)
            assert found == self.model.rows()

    @invariant()
    def the_history_is_the_models(self):
        history = self.managers[0].history()
        expected = [(change.operation, change.profiles) for change in self.model.history]
        found = [(change.operation, frozenset(change.profiles)) for change in reversed(history)]
        assert found[self.base :] == expected
        while len(self.past) < len(history):
            self.past.append(self.model.profiles)

    @invariant()
    def nothing_is_lost(self):
        kept = [
            (entry.kind, entry.profile_id, _content(entry.path / "data"))
            for entry in self.managers[0].trash()
        ]
        expected = [
            (entry.kind, entry.profile, entry.data if entry.kind != "damaged" else None)
            for entry in self.model.trash
        ]
        assert Counter(kept) == Counter(expected)
        for name in self.model.profiles:
            found = self.cookies(name)
            content = found.read_text() if found.exists() else None
            assert content == self.model.data.get(name), name


def _content(data):
    path = data / "browser_profile" / "Cookies"
    return path.read_text() if path.exists() else None


@pytest.mark.no_cover
def test_random_sequences(nursery):
    run_state_machine_as_test(
        type("Machine", (Machine,), {"nursery": nursery}),
        settings=settings(
            max_examples=int(os.environ.get("STATEFUL_EXAMPLES", "12")),
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
            # Shrinking what takes so many syncs can take longer than all other tests.
            phases=[Phase.explicit, Phase.generate],
        ),
    )
