"""Every path that tweakio uses, in one place (see docs/on-disk-format.md)."""

from __future__ import annotations

import os
import re
import stat
from functools import cached_property
from pathlib import Path
from typing import Final

from tweakio.errors import HomeNotFoundError, InvalidProfileIdError

__all__ = [
    "HOME_VARIABLE",
    "Layout",
    "ProfilePaths",
    "default_home",
    "is_safe_name",
    "not_a_home",
]

HOME_VARIABLE = "TWEAKIO_HOME"
_NO_DIRECTORY = "is not a directory"


def default_home() -> Path:
    """``$TWEAKIO_HOME``, else the platform's directory for user data."""
    named = os.environ.get(HOME_VARIABLE)
    if named:
        return Path(named)
    import platformdirs

    return Path(platformdirs.user_data_dir("tweakio", appauthor=False))


def not_a_home(path: Path, hint: str) -> HomeNotFoundError:
    """Why a directory is none: it does not exist, or something else stands in the way.

    Args:
        path: of the home, or where it is to be.
        hint: the next step if it only does not exist.
    """
    for place in (path, *path.parents):
        try:
            mode = os.lstat(place).st_mode
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            break
        if not os.path.isdir(place):
            what = "is a link that leads to no directory" if stat.S_ISLNK(mode) else _NO_DIRECTORY
            return HomeNotFoundError(f"{place} {what}", hint="move it away, or give another --home")
        break
    return HomeNotFoundError(f"{path} does not exist", hint=hint)


def is_safe_name(name: str) -> bool:
    """Whether a name is that of something directly in the work tree, and not git's own.

    Names come from git's trees, where anything can stand. Refused is what leads elsewhere on
    any platform: dots, separators, drive letters and streams, and the forms of ``.git`` that
    a file system takes for it (case, trailing dots and spaces, the short name, characters
    that HFS+ ignores).
    """
    plain = "".join(character for character in name if character.isprintable())
    folded = plain.lower().rstrip(". ")
    return (
        bool(folded)
        and folded != ".git"
        and re.fullmatch(r"git~[0-9]+", folded) is None
        and not set(name) & {"/", "\\", ":", "\0"}
    )


class ProfilePaths:
    """The files of one profile.

    Args:
        directory: the profile's own directory; the others are in it.
    """

    def __init__(self, directory: Path) -> None:
        self.directory: Final = directory

    @cached_property
    def metadata(self) -> Path:
        """Tracked; the only mutable tracked file."""
        return self.directory / "metadata.json"

    @cached_property
    def fingerprint(self) -> Path:
        """Tracked; fixed at creation."""
        return self.directory / "fingerprint.json"

    @cached_property
    def session(self) -> Path:
        """Ignored by git: a secret."""
        return self.directory / "session.json"

    @property
    def sealed(self) -> Path:
        """The session as the vault seals it; tracked."""
        return self.directory / "session.json.age"

    @cached_property
    def browser_profile(self) -> Path:
        """Ignored by git: the browser's user data directory."""
        return self.directory / "browser_profile"

    @cached_property
    def browser_record(self) -> Path:
        """Ignored by git: how its browser ended and whether it is logged in.

        It is among the browser data because it goes wherever these go.
        """
        return self.browser_profile / "tweakio.json"

    @cached_property
    def cache(self) -> Path:
        """Ignored by git: what the browser can fetch again."""
        return self.directory / "cache"

    @cached_property
    def lock(self) -> Path:
        """Ignored by git: held while a process uses the profile."""
        return self.directory / ".lock"


class Layout:
    """The paths below one home directory.

    Args:
        home: absolute.
    """

    def __init__(self, home: Path) -> None:
        self.home: Final = home
        self._known: dict[str, ProfilePaths] = {}

    @cached_property
    def profiles(self) -> Path:
        """The git work tree."""
        return self.home / "profiles"

    @cached_property
    def git_dir(self) -> Path:
        """The git directory."""
        return self.profiles / ".git"

    @cached_property
    def local(self) -> Path:
        """What is this machine's alone and never travels."""
        return self.git_dir / "tweakio"

    @cached_property
    def journal(self) -> Path:
        """The transaction that is under way, if any."""
        return self.local / "journal.json"

    @cached_property
    def trash(self) -> Path:
        """What was deleted or reset, until it is purged."""
        return self.local / "trash"

    @cached_property
    def rescued(self) -> Path:
        """What tweakio found and could not place, and damaged bytes."""
        return self.local / "rescued"

    @cached_property
    def staging(self) -> Path:
        """Directories that are being built; garbage whenever nobody holds the lock."""
        return self.local / "staging"

    @cached_property
    def temporary(self) -> Path:
        """Files that are being written; garbage whenever nobody holds the lock."""
        return self.local / "tmp"

    @cached_property
    def incoming(self) -> Path:
        """What was fetched and not yet looked at; garbage whenever nobody fetches."""
        return self.local / "incoming"

    @cached_property
    def arrived(self) -> Path:
        """There while a clone that plain git made has not been settled in."""
        return self.local / "arrived"

    @cached_property
    def snapshots(self) -> Path:
        """The browser data of profiles as they were, unless another place was set."""
        return self.local / "snapshots"

    @cached_property
    def snapshot_store(self) -> Path:
        """Which other place was set for snapshots."""
        return self.local / "snapshots.json"

    @cached_property
    def lease(self) -> Path:
        """Which lease backend was set, if one was."""
        return self.local / "lease.json"

    @cached_property
    def confirmed(self) -> Path:
        """Which of the vault's recipients were confirmed on this machine."""
        return self.local / "recipients"

    @cached_property
    def key_ring(self) -> Path:
        """There if the vault's identity is in the system's key ring: the recipient it is for."""
        return self.local / "key_ring"

    @cached_property
    def trusted(self) -> Path:
        """Which addresses, selectors and references were confirmed on this machine, by profile."""
        return self.local / "trusted"

    @cached_property
    def counters(self) -> Path:
        """How new the encrypted data is that this machine has seen, a file for each profile."""
        return self.local / "counters"

    def counters_of(self, profile_id: str) -> Path:
        """The same for one profile, whose id must have been validated."""
        return self.counters / f"{self.profile(profile_id).directory.name}.json"

    @cached_property
    def seen(self) -> Path:
        """Which profiles have had browser data on this machine, a file for each profile."""
        return self.local / "seen"

    def seen_of(self, profile_id: str) -> Path:
        """The same for one profile, whose id must have been validated."""
        return self.seen / f"{self.profile(profile_id).directory.name}.json"

    @cached_property
    def leases(self) -> Path:
        """The leases that programs of this machine have, with the backend ``file``."""
        return self.local / "leases"

    @cached_property
    def moving(self) -> Path:
        """Notes of directories that are moved by copying them."""
        return self.local / "moving"

    @cached_property
    def workshop(self) -> Path:
        """What imports, clones and snapshots build without the repository's lock."""
        return self.local / "work"

    @cached_property
    def locks(self) -> Path:
        """The repository's lock and the content of our git lock files."""
        return self.local / "locks"

    @cached_property
    def head_cache(self) -> Path:
        """Derived from HEAD; may be removed at any time."""
        return self.local / "cache" / "head"

    @cached_property
    def listing_cache(self) -> Path:
        """Derived from metadata.json of all; may be removed at any time."""
        return self.local / "cache" / "profiles"

    @cached_property
    def browser_cache(self) -> Path:
        """The versions of the browsers of this machine; may be removed at any time."""
        return self.local / "cache" / "browsers"

    def profile(self, profile_id: str) -> ProfilePaths:
        """The paths of one profile; the id must have been validated.

        Raises:
            InvalidProfileIdError: it was not, and the path would not be that of a profile.
        """
        known = self._known.get(profile_id)
        if known is None:
            if not is_safe_name(profile_id):
                raise InvalidProfileIdError(
                    f"{ascii(profile_id)[:60]} is not the name of a profile's directory",
                    hint="a commit has a directory of this name; tweakio leaves it alone",
                )
            known = self._known[profile_id] = ProfilePaths(self.profiles / profile_id)
        return known

    def relative(self, path: Path) -> str:
        """A path below the home as it is written into the journal."""
        return path.relative_to(self.home).as_posix()
