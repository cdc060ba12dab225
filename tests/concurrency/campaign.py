"""The parent of all: prepares a home, forks the workers, and git loops beside them."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tests.concurrency.journal import Journal
from tests.concurrency.worker import Worker
from tweakio import ProfileManager, identity

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Campaign", "preload", "sweep_faketime"]

# How long after the end the slowest may take: a worker may be in a wait of 30 s.
_PATIENCE = 90.0
_RECORD = "campaign.json"
_COMMITTED = re.compile(rb"^\[\S+(?: \([^)]*\))? ([0-9a-f]{4,40})\] (\S+)", re.MULTILINE)


@lru_cache
def _libfaketime() -> str | None:
    """Debian's, which gives a whole process another time; None where it is not installed."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    return str(found[0]) if found else None


def sweep_faketime() -> None:
    """Remove what libfaketime left of processes that are no more, killed ones above all.

    A new process with such a number that asks for another time would refuse to start.
    """
    for path in Path("/dev/shm").glob("*faketime_s*_*"):
        number = path.name.rpartition("_")[2]
        if number.isdigit() and not psutil.pid_exists(int(number)):
            with contextlib.suppress(OSError):  # somebody else's, or swept meanwhile
                path.unlink()


def preload() -> None:
    """Import what the workers will need, so that a fork is all that a worker costs."""
    import dulwich.config
    import dulwich.object_store
    import dulwich.pack

    import tweakio.directories
    import tweakio.doctor
    import tweakio.history
    import tweakio.migration
    import tweakio.platforms.builtin
    import tweakio.recovery
    import tweakio.store.packs
    import tweakio.trash

    assert all((dulwich, psutil, tweakio))


@dataclass
class Campaign:
    """One run.

    Attributes:
        root: an empty directory for everything.
        seconds: how long the workers work.
        processes: how many there are at any time.
        profiles: how many names they use.
        seed: of all that is random here; the scheduler is not.
        kill: seconds between two killings of a worker, on average; 0 for none. Killed ones are
            replaced.
        prune: whether git gc runs with ``--prune=now``, which git itself calls unsafe.
        no_verify: whether most git commits leave out our hook.
        elapsed: how long it took, the end included.
        killed: the workers that were killed, with when they still were alive.
        reaped: when they surely were not any more.
        shifted: how many workers had another time in their whole process.
    """

    root: Path
    seconds: float
    processes: int
    profiles: int
    seed: int
    kill: float = 0.0
    prune: bool = False
    no_verify: bool = False
    elapsed: float = 0.0
    killed: dict[str, int] = field(default_factory=dict)
    reaped: dict[str, int] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)
    shifted: int = 0
    _children: dict[int, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def journals(self) -> Path:
        return self.root / "journals"

    @property
    def names(self) -> list[str]:
        return [f"p{number:02}" for number in range(self.profiles)]

    def work(self) -> None:
        """Run it; what it left is for ``verify``."""
        for name in ("journals", "sentinels"):
            (self.root / name).mkdir()
        preload()
        self._environment()
        journal = Journal(self.journals, "first")
        journal.say(
            "intent", marker="first", operation="create", profile="", pid=os.getpid(),
            names=self.names[::2], note="first",
        )  # fmt: skip
        with ProfileManager(self.home, command="first") as manager:
            manager.create_profiles(self.names[::2], "custom", note="first", tags=["first"])
            journal.say("done", marker="first", commits=[manager.history(limit=1)[0].revision])
        chance = random.Random(self.seed)
        began = time.monotonic()
        until = began + self.seconds
        for number in range(self.processes):
            self._start(f"w{number:03}", until)
        loops = [
            self._fork("git-commit", lambda: self._commit_loop(until)),
            self._fork("git-gc", lambda: self._gc_loop(until)),
        ]
        number = self.processes
        while time.monotonic() < until:
            time.sleep(chance.uniform(0.2, 1.8) * self.kill if self.kill else 0.1)
            self._reap()
            if self.kill and (targets := [pid for pid in self._children if pid not in loops]):
                pid = chance.choice(sorted(targets))
                self.killed[self._children[pid]] = time.monotonic_ns()
                name = self._children[pid]
                os.kill(pid, signal.SIGKILL)
                self._reap(pid)
                self.reaped[name] = time.monotonic_ns()
                self._start(f"w{number:03}", until)
                number += 1
        self._wait_for_all(until + _PATIENCE)
        sweep_faketime()
        self.elapsed = time.monotonic() - began
        kept = {**vars(self), "root": None, "_children": {}}
        (self.root / _RECORD).write_text(json.dumps(kept))

    @classmethod
    def kept(cls, root: Path) -> Campaign:
        """One that ran before and was kept, to be looked at again."""
        found = cls(**{**json.loads((root / _RECORD).read_text()), "root": root})
        found._environment()
        return found

    def _environment(self) -> None:
        for name in [name for name in os.environ if name.startswith(("GIT_", "TWEAKIO_"))]:
            del os.environ[name]
        for role in ("AUTHOR", "COMMITTER"):
            os.environ[f"GIT_{role}_NAME"] = "campaign"
            os.environ[f"GIT_{role}_EMAIL"] = "campaign@example.com"
        os.environ.update(
            GIT_CONFIG_NOSYSTEM="1", GIT_CONFIG_GLOBAL=os.devnull, LC_ALL="C", HOME=str(self.root)
        )
        identity.author.cache_clear()

    def _start(self, name: str, until: float) -> None:
        seed = f"{self.seed} {name}"
        number = int(name[1:])
        library = _libfaketime() if number % 4 == 3 else None
        if library is None:
            worker = Worker
            self._fork(
                name, lambda: worker(self.home, self.root, name, self.names, seed).main(until)
            )
            return
        self.shifted += 1
        sweep_faketime()
        file = self.root / f"{name}.time"
        file.write_text(f"{random.Random(seed).choice((-1, 1)) * 86400 * (1 + number):+d}\n")
        arguments = (self.home, self.root, name, " ".join(self.names), seed, until)
        environment = {
            **os.environ,
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_CACHE_DURATION": "1",
            # A step of the wall clock changes neither this clock nor the times of files.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }
        command = [sys.executable, "-m", "tests.concurrency.worker", *map(str, arguments)]
        self._fork(name, lambda: os.execve(sys.executable, command, environment))

    def _fork(self, name: str, work: Callable[[], None]) -> int:
        pid = os.fork()
        if pid:
            self._children[pid] = name
            return pid
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            Journal(self.journals, f"{name}-broken").say(
                "violation", text=f"{name} broke: {traceback.format_exc()[-3000:]}"
            )
        finally:
            os._exit(status)

    def _reap(self, pid: int = -1) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                found, status = os.waitpid(pid, 0 if pid > 0 else os.WNOHANG)
                if not found:
                    return
                name = self._children.pop(found, "?")
                if os.WIFSIGNALED(status):
                    self.ended[name] = f"signal {os.WTERMSIG(status)}"
                elif code := os.WEXITSTATUS(status):
                    self.ended[name] = f"exit {code}"
                if pid > 0:
                    return

    def _wait_for_all(self, deadline: float) -> None:
        while self._children and time.monotonic() < deadline:
            self._reap()
            time.sleep(0.02)
        for pid, name in list(self._children.items()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGUSR1)  # faulthandler writes where it stands
                time.sleep(0.5)
                os.kill(pid, signal.SIGKILL)
            self._reap(pid)
            stack = self.root / f"{name}.stack"
            text = stack.read_text() if stack.exists() else ""
            Journal(self.journals, f"{name}-hung").say("violation", text=f"{name} hung: {text}")

    # Plain git

    def _git(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["git", "-C", str(self.home / "profiles"), *arguments],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )

    def _commit_loop(self, until: float) -> None:
        journal = Journal(self.journals, "git-commit")
        number = 0
        while time.monotonic() < until:
            number += 1
            marker = f"git-{number}"
            # With our pre-commit hook HEAD has often moved on before git is done.
            quick = ("--no-verify",) if self.no_verify and number % 8 else ()
            journal.say("intent", marker=marker, operation="git", profile="", pid=0)
            done = self._git("commit", "--allow-empty", *quick, "-m", marker)
            if done.returncode == 0:
                found = _COMMITTED.search(done.stdout)
                journal.say("done", marker=marker, commits=[found[1].decode()] if found else [])
            else:
                text = done.stderr.decode("utf-8", "replace").strip()
                journal.say("refused", marker=marker, error=_git_error(text), text=text[-500:])
            time.sleep(0.2)
        journal.say("end")

    def _gc_loop(self, until: float) -> None:
        journal = Journal(self.journals, "git-gc")
        # Git drops reflog entries whose clock was 90 days behind, and the check wants all.
        keep = ("-c", "gc.reflogExpire=never", "-c", "gc.reflogExpireUnreachable=never")
        arguments = (*keep, "gc", "--quiet", *(("--prune=now",) if self.prune else ()))
        chance = random.Random(f"{self.seed} gc")
        while time.monotonic() < until:
            done = self._git(*arguments)
            text = done.stderr.decode("utf-8", "replace").strip()
            if done.returncode == 0:
                journal.say("gc")
            else:
                journal.say("gc-failed", error=_git_error(text), text=text[-500:])
            time.sleep(chance.uniform(0.5, 3.0))
        journal.say("end")


def _git_error(text: str) -> str:
    """Which kind of failure git reports, so that they can be counted."""
    for pattern in ("index.lock", "cannot lock ref", "unable to write new index", "hook"):
        if pattern in text:
            return f"git: {pattern}"
    lines = [line for line in text.splitlines() if line.startswith(("fatal", "error"))]
    return f"git: {(lines or ['nothing said'])[0][:60]}"
