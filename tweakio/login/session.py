"""What stays of a login: session.json, the record beside the browser data, and the lock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tweakio import directories, durable
from tweakio.errors import SessionError, storage_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tweakio.layout import ProfilePaths

__all__ = ["save_session"]


def save_session(paths: ProfilePaths, session: Mapping[str, Any]) -> None:
    """Replace session.json, durably and for its owner's eyes only.

    Args:
        paths: of a profile that is held here.
        session: what the handler exported.

    Raises:
        SessionError: it is no JSON data.
        StorageError: it cannot be written; the old one is as it was.
    """
    try:
        content = directories.json_bytes(session)
    except (TypeError, ValueError, RecursionError):
        # The cause's message may quote what is secret.
        raise SessionError("the platform's handler exported what is no JSON") from None
    temporary = paths.directory / ".session.json.new"
    try:
        durable.remove(temporary)
        durable.replace(paths.session, content, temporary)
    except OSError as error:
        raise storage_error(error, "write session.json") from error
