"""fsspec's SFTP, made safe: only to hosts that are known, and never waiting for ever."""

from __future__ import annotations

import stat
from typing import Any

import paramiko  # type: ignore[import-untyped]
from fsspec.implementations.sftp import SFTPFileSystem  # type: ignore[import-untyped]
from fsspec.utils import infer_storage_options  # type: ignore[import-untyped]

from tweakio.errors import SnapshotError

__all__ = ["open_sftp"]

_CONNECTING = 30.0
_ANSWERING = 60.0
"""Seconds until a host that says nothing counts as gone."""


class _Known(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]
    """Refuses hosts that ``ssh`` would ask about; fsspec trusts them all."""

    def missing_host_key(self, _client: Any, hostname: str, _key: Any) -> None:
        raise SnapshotError(
            f"the key of the host {hostname[:80]!a} is not in ~/.ssh/known_hosts",
            hint="connect to it with ssh once, and compare the fingerprint",
        )


class _Sftp(SFTPFileSystem):  # type: ignore[misc]
    # A connection that broke would be found again by the next one who asks.
    cachable = False

    def _connect(self) -> None:
        self.client = paramiko.SSHClient()
        self.client.load_system_host_keys()
        self.client.set_missing_host_key_policy(_Known())
        self.client.connect(self.host, **{"timeout": _CONNECTING, **self.ssh_kwargs})
        self.ftp = self.client.open_sftp()
        channel = self.ftp.get_channel()
        if channel is not None:
            channel.settimeout(_ANSWERING)

    def refuse_link(self, path: str) -> None:
        """Refuse a directory that is a link, which would lead out of the store."""
        try:
            mode = self.ftp.lstat(path).st_mode
        except FileNotFoundError:
            return
        if mode is not None and stat.S_ISLNK(mode):
            raise SnapshotError(
                f"{path[:200]!a} in the snapshot store is a symbolic link, which is not followed",
                hint="remove the link, or set the store to where the snapshots are: "
                "tweakio profile snapshot store URL",
            )

    def mkdir(self, path: str, create_parents: bool = True, mode: int = 0o700) -> None:  # noqa: FBT001, FBT002
        super().mkdir(path, create_parents=create_parents, mode=mode)


def open_sftp(url: str) -> tuple[Any, str]:
    """A connection to the host of a URL, and the path in it."""
    options = infer_storage_options(url)
    path = str(options.pop("path"))
    del options["protocol"]
    return _Sftp(**options), path
