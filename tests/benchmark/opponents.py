"""What needs no environment of its own: plain git, a table of sqlite3, and bare system calls."""

from __future__ import annotations

import itertools
import os
import sqlite3
import subprocess
from typing import TYPE_CHECKING

from tests.benchmark.homes import clone, metadata_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tweakio.layout import Layout

    Work = Callable[[], object]

__all__ = ["Floor", "PlainGit", "Table"]


class PlainGit:
    """A clone that only git writes, without hooks.

    Args:
        home: whose profiles are cloned.
        place: where to.
        options: ``-c`` and the like.
    """

    def __init__(self, home: Path, place: Path, *options: str) -> None:
        self.place = clone(home, place)
        self._base = ["git", "-C", os.fspath(place), *options]

    def run(self, *arguments: str) -> None:
        subprocess.run([*self._base, *arguments], check=True, capture_output=True)

    def write(self, *changed: tuple[str, bool]) -> list[str]:
        """Write what a selection or its end makes of profiles; the paths."""
        for profile, active in changed:
            path = self.place / profile / "metadata.json"
            path.write_bytes(metadata_bytes(self.place, profile, active=active))
        return [f"{profile}/metadata.json" for profile, _ in changed]

    def committing(self, paths: list[str]) -> Work:
        """``git add`` and ``git commit`` of files that are written already."""

        def work() -> None:
            self.run("add", "--", *paths)
            self.run("commit", "-qm", "x")

        return work

    def selecting(self, *changed: tuple[str, bool]) -> Work:
        """The same of a selection."""
        return self.committing(self.write(*changed))

    def creating(self, profile: str, like: str) -> Work:
        """The same of a new profile's two files."""
        (self.place / profile).mkdir()
        paths = [f"{profile}/{name}" for name in ("metadata.json", "fingerprint.json")]
        for path in paths:
            content = (self.place / like / os.path.basename(path)).read_bytes()
            (self.place / path).write_bytes(content.replace(like.encode(), profile.encode()))
        return self.committing(paths)

    def removing(self, profile: str) -> Work:
        """``git rm`` and ``git commit``."""

        def work() -> None:
            self.run("rm", "-qr", "--", profile)
            self.run("commit", "-qm", "x")

        return work


class Table:
    """The same records in one table of sqlite3, without a history.

    Args:
        path: of the database.
        profiles: a work tree to fill it from.
    """

    def __init__(self, path: Path, profiles: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=FULL")
        self._database.execute(
            "CREATE TABLE profiles (id TEXT PRIMARY KEY, metadata TEXT, fingerprint TEXT)"
        )
        rows = [
            (item.parent.name, item.read_text(), (item.parent / "fingerprint.json").read_text())
            for item in profiles.glob("*/metadata.json")
        ]
        self._database.execute("BEGIN")
        self._database.executemany("INSERT INTO profiles VALUES (?, ?, ?)", rows)
        self._database.execute("COMMIT")
        self._some = rows[0]

    def update(self, profile: str, metadata: bytes) -> None:
        self._database.execute(
            "UPDATE profiles SET metadata = ? WHERE id = ?", (metadata.decode(), profile)
        )

    def insert(self, profile: str) -> None:
        row = (profile, *self._some[1:])
        self._database.execute("INSERT INTO profiles VALUES (?, ?, ?)", row)

    def delete(self, profile: str) -> None:
        self._database.execute("DELETE FROM profiles WHERE id = ?", (profile,))

    def list(self) -> None:
        assert self._database.execute("SELECT id, metadata FROM profiles").fetchall()

    def close(self) -> None:
        self._database.close()


class Floor:
    """The files that the last commit left, written, synced and renamed, and nothing else.

    Each directory is synced as well: without that a rename need not survive.

    Args:
        place: a new directory to write in.
        layout: the home to take the files from.
        profile: whose metadata.json the last commit changed.
    """

    def __init__(self, place: Path, layout: Layout, profile: str) -> None:
        git = layout.git_dir
        index = max((git / "objects" / "pack").glob("*.idx"), key=lambda path: path.stat().st_mtime)
        groups: Mapping[str, list[Path]] = {
            "objects": [index.with_suffix(".pack"), index],
            "git": [git / "index"],
            "heads": [git / "refs" / "heads" / "main"],
            "profile": [layout.profile(profile).metadata],
        }
        self._work = []
        for group, paths in groups.items():
            directory = place / group
            directory.mkdir(parents=True)
            files = [(path.suffix or path.name, path.read_bytes()) for path in paths]
            self._work.append((os.fspath(directory), files))
        self._number = itertools.count()

    def write(self) -> None:
        number = next(self._number)
        for directory, files in self._work:
            for name, content in files:
                # A pack is a new file each time; the others take the place of one.
                target = f"{number}{name}" if len(files) > 1 else name
                descriptor = os.open(f"{directory}/new", os.O_WRONLY | os.O_CREAT, 0o600)
                os.write(descriptor, content)
                os.fsync(descriptor)
                os.close(descriptor)
                os.replace(f"{directory}/new", f"{directory}/{target}")
            descriptor = os.open(directory, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
