"""Whether git is kept from sessions and browser data, as the files at the root say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tweakio import durable, schema
from tweakio.errors import is_of_the_moment
from tweakio.store.journal import Journal
from tweakio.store.refs import NO_COMMIT
from tweakio.store.rules import RULES, is_weaker

if TYPE_CHECKING:
    from tweakio.doctor.case import Case
    from tweakio.store.repository import Repository

__all__ = ["look_at_rules"]

_HELD = "is missing or lets git take sessions and browser data"


def look_at_rules(case: Case, repository: Repository) -> None:
    """Report rules that are weaker than ours, in history and in the work tree; put them back."""
    head = repository.head()
    if head.commit == NO_COMMIT or Journal.exists(case.layout):
        return
    in_history = [name for name in RULES if is_weaker(name, repository.root_file(head.root, name))]
    in_files = [name for name in RULES if is_weaker(name, _file(case, name))]
    if case.fix and (in_history or in_files):
        with repository.exclusive():
            for name in in_files:
                if durable.is_there(case.layout.profiles / name):
                    case.keep(case.layout.profiles / name)
        with repository.transaction("doctor", command=case.command) as change:
            for name in {*in_history, *in_files}:
                # What is sound in history comes into the work tree again.
                sound = name not in in_history
                change.put_root(name, change.root_file(name) if sound else RULES[name])
            change.record_always = True
            change.summary = "doctor: put the rules back that keep sessions out of history"
    for name in RULES:
        if name in in_history or name in in_files:
            where = "in history" if name in in_history else "in the work tree"
            case.add("rules-weak", "problem", f"{name} {where} {_HELD}", fixed=case.fix)


def _file(case: Case, name: str) -> bytes | None:
    try:
        return durable.read_regular(case.layout.profiles / name, schema.MAX_BYTES)
    except OSError as error:
        if is_of_the_moment(error):
            raise
        return None
