"""The browser settings of a profile: what may stand in metadata.json as ``browser``.

Two kinds of rules. The form of a value (``check_form``) is the same on every machine, so it
decides whether a metadata.json is valid. Whether a time zone exists here, and whether the
settings make sense together (``check``), is asked when somebody sets them: a profile that was
made elsewhere does not become invalid because this machine's zones are older.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from tweakio.errors import InvalidMetadataError
from tweakio.references import FORMS, is_reference, is_sealed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "COLOR_SCHEMES",
    "KEYS",
    "LARGEST_WINDOW",
    "SMALLEST_WINDOW",
    "Proxy",
    "SettingError",
    "canonical",
    "canonical_proxy",
    "check",
    "check_form",
    "fit_together",
    "parse_proxy",
    "time_zones",
]

KEYS = ("locale", "timezone", "window", "color_scheme", "proxy", "proxy_password")
COLOR_SCHEMES = ("light", "dark")
SMALLEST_WINDOW = (400, 300)
LARGEST_WINDOW = (7680, 4320)

_LOCALE = re.compile(r"[a-z]{2,3}(?:-[A-Z][a-z]{3})?(?:-(?:[A-Z]{2}|[0-9]{3}))?", re.ASCII)
_PART = r"[A-Za-z][A-Za-z0-9_+-]{0,31}"
_ZONE = re.compile(rf"{_PART}(?:/{_PART}){{0,2}}", re.ASCII)
# Of the machine, not of the world: they name another zone on another machine, or none.
_NO_ZONES = frozenset({"localtime", "posixrules", "Factory"})
_PROXY = re.compile(
    r"(?P<scheme>https?|socks5)://(?:(?P<user>[A-Za-z0-9._~!$&'()*+,;=%-]{1,255})@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9_])?)"
    r":(?P<port>[0-9]{1,5})",
    re.ASCII,
)
# The ports that browsers take where none is given.
_PORTS = {"http": 80, "https": 443, "socks5": 1080}
_LONGEST_PROXY = 640
_FORM_OF_PROXY = "write it like http://host:8080, http://user@host:8080 or socks5://host:1080"
_BY_REFERENCE = f"write it without one and set proxy_password to {FORMS}"


class SettingError(ValueError):
    """What is wrong with one setting; the value is never repeated, as it may hold a secret.

    Args:
        key: which setting.
        reason: one clause, without the name of the setting.
        hint: the next step.
    """

    def __init__(self, key: str, reason: str, hint: str) -> None:
        super().__init__(reason)
        self.key = key
        self.hint = hint


class Proxy(NamedTuple):
    """The parts of a proxy's address; it holds no password.

    Attributes:
        server: scheme, host and port, as browsers take it.
        user: as it is sent to the proxy; None if it wants none.
    """

    server: str
    user: str | None


def check_form(settings: Mapping[str, Any]) -> None:
    """Check the form of each setting that is known; others pass, a newer version may have them.

    Raises:
        SettingError: one has not.
    """
    for key, value in settings.items():
        rule = _RULES.get(key)
        if rule is not None:
            rule(value)


def check(settings: Mapping[str, Any]) -> None:
    """Check settings that somebody makes: their form, their names, and that they fit together.

    Args:
        settings: all that the profile will have.

    Raises:
        InvalidMetadataError: something is wrong, in one line that repeats no value.
    """
    try:
        _check(settings)
    except SettingError as error:
        raise InvalidMetadataError(
            f"browser.{error.key} {error}", hint=error.hint, field="browser"
        ) from None


def _check(settings: Mapping[str, Any]) -> None:
    for key in settings:
        if key not in KEYS:
            shown = key if isinstance(key, str) and re.fullmatch(r"\w{1,40}", key) else "(name)"
            raise SettingError(shown, "is not a browser setting", f"there are {', '.join(KEYS)}")
    check_form(settings)
    zone = settings.get("timezone")
    if zone is not None:
        _check_zone_exists(zone)
    if not fit_together(settings):
        raise SettingError(
            "proxy_password",
            "needs a proxy with a user",
            "set proxy to http://USER@HOST:PORT as well, or remove it",
        )


def fit_together(settings: Mapping[str, Any]) -> bool:
    """Whether settings, each of which has its form, make sense beside each other."""
    if settings.get("proxy_password") is None:
        return True
    address = settings.get("proxy")
    return address is not None and parse_proxy(address).user is not None


def _locale(value: object) -> None:
    if isinstance(value, str) and _LOCALE.fullmatch(value):
        return
    hint = "write it like de-DE, pt-BR or zh-Hans-CN"
    if isinstance(value, str) and len(value) <= 16:
        likely = "-".join(
            part.lower() if number == 0 else part.title() if len(part) == 4 else part.upper()
            for number, part in enumerate(re.split(r"[-_]", value.partition(".")[0]))
        )
        hint = f"write it as {likely}" if _LOCALE.fullmatch(likely) else hint
    raise SettingError("locale", "is not a locale", hint)


def _timezone(value: object) -> None:
    if not isinstance(value, str) or not _ZONE.fullmatch(value) or value in _NO_ZONES:
        raise SettingError(
            "timezone", "is not the name of a time zone", "write it like Europe/Berlin or UTC"
        )


def _window(value: object) -> None:
    (least_width, least_height), (most_width, most_height) = SMALLEST_WINDOW, LARGEST_WINDOW
    if (
        not isinstance(value, (list, tuple))
        or len(value) != 2
        or any(type(number) is not int for number in value)
    ):
        raise SettingError("window", "is not a width and a height", "give two whole numbers")
    if not (least_width <= value[0] <= most_width and least_height <= value[1] <= most_height):
        raise SettingError(
            "window",
            "is too small or too large",
            f"use {least_width}x{least_height} to {most_width}x{most_height}",
        )


def _color_scheme(value: object) -> None:
    if value not in COLOR_SCHEMES:
        raise SettingError("color_scheme", "is no color scheme", "use light or dark")


def _proxy(value: object) -> None:
    parse_proxy(value)


def _proxy_password(value: object) -> None:
    if not is_reference(value) and not is_sealed(value):
        raise SettingError("proxy_password", "is not a reference to a secret", f"use {FORMS}")


_RULES: Mapping[str, Callable[[object], None]] = {
    "locale": _locale,
    "timezone": _timezone,
    "window": _window,
    "color_scheme": _color_scheme,
    "proxy": _proxy,
    "proxy_password": _proxy_password,
}


def parse_proxy(value: object) -> Proxy:
    """Read a proxy's address: ``scheme://[user@]host:port``, the user percent-encoded.

    What ``canonical_proxy`` can bring into this form is one as well.

    Raises:
        SettingError: it is not of that form, or holds a password.
    """
    text = canonical_proxy(value) if isinstance(value, str) else ""
    match = _PROXY.fullmatch(text) if len(text) <= _LONGEST_PROXY else None
    if match is None and _holds_password(text):
        raise SettingError("proxy", "holds a password", _BY_REFERENCE)
    if match is None or not 1 <= int(match["port"]) <= 65535 or not _is_host(match["host"]):
        raise SettingError("proxy", "is not the address of a proxy", _FORM_OF_PROXY)
    user = match["user"]
    if user is not None:
        from urllib.parse import unquote

        if match["scheme"] == "socks5":
            raise SettingError(
                "proxy", "names a user of a SOCKS proxy", "browsers cannot log in to one"
            )
        user = unquote(user, errors="replace")
        if ":" in user:
            raise SettingError("proxy", "holds a password", _BY_REFERENCE)
        escapes = re.search(r"%(?![0-9A-Fa-f]{2})", match["user"])
        if escapes or "\ufffd" in user or not user.isprintable():
            raise SettingError("proxy", "names a user that cannot be", "use its percent-encoding")
    return Proxy(f"{match['scheme']}://{match['host']}:{int(match['port'])}", user)


def canonical_proxy(text: str) -> str:
    """A proxy's address as it is kept, if it is one in another form that browsers take.

    That is: a scheme or host in capitals, a slash at the end, no port, a name in any script, and
    ``socks5h``, which is what browsers do with ``socks5`` anyway: the proxy looks names up.
    """
    scheme, slashes, rest = text[:_LONGEST_PROXY].partition("://")
    scheme = scheme.lower().replace("socks5h", "socks5")
    if not slashes or scheme not in _PORTS or len(text) > _LONGEST_PROXY:
        return text
    user, at, place = rest.removesuffix("/").rpartition("@")
    host, colon, port = place.rpartition(":")
    if not colon or "]" in port:
        host, port = place, str(_PORTS[scheme])
    if not host.isascii():
        try:
            host = host.encode("idna").decode()
        except UnicodeError:
            return text
    return f"{scheme}://{user}{at}{host.lower()}:{port}"


def canonical(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that were checked, as they are kept."""
    proxy = settings.get("proxy")
    return {**settings, "proxy": canonical_proxy(proxy)} if isinstance(proxy, str) else {**settings}


def _holds_password(text: str) -> bool:
    """Whether it looks like ``//user:password@host`` or ``user:password@host``."""
    scheme, slashes, rest = text.partition("//")
    if slashes and "/" not in scheme:
        _, colon, behind = rest.partition("/")[0].partition(":")
        if colon and "@" in behind:
            return True
    user, colon, behind = text.partition("/")[0].partition(":")
    return bool(user and colon) and "@" in behind[1:]


def _is_host(host: str) -> bool:
    labels = host.split(".")
    if host.startswith("[") or labels[-1].isdecimal():
        from ipaddress import ip_address

        try:
            ip_address(host.strip("[]"))
        except ValueError:
            return False
        return True
    return all(0 < len(label) <= 63 and label[0] != "-" != label[-1] for label in labels)


def time_zones() -> set[str]:
    """The time zones that this machine knows; none if it has no data about them."""
    import zoneinfo

    return zoneinfo.available_timezones() - _NO_ZONES


def _check_zone_exists(zone: str) -> None:
    known = time_zones()
    if not known or zone in known:
        return
    folded = {name.lower(): name for name in known}
    likely = folded.get(zone.lower())
    if likely is None:
        from difflib import get_close_matches

        likely = folded.get(next(iter(get_close_matches(zone.lower(), folded, 1)), ""))
    hint = f"did you mean {likely}?" if likely else "write it like Europe/Berlin or UTC"
    raise SettingError("timezone", "names no time zone that exists", hint)
