"""Many messaging accounts as isolated browser profiles in a local git repository.

``ProfileManager`` is where to begin. Everything here is imported when it is first used, so
that ``import tweakio`` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from tweakio._version import __version__

if TYPE_CHECKING:
    from tweakio.browsing import BrowserManager, SyncBrowserManager
    from tweakio.errors import (
        ArchiveError,
        BrowserError,
        BrowserLockedError,
        BrowserNotFoundError,
        ConcurrentChangeError,
        DiskFullError,
        FileAccessError,
        ForeignDataError,
        ForeignRepositoryError,
        HomeNotFoundError,
        HostileContentError,
        InvalidInputError,
        InvalidMetadataError,
        InvalidProfileIdError,
        LeaseError,
        LeaseLostError,
        LockTimeoutError,
        LoginRefusedError,
        LoginTimeoutError,
        MergeConflictError,
        MigrationError,
        MissingExtraError,
        NewerFormatError,
        NothingToRedoError,
        NothingToUndoError,
        NotLoggedInError,
        ProfileActiveError,
        ProfileCorruptedError,
        ProfileExistsError,
        ProfileNotFoundError,
        RecipientError,
        RemoteError,
        RepositoryBusyError,
        RepositoryDamagedError,
        RevisionNotFoundError,
        SecretNotFoundError,
        SessionError,
        SnapshotError,
        StorageError,
        TrashEntryNotFoundError,
        TweakioError,
        UnknownPlatformError,
        UntrustedSettingsError,
        VaultError,
    )
    from tweakio.manager import ProfileManager
    from tweakio.metadata import ProfileMetadataHandler
    from tweakio.models import (
        Change,
        FieldChange,
        Profile,
        ProfileContext,
        ProfileDiff,
        TrashEntry,
    )
    from tweakio.platforms import register_platform
    from tweakio.registry import ProfileRegistry
    from tweakio.store.locks import ProfileLockManager
    from tweakio.sync import clone_repository
    from tweakio.validator import ProfileValidator
    from tweakio.vault.vault import Vault

__all__ = [
    "ArchiveError",
    "BrowserError",
    "BrowserLockedError",
    "BrowserManager",
    "BrowserNotFoundError",
    "Change",
    "ConcurrentChangeError",
    "DiskFullError",
    "FieldChange",
    "FileAccessError",
    "ForeignDataError",
    "ForeignRepositoryError",
    "HomeNotFoundError",
    "HostileContentError",
    "InvalidInputError",
    "InvalidMetadataError",
    "InvalidProfileIdError",
    "LeaseError",
    "LeaseLostError",
    "LockTimeoutError",
    "LoginRefusedError",
    "LoginTimeoutError",
    "MergeConflictError",
    "MigrationError",
    "MissingExtraError",
    "NewerFormatError",
    "NotLoggedInError",
    "NothingToRedoError",
    "NothingToUndoError",
    "Profile",
    "ProfileActiveError",
    "ProfileContext",
    "ProfileCorruptedError",
    "ProfileDiff",
    "ProfileExistsError",
    "ProfileLockManager",
    "ProfileManager",
    "ProfileMetadataHandler",
    "ProfileNotFoundError",
    "ProfileRegistry",
    "ProfileValidator",
    "RecipientError",
    "RemoteError",
    "RepositoryBusyError",
    "RepositoryDamagedError",
    "RevisionNotFoundError",
    "SecretNotFoundError",
    "SessionError",
    "SnapshotError",
    "StorageError",
    "SyncBrowserManager",
    "TrashEntry",
    "TrashEntryNotFoundError",
    "TweakioError",
    "UnknownPlatformError",
    "UntrustedSettingsError",
    "Vault",
    "VaultError",
    "__version__",
    "clone_repository",
    "register_platform",
]

_MODULES = {
    "BrowserManager": "browsing",
    "SyncBrowserManager": "browsing",
    "ProfileManager": "manager",
    "ProfileMetadataHandler": "metadata",
    "ProfileRegistry": "registry",
    "ProfileLockManager": "store.locks",
    "ProfileValidator": "validator",
    "clone_repository": "sync",
    "register_platform": "platforms",
    "Vault": "vault.vault",
    **dict.fromkeys(
        ("Change", "FieldChange", "Profile", "ProfileContext", "ProfileDiff", "TrashEntry"),
        "models",
    ),
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'tweakio' has no attribute {name!r}")
    module = importlib.import_module(f"tweakio.{_MODULES.get(name, 'errors')}")
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
