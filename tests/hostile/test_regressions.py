"""What the search found, each by itself."""

from __future__ import annotations

import os
from datetime import datetime, timezone

import pytest

from tests.hostile import homes
from tests.invariants import git
from tweakio import ProfileManager, durable
from tweakio.errors import RevisionNotFoundError, TweakioError
from tweakio.history import History
from tweakio.models import format_time, parse_time
from tweakio.store.index import Index
from tweakio.store.journal import Move, move_on
from tweakio.store.objects import parse_commit
from tweakio.store.refs import Refs


@pytest.fixture
def home(tmp_path, sound):
    homes.copy(sound[0], tmp_path / "home")
    return tmp_path / "home"


def test_write_over_leaves_the_other_name(tmp_path):
    """As in a backup by hard links."""
    (tmp_path / "backup").write_bytes(b"before")
    os.link(tmp_path / "backup", tmp_path / "file")
    durable.write_over(tmp_path / "file", b"after!")
    assert (tmp_path / "backup").read_bytes() == b"before"
    assert (tmp_path / "file").read_bytes() == b"after!"


def test_append_leaves_the_other_name(tmp_path):
    (tmp_path / "backup").write_bytes(b"one\n")
    os.link(tmp_path / "backup", tmp_path / "file")
    durable.append(tmp_path / "file", b"two\n", create_missing=False)
    assert (tmp_path / "backup").read_bytes() == b"one\n"
    assert (tmp_path / "file").read_bytes() == b"one\ntwo\n"
    os.unlink(tmp_path / "backup")
    os.link(tmp_path / "file", tmp_path / "backup")
    durable.cut_end(tmp_path / "file", 4)
    assert (tmp_path / "backup").read_bytes() == b"one\ntwo\n"
    assert (tmp_path / "file").read_bytes() == b"one\n"


def test_no_move_through_a_link(home, tmp_path):
    from tweakio.layout import Layout

    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x").write_text("x")
    (home / "away").symlink_to(tmp_path / "outside")
    with pytest.raises(OSError, match="symbolic link"):
        move_on(Layout(home), (Move("away/x", "profiles/x"),))
    assert (tmp_path / "outside" / "x").exists()


@pytest.mark.parametrize("revision", ["HEAD~" + "9" * 5000, "~1" * 60_000 + "x", "\ud800~1"])
def test_absurd_revision(home, revision):
    with ProfileManager(home) as manager, pytest.raises(RevisionNotFoundError):
        History(manager.repository).resolve(revision)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
def test_time_that_no_zone_can_show(text):
    with pytest.raises(ValueError, match="too"):
        parse_time(text)


def test_early_year_has_four_digits():
    moment = datetime(33, 4, 3, tzinfo=timezone.utc)
    assert parse_time(format_time(moment)) == moment


def test_commit_of_the_last_year_can_be_shown(home):
    body = b"tree " + b"a" * 40 + b"\nauthor A <b> 253402300799 -1200\n\nx"
    assert parse_commit("0" * 40, body).time.astimezone(timezone.utc)


def test_head_does_not_name_a_file_outside(tmp_path):
    (tmp_path / "outside").write_text("a" * 40)
    (tmp_path / "git").mkdir()
    (tmp_path / "git" / "HEAD").write_text("ref: refs/heads/../../../outside\n")
    refs = Refs(tmp_path / "git", tmp_path)
    for call in (refs.head, refs.branch):
        with pytest.raises(TweakioError):
            call()


def test_index_out_of_order_is_not_read(home):
    found = Index.parse((home / "profiles/.git/index").read_bytes())
    entries = found.entries()
    first, second = sorted(entries)[:2]
    swapped = Index.build({first: entries[first]}).body + Index.build(
        {name: entries[name] for name in entries if name not in (first, second)}
    ).body + Index.build({second: entries[second]}).body  # fmt: skip
    with pytest.raises(ValueError, match="cannot read"):
        Index.parse(bytes(Index(swapped, sorted(entries))))


def _doctored(home):
    """What the doctor mended; then git and a second look agree that all is well."""
    with ProfileManager(home) as manager:
        codes = {found.code for found in manager.doctor(fix=True, cut=True).findings}
        assert [found for found in manager.doctor().findings if found.severity == "damage"] == []
    done = git(home / "profiles", "fsck", "--strict", "--no-dangling")
    assert (done.returncode, done.stdout) == (0, b"")
    return codes


def test_doctor_mends_a_reflog_of_lost_commits(home):
    path = home / "profiles/.git/logs/HEAD"
    path.write_bytes(path.read_bytes() + b"%040d %040d A <b> 1 +0000\tx\n" % (7, 8))
    assert "reflog-damaged" in _doctored(home)


def test_doctor_mends_packed_refs(home):
    path = home / "profiles/.git/packed-refs"
    path.write_bytes(path.read_bytes() + b"52b")
    assert "ref-damaged" in _doctored(home)


def test_doctor_puts_a_branch_of_a_lost_commit_aside(home):
    (home / "profiles/.git/refs/heads/lost").write_text("7" * 40 + "\n")
    assert "ref-damaged" in _doctored(home)


def test_doctor_mends_an_index_with_lost_content(home):
    from tweakio.store.index import entry_header

    path = home / "profiles/.git/index"
    found = Index.parse(path.read_bytes())
    header = entry_header(b"\7" * 20, None, b"zz/file")
    path.write_bytes(bytes(found.edit({b"zz/file": header})))
    assert _doctored(home) & {"index-damaged", "index-outdated"}


def test_doctor_does_not_write_an_object_again_for_ever(home):
    """A tree that names another tree as a file: it is there, and will never be a file."""
    profiles = home / "profiles"
    tree = homes.git(profiles, "rev-parse", "HEAD:alpha")
    wrong = homes.git(profiles, "rev-parse", "HEAD^{tree}")
    import hashlib
    import zlib

    def write(kind: bytes, body: bytes) -> str:
        raw = b"%b %d\0" % (kind, len(body)) + body
        name = hashlib.sha1(raw).hexdigest()
        path = profiles / ".git/objects" / name[:2] / name[2:]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(zlib.compress(raw))
        return name

    assert wrong
    root = write(b"tree", b"100644 alpha\0" + bytes.fromhex(tree))
    head = homes.git(profiles, "rev-parse", "HEAD")
    commit = write(b"commit", f"tree {root}\nparent {head}\nauthor A <b> 1 +0000\n"
                   "committer A <b> 1 +0000\n\nx\n".encode())  # fmt: skip
    (profiles / ".git/refs/heads/main").write_text(f"{commit}\n")
    with ProfileManager(home) as manager:
        assert "history-damaged" in {
            found.code for found in manager.doctor(fix=True, cut=True).findings
        }
        assert [profile.id for profile in manager.list_profiles()] == ["alpha", "beta", "spare"]


def test_doctor_puts_a_garbage_ref_aside(home):
    (home / "profiles/.git/refs/heads/side").write_bytes(b"a5c68f\x10")
    assert "ref-damaged" in _doctored(home)


def test_moves_that_do_not_fit_lose_nothing(home):
    """A journal whose second move is not what was done: the data stays in the trash."""
    from tweakio.layout import Layout
    from tweakio.store.journal import move_back

    entry = home / "profiles/.git/tweakio/trash/20260101T000000-beta-abcdef"
    entry.mkdir()
    (home / "profiles/beta").rename(entry / "data")
    built = "profiles/.git/tweakio/staging/x"
    wrong = Move("profiles/beta", "profiles/.git/tweakio/trash/elsewhere/data")
    move_back(Layout(home), (Move(built, str(entry.relative_to(home))), wrong))
    assert (entry / "data/browser_profile/Default/Cookies").exists()
