"""What holds leases for one ``ProfileLockManager``, and renews them in the background."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from typing import TYPE_CHECKING

from tweakio.errors import LeaseError, LeaseLostError, TweakioError
from tweakio.lease.backends import open_backend
from tweakio.lease.settings import LeaseSettings, read_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from tweakio.layout import Layout
    from tweakio.lease.backends import LeaseBackend

__all__ = ["LeaseHolder", "holder_name", "parse_holder"]

log = logging.getLogger(__name__)


def _now() -> float:
    """Seconds on a clock that nobody sets, and that goes on while the machine sleeps."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


def holder_name() -> str:
    """A name that no other holder has: machine, process, and a random part."""
    return f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"


def parse_holder(name: str) -> tuple[str, int]:
    """Machine and process of a holder; 0 if the name is nobody's of ours."""
    host, _, rest = name.partition("/")
    process = rest.partition("/")[0]
    return host, int(process) if process.isascii() and process.isdigit() else 0


class _Lease:
    """One lease that is held, or was lost."""

    def __init__(
        self, profile_id: str, backend: LeaseBackend, ttl: float, token: int, since: float
    ) -> None:
        self.profile_id = profile_id
        self.backend = backend
        self.ttl = ttl
        self.token = token
        self.expires = since + ttl
        self.next = since + ttl / 3
        self.lost = False
        self.on_lost: list[Callable[[], None]] = []
        # A renewal and a commit do not speak with the backend at once.
        self.asking = threading.Lock()


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
        """Take the lease of a profile whose lock was taken just now.

        Raises:
            LeaseError: another has it, or the backend does not answer.
        """
        settings = read_settings(self._layout)
        if settings is None:
            return
        backend = self._open(settings)
        since = _now()
        token = backend.acquire(profile_id, self.name, settings.ttl)
        if token is None:
            raise held_error(profile_id, backend)
        lease = _Lease(profile_id, backend, settings.ttl, token, since)
        with self._changed:
            self._given.pop(profile_id, None)
            self._leases[profile_id] = lease
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._renew, name="tweakio-leases", daemon=True
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
        """Have something called when a lease is lost, in another thread.

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

    def known(self) -> list[str]:
        """The profiles whose lease this holder has or has lost."""
        with self._changed:
            return sorted({*self._leases, *self._given})

    def fence(self, profile_id: str) -> int:
        """The token of a profile's lease, confirmed just now if the backend answers.

        Raises:
            LeaseLostError: it was lost.
        """
        self.refuse_lost(profile_id)
        lease = self._leases[profile_id]
        self._confirm(lease)
        self.refuse_lost(profile_id)
        return lease.token

    # Renewing

    def _confirm(self, lease: _Lease) -> None:
        """Renew a lease, or find that it is lost."""
        with lease.asking:
            if lease.lost or self._leases.get(lease.profile_id) is not lease:
                return
            since = _now()
            if since < lease.expires:
                try:
                    held = lease.backend.renew(lease.profile_id, lease.token, lease.ttl)
                except (TweakioError, OSError) as error:
                    log.warning(
                        "the lease of profile %s is not renewed: %s", lease.profile_id, error
                    )
                    lease.next = min(_now() + lease.ttl / 10, lease.expires)
                    if _now() < lease.expires:
                        return
                else:
                    if held:
                        lease.expires, lease.next = since + lease.ttl, since + lease.ttl / 3
                        return
            lease.lost = True
        log.error("the lease of profile %s was lost", lease.profile_id)
        with self._changed:
            callbacks, lease.on_lost = lease.on_lost, []
        for lost in callbacks:
            try:
                lost()
            except Exception:
                log.exception("the end of the lease of profile %s", lease.profile_id)

    def _renew(self) -> None:
        """Until no lease is left."""
        while True:
            with self._changed:
                held = [lease for lease in self._leases.values() if not lease.lost]
                if not held:
                    self._thread = None
                    return
                due = min(held, key=lambda lease: lease.next)
                wait = due.next - _now()
                if wait > 0:
                    self._changed.wait(wait)
                    continue
            self._confirm(due)


def held_error(profile_id: str, backend: LeaseBackend) -> LeaseError:
    """The error for a lease that another holder has."""
    found = backend.read(profile_id)
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
