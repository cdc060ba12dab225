"""ProfileRegistry: the profiles as this program last saw them, in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tweakio.errors import ProfileExistsError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tweakio.models import Profile

__all__ = ["ProfileRegistry"]


class ProfileRegistry:
    """An index of profiles by id, and which of them this program has activated.

    It is derived: the repository is asked whenever something is decided.
    """

    def __init__(self) -> None:
        self._profiles: dict[str, Profile] = {}
        self._active: str | None = None

    def register(self, profile: Profile) -> None:
        """Add a profile.

        Raises:
            ProfileExistsError: its id, in whatever case, is registered.
        """
        folded = profile.id.lower()
        for other in self._profiles:
            if other.lower() == folded:
                raise ProfileExistsError(
                    f"profile '{other}' exists", hint="choose another id", profile_id=other
                )
        self._profiles[profile.id] = profile

    def unregister(self, profile_id: str) -> None:
        """Forget a profile; nothing to do if it is not registered."""
        self._profiles.pop(profile_id, None)
        if self._active == profile_id:
            self._active = None

    def refresh(self, profiles: Iterable[Profile]) -> None:
        """Replace everything by what the repository says now."""
        self._profiles = {profile.id: profile for profile in profiles}
        if self._active not in self._profiles:
            self._active = None

    def update(self, profile: Profile) -> None:
        """Register a profile or replace what is known of it."""
        self._profiles[profile.id] = profile

    def get(self, profile_id: str) -> Profile | None:
        """What is known of a profile."""
        return self._profiles.get(profile_id)

    def ids(self) -> list[str]:
        """The registered ids, in alphabetical order."""
        return sorted(self._profiles)

    def set_active(self, profile_id: str | None) -> None:
        """Note what this program has activated."""
        self._active = profile_id

    def get_active(self) -> str | None:
        """The profile that this program has activated, else the one that is selected.

        A profile that another live process holds is that one's, not ours.
        """
        if self._active is not None:
            return self._active
        return next(
            (
                profile.id
                for profile in self._profiles.values()
                if profile.status == "active" and not profile.in_use
            ),
            None,
        )

    def has_active(self) -> bool:
        """Whether there is one."""
        return self.get_active() is not None

    def is_active(self, profile_id: str) -> bool:
        """Whether a profile is active, by this program or by any other."""
        if self._active == profile_id:
            return True
        profile = self._profiles.get(profile_id)
        return profile is not None and profile.status == "active"
