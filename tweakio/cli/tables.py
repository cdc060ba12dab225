"""Tables for people at a terminal; the only module that imports rich for results."""

from __future__ import annotations

import contextlib
import io
import sys
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tweakio.cli.output import clean
from tweakio.cli.render import SHORT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tweakio.disk import DiskUsage
    from tweakio.login.check import Checked
    from tweakio.models import Change, Profile, TrashEntry
    from tweakio.snapshots.manifest import Snapshot

__all__ = ["age", "change_table", "checked_table", "local_time", "pairs_table", "profile_table",
           "size_text", "snapshot_table", "trash_table", "usage_table"]  # fmt: skip

_STYLES = {"active": "green", "corrupted": "bold red"}
_CHECKED = {"logged_in": "green", "in_use": "", "logged_out": "yellow"}
_NOTE_WIDTH = 24
_WIDE = 100
_FOLDED = 6


def _console() -> Console:
    """Measures and colours for standard output, but writes to memory.

    The text then goes out the one way that knows about full disks and closed pipes.
    """
    real = Console(file=sys.stdout, highlight=False)
    return Console(
        file=io.StringIO(),
        force_terminal=True,
        color_system=real.color_system,  # type: ignore[arg-type]  # rich returns plain str
        no_color=real.no_color,
        width=real.width,
        height=real.height,
        highlight=False,
        legacy_windows=False,
    )


def _captured(console: Console, table: Table) -> str:
    with console.capture() as capture:
        console.print(table)
    # rich fills every line up to its column's width.
    return "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())


def _drawn(
    console: Console,
    columns: Sequence[str],
    fold: Sequence[str],
    rows: Iterable[Sequence[str | Text]],
) -> str:
    """A table whose columns keep their width, but for those that fold."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=column not in fold, overflow="fold")
    needed = [_FOLDED if column in fold else len(column) for column in columns]
    for row in rows:
        # Text, because a tag or a note may look like rich's markup.
        cells = [cell if isinstance(cell, Text) else Text(clean(cell)) for cell in row]
        for number, cell in enumerate(cells):
            if columns[number] not in fold:
                needed[number] = max(needed[number], cell.cell_len)
        table.add_row(*cells)
    # In a terminal that is too narrow rich would cut ids; better the terminal breaks lines.
    console.width = max(console.width, sum(needed) + 2 * (len(columns) - 1))
    return _captured(console, table)


def local_time(moment: datetime) -> str:
    """A moment in the reader's time zone, to the minute."""
    with contextlib.suppress(ValueError, OverflowError):  # TZ names an offset that no zone has
        moment = moment.astimezone()
    return moment.strftime("%Y-%m-%d %H:%M")


def age(moment: datetime | None, now: datetime | None = None) -> str:
    """How long ago, in one unit; a date needs too much of 80 columns."""
    if moment is None:
        return "-"
    seconds = int(((now or datetime.now(timezone.utc)) - moment).total_seconds())
    for limit, unit, length in ((60, "s", 1), (3600, "m", 60), (86400, "h", 3600)):
        if seconds < limit:
            return f"{max(seconds, 0) // length}{unit} ago"
    return f"{seconds // 86400}d ago"


def size_text(size: int) -> str:
    """Bytes in a unit that fits."""
    if size < 1024:
        return f"{size} B"
    amount = float(size)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= 1024
        if amount < 1024:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1024:.1f} TiB"


def profile_table(profiles: Sequence[Profile]) -> str:
    """The profiles; ids are never cut."""
    console = _console()
    fixed = max(len(profile.id) for profile in profiles) + max(
        len(profile.platform) for profile in profiles
    )
    columns = ["ID", "PLATFORM", "STATUS", "PID", "USED", "TAGS"]
    # 33: status, process id and age with the gaps between the columns.
    has_notes = any(profile.note for profile in profiles)
    if has_notes and console.width - fixed - 33 >= 2 * _NOTE_WIDTH:
        columns.append("NOTE")
    rows = []
    for profile in profiles:
        cells: list[str | Text] = [
            profile.id,
            profile.platform or "-",
            Text(profile.status, style=_STYLES.get(profile.status, "")),
            str(profile.lock_pid or "?") if profile.in_use else "-",
            age(profile.last_used),
            ", ".join(profile.tags),
            profile.note,
        ]
        rows.append(cells[: len(columns)])
    return _drawn(console, columns, ("TAGS", "NOTE"), rows)


def pairs_table(pairs: Iterable[tuple[str, str]]) -> str:
    """Everything about one profile, as names and values."""
    console = _console()
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, value in pairs:
        style = _STYLES.get(value, "") if name == "status" else ""
        table.add_row(Text(name), Text(clean(value) or "-", style=style))
    return _captured(console, table)


def change_table(changes: Sequence[Change]) -> str:
    """The history, a line for each commit where the summaries are short."""
    console = _console()
    wide = console.width >= _WIDE
    columns = ["REVISION", "TIME", "OPERATION", "SUMMARY"]
    if wide:
        columns[3:] = ["PROFILES", "SUMMARY", "AUTHOR"]
    rows = []
    for change in changes:
        cells: list[str | Text] = [
            Text(change.revision[:SHORT], style="yellow"),
            local_time(change.time),
            change.operation,
        ]
        cells += [", ".join(change.profiles)] if wide else []
        cells += [change.summary]
        cells += [change.author] if wide else []
        rows.append(cells)
    return _drawn(console, columns, ("PROFILES", "SUMMARY", "AUTHOR"), rows)


def trash_table(entries: Sequence[TrashEntry]) -> str:
    """The trash, newest first."""
    rows = [
        (entry.name, entry.kind, local_time(entry.time), size_text(entry.size)) for entry in entries
    ]
    return _drawn(_console(), ("ENTRY", "KIND", "PUT THERE", "SIZE"), (), rows)


def snapshot_table(found: Sequence[Snapshot]) -> str:
    """Snapshots, newest first."""
    rows: list[list[str | Text]] = [
        [
            item.name,
            local_time(item.time),
            size_text(item.bytes),
            size_text(item.stored_bytes),
            "sealed" if item.sealed else "clear",
            "" if item.complete else Text("incomplete", style="bold red"),
        ]
        for item in found
    ]
    columns = ("SNAPSHOT", "MADE", "SIZE", "STORED", "KEPT", "STATE")
    return _drawn(_console(), columns, (), rows)


def checked_table(found: Sequence[Checked]) -> str:
    """What a check found; problems in colour."""
    rows: list[list[str | Text]] = []
    for item in found:
        state = Text(item.state, style=_CHECKED.get(item.state, "bold red"))
        rows.append(
            [item.profile_id, item.platform or "-", state, age(item.verified_at), item.detail]
        )
    columns = ["ID", "PLATFORM", "LOGIN", "VERIFIED", "DETAIL"]
    return _drawn(_console(), columns, ["DETAIL"], rows)


def usage_table(found: Sequence[tuple[str, DiskUsage]]) -> str:
    """What profiles take of the disk, the largest first, with a sum."""
    rows: list[list[str | Text]] = [
        [profile_id, *(size_text(size) for size in usage), size_text(usage.total)]
        for profile_id, usage in sorted(found, key=lambda item: -item[1].total)
    ]
    if len(found) > 1:
        sums = [sum(column) for column in zip(*(usage for _, usage in found), strict=True)]
        rows.append(["", *(size_text(size) for size in sums), size_text(sum(sums))])
    columns = ["ID", "SESSION", "BROWSER", "CACHES", "OTHER", "TOTAL"]
    return _drawn(_console(), columns, [], rows)
