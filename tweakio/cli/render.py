"""From the library's records to JSON and to plain text (docs/command-line.md).

What a pipe reads is a promise: columns are separated by one tab, an absent value is ``-``,
times are in UTC, and nothing is cut. Pictures for people are in ``tables``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tweakio.cli.output import can_encode, clean
from tweakio.models import format_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from tweakio.disk import DiskUsage
    from tweakio.login.check import Checked
    from tweakio.models import Change, Profile, ProfileDiff, TrashEntry
    from tweakio.snapshots.manifest import Snapshot
    from tweakio.snapshots.snapshots import Verified

__all__ = [
    "SHORT",
    "change_json",
    "checked_json",
    "checked_row",
    "diff_json",
    "diff_lines",
    "json_text",
    "plain_change_row",
    "plain_profile_row",
    "plain_rows",
    "plain_snapshot_row",
    "plain_trash_row",
    "profile_json",
    "profile_pairs",
    "show_lines",
    "snapshot_json",
    "trash_json",
    "usage_json",
    "usage_row",
    "value_text",
    "verified_json",
    "verified_row",
]

SHORT = 12
"""Digits of a revision that are shown; git takes 7 and more as soon as they are unique."""
_ABSENT = "-"


# JSON


def json_text(value: Any) -> str:
    """One JSON document with a newline at its end."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    # Escapes keep it JSON where the output's encoding lacks a character, or a terminal would
    # obey it: JSON itself demands them only below U+0020.
    plain = can_encode(text) and text.replace("\n", "").isprintable()
    return (text if plain else json.dumps(value, indent=2)) + "\n"


def _json_time(moment: datetime | None) -> str | None:
    return None if moment is None else format_time(moment)


def profile_json(profile: Profile) -> dict[str, Any]:
    """A profile as an object."""
    return {
        "profile_id": profile.id,
        "platform": profile.platform or None,
        "status": profile.status,
        "in_use": profile.in_use,
        "lock_pid": profile.lock_pid,
        "created_at": _json_time(profile.created_at),
        "last_used": _json_time(profile.last_used),
        "tags": list(profile.tags),
        "note": profile.note,
        "platform_version": profile.platform_version,
        "platform_config": dict(profile.platform_config),
        "browser": dict(profile.browser),
        "path": str(profile.path),
        "problem": profile.problem,
    }


def change_json(change: Change) -> dict[str, Any]:
    """A commit as an object."""
    return {
        "revision": change.revision,
        "operation": change.operation,
        "profiles": list(change.profiles),
        "author": change.author,
        "time": _json_time(change.time),
        "command": change.command,
        "summary": change.summary,
    }


def diff_json(difference: ProfileDiff) -> dict[str, Any]:
    """What a change did to one profile, as an object."""
    return {
        "profile_id": difference.profile_id,
        "kind": difference.kind,
        "fields": [
            {"field": item.field, "before": item.before, "after": item.after}
            for item in difference.fields
        ],
    }


def trash_json(entry: TrashEntry) -> dict[str, Any]:
    """A trash entry as an object."""
    return {
        "name": entry.name,
        "profile_id": entry.profile_id,
        "kind": entry.kind,
        "profile_created_at": _json_time(entry.profile_created_at),
        "time": _json_time(entry.time),
        "size": entry.size,
        "path": str(entry.path),
    }


def snapshot_json(snapshot: Snapshot) -> dict[str, Any]:
    """A snapshot as an object."""
    return {
        **snapshot._asdict(),
        "profile_created_at": _json_time(snapshot.profile_created_at),
        "time": _json_time(snapshot.time),
        "recipients": list(snapshot.recipients),
    }


def verified_json(verified: Verified) -> dict[str, Any]:
    """What was found of a snapshot, as an object."""
    return {
        "name": verified.snapshot.name,
        "profile_id": verified.snapshot.profile_id,
        "problem": verified.problem,
        "opened": verified.opened,
        "bound": verified.bound,
    }


def usage_json(profile_id: str, usage: DiskUsage) -> dict[str, Any]:
    """What a profile takes of the disk, as an object."""
    return {"profile_id": profile_id, **usage._asdict(), "total": usage.total}


def checked_json(checked: Checked) -> dict[str, Any]:
    """What a check found about one profile, as an object."""
    return {
        "profile_id": checked.profile_id,
        "platform": checked.platform or None,
        "state": checked.state,
        "since": _json_time(checked.since),
        "verified_at": _json_time(checked.verified_at),
        "detail": checked.detail,
    }


# Plain text


def plain_rows(rows: Iterable[Sequence[str]]) -> str:
    """Rows of columns, for a pipe."""
    return "".join("\t".join(clean(cell) or _ABSENT for cell in row) + "\n" for row in rows)


def plain_profile_row(profile: Profile) -> Sequence[str]:
    """id, platform, status, in use, last used, tags."""
    return (
        profile.id,
        profile.platform,
        profile.status,
        "in_use" if profile.in_use else "",
        _json_time(profile.last_used) or "",
        ",".join(profile.tags),
    )


def plain_change_row(change: Change) -> Sequence[str]:
    """Revision, time, operation, profiles, summary, author."""
    return (
        change.revision[:SHORT],
        format_time(change.time),
        change.operation,
        ",".join(change.profiles),
        change.summary,
        change.author,
    )


def plain_trash_row(entry: TrashEntry) -> Sequence[str]:
    """Name, profile, kind, time, bytes."""
    return (entry.name, entry.profile_id, entry.kind, format_time(entry.time), str(entry.size))


def plain_snapshot_row(snapshot: Snapshot) -> Sequence[str]:
    """Name, time, bytes of the files, bytes in the store, how it is kept, whether it is whole."""
    return (
        snapshot.name,
        format_time(snapshot.time),
        str(snapshot.bytes),
        str(snapshot.stored_bytes),
        "sealed" if snapshot.sealed else "clear",
        "complete" if snapshot.complete else "incomplete",
    )


def verified_row(verified: Verified) -> Sequence[str]:
    """Name, ok or damaged, what was looked at, the problem."""
    content = "content" if verified.bound or not verified.snapshot.sealed else "unbound"
    return (
        verified.snapshot.name,
        "damaged" if verified.problem else "ok",
        content if verified.opened else "stored",
        verified.problem,
    )


def usage_row(profile_id: str, usage: DiskUsage) -> Sequence[str]:
    """Profile, session, browser data, caches, other, total; in bytes."""
    return (profile_id, *map(str, usage), str(usage.total))


def checked_row(checked: Checked) -> Sequence[str]:
    """Profile, platform, state, when that was last clear, detail."""
    return (
        checked.profile_id,
        checked.platform,
        checked.state,
        _json_time(checked.verified_at) or "",
        checked.detail,
    )


def profile_pairs(profile: Profile, when: Any = format_time) -> list[tuple[str, str]]:
    """Everything about a profile, as names and values.

    Args:
        profile: which.
        when: makes text of a moment.
    """
    config = value_text(dict(profile.platform_config)) if profile.platform_config else ""
    return [
        ("profile_id", profile.id),
        ("platform", profile.platform),
        ("status", profile.status),
        ("in_use", "yes" if profile.in_use else "no"),
        ("lock_pid", "" if profile.lock_pid is None else str(profile.lock_pid)),
        ("created_at", "" if profile.created_at is None else when(profile.created_at)),
        ("last_used", "" if profile.last_used is None else when(profile.last_used)),
        ("tags", ",".join(profile.tags)),
        ("note", profile.note),
        ("platform_version", profile.platform_version or ""),
        ("platform_config", config),
        ("browser", value_text(dict(profile.browser)) if profile.browser else ""),
        ("path", str(profile.path)),
        ("problem", profile.problem or ""),
    ]


def value_text(value: Any) -> str:
    """A value of metadata.json in one line."""
    return _ABSENT if value is None else json.dumps(value, ensure_ascii=False)


def diff_lines(difference: ProfileDiff) -> list[str]:
    """A profile's fields before and after."""
    lines = [f"{clean(difference.profile_id)} ({difference.kind})"]
    for item in difference.fields:
        before, after = clean(value_text(item.before)), clean(value_text(item.after))
        lines.append(f"  {clean(item.field)}: {before} -> {after}")
    return lines


def show_lines(change: Change, differences: Iterable[ProfileDiff], when: Any) -> list[str]:
    """A commit's header and what it did."""
    header = [
        ("revision", change.revision),
        ("time", when(change.time)),
        ("author", change.author),
        ("operation", change.operation),
        ("command", change.command or _ABSENT),
        ("summary", change.summary),
    ]
    lines = [f"{name:<9} {clean(value)}" for name, value in header]
    for difference in differences:
        lines += ["", *diff_lines(difference)]
    return lines
