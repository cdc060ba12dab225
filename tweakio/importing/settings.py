"""What all kinds of sources have in common: the new profile's settings, and reading a file."""

from __future__ import annotations

import errno
import json
import os
from typing import TYPE_CHECKING, Any

from tweakio import durable
from tweakio.editing import new_profiles
from tweakio.errors import ForeignDataError, storage_error
from tweakio.models import utc_now
from tweakio.validator import ProfileValidator

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

__all__ = ["read_file", "read_json", "settings"]


def settings(
    profile_id: str,
    platform: str,
    *,
    tags: Iterable[str] = (),
    note: str = "",
    platform_version: str | None = None,
    platform_config: Mapping[str, Any] | None = None,
    browser: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The metadata of a profile that comes from elsewhere; see ``create_profile``."""
    return new_profiles(
        [profile_id],
        platform,
        ProfileValidator(),
        utc_now(),
        tags=tags,
        note=note,
        platform_version=platform_version,
        platform_config=platform_config,
        browser=browser,
    )[0]


def read_file(path: Path, limit: int) -> bytes:
    """A regular file, which is no link.

    Raises:
        ForeignDataError: it is something else, or larger than ``limit`` bytes.
        StorageError: it cannot be read.
    """
    try:
        return durable.read_regular(path, limit)
    except FileNotFoundError:
        raise ForeignDataError(f"there is no file {os.fspath(path)!r}") from None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EINVAL, errno.EISDIR):
            raise ForeignDataError(
                f"{os.fspath(path)!r} is no regular file", hint="name the file itself, not a link"
            ) from None
        if error.errno == errno.EFBIG:
            raise ForeignDataError(f"{path.name!r} is larger than {limit} bytes") from None
        raise storage_error(error, f"read {path.name!r}", ours=False) from error


def read_json(path: Path, limit: int) -> dict[str, Any]:
    """A JSON object out of a file. Errors never quote it: it may hold a login.

    Raises:
        As ``read_file``; ForeignDataError also for what is no JSON object.
    """
    content = read_file(path, limit)
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ForeignDataError(f"{path.name!r} is no JSON object")
    return value
