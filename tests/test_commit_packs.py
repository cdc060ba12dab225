"""The pack that one commit writes: git reads it, no git removes it, and packing takes it away."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.test_packs import Fault, KilledError, Repo, name_of, write_loose
from tweakio.durable import Batch
from tweakio.store import packs
from tweakio.store.objects import ObjectReader, ObjectWriter, TreeEntry, object_id, serialise_tree
from tweakio.store.packs import commit as commit_module
from tweakio.store.packs import merge, recent
from tweakio.store.packs.commit import CommitPack
from tweakio.store.packs.record import Record

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git to compare with")

GC = ("gc", "-q", "--prune=now")
REPACK = ("repack", "-adq")


def write_pack(home, items, marker=None):
    with Batch() as batch:
        pack = CommitPack.prepare(home.temporary, items, batch)
    pack.put_in_place(home.objects, marker)


class Home(Repo):
    """A repository whose commits are written as tweakio writes them."""

    def start(self, profiles: int) -> Home:
        self.root.mkdir()
        self.git("init", "-q", "-b", "main")
        self.git("config", "gc.auto", "0")
        self.temporary.mkdir(parents=True)
        self.random = random.Random(profiles)
        self.parent = b""
        self.stamp = 1_700_000_000
        writer = self.writer()
        self.trees = {
            f"account_{number:05d}": self.profile(writer, b"first %d" % number)
            for number in range(profiles)
        }
        self.publish(self.build(writer))
        return self

    def copy(self, root: Path) -> Home:
        shutil.copytree(self.root, root)
        home = Home(root)
        home.random = random.Random(1)
        home.parent, home.stamp, home.trees = self.parent, self.stamp + 1000, dict(self.trees)
        return home

    def writer(self) -> ObjectWriter:
        return ObjectWriter(self.objects, self.temporary)

    def profile(self, writer: ObjectWriter, value: bytes) -> bytes:
        blob = writer.add(b"blob", value)
        return writer.add(b"tree", serialise_tree([TreeEntry(b"100644", b"metadata.json", blob)]))

    def build(self, writer: ObjectWriter) -> bytes:
        """Write a commit of the trees as they are; its name."""
        root = writer.add(
            b"tree",
            serialise_tree(
                TreeEntry(b"40000", name.encode(), tree) for name, tree in self.trees.items()
            ),
        )
        self.stamp += 1
        person = b"a <a@example.org> %d +0000" % self.stamp
        parent = b"parent %s\n" % self.parent.hex().encode() if self.parent else b""
        body = b"tree %s\n%sauthor %s\ncommitter %s\n\nx\n"
        name = writer.add(b"commit", body % (root.hex().encode(), parent, person, person))
        writer.flush()
        return name

    def publish(self, name: bytes) -> None:
        self.parent = name
        (self.git_dir / "refs" / "heads" / "main").write_text(name.hex() + "\n")

    def write(self, value: bytes | None = None, profile: str | None = None) -> bytes:
        """The objects of a commit that changes one profile; the branch stays."""
        writer = self.writer()
        profile = profile or self.random.choice(sorted(self.trees))
        before = dict(self.trees)
        value = value or self.random.randbytes(30).hex().encode()
        self.trees[profile] = self.profile(writer, value)
        try:
            return self.build(writer)
        except BaseException:
            self.trees = before
            raise

    def commit(self, value: bytes | None = None, profile: str | None = None) -> bytes:
        name = self.write(value, profile)
        self.publish(name)
        return name

    def commit_packs(self) -> list[str]:
        return [stem for stem in self.packs() if stem.startswith(commit_module.PREFIX)]

    def commit_files(self) -> list[str]:
        return sorted(path.name for path in self.objects.glob(f"pack/{commit_module.PREFIX}*"))

    def keeps(self) -> list[str]:
        return sorted(path.stem for path in self.objects.glob("pack/*.keep"))

    def clone(self, target: Path) -> None:
        self.git("clone", "-q", "--no-local", f"file://{self.root}", str(target))
        assert Repo(target).git("rev-parse", "HEAD") == self.git("rev-parse", "HEAD")
        Repo(target).check()
        shutil.rmtree(target)

    def bear(self, command: tuple[str, ...], other: Path) -> None:
        """Let git do something to the repository."""
        if command == ("clone",):
            self.clone(other)
        else:
            self.git(*command)

    def empty_temporary(self) -> None:
        """What the caller does after a crash."""
        for path in self.temporary.iterdir():
            path.unlink()


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home").start(12)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """Two packs of ours, then commit packs, one of which has objects of the first pack."""
    home = Home(tmp_path_factory.mktemp("commits") / "home").start(12)
    for value in (b"old", b"new"):
        home.commit(value, "account_00003")
        home.commit()
        home.pack(keep=99)
    home.commit(b"old", "account_00003")
    home.commit()
    home.commit()
    write_loose(home, b"blob 5\0loose")
    home.check()
    return home


# --- one commit ----------------------------------------------------------------------------


def test_a_commit_is_one_pack(home):
    before = set(home.packs())
    name = home.commit()
    (stem,) = set(home.packs()) - before
    assert home.loose() == {}
    assert list(home.temporary.iterdir()) == []
    lines = home.verified(stem)
    # Blob, tree, root tree and commit, none of them a delta.
    assert [len(line) for line in lines] == [5] * 4
    assert name.hex() in {line[0] for line in lines}
    home.check()
    assert home.counts()["garbage"] == 0
    files = sorted(path.suffix for path in home.objects.glob(f"pack/{stem}.*"))
    assert files == [".idx", ".keep", ".pack"]
    if sys.platform != "win32":
        for suffix in files:
            path = home.objects / "pack" / f"{stem}{suffix}"
            assert stat.S_IMODE(path.stat().st_mode) == 0o444


def test_git_makes_the_same_index(home, tmp_path):
    home.commit()
    whole = tmp_path / "whole.git"
    subprocess.run(["git", "init", "-q", "--bare", whole], check=True)
    (whole / "objects" / "info" / "alternates").write_text(f"{home.objects}\n")
    for stem in home.packs():
        own = tmp_path / f"{stem}.idx"
        subprocess.run(
            ["git", "index-pack", "--strict", "-o", own, home.objects / "pack" / f"{stem}.pack"],
            cwd=whole, check=True, capture_output=True,
        )  # fmt: skip
        assert own.read_bytes() == (home.objects / "pack" / f"{stem}.idx").read_bytes()


def test_all_read_it(home):
    from dulwich.repo import Repo as Dulwich

    reader = ObjectReader(home.objects)
    assert reader.read_any(bytes(20)) == (b"", b"")  # its list of packs is older than the commit
    home.commit(random.Random(1).randbytes(70_000))
    content = home.content()
    assert len(content) == 12 * 2 + 2 + 4
    with Dulwich(str(home.root)) as opened:
        for pack in opened.object_store.packs:
            pack.check()
        for name in content:
            opened.object_store.get_raw(name.encode())
    for name, whole in content.items():
        kind, body = reader.read_any(bytes.fromhex(name))
        assert b"%s %d\0%s" % (kind, len(body), body) == whole
    reader.close()


@pytest.mark.parametrize("size", [0, 1, 15, 16, 2047, 2048, 300_000])
@pytest.mark.parametrize("kind", [b"blob", b"tree"])
def test_sizes(home, size, kind):
    body = b"x" * size
    if kind == b"tree":
        entries = [
            TreeEntry(b"40000", b"n%08d" % n, object_id(b"tree", b"")) for n in range(size // 35)
        ]
        body = serialise_tree(entries)
    write_pack(home, [(object_id(kind, body), kind, body)] * 2)  # one and the same twice is one
    name = object_id(kind, body).hex()
    assert home.git("cat-file", kind.decode(), name) == body
    home.pack()
    assert home.git("cat-file", kind.decode(), name) == body


def test_nothing_to_write(home):
    before = home.packs()
    home.writer().flush()
    assert home.packs() == before


def test_a_missing_pack_directory(tmp_path):
    home = Home(tmp_path / "home")
    home.root.mkdir()
    home.git("init", "-q")
    home.temporary.mkdir(parents=True)
    shutil.rmtree(home.objects / "pack")
    body = b"x"
    write_pack(home, [(object_id(b"blob", body), b"blob", body)])
    assert len(home.commit_packs()) == 1
    assert home.git("cat-file", "blob", object_id(b"blob", body).hex()) == body


def test_writing_the_same_again(home):
    before = home.content()
    items = [(object_id(b"blob", body), b"blob", body) for body in (b"one", b"two")]
    for _ in range(3):
        write_pack(home, items)
    home.check()
    assert len(home.commit_packs()) == 4
    assert home.pack().commits == 4
    (stem,) = home.packs()
    names = [line[0] for line in home.verified(stem)]
    assert len(names) == len(set(names)) == len(before) + 2
    home.check()


@pytest.mark.parametrize("links", [True, False])
def test_the_keep_is_another_name_of_a_marker(home, monkeypatch, links):
    """Where there are hard links; else it is a file of its own."""
    marker = home.temporary.parent / "marker"
    marker.write_bytes(b"synced long ago")
    if not links:

        def refuse(source, target):
            raise PermissionError(errno.EPERM, "no hard links here")

        monkeypatch.setattr(os, "link", refuse)
    before = set(home.keeps())
    write_pack(home, [(object_id(b"blob", b"x"), b"blob", b"x")], marker)
    (stem,) = set(home.keeps()) - before
    keep = home.objects / "pack" / f"{stem}.keep"
    assert os.path.samefile(keep, marker) is links
    assert keep.stat().st_size
    home.git("repack", "-adq")
    assert keep.exists()
    home.pack()
    assert home.keeps() == []
    assert marker.read_bytes() == b"synced long ago"
    home.check()


def test_a_change_that_was_built_anew_is_one_pack(home):
    """What was prepared for the first attempt is in the second one's, and goes."""
    writer = home.writer()
    first = writer.add(b"blob", b"of the first attempt")
    before = set(home.packs())
    with Batch() as batch:
        writer.prepare(batch)
        second = writer.add(b"blob", b"of the second")
        writer.prepare(batch)
        batch.sync()
        assert set(home.packs()) == before
        assert writer.get(first) == (b"blob", b"of the first attempt")
        writer.put_in_place()
    assert len(set(home.packs()) - before) == 1
    assert {first.hex(), second.hex()} <= home.content().keys()
    assert list(home.temporary.iterdir()) == []
    assert writer.get(first) is None
    home.check()


def test_the_order_of_a_write(home, monkeypatch):
    events = []
    names = {}

    def noting(name):
        real = getattr(os, name)

        def call(*arguments, **options):
            result = real(*arguments, **options)
            if name == "open":
                names[result] = Path(os.fspath(arguments[0]))
                if names[result].suffix == ".keep":
                    events.append(("create", ".keep"))
            else:
                path = names[arguments[0]] if name == "fsync" else Path(arguments[1])
                events.append((name, path.suffix or path.name))
            return result

        return call

    for name in ("open", "fsync", "replace"):
        monkeypatch.setattr(os, name, noting(name))
    home.write()
    assert events == [
        ("fsync", ".pack"),
        ("fsync", ".idx"),
        ("create", ".keep"),
        ("replace", ".pack"),
        ("replace", ".idx"),
        ("fsync", "pack"),
    ]


# --- git beside it -------------------------------------------------------------------------


@pytest.mark.parametrize("command", [GC, REPACK, ("clone",), ("prune", "--expire=now")])
def test_git_between_the_objects_and_the_branch(home, tmp_path, command):
    home.commit()
    name = home.write()
    home.bear(command, tmp_path / "clone")
    home.publish(name)
    home.check()
    home.bear(command, tmp_path / "clone")
    assert home.git("log", "--format=%H").decode().split()[0] == name.hex()
    home.check()
    home.clone(tmp_path / "other")
    content = home.content()
    home.pack()
    assert home.commit_files() == []
    assert home.keeps() == []
    home.bear(command, tmp_path / "clone")
    home.check()
    assert home.content() == content


MOMENTS = [
    (recent, "write_pack"),
    (recent, "_remove_commit_packs"),
    (recent, "_multi_pack_index"),
    (Record, "shield"),
    (Record, "lift"),
    (recent, "merge"),
]


@pytest.mark.parametrize("command", [GC, REPACK, ("clone",)])
@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment[1])
def test_git_in_the_middle_of_packing(template, tmp_path, monkeypatch, command, moment):
    home = template.copy(tmp_path / "home")
    content = home.content()
    reachable = set(home.git("rev-list", "--objects", "--no-object-names", "HEAD").decode().split())
    function = getattr(*moment)
    calls = []

    def interrupted(*arguments, **options):
        calls.append(1)
        home.bear(command, tmp_path / "clone")
        result = function(*arguments, **options)
        home.bear(command, tmp_path / "clone")
        return result

    with monkeypatch.context() as patch:
        patch.setattr(*moment, interrupted)
        home.pack(keep=1)
    assert calls
    home.check()
    home.pack(keep=0)
    home.check()
    after = home.content()
    assert all(after[name] == content[name] for name in reachable)
    assert home.counts()["garbage"] == 0
    assert home.commit_files() == []
    assert home.keeps() == []


class SlowRepack:
    """A git repack that stops between the new pack and the removal of the old ones."""

    def __init__(self, home: Home, place: Path) -> None:
        self.home = home
        self.packed, self.go = place / "packed", place / "go"
        real = Path(shutil.which("git") or "").resolve()
        path = subprocess.run(["git", "--exec-path"], capture_output=True, text=True, check=True)
        programs = place / "programs"
        programs.mkdir(parents=True)
        for program in Path(path.stdout.strip()).iterdir():
            if program.name != "git":
                (programs / program.name).symlink_to(program)
        script = programs / "git"
        script.write_text(
            f'#!/bin/sh\n"{real}" "$@"; status=$?\n'
            f'if [ "$1" = pack-objects ]; then touch "{self.packed}"\n'
            # Bounded, so that a test run that is killed leaves no program behind.
            f'n=0; while [ ! -e "{self.go}" ] && [ $n -lt 3000 ]; do sleep 0.01; n=$((n+1)); done'
            "; fi\nexit $status\n"
        )
        script.chmod(0o755)
        environment = {**os.environ, "GIT_EXEC_PATH": str(programs)}
        self.process = subprocess.Popen(
            [real, "repack", "-adq"], cwd=home.root, env=environment, stderr=subprocess.PIPE
        )
        limit = time.monotonic() + 20
        while not self.packed.exists():
            assert time.monotonic() < limit
            time.sleep(0.005)

    def finish(self) -> None:
        self.go.touch()
        _, errors = self.process.communicate(timeout=20)
        assert (self.process.returncode, errors) == (0, b"")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
@pytest.mark.parametrize(
    "moment", [None, (recent, "write_pack"), (recent, "_remove_commit_packs")], ids=str
)
def test_a_repack_that_counts_on_commit_packs(template, tmp_path, monkeypatch, moment):
    """What it left out of its pack must not be only in what it removes as replaced."""
    home = template.copy(tmp_path / "home")
    content = home.content()
    started = []

    def start():
        started.append(SlowRepack(home, tmp_path / "slow"))

    if moment is None:
        start()
    else:
        function = getattr(*moment)

        def interrupted(*arguments, **options):
            if not started:
                start()
            return function(*arguments, **options)

        monkeypatch.setattr(*moment, interrupted)
    report = home.pack(keep=99)
    assert report.commits == 3
    assert home.commit_files() == []
    assert home.keeps() == []
    started[0].finish()
    home.check()
    assert home.content() == content


@pytest.mark.parametrize("suffixes", [("keep",), ("keep", "pack"), ("keep", "idx")])
@pytest.mark.parametrize("command", [GC, REPACK, ("clone",), ("repack", "-dq")])
def test_leftovers_do_not_disturb_git(home, tmp_path, suffixes, command):
    home.commit()
    content = home.content()
    trees = dict(home.trees)
    gone = home.write()
    home.trees = trees
    (stem,) = [stem for stem in home.commit_packs() if gone.hex() in str(home.verified(stem))]
    for suffix in {"keep", "pack", "idx"} - set(suffixes):
        (home.objects / "pack" / f"{stem}.{suffix}").unlink()
    home.check()
    home.bear(command, tmp_path / "clone")
    home.check()
    assert home.content() == content
    home.commit()
    home.pack()
    home.check()
    assert home.commit_files() == []
    assert home.keeps() == []
    assert home.counts()["garbage"] == 0
    assert home.content().items() > content.items()


# --- faults --------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("name", ["open", "write", "fsync", "replace", "fchmod"])
def test_an_error_in_a_commit(template, tmp_path, monkeypatch, name, error):
    content = template.content()
    for position in range(1, 30):
        home = template.copy(tmp_path / f"{position}")
        before = home.commit_files()
        writer = home.writer()
        names = [writer.add(b"blob", b"value %d" % n) for n in range(4)]
        failed = False
        with monkeypatch.context() as patch:
            fault = Fault(patch, name, position, OSError(error, "no"))
            try:
                writer.flush()
            except OSError:
                failed = True
        home.check()
        assert home.content().items() >= content.items()
        assert list(home.temporary.iterdir()) == []
        assert home.counts()["garbage"] == 0
        if failed:
            if len(home.commit_files()) != len(before):
                # Only the sync of the directory failed.
                assert name in ("open", "fsync")
            writer.flush()
        assert all(name.hex() in home.content() for name in names)
        home.pack()
        home.check()
        assert home.commit_files() == []
        shutil.rmtree(home.root)
        if not fault.hit:
            break
    assert not fault.hit
    assert position > 1


CHANGING = ["open", "write", "fsync", "replace", "unlink", "mkdir", "chmod", "fchmod"]


class Death:
    """From the n-th change on nothing reaches the disk any more, no cleaning up either."""

    def __init__(self, patch, position: int) -> None:
        self.left = position
        for name in CHANGING:
            patch.setattr(os, name, self.dying(name, getattr(os, name)))

    def dying(self, name, real):
        def call(*arguments, **options):
            if name != "open" or arguments[1] & os.O_CREAT:
                self.left -= 1
                if self.left <= 0:
                    raise KilledError
            return real(*arguments, **options)

        return call


@pytest.mark.parametrize("after", [None, GC, REPACK])
def test_a_kill_in_a_commit(template, tmp_path, monkeypatch, after):
    content = template.content()
    reachable = set(
        template.git("rev-list", "--objects", "--no-object-names", "HEAD").decode().split()
    )
    for position in range(1, 100):
        home = template.copy(tmp_path / f"{position}")
        with monkeypatch.context() as patch:
            Death(patch, position)
            try:
                home.write()
            except KilledError:
                pass
            else:
                break
        home.check()
        if after:
            home.git(*after)
        home.empty_temporary()
        home.commit()
        home.check()
        home.pack()
        home.check()
        assert home.commit_files() == []
        assert home.keeps() == []
        assert home.counts()["garbage"] == 0
        found = home.content()
        assert all(found[name] == content[name] for name in reachable)
        shutil.rmtree(home.root)
    assert 10 < position < 99


@pytest.mark.no_cover  # the same lines again and again
def test_a_kill_in_packing(template, tmp_path, monkeypatch):
    content = template.content()
    for position in range(1, 500):
        home = template.copy(tmp_path / f"{position}")
        with monkeypatch.context() as patch:
            Death(patch, position)
            try:
                home.pack(keep=1)
            except KilledError:
                pass
            else:
                break
        home.check()
        home.empty_temporary()
        if position % 2:
            home.commit()
        home.pack(keep=0)
        home.merge(keep=0)
        home.check()
        assert home.commit_files() == []
        assert home.keeps() == []
        assert home.loose() == {}
        assert home.content().items() >= content.items()
        counts = home.counts()
        assert counts["garbage"] == 0
        assert counts["packs"] <= 2  # one, or a small one beside the rest
        shutil.rmtree(home.root)
    assert 30 < position < 499


@pytest.mark.parametrize("name", ["open", "write", "fsync", "replace", "unlink", "fchmod"])
def test_an_error_in_packing(template, tmp_path, monkeypatch, name):
    content = template.content()
    for position in range(1, 300, 3 if name == "open" else 1):
        home = template.copy(tmp_path / f"{position}")
        with monkeypatch.context() as patch:
            fault = Fault(patch, name, position, OSError(errno.EIO, "no"))
            with contextlib.suppress(OSError):
                home.pack(keep=1)
        home.check()
        if not fault.hit:
            break
        assert home.content() == content
        home.empty_temporary()
        home.pack(keep=1)
        home.check()
        assert home.content() == content
        assert home.commit_files() == []
        assert home.keeps() == []
        assert home.counts()["garbage"] == 0
        shutil.rmtree(home.root)
    assert not fault.hit
    assert position > 1


# --- packing -------------------------------------------------------------------------------


def test_two_hundred_commits(tmp_path):
    home = Home(tmp_path / "home").start(1000)
    home.pack()

    def size():
        return sum(path.stat().st_size for path in home.objects.glob("pack/*.pack"))

    before = size()
    content: dict[str, bytes] = {}
    for number in range(200):
        home.commit()
        if number % 64 == 63:
            content |= home.content()
            report = home.pack()
            assert report.commits == 64
            assert home.commit_files() == []
            # 64 commits of 4 objects each.
            assert report.packed == 256
    statistics = packs.recent_statistics(home.objects)
    assert statistics.count == 8 * 4
    assert 8 * 35_000 < statistics.bytes < 8 * 45_000
    home.pack()
    assert packs.recent_statistics(home.objects) == packs.RecentStatistics(0, 0)
    assert len(list((home.objects / "pack").iterdir())) <= 2 * 9
    assert (size() - before) / 200 < 1100
    assert home.content().items() >= content.items()
    home.check()
    trees = [line for stem in home.packs() for line in home.verified(stem) if line[1] == "tree"]
    assert sum(len(line) == 5 and int(line[2]) > 10_000 for line in trees) <= 5


def test_statistics_count_what_is_loose_as_well(home):
    home.pack()
    assert packs.recent_statistics(home.objects).count == 0
    home.commit()
    write_loose(home, b"blob 1\0a")
    assert packs.recent_statistics(home.objects).count == 5
    assert home.pack().packed == 5


def test_objects_that_are_elsewhere_too(template, tmp_path):
    """Loose, in an older pack and in a commit pack: afterwards in packs only, and then once."""
    home = template.copy(tmp_path / "home")
    content = home.content()
    for name in sorted(content)[::2]:
        write_loose(home, content[name])
    home.pack(keep=99)
    assert home.loose() == {}
    assert home.commit_files() == []
    home.check()
    counts = home.counts()
    assert counts["in-pack"] > len(content)
    assert home.merge(keep=0) == 3
    counts = home.counts()
    assert (counts["packs"], counts["in-pack"]) == (1, len(content))
    home.check()
    assert home.content() == content


def test_a_join_leaves_out_bases_that_are_there_already(tmp_path):
    """Deltas of one pack then build on the tree of another."""
    home = Home(tmp_path / "home").start(200)
    for _ in range(4):
        for value in (b"a", b"b", b"c"):
            home.commit(value, "account_00003")
        home.commit(b"b", "account_00004")
        home.commit(b"first 4", "account_00004")
        home.pack(keep=99)
    content = home.content()
    assert home.counts()["in-pack"] > len(content)
    assert home.merge(keep=0) == 4
    assert home.counts()["in-pack"] == len(content)
    home.check()
    assert home.content() == content
    (stem,) = home.packs()
    home.git("verify-pack", f".git/objects/pack/{stem}.idx")


def flip(path: Path, at: int) -> None:
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("harm", ["first", "middle", "end", "cut", "empty"])
def test_a_damaged_commit_pack_is_left_alone(home, harm):
    home.commit()
    content = home.content()
    stems = home.commit_packs()
    path = home.objects / "pack" / f"{stems[1]}.pack"
    good = path.read_bytes()
    names = [line[0] for line in home.verified(stems[1])]
    if harm == "cut":
        path.chmod(0o600)
        path.write_bytes(good[:-30])
    elif harm == "empty":
        path.chmod(0o600)
        path.write_bytes(b"")
    else:
        flip(path, {"first": 3, "middle": len(good) // 2, "end": -1}[harm])
    bad = path.read_bytes()
    # A good copy of one of its objects is not taken for a double.
    loose = write_loose(home, content[names[0]])
    report = home.pack()
    assert (report.commits, report.removed) == (1, 1)
    assert not loose.exists()
    assert home.commit_packs() == [stems[1]]
    assert home.keeps() == [stems[1]]
    assert path.read_bytes() == bad
    assert home.pack() == packs.PackReport(0, 0, 0, None)
    path.write_bytes(good)
    assert home.pack().commits == 1
    home.check()
    assert home.content() == content


def test_a_commit_pack_that_lost_its_index(home):
    home.commit()
    content = home.content()
    index = home.objects / "pack" / f"{home.commit_packs()[0]}.idx"
    index.unlink()
    home.pack()
    assert home.commit_files() == []
    home.check()
    assert home.content() == content


@pytest.mark.parametrize("mark", ["none", "empty"])
def test_a_commit_pack_whose_keep_a_power_cut_took(home, mark):
    home.commit()
    content = home.content()
    stem = home.commit_packs()[0]
    keep = home.objects / "pack" / f"{stem}.keep"
    keep.unlink()
    if mark == "empty":
        keep.touch()
    home.pack()
    # Without it the pack is git's, as any other.
    assert home.commit_packs() == ([stem] if mark == "none" else [])
    home.git(*REPACK)
    home.check()
    assert home.content() == content
    assert home.counts()["packs"] == 1


def test_beside_git_gc_packs_are_replaced_later(template, tmp_path):
    home = template.copy(tmp_path / "home")
    content = home.content()
    lock = home.git_dir / "gc.pid"
    lock.write_text("1 host")
    report = home.pack(keep=99)
    assert report.commits == 0
    assert len(home.commit_packs()) == 3
    # What replaces them is protected as long as they are there.
    assert report.pack in home.keeps()
    home.git(*REPACK)
    home.check()
    lock.unlink()
    again = home.pack(keep=99)
    assert (again.packed, again.commits) == (0, 3)
    assert home.commit_files() == []
    assert home.keeps() == []
    home.check()
    assert home.content().items() <= content.items()


def test_a_multi_pack_index_keeps_its_packs(template, tmp_path):
    home = template.copy(tmp_path / "home")
    content = home.content()
    home.git("multi-pack-index", "write")
    named = home.commit_packs()
    home.commit()
    report = home.pack(keep=99)
    # The three that it names are git's from now on, the fourth is gone.
    assert report.commits == 1
    assert home.commit_packs() == named
    assert home.keeps() == []
    home.git("multi-pack-index", "verify")
    home.check()
    assert home.pack(keep=99) == packs.PackReport(0, 0, 0, None)
    home.git("multi-pack-index", "write")
    home.git("multi-pack-index", "repack")
    home.git("multi-pack-index", "expire")
    assert home.commit_packs() == []
    home.check()
    assert home.content().items() > content.items()


def test_a_keep_of_a_person_stays(home):
    home.pack()
    home.commit()
    (stem,) = [stem for stem in home.packs() if stem not in home.commit_packs()]
    keep = home.objects / "pack" / f"{stem}.keep"
    keep.write_text("mine")
    home.pack()
    assert home.keeps() == [stem]
    assert keep.read_text() == "mine"


def test_readers_beside_packing(home):
    """A reader that lists packs at any moment finds every object."""
    for _ in range(20):
        home.commit()
    content = home.content()
    names = [bytes.fromhex(name) for name in content]
    stop = threading.Event()
    missing = []

    def read():
        reader = ObjectReader(home.objects)
        while not stop.is_set():
            for name in names:
                kind, body = reader.read_any(name)
                if name_of(b"%s %d\0%s" % (kind, len(body), body)) != name.hex():
                    missing.append(name)
            reader.close()
            reader._recent.clear()

    thread = threading.Thread(target=read)
    thread.start()
    for _ in range(5):
        home.pack(keep=1)
        for _ in range(5):
            home.commit()
    stop.set()
    thread.join()
    assert missing == []
    home.check()


def test_what_a_commit_imports():
    """A short-lived process pays for it with every commit."""
    code = (
        "import sys, tweakio.durable; before = set(sys.modules)\n"
        "import tweakio.store.packs.commit; new = set(sys.modules) - before\n"
        "print(*sorted(name for name in new if name.startswith('tweakio.store.')))\n"
        "assert not {'json', 'heapq', 'dulwich', 'dataclasses'} & new"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        "tweakio.store.packs",
        "tweakio.store.packs.commit",
        "tweakio.store.packs.files",
        "tweakio.store.packs.format",
    ]


def test_the_public_names():
    for name in packs.__all__:
        assert callable(getattr(packs, name))
    with pytest.raises(AttributeError, match="nothing"):
        packs.nothing  # noqa: B018
    assert merge.merge_packs is packs.merge_packs
