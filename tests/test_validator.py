"""ProfileValidator: names and what may be deleted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tweakio import (
    InvalidInputError,
    InvalidProfileIdError,
    Profile,
    ProfileActiveError,
    ProfileValidator,
    UnknownPlatformError,
)

rules = ProfileValidator()
GOOD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
DEVICES = {"con", "prn", "aux", "nul"} | {f"{k}{n}" for k in ("com", "lpt") for n in range(10)}

BAD_IDS = [
    "",
    " ",
    ".",
    "..",
    "../../../escape",
    "/etc",
    "a/b",
    "a\\b",
    "C:",
    ".git",
    ".hidden",
    "-rf",
    "_x",
    "a.b",
    "a b",
    "a\n",
    "\na",
    "a\0",
    "a" * 33,
    "über",
    "\uff41",
    "\u0661",
    "a\u0301",
    "\u202ea",
    "\ud800",
    "😀",
    None,
    1,
    b"alpha",
    ["alpha"],
    Path("alpha"),
    "CON",
    "nul",
    "Com1",
    "lpt9",
]


@pytest.mark.parametrize("profile_id", BAD_IDS, ids=ascii)
def test_bad_ids(profile_id):
    with pytest.raises(InvalidProfileIdError) as caught:
        rules.validate_id(profile_id)
    assert caught.value.hint
    assert caught.value.message.isprintable()
    assert not rules.is_id(profile_id)


@pytest.mark.parametrize("profile_id", ["a", "0", "support_bot", "a-b", "A" * 32, "com10", "git"])
def test_good_ids(profile_id):
    assert rules.validate_id(profile_id) == profile_id
    assert rules.is_id(profile_id)


@given(st.text(max_size=40) | st.from_regex(r"[A-Za-z0-9_-]{1,34}", fullmatch=True))
def test_ids_are_what_the_design_says(text):
    expected = bool(GOOD.fullmatch(text)) and text.lower() not in DEVICES
    assert rules.is_id(text) is expected


@pytest.mark.parametrize("name", ["", "Whats", "a b", "1a", "a" * 33, "a\n", None, "ä"])
def test_bad_platform_names(name):
    with pytest.raises(InvalidInputError):
        rules.validate_platform_name(name)


@pytest.mark.parametrize("name", ["icq", "", None, 3, "WhatsApp"])
def test_unknown_platforms(name):
    with pytest.raises(UnknownPlatformError) as caught:
        rules.validate_platform(name)
    assert "whatsapp" in caught.value.hint


@pytest.mark.parametrize("name", ["whatsapp", "telegram", "discord", "custom"])
def test_known_platforms(name):
    assert rules.validate_platform(name) == name
    assert rules.validate_platform_name(name) == name


@pytest.mark.parametrize("tag", ["", " a", "a ", "a\tb", "\u202e", "x" * 65, 3, None])
def test_bad_tags(tag):
    with pytest.raises(InvalidInputError):
        rules.validate_tag(tag)


def test_good_tags():
    assert [rules.validate_tag(tag) for tag in ("a", "team süd", "x" * 64)]


def test_case_collision():
    assert rules.find_case_collision("Alpha", ["beta", "alpha"]) == "alpha"
    assert rules.find_case_collision("alpha", ["beta", "alpha"]) is None


def profile(status, *, in_use=False):
    pid = 42 if in_use else None
    return Profile("a", "custom", status, None, None, Path(), in_use=in_use, lock_pid=pid)


@pytest.mark.parametrize("status", ["inactive", "corrupted"])
def test_idle_profiles_can_be_deleted(status):
    rules.can_delete(profile(status))


def test_active_ones_only_by_force():
    with pytest.raises(ProfileActiveError, match="'a' is active"):
        rules.can_delete(profile("active"))
    rules.can_delete(profile("active"), force=True)


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("status", ["active", "inactive", "corrupted"])
def test_used_ones_never(status, force):
    with pytest.raises(ProfileActiveError, match="process 42"):
        rules.can_delete(profile(status, in_use=True), force=force)
