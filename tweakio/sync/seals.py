"""What is encrypted on the two sides of a merge: compared by its content, and encrypted again.

Encrypting the same twice gives two different files, so two sides that each changed the recipients
would be in conflict over every session. And what a merge brings may be encrypted for somebody whom
the other side removed, or not for somebody whom it added. What it is for, said inside, stays as it
is: a merge never makes something of one place something of another.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from tweakio import references, schema
from tweakio.errors import InvalidMetadataError, NewerFormatError, TweakioError
from tweakio.store.worktree import METADATA
from tweakio.validation import SESSION
from tweakio.vault import binding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tweakio.vault.binding import Place

__all__ = ["Seals"]

_SETTINGS = ("platform_config", "browser")
_MARK = f'"{references.SEALED_PREFIX}'.encode()


class _Inside(NamedTuple):
    """What encrypted data is inside.

    Attributes:
        digest: of the content; None if it cannot be decrypted here.
        place: what it is for; None if it does not say so.
        counter: how new it is.
    """

    digest: bytes | None
    place: Place | None = None
    counter: int = 0

    def is_same(self, other: _Inside) -> bool:
        """Whether both are the same content for the same place, however often encrypted.

        One that says nothing yet and the same content with a header are the same: one side was
        the first to add it.
        """
        if self.digest is None or self.digest != other.digest:
            return False
        return None in (self.place, other.place) or self.place == other.place


class Seals:
    """What is encrypted, in one merge.

    Args:
        opener: gives what decrypts data, or None for what cannot be decrypted here; called
            when there is something to be decrypted.
        sealer: encrypts data for some recipients.
        rebound: what to encrypt for others, of a place, what was found there and the same
            decrypted; it raises if that does not belong there.
        confirmed: the recipients that this machine may seal for.

    Attributes:
        done: the profiles of which something was sealed anew.
        left: those of which something should be and cannot be opened here.
    """

    def __init__(
        self,
        opener: Callable[[], Callable[[bytes], bytes | None]],
        sealer: Callable[[bytes, Sequence[str]], bytes],
        rebound: Callable[[Place, bytes, bytes], bytes],
        confirmed: Sequence[str],
    ) -> None:
        self._make_opener = opener
        self._sealer = sealer
        self._rebound = rebound
        self._confirmed = confirmed
        self._known: dict[bytes, _Inside] = {}
        self._target: list[str] = []
        self._ours_due = self._theirs_due = False
        self.done: list[str] = []
        self.left: list[str] = []

    def plan(self, ours: Iterable[str], theirs: Iterable[str], merged: Sequence[str]) -> None:
        """Say who the recipients are.

        Args:
            ours: before the merge, here.
            theirs: there.
            merged: from now on. Those that are not confirmed here get nothing from here; what
                the other side sealed for them stays as it came.
        """
        self._target = [item for item in merged if item in self._confirmed]
        before, other = {*ours}, {*theirs}
        self._ours_due = not before <= {*merged} or not {*self._target} <= before
        self._theirs_due = not other <= {*merged} or not {*self._target} <= other

    @property
    def due(self) -> bool:
        """Whether anything may have to be sealed anew."""
        return self._ours_due or self._theirs_due

    @cached_property
    def _opener(self) -> Callable[[bytes], bytes | None]:
        return self._make_opener()

    # Comparing

    def _inside(self, value: Any) -> _Inside:
        """What an encrypted file, or an encrypted secret in settings, is inside."""
        try:
            sealed = references.sealed_bytes(value) if references.is_sealed(value) else value
        except TweakioError:
            return _Inside(None)
        if not isinstance(sealed, bytes):
            return _Inside(None)
        if sealed not in self._known:
            plain = self._opener(sealed)
            try:
                found = None if plain is None else binding.read(plain)
            except TweakioError:
                found = None
            self._known[sealed] = (
                _Inside(None)
                if found is None
                else _Inside(hashlib.sha256(found.content).digest(), found.place, found.counter)
            )
        return self._known[sealed]

    def _same(self, one: Any, other: Any) -> bool:
        return self._inside(one).is_same(self._inside(other))

    def align(self, ours: Any, theirs: Any, bases: Sequence[Any]) -> tuple[Any, list[Any]]:
        """Make what is the same inside look the same, where both sides sealed it anew.

        Where only one side did, it stays as it is: a merge takes that side, and both have the
        same afterwards. Where both did, the newer counts: a machine that has seen that would take
        the other one for something old.

        Args:
            ours: encrypted data, or JSON data with encrypted secrets; None if there is none.
            theirs: the same on the other side.
            bases: and at the common beginnings.

        Returns:
            What to compare ours with: theirs and the bases.
        """
        sides = [ours, theirs, *bases]
        if any(isinstance(side, dict) for side in sides):
            made = [dict(side) if isinstance(side, dict) else side for side in sides[1:]]
            for key in {key for side in sides if isinstance(side, dict) for key in side}:
                one, *rest = (side.get(key) if isinstance(side, dict) else None for side in sides)
                other, before = self.align(one, rest[0], rest[1:])
                for side, value in zip(made, [other, *before], strict=True):
                    if isinstance(side, dict) and key in side:
                        side[key] = value
            return made[0], made[1:]
        if bases and any(all(b == side for b in bases) for side in (ours, theirs)):
            return theirs, list(bases)
        if self._same(ours, theirs):
            if bases and self._inside(theirs).counter > self._inside(ours).counter:
                return theirs, [ours for _ in bases]
            return ours, [ours if self._same(ours, b) else b for b in bases]
        return (
            theirs,
            [
                ours if self._same(ours, b) else theirs if self._same(theirs, b) else b
                for b in bases
            ],
        )

    # Sealing anew

    def renewed(
        self,
        profile_id: str,
        files: Mapping[str, bytes],
        ours: Mapping[str, bytes],
        theirs: Mapping[str, bytes],
    ) -> dict[str, bytes]:
        """A profile's merged files, with what has to be sealed anew.

        Args:
            profile_id: whose.
            files: as they were merged.
            ours: as they are here.
            theirs: as they came.
        """
        found = dict(files)
        if not self.due:
            return found
        if SESSION in found and self._is_due(
            found[SESSION] == ours.get(SESSION), found[SESSION] == theirs.get(SESSION)
        ):
            place = _session_place(profile_id, found.get(METADATA, b""))
            sealed = None if place is None else self._sealed_anew(place, found[SESSION])
            if sealed is None:
                self._note(self.left, profile_id)
            else:
                found[SESSION] = sealed
                self._note(self.done, profile_id)
        if _MARK in found.get(METADATA, b""):
            sides = ours.get(METADATA, b""), theirs.get(METADATA, b"")
            found[METADATA] = self._settings_anew(profile_id, found[METADATA], *sides)
        return found

    def _settings_anew(self, profile_id: str, content: bytes, ours: bytes, theirs: bytes) -> bytes:
        def anew(item: Any, key: str) -> Any:
            if isinstance(item, dict):
                return {name: anew(below, f"{key}.{name}") for name, below in item.items()}
            if isinstance(item, list):
                return [anew(below, key) for below in item]
            if not references.is_sealed(item):
                return item
            text = f'"{item}"'.encode()
            if not self._is_due(text in ours, text in theirs):
                return item
            try:
                place = binding.setting(profile_id, value["created_at"], key)
                sealed = self._sealed_anew(place, references.sealed_bytes(item))
            except TweakioError:
                sealed = None
            self._note(self.left if sealed is None else self.done, profile_id)
            return item if sealed is None else references.as_sealed(sealed)

        try:
            value = schema.load(content, profile_id)
        except (InvalidMetadataError, NewerFormatError):
            return content
        settings = {name: anew(value[name], name) for name in _SETTINGS if value.get(name)}
        if all(settings[name] == value[name] for name in settings):
            return content
        return schema.dump({**value, **settings})

    def _is_due(self, in_ours: bool, in_theirs: bool) -> bool:  # noqa: FBT001 - of two sides
        """Whether what stands on these sides has to be sealed anew."""
        if not in_ours and not in_theirs:
            return True  # a person wrote it, to settle a conflict
        return (in_ours and self._ours_due) or (in_theirs and self._theirs_due)

    def _sealed_anew(self, place: Place, sealed: bytes) -> bytes | None:
        """For who are recipients now; None for what cannot be decrypted or belongs elsewhere."""
        plain = self._opener(sealed) if self._target else None
        if plain is None:
            return None
        try:
            return self._sealer(self._rebound(place, sealed, plain), self._target)
        except TweakioError:
            return None

    @staticmethod
    def _note(names: list[str], profile_id: str) -> None:
        if profile_id not in names:
            names.append(profile_id)


def _session_place(profile_id: str, metadata: bytes) -> Place | None:
    """The place of a profile's session; None if its metadata cannot be read."""
    try:
        return binding.session(profile_id, schema.load(metadata, profile_id)["created_at"])
    except (InvalidMetadataError, NewerFormatError):
        return None
