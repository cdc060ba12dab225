"""A home with everything that can be damaged, and what plain git can still read of one."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

from tweakio import ProfileManager

PROFILES = ("alpha", "beta", "delta", "gamma")
LAYOUTS = ("as made", "loose", "packed")
_HEX = re.compile(r"[0-9a-f]{40}")
_NONE = "0" * 40
_PERSON = ("-c", "user.name=Tester", "-c", "user.email=tester@example.com")


def git(home: Path, *arguments: str, data: bytes | None = None) -> str:
    """Run git as a person does, without its checks of what they commit."""
    done = subprocess.run(
        [
            "git",
            *_PERSON,
            "-c",
            "core.hooksPath=/nowhere",
            "-C",
            str(home / "profiles"),
            *arguments,
        ],
        input=data,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"git {' '.join(arguments)}: {done.stderr.decode()}")
    return done.stdout.decode().strip()


def in_git(home: Path, *parts: str) -> Path:
    return home.joinpath("profiles", ".git", *parts)


def build(home: Path, layout: str) -> None:
    """Four profiles with browser data, one in the trash, two tags, and a person's branch."""
    with ProfileManager(home) as manager:
        for name in ("alpha", "beta", "doomed"):
            manager.create_profile(name, "whatsapp", tags=["first"])
            _fill(home, name)
        manager.update_profiles(["beta"], note="the oldest")
        manager.activate_profile("alpha")
        manager.deactivate_profile()
        manager.delete_profile("doomed")
    git(home, "tag", "plain")
    git(home, "tag", "-a", "-m", "annotated", "annotated", "HEAD~1")
    _branch(home)
    with ProfileManager(home) as manager:
        for name in ("gamma", "delta"):
            manager.create_profile(name, "telegram")
            _fill(home, name)
        manager.update_profiles(["beta"], note="the last but one")
        manager.update_profiles(["alpha"], note="the last")
    if layout != "as made":
        objects = in_git(home, "objects")
        packs = [path.read_bytes() for path in sorted((objects / "pack").glob("*.pack"))]
        for path in (objects / "pack").iterdir():
            path.unlink()
        for pack in packs:
            git(home, "unpack-objects", "-q", data=pack)
    if layout == "packed":
        git(home, "repack", "-q", "-a", "-d", "-k", "--write-midx")
        git(home, "commit-graph", "write", "--reachable")
        git(home, "pack-refs", "--all")


def _fill(home: Path, name: str) -> None:
    directory = home / "profiles" / name
    (directory / "session.json").write_text(f'{{"of": "{name}"}}')
    (directory / "browser_profile" / "Cookies").write_bytes(bytes(range(256)) + name.encode())


def _branch(home: Path) -> None:
    """Two commits of a person that are not in the history of main."""
    index = {**os.environ, "GIT_INDEX_FILE": str(home / "index")}
    where = ["git", "-C", str(home / "profiles")]
    parent = git(home, "rev-parse", "HEAD~2")
    for number in range(2):
        blob = git(home, "hash-object", "-w", "--stdin", data=b"person's %d\n" % number)
        subprocess.run([*where, "read-tree", parent], check=True, env=index)
        entry = f"100644,{blob},notes.txt"
        subprocess.run(
            [*where, "update-index", "--add", "--cacheinfo", entry], check=True, env=index
        )
        tree = subprocess.run(
            [*where, "write-tree"], check=True, env=index, capture_output=True, text=True
        ).stdout.strip()
        parent = git(home, "commit-tree", tree, "-p", parent, "-m", f"person's {number}")
    git(home, "branch", "aside", parent)
    (home / "index").unlink()


def everything(home: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """All about every file: what doctor without --fix must leave as it is."""
    found = {}
    for directory, names, files in os.walk(home):
        for name in (*names, *files):
            path = os.path.join(directory, name)
            status = os.lstat(path)
            content = Path(path).read_bytes() if stat.S_ISREG(status.st_mode) else b""
            found[path] = (status.st_mode, status.st_mtime_ns, status.st_ino, content)
    return found


class Reading:
    """What plain git reads of an object directory, whatever else of the repository is broken.

    Args:
        home: whose; only read.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._place = Path(tempfile.mkdtemp())
        subprocess.run(["git", "init", "-q", "--bare", str(self._place)], check=True)
        self._environment = {
            **os.environ,
            "GIT_OBJECT_DIRECTORY": str(in_git(home, "objects")),
            "GIT_NO_REPLACE_OBJECTS": "1",
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._objects: dict[str, tuple[str, bytes] | None] = {}
        self._whole: dict[str, bool] = {}
        self._log = (self._place / "log").open("wb")

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        self._log.close()
        shutil.rmtree(self._place)

    def object(self, name: str) -> tuple[str, bytes] | None:
        """Kind and body of an object whose bytes are what its name says; else None."""
        if name not in self._objects:
            self._objects[name] = self._read(name)
        return self._objects[name]

    def _read(self, name: str) -> tuple[str, bytes] | None:
        if self._process is None:
            self._process = subprocess.Popen(
                ["git", "-C", str(self._place), "cat-file", "--batch"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=self._environment,
            )
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(name.encode() + b"\n")
            stdin.flush()
            header = stdout.readline().decode().split()
            if len(header) == 3:
                body = stdout.read(int(header[2]) + 1)[:-1]
                stated = f"{header[1]} {header[2]}\0".encode()
                if hashlib.sha1(stated + body).hexdigest() == name:
                    return header[1], body
                return None
            if header:
                return None
        except BrokenPipeError:
            pass
        # It died of a damaged object.
        self._process.kill()
        self._process.communicate()
        self._process = None
        return None

    def is_whole(self, name: str) -> bool:
        """Whether a tree or blob and all below can be read."""
        if name not in self._whole:
            found = self.object(name)
            whole = found is not None
            if found is not None and found[0] == "tree":
                body, at = found[1], 0
                while at < len(body):
                    zero = body.index(b"\0", at)
                    whole &= self.is_whole(body[zero + 1 : zero + 21].hex())
                    at = zero + 21
            self._whole[name] = whole
        return self._whole[name]

    def commits(self, tips: set[str]) -> set[str]:
        """The commits that can be read with all their files, reached from these tips."""
        found, seen, todo = set(), set(tips), list(tips)
        while todo:
            name = todo.pop()
            item = self.object(name)
            if item is None or item[0] not in ("commit", "tag"):
                continue
            lines = item[1].decode("utf-8", "replace").partition("\n\n")[0].split("\n")
            if item[0] == "tag":
                more = [lines[0].split()[1]]
            else:
                more = [line.split()[1] for line in lines if line.startswith("parent ")]
                if self.is_whole(lines[0].split()[1]):
                    found.add(name)
            todo += [one for one in more if one not in seen]
            seen.update(more)
        return found


def tips(home: Path, *, reflogs: bool) -> set[str]:
    """What refs, and reflogs if wanted, name, as far as their files can be read."""
    found: set[str] = set()
    git_dir = in_git(home)
    places = [git_dir / "refs", *([git_dir / "logs"] if reflogs else [])]
    files = [git_dir / "HEAD", git_dir / "packed-refs"]
    for place in places:
        files += [path for path in place.rglob("*") if path.is_file()] if place.is_dir() else []
    for path in files:
        if path.is_file():
            text = path.read_bytes().decode("utf-8", "replace")
            found.update(word for word in re.split(r"[\s^]", text) if _HEX.fullmatch(word))
    return found - {_NONE}


def readable(home: Path, *, reflogs: bool = True) -> set[str]:
    """The commits of a home that plain git can read whole from its refs and reflogs."""
    reading = Reading(home)
    try:
        return reading.commits(tips(home, reflogs=reflogs))
    finally:
        reading.close()
