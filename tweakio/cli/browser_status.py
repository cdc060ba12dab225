"""What ``profile status`` shows of a profile's browser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tweakio.models import format_time

if TYPE_CHECKING:
    from tweakio.browser.state import BrowserState, BrowserStatus

__all__ = ["browser_json", "browser_pairs"]


def browser_json(status: BrowserStatus) -> dict[str, Any]:
    """Members that a profile's object has besides."""
    state, record = status
    login, last = record.login, record.last_unclean_exit
    return {
        "browser_state": state.kind,
        "browser_pid": state.pid,
        "browser_host": state.host,
        "unclean_exits": record.unclean_exits,
        "last_unclean_exit": None if last is None else format_time(last),
        "login": None
        if login is None
        else {
            "state": login.state,
            "since": format_time(login.since),
            "verified_at": format_time(login.verified_at),
        },
    }


def browser_pairs(status: BrowserStatus, when: Any = format_time) -> list[tuple[str, str]]:
    """The same as names and values.

    Args:
        status: of a profile.
        when: makes text of a moment.
    """
    record = status.record
    login, last = record.login, record.last_unclean_exit
    unclean = str(record.unclean_exits)
    return [
        ("browser_state", _state(status.state)),
        ("unclean_exits", unclean if last is None else f"{unclean}, last {when(last)}"),
        ("login", "" if login is None else f"{login.state} since {when(login.since)}"),
        ("login_verified_at", "" if login is None else when(login.verified_at)),
    ]


def _state(state: BrowserState) -> str:
    parts: list[str] = [state.kind]
    if state.pid is not None:
        parts.append(f"process {state.pid}")
    if state.kind == "other_host":
        parts.append(f"on {state.host or 'an unknown host'}")
    return ", ".join(parts)
