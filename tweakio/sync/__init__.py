"""Carrying the repository between machines: clone, remotes, push, pull, and the merge.

Fetched content is taken for hostile. It comes into a quarantine, is looked at as a whole, and
only then are its objects moved to ours and merged, profile by profile, as one transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    from tweakio.sync.cloning import Cloned

__all__ = ["clone_repository"]


def clone_repository(
    url: str,
    home: str | os.PathLike[str] | None = None,
    *,
    remote: str = "origin",
    command: str = "clone_repository",
    trusted: bool = False,
) -> Cloned:
    """Make a home's repository from a remote. Nothing is active in it, and nobody logged in.

    Args:
        url: an ``ssh://``, ``https://`` or ``file://`` address, ``user@host:path`` or a path.
        home: the directory that holds everything; ``$TWEAKIO_HOME`` by default, else the
            platform's directory for user data. It must not have profiles yet.
        remote: what the remote is called from then on.
        command: what the history says ran.
        trusted: confirm on this machine the addresses, selectors and references that it brings.

    Raises:
        InvalidInputError: the address is refused; the message does not repeat it.
        ForeignRepositoryError: something is in the place of the repository.
        RemoteError: the remote cannot be reached, or is empty.
        HostileContentError: what it sent was refused.
    """
    import os
    from pathlib import Path

    from tweakio.layout import Layout, default_home
    from tweakio.sync.cloning import clone

    chosen = Path(home) if home is not None else default_home()
    layout = Layout(Path(os.path.abspath(chosen.expanduser())))
    return clone(url, layout, remote=remote, command=command, trusted=trusted)
