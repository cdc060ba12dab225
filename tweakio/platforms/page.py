"""A session handler that is driven by a table of selectors.

Services change their pages without telling anybody. So what is known of a page is data: a
platform is a subclass with a table, and a profile can replace any entry of it by its
``platform_config``, without waiting for a new version of tweakio.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple
from urllib.parse import urlsplit

from tweakio.errors import BrowserError, InvalidInputError, LoginRefusedError, SessionError
from tweakio.platforms.addresses import checked_address
from tweakio.platforms.isolation import NoIsolationError, evaluate
from tweakio.platforms.protocols import LoginState, Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from playwright.async_api import BrowserContext, Page

__all__ = ["SELECTOR_NAMES", "PageHandler"]

SELECTOR_NAMES = frozenset(
    {
        "logged_in", "syncing", "syncing_text", "confirm", "confirm_text", "second_factor", "code",
        "typed_code", "typed_code_text", "expired", "expired_text", "qr_stale", "qr",
        "offline", "offline_text", "loading", "health",
        "second_factor_submit", "second_factor_error",
        "phone_link", "phone", "phone_submit", "phone_error",
        "menu", "settings", "more", "log_out", "confirm_log_out",
    }
)  # fmt: skip
"""What ``selector_<name>`` can stand for, whatever the platform."""

# The first one that is visible is what the page shows. A page that is logged in may show a
# progress bar of something else, and a QR code that is stale is still a QR code.
_STATES: tuple[tuple[str, LoginState], ...] = (
    ("logged_in", "logged_in"),
    ("syncing", "syncing"),
    ("confirm", "confirm_on_phone"),
    ("second_factor", "needs_password"),
    ("code", "needs_code"),
    ("typed_code", "needs_code"),
    ("expired", "expired"),
    ("qr_stale", "qr_stale"),
    ("qr", "needs_qr"),
    ("offline", "offline"),
    ("loading", "loading"),
)
# By what else a state is described than by a text of its own.
_DETAIL_OF = {"second_factor": "second_factor_error"}

# What Playwright's and the browsers' parsers say.
_BAD_SELECTOR = ("valid selector", "while parsing css selector")
_ERROR_PAGES = ("chrome-error:", "about:neterror", "about:certerror")
_PATIENCE = 20.0  # seconds that a page may take until it shows something that is known
_ACT_TIMEOUT = 10_000.0  # milliseconds for an element to be there and take a click
_LOOK_TIMEOUT = 3_000.0  # milliseconds for a picture
_ANSWER_TIMEOUT = 20.0  # seconds for a service to answer a click

# Of other elements the text is not read: a list of chats is nobody's business.
_TOLD = frozenset(
    {
        "syncing", "syncing_text", "confirm", "confirm_text", "typed_code_text", "expired",
        "expired_text", "offline", "offline_text", "health", "code",
        "second_factor_error", "phone_error",
    }
)  # fmt: skip
# innerText of an input is empty: what somebody has typed never leaves the page. The functions are
# those of the prototypes, because a form's inputs stand in for its own: <input name=getAttribute>.
_LOOK = """(selectors, attributes, told) => {
  const found = {}, bad = [];
  const own = (kind, name) => Object.getOwnPropertyDescriptor(kind.prototype, name);
  const box = (element) => Element.prototype.getBoundingClientRect.call(element);
  const visible = (element) => {
    const { width, height } = box(element);
    return width > 0 && height > 0 && getComputedStyle(element).visibility === "visible";
  };
  const text = (element) => {
    if (element instanceof HTMLProgressElement)
      return element.position >= 0 ? `${Math.round(100 * element.position)} %` : "";
    if (!(element instanceof HTMLElement)) return "";
    return (own(HTMLElement, "innerText").get.call(element) || "").slice(0, 400);
  };
  for (const [name, selector] of Object.entries(selectors)) {
    let elements;
    try { elements = Document.prototype.querySelectorAll.call(document, selector); }
    catch { bad.push(name); continue; }
    for (const element of elements) if (visible(element)) {
      const attribute = attributes[name];
      const { left, top, right, bottom, width, height } = box(element);
      const inside = left >= 0 && top >= 0 && right <= innerWidth && bottom <= innerHeight;
      const place = inside ? [left, top] : [left + scrollX, top + scrollY];
      found[name] = [
        told.includes(name) ? text(element) : "",
        attribute ? Element.prototype.getAttribute.call(element, attribute) : null,
        { clip: { x: place[0], y: place[1], width, height }, full_page: !inside },
      ];
      break;
    }
  }
  const complete = document.readyState === "complete";
  return { found, bad, complete, age: performance.now() / 1000 };
}"""
# Of a browser without worlds to choose from only this is asked in the page's own.
_AGE = "() => document.readyState === 'complete' ? performance.now() / 1000 : 0"
_PUT = """(items) => {
  localStorage.clear();
  for (const { name, value } of items) localStorage.setItem(name, value);
}"""


class _Element(NamedTuple):
    """A visible element: its text, the attribute that was asked for, and how to photograph it.

    ``place`` is for a screenshot of the page; None if only the element can say where it is.
    """

    text: str
    value: str | None
    place: Any


class _Sight(NamedTuple):
    """What can be seen on a page."""

    found: Mapping[str, _Element]
    settled: bool


class PageHandler:
    """A ``SessionHandler`` for a service whose page can be told by CSS selectors.

    Subclasses set the class attributes; a profile's ``platform_config`` overrides ``url`` and
    ``selector_<name>``.

    Attributes:
        login_url: the page on which a person logs in.
        session_of_record: see ``SessionHandler``.
        selectors: CSS selectors by name; see ``SELECTOR_NAMES``. Only visible elements count.
        attributes: by the same names, the attribute that holds the text of a QR or pairing
            code. Without one the QR code is photographed and read, and the pairing code is the
            element's text.
        expired_url: what the address contains when the service has ended the login; empty if it
            does not say.
        log_out_steps: names of selectors to click one after the other; those without a selector
            are left out.
        only_own_site: whether cookies and local storage of other sites are no part of a session.
    """

    login_url: str = ""
    session_of_record: Literal["browser_profile", "session.json"] = "browser_profile"
    selectors: ClassVar[Mapping[str, str]] = {}
    attributes: ClassVar[Mapping[str, str]] = {}
    expired_url: str = ""
    log_out_steps: ClassVar[Sequence[str]] = ("menu", "log_out", "confirm_log_out")
    only_own_site: bool = True

    def __init__(self) -> None:
        self._selectors = dict(self.selectors)
        self._attributes = dict(self.attributes)

    def empty_session(self) -> Mapping[str, Any]:
        """No cookies and no local storage, in the form that Playwright calls storage state."""
        return {"cookies": [], "origins": []}

    def configure(self, config: Mapping[str, Any]) -> None:
        """Take ``url`` and ``selector_<name>`` from the profile; leave other settings alone.

        Raises:
            InvalidInputError: one of them cannot be used.
        """
        if "url" in config:
            self.login_url = checked_address(config["url"])
        known = SELECTOR_NAMES | self._selectors.keys()
        for key, value in config.items():
            if not key.startswith("selector_"):
                continue
            name = key.removeprefix("selector_")
            if name not in known:
                raise InvalidInputError(
                    f"there is no setting {key[:60]!r}",
                    hint="the selectors are " + ", ".join(sorted(known)),
                )
            if not isinstance(value, str) or not value.strip():
                raise InvalidInputError(f"{key} is not a CSS selector")
            self._selectors[name] = value

    # What a page shows

    async def snapshot(self, page: Page) -> Snapshot:
        """What the page shows now, by one look at it.

        A picture of a QR code is read with zxing-cpp.

        Raises:
            BrowserError: the page was closed, or it crashed.
            InvalidInputError: a selector cannot be understood.
            MissingExtraError: there is a picture to read, and zxing-cpp is not installed.
        """
        if page.url.startswith(_ERROR_PAGES):
            return Snapshot("offline", detail="the service cannot be reached")
        try:
            sight = await self._look(page)
        except Exception as error:
            _raise_if_gone(page, error)
            return Snapshot("loading")  # it is on its way from one document to the next
        return await self._judge(page, sight)

    async def _look(self, page: Page) -> _Sight:
        try:
            seen = await evaluate(page, _LOOK, self._selectors, self._attributes, list(_TOLD))
        except NoIsolationError:
            return await self._look_by_locators(page)
        if seen["bad"]:
            raise _bad_selector(seen["bad"][0])
        found = {
            name: _Element(_line(text), value, place)
            for name, (text, value, place) in seen["found"].items()
        }
        return _Sight(found, bool(seen["complete"]) and seen["age"] > _PATIENCE)

    async def _look_by_locators(self, page: Page) -> _Sight:
        """The same, element by element, where there is no CDP (Camoufox, Firefox).

        What locators read is read in a world of Playwright's own, which the page does not see.
        """
        found = {}
        for name in self._selectors:
            try:
                if not await self._first(page, name).count():
                    continue
                found[name] = await self._element(page, name)
            except Exception as error:
                _raise_if_gone(page, error)
                if any(words in str(error) for words in _BAD_SELECTOR):
                    raise _bad_selector(name) from None
                # It went away, or the page did.
        age = await page.evaluate(_AGE)
        return _Sight(found, isinstance(age, (int, float)) and age > _PATIENCE)

    async def _element(self, page: Page, name: str) -> _Element:
        element = self._first(page, name)
        text, value = "", None
        if name in _TOLD:
            progress = element.and_(page.locator("css=progress"))
            if await progress.count():
                text = _percent(
                    await progress.get_attribute("value", timeout=_LOOK_TIMEOUT),
                    await progress.get_attribute("max", timeout=_LOOK_TIMEOUT),
                )
            else:
                text = await element.inner_text(timeout=_LOOK_TIMEOUT)
        if name in self._attributes:
            value = await element.get_attribute(self._attributes[name], timeout=_LOOK_TIMEOUT)
        return _Element(_line(text[:400]), value, None)

    async def _judge(self, page: Page, sight: _Sight) -> Snapshot:
        for name, state in _STATES:
            if name == "expired" and self.expired_url and self.expired_url in page.url:
                return Snapshot("expired", detail=_detail(sight, name))
            if name not in sight.found:
                continue
            if state == "needs_qr":
                return await self._qr(page, sight.found[name])
            if name == "code":
                return self._code(sight.found[name])
            return Snapshot(state, detail=_detail(sight, name))
        if not sight.settled:
            return Snapshot("loading")
        return Snapshot("unknown", detail=f"nothing that is known is on {_origin(page.url)}")

    async def _qr(self, page: Page, element: _Element) -> Snapshot:
        if "qr" in self._attributes:
            return Snapshot("needs_qr", qr=element.value) if element.value else Snapshot("loading")
        from tweakio.platforms.qr import read_qr

        try:
            if element.place is None:
                picture = await self._first(page, "qr").screenshot(timeout=_LOOK_TIMEOUT)
            else:
                # Not the element's own screenshot: that waits for one that has gone meanwhile.
                picture = await page.screenshot(type="png", timeout=_LOOK_TIMEOUT, **element.place)
        except Exception as error:
            _raise_if_gone(page, error)
            return Snapshot("loading")
        text = read_qr(picture)
        if text is None:
            return Snapshot("loading", detail="the QR code cannot be read yet")
        return Snapshot("needs_qr", qr=text)

    def _code(self, element: _Element) -> Snapshot:
        code = self.code_text(element.value if "code" in self._attributes else element.text)
        return Snapshot("needs_code", code=code) if code else Snapshot("loading")

    def code_text(self, shown: str | None) -> str:
        """The pairing code as a person types it, from what the page holds."""
        return (shown or "").strip()

    # What is done on a page

    async def refresh_qr(self, page: Page) -> None:
        """Click what renews a stale QR code.

        Raises:
            SessionError: the page has no such thing.
        """
        await self._click(page, "qr_stale")

    async def request_code(self, page: Page, phone: str) -> None:
        """Ask for a pairing code; it is shown when this returns.

        Raises:
            InvalidInputError: the number cannot be one, or the service has no pairing codes.
            LoginRefusedError: the service does not take the number.
            SessionError: the page is not as it is expected.
        """
        if "phone" not in self._selectors or "code" not in self._selectors:
            raise InvalidInputError(
                "this platform has no pairing codes", hint="leave out --phone and scan the QR code"
            )
        if not (phone.isascii() and phone.isdecimal() and 7 <= len(phone) <= 15):
            raise InvalidInputError(
                "a phone number has 7 to 15 digits", hint="with the country code, without '+' or 00"
            )
        if "phone_link" in self._selectors:
            await self._click(page, "phone_link")
        await self._fill(page, "phone", "+" + phone)
        await self._send(page, "phone")
        await self._until(page, "phone_error", lambda seen: seen.state == "needs_code")

    async def submit_password(self, page: Page, password: str) -> None:
        """Type the password and send it; the page has answered when this returns.

        A password that was wrong is no error: ``snapshot`` says ``needs_password`` again, with
        the page's complaint in ``detail``.

        Raises:
            SessionError: the page is not as it is expected.
        """
        await self._fill(page, "second_factor", password)
        await self._send(page, "second_factor")
        await self._until(
            page, None, lambda seen: seen.state != "needs_password" or bool(seen.detail)
        )

    async def log_out(self, page: Page) -> bool:
        """Click through the page's menu, and wait until it shows a login.

        Returns:
            Whether it does; False also if there is no selector for the way, or nobody to log out.
        """
        if "log_out" not in self._selectors:
            return False
        if (await self.snapshot(page)).state != "logged_in":
            return False
        try:
            for name in self.log_out_steps:
                if name in self._selectors:
                    await self._click(page, name)
            seen = await self._until(
                page, None, lambda seen: seen.state.startswith(("needs_", "qr_", "expired"))
            )
        except SessionError:
            return False
        return seen is not None

    async def health(self, page: Page) -> str | None:
        """The page's own warning, such as that the phone is offline; None if there is none."""
        if page.url.startswith(_ERROR_PAGES):
            return "the service cannot be reached"
        return await self._said(page, "health", "offline_text", "offline") or None

    # The session

    async def export_session(self, context: BrowserContext) -> Mapping[str, Any]:
        """Cookies and local storage, those of other sites left out.

        Raises:
            SessionError: the browser does not give them.
        """
        try:
            state = await context.storage_state()
        except Exception as error:
            raise _failed("the session could not be read from the browser", error) from None
        return self.own_part(state)

    def own_part(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """What of a browser's storage state is a session of this service.

        Args:
            state: in the form that Playwright gives it.
        """
        return {
            "cookies": [dict(one) for one in state.get("cookies", []) if self._owns_cookie(one)],
            "origins": [
                {
                    "origin": one["origin"],
                    "localStorage": [dict(item) for item in one.get("localStorage", [])],
                }
                for one in state.get("origins", [])
                if self._owns_origin(one)
            ],
        }

    async def import_session(self, context: BrowserContext, session: Mapping[str, Any]) -> None:
        """Put cookies and local storage into a browser that has not opened the service yet.

        The local storage is written on an empty page that stands in for each origin, so that
        nothing is asked of the service, and nothing is left that would write it again later.

        Raises:
            SessionError: it holds something else, or something of another site, or the browser
                does not take it; or the platform's session of record is the browser profile.
        """
        if self.session_of_record == "browser_profile":
            raise SessionError(
                "a login of this platform cannot be put into another browser",
                hint="its keys are in browser_profile/ and are not exported; log in again",
            )
        cookies, origins = _lists(session)
        if not all(map(self._owns_cookie, cookies)) or not all(map(self._owns_origin, origins)):
            raise SessionError(f"the session is not one of {_origin(self.login_url)}")
        try:
            if cookies:
                await context.add_cookies(cookies)
            if origins:
                await self._put_origins(context, origins)
        except Exception as error:
            raise _failed("the session could not be put into the browser", error) from None

    async def _put_origins(self, context: BrowserContext, origins: list[Any]) -> None:
        page = await context.new_page()
        try:
            await page.route("**/*", _answer_with_nothing)
            for one in origins:
                await page.goto(one["origin"] + "/", timeout=_ACT_TIMEOUT)
                try:
                    await evaluate(page, _PUT, one["localStorage"])
                except NoIsolationError:
                    await page.evaluate(_PUT, one["localStorage"])
        finally:
            await page.close()

    def _owns_cookie(self, cookie: Mapping[str, Any]) -> bool:
        domain = str(cookie.get("domain", "")).lstrip(".")
        host = urlsplit(self.login_url).hostname or ""
        return not self.only_own_site or host == domain or host.endswith("." + domain)

    def _owns_origin(self, entry: Mapping[str, Any]) -> bool:
        return not self.only_own_site or entry.get("origin") == _origin(self.login_url)

    # Clicking and typing

    def _first(self, page: Page, name: str) -> Any:
        return page.locator(f"css={self._selectors[name]}").locator("visible=true").first

    async def _click(self, page: Page, name: str) -> None:
        await self._act(page, name, "click")

    async def _fill(self, page: Page, name: str, text: str) -> None:
        await self._act(page, name, "fill", text)

    async def _send(self, page: Page, name: str) -> None:
        if name + "_submit" in self._selectors:
            await self._act(page, name + "_submit", "click")
        else:
            await self._act(page, name, "press", "Enter")

    async def _act(self, page: Page, name: str, verb: str, *arguments: str) -> None:
        if name not in self._selectors:
            raise _not_there(name)
        try:
            await getattr(self._first(page, name), verb)(*arguments, timeout=_ACT_TIMEOUT)
        except Exception as error:
            _raise_if_gone(page, error)
            # Playwright's message would say what was typed.
            raise _not_there(name) from None

    async def _until(
        self, page: Page, error_name: str | None, done: Callable[[Snapshot], bool]
    ) -> Snapshot:
        """Wait for the service's answer, with the page's own clock."""
        end = time.monotonic() + _ANSWER_TIMEOUT
        while True:
            seen = await self.snapshot(page)
            if done(seen):
                return seen
            if error_name and (said := await self._said(page, error_name)):
                raise LoginRefusedError(f"the service says: {said}")
            if time.monotonic() > end:
                raise SessionError("the service did not answer in time")
            try:
                await page.wait_for_timeout(100)
            except Exception as error:
                _raise_if_gone(page, error)

    async def _said(self, page: Page, *names: str) -> str:
        """The text of the first of these elements that is visible and has one."""
        try:
            sight = await self._look(page)
        except Exception as error:
            _raise_if_gone(page, error)
            return ""
        return next((sight.found[name].text for name in names if name in sight.found), "")


async def _answer_with_nothing(route: Any) -> None:
    await route.fulfill(status=200, content_type="text/html", body="<!doctype html>")


def _of_playwright(error: BaseException) -> bool:
    """By the name of its module, so that nothing here imports Playwright."""
    return any(kind.__module__.partition(".")[0] == "playwright" for kind in type(error).__mro__)


def _raise_if_gone(page: Page, error: Exception) -> None:
    """Return only if the page is still there and Playwright's complaint will pass."""
    if not _of_playwright(error):
        raise error
    if page.is_closed():
        raise BrowserError("the page was closed", hint="run the command again") from error
    if "crashed" in str(error):
        raise BrowserError("the page crashed", hint="run the command again") from error


def _failed(message: str, error: Exception) -> Exception:
    """A session error in place of one of Playwright's, which may quote a cookie."""
    return SessionError(message) if _of_playwright(error) else error


def _bad_selector(name: str) -> InvalidInputError:
    return InvalidInputError(
        f"selector_{name} is not a CSS selector",
        hint="correct it with 'tweakio profile set <id> --config'",
    )


def _percent(value: str | None, most: str | None) -> str:
    """How far an element <progress> is, by its attributes; empty if it does not say."""
    try:
        return f"{round(100 * min(1.0, float(value or '') / float(most or 1)))} %"
    except (ValueError, ZeroDivisionError):
        return ""


def _not_there(name: str) -> SessionError:
    return SessionError(
        f"the page has no usable element for {name!r}",
        hint=f"if the service has changed its page, set selector_{name} to a CSS selector:"
        " tweakio profile set --config KEY=VALUE ID",
    )


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else parts.scheme + ":"


def _line(text: str) -> str:
    """One short line that a terminal can show: a page must not be able to steer it."""
    words = " ".join(text.split())
    return "".join(one for one in words if one.isprintable())[:120]


def _detail(sight: _Sight, name: str) -> str:
    names = (_DETAIL_OF.get(name, name + "_text"), name)
    return next((sight.found[each].text for each in names if each in sight.found), "")


def _lists(session: Mapping[str, Any]) -> tuple[list[Any], list[Any]]:
    cookies, origins = session.get("cookies", []), session.get("origins", [])
    if not isinstance(cookies, list) or not isinstance(origins, list):
        raise SessionError("the session has not the form of one")
    good = all(isinstance(one, dict) for one in cookies) and all(
        isinstance(one, dict)
        and isinstance(one.get("origin"), str)
        and isinstance(one.get("localStorage", []), list)
        for one in origins
    )
    if not good:
        raise SessionError("the session has not the form of one")
    return cookies, [{"localStorage": [], **one} for one in origins]
