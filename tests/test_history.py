"""History: what it says, and undo, redo and restore as new commits."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from invariants import check, tree_digest
from invariants import git as git_beside

from tweakio import (
    InvalidMetadataError,
    NothingToRedoError,
    NothingToUndoError,
    ProfileActiveError,
    ProfileExistsError,
    ProfileManager,
    ProfileNotFoundError,
    RevisionNotFoundError,
)
from tweakio.shelter import SHELTER

BROWSER = {
    "browser_profile/Default/Cookies": b"\x00SQLite\xff" * 500,
    "browser_profile/Default/IndexedDB/keys.ldb": bytes(range(256)) * 40,
    "browser_profile/Local State": b"{}",
    "session.json": b'{"cookies": [{"name": "x", "value": "y"}]}',
    "cache/blob": b"c" * 1000,
}


def fill(profile, salt=b""):
    """What a browser would leave; its digest, without what tweakio itself changes."""
    for name, content in BROWSER.items():
        path = profile.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content + (salt if name != "session.json" else b""))
    return data(profile)


def data(profile):
    return [tree_digest(profile.path / name) for name in ("browser_profile", "session.json")]


def notes(manager):
    return {p.id: p.note for p in manager.list_profiles()}


def operations(manager):
    return [change.operation for change in manager.history()]


def edit(manager, profile_id, **changes):
    path = manager.layout.profile(profile_id).metadata
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}, indent=2) + "\n")
    return path


@pytest.fixture
def two(manager):
    manager.create_profiles(["alpha", "beta"], "whatsapp")
    return manager


# Reading


def test_history_says_who_when_what_and_by_which_command(home, git):
    with ProfileManager(home, command="profile create") as manager:
        manager.create_profile("alpha", "whatsapp")
        change = manager.history()[0]
    assert change.operation == "create"
    assert change.profiles == ("alpha",)
    assert change.author == "Tester <tester@example.com>"
    assert change.command == "profile create"
    assert change.summary == "create alpha (whatsapp)"
    assert change.revision == git("rev-parse", "HEAD").strip()
    assert abs(change.time.timestamp() - int(git("log", "-1", "--format=%ct"))) < 1
    body = git("log", "-1", "--format=%B")
    for line in ("Tweakio-Op: create", "Tweakio-Profile: alpha", "Tweakio-Command: profile create"):
        assert line in body.splitlines()


def test_history_of_one_profile(two):
    two.update_profiles(["alpha"], note="x")
    two.update_profiles(["beta"], note="y")
    two.delete_profile("alpha")
    assert [c.operation for c in two.history("alpha")] == ["delete", "set", "create"]
    assert [c.operation for c in two.history("beta")] == ["set", "create"]
    assert two.history("gamma") == []
    assert len(two.history(limit=2)) == 2
    assert two.history(limit=0) == []


def test_a_persons_commit_is_in_it(two, git):
    edit(two, "beta", note="by hand")
    git("commit", "-qam", "my own words\n\nand more")
    (change,) = two.history("beta", limit=1)
    assert (change.operation, change.summary, change.command) == ("commit", "my own words", "")
    assert change.profiles == ("beta",)


def test_reading_makes_nothing(home, manager):
    home.mkdir()
    assert manager.history() == manager.list_profiles() == manager.trash() == []
    assert os.listdir(home) == []


def test_show_names_fields(two):
    two.update_profiles(["alpha"], note="new", add_tags=["t"])
    change, (diff,) = two.show("HEAD")
    assert change.operation == "set"
    assert (diff.profile_id, diff.kind) == ("alpha", "changed")
    assert {(f.field, str(f.before), str(f.after)) for f in diff.fields} == {
        ("note", "", "new"),
        ("tags", "[]", "['t']"),
    }
    _, created = two.show("HEAD~1")
    assert [(d.profile_id, d.kind) for d in created] == [("alpha", "created"), ("beta", "created")]
    assert all(field.before is None for d in created for field in d.fields)
    two.delete_profile("alpha")
    _, (deleted,) = two.show("HEAD")
    assert deleted.kind == "deleted"
    assert all(field.after is None for field in deleted.fields)


def test_show_of_an_invalid_commit(two, git):
    two.layout.profile("alpha").metadata.write_bytes(b"broken")
    git("commit", "-qnam", "broken")
    assert [(d.profile_id, d.kind) for d in two.show("HEAD")[1]] == [("alpha", "invalid")]


def test_diff_with_the_work_tree_and_with_revisions(two):
    assert two.diff("alpha") is None
    edit(two, "alpha", note="by hand")
    assert [(f.field, f.after) for f in two.diff("alpha").fields] == [("note", "by hand")]
    assert two.diff("alpha", "HEAD") is None
    two.update_profiles(["alpha"], platform_version="2")
    found = {f.field for f in two.diff("alpha", "HEAD~2").fields}
    assert found == {"note", "platform_version"}
    assert two.diff("alpha", "HEAD~3").kind == "created"
    two.layout.profile("alpha").metadata.write_bytes(b"")
    assert two.diff("alpha").kind == "invalid"
    two.recover_profile("alpha")
    two.delete_profile("alpha")
    assert two.diff("alpha", "HEAD~1").kind == "deleted"
    for revision in (None, "HEAD"):
        with pytest.raises(ProfileNotFoundError):
            two.diff("nobody", revision)


# Revisions


def test_revisions_are_read_as_git_reads_them(two, git):
    for number in range(4):
        two.update_profiles(["alpha"], note=str(number))
    git("tag", "light", "HEAD~2")
    git("tag", "-am", "text", "annotated", "HEAD~3")
    git("tag", "-am", "text", "twice", "annotated")
    git("branch", "side", "HEAD~1")
    git("branch", "topic/deep", "HEAD~1")
    head = git("rev-parse", "HEAD").strip()
    known = ["HEAD", "@", "HEAD~", "HEAD~1", "HEAD^", "HEAD^1", "HEAD^^", "HEAD~2^~1", "HEAD~0"]
    known += ["main", "refs/heads/main", "heads/main", "light", "tags/light", "annotated"]
    known += ["annotated~1", "twice", "side", "topic/deep~", head, head[:4], head[:12], f"{head}~3"]
    for packed in (False, True):
        if packed:
            git("pack-refs", "--all")
            git("gc", "-q")
        for revision in known:
            expected = git("rev-parse", f"{revision}^{{commit}}").strip()
            assert two.show(revision)[0].revision == expected, revision


BAD_REVISIONS = [
    "",
    " ",
    "nonsense",
    "HEAD~100",
    "HEAD^2",
    "HEAD~-1",
    "~1",
    "^",
    "HEAD@{1}",
    "HEAD:alpha",
    "..",
    "main..HEAD",
    "abc",
    "dead",
    "0" * 40,
    "f" * 41,
    "../../config",
    "refs/heads/../../HEAD",
    "-h",
    "--all",
    "HEAD\n",
    "a" * 5000,
    "\0",
    "ü",
    "\ud800",
    "HEAD~" + "9" * 30,
]


@pytest.mark.parametrize("revision", BAD_REVISIONS, ids=range(len(BAD_REVISIONS)))
def test_revisions_that_name_nothing(two, revision):
    for action in (two.show, lambda rev: two.restore("alpha", rev)):
        with pytest.raises(RevisionNotFoundError) as caught:
            action(revision)
        assert caught.value.hint
        assert len(caught.value.message) < 200


def test_a_tree_and_a_blob_are_no_revisions(two, git):
    for name in ("HEAD^{tree}", "HEAD:alpha/metadata.json"):
        with pytest.raises(RevisionNotFoundError):
            two.show(git("rev-parse", name).strip())
    git("tag", "blob", "HEAD:alpha/metadata.json")
    with pytest.raises(RevisionNotFoundError):
        two.show("blob")


def test_an_ambiguous_prefix_is_refused(two, git):
    """Of 1,500 commits some begin with the same four digits."""
    lines = []
    for number in range(1500):
        lines += ["commit refs/heads/many", f"committer A <a@b> {number} +0000", "data 0", ""]
    subprocess.run(
        ["git", "-C", two.layout.profiles, "fast-import", "--quiet"],
        input="\n".join(lines).encode(),
        check=True,
    )
    seen = {}
    for name in git("rev-list", "many").split():
        other = seen.setdefault(name[:4], name)
        if other != name:
            break
    with pytest.raises(RevisionNotFoundError, match="ambiguous"):
        two.show(name[:4])
    length = next(n for n in range(4, 41) if name[:n] != other[:n])
    assert two.show(name[:length])[0].revision == name
    assert two.show(other[:length])[0].revision == other


# Undo and redo


def test_nothing_to_undo_or_redo_on_a_fresh_home(home, manager):
    home.mkdir()
    for action, error in ((manager.undo, NothingToUndoError), (manager.redo, NothingToRedoError)):
        with pytest.raises(error) as caught:
            action()
        assert caught.value.hint
    assert os.listdir(home) == []
    manager.create_profile("alpha", "custom")
    manager.undo()
    with pytest.raises(NothingToUndoError):
        manager.undo()
    assert operations(manager) == ["undo", "create", "init"]


def test_interleavings(two):
    for number in "123":
        two.update_profiles(["alpha"], note=number)
    steps = "undo:2 undo:1 redo:2 undo:1 undo: redo:1 redo:2 redo:3 undo:2 undo:1 redo:2"
    for step in steps.split():
        action, _, note = step.partition(":")
        getattr(two, action)()
        assert notes(two)["alpha"] == note, step
    two.update_profiles(["beta"], note="new")
    with pytest.raises(NothingToRedoError):
        two.redo()
    assert notes(two) == {"alpha": "2", "beta": "new"}
    two.undo()
    two.undo()
    assert notes(two) == {"alpha": "1", "beta": ""}
    two.redo()
    two.redo()
    with pytest.raises(NothingToRedoError):
        two.redo()
    assert notes(two) == {"alpha": "2", "beta": "new"}
    for _ in range(4):
        two.undo()
    assert notes(two) == {}
    with pytest.raises(NothingToUndoError):
        two.undo()
    for _ in range(4):
        two.redo()
    assert notes(two) == {"alpha": "2", "beta": "new"}
    check(two.home)


@pytest.mark.parametrize(
    "trailers",
    [
        "Tweakio-Op: undo\nTweakio-Undoes: nonsense",
        "Tweakio-Op: undo\nTweakio-Undoes: ../../HEAD",
        "Tweakio-Op: undo\nTweakio-Undoes: HEAD",
        "Tweakio-Op: undo\nTweakio-Undoes: \uff15",
        "Tweakio-Op: undo\nTweakio-Undoes: " + "a" * 40,
        "Tweakio-Op: undo\nTweakio-Undoes: {blob}",
        "Tweakio-Op: undo\nTweakio-Undoes: {tree}",
        "Tweakio-Op: undo\nTweakio-Undoes:",
        "Tweakio-Op: redo\nTweakio-Redoes: nonsense",
        "Tweakio-Op: set\nTweakio-Profile: ../..\nTweakio-Profile: CON",
        "Tweakio-Op: delete\nTweakio-Trash: ../../../x\nTweakio-Profile: alpha",
        "Tweakio-Op: \x1b[31mred",
    ],
)
def test_a_trailer_that_somebody_made_up_ends_no_command(two, git, trailers):
    two.update_profiles(["alpha"], note="one")
    path = two.get_profile("alpha").path / "metadata.json"
    path.write_text(path.read_text().replace('"one"', '"two"'))
    ids = {
        name: git("rev-parse", revision).strip()
        for name, revision in (("blob", "HEAD:alpha/metadata.json"), ("tree", "HEAD^{tree}"))
    }
    git("commit", "-qam", f"by hand\n\n{trailers.format(**ids)}\n")
    with pytest.raises(NothingToRedoError):
        two.redo()
    assert len(list(two.history())) > 1
    assert list(two.history("alpha"))
    assert two.show("HEAD")
    two.undo()  # of that commit, or of the change before if it says that it is an undo
    two.redo()
    assert notes(two)["alpha"] == "two"


def test_undo_and_redo_tell_which_change(two):
    two.update_profiles(["alpha"], note="x")
    change = two.history()[0]
    assert two.undo() == change
    assert two.redo() == change
    assert [c.summary for c in two.history(limit=2)] == [
        "redo: set alpha (note)",
        "undo: set alpha (note)",
    ]


def operate(name, manager, git):
    """Make one change of each kind; alpha is there, with data."""
    if name == "create":
        fill(manager.create_profile("gamma", "custom"))
    elif name == "activate":
        manager.select_profile("alpha")
    elif name == "deactivate":
        manager.deactivate_profile()
    elif name == "set":
        manager.update_profiles(["alpha"], note="x", add_tags=["t"], platform_config={"a": [1]})
    elif name == "delete":
        manager.delete_profiles(["alpha", "beta"], force=True)
    elif name == "recover-hard":
        manager.recover_profile("alpha", "hard")
    elif name == "restore":
        manager.restore("alpha", "HEAD~2")
    elif name == "restore-from-trash":
        manager.restore_from_trash(manager.trash("old")[0].name)
    elif name == "mark-corrupted":
        manager.metadata.mark_corrupted("alpha", "why")
    elif name == "hand edit":
        edit(manager, "alpha", note="by hand", x_new=1)
        git("commit", "-qam", "mine")
    elif name == "hand removal":
        git("rm", "-rqf", "beta")
        git("commit", "-qm", "mine")


KINDS = [
    "create",
    "activate",
    "deactivate",
    "set",
    "delete",
    "recover-hard",
    "restore",
    "restore-from-trash",
    "mark-corrupted",
    "hand edit",
    "hand removal",
]


def look(manager):
    """Everything that undo has to bring back."""
    found = {}
    for profile in manager.list_profiles():
        value = json.loads((profile.path / "metadata.json").read_bytes())
        found[profile.id] = (value, data(profile), tree_digest(profile.path / "fingerprint.json"))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_undo_and_redo_of_every_kind(two, git, kind):
    for number, profile_id in enumerate(("alpha", "beta")):
        fill(two.get_profile(profile_id), str(number).encode())
    fill(two.create_profile("old", "custom"), b"old")
    two.delete_profile("old")
    two.update_profiles(["alpha"], note="before")
    if kind != "activate":
        two.select_profile("beta")
    before = look(two)
    operate(kind, two, git)
    after = look(two)
    assert after != before
    for _ in range(2):
        two.undo()
        assert look(two) == before
        check(two.home, permissions=False)
        two.redo()
        if kind == "recover-hard":
            assert look(two).keys() == after.keys()
        else:
            assert look(two) == after
    check(two.home, permissions=False)


def test_undo_of_an_adopted_edit(two):
    path = edit(two, "alpha", note="by hand")
    assert two.undo().operation == "adopt"
    assert notes(two)["alpha"] == ""
    assert json.loads(path.read_text())["note"] == ""
    two.redo()
    assert notes(two)["alpha"] == "by hand"


def test_a_hand_edit_between_undo_and_redo_is_kept(two):
    two.update_profiles(["alpha"], note="x")
    two.undo()
    edit(two, "alpha", note="mine")
    with pytest.raises(NothingToRedoError):
        two.redo()
    assert notes(two)["alpha"] == "mine"
    assert operations(two)[0] == "adopt"


def test_undo_leaves_later_changes_of_other_fields(two, git):
    two.update_profiles(["alpha"], note="x")
    change = two.history()[0]
    edit(two, "alpha", tags=["kept"], note="x")
    # A commit that is marked as an undo keeps the stack: what is undone next is "set".
    git("commit", "-qam", f"manual\n\nTweakio-Op: undo\nTweakio-Undoes: {'0' * 40}")
    assert two.undo() == change
    profile = two.get_profile("alpha")
    assert (profile.note, profile.tags) == ("", ("kept",))


def test_undo_of_delete_keeps_the_identity(two):
    before = two.get_profile("alpha")
    digest = fill(before)
    two.delete_profile("alpha")
    two.create_profile("alpha", "telegram")
    two.undo()
    two.undo()
    assert two.get_profile("alpha") == before
    assert data(before) == digest


def test_undo_of_a_purged_delete_begins_empty(two, caplog):
    fill(two.get_profile("alpha"))
    two.delete_profile("alpha", purge=True)
    two.undo()
    profile = two.get_profile("alpha")
    assert profile.status == "inactive"
    assert os.listdir(profile.path / "browser_profile") == [SHELTER]
    assert "no browser data of profile alpha is kept; it starts empty" in caplog.text
    check(two.home)


def test_undo_of_an_activation_releases_the_lock(two):
    two.activate_profile("alpha")
    two.undo()
    profile = two.get_profile("alpha")
    assert (profile.status, profile.in_use) == ("inactive", False)
    assert two.locks.held == set()
    assert two.registry.get_active() is None
    two.activate_profile("alpha")


def test_undo_never_takes_a_profile_from_a_live_process(two):
    with ProfileManager(two.home) as other:
        other.activate_profile("alpha")
        before = two.history()
        with pytest.raises(ProfileActiveError, match=str(os.getpid())):
            two.undo()
        assert two.history() == before
        assert two.get_profile("alpha").in_use


def test_redo_of_an_activation_brings_no_dead_process_back(two):
    two.activate_profile("alpha")
    two.deactivate_profile()
    two.undo()
    value = json.loads(two.layout.profile("alpha").metadata.read_bytes())
    assert (value["status"], value.get("lock_pid")) == ("active", None)
    assert two.get_profile("alpha").in_use is False


def test_undo_of_a_switch_changes_both_back(two):
    two.select_profile("alpha")
    two.select_profile("beta")
    two.undo()
    assert {p.id: p.status for p in two.list_profiles()} == {"alpha": "active", "beta": "inactive"}


# Restore


def test_restore_of_fields_leaves_the_rest(two):
    two.update_profiles(["alpha"], note="old", add_tags=["t"])
    old = two.history()[0].revision
    digest = fill(two.get_profile("alpha"))
    two.update_profiles(["alpha"], note="new", remove_tags=["t"])
    two.activate_profile("alpha")
    profile = two.restore("alpha", old[:10])
    assert (profile.note, profile.tags, profile.status) == ("old", ("t",), "active")
    assert profile.in_use
    assert data(profile) == digest
    before = len(two.history())
    two.restore("alpha", old)
    assert len(two.history()) == before
    check(two.home, permissions=False)


def test_restore_of_a_deleted_profile(two):
    digest = fill(two.get_profile("alpha"))
    two.delete_profile("alpha")
    two.update_profiles(["beta"], note="later")
    profile = two.restore("alpha", "HEAD~2")
    assert data(profile) == digest
    assert notes(two) == {"alpha": "", "beta": "later"}
    assert two.trash() == []
    check(two.home, permissions=False)


def test_restore_never_makes_a_second_selection(two):
    two.select_profile("alpha")
    active = two.history()[0].revision
    two.select_profile("beta")
    two.delete_profile("alpha")
    assert two.restore("alpha", active).status == "inactive"
    assert [p.id for p in two.list_profiles(status="active")] == ["beta"]


def test_restore_of_an_id_that_is_another_profile_now(two):
    old = two.get_profile("alpha")
    old_data = fill(old, b"old")
    two.delete_profile("alpha")
    new = two.create_profile("alpha", "telegram")
    new_data = fill(new, b"new")
    profile = two.restore("alpha", "HEAD~2")
    assert (profile.platform, profile.created_at) == ("whatsapp", old.created_at)
    assert data(profile) == old_data
    (entry,) = two.trash("alpha")
    assert (entry.kind, entry.profile_created_at) == ("deleted", new.created_at)
    two.undo()
    assert two.get_profile("alpha").created_at == new.created_at
    assert data(two.get_profile("alpha")) == new_data
    check(two.home, permissions=False)


def test_undo_of_a_commit_that_removed_the_metadata(two, git):
    content = two.layout.profile("alpha").metadata.read_bytes()
    git("rm", "-q", "alpha/metadata.json")
    git("commit", "-q", "--no-verify", "-m", "removed by hand")
    assert two.undo().summary == "removed by hand"
    assert two.layout.profile("alpha").metadata.read_bytes() == content
    check(two.home, permissions=False)


def test_restore_over_an_invalid_commit_by_hand(two, git):
    old = two.update_profiles(["alpha"], note="old")[0]
    revision = two.history()[0].revision
    old.path.joinpath("metadata.json").write_bytes(b"{}")
    git("commit", "-q", "--no-verify", "-am", "broken by hand")
    profile = two.restore("alpha", revision)
    assert (profile.note, profile.status, profile.last_used) == ("old", "inactive", old.last_used)
    check(two.home, permissions=False)


def test_restore_over_a_damaged_file_keeps_its_bytes(two):
    path = two.get_profile("alpha").path / "metadata.json"
    path.write_bytes(b"{ broken")
    assert two.get_profile("alpha").status == "corrupted"
    assert two.restore("alpha", "HEAD").status == "inactive"
    assert two.get_profile("alpha").status == "inactive"
    (entry,) = [entry for entry in two.trash("alpha") if entry.profile_id == "alpha"]
    assert (entry.path / "data" / "metadata.json").read_bytes() == b"{ broken"


def test_undo_back_to_an_invalid_commit_by_hand(two, git):
    path = two.get_profile("alpha").path / "metadata.json"
    sound = path.read_bytes()
    for content in (b"{}", sound):
        path.write_bytes(content)
        git("-c", "core.hooksPath=/nowhere", "commit", "-qam", "by hand")
    two.undo()
    shown = {profile.id: profile.status for profile in two.list_profiles()}
    assert shown == {"alpha": "corrupted", "beta": "inactive"}
    assert two.recover_profile("alpha").status == "inactive"


def test_restore_to_a_revision_that_is_invalid_changes_nothing(two, git):
    two.get_profile("alpha").path.joinpath("metadata.json").write_bytes(b"{}")
    git("commit", "-q", "--no-verify", "-am", "broken by hand")
    before = two.history()
    with pytest.raises(InvalidMetadataError):
        two.restore("alpha", "HEAD")
    assert two.history() == before


def test_restore_refuses(two):
    with ProfileManager(two.home) as other:
        first = two.history()[0].revision
        two.delete_profile("alpha")
        other.create_profile("alpha", "custom")
        other.activate_profile("alpha")
        with pytest.raises(ProfileActiveError):
            two.restore("alpha", first)
    with pytest.raises(RevisionNotFoundError, match="not in revision"):
        two.restore("alpha", f"{first}~1")
    two.delete_profile("beta")
    two.create_profile("Beta", "custom")
    with pytest.raises(ProfileExistsError, match="by case"):
        two.restore("beta", first)
    check(two.home)


def test_undo_of_a_merge_takes_back_what_it_brought_here(two, git):
    git("switch", "-qc", "side")
    two.update_profiles(["alpha"], note="side")
    git("switch", "-q", "main")
    two.update_profiles(["beta"], note="main")
    git("merge", "-q", "--no-edit", "side")
    two.undo()
    assert notes(two) == {"alpha": "", "beta": "main"}
    two.redo()
    assert notes(two) == {"alpha": "side", "beta": "main"}
    two.update_profiles(["alpha"], note="after")
    assert two.undo().operation == "set"


# A model


class Model(RuleBasedStateMachine):
    """Random operations, a person's among them, against a plain stack of states."""

    ids = st.sampled_from(["alpha", "beta", "gamma"])

    def __init__(self):
        super().__init__()
        self.home = tempfile.mkdtemp()
        self.manager = ProfileManager(self.home)
        self.count = 0
        self.state = {}  # id: (note, active, data)
        self.undos = []
        self.redos = []
        self.plain = 0  # commits since the last undo or redo

    def teardown(self):
        check(self.home, permissions=False)
        self.manager.close()
        shutil.rmtree(self.home)

    def did(self, new):
        self.undos.append(self.state)
        self.redos.clear()
        self.state = new
        self.count += 1
        self.plain += 1

    @rule(profile_id=ids)
    def create(self, profile_id):
        if profile_id in self.state:
            with pytest.raises(ProfileExistsError):
                self.manager.create_profile(profile_id, "custom")
            return
        profile = self.manager.create_profile(profile_id, "custom")
        content = str(self.count).encode()
        (profile.path / "browser_profile" / "Cookies").write_bytes(content)
        self.did({**self.state, profile_id: ("", False, content)})

    @rule(profile_id=ids)
    def activate(self, profile_id):
        if profile_id not in self.state:
            with pytest.raises(ProfileNotFoundError):
                self.manager.activate_profile(profile_id)
            return
        self.manager.select_profile(profile_id)
        if not self.state[profile_id][1]:
            self.did({k: (n, k == profile_id, d) for k, (n, _, d) in self.state.items()})

    @rule()
    def deactivate(self):
        found = self.manager.deactivate_profile()
        assert (found is not None) == any(active for _, active, _ in self.state.values())
        if found is not None:
            self.did({k: (n, False, d) for k, (n, _, d) in self.state.items()})

    @rule(profile_id=ids, force=st.booleans())
    def delete(self, profile_id, force):
        if profile_id not in self.state:
            with pytest.raises(ProfileNotFoundError):
                self.manager.delete_profile(profile_id, force)
        elif self.state[profile_id][1] and not force:
            with pytest.raises(ProfileActiveError):
                self.manager.delete_profile(profile_id)
        else:
            self.manager.delete_profile(profile_id, force)
            self.did({k: v for k, v in self.state.items() if k != profile_id})

    @rule(profile_id=ids, by_hand=st.booleans())
    def note(self, profile_id, by_hand):
        if profile_id not in self.state:
            return
        note = f"note {self.count}"
        if by_hand:
            edit(self.manager, profile_id, note=note)
        # What a person edited is adopted; then there is nothing left to change.
        self.manager.update_profiles([profile_id], note=note)
        self.did({**self.state, profile_id: (note, *self.state[profile_id][1:])})

    @rule()
    def undo(self):
        if not self.undos:
            with pytest.raises(NothingToUndoError):
                self.manager.undo()
            return
        self.manager.undo()
        self.redos.append(self.state)
        self.state = self.undos.pop()
        self.plain = 0

    @rule()
    def redo(self):
        if not self.redos:
            with pytest.raises(NothingToRedoError):
                self.manager.redo()
            return
        self.manager.redo()
        self.undos.append(self.state)
        self.state = self.redos.pop()
        self.plain = 0

    @precondition(lambda self: self.plain > 1)
    @rule()
    def reset_hard(self):
        done = git_beside(self.manager.layout.profiles, "reset", "-q", "--hard", "HEAD~1")
        assert done.returncode == 0
        self.state = self.undos.pop()
        self.plain -= 1

    @invariant()
    def the_listing_is_the_models(self):
        found = {p.id: (p.note, p.status == "active") for p in self.manager.list_profiles()}
        assert found == {name: value[:2] for name, value in self.state.items()}

    @invariant()
    def the_browser_data_is_there_after_the_next_change(self):
        repository = self.manager.repository
        with repository.exclusive():
            repository.work_tree.reconcile(repository.head(), [], full=True)
        for profile_id, (_, _, content) in self.state.items():
            path = self.manager.layout.profile(profile_id).browser_profile / "Cookies"
            assert path.read_bytes() == content


@pytest.mark.no_cover
def test_random_sequences():
    run_state_machine_as_test(
        Model,
        settings=settings(
            max_examples=25,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
