"""The remotes of one repository: fetch and merge, push, and both together."""

from __future__ import annotations

import contextlib
import logging
import random
import time
from typing import TYPE_CHECKING, NamedTuple

from tweakio import changes, durable, schema, trust
from tweakio.doctor.wholeness import shallow_commits
from tweakio.errors import (
    ConcurrentChangeError,
    HostileContentError,
    InvalidMetadataError,
    NewerFormatError,
    RemoteError,
    RepositoryDamagedError,
    TweakioError,
    command,
    in_the_tree,
    run,
    storage_error,
)
from tweakio.history import changed_names
from tweakio.store.objects import parse_tree
from tweakio.store.refs import NO_COMMIT
from tweakio.store.worktree import METADATA
from tweakio.sync import configuration
from tweakio.sync.configuration import Remote
from tweakio.sync.fields import same_beside_runtime
from tweakio.sync.graph import Graph
from tweakio.sync.healing import heal
from tweakio.sync.merging import Merge, chooser
from tweakio.sync.quarantine import Quarantine, quarantine
from tweakio.sync.saying import RejectedError
from tweakio.sync.seals import Seals
from tweakio.sync.sessions import make_vault, restore_sessions
from tweakio.sync.transport import find_transport
from tweakio.sync.urls import check_name, check_url, refuse_bundle, shown_url
from tweakio.validation import RECIPIENTS, ours, validate_tree
from tweakio.vault import confirmed
from tweakio.vault.recipients import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tweakio.store.locks import ProfileLockManager
    from tweakio.store.objects import Commit
    from tweakio.store.repository import Repository
    from tweakio.sync.merging import Resolution
    from tweakio.sync.transport import Transport
    from tweakio.validation import Incoming
    from tweakio.vault.binding import Place
    from tweakio.vault.vault import Vault

__all__ = ["Pulled", "Pushed", "Remotes", "Synced"]

log = logging.getLogger(__name__)

_TRIES = 6
_MOST_NOTES = 20
_FETCH_WAIT = 30.0


class Pulled(NamedTuple):
    """What a pull brought.

    Attributes:
        remote: its name.
        commit: the merge commit; None if there was nothing new.
        changed: the profiles whose settings changed here.
        created: those that are new here.
        deleted: those that went to the trash.
        sealed: those of which something was sealed anew, as the recipients are others now.
        left: those of which something should be, and cannot be opened here unasked.
        unconfirmed: recipients that it brought; nothing is sealed for them here until
            ``Vault.add_recipients`` confirms them.
        untrusted: the profiles that it gave an address, a selector or a secret which is not used
            here until ``ProfileManager.trust`` confirms it.
    """

    remote: str
    commit: str | None = None
    changed: tuple[str, ...] = ()
    created: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    sealed: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    unconfirmed: tuple[str, ...] = ()
    untrusted: tuple[str, ...] = ()


class Pushed(NamedTuple):
    """What a push did.

    Attributes:
        remote: its name.
        commit: what the remote has now; None if it has everything that travels already.
    """

    remote: str
    commit: str | None = None


class Synced(NamedTuple):
    """What a sync did: ``pulled`` and ``pushed``."""

    pulled: Pulled
    pushed: Pushed


class _Fetched(NamedTuple):
    """A branch of a remote that was looked at completely; its objects are ours now."""

    commit: str
    incoming: Incoming


@in_the_tree
class Remotes:
    """Carries one repository to other places and back. Nothing is ever pushed by itself.

    Args:
        repository: gives the repository; called when it is first needed.
        locks: tells which profiles are in use here.
        command: what the history says ran.
        transport: moves objects; the user's git or dulwich by default.
        vault: gives the repository's vault.
    """

    def __init__(
        self,
        repository: Callable[[], Repository],
        locks: ProfileLockManager,
        command: Callable[[str], str],
        transport: Transport | None = None,
        vault: Callable[[], Vault] | None = None,
    ) -> None:
        self._open = repository
        self._open_vault = vault
        self._locks = locks
        self._command = command
        self._transport = transport
        self._found: Transport | None = None
        # The parents of commits, which never change, and where history was cut then.
        self._known: tuple[frozenset[str], dict[str, tuple[str, ...]]] = frozenset(), {}

    @property
    def _repository(self) -> Repository:
        return self._open()

    def _mover(self) -> Transport:
        return self._found or self._start()

    def _start(self) -> Transport:
        """Begin an operation, which has a time limit for all that it asks of the remote."""
        self._found = self._transport or find_transport()
        return self._found

    # Which there are

    def list(self) -> list[Remote]:
        """The remotes, by name; what could be a secret in an address is not shown."""
        layout = self._repository.layout
        trusted = configuration.trusted_remotes(layout)
        found = sorted(configuration.read_remotes(layout).items())
        return [Remote(name, shown_url(url), name in trusted) for name, url in found]

    def add(self, name: str, url: str, *, trusted: bool = False) -> Remote:
        """Name another place; it is not contacted.

        Args:
            name: letters, digits, ``_`` and ``-``.
            url: an ``ssh://``, ``https://`` or ``file://`` address, ``user@host:path`` or a path.
            trusted: whether only you push there, so that what comes from it needs no
                confirmation on this machine.

        Raises:
            InvalidInputError: one of them is refused.
            RemoteError: there is a remote of this name.
        """
        repository = self._repository
        url = check_url(url)
        with repository.exclusive():
            branch = repository.refs.branch().removeprefix("refs/heads/")
            configuration.add_remote(repository.layout, name, url, branch, trusted=trusted)
        return Remote(name, shown_url(url), trusted)

    def remove(self, name: str) -> None:
        """Forget a remote; what is there stays there.

        Raises:
            RemoteError: there is none of this name.
        """
        repository = self._repository
        with repository.exclusive():
            configuration.remove_remote(repository.layout, name)

    def find(self, name: str | None = None) -> Remote:
        """The remote that ``push``, ``pull`` and ``sync`` would use.

        Args:
            name: its name; the only one or ``origin`` by default.

        Raises:
            RemoteError: there is none, or there are several.
        """
        name, url = self._find(name)
        layout = self._repository.layout
        return Remote(name, shown_url(url), name in configuration.trusted_remotes(layout))

    def _find(self, name: str | None) -> tuple[str, str]:
        """The name and the address of a remote."""
        known = configuration.read_remotes(self._repository.layout)
        if name is None:
            if len(known) > 1 and "origin" not in known:
                raise RemoteError(
                    "there are several remotes", hint=f"name one of: {', '.join(sorted(known))}"
                )
            name = "origin" if "origin" in known or not known else next(iter(known))
        if name not in known:
            if not known:
                raise RemoteError(
                    "there is no remote", hint="run 'tweakio repo remote add origin URL'"
                )
            raise configuration.unknown_remote(name, known)
        return check_name(name), check_url(known[name])

    # Pull

    def pull(
        self, remote: str | None = None, *, resolve: Resolution = None, trusted: bool = False
    ) -> Pulled:
        """Fetch a remote's profiles and merge them, as one commit that ``undo`` takes back.

        Different profiles merge silently, one that both sides changed field by field. A conflict
        changes nothing.

        Args:
            remote: its name; the only one or ``origin`` by default.
            resolve: whose side counts where both changed the same: ``"ours"`` or ``"theirs"``,
                or by profile and field one of these or ``{"value": ...}``.
            trusted: confirm the addresses, selectors and references that it brings.

        Raises:
            MergeConflictError: something is to be decided; ``details["conflicts"]`` says what.
            RemoteError: it cannot be reached, or its history is another one.
            HostileContentError: what it sent was refused.
            ProfileActiveError: a profile in use here would go.
        """
        name, url = self._find(remote)
        self._start()
        return self._pull(name, url, resolve, trusted=trusted) or Pulled(name)

    def _pull(self, name: str, url: str, resolve: Resolution, *, trusted: bool) -> Pulled | None:
        """See ``pull``; None if the remote has nothing yet, or not any more."""
        if self._cut():
            self._heal(name, url, ())
        try:
            return self._fetch_and_merge(name, url, resolve, trusted=trusted)
        except RepositoryDamagedError as error:
            # Of ours something is lost that nobody had missed so far; the remote may have it.
            lost = error.details.get("object")
            if not isinstance(lost, str) or not self._heal(name, url, (lost,)):
                raise
        return self._fetch_and_merge(name, url, resolve, trusted=trusted)

    def _fetch_and_merge(
        self, name: str, url: str, resolve: Resolution, *, trusted: bool
    ) -> Pulled | None:
        # Before anything of it is merged: what a home of before has counts as confirmed.
        trust.prepare(self._repository)
        trusted = trusted or name in configuration.trusted_remotes(self._repository.layout)
        fetched = self._fetch(name, url)
        if fetched is None:
            return None
        for _ in range(_TRIES - 1):
            with contextlib.suppress(ConcurrentChangeError):
                return self._merge(name, fetched, resolve, trusted=trusted)
        return self._merge(name, fetched, resolve, trusted=trusted)

    def _heal(self, name: str, url: str, lost: Sequence[str]) -> bool:
        """Bring what is lost here back from a remote, if it has it; whether it had."""
        self._repository.settle()
        healed = heal(self._repository, self._mover(), lost, remotes={name: url}, again=bool(lost))
        for note in healed.notes:
            log.info("what is lost here was not fetched: %s", note)
        if healed.joined:
            cuts = ", ".join(commit[:12] for commit in healed.joined)
            log.warning("the history before %s is here again, from '%s'", cuts, name)
        elif healed.found:
            log.warning("what was lost of the history is here again, from '%s'", name)
        return bool(healed.remotes)

    def _branch(self) -> str:
        return self._repository.refs.branch().removeprefix("refs/heads/")

    def _tracking(self, name: str) -> str:
        return f"refs/remotes/{name}/{self._branch()}"

    def _fetch(self, name: str, url: str) -> _Fetched | None:
        """Bring a remote's branch here, looked at completely; None if it has none yet."""
        repository = self._repository
        repository.settle()
        head = repository.refs.head()
        seen = self._last_seen(name)
        known = (head, seen) if seen else (head,)
        try:
            with quarantine(repository.layout, repository.reader, known, _FETCH_WAIT) as place:
                commit = self._mover().fetch(url, self._branch(), place.path)
                if commit is None:
                    self._require_same_branch(name, url, place)
                    return None
                place.check_bounds()
                incoming = validate_tree(place.commit(commit).tree, place.read)
                self._require_common(place, head, commit, url)
                self._take_over(place, name, commit)
        except OSError as error:
            if isinstance(error, TweakioError):
                raise
            raise storage_error(error, "fetch") from error
        return _Fetched(commit, incoming)

    def _require_same_branch(self, name: str, url: str, place: Quarantine) -> None:
        """Refuse to make a second branch beside a remote's own: neither would ever see the other.

        Raises:
            RemoteError: the remote has a branch of another name, and not ours.
        """
        branch = self._branch()
        there, named = self._mover().branches(url, place.path)
        if named is None or named not in there or branch in there:
            return
        raise RemoteError(
            f"'{name}' has the branch '{ascii(named)[1:-1][:60]}', and this home is on '{branch}'",
            hint=run(
                "git -C",
                self._repository.layout.profiles,
                then=command("branch -m", branch, named),
            ),
        )

    def _last_seen(self, name: str) -> str | None:
        """What the remote was found to have when it was last asked."""
        with contextlib.suppress(RepositoryDamagedError):
            commit = self._repository.refs.resolve(self._tracking(name))
            if commit and self._repository.reader.read_any(bytes.fromhex(commit))[0] == b"commit":
                return commit
        return None

    def _cut(self) -> frozenset[str]:
        """The commits before which there is nothing here: of a shallow clone, or by the doctor."""
        return frozenset(shallow_commits(self._repository.layout.git_dir))

    def _graph(self, read: Callable[[str], Commit]) -> Graph:
        cut = self._cut()
        if self._known[0] != cut:
            self._known = cut, {}
        return Graph(read, cut, self._known[1])

    def _require_common(self, place: Quarantine, head: str, commit: str, url: str) -> None:
        def read(name: str) -> Commit:
            try:
                return place.commit(name)
            except HostileContentError:
                # The remote left out what we have, by what we said; so it is lost here.
                return self._repository.reader.commit(name)

        if head == NO_COMMIT or self._graph(read).bases(head, commit):
            return
        if cut := self._cut():
            names = ", ".join(sorted(name[:12] for name in cut))
            raise RemoteError(
                f"the history here is cut short before {names}, and {shown_url(url)} does not "
                "have what is before it",
                hint="clone it into another home (tweakio --home DIR repo clone URL), and bring "
                "profiles over with 'tweakio profile export'",
            )
        raise RemoteError(
            f"the history of {shown_url(url)} has nothing in common with this one",
            hint="clone it into another home: tweakio --home DIR repo clone URL",
        )

    def _take_over(self, place: Quarantine, name: str, commit: str) -> None:
        """Make what came ours, and note what the remote has."""
        repository = self._repository
        with repository.exclusive():
            kept = place.take_over(repository.layout.git_dir / "objects")
            # dulwich has a list of the packs that there were.
            repository.reader.close()
            self._note(name, commit)
            for keep in kept:
                durable.remove(keep)

    def _note(self, name: str, commit: str) -> None:
        """Write down what the remote has; the repository's lock is held."""
        layout = self._repository.layout
        target = layout.git_dir / self._tracking(name)
        durable.make_directory(target.parent, parents=True)
        temporary = layout.temporary / "remote"
        durable.remove(temporary)
        durable.replace(target, f"{commit}\n".encode(), temporary)

    def _merge(self, name: str, fetched: _Fetched, resolve: Resolution, *, trusted: bool) -> Pulled:
        repository = self._repository
        read = repository.reader.commit
        graph = self._graph(read)
        theirs = fetched.commit
        head = repository.refs.head()
        if graph.is_ancestor(theirs, head):
            return Pulled(name)
        bases = [repository.root_of(base) for base in graph.bases(head, theirs)]
        listed = parse(repository.root_file(repository.root_of(head), RECIPIENTS))
        names = changed_names(repository.root_of(head), repository.root_of(theirs))
        touched = names
        if listed != parse(fetched.incoming.root_files.get(RECIPIENTS)):
            touched = list(repository.work_tree.ids(repository.head()))
            touched += [name for name in names if name not in touched]
        with changes.begin(
            repository, self._locks, "pull", touched, command=self._command("pull")
        ) as change:
            listed = parse(change.root_file(RECIPIENTS))
            confirmed.note_first(repository.layout, listed)
            known = confirmed.among(repository.layout, listed)
            seals = self._seals(known)
            if not graph.is_ancestor(head, change.head.commit):
                raise ConcurrentChangeError(
                    "another program made a change just now", hint="run the command again"
                )
            merge = Merge(
                repository, self._locks, change, bases, fetched.incoming, chooser(resolve), seals
            )
            merge.put(names)
            # Before the commit, as in Vault.remove_recipient.
            kept = merge.recipients[1]
            confirmed.keep(repository.layout, [item for item in known if item in kept])
            change.add_parent(theirs)
            change.summary = _summary(name, merge, seals)
            for line in [*_notes(graph, read, head, theirs), *merge.settled[:_MOST_NOTES]]:
                change.add_note(line)
        unconfirmed = tuple(i for i in merge.recipients[1] if i not in merge.recipients[0])
        _say_recipients(merge, seals, unconfirmed)
        came = trust.committed(repository, [*merge.created, *merge.changed])
        untrusted = trust.arrived(repository, came, confirmed=trusted)
        restore_sessions(repository, [*merge.created, *merge.changed], self._locks)
        # A profile that was replaced is deleted and created in one.
        replaced = set(merge.created) & set(merge.deleted)
        return Pulled(
            name,
            change.commit_id,
            tuple(sorted({*merge.changed, *replaced})),
            tuple(sorted({*merge.created} - replaced)),
            tuple(sorted({*merge.deleted} - replaced)),
            tuple(sorted(seals.done)),
            tuple(sorted(seals.left)),
            unconfirmed,
            tuple(untrusted),
        )

    def _seals(self, known: Sequence[str]) -> Seals:
        """What compares and renews the seals of a merge; the vault is looked at if need be."""
        from tweakio.vault import age, using

        vault = self._open_vault or (lambda: make_vault(self._repository, self._locks))

        def rebound(place: Place, sealed: bytes, plain: bytes) -> bytes:
            return using.rebound(self._repository.layout, place, sealed, plain)

        return Seals(lambda: vault().quiet_opener(), age.seal, rebound, known)

    # Push

    def push(self, remote: str | None = None) -> Pushed:
        """Send the history to a remote; what is only active here is no reason to.

        Args:
            remote: its name; the only one or ``origin`` by default.

        Raises:
            RemoteError: it cannot be reached, refuses, or has commits that are not here.
        """
        name, url = self._find(remote)
        self._start()
        try:
            return self._push(name, url)
        except RejectedError:
            raise _rejected(name) from None

    def _push(
        self, name: str, url: str, *, just_asked: bool = False, is_ours: bool = False
    ) -> Pushed:
        """Push; a remote that was not asked just now may have lost what it had.

        Args:
            name: of the remote.
            url: where.
            just_asked: what it has was fetched just now.
            is_ours: it was asked just now for a branch of another name.
        """
        refuse_bundle(url)
        repository = self._repository
        repository.settle()
        with changes.begin(
            repository, self._locks, "push", (), command=self._command("push")
        ) as change:
            # Edits by hand are a commit by now, and belong to what is sent.
            head = change.head
        seen = self._last_seen(name)
        if (
            seen is not None
            and not self._travels(repository.root_of(seen), head.root)
            and (just_asked or self._still_has(url, seen))
        ):
            return Pushed(name)
        if seen is not None:
            graph = self._graph(repository.reader.commit)
            if not graph.is_ancestor(seen, head.commit):
                raise RejectedError
        # Nobody who gets this later would take anything else over. A plain git clone, or a commit
        # past the hooks, may have brought it.
        validate_tree(
            repository.reader.commit(head.commit).tree,
            ours(repository.reader),
            whose="the history here",
            hint="nothing was sent; run 'tweakio repo doctor'",
        )
        # From a place with no configuration: one of a home that somebody gave may name programs.
        try:
            with quarantine(repository.layout, repository.reader, (), _FETCH_WAIT) as place:
                if seen is None and not is_ours:
                    self._require_same_branch(name, url, place)
                self._mover().push(url, self._branch(), head.commit, place.path)
        except OSError as error:
            if isinstance(error, TweakioError):
                raise
            raise storage_error(error, "push") from error
        try:
            with repository.exclusive():
                self._note(name, head.commit)
        except (TweakioError, OSError) as error:
            # The remote has it all the same; the next fetch writes it down.
            log.warning("pushed, but what '%s' has is not written down: %s", name, error)
        return Pushed(name, head.commit)

    def _still_has(self, url: str, seen: str) -> bool:
        repository = self._repository
        with quarantine(repository.layout, repository.reader, (), _FETCH_WAIT) as place:
            return self._mover().branches(url, place.path)[0].get(self._branch()) == seen

    def _travels(self, before: bytes, after: bytes) -> bool:
        """Whether two states differ in more than in what is each machine's own."""
        repository = self._repository
        old, new = ({entry.name: entry for entry in parse_tree(root)} for root in (before, after))
        for key in old.keys() | new.keys():
            one, other = old.get(key), new.get(key)
            if one == other or key in (b".gitignore", b".gitattributes"):
                continue
            if one is None or other is None or not (one.is_tree and other.is_tree):
                return True
            name = key.decode("utf-8", "replace")
            files = [repository.files_at(root, name) or {} for root in (before, after)]
            beside = [{k: v for k, v in found.items() if k != METADATA} for found in files]
            if beside[0] != beside[1]:
                return True
            try:
                values = [
                    schema.load(repository.reader.read(found[METADATA], b"blob"), name)
                    for found in files
                ]
            except (InvalidMetadataError, NewerFormatError, KeyError):
                return True
            if not same_beside_runtime(*values):
                return True
        return False

    # Both

    def sync(
        self, remote: str | None = None, *, resolve: Resolution = None, trusted: bool = False
    ) -> Synced:
        """Pull, then push; again, a few times, if somebody else pushed in between.

        Args:
            remote: see ``pull``.
            resolve: see ``pull``.
            trusted: see ``pull``.

        Raises:
            As ``pull`` and ``push``.
        """
        name, url = self._find(remote)
        self._start()
        reason = ""
        changed: set[str] = set()
        created: set[str] = set()
        deleted: set[str] = set()
        sealed: set[str] = set()
        left: set[str] = set()
        unconfirmed: dict[str, None] = {}
        untrusted: set[str] = set()
        commit = None
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(random.uniform(0.05, 0.2) * attempt)  # noqa: S311 - no secret
            found = self._pull(name, url, resolve, trusted=trusted)
            pulled = found or Pulled(name)
            commit = pulled.commit or commit
            changed |= {*pulled.changed}
            created |= {*pulled.created}
            deleted |= {*pulled.deleted}
            sealed |= {*pulled.sealed}
            left |= {*pulled.left}
            unconfirmed.update(dict.fromkeys(pulled.unconfirmed))
            untrusted |= {*pulled.untrusted}
            try:
                pushed = self._push(name, url, just_asked=found is not None, is_ours=True)
            except RejectedError as error:
                reason = error.reason
                continue
            return Synced(
                Pulled(
                    name,
                    commit,
                    changed=tuple(sorted(changed)),
                    created=tuple(sorted(created)),
                    deleted=tuple(sorted(deleted)),
                    sealed=tuple(sorted(sealed)),
                    left=tuple(sorted(left)),
                    unconfirmed=tuple(unconfirmed),
                    untrusted=tuple(sorted(untrusted)),
                ),
                pushed,
            )
        said = f": {reason}" if reason else ""
        raise RemoteError(
            f"somebody else was first at '{name}', {_TRIES} times in a row{said}",
            hint=run(
                "tweakio repo sync",
                name,
                then=" in a while; if it stays so, ask who keeps the host whether a lock was left",
            ),
        )


def _say_recipients(merge: Merge, seals: Seals, unconfirmed: Sequence[str]) -> None:
    """What a person has to know of recipients that are others now."""
    before, now = merge.recipients
    if gone := [item for item in before if item not in now]:
        log.warning("not a recipient of the vault any more: %s", ", ".join(gone))
    if unconfirmed:
        log.warning(
            "somebody added recipients to the vault; nothing is sealed for them here. %s",
            confirmed.unconfirmed_hint(unconfirmed),
        )
    if seals.done:
        log.warning("sealed anew for those who are recipients now: %s", _some(seals.done))
    if seals.left:
        log.warning(
            "sealed for others than the recipients, and not opened here: %s; run"
            " 'tweakio vault reseal' where it can be",
            _some(seals.left),
        )


def _some(names: Sequence[str]) -> str:
    return changes.name_some(sorted(names))


def _rejected(name: str) -> RemoteError:
    return RemoteError(
        f"'{name}' has changes that are not here", hint=run("tweakio repo sync", name)
    )


def _summary(name: str, merge: Merge, seals: Seals) -> str:
    parts = [
        f"{what} {changes.name_some(sorted(names))}"
        for what, names in (
            ("change", merge.changed), ("add", merge.created), ("delete", merge.deleted),
            ("seal anew", seals.done),
        )
        if names
    ]  # fmt: skip
    return f"pull from {name}: {', '.join(parts) or 'nothing changes here'}"


def _notes(graph: Graph, read: Callable[[str], Commit], head: str, theirs: str) -> list[str]:
    """What a merge brings, one line for each commit; none of it is taken for a trailer."""
    found = graph.between([head], theirs, _MOST_NOTES + 1)
    lines = []
    for commit_id in found[:_MOST_NOTES]:
        commit = read(commit_id)
        text = "".join(c if c.isprintable() else "?" for c in f"{commit.summary} ({commit.author})")
        lines.append(f"- {commit_id[:12]} {text[:140]}")
    if len(found) > _MOST_NOTES:
        lines.append("- and more")
    return lines
