"""Platforms: registered by a call, or by a package that is merely installed."""

from __future__ import annotations

import json
import textwrap

import pytest
from cli_helpers import Cli

from tweakio import InvalidInputError, UnknownPlatformError, platforms, register_platform
from tweakio.platforms import (
    FingerprintGenerator,
    SessionHandler,
    find_platform,
    platform_names,
)
from tweakio.platforms.addresses import checked_address, is_of_this_machine


class SignalSession:
    login_url = "https://signal.example/"
    session_of_record = "session.json"

    def empty_session(self):
        return {"linked": False}


class SignalFingerprint:
    def generate(self, profile_id):
        return {"seed": profile_id[::-1]}


def test_the_four_are_registered_by_the_same_call():
    assert {"whatsapp", "telegram", "discord", "custom"} <= set(platform_names())
    for name in platform_names():
        platform = find_platform(name)
        assert isinstance(platform.session_handler(), SessionHandler)
        assert isinstance(platform.fingerprint_generator(), FingerprintGenerator)
        assert platform.session_handler().session_of_record in ("browser_profile", "session.json")


def test_whatsapps_login_is_in_the_browser():
    assert find_platform("whatsapp").session_handler().session_of_record == "browser_profile"
    assert find_platform("telegram").session_handler().session_of_record == "session.json"


def test_a_new_platform_needs_no_change_elsewhere(manager):
    register_platform(
        name="signal", session_handler=SignalSession, fingerprint_generator=SignalFingerprint
    )
    profile = manager.create_profile("alpha", "signal")
    assert profile.platform == "signal"
    assert json.loads((profile.path / "session.json").read_bytes()) == {"linked": False}
    assert json.loads((profile.path / "fingerprint.json").read_bytes()) == {"seed": "ahpla"}
    manager.activate_profile("alpha")


def test_our_handlers_by_name():
    from tweakio.platforms import builtin

    for name in ("WhatsApp", "Telegram", "Discord", "Custom"):
        kind = getattr(builtin, f"{name}SessionHandler")
        assert type(find_platform(name.lower()).session_handler()) is kind
    with pytest.raises(AttributeError, match="MatrixSessionHandler"):
        _ = builtin.MatrixSessionHandler


def test_registering_imports_no_handler(tmp_path):
    done = Cli(tmp_path).python(
        "import sys\n"
        "from tweakio.platforms import platform_names\n"
        "platform_names()\n"
        "print(*sys.modules)\n"
    )
    assert done.code == 0, done.err
    assert "tweakio.platforms.whatsapp" not in done.out
    assert "tweakio.platforms.page" not in done.out
    assert "playwright" not in done.out


def test_a_platform_can_be_replaced():
    register_platform("custom", SignalSession, SignalFingerprint)
    assert find_platform("custom").session_handler is SignalSession


@pytest.mark.parametrize("name", ["", "Signal", "a b", None, "x" * 33])
def test_bad_names(name):
    with pytest.raises(InvalidInputError):
        register_platform(name, SignalSession, SignalFingerprint)


def test_handlers_must_be_callable():
    with pytest.raises(InvalidInputError, match="session_handler"):
        register_platform("signal", SignalSession(), SignalFingerprint)
    with pytest.raises(InvalidInputError, match="fingerprint_generator"):
        register_platform("signal", SignalSession, None)
    assert find_platform("signal") is None


def test_an_unknown_platform_creates_nothing(manager, home):
    with pytest.raises(UnknownPlatformError):
        manager.create_profile("alpha", "icq")
    assert not home.exists()


def test_fingerprints_are_never_the_same():
    generator = find_platform("whatsapp").fingerprint_generator()
    assert generator.generate("alpha")["seed"] != generator.generate("alpha")["seed"]


def test_a_profile_outlives_its_platforms_package(manager, monkeypatch):
    register_platform("signal", SignalSession, SignalFingerprint)
    profile = manager.create_profile("alpha", "signal")
    (profile.path / "session.json").write_bytes(b'{"linked": true}')
    platforms._platforms.pop("signal")
    assert manager.get_profile("alpha").status == "inactive"
    manager.activate_profile("alpha")
    manager.deactivate_profile()
    manager.delete_profile("alpha")
    manager.undo()
    assert (profile.path / "session.json").read_bytes() == b'{"linked": true}'


def install(directory, name, code, entry):
    """What pip would leave of a package: a module and its dist-info."""
    (directory / f"{name}.py").write_text(textwrap.dedent(code))
    info = directory / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[tweakio.platforms]\n{name} = {entry}\n")


PACKAGE = """
    from tweakio.platforms import register_platform

    class Session:
        login_url = ""
        session_of_record = "session.json"
        def empty_session(self):
            return {"from": "package"}

    class Fingerprint:
        def generate(self, profile_id):
            return {"by": "package"}

    def register():
        register_platform("matrix", Session, Fingerprint)
"""


@pytest.mark.parametrize("at_import", [False, True])
def test_an_installed_package_adds_a_platform(tmp_path, at_import):
    packages = tmp_path / "site"
    packages.mkdir()
    code = textwrap.dedent(PACKAGE) + ("\nregister()\n" if at_import else "")
    entry = "tweakio_matrix" if at_import else "tweakio_matrix:register"
    install(packages, "tweakio_matrix", code, entry)
    install(packages, "tweakio_broken", "raise RuntimeError('broken')", "tweakio_broken")
    done = Cli(tmp_path).python(
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from tweakio import ProfileManager\n"
        "from tweakio.platforms import platform_names\n"
        "with ProfileManager() as pm:\n"
        "    p = pm.create_profile('alpha', 'matrix')\n"
        "    print((p.path / 'session.json').read_text().split(), 'matrix' in platform_names())\n"
        "    pm.create_profile('beta', 'whatsapp')\n",
        str(packages),
    )
    assert done.code == 0, done.err
    assert done.out.strip() == "['{', '\"from\":', '\"package\"', '}'] True"
    assert "tweakio_broken cannot be loaded" in done.err


def test_an_unknown_platform_is_looked_for_once_only(tmp_path):
    packages = tmp_path / "site"
    packages.mkdir()
    install(packages, "tweakio_broken", "raise RuntimeError('broken')", "tweakio_broken")
    done = Cli(tmp_path).python(
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from tweakio.platforms import find_platform, platform_names\n"
        "find_platform('icq'), find_platform('icq'), platform_names()\n",
        str(packages),
    )
    assert done.code == 0, done.err
    assert done.err.count("cannot be loaded") == 1


@pytest.mark.parametrize(
    "url",
    [
        "https://web.whatsapp.com/",
        "https://service.example:8443/login?next=1#top",
        "https://m\u00fcnchen.example/",
        "https://10.0.0.5/",
        "https://[2001:db8::1]:8443/",
        "http://127.0.0.1:8080/",
        "http://localhost:8080/x",
        "http://service.localhost/",
        "http://[::1]/",
    ],
)
def test_addresses_of_pages(url):
    assert checked_address(url) == url
    assert is_of_this_machine(url) is url.startswith("http:")


@pytest.mark.parametrize(
    "url",
    [
        None, 5, "", "https://", "https:///path", "service.example", "//service.example/",
        "file:///etc/passwd", "javascript:alert(1)", "data:text/html,x", "chrome://settings",
        "view-source:https://service.example/", "ftp://service.example/",
        "http://service.example/", "http://10.0.0.5/", "http://localhost.example/",
        "http://169.254.169.254/latest/meta-data/", "https://169.254.169.254/",
        "https://[fe80::1]/", "https://[::ffff:169.254.169.254]/", "https://0.0.0.0/",
        "https://[::]/", "https://224.0.0.1/",
        # 127.0.0.1 and 169.254.169.254, as browsers read them
        "http://2130706433/", "http://0x7f000001/", "http://0177.0.0.1/", "http://127.1/",
        "https://2852039166/", "https://0xa9fea9fe/", "https://0251.0376.0251.0376/",
        "https://169.254.43518/", "https://169.254.169.254./", "https://0xA9.254.169.254/",
        "https://\uff11\uff16\uff19.254.169.254/", "https://169\u3002254\u3002169\u3002254/",
        "https://%31%36%39.254.169.254/", "https://\u2460.example/",
        "https://user@service.example/", "https://user:word@service.example/",
        "https://@service.example/", "https:\\\\service.example/", "https://service.example\\@x/",
        "https://a b.example/", "https://service.example/\n", "https://a..example/",
        "https://service.example:99999/", "https://[::1/", "https://" + "a" * 1_000_000,
    ],
)  # fmt: skip
def test_addresses_that_no_page_may_have(url):
    with pytest.raises(InvalidInputError) as caught:
        checked_address(url)
    assert len(caught.value.message) < 150
