"""A new home from a remote: complete in one step, or not at all."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from tweakio import changes, directories, durable, identity, trust
from tweakio.errors import (
    ForeignRepositoryError,
    RemoteError,
    TweakioError,
    storage_error,
)
from tweakio.layout import Layout, not_a_home
from tweakio.lease.locking import locks_of
from tweakio.store.initialise import make_skeleton
from tweakio.store.processes import process_start
from tweakio.store.refs import NO_COMMIT, is_ref_name
from tweakio.store.repository import Repository
from tweakio.sync.arrival import put_arrival
from tweakio.sync.configuration import remote_section
from tweakio.sync.quarantine import Quarantine, make_quarantine
from tweakio.sync.sessions import restore_sessions
from tweakio.sync.transport import find_transport
from tweakio.sync.urls import check_name, check_url, shown_url
from tweakio.validation import RECIPIENTS, validate_tree
from tweakio.vault import confirmed
from tweakio.vault.recipients import parse

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tweakio.sync.transport import Transport
    from tweakio.validation import Incoming

__all__ = ["Cloned", "clone"]

log = logging.getLogger(__name__)

_BUILDING = ".cloning-"


class Cloned(NamedTuple):
    """What a clone made.

    Attributes:
        home: the home directory.
        url: where it came from, without anything that could be a secret.
        profiles: how many there are.
        untrusted: those with an address, a selector or a secret, which is not used on this
            machine until ``ProfileManager.trust`` confirms it.
    """

    home: Path
    url: str
    profiles: int
    untrusted: tuple[str, ...] = ()


def clone(
    url: str,
    layout: Layout,
    *,
    remote: str = "origin",
    command: str = "",
    transport: Transport | None = None,
    trusted: bool = False,
) -> Cloned:
    """Make a home's repository from a remote. Nothing is active in it, and nobody logged in.

    It is built beside its place and gets there by one rename.

    Args:
        url: see ``Remotes.add``.
        layout: the home, which must not have profiles yet.
        remote: what the remote is called from then on.
        command: for the history.
        transport: moves objects; the user's git or dulwich by default.
        trusted: confirm the addresses, selectors and references that it brings.

    Raises:
        InvalidInputError: the address is refused.
        ForeignRepositoryError: the home has something in the place of the repository.
        RemoteError: it cannot be reached, or is empty.
        HostileContentError: what it sent was refused.
    """
    url, remote = check_url(url), check_name(remote)
    try:
        _refuse_occupied(layout)
        made = not os.path.lexists(layout.home)
        durable.make_directory(layout.home)
        _remove_dead(layout.home)
        import secrets

        building = layout.home / f"{_BUILDING}{os.getpid()}-{secrets.token_hex(4)}"
        try:
            durable.make_directory(building)
            mover = transport or find_transport()
            came = _build(Layout(building), url, remote, command, mover)
            _put_in_place(building, layout)
        finally:
            shutil.rmtree(building, ignore_errors=True)
            if made:
                with contextlib.suppress(OSError):
                    os.rmdir(layout.home)  # only if it is empty
    except OSError as error:
        if isinstance(error, TweakioError):
            raise
        raise storage_error(error, "clone") from error
    repository = Repository(layout)
    try:
        untrusted = trust.arrived(repository, came.values(), confirmed=trusted)
        restore_sessions(repository, repository.work_tree.ids(repository.head()))
    finally:
        repository.close()
    return Cloned(layout.home, shown_url(url), len(came), tuple(untrusted))


def _refuse_occupied(layout: Layout) -> None:
    if not os.path.isdir(layout.home.parent):
        raise not_a_home(layout.home.parent, "make it first, or give another --home")
    if os.path.lexists(layout.home) and not os.path.isdir(layout.home):
        raise not_a_home(layout.home, "give another --home")
    place = layout.profiles
    if os.path.lexists(place) and (
        os.path.islink(place) or not place.is_dir() or os.listdir(place)
    ):
        raise ForeignRepositoryError(
            f"{place} exists already",
            hint="clone into another home: tweakio --home DIR repo clone URL",
        )


def _remove_dead(home: Path) -> None:
    """Remove what clones that were killed have left."""
    for name in os.listdir(home):
        pid = name[len(_BUILDING) :].split("-")[0]
        if name.startswith(_BUILDING) and pid.isdecimal() and process_start(int(pid)) is None:
            shutil.rmtree(home / name, ignore_errors=True)


def _build(
    layout: Layout, url: str, remote: str, command: str, transport: Transport
) -> Mapping[str, Mapping[str, Any]]:
    """Build a whole home; the metadata of its profiles."""
    durable.make_directory(layout.profiles)
    place = layout.home / "fetched.git"
    make_quarantine(place)
    branch = _choose_branch(*transport.branches(url, place), url)
    make_skeleton(layout.git_dir, branch=f"refs/heads/{branch}")
    fetched = Quarantine(place)
    try:
        commit = transport.fetch(url, branch, place)
        if commit is None:
            raise _empty(url)
        fetched.check_bounds()
        incoming = validate_tree(fetched.commit(commit).tree, fetched.read)
        kept = fetched.take_over(layout.git_dir / "objects")
    finally:
        fetched.close()
    git_dir = layout.git_dir
    for name in (f"refs/heads/{branch}", f"refs/remotes/{remote}/{branch}"):
        durable.make_directory((git_dir / name).parent, parents=True)
        durable.create(git_dir / name, f"{commit}\n".encode())
    durable.append(
        git_dir / "config", remote_section(remote, url, branch).encode(), create_missing=False
    )
    for keep in kept:
        durable.remove(keep)
    repository = Repository(layout)
    try:
        line = (
            f"{NO_COMMIT} {commit} {identity.author(git_dir / 'config')} "
            f"{identity.stamp(int(time.time()))}\ttweakio: clone from {shown_url(url)}\n"
        )
        for name in ("HEAD", f"refs/heads/{branch}"):
            repository.refs.append_reflog(name, line.encode("utf-8", "replace"))
        _check_out(layout, incoming)
        repository.checkout.rebuild_index()
        _arrive(repository, command, list(incoming.profiles))
    finally:
        repository.close()
    for directory, names, _ in os.walk(layout.profiles):
        durable.fsync_directory(directory)
        if directory != os.fspath(layout.profiles) and ".git" not in directory:
            names.clear()
    return incoming.metadata


def _choose_branch(branches: object, named: str | None, url: str) -> str:
    known = dict(branches)  # type: ignore[call-overload]
    for branch in (named, "main", *(known if len(known) == 1 else ())):
        if branch in known and is_ref_name(f"refs/heads/{branch}"):
            return str(branch)
    raise _empty(url)


def _empty(url: str) -> RemoteError:
    return RemoteError(
        f"{shown_url(url)} is empty",
        hint="fill it from a home that has profiles: tweakio repo remote add, tweakio repo push",
    )


def _check_out(layout: Layout, incoming: Incoming) -> None:
    """Write the work tree: the files of the repository, and each profile's directory."""
    with durable.Batch() as batch:
        for name, content in incoming.root_files.items():
            batch.create(layout.profiles / name, content)
    for profile_id, files in incoming.profiles.items():
        directory = layout.profile(profile_id).directory
        durable.make_directory(directory)
        platform = str(incoming.metadata[profile_id]["platform"])
        directories.complete_directory(directory, platform, files=files)


def _arrive(repository: Repository, command: str, profile_ids: list[str]) -> None:
    locks = locks_of(repository.layout)
    with changes.begin(repository, locks, "arrive", profile_ids, command=command) as change:
        confirmed.note_first(repository.layout, parse(change.root_file(RECIPIENTS)))
        put_arrival(change, locks, profile_ids)


def _put_in_place(building: Path, layout: Layout) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(layout.profiles)  # empty, or it fails
    os.rename(building / "profiles", layout.profiles)
    try:
        durable.fsync_directory(layout.home)
    except OSError as error:
        # The clone is there, and an error would say that it is not.
        log.warning("cloned, but the disk did not confirm it (%s)", error)
