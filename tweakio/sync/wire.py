"""Moving objects with dulwich, where no git is installed."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
import warnings
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tweakio.errors import HostileContentError, RemoteError
from tweakio.sync.transport import FETCHED, MOST_BYTES, RejectedError, cut_here, too_late
from tweakio.sync.urls import check_url, shown_url

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["DulwichTransport"]

log = logging.getLogger(__name__)

_NOTHING = b"0" * 40


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

        until = None if seconds is None else time.monotonic() + seconds

        def progress(_: bytes) -> None:
            if until is not None and time.monotonic() > until:
                raise too_late(url, seconds)

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

            with _translated(url):
                done = client.send_pack(path, update, repository.generate_pack_data)
        for reason in (done.ref_status or {}).values():
            if reason and "shallow" in str(reason):
                raise cut_here(url)
            if reason:
                raise RejectedError


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
    from dulwich.client import LocalGitClient, get_transport_and_path

    check_url(url)
    if url.startswith("file://"):
        from urllib.request import url2pathname

        return LocalGitClient(), url2pathname(urlsplit(url).path)
    return get_transport_and_path(url)


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

    def __init__(self, url: str) -> None:
        self._url = url
        self._quiet = contextlib.ExitStack()

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
        if type(error).__name__ == "SendPackError":
            raise RejectedError from None
        text = "".join(c if c.isprintable() else "?" for c in str(error))[:160]
        if "://" in text:
            text = ""
        raise RemoteError(
            f"cannot reach {shown_url(self._url)}: {type(error).__name__} {text}".rstrip(),
            hint="give the address of one that exists, and check that you may read it",
        ) from None


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
