"""Whole operations on homes of which some file was spoiled."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.hostile import homes
from tests.hostile.mutate import SEALS, mutate
from tests.hostile.worker import Worker
from tests.invariants import git, tree_digest

__all__ = ["INTACT", "LEFT", "TARGETS", "Campaign", "Tally", "browser_data"]

_GIT = "profiles/.git"
TARGETS: dict[str, tuple[str, ...]] = {
    "metadata": ("profiles/*/metadata.json", "profiles/*/fingerprint.json"),
    "journal": (f"{_GIT}/tweakio/journal.json",),
    "cache": (f"{_GIT}/tweakio/cache/head",),
    "record": (f"{_GIT}/tweakio/packs.json", f"{_GIT}/tweakio/locks/marker"),
    "locks": ("profiles/*/.lock", f"{_GIT}/tweakio/locks/*.lock", f"{_GIT}/index.lock"),
    "index": (f"{_GIT}/index",),
    "reflog": (f"{_GIT}/logs/HEAD", f"{_GIT}/logs/refs/heads/main"),
    "refs": (f"{_GIT}/HEAD", f"{_GIT}/packed-refs", f"{_GIT}/refs/heads/main"),
    "config": (f"{_GIT}/config",),
    "loose": (f"{_GIT}/objects/[0-9a-f][0-9a-f]/*",),
    "pack": (f"{_GIT}/objects/pack/*.pack",),
    "pack-index": (f"{_GIT}/objects/pack/*.idx",),
    "trash": (f"{_GIT}/tweakio/*/*/entry.json",),
    "ignore": ("profiles/.gitignore", "profiles/.gitattributes"),
    "history": (),
}
_READS: tuple[Any, ...] = (
    "list", "get", "history", "show", "old", "tag", "diff", "trash", "doctor",
    ["profile", "list"], ["profile", "list", "--json"], ["profile", "history"],
    ["profile", "status", "alpha"], ["profile", "trash", "list"], ["repo", "doctor"],
    ["profile", "show", "HEAD"], ["profile", "history", "--json"],
)  # fmt: skip
LEFT = "sorted(found.code for found in manager.doctor().findings if found.severity == 'damage')"
INTACT = "returned []"
# What was lost is lost: HEAD is whole, but an older state can no longer be read.
_GAP = "returned ['old-history-damaged']"
_CHANGES: tuple[Any, ...] = (
    "activate", "deactivate", "create", "set", "delete", "undo", "redo", "restore", "recover",
    "recover-hard", "trash-restore", "gc", "default", "doctor-fix", "undo",
    ["profile", "create", "new", "--platform", "custom"], ["profile", "undo"],
    ["profile", "activate", "beta"], ["profile", "recover", "alpha"], ["repo", "gc"],
)  # fmt: skip


def browser_data(home: Path) -> set[str]:
    """Digests of each browser_profile/ and session.json, wherever in the home it is."""
    found = set()
    for directory, names, files in os.walk(home):
        if "browser_profile" in names:
            path = os.path.join(directory, "browser_profile")
            if not os.path.islink(path):
                found.add(tree_digest(Path(path)))
            names.remove("browser_profile")
        path = os.path.join(directory, "session.json")
        if "session.json" in files and stat.S_ISREG(os.lstat(path).st_mode):
            found.add(hashlib.sha256(Path(path).read_bytes()).hexdigest())
    return found


@dataclass
class Tally:
    """What a campaign did.

    Attributes:
        homes: how many were spoiled.
        steps: how many operations were run on them.
        answers: how often each kind of answer was given.
        failures: seed, target and what was wrong.
        peak: the most memory of a process in KiB.
    """

    homes: int = 0
    steps: int = 0
    answers: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    peak: int = 0


class Campaign:
    """Spoils homes and looks at what operations make of them.

    Args:
        base: an empty directory.
    """

    def __init__(self, base: Path) -> None:
        self._base = base
        (base / "user").mkdir()
        self.worker = Worker(base / "user")
        self.templates = [base / name for name in ("plain", "before", "after")]
        homes.build(self.templates[0])
        for template in self.templates[1:]:
            homes.copy(self.templates[0], template)
            homes.interrupt(template, after=template.name == "after")
        self.tally = Tally()

    def close(self) -> None:
        """End the worker."""
        self.worker.close()

    def run(self, target: str, seed: int) -> list[str]:
        """Spoil one home, use it, mend it, and judge.

        Args:
            target: in ``TARGETS``.
            seed: decides all the rest.

        Returns:
            What was wrong.
        """
        random = Random(f"{target} {seed}")
        home = self._base / f"home-{target}"
        shutil.rmtree(home, ignore_errors=True)
        weights = (1, 3, 3) if target == "journal" else (4, 1, 1)
        homes.copy(random.choices(self.templates, weights)[0], home)
        self._spoil(home, target, random)
        before = browser_data(home)
        steps: list[Any] = random.sample(_READS, 5) + random.sample(_CHANGES, 5)
        random.shuffle(steps)
        if target == "trash":
            # A time of long ago is reason enough to forget an entry.
            steps = [step for step in steps if step not in ("gc", ["repo", "gc"])]
        steps += ["doctor-fix", "list", LEFT]
        answer = self.worker.run(home, steps)
        problems = list(answer["problems"])
        problems += self._judge(home, target, before, answer["said"].get(LEFT, ""))
        self._count(answer)
        if problems:
            self.tally.failures.append(f"{target} {seed}: {problems[0][:1500]}")
        return problems

    def _count(self, answer: dict[str, Any]) -> None:
        self.tally.homes += 1
        self.tally.steps += len(answer["said"])
        self.tally.peak = max(self.tally.peak, answer["peak"])
        for text in answer["said"].values():
            kind = text.split(":")[0] if not text.startswith("returned") else "returned"
            if text[:1].isdigit():
                kind = f"exit {text.split()[0]}"
            self.tally.answers[kind] = self.tally.answers.get(kind, 0) + 1

    @staticmethod
    def _judge(home: Path, target: str, before: set[str], left: str) -> list[str]:
        problems = []
        if lost := before - browser_data(home):
            problems.append(f"{len(lost)} of {len(before)} browser data are gone")
        if left not in (INTACT, _GAP) and target != "history":
            problems.append(f"after doctor --fix: {left}")
        if target in ("config", "history") or left != INTACT:
            return problems  # git cannot read that config, or objects that are gone
        done = git(home / "profiles", "fsck", "--strict", "--no-dangling")
        text = (done.stdout + done.stderr).decode("utf-8", "replace")
        noise = ("notice:", "Checking", "unreachable", "dangling")
        lines = [line for line in text.splitlines() if line and not line.startswith(noise)]
        if done.returncode or lines:
            problems.append(f"git fsck --strict: {done.returncode} {lines[:4]}")
        return problems

    def _spoil(self, home: Path, target: str, random: Random) -> None:
        if target == "history":
            _rewrite_history(home, random)
            return
        files = [path for pattern in TARGETS[target] for path in sorted(home.glob(pattern))]
        if target == "locks":
            files.append(home / "profiles/.git/index.lock")
        chosen = random.sample(files, min(len(files), random.choice((1, 1, 2, 9))))
        contents = [path.read_bytes() for path in files if path.exists()]
        for path in chosen:
            data = path.read_bytes() if path.exists() else b""
            if target == "loose" and random.random() < 0.5:
                data = zlib.compress(mutate(zlib.decompress(data), random, contents))
            else:
                data = mutate(data, random, contents)
            if target in SEALS and random.random() < 0.8:
                data = SEALS[target](data)
            if path.exists():
                path.chmod(0o600)
                path.unlink()
            path.write_bytes(data)


def _rewrite_history(home: Path, random: Random) -> None:
    """A sound object store whose newest commit has what nobody would commit."""
    profiles = home / "profiles"
    store = profiles / ".git/objects"

    def write(kind: str, body: bytes) -> str:
        raw = f"{kind} {len(body)}\0".encode() + body
        name = hashlib.sha1(raw).hexdigest()
        path = store / name[:2] / name[2:]
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            path.write_bytes(zlib.compress(raw))
        return name

    def read(kind: str, name: str) -> bytes:
        return git(profiles, "cat-file", kind, name).stdout

    head = homes.git(profiles, "rev-parse", "HEAD")
    commit = read("commit", head)
    root = read("tree", f"{head}^{{tree}}")
    alpha = read("tree", f"{head}:alpha")
    choice = random.random()
    if choice < 0.3:
        commit = mutate(commit, random, [root])
        new = write("commit", commit)
    else:
        if choice < 0.5:
            metadata = read("blob", f"{head}:alpha/metadata.json")
            blob = write("blob", mutate(metadata, random, [alpha]))
            old = homes.git(profiles, "rev-parse", f"{head}:alpha/metadata.json")
            alpha = alpha.replace(bytes.fromhex(old), bytes.fromhex(blob))
        elif choice < 0.7:
            alpha = mutate(alpha, random, [root, commit])
        tree = write("tree", alpha)
        old = homes.git(profiles, "rev-parse", f"{head}:alpha")
        root = root.replace(bytes.fromhex(old), bytes.fromhex(tree))
        if choice > 0.7:
            name = random.choice(_NAMES)
            mode = random.choice((b"40000", b"100644", b"120000", b"160000"))
            root += mode + b" " + name + b"\0" + bytes.fromhex(random.choice((tree, head)))
        if choice > 0.9:
            root = mutate(root, random, [alpha])
        tree = write("tree", root)
        lines = commit.partition(b"\n")[2]
        new = write("commit", b"tree %b\nparent %b\n" % (tree.encode(), head.encode()) + lines[48:])
    (profiles / ".git/refs/heads/main").write_text(f"{new}\n")


_NAMES = (
    b"..", b".", b".git", b".GIT", b"git~1", b".git\xe2\x80\x8c", b"a/b", b"../x", b"a\\b", b"C:",
    b"a:b", b"ALPHA", b"con", b"\x1b[31m", b"\xff\xfe", b"\xe2\x80\xaex", b"alpha", b"x" * 300,
    b"e\xcc\x81", b" ", b"...", b".gitmodules", b".gitattributes", b"zeta",
)  # fmt: skip


def describe(tally: Tally) -> str:
    """A tally in one line."""
    return json.dumps({"homes": tally.homes, "steps": tally.steps, "peak KiB": tally.peak})
