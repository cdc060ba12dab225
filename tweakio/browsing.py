"""A profile's browser, opened and closed: ``BrowserManager`` and ``SyncBrowserManager``."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import threading
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

from tweakio import durable, seen, trust
from tweakio.browser import engines
from tweakio.browser.driver import AsyncDriver, SyncDriver, browser_error, is_over
from tweakio.browser.ending import Ending
from tweakio.browser.engines import Launch
from tweakio.browser.keeper import HANGS, Keeper
from tweakio.browser.pausing import blocking, waiting
from tweakio.errors import (
    BrowserError,
    ConcurrentChangeError,
    InvalidInputError,
    ProfileCorruptedError,
    ProfileNotFoundError,
    SessionError,
    TweakioError,
    UnknownPlatformError,
    is_of_the_moment,
    run,
    storage_error,
)
from tweakio.manager import ProfileManager
from tweakio.metadata import corrupted_error
from tweakio.models import Profile
from tweakio.owners import refuse_foreign_data
from tweakio.platforms import Platform, find_platform, fingerprints
from tweakio.platforms.addresses import checked_address
from tweakio.references import browser_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from playwright.async_api import BrowserContext, Page
    from playwright.sync_api import BrowserContext as SyncBrowserContext
    from playwright.sync_api import Page as SyncPage

    from tweakio.browser.engines import Engine
    from tweakio.browser.pausing import Pauses
    from tweakio.platforms import SessionHandler

__all__ = ["BrowserManager", "SyncBrowserManager"]

log = logging.getLogger(__name__)

# Closing takes well below a second; a browser that hangs is ended after these.
_CLOSE_SECONDS = 10.0
_MOST_BYTES = 1 << 24

_OF_SDK = {
    "addons": "extensions are loaded with args=['--load-extension=DIRECTORY']",
    "cache_dir_path": "each profile has its own directory; home= says where all of them are",
    "override_cookies": "'tweakio profile recover ID --mode hard' starts a session anew",
    "enable_cache": "the cache is always on, and 'tweakio profile clean ID' empties it",
    "fingerprint": "each profile has its own, fixed when it was created",
    "override_fingerprint": "a new profile has a new one",
    "debug_fingerprint": "fingerprint.json in the profile's directory is readable",
    "debug_fingerprint_json_path": "fingerprint.json in the profile's directory is readable",
}


class _Prepared(NamedTuple):
    """Everything that has to be done before the browser starts has been done."""

    keeper: Keeper
    engine: Engine
    launch: Launch


class _Browsing:
    """What both managers have in common: all but the waiting for Playwright."""

    def __init__(
        self,
        profile: str | Profile | None = None,
        *,
        manager: ProfileManager | None = None,
        home: str | os.PathLike[str] | None = None,
        engine: str | Engine | None = None,
        executable: str | os.PathLike[str] | None = None,
        headless: bool = True,
        timeout: float = 30.0,
        force: bool = False,
        args: Sequence[str] = (),
        locale: str | None = None,
        **of_sdk: Any,
    ) -> None:
        _warn_about(of_sdk)
        if profile is not None and not isinstance(profile, (str, Profile)):
            raise InvalidInputError("profile must be an id or a Profile", hint="name its id")
        if manager is not None and home is not None:
            raise InvalidInputError("give either a manager or a home", hint="leave out home")
        self._named = profile.id if isinstance(profile, Profile) else profile
        self._own = manager is None
        self.manager = ProfileManager(home) if manager is None else manager
        """Whose profiles these are."""
        self._engine = None if engine is None else engines.find_engine(engine)
        self._executable = executable
        self._headless = headless
        self._timeout = timeout
        self._force = force
        self._args = tuple(args)
        self._locale = locale
        self._profile: Profile | None = None
        self._handler: SessionHandler | None = None
        self._keeper: Keeper | None = None
        self._gone = False
        self._anew = False
        self._ending = Ending(self._end_now)
        self._changing = asyncio.Lock()

    @property
    def profile(self) -> Profile:
        """The profile, as it was when it was opened last, or is looked at first.

        Raises:
            ProfileNotFoundError: there is none of this id, or none is active.
        """
        if self._profile is None:
            self._profile = self.manager.get_profile(self._named or self._active())
        return self._profile

    def _active(self) -> str:
        """The active profile; on a machine that has none at all, a new one."""
        profiles = self.manager.list_profiles()
        active = self.manager.registry.get_active()
        if active is not None:
            return active
        if any(profile.id == "default" for profile in profiles):
            return "default"
        if profiles:
            raise ProfileNotFoundError(
                "no profile is active",
                hint="run 'tweakio profile activate <id>', or name the profile",
            )
        return self.manager.ensure_default("whatsapp").id

    @property
    def handler(self) -> SessionHandler:
        """The platform's session handler, set up for the profile.

        Raises:
            UnknownPlatformError: the package of the platform is not installed.
            InvalidInputError, SecretNotFoundError: the profile's settings cannot be used.
            UntrustedSettingsError: they came from elsewhere, and nobody confirmed them here.
        """
        if self._handler is None:
            from tweakio import references

            profile = self.profile
            trust.require(self.manager.repository, profile)
            handler = self._platform(profile).session_handler()
            # One that was written before there were browsers may lack it.
            configure = getattr(handler, "configure", None)
            if configure is not None:
                config = references.resolve_config(
                    profile.platform_config,
                    opener=self.manager.vault.opener(profile.id, profile.created_at),
                    declared=getattr(handler, "secret_settings", ()),
                )
                if config.get("url"):
                    checked_address(config["url"])  # whoever wrote the handler
                configure(config)
            self._handler = handler
        return self._handler

    @staticmethod
    def _platform(profile: Profile) -> Platform:
        platform = find_platform(profile.platform)
        if platform is None:
            raise UnknownPlatformError(
                f"the platform {profile.platform!r} of profile '{profile.id}' is not known",
                hint="install the package that provides it",
            )
        return platform

    # Before the browser

    def _prepare(self) -> Pauses[_Prepared]:
        """Take the profile, and say what to start."""
        self._profile = None
        profile = self.profile
        if profile.status == "corrupted":
            raise corrupted_error(profile.id, profile.problem)
        trust.require(self.manager.repository, profile)
        layout = self.manager.layout
        engine = self._engine_for(profile)
        found = engine.find(self._executable, cache=layout.browser_cache)
        keeper = Keeper(profile.id, layout, self.manager.locks, engine, found)
        try:
            yield from keeper.take(self._timeout, self._look_again, force=self._force)
        except ProfileNotFoundError:
            # A change may have moved its directory away, and not have taken place yet: this look
            # waits for its end.
            self.manager.get_profile(profile.id)
            yield from keeper.take(self._timeout, self._look_again, force=self._force)
        try:
            guard = self.manager.locks.guard
            if guard is not None:
                guard.watch(profile.id, self._close_on_loss(keeper))
            profile = self.profile
            self._handler = None
            version = engine.version(found)
            paths = layout.profile(profile.id)
            _warn_of_older(profile.id, engine.version_of_data(paths.browser_profile), found.version)
            settings = self._settings(profile)
            fingerprint = _read_object(paths.fingerprint)
            if fingerprint is None:
                raise corrupted_error(profile.id, "fingerprint.json cannot be read")
            platform = find_platform(profile.platform)
            generator = platform.fingerprint_generator() if platform is not None else None
            launch = Launch(
                program=found.path,
                user_data=paths.browser_profile,
                cache=paths.cache,
                fingerprint=fingerprint,
                presentation=fingerprints.present(generator, fingerprint, settings, version),
                settings=settings,
                headless=self._headless,
                arguments=self._args,
                environment=browser_environment(os.environ),
                timeout=self._timeout,
                opener=self.manager.vault.opener(profile.id, profile.created_at),
            )
        except BaseException:
            keeper.give_up()
            raise
        return _Prepared(keeper, engine, launch)

    def _look_again(self) -> None:
        """Read the profile anew, now that it is locked.

        A change that takes a profile's data away looks at the lock first. One that did so before
        the lock was taken has ended when the repository is free; later ones see the lock.
        """
        profile_id = self.profile.id
        with self.manager.repository.exclusive():
            pass
        self._profile = self.manager.get_profile(profile_id)
        if not self.manager.locks.is_current(profile_id):
            raise ConcurrentChangeError(
                f"profile '{profile_id}' was deleted and made anew just now",
                hint="run it again",
                profile_id=profile_id,
            )
        trust.require(self.manager.repository, self._profile)
        self._refuse_loss(self._profile)
        refuse_foreign_data(self.manager.layout.profile(profile_id).browser_profile, profile_id)

    def _refuse_loss(self, profile: Profile) -> None:
        """Before an empty directory hides that git has removed the browser data.

        Raises:
            ProfileCorruptedError: something has, and nobody said to start anew.
        """
        layout = self.manager.layout
        if not seen.is_lost(layout, profile.id, profile.created_at):
            seen.note(layout, profile.id, profile.created_at)
            return
        if self._anew:
            log.warning("the browser data of profile '%s' are gone; it starts anew", profile.id)
            return
        raise ProfileCorruptedError(
            f"the browser data of profile '{profile.id}' are gone, and it was not tweakio that "
            "removed them",
            hint=self.manager.back_from_loss(profile.id),
            profile_id=profile.id,
        )

    def start_anew(self) -> None:
        """Open it also if its browser data were removed: a person logs in again."""
        self._anew = True

    def _engine_for(self, profile: Profile) -> Engine:
        """The named engine, else the one whose data are there.

        Raises:
            BrowserError: the data are another one's.
        """
        data = engines.of_data(self.manager.layout.profile(profile.id).browser_profile)
        if self._engine is None:
            return data or engines.find_engine(engines.DEFAULT)
        if data is not None and data.name != self._engine.name:
            raise BrowserError(
                f"the browser data of profile '{profile.id}' are {data.name}'s, not "
                f"{self._engine.name}'s",
                hint=f"open it with {data.name}, or start anew: "
                + run("tweakio profile recover --mode hard", profile.id),
                profile_id=profile.id,
            )
        return self._engine

    def _settings(self, profile: Profile) -> dict[str, Any]:
        settings: dict[str, Any] = dict(getattr(profile, "browser", None) or {})
        if self._locale:
            settings["locale"] = self._locale
        return settings

    def _session(self, keeper: Keeper) -> Mapping[str, Any] | None:
        """What has to be put into the browser before it is used; None if nothing has to be."""
        if not keeper.session_to_import or find_platform(self.profile.platform) is None:
            return None
        self.manager.vault.restore_if_missing(self.profile.id)
        session = _read_object(self.manager.layout.profile(self.profile.id).session) or {}
        if not any(session.values()) or self.handler.session_of_record != "session.json":
            return None
        return None if session == dict(self.handler.empty_session()) else session

    def _launch_error(self, error: Exception) -> BrowserError:
        name = self.profile.id
        return browser_error(
            error, f"the browser of profile '{name}' did not start", profile_id=name
        )

    # After it

    def _close_on_loss(self, keeper: Keeper) -> Callable[[], None]:
        """What closes the browser, from another thread, when the lease is lost."""
        raise NotImplementedError

    def _refuse_lost(self) -> None:
        """Whoever lost the profile while its browser was being started does not use it."""
        guard = self.manager.locks.guard
        if guard is not None:
            guard.refuse_lost(self.profile.id)

    def _end_now(self) -> None:
        """The program ends, and nobody has closed it: without Playwright."""
        if self._keeper is not None:
            self._keeper.end_driver()
            blocking(self._keeper.finish())

    @property
    def _is_open(self) -> bool:
        return not self._gone and self._keeper is not None and self._keeper.runs

    def _mark_gone(self, *_: object) -> None:
        self._gone = True

    def _ended(self) -> None:
        self._ending.call_off()
        self._keeper = None
        seen.note(self.manager.layout, self.profile.id, self.profile.created_at)

    def _let_go(self) -> None:
        if self._own:
            self.manager.close()


class BrowserManager(_Browsing):
    """A profile's browser in a program with asyncio.

    ``async with BrowserManager("sales") as context`` gives Playwright's browser context. The
    profile is locked for as long as the browser runs, even if this program dies.

    Args:
        profile: an id or a ``Profile``; the active one by default.
        manager: whose profiles these are, and whose lock is used if it holds the profile; one of
            its own by default.
        home: the home of that own one.
        engine: ``chromium`` or ``camoufox``, or an ``Engine``; by default the one that the
            profile's browser data are of, Chromium if there are none yet.
        executable: the browser's program; else it is looked for.
        headless: without a window.
        timeout: seconds to wait for another program that has the profile, and for the start.
        force: take another machine's lock on the browser data for dead.
        args: more arguments for the browser.
        locale: such as ``de-DE``, instead of the profile's own.
        **of_sdk: what tweakio-sdk 0.1.5 had besides: a warning says what to do instead.

    Raises:
        InvalidInputError: an argument cannot be used.
    """

    _context: BrowserContext | None = None
    _driver: AsyncDriver | None = None
    _closing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> BrowserContext:
        return await self.open()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def browser(self) -> BrowserContext | None:
        """The context; None while it is closed."""
        return self._context

    async def open(self) -> BrowserContext:
        """Open the browser, or give the context if it is open.

        Raises:
            LockTimeoutError: another program has the profile.
            LeaseError: another machine has its lease, where leases are used.
            BrowserLockedError: a browser has its data that is not ours to end.
            BrowserNotFoundError, MissingExtraError: something has to be installed.
            BrowserError: it did not start.
            ProfileNotFoundError, ProfileCorruptedError: the profile cannot be opened.
            UntrustedSettingsError: its settings came from elsewhere and were not confirmed here.
            SessionError: its session could not be put into the browser.
        """
        async with self._changing:
            if self._context is not None and self._is_open:
                return self._context
            await self._close()
            try:
                self._context = await self._open()
            except BaseException:
                await self._close()
                raise
            return self._context

    async def _open(self) -> BrowserContext:
        prepared = await waiting(self._prepare())
        keeper = self._keeper = prepared.keeper
        self._gone = False
        self._ending.expect()
        driver = self._driver = await AsyncDriver.use()
        with keeper.starting() as program:
            try:
                context: BrowserContext = await prepared.engine.launch(
                    driver.playwright, prepared.launch._replace(program=program)
                )
            except TweakioError:
                raise
            except Exception as error:
                if is_over(error):
                    driver.give_up()
                raise self._launch_error(error) from error
        self._context = context
        context.on("close", self._mark_gone)
        keeper.launched()
        self._refuse_lost()
        session = self._session(keeper)
        if session is not None:
            try:
                await self.handler.import_session(context, session)
            except TweakioError:
                raise
            except Exception as error:
                raise _import_error(self.profile.id, error) from error
        keeper.session_imported()
        return context

    def _close_on_loss(self, keeper: Keeper) -> Callable[[], None]:
        loop = asyncio.get_running_loop()

        async def close() -> None:
            async with self._changing:
                if self._keeper is keeper:
                    await self._close()

        def begin() -> None:
            self._closing = loop.create_task(close())

        def lost() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(begin)
            # A program that does not let its loop run keeps nothing open by that.
            blocking(keeper.end_for_another(_CLOSE_SECONDS))

        return lost

    async def close(self) -> None:
        """Close the browser in order, so that everything is on the disk; nothing to do if it is.

        Raises:
            BrowserError: it cannot be ended.
        """
        async with self._changing:
            await self._close()

    async def _close(self) -> None:
        context, self._context = self._context, None
        try:
            hangs = False
            # If the loop's tasks were all cancelled just now, let each of them learn of it.
            await asyncio.sleep(0)
            if self._driver is not None and self._driver.broken:
                if self._keeper is not None:
                    self._keeper.end_driver()
            elif context is not None and not self._gone:
                try:
                    await asyncio.wait_for(context.close(), _CLOSE_SECONDS)
                except asyncio.TimeoutError:
                    hangs = True
                except Exception as error:
                    # Its driver died: then it closes by itself.
                    log.debug("closing %s: %s", context, error)
        finally:
            try:
                if self._keeper is not None:
                    # One that is not ready yet has nothing to lose.
                    given = HANGS if hangs else _CLOSE_SECONDS if context is not None else 0.0
                    await waiting(self._keeper.finish(by_itself=given))
                    self._ended()
            finally:
                self._let_go()
                driver, self._driver = self._driver, None
                if driver is not None:
                    await driver.leave()

    # The names of tweakio-sdk 0.1.5

    async def getInstance(self) -> BrowserContext:  # noqa: N802 - the name is given
        """The browser's context; opens it if it is not open."""
        return await self.open()

    async def getPage(self) -> Page:  # noqa: N802 - the name is given
        """A blank page, opened if there is none; opens the browser if it is not open."""
        context = await self.open()
        for page in context.pages:
            if page.url == "about:blank":
                return page
        return await context.new_page()

    async def CloseBrowser(self) -> None:  # noqa: N802 - the name is given
        """Close the browser."""
        await self.close()


class SyncBrowserManager(_Browsing):
    """A profile's browser in a program without asyncio; see ``BrowserManager``.

    ``with SyncBrowserManager("sales") as context`` gives the context of Playwright's synchronous
    side. It is used in the thread that opened it.
    """

    _context: SyncBrowserContext | None = None
    _driver: SyncDriver | None = None

    def __enter__(self) -> SyncBrowserContext:
        return self.open()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def browser(self) -> SyncBrowserContext | None:
        """The context; None while it is closed."""
        return self._context

    def open(self) -> SyncBrowserContext:
        """Open the browser, or give the context if it is open; see ``BrowserManager.open``."""
        if self._context is not None and self._is_open:
            return self._context
        self.close()
        try:
            self._context = self._open()
        except BaseException:
            self.close()
            raise
        return self._context

    def _open(self) -> SyncBrowserContext:
        prepared = blocking(self._prepare())
        keeper = self._keeper = prepared.keeper
        self._gone = False
        self._ending.expect()
        driver = self._driver = SyncDriver.use()
        with keeper.starting() as program:
            try:
                context: SyncBrowserContext = prepared.engine.launch(
                    driver.playwright, prepared.launch._replace(program=program)
                )
            except TweakioError:
                raise
            except Exception as error:
                if is_over(error):
                    driver.give_up()
                raise self._launch_error(error) from error
        self._context = context
        context.on("close", self._mark_gone)
        keeper.launched()
        self._refuse_lost()
        session = self._session(keeper)
        if session is not None:
            from tweakio.platforms.sync import synchronous

            try:
                synchronous(self.handler).import_session(context, session)
            except TweakioError:
                raise
            except Exception as error:
                raise _import_error(self.profile.id, error) from error
        keeper.session_imported()
        return context

    def _close_on_loss(self, keeper: Keeper) -> Callable[[], None]:
        # Playwright's objects belong to the thread that made them.
        driver = self._driver

        def lost() -> None:
            found = driver or self._driver
            alone = found is not None and not found.is_shared
            if alone:
                # Without its driver the browser closes by itself, in order; what is asked of
                # Playwright after that would wait in vain.
                self._gone = True
                keeper.end_driver()
            blocking(keeper.end_for_another(_CLOSE_SECONDS if alone else 0.0))

        return lost

    def close(self) -> None:
        """Close the browser in order; see ``BrowserManager.close``."""
        context, self._context = self._context, None
        driver, self._driver = self._driver, None
        # A Ctrl-C in the middle of a call breaks Playwright's synchronous side for good.
        broken = driver is not None and driver.broken
        try:
            if broken and self._keeper is not None:
                self._keeper.end_driver()
            elif context is not None and not self._gone:
                self._close_context(context)
        finally:
            try:
                if self._keeper is not None:
                    given = _CLOSE_SECONDS if context is not None else 0.0
                    blocking(self._keeper.finish(by_itself=given))
                    self._ended()
            finally:
                self._let_go()
                if driver is not None:
                    driver.leave()

    def _close_context(self, context: SyncBrowserContext) -> None:
        """Playwright's call has no time limit; a browser that hangs is ended beside it."""
        keeper = self._keeper
        assert keeper is not None
        limit = threading.Timer(_CLOSE_SECONDS, lambda: blocking(keeper.end_hung()))
        limit.daemon = True
        limit.start()
        try:
            context.close()
        except Exception as error:
            log.debug("closing %s: %s", context, error)
        finally:
            limit.cancel()

    # The names of tweakio-sdk 0.1.5

    def getInstance(self) -> SyncBrowserContext:  # noqa: N802 - the name is given
        """The browser's context; opens it if it is not open."""
        return self.open()

    def getPage(self) -> SyncPage:  # noqa: N802 - the name is given
        """A blank page, opened if there is none; opens the browser if it is not open."""
        context = self.open()
        for page in context.pages:
            if page.url == "about:blank":
                return page
        return context.new_page()

    def CloseBrowser(self) -> None:  # noqa: N802 - the name is given
        """Close the browser."""
        self.close()


def _read_object(path: Path) -> dict[str, Any] | None:
    """A JSON object from a file; None if there is none, or something else.

    Raises:
        StorageError: it cannot be read now.
    """
    try:
        value = json.loads(durable.read_regular(path, _MOST_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, OSError) and is_of_the_moment(error):
            raise storage_error(error, f"read {path.name}") from error
        return None
    return value if isinstance(value, dict) else None


def _import_error(profile_id: str, error: Exception) -> SessionError:
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    return SessionError(
        f"the session of profile '{profile_id}' could not be put into its browser: {reason[:200]}",
        hint="run it again; if that does not help, move session.json away and log in anew",
        profile_id=profile_id,
    )


def _warn_about(of_sdk: Mapping[str, Any]) -> None:
    for name in of_sdk:
        if name not in _OF_SDK:
            raise TypeError(f"unexpected argument {name!r}")
        warnings.warn(
            f"{name} has no effect any more: {_OF_SDK[name]}", DeprecationWarning, stacklevel=3
        )


def _warn_of_older(profile_id: str, before: str | None, now: str) -> None:
    """Say that a browser is older than the one that wrote the data: it says nothing itself."""
    written, read = (text.partition(".")[0] for text in (before or "", now))
    if written.isdecimal() and read.isdecimal() and int(written) > int(read):
        log.warning(
            "the browser data of profile '%s' were last used by version %s, and this browser is "
            "%s, which may not read all of them: take the newer one with --browser",
            profile_id,
            before,
            now,
        )
