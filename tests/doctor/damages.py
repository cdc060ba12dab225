"""The damages of docs/doctor.md: how each is done to a real home."""

from __future__ import annotations

import os
import shutil
import struct
import time
from collections.abc import Callable
from functools import partial
from hashlib import sha1
from pathlib import Path
from typing import NamedTuple

from tests.doctor.homes import LAYOUTS, git, in_git
from tests.gits import GITS, version

Damage = Callable[[Path], None]
MAIN = ("refs", "heads", "main")


class Case(NamedTuple):
    """One damage in one layout.

    Attributes:
        row: the row of the table that tells of it.
        way: what tells it from the others of that row.
        layout: of the home (see ``homes.LAYOUTS``).
        damage: does it.
        person: what only a person can do about it, as the doctor's hint says.
    """

    row: str
    way: str
    layout: str
    damage: Damage
    person: Damage | None = None


# What is done to the bytes of a file, or of a part of one


def zeroed(data: bytes) -> bytes:
    return bytes(len(data))


def emptied(data: bytes) -> bytes:
    return b""


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    at = len(data) // 2
    if not data:
        return data
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


def garbled(data: bytes) -> bytes:
    return b"\0\xff garbage\n"


BYTES = {"zeroed": zeroed, "emptied": emptied, "cut short": cut, "a bit flipped": flipped}


def rewritten(change: Callable[[bytes], bytes], *parts: str) -> Damage:
    def damage(home: Path) -> None:
        path = in_git(home, *parts)
        data = path.read_bytes()
        path.chmod(0o600)
        path.write_bytes(change(data))

    return damage


def holding(content: bytes, *parts: str) -> Damage:
    def damage(home: Path) -> None:
        path = in_git(home, *parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    return damage


def naming(revision: str, *parts: str) -> Damage:
    """A ref that names another object."""
    return lambda home: holding(git(home, "rev-parse", revision).encode() + b"\n", *parts)(home)


def gone(*parts: str) -> Damage:
    def damage(home: Path) -> None:
        path = in_git(home, *parts)
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return damage


def directory_instead(*parts: str) -> Damage:
    def damage(home: Path) -> None:
        gone(*parts)(home)
        in_git(home, *parts).mkdir()

    return damage


def both(*damages: Damage) -> Damage:
    def damage(home: Path) -> None:
        for one in damages:
            one(home)

    return damage


# Objects

OBJECTS = {
    "`HEAD`'s commit": "HEAD",
    "`HEAD`'s root tree": "HEAD^{tree}",
    "a profile's tree in `HEAD`": "HEAD:alpha",
    "a metadata.json in `HEAD`": "HEAD:alpha/metadata.json",
    "a fingerprint.json in `HEAD`": "HEAD:beta/fingerprint.json",
    ".gitattributes in `HEAD`": "HEAD:.gitattributes",
    "an older commit": "HEAD~6",
    "an older commit with a tag on it": "HEAD~5",
    "the first commit": "HEAD~11",
    "an older root tree": "HEAD~7^{tree}",
    "an older tree of a profile": "HEAD~9:alpha",
    "an older metadata.json": "HEAD~8:beta/metadata.json",
    "a fingerprint.json of a deleted profile": "HEAD~7:doomed/fingerprint.json",
    "the object of an annotated tag": "annotated",
    "the newest commit of another branch": "aside",
    "an older commit of another branch": "aside~1",
    "a file in another branch's newest commit": "aside:notes.txt",
}


def loose(revision: str, change: Callable[[bytes], bytes]) -> Damage:
    def damage(home: Path) -> None:
        name = git(home, "rev-parse", revision)
        rewritten(change, "objects", name[:2], name[2:])(home)

    return damage


def packed(revision: str, change: Callable[[bytes], bytes]) -> Damage:
    """Damage one entry of the pack, in which no other is a delta of it."""

    def damage(home: Path) -> None:
        name = git(home, "rev-parse", revision)
        git(home, "repack", "-q", "-a", "-d", "-k", "-f", "--window=0")
        (pack,) = in_git(home, "objects", "pack").glob("*.pack")
        lines = [line.split() for line in git(home, "verify-pack", "-v", str(pack)).split("\n")]
        start, size = next((int(line[4]), int(line[3])) for line in lines if line[0] == name)
        data = pack.read_bytes()
        pack.chmod(0o600)
        pack.write_bytes(data[:start] + change(data[start : start + size]) + data[start + size :])

    return damage


def missing(revision: str) -> Damage:
    def damage(home: Path) -> None:
        name = git(home, "rev-parse", revision)
        in_git(home, "objects", name[:2], name[2:]).unlink()

    return damage


def _object_cases() -> list[Case]:
    cases = []
    for what, revision in OBJECTS.items():
        for way, change in BYTES.items():
            cases.append(Case(f"{what}, loose", way, "loose", loose(revision, change)))
            if way in ("zeroed", "a bit flipped"):
                # What is cut out of the middle of a pack is the pack's damage.
                row = f"{what}, in a pack"
                cases.append(Case(row, way, "packed", packed(revision, change)))
        cases.append(Case(f"{what}, missing", "removed", "loose", missing(revision)))
    return cases


# Packs


def of_packs(suffix: str, change: Callable[[bytes], bytes] | None) -> Damage:
    def damage(home: Path) -> None:
        for path in in_git(home, "objects", "pack").glob(f"*{suffix}"):
            name = ("objects", "pack", path.name)
            (rewritten(change, *name) if change else gone(*name))(home)

    return damage


def _pack_cases() -> list[Case]:
    three = {"zeroed": zeroed, "emptied": emptied, "cut short": cut}
    cases = [
        Case("every pack's .idx damaged", way, layout, of_packs(".idx", change))
        for way, change in three.items()
        for layout in ("as made", "packed")
    ]
    cases += [
        Case("the only pack cut short", f"to {share} %", "packed", of_packs(".pack", part(share)))
        for share in (50, 90)
    ]
    cases += [
        Case("every pack damaged as a whole", way, layout, of_packs(".pack", change))
        for way, change in {"zeroed": zeroed, "emptied": emptied}.items()
        for layout in ("as made", "packed")
    ]
    for layout in ("as made", "packed"):
        add = partial(Case, layout=layout, way="removed")
        cases.append(add("every pack's .idx missing", damage=of_packs(".idx", None)))
        cases.append(add("every pack missing", damage=of_packs(".pack", None)))
    cases += [
        Case("multi-pack-index or commit-graph damaged", name, "packed", rewritten(change, *path))
        for name, change, path in (
            ("index", flipped, ("objects", "pack", "multi-pack-index")),
            ("graph", flipped, ("objects", "info", "commit-graph")),
            ("graph emptied", emptied, ("objects", "info", "commit-graph")),
        )
    ]
    graph = directory_instead("objects", "info", "commit-graph")
    cases.append(cases[-1]._replace(way="graph a directory", damage=graph))
    return cases


def part(share: int) -> Callable[[bytes], bytes]:
    return lambda data: data[: len(data) * share // 100]


# The other files


def conflicts(home: Path) -> None:
    """An index with the three stages of a conflict, as a merge leaves it."""
    blob = git(home, "rev-parse", "HEAD:alpha/metadata.json")
    lines = [f"0 {'0' * 40}\talpha/metadata.json\n"]
    lines += [f"100644 {blob} {stage}\talpha/metadata.json\n" for stage in (1, 2, 3)]
    git(home, "update-index", "--index-info", data="".join(lines).encode())


def index_version_4(home: Path) -> None:
    git(home, "update-index", "--index-version=4")


def split_index(home: Path) -> None:
    git(home, "update-index", "--split-index")


def index_without_checksum(home: Path) -> None:
    """As git 2.40 and later write it with ``index.skipHash``."""
    path = in_git(home, "index")
    path.write_bytes(path.read_bytes()[:-20] + bytes(20))


def index_of_no_version(home: Path) -> None:
    data = in_git(home, "index").read_bytes()[:-20]
    data = data[:4] + struct.pack(">I", 1) + data[8:]
    in_git(home, "index").write_bytes(data + sha1(data).digest())


def old_index(home: Path) -> None:
    """What ``git read-tree`` of an older commit would leave, with the files as in HEAD."""
    git(home, "read-tree", "HEAD~1")


def staged(home: Path) -> None:
    """An entry whose blob is not there."""
    git(home, "update-index", "--add", "--cacheinfo", f"100644,{'3' * 40},alpha/metadata.json")


def set_config(*setting: str) -> Damage:
    return lambda home: git(home, "config", *setting) and None


def added(text: bytes, *parts: str) -> Damage:
    return rewritten(lambda data: data + text, *parts)


def alternates(home: Path) -> None:
    holding(b"/nowhere/objects\n", "objects", "info", "alternates")(home)


def left_locks(home: Path) -> None:
    for name in ("index.lock", "HEAD.lock", "config.lock", "packed-refs.lock", "refs/tags/x.lock"):
        path = in_git(home, *name.split("/"))
        path.write_bytes(b"")
        os.utime(path, (time.time() - 100,) * 2)


def git_file(content: bytes) -> Damage:
    def damage(home: Path) -> None:
        shutil.rmtree(in_git(home))
        in_git(home).write_bytes(content)

    return damage


def _file_cases() -> list[Case]:
    cases: list[Case] = []

    def add(row: str, *layouts: str, **ways: Damage) -> None:
        cases.extend(
            Case(row, way.replace("_", " "), layout, damage)
            for layout in (layouts or ("as made",))
            for way, damage in ways.items()
        )

    def changes(*parts: str) -> dict[str, Damage]:
        names = {"zeroed": zeroed, "emptied": emptied, "cut short": cut, "garbled": garbled}
        return {way: rewritten(change, *parts) for way, change in names.items()}

    add("`HEAD` damaged", **changes("HEAD"), a_directory=directory_instead("HEAD"))
    add("`HEAD` missing", removed=gone("HEAD"))
    add("`HEAD` detached at its branch", it=lambda home: git(home, "checkout", "-q", "--detach"))
    elsewhere = Case(
        "`HEAD` detached elsewhere",
        "it",
        "as made",
        lambda home: git(home, "checkout", "-q", "HEAD~2"),
        lambda home: git(home, "switch", "-q", "main"),
    )
    merge = Case(
        "a merge under way",
        "it",
        "as made",
        naming("aside", "MERGE_HEAD"),
        lambda home: git(home, "merge", "--quit"),
    )
    cases += [elsewhere, merge]
    add("`HEAD` on a branch without commits", it=holding(b"ref: refs/heads/none\n", "HEAD"))
    ways = changes(*MAIN)
    ways |= {
        "no object": holding(b"1" * 40 + b"\n", *MAIN),
        "a blob": naming("HEAD:.gitignore", *MAIN),
        "a tree": naming("HEAD^{tree}", *MAIN),
        "a tag": naming("annotated", *MAIN),
        "removed": gone(*MAIN),
        "a directory": directory_instead(*MAIN),
    }
    add("the branch damaged, missing or naming no commit", **ways)
    add("the branch and all reflogs missing", removed=both(gone(*MAIN), gone("logs")))
    add("refs/ missing", removed=gone("refs"))
    add("refs/ and all reflogs missing", removed=both(gone("refs"), gone("logs")))
    ways = {
        "emptied": holding(b"", "refs", "tags", "plain"),
        "garbled": holding(b"\0\xff garbage\n", "refs", "tags", "plain"),
        "no object": holding(b"1" * 40 + b"\n", "refs", "tags", "plain"),
    }
    add("a tag's file damaged", **ways)
    ways = {
        "zeroed": holding(bytes(41), "refs", "heads", "aside"),
        "no object": holding(b"1" * 40 + b"\n", "refs", "heads", "aside"),
        "a blob": naming("HEAD:.gitignore", "refs", "heads", "aside"),
        "removed": gone("refs", "heads", "aside"),
        "a directory": directory_instead("refs", "heads", "aside"),
    }
    add("another branch's file damaged or missing", **ways)
    ways = changes("packed-refs")
    add("packed-refs cut short", "packed", half=ways.pop("cut short"))
    less = {way: both(damage, gone("logs")) for way, damage in ways.items()}
    add("packed-refs damaged, reflogs missing", "packed", **less)
    add("packed-refs damaged or missing", "packed", **ways, removed=gone("packed-refs"))
    ways = changes("logs", "HEAD")
    less = {"emptied": ways.pop("emptied")}
    add("a reflog damaged", **ways)
    add("reflogs missing or empty", **less, removed=gone("logs"))
    add("shallow damaged", garbled=holding(b"\0\xff garbage\n", "shallow"))
    ways = {**changes("index"), "removed": gone("index")}
    add("the index damaged or missing", **ways, of_no_version=index_of_no_version)
    ways = {"version 4": index_version_4, "split": split_index}
    if version(GITS[0]) >= (2, 40):  # the fsck of an older one knows no such index
        ways["no_checksum"] = index_without_checksum
    add("the index in another form of git's", **ways)
    add("the index older than `HEAD`", it=old_index)
    add("the index with an entry of a lost blob", it=staged)
    add("the index with a conflict", it=conflicts)
    ways = {**changes("config"), "removed": gone("config")}
    ways["cut short"] = rewritten(part(15), "config")  # half of it is all that git needs
    ways["a directory"] = directory_instead("config")
    ways["no boolean"] = rewritten(lambda data: data.replace(b"= false", b"= fylse"), "config")
    ways["garbage behind"] = added(b"\n[core\n\0\xff", "config")
    add("config damaged or missing", **ways)
    add(
        "config with settings of a person",
        it=both(set_config("core.editor", "vi"), set_config("alias.st", "status")),
    )
    add(
        "config with settings that hide the profiles",
        bare=set_config("core.bare", "true"),
        work_tree=set_config("core.worktree", "/nowhere"),
    )
    add("all loose objects and packs gone", *LAYOUTS, removed=gone("objects"))
    add("alternates that are gone, and nothing of them is needed", unused=alternates)
    local = {"journal": "journal.json", "cache": "cache/head", "locks": "locks/marker"}
    ways = {what: directory_instead("tweakio", *name.split("/")) for what, name in local.items()}
    ways["index"] = directory_instead("index")
    ways["reflog"] = directory_instead("logs", "HEAD")
    ways["tmp"] = both(gone("tweakio", "tmp"), holding(b"", "tweakio", "tmp"))
    add("a directory in the place of a file, or the reverse", **ways)
    add("the journal damaged", garbled=rewritten(garbled, "tweakio", "journal.json"))
    ways = {**changes("tweakio", "cache", "head"), "removed": gone("tweakio", "cache", "head")}
    add("the cache of `HEAD` damaged or missing", **ways)
    add("locks that git left", it=left_locks)
    add("hooks missing", removed=gone("hooks"))
    add("the hook changed", changed=added(b"\nexit 0\n", "hooks", "pre-commit"))
    add("the hook replaced", by_another=holding(b"#!/bin/sh\nexit 0\n", "hooks", "pre-commit"))
    add(".git/tweakio/ missing", removed=gone("tweakio"))
    add("`.git` empty", it=both(gone(), lambda home: in_git(home).mkdir()))
    add("`.git` gone", removed=gone())
    add("`.git` a damaged file", emptied=git_file(b""), garbled=git_file(b"\0\xff garbage\n"))
    return cases


CASES = [*_object_cases(), *_pack_cases(), *_file_cases()]
