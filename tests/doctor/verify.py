"""What must hold of every damaged home after ``doctor`` and after ``doctor --fix``."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import invariants

from tests.doctor import homes
from tests.doctor.homes import git, in_git
from tweakio import ProfileManager
from tweakio.doctor import Report, examine
from tweakio.layout import Layout


class Home(NamedTuple):
    """What there was before the damage.

    Attributes:
        head: the newest commit.
        parent: the one before.
        refs: name to object.
        commits: those that refs lead to.
    """

    head: str
    parent: str
    refs: dict[str, str]
    commits: frozenset[str]


class Outcome(NamedTuple):
    """What came of it.

    Attributes:
        looked: what ``doctor`` said.
        fixed: what ``doctor --fix`` said.
        again: what ``doctor`` said then.
        readable: the commits that could still be read before the fix, by refs or reflogs.
        lost: the commits of before the damage that no ref or reflog leads to any more.
        refs: name to object, afterwards.
        head: the newest commit, afterwards.
        in_branch: all commits of the branch, afterwards.
        has_trash: whether the trash still has what was there.
    """

    looked: Report
    fixed: Report
    again: Report
    readable: frozenset[str]
    lost: frozenset[str]
    refs: dict[str, str]
    head: str
    in_branch: frozenset[str]
    has_trash: bool


def refs_of(home: Path) -> dict[str, str]:
    lines = git(home, "for-each-ref", "--format=%(refname) %(objectname)").split("\n")
    return dict(line.split(" ") for line in lines if line)


def before(home: Path) -> Home:
    """To be called before the damage."""
    return Home(
        head=git(home, "rev-parse", "HEAD"),
        parent=git(home, "rev-parse", "HEAD~1"),
        refs=refs_of(home),
        commits=frozenset(git(home, "rev-list", "--all").split()),
    )


def examined(home: Path, *, fix: bool = False) -> Report:
    if not fix:
        return examine(Layout(home))
    with invariants.nothing_lost(home) as said:
        report = examine(Layout(home), fix=True, cut=True)
        said += [item.message for item in report.findings if item.fixed]
    return report


def codes(report: Report) -> list[str]:
    return sorted({item.code for item in report.findings})


def look(home: Path) -> Report:
    """``doctor`` without ``--fix`` changes nothing at all."""
    state = homes.everything(home)
    report = examined(home)
    assert homes.everything(home) == state
    assert not any(item.fixed for item in report.findings)
    assert all(item.hint for item in report.findings if item.severity != "note")
    return report


def heal(
    home: Path,
    was: Home,
    person: Callable[[Path], None] | None = None,
    *,
    work: bool = True,
) -> Outcome:
    """Let the doctor mend a damaged home, and check what holds of every one.

    Args:
        home: the damaged one.
        was: what it was before.
        person: what is left for a person to do.
        work: also see that everything works afterwards.
    """
    looked = look(home)
    by_refs = homes.readable(home, reflogs=False)
    readable = homes.readable(home)
    data = set(invariants.data_digests(home))
    fixed = examined(home, fix=True)
    assert fixed.healthy == (person is None), fixed.findings
    if person is not None:
        person(home)
    refs = refs_of(home)
    named = set(git(home, "rev-list", "--all", "HEAD").split())
    logged = set(git(home, "rev-list", "--all", "--reflog", "HEAD").split())
    rebuilt = "repository-lost" in codes(fixed)
    if rebuilt:
        assert not readable, "commits that can be read were put aside"
    assert not (by_refs | (readable & was.commits)) - named
    assert not readable - logged
    words = " ".join(item.message for item in fixed.findings)
    assert all(name in words for name in refs.keys() - was.refs.keys()), (refs, words)
    aside = list(home.glob("damaged-git-*"))
    assert len(aside) <= 1
    sound(home, data)
    again = look(home)
    assert again.healthy, again.findings
    assert all(item.severity == "note" for item in again.findings), again.findings
    assert again.profiles == len(homes.PROFILES)
    outcome = Outcome(
        looked=looked,
        fixed=fixed,
        again=again,
        readable=frozenset(readable),
        lost=frozenset(was.commits - logged),
        refs=refs,
        head=git(home, "rev-parse", "HEAD"),
        in_branch=frozenset(git(home, "rev-list", "HEAD").split()),
        has_trash=any(in_git(home, "tweakio", "trash").glob("*-doomed-*/data/session.json")),
    )
    invariants.check(home, permissions=False, survivors=data, work=work)
    return outcome


def sound(home: Path, data: set[str]) -> None:
    """Git finds nothing wrong, and every profile is there as it was."""
    fsck = invariants.git(home / "profiles", "fsck", "--strict", "--no-dangling")
    assert (fsck.returncode, fsck.stdout, _quiet(fsck.stderr)) == (0, b"", ""), fsck
    assert git(home, "status", "--porcelain") == ""
    with ProfileManager(home) as manager:
        found = {profile.id: profile for profile in manager.list_profiles()}
        assert tuple(sorted(found)) == homes.PROFILES
        assert {profile.status for profile in found.values()} == {"inactive"}
        assert found["alpha"].note == "the last"
        assert found["beta"].note == "the last but one"
        assert found["alpha"].tags == ("first",)
        assert found["gamma"].platform == "telegram"
    assert not data - set(invariants.data_digests(home))


def _quiet(text: bytes) -> str:
    lines = text.decode("utf-8", "replace").split("\n")
    return "\n".join(line for line in lines if line and not re.match("notice:|Checking", line))
