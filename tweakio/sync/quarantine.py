"""Where fetched objects are until they were looked at, and how they become ours."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tweakio import durable
from tweakio.errors import HostileContentError, LockTimeoutError, RepositoryDamagedError
from tweakio.store.lockfile import RecordedLock
from tweakio.store.objects import MOST_TREE, ObjectReader, parse_commit
from tweakio.store.packs.format import COMMIT, KIND_NAMES, KINDS, TAG, TREE, read_head
from tweakio.store.packs.index import Index
from tweakio.store.refs import NO_COMMIT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tweakio.layout import Layout
    from tweakio.store.objects import Commit

__all__ = ["Quarantine", "make_quarantine", "quarantine"]

_CONFIG = b"[core]\n\trepositoryformatversion = 0\n\tbare = true\n[gc]\n\tauto = 0\n"
_MOST_OBJECT = 64 << 20
_MOST_COMMIT = 8 << 20
_MOST_OF = {COMMIT: _MOST_COMMIT, TREE: MOST_TREE, TAG: 1 << 20}
_MOST_OBJECTS = 20_000_000
_PACK_MODE = 0o444
_KEEP = b"tweakio: just fetched\n"


def make_quarantine(path: Path, ours: Path | None = None, known: tuple[str, ...] = ()) -> None:
    """Make an empty bare repository.

    Args:
        path: where, a free place.
        ours: a git directory whose objects need not be sent again.
        known: commits there, with all that is before them.
    """
    for name in ("", "objects", "objects/info", "objects/pack", "refs", "refs/heads"):
        durable.make_directory(path / name)
    durable.create(path / "config", _CONFIG, sync=False)
    durable.create(path / "HEAD", b"ref: refs/heads/none\n", sync=False)
    if ours is None:
        return
    alternates = os.fsencode(ours / "objects") + b"\n"
    durable.create(path / "objects/info/alternates", alternates, sync=False)
    for number, commit in enumerate(known):
        durable.create(path / f"refs/heads/known-{number}", commit.encode() + b"\n", sync=False)
    shallow = ours / "shallow"
    if shallow.is_file():
        durable.create(path / "shallow", durable.read_regular(shallow, 1 << 24), sync=False)


class Quarantine:
    """A bare repository with what was fetched; what was there before is read from ours.

    Args:
        path: where.
        ours: reads the objects that are here already; None if there are none.
    """

    def __init__(self, path: Path, ours: ObjectReader | None = None) -> None:
        self.path = path
        self._theirs = ObjectReader(path / "objects", part=True)
        self._ours = ours

    def read(self, name: bytes, kind: bytes, most: int = _MOST_OBJECT) -> bytes:
        """The body of an object.

        Raises:
            HostileContentError: it is missing, of another kind, or longer than ``most``.
        """
        found, body = self._theirs.read_any(name)
        if not found and self._ours is not None:
            found, body = self._ours.read_any(name)
        if found != kind or len(body) > most:
            what = "larger than any of ours" if found == kind else "missing or of another kind"
            raise HostileContentError(
                f"the remote has a {kind.decode()} that is {what}",
                hint="nothing was changed; look at it on the remote with 'git fsck'",
            )
        return body

    def has(self, name: str) -> bool:
        """Whether an object came; what was here before does not count."""
        return bool(self._theirs.read_any(bytes.fromhex(name))[0])

    def commit(self, commit_id: str) -> Commit:
        """A commit.

        Raises:
            HostileContentError: it cannot be read.
        """
        body = self.read(bytes.fromhex(commit_id), b"commit", _MOST_COMMIT)
        try:
            return parse_commit(commit_id, body)
        except RepositoryDamagedError as error:
            raise HostileContentError(f"the remote has a damaged commit: {error.message}") from None

    def check_bounds(self) -> None:
        """Look at the size of every object that came, before any is unpacked into memory.

        Raises:
            HostileContentError: one is larger than 64 MB, or there is something loose.
        """
        for name in os.listdir(self.path / "objects"):
            if len(name) == 2 and os.listdir(self.path / "objects" / name):
                raise HostileContentError(
                    "the remote handed out single objects, which nobody checked",
                    hint="its server must speak git's smart protocol",
                )
        for index in sorted((self.path / "objects" / "pack").glob("*.idx")):
            _check_pack(index.with_suffix(".pack"), index)

    def take_over(self, objects: Path) -> list[Path]:
        """Move the packs to ours; they are kept there by ``.keep`` files.

        Args:
            objects: our ``objects`` directory, in the same file system.

        Returns:
            The ``.keep`` files, to be removed once a ref names what came.
        """
        self.close()
        kept = []
        target = objects / "pack"
        durable.make_directory(target)  # gone, where all objects were lost
        source = self.path / "objects" / "pack"
        for index in sorted(source.glob("pack-*.idx")):
            stem = index.stem
            pack = source / f"{stem}.pack"
            if (target / f"{stem}.idx").exists() and (target / f"{stem}.pack").exists():
                continue
            keep = target / f"{stem}.keep"
            if not keep.exists():
                durable.create(keep, _KEEP, mode=_PACK_MODE, sync=False)
            kept.append(keep)
            for path in (pack, index):
                os.chmod(path, _PACK_MODE)
                with open(path, "rb") as file:
                    durable.sync_descriptor(file.fileno())
            # The index last: git looks for packs by it.
            durable.move(pack, target / pack.name)
            durable.move(index, target / index.name)
        durable.fsync_directory(target)
        return kept

    def close(self) -> None:
        """Close what was opened."""
        self._theirs.close()


def _check_pack(pack: Path, index_path: Path) -> None:
    index = Index.read(index_path)
    if index is None or not index.plain or index.count > _MOST_OBJECTS:
        raise HostileContentError("the remote sent a pack that cannot be read")
    with open(pack, "rb") as file:
        for offset in index.offsets():
            file.seek(offset)
            begin = file.read(160)
            kind, size = _size(begin)
            most = _MOST_OF.get(kind, _MOST_OBJECT)
            if size > most:
                what = KIND_NAMES.get(kind, b"object").decode()
                raise HostileContentError(
                    f"the remote sent a {what} of more than {most >> 20} MB",
                    hint="nothing was changed; no profile repository has anything of that size",
                )


def _size(begin: bytes) -> tuple[int, int]:
    """The kind of an entry in a pack, and the size that its object unpacks to."""
    import zlib

    kind, size, _, start = read_head(begin)
    if kind in KINDS.values():
        return kind, size
    if kind == 7:
        start += 20
    head = zlib.decompressobj().decompress(begin[start:], 32)
    at = 0
    result = 0
    for _ in range(2):  # the size of what it is made from, then its own
        result = shift = 0
        while at < len(head):
            byte = head[at]
            at += 1
            result |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
    return kind, max(result, size)


@contextmanager
def quarantine(
    layout: Layout, reader: ObjectReader | None, known: tuple[str, ...], timeout: float
) -> Iterator[Quarantine]:
    """A quarantine beside a repository, for one fetch at a time.

    Args:
        layout: the home.
        reader: reads the repository's objects; None to use none of them, as for a clone.
        known: commits that need not be sent again.
        timeout: seconds to wait for another fetch.

    Raises:
        LockTimeoutError: another one is under way.
    """
    lock = RecordedLock(layout.locks / "incoming.lock")
    try:
        lock.acquire(timeout)
    except LockTimeoutError as error:
        raise LockTimeoutError(
            "another program is fetching for this home",
            hint="run the command again",
            **error.details,
        ) from None
    try:
        # What a fetch that was killed has left.
        durable.remove_tree(layout.incoming)
        durable.make_directory(layout.incoming)
        path = layout.incoming / "fetched.git"
        ours = None if reader is None else layout.git_dir
        make_quarantine(path, ours, tuple(c for c in known if c != NO_COMMIT))
        place = Quarantine(path, reader)
        try:
            yield place
        finally:
            place.close()
            shutil.rmtree(layout.incoming, ignore_errors=True)
    finally:
        lock.release()
