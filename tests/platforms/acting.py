"""What the tests do again and again: wait for a state, log in."""

from __future__ import annotations

import time
from typing import Any, get_args

from standin import NotCurrentError, Service

from platforms.cases import Case
from tweakio.platforms.protocols import LoginState, Snapshot

PATIENCE = 30.0


async def until(handler: Any, page: Any, *states: str) -> Snapshot:
    """Look at the page until it is in one of these states."""
    end = time.monotonic() + PATIENCE
    while True:
        seen = await handler.snapshot(page)
        assert seen.state in get_args(LoginState)
        assert (seen.qr is not None) == (seen.state == "needs_qr")
        if seen.state in states:
            return seen
        assert time.monotonic() < end, f"{seen!r}, not {states}"
        await page.wait_for_timeout(50)


async def log_in(
    case: Case, handler: Any, page: Any, service: Service, account: str = "alice"
) -> Snapshot:
    """From nothing to logged in, by QR code."""
    await page.goto(handler.login_url)
    end = time.monotonic() + PATIENCE
    while True:
        shown = await until(handler, page, "needs_qr")
        try:
            service.scan(shown.qr or "", account)
            break
        except NotCurrentError:
            # As a person does: on a busy machine a page may show another by now.
            assert time.monotonic() < end
    if case.confirms:
        await until(handler, page, "confirm_on_phone")
        service.confirm(account)  # type: ignore[attr-defined]
    return await until(handler, page, "logged_in")
