"""Clone, push, pull and sync between real homes through a real bare repository."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import shutil
import ssl
import subprocess
import sys
import threading

import pytest
from invariants import check

from tweakio import ProfileManager, clone_repository, identity
from tweakio.errors import (
    ForeignRepositoryError,
    HostileContentError,
    InvalidInputError,
    InvalidMetadataError,
    MergeConflictError,
    ProfileActiveError,
    RemoteError,
)
from tweakio.layout import Layout
from tweakio.sync.cloning import clone
from tweakio.sync.transport import GitTransport
from tweakio.sync.urls import check_url, shown_url
from tweakio.sync.wire import DulwichTransport


def run_git(*arguments, cwd=None, check=True, **more):
    done = subprocess.run(
        ["git", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        **more,
    )
    if check and done.returncode:
        raise AssertionError(done.stdout + done.stderr)
    return done.stdout + done.stderr


@pytest.fixture
def bare(tmp_path):
    path = tmp_path / "remote.git"
    run_git("init", "-q", "--bare", path)
    return path


@pytest.fixture(params=["git", "dulwich"])
def transport(request):
    return GitTransport() if request.param == "git" else DulwichTransport()


@pytest.fixture
def pair(tmp_path, bare):
    """Two homes with the profiles x and y, one a clone of the other."""
    with ProfileManager(tmp_path / "a") as one:
        one.create_profiles(["x", "y"], "custom", tags=["t"])
        one.remotes.add("origin", os.fspath(bare))
        one.remotes.push()
        clone_repository(os.fspath(bare), tmp_path / "b")
        with ProfileManager(tmp_path / "b") as two:
            yield one, two


def state(manager):
    """What travels."""
    return {
        profile.id: (
            profile.note,
            profile.tags,
            dict(profile.platform_config),
            dict(profile.browser),
        )
        for profile in manager.list_profiles()
    }


def test_it_travels_there_and_back(tmp_path, bare, transport):
    with ProfileManager(tmp_path / "a") as one:
        one.create_profiles(["x", "y"], "whatsapp", tags=["t"])
        (one.get_profile("x").path / "session.json").write_text('{"secret": "MARKER"}')
        one.select_profile("x")
        one.remotes._transport = transport
        one.remotes.add("origin", os.fspath(bare))
        with pytest.raises(RemoteError, match="is empty"):
            clone(os.fspath(bare), Layout(tmp_path / "b"), transport=transport)
        assert not (tmp_path / "b").exists()
        assert one.remotes.push().commit == one.repository.head().commit
        assert one.remotes.push().commit is None
        made = clone(os.fspath(bare), Layout(tmp_path / "b"), transport=transport)
        assert made.profiles == 2
        with ProfileManager(tmp_path / "b") as two:
            two.remotes._transport = transport
            # Nothing is active or logged in, everything else is as it was.
            assert [p.status for p in two.list_profiles()] == ["inactive", "inactive"]
            assert json.loads((two.get_profile("x").path / "session.json").read_text()) != {
                "secret": "MARKER"
            }
            assert state(one) == state(two)
            two.update_profiles(["x"], note="from b")
            two.create_profile("z", "custom")
            one.update_profiles(["x"], add_tags=["a"])
            assert two.remotes.sync().pushed.commit
            with pytest.raises(RemoteError, match="has changes that are not here") as caught:
                one.remotes.push()
            assert "repo sync" in caught.value.hint
            done = one.remotes.sync()
            assert (done.pulled.changed, done.pulled.created) == (("x",), ("z",))
            assert two.remotes.sync().pulled.changed == ("x",)
            assert state(one) == state(two)
            assert state(one)["x"][:2] == ("from b", ("a", "t"))
            assert one.get_profile("x").status == "active"
            assert two.get_profile("x").status == "inactive"
            # What is only active here is nothing to push, so that they come to rest.
            for manager in (one, two, one):
                done = manager.remotes.sync()
                assert (done.pulled.commit, done.pushed.commit) == (None, None)
    for name in ("a", "b"):
        check(tmp_path / name, work=True)
    assert "MARKER" not in run_git("-C", bare, "log", "-p", "--all")


def test_a_conflict_changes_nothing_and_is_settled_by_running_again(pair, monkeypatch, tmp_path):
    one, two = pair
    for manager, text in ((one, "one"), (two, "two")):
        manager.update_profiles(["x"], note=text, platform_config={"proxy": text, text: 1})
        manager.update_profiles(["y"], note=f"y {text}")
    one.remotes.sync()
    before = two.repository.head().commit, state(two)
    with pytest.raises(MergeConflictError, match="x.*note.*y.*note.*nothing was changed") as caught:
        two.remotes.sync()
    conflicts = caught.value.details["conflicts"]
    assert [(item.profile_id, item.fields) for item in conflicts] == [
        ("x", ("platform_config.proxy", "note")),
        ("y", ("note",)),
    ]
    assert (two.repository.head().commit, state(two)) == before
    two.remotes.sync(
        resolve={
            "x": {"note": "theirs", "platform_config.proxy": "ours"},
            "y": {"note": {"value": "by hand"}},
        }
    )
    one.remotes.sync()
    assert state(one) == state(two)
    assert state(one)["x"][0] == "one"
    assert state(one)["x"][2] == {"proxy": "two", "one": 1, "two": 1}
    assert state(one)["y"][0] == "by hand"


@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_deleted_on_one_side_and_changed_on_the_other(pair, side):
    one, two = pair
    one.delete_profile("x")
    two.update_profiles(["x"], note="still here")
    (two.get_profile("x").path / "session.json").write_text('{"login": 1}')
    two.select_profile("y")  # only used
    one.delete_profile("y")
    one.remotes.sync()
    with pytest.raises(MergeConflictError, match=r"x \(deleted there: note\)"):
        two.remotes.sync()
    two.remotes.sync(resolve=side)
    assert list(state(two)) == (["x"] if side == "ours" else [])
    trash = {entry.profile_id for entry in two.trash()}
    assert trash == ({"y"} if side == "ours" else {"x", "y"})
    one.remotes.sync()
    assert state(one) == state(two)
    if side == "theirs":
        two.undo()
        assert (two.get_profile("x").path / "session.json").read_text() == '{"login": 1}'
        assert list(state(two)) == ["x", "y"]


def test_deleted_here_and_changed_there_comes_back_with_its_data(pair):
    one, two = pair
    (two.get_profile("x").path / "session.json").write_text('{"login": 1}')
    two.delete_profile("x")
    one.update_profiles(["x"], note="changed")
    one.remotes.sync()
    with pytest.raises(MergeConflictError, match=r"x \(deleted here: note\)"):
        two.remotes.pull()
    two.remotes.sync(resolve="theirs")
    assert state(two)["x"][0] == "changed"
    assert (two.get_profile("x").path / "session.json").read_text() == '{"login": 1}'


def test_one_id_made_on_both_sides_and_ids_that_differ_by_case(pair):
    one, two = pair
    for manager in pair:
        manager.create_profile("new", "custom", note=str(manager.home.name))
    one.create_profile("Case", "custom")
    two.create_profile("case", "custom")
    one.remotes.sync()
    with pytest.raises(MergeConflictError) as caught:
        two.remotes.sync()
    kinds = {item.profile_id: item.kind for item in caught.value.details["conflicts"]}
    assert kinds == {"new": "created", "Case": "case"}
    two.remotes.sync(resolve="theirs")
    assert state(two)["new"][0] == "a"
    assert sorted(state(two)) == ["Case", "new", "x", "y"]
    assert {entry.profile_id for entry in two.trash()} == {"new", "case"}
    one.remotes.sync()
    assert state(one) == state(two)


def test_what_is_in_use_here_is_never_taken_away(pair):
    one, two = pair
    one.delete_profile("x")
    one.remotes.sync()
    two.activate_profile("x")
    with pytest.raises(MergeConflictError, match=r"x \(in use\)"):
        two.remotes.sync()
    with pytest.raises(ProfileActiveError):
        two.remotes.sync(resolve="theirs")
    assert two.get_profile("x").in_use
    two.deactivate_profile()
    two.remotes.sync()
    assert "x" not in state(two)


def test_undo_of_a_pull_is_relative_to_what_was_here(pair):
    one, two = pair
    one.update_profiles(["x"], note="theirs")
    one.create_profile("z", "custom")
    one.remotes.sync()
    two.update_profiles(["y"], note="ours")
    before = state(two)
    two.remotes.pull()
    after = state(two)
    assert two.undo().operation == "pull"
    assert state(two) == before
    two.redo()
    assert state(two) == after


def test_an_undone_use_is_answered_by_nobody(pair):
    """What an undo took back of last_used was made the later again, as a merge of its own."""
    one, two = pair
    two.select_profile("y")
    two.remotes.sync()
    one.remotes.sync()
    used = one.get_profile("y").last_used
    two.undo()
    two.update_profiles(["x"], note="travels")
    one.remotes.sync()
    two.remotes.sync()
    one.remotes.sync()
    assert one.get_profile("y").last_used == two.get_profile("y").last_used < used
    for manager in (two, one):
        done = manager.remotes.sync()
        assert (done.pulled.commit, done.pushed.commit) == (None, None)
    # Used on both sides: the later.
    for manager in (one, two, one):
        manager.select_profile("x" if manager.get_profile("y").status == "active" else "y")
    for manager in (one, two, one):
        manager.remotes.sync()
    assert one.get_profile("y").last_used == two.get_profile("y").last_used > used


def test_settings_that_fit_on_each_side_and_not_together(pair):
    one, two = pair
    one.update_profiles(["x"], browser={"proxy": "http://me@proxy.example:8080"})
    one.remotes.sync()
    two.remotes.sync()
    one.update_profiles(["x"], browser={"proxy": None, "locale": "de-DE"})
    two.update_profiles(["x"], browser={"proxy_password": "env:PASSWORD"})
    one.remotes.sync()
    fields = r"x \(browser.proxy, browser.proxy_password\)"
    with pytest.raises(MergeConflictError, match=fields):
        two.remotes.sync()
    with pytest.raises(InvalidMetadataError, match="needs a proxy with a user"):
        two.remotes.pull(
            resolve={"x": {"browser.proxy": "theirs", "browser.proxy_password": "ours"}}
        )
    two.remotes.pull(resolve="ours")
    assert dict(two.get_profile("x").browser) == {
        "proxy": "http://me@proxy.example:8080",
        "proxy_password": "env:PASSWORD",
        "locale": "de-DE",
    }
    message = run_git("-C", two.home / "profiles", "log", "-1", "--format=%B")
    assert "in conflict: x (browser.proxy): ours\n" in message
    # One of the two in conflict: the other goes with it.
    two.remotes.sync()
    one.remotes.sync()
    one.update_profiles(["x"], browser={"proxy": "http://other.example:1", "proxy_password": None})
    two.update_profiles(["x"], browser={"proxy": "http://me@third.example:1"})
    one.remotes.sync()
    with pytest.raises(MergeConflictError, match=fields):
        two.remotes.sync()
    two.remotes.sync(resolve="theirs")
    assert "proxy_password" not in two.get_profile("x").browser


def test_one_and_true_travel_as_what_they_are(pair):
    one, two = pair
    for value in (True, 1, True):
        one.update_profiles(["x"], platform_config={"a": value})
        one.remotes.sync()
        two.remotes.sync()
        assert two.get_profile("x").platform_config["a"] is value


@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_two_halves_that_are_too_large_together(pair, side):
    one, two = pair
    for manager, key in ((one, "a"), (two, "b")):
        manager.update_profiles(["x"], platform_config={key: key * 600_000})
    one.remotes.sync()
    with pytest.raises(MergeConflictError, match=r"x \(metadata.json\)"):
        two.remotes.sync()
    two.remotes.sync(resolve=side)
    kept = {"theirs": "a", "ours": "b"}[side]
    assert list(two.get_profile("x").platform_config) == [kept]
    one.remotes.sync()
    assert state(one) == state(two)


def test_git_pull_by_hand_gives_the_same_result(pair, tmp_path):
    one, two = pair
    one.update_profiles(["x"], note="note", add_tags=["one"], browser={"locale": "de-DE"})
    one.select_profile("x")
    two.update_profiles(["x"], add_tags=["two"], browser={"timezone": "UTC"})
    one.remotes.sync()
    profiles = two.home / "profiles"
    two.close()
    shutil.copytree(two.home, tmp_path / "c", symlinks=True)
    with ProfileManager(two.home) as merged:
        merged.remotes.pull()
        wanted = state(merged), merged.get_profile("x").last_used
    by_hand = tmp_path / "c" / "profiles"
    run_git("-C", by_hand, "pull", "-q", "--no-rebase", "--no-edit", "origin", "main")
    with ProfileManager(tmp_path / "c") as manager:
        assert (state(manager), manager.get_profile("x").last_used) == wanted
        assert manager.get_profile("x").status == "inactive"
        # In a conflict there are no markers, and ours stays.
        manager.update_profiles(["y"], note="here")
    one.update_profiles(["y"], note="there")
    one.remotes.push()
    told = run_git("-C", by_hand, "pull", "--no-rebase", "--no-edit", "origin", "main", check=False)
    assert "tweakio: conflict in y/metadata.json: note" in told
    assert json.loads((by_hand / "y" / "metadata.json").read_text())["note"] == "here"
    run_git("-C", by_hand, "merge", "--abort")
    assert profiles.exists()


def test_a_plain_git_clone_works_as_well(pair, tmp_path, bare):
    one, _ = pair
    one.activate_profile("x")
    one.update_profiles(["x"], note="new")
    one.remotes.push()
    (tmp_path / "c").mkdir()
    run_git("clone", "-q", "-b", "main", bare, tmp_path / "c" / "profiles")
    with ProfileManager(tmp_path / "c") as manager:
        assert [(p.status, p.lock_pid) for p in manager.list_profiles()] == [("inactive", None)] * 2
        manager.select_profile("y")
        assert manager.get_profile("y").status == "active"
        manager.update_profiles(["x"], note="from the clone")
        manager.remotes.sync()
    with ProfileManager(tmp_path / "c") as manager:
        assert manager.get_profile("y").status == "active"
    one.remotes.sync()
    assert state(one)["x"][0] == "from the clone"


def test_an_older_repository_gets_the_driver_with_its_next_change(pair, git, tmp_path):
    one, _ = pair
    git_dir = one.home / "profiles" / ".git"
    one.close()
    config = (git_dir / "config").read_text()
    (git_dir / "config").write_text(config.split('[merge "tweakio"]')[0] + "[user]\n\tname = Me")
    (git_dir / "info" / "attributes").write_text("mine -text")
    with ProfileManager(one.home) as manager:
        manager.list_profiles()
        assert "merge" not in (git_dir / "config").read_text()
        manager.update_profiles(["x"], note="y")
    assert "sync.driver" in run_git("-C", git_dir, "config", "merge.tweakio.driver")
    assert run_git("-C", git_dir, "config", "user.name") == "Me\n"
    shown = run_git("-C", git_dir.parent, "check-attr", "merge", "x/metadata.json")
    assert shown == "x/metadata.json: merge: tweakio\n"


@pytest.mark.parametrize(
    "url",
    [
        "", "-x", "--upload-pack=touch /tmp/x", "ext::sh -c touch% /tmp/x", "::x", "fd::17",
        "https://user:secret@example.com/r.git", "https://ghp_0123456789@example.com/r.git",
        "https://example.com/r.git?token=secret", "https://example.com/r.git#secret",
        "http://example.com/r.git", "git://example.com/r.git", "ftp://example.com/r",
        "ssh://-oProxyCommand=x/r", "ssh://%2doProxyCommand=x/r", "-oProxyCommand=x:r",
        "user@-host:r", "host:-r", "ssh://user:secret@host/r", "https:///r", "file://other/r",
        "https://[bad/r", "a\nb", "https://x/\x1b[2J",
    ],
)  # fmt: skip
def test_addresses_that_are_refused(url, manager):
    with pytest.raises(InvalidInputError) as caught:
        manager.remotes.add("origin", url)
    assert "secret" not in str(caught.value) + caught.value.hint
    assert "secret" not in shown_url(url).replace("#secret", "")
    with pytest.raises(InvalidInputError):
        clone_repository(url, manager.home)


def test_addresses_that_are_taken(tmp_path, monkeypatch):
    for url in (
        "ssh://git@host:22/r.git",
        "git@host:a/r.git",
        "https://host/r.git",
        "host:r",
        "file:///srv/r.git",
        "/srv/r.git",
    ):
        assert check_url(url) == url
    monkeypatch.chdir(tmp_path)
    assert check_url("r.git") == str(tmp_path / "r.git")


def test_remotes_are_git_s_own(manager, git):
    manager.remotes.add("origin", "git@host:r.git")
    manager.remotes.add("second", "https://host/r.git")
    assert [tuple(item) for item in manager.remotes.list()] == [
        ("origin", "git@host:r.git", False), ("second", "https://host/r.git", False)
    ]  # fmt: skip
    assert git("remote", "-v").split()[:2] == ["origin", "git@host:r.git"]
    with pytest.raises(RemoteError, match="exists"):
        manager.remotes.add("origin", "/x")
    for name in ("-x", "a b", "../x", ""):
        with pytest.raises(InvalidInputError):
            manager.remotes.add(name, "/x")
    manager.remotes.remove("origin")
    assert git("remote") == "second\n"
    assert "origin" not in git("config", "--list")
    with pytest.raises(RemoteError, match="no remote"):
        manager.remotes.remove("origin")
    git("config", "remote.evil.url", "ext::sh -c touch% pwned")
    with pytest.raises(InvalidInputError):
        manager.remotes.pull("evil")


def test_what_cannot_be_reached_or_has_another_history(pair, tmp_path, manager, bare, monkeypatch):
    # Two that are made in one second by one person begin with the same commit.
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Another")
    identity.author.cache_clear()
    one, _ = pair
    one.remotes.add("gone", os.fspath(tmp_path / "gone.git"))
    with pytest.raises(RemoteError, match="cannot reach"):
        one.remotes.pull("gone")
    with pytest.raises(RemoteError, match="cannot reach"):
        one.remotes.push("gone")
    manager.create_profile("other", "custom")
    manager.remotes.add("origin", os.fspath(bare))
    head = manager.repository.head().commit
    with pytest.raises(RemoteError, match="nothing in common"):
        manager.remotes.sync()
    with pytest.raises(RemoteError, match="has changes that are not here"):
        manager.remotes.push()
    assert manager.repository.head().commit == head
    with pytest.raises(ForeignRepositoryError):
        clone_repository(os.fspath(bare), manager.home)
    shallow = tmp_path / "shallow.git"
    one.update_profiles(["x"], note="more")
    one.remotes.push()
    run_git("clone", "-q", "--bare", "--depth", "1", f"file://{bare}", shallow)
    with pytest.raises(RemoteError, match="shallow"):
        clone_repository(os.fspath(shallow), tmp_path / "s")


def hostile(bare, tmp_path, change):
    """Push something to a remote that no tweakio would make."""
    work = tmp_path / "evil"
    shutil.rmtree(work, ignore_errors=True)
    run_git("clone", "-q", "-b", "main", bare, work)
    change(work)
    run_git("-C", work, "add", "-Af", ".")
    run_git("-C", work, "commit", "-qm", "evil")
    run_git("-C", work, "push", "-q", "origin", "HEAD:main")


def stage(mode, content, path):
    """What cannot be made in a work tree, put into the index."""

    def change(work):
        blob = run_git("-C", work, "hash-object", "-w", "--stdin", input=content).strip()
        run_git("-C", work, "update-index", "--add", "--cacheinfo", f"{mode},{blob},{path}")
        run_git("-C", work, "commit", "-qm", "evil")
        run_git("-C", work, "push", "-q", "origin", "HEAD:main")
        raise DoneError

    return change


class DoneError(Exception):
    """It is pushed already."""


def write(path, text):
    def change(work):
        (work / path).parent.mkdir(exist_ok=True)
        (work / path).write_text(text)

    return change


def edit(**fields):
    def change(work):
        path = work / "x" / "metadata.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))

    return change


HOSTILE = {
    "link": lambda work: (work / "x" / "session.json.age").symlink_to("/etc/passwd"),
    "link-directory": lambda work: (work / "evil").symlink_to("/tmp"),
    "executable": stage("100755", "{}", "x/fingerprint.json"),
    "session": write("x/session.json", '{"cookies": []}'),
    "browser": write("x/browser_profile", "data"),
    "hook": write("hooks/pre-commit", "#!/bin/sh\ntouch /tmp/pwned\n"),
    "name": write("CON/metadata.json", "{}"),
    "case": lambda work: shutil.copytree(work / "x", work / "X"),
    "modules": write(".gitmodules", '[submodule "x"]\n\tpath = x\n\turl = ext::sh\n'),
    "identity": edit(profile_id="y"),
    "secret": edit(platform_config={"password": "hunter2"}),
    "type": edit(tags="all"),
    "escape": edit(note="\x1b[2J"),
    "json": write("x/metadata.json", "<<<<<<< HEAD\n"),
    "missing": lambda work: (work / "x" / "metadata.json").unlink(),
    "large": write("x/fingerprint.json", '{"a": "' + "a" * (2 << 20) + '"}'),
    "fingerprint": write("x/fingerprint.json", "[1]"),
    "unsealed": write("x/session.json.age", '{"cookies": []}'),
    "recipients": write(".age-recipients", "AGE-SECRET-KEY-1\n"),
    "foreign": lambda work: (work / ".gitignore").write_text("*.pyc\n"),
}


def test_nothing_of_a_hostile_remote_is_taken_over(pair, tmp_path, bare):
    one, _ = pair
    sound = run_git("-C", bare, "rev-parse", "main").strip()
    index = one.home / "profiles" / ".git" / "index"
    before = one.repository.head().commit, index.read_bytes()
    for name, spoil in HOSTILE.items():
        run_git("-C", bare, "update-ref", "refs/heads/main", sound)
        with contextlib.suppress(DoneError):
            hostile(bare, tmp_path, spoil)
        assert run_git("-C", bare, "rev-parse", "main").strip() != sound, name
        for act in (
            lambda: one.remotes.pull(resolve="theirs"),
            lambda: clone_repository(os.fspath(bare), tmp_path / "victim"),
        ):
            with pytest.raises(HostileContentError) as caught:
                act()
            assert "\n" not in str(caught.value), name
        assert before == (one.repository.head().commit, index.read_bytes()), name
        assert not (tmp_path / "victim").exists(), name
    assert not run_git("-C", one.home / "profiles", "status", "--porcelain")
    one.update_profiles(["y"], note="goes on")


def keep_data(manager):
    """Give each profile what a pull must not take: a session, and browser data."""
    for profile in manager.list_profiles():
        (profile.path / "session.json").write_text('{"cookies": [], "origins": []}')
        (profile.path / "browser_profile").mkdir(exist_ok=True)
        (profile.path / "browser_profile" / "Cookies").write_text("mine")


def data_of(home):
    return {
        path: path.read_bytes()
        for profile in (home / "profiles" / name for name in "xy")
        for path in (profile / "session.json", profile / "browser_profile" / "Cookies")
    }


BY_HAND = {
    "link": "a symbolic link 'session.json.age' in x",
    "session": "a file 'session.json' in x that profiles do not have",
    "browser": "a file 'browser_profile' in x that profiles do not have",
    "modules": "a file '.gitmodules' that profiles do not have",
    "case": "the name 'x' and 'X', by case the same",
    "identity": "a damaged profile x: profile_id",
    "large": "a blob that is larger than any of ours",
}


def test_nothing_of_a_hostile_remote_comes_by_git_pull(pair, tmp_path, bare):
    """The hook refuses before git touches a file, also in a fast-forward."""
    one, _ = pair
    sound = run_git("-C", bare, "rev-parse", "main").strip()
    keep_data(one)
    one.close()
    tree = one.home / "profiles"
    before = data_of(one.home)
    assert len(before) == 4

    def refused(*arguments):
        told = run_git("-C", tree, *arguments, check=False)
        assert f"tweakio: error: the remote has {BY_HAND[name]}" in told, told
        assert "Traceback" not in told
        assert run_git("-C", tree, "rev-parse", "HEAD").strip() == head
        assert not run_git("-C", tree, "status", "--porcelain")
        assert data_of(one.home) == before

    head = sound
    for name in BY_HAND:
        run_git("-C", bare, "update-ref", "refs/heads/main", sound)
        hostile(bare, tmp_path, HOSTILE[name])
        refused("pull", "-q", "--no-rebase", "origin", "main")
        assert run_git("-C", tree, "rev-parse", "origin/main").strip() == sound
    # Without a name of ours it is refused when it is merged: here after a change of our own.
    with ProfileManager(one.home) as manager:
        manager.update_profiles(["y"], note="here")
        head = manager.repository.head().commit
    refused("pull", "-q", "--no-rebase", "--no-edit", bare, "main")
    run_git("-C", bare, "update-ref", "refs/heads/main", sound)
    with ProfileManager(one.home) as manager:
        manager.remotes.sync()
    run_git("-C", tree, "fsck", "--strict")


@pytest.mark.parametrize("name", ["link", "session", "browser", "modules"])
def test_what_a_plain_git_clone_brought_is_named_and_not_sent_on(pair, tmp_path, bare, name):
    """Git checks nothing; whoever pulled it from here would be told of a hostile remote."""
    hostile(bare, tmp_path, HOSTILE[name])
    had = run_git("-C", bare, "rev-parse", "main").strip()
    home = tmp_path / "c"
    home.mkdir()
    run_git("clone", "-q", "-b", "main", bare, home / "profiles")
    with ProfileManager(home) as manager:
        manager.update_profiles(["y"], note="mine")
        [finding] = [item for item in manager.doctor().findings if item.code == "foreign-name"]
        assert BY_HAND[name] in finding.message
        with pytest.raises(HostileContentError, match="the history here has") as caught:
            manager.remotes.push()
        assert BY_HAND[name] in str(caught.value)
        assert run_git("-C", bare, "rev-parse", "main").strip() == had
        path = {"modules": ".gitmodules"}.get(name) or BY_HAND[name].split("'")[1]
        path = path if name == "modules" else f"x/{path}"
        run_git("-C", home / "profiles", "rm", "-q", "--cached", path)
        run_git("-C", home / "profiles", "commit", "-q", "-m", "take it out")
        manager.remotes.push()
        assert "foreign-name" not in [item.code for item in manager.doctor().findings]


@pytest.mark.parametrize("name", ["large", "identity", "unsealed", "foreign"])
def test_content_that_nobody_takes_is_not_sent_on(pair, tmp_path, bare, name):
    one, _ = pair
    before = run_git("-C", bare, "rev-parse", "main").strip()
    profiles = one.home / "profiles"
    HOSTILE[name](profiles)
    # At which git stops when .gitignore does not hide it; older homes have none.
    for path in profiles.glob("*/browser_profile/.git"):
        shutil.rmtree(path)
    run_git("-C", profiles, "add", "-A")
    past = ("-c", f"core.hooksPath={os.devnull}")
    run_git("-C", profiles, *past, "commit", "-q", "-m", "past the hooks")
    with pytest.raises(HostileContentError, match="^the history here ") as caught:
        one.remotes.push()
    assert BY_HAND.get(name, "") in str(caught.value)
    assert run_git("-C", bare, "rev-parse", "main").strip() == before


def test_an_honest_git_pull_passes_the_hook(pair, tmp_path):
    one, two = pair
    two.create_profile("z", "custom", note="new")
    two.update_profiles(["x"], note="there")
    two.remotes.push()
    keep_data(one)
    one.close()
    before = data_of(one.home)
    assert "tweakio" not in run_git("-C", one.home / "profiles", "pull", "-q", "origin", "main")
    with ProfileManager(one.home) as manager:
        assert (manager.get_profile("x").note, manager.get_profile("z").note) == ("there", "new")
        assert data_of(one.home) == before
        # What git does to other names is none of the hook's business.
        tree = one.home / "profiles"
        run_git("-C", tree, "branch", "side")
        run_git("-C", tree, "reset", "-q", "--hard", "HEAD~1")
        run_git("-C", tree, "merge", "-q", "side")
        assert manager.get_profile("z").note == "new"
    run_git("-C", tree, "fsck", "--strict")


def test_objects_that_git_refuses_and_objects_that_are_too_large(pair, tmp_path, bare):
    one, _ = pair
    sound = run_git("-C", bare, "rev-parse", "main").strip()
    head = one.repository.head().commit

    def commit(tree, *parents):
        more = [part for parent in parents for part in ("-p", parent)]
        return run_git("-C", bare, "commit-tree", tree, *more, "-m", "x").strip()

    def refused(tip, match):
        run_git("-C", bare, "update-ref", "refs/heads/main", tip)
        with pytest.raises(HostileContentError, match=match):
            one.remotes.pull()
        with pytest.raises(HostileContentError, match=match):
            clone_repository(os.fspath(bare), tmp_path / "victim")
        assert one.repository.head().commit == head

    tree = run_git("-C", bare, "rev-parse", "main^{tree}").strip()
    # Neither is in the last commit's tree.
    (tmp_path / "evil").write_bytes(b"40000 .git\0" + bytes.fromhex(tree))
    evil = run_git(
        "-C", bare, "hash-object", "-w", "-t", "tree", "--literally", tmp_path / "evil"
    ).strip()
    refused(commit(tree, commit(evil, sound)), "objects that git refuses")
    (tmp_path / "large").write_bytes(bytes(65 << 20))
    blob = run_git("-C", bare, "hash-object", "-w", tmp_path / "large").strip()
    large = run_git("-C", bare, "mktree", input=f"100644 blob {blob}\tx\n").strip()
    refused(commit(tree, commit(large, sound)), "more than 64 MB")


def test_ssh_is_the_user_s_own(pair, tmp_path, bare, monkeypatch):
    one, _ = pair
    ssh = tmp_path / "ssh"
    asked = f'echo "$@" >> {tmp_path}/asked'
    ssh.write_text(f'#!/bin/sh\n{asked}\nfor last; do :; done\nexec sh -c "$last"\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(ssh))
    one.remotes.add("away", f"git@host.example:{bare}")
    one.update_profiles(["x"], note="by ssh")
    assert one.remotes.push("away").commit
    made = clone_repository(f"ssh://git@host.example{bare}", tmp_path / "c")
    assert made.profiles == 2
    assert "git@host.example git-receive-pack" in (tmp_path / "asked").read_text()


@pytest.fixture
def https(tmp_path, monkeypatch):
    """A server that hands out the files below a directory; git trusts its certificate."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    monkeypatch.setenv("GIT_SSL_CAINFO", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"https://localhost:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_https_and_a_server_that_hands_out_files(pair, tmp_path, bare, https):
    run_git("-C", bare, "gc", "-q")
    run_git("-C", bare, "update-server-info")
    assert clone_repository(f"{https}/remote.git", tmp_path / "c").profiles == 2
    check(tmp_path / "c")
    blob = run_git("-C", bare, "hash-object", "-w", "--stdin", input="loose").strip()
    tree = run_git("-C", bare, "mktree", input=f"100644 blob {blob}\tREADME\n").strip()
    commit = run_git("-C", bare, "commit-tree", tree, "-p", "main", "-m", "x").strip()
    run_git("-C", bare, "update-ref", "refs/heads/main", commit)
    run_git("-C", bare, "update-server-info")
    with pytest.raises(HostileContentError, match="single objects"):
        clone_repository(f"{https}/remote.git", tmp_path / "d")
    with pytest.raises(RemoteError, match="cannot reach https://localhost"):
        clone_repository(f"{https}/nothing.git", tmp_path / "d")


def test_rules_of_a_remote_do_not_weaken_ours(pair, tmp_path, bare):
    one, _ = pair

    def weaken(work):
        with (work / ".gitignore").open("a") as file:
            file.write("!/*/session.json\n")
        (work / ".gitattributes").write_text("* filter=evil merge=union\n")

    hostile(bare, tmp_path, weaken)
    before = (one.home / "profiles" / ".gitignore").read_bytes()
    one.remotes.pull()
    assert (one.home / "profiles" / ".gitignore").read_bytes() == before
    clone_repository(os.fspath(bare), tmp_path / "c")
    for name in (".gitignore", ".gitattributes"):
        ours = (one.home / "profiles" / name).read_bytes()
        assert (tmp_path / "c" / "profiles" / name).read_bytes() == ours


def test_recipients_merge_as_a_set(pair, caplog):
    one, two = pair
    keys = [f"age1{letter * 58}" for letter in "qpz"]

    def recipients(manager, *chosen):
        with manager.repository.transaction("recipients") as change:
            change.put_root(".age-recipients", "".join(f"{key}\n" for key in chosen).encode())

    recipients(one, keys[0])
    one.remotes.sync()
    two.remotes.sync()
    assert "somebody added recipients" in caplog.text
    recipients(one, keys[0], keys[1])
    recipients(two, keys[2])
    one.remotes.sync()
    two.remotes.sync()
    one.remotes.sync()
    found = {(m.home / "profiles" / ".age-recipients").read_text() for m in pair}
    assert {frozenset(text.split()) for text in found} == {frozenset(keys[1:])}


def test_a_sealed_session_travels_and_is_opened_where_there_is_an_identity(
    pair, tmp_path, bare, monkeypatch
):
    pytest.importorskip("pyrage")
    one, two = pair
    one.vault.init(in_file=True)
    identity = one.vault.status().identity
    secret = '{"cookies": [{"name": "MARKER"}], "origins": []}'
    (one.get_profile("x").path / "session.json").write_text(secret)
    one.record_login("x")
    one.remotes.sync()
    # Without an identity it stays sealed; with it, it is opened by clone and by pull.
    two.remotes.sync()
    session = two.get_profile("x").path / "session.json"
    assert "MARKER" not in session.read_text()
    assert "!/*/session.json.age" in (two.home / "profiles" / ".gitignore").read_text()
    monkeypatch.setenv("TWEAKIO_IDENTITY", identity)
    clone_repository(os.fspath(bare), tmp_path / "c")
    assert (tmp_path / "c" / "profiles" / "x" / "session.json").read_text() == secret
    assert "MARKER" not in run_git("-C", bare, "log", "-p", "--all")
    one.update_profiles(["x"], note="once more")
    one.remotes.sync()
    two.remotes.sync()
    assert session.read_text() == secret
    two.vault.init()  # it confirms what the pull brought: the identity is here
    # Two logins of one profile: a conflict of the session.
    for manager, number in ((one, 1), (two, 2)):
        path = manager.get_profile("x").path / "session.json"
        path.write_text(secret.replace("MARKER", f"login {number}"))
        manager.record_login("x")
    one.remotes.sync()
    with pytest.raises(MergeConflictError, match=r"x \(session\)"):
        two.remotes.sync()
    two.remotes.sync(resolve="ours")
    one.remotes.sync()
    assert len({m.repository.directory_id(m.repository.head().root, "x") for m in pair}) == 1


def test_the_command_line(tmp_path, bare, monkeypatch):
    def run(home, *arguments, code=0, **environment):
        done = subprocess.run(
            [sys.executable, "-m", "tweakio", "--home", str(tmp_path / home), *arguments],
            capture_output=True, text=True, check=False, env={**os.environ, **environment},
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    run("a", "profile", "create", "x", "--platform", "custom")
    run("a", "repo", "push", code=39)
    run("a", "repo", "remote", "add", "origin", str(bare))
    assert json.loads(run("a", "repo", "remote", "list", "--json")) == [
        {"name": "origin", "url": str(bare), "trusted": False}
    ]
    assert run("a", "repo", "push").startswith("pushed ")
    assert run("b", "repo", "clone", str(bare)).startswith("cloned 1 profile from")
    run("a", "profile", "set", "x", "--note", "a")
    run("b", "profile", "set", "x", "--note", "b")
    run("a", "repo", "sync")
    run("b", "repo", "pull", code=40)
    run("b", "repo", "pull", "--ours", "--theirs", code=2)
    run("b", "repo", "pull", "--edit", code=2, VISUAL="", EDITOR="")
    run("b", "repo", "pull", "--edit", code=2, VISUAL="", EDITOR="/no/such")
    run("b", "repo", "pull", "--edit", code=40, EDITOR="true")
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i \'s/"take": ""/"value": "both"/\' "$1"\n')
    editor.chmod(0o755)
    assert run("b", "repo", "sync", "--edit", EDITOR=str(editor)).startswith("changed x\npushed ")
    assert run("a", "repo", "sync") == "changed x\norigin has everything\n"
    assert run("a", "repo", "pull") == "nothing new in origin\n"
    run("a", "repo", "remote", "remove", "origin")
    run("c", "repo", "clone", "ext::sh -c x", code=2)
