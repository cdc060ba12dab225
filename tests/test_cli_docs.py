"""The documents name every command, option, exit code and error, and no other."""

from __future__ import annotations

import inspect
import re

import pytest
from cli_helpers import ROOT

import tweakio.errors
from tweakio.cli import EXIT_INTERNAL, EXIT_INTERRUPTED, EXIT_PIPE, EXIT_USAGE
from tweakio.errors import TweakioError

COMMANDS = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
CODES = (ROOT / "docs" / "exit-codes.md").read_text(encoding="utf-8")
SHARED = {11}  # NothingToUndoError and NothingToRedoError


def commands():
    """Every command of the application with its path."""
    import typer

    from tweakio.cli.app import app

    def walk(command, path, parent):
        context = typer.Context(command, info_name=path[-1] if path else "tweakio", parent=parent)
        names = command.list_commands(context) if hasattr(command, "list_commands") else []
        if not names:
            yield " ".join(path), command, context
        for name in names:
            yield from walk(command.get_command(context, name), [*path, name], context)

    yield from walk(typer.main.get_command(app), [], None)


ALL = {path: (command, context) for path, command, context in commands()}


def test_there_are_the_commands_of_the_specification():
    wanted = """profile create, profile activate, profile deactivate, profile delete, profile list,
        profile status, profile recover, profile set, profile history, profile show, profile diff,
        profile undo, profile redo, profile restore, profile trash list, profile trash restore,
        profile trash purge, profile login, profile check, profile open, profile clean,
        profile du, profile trust,
        profile clone, profile export, profile import, profile snapshot create,
        profile snapshot list, profile snapshot restore, profile snapshot prune,
        profile snapshot verify, profile snapshot store,
        vault init, vault status, vault restore, vault reseal, vault seal,
        vault recipients add, vault recipients remove, vault recipients list,
        repo path, repo doctor, repo gc, repo migrate, repo clone,
        repo push, repo pull, repo sync, repo remote add,
        repo remote list, repo remote remove, repo lease use,
        repo lease status, repo lease release, tour, whatsapp login,
        telegram login, discord login, custom login, whatsapp logout, telegram logout,
        discord logout, custom logout"""
    assert set(ALL) == {" ".join(name.split()) for name in wanted.split(",")}


def section(path):
    found = re.search(rf"^### `tweakio {path}\b[^\n]*\n(.*?)(?=^##|\Z)", COMMANDS, re.M | re.S)
    return found[0] if found else None


@pytest.mark.parametrize("path", ALL)
def test_every_command_is_documented_with_its_options(path):
    if path.split()[0] in ("telegram", "discord", "custom"):
        assert f"`tweakio {path}`" in COMMANDS
        return
    text = section(path)
    assert text is not None
    command, context = ALL[path]
    for parameter in command.get_params(context):
        for option in getattr(parameter, "opts", []):
            if option.startswith("-") and option not in ("-h", "--help"):
                assert f"`{option}" in text or f" {option} " in text, option


def test_every_documented_option_exists():
    for path, (command, context) in ALL.items():
        text = section(path)
        if text is None:
            continue
        known = {option for parameter in command.get_params(context) for option in parameter.opts}
        mentioned = set(re.findall(r"^\| .*?`(--[a-z-]+)", text, re.M))
        assert mentioned <= known, path


def test_every_command_has_help():
    for path, (command, context) in ALL.items():
        assert command.get_short_help_str(), path
        for parameter in command.get_params(context):
            if parameter.param_type_name == "option" and path != "profile create":
                assert parameter.help, (path, parameter.name)


def errors():
    members = vars(tweakio.errors).values()
    return [item for item in members if inspect.isclass(item) and issubclass(item, TweakioError)]


def rows():
    found = re.findall(r"^\| (\d+) \| (?:`(\w+)`)? ?\| (.+) \|$", CODES, re.M)
    return [(int(code), name, meaning) for code, name, meaning in found]


def test_every_error_has_its_row():
    documented = {name: code for code, name, _ in rows() if name}
    assert documented == {error.__name__: error.exit_code for error in errors()}


def test_numbers_are_never_used_twice():
    own = {EXIT_INTERNAL, EXIT_INTERRUPTED, EXIT_PIPE, 0}
    assert {code for code, name, _ in rows() if not name} == own
    used = [error.exit_code for error in errors()]
    assert {code for code in used if used.count(code) > 1} == SHARED
    assert not own & set(used)
    assert tweakio.errors.InvalidInputError.exit_code == EXIT_USAGE


def test_numbers_stay_what_they_are():
    # Scripts compare with them: a change here is a break.
    assert {error.__name__: error.exit_code for error in errors()} == {
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


def test_the_codes_are_said_in_order_and_with_a_meaning():
    codes = [code for code, _, _ in rows()]
    assert codes == sorted(codes)
    assert all(meaning.strip() for _, _, meaning in rows())
