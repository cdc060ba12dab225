"""Browser data from elsewhere: what redirects is removed and named, and the login stays."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browsers import ARGUMENTS, chromium_path, needs_browser
from tweakio import ProfileManager, SyncBrowserManager, bundle
from tweakio.importing import (
    from_camouchat_home,
    from_csv,
    from_folder,
    from_sdk_home,
    from_user_data_dir,
)

PROXY = {"proxy": {"mode": "fixed_servers", "server": "127.0.0.1:1"}}


def put(top: Path, files: dict[str, Any]) -> Path:
    for name, content in files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
    return top


def files(top: Path) -> set[str]:
    found = {path.relative_to(top).as_posix() for path in top.rglob("*") if path.is_file()}
    return found - {".git/HEAD"}


# Each kind of setting

CHOSEN = {
    "proxy": PROXY["proxy"],
    "session": {"restore_on_startup": 4, "startup_urls": ["http://127.0.0.1:1"]},
    "homepage": "http://127.0.0.1:1",
    "pinned_tabs": [{"url": "http://127.0.0.1:1"}],
    "extensions": {"settings": {"a" * 32: {"location": 4, "path": "/elsewhere"}}},
    "custom_handlers": {"registered_protocol_handlers": [{"protocol": "mailto"}]},
    "protocol_handler": {"excluded_schemes": {"evil": False}},
    "default_search_provider": {"enabled": True},
    "default_search_provider_data": {"template_url_data": {"url": "http://127.0.0.1:1/{query}"}},
    "dns_over_https": {"mode": "secure", "templates": "https://127.0.0.1:1/"},
    "net": {"network_prediction_options": 0},
    "certificates": {"x": 1},
    "ssl": {"rev_checking": {"enabled": False}},
    "web_apps": {"x": 1},
    "download.default_directory": "/elsewhere",
    "savefile.default_directory": "/elsewhere",
    "browser.enabled_labs_experiments": ["x@1"],
    "profile.content_settings.exceptions.ssl_cert_decisions": {"https://web.example,*": {}},
}


def nested(dotted: str, value: Any) -> dict[str, Any]:
    for key in reversed(dotted.split(".")):
        value = {key: value}
    return dict(value)


@pytest.mark.parametrize("file", ["Default/Preferences", "Profile 7/Secure Preferences"])
@pytest.mark.parametrize("setting", CHOSEN)
def test_a_setting_of_chromium(tmp_path: Path, setting: str, file: str) -> None:
    put(tmp_path, {file: nested(setting, CHOSEN[setting])})
    assert bundle.clean(tmp_path) == [setting]
    assert json.loads((tmp_path / file).read_text()) == {}
    assert bundle.clean(tmp_path) == []


def test_local_state_keeps_the_key_of_the_cookies(tmp_path: Path) -> None:
    key = {"encrypted_key": "x"}
    put(
        tmp_path,
        {
            "Local State": {
                "os_crypt": key,
                "profile": {"last_used": "Profile 1", "info_cache": {}},
                "browser": {"enabled_labs_experiments": ["x@1"]},
                "dns_over_https": {"mode": "secure"},
            }
        },
    )
    assert bundle.clean(tmp_path) == ["browser.enabled_labs_experiments", "dns_over_https"]
    assert json.loads((tmp_path / "Local State").read_text()) == {
        "os_crypt": key,
        "profile": {"last_used": "Profile 1"},
    }
    put(tmp_path, {"Local State": {"profile": {"last_used": "../../elsewhere"}}})
    bundle.clean(tmp_path)
    assert "elsewhere" not in (tmp_path / "Local State").read_text()


def test_a_setting_that_nobody_has_heard_of(tmp_path: Path) -> None:
    put(tmp_path, {"Default/Preferences": {"new_way": {"server": "127.0.0.1:1"}}})
    bundle.clean(tmp_path)
    assert json.loads((tmp_path / "Default" / "Preferences").read_text()) == {}


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("NativeMessagingHosts/host.json", "native messaging hosts"),
        ("nativemessaginghosts/host.json", "native messaging hosts"),
        ("Default/NativeMessagingHosts/host.json", "native messaging hosts"),
        ("External Extensions/a.json", "extensions"),
        ("Default/Extensions/a/1/manifest.json", "extensions"),
        ("Default/Local Extension Settings/a/LOG", "extensions"),
        ("Default/Web Applications/a", "installed web apps"),
        ("Policies/managed/a.json", "policies"),
        ("WidevineCdm/4.10/manifest.json", ""),
        ("Anything/1.2.3/manifest.json", ""),
        ("Default/Network/Network Persistent State", ""),
        ("Default/Cache/data_0", ""),
        ("Default/Sessions/Session_1", ""),
        ("Default/Web Data", ""),
        ("user.js", "user.js"),
        ("extensions/a.xpi", "extensions"),
        ("extensions.json", "extensions"),
        ("addonStartup.json.lz4", "extensions"),
        ("handlers.json", "protocol handlers"),
        ("cert9.db", "certificates"),
        ("pkcs11.txt", "security modules"),
        ("search.json.mozlz4", "search engines"),
        ("chrome/userChrome.css", "style sheets and scripts of the browser's window"),
        ("distribution/policies.json", "policies"),
        ("gmp-widevinecdm/1/lib.so", ""),
        ("startupCache/scriptCache.bin", ""),
    ],
)
def test_a_file_that_would_be_loaded(tmp_path: Path, file: str, named: str) -> None:
    login = {
        *("Default/Cookies", "Default/Local Storage/leveldb/CURRENT", "Default/IndexedDB/a"),
        *("Default/Service Worker/a", "Local State", "cookies.sqlite", "storage/default/a"),
    }
    put(tmp_path, {**dict.fromkeys(login, b""), file: b"x"})
    assert bundle.clean(tmp_path) == ([named] if named else [])
    assert files(tmp_path) == login


def test_firefox_settings(tmp_path: Path) -> None:
    harmless = b'user_pref("network.cookie.lifetimePolicy", 0);\n'
    hostile = (
        b'user_pref("network.proxy.http", "127.0.0.1");\r\n'
        b' user_pref( "network.trr.mode", 3);\n'
        b'/* */ user_pref("network.trr.uri", "https://127.0.0.1:1/");\n'
        b'user_pref("intl.locale.a", 1); user_pref("browser.startup.homepage", "http://x");\n'
        b'pref("extensions.autoDisableScopes", 0);\n'
        b'user_pref("security.enterprise_roots.enabled", true);\n'
        b'user_pref("nobody.knows", true);\n'
    )
    put(tmp_path, {"prefs.js": hostile + harmless})
    assert bundle.clean(tmp_path) == [
        "browser.startup.homepage (prefs.js)",
        "network.proxy (prefs.js)",
        "network.trr (prefs.js)",
        "security (prefs.js)",
    ]
    assert (tmp_path / "prefs.js").read_bytes() == harmless


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000, b"1" * 5000]
)
def test_what_cannot_be_parsed_is_replaced(tmp_path: Path, content: bytes) -> None:
    put(tmp_path, {"Default/Preferences": content})
    assert bundle.clean(tmp_path) == ["Preferences (cannot be read)"]
    assert (tmp_path / "Default" / "Preferences").read_bytes() == b"{}"


def test_what_two_parsers_read_differently_is_written_anew(tmp_path: Path) -> None:
    put(tmp_path, {"Default/Preferences": '{"profile": {"x": 1}, "profile": {"name": "n"}}'})
    assert bundle.clean(tmp_path) == []
    text = (tmp_path / "Default" / "Preferences").read_text()
    assert text == '{"profile": {"name": "n"}}'


def test_large_files_are_not_read(tmp_path: Path) -> None:
    put(tmp_path, {"Default/Preferences": b"{", "prefs.js": b"u"})
    for name in ("Default/Preferences", "prefs.js"):
        os.truncate(tmp_path / name, 1 << 30)
    assert bundle.clean(tmp_path) == ["Preferences (cannot be read)", "prefs.js (cannot be read)"]
    assert (tmp_path / "Default" / "Preferences").read_bytes() == b"{}"
    assert (tmp_path / "prefs.js").read_bytes() == b""


def test_links_lead_nowhere(tmp_path: Path) -> None:
    outside = put(tmp_path / "outside", {"Preferences": PROXY, "Extensions/a": b"x"})
    data = put(tmp_path / "data", {"Default/Cookies": b"x"})
    (data / "Default" / "Preferences").symlink_to(outside / "Preferences")
    (data / "Profile 1").symlink_to(outside)
    bundle.clean(data)
    assert files(data) == {"Default/Cookies"}
    assert json.loads((outside / "Preferences").read_text()) == PROXY
    assert files(outside) == {"Preferences", "Extensions/a"}
    (tmp_path / "link").symlink_to(outside)
    assert bundle.clean(tmp_path / "link") == []


def test_what_is_told_is_bounded() -> None:
    assert bundle.told(["a", "b"]) == "a, b"
    assert bundle.told([str(number) for number in range(20)]).endswith("11 and 8 more")


# Each way in


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[ProfileManager]:
    with ProfileManager(tmp_path / "home") as made:
        yield made


HOSTILE = {"Local State": {}, "Default/Preferences": PROXY, "Default/Cookies": b"MARKER"}
FIREFOX = {"prefs.js": b'user_pref("network.proxy.http", "127.0.0.1");\n', "user.js": b"x"}


def by_directory(tmp_path: Path, _: ProfileManager) -> Any:
    return from_user_data_dir(put(tmp_path / "chrome", HOSTILE), "a", "custom")


def by_folder(tmp_path: Path, _: ProfileManager) -> Any:
    put(tmp_path / "folder" / "a", HOSTILE)
    return from_folder(tmp_path / "folder", "custom")


def by_table(tmp_path: Path, _: ProfileManager) -> Any:
    put(tmp_path / "chrome", HOSTILE)
    put(tmp_path, {"t.csv": "profile_id,user_data_dir\na,chrome\n"})
    return from_csv(tmp_path / "t.csv", "custom")


def by_sdk(tmp_path: Path, _: ProfileManager) -> Any:
    top = tmp_path / "person"
    put(top / ".local/share/TweakioWhatsApp", {"BrowserManager/StorageState.json": {"cookies": []}})
    put(top / ".cache/TweakioWhatsApp", FIREFOX)
    return from_sdk_home(top, "a")


def by_camouchat(tmp_path: Path, _: ProfileManager) -> Any:
    old = tmp_path / "person/.local/share/CamouChat/platforms/whatsapp/a"
    put(old, {"metadata.json": {}})
    put(old / "cache", FIREFOX)
    return from_camouchat_home(tmp_path / "person")


@pytest.mark.parametrize("way", [by_directory, by_folder, by_table, by_sdk, by_camouchat])
def test_each_import(
    manager: ProfileManager,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    way: Callable[[Path, ProfileManager], Any],
) -> None:
    incoming = way(tmp_path, manager)
    with caplog.at_level(logging.WARNING):
        manager.archives.bring_in(incoming)
    data = manager.layout.profile("a").browser_profile
    lines = [line for line in caplog.messages if line.startswith("removed from the browser data")]
    assert len(lines) == 1
    assert "profile 'a'" in lines[0]
    if (data / "prefs.js").exists():
        assert "network.proxy (prefs.js), user.js" in lines[0]
        assert files(data) == {"prefs.js"}
        assert (data / "prefs.js").read_bytes() == b""
    else:
        assert lines[0].endswith(": proxy")
        assert (data / "Default" / "Cookies").read_bytes() == b"MARKER"
        assert json.loads((data / "Default" / "Preferences").read_text()) == {}


def exported(tmp_path: Path, content: dict[str, Any]) -> Path:
    with ProfileManager(tmp_path / "theirs") as theirs:
        theirs.create_profile("a", "custom")
        put(theirs.layout.profile("a").browser_profile, content)
        return theirs.archives.export(["a"], tmp_path / "a.zip", with_session=True).path


def test_an_archive_and_a_clone_of_ones_own(
    manager: ProfileManager, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    archive = exported(tmp_path, HOSTILE)
    with caplog.at_level(logging.WARNING):
        manager.archives.import_file(archive, trusted=True)
    assert [line for line in caplog.messages if line.endswith("elsewhere: proxy")]
    data = manager.layout.profile("a").browser_profile
    assert json.loads((data / "Default" / "Preferences").read_text()) == {}
    # What a person sets here is theirs.
    put(data, HOSTILE)
    caplog.clear()
    manager.clone_profile("a", "b", with_session=True)
    copy = manager.layout.profile("b").browser_profile
    assert json.loads((copy / "Default" / "Preferences").read_text()) == PROXY
    assert not caplog.messages


def test_a_snapshot_of_a_store_elsewhere(
    manager: ProfileManager, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manager.create_profile("a", "custom")
    data = put(manager.layout.profile("a").browser_profile, HOSTILE)
    preferences = data / "Default" / "Preferences"
    manager.snapshots.create("a", encrypt=False)
    manager.snapshots.restore("a")
    assert json.loads(preferences.read_text()) == PROXY
    (tmp_path / "share").mkdir()
    manager.snapshots.set_store(str(tmp_path / "share"))
    manager.snapshots.create("a", encrypt=False)
    with caplog.at_level(logging.WARNING):
        manager.snapshots.restore("a")
    assert json.loads(preferences.read_text()) == {}
    assert [line for line in caplog.messages if line.endswith("of the repository: proxy")]


# In the real browser


@contextlib.contextmanager
def listener() -> Iterator[tuple[int, list[bytes]]]:
    """Notes what each connection says first; the answer of a proxy that has nothing."""
    heard: list[bytes] = []
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                heard.append(connection.recv(4096))
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 1\r\n"
                    b"Connection: close\r\n\r\nx"
                )

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1], heard
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(10)


@needs_browser
def test_a_proxy_in_an_archive_gets_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In theirs the listener is asked; after the import it is not, and the login is there."""

    def browser(manager: ProfileManager) -> SyncBrowserManager:
        return SyncBrowserManager(
            "a", manager=manager, args=ARGUMENTS, executable=chromium_path(), headless=True
        )

    with listener() as (site, _), listener() as (port, heard):
        page_url = f"http://127.0.0.1:{site}/"
        with ProfileManager(tmp_path / "theirs") as theirs:
            theirs.create_profile("a", "custom")
            with browser(theirs) as context:
                page = context.new_page()
                page.goto(page_url)
                page.evaluate(
                    "document.cookie = 'login=mine; max-age=100000';localStorage.setItem('k', 'v')"
                )
            preferences = theirs.layout.profile("a").browser_profile / "Default" / "Preferences"
            value = json.loads(preferences.read_text())
            value["proxy"] = {"mode": "fixed_servers", "server": f"127.0.0.1:{port}"}
            preferences.write_text(json.dumps(value))
            archive = theirs.archives.export(["a"], tmp_path / "a.zip", with_session=True).path
            with browser(theirs) as context:
                context.new_page().goto("http://tweakio.invalid/")
            assert any(b"tweakio.invalid" in said for said in heard)
        heard.clear()
        with ProfileManager(tmp_path / "home") as manager:
            with caplog.at_level(logging.WARNING):
                manager.archives.import_file(archive)
            with browser(manager) as context:
                page = context.new_page()
                page.goto(page_url)
                assert page.evaluate("document.cookie") == "login=mine"
                assert page.evaluate("localStorage.getItem('k')") == "v"
                # Of its own: the page of an error arrives after the error.
                with pytest.raises(Exception, match="ERR_"):
                    context.new_page().goto("http://tweakio.invalid/")
        assert not heard
    # What each browser notes for itself is not worth a word.
    assert [line for line in caplog.messages if line.endswith("elsewhere: proxy")]
