"""What git runs to merge a metadata.json when a person merges by hand: ``git pull``."""

from __future__ import annotations

import os
import sys

from tweakio import schema
from tweakio.errors import InvalidMetadataError, NewerFormatError
from tweakio.store.underway import give_up_merge
from tweakio.sync.fields import merge_fields

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Merge three files into the second, as a pull of tweakio's does.

    Args:
        arguments: git's ``%O %A %B %P``: the common beginning, ours, theirs, the path.

    Returns:
        0 if they merged; 1 if not: then ours stays as it is, without markers, and git says
        that the file is in conflict.
    """
    base, ours, theirs, path = arguments if arguments is not None else sys.argv[1:5]
    profile_id = os.path.dirname(path.replace("\\", "/")) or path
    try:
        sides = []
        for name in (base, ours, theirs):
            with open(name, "rb") as file:
                sides.append(file.read(schema.MAX_BYTES + 1))
        before = [schema.load(sides[0], profile_id)] if sides[0].strip() else []
        mine, other = (schema.load(side, profile_id) for side in sides[1:])
    except (OSError, InvalidMetadataError, NewerFormatError) as error:
        return _conflict(path, getattr(error, "message", "cannot be read"))
    if mine["created_at"] != other["created_at"]:
        return _conflict(path, "two profiles of one id (created_at)")
    merged = merge_fields(before, mine, other)
    if merged.clashes:
        return _conflict(path, ", ".join(clash.field for clash in merged.clashes))
    try:
        content = schema.dump(schema.validate(merged.value))
    except InvalidMetadataError as error:
        return _conflict(path, error.message)
    if len(content) > schema.MAX_BYTES:
        return _conflict(path, f"both together are larger than {schema.MAX_BYTES} bytes")
    if content != schema.dump(mine):
        with open(ours, "wb") as file:
            file.write(sides[2] if content == schema.dump(other) else content)
    return 0


def _conflict(path: str, what: str) -> int:
    print(f"tweakio: conflict in {ascii(path)[1:-1]}: {ascii(what)[1:-1]}", file=sys.stderr)
    action = os.environ.get("GIT_REFLOG_ACTION", "")
    stop = give_up_merge(os.environ.get("GIT_DIR", ".git"), action)
    if action.startswith("pull"):
        hint = f"{stop}, then 'tweakio repo pull --edit' (or --ours, --theirs)"
    else:
        hint = f"edit the file, 'git add' it, and go on; or give up: {stop}"
    print(f"tweakio: hint: {hint}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
