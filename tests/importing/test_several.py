"""Many profiles at once, as one commit or none."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.archive.test_export_import import commits, state
from tests.cli_helpers import Cli
from tests.importing.test_import import chromium, firefox, inventory, written
from tweakio import ForeignDataError, ProfileExistsError, ProfileManager
from tweakio.importing import from_csv, from_folder
from tweakio.importing.several import id_of
from tweakio.validator import ProfileValidator


@pytest.fixture
def manager(tmp_path):
    with ProfileManager(tmp_path / "home") as made:
        made.create_profile("other", "custom")
        yield made


def folder(path: Path) -> Path:
    path.mkdir()
    chromium(path / "Shop East")
    firefox(path / "west")
    written(path / "north.json")
    written(path / "broken.json", "{")
    (path / "notes.txt").write_text("x")
    (path / "link.json").symlink_to(path / "north.json")
    (path / "link").symlink_to(path / "west")
    return path


def test_folder(manager, tmp_path, caplog):
    source = folder(tmp_path / "folder")
    before, count = inventory(source), commits(manager)
    found = manager.archives.bring_in(from_folder(source, "telegram"), source="folder")
    assert [item.profile_id for item in found] == ["Shop-East", "north", "west"]
    assert (inventory(source), commits(manager)) == (before, count + 1)
    for name in ("broken.json", "notes.txt", "link.json", "link"):
        assert repr(name) in caplog.text
    assert manager.layout.profile("north").session.stat().st_size > 100
    assert (manager.layout.profile("west").browser_profile / "prefs.js").is_file()
    assert manager.doctor().healthy
    again = from_folder(source, "telegram")
    with pytest.raises(ProfileExistsError):
        manager.archives.bring_in(again)
    assert {item.action for item in manager.archives.bring_in(again, existing="skip")} == {
        "skipped"
    }
    renamed = manager.archives.bring_in(again, existing="rename")
    assert [item.profile_id for item in renamed] == ["Shop-East-2", "north-2", "west-2"]


def test_folder_with_one_id_twice(manager, tmp_path):
    (tmp_path / "f").mkdir()
    for name in ("a b", "a-b", "A.b"):
        written(tmp_path / "f" / f"{name}.json")
    with pytest.raises(ForeignDataError, match="two profiles"):
        from_folder(tmp_path / "f", "telegram")
    assert len(from_folder(tmp_path / "f", "telegram", existing="skip")) == 1
    found = manager.archives.bring_in(from_folder(tmp_path / "f", "telegram", existing="rename"))
    assert [item.profile_id for item in found] == ["A-b", "a-b-2", "a-b-3"]


def test_folder_with_nothing(tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ForeignDataError):
            from_folder(path, "telegram")


@pytest.mark.parametrize("name", ["", "..", "CON", "-a-", "\udcff", "a" * 50, "ä", "_x", "nul"])
def test_ids_of_names(name):
    assert ProfileValidator().is_id(id_of(name))


TABLE = """\
note;PLATFORM; id ;tags;timezone;proxy;proxy_password;config.url;storage_state;user_data_dir
"a ""good"" one;
of two lines";telegram;one;x; ;;;;state.json;
;;two;a;Europe/Berlin;http://u@host:80;env:PASSWORD;;;
;;;;;;;;;
;custom;three;b;;;;https://example.org/;;chrome
"""


def test_table(manager, tmp_path):
    written(tmp_path / "state.json")
    chromium(tmp_path / "chrome")
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbf" + TABLE.replace("\n", "\r\n").encode())
    before = commits(manager)
    incoming = from_csv(tmp_path / "t.csv", "whatsapp")
    assert [item.profile_id for item in manager.archives.check(incoming)] == ["one", "two", "three"]
    assert commits(manager) == before
    manager.archives.bring_in(incoming, source="csv")
    assert commits(manager) == before + 1
    one, two, three = (manager.get_profile(name) for name in ("one", "two", "three"))
    assert (one.platform, one.note) == ("telegram", 'a "good" one;\nof two lines')
    assert b"MARKER-1" in manager.layout.profile("one").session.read_bytes()
    assert two.platform == "whatsapp"
    assert two.browser == {
        "timezone": "Europe/Berlin",
        "proxy": "http://u@host:80",
        "proxy_password": "env:PASSWORD",
    }
    assert three.platform_config == {"url": "https://example.org/"}
    assert (manager.layout.profile("three").browser_profile / "Local State").is_file()
    assert manager.doctor().healthy


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "profile_id"),
        ("note\nx", "profile_id"),
        ("id,platform\n\n", "has no rows"),
        ("id,name\na,b", "profile_id"),
        ("id,secret\na,b", "'secret'"),
        ("id,note,note\na,b,c", "twice"),
        ("id,platform\na", "line 2"),
        ("id,platform\na,custom,more", "line 2"),
        ("id\na", "line 2: no platform"),
        ("id,platform\na,custom\n../b,custom", "line 3"),
        ("id,platform\n,custom", "line 2"),
        ("id,platform\na,nowhere", "line 2"),
        ("id,platform\na,custom\nA,custom", "two profiles"),
        ("id,platform,proxy\na,custom,http://u:MARKER@h:1", "line 2"),
        ("id,platform,proxy_password\na,custom,MARKER", "line 2"),
        ("id,platform,config.token\na,custom,MARKER", "line 2"),
        ("id,platform,storage_state\na,telegram,missing", "line 2"),
        ("id,platform,storage_state,user_data_dir\na,telegram,x,y", "not both"),
        ('id,platform\n"a,custom', "no CSV"),
        ("id,platform\n" + "a" * 200_000 + ",custom", "no CSV"),
        ("id,platform,note\na,custom,\x1b[31m", "line 2"),
        ("\udcff", "UTF-8"),
    ],
)
def test_no_table(tmp_path, text, says):
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ForeignDataError) as caught:
        from_csv(path)
    assert says in str(caught.value)
    assert "MARKER" not in str(caught.value) + caught.value.hint
    assert "\n" not in str(caught.value)


def test_one_bad_source_changes_nothing(manager, tmp_path):
    source = folder(tmp_path / "folder")
    incoming = from_folder(source, "telegram")
    before = state(manager.home)
    with pytest.raises(ForeignDataError):
        manager.archives.bring_in(
            incoming, progress=lambda _: shutil.rmtree(source / "west", ignore_errors=True)
        )
    assert state(manager.home) == before


def test_command(tmp_path):
    cli = Cli(tmp_path)
    (tmp_path / "t.csv").write_text("id,platform\na,custom\nb,custom\n")
    done = cli.ok("profile", "import", "--from-csv", tmp_path / "t.csv", "--dry-run")
    assert done.out == "would import a (custom)\nwould import b (custom)\n"
    assert not (tmp_path / "home").exists()
    done = cli.run("profile", "import", "--from-csv", tmp_path)
    assert f"'{tmp_path}' is no regular file" in done.err
    folder(tmp_path / "f")
    done = cli.ok("profile", "import", "--from-folder", tmp_path / "f", "--platform", "telegram")
    assert len(done.lines) == 3
    assert "notes.txt" in done.err
    assert "MARKER" not in done.out + done.err
