"""``manager.leases``: which backend is set, who has which lease, and taking one away."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tweakio.errors import LeaseError, ProfileNotFoundError, in_the_tree
from tweakio.lease.backends import check_url, open_backend
from tweakio.lease.holder import held_error
from tweakio.lease.naming import is_dead
from tweakio.lease.settings import DEFAULT_TTL, LeaseSettings, read_settings, write_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from tweakio.layout import Layout
    from tweakio.store.repository import Repository

__all__ = ["Lease", "LeaseStatus", "Leases"]


class Lease(NamedTuple):
    """Who has a profile now.

    Attributes:
        profile_id: which.
        holder: machine, process and a random part, with slashes between them.
        token: the fencing token.
        expires_in: seconds that are left if it is not renewed.
    """

    profile_id: str
    holder: str
    token: int
    expires_in: float


class LeaseStatus(NamedTuple):
    """The backend and the leases that are held.

    Attributes:
        backend: its address as it was set; empty without one.
        ttl: seconds that a lease lasts without being renewed.
        leases: by profile.
    """

    backend: str
    ttl: float
    leases: list[Lease]


@in_the_tree
class Leases:
    """One machine at a time on each profile; see docs/lease.md.

    Args:
        layout: of the home.
        repository: opens and makes the repository.
        names: the ids of the profiles.
    """

    def __init__(
        self,
        layout: Layout,
        repository: Callable[[], Repository],
        names: Callable[[], list[str]],
    ) -> None:
        self._layout = layout
        self._repository = repository
        self._names = names

    def use(self, url: str | None, *, ttl: float = DEFAULT_TTL) -> None:
        """Set the backend for this repository; what is held now is not touched.

        Args:
            url: ``file`` for this machine, ``redis://HOST:PORT/DATABASE`` or ``rediss://...``
                without a password, or ``env:NAME`` for a variable that has it; None for none.
            ttl: seconds that a lease lasts without being renewed, 1 to 86400.

        Raises:
            InvalidInputError: the address or the time cannot be used.
            MissingExtraError: the backend's package is not installed.
            LeaseError: the backend does not answer.
        """
        settings = None if url is None else LeaseSettings(url, ttl)
        if settings is None:
            write_settings(self._layout, self._repository(), None)
            return
        check_url(settings.url)
        # One that cannot be asked would keep every profile from being opened.
        open_backend(settings.url, self._layout, ttl).read(["-"])
        write_settings(self._layout, self._repository(), settings)

    def status(self) -> LeaseStatus:
        """The backend, and who has which profile.

        Raises:
            LeaseError: the backend does not answer.
        """
        settings = read_settings(self._layout)
        if settings is None:
            return LeaseStatus("", DEFAULT_TTL, [])
        backend = open_backend(settings.url, self._layout, settings.ttl)
        found = backend.read(self._names())
        leases = [Lease(profile_id, *record) for profile_id, record in found.items()]
        return LeaseStatus(settings.url, settings.ttl, leases)

    def release(self, profile_id: str, *, force: bool = False) -> Lease | None:
        """Give back a lease whose holder died before it expires.

        Args:
            profile_id: an existing profile.
            force: also if the holder may be alive; it is refused from its next commit on, and
                closes its browser when it notices, after a third of the time of a lease.

        Returns:
            The lease that was given back; None if nobody had it.

        Raises:
            ProfileNotFoundError: there is no such profile.
            LeaseError: no backend is set, or the holder is not known to be dead.
        """
        if profile_id not in self._names():
            raise ProfileNotFoundError(
                f"no profile '{profile_id}'",
                hint="run 'tweakio profile list'",
                profile_id=profile_id,
            )
        settings = read_settings(self._layout)
        if settings is None:
            raise LeaseError("no lease backend is set", hint="run 'tweakio repo lease use URL'")
        backend = open_backend(settings.url, self._layout, settings.ttl)
        found = backend.read([profile_id]).get(profile_id)
        if found is None:
            return None
        if not force and not is_dead(found.holder):
            error = held_error(profile_id, found)
            error.hint = "close it there, or take it away with --force"
            raise error
        return Lease(profile_id, *found) if backend.release(profile_id, found.token) else None
