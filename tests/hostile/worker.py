"""Runs operations on a hostile home in a child that is watched.

One process imports everything and forks for each home. In the child memory is limited, every
step has a time, and an audit hook sees each file that Python opens, moves or removes and each
program that it starts. It serves one JSON line for each it gets.
"""

from __future__ import annotations

import io
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any, ClassVar

__all__ = ["API", "Watch", "Worker"]

MEMORY = 768 << 20
SECONDS = 150

API: dict[str, str] = {
    "list": "manager.list_profiles()",
    "get": "manager.get_profile('alpha')",
    "history": "manager.history()",
    "show": "manager.show('HEAD')",
    "old": "manager.show('HEAD~3')",
    "tag": "manager.show('v1')",
    "diff": "manager.diff('beta', 'HEAD~2')",
    "trash": "manager.trash()",
    "activate": "manager.activate_profile('beta', timeout=1)",
    "deactivate": "manager.deactivate_profile()",
    "create": "manager.create_profile('fresh', 'custom')",
    "set": "manager.update_profiles(['alpha'], note='changed')",
    "delete": "manager.delete_profile('spare', force=True)",
    "undo": "manager.undo()",
    "redo": "manager.redo()",
    "restore": "manager.restore('alpha', 'HEAD~4')",
    "recover": "manager.recover_profile('alpha')",
    "recover-hard": "manager.recover_profile('beta', 'hard')",
    "trash-restore": "[manager.restore_from_trash(entry.name) for entry in manager.trash()[:1]]",
    "trash-purge": "manager.purge_trash()",
    "gc": "manager.gc()",
    "migrate": "manager.migrate()",
    "default": "manager.ensure_default('custom')",
    "doctor": "manager.doctor()",
    "doctor-fix": "manager.doctor(fix=True, cut=True)",
}
_CODES = {0, *range(1, 25), 130}
# What a terminal obeys or what hides text: C0, C1, bidirectional and invisible characters.
_RAW = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]"
)  # fmt: skip


class TooLongError(BaseException):
    """A step did not end in its time."""


class Watch:
    """The audit hook.

    Args:
        home: only below it may anything be changed.
        readable: besides the home, what may be read.
    """

    _MOVES: ClassVar = {"os.rename": (0, 1), "os.link": (1,), "os.symlink": (1,)}
    _CHANGES = frozenset(
        {"os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "os.chown", "os.utime",
         "os.setxattr", "os.removexattr"}
    )  # fmt: skip
    _LOOKS = frozenset({"os.listdir", "os.scandir"})
    _STARTS = ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.system", "os.spawn", "os.fork",
               "pty.spawn", "socket.connect", "ctypes.dlopen", "pickle.find_class")  # fmt: skip

    def __init__(self, home: str, readable: list[str]) -> None:
        self._home = os.path.realpath(home)
        self._readable = [os.path.realpath(path) for path in readable]
        # Of the git that the doctor asks for lost objects: a git directory with our own
        # configuration. The name is looked for now, because Python tries it by writing.
        self._witness = os.path.join(os.path.realpath(tempfile.gettempdir()), "tweakio-")
        self._busy = False
        self.found: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._busy:
            return
        self._busy = True
        try:
            self._look(event, arguments)
        except (OSError, ValueError):
            pass
        finally:
            self._busy = False

    def _look(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, int):
                return
            writing = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
            self._check(event, path, follow=not flags & os.O_NOFOLLOW, writing=bool(writing))
        elif event in self._MOVES:
            for number in self._MOVES[event]:
                below = _directory(arguments[2 + number : 3 + number])
                self._check(event, arguments[number], follow=False, writing=True, directory=below)
        elif event in self._CHANGES:
            follow = event in ("os.truncate", "os.chmod", "os.utime", "os.chown")
            below = _directory(arguments[-1:])
            self._check(event, arguments[0], follow=follow, writing=True, directory=below)
        elif event in self._LOOKS:
            self._check(event, arguments[0], follow=True, writing=False)
        elif event.startswith(self._STARTS) and not self._is_witness(event, arguments):
            self._say(f"{event} {arguments!r:.200}")

    def _is_witness(self, event: str, arguments: tuple[Any, ...]) -> bool:
        if event != "subprocess.Popen":
            return False
        _, command, _, variables = arguments
        return (
            command[1].startswith(f"--git-dir={self._witness}")
            and command[2:] == ["cat-file", "--batch"]
            and variables["GIT_ALLOW_PROTOCOL"] == "none"
        )

    def _check(
        self, event: str, path: Any, *, follow: bool, writing: bool, directory: str = ""
    ) -> None:
        if path is None or isinstance(path, int):
            return
        name = os.path.join(directory, os.fsdecode(path))
        if not os.path.isabs(name):
            return  # shutil.rmtree opens below a descriptor that the event does not have
        above, base = os.path.split(name)
        real = os.path.realpath(name) if follow else os.path.join(os.path.realpath(above), base)
        allowed = [self._home] if writing else [self._home, *self._readable]
        if real == os.devnull or real.startswith(self._witness):
            return
        if not any(real == root or real.startswith(root + "/") for root in allowed):
            if real == os.path.dirname(self._home) and not writing:
                return
            self._say(f"{event} {'writes' if writing else 'reads'} {name} ({real})")

    def _say(self, text: str) -> None:
        if len(self.found) < 10:
            place = "".join(traceback.format_stack(limit=14)[:-3][-6:])
            self.found.append(f"{text}\n{place}")


def _directory(descriptor: tuple[Any, ...]) -> str:
    """What a ``dir_fd`` stands for."""
    number = descriptor[0] if descriptor else -1
    if not isinstance(number, int) or number < 0:
        return ""
    return (
        os.readlink(f"/proc/self/fd/{number}") if os.path.isdir(f"/proc/self/fd/{number}") else ""
    )


def _readable() -> list[str]:
    import dulwich

    roots = [sys.prefix, sys.base_prefix, str(Path(__file__).parent.parent.parent)]
    roots += [str(Path(dulwich.__file__).parent.parent), os.path.dirname(os.__file__)]
    roots += ["/proc", "/sys", "/dev/null", "/dev/urandom", "/etc", "/usr"]
    return [*roots, os.environ["HOME"], os.environ.get("XDG_CONFIG_HOME", "/nonexistent")]


def _api(home: str, source: str) -> str:
    from tweakio import ProfileManager, TweakioError

    try:
        with ProfileManager(home) as manager:
            return f"returned {eval(source, {'manager': manager})!r}"[:200]
    except TweakioError as error:
        if not error.message or "\n" in error.message:
            raise AssertionError(f"not one line: {error.message!r}") from error
        return f"{type(error).__name__}: {error}"[:300]


def _cli(home: str, arguments: list[str], scratch: str) -> tuple[str, list[str]]:
    """Run the command line in this process with files in the place of its streams."""
    from tweakio import cli

    texts = []
    streams = sys.stdout, sys.stderr
    sys.stdout = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="surrogateescape")
    sys.stderr = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="backslashreplace")
    try:
        code = cli.main(["--home", home, *arguments])
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            texts.append(stream.buffer.getvalue().decode("utf-8", "surrogateescape"))
    finally:
        sys.stdout, sys.stderr = streams
    out, err = texts
    problems = []
    lines = [line for line in err.splitlines() if line.startswith("tweakio: error: ")]
    if code not in _CODES:
        problems.append(f"exit code {code}: {err[:500]}")
    if "Traceback" in err or "Logging error" in err:
        problems.append(f"a traceback: {err[-1500:]}")
    if len(lines) > 1 or (code and not lines and "doctor" not in arguments):
        problems.append(f"{len(lines)} error lines, exit code {code}: {err[:500]!r}")
    for text in (out, err):
        if match := _RAW.search(text):
            problems.append(
                f"raw U+{ord(match[0]):04X} in {text[max(0, match.start() - 60) :][:120]!r}"
            )
    return f"{code} {err[:200]}", problems


def _do(job: dict[str, Any]) -> dict[str, Any]:
    """In the child: every step, and what was seen of it."""
    problems: list[str] = []
    said: dict[str, str] = {}
    watch = Watch(job["home"], [*_readable(), *job.get("readable", ())])
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def too_long(*_: object) -> None:
        raise TooLongError

    signal.signal(signal.SIGALRM, too_long)
    sys.addaudithook(watch)
    for step in job["steps"]:
        name = step if isinstance(step, str) else " ".join(step)
        try:
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
            if isinstance(step, str):
                said[name] = _api(job["home"], API.get(step, step))
            else:
                said[name], found = _cli(job["home"], step, job["scratch"])
                problems += [f"{name}: {text}" for text in found]
        except BaseException as error:
            text = "".join(traceback.format_exception(error))
            problems.append(f"{name}: {type(error).__name__}\n{text[-1800:]}")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    problems += [f"audit: {text}" for text in watch.found]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"problems": problems, "said": said, "peak": peak}


def serve() -> None:
    """Answer each line of standard input with one of standard output."""
    import tweakio.cli.app
    import tweakio.cli.lane
    import tweakio.cli.tables
    import tweakio.doctor  # noqa: F401
    from tweakio import schema
    from tweakio.store.packed import PackedObjects  # noqa: F401
    from tweakio.store.packs import commit, merge, recent  # noqa: F401

    schema.metadata_model()
    import dulwich.config
    import dulwich.pack  # noqa: F401
    import psutil  # noqa: F401
    import typer  # noqa: F401

    for line in sys.stdin:
        job = json.loads(line)
        receiver, sender = os.pipe()
        pid = os.fork()
        if not pid:
            code = 1
            try:
                os.close(receiver)
                answer = json.dumps(_do(job)).encode()
                with os.fdopen(sender, "wb") as file:
                    file.write(answer)
                code = 0
            finally:
                os._exit(code)
        os.close(sender)
        print(json.dumps(_wait(pid, receiver, time.monotonic() + 4 * SECONDS)), flush=True)


def _wait(pid: int, receiver: int, deadline: float) -> dict[str, Any]:
    import select

    data = b""
    while True:
        ready = select.select([receiver], [], [], max(0.0, deadline - time.monotonic()))[0]
        if not ready:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(receiver)
            return {"problems": ["the process hung and was killed"], "said": {}, "peak": 0}
        chunk = os.read(receiver, 1 << 16)
        if not chunk:
            break
        data += chunk
    os.close(receiver)
    _, status = os.waitpid(pid, 0)
    if not data:
        return {"problems": [f"the process ended with {status}"], "said": {}, "peak": 0}
    answer: dict[str, Any] = json.loads(data)
    return answer


class Worker:
    """The serving process, started on demand.

    Args:
        user: a directory that stands for the user's own, and is not written to.
    """

    def __init__(self, user: Path) -> None:
        self._user = user
        self._process: subprocess.Popen[str] | None = None

    def run(
        self, home: Path, steps: list[Any], readable: list[str] | None = None
    ) -> dict[str, Any]:
        """Do steps on a home.

        Args:
            home: which.
            steps: names in ``API`` or sources for the library, lists for the command line.
            readable: what may be read besides.

        Returns:
            ``problems``, what was ``said`` by each step, and the ``peak`` of memory in KiB.
        """
        from tests.hostile.homes import ENVIRONMENT

        if self._process is None or self._process.poll() is not None:
            kept = {key: os.environ[key] for key in ("PATH", "LANG") if key in os.environ}
            user = {
                name: str(self._user)
                for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")
            }
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.hostile.worker"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=self._user,
                env={**kept, **ENVIRONMENT, **user, "PYTHONDONTWRITEBYTECODE": "1"},
            )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        job = {"home": str(home), "steps": steps, "readable": readable or [], "scratch": ""}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.communicate()
            self._process = None


if __name__ == "__main__":
    serve()
