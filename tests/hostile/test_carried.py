"""What somebody gives a person to carry in: a bare repository, an export, a lease, a profile.

Each of these did harm once, or would have.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from tweakio import ProfileManager, clone_repository, validation
from tweakio.archive import container
from tweakio.errors import (
    ArchiveError,
    DiskFullError,
    HostileContentError,
    LeaseError,
    LockTimeoutError,
    RemoteError,
    SecretNotFoundError,
)
from tweakio.lease.local import FileBackend
from tweakio.references import is_reference, resolve
from tweakio.sync import transport
from tweakio.sync.configuration import remote_section


@pytest.fixture(autouse=True)
def _hermetic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TWEAKIO_IDENTITY", raising=False)
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")


def git(*arguments: object) -> str:
    done = subprocess.run(["git", *map(str, arguments)], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def pair(tmp_path):
    """A home, and the bare repository that it was pushed to."""
    bare = tmp_path / "remote.git"
    git("init", "-q", "--bare", "-b", "main", bare)
    with ProfileManager(tmp_path / "a") as one:
        one.create_profiles(["x", "y"], "telegram")
        one.remotes.add("origin", os.fspath(bare))
        one.remotes.push()
        yield one, bare


# A bare repository


def test_no_hook_of_a_repository_at_a_path_runs(pair, tmp_path):
    one, bare = pair
    marker = tmp_path / "ran"
    for name in ("pre-receive", "update", "post-receive", "post-update", "reference-transaction"):
        hook = bare / "hooks" / name
        hook.write_text(f"#!/bin/sh\necho {name} >> '{marker}'\n")
        hook.chmod(0o755)
    git("init", "-q", "--bare", tmp_path / "other.git")
    (bare / "objects/info/alternates").write_text(f"{tmp_path}/other.git/objects\n")
    for setting in ("core.alternateRefsCommand", "core.fsmonitor", "gc.recentObjectsHook"):
        git("-C", bare, "config", setting, f"echo {setting} >> '{marker}';:")
    for url in (os.fspath(bare), bare.as_uri()):
        one.remotes.remove("origin")
        one.remotes.add("origin", url)
        one.update_profiles(["x"], note=url)
        assert one.remotes.sync().pushed.commit
    assert not marker.exists()
    # Plain git runs them, so that this tells one from the other.
    one.update_profiles(["x"], note="plain")
    git("-C", one.home / "profiles", "push", "-q", bare, "HEAD:main")
    assert "post-receive" in marker.read_text()


def test_a_repository_at_a_path_fetches_nothing_by_programs_it_names(pair, tmp_path):
    bare = pair[1]
    marker = tmp_path / "ran"
    blob = git("-C", bare, "rev-parse", "main:x/metadata.json")
    for pack in (bare / "objects/pack").glob("*.pack"):
        pack.rename(tmp_path / pack.name)
        with open(tmp_path / pack.name, "rb") as file:
            subprocess.run(["git", "-C", bare, "unpack-objects", "-q"], stdin=file, check=True)
        os.unlink(pack.with_suffix(".idx"))
    os.unlink(bare / "objects" / blob[:2] / blob[2:])
    for setting, value in {
        "core.repositoryformatversion": "1",
        "extensions.partialClone": "evil",
        "remote.evil.url": os.fspath(tmp_path / "nowhere"),
        "remote.evil.promisor": "true",
        "remote.evil.uploadpack": f"touch '{marker}';:",
        "protocol.file.allow": "always",
    }.items():
        git("-C", bare, "config", setting, value)
    with pytest.raises(Exception, match="cannot reach|refuses"):
        clone_repository(os.fspath(bare), tmp_path / "b")
    assert not marker.exists()
    assert not (tmp_path / "b").exists()


def test_one_large_file_in_many_profiles_takes_memory_once(pair, monkeypatch, tmp_path):
    one, bare = pair
    work = tmp_path / "work"
    git("clone", "-q", bare, work)
    sealed = b"age-encryption.org/v1\n" + bytes(1 << 20)
    for name in "xy":
        (work / name / "session.json.age").write_bytes(sealed)
    git("-C", work, "add", "-f", ".")
    git(
        "-C", work, "-c", "user.name=n", "-c", "user.email=e", "commit", "-qm", "large",
        "--no-verify",
    )  # fmt: skip
    git("-C", work, "push", "-q")
    one.update_profiles(["x"], note="n")
    found = []
    real = validation.validate_tree
    monkeypatch.setattr(
        "tweakio.sync.remotes.validate_tree", lambda *a: found.append(real(*a)) or found[0]
    )
    one.remotes.pull()
    files = [found[0].profiles[name]["session.json.age"] for name in "xy"]
    assert files[0] == sealed
    assert files[0] is files[1]
    # And different ones have a bound together.
    monkeypatch.setattr(validation, "_MOST_TOGETHER", 1 << 20)
    with pytest.raises(HostileContentError, match="GB of files"):
        clone_repository(os.fspath(bare), tmp_path / "b")


def test_a_branch_with_quotes_is_one_in_the_configuration(tmp_path):
    branch = 'a"]x=;#b'
    path = tmp_path / "config"
    path.write_text(remote_section("origin", "/x", branch))
    assert git("config", "-f", path, "--get", f"branch.{branch}.merge") == f"refs/heads/{branch}"


# What a profile from elsewhere may name


@pytest.mark.parametrize(
    "text",
    ["env:TWEAKIO_IDENTITY", "env:tweakio_identity", "keyring:vault age1q", "keyring:VAULT age1q"],
)
def test_no_reference_leads_to_the_identity(text, monkeypatch):
    """As a proxy's password in a profile that is pulled, it would go to whoever pushed that."""
    monkeypatch.setenv("TWEAKIO_IDENTITY", "AGE-SECRET-KEY-1MARKER")
    monkeypatch.setenv("tweakio_identity", "AGE-SECRET-KEY-1MARKER")
    assert not is_reference(text)
    with pytest.raises(SecretNotFoundError) as caught:
        resolve(text, "browser.proxy_password")
    assert "MARKER" not in str(caught.value)


def test_a_pull_that_changes_a_proxy_says_so(pair, tmp_path, caplog):
    one, bare = pair
    clone_repository(os.fspath(bare), tmp_path / "b")
    with ProfileManager(tmp_path / "b") as two:
        two.update_profiles(
            ["x"], browser={"proxy": "http://u@evil.example:1", "proxy_password": "env:A"}
        )
        two.remotes.push()
    assert one.remotes.pull().changed == ("x",)
    assert "profile 'x' came with browser.proxy: http://u@evil.example:1" in caplog.text


def test_no_other_program_gets_the_identity(pair, monkeypatch, tmp_path):
    one, _ = pair
    seen = tmp_path / "seen"
    spy = tmp_path / "spy"
    spy.write_text(f'#!/bin/sh\nenv >> "{seen}"\nexec git "$@"\n')
    spy.chmod(0o755)
    monkeypatch.setenv("TWEAKIO_IDENTITY", "AGE-SECRET-KEY-1MARKER")
    one.remotes._transport = transport.GitTransport(os.fspath(spy))
    one.remotes.pull()
    assert "PATH=" in seen.read_text()
    assert "MARKER" not in seen.read_text()


@pytest.mark.parametrize("stream", ["", ">&2"])
def test_an_answer_without_end_is_cut_off(pair, tmp_path, stream):
    one, _ = pair
    endless = tmp_path / "endless"
    endless.write_text(
        f"#!/bin/sh\ncase $* in *' fetch '*) exec yes {'0' * 40} {stream};; esac\nexec git \"$@\"\n"
    )
    endless.chmod(0o755)
    one.remotes._transport = transport.GitTransport(os.fspath(endless))
    with pytest.raises(RemoteError, match="sends more than anybody can read"):
        one.remotes.pull()


# An export


def test_a_manifest_is_not_larger_than_its_files_need(tmp_path):
    with zipfile.ZipFile(tmp_path / "f.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(container.MANIFEST, "[" + "[]," * (1 << 20) + "0]")
    assert (tmp_path / "f.zip").stat().st_size < 1 << 14
    with (
        ProfileManager(tmp_path / "a") as manager,
        pytest.raises(ArchiveError, match="tweakio.json' in it is larger"),
    ):
        manager.archives.import_file(tmp_path / "f.zip")


def test_the_directory_is_where_every_python_looks(tmp_path):
    """A newer one follows the locator, an older one does not."""
    small = bytes(container._END64.size - 40) + bytes(40)
    small = b"PK\6\6" + small[4:]
    locator = container._LOCATOR.pack(b"PK\6\7", 0, 0, 1)
    end = b"PK\5\6" + bytes(18)
    with pytest.raises(ArchiveError):
        container.refuse_long_directory(io.BytesIO(bytes(64) + small + locator + end))
    locator = container._LOCATOR.pack(b"PK\6\7", 0, 64, 1)
    container.refuse_long_directory(io.BytesIO(bytes(64) + small + locator + end))


def test_an_import_that_cannot_fit_is_refused_before_it_begins(tmp_path, monkeypatch):
    with ProfileManager(tmp_path / "a") as one:
        one.create_profile("x", "telegram")
        one.archives.export(["x"], tmp_path / "f.zip", with_session=True)
    with zipfile.ZipFile(tmp_path / "f.zip") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(members[container.MANIFEST])
    manifest["profiles"][0]["browser_data"]["bytes"] = 1 << 49
    members[container.MANIFEST] = json.dumps(manifest).encode()
    with zipfile.ZipFile(tmp_path / "g.zip", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with ProfileManager(tmp_path / "b") as two, pytest.raises(DiskFullError, match="has room for"):
        two.archives.import_file(tmp_path / "g.zip")


# A lease


@pytest.mark.parametrize("token", ["Infinity", "1" + "0" * 400])
def test_a_lease_that_counts_without_end(token, tmp_path):
    backend = FileBackend(tmp_path)
    expires = token if token != "Infinity" else "1"
    content = f'{{"holder": "h", "token": {token}, "expires": {expires}}}'
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(LeaseError, match="cannot be read"):
        backend.read("x")


def test_lease_settings_that_count_without_end(tmp_path):
    with ProfileManager(tmp_path / "a") as manager:
        manager.create_profile("x", "telegram")
        manager.layout.lease.write_text('{"backend": "file", "ttl": 1' + "0" * 400 + "}")
        with pytest.raises(LeaseError, match="cannot be read"):
            manager.leases.status()


# Two programs at once


def test_a_session_is_not_put_back_under_who_holds_the_profile(tmp_path):
    """It may be about to save a newer one."""
    with ProfileManager(tmp_path / "a") as one, ProfileManager(tmp_path / "a") as two:
        path = Path(one.create_profile("x", "telegram").path) / "session.json"
        one.vault.init(in_file=True)
        empty = path.read_bytes()
        path.write_text('{"cookies": [{"name": "c", "value": "old"}], "origins": []}')
        one.record_login("x")
        one.activate_profile("x")
        path.write_bytes(empty)
        with pytest.raises(LockTimeoutError):
            two.activate_profile("x", timeout=0)
        assert path.read_bytes() == empty
        one.deactivate_profile()
        two.activate_profile("x")
        assert b"old" in path.read_bytes()


def test_a_pull_has_taken_place_whatever_becomes_of_sessions(pair, tmp_path, monkeypatch, caplog):
    one, bare = pair
    one.vault.init(in_file=True)
    path = Path(one.get_profile("x").path) / "session.json"
    empty = path.read_bytes()
    one.remotes.push()
    clone_repository(os.fspath(bare), tmp_path / "b")
    monkeypatch.setenv("TWEAKIO_IDENTITY", os.fspath(one.home / "identity"))
    with ProfileManager(tmp_path / "b") as two:
        (Path(two.get_profile("x").path) / "session.json").write_text(
            '{"cookies": [{"name": "c", "value": "v"}], "origins": []}'
        )
        two.record_login("x")
        two.remotes.push()
    path.unlink()
    path.mkdir()  # so that it cannot be written
    pulled = one.remotes.pull()
    assert pulled.changed == ("x",)
    assert one.repository.head().commit == pulled.commit
    assert "is not restored yet" in caplog.text
    path.rmdir()
    path.write_bytes(empty)


def test_a_remote_that_lost_everything_is_filled_again(pair):
    """It was said to have everything, because it once had."""
    one, bare = pair
    for act in (lambda: one.remotes.push(), lambda: one.remotes.sync().pushed):
        git("-C", bare, "update-ref", "-d", "refs/heads/main")
        assert act().commit
        assert git("-C", bare, "rev-parse", "main") == one.repository.head().commit
        assert act().commit is None
