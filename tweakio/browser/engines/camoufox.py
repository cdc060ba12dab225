"""Camoufox, a Firefox: what the profiles of tweakio-sdk were made with.

Its browser cannot be fetched where tweakio is tested: this is tried with a stand-in only.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import random
import re
import socket
import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from tweakio import durable
from tweakio.browser.finder import Found
from tweakio.browser.locks import BrowserLock, this_host
from tweakio.browser.processes import Process, command_lines, without_forks
from tweakio.errors import BrowserNotFoundError, MissingExtraError
from tweakio.platforms import fingerprints
from tweakio.platforms.protocols import BrowserVersion

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tweakio.browser.engines import Launch

__all__ = ["Camoufox"]

log = logging.getLogger(__name__)

# "127.0.1.1:+4711": the address of the machine's name, and a plus if the file beside is locked.
_TARGET = re.compile(r"(?P<host>[^:]+):\+?(?P<pid>\d+)")


class Camoufox:
    """Camoufox through Playwright's Firefox, with the package ``camoufox``."""

    name = "camoufox"

    def find(
        self,
        executable: str | os.PathLike[str] | None = None,
        *,
        cache: Path | None = None,  # noqa: ARG002 - the protocol has it
    ) -> Found:
        """The browser that the package has fetched, or the named one."""
        package = _package("pkgman")
        hint = "run 'python -m camoufox fetch'"
        try:
            # Else it would download a browser by itself.
            package.camoufox_path(download_if_missing=False)
            path = os.fspath(executable) if executable else str(package.launch_path())
            version = str(package.installed_verstr())
        except Exception as error:
            # The package has errors of its own for each thing that may be missing.
            raise BrowserNotFoundError(
                f"Camoufox is not there: {' '.join(str(error).split())[:200]}", hint=hint
            ) from error
        if not os.path.isfile(path):
            raise BrowserNotFoundError(f"no browser was found; tried {path}", hint=hint)
        return Found(path, version)

    def version(self, found: Found) -> BrowserVersion:
        """A version of Firefox."""
        return BrowserVersion("firefox", found.version)

    def owns(self, user_data: Path) -> bool:
        """What Firefox makes at its first start."""
        return any(os.path.lexists(user_data / name) for name in ("prefs.js", "cookies.sqlite"))

    def version_of_data(self, user_data: Path) -> str | None:
        """Firefox keeps it in a file, with more behind an underscore."""
        try:
            text = durable.read_regular(user_data / "compatibility.ini", 1 << 14).decode()
        except (OSError, ValueError):
            return None
        match = re.search(r"^LastVersion=([0-9.]+)", text, re.MULTILINE)
        return match[1] if match else None

    def lock_of(self, user_data: Path, *, platform: str = sys.platform) -> BrowserLock | None:
        """``lock``: a symbolic link to nothing, whose target is ``ADDRESS:+PID``.

        On Windows and macOS the system drops a browser's lock with the browser.
        """
        path = user_data / "lock"
        if platform in ("win32", "darwin") or not os.path.lexists(path):
            return None
        try:
            match = _TARGET.fullmatch(os.readlink(path))
        except OSError:
            match = None
        if match is None:
            return BrowserLock("", 0, here=False)
        here = match["host"].startswith("127.") or match["host"] in _own_addresses()
        return BrowserLock(match["host"], int(match["pid"]), here=here)

    def clear_lock(self, user_data: Path) -> None:
        """Remove the link; ``.parentlock`` is locked by the system, and stays."""
        with contextlib.suppress(OSError):
            os.unlink(user_data / "lock")

    def processes_of(self, user_data: Path) -> list[Process]:
        """Those with ``-profile`` and without ``-contentproc``."""
        wanted = os.path.realpath(user_data)
        found = []
        for process, arguments in command_lines():
            if "-contentproc" in arguments:
                continue
            for option, value in pairwise(arguments):
                if option.lstrip("-") == "profile" and os.path.realpath(value) == wanted:
                    found.append(process)
                    break
        return without_forks(found)

    def helpers_of(self, user_data: Path) -> list[Process]:  # noqa: ARG002 - the protocol has it
        """They do not name the directory; they end with their browser."""
        return []

    def launch(self, playwright: Any, launch: Launch) -> Any:
        """Playwright's persistent context of Firefox, with the options that the package makes."""
        presentation = launch.presentation
        chosen: dict[str, Any] = {}
        if presentation.timezone is not None:
            chosen["config"] = {"timezone": presentation.timezone}
        if (kept := _kept(launch.fingerprint)) is not None:
            chosen["fingerprint"] = kept
        # What the package makes up itself, it makes up the same for the same profile.
        with _seeded(launch.fingerprint):
            options = dict(
                _package("utils").launch_options(
                    headless=launch.headless,
                    args=list(launch.arguments),
                    env=dict(launch.environment),
                    locale=list(presentation.languages),
                    window=presentation.window,
                    proxy=fingerprints.context_options(
                        presentation, launch.settings, launch.opener
                    ).get("proxy"),
                    enable_cache=True,
                    i_know_what_im_doing=True,
                    **chosen,
                )
            )
        options["executable_path"] = launch.program
        preferences = {
            **options.get("firefox_user_prefs", {}),
            "browser.cache.disk.parent_directory": str(launch.cache),
        }
        options["firefox_user_prefs"] = preferences
        if options.get("proxy") is None:
            options.pop("proxy", None)
        return playwright.firefox.launch_persistent_context(
            str(launch.user_data),
            timeout=launch.timeout * 1000,
            handle_sigint=False,
            handle_sigterm=False,
            handle_sighup=False,
            **options,
        )


def _package(name: str) -> Any:
    try:
        return importlib.import_module(f"camoufox.{name}")
    except ImportError as error:
        raise MissingExtraError(
            "Camoufox needs a package that is not installed",
            hint="run pip install 'tweakio[camoufox]', then 'python -m camoufox fetch'",
        ) from error


@contextlib.contextmanager
def _seeded(fingerprint: Mapping[str, Any]) -> Iterator[None]:
    state = random.getstate()
    random.seed(json.dumps(fingerprint, sort_keys=True))
    try:
        yield
    finally:
        random.setstate(state)


def _kept(fingerprint: Mapping[str, Any]) -> Any:
    """A fingerprint that tweakio-sdk had made, as the package wants it; None for any other."""
    if fingerprint.get("generator") != "browserforge":
        return None
    try:
        forge: Any = importlib.import_module("browserforge.fingerprints")
        made = dict(fingerprint["data"])
        made["screen"] = forge.ScreenFingerprint(**made["screen"])
        made["navigator"] = forge.NavigatorFingerprint(**made["navigator"])
        if made.get("videoCard") is not None:
            made["videoCard"] = forge.VideoCard(**made["videoCard"])
        return forge.Fingerprint(**made)
    except (ImportError, AttributeError, KeyError, TypeError, ValueError) as error:
        # Of another version of the package; a new one is as good as none.
        log.warning("the fingerprint of tweakio-sdk cannot be used: %s", error)
        return None


def _own_addresses() -> frozenset[str]:
    try:
        return frozenset(socket.gethostbyname_ex(this_host())[2])
    except OSError:
        return frozenset()
