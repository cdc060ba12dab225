"""``profile list``: the one command whose imports are counted.

Neither pydantic, dulwich, filelock nor psutil is needed to list what was validated before,
and rich only for a terminal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tweakio.cli.output import emit, is_terminal, notice
from tweakio.cli.render import json_text, plain_profile_row, plain_rows, profile_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tweakio.cli.context import State
    from tweakio.models import Status

__all__ = ["list_profiles"]


def list_profiles(
    state: State,
    *,
    active: bool = False,
    corrupted: bool = False,
    platform: str | None = None,
    tags: Iterable[str] = (),
    as_json: bool = False,
) -> None:
    """Print the profiles that fit."""
    status: Status | None = "active" if active else "corrupted" if corrupted else None
    with state.manager("profile list") as manager:
        if platform is not None:
            manager.validator.validate_platform(platform)
        profiles = manager.list_profiles(status=status, platform=platform, tags=tags)
        lost = manager.lost_data(profiles)
    if lost:
        more = f" and {len(lost) - 5} more" if len(lost) > 5 else ""
        notice(
            f"the browser data of {', '.join(lost[:5])}{more} are gone, and it was not tweakio "
            "that removed them; 'tweakio profile status' says what brings them back"
        )
    if as_json:
        emit(json_text([profile_json(profile) for profile in profiles]))
    elif not is_terminal():
        emit(plain_rows(plain_profile_row(profile) for profile in profiles))
    elif profiles:
        from tweakio.cli.tables import profile_table

        emit(profile_table(profiles))
    else:
        notice("no profiles" if _filtered(status, platform, tags) else _NONE_YET)


_NONE_YET = "no profiles yet: run 'tweakio profile create <id> --platform whatsapp'"


def _filtered(status: Status | None, platform: str | None, tags: Iterable[str]) -> bool:
    return status is not None or platform is not None or bool(list(tags))
