"""The short form of the fault injection, other points in each run: every eighth kill of what people
do most and one of each other fault; of other operations three points of any fault. The long one is
``python -m tests.crash --all``, and of calls that read ``python -m tests.crash --reads only``.

It runs in a process of its own, which forks for every point: the one that runs pytest has
threads, and what it has open and imported is not what a command has.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash.harness import unavailable
from tests.crash.operations import OPERATIONS

pytestmark = [
    pytest.mark.no_cover,  # its children end at once, and what they ran is in no record
    pytest.mark.slow,
    pytest.mark.skipif(bool(unavailable()), reason=unavailable() or "available"),
]
ROOT = Path(__file__).resolve().parents[2]
SEED = os.environ.get("CRASH_SEED")
# What people do most, and what takes most with it.
MOST = {"create", "activate-switch", "delete", "undo-delete", "recover-hard", "migrate-home"}


# Thousands of children that are killed leave no coverage behind, but measuring them costs a
# third of the time.
UNMEASURED = {name: value for name, value in os.environ.items() if "COV" not in name}


def crash(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the harness's command line."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash", "--jobs", "1", *arguments],
        cwd=ROOT,
        env=UNMEASURED,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    print(done.stdout + done.stderr)
    return done


def campaign(*arguments: str) -> None:
    seed = SEED or str(random.SystemRandom().randrange(1 << 31))
    done = crash(*arguments, "--seed", seed)
    assert done.returncode == 0, f"seed {seed}\n{done.stdout[-6000:]}{done.stderr[-2000:]}"


@pytest.mark.parametrize("operation", sorted(MOST))
def test_a_fault_in_what_people_do_most(operation: str) -> None:
    campaign("--operation", operation, "--sample", "1", "--thin", "8", "--reads", "too")


# Several in one process: a second of each goes into its start.
OTHERS = [name for name, row in OPERATIONS.items() if not row.rare and name not in MOST]
BATCHES = [OTHERS[start : start + 6] for start in range(0, len(OTHERS), 6)]


@pytest.mark.parametrize("operations", BATCHES, ids=" ".join)
def test_every_fault_leaves_the_old_or_the_new_state(operations: list[str]) -> None:
    named = [word for name in operations for word in ("--operation", name)]
    campaign(*named, "--sample", "1", "--thin", "24", "--few", "3", "--reads", "too")


# Each takes away one thing that makes the store safe; the harness has to notice.
BROKEN = {
    "no move back": ("delete", "enospc", "tweakio.store.checkout.move_back = lambda *_: None"),
    "an index that is not taken back": (
        "update",
        "kill",
        """\
from tweakio.store.checkout import Checkout, Journal, move_back
def take_back(self, journal):
    move_back(self._layout, journal.moves)
    Journal.drop(self._layout)
Checkout.take_back = take_back""",
    ),
    "no journal": (
        "select-switch",
        "kill",
        # That of "init" is left, without which there is no home to break.
        """\
read = tweakio.store.journal.Journal.read.__func__
init = lambda found: found if found and set(found.old) == {'0'} else None
tweakio.store.journal.Journal.read = classmethod(lambda *a: init(read(*a)))""",
    ),
    "no moves": (
        "delete",
        "kill",
        "tweakio.store.checkout.move_back = lambda *_: None",
    ),
    "half a purge": (
        "trash-purge",
        "kill",
        (
            "tweakio.store.attic.Attic.discard = lambda self, name: "
            "tweakio.durable.remove_tree(self.root / name)"
        ),
    ),
    "a bare error": (
        "create",
        "eio",
        (
            "tweakio.store.repository._as_storage_error = lambda error, doing: error\n"
            "tweakio.errors.system_error = lambda *_, **__: None"
        ),
    ),
    "a file that cannot be read is damaged": (
        "update",
        "read-eacces",
        "tweakio.store.worktree.is_of_the_moment = lambda _: False",
    ),
    "a ref that cannot be read is damaged": (
        "select-switch",
        "read-eio-on",
        "tweakio.store.refs.is_of_the_moment = lambda _: False",
    ),
    "a pack that cannot be read has nothing": (
        "show",
        "read-eio-on",
        """\
import tweakio.store.elsewhere
from tweakio.store.objects import ObjectReader
# It cannot read either, and would notice.
tweakio.store.elsewhere.refuse_elsewhere = lambda *_: None
search = ObjectReader._search
def deaf(self, name):
    try:
        return search(self, name)
    except OSError:
        return None
ObjectReader._search = deaf""",
    ),
    "a snapshot that cannot be read is none": (
        "snapshot-prune",
        "read-estale",
        "tweakio.snapshots.listing.is_of_the_moment = lambda _: False",
    ),
    "a lock that is left": (
        "update",
        "kill",
        (
            "tweakio.store.refs.GitLocks.remove_own_dead = lambda *_: None; "
            "tweakio.store.refs.GitLocks.is_ours = lambda *_: False; "
            "tweakio.store.checkout._GIT_LOCK_WAIT = 0.0"
        ),
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_the_harness_notices_a_library_that_is_broken(what: str) -> None:
    operation, fault, statement = BROKEN[what]
    arguments = ["--operation", operation, "--fault", fault, "--jobs", "1", "--seed", "1"]
    # One index that is not taken back, and one file that is read, show at few calls.
    few = "index" in what or "read" in what
    arguments += ["--sample", "60" if few else "12", "--thin", "1" if few else "4"]
    script = (
        "import sys\n"
        "from tests.crash.harness import preload\n"
        "preload()\n"
        "import tweakio.store.repository, tweakio.store.checkout, tweakio.store.attic\n"
        "import tweakio.store.worktree, tweakio.store.refs, tweakio.snapshots.listing\n"
        f"{statement}\n"
        f"sys.argv = ['crash', *{arguments!r}, '--violations', '2']\n"
        "from tests.crash.__main__ import main\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=UNMEASURED,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    print(done.stdout + done.stderr)
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr[-3000:]
    assert "again: python -m tests.crash" in done.stdout
