"""Chromium, Chrome and Edge."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any

from tweakio import durable
from tweakio.browser import finder
from tweakio.browser.locks import BrowserLock, this_host
from tweakio.browser.processes import Process, command_lines, without_forks
from tweakio.platforms import fingerprints
from tweakio.platforms.protocols import BrowserVersion

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tweakio.browser.engines import Launch
    from tweakio.browser.finder import Found

__all__ = ["Chromium"]

# What Playwright does not say already: the profile talks to its service and to nobody else.
_ARGUMENTS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    # After a crash a window would ask whether to restore pages, on top of the page.
    "--hide-crash-restore-bubble",
)
_LOCK = "SingletonLock"
_LOCK_FILES = (_LOCK, "SingletonSocket", "SingletonCookie")


# Chromium puts org.chromium.Chromium.XXXXXX/SingletonSocket there. The name of a socket has 108
# bytes on Linux and 104 on macOS, and with a longer one it does not start.
_LONGEST_TEMPORARY = 58


def _short(environment: Mapping[str, str]) -> Mapping[str, str]:
    """The environment with a directory for temporary files that is short enough."""
    directory = environment.get("TMPDIR", "")
    if os.name != "posix" or len(os.fsencode(directory)) <= _LONGEST_TEMPORARY:
        return environment
    return {**environment, "TMPDIR": "/tmp"}  # noqa: S108 - it makes a directory of its own in it


class Chromium:
    """Chromium and what is made of it, through Playwright."""

    name = "chromium"

    def find(
        self, executable: str | os.PathLike[str] | None = None, *, cache: Path | None = None
    ) -> Found:
        """The named browser, else the first that is installed, else Playwright's own."""
        return finder.find(executable, cache=cache)

    def version(self, found: Found) -> BrowserVersion:
        """Chromium's version is also Chrome's and Edge's; Edge names itself besides."""
        edge = "edge" in os.path.basename(found.path).lower()
        return BrowserVersion("chromium", found.version, "Edg" if edge else "")

    def owns(self, user_data: Path) -> bool:
        """It makes both at its first start."""
        return any(os.path.lexists(user_data / name) for name in ("Local State", "Default"))

    def version_of_data(self, user_data: Path) -> str | None:
        """It keeps it in a file."""
        try:
            return durable.read_regular(user_data / "Last Version", 100).decode("ascii").strip()
        except (OSError, ValueError):
            return None

    def lock_of(self, user_data: Path, *, platform: str = sys.platform) -> BrowserLock | None:
        """``SingletonLock``: a symbolic link to nothing, whose target is ``HOST-PID``.

        On Windows the system drops a browser's lock with the browser.
        """
        path = user_data / _LOCK
        if platform == "win32" or not os.path.lexists(path):
            return None
        try:
            host, _, pid = os.readlink(path).rpartition("-")
        except OSError:  # no link at all
            return BrowserLock("", 0, here=False)
        if not host or not pid.isdecimal():
            return BrowserLock("", 0, here=False)
        return BrowserLock(host, int(pid), here=host == this_host())

    def clear_lock(self, user_data: Path) -> None:
        """Remove the three links that belong together."""
        for name in _LOCK_FILES:
            with contextlib.suppress(OSError):
                os.unlink(user_data / name)

    def processes_of(self, user_data: Path) -> list[Process]:
        """Those with ``--user-data-dir`` and without ``--type``."""
        found = []
        for process, arguments in command_lines():
            if not any(argument.startswith("--type=") for argument in arguments):
                named = _user_data(arguments)
                if named is not None and _same(named, user_data):
                    found.append(process)
        return without_forks(found)

    def helpers_of(self, user_data: Path) -> list[Process]:
        """Those of its renderers and services that name the directory."""
        exactly = f"--user-data-dir={user_data}"
        found = []
        for process, arguments in command_lines():
            # A forked helper's title is one text, with blanks between the arguments.
            text = " ".join(arguments) + " "
            if f"{exactly} " in text and " --type=" in text:
                found.append(process)
        return found

    def launch(self, playwright: Any, launch: Launch) -> Any:
        """Playwright's persistent context, with the sandbox wherever it can be had."""
        presentation, settings = launch.presentation, launch.settings
        return playwright.chromium.launch_persistent_context(
            str(launch.user_data),
            executable_path=launch.program,
            headless=launch.headless,
            args=[
                *_ARGUMENTS,
                f"--disk-cache-dir={launch.cache}",
                *fingerprints.chromium_arguments(presentation, settings),
                *launch.arguments,
            ],
            env={**_short(launch.environment), **fingerprints.environment(presentation)},
            timeout=launch.timeout * 1000,
            # Playwright's own default is no sandbox for anybody; root cannot have one.
            chromium_sandbox=not hasattr(os, "geteuid") or os.geteuid() != 0,
            # A browser is closed in order, by whoever gets the signal.
            handle_sigint=False,
            handle_sigterm=False,
            handle_sighup=False,
            **fingerprints.context_options(presentation, settings, launch.opener),
        )


def _user_data(arguments: tuple[str, ...]) -> str | None:
    start = "--user-data-dir="
    found = [argument[len(start) :] for argument in arguments if argument.startswith(start)]
    return found[-1] if found else None


def _same(named: str, user_data: Path) -> bool:
    if named == str(user_data):
        return True
    # The same home by another way, such as a link.
    return os.path.basename(named) == user_data.name and os.path.realpath(
        named
    ) == os.path.realpath(user_data)
