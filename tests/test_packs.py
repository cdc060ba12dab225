"""Packs that we write must be packs to git and to dulwich, whatever fails on the way."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import time
import zlib
from collections import Counter
from pathlib import Path

import pytest

from tweakio.store import packs
from tweakio.store.packs import delta as deltas
from tweakio.store.packs import loose, merge, write
from tweakio.store.packs.delta import make_delta
from tweakio.store.packs.format import KIND_NAMES
from tweakio.store.packs.index import Pack

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git to compare with")


KINDS = ["switch", "switch", "one", "add", "remove", "back", "run"]


class Repo:
    """A repository of the real git, with loose objects that git itself wrote."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.git_dir = root / ".git"
        self.objects = self.git_dir / "objects"
        self.temporary = self.git_dir / "tweakio" / "tmp"

    def init(self, profiles: int) -> Repo:
        self.root.mkdir()
        self.git("init", "-q", "-b", "main")
        # fast-import would write a pack of its own.
        self.git("config", "fastimport.unpackLimit", "1000000")
        self.git("config", "gc.auto", "0")
        self.temporary.mkdir(parents=True)
        self.random = random.Random(profiles)
        self.profiles = [f"account_{number:05d}" for number in range(profiles)]
        self.commits = 0
        self.history("start", [(profile, b"first") for profile in self.profiles])
        return self

    def copy(self, root: Path) -> Repo:
        shutil.copytree(self.root, root)
        return Repo(root)

    def git(self, *arguments: str, data: bytes | None = None) -> bytes:
        environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "LC_ALL": "C"}
        done = subprocess.run(
            ["git", *arguments], cwd=self.root, input=data, capture_output=True, env=environment
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def history(self, *commits: str | list[tuple[str, bytes | None]]) -> None:
        """Commits, each of a message followed by its changes."""
        out = []
        for message, changes in zip(commits[::2], commits[1::2], strict=True):
            # Nine commits a second: the date alone does not give the order.
            stamp = f"a <a@example.org> {1_700_000_000 + self.commits // 9} +0000"
            out.append(
                f"commit refs/heads/main\ncommitter {stamp}\ndata {len(message)}\n{message}\n"
            )
            if self.commits and not out[:-1]:
                out.append("from refs/heads/main^0\n")
            self.commits += 1
            for profile, value in changes:
                name = f"{profile}/metadata.json"
                if value is None:
                    out.append(f"D {name}\n")
                else:
                    text = value.decode()
                    out.append(f"M 100644 inline {name}\ndata {len(text)}\n{text}\n")
        self.git("fast-import", "--quiet", "--force", data="".join(out).encode())

    def edits(self, count: int, *, only_switches: bool = False) -> None:
        commits: list = []
        for _ in range(count):
            kind = "switch" if only_switches else self.random.choice(KINDS)
            chosen = self.random.sample(self.profiles, 2)
            value = self.random.randbytes(30).hex().encode()
            if kind == "add":
                chosen = [f"account_{self.random.randrange(10**5):05d}"]
                self.profiles = sorted({*self.profiles, *chosen})
            elif kind == "remove" and len(self.profiles) > 10:
                self.profiles.remove(chosen[0])
                commits += ["remove", [(chosen[0], None)]]
                continue
            elif kind == "back":
                # The second brings an older root tree back.
                commits += ["x", [(chosen[0], b"x")], "y", [(chosen[0], b"y")]]
                value, chosen = b"x", chosen[:1]
            elif kind == "run":
                at = self.random.randrange(len(self.profiles) - 4)
                chosen = self.profiles[at : at + 4]
            commits += [kind, [(profile, value + b"%d" % n) for n, profile in enumerate(chosen)]]
        self.history(*commits)

    def loose(self) -> dict[str, Path]:
        return {
            path.parent.name + path.name: path
            for path in self.objects.glob("[0-9a-f][0-9a-f]/*")
            if len(path.name) == 38
        }

    def content(self) -> dict[str, bytes]:
        """Every object as git reads it, header included."""
        out = self.git("cat-file", "--batch-all-objects", "--batch")
        found = {}
        at = 0
        while at < len(out):
            end = out.index(b"\n", at)
            name, kind, size = out[at:end].split()
            found[name.decode()] = b"%s %s\0" % (kind, size) + out[end + 1 : end + 1 + int(size)]
            at = end + 2 + int(size)
        return found

    def packs(self) -> list[str]:
        return sorted(path.stem for path in self.objects.glob("pack/*.idx"))

    def counts(self) -> dict[str, int]:
        lines = self.git("count-objects", "-v").decode().splitlines()
        return {key: int(value) for key, value in (line.split(": ") for line in lines)}

    def check(self) -> None:
        environment = {**os.environ, "LC_ALL": "C"}
        done = subprocess.run(
            ["git", "fsck", "--strict", "--full", "--no-dangling"],
            cwd=self.root, capture_output=True, text=True, env=environment,
        )  # fmt: skip
        assert (done.returncode, done.stdout + done.stderr) == (0, "")

    def pack(self, **options) -> packs.PackReport:
        return packs.pack_recent(self.objects, self.temporary, **options)

    def merge(self, **options) -> int:
        return packs.merge_packs(self.objects, self.temporary, **options)

    def verified(self, stem: str) -> list[list[str]]:
        out = self.git("verify-pack", "-v", f".git/objects/pack/{stem}.idx").decode()
        return [line.split() for line in out.splitlines() if line[40:41] == " "]


@pytest.fixture
def repo(tmp_path):
    return Repo(tmp_path / "repo").init(12)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A small repository with one commit more than its last pack, and packs to join."""
    repo = Repo(tmp_path_factory.mktemp("template") / "repo").init(12)
    for _ in range(3):
        repo.pack(keep=99)
        repo.edits(3)
    repo.check()
    return repo


def name_of(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def write_loose(repo: Repo, content: bytes, *, level: int = 0) -> Path:
    name = name_of(content)
    path = repo.objects / name[:2] / name[2:]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(zlib.compress(content, level))
    return path


# --- the whole -----------------------------------------------------------------------------


def test_a_history_packed_in_rounds_reads_the_same(tmp_path):
    repo = Repo(tmp_path / "repo").init(40)
    expected = {}
    for _ in range(12):
        repo.edits(25)
        loose = {name: zlib.decompress(path.read_bytes()) for name, path in repo.loose().items()}
        expected |= loose
        report = repo.pack(keep=4)
        assert (report.packed, report.removed) == (len(loose), len(loose))
        assert repo.loose() == {}
        # Geometric and never more than `keep` plus the few that double.
        assert len(repo.packs()) <= 5
    assert len(repo.packs()) > 1
    repo.check()
    before = len(repo.packs())
    gone = repo.merge(keep=0)
    assert gone == 0 or len(repo.packs()) == before - gone + 1
    repo.check()
    assert repo.content() == expected
    counts = repo.counts()
    assert (counts["count"], counts["garbage"]) == (0, 0)
    # No object is in two packs.
    assert counts["in-pack"] == len(expected)
    for stem in repo.packs():
        assert max(int(line[5]) for line in repo.verified(stem) if len(line) == 7) <= 50
    whole = tmp_path / "whole.git"
    subprocess.run(["git", "init", "-q", "--bare", whole], check=True)
    (whole / "objects" / "info" / "alternates").write_text(f"{repo.objects}\n")
    for stem in repo.packs():
        own = tmp_path / f"{stem}.idx"
        subprocess.run(
            ["git", "index-pack", "--strict", "-o", own, repo.objects / "pack" / f"{stem}.pack"],
            cwd=whole, check=True, capture_output=True,
        )  # fmt: skip
        # git's index of our pack is ours, byte for byte.
        assert own.read_bytes() == (repo.objects / "pack" / f"{stem}.idx").read_bytes()


def test_dulwich_reads_every_object(repo):
    from dulwich.repo import Repo as Dulwich

    repo.edits(70)
    expected = {name: zlib.decompress(path.read_bytes()) for name, path in repo.loose().items()}
    repo.pack()
    with Dulwich(str(repo.root)) as opened:
        store = opened.object_store
        for name, content in expected.items():
            kind, data = store.get_raw(name.encode())
            assert content == b"%s %d\0" % (KIND_NAMES[kind], len(data)) + data
        assert len(store.packs) == 1
        for pack in store.packs:
            pack.check()


def test_statistics(repo):
    loose = repo.loose()
    (repo.objects / "17").mkdir(exist_ok=True)
    (repo.objects / "17" / "tmp_obj_x").write_bytes(b"x" * 1000)
    size = sum(path.stat().st_size for path in loose.values())
    assert packs.recent_statistics(repo.objects) == packs.RecentStatistics(len(loose), size)
    repo.pack()
    assert packs.recent_statistics(repo.objects) == packs.RecentStatistics(0, 0)


def test_nothing_to_pack(repo):
    repo.pack()
    before = repo.packs()
    assert repo.pack() == packs.PackReport(0, 0, 0, None)
    assert repo.packs() == before
    assert list(repo.temporary.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="modes")
def test_modes_and_missing_pack_directory(repo):
    shutil.rmtree(repo.objects / "pack")
    stem = repo.pack().pack
    directory = repo.objects / "pack"
    assert directory.stat().st_mode & 0o777 == 0o700
    for suffix in ("pack", "idx"):
        assert (directory / f"{stem}.{suffix}").stat().st_mode & 0o777 == 0o444
    repo.check()


def test_objects_of_every_kind(repo):
    blob = write_loose(repo, b"blob 3000\0" + b"abc" * 1000, level=9)
    empty = write_loose(repo, b"blob 0\0")
    repo.git("-c", "user.name=a", "-c", "user.email=a@example.org", "tag", "-a", "-m", "x", "t")
    before = repo.content()
    assert repo.pack().packed == len(before)
    assert not blob.exists()
    assert not empty.exists()
    assert repo.content() == before
    assert repo.git("cat-file", "-t", "t") == b"tag\n"


# --- size and speed ------------------------------------------------------------------------


def test_bytes_per_root_tree(tmp_path):
    repo = Repo(tmp_path / "repo").init(1000)
    repo.pack()
    repo.edits(64, only_switches=True)
    roots = set(repo.git("log", "--format=%T", "-64").decode().split())
    stem = repo.pack().pack
    lines = [line for line in repo.verified(stem) if line[0] in roots]
    whole = [line for line in lines if len(line) == 5]
    deltas = [line for line in lines if len(line) == 7]
    assert (len(whole), len(deltas)) == (1, 63)
    # The newest is the one that is read most.
    assert whole[0][0] == repo.git("log", "--format=%T", "-1").decode().strip()
    sizes = sorted(int(line[3]) for line in deltas)
    assert sizes[-2] < 100
    assert sum(sizes) / len(sizes) < 150
    assert max(int(line[5]) for line in deltas) == write.DEPTH
    # However long the chain, a new start differs from the one before by fifty commits only.
    repo.edits(200, only_switches=True)
    stem = repo.pack().pack
    trees = [line for line in repo.verified(stem) if line[1] == "tree"]
    assert sum(len(line) == 5 and int(line[2]) > 10_000 for line in trees) == 1
    assert max(int(line[3]) for line in trees if len(line) == 7) < 4000
    assert max(int(line[5]) for line in trees if len(line) == 7) == write.DEPTH


def tree_of(entries: dict[bytes, bytes]) -> bytes:
    return b"".join(b"40000 %s\0%s" % item for item in sorted(entries.items()))


def test_deltas_of_large_trees_are_fast():
    chance = random.Random(5)
    entries = {b"account_%06d" % (7 * n): chance.randbytes(20) for n in range(10_000)}
    trees = [tree_of(entries)]
    for n in range(64):
        for name in chance.sample(sorted(entries), 2):
            entries[name] = chance.randbytes(20)
        if n % 4 == 0:
            entries[b"account_%06d" % chance.randrange(70_000)] = chance.randbytes(20)
        if n % 4 == 1:
            del entries[chance.choice(sorted(entries))]
        trees.append(tree_of(entries))
    start = time.process_time()
    sizes = [
        len(make_delta(base, target, 200_000) or b"x" * 200_000)
        for base, target in itertools.pairwise(trees)
    ]
    assert time.process_time() - start < 1
    assert max(sizes) < 200


def apply(base: bytes, delta: bytes) -> bytes:
    from dulwich.pack import apply_delta

    return b"".join(apply_delta(base, delta))


@pytest.mark.parametrize("seed", range(20))
def test_delta_of_edited_trees(seed):
    chance = random.Random(seed)
    names = [chance.randbytes(chance.randint(1, 16)).hex().encode() for _ in range(300)]
    base = {name: chance.randbytes(20) for name in names}
    target = dict(base)
    for _ in range(chance.randint(1, 12)):
        at = chance.randrange(len(target))
        for name in sorted(target)[at : at + chance.randint(1, 4)]:
            if chance.random() < 0.3:
                del target[name]
            else:
                target[name] = chance.randbytes(20)
        target[chance.randbytes(6).hex().encode()] = chance.randbytes(20)
    before, after = tree_of(base), tree_of(target)
    delta = make_delta(before, after, len(after) // 2)
    assert delta is not None
    assert apply(before, delta) == after


@pytest.mark.parametrize("seed", range(20))
def test_delta_of_anything(seed):
    """Repetitive content is what misleads a search for where two texts meet again."""
    chance = random.Random(seed)
    words = [chance.randbytes(chance.choice([1, 3, 17, 40])) for _ in range(4)]
    base = b"".join(chance.choices(words, k=chance.randrange(200)))
    target = b"".join(chance.choices(words, k=chance.randrange(200))) + base[50:200]
    delta = make_delta(base, target, 10**6)
    assert delta is not None
    assert apply(base, delta) == target


def test_delta_borders():
    chance = random.Random(1)
    big = chance.randbytes(0x10000 * 40)
    for base, target in [
        (b"", b""),
        (b"", b"a" * 300),
        (b"a" * 300, b""),
        (big, big),
        (bytes(17 << 20), bytes(17 << 20)),
        (big, big[0x10000:0x30000]),
        (big, chance.randbytes(500) + big + chance.randbytes(128)),
        (big, big[: 1 << 20] + b"-" + big[1 << 20 :]),
        (big, big[1 << 20 :] + big[: 1 << 20]),
    ]:
        delta = make_delta(base, target, 10**6)
        assert delta is not None
        assert apply(base, delta) == target
        if len(target) > 1000:
            assert len(delta) < 1000
    assert make_delta(big, chance.randbytes(1000), 500) is None


def test_a_tree_of_other_content_is_stored_whole(repo):
    """Two histories in one pack: no delta is better than one that is longer."""
    chance = random.Random(3)
    trees = []
    for _ in range(4):
        entries = {chance.randbytes(8).hex().encode(): chance.randbytes(20) for _n in range(100)}
        body = tree_of(entries)
        content = b"tree %d\0" % len(body) + body
        write_loose(repo, content)
        trees.append(name_of(content))
    stem = repo.pack().pack
    assert [len(line) for line in repo.verified(stem) if line[0] in trees] == [5] * 4


def test_commits_of_one_second_are_in_the_order_of_history(repo):
    repo.edits(30)
    stem = repo.pack().pack
    written = [line[0] for line in sorted(repo.verified(stem), key=lambda line: int(line[4]))]
    order = repo.git("log", "--format=%H").decode().split()
    assert [name for name in written if name in set(order)] == order


# --- what is damaged or vanishes -----------------------------------------------------------


def damage_empty(path: Path) -> None:
    path.write_bytes(b"")


def damage_truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-6])


def damage_other_content(path: Path) -> None:
    raw = bytearray(zlib.decompress(path.read_bytes()))
    raw[-1] ^= 1
    path.write_bytes(zlib.compress(bytes(raw)))


def damage_tail(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"tail")


def damage_longer(path: Path) -> None:
    path.write_bytes(zlib.compress(zlib.decompress(path.read_bytes()) + b"x" * 100))


def damage_kind(path: Path) -> None:
    path.write_bytes(zlib.compress(b"bolb 3\0abc"))


DAMAGES = [
    damage_empty, damage_truncate, damage_other_content, damage_tail, damage_longer, damage_kind,
]  # fmt: skip


@pytest.mark.parametrize("kind", ["commit", "tree", "blob"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_objects_are_left_alone(template, tmp_path, damage, kind):
    repo = template.copy(tmp_path / "repo")
    loose = repo.loose()
    content = repo.content()
    victim = min(name for name in loose if content[name].startswith(kind.encode()))
    loose[victim].chmod(0o600)
    damage(loose[victim])
    bad = loose[victim].read_bytes()
    report = repo.pack()
    assert report.packed == report.removed == len(loose) - 1
    assert repo.loose() == {victim: loose[victim]}
    assert loose[victim].read_bytes() == bad
    # Once it is whole again, nothing is amiss.
    loose[victim].write_bytes(zlib.compress(content[victim]))
    repo.check()
    assert repo.content() == content


def test_a_damaged_copy_of_a_packed_object_is_left_alone(repo):
    copies = {path: path.read_bytes() for path in repo.loose().values()}
    repo.pack()
    first, *others = copies
    for path in copies:
        path.write_bytes(copies[path])
    damage_other_content(first)
    report = repo.pack()
    assert (report.packed, report.removed) == (len(others), len(others))
    assert list(repo.loose().values()) == [first]


def test_only_damaged_objects(repo):
    for path in repo.loose().values():
        path.chmod(0o600)
        damage_truncate(path)
    assert repo.pack().pack is None
    assert repo.packs() == []
    assert list(repo.temporary.iterdir()) == []


def test_loose_objects_vanish_before_and_after_they_are_packed(template, tmp_path, monkeypatch):
    repo = template.copy(tmp_path / "repo")
    content = repo.content()
    loose = repo.loose()
    # An object that nothing refers to may go for good, as by git prune.
    orphan = write_loose(repo, b"blob 6\0orphan")
    order, verify = write.plan, write.verify

    def plan_and_lose(fresh):
        orphan.unlink()
        return order(fresh)

    def verify_and_lose(*arguments, **options):
        verify(*arguments, **options)
        # As git prune-packed, if git had packed them too.
        for path in sorted(loose.values())[:3]:
            path.unlink()

    monkeypatch.setattr(write, "plan", plan_and_lose)
    monkeypatch.setattr(write, "verify", verify_and_lose)
    report = repo.pack(keep=99)
    assert (report.packed, report.removed) == (len(loose), len(loose) - 3)
    repo.check()
    assert repo.content() == content


@pytest.mark.parametrize("command", [("gc", "-q", "--prune=now"), ("repack", "-adq")])
@pytest.mark.parametrize(
    "moment",
    [
        (write, "plan"),
        (write, "verify"),
        (write, "put_in_place"),
        (merge, "_join"),
        (merge, "remove_pack"),
    ],
)
def test_git_repacks_in_the_middle(template, tmp_path, monkeypatch, command, moment):
    repo = template.copy(tmp_path / "repo")
    content = repo.content()
    function = getattr(*moment)
    calls = []

    def interrupted(*arguments, **options):
        if not calls:
            repo.git(*command)
        calls.append(1)
        return function(*arguments, **options)

    monkeypatch.setattr(*moment, interrupted)
    repo.pack(keep=1)
    assert calls
    repo.check()
    assert repo.content() == content
    repo.pack(keep=0)
    repo.check()
    assert repo.content() == content
    assert repo.counts()["garbage"] == 0


# --- objects that are in a pack already ----------------------------------------------------


def test_a_pack_of_git_does_not_count(repo):
    """A running git gc may have made the loose objects of it, and be about to remove it."""
    content = repo.content()
    copies = {path: path.read_bytes() for path in repo.loose().values()}
    repo.git("repack", "-adq")
    assert repo.loose() == {}
    (stem,) = repo.packs()
    for path, data in copies.items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    report = repo.pack()
    assert (report.packed, report.removed) == (len(copies), len(copies))
    for path in repo.objects.glob(f"pack/{stem}.*"):
        path.unlink()
    assert repo.content() == content
    repo.check()


def test_a_pack_of_ours_does_not_count_without_its_shield(repo):
    content = repo.content()
    copies = {path: path.read_bytes() for path in repo.loose().values()}
    stem = repo.pack().pack
    assert not (repo.objects / "pack" / f"{stem}.keep").exists()
    name, path = next((name, path) for path in copies for name in [path.parent.name + path.name])
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(copies[path])
    assert repo.pack().packed == 1
    for old in repo.objects.glob(f"pack/{stem}.*"):
        old.unlink()
    assert repo.git("cat-file", "-t", name)
    assert name in content


@pytest.mark.parametrize("harm", ["pack gone", "pack cut", "index cut", "index bit", "cruft"])
def test_a_pack_that_cannot_be_relied_on_does_not_count(repo, harm):
    repo.edits(9)
    content = repo.content()
    copies = {path: path.read_bytes() for path in repo.loose().values()}
    repo.git("repack", "-adq")
    (stem,) = repo.packs()
    base = repo.objects / "pack" / stem
    for path in repo.objects.glob("pack/*"):
        path.chmod(0o600)
    pack, index = base.with_suffix(".pack"), base.with_suffix(".idx")
    if harm == "pack gone":
        pack.unlink()
    elif harm == "pack cut":
        pack.write_bytes(pack.read_bytes()[:-30])
    elif harm == "index cut":
        index.write_bytes(index.read_bytes()[:-40])
    elif harm == "index bit":
        data = bytearray(index.read_bytes())
        data[1040] ^= 1
        index.write_bytes(data)
    else:
        base.with_suffix(".mtimes").write_bytes(b"")
    for path, data in copies.items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    report = repo.pack()
    assert report.packed == len(copies)
    assert report.pack != stem
    for path in repo.objects.glob(f"pack/{stem}.*"):
        path.unlink()
    assert repo.content() == content
    repo.check()


def test_a_pack_has_a_name_that_none_had_before(repo):
    """A running git may be about to remove a pack of the same content, by its name."""
    content = repo.content()
    copies = {path: path.read_bytes() for path in repo.loose().values()}
    first = repo.pack().pack
    for path, data in copies.items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    second = repo.pack()
    assert second.packed == len(copies)
    assert second.pack not in (None, first)
    for path in repo.objects.glob(f"pack/{first}.*"):
        path.unlink()
    assert repo.content() == content


def test_limits(repo, monkeypatch):
    repo.edits(20)
    big = write_loose(repo, b"blob 5000\0" + random.Random(1).randbytes(5000))
    monkeypatch.setattr(loose, "OBJECT_LIMIT", 4999)
    monkeypatch.setattr(write, "PACK_LIMIT", 8000)
    monkeypatch.setattr(merge, "JOIN_LIMIT", 8000)
    content = repo.content()
    total = len(repo.loose())
    first = repo.pack()
    assert 0 < first.packed < total - 1
    rounds = 1
    while repo.pack().packed:
        rounds += 1
    assert rounds > 1
    assert list(repo.loose().values()) == [big]
    assert max(path.stat().st_size for path in repo.objects.glob("pack/*.pack")) < 8000
    repo.merge(keep=0)
    assert len(repo.packs()) > 1
    assert max(path.stat().st_size for path in repo.objects.glob("pack/*.pack")) < 8000
    repo.check()
    assert repo.content() == content


# --- joining packs -------------------------------------------------------------------------


def test_join_keeps_everything(template, tmp_path):
    repo = template.copy(tmp_path / "repo")
    content = repo.content()
    repo.pack(keep=99)
    assert len(repo.packs()) == 4
    assert repo.merge(keep=4) == 0
    assert repo.merge(keep=3) == 4
    assert len(repo.packs()) == 1
    repo.check()
    assert repo.content() == content
    assert (
        json.loads((repo.git_dir / "tweakio" / "packs.json").read_text())["packs"] == repo.packs()
    )
    # A single pack is as joined as can be.
    assert repo.merge(keep=0) == 0


@pytest.mark.parametrize("suffix", [".keep", ".bitmap", ".promisor", ".mtimes"])
def test_packs_that_git_has_a_hand_on_stay(template, tmp_path, suffix):
    repo = template.copy(tmp_path / "repo")
    smallest = min(repo.objects.glob("pack/*.pack"), key=lambda path: path.stat().st_size)
    stem, marker = smallest.stem, smallest.with_suffix(suffix)
    marker.write_bytes(b"")
    repo.merge(keep=0)
    assert stem in repo.packs()
    assert len(repo.packs()) == 2
    marker.unlink()
    repo.check()


def test_packs_of_git_stay(repo):
    for _ in range(3):
        repo.edits(3)
        repo.git("repack", "-dq")
    repo.edits(3)
    foreign = set(repo.packs())
    repo.pack(keep=0)
    repo.edits(3)
    repo.pack(keep=0)
    assert foreign < set(repo.packs())
    assert len(repo.packs()) == len(foreign) + 1
    repo.check()


def test_no_join_beside_a_multi_pack_index_or_git_gc(template, tmp_path):
    repo = template.copy(tmp_path / "repo")
    lock = repo.git_dir / "gc.pid"
    lock.write_text("1 host")
    assert repo.merge(keep=0) == 0
    # One that git itself would take for a leftover.
    os.utime(lock, (time.time() - 13 * 3600,) * 2)
    second = repo.copy(tmp_path / "second")
    repo.git("multi-pack-index", "write")
    assert repo.merge(keep=0) == 0
    repo.git("multi-pack-index", "verify")
    assert second.merge(keep=0) == 3


def test_a_damaged_pack_is_not_joined(template, tmp_path):
    repo = template.copy(tmp_path / "repo")
    victim = repo.packs()[1]
    path = repo.objects / "pack" / f"{victim}.pack"
    good = path.read_bytes()
    data = bytearray(good)
    data[len(data) // 2] ^= 4
    path.chmod(0o600)
    path.write_bytes(data)
    assert repo.merge(keep=0) == 2
    assert victim in repo.packs()
    assert len(repo.packs()) == 2
    path.write_bytes(good)
    repo.check()


def test_parts_that_a_crash_left_beside_the_joined_pack_go(template, tmp_path):
    repo = template.copy(tmp_path / "repo")
    content = repo.content()
    parts = {path: path.read_bytes() for path in repo.objects.glob("pack/*")}
    assert repo.merge(keep=0) == 3
    (joined,) = repo.packs()
    for path, data in parts.items():
        path.write_bytes(data)
    record = repo.git_dir / "tweakio" / "packs.json"
    record.write_text(
        json.dumps({"packs": [joined], "unfinished": sorted({path.stem for path in parts})})
    )
    assert repo.merge(keep=0) == 3
    assert repo.packs() == [joined]
    repo.check()
    assert repo.content() == content
    assert repo.counts()["garbage"] == 0


def test_packs_that_share_an_object_are_joined_without_doubles(template, tmp_path):
    repo = template.copy(tmp_path / "repo")
    repo.pack(keep=99)
    stem = repo.packs()[0]
    name = repo.verified(stem)[0][0]
    loose = write_loose(repo, repo.content()[name])
    write_loose(repo, b"blob 1\0a")
    # Hidden for a moment, so that one object gets into two packs.
    hidden = repo.objects / "pack" / f"{stem}.idx"
    hidden.rename(tmp_path / "idx")
    repo.pack(keep=99)
    (tmp_path / "idx").rename(hidden)
    assert not loose.exists()
    content = repo.content()
    assert repo.merge(keep=0) == 5
    (left,) = repo.packs()
    names = [line[0] for line in repo.verified(left)]
    assert len(names) == len(set(names)) == len(content)
    repo.check()
    assert repo.content() == content


@pytest.mark.parametrize(
    "record",
    [b"", b"[]", b"{", b'{"packs": 1}', b'{"packs": [3]}', b'{"unfinished": ["../../x"]}'],
)
def test_a_record_of_nonsense_is_no_record(template, tmp_path, record):
    repo = template.copy(tmp_path / "repo")
    (repo.git_dir / "tweakio" / "packs.json").write_bytes(record)
    (repo.git_dir / "x.pack").write_bytes(b"")
    before = set(repo.packs())
    repo.pack(keep=0)
    assert before < set(repo.packs())
    assert (repo.git_dir / "x.pack").exists()
    repo.check()


def test_a_pack_that_lost_its_index_is_not_removed(template, tmp_path):
    repo = template.copy(tmp_path / "repo")
    stem = repo.packs()[0]
    (repo.objects / "pack" / f"{stem}.idx").unlink()
    repo.pack(keep=0)
    repo.git("index-pack", f".git/objects/pack/{stem}.pack")
    repo.check()


@pytest.mark.parametrize("keep", [0, 8])
def test_joining_is_geometric(keep):
    """After a thousand packs few are left, and no byte was copied more than about log n times."""
    chance = random.Random(keep)
    sizes: list[Pack] = []
    copied = written = 0
    for n in range(1000):
        size = chance.randint(50, 150)
        written += size
        sizes.append(Pack(f"{n:04}", "", size, None))
        sizes.sort(key=lambda pack: pack.size)
        if len(sizes) <= keep:
            continue
        group = merge._choose_group(sizes)
        if group:
            total = sum(pack.size for pack in group)
            copied += total
            sizes = [pack for pack in sizes if pack not in group]
            sizes.append(Pack(f"{n:04}j", "", total, None))
            sizes.sort(key=lambda pack: pack.size)
        before = 0
        for pack in sizes:
            assert pack.size >= 2 * before
            before += pack.size
    assert len(sizes) <= keep + 8
    assert copied < written * 11


def test_a_full_pack_is_not_copied_for_each_small_one(monkeypatch):
    monkeypatch.setattr(merge, "JOIN_LIMIT", 1000)

    def chosen(*sizes):
        group = merge._choose_group([Pack("", "", size, None) for size in sizes])
        return [pack.size for pack in group]

    assert chosen(10, 600, 600) == []
    assert chosen(10, 10, 600, 600) == [10, 10]
    assert chosen(300, 300) == [300, 300]


# --- faults --------------------------------------------------------------------------------

CALLS = ["write", "fsync", "replace", "unlink", "fchmod", "lseek"]


class Fault:
    """Make the n-th call of one os function fail."""

    def __init__(self, monkeypatch, name, position, error) -> None:
        self.left = position
        self.hit = False
        real = getattr(os, name)

        def call(*arguments, **options):
            self.left -= 1
            if self.left == 0:
                self.hit = True
                raise error
            return real(*arguments, **options)

        monkeypatch.setattr(os, name, call)


@pytest.mark.parametrize("action", ["pack", "merge"])
@pytest.mark.parametrize("name", CALLS)
def test_an_error_leaves_the_repository_intact(template, tmp_path, monkeypatch, name, action):
    content = template.content()
    swallowed = 0
    # The count of lseek grows with the number of objects and of files with unlink.
    step = 11 if name in ("lseek", "unlink") else 1
    for position in range(1, 300, step):
        repo = template.copy(tmp_path / f"{position}")
        with monkeypatch.context() as patch:
            fault = Fault(patch, name, position, OSError(errno.ENOSPC, "full"))
            with contextlib.suppress(OSError):
                getattr(repo, action)(keep=1)
                swallowed += fault.hit
        repo.check()
        if not fault.hit:
            break
        if name != "unlink":
            assert list(repo.temporary.iterdir()) == []
            # A .pack that never got its .idx was taken back.
            assert repo.counts()["garbage"] == 0
        assert repo.content() == content
        repo.pack(keep=1)
        assert repo.loose() == {}
        assert repo.counts()["garbage"] == 0
        repo.check()
        assert repo.content() == content
        shutil.rmtree(repo.root)
    assert not fault.hit
    assert position > 1
    # Only the removal of our temporary files may fail unnoticed, and reading of loose ones.
    assert not swallowed or name in ("unlink", "lseek")


class KilledError(BaseException):
    pass


@pytest.mark.no_cover  # the same lines again and again
def test_a_kill_at_any_call_is_healed_by_the_next_run(template, tmp_path, monkeypatch):
    """From one call on nothing reaches the disk any more, no cleaning up either."""
    content = template.content()
    changing = ["write", "fsync", "replace", "unlink", "mkdir", "chmod", "fchmod"]
    left = 0

    def dying(real):
        def call(*arguments, **options):
            nonlocal left
            # Many loose files are removed one after the other; every third will do.
            loose = len(Path(str(arguments[0])).parent.name) == 2
            left -= not loose or "abcde".find(Path(str(arguments[0])).name[0]) >= 0
            if left <= 0:
                raise KilledError
            return real(*arguments, **options)

        return call

    for position in range(1, 500):
        repo = template.copy(tmp_path / f"{position}")
        left = position
        with monkeypatch.context() as patch:
            for name in changing:
                patch.setattr(os, name, dying(getattr(os, name)))
            try:
                repo.pack(keep=1)
            except KilledError:
                pass
            else:
                break
        repo.check()
        # The caller empties this after a crash.
        for path in repo.temporary.iterdir():
            path.unlink()
        repo.pack(keep=0)
        repo.merge(keep=0)
        repo.check()
        assert repo.loose() == {}
        assert repo.content() == content
        counts = repo.counts()
        assert (counts["garbage"], counts["in-pack"]) == (0, len(content))
        shutil.rmtree(repo.root)
    assert 20 < position < 499


@pytest.mark.parametrize("place", [0, 9, 30, -10, -25])
@pytest.mark.parametrize("action", ["pack", "merge"])
def test_a_pack_that_reads_back_differently_is_not_used(
    template, tmp_path, monkeypatch, place, action
):
    repo = template.copy(tmp_path / "repo")
    before = repo.packs()
    loose = repo.loose()
    real = os.write

    def write(descriptor, data):
        data = bytes(data)
        if data[:4] in (b"PACK", b"\xfftOc") and len(data) > 100:
            flipped = bytearray(data)
            flipped[place] ^= 8
            data = bytes(flipped)
        return real(descriptor, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(OSError, match="reads back differently"):
            getattr(repo, action)(keep=0)
    assert repo.packs() == before
    assert repo.loose() == loose
    repo.check()


def test_a_wrong_delta_is_found_before_it_is_used(template, tmp_path, monkeypatch):
    repo = template.copy(tmp_path / "repo")
    loose = repo.loose()
    real = deltas._copy
    monkeypatch.setattr(deltas, "_copy", lambda out, offset, size: real(out, offset + 1, size))
    with pytest.raises(OSError, match="reads back differently"):
        repo.pack()
    assert repo.loose() == loose
    # One that cannot be followed at all.
    monkeypatch.setattr(deltas, "_copy", lambda out, offset, size: real(out, offset + 10**6, size))
    with pytest.raises(OSError, match="reads back differently"):
        repo.pack()
    assert repo.loose() == loose


def test_loose_files_go_only_after_the_pack_is_durable(template, tmp_path, monkeypatch):
    repo = template.copy(tmp_path / "repo")
    events = []
    names = {}

    def noting(name):
        real = getattr(os, name)

        def call(*arguments, **options):
            result = real(*arguments, **options)
            if name == "open":
                names[result] = os.fspath(arguments[0])
            elif name == "fsync":
                path = Path(names[arguments[0]])
                events.append(("fsync", path.suffix or path.name))
            else:
                path = Path(arguments[-1])
                loose = path.parent.parent == repo.objects and len(path.parent.name) == 2
                events.append((name, "loose" if loose else path.suffix))
            return result

        return call

    for name in ("open", "fsync", "replace", "unlink"):
        monkeypatch.setattr(os, name, noting(name))
    repo.pack(keep=99)
    del events[next(n for n, event in enumerate(events) if event == ("unlink", "loose")) + 1 :]
    order = [
        event for event in events if event[0] != "fsync" or event[1] in (".pack", ".idx", "pack")
    ]
    assert [event for event in order if event[1] != ".json"] == [
        ("fsync", ".pack"),
        ("fsync", ".idx"),
        ("replace", ".pack"),
        ("fsync", "pack"),
        ("replace", ".idx"),
        ("fsync", "pack"),
        ("unlink", "loose"),
    ]
    assert Counter(order)["replace", ".json"] == 2
