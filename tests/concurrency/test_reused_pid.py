"""A process gets the id of one that died holding a profile: provoked in a pid namespace."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tweakio import ProfileManager

# Process 1 of a new namespace. It sees only its own processes, and sets which id comes next.
SCRIPT = """
import json, os, signal, sys
from tweakio import ProfileManager, TweakioError
from tweakio.store.lockfile import read_record
from tweakio.store.processes import is_alive, own_record

home, mode = sys.argv[1:]
with ProfileManager(home) as manager:
    manager.create_profile("x", "custom")
    path = manager.layout.profile("x").lock

def child(work):
    reading, writing = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            os.write(writing, json.dumps(work()).encode())
        except BaseException as error:
            os.write(writing, json.dumps(repr(error)).encode())
        os.kill(os.getpid(), signal.SIGKILL)
    os.close(writing)
    with open(reading) as file:
        said = json.load(file)
    os.waitpid(pid, 0)
    return pid, said

dead, _ = child(lambda: ProfileManager(home).activate_profile("x").lock_pid)
with open("/proc/sys/kernel/ns_last_pid", "w") as file:
    file.write(str(dead - 1))

def successor():
    found = ProfileManager(home)
    record, profile = read_record(path), found.get_profile("x")
    head = found.metadata.load("x")
    said = {
        "head": [head["status"], head.get("lock_pid") == os.getpid()],
        "shown": [profile.status, profile.in_use, profile.lock_pid],
        "record": [record.pid == os.getpid(), is_alive(record), record == own_record()],
    }
    if mode == "activate":
        said["lock_pid"] = found.activate_profile("x", 0).lock_pid == os.getpid()
    elif mode == "deactivate":
        said["deactivated"] = repr(found.deactivate_profile())
    elif mode == "delete":
        found.delete_profile("x")
    else:
        found.create_profile("y", "custom")
    said["history"] = [[c.operation, *c.profiles] for c in found.history(limit=2)]
    return said

print(json.dumps([dead, *child(successor)]))
"""


def in_namespace(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(autouse=True)
def namespace() -> None:
    if shutil.which("unshare") is None:
        pytest.skip("unshare, of util-linux, is not installed")
    done = in_namespace("sh", "-c", "echo 500 > /proc/sys/kernel/ns_last_pid")
    if done.returncode:
        pytest.skip(f"the next process id cannot be set here (as root it can): {done.stderr}")


@pytest.mark.parametrize("mode", ["activate", "deactivate", "delete", "create"])
def test_a_process_with_the_id_of_a_dead_holder(home: Path, mode: str) -> None:
    done = in_namespace(sys.executable, "-c", SCRIPT, str(home), mode)
    assert done.returncode == 0, done.stderr
    dead, pid, said = json.loads(done.stdout)
    assert pid == dead, "the id was not given again"
    assert isinstance(said, dict), said
    # What is written down fits; what is shown does not believe it.
    assert said["head"] == ["active", True]
    assert said["shown"] == ["inactive", False, None]
    assert said["record"] == [True, False, False]
    newest, before = said["history"]
    if mode == "activate":
        # An activation of its own, not the dead one's going on.
        assert said["lock_pid"]
        assert (newest, before) == (["activate", "x"], ["activate", "x"])
    elif mode == "deactivate":
        assert said["deactivated"] == "None"
        assert newest == ["activate", "x"]
    elif mode == "delete":
        assert newest == ["delete", "x"]
    else:
        assert newest == ["create", "x", "y"]
    with ProfileManager(home) as manager:
        statuses = {profile.id: profile.status for profile in manager.list_profiles()}
        assert set(statuses.values()) <= {"inactive"}
