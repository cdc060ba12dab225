"""What holds leases for one ``ProfileLockManager``, and renews them in the background."""

from __future__ import annotations

import logging
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

from tweakio.errors import LeaseError, LeaseLostError, TweakioError
from tweakio.lease.backends import open_backend, patience
from tweakio.lease.naming import holder_name, is_here, parse_holder
from tweakio.lease.settings import LeaseSettings, read_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from tweakio.layout import Layout
    from tweakio.lease.backends import LeaseBackend, LeaseRecord

__all__ = ["LeaseHolder", "held_error"]

log = logging.getLogger(__name__)

_MOST_WAIT = 1.0
"""Seconds: a wait does not count the time for which the machine sleeps."""


def _now() -> float:
    """Seconds on a clock that nobody sets, and that goes on while the machine sleeps."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class _Lease:
    """One lease that is held, or was lost.

    Attributes:
        expires: when others may have it.
        given_up: when it counts as lost. That is a third of its time earlier if the backend was
            asked and has not answered, so that the browser has closed before others open theirs.
        next: when it is renewed.
        busy: whether that is under way in the background.
    """

    def __init__(
        self, profile_id: str, backend: LeaseBackend, ttl: float, token: int, since: float
    ) -> None:
        self.profile_id = profile_id
        self.backend = backend
        self.ttl = ttl
        self.token = token
        self.lost = False
        self.busy = False
        self.on_lost: list[Callable[[], None]] = []
        # A renewal and a commit do not speak with the backend at once.
        self.asking = threading.Lock()
        self.confirm(since)

    def confirm(self, since: float) -> None:
        """The backend was asked then, and has said that it is held."""
        self.expires = self.given_up = since + self.ttl
        self.next = since + self.ttl / 3

    def doubt(self, now: float) -> None:
        """The backend is asked; nothing is known until it has answered."""
        if self.given_up == self.expires:
            early = max(now + patience(self.ttl), self.expires - self.ttl / 3)
            self.given_up = min(early, self.expires)


class LeaseHolder:
    """Takes, renews and gives back the leases of what one lock manager has locked.

    Args:
        layout: of the home; says which backend there is.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._leases: dict[str, _Lease] = {}
        self._given: dict[str, int] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._backend: tuple[LeaseSettings, LeaseBackend] | None = None
        self.name = holder_name()

    def _open(self, settings: LeaseSettings) -> LeaseBackend:
        if self._backend is None or self._backend[0] != settings:
            backend = open_backend(settings.url, self._layout, settings.ttl)
            self._backend = settings, backend
        return self._backend[1]

    def take(self, profile_id: str) -> None:
        """Take the lease of a profile whose lock was taken just now, unless it is held here.

        Raises:
            LeaseError: another has it, or the backend does not answer.
        """
        held = self._leases.get(profile_id)
        if held is not None and not held.lost:
            return
        settings = read_settings(self._layout)
        if settings is None:
            return
        backend = self._open(settings)
        since = _now()
        token = backend.acquire(profile_id, self.name, settings.ttl)
        if token is None:
            raise held_error(profile_id, backend.read([profile_id]).get(profile_id))
        lease = _Lease(profile_id, backend, settings.ttl, token, since)
        with self._changed:
            self._given.pop(profile_id, None)
            self._leases[profile_id] = lease
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._keep, name="tweakio-leases", daemon=True
                )
                self._thread.start()
            self._changed.notify_all()

    def give(self, profile_id: str) -> None:
        """Give back the lease of a profile whose lock is about to be released.

        One that cannot be given back expires. That one was lost is kept in mind: this holder's
        commits to that profile are refused until it has a lease of it again.
        """
        with self._changed:
            lease = self._leases.pop(profile_id, None)
            if lease is None:
                return
            if lease.lost:
                self._given[profile_id] = lease.token
            self._changed.notify_all()
        if lease.lost:
            return
        with lease.asking:
            try:
                lease.backend.release(profile_id, lease.token)
            except TweakioError as error:
                log.warning(
                    "the lease of profile %s was not given back and expires: %s", profile_id, error
                )

    def watch(self, profile_id: str, lost: Callable[[], None]) -> None:
        """Have something called when a lease is lost, in a thread of its own.

        Raises:
            LeaseLostError: it is lost already.
        """
        with self._changed:
            lease = self._leases.get(profile_id)
            if lease is not None and not lease.lost:
                lease.on_lost.append(lost)
                return
        self.refuse_lost(profile_id)

    def is_lost(self, profile_id: str) -> bool:
        """Whether the lease was lost and not taken again since."""
        lease = self._leases.get(profile_id)
        return profile_id in self._given if lease is None else lease.lost

    def refuse_lost(self, profile_id: str) -> None:
        """Return unless the lease was lost.

        Raises:
            LeaseLostError: it was.
        """
        if self.is_lost(profile_id):
            raise LeaseLostError(
                f"the lease of profile '{profile_id}' was lost; nothing was changed",
                hint="close the profile and open it again: 'tweakio repo lease status' says whose"
                " it is",
                profile_id=profile_id,
            )

    def tokens(
        self,
        profile_ids: Sequence[str],
        is_owner: Callable[[str, int], bool],
        strict: Collection[str],
    ) -> dict[str, int]:
        """The tokens of the leases under which profiles are changed now.

        A program that has no lease itself, such as a command that sets a note, makes its change
        under the one that a program of the same home has.

        Args:
            profile_ids: what is about to be changed.
            is_owner: whether a profile's lock is held by a live process of this id.
            strict: those of them of which another machine must not have the lease.

        Returns:
            By profile; those whose lease nobody has are left out.

        Raises:
            LeaseLostError: this holder had one and lost it.
            LeaseError: another machine has one, or the backend does not answer.
        """
        found = {}
        others = []
        for profile_id in profile_ids:
            self.refuse_lost(profile_id)
            lease = self._leases.get(profile_id)
            if lease is None:
                others.append(profile_id)
                continue
            self._renew(lease)
            self.refuse_lost(profile_id)
            found[profile_id] = lease.token
        try:
            records = self._read(others)
        except TweakioError as error:
            if not set(strict).isdisjoint(others):
                raise
            log.warning("whose the leases are is not known: %s", error)
            return found
        for profile_id, record in records.items():
            if is_here(record.holder) and is_owner(profile_id, parse_holder(record.holder)[1]):
                found[profile_id] = record.token
            elif profile_id in strict:
                raise held_error(profile_id, record)
        return found

    def _read(self, profile_ids: Sequence[str]) -> dict[str, LeaseRecord]:
        settings = read_settings(self._layout) if profile_ids else None
        return {} if settings is None else self._open(settings).read(profile_ids)

    # Renewing

    def _keep(self) -> None:
        """Renew what is due and tell what is lost, until no lease is left.

        Nothing here waits for a backend, which may hang for longer than a lease lasts.
        """
        while True:
            with self._changed:
                held = [lease for lease in self._leases.values() if not lease.lost]
                if not held:
                    self._thread = None
                    return
                now = _now()
                over = [lease for lease in held if now >= lease.given_up]
                due = [lease for lease in held if now >= lease.next and not lease.busy]
                if not over and not due:
                    wake = min(
                        lease.given_up if lease.busy else min(lease.given_up, lease.next)
                        for lease in held
                    )
                    self._changed.wait(min(wake - now, _MOST_WAIT))
                    continue
                for lease in due:
                    lease.busy = True
            for lease in over:
                self._lose(lease)
            for lease in due:
                _in_background(partial(self._renew, lease))

    def _renew(self, lease: _Lease) -> None:
        """Ask the backend for another period, and learn whether the lease is still held."""
        try:
            with lease.asking:
                since = _now()
                with self._changed:
                    if lease.lost or self._leases.get(lease.profile_id) is not lease:
                        return
                    is_over = since >= lease.given_up
                    lease.doubt(since)
                    self._changed.notify_all()
                if is_over or not self._is_renewed(lease, since):
                    self._lose(lease)
        finally:
            with self._changed:
                lease.busy = False
                self._changed.notify_all()

    def _is_renewed(self, lease: _Lease, since: float) -> bool:
        """False if the lease is another's; true also if nobody says so."""
        try:
            held = lease.backend.renew(lease.profile_id, lease.token, lease.ttl)
        except (TweakioError, OSError) as error:
            log.warning("the lease of profile %s is not renewed: %s", lease.profile_id, error)
            with self._changed:
                lease.next = _now() + lease.ttl / 10
                return _now() < lease.given_up
        if held:
            with self._changed:
                if not lease.lost:
                    lease.confirm(since)
        return held

    def _lose(self, lease: _Lease) -> None:
        with self._changed:
            if lease.lost:
                return
            lease.lost = True
            callbacks, lease.on_lost = lease.on_lost, []
            self._changed.notify_all()
        log.error("the lease of profile %s was lost", lease.profile_id)
        for lost in callbacks:
            # A browser takes a while to close, and there may be more than one.
            _in_background(partial(_call, lost, lease.profile_id))


def _in_background(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="tweakio-lease", daemon=True).start()


def _call(lost: Callable[[], None], profile_id: str) -> None:
    try:
        lost()
    except (TweakioError, OSError) as error:
        log.warning("after the loss of the lease of profile %s: %s", profile_id, error)


def held_error(profile_id: str, found: LeaseRecord | None) -> LeaseError:
    """The error for a lease that another holder has.

    Args:
        profile_id: of which profile.
        found: the lease; None if it was let go of meanwhile.
    """
    if found is None:
        what, left = "somebody who has just let go", 0.0
    else:
        host, process = parse_holder(found.holder)
        what, left = f"process {process} on {ascii(host)[1:-1][:80]}", found.expires_in
    return LeaseError(
        f"the lease of profile '{profile_id}' is held by {what}",
        hint=f"close it there; if that program died, the lease expires within {left:.0f} s",
        profile_id=profile_id,
        holder="" if found is None else found.holder,
    )
