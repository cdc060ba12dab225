"""Finding a browser on this machine, and which version it is."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tweakio import durable
from tweakio.errors import BrowserNotFoundError
from tweakio.references import browser_environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["VARIABLE", "Found", "find", "forget", "installed", "version_of"]

VARIABLE = "TWEAKIO_BROWSER"

_NAMES = (
    "google-chrome-stable",
    "google-chrome",
    "chromium",
    "chromium-browser",
    "microsoft-edge-stable",
    "microsoft-edge",
)
_MAC = (
    "Google Chrome.app/Contents/MacOS/Google Chrome",
    "Chromium.app/Contents/MacOS/Chromium",
    "Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
)
_WINDOWS = (
    r"Google\Chrome\Application\chrome.exe",
    r"Chromium\Application\chrome.exe",
    r"Microsoft\Edge\Application\msedge.exe",
)
# Below a directory of Playwright's, such as chromium-1234; the names have changed with time.
_PLAYWRIGHT = (
    "chrome-linux*/chrome",
    "chrome-mac*/*.app/Contents/MacOS/*",
    "chrome-win*/chrome.exe",
)
_VERSION = re.compile(r"(?<![0-9])[0-9]{1,9}(?:\.[0-9]{1,9}){1,3}")
_MOST_SAID = 4096
_INSTALL = (
    "install Chrome, Chromium or Edge, or run 'python -m playwright install chromium', "
    "or give --browser or TWEAKIO_BROWSER its path"
)
_PROBE_SECONDS = 30.0


class Found(NamedTuple):
    """A browser.

    Attributes:
        path: its program.
        version: as it names itself, such as ``156.0.8078.79``.
        tried: what was looked at before it.
    """

    path: str
    version: str
    tried: tuple[str, ...] = ()


def find(
    executable: str | os.PathLike[str] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    platform: str = sys.platform,
    cache: Path | None = None,
) -> Found:
    """Find Chrome, Chromium or Edge.

    Args:
        executable: this one, by its path or by a name on the PATH; no other is looked for then.
        environ: the environment; ``TWEAKIO_BROWSER`` names one like ``executable``.
        platform: of Python.
        cache: a file that keeps the versions, so that no browser has to be asked each time.

    Raises:
        BrowserNotFoundError: there is none, or the named one is none.
    """
    environ = os.environ if environ is None else environ
    named = os.fspath(executable) if executable else environ.get(VARIABLE, "")
    if named:
        return _named(named, environ, VARIABLE if not executable else "", platform, cache)
    tried: list[str] = []
    for path in installed(environ, platform):
        if not os.path.isfile(path):
            tried.append(path)
            continue
        version = version_of(path, platform=platform, cache=cache)
        if version is not None:
            return Found(path, version, tuple(tried))
        tried.append(f"{path} (does not tell its version)")
    raise BrowserNotFoundError(
        f"no browser was found; tried {', '.join(tried) or 'nothing'}",
        hint=_INSTALL,
        tried=tuple(tried),
    )


def _named(
    name: str, environ: Mapping[str, str], variable: str, platform: str, cache: Path | None
) -> Found:
    where = f"{variable} names {name!r}, which" if variable else repr(name)
    path = shutil.which(os.path.expanduser(name), path=environ.get("PATH"))
    if path is None:
        raise BrowserNotFoundError(
            f"{where} is no program that can be run", hint=_INSTALL, tried=(name,)
        )
    version = version_of(path, platform=platform, cache=cache)
    if version is None:
        raise BrowserNotFoundError(
            f"{where} does not tell its version, as a browser does", hint=_INSTALL, tried=(name,)
        )
    return Found(path, version)


def installed(environ: Mapping[str, str], platform: str = sys.platform) -> Iterator[str]:
    """Where browsers are on a platform: the installed ones first, then Playwright's own."""
    home = environ.get("USERPROFILE" if platform == "win32" else "HOME", "")
    if platform == "win32":
        for name in _WINDOWS:
            for root in ("PROGRAMFILES", "PROGRAMFILES(X86)", "LOCALAPPDATA"):
                if environ.get(root):
                    yield f"{environ[root]}\\{name}"
        playwright = f"{environ.get('LOCALAPPDATA', '')}\\ms-playwright"
    elif platform == "darwin":
        for name in _MAC:
            yield f"/Applications/{name}"
            yield f"{home}/Applications/{name}"
        playwright = f"{home}/Library/Caches/ms-playwright"
    else:
        for name in _NAMES:
            yield shutil.which(name, path=environ.get("PATH")) or f"{name} (on the PATH)"
        # Where they are if the PATH is short, as in cron. Snap's last: it cannot read hidden
        # directories in the home.
        yield from ("/opt/google/chrome/chrome", "/usr/bin/chromium", "/snap/bin/chromium")
        playwright = f"{environ.get('XDG_CACHE_HOME') or f'{home}/.cache'}/ms-playwright"
    yield from _playwrights(environ.get("PLAYWRIGHT_BROWSERS_PATH") or playwright)


def _playwrights(directory: str) -> Iterator[str]:
    """Playwright's browsers, newest first."""
    root = Path(directory)
    kept = [path for path in root.glob("chromium-*") if path.name[9:].isdecimal()]
    for path in sorted(kept, key=lambda found: -int(found.name[9:])):
        for pattern in _PLAYWRIGHT:
            yield from (str(found) for found in path.glob(pattern))
    if not kept:
        yield f"{directory} (Playwright's own)"


# Versions

_known: dict[tuple[str, int, int, int], str] = {}


def version_of(path: str, *, platform: str = sys.platform, cache: Path | None = None) -> str | None:
    """A browser's version; asked for once and kept as long as its file stays the same.

    Returns:
        None if it does not tell one.
    """
    key = _key(path)
    if key is None:
        return None
    if key in _known:
        return _known[key]
    # Snap starts all its programs by one file, which an upgrade of a browser does not touch.
    lasting = os.path.basename(key[0]) != "snap"
    version = _kept(cache).get(json.dumps(key)) if cache is not None and lasting else None
    if version is None:
        version = _ask(path, platform)
        if version is not None and cache is not None and lasting:
            _keep(cache, {json.dumps(key): version})
    if version is not None and lasting:
        _known[key] = version
    return version


def forget(path: str, cache: Path | None) -> None:
    """Forget a version that turned out to be an old one."""
    key = _key(path)
    if key is not None:
        _known.pop(key, None)
        if cache is not None:
            _keep(cache, {json.dumps(key): None})


def _key(path: str) -> tuple[str, int, int, int] | None:
    try:
        real = os.path.realpath(path)
        status = os.stat(real)
    except OSError:
        return None
    return real, status.st_mtime_ns, status.st_size, status.st_ino


def _kept(cache: Path) -> dict[str, str]:
    try:
        value = json.loads(durable.read_regular(cache, 1 << 16))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(value, dict):
        return {}
    return {key: text for key, text in value.items() if isinstance(text, str)}


def _keep(cache: Path, news: Mapping[str, str | None]) -> None:
    merged = {**dict(list(_kept(cache).items())[-20:]), **news}
    value = {key: text for key, text in merged.items() if text is not None}
    temporary = cache.with_name(f"{cache.name}.{os.getpid()}")
    # A cache: if it cannot be written, the browser is asked again.
    with contextlib.suppress(OSError):
        durable.make_directory(cache.parent, parents=True)
        durable.remove(temporary)
        durable.create(temporary, json.dumps(value).encode(), sync=False)
        durable.move(temporary, cache)


def _ask(path: str, platform: str) -> str | None:
    if platform == "win32":
        return _version_beside(Path(path))
    if platform == "darwin" and (version := _version_in_bundle(Path(path))) is not None:
        return version
    try:
        done = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            env=browser_environment(os.environ),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _VERSION.search(done.stdout[:_MOST_SAID])
    return match[0] if match and done.returncode == 0 else None


def _version_beside(path: Path) -> str | None:
    """On Windows ``--version`` opens a window; a directory or a manifest is named by it."""
    found = [
        match[0]
        for entry in path.parent.iterdir()
        if (match := re.match(r"[0-9]{1,9}(?:\.[0-9]{1,9}){3}", entry.name)) is not None
    ]
    return max(found, key=lambda text: [int(part) for part in text.split(".")], default=None)


def _version_in_bundle(path: Path) -> str | None:
    import plistlib

    try:
        with open(path.parent.parent / "Info.plist", "rb") as file:
            version = plistlib.load(file)["CFBundleShortVersionString"]
    except (OSError, ValueError, KeyError, plistlib.InvalidFileException):
        return None
    return version if isinstance(version, str) and _VERSION.fullmatch(version) else None
