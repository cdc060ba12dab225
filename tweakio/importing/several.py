"""Many profiles at once: a folder of what browsers and Playwright keep, or a table."""

from __future__ import annotations

import csv
import io
import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tweakio.archive.importer import LONGEST_ID, Incoming, free_id
from tweakio.errors import ForeignDataError, InvalidInputError, in_the_tree
from tweakio.importing import storage_state, user_data
from tweakio.importing.settings import read_file, settings
from tweakio.validator import ProfileValidator

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tweakio.archive.importer import Existing

__all__ = ["from_csv", "from_folder", "id_of", "settle"]

log = logging.getLogger(__name__)

_MOST_BYTES = 64 << 20
_MOST_ROWS = 100_000
_ID = ("profile_id", "id", "name")
_TEXTS = ("platform", "note", "platform_version")
_BROWSER = ("locale", "timezone", "color_scheme", "proxy", "proxy_password")
_SOURCES = ("user_data_dir", "storage_state")
_COLUMNS = (*_ID, *_TEXTS, "tags", *_BROWSER, *_SOURCES)
_CONFIG = "config."


@in_the_tree
def from_folder(
    path: str | os.PathLike[str],
    platform: str,
    *,
    existing: Existing = "refuse",
    force: bool = False,
) -> list[Incoming]:
    """Every user data directory and every storage state (``*.json``) that lies in a folder.

    The ids follow from their names. What is neither, and every link, is left out, and the log
    says so.

    Args:
        path: the folder.
        platform: whose logins they are.
        existing: what to do if two give the same id: as for ids that are taken.
        force: take another machine's locks for dead; see ``from_user_data_dir``.

    Raises:
        ForeignDataError: nothing in it can be imported, one thing in it is damaged, or two give
            the same id.
        BrowserLockedError: a browser has one open.
        UnknownPlatformError: there is no such platform.
    """
    folder = Path(os.path.realpath(path))
    if not folder.is_dir():
        raise ForeignDataError(f"there is no folder {os.fspath(path)!r}")
    found = []
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        item = Path(entry.path)
        if user_data.is_user_data(item):
            metadata = settings(id_of(item.name), platform)
            found.append(user_data.incoming(item, metadata, force=force))
        elif (
            entry.is_file(follow_symlinks=False)
            and item.suffix.lower() == ".json"
            and storage_state.is_storage_state(item)
        ):
            found += storage_state.from_storage_state(item, id_of(item.stem), platform)
        else:
            log.warning("left out, as it is nothing that can be imported: %a", item.name)
    if not found:
        raise ForeignDataError(
            f"nothing in {folder.name!r} can be imported",
            hint="it needs user data directories of browsers, or storage states, side by side",
        )
    return settle(found, existing)


def id_of(name: str) -> str:
    """An id that resembles the name of a file."""
    text = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-_")[:LONGEST_ID]
    if ProfileValidator().is_id(text):
        return text
    return f"profile-{text}".rstrip("-")[:LONGEST_ID]


def settle(incoming: Iterable[Incoming], existing: Existing) -> list[Incoming]:
    """Deal with ids that a source has twice, in whatever case, as with ids that are taken.

    Raises:
        ForeignDataError: there is one, and ``existing`` says to refuse.
    """
    seen: set[str] = set()
    result = []
    for item in incoming:
        name = str(item.metadata["profile_id"])
        if name.lower() in seen:
            if existing == "refuse":
                raise ForeignDataError(
                    f"it gives two profiles the id '{name}', in whatever case",
                    hint="run it with --skip or --rename",
                )
            if existing == "skip":
                log.warning("left out a second profile '%s'", name)
                continue
            name = free_id(name, seen)
        seen.add(name.lower())
        result.append(item._replace(metadata={**item.metadata, "profile_id": name}))
    return result


@in_the_tree
def from_csv(
    path: str | os.PathLike[str], platform: str | None = None, *, existing: Existing = "refuse"
) -> list[Incoming]:
    """The rows of a table, whose first row names the columns, in any order.

    ``profile_id`` (or ``id``, ``name``) must be there; ``platform``, ``tags`` (between them
    semicolons), ``note``, ``platform_version``, ``locale``, ``timezone``, ``color_scheme``,
    ``proxy``, ``proxy_password`` (a reference), ``config.KEY`` (of ``platform_config``),
    ``user_data_dir`` and ``storage_state`` (paths, from the table's place) may.

    Args:
        path: a file in UTF-8; between its columns commas, semicolons or tabs.
        platform: where a row names none.
        existing: what to do if two rows have the same id: as for ids that are taken.

    Raises:
        ForeignDataError: it is no such table, or a row cannot be used; the message has its line.
        BrowserLockedError: a browser has a row's user data open.
        StorageError: it cannot be read.
    """
    table = Path(path)
    try:
        text = read_file(table, _MOST_BYTES).decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise ForeignDataError(f"{table.name!r} is no text in UTF-8") from None
    found = settle(_rows(text, table, platform), existing)
    if not found:
        raise ForeignDataError(f"{table.name!r} has no rows", hint="give a profile a line")
    return found


def _rows(text: str, table: Path, platform: str | None) -> Iterator[Incoming]:
    begin = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=begin.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        columns = [name.strip().lower() for name in next(reader, [])]
        _check(columns)
        for count, row in enumerate(reader):
            if not any(cell.strip() for cell in row):
                continue
            try:
                if len(row) != len(columns) or count > _MOST_ROWS:
                    raise ForeignDataError(
                        f"it has {len(row)} cells under {len(columns)} headings"
                        if count <= _MOST_ROWS
                        else f"there are more than {_MOST_ROWS} rows"
                    )
                yield _row(dict(zip(columns, map(str.strip, row), strict=True)), table, platform)
            except (ForeignDataError, InvalidInputError) as error:
                raise ForeignDataError(
                    f"line {reader.line_num}: {error}", hint=error.hint, line=reader.line_num
                ) from None
    except csv.Error as error:
        raise ForeignDataError(f"line {reader.line_num}: no CSV ({error})") from None


def _check(columns: list[str]) -> None:
    known = f"the columns are {', '.join(_COLUMNS)} and {_CONFIG}KEY"
    for name in columns:
        if name not in _COLUMNS and not (name.startswith(_CONFIG) and name != _CONFIG):
            raise ForeignDataError(f"there is no column {name[:40]!a}", hint=known)
        if columns.count(name) > 1:
            raise ForeignDataError(f"the column {name[:40]!a} is there twice", hint=known)
    if sum(name in columns for name in _ID) != 1:
        raise ForeignDataError("the first row needs one column profile_id", hint=known)


def _row(row: dict[str, str], table: Path, platform: str | None) -> Incoming:
    cells = {name: value for name, value in row.items() if value}
    profile_id = next((row[name] for name in _ID if name in row), "")
    named = cells.get("platform", platform)
    if named is None:
        raise ForeignDataError("no platform", hint="fill the column platform, or give --platform")
    config: dict[str, Any] = {
        name.removeprefix(_CONFIG): value
        for name, value in cells.items()
        if name.startswith(_CONFIG)
    }
    others: dict[str, Any] = {
        "tags": [tag.strip() for tag in cells.get("tags", "").split(";") if tag.strip()],
        "note": cells.get("note", ""),
        "platform_version": cells.get("platform_version"),
        "platform_config": config or None,
        "browser": {name: cells[name] for name in _BROWSER if name in cells} or None,
    }
    sources = [name for name in _SOURCES if name in cells]
    if len(sources) > 1:
        raise ForeignDataError("a row has a user_data_dir or a storage_state, not both")
    if not sources:
        return Incoming(settings(profile_id, named, **others))
    (source,) = sources
    place = table.parent / cells[source]
    take = (
        user_data.from_user_data_dir
        if source == "user_data_dir"
        else storage_state.from_storage_state
    )
    return take(place, profile_id, named, **others)[0]
