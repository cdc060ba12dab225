"""Leases in Redis: between machines."""

from __future__ import annotations

import inspect
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from tweakio.errors import InvalidInputError, LeaseError, MissingExtraError, command
from tweakio.lease.answers import explain
from tweakio.lease.backends import LeaseRecord

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["RedisBackend"]

# Each is run by Redis as one step (https://redis.io/docs/latest/develop/programmability/).
# The token counts on from the server's clock in milliseconds, so that it does not begin anew
# after a server lost its data. Whoever can write to the server can write anything there: a last
# token that is none of ours is named, and never counted on from. Lua's numbers are exact to 2^53.
_ACQUIRE: Final = """
local holder = redis.call('HGET', KEYS[1], 'holder')
if holder and holder ~= ARGV[1] then return '' end
local now = redis.call('TIME')
local token = math.floor(now[1] * 1000 + now[2] / 1000)
local last = redis.call('GET', KEYS[2]) or '0'
if #last > 16 or not string.find(last, '^[0-9]+$') or tonumber(last) >= 9007199254740991 then
  return 'poisoned'
end
if token <= tonumber(last) then token = tonumber(last) + 1 end
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
_TOKEN: Final = re.compile(rb"[0-9]{1,16}")
_LONGEST_HOLDER: Final = 512
_LONGEST_LEASE: Final = 86400 * 1000
_POISONED: Final = b"poisoned"


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
        # Before redis-py 6 that was no by default: any certificate of any host was taken.
        options = {"ssl_check_hostname": True} if url.startswith("rediss://") else {}
        self._timeout, self._tls = timeout, bool(options)
        try:
            self._client: Any = redis.Redis.from_url(
                url,
                **options,
                socket_timeout=timeout,
                socket_connect_timeout=timeout,
                # By itself it would try again for longer than a lease lasts.
                retry=Retry(NoBackoff(), 0),
                **_without_greetings(redis.Connection),
            )
            # Options are only looked at for a connection; this one is not made yet.
            self._client.connection_pool.make_connection()
        except (ValueError, TypeError, AttributeError, redis.RedisError):
            # Its message may have the address in it.
            raise InvalidInputError(
                "the address of the lease backend cannot be used",
                hint="give one such as redis://HOST:PORT/DATABASE; after a '?' stand options of"
                " redis-py, such as ssl_ca_certs=FILE",
            ) from None

    @contextmanager
    def _asking(self, *keys: str) -> Iterator[None]:
        try:
            yield
        except (self._error, OSError) as error:
            if "WRONGTYPE" in str(error)[:200]:
                raise _poisoned(*keys) from None
            raise explain(error, self._timeout, tls=self._tls) from None

    def _run(self, script: str, profile: str, *arguments: object) -> Any:
        keys = _keys(profile)
        with self._asking(*keys):
            return self._client.eval(script, len(keys), *keys, *arguments)

    def acquire(self, profile: str, holder: str, ttl: float) -> int | None:
        """See ``LeaseBackend``."""
        token = self._run(_ACQUIRE, profile, holder, _milliseconds(ttl))
        if token == _POISONED:
            raise _poisoned(_keys(profile)[1])
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
            answers = questions.execute(raise_on_error=False)
        found = {}
        for profile, answer in zip(profiles, answers, strict=True):
            if isinstance(answer, Exception):
                with self._asking(*_keys(profile)):
                    raise answer
            if answer:
                found[profile] = _record(profile, *answer)
        return found

    def close(self) -> None:
        """Close the connections."""
        with self._asking():
            self._client.close()


def _without_greetings(connection: type) -> dict[str, Any]:
    """Options that spare questions at its start; for each an answer would be waited for.

    That is the library's name, its version, and a newer protocol, of which nothing is used.
    """
    inits = [base.__init__ for base in connection.__mro__]  # type: ignore[misc]
    if any("driver_info" in inspect.signature(init).parameters for init in inits):
        return {"driver_info": None, "protocol": 2}
    return {"lib_name": None, "lib_version": None, "protocol": 2}  # before redis-py 7.2


def _keys(profile: str) -> tuple[str, str]:
    # The braces keep both on one node of a cluster.
    return f"tweakio:{{{profile}}}:lease", f"tweakio:{{{profile}}}:fence"


def _record(profile: str, holder: object, token: object, left: object) -> LeaseRecord:
    """A lease as Redis has it.

    Raises:
        LeaseError: something in it is nothing that a holder of ours writes.
    """
    if (
        isinstance(holder, bytes)
        and isinstance(token, bytes)
        and type(left) is int
        and len(holder) <= _LONGEST_HOLDER
        and _TOKEN.fullmatch(token)
        # Without an expiry (-1) nobody could ever have the lease again.
        and 0 <= left <= _LONGEST_LEASE
    ):
        return LeaseRecord(holder.decode("utf-8", "replace"), int(token), left / 1000)
    raise _poisoned(_keys(profile)[0])


def _poisoned(*keys: str) -> LeaseError:
    names = " or ".join(keys)
    return LeaseError(
        f"the key {names} in Redis holds something that tweakio did not write",
        hint="find out who can write there; when nobody uses the profile: "
        + command("redis-cli DEL", *keys),
    )


def _milliseconds(seconds: float) -> int:
    return max(int(seconds * 1000), 1)
