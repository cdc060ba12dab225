"""The short form of the power cuts; ``python -m tests.crash --power ext4`` is the long one."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys

import pytest

from tests.crash import disk
from tests.crash.harness import scratch
from tests.crash.test_faults import ROOT, SEED, UNMEASURED, crash


def refused() -> str:
    if shutil.which("unshare") is None:
        return "needs unshare, so that no mount is left behind"
    code = (
        "import sys\nfrom pathlib import Path\nfrom tests.crash import disk\n"
        "print(disk.unavailable('ext4', Path(sys.argv[1])))\n"
    )
    with scratch() as directory:
        done = subprocess.run(
            ["unshare", "--mount", sys.executable, "-c", code, directory],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
    return done.stdout.strip() or done.stderr.strip()


REASON = refused()
pytestmark = [
    pytest.mark.no_cover,  # its children end at once, and what they ran is in no record
    pytest.mark.slow,
    pytest.mark.skipif(bool(REASON), reason=f"no power cuts here: {REASON}"),
]


@pytest.mark.parametrize("operation", ["init", "create", "activate-switch", "delete"])
def test_power_cuts_leave_the_old_or_the_new_state(operation: str) -> None:
    seed = SEED or str(random.SystemRandom().randrange(1 << 31))
    done = crash("--power", "ext4", "--operation", operation, "--sample", "3", "--seed", seed)
    assert done.returncode == 0, f"seed {seed}\n{done.stdout[-6000:]}{done.stderr[-2000:]}"


def test_configuration_of_a_clone_is_never_half() -> None:
    """Appending to it left zeros behind, at one call and only if somebody else synced."""
    done = crash(
        "--power", "ext4", "--operation", "open-clone", "--fault", "power-synced", "--at", "/config"
    )
    assert done.returncode == 0, f"{done.stdout[-6000:]}{done.stderr[-2000:]}"


def test_missing_syncs_are_noticed() -> None:
    script = (
        "import os, sys\n"
        "from tests.crash import disk\n"
        "os.fsync = lambda _: None\n"
        "sys.argv = ['crash', '--power', 'ext4', '--fault', 'power-synced', '--jobs', '1',\n"
        "            '--operation', 'select-switch', '--sample', '12', '--seed', '1']\n"
        "from tests.crash.__main__ import main\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", script],
        cwd=ROOT, env={**UNMEASURED, disk.OWN_MOUNTS: "1"}, capture_output=True, text=True,
        timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr[-3000:]
    assert "again: python -m tests.crash --power ext4" in done.stdout
