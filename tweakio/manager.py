"""ProfileManager: one method per use case, on top of everything else."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tweakio import changes, directories, schema
from tweakio.errors import (
    ConcurrentChangeError,
    HomeNotFoundError,
    InvalidInputError,
    NewerFormatError,
    NothingToRedoError,
    NothingToUndoError,
    ProfileActiveError,
    ProfileExistsError,
    ProfileNotFoundError,
    TrashEntryNotFoundError,
    TweakioError,
    storage_error,
)
from tweakio.layout import HOME_VARIABLE, Layout, default_home
from tweakio.metadata import ProfileMetadataHandler, corrupted_error, not_found_error
from tweakio.models import (
    Change,
    Profile,
    ProfileDiff,
    RecoveryMode,
    Status,
    TrashEntry,
    format_time,
    parse_time,
    utc_now,
)
from tweakio.registry import ProfileRegistry
from tweakio.store.initialise import is_initialised, open_repository
from tweakio.store.locks import ProfileLockManager
from tweakio.store.worktree import FINGERPRINT, METADATA, Found
from tweakio.validator import ProfileValidator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime, timedelta
    from types import TracebackType

    from tweakio.doctor import Report
    from tweakio.history import History
    from tweakio.store.repository import Repository
    from tweakio.store.transaction import Transaction
    from tweakio.undo import Undo

__all__ = ["ProfileManager"]

log = logging.getLogger(__name__)

_Profiles = list[Profile]
_Changes = list[Change]
_Entries = list[TrashEntry]


class ProfileManager:
    """Keeps the profiles of one home.

    Nothing is read or made before the first method needs it. Use it as a context manager,
    or call ``close``; a profile that it activated is released then, and also when the
    program ends. Threads may share one; a forked child makes its own.

    Args:
        home: the directory that holds everything; ``$TWEAKIO_HOME`` by default, else the
            platform's directory for user data.
        registry: the index in memory.
        validator: the rules about names and deletion.
        lock_manager: makes what knows which profiles are in use.
        metadata_handler: makes what reads and writes metadata.json.
        clock: the present moment, aware.
        command: what the history says ran; the method's name by default.
    """

    def __init__(
        self,
        home: str | os.PathLike[str] | None = None,
        *,
        registry: ProfileRegistry | None = None,
        validator: ProfileValidator | None = None,
        lock_manager: Callable[[Layout], ProfileLockManager] = ProfileLockManager,
        metadata_handler: Callable[[Repository], ProfileMetadataHandler] = ProfileMetadataHandler,
        clock: Callable[[], datetime] = utc_now,
        command: str | None = None,
    ) -> None:
        self._explicit = home is not None or bool(os.environ.get(HOME_VARIABLE))
        chosen = Path(home) if home is not None else default_home()
        try:
            self.layout = Layout(Path(os.path.abspath(chosen.expanduser())))
        except RuntimeError as error:  # "~name" of a user that does not exist
            raise InvalidInputError(
                f"the home directory {os.fspath(chosen)!r} cannot be found: {error}",
                hint="give the path in full",
            ) from None
        self.registry = registry if registry is not None else ProfileRegistry()
        self.validator = validator if validator is not None else ProfileValidator()
        self.locks = lock_manager(self.layout)
        self._metadata_handler = metadata_handler
        self._clock = clock
        self._command = command
        self._repository: Repository | None = None
        self._finalizer: Callable[[], None] | None = None
        # What this object holds and what it calls active change together.
        self._switching = threading.RLock()

    # The life of the object

    def __enter__(self) -> ProfileManager:  # noqa: PYI034 - Self came with Python 3.11
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Deactivate and release what this object holds, and close the repository."""
        with self._switching:
            try:
                for profile_id in sorted(self.locks.held):
                    self._deactivate(profile_id, "close")
            finally:
                self.locks.release_all()
                self.registry.set_active(None)
                if self._finalizer is not None:
                    atexit.unregister(self._finalizer)
                    self._finalizer = None
                self._close_repository()

    def _close_repository(self) -> None:
        repository, self._repository = self._repository, None
        if repository is not None:
            repository.close()

    @property
    def home(self) -> Path:
        """The home directory, absolute."""
        return self.layout.home

    @property
    def repository(self) -> Repository:
        """The repository, opened and made if it was missing.

        Raises:
            ForeignRepositoryError, HomeNotFoundError, RepositoryDamagedError: see there.
        """
        if self._repository is None:
            home = self.layout.home
            if self._explicit and not home.parent.is_dir():
                raise HomeNotFoundError(
                    f"{home.parent} does not exist", hint="make it first, or give another --home"
                )
            self._repository = open_repository(self.layout, create=True)
            assert self._repository is not None
            self._take_over_single_account()
        return self._repository

    @property
    def metadata(self) -> ProfileMetadataHandler:
        """What reads and writes metadata.json."""
        return self._metadata_handler(self.repository)

    def _existing(self) -> Repository | None:
        """The repository if there is one; reading makes nothing."""
        if self._repository is None:
            home = self.layout.home
            if not is_initialised(self.layout):
                if self._has_single_account():
                    return self.repository
                if self._explicit and not os.path.lexists(home):
                    raise HomeNotFoundError(
                        f"home {home} does not exist",
                        hint="give another --home, or create a profile to make it",
                    )
            self._repository = open_repository(self.layout, create=False)
            if self._repository is not None:
                self._take_over_single_account()
        return self._repository

    def _has_single_account(self) -> bool:
        return any(
            os.path.lexists(self.layout.home / name) for name in ("browser_profile", "session.json")
        )

    def _take_over_single_account(self) -> None:
        if self._has_single_account():
            from tweakio.migration import take_over_single_account

            assert self._repository is not None
            try:
                take_over_single_account(self._repository)
            except BaseException:
                # Or the next method would go on without it.
                repository, self._repository = self._repository, None
                repository.close()
                raise

    def _name(self, method: str) -> str:
        return self._command or f"ProfileManager.{method}"

    def _change(
        self, operation: str, ids: Iterable[str], method: str
    ) -> AbstractContextManager[Transaction]:
        command = self._name(method)
        return changes.begin(self.repository, self.locks, operation, list(ids), command=command)

    # Creating

    def create_profile(
        self,
        profile_id: str,
        platform: str,
        *,
        tags: Iterable[str] = (),
        note: str = "",
        platform_version: str | None = None,
        platform_config: Mapping[str, Any] | None = None,
    ) -> Profile:
        """Create a profile, complete or not at all.

        Args:
            profile_id: 1 to 32 letters, digits, ``_`` and ``-``.
            platform: a registered platform.
            tags: any number of short texts.
            note: free text of up to 4,096 characters.
            platform_version: free text of up to 64 characters.
            platform_config: JSON data; secrets as ``env:NAME`` or ``keyring:NAME`` only.

        Raises:
            InvalidProfileIdError, UnknownPlatformError, InvalidMetadataError: bad arguments.
            ProfileExistsError: the id is taken.
        """
        return self.create_profiles(
            [profile_id],
            platform,
            tags=tags,
            note=note,
            platform_version=platform_version,
            platform_config=platform_config,
        )[0]

    def create_profiles(
        self,
        profile_ids: Sequence[str],
        platform: str,
        *,
        tags: Iterable[str] = (),
        note: str = "",
        platform_version: str | None = None,
        platform_config: Mapping[str, Any] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> _Profiles:
        """Create several profiles as one commit; see ``create_profile``.

        Args:
            progress: called with the number of profiles prepared so far.
        """
        for profile_id in profile_ids:
            self.validator.validate_id(profile_id)
        _refuse_duplicates(profile_ids)
        self.validator.validate_platform(platform)
        now = format_time(self._clock())
        value = {
            "platform": platform,
            "platform_version": platform_version,
            "platform_config": dict(platform_config) if platform_config else None,
            "created_at": now,
            "last_used": now,
            "status": "inactive",
            "tags": sorted({self.validator.validate_tag(tag) for tag in tags}),
            "note": note,
            "schema_version": schema.SCHEMA_VERSION,
        }
        if profile_ids:
            schema.validate({"profile_id": profile_ids[0], **value})
        with self._change("create", profile_ids, "create_profile") as change:
            self._refuse_existing(change, profile_ids)
            for number, profile_id in enumerate(profile_ids, 1):
                files = {
                    METADATA: schema.dump({"profile_id": profile_id, **value}),
                    FINGERPRINT: directories.new_fingerprint(platform, profile_id),
                }
                directories.build(change, self.repository, profile_id, platform, files)
                if progress is not None:
                    progress(number)
            change.summary = f"create {_list(profile_ids)} ({platform})"
        return [
            self._now_or_then(profile_id, {"profile_id": profile_id, **value})
            for profile_id in profile_ids
        ]

    def _refuse_existing(self, change: Transaction, profile_ids: Sequence[str]) -> None:
        existing = {name.lower(): name for name in change.profile_ids()}
        for profile_id in profile_ids:
            other = existing.get(profile_id.lower())
            if other is None:
                continue
            difference = "" if other == profile_id else f" and differs from '{profile_id}' by case"
            raise ProfileExistsError(
                f"profile '{other}' exists{difference}",
                hint="choose another id",
                profile_id=other,
            )

    # Activating

    def activate_profile(self, profile_id: str, timeout: float = 30.0) -> Profile:
        """Select a profile and hold its lock, until it is deactivated or this object ends.

        What this object held before is deactivated in the same commit, and so is a selection
        that no live process holds. Profiles of other live processes stay theirs.

        Args:
            profile_id: an existing, healthy profile.
            timeout: seconds to wait for another process that holds it.

        Raises:
            ProfileNotFoundError, ProfileCorruptedError: it cannot be activated.
            LockTimeoutError: another process kept it.
        """
        with self._switching:
            if profile_id in self.locks.held and self.registry.get_active() == profile_id:
                return self.get_profile(profile_id)
            self._require(profile_id)
            self.locks.acquire(profile_id, timeout)
            try:
                value = self._activate(profile_id, os.getpid())
            except BaseException:
                self.locks.release(profile_id)
                raise
            self.registry.set_active(profile_id)
            self._close_at_exit()
            return self._now_or_then(profile_id, value)

    def select_profile(self, profile_id: str, timeout: float = 30.0) -> Profile:
        """Select a profile without holding it, as the command line does.

        Args:
            profile_id: an existing, healthy profile.
            timeout: seconds to wait for a process that holds it.

        Raises:
            As ``activate_profile``.
        """
        with self._switching:
            self._require(profile_id)
            if profile_id in self.locks.held:
                raise ProfileActiveError(
                    f"profile '{profile_id}' is active here", hint="deactivate it first"
                )
            with self.locks.acquire(profile_id, timeout):
                value = self._activate(profile_id, None)
            return self._now_or_then(profile_id, value)

    def _require(self, profile_id: str) -> None:
        """Fail early, before a lock is waited for, if there is no such profile."""
        self.validator.validate_id(profile_id)
        repository = self._existing()
        if repository is None or not repository.directory_id(repository.head().root, profile_id):
            raise not_found_error(profile_id)
        directory = self.layout.profile(profile_id).directory
        if not directory.is_dir():
            # Or it is being deleted: this waits for a change that is under way.
            self.metadata.examine(profile_id)
        if not os.path.lexists(directory):
            raise corrupted_error(profile_id, "its directory is missing")
        if directory.is_symlink() or not directory.is_dir():
            raise corrupted_error(profile_id, "its directory is not a directory")

    def _activate(self, profile_id: str, pid: int | None) -> dict[str, Any]:
        left: list[str] = []
        change: Transaction | None = None
        try:
            with self._change("activate", [profile_id], "activate_profile") as change:
                value, left = self._put_activation(change, profile_id, pid)
        finally:
            # Also if a Ctrl-C came just after the commit point.
            if change is not None and change.commit_id is not None:
                self._let_go(left)
        return value

    def _put_activation(
        self, change: Transaction, profile_id: str, pid: int | None
    ) -> tuple[dict[str, Any], list[str]]:
        """Put an activation into a change: the profile's metadata then, and whom it leaves."""
        # Again, now that nobody can change it.
        value = self._healthy(change, profile_id)
        if not self.locks.is_current(profile_id):
            raise ConcurrentChangeError(
                f"profile '{profile_id}' was deleted and made anew just now",
                hint="run the command again",
                profile_id=profile_id,
            )
        left = [other for other in change.head.active if other != profile_id]
        left = [other for other in left if self._is_ours_or_nobodys(change, other)]
        if value["status"] == "active" and value.get("lock_pid") == pid and not left:
            return value, []
        for other in left:
            changes.set_inactive(change, other)
        directories.complete(self.repository, profile_id, str(value["platform"]))
        now = format_time(self._clock())
        value = {**value, "lock_pid": pid, "status": "active", "last_used": now}
        change.put_metadata(profile_id, value)
        was = f" (was {_list(left)})" if left else ""
        change.summary = f"activate {profile_id}{was}"
        return value, left

    def _let_go(self, profile_ids: Iterable[str]) -> None:
        """Release what a change has deactivated, as far as it is held here."""
        for profile_id in profile_ids:
            self.locks.release(profile_id)
            if self.registry.get_active() == profile_id:
                self.registry.set_active(None)

    def _healthy(self, change: Transaction, profile_id: str) -> dict[str, Any]:
        found = self.repository.work_tree.examine(change.head, profile_id)
        if found is None:
            raise not_found_error(profile_id)
        if found.state == "newer":
            raise NewerFormatError(
                f"profile '{profile_id}': {found.problem}", hint="upgrade tweakio"
            )
        if found.state == "damaged" or (found.metadata or {}).get("status") == "corrupted":
            raise corrupted_error(profile_id, found.problem)
        return change.metadata(profile_id)

    def _is_ours_or_nobodys(self, change: Transaction, profile_id: str) -> bool:
        if not change.exists(profile_id):
            return False
        found = self.repository.work_tree.examine(change.head, profile_id)
        if found is None or found.state not in ("clean", "edited"):
            return False  # damaged: left to a recovery, its bytes stay
        return profile_id in self.locks.held or not self.locks.is_locked(profile_id)

    def deactivate_profile(self) -> Profile | None:
        """Deactivate what this object activated, else what is selected and not in use.

        Returns:
            The profile that was deactivated; None if none was active.
        """
        if self._existing() is None:
            return None
        with self._switching:
            held = sorted(self.locks.held)
            if not held:
                self.list_profiles()
                active = self.registry.get_active()
                held = [active] if active is not None else []
            values = [self._deactivate(name, "deactivate_profile") for name in held]
            return self._now_or_then(held[0], values[0]) if values and values[0] else None

    def _deactivate(self, profile_id: str, method: str) -> dict[str, Any] | None:
        """Make it inactive, and let go of it; its metadata then, None if it was not active."""
        value = None
        try:
            with self._change("deactivate", [profile_id], method) as change:
                found = self.repository.work_tree.examine(change.head, profile_id)
                if (
                    found is not None
                    and found.metadata is not None
                    and (found.metadata["status"] == "active")
                    # What was only selected may have got a holder meanwhile.
                    and (profile_id in self.locks.held or not self.locks.is_locked(profile_id))
                ):
                    changes.set_inactive(change, profile_id)
                    change.summary = f"deactivate {profile_id}"
                    value = change.metadata(profile_id)
        finally:
            self.locks.release(profile_id)
            self.registry.set_active(None)
        return value

    def _close_at_exit(self) -> None:
        if self._finalizer is not None:
            return
        reference = weakref.ref(self)
        owner = os.getpid()

        def close() -> None:
            manager = reference()
            if manager is not None and os.getpid() == owner:
                try:
                    manager.close()
                except TweakioError as error:
                    log.warning("the active profile could not be deactivated: %s", error)

        self._finalizer = close
        atexit.register(close)

    # Deleting

    def delete_profile(
        self,
        profile_id: str,
        force: bool = False,  # noqa: FBT001, FBT002 - the specification's signature
        *,
        purge: bool = False,
    ) -> None:
        """Delete a profile; ``undo`` brings it back with its browser data.

        Args:
            profile_id: an existing profile that no other live process uses.
            force: also if it is active.
            purge: keep nothing in the trash.

        Raises:
            ProfileNotFoundError: there is none.
            ProfileActiveError: it is active and ``force`` was not given, or in use.
        """
        self.delete_profiles([profile_id], force=force, purge=purge)

    def delete_profiles(
        self, profile_ids: Sequence[str], *, force: bool = False, purge: bool = False
    ) -> None:
        """Delete several profiles as one commit, or none; see ``delete_profile``."""
        for profile_id in profile_ids:
            self.validator.validate_id(profile_id)
        _refuse_duplicates(profile_ids)
        if self._existing() is None and profile_ids:
            raise not_found_error(profile_ids[0])
        with self._switching:
            with self._change("delete", profile_ids, "delete_profile") as change:
                for profile_id in profile_ids:
                    profile = self._profile(change.head.root, profile_id)
                    if profile is None:
                        raise not_found_error(profile_id)
                    if not (force and profile_id in self.locks.held):
                        self.validator.can_delete(profile, force=force)
                    directories.take_away(change, self.repository, profile_id, purge=purge)
                change.summary = f"delete {_list(profile_ids)}"
            for profile_id in profile_ids:
                self.locks.release(profile_id)
                self.registry.unregister(profile_id)

    # Reading

    def list_profiles(
        self,
        *,
        status: Status | None = None,
        platform: str | None = None,
        tags: Iterable[str] = (),
    ) -> _Profiles:
        """The profiles, in alphabetical order; the damaged ones are among them.

        Args:
            status: only those that are ``active``, ``inactive`` or ``corrupted``.
            platform: only this platform's.
            tags: only those that have all of these.
        """
        repository = self._existing()
        if repository is None:
            return []
        profiles = self._read_all(repository)
        self.registry.refresh(profiles)
        wanted = set(tags)
        return [
            profile
            for profile in profiles
            if (status is None or profile.status == status)
            and (platform is None or profile.platform == platform)
            and wanted.issubset(profile.tags)
        ]

    def _read_all(self, repository: Repository) -> _Profiles:
        for attempt in range(3):
            head = repository.head()
            found = repository.work_tree.examine_all(head)
            odd = any(item.state in ("damaged", "edited") for item in found)
            # What looks odd while another program is at work is looked at again after.
            if odd and attempt < 2 and repository.is_busy(head):
                repository.wait_for_others()
                continue
            break
        return [self._assemble(item) for item in sorted(found, key=lambda item: item.profile_id)]

    def get_profile(self, profile_id: str) -> Profile:
        """One profile, damaged or not.

        Raises:
            ProfileNotFoundError: there is none.
        """
        self.validator.validate_id(profile_id)
        if self._existing() is None:
            raise not_found_error(profile_id)
        profile = self._assemble(self.metadata.examine(profile_id))
        self.registry.update(profile)
        return profile

    def _now_or_then(self, profile_id: str, value: Mapping[str, Any]) -> Profile:
        """A profile after a change; as the change left it if it cannot be read any more.

        Another program may have deleted it since; the change has taken place all the same.
        """
        try:
            return self.get_profile(profile_id)
        except (TweakioError, OSError) as error:
            log.debug("profile %s cannot be read after its change: %s", profile_id, error)
            return self._assemble(Found(profile_id, "clean", dict(value)))

    def _profile(self, root: bytes, profile_id: str) -> Profile | None:
        """A profile inside a transaction, where nobody else changes anything."""
        head = self.repository.head()
        found = self.repository.work_tree.examine(head, profile_id) if root == head.root else None
        return self._assemble(found) if found is not None else None

    def _assemble(self, found: Found) -> Profile:
        profile_id = found.profile_id
        path = self.layout.profile(profile_id).directory
        in_use = self.locks.is_locked(profile_id)
        owner = self.locks.owner(profile_id) if in_use else None
        value = found.metadata
        if value is None:
            return Profile(
                profile_id, "", "corrupted", None, None, path,
                in_use=in_use, lock_pid=owner.pid if owner else None, problem=found.problem,
            )  # fmt: skip
        status: Status = value["status"]
        if status == "active" and value.get("lock_pid") is not None and not in_use:
            status = "inactive"  # its holder died; the next change writes it down
        last_used = value.get("last_used") or value["created_at"]
        return Profile(
            id=profile_id,
            platform=value["platform"],
            status=status,
            created_at=parse_time(value["created_at"]),
            last_used=parse_time(last_used),
            path=path,
            tags=tuple(sorted(value.get("tags") or ())),
            note=value.get("note") or "",
            platform_version=value.get("platform_version"),
            platform_config=value.get("platform_config") or {},
            lock_pid=owner.pid if owner else None,
            in_use=in_use,
            problem="marked as corrupted" if status == "corrupted" else None,
        )

    # Changing

    def update_profiles(
        self,
        profile_ids: Sequence[str],
        *,
        add_tags: Iterable[str] = (),
        remove_tags: Iterable[str] = (),
        note: str | None = None,
        platform_version: str | None = None,
        platform_config: Mapping[str, Any] | None = None,
    ) -> _Profiles:
        """Change settings of profiles as one commit.

        Args:
            profile_ids: existing profiles.
            add_tags: tags to add.
            remove_tags: tags to take away.
            note: the new note; empty removes it.
            platform_version: the new version; empty removes it.
            platform_config: keys to set; a value of None removes the key.

        Raises:
            ProfileNotFoundError, ProfileCorruptedError, InvalidMetadataError: nothing is
                changed then.
        """
        for profile_id in profile_ids:
            self.validator.validate_id(profile_id)
        added = {self.validator.validate_tag(tag) for tag in add_tags}
        removed = set(remove_tags)
        if self._existing() is None and profile_ids:
            raise not_found_error(profile_ids[0])
        values: dict[str, dict[str, Any]] = {}
        with self._change("set", profile_ids, "update_profiles") as change:
            for profile_id in profile_ids:
                value = self._healthy(change, profile_id)
                value["tags"] = sorted(({*(value.get("tags") or ())} | added) - removed)
                if note is not None:
                    value["note"] = note
                if platform_version is not None:
                    value["platform_version"] = platform_version or None
                config = dict(value.get("platform_config") or {})
                config.update(platform_config or {})
                config = {key: item for key, item in config.items() if item is not None}
                value["platform_config"] = config or None
                values[profile_id] = value
                change.put_metadata(profile_id, values[profile_id])
            change.summary = f"set {_list(profile_ids)}"
        return [self._now_or_then(profile_id, values[profile_id]) for profile_id in profile_ids]

    # Recovering

    def recover_profile(self, profile_id: str, mode: RecoveryMode = "soft") -> Profile:
        """Mend a damaged profile.

        Args:
            profile_id: which.
            mode: ``soft`` restores metadata.json and fingerprint.json from history, or from
                the directory if history has none. ``hard`` starts session.json and
                browser_profile/ anew besides; the old ones go to the trash.

        Raises:
            ProfileNotFoundError: history knows no such profile.
            ProfileActiveError: ``hard``, and a live process uses it.
        """
        return self.recover_profiles([profile_id], mode)[0]

    def recover_profiles(
        self, profile_ids: Sequence[str], mode: RecoveryMode = "soft"
    ) -> _Profiles:
        """Mend several profiles as one commit; see ``recover_profile``."""
        from tweakio.recovery import Recovery

        if mode not in ("soft", "hard"):
            raise InvalidInputError(f"unknown mode {mode!r}", hint="use 'soft' or 'hard'")
        for profile_id in profile_ids:
            self.validator.validate_id(profile_id)
        repository = self._existing()
        if repository is None:
            if not profile_ids:
                return []
            raise not_found_error(profile_ids[0])
        values = Recovery(repository, self.locks).recover(
            profile_ids, mode, command=self._name("recover_profile")
        )
        return [self._now_or_then(profile_id, values[profile_id]) for profile_id in profile_ids]

    # History

    def _history(self) -> History:
        from tweakio.history import History

        return History(self.repository)

    def _undo(self) -> Undo:
        from tweakio.undo import Undo

        return Undo(self.repository, self.locks)

    def undo(self) -> Change:
        """Take back the last change as a new commit, with the browser data it moved.

        Returns:
            The change that was undone.

        Raises:
            NothingToUndoError: there is none.
            ProfileActiveError: a live process uses a profile that would go.
        """
        if self._existing() is None:
            raise NothingToUndoError("there is nothing to undo", hint="there is no history yet")
        change = self._undo().undo(command=self._name("undo"))
        self._release_lost()
        return change

    def redo(self) -> Change:
        """Do again what the last undo took back.

        Raises:
            NothingToRedoError: nothing was undone since the last change.
        """
        if self._existing() is None:
            raise NothingToRedoError("there is nothing to redo", hint="there is no history yet")
        change = self._undo().redo(command=self._name("redo"))
        self._release_lost()
        return change

    def _release_lost(self) -> None:
        """Let go of profiles that an undo or a redo deactivated or removed."""
        with self._switching:
            for profile_id in self.locks.held:
                try:
                    lost = self.get_profile(profile_id).status != "active"
                except ProfileNotFoundError:
                    self.registry.unregister(profile_id)
                    lost = True
                except (TweakioError, OSError) as error:
                    # The change has taken place; what is held stays held until it is known.
                    log.warning("profile %s cannot be read: %s", profile_id, error)
                    continue
                if lost:
                    self.locks.release(profile_id)
                    self.registry.set_active(None)

    def history(self, profile_id: str | None = None, limit: int | None = None) -> _Changes:
        """The changes, newest first.

        Args:
            profile_id: only those of this profile, which need not exist any more.
            limit: at most so many.
        """
        if profile_id is not None:
            self.validator.validate_id(profile_id)
        if self._existing() is None:
            return []
        found: _Changes = []
        for change in self._history().changes(profile_id):
            if limit is not None and len(found) >= limit:
                break
            found.append(change)
        return found

    def show(self, revision: str) -> tuple[Change, list[ProfileDiff]]:
        """One change and what it did to each profile, field by field.

        Raises:
            RevisionNotFoundError: there is no such revision.
        """
        self._require_history(revision)
        return self._history().show(revision)

    def diff(self, profile_id: str, revision: str | None = None) -> ProfileDiff | None:
        """How a profile differs from a revision, or its work tree from HEAD.

        Returns:
            None if nothing differs.
        """
        self.validator.validate_id(profile_id)
        if self._existing() is None:
            raise not_found_error(profile_id)
        return self._history().diff(profile_id, revision)

    def restore(self, profile_id: str, to: str) -> Profile:
        """Bring a profile to what it was at a revision, as a new commit.

        Args:
            profile_id: an existing profile or one that was deleted.
            to: a revision, such as a commit id or ``HEAD~3``.

        Raises:
            RevisionNotFoundError: no such revision, or the profile was not in it.
        """
        self.validator.validate_id(profile_id)
        self._require_history(to)
        from tweakio.restore import restore

        value = restore(self.repository, self.locks, profile_id, to, command=self._name("restore"))
        return self._now_or_then(profile_id, value)

    def _require_history(self, revision: str) -> None:
        if self._existing() is None:
            from tweakio.errors import RevisionNotFoundError

            raise RevisionNotFoundError(
                f"no revision {revision[:80]!r}", hint="there is no history yet", revision=revision
            )

    # Trash

    def trash(self, profile_id: str | None = None) -> _Entries:
        """What the trash keeps, newest first, with sizes; the rescued are among it."""
        repository = self._existing()
        if repository is None:
            return []
        entries = [
            entry
            for attic in (repository.trash, repository.rescued)
            for entry in attic.entries(profile_id, sizes=True)
        ]
        return sorted(entries, key=lambda entry: (entry.time, entry.name), reverse=True)

    def restore_from_trash(self, name: str) -> Profile:
        """Bring back what a trash entry keeps, as a new commit.

        A deleted or unknown profile becomes a profile again; session and browser data of a
        hard recovery take the place of the present ones, which go to the trash.

        Args:
            name: of the entry.

        Raises:
            TrashEntryNotFoundError: there is no such entry.
            ProfileExistsError: the id is taken by now.
            ProfileCorruptedError: the entry holds damaged bytes only.
        """
        from tweakio.trash import restore_entry

        repository = self._existing()
        if repository is None:
            raise TrashEntryNotFoundError(
                f"no trash entry {name[:80]!r}", hint="there is no trash yet"
            )
        value = restore_entry(repository, self.locks, name, self._name("restore_from_trash"))
        return self._now_or_then(value["profile_id"], value)

    def purge_trash(
        self, name: str | None = None, *, older_than: timedelta | None = None
    ) -> _Entries:
        """Remove trash entries for good.

        Args:
            name: this entry.
            older_than: all that are older; neither means all.

        Returns:
            What was removed.
        """
        from tweakio.trash import purge

        repository = self._existing()
        return [] if repository is None else purge(repository, name, older_than)

    # The repository

    def doctor(self, *, fix: bool = False, progress: Callable[[int], None] | None = None) -> Report:
        """Say what is wrong with the repository, and mend what can be mended.

        Args:
            fix: mend it; else nothing is changed.
            progress: called with the number of commits read so far.
        """
        self._close_repository()
        from tweakio.doctor import examine

        return examine(self.layout, fix=fix, command=self._name("doctor"), progress=progress)

    def gc(self) -> tuple[int, int]:
        """Pack loose objects and empty the trash of what is older than 30 days.

        Returns:
            The number of objects packed and of trash entries removed.
        """
        from tweakio.store import maintenance

        repository = self._existing()
        if repository is None:
            return 0, 0
        with repository.exclusive():
            try:
                return maintenance.pack(repository), maintenance.expire_trash(repository)
            except OSError as error:
                raise storage_error(error, "pack the history") from error

    def migrate(self) -> Profile | None:
        """Take over the single account of tweakio-sdk 0.1.5 as the profile ``default``.

        Returns:
            The profile; None if there was nothing to take over.

        Raises:
            MigrationError: the account could not be taken over; it is as it was.
        """
        from tweakio.migration import migrate_sdk, sdk_places

        if not is_initialised(self.layout) and not sdk_places().exists():
            return None
        found = migrate_sdk(self.repository, command=self._name("migrate"))
        return self.get_profile(found) if found else None

    def ensure_default(self, platform: str) -> Profile:
        """The profile ``default``, migrated from tweakio-sdk or created when it is missing.

        Args:
            platform: of the new profile.
        """
        self.validator.validate_platform(platform)
        repository = self.repository
        if repository.directory_id(repository.head().root, "default") is None:
            if platform == "whatsapp" and (profile := self.migrate()) is not None:
                return profile
            return self.create_profile("default", platform)
        return self.get_profile("default")

    # The specification's short names

    create = create_profile
    activate = activate_profile
    deactivate = deactivate_profile
    delete = delete_profile
    list = list_profiles
    recover = recover_profile


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _refuse_duplicates(profile_ids: Sequence[str]) -> None:
    seen = set()
    for profile_id in profile_ids:
        if profile_id.lower() in seen:
            raise InvalidInputError(f"'{profile_id}' is given twice", hint="name it once")
        seen.add(profile_id.lower())
