"""The pre-commit hook: what a person's own commit may bring."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tweakio import ProfileManager
from tweakio.shelter import SHELTER

pytestmark = pytest.mark.skipif(os.name != "posix", reason="runs hooks by their first line")


@pytest.fixture
def two(manager):
    manager.create_profiles(["alpha", "beta"], "whatsapp")
    return manager


@pytest.fixture
def tree(two):
    return two.layout.profiles


@pytest.fixture
def commit(two, tree):
    """Commit what is staged as a person does, with nothing of ours in the environment."""

    def run(*arguments, **environment):
        clean = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(two.home.parent),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "P",
            "GIT_AUTHOR_EMAIL": "p@example.org",
            "GIT_COMMITTER_NAME": "P",
            "GIT_COMMITTER_EMAIL": "p@example.org",
        }
        clean |= {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
        return subprocess.run(
            ["git", "commit", "-qm", "mine", *arguments],
            cwd=tree,
            env=clean | environment,
            capture_output=True,
            text=True,
        )

    return run


def edited(tree, of="alpha", **changes):
    path = tree / of / "metadata.json"
    return json.dumps({**json.loads(path.read_bytes()), **changes}).encode()


KEY = b"-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n"
FORBIDDEN = [
    ("alpha/session.json", b"{}", "a secret"),
    ("session.json", b"{}", "a secret"),
    ("alpha/StorageState.json", b"{}", "a secret"),
    ("identity.txt", b"x", "a secret"),
    ("server.key", b"x", "a secret"),
    ("id_ed25519", b"x", "a secret"),
    (".env", b"TOKEN=1", "a secret"),
    ("notes.txt", KEY, "private key"),
    ("notes.txt", b"AGE-SECRET-KEY-1XYZ", "private key"),
    ("alpha/metadata.json", b"{}", "Field required"),
    ("alpha/metadata.json", b"", "empty"),
    ("alpha/metadata.json", b"{ broken", "not JSON"),
    ("alpha/fingerprint.json", b"[]", "not a JSON object"),
    ("alpha/fingerprint.json", b"{", "not JSON"),
    ("alpha/fingerprint.json", b"[" * 100_000, "not JSON"),
    ("alpha/browser_profile/Cookies", b"x", "browser data"),
    ("alpha/cache/x", b"x", "browser data"),
    ("alpha/.lock", b"x", "browser data"),
    ("alpha/other.txt", b"x", "not one of the files"),
    ("bad name/metadata.json", b"{}", "is not a profile id"),
    ("CON/metadata.json", b"{}", "is not a profile id"),
    ("-rf/metadata.json", b"{}", "is not a profile id"),
    ("über/metadata.json", b"{}", "is not a profile id"),
    ("gamma/fingerprint.json", b"{}", "without metadata.json"),
]


@pytest.mark.parametrize(("name", "content", "reason"), FORBIDDEN, ids=range(len(FORBIDDEN)))
def test_what_is_refused(tree, commit, git, name, content, reason):
    path = tree / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    if path.parent.name == "browser_profile":
        shutil.rmtree(path.parent / SHELTER)  # as in a home that was made without it
    git("add", "-f", "--", name)
    before = git("rev-parse", "HEAD")
    done = commit()
    assert done.returncode == 1, done
    lines = done.stderr.splitlines()
    assert lines[0].startswith("tweakio: error: commit refused: ")
    assert reason in lines[0]
    assert lines[1].startswith("tweakio: hint: ")
    # Git has kept what it was given, and what removes that is said once.
    copied = any(what in reason for what in ("secret", "browser data", "private key"))
    assert len(lines) == 2 + copied
    assert ("tweakio repo gc" in lines[-1]) == copied
    assert git("rev-parse", "HEAD") == before
    assert path.read_bytes() == content


CONTENTS = [
    {"status": "sleeping"},
    {"profile_id": "beta"},
    {"platform_config": {"token": "hunter2"}},
    {"schema_version": 2},
    {"note": "a\u202eb"},
]


@pytest.mark.parametrize("change", CONTENTS, ids=str)
def test_metadata_that_is_refused(tree, commit, change):
    (tree / "alpha" / "metadata.json").write_bytes(edited(tree, **change))
    done = commit("-a")
    assert done.returncode == 1
    assert "alpha/metadata.json" in done.stderr
    assert "tweakio profile recover alpha" in done.stderr
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize("target", ["../outside", "metadata.json"])
def test_links_and_repositories_inside_are_refused(tree, commit, git, target):
    (tree / "link").symlink_to(target)
    git("add", "link")
    done = commit()
    assert done.returncode == 1
    assert "a symbolic link" in done.stderr
    git("rm", "-q", "--cached", "link")
    git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},module")
    done = commit()
    assert done.returncode == 1
    assert "submodule" in done.stderr


def test_two_names_that_differ_by_case_are_refused(tree, commit, git):
    blob = git("rev-parse", "HEAD:alpha/fingerprint.json").strip()
    metadata = edited(tree, profile_id="ALPHA")
    done = subprocess.run(
        ["git", "-C", tree, "hash-object", "-w", "--stdin"],
        input=metadata,
        capture_output=True,
        check=True,
    )
    git("update-index", "--add", "--cacheinfo", f"100644,{blob},ALPHA/fingerprint.json")
    name = done.stdout.decode().strip()
    git("update-index", "--add", "--cacheinfo", f"100644,{name},ALPHA/metadata.json")
    done = commit()
    assert done.returncode == 1
    assert "only by case" in done.stderr


def test_all_reasons_are_told_at_once_up_to_a_limit(tree, commit, git):
    for number in range(30):
        (tree / f"{number:02}.key").write_bytes(b"x")
    git("add", "-f", "--", "*.key")
    done = commit()
    assert done.stderr.count("commit refused") == 20
    assert done.stderr.splitlines()[-2] == "tweakio: error: and 10 more"


def test_the_hint_can_be_pasted(tree, commit, git):
    name = "it's a 'key'; touch pwned.key"
    (tree / name).write_bytes(b"x")
    git("add", "-f", "--", name)
    done = commit()
    hint = done.stderr.splitlines()[1].removeprefix("tweakio: hint: ")
    subprocess.run(["sh", "-c", hint], cwd=tree, check=True)
    assert git("diff", "--cached", "--name-only") == ""
    assert not (tree / "pwned.key").exists()


def test_names_with_control_characters_do_not_reach_the_terminal_raw(tree, commit, git):
    (tree / "a\x1b[2J\n\udcff.key").write_bytes(b"x")
    git("add", "-f", "--", "*.key")
    (tree / "alpha/metadata.json").write_bytes(
        edited(tree, platform_config={"\x1b[2Jtoken": "hunter2"})
    )
    done = commit("-a")
    assert done.returncode == 1
    assert "\x1b" not in done.stderr
    assert len(done.stderr.splitlines()) == 5
    assert "a\\x1b[2J\\n\\udcff.key: a secret" in done.stderr
    assert "hunter2" not in done.stderr


VALID = {
    "an edit": lambda tree: (tree / "alpha/metadata.json").write_bytes(edited(tree, note="x")),
    "a new field": lambda tree: (tree / "alpha/metadata.json").write_bytes(edited(tree, x_y=[1])),
    "a reference": lambda tree: (tree / "alpha/metadata.json").write_bytes(
        edited(tree, platform_config={"api_hash": "env:HASH"})
    ),
    "a file beside": lambda tree: (tree / "README.md").write_text("mine"),
    "a removal": lambda tree: shutil.rmtree(tree / "beta"),
    "a fingerprint": lambda tree: (tree / "alpha/fingerprint.json").write_text('{"seed": 1}'),
}


@pytest.mark.parametrize("kind", VALID)
def test_what_passes(tree, commit, git, kind):
    VALID[kind](tree)
    git("add", "-A")
    done = commit()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_new_profile_passes(tree, commit, git):
    (tree / "gamma").mkdir()
    (tree / "gamma" / "metadata.json").write_bytes(edited(tree, profile_id="gamma"))
    git("add", "-A")
    assert commit().returncode == 0


def test_only_a_part_is_judged_when_only_a_part_is_committed(tree, commit):
    """``git commit PATH`` uses an index of its own."""
    (tree / "alpha/metadata.json").write_bytes(b"broken")
    (tree / "beta/metadata.json").write_bytes(edited(tree, "beta", note="x"))
    assert commit("beta/metadata.json").returncode == 0
    assert commit("alpha/metadata.json").returncode == 1
    assert commit("-a").returncode == 1
    assert commit("--amend").returncode == 0


def test_removing_only_the_metadata_is_refused(tree, commit, git):
    git("rm", "-q", "alpha/metadata.json")
    done = commit()
    assert done.returncode == 1
    assert "tweakio profile recover alpha" in done.stderr


def test_the_first_commit_of_an_orphan_branch_is_judged(tree, commit, git):
    git("switch", "-q", "--orphan", "new")
    (tree / "x.key").write_bytes(b"x")
    git("add", "-f", "x.key")
    assert commit().returncode == 1
    git("rm", "-q", "--cached", "x.key")
    (tree / "README").write_text("x")
    git("add", "README")
    assert commit().returncode == 0


def test_tweakios_own_commits_do_not_come_by(two, tree):
    (tree / ".git/hooks/pre-commit").write_text("#!/bin/sh\n# tweakio hook\nexit 1\n")
    two.update_profiles(["alpha"], note="x")
    assert two.get_profile("alpha").note == "x"


# Where it runs


HIJACK = {
    "tweakio/__init__.py": "raise SystemExit(0)",
    "json.py": "raise SystemExit(0)",
    "re.py": "raise SystemExit(0)",
    "subprocess.py": "raise SystemExit(0)",
    "sitecustomize.py": "raise SystemExit(0)",
}


@pytest.mark.parametrize("name", HIJACK)
def test_files_of_the_work_tree_are_not_imported(tree, commit, git, name):
    path = tree / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(HIJACK[name])
    (tree / "secret.key").write_bytes(b"x")
    git("add", "-f", "secret.key")
    done = commit()
    assert done.returncode == 1
    assert "a secret" in done.stderr


def test_a_profile_called_tweakio(two, tree, commit):
    two.create_profile("tweakio", "custom")
    (tree / "tweakio/metadata.json").write_bytes(b"broken")
    done = commit("-a")
    assert done.returncode == 1
    assert "tweakio/metadata.json" in done.stderr


def test_a_locale_that_knows_no_letters(tree, commit, git):
    (tree / "ü.key").write_bytes(b"x")
    git("add", "-f", "--", "*.key")
    done = commit(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert done.returncode == 1
    assert "a secret" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_any_python_it_refuses_and_says_how_to_go_on(tree, commit):
    hook = tree / ".git/hooks/pre-commit"
    text = hook.read_text()
    hook.write_text(text.replace(sys.executable, "/nonexistent/python"))
    (tree / "alpha/metadata.json").write_bytes(edited(tree, note="x"))
    done = commit("-a")
    if done.returncode:  # unless the machine's own Python has tweakio
        assert "no Python here has tweakio" in done.stderr
        assert "doctor --fix" in done.stderr
        assert "Traceback" not in done.stderr
    assert commit("-a", "--no-verify").returncode == 0 or not done.returncode


# Installing


def test_it_is_executable_and_readable_by_its_owner_only_in_content(tree):
    hook = tree / ".git/hooks/pre-commit"
    assert os.access(hook, os.X_OK)
    assert "@PYTHON@" not in hook.read_text()


def test_a_persons_own_hook_is_left(two, tree, tmp_path):
    own = "#!/bin/sh\nexit 0\n"
    other = tmp_path / "other"
    other.mkdir()
    subprocess.run(["git", "clone", "-q", tree, other / "profiles"], check=True)
    hook = other / "profiles/.git/hooks/pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(own)
    with ProfileManager(other) as manager:
        manager.create_profile("gamma", "custom")
    assert hook.read_text() == own


def test_a_clone_gets_it(two, tree, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    subprocess.run(["git", "clone", "-q", tree, other / "profiles"], check=True)
    with ProfileManager(other) as manager:
        manager.create_profile("gamma", "custom")
    hook = other / "profiles/.git/hooks/pre-commit"
    assert "tweakio hook" in hook.read_text()
    assert os.access(hook, os.X_OK)


def test_the_shipped_hook_is_shell_that_every_sh_reads():
    source = Path(__file__).resolve().parent.parent / "hooks" / "pre-commit"
    assert subprocess.run(["sh", "-n", source]).returncode == 0
