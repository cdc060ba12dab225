"""Every form of index that git writes is read, and nothing of a person's is lost by writing ours.

What git says of the entries, their stages and their flags is the same before and after.
"""

from __future__ import annotations

import hashlib
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.gits import GITS, run, with_at_least
from tweakio.errors import NewerFormatError
from tweakio.store.index import Index, IndexFile, entry_header
from tweakio.store.objects import ObjectReader

NAMES = ["a", "b/c", "b/cc", "b/d/e", "later", "m/" + "long" * 40, "m/x"]


@pytest.fixture(params=GITS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    place = tmp_path / "r"
    place.mkdir()
    (place / "tmp").mkdir()
    git = GitAt(request.param, place)
    git("init", "-q")
    git("config", "core.trustctime", "false")
    for name in NAMES:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(name)
    git("add", "--", *NAMES)
    git("commit", "-q", "-m", "x")
    return place


class GitAt:
    def __init__(self, program: str, place: Path) -> None:
        self.program, self.place = program, place

    def __call__(self, *arguments: str, data: bytes | None = None) -> str:
        return run(self.program, self.place, *arguments, data=data)


@pytest.fixture
def git(request: pytest.FixtureRequest, path: Path) -> GitAt:
    return GitAt(request.node.callspec.params["path"], path)


def file_of(path: Path) -> IndexFile:
    reader = ObjectReader(path / ".git" / "objects")
    return IndexFile(path / ".git" / "index", path / "tmp", reader)


def state(git: GitAt) -> tuple[str, ...]:
    """Entries with their stages and ids, their flags, and what differs from HEAD and the files."""
    return (
        git("ls-files", "--stage", "--full-name"),
        git("ls-files", "-v"),
        git("ls-files", "-t"),
        git("diff", "--cached", "--raw", "--no-renames"),
        git("status", "--porcelain", "--untracked-files=no"),
    )


def written_anew(git: GitAt, changes: dict[bytes, bytes | None] | None = None) -> bytes:
    """Read and write the index as a change does; the bytes of the new one."""
    file = file_of(git.place)
    index = file.read()
    assert index is not None
    file.write(index.edit(changes or {}))
    assert bytes(index) == bytes(Index.parse(bytes(index)))
    return (git.place / ".git" / "index").read_bytes()


def staged(git: GitAt) -> None:
    """Something of each kind: an edit, a new file, a removal, an intention, both flags."""
    (git.place / "a").write_text("edited")
    (git.place / "new").write_text("new")
    (git.place / "intended").write_text("intended")
    git("add", "a", "new")
    git("rm", "-q", "--cached", "later")
    git("add", "--intent-to-add", "intended")
    git("update-index", "--assume-unchanged", "b/c")
    git("update-index", "--skip-worktree", "b/cc")


def version_4(git: GitAt) -> None:
    git("update-index", "--index-version", "4")


def split(git: GitAt) -> None:
    git("update-index", "--split-index")


def split_before(git: GitAt) -> None:
    """The shared index is of before, so that this one replaces, removes and adds entries."""
    git("config", "core.splitIndex", "true")
    git("config", "splitIndex.maxPercentChange", "100")
    git("update-index", "--split-index")


def skip_hash(git: GitAt) -> None:
    git("config", "index.skipHash", "true")


def many_files(git: GitAt) -> None:
    git("config", "feature.manyFiles", "true")
    git("update-index", "--index-version", "4")


def untracked(git: GitAt) -> None:
    git("update-index", "--force-untracked-cache")


def nothing(git: GitAt) -> None:
    pass


def both(*ways: Callable[[GitAt], None]) -> Callable[[GitAt], None]:
    return lambda git: [way(git) for way in ways] and None


FORMS: dict[str, tuple[Callable[[GitAt], None], Callable[[GitAt], None]]] = {
    "version 3": (nothing, nothing),
    "version 4": (nothing, version_4),
    "split": (nothing, split),
    "split before": (split_before, nothing),
    "split, version 4": (both(version_4, split_before), nothing),
    "no checksum": (skip_hash, nothing),
    "many files": (many_files, nothing),
    "untracked cache": (nothing, untracked),
}


@pytest.mark.parametrize("form", FORMS)
def test_what_is_staged_and_every_flag_stays(git: GitAt, form: str) -> None:
    before, after = FORMS[form]
    before(git)
    staged(git)
    after(git)
    if "split" in form:
        assert list(git.place.glob(".git/sharedindex.*"))
    was = state(git)
    assert "A\tnew" in was[3]
    data = written_anew(git)
    assert data[4:8] == struct.pack(">I", 3)
    assert data[-20:] == hashlib.sha1(data[:-20]).digest()
    assert state(git) == was
    assert git("fsck") == ""


def test_forms_are_what_they_are_called(git: GitAt) -> None:
    """That the cases above are of the forms that they name, with this git.

    A split index without checksums is none of them: git itself loses the shared part of it.
    """
    version_4(git)
    split_before(git)
    staged(git)
    index = (git.place / ".git" / "index").read_bytes()
    assert index[7] == 4
    assert b"link" in index
    git("config", "core.splitIndex", "false")
    git("config", "index.skipHash", "true")
    git("update-index", "--no-split-index")
    git("add", "--renormalize", ".")
    index = (git.place / ".git" / "index").read_bytes()
    assert (index[-20:] == bytes(20)) == (git.program in with_at_least(2, 40))


@pytest.mark.parametrize("form", ["version 3", "version 4", "split before"])
def test_our_changes_beside_what_is_staged(git: GitAt, form: str) -> None:
    before, after = FORMS[form]
    before(git)
    staged(git)
    after(git)
    blob = bytes.fromhex(git("hash-object", "-w", "--stdin", data=b"ours"))
    changes: dict[bytes, bytes | None] = {
        name: entry_header(blob, None, name) for name in (b"b/c", b"b/cc", b"intended", b"aa", b"z")
    }
    written_anew(git, {**changes, b"m/x": None})
    flags = dict(reversed(line.split(" ", 1)) for line in git("ls-files", "-v").splitlines())
    assert flags["b/c"] == "h"
    assert flags["b/cc"] == "S"
    shown = git("ls-files", "--stage")
    for name in (b"b/c", b"b/cc", b"intended", b"aa", b"z"):
        assert f"{blob.hex()} 0\t{name.decode()}" in shown
    assert "m/x" not in shown
    cached = git("diff", "--cached", "--name-status", "--no-renames")
    assert "A\tintended" in cached
    assert "A\tnew" in cached
    assert "D\tlater" in cached


def test_intended_entries_are_not_staged(git: GitAt) -> None:
    staged(git)
    index = file_of(git.place).read()
    assert index is not None
    assert b"intended" in index.entries()
    assert b"intended" not in index.staged()
    assert index.staged().keys() | {b"intended"} == index.entries().keys()


def test_a_split_index_through_many_changes(git: GitAt) -> None:
    """Entries that are replaced, removed and added on top of a shared index, at random."""
    chooser = random.Random(5)
    split_before(git)
    for number in range(70):
        (git.place / f"f{number:03}").write_text("1")
    git("add", ".")
    for step in range(12):
        names = [f"f{chooser.randrange(90):03}" for _ in range(5)]
        for name in names:
            (git.place / name).write_text(f"{step}")
        git("add", "--", *names)
        present = git("ls-files").split()
        git("rm", "-q", "-f", "--cached", "--", *chooser.sample(present, 4))
        index = file_of(git.place).read()
        assert index is not None
        listed = [line.split() for line in git("ls-files", "--stage").splitlines()]
        found = {path.decode(): header[40:60].hex() for path, header in index.entries().items()}
        assert found == {path: blob for _, blob, _, path in listed}


def test_a_sparse_index_is_read_as_if_it_were_whole(git: GitAt) -> None:
    git("update-index", "--refresh")
    git("sparse-checkout", "set", "--cone", "--sparse-index", "m")
    index = (git.place / ".git" / "index").read_bytes()
    assert b"sdir" in index
    was = state(git)
    assert "S b/c" in was[1]
    data = written_anew(git)
    assert b"sdir" not in data
    assert state(git) == was
    blob = bytes.fromhex(git("hash-object", "-w", "--stdin", data=b"ours"))
    written_anew(git, {b"b/d/e": entry_header(blob, None, b"b/d/e")})
    assert f"{blob.hex()} 0\tb/d/e" in git("ls-files", "--stage")
    git("sparse-checkout", "disable")
    assert (git.place / "b" / "d" / "e").read_text() == "ours"


def test_a_shared_index_that_is_gone_or_another_is_no_index(git: GitAt) -> None:
    split(git)
    (shared,) = git.place.glob(".git/sharedindex.*")
    data = shared.read_bytes()
    shared.write_bytes(data[:-30])
    assert file_of(git.place).read() is None
    other = bytes(Index.parse(data).edit({b"zz": entry_header(bytes(20), None, b"zz")}))
    shared.write_bytes(other)
    assert file_of(git.place).read() is None
    shared.unlink()
    assert file_of(git.place).read() is None
    shared.write_bytes(data)
    assert file_of(git.place).read() is not None


def resealed(data: bytes) -> bytes:
    return data + hashlib.sha1(data).digest()


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda data: data[:4] + struct.pack(">I", 5) + data[8:-20], "version 5"),
        (lambda data: data[:-20] + b"smth" + struct.pack(">I", 3) + b"abc", "extension 'smth'"),
    ],
)
def test_a_later_form_is_refused_by_its_name(
    git: GitAt, change: Callable[[bytes], bytes], name: str
) -> None:
    path = git.place / ".git" / "index"
    data = resealed(change(path.read_bytes()))
    path.write_bytes(data)
    with pytest.raises(NewerFormatError, match=name) as raised:
        file_of(git.place).read()
    assert "read-tree HEAD" in raised.value.hint
    assert path.read_bytes() == data
    run(git.program, git.place, "read-tree", "HEAD") if name != "version 5" else path.unlink()


def test_damaged_forms(git: GitAt) -> None:
    """Bits flipped under a right checksum: an error that says so, or an index that git can read."""
    version_4(git)
    split_before(git)
    staged(git)
    (shared,) = git.place.glob(".git/sharedindex.*")
    data, base = (git.place / ".git" / "index").read_bytes(), shared.read_bytes()
    chooser = random.Random(11)
    refused = 0
    for _ in range(400):
        changed = bytearray(data[:-20])
        changed[chooser.randrange(12, len(changed))] ^= 1 << chooser.randrange(8)
        try:
            index = Index.parse(resealed(bytes(changed)), lambda _: base)
        except ValueError:
            refused += 1
        else:
            assert Index.parse(bytes(index)).entries() == index.entries()
    assert refused > 20
    for cut in range(12, data.rindex(b"link") + 8, 3):
        with pytest.raises(ValueError, match="."):
            Index.parse(resealed(data[:cut]), lambda _: base)


def test_a_name_that_grows_without_end(git: GitAt) -> None:
    """Version 4: each name is the one before and a byte more, so few bytes stand for very many."""
    count = 40_000
    entry = entry_header(bytes(20), None, b"")
    data = struct.pack(">4sII", b"DIRC", 4, count) + (entry + b"\0x\0") * count
    with pytest.raises(ValueError, match="too long"):
        Index.parse(resealed(data))


def test_a_bitmap_that_stands_for_more_than_there_is(git: GitAt) -> None:
    split(git)
    (shared,) = git.place.glob(".git/sharedindex.*")
    name = bytes.fromhex(shared.name.rpartition(".")[2])
    base = shared.read_bytes()
    for run_of_ones in (1, 1 << 20, (1 << 32) - 1):
        bitmap = struct.pack(">IIQI", 64, 1, run_of_ones << 1 | 1, 0)
        link = name + bitmap + struct.pack(">III", 0, 0, 0)
        data = struct.pack(">4sII", b"DIRC", 2, 0) + b"link" + struct.pack(">I", len(link)) + link
        with pytest.raises(ValueError, match="bitmap"):
            Index.parse(resealed(data), lambda _: base)


def test_a_checksum_that_was_left_out(git: GitAt) -> None:
    """As git 2.40 and later leave it out; any other wrong one is damage."""
    path = git.place / ".git" / "index"
    data = path.read_bytes()
    path.write_bytes(data[:-20] + bytes(20))
    index = file_of(git.place).read()
    assert index is not None
    assert bytes(index) == bytes(Index.parse(data))
    path.write_bytes(data[:-20] + bytes(19) + b"x")
    assert file_of(git.place).read() is None


def test_a_directory_in_the_place_of_the_index(git: GitAt) -> None:
    path = git.place / ".git" / "index"
    path.unlink()
    path.mkdir()
    assert file_of(git.place).read() is None
    shutil.rmtree(path)
    assert file_of(git.place).read() is None
