"""One holder at a time, whatever dies; and a lock file that is something else harms nobody."""

from __future__ import annotations

import fcntl
import gc
import json
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tweakio import ProfileManager
from tweakio.errors import LockTimeoutError, ProfileNotFoundError, StorageError
from tweakio.layout import Layout
from tweakio.models import LockRecord
from tweakio.store import lockfile
from tweakio.store.lockfile import RecordedLock, describe_owner, read_record
from tweakio.store.locks import ProfileLockManager
from tweakio.store.processes import own_record
from tweakio.store.system_lock import is_held, system_lock

from . import child, end, line_of

HOLD = """
from tweakio.store.lockfile import RecordedLock
lock = RecordedLock(Path(sys.argv[1]))
lock.acquire(30)
print("held", flush=True)
sys.stdin.read()
lock.release()
"""


WAIT_IN_LINE = """
from tweakio.errors import LockTimeoutError
from tweakio.store.lockfile import RecordedLock
try:
    RecordedLock(Path(sys.argv[1]), Path(sys.argv[2])).acquire(float(sys.argv[3]))
except LockTimeoutError:
    sys.exit(3)
"""


def until(holds: Callable[[], bool], seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


@pytest.fixture(params=["linux", "win32"])
def platform(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The lock of this process is by flock, or by filelock as on Windows."""
    name = str(request.param)
    monkeypatch.setattr(lockfile, "system_lock", partial(system_lock, platform=name))
    return name


@pytest.fixture
def path(tmp_path: Path, platform: str) -> Path:
    return tmp_path / "x.lock"


@pytest.fixture
def layout(tmp_path: Path, platform: str) -> Layout:
    for name in ("a", "b"):
        (tmp_path / "profiles" / name).mkdir(parents=True)
    return Layout(tmp_path)


def acquired(path: Path) -> RecordedLock:
    lock = RecordedLock(path)
    lock.acquire(0)
    return lock


def wait_until_it_waits(caplog: pytest.LogCaptureFixture) -> None:
    """Return when another thread has tried for a held lock, however late it is scheduled."""
    assert until(lambda: "waiting for" in caplog.text, 30)


# The record


def test_record_while_held_and_after(path: Path) -> None:
    lock = RecordedLock(path)
    assert lock.acquire(0) is None
    assert read_record(path) == own_record()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert is_held(path)
    lock.release()
    lock.release()
    assert path.exists()
    assert path.read_bytes() == b""
    assert read_record(path) is None
    assert not is_held(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"x", b"\nnull\n", b"\n[]\n", b"\n{}\n", b'\n{"pid": "a"}\n', b"\n" + b"9" * 9000],
)
def test_unreadable_records(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert read_record(path) is None
    lock = RecordedLock(path)
    assert lock.acquire(0) is None
    assert read_record(path) == own_record()
    lock.release()


def test_record_of_one_that_died(path: Path) -> None:
    process = child(HOLD, path)
    assert line_of(process) == "held"
    pid = process.pid
    end(process, kill=True)
    assert not is_held(path)
    lock = RecordedLock(path)
    dead = lock.acquire(1)
    assert dead is not None
    assert dead.pid == pid
    assert read_record(path) == own_record()
    lock.release()
    again = RecordedLock(path)
    assert again.acquire(0) is None
    again.release()


def test_shorter_record_over_a_longer(path: Path) -> None:
    path.write_bytes(b"\n" + json.dumps(own_record()._asdict()).encode() + b" " * 500 + b"\n")
    lock = acquired(path)
    assert json.loads(path.read_bytes()) == own_record()._asdict()
    lock.release()


def test_owner_in_words() -> None:
    own = own_record()
    assert describe_owner(None) == "another process"
    assert describe_owner(own) == f"process {own.pid}"
    assert describe_owner(own._replace(host="box")) == f"process {own.pid} on box"


# Waiting


def test_timeout_names_the_owner(path: Path) -> None:
    process = child(HOLD, path)
    assert line_of(process) == "held"
    began = time.monotonic()
    for timeout in (0, -5, 0.2):
        with pytest.raises(LockTimeoutError, match=f"process {process.pid}") as caught:
            RecordedLock(path).acquire(timeout)
        owner = caught.value.details["owner"]
        assert isinstance(owner, LockRecord)
        assert owner.pid == process.pid
    assert 0.2 < time.monotonic() - began < 3
    end(process)
    acquired(path).release()


def test_waiter_gets_it_at_once(path: Path) -> None:
    process = child(HOLD, path)
    assert line_of(process) == "held"
    timer = threading.Timer(0.3, end, [process])
    timer.start()
    lock = RecordedLock(path)
    began = time.monotonic()
    assert lock.acquire(10) is None
    assert 0.2 < time.monotonic() - began < 3
    lock.release()
    timer.join()


def test_those_who_wait_stand_in_line(tmp_path: Path) -> None:
    """Only the first asks for the lock all the time; who has it stands in line no more."""
    path, line = tmp_path / "x.lock", tmp_path / "line"
    first = RecordedLock(path, line)
    first.acquire(0)
    assert not is_held(line)
    waiting = threading.Thread(target=lambda: RecordedLock(path, line).acquire(10), daemon=True)
    waiting.start()
    assert until(lambda: is_held(line))
    assert end(child(WAIT_IN_LINE, path, line, "0.2")) == 3  # behind the thread
    first.release()
    waiting.join(5)
    assert not waiting.is_alive()
    assert not is_held(line)


def test_a_stopped_process_in_line_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, line = tmp_path / "x.lock", tmp_path / "line"
    stopped = child(HOLD, line)
    assert line_of(stopped) == "held"
    stopped.send_signal(signal.SIGSTOP)
    monkeypatch.setattr(lockfile, "_LINE_WAIT", 0.2)
    lock = RecordedLock(path, line)
    lock.acquire(10)
    assert is_held(path)
    lock.release()
    stopped.kill()
    assert end(stopped) == -9


def after(
    real: Callable[..., object],
    fault: Callable[[], object],
    counts: Callable[..., object] = lambda *_: True,
) -> Callable[..., object]:
    """A function that causes a fault after each of its calls that count."""

    def call(*arguments: object) -> object:
        result = real(*arguments)
        if counts(*arguments):
            fault()
        return result

    return call


def interrupt() -> None:
    raise KeyboardInterrupt


def press_ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt also if we run in the background of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_while_the_file_is_locked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = RecordedLock(path)
    # Not what the garbage collector does to other locks meanwhile.
    calls = (
        (fcntl, "flock", lambda _, operation: operation & fcntl.LOCK_EX),
        (os, "fstat", lambda descriptor: descriptor == lock.descriptor),
    )
    for module, name, counts in calls:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(module, name, after(getattr(module, name), press_ctrl_c, counts))
            lock.acquire(0)
        assert not is_held(path)
        assert read_record(path) is None
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    lock.acquire(0)
    lock.release()


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("fault", [press_ctrl_c, interrupt])
def test_ctrl_c_while_the_record_is_emptied(
    path: Path, monkeypatch: pytest.MonkeyPatch, fault: Callable[[], object]
) -> None:
    lock = acquired(path)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "ftruncate", after(os.ftruncate, fault))
        lock.release()
    assert not is_held(path)
    lock.acquire(0)
    lock.release()


def test_same_thread_and_other_thread(path: Path) -> None:
    lock = acquired(path)
    with pytest.raises(LockTimeoutError, match="process"):
        RecordedLock(path).acquire(0)
    failed: list[BaseException] = []

    def other() -> None:
        try:
            RecordedLock(path).acquire(0.05)
        except LockTimeoutError as error:
            failed.append(error)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert len(failed) == 1
    lock.release()


def test_what_is_held_is_not_taken_again(path: Path) -> None:
    lock = acquired(path)
    with pytest.raises(RuntimeError, match=r"x\.lock is held already"):
        lock.acquire(0)
    assert is_held(path)
    lock.release()
    assert not is_held(path)


def test_a_forgotten_object_holds_nothing(path: Path) -> None:
    lock = acquired(path)
    assert is_held(path)
    del lock
    gc.collect()
    assert not is_held(path)


def test_a_copy_of_the_descriptor_does_not_keep_what_was_let_go(path: Path) -> None:
    """As a program has that another thread is just starting."""
    lock = acquired(path)
    copy = os.dup(lock.descriptor)
    lock.release()
    assert not is_held(path)
    os.close(copy)


def test_another_name_of_the_file_is_left_alone(tmp_path: Path) -> None:
    """A backup by hard links; Windows does not remove what is open."""
    path = tmp_path / "x.lock"
    backup = path.with_name("backup")
    backup.write_bytes(b"precious")
    os.link(backup, path)
    lock = acquired(path)
    assert backup.read_bytes() == b"precious"
    assert read_record(path) == own_record()
    assert is_held(path)
    assert not is_held(backup)
    lock.release()


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="no list of open files here")
def test_fork_while_another_thread_takes_a_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child has no copy of what was just opened, or its life would keep the lock."""
    path = tmp_path / "x.lock"
    lock = RecordedLock(path)
    opened = threading.Event()
    real = os.open

    def open_slowly(name: str | Path, *arguments: int) -> int:
        descriptor = real(name, *arguments)
        if name == path and arguments[0] & os.O_RDWR:
            opened.set()
            time.sleep(0.3)
        return descriptor

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", open_slowly)
        thread = threading.Thread(target=lock.acquire, args=[5])
        thread.start()
        assert opened.wait(5)
        child_id = os.fork()
        if child_id == 0:
            names = {os.path.realpath(f"/proc/self/fd/{name}") for name in range(3, 64)}
            os._exit(7 if str(path) in names else 0)
        assert os.waitstatus_to_exitcode(os.waitpid(child_id, 0)[1]) == 0
        thread.join()
    assert is_held(path)
    lock.release()


def test_waiting_for_a_profile_that_is_deleted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The holder moves the directory away: the lock that the waiter gets is of no profile."""
    directory = tmp_path / "p"
    directory.mkdir()
    lock = acquired(directory / ".lock")
    caplog.set_level("INFO", "tweakio")
    found: list[BaseException] = []

    def wait() -> None:
        try:
            RecordedLock(directory / ".lock").acquire(60)
        except OSError as error:
            found.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    wait_until_it_waits(caplog)
    directory.rename(tmp_path / "trash")
    lock.release()
    thread.join(60)
    assert isinstance(found[0], FileNotFoundError)
    assert not directory.exists()


def test_waiting_for_a_profile_that_is_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "tweakio")
    directory = tmp_path / "p"
    directory.mkdir()
    old = acquired(directory / ".lock")
    waiter = RecordedLock(directory / ".lock")
    done: list[object] = []
    thread = threading.Thread(target=lambda: done.append(waiter.acquire(60)))
    thread.start()
    wait_until_it_waits(caplog)
    directory.rename(tmp_path / "trash")
    directory.mkdir()
    old.release()
    thread.join(60)
    assert done == [None]
    assert is_held(directory / ".lock")
    assert not is_held(tmp_path / "trash" / ".lock")
    waiter.release()


def test_missing_directory(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        RecordedLock(tmp_path / "nowhere" / "x").acquire(0)


def test_failure_after_the_lock_lets_go(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="full"):
            RecordedLock(path).acquire(0)
    assert not is_held(path)
    acquired(path).release()


CONTEND = """
from tweakio.store.lockfile import RecordedLock
path, counter, number = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
for turn in range(25):
    lock = RecordedLock(path)
    lock.acquire(60)
    inside = counter.with_name("inside")
    descriptor = os.open(inside, os.O_CREAT | os.O_EXCL)
    os.close(descriptor)
    value = int(counter.read_text())
    if number == 0 and turn == 5:
        os.unlink(inside)
        os.kill(os.getpid(), 9)
    counter.write_text(str(value + 1))
    os.unlink(inside)
    lock.release()
print("done", flush=True)
"""


def test_eight_processes_and_one_is_killed(path: Path, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    processes = [child(CONTEND, path, counter, number) for number in range(8)]
    codes = [end(process) for process in processes]
    assert codes == [-signal.SIGKILL] + [0] * 7
    assert int(counter.read_text()) == 7 * 25 + 5
    assert not (tmp_path / "inside").exists()


def test_killed_while_others_wait(path: Path) -> None:
    holder = child(HOLD, path)
    assert line_of(holder) == "held"
    waiters = [child(HOLD, path) for _ in range(3)]
    time.sleep(0.3)
    end(holder, kill=True)
    pids = set()
    for _ in waiters:
        deadline = time.monotonic() + 10
        while (record := read_record(path)) is None or record.pid in {*pids, holder.pid}:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        pids.add(record.pid)
        process = next(item for item in waiters if item.pid == record.pid)
        assert line_of(process) == "held"
        end(process)
    assert pids == {process.pid for process in waiters}


# A lock file that is something else


def make_link(path: Path) -> None:
    (path.parent / "victim").write_text("precious")
    path.symlink_to(path.parent / "victim")


def make_dangling(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere")


KINDS: list[Callable[[Path], None]] = [make_link, make_dangling, os.mkfifo, os.mkdir]


@pytest.mark.parametrize("make", KINDS, ids=["link", "dangling", "fifo", "directory"])
def test_strange_lock_files(layout: Layout, make: Callable[[Path], None]) -> None:
    path = layout.profile("a").lock
    make(path)
    manager = ProfileLockManager(layout)
    began = time.monotonic()
    with pytest.raises((StorageError, LockTimeoutError)):
        manager.acquire("a", timeout=0.3)
    assert time.monotonic() - began < 3
    assert read_record(path) is None
    assert not is_held(path)
    assert not manager.is_locked("a")
    assert manager.owner("a") is None
    assert not manager.cleanup_stale("a")
    assert manager.held == frozenset()
    assert not (path.parent / "nowhere").exists()
    victim = path.parent / "victim"
    assert not victim.exists() or victim.read_text() == "precious"


def test_probe_does_not_disturb_another_probe(path: Path) -> None:
    path.touch()
    stop = time.monotonic() + 0.3
    seen = []

    def probe() -> None:
        while time.monotonic() < stop:
            seen.append(is_held(path))

    threads = [threading.Thread(target=probe) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) > 10
    assert not any(seen)


def test_probe_on_windows(path: Path) -> None:
    lock = acquired(path)
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(is_held(path, platform="win32")))
    thread.start()
    thread.join()
    assert found == [True]
    lock.release()
    assert not is_held(path, platform="win32")


def test_probe_of_nothing(path: Path) -> None:
    assert not is_held(path)
    assert not path.exists()


# The manager


def test_manager(layout: Layout) -> None:
    manager = ProfileLockManager(layout)
    assert not manager.is_locked("a")
    with manager.acquire("a") as held:
        assert held.profile_id == "a"
        assert manager.is_locked("a")
        assert manager.owner("a") == own_record()
        assert manager.held == {"a"}
        with manager.acquire("a", timeout=0):
            pass  # what one object holds it may take again
        assert not manager.is_locked("a")
    manager.acquire("a")
    manager.acquire("b")
    assert manager.held == {"a", "b"}
    manager.release_all()
    manager.release("a")
    assert manager.held == frozenset()
    assert manager.owner("a") is None


def test_two_managers(layout: Layout) -> None:
    one, two = ProfileLockManager(layout), ProfileLockManager(layout)
    one.acquire("a")
    assert two.is_locked("a")
    assert two.owner("a") == own_record()
    with pytest.raises(
        LockTimeoutError, match=f"profile 'a' is in use by .*{os.getpid()}"
    ) as caught:
        two.acquire("a", timeout=0)
    assert caught.value.details["profile_id"] == "a"
    two.acquire("b")
    two.release("a")
    assert one.is_locked("a")
    one.release_all()
    two.acquire("a", timeout=0)
    two.release_all()


def test_missing_profile(layout: Layout) -> None:
    manager = ProfileLockManager(layout)
    with pytest.raises(ProfileNotFoundError, match="c"):
        manager.acquire("c")
    (layout.profiles / "d").touch()
    with pytest.raises((ProfileNotFoundError, StorageError), match="d"):
        manager.acquire("d")
    assert not manager.is_locked("c")
    assert not manager.cleanup_stale("c")


def test_dead_owner_is_reported_and_cleared(
    layout: Layout, caplog: pytest.LogCaptureFixture
) -> None:
    manager = ProfileLockManager(layout)
    process = child(HOLD, layout.profile("a").lock)
    assert line_of(process) == "held"
    assert manager.is_locked("a")
    assert not manager.cleanup_stale("a")
    end(process, kill=True)
    assert not manager.is_locked("a")
    assert read_record(layout.profile("a").lock) is not None
    assert manager.cleanup_stale("a")
    assert str(process.pid) in caplog.text
    assert "lock cleared" in caplog.text
    assert not manager.cleanup_stale("a")
    assert layout.profile("a").lock.read_bytes() == b""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_fork(layout: Layout) -> None:
    """A child holds nothing of its parent's, and its end does not free it."""
    manager = ProfileLockManager(layout)
    manager.acquire("a")
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def in_child() -> None:
        found = [sorted(manager.held), manager.is_locked("a")]
        manager.release("a")
        try:
            manager.acquire("a", timeout=0)
        except LockTimeoutError:
            found.append("refused")
        manager.acquire("b", timeout=0)
        sender.send(found)
        os._exit(0)

    process = context.Process(target=in_child)
    process.start()
    process.join(20)
    assert receiver.recv() == [[], True, "refused"]
    assert manager.held == {"a"}
    assert is_held(layout.profile("a").lock)
    assert read_record(layout.profile("a").lock) == own_record()
    manager.release_all()
    assert not is_held(layout.profile("a").lock)
    assert manager.cleanup_stale("b")
    receiver.close()
    sender.close()


def test_file_in_the_place_of_a_profile(layout: Layout) -> None:
    place = layout.profile("a").directory
    place.rmdir()
    place.write_bytes(b"x")
    with pytest.raises(ProfileNotFoundError):
        ProfileLockManager(layout).acquire("a", timeout=0.1)
    assert place.read_bytes() == b"x"


def test_read_only_profile(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def denied(path: object, *arguments: object, **named: object) -> int:
        if str(path).endswith(".lock"):
            raise PermissionError(13, "denied", str(path))
        return real(path, *arguments, **named)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", denied)
        with pytest.raises((StorageError, LockTimeoutError)):
            ProfileLockManager(layout).acquire("a", timeout=0.1)


def test_clearing_up_after_the_dead_takes_no_lease(manager: ProfileManager) -> None:
    """It may be another machine's by now, and would have to be waited for."""

    class Held:
        def take(self, profile_id: str) -> None:
            raise AssertionError(f"the lease of {profile_id} was asked for")

        def give(self, profile_id: str) -> None:
            """Nothing to give back."""

    manager.create_profile("x", "custom")
    code = (
        "import os, sys; from tweakio import ProfileManager; "
        "ProfileManager(sys.argv[1]).activate_profile('x'); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, str(manager.home)], check=True)
    locks = ProfileLockManager(manager.layout)
    locks._guard = Held()  # type: ignore[assignment]  # as much of one as is needed
    assert locks.cleanup_stale("x")
