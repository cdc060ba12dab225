"""What came from elsewhere is used only after somebody confirmed it on this machine."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_helpers import Cli

from tweakio import (
    BrowserManager,
    InvalidMetadataError,
    ProfileManager,
    SyncBrowserManager,
    UntrustedSettingsError,
    clone_repository,
    trust,
)

Git = Callable[..., str]
MINE, THEIRS = "http://me@127.0.0.1:8080", "http://me@127.0.0.1:9999"


def _metadata(home: Path, profile_id: str = "alpha") -> Path:
    return home / "profiles" / profile_id / "metadata.json"


def _write(path: Path, **fields: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}, indent=2) + "\n")


def _refused(manager: ProfileManager, profile_id: str = "alpha") -> str:
    """What opening says, before any browser is looked for."""
    with pytest.raises(UntrustedSettingsError) as caught:
        SyncBrowserManager(profile_id, manager=manager, executable="/nowhere").open()
    with pytest.raises(UntrustedSettingsError):
        _ = SyncBrowserManager(profile_id, manager=manager).handler
    assert caught.value.exit_code == 43
    return f"{caught.value.message} -- {caught.value.hint}"


def _trusted(manager: ProfileManager, profile_id: str = "alpha") -> bool:
    return not trust.untrusted(manager.repository, manager.get_profile(profile_id))


def _set_by_git(home: Path, git: Git, **fields: object) -> None:
    """Somebody else's commit, past every command of ours."""
    _write(_metadata(home), **fields)
    git("commit", "-qam", "somebody else's", "--no-verify")


def test_what_was_given_here_is_trusted(manager: ProfileManager) -> None:
    manager.create_profile("alpha", "custom", browser={"proxy": MINE})
    assert _trusted(manager)
    manager.update_profiles(["alpha"], platform_config={"url": "https://example.com/"})
    assert _trusted(manager)
    manager.update_profiles(["alpha"], platform_config={"url": None, "selector_qr": "#qr"})
    assert _trusted(manager)


def test_a_commit_by_plain_git_is_not_used(manager: ProfileManager, home: Path, git: Git) -> None:
    manager.create_profile("alpha", "custom", browser={"proxy": MINE})
    _set_by_git(home, git, browser={"proxy": THEIRS, "proxy_password": "env:PATH"})
    told = _refused(manager)
    assert f"browser.proxy: {THEIRS} (confirmed here: {MINE})" in told
    assert "browser.proxy_password: env:PATH (confirmed here: none)" in told
    assert "tweakio profile trust alpha" in told


def test_an_edit_by_hand_is_not_used_before_it_is_confirmed(
    manager: ProfileManager, home: Path
) -> None:
    manager.create_profile("alpha", "custom")
    _write(_metadata(home), platform_config={"url": "https://example.org/"})
    manager.update_profiles(["alpha"], note="adopts the edit")
    assert "https://example.org/" in _refused(manager)
    trust.confirm(manager.repository, manager.metadata.load("alpha"))
    assert _trusted(manager)


def test_a_secret_confirmed_for_one_address_is_not_sent_to_another(
    manager: ProfileManager, home: Path, git: Git
) -> None:
    manager.create_profile("alpha", "custom", browser={"proxy": MINE, "proxy_password": "env:ONE"})
    manager.update_profiles(["alpha"], browser={"proxy": THEIRS, "proxy_password": "env:TWO"})
    _set_by_git(home, git, browser={"proxy": THEIRS, "proxy_password": "env:ONE"})
    assert "env:ONE (confirmed here: env:TWO)" in _refused(manager)


def test_setting_a_part_confirms_no_other(manager: ProfileManager, home: Path, git: Git) -> None:
    manager.create_profile("alpha", "custom", browser={"proxy": MINE})
    _set_by_git(home, git, browser={"proxy": MINE, "proxy_password": "env:PATH"})
    manager.update_profiles(["alpha"], browser={"proxy": THEIRS})
    assert "env:PATH" in _refused(manager)
    manager.update_profiles(["alpha"], browser={"locale": "de-DE"}, note="x")
    assert "env:PATH" in _refused(manager)
    manager.update_profiles(["alpha"], browser={"proxy": THEIRS, "proxy_password": None})
    assert _trusted(manager)


def test_undo_and_redo_of_what_was_confirmed_ask_nothing(manager: ProfileManager) -> None:
    manager.create_profile("alpha", "custom", browser={"proxy": MINE})
    manager.update_profiles(["alpha"], browser={"proxy": THEIRS})
    manager.undo()
    assert _trusted(manager)
    manager.redo()
    assert _trusted(manager)


def test_undo_confirms_nothing(manager: ProfileManager, home: Path, git: Git) -> None:
    manager.create_profile("alpha", "custom", browser={"proxy": MINE})
    _set_by_git(home, git, browser={"proxy": THEIRS})
    manager.update_profiles(["alpha"], browser={"proxy": MINE})
    assert _trusted(manager)
    manager.undo()
    assert THEIRS in _refused(manager)
    manager.update_profiles(["alpha"], browser={"proxy": MINE})
    manager.restore("alpha", "HEAD~1")
    assert THEIRS in _refused(manager)


def test_another_profile_of_the_same_id_has_nothing_confirmed(manager: ProfileManager) -> None:
    manager.create_profile("alpha", "custom", browser={"proxy": MINE})
    value = dict(manager.metadata.load("alpha"))
    assert trust.doubts(manager.repository, value) == []
    value["created_at"] = "2020-01-01T00:00:00.000000Z"
    assert [doubt.part for doubt in trust.doubts(manager.repository, value)] == ["proxy"]


def test_a_clone_inherits_what_is_confirmed_and_no_more(
    manager: ProfileManager, home: Path, git: Git
) -> None:
    manager.create_profile("alpha", "custom", browser={"proxy": MINE})
    manager.clone_profile("alpha", "beta")
    assert _trusted(manager, "beta")
    _set_by_git(home, git, browser={"proxy": THEIRS})
    manager.clone_profile("alpha", "gamma")
    assert THEIRS in _refused(manager, "gamma")


def test_a_home_of_before_keeps_what_it_has(manager: ProfileManager, home: Path, git: Git) -> None:
    manager.create_profile("alpha", "custom", browser={"proxy": MINE})
    shutil.rmtree(manager.layout.trusted)  # as 0.1.6 left a home
    manager.close()
    assert [profile.id for profile in manager.list_profiles()] == ["alpha"]
    _set_by_git(home, git, browser={"proxy": THEIRS})
    assert THEIRS in _refused(manager)
    assert sorted(path.name for path in manager.layout.trusted.iterdir()) == ["alpha.json"]


def test_nothing_of_a_clone_is_confirmed(manager: ProfileManager, home: Path) -> None:
    manager.create_profile("alpha", "custom", browser={"proxy": MINE})
    by_git = home.with_name("by-git")
    by_git.mkdir()
    subprocess.run(["git", "clone", "-q", home / "profiles", by_git / "profiles"], check=True)
    ours = home.with_name("ours")
    clone_repository(str(home / "profiles"), ours)
    for place in (by_git, ours):
        with ProfileManager(place) as other:
            assert MINE in _refused(other)


def test_a_record_that_cannot_be_understood_confirms_nothing(manager: ProfileManager) -> None:
    manager.create_profile("alpha", "custom", browser={"proxy": MINE})
    path = manager.layout.trusted / "alpha.json"
    for content in (b"", b"[", b"[]", b'{"proxy": 1}', path.read_bytes()[:40]):
        path.write_bytes(content)
        assert not _trusted(manager)
        assert MINE in _refused(manager)


def test_the_values_are_shown_without_what_a_terminal_obeys(
    manager: ProfileManager, home: Path, git: Git
) -> None:
    manager.create_profile("alpha", "custom")
    _set_by_git(home, git, platform_config={"key": "x" * 5000, "list": ["a\u0301", {"b": 1}]})
    told = _refused(manager)
    assert told.isprintable()
    assert len(told) < 1500


def test_the_asynchronous_side_refuses_as_well(
    manager: ProfileManager, home: Path, git: Git
) -> None:
    manager.create_profile("alpha", "custom")
    _set_by_git(home, git, browser={"proxy": THEIRS})
    with pytest.raises(UntrustedSettingsError):
        asyncio.run(BrowserManager("alpha", manager=manager).open())


@pytest.mark.parametrize(
    "config",
    [
        {"url": "env:PATH"},
        {"selector_health": "env:PATH"},
        {"selector_token": "env:PATH"},
        {"greeting": "keyring:x"},
        {"greeting": f"sealed:{'A' * 80}"},
        {"list": [{"deep": ["env:PATH"]}]},
        {"account": {"url": "env:PATH"}},
    ],
)
def test_a_reference_stands_only_where_a_secret_belongs(
    manager: ProfileManager, home: Path, git: Git, config: dict[str, object]
) -> None:
    with pytest.raises(InvalidMetadataError, match="not a setting for a secret"):
        manager.create_profile("alpha", "custom", platform_config=config)
    manager.create_profile("alpha", "custom")
    with pytest.raises(InvalidMetadataError, match="not a setting for a secret"):
        manager.update_profiles(["alpha"], platform_config=config)
    # Nor is it looked up if it came by another way, and was confirmed with the rest.
    _set_by_git(home, git, platform_config=config)
    trust.confirm(manager.repository, manager.metadata.load("alpha"))
    with pytest.raises(InvalidMetadataError, match="not a setting for a secret"):
        _ = SyncBrowserManager("alpha", manager=manager).handler


def test_settings_for_secrets_may_refer_to_one(
    manager: ProfileManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_SECRET", "42")
    manager.create_profile(
        "alpha", "custom", platform_config={"account": {"api_key": "env:A_SECRET"}}
    )
    _ = SyncBrowserManager("alpha", manager=manager).handler
    manager.update_profiles(["alpha"], platform_config={"token": "env:A_SECRET"})
    _ = SyncBrowserManager("alpha", manager=manager).handler


# By which ways it comes


def run_git(*arguments: object, cwd: Path | None = None) -> str:
    done = subprocess.run(
        ["git", *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert not done.returncode, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def desk(manager: ProfileManager, tmp_path: Path) -> ProfileManager:
    """This machine, with a profile that two machines have."""
    run_git("init", "-q", "--bare", "-b", "main", tmp_path / "remote.git")
    manager.create_profile("alpha", "custom", browser={"proxy": MINE})
    manager.remotes.add("origin", str(tmp_path / "remote.git"))
    manager.remotes.push()
    return manager


@pytest.fixture
def attack(desk: ProfileManager, tmp_path: Path) -> Callable[..., None]:
    """Push other settings, with plain git and without any key."""

    def push(profile_id: str = "alpha", **fields: object) -> None:
        place = tmp_path / "attacker"
        shutil.rmtree(place, ignore_errors=True)
        run_git("clone", "-q", tmp_path / "remote.git", place)
        path = place / profile_id / "metadata.json"
        _write(path, **fields)
        run_git("commit", "-qam", "hello", cwd=place)
        run_git("push", "-q", cwd=place)

    return push


PROXIED = {"proxy": THEIRS, "proxy_password": "env:AWS_SECRET_ACCESS_KEY"}
PAGED = {"url": "https://example.org/", "selector_health": "[x]"}


@pytest.mark.parametrize("fields", [{"browser": PROXIED}, {"platform_config": PAGED}])
def test_a_pull(
    desk: ProfileManager,
    attack: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
    fields: dict[str, dict[str, str]],
) -> None:
    attack(**fields)
    pulled = desk.remotes.pull()
    assert pulled.untrusted == ("alpha",)
    told = _refused(desk)
    for value in next(iter(fields.values())).values():
        assert value in told
        assert value in caplog.text
    desk.trust(["alpha"])
    assert _trusted(desk)


def test_a_pull_from_a_remote_of_ones_own(
    desk: ProfileManager, attack: Callable[..., None], home: Path
) -> None:
    attack(browser={"proxy": THEIRS})
    assert desk.remotes.pull(trusted=True).untrusted == ()
    assert _trusted(desk)
    attack(browser={"proxy": "http://127.0.0.1:7777"})
    run_git("config", "remote.origin.tweakioTrust", "true", cwd=home / "profiles")
    assert [remote.trusted for remote in desk.remotes.list()] == [True]
    assert desk.remotes.sync().pulled.untrusted == ()
    assert _trusted(desk)


def test_undo_and_redo_of_a_pull(desk: ProfileManager, attack: Callable[..., None]) -> None:
    attack(browser=PROXIED)
    desk.remotes.pull()
    desk.undo()
    assert _trusted(desk)
    desk.redo()
    assert THEIRS in _refused(desk)


@pytest.mark.parametrize("way", ["pull", "merge", "reset", "checkout", "stash"])
def test_plain_git(
    desk: ProfileManager, attack: Callable[..., None], git: Git, home: Path, way: str
) -> None:
    attack(browser=PROXIED)
    git("fetch", "-q", "origin")
    if way == "pull":
        git("pull", "-q", "--no-rebase", "origin", "main")
    elif way == "merge":
        git("merge", "-q", "origin/main")
    elif way == "reset":
        git("reset", "-q", "--hard", "origin/main")
    else:
        git("checkout", "-q", "origin/main", "--", "alpha/metadata.json")
        if way == "stash":
            git("stash", "-q")
            git("stash", "pop", "-q")
    assert THEIRS in _refused(desk)
    desk.update_profiles(["alpha"], note="and after a change of ours as well")
    assert THEIRS in _refused(desk)


@pytest.mark.parametrize("resolve", ["theirs", {"alpha": {"browser.proxy": "theirs"}}])
def test_a_conflict_that_is_settled_for_them(
    desk: ProfileManager, attack: Callable[..., None], resolve: object
) -> None:
    attack(browser={"proxy": THEIRS})
    desk.update_profiles(["alpha"], browser={"proxy": "http://127.0.0.1:8081"})
    assert desk.remotes.pull(resolve=resolve).untrusted == ("alpha",)  # type: ignore[arg-type]
    assert THEIRS in _refused(desk)


def test_a_profile_that_is_made_anew_there(
    desk: ProfileManager, attack: Callable[..., None]
) -> None:
    attack(created_at="2031-01-01T00:00:00.000000Z")
    assert desk.remotes.pull(resolve="theirs").untrusted == ("alpha",)
    assert f"browser.proxy: {MINE} (confirmed here: none)" in _refused(desk)


def test_an_archive(desk: ProfileManager, tmp_path: Path) -> None:
    desk.archives.export(["alpha"], tmp_path / "file.zip")
    with ProfileManager(tmp_path / "other") as other:
        other.archives.import_file(tmp_path / "file.zip")
        assert MINE in _refused(other)
        other.archives.import_file(tmp_path / "file.zip", as_id="beta", trusted=True)
        assert _trusted(other, "beta")
    desk.archives.import_file(tmp_path / "file.zip", as_id="gamma")
    assert MINE in _refused(desk, "gamma")


def test_a_table(manager: ProfileManager, tmp_path: Path) -> None:
    from tweakio import importing

    table = tmp_path / "list.csv"
    table.write_text(f"id,platform,proxy\nalpha,custom,{MINE}\n")
    manager.archives.bring_in(importing.from_csv(str(table), None, existing="refuse"), source="csv")
    assert MINE in _refused(manager)


def test_what_the_trash_and_a_recovery_bring_back(
    desk: ProfileManager, attack: Callable[..., None], home: Path
) -> None:
    attack(browser=PROXIED)
    desk.remotes.pull()
    desk.delete_profile("alpha")
    desk.restore_from_trash(desk.trash("alpha")[0].name)
    assert THEIRS in _refused(desk)
    _metadata(home).write_text("{")
    desk.recover_profile("alpha")
    assert THEIRS in _refused(desk)


def test_a_git_directory_that_is_built_anew_confirms_nothing(
    manager: ProfileManager, home: Path, git: Git
) -> None:
    manager.create_profile("alpha", "custom", browser={"proxy": MINE})
    _set_by_git(home, git, browser={"proxy": THEIRS})
    manager.close()
    shutil.rmtree(home / "profiles" / ".git")
    manager.doctor(fix=True, cut=True)
    assert THEIRS in _refused(manager)


def test_a_git_directory_that_is_replaced_keeps_what_was_confirmed(
    manager: ProfileManager, home: Path
) -> None:
    manager.create_profile("alpha", "custom", browser={"proxy": MINE})
    manager.close()
    shutil.rmtree(home / "profiles" / ".git" / "objects")
    assert manager.doctor(fix=True, cut=True).healthy
    assert _trusted(manager)
    _write(_metadata(home), browser={"proxy": THEIRS})
    manager.update_profiles(["alpha"], note="adopts it")
    assert THEIRS in _refused(manager)


def test_looking_writes_nothing(manager: ProfileManager, home: Path, git: Git) -> None:
    manager.create_profile("alpha", "custom", browser={"proxy": MINE})
    _set_by_git(home, git, browser={"proxy": THEIRS})
    assert [doubt.part for doubt in manager.untrusted()] == ["proxy"]
    assert [item.code for item in manager.doctor().findings] == ["untrusted-settings"]
    shutil.rmtree(manager.layout.trusted)
    assert manager.doctor().findings == []
    assert not manager.layout.trusted.exists()


# From the command line


def test_the_command_line(
    desk: ProfileManager, attack: Callable[..., None], tmp_path: Path
) -> None:
    cli = Cli(tmp_path, TWEAKIO_HOME=str(desk.home))
    attack(browser=PROXIED)
    done = cli.run("repo", "pull")
    assert done.code == 0
    assert THEIRS in done.err
    assert "tweakio profile trust alpha" in done.err
    status = json.loads(cli.run("profile", "status", "alpha", "--json").out)
    assert status["untrusted"] == ["browser.proxy", "browser.proxy_password"]
    for command in ("open", "login", "check"):
        done = cli.run("profile", command, "alpha", DISPLAY=":9")
        assert done.code == 43
        assert MINE in done.err
        assert THEIRS in done.err
    done = cli.run("profile", "trust", "alpha")
    assert (done.code, "profile trust --yes alpha" in done.err) == (43, True)
    assert THEIRS in done.out
    assert not _trusted(desk)
    listed = json.loads(cli.run("profile", "trust", "--all", "--json").out)
    assert [item["part"] for item in listed] == ["proxy"]
    done = cli.run("profile", "trust", "alpha", "--yes")
    assert done.code == 0
    assert "confirmed 1 profile" in done.err
    assert _trusted(desk)
    assert cli.run("profile", "trust", "--all").code == 0
    assert cli.run("profile", "trust").code == 2
    assert cli.run("profile", "trust", "nobody", "--yes").code == 3


def test_what_anyone_who_pushes_can_change(
    desk: ProfileManager, attack: Callable[..., None]
) -> None:
    """As docs/sync.md says: these take effect, a pull names the profile, and undo takes it back."""
    attack(note="theirs", tags=["theirs"], browser={"proxy": MINE, "timezone": "Asia/Tokyo"})
    assert desk.remotes.pull().changed == ("alpha",)
    assert _trusted(desk)
    assert desk.get_profile("alpha").note == "theirs"
    desk.undo()
    assert desk.get_profile("alpha").note == ""
