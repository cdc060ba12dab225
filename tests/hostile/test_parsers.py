"""Readers of bytes refuse with an error of ours, soon and without much memory."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hostile.parsers import PARSERS, fuzz
from tweakio import schema
from tweakio.errors import TweakioError
from tweakio.layout import is_safe_name
from tweakio.store.refs import is_ref_name
from tweakio.validator import ProfileValidator

SEED = 20261
INPUTS = {"metadata": 150, "refs": 80, "pack": 60, "config": 150}


@pytest.mark.parametrize("name", PARSERS)
def test_spoiled_bytes(name, sound):
    print(f"seed {SEED}")
    seen = fuzz(name, sound[0], SEED, inputs=INPUTS.get(name, 300))
    assert not seen.failures, seen.failures[0]
    assert seen.inputs
    assert seen.lines


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.fixed_dictionaries({}, optional=dict.fromkeys((*schema._ORDER, "future"), JSON))


@settings(max_examples=150, deadline=None)
@given(FIELDS)
def test_any_metadata(value):
    """What is accepted can be written and read again; all else is refused in one line."""
    try:
        checked = schema.validate(value)
    except TweakioError as error:
        message = error.message
    else:
        assert schema.load(schema.dump(checked)) is not None
        return
    assert message.isprintable()


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=40))
def test_any_name(text):
    """What passes as a name is one step below the work tree; an id always passes."""
    if is_safe_name(text):
        assert text not in ("", ".", "..")
        assert not set(text) & {"/", "\\", "\0", ":"}
        assert text.lower() != ".git"
    if ProfileValidator().is_id(text):
        assert is_safe_name(text)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(["refs", "heads", "..", ".", "", "a", "a.lock", "@{", "x~"])))
def test_any_ref_name(parts):
    name = "/".join(parts)
    if is_ref_name(name):
        assert name.startswith("refs/")
        assert not {"", ".", "..", "a.lock", "@{", "x~"} & set(parts)
