"""The real command in a process of its own, in homes and an environment of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from invariants import nothing_lost

from tests.forked import Forks, suits

ROOT = Path(__file__).resolve().parent.parent
COMMAND = [sys.executable, "-m", "tweakio"]
TIMEOUT = 60
FORKS = Forks()


def environment(base: Path, **changes: str) -> dict[str, str]:
    """Nothing of the user who runs the tests: no git identity, no home, no terminal."""
    kept = (
        *("PATH", "SYSTEMROOT", "COMSPEC", "TMPDIR", "TEMP", "LANG"),
        *("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"),
    )
    values = {name: os.environ[name] for name in kept if name in os.environ}
    values |= {
        "HOME": str(base),
        "USERPROFILE": str(base),
        "XDG_DATA_HOME": str(base / "xdg"),
        "XDG_CONFIG_HOME": str(base / "xdg"),
        "TWEAKIO_HOME": str(base / "home"),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_AUTHOR_NAME": "Test",
        "GIT_AUTHOR_EMAIL": "test@example.org",
        "PYTHONPATH": str(ROOT),
        "PYTHONUTF8": "1",
        "TERM": "xterm-256color",
        "TZ": "UTC",
    }
    values |= changes
    return {name: value for name, value in values.items() if value != "\0unset"}


UNSET = "\0unset"


@dataclass(frozen=True)
class Result:
    """What one run of the command left behind."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def rows(self) -> list[list[str]]:
        return [line.split("\t") for line in self.lines]


class Cli:
    """Runs commands in one directory for tests.

    Args:
        base: the directory.
        command: what runs, if it is not this Python as this user.
        **changes: of the environment of each command.
    """

    def __init__(self, base: Path, command: Sequence[str] = COMMAND, **changes: str) -> None:
        self.base = base
        self._command = command
        self.forks = command is COMMAND
        """Whether commands are forked (see ``tests.forked``), not started."""
        self._changes = changes
        self.home = base / "home"
        self.profiles = self.home / "profiles"

    def run(self, *arguments: str, stdin: str = "", **changes: str) -> Result:
        if "doctor" in arguments and "--fix" in arguments:
            with nothing_lost(self.home) as said:
                result = self._run(*arguments, stdin=stdin, **changes)
                said += [result.out, result.err]
            return result
        return self._run(*arguments, stdin=stdin, **changes)

    def _run(self, *arguments: str, stdin: str = "", **changes: str) -> Result:
        changes = {**self._changes, **changes}
        variables = environment(self.base, **changes)
        if self.forks and suits(changes, stdin.encode()):
            done = FORKS.run(
                arguments,
                environment=variables,
                directory=self.base,
                stdin=stdin.encode(),
                timeout=TIMEOUT,
            )
        else:
            done = subprocess.run(
                [*self._command, *arguments],
                input=stdin.encode(),
                capture_output=True,
                env=variables,
                cwd=self.base,
                timeout=TIMEOUT,
            )
        return Result(
            done.returncode,
            done.stdout.decode("utf-8", "surrogateescape"),
            done.stderr.decode("utf-8", "surrogateescape"),
        )

    def ok(self, *arguments: str, **changes: str) -> Result:
        """Run what has to succeed."""
        result = self.run(*arguments, **changes)
        assert result.code == 0, (arguments, result)
        return result

    def python(self, source: str, *arguments: str, **changes: str) -> Result:
        """Run Python code in the environment of the commands."""
        done = subprocess.run(
            [sys.executable, "-c", source, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment(self.base, **changes),
            cwd=self.base,
            timeout=TIMEOUT,
        )
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

    def start(self, *command: str, **streams: object) -> subprocess.Popen[bytes]:
        """A process that goes on while the test does."""
        options: dict[str, object] = {"stdin": subprocess.DEVNULL, **streams}
        return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
            list(command), env=environment(self.base), cwd=self.base, **options
        )

    def create(self, *profile_ids: str) -> None:
        self.ok("profile", "create", *profile_ids, "--platform", "whatsapp")

    def head(self) -> str:
        branch = self.profiles / ".git" / "refs" / "heads" / "main"
        return branch.read_text().strip() if branch.exists() else ""

    def snapshot(self) -> dict[str, bytes]:
        """Every file of the home that means something."""
        found = {}
        for directory, _, names in os.walk(self.home):
            for name in names:
                path = Path(directory, name)
                relative = path.relative_to(self.home).as_posix()
                if "/tweakio/cache/" in relative or "/tweakio/locks/" in relative:
                    continue
                found[relative] = b"link" if path.is_symlink() else path.read_bytes()
        return found

    def damage(self, profile_id: str) -> None:
        (self.profiles / profile_id / "metadata.json").write_bytes(b"{ broken")


HOLD = """\
import sys, time
from tweakio import ProfileManager
manager = ProfileManager(sys.argv[1])
manager.activate_profile(sys.argv[2])
print("held", flush=True)
sys.stdin.read()
"""


class Holder:
    """A live process that uses a profile."""

    def __init__(self, cli: Cli, profile_id: str) -> None:
        self._process = cli.start(
            sys.executable,
            "-c",
            HOLD,
            str(cli.home),
            profile_id,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.pid = self._process.pid

    def __enter__(self):
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"held\n"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=TIMEOUT)


def errors(result: Result) -> list[str]:
    """The error lines; there is to be one."""
    return [line for line in result.err.splitlines() if line.startswith("tweakio: error: ")]


def wait_until(condition: object, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def run_in_terminal(
    cli: Cli,
    *arguments: str,
    rows: int = 24,
    columns: int = 80,
    typed: bytes = b"",
    **changes: str,
) -> tuple[int, str]:
    """Run a command at a terminal of its own; gives the exit code and what was shown."""
    import fcntl
    import pty
    import struct
    import termios

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment(cli.base, **changes),
        cwd=cli.base,
        start_new_session=True,
    )
    os.close(slave)
    os.write(master, typed)
    shown = b""
    while True:
        try:
            data = os.read(master, 65536)
        except OSError:  # Linux reports the end of a terminal as an error
            break
        if not data:
            break
        shown += data
    os.close(master)
    code = process.wait(timeout=TIMEOUT)
    return code, shown.decode("utf-8", "replace").replace("\r\n", "\n")
