"""Packs as dulwich reads them."""

from __future__ import annotations

from dulwich.object_store import BaseObjectStore, DiskObjectStore

__all__ = ["PackedObjects"]


class PackedObjects(DiskObjectStore):
    """The packs of an object store, without its loose objects.

    Those were looked for before, with what dulwich does not have: it opens whatever is in
    the place of one, and waits for ever for a FIFO. Nor are there objects elsewhere:
    ``objects/info/alternates`` of a repository that was given to somebody may name any place.
    """

    @property
    def alternates(self) -> list[BaseObjectStore]:
        """None."""
        return []

    def _get_loose_object(self, sha: object) -> None:  # noqa: ARG002 - dulwich's signature
        return None
