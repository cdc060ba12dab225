"""Planted secrets are looked for everywhere that they must not be, after all kinds of commands."""

from __future__ import annotations

import base64
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.cli_helpers import COMMAND, environment
from tests.invariants import git

# One for each kind: a cookie, a token, a password of an import, browser data.
MARKERS = ["MARKER-cookie-8c1f", "MARKER-token-77ab", "MARKER-import-4e0d", "MARKER-data-19fe"]
PASSPHRASE = "MARKER-passphrase-b52c"
PROXY = "MARKER-proxy-5d2e"
SEALED = "MARKER-sealed-proxy-91aa"


def needles(secrets: list[str]) -> list[bytes]:
    """Secrets as they are, and as hexadecimal and base64, which differs by where it begins."""
    found = []
    for secret in map(str.encode, secrets):
        found += [secret, secret.hex().encode()]
        found += [base64.b64encode(bytes(n) + secret)[n + (n > 0) : -4] for n in range(3)]
    return found


def objects(repository: Path) -> bytes:
    """Every object of a repository, loose or packed, also those that nothing names."""
    done = git(repository, "cat-file", "--batch", "--batch-all-objects", "--buffer")
    assert done.returncode == 0
    # And what is no object: names, logs, messages, settings. The trash and the snapshots hold
    # data on purpose, and are searched by themselves where they must be sealed.
    directory = repository / ".git" if (repository / ".git").is_dir() else repository
    others = [
        path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and "trash" not in path.parts
    ]
    return done.stdout + b"\n".join(others)


def files(directory: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())


def hits(content: bytes, secrets: list[str]) -> list[bytes]:
    return [needle for needle in needles(secrets) if needle in content]


class Watch:
    """The command lines and environments of all processes below this one."""

    def __init__(self) -> None:
        self.seen = b""
        self.environments = b""
        self.rounds = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        known: set[bytes] = set()
        environments: set[bytes] = set()
        while not self._end.wait(0.003):
            self.rounds += 1
            self._below(os.getpid(), known, environments)
        self.seen = b"\n".join(known)
        self.environments = b"\n".join(environments)

    def _below(self, pid: int, known: set[bytes], environments: set[bytes]) -> None:
        try:
            tasks = os.listdir(f"/proc/{pid}/task")
            children = [
                int(child)
                for task in tasks
                for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split()
            ]
        except OSError:
            return
        for child in children:
            try:
                known.add(Path(f"/proc/{child}/cmdline").read_bytes())
                environments.add(Path(f"/proc/{child}/environ").read_bytes())
            except OSError:
                continue
            self._below(child, known, environments)


class Machine:
    """Commands with all of the log, and a place for temporary files that is searched."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.said = b""
        self.temporary = base / "temporary"
        self.temporary.mkdir(parents=True)
        self.profiles = base / "home" / "profiles"

    def run(self, *arguments: object, stdin: str = "") -> str:
        done = subprocess.run(
            [*COMMAND, "-vv", *map(str, arguments)],
            input=stdin.encode(),
            capture_output=True,
            env=environment(
                self.base,
                TMPDIR=str(self.temporary),
                TWEAKIO_TEST_PROXY=PROXY,
                PYTHON_KEYRING_BACKEND="keyring.backends.fail.Keyring",
            ),
            cwd=self.base,
        )
        self.said += done.stdout + done.stderr
        assert done.returncode == 0, (arguments, done.stderr.decode())
        return done.stdout.decode()

    def python(self, source: str) -> None:
        subprocess.run(
            [sys.executable, "-c", source], env=environment(self.base), check=True, cwd=self.base
        )

    def identity(self) -> str:
        """The secret half, from wherever the vault keeps it."""
        for path in self.base.rglob("*"):
            if path.is_file() and self.profiles not in path.parents:
                for line in path.read_bytes().splitlines():
                    if line.startswith(b"AGE-SECRET-KEY-"):
                        return line.decode()
        raise AssertionError("there is no identity")


def session(*values: str) -> str:
    cookies = [{"name": "c", "value": values[0], "domain": "web.telegram.org", "path": "/"}]
    stored = [{"name": "t", "value": value} for value in values]
    origins = [{"origin": "https://web.telegram.org", "localStorage": stored}]
    return json.dumps({"cookies": cookies, "origins": origins})


def plant(profile: Path) -> None:
    (profile / "session.json").write_text(session(*MARKERS[:2]))
    default = profile / "browser_profile" / "Default"
    default.mkdir(parents=True, exist_ok=True)
    (profile / "browser_profile" / "Local State").write_text("{}")
    with sqlite3.connect(default / "Cookies") as cookies:
        cookies.execute("create table cookies (value)")
        cookies.execute("insert into cookies values (?)", (MARKERS[3],))
    cookies.close()


@pytest.mark.no_cover  # what it runs is tried elsewhere; it looks at what is left behind
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc")
def test_no_secret_is_anywhere(tmp_path):
    here = Machine(tmp_path / "here")
    there = Machine(tmp_path / "there")
    bare = tmp_path / "bare.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(bare)], check=True)
    (here.base / "state.json").write_text(session(MARKERS[2]))
    with Watch() as watch:
        here.run("profile", "create", "a", "b", "--platform", "telegram", "--proxy",
                 "http://u@127.0.0.1:9", "--proxy-password", "env:TWEAKIO_TEST_PROXY")  # fmt: skip
        plant(here.profiles / "a")
        here.run("vault", "init")
        here.python(
            "from tweakio import ProfileManager\n"
            "with ProfileManager() as manager: manager.record_login('a')"
        )
        sealed = here.run("vault", "seal", stdin=f"{SEALED}\n").strip()
        here.run("profile", "set", "a", "--proxy", "http://u@127.0.0.1:9",
                 "--proxy-password", sealed)  # fmt: skip
        here.run("vault", "reseal")
        here.run("profile", "export", "a", "f.age", "--with-session", "--passphrase",
                 stdin=f"{PASSPHRASE}\n")  # fmt: skip
        here.run("profile", "import", "f.age", "--as", "again", stdin=f"{PASSPHRASE}\n")
        here.run("profile", "import", "--from-storage-state", "state.json", "--as", "came",
                 "--platform", "telegram")  # fmt: skip
        here.run("profile", "clone", "a", "second", "--with-session")
        here.run("profile", "snapshot", "create", "a")
        here.run("profile", "delete", "a", "--force")
        here.run("profile", "undo")
        here.run("profile", "recover", "again", "--mode", "hard")
        here.run("repo", "remote", "add", "origin", bare)
        here.run("repo", "push")
        there.run("repo", "clone", bare)
        there.run("profile", "set", "b", "--note", "of there")
        there.run("repo", "push")
        here.run("repo", "pull")
    identity = here.identity()
    secrets = [*MARKERS, PASSPHRASE, PROXY, SEALED, identity]
    here.python(
        "from tweakio import ProfileManager\n"
        "with ProfileManager() as manager:\n"
        "    profile = manager.get_profile('a')\n"
        "    opener = manager.vault.opener('a', profile.created_at)\n"
        "    key = 'browser.proxy_password'\n"
        f"    assert opener(profile.browser['proxy_password'], key) == {SEALED!r}"
    )
    # They are where they belong, and sealed in history, so there is something to be found.
    assert MARKERS[0].encode() in (here.profiles / "a" / "session.json").read_bytes()
    assert MARKERS[2].encode() in (here.profiles / "came" / "session.json").read_bytes()
    listed = git(bare, "ls-tree", "-r", "--name-only", "main").stdout.split()
    assert {f"{name}/session.json.age".encode() for name in ("a", "came", "second")} <= set(listed)
    assert MARKERS[3].encode() in files(here.profiles / "second" / "browser_profile")
    assert watch.rounds > 50
    assert b"profile\0export" in watch.seen
    for machine in (here, there):
        assert hits(objects(machine.profiles), secrets) == []
        assert b"DEBUG" in machine.said or len(machine.said) > 500
        assert len(machine.said.splitlines()) > 5
        assert hits(machine.said, secrets) == []
        assert hits(files(machine.temporary), secrets) == []
    assert hits(objects(bare), secrets) == []
    assert hits(watch.seen, secrets) == []
    # Whoever writes env:NAME has put the proxy's password there; nothing else may come to it.
    assert b"TWEAKIO_HOME=" in watch.environments
    assert hits(watch.environments, [s for s in secrets if s != PROXY]) == []
    assert hits((here.base / "f.age").read_bytes(), secrets) == []


def test_the_search_finds_what_is_planted(tmp_path):
    repository = tmp_path / "planted"
    subprocess.run(["git", "init", "-q", "-b", "main", str(repository)], check=True)
    assert hits(objects(repository), MARKERS) == []
    (repository / "file").write_text("x" * 5000 + MARKERS[0])
    git(repository, "hash-object", "-w", "file")  # loose, and nothing names it
    assert hits(objects(repository), MARKERS) == [MARKERS[0].encode()]
    (repository / "other").write_text(base64.b64encode(b"ab" + MARKERS[1].encode()).decode())
    for arguments in (
        ("add", "."),
        ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"),
        ("gc", "-q"),
    ):
        assert git(repository, *arguments).returncode == 0
    shutil.rmtree(repository / ".git" / "logs", ignore_errors=True)
    found = objects(repository)  # packed
    assert hits(found, [MARKERS[0]])
    assert hits(found, [MARKERS[1]])
    assert not hits(found, [MARKERS[2]])
    with Watch() as watch:
        waiting = "import sys; print(flush=True); sys.stdin.read()"
        command = [sys.executable, "-c", waiting, MARKERS[3]]
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PLANTED": MARKERS[2]},
        ) as process:
            process.stdout.readline()
            before = watch.rounds
            while watch.rounds < before + 3:
                time.sleep(0.005)  # until the other thread has looked
            process.stdin.close()
    assert hits(watch.seen, MARKERS) == [MARKERS[3].encode()]
    assert hits(watch.environments, MARKERS) == [MARKERS[2].encode()]
