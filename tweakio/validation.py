"""What somebody else's tree has to be like before anything of it is taken over."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from tweakio import schema
from tweakio.errors import (
    HostileContentError,
    InvalidMetadataError,
    NewerFormatError,
)
from tweakio.store.objects import BLOB_MODE, MOST_TREE, TREE_MODE, parse_tree
from tweakio.store.rules import FORMAT, format_of
from tweakio.store.worktree import FINGERPRINT, METADATA, MOST_SEALED, SEALED
from tweakio.validator import ProfileValidator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tweakio.store.objects import ObjectReader, TreeEntry

__all__ = ["RECIPIENTS", "SESSION", "Incoming", "objection_to_names", "ours", "validate_tree"]

Read = Callable[[bytes, bytes, int], bytes]
"""Gives the body of an object: by id and kind, at most so many bytes long."""

RECIPIENTS = ".age-recipients"
SESSION = SEALED
_OURS = (".gitignore", ".gitattributes")
# What a person or a git host puts beside the profiles.
_DOCUMENTS = ("README.md", "README", "README.txt", "LICENSE", "LICENSE.md", "LICENSE.txt")
_MOST_PROFILES = 100_000
_MOST_BYTES = {SESSION: MOST_SEALED}
_MOST_TOGETHER = 2 << 30
"""Bytes of all different files; they are in memory until they were merged."""
_HINT = "nothing was changed; ask who pushed it, and look at it with git on the remote"
_RECIPIENT = re.compile(r"(?:age1|ssh-ed25519 |ssh-rsa )[!-~ ]+")


class Incoming(NamedTuple):
    """A tree that was found to be a profile repository, completely.

    Attributes:
        profiles: by id their tracked files, by name.
        metadata: of each profile.
        root_files: the files beside the profiles, by name.
    """

    profiles: Mapping[str, Mapping[str, bytes]]
    metadata: Mapping[str, Mapping[str, Any]]
    root_files: Mapping[str, bytes]


class _ObjectionError(ValueError):
    """What is wrong with a tree, as the object of "has"."""


def validate_tree(
    tree: bytes,
    read: Read,
    *,
    whose: str = "the remote",
    hint: str = _HINT,
) -> Incoming:
    """Look at every name, mode and content of a root tree that came from elsewhere.

    Args:
        tree: its 20-byte id.
        read: gives the objects.
        whose: tree it is, for the message.
        hint: the next step.

    Raises:
        HostileContentError: there is something in it that no tweakio puts there.
        NewerFormatError: a newer tweakio made it.
    """
    try:
        return _validate(tree, read, whose)
    except _ObjectionError as error:
        raise HostileContentError(f"{whose} has {error}", hint=hint) from None


def ours(reader: ObjectReader) -> Read:
    """Reads the objects of this repository for what is here."""

    def read(name: bytes, kind: bytes, most: int) -> bytes:
        body = reader.read(name, kind)
        if len(body) > most:
            raise _ObjectionError(f"a {kind.decode()} that is larger than any of ours")
        return body

    return read


def objection_to_names(tree: bytes, read: Read) -> str:
    """The first name or mode in a root tree that no tweakio puts there; empty if there is none.

    No file is read, and no metadata: whether profiles are sound is another question.

    Args:
        tree: its 20-byte id.
        read: gives the objects.
    """
    try:
        _, directories = _root(tree, read)
        for entry in directories:
            _files(entry, read)
    except _ObjectionError as error:
        return str(error)
    return ""


def _validate(tree: bytes, read: Read, whose: str) -> Incoming:
    read_blob = _Blobs(read)
    names, directories = _root(tree, read)
    root_files = {name: read_blob(blob, schema.MAX_BYTES) for name, blob in names.items()}
    _check_format(root_files.get(".gitignore"), whose)
    _check_recipients(root_files.get(RECIPIENTS))
    profiles, metadata = {}, {}
    for entry in directories:
        profile_id, blobs = _files(entry, read)
        files = {
            name: read_blob(blob, _MOST_BYTES.get(name, schema.MAX_BYTES))
            for name, blob in blobs.items()
        }
        if METADATA not in files:
            raise _ObjectionError(f"a profile {profile_id} without {METADATA}")
        profiles[profile_id] = files
        metadata[profile_id] = _metadata(profile_id, files, whose)
    return Incoming(profiles, metadata, root_files)


def _root(tree: bytes, read: Read) -> tuple[dict[str, bytes], list[TreeEntry]]:
    """The files of a root tree, name to blob id, and its directories."""
    entries = parse_tree(read(tree, b"tree", MOST_TREE))
    _check_names(entries, "")
    if len(entries) > _MOST_PROFILES:
        raise _ObjectionError("more entries than a profile repository has")
    files, directories = {}, []
    for entry in entries:
        if entry.mode == TREE_MODE:
            directories.append(entry)
        else:
            files[_regular(entry, "", (*_OURS, RECIPIENTS, *_DOCUMENTS))] = entry.id
    return files, directories


def _files(entry: TreeEntry, read: Read) -> tuple[str, dict[str, bytes]]:
    """The id of a profile in a tree, and its files, name to blob id."""
    profile_id = entry.name.decode("utf-8", "replace")
    if not ProfileValidator().is_id(profile_id):
        raise _ObjectionError(f"a directory {_shown(entry.name)}, which is not the id of a profile")
    children = parse_tree(read(entry.id, b"tree", 1 << 16))
    where = f" in {profile_id}"
    _check_names(children, where)
    files = {}
    for child in children:
        if child.mode == TREE_MODE:
            raise _ObjectionError(f"a directory {_shown(child.name)}{where}")
        files[_regular(child, where, (METADATA, FINGERPRINT, SESSION))] = child.id
    return profile_id, files


class _Blobs:
    """Reads files, each content once, so that one that is in many places takes memory once."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._known: dict[bytes, bytes] = {}
        self._size = 0

    def __call__(self, blob: bytes, most: int) -> bytes:
        content = self._known.get(blob)
        if content is None or len(content) > most:
            content = self._known[blob] = self._read(blob, b"blob", most)
            self._size += len(content)
        if self._size > _MOST_TOGETHER:
            raise _ObjectionError(f"more than {_MOST_TOGETHER >> 30} GB of files")
        return content


def _shown(name: bytes) -> str:
    return ascii(name.decode("utf-8", "replace"))[:60]


def _check_names(entries: list[TreeEntry], where: str) -> None:
    seen: dict[bytes, bytes] = {}
    for entry in entries:
        other = seen.setdefault(entry.name.lower(), entry.name)
        if other is not entry.name:
            kind = "twice" if other == entry.name else f"and {_shown(other)}, by case the same"
            raise _ObjectionError(f"the name {_shown(entry.name)} {kind}{where}")


def _regular(entry: TreeEntry, where: str, known: tuple[str, ...]) -> str:
    """The name of a file that may be there."""
    if entry.mode == b"120000":
        raise _ObjectionError(f"a symbolic link {_shown(entry.name)}{where}")
    if entry.mode == b"160000":
        raise _ObjectionError(f"a repository of its own (submodule) {_shown(entry.name)}{where}")
    if entry.mode != BLOB_MODE:
        raise _ObjectionError(
            f"{_shown(entry.name)}{where} with the mode {ascii(entry.mode)[1:12]}"
        )
    name = entry.name.decode("utf-8", "replace")
    if name not in known:
        raise _ObjectionError(f"a file {_shown(entry.name)}{where} that profiles do not have")
    return name


def _check_format(ignore: bytes | None, whose: str) -> None:
    version = format_of(ignore or b"")
    if version is None:
        raise HostileContentError(
            f"{whose} is not a profile repository of tweakio",
            hint="give the address of one; an empty one is filled with 'tweakio repo push'",
        )
    if version > FORMAT:
        raise NewerFormatError(
            f"{whose} has format {version}; this tweakio knows {FORMAT}", hint="upgrade tweakio"
        )


def _check_recipients(content: bytes | None) -> None:
    if content is None:
        return
    try:
        lines = content.decode("ascii").splitlines()
    except UnicodeDecodeError:
        raise _ObjectionError(f"a {RECIPIENTS} that is not ASCII text") from None
    for line in lines:
        if line.strip() and not line.startswith("#") and not _RECIPIENT.fullmatch(line.strip()):
            raise _ObjectionError(f"a {RECIPIENTS} with a line that is no recipient")


def _metadata(profile_id: str, files: Mapping[str, bytes], whose: str) -> dict[str, Any]:
    try:
        value = schema.load(files[METADATA], profile_id)
    except NewerFormatError as error:
        raise NewerFormatError(
            f"profile {profile_id} of {whose}: {error.message}", hint="upgrade tweakio"
        ) from None
    except InvalidMetadataError as error:
        raise _ObjectionError(f"a damaged profile {profile_id}: {error.message}") from None
    fingerprint = files.get(FINGERPRINT)
    if fingerprint is not None:
        try:
            sound = isinstance(json.loads(fingerprint), dict)
        except (ValueError, RecursionError):
            sound = False
        if not sound:
            raise _ObjectionError(
                f"a profile {profile_id} whose {FINGERPRINT} is not a JSON object"
            )
    session = files.get(SESSION)
    if session is not None and not session.startswith(
        (b"age-encryption.org/v1\n", b"-----BEGIN AGE ENCRYPTED FILE-----")
    ):
        raise _ObjectionError(f"a profile {profile_id} whose {SESSION} is not sealed")
    return value
