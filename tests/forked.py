"""The command in a process of its own that need not import everything first.

Nine tenths of the time of one command is Python's start and imports, and the tests run some
thousand. So those are forked from a process that has imported the package and what it uses, and
done nothing else: streams, environment, directory and the record of coverage are each command's
own. What a start does is the matter of the tests that use ``cli_helpers.COMMAND``.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import gc
import importlib
import inspect
import itertools
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import coverage

__all__ = ["Forks", "suits"]

ROOT = Path(__file__).resolve().parents[1]
# Playwright as well: half a second of every command that opens a browser.
_LIBRARIES = (
    *("dulwich.config", "dulwich.object_store", "playwright.async_api", "psutil"),
    *("pyrage", "rich.progress", "rich.table", "typer", "zstandard"),
)
# What Python and the libraries look at when they start, and never again.
_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "TYPER", "FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS")
_PIPE = 65536  # bytes that a pipe takes without a reader


def suits(changes: Mapping[str, str], stdin: bytes) -> bool:
    """Whether a command with these changes of the environment may be forked."""
    can = hasattr(os, "fork") and hasattr(socket, "send_fds") and len(stdin) < _PIPE
    return can and not any(name.startswith(_AT_START) for name in changes)


class Forks:
    """Runs commands, each in a fork of one process, which starts with the first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._server: subprocess.Popen[bytes] | None = None

    def run(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        directory: Path,
        stdin: bytes,
        timeout: float,
    ) -> subprocess.CompletedProcess[bytes]:
        """As ``subprocess.run`` runs the command, with its output captured."""
        mask = os.umask(0)
        os.umask(mask)
        words = [os.fspath(argument) for argument in arguments]
        asked = json.dumps([words, dict(environment), os.fspath(directory), mask])
        reading, writing = os.pipe()
        os.write(writing, stdin)
        os.close(writing)
        here, there = socket.socketpair()
        with here, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            with self._lock, there:
                streams = [reading, out.fileno(), err.fileno(), there.fileno()]
                control = self._started()
                socket.send_fds(control, [b"%08d" % len(asked.encode())], streams)
                control.sendall(asked.encode())
            os.close(reading)
            here.settimeout(timeout)
            with here.makefile("r") as answer:
                pid = int(answer.readline())
                try:
                    code = int(answer.readline())
                except TimeoutError:
                    os.kill(pid, signal.SIGKILL)
                    raise subprocess.TimeoutExpired(list(arguments), timeout) from None
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(list(arguments), code, out.read(), err.read())

    def _started(self) -> socket.socket:
        if self._control is None:
            self._control, there = socket.socketpair()
            atexit.register(self._end)
            with there:
                self._server = subprocess.Popen(
                    [sys.executable, os.fspath(Path(__file__)), str(there.fileno())],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[there.fileno()],
                    env={
                        **{name: value for name, value in os.environ.items() if "COV" not in name},
                        "PYTHONPATH": os.fspath(ROOT),
                        "PYTHONUTF8": "1",
                    },
                    start_new_session=True,
                )
        return self._control

    def _end(self) -> None:
        if self._control is not None and self._server is not None:
            self._control.close()
            self._server.wait()


# The process that is forked


def _preload() -> None:
    import tweakio

    for name in _LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for module in pkgutil.walk_packages(tweakio.__path__, "tweakio."):
        if not module.name.endswith("__main__"):
            with contextlib.suppress(ImportError):  # an extra that is not installed
                importlib.import_module(module.name)
    from tweakio.schema import metadata_model

    metadata_model()
    # Coverage looks at the stack when it begins, which takes 60 ms the first time.
    inspect.stack()


def _serve(control: socket.socket) -> None:
    """Start commands, and say when each began and how it ended, until the tests end."""
    running: dict[int, _Running] = {}
    measures: dict[str, Measure] = {}
    noticed, notices = os.pipe()
    os.set_blocking(notices, False)
    os.set_blocking(noticed, False)
    signal.set_wakeup_fd(notices, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        ready, _, _ = select.select([control, noticed], [], [])
        if noticed in ready:
            os.read(noticed, 4096)
            _report_ended(running)
        if control not in ready:
            continue
        size, streams, _, _ = socket.recv_fds(control, 8, 4)
        if not size:
            return
        asked = b""
        while len(asked) < int(size):
            asked += control.recv(int(size) - len(asked))
        *standard, answer = streams
        request = json.loads(asked)
        measure = None
        if settings := request[1].get("COVERAGE_PROCESS_CONFIG"):
            data_file = json.loads(base64.b64decode(settings))["data_file"]
            if data_file not in measures:
                measures[data_file] = Measure(data_file)
            measure = measures[data_file], measures[data_file].record()
        pid = os.fork()
        if not pid:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            others = (command.answer for command in running.values())
            for descriptor in (control.fileno(), noticed, notices, answer, *others):
                os.close(descriptor)
            _run(request, standard, measure)
        for descriptor in standard:
            os.close(descriptor)
        running[pid] = _Running(answer, measure)
        os.write(answer, b"%d\n" % pid)


def _report_ended(running: dict[int, _Running]) -> None:
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        answer, measure = running.pop(pid)
        if measure is not None:
            measure[0].learn(measure[1])
        with contextlib.suppress(BrokenPipeError):
            os.write(answer, b"%d\n" % os.waitstatus_to_exitcode(status))
        os.close(answer)


def _run(asked: list, standard: list[int], measure: tuple[Measure, Path] | None) -> NoReturn:
    """Be the command; what Python does at its start and does not do in a fork is done here."""
    arguments, environment, directory, mask = asked
    for number, descriptor in enumerate(standard):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.umask(mask)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    _open_standard_streams()
    sys.argv = [os.fspath(ROOT / "tweakio" / "__main__.py"), *arguments]
    sys.path[0] = directory  # as "python -m" has it
    gc.enable()
    if measure is not None:
        measure[0].start()
    from tweakio.cli import main

    code = 1
    try:
        code = main()
    except BaseException:  # as an interpreter ends by whatever comes out of its program
        traceback.print_exc()
    finally:
        threading._shutdown()
        atexit._run_exitfuncs()
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        if measure is not None:
            measure[0].stop(measure[1])
        # The rest of an interpreter's end is to give back the memory, which takes 60 ms.
        os._exit(code)


def _open_standard_streams() -> None:
    # They stay open until the process ends (SIM115).
    lossless = {"encoding": "utf-8", "errors": "surrogateescape", "closefd": False}
    sys.stdin = open(0, **lossless)  # noqa: SIM115
    sys.stdout = open(1, "w", **lossless)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115


class Measure:
    """The record of coverage of what one server runs.

    A command leaves one only of what no other has run before: thousands would be joined one by one
    in the end, some 150 a second. Nor does it look for files of which nothing ran, which takes
    longer than the command; the tests' own process does that.
    """

    def __init__(self, data_file: str) -> None:
        self._data_file = data_file
        self._known: dict[str, set[tuple[int, int]]] = {}
        self._numbers = itertools.count()
        self._coverage = coverage.Coverage(
            data_file=None, config_file=False, branch=True, include=[f"{ROOT}/tweakio/*"]
        )
        # What it looks up when it begins takes 15 ms the first time.
        self._coverage.start()
        self._coverage.stop()

    def record(self) -> Path:
        """Where the next command's will be."""
        return Path(f"{self._data_file}.forked.{os.getpid()}.{next(self._numbers)}")

    def start(self) -> None:
        """Begin, in the fork."""
        self._coverage.start()

    def stop(self, record: Path) -> None:
        """Write what is new, in the fork."""
        self._coverage.stop()
        data = self._coverage.get_data()
        new = {}
        for name in data.measured_files():
            if found := {*(data.arcs(name) or ())} - self._known.get(name, set()):
                new[name] = found
        if new:
            written = coverage.CoverageData(os.fspath(record))
            written.add_arcs(new)
            written.write()
            written.close()

    def learn(self, record: Path) -> None:
        """Take over what a command wrote, in the server."""
        if not record.exists():
            return
        written = coverage.CoverageData(os.fspath(record))
        try:
            written.read()
            for name in written.measured_files():
                self._known.setdefault(name, set()).update(written.arcs(name) or ())
        except coverage.exceptions.DataError:  # it was killed while it wrote
            record.unlink()
        finally:
            written.close()


class _Running(NamedTuple):
    """A command that was started.

    Attributes:
        answer: where its end is told.
        measure: who measures it, and where; None if nobody does.
    """

    answer: int
    measure: tuple[Measure, Path] | None


if __name__ == "__main__":
    sys.path.remove(os.fspath(Path(__file__).parent))
    sys.path.insert(0, "")
    _preload()
    gc.freeze()
    with socket.socket(fileno=int(sys.argv[1])) as given:
        _serve(given)
