"""A person uses plain git in the profile repository, before, between and during our changes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_helpers import Cli
from invariants import check

from tweakio import (
    ConcurrentChangeError,
    ForeignRepositoryError,
    ProfileCorruptedError,
    ProfileManager,
    RepositoryBusyError,
    TweakioError,
)


@pytest.fixture
def two(manager):
    for name in ("alpha", "beta"):
        profile = manager.create_profile(name, "whatsapp")
        (profile.path / "browser_profile" / "Cookies").write_bytes(name.encode())
    return manager


@pytest.fixture
def fresh(two):
    """Another program: it looks at all profiles first, as every command does.

    A manager that goes on looks at those that it does not change only now and then.
    """
    with ProfileManager(two.home) as manager:
        yield manager


def cookies(manager, name):
    return (manager.layout.profile(name).browser_profile / "Cookies").read_bytes()


def edit(manager, profile_id, note):
    path = manager.layout.profile(profile_id).metadata
    value = json.loads(path.read_bytes())
    path.write_text(json.dumps({**value, "note": note}, indent=4))
    return path


def notes(manager):
    return {p.id: p.note for p in manager.list_profiles()}


def operations(manager):
    return [change.operation for change in manager.history()]


def test_status_and_fsck_are_clean_after_every_operation(two, git):
    steps = [
        lambda: two.create_profile("gamma", "custom", tags=["x"]),
        lambda: two.select_profile("alpha"),
        lambda: two.activate_profile("beta"),
        lambda: two.activate_profile("gamma"),
        lambda: two.deactivate_profile(),
        lambda: two.update_profiles(["alpha", "beta"], note="x"),
        lambda: two.recover_profile("alpha", "hard"),
        lambda: two.delete_profile("alpha"),
        lambda: two.undo(),
        lambda: two.redo(),
        lambda: two.restore("alpha", "HEAD~1"),
        lambda: two.metadata.mark_corrupted("beta", "x"),
        lambda: two.recover_profile("beta"),
        lambda: two.delete_profiles(["alpha", "beta", "gamma"]),
        lambda: two.restore_from_trash(two.trash("beta")[0].name),
        lambda: two.purge_trash(),
        lambda: two.gc(),
    ]
    for number, step in enumerate(steps):
        step()
        assert git("status", "--porcelain") == "", number
        assert git("fsck", "--strict", "--no-dangling") == "", number
        assert git("ls-files", "-s") == git("ls-tree", "-r", "--full-tree", "HEAD").replace(
            " blob ", " "
        ).replace("\t", " 0\t"), number
    check(two.home, work=True, permissions=False)


def test_what_git_log_shows(two, git):
    two.delete_profile("alpha")
    assert git("log", "--format=%s|%an|%(trailers:key=Tweakio-Op,valueonly)").split("\n")[0] == (
        "delete alpha|Tester|delete"
    )
    assert "Tweakio-Trash" in git("log", "-1", "--format=%B")
    assert git("reflog").splitlines()[0].endswith("tweakio: delete alpha")


def test_no_secret_and_no_path_is_tracked(two, git):
    two.activate_profile("alpha")
    tracked = set(git("ls-files").split())
    assert tracked == {".gitignore", ".gitattributes"} | {
        f"{name}/{file}"
        for name in ("alpha", "beta")
        for file in ("metadata.json", "fingerprint.json")
    }
    everything = git("log", "-p", "--format=%H")
    assert str(two.home) not in everything
    assert os.uname().nodename not in everything.replace("Tester", "")


# Edits by hand


def test_a_valid_edit_is_adopted_before_the_next_change(two):
    edit(two, "alpha", "by hand")
    assert notes(two)["alpha"] == "by hand"
    two.update_profiles(["alpha"], add_tags=["t"])
    assert operations(two)[:2] == ["set", "adopt"]
    assert two.history()[1].profiles == ("alpha",)
    assert (two.get_profile("alpha").note, two.get_profile("alpha").tags) == ("by hand", ("t",))
    check(two.home, permissions=False)


@pytest.mark.parametrize("staged", [False, True])
def test_an_edit_of_another_profile_is_adopted_too(two, fresh, git, staged):
    edit(two, "beta", "by hand")
    if staged:
        git("add", "-A")
    fresh.select_profile("alpha")
    assert operations(two)[:2] == ["activate", "adopt"]
    check(two.home, permissions=False)


def test_an_edit_of_the_fingerprint_is_adopted(two, fresh):
    path = two.layout.profile("alpha").fingerprint
    path.write_text('{"seed": "mine"}\n')
    fresh.select_profile("alpha")
    assert path.read_text() == '{"seed": "mine"}\n'
    assert operations(two)[1] == "adopt"
    check(two.home, permissions=False)


@pytest.mark.parametrize("staged", [False, True])
def test_an_invalid_edit_is_kept_and_blocks_only_its_profile(two, git, staged):
    path = two.layout.profile("alpha").metadata
    path.write_bytes(b"<<<<<<< mine\n")
    if staged:
        git("add", "-A")
    two.update_profiles(["beta"], note="x")
    two.activate_profile("beta")
    assert path.read_bytes() == b"<<<<<<< mine\n"
    assert two.get_profile("alpha").status == "corrupted"
    with pytest.raises(ProfileCorruptedError):
        two.update_profiles(["alpha"], note="x")
    assert "adopt" not in operations(two)
    two.recover_profile("alpha")
    check(two.home, permissions=False)


def test_staged_changes_of_other_files_survive(two, git):
    (two.layout.profiles / "README").write_text("mine")
    git("add", "README")
    two.update_profiles(["alpha"], note="x")
    assert git("status", "--porcelain") == "A  README\n"
    git("commit", "-qm", "mine")
    assert git("show", "--name-only", "--format=").split() == ["README"]
    assert notes(two)["alpha"] == "x"


def test_a_commit_by_hand(two, git):
    edit(two, "alpha", "by hand")
    git("commit", "-qam", "mine")
    two.update_profiles(["alpha"], add_tags=["t"])
    assert operations(two)[:2] == ["set", "commit"]
    assert two.get_profile("alpha").note == "by hand"
    check(two.home, permissions=False)


def test_a_profile_removed_with_git(two, git):
    git("rm", "-rq", "alpha")
    git("commit", "-qm", "mine")
    two.select_profile("beta")
    assert [p.id for p in two.list_profiles()] == ["beta"]
    (entry,) = two.trash("alpha")
    assert (entry.path / "data/browser_profile/Cookies").read_bytes() == b"alpha"
    git("revert", "--no-edit", "HEAD~1")
    two.select_profile("alpha")
    assert cookies(two, "alpha") == b"alpha"
    check(two.home, permissions=False)


def test_a_profile_renamed_with_git_is_corrupted_not_a_new_identity(two, git):
    git("mv", "alpha", "gamma")
    git("commit", "-qnm", "mine")
    (found,) = [p for p in two.list_profiles() if p.id == "gamma"]
    assert found.status == "corrupted"
    assert cookies(two, "gamma") == b"alpha"


# git reset --hard


def test_reset_after_a_create_and_back(two, git):
    git("reset", "-q", "--hard", "HEAD~1")
    assert list(notes(two)) == ["alpha"]
    two.update_profiles(["alpha"], note="x")
    (entry,) = two.trash("beta")
    assert entry.kind == "unknown"
    assert not two.layout.profile("beta").directory.exists()
    git("reset", "-q", "--hard", "HEAD@{2}")
    two.select_profile("alpha")
    assert cookies(two, "beta") == b"beta"
    assert two.trash() == []
    check(two.home, permissions=False)


def test_nothing_is_left_of_a_profile_that_came_back_by_its_own_activation(two, git):
    git("reset", "-q", "--hard", "HEAD~1")
    two.update_profiles(["alpha"], note="x")
    git("reset", "-q", "--hard", "HEAD@{2}")
    two.select_profile("beta")
    assert cookies(two, "beta") == b"beta"
    assert two.trash() == []


def test_reset_after_a_delete_brings_the_data_back(two, git):
    two.delete_profile("beta")
    two.close()
    git("reset", "-q", "--hard", "HEAD~1")
    with ProfileManager(two.home) as other:
        other.activate_profile("alpha")
        assert cookies(other, "beta") == b"beta"
        assert other.trash() == []
    check(two.home, permissions=False)


def test_reset_to_before_a_delete_whose_id_was_used_again(two, git):
    two.delete_profile("beta")
    other = two.create_profile("beta", "telegram")
    (other.path / "browser_profile" / "Cookies").write_bytes(b"other")
    git("reset", "-q", "--hard", "HEAD~2")
    two.select_profile("alpha")
    assert two.get_profile("beta").platform == "whatsapp"
    assert cookies(two, "beta") == b"beta"


def test_reset_of_everything(two, git):
    git("reset", "-q", "--hard", "HEAD~2")
    assert two.list_profiles() == []
    two.create_profile("gamma", "custom")
    assert {entry.profile_id for entry in two.trash()} == {"alpha", "beta"}
    check(two.home, permissions=False)


def test_git_clean_takes_nothing_that_is_ignored(two, git):
    git("clean", "-fdq")
    assert cookies(two, "alpha") == b"alpha"


# Housekeeping of git


HOUSEKEEPING = [
    ["gc", "-q"],
    ["gc", "-q", "--prune=now", "--aggressive"],
    ["repack", "-adq"],
    ["repack", "-adqf", "--depth=50", "--window=50"],
    ["pack-refs", "--all"],
    ["prune-packed"],
    ["commit-graph", "write", "--reachable"],
    ["multi-pack-index", "write"],
    ["reflog", "expire", "--expire=now", "--all"],
    ["update-index", "--index-version", "4"],
    ["update-index", "--split-index"],
    ["update-index", "--untracked-cache"],
    ["update-index", "--assume-unchanged", "alpha/metadata.json"],
    ["update-index", "--skip-worktree", "alpha/metadata.json"],
    ["read-tree", "HEAD"],
    ["stash"],
    ["tag", "alpha"],
    ["branch", "beta"],
    ["tag", "-am", "x", "annotated"],
    ["worktree", "add", "-q", "../../elsewhere", "-b", "other"],
    ["notes", "add", "-m", "x"],
    ["config", "core.quotepath", "off"],
    ["config", "gc.auto", "1"],
    ["rm", "-q", "--cached", "alpha/metadata.json"],
]


@pytest.mark.parametrize("command", HOUSEKEEPING, ids=" ".join)
def test_after_any_housekeeping_everything_works(two, git, command):
    git(*command)
    for note in ("1", "2"):
        two.update_profiles(["alpha"], note=note)
    with ProfileManager(two.home) as other:
        other.activate_profile("alpha")
        other.delete_profile("beta")
        other.undo()
        assert notes(other) == {"alpha": "2", "beta": ""}
        assert cookies(other, "beta") == b"beta"
        assert len(other.history()) == 8
    assert git("status", "--porcelain") == ""
    assert git("fsck", "--strict", "--no-dangling") == ""


def test_stash_and_pop(two, fresh, git):
    edit(two, "alpha", "stashed")
    git("stash", "-q")
    two.update_profiles(["beta"], note="x")
    assert notes(two) == {"alpha": "", "beta": "x"}
    git("stash", "pop", "-q")
    fresh.select_profile("beta")
    assert notes(two) == {"alpha": "stashed", "beta": "x"}
    check(two.home, permissions=False)


# Branches


def test_branches_are_worlds_of_their_own(two, git):
    git("switch", "-qc", "trial")
    two.create_profile("gamma", "custom")
    two.update_profiles(["alpha"], note="trial")
    git("switch", "-q", "main")
    assert notes(two) == {"alpha": "", "beta": ""}
    two.update_profiles(["beta"], note="main")
    git("switch", "-q", "trial")
    assert notes(two) == {"alpha": "trial", "beta": "", "gamma": ""}
    two.activate_profile("gamma")
    two.deactivate_profile()
    git("merge", "-q", "--no-edit", "main")
    assert notes(two) == {"alpha": "trial", "beta": "main", "gamma": ""}
    two.select_profile("gamma")
    assert git("status", "--porcelain") == ""
    assert git("fsck", "--strict", "--no-dangling") == ""


def test_a_detached_head_is_read_and_not_written(two, git):
    git("checkout", "-q", "--detach", "HEAD~1")
    assert list(notes(two)) == ["alpha"]
    before = git("rev-parse", "HEAD", "main")
    for action in (
        lambda: two.create_profile("gamma", "custom"),
        lambda: two.activate_profile("alpha"),
        two.undo,
    ):
        with pytest.raises(RepositoryBusyError, match="detached") as caught:
            action()
        assert "switch main" in caught.value.hint
    assert git("rev-parse", "HEAD", "main") == before
    assert two.locks.held == set()
    git("switch", "-q", "main")
    two.activate_profile("alpha")
    two.deactivate_profile()
    check(two.home, permissions=False)


@pytest.mark.parametrize("operation", ["merge", "rebase", "cherry-pick", "revert"])
def test_an_operation_under_way_is_waited_for_by_the_person(two, git, operation):
    git("switch", "-qc", "side")
    two.update_profiles(["alpha"], note="side")
    git("switch", "-q", "main")
    two.update_profiles(["alpha"], note="main")
    two.update_profiles(["alpha"], note="main again")
    target = "HEAD~1" if operation == "revert" else "side"
    options = ["--no-edit"] if operation == "revert" else []
    git(operation, *options, target, check=False)
    before = git("rev-parse", "main"), git("status", "--porcelain")
    assert before[1].startswith("UU")
    with pytest.raises(RepositoryBusyError) as caught:
        two.create_profile("gamma", "custom")
    assert operation in caught.value.message or "detached" in caught.value.message
    assert (git("rev-parse", "main"), git("status", "--porcelain")) == before
    assert not two.layout.profile("gamma").directory.exists()
    git(operation, "--abort")
    two.create_profile("gamma", "custom")
    assert notes(two)["alpha"] == "main again"
    check(two.home, permissions=False)


# At the same time


def test_a_commit_by_hand_during_our_change_of_something_else(two, git):
    with two.repository.transaction("set", ["alpha"]) as change:
        change.put_metadata("alpha", {**change.metadata("alpha"), "note": "ours"})
        edit(two, "beta", "theirs")
        git("commit", "-qam", "theirs")
    assert notes(two) == {"alpha": "ours", "beta": "theirs"}
    assert operations(two)[:2] == ["set", "commit"]
    check(two.home, permissions=False)


def test_a_commit_by_hand_during_our_change_of_the_same(two, git):

    def ours():
        with two.repository.transaction("set", ["alpha"]) as change:
            change.put_metadata("alpha", {**change.metadata("alpha"), "note": "ours"})
            edit(two, "alpha", "theirs")
            git("commit", "-qam", "theirs")

    with pytest.raises(ConcurrentChangeError):
        ours()
    assert notes(two)["alpha"] == "theirs"
    assert operations(two)[0] == "commit"
    two.update_profiles(["alpha"], note="again")
    check(two.home, permissions=False)


def test_an_edit_during_our_change_is_not_overwritten(two, fresh):
    with two.repository.transaction("set", ["alpha"]) as change:
        change.put_metadata("alpha", {**change.metadata("alpha"), "note": "ours"})
        path = edit(two, "alpha", "theirs")
    assert json.loads(path.read_bytes())["note"] == "theirs"
    fresh.update_profiles(["beta"], note="x")
    assert notes(two)["alpha"] == "theirs"
    check(two.home, permissions=False)


@pytest.mark.parametrize("name", ["index.lock", "HEAD.lock", "refs/heads/main.lock"])
def test_a_lock_of_git_is_waited_for(two, name):
    two.repository.timeout = 0.5
    lock = two.layout.git_dir / name
    lock.write_bytes(b"")
    began = time.monotonic()
    with pytest.raises(RepositoryBusyError, match=Path(name).name):
        two.update_profiles(["alpha"], note="x")
    assert 0.4 < time.monotonic() - began < 10
    assert lock.exists()
    assert notes(two)["alpha"] == ""
    lock.unlink()
    two.update_profiles(["alpha"], note="x")
    check(two.home, permissions=False)


def test_a_lock_that_goes_away_in_time(two):
    lock = two.layout.git_dir / "index.lock"
    process = subprocess.Popen(["sh", "-c", f"sleep 0.4; rm '{lock}'"])
    lock.write_bytes(b"")
    two.update_profiles(["alpha"], note="x")
    process.wait()
    assert notes(two)["alpha"] == "x"


@pytest.mark.parametrize("name", ["index.lock", "HEAD.lock", "refs/heads/main.lock"])
def test_an_abandoned_lock_is_set_aside_by_itself(two, name):
    lock = two.layout.git_dir / name
    lock.write_bytes(b"left behind")
    os.utime(lock, (time.time() - 3600,) * 2)
    two.update_profiles(["alpha"], note="x")
    assert not lock.exists()
    (kept,) = (two.layout.locks / "abandoned").iterdir()
    assert kept.read_bytes() == b"left behind"
    check(two.home, permissions=False)


def test_git_is_at_work_while_we_are(two, git):
    """A loop of plain commits beside ours: none is lost on either side."""
    commit = "git commit -qn --allow-empty -m plain"
    script = f"i=0; while [ $i -lt 15 ]; do {commit} && i=$((i+1)); done"
    process = subprocess.Popen(
        ["sh", "-c", script], cwd=two.layout.profiles, stderr=subprocess.DEVNULL
    )
    for number in range(15):
        two.update_profiles(["alpha"], note=str(number))
    assert process.wait(timeout=60) == 0
    assert operations(two).count("set") == operations(two).count("commit") == 15
    check(two.home, permissions=False)


# Elsewhere


def test_a_clone_is_a_home_of_its_own(two, tmp_path):
    two.activate_profile("alpha")
    other = tmp_path / "other"
    other.mkdir()
    subprocess.run(["git", "clone", "-q", two.layout.profiles, other / "profiles"], check=True)
    with ProfileManager(other) as manager:
        # The pid of a process that never held anything here.
        assert [(p.id, p.status) for p in manager.list_profiles()] == [
            ("alpha", "inactive"),
            ("beta", "inactive"),
        ]
        manager.activate_profile("beta")
        assert {"session.json", "browser_profile"} <= set(
            os.listdir(manager.layout.profile("beta").directory)
        )
        manager.deactivate_profile()
        manager.undo()
        assert len(manager.history()) > len(two.history()) - 1
    check(other, permissions=False, complete=False)
    assert two.get_profile("alpha").in_use


def test_a_moved_home_goes_on(two, tmp_path, git):
    two.delete_profile("beta")
    two.close()
    moved = tmp_path / "moved"
    two.home.rename(moved)
    with ProfileManager(moved) as manager:
        manager.undo()
        assert cookies(manager, "beta") == b"beta"
    check(moved, permissions=False)


def test_somebody_elses_repository_is_refused_and_untouched(home):
    for place in (home, home / "profiles"):
        shutil.rmtree(home, ignore_errors=True)
        place.mkdir(parents=True)
        subprocess.run(["git", "init", "-q"], cwd=place, check=True)
        before = sorted(str(path) for path in home.rglob("*"))
        with ProfileManager(home) as manager:
            for action in (
                manager.list_profiles,
                lambda manager=manager: manager.create_profile("alpha", "custom"),
            ):
                with pytest.raises(ForeignRepositoryError):
                    action()
        assert sorted(str(path) for path in home.rglob("*")) == before


def test_a_hostile_tree_is_no_way_out(two, git):
    """Names that a clone or a fetch may bring; nothing is written outside."""
    blob = git("rev-parse", "HEAD:alpha/metadata.json").strip()
    entries = {
        "link": "120000",
        "module": "160000",
        "CON/metadata.json": "100644",
        "bad name/metadata.json": "100644",
        "gamma/metadata.json": "120000",
        "file": "100755",
    }
    for name, mode in entries.items():
        git("update-index", "--add", "--cacheinfo", f"{mode},{blob},{name}")
    git("commit", "-qnm", "hostile")
    assert sorted(notes(two)) == ["alpha", "beta"]
    two.update_profiles(["alpha"], note="x")
    with pytest.raises(TweakioError):
        two.activate_profile("link")
    assert notes(two)["alpha"] == "x"
    assert git("fsck", "--strict", "--no-dangling") == ""


# Without git


def test_it_works_where_git_is_not_installed(tmp_path):
    cli = Cli(tmp_path)
    done = cli.python(
        "import shutil; assert shutil.which('git') is None\n"
        "from tweakio import ProfileManager\n"
        "with ProfileManager() as pm:\n"
        "    pm.create_profiles(['alpha', 'beta'], 'custom')\n"
        "    pm.activate_profile('alpha'); pm.activate_profile('beta')\n"
        "    for n in range(80): pm.update_profiles(['alpha'], note=str(n))\n"
        "    pm.delete_profile('alpha'); pm.undo(); pm.redo(); pm.undo()\n"
        "    assert pm.gc()[0] >= 0\n"
        "    pm.recover_profile('alpha', 'hard')\n"
        "    print(len(pm.history()), pm.get_profile('alpha').note)\n",
        PATH=str(tmp_path / "empty"),
        GIT_PYTHON_REFRESH="quiet",
    )
    assert done.code == 0, done.err
    assert done.out.split() == ["89", "79"]
    check(cli.home)


def test_a_merge_driver_whose_python_is_gone(two, git, tmp_path):
    """As when the virtual environment that made the home was removed."""
    config = two.layout.git_dir / "config"
    mine = b"[user]\n\tname = kept\n"
    gone = str(tmp_path / "it's gone" / "bin" / "python")
    lost = config.read_bytes().replace(
        sys.executable.encode(), gone.replace("'", "'\\\\''").encode()
    )
    for mend in (lambda: two.doctor(fix=True), lambda: two.update_profiles(["beta"], note="x")):
        config.write_bytes(lost + mine)
        [found] = [item for item in two.doctor().findings if item.code == "driver-gone"]
        assert "it's gone" in found.message
        two.close()  # what is known of the driver
        mend()
        assert config.read_bytes().endswith(mine)
        assert sys.executable.encode() in config.read_bytes()
        assert "driver-gone" not in [item.code for item in two.doctor().findings]
    git("switch", "-qc", "side", "HEAD~1")
    path = two.layout.profiles / "alpha/metadata.json"
    path.write_bytes(path.read_bytes().replace(b'"note": ""', b'"note": "side"'))
    git("commit", "-qam", "side")
    git("switch", "-q", "main")
    two.update_profiles(["alpha"], add_tags=["here"])
    git("merge", "-q", "--no-edit", "side")
    profile = two.get_profile("alpha")
    assert (profile.note, profile.tags) == ("side", ("here",))
