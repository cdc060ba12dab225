"""The rules of the pre-commit hook: what a person's own ``git commit`` may bring.

It runs inside ``git commit``, so git is there, and the index may be a temporary one that git
names in ``GIT_INDEX_FILE``; therefore everything is asked of git.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass

from tweakio import children, schema
from tweakio.errors import InvalidMetadataError, NewerFormatError, command
from tweakio.references import is_age_file
from tweakio.store.rules import RULES, is_weaker
from tweakio.validator import ProfileValidator

__all__ = ["Refusal", "main", "refusals"]

_SECRET_NAME = re.compile(
    r"session\.json$|identity|\.pem$|\.key$|\.p12$|^id_(rsa|ed25519|ecdsa)"
    r"|\.env$|^\.env|keyring|cookies",
    re.IGNORECASE,
)
_STORAGE_STATE = re.compile(r"storage_?state", re.IGNORECASE)
_SECRET_CONTENT = re.compile(rb"AGE-SECRET-KEY-1|-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----")
_BROWSER = frozenset({"browser_profile", "cache", ".lock"})
_SEALED = "session.json.age"
_TRACKED = frozenset({"metadata.json", "fingerprint.json", _SEALED})
_MAX_SHOWN = 20
_NOTHING = "0" * 40


@dataclass(frozen=True)
class Refusal:
    """One reason why a commit is refused.

    Attributes:
        path: in the work tree.
        reason: what is wrong with it.
        mend: what to do.
        leaves_copy: whether git has kept a secret by being asked to.
    """

    path: str
    reason: str
    mend: str
    leaves_copy: bool = False


@dataclass(frozen=True)
class _Staged:
    mode: str
    old: str
    blob: str
    path: str


def _git(*arguments: str, data: bytes | None = None) -> bytes:
    return subprocess.run(
        ["git", *arguments], check=True, input=data, stdout=subprocess.PIPE
    ).stdout


def _staged() -> list[_Staged]:
    """What the commit would add, change or remove; of what it removes the blob is zeros."""
    has_head = (
        subprocess.run(
            ["git", "rev-parse", "-q", "--verify", "HEAD"], check=False, stdout=subprocess.DEVNULL
        ).returncode
        == 0
    )
    base = "HEAD" if has_head else _git("hash-object", "-t", "tree", "--stdin", data=b"").decode()
    raw = _git("diff-index", "--cached", "--raw", "--no-renames", "-z", base.strip())
    found = []
    parts = raw.split(b"\0")
    for header, path in zip(parts[::2], parts[1::2], strict=False):
        fields = header.decode().split()
        name = path.decode("utf-8", "surrogateescape")
        found.append(_Staged(fields[1], fields[2], fields[3], name))
    return found


def _contents(blobs: list[str]) -> dict[str, bytes]:
    """The contents of blobs, by one process."""
    if not blobs:
        return {}
    raw = _git("cat-file", "--batch", data="\n".join(blobs).encode() + b"\n")
    found = {}
    position = 0
    for blob in blobs:
        end = raw.index(b"\n", position)
        size = int(raw[position:end].split()[2])
        found[blob] = raw[end + 1 : end + 1 + size]
        position = end + 1 + size + 1
    return found


def _unstage(path: str) -> str:
    # A name that cannot be shown cannot be pasted either.
    if not path.isprintable():
        return "git restore --staged ."
    return command("git restore --staged --", f"./{path}" if path.startswith("-") else path)


def _shown(text: str) -> str:
    """A text without what a terminal would obey."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def refusals() -> list[Refusal]:
    """Why the commit that is being made is refused; empty if it is not."""
    staged = _staged()
    outdated = [entry.path for entry in staged if _is_outdated(entry)]
    found = [_refuse_outdated(outdated)] if outdated else []
    candidates = []
    for entry in staged:
        if entry.blob == _NOTHING:
            continue
        refusal = _judge_name(entry)
        if refusal is not None:
            found.append(refusal)
        else:
            candidates.append(entry)
    contents = _contents(sorted({entry.blob for entry in candidates}))
    for entry in candidates:
        refusal = _judge_content(entry.path, contents[entry.blob])
        if refusal is not None:
            found.append(refusal)
    return found + _judge_whole(staged)


def _is_outdated(entry: _Staged) -> bool:
    """Whether the work tree has what HEAD has, so that only the index differs.

    A ``git commit`` that read the index just before tweakio changed it, and locked it just
    after, writes the old one back. To commit that would take the change back.
    """
    directory, _, name = entry.path.partition("/")
    if entry.blob == entry.old:
        return False  # of another mode only
    if name not in _TRACKED or not ProfileValidator().is_id(directory):
        return False
    try:
        with open(entry.path, "rb") as file:
            content = file.read()
    except FileNotFoundError:
        return entry.old == _NOTHING
    except OSError:
        return False
    header = f"blob {len(content)}\0".encode()
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest() == entry.old


def _refuse_outdated(paths: list[str]) -> Refusal:
    reason = "the index is older than history, and the file is as in history"
    if _tweakio_is_changing_it():
        return Refusal(paths[0], reason, "tweakio is changing it at this moment; run git again")
    return Refusal(paths[0], reason, _unstage(paths[0]) if len(paths) == 1 else "git reset")


def _tweakio_is_changing_it() -> bool:
    """Whether the lock of the index is tweakio's, and not that of the ``git commit`` itself."""
    texts = []
    for name in ("index.lock", "tweakio/locks/marker"):
        try:
            with open(os.path.join(_git_dir(), name), "rb") as file:
                texts.append(file.read(4096))
        except OSError:
            return False
    return texts[0] == texts[1]


def _git_dir() -> str:
    return os.fsdecode(_git("rev-parse", "--absolute-git-dir").rstrip(b"\n"))


def _judge_name(entry: _Staged) -> Refusal | None:
    path = entry.path
    directory, slash, rest = path.partition("/")
    name = path.rpartition("/")[2]
    if entry.mode == "120000":
        return Refusal(path, "a symbolic link", _unstage(path))
    if entry.mode == "160000":
        return Refusal(path, "a repository of its own (submodule)", _unstage(path))
    if entry.mode == "100755":
        # Where the file system has no such bits git asks the index alone.
        mend = f"{command('chmod -x', path)} && {command('git update-index --chmod=-x --', path)}"
        return Refusal(path, "a file that can be run, which no other machine takes", mend)
    if slash and rest.split("/")[0] in _BROWSER:
        return Refusal(
            path, "browser data, which history does not keep", _unstage(path), leaves_copy=True
        )
    if _SECRET_NAME.search(name) or (
        name.lower().endswith(".json") and _STORAGE_STATE.search(name)
    ):
        return Refusal(
            path, "a secret, which must not enter history", _unstage(path), leaves_copy=True
        )
    if not slash:
        return None
    if not ProfileValidator().is_id(directory):
        return Refusal(
            path, f"{directory!r} is not a profile id", f"rename it, or {_unstage(path)}"
        )
    if rest not in _TRACKED:
        return Refusal(path, "not one of the files that a profile keeps in history", _unstage(path))
    return None


def _judge_content(path: str, content: bytes) -> Refusal | None:
    if _SECRET_CONTENT.search(content):
        return Refusal(path, "holds a private key", _unstage(path), leaves_copy=True)
    if path in RULES and is_weaker(path, content):
        return Refusal(path, "lets git take sessions or browser data", _restore(path))
    directory, slash, name = path.partition("/")
    if not slash:
        return None
    if name == _SEALED:
        if is_age_file(content):
            return None
        return Refusal(path, "not sealed", command("git restore --staged --worktree --", path))
    try:
        if name == "metadata.json":
            schema.load(content, directory)
        elif not isinstance(json.loads(content), dict):
            return Refusal(
                path, "not a JSON object", command("git restore --staged --worktree --", path)
            )
    except (InvalidMetadataError, NewerFormatError) as error:
        return Refusal(
            path,
            error.message,
            f"{error.hint}; then 'git add' it, or: {command('tweakio profile recover', directory)}",
        )
    except (ValueError, RecursionError):
        return Refusal(path, "not JSON", command("git restore --staged --worktree --", path))
    return None


def _judge_whole(staged: list[_Staged]) -> list[Refusal]:
    """What only all the names together show."""
    names: dict[str, set[str]] = {}
    for path in _git("ls-files", "-z").decode("utf-8", "surrogateescape").split("\0"):
        directory, slash, rest = path.partition("/")
        if slash:
            names.setdefault(directory, set()).add(rest)
        else:
            names.setdefault("", set()).add(path)
    found = []
    missing = RULES.keys() - names.pop("", set())
    removed = {entry.path for entry in staged if entry.blob == _NOTHING}
    for path in sorted(missing if names else missing & removed):
        mend = _restore(path) if path in removed else "run 'tweakio repo doctor --fix'"
        found.append(Refusal(path, "missing, and without it git takes sessions", mend))
    folded: dict[str, str] = {}
    for directory, files in sorted(names.items()):
        other = folded.setdefault(directory.lower(), directory)
        if other != directory:
            reason = f"differs from {other!r} only by case"
            found.append(Refusal(directory, reason, "rename one of the two"))
        if files & _TRACKED and "metadata.json" not in files:
            found.append(
                Refusal(
                    directory,
                    "a profile without metadata.json",
                    f"{command('tweakio profile recover', directory)}, or remove it: "
                    f"{command('tweakio profile delete', directory)}",
                )
            )
    return found


def _restore(path: str) -> str:
    return command("git restore --source=HEAD --staged --worktree --", path)


def main() -> int:
    """Check the commit that is being made.

    Returns:
        0 if it may be made, 1 if not; the reasons are on stderr.
    """
    children.prepare_signals()
    try:
        found = refusals()
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"tweakio: error: the commit cannot be checked: {error}", file=sys.stderr)
        return 1
    for refusal in found[:_MAX_SHOWN]:
        what = _shown(f"{refusal.path}: {refusal.reason}")
        print(f"tweakio: error: commit refused: {what}", file=sys.stderr)
        print(f"tweakio: hint: {_shown(refusal.mend)}", file=sys.stderr)
    if len(found) > _MAX_SHOWN:
        print(f"tweakio: error: and {len(found) - _MAX_SHOWN} more", file=sys.stderr)
    if any(refusal.leaves_copy for refusal in found):
        print(
            "tweakio: warning: 'git add' has already copied it into .git/objects; once it is not "
            "staged any more, 'tweakio repo gc' removes the copy",
            file=sys.stderr,
        )
    return 1 if found else 0
