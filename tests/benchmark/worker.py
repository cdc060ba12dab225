"""What is measured in a process of its own; it imports nothing of the tests and times itself.

    python worker.py serve pygit2 REPOSITORY
    python worker.py serve camouchat
    python worker.py once tweakio-list HOME
    python worker.py once camouchat-list

``serve`` answers each line of its input, a JSON list of a word and its values, with one line.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def peak() -> float:
    """The most memory this process had, in MB."""
    try:
        # Of this program alone: getrusage() counts the parent's, which it was forked from.
        with open("/proc/self/status") as file:
            line = next(line for line in file if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    except OSError:
        import resource

        unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def measure(work: Callable[[], object]) -> dict[str, float]:
    gc.disable()
    began = time.perf_counter()
    try:
        work()
        return {"ms": (time.perf_counter() - began) * 1000, "mb": peak()}
    finally:
        gc.enable()


class Pygit2:
    """A commit of files that are in the work tree already, synced by libgit2."""

    def __init__(self, path: str) -> None:
        import pygit2

        pygit2.option(pygit2.enums.Option.ENABLE_FSYNC_GITDIR, True)
        self._repository = pygit2.Repository(path)
        self._author = pygit2.Signature("Benchmark", "benchmark@example.com")

    def commit(self, *paths: str) -> None:
        repository, author = self._repository, self._author
        index = repository.index
        for path in paths:
            index.add(path)
        index.write()
        tree = index.write_tree()
        head = repository.head
        repository.create_commit(head.name, author, author, "x", tree, [head.target])


class Camouchat:
    """Its ProfileManager, which keeps its profiles where XDG_DATA_HOME says."""

    def __init__(self) -> None:
        from camouchat_browser import ProfileManager
        from camouchat_core import Platform

        self._make = ProfileManager
        self._platform = Platform.WHATSAPP
        self._manager: Any = None

    def _opened(self) -> Any:
        if self._manager is None:
            self._manager = self._make()
        return self._manager

    def create(self, profile_id: str) -> None:
        self._opened().create_profile(self._platform, profile_id)

    def fill(self, count: int) -> None:
        for number in range(count):
            self.create(f"profile-{number:05}")

    def delete(self, profile_id: str) -> None:
        manager = self._opened()
        manager.delete_profile(manager.get_profile(self._platform, profile_id))

    def get(self, profile_id: str) -> None:
        self._opened().get_profile(self._platform, profile_id)

    def list(self) -> None:
        manager = self._opened()
        found = [
            manager.get_profile(platform, profile_id)
            for platform, ids in manager.list_profiles().items()
            for profile_id in ids
        ]
        assert found


def tweakio_list(home: str) -> Callable[[], object]:
    from tweakio import ProfileManager

    def work() -> None:
        with ProfileManager(home) as manager:
            assert manager.list_profiles()

    return work


def serve(worker: object, answers: Any) -> None:
    for line in sys.stdin:
        word, *values = json.loads(line)
        answers.write(json.dumps(measure(partial(getattr(worker, word), *values))) + "\n")
        answers.flush()


def main(kind: str, name: str, *arguments: str) -> None:
    # What a library prints must not come between the answers.
    answers = os.fdopen(os.dup(1), "w")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    if kind == "serve":
        serve(Pygit2(*arguments) if name == "pygit2" else Camouchat(), answers)
    else:
        work = tweakio_list(*arguments) if name == "tweakio-list" else Camouchat().list
        answers.write(json.dumps(measure(work)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
