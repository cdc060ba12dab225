"""The generated synchronous face, beyond what the contract suite tries."""

from __future__ import annotations

import asyncio
import inspect

import pytest

from tweakio.errors import InvalidInputError, SessionError
from tweakio.platforms import SessionHandler
from tweakio.platforms.builtin import WhatsAppSessionHandler
from tweakio.platforms.sync import SyncSessionHandler, synchronous


def methods(protocol):
    return {
        name: list(inspect.signature(method).parameters)
        for name, method in vars(protocol).items()
        if inspect.isfunction(method) and not name.startswith("_")
    }


def test_the_face_has_what_the_protocol_has():
    assert methods(SyncSessionHandler) == methods(SessionHandler)
    assert SyncSessionHandler.__annotations__.keys() == SessionHandler.__annotations__.keys()


class Odd(WhatsAppSessionHandler):
    """Does what a handler may do with a page, and more."""

    async def health(self, page):
        await asyncio.sleep(0.01)

    async def log_out(self, page):
        async with page.expect_event("console") as info:
            await page.evaluate("console.log('one', 2)")
        message = await info.value
        values = [await each.json_value() for each in message.args]
        element = await page.query_selector("p")
        return [values, message.text, await page.evaluate("(e) => e.tagName", element)]

    async def refresh_qr(self, page):
        async def answer(route, request):
            assert request.method == "GET"
            await route.fulfill(body=f"<p>{request.url}</p>")

        await page.route("**/*", answer)
        await page.goto("https://some.example/where")
        assert page.main_frame.url == page.url
        inside = page.locator("body").filter(has=page.locator("p"))
        return await inside.inner_text()

    async def export_session(self, context):
        pages = context.pages
        return {"pages": len(pages), "same": pages[0].context.pages[0].url}


def test_what_handlers_do_with_pages(in_sync):
    face = synchronous(Odd())

    def go(browser):
        context = browser.new_context()
        page = context.new_page()
        assert face.refresh_qr(page) == "https://some.example/where"
        assert face.log_out(page) == [["one", 2], "one 2", "P"]
        assert face.export_session(context) == {"pages": 1, "same": page.url}
        with pytest.raises(SessionError, match="health waits for something other"):
            face.health(page)
        with pytest.raises(InvalidInputError):
            face.request_code(page, "no number")
        context.close()

    in_sync(go)


def test_attributes_go_through():
    handler = WhatsAppSessionHandler()
    face = synchronous(handler)
    face.configure({"url": "https://service.example/"})
    assert face.login_url == handler.login_url == "https://service.example/"
    assert face.empty_session() == handler.empty_session()
    with pytest.raises(AttributeError):
        _ = face.nothing
