"""Profiles as they are now, from HEAD, the work tree and the locks."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from tweakio.errors import ProfileNotFoundError
from tweakio.metadata import ProfileMetadataHandler, corrupted_error, not_found_error
from tweakio.models import Profile, Status, composed, parse_time
from tweakio.store.worktree import Found

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tweakio.layout import Layout
    from tweakio.registry import ProfileRegistry
    from tweakio.store.locks import HeldLock, ProfileLockManager
    from tweakio.store.repository import Repository
    from tweakio.store.transaction import Transaction

__all__ = ["Reader"]

_NEVER: tuple[None, None] = None, None
_TRIES = 5


class Reader:
    """Makes ``Profile`` records, and keeps the registry up to date with them.

    Args:
        layout: the home.
        locks: tells which profiles are in use.
        registry: learns what was read.
        handler: makes what reads metadata.json.
    """

    def __init__(
        self,
        layout: Layout,
        locks: ProfileLockManager,
        registry: ProfileRegistry,
        handler: Callable[[Repository, ProfileLockManager], ProfileMetadataHandler],
    ) -> None:
        self._layout = layout
        self._locks = locks
        self._registry = registry
        self._handler = handler
        self._made: dict[str, tuple[Found, Profile]] = {}

    def one(self, repository: Repository, profile_id: str) -> Profile:
        """One profile, damaged or not.

        Raises:
            ProfileNotFoundError: there is none.
        """
        repository.settle_own()
        found = self._handler(repository, self._locks).examine(profile_id)
        profile = self._assemble(found)
        self._registry.update(profile)
        return profile

    def all(
        self,
        repository: Repository,
        *,
        status: Status | None = None,
        platform: str | None = None,
        tags: Iterable[str] = (),
    ) -> list[Profile]:
        """The profiles in alphabetical order; see ``ProfileManager.list_profiles``."""
        repository.settle_own()
        found = sorted(self._examine_all(repository), key=lambda item: item.profile_id)
        profiles = [self._assemble_again(item) for item in found]
        self._registry.refresh(profiles)
        wanted = set(map(composed, tags))
        return [
            profile
            for profile in profiles
            if (status is None or profile.status == status)
            and (platform is None or profile.platform == platform)
            and wanted.issubset(profile.tags)
        ]

    @staticmethod
    def _examine_all(repository: Repository) -> list[Found]:
        head = repository.head()
        found = repository.listing.examine_all(head)
        odd = [item for item in found if item.state in ("damaged", "edited")]
        look = repository.work_tree.examine
        # It may be of the middle of another program's change; of one that has ended since if it
        # does not look the same again.
        if odd and (
            repository.is_busy(head) or any(look(head, item.profile_id) != item for item in odd)
        ):
            with repository.undisturbed():
                return repository.listing.examine_all(repository.head())
        return found

    def within(self, repository: Repository, change: Transaction, profile_id: str) -> Profile:
        """A profile inside a transaction, where nobody else changes anything.

        Raises:
            ProfileNotFoundError: there is none.
        """
        found = repository.work_tree.examine(change.head, profile_id)
        if found is None:
            raise not_found_error(profile_id)
        return self._assemble(found)

    def committed(self, profile_id: str, metadata: Mapping[str, Any]) -> Profile:
        """A profile as a change left it, whatever has become of it since."""
        profile = self._assemble(Found(profile_id, "clean", dict(metadata)))
        self._registry.update(profile)
        return profile

    def require(self, repository: Repository, profile_id: str) -> None:
        """Fail early, before a lock is waited for, if a profile cannot be activated.

        Raises:
            ProfileNotFoundError: there is none.
            ProfileCorruptedError: its directory is not there.
        """
        if not repository.directory_id(repository.head().root, profile_id):
            raise not_found_error(profile_id)
        directory = self._layout.profile(profile_id).directory
        if not directory.is_dir():
            # Or it is being deleted: this waits for a change that is under way. Its own look is
            # what counts, by now the next change may have taken the directory away.
            found = self._handler(repository, self._locks).examine(profile_id)
            if found.state == "damaged":
                raise corrupted_error(profile_id, found.problem)
        if directory.is_symlink():
            raise corrupted_error(profile_id, "its directory is not a directory")

    def hold(self, repository: Repository, profile_id: str, timeout: float) -> HeldLock:
        """Take the lock of a profile that exists.

        A change moves a directory away before its commit point, and back if it fails. So that
        there is nothing to lock says nothing of the profile until that change has ended.

        Raises:
            ProfileNotFoundError, ProfileCorruptedError: there is no such profile to lock.
            LockTimeoutError: another process kept it.
        """
        for _ in range(_TRIES - 1):
            try:
                return self._locks.acquire(profile_id, timeout)
            except ProfileNotFoundError:
                self.require(repository, profile_id)
        return self._locks.acquire(profile_id, timeout)

    def _assemble_again(self, found: Found) -> Profile:
        """The same record as last time if nothing has changed that it was made of."""
        before, profile = self._made.get(found.profile_id, _NEVER)
        if (
            before is not found
            or profile is None
            or self._locks.is_locked(found.profile_id, quick=True)
        ):
            profile = self._assemble(found, quick=True)
            if not profile.in_use:
                self._made[found.profile_id] = found, profile
        if profile.platform_config or profile.browser:
            # The caller may change what is in them.
            profile = profile._replace(
                platform_config=deepcopy(profile.platform_config),
                browser=deepcopy(profile.browser),
            )
        return profile

    def _assemble(self, found: Found, *, quick: bool = False) -> Profile:
        profile_id = found.profile_id
        path = self._layout.profile(profile_id).directory
        in_use = self._locks.is_locked(profile_id, quick=quick)
        owner = self._locks.owner(profile_id) if in_use else None
        value = found.metadata
        try:
            created = parse_time(value["created_at"]) if value is not None else None
            used = value and (value.get("last_used") or value["created_at"])
            last_used = parse_time(used) if used else None
        except ValueError:  # it was noted as valid, by whomever
            value, found = None, found._replace(problem="a time in it cannot be read")
        if value is None:
            return Profile(
                profile_id, "", "corrupted", None, None, path,
                in_use=in_use, lock_pid=owner.pid if owner else None, problem=found.problem,
            )  # fmt: skip
        status: Status = value["status"]
        if status == "active" and value.get("lock_pid") is not None and not in_use:
            status = "inactive"  # its holder died; the next change writes it down
        return Profile(
            id=profile_id,
            platform=value["platform"],
            status=status,
            created_at=created,
            last_used=last_used,
            path=path,
            tags=tuple(sorted({composed(tag) for tag in value.get("tags") or ()})),
            note=value.get("note") or "",
            platform_version=value.get("platform_version"),
            platform_config=value.get("platform_config") or {},
            lock_pid=owner.pid if owner else None,
            in_use=in_use,
            problem="marked as corrupted" if status == "corrupted" else None,
            browser=value.get("browser") or {},
        )
