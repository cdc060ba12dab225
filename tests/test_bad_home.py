"""A home that cannot be one: one clear line, its own exit code, nothing changed."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tweakio import ProfileManager
from tweakio.errors import (
    FileAccessError,
    ForeignRepositoryError,
    HomeNotFoundError,
    NewerFormatError,
    ProfileNotFoundError,
    RepositoryDamagedError,
    StorageError,
    TweakioError,
    storage_error,
)

ROOT = os.geteuid() == 0 if hasattr(os, "geteuid") else False
Call = Callable[[ProfileManager], object]

READS: dict[str, Call] = {
    "list": lambda manager: manager.list_profiles(),
    "get": lambda manager: manager.get_profile("a"),
    "history": lambda manager: manager.history(),
    "trash": lambda manager: manager.trash(),
    "diff": lambda manager: manager.diff("a"),
}
CHANGES: dict[str, Call] = {
    "create": lambda manager: manager.create_profile("new", "custom"),
    "activate": lambda manager: manager.activate_profile("a"),
    "delete": lambda manager: manager.delete_profile("a"),
    "set": lambda manager: manager.update_profiles(["a"], note="x"),
    "recover": lambda manager: manager.recover_profile("a"),
    "undo": lambda manager: manager.undo(),
    "restore": lambda manager: manager.restore("a", "HEAD"),
    "gc": lambda manager: manager.gc(),
    "migrate": lambda manager: manager.migrate(),
    "default": lambda manager: manager.ensure_default("custom"),
}
ALL = READS | CHANGES
# Without an old account there is nothing that a home would be needed for.
ALWAYS = {name: call for name, call in ALL.items() if name != "migrate"}


def everything(root: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """All that is there, with times and numbers."""
    found = {}
    for directory, names, files in os.walk(root):
        for name in (".", *names, *files):
            path = os.path.join(directory, name)
            status = os.lstat(path)
            content = b""
            if stat.S_ISREG(status.st_mode):
                content = Path(path).read_bytes()
            elif stat.S_ISLNK(status.st_mode):
                content = os.fsencode(os.readlink(path))
            found[path] = (status.st_mode, status.st_mtime_ns, status.st_ino, content)
    return found


@contextmanager
def untouched(root: Path) -> Iterator[None]:
    before = everything(root)
    yield
    assert everything(root) == before


def refused(home: Path, error: type[TweakioError], calls: dict[str, Call] = ALWAYS) -> None:
    """Every method says the same, in one line with a hint."""
    said: dict[str, object] = {}
    for name, call in calls.items():
        result: object
        with ProfileManager(home) as manager:
            try:
                result = call(manager)
            except TweakioError as caught:
                result = caught
        as_it_must = isinstance(result, error) and result.hint and "\n" not in str(result)
        if not as_it_must or type(result).exit_code == 1:
            said[name] = result
    assert said == {}


def git(path: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(path), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def somebody_s(path: Path, *options: str) -> Path:
    """A repository with a commit and a profile-like directory of somebody else."""
    subprocess.run(["git", "init", "-q", *options, str(path)], check=True)
    if "--bare" not in options:
        (path / "a").mkdir()
        (path / "a" / "metadata.json").write_text("{}")
        (path / "README").write_text("mine")
        git(path, "add", ".")
        git(path, "commit", "-q", "-m", "mine")
    return path


@pytest.fixture
def filled(home: Path) -> Path:
    with ProfileManager(home) as manager:
        manager.create_profile("a", "custom")
        (home / "profiles/a/browser_profile/data").write_text("precious")
    return home


# Not there, or no directory


def test_home_is_a_file(home: Path, tmp_path: Path) -> None:
    home.write_text("mine")
    with untouched(tmp_path):
        refused(home, HomeNotFoundError)
        with pytest.raises(HomeNotFoundError):
            ProfileManager(home).doctor(fix=True)


def test_home_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with untouched(tmp_path):
        refused(tmp_path / "file" / "home", HomeNotFoundError)


def test_home_is_missing(home: Path, tmp_path: Path) -> None:
    with untouched(tmp_path):
        refused(home, HomeNotFoundError, {name: READS[name] for name in READS})
        refused(home, TweakioError, {name: CHANGES[name] for name in ("activate", "delete", "set")})
    with ProfileManager(home) as manager:
        manager.create_profile("a", "custom")


def test_parent_is_missing(tmp_path: Path) -> None:
    with untouched(tmp_path):
        refused(tmp_path / "no" / "such" / "home", HomeNotFoundError)


def test_home_is_a_dangling_link(home: Path, tmp_path: Path) -> None:
    home.symlink_to(tmp_path / "nowhere")
    with untouched(tmp_path):
        refused(home, HomeNotFoundError)


def test_home_is_a_link_to_a_directory(home: Path, tmp_path: Path) -> None:
    """That is a person's choice, and works."""
    (tmp_path / "elsewhere").mkdir()
    home.symlink_to(tmp_path / "elsewhere")
    with ProfileManager(home) as manager:
        manager.create_profile("a", "custom")
    assert (tmp_path / "elsewhere/profiles/a/metadata.json").exists()


def test_empty_home(home: Path, tmp_path: Path) -> None:
    home.mkdir()
    with untouched(tmp_path), ProfileManager(home) as manager:
        assert manager.list_profiles() == []
        assert manager.history() == []
        assert manager.trash() == []
        assert manager.deactivate_profile() is None
        for name in ("get", "diff", "activate", "delete", "set", "recover"):
            with pytest.raises(ProfileNotFoundError):
                ALL[name](manager)


# Somebody else's


def test_home_is_a_repository(tmp_path: Path) -> None:
    home = somebody_s(tmp_path / "home")
    with untouched(tmp_path):
        refused(home, ForeignRepositoryError)


def test_home_is_a_bare_repository(tmp_path: Path) -> None:
    home = somebody_s(tmp_path / "home", "--bare")
    with untouched(tmp_path):
        refused(home, ForeignRepositoryError)


def test_profiles_is_a_repository(home: Path, tmp_path: Path) -> None:
    home.mkdir()
    somebody_s(home / "profiles")
    with untouched(tmp_path):
        refused(home, ForeignRepositoryError)
        with pytest.raises(ForeignRepositoryError):
            ProfileManager(home).doctor(fix=True)
    assert git(home / "profiles", "status", "--porcelain") == ""


def test_profiles_is_a_bare_repository(home: Path, tmp_path: Path) -> None:
    home.mkdir()
    somebody_s(home / "profiles", "--bare")
    with untouched(tmp_path):
        refused(home, ForeignRepositoryError)


def test_profiles_is_a_work_tree(home: Path, tmp_path: Path) -> None:
    """``.git`` is a file that names somebody else's git directory."""
    home.mkdir()
    main = somebody_s(tmp_path / "main")
    git(main, "worktree", "add", "-q", str(home / "profiles"))
    assert (home / "profiles" / ".git").is_file()
    with untouched(tmp_path):
        refused(home, ForeignRepositoryError)


def test_profiles_is_a_submodule(tmp_path: Path) -> None:
    somebody_s(tmp_path / "sub")
    outer = somebody_s(tmp_path / "outer")
    git(outer, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(tmp_path / "sub"),
        "home/profiles")  # fmt: skip
    with untouched(tmp_path):
        refused(outer / "home", ForeignRepositoryError)


def test_git_directory_is_a_link(filled: Path, tmp_path: Path) -> None:
    git_dir = filled / "profiles" / ".git"
    git_dir.rename(tmp_path / "elsewhere")
    git_dir.symlink_to(tmp_path / "elsewhere")
    with untouched(tmp_path):
        refused(filled, ForeignRepositoryError)


def test_git_directory_is_a_dangling_link(filled: Path, tmp_path: Path) -> None:
    shutil.rmtree(filled / "profiles" / ".git")
    (filled / "profiles" / ".git").symlink_to(tmp_path / "nowhere")
    with untouched(tmp_path):
        refused(filled, ForeignRepositoryError)


def test_profiles_is_a_link(home: Path, tmp_path: Path) -> None:
    home.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (home / "profiles").symlink_to(tmp_path / "elsewhere")
    with untouched(tmp_path):
        refused(home, ForeignRepositoryError, {"create": CHANGES["create"]})


def test_repository_around_the_home(tmp_path: Path) -> None:
    """Somebody keeps the home's parent in git: that is theirs, and this works all the same."""
    outer = somebody_s(tmp_path / "outer")
    with ProfileManager(outer / "home") as manager:
        manager.create_profile("a", "custom")
    assert git(outer / "home" / "profiles", "status", "--porcelain") == ""
    assert git(outer, "log", "--format=%s") == "mine"


def test_work_tree_without_its_git(filled: Path, tmp_path: Path) -> None:
    shutil.rmtree(filled / "profiles" / ".git")
    with untouched(tmp_path):
        refused(filled, RepositoryDamagedError)


# Newer


def test_newer_format(filled: Path, tmp_path: Path) -> None:
    git(filled / "profiles", "config", "tweakio.format", "2")
    with untouched(tmp_path):
        refused(filled, NewerFormatError)
        with pytest.raises(NewerFormatError):
            ProfileManager(filled).doctor(fix=True)


def test_newer_metadata(filled: Path) -> None:
    path = filled / "profiles" / "a" / "metadata.json"
    value = json.loads(path.read_bytes()) | {"schema_version": 2, "status": "hibernating"}
    path.write_text(json.dumps(value))
    content = path.read_bytes()
    with ProfileManager(filled) as manager:
        profile = manager.get_profile("a")
        assert profile.status == "corrupted"
        assert "newer" in (profile.problem or "")
        for name in ("activate", "set", "recover"):
            with pytest.raises(NewerFormatError):
                CHANGES[name](manager)
        manager.create_profile("b", "custom")
    assert path.read_bytes() == content
    assert (filled / "profiles/a/browser_profile/data").read_text() == "precious"


def test_newer_metadata_that_is_committed(filled: Path) -> None:
    path = filled / "profiles" / "a" / "metadata.json"
    value = json.loads(path.read_bytes()) | {"schema_version": 2, "status": "hibernating"}
    path.write_text(json.dumps(value))
    git(filled / "profiles", "commit", "-q", "--no-verify", "-am", "newer")
    head = git(filled / "profiles", "rev-parse", "HEAD")
    content = path.read_bytes()
    with ProfileManager(filled) as manager:
        assert [profile.id for profile in manager.list_profiles()] == ["a"]
        for name in ("activate", "set", "recover"):
            with pytest.raises(NewerFormatError):
                CHANGES[name](manager)
    assert git(filled / "profiles", "rev-parse", "HEAD") == head
    assert path.read_bytes() == content


def test_fields_of_a_newer_version_survive(filled: Path) -> None:
    path = filled / "profiles" / "a" / "metadata.json"
    value = json.loads(path.read_bytes()) | {"future": {"deep": [1, None]}}
    path.write_text(json.dumps(value))
    with ProfileManager(filled) as manager:
        manager.update_profiles(["a"], note="x")
    assert json.loads(path.read_bytes())["future"] == {"deep": [1, None]}


# No permission


needs_root = pytest.mark.skipif(not ROOT, reason="needs root")


@contextmanager
def mounted(path: Path) -> Iterator[None]:
    if subprocess.run(["mount", "-t", "tmpfs", "none", str(path)], capture_output=True).returncode:
        pytest.skip("no mounting here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(path)], check=True)


@needs_root
def test_read_only_file_system(home: Path) -> None:
    """Reading works; every change is refused with one clear line."""
    home.mkdir()
    with mounted(home):
        with ProfileManager(home) as manager:
            manager.create_profile("a", "custom")
        subprocess.run(["mount", "-o", "remount,ro", str(home)], check=True)
        with untouched(home):
            with ProfileManager(home) as manager:
                assert [profile.id for profile in manager.list_profiles()] == ["a"]
                assert manager.get_profile("a").status == "inactive"
                assert len(manager.history()) == 2
                assert manager.trash() == []
                assert manager.diff("a") is None
                assert manager.doctor().healthy
            names = ("create", "activate", "delete", "set", "undo", "gc")
            refused(home, FileAccessError, {name: CHANGES[name] for name in names})
        subprocess.run(["mount", "-o", "remount,rw", str(home)], check=True)
        with ProfileManager(home) as manager:
            manager.create_profile("b", "custom")


@needs_root
def test_read_only_and_empty(home: Path) -> None:
    home.mkdir()
    with mounted(home):
        subprocess.run(["mount", "-o", "remount,ro", str(home)], check=True)
        with ProfileManager(home) as manager:
            assert manager.list_profiles() == []
        refused(home, FileAccessError, {"create": CHANGES["create"]})


@needs_root
def test_full_file_system(home: Path) -> None:
    home.mkdir()
    with mounted(home):
        with ProfileManager(home) as manager:
            manager.create_profile("a", "custom")
        subprocess.run(["mount", "-o", "remount,size=4m", str(home)], check=True)
        filler = home / "filler"
        with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="space"):
            while True:
                file.write(bytes(512))
        head = git(home / "profiles", "rev-parse", "HEAD")
        with ProfileManager(home) as manager:
            for name in ("create", "set", "delete"):
                with pytest.raises(StorageError) as caught:
                    CHANGES[name](manager)
                assert type(caught.value).__name__ == "DiskFullError", caught.value
            assert [profile.id for profile in manager.list_profiles()] == ["a"]
        assert git(home / "profiles", "rev-parse", "HEAD") == head
        filler.unlink()
        with ProfileManager(home) as manager:
            manager.update_profiles(["a"], note="room again")
        assert git(home / "profiles", "status", "--porcelain") == ""


def as_nobody(run: Callable[[], object]) -> str:
    """What a function says in a child without privileges."""
    receiver, sender = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(receiver)
            if ROOT:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            text = ""
            try:
                text = f"returned {run()!r}"
            except TweakioError as error:
                text = f"{type(error).__name__}: {error}"
            except BaseException as error:
                text = f"unexpected {error!r}"
            os.write(sender, text.encode())
        finally:
            os._exit(0)
    os.close(sender)
    with os.fdopen(receiver) as file:
        text = file.read()
    os.waitpid(pid, 0)
    return text


@pytest.fixture
def reachable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory that another user can get to."""
    import tempfile

    path = Path(tempfile.mkdtemp(prefix="tweakio-test-"))
    path.chmod(0o755)
    yield path
    for directory, _, _ in os.walk(path):
        os.chmod(directory, 0o700)
    shutil.rmtree(path)


def warmed() -> None:
    """Import all that a child without privileges may not be able to read."""
    from tweakio import doctor, history, migration, recovery, schema, trash  # noqa: F401
    from tweakio.store.packs import commit, recent  # noqa: F401

    schema.metadata_model()
    import dulwich.config
    import dulwich.object_store  # noqa: F401


@pytest.mark.parametrize("name", [*READS, "create", "activate", "delete", "set"])
def test_home_of_another_user(reachable: Path, name: str) -> None:
    home = reachable / "home"
    with ProfileManager(home) as manager:
        manager.create_profile("a", "custom")
    if not ROOT:
        home.chmod(0)
    warmed()
    before = everything(home) if ROOT else {}

    def run() -> object:
        with ProfileManager(home) as manager:
            return ALL[name](manager)

    said = as_nobody(run)
    assert said.startswith(("FileAccessError: ", "HomeNotFoundError: ")), said
    if ROOT:
        assert everything(home) == before


def test_directory_that_cannot_be_written(reachable: Path) -> None:
    """The home is to be made in a directory of somebody else."""
    reachable.chmod(0o555)
    warmed()

    def run() -> object:
        with ProfileManager(reachable / "home") as manager:
            return manager.create_profile("a", "custom")

    said = as_nobody(run)
    assert said.startswith("FileAccessError: "), said
    assert list(reachable.iterdir()) == []


def test_readable_but_not_writable(reachable: Path) -> None:
    """A home that was given to others to read."""
    home = reachable / "home"
    with ProfileManager(home) as manager:
        manager.create_profile("a", "custom")
    for directory, _, files in os.walk(home):
        os.chmod(directory, 0o555)
        for file in files:
            os.chmod(os.path.join(directory, file), 0o444)
    warmed()

    def read() -> object:
        with ProfileManager(home) as manager:
            return [profile.id for profile in manager.list_profiles()], len(manager.history())

    def change() -> object:
        with ProfileManager(home) as manager:
            return manager.create_profile("b", "custom")

    before = everything(home)
    assert as_nobody(read) == "returned (['a'], 2)"
    assert as_nobody(change).startswith("FileAccessError: ")
    assert everything(home) == before


@contextmanager
def somebody() -> Iterator[None]:
    """A user who may do as little as most: this one, or another in the place of root."""
    if not ROOT:
        yield
        return
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


@pytest.mark.skipif(not hasattr(os, "setresuid"), reason="needs to be somebody else")
def test_what_refuses_access_is_named_with_the_command_that_gives_it(reachable: Path) -> None:
    """Tried with what the system itself refuses."""
    made = reachable / "made"
    made.mkdir()
    if ROOT:
        os.chown(made, 65534, 65534)
    with somebody():
        inside = made / "profiles" / "p1" / "metadata.json"
        inside.parent.mkdir(parents=True)
        inside.write_text("{}")
        inside.chmod(0)
        with pytest.raises(PermissionError) as raised:
            inside.read_bytes()
        error = storage_error(raised.value, "read it")
        assert type(error) is FileAccessError
        assert "mode 0000)" in str(error)
        assert error.hint == f"run 'chmod u+rwX {inside}'"
        inside.chmod(0o600)
        # The file is sound, so what refuses to have it removed is its directory, or one above.
        inside.parent.chmod(0o500)
        with pytest.raises(PermissionError) as raised:
            inside.unlink()
        error = storage_error(raised.value, "remove it")
        assert f"({inside.parent}, owner " in str(error)
        assert "mode 0500)" in str(error)
        assert str(inside.parent) in error.hint
        inside.parent.chmod(0)
        with pytest.raises(PermissionError) as raised:
            inside.stat()
        error = storage_error(raised.value, "look at it")
        assert f"({inside.parent}, owner " in str(error)
        assert "mode 0000)" in str(error)
        inside.parent.chmod(0o700)


@pytest.mark.skipif(
    not ROOT or not hasattr(os, "setresuid"), reason="needs root, and to be somebody else"
)
@pytest.mark.parametrize("owner", [0, 54321])
def test_what_somebody_else_owns_is_given_back_a_profile_at_a_time(
    reachable: Path, owner: int
) -> None:
    inside = reachable / "profiles" / "p1" / "d" / "f"
    outside = reachable / "f"
    inside.parent.mkdir(parents=True)
    for path in (inside, outside):
        path.write_text("x")
        os.chown(path, owner, owner)
        path.chmod(0o600)
    found = {}
    with somebody():
        for path in (inside, outside):
            with pytest.raises(PermissionError) as raised:
                path.read_bytes()
            found[path] = storage_error(raised.value, "read it")
    name = "root" if owner == 0 else "54321"
    for error in found.values():
        assert f"(owner {name}, mode 0600)" in str(error)
    hint = found[inside].hint
    assert hint.startswith("run 'sudo chown -R ")
    assert hint.endswith(f" {reachable}/profiles/p1'")
    # Outside of profiles nothing is given away.
    assert "chown" not in found[outside].hint
