"""Every path is below the home, and none is kept that names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tweakio.layout import HOME_VARIABLE, Layout, default_home


def test_everything_is_below_the_home() -> None:
    layout = Layout(Path("/h"))
    assert layout.profiles == Path("/h/profiles")
    assert layout.git_dir == Path("/h/profiles/.git")
    local = Path("/h/profiles/.git/tweakio")
    assert layout.local == local
    assert {
        layout.journal: local / "journal.json",
        layout.trash: local / "trash",
        layout.rescued: local / "rescued",
        layout.staging: local / "staging",
        layout.temporary: local / "tmp",
        layout.locks: local / "locks",
        layout.head_cache: local / "cache" / "head",
        layout.listing_cache: local / "cache" / "profiles",
        layout.browser_cache: local / "cache" / "browsers",
    } == {value: value for value in (
        local / "journal.json", local / "trash", local / "rescued", local / "staging",
        local / "tmp", local / "locks", local / "cache" / "head",
        local / "cache" / "profiles", local / "cache" / "browsers",
    )}  # fmt: skip


def test_profile_paths() -> None:
    layout = Layout(Path("/h"))
    paths = layout.profile("a")
    assert paths is layout.profile("a")
    assert paths.directory == Path("/h/profiles/a")
    names = {
        path.relative_to(paths.directory).as_posix()
        for path in (
            paths.metadata, paths.fingerprint, paths.session, paths.browser_profile, paths.cache,
            paths.lock, paths.browser_record,
        )
    }  # fmt: skip
    assert names == {
        "metadata.json", "fingerprint.json", "session.json", "browser_profile", "cache", ".lock",
        "browser_profile/tweakio.json",
    }  # fmt: skip


def test_relative_paths_have_slashes() -> None:
    layout = Layout(Path("/h"))
    assert layout.relative(layout.trash / "x") == "profiles/.git/tweakio/trash/x"
    with pytest.raises(ValueError, match="subpath"):
        layout.relative(Path("/elsewhere"))


def test_default_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    assert default_home() == tmp_path
    monkeypatch.setenv(HOME_VARIABLE, "")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert default_home().name == "tweakio"
    assert default_home() != tmp_path
