"""metadata.json: what is accepted, what is refused, and that nothing is lost or told."""

from __future__ import annotations

import json
import logging
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import settings as runs
from hypothesis import strategies as st

from tweakio import InvalidMetadataError, NewerFormatError, TweakioError, schema, settings

BASE = {
    "profile_id": "alpha",
    "platform": "whatsapp",
    "created_at": "2026-02-10T14:30:00Z",
    "status": "inactive",
}
SECRET = "hunter2-correct-horse"

schema.metadata_model()  # imports pydantic, which the deadlines of hypothesis do not cover


def encode(value: object) -> bytes:
    return json.dumps(value).encode()


def with_config(config: object) -> dict[str, object]:
    return {**BASE, "platform_config": config}


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
tags = st.lists(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=64),
    max_size=4,
    unique=True,
)


@given(
    profile_id=st.from_regex(r"[b-zB-Z][A-Za-z0-9_-]{4,31}", fullmatch=True),
    tags=tags,
    note=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=200),
    version=st.none() | st.just("2.3000.1"),
    pid=st.none() | st.integers(1, 2**32 - 1),
    # In the first and the last year a moment may not exist in another zone.
    moment=st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31)),  # noqa: DTZ001
)
def test_what_is_written_is_read_back(profile_id, tags, note, version, pid, moment):
    value = {
        **BASE,
        "profile_id": profile_id,
        "tags": tags,
        "note": note,
        "platform_version": version,
        "lock_pid": pid,
        "created_at": f"{moment.isoformat()}Z",
    }
    data = schema.dump(schema.validate(value))
    assert schema.load(data, profile_id) == {k: v for k, v in value.items() if v is not None}
    assert schema.dump(schema.load(data)) == data


@given(st.dictionaries(st.text(max_size=12).map("x_".__add__), json_values, max_size=4))
def test_fields_of_a_newer_version_survive(extra):
    value = {**BASE, **extra}
    assert schema.load(schema.dump(schema.load(encode(value)))) == value


def test_half_a_surrogate_pair_in_an_unknown_field_survives():
    data = encode(BASE)[:-1] + rb', "x": "\ud83d"}'
    assert schema.load(schema.dump(schema.load(data)))["x"] == "\ud83d"


@given(st.binary(max_size=200))
def test_random_bytes_give_one_line(data):
    with pytest.raises(TweakioError) as caught:
        schema.load(data, "alpha")
    assert caught.value.message
    assert "\n" not in caught.value.message


@given(st.data())
def test_a_file_cut_off_anywhere_is_refused(data):
    whole = schema.dump({**BASE, "tags": ["a"], "note": "text"})
    length = data.draw(st.integers(0, len(whole) - 3))
    with pytest.raises(InvalidMetadataError):
        schema.load(whole[:length])


BAD = {
    b"": "empty",
    b"  \n\t": "holds nothing",
    b"\0" * 300: "holds nothing",
    b"null": "not a JSON object",
    b"[]": "not a JSON object",
    b"{": "line 1",
    b"\xff\xfe{}": "not UTF-8",
    b"{}": "Field required",
    encode(BASE) + b"x": "Extra data",
    encode(BASE)[:-1] + b', "status": "active"}': "occurs twice",
    encode(BASE)[:-1] + b', "x": {"y": 1, "y": 2}}': "occurs twice",
    encode(BASE)[:-1] + b', "x": NaN}': "NaN is not JSON",
    encode(BASE)[:-1] + b', "x": -Infinity}': "Infinity is not JSON",
    encode(BASE)[:-1] + b', "x": 1e999}': "number is too large",
    encode(BASE)[:-1] + b', "x": ' + b"9" * 5000 + b"}": "limit",
    encode(BASE)[:-1] + b', "x": ' + b"[" * 70 + b"]" * 70 + b"}": "nested too deeply",
    b"[" * 100_000: "nested too deeply",
    encode({**BASE, "x": "y" * (1 << 20)}): "larger than",
    encode({**BASE, "profile_id": "beta"}): "in the directory 'alpha'",
    encode({**BASE, "status": "sleeping"}): "status",
    encode({**BASE, "status": None}): "status",
    encode({**BASE, "created_at": "yesterday"}): "created_at",
    encode({**BASE, "created_at": "2026-02-10T14:30:00"}): "offset from UTC",
    encode({**BASE, "created_at": 1770733800}): "created_at",
    encode({**BASE, "last_used": ""}): "last_used",
    encode({**BASE, "platform": "Whats App"}): "platform",
    encode({**BASE, "lock_pid": True}): "lock_pid",
    encode({**BASE, "lock_pid": "12"}): "lock_pid",
    encode({**BASE, "lock_pid": 0}): "lock_pid",
    encode({**BASE, "lock_pid": 1 << 32}): "lock_pid",
    encode({**BASE, "schema_version": 0}): "schema_version",
    encode({**BASE, "schema_version": True}): "schema_version",
    encode({**BASE, "schema_version": "1"}): "schema_version",
    encode({**BASE, "tags": "a"}): "tags",
    encode({**BASE, "tags": ["a", "a"]}): "occurs twice",
    encode({**BASE, "tags": [" a"]}): "is not a tag",
    encode({**BASE, "tags": [1]}): "tags",
    encode({**BASE, "note": "x" * 4097}): "note",
    encode({**BASE, "note": "a\u202eb"}): "U+202E",
    encode({**BASE, "note": "a\x00b"}): "U+0000",
    encode({**BASE, "note": "a\x1b[2J"}): "U+001B",
    encode({**BASE, "note": "\ud800"}): "note",
    encode({**BASE, "platform_version": "1\n2"}): "U+000A",
    encode({**BASE, "platform_version": "9" * 65}): "platform_version",
    encode(with_config([])): "platform_config",
    encode(with_config({"a": "\u2066x"})): "U+2066",
    encode(with_config({"a": "\ud800"})): "U+D800",
}


@pytest.mark.parametrize(("data", "reason"), BAD.items(), ids=range(len(BAD)))
def test_bad_content_is_named_in_one_line(data, reason):
    with pytest.raises(InvalidMetadataError) as caught:
        schema.load(data, "alpha")
    assert reason in caught.value.message
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 300
    assert caught.value.hint
    assert "\n" not in caught.value.hint


ONCE = {
    "note": ({"note": "a\x1bb"}, "note holds the unprintable character U+001B"),
    "version": (
        {"platform_version": "1\n2"},
        "platform_version holds the unprintable character U+000A",
    ),
    "secret": (
        {"platform_config": {"proxy": {"password": SECRET}}},
        "platform_config.proxy.password holds a secret in the clear",
    ),
    "config": (
        {"platform_config": {"a": "\u2066"}},
        "platform_config holds the unprintable character U+2066",
    ),
    "key": (
        {"platform_config": {"a": {1: 2}}},
        "platform_config.a has a key that is not text",
    ),
    "time": (
        {"created_at": SECRET},
        "created_at is not an ISO 8601 timestamp with an offset from UTC",
    ),
    "id": ({"profile_id": "a b"}, "'a b' is not a profile id"),
    "tag": ({"tags": [" a"]}, "' a' is not a tag"),
    "missing": ({"status": None}, "status: Input should be 'active', 'inactive' or 'corrupted'"),
}


@pytest.mark.parametrize(("change", "message"), ONCE.values(), ids=ONCE)
def test_the_field_is_named_once_and_the_next_step_is_told(change, message):
    with pytest.raises(InvalidMetadataError) as caught:
        schema.validate({**BASE, **change})
    assert caught.value.message == message
    assert caught.value.hint
    assert caught.value.details["field"] == next(iter(change))


def test_validity_does_not_depend_on_how_deep_the_stack_is():
    """A file at the limit of Python's parser was valid for one caller and not for another."""
    data = encode(BASE)[:-1] + b', "x": ' + b"[" * 60 + b"]" * 60 + b"}"

    def below(frames: int) -> dict[str, object]:
        return schema.load(data) if not frames else below(frames - 1)

    assert below(0) == below(400)


def test_a_byte_order_mark_is_no_damage():
    assert schema.load(b"\xef\xbb\xbf" + encode(BASE))["profile_id"] == "alpha"


@pytest.mark.parametrize("version", [2, 10**12])
def test_a_newer_schema_is_left_alone(version):
    with pytest.raises(NewerFormatError) as caught:
        schema.load(encode({"schema_version": version, "anything": "else"}))
    assert caught.value.hint


LITERAL = [
    {"api_hash": SECRET},
    {"apiHash": SECRET},
    {"bot_token": SECRET},
    {"Password": SECRET},
    {"passphrase": SECRET},
    {"client_secret": SECRET},
    {"api_key": 1234567},
    {"auth": SECRET},
    {"cookie": SECRET},
    {"proxy": {"password": SECRET}},
    {"accounts": [{"token": SECRET}]},
    {"tokens": [SECRET]},
    {"tokens": (SECRET,)},
    {"tokens": [["env:GOOD", SECRET]]},
    {"credentials": {"value": SECRET}},
    {"token": "env:"},
    {"token": f" env:{SECRET}"},
    {"token": f"env:A\n{SECRET}"},
    {"private_key": f"***{SECRET}"},
]


@pytest.mark.parametrize("config", LITERAL, ids=str)
def test_a_secret_in_the_clear_is_refused_and_not_repeated(config, caplog):
    caplog.set_level(logging.DEBUG)
    with pytest.raises(InvalidMetadataError) as caught:
        schema.validate(with_config(config))
    error = caught.value
    told = [str(error), repr(error), error.message, error.hint, repr(error.details), caplog.text]
    told += [repr(error.__cause__), *map(str, getattr(error, "__notes__", []))]
    assert "in the clear" in error.message
    assert not any(SECRET in text or "1234567" in text for text in told)


@pytest.mark.parametrize("name", ["note", "platform_version", "tags", "status", "platform"])
def test_a_wrong_value_elsewhere_is_not_repeated_at_length(name):
    with pytest.raises(InvalidMetadataError) as caught:
        schema.validate({**BASE, name: "\x07" + SECRET * 200})
    assert len(caught.value.message) < 200


REFERENCES = [
    {"api_id": "******", "api_hash": "******"},
    {"api_hash": "env:TELEGRAM_HASH"},
    {"bot_token": "keyring:tweakio/news_bot"},
    {"tokens": ["env:A", "keyring:b"]},
    {"password": ""},
    {"token": None},
    {"cookie": True},
    {"address": "https://example.org", "deep": [{"x": [1, 2.5, None]}]},
]


@pytest.mark.parametrize("config", REFERENCES, ids=str)
def test_references_are_accepted(config):
    assert schema.validate(with_config(config))["platform_config"] == config


def test_the_example_of_the_specification_is_accepted():
    """Section 8, "Profile Metadata Evolution", as printed."""
    data = b"""{
      "profile_id": "news_bot",
      "platform": "telegram",
      "platform_config": {
        "api_id": "******",
        "api_hash": "******"
      },
      "created_at": "2026-02-10T14:30:00Z",
      "status": "inactive"
    }"""
    assert schema.load(data, "news_bot")["platform_config"]["api_hash"] == "******"


@pytest.mark.parametrize(
    "value",
    [
        with_config({"n": float("inf")}),
        with_config({"n": float("nan")}),
        with_config({"n": {1, 2}}),
        with_config({"n": object()}),
        with_config({"n": {1: 2}}),
        with_config({"n": b"bytes"}),
        {**BASE, "x_new": float("nan")},
        {**BASE, "x_new": object()},
    ],
    ids=range(8),
)
def test_what_json_cannot_hold_is_refused_before_it_is_written(value):
    with pytest.raises(InvalidMetadataError):
        schema.validate(value)


# The browser's settings


SETTINGS = {
    "locale": ["de", "de-DE", "pt-BR", "es-419", "zh-Hans-CN", "sr-Latn", "fil-PH"],
    "timezone": ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5",
                 "America/Port-au-Prince", "EST5EDT", "Mars/Olympus_Mons"],
    "window": [[400, 300], [1280, 800], [7680, 4320]],
    "color_scheme": ["light", "dark"],
    "proxy": ["http://a:1", "http://my_proxy:80/", "http://\u00e4:80",
              "https://proxy.example:65535", "socks5://127.0.0.1:1080",
              "http://bob@proxy-1.example:8080", "http://b%40b%3d@[::1]:8080",
              "http://[fe80::1]:80", "http://xn--bcher-kva.example:80"],
    "proxy_password": ["env:PROXY", "keyring:proxy of the office", "sealed:" + "Ab+/" * 60],
}  # fmt: skip
GOOD_SETTINGS = [(key, value) for key, values in SETTINGS.items() for value in values]


@pytest.mark.parametrize(("key", "value"), GOOD_SETTINGS, ids=str)
def test_settings_of_the_browser_are_accepted_and_kept(key, value):
    metadata = {**BASE, "browser": {key: value}}
    assert schema.load(schema.dump(schema.validate(metadata))) == metadata


BAD_SETTINGS = {
    "locale": ["", "DE", "de_DE", "de-de", "DE-DE", "de-DE.UTF-8", "deutsch", "d", "de-DE,en",
               "de-DE --x", "../de", "de-DE\n", 5, None, ["de"]],
    "timezone": ["", "Berlin!", "/etc/localtime", ":Europe/Berlin", "../UTC", "Europe//Berlin",
                 "Europe/Berlin\n", "EST5EDT,M3", "localtime", "a/b/c/d", "x" * 40, "+5", 1],
    "window": ["1280x800", [1280], [1280, 800, 1], [399, 300], [400, 299], [7681, 800],
               [800, 4321], [1280.0, 800], [True, 800], ["1280", "800"], {"w": 1}, 5],
    "color_scheme": ["", "Dark", "no-preference", 1, True],
    "proxy": ["", "proxy", "proxy:80", "ftp://a:1", "http://a:0", "http://a:65536",
              "http://a:99999999", "http://:80", "http://a b:80", "http://a:80?x",
              "http://-a:80", "http://a..b:80", "http://[::g]:80", "http://1.2.3.999:80",
              "socks5://bob@a:1", "http://bob%@a:1", "http://%00@a:1",
              "http://%ff@a:1", "socks4://a:1", "direct://", "http://a:1,http://b:1", 5, []],
    "proxy_password": ["", "******", SECRET, f"env:{SECRET}", f"sealed:{SECRET}", "sealed:",
                       "env:", "keyring:", "env:A B",
                       5, ["env:A"]],
}  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in BAD_SETTINGS.items() for value in values]
)
def test_bad_settings_are_named_in_one_line(key, value):
    with pytest.raises(InvalidMetadataError) as caught:
        schema.validate({**BASE, "browser": {"color_scheme": "light", key: value}})
    error = caught.value
    assert error.message.startswith(f"browser.{key} ")
    assert error.details["field"] == "browser"
    assert error.hint
    assert "\n" not in error.message + error.hint
    assert SECRET not in error.message + error.hint


WITH_A_PASSWORD = [
    f"http://bob:{SECRET}@proxy.example:8080",
    f"http://:{SECRET}@proxy.example:8080",
    f"bob:{SECRET}@proxy.example:8080",
    f"socks5://bob:{SECRET}@proxy.example:1080",
    f"http://bob%3A{SECRET}@proxy.example:8080",
    f"HTTP://bob:{SECRET}@proxy.example",
    f"http://bob:{SECRET} x@proxy.example:1",
]


@pytest.mark.parametrize("proxy", WITH_A_PASSWORD)
def test_a_password_in_the_proxys_address_is_refused_and_not_repeated(proxy, caplog):
    caplog.set_level(logging.DEBUG)
    for check in (
        lambda: schema.validate({**BASE, "browser": {"proxy": proxy}}),
        lambda: settings.check({"proxy": proxy}),
    ):
        with pytest.raises(InvalidMetadataError) as caught:
            check()
        error = caught.value
        assert error.message == "browser.proxy holds a password"
        assert "env:NAME" in error.hint
        told = [repr(error), error.hint, repr(error.details), repr(error.__cause__), caplog.text]
        assert not any(SECRET in text for text in told)


def test_settings_of_a_newer_version_survive_but_no_secret_among_them():
    value = {**BASE, "browser": {"locale": "de-DE", "zoom": 2, "extra": {"a": [None]}}}
    assert schema.load(schema.dump(schema.validate(value))) == value
    with pytest.raises(InvalidMetadataError, match=r"browser.zoom_token holds a secret"):
        schema.validate({**BASE, "browser": {"zoom_token": SECRET}})
    with pytest.raises(InvalidMetadataError, match="U\\+202E"):
        schema.validate({**BASE, "browser": {"zoom": "\u202e"}})


def test_settings_are_an_object():
    for value in ([], "de-DE", 5, True):
        with pytest.raises(InvalidMetadataError, match="browser"):
            schema.validate({**BASE, "browser": value})


def test_an_unknown_zone_is_refused_when_it_is_set_and_not_when_it_is_read():
    """A profile that came from elsewhere is not invalid because zones are older here."""
    value = {"timezone": "Europe/Berlinn"}
    assert schema.validate({**BASE, "browser": value})
    with pytest.raises(InvalidMetadataError) as caught:
        settings.check(value)
    assert caught.value.message == "browser.timezone names no time zone that exists"
    assert caught.value.hint == "did you mean Europe/Berlin?"


def test_zones_are_not_checked_without_data(monkeypatch):
    monkeypatch.setattr(settings, "time_zones", set)
    settings.check({"timezone": "Europe/Berlinn"})


HINTS = [
    ({"timezone": "europe/berlin"}, "did you mean Europe/Berlin?"),
    ({"timezone": "Zzz/Zzz"}, "write it like Europe/Berlin or UTC"),
    ({"locale": "de_DE.UTF-8"}, "write it as de-DE"),
    ({"locale": "ZH_hans_cn"}, "write it as zh-Hans-CN"),
    ({"locale": "german"}, "write it like de-DE, pt-BR or zh-Hans-CN"),
    ({"size": 1}, "there are locale, timezone, window, color_scheme, proxy, proxy_password"),
    ({"proxy_password": "env:A"}, "set proxy to http://USER@HOST:PORT as well, or remove it"),
    ({"proxy_password": "env:A", "proxy": "http://a:1"},
     "set proxy to http://USER@HOST:PORT as well, or remove it"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "hint"), HINTS, ids=str)
def test_the_next_step_after_a_bad_setting(value, hint):
    with pytest.raises(InvalidMetadataError) as caught:
        settings.check(value)
    assert caught.value.hint == hint


@runs(deadline=None)  # the zones of the machine are read each time
@given(st.dictionaries(st.sampled_from(settings.KEYS) | st.text(max_size=5), json_values))
def test_any_settings_give_a_result_or_one_line(value):
    for check in (settings.check, lambda item: schema.validate({**BASE, "browser": item})):
        said = "fine"
        try:
            check(value)
        except InvalidMetadataError as error:
            said = error.message + error.hint
        assert said.isprintable()


@given(st.text(max_size=60) | st.text("htps5:/@%[].a1-", max_size=40).map("http://".__add__))
def test_any_proxy_is_read_or_refused(text):
    try:
        found = settings.parse_proxy(text)
    except settings.SettingError:
        return
    assert found.server.startswith(("http://", "https://", "socks5://"))
    assert "@" not in found.server
    assert found.server.isascii()
    assert not set(found.server) & set(" ,;\"'\\")


def test_known_fields_come_first_and_in_one_order():
    keys = list(json.loads(schema.dump({"z": 1, "status": "inactive", **BASE, "note": ""})))
    assert keys == ["profile_id", "platform", "created_at", "status", "note", "z"]
