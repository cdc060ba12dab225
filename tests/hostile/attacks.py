"""What somebody who may write into a home could prepare there."""

from __future__ import annotations

import json
import os
import socket
import stat
import struct
from collections.abc import Callable
from hashlib import sha1
from pathlib import Path

from tests.hostile import homes

__all__ = ["ATTACKS", "Canaries"]

Attack = Callable[[Path, Path], None]
_GIT = "profiles/.git"
_DIRECTORIES = (
    *(f"{_GIT}/{name}" for name in ("objects", "objects/pack", "refs", "refs/heads", "logs")),
    *(f"{_GIT}/{name}" for name in ("logs/refs", "logs/refs/heads", "hooks", "tweakio")),
    *(f"{_GIT}/tweakio/{name}" for name in ("trash", "rescued", "staging", "tmp", "work", "locks")),
    f"{_GIT}/tweakio/cache",
    "profiles/alpha", "profiles/beta/browser_profile", "profiles/alpha/cache",
)  # fmt: skip
_FILES = (
    *(f"{_GIT}/{name}" for name in ("HEAD", "config", "index", "packed-refs", "logs/HEAD")),
    *(f"{_GIT}/{name}" for name in ("refs/heads/main", "logs/refs/heads/main", "hooks/pre-commit")),
    *(f"{_GIT}/tweakio/{name}" for name in ("journal.json", "packs.json")),
    *(f"{_GIT}/tweakio/cache/{name}" for name in ("head", "profiles")),
    *(f"{_GIT}/tweakio/locks/{name}" for name in ("repository.lock", "line", "marker")),
    *(f"profiles/{name}" for name in ("alpha/metadata.json", "alpha/fingerprint.json")),
    *(f"profiles/{name}" for name in ("alpha/session.json", "alpha/.lock", "beta/.lock")),
    "profiles/.gitignore",
)  # fmt: skip
_HARD = tuple(path for path in _FILES if path != f"{_GIT}/hooks/pre-commit")


class Canaries:
    """Files and directories outside of a home, and whether anybody touched them.

    Args:
        outside: an empty directory.
    """

    def __init__(self, outside: Path) -> None:
        self.outside = outside
        for name in ("canary", "metadata.json", "session.json", "entry.json", "main", "HEAD"):
            (outside / name).write_text(f"outside {name}\n")
        (outside / "browser_profile").mkdir()
        (outside / "browser_profile" / "Cookies").write_text("outside cookies")
        (outside / "run").write_text(f"#!/bin/sh\ntouch {outside}/executed\n")
        (outside / "run").chmod(0o755)

    def arm(self) -> None:
        """From now on nothing may change."""
        for directory, _, files in os.walk(self.outside):
            for name in (*files, "."):
                # Read once it has an access time that is not older than its content.
                os.utime(os.path.join(directory, name), (1_000_000_000, 1_000_000_001))
        self._before = self._look()

    def _look(self) -> dict[str, tuple[object, ...]]:
        found: dict[str, tuple[object, ...]] = {}
        for directory, names, files in os.walk(self.outside):
            names.sort()
            for name in (*files, "."):
                path = os.path.join(directory, name)
                status = os.lstat(path)
                # A hard link is the home's own file as well, and may be read there.
                read = status.st_atime_ns if name != "hard" else 0
                found[path] = (status.st_mode, status.st_mtime_ns, status.st_ino, status.st_size)
                found[path] += (read,) if name != "." else ()
        for path in list(found):
            if stat.S_ISREG(os.lstat(path).st_mode):
                found[path] += (_read_unseen(path),)
        return found

    def touched(self) -> list[str]:
        """What is not as it was."""
        after = self._look()
        return sorted(
            f"{path}: {self._before.get(path)} -> {after.get(path)}"
            for path in {*self._before, *after}
            if self._before.get(path) != after.get(path)
        )


def _read_unseen(path: str) -> bytes:
    """The content, without changing when it was last read."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOATIME", 0))
    with os.fdopen(descriptor, "rb") as file:
        return file.read(1 << 20)


def _link(path: str) -> Attack:
    """A link to something of the same kind outside, with the real content there."""

    def attack(home: Path, outside: Path) -> None:
        target = home / path
        moved = outside / "planted"
        target.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(target):
            target.rename(moved)
        else:
            moved.mkdir()
        target.symlink_to(moved)

    return attack


def _hard(path: str) -> Attack:
    def attack(home: Path, outside: Path) -> None:
        target = home / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            target.write_bytes(b"")
        os.link(target, outside / "hard")

    return attack


def _special(path: str, make: Callable[[Path], object]) -> Attack:
    def attack(home: Path, _: Path) -> None:
        target = home / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            target.rename(target.with_name("moved-away"))
        else:
            target.unlink(missing_ok=True)
        make(target)

    return attack


def _socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # the address of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 30)


def _nested(path: Path) -> None:
    path.write_bytes(b"[" * 100_000 + b"]" * 100_000)


def _journal(**changes: object) -> Attack:
    """A journal with a right checksum that says to do something elsewhere."""

    def attack(home: Path, outside: Path) -> None:
        head = homes.git(home / "profiles", "rev-parse", "HEAD")
        value = {
            "version": 1, "branch": "refs/heads/main", "old": head, "new": head,
            "reflog": f"{head} {head} A <b> 1 +0000\tx\n", "profiles": [], "root_files": [],
            "moves": [], "purge": [],
        }  # fmt: skip
        text = json.dumps({**value, **changes}).replace("OUTSIDE", str(outside)).encode()
        path = home / f"{_GIT}/tweakio/journal.json"
        path.write_bytes(sha1(text).hexdigest().encode() + b"\n" + text + b"\n")

    return attack


def _write(path: str, content: str) -> Attack:
    def attack(home: Path, outside: Path) -> None:
        target = home / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(
            content.replace("OUTSIDE", str(outside)).encode("utf-8", "surrogatepass")
        )

    return attack


def _metadata(**changes: object) -> Attack:
    def attack(home: Path, _: Path) -> None:
        path = home / "profiles/alpha/metadata.json"
        value = json.loads(path.read_bytes()) | changes
        path.write_bytes(json.dumps(value).encode())

    return attack


def _commit(mode: bytes, name: bytes, *, blob: bytes | None = None, message: str = "x") -> Attack:
    """A commit whose root tree has an entry that git itself would not have made."""

    def attack(home: Path, _: Path) -> None:
        import subprocess

        profiles = home / "profiles"

        def hashed(kind: str, body: bytes) -> str:
            done = subprocess.run(
                ["git", "-C", str(profiles), "hash-object", "-t", kind, "--literally", "-w",
                 "--stdin"], input=body, capture_output=True, check=True,
            )  # fmt: skip
            return done.stdout.decode().strip()

        head = homes.git(profiles, "rev-parse", "HEAD")
        raw = subprocess.run(
            ["git", "-C", str(profiles), "cat-file", "tree", "HEAD^{tree}"],
            capture_output=True, check=True,
        ).stdout  # fmt: skip
        alpha = homes.git(profiles, "rev-parse", "HEAD:alpha")
        target = hashed("blob", blob) if blob is not None else alpha
        identity = bytes.fromhex(target)
        if mode == b"160000":
            identity = (b"40000 imitated\0" + bytes(20))[:20]
        tree = hashed("tree", raw + mode + b" " + name + b"\0" + identity)
        body = (
            f"tree {tree}\nparent {head}\nauthor \x1b[31mA\u202e <b> 1700000000 +0000\n"
            f"committer A <b> 1700000000 +0000\n\n{message}\n"
        )
        commit = hashed("commit", body.encode("utf-8", "surrogatepass"))
        (profiles / ".git/refs/heads/main").write_text(f"{commit}\n")

    return attack


def _bomb(home: Path, _: Path) -> None:
    """Ten levels of trees, each with ten times the next: ten thousand million files."""
    profiles = home / "profiles"
    import subprocess

    def hashed(kind: str, body: bytes) -> bytes:
        done = subprocess.run(
            ["git", "-C", str(profiles), "hash-object", "-t", kind, "-w", "--stdin"],
            input=body, capture_output=True, check=True,
        )  # fmt: skip
        return bytes.fromhex(done.stdout.decode().strip())

    below, mode = hashed("blob", b"x"), b"100644"
    for _level in range(10):
        below = hashed("tree", b"".join(b"%b f%d\0%b" % (mode, n, below) for n in range(10)))
        mode = b"40000"
    commit = homes.git(profiles, "commit-tree", "-p", "HEAD", "-m", "bomb", below.hex())
    homes.git(profiles, "update-ref", "refs/heads/main", commit)
    (profiles / ".git/index").unlink()


def _inflating(home: Path, _: Path) -> None:
    """A loose object that says it is small and is 1 GB when it is unpacked."""
    import zlib

    stream = zlib.compressobj(1)
    pieces = [stream.compress(b"blob 10\0")]
    pieces += [stream.compress(bytes(1 << 24)) for _ in range(64)]
    data = b"".join([*pieces, stream.flush()])
    blob = homes.git(home / "profiles", "rev-parse", "HEAD:alpha/metadata.json")
    for pack in (home / _GIT / "objects/pack").iterdir():
        pack.chmod(0o600)
    path = home / _GIT / "objects" / blob[:2] / blob[2:]
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(data)


_EXECUTED = """
[core]
\tfsmonitor = OUTSIDE/run
\thooksPath = OUTSIDE
\tsshCommand = OUTSIDE/run
\tworktree = OUTSIDE
\teditor = OUTSIDE/run
\tpager = OUTSIDE/run
\tattributesFile = OUTSIDE/canary
\texcludesFile = OUTSIDE/canary
[include]
\tpath = OUTSIDE/canary
[includeIf "gitdir:/"]
\tpath = OUTSIDE/main
[filter "x"]
\tclean = OUTSIDE/run
\tsmudge = OUTSIDE/run
\tprocess = OUTSIDE/run
[diff "x"]
\ttextconv = OUTSIDE/run
\tcommand = OUTSIDE/run
[merge "x"]
\tdriver = OUTSIDE/run
[gpg]
\tprogram = OUTSIDE/run
[commit]
\tgpgSign = true
[alias]
\tstatus = !OUTSIDE/run
[credential]
\thelper = !OUTSIDE/run
"""


def _config(home: Path, outside: Path) -> None:
    path = home / _GIT / "config"
    path.write_text(path.read_text() + _EXECUTED.replace("OUTSIDE", str(outside)))
    (home / "profiles/.gitattributes").write_text("* filter=x diff=x merge=x\n")
    for name in ("pre-commit", "post-commit", "post-checkout", "reference-transaction",
                 "post-index-change", "pre-auto-gc", "fsmonitor-watchman"):  # fmt: skip
        hook = home / _GIT / "hooks" / name
        hook.write_text(f"#!/bin/sh\n{outside}/run\n")
        hook.chmod(0o755)


def _cloned(home: Path, outside: Path) -> None:
    """A clone by hand, which has none of tweakio's own files, with that config."""
    import shutil

    source = home / "profiles"
    source.rename(outside / "source")
    homes.git(outside, "clone", "-q", "--no-local", str(outside / "source"), str(home / "profiles"))
    shutil.rmtree(outside / "source")
    _config(home, outside)


def _trash_link(home: Path, outside: Path) -> None:
    """An entry that is a link, and one whose data is."""
    trash = home / _GIT / "tweakio/trash"
    record = json.dumps({"profile_id": "alpha", "kind": "deleted", "profile_created_at": None,
                         "time": "2026-01-01T00:00:00Z"})  # fmt: skip
    (outside / "entry.json").write_text(record)
    (outside / "data").mkdir()
    (outside / "data" / "session.json").write_text("{}")
    (trash / "20300101T000000-alpha-aaaaaa").symlink_to(outside)
    entry = trash / "20300101T000001-beta-bbbbbb"
    entry.mkdir()
    created = json.loads((home / "profiles/beta/metadata.json").read_bytes())["created_at"]
    (entry / "entry.json").write_text(
        json.dumps({"profile_id": "beta", "kind": "deleted", "profile_created_at": created,
                    "time": "2030-01-01T00:00:01Z"})
    )  # fmt: skip
    (entry / "data").symlink_to(outside)


def _aside(home: Path, outside: Path) -> None:
    """What looks like a git directory that a doctor has put aside."""
    (outside / "trash" / "x").mkdir(parents=True)
    (outside / "trash" / "x" / "entry.json").write_text("{}")
    (home / "damaged-git-20260101T000000-1").mkdir()
    (home / "damaged-git-20260101T000000-1" / "tweakio").symlink_to(outside)
    (home / "damaged-git-20260101T000001-1").symlink_to(outside)


def _packed_refs(home: Path, outside: Path) -> None:
    path = home / _GIT / "packed-refs"
    up = "/".join([".."] * 12)
    path.write_text(
        path.read_text()
        + f"{'a' * 40} refs/{up}{outside}/canary\n{'b' * 40} refs/heads/../../HEAD\n"
    )
    # History is damaged too, so that the doctor cleans the refs.
    head = homes.git(home / "profiles", "rev-parse", "HEAD")
    (home / _GIT / "refs/heads/main").write_text("c" * 40 + "\n")
    assert head


def _alternates(home: Path, outside: Path) -> None:
    homes.git(outside, "init", "-q", "--bare", "store.git")
    (home / _GIT / "objects/info").mkdir(exist_ok=True)
    (home / _GIT / "objects/info/alternates").write_text(f"{outside}/store.git/objects\n")


def _annotated(home: Path, _: Path) -> None:
    """Tags of tags of tags."""
    profiles = home / "profiles"
    name, kind = homes.git(profiles, "rev-parse", "HEAD"), "commit"
    store = home / _GIT / "objects"
    import zlib

    for number in range(1200):
        body = f"object {name}\ntype {kind}\ntag v1\ntagger A <b> {number} +0000\n\nx\n".encode()
        raw = b"tag %d\0" % len(body) + body
        name, kind = sha1(raw).hexdigest(), "tag"
        path = store / name[:2] / name[2:]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(zlib.compress(raw, 1))
    (home / _GIT / "refs/tags").mkdir(exist_ok=True)
    (home / _GIT / "refs/tags/v1").write_text(f"{name}\n")


def _single(home: Path, outside: Path) -> None:
    """What looks like the old layout of one account, and leads elsewhere."""
    (home / "browser_profile").symlink_to(outside / "browser_profile")
    (home / "session.json").symlink_to(outside / "session.json")


def _old_index(home: Path, _: Path) -> None:
    """An index with a path of many levels and one that leads out."""
    paths = (b"a/" * 1500 + b"b", b"../../canary", b".git/config")
    body = b""
    for path in sorted(paths):
        entry = struct.pack(
            ">10I20sH", *[0] * 6, 0o100644, 0, 0, 0, bytes(20), min(len(path), 4095)
        )
        body += entry + path + b"\0" * (8 - (62 + len(path)) % 8)
    data = struct.pack(">4sII", b"DIRC", 2, len(paths)) + body
    (home / _GIT / "index").write_bytes(data + sha1(data).digest())


_METADATA = "profiles/alpha/metadata.json"
_OUT = "../../../../outside"
ATTACKS: dict[str, Attack] = {
    **{f"link {path}": _link(path) for path in (*_DIRECTORIES, *_FILES, "profiles", _GIT)},
    **{f"hard link {path}": _hard(path) for path in _HARD},
    **{f"fifo {path}": _special(path, os.mkfifo) for path in _FILES},
    **{f"fifo {path}": _special(path, os.mkfifo) for path in _DIRECTORIES},
    **{f"socket {path}": _special(path, _socket) for path in _FILES[-6:]},
    **{f"huge {path}": _special(path, _sparse) for path in _FILES if "marker" not in path},
    **{f"nested {path}": _special(path, _nested) for path in _FILES},
    "journal moves in": _journal(moves=[{"source": "OUTSIDE/canary", "target": "stolen"}]),
    "journal moves out": _journal(moves=[{"source": f"{_OUT}/canary", "target": f"{_OUT}/x"}],
                                  new="0" * 40),
    "journal moves back": _journal(
        moves=[{"source": "x", "target": f"{_OUT}/canary"}], new="1" * 40
    ),
    "journal purges": _journal(purge=["../outside/browser_profile", "OUTSIDE"]),
    "journal branch": _journal(branch="refs/heads/../../../../../outside/main"),
    "journal profile": _journal(profiles=["../../outside", "/", "..", ".git"]),
    "journal root files": _journal(root_files=["../../outside/canary", ".git/config"]),
    "HEAD out": _write(f"{_GIT}/HEAD", "ref: refs/heads/../../../../../outside/main\n"),
    "HEAD absolute": _write(f"{_GIT}/HEAD", "ref: OUTSIDE/main\n"),
    "HEAD chain": _write(f"{_GIT}/refs/heads/main", "ref: refs/heads/main\n"),
    "HEAD chain out": _write(f"{_GIT}/refs/heads/main", "ref: refs/../../../../outside/main\n"),
    "gitfile": _write("profiles/alpha/.git", "gitdir: OUTSIDE\n"),
    "config": _config, "clone": _cloned, "trash links": _trash_link, "put aside": _aside,
    "packed refs": _packed_refs, "alternates": _alternates, "tags": _annotated,
    "single account": _single, "index paths": _old_index, "tree bomb": _bomb,
    "inflating object": _inflating,
    "escape in a note": _metadata(note="\x1b]0;owned\x07"),
    "escape in a field": _metadata(future="\x1b[2J\x9b31m\u202e"),
    "year 1": _metadata(created_at="0001-01-01T00:00:00+14:00"),
    "year 9999": _metadata(last_used="9999-12-31T23:59:59-12:00"),
    "pid": _metadata(lock_pid=10**40, status="active"),
    "id of another": _metadata(profile_id="../../outside"),
    "duplicate keys": _write(_METADATA, '{"profile_id": "alpha", "profile_id": "x"}'),
    "nul": _write(_METADATA, "\0" * 4096),
    "bom twice": _write(_METADATA, "\ufeff\ufeff{}"),
    "surrogate": _write(_METADATA, '{"profile_id": "\\ud800", "note": "\ud800"}'),
    **{
        f"tree {mode.decode()} {name!a}": _commit(mode, name, message="\x1b[31m\u202e\x9b\x07 bad")
        for mode in (b"40000", b"100644")
        for name in (b"..", b".", b".git", b".GIT", b"git~1", b".git\xe2\x80\x8c", b"a/../../x",
                     b"C:\\x", b"x:y", b"ALPHA", b"CON", b"\x1b[31m", b"\xff", b"", b"x\x9b31m")
    },
    "tree link": _commit(b"120000", b"zelda", blob=b"../../outside/canary"),
    "tree link metadata": _commit(b"120000", b"metadata.json", blob=b"/etc/passwd"),
    "submodule": _commit(b"160000", b"module"),
    "submodules file": _commit(
        b"100644", b".gitmodules", blob=b'[submodule "x"]\n\tpath = x\n\turl = --upload-pack=run\n'
    ),
}  # fmt: skip
if os.geteuid() == 0:
    ATTACKS["device"] = _special(
        "profiles/alpha/.lock", lambda path: os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))
    )
    ATTACKS["device journal"] = _special(
        f"{_GIT}/tweakio/journal.json",
        lambda path: os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5)),
    )
