"""The two files at the root of a profile repository that say what git keeps, and how.

Without them ``git add`` takes sessions and browser data like any other file.
"""

from __future__ import annotations

import contextlib

__all__ = ["ATTRIBUTES", "FORMAT", "IGNORE", "RULES", "SEALED_IS_TRACKED", "format_of", "is_weaker"]

FORMAT = 1
_MARK = "# tweakio profile repository, format "
IGNORE = f"""\
{_MARK}{FORMAT}
# Of a profile only its metadata and its fingerprint are kept in history, and its session as a
# vault seals it. Sessions are secrets and browser data is large; tweakio's own trash makes them
# undoable.
/*/*
!/*/metadata.json
!/*/fingerprint.json
!/*/session.json.age
"""
ATTRIBUTES = """\
# The bytes are the same on every platform.
* -text
"""
SEALED_IS_TRACKED = b"!/*/session.json.age"
"""What a vault added to a .gitignore of earlier versions."""
RULES = {".gitignore": IGNORE.encode(), ".gitattributes": ATTRIBUTES.encode()}
"""By name what the files have in a new repository."""
_EXCEPTIONS = frozenset({b"!/*/metadata.json", b"!/*/fingerprint.json", SEALED_IS_TRACKED})


def format_of(ignore: bytes) -> int | None:
    """The format that the content of a .gitignore names; None if it is not one of ours."""
    first = ignore.split(b"\n")[0].decode("utf-8", "replace")
    with contextlib.suppress(ValueError):
        return int(first.removeprefix(_MARK)) if first.startswith(_MARK) else None
    return None


def is_weaker(name: str, content: bytes | None) -> bool:
    """Whether a file at the root lets git take more than ours does, or is not there.

    Further rules of a person's that only leave out more are none.

    Args:
        name: ``.gitignore`` or ``.gitattributes``.
        content: what is to be judged; None if there is no such file.
    """
    if content is None:
        return True
    lines = [line.strip() for line in content.splitlines()]
    rules = [line for line in lines if line and not line.startswith(b"#")]
    if name == ".gitattributes":
        # Filters and drivers would change the bytes that git keeps.
        return rules != [b"* -text"]
    return (
        format_of(content) is None
        or b"/*/*" not in rules
        or any(rule.startswith(b"!") and rule not in _EXCEPTIONS for rule in rules)
    )
