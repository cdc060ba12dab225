"""The ZIP file: written in one pass, read with distrust."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import struct
import zipfile
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

from tweakio import bundle, schema
from tweakio._version import __version__
from tweakio.archive.importer import (
    Incoming,
    checked_fingerprint,
    checked_metadata,
    inactive,
    reading,
)
from tweakio.errors import ArchiveError, NewerFormatError
from tweakio.store.worktree import FINGERPRINT, METADATA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tweakio.layout import ProfilePaths
    from tweakio.validator import ProfileValidator

__all__ = ["FORMAT", "MANIFEST", "Reader", "Writer"]

FORMAT = 1
MANIFEST = "tweakio.json"
DATA = "browser_data.tar.zst"

MOST_PROFILES = 25_000
"""In one file: what a ZIP lists is in memory before the first name of it can be looked at."""
_MOST_MEMBERS = 3 * MOST_PROFILES + 1
_MOST_DIRECTORY = 8 << 20
_MOST_MANIFEST = 1 << 12
_MOST_OF_ONE = 1 << 9
"""Bytes that the manifest may have, and those for each file."""
_MOST_VALUES = 16
"""Marks of JSON in the manifest for each file: a value takes fifty times as much in memory as its
three characters, and thousands of times less in the ZIP."""
# Any time would do; this is the first that a ZIP can have, and says nothing of a machine.
_TIME = (1980, 1, 1, 0, 0, 0)
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")


class Writer:
    """Writes profiles into a ZIP.

    Args:
        out: opened for writing bytes; need not be able to seek.
        with_session: whether browser data may go in; without, nothing secret does.
    """

    def __init__(self, out: Any, *, with_session: bool) -> None:
        self._zip = zipfile.ZipFile(out, "w", zipfile.ZIP_STORED, allowZip64=True)
        self._with_session = with_session
        self._files: dict[str, dict[str, Any]] = {}
        self._profiles: list[dict[str, Any]] = []
        self.bytes = 0

    def add(
        self,
        profile_id: str,
        metadata: bytes,
        fingerprint: bytes,
        paths: ProfilePaths | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Write a profile.

        Args:
            profile_id: validated.
            metadata: its metadata.json.
            fingerprint: its fingerprint.json.
            paths: where its browser data is; the caller holds its lock.
            progress: called with the bytes of browser data so far.
        """
        value = inactive(schema.load(metadata, profile_id))
        self._write(f"{profile_id}/{METADATA}", schema.dump(value))
        self._write(f"{profile_id}/{FINGERPRINT}", fingerprint)
        entry: dict[str, Any] = {"profile_id": profile_id, "platform": value["platform"]}
        if paths is not None and self._with_session:
            name = f"{profile_id}/{DATA}"
            with self._zip.open(_info(name), "w", force_zip64=True) as stream:
                out = cast("BinaryIO", stream)
                info = bundle.write_bundle(paths, out, progress=progress)
            self._files[name] = {"size": info.size, "sha256": info.sha256}
            entry["browser_data"] = {"files": info.files, "bytes": info.bytes}
            self.bytes += info.bytes
        self._profiles.append(entry)

    def _write(self, name: str, content: bytes) -> None:
        self._zip.writestr(_info(name), content)
        self._files[name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    def abandon(self) -> None:
        """Leave it as it is; Python would write an end when it collects the object."""
        self._zip.fp = None

    def finish(self) -> None:
        """Write the manifest and the end."""
        manifest = {
            "format": FORMAT,
            "written_by": f"tweakio {__version__}",
            "with_session": self._with_session,
            "profiles": self._profiles,
            "files": self._files,
        }
        self._zip.writestr(_info(MANIFEST), json.dumps(manifest, indent=1).encode() + b"\n")
        self._zip.close()


def _info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _TIME)
    info.external_attr = (stat.S_IFREG | 0o600) << 16
    info.create_system = 3  # Unix, whatever it was written on
    return info


class _Member(NamedTuple):
    info: zipfile.ZipInfo
    size: int
    sha256: str


class Reader:
    """Reads a ZIP that anybody may have made.

    Args:
        file: that can seek; the caller closes it.
        validator: the rules about names.

    Raises:
        ArchiveError: it is no export, is damaged, or has anything that an export has not.
        NewerFormatError: a newer tweakio has written it.
    """

    def __init__(self, file: BinaryIO, validator: ProfileValidator) -> None:
        self._validator = validator
        refuse_long_directory(file)
        try:
            self._zip = zipfile.ZipFile(file)
            members = self._members()
            most = _MOST_MANIFEST + _MOST_OF_ONE * len(members)
            self._manifest = self._read_manifest(members.pop(MANIFEST, None), most)
        except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError, struct.error):
            raise _no_export() from None
        with reading(MANIFEST):
            self._files = self._compared(members)

    def incoming(self) -> list[Incoming]:
        """The profiles, their small files checked; browser data is checked by unpacking it.

        Raises:
            ArchiveError, InvalidInputError, NewerFormatError: something in it cannot be used.
        """
        with reading(MANIFEST):
            entries = self._manifest["profiles"]
            if not isinstance(entries, list):
                raise TypeError("no list")
            found = [self._profile(entry) for entry in entries]
        if self._files:
            raise ArchiveError(f"{ascii(next(iter(self._files)))[:80]} belongs to no profile in it")
        return found

    # The ZIP's own directory

    def _members(self) -> dict[str, zipfile.ZipInfo]:
        members: dict[str, zipfile.ZipInfo] = {}
        seen = set()
        for info in self._zip.infolist():
            name = info.filename
            bundle.refuse_path(name)
            shown = ascii(name)[:80]
            if info.orig_filename != name:
                raise ArchiveError(f"the name {shown} in it has a NUL in it")
            if bundle.folded(name) in seen:
                raise ArchiveError(f"{shown} is in it twice, or differs only by case")
            seen.add(bundle.folded(name))
            mode = info.external_attr >> 16
            kinds = stat.S_IFMT(mode)
            if kinds not in (0, stat.S_IFREG) or info.is_dir():
                raise ArchiveError(f"{shown} in it is a link, a directory or a device")
            if info.flag_bits & 0x1 or info.compress_type not in (0, zipfile.ZIP_DEFLATED):
                raise ArchiveError(f"{shown} in it is packed in a way that no export is")
            members[name] = info
        return members

    def _read_manifest(self, info: zipfile.ZipInfo | None, most: int) -> dict[str, Any]:
        if info is None:
            raise _no_export()
        content = self._content(info, most)
        if sum(map(content.count, (b",", b"[", b"{"))) > _MOST_VALUES * most // _MOST_OF_ONE:
            raise ArchiveError("its manifest lists more than the file has")
        with reading(MANIFEST):
            manifest = json.loads(content)
            version = manifest["format"]
            if not isinstance(version, int) or isinstance(version, bool) or version < 1:
                raise ValueError("no version")
        if version > FORMAT:
            raise NewerFormatError(
                f"it has format {min(version, 10**6)}, which is newer than this tweakio",
                hint="update tweakio",
            )
        found: dict[str, Any] = manifest
        return found

    def _compared(self, members: dict[str, zipfile.ZipInfo]) -> dict[str, _Member]:
        files = self._manifest["files"]
        if not isinstance(files, dict) or set(files) != set(members):
            raise ArchiveError("its files are not those of its manifest", hint="get the file anew")
        found = {}
        for name, info in members.items():
            size, sha256 = files[name]["size"], files[name]["sha256"]
            if type(size) is not int or not isinstance(sha256, str) or size != info.file_size:
                raise ArchiveError(
                    f"{ascii(name)[:80]} has not the size that its manifest says",
                    hint="get the file anew",
                )
            found[name] = _Member(info, size, sha256)
        return found

    # What is in it

    def _content(self, info: zipfile.ZipInfo, limit: int) -> bytes:
        if info.file_size > limit:
            raise ArchiveError(f"{ascii(info.filename)[:80]} in it is larger than {limit} bytes")
        with self._opened(info) as stream:
            content = stream.read(limit + 1)
        if len(content) > limit or len(content) != info.file_size:
            raise ArchiveError(f"{ascii(info.filename)[:80]} in it is longer than it says")
        return content

    @contextlib.contextmanager
    def _opened(self, info: zipfile.ZipInfo) -> Iterator[BinaryIO]:
        """A member to read; what the ZIP's own checks raise becomes an error of ours."""
        import zlib

        damaged = ArchiveError(
            f"{ascii(info.filename)[:80]} in it is damaged", hint="get the file anew"
        )
        try:
            stream = self._zip.open(info)
        except (zipfile.BadZipFile, RuntimeError, ValueError, struct.error):
            # It is not where the directory says, or wants a version or a password.
            raise damaged from None
        with stream:
            try:
                yield cast("BinaryIO", stream)
            except (zipfile.BadZipFile, EOFError, zlib.error):
                raise damaged from None

    def _small(self, name: str) -> bytes:
        member = self._files.pop(name, None)
        if member is None:
            raise ArchiveError(f"{ascii(name)[:80]} is missing in it", hint="get the file anew")
        content = self._content(member.info, schema.MAX_BYTES)
        if hashlib.sha256(content).hexdigest() != member.sha256:
            raise _wrong_hash(name)
        return content

    def _profile(self, entry: Any) -> Incoming:
        profile_id = self._validator.validate_id(entry["profile_id"])
        metadata = checked_metadata(self._small(f"{profile_id}/{METADATA}"), profile_id)
        fingerprint = checked_fingerprint(self._small(f"{profile_id}/{FINGERPRINT}"))
        name = f"{profile_id}/{DATA}"
        member = self._files.pop(name, None)
        if member is None:
            return Incoming(metadata, fingerprint)
        size = entry["browser_data"]["bytes"]
        if type(size) is not int or not 0 <= size < 1 << 50:
            raise ValueError("no size")
        if member.info.compress_type != zipfile.ZIP_STORED:
            raise ArchiveError(f"{ascii(name)[:80]} in it is packed in a way that no export is")

        def unpack(into: Path | None, progress: Callable[[int], None] | None) -> None:
            self._unpack(name, member, size, into, progress)

        return Incoming(metadata, fingerprint, has_data=True, unpack=unpack, size=size)

    def _unpack(
        self,
        name: str,
        member: _Member,
        size: int,
        into: Path | None,
        progress: Callable[[int], None] | None,
    ) -> None:
        if into is not None:
            with self._opened(member.info) as stream:
                bundle.check_names(stream, limit_bytes=size)
        with self._opened(member.info) as stream:
            info = bundle.read_bundle(stream, into, limit_bytes=size, progress=progress)
        if info.sha256 != member.sha256 or info.bytes != size or info.size != member.size:
            raise _wrong_hash(name)


def _no_export() -> ArchiveError:
    return ArchiveError(
        "it is not a file of 'tweakio profile export', or it is damaged", hint="get the file anew"
    )


def _wrong_hash(name: str) -> ArchiveError:
    return ArchiveError(
        f"the SHA-256 of {ascii(name)[:80]} is not what it should be",
        hint="the file is damaged or was changed; get it anew",
    )


def refuse_long_directory(file: BinaryIO) -> None:
    """Refuse a ZIP whose directory, which is read into memory as a whole, is larger than ours.

    Raises:
        ArchiveError: it is, or there is none.
    """
    size = file.seek(0, os.SEEK_END)
    begin = file.seek(max(0, size - (1 << 16) - _END.size))
    tail = file.read()
    file.seek(0)
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < _END.size:
        raise _no_export()
    end = _END.unpack_from(tail, at)
    length = end[5]
    start = begin + at
    # The older record says "see the newer" by the largest number; a newer one may be there anyway.
    locator = begin + at - 20
    if locator >= _END64.size:
        file.seek(locator - _END64.size)
        block = file.read(_END64.size + 20)
        file.seek(0)
        if block[_END64.size :].startswith(b"PK\6\7"):
            # Pythons look for that one in either of two places.
            named = _LOCATOR.unpack(block[_END64.size :])[2]
            if not block.startswith(b"PK\6\6") or named != locator - _END64.size:
                raise _no_export()
            length = max(_END64.unpack_from(block)[8], 0 if length == 0xFFFFFFFF else length)
            start = locator - _END64.size
    if length > _MOST_DIRECTORY or _entries(file, start, length) > _MOST_MEMBERS:
        raise ArchiveError("it lists more files than an export can have")


def _entries(file: BinaryIO, end: int, length: int) -> int:
    """How many entries a directory can have at most: each takes Python fifty times its bytes."""
    file.seek(max(0, end - length))
    directory = file.read(length)
    file.seek(0)
    return directory.count(b"PK\1\2")
