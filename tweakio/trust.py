"""What a person confirmed on this machine: where traffic and logins may go, and with which secrets.

A profile's settings are tracked, so anyone who can push can write into them: an address to which
a browser would send everything, a selector that the page of that address reads, and a reference
to a secret of this machine. So they are used only after somebody gave or confirmed them here, as
direnv does with a directory's environment. What was confirmed is noted below ``.git/tweakio`` and
never travels.

Two parts of the settings are each confirmed as a whole, because a secret that may go to one address
must not go to another: the proxy with its password, and ``platform_config``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from tweakio import durable, references, schema
from tweakio.errors import (
    InvalidMetadataError,
    NewerFormatError,
    RepositoryDamagedError,
    TweakioError,
    UntrustedSettingsError,
    run,
    storage_error,
)
from tweakio.models import format_time, parse_time
from tweakio.store.worktree import METADATA, SEALED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from tweakio.layout import Layout
    from tweakio.models import Profile
    from tweakio.store.repository import Repository

__all__ = [
    "PLATFORM_CONFIG",
    "PROXY",
    "SESSION",
    "Doubt",
    "arrived",
    "committed",
    "confirm",
    "doubts",
    "give",
    "inherit",
    "is_legacy",
    "note_legacy",
    "prepare",
    "require",
    "untrusted",
]

log = logging.getLogger(__name__)

PROXY, PLATFORM_CONFIG = "proxy", "platform_config"
"""The two parts of the settings."""
SESSION = "session"
"""The place of a profile's encrypted session, for ``is_legacy``; a setting's is its dotted key."""

_PROXY_KEYS = ("proxy", "proxy_password")
_LEGACY = "legacy"
# Of each part the newest are kept, so that an undo asks for nothing that was confirmed before.
_MOST_VALUES = 32
_MOST_BYTES = _MOST_VALUES * 2 * schema.MAX_BYTES
_MOST_SHOWN = 120
_MOST_TOLD = 5


class Doubt(NamedTuple):
    """A part of a profile's settings that nobody confirmed on this machine.

    Attributes:
        profile_id: whose.
        part: ``proxy`` or ``platform_config``.
        now: the settings, dotted key to value.
        confirmed: the last ones that were confirmed here; empty if none were.
    """

    profile_id: str
    part: str
    now: Mapping[str, Any]
    confirmed: Mapping[str, Any]

    def settings(self) -> list[str]:
        """The dotted keys that differ from what was confirmed, safe to show."""
        return [_shown(key) for key in self._differing()]

    def _differing(self) -> list[str]:
        both = dict.fromkeys([*self.now, *self.confirmed])
        return [key for key in both if self.now.get(key) != self.confirmed.get(key)]

    def lines(self) -> list[str]:
        """What differs, a line for each setting, without anything that a terminal would obey."""
        return [
            f"{_shown(key)}: {_shown(self.now.get(key))} "
            f"(confirmed here: {_shown(self.confirmed.get(key))})"
            for key in self._differing()
        ]


def _shown(value: object) -> str:
    if value is None:
        return "none"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = "".join(c if c.isprintable() else "?" for c in text[:_MOST_SHOWN])
    return text if len(text) < _MOST_SHOWN else f"{text}..."


# What there is to confirm


def _parts(metadata: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The parts of a profile's settings that need to be confirmed; those that are empty do not."""
    browser = metadata.get("browser") or {}
    config = metadata.get("platform_config") or {}
    found = {
        PROXY: {key: browser[key] for key in _PROXY_KEYS if browser.get(key) is not None},
        PLATFORM_CONFIG: {key: value for key, value in config.items() if value is not None},
    }
    return {part: value for part, value in found.items() if value}


def _dotted(part: str, value: Mapping[str, Any]) -> dict[str, Any]:
    prefix = "browser" if part == PROXY else part
    return {f"{prefix}.{key}": item for key, item in value.items()}


def _same(one: Any, other: Any) -> bool:
    """Whether two settings are the same in JSON; in Python ``1 == True`` as well."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _covered(value: Any) -> Any:
    """Settings in which encrypted secrets all look the same.

    Another machine encrypts them anew for other recipients. What is in one says whose it is and
    for what, and the vault decrypts it for nothing else, so its bytes need no confirmation.
    """
    if isinstance(value, dict):
        return {key: _covered(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_covered(item) for item in value]
    return references.SEALED_PREFIX if references.is_sealed(value) else value


# The record of a profile


class _Record:
    """What was confirmed of one profile; of another one of the same id nothing was."""

    def __init__(self, layout: Layout, profile_id: str, created_at: str) -> None:
        self._layout = layout
        self._path = layout.trusted / f"{layout.profile(profile_id).directory.name}.json"
        self._created_at = created_at
        self._value = self._read()

    def _read(self) -> dict[str, Any]:
        try:
            value = json.loads(durable.read_regular(self._path, _MOST_BYTES))
        except FileNotFoundError:
            value = None
        except OSError as error:
            raise storage_error(error, "read what was confirmed") from error
        except (ValueError, RecursionError):
            value = None  # cut off by a power cut: then nothing counts as confirmed
        if not isinstance(value, dict) or value.get("created_at") != self._created_at:
            return {"created_at": self._created_at}
        return value

    def values(self, part: str) -> list[dict[str, Any]]:
        """The confirmed values of a part, newest last."""
        found = self._value.get(part)
        found = found if isinstance(found, list) else []
        return [value for value in found if isinstance(value, dict)]

    def has(self, part: str, value: Mapping[str, Any]) -> bool:
        """Whether a value was confirmed, apart from how secrets in it are encrypted."""
        covered = _covered(value)
        return any(_same(_covered(known), covered) for known in self.values(part))

    def has_secret(self, place: str, sealed: str) -> bool:
        """Whether just this encrypted text was confirmed for a setting."""
        for part in (PROXY, PLATFORM_CONFIG):
            for value in self.values(part):
                for key, known in _dotted(part, value).items():
                    if _holds(known, key, place, sealed):
                        return True
        return False

    def add(self, part: str, value: Mapping[str, Any]) -> bool:
        """Confirm a value, as the newest; whether that changes anything."""
        before = self.values(part)
        if before and _same(before[-1], value):
            return False
        rest = [known for known in before if not _same(known, value)]
        self._value[part] = [*rest, dict(value)][-_MOST_VALUES:]
        return True

    @property
    def legacy(self) -> list[list[str]]:
        found = self._value.get(_LEGACY)
        return found if isinstance(found, list) else []

    def add_legacy(self, place: str, digest: str) -> bool:
        if [place, digest] in self.legacy:
            return False
        self._value[_LEGACY] = [*self.legacy, [place, digest]][-_MOST_VALUES:]
        return True

    def dump(self) -> bytes:
        return (json.dumps(self._value, ensure_ascii=True) + "\n").encode()

    def write(self) -> None:
        """Write it; the repository's lock is held.

        Raises:
            StorageError: it cannot be written.
        """
        temporary = self._layout.temporary / "trusted"
        try:
            durable.remove(temporary)
            durable.replace(self._path, self.dump(), temporary)
        except OSError as error:
            raise storage_error(error, "write what was confirmed") from error


def _holds(value: Any, key: str, place: str, sealed: str) -> bool:
    if isinstance(value, dict):
        return any(_holds(item, f"{key}.{name}", place, sealed) for name, item in value.items())
    if isinstance(value, list):
        return any(_holds(item, key, place, sealed) for item in value)
    return key == place and value == sealed


def _record(layout: Layout, metadata: Mapping[str, Any]) -> _Record:
    created = metadata["created_at"]
    text = created if isinstance(created, str) else format_time(created)
    with contextlib.suppress(ValueError):
        text = format_time(parse_time(text))
    return _Record(layout, str(metadata["profile_id"]), text)


# A home of before


def prepare(repository: Repository, timeout: float | None = None) -> None:
    """Take what a home of an older tweakio has for confirmed, once, before anything else comes.

    Args:
        repository: where.
        timeout: seconds to wait for another program; as for every change by default.

    Raises:
        StorageError: it cannot be written.
        LockTimeoutError: another program is at work.
    """
    layout = repository.layout
    if os.path.isdir(layout.trusted):
        return
    with repository.exclusive(timeout):
        prepare_locked(repository)


def prepare_locked(repository: Repository) -> None:
    """As ``prepare``; the repository's lock is held."""
    layout = repository.layout
    if os.path.lexists(layout.trusted):
        return
    building = layout.temporary / "trusted.new"
    durable.remove_tree(building)
    durable.make_directory(building)
    with durable.Batch() as batch:
        for profile_id in repository.work_tree.ids(repository.head()):
            record = _as_committed(repository, profile_id)
            if record is not None:
                batch.create(building / f"{profile_id}.json", record.dump())
    durable.fsync_directory(building)
    os.rename(building, layout.trusted)
    durable.fsync_directory(layout.local)


def _as_committed(repository: Repository, profile_id: str) -> _Record | None:
    """A record of what HEAD has of a profile; None if nothing of that needs one."""
    root = repository.head().root
    try:
        content = repository.file_at(root, profile_id, METADATA)
        value = schema.load(content or b"", profile_id)
        parts = _parts(value)
        blob = repository.file_at(root, profile_id, SEALED)
    except (InvalidMetadataError, NewerFormatError, RepositoryDamagedError):
        return None
    if not parts and blob is None:
        return None
    record = _record(repository.layout, value)
    for part, settings in parts.items():
        record.add(part, settings)
    if blob is not None:
        record.add_legacy(SESSION, hashlib.sha256(blob).hexdigest())
    return record


# Asking


def doubts(repository: Repository, metadata: Mapping[str, Any]) -> list[Doubt]:
    """The parts of a profile's settings that were not confirmed on this machine.

    Args:
        repository: where.
        metadata: of the profile, as it is now.
    """
    parts = _parts(metadata)
    # Looking writes nothing: without the directory this is a home of before.
    if not parts or not os.path.isdir(repository.layout.trusted):
        return []
    return _doubts(_record(repository.layout, metadata), str(metadata["profile_id"]), parts)


def _doubts(
    record: _Record, profile_id: str, parts: Mapping[str, Mapping[str, Any]]
) -> list[Doubt]:
    found = []
    for part, value in parts.items():
        if not record.has(part, value):
            known = record.values(part)
            last = _dotted(part, known[-1]) if known else {}
            found.append(Doubt(profile_id, part, _dotted(part, value), last))
    return found


def untrusted(repository: Repository, profile: Profile) -> list[Doubt]:
    """As ``doubts``, of a profile as it was read."""
    if profile.created_at is None:
        return []
    return doubts(repository, _metadata(profile))


def _metadata(profile: Profile) -> dict[str, Any]:
    return {
        "profile_id": profile.id,
        "created_at": profile.created_at,
        "browser": dict(profile.browser or {}),
        "platform_config": dict(profile.platform_config or {}),
    }


def require(repository: Repository, profile: Profile) -> None:
    """Refuse to use settings that were not confirmed here: before any browser, page or secret.

    Raises:
        UntrustedSettingsError: there are some; ``details["doubts"]`` says which.
    """
    prepare(repository)
    found = untrusted(repository, profile)
    if found:
        lines = [line for doubt in found for line in doubt.lines()]
        more = f"; and {len(lines) - 4} more" if len(lines) > 4 else ""
        raise UntrustedSettingsError(
            f"profile '{profile.id}' has settings from elsewhere that were not confirmed on this "
            f"machine: {'; '.join(lines[:4])}{more}",
            hint="if they are what they should be, " + run("tweakio profile trust", profile.id),
            profile_id=profile.id,
            doubts=tuple(found),
        )


def is_legacy(
    layout: Layout, profile_id: str, created_at: datetime | str, place: str, data: bytes
) -> bool:
    """Whether encrypted content that does not say whose it is was confirmed for this place.

    Args:
        layout: the home.
        profile_id: whose place it is.
        created_at: the profile's identity besides its id.
        place: ``session``, or the dotted key of a setting such as ``browser.proxy_password``.
        data: the encrypted bytes.
    """
    record = _record(layout, {"profile_id": profile_id, "created_at": created_at})
    digest = hashlib.sha256(data).hexdigest()
    return [place, digest] in record.legacy or record.has_secret(place, references.as_sealed(data))


# Confirming


def confirm(repository: Repository, metadata: Mapping[str, Any]) -> list[Doubt]:
    """Confirm all of a profile's settings, and its encrypted session, as they are now.

    Returns:
        What was not confirmed before.

    Raises:
        StorageError: it cannot be written.
    """
    prepare(repository)
    with repository.exclusive():
        return confirm_locked(repository, metadata)


def confirm_locked(repository: Repository, metadata: Mapping[str, Any]) -> list[Doubt]:
    """As ``confirm``; the repository's lock is held."""
    parts = _parts(metadata)
    profile_id = str(metadata["profile_id"])
    record = _record(repository.layout, metadata)
    found = _doubts(record, profile_id, parts)
    changed = [record.add(part, value) for part, value in parts.items()]
    with contextlib.suppress(TweakioError):
        blob = repository.file_at(repository.head().root, profile_id, SEALED)
        if blob is not None:
            changed.append(record.add_legacy(SESSION, hashlib.sha256(blob).hexdigest()))
    if any(changed):
        record.write()
    return found


def give(
    repository: Repository,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any],
    given: Iterable[str],
) -> None:
    """Note what a person gave on this machine; the repository's lock is held.

    A part counts as confirmed if the rest of it was. Before the commit: a note alone gives nobody
    anything, and a commit without it would ask for what was just typed.

    Args:
        repository: where.
        before: the profile's metadata before the change; None for a new profile.
        after: and from now on.
        given: the dotted keys that were given, such as ``browser.proxy``.

    Raises:
        StorageError: it cannot be written.
    """
    keys, now = {*given}, _parts(after)
    if not keys or not now:
        return
    prepare_locked(repository)
    record = _record(repository.layout, after)
    old = {} if before is None else _parts(before)
    changed = False
    for part, value in now.items():
        rest = {key for key in _dotted(part, value) if key not in keys}
        touched = keys & {*_dotted(part, value), *_dotted(part, old.get(part, {}))}
        if touched and (not rest or part not in old or record.has(part, old[part])):
            changed |= record.add(part, value)
    if changed:
        record.write()


def committed(repository: Repository, profile_ids: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The metadata of profiles as HEAD has it, as far as it can be understood."""
    root = repository.head().root
    for profile_id in profile_ids:
        content = repository.file_at(root, profile_id, METADATA)
        with contextlib.suppress(InvalidMetadataError, NewerFormatError):
            yield schema.load(content or b"", profile_id)


def arrived(
    repository: Repository, metadata: Iterable[Mapping[str, Any]], *, confirmed: bool = False
) -> list[str]:
    """Look at profiles that came from elsewhere: every way in goes through here.

    Args:
        repository: where they are now.
        metadata: theirs, as it is now.
        confirmed: whether the person said that they are to be trusted.

    Returns:
        The ids of those that nothing uses before they are confirmed; the log says of what.

    Raises:
        StorageError: it cannot be read or written.
    """
    found: dict[str, list[Doubt]] = {}
    for value in metadata:
        if not _parts(value):
            continue
        if confirmed:
            confirm(repository, value)
        elif unsure := doubts(repository, value):
            found[str(value["profile_id"])] = unsure
    for profile_id, unsure in list(found.items())[:_MOST_TOLD]:
        lines = [line for doubt in unsure for line in doubt.lines()]
        log.warning("profile '%s' came with %s", profile_id, "; ".join(lines[:4]))
    if found:
        log.warning(
            "nothing of that is used before it is confirmed on this machine; if it is what it "
            "should be, %s",
            run("tweakio profile trust", *found)
            if len(found) <= _MOST_TOLD
            else run("tweakio profile trust --all"),
        )
    return sorted(found)


def inherit(repository: Repository, source: Mapping[str, Any], made: Mapping[str, Any]) -> None:
    """Confirm of a copy what is confirmed of its source; the repository's lock is held.

    Raises:
        StorageError: it cannot be written.
    """
    parts = _parts(made)
    if not parts:
        return
    prepare_locked(repository)
    known, record = _record(repository.layout, source), _record(repository.layout, made)
    changed = [record.add(part, value) for part, value in parts.items() if known.has(part, value)]
    if any(changed):
        record.write()


def note_legacy(
    layout: Layout, profile_id: str, created_at: datetime | str, place: str, data: bytes
) -> None:
    """Confirm encrypted content that does not say whose it is; the repository's lock is held.

    Args: as ``is_legacy``.

    Raises:
        StorageError: it cannot be written.
    """
    record = _record(layout, {"profile_id": profile_id, "created_at": created_at})
    if record.add_legacy(place, hashlib.sha256(data).hexdigest()):
        record.write()
