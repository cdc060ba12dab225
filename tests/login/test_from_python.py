"""The same from a program of one's own."""

from __future__ import annotations

import asyncio

import pytest

from login.helpers import browsers
from tweakio import BrowserError, InvalidInputError, LoginRefusedError, LoginTimeoutError
from tweakio.browsing import BrowserManager
from tweakio.login import LoginUI, check_profiles, hold_open, log_in, log_out

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("browser")]


class Phone:
    """Scans what it is shown, and knows a password."""

    def __init__(self, service, password=None):
        self.service = service
        self.password = password
        self.states = []
        self.complaints = []

    def show(self, snapshot, remaining):
        assert remaining >= 0
        if snapshot.state not in self.states:
            self.states.append(snapshot.state)
        if snapshot.qr in self.service.qr_codes():
            self.service.scan(snapshot.qr)

    async def ask_password(self, complaint):
        self.complaints.append(complaint)
        if self.password is None:
            raise EOFError
        return self.password


@pytest.fixture
def make(manager):
    def make(service, profile_id="shop"):
        profile = manager.create_profile(
            profile_id, service.name, platform_config={"url": service.url}
        )
        return BrowserManager(profile, manager=manager)

    return make


def test_in_and_out(manager, whatsapp, make):
    browser = make(whatsapp)
    phone = Phone(whatsapp)
    assert isinstance(phone, LoginUI)
    outcome = asyncio.run(log_in(browser, phone, interval=0.1))
    assert (outcome.profile_id, outcome.already) == ("shop", False)
    profile = manager.get_profile("shop")
    assert not profile.in_use
    assert phone.states[-1] == "logged_in"
    assert manager.locks.held == frozenset()
    (found,) = asyncio.run(check_profiles(manager, [profile], interval=0.1))
    assert (found.state, found.since) == ("logged_in", outcome.verified_at)
    manager.activate_profile("shop")
    again = asyncio.run(log_in(browser, phone, interval=0.1))
    assert again.already
    assert manager.locks.held == {"shop"}, "it goes on with what it had"
    manager.deactivate_profile()
    whatsapp.log_out_remotely()
    phone.states.clear()
    assert not asyncio.run(log_in(browser, phone, interval=0.1)).already
    assert "expired" in phone.states
    assert again.verified_at > found.verified_at
    left = asyncio.run(log_out(browser, interval=0.1))
    assert (left.at_service, left.detail) == (True, "")
    assert [change.operation for change in manager.history()] == [
        "logout", "login", "deactivate", "activate", "login", "create", "init",
    ]  # fmt: skip


def test_passwords_are_tried_three_times(manager, telegram, make):
    telegram.set_password("right")
    phone = Phone(telegram, "wrong")
    with pytest.raises(LoginRefusedError, match="refused 3 passwords: Incorrect password"):
        asyncio.run(log_in(make(telegram), phone, interval=0.05))
    assert phone.complaints[0] == ""
    assert len(phone.complaints) == 3
    assert [change.operation for change in manager.history()] == ["create", "init"]


def test_a_question_that_nobody_answers(telegram, make):
    telegram.set_password("right")

    class Asleep(Phone):
        async def ask_password(self, complaint):
            self.complaints.append(complaint)
            await asyncio.sleep(1000)

    phone = Asleep(telegram)
    with pytest.raises(LoginTimeoutError, match="not logged in after 5 seconds") as caught:
        asyncio.run(log_in(make(telegram), phone, timeout=5, interval=0.05))
    # A machine that is too busy for these seconds has not come to the question.
    assert (caught.value.details["state"] == "needs_password") is (phone.complaints == [""])


def test_cancelling_closes_the_browser(manager, whatsapp, make):
    browser = make(whatsapp)

    class Nobody(Phone):
        def show(self, snapshot, remaining):
            if snapshot.state == "needs_qr":
                self.task.cancel()

    async def main():
        ui = Nobody(whatsapp)
        ui.task = asyncio.ensure_future(log_in(browser, ui, interval=0.05))
        with pytest.raises(asyncio.CancelledError):
            await ui.task
        assert browsers(manager.get_profile("shop").path) == []
        assert not manager.get_profile("shop").in_use

    asyncio.run(main())


def test_an_open_window_is_held_until_it_is_closed(manager, whatsapp, make):
    browser = make(whatsapp)
    seen = []

    async def main():
        opened = asyncio.Event()
        task = asyncio.ensure_future(hold_open(browser, opened=opened.set))
        await asyncio.wait_for(opened.wait(), 30)
        context = browser.browser
        (page,) = context.pages
        seen.append(page.url)
        assert manager.get_profile("shop").in_use
        other = await context.new_page()
        await page.close()
        assert not task.done()
        await other.close()  # the last one
        await asyncio.wait_for(task, 30)

    asyncio.run(main())
    assert seen == [whatsapp.url]
    profile = manager.get_profile("shop")
    assert not profile.in_use
    assert browsers(profile.path) == []
    assert manager.browser_status("shop").record.unclean_exits == 0


def test_a_handler_that_can_only_keep_profiles(manager, make):
    from tweakio.platforms import register_platform
    from tweakio.platforms.builtin import SeededFingerprintGenerator

    class Old:
        login_url = "https://example.org/"
        session_of_record = "session.json"

        def empty_session(self):
            return {}

    register_platform("old", Old, SeededFingerprintGenerator)
    browser = BrowserManager(manager.create_profile("shop", "old"), manager=manager)
    with pytest.raises(InvalidInputError, match="the platform old cannot log in"):
        asyncio.run(log_in(browser, Phone(None)))
    (found,) = asyncio.run(check_profiles(manager, manager.list_profiles()))
    assert (found.state, found.verified_at) == ("failed", None)
    assert "cannot log in" in found.detail


def test_a_page_that_is_closed_by_a_person(whatsapp, make):
    browser = make(whatsapp)

    class Impatient(Phone):
        def show(self, snapshot, remaining):
            if snapshot.state == "needs_qr" and not self.states:
                self.states.append("closed")
                task = asyncio.ensure_future(browser.browser.pages[0].close())
                self.tasks = {task}

    with pytest.raises(BrowserError, match="closed"):
        asyncio.run(log_in(browser, Impatient(whatsapp), interval=0.05))
