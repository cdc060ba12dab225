"""The schema of metadata.json: reading it strictly, writing it the same way every time.

Validation is done by pydantic, which takes longer to import than most commands run; so it
is imported when something has to be validated, and not to list what was validated before.
"""

from __future__ import annotations

import json
import math
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tweakio.errors import (
    InvalidMetadataError,
    NewerFormatError,
    TweakioError,
    refuse_lack_of_stack,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel, ValidationError

__all__ = [
    "MAX_BYTES",
    "SCHEMA_VERSION",
    "dump",
    "load",
    "load_trusted",
    "metadata_model",
    "validate",
]

SCHEMA_VERSION = 1
"""Raised only when an older tweakio would misread the file; new fields alone do not need it."""

MAX_BYTES = 1 << 20
_MAX_DEPTH = 64
_MAX_TAG = 64
_MAX_NOTE = 4096
_STATUSES = ("active", "inactive", "corrupted")
_TEXT = frozenset({str})
_TEXT_OR_NOTHING = (str, type(None))
_NUMBER_OR_NOTHING = (int, type(None))
_OBJECT_OR_NOTHING = (dict, type(None))
_ORDER = (
    "profile_id",
    "platform",
    "platform_version",
    "platform_config",
    "browser",
    "created_at",
    "last_used",
    "status",
    "lock_pid",
    "tags",
    "note",
    "schema_version",
)
# Patterns for "re" to compile and keep when something is validated, which listing is without.
_REFERENCE = r"(?:keyring|env):[^\s].*|sealed:[A-Za-z0-9+/]{40,}={0,2}|\*+|"


_CORRECT = "correct the file"
_DESCRIBED = "correct it; docs/on-disk-format.md describes each field"
_REMOVE = "remove that character"


class _FieldError(ValueError):
    """What a field must not hold.

    Args:
        reason: one clause, without the name of the field.
        hint: the next step.
        below: where in the field, such as ``.proxy.password``.
    """

    def __init__(self, reason: str, hint: str = _DESCRIBED, *, below: str = "") -> None:
        super().__init__(reason)
        self.hint = hint
        self.below = below


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} occurs twice")
        found[key] = value
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number is too large")
    return number


def load_trusted(data: bytes, profile_id: str) -> dict[str, Any]:
    """Read a metadata.json of which it was noted that it is valid.

    What is noted in a file can be wrong, so the types that everybody relies on are looked at;
    without them it is validated again.

    Raises:
        As ``load``.
    """
    try:
        loaded: dict[str, Any] = json.loads(data)
    except (ValueError, RecursionError):
        return load(data, profile_id)
    return loaded if looks_valid(loaded, profile_id) else load(data, profile_id)


def looks_valid(value: dict[str, Any], profile_id: str) -> bool:
    """Whether metadata that was noted as valid has the types that everybody relies on."""
    try:
        get = value.get
        return (
            get("profile_id") == profile_id
            and get("status") in _STATUSES
            and type(get("platform")) is str
            and type(get("note", "")) is str
            and type(get("lock_pid")) in _NUMBER_OR_NOTHING
            and type(get("platform_version")) in _TEXT_OR_NOTHING
            and type(get("platform_config")) in _OBJECT_OR_NOTHING
            and type(get("browser")) in _OBJECT_OR_NOTHING
            and _TEXT.issuperset(map(type, get("tags", ())))
            and {*map(type, (get("created_at"), get("last_used", "")))} == _TEXT
        )
    except (AttributeError, TypeError):
        return False


def _parse(data: bytes) -> dict[str, Any]:
    if not data.strip(b"\0 \t\r\n"):
        raise ValueError("the file is empty" if not data else "the file holds nothing")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text") from None
    try:
        value = json.loads(
            text,
            object_pairs_hook=_no_duplicates,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
    except RecursionError:
        refuse_lack_of_stack(data)
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def _check_json(value: Mapping[str, Any]) -> None:
    """Refuse what JSON cannot hold, and what is nested so deeply that reading it depends on
    how much of the stack is left.
    """
    level: list[Any] = [value]
    for _ in range(_MAX_DEPTH):
        level = [
            child
            for item in level
            if isinstance(item, (dict, list, tuple))
            for child in (item.values() if isinstance(item, dict) else item)
        ]
    if level:
        raise InvalidMetadataError(
            f"nested too deeply (more than {_MAX_DEPTH} levels)", hint="use fewer levels"
        )
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise InvalidMetadataError(
            "metadata holds something that is not JSON",
            hint="use texts, finite numbers, lists and objects with texts as keys",
        ) from None


def _find_literal_secret(
    config: object, path: tuple[str, ...], *, secret: bool = False
) -> str | None:
    """Where a text or number stands under a key that names a secret, at any depth."""
    from tweakio.references import names_secret

    if isinstance(config, dict):
        for key, value in config.items():
            if not isinstance(key, str):
                below = _dotted(path)
                raise _FieldError("has a key that is not text", "use texts as keys", below=below)
            inside = secret or names_secret(key)
            # Not a text: a long one would be made again for each of thousands of keys.
            if found := _find_literal_secret(value, (*path, key), secret=inside):
                return found
    elif isinstance(config, (list, tuple)):
        for item in config:
            if found := _find_literal_secret(item, path, secret=secret):
                return found
    elif secret and not isinstance(config, (bool, type(None))):
        is_reference = isinstance(config, str) and re.fullmatch(_REFERENCE, config)
        return None if is_reference else _dotted(path)
    return None


def _dotted(path: tuple[str, ...]) -> str:
    return "".join(f".{key if key.isprintable() else ascii(key)}" for key in path)


def _printable(text: str, *, newlines: bool = False) -> str:
    for character in text:
        # isprintable() is false for controls, surrogates and bidirectional overrides.
        if not character.isprintable() and not (newlines and character in "\n\t"):
            raise _FieldError(f"holds the unprintable character U+{ord(character):04X}", _REMOVE)
    return text


def _configuration(config: dict[str, Any]) -> dict[str, Any]:
    from tweakio.references import FORMS

    if where := _find_literal_secret(config, ()):
        raise _FieldError(
            "holds a secret in the clear",
            f"use {FORMS}",
            below=where,
        )
    _printable(json.dumps(config, ensure_ascii=False))
    return config


def _browser_settings(settings: dict[str, Any]) -> dict[str, Any]:
    from tweakio.settings import SettingError, check_form

    try:
        check_form(settings)
    except SettingError as error:
        raise _FieldError(str(error), error.hint, below=f".{error.key}") from None
    return _configuration(settings)  # what a newer version may have there


@lru_cache(maxsize=1)
def metadata_model() -> type[BaseModel]:
    """The pydantic model of metadata.json; fields that it does not know are kept."""
    from typing import Annotated, Literal

    from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictInt, StrictStr

    from tweakio.models import parse_time
    from tweakio.validator import ProfileValidator

    rules = ProfileValidator()

    def timestamp(text: str) -> str:
        try:
            parse_time(text)
        except ValueError:
            raise _FieldError(
                "is not an ISO 8601 timestamp with an offset from UTC",
                "write it like 2026-02-10T14:30:00Z",
            ) from None
        return text

    def tag_list(tags: list[str]) -> list[str]:
        for tag in tags:
            rules.validate_tag(tag)
        if len(set(tags)) != len(tags):
            raise _FieldError("holds a tag that occurs twice", "name each tag once")
        return tags

    def note_text(note: str) -> str:
        return _printable(note, newlines=True)

    def version_text(text: str) -> str:
        return _printable(text)

    def identifier(text: str) -> str:
        return rules.validate_id(text)

    def platform_name(text: str) -> str:
        return rules.validate_platform_name(text)

    Timestamp = Annotated[StrictStr, AfterValidator(timestamp)]  # noqa: N806 - a type

    class ProfileMetadata(BaseModel):
        model_config = ConfigDict(extra="allow", strict=True, hide_input_in_errors=True)

        profile_id: Annotated[StrictStr, AfterValidator(identifier)]
        platform: Annotated[StrictStr, AfterValidator(platform_name)]
        platform_version: (
            Annotated[StrictStr, Field(max_length=_MAX_TAG), AfterValidator(version_text)] | None
        ) = None
        platform_config: Annotated[dict[str, Any], AfterValidator(_configuration)] | None = None
        browser: Annotated[dict[str, Any], AfterValidator(_browser_settings)] | None = None
        created_at: Timestamp
        # The specification's own later example has no last_used.
        last_used: Timestamp | None = None
        status: Literal["active", "inactive", "corrupted"]
        lock_pid: Annotated[StrictInt, Field(ge=1, lt=1 << 32)] | None = None
        tags: Annotated[list[StrictStr], AfterValidator(tag_list)] = []
        note: Annotated[StrictStr, Field(max_length=_MAX_NOTE), AfterValidator(note_text)] = ""
        schema_version: Annotated[StrictInt, Field(ge=1)] = 1

    return ProfileMetadata


def validate(value: Mapping[str, Any]) -> dict[str, Any]:
    """Check a metadata object; unknown fields pass.

    Returns:
        The same content as a new dictionary.

    Raises:
        NewerFormatError: its schema version is newer than this tweakio's.
        InvalidMetadataError: it does not fit the schema; the message names the field and
            never repeats the value.
    """
    from pydantic import ValidationError

    value = dict(value)
    version = value.get("schema_version", 1)
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise NewerFormatError(
            f"metadata schema version {version} is newer than this tweakio's {SCHEMA_VERSION}",
            hint="upgrade tweakio",
        )
    _check_json(value)
    try:
        metadata_model().model_validate(value)
    except ValidationError as error:
        raise _field_error(error) from None
    return value


def _field_error(error: ValidationError) -> InvalidMetadataError:
    """What is wrong with the first wrong field, which is named once."""
    first = error.errors(include_url=False, include_input=False)[0]
    field = str(first["loc"][0]) if first["loc"] else "metadata"
    where = ".".join(str(part) for part in first["loc"]) or field
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, _FieldError):
        return InvalidMetadataError(f"{where}{cause.below} {cause}", hint=cause.hint, field=field)
    if isinstance(cause, TweakioError):  # of the validator, which says what it is about
        return InvalidMetadataError(cause.message, hint=cause.hint, field=field)
    return InvalidMetadataError(f"{where}: {first['msg']}", hint=_DESCRIBED, field=field)


def load(data: bytes, profile_id: str | None = None) -> dict[str, Any]:
    """Read and check the bytes of a metadata.json.

    Args:
        data: at most ``MAX_BYTES`` of them.
        profile_id: the name of the directory, which the content must repeat.

    Raises:
        NewerFormatError: written by a newer tweakio.
        InvalidMetadataError: anything else that is wrong, in one line.
    """
    if len(data) > MAX_BYTES:
        raise InvalidMetadataError(f"larger than {MAX_BYTES} bytes", hint="make it smaller")
    try:
        value = _parse(data)
    except json.JSONDecodeError as error:
        raise InvalidMetadataError(
            f"not JSON: {error.msg} (line {error.lineno}, column {error.colno})",
            hint=_CORRECT,
        ) from None
    except ValueError as error:
        raise InvalidMetadataError(f"not JSON: {error}", hint=_CORRECT) from None
    checked = validate(value)
    if profile_id is not None and checked["profile_id"] != profile_id:
        raise InvalidMetadataError(
            f"profile_id is {checked['profile_id']!r} in the directory {profile_id!r}",
            hint=f"write {profile_id!r} there",
        )
    return checked


def dump(value: Mapping[str, Any]) -> bytes:
    """The bytes of a metadata.json: known fields in a fixed order, then the others.

    Optional fields that are None are left out.
    """
    known = {key: value[key] for key in _ORDER if value.get(key) is not None}
    others = {key: item for key, item in value.items() if key not in _ORDER}
    ordered = {**known, **others}
    try:
        return (json.dumps(ordered, indent=2, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:
        # Half of a surrogate pair, which a field of a newer version may hold as an escape.
        return (json.dumps(ordered, indent=2) + "\n").encode()
