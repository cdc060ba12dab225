"""Which addresses a profile's page may have.

An address in ``platform_config`` is opened by a browser of this machine, inside its network. So
it is https; a stand-in for a service may be on this machine itself without it. Whether this
person wants this address is for the trust in settings: what comes from elsewhere, an address of
this machine as well, is confirmed before it is opened.
"""

from __future__ import annotations

import re
import unicodedata
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from tweakio.errors import InvalidInputError

__all__ = ["checked_address", "is_of_this_machine"]

_LONGEST = 2048
# What browsers take for the end of a label besides the dot.
_DOTS = str.maketrans("\u3002\uff0e\uff61", "...")
_LABEL = re.compile(r"[\w-]{1,63}")
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*", re.ASCII)


def checked_address(url: object) -> str:
    """The address of a page, if a profile may have it.

    Returns:
        The same address, in the form that ``urlsplit`` gives it.

    Raises:
        InvalidInputError: it is no address, not https (http only to this machine), has a user in
            it, or a host that no service has: a link-local, multicast or unspecified address, or
            a number in any other form than browsers show it in.
    """
    hint = "it begins with https://"
    if not isinstance(url, str) or len(url) > _LONGEST or not url.isprintable() or "\\" in url:
        raise InvalidInputError("url is not an address", hint=hint)
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise InvalidInputError("url is not an address", hint=hint) from None
    if parts.scheme not in ("https", "http") or not host or " " in url:
        raise InvalidInputError("url is not an address", hint=hint)
    if "@" in parts.netloc:
        raise InvalidInputError("url has a user name or a password in it")
    address = _address(host)
    if address is not None and (
        address.is_link_local or address.is_multicast or address.is_unspecified
    ):
        raise InvalidInputError(f"url leads to {address}, where no service is")
    if parts.scheme == "http" and not _is_loopback(host, address):
        raise InvalidInputError("url is not encrypted", hint=hint)
    return parts.geturl()


def is_of_this_machine(url: str) -> bool:
    """Whether an address that ``checked_address`` accepts leads to this machine itself."""
    host = urlsplit(url).hostname or ""
    return _is_loopback(host, _address(host))


def _is_loopback(host: str, address: IPv4Address | IPv6Address | None) -> bool:
    if address is not None:
        return address.is_loopback
    name = host.rstrip(".")
    return name == "localhost" or name.endswith(".localhost")


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """The number that a host is; None if it is a name.

    Raises:
        InvalidInputError: it is neither, or a number as only programs write it: browsers read
            ``2130706433``, ``0x7f.1`` and ``017700000001`` as 127.0.0.1.
    """
    wrong = InvalidInputError(f"url has no usable host: {host[:60]!a}")
    if ":" in host:
        try:
            found = ip_address(host)
        except ValueError:
            raise wrong from None
        return getattr(found, "ipv4_mapped", None) or found
    labels = host.removesuffix(".").split(".")
    # What becomes another text on its way to a browser could become a number.
    same = host == unicodedata.normalize("NFKC", host.translate(_DOTS)).lower()
    if not same or len(host) > 253 or not all(map(_LABEL.fullmatch, labels)):
        raise wrong
    if _NUMBER.fullmatch(labels[-1]) is None:
        return None
    try:
        return IPv4Address(host)
    except ValueError:
        raise wrong from None
