"""The rules of the reference-transaction hook: what a person's own git may give a name.

Git checks out a merge before it asks anybody, and takes what is ignored for worthless: a commit
with an ``x/session.json`` or an ``x/browser_profile`` would overwrite a login. So what was fetched
is looked at when git is about to give it a name (``refs/remotes/``) or to merge it (``ORIG_HEAD``).
And no name at all is given to new commits that hold session or browser data.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

from tweakio import children
from tweakio.committed import look_at_refs
from tweakio.errors import HostileContentError, TweakioError
from tweakio.validation import validate_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["main"]


def main() -> int:
    """Check the commits whose ids and names are on stdin, one a line.

    Returns:
        0 if git may go on, 1 if not; the reason is on stderr.
    """
    children.prepare_signals()
    os.environ["GIT_NO_REPLACE_OBJECTS"] = "1"
    try:
        text = sys.stdin.read()
        updates = [(commit, name) for commit, _, name in map(_parts, text.splitlines())]
        # Of what was fetched this says more, and whose it is.
        for commit in _incoming(text):
            _check(commit)
        if reason := look_at_refs(updates):
            sys.stderr.write(reason)
            return 1
    except TweakioError as error:
        print(f"tweakio: error: {error.message}", file=sys.stderr)
        print(f"tweakio: hint: {error.hint}", file=sys.stderr)
        return 1
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        print(f"tweakio: error: the new commits cannot be checked: {error}", file=sys.stderr)
        return 1
    return 0


def _parts(line: str) -> tuple[str, str, str]:
    return line.partition(" ")


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", *arguments], check=False, stdout=subprocess.PIPE, encoding="utf-8", errors="replace"
    )


def _incoming(text: str) -> Iterator[str]:
    """The commits that can be merged into our branch, and are not in it yet."""
    branch = _git("symbolic-ref", "--quiet", "--short", "HEAD").stdout.strip()
    for line in dict.fromkeys(text.splitlines()):
        commit, _, name = line.partition(" ")
        fetched = name.startswith("refs/remotes/") and name.endswith(f"/{branch}")
        if not commit.strip("0") or not (fetched or name == "ORIG_HEAD"):
            continue
        # What is here already came from here or was looked at then.
        if _git("merge-base", "--is-ancestor", commit, "HEAD").returncode:
            yield commit


def _check(commit: str) -> None:
    found = _git("rev-parse", "--verify", "--quiet", f"{commit}^{{tree}}")
    if found.returncode:
        raise HostileContentError("the remote has something else than commits in its branch")
    with closing(_Objects()) as objects:
        validate_tree(bytes.fromhex(found.stdout.strip()), objects.read)


class _Objects:
    """Git's own reading of objects, which knows of quarantines and alternates."""

    def __init__(self) -> None:
        self._sizes = self._ask_git("--batch-check")
        self._bodies = self._ask_git("--batch")

    @staticmethod
    def _ask_git(how: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["git", "cat-file", how], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def read(self, name: bytes, kind: bytes, most: int) -> bytes:
        """The body of an object; one that is too large is not unpacked.

        Raises:
            HostileContentError: it is missing, of another kind, or longer than ``most``.
        """
        head = _head(self._sizes, name)
        if len(head) != 3 or head[1] != kind or int(head[2]) > most:
            large = len(head) == 3 and head[1] == kind
            what = "larger than any of ours" if large else "missing or of another kind"
            raise HostileContentError(
                f"the remote has a {kind.decode()} that is {what}",
                hint="nothing was changed; look at it on the remote with 'git fsck'",
            )
        size = int(_head(self._bodies, name)[2])
        assert self._bodies.stdout is not None
        return self._bodies.stdout.read(size + 1)[:size]

    def close(self) -> None:
        """End both programs."""
        for process in (self._sizes, self._bodies):
            process.kill()
            process.communicate()


def _head(process: subprocess.Popen[bytes], name: bytes) -> list[bytes]:
    """What git says of an object: its id, kind and size."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(name.hex().encode() + b"\n")
    process.stdin.flush()
    return process.stdout.readline().split()


if __name__ == "__main__":
    sys.exit(main())
