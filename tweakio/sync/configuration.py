"""The remotes in ``.git/config``, as git has them, so that plain git knows them too."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, NamedTuple

from tweakio import durable
from tweakio.errors import RemoteError, RepositoryDamagedError, is_of_the_moment, run, storage_error
from tweakio.sync.urls import check_name, check_url, shown_url

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tweakio.layout import Layout

__all__ = ["Remote", "add_remote", "read_remotes", "remote_section", "remove_remote"]

_MOST = 1 << 20
_WRITTEN = "tweakioTrust"
TRUSTED = _WRITTEN.lower()
"""The setting of a remote that says so, as git reads names: without their case."""


class Remote(NamedTuple):
    """Another place where the repository is kept.

    Attributes:
        name: of the remote, such as ``origin``.
        url: where it is; nothing in it is a secret.
        trusted: whether what comes from it needs no confirmation on this machine.
    """

    name: str
    url: str
    trusted: bool = False


def _read(config: Path) -> bytes:
    try:
        return durable.read_regular(config, _MOST)
    except FileNotFoundError:
        return b""


def read_remotes(layout: Layout) -> dict[str, str]:
    """Name to address, as they are written; an address is checked when it is used.

    Raises:
        RepositoryDamagedError: the configuration is missing or damaged.
        StorageError: it cannot be read now.
    """
    return {
        name: url
        for name, url in ((name, _value(section, b"url")) for name, section in _remotes(layout))
        if url is not None
    }


def trusted_remotes(layout: Layout) -> set[str]:
    """The names of the remotes that this machine's configuration trusts.

    Raises:
        As ``read_remotes``.
    """
    true = ("true", "yes", "on", "1")
    return {
        name
        for name, section in _remotes(layout)
        if (_value(section, TRUSTED.encode()) or "").lower() in true
    }


def _value(section: Mapping[bytes, bytes], key: bytes) -> str | None:
    found = section.get(key)
    return None if found is None else found.decode("utf-8", "replace")


def _remotes(layout: Layout) -> Iterator[tuple[str, Mapping[bytes, bytes]]]:
    from dulwich.config import ConfigFile

    try:
        config = ConfigFile.from_file(
            io.BytesIO(_read(layout.git_dir / "config")), expand_includes=False
        )
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and is_of_the_moment(error):
            raise storage_error(error, "read .git/config") from error
        raise RepositoryDamagedError(
            f".git/config cannot be read: {error}", hint="run 'tweakio repo doctor'"
        ) from None
    for section in config.sections():
        if len(section) == 2 and section[0].lower() == b"remote":
            # Git's names of settings know no case.
            values = {key.lower(): value for key, value in config.items(section)}
            yield section[1].decode("utf-8", "replace"), values


def remote_section(name: str, url: str, branch: str) -> str:
    """The lines of ``.git/config`` for a remote, which is also what the branch follows."""
    place, follower = (text.replace("\\", "\\\\").replace('"', '\\"') for text in (url, branch))
    return (
        f'[remote "{name}"]\n\turl = "{place}"\n'
        f"\tfetch = +refs/heads/*:refs/remotes/{name}/*\n"
        f'[branch "{follower}"]\n\tremote = {name}\n\tmerge = "refs/heads/{follower}"\n'
    )


def add_remote(layout: Layout, name: str, url: str, branch: str, *, trusted: bool) -> None:
    """Write a new remote; the repository's lock is held.

    Raises:
        RemoteError: there is one of this name.
        InvalidInputError: the name or the address is refused.
    """
    check_name(name)
    url = check_url(url)
    known = read_remotes(layout)
    if name in known:
        raise RemoteError(
            f"remote '{name}' exists: {shown_url(known[name])}",
            hint="give another name, or first " + run("tweakio repo remote remove", name),
        )
    before = _read(layout.git_dir / "config")
    if before and not before.endswith(b"\n"):
        before += b"\n"
    section = remote_section(name, url, branch)
    if trusted:
        section = section.replace("\turl =", f"\t{_WRITTEN} = true\n\turl =", 1)
    if known:
        section = section[: section.index("[branch ")]  # the branch follows the first one
    _write(layout, before + section.encode())


def remove_remote(layout: Layout, name: str) -> None:
    """Take a remote away; the repository's lock is held.

    Raises:
        RemoteError: there is none of this name.
    """
    if name not in read_remotes(layout):
        raise unknown_remote(name, read_remotes(layout))
    kept = []
    for section in _sections(_read(layout.git_dir / "config").decode("utf-8", "surrogateescape")):
        head, _, rest = section.partition("\n")
        kind, called, *_ = [*head.split(None, 1), "", ""]
        if kind.lower() == "[remote" and called.startswith(f'"{name}"]'):
            continue
        values = (line.partition("=") for line in rest.split("\n"))
        follows = any(
            key.strip().lower() == "remote" and value.strip() == name for key, _, value in values
        )
        if kind.lower() == "[branch" and follows:
            continue
        kept.append(section)
    _write(layout, "".join(kept).encode("utf-8", "surrogateescape"))
    durable.remove_tree(layout.git_dir / "refs" / "remotes" / check_name(name))


def unknown_remote(name: str, known: dict[str, str]) -> RemoteError:
    """The error for a name that no remote has."""
    hint = f"there are: {', '.join(sorted(known))}" if known else "run 'tweakio repo remote add'"
    return RemoteError(f"no remote {ascii(name)[:60]}", hint=hint)


def _sections(text: str) -> list[str]:
    """A configuration cut before each line that begins a section."""
    found: list[list[str]] = [[]]
    for line in text.splitlines(keepends=True):
        if line.lstrip().startswith("["):
            found.append([])
        found[-1].append(line)
    return ["".join(lines) for lines in found]


def _write(layout: Layout, content: bytes) -> None:
    temporary = layout.temporary / "config"
    durable.remove(temporary)
    durable.replace(layout.git_dir / "config", content, temporary)
