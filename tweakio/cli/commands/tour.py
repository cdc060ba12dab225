"""``tweakio tour``: the main job on real profiles, in a home that is thrown away."""

import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from tweakio.cli.output import emit, is_terminal

__all__ = ["tour"]

# Runs in a child: the same deletion, killed in the moment before it takes effect.
_KILLED_DELETE = """\
import os, signal, sys
from tweakio.cli import main
from tweakio.store.refs import Refs
def kill(*_):
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
Refs.put_in_place = kill
sys.exit(main(sys.argv[1:]))
"""
_MARKER = "Default/Local Storage/login.bin"


def tour(
    ctx: typer.Context,  # noqa: ARG001 - Typer's first parameter everywhere
    *,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the home to look around in.")] = False,
) -> None:
    """Show what tweakio does, in a throw-away home."""
    home = Path(tempfile.mkdtemp(prefix="tweakio-tour-"))
    try:
        guide = _Tour(home)
        guide.run()
        if guide.failed:
            emit(f"The tour failed: {'; '.join(guide.failed)}.\n")
        else:
            emit("Every step did what it says.\n")
    finally:
        if not keep:
            shutil.rmtree(home, ignore_errors=True)
    emit(f"The home was {home}{', and is kept' if keep else ', and is removed'}.\n")
    if guide.failed:
        raise typer.Exit(1)


class _Screen(io.StringIO):
    """Catches a command's output, in the form it has where the tour is read."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        """As the real one."""
        return self._terminal


class _Tour:
    """The steps, and what did not hold in them."""

    def __init__(self, home: Path) -> None:
        self.terminal = is_terminal()
        self.home = home
        self.failed: list[str] = []

    def run(self) -> None:
        """All steps."""
        self.say("Two accounts, each with browser data of its own:")
        self.step("profile create support_bot sales_team --platform whatsapp --tag tour")
        self.put_data("support_bot")
        before = self.fingerprint("support_bot")
        self.say(f"browser data of support_bot: sha256 {before}\n")
        self.step("profile activate support_bot")
        self.step("profile list")
        self.say("A profile that is active is protected:")
        self.step("profile delete support_bot", expected=5)
        self.step("profile deactivate")

        self.say("kill -9 in the middle of a delete, just before it takes effect:")
        self.killed_delete("support_bot")
        output = self.step("profile list")
        self.check("support_bot" in output, "the killed delete lost the profile")
        self.show_data(before, "the killed delete lost browser data")

        self.say("A delete that is not killed, and its undo:")
        self.step("profile delete support_bot")
        self.check(self.fingerprint("support_bot") != before, "the delete deleted nothing")
        output = self.step("profile trash list")
        self.check("support_bot" in output, "the trash is empty")
        self.step("profile undo")
        self.show_data(before, "the undo lost browser data")

        self.say("Who did what, newest first; and the same as git sees it:")
        output = self.step("profile history")
        self.check("undo" in output, "the undo is not in the history")
        self.git_log()

    # What the steps are made of

    def say(self, text: str) -> None:
        emit(f"{text}\n")

    def check(self, holds: bool, complaint: str) -> None:  # noqa: FBT001 - as assert
        if not holds:
            self.failed.append(complaint)

    def step(self, line: str, expected: int = 0) -> str:
        """Run a command as a user would type it, and show what it prints."""
        from tweakio.cli import EXIT_INTERRUPTED, main

        output = _Screen(terminal=self.terminal)
        with _own_state(), redirect_stdout(output), redirect_stderr(output):
            code = main(["--home", str(self.home), *line.split()])
        if code == EXIT_INTERRUPTED:
            raise KeyboardInterrupt
        self.show(f"tweakio {line}", output.getvalue(), code)
        self.check(code == expected, f"'{line}' ended with {code}, not {expected}")
        return output.getvalue()

    def show(self, line: str, output: str, code: int) -> None:
        """A command, its output, and its exit code if that is not 0."""
        end = f"(exit code {code})\n" if code else ""
        emit(f"$ {line}\n{output}{end}\n")

    def killed_delete(self, profile_id: str) -> None:
        arguments = ["--home", str(self.home), "profile", "delete", profile_id]
        done = subprocess.run(
            [sys.executable, "-c", _KILLED_DELETE, *arguments],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
        )
        code = -done.returncode if done.returncode < 0 else done.returncode
        killed = code == getattr(signal, "SIGKILL", signal.SIGTERM)
        name = "SIGKILL" if killed else f"exit code {done.returncode}"
        emit(f"$ tweakio profile delete {profile_id}\n{done.stdout}{done.stderr}({name})\n\n")
        self.check(killed, "the delete ended before it could be killed")

    def git_log(self) -> None:
        git = shutil.which("git")
        if git is None:
            self.say("(git is not installed; 'tweakio profile history' is the same)\n")
            return
        repository = self.home / "profiles"
        environment = {key: value for key, value in os.environ.items() if key[:4] != "GIT_"}
        done = subprocess.run(
            [git, "-C", str(repository), "--no-pager", "log", "--oneline", "--no-decorate"],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=environment,
        )
        self.show("git log --oneline", done.stdout + done.stderr, done.returncode)
        self.check(done.returncode == 0, "git cannot read the repository")
        self.check("undo: delete support_bot" in done.stdout, "git does not see the undo")

    def data(self, profile_id: str) -> Path:
        return self.home / "profiles" / profile_id / "browser_profile" / _MARKER

    def put_data(self, profile_id: str) -> None:
        path = self.data(profile_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"what a browser keeps of a login\n" * 2048)

    def fingerprint(self, profile_id: str) -> str:
        """A hash of the browser data; empty if it is gone."""
        try:
            return hashlib.sha256(self.data(profile_id).read_bytes()).hexdigest()[:16]
        except OSError:
            return ""

    def show_data(self, before: str, complaint: str) -> None:
        now = self.fingerprint("support_bot")
        same = "the same as before" if now == before else f"it was {before}"
        self.say(f"browser data of support_bot: sha256 {now or 'gone'}, {same}\n")
        self.check(now == before, complaint)


@contextmanager
def _own_state() -> Iterator[None]:
    """The state of the outer run must not be taken for that of a step."""
    from tweakio.cli import context

    outer = context.current()
    try:
        yield
    finally:
        if outer is not None:
            context.resume(outer)
