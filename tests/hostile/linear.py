"""The steps of a backtracking matcher: a model of Python's ``re``, in which they can be counted.

A clock would say something else on every machine, and the engine itself counts nothing. This one
tries what the engine tries, in the same order, from the tree that Python's own parser makes of a
pattern; so a pattern whose steps grow with the square of a text's length is one that hangs.
A repetition of up to 24 times or more counts as one without end: the length that it may have is
then up to whoever calls, and is not relied on.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any

if sys.version_info >= (3, 11):
    from re import _parser as parser  # type: ignore[attr-defined]
else:
    import sre_parse as parser

_MANY = 24
_END = 1 << 30
_SAMPLES = "aZ0_-+./:@ \t\n\"'=,;#[]{}()<>%*\\\x00\x7f~^é\u0663"


class _EnoughError(Exception):
    """More steps than were asked for."""


class Steps:
    """One pattern, whose steps are counted."""

    def __init__(self, pattern: str | bytes, flags: int = 0) -> None:
        self.is_bytes = isinstance(pattern, bytes)
        text = pattern.decode("latin-1") if isinstance(pattern, bytes) else pattern
        self._tree = parser.parse(text, flags & ~re.UNICODE)
        self.flags = self._tree.state.flags | (re.ASCII if self.is_bytes else 0)
        self._known: dict[tuple[int, str], bool] = {}
        self.alphabet = self._alphabet()
        self.count = 0
        self.most = 0

    # Matching

    def run(self, text: str, how: str, most: int) -> int:
        """The steps that matching a text takes, or ``most``."""
        self.count, self.most = 0, most
        start = 0
        try:
            while start <= len(text):
                end = next(
                    (at for at in self._sequence(list(self._tree), 0, text, start)
                     if how != "fullmatch" or at == len(text)), None,
                )  # fmt: skip
                if how in ("match", "fullmatch") or (how == "search" and end is not None):
                    break
                start = max(start + 1, end or 0)
        except _EnoughError:
            return most
        return self.count

    def _step(self) -> None:
        self.count += 1
        if self.count >= self.most:
            raise _EnoughError

    def _sequence(self, items: list[Any], place: int, text: str, at: int) -> Iterator[int]:
        if place == len(items):
            yield at
            return
        for end in self._item(items[place], text, at):
            yield from self._sequence(items, place + 1, text, end)

    def _item(self, item: Any, text: str, at: int) -> Iterator[int]:
        self._step()
        kind, value = item
        name = str(kind)
        if name in ("LITERAL", "NOT_LITERAL", "ANY", "IN"):
            if at < len(text) and self.takes(item, text[at]):
                yield at + 1
        elif name == "SUBPATTERN":
            yield from self._sequence(list(value[-1]), 0, text, at)
        elif name == "BRANCH":
            for branch in value[1]:
                yield from self._sequence(list(branch), 0, text, at)
        elif name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            low, high, body = value
            low = min(low, 1) if low >= _MANY else low
            high = _END if high >= _MANY else high
            yield from self._repeat(list(body), low, high, text, at, greedy=name != "MIN_REPEAT")
        elif name == "AT":
            if self._at(str(value), text, at):
                yield at
        elif name in ("ASSERT", "ASSERT_NOT"):
            direction, body = value
            width = body.getwidth()[1]
            place = at if direction > 0 else at - width
            found = place >= 0 and any(True for _ in self._sequence(list(body), 0, text, place))
            if found == (name == "ASSERT"):
                yield at
        else:
            raise AssertionError(f"{name} is not known here")

    def _repeat(
        self, body: list[Any], low: int, high: int, text: str, at: int, *, greedy: bool
    ) -> Iterator[int]:
        # Without recursion by repetition: one item of one character is the usual case.
        if len(body) == 1 and str(body[0][0]) in ("LITERAL", "NOT_LITERAL", "ANY", "IN"):
            end, most = at, min(len(text), at + high)
            while end < most and self.takes(body[0], text[end]):
                self._step()
                end += 1
            places = range(end, at + min(low, end - at + 1) - 1, -1)
            for place in places if greedy else reversed(places):
                self._step()
                yield place
            return
        if greedy and high > 0:
            for end in self._sequence(body, 0, text, at):
                if end > at:
                    yield from self._repeat(
                        body, max(low - 1, 0), high - 1, text, end, greedy=greedy
                    )
        if low <= 0:
            yield at
        if not greedy and high > 0:
            for end in self._sequence(body, 0, text, at):
                if end > at:
                    yield from self._repeat(
                        body, max(low - 1, 0), high - 1, text, end, greedy=greedy
                    )

    def takes(self, item: Any, character: str) -> bool:
        """Whether an item of one character takes it."""
        key = (id(item), character)
        known = self._known.get(key)
        if known is None:
            folded = {character, character.lower(), character.upper()}
            variants = folded if self.flags & re.IGNORECASE else {character}
            known = self._known[key] = any(self._takes(item, one) for one in variants)
        return known

    def _takes(self, item: Any, character: str) -> bool:
        name, value = str(item[0]), item[1]
        code = ord(character)
        if name == "ANY":
            return character != "\n" or bool(self.flags & re.DOTALL)
        if name in ("LITERAL", "NOT_LITERAL"):
            return (code == value) == (name == "LITERAL")
        negated, found = False, False
        for kind, part in value:
            which = str(kind)
            if which == "NEGATE":
                negated = True
            elif which == "LITERAL":
                found |= code == part
            elif which == "RANGE":
                found |= part[0] <= code <= part[1]
            else:
                found |= self._category(str(part), character)
        return found != negated

    def _category(self, name: str, character: str) -> bool:
        only_ascii = bool(self.flags & re.ASCII)
        what = name.removeprefix("CATEGORY_").removeprefix("NOT_")
        plain = character.isascii() or not only_ascii
        found = (
            plain
            and {
                "DIGIT": character.isdecimal(),
                "SPACE": character.isspace(),
                "WORD": character.isalnum() or character == "_",
            }[what]
        )
        return found != ("NOT_" in name)

    def _at(self, where: str, text: str, at: int) -> bool:
        if where == "AT_BEGINNING":
            return at == 0 or bool(self.flags & re.MULTILINE and text[at - 1] == "\n")
        if where == "AT_END":
            return at == len(text) or bool(self.flags & re.MULTILINE and text[at] == "\n")
        if where == "AT_BEGINNING_STRING":
            return at == 0
        if where == "AT_END_STRING":
            return at == len(text)
        raise AssertionError(f"{where} is not known here")

    # Texts to try

    def texts(self, length: int) -> Iterator[str]:
        """Texts that could make it slow: repeated fragments behind what leads to them."""
        units = [*self.alphabet]
        units += [
            text for text in sorted({*self._prefixes(list(self._tree), "")}) if 2 < len(text) < 20
        ]
        units += [a + b for a in self.alphabet[:5] for b in self.alphabet[:5] if a != b]
        prefixes = sorted(
            {"", *self._prefixes(list(self._tree), "")}, key=lambda text: (len(text), text)
        )
        for prefix in prefixes[:6]:
            for unit in units if len(prefix) < 3 else self.alphabet[:6]:
                repeated = unit * (length // len(unit))
                yield prefix + repeated + "\x00"
                yield prefix + repeated

    def _alphabet(self) -> str:
        """One or two characters for each item of one character, the literal ones first."""
        found: dict[str, None] = {}
        for item in self._singles(list(self._tree)):
            candidates = [chr(item[1]), *_SAMPLES] if str(item[0]) == "LITERAL" else _SAMPLES
            found.update(dict.fromkeys([c for c in candidates if self.takes(item, c)][:2]))
        return "".join(found)[:10] or "a"

    def _singles(self, items: list[Any]) -> Iterator[Any]:
        for item in items:
            if str(item[0]) in ("LITERAL", "NOT_LITERAL", "ANY", "IN"):
                yield item
            for below in _below(item):
                yield from self._singles(below)

    def _prefixes(self, items: list[Any], before: str) -> Iterator[str]:
        """The shortest text before each repetition, with and without what is optional."""
        for item in items:
            name = str(item[0])
            if name.endswith("REPEAT") and item[1][1] >= _MANY:
                yield before
            for below in _below(item):
                yield from self._prefixes(below, before)
            if name.endswith("REPEAT") and item[1][0] == 0:
                yield from self._prefixes(items[items.index(item) + 1 :], before)
            before += self._shortest(item)

    def _shortest(self, item: Any) -> str:
        """A text that an item takes, once if it may be left out."""
        name, value = str(item[0]), item[1]
        if name in ("LITERAL", "NOT_LITERAL", "ANY", "IN"):
            candidates = [chr(value), *_SAMPLES] if name == "LITERAL" else _SAMPLES
            return next((c for c in candidates if self.takes(item, c)), "")
        if name.endswith("REPEAT"):
            return "".join(map(self._shortest, value[2])) * max(1, min(value[0], _MANY))
        if name == "SUBPATTERN":
            return "".join(map(self._shortest, value[-1]))
        if name == "BRANCH":
            return "".join(map(self._shortest, value[1][0]))
        return ""


def _below(item: Any) -> list[list[Any]]:
    name, value = str(item[0]), item[1]
    if name.endswith("REPEAT"):
        return [list(value[2])]
    if name == "SUBPATTERN":
        return [list(value[-1])]
    if name == "BRANCH":
        return [list(branch) for branch in value[1]]
    return [list(value[1])] if name.startswith("ASSERT") else []


def growth(pattern: str | bytes, how: str, flags: int = 0, length: int = 40) -> tuple[float, str]:
    """How many times as many steps twice the length takes, at the worst, and for which text.

    Twice means linear, four times quadratic. Few steps say nothing and count as none.
    """
    steps = Steps(pattern, flags)
    worst, reason = 0.0, ""
    for short, long in zip(steps.texts(length), steps.texts(2 * length), strict=True):
        few = steps.run(short, how, 200_000)
        many = steps.run(long, how, 800_000)
        if many > 6 * length and many / few > worst:
            worst, reason = many / few, long
    return worst, reason
