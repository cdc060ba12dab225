"""What is encrypted is used where it belongs and nowhere else, whoever put it there.

Somebody who can push works with plain git and the ``age`` program, and has no key.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_helpers import Cli, errors

from tests.invariants import check, git
from tweakio import ProfileManager, trust
from tweakio.errors import (
    InvalidMetadataError,
    NewerFormatError,
    SnapshotError,
    StorageError,
    TweakioError,
    VaultError,
)
from tweakio.layout import Layout
from tweakio.references import as_sealed, sealed_bytes
from tweakio.sync.cloning import clone as clone_home
from tweakio.vault import age, binding, counters

needs_age = pytest.mark.skipif(shutil.which("age") is None, reason="age is not installed")
NAME = ("-c", "user.name=x", "-c", "user.email=x@x", "-c", "core.hooksPath=/dev/null")
SEALED = "session.json.age"
DAY = 24 * 60 * 60 * 1000
CREATED = "2026-01-02T03:04:05Z"
HERE = binding.session("p1", CREATED)


@pytest.fixture(autouse=True)
def _hermetic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TWEAKIO_IDENTITY", raising=False)
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
    monkeypatch.setattr(age, "_WORK", 10)


def log_in(manager: ProfileManager, profile_id: str, mark: str) -> bytes:
    content = json.dumps({"cookies": [{"name": "c", "value": mark}], "origins": []}).encode()
    path = manager.layout.profile(profile_id).session
    path.write_bytes(content)
    path.chmod(0o600)
    manager.record_login(profile_id)
    return content


class Home:
    """A home with a vault and three logged-in profiles, of which plain git can change anything."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.manager = ProfileManager(base / "home")
        self.manager.create_profiles(["p1", "p2", "p3"], "telegram")
        self.manager.vault.init(in_file=True)
        self.sessions = {name: log_in(self.manager, name, f"of-{name}") for name in ("p1", "p2")}
        self.profiles = self.manager.layout.profiles
        self.cli = Cli(base, PYTHON_KEYRING_BACKEND="keyring.backends.fail.Keyring")

    @property
    def secret(self) -> str:
        return (self.manager.home / "identity").read_text()

    def path(self, profile_id: str, name: str = SEALED) -> Path:
        return self.profiles / profile_id / name

    def commit(self, message: str = "tidy up") -> None:
        done = git(self.profiles, *NAME, "commit", "-qam", message, "--no-verify")
        assert done.returncode == 0, done.stderr

    def move(self, source: str, target: str) -> None:
        """As whoever can push: one profile's encrypted session to another one's place."""
        shutil.copy(self.path(source), self.path(target))
        self.commit()

    def lose(self, *profile_ids: str) -> None:
        """As a clone is: without any session of its own."""
        for profile_id in profile_ids:
            self.path(profile_id, "session.json").write_text('{"cookies": [], "origins": []}')

    def inside(self, profile_id: str) -> binding.Bound:
        data = git(self.profiles, "show", f"HEAD:{profile_id}/{SEALED}").stdout
        return binding.read(age.unseal(data, [self.secret]))

    def place(self, profile_id: str) -> binding.Place:
        created = self.manager.get_profile(profile_id).created_at
        assert created is not None
        return binding.session(profile_id, created)

    def opened(self, profile_id: str, key: str, text: str) -> str:
        profile = self.manager.get_profile(profile_id)
        return self.manager.vault.opener(profile_id, profile.created_at)(text, key)

    def encrypt(self, *parts: bytes) -> bytes:
        return age.seal(b"".join(parts), self.manager.vault.recipients())


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path)
    yield made
    made.manager.close()
    check(made.manager.home, permissions=False)  # git was at work


# Sessions


def test_a_session_moved_to_another_profile_is_refused_and_named(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    home.move("p1", "p2")
    home.lose("p2")
    home.manager.close()
    wanted = "the encrypted session in 'p2' belongs to profile 'p1'"
    refused = home.cli.run("vault", "restore")
    assert refused.code == 33
    assert errors(refused)[0].endswith(wanted)
    status = home.cli.ok("vault", "status")
    assert wanted in status.err
    assert "misplaced\t1" in status.lines
    found = json.loads(home.cli.ok("vault", "status", "--json").out)
    assert found["problems"] == [{"profile_id": "p2", "problem": wanted}]
    doctor = home.cli.run("repo", "doctor")
    assert doctor.code == 14
    assert wanted in doctor.out + doctor.err
    with ProfileManager(home.manager.home) as again:
        again.activate_profile("p2")
    assert f"stays encrypted: {wanted}" in caplog.text
    assert b"of-p1" not in home.path("p2", "session.json").read_bytes()


def test_the_others_are_restored_all_the_same(home: Home) -> None:
    home.move("p1", "p2")
    home.lose("p1", "p2")
    with pytest.raises(VaultError, match="belongs to profile 'p1'") as refused:
        home.manager.vault.restore_sessions()
    assert refused.value.details == {"done": ["p1"], "left": []}
    assert home.path("p1", "session.json").read_bytes() == home.sessions["p1"]
    # Whoever logs in again has one of its own.
    log_in(home.manager, "p2", "again")
    assert home.manager.vault.examine() == ([], [])


def test_an_old_session_put_back_is_refused_with_both_times(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = home.inside("p1").counter
    later = binding.now() + 60_000
    monkeypatch.setattr(binding, "now", lambda: later)
    log_in(home.manager, "p1", "newer")
    git(home.profiles, "checkout", "-q", "HEAD~1", "--", f"p1/{SEALED}")
    home.commit()
    home.lose("p1")
    with pytest.raises(VaultError, match="older than that of") as refused:
        home.manager.vault.restore_sessions()
    for counter in (before, later):
        assert binding.shown_time(counter) in refused.value.message
    assert home.manager.vault.restore_if_missing("p1") is False
    assert [name for name, _ in home.manager.vault.examine().problems] == ["p1"]
    home.manager.close()
    assert home.cli.run("vault", "restore", "--older").code == 2
    assert home.cli.run("vault", "restore", "p9", "--older").code == 3
    assert home.cli.ok("vault", "restore", "p1", "--older").out == "restored p1\n"
    assert home.path("p1", "session.json").read_bytes() == home.sessions["p1"]
    # It was wanted, so it is not older than what is known from now on.
    home.lose("p1")
    assert home.cli.ok("vault", "restore").out == "restored p1\n"


def test_a_session_of_the_future_is_refused_and_blocks_no_later_one(home: Home) -> None:
    """Whoever can push can encrypt for us, and say any time."""
    place = home.place("p1")
    for ahead in (DAY + 60_000, 1000 * 366 * DAY):
        forged = binding.bind(place, binding.now() + ahead, b'{"cookies": ["forged"]}')
        home.path("p1").write_bytes(home.encrypt(forged))
        home.commit()
        home.lose("p1")
        with pytest.raises(VaultError, match="more than a day ahead of this machine's clock"):
            home.manager.vault.restore_sessions()
        log_in(home.manager, "p1", "mine")
        assert not binding.is_too_new(home.inside("p1").counter)
        home.lose("p1")
        assert home.manager.vault.restore_sessions() == (["p1"], [])


def test_a_clock_that_was_wrong_is_not_believed_for_ever(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = binding.now()
    monkeypatch.setattr(binding, "now", lambda: right + 900 * DAY)
    log_in(home.manager, "p1", "in the future")
    monkeypatch.setattr(binding, "now", lambda: right)
    log_in(home.manager, "p1", "now")
    assert home.inside("p1").counter == right
    home.lose("p1")
    assert home.manager.vault.restore_sessions() == (["p1"], [])


def test_a_login_is_newer_than_what_another_clock_wrote(home: Home) -> None:
    """This machine has not used it, and its clock is half a day behind the other one's."""
    ahead = binding.now() + DAY // 2
    content = binding.bind(home.place("p1"), ahead, home.sessions["p1"])
    home.path("p1").write_bytes(home.encrypt(content))
    home.commit()
    log_in(home.manager, "p1", "here")
    assert home.inside("p1").counter == ahead + 1


def test_a_profile_made_anew_does_not_get_the_login_of_the_former(home: Home) -> None:
    content = home.path("p1").read_bytes()
    home.manager.delete_profile("p1", purge=True)
    home.manager.create_profile("p1", "telegram")
    home.path("p1").write_bytes(content)
    git(home.profiles, "add", "-f", f"p1/{SEALED}")
    home.commit()
    home.lose("p1")
    with pytest.raises(VaultError, match="belongs to another profile of this name, created 20"):
        home.manager.vault.restore_sessions()


def test_a_failed_login_makes_nothing_look_old(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was encrypted and not committed was never seen."""
    rename = os.rename

    def fail(source: Any, target: Any, **others: Any) -> None:
        if "refs/heads" in str(target):
            raise OSError(28, "No space left on device")
        rename(source, target, **others)

    with monkeypatch.context() as patch:
        for name in ("rename", "replace"):
            patch.setattr(os, name, fail)
        with pytest.raises(TweakioError):
            log_in(home.manager, "p1", "never")
    home.lose("p1")
    assert home.manager.vault.restore_sessions() == (["p1"], [])
    assert home.path("p1", "session.json").read_bytes() == home.sessions["p1"]


def test_an_undone_logout_brings_a_session_back_that_can_be_used(home: Home) -> None:
    home.manager.reset_login("p1")
    log_in(home.manager, "p1", "second")
    home.manager.undo()
    home.manager.undo()
    assert home.path("p1", "session.json").read_bytes() == home.sessions["p1"]
    home.lose("p1")
    assert home.manager.vault.restore_sessions() == (["p1"], [])
    assert home.path("p1", "session.json").read_bytes() == home.sessions["p1"]


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"created_at": 1}', b"\xff" * 99])
def test_a_damaged_note_of_counters_stops_nothing(home: Home, damage: bytes) -> None:
    home.manager.layout.counters_of("p1").write_bytes(damage)
    home.lose("p1")
    assert home.manager.vault.restore_sessions() == (["p1"], [])
    assert counters.highest(home.manager.layout, home.place("p1")) == home.inside("p1").counter


def test_counters_that_cannot_be_written_are_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What was done with the data has taken place, so nothing fails afterwards."""
    layout = Layout(tmp_path)
    layout.counters.parent.mkdir(parents=True)
    layout.counters.write_text("a file in the place of the directory")
    counters.note(layout, HERE, binding.now())
    assert "profile 'p1' is the newest cannot be noted" in caplog.text
    assert counters.highest(layout, HERE) == 0


def test_counters_without_a_directory_to_write_in(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever takes the lock empties it, and may remove it: tried a few times, then given up."""
    layout = Layout(tmp_path)
    assert not layout.temporary.exists()
    counters.note(layout, HERE, binding.now())
    assert "cannot be noted: No such file" in caplog.text
    layout.temporary.mkdir(parents=True)
    moment = binding.now()
    counters.note(layout, HERE, moment)
    assert counters.highest(layout, HERE) == moment


def test_counters_go_up_only_until_they_are_forgotten(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.temporary.mkdir(parents=True)
    moment = binding.now()
    for counter in (moment, moment - 1, moment + 2 * DAY):
        counters.note(layout, HERE, counter)
        assert counters.highest(layout, HERE) == moment
    # Neither another secret of the profile nor a former one of the id has it.
    assert counters.highest(layout, binding.setting("p1", CREATED, "browser.proxy_password")) == 0
    former = binding.session("p1", "2020-01-01T00:00:00Z")
    assert counters.highest(layout, former) == 0
    counters.forget(layout, former)
    assert counters.highest(layout, HERE) == moment
    assert counters.upcoming(layout, HERE, moment + 5000) >= moment + 5001
    counters.forget(layout, HERE)
    assert counters.highest(layout, HERE) == 0


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """Nothing can be opened, by root neither."""
    resource = pytest.importorskip("resource", reason="limits of descriptors are of POSIX")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_counters_that_cannot_be_read_now_are_not_taken_for_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    layout = Layout(tmp_path)
    layout.temporary.mkdir(parents=True)
    moment = binding.now()
    counters.note(layout, HERE, moment)
    with no_descriptors(), pytest.raises(StorageError):
        counters.highest(layout, HERE)
    with no_descriptors():
        counters.forget(layout, HERE)
        counters.note(layout, HERE, moment + 1)
    assert caplog.text.count("cannot read which encrypted data is the newest") == 2
    assert counters.highest(layout, HERE) == moment


# The header


def test_a_header_says_what_was_put_into_it() -> None:
    for place in (HERE, binding.setting("p1", CREATED, "k"), binding.snapshot("p1", CREATED, "s")):
        found = binding.read(binding.bind(place, 7, b"tweakio/1 {}\n"))
        assert found == binding.Bound(place, 7, b"tweakio/1 {}\n")
        assert "{}" not in repr(found)  # a traceback has no secret
    assert binding.read(b"a line\nof the old form") == (None, 0, b"a line\nof the old form")


def headed(**changes: Any) -> bytes:
    value = {"purpose": "session", "profile_id": "p1", "created_at": CREATED, "counter": 7}
    return b"tweakio/1 " + json.dumps({**value, **changes}).encode() + b"\n"


@pytest.mark.parametrize(
    "header",
    [
        headed()[:-1],
        headed(name="x" * binding.LONGEST),
        b"tweakio/1 \n",
        b"tweakio/1 []\n",
        b"tweakio/1 " + b"[" * 2000 + b"\n",
        b"tweakio/1 {}\n",
        headed(purpose="other"),
        headed(purpose=[]),
        headed(profile_id=1),
        headed(created_at=None),
        headed(created_at="yesterday"),
        headed(name=0),
        headed(counter=True),
        headed(counter=0),
        headed(counter=1 << 53),
        headed(counter=7.0),
    ],
)
def test_a_header_that_is_none_is_refused(header: bytes) -> None:
    with pytest.raises(VaultError, match="cannot be read") as raised:
        binding.read(header)
    assert raised.value.hint == "encrypt it again"
    assert binding.read(headed()) == (HERE, 7, b"")


def test_a_header_of_a_newer_tweakio_is_no_damage() -> None:
    with pytest.raises(NewerFormatError, match="newer") as raised:
        binding.read(b"tweakio/2 whatever it is\n")
    assert raised.value.hint == "update tweakio"


def test_a_time_that_no_calendar_has_is_shown_as_its_year() -> None:
    assert binding.shown_time(1_767_323_045_000) == "2026-01-02T03:04:05Z"
    assert binding.shown_time((1 << 53) - 1) == "the year 287396"


def unframed(data: bytes, step: int) -> tuple[list[binding.Bound], bytes]:
    """What comes out of a stream that comes in pieces, and what was checked."""
    checked: list[binding.Bound] = []
    target = io.BytesIO()
    stream = binding.Unframed(target, checked.append)
    for at in range(0, len(data), step):
        assert stream.write(data[at : at + step]) == len(data[at : at + step])
        assert checked or not target.getvalue()  # nothing is handed on before
    stream.end()
    stream.flush()
    stream.end()
    return checked, target.getvalue()


@pytest.mark.parametrize("step", [1, 7, 4096])
@pytest.mark.parametrize("rest", [b"", b"x", b"the rest " * 99])
def test_a_header_before_a_stream_is_taken_off_however_it_comes(step: int, rest: bytes) -> None:
    place = binding.snapshot("p1", CREATED, "s")
    assert unframed(binding.framed(place, 9) + rest, step) == ([(place, 9, b"")], rest)
    assert unframed(rest, step) == ([(None, 0, b"")], rest)


@pytest.mark.parametrize("step", [1, 4096])
def test_a_wrong_header_before_a_stream_hands_nothing_on(step: int) -> None:
    right = binding.framed(HERE, 9)
    target = io.BytesIO()
    long = right[:4] + (binding.LONGEST + 1).to_bytes(4, "little") + bytes(9)
    wrong = right[:8] + b"tweakio/1 {" + right[19:]
    for data in (long, right[:-5], wrong.replace(b"}", b"]")):
        stream = binding.Unframed(target, lambda _: None)
        with pytest.raises(VaultError, match="cannot be read"):
            for at in range(0, len(data), step):
                stream.write(data[at : at + step])
            stream.end()
    assert target.getvalue() == b""


# Secrets in settings


def test_a_setting_made_of_a_session_is_not_decrypted(home: Home) -> None:
    """Else its owner's login would be sent to the proxy as its password."""
    stolen = as_sealed(home.path("p1").read_bytes())
    for profile_id in ("p1", "p2"):
        path = home.path(profile_id, "metadata.json")
        value = json.loads(path.read_text())
        value["browser"] = {"proxy": "http://me@127.0.0.1:9", "proxy_password": stolen}
        path.write_text(json.dumps(value))
    home.commit()
    with pytest.raises(VaultError, match="is the session of profile 'p1'"):
        home.opened("p1", "browser.proxy_password", stolen)
    # Also not after somebody confirmed the address without looking further.
    trust.confirm(home.manager.repository, home.manager.metadata.load("p2"))
    with pytest.raises(VaultError, match="is the session of profile 'p1'"):
        home.opened("p2", "browser.proxy_password", stolen)
    found = dict(home.manager.vault.examine().problems)
    assert found == {
        name: f"the encrypted setting browser.proxy_password in '{name}' is the session of "
        "profile 'p1'"
        for name in ("p1", "p2")
    }


def test_a_secret_is_for_one_key_of_one_profile(home: Home) -> None:
    vault = home.manager.vault
    text = vault.seal_secret("top secret", "p1", "platform_config.token")
    home.manager.update_profiles(["p1"], platform_config={"token": text})
    assert home.opened("p1", "platform_config.token", text) == "top secret"
    with pytest.raises(VaultError, match="is the setting platform_config.token of profile 'p1'"):
        home.opened("p1", "platform_config.other", text)
    with pytest.raises(VaultError, match="belongs to profile 'p1'"):
        home.opened("p2", "platform_config.token", text)
    for where in ({"other": text}, {"below": {"token": text}}):
        with pytest.raises(InvalidMetadataError, match="is the setting platform_config.token"):
            home.manager.update_profiles(["p1"], platform_config=where)
    with pytest.raises(InvalidMetadataError, match="belongs to profile 'p1'"):
        home.manager.update_profiles(["p2"], platform_config={"token": text})


def test_a_secret_for_no_place_gets_the_one_where_it_is_given(home: Home) -> None:
    text = home.manager.vault.seal_secret("top secret")
    with pytest.raises(VaultError, match="does not say whose it is"):
        home.opened("p1", "platform_config.token", text)
    home.manager.update_profiles(["p1"], platform_config={"token": text, "secrets": {"x": [text]}})
    config = home.manager.get_profile("p1").platform_config
    assert home.opened("p1", "platform_config.token", config["token"]) == "top secret"
    assert home.opened("p1", "platform_config.secrets.x", config["secrets"]["x"][0]) == "top secret"
    home.manager.create_profile(
        "new", "telegram", browser={"proxy": "http://u@h:1", "proxy_password": text}
    )
    now = home.manager.get_profile("new").browser["proxy_password"]
    assert home.opened("new", "browser.proxy_password", now) == "top secret"


def test_an_older_secret_is_refused_unless_it_was_confirmed_here(home: Home) -> None:
    vault, key = home.manager.vault, "platform_config.token"
    foreign = vault.seal_secret("made elsewhere", "p1", key)
    first = vault.seal_secret("first", "p1", key)
    home.manager.update_profiles(["p1"], platform_config={"token": first})
    trust.give(
        home.manager.repository, None, home.manager.metadata.load("p1"), ["platform_config.token"]
    )
    assert home.opened("p1", key, first) == "first"
    second = vault.seal_secret("second", "p1", key)
    assert home.opened("p1", key, second) == "second"
    assert home.opened("p1", key, first) == "first"
    with pytest.raises(VaultError, match="older than that of"):
        home.opened("p1", key, foreign)


def test_a_copy_of_a_profile_has_secrets_of_its_own(home: Home, tmp_path: Path) -> None:
    key = "browser.proxy_password"
    text = home.manager.vault.seal_secret("top secret", "p1", key)
    home.manager.update_profiles(["p1"], browser={"proxy": "http://u@h:1", "proxy_password": text})
    copy = home.manager.clone_profile("p1", "copy")
    assert home.opened("copy", key, copy.browser["proxy_password"]) == "top secret"
    # What cannot be decrypted is left out and named.
    (home.manager.home / "identity").rename(tmp_path / "away")
    home.manager.close()
    done = home.cli.ok("profile", "clone", "p1", "poor")
    assert "not copied to poor, as it cannot be decrypted here: browser.proxy_password" in done.err
    with ProfileManager(home.manager.home) as again:
        assert again.get_profile("poor").browser == {"proxy": "http://u@h:1"}


def test_an_import_under_another_id_names_what_is_of_no_use(home: Home, tmp_path: Path) -> None:
    key = "platform_config.token"
    text = home.manager.vault.seal_secret("top secret", "p1", key)
    home.manager.update_profiles(["p1"], platform_config={"token": text})
    home.manager.close()
    home.cli.ok("profile", "export", "p1", str(tmp_path / "x.zip"))
    done = home.cli.ok("profile", "import", str(tmp_path / "x.zip"), "--as", "other")
    assert f"encrypted for profile 'p1' and of no use to 'other': {key}" in done.err
    with pytest.raises(VaultError, match="belongs to profile 'p1'"):
        home.opened("other", key, text)


# Every kind in the place of every other


@pytest.mark.parametrize("identity", ["session", "setting", "snapshot", "export"])
def test_no_kind_passes_for_another(home: Home, tmp_path: Path, identity: str) -> None:
    manager = home.manager
    recipients = manager.vault.recipients()
    snapshot = manager.snapshots.create("p1").snapshot
    store = manager.layout.snapshots / "p1"
    manager.archives.export(["p1"], tmp_path / "x.age", with_session=True, recipients=recipients)
    kinds = {
        "session": home.path("p1").read_bytes(),
        "setting": sealed_bytes(
            manager.vault.seal_secret('{"cookies": [1]}', "p1", "platform_config.token")
        ),
        "snapshot": (store / f"{snapshot.name}.tar.zst.age").read_bytes(),
        "export": (tmp_path / "x.age").read_bytes(),
    }
    data = kinds.pop(identity)
    if identity != "session":
        home.path("p1").write_bytes(data)
        home.commit()
        home.lose("p1")
        with pytest.raises(VaultError):
            manager.vault.restore_sessions()
    if identity != "setting":
        with pytest.raises(VaultError):
            home.opened("p1", "platform_config.token", as_sealed(data))
    if identity != "snapshot":
        put_snapshot(store, snapshot.name, data)
        with pytest.raises(TweakioError):
            manager.snapshots.restore("p1")
        assert manager.snapshots.verify("p1")[0].problem
    if identity != "export":
        (tmp_path / "y.age").write_bytes(data)
        with pytest.raises(TweakioError):
            manager.archives.import_file(tmp_path / "y.age", as_id="new", identities=[home.secret])


# Snapshots


def put_snapshot(store: Path, old: str, data: bytes, **changes: Any) -> None:
    """As whoever can write to a store: any data, and a manifest that goes with it."""
    import hashlib

    manifest = store / f"{old}.json"
    value = json.loads(manifest.read_text())
    value |= {"stored_bytes": len(data), "stored_sha256": hashlib.sha256(data).hexdigest()}
    new = changes.get("name", old)
    (store / f"{old}.tar.zst.age").unlink()
    manifest.unlink()
    (store / f"{new}.tar.zst.age").write_bytes(data)
    (store / f"{new}.json").write_text(json.dumps(value | changes))


@pytest.fixture(params=["own", "share"])
def store(request: pytest.FixtureRequest, home: Home, tmp_path: Path) -> Path:
    if request.param == "own":
        return home.manager.layout.snapshots
    (tmp_path / "share").mkdir()
    home.manager.snapshots.set_store(str(tmp_path / "share"))
    return tmp_path / "share"


def test_a_snapshot_relabelled_as_another_profiles_newest(home: Home, store: Path) -> None:
    manager = home.manager
    made = manager.snapshots.create("p1").snapshot
    mine = manager.snapshots.create("p2").snapshot
    data = (store / "p1" / f"{made.name}.tar.zst.age").read_bytes()
    original = json.loads((store / "p1" / f"{made.name}.json").read_text())
    wanted = {
        **{key: original[key] for key in ("files", "bytes", "content_sha256")},
        "name": mine.name[:-8] + "ffffffff",
        "time": json_time(mine.time),
    }
    put_snapshot(store / "p2", mine.name, data, **wanted)
    before = home.path("p2", "session.json").read_bytes()
    with pytest.raises(SnapshotError, match=f"is the snapshot {made.name} of profile 'p1'"):
        manager.snapshots.restore("p2")
    manager.close()
    refused = home.cli.run("profile", "snapshot", "restore", "p2")
    assert refused.code == 36
    verified = home.cli.run("profile", "snapshot", "verify", "p2")
    assert verified.code == 36
    assert f"is the snapshot {made.name} of profile 'p1'" in verified.out
    assert home.path("p2", "session.json").read_bytes() == before


def test_an_older_snapshot_relabelled_as_the_newest(home: Home, store: Path) -> None:
    manager = home.manager
    made = manager.snapshots.create("p1").snapshot
    data = (store / "p1" / f"{made.name}.tar.zst.age").read_bytes()
    log_in(manager, "p1", "newer")
    newest = manager.snapshots.create("p1").snapshot
    # Another time alone makes it the newest; its name is what it was.
    put_snapshot(store / "p1", made.name, data, time="2998-01-01T00:00:00.000000Z")
    assert manager.snapshots.restore("p1").name == newest.name  # of a time to come
    put_snapshot(store / "p1", made.name, data, time=newest.time.replace(year=9998).isoformat())
    soon = (newest.time.replace(microsecond=0)).isoformat().replace("+00:00", ".999999Z")
    put_snapshot(store / "p1", made.name, data, time=soon)
    with pytest.raises(SnapshotError, match="it was made at .*, and its manifest says"):
        manager.snapshots.restore("p1", made.name)
    # A profile of another time that had the id.
    put_snapshot(
        store / "p1", made.name, data, time=json_time(made.time),
        profile_created_at="2020-01-01T00:00:00.000000Z",
    )  # fmt: skip
    with pytest.raises(SnapshotError, match="belongs to another profile of this name"):
        manager.snapshots.restore("p1", made.name, other=True)


def json_time(moment: Any) -> str:
    return str(moment.isoformat()).replace("+00:00", "Z")


def test_a_snapshot_of_an_older_tweakio_wants_a_word(home: Home, store: Path) -> None:
    """Nothing inside says whose it is."""
    manager = home.manager
    made = manager.snapshots.create("p1").snapshot
    data = (store / "p1" / f"{made.name}.tar.zst.age").read_bytes()
    plain = age.unseal(data, [home.secret])
    size = int.from_bytes(plain[4:8], "little")
    old = age.seal(plain[8 + size :], manager.vault.recipients())
    put_snapshot(store / "p1", made.name, old, bound=False)
    manager.close()
    refused = home.cli.run("profile", "snapshot", "restore", "p1")
    assert refused.code == 36
    assert f"restore p1 {made.name} --unbound" in refused.err
    verified = home.cli.ok("profile", "snapshot", "verify", "p1")
    assert verified.rows == [[made.name, "ok", "unbound", "-"]]
    home.cli.ok("profile", "snapshot", "restore", "p1", made.name, "--unbound")
    # The next one says it, although the data is the same.
    assert home.cli.ok("profile", "snapshot", "create", "p1").out.startswith("created ")


@needs_age
def test_a_snapshot_is_unpacked_without_tweakio(home: Home, tmp_path: Path) -> None:
    made = home.manager.snapshots.create("p1").snapshot
    path = home.manager.layout.snapshots / "p1" / f"{made.name}.tar.zst.age"
    done = subprocess.run(
        f"age -d -i {home.manager.home / 'identity'} {path} | zstd -dc | tar x -C {tmp_path}",
        shell=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "session.json").read_bytes() == home.sessions["p1"]


# What an older tweakio encrypted


def old_form(home: Home, *profile_ids: str) -> None:
    """As a home of an older tweakio is: no headers, and nothing noted of what was confirmed."""
    for profile_id in profile_ids:
        home.path(profile_id).write_bytes(home.encrypt(home.sessions[profile_id]))
    text = as_sealed(home.encrypt(b"old secret"))
    path = home.path("p1", "metadata.json")
    value = json.loads(path.read_text())
    value["platform_config"] = {"token": text}
    path.write_text(json.dumps(value))
    home.commit()
    home.manager.close()
    for path in (home.manager.layout.trusted, home.manager.layout.counters):
        shutil.rmtree(path)


def test_what_is_of_the_old_form_is_used_in_its_own_place(home: Home) -> None:
    old_form(home, "p1", "p2")
    status = home.cli.ok("vault", "status")
    assert "of the old form\t2" in status.lines
    assert "run 'tweakio vault reseal'" in status.err
    assert home.cli.ok("repo", "doctor").code == 0
    home.lose("p1", "p2")
    assert home.cli.ok("vault", "restore").out == "restored p1\nrestored p2\n"
    assert home.path("p1", "session.json").read_bytes() == home.sessions["p1"]
    token = home.manager.get_profile("p1").platform_config["token"]
    assert home.opened("p1", "platform_config.token", token) == "old secret"
    # From now on only there.
    shutil.copy(home.path("p1"), home.path("p2"))
    home.commit()
    home.lose("p1", "p2")
    with pytest.raises(VaultError, match="'p2' does not say whose it is") as refused:
        home.manager.vault.restore_sessions()
    assert refused.value.details["done"] == ["p1"]
    for profile_id, key in (("p2", "platform_config.token"), ("p1", "platform_config.other")):
        with pytest.raises(VaultError, match="does not say whose it is"):
            home.opened(profile_id, key, token)
    # Encrypting again says it, and what is not known is left as it is and named.
    assert home.manager.vault.reseal().left == ["p2"]
    assert home.inside("p1").place == home.place("p1")
    assert home.inside("p2").place is None
    token = home.manager.get_profile("p1").platform_config["token"]
    assert home.opened("p1", "platform_config.token", token) == "old secret"
    assert [name for name, _ in home.manager.vault.examine().problems] == ["p2"]


def test_the_old_form_put_back_is_something_old(home: Home) -> None:
    """Its bytes were known once; what was encrypted since is newer."""
    old_form(home, "p1")
    home.manager.vault.reseal()
    home.lose("p1")
    home.manager.vault.restore_sessions()
    git(home.profiles, "checkout", "-q", "HEAD~1", "--", f"p1/{SEALED}")
    home.commit()
    home.lose("p1")
    with pytest.raises(VaultError, match="is of an older tweakio, older than that of"):
        home.manager.vault.restore_sessions()


def test_the_next_login_says_whose_it_is(home: Home) -> None:
    old_form(home, "p1")
    assert home.manager.vault.seal_sessions(["p1", "p2"]) == ["p1"]
    assert home.inside("p1").place == home.place("p1")


def test_an_older_tweakio_that_decrypted_it_lost_nothing(home: Home) -> None:
    """It wrote the header into session.json, which is no JSON then, and no login for it."""
    data = age.unseal(home.path("p1").read_bytes(), [home.secret])
    home.path("p1", "session.json").write_bytes(data)
    assert home.manager.vault.status().missing == ["p1"]
    assert home.manager.vault.restore_sessions() == (["p1"], [])
    assert home.path("p1", "session.json").read_bytes() == home.sessions["p1"]


# Merges and other recipients


class Pair:
    """Two machines that both decrypt everything, and a bare repository between them."""

    def __init__(self, home: Home, base: Path) -> None:
        self.bare = base / "bare.git"
        git(base, "init", "-q", "--bare", "-b", "main", str(self.bare))
        self.a = home.manager
        self.a.remotes.add("origin", str(self.bare))
        self.a.remotes.push()
        clone_home(str(self.bare), Layout(base / "b"))
        shutil.copy(self.a.home / "identity", base / "b" / "identity")
        self.b = ProfileManager(base / "b")
        assert self.b.vault.restore_sessions() == (["p1", "p2"], [])

    def by_hand(self, base: Path) -> Path:
        """A work tree of whoever can push."""
        work = base / "attacker"
        git(base, "clone", "-q", str(self.bare), str(work))
        return work

    def push_by_hand(self, work: Path) -> None:
        assert git(work, *NAME, "commit", "-qam", "tidy up").returncode == 0
        done = git(work, "push", "-q", "origin", "HEAD:main")
        assert done.returncode == 0, done.stderr


@pytest.fixture
def pair(home: Home, tmp_path: Path) -> Iterator[Pair]:
    made = Pair(home, tmp_path)
    yield made
    made.b.close()


def counter(manager: ProfileManager, secret: str, profile_id: str = "p1") -> int:
    data = git(manager.layout.profiles, "show", f"HEAD:{profile_id}/{SEALED}").stdout
    return binding.read(age.unseal(data, [secret])).counter


def test_both_sides_encrypt_again_and_nothing_is_old(home: Home, pair: Pair) -> None:
    before = home.inside("p1")
    _, x = age.generate_identity()
    _, y = age.generate_identity()
    pair.a.vault.add_recipients([x])
    pair.b.vault.add_recipients([y])
    pair.a.remotes.push()
    pair.b.remotes.sync()
    pair.a.remotes.pull()
    assert home.inside("p1") == before
    for manager in (pair.a, pair.b):
        manager.layout.profile("p1").session.unlink()
        assert manager.vault.restore_sessions() == (["p1"], [])


@pytest.mark.parametrize("ahead", ["here", "there"])
def test_both_sides_add_what_it_is_for_and_the_newer_counts(
    home: Home, pair: Pair, monkeypatch: pytest.MonkeyPatch, ahead: str
) -> None:
    for path in (pair.a, pair.b):
        assert path.layout.trusted.is_dir()
    home.path("p1").write_bytes(home.encrypt(home.sessions["p1"]))
    home.commit()
    pair.a.remotes.push()
    pair.b.remotes.pull()
    for manager in (pair.a, pair.b):
        trust.confirm(manager.repository, manager.metadata.load("p1"))
        shutil.rmtree(manager.layout.counters)
    first, second = (pair.a, pair.b) if ahead == "here" else (pair.b, pair.a)
    first.vault.reseal()
    later = binding.now() + 5000
    with monkeypatch.context() as patch:
        patch.setattr(binding, "now", lambda: later)
        second.vault.reseal()
    # Each has used its own.
    for manager in (pair.a, pair.b):
        manager.layout.profile("p1").session.unlink()
        assert manager.vault.restore_sessions() == (["p1"], [])
    pair.a.remotes.push()
    assert not pair.b.remotes.sync().pulled.left
    pair.a.remotes.pull()
    for manager in (pair.a, pair.b):
        assert counter(manager, home.secret) == later
        manager.layout.profile("p1").session.unlink()
        assert manager.vault.restore_sessions() == (["p1"], [])


def test_a_merge_encrypts_nothing_for_others_that_does_not_belong_there(
    home: Home, pair: Pair, tmp_path: Path
) -> None:
    """Else a recipient would read what was encrypted for somebody else, and is no session."""
    secret, mine = age.generate_identity()
    pair.a.vault.add_recipients([mine])  # who pushes is a recipient as well
    pair.a.remotes.push()
    work = pair.by_hand(tmp_path)
    private = age.seal(b"a letter that was encrypted for the victim only", [*only(home)])
    shutil.copy(work / "p1" / SEALED, work / "p2" / SEALED)
    (work / "p3" / SEALED).write_bytes(private)
    git(work, "add", "-f", f"p3/{SEALED}")
    path = work / "p1" / "metadata.json"
    value = json.loads(path.read_text())
    value["platform_config"] = {"token": as_sealed(private)}
    path.write_text(json.dumps(value))
    pair.push_by_hand(work)
    _, other = age.generate_identity()
    pair.a.vault.add_recipients([other])  # so that the merge has something to do
    pulled = pair.a.remotes.pull()
    assert {"p1", "p2", "p3"} <= {*pulled.left}
    done = pair.a.vault.reseal()
    assert {"p1", "p3"} <= {*done.left}
    assert home.inside("p2").place == home.place("p2")  # what is logged in here
    everything = git(pair.a.layout.profiles, "show", f"HEAD:p3/{SEALED}").stdout
    with pytest.raises(VaultError, match="sealed for others"):
        age.unseal(everything, [secret])
    token = pair.a.get_profile("p1").platform_config["token"]
    with pytest.raises(VaultError, match="sealed for others"):
        age.unseal(base64.b64decode(token[7:]), [secret])


def only(home: Home) -> list[str]:
    return age.identity_recipients(home.secret)


# What is left to others, as docs/vault.md says


def test_who_can_push_can_put_a_session_of_their_own(home: Home) -> None:
    """Encryption is no signature; it is a login of theirs, and nothing of ours goes anywhere."""
    theirs = b'{"cookies": ["theirs"]}'
    home.path("p1").write_bytes(home.encrypt(binding.bind(home.place("p1"), binding.now(), theirs)))
    home.commit()
    home.lose("p1")
    assert home.manager.vault.restore_sessions() == (["p1"], [])
    assert home.path("p1", "session.json").read_bytes() == theirs


def test_who_can_write_to_the_store_can_put_a_snapshot_of_their_own(
    home: Home, tmp_path: Path
) -> None:
    log_in(home.manager, "p3", "theirs")
    made = home.manager.snapshots.create("p1").snapshot
    store = home.manager.layout.snapshots
    theirs = home.manager.snapshots.create("p3").snapshot
    data = (store / "p3" / f"{theirs.name}.tar.zst.age").read_bytes()
    plain = age.unseal(data, [home.secret])  # they know what they put in it
    size = int.from_bytes(plain[4:8], "little")
    created = home.manager.get_profile("p1").created_at
    assert created is not None
    place = binding.snapshot("p1", created, made.name)
    frame = binding.framed(place, binding.counter_of(made.time))
    original = json.loads((store / "p3" / f"{theirs.name}.json").read_text())
    put_snapshot(
        store / "p1", made.name, home.encrypt(frame, plain[8 + size :]),
        **{key: original[key] for key in ("files", "bytes", "content_sha256")},
    )  # fmt: skip
    home.manager.snapshots.restore("p1")
    assert b"theirs" in home.path("p1", "session.json").read_bytes()


def test_who_was_a_recipient_can_put_back_what_they_know(home: Home) -> None:
    secret, recipient = age.generate_identity()
    home.manager.vault.add_recipients([recipient])
    old = binding.read(age.unseal(home.path("p1").read_bytes(), [secret]))
    home.manager.vault.remove_recipient(recipient)
    log_in(home.manager, "p1", "newer")
    with pytest.raises(VaultError, match="sealed for others"):
        age.unseal(home.path("p1").read_bytes(), [secret])
    forged = binding.bind(home.place("p1"), binding.now() + 1000, old.content)
    home.path("p1").write_bytes(home.encrypt(forged))
    home.commit()
    home.lose("p1")
    home.manager.vault.restore_sessions()
    assert home.path("p1", "session.json").read_bytes() == home.sessions["p1"]


def test_who_has_the_disk_has_what_is_logged_in(tmp_path: Path) -> None:
    with ProfileManager(tmp_path / "home") as manager:
        manager.create_profiles(["p1"], "telegram")
        log_in(manager, "p1", "here")
        manager.vault.init(passphrase="correct horse")
    profile = tmp_path / "home" / "profiles" / "p1"
    assert b"here" in (profile / "session.json").read_bytes()
    identity = (tmp_path / "home" / "identity").read_bytes()
    with pytest.raises(VaultError):
        age.unseal((profile / SEALED).read_bytes(), [identity.decode("latin-1")])
    with pytest.raises(VaultError, match="not the right one"):
        age.unseal_passphrase(identity, "battery staple")
