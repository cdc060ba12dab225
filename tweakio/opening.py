"""A home's repository: opened when it is first needed, made when it is missing."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from tweakio import durable
from tweakio.errors import (
    InvalidInputError,
    LockTimeoutError,
    RepositoryDamagedError,
    StorageError,
    TweakioError,
    storage_error,
)
from tweakio.layout import HOME_VARIABLE, Layout, default_home, not_a_home
from tweakio.store.initialise import is_initialised, open_repository

if TYPE_CHECKING:
    from tweakio.store.locks import ProfileLockManager
    from tweakio.store.repository import Repository

__all__ = ["Opening"]


class Opening:
    """Owns the one open repository of a manager.

    Args:
        home: as the caller named it; None for the default. What was named by anybody is not
            made together with missing directories above it.
    """

    def __init__(self, home: str | os.PathLike[str] | None) -> None:
        self._explicit = home is not None or bool(os.environ.get(HOME_VARIABLE))
        chosen = Path(home) if home is not None else default_home()
        try:
            self.layout = Layout(Path(os.path.abspath(chosen.expanduser())))
        except RuntimeError as error:  # "~name" of a user that does not exist
            raise InvalidInputError(
                f"the home directory {os.fspath(chosen)!r} cannot be found: {error}",
                hint="give the path in full",
            ) from None
        self._repository: Repository | None = None
        self.locks: ProfileLockManager | None = None
        """Those of the manager that it is part of."""

    def _locks(self) -> ProfileLockManager:
        if self.locks is None:
            from tweakio.lease.locking import locks_of

            self.locks = locks_of(self.layout)
        return self.locks

    @property
    def repository(self) -> Repository:
        """The repository; made if it was missing."""
        if self._repository is None:
            home = self.layout.home
            if self._explicit and not home.parent.is_dir():
                raise not_a_home(home.parent, "make it first, or give another --home")
            self._repository = open_repository(self.layout, create=True)
            assert self._repository is not None
            self._settle_in()
        return self._repository

    def existing(self) -> Repository | None:
        """The repository if there is one; reading makes nothing."""
        if self._repository is None:
            home = self.layout.home
            if not is_initialised(self.layout):
                if self._has_single_account():
                    return self.repository
                if self._explicit and not self._is_there(home):
                    raise not_a_home(home, "give another --home, or create a profile to make it")
            self._repository = open_repository(self.layout, create=False)
            if self._repository is not None:
                self._settle_in()
        return self._repository

    def need(self, missing: TweakioError) -> Repository:
        """The repository if there is one.

        Args:
            missing: what is raised if there is none.
        """
        repository = self.existing()
        if repository is None:
            raise missing
        return repository

    def close(self) -> None:
        """Close what was opened; the next use opens it again."""
        repository, self._repository = self._repository, None
        if repository is not None:
            repository.close()

    def _has_single_account(self) -> bool:
        names = ("browser_profile", "session.json")
        return any(self._is_there(self.layout.home / name) for name in names)

    @staticmethod
    def _is_there(path: Path) -> bool:
        try:
            return durable.is_there(path)
        except OSError as error:
            raise storage_error(error, "look into the home directory") from error

    def _settle_in(self) -> None:
        """What an open repository needs before anybody works with it."""
        assert self._repository is not None
        try:
            if self._has_single_account():
                from tweakio.migration import take_over_single_account

                take_over_single_account(self._repository, self._locks())
            if self._is_there(self.layout.arrived):
                from tweakio.sync.arrival import settle_in

                settle_in(self._repository, self._locks())
            if not self._is_there(self.layout.trusted):
                self._take_what_is_there_for_confirmed(self._repository)
        except BaseException:
            # Or the next method would go on without it.
            self.close()
            raise

    @staticmethod
    def _take_what_is_there_for_confirmed(repository: Repository) -> None:
        """A home of an older tweakio: at once, before plain git brings what is not the person's.

        On a read-only file system, or beside another program, the first use does it.
        """
        from tweakio import trust

        with contextlib.suppress(StorageError, LockTimeoutError, RepositoryDamagedError):
            trust.prepare(repository, timeout=0)
