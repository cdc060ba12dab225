"""The highest counters that a machine has seen, and the headers that they stand in."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import pytest

from tweakio.errors import NewerFormatError, VaultError
from tweakio.layout import Layout
from tweakio.vault import binding, counters
from tweakio.vault.binding import Bound, Unframed

CREATED = "2026-01-02T03:04:05.000000Z"
PLACE = binding.session("p1", CREATED)
PLACES = b'{"created_at": "%s", "places": []}' % CREATED.encode()


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    layout.temporary.mkdir(parents=True)
    return layout


def test_the_highest_is_kept(layout: Layout) -> None:
    assert counters.highest(layout, PLACE) == 0
    for counter in (5, 9, 7):
        counters.note(layout, PLACE, counter)
    assert counters.highest(layout, PLACE) == 9
    counters.note(layout, PLACE, binding.now() + 10 * binding.AHEAD)  # is not believed
    assert counters.highest(layout, PLACE) == 9
    counters.forget(layout, PLACE)
    counters.forget(layout, PLACE)
    assert counters.highest(layout, PLACE) == 0


def test_another_profile_of_the_name_begins_anew(layout: Layout) -> None:
    counters.note(layout, PLACE, 9)
    assert counters.highest(layout, binding.session("p1", "2026-05-05T00:00:00.000000Z")) == 0
    assert counters.highest(layout, binding.setting("p1", CREATED, "browser.proxy_password")) == 0


def test_the_next_is_more_than_any_before(layout: Layout) -> None:
    ahead = binding.now() + 60_000
    assert counters.upcoming(layout, PLACE, ahead) == ahead + 1
    counters.note(layout, PLACE, ahead + 5)
    assert counters.upcoming(layout, PLACE) == ahead + 6
    assert counters.upcoming(layout, PLACE, binding.now() + 10 * binding.AHEAD) == ahead + 6


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"created_at": "%s", "places": []}' % CREATED.encode(),
        b"[" * 9999,
    ],
)
def test_a_damaged_note_is_none(
    layout: Layout, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    counters.note(layout, PLACE, 9)
    layout.counters_of("p1").write_bytes(content)
    assert counters.highest(layout, PLACE) == 0
    assert "cannot be read" in caplog.text
    counters.note(layout, PLACE, 7)
    assert counters.highest(layout, PLACE) == 7


def test_what_cannot_be_noted_is_logged(layout: Layout, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    layout.temporary.rmdir()
    counters.note(layout, PLACE, 9)
    assert "cannot be noted" in caplog.text
    assert counters.highest(layout, PLACE) == 0


# Headers


def test_a_header_says_what_a_content_is_for() -> None:
    found = binding.read(binding.bind(PLACE, 77, b"content\n"))
    assert found == Bound(PLACE, 77, b"content\n")
    assert "content" not in repr(found)
    assert binding.read(b"no header") == Bound(None, 0, b"no header")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\n", b""),
        (b'"counter":77', b'"counter":true'),
        (b'"counter":77', b'"counter":0'),
        (b'"counter":77', b'"counter":' + b"9" * 30),
        (b'"counter":77', b'"other":77'),
        (b'"session"', b'"anything"'),
        (b'"p1"', b"1"),
        (b"2026-01-02", b"2026-13-02"),
        (b'{"purpose"', b'["purpose"'),
    ],
)
def test_a_header_that_cannot_be_read(old: bytes, new: bytes) -> None:
    content = binding.header(PLACE, 77)
    assert old in content
    with pytest.raises(VaultError, match="cannot be read"):
        binding.read(content.replace(old, new))


def test_a_header_of_a_newer_tweakio() -> None:
    content = binding.header(PLACE, 77)
    family = binding._FAMILY
    newer = family + b"99" + content[len(family) + 1 :]
    with pytest.raises(NewerFormatError):
        binding.read(newer)


def test_times_that_no_calendar_has() -> None:
    assert binding.shown_time(1_767_323_045_000) == "2026-01-02T03:04:05Z"
    assert binding.shown_time(1 << 60).startswith("the year ")


def test_what_differs_is_named() -> None:
    for other, said in (
        (binding.session("p2", CREATED), "belongs to profile 'p2'"),
        (binding.session("p1", "2026-05-05T00:00:00Z"), "another profile of this name"),
        (binding.setting("p1", CREATED, "browser.proxy_password"), "is the "),
        (binding.snapshot("p1", CREATED, "s"), "is the "),
    ):
        assert said in PLACE.difference(other)
        assert other.difference(PLACE)
    assert PLACE.difference(PLACE) == ""


# In pieces


def unframed(data: bytes, size: int) -> tuple[bytes, Bound]:
    seen: list[Bound] = []
    target = io.BytesIO()
    stream = Unframed(target, seen.append)
    for at in range(0, len(data), size):
        assert stream.write(data[at : at + size]) == len(data[at : at + size])
    stream.flush()
    stream.end()
    [found] = seen
    return target.getvalue(), found


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("rest", [b"", b"a rest\n"])
def test_a_frame_comes_off_in_pieces_of_any_size(size: int, rest: bytes) -> None:
    data = binding.framed(PLACE, 77) + rest
    assert unframed(data, size) == (rest, Bound(PLACE, 77, b""))
    assert unframed(b"no frame" + rest, size) == (b"no frame" + rest, Bound(None, 0, b""))
    assert unframed(b"x", size) == (b"x", Bound(None, 0, b""))


def test_a_frame_that_is_cut_short_or_endless() -> None:
    data = binding.framed(PLACE, 77)
    with pytest.raises(VaultError, match="cannot be read"):
        unframed(data[:-3], 5)
    with pytest.raises(VaultError, match="cannot be read"):
        unframed(data[:4] + b"\xff\xff\xff\x7f" + data[8:], 1000)
