"""References to secrets: ``env:NAME`` and ``keyring:NAME`` stand where a secret belongs.

So does ``sealed:`` and base64: the secret itself, which the vault opens. What is kept, committed
and shown is the reference. It becomes the secret in the moment of use, and the secret goes
nowhere else: no message here repeats one, and neither a text that was written behind ``env:`` by
mistake.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tweakio import keyrings
from tweakio.errors import (
    InvalidMetadataError,
    MissingExtraError,
    SecretNotFoundError,
    TweakioError,
    VaultError,
    run,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "FORMS",
    "IDENTITY_PREFIX",
    "IDENTITY_VARIABLE",
    "MORE_VARIABLE",
    "SEALED_PREFIX",
    "SERVICE",
    "as_sealed",
    "browser_environment",
    "check_places",
    "child_environment",
    "holds_sealed",
    "is_age_file",
    "is_reference",
    "is_sealed",
    "must_be_secret",
    "names_secret",
    "replace_sealed",
    "resolve",
    "resolve_config",
    "sealed_bytes",
    "sealed_in",
]

SERVICE = "tweakio"
"""Under which the system's key ring keeps what ``keyring:NAME`` names."""
IDENTITY_VARIABLE = "TWEAKIO_IDENTITY"
"""The environment variable that names the vault's identity, or has it."""
IDENTITY_PREFIX = "vault "
"""Begins the names under which the key ring keeps identities of vaults, in the same service."""

_REFERENCE = re.compile(r"(?P<kind>env|keyring):(?P<name>\S.*)", re.DOTALL)
SEALED_PREFIX = "sealed:"
"""Before the base64 of a secret in the age format, which the vault opens."""
_SEALED = re.compile(r"sealed:[A-Za-z0-9+/]{40,}={0,2}", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)
_MOST = 128
# For "re" to compile and keep when it is first needed, which listing is without.
_SENSITIVE = (
    r"(?i)secret|passw|passphrase|token|api_?hash|api_?key|private_?key|credential|cookie|^auth$"
    r"|auth_?key|session_?string|^pwd$|bearer"
)
# The same for what is written now: words, of which the last counts, so that "pinned_tabs" and
# "session_name" may hold any text.
_WORD = r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+"
_SECRET_WORDS = frozenset(
    """
    pin pincode pass passcode password passwd pwd passphrase secret token otp totp hotp mfa jwt
    authorization auth session sessionid sessid sid phpsessid jsessionid cookie cookies bearer
    credential credentials mnemonic apikey
    """.split()  # noqa: SIM905 - as above
)
_SECRET_ENDS = frozenset(
    """
    pin code,pass code,pass phrase,session id,session key,session token,session data,access key,
    api key,private key,secret key,auth key,encryption key,signing key,master key,recovery code,
    recovery codes,recovery key,backup code,backup codes,seed phrase,otp seed,totp seed,fa code,
    login code,security code,verification code,sms code,auth code
    """.replace("\n    ", "")
    .strip()
    .split(",")
)
# May be kept as one, and need not: an application's id, which some services treat as a secret.
_MAY_REFER = r"(?i)api_?id"
_LONGEST_PLACE = 300
_LONGEST_KEY = 256
# What a page is told, or where it is: whatever they are called, they are no secrets.
_NEVER_SECRET = re.compile(r"url|selector_.*", re.ASCII)
FORMS = "env:NAME, keyring:NAME or what 'tweakio vault seal' prints"
"""How people write a secret, for messages."""


def is_reference(text: object) -> bool:
    """Whether a value is a well-formed reference, whatever it leads to.

    ``env:`` is followed by a name as shells allow it, ``keyring:`` by 1 to 128 printable
    characters without spaces at their ends. The vault's identity is never named: a profile that
    came from elsewhere could send it to a proxy as a password.
    """
    match = _REFERENCE.fullmatch(text) if isinstance(text, str) else None
    return match is not None and _is_name(match["kind"], match["name"])


def _is_name(kind: str, name: str) -> bool:
    if kind == "env":
        # In whatever case: Windows knows no difference.
        return _VARIABLE.fullmatch(name) is not None and name.upper() != IDENTITY_VARIABLE
    if name.casefold().startswith(IDENTITY_PREFIX):
        return False
    return len(name) <= _MOST and name.isprintable() and name == name.strip()


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment for another program, which has no use for the vault's identity."""
    return {name: value for name, value in environment.items() if name.upper() != IDENTITY_VARIABLE}


MORE_VARIABLE = "TWEAKIO_BROWSER_ENV"
"""Names more variables for browsers: ``NAME`` or ``PREFIX_*``, separated by commas."""
# What a browser needs to find its display, files, fonts, drivers and languages.
_FOR_BROWSERS = frozenset(
    """
    HOME PATH USER LOGNAME SHELL LANG LANGUAGE TZ TZDIR TMPDIR TMP TEMP TERM HOSTNAME
    DISPLAY WAYLAND_DISPLAY XAUTHORITY XMODIFIERS DESKTOP_SESSION AT_SPI_BUS_ADDRESS
    PULSE_SERVER PULSE_COOKIE SNAP LD_LIBRARY_PATH LD_PRELOAD
    SSL_CERT_FILE SSL_CERT_DIR NIX_SSL_CERT_FILE
    HTTP_PROXY HTTPS_PROXY FTP_PROXY ALL_PROXY NO_PROXY
    SYSTEMROOT SYSTEMDRIVE WINDIR COMSPEC PATHEXT OS APPDATA LOCALAPPDATA USERPROFILE USERNAME
    USERDOMAIN HOMEDRIVE HOMEPATH PUBLIC ALLUSERSPROFILE PROGRAMDATA COMPUTERNAME SESSIONNAME
    NUMBER_OF_PROCESSORS
    """.split()  # noqa: SIM905 - a hundred quotation marks help nobody
)
_PREFIXES_FOR_BROWSERS = (
    "LC_", "XDG_", "DBUS_SESSION_", "FONTCONFIG_", "GDK_", "GTK_", "QT_", "KDE_", "GNOME_DESKTOP_",
    "LIBGL_", "MESA_", "VK_ICD_", "VK_DRIVER_", "EGL_", "LIBVA_", "__GL", "__EGL_", "DRI_PRIME",
    "DYLD_", "SNAP_", "FLATPAK_ID",
    "CHROME_", "MOZ_", "PROGRAMFILES", "COMMONPROGRAMFILES", "PROCESSOR_", "__CF",
)  # fmt: skip


def browser_environment(environment: Mapping[str, str], *more: str) -> dict[str, str]:
    """An environment for a browser and what drives it: what they need, and no secret of others.

    Args:
        environment: of this process. ``TWEAKIO_BROWSER_ENV`` in it names more.
        *more: beginnings of names that are handed on as well.
    """
    wished = [one.strip().upper() for one in environment.get(MORE_VARIABLE, "").split(",")]
    # A star alone stands for nothing: who means everything means the secrets as well.
    names = _FOR_BROWSERS | {one for one in wished if not one.endswith("*")}
    prefixes = (
        *_PREFIXES_FOR_BROWSERS,
        *more,
        *(one[:-1] for one in wished if one[1:].endswith("*")),
    )
    return {
        name: value
        for name, value in child_environment(environment).items()
        if name.upper() in names or name.upper().startswith(prefixes)
    }


def names_secret(key: str) -> bool:
    """Whether a key of settings says that its value is a secret, such as ``bot_token``."""
    return re.search(_SENSITIVE, key[:_LONGEST_KEY]) is not None


def must_be_secret(key: str) -> bool:
    """Whether a key says so by the rule for what is written now, which is wider.

    What history has under such keys stays readable.
    """
    key = key[:_LONGEST_KEY]
    if names_secret(key):
        return True
    words = [word.lower() for word in re.findall(_WORD, key)]
    return bool(words) and (words[-1] in _SECRET_WORDS or " ".join(words[-2:]) in _SECRET_ENDS)


def check_places(config: Mapping[str, Any], declared: Callable[[], Iterable[str]] = tuple) -> None:
    """Refuse references to secrets where no secret belongs: there a page could read them.

    Args:
        config: a profile's ``platform_config``.
        declared: gives the keys that the platform says are secret; asked only if there is a
            reference that no key's name allows.

    Raises:
        InvalidMetadataError: there is one.
    """
    if any(_misplaced(config)):
        _refuse_misplaced(config, "platform_config", frozenset(declared()))


def _misplaced(config: Mapping[str, Any], declared: Collection[str] = ()) -> Iterator[str]:
    """The paths of references under keys that are not secret."""
    for key, value in config.items():
        if not (_is_secret_key(key) or key in declared):
            yield from _references_in(value, key)


def _is_secret_key(key: str) -> bool:
    if _NEVER_SECRET.fullmatch(key[:_LONGEST_KEY]):
        return False
    return must_be_secret(key) or re.fullmatch(_MAY_REFER, key[:_LONGEST_KEY]) is not None


def _references_in(value: object, path: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not _is_secret_key(str(key)):
                yield from _references_in(item, f"{path}.{key}")
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _references_in(item, path)
    elif is_sealed(value) or (isinstance(value, str) and _REFERENCE.fullmatch(value)):
        yield path


def _refuse_misplaced(config: Mapping[str, Any], where: str, declared: Collection[str]) -> None:
    for path in _misplaced(config, declared):
        shown = "".join(c if c.isprintable() else "?" for c in f"{where}.{path}"[:80])
        raise InvalidMetadataError(
            f"{shown} refers to a secret, and is not a setting for a secret",
            hint="only settings whose names say so (such as token, password or api_key), or that "
            "the platform declares in secret_settings, may refer to one",
            field="platform_config",
        )


def resolve(
    reference: str, where: str = "", opener: Callable[[str, str], str] | None = None
) -> str:
    """The secret that a reference names.

    Args:
        reference: ``env:NAME`` for an environment variable of this process, ``keyring:NAME``
            for an entry of the system's key ring under the service ``tweakio``, or ``sealed:``
            and base64.
        where: what uses it, such as ``browser.proxy_password``, for the message.
        opener: decrypts what is encrypted for this place; see ``Vault.opener``.

    Raises:
        SecretNotFoundError: it is not there, or is empty, or this is no reference.
        MissingExtraError: the package that speaks with the key ring is not installed, or the
            one that opens what is sealed.
        VaultError: it is sealed and cannot be opened here.
    """
    place = where or "a setting"
    if is_sealed(reference):
        return _opened(reference, place, opener)
    match = _REFERENCE.fullmatch(reference)
    if match is None or not _is_name(match["kind"], match["name"]):
        raise SecretNotFoundError(f"{place} does not name a secret", hint=f"write it as {FORMS}")
    kind, name = match["kind"], match["name"]
    if kind == "env":
        secret = os.environ.get(name)
        hint = f"set the environment variable {name}"
    else:
        secret = _of_key_ring(name, place)
        hint = run("keyring set", SERVICE, name)
    if not secret:
        raise SecretNotFoundError(
            f"{place} needs {reference}, which is {'not there' if secret is None else 'empty'}",
            hint=hint,
            reference=reference,
        )
    return secret


def _opened(sealed: str, place: str, opener: Callable[[str, str], str] | None) -> str:
    if opener is None:
        raise VaultError(
            f"{place} is sealed, and there is nothing here to open it with",
            hint="open the profile through a ProfileManager, which has the vault",
        )
    try:
        return opener(sealed, place)
    except TweakioError as error:
        # One of the same kind, that says where it happened.
        raise type(error)(
            f"{place} is sealed and cannot be opened: {error.message}",
            hint=error.hint,
            **error.details,
        ) from None


def _of_key_ring(name: str, place: str) -> str | None:
    try:
        found = keyrings.ask(lambda ring: ring.get_password(SERVICE, name))
    except keyrings.KeyRingError as error:
        if error.missing:
            raise MissingExtraError(
                f"{place} needs the system's key ring, and the package keyring is not installed",
                hint="run 'pip install tweakio[keyring]', or use env:NAME",
                extra="keyring",
            ) from None
        raise SecretNotFoundError(
            f"{place} needs keyring:{name}, and the system's key ring {error}",
            hint="unlock it ('keyring diagnose' says which it is), or use env:NAME",
            reference=f"keyring:{name}",
        ) from None
    return None if found is None else str(found)


def is_age_file(content: bytes) -> bool:
    """Whether a content begins as the age format does, binary or armoured."""
    return content.startswith((b"age-encryption.org/v1\n", b"-----BEGIN AGE ENCRYPTED FILE-----"))


def is_sealed(text: object) -> bool:
    """Whether a value is a secret that is sealed in its place, ``sealed:`` and base64."""
    return isinstance(text, str) and _SEALED.fullmatch(text) is not None


def holds_sealed(value: object) -> bool:
    """Whether a secret is sealed anywhere in JSON data."""
    if isinstance(value, Mapping):
        return any(map(holds_sealed, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(holds_sealed, value))
    return is_sealed(value)


def sealed_in(value: object, where: str) -> Iterator[tuple[str, str]]:
    """The secrets that are encrypted in JSON data, each with its key as ``resolve`` names it.

    Args:
        value: the data.
        where: its own key.
    """
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield from sealed_in(below, f"{where}.{key}")
    elif isinstance(value, (list, tuple)):
        for below in value:
            yield from sealed_in(below, where)
    elif isinstance(value, str) and is_sealed(value):
        yield where, value


def replace_sealed(value: Any, where: str, replacement: Callable[[str, str], Any]) -> Any:
    """A copy of JSON data with something else for each secret that is encrypted in it.

    Args:
        value: the data.
        where: its own key.
        replacement: is given the text and its key, as ``sealed_in`` names it.
    """
    if isinstance(value, Mapping):
        return {
            key: replace_sealed(below, f"{where}.{key}", replacement)
            for key, below in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [replace_sealed(below, where, replacement) for below in value]
    return replacement(value, where) if is_sealed(value) else value


def as_sealed(data: bytes) -> str:
    """Sealed data as it stands in settings."""
    import base64

    return SEALED_PREFIX + base64.b64encode(data).decode()


def sealed_bytes(text: str) -> bytes:
    """The sealed data in a value of settings.

    Raises:
        VaultError: it is not base64.
    """
    import base64

    try:
        return base64.b64decode(text.removeprefix(SEALED_PREFIX), validate=True)
    except ValueError:
        raise VaultError("the sealed secret is not base64", hint="seal it anew") from None


def resolve_config(
    config: Mapping[str, Any],
    where: str = "platform_config",
    opener: Callable[[str, str], str] | None = None,
    declared: Collection[str] = (),
) -> dict[str, Any]:
    """A copy of a profile's ``platform_config`` with its references replaced by the secrets.

    Only settings for secrets are: those whose names say so, and those that the platform
    declares. A reference anywhere else is refused, and not resolved.

    Args:
        config: what to resolve.
        where: its name in messages.
        opener: decrypts what is encrypted for its place; without one it is left as it is.
        declared: keys that the platform declares as secret.

    Raises:
        InvalidMetadataError: a reference stands where no secret belongs.
        SecretNotFoundError, MissingExtraError: one cannot be resolved.
        VaultError: one is sealed and cannot be opened.
    """
    _refuse_misplaced(config, where, declared)
    return _resolved_items(config, where, opener)


def _resolved_items(
    config: Mapping[str, Any], where: str, opener: Callable[[str, str], str] | None
) -> dict[str, Any]:
    return {
        key: _resolved(value, f"{where}.{key}"[:_LONGEST_PLACE], opener)
        for key, value in config.items()
    }


def _resolved(value: Any, where: str, opener: Callable[[str, str], str] | None) -> Any:
    if isinstance(value, str):
        if opener is not None and is_sealed(value):
            return resolve(value, where, opener)
        return resolve(value, where) if _REFERENCE.fullmatch(value) else value
    if isinstance(value, dict):
        return _resolved_items(value, where, opener)
    if isinstance(value, (list, tuple)):
        return [_resolved(item, where, opener) for item in value]
    return value
