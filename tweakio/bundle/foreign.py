"""Browser data that came from elsewhere, without what would send the browser somewhere else.

A browser's own settings can name a proxy, pages to open at start, extensions, programs, search
engines and certificates. Who made the data chose them, and nothing shows them before they are
used. So of the settings only what is known to do no harm stays, and what would be loaded or run
is removed. Cookies and what sites stored, which are the login, stay as they are.

Every way in goes through ``clean``. A directory's name says little about whose data it has, so
the rules for Chromium and for Firefox both hold in each.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tweakio import durable
from tweakio.bundle.names import folded
from tweakio.disk import CACHES_OF_BROWSER, CACHES_OF_PROFILE
from tweakio.errors import is_of_the_moment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["clean", "told"]

_MOST = 4 << 20
"""Bytes of a file of settings: more than browsers write, and what parsing takes stays small."""
_MOST_TOLD = 12
_TEMPORARY = ".tweakio-settings~"

# Names are compared as ``folded`` gives them: where case does not count, the browser opens the
# same file by another one. With "" a name is removed without a word, because every browser makes
# it and without the rest it does nothing.
_CODE = {
    "nativemessaginghosts": "native messaging hosts",
    "external extensions": "extensions",
    "extensions": "extensions",
    "policies": "policies",
    "policy": "policies",
    "managed extension settings": "extensions",
}
# A page in a cache is that page, and compiled code is that code.
_TOP = {
    **_CODE,
    **dict.fromkeys(map(folded, CACHES_OF_BROWSER), ""),
    "devtoolsactiveport": "",
    "variations": "",
    "widevinecdm": "",
    "pnacl": "",
    "secure preferences": "",
    # Firefox
    "user.js": "user.js",
    "chrome": "style sheets and scripts of the browser's window",
    "distribution": "policies",
    "features": "extensions",
    "extensions.json": "extensions",
    "extension-preferences.json": "extensions",
    "extension-settings.json": "extensions",
    "extension-store": "extensions",
    "extension-store-menus": "extensions",
    "browser-extension-data": "extensions",
    "addons.json": "extensions",
    "addonstartup.json.lz4": "extensions",
    "handlers.json": "protocol handlers",
    "mimetypes.rdf": "protocol handlers",
    "search.json.mozlz4": "search engines",
    "cert8.db": "certificates",
    "cert9.db": "certificates",
    "cert_override.txt": "certificates",
    "pkcs11.txt": "security modules",
    "secmod.db": "security modules",
    "alternateservices.bin": "",
    "alternateservices.txt": "",
    "sessionstore.js": "",
    "sessionstore.jsonlz4": "",
    "sessionstore-backups": "",
    "sessioncheckpoints.json": "",
    "prefs-1.js": "",
    "invalidprefs.js": "",
}
_PROFILE = {
    **_CODE,
    **dict.fromkeys(map(folded, CACHES_OF_PROFILE), ""),
    "extension rules": "",
    "extension scripts": "",
    "extension state": "",
    "extension cookies": "",
    "local extension settings": "extensions",
    "sync extension settings": "extensions",
    "local app settings": "extensions",
    "sync app settings": "extensions",
    "web applications": "installed web apps",
    "iwa": "installed web apps",
    "sync data": "",
    "sessions": "",
    "sessions_encrypted": "",
    "current session": "",
    "current tabs": "",
    "last session": "",
    "last tabs": "",
    "web data": "",  # search engines are in it
    "web data-journal": "",
    "account web data": "",
    "account web data-journal": "",
    "servercertificate": "",
    "servercertificate-journal": "",
    "clientcertificates": "",
    "preferences.bad": "",
}
# Where another host answers for a site, and whom the browser tells of what goes wrong.
_NETWORK = {
    "network persistent state": "",
    "reporting and nel": "",
    "reporting and nel-journal": "",
}
_PREFERENCES, _SECURE, _LOCAL_STATE, _FIREFOX = (
    "preferences",
    "secure preferences",
    "local state",
    "prefs.js",
)

# What stays of Chromium's settings; True for all that is below.
_Keep = dict[str, Any]
_KEPT: dict[str, _Keep] = {
    _PREFERENCES: {
        "browser": {"window_placement": True},
        "intl": {"accept_languages": True, "selected_languages": True},
        "media": {"device_id_salt": True},
        "partition": {"per_host_zoom_levels": True},
        "profile": {
            "avatar_index": True,
            "content_settings": {
                "exceptions": {
                    "cookies": True,
                    "durable_storage": True,
                    "media_stream_camera": True,
                    "media_stream_mic": True,
                    "notifications": True,
                    "sound": True,
                }
            },
            "created_by_version": True,
            "creation_time": True,
            "default_content_setting_values": {"cookies": True, "notifications": True},
            "exit_type": True,
            "name": True,
        },
        "spellcheck": {"dictionaries": True, "dictionary": True},
    },
    # Without the key of the cookies the login is gone.
    _LOCAL_STATE: {"os_crypt": True, "profile": {"last_used": True, "profiles_order": True}},
    _SECURE: {},
}
# What of the rest is named; everything else is what browsers note for themselves.
_NAMED = (
    "auth",
    "browser.enabled_labs_experiments",
    "certificates",
    "custom_handlers",
    "default_search_provider",
    "default_search_provider_data",
    "dns_over_https",
    "download.default_directory",
    "extensions",
    "homepage",
    "homepage_is_newtabpage",
    "net",
    "pinned_tabs",
    "profile.content_settings.exceptions.auto_select_certificate",
    "profile.content_settings.exceptions.protocol_handler",
    "profile.content_settings.exceptions.ssl_cert_decisions",
    "protocol_handler",
    "protocol_handlers",
    "proxy",
    "savefile.default_directory",
    "search_provider_overrides",
    "session",
    "ssl",
    "web_apps",
    "webrtc",
)
# Chromium notes these of the extensions that it consists of; 5 and 10 are where those come from.
_ORDINARY_EXTENSIONS = frozenset(
    {"alerts", "chrome_url_overrides", "last_chrome_version", "pinned_extensions", "ui"}
)
_COMPONENT = (5, 10)

_LAST_USED = re.compile(r"Default|Profile [0-9]{1,5}")
# One line of a prefs.js as Firefox writes it; a value with an escape in it is not kept.
_PREF = re.compile(
    rb'user_pref\("([A-Za-z0-9_.-]{1,200})", '
    rb'(?:true|false|-?[0-9]{1,20}|"[^"\\\x00-\x1f]{0,4096}")\);'
)
_PREF_NAME = re.compile(rb'user_pref\("([A-Za-z0-9_.-]{1,200})"')
_KEPT_PREFS = (
    b"accessibility.",
    b"browser.migration.",
    b"browser.sessionstore.resume_from_crash",
    b"font.",
    b"intl.locale.",
    b"network.cookie.",
    b"places.history.",
    b"privacy.clearOnShutdown",
    b"privacy.sanitize.",
    b"signon.rememberSignons",
)
_NAMED_PREFS = (
    "app.update.url",
    "autoadmin.",
    "browser.download.",
    "browser.newtab",
    "browser.search.",
    "browser.startup.homepage",
    "browser.startup.page",
    "dom.push.",
    "extensions.",
    "general.config.",
    "keyword.",
    "network.dns.",
    "network.protocol-handler.",
    "network.proxy.",
    "network.trr.",
    "security.",
    "services.settings.server",
    "toolkit.legacyUserProfileCustomizations.",
    "xpinstall.",
)


def clean(user_data: Path) -> list[str]:
    """Take out of browser data what would be loaded, run or followed; that is on the disk then.

    Args:
        user_data: a directory that was staged and that no browser has seen; it may be missing.

    Returns:
        What was removed of what somebody may have chosen, sorted, to be shown to a person.

    Raises:
        OSError: it cannot be read or written.
    """
    if not os.path.isdir(user_data) or os.path.islink(user_data):
        return []
    found: set[str] = set()
    for entry in _entries(user_data):
        name = folded(entry.name)
        if name in _TOP:
            found |= _remove(entry, _TOP[name])
        elif entry.is_dir(follow_symlinks=False):
            if _is_profile(entry):
                found |= _clean_profile(entry.path)
            elif name.startswith("gmp") or _is_component(entry.path):
                durable.remove_tree(entry.path)
        elif name == _FIREFOX:
            found |= _clean_prefs(entry)
        elif name in _KEPT:
            found |= _clean_settings(entry, name)
    durable.fsync_directory(user_data)
    return sorted(found)


def told(removed: list[str]) -> str:
    """What ``clean`` gave, as part of a line that is not too long."""
    more = len(removed) - _MOST_TOLD
    return ", ".join(removed[:_MOST_TOLD]) + (f" and {more} more" if more > 0 else "")


def _entries(directory: Path | str) -> list[os.DirEntry[str]]:
    """What is in a directory; links, which nothing that is unpacked has, are removed."""
    with os.scandir(directory) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_symlink():
            durable.remove(entry.path)
    return [entry for entry in entries if not entry.is_symlink()]


def _is_profile(entry: os.DirEntry[str]) -> bool:
    if re.fullmatch(r"default|profile [0-9]+|guest profile|system profile", folded(entry.name)):
        return True
    with os.scandir(entry.path) as inner:
        return any(folded(one.name) in (_PREFERENCES, _SECURE, "cookies") for one in inner)


def _is_component(path: str) -> bool:
    """Whether a directory has what Chromium would load: a manifest, mostly below a version."""
    with os.scandir(path) as inner:
        entries = list(inner)
    if any(folded(entry.name) == "manifest.json" for entry in entries):
        return True
    return any(
        os.path.lexists(os.path.join(entry.path, "manifest.json"))
        for entry in entries
        if entry.is_dir(follow_symlinks=False)
    )


def _clean_profile(path: str) -> set[str]:
    found: set[str] = set()
    for entry in _entries(path):
        name = folded(entry.name)
        if name in (_PREFERENCES, _SECURE):
            found |= _clean_settings(entry, name)
        elif name in _PROFILE:
            found |= _remove(entry, _PROFILE[name])
        elif name in _NETWORK:
            durable.remove_tree(entry.path)
        elif name == "network" and entry.is_dir(follow_symlinks=False):
            for inner in _entries(entry.path):
                if folded(inner.name) in _NETWORK:
                    durable.remove_tree(inner.path)
            durable.fsync_directory(entry.path)
    durable.fsync_directory(path)
    return found


def _remove(entry: os.DirEntry[str], named: str) -> set[str]:
    """Remove it; an empty directory, which browsers make by themselves, is not worth a word."""
    empty = entry.is_dir(follow_symlinks=False) and not any(
        files for _, _, files in os.walk(entry.path)
    )
    durable.remove_tree(entry.path)
    return {named} if named and not empty else set()


def _write(entry: os.DirEntry[str], data: bytes, before: bytes | None) -> None:
    if data == before:
        return
    path = Path(entry.path)
    if before is None:
        durable.remove_tree(path)
    temporary = path.with_name(_TEMPORARY)
    durable.remove_tree(temporary)
    durable.replace(path, data, temporary)


def _read(entry: os.DirEntry[str]) -> bytes | None:
    """A file of settings; None for one that is too large, and for what is no file."""
    try:
        return durable.read_regular(entry.path, _MOST)
    except OSError as error:
        if is_of_the_moment(error):
            raise
        return None


def _clean_settings(entry: os.DirEntry[str], name: str) -> set[str]:
    """Leave what is known to do no harm in a file of Chromium's settings."""
    content = _read(entry)
    if content is not None and not content.strip():
        return set()
    try:
        value = None if content is None else json.loads(content)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        # Chromium would begin anew as well, but what it makes of damage is its own affair.
        _write(entry, b"{}", content)
        return {f"{entry.name} (cannot be read)" if entry.name.isascii() else "settings"}
    kept = _kept(value, _KEPT[name])
    last_used = kept.get("profile", {}).get("last_used")
    if last_used is not None and not (
        isinstance(last_used, str) and _LAST_USED.fullmatch(last_used)
    ):
        del kept["profile"]["last_used"]
    # Always in our own form: Chromium's parser takes more for JSON than this one does.
    _write(entry, json.dumps(kept).encode(), content)
    return {dotted for dotted in _NAMED if _is_chosen(dotted, _at(value, dotted.split(".")))}


def _kept(value: Mapping[str, Any], keep: _Keep) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, inner in keep.items():
        if key not in value:
            continue
        if inner is True:
            found[key] = value[key]
        elif isinstance(value[key], dict) and (below := _kept(value[key], inner)):
            found[key] = below
    return found


def _at(value: Any, path: Iterable[str]) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _is_chosen(dotted: str, value: Any) -> bool:
    """Whether somebody may have set it: browsers note empty values by themselves."""
    if dotted == "extensions" and isinstance(value, dict):
        settings = value.get("settings")
        rest = value.keys() - _ORDINARY_EXTENSIONS - {"settings"}
        return any(value[key] for key in rest) or bool(settings and not _are_components(settings))
    return bool(value)


def _are_components(settings: Any) -> bool:
    return isinstance(settings, dict) and all(
        isinstance(one, dict) and one.get("location", 5) in _COMPONENT for one in settings.values()
    )


def _clean_prefs(entry: os.DirEntry[str]) -> set[str]:
    """Leave what is known to do no harm in Firefox's prefs.js."""
    content = _read(entry)
    if content is None:
        _write(entry, b"", None)
        return {"prefs.js (cannot be read)"}
    # Only whole lines in Firefox's own form: whatever else its parser takes is gone.
    kept = [
        line
        for line in content.splitlines()
        if (match := _PREF.fullmatch(line)) and match[1].startswith(_KEPT_PREFS)
    ]
    _write(entry, b"".join(line + b"\n" for line in kept), content)
    return {
        f"{prefix.rstrip('.')} (prefs.js)"
        for prefix in _NAMED_PREFS
        if any(name.startswith(prefix) for name in _names(content))
    }


def _names(content: bytes) -> Iterator[str]:
    return (match.decode() for match in set(_PREF_NAME.findall(content)))
