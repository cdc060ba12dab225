"""The vault's recipients: a tracked file at the root of the repository."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["RECIPIENTS", "checked", "dump", "parse"]

RECIPIENTS = ".age-recipients"
"""As the ``age`` program reads it with ``-R``: a recipient a line, and comments."""

_HEAD = "# Who can open the sealed sessions here; 'tweakio vault recipients' changes it.\n"


def parse(content: bytes | None) -> list[str]:
    """The recipients in a file, each once; whether they are some is not looked at.

    Args:
        content: of the file; None if there is none.
    """
    lines = (line.strip() for line in (content or b"").decode("utf-8", "replace").splitlines())
    return list(dict.fromkeys(line for line in lines if line and not line.startswith("#")))


def dump(recipients: Iterable[str]) -> bytes:
    """The content of the file for some recipients."""
    return (_HEAD + "".join(f"{item}\n" for item in recipients)).encode()


_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_AGE_LENGTH = len("age1") + 52 + 6
_SSH_PARTS = {"ssh-ed25519": 2, "ssh-rsa": 3}  # how many texts a public key has
_LONGEST_SSH = 4096


def checked(text: str) -> str | None:
    """A recipient without its comment, if it has exactly the form of one; else None.

    Every character of what is returned is a letter, a digit or one of ``+/= -``, so that it can be
    shown in a command. pyrage is not needed for this, and neither is a key of ours.

    Args:
        text: a line that anybody may have written.
    """
    if text.startswith("age1"):
        return text if _is_age_recipient(text) else None
    if len(text) > 2 * _LONGEST_SSH:
        return None
    kind, _, rest = text.partition(" ")
    blob = rest.partition(" ")[0]
    return f"{kind} {blob}" if _is_ssh_key(kind, blob) else None


def _is_age_recipient(text: str) -> bool:
    """Whether it is Bech32 (BIP 173) of 32 bytes, in lower case, with the right checksum."""
    if len(text) != _AGE_LENGTH or not set(text[4:]) <= set(_BECH32):
        return False
    # The human-readable part "age", as the checksum has it: high bits, 0, low bits.
    values = [3, 3, 3, 0, *(ord(letter) & 31 for letter in "age"), *map(_BECH32.index, text[4:])]
    checksum = 1
    for value in values:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for bit, part in enumerate(_GENERATOR):
            checksum ^= part if top >> bit & 1 else 0
    return checksum == 1 and values[-7] & 0xF == 0


def _is_ssh_key(kind: str, blob: str) -> bool:
    """Whether the blob is base64 of exactly the parts that a key of this type has (RFC 4253)."""
    if kind not in _SSH_PARTS or not 0 < len(blob) <= _LONGEST_SSH or not blob.isascii():
        return False
    try:
        content = base64.b64decode(blob, validate=True)
    except ValueError:
        return False
    parts = []
    while content:
        length = int.from_bytes(content[:4], "big")
        parts.append(content[4 : 4 + length])
        if len(content) < 4 + length:
            return False
        content = content[4 + length :]
    return (
        len(parts) == _SSH_PARTS[kind]
        and parts[0] == kind.encode()
        and (kind != "ssh-ed25519" or len(parts[1]) == 32)
    )
