"""Whether a campaign ended as it must: history, journals and the final state agree."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.concurrency.journal import read_journals
from tests.invariants import check
from tweakio import ProfileManager

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.concurrency.campaign import Campaign

__all__ = ["Findings", "verify"]

_OPERATION = {"select": "activate"}
_GC_HARMLESS = (
    "cannot lock ref",
    "gc is already running",
    "Unable to create",
    # It met a pack that we merged into another meanwhile; it then leaves everything.
    "unable to add recent objects",
)
Metadata = dict[str, Any]


@dataclass
class Commit:
    """One commit of the first-parent history."""

    id: str
    parents: list[str]
    author: str
    message: str
    paths: list[str]
    trailers: dict[str, list[str]] = field(default_factory=dict)

    @property
    def operation(self) -> str:
        return self.trailers.get("Tweakio-Op", ["git"])[0]

    @property
    def marker(self) -> str:
        if self.operation == "git":
            return self.message.strip()
        return self.trailers.get("Tweakio-Command", [""])[0]


@dataclass
class Findings:
    """What the check found."""

    violations: list[str] = field(default_factory=list)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    errors: Counter[tuple[str, str]] = field(default_factory=Counter)
    waits: dict[str, float] = field(default_factory=dict)
    commits: int = 0
    holds: int = 0
    locks: int = 0
    gc_runs: int = 0
    gc_failures: Counter[str] = field(default_factory=Counter)

    def say(self, text: str) -> None:
        self.violations.append(text)


def verify(campaign: Campaign) -> Findings:
    """Check everything; the campaign has ended."""
    findings = Findings()
    events = list(read_journals(campaign.journals))
    # Before our own next change, whose commit would stand on top.
    history = list(_history(campaign.home / "profiles"))
    findings.commits = len(history)
    _check_ends(campaign, findings)
    _check_events(events, findings)
    intents = _check_promises(events, history, campaign, findings)
    _check_holders(events, campaign, findings)
    model = _replay(campaign.home / "profiles", history, intents, findings)
    _check_state(campaign, model, findings)
    return findings


def _git(directory: Path, *arguments: str, data: bytes = b"") -> bytes:
    return subprocess.run(
        ["git", "-C", str(directory), *arguments], input=data, capture_output=True, check=True
    ).stdout


def _history(profiles: Path) -> Iterator[Commit]:
    """The commits, oldest first."""
    raw = _git(
        profiles, "log", "--first-parent", "--reverse", "--root", "--name-only", "--no-renames",
        "-z", "--format=%x01%H%x02%P%x02%an <%ae>%x02%B%x03",
    )  # fmt: skip
    for record in raw.decode("utf-8", "replace").split("\x01")[1:]:
        header, _, paths = record.partition("\x03")
        commit_id, parents, author, message = header.split("\x02")
        trailers = defaultdict(list)
        for line in message.rstrip("\n").rsplit("\n\n", 1)[-1].split("\n"):
            key, separator, value = line.partition(": ")
            if separator and key.startswith("Tweakio-"):
                trailers[key].append(value)
        names = [path.strip("\n") for path in paths.split("\0") if path.strip("\n")]
        yield Commit(commit_id, parents.split(), author, message, names, dict(trailers))


def _check_ends(campaign: Campaign, findings: Findings) -> None:
    for name, how in campaign.ended.items():
        if not (name in campaign.killed and how == "signal 9"):
            findings.say(f"{name} ended with {how}")


def _check_events(events: list[dict[str, Any]], findings: Findings) -> None:
    for event in events:
        kind = event["event"]
        if kind == "violation":
            findings.say(f"{event['by']}: {event['text']}")
        elif kind == "wait":
            lock = event["lock"]
            findings.waits[lock] = max(event["seconds"], findings.waits.get(lock, 0.0))
        elif kind == "gc":
            findings.gc_runs += 1
        elif kind == "gc-failed":
            findings.gc_failures[event["error"]] += 1
            if not any(text in event["text"] for text in _GC_HARMLESS):
                findings.say(f"git gc: {event['text']}")


# Promises


def _check_promises(
    events: list[dict[str, Any]], history: list[Commit], campaign: Campaign, findings: Findings
) -> dict[str, dict[str, Any]]:
    """Every acknowledged operation is in history once, no refused one is; the intents."""
    by_marker: dict[str, list[Commit]] = defaultdict(list)
    for commit in history:
        by_marker[commit.marker].append(commit)
    ids = {commit.id for commit in history}
    intents = {event["marker"]: event for event in events if event["event"] == "intent"}
    outcomes = {event["marker"]: event for event in events if event["event"] in ("done", "refused")}
    for marker, intent in intents.items():
        found = by_marker.get(marker, [])
        outcome = outcomes.get(marker)
        operation = intent["operation"]
        if outcome is None:
            findings.counts[operation, "cut off"] += 1
            if intent["by"] not in campaign.killed:
                findings.say(f"{marker} ({operation}) was never answered")
            if len(found) > 1:
                findings.say(f"{marker} ({operation}) was cut off and is {len(found)} commits")
        elif outcome["event"] == "refused":
            findings.counts[operation, "refused"] += 1
            findings.errors[operation, outcome["error"]] += 1
            if found:
                findings.say(
                    f"{marker} ({operation} {intent['profile']}) was refused with "
                    f"{outcome['error']} ({outcome['text']}) and is in history: {found[0].id[:12]}"
                )
        else:
            findings.counts[operation, "done"] += 1
            _check_done(intent, outcome, found, ids, findings)
        for commit in found:
            _check_commit(intent, commit, findings)
    known = {"ProfileManager.create_profiles", "ProfileManager.create_profile", ""}
    for marker, found in by_marker.items():
        if marker not in intents and not (marker in known and found[0] in history[:2]):
            findings.say(f"commit {found[0].id[:12]} ({found[0].message.strip()}) is nobody's")
    return intents


def _check_done(
    intent: dict[str, Any],
    outcome: dict[str, Any],
    found: list[Commit],
    ids: set[str],
    findings: Findings,
) -> None:
    marker, operation = intent["marker"], intent["operation"]
    promised = outcome["commits"]
    what = f"{marker} ({operation} {intent['profile']})"
    if operation == "git":
        # Git tells an abbreviation.
        if len(found) != 1 or not promised or not found[0].id.startswith(promised[0]):
            findings.say(f"{what} was acknowledged by git as {promised}, history has {found}")
        return
    for commit in promised:
        if commit not in ids:
            findings.say(f"{what} was acknowledged as {commit[:12]}, which is not in history")
    if sorted(promised) != sorted(commit.id for commit in found):
        findings.say(f"{what} was acknowledged as {promised}, history has {found}")
    need = {"create": 1, "delete": 1, "undo": 1, "list": 0}.get(operation)
    if operation in ("activate", "select", "deactivate"):
        if len(promised) > 1:
            findings.say(f"{what} made {len(promised)} commits")
        if operation == "activate" and not promised:
            findings.say(f"{what} made no commit")
    elif len(promised) != need:
        findings.say(f"{what} made {len(promised)} commits")


def _check_commit(intent: dict[str, Any], commit: Commit, findings: Findings) -> None:
    operation = intent["operation"]
    if operation == "git":
        return
    what = f"{intent['marker']} ({operation} {intent['profile']}): commit {commit.id[:12]}"
    if commit.operation != _OPERATION.get(operation, operation):
        findings.say(f"{what} says {commit.operation}")
    if intent["profile"] and intent["profile"] not in commit.trailers.get("Tweakio-Profile", ()):
        findings.say(f"{what} does not name the profile")
    author = f"{intent['by']} <{intent['by']}@campaign.example>"
    if commit.author != author:
        findings.say(f"{what} is by {commit.author}")


# Holders


def _check_holders(events: list[dict[str, Any]], campaign: Campaign, findings: Findings) -> None:
    """No two spans of one profile, nor of one lock file, overlap."""
    for begin, end in (("hold", "drop"), ("lock", "unlock")):
        spans: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
        is_open: dict[tuple[str, str], int] = {}
        last: dict[str, int] = {}
        for event in events:
            who = event["by"]
            last[who] = event["at"]
            if event["event"] == begin:
                is_open[who, event["key"]] = event["at"]
            elif event["event"] == end:
                began = is_open.pop((who, event["key"]))
                spans[event["key"]].append((began, event["at"], who))
        for (who, key), began in is_open.items():
            # It held it until it was killed; when precisely that took effect nobody knows.
            if who not in campaign.killed:
                findings.say(f"{who} never let go of {key}")
            spans[key].append((began, max(began, campaign.killed.get(who, last[who])), who))
        for key, found in spans.items():
            found.sort()
            for first, second in itertools.pairwise(found):
                if second[0] < first[1]:
                    overlap = (min(first[1], second[1]) - second[0]) / 1e6
                    findings.say(
                        f"{begin}: {key} had {first[2]} and {second[2]} for {overlap:.3f} ms"
                    )
        total = sum(map(len, spans.values()))
        if begin == "hold":
            findings.holds = total
        else:
            findings.locks = total


# Replay


def _replay(
    profiles: Path,
    history: list[Commit],
    intents: dict[str, dict[str, Any]],
    findings: Findings,
) -> dict[str, Metadata]:
    """Apply every commit to a model of the profiles and compare each with its tree."""
    contents = _contents(profiles, history)
    states: dict[str, dict[str, Metadata]] = {}
    parents: dict[str, str] = {}
    model: dict[str, Metadata] = {}
    previous = ""
    for commit in history:
        if commit.parents != ([previous] if previous else []):
            findings.say(f"commit {commit.id[:12]} has the parents {commit.parents}")
        parents[commit.id] = previous
        named = set(commit.trailers.get("Tweakio-Profile", ()))
        touched = {path.split("/")[0] for path in commit.paths if "/" in path}
        if extra := touched - named:
            findings.say(f"commit {commit.id[:12]} changes {sorted(extra)} without naming them")
        actual = {name: contents[commit.id].get(name) for name in touched}
        expected = dict(model)
        problem = _apply(expected, commit, actual, named, intents, states, parents)
        if problem:
            findings.say(f"commit {commit.id[:12]} ({commit.message.splitlines()[0]}): {problem}")
        for name in touched | named:
            there = contents[commit.id].get(name) if name in touched else model.get(name)
            if expected.get(name) != there:
                findings.say(
                    f"commit {commit.id[:12]} ({commit.message.splitlines()[0]}) has {name} as "
                    f"{there}, the model as {expected.get(name)}"
                )
            if there is None:
                expected.pop(name, None)
            else:
                expected[name] = there
        model = expected
        states[commit.id] = model
        previous = commit.id
    return model


def _apply(
    model: dict[str, Metadata],
    commit: Commit,
    actual: dict[str, Metadata | None],
    named: set[str],
    intents: dict[str, dict[str, Any]],
    states: dict[str, dict[str, Metadata]],
    parents: dict[str, str],
) -> str:
    """One step of the model; what is wrong with the step, if anything."""
    operation = commit.operation
    intent = intents.get(commit.marker, {})
    if operation == "git":
        return "plain git changed something" if actual else ""
    if operation == "undo":
        target = commit.trailers["Tweakio-Undoes"][0]
        if target not in states:
            return "undoes what is not in history"
        before, after = states.get(parents[target], {}), states[target]
        _undo(model, before, after, actual)
        for name in named:
            # Whose holder died; every change writes that down.
            if before.get(name) == after.get(name) and "lock_pid" in model.get(name, {}):
                _set(model, name, status="inactive", lock_pid=None)
        return ""
    if operation not in ("init", "create", "activate", "deactivate", "delete"):
        return f"unexpected operation {operation}"
    subject = {intent["profile"]} if intent.get("profile") else named if not intent else set()
    if operation == "deactivate" and not subject:
        subject = set(sorted(named)[:1])
    problem = ""
    for name in subject:
        problem = problem or _APPLY[operation](model, name, actual.get(name) or {}, intent)
    for name in named - subject:
        # Whom a switch leaves, and whose holder died.
        if model.get(name, {}).get("status") != "active":
            problem = problem or f"deactivates {name}, which is {model.get(name)}"
        else:
            _set(model, name, status="inactive", lock_pid=None)
    return problem


def _set(model: dict[str, Metadata], name: str, **changes: Any) -> None:
    merged = {**model[name], **changes}
    model[name] = {key: value for key, value in merged.items() if value is not None}


def _init(model: dict[str, Metadata], name: str, there: Metadata, intent: dict[str, Any]) -> str:
    return "" if not model else "is not the first"


def _create(model: dict[str, Metadata], name: str, there: Metadata, intent: dict[str, Any]) -> str:
    if name in model:
        return f"creates {name}, which exists"
    model[name] = {
        "profile_id": name,
        "platform": "custom",
        "created_at": there.get("created_at"),
        "last_used": there.get("created_at"),
        "status": "inactive",
        "tags": [intent["by"]] if intent else [],
        "note": intent.get("note", "first"),
        "schema_version": there.get("schema_version"),
    }
    return ""


def _activate(
    model: dict[str, Metadata], name: str, there: Metadata, intent: dict[str, Any]
) -> str:
    if name not in model:
        return f"activates {name}, which does not exist"
    pid = intent["pid"] if intent["operation"] == "activate" else None
    _set(model, name, status="active", lock_pid=pid, last_used=there.get("last_used"))
    return ""


def _deactivate(
    model: dict[str, Metadata], name: str, there: Metadata, intent: dict[str, Any]
) -> str:
    if model.get(name, {}).get("status") != "active":
        return f"deactivates {name}, which is {model.get(name)}"
    if model[name].get("lock_pid") not in (None, intent["pid"]) and intent["profile"]:
        return f"deactivates {name}, which process {model[name]['lock_pid']} holds"
    _set(model, name, status="inactive", lock_pid=None)
    return ""


def _delete(model: dict[str, Metadata], name: str, there: Metadata, intent: dict[str, Any]) -> str:
    if name not in model:
        return f"deletes {name}, which does not exist"
    found = model.pop(name)
    if found["status"] == "active" and "lock_pid" not in found and not intent["force"]:
        return f"deletes {name}, which is selected, without force"
    return ""


_APPLY = {
    "init": _init,
    "create": _create,
    "activate": _activate,
    "deactivate": _deactivate,
    "delete": _delete,
}


def _undo(
    model: dict[str, Metadata],
    before: dict[str, Metadata],
    after: dict[str, Metadata],
    actual: dict[str, Metadata | None],
) -> None:
    for name in {*before, *after}:
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        if old is None:
            model.pop(name, None)
        elif name not in model:
            model[name] = {key: value for key, value in old.items() if key != "lock_pid"}
        elif new is not None:
            for key in {*old, *new} - {"lock_pid"}:
                if old.get(key) != new.get(key):
                    _set(model, name, **{key: old.get(key)})
            # Kept only while a live process has it, which the model does not know.
            if "lock_pid" not in (actual.get(name) or {}):
                _set(model, name, lock_pid=None)


def _contents(profiles: Path, history: list[Commit]) -> dict[str, dict[str, Metadata]]:
    """The metadata that each commit changed, as its tree has it."""
    wanted = [
        (commit.id, name)
        for commit in history
        for name in sorted({path.split("/")[0] for path in commit.paths if "/" in path})
    ]
    ask = "".join(f"{commit}:{name}/metadata.json\n" for commit, name in wanted)
    answer = _git(profiles, "cat-file", "--batch", data=ask.encode())
    found: dict[str, dict[str, Metadata]] = defaultdict(dict)
    position = 0
    for commit, name in wanted:
        stop = answer.index(b"\n", position)
        header = answer[position:stop].split(b" ")
        position = stop + 1
        if header[-1] == b"missing":
            continue
        size = int(header[-1])
        found[commit][name] = json.loads(answer[position : position + size])
        position += size + 1
    return found


# The final state


def _check_state(campaign: Campaign, model: dict[str, Metadata], findings: Findings) -> None:
    before = _git(campaign.home / "profiles", "rev-parse", "HEAD")
    with ProfileManager(campaign.home) as manager:
        listed = {
            profile.id: (profile.status, profile.note, profile.in_use, profile.tags)
            for profile in manager.list_profiles()
        }
    if _git(campaign.home / "profiles", "rev-parse", "HEAD") != before:
        findings.say("listing made a commit")
    expected = {
        name: (
            # A holder that was killed: the next change writes it down, the list knows it now.
            "inactive" if "lock_pid" in value else value["status"],
            value["note"],
            False,
            tuple(value["tags"]),
        )
        for name, value in model.items()
    }
    if listed != expected:
        difference = {
            name: (listed.get(name), expected.get(name))
            for name in {*listed, *expected}
            if listed.get(name) != expected.get(name)
        }
        findings.say(f"listed and expected differ: {difference}")
    rescued = campaign.home / "profiles" / ".git" / "tweakio" / "rescued"
    for path in sorted(rescued.iterdir()) if rescued.is_dir() else []:
        found = {
            file.relative_to(path).as_posix(): file.read_text("utf-8", "replace")[:600]
            for file in sorted(path.rglob("*.json"))
        }
        findings.say(f"rescued although nobody wrote into the home: {path.name} {found}")
    with ProfileManager(campaign.home) as manager:
        # The next change also sweeps what killed processes were building.
        manager.create_profile("After", "custom")
        manager.delete_profile("After", purge=True)
    try:
        check(campaign.home, permissions=False)
    except AssertionError as error:
        findings.say(str(error))
