"""The checker finds what is wrong: in histories that were doctored, and of a broken library."""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.concurrency.campaign import Campaign
from tests.concurrency.journal import read_journals
from tests.concurrency.linear import _MODEL, Commit, Known, Operation, Span, Spans, _with, check
from tests.concurrency.verify import Findings, _check_promises, verify
from tests.concurrency.worker import WatchedLocks, Worker, digest
from tests.model import Change, Holder, Model, Row
from tweakio import ProfileManager

ROOT = Path(__file__).resolve().parents[2]
A, B, C = Holder("a", 1), Holder("b", 2), Holder("c", 3)


class Story:
    """A history that is right; operations of ten moments, one after the other."""

    def __init__(self) -> None:
        self.model = Model()
        self.history: list[Commit] = []
        self.operations: dict[str, Operation] = {}
        self.known = Known()

    def do(self, by: Holder, name: str, profile: str = "", **given: Any) -> Operation:
        """Let the model do it, and write down what the library would."""
        number = len(self.operations)
        given = {"names": [profile], "note": f"note {number}", "force": False, **given}
        operation = Operation(
            f"{by.name}-{number}", by, name, profile, 10 * number, given, 10 * number + 5, "done"
        )
        self.operations[operation.marker] = operation
        if name == "list":
            operation.answer = listing(self.model.rows())
        elif name == "history":
            operation.answer = " ".join(commit.id for commit in reversed(self.history[-8:]))
        else:
            asked = _with(operation, now=f"2026-01-01T00:00:{number:02}Z")
            change = _MODEL[name](self.model, asked)
            if isinstance(change, list):
                (change,) = change
            assert isinstance(change, Change)
            target = ""
            if change.target is not None:
                target = self.history[self.model.history.index(change.target)].id
            word = {"select": "activate", "update": "set"}.get(name, name)
            self.history.append(
                Commit(
                    f"{number:040x}",
                    word,
                    operation.marker,
                    change.profiles,
                    dict(change.after),
                    target,
                )
            )
            operation.commits = [self.history[-1].id]
        return operation

    def refuse(self, by: Holder, name: str, profile: str, error: str) -> Operation:
        number = len(self.operations)
        given = {"names": [profile], "note": "", "force": False}
        operation = Operation(
            f"{by.name}-{number}", by, name, profile, 10 * number, given, 10 * number + 5,
            "refused", error=error, text=f"profile '{profile}'",
        )  # fmt: skip
        self.operations[operation.marker] = operation
        return operation

    def problems(self) -> str:
        findings = Findings()
        authors = {
            commit.id: f"{commit.marker[0]} <{commit.marker[0]}@campaign.example>"
            for commit in self.history
        }
        _check_promises(
            self.operations, self.history, authors, Campaign(Path(), 0, 0, 0, 0), findings
        )
        return "\n".join(findings.violations + check(self.history, self.operations, self.known)[0])


def listing(rows: dict[str, Row]) -> str:
    found = []
    for name, row in rows.items():
        value = row.metadata or {}
        version = digest(*(value[key] for key in ("created_at", "last_used", "note", "tags")))
        found.append(f"{name} {row.status} {row.in_use:d} {version}")
    return ";".join(found)


@pytest.fixture
def story() -> Story:
    found = Story()
    found.do(A, "create", "x")  # 0
    found.do(B, "create", "y")  # 1
    found.do(A, "update", "x")  # 2
    found.do(B, "list")  # 3
    found.do(A, "activate", "x")  # 4
    found.known.maybe.add("x", Span(40, 75, A))
    found.known.held.add("x", Span(45, 70, A))
    found.known.locked.add("x 1", Span(44, 71, A))
    found.do(B, "list")  # 5
    found.do(B, "history")  # 6
    found.do(A, "deactivate", "x")  # 7
    found.do(B, "delete", "y")  # 8
    found.do(B, "undo")  # 9
    found.refuse(A, "create", "x", "ProfileExistsError")  # 10
    found.refuse(A, "activate", "z", "ProfileNotFoundError")  # 11
    found.do(B, "list")  # 12
    return found


def test_a_history_that_is_right(story: Story) -> None:
    assert story.problems() == ""


def test_damage_of_a_process_that_was_killed() -> None:
    """A damaged profile stays selected until somebody recovers it, and is as any other then."""
    story = Story()
    for name in ("x", "y", "z"):
        story.do(A, "create", name)
    story.do(A, "select", "x")  # 3
    story.known.damage.add("x", Span(36, math.inf, A))
    story.model.damaged = {"x"}
    story.do(B, "select", "y")
    assert "x" not in story.history[-1].contents
    story.do(B, "recover", "x", mode="soft")
    assert "x" in story.history[-1].contents
    story.do(B, "select", "x")
    story.do(B, "recover", "x", mode="hard")
    story.do(B, "select", "z")
    assert {*story.history[-1].contents} == {"x", "z"}
    assert story.problems() == ""


def restored_while_it_is_damaged() -> Story:
    """Its holder spoils a file, and somebody restores the profile to what it is in history."""
    story = Story()
    story.do(A, "create", "x")
    story.do(A, "activate", "x")  # 1
    story.known.maybe.add("x", Span(10, math.inf, A))
    story.known.held.add("x", Span(15, math.inf, A))
    story.known.damage.add("x", Span(16, 27, A))
    story.model.damaged = {"x"}
    story.do(B, "restore", "x", then=story.model.profiles["x"], revision=story.history[-1].id)
    assert not story.history[-1].contents  # only the damaged bytes were kept
    return story


def test_a_restore_of_what_its_holder_damaged() -> None:
    assert restored_while_it_is_damaged().problems() == ""


def test_a_restore_of_what_nobody_damaged_commits_nothing() -> None:
    story = restored_while_it_is_damaged()
    story.known.damage = Spans()
    assert "(restore b-2): the model has nothing to commit" in story.problems()


def test_who_waits_for_a_lock_does_not_have_it() -> None:
    """A third mends what the holder damaged; when that began to hold is not quite known."""
    story = Story()
    story.do(A, "create", "x")
    story.do(A, "activate", "x")  # 1
    story.known.maybe.add("x", Span(10, math.inf, A))
    story.known.held.add("x", Span(21, math.inf, A))
    story.known.maybe.add("x", Span(12, 30, C))
    story.known.damage.add("x", Span(16, 27, A))
    story.model.damaged = {"x"}
    story.do(B, "recover", "x", mode="soft")  # 2
    assert not story.history[-1].contents
    assert story.problems() == ""


def test_the_lock_of_a_dead_holder_that_another_has_by_now() -> None:
    """A third changes the profile before that one has written down that it is active."""
    story = Story()
    story.do(A, "create", "x")
    story.do(A, "activate", "x")  # 1
    story.known.maybe.add("x", Span(11, 16, A))
    story.known.maybe.add("x", Span(17, 35, C))
    story.model.held = {"x": C}
    story.do(B, "update", "x")  # 2
    value = story.history[-1].contents["x"]
    assert value is not None
    assert value["lock_pid"] == A.pid
    story.do(C, "activate", "x")  # 3
    assert story.problems() == ""
    story.known.maybe = Spans()
    assert "(set b-2): has x as" in story.problems()


def test_an_undo_just_after_a_selection() -> None:
    """It takes back a reset, which nobody may hold then and which changes no metadata."""
    story = Story()
    story.do(A, "create", "x")
    story.do(A, "select", "x")  # 1
    story.do(B, "recover", "x", mode="hard")  # 2
    story.known.maybe.add("x", Span(11, 31, A))
    story.do(B, "undo")  # 3
    assert not story.history[-1].contents
    assert story.problems() == ""
    story.known.held.add("x", Span(11, 35, A))
    assert "(undo b-3): the model refuses it: ProfileActiveError" in story.problems()


def test_a_plain_commit_between_a_change_and_its_place() -> None:
    """Somebody lets go of a profile before that, and after it was settled what changes."""
    story = Story()
    story.do(A, "create", "x")
    story.do(A, "select", "x")  # 1
    story.do(A, "create", "y")  # 2
    story.known.maybe.add("x", Span(25, 42, B))
    story.model.held = {"x": B}
    story.do(A, "select", "y")  # 3
    assert "x" not in story.history[-1].contents
    change = story.history.pop()
    story.operations["g"] = Operation("g", C, "git", "", 43, ended=44, outcome="done")
    story.history += [Commit("9" * 40, "git", "g"), change]
    story.operations["a-3"].ended = 48
    assert check(story.history, story.operations, story.known)[0] == []
    # Without that commit, it is the moment of the change that counts.
    story.operations["a-3"].began = 43
    assert "has x as" in "".join(check(story.history, story.operations, story.known)[0])


def test_an_undo_of_a_reset_that_somebody_has_by_now() -> None:
    story = Story()
    story.do(A, "create", "x")
    story.do(A, "recover", "x", mode="hard")  # 1
    story.refuse(B, "undo", "", "ProfileActiveError")  # 2
    story.known.maybe.add("x", Span(22, 30, C))
    assert story.problems() == ""
    story.known.maybe = Spans()
    assert "(undo ): ProfileActiveError" in story.problems()


def lose_a_commit(story: Story) -> None:
    del story.history[-1]


def lose_a_commit_that_was_cut_off(story: Story) -> None:
    """Nobody was told that it was made, but a listing has shown it."""
    story.operations["a-2"].outcome, story.operations["a-2"].commits = "cut off", []
    del story.history[2]


def swap_two(story: Story) -> None:
    story.history[0], story.history[1] = story.history[1], story.history[0]


def make_one_twice(story: Story) -> None:
    story.history.insert(3, story.history[2])


def commit_what_was_refused(story: Story) -> None:
    story.operations["a-2"].outcome, story.operations["a-2"].error = "refused", "LockTimeoutError"


def lose_a_field(story: Story) -> None:
    value = story.history[2].contents["x"]
    assert value is not None
    story.history[2].contents["x"] = {**value, "note": "note 0"}


def change_another_profile(story: Story) -> None:
    value = story.history[1].contents["y"]
    assert value is not None
    story.history[2].contents["y"] = {**value, "note": "stray"}


def list_what_is_old(story: Story) -> None:
    story.operations["b-12"].answer = story.operations["b-3"].answer


def list_what_is_not_yet(story: Story) -> None:
    story.operations["b-3"].answer = story.operations["b-12"].answer


def list_half_of_a_change(story: Story) -> None:
    story.operations["b-12"].answer = story.operations["b-12"].answer.split(";")[0]


def go_back_in_time(story: Story) -> None:
    """Two listings beside one slow operation: the first shows its effect, the second not."""
    story.known = Known()
    story.operations["a-2"].ended = 1000
    for commit in ("a-4", "a-7", "b-8", "b-9"):
        del story.operations[commit]
    del story.history[3:]
    first = story.operations["b-3"]
    second = story.operations["b-5"]
    second.answer = listing(before_the_update(story))
    for marker in ("b-6", "a-10", "a-11", "b-12"):
        del story.operations[marker]
    assert first.ended < second.began


def before_the_update(story: Story) -> dict[str, Row]:
    model = Model()
    for commit in story.history[:2]:
        model.profiles.update({k: v for k, v in commit.contents.items() if v is not None})
    return model.rows()


def refuse_without_a_reason(story: Story) -> None:
    story.refuse(B, "create", "w", "ProfileExistsError")


def not_find_what_is_there(story: Story) -> None:
    story.refuse(B, "update", "x", "ProfileNotFoundError")


def wait_for_nobody(story: Story) -> None:
    story.refuse(B, "activate", "x", "LockTimeoutError")


def find_nothing_to_undo(story: Story) -> None:
    story.refuse(B, "undo", "", "NothingToUndoError")


def undo_another(story: Story) -> None:
    story.history[-1].target = story.history[0].id


def hold_twice(story: Story) -> None:
    story.known.held.add("x", Span(60, 80, B))


def lock_twice(story: Story) -> None:
    story.known.locked.add("x 1", Span(60, 80, B))


def show_a_held_profile_as_free(story: Story) -> None:
    operation = story.operations["b-5"]
    operation.answer = operation.answer.replace("active 1", "inactive 0", 1)


def show_a_free_profile_as_held(story: Story) -> None:
    operation = story.operations["b-12"]
    operation.answer = operation.answer.replace("inactive 0", "active 1", 1)


def forget_what_is_recent(story: Story) -> None:
    operation = story.operations["b-6"]
    operation.answer = operation.answer.partition(" ")[2]


def delete_what_is_held(story: Story) -> None:
    operation = story.do(B, "delete", "x")
    operation.began, operation.ended = 50, 55
    story.history.insert(4, story.history.pop())


@pytest.mark.parametrize(
    ("doctor", "said"),
    [
        (lose_a_commit, "history has []"),
        (lose_a_commit_that_was_cut_off, "the model"),
        (swap_two, "was acknowledged before"),
        (make_one_twice, "history has"),
        (commit_what_was_refused, "was refused with LockTimeoutError"),
        (lose_a_field, "the model"),
        (change_another_profile, "without naming"),
        (list_what_is_old, "the old state"),
        (list_what_is_not_yet, "no state from"),
        (list_half_of_a_change, "no state from"),
        (go_back_in_time, "an earlier answer has shown"),
        (refuse_without_a_reason, "no state from"),
        (not_find_what_is_there, "no state from"),
        (wait_for_nobody, "no state from"),
        (find_nothing_to_undo, "no state from"),
        (undo_another, "which is not the next"),
        (hold_twice, "x had a and b"),
        (lock_twice, "x 1 had a and b"),
        (show_a_held_profile_as_free, "no state from"),
        (show_a_free_profile_as_held, "no state from"),
        (forget_what_is_recent, "no state from"),
        (delete_what_is_held, "ProfileActiveError"),
    ],
)
def test_a_doctored_history(story: Story, doctor: Callable[[Story], None], said: str) -> None:
    doctor(story)
    assert said in story.problems()


def test_a_history_that_git_cannot_read(tmp_path: Path) -> None:
    """It is a violation like another, and what the journals show is told besides."""
    for name in ("journals", "sentinels"):
        (tmp_path / name).mkdir()
    with ProfileManager(tmp_path / "home") as manager:
        manager.create_profile("x", "custom")
    for pack in (tmp_path / "home" / "profiles" / ".git" / "objects" / "pack").glob("*.pack"):
        pack.unlink()
    campaign = Campaign(tmp_path, 1.0, 1, 1, 0)
    campaign.ended["w000"] = "signal 11"
    first, second = verify(campaign).violations
    assert first == "w000 ended with signal 11"
    assert second.startswith("what is left cannot be read: git log: ")


TAKE = """
really_take, really_drop = FlockLock.take, FlockLock.drop
def take(self):
    path = str(self._path)
    if not {which}:
        return really_take(self)
    self.descriptor = self.broken = os.open(path, os.O_RDWR | os.O_CREAT)
    return True
def drop(self, *, emptied=False):
    if not hasattr(self, "broken"):
        really_drop(self, emptied=emptied)
    elif self.descriptor >= 0:
        os.close(self.descriptor)
    self.descriptor = -1
FlockLock.take, FlockLock.drop = take, drop
"""
BROKEN = {
    "every lock is taken at once": TAKE.format(which="True"),
    "a profile's lock is not waited for": TAKE.format(which="path.endswith('/.lock')"),
    "a listing may be old": """
real, old = reading.Reader.all, {}
def all(self, repository, **options):
    found = real(self, repository, **options)
    return old.setdefault(os.getpid(), found) if random.random() < 0.3 else found
reading.Reader.all = all
""",
    "a note is lost": """
real = editing.Editor.update
def update(self, profile_ids, **options):
    return real(self, profile_ids, **{**options, "note": "lost"})
editing.Editor.update = update
""",
}


@pytest.mark.slow
@pytest.mark.no_cover
@pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forked")
@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_library(how: str) -> None:
    seed = str(random.SystemRandom().randrange(1 << 31))
    code = f"""
import os, random, sys
from tweakio import editing, reading
from tweakio.store.system_lock import FlockLock
{BROKEN[how]}
from tests.concurrency.__main__ import main
sys.exit(main())
"""
    # It shows as soon as two meet; on a loaded machine that takes longer.
    for seconds in ("3", "9", "27"):
        done = subprocess.run(
            [sys.executable, "-c", code, "--seconds", seconds, "--processes", "6",
             "--profiles", "2", "--seed", seed],
            cwd=ROOT, capture_output=True, text=True, timeout=180, check=False,
        )  # fmt: skip
        if done.returncode:
            break
    assert done.returncode == 1, f"seed {seed}:\n{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    assert "violations             0" not in done.stdout
    print(done.stdout)


def test_a_worker_whose_recovery_waited_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it damaged stays damaged, and it still holds it; that is no violation."""
    for name in ("journals", "sentinels"):
        (tmp_path / name).mkdir()
    with ProfileManager(tmp_path / "home") as beside:
        beside.create_profile("x", "custom")
        worker = Worker(tmp_path / "home", tmp_path, "w000", ["x"], "seed")
        monkeypatch.setattr(WatchedLocks, "journal", worker.journal, raising=False)
        recover = worker.manager.recover_profile

        def recover_beside_a_change(*arguments: Any) -> Any:
            worker.manager.repository.timeout = 0.05
            with beside.repository.exclusive():
                return recover(*arguments)

        # Of this one object, whose own recovery has to meet a change.
        worker.manager.recover_profile = recover_beside_a_change  # type: ignore[method-assign]
        worker._damage("x")
        worker.manager.repository.timeout = 30.0
        assert worker.manager.get_profile("x").status == "corrupted"
        worker._deactivate("")
        recover("x")
        worker._activate("x")
        worker._check_held()
        worker._close()
    said = [line for lines in read_journals(tmp_path / "journals") for line in lines]
    assert [line["error"] for line in said if line["event"] == "refused"] == ["LockTimeoutError"]
    assert not [line["text"] for line in said if line["event"] == "violation"]
