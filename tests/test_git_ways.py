"""Git's own ways to browser data: clean, stash --all, sparse-checkout, and what they leave."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess

import pytest
from cli_helpers import Cli

from tweakio.browsing import SyncBrowserManager
from tweakio.errors import ProfileCorruptedError
from tweakio.manager import ProfileManager
from tweakio.shelter import shelter

pytestmark = pytest.mark.skipif(os.name != "posix", reason="runs hooks by their first line")

LOST = "browser_data_lost"
SESSION = json.dumps(
    {
        "cookies": [{"name": "sid", "value": "very-secret-value-of-alpha", "domain": "x.example"}],
        "origins": [{"origin": "https://x.example", "localStorage": []}],
    }
).encode()


@pytest.fixture
def two(manager):
    """Two profiles; alpha has a session and browser data."""
    manager.create_profiles(["alpha", "beta"], "whatsapp")
    paths = manager.layout.profile("alpha")
    paths.session.write_bytes(SESSION)
    (paths.browser_profile / "Default").mkdir()
    (paths.browser_profile / "Default" / "Cookies").write_bytes(b"cookies of alpha")
    return manager


@pytest.fixture
def bare(two):
    """The same with browser data as an older tweakio left them, for git to take."""
    for name in ("alpha", "beta"):
        shutil.rmtree(two.layout.profile(name).browser_profile / ".git")
    return two


@pytest.fixture
def tree(two):
    return two.layout.profiles


@pytest.fixture
def cli(tmp_path):
    return Cli(tmp_path)


def cookies(manager, profile_id="alpha"):
    path = manager.layout.profile(profile_id).browser_profile / "Default" / "Cookies"
    return path.read_bytes() if path.exists() else None


def refused(git, *arguments):
    with pytest.raises(subprocess.CalledProcessError) as caught:
        git(*arguments)
    return caught.value.stderr


def everything(two, git):
    """All bytes that git has, packed or not, as text."""
    listed = git("cat-file", "--batch-all-objects", "--batch-check=%(objectname) %(objecttype)")
    names = [line.split()[0] for line in listed.splitlines() if line.endswith("blob")]
    return "".join(git("cat-file", "blob", name) for name in names)


def without_hooks(git, *arguments):
    return git("-c", "core.hooksPath=/dev/null", *arguments)


# What keeps browser data from git


CLEANS = {
    "clean -fdx": ("clean", "-qfdx"),
    "clean -fdX": ("clean", "-qfdX"),
    "clean in the profile": ("clean", "-qfdx", "alpha"),
    "clean of the directory": ("clean", "-qfdx", "alpha/browser_profile"),
    "stash --all": ("-c", "core.hooksPath=/dev/null", "stash", "--all", "--quiet"),
    "stash -a of a path": ("-c", "core.hooksPath=/dev/null", "stash", "-qa", "--", "alpha"),
}


@pytest.mark.parametrize("how", CLEANS)
def test_browser_data_stay(two, git, how):
    git(*CLEANS[how], check=not how.endswith("path"))
    assert cookies(two) == b"cookies of alpha"
    # The part that git does not leave alone: it was at work.
    assert two.layout.profile("alpha").session.exists() == how.endswith(("directory", "path"))
    assert git("status", "--porcelain", "--untracked-files=all") == ""


def test_git_takes_no_shelter_in(two, git):
    for path in ("alpha/browser_profile", "alpha", "."):
        assert "does not have a commit checked out" in refused(git, "add", "--force", path)
    git("add", "-f", "alpha/browser_profile/Default/Cookies")
    assert git("status", "--porcelain", "--untracked-files=all") == ""
    assert git("ls-files", "--", "alpha/browser_profile") == ""
    for arguments in (("gc", "-q"), ("submodule", "status"), ("fsck", "--no-dangling"), ("diff",)):
        assert git(*arguments) == ""
    two.delete_profile("alpha")
    two.undo()
    assert cookies(two) == b"cookies of alpha"
    git("clean", "-qfdx")
    assert cookies(two) == b"cookies of alpha"


def test_the_shelter_is_the_owners_and_small(two):
    place = two.layout.profile("alpha").browser_profile / ".git"
    found = {
        str(path.relative_to(place.parent)): path.stat().st_mode & 0o777
        for path in (place, *place.rglob("*"))
    }
    assert found == {
        ".git": 0o700, ".git/HEAD": 0o600, ".git/objects": 0o700, ".git/refs": 0o700
    }  # fmt: skip
    assert two.disk_usage("beta").browser_profile == 0


def broken_off(place):
    shutil.rmtree(place / "objects")
    (place / "HEAD").write_bytes(b"")


def test_one_that_was_cut_off_is_made_anew(two, git):
    data = two.layout.profile("alpha").browser_profile
    for harm in (broken_off, shutil.rmtree, lambda place: (place / "HEAD").unlink()):
        harm(data / ".git")
        shelter(data)
        git("clean", "-qfdx")
        assert cookies(two) == b"cookies of alpha"


@pytest.mark.parametrize("what", ["a link", "a dangling link", "a file"])
def test_nothing_is_made_elsewhere(bare, tmp_path, what):
    data, elsewhere = bare.layout.profile("alpha").browser_profile, tmp_path / "elsewhere"
    if what == "a file":
        (data / ".git").write_bytes(b"gitdir: ../../elsewhere")
    else:
        (data / ".git").symlink_to(elsewhere)
    if what != "a dangling link":
        elsewhere.mkdir()
        (elsewhere / "HEAD").write_bytes(b"")
    shelter(data)
    assert not elsewhere.exists() or os.listdir(elsewhere) == ["HEAD"]
    assert not elsewhere.exists() or (elsewhere / "HEAD").read_bytes() == b""
    link = tmp_path / "link"
    link.symlink_to(elsewhere)
    if what != "a dangling link":
        (elsewhere / "HEAD").unlink()
        shelter(link)
        assert os.listdir(elsewhere) == []


def test_a_repository_travels_nowhere(two, tmp_path):
    data = two.layout.profile("alpha").browser_profile
    (data / ".git" / "config").write_bytes(b"[core]\n\tfsmonitor = touch /tmp/harm\n")
    (data / "Default" / ".GIT" / "hooks").mkdir(parents=True)
    (data / "Default" / ".GIT" / "hooks" / "pre-commit").write_bytes(b"harm")
    two.snapshots.create("alpha")
    two.clone_profile("alpha", "cloned", with_session=True)
    two.archives.export(["alpha"], tmp_path / "a.tweakio", with_session=True)
    two.archives.import_file(tmp_path / "a.tweakio", as_id="brought")
    two.snapshots.restore("alpha")
    for name in ("alpha", "brought", "cloned"):
        data = two.layout.profile(name).browser_profile
        assert {path.relative_to(data).as_posix() for path in data.rglob("*")} == {
            *(".git", ".git/HEAD", ".git/objects", ".git/refs"),
            *("Default", "Default/Cookies"),
        }


# The hooks


def test_stash_all_is_refused_before_anything_is_removed(bare, git):
    two = bare
    (two.layout.profiles / "notes.txt").write_text("mine")
    said = refused(git, "stash", "--all")
    assert "stash refused" in said
    assert "alpha/browser_profile/Default/Cookies and" in said
    assert "Traceback" not in said
    assert cookies(two) == b"cookies of alpha"
    assert two.layout.profile("alpha").session.read_bytes() == SESSION
    assert (two.layout.profiles / "notes.txt").read_text() == "mine"
    assert git("stash", "list") == ""
    two.update_profiles(["beta"], note="x")
    assert git("fsck", "--no-dangling") == ""


def test_other_stashes_pass(two, git):
    (two.layout.profiles / "notes.txt").write_text("mine")
    git("stash", "-q", "-u")
    git("stash", "pop", "-q")
    assert (two.layout.profiles / "notes.txt").read_text() == "mine"


def commit_tree(git, two, path, content, *, parent="HEAD"):
    """A commit on top of HEAD with one more file, made with plumbing, which runs no hook."""
    source = two.home / "content"
    source.write_bytes(content)
    blob = git("hash-object", "-w", str(source)).strip()
    environment = {**os.environ, "GIT_INDEX_FILE": str(two.home / "other-index")}

    def plumb(*arguments):
        return subprocess.run(
            ["git", "-C", two.layout.profiles, *arguments],
            check=True, env=environment, capture_output=True, text=True,
        ).stdout.strip()  # fmt: skip

    plumb("read-tree", parent)
    plumb("update-index", "--add", "--cacheinfo", f"100644,{blob},{path}")
    return plumb("commit-tree", "-p", parent, "-m", "x", plumb("write-tree"))


HELD = {
    "a session": ("alpha/session.json", SESSION),
    "browser data": ("alpha/browser_profile/Default/Cookies", b"cookies"),
    "deeper": ("old/home/alpha/session.json", SESSION),
    "other case": ("alpha/Session.JSON", SESSION),
    "a cache": ("alpha/cache/x", b"x"),
    "the session by another name": ("alpha/notes.txt", SESSION),
}


def test_no_name_for_commits_that_hold_secrets(two, git):
    refs = ["refs/heads/x", "refs/tags/x", "refs/remotes/o/x", "refs/x/y", "HEAD"]
    head = git("rev-parse", "HEAD")
    for number, (what, (path, content)) in enumerate(HELD.items()):
        commit = commit_tree(git, two, path, content)
        ref = refs[number % len(refs)]
        said = refused(git, "update-ref", ref, commit)
        assert "hold session or browser data" in said, (what, ref, said)
    assert git("for-each-ref", "--format=%(refname)") == "refs/heads/main\n"
    assert git("rev-parse", "HEAD") == head


def test_nor_for_their_children_tags_trees_and_files(two, git):
    commit = commit_tree(git, two, "alpha/session.json", SESSION)
    later = git("commit-tree", "-p", commit, "-m", "y", "HEAD^{tree}").strip()
    for value in (later, f"{commit}^{{tree}}", f"{commit}:alpha/session.json"):
        name = git("rev-parse", value).strip()
        assert "session or browser data" in refused(git, "update-ref", "refs/x/y", name)
    assert "session or browser data" in refused(git, "tag", "-am", "x", "v1", commit)
    assert "session or browser data" in refused(git, "notes", "add", "-C", name)


def test_a_commit_past_the_other_hook_is_refused(two, git):
    head = git("rev-parse", "HEAD")
    git("add", "-f", "alpha/session.json")
    said = refused(git, "commit", "-q", "--no-verify", "-m", "x")
    assert "alpha/session.json" in said
    assert git("rev-parse", "HEAD") == head


def test_an_import_is_refused(two, git, tree):
    stream = (
        b"blob\nmark :1\ndata %d\n%b\ncommit refs/heads/imported\n"
        b"committer P <p@example.org> 1700000000 +0000\ndata 1\nx\n"
        b"M 100644 :1 alpha/session.json\n\ndone\n" % (len(SESSION), SESSION)
    )
    done = subprocess.run(
        ["git", "-C", tree, "fast-import", "--quiet", "--done"], input=stream, capture_output=True
    )
    assert done.returncode
    assert b"session or browser data" in done.stderr
    assert "imported" not in git("branch", "--list")


def test_what_is_as_it_should_be_passes(two, git, tree):
    (tree / "README.md").write_text("mine")
    git("add", "README.md")
    git("commit", "-qm", "x")
    git("branch", "other")
    git("tag", "-am", "x", "v1")
    git("notes", "add", "-m", "x")
    git("switch", "-q", "other")
    git("update-ref", "-d", "refs/tags/v1")
    git("gc", "-q")


@pytest.fixture
def remote(tmp_path, git):
    place = tmp_path / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", place], check=True)
    git("remote", "add", "origin", str(place))
    return place


def test_a_stash_of_earlier_is_not_pushed(two, git, remote):
    """Made before this hook was there, or past it."""
    without_hooks(git, "stash", "--all", "--quiet")
    said = refused(git, "push", "-q", "origin", "refs/stash:refs/heads/x")
    assert "push of refs/stash refused" in said
    assert "git stash drop" in said
    without_hooks(git, "branch", "kept", "stash@{0}")
    assert "push of refs/heads/kept refused" in refused(git, "push", "-q", "--mirror", "origin")
    assert os.listdir(remote / "refs" / "heads") == []
    git("push", "-q", "origin", "HEAD")
    git("push", "-q", "origin", "HEAD:refs/heads/other")
    git("push", "-q", "origin", ":refs/heads/other")
    listed = subprocess.run(
        ["git", "-C", remote, "rev-list", "--all", "--objects"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "session.json" not in listed


def test_a_commit_of_earlier_is_not_pushed(two, git, remote):
    git("push", "-q", "origin", "main")
    git("add", "-f", "alpha/session.json")
    without_hooks(git, "commit", "-q", "--no-verify", "-m", "x")
    git("rm", "-q", "--cached", "alpha/session.json")
    git("commit", "-qm", "taken out again")
    assert "session or browser data" in refused(git, "push", "-q", "origin", "main")
    assert "session or browser data" in refused(git, "push", "-q", str(remote), "main")


# The two files at the root


WEAK = {
    "gone": (".gitignore", None),
    "empty": (".gitignore", b""),
    "negated": (".gitignore", b"!/*/session.json\n"),
    "negated with blanks": (".gitignore", b"  !session.json  \n"),
    "attributes gone": (".gitattributes", None),
    "a filter": (".gitattributes", b"*.json filter=x\n"),
}


def weaken(git, tree, name, content):
    if content is None:
        git("rm", "-q", name)
    else:
        before = (tree / name).read_bytes()
        (tree / name).write_bytes(before + content if content else b"")
        git("add", name)


def test_rules_that_keep_sessions_out_stay(two, git, tree):
    for name, content in WEAK.values():
        weaken(git, tree, name, content)
        said = refused(git, "commit", "-qm", "x")
        assert f"{name}: " in said
        hint = next(line for line in said.splitlines() if "git restore" in line)
        subprocess.run(hint.partition("hint: ")[2].split(), cwd=tree, check=True)
        assert git("status", "--porcelain") == ""


def test_more_rules_that_only_leave_out_are_fine(two, git, tree):
    (tree / ".gitignore").write_bytes((tree / ".gitignore").read_bytes() + b"*.log\n")
    git("commit", "-qam", "x")
    two.update_profiles(["beta"], note="x")
    assert "*.log" in git("show", "HEAD:.gitignore")


@pytest.mark.parametrize(
    ("how", "by"),
    [
        ("gone", "a change"),
        ("gone", "the doctor"),
        ("negated", "a change"),
        ("negated", "the doctor"),
        ("a filter", "a change"),
        ("attributes gone", "the doctor"),
    ],
)
def test_they_come_back(two, cli, git, tree, how, by):
    name, content = WEAK[how]
    wanted = git("show", f"HEAD:{name}")
    weaken(git, tree, name, content)
    without_hooks(git, "commit", "-q", "--no-verify", "-m", "x")
    found = cli.run("repo", "doctor", "--json")
    assert found.code == 14
    assert [item["code"] for item in json.loads(found.out)["findings"]] == ["rules-weak"]
    if by == "a change":
        two.update_profiles(["beta"], note="x")
    else:
        assert cli.run("repo", "doctor", "--fix").code == 0
    assert git("show", f"HEAD:{name}") == wanted
    assert (tree / name).read_text() == wanted
    assert git("status", "--porcelain", "--untracked-files=all") == ""
    assert cli.run("repo", "doctor").code == 0


@pytest.mark.parametrize("by", ["a change", "the doctor"])
def test_they_come_back_into_the_work_tree(two, cli, git, tree, by):
    (tree / ".gitignore").unlink()
    assert "alpha/session.json" in git("status", "--porcelain", "--untracked-files=all")
    assert cli.run("repo", "doctor").code == 14
    if by == "a change":
        two.update_profiles(["beta"], note="x")
    else:
        assert cli.run("repo", "doctor", "--fix").code == 0
    assert git("status", "--porcelain", "--untracked-files=all") == ""


def test_the_first_create_on_an_orphan_branch_has_them(two, git):
    git("switch", "-q", "--orphan", "new")
    two.create_profile("gamma", "custom")
    assert sorted(git("ls-tree", "--name-only", "HEAD").split()) == [
        ".gitattributes", ".gitignore", "gamma",
    ]  # fmt: skip
    assert git("status", "--porcelain", "--untracked-files=all") == ""


def test_profiles_on_an_orphan_branch_need_them(two, git):
    git("switch", "-q", "--orphan", "new")
    git("checkout", "main", "--", "alpha")
    assert "tweakio repo doctor --fix" in refused(git, "commit", "-qm", "x")


# What git leaves among its objects


def test_a_refused_session_is_removed_by_gc(bare, cli, git):
    two = bare
    git("add", "-f", "alpha/session.json", "alpha/browser_profile/Default/Cookies")
    assert "tweakio repo gc" in refused(git, "commit", "-qm", "x")
    cli.ok("repo", "gc")
    # While it is staged, it is a person's.
    assert "very-secret-value" in everything(two, git)
    git("restore", "--staged", ".")
    assert "secret-left" in cli.run("repo", "doctor", "--json").out
    cli.ok("repo", "gc")
    assert "very-secret-value" not in everything(two, git)
    assert "cookies of alpha" not in everything(two, git)
    cli.ok("repo", "doctor")
    assert git("fsck", "--no-dangling") == ""


def test_what_a_refused_stash_left_is_removed_by_the_doctor(bare, cli, git):
    two = bare
    two.layout.profile("beta").session.write_bytes(SESSION.replace(b"of-alpha", b"of-beta"))
    (two.layout.profile("beta").browser_profile / "x").write_bytes(b"opaque bytes of beta")
    refused(git, "stash", "--all")
    # What is not there any more is known by where the stash would have had it.
    (two.layout.profile("beta").browser_profile / "x").unlink()
    two.layout.profile("alpha").session.write_bytes(b"{}")
    assert "of-beta" in everything(two, git)
    cli.ok("repo", "doctor", "--fix")
    left = everything(two, git)
    assert "very-secret-value" not in left
    assert "opaque bytes" not in left
    assert git("status", "--porcelain") == ""
    cli.ok("repo", "doctor")


def test_what_something_names_stays(bare, cli, git):
    """A stash of earlier is a person's, and so is what is no secret."""
    two = bare
    (two.home / "note").write_bytes(b"a blob of a person's own")
    git("hash-object", "-w", str(two.home / "note"))
    without_hooks(git, "stash", "--all", "--quiet")
    cli.ok("repo", "gc")
    assert "a blob of a person" in everything(two, git)
    without_hooks(git, "stash", "pop", "--quiet")
    assert cookies(two) == b"cookies of alpha"
    assert two.layout.profile("alpha").session.read_bytes() == SESSION


def test_nothing_is_removed_while_a_git_is_at_work(two, cli, git, tree):
    git("add", "-f", "alpha/session.json")
    git("restore", "--staged", ".")
    running = subprocess.Popen(
        ["git", "cat-file", "--batch"], cwd=tree, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        cli.ok("repo", "gc")
        assert "very-secret-value" in everything(two, git)
    finally:
        running.kill()
        running.communicate()


# Nothing is called purged that was not


def test_an_undo_says_only_what_is_certain(two, cli, git):
    without_hooks(git, "sparse-checkout", "set", "--cone", "beta")
    assert not two.layout.profile("alpha").directory.exists()
    git("sparse-checkout", "disable")
    cli.ok("profile", "delete", "alpha")
    done = cli.ok("profile", "undo")
    assert "purged" not in done.err
    assert "profile alpha had no browser data when it was deleted" in done.err


# What git has taken is seen


TAKEN = {
    "clean -ffdx": (("clean", "-qffdx"),),
    "sparse-checkout": (("sparse-checkout", "set", "--cone", "beta"),),
}


@pytest.fixture
def noted(two):
    """alpha's browser data are known here; a snapshot has them."""
    two.snapshots.create("alpha")
    two.snapshots.restore("alpha")
    return two


def findings(cli):
    report = json.loads(cli.run("repo", "doctor", "--json").out)
    return [(item["code"], item["severity"]) for item in report["findings"]]


@pytest.mark.parametrize("how", TAKEN)
def test_lost_browser_data_are_shown(noted, cli, git, how):
    assert findings(cli) == []
    assert json.loads(cli.ok("profile", "status", "alpha", "--json").out)[LOST] is False
    for arguments in TAKEN[how]:
        git(*arguments)
    assert ("browser-data-lost", "problem") in findings(cli)
    assert cli.run("repo", "doctor").code == 14
    done = cli.ok("profile", "status", "alpha")
    assert "snapshot restore alpha" in done.err
    assert json.loads(cli.ok("profile", "status", "alpha", "--json").out)[LOST] is True
    assert "the browser data of alpha are gone" in cli.ok("profile", "list").err
    assert json.loads(cli.ok("profile", "status", "beta", "--json").out)[LOST] is False


@pytest.mark.parametrize("how", TAKEN)
def test_lost_browser_data_come_back(noted, cli, git, how):
    for arguments in TAKEN[how]:
        git(*arguments)
    if how == "sparse-checkout":
        git("sparse-checkout", "disable")
    hint = cli.ok("profile", "status", "alpha").err
    words = re.search(r"run '(tweakio profile snapshot restore [^']+)'", hint)[1].split()
    cli.ok(*words[1:])
    assert cookies(noted) == b"cookies of alpha"
    assert findings(cli) == []
    assert cli.ok("profile", "list").err == ""


def test_no_opening_hides_the_loss(noted, cli, git):
    git("clean", "-qffdx")
    for _ in range(2):
        with pytest.raises(ProfileCorruptedError, match="are gone") as caught:
            SyncBrowserManager("alpha", manager=noted).open()
        assert "snapshot restore alpha" in caught.value.hint
    noted.activate_profile("alpha")
    noted.deactivate_profile()
    assert noted.lost_data(noted.list_profiles()) == ["alpha"]


@pytest.mark.parametrize("how", ["hard recovery", "logout", "purged", "deleted", "clone", "other"])
def test_what_is_meant_is_no_loss(noted, cli, git, tmp_path, how):
    if how == "hard recovery":
        git("clean", "-qffdx")
        noted.recover_profile("alpha", "hard")
    elif how == "logout":
        noted.reset_login("alpha")
        noted.undo()
        assert cookies(noted) == b"cookies of alpha"
    elif how in ("purged", "deleted"):
        noted.delete_profile("alpha", purge=how == "purged")
        noted.undo()
    elif how == "other":
        noted.delete_profile("alpha")
        noted.create_profile("alpha", "whatsapp")
        shutil.rmtree(noted.layout.profile("alpha").browser_profile)
    assert noted.lost_data(noted.list_profiles()) == []
    assert findings(cli) == []
    if how == "clone":
        git("clone", "-q", str(noted.layout.profiles), str(tmp_path / "other" / "profiles"))
        with ProfileManager(tmp_path / "other") as manager:
            assert manager.lost_data(manager.list_profiles()) == []
