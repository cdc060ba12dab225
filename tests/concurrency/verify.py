"""Whether a campaign ended as it must: history, journals and the final state agree."""

from __future__ import annotations

import json
import math
import subprocess
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.concurrency.journal import read_journals
from tests.concurrency.linear import Commit, Known, Operation, Span
from tests.concurrency.linear import check as check_history
from tests.invariants import check
from tests.model import Holder
from tweakio import ProfileManager
from tweakio.errors import TweakioError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.concurrency.campaign import Campaign
    from tests.model import Metadata

__all__ = ["Findings", "verify"]

_GC_HARMLESS = (
    "cannot lock ref",
    "gc is already running",
    "Unable to create",
    # It met a pack that we merged into another meanwhile; it then leaves everything.
    "unable to add recent objects",
    "unable to mark recent objects",
)


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
    journals = _Journals(campaign, findings)
    for events in read_journals(campaign.journals):
        journals.read(events)
    findings.holds, findings.locks = len(journals.known.held), len(journals.known.locked)
    _check_ends(campaign, findings)
    try:
        # Before our own next change, whose commit would stand on top.
        history, authors = _history(campaign.home / "profiles", findings)
        findings.commits = len(history)
        _check_promises(journals.operations, history, authors, campaign, findings)
        violations, profiles = check_history(history, journals.operations, journals.known)
        findings.violations += violations
        _check_state(campaign, profiles, journals.known, findings)
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode("utf-8", "replace").strip()
        findings.say(f"what is left cannot be read: git {error.cmd[3]}: {said}")
    except (TweakioError, ValueError) as error:
        findings.say(f"what is left cannot be read: {error}")
    return findings


class _Journals:
    """What the journals tell."""

    def __init__(self, campaign: Campaign, findings: Findings) -> None:
        self.campaign = campaign
        self.findings = findings
        self.operations: dict[str, Operation] = {}
        self.known = Known()
        self._spans = {
            "hold": self.known.held,
            "lock": self.known.locked,
            "taking": self.known.maybe,
            "damage": self.known.damage,
        }

    def read(self, events: Iterable[dict[str, Any]]) -> None:
        """Those of one process."""
        open_spans: dict[tuple[str, str], dict[str, Any]] = {}
        cut_off: Operation | None = None
        who, last = "", 0
        for event in events:
            who, last, kind = event["by"], event["at"], event["event"]
            if kind in self._spans:
                open_spans[kind, event["key"]] = event
            elif kind in _ENDS:
                begin = open_spans.pop((_ENDS[kind], event["key"]), None)
                if begin is not None:
                    self._span(begin, last)
            elif kind == "intent":
                cut_off = self.operations[event["marker"]] = _invocation(event)
            elif kind in ("done", "refused"):
                _answer(self.operations[event["marker"]], event)
                cut_off = None
            else:
                self._other(event)
        # Held until it was killed: surely when that began, perhaps until it was gone.
        killed, gone = (when.get(who) for when in (self.campaign.killed, self.campaign.reaped))
        if cut_off is not None and gone is not None:
            cut_off.ended = gone
        for (kind, key), begin in open_spans.items():
            if kind in ("hold", "lock"):
                if killed is None:
                    self.findings.say(f"{who} never let go of {key}")
                self._span(begin, max(begin["at"], killed or last))
            else:
                self._span(begin, math.inf if kind == "damage" else gone or last)

    def _span(self, begin: dict[str, Any], ended: float) -> None:
        by = Holder(begin["by"], begin["pid"])
        self._spans[begin["event"]].add(begin["key"], Span(begin["at"], ended, by))

    def _other(self, event: dict[str, Any]) -> None:
        findings, kind = self.findings, event["event"]
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


_ENDS = {"drop": "hold", "unlock": "lock", "let go": "taking", "mended": "damage"}
_INTENT = ("event", "by", "at", "marker", "operation", "profile", "pid")


def _invocation(event: dict[str, Any]) -> Operation:
    return Operation(
        event["marker"],
        Holder(event["by"], event["pid"]),
        event["operation"],
        event["profile"],
        event["at"],
        {key: value for key, value in event.items() if key not in _INTENT},
    )


def _answer(operation: Operation, event: dict[str, Any]) -> None:
    operation.ended, operation.outcome = event["at"], event["event"]
    operation.commits = event.get("commits", [])
    operation.error, operation.text = event.get("error", ""), event.get("text", "")
    operation.answer = event.get("answer") or ""


def _git(directory: Path, *arguments: str, data: bytes = b"") -> bytes:
    return subprocess.run(
        ["git", "-C", str(directory), *arguments], input=data, capture_output=True, check=True
    ).stdout


def _history(profiles: Path, findings: Findings) -> tuple[list[Commit], dict[str, str]]:
    """The commits, oldest first, and the author of each."""
    raw = _git(
        profiles, "log", "--first-parent", "--reverse", "--root", "--name-only", "--no-renames",
        "-z", "--format=%x01%H%x02%P%x02%an <%ae>%x02%B%x03",
    )  # fmt: skip
    history, authors, wanted, previous = [], {}, [], ""
    for record in raw.split(b"\x01")[1:]:
        header, _, names = record.decode("utf-8", "replace").partition("\x03")
        commit_id, parents, authors[commit_id], message = header.split("\x02")
        if parents != previous:
            findings.say(f"commit {commit_id[:12]} has the parents {parents}")
        previous = commit_id
        trailers = defaultdict(list)
        for line in message.rstrip("\n").rsplit("\n\n", 1)[-1].split("\n"):
            key, separator, value = line.partition(": ")
            if separator and key.startswith("Tweakio-"):
                trailers[key].append(value)
        operation = trailers.get("Tweakio-Op", ["git"])[0]
        marker = trailers["Tweakio-Command"] if operation != "git" else [message.strip()]
        targets = trailers["Tweakio-Undoes"] + trailers["Tweakio-Redoes"]
        named = frozenset(trailers["Tweakio-Profile"])
        history.append(Commit(commit_id, operation, *marker[:1] or [""], named, {}, *targets[:1]))
        touched = {path.strip("\n").split("/")[0] for path in names.split("\0") if "/" in path}
        wanted += [(history[-1], name) for name in sorted(touched)]
    _read_contents(profiles, wanted)
    return history, authors


def _read_contents(profiles: Path, wanted: list[tuple[Commit, str]]) -> None:
    """The metadata that each commit changed, as its tree has it."""
    ask = "".join(f"{commit.id}:{name}/metadata.json\n" for commit, name in wanted)
    answer = _git(profiles, "cat-file", "--batch", data=ask.encode())
    position = 0
    for commit, name in wanted:
        stop = answer.index(b"\n", position)
        header = answer[position:stop].split(b" ")
        position = stop + 1
        commit.contents[name] = None
        if header[-1] != b"missing":
            size = int(header[-1])
            commit.contents[name] = json.loads(answer[position : position + size])
            position += size + 1


def _check_ends(campaign: Campaign, findings: Findings) -> None:
    for name, how in campaign.ended.items():
        if not (name in campaign.killed and how == "signal 9"):
            findings.say(f"{name} ended with {how}")


# Promises


def _check_promises(
    operations: dict[str, Operation],
    history: list[Commit],
    authors: dict[str, str],
    campaign: Campaign,
    findings: Findings,
) -> None:
    """Every acknowledged operation is in history as it was acknowledged, no refused one is."""
    by_marker: dict[str, list[str]] = defaultdict(list)
    for commit in history:
        by_marker[commit.marker].append(commit.id)
    for marker, operation in operations.items():
        found, promised = by_marker.get(marker, []), operation.commits
        what = f"{marker} ({operation.name} {operation.profile})"
        findings.counts[operation.name, operation.outcome] += 1
        if operation.outcome == "cut off":
            if operation.by.name not in campaign.killed:
                findings.say(f"{what} was never answered")
            if len(found) > 1:
                findings.say(f"{what} was cut off and is {len(found)} commits")
        elif operation.outcome == "refused":
            findings.errors[operation.name, operation.error] += 1
            if found:
                findings.say(
                    f"{what} was refused with {operation.error} ({operation.text}) and is in "
                    f"history: {found[0][:12]}"
                )
        elif operation.name == "git":
            # Git tells an abbreviation.
            if len(found) != 1 or not promised or not found[0].startswith(promised[0]):
                findings.say(f"{what} was acknowledged as {promised}, history has {found}")
        elif sorted(promised) != sorted(found):
            findings.say(f"{what} was acknowledged as {promised}, history has {found}")
        elif len(found) > 1:
            findings.say(f"{what} made {len(found)} commits")
        author = f"{operation.by.name} <{operation.by.name}@campaign.example>"
        if operation.name != "git" and operation.by.name != "first":
            for commit_id in found:
                if authors[commit_id] != author:
                    findings.say(f"{what}: commit {commit_id[:12]} is by {authors[commit_id]}")


# The final state


def _check_state(
    campaign: Campaign, model: dict[str, Metadata], known: Known, findings: Findings
) -> None:
    before = _git(campaign.home / "profiles", "rev-parse", "HEAD")
    with ProfileManager(campaign.home) as manager:
        found = manager.list_profiles()
    damaged = {item.id for item in found if item.status == "corrupted"}
    listed = {
        item.id: (item.status, item.note, item.in_use, item.tags)
        for item in found
        if item.id not in damaged
    }
    for name in damaged:
        # Its holder was killed before it could mend what it had spoilt.
        if not known.damage.overlapping(name, math.inf, math.inf):
            findings.say(f"{name} is corrupted at the end, and nobody did that")
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
        if name not in damaged
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
        entry = path / "entry.json"
        if entry.exists() and json.loads(entry.read_bytes())["kind"] == "damaged":
            continue
        files = {
            file.relative_to(path).as_posix(): file.read_text("utf-8", "replace")[:600]
            for file in sorted(path.rglob("*.json"))
        }
        findings.say(f"rescued although nobody wrote into the home: {path.name} {files}")
    with ProfileManager(campaign.home) as manager:
        manager.recover_profiles(sorted(damaged))
        # The next change also sweeps what killed processes were building.
        manager.create_profile("After", "custom")
        manager.delete_profile("After", purge=True)
    try:
        check(campaign.home, permissions=False)
    except AssertionError as error:
        findings.say(str(error))
