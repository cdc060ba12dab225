"""Which profiles a command is about: named, or selected by tag and platform."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tweakio.errors import InvalidInputError, ProfileNotFoundError
from tweakio.models import composed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tweakio.manager import ProfileManager
    from tweakio.models import Profile

__all__ = ["Selection", "make_selection"]


class Selection(NamedTuple):
    """What was given; either ids, or tags and platforms."""

    ids: tuple[str, ...]
    tags: tuple[str, ...]
    platform: str | None

    def resolve(self, manager: ProfileManager, *, corrupted_only: bool = False) -> list[str]:
        """The ids.

        Args:
            manager: of the home.
            corrupted_only: of a selection take only the damaged profiles, by what HEAD says
                of them; named ones are taken as they are.

        Raises:
            ProfileNotFoundError: nothing fits.
        """
        if self.ids:
            return list(self.ids)
        if self.platform is not None:
            manager.validator.validate_platform(self.platform)
        found = [
            profile.id
            for profile in manager.list_profiles(status="corrupted" if corrupted_only else None)
            if self._fits(manager, profile)
        ]
        if not found:
            what = "damaged profile" if corrupted_only else "profile"
            raise ProfileNotFoundError(
                f"no {what} fits the selection", hint="run 'tweakio profile list' to see them"
            )
        return found

    def _fits(self, manager: ProfileManager, profile: Profile) -> bool:
        platform, tags = profile.platform, set(profile.tags)
        if not platform:
            platform, tags = _committed(manager, profile.id)
        return self.platform in (None, platform) and tags.issuperset(self.tags)


def _committed(manager: ProfileManager, profile_id: str) -> tuple[str, set[str]]:
    """Platform and tags of a damaged profile as they were last committed."""
    from tweakio import schema
    from tweakio.errors import TweakioError
    from tweakio.store.worktree import METADATA

    repository = manager.repository
    content = repository.file_at(repository.head().root, profile_id, METADATA)
    try:
        value = schema.load(content or b"", profile_id)
    except TweakioError:
        return "", set()
    return str(value["platform"]), set(map(composed, value.get("tags") or ()))


def make_selection(
    ids: Sequence[str] | None, tags: Sequence[str] | None, platform: str | None, names: str
) -> Selection:
    """Check that there are ids or a selection, and not both.

    Args:
        ids: named profiles.
        tags: all of which a profile must have.
        platform: which it must be of.
        names: the options, for the message.

    Raises:
        InvalidInputError: there is neither, or both.
    """
    selected = bool(tags) or platform is not None
    if bool(ids) == selected:
        problem = "ids and a selection were both given" if ids else "no profile was given"
        raise InvalidInputError(problem, hint=f"name profiles, or select them with {names}")
    return Selection(tuple(ids or ()), tuple(map(composed, tags or ())), platform)
