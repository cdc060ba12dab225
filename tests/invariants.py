"""What holds of every home that was opened again, whatever happened to it before.

The checks read the disk and ask the real ``git``; of tweakio they use little more than what a
user has.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tweakio import ProfileManager
from tweakio.errors import HomeNotFoundError
from tweakio.layout import Layout
from tweakio.store.journal import Journal

__all__ = ["check", "data_digests", "git", "nothing_lost", "tree_digest"]

_REFLOG_LINE = re.compile(rb"([0-9a-f]{40}) ([0-9a-f]{40}) [^\n]+ <[^\n]*> \d+ [+-]\d{4}\t[^\n]*")
_LOOSE = re.compile(r"[0-9a-f]{2}/[0-9a-f]{38}")
_PACK = re.compile(
    r"(?:pack/pack-[0-9a-f]{40}\.(?:pack|idx|rev|keep)|pack/multi-pack-index"
    r"|info/(?:packs|commit-graph))"
)
# What git itself must not do while it is asked: refresh the index, page, read somebody's
# configuration, find a repository above the home.
_GIT_ENVIRONMENT = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "LC_ALL": "C",
}


def git(directory: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run git in a directory without the caller's configuration."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    return subprocess.run(
        ["git", "-C", os.fspath(directory), *arguments],
        capture_output=True,
        env={**environment, **_GIT_ENVIRONMENT},
        check=False,
    )


def _listed(home: Path) -> set[str]:
    """The commits that git lists by refs and reflogs."""
    if not (home / "profiles" / ".git").is_dir():
        return set()
    done = git(home / "profiles", "rev-list", "--all", "--reflog")
    return set(done.stdout.decode().split()) if done.returncode == 0 else set()


@contextmanager
def nothing_lost(home: Path) -> Iterator[list[str]]:
    """Assert of a ``doctor --fix`` that no commit is lost in silence.

    Each that ``git rev-list --all --reflog`` could list before it lists after, or the loss was
    announced and git can still read the commit from what was set aside.

    Yields:
        A list that takes what the doctor said.
    """
    before = _listed(home)
    said: list[str] = []
    yield said
    lost = before - _listed(home)
    if not lost:
        return
    assert "given up is " in " ".join(said), f"lost in silence: {sorted(lost)}, said: {said}"
    local = home / "profiles" / ".git" / "tweakio" / "damaged"
    kept = [*local.glob("*/objects"), *home.glob("damaged-git-*/objects")]
    kept += [
        path for top in home.glob("damaged-git-*") for path in top.glob("tweakio/damaged/*/objects")
    ]
    places = os.pathsep.join(map(os.fspath, kept))
    for commit in sorted(lost):
        done = subprocess.run(
            ["git", "-C", home / "profiles", "cat-file", "-e", commit],
            env={**os.environ, **_GIT_ENVIRONMENT, "GIT_ALTERNATE_OBJECT_DIRECTORIES": places},
            check=False,
        )
        assert done.returncode == 0, f"nothing is left of commit {commit}"


def tree_digest(path: Path) -> str:
    """One digest of a file, a link or a directory with all that is in it.

    Names, kinds and bytes count; times and permissions do not.
    """
    sha = hashlib.sha256()

    def add(place: str, name: str) -> None:
        status = os.lstat(place)
        if stat.S_ISLNK(status.st_mode):
            sha.update(f"link {name} {os.readlink(place)}\n".encode())
        elif stat.S_ISDIR(status.st_mode):
            sha.update(f"directory {name}\n".encode())
            # The repository that keeps git away is not synced: each opening makes it anew.
            left_out = {".git"} if os.path.basename(place) == "browser_profile" else set()
            for child in sorted(set(os.listdir(place)) - left_out):
                add(os.path.join(place, child), f"{name}/{child}")
        else:
            with open(place, "rb") as file:
                content = file.read()
            sha.update(f"file {name} {len(content)}\n".encode() + content)

    add(os.fspath(path), "")
    return sha.hexdigest()


def data_digests(home: Path) -> dict[str, list[str]]:
    """The session and browser data below a home: digest to the places that have it.

    Only places count where a person or a later command finds it: a profile, a complete
    entry of the trash or the rescued, and the old single-account layout.
    """
    profiles = home / "profiles"
    local = profiles / ".git" / "tweakio"
    holders = [home]
    if profiles.is_dir():
        holders += [path for path in profiles.iterdir() if path.name != ".git" and path.is_dir()]
    for attic in (local / "trash", local / "rescued"):
        if attic.is_dir():
            holders += [path / "data" for path in attic.iterdir() if _is_record(path)]
    found: dict[str, list[str]] = {}
    for holder in holders:
        for name in ("browser_profile", "session.json"):
            path = holder / name
            if os.path.lexists(path):
                digest = tree_digest(path)
                found.setdefault(digest, []).append(os.fspath(path.relative_to(home)))
    return found


def _is_record(entry: Path) -> bool:
    try:
        return isinstance(json.loads((entry / "entry.json").read_bytes()), dict)
    except (OSError, ValueError):
        return False


class _Check:
    def __init__(self, home: Path) -> None:
        self.home = home
        self.profiles = home / "profiles"
        self.git_dir = self.profiles / ".git"
        self.local = self.git_dir / "tweakio"
        self.found: list[str] = []

    def say(self, problem: str) -> None:
        self.found.append(problem)

    def git(self, *arguments: str) -> bytes:
        done = git(self.profiles, *arguments)
        if done.returncode:
            text = (done.stderr + done.stdout).decode("utf-8", "replace").strip()
            self.say(f"git {arguments[0]} ended with {done.returncode}: {text[:500]}")
        return done.stdout

    def history(self, *, lagging: bool) -> None:
        done = git(self.profiles, "fsck", "--strict", "--no-dangling")
        text = (done.stdout + done.stderr).decode("utf-8", "replace")
        noise = ("notice:", "Checking", "unreachable", "dangling")
        lines = [line for line in text.splitlines() if line and not line.startswith(noise)]
        if done.returncode or lines:
            self.say(f"git fsck --strict ended with {done.returncode}: {'; '.join(lines)[:500]}")
        head = self.git("rev-parse", "HEAD").strip()
        for name in ("HEAD", "refs/heads/main"):
            self.reflog(name, head, lagging=lagging)

    def reflog(self, name: str, head: bytes, *, lagging: bool) -> None:
        try:
            data = (self.git_dir / "logs" / name).read_bytes()
        except OSError as error:
            self.say(f"reflog of {name}: {error}")
            return
        if lagging:
            data = data[: data.rfind(b"\n") + 1]
        if not data.endswith(b"\n"):
            self.say(f"reflog of {name} ends in the middle of a line")
        last = b"0" * 40
        for line in data.splitlines():
            match = _REFLOG_LINE.fullmatch(line)
            if match is None:
                self.say(f"reflog of {name} has the line {line[:120]!r}")
                return
            if match[1] != last:
                self.say(f"reflog of {name} goes from {last[:8]!r} on with {match[1][:8]!r}")
            last = match[2]
        if last != head and not lagging:
            self.say(f"reflog of {name} ends at {last[:8]!r}, HEAD is {head[:8]!r}")

    def work_tree(self) -> None:
        status = self.git("status", "--porcelain")
        if status:
            self.say(f"git status: {status.decode('utf-8', 'replace').strip()}")
        # The index can hide a change behind a stat that fits; the bytes cannot.
        for line in self.git("ls-tree", "-r", "-z", "HEAD").split(b"\0")[:-1]:
            header, _, name = line.partition(b"\t")
            try:
                content = (self.profiles / os.fsdecode(name)).read_bytes()
            except OSError as error:
                self.say(f"tracked file: {error}")
                continue
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            if blob != header.split()[2].decode():
                self.say(f"{os.fsdecode(name)} is not as in HEAD although git says so")

    def leftovers(self, *, swept: bool, buildings: bool = True) -> None:
        garbage = ("trash", "rescued", "locks", "staging", "tmp", "work")
        skip = {self.local / name for name in garbage}
        skip.add(self.local / "incoming")  # what a fetch that was killed has left
        for directory, names, files in os.walk(self.git_dir):
            place = Path(directory)
            names[:] = [name for name in names if place / name not in skip]
            for name in files:
                if name.endswith(".lock"):
                    self.say(f"left: {(place / name).relative_to(self.git_dir)}")
        if Journal.exists(Layout(self.home)):
            self.say("left: the journal")
        for name in os.listdir(self.git_dir / "hooks"):
            if ".new" in name or name.endswith("~"):
                self.say(f"left: hooks/{name}")
        objects = self.git_dir / "objects"
        for directory, _, files in os.walk(objects):
            for name in files:
                path = os.path.relpath(os.path.join(directory, name), objects)
                if not _LOOSE.fullmatch(path) and not _PACK.fullmatch(path):
                    self.say(f"left: objects/{path}")
        if not swept:
            return
        for name in ("staging", "tmp"):
            if left := os.listdir(self.local / name):
                self.say(f"left in {name}: {left}")
        if (work := self.local / "work").is_dir() and (left := os.listdir(work)):
            self.say(f"left in work: {left}")
        for name in os.listdir(self.profiles):
            if buildings and name.startswith(".git.new"):
                self.say(f"left: {name}")
        for name in ("trash", "rescued"):
            root = self.local / name
            for entry in sorted(root.iterdir()) if root.is_dir() else []:
                if entry.is_dir() and not (_is_record(entry) and os.path.lexists(entry / "data")):
                    self.say(f"incomplete entry {name}/{entry.name}: {sorted(os.listdir(entry))}")

    def complete(self, manager: ProfileManager) -> None:
        for profile in manager.list_profiles():
            if profile.status == "corrupted":
                continue
            try:
                value = manager.metadata.load(profile.id)
            except Exception as error:
                self.say(f"profile {profile.id}: {error!r}")
                continue
            if value["profile_id"] != profile.id:
                self.say(f"profile {profile.id} has the metadata of {value['profile_id']}")
            for name in ("metadata.json", "fingerprint.json", "session.json"):
                try:
                    json.loads((profile.path / name).read_bytes())
                except (OSError, ValueError) as error:
                    self.say(f"profile {profile.id}: {name}: {error}")
            for name in ("browser_profile", "cache"):
                if not (profile.path / name).is_dir():
                    self.say(f"profile {profile.id} has no {name}")

    def permissions(self) -> None:
        private = [self.home, self.profiles, self.git_dir]
        for directory, names, files in os.walk(self.git_dir):
            place = Path(directory)
            if place.parent == self.local and place.name in ("trash", "rescued", "staging", "work"):
                names.clear()
            if place == self.local and "incoming" in names:
                names.remove("incoming")  # garbage, which the next fetch removes
            if place == self.local / "tmp":
                files = []  # garbage, of which some would become objects
            private += [place / name for name in (*names, *files)]
        for directory in self.profiles.iterdir():
            if directory.is_dir() and directory != self.git_dir:
                private.append(directory)
                # What is in browser_profile/ is the browser's own affair.
                private += directory.iterdir()
        for path in private:
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                continue
            mode = stat.S_IMODE(status.st_mode)
            wanted = 0o700 if stat.S_ISDIR(status.st_mode) else 0o600
            inside = os.path.relpath(path, self.git_dir)
            if inside.startswith("objects/") and not stat.S_ISDIR(status.st_mode):
                # A .keep is another name of the file that our locks are names of, or its copy.
                wanted = mode if path.suffix == ".keep" and mode == 0o600 else 0o444
            elif inside.startswith("hooks/"):
                wanted = 0o755
            if mode != wanted:
                self.say(f"{path.relative_to(self.home)} has mode {mode:o}, not {wanted:o}")

    def works(self) -> None:
        """Whatever happened, the next operations do what they say."""
        with ProfileManager(self.home) as manager:
            created = manager.create_profile("Scratch-1", "custom")
            session = created.path / "session.json"
            session.write_bytes(b'{"scratch": 1}')
            before = [profile.id for profile in manager.list_profiles()]
            manager.activate_profile("Scratch-1")
            manager.deactivate_profile()
            manager.delete_profile("Scratch-1")
            if "Scratch-1" in [profile.id for profile in manager.list_profiles()]:
                self.say("a deleted profile is listed")
            manager.undo()
            if [profile.id for profile in manager.list_profiles()] != before:
                self.say("undo of a delete did not bring the profile back")
            if session.read_bytes() != b'{"scratch": 1}':
                self.say("undo of a delete lost the session")
            manager.delete_profile("Scratch-1", purge=True)


def check(
    home: Path | str,
    *,
    swept: bool = True,
    settled: bool = True,
    complete: bool = True,
    permissions: bool = True,
    buildings: bool = True,
    lagging: bool = False,
    survivors: frozenset[str] | set[str] = frozenset(),
    work: bool = False,
) -> None:
    """Assert the whole invariant of a home, after opening it like any command does.

    Args:
        home: the home directory.
        swept: a change was made since the last crash; garbage in staging, tmp and work is gone.
        settled: nobody edited the work tree since the last change.
        complete: every healthy profile has all its parts.
        permissions: nobody but tweakio wrote into it.
        buildings: no git directory was being built by a process that could not remove it.
        lagging: the power was cut and nothing was changed since: the reflogs, which are not
            synced, may lack their last lines.
        survivors: digests (see ``data_digests``) that must be found.
        work: also make some changes, in the end.
    """
    seen = _Check(Path(home))
    with ProfileManager(home) as manager:
        try:
            manager.list_profiles()
        except HomeNotFoundError:
            if survivors:
                raise
            return
        if seen.git_dir.exists():
            seen.history(lagging=lagging)
            if settled:
                seen.work_tree()
            seen.leftovers(swept=swept, buildings=buildings)
            if complete:
                seen.complete(manager)
            if permissions:
                seen.permissions()
    kept = data_digests(seen.home)
    for digest in sorted(set(survivors) - set(kept)):
        seen.say(f"lost: session or browser data {digest[:12]}")
    if work and not seen.found:
        seen.works()
        if seen.git_dir.exists():
            seen.history(lagging=False)
            seen.work_tree()
            seen.leftovers(swept=True, buildings=buildings)
    assert not seen.found, "\n".join(["the home is not as it must be:", *seen.found])
