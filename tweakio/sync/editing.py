"""Settling conflicts in the user's editor."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import tempfile
from typing import TYPE_CHECKING, Any

from tweakio import children
from tweakio.errors import InvalidInputError
from tweakio.references import child_environment
from tweakio.store.worktree import METADATA
from tweakio.sync.fields import ABSENT

if TYPE_CHECKING:
    from tweakio.errors import MergeConflictError
    from tweakio.sync.merging import Resolution

__all__ = ["ask"]

_HELP = (
    "For each field write 'ours' or 'theirs' as its \"take\", or write the value as \"value\". "
    "What is left empty stays a conflict."
)
_OTHERWISE = "set EDITOR to one that works, or use --ours or --theirs"
_HIDDEN = ("session", "fingerprint")
_REPOSITORY = "(repository)"
"""Stands for what is of no profile; no profile can have this name."""


def ask(error: MergeConflictError) -> Resolution:
    """Show the conflicts in ``$VISUAL`` or ``$EDITOR`` and read what the user decided.

    Args:
        error: of the merge that could not be made.

    Raises:
        InvalidInputError: there is no editor, it failed, or what it left cannot be read.
    """
    conflicts: Any = error.details["conflicts"]
    sheet: dict[str, Any] = {"": _HELP}
    for conflict in conflicts:
        fields = {
            clash.field: {
                "ours": _shown(clash.field, clash.ours),
                "theirs": _shown(clash.field, clash.theirs),
                "take": "",
            }
            for clash in conflict.clashes
        }
        if conflict.kind != "changed" or conflict.fields == (METADATA,):
            fields = {"": {"what": conflict.kind, "fields": list(conflict.fields), "take": ""}}
        sheet[conflict.profile_id or _REPOSITORY] = fields
    answer = _edit(json.dumps(sheet, indent=2, ensure_ascii=False) + "\n")
    return _read(answer)


def _shown(field: str, value: Any) -> Any:
    if value is ABSENT:
        return None
    return f"({field}, not shown)" if field in _HIDDEN else value


def _edit(text: str) -> str:
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if not editor:
        raise InvalidInputError("there is no editor", hint=_OTHERWISE)
    handle, path = tempfile.mkstemp(prefix="tweakio-merge-", suffix=".json")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        try:
            with children.exit_codes_kept():
                done = subprocess.run(
                    [*shlex.split(editor), path], check=False, env=child_environment(os.environ)
                )
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InvalidInputError(
                f"the editor {editor!r} cannot be run: {reason}", hint=_OTHERWISE
            ) from None
        if done.returncode:
            raise InvalidInputError(
                f"the editor ended with {done.returncode}; nothing was changed", hint=_OTHERWISE
            )
        with open(path, encoding="utf-8") as file:
            return file.read()
    finally:
        os.unlink(path)


def _read(text: str) -> Resolution:
    try:
        sheet = json.loads(text)
        found: dict[str, dict[str, Any]] = {}
        for profile_id, fields in sheet.items():
            if not profile_id:
                continue
            answers = found.setdefault("" if profile_id == _REPOSITORY else profile_id, {})
            for field, entry in fields.items():
                answers[field] = {"value": entry["value"]} if "value" in entry else entry["take"]
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError):
        raise InvalidInputError(
            "what the editor left is not what it was given", hint="run the command again"
        ) from None
    return found
