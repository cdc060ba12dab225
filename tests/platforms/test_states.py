"""What each service's page can show besides the way of the contract suite."""

from __future__ import annotations

import json

import pytest
import segno
from standin import Custom, Discord, Telegram, WhatsApp

from platforms.acting import log_in, until
from platforms.cases import CASES
from tweakio.errors import BrowserError, InvalidInputError, LoginRefusedError, SessionError
from tweakio.platforms import page as page_module
from tweakio.platforms.builtin import (
    CustomSessionHandler,
    DiscordSessionHandler,
    TelegramSessionHandler,
    WhatsAppSessionHandler,
)

WHATSAPP, TELEGRAM, DISCORD, CUSTOM = CASES[:4]


def made(kind, service):
    handler = kind()
    handler.configure(service.config if isinstance(service, Custom) else {"url": service.url})
    return handler


# WhatsApp


def test_whatsapps_qr_is_replaced_in_time(page, run):
    with WhatsApp(rotate_every=0.3) as service:
        handler = made(WhatsAppSessionHandler, service)

        async def go():
            await page.goto(handler.login_url)
            seen = set()
            while len(seen) < 3:
                seen.add((await until(handler, page, "needs_qr")).qr)

        run(go())


def test_whatsapps_qr_goes_stale_and_is_renewed(page, run):
    with WhatsApp(rotations=2) as service:
        handler = made(WhatsAppSessionHandler, service)

        async def go():
            await page.goto(handler.login_url)
            first = (await until(handler, page, "needs_qr")).qr
            service.rotate()
            while (second := (await until(handler, page, "needs_qr")).qr) == first:
                await page.wait_for_timeout(20)
            service.rotate()
            await until(handler, page, "qr_stale")
            assert service.qr_codes() == []
            await handler.refresh_qr(page)
            third = (await until(handler, page, "needs_qr")).qr
            assert third not in (first, second)
            service.scan(third)
            await until(handler, page, "logged_in")

        run(go())


def test_whatsapps_pairing_code(page, run):
    with WhatsApp() as service:
        handler = made(WhatsAppSessionHandler, service)

        async def go():
            await page.goto(handler.login_url)
            await until(handler, page, "needs_qr")
            await handler.request_code(page, "4915112345678")
            shown = await handler.snapshot(page)
            assert shown.state == "needs_code"
            assert service.codes() == [shown.code.replace("-", "")]
            assert shown.code not in repr(shown)
            service.new_code()
            while (renewed := await until(handler, page, "needs_code")).code == shown.code:
                await page.wait_for_timeout(20)
            service.enter_code(renewed.code, "carol")
            await until(handler, page, "logged_in")
            assert service.logged_in() == ["carol"]

        run(go())


@pytest.mark.parametrize(
    "phone", ["+4915112345678", "0049 151", "12345", "", "1" * 16, "\u0661" * 9]
)
def test_a_number_that_is_none_is_not_typed(page, run, phone):
    with pytest.raises(InvalidInputError, match="digits"):
        run(WhatsAppSessionHandler().request_code(page, phone))


def test_a_number_that_whatsapp_refuses(page, run):
    with WhatsApp() as service:
        handler = made(WhatsAppSessionHandler, service)

        async def go():
            await page.goto(handler.login_url)
            await until(handler, page, "needs_qr")
            with pytest.raises(LoginRefusedError, match="Invalid phone number"):
                await handler.request_code(page, "1234567")

        run(go())


def test_whatsapp_syncs_and_goes_on_after_a_reload(page, run):
    with WhatsApp(sync_seconds=None) as service:
        handler = made(WhatsAppSessionHandler, service)

        async def go():
            await page.goto(handler.login_url)
            service.scan((await until(handler, page, "needs_qr")).qr)
            await until(handler, page, "syncing")
            service.set_sync(0.4)
            while (await until(handler, page, "syncing")).detail != "40 %":
                await page.wait_for_timeout(20)
            await page.reload()
            await until(handler, page, "syncing")
            service.finish_sync()
            await until(handler, page, "logged_in")

        run(go())


def test_whatsapps_key_does_not_leave_the_browser(context, browser, run):
    with WhatsApp() as service:
        handler = made(WhatsAppSessionHandler, service)

        async def go():
            page = await context.new_page()
            await log_in(WHATSAPP, handler, page, service)
            assert await page.evaluate(
                """() => new Promise((done) => {
                    const opening = indexedDB.open("wawc", 1);
                    opening.onsuccess = () => {
                        const keys = opening.result.transaction("keys").objectStore("keys");
                        keys.get("device").onsuccess = (event) => {
                            crypto.subtle.exportKey("pkcs8", event.target.result.privateKey)
                                .then(() => done("exported"), (error) => done(error.name));
                        };
                    };
                })"""
            ) == ("InvalidAccessError")
            # All that Playwright can carry away, IndexedDB included, is no login.
            state = await context.storage_state(indexed_db=True)
            assert "privateKey" in json.dumps(state)
            other = await browser.new_context(storage_state=state)
            second = await other.new_page()
            await second.goto(handler.login_url)
            await until(handler, second, "needs_qr")
            await other.close()

        run(go())


def test_another_key_is_not_let_in(page, run):
    with WhatsApp() as service:
        handler = made(WhatsAppSessionHandler, service)

        async def go():
            await log_in(WHATSAPP, handler, page, service)
            device = next(iter(service.accounts["alice"].devices.values()))
            proofs = device.proofs
            await page.evaluate(
                """() => new Promise((done) => {
                    const opening = indexedDB.open("wawc", 1);
                    opening.onsuccess = async () => {
                        const other = await crypto.subtle.generateKey(
                            { name: "ECDSA", namedCurve: "P-256" }, false, ["sign", "verify"]);
                        const reading = opening.result.transaction("keys").objectStore("keys")
                            .get("device");
                        reading.onsuccess = () => {
                            const mixed = { publicKey: reading.result.publicKey,
                                privateKey: other.privateKey };
                            const writing = opening.result.transaction("keys", "readwrite");
                            writing.objectStore("keys").put(mixed, "device");
                            writing.oncomplete = () => { opening.result.close(); done(); };
                        };
                    };
                })"""
            )
            await page.reload()
            await until(handler, page, "expired")
            assert device.proofs == proofs

        run(go())


def test_whatsapps_warnings(page, run):
    with WhatsApp() as service:
        handler = made(WhatsAppSessionHandler, service)

        async def go():
            await log_in(WHATSAPP, handler, page, service)
            service.warn("Phone not connected")
            assert service.wait_for(lambda: service.open_pages("alice"))
            while (said := await handler.health(page)) is None:
                await page.wait_for_timeout(20)
            assert said == "Phone not connected"
            service.warn("")
            while await handler.health(page) is not None:
                await page.wait_for_timeout(20)
            service.go_offline()
            while await handler.health(page) != "Computer not connected":
                await page.wait_for_timeout(20)
            assert (await handler.snapshot(page)).state == "logged_in"

        run(go())


# Telegram


def test_telegrams_password(page, run):
    with Telegram() as service:
        handler = made(TelegramSessionHandler, service)
        service.set_password("right")

        async def go():
            await page.goto(handler.login_url)
            service.scan((await until(handler, page, "needs_qr")).qr)
            asked = await until(handler, page, "needs_password")
            assert asked.detail == ""
            await handler.submit_password(page, "wrong")
            refused = await handler.snapshot(page)
            assert (refused.state, refused.detail) == ("needs_password", "Incorrect password.")
            assert service.logged_in() == []
            await handler.submit_password(page, "right")
            await until(handler, page, "logged_in")
            assert "right" not in await page.content()

        run(go())


def test_telegrams_code_is_typed_into_the_page(page, run):
    with Telegram() as service:
        handler = made(TelegramSessionHandler, service)

        async def go():
            await page.goto(handler.login_url)
            await until(handler, page, "needs_qr")
            with pytest.raises(InvalidInputError, match="no pairing codes"):
                await handler.request_code(page, "4915112345678")
            await page.click("#by_phone")
            await page.fill("#sign-in-phone-number", "+49151")
            await page.click("#next")
            shown = await until(handler, page, "needs_code")
            assert shown.code is None
            assert "Telegram app" in shown.detail
            await page.fill("#sign-in-code", service.account("49151").said[-1])
            await until(handler, page, "logged_in")

        run(go())


def test_telegrams_qr_code_in_the_dark(browser, run):
    with Telegram() as service:
        handler = made(TelegramSessionHandler, service)

        async def go():
            context = await browser.new_context(color_scheme="dark", device_scale_factor=2)
            page = await context.new_page()
            await page.goto(handler.login_url)
            shown = await until(handler, page, "needs_qr")
            assert service.qr_codes() == [shown.qr]
            await context.close()

        run(go())


# Discord


def test_discords_confirmation(page, run):
    with Discord() as service:
        handler = made(DiscordSessionHandler, service)

        async def go():
            await page.goto(handler.login_url)
            first = (await until(handler, page, "needs_qr")).qr
            service.scan(first)
            asked = await until(handler, page, "confirm_on_phone")
            assert "Check your phone" in asked.detail
            service.decline()
            second = (await until(handler, page, "needs_qr")).qr
            assert second != first
            service.scan(second)
            await until(handler, page, "confirm_on_phone")
            service.confirm()
            await until(handler, page, "logged_in")
            assert page.url.endswith("/channels/@me")

        run(go())


def test_a_token_without_its_cookie_is_cleanly_out(page, run):
    with Discord() as service:
        handler = made(DiscordSessionHandler, service)

        async def go():
            await log_in(DISCORD, handler, page, service)
            await page.context.clear_cookies()
            await page.goto(handler.login_url)
            await until(handler, page, "needs_qr")

        run(go())


# Custom


def test_custom_shows_every_state(page, run):
    with Custom(sync_seconds=None) as service:
        handler = made(CustomSessionHandler, service)
        service.set_password("right")

        async def go():
            await page.goto(handler.login_url)
            await until(handler, page, "needs_qr")
            service.make_stale()
            await until(handler, page, "qr_stale")
            await handler.refresh_qr(page)
            await until(handler, page, "needs_qr")
            service.go_offline()
            assert (await until(handler, page, "offline")).detail == "No connection"
            service.go_online()
            await until(handler, page, "needs_qr")
            await handler.request_code(page, "4915112345678")
            service.enter_code((await until(handler, page, "needs_code")).code)
            await until(handler, page, "needs_password")
            await handler.submit_password(page, "wrong")
            assert (await handler.snapshot(page)).detail == "That is not the password"
            await handler.submit_password(page, "right")
            await until(handler, page, "confirm_on_phone")
            service.confirm()
            service.set_sync(0.35)
            while (await until(handler, page, "syncing")).detail != "35 %":
                await page.wait_for_timeout(20)
            service.finish_sync()
            await until(handler, page, "logged_in")
            service.warn("No phone")
            while await handler.health(page) != "No phone":
                await page.wait_for_timeout(20)
            service.log_out_remotely()
            assert (await until(handler, page, "expired")).detail == "Your session has ended"

        run(go())


def test_the_attributes_and_the_address_of_custom(page, run):
    handler = CustomSessionHandler()
    assert handler.login_url == ""
    handler.configure(
        {
            "url": "https://service.example/login",
            "selector_qr": "#qr",
            "attribute_qr": "data-text",
            "selector_code": "#code",
            "attribute_code": "data-code",
            "expired_url": "ended=1",
            "session_of_record": "session.json",
        }
    )
    assert handler.session_of_record == "session.json"
    assert CustomSessionHandler().session_of_record == "browser_profile"

    async def go():
        await page.set_content("<div id=qr data-text='the text'>QR</div>")
        assert (await handler.snapshot(page)).qr == "the text"
        await page.set_content("<div id=qr data-text=''>QR</div>")
        assert (await handler.snapshot(page)).state == "loading"
        await page.set_content("<div id=code data-code=' 12-34 '>code</div>")
        assert (await handler.snapshot(page)).code == "12-34"
        await page.route("**/*", lambda route: route.fulfill(body="<p>"))
        await page.goto("https://service.example/?ended=1")
        assert (await handler.snapshot(page)).state == "expired"

    run(go())


@pytest.mark.parametrize(
    "config",
    [
        {"session_of_record": "elsewhere"},
        {"expired_url": 5},
        {"attribute_qr": []},
        {"selector_qr": ""},
        {"selector_qr": 5},
        {"selector_qrcode": "#qr"},
        {"url": "https://name:swordfish@service.example/"},
    ],
)
def test_settings_that_cannot_be(config):
    with pytest.raises(InvalidInputError) as caught:
        CustomSessionHandler().configure(config)
    assert "swordfish" not in str(caught.value)


# Any page


def test_pages_that_say_nothing(page, run, monkeypatch):
    handler = WhatsAppSessionHandler()

    async def go():
        await page.route("**/*", lambda route: route.fulfill(body="<p>Something else"))
        await page.goto("https://captive.example/portal?token=secret")
        assert (await handler.snapshot(page)).state == "loading"
        monkeypatch.setattr(page_module, "_PATIENCE", 0.0)
        seen = await handler.snapshot(page)
        assert seen == (
            "unknown",
            None,
            None,
            "nothing that is known is on https://captive.example",
        )
        monkeypatch.setattr(page_module, "_ACT_TIMEOUT", 50.0)
        with pytest.raises(SessionError, match="qr_stale") as caught:
            await handler.refresh_qr(page)
        assert "selector_qr_stale" in caught.value.hint
        with pytest.raises(SessionError) as caught:
            await handler.submit_password(page, "hunter2")
        assert "hunter2" not in repr((caught.value, caught.value.hint, caught.value.__cause__))
        assert await handler.log_out(page) is False

    run(go())


def test_a_page_that_crashes(browser, run):
    async def go():
        context = await browser.new_context()
        page = await context.new_page()
        with pytest.raises(Exception, match="crash"):
            await page.goto("chrome://crash")
        with pytest.raises(BrowserError, match="crashed"):
            await WhatsAppSessionHandler().snapshot(page)
        await context.close()

    run(go())


def test_a_service_that_does_not_answer_a_logout(page, run, monkeypatch):
    monkeypatch.setattr(page_module, "_ANSWER_TIMEOUT", 0.0)
    handler = CustomSessionHandler()
    handler.configure({"selector_logged_in": "#in", "selector_log_out": "button"})

    async def go():
        await page.set_content("<div id=in>in</div><button>Log out</button>")
        assert await handler.log_out(page) is False

    run(go())


def test_sessions_that_the_browser_does_not_take_or_give(browser, run):
    handler = CustomSessionHandler()
    handler.configure({"session_of_record": "session.json"})

    async def go():
        context = await browser.new_context()
        with pytest.raises(SessionError, match="put into") as caught:
            await handler.import_session(context, {"cookies": [{"name": "a", "value": "sesame"}]})
        assert "sesame" not in repr(caught.value)
        assert caught.value.__suppress_context__
        with pytest.raises(SessionError, match="put into"):
            await handler.import_session(context, {"origins": [{"origin": "nowhere"}]})
        assert context.pages == []
        await context.close()
        with pytest.raises(SessionError, match="read from"):
            await handler.export_session(context)

    run(go())


def test_what_is_private_is_not_read(page, run):
    handler = CustomSessionHandler()
    handler.configure({"selector_logged_in": "#in", "selector_second_factor": "#ask"})

    async def go():
        await page.set_content("<div id=in>Dear Bob, ...</div>")
        assert await handler.snapshot(page) == ("logged_in", None, None, "")
        await page.set_content("<input id=ask value=hunter2>")
        assert await handler.snapshot(page) == ("needs_password", None, None, "")

    run(go())


def test_a_code_below_the_window_is_read(page, run):
    handler = CustomSessionHandler()
    handler.configure({"selector_qr": "#qr"})
    code = segno.make_qr("the text", error="m")

    async def go():
        await page.set_content(
            f"<div style='height: 5000px'></div><div id=qr>{code.svg_inline(scale=4)}</div>"
        )
        assert (await handler.snapshot(page)).qr == "the text"

    run(go())


def test_hidden_elements_do_not_count(page, run):
    handler = WhatsAppSessionHandler()

    async def go():
        await page.set_content(
            "<div id=pane-side hidden>x</div>"
            "<div style='visibility:hidden' data-link-code=A>x</div>"
            "<div data-ref=ignored style='display:none'>x</div><div data-ref=2@shown>x</div>"
        )
        assert (await handler.snapshot(page)).qr == "2@shown"

    run(go())


def test_a_page_cannot_steer_the_terminal(page, run):
    handler = CustomSessionHandler()
    handler.configure({"selector_expired": "p"})

    async def go():
        await page.set_content("<p></p>")
        await page.evaluate(
            "document.querySelector('p').textContent = 'a\\x1b[2J\\u202e b'.repeat(99)"
        )
        detail = (await handler.snapshot(page)).detail
        assert detail.startswith("a[2J b")
        assert detail.isprintable()
        assert len(detail) <= 120

    run(go())


def test_a_selector_that_is_none(page, run):
    handler = CustomSessionHandler()
    handler.configure({"selector_qr": "##"})
    with pytest.raises(InvalidInputError, match="selector_qr"):
        run(handler.snapshot(page))


def test_selectors_can_be_replaced_for_one_profile(page, run):
    handler = WhatsAppSessionHandler()
    handler.configure({"selector_logged_in": "#new-side"})

    async def go():
        await page.set_content("<div id=new-side>x</div>")
        assert (await handler.snapshot(page)).state == "logged_in"
        assert (await WhatsAppSessionHandler().snapshot(page)).state == "loading"

    run(go())


def test_all_our_selectors_can_be_understood(page, run):
    for kind in (WhatsAppSessionHandler, TelegramSessionHandler, DiscordSessionHandler):
        run(kind().snapshot(page))
        known = page_module.SELECTOR_NAMES
        assert kind.selectors.keys() <= known
        assert set(kind.log_out_steps) <= known


def test_a_session_leaves_other_sites_out(context, run):
    with Telegram() as service:
        handler = made(TelegramSessionHandler, service)

        async def go():
            page = await context.new_page()
            await log_in(TELEGRAM, handler, page, service)
            await context.add_cookies(
                [{"name": "a", "value": "b", "url": "https://other.example/"}]
            )
            other = await context.new_page()
            await other.route("**/*", lambda route: route.fulfill(body="<p>"))
            await other.goto("https://other.example/")
            await other.evaluate("localStorage.setItem('a', 'b')")
            exported = json.dumps(await handler.export_session(context))
            assert "dc2_auth_key" in exported
            assert "other.example" not in exported

        run(go())
