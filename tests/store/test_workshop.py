"""Rooms to build in: a live builder keeps its own, a dead one's goes with the next change."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tweakio import ProfileManager
from tweakio.archive.importer import Incoming
from tweakio.errors import DiskFullError
from tweakio.importing.settings import settings
from tweakio.layout import Layout
from tweakio.store.workshop import Workshop

BUILDER = """\
import sys, time
from pathlib import Path
from tweakio.store.workshop import Workshop
with Workshop(Path(sys.argv[1])).room() as room:
    (room / "half").write_text("half")
    print(room, flush=True)
    time.sleep(60)  # until it is killed
"""


def test_a_room_is_there_for_the_block(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path / "work")
    with workshop.room() as one, workshop.room() as other:
        assert one != other
        (one / "data").mkdir()
        workshop.clear()
        assert (one / "data").is_dir()
    assert os.listdir(tmp_path / "work") == []
    with pytest.raises(KeyboardInterrupt), workshop.room() as one:
        raise KeyboardInterrupt
    assert os.listdir(tmp_path / "work") == []


def test_the_next_change_clears_the_room_of_a_dead_builder_only(home: Path) -> None:
    with ProfileManager(home) as manager:
        manager.create_profile("a", "custom")
        root = Layout(home).workshop
        builders = [
            subprocess.Popen([sys.executable, "-c", BUILDER, root], stdout=subprocess.PIPE)
            for _ in range(2)
        ]
        rooms = []
        for builder in builders:
            assert builder.stdout is not None
            rooms.append(Path(builder.stdout.readline().decode().strip()))
        try:
            builders[0].kill()
            builders[0].wait(10)
            manager.update_profiles(["a"], note="x")
            assert [room.exists() for room in rooms] == [False, True]
            assert sorted(os.listdir(root)) == [rooms[1].name, f"{rooms[1].name}.lock"]
        finally:
            for builder in builders:
                builder.send_signal(signal.SIGTERM)
                builder.communicate(timeout=10)
        manager.update_profiles(["a"], note="y")
        assert os.listdir(root) == []


def incoming(name: str, unpack) -> Incoming:
    return Incoming(settings(name, "custom"), has_data=True, unpack=unpack, size=1)


def test_others_change_the_repository_while_an_import_unpacks(home: Path) -> None:
    began, go_on = threading.Event(), threading.Event()

    def unpack(into: Path | None, _: object) -> None:
        assert into is not None
        (into / "browser_profile").mkdir()
        (into / "browser_profile" / "Cookies").write_text("theirs")
        began.set()
        assert go_on.wait(30)

    with ProfileManager(home) as one, ProfileManager(home) as other:
        one.create_profile("a", "custom")
        importing = threading.Thread(
            target=lambda: one.archives.bring_in([incoming("big", unpack)])
        )
        importing.start()
        try:
            assert began.wait(30)
            other.create_profile("b", "custom")
            other.activate_profile("a", 0)
        finally:
            go_on.set()
            importing.join(30)
        assert [profile.id for profile in other.list_profiles()] == ["a", "b", "big"]
        path = one.layout.profile("big").browser_profile / "Cookies"
        assert path.read_text() == "theirs"
        assert os.listdir(one.layout.workshop) == []


def test_an_id_that_was_taken_while_it_unpacked(home: Path) -> None:
    """What is decided under the lock counts, and nothing of the other is touched."""
    with ProfileManager(home) as one, ProfileManager(home) as other:
        one.create_profile("a", "custom")

        def unpack(into: Path | None, _: object) -> None:
            assert into is not None
            (into / "browser_profile").mkdir()
            other.create_profile("big", "custom", note="theirs")

        found = one.archives.bring_in([incoming("big", unpack)], existing="rename")
        assert [result.profile_id for result in found] == ["big-2"]
        assert one.get_profile("big").note == "theirs"
        assert one.layout.profile("big-2").browser_profile.is_dir()


def test_an_id_that_has_become_free_while_it_unpacked(home: Path) -> None:
    with ProfileManager(home) as one, ProfileManager(home) as other:
        one.create_profiles(["taken", "other"], "custom")

        def first(into: Path | None, _: object) -> None:
            assert into is not None
            (into / "browser_profile").mkdir()
            other.delete_profile("taken")

        def second(into: Path | None, _: object) -> None:
            assert into is not None
            (into / "browser_profile").mkdir()
            (into / "browser_profile" / "Cookies").write_text("new")

        found = one.archives.bring_in(
            [incoming("big", first), incoming("taken", second)], existing="skip"
        )
        assert [result.action for result in found] == ["created", "created"]
        path = one.layout.profile("taken").browser_profile / "Cookies"
        assert path.read_text() == "new"


def test_a_full_disk_leaves_no_room(home: Path) -> None:
    def unpack(into: Path | None, _: object) -> None:
        assert into is not None
        (into / "half").write_text("half")
        raise OSError(28, "No space left on device")

    with ProfileManager(home) as manager:
        manager.create_profile("a", "custom")
        with pytest.raises(DiskFullError, match="unpack what comes"):
            manager.archives.bring_in([incoming("big", unpack)])
        assert os.listdir(manager.layout.workshop) == []
        assert os.listdir(manager.layout.staging) == []
