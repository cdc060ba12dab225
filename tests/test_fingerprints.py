"""Fingerprints: what follows from one, what the settings change, and that none is there twice."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
from cli_helpers import Cli

from tweakio import (
    InvalidInputError,
    ProfileManager,
    SecretNotFoundError,
    platforms,
    register_platform,
)
from tweakio.platforms.fingerprints import (
    SeededFingerprintGenerator,
    chromium_arguments,
    context_options,
    environment,
    is_seeded,
    languages_of,
    machine_locale,
    present,
    screen_of,
    user_agent,
)
from tweakio.platforms.protocols import BrowserVersion, FingerprintGenerator, Presentation
from tweakio.settings import LARGEST_WINDOW, SMALLEST_WINDOW

CHROMIUM = BrowserVersion("chromium", "156.0.8078.79")
OURS = SeededFingerprintGenerator()
SECRET = "hunter2-correct-horse"


def seeded(number: int, **more: object) -> dict[str, object]:
    return {"schema_version": 1, "generator": "seeded", "seed": f"{number:032x}", **more}


@pytest.fixture(autouse=True)
def no_locale(monkeypatch):
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)


# What follows from a seed

FROZEN = {
    0: ((1370, 751), "light"),
    1: ((1291, 810), "light"),
    3: ((1145, 621), "dark"),
    0x5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E: ((1472, 998), "light"),
}


@pytest.mark.parametrize("number", FROZEN)
def test_what_follows_from_a_seed_is_frozen(number):
    """An account's browser must not change because tweakio was upgraded."""
    found = OURS.present(seeded(number, locale="de-DE"), {}, CHROMIUM)
    assert (found.window, found.color_scheme) == FROZEN[number]
    assert found.languages == ("de-DE", "de", "en-US", "en")
    assert found.timezone is None


def test_it_is_the_same_in_every_process_and_after_an_upgrade_of_the_browser():
    code = (
        "from tweakio.platforms.fingerprints import SeededFingerprintGenerator as G\n"
        "from tweakio.platforms.protocols import BrowserVersion as V\n"
        "import json, sys\n"
        "print(json.dumps(G().present(json.loads(sys.argv[1]), {}, V('chromium', '157.0.1.2'))))"
    )
    value = seeded(7, locale="fr-FR")
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(value)], capture_output=True, text=True, check=True
    )
    there = json.loads(done.stdout)
    here = OURS.present(value, {}, CHROMIUM)
    assert there[0] == here.user_agent.replace("Chrome/156.", "Chrome/157.")
    assert there[1:] == json.loads(json.dumps(here[1:]))


def test_profiles_differ():
    found = [OURS.present(seeded(number), {}, CHROMIUM) for number in range(2000)]
    windows = {item.window for item in found}
    assert len(windows) > 1900
    for window in windows:
        assert all(
            least <= size <= most
            for least, size, most in zip(SMALLEST_WINDOW, window, LARGEST_WINDOW, strict=True)
        )
        screen = screen_of(window)
        assert screen[0] >= window[0] > screen[0] // 2
        assert screen[1] > window[1] > screen[1] // 2
    schemes = [item.color_scheme for item in found]
    assert 300 < schemes.count("dark") < 700
    assert {*schemes} == {"light", "dark"}


UNKNOWN = [
    {},
    {"seed": "alpha"},
    {"generator": "seeded"},
    {"generator": "seeded", "seed": "no number"},
    {"generator": "seeded", "seed": "0" * 31},
    {"generator": "seeded", "seed": 5},
    {"generator": "browserforge", "engine": "camoufox", "data": {"navigator": {"language": "x"}}},
    {"generator": "another", "seed": "0" * 32, "deep": [[{"a": None}], 1.5, True]},
    {"locale": ["de-DE"]},
    {"locale": "../../etc"},
]


@pytest.mark.parametrize("value", UNKNOWN, ids=range(len(UNKNOWN)))
def test_any_other_fingerprint_works_by_a_hash_of_its_content(value):
    found = OURS.present(value, {}, CHROMIUM)
    assert found == OURS.present(json.loads(json.dumps(value, sort_keys=True)), {}, CHROMIUM)
    assert found == OURS.present(dict(reversed(value.items())), {}, CHROMIUM)
    assert found.languages == ("en-US", "en")
    others = [OURS.present({**value, "n": n}, {}, CHROMIUM).window for n in range(8)]
    assert len({found.window, *others}) > 6


def test_a_fingerprint_without_a_locale_has_the_machines(monkeypatch):
    monkeypatch.setenv("LANG", "pt_BR.UTF-8")
    assert OURS.present(seeded(1), {}, CHROMIUM).languages == ("pt-BR", "pt", "en-US", "en")
    assert OURS.generate("alpha")["locale"] == "pt-BR"


def test_a_new_fingerprint_keeps_the_locale_of_its_machine(monkeypatch):
    """A start by cron, whose environment has no locale, changes nothing."""
    monkeypatch.setenv("LANG", "de_AT.UTF-8")
    made = OURS.generate("alpha")
    before = OURS.present(made, {}, CHROMIUM)
    monkeypatch.setenv("LANG", "C")
    assert OURS.present(json.loads(json.dumps(made)), {}, CHROMIUM) == before
    assert before.languages[0] == "de-AT"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "en-US"),
        ({"LANG": ""}, "en-US"),
        ({"LANG": "C"}, "en-US"),
        ({"LANG": "C.UTF-8"}, "en-US"),
        ({"LANG": "POSIX"}, "en-US"),
        ({"LANG": "de_DE.UTF-8"}, "de-DE"),
        ({"LANG": "ca_ES.UTF-8@valencia"}, "ca-ES"),
        ({"LANG": "de_DE", "LC_MESSAGES": "fr_CH"}, "fr-CH"),
        ({"LANG": "de_DE", "LC_MESSAGES": "fr_CH", "LC_ALL": "sv_SE.utf8"}, "sv-SE"),
        ({"LANG": "de_DE", "LC_ALL": "C"}, "en-US"),
        ({"LANG": "$(rm)"}, "en-US"),
    ],
    ids=str,
)
def test_the_machines_locale(monkeypatch, variables, expected):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert machine_locale() == expected


@pytest.mark.parametrize(
    ("locale", "languages"),
    [
        ("en-US", ("en-US", "en")),
        ("en-GB", ("en-GB", "en-US", "en")),
        ("en", ("en", "en-US")),
        ("de", ("de", "en-US", "en")),
        ("de-DE", ("de-DE", "de", "en-US", "en")),
        ("zh-Hant-TW", ("zh-Hant-TW", "zh", "en-US", "en")),
        ("es-419", ("es-419", "es", "en-US", "en")),
    ],
)
def test_languages(locale, languages):
    assert languages_of(locale) == languages


def test_settings_go_first():
    settings = {
        "locale": "sv-SE",
        "timezone": "Europe/Stockholm",
        "window": [1280, 800],
        "color_scheme": "dark",
        "proxy": "http://127.0.0.1:1",
        "of_a_newer_version": 1,
    }
    assert OURS.present(seeded(1, locale="de-DE"), settings, CHROMIUM) == Presentation(
        user_agent=user_agent(CHROMIUM),
        languages=("sv-SE", "sv", "en-US", "en"),
        timezone="Europe/Stockholm",
        window=(1280, 800),
        color_scheme="dark",
    )


# The user agent


CHROME = "Mozilla/5.0 ({}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{}.0.0.0 Safari/537.36"
FIREFOX = "Mozilla/5.0 ({}; rv:{}.0) Gecko/20100101 Firefox/{}.0"
MAC = "Macintosh; Intel Mac OS X 10_15_7"
WINDOWS = "Windows NT 10.0; Win64; x64"


@pytest.mark.parametrize(
    ("engine", "version", "platform", "expected"),
    [
        ("chromium", "156.0.8078.79", "linux", CHROME.format("X11; Linux x86_64", 156)),
        ("chromium", "157", "darwin", CHROME.format(MAC, 157)),
        ("chromium", "99.0", "win32", CHROME.format(WINDOWS, 99)),
        ("firefox", "140.1.0", "linux", FIREFOX.format("X11; Linux x86_64", 140, 140)),
        ("firefox", "141.0", "win32", FIREFOX.format(WINDOWS, 141, 141)),
        (
            *("firefox", "140.1", "darwin"),
            FIREFOX.format("Macintosh; Intel Mac OS X 10.15", 140, 140),
        ),
        ("chromium", "", "linux", ""),
        ("chromium", "unknown", "linux", ""),
    ],
)
def test_user_agents(engine, version, platform, expected):
    assert user_agent(BrowserVersion(engine, version), platform) == expected


def test_edge_names_itself_besides():
    made = user_agent(BrowserVersion("chromium", "156.0.1.2", "Edg"), "linux")
    assert made == CHROME.format("X11; Linux x86_64", 156) + " Edg/156.0.0.0"


# The options of a launch


def test_the_command_line_and_the_environment():
    made = Presentation("Agent", ("de-DE", "de"), "Europe/Berlin", (1280, 800), "dark")
    assert chromium_arguments(made) == [
        "--user-agent=Agent",
        "--lang=de-DE",
        "--accept-lang=de-DE,de",
        "--window-size=1280,800",
        "--screen-info={1440x900}",
    ]
    assert environment(made) == {"LANGUAGE": "de_DE:de", "TZ": "Europe/Berlin"}
    assert context_options(made) == {"color_scheme": "dark", "no_viewport": True}


def test_without_a_known_version_the_browser_names_itself():
    made = OURS.present(seeded(1), {}, BrowserVersion("chromium", ""))
    assert not [item for item in chromium_arguments(made) if "user-agent" in item]


def test_without_a_time_zone_the_machines_stays():
    assert "TZ" not in environment(OURS.present(seeded(1), {}, CHROMIUM))


@pytest.mark.parametrize(
    ("window", "screen"),
    [
        ((400, 300), (1366, 768)),
        ((1366, 728), (1366, 768)),
        ((1366, 729), (1440, 900)),
        ((2600, 1000), (3440, 1440)),
        ((7680, 4320), (7680, 4320)),
    ],
)
def test_the_screen_has_room_for_the_window(window, screen):
    assert screen_of(window) == screen


def test_a_proxy_without_a_user():
    made = OURS.present(seeded(1), {}, CHROMIUM)
    settings = {"proxy": "socks5://127.0.0.1:1080"}
    assert context_options(made, settings)["proxy"] == {"server": "socks5://127.0.0.1:1080"}
    assert "--webrtc-ip-handling-policy=disable_non_proxied_udp" in chromium_arguments(
        made, settings
    )


def test_the_proxys_password_is_in_the_options_only(monkeypatch):
    made = OURS.present(seeded(1), {}, CHROMIUM)
    monkeypatch.setenv("PROXY_PASSWORD", SECRET)
    settings = {"proxy": "http://b%40b@[::1]:8080", "proxy_password": "env:PROXY_PASSWORD"}
    assert context_options(made, settings)["proxy"] == {
        "server": "http://[::1]:8080",
        "username": "b@b",
        "password": SECRET,
    }
    assert SECRET not in repr((chromium_arguments(made, settings), environment(made), made))
    monkeypatch.delenv("PROXY_PASSWORD")
    with pytest.raises(SecretNotFoundError, match="browser.proxy_password needs"):
        context_options(made, settings)


def test_a_user_without_a_password():
    made = OURS.present(seeded(1), {}, CHROMIUM)
    found = context_options(made, {"proxy": "https://bob@proxy.example:443"})["proxy"]
    assert found == {"server": "https://proxy.example:443", "username": "bob", "password": ""}


# Generators of others


class OldGenerator:
    """As the protocol was before it could present."""

    def generate(self, profile_id):
        return {"of": "old"}


class OwnGenerator(SeededFingerprintGenerator):
    def present(self, fingerprint, settings, browser):
        return Presentation("Own", ("en",), None, (800, 600), "light")


def test_a_generator_that_cannot_present_is_stood_in_for():
    expected = OURS.present({"of": "old"}, {}, CHROMIUM)
    assert present(OldGenerator(), {"of": "old"}, {}, CHROMIUM) == expected
    assert present(None, {"of": "old"}, {}, CHROMIUM) == expected
    assert present(OwnGenerator(), {}, {}, CHROMIUM).user_agent == "Own"
    assert present(OURS, seeded(1), {}, CHROMIUM) == OURS.present(seeded(1), {}, CHROMIUM)


@pytest.mark.parametrize(
    "made",
    [
        None,
        ("Own", ("en",), None, (800, 600), "light"),
        Presentation("Own", (), None, (800, 600), "light"),
        Presentation("Own", ("en --no-sandbox",), None, (800, 600), "light"),
        Presentation("Own", ("en",), "/etc/passwd", (800, 600), "light"),
        Presentation("Own", ("en",), None, (1, 1), "light"),
    ],
    ids=range(6),
)
def test_what_is_no_presentation_is_refused_in_one_line(made):
    class Wrong(OldGenerator):
        def present(self, fingerprint, settings, browser):
            return made

    with pytest.raises(InvalidInputError) as caught:
        present(Wrong(), {}, {}, CHROMIUM)
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_a_locale_that_a_program_gives_is_checked():
    with pytest.raises(InvalidInputError, match="locale is not a locale"):
        present(OURS, seeded(1), {"locale": "de_DE"}, CHROMIUM)


def test_which_generators_are_ours():
    assert isinstance(OURS, FingerprintGenerator)
    assert is_seeded(OURS)
    assert is_seeded(OwnGenerator())
    assert not is_seeded(OldGenerator())
    assert not is_seeded(None)


# None is there twice


def fingerprints(manager: ProfileManager) -> dict[str, bytes]:
    return {
        profile.id: (profile.path / "fingerprint.json").read_bytes()
        for profile in manager.list_profiles()
    }


class Constant:
    def generate(self, profile_id):
        return {"same": "for all"}


class Sometimes:
    """Gives every value twice."""

    made = 0

    def generate(self, profile_id):
        type(self).made += 1
        return {"number": self.made // 2}


def test_a_constant_generator_makes_different_fingerprints(manager, git):
    register_platform("constant", platforms._platforms["custom"].session_handler, Constant)
    manager.create_profile("first", "constant")
    manager.create_profiles(["second", "third"], "constant")
    manager.delete_profile("first")
    manager.create_profile("fourth", "constant")
    found = fingerprints(manager)
    assert len({*found.values()}) == 3
    values = [json.loads(content) for content in found.values()]
    assert all(value["same"] == "for all" for value in values)
    assert json.loads(found["fourth"]) == {"same": "for all"}  # the first one is gone
    assert all(len(json.loads(found[name])["unique"]) == 32 for name in ("second", "third"))
    for name, content in found.items():
        assert git("show", f"HEAD:{name}/fingerprint.json").encode() == content


def test_what_another_program_has_created_counts(manager, home):
    register_platform("constant", platforms._platforms["custom"].session_handler, Constant)
    manager.create_profile("first", "constant")
    with ProfileManager(home) as other:
        other.create_profile("second", "constant")
        manager.create_profile("third", "constant")
    assert len({*fingerprints(manager).values()}) == 3


@pytest.mark.parametrize("damage", ["none", "cache", "index"])
def test_without_cache_or_index_the_trees_are_read(manager, home, damage):
    register_platform("constant", platforms._platforms["custom"].session_handler, Constant)
    manager.create_profile("first", "constant")
    manager.close()
    if damage == "cache":
        manager.layout.head_cache.unlink()
    elif damage == "index":
        (manager.layout.git_dir / "index").unlink()
    with ProfileManager(home) as fresh:
        fresh.create_profile("second", "constant")
        assert len({*fingerprints(fresh).values()}) == 2


def test_asking_again_is_tried_first(manager):
    register_platform("sometimes", platforms._platforms["custom"].session_handler, Sometimes)
    manager.create_profiles([f"p{number}" for number in range(6)], "sometimes")
    values = [json.loads(content) for content in fingerprints(manager).values()]
    assert len({value["number"] for value in values}) == 6
    assert not any("unique" in value for value in values)


def test_the_name_used_again_is_a_new_identity(manager):
    first = manager.create_profile("alpha", "whatsapp")
    before = (first.path / "fingerprint.json").read_bytes()
    manager.delete_profile("alpha")
    manager.create_profile("alpha", "whatsapp")
    assert (first.path / "fingerprint.json").read_bytes() != before
    manager.undo()
    manager.undo()
    assert (first.path / "fingerprint.json").read_bytes() == before


def test_a_platform_that_is_not_installed_gets_ours(manager):
    register_platform("gone", platforms._platforms["custom"].session_handler, Constant)
    manager.create_profiles(["alpha", "beta"], "gone")
    platforms._platforms.pop("gone")
    for profile in manager.list_profiles():
        (profile.path / "fingerprint.json").write_bytes(b"{")
    manager.layout.profile("alpha").fingerprint.unlink()
    manager.recover_profiles(["alpha", "beta"], "hard")
    assert len({*fingerprints(manager).values()}) == 2


OPENED = """\
import sys
from tweakio import ProfileManager
from tweakio.platforms import find_platform, register_platform
class Constant:
    def generate(self, profile_id):
        return {"same": "for all"}
register_platform("constant", find_platform("custom").session_handler, Constant)
opened = []
sys.addaudithook(lambda event, found: opened.append(str(found[0])) if event == "open" else None)
with ProfileManager() as manager:
    manager.create_profile("new", sys.argv[1])
inside = [name for name in opened if name.startswith(str(manager.home))]
print(len([name for name in inside if "/p1" in name or "/p2" in name]), len({*inside}))
"""


@pytest.mark.parametrize("platform", ["whatsapp", "constant"])
def test_creating_one_among_many_reads_no_others(tmp_path, platform):
    cli = Cli(tmp_path)
    with ProfileManager(cli.home) as manager:
        manager.create_profiles([f"p{number}" for number in range(100, 300)], "whatsapp")
    done = cli.python(OPENED, platform)
    assert done.code == 0, done.err
    others, different = map(int, done.out.split())
    assert others == 0
    # Names, not times: if this change is one after which the history is packed, the pack that
    # has the 200 profiles is opened for each of its objects.
    assert 10 < different < 100


def test_creating_many_with_a_foreign_generator_is_not_quadratic(manager, monkeypatch):
    """The index is looked at once for each change, not once for each profile."""
    from tweakio.store.transaction import Transaction

    looked = []
    original = Transaction._blobs_at_base
    monkeypatch.setattr(
        Transaction,
        "_blobs_at_base",
        lambda self, name: looked.append(name) or original(self, name),
    )
    register_platform("constant", platforms._platforms["custom"].session_handler, Constant)
    manager.create_profiles([f"p{number}" for number in range(50)], "constant")
    assert looked == ["fingerprint.json"]
    manager.create_profiles([f"q{number}" for number in range(50)], "whatsapp")
    assert looked == ["fingerprint.json"]
    assert len({*fingerprints(manager).values()}) == 100


def test_generating_takes_no_time():
    began = time.process_time()
    for number in range(10_000):
        OURS.generate(str(number))
    assert time.process_time() - began < 2
