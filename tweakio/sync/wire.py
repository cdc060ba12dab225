"""Moving objects with dulwich, where no git is installed."""

from __future__ import annotations

import contextlib
import logging
import os
import ssl
import sys
import time
import warnings
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tweakio.errors import HostileContentError, RemoteError
from tweakio.sync.saying import RejectedError, refused, unreachable
from tweakio.sync.transport import FETCHED, MOST_BYTES, cut_here, ssh_command, too_late
from tweakio.sync.urls import check_url, shown_url
from tweakio.waiting import limit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["DulwichTransport"]

log = logging.getLogger(__name__)

_NOTHING = b"0" * 40
_MOST_SAID = 4096
_SILENCE = 30.0
"""Seconds for which an https server may say nothing."""


class DulwichTransport:
    """dulwich's clients; see ``Transport`` for the methods."""

    def branches(self, url: str, directory: Path) -> tuple[Mapping[str, str], str | None]:  # noqa: ARG002 - of the protocol
        """See ``Transport``."""
        client, path = _client(url)
        with _translated(url):
            found = client.get_refs(path)
        heads = b"refs/heads/"
        branches = {
            name[len(heads) :].decode("utf-8", "replace"): commit.decode()
            for name, commit in found.refs.items()
            if name.startswith(heads) and commit
        }
        head = found.symrefs.get(b"HEAD", b"")
        named = head[len(heads) :].decode("utf-8", "replace") if head.startswith(heads) else None
        return branches, named

    def fetch(
        self, url: str, branch: str, quarantine: Path, seconds: float | None = None
    ) -> str | None:
        """See ``Transport``; time is looked at whenever the remote says how far it is."""
        from dulwich.repo import Repo

        wanted = f"refs/heads/{branch}".encode()
        seen: list[bytes] = []

        def determine(refs: Mapping[bytes, bytes], depth: int | None = None) -> list[bytes]:  # noqa: ARG001
            commit = refs.get(wanted)
            seen[:] = [commit] if commit else []
            return list(seen)

        most = limit() if seconds is None else seconds
        until = time.monotonic() + most

        def progress(_: bytes) -> None:
            if time.monotonic() > until:
                raise too_late(url, most)

        client, path = _client(url)
        with Repo(str(quarantine)) as repository:
            cut_before = set(repository.get_shallow())
            with _translated(url):
                client.fetch(path, repository, determine_wants=determine, progress=progress)
                if not seen:
                    return None
                if set(repository.get_shallow()) - cut_before:
                    raise RemoteError(
                        f"the history of {shown_url(url)} is cut short (a shallow clone)",
                        hint="complete it there: git fetch --unshallow",
                    )
            _check_objects(repository, url)
            repository.refs[FETCHED.encode()] = seen[0]  # type: ignore[index,assignment]
        return seen[0].decode()

    def push(self, url: str, branch: str, commit: str, git_dir: Path) -> None:
        """See ``Transport``."""
        from dulwich.repo import Repo

        name, wanted = f"refs/heads/{branch}".encode(), commit.encode()
        client, path = _client(url)
        with Repo(str(git_dir)) as repository:

            def update(refs: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
                old = refs.get(name, _NOTHING)
                # dulwich's own search believes the dates of commits.
                mine = _ancestors(repository, wanted)
                if old != _NOTHING and old not in mine:
                    raise RejectedError
                # A server of git's looks at that; a path is written to by ourselves.
                begin = mine & set(repository.get_shallow())
                there = [commit for commit in refs.values() if commit in mine]
                if begin - _ancestors(repository, *there):
                    raise cut_here(url)
                return {name: wanted}

            said: list[bytes] = []

            def progress(part: bytes) -> None:
                if len(said) < _MOST_SAID:
                    said.append(part[:_MOST_SAID])

            with _translated(url, said):
                done = client.send_pack(
                    path, update, repository.generate_pack_data, progress=progress
                )
        for reason in (done.ref_status or {}).values():
            if reason and "shallow" in str(reason):
                raise cut_here(url)
            if reason:
                raise refused(str(reason), _words(said), url)


def _words(said: list[bytes]) -> str:
    """What the host says, in the form in which git shows it."""
    text = b"".join(said).decode("utf-8", "replace")
    return "".join(f"remote: {line}\n" for line in text.splitlines())


def _ancestors(repository: Any, *commits: bytes) -> set[bytes]:
    found: set[bytes] = set()
    todo = [*commits]
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += repository.get_parents(name)
    return found


def _client(url: str) -> tuple[Any, Any]:
    from dulwich.client import LocalGitClient, default_urllib3_manager, get_transport_and_path
    from dulwich.config import StackedConfig

    check_url(url)
    if url.startswith("file://"):
        from urllib.request import url2pathname

        return LocalGitClient(), url2pathname(urlsplit(url).path)
    # The user's own, which says which certificates are trusted; that of a repository never.
    config = StackedConfig.default()
    if info := os.environ.get("GIT_SSL_CAINFO"):
        config.backends.insert(0, _certificates(info))
    options: dict[str, Any] = {"config": config}
    if url.lower().startswith("https:"):
        from urllib3 import Retry

        manager = default_urllib3_manager(config, base_url=url, timeout=min(_SILENCE, limit()))
        # What was cut is for the caller to try again, who knows whether it arrived.
        manager.connection_pool_kw["retries"] = Retry(connect=0, read=0, other=0, redirect=5)
        options["pool_manager"] = manager
    else:
        options["ssh_command"] = (
            os.environ.get("GIT_SSH_COMMAND")
            or os.environ.get("GIT_SSH")
            or _configured_ssh(config)
            or f"{ssh_command()} -o BatchMode=yes"
        )
    return get_transport_and_path(url, **options)


def _certificates(path: str) -> Any:
    """A configuration that has no more than the file that ``GIT_SSL_CAINFO`` names."""
    from dulwich.config import ConfigFile

    found = ConfigFile()
    found.set((b"http",), b"sslCAInfo", os.fsencode(path))
    return found


def _configured_ssh(config: Any) -> str:
    try:
        return str(config.get((b"core",), b"sshCommand").decode("utf-8", "replace"))
    except KeyError:
        return ""


@contextlib.contextmanager
def _quiet_library() -> Iterator[None]:
    """Let the warnings of dulwich be no errors, as ``-W error`` and ``-bb`` make them."""
    if not sys.warnoptions and not sys.flags.bytes_warning:
        yield  # what is changed below is every thread's
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class _translated:  # noqa: N801 - used like a function
    """Turns what dulwich raises into the error of the tree."""

    def __init__(self, url: str, said: list[bytes] | None = None) -> None:
        self._url = url
        self._quiet = contextlib.ExitStack()
        self._said = [] if said is None else said

    def __enter__(self) -> None:
        self._quiet.enter_context(_quiet_library())

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._quiet.close()
        # A warning made an error, or a lack of memory, says nothing of the remote.
        if error is None or isinstance(
            error,
            (
                *(RejectedError, RemoteError, KeyboardInterrupt, SystemExit, GeneratorExit),
                *(Warning, MemoryError),
            ),
        ):
            return
        log.debug("dulwich: %s", type(error).__name__, exc_info=True)
        if type(error).__name__ in ("SendPackError", "UpdateRefsError"):
            raise refused(_text(error) or "it does not say why", _words(self._said), self._url)
        text = _text(error)
        # What ssh says comes as it is; the rest is by a library, and has no such beginning.
        told = text if "\n" in text else f"fatal: {text}"
        raise unreachable(f"{_words(self._said)}{told}", self._url) from None


_PLAIN = {
    "HangupException": "the connection was cut",
    "NotGitRepository": "it does not appear to be a git repository",
    "HTTPUnauthorized": "Authentication failed",
    "HTTPProxyUnauthorized": "the proxy wants a password",
    "ReadTimeoutError": "the host says nothing; it timed out",
    "ConnectTimeoutError": "the host says nothing; it timed out",
    "NewConnectionError": "Connection refused",
    "NameResolutionError": "Could not resolve the name of the host",
    "ProtocolError": "the connection was cut: unexpected disconnect",
    "IncompleteRead": "the connection was cut: early EOF",
}
"""What errors say that a library means for programmers, by their classes."""


def _text(error: BaseException) -> str:
    """What an error means, without the names of classes and without addresses."""
    # urllib3 wraps the cause: MaxRetryError(..., reason), and SSLError(ssl.SSLError(...)).
    for _ in range(4):
        if lines := getattr(error, "stderr_lines", None):
            return b"\n".join(lines).decode("utf-8", "replace")
        inner = getattr(error, "reason", None)
        if not isinstance(inner, BaseException):
            inner = next((item for item in error.args if isinstance(item, BaseException)), None)
        # dulwich puts the text of urllib3's error, with its classes, into one of its own.
        inner = inner or error.__cause__
        if inner is None:
            break
        if isinstance(inner, OSError) and inner.strerror and type(inner).__name__ in _OF_SYSTEM:
            return str(inner.strerror)
        error = inner
    name = type(error).__name__
    if name in _PLAIN:
        return _PLAIN[name]
    if found := getattr(error, "verify_message", ""):
        return f"the certificate: {found}"
    if isinstance(error, ssl.SSLError):
        return f"TLS was ended: unexpected eof ({error.reason or 'no reason'})"
    first = error.args[0] if error.args else ""
    text = first.decode("utf-8", "replace") if isinstance(first, bytes) else str(first)
    return "" if "://" in text else text[:300]


_OF_SYSTEM = ("ConnectionRefusedError", "ConnectionResetError", "BrokenPipeError", "gaierror")


def _check_objects(repository: Any, url: str) -> None:
    """What git's own check of objects does, for every object that came.

    Raises:
        HostileContentError: one is malformed, or there is too much.
    """
    from dulwich.errors import ObjectFormatException

    total = 0
    for pack in repository.object_store.packs:
        total += pack.data.size if hasattr(pack.data, "size") else 0
        try:
            pack.data.check()
            for item in pack.iterobjects():
                item.check()
        except (ObjectFormatException, AssertionError, ValueError, KeyError) as error:
            raise HostileContentError(
                f"{shown_url(url)} sent objects that git refuses ({type(error).__name__})",
                hint="nothing was changed; look at it on the remote with 'git fsck'",
            ) from None
    if total > MOST_BYTES:
        raise HostileContentError(f"{shown_url(url)} sent more than {MOST_BYTES >> 30} GiB")
