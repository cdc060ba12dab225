"""How a profile's browser presents itself: from fingerprint.json to the options of a launch.

Only what launch options make true everywhere is presented: in the page, in its frames, in
workers of every kind and in the headers of requests. What a script on the page could compare
with the machine (hardware, graphics, fonts) is left as it is, because a claim that the browser
contradicts somewhere says more than no claim. ``docs/fingerprints.md`` has the list.

What follows from a seed is frozen: a changed table here would change every account's browser.
"""

from __future__ import annotations

import json
import os
import re
import sys
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal

from tweakio.errors import InvalidInputError
from tweakio.platforms.protocols import BrowserVersion, Presentation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tweakio.platforms.protocols import FingerprintGenerator

__all__ = [
    "SeededFingerprintGenerator",
    "chromium_arguments",
    "context_options",
    "environment",
    "is_seeded",
    "languages_of",
    "machine_locale",
    "present",
    "screen_of",
    "user_agent",
]

_SEED = re.compile(r"[0-9a-f]{32}", re.ASCII)
_LOCALE = re.compile(r"([a-z]{2,3})[_-]([A-Z]{2})(?:[.@].*)?", re.ASCII)
_NO_SETTINGS: Mapping[str, Any] = {}

# Screens in CSS pixels, each with its weight among 16; a seed picks one of them.
_SCREENS = (
    ((1920, 1080), 6),
    ((1536, 864), 3),
    ((1366, 768), 2),
    ((1440, 900), 2),
    ((1680, 1050), 1),
    ((2560, 1440), 2),
)
_TASKBAR = 40
_LARGER_SCREENS = ((2560, 1600), (3440, 1440), (3840, 2160), (5120, 2880), (7680, 4320))
_DARK = 4  # of 16


class SeededFingerprintGenerator:
    """A random seed per profile, from which follows what the settings leave open.

    The seed has 128 bits, so no two profiles of a repository share one.
    """

    def generate(self, profile_id: str) -> Mapping[str, Any]:  # noqa: ARG002 - the protocol has it
        """A new seed; the id plays no part, so that a name used again is a new identity.

        The machine's locale is kept with it: a start by cron, or on another machine, must not
        change the language of an account.
        """
        import secrets

        return {
            "schema_version": 1,
            "generator": "seeded",
            "seed": secrets.token_hex(16),
            "locale": machine_locale(),
        }

    def present(
        self,
        fingerprint: Mapping[str, Any],
        settings: Mapping[str, Any],
        browser: BrowserVersion,
    ) -> Presentation:
        """What follows from the seed, unless a setting says otherwise.

        A fingerprint of another generator works as well: a hash of its content is the seed.
        """
        seed = _seed_of(fingerprint)
        window = settings.get("window")
        scheme = settings.get("color_scheme")
        return Presentation(
            user_agent=user_agent(browser),
            languages=languages_of(settings.get("locale") or _locale_of(fingerprint)),
            timezone=settings.get("timezone"),
            window=_window(seed) if window is None else (window[0], window[1]),
            color_scheme=_color_scheme(seed) if scheme is None else scheme,
        )


def present(
    generator: FingerprintGenerator | None,
    fingerprint: Mapping[str, Any],
    settings: Mapping[str, Any],
    browser: BrowserVersion,
) -> Presentation:
    """What a profile's browser is launched with, whatever its platform's generator can do.

    Args:
        generator: the platform's; None if its package is not installed. One that was written
            before generators could present is stood in for by ours.
        fingerprint: the content of fingerprint.json.
        settings: the profile's ``browser`` settings.
        browser: what will be launched.

    Raises:
        InvalidInputError: a setting has not its form, or the generator made something that is
            no presentation.
    """
    _check_form(settings)
    own = getattr(generator, "present", None)
    if own is None:
        return SeededFingerprintGenerator().present(fingerprint, settings, browser)
    made = own(fingerprint, settings, browser)
    if not isinstance(made, Presentation) or not made.languages:
        raise InvalidInputError(
            "the platform's fingerprint generator made no presentation",
            hint="upgrade the package that provides the platform",
        )
    parts = {
        "locale": made.languages[0],
        "timezone": made.timezone,
        "window": made.window,
        "color_scheme": made.color_scheme,
    }
    _check_form({key: item for key, item in parts.items() if item is not None})
    return made


def _check_form(settings: Mapping[str, Any]) -> None:
    from tweakio.settings import SettingError, check_form

    try:
        check_form(settings)
    except SettingError as error:
        raise InvalidInputError(f"{error.key} {error}", hint=error.hint) from None


def is_seeded(generator: object) -> bool:
    """Whether what a generator makes is ours, and so never the same twice."""
    return getattr(type(generator), "generate", None) is SeededFingerprintGenerator.generate


# What follows from a seed


def _seed_of(fingerprint: Mapping[str, Any]) -> bytes:
    seed = fingerprint.get("seed")
    if fingerprint.get("generator") == "seeded" and isinstance(seed, str) and _SEED.fullmatch(seed):
        return bytes.fromhex(seed)
    try:
        text = json.dumps(fingerprint, sort_keys=True, ensure_ascii=True, default=str)
    except RecursionError:
        raise InvalidInputError(
            "fingerprint.json is nested too deeply", hint="correct the file"
        ) from None
    return sha256(text.encode()).digest()


def _number(seed: bytes, name: str, below: int) -> int:
    """A number that a seed has under a name; ``random`` may change with Python's version."""
    digest = sha256(b"tweakio fingerprint 1\0" + name.encode() + b"\0" + seed).digest()
    return int.from_bytes(digest[:8], "big") % below


def _window(seed: bytes) -> tuple[int, int]:
    """A window that somebody may have drawn on a common screen: up to a sixth smaller."""
    tickets = [screen for screen, weight in _SCREENS for _ in range(weight)]
    width, height = tickets[_number(seed, "screen", len(tickets))]
    height -= _TASKBAR
    return (
        width - _number(seed, "width", width // 6),
        height - _number(seed, "height", height // 6),
    )


def _color_scheme(seed: bytes) -> Literal["light", "dark"]:
    return "dark" if _number(seed, "color scheme", 16) < _DARK else "light"


# The language


def machine_locale() -> str:
    """The locale of this process's environment, such as ``de-DE``; ``en-US`` if it has none."""
    found = next(filter(None, map(os.environ.get, ("LC_ALL", "LC_MESSAGES", "LANG"))), "")
    match = _LOCALE.fullmatch(found)
    return "en-US" if match is None else f"{match[1]}-{match[2]}"


def _locale_of(fingerprint: Mapping[str, Any]) -> str:
    kept = fingerprint.get("locale")
    match = _LOCALE.fullmatch(kept) if isinstance(kept, str) else None
    return machine_locale() if match is None else f"{match[1]}-{match[2]}"


def languages_of(locale: str) -> tuple[str, ...]:
    """What a browser of this locale asks for: the locale, its language, and English.

    Args:
        locale: such as ``de-DE``.
    """
    language = locale.partition("-")[0]
    wanted = [locale, "en-US", "en"]
    if language != "en":
        wanted.insert(1, language)
    return tuple(dict.fromkeys(wanted))


# The user agent


def user_agent(browser: BrowserVersion, platform: str = sys.platform) -> str:
    """The user agent string of a real browser of this version on this machine.

    Chromium's has only the major version since 2022, and one fixed operating system for each
    kind (https://www.chromium.org/updates/ua-reduction), so nothing else of the machine shows.

    Args:
        browser: what will be launched.
        platform: as ``sys.platform``.

    Returns:
        Empty if the version is not known: the browser's own is used then.
    """
    if not browser.major:
        return ""
    system = {"darwin": "Macintosh; Intel Mac OS X 10_15_7", "win32": "Windows NT 10.0; Win64; x64"}
    kind = system.get(platform, "X11; Linux x86_64")
    if browser.engine == "firefox":
        version = f"{browser.major}.0"
        kind = kind.replace("10_15_7", "10.15")
        return f"Mozilla/5.0 ({kind}; rv:{version}) Gecko/20100101 Firefox/{version}"
    other = f" {browser.product}/{browser.major}.0.0.0" if browser.product else ""
    return (
        f"Mozilla/5.0 ({kind}) AppleWebKit/537.36 (KHTML, like Gecko) "
        f"Chrome/{browser.major}.0.0.0 Safari/537.36{other}"
    )


# The options of a launch


def screen_of(window: tuple[int, int]) -> tuple[int, int]:
    """The common screen on which a window of this size would be; as large as it if none is."""
    screens = sorted([screen for screen, _ in _SCREENS] + [*_LARGER_SCREENS])
    for width, height in screens:
        if width >= window[0] and height - _TASKBAR >= window[1]:
            return width, height
    return window


def chromium_arguments(
    presentation: Presentation, settings: Mapping[str, Any] = _NO_SETTINGS
) -> list[str]:
    """The command line of a Chromium that presents itself so; no secret is in it.

    Args:
        presentation: what ``present`` returned.
        settings: the profile's ``browser`` settings; of interest is whether it has a proxy.
    """
    width, height = presentation.window
    screen_width, screen_height = screen_of(presentation.window)
    arguments = [
        f"--lang={presentation.languages[0]}",
        f"--accept-lang={','.join(presentation.languages)}",
        f"--window-size={width},{height}",
        # Of a headless browser; one with a display has that display's screen.
        f"--screen-info={{{screen_width}x{screen_height}}}",
    ]
    if presentation.user_agent:
        arguments.insert(0, f"--user-agent={presentation.user_agent}")
    if settings.get("proxy"):
        # Or calls would go past the proxy and tell the machine's own address.
        arguments.append("--webrtc-ip-handling-policy=disable_non_proxied_udp")
    return arguments


def environment(presentation: Presentation) -> dict[str, str]:
    """The environment variables that a browser needs besides, to be laid over the present ones."""
    locale = presentation.languages[0].replace("-", "_")
    # Chromium on Linux takes its locale from GLib, which looks at LANGUAGE first.
    found = {"LANGUAGE": f"{locale}:{locale.partition('_')[0]}"}
    if presentation.timezone is not None:
        found["TZ"] = presentation.timezone
    return found


def context_options(
    presentation: Presentation,
    settings: Mapping[str, Any] = _NO_SETTINGS,
    opener: Callable[[str, str], str] | None = None,
) -> dict[str, Any]:
    """The keywords of Playwright's ``launch_persistent_context`` that belong to it.

    With a proxy that wants a password they hold it: they are for passing on at once, not for
    a log. Playwright gives it to the browser over its private channel, not by its command line.

    Args:
        presentation: what ``present`` returned.
        settings: the profile's ``browser`` settings.
        opener: opens a password that is sealed; see ``Vault.opener``.

    Raises:
        SecretNotFoundError, MissingExtraError: the proxy's password is not there.
        VaultError: it is sealed and cannot be opened here.
    """
    options: dict[str, Any] = {
        "color_scheme": presentation.color_scheme,
        # Playwright would otherwise pretend a size of its own in pages, but not elsewhere.
        "no_viewport": True,
    }
    if settings.get("proxy"):
        options["proxy"] = _proxy(settings, opener)
    return options


def _proxy(
    settings: Mapping[str, Any], opener: Callable[[str, str], str] | None = None
) -> dict[str, str]:
    from tweakio.references import resolve
    from tweakio.settings import parse_proxy

    address = parse_proxy(settings["proxy"])
    found = {"server": address.server}
    if address.user is not None:
        reference = settings.get("proxy_password")
        found["username"] = address.user
        found["password"] = (
            resolve(reference, "browser.proxy_password", opener) if reference else ""
        )
    return found
