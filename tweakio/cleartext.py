"""One rule for secrets in texts that are committed: a reference or nothing.

It is asked of what somebody writes: ``create``, ``set``, ``import`` and ``clone``. What stands in
history already stays readable under the weaker rule of ``schema``, which came first.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tweakio.errors import InvalidMetadataError
from tweakio.references import FORMS, is_reference, is_sealed, must_be_secret

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["refuse_secrets"]

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,22}:(?://|(?=\?))[^\s\"'<>]{1,4096}")
_MASK = re.compile(r"\*+")
# Whoever has a signed address may do what it says.
_SIGNATURES = ("signature", "sig")
_ELSEWHERE = "leave it out of the address, and put it into a setting of its own: "


def refuse_secrets(config: Mapping[str, Any] | None, note: str | None = None) -> None:
    """Refuse secrets in the clear in what is about to be written.

    Args:
        config: of ``platform_config``: all of it, or what is to change.
        note: of the profile.

    Raises:
        InvalidMetadataError: there is one; it is not repeated.
    """
    for key, value in (config or {}).items():
        for path, address in _found(value, (key,), secret=must_be_secret(key)):
            where = ".".join(part if part.isprintable() else ascii(part) for part in path)
            what = " in an address" if address else ""
            raise InvalidMetadataError(
                f"platform_config.{where[:80]} holds a secret in the clear{what}",
                hint=f"{_ELSEWHERE if address else ''}use {FORMS}",
                field="platform_config",
            )
    if isinstance(note, str) and _in_addresses(note):  # what is no text is not valid anyway
        raise InvalidMetadataError(
            "note holds a secret in the clear in an address",
            hint="leave it out: notes are committed",
            field="note",
        )


def _found(
    value: object, path: tuple[str, ...], *, secret: bool
) -> Iterator[tuple[tuple[str, ...], bool]]:
    """Where there is one, and whether it is part of an address."""
    if isinstance(value, dict):
        for key, item in value.items():
            below = secret or (isinstance(key, str) and must_be_secret(key))
            yield from _found(item, (*path[:8], str(key)), secret=below)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _found(item, path, secret=secret)
    elif isinstance(value, str) and not _is_empty_or_named(value):
        if secret:
            yield path, False
        elif _in_addresses(value):
            yield path, True
    elif secret and isinstance(value, (int, float)) and not isinstance(value, bool):
        yield path, False


def _is_empty_or_named(text: str) -> bool:
    return not text or is_reference(text) or is_sealed(text) or _MASK.fullmatch(text) is not None


def _in_addresses(text: str) -> bool:
    """Whether an address in a text has a password, or a parameter whose name says secret."""
    if ":" not in text:
        return False
    return any(_in_address(found[0]) for found in _ADDRESS.finditer(text))


def _in_address(address: str) -> bool:
    from urllib.parse import unquote

    _, _, rest = address.partition(":")
    authority = re.split(r"[/?#]", rest.removeprefix("//"), maxsplit=1)[0]
    user, at, _ = authority.rpartition("@")
    if at and not _is_empty_or_named(unquote(user.partition(":")[2])):
        return True
    _, _, parameters = re.sub("[?#]", "?", rest).partition("?")
    for parameter in re.split(r"[?&;]", parameters):
        name, _, value = parameter.partition("=")
        name = unquote(name)
        signed = name.lower().endswith(_SIGNATURES)
        if (signed or must_be_secret(name)) and not _is_empty_or_named(unquote(value)):
            return True
    return False
