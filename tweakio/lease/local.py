"""Leases in files: between the programs of one machine."""

from __future__ import annotations

import json
import math
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tweakio import durable
from tweakio.errors import LeaseError, LockTimeoutError, storage_error
from tweakio.lease.backends import LeaseRecord
from tweakio.lease.naming import is_dead
from tweakio.store.lockfile import RecordedLock

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["FileBackend"]

_WAIT = 5.0
_MOST_TOKEN = 1 << 53


class FileBackend:
    """A file for each profile that ever had a lease; it stays, because the token in it counts on.

    Times are the machine's, so that a lease expires also over a restart. That of a process which
    has ended is free at once.

    Args:
        directory: where the files are; made when the first lease is taken.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            durable.make_directory(self._directory)
            lock = RecordedLock(self._directory / "lock")
            lock.acquire(_WAIT)
            try:
                yield
            finally:
                lock.release()
        except LockTimeoutError as error:
            raise LeaseError(
                "the leases are kept locked by another program", hint="run it again"
            ) from error
        except OSError as error:
            raise storage_error(error, "keep a lease") from error

    def _path(self, profile: str) -> Path:
        return self._directory / f"{profile}.json"

    def _read(self, profile: str) -> tuple[str, int, float]:
        """Holder, last token and the time of expiry; what cannot be read must not begin anew."""
        try:
            value = json.loads(durable.read_regular(self._path(profile), 1 << 16))
            holder, token, expires = value["holder"], value["token"], float(value["expires"])
            if not (
                isinstance(holder, str)
                and type(token) is int
                and 0 <= token < _MOST_TOKEN
                and math.isfinite(expires)
            ):
                raise ValueError("not written by tweakio")
            return holder, token, expires
        except FileNotFoundError:
            return "", 0, 0.0
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise LeaseError(
                f"the lease of profile '{profile}' cannot be read",
                hint=f"remove {self._path(profile)} when nobody uses the profile",
                profile_id=profile,
            ) from error

    def _write(self, profile: str, holder: str, token: int, expires: float) -> None:
        content = json.dumps({"holder": holder, "token": token, "expires": expires}) + "\n"
        temporary = self._directory / f".{profile}.new"
        durable.remove(temporary)
        durable.replace(self._path(profile), content.encode(), temporary)

    def acquire(self, profile: str, holder: str, ttl: float) -> int | None:
        """See ``LeaseBackend``."""
        with self._alone():
            present, token, expires = self._read(profile)
            now = time.time()
            if present not in ("", holder) and expires > now and not is_dead(present):
                return None
            self._write(profile, holder, token + 1, now + ttl)
            return token + 1

    def renew(self, profile: str, token: int, ttl: float) -> bool:
        """See ``LeaseBackend``."""
        with self._alone():
            holder, present, expires = self._read(profile)
            now = time.time()
            if present != token or not holder or expires <= now:
                return False
            self._write(profile, holder, token, now + ttl)
            return True

    def release(self, profile: str, token: int) -> bool:
        """See ``LeaseBackend``."""
        with self._alone():
            holder, present, _ = self._read(profile)
            if present != token or not holder:
                return False
            self._write(profile, "", token, 0.0)
            return True

    def read(self, profiles: Sequence[str]) -> dict[str, LeaseRecord]:
        """See ``LeaseBackend``."""
        found = {}
        # A file is replaced as a whole, so reading needs no lock.
        try:
            present = set(os.listdir(self._directory))
            for profile in profiles:
                if f"{profile}.json" in present:
                    holder, token, expires = self._read(profile)
                    left = expires - time.time()
                    if holder and left > 0 and not is_dead(holder):
                        found[profile] = LeaseRecord(holder, token, left)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise storage_error(error, "read a lease") from error
        return found
