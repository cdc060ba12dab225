"""The index we read and write is, entry for entry, git's own."""

from __future__ import annotations

import hashlib
import os
import random
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tweakio.store.index import Index, IndexFile, entry_header, is_unchanged
from tweakio.store.objects import ObjectReader, object_id

from . import git


@pytest.fixture
def path(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", str(tmp_path / "r")], check=True)
    return tmp_path / "r"


def index_path(path: Path) -> Path:
    return path / ".git" / "index"


def read(path: Path) -> Index:
    return Index.parse(index_path(path).read_bytes())


def fill(path: Path, names: list[str]) -> None:
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(name)
    # update-index writes no TREE extension into a new index.
    git(path, "update-index", "--add", "--stdin", data="\n".join(names).encode())


def header_of(path: Path, name: str) -> bytes:
    content = (path / name).read_bytes()
    return entry_header(object_id(b"blob", content), os.lstat(path / name), name.encode())


def debugged(path: Path) -> dict[str, dict[str, str]]:
    """What ``git ls-files --debug`` says of each entry."""
    found: dict[str, dict[str, str]] = {}
    name = ""
    for line in git(path, "ls-files", "--debug").splitlines():
        if not line.startswith("  "):
            name = line
            found[name] = {}
            continue
        for part in line.strip().split("\t"):
            key, _, value = part.partition(": ")
            found[name][key] = value
    return found


NAMES = ["x" * length for length in range(1, 33)]


def test_parse_and_write_are_inverse(path: Path) -> None:
    """Names of all lengths: every length of padding."""
    fill(path, NAMES)
    data = index_path(path).read_bytes()
    index = Index.parse(data)
    assert bytes(index) == data
    assert index.count == 32
    assert not index.conflicts
    assert list(index.entries()) == [name.encode() for name in sorted(NAMES)]
    for name in NAMES:
        assert index.find(name.encode()) >= 0
        assert index.blob(name.encode()) == object_id(b"blob", name.encode())
    assert index.find(b"x" * 33) == -1
    assert index.blob(b"y") is None


def test_headers_as_git_writes_them(path: Path) -> None:
    fill(path, NAMES)
    entries = read(path).entries()
    built = Index.build({name.encode(): header_of(path, name) for name in NAMES})
    assert bytes(built) == index_path(path).read_bytes()
    shown = debugged(path)
    for name, header in entries.items():
        assert header == header_of(path, name.decode())
        fields = struct.unpack(">10I20sH", header)
        values = shown[name.decode()]
        assert values["ctime"] == f"{fields[0]}:{fields[1]}"
        assert values["mtime"] == f"{fields[2]}:{fields[3]}"
        assert (values["dev"], values["ino"]) == (str(fields[4]), str(fields[5]))
        assert (values["uid"], values["gid"]) == (str(fields[7]), str(fields[8]))
        assert values["size"] == str(fields[9])


def test_large_numbers_are_cut_to_32_bits() -> None:
    values = [0o100600, 1 << 40 | 5, 1 << 33 | 6, 1, 1 << 35 | 7, 1 << 36 | 8, 1 << 37 | 9, 0, 0, 0]
    status = os.stat_result([*values, 0.0, 0.0, 0.0, 0, (1 << 34) * 10**9 + 3, -(10**9)])
    fields = struct.unpack(">10I20sH", entry_header(b"i" * 20, status, b"name"))
    assert fields[4:10] == (6, 5, 0o100644, 7, 8, 9)
    assert fields[2:4] == (0, 3)


def test_header_without_a_file() -> None:
    header = entry_header(b"i" * 20, None, b"n" * 5000, 0o100755)
    assert struct.unpack(">10I20sH", header) == (0,) * 6 + (0o100755, 0, 0, 0, b"i" * 20, 0xFFF)


def test_long_names(path: Path) -> None:
    long = "/".join(["d" * 200] * 21) + "/file"
    assert len(long) > 0xFFF
    blob = git(path, "hash-object", "-w", "--stdin", data=b"x").strip()
    git(path, "update-index", "--add", "--cacheinfo", f"100644,{blob},{long}")
    git(path, "update-index", "--add", "--cacheinfo", f"100644,{blob},file")
    index = read(path)
    assert bytes(index) == index_path(path).read_bytes()
    assert index.blob(long.encode()) == bytes.fromhex(blob)
    assert index.find(b"file") != index.find(long.encode())


def test_paths_that_end_like_others(path: Path) -> None:
    names = [
        "a/metadata.json", "aa/metadata.json", "ba/metadata.json", "metadata.json", "n", "json",
        "b/a/metadata.json", "12345678/metadata.json", "12345678a/metadata.json", ".json",
    ]  # fmt: skip
    fill(path, names)
    index = read(path)
    for name in names:
        assert index.blob(name.encode()) == object_id(b"blob", name.encode())
    for absent in ("b/metadata.json", "a", "on", "etadata.json", "8/metadata.json", ""):
        assert index.find(absent.encode()) == -1


def test_path_inside_an_object_id(path: Path) -> None:
    """Bytes of an id that look like a name are not taken for one."""
    for fake in (b"zz\0" + bytes(17), bytes(6) + b"\0\2zz\0" + bytes(9), b"\0\2zz\0" * 4):
        headers = {name: entry_header(fake, None, name) for name in (b"a", b"b" * 8, b"c")}
        index = Index.build(headers)
        assert index.find(b"zz") == -1
        assert index.edit({b"zz": entry_header(bytes(20), None, b"zz")}).find(b"zz") >= 0


PATHS = st.sampled_from(
    ["a/m", "a/f", "b/m", "aa/m", "a-/m", "a0/m", "m", "A/m", *(f"p{'x' * n}/m" for n in range(9))]
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_edits_like_git_makes_them(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("edit")
    subprocess.run(["git", "init", "-q", str(path)], check=True)
    fill(path, sorted(data.draw(st.sets(PATHS, min_size=1))))
    index = read(path)
    changes: dict[bytes, bytes | None] = {}
    for name in sorted(data.draw(st.sets(PATHS))):
        if data.draw(st.booleans()):
            (path / name).parent.mkdir(exist_ok=True)
            (path / name).write_text(name * 2)
            changes[name.encode()] = header_of(path, name)
        else:
            (path / name).unlink(missing_ok=True)
            changes[name.encode()] = None
    mine = bytes(index.edit(changes))
    for name, header in changes.items():
        if header is None:
            git(path, "update-index", "--force-remove", name.decode())
        else:
            git(path, "update-index", "--add", name.decode())
    index_path(path).with_suffix(".mine").write_bytes(mine)
    assert bytes(read(path)) == mine
    index_path(path).write_bytes(mine)
    assert git(path, "diff-files", "--name-only") == ""
    assert git(path, "ls-files", "--others") == ""


def test_empty_index_and_missing_removals() -> None:
    empty = Index(b"", [])
    assert Index.parse(bytes(empty)).count == 0
    edited = empty.edit({b"a": None})
    assert bytes(edited) == bytes(empty)
    assert edited.edit({b"a": entry_header(bytes(20), None, b"a")}).count == 1


# Extensions; other forms are in test_index_forms.py


def test_wrong_tree_extension_does_not_survive(path: Path) -> None:
    """With it the next ``git commit`` would write the tree that it names."""
    fill(path, ["a", "d/b"])
    git(path, "commit", "-q", "-m", "x")
    git(path, "read-tree", "HEAD")
    assert b"TREE" in index_path(path).read_bytes()
    right = git(path, "write-tree")
    (path / "d" / "b").write_text("other")
    index = read(path).edit({b"d/b": header_of(path, "d/b")})
    git(path, "hash-object", "-w", "d/b")
    assert b"TREE" not in bytes(index)
    index_path(path).write_bytes(bytes(index))
    changed = git(path, "write-tree")
    assert changed != right
    assert git(path, "cat-file", "-p", f"{changed.strip()}:d/b") == "other"
    assert git(path, "status", "--porcelain").strip() == "M  d/b"


def test_unknown_extensions_are_dropped(path: Path) -> None:
    fill(path, ["a"])
    data = index_path(path).read_bytes()[:-20]
    data += b"ZZZZ" + struct.pack(">I", 5) + b"hello"
    index = Index.parse(data + hashlib.sha1(data).digest())
    assert index.count == 1
    assert b"hello" not in bytes(index)


def test_conflicts(path: Path) -> None:
    (path / "plain").write_text("p")
    (path / "file").write_text("1")
    git(path, "add", ".")
    git(path, "commit", "-q", "-m", "1")
    git(path, "checkout", "-q", "-b", "other")
    (path / "file").write_text("2")
    git(path, "commit", "-q", "-am", "2")
    git(path, "checkout", "-q", "-")
    (path / "file").write_text("3")
    git(path, "commit", "-q", "-am", "3")
    git(path, "merge", "-q", "other", check=False)
    index = read(path)
    assert index.conflicts
    assert index.count == 4
    assert set(index.entries()) == {b"plain"}
    assert index.blob(b"file") is None
    assert index.edit({b"plain": header_of(path, "plain")}).conflicts


# Damage


def test_damaged(path: Path) -> None:
    fill(path, ["a", "b/c"])
    data = index_path(path).read_bytes()
    chooser = random.Random(3)
    cases = [b"", data[:31], data[:-1], bytes(len(data)), data + b"x", b"DIRC" + data[4:-20]]
    for _ in range(60):
        changed = bytearray(data)
        changed[chooser.randrange(len(data))] ^= 1 << chooser.randrange(8)
        cases.append(bytes(changed))
    for case in cases:
        with pytest.raises(ValueError, match="."):
            Index.parse(case)


def resealed(data: bytes) -> bytes:
    return data[:-20] + hashlib.sha1(data[:-20]).digest()


def test_wrong_content_under_a_right_checksum(path: Path) -> None:
    fill(path, ["a", "b/c"])
    data = index_path(path).read_bytes()
    for count in (3, 1000, 1 << 31):
        wrong = resealed(data[:8] + struct.pack(">I", count) + data[12:])
        with pytest.raises(ValueError, match="."):
            Index.parse(wrong)


def index_of(entries: bytes, count: int, version: int = 2, extensions: bytes = b"") -> bytes:
    data = struct.pack(">4sII", b"DIRC", version, count) + entries + extensions
    return data + hashlib.sha1(data).digest()


def extension(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack(">I", len(content)) + content


def one(name: bytes, mode: int = 0o100644, flags: int | None = None) -> bytes:
    header = entry_header(ID, None, name, mode)
    if flags is not None:
        header = header[:60] + struct.pack(">H", flags)
    return header + name + bytes(8 - (62 + len(name)) % 8)


ID = bytes(range(20))
NOTHING = struct.pack(">III", 0, 0, 0)  # a bitmap of nothing
FIRST = struct.pack(">IIQQI", 64, 2, 1 << 33, 1, 0)  # a bitmap of the first


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (index_of(b"", 0, 1), "any version"),
        (index_of(b"", 0, 16), "any version"),
        (index_of(one(b"b") + one(b"a"), 2), "git cannot read"),
        (index_of(one(b"a") * 2, 2), "git cannot read"),
        (index_of(one(b"a", 0o100600), 1), "git cannot read"),
        (index_of(one(b"a", flags=0x4001) + bytes(8), 1), "unknown kind"),
        (index_of(one(b"d/", 0o040000), 1), "no trees"),
        (index_of(b"", 0, 2, b"TREE" + struct.pack(">I", 9)), "extension that is cut short"),
        (index_of(b"", 0, 2, extension(b"link", ID[:19])), "split index that is cut short"),
        (index_of(b"", 0, 2, extension(b"link", ID)), "without the other part"),
        (index_of(b"", 0, 2, extension(b"link", bytes(20) + bytes(7))), "bitmap that is cut"),
        (index_of(b"", 0, 2, extension(b"link", bytes(20) + bytes(7) + b"\1")), "bitmap"),
        (index_of(b"", 0, 2, extension(b"link", bytes(20) + FIRST + NOTHING)), "longer than"),
        (index_of(one(b"", flags=0), 1, 2, extension(b"link", bytes(20))), "what is not there"),
        # Of version 4: more of the name before goes than it has, and a number without an end.
        (index_of(one(b"")[:62] + b"\1a\0", 1, 4), "made of nothing"),
        (index_of(one(b"")[:62] + b"\xff" * 9 + b"\0", 1, 4), "without an end"),
    ],
)
def test_made_by_hand_and_wrong(data: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Index.parse(data)


def test_a_split_index_made_by_hand() -> None:
    """Of the shared part one entry is replaced, one removed, and one stands beside them."""
    base = index_of(one(b"a") + one(b"b") + one(b"c"), 3)
    second = struct.pack(">IIQQI", 64, 2, 1 << 33, 2, 0)
    instead = entry_header(ID[::-1], None, b"")
    entries = instead + bytes(2) + one(b"d")
    link = base[-20:] + FIRST + second
    index = Index.parse(index_of(entries, 2, 2, extension(b"link", link)), lambda _: base)
    assert list(index.entries()) == [b"b", b"c", b"d"]
    assert [index.blob(name) for name in (b"b", b"c", b"d")] == [ID[::-1], ID, ID]
    assert list(index.object_ids()) == [ID[::-1], ID, ID]
    other = index_of(one(b"a"), 1)
    with pytest.raises(ValueError, match="another one"):
        Index.parse(index_of(entries, 2, 2, extension(b"link", link)), lambda _: other)
    shares = index_of(b"", 0, 2, extension(b"link", bytes(20)))
    of_that = index_of(b"", 0, 2, extension(b"link", shares[-20:]))
    with pytest.raises(ValueError, match="another one"):
        Index.parse(of_that, lambda _: shares)
    # One that shares nothing is whole.
    alone = Index.parse(index_of(one(b"a"), 1, 2, extension(b"link", bytes(20))))
    assert alone.entries() == {b"a": entry_header(ID, None, b"a")}


def test_a_sparse_directory_made_by_hand() -> None:
    tree = b"100644 f\0" + ID + b"120000 l\0" + ID + b"100000 of no mode\0" + ID
    data = index_of(one(b"a") + one(b"d/", 0o040000), 2, 3, extension(b"sdir", b""))
    index = Index.parse(data, None, lambda _: tree)
    assert list(index.entries()) == [b"a", b"d/f", b"d/l"]
    with pytest.raises(ValueError, match="a directory that is none"):
        Index.parse(index_of(one(b"d", 0o040000), 1), None, lambda _: tree)
    # Trees that name each other have no end.
    endless = b"40000 d\0" + ID
    with pytest.raises(ValueError, match="more files than"):
        Index.parse(data, None, lambda _: endless)


# The file


def test_length_in_an_entry_that_is_not_its_name_s(path: Path) -> None:
    """The entry was not found again, and another was put into the middle of it."""
    fill(path, ["a", "b/x", "c"])
    data = bytearray(index_path(path).read_bytes()[:-20])
    assert data[12 + 61] == 1
    data[12 + 61] = 7
    spoiled = Index.parse(bytes(data) + hashlib.sha1(data).digest())
    new = entry_header(bytes(20), None, b"0")
    again = Index.parse(bytes(spoiled.edit({b"0": new})))
    assert list(again.entries()) == [b"0", b"a", b"b/x", b"c"]
    assert again.entries()[b"a"] == header_of(path, "a")


def test_index_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path / "tmp").mkdir()
    file = IndexFile(index_path(path), path / "tmp", ObjectReader(path / ".git" / "objects"))
    assert file.read() is None
    assert file.written() == 0
    fill(path, ["a", "b"])
    first = file.read()
    assert first is not None
    assert file.read() is first
    assert file.written() == os.stat(index_path(path)).st_mtime_ns
    (path / "c").write_text("c")
    git(path, "add", "c")
    second = file.read()
    assert second is not None
    assert second.count == 3
    file.write(first)
    assert file.read() is first
    assert git(path, "ls-files").split() == ["a", "b"]
    assert os.listdir(path / "tmp") == []
    index_path(path).write_bytes(b"garbage")
    assert file.read() is None
    index_path(path).unlink()
    index_path(path).mkdir()
    assert file.read() is None


def test_unchanged_by_its_stat(path: Path) -> None:
    fill(path, ["a"])
    header = read(path).entries()[b"a"]
    status = os.lstat(path / "a")
    assert is_unchanged(header, status, status.st_mtime_ns + 1)
    # Written in the same tick of the clock as the index: it may have changed after.
    assert not is_unchanged(header, status, status.st_mtime_ns)
    assert not is_unchanged(header, status, status.st_mtime_ns - 1)
    (path / "b").write_text("b")
    os.utime(path / "b", ns=(status.st_atime_ns, status.st_mtime_ns))
    (path / "b").replace(path / "a")
    # Another file, although of the same size and time.
    assert not is_unchanged(header, os.lstat(path / "a"), status.st_mtime_ns + 10**12)
    blank = entry_header(header[40:60], None, b"a")
    assert not is_unchanged(blank, status, status.st_mtime_ns + 1)
