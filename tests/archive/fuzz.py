"""Spoil exported files at random: what is imported is right, or nothing was changed.

``python -m tests.archive.fuzz [ROUNDS] [SEED]``
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

from tests.archive.homes import fill_closed
from tweakio import ProfileManager, TweakioError

__all__ = ["run"]


def _spoiled(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    kind = chance.randrange(4)
    at = chance.randrange(len(changed))
    if kind == 0:
        for _ in range(chance.choice((1, 1, 2, 8))):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
    elif kind == 1:
        del changed[at:]
    elif kind == 2:
        changed[at:at] = chance.randbytes(chance.randrange(1, 64))
    else:
        del changed[at : at + chance.randrange(1, 64)]
    return bytes(changed)


def run(exported: Path, manager: ProfileManager, directory: Path, *, rounds: int, seed: int) -> int:
    """Import spoiled forms of a file that has one profile ``a``; the number of rounds."""
    chance = random.Random(seed)
    data = exported.read_bytes()
    path = directory / "spoiled.zip"
    layout = manager.layout
    for number in range(rounds):
        path.write_bytes(_spoiled(data, chance))
        head = manager.repository.head().commit
        before = [profile.id for profile in manager.list_profiles()]
        try:
            manager.archives.import_file(path)
            message = None
        except TweakioError as error:
            message = str(error)
        if message is not None:
            assert "\n" not in message, (seed, number)
            assert manager.repository.head().commit == head, (seed, number)
            assert [profile.id for profile in manager.list_profiles()] == before, (seed, number)
            assert not layout.profile("a").directory.exists(), (seed, number)
        else:
            # What was changed is something that nobody reads, such as a time of the ZIP.
            cookies = layout.profile("a").browser_profile / "Default" / "Cookies"
            assert cookies.read_bytes() == b"cookies of a" * 40, (seed, number)
            manager.delete_profile("a", purge=True)
        staging = layout.staging
        assert not staging.exists() or not list(staging.iterdir()), (seed, number)
    path.unlink()
    return rounds


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        with ProfileManager(directory / "home") as manager:
            manager.create_profile("a", "telegram")
            fill_closed(manager.home / "profiles" / "a", "a")
            manager.archives.export(["a"], directory / "f.zip", with_session=True)
        with ProfileManager(directory / "target") as manager:
            manager.create_profile("z", "custom")
            run(directory / "f.zip", manager, directory, rounds=rounds, seed=seed)
    print(f"{rounds} rounds, seed {seed}: nothing wrong was imported")


if __name__ == "__main__":
    main()
