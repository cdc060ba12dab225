"""Whether a history of invocations and answers is one that the sequential model could have had.

The commits are a total order of all that was changed, so nothing has to be searched for. What
is checked is that the order agrees with real time (what was acknowledged before another
operation began comes before it), that each step is the model's, and that each refusal, each
listing and each "nothing to do" is the model's answer in some state between its invocation and
its answer, and in none that is older than what an earlier answer has shown.

When precisely a lock was taken or let go nobody knows; a lock that may be held at a moment is
taken as held or free, whichever the outcome says, and no more than that.
"""

from __future__ import annotations

import heapq
import itertools
import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.concurrency.worker import digest
from tests.model import Change, Holder, Metadata, Model
from tweakio import errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Commit", "Known", "Operation", "Span", "Spans", "check"]


@dataclass
class Operation:
    """One invocation, with its answer.

    Attributes:
        began, ended: moments of one clock; ``ended`` is infinite if it was cut off.
        outcome: ``done``, ``refused`` or ``cut off``.
        given: its arguments.
        commits: what was acknowledged.
        error: the class that refused it.
        answer: what was read, as one text.
    """

    marker: str
    by: Holder
    name: str
    profile: str
    began: float
    given: dict[str, Any] = field(default_factory=dict)
    ended: float = math.inf
    outcome: str = "cut off"
    commits: list[str] = field(default_factory=list)
    error: str = ""
    text: str = ""
    answer: str = ""


@dataclass
class Commit:
    """One commit of the first-parent history.

    Attributes:
        operation: what it says it is, ``git`` for plain git's.
        marker: of the invocation that made it.
        profiles: those that it names.
        contents: of the profiles that it changed, what they are then.
        target: of an undo or redo: the commit that was taken back or done again.
    """

    id: str
    operation: str
    marker: str
    profiles: frozenset[str] = frozenset()
    contents: dict[str, Metadata | None] = field(default_factory=dict)
    target: str = ""


class Span(NamedTuple):
    """A time of somebody's."""

    began: float
    ended: float
    by: Holder


class Spans:
    """Who had something when, by a name."""

    def __init__(self) -> None:
        self._spans: dict[str, list[Span]] = defaultdict(list)
        self._longest: dict[str, list[float]] = {}

    def add(self, name: str, span: Span) -> None:
        self._spans[name].append(span)

    def __len__(self) -> int:
        return sum(map(len, self._spans.values()))

    def settle(self) -> None:
        """All were added."""
        for name, spans in self._spans.items():
            spans.sort()
            self._longest[name] = list(itertools.accumulate((s.ended for s in spans), max))

    def overlapping(self, name: str, began: float, ended: float) -> list[Span]:
        """Those that overlap with some time."""
        if name not in self._longest:
            return []
        spans = self._spans[name]
        first = bisect_left(self._longest[name], began)
        last = bisect_right(spans, (ended, math.inf))
        return [span for span in spans[first:last] if span.ended >= began]

    def covering(self, name: str, began: float, ended: float) -> Holder | None:
        """Whose time is all of some time."""
        for span in self.overlapping(name, began, ended):
            if span.began <= began and ended <= span.ended:
                return span.by
        return None

    def clashes(self) -> Iterator[str]:
        """Where one began before another had ended."""
        for name, spans in self._spans.items():
            last: Span | None = None
            for span in spans:
                if last is not None and span.began < last.ended:
                    both = (min(last.ended, span.ended) - span.began) / 1e6
                    yield f"{name} had {last.by.name} and {span.by.name} for {both:.3f} ms"
                if last is None or span.ended > last.ended:
                    last = span


@dataclass
class Known:
    """What was written down of locks and files.

    Attributes:
        held: when a profile was held without a doubt.
        locked: the same by lock file, of which a profile may have another later.
        maybe: when a profile may have been held.
        damage: when a file may have been unreadable.
    """

    held: Spans = field(default_factory=Spans)
    locked: Spans = field(default_factory=Spans)
    maybe: Spans = field(default_factory=Spans)
    damage: Spans = field(default_factory=Spans)


def check(
    history: list[Commit], operations: dict[str, Operation], known: Known
) -> tuple[list[str], dict[str, Metadata]]:
    """What is wrong with a history.

    Args:
        history: the commits, oldest first.
        operations: by marker.
        known: of locks and files.

    Returns:
        The violations, and the profiles at the end.
    """
    found = _Check(history, operations, known)
    found.holders()
    found.order()
    found.replay()
    found.answers()
    return found.violations, found.model.profiles


class _Check:
    def __init__(
        self,
        history: list[Commit],
        operations: dict[str, Operation],
        known: Known,
    ) -> None:
        self.history = history
        self.operations = operations
        self.known = known
        self.violations: list[str] = []
        self.model = Model()
        self.index = {commit.id: number for number, commit in enumerate(history)}
        # Not before, and not after; each in the order of the history.
        self.earliest: list[float] = []
        self.latest: list[float] = []
        # Not before this it was settled what a commit changes.
        self.settled: list[float] = []
        self.versions: dict[str, tuple[list[int], list[Metadata | None]]] = {}
        self.tops: list[tuple[list[tuple[Change, Change]], list[tuple[Change, Change]]]] = []
        self.changes: dict[str, Change] = {}
        # Until when damage to a profile is no more.
        self._mended: dict[str, float] = {}

    def say(self, text: str) -> None:
        self.violations.append(text)

    # Nobody holds what another one holds

    def holders(self) -> None:
        known = self.known
        for spans in (known.held, known.locked, known.maybe, known.damage):
            spans.settle()
        for spans in (known.held, known.locked):
            self.violations += spans.clashes()

    # Real time

    def order(self) -> None:
        """A commit is made between the invocation and the answer of its operation."""
        began, last = -math.inf, ""
        settled = -math.inf
        for commit in self.history:
            operation = self.operations.get(commit.marker)
            if operation is not None:
                if operation.name != "git":
                    # Plain git's commits take none of our locks: one may come between a change
                    # and its place in history, which then stands on top of it.
                    settled = max(settled, operation.began)
                if operation.ended < began:
                    self.say(
                        f"{commit.marker} was acknowledged before {last} was invoked, "
                        "and comes after it in history"
                    )
                if operation.began > began:
                    began, last = operation.began, commit.marker
            self.earliest.append(began)
            self.settled.append(settled)
        ended = math.inf
        for commit in reversed(self.history):
            operation = self.operations.get(commit.marker)
            if operation is not None:
                ended = min(ended, operation.ended)
            self.latest.append(ended)
        self.latest.reverse()

    def states(self, operation: Operation) -> tuple[int, int]:
        """The first and the last state that an operation can have seen.

        A state is named by the number of commits before it.
        """
        return (
            bisect_left(self.latest, operation.began),
            bisect_right(self.earliest, operation.ended),
        )

    # Every commit is a step of the model

    def replay(self) -> None:
        self._note({}, {})
        for number, commit in enumerate(self.history):
            before = self.model.profiles
            try:
                problem = self._step(number, commit)
            except (errors.TweakioError, KeyError) as error:
                problem = f"the model refuses it: {error!r}"
            expected = self.model.profiles
            for name in {*commit.contents, *expected, *before}:
                there = commit.contents.get(name, before.get(name))
                if expected.get(name) != there:
                    problem = problem or f"has {name} as {there}, the model {expected.get(name)}"
            if problem:
                what = f"{commit.operation} {commit.marker}".strip()
                self.say(f"commit {commit.id[:12]} ({what}): {problem}")
                # Go on from what is there.
                actual = {**before, **commit.contents}
                self.model.profiles = {k: v for k, v in actual.items() if v is not None}
            del self.model.trash[:-64]
            self._note(before, self.model.profiles)

    def _note(self, before: dict[str, Metadata], after: dict[str, Metadata]) -> None:
        state = len(self.tops)
        for name in before.keys() | after.keys():
            if before.get(name) != after.get(name):
                states, values = self.versions.setdefault(name, ([], []))
                states.append(state)
                values.append(after.get(name))
        self.tops.append((self.model.undos[-1:], self.model.redos[-1:]))

    def _step(self, number: int, commit: Commit) -> str:
        """Let the model do what a commit says; what is wrong besides, if anything."""
        model = self.model
        operation = self.operations.get(commit.marker)
        if commit.operation == "init":
            return "" if number == 0 else "is not the first"
        if operation is None:
            return "is nobody's"
        if commit.operation == "git":
            self.changes[commit.id] = model.commit_beside()
            return "plain git changed something" if commit.contents else ""
        if extra := commit.contents.keys() - commit.profiles:
            return f"changes {sorted(extra)} without naming them"
        if _COMMITS_AS.get(operation.name, operation.name) not in commit.operation:
            return f"is of an invocation of {operation.name}"
        if commit.target and (not model.undos if commit.operation == "undo" else not model.redos):
            return "there is nothing that it could take back or do again"
        made = len(model.history)
        change = None
        attempts = [self._damaged(number, commit, operation), set[str]()]
        for damaged in attempts if attempts[0] else attempts[1:]:
            model.held = self._held(number, commit, operation)
            model.current = {}
            model.damaged = damaged
            try:
                change = self._perform(model, commit, operation)
            except errors.TweakioError:
                if not damaged:
                    raise
            if len(model.history) > made:
                break
        gone = {name for name, value in commit.contents.items() if value is None}
        mended = gone | ({operation.profile} if operation.name in _MENDS else set())
        self._mended.update(dict.fromkeys(mended, self.earliest[number]))
        model.damaged = set()
        if len(model.history) != made + 1 or change is None:
            return "the model has nothing to commit"
        self.changes[commit.id] = change
        target = self.changes.get(commit.target)
        if commit.target and change.target is not target:
            return f"takes back {commit.target[:12]}, which is not the next"
        return ""

    def _damaged(self, number: int, commit: Commit, operation: Operation) -> set[str]:
        """Whose files were damaged at a commit, as far as may be and its outcome tells.

        Who was killed after it damaged a file, or just before, said no more. Its bytes stay until
        it is recovered, restored or deleted, whatever is committed of it meanwhile. What a hard
        recovery leaves active was not damaged. A restore leaves a status as it is, and says
        nothing by it.
        """
        time = self.earliest[number], self.latest[number]
        found = set()
        for name, value in self.model.profiles.items():
            spans = self.known.damage.overlapping(name, *time)
            if not any(span.began > self._mended.get(name, -1) for span in spans):
                continue
            there = commit.contents.get(name)
            if name == operation.profile and operation.name in _MENDS:
                hard = operation.given.get("mode") == "hard"  # the others keep what was damaged
                left = (there or value)["status"] == "active"
                if not hard or value["status"] != "active" or not left:
                    found.add(name)
            elif there is None:
                found.add(name)
        return found

    def _held(self, number: int, commit: Commit, operation: Operation) -> dict[str, Holder]:
        """Who has which profile at the moment of a commit, or of settling what it changes."""
        began, ended = self.settled[number], self.latest[number]
        held: dict[str, Holder] = {}
        for name, value in self.model.profiles.items():
            if value["status"] != "active" and name not in commit.contents:
                continue
            own = self.known.maybe.overlapping(name, operation.began, operation.began)
            others = self.known.maybe.overlapping(name, began, ended)
            holder = self.known.held.covering(name, began, ended)
            if any(span.by == operation.by for span in own):
                held[name] = operation.by
            elif holder is not None:
                held[name] = holder
            elif spans := [span for span in others if span.by != operation.by]:
                # It may have been held. The outcome tells: whom nobody holds is written down.
                # What is written of it, or stays so, names who had it; others waited for it.
                pid = (commit.contents.get(name, value) or {}).get("lock_pid")
                fits = [span.by for span in spans if span.by.pid == pid]
                # Even if that one died: who has the lock by now has not written it down yet.
                stays = pid is not None and pid == value.get("lock_pid")
                if fits or stays or name not in {operation.profile, *commit.profiles}:
                    held[name] = (fits or [spans[-1].by])[-1]
        return held

    def _perform(self, model: Model, commit: Commit, operation: Operation) -> Change | None:
        by, name = operation.by, operation.profile
        there = commit.contents.get(name) or {}
        if operation.name == "deactivate":
            # Which profile is selected was asked before: it need not be the first any more.
            active = sorted(item for item in commit.profiles if self._status(item) == "active")
            own = [item for item in active if model.held.get(item) == by]
            selected = [item for item in active if "lock_pid" not in model.profiles[item]]
            return model._deactivate(by, (own or selected or active or [name])[0])
        if operation.name == "create":
            first = commit.contents.get(operation.given["names"][0]) or {}
            operation = _with(operation, now=first.get("created_at"))
        elif operation.name == "restore":
            state = self.index.get(operation.given["revision"], -1) + 1
            operation = _with(operation, then=self.value(name, state))
        else:
            operation = _with(operation, now=there.get("last_used"))
        return _MODEL[operation.name](model, operation)

    def _status(self, name: str) -> str:
        return str(self.model.profiles.get(name, {}).get("status"))

    def value(self, name: str, state: int) -> Metadata | None:
        """What a profile was in a state."""
        states, values = self.versions.get(name, ((), ()))
        number = bisect_right(states, state)
        return values[number - 1] if number else None

    # Every answer is one of a state that was there

    def answers(self) -> None:
        asked = [item for item in self.operations.values() if _judged(item)]
        asked.sort(key=lambda item: item.began)
        shown = 0
        answered: list[tuple[float, int]] = []
        for operation in asked:
            while answered and answered[0][0] < operation.began:
                shown = max(shown, heapq.heappop(answered)[1])
            first, last = self.states(operation)
            state = next(self._explaining(operation, max(first, shown), last), None)
            if state is None:
                self._complain(operation, first, last, shown)
                continue
            heapq.heappush(answered, (operation.ended, state))

    def _complain(self, operation: Operation, first: int, last: int, shown: int) -> None:
        what = f"{operation.error} ({operation.text})" if operation.error else "the answer"
        why = f"no state from {first} to {last} explains it"
        earlier = next(self._explaining(operation, first, last), None)
        if earlier is not None:
            why = f"state {earlier} explains it, but an earlier answer has shown state {shown}"
        elif (older := next(self._explaining(operation, 0, first - 1), None)) is not None:
            why += f"; the old state {older} does"
        self.say(
            f"{operation.marker} ({operation.name} {operation.profile}): {what}: {why}"
            f" {operation.answer[:300]}"
        )

    def _explaining(self, operation: Operation, first: int, last: int) -> Iterator[int]:
        if operation.name == "list":
            rows = [row.split(" ") for row in operation.answer.split(";") if row]
            yield from self._states_listing(operation, rows, first, last)
        elif operation.name == "history":
            for state in range(first, last + 1):
                recent = self.history[max(0, state - 8) : state]
                if [commit.id for commit in reversed(recent)] == operation.answer.split():
                    yield state
        else:
            names = {operation.profile, *operation.given.get("names", ())} - {""}
            previous: Any = None
            for state in range(first, last + 1):
                top = self.tops[state]
                seen = [self.value(name, state) for name in names]
                if operation.name in ("undo", "redo"):
                    seen.append(top)  # type: ignore[arg-type]
                if seen != previous:
                    previous = seen
                    explains = self._explains(operation, state)
                if explains:
                    yield state

    def _states_listing(
        self, operation: Operation, rows: list[list[str]], first: int, last: int
    ) -> Iterator[int]:
        names = {row[0]: row for row in rows}
        candidates = list(range(first, last + 1))
        for name in {*names, *self.versions}:
            fits: dict[int, bool] = {}
            states = self.versions.get(name, ((), ()))[0]
            remaining = []
            for state in candidates:
                version = bisect_right(states, state)
                if version not in fits:
                    value = self.value(name, state)
                    fits[version] = self._row_fits(operation, name, names.get(name), value)
                if fits[version]:
                    remaining.append(state)
            candidates = remaining
        yield from candidates

    def _row_fits(
        self, operation: Operation, name: str, row: list[str] | None, value: Metadata | None
    ) -> bool:
        if row is None or value is None:
            return row is None and value is None
        _, status, in_use, version = row
        time = operation.began, operation.ended
        if status == "corrupted":
            return bool(self.known.damage.overlapping(name, *time))
        moments = (value["created_at"], value["last_used"], value["note"], value["tags"])
        if version != digest(*moments):
            return False
        if in_use == "1":
            if not self.known.maybe.overlapping(name, *time):
                return False
        elif self.known.held.covering(name, *time) is not None:
            return False
        dead = "lock_pid" in value and in_use == "0"
        return status == ("inactive" if dead else value["status"])

    def _explains(self, operation: Operation, state: int) -> bool:
        """Whether the model would have answered so in a state."""
        time = operation.began, operation.ended
        names = {operation.profile, *operation.given.get("names", ())} - {""}
        undos, redos = self.tops[state]
        if operation.name in ("undo", "redo"):
            for _, last in undos if operation.name == "undo" else redos:
                names |= {*last.before, *last.profiles}
        profiles = {name: value for name in names if (value := self.value(name, state)) is not None}
        damaged = {name for name in names if self.known.damage.overlapping(name, *time)}
        sure = {name: by for name in names if (by := self.known.held.covering(name, *time))}
        maybe = {
            name: spans[0].by
            for name in names
            if (
                spans := [
                    s for s in self.known.maybe.overlapping(name, *time) if s.by != operation.by
                ]
            )
        }
        own = {
            name: operation.by
            for name in names
            if any(
                span.by == operation.by
                for span in self.known.maybe.overlapping(name, operation.began, operation.began)
            )
        }
        for held, spoilt in itertools.product(
            ({**sure, **own}, {**maybe, **own}), (set(), damaged)
        ):
            model = Model()
            model.profiles = dict(profiles)
            model.held, model.damaged = dict(held), set(spoilt)
            model.undos, model.redos = list(undos), list(redos)
            # What a reset put aside comes back by an undo, if nobody uses the profile.
            model.trash = [entry for _, last in (*undos, *redos) for entry in last.kept]
            asked = operation
            if operation.name == "restore":
                then = self.index.get(operation.given["revision"], -1) + 1
                asked = _with(operation, then=self.value(operation.profile, then))
            try:
                _MODEL[operation.name](model, asked)
            except errors.TweakioError as error:
                if type(error).__name__ == operation.error:
                    return True
            else:
                if not operation.error and not model.history:
                    return True
        # Another program changed the same thing, or is in the middle of it.
        changed = state < self.states(operation)[1]
        return operation.error == "ConcurrentChangeError" and changed


def _judged(operation: Operation) -> bool:
    """Whether an operation has an answer that is not a commit."""
    if operation.outcome == "cut off" or operation.name == "git" or operation.commits:
        return False
    if operation.error == "LockTimeoutError" and "profile '" not in operation.text:
        return False  # of the repository's lock, which has no state
    # What is selected is looked up first, and may be gone then.
    return operation.name != "deactivate"


def _with(operation: Operation, **given: Any) -> Operation:
    return replace(operation, given={**operation.given, **given})


_MENDS = ("recover", "restore")
_COMMITS_AS = {"select": "activate", "update": "set"}
_MODEL: dict[str, Callable[[Model, Operation], Any]] = {
    "create": lambda m, o: m.create(
        o.given["names"], o.given.get("now", ""), note=o.given["note"], tags=(o.by.name,)
    ),
    "activate": lambda m, o: m.activate(o.by, o.profile, o.given.get("now", "")),
    "select": lambda m, o: m.select(o.by, o.profile, o.given.get("now", "")),
    "deactivate": lambda m, o: m.deactivate(o.by),
    "delete": lambda m, o: m.delete(o.by, [o.profile], force=o.given["force"]),
    "update": lambda m, o: m.update([o.profile], note=o.given["note"]),
    "recover": lambda m, o: m.recover(o.by, o.profile, o.given["mode"]),
    "restore": lambda m, o: m.restore(o.profile, o.given["then"]),
    "undo": lambda m, o: m.undo(o.by),
    "redo": lambda m, o: m.redo(o.by),
}
