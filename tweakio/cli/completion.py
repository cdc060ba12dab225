"""What a shell offers behind the cursor; it never fails and never writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer  # noqa: TC002 - Typer reads the annotations

from tweakio.cli.output import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tweakio.manager import ProfileManager

__all__ = ["complete_platforms", "complete_profiles", "complete_revisions", "complete_trash"]

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
    given: Any = ctx.params.get("profile_ids") or ()

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
