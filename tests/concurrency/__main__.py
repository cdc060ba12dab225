"""The long form.

python -m tests.concurrency --seconds 1800 --processes 8 --profiles 32
python -m tests.concurrency --seconds 60 --processes 64
python -m tests.concurrency --seconds 60 --kill --seed 7
python -m tests.concurrency --verify DIRECTORY
"""

from __future__ import annotations

import argparse
import random
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.concurrency.campaign import Campaign
from tests.concurrency.verify import Findings, verify


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.concurrency", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--processes", type=int, default=64)
    parser.add_argument("--profiles", type=int, default=32)
    parser.add_argument(
        "--kill",
        type=float,
        nargs="?",
        const=0.1,
        default=0.0,
        metavar="SECONDS",
        help="kill -9 workers at random, on average so often (0.1); to start one takes longer "
        "than ten operations",
    )
    parser.add_argument(
        "--prune-now",
        action="store_true",
        help="git gc --prune=now, which git's manual calls a risk of corruption beside writers",
    )
    parser.add_argument(
        "--no-verify",
        action="store_true",
        help="most git commits without our hook: ten times as many, each in a tenth of the time",
    )
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--violations", type=int, default=20, help="show at most so many")
    parser.add_argument("--keep", action="store_true", help="leave the home, and say where it is")
    parser.add_argument("--verify", type=Path, help="run nothing, but check what --keep left there")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    if given.verify:
        campaign, findings = verify_kept(given.verify)
        report(campaign, findings, given.violations)
        return 1 if findings.violations else 0
    seed = random.SystemRandom().randrange(1 << 31) if given.seed is None else given.seed
    print(f"seed {seed}", flush=True)
    root = Path(tempfile.mkdtemp(prefix="tweakio-campaign-"))
    campaign = Campaign(
        root,
        given.seconds,
        given.processes,
        given.profiles,
        seed,
        given.kill,
        given.prune_now,
        given.no_verify,
    )
    try:
        campaign.work()
        began = time.monotonic()
        findings = verify_kept(root)[1] if given.keep else verify(campaign)
        verified = time.monotonic() - began
    finally:
        if given.keep:
            print(f"kept in {root}")
        else:
            shutil.rmtree(root, ignore_errors=True)
    report(campaign, findings, given.violations)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\nverified in {verified:.1f} s, with at most {memory:.0f} MB")
    return 1 if findings.violations else 0


def verify_kept(root: Path) -> tuple[Campaign, Findings]:
    """Check a copy of a campaign: the check itself makes changes in the end."""
    with tempfile.TemporaryDirectory(prefix="tweakio-campaign-") as place:
        campaign = Campaign.kept(shutil.copytree(root, Path(place, "copy"), symlinks=True))
        return campaign, verify(campaign)


def report(campaign: Campaign, findings: Findings, limit: int) -> None:
    print(
        f"{campaign.processes} processes, {campaign.profiles} profiles, "
        f"{campaign.seconds:.0f} s (ended after {campaign.elapsed:.1f} s)"
    )
    print(f"\n{'operation':12} {'done':>8} {'refused':>8} {'cut off':>8}  refusals")
    for operation in dict.fromkeys(sorted(name for name, _ in findings.counts)):
        why = ", ".join(
            f"{error} {count}"
            for (name, error), count in findings.errors.most_common()
            if name == operation
        )
        done, refused, cut = (
            findings.counts[operation, kind] for kind in ("done", "refused", "cut off")
        )
        print(f"{operation:12} {done:8} {refused:8} {cut:8}  {why}")
    print()
    for title, count in (
        ("operations", sum(findings.counts.values())),
        ("commits in history", findings.commits),
    ):
        print(f"{title:22} {count} ({count / campaign.elapsed:.1f} a second)")
    print(f"clocks                 all step; in {campaign.shifted} the whole process (libfaketime)")
    print(f"spans of holding       {findings.holds} by name, {findings.locks} by lock file")
    print(
        f"git gc                 {findings.gc_runs} runs, {sum(findings.gc_failures.values())}"
        f" gave up {dict(findings.gc_failures) or ''}"
    )
    print(f"workers killed         {len(campaign.killed)}")
    for lock, title in (("repository.lock", "repository"), (".lock", "a profile")):
        print(f"worst wait, {title:10} {findings.waits.get(lock, 0.0):.2f} s")
    print(f"violations             {len(findings.violations)}")
    for text in findings.violations[:limit]:
        print(f"- {text}")
    if len(findings.violations) > limit:
        print(f"- and {len(findings.violations) - limit} more")


if __name__ == "__main__":
    sys.exit(main())
