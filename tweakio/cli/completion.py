"""What a shell offers behind the cursor; it never fails and never writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer  # noqa: TC002 - Typer reads the annotations

from tweakio.cli.output import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tweakio.manager import ProfileManager

__all__ = [
    "complete_color_schemes",
    "complete_locales",
    "complete_platforms",
    "complete_profiles",
    "complete_recipients",
    "complete_remotes",
    "complete_revisions",
    "complete_snapshots",
    "complete_time_zones",
    "complete_trash",
]

_MOST = 200
"""More revisions than this nobody reads in a menu."""

Offers = list[tuple[str, str]]


def _offer(
    ctx: typer.Context,
    incomplete: str,
    find: Callable[[ProfileManager], Iterable[tuple[str, str]]],
) -> Offers:
    from tweakio.cli.context import State, silence

    silence()
    try:
        # The root's callback does not run while a line is completed.
        home = ctx.find_root().params.get("home")
        with State(home).manager("completion") as manager:
            return [(value, clean(text)) for value, text in find(manager)
                    if value.startswith(incomplete)]  # fmt: skip
    except Exception:  # an error would land in the user's prompt
        return []


def complete_profiles(ctx: typer.Context, incomplete: str) -> Offers:
    """Profile ids, with the platform."""
    given: Any = ctx.params.get("profile_ids") or ctx.params.get("names") or ()

    def find(manager: ProfileManager) -> Iterable[tuple[str, str]]:
        for profile in manager.list_profiles():
            if profile.id not in given:
                yield profile.id, profile.platform or profile.status

    return _offer(ctx, incomplete, find)


def complete_platforms(ctx: typer.Context, incomplete: str) -> Offers:
    """Platforms."""

    def find(manager: ProfileManager) -> Iterable[tuple[str, str]]:  # noqa: ARG001 - one protocol
        from tweakio.platforms import platform_names

        return [(name, "platform") for name in platform_names()]

    return _offer(ctx, incomplete, find)


def complete_revisions(ctx: typer.Context, incomplete: str) -> Offers:
    """Short ids of the newest commits, with what they did."""

    def find(manager: ProfileManager) -> Iterable[tuple[str, str]]:
        from tweakio.cli.render import SHORT

        for change in manager.history(limit=_MOST):
            yield change.revision[:SHORT], change.summary

    return _offer(ctx, incomplete, find)


def complete_trash(ctx: typer.Context, incomplete: str) -> Offers:
    """Trash entries, with what they are."""

    def find(manager: ProfileManager) -> Iterable[tuple[str, str]]:
        for entry in manager.trash():
            yield entry.name, f"{entry.profile_id} ({entry.kind})"

    return _offer(ctx, incomplete, find)


def complete_snapshots(ctx: typer.Context, incomplete: str) -> Offers:
    """Snapshots of the profile that the line names, newest first; none over a network."""
    profile_id: Any = ctx.params.get("profile_id")

    def find(manager: ProfileManager) -> Iterable[tuple[str, str]]:
        if "://" in manager.snapshots.store:
            return
        for item in manager.snapshots.list(profile_id):
            yield item.name, f"{item.bytes} bytes"

    return _offer(ctx, incomplete, find)


def complete_remotes(ctx: typer.Context, incomplete: str) -> Offers:
    """Remotes, with their addresses."""

    def find(manager: ProfileManager) -> Iterable[tuple[str, str]]:
        return [(item.name, item.url) for item in manager.remotes.list()]

    return _offer(ctx, incomplete, find)


def complete_recipients(ctx: typer.Context, incomplete: str) -> Offers:
    """Recipients of the vault."""

    def find(manager: ProfileManager) -> Iterable[tuple[str, str]]:
        return [(recipient, "recipient") for recipient in manager.vault.recipients()]

    return _offer(ctx, incomplete, find)


# Of the languages that Chromium speaks, those with the most speakers.
_LOCALES = (
    *("ar-EG", "bn-BD", "cs-CZ", "da-DK", "de-AT", "de-CH", "de-DE", "el-GR", "en-AU", "en-CA"),
    *("en-GB", "en-IN", "en-US", "es-AR", "es-ES", "es-MX", "fi-FI", "fr-CA", "fr-FR", "he-IL"),
    *("hi-IN", "hu-HU", "id-ID", "it-IT", "ja-JP", "ko-KR", "nb-NO", "nl-NL", "pl-PL", "pt-BR"),
    *("pt-PT", "ro-RO", "ru-RU", "sv-SE", "th-TH", "tr-TR", "uk-UA", "ur-PK", "vi-VN", "zh-CN"),
    "zh-TW",
)


def complete_locales(incomplete: str) -> list[str]:
    """Common locales; any other can be given as well."""
    return [name for name in _LOCALES if name.startswith(incomplete)]


def complete_time_zones(incomplete: str) -> list[str]:
    """The time zones of this machine."""
    from tweakio.settings import time_zones

    try:
        return sorted(name for name in time_zones() if name.startswith(incomplete))
    except Exception:  # an error would land in the user's prompt
        return []


def complete_color_schemes(incomplete: str) -> list[str]:
    """Light and dark."""
    from tweakio.settings import COLOR_SCHEMES

    return [name for name in COLOR_SCHEMES if name.startswith(incomplete)]
