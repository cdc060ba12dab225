"""A page that has replaced every function it can neither sees what is looked for, nor answers."""

from __future__ import annotations

import pytest

from tweakio.errors import InvalidInputError
from tweakio.platforms import isolation
from tweakio.platforms import page as page_module
from tweakio.platforms.page import PageHandler
from tweakio.platforms.sync import synchronous

# All that a look could call is replaced by something that notes its arguments and lies. What
# Playwright itself needs to bring ``window.seen`` out is kept: the test reads it from the DOM.
HOSTILE = """<!doctype html><meta charset=utf-8><title>page</title>
<p id=bait>bait</p><div id=out style="display:none"></div>
<form id=login><!-- inputs -->Please log in</form>
<img name=querySelectorAll><img name=readyState>
<progress id=bar value=1 max=4></progress>
<script>
  const out = document.getElementById("out");
  const { stringify } = JSON, { apply } = Reflect;
  const write = Object.getOwnPropertyDescriptor(Node.prototype, "textContent");
  const bait = document.getElementById("bait");
  const note = (name, given) => {
    let text = String(name) + " ";
    try { for (let i = 0; i < given.length; i++) text += stringify(given[i]) + " "; } catch {}
    apply(write.set, out, [apply(write.get, out, []) + text]);
  };
  const trap = (owner, name, lie) => {
    const found = Object.getOwnPropertyDescriptor(owner, name);
    if (!found || !found.configurable) return;
    if (typeof found.value === "function") {
      const real = found.value;
      found.value = function (...given) {
        note(name, given);
        return lie === undefined ? apply(real, this, given) : lie;
      };
    } else if (found.get) {
      const real = found.get;
      found.get = function () { note(name, []); return apply(real, this, []); };
    }
    Object.defineProperty(owner, name, found);
  };
  const { getOwnPropertyNames } = Object;
  for (const name of ["querySelectorAll", "querySelector"])
    for (const owner of [Document.prototype, Element.prototype])
      trap(owner, name, name.endsWith("All") ? [bait] : bait);
  document.querySelectorAll = function (...given) { note("document", given); return [bait]; };
  for (const owner of [Element.prototype, HTMLElement.prototype, Node.prototype])
    for (const name of ["matches", "closest", "getAttribute", "getBoundingClientRect", "innerText",
                        "tagName", "textContent", "checkVisibility"])
      trap(owner, name);
  for (const name of ["entries", "keys", "getOwnPropertyDescriptor"]) trap(Object, name);
  for (const name of ["parse", "stringify"]) trap(JSON, name);
  for (const name of ["includes", "map", "push", "forEach", "filter", Symbol.iterator])
    trap(Array.prototype, name);
  for (const name of ["slice", "trim", "replace", "includes"]) trap(String.prototype, name);
  for (const name of ["get", "set", "has"]) trap(Map.prototype, name);
  for (const name of ["exec", "test"]) trap(RegExp.prototype, name);
  window.getComputedStyle = (...given) => {
    note("style", given);
    return { visibility: "visible" };
  };
  performance.now = () => 1e9;
  new MutationObserver((seen) => note("mutation", [seen.length]))
    .observe(document.body, { attributes: true });
  new MutationObserver((seen) => note("mutation", [seen.length]))
    .observe(document.getElementById("login"), { attributes: true, subtree: true });
  Object.defineProperty(Object.prototype, "logged_in", {
    configurable: true, set(value) { note("logged_in", [value]); }, get() { return "#bait"; },
  });
</script>
"""
# Playwright's own looks stumble over inputs that stand in for their form's functions.
CLOBBERING = """<input name=getAttribute><input name=tagName><input name=innerText>
<input name=getBoundingClientRect>"""
SECRET = "swordfish"
NOTES = "css=#out"  # read by a locator: what the page has replaced breaks page.evaluate


class Handler(PageHandler):
    """What it looks for is a secret in this test."""

    login_url = "https://service.example/"
    selectors = {  # noqa: RUF012
        "logged_in": f"#in-{SECRET}",
        "second_factor": f"form:not(#{SECRET})",
        "second_factor_error": f"#bar:not(.{SECRET})",
        "health": f"form:not(.{SECRET})",
        "qr": f"#qr-{SECRET}",
    }
    attributes = {"qr": f"data-{SECRET}"}  # noqa: RUF012


async def _no_cdp(*_):
    raise isolation.NoIsolationError


@pytest.fixture(params=["cdp", "locators"])
def way(request, monkeypatch):
    """The two ways to look; the second is the one of browsers without CDP."""
    if request.param == "locators":
        monkeypatch.setattr(page_module, "evaluate", _no_cdp)
    return request.param


def test_a_hostile_page_neither_sees_nor_forges_a_look(page, run, way):
    async def go():
        inputs = CLOBBERING if way == "cdp" else ""
        await page.set_content(HOSTILE.replace("<!-- inputs -->", inputs))
        # The page does see what runs in its own world: the test can fail.
        await page.evaluate("Document.prototype.querySelectorAll.call(document, '#probe')")
        assert "#probe" in await page.locator(NOTES).text_content()
        before = (await page.locator(NOTES).text_content()).count("mutation")
        handler = Handler()
        seen = await handler.snapshot(page)
        assert (seen.state, seen.detail) == ("needs_password", "25 %")
        health = await handler.health(page)
        assert health is not None
        assert health.startswith("Please log in")
        noted = await page.locator(NOTES).text_content()
        assert SECRET not in noted
        assert "logged_in" not in noted
        assert noted.count("mutation") == before
        if way == "cdp":
            # The document is the same: a login that is really there is seen.
            await page.evaluate(f"() => {{ document.getElementById('bait').id = 'in-{SECRET}' }}")
            assert (await handler.snapshot(page)).state == "logged_in"

    run(go())


def test_a_look_follows_the_page_to_its_next_documents(page, run):
    async def go():
        handler = Handler()
        await page.route(
            "**/*",
            lambda route: route.fulfill(body=f"<p id=in-{SECRET}>in", content_type="text/html"),
        )
        for url in ("https://one.example/", "https://two.example/", "https://two.example/#a"):
            await page.goto("about:blank")
            assert (await handler.snapshot(page)).state == "loading"
            await page.goto(url)
            assert (await handler.snapshot(page)).state == "logged_in"

    run(go())


def test_the_synchronous_side_looks_in_the_same_way(in_sync):
    def look(browser):
        context = browser.new_context()
        page = context.new_page()
        page.set_content(HOSTILE)
        seen = synchronous(Handler()).snapshot(page)
        noted = page.locator(NOTES).text_content()
        context.close()
        return seen.state, seen.detail, SECRET in noted

    assert in_sync(look) == ("needs_password", "25 %", False)


def test_both_ways_see_the_same_and_name_a_wrong_selector(page, run, way):
    handler = Handler()
    handler.configure({"selector_loading": "p:nth-child("})

    async def go():
        await page.set_content("<p>")
        with pytest.raises(InvalidInputError, match="selector_loading is not a CSS selector"):
            await handler.snapshot(page)
        await page.set_content(f"<div id=qr-{SECRET} data-{SECRET}='the text'>QR</div>")
        assert (await Handler().snapshot(page)).qr == "the text"
        await page.set_content(f"<div id=qr-{SECRET} style='display:none'>QR</div>")
        assert (await Handler().snapshot(page)).state == "loading"

    run(go())
