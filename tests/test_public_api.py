"""The names that users build on."""

from __future__ import annotations

import importlib
import inspect
import pickle
import subprocess
import sys

import pytest

import tweakio
from tweakio import (
    Change,
    FieldChange,
    Profile,
    ProfileDiff,
    ProfileManager,
    TrashEntry,
    TweakioError,
    errors,
)

NAMES = [
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

# A number, once given, is never given to another error: scripts depend on it.
EXIT_CODES = {
    "TweakioError": 1,
    "InvalidInputError": 2,
    "ProfileNotFoundError": 3,
    "ProfileExistsError": 4,
    "ProfileActiveError": 5,
    "LockTimeoutError": 6,
    "ProfileCorruptedError": 7,
    "InvalidProfileIdError": 8,
    "UnknownPlatformError": 9,
    "RevisionNotFoundError": 10,
    "NothingToUndoError": 11,
    "NothingToRedoError": 11,
    "HomeNotFoundError": 12,
    "ForeignRepositoryError": 13,
    "RepositoryDamagedError": 14,
    "RepositoryBusyError": 15,
    "NewerFormatError": 16,
    "StorageError": 17,
    "DiskFullError": 18,
    "FileAccessError": 19,
    "MissingExtraError": 20,
    "TrashEntryNotFoundError": 21,
    "ConcurrentChangeError": 22,
    "InvalidMetadataError": 23,
    "MigrationError": 24,
    "BrowserNotFoundError": 25,
    "BrowserLockedError": 26,
    "BrowserError": 27,
    "LoginTimeoutError": 28,
    "LoginRefusedError": 29,
    "NotLoggedInError": 30,
    "SessionError": 31,
    "SecretNotFoundError": 32,
    "VaultError": 33,
    "RecipientError": 34,
    "ArchiveError": 35,
    "SnapshotError": 36,
    "LeaseError": 37,
    "LeaseLostError": 38,
    "RemoteError": 39,
    "MergeConflictError": 40,
    "HostileContentError": 41,
    "ForeignDataError": 42,
    "UntrustedSettingsError": 43,
}
PUBLIC_MODULES = ["tweakio", "tweakio.errors", "tweakio.models", "tweakio.platforms"]
ERRORS = [cls for cls in map(errors.__dict__.get, errors.__all__) if inspect.isclass(cls)]


def test_all_is_pinned():
    assert tweakio.__all__ == NAMES
    assert dir(tweakio) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_there_and_documented(name):
    value = getattr(tweakio, name)
    if name != "__version__":
        assert inspect.getdoc(value)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        tweakio.nonsense  # noqa: B018


@pytest.mark.parametrize("module", PUBLIC_MODULES)
def test_all_of_every_public_module_exists(module):
    loaded = importlib.import_module(module)
    assert [name for name in loaded.__all__ if not hasattr(loaded, name)] == []


RECORDS = [Profile, FieldChange, ProfileDiff, Change, TrashEntry]


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_is_frozen_compared_by_value_and_can_be_pickled(record):
    fields = record.__annotations__
    made, same = record(**dict.fromkeys(fields, 1)), record(**dict.fromkeys(fields, 1))
    assert made == same == pickle.loads(pickle.dumps(made))
    assert made != record(**{**dict.fromkeys(fields, 1), next(iter(fields)): 2})
    for name in (*fields, "another"):
        with pytest.raises(AttributeError):
            setattr(made, name, 3)
    shown = [f"{name}=1" for name in fields if name not in ("platform_config", "browser")]
    assert repr(made) == f"{record.__name__}({', '.join(shown)})"


def test_importing_costs_nothing():
    code = (
        "import sys, tweakio\n"
        "print(sorted({n.split('.')[0] for n in sys.modules} &"
        " {'dulwich', 'pydantic', 'typer', 'rich', 'filelock', 'psutil', 'platformdirs'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_managers_module_imports_nothing_heavy():
    code = (
        "import sys, tweakio; tweakio.ProfileManager\n"
        "print(sorted({n.split('.')[0] for n in sys.modules} &"
        " {'pydantic', 'typer', 'rich', 'psutil'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def public_members(cls):
    return [
        (name, member)
        for name, member in vars(cls).items()
        if not name.startswith("_") and (callable(member) or isinstance(member, property))
    ]


@pytest.mark.parametrize(
    "name",
    [
        "ProfileManager",
        "ProfileRegistry",
        "ProfileLockManager",
        "ProfileMetadataHandler",
        "ProfileValidator",
    ],
)
def test_every_public_method_is_documented_and_typed(name):
    members = public_members(getattr(tweakio, name))
    assert members
    for member_name, member in members:
        function = member.fget if isinstance(member, property) else member
        assert inspect.getdoc(function), member_name
        assert "return" in function.__annotations__, member_name


def test_the_tree_of_errors_is_complete():
    assert {cls.__name__: cls.exit_code for cls in ERRORS} == EXIT_CODES
    assert set(EXIT_CODES) <= set(tweakio.__all__)


@pytest.mark.parametrize("cls", ERRORS, ids=lambda cls: cls.__name__)
def test_every_error_carries_what_a_person_needs(cls):
    error = cls("what went wrong", hint="what to do", profile_id="alpha")
    assert isinstance(error, TweakioError)
    assert str(error) == error.message == "what went wrong"
    assert error.hint == "what to do"
    assert error.details == {"profile_id": "alpha"}
    assert cls("x").hint == ""


def test_exit_codes_are_unique():
    codes = [cls.exit_code for cls in ERRORS]
    assert sorted(code for code in set(codes) if codes.count(code) > 1) == [11]
    assert 0 not in codes


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("ProfileNotFoundError", LookupError),
        ("InvalidProfileIdError", ValueError),
        ("LockTimeoutError", TimeoutError),
        ("DiskFullError", OSError),
    ],
)
def test_errors_are_also_what_python_calls_them(name, builtin):
    assert issubclass(getattr(tweakio, name), builtin)


def test_the_version_is_the_specifications():
    assert tweakio.__version__.startswith("0.1.6")


def test_parameters_of_the_specification():
    def names(method):
        return list(inspect.signature(method).parameters)[1:]

    assert names(ProfileManager.create_profile)[:2] == ["profile_id", "platform"]
    assert names(ProfileManager.activate_profile) == ["profile_id", "timeout"]
    assert names(ProfileManager.delete_profile)[:2] == ["profile_id", "force"]
    assert names(ProfileManager.recover_profile) == ["profile_id", "mode"]
    assert names(ProfileManager.deactivate_profile) == []
    assert inspect.signature(ProfileManager.activate_profile).parameters["timeout"].default == 30.0
