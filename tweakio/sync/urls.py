"""Which addresses of remotes are taken, and how they are shown."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote, urlsplit

from tweakio.errors import InvalidInputError, RemoteError, command

__all__ = ["check_name", "check_url", "is_local", "refuse_bundle", "shown_url"]

_SCHEMES = ("ssh", "git+ssh", "ssh+git", "https", "file")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)
# user@host:path, as scp has it. Git takes what has no colon before the first slash for a path.
_SCP = re.compile(
    r"(?:(?P<user>[^@/:\s]+)@)?(?P<host>\[[0-9a-fA-F:.]+\]|[^@/:\s\[\]]+):(?P<path>.+)"
)
_HELPER = re.compile(r"[A-Za-z0-9+.-]*::")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# What git hosts give out as tokens; one of these as a user's name is a secret.
_TOKEN = re.compile(r"(?i)gh[a-z]_|github_pat_|glpat-|[^@]{33,}|oauth|x-token")
_LONGEST = 2048
_SHOWN = 200
_USAGE = "give an ssh, https or file address, user@host:path, or a path"
_CREDENTIALS = "use ssh, or git's credential helper: https://git-scm.com/docs/gitcredentials"


def check_name(name: str) -> str:
    """Check the name of a remote: letters, digits, ``_`` and ``-``.

    Raises:
        InvalidInputError: it is something else.
    """
    if not _NAME.fullmatch(name):
        raise InvalidInputError(
            f"{ascii(name)[:60]} is not a name for a remote", hint="use letters, digits, '_', '-'"
        )
    return name


def check_url(url: str) -> str:
    """Check the address of a remote, before any program gets to see it.

    Refused are what a program could take for an option, what makes git run another program
    (``ext::`` and all other helpers), and what holds a password or a token.

    Args:
        url: an ``ssh://``, ``https://`` or ``file://`` address, ``user@host:path``, or a path.

    Returns:
        The address; a path as an absolute one.

    Raises:
        InvalidInputError: it is refused. The message never repeats it.
    """
    if not url or len(url) > _LONGEST or not url.isprintable():
        raise InvalidInputError("that is not the address of a repository", hint=_USAGE)
    if url.startswith("-"):
        raise InvalidInputError("an address must not begin with '-'", hint=_USAGE)
    if _HELPER.match(url):
        raise InvalidInputError(
            "an address with '::' runs another program, which tweakio does not do", hint=_USAGE
        )
    if match := _SCHEME.match(url):
        return _check_scheme(url, match[1].lower())
    drive = os.name == "nt" and re.match(r"[A-Za-z]:[\\/]", url)
    if not drive and (match := _SCP.fullmatch(url)):
        _refuse_option(match["host"], match["path"], match["user"] or "")
        return url
    return os.path.abspath(os.path.expanduser(url))


def _check_scheme(url: str, scheme: str) -> str:
    if scheme not in _SCHEMES:
        raise InvalidInputError(f"addresses of {scheme}:// are not used", hint=_USAGE)
    try:
        parts = urlsplit(url)
        host, user, password = parts.hostname or "", parts.username or "", parts.password
        _ = parts.port
    except ValueError:
        raise InvalidInputError("that is not the address of a repository", hint=_USAGE) from None
    user = unquote(user)
    if password is not None or (scheme == "https" and _TOKEN.match(user)) or ":" in user:
        raise InvalidInputError(
            "the address holds a password, which would be kept in the clear", hint=_CREDENTIALS
        )
    if parts.query or parts.fragment:
        raise InvalidInputError("an address has no '?' and no '#'", hint=_CREDENTIALS)
    if scheme == "file":
        if host not in ("", "localhost") or not parts.path:
            raise InvalidInputError("a file:// address names a path on this machine", hint=_USAGE)
    elif not host:
        raise InvalidInputError("the address names no host", hint=_USAGE)
    _refuse_option(unquote(host), unquote(parts.path).lstrip("/") or "x", user)
    return url


def _refuse_option(*parts: str) -> None:
    if any(part.startswith("-") for part in parts):
        raise InvalidInputError("no part of an address may begin with '-'", hint=_USAGE)


def is_local(url: str) -> bool:
    """Whether an address that ``check_url`` has passed is a path on this machine."""
    return url.lower().startswith("file:") or os.path.isabs(url)


def refuse_bundle(url: str) -> None:
    """Return if a remote can be written to, as far as its address tells.

    Raises:
        RemoteError: it is a file, as ``git bundle`` makes them.
    """
    path = url
    if url.lower().startswith("file:"):
        from urllib.request import url2pathname

        path = url2pathname(urlsplit(url).path)
    if is_local(url) and os.path.isfile(path):
        raise RemoteError(
            f"{shown_url(url)} is a file, such as 'git bundle' makes: it can be pulled from, and "
            "not be pushed to",
            hint="pull from it, and push to a repository: "
            + command("git init --bare PATH && tweakio repo remote add NAME PATH"),
        )


def shown_url(url: str) -> str:
    """An address for a message or a list: without anything that could be a secret.

    For one that was refused, or that somebody else wrote into the configuration.
    """
    text = "".join(character if character.isprintable() else "?" for character in url[:_LONGEST])
    if match := _SCHEME.match(text):
        # All of it, however long: a password before an "@" that was cut off would be shown.
        authority, slash, rest = text[match.end() :].partition("/")
        if not slash and len(url) > _LONGEST:
            return f"{match[0]}***"[:_SHOWN]
        user, at, host = authority.rpartition("@")
        name = user.partition(":")[0] if not _TOKEN.match(user) else "***"
        secret = ":***" if ":" in user and name != "***" else ""
        text = f"{match[0]}{name}{secret}{at}{host}{slash}{rest.partition('?')[0]}"
    return text[:_SHOWN]
