"""What cannot be read now is not damage: limits, owners and disks that are real.

Every command is a process of its own. Whatever it says, HEAD, the objects and the profiles' data
have to be as they were.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli_helpers import COMMAND, environment
from tests.invariants import git, tree_digest
from tweakio import ProfileManager, durable
from tweakio.errors import RepositoryDamagedError, StorageError
from tweakio.store.elsewhere import objects_elsewhere, refuse_elsewhere
from tweakio.store.objects import ObjectReader, object_id
from tweakio.store.packs.commit import CommitPack
from tweakio.store.refs import Refs

resource = pytest.importorskip("resource", reason="limits of descriptors are of POSIX")
pytestmark = pytest.mark.no_cover  # a limit of descriptors leaves none for the record

COMMANDS = {
    "list": ["profile", "list"],
    "show": ["profile", "show", "p1"],
    "set": ["profile", "set", "p1", "--note", "new"],
    "undo": ["profile", "undo"],
    "activate": ["profile", "activate", "p2"],
    "history": ["profile", "history"],
    "status": ["profile", "status", "p1"],
    "recover": ["profile", "recover", "p1"],
    "recover hard": ["profile", "recover", "p1", "--mode", "hard"],
}
OF_THE_MOMENT = (17, 18, 19)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a browser's data, and packs: one large, and one for each commit since."""
    home = tmp_path_factory.mktemp("made") / "home"
    with ProfileManager(home) as manager:
        for name in ("p1", "p2", "p3"):
            manager.create_profile(name, "custom")
        (home / "profiles" / "p1" / "browser_profile" / "Cookies").write_bytes(b"cookies" * 40)
        for number in range(3):
            manager.update_profiles(["p1"], note=f"first {number}")
        manager.gc()
        for number in range(4):
            manager.update_profiles(["p1"], note=f"then {number}")
    return home


@pytest.fixture
def base(made: Path) -> Iterator[Path]:
    """A copy of it, with its times, so that nothing looks changed; others may go there."""
    with tempfile.TemporaryDirectory(prefix="tweakio-reads-") as place:
        os.chmod(place, 0o755)
        home = Path(place, "home")
        subprocess.run(["cp", "-pPR", made, home], check=True)
        yield home


def run(
    home: Path, arguments: list[str], *, files: int = 0, before: list[str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A command, under a limit of descriptors, or behind another program."""

    def limit() -> None:
        if files:
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

    return subprocess.run(
        [*(before or ()), *COMMAND, *arguments],
        env=environment(home.parent, TWEAKIO_HOME=str(home), PYTHONDONTWRITEBYTECODE="1"),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
        preexec_fn=limit,
    )  # fmt: skip


def state(home: Path) -> dict[str, str]:
    """HEAD, refs and objects as git has them, and the data of every profile."""
    profiles = home / "profiles"
    found = {"refs": git(profiles, "-c", "safe.directory=*", "for-each-ref").stdout.decode()}
    found["head"] = (profiles / ".git" / "HEAD").read_text()
    found["objects"] = tree_digest(profiles / ".git" / "objects")
    found |= {f"data of {path.name}": tree_digest(path) for path in sorted(profiles.glob("p?"))}
    return found


def refused(done: subprocess.CompletedProcess[str], *texts: str) -> None:
    """It ended with an error of the moment, in one line that says these."""
    assert done.returncode in OF_THE_MOMENT, done.stdout + done.stderr
    errors = [line for line in done.stderr.splitlines() if "error:" in line]
    assert len(errors) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "doctor" not in done.stderr
    for text in texts:
        assert text in done.stderr, done.stderr


def many_packs(home: Path, count: int) -> None:
    """Let there be so many packs, as a busy day leaves them."""
    objects = home / "profiles" / ".git" / "objects"
    temporary = home / "profiles" / ".git" / "tweakio" / "tmp"
    for number in range(count):
        body = b"%d" % number
        with durable.Batch() as batch:
            pack = CommitPack.prepare(temporary, [(object_id(b"blob", body), b"blob", body)], batch)
        pack.put_in_place(objects)


@pytest.mark.parametrize("what", ["list", "set", "undo", "history"])
def test_sixty_four_packs_need_few_descriptors(base: Path, what: str) -> None:
    many_packs(base, 64)
    done = run(base, COMMANDS[what], files=32)
    assert done.returncode == 0, done.stderr
    assert git(base / "profiles", "fsck", "--strict").returncode == 0


def test_all_packs_are_read_with_one_descriptor(base: Path) -> None:
    """Not only those of a command: of a history of which every commit is in a pack of its own."""
    objects = base / "profiles" / ".git" / "objects"
    reader = ObjectReader(objects)
    before = len(os.listdir("/dev/fd"))
    head = Refs(objects.parent, objects.parent).head()
    assert len(list(reader.first_parents(head))) == 11
    assert len(list(objects.glob("pack/*.pack"))) > 4
    assert len(os.listdir("/dev/fd")) <= before + 1
    reader.close()
    assert len(os.listdir("/dev/fd")) == before


EXHAUSTED = """\
import os, sys
from tweakio import ProfileManager
from tweakio.errors import StorageError
home, what, left = sys.argv[1], sys.argv[2], int(sys.argv[3])
taken = []
manager = ProfileManager(home)
try:
    while True:
        taken.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass
for descriptor in taken[:left]:
    os.close(descriptor)
calls = {
    "list": lambda: manager.list_profiles(),
    "show": lambda: manager.get_profile("p1"),
    "set": lambda: manager.update_profiles(["p1"], note="new"),
    "undo": lambda: manager.undo(),
    "activate": lambda: manager.select_profile("p2"),
    "history": lambda: manager.history(),
    "status": lambda: manager.browser_status("p1"),
    "recover": lambda: manager.recover_profile("p1"),
    "recover hard": lambda: manager.recover_profile("p1", "hard"),
}
try:
    calls[what]()
except StorageError as error:
    assert "Too many open files" in error.message and "\\n" not in error.message, error
    assert "ulimit" in error.hint and "64" in error.message, error
    os.write(1, b"refused")
else:
    os.write(1, b"done")
os._exit(0)
"""


@pytest.mark.parametrize("left", [0, 1])
@pytest.mark.parametrize("what", COMMANDS)
def test_a_program_that_has_used_up_its_descriptors(base: Path, what: str, left: int) -> None:
    """One with many sockets; with none left not even an import can be made."""
    before = state(base)
    done = subprocess.run(
        [sys.executable, "-c", EXHAUSTED, str(base), what, str(left)],
        env=environment(base.parent), capture_output=True, text=True, timeout=60, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
    )  # fmt: skip
    assert done.stdout in ("refused", "done"), done.stderr
    if not left:
        assert done.stdout == "refused"
    if done.stdout == "refused":
        assert state(base) == before
    assert git(base / "profiles", "fsck", "--strict").returncode == 0


# What another user owns, or a mode keeps from being read


def not_the_owner() -> list[str]:
    """What runs a command as somebody whom modes keep out."""
    if os.geteuid():
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root may read everything, and setpriv (util-linux) is not installed")
    return ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]


def give(path: Path) -> None:
    """Let the user of ``not_the_owner`` own all that is below."""
    if os.geteuid():
        return
    for directory, names, files in os.walk(path):
        for name in (".", *names, *files):
            os.chown(os.path.join(directory, name), 65534, 65534, follow_symlinks=False)


UNREADABLE = {
    "a pack": ".git/objects/pack/*.pack",
    "an index of a pack": ".git/objects/pack/*.idx",
    "the packs": ".git/objects/pack",
    "the branch": ".git/refs/heads/main",
    "HEAD": ".git/HEAD",
    "the configuration": ".git/config",
    "metadata": "p1/metadata.json",
    "a profile": "p1",
}


@pytest.mark.parametrize(
    ("what", "place"),
    [*(("recover hard", place) for place in UNREADABLE), *(("list", place) for place in UNREADABLE),
     ("undo", "a pack"), ("history", "the packs"), ("history", "metadata"),
     ("recover", "metadata"), ("set", "the branch"), ("activate", "the configuration")],
)  # fmt: skip
def test_a_mode_bit_is_no_damage(base: Path, what: str, place: str) -> None:
    before = state(base)
    profiles = base / "profiles"
    shutil.rmtree(profiles / ".git" / "tweakio" / "cache", ignore_errors=True)
    give(base.parent)
    found = sorted(profiles.glob(UNREADABLE[place]))
    modes = {path: path.stat().st_mode for path in found}
    for path in found:
        path.chmod(0)
    done = run(base, COMMANDS[what], before=not_the_owner())
    for path, mode in modes.items():
        path.chmod(mode)
    if done.returncode:
        refused(done, "Permission denied", "owner ", "mode 0000", "hint: run 'chmod u+rwX ")
        assert done.returncode == 19
    else:
        # History needs no work tree, and what is under "p1" nobody asked for.
        assert (what, place) == ("history", "metadata")
    assert state(base) == before


def test_what_the_hint_advises_helps(base: Path) -> None:
    (base / "profiles" / ".git" / "HEAD").chmod(0)
    give(base.parent)
    done = run(base, COMMANDS["list"], before=not_the_owner())
    refused(done, "HEAD")
    command = done.stderr.split("hint: run '")[1].split("'")[0]
    subprocess.run([*not_the_owner(), "sh", "-c", command], check=True)
    assert run(base, COMMANDS["list"], before=not_the_owner()).returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
def test_the_owner_is_named(base: Path) -> None:
    """A "git gc" by root leaves packs that only root can read."""
    give(base.parent)
    for path in (base / "profiles" / ".git" / "objects" / "pack").iterdir():
        os.chown(path, 0, 0)
        path.chmod(0o400)
    done = run(base, COMMANDS["undo"], before=not_the_owner())
    advice = f"{base / 'profiles' / '.git'}'"
    refused(done, "owner root", "hint: run 'sudo chown -R ", advice, "objects/pack/")


# Disks and network drives


@pytest.mark.parametrize(
    ("what", "name", "error"),
    [("list", "p1/metadata.json", "EIO"), ("list", "p1/metadata.json", "EMFILE"),
     ("recover hard", "p1/metadata.json", "EIO"), ("recover", "p1/metadata.json", "ENFILE"),
     ("undo", ".git/refs", "ESTALE"), ("history", ".idx", "ENOMEM"), ("history", ".idx", "EIO"),
     ("set", ".git/index", "EIO"), ("activate", "HEAD", "EMFILE")],
)  # fmt: skip
def test_an_error_of_the_disk(base: Path, what: str, name: str, error: str) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed (apt-get install strace)")
    profiles = base / "profiles"
    shutil.rmtree(profiles / ".git" / "tweakio" / "cache", ignore_errors=True)
    paths = [path for path in profiles.rglob("*") if str(path).endswith(name) or path.name == name]
    if name == ".git/refs":
        paths = [profiles / ".git" / "refs" / "heads" / "main"]
    before = state(base)
    narrowed = [word for path in paths for word in ("-P", str(path))]
    inject = f"inject=openat:error={error}"
    traced = ["strace", "-f", "-qq", "-o", os.devnull, *narrowed, "-e", inject]
    if subprocess.run([*traced, "true"], capture_output=True, check=False).returncode:
        pytest.skip("strace may not trace here (needs ptrace)")
    done = run(base, COMMANDS[what], before=traced)
    refused(done, name.rpartition("/")[2])
    assert done.returncode == 17
    assert state(base) == before


# Objects that lie elsewhere


def heal_with(hint: str) -> None:
    """Run what a hint advises, as a person pastes it."""
    command = hint.removeprefix("run: ").removeprefix("run '").removesuffix("'")
    subprocess.run(["sh", "-c", command], check=True, capture_output=True)


def cloned(base: Path, *options: str) -> Path:
    """A home whose repository git has cloned like that."""
    git(base / "profiles", "config", "uploadpack.allowFilter", "true")
    home = base.parent / "cloned"
    home.mkdir()
    source = (
        f"file://{base / 'profiles'}"
        if options[0].startswith("--filter")
        else str(base / "profiles")
    )
    done = git(base.parent, "clone", "-q", *options, source, str(home / "profiles"))
    assert done.returncode == 0, done.stderr
    return home


@pytest.mark.parametrize(
    "option", ["--shared", "--filter=blob:none", "--filter=tree:0"], ids=lambda option: option[2:8]
)
def test_objects_that_lie_elsewhere_are_not_lost(base: Path, option: str) -> None:
    home = cloned(base, option)
    git_dir = home / "profiles" / ".git"
    elsewhere = objects_elsewhere(git_dir)
    assert elsewhere is not None
    with pytest.raises(StorageError) as caught:
        refuse_elsewhere(git_dir, "commit 1")
    assert caught.value.exit_code == 17
    before = git(home / "profiles", "rev-list", "--all").stdout
    failed = run(home, ["profile", "undo"])
    refused(failed, "is not here: ", elsewhere.reason)
    assert git(home / "profiles", "rev-list", "--all").stdout == before
    heal_with(failed.stderr.strip().rpartition("hint: ")[2])
    done = run(home, ["profile", "undo"])
    assert done.returncode == 0, done.stderr
    assert run(home, ["profile", "history"]).returncode == 0
    assert git(home / "profiles", "fsck", "--strict").returncode == 0


def test_objects_in_a_pool_with_kept_packs_come_back_as_the_hint_says(base: Path) -> None:
    """Ours have a .keep, with which git's repack leaves their objects where they are."""
    git_dir = base / "profiles" / ".git"
    (git_dir / "objects").rename(base.parent / "pool")
    (git_dir / "objects" / "info").mkdir(parents=True)
    (git_dir / "objects" / "pack").mkdir()
    (git_dir / "objects" / "info" / "alternates").write_text(f"{base.parent / 'pool'}\n")
    failed = run(base, ["profile", "undo"])
    refused(failed, "is not here: ")
    heal_with(failed.stderr.strip().rpartition("hint: ")[2])
    (base.parent / "pool").rename(base.parent / "gone")
    assert run(base, ["profile", "undo"]).returncode == 0
    assert git(base / "profiles", "fsck", "--strict").returncode == 0
    assert run(base, ["repo", "doctor"]).returncode == 0


def test_nothing_is_elsewhere_in_a_plain_repository(base: Path) -> None:
    git_dir = base / "profiles" / ".git"
    assert objects_elsewhere(git_dir) is None
    git(base / "profiles", "remote", "add", "origin", "https://example.org/x.git")
    assert objects_elsewhere(git_dir) is None
    reader = ObjectReader(git_dir / "objects")
    with pytest.raises(RepositoryDamagedError, match="missing"):
        reader.read(b"1" * 20, b"blob")


# What macOS leaves everywhere


def test_what_macos_leaves_everywhere_is_no_pack_and_no_ref(base: Path) -> None:
    """AppleDouble files on drives without attributes, and the Finder's own."""
    git_dir = base / "profiles" / ".git"
    strange = b"\0\5\x16\7" + bytes(78)
    for path in [*(git_dir / "objects" / "pack").iterdir(), git_dir / "refs" / "heads" / "main"]:
        path.with_name(f"._{path.name}").write_bytes(strange)
    for place in ("objects/pack", "objects", "refs", "refs/heads", "logs"):
        (git_dir / place / ".DS_Store").write_bytes(strange)
    shutil.rmtree(git_dir / "tweakio" / "cache", ignore_errors=True)
    for what in ("list", "history", "undo", "set"):
        done = run(base, COMMANDS[what])
        assert done.returncode == 0, done.stderr
    assert run(base, ["repo", "doctor"]).returncode == 0
