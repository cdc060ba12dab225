"""ProfileManager: one method per use case, on top of everything else."""

from __future__ import annotations

import logging
import os
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

from tweakio.activation import Activation, AtExit
from tweakio.errors import (
    BrowserLockedError,
    InvalidInputError,
    LeaseLostError,
    NothingToRedoError,
    NothingToUndoError,
    ProfileActiveError,
    RevisionNotFoundError,
    TrashEntryNotFoundError,
    in_the_tree,
    storage_error,
)
from tweakio.metadata import ProfileMetadataHandler, not_found_error
from tweakio.models import Change, Profile, ProfileDiff, RecoveryMode, Status, TrashEntry, utc_now
from tweakio.opening import Opening
from tweakio.reading import Reader
from tweakio.registry import ProfileRegistry
from tweakio.store.initialise import is_initialised
from tweakio.store.locks import HeldLock, ProfileLockManager
from tweakio.validator import ProfileValidator

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from datetime import datetime, timedelta
    from pathlib import Path
    from types import TracebackType

    from tweakio.archive.archives import Archives
    from tweakio.browser.state import BrowserStatus
    from tweakio.disk import DiskUsage
    from tweakio.doctor import Report
    from tweakio.editing import Editor
    from tweakio.history import History
    from tweakio.layout import Layout
    from tweakio.lease.holder import LeaseHolder
    from tweakio.lease.leases import Leases
    from tweakio.snapshots.snapshots import Snapshots
    from tweakio.store.repository import Repository
    from tweakio.sync.remotes import Remotes
    from tweakio.trust import Doubt
    from tweakio.undo import Undo
    from tweakio.vault.vault import Vault

__all__ = ["ProfileManager"]

log = logging.getLogger(__name__)

_Profiles = list[Profile]
_Changes = list[Change]
_Entries = list[TrashEntry]


def _lease_holder(layout: Layout) -> LeaseHolder:
    from tweakio.lease.holder import LeaseHolder

    return LeaseHolder(layout)


@in_the_tree
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
        metadata_handler: Callable[
            [Repository, ProfileLockManager], ProfileMetadataHandler
        ] = ProfileMetadataHandler,
        clock: Callable[[], datetime] = utc_now,
        command: str | None = None,
    ) -> None:
        self._opening = Opening(home)
        self.layout = self._opening.layout
        self.registry = registry if registry is not None else ProfileRegistry()
        self.validator = validator if validator is not None else ProfileValidator()
        self.locks = lock_manager(self.layout)
        self.locks.make_guard = _lease_holder
        self._opening.locks = self.locks
        self._metadata_handler = metadata_handler
        self._clock = clock
        self._command = command
        self._activation = Activation(self.locks, self.registry, clock)
        self._reader = Reader(self.layout, self.locks, self.registry, metadata_handler)
        self._at_exit = AtExit()
        self._vault: Vault | None = None

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
        with self._activation.switching:
            try:
                for profile_id in sorted(self.locks.held):
                    try:
                        self._deactivate(profile_id, "close")
                    except LeaseLostError as error:
                        # Somebody else has it; what is released now is only our lock.
                        log.warning("%s", error)
            finally:
                self._activation.release_all()
                self._at_exit.call_off()
                self._opening.close()

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
        return self._opening.repository

    @property
    def metadata(self) -> ProfileMetadataHandler:
        """What reads and writes metadata.json."""
        return self._metadata_handler(self.repository, self.locks)

    @property
    def vault(self) -> Vault:
        """Sessions in history, sealed; see ``Vault``."""
        if self._vault is None:
            from tweakio.vault.vault import Vault

            self._vault = Vault(
                self.layout,
                self._opening.existing,
                lambda: self.repository,
                self.locks,
                self._name,
            )
        return self._vault

    def _name(self, method: str) -> str:
        return self._command or f"ProfileManager.{method}"

    def _check_ids(self, profile_ids: Sequence[str]) -> None:
        """Fail early if there cannot be profiles of these ids."""
        for profile_id in profile_ids:
            self.validator.validate_id(profile_id)
        if profile_ids:
            self._opening.need(not_found_error(profile_ids[0]))

    def _editor(self, method: str) -> Editor:
        from tweakio.editing import Editor

        return Editor(
            self.repository,
            self.locks,
            self.validator,
            self._name(method),
            lambda *given: self.vault.bind_given(*given),
        )

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
        browser: Mapping[str, Any] | None = None,
    ) -> Profile:
        """Create a profile, complete or not at all.

        Args:
            profile_id: 1 to 32 letters, digits, ``_`` and ``-``.
            platform: a registered platform.
            tags: any number of short texts.
            note: free text of up to 4,096 characters.
            platform_version: free text of up to 64 characters.
            platform_config: JSON data; secrets as ``env:NAME`` or ``keyring:NAME`` only.
            browser: settings of its browser; see ``update_profiles``.

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
            browser=browser,
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
        browser: Mapping[str, Any] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> _Profiles:
        """Create several profiles as one commit; see ``create_profile``.

        Args:
            progress: called with the number of profiles prepared so far.
        """
        from tweakio.editing import new_profiles

        values = new_profiles(
            profile_ids,
            platform,
            self.validator,
            self._clock(),
            tags=tags,
            note=note,
            platform_version=platform_version,
            platform_config=platform_config,
            browser=browser,
        )
        self._editor("create_profile").create(values, platform, progress)
        return self._after(profile_ids, values)

    def clone_profile(
        self,
        profile_id: str,
        new_id: str,
        *,
        with_session: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> Profile:
        """Create a profile with the settings of another one, and a fingerprint of its own.

        Args:
            profile_id: an existing, healthy profile.
            new_id: as for ``create_profile``.
            with_session: copy session.json and browser_profile/ too, without caches. Two
                clients on one login can end it: a service may log out both.
            progress: called with the bytes of browser data that were copied so far.

        Raises:
            ProfileNotFoundError, ProfileCorruptedError: it cannot be cloned.
            ProfileExistsError, InvalidProfileIdError: the new id cannot be used.
            ProfileActiveError, BrowserLockedError: ``with_session``, and it is in use.

        Secrets that are encrypted in its settings are encrypted again, for the copy; a warning
        names those that cannot be decrypted here and are left out.
        """
        from tweakio.archive.cloning import clone

        self._require(profile_id)
        value = clone(
            self.repository,
            self.locks,
            self.validator,
            self._stopped,
            self._name("clone_profile"),
            profile_id,
            new_id,
            self._clock(),
            lambda *copied: self.vault.moved(*copied),
            with_session=with_session,
            progress=progress,
        )
        return self._reader.committed(new_id, value)

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
            LeaseError: another machine has its lease, where leases are used.
        """
        with self._activation.switching:
            if self._activation.is_mine(profile_id):
                return self.get_profile(profile_id)
            self._require(profile_id)
            self._end_orphans([profile_id])
            with self._activation.taking(profile_id, lambda: self._hold(profile_id, timeout)):
                # Not before: who holds it may be about to save a newer one.
                if os.path.lexists(self.layout.profile(profile_id).sealed):
                    self.vault.restore_if_missing(profile_id)
                value = self._activate(profile_id, os.getpid())
            self._at_exit.register(self)
            return self._reader.committed(profile_id, value)

    def select_profile(self, profile_id: str, timeout: float = 30.0) -> Profile:
        """Select a profile without holding it, as the command line does.

        Args:
            profile_id: an existing, healthy profile.
            timeout: seconds to wait for a process that holds it.

        Raises:
            As ``activate_profile``.
        """
        with self._activation.switching:
            self._require(profile_id)
            if profile_id in self.locks.held:
                raise ProfileActiveError(
                    f"profile '{profile_id}' is active here", hint="deactivate it first"
                )
            self._end_orphans([profile_id])
            with self._hold(profile_id, timeout):
                value = self._activate(profile_id, None)
            return self._reader.committed(profile_id, value)

    def _require(self, profile_id: str) -> None:
        self._check_ids([profile_id])
        self._reader.require(self.repository, profile_id)

    def _hold(self, profile_id: str, timeout: float) -> HeldLock:
        return self._reader.hold(self.repository, profile_id, timeout)

    def _activate(self, profile_id: str, pid: int | None) -> dict[str, Any]:
        command = self._name("activate_profile")
        return self._activation.switch(self.repository, profile_id, pid, command)

    def deactivate_profile(self) -> Profile | None:
        """Deactivate what this object activated, else what is selected and not in use.

        Returns:
            The profile that was deactivated; None if none was active.
        """
        if self._opening.existing() is None:
            return None
        with self._activation.switching:
            names = sorted(self.locks.held) or self._selected()
            values = [self._deactivate(name, "deactivate_profile") for name in names]
            return self._reader.committed(names[0], values[0]) if values and values[0] else None

    def _selected(self) -> list[str]:
        self.list_profiles()
        active = self.registry.get_active()
        return [] if active is None else [active]

    def _deactivate(self, profile_id: str, method: str) -> dict[str, Any] | None:
        return self._activation.deactivate(self.repository, profile_id, self._name(method))

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
        from tweakio.editing import refuse_duplicates

        self._check_ids(profile_ids)
        refuse_duplicates(profile_ids)
        self._end_orphans(profile_ids)
        with self._activation.switching:
            editor = self._editor("delete_profile")
            editor.delete(profile_ids, self._reader, force=force, purge=purge)
            self._activation.forget(profile_ids)

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
        repository = self._opening.existing()
        if repository is None:
            return []
        return self._reader.all(repository, status=status, platform=platform, tags=tags)

    def get_profile(self, profile_id: str) -> Profile:
        """One profile, damaged or not.

        Raises:
            ProfileNotFoundError: there is none.
        """
        self._check_ids([profile_id])
        return self._reader.one(self.repository, profile_id)

    def browser_status(self, profile_id: str) -> BrowserStatus:
        """What a profile's browser does now, how it ended last, and whether it is logged in.

        Looking changes nothing, and opens no browser.

        Raises:
            ProfileNotFoundError: there is none.
        """
        from tweakio.browser.state import browser_status

        return browser_status(self.layout, self.get_profile(profile_id).id)

    def lost_data(self, profiles: Iterable[Profile]) -> list[str]:
        """The ids of those that had browser data here that git or another program removed."""
        from tweakio import seen

        return seen.lost(self.layout, ((item.id, item.created_at) for item in profiles))

    def back_from_loss(self, profile_id: str) -> str:
        """What brings the browser data of a profile back that were removed, as a hint."""
        from tweakio.losing import way_back

        return way_back(self.get_profile(profile_id), self.snapshots, self.trash(profile_id))

    def _end_orphans(self, profile_ids: Sequence[str]) -> None:
        """End the browsers that hold profiles for programs that are dead."""
        for profile_id in profile_ids:
            owner = self.locks.owner(profile_id)
            if owner is None:
                continue
            from tweakio.store.processes import is_alive

            if is_alive(owner) is False:
                from tweakio.browser.orphans import end_orphans
                from tweakio.browser.pausing import blocking

                blocking(end_orphans(self.layout.profile(profile_id), profile_id))

    def _after(self, profile_ids: Sequence[str], values: Sequence[Mapping[str, Any]]) -> _Profiles:
        """Profiles as a change left them, whatever another program has done to them since."""
        return [
            self._reader.committed(profile_id, value)
            for profile_id, value in zip(profile_ids, values, strict=True)
        ]

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
        browser: Mapping[str, Any] | None = None,
    ) -> _Profiles:
        """Change settings of profiles as one commit.

        Args:
            profile_ids: existing profiles.
            add_tags: tags to add.
            remove_tags: tags to take away.
            note: the new note; empty removes it.
            platform_version: the new version; empty removes it.
            platform_config: keys to set; a value of None removes the key.
            browser: settings of the browser to set; a value of None removes one. There are
                ``locale`` (such as ``de-DE``), ``timezone`` (an IANA name), ``window`` (width
                and height in pixels), ``color_scheme`` (``light`` or ``dark``), ``proxy``
                (``http://user@host:8080`` or ``socks5://host:1080``, without a password) and
                ``proxy_password`` (``env:NAME``, ``keyring:NAME`` or sealed).

        Raises:
            ProfileNotFoundError, ProfileCorruptedError, InvalidMetadataError: nothing is
                changed then.
        """
        self._check_ids(profile_ids)
        values = self._editor("update_profiles").update(
            profile_ids,
            add_tags=add_tags,
            remove_tags=remove_tags,
            note=note,
            platform_version=platform_version,
            platform_config=platform_config,
            browser=browser,
        )
        return self._after(profile_ids, values)

    # What came from elsewhere

    def untrusted(self, profile_ids: Sequence[str] | None = None) -> Sequence[Doubt]:
        """The settings that came from elsewhere and were not confirmed on this machine.

        Nothing uses them before ``trust`` confirms them: addresses, selectors, references.

        Args:
            profile_ids: which profiles to look at; all by default.

        Raises:
            ProfileNotFoundError: there is no such profile.
        """
        from tweakio import trust

        profiles = (
            self.list_profiles()
            if profile_ids is None
            else [self.get_profile(profile_id) for profile_id in profile_ids]
        )
        repository = self._opening.existing()
        if repository is None:
            return []
        return [doubt for profile in profiles for doubt in trust.untrusted(repository, profile)]

    def trust(self, profile_ids: Sequence[str]) -> Sequence[Doubt]:
        """Confirm on this machine all settings of profiles, as they are now.

        It is noted beside the history and never travels.

        Args:
            profile_ids: existing, healthy profiles.

        Returns:
            What was not confirmed before.

        Raises:
            ProfileNotFoundError, ProfileCorruptedError: one cannot be confirmed; none is then.
        """
        from tweakio import trust

        self._check_ids(profile_ids)
        values = [self.metadata.load(profile_id) for profile_id in profile_ids]
        return [doubt for value in values for doubt in trust.confirm(self.repository, value)]

    # Logins: what the history knows of them

    def record_login(self, profile_id: str) -> Profile:
        """Record as a commit that a profile was logged in; ``tweakio.login.log_in`` does it.

        No session data is touched, now or when it is undone.

        Raises:
            ProfileNotFoundError, ProfileCorruptedError: it cannot be recorded.
        """
        self._check_ids([profile_id])
        value = self._editor("record_login").record_login(profile_id, self._clock())
        return self._reader.committed(profile_id, value)

    def reset_login(self, profile_id: str) -> Profile:
        """Start session.json and browser_profile/ anew; the old ones go to the trash.

        As a hard recovery, but of a sound profile; the service is not told. ``undo`` brings
        them back. ``tweakio.login.log_out`` tells the service before.

        Raises:
            ProfileNotFoundError, ProfileCorruptedError: it cannot be done.
            ProfileActiveError: a live process uses it.
        """
        self._check_ids([profile_id])
        value = self._editor("reset_login").reset_login(profile_id, self._clock())
        return self._reader.committed(profile_id, value)

    def record_expiry(self, profile_ids: Sequence[str]) -> None:
        """Record as one commit that logins have ended; ``tweakio.login.check_profiles`` does it.

        Profiles that are gone by now or damaged are left out.
        """
        self._check_ids(profile_ids)
        if profile_ids:
            self._editor("record_expiry").record_expiry(profile_ids, self._clock())

    # The disk

    def disk_usage(self, profile_id: str) -> DiskUsage:
        """How much of the disk a profile takes, by part.

        Raises:
            ProfileNotFoundError: there is no such profile.
        """
        from tweakio.disk import usage

        self.get_profile(profile_id)
        return usage(self.layout.profile(profile_id))

    def clean_profile(self, profile_id: str) -> int:
        """Empty a profile's caches; never what a site stored, nor anything of the login.

        Returns:
            The number of bytes that were freed.

        Raises:
            ProfileNotFoundError: there is no such profile.
            ProfileActiveError: a live process uses it.
            BrowserLockedError: a browser has it open that tweakio did not start, or that runs on
                another machine.
        """
        from tweakio.disk import empty_caches

        with self._stopped(profile_id):
            return empty_caches(self.layout.profile(profile_id))

    def _stopped(self, profile_id: str) -> HeldLock:
        """Take the lock of a profile of which no browser is open, without waiting for it."""
        self.get_profile(profile_id)
        self._end_orphans([profile_id])
        self.locks.refuse_in_use(profile_id)
        # Before the lock is taken: with it, a browser of nobody's looks like one of ours.
        state = self.browser_status(profile_id).state
        if state.kind != "closed":
            raise BrowserLockedError(
                f"profile '{profile_id}' is open in a browser, process {state.pid} on {state.host}",
                hint="close it first",
                profile_id=profile_id,
                pid=state.pid,
            )
        return self._hold(profile_id, 0)

    @property
    def archives(self) -> Archives:
        """Profiles as one file: ``export`` and ``import_file``."""
        from tweakio.archive.archives import Archives

        return Archives(
            lambda: self.repository,
            self._opening.existing,
            self.locks,
            self.validator,
            self._stopped,
            self._name,
        )

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
        if not profile_ids:
            return []
        self._check_ids(profile_ids)
        if mode == "hard":
            self._end_orphans(profile_ids)
        values = Recovery(self.repository, self.locks).recover(
            profile_ids, mode, command=self._name("recover_profile")
        )
        return self._after(profile_ids, [values[profile_id] for profile_id in profile_ids])

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
        self._opening.need(
            NothingToUndoError("there is nothing to undo", hint="there is no history yet")
        )
        change = self._undo().undo(command=self._name("undo"))
        self._activation.release_lost(self.get_profile)
        return change

    def redo(self) -> Change:
        """Do again what the last undo took back.

        Raises:
            NothingToRedoError: nothing was undone since the last change.
        """
        self._opening.need(
            NothingToRedoError("there is nothing to redo", hint="there is no history yet")
        )
        change = self._undo().redo(command=self._name("redo"))
        self._activation.release_lost(self.get_profile)
        return change

    def history(self, profile_id: str | None = None, limit: int | None = None) -> _Changes:
        """The changes, newest first.

        Args:
            profile_id: only those of this profile, which need not exist any more.
            limit: at most so many.
        """
        if profile_id is not None:
            self.validator.validate_id(profile_id)
        if self._opening.existing() is None:
            return []
        return [
            *islice(self._history().changes(profile_id), None if limit is None else max(limit, 0))
        ]

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
        self._check_ids([profile_id])
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
        return self._reader.committed(profile_id, value)

    def _require_history(self, revision: str) -> None:
        self._opening.need(
            RevisionNotFoundError(
                f"no revision {revision[:80]!r}", hint="there is no history yet", revision=revision
            )
        )

    # Trash

    def trash(self, profile_id: str | None = None) -> _Entries:
        """What the trash keeps, newest first, with sizes; the rescued are among it."""
        from tweakio.trash import entries

        repository = self._opening.existing()
        return [] if repository is None else entries(repository, profile_id)

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
        from tweakio import seen
        from tweakio.trash import restore_entry

        repository = self._opening.need(_no_trash(name))
        value = restore_entry(repository, self.locks, name, self._name("restore_from_trash"))
        profile = self._reader.committed(value["profile_id"], value)
        seen.note(self.layout, profile.id, profile.created_at)
        return profile

    def purge_trash(
        self, name: str | None = None, *, older_than: timedelta | None = None
    ) -> _Entries:
        """Remove trash entries for good.

        Args:
            name: this entry.
            older_than: all that are older; neither means all.

        Returns:
            What was removed.

        Raises:
            TrashEntryNotFoundError: there is no entry of this name.
        """
        from tweakio.trash import purge

        if name is not None:
            return purge(self._opening.need(_no_trash(name)), name, older_than)
        repository = self._opening.existing()
        return [] if repository is None else purge(repository, name, older_than)

    # Other places

    @cached_property
    def remotes(self) -> Remotes:
        """The other places where the repository is kept: ``add``, ``pull``, ``push``, ``sync``."""
        from tweakio.sync.remotes import Remotes

        return Remotes(lambda: self.repository, self.locks, self._name, vault=lambda: self.vault)

    @cached_property
    def snapshots(self) -> Snapshots:
        """Copies of stopped profiles' browser data: ``create``, ``list``, ``restore`` and so on."""
        from tweakio.snapshots.snapshots import Snapshots

        return Snapshots(
            self.layout,
            lambda: self.repository,
            self.locks,
            self._stopped,
            lambda: self.vault.confirmed(),
            lambda: self.vault.identities(),
            self._name,
            self._clock,
        )

    @cached_property
    def leases(self) -> Leases:
        """One machine at a time on each profile: ``use``, ``status``, ``release``."""
        from tweakio.lease.leases import Leases

        return Leases(
            self.layout,
            lambda: self.repository,
            lambda: [profile.id for profile in self.list_profiles()],
        )

    # The repository

    def doctor(
        self,
        *,
        fix: bool = False,
        cut: bool | Callable[[str], bool] = False,
        progress: Callable[[int], None] | None = None,
    ) -> Report:
        """Say what is wrong with the repository, and mend what can be mended.

        Args:
            fix: mend it; else nothing is changed.
            cut: whether history may be cut or rebuilt where some of it is lost; or a function
                that is called with what would be given up, and says so.
            progress: called with the number of commits read so far.

        Raises:
            StorageError: something cannot be read now, so that nothing can be said of it.
        """
        self._opening.close()
        from tweakio.doctor import examine

        def healer(
            repository: Repository, lost: Collection[str]
        ) -> tuple[tuple[str, ...], tuple[str, ...]]:
            from tweakio.sync import healing

            return healing.healer(repository, lost)

        command = self._name("doctor")
        return examine(
            self.layout, fix=fix, cut=cut, command=command, progress=progress, healer=healer
        )

    def gc(self) -> tuple[int, int]:
        """Pack loose objects and empty the trash of what is older than 30 days.

        Returns:
            The number of objects packed and of trash entries removed.
        """
        from tweakio.store import maintenance

        repository = self._opening.existing()
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
        found = migrate_sdk(self.repository, locks=self.locks, command=self._name("migrate"))
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


def _no_trash(name: str) -> TrashEntryNotFoundError:
    return TrashEntryNotFoundError(f"no trash entry {name[:80]!r}", hint="there is no trash yet")
