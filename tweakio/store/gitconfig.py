"""What a repository's own git configuration says, and the formats that tweakio does not know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tweakio import durable
from tweakio.errors import NewerFormatError, command, is_of_the_moment

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["read_settings", "refuse_unknown_formats"]

_MOST_BYTES = 1 << 20
_VERSION = "core.repositoryformatversion"
# Extensions that change nothing of what is read and written here. That objects may be elsewhere
# (partialclone) is looked at where they are read.
_HARMLESS = frozenset(
    {"noop", "noop-v1", "preciousobjects", "partialclone", "worktreeconfig", "relativeworktrees"}
)
# Those that have a value with which all is as without them.
_USUAL = {"objectformat": "sha1", "refstorage": "files"}

_LONGEST_SECTION = 256


def read_settings(config: Path) -> dict[str, str]:
    """The settings of a configuration, ``section.key`` in lower case to value.

    Subsections are left out, and so is what is not read for every command. It is empty if there
    is no such file.

    Raises:
        OSError: it cannot be read now.
    """
    try:
        text = durable.read_regular(config, _MOST_BYTES).decode("utf-8", "replace")
    except OSError as error:
        if is_of_the_moment(error):
            raise
        return {}
    section = ""
    found = {}
    for raw in text.split("\n"):
        line = raw.strip()
        if line.startswith("["):
            name, _, line = line[1:].partition("]")
            # It stands before each of its keys, which may be many.
            section = name.strip().lower()[:_LONGEST_SECTION]
            line = line.strip()
        if line and line[0] not in "#;" and '"' not in section:
            key, separator, value = line.partition("=")
            found[f"{section}.{key.strip().lower()}"] = _value(value) if separator else "true"
    return found


def _value(text: str) -> str:
    """A value without its comment and its quotes."""
    if '"' not in text:
        return text.partition("#")[0].partition(";")[0].strip()
    kept = ""
    quoted = False
    for character in text:
        if character == '"':
            quoted = not quoted
        elif character in "#;" and not quoted:
            break
        else:
            kept += character
    return kept.strip()


def refuse_unknown_formats(git_dir: Path, settings: Mapping[str, str]) -> None:
    """Return if git keeps everything in the forms that are read and written here.

    Args:
        git_dir: the git directory.
        settings: of its configuration.

    Raises:
        NewerFormatError: it names what is kept in another form, and the command that changes it.
    """
    version = settings.get(_VERSION, "0")
    if version.isdecimal() and int(version) > 1:
        raise _refusal(
            git_dir,
            f"is of git's repository format {version[:20]}, which this tweakio does not know",
            "use it with the git that made it, or a newer tweakio",
        )
    for key, value in settings.items():
        section, _, name = key.partition(".")
        if section != "extensions" or name in _HARMLESS:
            continue
        if value.lower() != _USUAL.get(name, ""):
            _refuse(git_dir, version, name, value)


def _refuse(git_dir: Path, version: str, name: str, value: str) -> None:
    git = command("git -C", git_dir.parent)
    unset = f"{command('git config -f', git_dir / 'config')} --unset"
    shown = "".join(c if c.isprintable() else "?" for c in f"extensions.{name} = {value}")[:120]
    if name == "objectformat":
        raise _refusal(
            git_dir,
            f"names objects by another hash ({shown}), which tweakio does not read",
            f"git cannot convert it in place; copy it: {git} fast-export --all"
            " | git -C NEW fast-import, as docs/recovery.md tells",
        )
    if name == "refstorage":
        raise _refusal(
            git_dir,
            f"keeps its refs in another form ({shown}), which tweakio does not read",
            f"with git 2.48 or newer, run: {git} refs migrate --ref-format=files",
        )
    if name == "compatobjectformat":
        raise _refusal(
            git_dir,
            f"keeps a second name of each object ({shown}), which tweakio does not write",
            f"run: {unset} extensions.compatobjectformat",
        )
    if version == "0":
        return  # where git as well looks at no extension that it does not know
    shown_name = name if name.isascii() and name.replace("-", "").isalnum() else "NAME"
    raise _refusal(
        git_dir,
        f"has a git extension that this tweakio does not know ({shown})",
        f"if nothing needs it, run: {unset} extensions.{shown_name}",
    )


def _refusal(git_dir: Path, what: str, hint: str) -> NewerFormatError:
    return NewerFormatError(f"the git repository {git_dir.parent} {what}", hint=hint)
