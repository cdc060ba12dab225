"""Moving objects to and from a remote: by the user's own git where there is one, else by dulwich.

The user's git has the user's keys, credential helpers and proxies. It runs without hooks and
without the protocols that start other programs, and checks every object that comes.
"""

from __future__ import annotations

import errno
import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, Protocol

from tweakio import children, interrupts
from tweakio.errors import HostileContentError, RemoteError, storage_error
from tweakio.references import child_environment
from tweakio.sync.saying import clean, refused, said_there, unreachable
from tweakio.sync.urls import check_url, is_local, shown_url
from tweakio.waiting import Deadline, limit, longer

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

__all__ = [
    "FETCHED",
    "MOST_BYTES",
    "GitTransport",
    "Transport",
    "cut_here",
    "find_transport",
    "ssh_command",
    "too_late",
]

log = logging.getLogger(__name__)

FETCHED = "refs/tweakio/fetched"
"""Where fetched commits come to, in the quarantine."""
MOST_BYTES = 2 << 30
"""A remote that sends a larger pack is cut off."""
# What says nothing of the git that is installed.
_LIMITS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)
_SETTINGS = (
    f"core.hooksPath={os.devnull}",
    # What is here already has names in the quarantine; asking for more would run git with the
    # configuration of our repository.
    "core.alternateRefsCommand=:",
    "core.fsmonitor=false",
    "core.bigFileThreshold=16m",
    "protocol.allow=never",
    "protocol.ext.allow=never",
    "protocol.ssh.allow=always",
    "protocol.https.allow=always",
    "protocol.file.allow=always",
    "fetch.fsckObjects=true",
    "transfer.fsckObjects=true",
    "transfer.bundleURI=false",
    "fetch.unpackLimit=1",
    "fetch.recurseSubmodules=false",
    "fetch.writeCommitGraph=false",
    "push.recurseSubmodules=no",
    "push.gpgSign=false",
    "submodule.recurse=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "http.lowSpeedLimit=1",
    "http.lowSpeedTime=60",
)
# For the other end of a transport on this machine: git reads the configuration of the repository
# there, which may be anybody's, and would run the programs that it names, and its hooks.
_SETTINGS_THERE = (
    f"core.hooksPath={os.devnull}",
    "core.alternateRefsCommand=:",
    "core.fsmonitor=false",
    "protocol.allow=never",
    *(f"protocol.{name}.allow=never" for name in ("ext", "file", "git", "http", "https", "ssh")),
    "receive.autogc=false",
    "receive.denyCurrentBranch=refuse",
    "gc.auto=0",
    "maintenance.auto=false",
)
# What would lead git to another repository than the one that is named.
_LEFT_OUT = (
    "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR", "GIT_PREFIX", "GIT_SHALLOW_FILE",
    "GIT_CEILING_DIRECTORIES", "GIT_QUARANTINE_PATH", "GIT_ALLOW_PROTOCOL",
)  # fmt: skip
_END_WAIT = 5.0
_SILENCE = 15
"""Seconds; after three times as many ssh gives up a host that it was connected to."""
_MOST_SAID = 16 << 20
"""Characters of git's output; a hundred thousand branches with long names are fewer."""


class Transport(Protocol):
    """What moves objects."""

    def branches(self, url: str, directory: Path) -> tuple[Mapping[str, str], str | None]:
        """The branches of a remote and the one that its HEAD names."""
        ...

    def fetch(
        self, url: str, branch: str, quarantine: Path, seconds: float | None = None
    ) -> str | None:
        """Bring a branch into a quarantine as ``FETCHED``; its commit, None if it is not there.

        ``seconds`` is how long it may take.
        """
        ...

    def push(self, url: str, branch: str, commit: str, git_dir: Path) -> None:
        """Set a branch of a remote to a commit that is ahead of it."""
        ...


def find_transport() -> Transport:
    """The user's git if it is installed, else dulwich; for one command, which has a time limit."""
    program = shutil.which("git")
    if program is not None:
        return GitTransport(program)
    from tweakio.sync.wire import DulwichTransport

    return DulwichTransport()


class GitTransport:
    """The user's own git.

    Args:
        program: its path.
        seconds: how long all that it is asked for may take, from now on; see ``limit``.
    """

    def __init__(self, program: str = "git", seconds: float | None = None) -> None:
        self._program = program
        self._deadline = Deadline(limit() if seconds is None else seconds)

    def branches(self, url: str, directory: Path) -> tuple[Mapping[str, str], str | None]:
        """See ``Transport``."""
        options = ["--symref", *self._there(url, "upload-pack")]
        done = self._run(["ls-remote", *options, "--", url, "HEAD", "refs/heads/*"], directory, url)
        if done.returncode:
            raise unreachable(done.stderr, url)
        branches: dict[str, str] = {}
        named = None
        for line in done.stdout.splitlines():
            value, _, name = line.partition("\t")
            if name == "HEAD" and value.startswith("ref: refs/heads/"):
                named = value[len("ref: refs/heads/") :]
            elif name.startswith("refs/heads/"):
                branches[name[len("refs/heads/") :]] = value
        return branches, named

    def fetch(
        self, url: str, branch: str, quarantine: Path, seconds: float | None = None
    ) -> str | None:
        """See ``Transport``."""
        refspec = f"+refs/heads/{branch}:{FETCHED}"
        options = ["--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--no-auto-gc"]
        options += self._there(url, "upload-pack")
        fetch = ["fetch", "--quiet", *options, "--", url, refspec]
        done = self._run(fetch, quarantine, url, seconds)
        if done.returncode:
            if "couldn't find remote ref" in done.stderr:
                return None
            raise _failed_fetch(done.stderr, url)
        found = self._run(["rev-parse", "--verify", "--quiet", FETCHED], quarantine, url)
        if found.returncode:
            # Git leaves such a ref out and says so, but does not fail.
            raise _failed_fetch(done.stderr or "shallow", url)
        if url.lower().startswith("https:"):
            self._check_packs(quarantine, url)
        return found.stdout.strip()

    def _check_packs(self, quarantine: Path, url: str) -> None:
        """Check what came: from a server that only hands out files git takes packs unchecked."""
        checked = str(quarantine / "checked.idx")
        for pack in sorted((quarantine / "objects" / "pack").glob("*.pack")):
            done = self._run(["index-pack", "--strict", "-o", checked, str(pack)], quarantine, url)
            if done.returncode:
                raise _failed_fetch(f"fsck: {done.stderr}", url)
            os.unlink(checked)

    def push(self, url: str, branch: str, commit: str, git_dir: Path) -> None:
        """See ``Transport``."""
        options = ["--porcelain", "--no-verify", "--no-follow-tags", "--no-signed"]
        options += self._there(url, "receive-pack")
        done = self._run(
            ["push", *options, "--", url, f"{commit}:refs/heads/{branch}"], git_dir, url
        )
        if done.returncode == 0:
            if words := said_there(done.stderr):
                log.info("%s says: %s", shown_url(url), words)
            return
        for line in done.stdout.splitlines():
            if line.startswith("!"):
                if "shallow update" in line:
                    raise cut_here(url)
                reason = line.rpartition("\t")[2]
                if "(remote failed to report status)" in reason:
                    break  # it was cut before the host answered
                raise refused(reason, done.stderr, url)
        raise unreachable(done.stderr, url)

    def _there(self, url: str, service: str) -> list[str]:
        """What makes git run the other end, if that is on this machine, without its settings."""
        if not is_local(url):
            return []
        settings = [part for setting in _SETTINGS_THERE for part in ("-c", setting)]
        return [f"--{service}={shlex.join([self._program, *settings, service])}"]

    def _run(
        self, arguments: list[str], git_dir: Path, url: str, seconds: float | None = None
    ) -> subprocess.CompletedProcess[str]:
        check_url(url)
        settings = [part for setting in _SETTINGS for part in ("-c", setting)]
        command = [self._program, *settings, f"--git-dir={git_dir}", *arguments]
        # Nobody is there who could answer: git and ssh get no terminal to ask at.
        alone = not _can_answer()
        environment = self._environment(git_dir, alone=alone)
        process: subprocess.Popen[str] | None = None
        late = threading.Event()
        timer: threading.Timer | None = None
        left = self._deadline.left()
        most = left if seconds is None else min(left, seconds)
        try:
            # With a session of its own git gets no Ctrl-C, and would outlive one that came between
            # its start and the note of it.
            with children.exit_codes_kept():
                with interrupts.held_back() as mask:
                    process = _start(command, git_dir, environment, alone=alone, mask=mask)
                timer = threading.Timer(most, _end_late, (process, late, alone))
                timer.daemon = True
                timer.start()
                out, err = _Said(process).all()
        finally:
            if timer is not None:
                timer.cancel()
            if process is not None:
                _end(process, alone=alone)
        if late.is_set():
            raise too_late(url, seconds if most == seconds else self._deadline.seconds)
        if len(out) > _MOST_SAID or len(err) > _MOST_SAID:
            raise RemoteError(
                f"{shown_url(url)} sends more than anybody can read",
                hint="a repository of profiles has one branch; check the address",
            )
        log.debug("git %s: %d: %s", arguments[0], process.returncode, clean(err))
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def _environment(self, git_dir: Path, *, alone: bool) -> dict[str, str]:
        environment = child_environment(os.environ)
        kept = {key: value for key, value in environment.items() if key not in _LEFT_OUT}
        kept["LC_ALL"] = "C"
        # The configuration at the other end of a path could name what to fetch from, and by what.
        kept["GIT_NO_LAZY_FETCH"] = "1"
        if alone:
            kept["GIT_TERMINAL_PROMPT"] = "0"
            # A window that asks, of a desktop that nobody sits at; who means it says "force".
            if kept.get("SSH_ASKPASS_REQUIRE") != "force":
                kept["SSH_ASKPASS_REQUIRE"] = "never"
                kept.pop("SSH_ASKPASS", None)
        own = {"GIT_SSH_COMMAND", "GIT_SSH"} & kept.keys()
        if not own and not self._has_ssh_command(git_dir, kept):
            kept["GIT_SSH_COMMAND"] = (
                f"{ssh_command()} -o BatchMode=yes" if alone else ssh_command()
            )
        return kept

    def _has_ssh_command(self, git_dir: Path, environment: Mapping[str, str]) -> bool:
        """Whether the user's configuration says how to run ssh; that is not overruled."""
        with children.exit_codes_kept():
            done = subprocess.run(
                [self._program, f"--git-dir={git_dir}", "config", "core.sshCommand"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
                env=environment,
                cwd=git_dir,
            )
        return done.returncode == 0


def _can_answer() -> bool:
    """Whether a person is at the terminal whom git and ssh may ask."""
    if sys.stdin is None or sys.stdin.closed or not sys.stdin.isatty():
        return False
    if os.name != "posix":
        return True
    try:
        # What reads from the terminal in the background is stopped, and would be for ever.
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except OSError:
        return False


def ssh_command() -> str:
    """An ssh that notices a host that says nothing."""
    silence = max(min(_SILENCE, int(limit())), 1)
    return f"ssh -o ConnectTimeout={silence} -o ServerAliveInterval={silence}"


class _Said:
    """What git says on both pipes; it is killed when it says more than is read of it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._said = ["", ""]
        # Both have to be read at once, or git waits for the one that is not.
        self._beside = threading.Thread(target=self._read, args=(1,), daemon=True)
        self._beside.start()

    def all(self) -> tuple[str, str]:
        """All of it, once git has ended."""
        self._read(0)
        children.require_exit_code(self._process)
        self._process.wait()
        self._beside.join()
        return self._said[0], self._said[1]

    def _read(self, index: int) -> None:
        pipe = (self._process.stdout, self._process.stderr)[index]
        assert pipe is not None
        with pipe:
            self._said[index] = pipe.read(_MOST_SAID + 1)
            if len(self._said[index]) > _MOST_SAID:
                self._process.kill()


def _start(
    command: list[str],
    git_dir: Path,
    environment: dict[str, str],
    *,
    alone: bool,
    mask: Collection[int] | None,
) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd=git_dir,
            encoding="utf-8",
            errors="replace",
            start_new_session=alone,
            **_process_options(mask),
        )
    except OSError as error:
        if error.errno in _LIMITS:
            raise storage_error(error, "run git", ours=False) from error
        raise RemoteError(
            f"git cannot be run: {error.strerror}", hint="check your installation of git"
        ) from None


def _end_late(process: subprocess.Popen[str], late: threading.Event, alone: bool) -> None:  # noqa: FBT001 - a timer's
    late.set()
    _end(process, alone=alone)


def too_late(url: str, seconds: float) -> RemoteError:
    """What to raise if a remote takes longer than it may."""
    return RemoteError(
        f"waited {seconds:.0f} seconds for {shown_url(url)}, which was not done by then",
        hint=longer(),
    )


def _end(process: subprocess.Popen[str], *, alone: bool) -> None:
    """End a git that still runs, because of Ctrl-C or a signal, with the ssh that it started."""
    if process.poll() is None:
        try:
            if alone and os.name == "posix":
                os.killpg(process.pid, signal.SIGTERM)
            else:
                process.terminate()
            process.wait(_END_WAIT)
        except (subprocess.TimeoutExpired, OSError):
            process.kill()
            process.wait()


def _process_options(mask: Collection[int] | None) -> dict[str, Any]:
    """For git.

    Args:
        mask: the signals that it holds back.
    """
    if os.name != "posix":
        return {}
    import resource

    def prepare() -> None:
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        most = MOST_BYTES if hard == resource.RLIM_INFINITY else min(MOST_BYTES, hard)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))

    return {"umask": 0o077, "preexec_fn": prepare}


def _failed_fetch(text: str, url: str) -> RemoteError | HostileContentError:
    if "shallow" in text:
        return RemoteError(
            f"the history of {shown_url(url)} is cut short (a shallow clone)",
            hint="complete it there: git fetch --unshallow",
        )
    if "fsck" in text or "index-pack" in text or "bad object" in text or "malformed" in text:
        return HostileContentError(
            f"{shown_url(url)} sent objects that git refuses: {clean(text)}",
            hint="nothing was changed; look at it on the remote with 'git fsck'",
        )
    return unreachable(text, url)


def cut_here(url: str) -> RemoteError:
    """What to raise if a remote would get a history without its beginning."""
    return RemoteError(
        f"the history here is cut short, and {shown_url(url)} does not have what is before it",
        hint="run 'tweakio repo doctor', which says where; nothing was sent",
    )
