"""Each reader of bytes by itself, and a loop that keeps what leads to new lines of it."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

import dulwich.config

from tests.hostile.mutate import SEALS, mutate
from tweakio import schema, settings
from tweakio.doctor import salvage
from tweakio.errors import TweakioError
from tweakio.history import History
from tweakio.identity import author
from tweakio.layout import Layout
from tweakio.legacy_fingerprint import read_fingerprint_pickle
from tweakio.platforms import fingerprints
from tweakio.platforms.protocols import BrowserVersion
from tweakio.store import (
    gitconfig,
    head,
    index,
    initialise,
    journal,
    listing,
    lockfile,
    objects,
    refs,
)
from tweakio.store.attic import Attic
from tweakio.store.packs import index as pack_index
from tweakio.store.packs import loose, recent
from tweakio.store.repository import Repository

__all__ = ["PARSERS", "Parser", "Seen", "fuzz"]

_SECONDS = 10
_MODES = (b"40000", b"100644", b"100755", b"120000", b"160000")


@dataclass
class Parser:
    """One reader of bytes.

    Attributes:
        read: gives it the bytes; raises nothing but what is allowed.
        modules: whose lines count.
        pattern: where real ones are below a home.
        seeds: more of them.
    """

    read: Callable[[bytes, Path], None]
    modules: tuple[Any, ...]
    pattern: str = ""
    seeds: tuple[bytes, ...] = ()


def _metadata(data: bytes, _: Path) -> None:
    for load in (schema.load, schema.load_trusted):
        with contextlib.suppress(TweakioError):
            value = load(data[: schema.MAX_BYTES], "alpha")
            assert isinstance(value, dict)
            assert value["profile_id"] == "alpha"


def _journal(data: bytes, _: Path) -> None:
    try:
        found = journal.Journal.parse(data)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, TweakioError):
        return
    for path in (*found.purge, *(path for move in found.moves for path in move)):
        assert ".." not in path.split("/")
        assert not path.startswith("/")
    assert not any("/" in name or name in ("", "..") for name in found.profiles)
    assert refs.is_ref_name(found.branch)


def _cache(data: bytes, scratch: Path) -> None:
    path = scratch / "cache"
    path.write_bytes(data)
    found = head.HeadCache(path).last()
    assert found is None or all(map(str.isascii, found.active))


def _listing(data: bytes, scratch: Path) -> None:
    layout = Layout(scratch)
    layout.listing_cache.parent.mkdir(parents=True, exist_ok=True)
    layout.listing_cache.write_bytes(data)
    with contextlib.closing(Repository(layout)) as repository:
        for name, known in listing.Listing(repository).load().items():
            assert known.found.metadata["profile_id"] == name


def _lock(data: bytes, scratch: Path) -> None:
    path = scratch / "lock"
    path.write_bytes(data)
    record = lockfile.read_record(path)
    if record is not None:
        lockfile.describe_owner(record)


def _index(data: bytes, _: Path) -> None:
    try:
        found = index.Index.parse(data)
    except ValueError:
        return
    entries = found.entries()
    assert found.conflicts or len(entries) <= found.count
    for path in list(entries)[:20]:
        found.find(path)
        found.blob(path)
    again = index.Index.parse(
        bytes(found.edit({b"alpha/x": index.entry_header(bytes(20), None, b"alpha/x")}))
    )
    assert b"alpha/x" in again.entries() or found.conflicts


def _refs(data: bytes, scratch: Path) -> None:
    git_dir = scratch / "git"
    for name in ("refs/heads", "logs/refs/heads"):
        (git_dir / name).mkdir(parents=True, exist_ok=True)
    for name in ("HEAD", "packed-refs", "refs/heads/main", "logs/HEAD"):
        (git_dir / name).write_bytes(data)
    found = refs.Refs(git_dir, scratch)
    for call in (found.branch, found.head, found.names, lambda: list(found.reflog())):
        with contextlib.suppress(TweakioError):
            call()
    assert all(map(refs.is_ref_name, found.names()))


def _config(data: bytes, scratch: Path) -> None:
    path = scratch / "config"
    path.write_bytes(data)
    with contextlib.suppress(TweakioError, ValueError):
        initialise._format_in(gitconfig.read_settings(path))
    author.cache_clear()
    name = author(path)
    assert name.isprintable()


def _tree(data: bytes, _: Path) -> None:
    try:
        entries = objects.parse_tree(data)
    except TweakioError:
        return
    by_name = {}
    for entry in entries:
        if entry.mode == objects.TREE_MODE:
            by_name.setdefault(entry.name, entry)
    # An id that looks like an entry is refused where HEAD is read.
    usual = all(entry.mode in _MODES and b"4" not in entry.id for entry in entries)
    for name, entry in by_name.items():
        if usual and b" " not in name:
            assert objects.find_entry(data, name) == entry, name
    with contextlib.suppress(TweakioError):
        objects.edit_tree(data, {b"alpha": b"\1" * 20, b"none": None})


def _commit(data: bytes, _: Path) -> None:
    with contextlib.suppress(TweakioError):
        commit = objects.parse_commit("0" * 40, data)
        commit.time.astimezone(objects.timezone.utc)
        commit.trailer("Tweakio-Op")
    recent.parse_commit(data)


def _loose(data: bytes, scratch: Path) -> None:
    store = scratch / "objects"
    (store / "ab").mkdir(parents=True, exist_ok=True)
    path = store / "ab" / ("c" * 38)
    path.write_bytes(data)
    objects.ObjectReader(store)._read_loose("ab" + "c" * 38)
    salvage.is_sound_loose(path)
    for found in loose.loose_objects(store):
        found.load()


def _pack(data: bytes, scratch: Path) -> None:
    objects_dir = scratch / "objects"
    (objects_dir / "pack").mkdir(parents=True, exist_ok=True)
    path = objects_dir / "pack" / "pack-x.pack"
    path.write_bytes(data)
    recent._entries(str(path), data)
    home = Layout(scratch)
    for _ in salvage.BrokenPack(str(path)[:-5], Repository(home)).objects():
        pass
    salvage.is_sound_pack(str(path)[:-5])


def _pack_index(data: bytes, scratch: Path) -> None:
    path = scratch / "pack-x.idx"
    path.write_bytes(data)
    found = pack_index.Index.read(path)
    if found is not None:
        list(found.entries())
        assert b"\xff" * 20 not in found or found.count


def _entry(data: bytes, scratch: Path) -> None:
    entry = scratch / "trash" / "20260101T000000-alpha-abcdef"
    (entry / "data" / "x").mkdir(parents=True, exist_ok=True)
    (entry / "entry.json").write_bytes(data)
    Attic(Layout(scratch), scratch / "trash").entries("alpha", sizes=True)


def _pickle(data: bytes, _: Path) -> None:
    with contextlib.suppress(TweakioError):
        read_fingerprint_pickle(data)


def _revision(data: bytes, scratch: Path) -> None:
    text = data.decode("utf-8", "surrogateescape")
    repository = Repository(Layout(scratch / "home"))
    try:
        with contextlib.suppress(TweakioError):
            History(repository).resolve(text)
    finally:
        repository.close()


def _id(data: bytes, scratch: Path) -> None:
    from tweakio.validator import ProfileValidator

    text = data.decode("utf-8", "surrogateescape")
    rules = ProfileValidator()
    for call in (rules.validate_id, rules.validate_platform, rules.validate_tag):
        with contextlib.suppress(TweakioError):
            call(text)
    if rules.is_id(text):
        assert text.isascii()
    with contextlib.suppress(TweakioError):
        path = Layout(scratch).profile(text).directory
        assert path.parent == scratch / "profiles"


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _fingerprint(data: bytes, _: Path) -> None:
    _presented(_object(data), {})


def _settings(data: bytes, _: Path) -> None:
    value = _object(data)
    for check in (settings.check, lambda found: schema.validate({**_VALID, "browser": found})):
        with contextlib.suppress(TweakioError):
            check(value)
            _presented({}, value)


def _presented(fingerprint: dict[str, Any], value: dict[str, Any]) -> None:
    """Whatever a file holds becomes arguments and variables of a harmless form."""
    made = fingerprints.present(None, fingerprint, value, BrowserVersion("chromium", "156.0.1.2"))
    assert 400 <= made.window[0] <= 7680
    assert 300 <= made.window[1] <= 4320
    for argument in fingerprints.chromium_arguments(made, value):
        assert re.fullmatch(r"--[a-z-]+=[\w./;:(), {}-]+", argument, re.ASCII), argument
    for variable in fingerprints.environment(made).values():
        assert re.fullmatch(r"[\w/:+-]+", variable, re.ASCII), variable
    with contextlib.suppress(TweakioError):
        options = fingerprints.context_options(made, value)
        server = options.get("proxy", {"server": "http://a:1"})["server"]
        assert re.fullmatch(r"(https?|socks5)://[\w.:\[\]-]+:[0-9]+", server, re.ASCII), server


_VALID = {
    "profile_id": "alpha", "platform": "custom", "created_at": "2026-02-10T14:30:00Z",
    "status": "inactive",
}  # fmt: skip
_PICKLE = (
    b"\x80\x04\x8c!browserforge.fingerprints.generator\x94\x8c\x0bFingerprint\x94\x93\x94)\x81"
    b"\x94}\x94\x8c\x01a\x94K\x01sb."
)
_SETTINGS = {
    "locale": "de-DE", "timezone": "Europe/Berlin", "window": [1280, 800], "color_scheme": "dark",
    "proxy": "http://bob@[::1]:8080", "proxy_password": "env:PROXY",
}  # fmt: skip
_BROWSERFORGE = {"generator": "browserforge", "engine": "camoufox", "data": {"a": {"b": 1}}}
PARSERS: dict[str, Parser] = {
    "metadata": Parser(_metadata, (schema,), "profiles/*/metadata.json"),
    "journal": Parser(_journal, (journal,), "profiles/.git/tweakio/journal.json"),
    "cache": Parser(_cache, (head,), "profiles/.git/tweakio/cache/head"),
    "listing": Parser(
        _listing, (listing,), "",
        (b'40\n3\n[["alpha","aa",[1],{"profile_id":"alpha","status":"inactive"}]]', b"40\n2\n[]"),
    ),
    "lock": Parser(
        _lock, (lockfile,), "",
        (b'\n{"pid": 1, "start": 2.5, "boot": "b", "host": "h"}\n', b"", b"\n{}"),
    ),
    "index": Parser(_index, (index,), "profiles/.git/index"),
    "refs": Parser(
        _refs, (refs,), "profiles/.git/logs/HEAD",
        (b"ref: refs/heads/main\n", b"a" * 40 + b"\n",
         b"a" * 40 + b" refs/heads/main\n^" + b"b" * 40),
    ),
    "config": Parser(
        _config, (initialise, gitconfig, dulwich.config), "profiles/.git/config",
        (b'[user]\n\tname = A\n\temail = b@c\n[include]\n\tpath = ../../x\n',
         b'[a "b"]\n\tc = "d\\n"\n'),
    ),
    "tree": Parser(
        _tree, (objects,), "",
        (b"".join(b"40000 %b\0%b" % (name, bytes(range(80, 100)))
                  for name in (b"alpha", b"beta", b"gamma"))
         + b"100644 x\0" + bytes(range(100, 120)),),
    ),
    "commit": Parser(
        _commit, (objects,), "",
        (b"tree " + b"a" * 40 + b"\nparent " + b"b" * 40 + b"\nauthor A <b> 1700000000 +0100\n"
         b"committer A <b> 1700000000 -0930\n\nset x\n\nTweakio-Op: set\nTweakio-Profile: x\n",),
    ),
    "loose": Parser(_loose, (objects, loose, salvage), "profiles/.git/objects/[0-9a-f][0-9a-f]/*"),
    "pack": Parser(_pack, (salvage, recent), "profiles/.git/objects/pack/*.pack"),
    "pack-index": Parser(_pack_index, (pack_index,), "profiles/.git/objects/pack/*.idx"),
    "entry": Parser(
        _entry, (sys.modules[Attic.__module__],), "profiles/.git/tweakio/trash/*/entry.json"
    ),
    "pickle": Parser(_pickle, (sys.modules[read_fingerprint_pickle.__module__],), "", (_PICKLE,)),
    "fingerprint": Parser(
        _fingerprint, (fingerprints,), "profiles/*/fingerprint.json",
        (json.dumps(_BROWSERFORGE).encode(), b"{}", b'{"generator": "seeded", "seed": 5}'),
    ),
    "settings": Parser(_settings, (settings, fingerprints), "", (json.dumps(_SETTINGS).encode(),)),
    "revision": Parser(
        _revision, (sys.modules[History.__module__],), "",
        (b"HEAD~2^1", b"main", b"v1", b"side~1", b"abcd", b"refs/heads/main", b"../../HEAD"),
    ),
    "id": Parser(
        _id, (sys.modules["tweakio.validator"], sys.modules["tweakio.layout"]), "",
        (b"alpha", b"CON", b"a-b_c", b"..", b".git", b"git~1"),
    ),
}  # fmt: skip


@dataclass
class Seen:
    """What a run did.

    Attributes:
        inputs: how many were tried.
        lines: how many pairs of consecutive lines were reached.
        kept: how many inputs reached new ones.
        failures: what was raised that must not be, with the input.
        slowest: seconds of the slowest input.
    """

    inputs: int = 0
    lines: int = 0
    kept: int = 0
    failures: list[tuple[bytes, str]] = field(default_factory=list)
    slowest: float = 0.0


class _TooLongError(BaseException):
    pass


@contextlib.contextmanager
def _watched() -> Iterator[None]:
    def too_long(*_: object) -> None:
        raise _TooLongError

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, _SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class _Coverage:
    """The pairs of lines that are executed one after the other in some files."""

    def __init__(self, modules: tuple[Any, ...]) -> None:
        self._files = {module.__file__ for module in modules}
        self.all: set[tuple[str, int, int]] = set()
        self._now: set[tuple[str, int, int]] = set()
        self._last = 0

    def _trace(self, frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename not in self._files:
            return None
        self._now.add((frame.f_code.co_filename, self._last, frame.f_lineno))
        self._last = frame.f_lineno
        return self._trace

    def run(self, call: Callable[[], None]) -> bool:
        """Whether the call went where none was before."""
        self._now = set()
        before = sys.gettrace()  # that of the coverage's measurement, which has to go on
        sys.settrace(self._trace)
        try:
            call()
        finally:
            sys.settrace(before)
            new = not self._now <= self.all
            self.all |= self._now
        return new


def fuzz(
    name: str, template: Path, seed: int, *, seconds: float = 1e9, inputs: int = 1 << 60
) -> Seen:
    """Feed one parser with spoiled bytes.

    Args:
        name: in ``PARSERS``.
        template: a home with real ones.
        seed: the same gives the same inputs, on the same template.
        seconds: how long.
        inputs: how many.
    """
    parser = PARSERS[name]
    random = Random(seed)
    corpus = [*parser.seeds]
    if parser.pattern:
        corpus += [path.read_bytes() for path in sorted(template.glob(parser.pattern))[:40]]
    corpus = sorted(set(corpus), key=len)[:30]
    assert corpus
    coverage = _Coverage(parser.modules)
    seen = Seen()
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        (scratch / "home").symlink_to(template)
        for data in corpus[:]:
            coverage.run(lambda data=data: parser.read(data, scratch))  # type: ignore[misc]
        while seen.inputs < inputs and time.monotonic() < end:
            data = mutate(random.choice(corpus), random, corpus)
            if name == "loose" and random.random() < 0.5:
                data = _inside(random.choice(corpus), random, corpus)
            if name in SEALS and random.random() < 0.8:
                data = SEALS[name](data)
            began = time.monotonic()
            try:
                with _watched():
                    new = coverage.run(lambda data=data: parser.read(data, scratch))  # type: ignore[misc]
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                seen.failures.append((data, "".join(traceback.format_exception(error))[-1500:]))
                if len(seen.failures) >= 10:
                    break
            else:
                if new:
                    corpus.append(data)
                    seen.kept += 1
            seen.slowest = max(seen.slowest, time.monotonic() - began)
            seen.inputs += 1
    seen.lines = len(coverage.all)
    return seen


def _inside(data: bytes, random: Random, corpus: list[bytes]) -> bytes:
    """A loose object whose content is spoiled, and not its compression."""
    import zlib

    try:
        return zlib.compress(mutate(zlib.decompress(data), random, corpus))
    except zlib.error:
        return data
