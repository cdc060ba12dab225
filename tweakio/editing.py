"""Creating, setting and deleting profiles, several at a time as one commit."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from tweakio import changes, directories, references, schema, settings, trust
from tweakio.cleartext import refuse_secrets
from tweakio.errors import (
    InvalidInputError,
    NewerFormatError,
    ProfileCorruptedError,
    ProfileExistsError,
    ProfileNotFoundError,
)
from tweakio.metadata import healthy
from tweakio.models import composed, format_time
from tweakio.platforms import find_platform
from tweakio.references import holds_sealed
from tweakio.store.worktree import FINGERPRINT, METADATA
from tweakio.vault import sealing

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    from tweakio.reading import Reader
    from tweakio.store.locks import ProfileLockManager
    from tweakio.store.repository import Repository
    from tweakio.store.transaction import Transaction
    from tweakio.validator import ProfileValidator

    Bind = Callable[[str, str, str, "Mapping[str, Any] | None"], "dict[str, Any] | None"]

__all__ = ["Editor", "new_profiles", "refuse_duplicates", "with_settings"]

log = logging.getLogger(__name__)


def refuse_duplicates(profile_ids: Sequence[str]) -> None:
    """Check that no id is given twice, in whatever case.

    Raises:
        InvalidInputError: one is.
    """
    seen = set()
    for profile_id in profile_ids:
        if profile_id.lower() in seen:
            raise InvalidInputError(f"'{profile_id}' is given twice", hint="name it once")
        seen.add(profile_id.lower())


def new_profiles(
    profile_ids: Sequence[str],
    platform: str,
    validator: ProfileValidator,
    moment: datetime,
    *,
    tags: Iterable[str],
    note: str,
    platform_version: str | None,
    platform_config: Mapping[str, Any] | None,
    browser: Mapping[str, Any] | None,
) -> list[dict[str, Any]]:
    """The metadata of new profiles; see ``ProfileManager.create_profile``.

    All that can be said about the arguments without a repository is checked.
    """
    for profile_id in profile_ids:
        validator.validate_id(profile_id)
    refuse_duplicates(profile_ids)
    validator.validate_platform(platform)
    now = format_time(moment)
    common = {
        "platform": platform,
        "platform_version": platform_version,
        "platform_config": dict(platform_config) if platform_config else None,
        "browser": with_settings(None, browser),
        "created_at": now,
        "last_used": now,
        "status": "inactive",
        "tags": sorted({validator.validate_tag(tag) for tag in tags}),
        "note": note,
        "schema_version": schema.SCHEMA_VERSION,
    }
    references.check_places(platform_config or {}, partial(secret_settings, platform))
    refuse_secrets(platform_config, note)
    values = [{"profile_id": profile_id, **common} for profile_id in profile_ids]
    for value in values[:1]:  # they differ by their ids only
        schema.validate(value)
    return values


def secret_settings(platform: str) -> Collection[str]:
    """The keys of ``platform_config`` that a platform declares to be secret."""
    found = find_platform(platform)
    return () if found is None else getattr(found.session_handler(), "secret_settings", ())


def _given(
    platform_config: Mapping[str, Any] | None, browser: Mapping[str, Any] | None
) -> list[str]:
    """The dotted keys of settings that a person gives."""
    config, browser = platform_config or {}, browser or {}
    return [*(f"platform_config.{key}" for key in config), *(f"browser.{key}" for key in browser)]


def with_settings(
    before: Mapping[str, Any] | None, wished: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """A profile's browser settings with changes.

    Args:
        before: as they are.
        wished: what to set; a value of None removes a setting.

    Raises:
        InvalidMetadataError: they would not fit.
    """
    if not wished:
        return dict(before) if before else None
    before = before or {}
    # A newer version may have settings that nobody can set here; they stay.
    newer = {
        key: item for key, item in before.items() if key not in settings.KEYS and key not in wished
    }
    merged = {
        key: item
        for key, item in {**before, **wished}.items()
        if item is not None and key not in newer
    }
    settings.check(merged)
    merged = settings.canonical(merged)
    ordered = {key: merged[key] for key in settings.KEYS if key in merged}
    if "window" in ordered:
        ordered["window"] = [*ordered["window"]]
    return {**ordered, **newer} or None


class Editor:
    """Changes what profiles there are and what their settings say.

    Args:
        repository: where.
        locks: tells which profiles are in use.
        validator: the rules about names and deletion.
        command: for the history.
        bind: encrypts the secrets in given settings for their profile and their place; see
            ``Vault.bind_given``.
    """

    def __init__(
        self,
        repository: Repository,
        locks: ProfileLockManager,
        validator: ProfileValidator,
        command: str,
        bind: Bind | None = None,
    ) -> None:
        self._bind = bind
        self._repository = repository
        self._locks = locks
        self._validator = validator
        self._command = command

    def _change(
        self, operation: str, profile_ids: Sequence[str]
    ) -> AbstractContextManager[Transaction]:
        return changes.begin(
            self._repository, self._locks, operation, profile_ids, command=self._command
        )

    def create(
        self,
        values: Sequence[Mapping[str, Any]],
        platform: str,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Create profiles, all or none.

        Args:
            values: their metadata, see ``new_profiles``.
            platform: the platform of all of them.
            progress: called with the number of profiles prepared so far.

        Raises:
            ProfileExistsError: an id is taken.
        """
        profile_ids = [str(value["profile_id"]) for value in values]
        values = [self._bound(value, value) for value in values]
        given = _given(values[0]["platform_config"], values[0]["browser"]) if values else []
        if given:
            trust.prepare(self._repository)
        with self._change("create", profile_ids) as change:
            _refuse_existing(change, profile_ids)
            for number, value in enumerate(values, 1):
                self._build(change, value)
                trust.give(self._repository, None, value, given)
                if progress is not None:
                    progress(number)
            change.summary = f"create {changes.name_some(profile_ids)} ({platform})"

    def _bound(self, value: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        """Given metadata, the secrets in it for this profile."""
        found = dict(given)
        if self._bind is None or not holds_sealed(given):
            return found
        for name in ("platform_config", "browser"):
            if given.get(name):
                profile_id, created_at = str(value["profile_id"]), str(value["created_at"])
                found[name] = self._bind(profile_id, created_at, name, given[name])
        return found

    def _build(self, change: Transaction, value: Mapping[str, Any]) -> None:
        profile_id, platform = value["profile_id"], value["platform"]
        files = {
            METADATA: schema.dump(value),
            FINGERPRINT: directories.new_fingerprint(change, platform, profile_id),
        }
        directories.build(change, self._repository, profile_id, platform, files)

    def update(
        self,
        profile_ids: Sequence[str],
        *,
        add_tags: Iterable[str],
        remove_tags: Iterable[str],
        note: str | None,
        platform_version: str | None,
        platform_config: Mapping[str, Any] | None,
        browser: Mapping[str, Any] | None,
    ) -> list[dict[str, Any]]:
        """Change settings; see ``ProfileManager.update_profiles``.

        Returns:
            The metadata of the profiles then.
        """
        added = {self._validator.validate_tag(tag) for tag in add_tags}
        removed = set(map(composed, remove_tags))
        values = []
        fields: dict[str, None] = {}
        refuse_secrets(platform_config, note)
        given = _given(platform_config, browser)
        if given:
            trust.prepare(self._repository)
        with self._change("set", profile_ids) as change:
            for profile_id in profile_ids:
                value = healthy(change, profile_id)
                before = dict(value)
                present = set(map(composed, value.get("tags") or ()))
                value["tags"] = sorted((present | added) - removed)
                if note is not None:
                    value["note"] = note
                if platform_version is not None:
                    value["platform_version"] = platform_version or None
                bound = self._bound(value, {"platform_config": platform_config, "browser": browser})
                config = dict(value.get("platform_config") or {})
                config |= bound["platform_config"] or {}
                config = {key: item for key, item in config.items() if item is not None}
                if platform_config:
                    platform = str(value["platform"])
                    references.check_places(config, partial(secret_settings, platform))
                value["platform_config"] = config or None
                value["browser"] = with_settings(value.get("browser"), bound["browser"])
                change.put_metadata(profile_id, value)
                trust.give(self._repository, before, value, given)
                values.append(value)
                fields |= dict.fromkeys(changes.changed_fields(before, value))
            names = changes.name_some(profile_ids)
            change.summary = f"set {names} ({changes.name_some(list(fields))})"
        return values

    def record_login(self, profile_id: str, moment: datetime) -> dict[str, Any]:
        """Commit that a profile was logged in; see ``ProfileManager.record_login``.

        Returns:
            Its metadata then.
        """
        with self._change("login", [profile_id]) as change:
            value = _used(change, profile_id, moment)
            sealing.put_session(change, self._repository, profile_id)
            change.record_always = True
            change.summary = f"log in {profile_id}"
        return value

    def reset_login(self, profile_id: str, moment: datetime) -> dict[str, Any]:
        """Commit that a profile was logged out, with a new session; the old one is in the trash.

        Returns:
            Its metadata then.
        """
        with self._change("logout", [profile_id]) as change:
            value = _used(change, profile_id, moment)
            self._locks.refuse_in_use(profile_id, own=True)
            directories.reset(change, self._repository, profile_id, str(value["platform"]))
            change.record_always = True
            change.summary = f"log out {profile_id}"
        return value

    def record_expiry(self, profile_ids: Sequence[str], moment: datetime) -> None:
        """Commit that logins have ended; profiles that are gone or damaged are left out."""
        with self._change("expire", profile_ids) as change:
            ended = []
            for profile_id in profile_ids:
                try:
                    _used(change, profile_id, moment)
                except (ProfileNotFoundError, ProfileCorruptedError, NewerFormatError) as error:
                    log.warning("%s; that its login has ended is not recorded", error)
                else:
                    ended.append(profile_id)
            change.record_always = bool(ended)
            change.summary = f"login of {changes.name_some(ended)} has ended"

    def delete(
        self, profile_ids: Sequence[str], reader: Reader, *, force: bool, purge: bool
    ) -> None:
        """Delete profiles, all or none; see ``ProfileManager.delete_profile``.

        Args:
            profile_ids: each given once.
            reader: tells what state they are in.
            force: also if they are active.
            purge: keep nothing in the trash.
        """
        with self._change("delete", profile_ids) as change:
            for profile_id in profile_ids:
                profile = reader.within(self._repository, change, profile_id)
                mine = profile_id in self._locks.held and not self._locks.has_browser(profile_id)
                if not (force and mine):
                    self._validator.can_delete(profile, force=force)
                directories.take_away(change, self._repository, profile_id, purge=purge)
            change.summary = f"delete {changes.name_some(profile_ids)}"


def _used(change: Transaction, profile_id: str, moment: datetime) -> dict[str, Any]:
    """Put into a change that a sound profile was used; its metadata then."""
    value = {**healthy(change, profile_id), "last_used": format_time(moment)}
    change.put_metadata(profile_id, value)
    return value


def _refuse_existing(change: Transaction, profile_ids: Sequence[str]) -> None:
    if not change.may_have(profile_ids):
        return
    existing = {name.lower(): name for name in change.profile_ids()}
    for profile_id in profile_ids:
        other = existing.get(profile_id.lower())
        if other is None:
            continue
        difference = "" if other == profile_id else f" and differs from '{profile_id}' by case"
        raise ProfileExistsError(
            f"profile '{other}' exists{difference}", hint="choose another id", profile_id=other
        )
