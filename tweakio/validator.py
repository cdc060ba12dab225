"""ProfileValidator: the rules about names and about what may be deleted."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tweakio.errors import (
    InvalidInputError,
    InvalidProfileIdError,
    ProfileActiveError,
    UnknownPlatformError,
)
from tweakio.models import composed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tweakio.models import Profile

__all__ = ["ProfileValidator"]

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}", re.ASCII)
# Windows opens the device for these names in every directory, whatever the case
# (Microsoft, "Naming Files, Paths, and Namespaces").
_DEVICES = frozenset(
    ["con", "prn", "aux", "nul", "conin$", "conout$", "clock$"]
    + [f"{kind}{digit}" for kind in ("com", "lpt") for digit in range(10)]
)
_MAX_TAG = 64


class ProfileValidator:
    """Rules that need no disk. Replace it to make them stricter."""

    def validate_id(self, profile_id: object) -> str:
        """Check the text of an id, before any path is built from it.

        Args:
            profile_id: letters, digits, ``_`` and ``-``, 1 to 32 of them, the first a
                letter or digit.

        Returns:
            The id.

        Raises:
            InvalidProfileIdError: it is something else, or a name that Windows reserves.
        """
        if not isinstance(profile_id, str) or not _ID.fullmatch(profile_id):
            shown = repr(profile_id)
            raise InvalidProfileIdError(
                f"{shown[:60]} is not a profile id",
                hint="use 1 to 32 letters, digits, '_' and '-', starting with a letter or digit",
                profile_id=profile_id,
            )
        if profile_id.lower() in _DEVICES:
            raise InvalidProfileIdError(
                f"{profile_id!r} is a reserved device name on Windows",
                hint="choose another id",
                profile_id=profile_id,
            )
        return profile_id

    def is_id(self, text: object) -> bool:
        """Whether ``validate_id`` would accept it."""
        try:
            self.validate_id(text)
        except InvalidProfileIdError:
            return False
        return True

    def validate_platform_name(self, name: object) -> str:
        """Check that a text can be a platform's name; it need not be registered.

        Raises:
            InvalidInputError: it cannot.
        """
        from tweakio.platforms import check_name

        return check_name(name)

    def validate_platform(self, platform: object) -> str:
        """Check that a platform is registered, here or by an installed package.

        Raises:
            UnknownPlatformError: it is not.
        """
        from tweakio.platforms import find_platform, platform_names

        if not isinstance(platform, str) or find_platform(platform) is None:
            raise UnknownPlatformError(
                f"unknown platform {repr(platform)[:60]}",
                hint=f"registered are: {', '.join(platform_names())}",
                platform=platform,
            )
        return platform

    def validate_tag(self, tag: object) -> str:
        """Check one tag: 1 to 64 printable characters without spaces at its ends.

        Returns:
            The tag as it is kept: in Unicode's composed form (NFC).

        Raises:
            InvalidInputError: it is something else.
        """
        if (
            not isinstance(tag, str)
            or not 1 <= len(tag) <= _MAX_TAG
            or not tag.isprintable()
            or tag != tag.strip()
        ):
            raise InvalidInputError(
                f"{repr(tag)[:60]} is not a tag", hint="use 1 to 64 printable characters"
            )
        return composed(tag)

    def find_case_collision(self, profile_id: str, existing: Iterable[str]) -> str | None:
        """An existing id that differs from this one only by case, if there is one.

        On the default file systems of macOS and Windows both would be one directory.
        """
        folded = profile_id.lower()
        return next(
            (other for other in existing if other != profile_id and other.lower() == folded), None
        )

    def can_delete(self, profile: Profile, *, force: bool = False) -> None:
        """Return if a profile may be deleted now.

        Args:
            profile: as it was just read.
            force: delete it although it is selected; a profile that a live process uses is
                refused all the same.

        Raises:
            ProfileActiveError: with what to do about it.
        """
        if profile.in_use:
            raise ProfileActiveError(
                f"profile '{profile.id}' is in use by {_holder(profile.lock_pid)}",
                hint="close it there first; --force does not end another process",
                profile_id=profile.id,
                pid=profile.lock_pid,
            )
        if profile.status == "active" and not force:
            raise ProfileActiveError(
                f"profile '{profile.id}' is active",
                hint="run 'tweakio profile deactivate' first, or use --force",
                profile_id=profile.id,
            )


def _holder(pid: int | None) -> str:
    """Who holds a lock; a program that locks the file without tweakio does not say who it is."""
    return f"process {pid}" if pid else "another process"
