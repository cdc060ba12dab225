"""A megabyte of one character, or of one short fragment, for each reader of outside text.

What is linear takes milliseconds, and what is not takes minutes, so that the processor's time has
a limit with much room. ``test_linear`` counts the steps of the patterns; this finds loops.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.parsers import PARSERS
from tweakio import ProfileManager, history, models, references, schema, settings, validation
from tweakio.browser import finder
from tweakio.bundle import names
from tweakio.cli import options, output
from tweakio.errors import TweakioError, command
from tweakio.importing import several
from tweakio.lease import backends, naming
from tweakio.snapshots import manifest, places
from tweakio.store.objects import parse_commit
from tweakio.store.packs.format import read_head
from tweakio.sync import configuration, saying, urls
from tweakio.vault import age, confirmed, recipients

if not hasattr(signal, "setitimer"):
    pytest.skip("there is no timer of the processor's time here", allow_module_level=True)

LENGTH = 1_000_000
_SECONDS = 8.0
FRAGMENTS = [
    *(b":", b"a", b"0", b"/", b"@", b" ", b"\n", b"\0", b"[", b'"', b"\\", b"~", b".", b"-"),
    *(b"\xff", b"\xc3\xa9", b"a\n", b"a=b\n", b'"a",', b"a/", b"://", b"{}", b"%4"),
    b"storage_state",
    *(b"0" * 40 + b" refs/heads/a\n", b"100644 a\0" + b"1" * 20, b"Tweakio-Op: x\n"),
]  # fmt: skip
_VALID = {
    "profile_id": "a", "platform": "custom", "created_at": "2026-02-10T14:30:00Z",
    "status": "inactive",
}  # fmt: skip


class _TooLongError(BaseException):
    pass


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """An end to what takes more than some seconds of the processor."""

    def stop(*_: object) -> None:
        raise _TooLongError

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, _SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def metadata(**fields: Any) -> None:
    schema.validate({**_VALID, **fields})


def commit(text: str) -> None:
    data = text.encode("utf-8", "surrogateescape")
    found = parse_commit(
        "0" * 40, b"tree %b\nauthor %b\n\n%b" % (b"a" * 40, data[: LENGTH // 2], data)
    )
    _ = found.summary, found.author, found.time, found.trailers, found.has("Tweakio-Op")


TEXTS: dict[str, Callable[[str], object]] = {
    "the address of a remote": urls.check_url,
    "an ssh address": lambda text: urls.check_url(f"ssh://{text}"),
    "an address that is shown": urls.shown_url,
    "an https address that is shown": lambda text: urls.shown_url(f"https://{text}"),
    "the name of a remote": urls.check_name,
    "what git says": saying.clean,
    "why git failed": lambda text: saying.clean(f"fatal: unable to access '{text}"),
    "sections of a configuration": configuration._sections,
    "a proxy": settings.parse_proxy,
    "a proxy with a scheme": lambda text: settings.parse_proxy(f"http://{text}"),
    "browser settings": lambda text: metadata(
        browser={"proxy": text, "proxy_password": text, "locale": text, "timezone": text}
    ),
    "a setting of a platform": lambda text: metadata(platform_config={text: text}),
    "a secret setting": lambda text: metadata(platform_config={"token": text}),
    "long keys above many": lambda text: metadata(
        platform_config={text[:400_000]: {str(number): "x" for number in range(20_000)}}
    ),
    "a note": lambda text: metadata(note=text, tags=[text]),
    "a reference": references.is_reference,
    "a reference to the key ring": lambda text: references.is_reference(f"keyring:{text}"),
    "a sealed secret": lambda text: references.is_sealed(f"sealed:{text}"),
    "a list of recipients": lambda text: recipients.parse(text.encode("utf-8", "replace")),
    "a recipient": recipients.checked,
    "a hint about a recipient": lambda text: confirmed.unconfirmed_hint([text, f"ssh-rsa {text}"]),
    "a recipient for age": age.check_recipient,
    "an identity": age.identity_recipients,
    "a list of recipients from elsewhere": lambda text: validation._check_recipients(text.encode()),
    "a snapshot's manifest": lambda text: manifest.load(text.encode("utf-8", "replace"), "x", "y"),
    "a snapshot store": places.check_url,
    "a lease backend": lambda text: backends.check_url(f"redis://{text}"),
    "a holder of a lease": naming.parse_holder,
    "a name that becomes an id": several.id_of,
    "a path in an archive": names.refuse_path,
    "a time": models.parse_time,
    "steps of a revision": lambda text: history._REVISION.fullmatch(f"HEAD{text}"),
    "an age": options.parse_age,
    "a setting on the command line": lambda text: options.parse_config([text], removing=True),
    "the version of a browser": lambda text: finder._VERSION.search(text),
    "a commit": commit,
    "the head of an entry in a pack": lambda text: read_head(text.encode("utf-8", "replace")),
    "what a terminal shows": output.clean,
    "a command in a hint": lambda text: command("git", text),
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("long") / "home"
    with ProfileManager(home) as manager:
        manager.create_profile("alpha", "custom")
    return home


@pytest.mark.parametrize("name", TEXTS)
def test_a_long_text_takes_no_time(name: str) -> None:
    for fragment in FRAGMENTS:
        text = (fragment * (LENGTH // len(fragment))).decode("utf-8", "surrogateescape")
        try:
            with limited(), contextlib.suppress(TweakioError, ValueError, IndexError):
                TEXTS[name](text)
        except _TooLongError:
            pytest.fail(f"{fragment!r} takes more than {_SECONDS} s")


@pytest.mark.parametrize("name", PARSERS)
def test_a_long_file_takes_no_time(name: str, template: Path, tmp_path: Path) -> None:
    (tmp_path / "home").symlink_to(template)
    for fragment in FRAGMENTS:
        try:
            with limited(), contextlib.suppress(TweakioError):
                PARSERS[name].read(fragment * (LENGTH // len(fragment)), tmp_path)
        except _TooLongError:
            pytest.fail(f"{fragment!r} takes more than {_SECONDS} s")
