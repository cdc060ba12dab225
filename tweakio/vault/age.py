"""Sealing and opening in the age format, so that the ``age`` program can do both as well.

The format is https://age-encryption.org/v1. pyrage does everything that has recipients. For
passphrases it knows no streams, so that the 40 lines which the format needs for them are here,
on the primitives of ``cryptography``.

No message has a secret in it, and neither what a library said: it may quote one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
from typing import TYPE_CHECKING, Any, BinaryIO

from tweakio.errors import InvalidInputError, MissingExtraError, RecipientError, VaultError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "check_recipient",
    "generate_identity",
    "identity_recipients",
    "is_available",
    "is_passphrase_protected",
    "seal",
    "seal_passphrase",
    "seal_stream",
    "seal_stream_passphrase",
    "unseal",
    "unseal_passphrase",
    "unseal_stream",
    "unseal_stream_passphrase",
]

_INTRO = b"age-encryption.org/v1"
_CHUNK = 64 * 1024
_TAG = 16
_LABEL = b"age-encryption.org/v1/scrypt"
_WORK = 18
"""The binary logarithm of scrypt's N: what the ``age`` program takes as well; 256 MB, a second."""
_MOST_WORK = 20
"""1 GB. From 21 on OpenSSL, which has the limits of 32 bits, cannot do it at all."""
_STANZA = re.compile(
    rb"age-encryption\.org/v1\n-> scrypt ([A-Za-z0-9+/]{22}) ([1-9][0-9]?)\n"
    rb"([A-Za-z0-9+/]{43})\n---"
)
_HEADER_BYTES = 256
_EXTRA_HINT = "run 'pip install tweakio[vault]'"


def _pyrage() -> Any:
    try:
        import pyrage  # type: ignore[import-untyped]
    except ImportError:
        raise MissingExtraError(
            "sealing needs the package pyrage, which is not installed",
            hint=_EXTRA_HINT,
            extra="vault",
        ) from None
    return pyrage


def is_available() -> bool:
    """Whether the extra ``vault`` is installed."""
    try:
        _pyrage()
    except MissingExtraError:
        return False
    return True


# Keys


def generate_identity() -> tuple[str, str]:
    """A new identity, which is a secret, and its recipient, which is not."""
    made = _pyrage().x25519.Identity.generate()
    return str(made), str(made.to_public())


def check_recipient(text: str) -> str:
    """A recipient as it is kept: without the spaces around it and an ssh key's comment.

    Args:
        text: ``age1...``, ``ssh-ed25519 ...`` or ``ssh-rsa ...``.

    Raises:
        RecipientError: it is none.
    """
    recipient = " ".join(text.split()[:2]) if text.startswith("ssh-") else text.strip()
    _recipient(recipient)
    return recipient


def _recipient(text: str) -> Any:
    pyrage = _pyrage()
    if "AGE-SECRET-KEY" in text.upper() or "PRIVATE KEY" in text:
        raise RecipientError(
            "this is an identity, which is secret, and not a recipient",
            hint="give its public key: age1..., as 'age-keygen -y' prints it",
        )
    try:
        if text.startswith("ssh-"):
            return pyrage.ssh.Recipient.from_str(text)
        return pyrage.x25519.Recipient.from_str(text)
    except (pyrage.RecipientError, ValueError):
        raise RecipientError(
            f"{ascii(text)[:80]} is not a recipient",
            hint="give an age public key (age1...) or an ssh one (ssh-ed25519 ..., ssh-rsa ...)",
        ) from None


def _identities(texts: Sequence[str]) -> list[Any]:
    """The identities in the contents of identity files."""
    pyrage = _pyrage()
    found: list[Any] = []
    for text in texts:
        if "PRIVATE KEY-----" in text:
            found.append(_ssh_identity(pyrage, text))
            continue
        for line in text.splitlines():
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            try:
                found.append(pyrage.x25519.Identity.from_str(line.strip()))
            except (pyrage.IdentityError, ValueError):
                raise VaultError(
                    "the identity has a line that is none", hint="each is AGE-SECRET-KEY-1..."
                ) from None
    if not found:
        raise VaultError("there is no identity to open it with", hint="run 'tweakio vault status'")
    return found


def _ssh_identity(pyrage: Any, text: str) -> Any:
    try:
        return pyrage.ssh.Identity.from_buffer(text.strip().encode() + b"\n")
    except (pyrage.IdentityError, ValueError):
        raise VaultError(
            "the ssh private key cannot be read",
            hint="one with a passphrase of its own cannot be used; 'ssh-keygen -p' takes it away",
        ) from None


def identity_recipients(identity: str) -> list[str]:
    """The recipients of the identities in an identity file; an ssh key's is not known.

    Raises:
        VaultError: it cannot be read.
    """
    return [str(item.to_public()) for item in _identities([identity]) if hasattr(item, "to_public")]


def is_passphrase_protected(content: bytes) -> bool:
    """Whether an identity file is sealed with a passphrase, as ``age -p`` does it."""
    return content.startswith(_INTRO)


# With recipients


def seal(data: bytes, recipients: Sequence[str]) -> bytes:
    """Seal some data.

    Args:
        data: what to seal.
        recipients: who can open it; at least one.

    Raises:
        RecipientError: one of them is none, or there are none.
        MissingExtraError: pyrage is not installed.
    """
    keys = _recipients(recipients)
    return bytes(_pyrage().encrypt(data, keys))


def unseal(data: bytes, identities: Sequence[str]) -> bytes:
    """Open what was sealed.

    Args:
        data: the sealed data, binary or armoured.
        identities: contents of identity files.

    Raises:
        VaultError: none of them opens it, or it is damaged.
    """
    pyrage = _pyrage()
    keys = _identities(identities)
    try:
        return bytes(pyrage.decrypt(data, keys))
    except (pyrage.DecryptError, OSError, ValueError) as error:
        raise _cannot_open(error) from None


def seal_stream(reader: BinaryIO, writer: BinaryIO, recipients: Sequence[str]) -> None:
    """Seal a stream; the memory it takes does not grow with the length.

    Args:
        reader: from here to its end.
        writer: to here.
        recipients: who can open it; at least one.

    Raises:
        RecipientError: one of them is none, or there are none.
        OSError: what reading or writing raised.
    """
    pyrage = _pyrage()
    keys = _recipients(recipients)
    source, target = _Watched(reader), _Watched(writer)
    try:
        pyrage.encrypt_io(source, target, keys)
    except (pyrage.EncryptError, OSError) as error:
        _raise_cause(source, target)
        raise VaultError(f"the data cannot be sealed ({type(error).__name__})") from None


def unseal_stream(reader: BinaryIO, writer: BinaryIO, identities: Sequence[str]) -> None:
    """Open a sealed stream.

    What was written before an error is genuine and not all of it: throw it away.

    Args:
        reader: from here to its end.
        writer: to here.
        identities: contents of identity files.

    Raises:
        VaultError: none of them opens it, or it is damaged or cut short.
        OSError: what reading or writing raised.
    """
    pyrage = _pyrage()
    keys = _identities(identities)
    source, target = _Watched(reader), _Watched(writer)
    try:
        pyrage.decrypt_io(source, target, keys)
    except (pyrage.DecryptError, OSError, ValueError) as error:
        _raise_cause(source, target)
        raise _cannot_open(error) from None


def _recipients(texts: Sequence[str]) -> list[Any]:
    if not texts:
        raise RecipientError(
            "there is no recipient to seal for", hint="give one, or run 'tweakio vault init'"
        )
    return [_recipient(text) for text in texts]


def _cannot_open(error: Exception) -> VaultError:
    if "No matching keys" in str(error):
        return VaultError(
            "it is sealed for others: no identity here opens it",
            hint="have somebody who can open it run 'tweakio vault recipients add' for you",
        )
    return VaultError("the sealed data is damaged or cut short", hint="get it anew")


def _raise_cause(*streams: _Watched) -> None:
    """Raise what a stream of ours raised; the library makes another error of it."""
    for stream in streams:
        if stream.error is not None:
            raise stream.error


class _Watched:
    """A stream that keeps what it raised."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.error: BaseException | None = None

    def read(self, size: int = -1) -> bytes:
        try:
            return self._stream.read(size)
        except BaseException as error:
            self.error = error
            raise

    def write(self, data: bytes) -> int:
        try:
            return self._stream.write(data)
        except BaseException as error:
            self.error = error
            raise

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BaseException as error:
            self.error = error
            raise


# With a passphrase


def seal_passphrase(data: bytes, passphrase: str) -> bytes:
    """Seal some data with a passphrase; see ``seal_stream_passphrase``."""
    import io

    target = io.BytesIO()
    seal_stream_passphrase(io.BytesIO(data), target, passphrase)
    return target.getvalue()


def unseal_passphrase(data: bytes, passphrase: str) -> bytes:
    """Open some data with a passphrase; see ``unseal_stream_passphrase``."""
    import io

    target = io.BytesIO()
    unseal_stream_passphrase(io.BytesIO(data), target, passphrase)
    return target.getvalue()


def seal_stream_passphrase(reader: BinaryIO, writer: BinaryIO, passphrase: str) -> None:
    """Seal a stream with a passphrase, as ``age -p`` does.

    Args:
        reader: from here to its end.
        writer: to here.
        passphrase: not empty. Making a key of it takes a second and 256 MB, for us and for
            whoever guesses.

    Raises:
        InvalidInputError: the passphrase is empty.
        OSError: what reading or writing raised.
    """
    if not passphrase:
        raise InvalidInputError("the passphrase is empty", hint="give one")
    cipher = _cipher()
    salt, file_key = os.urandom(16), os.urandom(16)
    key = _stretched(passphrase, salt, _WORK)
    wrapped = cipher(key).encrypt(bytes(12), file_key, None)
    header = b"%b\n-> scrypt %b %d\n%b\n---" % (_INTRO, _encoded(salt), _WORK, _encoded(wrapped))
    nonce = os.urandom(16)
    writer.write(b"%b %b\n%b" % (header, _encoded(_header_mac(file_key, header)), nonce))
    sealer = cipher(_derived(file_key, nonce, b"payload"))
    for number, (chunk, last) in enumerate(_chunks(reader, b"", _CHUNK)):
        writer.write(sealer.encrypt(_nonce(number, last=last), chunk, None))


def unseal_stream_passphrase(reader: BinaryIO, writer: BinaryIO, passphrase: str) -> None:
    """Open a stream that was sealed with a passphrase, by us or by ``age -p``.

    What was written before an error is genuine and not all of it: throw it away.

    Args:
        reader: from here to its end.
        writer: to here.
        passphrase: the one that it was sealed with.

    Raises:
        VaultError: it is another one, or the data is damaged, cut short or sealed otherwise.
        OSError: what reading or writing raised.
    """
    cipher = _cipher()
    begin = _read(reader, _HEADER_BYTES)
    found = _STANZA.match(begin)
    end = begin.find(b"\n", found.end()) if found else -1
    if found is None or end < 0:
        raise VaultError("it is not sealed with a passphrase", hint="give an identity instead")
    work = int(found[2])
    if work > _MOST_WORK:
        raise VaultError(
            f"the passphrase has the scrypt work factor {work}, which takes {_memory(work)};"
            f" tweakio takes at most {_MOST_WORK} ({_memory(_MOST_WORK)})",
            hint="decrypt it with 'age -d' where there is so much memory, and encrypt it again",
        )
    try:
        salt, wrapped, mac = (
            base64.b64decode(part + b"=" * (-len(part) % 4), validate=True)
            for part in (found[1], found[3], begin[found.end() + 1 : end])
        )
    except ValueError:
        raise _damaged() from None
    try:
        file_key = cipher(_stretched(passphrase, salt, work)).decrypt(bytes(12), wrapped, None)
    except _invalid_tag():
        raise VaultError("the passphrase is not the right one", hint="type it again") from None
    if not hmac.compare_digest(_header_mac(file_key, found[0]), mac):
        raise _damaged()
    nonce, rest = begin[end + 1 : end + 17], begin[end + 17 :]
    opener = cipher(_derived(file_key, nonce, b"payload"))
    for number, (chunk, last) in enumerate(_chunks(reader, rest, _CHUNK + _TAG)):
        try:
            plain = opener.decrypt(_nonce(number, last=last), chunk, None)
        except _invalid_tag():
            raise _damaged() from None
        if number and not plain:
            raise _damaged()  # the format has an empty chunk only where there is no other
        writer.write(plain)


def _damaged() -> VaultError:
    return VaultError("the sealed data is damaged or cut short", hint="get it anew")


def _chunks(reader: BinaryIO, begin: bytes, size: int) -> Any:
    """Pieces of one size, each with whether it is the last; there is at least one."""
    chunk = begin + _read(reader, size - len(begin))
    while True:
        following = _read(reader, size) if len(chunk) == size else b""
        yield chunk, not following
        if not following:
            return
        chunk = following


def _read(reader: BinaryIO, size: int) -> bytes:
    """So many bytes, or fewer at the end; a pipe gives what it has."""
    parts = []
    while size > 0 and (part := reader.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _cipher() -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
    except ImportError:
        raise MissingExtraError(
            "passphrases need the package cryptography, which is not installed",
            hint=_EXTRA_HINT,
            extra="vault",
        ) from None
    return ChaCha20Poly1305


def _invalid_tag() -> type[Exception]:
    from cryptography.exceptions import InvalidTag

    return InvalidTag


def _stretched(passphrase: str, salt: bytes, work: int) -> bytes:
    try:
        return hashlib.scrypt(
            passphrase.encode("utf-8", "surrogateescape"),
            salt=_LABEL + salt,
            n=1 << work,
            r=8,
            p=1,
            maxmem=(1 << work) * 1024 + (1 << 20),
            dklen=32,
        )
    except (MemoryError, ValueError):  # Python takes OpenSSL's failed allocation for a wrong value
        raise VaultError(
            f"there is not enough memory to use the passphrase: {_memory(work)} are needed",
            hint="end other programs, or raise the memory limit",
        ) from None


def _memory(work: int) -> str:
    kibibytes = 1 << work  # 128 * r * N bytes
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        if kibibytes < 1024:
            return f"{kibibytes} {unit}"
        kibibytes >>= 10
    return f"{kibibytes} PiB"


def _derived(key: bytes, salt: bytes, info: bytes) -> bytes:
    """HKDF with SHA-256 (RFC 5869), of one block."""
    extracted = hmac.digest(salt or bytes(32), key, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")


def _header_mac(file_key: bytes, header: bytes) -> bytes:
    return hmac.digest(_derived(file_key, b"", b"header"), header, "sha256")


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + (b"\x01" if last else b"\x00")


def _encoded(data: bytes) -> bytes:
    return base64.b64encode(data).rstrip(b"=")
