"""What every public operation does, if one runs after the other: pure Python, no I/O.

``test_stateful.py`` drives the library and this side by side in one process; the campaign in
``concurrency/`` replays what many processes did against it. Each operation returns the change
that it commits, None if it commits nothing, or raises the class of error that the library does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tweakio.errors import (
    LockTimeoutError,
    NothingToRedoError,
    NothingToUndoError,
    ProfileActiveError,
    ProfileCorruptedError,
    ProfileExistsError,
    ProfileNotFoundError,
    RevisionNotFoundError,
    TrashEntryNotFoundError,
)

__all__ = ["Change", "Entry", "Holder", "Metadata", "Model", "Row"]

Metadata = dict[str, Any]
"""As metadata.json has it; never changed in place."""


class Holder(NamedTuple):
    """Who can hold profiles: one manager of one process."""

    name: str
    pid: int


@dataclass(eq=False)
class Entry:
    """One of the trash or of the rescued.

    Attributes:
        kind: ``deleted``, ``reset`` or ``damaged``.
        data: whatever stands for the session and browser data.
    """

    kind: str
    profile: str
    metadata: Metadata
    data: Any


@dataclass(eq=False)
class Change:
    """One commit.

    Attributes:
        profiles: those that it names.
        before: what the profiles that it changed were; None if there was no such profile.
        after: what they are.
        kept: what it put into the trash.
        target: of an undo or a redo: the change that was taken back or done again.
    """

    operation: str
    profiles: frozenset[str] = frozenset()
    before: dict[str, Metadata | None] = field(default_factory=dict)
    after: dict[str, Metadata | None] = field(default_factory=dict)
    kept: list[Entry] = field(default_factory=list)
    target: Change | None = None


class Row(NamedTuple):
    """A profile as ``list_profiles`` shows it; of a corrupted one only the state is known."""

    status: str
    in_use: bool
    lock_pid: int | None
    metadata: Metadata | None


def merged(value: Metadata, **changes: Any) -> Metadata:
    """Metadata with some fields changed, and without those that are None."""
    return {key: item for key, item in {**value, **changes}.items() if item is not None}


class Model:
    """The state of one home, and every operation on it.

    Attributes:
        profiles: what HEAD has.
        damaged: those whose metadata.json in the work tree is not readable.
        held: the profiles whose lock a live holder has.
        current: what each holder activated last.
        data: what stands for the session and browser data of each profile.
        trash: the oldest first.
        history: the oldest first.
        undos: what can be undone, the next at the end, each with the change that last had its
            effect: itself or a redo.
        redos: what can be done again, likewise, each with the undo.
    """

    def __init__(self) -> None:
        self.profiles: dict[str, Metadata] = {}
        self.damaged: set[str] = set()
        self.held: dict[str, Holder] = {}
        self.current: dict[Holder, str] = {}
        self.data: dict[str, Any] = {}
        self.trash: list[Entry] = []
        self.history: list[Change] = []
        self.undos: list[tuple[Change, Change]] = []
        self.redos: list[tuple[Change, Change]] = []

    # Reading

    def rows(self) -> dict[str, Row]:
        """What ``list_profiles`` shows."""
        return {name: self.row(name) for name in sorted(self.profiles)}

    def row(self, name: str) -> Row:
        """What ``get_profile`` shows."""
        value = self._existing(name)
        holder = self.held.get(name)
        pid = holder.pid if holder else None
        if name in self.damaged:
            return Row("corrupted", holder is not None, pid, None)
        # Whose holder died is not active any more, whatever HEAD says until the next change.
        dead = "lock_pid" in value and holder is None
        return Row("inactive" if dead else value["status"], holder is not None, pid, value)

    # Operations

    def create(
        self, names: list[str], now: str, *, note: str = "", tags: tuple[str, ...] = ()
    ) -> Change | None:
        taken = {name.lower() for name in self.profiles}
        if any(name.lower() in taken for name in names):
            raise ProfileExistsError("exists")
        draft = Draft(self, "create")
        for name in names:
            value: Metadata = {
                "profile_id": name,
                "platform": "custom",
                "created_at": now,
                "last_used": now,
                "status": "inactive",
                "tags": sorted({*tags}),
                "note": note,
                "schema_version": 1,
            }
            draft.build(name, value, None)
        return draft.commit()

    def activate(self, by: Holder, name: str, now: str) -> Change | None:
        if self.held.get(name) == by and self.current.get(by) == name:
            return None
        change = self._switch(by, name, by.pid, now)
        self.held[name] = by
        self.current[by] = name
        return change

    def select(self, by: Holder, name: str, now: str) -> Change | None:
        self._existing(name)
        if self.held.get(name) == by:
            raise ProfileActiveError("active here")
        return self._switch(by, name, None, now)

    def deactivate(self, by: Holder) -> list[Change]:
        selected = (
            name for name, row in self.rows().items() if row.status == "active" and not row.in_use
        )
        names = self._held_by(by) or [*selected][:1]
        return [change for name in names if (change := self._deactivate(by, name))]

    def close(self, by: Holder) -> list[Change]:
        return [change for name in self._held_by(by) if (change := self._deactivate(by, name))]

    def die(self, by: Holder) -> None:
        """A kill -9: its locks are free, and nothing is written down."""
        for name in self._held_by(by):
            self._let_go(name)

    def delete(
        self, by: Holder, names: list[str], *, force: bool = False, purge: bool = False
    ) -> Change | None:
        draft = Draft(self, "delete")
        for name in names:
            row = self.row(name)
            own = force and self.held.get(name) == by
            if not own and (row.in_use or (row.status == "active" and not force)):
                raise ProfileActiveError("active")
            draft.take_away(name, purge=purge)
        change = draft.commit()
        for name in names:
            if self.held.get(name) == by:
                self._let_go(name)
        return change

    def update(
        self,
        names: list[str],
        *,
        note: str | None = None,
        add: tuple[str, ...] = (),
        remove: tuple[str, ...] = (),
    ) -> Change | None:
        draft = Draft(self, "set")
        for name in names:
            value = self._healthy(name)
            tags = sorted(({*value["tags"]} | {*add}) - {*remove})
            draft.put(name, merged(value, tags=tags, note=value["note"] if note is None else note))
        return draft.commit()

    def recover(self, by: Holder, name: str, mode: str = "soft") -> Change | None:
        value = self._existing(name)
        damaged = name in self.damaged
        draft = Draft(self, f"recover-{mode}")
        if mode == "soft" and not damaged:
            return None
        if mode == "hard":
            self._refuse_in_use(name, by)
        holder = self.held.get(name)
        if damaged and value["status"] == "active" and holder is None:
            value = merged(value, status="inactive")
        draft.keep_damaged(name)
        if mode == "hard":
            draft.reset(name, None)
        draft.put(name, merged(value, lock_pid=holder.pid if holder else None))
        return draft.commit(always=True)

    def undo(self, by: Holder) -> Change | None:
        if not self.undos:
            raise NothingToUndoError("nothing")
        target, last = self.undos[-1]
        draft = Draft(self, "undo", target)
        self._invert(draft, by, target, last)
        return draft.commit(always=True)

    def redo(self, by: Holder) -> Change | None:
        if not self.redos:
            raise NothingToRedoError("nothing")
        target, last = self.redos[-1]
        draft = Draft(self, "redo", target)
        self._invert(draft, by, target, last)
        return draft.commit(always=True)

    def restore(self, name: str, then: Metadata | None) -> Change | None:
        """Bring a profile to what a revision has of it."""
        if then is None:
            raise RevisionNotFoundError("not in it")
        now = self.profiles.get(name)
        draft = Draft(self, "restore")
        if now is not None and now["created_at"] == then["created_at"]:
            kept = draft.keep_damaged(name)
            state = {key: now.get(key) for key in ("status", "lock_pid", "last_used")}
            draft.put(name, merged(then, **state))
            return draft.commit(always=kept)
        if now is not None:
            self._refuse_in_use(name)
            draft.take_away(name)
        draft.bring_back(name, merged(then, status="inactive", lock_pid=None))
        return draft.commit()

    def restore_from_trash(self, by: Holder, entry: Entry) -> Change | None:
        name = entry.profile
        if entry not in self.trash:
            raise TrashEntryNotFoundError("no entry")
        if entry.kind == "damaged":
            raise ProfileCorruptedError("bytes of a file only")
        draft = Draft(self, "restore")
        if entry.kind == "reset":
            value = self._existing(name)
            if value["created_at"] != entry.metadata["created_at"]:
                raise ProfileExistsError("another profile by now")
            self._refuse_in_use(name, by)
            draft.reset(name, entry)
            draft.put(name, value)
        else:
            if name.lower() in {other.lower() for other in self.profiles}:
                raise ProfileExistsError("exists")
            draft.bring_back(
                name, merged(entry.metadata, status="inactive", lock_pid=None), [entry]
            )
        return draft.commit(always=True)

    def purge_trash(self, entry: Entry | None = None) -> None:
        if entry is None:
            self.trash.clear()
        elif entry in self.trash:
            self.trash.remove(entry)
        else:
            raise TrashEntryNotFoundError("no entry")

    def commit_beside(self) -> Change:
        """A person's ``git commit --allow-empty``, which an undo takes back like any other."""
        return self._record(Change("commit"))

    # What they are made of

    def _existing(self, name: str) -> Metadata:
        if name not in self.profiles:
            raise ProfileNotFoundError("no such profile")
        return self.profiles[name]

    def _healthy(self, name: str) -> Metadata:
        value = self._existing(name)
        if name in self.damaged:
            raise ProfileCorruptedError("damaged")
        return value

    def _held_by(self, by: Holder) -> list[str]:
        return sorted(name for name, holder in self.held.items() if holder == by)

    def _refuse_in_use(self, name: str, own: Holder | None = None) -> None:
        if name in self.held and self.held[name] != own:
            raise ProfileActiveError("in use")

    def _let_go(self, name: str) -> None:
        holder = self.held.pop(name)
        if self.current.get(holder) == name:
            del self.current[holder]

    def _switch(self, by: Holder, name: str, pid: int | None, now: str) -> Change | None:
        self._existing(name)
        if self.held.get(name, by) != by:
            raise LockTimeoutError("held")
        value = self._healthy(name)
        left = [
            other
            for other, found in self.profiles.items()
            if other != name
            and found["status"] == "active"
            and other not in self.damaged
            and self.held.get(other, by) == by
        ]
        selected = value["status"] == "active" and "lock_pid" not in value
        if selected and pid is None and not left:
            return None
        draft = Draft(self, "activate", locks=name)
        draft.put(name, merged(value, status="active", lock_pid=pid, last_used=now))
        for other in left:
            draft.put(other, merged(self.profiles[other], status="inactive", lock_pid=None))
        change = draft.commit()
        for other in left:
            if other in self.held:
                self._let_go(other)
        return change

    def _deactivate(self, by: Holder, name: str) -> Change | None:
        value = self.profiles.get(name)
        change = None
        if (
            value is not None
            and value["status"] == "active"
            and name not in self.damaged
            and self.held.get(name, by) == by
        ):
            draft = Draft(self, "deactivate")
            draft.put(name, merged(value, status="inactive", lock_pid=None))
            change = draft.commit()
        if self.held.get(name) == by:
            self._let_go(name)
        return change

    def _invert(self, draft: Draft, by: Holder, target: Change, last: Change) -> None:
        """Put the opposite of a change; what an undo wrote down besides is not its business."""
        names = {*last.before} if last is target else {*last.before} & {*target.before}
        resets = {
            entry.profile: entry
            for entry in last.kept
            if entry.kind == "reset" and entry in self.trash
        }
        for name in names | resets.keys():
            existed = name in self.profiles
            self._invert_profile(draft, by, name, last)
            if name in resets and existed:
                self._refuse_in_use(name, by)
                draft.reset(name, resets[name])
                draft.put(name, draft.profiles[name])
        # Of what is held here and was taken away or deactivated, the lock goes too.
        draft.lose = by

    def _invert_profile(self, draft: Draft, by: Holder, name: str, last: Change) -> None:
        same = self.profiles.get(name)
        old, new = last.before.get(name, same), last.after.get(name, same)
        now = self.profiles.get(name)
        if old is None:
            if now is not None:
                self._refuse_in_use(name)
                draft.take_away(name)
        elif now is None:
            draft.bring_back(name, merged(old, lock_pid=None), last.kept)
        elif new is None:
            pass  # something brought it back since
        elif new["created_at"] != old["created_at"] and any(
            entry.profile == name for entry in last.kept
        ):
            self._refuse_in_use(name)
            draft.take_away(name)
            draft.bring_back(name, merged(old, lock_pid=None), last.kept)
        elif old != new:
            fields = {
                key: old.get(key)
                for key in {*old, *new} - {"lock_pid"}
                if old.get(key) != new.get(key)
            }
            if "status" in fields:
                self._refuse_in_use(name, by)
            value = merged(now, **fields)
            if name not in self.held or value["status"] != "active":
                value = merged(value, lock_pid=None)
            draft.put(name, value)

    def _record(self, change: Change) -> Change:
        self.history.append(change)
        if change.operation == "undo":
            target, _ = self.undos.pop()
            self.redos.append((target, change))
        elif change.operation == "redo":
            target, _ = self.redos.pop()
            self.undos.append((target, change))
        else:
            self.undos.append((change, change))
            self.redos.clear()
        return change


class Draft:
    """A change that is being collected; nothing of the model changes before ``commit``."""

    def __init__(
        self, model: Model, operation: str, target: Change | None = None, locks: str = ""
    ) -> None:
        self.model = model
        self.locks = locks  # whom it holds for the moment
        self.operation = operation
        self.target = target
        self.profiles = dict(model.profiles)
        self.data = dict(model.data)
        self.trash = list(model.trash)
        self.mended: set[str] = set()
        self.named: set[str] = set()
        self.kept: list[Entry] = []
        self.lose: Holder | None = None

    def put(self, name: str, value: Metadata) -> None:
        self.profiles[name] = value
        self.named.add(name)

    def build(self, name: str, value: Metadata, data: Any) -> None:
        self.put(name, value)
        self.data[name] = data
        self.mended.add(name)

    def take_away(self, name: str, *, purge: bool = False) -> None:
        self._keep("deleted", name, purge=purge)
        del self.profiles[name]
        self.data.pop(name, None)
        self.named.add(name)
        self.mended.add(name)

    def bring_back(self, name: str, value: Metadata, prefer: list[Entry] | None = None) -> None:
        found = [entry for entry in self.trash if entry.kind == "deleted" and entry.profile == name]
        named = [entry for entry in found if entry in (prefer or ())]
        same = [entry for entry in found if entry.metadata["created_at"] == value["created_at"]]
        entry = (named or same or [None])[-1]
        if entry is not None:
            self.trash.remove(entry)
        self.build(name, value, entry.data if entry is not None else None)

    def reset(self, name: str, back: Entry | None) -> None:
        self._keep("reset", name)
        if back is not None:
            self.trash.remove(back)
        self.data[name] = back.data if back is not None else None

    def keep_damaged(self, name: str) -> bool:
        if name not in self.model.damaged:
            return False
        self._keep("damaged", name)
        self.mended.add(name)
        return True

    def _keep(self, kind: str, name: str, *, purge: bool = False) -> None:
        entry = Entry(kind, name, self.model.profiles[name], self.data.get(name))
        self.kept.append(entry)
        if not purge:
            self.trash.append(entry)

    def commit(self, *, always: bool = False) -> Change | None:
        """Make it the model's state; None if nothing differs."""
        model = self.model
        if self.named or always:
            for name, value in model.profiles.items():
                # Whose holder died; every change writes that down.
                if (
                    value["status"] == "active"
                    and "lock_pid" in value
                    and name not in {*model.held, self.locks}
                    and self.profiles.get(name, {}).get("status") == "active"
                ):
                    self.put(name, merged(self.profiles[name], status="inactive", lock_pid=None))
        changed = {
            name
            for name in {*model.profiles, *self.profiles}
            if model.profiles.get(name) != self.profiles.get(name)
        }
        if not changed and not always:
            return None
        change = Change(
            self.operation,
            frozenset(self.named),
            {name: model.profiles.get(name) for name in changed},
            {name: self.profiles.get(name) for name in changed},
            self.kept,
            self.target,
        )
        model.profiles, model.data, model.trash = self.profiles, self.data, self.trash
        model.damaged -= self.mended
        if self.lose is not None:
            for name in model._held_by(self.lose):
                active = model.profiles.get(name, {}).get("status") == "active"
                if not active and name not in model.damaged:
                    model._let_go(name)
        return model._record(change)
