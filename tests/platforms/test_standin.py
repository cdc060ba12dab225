"""The stand-in services are as strict as the real ones where it matters."""

from __future__ import annotations

import hashlib
import http.client
import secrets

import pytest
from standin import NotCurrentError, WhatsApp, p256

from platforms.acting import log_in, until
from platforms.cases import CASES
from tweakio.platforms import find_platform
from tweakio.platforms.builtin import WhatsAppSessionHandler


def test_signatures_are_checked():
    private = secrets.randbelow(p256.N - 1) + 1
    nonce = secrets.randbelow(p256.N - 1) + 1
    x, y = p256._times(private, p256.G)
    public = b"\x04" + x.to_bytes(32, "big") + y.to_bytes(32, "big")
    r = p256._times(nonce, p256.G)[0] % p256.N
    digest = int.from_bytes(hashlib.sha256(b"text").digest(), "big")
    s = pow(nonce, -1, p256.N) * (digest + r * private) % p256.N
    signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    assert p256.verify(public, b"text", signature)
    assert not p256.verify(public, b"other", signature)
    assert not p256.verify(public, b"text", signature[:-1] + bytes([signature[-1] ^ 1]))
    assert not p256.verify(public, b"text", bytes(64))
    assert not p256.verify(public, b"text", b"")
    assert not p256.verify(public[:-1] + bytes([public[-1] ^ 1]), b"text", signature)


def test_codes_that_nobody_shows_are_refused():
    with WhatsApp() as service:
        for act in (service.scan, service.enter_code):
            with pytest.raises(NotCurrentError):
                act("2@nothing")
        assert service.accounts.get("alice") is None or not service.logged_in()


def test_offline_answers_nobody():
    with WhatsApp() as service:
        service.go_offline()
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=10)
        connection.request("GET", "/")
        with pytest.raises(http.client.RemoteDisconnected):
            connection.getresponse()
        connection.close()


@pytest.mark.parametrize("case", CASES[:4], ids=lambda case: case.platform)
def test_a_page_whose_script_has_not_run_shows_nothing(case, page, run):
    with case.service() as service:
        handler = find_platform(case.platform).session_handler()
        handler.configure(case.config(service))

        async def go():
            await page.route("**/common.js", lambda route: route.abort())
            await page.goto(handler.login_url)
            assert (await handler.snapshot(page)).state == "loading"

        run(go())


def test_several_browsers_at_once(browser, run):
    with WhatsApp() as service:
        handler = WhatsAppSessionHandler()
        handler.configure({"url": service.url})

        async def go():
            contexts = [await browser.new_context() for _ in range(3)]
            pages = [await each.new_page() for each in contexts]
            names = ["alice", "bob", "carol"]
            for name, page in zip(names, pages, strict=True):
                await log_in(CASES[0], handler, page, service, name)
            assert service.logged_in() == names
            service.log_out_remotely("bob")
            await until(handler, pages[1], "expired")
            assert (await handler.snapshot(pages[0])).state == "logged_in"
            for name, page in zip(names, pages, strict=True):
                if name != "bob":
                    assert await page.locator("#me").inner_text() == name
                    assert service.open_pages(name)
            for each in contexts:
                await each.close()

        run(go())
