"""All profiles at once, without reading again what has not changed.

As git does with its index: what was read is believed as long as ``stat`` says the same of
its files and HEAD has the same tree for it. It is kept in memory, and for the next process in a
cache file.
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, NamedTuple

from tweakio.errors import storage_error
from tweakio.schema import looks_valid
from tweakio.store.cache import CacheFile
from tweakio.store.worktree import FINGERPRINT, METADATA, Found

if TYPE_CHECKING:
    from tweakio.store.head import Head
    from tweakio.store.repository import Repository

    Signature = tuple[int, ...]

__all__ = ["Known", "Listing"]

# A file can change twice within one tick of its clock, the second time unseen. What changed a
# moment ago is read again until that is over.
_SETTLED = 10**9
# With fewer profiles to read a cache file costs more than it saves.
_WORTH_KEEPING = 50
_TIMES = 4


class Known(NamedTuple):
    """What is believed of a profile while its tree and signature are the same."""

    tree: bytes
    signature: Signature
    found: Found


class Listing:
    """Looks at every profile of one repository.

    Args:
        repository: which one.
    """

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._base = os.fspath(repository.layout.profiles)
        self._file = CacheFile(repository.layout.listing_cache)
        self._known: dict[str, Known] | None = None
        # How many the cache file lacks.
        self._lacking = 0

    def examine_all(self, head: Head) -> list[Found]:
        """As ``WorkTree.examine_all``, but for the contents of what is clean."""
        known = self.load() if self._known is None else self._known
        directories = self._repository.work_tree.directories(head)
        here = self._directories_here()
        before = time.time_ns() - _SETTLED
        result: list[Found] = []
        still: dict[str, Known] = {}
        read = 0
        for profile_id, tree in directories.items():
            signature = self._signature(profile_id) if profile_id in here else None
            item = known.get(profile_id)
            if item is None or item.tree != tree or item.signature != signature:
                found = self._repository.work_tree.examine_tree(head, profile_id, tree)
                if found is None:
                    continue
                if found.state != "clean" or signature is None or max(signature[:_TIMES]) >= before:
                    result.append(found)
                    continue
                item = Known(tree, signature, found._replace(contents={}))
                read += 1
            still[profile_id] = item
            result.append(item.found)
        self._known = still
        self._keep(still, read)
        return result

    def _directories_here(self) -> set[str]:
        """The directories of the work tree that are no links."""
        try:
            with os.scandir(self._base) as entries:
                return {entry.name for entry in entries if entry.is_dir(follow_symlinks=False)}
        except OSError as error:
            raise storage_error(error, "list the profiles") from error

    def _signature(self, profile_id: str) -> Signature | None:
        try:
            metadata = os.lstat(f"{self._base}/{profile_id}/{METADATA}")
            fingerprint = os.lstat(f"{self._base}/{profile_id}/{FINGERPRINT}")
        except OSError:
            return None
        return (
            metadata.st_mtime_ns, metadata.st_ctime_ns,
            fingerprint.st_mtime_ns, fingerprint.st_ctime_ns,
            metadata.st_ino, metadata.st_size, fingerprint.st_ino, fingerprint.st_size,
        )  # fmt: skip

    def load(self) -> dict[str, Known]:
        """What the cache file says."""
        content = self._file.read()
        try:
            rows = json.loads(content) if content is not None else []
            known = {
                name: Known(bytes.fromhex(tree), tuple(signature), Found(name, "clean", metadata))
                for name, tree, signature, metadata in rows
                if looks_valid(metadata, name)
            }
        except (ValueError, TypeError, RecursionError):
            known = {}
        return known

    def _keep(self, known: dict[str, Known], read: int) -> None:
        """Write the cache file if many profiles had to be read that it does not have."""
        self._lacking += read
        if self._lacking < max(_WORTH_KEEPING, len(known) // 4):
            return
        rows = [
            (name, item.tree.hex(), item.signature, item.found.metadata)
            for name, item in known.items()
        ]
        self._file.write(json.dumps(rows, separators=(",", ":")).encode())
        self._lacking = 0
