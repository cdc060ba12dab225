"""Export and import: from home to home, sealed and not, and everything that is refused."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import stat
import subprocess
import sys
import time
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import pytest
import zstandard
from cli_helpers import Cli, errors

from tests.archive.homes import fill_closed
from tests.invariants import git
from tweakio import (
    ArchiveError,
    InvalidInputError,
    NewerFormatError,
    ProfileActiveError,
    ProfileCorruptedError,
    ProfileExistsError,
    ProfileManager,
    ProfileNotFoundError,
    TweakioError,
    VaultError,
)
from tweakio.bundle import names
from tweakio.bundle.tar import header
from tweakio.vault import age, binding


@pytest.fixture
def one(tmp_path):
    with ProfileManager(tmp_path / "one") as manager:
        for name in ("a", "b"):
            manager.create_profile(name, "telegram", tags=["t"], note=f"of {name}")
            fill_closed(manager.home / "profiles" / name, f"MARKER-{name}")
        yield manager


@pytest.fixture
def two(tmp_path):
    with ProfileManager(tmp_path / "two") as manager:
        yield manager


def state(home: Path) -> dict[str, object]:
    """What is below a home, but for locks and caches, and rooms that are to be empty."""
    work = home / "profiles" / ".git" / "tweakio" / "work"
    assert not work.exists() or not os.listdir(work)
    return {
        path.relative_to(home).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(home.rglob("*"))
        if not {"locks", "cache", "staging", "tmp", "work"} & set(path.relative_to(home).parts)
    }


def commits(manager: ProfileManager) -> int:
    done = git(manager.home / "profiles", "rev-list", "--count", "HEAD")
    return int(done.stdout)


def test_with_session_from_home_to_home(one, two, tmp_path):
    done = one.archives.export(["a", "b"], tmp_path / "f.zip", with_session=True)
    assert stat.S_IMODE(done.path.stat().st_mode) == 0o600
    assert done.size == done.path.stat().st_size
    two.create_profile("other", "custom")
    before = commits(two)
    found = two.archives.import_file(done.path)
    assert [(item.profile_id, item.action, item.with_session) for item in found] == [
        ("a", "created", True),
        ("b", "created", True),
    ]
    assert commits(two) == before + 1
    assert two.history()[0].summary == "import a, b"
    for name in ("a", "b"):
        here, there = (manager.layout.profile(name) for manager in (two, one))
        assert here.session.read_bytes() == there.session.read_bytes()
        assert here.fingerprint.read_bytes() == there.fingerprint.read_bytes()
        cookies = here.browser_profile / "Default" / "Cookies"
        assert cookies.read_bytes() == f"cookies of MARKER-{name}".encode() * 40
        assert not os.path.lexists(here.browser_profile / "SingletonLock")
        assert two.get_profile(name)._replace(path=None) == one.get_profile(name)._replace(
            path=None
        )
    assert git(two.home / "profiles", "status", "--porcelain").stdout == b""
    assert two.doctor().healthy
    two.undo()
    assert [profile.id for profile in two.list_profiles()] == ["other"]


def test_without_session_nothing_secret(one, two, tmp_path):
    one.archives.export(["a"], tmp_path / "f.zip")
    with zipfile.ZipFile(tmp_path / "f.zip") as file:
        assert sorted(file.namelist()) == [
            "a/fingerprint.json", "a/metadata.json", "tweakio.json",
        ]  # fmt: skip
        assert all(b"MARKER" not in file.read(name) for name in file.namelist())
    assert b"MARKER" not in (tmp_path / "f.zip").read_bytes()
    two.archives.import_file(tmp_path / "f.zip")
    assert two.get_profile("a").note == "of a"
    assert b"MARKER" not in two.layout.profile("a").session.read_bytes()


def test_manifest_has_every_file(one, tmp_path):
    one.archives.export(["a", "b"], tmp_path / "f.zip", with_session=True)
    with zipfile.ZipFile(tmp_path / "f.zip") as file:
        assert file.testzip() is None
        manifest = json.loads(file.read("tweakio.json"))
        assert manifest["format"] == 1
        assert set(manifest["files"]) == set(file.namelist()) - {"tweakio.json"}
        for name, known in manifest["files"].items():
            content = file.read(name)
            assert known == {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_active_arrives_inactive(one, two, tmp_path):
    one.select_profile("a")
    one.archives.export(["a"], tmp_path / "f.zip")
    two.archives.import_file(tmp_path / "f.zip")
    assert two.get_profile("a").status == "inactive"


def test_the_age_program_opens_it(one, two, tmp_path):
    if not shutil.which("age"):
        pytest.skip("needs the age program")
    identity, recipient = age.generate_identity()
    (tmp_path / "key").write_text(identity)
    one.archives.export(["a"], tmp_path / "f.age", with_session=True, recipients=[recipient])
    assert b"MARKER" not in (tmp_path / "f.age").read_bytes()
    plain = subprocess.run(
        ["age", "-d", "-i", tmp_path / "key", tmp_path / "f.age"], capture_output=True, check=True
    ).stdout
    with zipfile.ZipFile(io.BytesIO(plain)) as file:
        assert "a/browser_data.tar.zst" in file.namelist()
    (tmp_path / "plain.zip").write_bytes(plain)
    two.archives.import_file(tmp_path / "plain.zip")
    two.archives.import_file(tmp_path / "f.age", identities=[identity], as_id="a2")
    with pytest.raises(VaultError):
        two.archives.import_file(tmp_path / "f.age", as_id="a3")


def test_into_a_vault(one, two, tmp_path, monkeypatch):
    identity, _ = age.generate_identity()
    (tmp_path / "key").write_text(identity)
    (tmp_path / "key").chmod(0o600)
    monkeypatch.setenv("TWEAKIO_IDENTITY", str(tmp_path / "key"))
    one.archives.export(["a"], tmp_path / "f.zip", with_session=True)
    two.create_profile("z", "custom")
    two.vault.init()
    count = commits(two)
    two.archives.import_file(tmp_path / "f.zip")
    assert commits(two) == count + 1
    sealed = git(two.home / "profiles", "show", "HEAD:a/session.json.age").stdout
    assert (
        binding.read(age.unseal(sealed, [identity])).content
        == one.layout.profile("a").session.read_bytes()
    )
    assert git(two.home / "profiles", "status", "--porcelain").stdout == b""
    assert (two.home / "profiles" / "a" / "session.json.age").read_bytes() == sealed


def test_passphrase(one, two, tmp_path):
    one.archives.export(["a"], tmp_path / "f", with_session=True, passphrase="correct horse")
    with pytest.raises(VaultError):
        two.archives.import_file(tmp_path / "f", passphrase="wrong")
    two.archives.import_file(tmp_path / "f", passphrase="correct horse")
    assert two.list_profiles()


def test_existing(one, two, tmp_path):
    one.archives.export(["a", "b"], tmp_path / "f.zip", with_session=True)
    two.create_profile("A", "custom", note="mine")
    before = state(two.home)
    with pytest.raises(ProfileExistsError):
        two.archives.import_file(tmp_path / "f.zip")
    assert state(two.home) == before
    with pytest.raises(InvalidInputError, match="2 profiles"):
        two.archives.import_file(tmp_path / "f.zip", as_id="x")
    found = two.archives.import_file(tmp_path / "f.zip", existing="skip", dry_run=True)
    assert [item.action for item in found] == ["skipped", "created"]
    assert state(two.home) == before
    two.archives.import_file(tmp_path / "f.zip", existing="skip")
    found = two.archives.import_file(tmp_path / "f.zip", existing="rename")
    assert [item.profile_id for item in found] == ["a-2", "b-2"]
    assert two.get_profile("A").note == "mine"
    count = commits(two)
    two.archives.import_file(tmp_path / "f.zip", existing="skip")
    assert commits(two) == count


def test_import_into_nothing_and_dry_run_makes_nothing(one, tmp_path):
    one.archives.export(["a"], tmp_path / "f.zip")
    with ProfileManager(tmp_path / "new") as manager:
        with pytest.raises(TweakioError):
            manager.archives.import_file(tmp_path / "f.zip", dry_run=True, as_id="../x")
    assert not (tmp_path / "new").exists()


def test_export_refuses(one, tmp_path):
    target = tmp_path / "f.zip"
    with ProfileManager(one.home) as other:
        other.activate_profile("a")
        with pytest.raises(ProfileActiveError):
            one.archives.export(["b", "a"], target, with_session=True)
    with pytest.raises(ProfileNotFoundError):
        one.archives.export(["a", "no"], target)
    (one.layout.profile("b").metadata).write_text("{")
    with pytest.raises(ProfileCorruptedError):
        one.archives.export(["a", "b"], target)
    assert sorted(os.listdir(tmp_path)) == ["one"]
    target.write_text("mine")
    with pytest.raises(InvalidInputError):
        one.archives.export(["a"], target)
    assert target.read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == ["f.zip", "one"]


# Hostile files


def rewrite(source: Path, target: Path, change) -> None:
    """Another ZIP with members that ``change`` gives: (name or ZipInfo, content) pairs."""
    with zipfile.ZipFile(source) as file:
        members = [(name, file.read(name)) for name in file.namelist()]
    with zipfile.ZipFile(target, "w") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, content in change(members):
            file.writestr(name, content)


def with_manifest(change):
    """Change the manifest."""

    def apply(members):
        manifest = json.loads(dict(members)["tweakio.json"])
        changed = change(manifest)
        content = json.dumps(manifest if changed is None else changed).encode()
        return [(name, content if name == "tweakio.json" else data) for name, data in members]

    return apply


def with_file(name, content):
    """Replace or add a file, and say so in the manifest."""

    def apply(members):
        manifest = json.loads(dict(members)["tweakio.json"])
        manifest["files"][name] = {
            "size": len(content), "sha256": hashlib.sha256(content).hexdigest(),
        }  # fmt: skip
        kept = [item for item in members if item[0] not in (name, "tweakio.json")]
        return [*kept, (name, content), ("tweakio.json", json.dumps(manifest).encode())]

    return apply


def link(members):
    info = zipfile.ZipInfo("a/metadata.json")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return [(info if name == "a/metadata.json" else name, data) for name, data in members]


def spoil(name):
    return lambda members: [
        (other, data[:-1] + bytes([data[-1] ^ 1]) if other == name else data)
        for other, data in members
    ]


def rename_profile(to):
    return lambda members: [
        (name.replace("a/", f"{to}/"), data.replace(b'"a', f'"{to}'.encode()))
        for name, data in members
    ]


HOSTILE = {
    "slip": with_file("../x", b"x"),
    "absolute": with_file("/tmp/x", b"x"),
    "drive": with_file("C:x", b"x"),
    "inside a profile": with_file("a/browser_profile/x", b"x"),
    "its lock": with_file("a/.lock", b"x"),
    "hooks": with_file(".git/hooks/pre-commit", b"x"),
    "not in the manifest": lambda members: [*members, ("more", b"x")],
    "twice": lambda members: [*members, members[0]],
    "by case": with_file("A/metadata.json", b"{}"),
    "link": link,
    "no manifest": lambda members: members[:-1],
    "wrong metadata": spoil("a/metadata.json"),
    "wrong fingerprint": spoil("a/fingerprint.json"),
    "wrong data": spoil("a/browser_data.tar.zst"),
    "missing": lambda members: members[1:],
    "no data": with_file("a/browser_data.tar.zst", b""),
    "fingerprint is no object": with_file("a/fingerprint.json", b"[]"),
    "deep": with_file("a/fingerprint.json", b"[" * 100_000),
    "metadata of another": with_file("a/metadata.json", b'{"profile_id": "b"}'),
    "id": rename_profile("con"),
    "git": rename_profile(".git"),
    "manifest is a list": with_manifest(lambda manifest: [manifest]),
    "format is text": with_manifest(lambda manifest: manifest.update(format="1")),
    "no profiles": with_manifest(lambda manifest: manifest.update(profiles=None)),
    "profile twice": with_manifest(lambda m: m["profiles"].append({**m["profiles"][0]})),
    "small": with_manifest(lambda m: m["profiles"][0]["browser_data"].update(bytes=10)),
    "less": with_manifest(lambda m: m["profiles"][0]["browser_data"].update(bytes=10**7)),
    "id is a number": with_manifest(lambda m: m["profiles"][0].update(profile_id=7)),
    "garbage": with_manifest(lambda manifest: "x" * 10),
}  # fmt: skip


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    directory = tmp_path_factory.mktemp("exported")
    with ProfileManager(directory / "home") as manager:
        manager.create_profile("a", "telegram")
        fill_closed(manager.home / "profiles" / "a", "a")
        manager.archives.export(["a"], directory / "f.zip", with_session=True)
    return directory / "f.zip"


@pytest.fixture(scope="module")
def target_home(tmp_path_factory):
    with ProfileManager(tmp_path_factory.mktemp("target") / "home") as manager:
        manager.create_profile("z", "custom")
        yield manager


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_changes_nothing(name, exported, target_home, tmp_path):
    rewrite(exported, tmp_path / "bad.zip", HOSTILE[name])
    before = state(target_home.home)
    for dry_run in (True, False):
        with pytest.raises((ArchiveError, InvalidInputError, NewerFormatError)) as caught:
            target_home.archives.import_file(tmp_path / "bad.zip", dry_run=dry_run)
        assert "\n" not in str(caught.value)
    assert state(target_home.home) == before
    assert os.listdir(tmp_path) == ["bad.zip"]


def test_newer_format(exported, target_home, tmp_path):
    change = with_manifest(lambda manifest: manifest.update(format=2))
    rewrite(exported, tmp_path / "new.zip", change)
    with pytest.raises(NewerFormatError):
        target_home.archives.import_file(tmp_path / "new.zip")


def test_deflated_bomb(exported, target_home, tmp_path):
    def bomb(members):
        info = zipfile.ZipInfo("a/fingerprint.json")
        info.compress_type = zipfile.ZIP_DEFLATED
        content = b'{"a": "' + b" " * (64 << 20) + b'"}'
        changed = with_file("a/fingerprint.json", content)(members)
        return [(info if name == info.filename else name, data) for name, data in changed]

    rewrite(exported, tmp_path / "bomb.zip", bomb)
    assert (tmp_path / "bomb.zip").stat().st_size < 1 << 20
    with pytest.raises(ArchiveError, match="larger"):
        target_home.archives.import_file(tmp_path / "bomb.zip")


@pytest.mark.parametrize("back", [1, 10, 30, 400])
@pytest.mark.parametrize("member", [b"a/metadata.json", b"a/browser_data.tar.zst"])
def test_a_member_that_is_elsewhere(exported, target_home, tmp_path, member, back):
    """The ZIP's own directory says where; zipfile reads there without looking."""
    content = bytearray(exported.read_bytes())
    entry = content.rindex(member) - 46
    assert content[entry : entry + 4] == b"PK\1\2"
    content[entry + 42 : entry + 46] = (len(content) - back).to_bytes(4, "little")
    (tmp_path / "bad.zip").write_bytes(content)
    with pytest.raises(ArchiveError):
        target_home.archives.import_file(tmp_path / "bad.zip")


_made: list[str] = []
sys.addaudithook(
    lambda event, arguments: (
        _made.append(str(arguments[0])) if event == "os.mkdir" and watching else None
    )
)
watching: list[bool] = []


def with_bundle(*parts: bytes):
    """Other browser data, which the manifest describes as it is."""
    content = zstandard.ZstdCompressor().compress(b"".join(parts))
    name = "a/browser_data.tar.zst"
    return with_file(name, content)


@pytest.mark.parametrize("with_files", [False, True])
def test_too_many_directories_are_refused_before_one_is_made(
    exported, target_home, tmp_path, monkeypatch, with_files
):
    monkeypatch.setattr(names, "MOST_FILES", 2000)
    parts = [
        header(f"browser_profile/{number}/x", 0)
        if with_files
        else header(f"browser_profile/{number}", None)
        for number in range(2001)
    ]
    rewrite(exported, tmp_path / "many.zip", with_bundle(*parts))
    before = state(target_home.home)
    _made.clear()
    watching.append(True)
    try:
        with pytest.raises(ArchiveError, match="more than 2000 files"):
            target_home.archives.import_file(tmp_path / "many.zip")
    finally:
        watching.clear()
    assert [name for name in _made if "browser_profile" in name] == []
    assert state(target_home.home) == before


def test_names_of_many_parts_take_no_time_and_no_memory():
    """Each path has 2,000 directories above it, which are new only once."""
    deep = "/".join("a" * 2000)
    known = names.Names()
    began = time.process_time()
    for number in range(500):
        known.add(f"{deep}/{number:04}", is_directory=False)
    assert time.process_time() - began < 2  # walked from the top it took 10 s
    with pytest.raises(ArchiveError, match="too long together"):
        for number in range(60_000):
            known.add(f"{deep}/x{number}", is_directory=True)


def test_a_long_list_in_the_zip_is_refused_before_it_is_read(target_home, tmp_path):
    entry = b"PK\1\2" + bytes(24) + (1).to_bytes(2, "little") + bytes(16) + b"x"
    many = 100_000
    directory = entry * many
    end = (
        b"PK\5\6" + bytes(4) + b"\xff\xff" * 2 + len(directory).to_bytes(4, "little")
        + (0).to_bytes(4, "little") + bytes(2)
    )  # fmt: skip
    (tmp_path / "f.zip").write_bytes(directory + end)
    tracemalloc.start()
    try:
        with pytest.raises(ArchiveError, match="lists more"):
            target_home.archives.import_file(tmp_path / "f.zip")
        assert tracemalloc.get_traced_memory()[1] < 3 * len(directory)
    finally:
        tracemalloc.stop()


def test_a_manifest_of_many_small_values_is_refused_before_it_is_parsed(
    exported, target_home, tmp_path
):
    def many(members):
        content = b'{"format": [' + b"[]," * 1000 + b"[]]}"
        return [(name, content if name == "tweakio.json" else data) for name, data in members]

    rewrite(exported, tmp_path / "many.zip", many)
    with pytest.raises(ArchiveError, match="manifest lists more"):
        target_home.archives.import_file(tmp_path / "many.zip")


def test_long_directory(target_home, tmp_path):
    end = b"PK\5\6" + bytes(4) + b"\xff\xff" * 2 + (1 << 30).to_bytes(4, "little") + bytes(6)
    (tmp_path / "f.zip").write_bytes(b"x" * 100 + end)
    with pytest.raises(ArchiveError, match="lists more"):
        target_home.archives.import_file(tmp_path / "f.zip")


@pytest.mark.parametrize("content", [b"", b"PK", b"garbage" * 99, b"age-encryption.org/v1\n-> x"])
def test_no_export_at_all(content, target_home, tmp_path):
    (tmp_path / "f.zip").write_bytes(content)
    with pytest.raises((ArchiveError, VaultError)):
        target_home.archives.import_file(
            tmp_path / "f.zip", identities=[age.generate_identity()[0]]
        )


def test_changed_bytes_never_get_in(exported, target_home, tmp_path):
    """A short form; ``python -m tests.archive.fuzz`` is the long one."""
    from tests.archive.fuzz import run

    assert run(exported, target_home, tmp_path, rounds=40, seed=1) == 40


# The command line


def tweakio(home: Path, *arguments: object, code: int = 0, typed: str = "") -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tweakio", "--home", home, *map(str, arguments)],
        capture_output=True, text=True, check=False, input=typed,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done.stdout if not code else done.stderr


def test_command_line(one, tmp_path):
    one.close()
    home, target = one.home, tmp_path / "f.age"
    out = tweakio(
        home, "profile", "export", "a", "b", target, "--with-session", "--passphrase", "--json",
        typed="secret\n",
    )  # fmt: skip
    assert json.loads(out)["sealed"] is True
    there = tmp_path / "two"
    out = tweakio(there, "profile", "import", target, "--dry-run", typed="secret\n")
    assert out == "would import a (telegram)\nwould import b (telegram)\n"
    assert not there.exists()
    out = tweakio(there, "profile", "import", target, "--json", typed="secret\n")
    assert json.loads(out)[0] == {
        "profile_id": "a", "source_id": "a", "platform": "telegram", "action": "created",
        "with_session": True,
    }  # fmt: skip
    tweakio(there, "profile", "import", target, code=4, typed="secret\n")
    out = tweakio(there, "profile", "import", target, "--rename", typed="secret\n")
    assert out.startswith("imported a as a-2 (telegram)\n")
    target.write_bytes(b"PK\5\6" + bytes(18))
    error = tweakio(there, "profile", "import", target, code=35)
    assert len(error.splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["export", "a"], "name the profiles and the file"),
        (["export", "a", "f", "--passphrase", "--encrypt-to", "age1x"], "not both"),
        (["import", "f", "--skip", "--rename"], "not both"),
        (["import"], "name one thing to import"),
        (["import", "f", "--from-csv", "g"], "name one thing to import"),
        (["import", "--from-csv", "g", "--passphrase"], "are for exported files"),
        (["import", "f", "--platform", "custom"], "says the platforms itself"),
    ],
)
def test_wrong_command_lines(tmp_path, arguments, says):
    cli = Cli(tmp_path)
    done = cli.run("profile", *arguments)
    assert (done.code, done.out) == (InvalidInputError.exit_code, "")
    assert says in done.err
    assert not cli.home.exists()


def test_wrong_arguments(one, tmp_path):
    file, export = tmp_path / "f.zip", one.archives.export
    with pytest.raises(InvalidInputError, match="at least one"):
        export([], file)
    with pytest.raises(InvalidInputError, match="at least one"):
        export(["a", "a"], file)
    with pytest.raises(InvalidInputError, match="recipients or a passphrase"):
        export(["a"], file, recipients=["age1x"], passphrase="p")
    with pytest.raises(InvalidInputError, match="passphrase is empty"):
        export(["a"], file, passphrase="")
    with pytest.raises(InvalidInputError, match="no directory"):
        export(["a"], tmp_path / "missing" / "f.zip")
    with pytest.raises(InvalidInputError, match="is not a file"):
        one.archives.import_file(tmp_path)
    with pytest.raises(TweakioError, match="cannot read the file"):
        one.archives.import_file(file)
    (tmp_path / "nothing").mkdir()
    with ProfileManager(tmp_path / "nothing") as none, pytest.raises(ProfileNotFoundError):
        none.archives.export(["a"], file)
    assert not file.exists()


def test_a_file_sealed_for_an_identity_of_this_machine(tmp_path: Path) -> None:
    """It is found also before there is a home."""
    quiet = {"PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    here, there = Cli(tmp_path / "one"), Cli(tmp_path / "two")
    here.create("a")
    here.ok("vault", "init", "--file", **quiet)
    recipient = here.ok("vault", "recipients", "list", **quiet).lines[0].split("\t")[0]
    file = tmp_path / "a.zip.age"
    here.ok("profile", "export", "a", str(file), "--with-session", "--encrypt-to", recipient)
    refused = there.run("profile", "import", str(file), **quiet)
    assert (refused.code, "no identity" in refused.err) == (33, True), refused
    refused = there.run("profile", "import", str(file), "--identity", str(tmp_path / "none"))
    assert (refused.code, "cannot be read" in refused.err) == (33, True), refused
    assert not there.home.exists()
    key = {"TWEAKIO_IDENTITY": str(here.home / "identity")}
    there.ok("profile", "import", str(file), **quiet, **key)
    assert there.run("profile", "import", str(file), **quiet, **key).code != 0
    empty = here.run("profile", "export", "a", str(tmp_path / "b"), "--passphrase", stdin="\n")
    assert (empty.code, "no passphrase" in empty.err) == (2, True), empty


def test_a_file_whose_name_was_forgotten(tmp_path):
    cli = Cli(tmp_path)
    cli.create("a", "b")
    refused = cli.run("profile", "export", "a", "b")
    assert (refused.code, "b is a profile" in errors(refused)[0]) == (2, True), refused
    assert not (cli.base / "b").exists()
    cli.ok("profile", "export", "a", "./b")
    assert (cli.base / "b").exists()
