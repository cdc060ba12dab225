"""Options that several commands share, and the reading of values that Typer does not know."""

import math
import re
from datetime import timedelta
from typing import Annotated, Any

import typer

from tweakio.cli.completion import (
    complete_color_schemes,
    complete_locales,
    complete_platforms,
    complete_profiles,
    complete_revisions,
    complete_time_zones,
    complete_trash,
)
from tweakio.errors import InvalidInputError

__all__ = [
    "Browser",
    "ColorScheme",
    "Configs",
    "DryRun",
    "Force",
    "Headed",
    "Json",
    "Locale",
    "LoginTimeout",
    "Phone",
    "Platform",
    "ProfileId",
    "ProfileIds",
    "Proxy",
    "ProxyPassword",
    "QrPath",
    "Revision",
    "SelectPlatform",
    "SelectTags",
    "TimeZone",
    "TrashName",
    "Trust",
    "Window",
    "parse_age",
    "parse_browser",
    "parse_config",
    "parse_count",
    "parse_seconds",
]

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; change nothing.")]
ProfileId = Annotated[
    str, typer.Argument(metavar="ID", show_default=False, autocompletion=complete_profiles)
]
ProfileIds = Annotated[
    list[str] | None,
    typer.Argument(metavar="ID", show_default=False, autocompletion=complete_profiles),
]
SelectTags = Annotated[
    list[str] | None,
    typer.Option(
        "--tag",
        "--where-tag",
        metavar="TAG",
        help="Instead of ids: those with this tag; given again, with all of them.",
    ),
]
SelectPlatform = Annotated[
    str | None,
    typer.Option(
        "--platform",
        "--where-platform",
        metavar="NAME",
        help="Instead of ids: those of this platform.",
        autocompletion=complete_platforms,
    ),
]
Revision = Annotated[
    str,
    typer.Argument(
        metavar="REV",
        help="A commit id, its first digits, or HEAD~2.",
        show_default=False,
        autocompletion=complete_revisions,
    ),
]
TrashName = Annotated[
    str,
    typer.Argument(
        metavar="ENTRY",
        help="As 'trash list' names it.",
        show_default=False,
        autocompletion=complete_trash,
    ),
]
Platform = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Only this platform's.", autocompletion=complete_platforms),
]
Configs = Annotated[
    list[str] | None,
    typer.Option(
        "--config",
        metavar="KEY=VALUE",
        help="A setting of the platform; secrets as env:NAME or keyring:NAME.",
    ),
]
Locale = Annotated[
    str | None,
    typer.Option(
        "--locale",
        metavar="LOCALE",
        help="The browser's language, such as de-DE.",
        autocompletion=complete_locales,
    ),
]
TimeZone = Annotated[
    str | None,
    typer.Option(
        "--timezone",
        metavar="ZONE",
        help="The browser's time zone, such as Europe/Berlin.",
        autocompletion=complete_time_zones,
    ),
]
Window = Annotated[
    str | None,
    typer.Option("--window", metavar="WxH", help="The browser's window, such as 1280x800."),
]
ColorScheme = Annotated[
    str | None,
    typer.Option(
        "--color-scheme",
        metavar="SCHEME",
        help="What the browser prefers: light or dark.",
        autocompletion=complete_color_schemes,
    ),
]
Proxy = Annotated[
    str | None,
    typer.Option(
        "--proxy",
        metavar="URL",
        help="The browser's proxy: http://[USER@]HOST:PORT or socks5://HOST:PORT, no password.",
    ),
]
ProxyPassword = Annotated[
    str | None,
    typer.Option(
        "--proxy-password",
        metavar="REFERENCE",
        help="Its password: sealed:..., env:NAME or keyring:NAME.",
    ),
]
Phone = Annotated[
    str | None,
    typer.Option(
        "--phone", metavar="NUMBER", help="A pairing code for this number instead of a QR code."
    ),
]
Headed = Annotated[bool, typer.Option("--headed", help="Show the browser's window.")]
QrPath = Annotated[
    str | None,
    typer.Option("--qr-file", metavar="FILE", help="Write the QR code there, as a PNG."),
]
LoginTimeout = Annotated[
    str, typer.Option("--timeout", metavar="SECONDS", help="How long to wait for the login.")
]
Browser = Annotated[
    str | None,
    typer.Option("--browser", metavar="PATH", help="The browser to use; else it is looked for."),
]
Force = Annotated[
    bool,
    typer.Option("--force", help="Take another machine's lock on the browser data for dead."),
]

Trust = Annotated[
    bool,
    typer.Option("--trust", help="Confirm the addresses, selectors and secrets that it brings."),
]

_WINDOW = re.compile(r"([0-9]{1,6})[xX]([0-9]{1,6})", re.ASCII)
_AGE = re.compile(r"(?P<number>[0-9]{1,9}(?:\.[0-9]{1,6})?)(?P<unit>[smhdw]?)", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks", "": "days"}


def parse_age(text: str) -> timedelta:
    """Read ``30d``, ``12h``, ``2w``, ``90m``, ``45s``; a plain number means days.

    Raises:
        InvalidInputError: it is something else.
    """
    match = _AGE.fullmatch(text)
    try:
        if match is not None:
            return timedelta(**{_UNITS[match["unit"]]: float(match["number"])})
    except OverflowError:
        pass
    raise InvalidInputError(
        f"{text[:40]!r} is not an age", hint="write it like 30d, 12h or 2w; 30 means 30 days"
    )


def parse_seconds(text: str) -> float:
    """Read a number of seconds that is not negative.

    Raises:
        InvalidInputError: it is something else.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise InvalidInputError(
            f"{text[:40]!r} is not a number of seconds", hint="write it like 5 or 0.5"
        )
    return value


def parse_count(value: int | None) -> int | None:
    """Check a number of lines.

    Raises:
        InvalidInputError: it is less than 1.
    """
    if value is not None and value < 1:
        raise InvalidInputError(
            f"-n needs a number from 1, not {value}", hint="leave it out for all"
        )
    return value


def parse_config(items: list[str] | None, *, removing: bool) -> dict[str, str | None]:
    """Read ``KEY=VALUE`` items; values are text.

    Args:
        items: as they were given.
        removing: whether ``KEY=`` is allowed and means that the key goes.

    Raises:
        InvalidInputError: one is not of that form. It is not shown, as it may be a secret.
    """
    found: dict[str, str | None] = {}
    for number, item in enumerate(items or (), 1):
        key, separator, value = item.partition("=")
        if not separator or not key.strip():
            raise InvalidInputError(
                f"--config number {number} is not KEY=VALUE", hint="write it like api_id=env:API_ID"
            )
        if key in found:
            raise InvalidInputError(f"--config sets {key[:60]!r} twice", hint="set it once")
        if not value and not removing:
            raise InvalidInputError(f"--config {key[:60]!r} has no value", hint="leave it out")
        found[key] = value or None
    return found


def parse_browser(*, removing: bool, **given: str | None) -> dict[str, Any]:
    """The browser settings that were given.

    Args:
        removing: whether an empty value is allowed and means that the setting goes.
        **given: the options' values by the settings' names; None if one was not given.

    Raises:
        InvalidInputError: one is empty, or ``window`` is not of its form. Values are not
            shown, as one may be a secret.
    """
    found: dict[str, Any] = {}
    for key, text in given.items():
        if text is None:
            continue
        if not text and not removing:
            option = key.replace("_", "-")
            raise InvalidInputError(f"--{option} has no value", hint="leave it out")
        found[key] = _window(text) if text and key == "window" else text or None
    return found


def _window(text: str) -> list[int]:
    match = _WINDOW.fullmatch(text)
    if match is None:
        raise InvalidInputError(
            f"{text[:40]!r} is not the size of a window", hint="write it like 1280x800"
        )
    return [int(match[1]), int(match[2])]
