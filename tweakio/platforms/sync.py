"""The synchronous face of a session handler.

Handlers are written once, as coroutines. ``synchronous`` runs them on Playwright's synchronous
objects: each is handed over in a wrapper whose methods can be awaited and are done by then, so
that a coroutine runs from its beginning to its end without ever waiting.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Literal, Protocol

from tweakio.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Mapping

    from playwright.sync_api import BrowserContext, Page

    from tweakio.platforms.protocols import SessionHandler, Snapshot

__all__ = ["SyncSessionHandler", "synchronous"]

_PLAYWRIGHT = "playwright.sync_api"


class SyncSessionHandler(Protocol):
    """A ``SessionHandler`` for ``playwright.sync_api``; see there what the methods do."""

    login_url: str
    session_of_record: Literal["browser_profile", "session.json"]

    def empty_session(self) -> Mapping[str, Any]:
        """The content of a new profile's session.json."""
        ...

    def configure(self, config: Mapping[str, Any]) -> None:
        """Take over a profile's ``platform_config``."""
        ...

    def snapshot(self, page: Page) -> Snapshot:
        """What the page shows now."""
        ...

    def refresh_qr(self, page: Page) -> None:
        """Ask for a new QR code."""
        ...

    def request_code(self, page: Page, phone: str) -> None:
        """Ask for a pairing code."""
        ...

    def submit_password(self, page: Page, password: str) -> None:
        """Type the password that the page asks for."""
        ...

    def export_session(self, context: BrowserContext) -> Mapping[str, Any]:
        """What goes into session.json."""
        ...

    def import_session(self, context: BrowserContext, session: Mapping[str, Any]) -> None:
        """Put an exported session into a browser."""
        ...

    def log_out(self, page: Page) -> bool:
        """Log out at the service."""
        ...

    def health(self, page: Page) -> str | None:
        """What is wrong with a logged-in page."""
        ...


def synchronous(handler: SessionHandler) -> SyncSessionHandler:
    """The same handler for Playwright's synchronous pages and contexts.

    Args:
        handler: its coroutines may await nothing but what the page or the context gives.

    Returns:
        An object with the same attributes, whose coroutines are plain methods. They raise what
        the coroutines raise, and ``SessionError`` if one waits for anything else.
    """
    face: SyncSessionHandler = _Face(handler)
    return face


class _Face:
    """Stands in for a handler; coroutine functions become plain ones."""

    def __init__(self, handler: SessionHandler) -> None:
        self._handler = handler

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._handler, name)
        if not inspect.iscoroutinefunction(found):
            return found

        def run(*arguments: Any, **named: Any) -> Any:
            given = [_wrapped(one) for one in arguments]
            return _run(found(*given, **{key: _wrapped(one) for key, one in named.items()}), name)

        return run


def _run(coroutine: Coroutine[Any, Any, Any], name: str) -> Any:
    """Run a coroutine that never has to wait."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return _plain(done.value)
    coroutine.close()
    raise SessionError(
        f"the platform's {name} waits for something other than the page",
        hint="use it from asynchronous code",
    )


class _Done:
    """What an awaited call of a wrapper gives: the call is made when it is awaited."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call

    def __await__(self) -> Generator[Any, None, Any]:
        yield from ()  # nothing to wait for, but __await__ has to be a generator
        return self._call()


class _Wrapper:
    """One of Playwright's synchronous objects, with the manners of its asynchronous twin."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self._twin = _twin(real)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        if not callable(found):
            return _wrapped(found)

        def call(*arguments: Any, **named: Any) -> Any:
            def really() -> Any:
                given = [_plain(one) for one in arguments]
                return _wrapped(found(*given, **{key: _plain(one) for key, one in named.items()}))

            if inspect.iscoroutinefunction(getattr(self._twin, name, None)):
                return _Done(really)
            return really()

        return call

    async def __aenter__(self) -> Any:
        return _Expected(self._real.__enter__())

    async def __aexit__(self, *error: object) -> Any:
        return self._real.__exit__(*error)


class _Expected(_Wrapper):
    """What ``async with page.expect_...()`` gives: its value is awaited there."""

    @property
    def value(self) -> _Done:
        """The event, once it is there."""
        return _Done(lambda: _wrapped(self._real.value))


def _twin(real: object) -> Any:
    """The asynchronous class of the same name; it tells which methods are coroutines."""
    import playwright.async_api

    return getattr(playwright.async_api, type(real).__name__, None)


def _is_playwrights(value: object) -> bool:
    module = type(value).__module__
    return module.startswith((_PLAYWRIGHT, "playwright._impl._sync_base"))


def _wrapped(value: Any) -> Any:
    """A value from Playwright, on its way to a handler."""
    if _is_playwrights(value):
        return _Wrapper(value)
    if isinstance(value, list):
        return [_wrapped(one) for one in value]
    if isinstance(value, tuple) and type(value) is tuple:
        return tuple(_wrapped(one) for one in value)
    return value


def _plain(value: Any) -> Any:
    """A value from a handler, on its way to Playwright; functions are called with wrappers."""
    if isinstance(value, _Wrapper):
        return value._real  # noqa: SLF001 - both are of this module
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if inspect.isroutine(value):
        return _callback(value)
    return value


def _callback(function: Callable[..., Any]) -> Callable[..., Any]:
    def called(*arguments: Any) -> Any:
        result = function(*(_wrapped(one) for one in arguments))
        if inspect.iscoroutine(result):
            return _run(result, getattr(function, "__name__", "callback"))
        return _plain(result)

    # Playwright counts the parameters to know what to hand over.
    called.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return called
