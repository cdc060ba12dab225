"""Damages many homes, and has the doctor mend each.

python -m tests.doctor --table
python -m tests.doctor --seconds 300 --seed 1
python -m tests.doctor --round 1-17
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.doctor import at_random, test_doctor_table, verify
from tests.doctor.damages import CASES

_PERSON = {"NAME": "Tester", "EMAIL": "tester@example.com"}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.doctor", description=__doc__)
    parser.add_argument("--table", action="store_true", help="every case of docs/doctor.md")
    parser.add_argument("--seconds", type=float, default=0, help="of damages at random")
    parser.add_argument("--seed", default=str(time.time_ns()), help="of the damages")
    parser.add_argument("--round", help="only this one, as it was printed")
    given = parser.parse_args()
    if not (given.table or given.seconds or given.round):
        parser.error("give --table, --seconds or --round")
    logging.disable(logging.CRITICAL)
    os.environ |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    os.environ |= {
        f"GIT_{who}_{k}": v for who in ("AUTHOR", "COMMITTER") for k, v in _PERSON.items()
    }
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        templates = test_doctor_table.make_templates(root)
        return run(given, templates, root / "home")


def run(given: argparse.Namespace, templates: test_doctor_table.Templates, home: Path) -> int:
    failed = rounds = 0
    deadline = time.monotonic() + given.seconds
    for case in CASES if given.table else ():
        rounds += 1
        template, was = templates[case.layout]
        shutil.copytree(template, home, symlinks=True)
        try:
            case.damage(home)
            test_doctor_table.compare(case, was, verify.heal(home, was, case.person))
        except Exception:
            failed += 1
            print(f"{case.row}, {case.way}, {case.layout}")
            traceback.print_exc()
        shutil.rmtree(home)
    number = 0
    while given.round or time.monotonic() < deadline:
        number += 1
        rounds += 1
        try:
            words = at_random.round_of(given.round or f"{given.seed}-{number}", templates, home)
            if given.round or words.endswith("refused"):
                print(words)
        except Exception:
            failed += 1
            traceback.print_exc()
        shutil.rmtree(home)
        if given.round:
            break
    print(f"seed {given.seed}: {rounds} damaged homes, {failed} not mended as they must be")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
