"""A small disk of our own whose power can be cut.

A file system in an image, mounted by a loop device. The cut is the file system's own shutdown
call (``EXT4_IOC_SHUTDOWN``, the same number as ``XFS_IOC_GOINGDOWN``) with the flag that says
not to write the log: from then on nothing reaches the disk, and what was in memory only is
gone. The next mount replays the journal, as after a real cut. What it does not show is a drive
that reorders what it was given or loses what it said it had flushed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = [
    "FILE_SYSTEMS", "OWN_MOUNTS", "Disk", "cut_power", "in_own_mounts", "mounted", "unavailable",
]  # fmt: skip

OWN_MOUNTS = "TWEAKIO_TEST_OWN_MOUNTS"
"""The environment variable that says that this process is in a mount namespace of its own."""
_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32)
_WITHOUT_LOG = struct.pack("I", 2)
_fsync = os.fsync  # also when the library's own is broken on purpose

# What makes each file system, and how it is mounted: as unforgiving as it can be.
FILE_SYSTEMS = {
    # ext4 writes out a file that is renamed over another, which would hide a missing sync.
    "ext4": (["mkfs.ext4", "-q", "-F"], "loop,noauto_da_alloc,commit=300", 96),
    # A sync writes little more than the one file it is for.
    "ext4-fast": (
        ["mkfs.ext4", "-q", "-F", "-O", "fast_commit"], "loop,noauto_da_alloc,commit=300", 96,
    ),
    "xfs": (["mkfs.xfs", "-q", "-f"], "loop", 320),
}  # fmt: skip


def cut_power(directory: str | os.PathLike[str], *, after_sync: bool = False) -> None:
    """Let the file system of a directory lose all that it has not written.

    Args:
        directory: any on it.
        after_sync: another program syncs a file of its own just before. The journal then has
            every name that was given until now, but not the bytes of files not synced.
    """
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        if after_sync:
            other = os.open("somebody-else", os.O_WRONLY | os.O_CREAT, dir_fd=descriptor)
            os.write(other, b"x")
            _fsync(other)
            os.close(other)
        fcntl.ioctl(descriptor, _SHUTDOWN, _WITHOUT_LOG)
    finally:
        os.close(descriptor)


class Disk:
    """One file system in an image.

    Args:
        kind: a key of ``FILE_SYSTEMS``.
        directory: where the image is kept.
        mount: an empty directory.
    """

    def __init__(self, kind: str, directory: Path, mount: Path) -> None:
        make, self._options, megabytes = FILE_SYSTEMS[kind]
        self._type = make[0].partition(".")[2]
        self.kind = kind
        self._image = directory / f"{kind}.image"
        self.mount = mount
        with self._image.open("wb") as file:
            file.truncate(megabytes << 20)
        _run(*make, os.fspath(self._image))
        self._attach()

    def _attach(self) -> None:
        _run("mount", "-t", self._type, "-o", self._options, os.fspath(self._image),
             os.fspath(self.mount))  # fmt: skip

    def sync(self) -> None:
        """Write everything."""
        _run("sync", "-f", os.fspath(self.mount))

    def cut(self, *, after_sync: bool = False) -> None:
        """Cut its power."""
        cut_power(self.mount, after_sync=after_sync)

    def come_back(self) -> None:
        """Mount it again after a cut."""
        self.detach()
        self._attach()

    def detach(self) -> None:
        """Unmount it."""
        for wait in (0.01, 0.1, 1.0, None):
            # A process that was killed may not be gone yet.
            try:
                _run("umount", os.fspath(self.mount))
            except OSError:
                if wait is None:
                    raise
                time.sleep(wait)
            else:
                return


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")


def in_own_mounts() -> None:
    """Go on in a mount namespace of our own, which ends with us and so do its mounts."""
    if os.environ.get(OWN_MOUNTS) or shutil.which("unshare") is None:
        return
    os.environ[OWN_MOUNTS] = "1"
    arguments = ["unshare", "--mount", sys.executable, *sys.orig_argv[1:]]
    os.execvp("unshare", arguments)


@contextlib.contextmanager
def mounted(kind: str, directory: Path) -> Iterator[Disk]:
    """A disk for the length of a block."""
    mount = directory / f"{kind}.mount"
    mount.mkdir()
    disk = Disk(kind, directory, mount)
    try:
        yield disk
    finally:
        disk.detach()


def unavailable(kind: str, directory: Path) -> str:
    """Why power cuts cannot be made here; empty if they can."""
    if sys.platform != "linux":
        return "needs Linux"
    if os.geteuid():
        return "needs root, to mount a loop device"
    if shutil.which(FILE_SYSTEMS[kind][0][0]) is None:
        return f"needs {FILE_SYSTEMS[kind][0][0]}"
    try:
        with mounted(kind, directory) as disk:
            disk.cut()
    except OSError as error:
        return str(error)
    finally:
        shutil.rmtree(directory / f"{kind}.mount", ignore_errors=True)
    return ""
