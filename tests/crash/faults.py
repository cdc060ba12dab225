"""Counting the system calls that change or read something below a home, and breaking one of them.

The library makes its calls through the ``os`` module's functions, looked up at each call; so
replacing these functions in a forked child sees them all. What would escape (the built-in
``open``, C code) is found by the comparison with strace in ``test_completeness.py``.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import os
import pathlib
import signal
import time
from typing import TYPE_CHECKING, Any

from tests.crash.disk import cut_power

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DEADLY", "ERRORS", "FAULTS", "POWER", "READS", "Injector", "applies"]

FAULTS = {
    "kill": "SIGKILL before the call",
    "kill-after": "SIGKILL after the call",
    "torn": "half of the bytes are written, then SIGKILL",
    "enospc": "the disk is full for this one call",
    "enospc-on": "the disk is full from this call on, until the operation has ended",
    "eio": "an input/output error at this one call",
    "eio-on": "input/output errors from this call on, until the operation has ended",
    "eacces": "permission denied at this one call",
    "eintr": "the call is interrupted by a signal, where Python does not repeat it by itself",
    "interrupt": "Ctrl-C before the call",
    "interrupt-after": "Ctrl-C after the call",
    "signals": "a signal that has a handler comes all the time",
    "power": "the power is cut before the call, or, one past the last, after the operation",
    "power-synced": "the same, just after another program has synced a file of its own",
}
_READ_ERRORS = {
    "emfile": (errno.EMFILE, "too many open files"),
    "eacces": (errno.EACCES, "permission denied"),
    "eio": (errno.EIO, "an input/output error"),
    "estale": (errno.ESTALE, "a stale handle of a network file system"),
    "enomem": (errno.ENOMEM, "no memory"),
}
READS = {
    f"read-{name}{end}": f"{text} at {when}"
    for name, (_, text) in _READ_ERRORS.items()
    for end, when in (
        ("", "this one call that reads"),
        ("-on", "all that read from this one on, until the operation has ended"),
    )
}
"""The faults of calls that read: open, read, stat and listing of what is in the home."""
FAULTS |= READS
POWER = ("power", "power-synced")
DEADLY = ("kill", "kill-after", "torn", *POWER)
"""The faults that the process does not survive."""
ERRORS = {
    "enospc": errno.ENOSPC,
    "enospc-on": errno.ENOSPC,
    "eio": errno.EIO,
    "eio-on": errno.EIO,
    "eacces": errno.EACCES,
    "eintr": errno.EINTR,
    **{fault: _READ_ERRORS[fault.split("-")[1]][0] for fault in READS},
}
"""The faults that are an ``OSError``, with its number."""

_BY_DESCRIPTOR = ("write", "pwrite", "writev", "fsync", "fdatasync", "ftruncate", "fchmod")
_BY_PATH = (
    "truncate", "chmod", "utime", "mkdir", "rmdir", "unlink", "remove", "mknod", "mkfifo",
    "setxattr", "chown",
)  # fmt: skip
_BY_TWO_PATHS = ("rename", "replace", "link", "symlink")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
# What needs a block or an inode. A full disk lets files be removed and cut.
_CONSUMING = frozenset(
    ["open", "write", "pwrite", "writev", "fsync", "fdatasync", "mkdir", "rename", "link",
     "symlink", "mknod", "mkfifo", "setxattr"]
)  # fmt: skip
_READING = ("read", "pread", "fstat", "stat", "lstat", "listdir", "scandir")
_BY_OPEN_FILE = ("read", "pread", "fstat")
_OPENING = frozenset(["open", "listdir", "scandir"])
_SAME_CALL = {"replace": "rename", "remove": "unlink"}


def applies(fault: str, kind: str) -> bool:
    """Whether a fault can happen at a call of this kind."""
    if fault.startswith("read-emfile"):
        return kind in _OPENING
    if fault.startswith("read-"):
        return not (fault.startswith("read-eacces") and kind in _BY_OPEN_FILE)
    if fault == "torn":
        return kind == "write"
    if fault == "enospc-on":
        return kind in _CONSUMING
    if fault == "eintr":
        # PEP 475: the others are made again until they are through.
        return kind not in _BY_DESCRIPTOR and kind != "open"
    # The kernel checks permissions by name, when something is opened.
    return fault != "eacces" or kind not in _BY_DESCRIPTOR


def _press_ctrl_c() -> None:
    """Raise KeyboardInterrupt here, or later where the signal is blocked."""
    signal.raise_signal(signal.SIGINT)
    # Python 3.10 looks at signals only after some more of its instructions, this call at once.
    signal.pthread_sigmask(signal.SIG_BLOCK, ())


class Injector:
    """Replaces functions of ``os`` in this process, for good: use it in a forked child.

    Args:
        home: only calls that concern this directory or what is below it count.
        fault: what to do; None only counts.
        point: at which call, from 1.

    Attributes:
        calls: the counted calls: kind, path relative to the home, and whether it had an
            effect (it did not raise).
        reads: the same of those that read.
        fired: whether the fault took place.
        marks: leave marks for a trace of system calls.
    """

    def __init__(self, home: str | os.PathLike[str], fault: str | None = None, point: int = 0):
        self.home = os.path.abspath(home)
        self.fault = fault
        self.point = point
        self.calls: list[tuple[str, str, bool]] = []
        self.reads: list[tuple[str, str, bool]] = []
        self.fired = False
        self.armed = False
        self.marks = False
        self._real: dict[str, Callable[..., Any]] = {}

    def arm(self, *, on: bool) -> None:
        """Begin or end to count."""
        self.armed = on
        if self.fault == "signals":
            self._storm(on=on)
        if self.marks:
            # A call that fails, and shows in a trace from where to where was counted.
            with contextlib.suppress(OSError):
                self._real["mkdir"](f"/proc/counting-{'on' if on else 'off'}")

    def install(self) -> None:
        """Replace the functions; nothing is counted until ``arm``."""
        if self.fault is not None and self.fault.startswith("interrupt"):
            # In the background of a shell Ctrl-C is ignored.
            signal.signal(signal.SIGINT, signal.default_int_handler)
        self._replace("open", self._open)
        for name in _BY_DESCRIPTOR:
            self._replace(name, self._wrapper(name, self._of_descriptor))
        for name in _BY_PATH:
            self._replace(name, self._wrapper(name, self._of_path))
        for name in _BY_TWO_PATHS:
            self._replace(name, self._wrapper(name, self._of_target))
        for name in _READING:
            self._replace(name, self._reader(name))
        builtin = builtins.open

        def opener(file: Any, *arguments: Any, **options: Any) -> Any:
            where = None
            if self.armed and not isinstance(file, int):
                where = self._named(file, None)
            if where is not None:
                self._read("open", where)
            return builtin(file, *arguments, **options)

        builtins.open = io.open = opener  # type: ignore[assignment]

    def _storm(self, *, on: bool) -> None:
        """Let another process send signals to this one, or end it."""
        if not on:
            os.kill(self._sender, signal.SIGKILL)
            os.waitpid(self._sender, 0)
            return
        signal.signal(signal.SIGUSR1, self._signalled)
        target = os.getpid()
        self._sender = os.fork()
        if not self._sender:
            with contextlib.suppress(ProcessLookupError):
                while os.getppid() == target:
                    os.kill(target, signal.SIGUSR1)
                    time.sleep(0.0001)
            os._exit(0)
        while not self.fired:
            time.sleep(0.001)

    def _signalled(self, *_: object) -> None:
        self.fired = True

    def _replace(self, name: str, wrapper: Callable[..., Any]) -> None:
        real = getattr(os, name, None)
        if real is None:
            return
        self._real[name] = real
        # shutil asks these sets what a function can do.
        for known in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks):
            if real in known:
                known.add(wrapper)
        setattr(os, name, wrapper)
        # Python 3.10's pathlib keeps the functions that it found when it was imported.
        accessor = getattr(pathlib, "_NormalAccessor", None)
        if accessor is not None and getattr(accessor, name, None) is real:
            setattr(accessor, name, staticmethod(wrapper))

    # Where a call works

    def _of_descriptor(self, arguments: tuple[Any, ...], _: dict[str, Any]) -> str | None:
        try:
            return self._relative(os.readlink(f"/proc/self/fd/{arguments[0]}"))
        except OSError:
            return None

    def _of_path(self, arguments: tuple[Any, ...], options: dict[str, Any]) -> str | None:
        path = arguments[0]
        if isinstance(path, int):
            return self._of_descriptor(arguments, options)
        return self._named(path, options.get("dir_fd"))

    def _of_target(self, arguments: tuple[Any, ...], options: dict[str, Any]) -> str | None:
        return self._named(arguments[1], options.get("dst_dir_fd", options.get("dir_fd")))

    def _named(self, path: Any, directory: int | None) -> str | None:
        text = os.fsdecode(path)
        if directory is not None:
            text = os.path.join(os.readlink(f"/proc/self/fd/{directory}"), text)
        return self._relative(os.path.abspath(text))

    def _relative(self, path: str) -> str | None:
        if path == self.home:
            return "."
        return path[len(self.home) + 1 :] if path.startswith(self.home + os.sep) else None

    # The calls

    def _open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        def real() -> int:
            return self._real["open"](path, flags, mode, dir_fd=dir_fd)  # type: ignore[no-any-return]

        where = self._named(path, dir_fd) if self.armed else None
        if where is not None:
            # A limit strikes whatever a file is opened for.
            self._read("open", where)
        if not flags & _WRITING:
            return real()
        return real() if where is None else self._make("open", where, real, None)

    def _wrapper(
        self, name: str, locate: Callable[[tuple[Any, ...], dict[str, Any]], str | None]
    ) -> Callable[..., Any]:
        kind = _SAME_CALL.get(name, name)

        def wrapper(*arguments: Any, **options: Any) -> Any:
            real = self._real[name]
            where = locate(arguments, options) if self.armed else None
            if where is None:
                return real(*arguments, **options)
            half: Callable[[], Any] | None = None
            if name == "write":
                half = lambda: real(arguments[0], arguments[1][: len(arguments[1]) // 2])  # noqa: E731
            return self._make(kind, where, lambda: real(*arguments, **options), half)

        return wrapper

    def _reader(self, name: str) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **options: Any) -> Any:
            if self.armed:
                path = arguments[0] if arguments else "."
                if name in _BY_OPEN_FILE or isinstance(path, int):
                    where = self._of_descriptor(arguments, options)
                else:
                    where = self._named(path, options.get("dir_fd"))
                if where is not None:
                    self._read(name, where)
            return self._real[name](*arguments, **options)

        return wrapper

    def _read(self, kind: str, where: str) -> None:
        """Count a call that reads, and let it fail if it is its turn."""
        self.reads.append((kind, where, True))
        if self.fault not in READS:
            return
        number = len(self.reads)
        later = self.fault.endswith("-on") and number > self.point
        if (number == self.point or later) and applies(self.fault, kind):
            self.fired = True
            raise OSError(ERRORS[self.fault], os.strerror(ERRORS[self.fault]))

    def _make(
        self, kind: str, where: str, real: Callable[[], Any], half: Callable[[], Any] | None
    ) -> Any:
        self.calls.append((kind, where, False))
        number = len(self.calls)
        hit = self._hits(kind, number)
        afterwards = self.fault in ("kill-after", "interrupt-after")
        if hit and not afterwards:
            self.fired = True
            self._before(half)
        try:
            result = real()
            self.calls[number - 1] = (kind, where, True)
        finally:
            if hit and self.fault == "kill-after":
                os.kill(os.getpid(), signal.SIGKILL)
        if hit and self.fault == "interrupt-after":
            # As when the signal came during the call: it is done and nobody has the result
            # yet. A call that failed raises its own error, and the signal comes later.
            self.fired = True
            _press_ctrl_c()
        return result

    def _hits(self, kind: str, number: int) -> bool:
        if self.fault is None or self.fault in READS:
            return False
        if self.fault.endswith("-on") and number >= self.point:
            return applies(self.fault, kind)
        return number == self.point

    def _before(self, half: Callable[[], Any] | None) -> None:
        fault = self.fault or ""
        if fault in ("torn", "enospc", "enospc-on") and half is not None:
            # A write that finds the disk full has often written something.
            half()
        if fault in POWER:
            cut_power(os.path.dirname(self.home), after_sync=fault == "power-synced")
        if fault in ("kill", "torn", *POWER):
            os.kill(os.getpid(), signal.SIGKILL)
        if fault in ERRORS:
            number = ERRORS[fault]
            raise OSError(number, os.strerror(number))
        if fault == "interrupt":
            _press_ctrl_c()
