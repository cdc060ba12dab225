"""The long form: every fault at every call of every operation.

python -m tests.crash --all
python -m tests.crash --reads only --sample 6
python -m tests.crash --operation delete --fault kill --point 17 --heal list
python -m tests.crash --power ext4
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from tests.crash import disk
from tests.crash.faults import FAULTS, POWER, READS
from tests.crash.harness import Harness, Tally, preload, scratch, unavailable
from tests.crash.operations import OPERATIONS

Result = tuple[str, dict[str, Tally], int, float]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--all", action="store_true", help="everything")
    parser.add_argument("--operation", action="append", default=[], choices=list(OPERATIONS))
    parser.add_argument("--fault", action="append", default=[], choices=list(FAULTS))
    parser.add_argument(
        "--power",
        choices=list(disk.FILE_SYSTEMS),
        help="cut the power of a disk with this file system at every call (needs root)",
    )
    parser.add_argument(
        "--reads",
        choices=("only", "too"),
        help="break the calls that read: instead of those that change something, or as well",
    )
    parser.add_argument("--point", type=int, help="only this call")
    parser.add_argument("--at", help="only calls on a path with this in it, and those after them")
    parser.add_argument("--heal", choices=("list", "create"), help="the next command")
    parser.add_argument("--both", action="store_true", help="each point with both next commands")
    parser.add_argument("--sample", type=int, default=0, help="so many points of each fault")
    parser.add_argument("--seed", type=int, default=None, help="of the sample")
    parser.add_argument("--thin", type=int, default=1, help="of a sample's kills every so manieth")
    parser.add_argument("--few", type=int, help="of each operation's plan only so many points")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--calls", action="store_true", help="show the calls and end")
    parser.add_argument("--record", type=Path, help="run each once, for a trace, and write this")
    parser.add_argument("--violations", type=int, default=40, help="show at most so many")
    given = parser.parse_args()
    if not any((given.all, given.operation, given.fault, given.record, given.power, given.reads)):
        parser.error("name an --operation or a --fault, or give --all, --power or --reads")
    if not given.fault:
        chosen = {"only": list(READS), "too": list(FAULTS)}
        others = [fault for fault in FAULTS if fault not in READS]
        given.fault = list(POWER) if given.power else chosen.get(given.reads, others)
    return given


def work(name: str, given: argparse.Namespace, directory: str) -> Result:
    """All points of one operation, in a process of its own."""
    if not given.power:
        return _work(Harness(name, Path(directory)), given)
    place = Path(directory, name)
    place.mkdir()
    with disk.mounted(given.power, place) as mounted:
        return _work(Harness(name, mounted.mount, mounted), given)


def _work(harness: Harness, given: argparse.Namespace) -> Result:
    began = time.monotonic()
    name = harness.name
    plan = harness.plan(
        given.fault,
        sample=given.sample,
        seed=given.seed,
        thin=given.thin,
        both=given.both,
        few=given.few,
    )
    if given.point is not None:
        plan = [(fault, given.point, "list") for fault in given.fault]
    if given.at:
        paths = ["", *(where for _, where, _ in harness.calls), ""]
        read = [*(where for _, where, _ in harness.reads), ""]
        plan = [
            (fault, point, heal)
            for fault, point, heal in plan
            if given.at
            in (read[point - 1] if fault in READS else "\n".join(paths[point - 1 : point + 1]))
        ]
    if given.heal:
        plan = [(fault, point, given.heal) for fault, point, _ in plan]
    shown = 0.0

    def tell(fault: str, point: int, passed: bool) -> None:
        nonlocal shown
        if sys.stderr.isatty() and time.monotonic() - shown > 0.2:
            shown = time.monotonic()
            sys.stderr.write(f"\r\x1b[K{name}: {fault} {point} of {len(harness.calls)}")
            sys.stderr.flush()

    tallies = harness.run(plan, work_every=25, tell=tell)
    return name, tallies, len(harness.calls), time.monotonic() - began


def main() -> int:
    given = arguments()
    if reason := unavailable():
        print(f"not here: {reason}")
        return 2
    if given.power:
        disk.in_own_mounts()
        with scratch() as directory:
            if reason := disk.unavailable(given.power, Path(directory)):
                print(f"not run: power cuts on {given.power}: {reason}")
                return 2
    if given.seed is None:
        given.seed = random.SystemRandom().randrange(1 << 31)
    preload()
    names = given.operation or list(OPERATIONS)
    with scratch() as directory:
        if given.record:
            found = {name: Harness(name, Path(directory), count=False).record() for name in names}
            given.record.write_text(json.dumps(found))
            return 0
        if given.calls:
            return show_calls(names, directory, given)
        print(f"seed {given.seed}", flush=True)
        results: dict[str, Result] = {}
        broken = []
        # Workers are forked before anything opened threads, and have everything imported.
        with ProcessPoolExecutor(min(given.jobs, len(names)), _fork()) as pool:
            futures = {pool.submit(work, name, given, directory): name for name in names}
            for future in as_completed(futures):
                name = futures[future]
                try:
                    results[name] = future.result()
                except RuntimeError as error:
                    broken.append(name)
                    print(f"{name}: {error}", flush=True)
                    continue
                report(results[name], len(results), len(names))
        return conclude([results[name] for name in names if name in results], broken, given)


def _fork():
    import multiprocessing

    return multiprocessing.get_context("fork")


def show_calls(names: list[str], directory: str, given: argparse.Namespace) -> int:
    for name in names:
        harness = Harness(name, Path(directory))
        calls = harness.reads if given.reads else harness.calls
        for number, (kind, where, effect) in enumerate(calls, 1):
            print(f"{name} {number:3} {kind:9} {where}{'' if effect else '  (no effect)'}")
    return 0


def report(result: Result, done: int, total: int) -> None:
    name, tallies, calls, seconds = result
    points = sum(tally.points for tally in tallies.values())
    passed = sum(tally.passed for tally in tallies.values())
    clear = "\r\x1b[K" if sys.stderr.isatty() else ""
    print(
        f"{clear}[{done}/{total}] {name}: {calls} calls, {passed} of {points} points passed, "
        f"{seconds:.0f} s",
        flush=True,
    )


def conclude(results: list[Result], broken: list[str], given: argparse.Namespace) -> int:
    faults = [fault for fault in FAULTS if any(fault in tallies for _, tallies, _, _ in results)]
    violations = [
        violation
        for _, tallies, _, _ in results
        for tally in tallies.values()
        for violation in tally.violations
    ]
    for violation in violations[: given.violations]:
        print(f"\n{violation}")
    if len(violations) > given.violations:
        print(f"\nand {len(violations) - given.violations} more:")
        for violation in violations[given.violations :]:
            print(f"    {violation.command}")
    print(f"\n{'operation':24}" + "".join(f"{fault:>16}" for fault in faults))
    for name, tallies, _, _ in results:
        cells = [tallies.get(fault, Tally()) for fault in faults]
        print(f"{name:24}" + "".join(f"{f'{c.passed}/{c.points}':>16}" for c in cells))
    points = sum(tally.points for _, tallies, _, _ in results for tally in tallies.values())
    print(
        f"\n{points} points, {len(violations)} violations, "
        f"{len(broken)} operations that do not work; seed {given.seed}"
    )
    return 1 if violations or broken or not points else 0


if __name__ == "__main__":
    sys.exit(main())
