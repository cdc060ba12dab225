"""The tables of docs/doctor.md are what the doctor does."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.doctor import at_random, homes, verify
from tests.doctor.damages import CASES, OBJECTS, Case
from tests.doctor.verify import Home, Outcome, codes
from tweakio.errors import ForeignRepositoryError

PAGE = Path(__file__).resolve().parents[2] / "docs" / "doctor.md"
KINDS = {"loose": {"objects-damaged"}, "in a pack": {"packs-damaged"}, "missing": set[str]()}
Templates = dict[str, tuple[Path, Home]]
EVERY = {"refs/tags/annotated", "refs/tags/plain", "refs/heads/aside"}
NAMES = {
    "the tag": [{"refs/tags/annotated"}, {"refs/tags/plain"}],
    "the branch's name": [{"refs/heads/aside"}],
    "the names of tags": [{"refs/tags/annotated", "refs/tags/plain"}],
    "the names of tags and other branches": [EVERY],
    "all history and its names": [EVERY],
}
COMMITS = (
    "that commit",
    "the commits that have it",
    "some history and its names",
    "all history and its names",
)


class Row(NamedTuple):
    codes: frozenset[str]
    back: str
    lost: tuple[str, ...]


def table() -> dict[str, Row]:
    """The rows of both tables; an object's stands for three kinds of damage."""
    found = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("| ") or cells[1] == "says":
            continue
        name, says, back, lost = cells
        row = Row(frozenset(re.findall(r"`([a-z-]+)`", says)), back, tuple(lost.split("; ")))
        if name in OBJECTS:
            for kind, more in KINDS.items():
                found[f"{name}, {kind}"] = row._replace(codes=row.codes | more)
        else:
            found[name] = row
    return found


ROWS = table()


def short() -> list[Case]:
    """One case of each row of the page, not always the same way of damaging."""
    by_row: dict[str, list[Case]] = {}
    for case in CASES:
        what = case.row.rpartition(", ")[0]
        by_row.setdefault(what if what in OBJECTS else case.row, []).append(case)
    return [cases[number * 2 % len(cases)] for number, cases in enumerate(by_row.values())]


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Templates:
    return make_templates(tmp_path_factory.mktemp("doctor"))


def make_templates(root: Path) -> Templates:
    made = {}
    for layout in homes.LAYOUTS:
        home = root / layout.replace(" ", "-")
        homes.build(home, layout)
        homes.git(home, "status")
        made[layout] = (home, verify.before(home))
    return made


def compare(case: Case, was: Home, came: Outcome) -> None:
    """Assert that a row of the table tells what came of its damage."""
    row = ROWS[case.row]
    assert set(codes(came.looked)) == row.codes
    kept = {name for name, target in was.refs.items() if came.refs.get(name) == target}
    names = was.refs.keys() - kept - {"refs/heads/main"}
    expected = [NAMES[part] for part in row.lost if part in NAMES]
    if "some history and its names" not in row.lost:
        assert names in (expected[0] if expected else [set()])
    commits = [part for part in row.lost if part in COMMITS]
    if not commits:
        assert not came.lost
    elif commits == ["all history and its names"]:
        assert came.lost == was.commits
    elif commits == ["that commit"]:
        assert len(came.lost) == 1
    else:
        assert 0 < len(came.lost) < len(was.commits)
    assert came.has_trash == ("the trash" not in row.lost)
    assert {*row.lost} <= {*NAMES, *COMMITS, "nothing", "the trash"}
    if row.back == "the newest state, as a new commit on the one before":
        assert came.head != was.head
        assert came.lost == {was.head}
        assert was.parent in came.in_branch
    elif row.back == "the profiles, in a new history":
        assert not came.in_branch & was.commits
        assert "repository-lost" in codes(came.fixed)
    elif row.back == "what can be read of it":
        assert came.in_branch & was.commits
    elif row.back == "what a person decides":
        assert case.person is not None
    else:
        assert row.back in ("everything", "`HEAD` and the other commits")
        assert came.head == was.head
        assert (row.back == "everything") == (not names and not came.lost)


def test_the_table_is_complete() -> None:
    assert list(ROWS) == list(dict.fromkeys(ROWS))
    assert {case.row for case in CASES} == set(ROWS)


# One case of each row here; "python -m tests.doctor --table" runs all.
@pytest.mark.parametrize("case", short(), ids=lambda case: f"{case.row}, {case.way}")
def test_row(case: Case, templates: Templates, home: Path) -> None:
    template, was = templates[case.layout]
    shutil.copytree(template, home, symlinks=True)
    case.damage(home)
    compare(case, was, verify.heal(home, was, case.person, work=False))


def test_a_link_to_another_git_directory_is_refused(templates: Templates, home: Path) -> None:
    shutil.copytree(templates["as made"][0], home, symlinks=True)
    git_dir = homes.in_git(home)
    git_dir.rename(home / "elsewhere")
    git_dir.write_text(f"gitdir: {home / 'elsewhere'}\n")
    state = homes.everything(home)
    for fix in (False, True):
        with pytest.raises(ForeignRepositoryError):
            verify.examined(home, fix=fix)
    assert homes.everything(home) == state
    assert ForeignRepositoryError.exit_code == 13


@pytest.mark.parametrize("number", range(6))
def test_damage_at_random(number: int, templates: Templates, home: Path) -> None:
    at_random.round_of(f"1-{number}", templates, home)
