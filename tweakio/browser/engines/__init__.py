"""The kinds of browsers that a profile can be opened in, behind one protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from tweakio.errors import InvalidInputError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tweakio.browser.finder import Found
    from tweakio.browser.locks import BrowserLock
    from tweakio.browser.processes import Process
    from tweakio.platforms.protocols import BrowserVersion, Presentation

__all__ = ["DEFAULT", "Engine", "Launch", "every", "find_engine", "of_data"]

DEFAULT = "chromium"


class Launch(NamedTuple):
    """What a browser is started with.

    Attributes:
        program: what Playwright runs: the browser, or a launcher that becomes it.
        user_data: the directory of its data.
        cache: the directory of what it can fetch again.
        fingerprint: the content of the profile's fingerprint.json.
        presentation: how it presents itself; follows from the fingerprint and the settings.
        settings: the profile's ``browser`` settings; a proxy's password by reference.
        headless: without a window.
        arguments: of the caller, added to all others.
        environment: the whole environment of the browser.
        timeout: seconds it may take.
        opener: opens a password that is sealed in the settings.
    """

    program: str
    user_data: Path
    cache: Path
    fingerprint: Mapping[str, Any]
    presentation: Presentation
    settings: Mapping[str, Any]
    headless: bool
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    timeout: float
    opener: Callable[[str, str], str] | None = None


@runtime_checkable
class Engine(Protocol):
    """A kind of browser.

    Attributes:
        name: what users and records call it.
    """

    name: str

    def find(
        self, executable: str | os.PathLike[str] | None = None, *, cache: Path | None = None
    ) -> Found:
        """The browser of this machine.

        Args:
            executable: this one and no other.
            cache: a file that keeps versions.

        Raises:
            BrowserNotFoundError: there is none.
            MissingExtraError: a package is missing that finds it.
        """
        ...

    def version(self, found: Found) -> BrowserVersion:
        """What a found browser is, for its presentation."""
        ...

    def owns(self, user_data: Path) -> bool:
        """Whether the data in a directory are of this kind of browser."""
        ...

    def version_of_data(self, user_data: Path) -> str | None:
        """Which version used the data last, as far as they tell."""
        ...

    def lock_of(self, user_data: Path) -> BrowserLock | None:
        """Whom the browser's own lock names; None if there is none."""
        ...

    def clear_lock(self, user_data: Path) -> None:
        """Remove that lock."""
        ...

    def processes_of(self, user_data: Path) -> list[Process]:
        """The browsers that run on a directory, without their helpers."""
        ...

    def helpers_of(self, user_data: Path) -> list[Process]:
        """Their helper processes, as far as they can be told."""
        ...

    def launch(self, playwright: Any, launch: Launch) -> Any:
        """Start it by Playwright.

        Args:
            playwright: Playwright's object, the asynchronous or the synchronous one.
            launch: with what.

        Returns:
            The browser context, or what is awaited for it.
        """
        ...


def every() -> tuple[Engine, ...]:
    """All engines, the default one first."""
    from tweakio.browser.engines.camoufox import Camoufox
    from tweakio.browser.engines.chromium import Chromium

    return Chromium(), Camoufox()


def find_engine(name: str | Engine) -> Engine:
    """The engine of a name; an engine itself is taken as it is.

    Raises:
        InvalidInputError: there is none.
    """
    if not isinstance(name, str):
        return name
    known = {engine.name: engine for engine in every()}
    if name not in known:
        raise InvalidInputError(
            f"there is no browser engine {name[:40]!r}", hint=f"use one of {', '.join(known)}"
        )
    return known[name]


def of_data(user_data: Path) -> Engine | None:
    """The engine whose data are in a directory; None if there are none yet."""
    return next((engine for engine in every() if engine.owns(user_data)), None)
