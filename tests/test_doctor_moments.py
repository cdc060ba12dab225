"""What cannot be read now is no damage: the doctor says so, and repairs nothing.

With real limits, another user, and errors of the system that strace puts in.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cli_helpers import COMMAND, Cli, Result, environment, run_in_terminal
from invariants import nothing_lost

from tests.doctor.homes import everything
from tweakio import ProfileManager
from tweakio.doctor.witness import find_witness

if os.name != "posix":
    pytest.skip("limits, users and strace of POSIX", allow_module_level=True)

NOBODY = 65534
IS_ROOT = os.geteuid() == 0


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound home: one pack of an older history, and one for each commit since."""
    home = tmp_path_factory.mktemp("moments") / "home"
    with ProfileManager(home) as manager:
        for name in ("p1", "p2", "p3"):
            manager.create_profile(name, "custom")
        for number in range(4):
            manager.update_profiles(["p1"], note=f"old {number}")
        (home / "profiles/p1/browser_profile/Cookies").write_text("precious")
        manager.gc()
        for number in range(8):
            manager.update_profiles(["p2"], note=f"new {number}")
    git(home, "status")
    return home


@pytest.fixture
def cli(template: Path) -> Iterator[Cli]:
    """A copy, at a place that another user can reach."""
    base = Path(tempfile.mkdtemp(prefix="tweakio-test-"))
    base.chmod(0o755)
    shutil.copytree(template, base / "home", symlinks=True)
    yield Cli(base)
    subprocess.run(["chmod", "-R", "u+rwX", base], check=True)
    shutil.rmtree(base)


def git(home: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-c", "safe.directory=*", "-C", home / "profiles", *arguments],
        capture_output=True,
        check=True,
    )
    return done.stdout.decode().strip()


def packs(cli: Cli) -> list[Path]:
    """The packs, the largest and with it the oldest first."""
    found = (cli.profiles / ".git/objects/pack").glob("*.pack")
    return sorted(found, key=lambda path: (-path.stat().st_size, path.name))


def pack_of_head(cli: Cli) -> Path:
    name = git(cli.home, "rev-parse", "HEAD")
    for path in packs(cli):
        index = path.with_suffix(".idx").read_bytes()
        if bytes.fromhex(name) in index:
            return path
    raise AssertionError(name)


def started(cli: Cli, *command: str) -> Result:
    """A command in a process of its own."""
    done = subprocess.run(
        [*command, *COMMAND[:1], "-B", *COMMAND[1:], "repo", "doctor", "--fix", "--yes"],
        capture_output=True,
        env=environment(cli.base),
        cwd=cli.base,
        timeout=60,
    )
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


def assert_unchanged(cli: Cli, before: dict[str, tuple[int, int, int, bytes]]) -> None:
    assert everything(cli.home) == before


# Limits


@pytest.mark.parametrize("limit", [8, 16, 19, 24])
def test_few_descriptors(cli: Cli, limit: int) -> None:
    commits = git(cli.home, "rev-list", "--all", "--reflog")
    before = everything(cli.home)
    result = started(cli, "sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh")
    assert result.code == (0 if limit > 16 else 17), result
    if result.code:
        assert "Too many open files" in result.err
        assert f"may have {limit}:" in result.err
        assert "ulimit -n 1024" in result.err
        assert_unchanged(cli, before)
    assert git(cli.home, "rev-list", "--all", "--reflog") == commits
    assert git(cli.home, "fsck", "--no-dangling") == ""


# Permissions


def refused(cli: Cli, path: Path, *, whole: bool = True) -> Result:
    """Have a file or a directory refuse this user or, of root, another one."""
    user: list[str] = []
    if IS_ROOT:
        if shutil.which("setpriv") is None:
            pytest.skip("setpriv is not installed, and root may read everything")
        user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", cli.base], check=True)
        if subprocess.run([*user, sys.executable, "-c", "import tweakio"], check=False).returncode:
            pytest.skip("another user cannot read this Python")
    path.chmod(0)
    before = everything(cli.home) if IS_ROOT else {}
    result = started(cli, *user)
    if IS_ROOT and whole:
        assert_unchanged(cli, before)
    path.chmod(0o700)
    return result


@pytest.mark.parametrize(
    "place",
    [
        *("objects/pack", "refs/heads/main", "tweakio/journal.json", "../p1/metadata.json", "."),
    ],
)
def test_no_permission(cli: Cli, place: str) -> None:
    commits = git(cli.home, "rev-list", "--all", "--reflog")
    path = (cli.profiles / ".git" / place).resolve()
    result = refused(cli, path)
    assert result.code == 19, result
    assert str(path) in result.err
    assert "mode 0000" in result.err
    assert f"chmod u+rwX {shlex.quote(str(path))}" in result.err
    assert git(cli.home, "rev-list", "--all", "--reflog") == commits


def test_metadata_that_cannot_be_read_is_not_made_anew(cli: Cli) -> None:
    """Where history is rebuilt from the profile directories."""
    shutil.rmtree(cli.profiles / ".git")
    path = cli.profiles / "p1/metadata.json"
    content = path.read_bytes()
    result = refused(cli, path, whole=False)
    assert result.code == 19, result
    assert path.read_bytes() == content
    assert not list(cli.profiles.glob(".git/*"))


@pytest.mark.parametrize("suffix", [".pack", ".idx"])
def test_a_pack_of_another_user(cli: Cli, suffix: str) -> None:
    """As root's ``git gc`` or a restored backup leaves it."""
    commits = git(cli.home, "rev-list", "--all", "--reflog")
    path = packs(cli)[0].with_suffix(suffix)
    if IS_ROOT:
        subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", cli.base], check=True)
    result = refused(cli, path)
    assert result.code == 19, result
    assert str(path) in result.err
    assert git(cli.home, "rev-list", "--all", "--reflog") == commits
    assert not (cli.profiles / ".git/tweakio/damaged").exists()


# The device


def strace_works() -> bool:
    if shutil.which("strace") is None:
        return False
    done = subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, check=False)
    return done.returncode == 0


@pytest.mark.skipif(not strace_works(), reason="strace is not installed, or may not trace here")
@pytest.mark.parametrize("when", ["1+", "2"])
@pytest.mark.parametrize(
    ("error", "place"),
    [("EIO", "pack"), ("ESTALE", "ref"), ("ENOMEM", "idx")],
)
def test_an_error_of_the_device(cli: Cli, error: str, place: str, when: str) -> None:
    path = {
        "pack": pack_of_head(cli),
        "idx": pack_of_head(cli).with_suffix(".idx"),
        "ref": cli.profiles / ".git/refs/heads/main",
    }[place]
    commits = git(cli.home, "rev-list", "--all", "--reflog")
    before = everything(cli.home)
    inject = f"inject=openat:error={error}:when={when}"
    result = started(cli, "strace", "-qq", "-o", os.devnull, "-P", str(path), "-e", inject)
    # Read again, it can be there: then all is well.
    assert result.code == 17 or (result.code == 0 and when == "2"), result
    if result.code:
        assert str(path) in result.err
        assert_unchanged(cli, before)
    assert git(cli.home, "rev-list", "--all", "--reflog") == commits
    assert git(cli.home, "fsck", "--no-dangling") == ""


# Objects in other places


def pasted(cli: Cli, err: str) -> None:
    """Run what the hint says."""
    (hint,) = (line for line in err.splitlines() if line.startswith("tweakio: hint: run"))
    command = hint.removeprefix("tweakio: hint: run").strip(": ").strip("'")
    subprocess.run(["sh", "-c", command], check=True, capture_output=True, cwd=cli.base)


def replace_by_clone(cli: Cli, *options: str) -> None:
    source = cli.base / "source"
    cli.home.rename(source)
    url = f"file://{source}/profiles"
    where = [source / "profiles"] if "--shared" in options else [url]
    git(source, "config", "uploadpack.allowFilter", "true")
    cli.home.mkdir()
    subprocess.run(["git", "clone", "-q", *options, *where, cli.profiles], check=True)


@pytest.mark.parametrize("option", ["--shared", "--filter=blob:none", "--filter=tree:0"])
def test_objects_in_another_place(cli: Cli, option: str) -> None:
    commits = git(cli.home, "rev-list", "--all")
    replace_by_clone(cli, *([option] if option == "--shared" else [option, "--no-checkout"]))
    before = everything(cli.home)
    result = cli.run("repo", "doctor", "--fix", "--yes")
    assert result.code == 17, result
    assert_unchanged(cli, before)
    pasted(cli, result.err)
    if option != "--shared":
        git(cli.home, "checkout", "-q", "main")
    cli.ok("repo", "doctor", "--fix")
    assert git(cli.home, "rev-list", "--all") == commits


def test_alternates_that_are_gone(cli: Cli) -> None:
    """Nobody can say that they do not come back, as a drive does; a person can."""
    replace_by_clone(cli, "--shared")
    (cli.base / "source").rename(cli.base / "elsewhere")
    before = everything(cli.home)
    assert cli.run("repo", "doctor", "--fix", "--yes").code == 17
    assert_unchanged(cli, before)
    (cli.base / "elsewhere").rename(cli.base / "source")
    assert git(cli.home, "fsck") == ""


def test_what_only_git_can_read_is_not_lost(cli: Cli) -> None:
    """An object that is larger than any of ours."""
    (cli.profiles / "p1/metadata.json").rename(cli.base / "kept")
    with (cli.profiles / "p1/metadata.json").open("wb") as file:
        file.truncate((64 << 20) + 1)
    git(cli.home, "commit", "-q", "--no-verify", "-m", "large", "p1/metadata.json")
    (cli.base / "kept").replace(cli.profiles / "p1/metadata.json")
    git(cli.home, "commit", "-q", "--no-verify", "-m", "small", "p1/metadata.json")
    commits = git(cli.home, "rev-list", "--all", "--reflog")
    for packed in (False, True):
        if packed:
            git(cli.home, "repack", "-q", "-a", "-d")
        result = cli.ok("repo", "doctor", "--fix")
        assert [row[0] for row in result.rows] == ["only-git"]
        assert git(cli.home, "rev-list", "--all", "--reflog") == commits
        assert git(cli.home, "fsck", "--no-dangling") == ""


def test_git_is_asked_without_the_configuration_of_the_repository(cli: Cli) -> None:
    name = git(cli.home, "rev-parse", "HEAD")
    other = git(cli.home, "rev-parse", "HEAD~1")
    body = git(cli.home, "cat-file", "commit", "HEAD")
    git(cli.home, "replace", name, other)
    ran = cli.base / "ran"
    (cli.profiles / ".git/config").write_text(f"[core]\n\tfsmonitor = touch {ran}\n\0garbage")
    witness = find_witness(cli.profiles / ".git/objects")
    assert witness is not None
    (read,) = witness.read([name, "1" * 40], 1 << 20)
    assert (read.name, read.kind) == (name, b"commit")
    assert read.body is not None
    assert read.body.decode().strip() == body
    assert not ran.exists()


def test_a_git_that_writes_less_than_it_said_is_not_waited_for(cli: Cli) -> None:
    """The head of a loose object can lie; what is asked for next is read all the same."""
    sound = git(cli.home, "rev-parse", "HEAD")
    objects = cli.profiles / ".git/objects"
    for name, said in (("22" * 20, 1000), ("33" * 20, 3)):
        path = objects / name[:2] / name[2:]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(zlib.compress(b"blob %d\0" % said + b"x" * 500))
    witness = find_witness(objects)
    assert witness is not None
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(lambda: list(witness.read([sound, "22" * 20, sound, "33" * 20], 9999)))
        found = asked.result(timeout=30)
    assert [read.name for read in found] == [sound, sound]


# What is certainly lost, and the consent to go on without it


def lose(cli: Cli, revision: str) -> str:
    """Remove one object for good; its id."""
    name = git(cli.home, "rev-parse", revision)
    for path in packs(cli):
        data = path.read_bytes()
        for each in path.parent.glob(f"{path.stem}.*"):
            each.unlink()
        subprocess.run(["git", "-C", cli.profiles, "unpack-objects", "-q"], input=data, check=True)
    (cli.profiles / ".git/objects" / name[:2] / name[2:]).unlink()
    return name


def test_history_is_not_cut_without_a_yes(cli: Cli) -> None:
    lost = lose(cli, "HEAD~5^{tree}")
    commits = set(git(cli.home, "rev-list", "--all", "--reflog").split())
    (cli.profiles / ".git/index").write_bytes(b"")
    above = git(cli.home, "rev-parse", "HEAD~4")[:12]
    result = cli.run("repo", "doctor", "--fix")
    assert result.code == 14
    rows = {row[0]: row for row in result.rows}
    assert f"history before {above}: " in rows["old-history-damaged"][3]
    assert "doctor --fix --yes" in rows["old-history-damaged"][4]
    assert rows["old-history-damaged"][2] != "fixed"
    # The rest is repaired.
    assert rows["index-damaged"][2] == "fixed"
    assert lost[:12] in rows["old-history-damaged"][3]
    assert not (cli.profiles / ".git/shallow").exists()
    assert set(git(cli.home, "rev-list", "--all", "--reflog").split()) >= commits
    assert cli.ok("profile", "list").lines
    agreed = cli.ok("repo", "doctor", "--fix", "--yes")
    assert f"given up is history before {above}: 11 commits, of which 10 can" in agreed.out
    assert (cli.profiles / ".git/shallow").read_text().strip()[:12] == above
    assert git(cli.home, "fsck", "--no-dangling") == ""


def test_head_does_not_go_back_without_a_yes(cli: Cli) -> None:
    lost = lose(cli, "HEAD")
    for _ in range(2):
        result = cli.run("repo", "doctor", "--fix")
        assert result.code == 14
        assert "1 commit" in result.out
        assert (cli.profiles / ".git/refs/heads/main").read_text().strip() == lost
        assert lost in (cli.profiles / ".git/logs/HEAD").read_text()
    cli.ok("repo", "doctor", "--fix", "--yes")
    assert {row[0] for row in cli.ok("profile", "list").rows} == {"p1", "p2", "p3"}


@pytest.mark.parametrize(("answer", "code"), [(b"n\n", 14), (b"\n", 14), (b"y\n", 0)])
def test_a_person_is_asked(cli: Cli, answer: bytes, code: int) -> None:
    lost = lose(cli, "HEAD")
    done, text = run_in_terminal(cli, "repo", "doctor", "--fix", typed=answer, columns=300)
    assert done == code, text
    assert "go on without it? [y/N]" in text
    assert "giving up history after" in text
    is_there = (cli.profiles / ".git/refs/heads/main").read_text().strip() == lost
    assert is_there == (code == 14)


def test_nothing_is_rebuilt_without_a_yes(cli: Cli) -> None:
    """Objects that were moved away come back, and with them all of history."""
    commits = git(cli.home, "rev-list", "--all", "--reflog")
    objects = cli.profiles / ".git/objects/pack"
    objects.rename(cli.base / "pack")
    objects.mkdir()
    result = cli.run("repo", "doctor", "--fix")
    assert result.code == 14
    assert "the whole history: 16 commits" in result.out
    assert list(cli.home.iterdir()) == [cli.profiles]
    objects.rmdir()
    (cli.base / "pack").rename(objects)
    cli.ok("repo", "doctor")
    assert git(cli.home, "rev-list", "--all", "--reflog") == commits


def command_of(cli: Cli, err: str) -> str:
    (line,) = (line for line in err.splitlines() if "to bring it back: " in line)
    return line.partition("to bring it back: ")[2]


def test_a_git_directory_that_was_put_aside_comes_back(cli: Cli) -> None:
    cli.ok("profile", "delete", "p3")
    commits = git(cli.home, "rev-list", "--all", "--reflog")
    objects = cli.profiles / ".git/objects"
    objects.rename(cli.base / "objects")
    result = cli.ok("repo", "doctor", "--fix", "--yes")
    (aside,) = cli.home.glob("damaged-git-*")
    assert f"set aside: {aside}" in result.err
    (aside / "objects").exists() and shutil.rmtree(aside / "objects")
    (cli.base / "objects").rename(aside / "objects")
    subprocess.run(["sh", "-c", command_of(cli, result.err)], check=True)
    assert git(cli.home, "rev-list", "--all", "--reflog") == commits
    cli.ok("repo", "doctor", "--fix")
    assert git(cli.home, "rev-list", "--all", "--reflog") == commits
    # The trash, which the new one had taken over, too.
    cli.ok("profile", "undo")
    assert {row[0] for row in cli.ok("profile", "list").rows} == {"p1", "p2", "p3"}


def test_damaged_files_come_back(cli: Cli) -> None:
    pack = packs(cli)[0]
    data = pack.read_bytes()
    damaged = data[:-30] + bytes(30)
    pack.chmod(0o600)
    pack.write_bytes(damaged)
    (cli.profiles / ".git/refs/heads/side").write_bytes(b"garbage")
    result = cli.run("repo", "doctor", "--fix")
    assert not pack.exists()
    assert not (cli.profiles / ".git/refs/heads/side").exists()
    subprocess.run(["sh", "-c", command_of(cli, result.err)], check=True)
    assert pack.read_bytes() == damaged
    assert (cli.profiles / ".git/refs/heads/side").read_bytes() == b"garbage"


def test_yes_alone_is_refused(cli: Cli) -> None:
    assert cli.run("repo", "doctor", "--yes").code == 2


def test_the_consent_is_asked_of_a_function(cli: Cli) -> None:
    lose(cli, "HEAD~5^{tree}")
    asked: list[str] = []

    def answer(loss: str) -> bool:
        asked.append(loss)
        return len(asked) > 1

    with ProfileManager(cli.home) as manager:
        assert manager.doctor().losses == []
        assert not asked
        report = manager.doctor(fix=True, cut=answer)
        assert not report.healthy
        assert report.losses == asked
        with nothing_lost(cli.home) as said:
            report = manager.doctor(fix=True, cut=answer)
            said += [item.message for item in report.findings if item.fixed]
        assert report.healthy
        assert report.losses == []
    assert len(asked) == 2
