"""One merge: what another side's tree changes here, profile by profile, or who is in conflict."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Union

from tweakio import changes, directories, schema
from tweakio.errors import (
    InvalidMetadataError,
    MergeConflictError,
    NewerFormatError,
)
from tweakio.models import parse_time
from tweakio.settings import fit_together
from tweakio.store.objects import parse_tree
from tweakio.store.rules import SEALED_IS_TRACKED
from tweakio.store.worktree import FINGERPRINT, METADATA
from tweakio.sync.fields import (
    ABSENT,
    RUNTIME,
    Clash,
    merge_fields,
    merge_value,
    same_beside_runtime,
)
from tweakio.validation import RECIPIENTS, SESSION
from tweakio.vault.recipients import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tweakio.store.locks import ProfileLockManager
    from tweakio.store.repository import Repository
    from tweakio.store.transaction import Transaction
    from tweakio.sync.seals import Seals
    from tweakio.validation import Incoming

__all__ = ["Conflict", "Merge", "Resolution", "Side", "merge_lines"]

log = logging.getLogger(__name__)

Side = Literal["ours", "theirs"]
_NOISE = RUNTIME | {"last_used"}
"""What a profile that was only used has changed; that keeps nobody from deleting it."""
_WHOLE = {FINGERPRINT: "fingerprint", SESSION: "session"}
_BY_KEY = ("platform_config", "browser")
_SEALED_MARK = b'"sealed:'
_OWN_FILES = (".gitignore", ".gitattributes")


class Conflict(NamedTuple):
    """What cannot be merged without a person.

    Attributes:
        profile_id: whose; empty for a file that is of no profile.
        kind: ``changed`` (both sides, differently), ``created`` (on both sides, or made anew on
            one), ``deleted here`` (and changed there), ``deleted there`` (and changed here),
            ``in use`` (deleted or replaced there) or ``case`` (differs from one of here by
            case only).
        clashes: the fields, with both values.
    """

    profile_id: str
    kind: Literal["changed", "created", "deleted here", "deleted there", "in use", "case"]
    clashes: tuple[Clash, ...] = ()

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the fields."""
        return tuple(clash.field for clash in self.clashes)


class Chosen(NamedTuple):
    """A value that a person wrote instead of either side's."""

    value: Any


Resolution = Union[Side, "Mapping[str, Mapping[str, Any]]", None]
"""How conflicts are settled: one side's, or by profile and field."""


class State(NamedTuple):
    """A profile on one side."""

    files: Mapping[str, bytes]
    value: Mapping[str, Any] | None
    """None if the metadata cannot be read."""

    @property
    def created(self) -> object:
        """Its identity besides its id."""
        return None if self.value is None else parse_time(self.value["created_at"])


class Merge:
    """Puts what another side changed into a transaction.

    Args:
        repository: where.
        locks: tells which profiles are in use.
        change: the transaction.
        bases: root trees at the common beginnings.
        theirs: the other side's tree, validated.
        choose: says for a conflict and one of its clashes (None: for the whole profile) whose
            side counts, or ``Chosen``; None if that was not said.
        seals: compares what is sealed and seals it anew.
    """

    def __init__(
        self,
        repository: Repository,
        locks: ProfileLockManager,
        change: Transaction,
        bases: Sequence[bytes],
        theirs: Incoming,
        choose: Callable[[Conflict, Clash | None], Side | Chosen | None],
        seals: Seals,
    ) -> None:
        self._repository = repository
        self._locks = locks
        self._change = change
        self._bases = bases
        self._theirs = theirs
        self._choose = choose
        self._seals = seals
        self.changed: list[str] = []
        self.created: list[str] = []
        self.deleted: list[str] = []
        self.conflicts: list[Conflict] = []
        self.settled: list[str] = []
        """What was in conflict, and whose side was chosen."""
        self.recipients: tuple[list[str], list[str]] = [], []
        """Before, and from now on."""

    def put(self, names: Sequence[str]) -> None:
        """Put it all into the transaction.

        Args:
            names: the profiles that are not the same on both sides.

        Raises:
            MergeConflictError: something is left for a person to decide.
            ProfileActiveError: what was decided would take a profile away that is in use.
        """
        # What is sealed depends on them.
        self._put_root_files()
        # Deletions first: they make room for what differs by case only.
        for profile_id in sorted(names, key=lambda name: name in self._theirs.profiles):
            self._put_profile(profile_id)
        if self.conflicts:
            raise conflict_error(self.conflicts)
        if self._seals.due:
            self._seal_anew()

    def _seal_anew(self) -> None:
        """What the merge left as it is here: sealed anew as well where that is due."""
        for profile_id in self._change.profile_ids():
            if not self._change.exists(profile_id) or profile_id in (*self.changed, *self.created):
                continue
            ours = self._files(self._change.head.root, profile_id)
            theirs = self._theirs.profiles.get(profile_id, {})
            for name, content in self._seals.renewed(profile_id, ours, ours, theirs).items():
                if content != ours[name]:
                    self._change.put(profile_id, name, content)

    def _files(self, root: bytes, profile_id: str) -> dict[str, bytes]:
        blobs = self._repository.files_at(root, profile_id) or {}
        return {name: self._repository.reader.read(blob, b"blob") for name, blob in blobs.items()}

    # One profile

    def _state(self, root: bytes, profile_id: str) -> State | None:
        files = self._files(root, profile_id)
        if METADATA not in files:
            return None
        value: Mapping[str, Any] | None
        try:
            value = schema.load(files[METADATA], profile_id)
        except (InvalidMetadataError, NewerFormatError):
            value = None
        return State(files, value)

    def _put_profile(self, profile_id: str) -> None:
        theirs = None
        if profile_id in self._theirs.profiles:
            theirs = State(self._theirs.profiles[profile_id], self._theirs.metadata[profile_id])
        ours = self._state(self._change.head.root, profile_id)
        found = [self._state(base, profile_id) for base in self._bases]
        bases = [base for base in found if base is not None]
        theirs, bases = self._aligned(ours, theirs, bases)
        if ours is None and theirs is not None:
            self._put_new(profile_id, bases, theirs)
        elif ours is not None and theirs is None:
            self._put_deleted(profile_id, bases, ours)
        elif ours is not None and theirs is not None:
            self._put_both(profile_id, bases, ours, theirs)

    def _aligned(
        self, ours: State | None, theirs: State | None, bases: list[State]
    ) -> tuple[State | None, list[State]]:
        """States in which what is sealed looks the same if it is the same inside."""
        sides = [ours, theirs, *bases]
        found = [None if side is None else _sealed_parts(side) for side in sides]
        if not any(found):
            return theirs, bases
        other, before = self._seals.align(found[0], found[1], found[2:])
        made = [
            side if side is None or part == now else _with_parts(side, now)
            for side, part, now in zip(sides[1:], found[1:], [other, *before], strict=True)
        ]
        return made[0], [base for base in made[1:] if base is not None]

    def _put_new(self, profile_id: str, bases: list[State], theirs: State) -> None:
        """It is not here: new there, or deleted here."""
        known = [base for base in bases if base.created == theirs.created]
        if known:
            if all(_only_used(base, theirs) for base in known):
                return
            conflict = Conflict(profile_id, "deleted here", _clashes(known, None, theirs))
            if self._side(conflict) != "theirs":
                return
        self._create(profile_id, theirs)

    def _put_deleted(self, profile_id: str, bases: list[State], ours: State) -> None:
        """It is not there: deleted there."""
        if not any(base.created == ours.created for base in bases):
            return  # made anew here
        if not all(_only_used(base, ours) for base in bases):
            conflict = Conflict(profile_id, "deleted there", _clashes(bases, ours, None))
        elif self._locks.is_locked(profile_id):
            conflict = Conflict(profile_id, "in use")
        else:
            self._take_away(profile_id)
            return
        if self._side(conflict) == "theirs":
            self._take_away(profile_id)

    def _put_both(self, profile_id: str, bases: list[State], ours: State, theirs: State) -> None:
        if ours.value is None:
            if not any(base.files == theirs.files for base in bases):
                self._put_whole(profile_id, ours, theirs)
            return
        if ours.created != theirs.created:
            self._put_another(profile_id, bases, ours, theirs)
            return
        same = [base for base in bases if base.created == ours.created and base.value is not None]
        self._merge(profile_id, same, ours, theirs)

    def _put_another(self, profile_id: str, bases: list[State], ours: State, theirs: State) -> None:
        """Two profiles of one id."""
        made_here = bool(bases) and all(base.created == theirs.created for base in bases)
        if made_here and all(_only_used(base, theirs) for base in bases):
            return
        made_there = bool(bases) and all(base.created == ours.created for base in bases)
        if made_there and all(_only_used(base, ours) for base in bases):
            used = self._locks.is_locked(profile_id)
            if not used or self._side(Conflict(profile_id, "in use")) == "theirs":
                self._replace(profile_id, theirs)
            return
        clashes = _clashes([], ours, theirs)
        if self._side(Conflict(profile_id, "created", clashes)) == "theirs":
            self._replace(profile_id, theirs)

    def _merge(self, profile_id: str, bases: list[State], ours: State, theirs: State) -> None:
        assert ours.value is not None
        assert theirs.value is not None
        merged = merge_fields([base.value or {} for base in bases], ours.value, theirs.value)
        value, clashes = dict(merged.value), list(merged.clashes)
        files = dict(ours.files)
        for name, field in _WHOLE.items():
            sides = ours.files.get(name, ABSENT), theirs.files.get(name, ABSENT)
            taken, both = merge_value([base.files.get(name, ABSENT) for base in bases], *sides)
            _set(files, name, taken)
            if both:
                clashes.append(Clash(field, *sides))
        if clashes:
            conflict = Conflict(profile_id, "changed", tuple(clashes))
            chosen = [self._choose(conflict, clash) for clash in clashes]
            if None in chosen:
                self.conflicts.append(conflict)
                return
            for clash, choice in zip(clashes, chosen, strict=True):
                _settle(value, files, clash, choice)
                self._note_settled(profile_id, clash.field, choice)
            if any(clash.field.startswith("browser.proxy") for clash in clashes):
                _refuse_unfit(profile_id, value.get("browser") or {})
        # As bytes: 1 == True in Python, and not in JSON.
        content = schema.dump(value)
        if content != schema.dump(ours.value):
            same = content == schema.dump(theirs.value)
            files[METADATA] = (
                theirs.files[METADATA] if same else schema.dump(schema.validate(value))
            )
            if len(files[METADATA]) > schema.MAX_BYTES:
                # Each side's fits into a file, what both have together does not.
                self._put_whole(profile_id, ours, theirs)
                return
        self._put_files(profile_id, ours, self._renewed(profile_id, files, ours.files))

    def _put_whole(self, profile_id: str, ours: State, theirs: State) -> None:
        """Files that cannot be merged: one side's, as a person says."""
        clash = Clash(METADATA, ABSENT, ABSENT)
        if self._side(Conflict(profile_id, "changed", (clash,))) != "theirs":
            return
        files = dict(theirs.files)
        assert theirs.value is not None
        here = ours.value or {"status": "inactive"}
        own = {field: here.get(field) for field in RUNTIME}
        if any(theirs.value.get(field) != own[field] for field in RUNTIME):
            files[METADATA] = schema.dump({**theirs.value, **own})
        self._put_files(profile_id, ours, self._renewed(profile_id, files, ours.files))

    def _renewed(
        self, profile_id: str, files: Mapping[str, bytes], ours: Mapping[str, bytes]
    ) -> dict[str, bytes]:
        theirs = self._theirs.profiles.get(profile_id, {})
        return self._seals.renewed(profile_id, files, ours, theirs)

    def _put_files(self, profile_id: str, ours: State, files: Mapping[str, bytes]) -> None:
        changed = False
        for name in {*ours.files, *files}:
            if ours.files.get(name) != files.get(name):
                self._change.put(profile_id, name, files.get(name))
                changed = True
        if changed:
            self.changed.append(profile_id)

    # What happens to directories

    def _create(self, profile_id: str, theirs: State) -> None:
        change, repository = self._change, self._repository
        other = self._other_case(profile_id)
        if other is not None:
            clash = Clash("profile_id", other, profile_id)
            if self._side(Conflict(profile_id, "case", (clash,))) != "theirs":
                return
            self._take_away(other)
        assert theirs.value is not None
        value = {**theirs.value, "status": "inactive", "lock_pid": None}
        files = dict(theirs.files)
        if theirs.value["status"] != "inactive" or theirs.value.get("lock_pid") is not None:
            files[METADATA] = schema.dump(value)
        files = self._renewed(profile_id, files, {})
        created = parse_time(theirs.value["created_at"])
        if directories.find_deleted(repository, profile_id, created) is not None:
            directories.bring_back(change, repository, profile_id, files)
        else:
            platform = str(theirs.value["platform"])
            directories.build(change, repository, profile_id, platform, files)
        self.created.append(profile_id)

    def _other_case(self, profile_id: str) -> str | None:
        here = [*self._change.profile_ids(), *self.created]
        folded = profile_id.lower()
        for name in here:
            if name != profile_id and name.lower() == folded and self._change.exists(name):
                return name
        return None

    def _take_away(self, profile_id: str) -> None:
        self._locks.refuse_in_use(profile_id)
        directories.take_away(self._change, self._repository, profile_id)
        self.deleted.append(profile_id)

    def _replace(self, profile_id: str, theirs: State) -> None:
        self._take_away(profile_id)
        self._create(profile_id, theirs)

    def _side(self, conflict: Conflict) -> Side | None:
        """Whose side a person chose for a whole profile; None if that is still to be said."""
        side = self._choose(conflict, None)
        if side in ("ours", "theirs"):
            what = conflict.kind if conflict.kind != "changed" else ", ".join(conflict.fields)
            self._note_settled(conflict.profile_id or "repository", what, side)
            return side
        self.conflicts.append(conflict)
        return None

    def _note_settled(self, profile_id: str, what: str, choice: Side | Chosen | None) -> None:
        chosen = "another value" if isinstance(choice, Chosen) else f"{choice}"
        self.settled.append(f"- in conflict: {profile_id} ({changes.shown_field(what)}): {chosen}")

    # What is of no profile

    def _put_root_files(self) -> None:
        self.recipients = parse(self._change.root_file(RECIPIENTS)), []
        bases = [_root_blobs(base) for base in self._bases]
        read = self._repository.reader.read
        mine = _root_blobs(self._change.head.root)
        for name in sorted({*self._theirs.root_files, *mine, *(n for base in bases for n in base)}):
            if name in _OWN_FILES:
                continue  # ours are what protects this machine
            before = [read(base[name], b"blob") if name in base else ABSENT for base in bases]
            ours = read(mine[name], b"blob") if name in mine else ABSENT
            theirs = self._theirs.root_files.get(name, ABSENT)
            if name == RECIPIENTS:
                taken: Any = merge_lines(before, ours, theirs)
            else:
                taken, clash = merge_value(before, ours, theirs)
                if clash:
                    conflict = Conflict("", "changed", (Clash(name, "ours", "theirs"),))
                    if self._side(conflict) == "theirs":
                        taken = theirs
            if taken != ours:
                self._change.put_root(name, None if taken is ABSENT else taken)
        merged = parse(self._change.root_file(RECIPIENTS))
        self.recipients = self.recipients[0], merged
        other = parse(self._theirs.root_files.get(RECIPIENTS))
        self._seals.plan(self.recipients[0], other, merged)
        if merged and merged != self.recipients[0]:
            ignore = self._change.root_file(".gitignore")
            if ignore is not None and SEALED_IS_TRACKED not in ignore.splitlines():
                added = ignore.rstrip(b"\n") + b"\n" + SEALED_IS_TRACKED + b"\n"
                self._change.put_root(".gitignore", added)


def _sealed_parts(state: State) -> dict[str, Any]:
    """What may be sealed in a profile."""
    parts: dict[str, Any] = {}
    if SESSION in state.files:
        parts[SESSION] = state.files[SESSION]
    if state.value is not None and _SEALED_MARK in state.files[METADATA]:
        parts |= {name: state.value[name] for name in _BY_KEY if name in state.value}
    return parts


def _with_parts(state: State, parts: Mapping[str, Any]) -> State:
    """A state with these in the place of its own."""
    files, value = dict(state.files), state.value
    if SESSION in parts:
        files[SESSION] = parts[SESSION]
    settings = {name: parts[name] for name in _BY_KEY if name in parts}
    if value is not None and any(value[name] != settings[name] for name in settings):
        value = {**value, **settings}
        files[METADATA] = schema.dump(value)
    return State(files, value)


def merge_lines(bases: Sequence[Any], ours: Any, theirs: Any) -> Any:
    """A file that is a set of lines: what either side added, without what either removed."""

    def lines(content: Any) -> list[bytes]:
        return [] if content is ABSENT else [line.strip() for line in content.splitlines()]

    if ours == theirs:
        return ours
    before = set.intersection(*(set(lines(base)) for base in bases)) if bases else set()
    mine, other = lines(ours), lines(theirs)
    gone = {line for line in before if line not in mine or line not in other}
    merged = [line for line in mine if line not in gone]
    merged += [line for line in other if line not in mine and line not in gone]
    if merged == mine:
        return ours
    if set(merged) == set(other):
        return theirs
    return b"".join(line + b"\n" for line in merged)


def _root_blobs(root: bytes) -> dict[str, bytes]:
    return {
        entry.name.decode("utf-8", "replace"): entry.id
        for entry in parse_tree(root)
        if entry.is_blob
    }


def _only_used(base: State, now: State) -> bool:
    """Whether a profile is as it was, but for having been used."""
    if base.value is None or now.value is None or base.created != now.created:
        return False
    if any(base.files.get(name) != now.files.get(name) for name in _WHOLE):
        return False
    return same_beside_runtime(base.value, now.value, beside=_NOISE)


def _clashes(bases: list[State], ours: State | None, theirs: State | None) -> tuple[Clash, ...]:
    """The fields of a profile that differ from what they were."""
    before = dict((bases[0].value or {}) if bases else {})
    if bases and ours is None:
        mine, other = before, dict((theirs.value if theirs else None) or {})
    elif bases and theirs is None:
        mine, other = dict((ours.value if ours else None) or {}), before
    else:
        mine = dict((ours.value if ours else None) or {})
        other = dict((theirs.value if theirs else None) or {})
    found = [
        Clash(field, mine.get(field, ABSENT), other.get(field, ABSENT))
        for field in dict.fromkeys([*mine, *other])
        if field not in _NOISE and mine.get(field) != other.get(field)
    ]
    side = ours or theirs
    if bases and side is not None:
        found += [
            Clash(field, ABSENT, ABSENT)
            for name, field in _WHOLE.items()
            if bases[0].files.get(name) != side.files.get(name)
        ]
    return tuple(found)


def _refuse_unfit(profile_id: str, browser: Mapping[str, Any]) -> None:
    if not fit_together(browser):
        raise InvalidMetadataError(
            f"{profile_id}: browser.proxy_password needs a proxy with a user; nothing was changed",
            hint="take proxy and proxy_password from the same side",
            field="browser",
        )


def _set(target: dict[str, Any], key: str, value: Any) -> None:
    if value is ABSENT:
        target.pop(key, None)
    else:
        target[key] = value


def _settle(
    value: dict[str, Any], files: dict[str, bytes], clash: Clash, choice: Side | Chosen | None
) -> None:
    """Put what was chosen for a field."""
    if isinstance(choice, Chosen):
        chosen = choice.value
    else:
        chosen = clash.ours if choice == "ours" else clash.theirs
    names = {field: name for name, field in _WHOLE.items()}
    if clash.field in names:
        if not isinstance(choice, Chosen):
            _set(files, names[clash.field], chosen)
        return
    field, dot, key = clash.field.partition(".")
    if dot and field in ("platform_config", "browser"):
        settings = dict(value.get(field) or {})
        _set(settings, key, chosen)
        _set(value, field, settings or ABSENT)
    else:
        _set(value, clash.field, chosen)


def conflict_error(conflicts: Sequence[Conflict]) -> MergeConflictError:
    """The error that names profiles and fields."""
    shown = []
    for conflict in conflicts[:5]:
        fields = changes.name_some(list(conflict.fields))
        what = conflict.kind if conflict.kind != "changed" else ""
        told = ": ".join(part for part in (what, fields) if part)
        shown.append(f"{conflict.profile_id or 'repository'} ({told})")
    more = f" and {len(conflicts) - 5} more" if len(conflicts) > 5 else ""
    return MergeConflictError(
        f"cannot merge {', '.join(shown)}{more}; nothing was changed",
        hint="run the command again with --ours, --theirs or --edit",
        conflicts=tuple(conflicts),
    )


def chooser(resolve: Resolution) -> Callable[[Conflict, Clash | None], Side | Chosen | None]:
    """What asks a resolution for its answer.

    Args:
        resolve: ``"ours"``, ``"theirs"``, None, or by profile and field (the empty text for a
            profile as a whole) one of the two or ``{"value": ...}``.
    """

    def choose(conflict: Conflict, clash: Clash | None) -> Side | Chosen | None:
        answer: Any = resolve
        if resolve is not None and not isinstance(resolve, str):
            answer = resolve.get(conflict.profile_id, {}).get(clash.field if clash else "")
        if isinstance(answer, dict) and "value" in answer:
            return Chosen(answer["value"])
        if answer in ("ours", "theirs"):
            return answer  # type: ignore[no-any-return]
        return None

    return choose
