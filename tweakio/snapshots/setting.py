"""Which store was set for a home."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING

from tweakio import durable
from tweakio.errors import SnapshotError, is_of_the_moment, storage_error
from tweakio.snapshots import places
from tweakio.snapshots.directory import Directory

if TYPE_CHECKING:
    from tweakio.layout import Layout
    from tweakio.snapshots.places import Place
    from tweakio.store.repository import Repository

__all__ = ["open_store", "read_store", "write_store"]


def read_store(layout: Layout) -> str:
    """The address of the store, as it was set; empty for the one in the repository.

    Raises:
        SnapshotError: it is damaged.
        StorageError: it cannot be read now.
    """
    try:
        value = json.loads(durable.read_regular(layout.snapshot_store, 1 << 16))
        return places.check_url(str(value["store"]))
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, OSError) and is_of_the_moment(error):
            raise storage_error(error, "read the snapshot store's address") from error
        raise SnapshotError(
            f"{layout.snapshot_store} cannot be read",
            hint="set the store again: tweakio profile snapshot store URL",
        ) from error


def write_store(layout: Layout, repository: Repository, url: str) -> None:
    """Set the store; empty for the one in the repository.

    Raises:
        InvalidInputError: it is no address, or has a secret in it.
    """
    if url:
        places.refuse_unknown(places.check_url(url))
    content = json.dumps({"store": url}) + "\n" if url else ""
    path = layout.snapshot_store
    with repository.exclusive():
        try:
            if not content:
                durable.remove(path)
                durable.fsync_directory(path.parent)
            else:
                durable.make_directory(layout.temporary)
                temporary = layout.temporary / f"store-{secrets.token_hex(8)}"
                durable.replace(path, content.encode(), temporary)
        except OSError as error:
            raise storage_error(error, "set the snapshot store") from error


def open_store(layout: Layout) -> Place:
    """The store that was set.

    Raises:
        SnapshotError, MissingExtraError, SecretNotFoundError: it cannot be used.
    """
    url = read_store(layout)
    return places.open_place(url) if url else Directory(layout.snapshots, make_root=True)
