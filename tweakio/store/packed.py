"""Packs as dulwich reads them."""

from __future__ import annotations

from dulwich.object_store import DiskObjectStore

__all__ = ["PackedObjects"]


class PackedObjects(DiskObjectStore):
    """The packs of an object store, without its loose objects.

    Those were looked for before, with what dulwich does not have: it opens whatever is in
    the place of one, and waits for ever for a FIFO.
    """

    def _get_loose_object(self, sha: object) -> None:  # noqa: ARG002 - dulwich's signature
        return None
