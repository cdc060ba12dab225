"""Which backend was set for the repository."""

from __future__ import annotations

import json
import math
import os
import secrets
from typing import TYPE_CHECKING, NamedTuple

from tweakio import durable
from tweakio.errors import InvalidInputError, LeaseError, is_of_the_moment, storage_error
from tweakio.lease.backends import check_url

if TYPE_CHECKING:
    from tweakio.layout import Layout
    from tweakio.store.repository import Repository

__all__ = ["DEFAULT_TTL", "LeaseSettings", "read_settings", "write_settings"]

DEFAULT_TTL = 30.0


class LeaseSettings(NamedTuple):
    """The backend's address, and the seconds that a lease lasts without being renewed."""

    url: str
    ttl: float


def read_settings(layout: Layout) -> LeaseSettings | None:
    """What was set; None if nothing was.

    Raises:
        LeaseError: it is damaged, so that it is not known whether leases are needed.
        StorageError: it cannot be read now.
    """
    try:
        value = json.loads(durable.read_regular(layout.lease, 1 << 16))
        return LeaseSettings(check_url(str(value["backend"])), _check_ttl(float(value["ttl"])))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        if isinstance(error, OSError) and is_of_the_moment(error):
            raise storage_error(error, "read the lease backend") from error
        raise LeaseError(
            f"{layout.lease} cannot be read", hint="set the backend again: tweakio repo lease use"
        ) from error


def _check_ttl(ttl: float) -> float:
    if not (math.isfinite(ttl) and 1 <= ttl <= 86400):
        raise InvalidInputError("a lease lasts 1 to 86400 seconds", hint="leave out --ttl for 30")
    return ttl


def write_settings(layout: Layout, repository: Repository, found: LeaseSettings | None) -> None:
    """Set the backend, or none.

    Raises:
        InvalidInputError: the address or the time cannot be used.
    """
    content = b""
    if found is not None:
        value = {"backend": check_url(found.url), "ttl": _check_ttl(found.ttl)}
        content = (json.dumps(value) + "\n").encode()
    path = layout.lease
    with repository.exclusive():
        try:
            if content:
                durable.make_directory(layout.temporary)
                durable.replace(path, content, layout.temporary / f"lease-{secrets.token_hex(8)}")
            elif os.path.lexists(path):
                durable.remove(path)
                durable.fsync_directory(path.parent)
        except OSError as error:
            raise storage_error(error, "set the lease backend") from error
