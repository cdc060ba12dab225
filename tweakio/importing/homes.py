"""The homes of tweakio-sdk 0.1.5 and of camouchat-browser 0.7.1.

Facts about tweakio-sdk: see ``tweakio.migration``. Facts about camouchat-browser are from its
source (``directory``, ``profile_manager``, ``camoufox_browser``): ``PlatformDirs("CamouChat",
"BITS-Rohit")``; in the user data directory is ``platforms/PLATFORM/ID/`` with ``metadata.json``
(``created_at``, ``last_used``, ``status`` with ``is_active`` and ``last_active_pid``),
``fingerprint.pkl``, which may be empty, and ``cache/``, which Camoufox gets as its user data
directory. Its key, media, messages and the database's credentials are not taken over.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tweakio import schema
from tweakio.archive.importer import Incoming
from tweakio.browser import processes
from tweakio.errors import BrowserLockedError, ForeignDataError, MigrationError, in_the_tree
from tweakio.importing import storage_state, user_data
from tweakio.importing.settings import read_file, read_json, settings
from tweakio.importing.several import id_of, settle
from tweakio.migration import SdkPlaces, fingerprint_of_pickle
from tweakio.models import format_time, parse_time
from tweakio.platforms import find_platform
from tweakio.store.worktree import MOST_SEALED

if TYPE_CHECKING:
    from tweakio.archive.importer import Existing

__all__ = ["from_camouchat_home", "from_sdk_home"]

log = logging.getLogger(__name__)

_MOST_PICKLE = 1 << 20
# Below a person's home, on Linux, macOS and Windows: data, and cache.
_SDK = (
    (".local/share/TweakioWhatsApp", ".cache/TweakioWhatsApp"),
    ("Library/Application Support/TweakioWhatsApp", "Library/Caches/TweakioWhatsApp"),
    ("AppData/Local/Rohit/TweakioWhatsApp", "AppData/Local/Rohit/TweakioWhatsApp/Cache"),
)
_CAMOUCHAT = (
    ".local/share/CamouChat",
    "Library/Application Support/CamouChat",
    "AppData/Local/BITS-Rohit/CamouChat",
)


@in_the_tree
def from_sdk_home(home: str | os.PathLike[str], profile_id: str = "default") -> list[Incoming]:
    """The one account of tweakio-sdk 0.1.5.

    Args:
        home: the home directory of a person who used it, or a copy of one.
        profile_id: of the new profile.

    Raises:
        ForeignDataError: there is no account.
        BrowserLockedError: a browser has it open.
        InvalidProfileIdError: the id cannot be used.
    """
    metadata = settings(profile_id, "whatsapp", note="imported from tweakio-sdk")
    for data, browser in _below(home, _SDK):
        stored = data / "BrowserManager"
        pickles = (data / "fingerprint.pkl", stored / "fingerprint.pkl")
        places = SdkPlaces(
            stored / "StorageState.json",
            next((path for path in pickles if path.exists()), pickles[0]),
            browser,
        )
        if not places.exists():
            continue
        session = _session(places.storage_state)
        fingerprint = _fingerprint(places.fingerprint)
        if user_data.is_user_data(browser):
            found = user_data.incoming(browser, metadata, fingerprint=fingerprint, session=session)
        elif session is not None:
            found = storage_state.of_session(metadata, session, fingerprint)
        else:
            continue
        return [found]
    raise ForeignDataError(
        f"there is no account of tweakio-sdk in {os.fspath(home)!a}",
        hint=f"name a person's home directory; on Linux it has {_SDK[0][0]}",
    )


@in_the_tree
def from_camouchat_home(
    home: str | os.PathLike[str], *, existing: Existing = "refuse"
) -> list[Incoming]:
    """The profiles of camouchat-browser 0.7.1.

    Args:
        home: the home directory of a person who used it, or its own directory ``CamouChat``.
        existing: what to do if two platforms have the same id: as for ids that are taken.

    Raises:
        ForeignDataError: there are no profiles, or one is damaged.
        BrowserLockedError: a browser or a program has one open.
    """
    top = Path(os.path.realpath(home))
    roots = [top, *(data for data, _ in _below(home, [(name, "") for name in _CAMOUCHAT]))]
    found = []
    for root in roots:
        for directory in _directories(root / "platforms"):
            for profile in _directories(directory):
                if find_platform(directory.name) is None:
                    log.warning("left out, as its platform is not known: %a", profile.name)
                elif (profile / "metadata.json").exists():
                    found.append(_camouchat(profile, directory.name))
    if not found:
        raise ForeignDataError(
            f"there are no profiles of camouchat-browser in {os.fspath(home)!a}",
            hint=f"name a person's home directory; on Linux it has {_CAMOUCHAT[0]}",
        )
    return settle(found, existing)


def _camouchat(profile: Path, platform: str) -> Incoming:
    theirs = read_json(profile / "metadata.json", schema.MAX_BYTES)
    _refuse_active(theirs.get("status"), profile.name)
    value = settings(id_of(profile.name), platform, note="imported from camouchat-browser")
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        created = parse_time(str(theirs["created_at"])) if "created_at" in theirs else None
        used = parse_time(str(theirs["last_used"])) if "last_used" in theirs else None
        if created is not None and used is not None and created <= used:
            value = schema.validate(
                {**value, "created_at": format_time(created), "last_used": format_time(used)}
            )
    fingerprint = _fingerprint(profile / "fingerprint.pkl")
    browser = profile / "cache"
    if user_data.is_user_data(browser):
        return user_data.incoming(browser, value, fingerprint=fingerprint)
    return Incoming(value, fingerprint)


def _refuse_active(status: Any, name: str) -> None:
    if not isinstance(status, dict) or status.get("is_active") is not True:
        return
    pid = status.get("last_active_pid")
    if isinstance(pid, int) and 0 < pid < 1 << 31 and processes.this_one(pid) is not None:
        raise BrowserLockedError(
            f"process {pid} has the profile {name!a} of camouchat-browser open",
            hint="close it and run this again",
            pid=pid,
        )


def _below(
    home: str | os.PathLike[str], places: tuple[tuple[str, str], ...] | list[tuple[str, str]]
) -> list[tuple[Path, Path]]:
    top = Path(os.path.realpath(home))
    return [(top / data, top / browser) for data, browser in places if (top / data).is_dir()]


def _directories(path: Path) -> list[Path]:
    """The directories in a directory, sorted; links are none."""
    try:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            return []
        with os.scandir(path) as entries:
            found = [Path(one.path) for one in entries if one.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
    return sorted(found)


def _fingerprint(path: Path) -> bytes | None:
    """A pickled fingerprint, of which only plain data is read; None for a new one."""
    try:
        data = read_file(path, _MOST_PICKLE)
        return fingerprint_of_pickle(data) if data else None
    except (OSError, ForeignDataError, MigrationError) as error:
        if path.exists():
            log.warning("%s was left alone, a new fingerprint is used: %s", path.name, error)
        return None


def _session(path: Path) -> bytes | None:
    if not path.exists():
        return None
    return storage_state.dumped(
        storage_state.checked(read_json(path, MOST_SEALED), path.name), path.name
    )
