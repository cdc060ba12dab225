"""Every command as a person runs it, judged by what the next command says."""

from __future__ import annotations

import json

import pytest
from cli_helpers import UNSET, Cli, Holder, errors


@pytest.fixture
def cli(tmp_path):
    return Cli(tmp_path)


@pytest.fixture
def two(cli):
    cli.ok("profile", "create", "alpha", "beta", "--platform", "whatsapp", "--tag", "team")
    return cli


def status(cli, profile_id):
    return json.loads(cli.ok("profile", "status", profile_id, "--json").out)


def ids(cli):
    return [row[0] for row in cli.ok("profile", "list").rows]


def marker(cli, profile_id):
    return cli.profiles / profile_id / "browser_profile" / "marker"


def commits(cli):
    return len(cli.ok("profile", "history").lines)


class TestCreate:
    def test_says_what_it_made_and_nothing_else(self, cli):
        result = cli.ok("profile", "create", "alpha", "beta", "--platform", "telegram")
        assert result.out == "created alpha (telegram)\ncreated beta (telegram)\n"
        assert result.err == ""
        assert ids(cli) == ["alpha", "beta"]

    def test_takes_every_setting(self, cli):
        cli.ok(
            "profile", "create", "a", "--platform", "discord", "--tag", "x", "--tag", "y",
            "--note", "a note", "--platform-version", "9", "--config", "api_id=env:ID",
            "--config", "url=a=b",
        )  # fmt: skip
        found = status(cli, "a")
        assert found["tags"] == ["x", "y"]
        assert found["note"] == "a note"
        assert found["platform_version"] == "9"
        assert found["platform_config"] == {"api_id": "env:ID", "url": "a=b"}

    def test_several_are_one_commit(self, two):
        assert [row[2] for row in two.ok("profile", "history").rows] == ["create", "init"]

    def test_prints_json(self, cli):
        result = cli.ok("profile", "create", "b", "a", "--platform", "whatsapp", "--json")
        assert [item["profile_id"] for item in json.loads(result.out)] == ["b", "a"]

    def test_all_or_none(self, two):
        result = two.run("profile", "create", "gamma", "alpha", "--platform", "whatsapp")
        assert result.code == 4
        assert ids(two) == ["alpha", "beta"]


class TestActivate:
    def test_selects_and_switches(self, two):
        assert two.ok("profile", "activate", "alpha").out == "activated alpha\n"
        two.ok("profile", "activate", "beta")
        assert [row[2] for row in two.ok("profile", "list").rows] == ["inactive", "active"]
        assert status(two, "beta")["in_use"] is False

    def test_deactivates(self, two):
        two.ok("profile", "activate", "alpha")
        assert two.ok("profile", "deactivate").out == "deactivated alpha\n"
        assert two.ok("profile", "list", "--active").out == ""

    def test_nothing_to_deactivate_is_no_error(self, two):
        result = two.ok("profile", "deactivate")
        assert result.out == ""
        assert "nothing to deactivate" in result.err

    def test_names_who_holds_one(self, two):
        with Holder(two, "alpha") as holder:
            listed = two.ok("profile", "list").rows[0]
            result = two.ok("profile", "deactivate")
            found = status(two, "alpha")
        assert listed[2:4] == ["active", "in_use"]
        assert f"'alpha' is in use by process {holder.pid}" in result.err
        assert (found["in_use"], found["lock_pid"]) == (True, holder.pid)

    def test_waits_no_longer_than_asked(self, two):
        with Holder(two, "alpha"):
            result = two.run("profile", "activate", "alpha", "--timeout", "0.1")
        assert result.code == 6


class TestDelete:
    def test_and_undo_with_browser_data(self, two):
        marker(two, "alpha").write_bytes(b"login")
        result = two.ok("profile", "delete", "alpha")
        assert result.out == "deleted alpha\n"
        assert "tweakio profile undo" in result.err
        assert ids(two) == ["beta"]
        assert two.ok("profile", "undo").out == "undone: delete alpha\n"
        assert marker(two, "alpha").read_bytes() == b"login"
        assert two.ok("profile", "redo").out == "done again: delete alpha\n"
        assert ids(two) == ["beta"]

    def test_active_needs_force(self, two):
        two.ok("profile", "activate", "alpha")
        assert two.run("profile", "delete", "alpha").code == 5
        two.ok("profile", "delete", "alpha", "--force")
        assert ids(two) == ["beta"]

    def test_in_use_is_refused_even_with_force(self, two):
        with Holder(two, "alpha"):
            assert two.run("profile", "delete", "alpha", "--force").code == 5
        assert ids(two) == ["alpha", "beta"]

    def test_purge_keeps_nothing(self, two):
        result = two.ok("profile", "delete", "alpha", "--purge")
        assert "deleted permanently; exported files are not touched" in result.err
        assert two.ok("profile", "trash", "list").out == ""

    def test_several_are_one_commit(self, two):
        before = commits(two)
        two.ok("profile", "delete", "alpha", "beta")
        assert commits(two) == before + 1

    @pytest.mark.parametrize(
        "selection",
        [["--tag", "team"], ["--where-tag", "team"], ["--platform", "whatsapp", "--tag", "team"]],
    )
    def test_selects(self, two, selection):
        two.ok("profile", "create", "other", "--platform", "whatsapp")
        result = two.ok("profile", "delete", *selection)
        assert result.out == "deleted alpha\ndeleted beta\n"
        assert ids(two) == ["other"]

    def test_dry_run_changes_nothing(self, two):
        before = two.snapshot()
        result = two.ok("profile", "delete", "--tag", "team", "--dry-run")
        assert result.out == "would delete alpha\nwould delete beta\n"
        assert two.snapshot() == before

    def test_dry_run_refuses_what_the_deletion_refuses(self, two):
        two.ok("profile", "activate", "alpha")
        assert two.run("profile", "delete", "alpha", "--dry-run").code == 5
        assert two.run("profile", "delete", "nobody", "--dry-run").code == 3


class TestSet:
    def test_changes_every_setting(self, two):
        two.ok("profile", "set", "alpha", "beta", "--tag", "new", "--untag", "team", "--note", "n",
               "--platform-version", "2", "--config", "k=v")  # fmt: skip
        for name in ("alpha", "beta"):
            found = status(two, name)
            assert (found["tags"], found["note"]) == (["new"], "n")
            assert (found["platform_version"], found["platform_config"]) == ("2", {"k": "v"})

    def test_empty_values_remove(self, two):
        two.ok("profile", "set", "alpha", "--note", "n", "--platform-version", "2",
               "--config", "k=v")  # fmt: skip
        two.ok("profile", "set", "alpha", "--note", "", "--platform-version", "", "--config", "k=")
        found = status(two, "alpha")
        assert (found["note"], found["platform_version"], found["platform_config"]) == (
            "",
            None,
            {},
        )

    def test_selects(self, two):
        before = commits(two)
        result = two.ok("profile", "set", "--where-tag", "team", "--tag", "x")
        assert result.out == "set alpha\nset beta\n"
        assert commits(two) == before + 1
        assert status(two, "beta")["tags"] == ["team", "x"]

    def test_dry_run_shows_the_fields_and_changes_nothing(self, two):
        before = two.snapshot()
        result = two.ok("profile", "set", "alpha", "--tag", "x", "--note", "n", "--dry-run")
        assert result.lines == [
            "would set alpha",
            '  tags: ["team"] -> ["team", "x"]',
            '  note: "" -> "n"',
        ]
        assert two.snapshot() == before

    def test_dry_run_refuses_what_the_change_refuses(self, two):
        for options in (["--config", "password=x"], ["--note", "\x1b"], ["--tag", " "]):
            real = two.run("profile", "set", "alpha", *options)
            tried = two.run("profile", "set", "alpha", *options, "--dry-run")
            assert real.code == tried.code != 0


ALL_SETTINGS = (
    "--locale", "de-DE", "--timezone", "Europe/Berlin", "--window", "1280x800", "--color-scheme",
    "dark", "--proxy", "http://bob@127.0.0.1:8080", "--proxy-password", "env:PROXY_PASSWORD",
)  # fmt: skip
ALL_IN_JSON = {
    "locale": "de-DE",
    "timezone": "Europe/Berlin",
    "window": [1280, 800],
    "color_scheme": "dark",
    "proxy": "http://bob@127.0.0.1:8080",
    "proxy_password": "env:PROXY_PASSWORD",
}
SECRET = "hunter2-correct-horse"


class TestBrowserSettings:
    def test_set(self, two):
        assert status(two, "alpha")["browser"] == {}
        before = commits(two)
        two.ok("profile", "set", "alpha", "beta", *ALL_SETTINGS)
        assert commits(two) == before + 1
        for name in ("alpha", "beta"):
            found = status(two, name)["browser"]
            assert found == ALL_IN_JSON
            assert list(found) == list(ALL_IN_JSON)

    def test_create(self, cli):
        cli.ok("profile", "create", "a", "b", "--platform", "custom", *ALL_SETTINGS)
        assert status(cli, "b")["browser"] == ALL_IN_JSON
        assert commits(cli) == 2

    def test_one_by_one_and_away(self, two):
        two.ok("profile", "set", "alpha", *ALL_SETTINGS[:4])
        two.ok("profile", "set", "alpha", *ALL_SETTINGS[4:])
        assert status(two, "alpha")["browser"] == ALL_IN_JSON
        two.ok("profile", "set", "alpha", *[part for name in ALL_SETTINGS[::2]
                                            for part in (name, "")])  # fmt: skip
        assert status(two, "alpha")["browser"] == {}
        text = (two.profiles / "alpha" / "metadata.json").read_text()
        assert "browser" not in text

    def test_status_show_diff_and_undo(self, two):
        two.ok("profile", "set", "alpha", "--window", "1280x800")
        two.ok("profile", "set", "alpha", "--window", "1024x700", "--locale", "de-DE")
        after = '{"locale": "de-DE", "window": [1024, 700]}'
        assert ["browser", after] in two.ok("profile", "status", "alpha").rows
        line = f'  browser: {{"window": [1280, 800]}} -> {after}'
        assert line in two.ok("profile", "show", "HEAD").lines
        assert line in two.ok("profile", "diff", "alpha", "HEAD~1").lines
        two.ok("profile", "undo")
        assert status(two, "alpha")["browser"] == {"window": [1280, 800]}

    def test_dry_run(self, two):
        two.ok("profile", "set", "alpha", "--locale", "de-DE")
        before = two.snapshot()
        result = two.ok("profile", "set", "alpha", "--timezone", "UTC", "--dry-run")
        assert result.lines == [
            "would set alpha",
            '  browser: {"locale": "de-DE"} -> {"locale": "de-DE", "timezone": "UTC"}',
        ]
        assert two.snapshot() == before

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--locale", "de_DE"], "browser.locale is not a locale"),
            (["--timezone", "Europe/Berlinn"], "browser.timezone names no time zone that exists"),
            (["--window", "10x10"], "browser.window is too small or too large"),
            (["--window", "big"], "'big' is not the size of a window"),
            (["--color-scheme", "blue"], "browser.color_scheme is no color scheme"),
            (["--proxy", f"http://bob:{SECRET}@a:1"], "browser.proxy holds a password"),
            (["--proxy", f"bob:{SECRET}@a:1"], "browser.proxy holds a password"),
            (["--proxy", SECRET], "browser.proxy is not the address of a proxy"),
            (["--proxy-password", SECRET], "browser.proxy_password is not a reference to a secret"),
            (["--proxy-password", "env:A"], "browser.proxy_password needs a proxy with a user"),
        ],
    )
    def test_bad_values_are_one_line_and_change_nothing(self, two, options, message):
        before = two.snapshot()
        result = two.run("--debug", "profile", "set", "alpha", *options)
        assert (result.code in (2, 23), result.out) == (True, "")
        assert errors(result) == [f"tweakio: error: {message}"]
        assert SECRET not in result.err
        assert two.snapshot() == before

    @pytest.mark.parametrize("command", [["set", "alpha", "--dry-run"], ["create", "new"]])
    def test_a_dry_run_and_a_new_profile_refuse_the_same(self, two, command):
        before = two.snapshot()
        options = ["--proxy", f"http://bob:{SECRET}@a:1"]
        options += ["--platform", "custom"] if "new" in command else []
        result = two.run("-vv", "profile", *command, *options)
        assert errors(result) == ["tweakio: error: browser.proxy holds a password"]
        assert SECRET not in result.out + result.err
        assert two.snapshot() == before

    def test_no_empty_value_for_a_new_profile(self, cli):
        result = cli.run("profile", "create", "a", "--platform", "custom", "--locale", "")
        assert errors(result) == ["tweakio: error: --locale has no value"]

    def test_the_proxy_cannot_go_before_its_password(self, two):
        two.ok("profile", "set", "alpha", *ALL_SETTINGS)
        result = two.run("profile", "set", "alpha", "--proxy", "")
        assert errors(result) == [
            "tweakio: error: browser.proxy_password needs a proxy with a user"
        ]
        two.ok("profile", "set", "alpha", "--proxy", "", "--proxy-password", "")

    def test_the_secret_is_never_looked_up_to_set_it(self, two):
        options = ["--proxy", "http://bob@a:1", "--proxy-password", "env:PROXY_PASSWORD"]
        result = two.ok("-vv", "profile", "set", "alpha", *options, PROXY_PASSWORD=SECRET)
        assert SECRET not in result.out + result.err
        assert not [name for name, data in two.snapshot().items() if SECRET.encode() in data]

    def test_a_newer_versions_settings_stay(self, two):
        path = two.profiles / "alpha" / "metadata.json"
        value = json.loads(path.read_text())
        path.write_text(json.dumps({**value, "browser": {"zoom": 2, "locale": "de-DE"}}))
        two.ok("profile", "set", "alpha", "--window", "1280x800")
        assert status(two, "alpha")["browser"] == {
            "locale": "de-DE",
            "window": [1280, 800],
            "zoom": 2,
        }

    def test_an_edit_by_hand_that_is_wrong_is_damage(self, two):
        path = two.profiles / "alpha" / "metadata.json"
        value = json.loads(path.read_text())
        path.write_text(json.dumps({**value, "browser": {"proxy": f"http://b:{SECRET}@a:1"}}))
        found = status(two, "alpha")
        assert (found["status"], found["browser"]) == ("corrupted", {})
        assert found["problem"] == "browser.proxy holds a password"
        two.ok("profile", "recover", "alpha")
        assert status(two, "alpha")["status"] == "inactive"


class TestListAndStatus:
    def test_columns_of_a_pipe(self, two):
        rows = two.ok("profile", "list").rows
        assert [len(row) for row in rows] == [6, 6]
        assert rows[0][:4] == ["alpha", "whatsapp", "inactive", "-"]
        assert rows[0][5] == "team"

    def test_filters(self, two):
        two.ok(
            "profile", "create", "gamma", "--platform", "telegram", "--tag", "x", "--tag", "team"
        )
        two.ok("profile", "activate", "gamma")
        two.damage("beta")
        listed = {
            "--all": ["alpha", "beta", "gamma"],
            "--active": ["gamma"],
            "--corrupted": ["beta"],
            "--platform telegram": ["gamma"],
            "--tag team": ["alpha", "gamma"],
            "--tag team --tag x": ["gamma"],
        }
        for options, expected in listed.items():
            rows = two.ok("profile", "list", *options.split()).rows
            assert [row[0] for row in rows] == expected, options

    def test_a_damaged_one_has_every_column(self, two):
        two.damage("beta")
        assert two.ok("profile", "list", "--corrupted").out == "beta\t-\tcorrupted\t-\t-\t-\n"

    def test_control_characters_do_not_reach_the_pipe(self, two):
        two.ok("profile", "set", "alpha", "--note", "one\ntwo\tthree")
        lines = two.ok("profile", "status", "alpha").lines
        assert "note\tone\\ntwo\\tthree" in lines
        assert all("\t" in line for line in lines)

    def test_no_home_is_an_empty_list_only_for_the_default(self, cli):
        assert cli.ok("profile", "list", TWEAKIO_HOME=UNSET).out == ""
        assert cli.run("profile", "list").code == 12


class TestRecover:
    def test_soft(self, two):
        two.damage("alpha")
        assert two.run("profile", "activate", "alpha").code == 7
        assert two.ok("profile", "recover", "alpha").out == "recovered alpha (soft)\n"
        assert status(two, "alpha")["tags"] == ["team"]

    def test_hard_keeps_the_old_session_in_the_trash(self, two):
        marker(two, "alpha").write_bytes(b"login")
        two.ok("profile", "recover", "alpha", "--mode", "hard")
        assert not marker(two, "alpha").exists()
        entry = two.ok("profile", "trash", "list").rows[0]
        assert entry[1:3] == ["alpha", "reset"]
        two.ok("profile", "trash", "restore", entry[0])
        assert marker(two, "alpha").read_bytes() == b"login"

    def test_a_selection_takes_damaged_ones_only(self, two):
        marker(two, "beta").write_bytes(b"login")
        two.damage("alpha")
        options = ["--tag", "team", "--platform", "whatsapp", "--mode", "hard"]
        result = two.ok("profile", "recover", *options, "--dry-run")
        assert [line.split(":")[0] for line in result.lines] == ["would recover alpha (hard)"]
        assert two.ok("profile", "recover", *options).out == "recovered alpha (hard)\n"
        assert marker(two, "beta").read_bytes() == b"login"
        assert two.run("profile", "recover", *options).code == 3


class TestHistory:
    def test_columns_of_a_pipe(self, two):
        two.ok("profile", "activate", "alpha")
        newest, created, first = two.ok("profile", "history").rows
        assert [len(row) for row in (newest, created, first)] == [6, 6, 6]
        assert newest[0] == two.head()[:12]
        assert newest[2:] == ["activate", "alpha", "activate alpha", "Test <test@example.org>"]
        assert created[3] == "alpha,beta"
        assert first[2:4] == ["init", "-"]

    def test_of_one_and_limited(self, two):
        two.ok("profile", "set", "alpha", "--note", "n")
        two.ok("profile", "delete", "beta")
        operations = [row[2] for row in two.ok("profile", "history", "beta").rows]
        assert operations == ["delete", "create"]
        assert len(two.ok("profile", "history", "-n", "1").lines) == 1

    def test_names_the_command(self, two):
        found = json.loads(two.ok("profile", "history", "--json").out)
        assert found[0]["command"] == "profile create"

    def test_show(self, two):
        two.ok("profile", "set", "alpha", "--note", "n")
        lines = two.ok("profile", "show", "HEAD").lines
        assert lines[0] == f"revision  {two.head()}"
        assert lines[-2:] == ["alpha (changed)", '  note: "" -> "n"']

    def test_diff(self, two):
        two.ok("profile", "set", "alpha", "--note", "n")
        assert two.ok("profile", "diff", "alpha", "HEAD~1").lines == [
            "alpha (changed)",
            '  note: "" -> "n"',
        ]
        same = two.ok("profile", "diff", "alpha")
        assert same.out == ""
        assert "does not differ" in same.err
        unchanged = json.loads(two.ok("profile", "diff", "alpha", "--json").out)
        assert unchanged == {"profile_id": "alpha", "kind": "unchanged", "fields": []}

    def test_restore(self, two):
        two.ok("profile", "set", "alpha", "--note", "n")
        two.ok("profile", "delete", "alpha")
        two.ok("profile", "restore", "alpha", "--to", "HEAD~2")
        assert status(two, "alpha")["note"] == ""


class TestTrash:
    def test_restore_and_purge(self, two):
        two.ok("profile", "delete", "alpha", "beta")
        rows = two.ok("profile", "trash", "list").rows
        assert sorted(row[1] for row in rows) == ["alpha", "beta"]
        assert all(len(row) == 5 and row[4].isdigit() for row in rows)
        entries = {row[1]: row[0] for row in rows}
        assert two.ok("profile", "trash", "restore", entries["alpha"]).out == "restored alpha\n"
        assert ids(two) == ["alpha"]
        assert two.ok("profile", "trash", "purge", "--older-than", "1h").out == ""
        purged = two.ok("profile", "trash", "purge", entries["beta"])
        assert purged.out == f"purged {entries['beta']}\n"
        assert two.ok("profile", "trash", "list").out == ""

    def test_purge_all(self, two):
        two.ok("profile", "delete", "alpha", "beta")
        assert len(two.ok("profile", "trash", "purge", "--all").lines) == 2


class TestRepo:
    def test_path(self, cli):
        assert cli.ok("repo", "path").out == f"{cli.profiles}\n"
        assert not cli.home.exists()

    def test_gc(self, two):
        assert two.ok("repo", "gc").out.startswith("packed ")
        assert ids(two) == ["alpha", "beta"]

    def test_doctor_of_a_healthy_one(self, two):
        result = two.ok("repo", "doctor")
        assert result.out == ""
        assert "all is well" in result.err

    def test_doctor_finds_and_changes_nothing(self, two):
        two.damage("beta")
        two.ok("profile", "list")
        before = two.snapshot()
        result = two.run("repo", "doctor")
        assert result.code == 14
        assert [len(row) for row in result.rows] == [5]
        assert two.snapshot() == before
        two.ok("profile", "recover", "beta")
        assert two.ok("repo", "doctor").out == ""

    def test_doctor_mends(self, two):
        (two.profiles / ".git" / "HEAD").write_bytes(b"")
        assert two.run("profile", "list").code == 14
        result = two.ok("repo", "doctor", "--fix")
        assert [row[2] for row in result.rows if row[1] != "note"] == ["fixed"]
        assert ids(two) == ["alpha", "beta"]

    def test_migrate_without_an_old_account(self, two):
        result = two.ok("repo", "migrate")
        assert result.out == ""
        assert "nothing to take over" in result.err

    def test_migrate(self, two):
        old = two.base / "xdg" / "TweakioWhatsApp" / "BrowserManager"
        old.mkdir(parents=True)
        (old / "StorageState.json").write_text('{"cookies": [], "origins": []}')
        assert two.ok("repo", "migrate").out == "migrated default (whatsapp)\n"
        assert "default" in ids(two)
        assert (old / "StorageState.json").exists()


class TestGlobalOptions:
    def test_home_wins_over_the_environment(self, cli, tmp_path):
        other = str(tmp_path / "other")
        cli.ok("--home", other, "profile", "create", "x", "--platform", "whatsapp")
        assert not cli.home.exists()
        assert cli.ok("profile", "list", TWEAKIO_HOME=other).rows[0][0] == "x"

    def test_version(self, cli):
        import tweakio

        assert cli.ok("--version").out == f"tweakio {tweakio.__version__}\n"

    def test_without_a_command_there_is_help(self, cli):
        assert cli.ok().out == cli.ok("-h").out
        assert "profile" in cli.ok().out

    def test_the_log_is_on_stderr_in_lines_of_ours(self, two):
        (two.profiles / "alpha" / "metadata.json").write_bytes(
            (two.profiles / "alpha" / "metadata.json").read_bytes().replace(b"team", b"edit")
        )
        result = two.ok("-vv", "profile", "set", "beta", "--note", "n")
        assert result.out == "set beta\n"
        assert result.err
        assert all(line.startswith("tweakio: ") for line in result.err.splitlines())


@pytest.fixture
def no_extra(cli, tmp_path):
    """As if tweakio[browser] were not installed."""
    cli.forks = False
    # The directory that commands run in is the first on their path.
    (tmp_path / "playwright.py").write_text("raise ImportError('not installed')\n")


@pytest.mark.usefixtures("no_extra")
def test_login_makes_the_default_profile_and_says_what_is_missing(cli):
    result = cli.run("telegram", "login")
    assert result.code == 20
    assert "profile 'default' is ready" in result.err
    assert len(errors(result)) == 1
    assert status(cli, "default")["platform"] == "telegram"
    wrong = cli.run("discord", "login")
    assert wrong.code == 2
    assert "of the platform telegram, not discord" in wrong.err


@pytest.mark.usefixtures("no_extra")
def test_commands_that_need_a_browser_say_what_is_missing(cli):
    cli.create("alpha")
    for arguments in (
        ("profile", "login", "alpha"),
        ("profile", "check", "alpha"),
        ("whatsapp", "logout", "--profile", "alpha"),
    ):
        result = cli.run(*arguments)
        assert (result.code, len(errors(result))) == (20, 1)
        assert "pip install 'tweakio[browser]'" in result.err
    cli.ok("profile", "du")
    cli.ok("profile", "clean", "alpha")


@pytest.mark.usefixtures("no_extra")
def test_login_knows_platforms_of_installed_packages(cli, tmp_path):
    (tmp_path / "extra.py").write_text(
        "from tweakio.platforms import register_platform\n"
        "from tweakio.platforms.builtin import CustomSessionHandler, SeededFingerprintGenerator\n"
        "register_platform('signal', CustomSessionHandler, SeededFingerprintGenerator)\n"
    )
    info = tmp_path / "extra-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: extra\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[tweakio.platforms]\nsignal = extra\n")
    # The directory that commands run in is the first on their path.
    assert cli.run("signal", "login").code == 20
    assert status(cli, "default")["platform"] == "signal"
    assert "signal" in cli.ok("-h").out
