"""The git hooks that tweakio installs into a repository; a person's own stay."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tweakio import durable
from tweakio.errors import is_of_the_moment

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["HOOKS", "foreign_hooks", "install_hooks"]

HOOKS = ("pre-commit", "pre-push", "reference-transaction")
"""What tweakio installs into a repository."""
_HOOK_MARK = b"tweakio hook"


def foreign_hooks(git_dir: Path) -> list[str]:
    """The names of our hooks in whose places a person's own are."""
    found = []
    if os.path.islink(git_dir / "hooks"):
        return list(HOOKS)
    for name in HOOKS:
        try:
            if _HOOK_MARK not in durable.read_regular(git_dir / "hooks" / name, 1 << 20):
                found.append(name)
        except FileNotFoundError:
            continue
        except OSError as error:
            if is_of_the_moment(error):
                raise
            found.append(name)
    return found


def _hook_sources() -> Iterable[Path]:
    package = Path(__file__).resolve().parent.parent
    # In the wheel, and beside the package in a source checkout.
    return (package / "_hooks", package.parent / "hooks")


def install_hooks(git_dir: Path) -> list[str]:
    """Write our hooks into a repository, whose lock is held; a hook of the user's own stays.

    Returns:
        The names of the hooks that are not ours and were left.
    """
    left = []
    if os.path.islink(git_dir / "hooks"):
        return list(HOOKS)  # a person's own, elsewhere
    for name in HOOKS:
        source = next((path / name for path in _hook_sources() if (path / name).is_file()), None)
        if source is None:
            continue
        # Inside single quotes of the shell, as which the hook has it.
        python = os.fsencode(sys.executable).replace(b"'", b"'\\''")
        content = source.read_bytes().replace(b"@PYTHON@", python)
        target = git_dir / "hooks" / name
        durable.make_directory(target.parent)
        try:
            present = durable.read_regular(target, 1 << 20)
        except FileNotFoundError:
            present = None
        except OSError as error:
            if is_of_the_moment(error):
                raise
            left.append(name)
            continue
        if present == content:
            continue
        if present is not None and _HOOK_MARK not in present:
            left.append(name)
            continue
        temporary = git_dir / "tweakio" / "tmp" / name
        durable.remove(temporary)
        durable.create(temporary, content, mode=0o755)
        durable.move(temporary, target)
        durable.fsync_directory(target.parent)
    return left
