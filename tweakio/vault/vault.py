"""The vault: how a team's or a second machine's sessions are encrypted, and decrypted again."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from tweakio import changes, directories, durable, references, schema, trust
from tweakio.errors import (
    HomeNotFoundError,
    InvalidInputError,
    InvalidMetadataError,
    NewerFormatError,
    ProfileNotFoundError,
    RecipientError,
    StorageError,
    TweakioError,
    VaultError,
    in_the_tree,
    run,
    storage_error,
)
from tweakio.store.worktree import METADATA, SEALED
from tweakio.vault import age, binding, confirmed, counters, identity, sealing, using
from tweakio.vault.recipients import RECIPIENTS, dump, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from tweakio.layout import Layout
    from tweakio.store.locks import ProfileLockManager
    from tweakio.store.repository import Repository
    from tweakio.store.transaction import Transaction
    from tweakio.vault.binding import Place

__all__ = ["Examined", "RecipientsChange", "Vault", "VaultStatus"]

log = logging.getLogger(__name__)

_IGNORE = ".gitignore"
_SETTINGS = ("platform_config", "browser")
_TRACKED_LINE = b"!/*/session.json.age\n"


class VaultStatus(NamedTuple):
    """What a vault is like on this machine.

    Attributes:
        exists: whether there is one.
        recipients: who can open what is sealed.
        identity: where this machine's identity is; empty if it has none.
        protected: whether that needs a passphrase.
        is_recipient: whether it is one of the recipients; None if that cannot be told without
            the passphrase, or of an ssh key.
        sealed: the profiles whose session is sealed in history.
        missing: those of them that have no session here yet.
        unconfirmed: the recipients that nobody confirmed here, so that this machine seals
            nothing for them.
    """

    exists: bool
    recipients: list[str]
    identity: str
    protected: bool
    is_recipient: bool | None
    sealed: list[str]
    missing: list[str]
    unconfirmed: list[str]


class Examined(NamedTuple):
    """What was found of everything encrypted that can be decrypted without a question.

    Attributes:
        problems: profiles, each with what must not be used there and why.
        unbound: profiles of which something is known here and does not say what it is for yet;
            ``Vault.reseal`` changes that.
    """

    problems: list[tuple[str, str]]
    unbound: list[str]


class RecipientsChange(NamedTuple):
    """A vault whose recipients are others now.

    Attributes:
        recipients: all of them.
        sealed: the profiles that were sealed anew.
        left: those that nobody here can open; they are sealed for whom they were.
        unconfirmed: the recipients that nothing was sealed for, as nobody confirmed them here.
        secrets: what was sealed anew in settings: profiles, each with the path of a secret,
            such as ``browser.proxy_password``.
    """

    recipients: list[str]
    sealed: list[str]
    left: list[str]
    unconfirmed: list[str]
    secrets: list[tuple[str, str]]


@in_the_tree
class Vault:
    """Seals the sessions of one home's profiles, and opens them.

    A vault exists when HEAD has ``.age-recipients`` with a recipient in it. Sealing needs the
    recipients only; opening needs an identity. Who loses that loses the sealed sessions, and no
    profile. A recipient that came from elsewhere gets nothing from here until
    ``add_recipients`` confirms it.

    Args:
        layout: the home.
        existing: gives its repository, None if there is none.
        make: gives its repository, made if it is missing.
        locks: tells which profiles are in use.
        name: makes what the history says ran of a method's name.

    Attributes:
        ask_passphrase: asks a person for the identity's passphrase; None if nobody is there.
    """

    def __init__(
        self,
        layout: Layout,
        existing: Callable[[], Repository | None],
        make: Callable[[], Repository],
        locks: ProfileLockManager,
        name: Callable[[str], str],
    ) -> None:
        self._layout = layout
        self._existing = existing
        self._make = make
        self._locks = locks
        self._name = name
        self._opened: dict[bytes, str] = {}
        self.ask_passphrase: Callable[[], str] | None = None

    # What is there

    def recipients(self) -> list[str]:
        """Who can open what is sealed; empty if there is no vault."""
        repository = self._existing()
        return [] if repository is None else parse(_root_file(repository))

    def confirmed(self) -> list[str]:
        """The recipients that this machine seals for; empty if there is no vault.

        Raises:
            VaultError: there is a vault, and none of its recipients is confirmed here.
        """
        listed = self.recipients()
        found = confirmed.among(self._layout, listed)
        if listed:
            confirmed.require(found)
        return found

    def identities(self, *, ask: bool = True) -> list[str]:
        """The contents of this machine's identity files, for ``age.unseal``.

        Args:
            ask: whether a person may be asked for a passphrase.

        Raises:
            VaultError: there is none, or its passphrase is not known.
        """
        stored = identity.find(self._layout, self.recipients())
        if stored is None:
            raise VaultError(
                "this machine has no identity",
                hint=f"run 'tweakio vault init', or name one in {identity.VARIABLE}",
            )
        if not stored.protected:
            return [stored.content.decode("utf-8", "replace")]
        if stored.content not in self._opened:
            if not ask or self.ask_passphrase is None:
                raise VaultError(
                    "the identity is protected by a passphrase",
                    hint="run it at a terminal, which asks for it",
                )
            opened = age.unseal_passphrase(stored.content, self.ask_passphrase())
            self._opened[stored.content] = opened.decode("utf-8", "replace")
        return [self._opened[stored.content]]

    def is_open(self) -> bool:
        """Whether nobody needs to be asked for a passphrase, or there is nothing to be opened."""
        try:
            stored = identity.find(self._layout, self.recipients())
        except VaultError:
            return True  # whoever needs it is told why
        return stored is None or not stored.protected or stored.content in self._opened

    def status(self) -> VaultStatus:
        """What there is; nobody is asked and nothing is opened.

        A key ring that gives no answer is waited for, and then said in the log.
        """
        recipients = self.recipients()
        stored, place = None, ""
        try:
            stored = identity.find(self._layout, recipients)
        except VaultError as error:
            log.warning("%s (%s)", error.message, error.hint)
            place = identity.KEY_RING if identity.was_in_key_ring(self._layout) else ""
        is_recipient = None
        if stored is not None and not stored.protected and age.is_available():
            own = age.identity_recipients(stored.content.decode("utf-8", "replace"))
            is_recipient = bool({*own} & {*recipients}) if own else None
        repository = self._existing()
        sealed = [] if repository is None else _sealed_profiles(repository)
        return VaultStatus(
            bool(recipients),
            recipients,
            stored.place if stored is not None else place,
            stored is not None and stored.protected,
            is_recipient,
            sealed,
            [name for name in sealed if self._session(name) is None],
            self._unconfirmed(recipients),
        )

    def _unconfirmed(self, recipients: Sequence[str]) -> list[str]:
        known = confirmed.among(self._layout, recipients)
        return [item for item in recipients if item not in known]

    def _session(self, profile_id: str) -> bytes | None:
        return sealing.read_session(self._layout.profile(profile_id).session)

    # Making it, and its recipients

    def init(self, *, passphrase: str | None = None, in_file: bool = False) -> RecipientsChange:
        """Make a vault, or this machine a recipient of the one that there is.

        An identity that is here already is used. A new one goes into the system's key ring where
        there is one, else into the file ``identity`` of the home.

        Args:
            passphrase: protects a new identity, which is kept in the file then.
            in_file: use the file even if there is a key ring.

        Raises:
            VaultError: the identity that is here cannot be used, or the key ring that has it or
                may have it gives no answer.
            InvalidInputError: a passphrase was given for an identity that is here already.
        """
        self._make()
        stored = identity.find(self._layout, self.recipients(), required=not in_file)
        if stored is None:
            recipient, in_key_ring = self._make_identity(passphrase, in_file=in_file)
        else:
            in_key_ring = stored.place == identity.KEY_RING
            if passphrase is not None:
                self.refuse_another_identity(in_file=in_file)
            own = age.identity_recipients(self.identities()[0])
            if not own:
                raise VaultError(
                    "the recipient of an ssh key is in its .pub file",
                    hint="run 'tweakio vault recipients add' with that line",
                )
            recipient = own[0]
        return self._add([recipient], "vault-init", "init", in_key_ring=in_key_ring)

    def refuse_another_identity(self, *, in_file: bool = False) -> None:
        """Say early that a new passphrase would be for nothing.

        Args:
            in_file: as for ``init``.

        Raises:
            InvalidInputError: there is an identity already.
            VaultError: the key ring, which may have one, gives no answer.
        """
        stored = identity.find(self._layout, self.recipients(), required=not in_file)
        if stored is not None:
            raise InvalidInputError(
                f"there is an identity already: {stored.place}",
                hint="run it without a passphrase, or move that one away",
            )

    def _make_identity(self, passphrase: str | None, *, in_file: bool) -> tuple[str, bool]:
        """A new identity's recipient, and whether the key ring has it."""
        secret, recipient = age.generate_identity()
        content = f"# public key: {recipient}\n{secret}\n"
        if passphrase is not None:
            sealed = age.seal_passphrase(content.encode(), passphrase)
            identity.keep_in_file(self._layout, sealed)
            self._opened[sealed] = content
        elif not in_file and identity.keep_in_key_ring(self._layout, content, recipient):
            return recipient, True
        else:
            identity.keep_in_file(self._layout, content.encode())
        return recipient, False

    def add_recipients(self, recipients: Sequence[str]) -> RecipientsChange:
        """Let others open what is sealed, by sealing all of it anew, as one commit.

        What this machine cannot open stays as it is. Adding one that is in the list already, as
        it came from elsewhere, confirms it.

        Args:
            recipients: ``age1...``, ``ssh-ed25519 ...`` or ``ssh-rsa ...``.

        Raises:
            RecipientError: one of them is none.
            VaultError: there is no vault.
        """
        self._require()
        return self._add(recipients, "vault-recipients", "recipients add")

    def reseal(self) -> RecipientsChange:
        """Seal all that can be opened here anew for the confirmed recipients, as one commit.

        After a merge that took place where it could not be opened, or by git alone.

        Raises:
            VaultError: there is no vault, or no recipient is confirmed.
        """
        self._require()
        return self._add([], "vault-recipients", "reseal")

    def _add(
        self,
        recipients: Sequence[str],
        operation: str,
        what: str,
        *,
        in_key_ring: bool | None = None,
    ) -> RecipientsChange:
        added = [age.check_recipient(item) for item in recipients]
        repository = self._repository()
        if parse(_root_file(repository)):
            self.is_open()  # a key ring that does not answer is not waited for with the lock
        with changes.begin(
            repository,
            self._locks,
            operation,
            _sealed_profiles(repository),
            command=self._name(f"vault.{what}"),
        ) as change:
            change.rebasable = False
            if in_key_ring is not None:
                identity.note_place(self._layout, added[0], in_key_ring=in_key_ring)
            before = parse(change.root_file(RECIPIENTS))
            known = confirmed.among(self._layout, before)
            after = list(dict.fromkeys([*before, *added]))
            if operation == "vault-init" and {*added} <= {*known}:
                return RecipientsChange(before, [], [], self._unconfirmed(before), [])
            known = [item for item in after if item in known or item in added]
            confirmed.require(known)
            done, left, secrets = self._seal_anew(change, repository, known)
            ignore = change.root_file(_IGNORE)
            if ignore is not None and _TRACKED_LINE not in ignore:
                change.put_root(_IGNORE, ignore.rstrip(b"\n") + b"\n" + _TRACKED_LINE)
            if after != before:
                change.put_root(RECIPIENTS, dump(after))
            shown = changes.name_some([_short(item) for item in added or known])
            adding = "add" if {*after} - {*before} else "confirm" if added else ""
            change.summary = (
                f"vault: {adding if before and adding else 'seal sessions for'} {shown}"
            )
            # Before the commit: a note alone gives nobody anything.
            confirmed.note(self._layout, known)
        return RecipientsChange(after, done, left, self._unconfirmed(after), secrets)

    def remove_recipient(self, recipient: str) -> RecipientsChange:
        """Seal nothing more for a recipient, and all that is sealed anew, as one commit.

        History still has what was sealed before, and whoever was removed can go on opening that:
        only new logins make it worthless.

        Args:
            recipient: one of the vault's, in full.

        Raises:
            RecipientError: it is not one of them, or the only one.
            VaultError: there is no vault, or something in it cannot be opened here.
        """
        self._require()
        wanted = age.check_recipient(recipient)
        repository = self._repository()
        with changes.begin(
            repository,
            self._locks,
            "vault-recipients",
            _sealed_profiles(repository),
            command=self._name("vault.recipients remove"),
        ) as change:
            change.rebasable = False
            before = parse(change.root_file(RECIPIENTS))
            if wanted not in before:
                raise RecipientError(
                    f"{_short(wanted)} is not a recipient",
                    hint="run 'tweakio vault recipients list'",
                )
            after = [item for item in before if item != wanted]
            if not after:
                raise RecipientError(
                    "it is the only recipient", hint="add another one first, or keep it"
                )
            known = confirmed.among(self._layout, after)
            confirmed.require(known)
            done, left, secrets = self._seal_anew(change, repository, known)
            if left:
                raise VaultError(
                    f"no identity here opens the session of {changes.name_some(left)}",
                    hint="have it done where all of them can be opened",
                )
            change.put_root(RECIPIENTS, dump(after))
            change.summary = f"vault: remove {_short(wanted)}"
            # Before the commit: else a kill in between would leave it confirmed, in case that
            # somebody puts it into the list again.
            confirmed.note(self._layout, known)
        return RecipientsChange(after, done, [], self._unconfirmed(after), secrets)

    def _seal_anew(
        self, change: Transaction, repository: Repository, recipients: Sequence[str]
    ) -> tuple[list[str], list[str], list[tuple[str, str]]]:
        """Put everything into a change sealed for these.

        Returns:
            The profiles whose session was, those of which something cannot be opened, and the
            secrets in settings that were.
        """
        done, left, secrets = [], [], []
        trust.prepare_locked(repository)
        keys: list[str] | None = None
        for profile_id in change.profile_ids():
            files = repository.files_at(change.head.root, profile_id) or {}
            blob = files.get(SEALED)
            content = self._session(profile_id) if blob is None else None
            if blob is not None:
                if keys is None:
                    keys = self._identities_or_none()
                renewed = self._renewed(
                    _session_place(repository, change.head.root, profile_id),
                    repository.reader.read(blob, b"blob"),
                    keys,
                    recipients,
                )
                if renewed is not None:
                    sealing.put_sealed(change, repository, profile_id, renewed)
                    done.append(profile_id)
                elif self._session(profile_id) is None:
                    left.append(profile_id)
                else:
                    # Whoever lost the identity still has what is logged in here.
                    content = self._session(profile_id)
            place = _session_place(repository, change.head.root, profile_id)
            if content is not None and place is not None:
                sealed = sealing.encrypted(change, repository, place, content, recipients)
                sealing.put_sealed(change, repository, profile_id, sealed)
                done.append(profile_id)
            paths = self._seal_settings_anew(change, profile_id, recipients)
            if paths is None:
                left.append(profile_id)
            else:
                secrets += [(profile_id, path) for path in paths]
        return done, sorted({*left}), secrets

    def _renewed(
        self,
        place: Place | None,
        sealed: bytes,
        keys: Sequence[str],
        recipients: Sequence[str],
    ) -> bytes | None:
        """Something encrypted for other recipients; None if it cannot or must not be.

        What belongs elsewhere stays as it came: a recipient who could not read it before would
        get it from here.
        """
        plain = self._open(sealed, keys)
        if plain is None or place is None:
            return None
        try:
            return age.seal(using.rebound(self._layout, place, sealed, plain), recipients)
        except (VaultError, NewerFormatError) as error:
            log.warning("%s; it stays as it is", error)
            return None

    def _seal_settings_anew(
        self, change: Transaction, profile_id: str, recipients: Sequence[str]
    ) -> list[str] | None:
        """The same for the secrets in its settings: where they are; None if one stays closed."""
        try:
            value = change.metadata(profile_id)
        except (LookupError, InvalidMetadataError, NewerFormatError):
            return []
        settings = {name: value[name] for name in _SETTINGS if value.get(name)}
        if not references.holds_sealed(settings):
            return []
        keys = self._identities_or_none()
        found: list[str] = []

        def anew(text: str, key: str) -> str:
            found.append(key)
            place = binding.setting(profile_id, value["created_at"], key)
            sealed = self._renewed(place, references.sealed_bytes(text), keys, recipients)
            if sealed is None:
                raise VaultError("cannot be opened")
            return references.as_sealed(sealed)

        try:
            for name, item in settings.items():
                settings[name] = references.replace_sealed(item, name, anew)
            change.put_metadata(profile_id, {**value, **settings})
        except VaultError:
            return None
        return found

    def _identities_or_none(self) -> list[str]:
        try:
            return self.identities()
        except VaultError as error:
            log.warning("%s", error)
            return []

    def quiet_opener(self) -> Callable[[bytes], bytes | None]:
        """What opens sealed data without asking anybody; None for what cannot be opened so."""
        try:
            keys = self.identities(ask=False)
        except TweakioError as error:
            log.info("nothing sealed is opened: %s", error)
            keys = []

        def opener(sealed: bytes) -> bytes | None:
            try:
                return self._open(sealed, keys)
            except TweakioError:
                return None

        return opener

    @staticmethod
    def _open(sealed: bytes, keys: Sequence[str]) -> bytes | None:
        try:
            return age.unseal(sealed, keys) if keys else None
        except VaultError:
            return None

    def examine(self) -> Examined:
        """Look at everything encrypted that nobody needs to be asked for: whether it is in place.

        Nothing is noted or changed.
        """
        repository = self._existing()
        found = Examined([], [])
        if repository is None or not self.recipients():
            return found
        try:
            keys = self.identities(ask=False)
        except TweakioError as error:
            log.info("nothing encrypted is examined: %s", error)
            return found
        root = repository.head().root
        # A home of an older tweakio takes what it has for known as soon as something is used.
        assumed = not self._layout.trusted.is_dir()
        for profile_id in repository.work_tree.ids(repository.head()):
            problems, unbound = [], False
            for place, sealed in _encrypted(repository, root, profile_id):
                plain = self._open(sealed, keys)
                if plain is None:
                    continue
                try:
                    checked = using.usable(
                        self._layout,
                        place,
                        sealed,
                        plain,
                        older=place.purpose == "setting"
                        and using.is_known(self._layout, place, sealed),
                        assumed=assumed,
                    )
                    unbound |= checked.place is None
                except (VaultError, NewerFormatError) as error:
                    problems.append((profile_id, error.message))
            found.problems.extend(problems)
            if unbound:
                found.unbound.append(profile_id)
        return found

    # Sessions

    def seal_sessions(self, profile_ids: Sequence[str]) -> list[str]:
        """Commit the sessions of profiles sealed, as one commit; without a vault do nothing.

        Those that are sealed just so already are left out, where an identity can tell.

        Returns:
            The profiles that were sealed.
        """
        repository = self._existing()
        if repository is None or not profile_ids or not self.recipients():
            return []
        with changes.begin(
            repository, self._locks, "seal", profile_ids, command=self._name("vault.seal")
        ) as change:
            done = [
                profile_id
                for profile_id in profile_ids
                if change.exists(profile_id)
                and not self._is_sealed_so(repository, change, profile_id)
                and sealing.put_session(change, repository, profile_id)
            ]
            change.summary = f"seal the session of {changes.name_some(done)}"
        return done

    def _is_sealed_so(self, repository: Repository, change: Transaction, profile_id: str) -> bool:
        sealed = repository.file_at(change.head.root, profile_id, SEALED)
        content = self._session(profile_id)
        if sealed is None or content is None:
            return content is None
        place = _session_place(repository, change.head.root, profile_id)
        try:
            found = binding.read(age.unseal(sealed, self.identities(ask=False)))
        except TweakioError:
            return False
        return found.place == place and found.content == content

    def restore_if_missing(self, profile_id: str) -> bool:
        """Give a profile its encrypted session if it has none here and it can be decrypted.

        Nobody is asked for anything; why it cannot be done is said in the log.
        """
        paths = self._layout.profile(profile_id)
        repository = self._existing()
        if repository is None or not os.path.lexists(paths.sealed):
            return False
        if self._session(profile_id) is not None:
            return False
        root = repository.head().root
        sealed = repository.file_at(root, profile_id, SEALED)
        if sealed is None or paths.directory.is_symlink():
            return False
        try:
            trust.prepare(repository)
            place = _session_place(repository, root, profile_id)
            self._restore(place, sealed, age.unseal(sealed, self.identities(ask=False)))
        except StorageError:
            raise
        except TweakioError as error:
            log.warning(
                "the session of profile %s stays encrypted: %s%s",
                profile_id,
                error,
                f" ({error.hint})" if error.hint else "",
            )
            return False
        return True

    def restore_sessions(
        self, profile_ids: Sequence[str] = (), *, older: bool = False
    ) -> tuple[list[str], list[str]]:
        """Give profiles that have no session here their encrypted ones, as after a clone.

        A profile that a live process uses is left out, and so is one that is encrypted for others.

        Args:
            profile_ids: which; all by default.
            older: use a session also if this machine has seen a newer one, or it is dated in the
                future.

        Returns:
            The profiles that have a session now, and those whose cannot be decrypted here or that
            are in use.

        Raises:
            VaultError: there is no identity, or its passphrase is not known; or a session must
                not be used where it is. The others are restored then, and ``details`` has both
                lists as ``done`` and ``left``.
            ProfileNotFoundError: one of the profiles is not there.
        """
        repository = self._existing()
        status = self.status()
        known = [] if repository is None else repository.work_tree.ids(repository.head())
        for profile_id in profile_ids:
            if profile_id not in known:
                raise ProfileNotFoundError(
                    f"no profile '{profile_id[:80]}'", hint="run 'tweakio profile list'"
                )
        missing = [name for name in status.missing if name in profile_ids or not profile_ids]
        if repository is None or not missing:
            return [], []
        keys = self.identities()
        done: list[str] = []
        left: list[str] = []
        refused: list[TweakioError] = []
        with repository.exclusive():
            trust.prepare_locked(repository)
            root = repository.head().root
            for profile_id in missing:
                sealed = repository.file_at(root, profile_id, SEALED)
                if sealed is None or self._session(profile_id) is not None:
                    continue
                plain = self._open(sealed, keys)
                if plain is None or self._locks.is_locked(profile_id):
                    left.append(profile_id)
                    continue
                place = _session_place(repository, root, profile_id)
                try:
                    self._restore(place, sealed, plain, older=older)
                except (VaultError, NewerFormatError) as error:
                    refused.append(error)
                    continue
                done.append(profile_id)
        for other in refused[1:]:
            log.warning("%s", other)
        if refused:
            raise VaultError(refused[0].message, hint=refused[0].hint, done=done, left=left)
        return done, left

    def _restore(
        self, place: Place | None, sealed: bytes, plain: bytes, *, older: bool = False
    ) -> None:
        """Write a session that belongs to its profile, and note that it was used.

        Raises:
            VaultError, NewerFormatError: it does not, or is too old; see ``using.usable``.
        """
        if place is None:
            raise VaultError(
                "the metadata of the profile cannot be read", hint="run 'tweakio profile list'"
            )
        found = using.usable(self._layout, place, sealed, plain, older=older)
        self._write(place.profile_id, found.content)
        if older:
            counters.forget(self._layout, place)
        if found.counter:
            counters.note(self._layout, place, found.counter)

    def _write(self, profile_id: str, content: bytes) -> None:
        paths = self._layout.profile(profile_id)
        temporary = paths.directory / ".session.json.new"
        try:
            durable.remove(temporary)
            durable.replace(paths.session, content, temporary)
        except OSError as error:
            raise storage_error(error, "write session.json") from error

    # Secrets in settings

    def seal_secret(self, secret: str, profile_id: str = "", key: str = "") -> str:
        """A secret as it can stand in a profile's settings: ``sealed:`` and base64.

        Args:
            secret: the secret.
            profile_id: whose settings it is for. Without, it can be used in none until it was
                given to ``update_profiles`` or ``create_profile`` on a machine that can decrypt
                it, which says then what it is for.
            key: of the setting, such as ``browser.proxy_password``.

        Raises:
            VaultError: there is no vault.
            ProfileNotFoundError: there is no such profile.
        """
        if not secret:
            raise InvalidInputError("the secret is empty", hint="give one line on standard input")
        self._require()
        content = secret.encode("utf-8", "surrogateescape")
        if profile_id:
            place = self._setting_place(profile_id, key)
            content = binding.bind(place, counters.upcoming(self._layout, place), content)
        return references.as_sealed(age.seal(content, self.confirmed()))

    def bind_given(
        self, profile_id: str, created_at: str, name: str, value: Mapping[str, Any] | None
    ) -> dict[str, Any] | None:
        """Settings that a person gives to a profile, the secrets in them encrypted for it.

        What does not say yet what it is for, as ``seal_secret`` without a profile makes it, says
        so from now on, if it can be decrypted here without a question.

        Args:
            profile_id: whose.
            created_at: of the profile.
            name: ``browser`` or ``platform_config``.
            value: the settings.

        Raises:
            InvalidMetadataError: one says that it is for another profile or setting.
        """
        if value is None or not references.holds_sealed(value):
            return None if value is None else dict(value)
        opener = self.quiet_opener()

        def bound(text: str, key: str) -> str:
            plain = opener(references.sealed_bytes(text))
            if plain is None:
                return text
            place = binding.setting(profile_id, created_at, key)
            found = binding.read(plain)
            if found.place is not None:
                if problem := place.difference(found.place):
                    raise InvalidMetadataError(
                        problem, hint=run("tweakio vault seal", profile_id, key), field=name
                    )
                return text
            counter = counters.upcoming(self._layout, place)
            content = binding.bind(place, counter, plain)
            return references.as_sealed(age.seal(content, self.confirmed()))

        found: dict[str, Any] = references.replace_sealed(value, name, bound)
        return found

    def moved(
        self, value: Mapping[str, Any], profile_id: str, created_at: str
    ) -> tuple[dict[str, Any], list[str]]:
        """The metadata of a copy of a profile, the secrets in it encrypted for the copy.

        Args:
            value: of the profile that is copied.
            profile_id: of the copy.
            created_at: of the copy.

        Returns:
            The metadata, and the keys of the secrets that cannot be used here and are left out.
        """
        settings = {name: value[name] for name in _SETTINGS if value.get(name)}
        made = {**value, "profile_id": profile_id, "created_at": created_at}
        if not references.holds_sealed(settings):
            return made, []
        opened = self.opener(str(value["profile_id"]), str(value["created_at"]))
        lost: list[str] = []

        def again(text: str, key: str) -> str | None:
            try:
                secret = opened(text, key).encode("utf-8", "surrogateescape")
                place = binding.setting(profile_id, created_at, key)
                content = binding.bind(place, counters.upcoming(self._layout, place), secret)
                return references.as_sealed(age.seal(content, self.confirmed()))
            except TweakioError as error:
                log.warning("%s", error)
                lost.append(key)
                return None

        for name, item in settings.items():
            made[name] = _without_none(references.replace_sealed(item, name, again)) or None
        return made, lost

    def _setting_place(self, profile_id: str, key: str) -> Place:
        field, dot, name = key.partition(".")
        if field not in _SETTINGS or not dot or not name:
            raise InvalidInputError(
                f"{key[:80]!r} is not a setting",
                hint="give browser.proxy_password, or platform_config. and a key",
            )
        repository = self._repository()
        created = directories.identity_at(repository, repository.head().root, profile_id)
        if created is None:
            raise ProfileNotFoundError(
                f"no profile '{profile_id[:80]}'", hint="run 'tweakio profile list'"
            )
        return binding.setting(profile_id, created, key)

    def opener(
        self, profile_id: str, created_at: datetime | str | None
    ) -> Callable[[str, str], str]:
        """What decrypts the secrets in one profile's settings, and no others.

        Args:
            profile_id: whose.
            created_at: of the profile; None, if that cannot be read, decrypts nothing.

        Returns:
            Called with ``sealed:...`` and the setting's key it gives the secret, or raises
            VaultError.
        """

        def opened(text: str, key: str) -> str:
            if created_at is None:
                raise VaultError(
                    "the metadata of the profile cannot be read",
                    hint=run("tweakio profile recover", profile_id),
                )
            place = binding.setting(profile_id, created_at, key)
            sealed = references.sealed_bytes(text)
            plain = age.unseal(sealed, self.identities())
            trust.prepare(self._repository())
            known = using.is_known(self._layout, place, sealed)
            found = using.usable(self._layout, place, sealed, plain, older=known)
            if found.counter:
                counters.note(self._layout, place, found.counter)
            return found.content.decode("utf-8", "surrogateescape")

        return opened

    def _require(self) -> None:
        if not self.recipients():
            raise VaultError("there is no vault", hint="run 'tweakio vault init'")

    def _repository(self) -> Repository:
        repository = self._existing()
        if repository is None:
            raise HomeNotFoundError("there is no profile repository", hint="create a profile first")
        return repository


def _session_place(repository: Repository, root: bytes, profile_id: str) -> Place | None:
    """The place of a profile's session; None if its metadata cannot be read."""
    created = directories.identity_at(repository, root, profile_id)
    return None if created is None else binding.session(profile_id, created)


def _root_file(repository: Repository) -> bytes | None:
    return repository.root_file(repository.head().root, RECIPIENTS)


def _sealed_profiles(repository: Repository) -> list[str]:
    """The profiles whose session HEAD has sealed."""
    head = repository.head()
    if not parse(repository.root_file(head.root, RECIPIENTS)):
        return []
    return [
        profile_id
        for profile_id in repository.work_tree.ids(head)
        if SEALED in (repository.files_at(head.root, profile_id) or {})
    ]


def _encrypted(
    repository: Repository, root: bytes, profile_id: str
) -> Iterator[tuple[Place, bytes]]:
    """Everything encrypted of a profile, with the place where it is."""
    files = repository.files_at(root, profile_id) or {}
    read = repository.reader.read
    try:
        value = schema.load(read(files[METADATA], b"blob"), profile_id)
    except (KeyError, InvalidMetadataError, NewerFormatError):
        return
    created_at = value["created_at"]
    if SEALED in files:
        yield binding.session(profile_id, created_at), read(files[SEALED], b"blob")
    for name in _SETTINGS:
        for key, text in references.sealed_in(value.get(name), name):
            with contextlib.suppress(VaultError):
                yield binding.setting(profile_id, created_at, key), references.sealed_bytes(text)


def _without_none(value: Any) -> Any:
    """JSON data without what was put out of it."""
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_none(item) for item in value if item is not None]
    return value


def _short(recipient: str) -> str:
    """A recipient as a summary shows it: no more than tells it from others."""
    return recipient if len(recipient) <= 24 else f"{recipient[:20]}..."
