"""``repo doctor``: every kind of damage is named, harmless to look at, and mended."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from invariants import check, nothing_lost, tree_digest

from tests.hostile.homes import interrupt
from tweakio import ProfileManager
from tweakio.doctor import Report, examine
from tweakio.doctor.salvage import BrokenPack
from tweakio.errors import (
    ForeignRepositoryError,
    HomeNotFoundError,
    NewerFormatError,
    RepositoryDamagedError,
    TweakioError,
)
from tweakio.layout import Layout
from tweakio.store.journal import Journal, Move

Damage = Callable[[Path], None]
BROWSER = bytes(range(256)) * 64


def git(home: Path, *arguments: str, data: bytes | None = None) -> str:
    done = subprocess.run(
        ["git", "-C", str(home / "profiles"), *arguments], input=data, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().strip()


def fill(home: Path, profile_id: str) -> None:
    directory = home / "profiles" / profile_id
    (directory / "session.json").write_text(json.dumps({"of": profile_id}))
    (directory / "browser_profile" / "Cookies").write_bytes(BROWSER + profile_id.encode())


def build(home: Path) -> None:
    """Some history: three profiles with data, one in the trash, one activated and left."""
    with ProfileManager(home) as manager:
        for profile_id in ("alpha", "beta", "doomed"):
            manager.create_profile(profile_id, "whatsapp", tags=["first"])
            fill(home, profile_id)
        manager.activate_profile("alpha")
        manager.deactivate_profile()
        manager.delete_profile("doomed")
        manager.update_profiles(["beta"], note="the last but one")
        manager.create_profile("gamma", "telegram")
        fill(home, "gamma")
        manager.update_profiles(["alpha"], note="the last")


def unpack(home: Path) -> None:
    """All objects loose, as git itself writes them."""
    objects = home / "profiles" / ".git" / "objects"
    packs = [path.read_bytes() for path in sorted((objects / "pack").glob("*.pack"))]
    for path in (objects / "pack").iterdir():
        path.unlink()
    for data in packs:
        git(home, "unpack-objects", "-q", data=data)


def repack(home: Path) -> None:
    """All objects in one pack with deltas and git's derived files."""
    unpack(home)
    git(home, "-c", "core.multiPackIndex=true", "repack", "-q", "-a", "-d")
    git(home, "commit-graph", "write", "--reachable")


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("doctor")
    made = {}
    for name, change in (("commits", None), ("loose", unpack), ("packed", repack)):
        made[name] = root / name
        if change is None:
            build(made[name])
        else:
            shutil.copytree(made["commits"], made[name], symlinks=True)
            change(made[name])
    return made


@pytest.fixture
def make(home: Path, templates: dict[str, Path]) -> Callable[[str], Path]:
    def copy(kind: str) -> Path:
        shutil.copytree(templates[kind], home, symlinks=True)
        return home

    return copy


def examined(home: Path, *, fix: bool = False) -> Report:
    if not fix:
        return examine(Layout(home))
    with nothing_lost(home) as said:
        report = examine(Layout(home), fix=True, cut=True)
        said += [item.message for item in report.findings if item.fixed]
    return report


def codes(report: Report) -> list[str]:
    return [item.code for item in report.findings]


def untracked(home: Path) -> dict[str, str]:
    """The digests of what git does not know and nobody may touch."""
    return {
        f"{name}/{part}": tree_digest(home / "profiles" / name / part)
        for name in ("alpha", "beta", "gamma")
        for part in ("session.json", "browser_profile")
    }


def whole_tree(home: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """Everything about every file: what doctor without --fix must leave."""
    found = {}
    for directory, names, files in os.walk(home):
        for name in (*names, *files):
            path = os.path.join(directory, name)
            status = os.lstat(path)
            content = b""
            if stat.S_ISREG(status.st_mode):
                content = Path(path).read_bytes()
            found[path] = (status.st_mode, status.st_mtime_ns, status.st_ino, content)
    return found


# Which object of HEAD is meant


def head_commit(home: Path) -> str:
    return git(home, "rev-parse", "HEAD")


def head_tree(home: Path) -> str:
    return git(home, "rev-parse", "HEAD^{tree}")


def profile_tree(home: Path) -> str:
    return git(home, "rev-parse", "HEAD:alpha")


def profile_blob(home: Path) -> str:
    return git(home, "rev-parse", "HEAD:alpha/metadata.json")


def shared_blob(home: Path) -> str:
    return git(home, "rev-parse", "HEAD:beta/fingerprint.json")


OBJECTS = [head_commit, head_tree, profile_tree, profile_blob, shared_blob]


def zeroed(path: Path) -> None:
    path.chmod(0o600)
    path.write_bytes(bytes(path.stat().st_size))


def emptied(path: Path) -> None:
    path.chmod(0o600)
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    path.chmod(0o600)
    os.truncate(path, path.stat().st_size // 2)


def flipped(path: Path) -> None:
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


def missing(path: Path) -> None:
    path.unlink()


WAYS = [zeroed, emptied, truncated, flipped, missing]


def loose_path(home: Path, name: str) -> Path:
    return home / "profiles" / ".git" / "objects" / name[:2] / name[2:]


def last_pack(home: Path) -> Path:
    """The pack of HEAD's commit."""
    name = head_commit(home)
    for index in (home / "profiles" / ".git" / "objects" / "pack").glob("*.idx"):
        if name in git(home, "show-index", data=index.read_bytes()):
            return index.with_suffix(".pack")
    raise AssertionError(name)


def assert_mended(home: Path, before: dict[str, str], *, swept: bool = True) -> None:
    """Nothing is lost, git finds nothing wrong, and everything works again."""
    profiles = {"alpha", "beta", "gamma"}
    with ProfileManager(home) as manager:
        found = {profile.id: profile for profile in manager.list_profiles()}
        assert set(found) == profiles
        assert {profile.status for profile in found.values()} == {"inactive"}
        assert found["alpha"].note == "the last"
        assert found["beta"].note == "the last but one"
        assert found["gamma"].platform == "telegram"
        kept = {entry.profile_id for entry in manager.trash()}
        assert "doomed" in kept
        assert not kept & profiles
        manager.create_profile("more", "custom")
        manager.undo()
        assert len(manager.list_profiles()) == 3
    assert untracked(home) == before
    check(home, swept=swept, permissions=False)
    again = examined(home)
    assert again.healthy, again.findings
    assert again.profiles == 3


def mend(home: Path, damage: Damage, *expected: str) -> Report:
    """Damage, look, mend, check."""
    before = untracked(home)
    damage(home)
    state = whole_tree(home)
    looked = examined(home)
    assert whole_tree(home) == state
    assert not looked.healthy
    assert not any(item.fixed for item in looked.findings)
    assert all(item.hint for item in looked.findings if item.severity != "note")
    report = examined(home, fix=True)
    assert report.healthy, report.findings
    for code in expected:
        assert code in codes(looked) or code in codes(report)
    assert_mended(home, before)
    return report


# A sound repository


@pytest.mark.parametrize("kind", ["commits", "loose", "packed"])
def test_healthy(make: Callable[[str], Path], kind: str) -> None:
    home = make(kind)
    git(home, "status")
    before = untracked(home)
    state = whole_tree(home)
    report = examined(home)
    assert report.findings == []
    assert (report.profiles, report.commits) == (3, 10)
    assert whole_tree(home) == state
    assert examined(home, fix=True).findings == []
    assert_mended(home, before)


def test_progress(make: Callable[[str], Path]) -> None:
    home = make("commits")
    git(home, "config", "core.hooksPath", "/nowhere")
    for number in range(130):
        tree = git(home, "rev-parse", "HEAD^{tree}")
        commit = git(home, "commit-tree", tree, "-p", "HEAD", "-m", str(number))
        git(home, "update-ref", "HEAD", commit)
    seen: list[int] = []
    report = examine(Layout(home), progress=seen.append)
    assert report.commits == 140
    assert seen == [64, 128]


def test_no_home(home: Path) -> None:
    with pytest.raises(HomeNotFoundError):
        examined(home)


def test_no_repository(home: Path) -> None:
    home.mkdir()
    for fix in (False, True):
        report = examined(home, fix=fix)
        assert codes(report) == ["no-repository"]
        assert report.healthy
    assert list(home.iterdir()) == []


def test_newer_format(make: Callable[[str], Path]) -> None:
    home = make("commits")
    git(home, "config", "tweakio.format", "2")
    state = whole_tree(home)
    for fix in (False, True):
        with pytest.raises(NewerFormatError):
            examined(home, fix=fix)
    assert whole_tree(home) == state


def test_foreign_repository(home: Path) -> None:
    (home / "profiles").mkdir(parents=True)
    subprocess.run(["git", "init", "-q", str(home / "profiles")], check=True)
    (home / "profiles" / "alpha").mkdir()
    (home / "profiles" / "alpha" / "metadata.json").write_text("{}")
    state = whole_tree(home)
    for fix in (False, True):
        with pytest.raises(ForeignRepositoryError):
            examined(home, fix=fix)
    assert whole_tree(home) == state


# Objects


CASES = [(head_commit, way) for way in WAYS]
CASES += [(which, way) for which in OBJECTS[1:] for way in (emptied, missing)]


@pytest.mark.parametrize(("which", "way"), CASES, ids=lambda item: item.__name__)
def test_loose_object(
    make: Callable[[str], Path], which: Callable[[Path], str], way: Damage
) -> None:
    home = make("loose")
    path = loose_path(home, which(home))
    mend(home, lambda _: way(path))
    if which is not head_commit:
        # What the work tree still has needs no older commit.
        assert len(git(home, "rev-list", "HEAD").split()) >= 9


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_pack_of_head(make: Callable[[str], Path], way: Damage) -> None:
    home = make("commits")
    path = last_pack(home)
    if way is not missing:
        mend(home, lambda _: way(path), "packs-damaged")
    else:
        mend(home, lambda _: way(path), "history-damaged")
    kept = home / "profiles" / ".git" / "tweakio" / "damaged"
    assert way is missing or any(kept.glob(f"*/objects/pack/{path.name}"))


@pytest.mark.parametrize(
    ("kind", "way"),
    [*(("commits", way) for way in WAYS), ("packed", emptied), ("packed", missing)],
)
def test_pack_index(make: Callable[[str], Path], kind: str, way: Damage) -> None:
    """With the pack itself whole nothing is lost at all."""
    home = make(kind)
    path = last_pack(home).with_suffix(".idx")
    head = git(home, "rev-parse", "HEAD")
    mend(home, lambda _: way(path))
    assert head in git(home, "rev-list", "HEAD").split()


@pytest.mark.parametrize("way", [zeroed, emptied, truncated, flipped], ids=lambda way: way.__name__)
@pytest.mark.parametrize("with_index", [True, False])
def test_only_pack(make: Callable[[str], Path], way: Damage, with_index: bool) -> None:
    """Older history may be lost for good, and that is said; no profile is."""
    home = make("packed")
    before = untracked(home)
    pack = last_pack(home)
    way(pack)
    if not with_index:
        pack.with_suffix(".idx").unlink()
    state = whole_tree(home)
    looked = examined(home)
    assert not looked.healthy
    assert whole_tree(home) == state
    report = examined(home, fix=True)
    assert report.healthy, report.findings
    with ProfileManager(home) as manager:
        found = {profile.id: profile for profile in manager.list_profiles()}
        assert set(found) == {"alpha", "beta", "gamma"}
        assert found["alpha"].note == "the last"
        assert {profile.status for profile in found.values()} == {"inactive"}
        manager.create_profile("more", "custom")
        manager.undo()
        assert "doomed" in {entry.profile_id for entry in manager.trash()}
    assert untracked(home) == before
    assert git(home, "status", "--porcelain") == ""
    git(home, "fsck", "--strict")


def test_a_blob_that_says_it_is_a_tree(make: Callable[[str], Path]) -> None:
    """One bit of an entry's kind: as a tree it would be an object that git refuses."""
    home = make("packed")
    pack = last_pack(home)
    index = os.fspath(pack.with_suffix(".idx"))
    (offset, *_) = (
        int(line.split()[4])
        for line in git(home, "verify-pack", "-v", index).splitlines()
        if line.split()[1:2] == ["blob"] and len(line.split()) == 5
    )
    data = bytearray(pack.read_bytes())
    data[offset] ^= 0x10
    pack.chmod(0o600)
    pack.write_bytes(data)
    pack.with_suffix(".idx").unlink()
    examined(home, fix=True)
    git(home, "fsck", "--strict")


def test_what_comes_after_a_damaged_entry_without_an_index(make: Callable[[str], Path]) -> None:
    home = make("packed")
    pack = last_pack(home)
    before = {
        line.split()[0]: int(line.split()[4])
        for line in git(home, "verify-pack", "-v", os.fspath(pack.with_suffix(".idx"))).splitlines()
        if len(line.split()) in (5, 7) and line.split()[1] in ("commit", "tree", "blob")
    }
    first = min(before, key=before.__getitem__)
    data = bytearray(pack.read_bytes())
    data[before[first] + 6] ^= 0xFF
    pack.chmod(0o600)
    pack.write_bytes(data)
    pack.with_suffix(".idx").unlink()
    with ProfileManager(home) as manager:
        found = BrokenPack(os.fspath(pack)[: -len(".pack")], manager.repository)
        names = {name.hex() for name, *_ in found.objects()}
    assert first not in names
    # What builds on the damaged one by deltas is lost with it.
    assert len(names) > len(before) // 2


def gap(data: bytearray, first: int, second: int) -> None:
    """Behind the last, where no distance to a base becomes another by it."""
    data += b"\0" * 8


def version(data: bytearray, first: int, second: int) -> None:
    data[7] = 9


def size(data: bytearray, first: int, second: int) -> None:
    """The first entry says that it has 512 MiB, which only git could read."""
    end = next(at for at in range(first, second) if not data[at] & 0x80) + 1
    data[first:end] = bytes([data[first] & 0x70 | 0x80, 0x80, 0x80, 0x80, 0x10])


@pytest.mark.parametrize("wrong", [gap, version, size])
def test_a_pack_that_git_cannot_read_although_its_checksum_is_right(
    make: Callable[[str], Path], wrong: Callable[[bytearray, int, int], None]
) -> None:
    home = make("packed")
    pack = last_pack(home)
    index = pack.with_suffix(".idx")
    lines = [line.split() for line in git(home, "verify-pack", "-v", str(index)).splitlines()]
    first, second, *_ = sorted(int(x[4]) for x in lines if len(x) >= 5 and len(x[0]) == 40)
    data = bytearray(pack.read_bytes()[:-20])
    wrong(data, first, second)
    data += hashlib.sha1(data, usedforsecurity=False).digest()
    names = bytearray(index.read_bytes()[:-40] + data[-20:])
    names += hashlib.sha1(names, usedforsecurity=False).digest()
    for path, content in ((pack, data), (index, names)):
        path.chmod(0o600)
        path.write_bytes(content)
    report = examined(home, fix=True)
    [finding] = [item for item in report.findings if item.code == "packs-damaged"]
    assert finding.fixed, finding
    git(home, "fsck", "--strict")
    # That goes by the indexes; whoever packs or sends reads them from the begin to the end.
    for rest in (home / "profiles/.git/objects/pack").glob("*.pack"):
        git(home, "index-pack", "-o", os.fspath(home / "again.idx"), os.fspath(rest))


@pytest.mark.parametrize("deltas", ["by offset", "by name"])
def test_one_entry_of_a_pack(make: Callable[[str], Path], deltas: str) -> None:
    """A flipped bit costs one object; the others of the pack are written again."""
    home = make("packed")
    if deltas == "by name":
        git(home, "-c", "repack.useDeltaBaseOffset=false", "repack", "-q", "-a", "-d", "-f")
    pack = last_pack(home)
    lines = [line.split() for line in git(home, "verify-pack", "-v", str(pack)).split("\n")]
    offsets = {line[0]: int(line[4]) for line in lines if len(line) >= 5 and len(line[0]) == 40}
    bases = {line[6] for line in lines if len(line) == 7}
    commits = git(home, "rev-list", "HEAD").split()
    # One that no other is a delta of.
    old = next(name for name in reversed(commits[1:]) if name not in bases)
    pack.chmod(0o600)
    data = bytearray(pack.read_bytes())
    data[offsets[old] + 12] ^= 0xFF
    pack.write_bytes(data)
    head = git(home, "rev-parse", "HEAD")
    report = examined(home, fix=True)
    assert codes(report) == ["packs-damaged", "old-history-damaged", "history-cut"]
    assert report.healthy
    assert git(home, "rev-parse", "HEAD") == head
    assert report.commits == commits.index(old)
    assert "1 damaged packs; 41 objects" in report.findings[0].message
    assert report.profiles == 3
    with ProfileManager(home) as manager:
        manager.create_profile("more", "custom")
        manager.undo()


def test_garbage_behind_a_loose_object(make: Callable[[str], Path]) -> None:
    home = make("loose")
    path = loose_path(home, profile_blob(home))

    def damage(_: Path) -> None:
        path.chmod(0o600)
        with path.open("ab") as file:
            file.write(b"rest")

    mend(home, damage, "objects-damaged")


def test_unreachable_damaged_object(make: Callable[[str], Path]) -> None:
    home = make("commits")

    def damage(home: Path) -> None:
        name = git(home, "hash-object", "-w", "--stdin", data=b"nobody's")
        zeroed(loose_path(home, name))

    report = mend(home, damage)
    assert codes(report) == ["objects-damaged"]


def test_many_commits_lost(make: Callable[[str], Path]) -> None:
    """Profiles made after the newest readable commit come back into history."""
    home = make("loose")

    def damage(home: Path) -> None:
        # HEAD and the five before: back to where neither gamma nor the notes are.
        for name in git(home, "rev-list", "-n", "6", "HEAD").split():
            loose_path(home, name).unlink()

    report = mend(home, damage, "history-damaged")
    assert "went" not in report.findings[0].message
    assert "rebuild" in git(home, "log", "--format=%B", "HEAD")
    assert not (home / "profiles" / ".git" / "tweakio" / "rescued").exists()


def test_reflogs_name_readable_commits_only(make: Callable[[str], Path]) -> None:
    home = make("loose")
    lost = git(home, "rev-list", "-n", "3", "HEAD").split()

    def damage(home: Path) -> None:
        # HEAD~1 can be read, but HEAD~3 has more history below it.
        for name in lost[::2]:
            loose_path(home, name).unlink()

    mend(home, damage, "history-damaged")
    assert len(git(home, "rev-list", "HEAD").split()) > 7
    for name in ("HEAD", "refs/heads/main"):
        text = (home / "profiles" / ".git" / "logs" / name).read_text()
        assert not any(commit in text for commit in lost[::2])
    # What stands above the gap is kept by a name.
    assert git(home, "rev-parse", f"refs/tweakio/kept/{lost[1][:12]}") == lost[1]
    kept = [
        path.read_text()
        for path in (home / "profiles/.git/tweakio/damaged").glob("*/logs/refs/heads/main")
    ]
    assert any(lost[0] in text for text in kept)


def test_reflogs_stay_continuous(make: Callable[[str], Path]) -> None:
    """A lost commit that a person had reset away leaves a gap, which is closed as git does."""
    home = make("loose")
    git(home, "commit", "-q", "--allow-empty", "-m", "away", "--no-verify")
    away = head_commit(home)
    git(home, "reset", "-q", "--hard", "HEAD~1")
    git(home, "commit", "-q", "--allow-empty", "-m", "kept", "--no-verify")
    kept = head_commit(home)
    git(home, "commit", "-q", "--allow-empty", "-m", "lost", "--no-verify")

    def damage(home: Path) -> None:
        loose_path(home, head_commit(home)).unlink()
        loose_path(home, away).unlink()

    mend(home, damage, "history-damaged")
    log = (home / "profiles/.git/logs/HEAD").read_text()
    assert away not in log
    assert kept in log


def test_root_tree_from_the_index(make: Callable[[str], Path]) -> None:
    """No older commit is needed, although nothing but the index has the root tree."""
    home = make("loose")
    head = head_commit(home)

    def damage(home: Path) -> None:
        loose_path(home, head_tree(home)).unlink()
        in_git("tweakio", "cache", "head")(home).unlink()

    mend(home, damage, "objects-lost")
    assert git(home, "rev-parse", "HEAD~2") == head


def test_other_refs_to_lost_commits(make: Callable[[str], Path]) -> None:
    home = make("loose")

    def damage(home: Path) -> None:
        git(home, "branch", "mine")
        git(home, "tag", "-a", "-m", "old", "kept", "HEAD~1")
        git(home, "tag", "gone", "HEAD")
        git(home, "pack-refs", "--all")
        git(home, "tag", "loosely", "HEAD")
        loose_path(home, head_commit(home)).unlink()

    mend(home, damage)
    assert git(home, "tag") == "kept"


def test_gap_below_a_lost_head(make: Callable[[str], Path]) -> None:
    """An old gap is not a reason to go back to before it."""
    home = make("loose")
    before = untracked(home)
    names = git(home, "rev-list", "HEAD").split()
    for name in (names[0], names[-2]):
        loose_path(home, name).unlink()
    report = examined(home, fix=True)
    assert [(item.code, item.fixed) for item in report.findings] == [
        ("history-damaged", True),
        ("old-history-damaged", True),
        ("history-cut", False),
    ]
    assert report.healthy
    git(home, "fsck", "--strict")
    assert names[1] in git(home, "log", "-n", "2", "--format=%H").split()
    with ProfileManager(home) as manager:
        assert manager.get_profile("alpha").note == "the last"
        assert len(manager.list_profiles()) == 3
    assert untracked(home) == before


@pytest.mark.parametrize("what", ["HEAD~5", "HEAD~5^{tree}", "HEAD~5:alpha/metadata.json"])
def test_history_around_a_gap(make: Callable[[str], Path], what: str) -> None:
    """HEAD stays, what is below has a name, git finds nothing wrong and its gc removes nothing."""
    home = make("loose")
    before = untracked(home)
    commits = git(home, "rev-list", "HEAD").split()
    loose_path(home, git(home, "rev-parse", what)).unlink()
    looked = examined(home)
    assert codes(looked) == ["old-history-damaged"]
    assert not looked.healthy
    report = examined(home, fix=True)
    assert codes(report) == ["old-history-damaged", "history-cut"]
    assert report.healthy
    assert git(home, "rev-list", "HEAD").split() == commits[:5]
    below = f"refs/tweakio/kept/{commits[6][:12]}"
    assert below in report.findings[0].message
    assert codes(examined(home)) == ["history-cut"]
    git(home, "reflog", "expire", "--expire=now", "--expire-unreachable=now", "--all")
    git(home, "gc", "-q", "--prune=now")
    git(home, "fsck", "--strict")
    assert git(home, "rev-list", below).split() == commits[6:]
    assert examined(home).healthy
    assert untracked(home) == before
    with ProfileManager(home) as manager:
        manager.create_profile("more", "custom")
        manager.undo()
        assert manager.restore("alpha", commits[7]).status == "inactive"


def test_invalid_work_tree_file_is_not_taken_for_history(make: Callable[[str], Path]) -> None:
    """What history lost and the work tree has damaged is left to the profile's recovery."""
    home = make("loose")
    metadata = home / "profiles" / "alpha" / "metadata.json"
    loose_path(home, profile_blob(home)).unlink()
    metadata.write_bytes(b"{broken")
    report = examined(home, fix=True)
    assert codes(report) == ["history-damaged", "profile-corrupted"]
    assert metadata.read_bytes() == b"{broken"
    with ProfileManager(home) as manager:
        assert [profile.id for profile in manager.list_profiles()] == ["alpha", "beta", "gamma"]
        assert manager.get_profile("gamma").status == "inactive"
        recovered = manager.recover_profile("alpha")
        assert recovered.status == "inactive"
        assert recovered.tags == ("first",)
    check(home, swept=True, permissions=False, work=True)


def test_session_of_a_profile_named_like_a_deleted_one(make: Callable[[str], Path]) -> None:
    """Going back to before a delete does not bring the deleted profile back to life."""
    home = make("loose")
    with ProfileManager(home) as manager:
        manager.delete_profile("beta")
    loose = loose_path(home, head_commit(home))
    unpack(home)
    loose.unlink()
    examined(home, fix=True)
    with ProfileManager(home) as manager:
        assert [profile.id for profile in manager.list_profiles()] == ["alpha", "gamma"]
        entry = next(entry for entry in manager.trash() if entry.profile_id == "beta")
        assert manager.restore_from_trash(entry.name).id == "beta"
    assert (home / "profiles/beta/browser_profile/Cookies").read_bytes() == BROWSER + b"beta"
    check(home, permissions=False)


# The files of the git directory


def in_git(*parts: str) -> Callable[[Path], Path]:
    return lambda home: home.joinpath("profiles", ".git", *parts)


def gone(*parts: str) -> Damage:
    def damage(home: Path) -> None:
        path = in_git(*parts)(home)
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return damage


def garbage(*parts: str, content: bytes = b"\0\xff garbage") -> Damage:
    return lambda home: in_git(*parts)(home).write_bytes(content)


def directory_instead(*parts: str) -> Damage:
    def damage(home: Path) -> None:
        path = in_git(*parts)(home)
        path.unlink()
        path.mkdir()

    return damage


def both(*damages: Damage) -> Damage:
    def damage(home: Path) -> None:
        for one in damages:
            one(home)

    return damage


MAIN = ("refs", "heads", "main")
FILES: dict[str, tuple[Damage, str]] = {
    "HEAD garbage": (garbage("HEAD"), "git-dir-damaged"),
    "HEAD empty": (garbage("HEAD", content=b""), "git-dir-damaged"),
    "HEAD zeroed": (garbage("HEAD", content=bytes(21)), "git-dir-damaged"),
    "HEAD missing": (gone("HEAD"), "git-dir-damaged"),
    "HEAD a directory": (directory_instead("HEAD"), "git-dir-damaged"),
    "config garbage": (garbage("config"), "git-dir-damaged"),
    "config empty": (garbage("config", content=b""), "git-dir-damaged"),
    "config missing": (gone("config"), "git-dir-damaged"),
    "HEAD and config missing": (both(gone("HEAD"), gone("config")), "git-dir-damaged"),
    "ref garbage": (garbage(*MAIN), "history-damaged"),
    "ref empty": (garbage(*MAIN, content=b""), "history-damaged"),
    "ref zeroed": (garbage(*MAIN, content=bytes(41)), "history-damaged"),
    "ref of no object": (garbage(*MAIN, content=b"1" * 40 + b"\n"), "history-damaged"),
    "ref missing": (gone(*MAIN), "history-damaged"),
    "ref a directory": (directory_instead(*MAIN), "history-damaged"),
    "refs missing": (gone("refs"), "git-dir-damaged"),
    "refs and reflogs missing": (both(gone("refs"), gone("logs")), "git-dir-damaged"),
    "ref missing, reflog garbage": (
        both(gone(*MAIN), garbage("logs", "HEAD"), garbage("logs", *MAIN)),
        "history-damaged",
    ),
    "index garbage": (garbage("index"), "index-damaged"),
    "index empty": (garbage("index", content=b""), "index-damaged"),
    "index missing": (gone("index"), "index-damaged"),
    "index a directory": (directory_instead("index"), "index-damaged"),
    "objects missing": (gone("objects"), "git-dir-damaged"),
    "objects and HEAD missing": (both(gone("objects"), gone("HEAD")), "git-dir-damaged"),
    "packs missing": (gone("objects", "pack"), "history-damaged"),
    "hooks missing": (gone("hooks"), "hook-missing"),
}


@pytest.mark.parametrize("name", FILES)
def test_git_directory(make: Callable[[str], Path], name: str) -> None:
    damage, code = FILES[name]
    home = make("commits")
    head = head_commit(home)
    mend(home, damage, code)
    if not name.startswith(("objects", "packs")):
        # Nothing of history was damaged, and nothing of it is lost.
        assert head in git(home, "rev-list", "HEAD").split()


def test_index_older_than_history(make: Callable[[str], Path]) -> None:
    """As a git commit leaves it that read it before a change and wrote it back after."""

    def damage(home: Path) -> None:
        index = in_git("index")(home)
        old = index.read_bytes()
        with ProfileManager(home) as manager:
            manager.update_profiles(["gamma"], note="newer")
        index.write_bytes(old)

    home = make("commits")
    mend(home, damage, "index-outdated")
    assert git(home, "status", "--porcelain") == ""


def test_reflogs_are_derived(make: Callable[[str], Path]) -> None:
    """Nothing needs them, so their absence is no damage."""
    home = make("commits")
    gone("logs")(home)
    assert examined(home).healthy
    assert examined(home, fix=True).healthy


def test_packed_refs_only(make: Callable[[str], Path]) -> None:
    home = make("commits")
    before = untracked(home)
    git(home, "pack-refs", "--all", "--prune")
    assert not in_git(*MAIN)(home).exists()
    assert examined(home).findings == []
    assert examined(home, fix=True).findings == []
    assert_mended(home, before)


def test_packed_refs_garbage(make: Callable[[str], Path]) -> None:
    home = make("commits")
    head = head_commit(home)

    def damage(home: Path) -> None:
        git(home, "pack-refs", "--all", "--prune")
        garbage("packed-refs")(home)

    mend(home, damage, "history-damaged")
    assert head in git(home, "rev-list", "HEAD").split()


def test_another_branch_is_found_again(make: Callable[[str], Path]) -> None:
    home = make("commits")
    git(home, "branch", "-m", "main", "accounts")
    git(home, "branch", "aside", "HEAD~2")
    garbage("HEAD")(home)
    report = examined(home, fix=True)
    assert codes(report) == ["git-dir-damaged"]
    assert report.healthy
    assert git(home, "symbolic-ref", "HEAD") == "refs/heads/accounts"
    assert git(home, "status", "--porcelain") == ""


@pytest.mark.parametrize("local", ["kept", "lost"])
def test_empty_git_directory(make: Callable[[str], Path], local: str) -> None:
    home = make("commits")
    before = untracked(home)
    git_dir = in_git()(home)
    shutil.rmtree(git_dir)
    git_dir.mkdir()
    if local == "kept":
        (git_dir / "tweakio").mkdir()
    state = whole_tree(home)
    assert not examined(home).healthy
    assert whole_tree(home) == state
    report = examined(home, fix=True)
    assert report.healthy, report.findings
    assert "repository-lost" in codes(report)
    assert untracked(home) == before
    check(home, permissions=False, work=True)
    with ProfileManager(home) as manager:
        assert [profile.id for profile in manager.list_profiles()] == ["alpha", "beta", "gamma"]
        assert manager.get_profile("alpha").note == "the last"


def test_git_directory_gone(make: Callable[[str], Path]) -> None:
    home = make("commits")
    before = untracked(home)
    gone()(home)
    with (
        pytest.raises(RepositoryDamagedError, match="doctor|gone"),
        ProfileManager(home) as manager,
    ):
        manager.list_profiles()
    state = whole_tree(home)
    assert codes(examined(home)) == ["repository-lost"]
    assert whole_tree(home) == state
    report = examined(home, fix=True)
    assert codes(report) == ["repository-lost"]
    assert report.healthy
    assert report.profiles == 3
    assert untracked(home) == before
    check(home, permissions=False, work=True)
    assert sorted(os.listdir(home)) == ["profiles"]
    assert not [name for name in os.listdir(home / "profiles") if name.startswith(".git.")]


def test_rebuilding_takes_the_trash_over(make: Callable[[str], Path]) -> None:
    home = make("commits")
    gone("objects")(home)
    examined(home, fix=True)
    aside = list(home.glob("damaged-git-*"))
    assert len(aside) == 1
    assert (aside[0] / "logs" / "HEAD").exists()
    with ProfileManager(home) as manager:
        (entry,) = manager.trash()
        assert manager.restore_from_trash(entry.name).id == "doomed"
    assert (home / "profiles/doomed/browser_profile/Cookies").read_bytes() == BROWSER + b"doomed"
    check(home, permissions=False)


def test_rebuilding_from_damaged_profiles(make: Callable[[str], Path]) -> None:
    home = make("commits")
    profiles = home / "profiles"
    before = untracked(home)
    gone()(home)
    (profiles / "alpha" / "metadata.json").write_bytes(b"")
    (profiles / "beta" / "metadata.json").unlink()
    (profiles / "beta" / "fingerprint.json").write_bytes(b"[]")
    newer = json.loads((profiles / "gamma" / "metadata.json").read_text()) | {"schema_version": 2}
    (profiles / "gamma" / "metadata.json").write_text(json.dumps(newer))
    for name in ("GAMMA", "no good"):
        (profiles / name / "browser_profile").mkdir(parents=True)
    (profiles / "notes").mkdir()
    report = examined(home, fix=True)
    assert codes(report)[:3] == ["bad-name", "bad-name", "repository-lost"]
    assert "profile-corrupted" in codes(report)
    rescued = [path.name for path in in_git("tweakio", "rescued")(home).iterdir()]
    assert any("-GAMMA-" in name for name in rescued)
    assert report.commits == 2
    assert {"no good", "notes"} <= set(os.listdir(profiles))
    with ProfileManager(home) as manager:
        found = {profile.id: profile.status for profile in manager.list_profiles()}
        assert found == {"alpha": "inactive", "beta": "inactive", "gamma": "corrupted"}
        damaged = [entry for entry in manager.trash() if entry.kind == "damaged"]
    kept = sorted(
        path.read_bytes() for entry in damaged for path in (entry.path / "data").iterdir()
    )
    assert kept == [b"", b"[]"]
    assert untracked(home) == before
    assert git(home, "fsck", "--strict") == ""
    assert json.loads((profiles / "gamma" / "metadata.json").read_text()) == newer


def test_symbolic_link_instead_of_the_git_directory(make: Callable[[str], Path]) -> None:
    home = make("commits")
    git_dir = in_git()(home)
    git_dir.rename(home / "elsewhere")
    git_dir.symlink_to(home / "elsewhere")
    state = whole_tree(home)
    with pytest.raises(ForeignRepositoryError):
        examined(home, fix=True)
    assert whole_tree(home) == state


# Interruptions, locks, and what people do


def test_interrupted_change_is_only_noted(make: Callable[[str], Path]) -> None:
    home = make("commits")
    before = untracked(home)
    head = head_commit(home)
    old = git(home, "rev-parse", "HEAD~1")
    line = f"{old} {head} A <a> 1 +0000\tx\n"
    Journal("refs/heads/main", old, head, line, ("alpha",)).write(Layout(home))
    state = whole_tree(home)
    report = examined(home)
    assert codes(report) == ["interrupted"]
    assert report.healthy
    assert whole_tree(home) == state
    examined(home, fix=True)
    assert not Journal.exists(Layout(home))
    assert_mended(home, before)


def test_journal_garbage(make: Callable[[str], Path]) -> None:
    home = make("commits")
    before = untracked(home)
    garbage("tweakio", "journal.json")(home)
    state = whole_tree(home)
    assert "interrupted" in codes(examined(home))
    assert whole_tree(home) == state
    assert examined(home, fix=True).healthy
    assert_mended(home, before)


def test_interrupted_change_whose_ref_was_lost(make: Callable[[str], Path]) -> None:
    """The branch is gone, but the journal says where it was going, and all moves were made."""
    home = make("commits")
    before = untracked(home)
    head, old = head_commit(home), git(home, "rev-parse", "HEAD~2")
    create = git(home, "rev-parse", "HEAD~1")
    line = f"{old} {create} Tester <tester@example.com> 1700000000 +0000\ttweakio: x\n"
    move = Move("profiles/.git/tweakio/staging/x", "profiles/gamma")
    Journal("refs/heads/main", old, create, line, ("gamma",), moves=(move,)).write(Layout(home))
    for name in ("HEAD", "refs/heads/main"):
        path = in_git("logs", *name.split("/"))(home)
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:-2]))
    garbage(*MAIN)(home)
    report = examined(home, fix=True)
    assert report.healthy, report.findings
    assert_mended(home, before)
    assert head != head_commit(home)


def test_abandoned_lock(make: Callable[[str], Path]) -> None:
    home = make("commits")

    def damage(home: Path) -> None:
        for name in ("index.lock", "refs/heads/main.lock"):
            path = in_git(*name.split("/"))(home)
            path.write_bytes(b"")
            os.utime(path, (time.time() - 100,) * 2)

    report = mend(home, damage, "abandoned-lock")
    assert codes(report).count("abandoned-lock") == 2


def test_detached_head_on_the_branch(make: Callable[[str], Path]) -> None:
    home = make("commits")
    mend(home, lambda home: git(home, "checkout", "-q", "--detach"), "head-detached")
    assert git(home, "symbolic-ref", "HEAD") == "refs/heads/main"


def test_detached_head_elsewhere(make: Callable[[str], Path]) -> None:
    """Where a person went is not undone; but it is said."""
    home = make("commits")
    git(home, "checkout", "-q", "HEAD~1")
    content = in_git("HEAD")(home).read_bytes()
    for fix in (False, True):
        report = examined(home, fix=fix)
        assert in_git("HEAD")(home).read_bytes() == content
        assert not report.healthy
        assert "head-detached" in codes(report)
    git(home, "switch", "-q", "main")
    assert examined(home).healthy


def test_merge_under_way(make: Callable[[str], Path]) -> None:
    home = make("commits")
    in_git("MERGE_HEAD")(home).write_text(head_commit(home) + "\n")
    report = examined(home, fix=True)
    assert "git-in-progress" in codes(report)
    assert not report.healthy
    assert in_git("MERGE_HEAD")(home).exists()


def test_foreign_hook_is_left(make: Callable[[str], Path]) -> None:
    home = make("commits")
    garbage("hooks", "pre-commit", content=b"#!/bin/sh\nexit 0\n")(home)
    report = examined(home, fix=True)
    assert codes(report) == ["foreign-hook"]
    assert report.healthy
    assert in_git("hooks", "pre-commit")(home).read_bytes() == b"#!/bin/sh\nexit 0\n"


def test_corrupted_profile_is_reported_and_left(make: Callable[[str], Path]) -> None:
    home = make("commits")
    metadata = home / "profiles" / "beta" / "metadata.json"
    metadata.write_bytes(b"")
    for fix in (False, True):
        report = examined(home, fix=fix)
        assert codes(report) == ["profile-corrupted"]
        assert "beta" in report.findings[0].message
        assert "recover beta" in report.findings[0].hint
    assert metadata.read_bytes() == b""


def test_unknown_directory(make: Callable[[str], Path]) -> None:
    home = make("commits")
    (home / "profiles" / "stray" / "browser_profile").mkdir(parents=True)
    state = whole_tree(home)
    assert codes(examined(home)) == ["unknown-directory"]
    assert whole_tree(home) == state


def test_a_clone_is_no_damage(make: Callable[[str], Path], tmp_path: Path) -> None:
    home = make("commits")
    copy = tmp_path / "copy"
    copy.mkdir()
    subprocess.run(
        ["git", "clone", "-q", str(home / "profiles"), str(copy / "profiles")], check=True
    )
    state = whole_tree(copy)
    examined(copy)
    assert whole_tree(copy) == state
    assert examined(copy, fix=True).healthy
    assert examined(copy).findings == []


def test_through_the_manager(make: Callable[[str], Path]) -> None:
    home = make("loose")
    loose_path(home, head_commit(home)).unlink()
    with ProfileManager(home) as manager:
        with pytest.raises(TweakioError):
            manager.history()
        assert not manager.doctor().healthy
        assert manager.doctor(fix=True, cut=True).healthy
        assert len(manager.list_profiles()) == 3


def test_a_change_that_is_finished_after_the_commit_before_it_was_lost(
    make: Callable[[str], Path],
) -> None:
    """Its line of the reflogs names the lost commit, and is written late."""
    home = make("loose")
    interrupt(home, after=True)
    git_dir = home / "profiles/.git"
    lost = git(home, "rev-parse", "HEAD^")
    (git_dir / "objects" / lost[:2] / lost[2:]).unlink()
    assert "old-history-damaged" in codes(examined(home, fix=True))
    git(home, "fsck", "--strict")
    assert {item.severity for item in examined(home).findings} <= {"note"}
