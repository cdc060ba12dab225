"""Lines that are drawn again in their place, as an emulated terminal shows them."""

from __future__ import annotations

import os

import pyte
import pytest

from tweakio.cli.region import Region


class Terminal:
    """A terminal in memory."""

    encoding = "utf-8"

    def __init__(self, columns=20, lines=8):
        self.screen = pyte.Screen(columns, lines)
        self._feed = pyte.Stream(self.screen).feed
        self.written = ""

    def write(self, text):
        self.written += text
        self._feed(text.replace("\n", "\r\n"))

    def flush(self):
        pass

    def shown(self):
        return [line.rstrip() for line in self.screen.display if line.strip()]


@pytest.fixture
def terminal():
    return Terminal()


@pytest.fixture
def region(terminal, monkeypatch):
    monkeypatch.setattr(
        Region,
        "size",
        property(lambda _: os.terminal_size((terminal.screen.columns, terminal.screen.lines))),
    )
    return Region(terminal)


def test_it_is_drawn_in_its_place(terminal, region):
    terminal.write("$ tweakio\n")
    region.draw(["one", "two", "three"])
    region.draw(["eins", "two", "drei"])
    assert terminal.shown() == ["$ tweakio", "eins", "two", "drei"]
    region.draw(["only this"])
    assert terminal.shown() == ["$ tweakio", "only this"]
    region.draw(["more", "and more"])
    assert terminal.shown() == ["$ tweakio", "more", "and more"]
    region.erase()
    assert terminal.shown() == ["$ tweakio"]
    terminal.write("done\n")
    assert terminal.shown() == ["$ tweakio", "done"]


def test_only_what_has_changed_is_written(terminal, region):
    region.draw(["x" * 20] * 5 + ["30 s"])
    before = len(terminal.written)
    region.draw(["x" * 20] * 5 + ["29 s"])
    assert len(terminal.written) - before < 30
    assert terminal.shown() == ["x" * 20] * 5 + ["29 s"]
    before = len(terminal.written)
    region.draw(["x" * 20] * 5 + ["29 s"])
    assert len(terminal.written) == before


def test_a_line_of_the_full_width_keeps_its_last_cell(terminal, region):
    region.draw(["a" * 20, "b"])
    region.draw(["c" * 20, "b"])
    assert terminal.shown() == ["c" * 20, "b"]


def test_at_the_bottom_of_a_full_terminal(terminal, region):
    for number in range(20):
        terminal.write(f"line {number}\n")
    region.draw(["one", "two"])
    region.draw(["three", "four"])
    assert terminal.shown()[-3:] == ["line 19", "three", "four"]


def test_lines_of_others_stand_above(terminal, region):
    region.draw(["code", "waiting"])
    with region.aside():
        terminal.write("a warning\n")
    assert terminal.shown() == ["a warning", "code", "waiting"]
    region.draw(["code", "done"])
    assert terminal.shown() == ["a warning", "code", "done"]


def test_another_size_begins_anew(terminal, region):
    region.draw(["one", "two"])
    terminal.screen.resize(6, 30)
    region.draw(["one", "three"])
    assert terminal.shown() == ["one", "three"]


def test_a_terminal_that_is_gone_is_no_error():
    class Gone(Terminal):
        def fileno(self):
            raise OSError(9, "Bad file descriptor")

        def write(self, text):
            raise OSError(5, "Input/output error")

    Region(Gone()).draw(["one"])
