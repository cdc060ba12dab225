"""What merging asks of history, and how single values of three sides are put together."""

from __future__ import annotations

from types import SimpleNamespace

from tweakio.errors import RepositoryDamagedError
from tweakio.sync.fields import ABSENT, merge_fields, merge_value
from tweakio.sync.graph import Graph

#   a - b - d
#     \   x     d and e are merges of b and c, both ways round
#       c - e
CROSSED = {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c"), "e": ("c", "b")}


def graph(parents, cut=()):
    def read(commit):
        if commit not in parents:
            raise RepositoryDamagedError(f"no {commit}")
        return SimpleNamespace(parents=parents[commit])

    return Graph(read, cut)


def test_two_merges_of_the_same_have_both_as_bases():
    found = graph(CROSSED)
    assert found.bases("d", "e") == ["b", "c"]
    assert found.bases("d", "b") == ["b"]
    assert found.bases("b", "c") == ["a"]
    assert found.is_ancestor("a", "e")
    assert not found.is_ancestor("d", "e")
    assert found.between(["b"], "d", 10) == ["d", "c"]
    assert found.between(["b"], "e", 1) == ["e"]


def test_a_base_before_another_one_is_none():
    # f has both a and b as parents, b being the later.
    parents = {**CROSSED, "f": ("a", "b"), "g": ("b", "a")}
    assert graph(parents).bases("f", "g") == ["b"]


def test_where_history_was_cut_there_are_no_parents():
    parents = {"b": ("a",), "c": ("b",)}
    assert graph(parents, cut=["b"]).ancestors("c") == {"b", "c"}
    # The rest came later, and the list of what is cut is still the old one.
    assert graph({**parents, "a": ()}, cut=["b"]).ancestors("c") == {"a", "b", "c"}


def test_one_and_true_are_two_values():
    assert merge_value([True], 1, True) == (1, False)
    assert merge_value([[1]], [1], [True]) == ([True], False)
    assert merge_value([{"a": 1}], {"a": True}, {"a": 2}) == ({"a": True}, True)
    assert merge_value([1, 2], 1, 2) == (1, True)


def test_fields_that_only_one_side_has():
    base = {"profile_id": "x", "newer": {"a": 1}, "browser": {"locale": "de-DE"}}
    ours = {**base, "last_used": "2026-01-02T00:00:00Z"}
    theirs = {"profile_id": "x", "browser": {}}
    merged = merge_fields([base], ours, theirs)
    assert merged.clashes == ()
    assert merged.value == {"profile_id": "x", "last_used": "2026-01-02T00:00:00Z"}
    back = merge_fields([base], theirs, ours)
    assert back.value["last_used"] == "2026-01-02T00:00:00Z"
    assert "newer" not in back.value
    assert ABSENT not in back.value.values()
