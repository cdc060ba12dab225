"""Objects are, byte for byte, what git makes and reads."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import random
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tweakio.errors import RepositoryDamagedError
from tweakio.store.objects import (
    BLOB_MODE,
    EMPTY_TREE,
    TREE_MODE,
    ObjectReader,
    ObjectWriter,
    TreeEntry,
    edit_tree,
    find_entry,
    object_id,
    parse_commit,
    parse_tree,
    serialise_tree,
)
from tweakio.store.packed import PackedObjects

from . import git

ID = bytes(range(20))
# Prefixes of each other, around the "/" that git sorts directories with.
NAMES = st.sampled_from(
    [b"a", b"a-", b"a-b", b"a0", b"a00", b"a.b", b"aa", b"A", b"b", b"b-a", b"b0", b"ab", b"a_b"]
)
IDS = st.binary(min_size=20, max_size=20)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository to ask git in."""
    path = tmp_path_factory.mktemp("git")
    subprocess.run(["git", "init", "-q", str(path)], check=True)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", str(tmp_path / "r")], check=True)
    return tmp_path / "r"


@pytest.fixture
def reader(path: Path) -> Iterator[ObjectReader]:
    found = ObjectReader(path / ".git" / "objects")
    yield found
    found.close()


@pytest.fixture
def writer(path: Path) -> ObjectWriter:
    (path / "tmp").mkdir()
    return ObjectWriter(path / ".git" / "objects", path / "tmp")


def loose(path: Path, name: str) -> Path:
    return path / ".git" / "objects" / name[:2] / name[2:]


def add_loose(path: Path, data: bytes) -> str:
    return git(path, "hash-object", "-w", "--stdin", data=data).strip()


# Names


@pytest.mark.parametrize("body", [b"", b"x", b"\0" * 1000, bytes(range(256)) * 300], ids=len)
def test_object_id_of_a_blob(empty: Path, body: bytes) -> None:
    assert object_id(b"blob", body).hex() == git(empty, "hash-object", "--stdin", data=body).strip()


def test_empty_tree(empty: Path) -> None:
    assert EMPTY_TREE.hex() == git(empty, "mktree", data=b"").strip()


# Trees


def mktree(path: Path, entries: dict[bytes, tuple[bytes, bytes]]) -> str:
    lines = [
        b"%b %b %b\t%b\0"
        % (mode.rjust(6, b"0"), b"tree" if mode == TREE_MODE else b"blob", name.hex().encode(), key)
        for key, (mode, name) in entries.items()
    ]
    return git(path, "mktree", "--missing", "-z", data=b"".join(lines)).strip()


SLOW = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}
ENTRIES = st.dictionaries(NAMES, st.tuples(st.sampled_from([TREE_MODE, BLOB_MODE]), IDS))


@settings(max_examples=40, **SLOW)
@given(entries=ENTRIES)
def test_serialise_and_parse_like_git(
    empty: Path, entries: dict[bytes, tuple[bytes, bytes]]
) -> None:
    raw = serialise_tree(TreeEntry(mode, key, name) for key, (mode, name) in entries.items())
    assert object_id(b"tree", raw).hex() == mktree(empty, entries)
    found = parse_tree(raw)
    assert {entry.name: (entry.mode, entry.id) for entry in found} == entries
    assert serialise_tree(reversed(found)) == raw


EDITS = st.dictionaries(NAMES, st.none() | IDS)


@settings(max_examples=60, **SLOW)
@given(entries=ENTRIES, edits=EDITS)
@example(
    entries={b"a": (TREE_MODE, ID), b"a-b": (TREE_MODE, ID), b"a0": (TREE_MODE, ID)},
    edits={b"a": bytes(20), b"a-b": None, b"aa": ID},
)
@example(entries={b"a": (BLOB_MODE, ID), b"a-b": (TREE_MODE, ID)}, edits={b"a": ID})
@example(entries={}, edits={b"a": None})
def test_edit_tree_like_git(
    empty: Path, entries: dict[bytes, tuple[bytes, bytes]], edits: dict[bytes, bytes | None]
) -> None:
    raw = serialise_tree(TreeEntry(mode, key, name) for key, (mode, name) in entries.items())
    expected = dict(entries)
    for key, name in edits.items():
        if name is not None:
            expected[key] = (TREE_MODE, name)
        elif entries.get(key, (TREE_MODE,))[0] == TREE_MODE:
            expected.pop(key, None)
    edited = edit_tree(raw, edits)
    assert object_id(b"tree", edited).hex() == mktree(empty, expected)
    for key in [*entries, *edits, b"nowhere"]:
        entry = expected.get(key)
        found = find_entry(edited, key)
        assert found == (
            TreeEntry(TREE_MODE, key, entry[1]) if entry and entry[0] == TREE_MODE else None
        )


@settings(max_examples=300, deadline=None)
@given(
    names=st.lists(
        st.builds(
            b"".join,
            st.lists(
                st.sampled_from([b"a", b"40000 ", b"100644 ", b" ", b"x", b"7" * 14]), max_size=4
            ),
        ).filter(bool),
        unique=True,
    ),
    modes=st.lists(st.sampled_from([TREE_MODE, BLOB_MODE, b"120000"]), min_size=9, max_size=9),
    names_ids=st.lists(
        st.sampled_from([ID, bytes(20), b"40000 a\0" + bytes(12)[:12], b"1" * 20]),
        min_size=9,
        max_size=9,
    ),
)
def test_find_entry_in_trees_of_strangers(
    names: list[bytes], modes: list[bytes], names_ids: list[bytes]
) -> None:
    """Names that look like entries are not taken for them, whatever ids stand before."""
    ids = [item for item in names_ids if not item.startswith(b"40000 ")] or [ID]
    entries = [
        TreeEntry(mode, name, ids[index % len(ids)])
        for index, (name, mode) in enumerate(zip(names, modes, strict=False))
    ]
    raw = serialise_tree(entries)
    for name in (b"a", b"x", b"aa", b" a"):
        expected = next((e for e in entries if e.name == name and e.mode == TREE_MODE), None)
        assert find_entry(raw, name) == expected
        edited = parse_tree(edit_tree(raw, {name: b"2" * 20}))
        changed = [entry for entry in edited if entry not in entries]
        assert changed == [TreeEntry(TREE_MODE, name, b"2" * 20)]


def test_find_entry_false_positives() -> None:
    fake = bytes(range(1, 21))
    for mode in (BLOB_MODE, TREE_MODE, b"120000"):
        for name in (b"40000 alpha", b"x40000 alpha", b"x 40000 alpha"):
            raw = serialise_tree([TreeEntry(mode, name, fake)])
            assert find_entry(raw, b"alpha") is None
            both = serialise_tree([TreeEntry(mode, name, fake), TreeEntry(TREE_MODE, b"alpha", ID)])
            assert find_entry(both, b"alpha") == TreeEntry(TREE_MODE, b"alpha", ID)
    raw = serialise_tree([TreeEntry(BLOB_MODE, b"alpha", ID)])
    assert find_entry(raw, b"alpha") is None
    assert find_entry(b"", b"alpha") is None


@pytest.mark.parametrize("cut", [1, 5, 20, 21, 22, 26])
def test_damaged_trees(cut: int) -> None:
    raw = serialise_tree([TreeEntry(TREE_MODE, b"a", ID), TreeEntry(TREE_MODE, b"b", ID)])
    with pytest.raises(RepositoryDamagedError):
        parse_tree(raw[:-cut])
    with pytest.raises(RepositoryDamagedError):
        parse_tree(b"no tree")


def test_kinds_of_entries() -> None:
    assert TreeEntry(b"040000", b"a", ID).is_tree
    assert not TreeEntry(b"160000", b"a", ID).is_tree
    assert TreeEntry(b"100755", b"a", ID).is_blob
    assert not TreeEntry(b"120000", b"a", ID).is_blob


# Commits


def test_commit_as_git_says(path: Path, reader: ObjectReader) -> None:
    message = (
        "first line\n\nbody: no\n\nTweakio-Op: create\nTweakio-Profile: a\nTweakio-Profile: b\n"
    )
    git(path, "commit", "-q", "--allow-empty", "-m", "root")
    git(path, "commit", "-q", "--allow-empty", "-m", message)
    head = git(path, "rev-parse", "HEAD").strip()
    commit = reader.commit(head)
    shown = git(path, "log", "-1", "--format=%H %T %P%n%an <%ae>%n%at").splitlines()
    assert [f"{head} {commit.tree.hex()} {commit.parents[0]}", commit.author] == shown[:2]
    assert int(commit.time.timestamp()) == int(shown[2])
    assert commit.summary == "first line"
    assert commit.trailer("Tweakio-Op") == "create"
    assert commit.trailers["Tweakio-Profile"] == ("a", "b")
    assert commit.trailer("Tweakio-None") is None
    assert [item.id for item in reader.first_parents(head)] == git(path, "rev-list", "HEAD").split()


def body(author: bytes = b"A <a@b> 1 +0000", more: bytes = b"", message: bytes = b"m\n") -> bytes:
    tree = EMPTY_TREE.hex().encode()
    return b"tree %b\nauthor %b\ncommitter %b\n%b\n%b" % (tree, author, author, more, message)


@pytest.mark.parametrize(
    ("author", "name", "offset"),
    [
        (b"A <a@b> 1700000000 -0330", "A <a@b>", -12600),
        (b"A <a@b> 1700000000 +1400", "A <a@b>", 50400),
        (b"\xff\xfe <x> 5 +9999", "\ufffd\ufffd <x>", 1439 * 60),
        (b"A <a> -99999999999999999999 +0000", "A <a>", 0),
        (b"no date", "", 0),
    ],
)
def test_authors(author: bytes, name: str, offset: int) -> None:
    commit = parse_commit("0" * 40, body(author))
    assert commit.author == name
    assert commit.time.utcoffset().total_seconds() == offset  # type: ignore[union-attr]


def test_strange_commits() -> None:
    commit = parse_commit(
        "0" * 40, body(more=b"encoding latin1\ngpgsig x\n y\n", message=b"\xe4\n")
    )
    assert commit.message == "\ufffd\n"
    assert parse_commit("0" * 40, body(message=b"")).summary == ""
    # A trailer above the last paragraph is text.
    assert parse_commit("0" * 40, body(message=b"x\n\nTweakio-Op: a\n\nend\n")).trailers == {}
    for raw in (b"", b"tree nonsense\n\nm", b"author A <a> 1 +0000\n\nm"):
        with pytest.raises(RepositoryDamagedError):
            parse_commit("0" * 40, raw)


# Reading


@pytest.mark.parametrize("packed", [False, True])
def test_read(path: Path, reader: ObjectReader, packed: bool) -> None:
    bodies = [b"", b"x", bytes(range(256)) * 100, random.Random(1).randbytes(100_000)]
    names = [add_loose(path, item) for item in bodies]
    (path / "file").write_bytes(b"content")
    git(path, "add", "file")
    git(path, "commit", "-q", "-m", "x")
    if packed:
        for name in names:
            git(path, "update-index", "--add", "--cacheinfo", f"100644,{name},{name}")
        git(path, "commit", "-q", "-m", "y")
        git(path, "gc", "-q")
        assert not loose(path, names[0]).exists()
    for name, expected in zip(names, bodies, strict=True):
        assert reader.read(bytes.fromhex(name), b"blob") == expected
        assert reader.read_any(bytes.fromhex(name)) == (b"blob", expected)
    head = git(path, "rev-parse", "HEAD").strip()
    tree = git(path, "rev-parse", "HEAD^{tree}").strip()
    for kind, name in (("commit", head), ("tree", tree)):
        expected = subprocess.run(
            ["git", "-C", str(path), "cat-file", kind, name], capture_output=True, check=True
        ).stdout
        assert reader.read(bytes.fromhex(name), kind.encode()) == expected
    with pytest.raises(RepositoryDamagedError, match="is a commit"):
        reader.read(bytes.fromhex(head), b"tree")
    with pytest.raises(RepositoryDamagedError, match="missing"):
        reader.read(b"1" * 20, b"blob")
    assert reader.read_any(b"1" * 20) == (b"", b"")
    assert head in set(reader.all_commits())
    assert head in reader.resolve_prefix(head[:8])
    assert reader.resolve_prefix("ffffffff") == []


def zeroed(data: bytes) -> bytes:
    return bytes(len(data))


def emptied(data: bytes) -> bytes:
    return b""


def halved(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    changed = bytearray(data)
    changed[len(data) // 2] ^= 4
    return bytes(changed)


def of_another(data: bytes) -> bytes:
    return zlib.compress(b"blob 5\0other")


def of_no_kind(data: bytes) -> bytes:
    return zlib.compress(b"nothing")


WAYS = [zeroed, emptied, halved, flipped, of_another, of_no_kind]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_damaged_loose_objects(
    path: Path, reader: ObjectReader, way: Callable[[bytes], bytes]
) -> None:
    name = add_loose(path, os.urandom(300))
    file = loose(path, name)
    file.chmod(0o600)
    file.write_bytes(way(file.read_bytes()))
    with pytest.raises(RepositoryDamagedError) as caught:
        reader.read(bytes.fromhex(name), b"blob")
    assert caught.value.details["object"] == name
    assert "doctor" in caught.value.hint
    assert list(reader.all_commits()) == []


def test_directory_instead_of_an_object(path: Path, reader: ObjectReader) -> None:
    name = add_loose(path, b"data")
    loose(path, name).unlink()
    loose(path, name).mkdir()
    with pytest.raises(RepositoryDamagedError):
        reader.read(bytes.fromhex(name), b"blob")


@pytest.mark.parametrize("suffix", [".pack", ".idx"])
@pytest.mark.parametrize("way", WAYS[:4], ids=lambda way: way.__name__)
def test_damaged_packs(
    path: Path,
    reader: ObjectReader,
    writer: ObjectWriter,
    suffix: str,
    way: Callable[[bytes], bytes],
) -> None:
    name = writer.add(b"blob", os.urandom(3000))
    writer.flush()
    (file,) = (path / ".git" / "objects" / "pack").glob(f"*{suffix}")
    file.chmod(0o600)
    file.write_bytes(way(file.read_bytes()))
    try:
        found = reader.read(name, b"blob")
    except RepositoryDamagedError:
        return
    # Git's index has parts that a reader does not need; but nothing wrong is ever returned.
    assert object_id(b"blob", found) == name
    assert (suffix, way) == (".idx", flipped)


def test_a_loose_copy_is_read_beside_a_damaged_pack(
    path: Path, reader: ObjectReader, writer: ObjectWriter
) -> None:
    content = os.urandom(3000)
    name = writer.add(b"blob", content)
    writer.flush()
    (pack,) = (path / ".git" / "objects" / "pack").glob("*.pack")
    pack.chmod(0o600)
    pack.write_bytes(flipped(pack.read_bytes()))
    file = loose(path, name.hex())
    file.parent.mkdir()
    file.write_bytes(zlib.compress(b"blob 3000\0" + content))
    assert reader.read(name, b"blob") == content


def test_a_pack_that_was_put_right_is_read(
    path: Path, reader: ObjectReader, writer: ObjectWriter
) -> None:
    """Nothing of the damaged one stays open."""
    names = [writer.add(b"blob", os.urandom(3000)) for _ in range(2)]
    writer.flush()
    (pack,) = (path / ".git" / "objects" / "pack").glob("*.pack")
    pack.chmod(0o600)
    sound = pack.read_bytes()
    reader.read(names[0], b"blob")
    with pack.open("r+b") as file:
        file.write(sound[:12] + bytes(len(sound) - 12))
    with pytest.raises(RepositoryDamagedError):
        reader.read(names[1], b"blob")
    mended = pack.with_suffix(".new")
    mended.write_bytes(sound)
    mended.replace(pack)
    assert object_id(b"blob", reader.read(names[1], b"blob")) == names[1]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="FIFOs are of POSIX")
def test_a_fifo_in_the_place_of_an_object_is_not_waited_for(path: Path) -> None:
    fifo = loose(path, "ab" + 38 * "c")
    fifo.parent.mkdir()
    os.mkfifo(fifo)
    script = (
        "import sys; from pathlib import Path; from tweakio.store.objects import ObjectReader;"
        "print(ObjectReader(Path(sys.argv[1])).read_any(bytes.fromhex(sys.argv[2])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path / ".git" / "objects"), "ab" + 38 * "c"],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.stdout == "(b'', b'')\n", done.stderr


def test_history_with_a_missing_parent_or_a_circle(path: Path, reader: ObjectReader) -> None:
    git(path, "commit", "-q", "--allow-empty", "-m", "1")
    git(path, "commit", "-q", "--allow-empty", "-m", "2")
    head, parent = git(path, "rev-list", "HEAD").split()
    loose(path, parent).unlink()
    walk = reader.first_parents(head)
    assert next(walk).id == head
    with pytest.raises(RepositoryDamagedError):
        next(walk)


def test_reading_while_git_moves_everything(path: Path, reader: ObjectReader) -> None:
    """Loose to packed, packed to packed, fan-out directories coming and going."""
    names = []
    for number in range(30):
        (path / "file").write_bytes(b"%d" % number * 400)
        git(path, "add", "file")
        git(path, "commit", "-q", "-m", str(number))
        names.append(git(path, "rev-parse", "HEAD:file").strip())
    commits = git(path, "rev-list", "HEAD").split()
    stop = threading.Event()
    failed: list[str] = []

    def churn() -> None:
        commands = [["gc", "-q"], ["repack", "-qad"], ["repack", "-qadf"], ["prune-packed"]]
        number = 0
        while not stop.is_set():
            git(path, *commands[number % 4], check=False)
            packs = list((path / ".git" / "objects" / "pack").glob("*.pack"))
            if number % 4 == 2 and packs:
                git(path, "unpack-objects", "-q", data=packs[0].read_bytes(), check=False)
            number += 1

    thread = threading.Thread(target=churn)
    thread.start()
    reads = 0
    ends = time.monotonic() + 2.5
    while time.monotonic() < ends and not failed:
        fresh = ObjectReader(path / ".git" / "objects")
        for one in (reader, fresh):
            one._recent.clear()
            for name in random.sample(names, 10):
                if not one.read_any(bytes.fromhex(name))[0]:
                    failed.append(name)
            failed += [] if one.commit(random.choice(commits)) else ["commit"]
            reads += 1
        fresh.close()
    stop.set()
    thread.join()
    assert failed == []
    assert reads > 5


# Writing


def test_writer(path: Path, reader: ObjectReader, writer: ObjectWriter) -> None:
    blob = writer.add(b"blob", b"content")
    assert writer.add(b"blob", b"content") == blob
    tree = writer.add(b"tree", serialise_tree([TreeEntry(BLOB_MODE, b"file", blob)]))
    raw = b"tree %b\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nm\n" % tree.hex().encode()
    commit = writer.add(b"commit", raw)
    assert writer.get(blob) == (b"blob", b"content")
    assert writer.get(b"1" * 20) is None
    assert git(path, "cat-file", "-t", commit.hex(), check=False).startswith("fatal")
    writer.flush()
    git(path, "update-ref", "HEAD", commit.hex())
    assert git(path, "fsck", "--strict") == ""
    assert git(path, "show", "HEAD:file") == "content"
    assert reader.commit(commit.hex()).tree == tree
    assert os.listdir(path / "tmp") == []
    before = sorted(os.listdir(path / ".git" / "objects" / "pack"))
    writer.flush()
    assert sorted(os.listdir(path / ".git" / "objects" / "pack")) == before


def test_failed_flush_keeps_what_is_queued(
    path: Path, reader: ObjectReader, writer: ObjectWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = writer.add(b"blob", b"content")

    def full(descriptor: int) -> None:
        raise OSError(28, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="full"):
            writer.flush()
    assert os.listdir(path / "tmp") == []
    assert os.listdir(path / ".git" / "objects" / "pack") == []
    writer.flush()
    assert reader.read(name, b"blob") == b"content"


def test_cache_of_recent_objects_is_bounded(reader: ObjectReader) -> None:
    reader.remember("1" * 40, b"blob", bytes(5000))
    assert reader.read_any(b"\x11" * 20) == (b"", b"")
    for number in range(5000):
        reader.remember(f"{number:040x}", b"blob", b"x")
    assert len(reader._recent) <= 4096


# Packs byte by byte: what git would not write, and what it writes on request only


def name_of(body: bytes, kind: bytes = b"blob") -> bytes:
    return hashlib.sha1(b"%b %d\0" % (kind, len(body)) + body).digest()


def number(value: int) -> bytes:
    """A number as deltas have it."""
    digits = [value & 127]
    while value := value >> 7:
        digits[-1] |= 128
        digits.append(value & 127)
    return bytes(digits)


def item(kind: int, body: bytes, base: bytes = b"", size: int | None = None) -> bytes:
    """An entry of a pack."""
    size = len(body) if size is None else size
    first, rest = size & 15, size >> 4
    head = bytes([kind << 4 | first | (128 if rest else 0)]) + (number(rest) if rest else b"")
    return head + base + zlib.compress(body)


def delta(base: int, size: int, *commands: bytes) -> bytes:
    return number(base) + number(size) + b"".join(commands)


def pack_of(place: Path, items: dict[bytes, bytes], stem: str = "pack-made") -> PackedObjects:
    """A pack of these entries in this order, by the names that its index has for them."""
    directory = place / "pack"
    directory.mkdir(parents=True, exist_ok=True)
    data = struct.pack(">4sII", b"PACK", 2, len(items))
    offsets = {}
    for name, entry in items.items():
        offsets[name] = len(data)
        data += entry
    (directory / f"{stem}.pack").write_bytes(data + hashlib.sha1(data).digest())
    fan_out = [sum(name[0] <= first for name in items) for first in range(256)]
    index = b"\xfftOc\0\0\0\2" + struct.pack(">256I", *fan_out) + b"".join(sorted(items))
    index += bytes(4 * len(items))
    index += b"".join(struct.pack(">I", offsets[name]) for name in sorted(items))
    (directory / f"{stem}.idx").write_bytes(index + bytes(40))
    return PackedObjects(str(place))


BASE = random.Random(0).randbytes(225)  # which zlib makes no shorter
MADE = BASE[:7] + b"new" + BASE[:200]
COPIES = (b"\x90\x07", b"\x03new", b"\x90\xc8")


def test_deltas_to_an_offset_and_to_a_name(tmp_path: Path) -> None:
    """Of those to a name, the base is found in the same pack, before or behind."""
    second = b"x" * 300 + MADE
    first_entry = item(3, BASE)
    middle = item(
        7,
        delta(len(MADE), len(second), *[b"\x64" + b"x" * 100] * 3, b"\x90" + bytes([len(MADE)])),
        name_of(MADE),
    )
    back = len(first_entry) + len(middle)
    assert back > 128  # a distance of two bytes
    distance = bytes([(back - 128 >> 7) | 128, back & 127])
    packed = pack_of(
        tmp_path,
        {
            name_of(BASE): first_entry,
            name_of(second): middle,
            name_of(MADE): item(6, delta(len(BASE), len(MADE), *COPIES), distance),
        },
    )
    for body in (BASE, MADE, second):
        assert packed.find(name_of(body)) == (b"blob", body)
    assert packed.find(bytes(20)) is None
    assert sorted(packed.names()) == sorted(map(name_of, (BASE, MADE, second)))
    packed.close()
    assert packed.find(name_of(MADE)) == (b"blob", MADE)


def test_a_copy_of_64_kilobytes_has_no_length(tmp_path: Path) -> None:
    base = bytes(range(256)) * 257
    made = base[0x100:0x10100]
    entry = item(7, delta(len(base), len(made), b"\x82\x01"), name_of(base))
    packed = pack_of(tmp_path, {name_of(base): item(3, base), name_of(made): entry})
    assert packed.find(name_of(made)) == (b"blob", made)


def to_base(*commands: bytes, base: int = len(BASE), size: int = len(MADE)) -> bytes:
    return item(7, delta(base, size, *commands), name_of(BASE))


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(item(3, MADE[:-1]), id="of another content"),
        pytest.param(item(3, MADE, size=len(MADE) - 1), id="longer than it says"),
        pytest.param(item(3, MADE, size=len(MADE) + 1), id="shorter than it says"),
        pytest.param(item(3, MADE, size=1 << 40), id="larger than any"),
        pytest.param(item(3, MADE)[:-9] + bytes(9), id="not what zlib reads"),
        pytest.param(item(5, MADE), id="of no kind"),
        pytest.param(item(6, delta(0, 1), b"\x00"), id="a delta to itself"),
        pytest.param(item(6, delta(0, 1), b"\xff\x7f"), id="a delta to before the pack"),
        pytest.param(item(7, delta(0, 1), ID), id="a delta to what is not there"),
        pytest.param(item(7, delta(0, 1), name_of(MADE)), id="a delta to its own name"),
        pytest.param(to_base(*COPIES, base=3), id="a delta to another base"),
        pytest.param(to_base(*COPIES, size=len(MADE) + 1), id="a delta that makes less"),
        pytest.param(to_base(*COPIES, size=len(MADE) - 1), id="a delta that makes more"),
        pytest.param(to_base(*COPIES, size=1 << 40), id="a delta that makes too much"),
        pytest.param(to_base(b"\x00"), id="an unknown command"),
        pytest.param(to_base(b"\x91\xff\x07"), id="a copy from behind the end"),
        pytest.param(to_base(b"\x91"), id="a copy that is cut short"),
        pytest.param(to_base(b"\x7f" + MADE[:5], size=127), id="an insertion that is cut short"),
        pytest.param(item(7, b"\x80" * 12 + b"\0", name_of(BASE)), id="a number without end"),
        pytest.param(item(7, b"\x80", name_of(BASE)), id="a number that is cut short"),
    ],
)
def test_a_wrong_entry_is_no_object_and_the_others_are(tmp_path: Path, entry: bytes) -> None:
    packed = pack_of(tmp_path, {name_of(BASE): item(3, BASE), name_of(MADE): entry})
    assert packed.find(name_of(MADE)) is None
    assert packed.find(name_of(BASE)) == (b"blob", BASE)
    # Another pack that has it counts.
    pack_of(tmp_path, {name_of(MADE): item(3, MADE)}, "pack-other")
    assert packed.find(name_of(MADE)) == (b"blob", MADE)


def test_an_object_that_the_end_of_its_pack_cuts_short(tmp_path: Path) -> None:
    body = random.Random(1).randbytes(9000)
    packed = pack_of(tmp_path, {name_of(body): item(3, body)})
    assert packed.find(name_of(body)) == (b"blob", body)
    os.truncate(tmp_path / "pack" / "pack-made.pack", 6000)
    assert packed.find(name_of(body)) is None


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda data: data[:7] + b"\3" + data[8:], id="of another version"),
        pytest.param(lambda data: data[:500], id="cut in the table"),
        pytest.param(lambda data: data[:-41], id="cut in the names"),
        pytest.param(lambda data: data[:8] + b"\xff" * 4 + data[12:], id="a table out of order"),
    ],
)
def test_a_wrong_index_counts_for_nothing_until_it_is_put_right(
    tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    packed = pack_of(tmp_path, {name_of(BASE): item(3, BASE)})
    path = tmp_path / "pack" / "pack-made.idx"
    right = path.read_bytes()
    path.write_bytes(change(right))
    assert packed.find(name_of(BASE)) is None
    assert list(packed.names()) == []
    path.write_bytes(right)
    assert packed.find(name_of(BASE)) == (b"blob", BASE)
    assert list(packed.names()) == [name_of(BASE)]


def test_a_directory_in_the_place_of_an_index_or_a_pack(tmp_path: Path) -> None:
    packed = pack_of(tmp_path, {name_of(BASE): item(3, BASE)})
    pack_of(tmp_path, {name_of(MADE): item(3, MADE)}, "pack-other")
    for suffix in ("idx", "pack"):
        path = tmp_path / "pack" / f"pack-made.{suffix}"
        path.rename(tmp_path / "away")
        path.mkdir()
        packed.close()
        assert packed.find(name_of(BASE)) is None
        assert packed.find(name_of(MADE)) == (b"blob", MADE)
        path.rmdir()
        (tmp_path / "away").rename(path)
        packed.close()
        assert packed.find(name_of(BASE)) == (b"blob", BASE)


@pytest.mark.parametrize("version", ["1", "2", "2,0x20"])
def test_each_form_of_index_that_git_writes(path: Path, tmp_path: Path, version: str) -> None:
    """Version 1, version 2, and that with offsets of 64 bits, as packs of over 2 GB have it."""
    bodies = {b"content %d" % place for place in range(9)}
    made = {name_of(body).hex(): body for body in bodies}
    for name, body in made.items():
        assert git(path, "hash-object", "-w", "--stdin", data=body).strip() == name
    listed = "".join(f"{name}\n" for name in made).encode()
    stem = git(path, "pack-objects", "-q", str(tmp_path / "made"), data=listed).strip()
    (tmp_path / "o" / "pack").mkdir(parents=True)
    packs = tmp_path / "o" / "pack"
    (tmp_path / f"made-{stem}.pack").rename(packs / "pack-x.pack")
    git(path, "index-pack", f"--index-version={version}", str(packs / "pack-x.pack"))
    assert (packs / "pack-x.idx").read_bytes().startswith(b"\xfftOc") == (version != "1")
    packed = PackedObjects(str(tmp_path / "o"))
    for name, body in made.items():
        assert packed.find(bytes.fromhex(name)) == (b"blob", body)
    assert {found.hex() for found in packed.names()} == made.keys()
    some = next(iter(made))
    assert [found.hex() for found in packed.names(some[:12])] == [some]


@pytest.fixture
def no_descriptors() -> Callable[[], contextlib.AbstractContextManager[None]]:
    """Nothing more can be opened, by root neither."""
    resource = pytest.importorskip("resource", reason="limits of descriptors are of POSIX")

    @contextlib.contextmanager
    def limited() -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    return limited


def test_what_cannot_be_read_now_is_not_missing(
    tmp_path: Path, no_descriptors: Callable[[], contextlib.AbstractContextManager[None]]
) -> None:
    packed = pack_of(tmp_path, {name_of(BASE): item(3, BASE), name_of(MADE): to_base(*COPIES)})
    pack_of(tmp_path, {ID: item(3, BASE)}, "pack-other")
    calls = (lambda: packed.find(name_of(BASE)), lambda: list(packed.names()))
    for call in calls:
        with no_descriptors(), pytest.raises(OSError) as raised:
            call()
        assert raised.value.errno == errno.EMFILE
    assert packed.find(name_of(BASE)) == (b"blob", BASE)
    with no_descriptors():
        # What is open goes on to be read; what needs another pack does not count as missing.
        assert packed.find(name_of(MADE)) == (b"blob", MADE)
        with pytest.raises(OSError, match="Too many open files"):
            packed.find(bytes(20))
    assert packed.find(bytes(20)) is None
    assert packed.find(name_of(MADE)) == (b"blob", MADE)


def test_a_pack_that_another_one_has_replaced(tmp_path: Path) -> None:
    """As git gc does it: the new one is there before the old one goes."""
    packed = pack_of(tmp_path, {name_of(BASE): item(3, BASE)}, "pack-one")
    pack_of(tmp_path, {name_of(MADE): item(3, MADE)}, "pack-two")
    assert packed.find(name_of(BASE)) == (b"blob", BASE)
    assert packed.find(name_of(MADE)) == (b"blob", MADE)
    pack_of(tmp_path, {name_of(MADE): item(3, MADE), name_of(BASE): item(3, BASE)}, "pack-three")
    for stem in ("pack-one", "pack-two"):
        for suffix in ("idx", "pack"):
            (tmp_path / "pack" / f"{stem}.{suffix}").unlink()
    assert packed.find(name_of(BASE)) == (b"blob", BASE)
    assert packed.find(name_of(MADE)) == (b"blob", MADE)
    assert len(list(packed.names())) == 2
    # Of the same name, with another content.
    pack_of(tmp_path, {ID: item(3, b""), name_of(MADE): item(3, MADE)}, "pack-three")
    assert packed.find(name_of(BASE)) is None
    assert packed.find(name_of(MADE)) == (b"blob", MADE)
