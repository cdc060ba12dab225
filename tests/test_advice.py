"""What a hint advises, done in the situation that prints it, with plain git beside tweakio."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_helpers import COMMAND, Cli, Result, environment

NEW = ("profile", "create", "z", "--platform", "custom")
GIT = {"GIT_EDITOR": "true", "GIT_COMMITTER_NAME": "T", "GIT_COMMITTER_EMAIL": "t@example.org"}

if os.name != "posix":
    pytest.skip("hints are done by a POSIX shell", allow_module_level=True)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cli = Cli(tmp_path_factory.mktemp("advice"))
    cli.create("p1", "p2")
    for number in range(3):
        cli.ok("profile", "set", "p1", "--note", str(number))
    (cli.profiles / "p1/browser_profile/Cookies").write_text("cookies")
    return cli.base


@pytest.fixture
def cli(template: Path, tmp_path: Path) -> Cli:
    shutil.copytree(template / "home", tmp_path / "home", symlinks=True)
    program = tmp_path / "bin" / "tweakio"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
    program.chmod(0o755)
    return Cli(tmp_path)


def shell(cli: Cli, script: str, *, code: int = 0) -> str:
    done = subprocess.run(
        ["sh", "-c", script],
        cwd=cli.profiles if cli.profiles.is_dir() else cli.base,
        env=environment(cli.base, PATH=f"{cli.base / 'bin'}:{os.environ['PATH']}", **GIT),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == code, done
    return done.stdout + done.stderr


def advice(text: str) -> str:
    """The last command that a text advises, as it is to be pasted."""
    line = next(line for line in reversed(text.splitlines()) if "hint: " in line)
    hint = line.partition("hint: ")[2]
    return (
        quoted[-1]
        if (quoted := re.findall("'((?:git|tweakio) [^']*)'", hint))
        else (
            hint[re.search(r"\b(?:git|rm|chmod|tweakio) ", hint).start() :]  # type: ignore[union-attr]
        )
    )


def doctor_hint(cli: Cli, code: str) -> str:
    findings = json.loads(cli.run("repo", "doctor", "--json").out)["findings"]
    [found] = [item for item in findings if item["code"] == code]
    return f"hint: {found['hint']}"


def change(cli: Cli) -> Result:
    return cli.run("profile", "set", "p2", "--note", "changed")


def edit(cli: Cli, note: str) -> None:
    path = cli.profiles / "p1/metadata.json"
    value = json.loads(path.read_bytes())
    path.write_text(json.dumps({**value, "note": note}, indent=2, ensure_ascii=False) + "\n")


def clash(cli: Cli) -> None:
    """A branch ``side`` that has another note than the one we are on."""
    shell(cli, "git switch -q -c side HEAD~1")
    edit(cli, "side")
    shell(cli, "git commit -qam side && git switch -q main")


# What is under way

UNDER_WAY: dict[str, str] = {
    "rebase": "GIT_SEQUENCE_EDITOR='sed -i 1s/pick/edit/' git rebase -i HEAD~2",
    "rebase, in conflict": "! git rebase side",
    "merge": "! git merge side",
    "cherry-pick": "! git cherry-pick side",
    "revert": "! git revert --no-edit HEAD~1",
    "stash": "! git stash pop",
    "am": "git format-patch -1 --stdout side >../patch && ! git am -q ../patch",
    "bisect": "git bisect start && git bisect bad && git bisect good HEAD~3",
    "detached": "git checkout -q HEAD~1",
    "detached, of another name": "git branch -m main trunk && git checkout -q --detach",
    "detached, of several names": "git branch -m main trunk && git checkout -q --detach trunk",
}


@pytest.mark.parametrize("what", UNDER_WAY)
def test_what_is_under_way_is_ended_as_the_hint_says(cli: Cli, what: str) -> None:
    clash(cli)
    if what == "stash":
        edit(cli, "stashed")
        shell(cli, "git stash -q")
        cli.ok("profile", "set", "p1", "--note", "other")
    shell(cli, UNDER_WAY[what])
    detached = what.startswith(("rebase", "bisect", "detached"))
    for command in (["redo"] * detached, ["set", "p2", "--note", "x"], ["undo"]):
        if not command:
            continue  # there is nothing to redo, in the midst of a merge or not
        refused = cli.run("profile", *command)
        assert refused.code == 15, refused
    shell(cli, advice(refused.err))
    done = change(cli)
    assert done.code == 0, done
    assert not shell(cli, "git status --porcelain")
    assert cli.run("repo", "doctor").code == 0


@pytest.mark.parametrize("what", ["rebase", "cherry-pick", "bisect", "detached, of another name"])
def test_the_doctor_advises_the_same(cli: Cli, what: str) -> None:
    clash(cli)
    shell(cli, UNDER_WAY[what])
    code = "git-in-progress" if what == "cherry-pick" else "head-detached"
    shell(cli, advice(doctor_hint(cli, code)))
    assert change(cli).code == 0


@pytest.mark.parametrize(
    "command",
    [
        "git merge side",
        "git rebase side",
        "git cherry-pick side",
        "git revert HEAD~1",
        "git stash pop",
    ],
)
def test_a_conflict_is_given_up_as_the_merge_driver_says(cli: Cli, command: str) -> None:
    clash(cli)
    if "stash" in command:
        edit(cli, "stashed")
        shell(cli, "git stash -q")
        cli.ok("profile", "set", "p1", "--note", "other")
    head = shell(cli, "git rev-parse HEAD")
    said = shell(cli, f"! {command} 2>&1")
    assert "tweakio: conflict in p1/metadata.json: note" in said
    [hint] = [line for line in said.splitlines() if line.startswith("tweakio: hint: ")]
    shell(cli, hint.partition("give up: ")[2])
    assert shell(cli, "git rev-parse HEAD; git status --porcelain") == head
    assert change(cli).code == 0
    if "stash" in command:
        assert "stash@{0}" in shell(cli, "git stash list")


@pytest.mark.parametrize("options", ["--no-rebase", "--rebase"])
def test_a_pull_in_conflict_is_given_up_and_done_by_tweakio(cli: Cli, options: str) -> None:
    shell(cli, "git clone -q --bare . ../../remote.git")
    clash(cli)
    shell(cli, "git push -q --no-verify ../../remote.git side:main -f")
    cli.ok("repo", "remote", "add", "origin", str(cli.base / "remote.git"))
    said = shell(cli, f"! git pull -q {options} origin main 2>&1")
    [hint] = [line for line in said.splitlines() if line.startswith("tweakio: hint: ")]
    match = re.fullmatch(r"tweakio: hint: (git .*), then '(.*) --edit' .*", hint)
    assert match, hint
    shell(cli, match[1])
    shell(cli, f"{match[2]} --ours")
    assert cli.run("repo", "doctor").code == 0


# What plain git may have changed


def test_a_branch_that_stands_for_another_stays_one(cli: Cli) -> None:
    shell(cli, "git symbolic-ref refs/heads/alias refs/heads/main")
    shell(cli, "git symbolic-ref HEAD refs/heads/alias")
    assert change(cli).code == 0
    assert shell(cli, "git symbolic-ref refs/heads/alias").strip() == "refs/heads/main"
    assert shell(cli, "git rev-parse main") == shell(cli, "git rev-parse HEAD")
    cli.ok("profile", "undo")
    assert cli.run("repo", "doctor").out == ""
    shell(cli, "git pack-refs --all && git fsck --strict")
    assert change(cli).code == 0


@pytest.mark.parametrize("how", ["commit -qam x", "commit -qm x p1/metadata.json", "commit -qm x"])
def test_a_file_that_can_be_run_is_refused_as_that(cli: Cli, how: str) -> None:
    shell(cli, "git config core.fileMode true && chmod +x p1/metadata.json")
    if not how.endswith(("json", "-qam x")):
        shell(cli, "git add -u")
    said = shell(cli, f"! git {how} 2>&1")
    assert "p1/metadata.json: a file that can be run" in said
    shell(cli, advice(said))
    assert not shell(cli, "git status --porcelain")
    assert change(cli).code == 0


def test_hooks_that_git_looks_for_elsewhere(cli: Cli) -> None:
    shell(cli, "mkdir ../hooks && git config core.hooksPath ../hooks")
    shell(cli, advice(doctor_hint(cli, "hooks-elsewhere")))
    assert cli.run("repo", "doctor").out == ""
    (cli.profiles / "p1/session.json").write_text("{}")
    assert "commit refused" in shell(cli, "git add -f p1/session.json; ! git commit -qm x 2>&1")


def test_hooks_that_the_user_has_elsewhere(cli: Cli) -> None:
    config = cli.base / "gitconfig"
    config.write_text("[core]\n\thooksPath = ~/hooks\n")
    done = cli.run("repo", "doctor", GIT_CONFIG_GLOBAL=str(config))
    assert (done.code, done.rows[0][0]) == (0, "hooks-elsewhere")
    assert "'~/hooks'" in done.out


# Where the repository is


def elsewhere(cli: Cli) -> dict[str, tuple[Path, str]]:
    return {
        "linked": (cli.base / "linked", "git worktree add -q ../../linked/profiles -b other"),
        "submodule": (
            cli.base / "super",
            (
                "git init -q ../../super && cd ../../super && "
                f"git -c protocol.file.allow=always submodule add -q {cli.profiles} profiles"
            ),
        ),
        "separate": (
            cli.base / "separate",
            (
                "mkdir ../../separate && "
                "git clone -q --separate-git-dir=../../apart . ../../separate/profiles"
            ),
        ),
        "shared": (
            cli.base / "shared",
            "mkdir ../../shared; git clone -q --shared . ../../shared/profiles",
        ),
    }


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("linked", "a linked work tree"),
        ("submodule", "a submodule"),
        ("separate", "separated from its git directory"),
        ("shared", "objects of this repository are in another one"),
    ],
)
def test_a_profile_repository_whose_parts_are_elsewhere(cli: Cli, kind: str, said: str) -> None:
    home, made = elsewhere(cli)[kind]
    shell(cli, made)
    before = sorted(home.rglob("*"))
    for arguments in (("profile", "list"), ("repo", "doctor", "--fix"), NEW):
        refused = cli.run("--home", str(home), *arguments)
        assert refused.code in (13, 17), refused
        assert said in refused.err
        assert "something else" not in refused.err
    assert sorted(home.rglob("*")) == before
    hint = advice(refused.err)
    if " clone " in hint:
        hint = hint.replace("NEW", str(cli.base / "new"))
        home = cli.base / "new"
    shell(cli, hint)
    assert cli.ok("--home", str(home), "profile", "list").rows[0][0] == "p1"
    cli.ok("--home", str(home), "profile", "set", "p1", "--note", "there")


@pytest.mark.parametrize("options", [(), ("--fix",)])
@pytest.mark.parametrize("kind", ["", "--bare"])
@pytest.mark.parametrize("where", ["", "profiles"])
def test_the_doctor_refuses_a_repository_of_something_else(
    cli: Cli, where: str, kind: str, options: tuple[str, ...]
) -> None:
    home = cli.base / "other"
    shell(cli, f"git init -q {kind} {home / where}")
    before = sorted(home.rglob("*"))
    for arguments in (("repo", "doctor", *options), NEW):
        done = cli.run("--home", str(home), *arguments)
        assert (done.code, "a git repository of something else" in done.err) == (13, True), done
    assert sorted(home.rglob("*")) == before


def test_a_bundle_is_pulled_from_and_not_pushed_to(cli: Cli) -> None:
    bundle = cli.base / "all.bundle"
    shell(cli, f"git bundle create -q {bundle} main")
    cli.ok("repo", "remote", "add", "file", str(bundle))
    cli.ok("repo", "pull")
    cli.ok("profile", "set", "p1", "--note", "newer")
    for command in ("push", "sync"):
        refused = cli.run("repo", command, "file")
        assert refused.code == 39
        assert "can be pulled from, and not be pushed to" in refused.err
    mend = advice(refused.err).replace("PATH", str(cli.base / "bare")).replace("NAME", "other")
    shell(cli, mend)
    cli.ok("repo", "push", "other")


# What the file system lacks


def injected(cli: Cli, number: int, *arguments: str) -> Result:
    """A command where no file can be locked."""
    if shutil.which("strace") is None:
        pytest.skip("no strace")
    done = subprocess.run(
        ["strace", "-f", "-o", os.devnull, "-e", f"inject=flock:error={errno.errorcode[number]}",
         *COMMAND, *arguments],
        env=environment(cli.base), cwd=cli.base, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.mark.skipif(sys.platform != "linux", reason="errors are put in by strace")
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS])
def test_a_file_system_without_locks(cli: Cli, number: int) -> None:
    new = cli.base / "new"
    for home, command in ((new, NEW), (cli.home, ("profile", "set", "p1", "--note", "x"))):
        refused = injected(cli, number, "--home", str(home), *command)
        assert refused.code == 17, refused
        assert "has no locks" in refused.err
        assert "hint: give a --home on a local disk" in refused.err
    assert not new.exists()
    listed = injected(cli, number, "profile", "list")
    assert (listed.code, len(listed.rows)) == (0, 2)
    cli.ok("--home", str(new), "profile", "create", "z", "--platform", "custom")


@pytest.fixture
def small(tmp_path: Path) -> Callable[[int], Path]:
    def mount(inodes: int) -> Path:
        place = tmp_path / "small"
        place.mkdir()
        made = f"mount -t tmpfs -o nr_inodes={inodes},size=20m none {place}"
        if os.geteuid() != 0 or subprocess.run(made.split(), check=False).returncode:
            pytest.skip("nothing can be mounted here")
        mounted.append(place)
        return place

    mounted: list[Path] = []
    yield mount  # type: ignore[misc]
    for place in mounted:
        subprocess.run(["umount", place], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_inodes_that_are_used_up(cli: Cli, small: Callable[[int], Path]) -> None:
    place = small(400)
    home = place / "home"
    shutil.copytree(cli.home, home, symlinks=True)
    files = []
    while True:
        path = place / f"file{len(files)}"
        try:
            path.touch()
        except OSError:
            break
        files.append(path)
    refused = cli.run("--home", str(home), "profile", "set", "p1", "--note", "x")
    assert refused.code == 18
    assert "hint: remove some files" in refused.err
    for path in files[:20]:
        path.unlink()
    cli.ok("--home", str(home), "profile", "set", "p1", "--note", "x")
