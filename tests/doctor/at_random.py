"""One to three random places of a git directory damaged at random."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

from tests.doctor import homes, verify
from tests.doctor.damages import BYTES, garbled
from tests.doctor.verify import Home
from tweakio.errors import ForeignRepositoryError, NewerFormatError

# What was deleted is not history, and hooks and descriptions are not looked at.
_LEFT = ("tweakio/trash/", "tweakio/rescued/", "hooks/", "tweakio/damaged/")


def places(home: Path) -> list[Path]:
    git_dir = homes.in_git(home)
    found = []
    for directory, names, files in os.walk(git_dir):
        for name in (*names, *files):
            path = Path(directory, name)
            if not f"{path.relative_to(git_dir)}/".startswith(_LEFT):
                found.append(path)
    return sorted(found)


def damage(home: Path, rng: random.Random) -> str:
    """Do something to one place; what it was, in words."""
    path = rng.choice([path for path in places(home) if path.is_file() or rng.random() < 0.1])
    name = path.relative_to(homes.in_git(home))
    if path.is_dir():
        shutil.rmtree(path)
        return f"{name}/ removed"
    way = rng.choice([*BYTES, "garbled", "removed", "a byte changed", "cut", "a directory"])
    data = path.read_bytes()
    at = rng.randrange(len(data)) if data else 0
    if way in ("removed", "a directory"):
        path.unlink()
        if way == "a directory":
            path.mkdir()
        return f"{name}: {way}"
    path.chmod(0o600)
    if way == "a byte changed":
        data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
    elif way == "cut":
        data = data[:at]
    else:
        data = {**BYTES, "garbled": garbled}[way](data)
    path.write_bytes(data)
    return f"{name}: {way} ({at})"


def round_of(seed: str, templates: dict[str, tuple[Path, Home]], home: Path) -> str:
    """Damage a new home and see that it heals; what was done.

    Raises:
        AssertionError: it did not, with what was done.
    """
    rng = random.Random(seed)
    layout = rng.choice(homes.LAYOUTS)
    template, was = templates[layout]
    shutil.copytree(template, home, symlinks=True)
    done = [layout, *(damage(home, rng) for _ in range(rng.randint(1, 3)))]
    words = f"seed {seed}: {'; '.join(done)}"
    try:
        verify.heal(home, was)
    except (NewerFormatError, ForeignRepositoryError):
        # The one number that tells of a newer tweakio was changed, or a HEAD to another's.
        state = homes.everything(home)
        try:
            verify.examined(home, fix=True)
        except (NewerFormatError, ForeignRepositoryError):
            assert homes.everything(home) == state, words
            return f"{words}: refused"
        raise
    except BaseException as error:
        raise AssertionError(words) from error
    return words
