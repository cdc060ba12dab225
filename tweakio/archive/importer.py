"""Making profiles of what comes from elsewhere, as one commit.

Every kind of source gives ``Incoming`` records; what is the same for all of them is here: ids
that are taken, fingerprints, the transaction.
"""

from __future__ import annotations

import json
import logging
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from tweakio import bundle, changes, directories, durable, references, schema, seen, settings, trust
from tweakio.browser import record
from tweakio.cleartext import refuse_secrets
from tweakio.errors import (
    ArchiveError,
    DiskFullError,
    InvalidInputError,
    NewerFormatError,
    ProfileExistsError,
    TweakioError,
    storage_error,
)
from tweakio.layout import ProfilePaths
from tweakio.models import composed, parse_time
from tweakio.platforms import find_platform
from tweakio.store.worktree import FINGERPRINT, METADATA, SEALED
from tweakio.vault import sealing

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from pathlib import Path

    from tweakio.store.locks import ProfileLockManager
    from tweakio.store.repository import Repository
    from tweakio.store.transaction import Transaction
    from tweakio.validator import ProfileValidator

__all__ = [
    "LONGEST_ID",
    "Existing",
    "Imported",
    "Incoming",
    "bring_in",
    "build",
    "checked_fingerprint",
    "checked_metadata",
    "free_id",
    "inactive",
    "onwards",
    "plan",
    "reading",
    "unpacked",
]

log = logging.getLogger(__name__)

Existing = Literal["refuse", "skip", "rename"]
"""What to do about a profile whose id is taken."""

LONGEST_ID = 32


class Incoming(NamedTuple):
    """A profile that comes from elsewhere.

    Attributes:
        metadata: a valid metadata.json; its ``profile_id`` is the wished one.
        fingerprint: fingerprint.json's bytes, a JSON object; None for a new one.
        has_data: whether ``unpack`` puts browser data or a session there.
        unpack: writes ``session.json`` and ``browser_profile/``, or one of them, into a staged
            directory, synced; with None it only checks what it would write.
        size: bytes of browser data, for the progress.
        foreign: whether its browser data come from elsewhere, so that nothing in them may send
            the browser somewhere else.
    """

    metadata: dict[str, Any]
    fingerprint: bytes | None = None
    has_data: bool = False
    unpack: Callable[[Path | None, Callable[[int], None] | None], object] | None = None
    size: int = 0
    foreign: bool = True


class Imported(NamedTuple):
    """What became of a profile that came in.

    Attributes:
        profile_id: its id here.
        source_id: its id there.
        platform: of it.
        action: ``created``, or ``skipped`` because the id is taken.
        with_session: whether browser data or a session came with it.
    """

    profile_id: str
    source_id: str
    platform: str
    action: Literal["created", "skipped"]
    with_session: bool


def inactive(metadata: dict[str, Any]) -> dict[str, Any]:
    """Metadata without what is one machine's own."""
    value = {key: item for key, item in metadata.items() if key != "lock_pid"}
    if value.get("status") == "active":
        value["status"] = "inactive"
    return value


def as_written(metadata: dict[str, Any]) -> dict[str, Any]:
    """Metadata with tags and proxy in the forms in which they are kept."""
    value = {**metadata, "tags": sorted(map(composed, {*metadata.get("tags", ())}))}
    value["tags"] = list(dict.fromkeys(value["tags"]))
    if value.get("browser"):
        value["browser"] = settings.canonical(value["browser"])
    return value


def plan(
    incoming: Sequence[Incoming],
    taken: Sequence[str],
    validator: ProfileValidator,
    *,
    as_id: str | None,
    existing: Existing,
    taken_hint: str = "import it with --as another id, or with --skip or --rename",
) -> list[Imported]:
    """What will become of each, in order.

    Args:
        incoming: the profiles.
        taken: ids that are here.
        validator: the rules about names.
        as_id: the id of the one profile.
        existing: what to do about ids that are taken.
        taken_hint: the next step if that is to refuse.

    Raises:
        ProfileExistsError: an id is taken, and ``existing`` says to refuse.
        InvalidProfileIdError, InvalidInputError: bad arguments.
        ArchiveError: an id is in it twice, in whatever case.
        InvalidMetadataError: a secret stands in its settings in the clear.
    """
    if as_id is not None:
        validator.validate_id(as_id)
        if len(incoming) != 1:
            raise InvalidInputError(
                f"it holds {len(incoming)} profiles, which cannot all be '{as_id}'",
                hint="leave --as out",
            )
    here = {name.lower(): name for name in taken}
    coming: set[str] = set()
    result = []
    for item in incoming:
        source_id = str(item.metadata["profile_id"])
        validator.validate_id(source_id)
        if source_id.lower() in coming:
            raise ArchiveError(f"it has the profile '{source_id}' twice, in whatever case")
        coming.add(source_id.lower())
        wished = as_id or source_id
        platform = str(item.metadata["platform"])
        if wished.lower() in here:
            if existing == "refuse":
                other = here[wished.lower()]
                case = "" if other == wished else f" and differs from '{wished}' by case"
                raise ProfileExistsError(
                    f"profile '{other}' exists{case}", hint=taken_hint, profile_id=other
                )
            if existing == "skip":
                result.append(Imported(wished, source_id, platform, "skipped", False))  # noqa: FBT003
                continue
            wished = free_id(wished, here.keys() | coming)
        refuse_secrets(item.metadata.get("platform_config"), item.metadata.get("note"))
        here[wished.lower()] = wished
        result.append(Imported(wished, source_id, platform, "created", item.has_data))
    return result


def free_id(wished: str, taken: Collection[str]) -> str:
    """An id that nobody has, made of one that is taken.

    Args:
        wished: a valid id.
        taken: ids in lower case.
    """
    for number in range(2, len(taken) + 3):
        end = f"-{number}"
        name = f"{wished[: LONGEST_ID - len(end)]}{end}"
        if name.lower() not in taken:
            return name
    raise AssertionError("one of them is free")


def bring_in(
    incoming: Sequence[Incoming],
    repository: Repository,
    locks: ProfileLockManager,
    validator: ProfileValidator,
    command: str,
    *,
    as_id: str | None = None,
    existing: Existing = "refuse",
    source: str = "",
    progress: Callable[[int], None] | None = None,
    trusted: bool = False,
) -> list[Imported]:
    """Make the profiles, all of them as one commit, or none.

    Args:
        incoming: what to make.
        repository: where.
        locks: tells which holders are alive.
        validator: the rules about names.
        command: for the history.
        as_id: see ``plan``.
        existing: see ``plan``.
        source: a word or two for the summary, without a path.
        progress: called with the bytes of browser data so far.
        trusted: confirm the addresses, selectors and references that come in.

    Raises:
        DiskFullError: there is no room for it.
        As ``plan``, ``Repository.transaction`` and what ``unpack`` raises; nothing was changed.
    """
    # Before the repository's lock: others need not wait while gigabytes are unpacked.
    taken = repository.work_tree.ids(repository.head())
    expected = plan(incoming, taken, validator, as_id=as_id, existing=existing)
    _need_room(repository, incoming, expected)
    trust.prepare(repository)
    wanted = [result.action == "created" for result in expected]
    with (
        unpacked(repository, incoming, wanted, progress) as data,
        changes.begin(repository, locks, "import", [], command=command) as change,
    ):
        found = plan(incoming, change.profile_ids(), validator, as_id=as_id, existing=existing)
        made = []
        for item, result, built in zip(incoming, found, data, strict=True):
            if result.action == "created":
                build(change, repository, item, result.profile_id, built)
                made.append(result.profile_id)
        _warn_of_encrypted(incoming, found)
        change.summary = f"import {changes.name_some(made)}{f' ({source})' if source else ''}"
    came = [
        as_written({**item.metadata, "profile_id": result.profile_id})
        for item, result in zip(incoming, found, strict=True)
        if result.action == "created"
    ]
    trust.arrived(repository, came, confirmed=trusted)
    for value in came:
        seen.note(repository.layout, value["profile_id"], parse_time(value["created_at"]))
    return found


def _warn_of_encrypted(incoming: Sequence[Incoming], found: Sequence[Imported]) -> None:
    """Name the secrets in settings that were encrypted for the profile's former id."""
    for item, result in zip(incoming, found, strict=True):
        if result.action != "created" or result.profile_id == result.source_id:
            continue
        keys = [
            key
            for name in ("browser", "platform_config")
            for key, _ in references.sealed_in(item.metadata.get(name), name)
        ]
        if keys:
            log.warning(
                "encrypted for profile '%s' and of no use to '%s': %s; set it again",
                result.source_id,
                result.profile_id,
                changes.shown_field(changes.name_some(list(dict.fromkeys(keys)))),
            )


def _need_room(
    repository: Repository, incoming: Sequence[Incoming], found: Sequence[Imported]
) -> None:
    """Refuse what says itself that it does not fit, before the disk is full of it."""
    size = sum(
        item.size
        for item, result in zip(incoming, found, strict=True)
        if result.action == "created"
    )
    free = shutil.disk_usage(repository.layout.profiles).free
    if size > free:
        raise DiskFullError(
            f"it has {size} bytes of browser data, and the disk has room for {free}",
            hint="make room, or give --home on another disk",
        )


def onwards(before: int, progress: Callable[[int], None] | None) -> Callable[[int], None] | None:
    """The progress of one of several: what it is called with counts from ``before``."""
    return None if progress is None else lambda done: progress(before + done)


@contextmanager
def unpacked(
    repository: Repository,
    incoming: Sequence[Incoming],
    wanted: Sequence[bool],
    progress: Callable[[int], None] | None,
) -> Iterator[list[Path | None]]:
    """What comes with each profile, in a directory for ``build`` to take.

    Args:
        repository: where it will be.
        incoming: the profiles.
        wanted: which of them will be made; of others nothing is unpacked.
        progress: called with the bytes so far.

    Yields:
        The directories; None for a profile of which there is only metadata, or that is not
        wanted.
    """
    if not any(item.unpack and want for item, want in zip(incoming, wanted, strict=True)):
        yield [None] * len(incoming)
        return
    with repository.workshop.room() as room:
        before = 0
        places: list[Path | None] = []
        try:
            for number, (item, want) in enumerate(zip(incoming, wanted, strict=True)):
                place = None
                if item.unpack is not None and want:
                    place = room / str(number)
                    durable.make_directory(place)
                    _unpack(item, place, onwards(before, progress))
                places.append(place)
                before += item.size
        except OSError as error:
            if isinstance(error, TweakioError):
                raise
            raise storage_error(error, "unpack what comes") from error
        yield places


def _unpack(item: Incoming, into: Path, progress: Callable[[int], None] | None) -> None:
    if item.unpack is None:
        return
    item.unpack(into, progress)
    if item.foreign and (removed := bundle.clean(ProfilePaths(into).browser_profile)):
        log.warning(
            "removed from the browser data of profile '%s', as it came from elsewhere: %s",
            item.metadata["profile_id"],
            bundle.told(removed),
        )


def build(
    change: Transaction,
    repository: Repository,
    item: Incoming,
    profile_id: str,
    built: Path | None,
) -> None:
    """Put one profile into a change, under an id that is free.

    Args:
        change: makes it.
        repository: where.
        item: what it is made of.
        profile_id: its id.
        built: what ``unpacked`` gave for it. If that is None although something comes with it,
            which happens if its id has become free meanwhile, it is unpacked now.
    """
    value = as_written({**inactive(item.metadata), "profile_id": profile_id})
    platform = str(value["platform"])
    fingerprint = item.fingerprint
    # A login keeps the fingerprint that it was made with; settings alone share none.
    if fingerprint is None or (not item.has_data and change.has_content(FINGERPRINT, fingerprint)):
        fingerprint = directories.new_fingerprint(change, platform, profile_id)
    files = {METADATA: schema.dump(schema.validate(value)), FINGERPRINT: fingerprint}
    if built is not None:
        staged = change.take_in(f"new-{profile_id}", built)
    else:
        staged = change.stage(f"new-{profile_id}")
        _unpack(item, staged, None)
    if item.unpack is not None:
        paths = ProfilePaths(staged)
        _forget_machine(paths)
        sealed = sealing.put_session(
            change, repository, profile_id, paths.session, created_at=str(value["created_at"])
        )
        if sealed is not None:
            # It arrives with the directory, as the others do: what is only written after the
            # commit point is missing for a while if an error comes between.
            files[SEALED] = sealed
    for name, content in files.items():
        change.put(profile_id, name, content)
    directories.complete_directory(staged, platform, files=files)
    change.move(staged, repository.layout.profile(profile_id).directory)


def _forget_machine(paths: ProfilePaths) -> None:
    """No browser of another machine runs here, whatever its record says."""
    found = record.read(paths)
    if found.running is not None:
        record.write(paths, found._replace(running=None))


@contextmanager
def reading(name: str) -> Iterator[None]:
    """What a hostile file makes of Python's parsers, as one error."""
    try:
        yield
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        if isinstance(error, (ArchiveError, NewerFormatError, InvalidInputError)):
            raise
        raise ArchiveError(f"{name} in it cannot be read", hint="get the file anew") from None


def checked_metadata(content: bytes, profile_id: str) -> dict[str, Any]:
    """A metadata.json that came in, validated.

    Raises:
        InvalidMetadataError, NewerFormatError, UnknownPlatformError: it cannot be used here.
    """
    value = schema.load(content, profile_id)
    find_platform(str(value["platform"]))
    return value


def checked_fingerprint(content: bytes) -> bytes:
    """A fingerprint.json that came in: a JSON object of no unlimited size."""
    with reading(FINGERPRINT):
        if len(content) > schema.MAX_BYTES or not isinstance(json.loads(content), dict):
            raise ValueError("no object")
    return content
