"""Looks at a page in a world that the page does not share.

What ``page.evaluate`` runs, it runs among the page's own functions: a page can replace
``document.querySelectorAll`` or ``Object.entries``, read what is looked for, and answer what it
likes. An isolated world has the same document, and functions of its own. Playwright has such a
world for locators and for the storage state; there it runs nothing for others, so Chromium is
asked for one by CDP. Firefox has no CDP.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from tweakio.errors import BrowserError, SessionError

if TYPE_CHECKING:
    from playwright.async_api import Page

__all__ = ["NoIsolationError", "evaluate"]

_WORLD = "tweakio"


class NoIsolationError(Exception):
    """The browser has no worlds that can be chosen from."""


async def evaluate(page: Page, function: str, *arguments: Any) -> Any:
    """What a JavaScript function returns in an isolated world of the page's main frame.

    The world is that of the document which is there now, and is asked for each time: navigations
    end them. Nothing is enabled that the page could notice.

    Args:
        page: of either face of Playwright; see ``tweakio.platforms.sync``.
        function: its source.
        *arguments: JSON data.

    Raises:
        NoIsolationError: the browser is not a Chromium.
        BrowserError: the page crashed; it is closed then.
        SessionError: the function failed.
    """
    try:
        session = await page.context.new_cdp_session(page)
    except Exception as error:
        if "only available in Chromium" in str(error):
            raise NoIsolationError from None
        raise
    crashed = False

    async def give_up(*_: object) -> None:
        # Of a page that has crashed no answer comes to any command, nor does detaching end; what
        # waits fails when the page, which is of no more use, is closed.
        nonlocal crashed
        crashed = True
        with contextlib.suppress(Exception):
            await page.close()

    try:
        session.on("Inspector.targetCrashed", give_up)
        await session.send("Inspector.enable")  # says it of one that has crashed before as well
        frames = await session.send("Page.getFrameTree")
        world = await session.send(
            "Page.createIsolatedWorld",
            {"frameId": frames["frameTree"]["frame"]["id"], "worldName": _WORLD},
        )
        answer = await session.send(
            "Runtime.callFunctionOn",
            {
                "functionDeclaration": function,
                "executionContextId": world["executionContextId"],
                "arguments": [{"value": one} for one in arguments],
                "returnByValue": True,
            },
        )
    except Exception:
        if crashed:
            raise BrowserError("the page crashed", hint="run the command again") from None
        raise
    finally:
        if not crashed:
            with contextlib.suppress(Exception):  # the page is gone, and its session with it
                await session.detach()
    if "exceptionDetails" in answer:
        # Its text could be the page's.
        raise SessionError("the page cannot be looked at")
    return answer["result"].get("value")
