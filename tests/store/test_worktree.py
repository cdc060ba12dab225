"""What people do in the work tree is adopted, rescued or left; and nothing is mixed up."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tweakio import schema
from tweakio.store.lockfile import RecordedLock
from tweakio.store.repository import Repository

from . import NOW, create, git, metadata, open_store


@pytest.fixture
def store(home: Path) -> Iterator[Repository]:
    repository = open_store(home)
    create(repository, "a", "b")
    yield repository
    repository.close()


@pytest.fixture
def profiles(home: Path) -> Path:
    return home / "profiles"


def subjects(profiles: Path) -> list[str]:
    return git(profiles, "log", "--format=%s").splitlines()


def change(repository: Repository, *ids: str) -> None:
    """Any change, as it is made after somebody edited something."""
    repository._scanned_at = float("-inf")
    with repository.transaction("touch", ids) as tx:
        tx.record_always = True


def fresh(repository: Repository) -> Repository:
    return Repository(repository.layout)


def note(profiles: Path, name: str = "a") -> str:
    return str(json.loads(git(profiles, "show", f"HEAD:{name}/metadata.json")).get("note", ""))


def state(repository: Repository, profile_id: str = "a") -> str:
    found = repository.work_tree.examine(repository.head(), profile_id)
    return found.state if found else "unknown"


def problem(repository: Repository, profile_id: str = "a") -> str:
    found = repository.work_tree.examine(repository.head(), profile_id)
    assert found is not None
    assert found.state == "damaged"
    return found.problem or ""


# Examining


def test_clean(store: Repository) -> None:
    assert store.work_tree.ids(store.head()) == ["a", "b"]
    found = store.work_tree.examine(store.head(), "a")
    assert found is not None
    assert found.state == "clean"
    assert found.metadata == json.loads(metadata("a"))
    assert store.work_tree.examine(store.head(), "c") is None


def test_edited(store: Repository, profiles: Path) -> None:
    (profiles / "a" / "metadata.json").write_bytes(metadata("a", note="mine"))
    assert state(store) == "edited"
    (profiles / "a" / "metadata.json").write_bytes(metadata("a"))
    (profiles / "a" / "fingerprint.json").write_bytes(b'{"x": 1}')
    assert state(store) == "edited"


def replace_by(kind: str, path: Path) -> None:
    path.unlink()
    if kind == "link":
        (path.parent / "elsewhere").write_bytes(metadata("a", note="elsewhere"))
        path.symlink_to(path.parent / "elsewhere")
    elif kind == "dangling":
        path.symlink_to("nowhere")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(1 << 34)


KINDS = ["missing", "link", "dangling", "fifo", "directory", "huge"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["metadata.json", "fingerprint.json"])
def test_strange_files(store: Repository, profiles: Path, kind: str, name: str) -> None:
    replace_by(kind, profiles / "a" / name)
    began = time.monotonic()
    assert name in problem(store)
    before = git(profiles, "rev-parse", "HEAD")
    change(fresh(store), "b")
    assert time.monotonic() - began < 5
    # Nothing of it went into history.
    assert git(profiles, "rev-parse", "HEAD~1") == before
    assert git(profiles, "diff", "--stat", "HEAD~1", "HEAD") == ""
    assert state(store, "b") == "clean"


@pytest.mark.parametrize(
    "content",
    [
        b"", bytes(100), b"{", b"[]", b"null", b"\xff\xfe", b"{}", metadata("b"),
        metadata("a").replace(b"inactive", b"asleep"), metadata("a")[:-20], b"[" * 100_000,
        metadata("a").replace(b'"platform": "custom"', b'"platform": "custom", "platform": "x"'),
    ],
    ids=range(12),
)  # fmt: skip
def test_invalid_metadata(store: Repository, profiles: Path, content: bytes) -> None:
    path = profiles / "a" / "metadata.json"
    path.write_bytes(content)
    assert problem(store)
    change(fresh(store), "a")
    assert path.read_bytes() == content
    assert git(profiles, "show", "HEAD:a/metadata.json").encode() == metadata("a")


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"[" * 100_000])
def test_invalid_fingerprint(store: Repository, profiles: Path, content: bytes) -> None:
    (profiles / "a" / "fingerprint.json").write_bytes(content)
    assert "fingerprint.json" in problem(store)
    change(fresh(store), "a")
    assert git(profiles, "show", "HEAD:a/fingerprint.json") == "{}\n"


def test_newer(store: Repository, profiles: Path) -> None:
    value = json.loads(metadata("a")) | {"schema_version": 2, "status": "sleeping"}
    (profiles / "a" / "metadata.json").write_text(json.dumps(value))
    assert state(store) == "newer"
    change(fresh(store), "a")
    assert json.loads((profiles / "a" / "metadata.json").read_text()) == value
    assert git(profiles, "show", "HEAD:a/metadata.json").encode() == metadata("a")


@pytest.mark.parametrize("kind", ["missing", "file", "link"])
def test_directory_is_something_else(
    store: Repository, profiles: Path, kind: str, tmp_path: Path
) -> None:
    (profiles / "a").rename(tmp_path / "outside")
    (tmp_path / "outside" / "metadata.json").write_bytes(metadata("a", note="outside"))
    if kind == "file":
        (profiles / "a").touch()
    elif kind == "link":
        (profiles / "a").symlink_to(tmp_path / "outside")
    assert "directory" in problem(store)
    change(fresh(store), "a", "b")
    assert note(profiles) == ""
    assert (tmp_path / "outside" / "session.json").read_text() == "a"


def test_tree_of_a_stranger(store: Repository, profiles: Path) -> None:
    """A tree that came by fetch: names that cannot be profiles, and files that are links."""
    blob = git(profiles, "hash-object", "-w", "--stdin", data=b"/etc/passwd").strip()
    tree = git(profiles, "mktree", data=f"120000 blob {blob}\tmetadata.json\n".encode()).strip()
    lines = git(profiles, "ls-tree", "HEAD")
    lines += "".join(
        f"040000 tree {tree}\t{name}\n" for name in ("CON", "x y", ".hidden", "linked")
    )
    lines += f"160000 commit {'1' * 40}\tsub\n120000 blob {blob}\tlink\n"
    root = git(profiles, "mktree", "--missing", data=lines.encode()).strip()
    commit = git(profiles, "commit-tree", root, "-p", "HEAD", "-m", "strange").strip()
    git(profiles, "update-ref", "HEAD", commit)
    git(profiles, "read-tree", "HEAD")
    head = store.head()
    assert store.work_tree.ids(head) == ["a", "b", "linked"]
    assert store.work_tree.examine(head, "linked") is None
    change(store, "b")
    assert not (profiles / "linked").exists()
    assert not (profiles / "CON").exists()


# Adopting


def test_edits_are_adopted_before_the_next_change(store: Repository, profiles: Path) -> None:
    (profiles / "a" / "metadata.json").write_bytes(metadata("a", note="by hand"))
    change(fresh(store), "b")
    assert subjects(profiles)[:2] == ["touch", "adopt edits by hand: a"]
    assert note(profiles) == "by hand"
    assert git(profiles, "status", "--porcelain") == ""
    assert "Tweakio-Op: adopt\nTweakio-Profile: a" in git(
        profiles, "log", "-1", "--format=%B", "HEAD~1"
    )


def test_edits_of_many_are_one_commit(store: Repository, profiles: Path) -> None:
    names = [f"p{number}" for number in range(7)]
    create(store, *names)
    for name in names:
        (profiles / name / "metadata.json").write_bytes(metadata(name, note="x"))
    change(fresh(store))
    assert subjects(profiles)[1] == "adopt edits by hand: p0, p1, p2, p3, p4 and 2 more"


def test_bytes_of_an_edit_stay_as_they_are(store: Repository, profiles: Path) -> None:
    """Only what is committed is a copy of it: no reformatting."""
    content = json.dumps({**json.loads(metadata("a")), "future": [1]}).encode() + b"\r\n\r\n"
    (profiles / "a" / "metadata.json").write_bytes(content)
    change(fresh(store), "a")
    assert (profiles / "a" / "metadata.json").read_bytes() == content
    assert git(profiles, "status", "--porcelain") == ""


def test_edit_of_a_profile_that_is_changed(store: Repository, profiles: Path) -> None:
    """The change builds on the edit, even between two looks at everything."""
    change(store)
    store._scan_cost = 1e9  # the next look at everything is far away
    store._scanned_at = time.monotonic()
    (profiles / "a" / "metadata.json").write_bytes(metadata("a", note="mine"))
    with store.transaction("tag", ["a"]) as tx:
        value = tx.metadata("a")
        assert value["note"] == "mine"
        tx.put_metadata("a", {**value, "tags": ["t"]})
    assert note(profiles) == "mine"
    assert subjects(profiles)[1].startswith("adopt")


def test_same_size_in_the_same_tick(store: Repository, profiles: Path) -> None:
    """Size and times alone would not tell."""
    path = profiles / "a" / "metadata.json"
    with store.transaction("x", ["a"]) as tx:
        tx.put_metadata("a", {**tx.metadata("a"), "note": "1111"})
    change(store)
    status = path.stat()
    index = os.stat(profiles / ".git" / "index")
    with path.open("r+b") as file:
        content = file.read().replace(b"1111", b"2222")
        file.seek(0)
        file.write(content)
    # As if all of it had happened in one tick of the clock.
    os.utime(path, ns=(status.st_atime_ns, index.st_mtime_ns))
    os.utime(profiles / ".git" / "index", ns=(index.st_atime_ns, index.st_mtime_ns))
    change(fresh(store), "b")
    assert note(profiles) == "2222"


def test_removed_fingerprint_of_a_profile_that_never_had_one(
    store: Repository, profiles: Path
) -> None:
    with store.transaction("x", ["a"]) as tx:
        tx.put("a", "fingerprint.json", None)
    assert not (profiles / "a" / "fingerprint.json").exists()
    assert state(store) == "clean"
    (profiles / "a" / "fingerprint.json").write_bytes(b"{}")
    assert state(store) == "edited"


# Rescuing


def test_unknown_directory_is_rescued(
    store: Repository, profiles: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (profiles / "stray" / "browser_profile").mkdir(parents=True)
    (profiles / "stray" / "browser_profile" / "data").write_text("precious")
    (profiles / "notes").mkdir()
    (profiles / "no id").mkdir()
    (profiles / "no id" / "session.json").touch()
    (profiles / "file").touch()
    (profiles / "link").symlink_to(profiles / "a")
    change(fresh(store))
    (entry,) = store.rescued.entries()
    assert (entry.profile_id, entry.kind, entry.profile_created_at) == ("stray", "unknown", None)
    assert (entry.path / "data" / "browser_profile" / "data").read_text() == "precious"
    assert "stray is not in history" in caplog.text
    for name in ("notes", "no id", "file", "link"):
        assert os.path.lexists(profiles / name)


def test_unknown_directory_in_use_stays(store: Repository, profiles: Path) -> None:
    (profiles / "stray").mkdir()
    (profiles / "stray" / "session.json").touch()
    lock = RecordedLock(profiles / "stray" / ".lock")
    lock.acquire(0)
    change(fresh(store))
    assert (profiles / "stray").exists()
    lock.release()
    change(fresh(store))
    assert not (profiles / "stray").exists()


def test_reset_to_before_a_create_and_back(store: Repository, profiles: Path) -> None:
    """``git reset --hard`` there and back again brings the data back."""
    create(store, "c")
    data = (profiles / "c" / "browser_profile" / "data").read_bytes()
    head = git(profiles, "rev-parse", "HEAD").strip()
    git(profiles, "reset", "-q", "--hard", "HEAD~1")
    change(fresh(store), "a")
    assert not (profiles / "c").exists()
    (entry,) = store.rescued.entries()
    assert schema.dump({"t": entry.profile_created_at.isoformat()}).count(b"2026-01-02")  # type: ignore[union-attr]
    git(profiles, "reset", "-q", "--hard", head)
    change(fresh(store), "a")
    assert (profiles / "c" / "browser_profile" / "data").read_bytes() == data
    assert (profiles / "c" / "session.json").read_text() == "c"
    assert store.rescued.entries() == []
    assert git(profiles, "status", "--porcelain") == ""


def delete(repository: Repository, profile_id: str) -> None:
    from tweakio import directories

    with repository.transaction("delete", [profile_id]) as tx:
        directories.take_away(tx, repository, profile_id)


def test_reset_to_before_a_delete(store: Repository, profiles: Path) -> None:
    data = (profiles / "a" / "browser_profile" / "data").read_bytes()
    delete(store, "a")
    assert not (profiles / "a").exists()
    git(profiles, "reset", "-q", "--hard", "HEAD~1")
    assert not (profiles / "a" / "session.json").exists()
    change(fresh(store), "b")
    assert (profiles / "a" / "browser_profile" / "data").read_bytes() == data
    assert (profiles / "a" / "session.json").read_text() == "a"
    assert store.trash.entries() == []
    assert git(profiles, "status", "--porcelain") == ""


def test_another_profile_of_the_same_name_gets_nothing(store: Repository, profiles: Path) -> None:
    delete(store, "a")
    later = "2027-01-01T00:00:00.000000Z"
    create(store, "a", created_at=later)
    for name in ("session.json", "browser_profile/data"):
        (profiles / "a" / name).unlink()
    (profiles / "a" / "browser_profile").rmdir()
    change(fresh(store), "b")
    assert not (profiles / "a" / "session.json").exists()
    assert [entry.profile_id for entry in store.trash.entries()] == ["a"]


def test_only_what_is_missing_comes_back(store: Repository, profiles: Path) -> None:
    delete(store, "a")
    git(profiles, "reset", "-q", "--hard", "HEAD~1")
    (profiles / "a" / "session.json").write_text("a new login")
    change(fresh(store), "b")
    assert (profiles / "a" / "session.json").read_text() == "a new login"
    assert (profiles / "a" / "browser_profile" / "data").exists()
    (entry,) = store.trash.entries()
    assert (entry.path / "data" / "session.json").read_text() == "a"


def test_link_instead_of_the_directory_receives_nothing(
    store: Repository, profiles: Path, tmp_path: Path
) -> None:
    delete(store, "a")
    git(profiles, "reset", "-q", "--hard", "HEAD~1")
    (profiles / "a").rename(tmp_path / "outside")
    (profiles / "a").symlink_to(tmp_path / "outside")
    change(fresh(store), "b")
    assert sorted(os.listdir(tmp_path / "outside")) == ["fingerprint.json", "metadata.json"]
    assert len(store.trash.entries()) == 1


# The survey


def test_survey(store: Repository, profiles: Path) -> None:
    create(store, "on", status="active", lock_pid=77)
    create(store, "selected", status="active")
    for repository in (store, fresh(store)):
        change(repository)
        head = repository.head()
        assert (head.surveyed, head.valid) == (True, True)
        assert dict(head.active) == {"on": 77, "selected": None}


def test_survey_of_invalid_history(store: Repository, profiles: Path) -> None:
    (profiles / "a" / "metadata.json").write_bytes(b"{}")
    git(profiles, "-c", "core.hooksPath=/nowhere", "commit", "-q", "-am", "invalid")
    repository = fresh(store)
    change(repository)
    head = repository.head()
    assert head.surveyed is False or head.valid is False
    (profiles / "a" / "metadata.json").write_bytes(metadata("a", note="mended"))
    change(fresh(store), "b")
    assert note(profiles) == "mended"


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Repository], int]:
    def count(repository: Repository) -> int:
        seen = [0]
        real = repository.work_tree.settle_directories

        def settle() -> None:
            seen[0] += 1
            real()

        monkeypatch.setattr(repository.work_tree, "settle_directories", settle)
        for _ in range(20):
            with repository.transaction("x", ["a"]) as tx:
                tx.put_metadata("a", {**tx.metadata("a"), "note": os.urandom(4).hex()})
        return seen[0]

    return count


def test_looking_at_everything_is_rare(
    store: Repository, counted: Callable[[Repository], int]
) -> None:
    change(store)
    store._scan_cost = 0.5
    assert counted(store) <= 1


def test_created_in_this_format() -> None:
    assert NOW.endswith("Z")
