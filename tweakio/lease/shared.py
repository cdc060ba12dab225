"""Leases in Redis: between machines."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from tweakio.errors import InvalidInputError, LeaseError, MissingExtraError
from tweakio.lease.backends import LeaseRecord

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["RedisBackend"]

# Each is run by Redis as one step (https://redis.io/docs/latest/develop/programmability/).
# The token counts on from the server's clock in milliseconds, so that it does not begin anew
# after a server lost its data.
_ACQUIRE: Final = """
local holder = redis.call('HGET', KEYS[1], 'holder')
if holder and holder ~= ARGV[1] then return '' end
local now = redis.call('TIME')
local token = math.floor(now[1] * 1000 + now[2] / 1000)
local last = tonumber(redis.call('GET', KEYS[2]) or '0')
if token <= last then token = last + 1 end
local text = string.format('%.0f', token)
redis.call('SET', KEYS[2], text)
redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'token', text)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return text
"""
_RENEW: Final = """
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
_RELEASE: Final = """
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""
_READ: Final = """
local found = redis.call('HMGET', KEYS[1], 'holder', 'token')
if not found[1] then return {} end
return {found[1], found[2], redis.call('PTTL', KEYS[1])}
"""


class RedisBackend:
    """Two keys for each profile: the lease, which expires by itself, and the last token.

    Args:
        url: as redis-py understands it.
        timeout: seconds that an answer may take.
    """

    def __init__(self, url: str, *, timeout: float) -> None:
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError:
            raise MissingExtraError(
                "leases in Redis need the package redis, which is not installed",
                hint="run pip install 'tweakio[redis]'",
                extra="redis",
            ) from None
        self._error: type[Exception] = redis.RedisError
        try:
            self._client: Any = redis.Redis.from_url(
                url,
                decode_responses=True,
                socket_timeout=timeout,
                socket_connect_timeout=timeout,
                # By itself it would try again for longer than a lease lasts.
                retry=Retry(NoBackoff(), 0),
            )
        except (ValueError, TypeError):
            # Its message may have the address in it.
            raise InvalidInputError(
                "the address of the lease backend cannot be used",
                hint="give one such as redis://HOST:PORT/DATABASE",
            ) from None

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except (self._error, OSError) as error:
            # What the library says may have the password in it.
            raise LeaseError(
                f"the lease backend does not answer ({type(error).__name__})",
                hint="see that Redis runs and can be reached: tweakio repo lease status",
            ) from None

    def _run(self, script: str, profile: str, *arguments: object) -> Any:
        keys = _keys(profile)
        with self._asking():
            return self._client.eval(script, len(keys), *keys, *arguments)

    def acquire(self, profile: str, holder: str, ttl: float) -> int | None:
        """See ``LeaseBackend``."""
        token = self._run(_ACQUIRE, profile, holder, _milliseconds(ttl))
        return int(token) if token else None

    def renew(self, profile: str, token: int, ttl: float) -> bool:
        """See ``LeaseBackend``."""
        return bool(self._run(_RENEW, profile, str(token), _milliseconds(ttl)))

    def release(self, profile: str, token: int) -> bool:
        """See ``LeaseBackend``."""
        return bool(self._run(_RELEASE, profile, str(token)))

    def read(self, profiles: Sequence[str]) -> dict[str, LeaseRecord]:
        """See ``LeaseBackend``."""
        with self._asking(), self._client.pipeline(transaction=False) as questions:
            for profile in profiles:
                questions.eval(_READ, 2, *_keys(profile))
            answers = questions.execute()
        return {
            profile: LeaseRecord(str(holder), int(token), max(int(left), 0) / 1000)
            for profile, (holder, token, left) in zip(
                profiles, (answer or ("", 0, 0) for answer in answers), strict=True
            )
            if holder
        }

    def close(self) -> None:
        """Close the connections."""
        with self._asking():
            self._client.close()


def _keys(profile: str) -> tuple[str, str]:
    # The braces keep both on one node of a cluster.
    return f"tweakio:{{{profile}}}:lease", f"tweakio:{{{profile}}}:fence"


def _milliseconds(seconds: float) -> int:
    return max(int(seconds * 1000), 1)
