"""One suite for every session handler, ours and others'."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from standin import NotCurrentError, Service

from platforms.acting import log_in, until
from platforms.cases import CASES, Case
from tweakio.errors import BrowserError, InvalidInputError, SessionError
from tweakio.platforms import SessionHandler, find_platform
from tweakio.platforms.sync import synchronous

pytestmark = pytest.mark.usefixtures("others")


@pytest.fixture(params=CASES, ids=lambda case: case.platform)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture
def service(case: Case) -> Iterator[Service]:
    with case.service() as service:
        yield service


@pytest.fixture
def handler(case: Case, service: Service) -> SessionHandler:
    platform = find_platform(case.platform)
    assert platform is not None
    made = platform.session_handler()
    made.configure(case.config(service))
    return made


def test_it_is_one(handler, case, service):
    assert isinstance(handler, SessionHandler)
    assert handler.login_url == service.url
    assert handler.session_of_record in ("browser_profile", "session.json")
    assert json.loads(json.dumps(handler.empty_session())) == handler.empty_session()
    other = find_platform(case.platform).session_handler()
    assert other is not handler
    assert other.login_url != service.url, "one profile's settings are another's"


@pytest.mark.parametrize("url", ["", "no address", "ftp://127.0.0.1/", 5, None])
def test_an_address_that_is_none(handler, url):
    with pytest.raises(InvalidInputError):
        handler.configure({"url": url})


def test_settings_of_others_are_left_alone(handler, service):
    handler.configure({"api_id": "12345", "api_hash": "abc"})
    assert handler.login_url == service.url


def test_from_nothing_to_logged_in_and_out(handler, case, service, page, run):
    async def go():
        await page.goto(handler.login_url)
        first = await until(handler, page, "needs_qr")
        assert service.qr_codes() == [first.qr]
        assert first.qr not in repr(first)
        assert await handler.log_out(page) is False

        before = await page.content()
        assert await handler.snapshot(page) == first
        assert await page.content() == before, "a look changes the page"

        service.rotate()
        with pytest.raises(NotCurrentError):
            service.scan(first.qr)
        assert (await log_in(case, handler, page, service)).state == "logged_in"
        assert service.logged_in() == ["alice"]
        assert await handler.health(page) is None

        await page.reload()
        await until(handler, page, "logged_in")
        assert await handler.log_out(page) is True
        await until(handler, page, "needs_qr", "expired")
        assert service.wait_for(lambda: not service.logged_in())
        await log_in(case, handler, page, service, "bob")
        assert service.logged_in() == ["bob"]

    run(go())


def test_a_login_that_the_service_has_ended(handler, case, service, page, run):
    async def go():
        await log_in(case, handler, page, service)
        service.log_out_remotely()
        await until(handler, page, case.ends_as)
        await page.goto(handler.login_url)
        await until(handler, page, "needs_qr")

    run(go())


def test_a_service_that_cannot_be_reached(handler, case, service, page, run):
    async def go():
        service.go_offline()
        with pytest.raises(Exception, match="ERR_"):
            await page.goto(handler.login_url)
        await until(handler, page, "offline")
        service.go_online()
        await log_in(case, handler, page, service)

    run(go())


def test_a_page_that_is_closed(handler, case, page, run):
    if case.platform == "signal":
        pytest.skip("Playwright's own error, which login translates")

    async def go():
        await page.close()
        with pytest.raises(BrowserError, match="closed"):
            await handler.snapshot(page)
        with pytest.raises(BrowserError, match="closed"):
            await handler.health(page)

    run(go())


async def _persistent(chromium, directory, options):
    return await chromium.launch_persistent_context(str(directory), **options)


def test_a_login_outlives_the_browser(
    handler, case, service, chromium, launch_options, tmp_path, run
):
    async def go():
        context = await _persistent(chromium, tmp_path / "data", launch_options)
        await log_in(case, handler, context.pages[0], service)
        await context.close()
        again = await _persistent(chromium, tmp_path / "data", launch_options)
        try:
            await again.pages[0].goto(handler.login_url)
            await until(handler, again.pages[0], "logged_in")
            assert await again.pages[0].locator("#me").inner_text() == "alice"
        finally:
            await again.close()

    run(go())


def test_what_session_json_can_do(handler, case, service, context, browser, run):
    async def go():
        page = await context.new_page()
        await log_in(case, handler, page, service)
        exported = json.loads(json.dumps(await handler.export_session(context)))
        fresh = await browser.new_context()
        try:
            if handler.session_of_record == "browser_profile":
                with pytest.raises(SessionError):
                    await handler.import_session(fresh, exported)
                return
            await handler.import_session(fresh, exported)
            assert [each.url for each in fresh.pages] == [], "a page is left open"
            second = await fresh.new_page()
            await second.goto(handler.login_url)
            await until(handler, second, "logged_in")
            assert await second.locator("#me").inner_text() == "alice"
        finally:
            await fresh.close()

    run(go())


SECRET = {"name": "a", "value": "secret-b", "domain": "other.example", "path": "/"}
BAD_SESSIONS: list[dict[str, Any]] = [
    {"cookies": "none"},
    {"cookies": ["none"]},
    {"cookies": [SECRET]},
]


def test_sessions_that_are_none(handler, case, shared, run):
    # A custom service may log in by way of another site.
    bad = BAD_SESSIONS[:2] if case.platform == "custom" else BAD_SESSIONS

    async def go():
        for session in bad:
            with pytest.raises(SessionError) as caught:
                await handler.import_session(shared, session)
            assert "secret-b" not in str(caught.value)
        assert await shared.cookies() == []

    run(go())


def test_the_synchronous_face(handler, case, service, in_sync):
    face = synchronous(handler)
    assert face.login_url == service.url

    def go(browser):
        context = browser.new_context()
        page = context.new_page()

        def until(*states):
            for _ in range(600):
                seen = face.snapshot(page)
                if seen.state in states:
                    return seen
                page.wait_for_timeout(50)
            raise AssertionError(f"{seen!r}, not {states}")

        page.goto(face.login_url)
        service.scan(until("needs_qr").qr)
        if case.confirms:
            until("confirm_on_phone")
            service.confirm()
        until("logged_in")
        assert face.health(page) is None
        exported = face.export_session(context)
        json.dumps(exported)
        if face.session_of_record == "session.json":
            fresh = browser.new_context()
            face.import_session(fresh, exported)
            second = fresh.new_page()
            second.goto(face.login_url)
            page, first = second, page
            until("logged_in")
            page = first
            fresh.close()
        assert face.log_out(page) is True
        context.close()

    in_sync(go)
    assert service.wait_for(lambda: not service.logged_in())
