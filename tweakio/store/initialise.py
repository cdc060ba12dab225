"""Making a profile repository, recognising one, and refusing what is somebody else's."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from typing import TYPE_CHECKING

from tweakio import durable, identity
from tweakio.errors import (
    ForeignRepositoryError,
    HomeNotFoundError,
    NewerFormatError,
    RepositoryDamagedError,
    StorageError,
    TweakioError,
    storage_error,
    system_error,
)
from tweakio.layout import Layout, not_a_home
from tweakio.owners import is_foreign, refuse_foreign_owner
from tweakio.store import driver
from tweakio.store.elsewhere import git_directory_elsewhere
from tweakio.store.frame import misplaced, refuse_misplaced
from tweakio.store.gitconfig import read_settings, refuse_unknown_formats
from tweakio.store.hooks import install_hooks
from tweakio.store.journal import Journal
from tweakio.store.lockfile import RecordedLock
from tweakio.store.objects import (
    BLOB_MODE,
    ObjectReader,
    ObjectWriter,
    TreeEntry,
    parse_tree,
    serialise_tree,
)
from tweakio.store.refs import NO_COMMIT, Refs
from tweakio.store.repository import Repository
from tweakio.store.rules import ATTRIBUTES, FORMAT, IGNORE, format_of
from tweakio.store.system_lock import require_locks

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = [
    "ASIDE",
    "ATTRIBUTES",
    "BUILDING",
    "CONFIG",
    "FORMAT",
    "IGNORE",
    "complete_local",
    "format_of",
    "is_initialised",
    "make_git_directory",
    "make_skeleton",
    "open_repository",
    "profile_like_directories",
    "refuse_foreign",
    "remove_dead_buildings",
]

CONFIG = f"""\
[core]
\trepositoryformatversion = 0
\tfilemode = false
\tbare = false
\tlogallrefupdates = true
\tautocrlf = false
\ttrustctime = false
[gc]
\tauto = 0
[tweakio]
\tformat = {FORMAT}
"""
_BRANCH = "refs/heads/main"
BUILDING = ".git.new-"
ASIDE = "damaged-git-"
_PROFILE_MARKS = ("metadata.json", "browser_profile", "session.json")


def is_initialised(layout: Layout) -> bool:
    """Whether there is a git directory at the place of ours.

    Raises:
        StorageError: that cannot be told now.
    """
    try:
        return durable.is_there(layout.git_dir)
    except OSError as error:
        raise storage_error(error, "look for the profile repository") from error


def open_repository(layout: Layout, *, create: bool, timeout: float = 30.0) -> Repository | None:
    """Open the repository of a home.

    Args:
        layout: the home.
        create: make what is missing; else None is returned if there is no repository.
        timeout: seconds to wait for other programs' locks.

    Raises:
        ForeignRepositoryError: the place is another git repository; it is not touched.
        HomeNotFoundError: the home is not a directory or cannot be made.
        NewerFormatError: made by a newer tweakio.
        RepositoryDamagedError: there are profiles, but no repository of theirs.
    """
    try:
        return _open(layout, create=create, timeout=timeout)
    except (OSError, ImportError, MemoryError) as error:
        failure = system_error(error, "open the profile repository", ours=True)
        if failure is None:
            raise
        raise failure from error


def _open(layout: Layout, *, create: bool, timeout: float) -> Repository | None:
    home = layout.home
    if durable.is_there(home) and not durable.is_directory(home):
        raise not_a_home(home, "give another --home")
    _refuse_linked_profiles(layout)
    if not is_initialised(layout):
        refuse_foreign_places(layout)
        _refuse_orphaned_profiles(layout)
        if not create:
            return None
        refuse_foreign_owner(layout)
        _create(layout)
    refuse_foreign(layout)
    refuse_misplaced(layout.git_dir)
    if not is_foreign(layout):
        complete_local(layout, timeout)
    repository = Repository(layout, timeout=timeout)
    repository.settle()
    return repository


def refuse_foreign_places(layout: Layout) -> None:
    """Return if no other repository is where ours would be.

    Raises:
        ForeignRepositoryError: one is.
    """
    _refuse_foreign_place(layout.home, git_dir=True)
    # Its git directory is looked for before; another process may just have made it.
    _refuse_foreign_place(layout.profiles, git_dir=False)


def _refuse_foreign_place(place: Path, *, git_dir: bool) -> None:
    is_bare = all((place / name).exists() for name in ("HEAD", "objects", "refs"))
    if is_bare or (git_dir and os.path.lexists(place / ".git")):
        raise ForeignRepositoryError(
            f"{place} is a git repository of something else",
            hint="give another --home; tweakio makes its own repository",
        )


def _refuse_orphaned_profiles(layout: Layout) -> None:
    for directory in profile_like_directories(layout):
        raise RepositoryDamagedError(
            f"{layout.profiles} holds profiles ('{directory}') but its .git is gone",
            hint="run 'tweakio repo doctor --fix' to rebuild it from them",
        )


def profile_like_directories(layout: Layout) -> list[str]:
    """The names of directories in the work tree that hold a profile's files."""
    if os.path.islink(layout.profiles):
        return []
    try:
        items = list(os.scandir(layout.profiles))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(
        item.name
        for item in items
        if item.is_dir(follow_symlinks=False)
        and not item.name.startswith(".git")
        and any(os.path.lexists(os.path.join(item.path, name)) for name in _PROFILE_MARKS)
    )


def _create(layout: Layout) -> None:
    places = (layout.profiles, layout.home, *layout.home.parents)
    missing = [place for place in places if not durable.is_there(place)]
    try:
        _make(layout)
    except BaseException:  # Ctrl-C as well: half a home must not stay
        for place in missing:
            with contextlib.suppress(OSError):
                os.rmdir(place)
        raise


def _make(layout: Layout) -> None:
    try:
        durable.make_directory(layout.home, parents=True)
        durable.make_directory(layout.profiles)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise HomeNotFoundError(f"{layout.home} cannot be made: {error.strerror}") from error
    _refuse_linked_profiles(layout)
    remove_dead_buildings(layout)
    import secrets

    building = layout.profiles / f"{BUILDING}{os.getpid()}-{secrets.token_hex(4)}"
    try:
        make_git_directory(building)
        require_locks(building / "tweakio" / "locks" / "marker")
        try:
            # Atomic: it fails if another process was faster, since that one is not empty.
            os.rename(building, layout.git_dir)
        except OSError:
            if not is_initialised(layout):
                raise
        durable.fsync_directory(layout.profiles)
        durable.fsync_directory(layout.home)
    finally:
        import shutil

        shutil.rmtree(building, ignore_errors=True)


def _refuse_linked_profiles(layout: Layout) -> None:
    """The home may be a link, which is a person's choice; what is in it is ours."""
    path = layout.profiles
    mode = durable.mode_of(path)
    if mode and not stat.S_ISDIR(mode):
        raise ForeignRepositoryError(
            f"{path} is not a directory of its own",
            hint="give another --home; to have it elsewhere, the home itself may be a link",
        )


def remove_dead_buildings(layout: Layout) -> None:
    """Remove the git directories that processes were building when they died.

    One that has damaged files of profiles already is put aside like an old git directory.
    """
    import shutil

    from tweakio.store.processes import process_start

    for name in os.listdir(layout.profiles):
        pid = name[len(BUILDING) :].split("-")[0]
        if name.startswith(BUILDING) and pid.isdecimal() and process_start(int(pid)) is None:
            building = layout.profiles / name
            rescued = building / "tweakio" / layout.rescued.name
            if rescued.is_dir() and os.listdir(rescued):
                os.rename(building, layout.home / f"{ASIDE}{name[len(BUILDING) :]}")
            else:
                shutil.rmtree(building, ignore_errors=True)


def make_skeleton(git_dir: Path, *, branch: str = _BRANCH) -> None:
    """Make a git directory without a commit, with our config and hooks, at a free path.

    Args:
        git_dir: where.
        branch: full name of the branch that HEAD names.
    """
    inner = Layout(git_dir.parent)  # only for names below the git directory
    local = git_dir / "tweakio"
    for path in (
        git_dir,
        git_dir / "objects",
        git_dir / "objects" / "info",
        git_dir / "objects" / "pack",
        git_dir / "refs",
        git_dir / "refs" / "heads",
        git_dir / "refs" / "tags",
        git_dir / "info",
        git_dir / "hooks",
        local,
        local / inner.locks.name,
        local / inner.staging.name,
        local / inner.temporary.name,
        # Empty: without it a home of before would take what it has for confirmed.
        local / inner.trusted.name,
    ):
        durable.make_directory(path)
    durable.create(git_dir / "config", (CONFIG + driver.section()).encode())
    durable.create(git_dir / "info" / "attributes", driver.ATTRIBUTES.encode())
    durable.create(git_dir / "HEAD", f"ref: {branch}\n".encode())
    _write_marker(local / "locks")
    install_hooks(git_dir)


def make_git_directory(git_dir: Path) -> None:
    """Build a git directory with its first commit, complete and synced, at a free path.

    Its journal is left to the first opener, who writes the work tree's files and the index.
    """
    local = git_dir / "tweakio"
    make_skeleton(git_dir)
    writer = ObjectWriter(git_dir / "objects", local / "tmp")
    tree = writer.add(
        b"tree",
        serialise_tree(
            TreeEntry(BLOB_MODE, name.encode(), writer.add(b"blob", content.encode()))
            for name, content in ((".gitattributes", ATTRIBUTES), (".gitignore", IGNORE))
        ),
    )
    author = identity.author(git_dir / "config")
    stamp = identity.stamp(int(time.time()))
    body = (
        f"tree {tree.hex()}\nauthor {author} {stamp}\ncommitter {author} {stamp}\n\n"
        "init: new profile repository\n\nTweakio-Op: init\n"
    )
    commit = writer.add(b"commit", body.encode("utf-8", "replace")).hex()
    writer.flush()
    durable.create(git_dir / _BRANCH, f"{commit}\n".encode())
    journal = Journal(
        branch=_BRANCH,
        old=NO_COMMIT,
        new=commit,
        reflog=f"{NO_COMMIT} {commit} {author} {stamp}\ttweakio: init\n",
        root_files=(".gitattributes", ".gitignore"),
    )
    journal.write_to(local / "journal.json")
    for directory, _, _ in os.walk(git_dir):
        durable.fsync_directory(directory)


def _write_marker(locks: Path) -> None:
    import secrets

    text = f"tweakio {secrets.token_hex(8)}: see .git/tweakio/locks/repository.lock\n"
    durable.create(locks / "marker", text.encode())


def refuse_foreign(layout: Layout) -> None:
    """Return if the git directory is ours and of a format that is known here.

    Raises:
        ForeignRepositoryError: it is somebody else's.
        NewerFormatError: a newer tweakio made it, or git keeps it in a form that is not known here.
    """
    _refuse_linked_profiles(layout)
    foreign = ForeignRepositoryError(
        f"{layout.profiles} is a git repository of something else",
        hint="give another --home; tweakio makes its own repository",
    )
    if not stat.S_ISDIR(durable.mode_of(layout.git_dir)):
        raise git_directory_elsewhere(layout.git_dir) or foreign
    settings = read_settings(layout.git_dir / "config")
    refuse_unknown_formats(layout.git_dir, settings)
    version = _format_in(settings)
    if version is None and not stat.S_ISDIR(durable.mode_of(layout.local)):
        version = None if misplaced(layout.git_dir) else _committed_format(layout)
        if version is None:
            raise foreign
    if version is not None and version > FORMAT:
        raise NewerFormatError(
            f"the profile repository has format {version}; this tweakio knows {FORMAT}",
            hint="upgrade tweakio",
        )


def _format_in(settings: Mapping[str, str]) -> int | None:
    """``tweakio.format`` in the git configuration."""
    with contextlib.suppress(ValueError):
        return int(settings["tweakio.format"]) if "tweakio.format" in settings else None
    return None


def _committed_format(layout: Layout) -> int | None:
    """The format that HEAD's .gitignore names: how a clone is recognised."""
    reader = ObjectReader(layout.git_dir / "objects")
    try:
        head = Refs(layout.git_dir, layout.temporary).head()
        if head == NO_COMMIT:
            return None
        root = reader.read(reader.commit(head).tree, b"tree")
        for entry in parse_tree(root):
            if entry.name == b".gitignore":
                return format_of(reader.read(entry.id, b"blob"))
    except StorageError:
        raise
    except (TweakioError, ValueError):
        return None
    finally:
        reader.close()
    return None


def complete_local(layout: Layout, timeout: float = 30.0) -> None:
    """Make what a clone lacks; nothing to do in a repository that was made here.

    Args:
        layout: the home.
        timeout: seconds to wait for another program that does it.
    """
    marker = layout.locks / "marker"
    if _has_content(marker):
        return
    try:
        for path in (
            *(layout.local, layout.locks, layout.staging, layout.temporary),
            layout.trusted,  # what came with a clone was confirmed elsewhere, if at all
        ):
            durable.make_directory(path)
        lock = RecordedLock(layout.locks / "repository.lock")
        lock.acquire(timeout)
        try:
            if not _has_content(marker):
                if _format_in(read_settings(layout.git_dir / "config")) is None:
                    # A clone: what was active where it came from is not active here.
                    durable.remove(layout.arrived)
                    durable.create(layout.arrived, b"")
                _complete_config(layout)
                install_hooks(layout.git_dir)
                # Last, since it says that the rest is there.
                durable.remove(marker)
                _write_marker(layout.locks)
        finally:
            lock.release()
    except OSError as error:
        if isinstance(error, TweakioError):
            raise
        raise storage_error(error, "set up the profile repository") from error


def _has_content(path: Path) -> bool:
    try:
        return bool(os.stat(path).st_size)
    except FileNotFoundError:
        return False


def _complete_config(layout: Layout) -> None:
    config = layout.git_dir / "config"
    if _format_in(read_settings(config)) is not None:
        return
    try:
        before = durable.read_regular(config, 1 << 20)
    except FileNotFoundError:
        before = b""
    if before and not before.endswith(b"\n"):
        before += b"\n"
    lines = (
        "[gc]\n\tauto = 0\n[core]\n\tautocrlf = false\n\ttrustctime = false\n"
        f"[tweakio]\n\tformat = {FORMAT}\n"
    )
    temporary = layout.temporary / "config"
    durable.remove(temporary)
    # Not appended: a power cut can leave zeros there, and git then reads nothing at all.
    durable.replace(config, before + lines.encode(), temporary)
