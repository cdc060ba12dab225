"""Where snapshots are kept: a directory, or whatever fsspec has a file system for.

Every profile has a directory. A file appears there under its name only when it is whole, as far
as the file system can do that; what counts is the manifest, which is written last.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

from tweakio import references
from tweakio.errors import InvalidInputError
from tweakio.snapshots.directory import Directory

__all__ = ["Place", "check_url", "open_place", "refuse_unknown"]

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.ASCII)
_SECRETS_HINT = "keep it in fsspec's own configuration, or give the whole address as env:NAME"


class Place(Protocol):
    """One store."""

    def files(self, profile_id: str) -> dict[str, int]:
        """The names and sizes in bytes of a profile's files."""

    def read(self, profile_id: str, name: str, limit: int) -> bytes:
        """A small file; more than ``limit`` bytes is an error."""

    def open(self, profile_id: str, name: str) -> BinaryIO:
        """A file to read from its beginning."""

    def put_file(self, profile_id: str, name: str, source: Path) -> None:
        """Store a file, which may be moved; it stays if the machine stops after that."""

    def put(self, profile_id: str, name: str, content: bytes) -> None:
        """Store a new small file in one step."""

    def remove(self, profile_id: str, name: str) -> None:
        """Remove a file; nothing to do if it is gone."""


def check_url(url: str) -> str:
    """A store's address as it may be kept: without a secret in it.

    Args:
        url: an absolute path, a URL that fsspec understands, or ``env:NAME`` for the environment
            variable that has it.

    Raises:
        InvalidInputError: it is none of these, or has a secret. It is not shown.
    """
    if references.is_reference(url) or os.path.isabs(url):
        return url
    if not _SCHEME.match(url) or "::" in url or not url.isprintable():
        raise InvalidInputError(
            "this is not the address of a snapshot store",
            hint="give an absolute path, a URL such as s3://bucket/path, or env:NAME",
        )
    try:
        parts = urlsplit(url)
        has_secret = parts.password is not None or bool(parts.query or parts.fragment)
    except ValueError:
        has_secret = True
    if has_secret:
        raise InvalidInputError(
            "the address of the snapshot store has a password or options in it", hint=_SECRETS_HINT
        )
    return url


def refuse_unknown(url: str) -> None:
    """Refuse a mistyped protocol, which else only the next snapshot would find.

    Raises:
        InvalidInputError: the fsspec that is here knows no such protocol.
    """
    if references.is_reference(url) or os.path.isabs(url):
        return
    try:
        # fsspec comes without types.
        from fsspec import available_protocols  # type: ignore[import-untyped]
    except ImportError:
        return  # it may be installed later
    scheme = url.partition("://")[0]
    if scheme not in available_protocols():
        raise InvalidInputError(
            f"there is no kind of store {scheme}://",
            hint="give an absolute path, a URL such as s3://bucket/path, or env:NAME",
        )


def open_place(url: str) -> Place:
    """The store at an address that ``check_url`` has passed.

    Raises:
        SecretNotFoundError: the environment variable is not there.
        MissingExtraError: a package is missing.
        SnapshotError: it cannot be used.
    """
    if references.is_reference(url):
        url = references.resolve(url, "the snapshot store")
    if os.path.isabs(url):
        return Directory(Path(url), make_root=False)
    if url.startswith(("file:///", "local:///")):
        path = unquote(url.partition("://")[2])
        return Directory(Path(path), make_root=False)
    from tweakio.snapshots.remote import Remote

    return Remote(url)
