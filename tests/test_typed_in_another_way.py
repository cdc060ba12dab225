"""The same thing typed in another way, and surroundings that make no sense."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli_helpers import Cli, environment

from tweakio import InvalidMetadataError, ProfileManager
from tweakio.identity import stamp
from tweakio.settings import SettingError, parse_proxy
from tweakio.vault import binding

COMPOSED, TAKEN_APART = "caf\u00e9", "cafe\u0301"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("http://my_proxy:8080", "http://my_proxy:8080"),
        ("http://_a.b_c_:8080", "http://_a.b_c_:8080"),
        ("http://proxy.example:8080/", "http://proxy.example:8080"),
        ("HTTP://Proxy.Example:8080", "http://proxy.example:8080"),
        ("Socks5H://h:1", "socks5://h:1"),
        ("socks5h://[::1]:1080", "socks5://[::1]:1080"),
        ("https://bob@h/", "https://bob@h:443"),
        ("http://h", "http://h:80"),
        ("http://[2001:DB8::1]", "http://[2001:db8::1]:80"),
        ("http://b\u00fccher.example:3128", "http://xn--bcher-kva.example:3128"),
    ],
)
def test_a_proxy_is_kept_in_one_form(home: Path, given: str, kept: str) -> None:
    with ProfileManager(home) as manager:
        made = manager.create_profile("a", "telegram", browser={"proxy": given})
        assert made.browser["proxy"] == kept
    stored = json.loads((home / "profiles" / "a" / "metadata.json").read_bytes())
    assert stored["browser"]["proxy"] == kept
    assert parse_proxy(given) == parse_proxy(kept)


@pytest.mark.parametrize(
    "given",
    [
        *("http://", "http://:8080", "http://h:0", "http://h:99999", "http://h//", "http://a b:1"),
        *("ftp://h:1", "http://h:1/path", "http://a:secret@h:1/", "HTTP://a:secret@h", "//h:1"),
        *("http://\u00ad.\u00ad:1", "http://-a:1", "http://[::1:1", "http://\u00b7..x:1"),
    ],
)
def test_what_is_no_proxy(given: str) -> None:
    with pytest.raises(SettingError) as refused:
        parse_proxy(given)
    assert "secret" not in str(refused.value)


def test_a_tag_is_one_however_it_was_typed(home: Path) -> None:
    with ProfileManager(home) as manager:
        manager.create_profile("a", "telegram", tags=[COMPOSED, TAKEN_APART])
        assert manager.get_profile("a").tags == (COMPOSED,)
        assert [one.id for one in manager.list_profiles(tags=[TAKEN_APART])] == ["a"]
        manager.update_profiles(["a"], remove_tags=[TAKEN_APART])
        assert manager.get_profile("a").tags == ()
        # As an older tweakio wrote them.
        path = home / "profiles" / "a" / "metadata.json"
        value = json.loads(path.read_bytes()) | {"tags": [TAKEN_APART, COMPOSED]}
        path.write_text(json.dumps(value), encoding="utf-8")
        assert manager.get_profile("a").tags == (COMPOSED,)
        assert [one.id for one in manager.list_profiles(tags=[COMPOSED])] == ["a"]
        manager.update_profiles(["a"], add_tags=["new"])
        assert json.loads(path.read_bytes())["tags"] == [COMPOSED, "new"]


def test_a_table_with_both(tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    table = tmp_path / "t.csv"
    table.write_text(
        f"id,platform,tags,proxy\na,telegram,{COMPOSED};{TAKEN_APART},HTTP://my_proxy/\n",
        encoding="utf-8",
    )
    cli.ok("profile", "import", "--from-csv", str(table))
    assert cli.ok("profile", "list", "--tag", TAKEN_APART).rows[0][0] == "a"
    stored = json.loads((cli.profiles / "a" / "metadata.json").read_bytes())
    assert (stored["tags"], stored["browser"]["proxy"]) == ([COMPOSED], "http://my_proxy:80")
    done = cli.ok("profile", "set", "--where-tag", TAKEN_APART, "--note", "x")
    assert "a" in done.out


# A clock and a zone


@pytest.mark.parametrize("zone", ["UTC+25", "UTC-25", "UTC+24", "nonsense", "/nowhere", "", ":"])
def test_an_offset_that_no_zone_has(tmp_path: Path, zone: str) -> None:
    cli = Cli(tmp_path)
    cli.ok("profile", "create", "a", "--platform", "telegram", TZ=zone)
    source = "import sys; from tweakio.cli.tables import local_time; from tweakio.models import *; "
    assert "2" in cli.python(source + "print(local_time(utc_now()))", TZ=zone).out
    cli.ok("profile", "history", TZ=zone)
    git = ["git", "-C", str(cli.profiles)]
    subprocess.run([*git, "fsck", "--strict", "--no-progress"], check=True, capture_output=True)
    offset = subprocess.run(
        [*git, "log", "-1", "--format=%ad", "--date=raw"], check=True, capture_output=True
    ).stdout.split()[1]
    assert offset == b"+0000"


@pytest.mark.skipif(not shutil.which("faketime"), reason="no faketime")
@pytest.mark.parametrize("when", ["1950-01-01 00:00:00", "2110-05-05 00:00:00"])
def test_a_clock_that_is_wrong(tmp_path: Path, when: str) -> None:
    def run(*arguments: str) -> str:
        done = subprocess.run(
            ["faketime", when, sys.executable, "-m", "tweakio", *arguments],
            env=environment(tmp_path),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, (arguments, done)
        return done.stdout

    run("profile", "create", "a", "--platform", "telegram")
    run("profile", "delete", "a")
    run("profile", "undo")
    run("repo", "doctor")
    git = ["git", "-C", str(tmp_path / "home" / "profiles")]
    subprocess.run([*git, "fsck", "--strict", "--no-progress"], check=True, capture_output=True)


def test_the_moments_that_git_has() -> None:
    assert stamp(-5).startswith("0 ")
    assert binding.counter_of(binding.datetime(1950, 1, 1, tzinfo=binding.timezone.utc)) == 0


NONSENSE = {
    "COLUMNS": "0",
    "LINES": "-3",
    "TERM": "",
    "LANG": "nonsense",
    "LC_ALL": "xx_YY.foo",
    "TWEAKIO_KEYRING_TIMEOUT": "soon",
    "TWEAKIO_BROWSER_ENV": "*,,*",
    "TWEAKIO_IDENTITY": "",
}


def test_an_environment_that_makes_no_sense(tmp_path: Path) -> None:
    cli = Cli(tmp_path, **NONSENSE, HOME="\0unset", USERPROFILE="\0unset")
    cli.ok("profile", "create", "a", "--platform", "telegram", "--note", "\u00e9")
    cli.ok("profile", "list")
    cli.ok("profile", "history")
    cli.ok("profile", "create", "-h")


# What stands in the way of the home


@pytest.mark.parametrize("arguments", [["profile", "list"], ["repo", "doctor"], ["vault", "init"]])
@pytest.mark.parametrize("where", ["file", "file/below", "nowhere", "circle"])
def test_what_stands_in_the_way_of_the_home(
    tmp_path: Path, where: str, arguments: list[str]
) -> None:
    cli = Cli(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "nowhere").symlink_to("gone")
    (tmp_path / "circle").symlink_to("circle")
    done = cli.run("--home", str(tmp_path / where), *arguments)
    assert done.code == 12
    what = "/file is not a directory"
    if "file" not in where:
        what = f"/{where} is a link that leads to no directory"
    assert what in done.err
    assert "move it away" in done.err


# Secrets in texts

SECRETS = [
    *("pin", "user_pin", "pinCode", "pass", "pwd", "otp", "TOTP", "otpSeed", "authorization"),
    *("session", "sid", "sessionId", "PHPSESSID", "jwt", "passcode", "access_key", "2fa_code"),
    *("signingKey", "seed_phrase", "recovery-codes", "password", "bot_token", "Auth"),
]
HARMLESS = [
    *("pinned_tabs", "spinner", "passenger", "session_name", "author", "option", "aside", "url_x"),
    *("keyboard", "pass_through", "signature", "authentication"),
]


@pytest.mark.parametrize("key", SECRETS)
def test_a_key_that_names_a_secret_takes_references_only(home: Path, key: str) -> None:
    with ProfileManager(home) as manager:
        manager.create_profile("r", "custom", platform_config={key: "env:THE_SECRET"})
        for config in ({key: "hunter2"}, {"a": [{key: "hunter2"}]}, {key: 1234}):
            with pytest.raises(InvalidMetadataError) as refused:
                manager.create_profile("a", "custom", platform_config=config)
            assert "holds a secret in the clear" in str(refused.value)
            assert "hunter2" not in str(refused.value)
            with pytest.raises(InvalidMetadataError):
                manager.update_profiles(["r"], platform_config=config)


def test_a_key_that_only_looks_like_it(home: Path) -> None:
    with ProfileManager(home) as manager:
        manager.create_profile("a", "custom", platform_config=dict.fromkeys(HARMLESS, "x"))


@pytest.mark.parametrize(
    "text",
    [
        "http://user:hunter2@host/",
        "HTTPS://user:hunter2@host",
        "see wss://u:hunter2@host:1/x and so on",
        "https://host/?a=1&token=hunter2",
        "https://host/#access_token=hunter2",
        "https://host/?sid=hunter2;x",
        "https://host/?X-Amz-Signature=hunter2",
        "https://host/?pass%77ord=hunter2",
    ],
)
def test_an_address_with_a_secret(home: Path, text: str) -> None:
    with ProfileManager(home) as manager:
        for options in ({"platform_config": {"url": text}}, {"note": text}):
            with pytest.raises(InvalidMetadataError) as refused:
                manager.create_profile("a", "custom", **options)
            assert "in an address" in str(refused.value)
            assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        *("https://host/?q=1", "https://user@host/", "mail a:b@c", "https://host/?token="),
        *("https://u:@host", "https://u:***@host", "https://host/a:b@c", "12:30 @home"),
    ],
)
def test_an_address_without(home: Path, text: str) -> None:
    with ProfileManager(home) as manager:
        manager.create_profile("a", "custom", note=text, platform_config={"page": text})


def test_what_history_has_stays_readable_and_does_not_spread(tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    cli.ok("profile", "create", "a", "--platform", "custom")
    path = cli.profiles / "a" / "metadata.json"
    value = json.loads(path.read_bytes()) | {"platform_config": {"sid": "hunter2"}}
    path.write_text(json.dumps(value))
    cli.ok("profile", "set", "a", "--note", "x")  # which takes the edit over
    assert json.loads(cli.ok("profile", "list", "--json").out)
    file = os.fspath(tmp_path / "a.zip")
    cli.ok("profile", "export", "a", file)
    for arguments in (
        ["clone", "a", "b"],
        ["import", file, "--as", "c"],
        ["set", "a", "--config", "sid=hunter2"],
        ["set", "a", "--config", "pin=hunter2", "--dry-run"],
    ):
        done = cli.run("profile", *arguments)
        assert done.code == 23, done
        assert "hunter2" not in done.err
    assert not (cli.profiles / "b").exists()
    cli.ok("profile", "set", "a", "--config", "sid=")
    cli.ok("profile", "clone", "a", "b")
