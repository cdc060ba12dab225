"""Sizes by part, and caches emptied without what a site stored."""

from __future__ import annotations

import json

import pytest
from cli_helpers import Holder

PARTS = {
    "cache/Cache_Data/data_1": 1000,
    "browser_profile/Default/Code Cache/js/a": 200,
    "browser_profile/Default/GPUCache/index": 30,
    "browser_profile/ShaderCache/data_0": 4,
    "browser_profile/cache2/entries/A": 70,
    "browser_profile/Default/Service Worker/CacheStorage/x/index": 500,
    "browser_profile/Default/Service Worker/ScriptCache/y": 60,
    "browser_profile/Default/IndexedDB/z.leveldb/1.log": 7000,
    "browser_profile/Default/Cookies": 80_000,
    "session.json": 900_000,
}
CACHES = {name for name in PARTS if "Service" not in name and
          any(word in name.lower() for word in ("cache/", "cache2/"))}  # fmt: skip


@pytest.fixture
def filled(cli):
    cli.create("alpha", "beta")
    for name, size in PARTS.items():
        path = cli.profiles / "alpha" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
    return cli


def usage(cli, profile_id="alpha"):
    return json.loads(cli.ok("profile", "du", profile_id, "--json").out)[0]


def test_the_sizes_add_up(filled):
    found = usage(filled)
    assert list(found) == ["profile_id", "session", "browser_profile", "caches", "other", "total"]
    directory = filled.profiles / "alpha"
    everything = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    assert (
        found["total"]
        == everything
        == sum(found[name] for name in ("session", "browser_profile", "caches", "other"))
    )
    assert found["session"] == 900_000
    assert found["caches"] == 1000 + 200 + 30 + 4 + 70
    assert found["browser_profile"] == 500 + 60 + 7000 + 80_000


def test_all_of_them_in_a_pipe(filled):
    rows = filled.ok("profile", "du").rows
    assert [row[0] for row in rows] == ["alpha", "beta"]
    assert [int(cell) for cell in rows[0][1:]] == list(usage(filled).values())[1:]


def test_clean_empties_caches_only(filled):
    before = usage(filled)
    done = filled.ok("profile", "clean", "alpha")
    assert done.out == f"cleaned alpha ({before['caches']} bytes)\n"
    for name, size in PARTS.items():
        path = filled.profiles / "alpha" / name
        assert path.exists() is (name not in CACHES), name
        assert name in CACHES or path.stat().st_size == size
    assert usage(filled) == {**before, "caches": 0, "total": before["total"] - before["caches"]}
    assert (filled.profiles / "alpha" / "cache").is_dir()
    assert filled.ok("profile", "clean", "alpha").out == "cleaned alpha (0 bytes)\n"


def test_links_are_not_followed(filled, tmp_path):
    outside = tmp_path / "outside"
    (outside / "Code Cache").mkdir(parents=True)
    (outside / "Code Cache" / "precious").write_bytes(b"x")
    beta = filled.profiles / "beta"
    (beta / "cache" / "link").symlink_to(outside)
    (beta / "browser_profile" / "Default").symlink_to(outside)
    (beta / "browser_profile" / "ShaderCache").symlink_to(outside)
    filled.ok("profile", "clean", "beta")
    assert (outside / "Code Cache" / "precious").exists()
    assert not (beta / "cache" / "link").is_symlink()


def test_a_profile_in_use_is_left(filled):
    with Holder(filled, "alpha") as holder:
        refused = filled.run("profile", "clean", "alpha")
        assert refused.code == 5
        assert f"process {holder.pid}" in refused.err
        done = filled.ok("profile", "clean", "--all")
        assert done.out == "cleaned beta (0 bytes)\n"
        assert "left as it is: profile 'alpha'" in done.err
        assert usage(filled)["caches"] > 0


def test_a_profile_that_another_machine_has_open_is_left(filled):
    (filled.profiles / "alpha" / "browser_profile" / "SingletonLock").symlink_to("elsewhere-7")
    before = usage(filled)["caches"]
    refused = filled.run("profile", "clean", "alpha")
    assert refused.code == 26
    assert "process 7 on elsewhere" in refused.err
    assert "process 7 on elsewhere" in filled.ok("profile", "clean", "--all").err
    assert usage(filled)["caches"] == before


def test_what_has_to_be_named(filled):
    for arguments in ((), ("alpha", "--all")):
        assert filled.run("profile", "clean", *arguments).code == 2
    assert filled.run("profile", "clean", "gamma").code == 3
    assert filled.run("profile", "du", "gamma").code == 3
