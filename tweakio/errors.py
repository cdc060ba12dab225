"""The one tree of exceptions.

Every error carries what it is about as data, a one-line message, and a hint: the next
step, as something that can be pasted where that is possible. ``exit_code`` is what the
command line ends with; a number, once given, is never given to another error.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from functools import wraps
from types import FunctionType
from typing import TYPE_CHECKING, ClassVar, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "ArchiveError",
    "BrowserError",
    "BrowserLockedError",
    "BrowserNotFoundError",
    "ConcurrentChangeError",
    "DiskFullError",
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
    "ProfileActiveError",
    "ProfileCorruptedError",
    "ProfileExistsError",
    "ProfileNotFoundError",
    "RecipientError",
    "RemoteError",
    "RepositoryBusyError",
    "RepositoryDamagedError",
    "RevisionNotFoundError",
    "SecretNotFoundError",
    "SessionError",
    "SnapshotError",
    "StorageError",
    "TrashEntryNotFoundError",
    "TweakioError",
    "UnknownPlatformError",
    "UntrustedSettingsError",
    "VaultError",
    "command",
    "in_the_tree",
    "is_of_the_moment",
    "refuse_lack_of_memory",
    "refuse_lack_of_stack",
    "run",
    "storage_error",
    "system_error",
]


class TweakioError(Exception):
    """Base of all errors that tweakio raises on purpose.

    Args:
        message: one line that says what went wrong.
        hint: the next step for the person who reads it; empty if there is none.
        **details: what the error is about, kept as attributes in ``details``.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "", **details: object) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details


class InvalidInputError(TweakioError, ValueError):
    """An argument that cannot be used as it is."""

    exit_code = 2


class ProfileNotFoundError(TweakioError, LookupError):
    """No profile has this id."""

    exit_code = 3


class ProfileExistsError(TweakioError):
    """The id is taken, or differs from a taken one only by case."""

    exit_code = 4


class ProfileActiveError(TweakioError):
    """The profile is active, or a live process uses it."""

    exit_code = 5


class LockTimeoutError(TweakioError, TimeoutError):
    """A lock was not released in time by the process that holds it."""

    exit_code = 6


class ProfileCorruptedError(TweakioError):
    """The profile's tracked files are damaged; it can be recovered."""

    exit_code = 7


class InvalidProfileIdError(InvalidInputError):
    """The text is not a usable profile id."""

    exit_code = 8


class UnknownPlatformError(InvalidInputError):
    """No platform of this name is registered."""

    exit_code = 9


class RevisionNotFoundError(TweakioError, LookupError):
    """The revision names no commit, or the profile is not in it."""

    exit_code = 10


class NothingToUndoError(TweakioError):
    """History holds no operation that can be undone."""

    exit_code = 11


class NothingToRedoError(TweakioError):
    """Nothing was undone since the last change."""

    exit_code = 11


class HomeNotFoundError(TweakioError):
    """The home directory does not exist or is not a directory."""

    exit_code = 12


class ForeignRepositoryError(TweakioError):
    """The place belongs to a git repository that is not tweakio's."""

    exit_code = 13


class RepositoryDamagedError(TweakioError):
    """The git repository cannot be read; ``tweakio repo doctor`` says why."""

    exit_code = 14


class RepositoryBusyError(TweakioError):
    """A person's git operation (merge, rebase, another git process) is under way."""

    exit_code = 15


class NewerFormatError(TweakioError):
    """Written by a newer tweakio, or by git in a form that is not known here; it is left alone."""

    exit_code = 16


class StorageError(TweakioError, OSError):
    """The operating system refused to read or write; nothing was changed."""

    exit_code = 17


class DiskFullError(StorageError):
    """No space or quota left; nothing was changed."""

    exit_code = 18


class FileAccessError(StorageError):
    """Permission denied or a read-only file system; nothing was changed."""

    exit_code = 19


class MissingExtraError(TweakioError):
    """The feature comes with an extra that is not installed."""

    exit_code = 20


class TrashEntryNotFoundError(TweakioError, LookupError):
    """No trash entry has this name."""

    exit_code = 21


class ConcurrentChangeError(TweakioError):
    """Another program changed the same profile at the same moment; nothing was done."""

    exit_code = 22


class InvalidMetadataError(InvalidInputError):
    """A value that metadata.json must not hold, such as a secret in the clear."""

    exit_code = 23


class MigrationError(TweakioError):
    """An older layout could not be taken over; it is as it was."""

    exit_code = 24


class BrowserNotFoundError(TweakioError):
    """No browser was found; the message lists where it was looked for."""

    exit_code = 25


class BrowserLockedError(TweakioError):
    """The browser data is in use: on another host, or by a browser that is not ours to end."""

    exit_code = 26


class BrowserError(TweakioError):
    """The browser could not be started, or it ended by itself."""

    exit_code = 27


class LoginTimeoutError(TweakioError, TimeoutError):
    """The login was not completed in time; the profile is as it was before."""

    exit_code = 28


class LoginRefusedError(TweakioError):
    """The service refused the login, such as for a wrong password."""

    exit_code = 29


class NotLoggedInError(TweakioError):
    """The profile is not logged in."""

    exit_code = 30


class SessionError(TweakioError):
    """The session could not be read from the browser, or not be put into it."""

    exit_code = 31


class SecretNotFoundError(TweakioError, LookupError):
    """What a reference such as ``env:NAME`` names is not there."""

    exit_code = 32


class VaultError(TweakioError):
    """There is no vault or no identity, or what is sealed cannot be opened."""

    exit_code = 33


class RecipientError(TweakioError):
    """No recipient that can be sealed for, or one too few."""

    exit_code = 34


class SnapshotError(TweakioError):
    """A snapshot is not there or damaged, or its store cannot be used."""

    exit_code = 36


class LeaseError(TweakioError):
    """Another holder has the lease of the profile, or leases cannot be asked for."""

    exit_code = 37


class LeaseLostError(LeaseError):
    """The lease was lost: whatever its holder commits to the profile is refused."""

    exit_code = 38


class RemoteError(TweakioError):
    """A remote cannot be reached, refuses, or has nothing in common with this repository."""

    exit_code = 39


class MergeConflictError(TweakioError):
    """Both sides changed the same; ``conflicts`` says what, and nothing was changed."""

    exit_code = 40


class HostileContentError(TweakioError):
    """What a remote sent is nothing that a tweakio makes; nothing of it was taken over."""

    exit_code = 41


class ArchiveError(TweakioError):
    """A file to import that is damaged, hostile, or not what its hashes say."""

    exit_code = 35


class ForeignDataError(TweakioError):
    """What another program made cannot be imported; nothing was changed."""

    exit_code = 42


class UntrustedSettingsError(TweakioError):
    """An address, selector or secret came from elsewhere and was not confirmed on this machine."""

    exit_code = 43


# What no shell gives a meaning to, and no program takes for an option.
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-+=./:@")
# Between double quotes, cmd still replaces %NAME% and !NAME!, and PowerShell $name and `x.
_NEVER_ON_WINDOWS = frozenset('"%!`$\u201c\u201d\u201e')
_LONGEST_WORD = 4096
_NOT_SHOWN = "..."


def command(words: str, *values: object, then: str = "") -> str:
    """A command for a hint, which can be pasted into a shell whoever wrote the values.

    Every name, path, revision or address that ends up in a suggested command goes through here.
    A value that cannot be pasted safely is replaced by ``...``, so that the command does nothing:
    one with characters that a terminal would obey, or that begins like an option.

    Args:
        words: written by us, such as ``"tweakio profile recover"``.
        *values: what follows, each as one word.
        then: further words of ours behind them, such as ``"switch main"``.
    """
    return " ".join((words, *(_quoted(str(value)) for value in values), *filter(None, [then])))


def run(words: str, *values: object, then: str = "") -> str:
    """A hint to run a command; see ``command``.

    Quotes around the command stand there only if it has none of its own: pasted together with
    them, the value would be outside.
    """
    made = command(words, *values, then=then)
    return f"run: {made}" if any(mark in made for mark in "'\"") else f"run '{made}'"


def _quoted(text: str) -> str:
    if not text.isprintable() or text.startswith("-") or len(text) > _LONGEST_WORD:
        return _NOT_SHOWN
    if os.name == "nt":
        if _PLAIN.issuperset(text.replace("\\", "/")) and text:
            return text
        # A backslash before the closing quote would belong to the quote.
        unsafe = _NEVER_ON_WINDOWS.intersection(text) or text.endswith("\\")
        return _NOT_SHOWN if unsafe else f'"{text}"'
    if text and _PLAIN.issuperset(text):
        return text
    return "'" + text.replace("'", "'\"'\"'") + "'"


_FULL = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG})
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
# What an error says of the file itself: it is not there, or something else is in its place.
# EINVAL and EFBIG are our own, of a file that is not regular or larger than any of ours.
_CERTAIN = frozenset(
    {
        errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO,
        errno.EINVAL, errno.EFBIG,
    }
)  # fmt: skip
_HINTS = {
    errno.ENFILE: "the whole system has too many open files: close some programs, and run the "
    "command again",
    errno.ENOMEM: "free some memory and run the command again",
    errno.EIO: "check the disk (the system's log names it), and run the command again",
    getattr(errno, "ESTALE", -1): "wait until the network drive is back, and run the command again",
}
# How a library's error tells of a limit that has no number: the loader of extension modules has
# only words.
_WORDS = {"Too many open files": errno.EMFILE, "Cannot allocate memory": errno.ENOMEM}


# Nothing of ours is nested more deeply; Python reads ten times as much.
_DEEP = 64


def is_of_the_moment(error: OSError) -> bool:
    """Whether a read failed for a reason that tells nothing of the file.

    That is a limit, a permission, or the device: later, or for somebody else, the same file can
    be read. It is never damage. What is no such error says that there is no such file, or that
    something else is in its place.
    """
    return _number(error) not in _CERTAIN


def _number(error: OSError) -> int | None:
    """Its number; libraries raise some of the classes without one."""
    if error.errno is None and isinstance(error, FileNotFoundError):
        return errno.ENOENT
    return error.errno


def refuse_lack_of_memory(error: Exception) -> None:
    """Return if what zlib could not decompress is damaged.

    Raises:
        MemoryError: zlib itself had no memory.
    """
    if str(error).startswith("Error -4 "):
        raise MemoryError from None


def refuse_lack_of_stack(data: bytes) -> None:
    """Return if it is the nesting of JSON that took all of the stack.

    Raises:
        RecursionError: it is not nested that deeply, so whoever called had left too little.
    """
    depth = deepest = 0
    inside = escaped = False
    for byte in data:
        if inside:
            inside = escaped or byte != 0x22
            escaped = byte == 0x5C and not escaped
        elif byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
        else:
            inside = byte == 0x22
    if deepest <= _DEEP:
        raise RecursionError from None


def storage_error(cause: OSError, doing: str, *, ours: bool = True) -> StorageError:
    """Turn an ``OSError`` into the error of the tree that says what was being done.

    Args:
        cause: what the operating system said; one of the tree is returned as it is.
        doing: the action in the infinitive, such as ``"write metadata.json"``.
        ours: whether it was in the home directory, whose doctor may help.
    """
    if isinstance(cause, StorageError):
        return cause
    reason = cause.strerror or str(cause)
    where = f": {os.fsdecode(cause.filename)}" if isinstance(cause.filename, (str, bytes)) else ""
    message = f"cannot {doing}: {reason}{where}"
    kind, hint = StorageError, "run 'tweakio repo doctor'" if ours else ""
    if cause.errno in _FULL:
        kind, hint = DiskFullError, "free some space and run the command again"
        if _has_no_inodes(cause):
            hint = "remove some files and run the command again: there is space, but no more inodes"
    elif cause.errno in _DENIED:
        kind = FileAccessError
        owner, hint = _owner(cause) if where else ("", "")
        message += owner
        of = " of the home directory" if ours else ""
        hint = hint or f"check the owner and the permissions{of}"
    elif cause.errno == errno.EMFILE:
        message += f" (this process may have {_most_files()}: RLIMIT_NOFILE)"
        hint = "raise the limit with 'ulimit -n 1024', and run the command again"
    elif cause.errno in _HINTS:
        hint = _HINTS[cause.errno]
    error = kind(message, hint=hint)
    error.errno = _number(cause)
    return error


def _has_no_inodes(cause: OSError) -> bool:
    """Whether the file system is full of files, and not of what they hold."""
    if not (isinstance(cause.filename, (str, bytes)) and hasattr(os, "statvfs")):
        return False
    try:
        found = os.statvfs(os.path.dirname(os.path.abspath(cause.filename)))
    except OSError:
        return False
    return bool(found.f_files and not found.f_favail and found.f_bavail)


def system_error(error: BaseException, doing: str, *, ours: bool = False) -> StorageError | None:
    """The same for whatever a limit made of an import or of a library's call.

    None if it is something else. An extension module that cannot be opened is an ``ImportError``,
    and memory that cannot be had a ``MemoryError``.
    """
    if isinstance(error, OSError):
        # One of the tree that is no StorageError (a timeout) speaks for itself.
        return None if isinstance(error, TweakioError) else storage_error(error, doing, ours=ours)
    number = errno.ENOMEM if isinstance(error, MemoryError) else None
    if isinstance(error, ImportError):
        number = next((code for text, code in _WORDS.items() if text in str(error)), None)
    if number is None:
        return None
    path = getattr(error, "path", None)
    return storage_error(OSError(number, os.strerror(number), path), doing, ours=ours)


_Public = TypeVar("_Public", bound="type | Callable[..., object]")


def in_the_tree(public: _Public) -> _Public:
    """Let a function, or a class's public methods, raise what a limit or the device did as ours.

    Each of them may import what it needs, and an import may find no descriptor or no memory; nobody
    should have to expect a bare ``OSError`` or an ``ImportError`` of that. Errors that tell of a
    file, such as ``FileNotFoundError``, stay what they are.
    """
    if isinstance(public, FunctionType):
        return cast("_Public", _in_the_tree(public))
    for name, method in list(vars(public).items()):
        if not name.startswith("_") and isinstance(method, FunctionType):
            setattr(public, name, _in_the_tree(method))
    return public


def _in_the_tree(method: FunctionType) -> Callable[..., object]:
    doing = f"finish {method.__name__.replace('_', ' ')}"

    @wraps(method)
    def wrapper(*arguments: object, **options: object) -> object:
        try:
            return method(*arguments, **options)
        except (OSError, ImportError, MemoryError) as error:
            certain = isinstance(error, OSError) and not is_of_the_moment(error)
            failure = None if certain else system_error(error, doing)
            if failure is None:
                raise
            raise failure from error

    return wrapper


def _most_files() -> str:
    try:
        # Without the module "resource", for which a descriptor would be needed.
        return str(os.sysconf("SC_OPEN_MAX"))
    except (AttributeError, ValueError, OSError):
        return "no more"


def _owner(cause: OSError) -> tuple[str, str]:
    """What refuses access and whose it is, and the command that gives it; both may be empty."""
    if sys.platform == "win32" or cause.errno == errno.EROFS:
        return "", ""
    path = os.path.abspath(os.fsdecode(cause.filename))
    while True:
        try:
            status = os.lstat(path)
            break
        except OSError:
            # Nothing in a directory that may not be searched can be looked at.
            above = os.path.dirname(path)
            if above == path:
                return "", ""
            path = above
    if not stat.S_ISDIR(status.st_mode) and os.access(path, os.R_OK):
        # It could be read, so it was to be replaced or removed, which its directory refuses.
        path = os.path.dirname(path)
        status = os.lstat(path)
    mode = stat.S_IMODE(status.st_mode)
    owner = _name(status.st_uid)
    where = "" if path == os.path.abspath(os.fsdecode(cause.filename)) else f"{path}, "
    text = f" ({where}owner {owner}, mode {mode:04o})"
    if os.geteuid() == 0:
        return text, ""  # not its owner nor its mode keep root away
    if status.st_uid != os.geteuid():
        # Whoever ran git here has left more than this one. Outside of a home nothing is given
        # away as a whole.
        home, below, rest = path.partition("/profiles/")
        if not below:
            return text, ""
        part = f"{home}{below}{rest.partition('/')[0]}"
        return text, run("sudo chown -R", _name(os.geteuid()), part)
    wanted = 0o700 if stat.S_ISDIR(status.st_mode) else 0o600
    return text, run("chmod u+rwX", path) if mode & wanted != wanted else ""


def _name(uid: int) -> str:
    if sys.platform == "win32":
        return str(uid)
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OSError):
        return str(uid)
