"""Playwright's storage state, a JSON file, as session.json.

Its form is from Playwright's documentation of ``BrowserContext.storage_state``: ``cookies`` with
``name``, ``value``, ``domain`` and ``path``, and ``origins`` with ``origin`` and
``localStorage``, a list of ``name`` and ``value``. An ``indexedDB`` in it is left out, because
our sessions have none.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tweakio import directories, durable, references
from tweakio.archive.importer import Incoming
from tweakio.errors import ForeignDataError, in_the_tree
from tweakio.importing.settings import read_json, settings
from tweakio.layout import ProfilePaths
from tweakio.platforms import find_platform
from tweakio.store.worktree import MOST_SEALED

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

__all__ = [
    "checked",
    "dumped",
    "from_storage_state",
    "incoming",
    "is_storage_state",
    "of_session",
]

_COOKIE = ("name", "value", "domain", "path")


@in_the_tree
def from_storage_state(
    path: str | os.PathLike[str], profile_id: str, platform: str, **others: Any
) -> list[Incoming]:
    """A file that Playwright's ``storage_state(path=...)`` wrote.

    Cookies and local storage of other sites than the platform's stay behind. The session is put
    into the browser when the profile is opened first.

    Args:
        path: the file.
        profile_id: of the new profile.
        platform: whose login is in it; one that is kept in cookies and local storage.
        **others: further settings, as for ``create_profile``.

    Raises:
        ForeignDataError: it is no storage state, has nothing of the platform's site, or the
            platform's logins cannot be kept that way.
        StorageError: it cannot be read.
        InvalidProfileIdError, UnknownPlatformError, InvalidMetadataError: bad arguments.
    """
    config = others.pop("platform_config", None)
    if platform == "custom":  # else its browser profile is what counts
        config = {"session_of_record": "session.json", **(config or {})}
    metadata = settings(profile_id, platform, platform_config=config, **others)
    return [incoming(Path(path), metadata)]


def is_storage_state(path: Path) -> bool:
    """Whether a file has the form of one."""
    try:
        checked(read_json(path, MOST_SEALED), path.name)
    except (ForeignDataError, OSError):
        return False
    return True


def incoming(path: Path, metadata: dict[str, Any]) -> Incoming:
    """What a profile is made of that has this session.

    Raises:
        As ``from_storage_state``.
    """
    return of_session(metadata, session_of(path, metadata))


def of_session(
    metadata: dict[str, Any], content: bytes, fingerprint: bytes | None = None
) -> Incoming:
    """What a profile is made of that has a session.json of this content, and no browser data."""

    def unpack(into: Path | None, progress: Callable[[int], None] | None) -> None:
        if into is not None:
            durable.create(ProfilePaths(into).session, content)
        if progress is not None:
            progress(len(content))

    return Incoming(metadata, fingerprint, has_data=True, unpack=unpack, size=len(content))


def session_of(path: Path, metadata: dict[str, Any]) -> bytes:
    """session.json out of a storage state.

    Raises:
        As ``from_storage_state``.
    """
    platform = find_platform(str(metadata["platform"]))
    if platform is None:
        raise ForeignDataError("its platform is not installed")
    handler = platform.session_handler()
    config = metadata.get("platform_config") or {}
    if "url" in config and hasattr(handler, "configure"):
        # Whose site it is, as when the profile is opened.
        handler.configure(references.resolve_config({"url": config["url"]}))
    wished = config.get("session_of_record")
    if (wished or handler.session_of_record) != "session.json":
        raise ForeignDataError(
            f"a login of {platform.name} cannot be kept in a storage state",
            hint="its keys are in the browser's data: import these with --from-user-data-dir",
        )
    state = checked(read_json(path, MOST_SEALED), path.name)
    if hasattr(handler, "own_part"):
        state = handler.own_part(state)
    if not any(state.values()):
        site = f" of {handler.login_url}" if handler.login_url else ""
        raise ForeignDataError(f"{path.name!r} has no cookie and no local storage{site}")
    return dumped(state, path.name)


def dumped(state: dict[str, Any], name: str) -> bytes:
    """A state that ``checked`` has passed as session.json has it.

    Raises:
        ForeignDataError: it has what no JSON can have.
    """
    try:
        return directories.json_bytes(state)
    except (ValueError, RecursionError):
        # The cause's message would quote what is secret.
        raise _not_one(name) from None


def _not_one(name: str) -> ForeignDataError:
    return ForeignDataError(
        f"{name!r} is no storage state", hint="give what Playwright's storage_state(path=...) wrote"
    )


def checked(value: dict[str, Any], name: str) -> dict[str, Any]:
    """Cookies and local storage of a storage state.

    Raises:
        ForeignDataError: it has not the form of one.
    """
    cookies, origins = value.get("cookies", []), value.get("origins", [])
    if not isinstance(cookies, list) or not isinstance(origins, list) or not value:
        raise _not_one(name)
    if not {"cookies", "origins"} & value.keys():
        raise _not_one(name)
    for cookie in cookies:
        if not _has_texts(cookie, _COOKIE):
            raise _not_one(name)
    found = []
    for one in origins:
        if not _has_texts(one, ("origin",)):
            raise _not_one(name)
        stored = one.get("localStorage", [])
        good = isinstance(stored, list) and all(_has_texts(i, ("name", "value")) for i in stored)
        if not good or not one["origin"].startswith(("https://", "http://")):
            raise _not_one(name)
        found.append({"origin": one["origin"], "localStorage": stored})
    return {"cookies": cookies, "origins": found}


def _has_texts(value: Any, names: tuple[str, ...]) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(name), str) for name in names)
