"""The rules of the other two hooks: which new commits hold session or browser data.

The pre-commit hook sees what ``git commit`` makes. Commits come by other ways as well:
``git stash --all``, ``git commit --no-verify``, ``git fast-import``, a fetch. So whenever git is
about to give new commits a name, and before it sends any, all files of theirs are looked at.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

from tweakio import children
from tweakio.store.leftovers import SECRET_PATH

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["look_at_push", "look_at_refs", "main", "secrets_among"]

_NEVER = re.compile(r"[^ -~]")
_SHOWN = 60
_MOST_SESSION = 64 << 20


def _git(*arguments: str, data: str = "") -> str:
    done = subprocess.run(
        ["git", *arguments],
        check=True,
        input=data,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        errors="surrogateescape",
    )
    return done.stdout


def secrets_among(commits: Iterable[str], known: Iterable[str]) -> list[str]:
    """The paths of session and browser data in commits and their history.

    Args:
        commits: their ids, or those of tags, trees and files.
        known: arguments of ``git rev-list`` that say what was looked at before.
    """
    listed = "".join(f"{commit}\n" for commit in dict.fromkeys(commits))
    if not listed:
        return []
    lines = _git("rev-list", "--objects", "--ignore-missing", "--stdin", *known, data=listed)
    sessions: set[str] | None = None
    found = []
    for line in lines.split("\n"):
        blob, named, path = line.partition(" ")
        if named and path and SECRET_PATH.fullmatch(path):
            found.append(path)
            continue
        # The same content under another name; commits have none.
        if named or listed.startswith(blob) or f"\n{blob}\n" in listed:
            if sessions is None:
                sessions = _sessions()
            if blob in sessions:
                found.append(path or blob[:12])
    # A directory is listed as well as what is in it.
    above = {path.rpartition("/")[0] for path in found}
    return [path for path in found if path not in above]


def _sessions() -> set[str]:
    """The ids that git would give the sessions of the profiles that are here."""
    top = os.path.dirname(_git("rev-parse", "--absolute-git-dir").rstrip("\n"))
    found = set()
    for entry in os.scandir(top):
        try:
            path = os.path.join(entry.path, "session.json")
            if entry.name == ".git" or os.path.getsize(path) > _MOST_SESSION:
                continue
            with open(path, "rb") as file:
                content = file.read()
        except OSError:
            continue
        if len(content) > 64:  # what is shorter is that of no login
            header = b"blob %d\0" % len(content)
            found.add(hashlib.sha1(header + content, usedforsecurity=False).hexdigest())
    return found


def look_at_refs(updates: Iterable[tuple[str, str]]) -> str:
    """Why refs must not get their new values; empty if they may.

    Args:
        updates: the new ids and the names of the refs.
    """
    new = [(commit, name) for commit, name in updates if commit.strip("0")]
    found = secrets_among([commit for commit, _ in new], ("--not", "--all"))
    if not found:
        return ""
    if any(name == "refs/stash" for _, name in new):
        return _text(
            "stash refused",
            found,
            "no file was removed; use 'git stash' or 'git stash -u', which leave ignored files "
            "alone. 'tweakio repo gc' removes the copy that git has made of them",
        )
    if all(name.startswith("refs/remotes/") for _, name in new):
        return _text(
            f"{_shown(new[0][1])} not changed",
            found,
            "ask who pushed it to take it out of the remote's history; 'tweakio repo gc' removes "
            "the copy that was fetched",
        )
    names = ", ".join(dict.fromkeys(name for _, name in new if name != "HEAD"))
    return _text(
        f"{_shown(names or 'HEAD')} not changed",
        found,
        "take them out of the commit; 'tweakio repo gc' then removes the copy that git has made",
    )


def look_at_push(remote: str, lines: Iterable[str]) -> str:
    """Why a push is refused; empty if it is not.

    Args:
        remote: its name, or its address if it has none.
        lines: what git says of each ref: local name and id, remote name and id.
    """
    local, names, known = [], {}, ["--not"]
    for line in lines:
        fields = line.split()
        if len(fields) == 4 and fields[1].strip("0"):
            local.append(fields[1])
            names[fields[1]] = fields[0]
            if fields[3].strip("0"):
                known.append(fields[3])
    if remote in _git("remote").splitlines():
        known.append(f"--remotes={remote}")
    known = known if len(known) > 1 else []
    if not secrets_among(local, known):
        return ""
    for commit in local:
        found = secrets_among([commit], known)
        if found:
            name = names[commit]
            mend = "git stash drop" if name == "refs/stash" else f"git log --stat {_shown(name)}"
            return _text(
                f"push of {_shown(name)} refused",
                found,
                "nothing was sent; push only what the remote should have, such as "
                f"'git push {_shown(remote)} HEAD'. To look into it or be rid of it: {mend}",
            )
    return ""


def _text(what: str, found: list[str], hint: str) -> str:
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return (
        f"tweakio: error: {what}: the new commits hold session or browser data: "
        f"{_shown(found[0])}{more}\ntweakio: hint: {hint}\n"
    )


def _shown(text: str) -> str:
    """A text without what a terminal would obey, and not long."""
    return _NEVER.sub("?", text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}...")


def main(arguments: list[str] | None = None) -> int:
    """Run as the pre-push hook.

    Returns:
        0 if git may go on, 1 if not; the reason is on stderr.
    """
    children.prepare_signals()
    os.environ["GIT_NO_REPLACE_OBJECTS"] = "1"
    given = sys.argv[1:] if arguments is None else arguments
    try:
        reason = look_at_push(given[0] if given else "", sys.stdin)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        reason = f"tweakio: error: the push cannot be checked: {error}\n"
    sys.stderr.write(reason)
    return 1 if reason else 0
