"""``manager.archives``: profiles into a file, and out of one."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

from tweakio import bundle, durable
from tweakio.archive.container import MOST_PROFILES, Reader, Writer
from tweakio.archive.importer import (
    Existing,
    Imported,
    Incoming,
    bring_in,
    onwards,
    plan,
)
from tweakio.archive.output import new_file
from tweakio.errors import (
    HomeNotFoundError,
    InvalidInputError,
    TweakioError,
    in_the_tree,
    storage_error,
)
from tweakio.metadata import corrupted_error, not_found_error
from tweakio.store.worktree import FINGERPRINT, METADATA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from tweakio.bundle import Filter
    from tweakio.store.locks import ProfileLockManager
    from tweakio.store.repository import Repository
    from tweakio.validator import ProfileValidator

__all__ = ["Archives", "Exported", "is_sealed", "needs_passphrase"]

_AGE = b"age-encryption.org/v1\n"
_PASSPHRASE = b"-> scrypt "


class Exported(NamedTuple):
    """What an export wrote.

    Attributes:
        path: the file.
        profile_ids: in it.
        with_session: whether browser data and sessions are in it.
        sealed: whether it is encrypted.
        bytes: of browser data that went in.
        size: of the file.
    """

    path: Path
    profile_ids: tuple[str, ...]
    with_session: bool
    sealed: bool
    bytes: int
    size: int


@in_the_tree
class Archives:
    """Exports profiles and imports them.

    Args:
        repository: opens it, and makes it where it is missing.
        existing: opens it, if there is one.
        locks: tells which profiles are in use.
        validator: the rules about names.
        hold: takes the lock of a profile whose browser is closed, or says why not.
        name: what the history says ran.
    """

    def __init__(
        self,
        repository: Callable[[], Repository],
        existing: Callable[[], Repository | None],
        locks: ProfileLockManager,
        validator: ProfileValidator,
        hold: Callable[[str], AbstractContextManager[object]],
        name: Callable[[str], str],
    ) -> None:
        self._repository = repository
        self._existing = existing
        self._locks = locks
        self._validator = validator
        self._hold = hold
        self._name = name

    def _if_there(self) -> Repository | None:
        """None also for a home that an import would make."""
        try:
            return self._existing()
        except HomeNotFoundError:
            return None

    def content_size(self, profile_ids: Sequence[str]) -> int:
        """Bytes of browser data that an export of these profiles reads, for a progress bar."""
        repository = self._existing()
        if repository is None:
            return 0
        return sum(bundle.content_size(repository.layout.profile(name)) for name in profile_ids)

    def export(
        self,
        profile_ids: Sequence[str],
        path: str | os.PathLike[str],
        *,
        with_session: bool = False,
        recipients: Sequence[str] = (),
        passphrase: str | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Exported:
        """Write profiles into a new file, which appears complete or not at all.

        Args:
            profile_ids: which; none of them in use.
            path: of the new file; its name must be free.
            with_session: with the browser data, which are logins. Without, nothing secret goes in.
            recipients: seal it in the age format, so that these can open it.
            passphrase: seal it with this one instead.
            progress: called with the bytes of browser data so far.

        Raises:
            ProfileNotFoundError, ProfileCorruptedError, ProfileActiveError, BrowserLockedError:
                a profile cannot be exported.
            InvalidInputError: the name of the file is taken, or arguments do not go together.
            RecipientError: one of them is none.
            StorageError: it could not be written.
        """
        target = Path(os.path.abspath(path))
        seal = _sealing(recipients, passphrase)
        for profile_id in profile_ids:
            self._validator.validate_id(profile_id)
        if not profile_ids or len(set(profile_ids)) != len(profile_ids):
            raise InvalidInputError("name each profile once, and at least one")
        if len(profile_ids) > MOST_PROFILES:
            raise InvalidInputError(
                f"one file can have at most {MOST_PROFILES} profiles, not {len(profile_ids)}",
                hint="export them into several files",
            )
        files = self._tracked(profile_ids)
        try:
            with new_file(target) as file:
                count = self._write(file, files, seal, progress, with_session=with_session)
                size = file.seek(0, os.SEEK_END)
        except OSError as error:
            if isinstance(error, TweakioError):
                raise
            raise storage_error(error, f"write {target.name}", ours=False) from error
        return Exported(target, tuple(profile_ids), with_session, seal is not None, count, size)

    def _tracked(self, profile_ids: Sequence[str]) -> list[tuple[str, bytes, bytes]]:
        repository = self._existing()
        if repository is None:
            raise not_found_error(profile_ids[0])
        head = repository.head()
        found = []
        for profile_id in profile_ids:
            state = repository.work_tree.examine(head, profile_id)
            if state is None:
                raise not_found_error(profile_id)
            metadata = repository.file_at(head.root, profile_id, METADATA)
            fingerprint = repository.file_at(head.root, profile_id, FINGERPRINT)
            if state.state == "damaged" or metadata is None or fingerprint is None:
                raise corrupted_error(profile_id, state.problem)
            self._locks.refuse_in_use(profile_id)
            found.append((profile_id, metadata, fingerprint))
        return found

    def _write(
        self,
        file: BinaryIO,
        files: Sequence[tuple[str, bytes, bytes]],
        seal: Filter | None,
        progress: Callable[[int], None] | None,
        *,
        with_session: bool,
    ) -> int:
        layout = self._repository().layout
        with contextlib.ExitStack() as stack:
            out: object = stack.enter_context(bundle.piped_into(file, seal)) if seal else file
            writer = Writer(out, with_session=with_session)
            stack.callback(writer.abandon)
            for profile_id, metadata, fingerprint in files:
                before = writer.bytes
                with self._hold(profile_id):
                    writer.add(
                        profile_id,
                        metadata,
                        fingerprint,
                        layout.profile(profile_id) if with_session else None,
                        onwards(before, progress),
                    )
            writer.finish()
        return writer.bytes

    def import_file(
        self,
        path: str | os.PathLike[str],
        *,
        as_id: str | None = None,
        existing: Existing = "refuse",
        identities: Sequence[str] = (),
        passphrase: str | None = None,
        dry_run: bool = False,
        progress: Callable[[int], None] | None = None,
        trusted: bool = False,
    ) -> list[Imported]:
        """Make profiles of an exported file, all as one commit or none.

        Args:
            path: of the file, which may be anybody's.
            as_id: the id of the one profile that it holds.
            existing: what to do about ids that are taken.
            identities: contents of identity files that open a sealed one.
            passphrase: that opens it instead.
            dry_run: check all of it, and change nothing.
            progress: called with the bytes of browser data so far.
            trusted: confirm on this machine the addresses, selectors and references in it.

        Raises:
            ArchiveError: it is damaged or hostile; nothing was changed.
            VaultError: it is sealed, and nothing given opens it.
            ProfileExistsError: an id is taken.
            NewerFormatError: a newer tweakio has written it.
        """
        with self.opened(path, identities=identities, passphrase=passphrase) as incoming:
            if dry_run:
                return self.check(incoming, as_id=as_id, existing=existing, progress=progress)
            return self.bring_in(
                incoming, as_id=as_id, existing=existing, progress=progress, trusted=trusted
            )

    def bring_in(
        self,
        incoming: Sequence[Incoming],
        *,
        as_id: str | None = None,
        existing: Existing = "refuse",
        source: str = "",
        progress: Callable[[int], None] | None = None,
        trusted: bool = False,
    ) -> list[Imported]:
        """Make profiles of what any kind of source gives; see ``import_file``."""
        return bring_in(
            incoming,
            self._repository(),
            self._locks,
            self._validator,
            self._name("import_profiles"),
            as_id=as_id,
            existing=existing,
            source=source,
            progress=progress,
            trusted=trusted,
        )

    def check(
        self,
        incoming: Sequence[Incoming],
        *,
        as_id: str | None = None,
        existing: Existing = "refuse",
        progress: Callable[[int], None] | None = None,
    ) -> list[Imported]:
        """Say what ``bring_in`` would do, with every byte checked, and change nothing."""
        repository = self._if_there()
        taken = [] if repository is None else repository.work_tree.ids(repository.head())
        found = plan(incoming, taken, self._validator, as_id=as_id, existing=existing)
        before = 0
        for item, result in zip(incoming, found, strict=True):
            if item.unpack is not None and result.action == "created":
                item.unpack(None, onwards(before, progress))
            before += item.size
        return found

    @contextlib.contextmanager
    def opened(
        self,
        path: str | os.PathLike[str],
        *,
        identities: Sequence[str] = (),
        passphrase: str | None = None,
    ) -> Iterator[list[Incoming]]:
        """What an exported file has, as long as the block lasts; see ``import_file``."""
        with contextlib.ExitStack() as stack:
            try:
                file: BinaryIO = stack.enter_context(_open_regular(path))
                if _is_age(file):
                    file = stack.enter_context(self._unsealed(file, identities, passphrase))
                found = Reader(file, self._validator).incoming()
            except OSError as error:
                if isinstance(error, TweakioError):
                    raise
                raise storage_error(error, "read the file", ours=False) from error
            yield found

    @contextlib.contextmanager
    def _unsealed(
        self, file: BinaryIO, identities: Sequence[str], passphrase: str | None
    ) -> Iterator[BinaryIO]:
        """The content of a sealed file, in one without a name, which no kill leaves behind."""
        from tweakio.vault import age

        repository = self._if_there()
        temporary = None if repository is None else repository.layout.temporary
        if temporary is not None:
            durable.make_directory(temporary)
        with tempfile.TemporaryFile(dir=temporary) as plain:
            target = cast("BinaryIO", plain)
            if passphrase is not None:
                age.unseal_stream_passphrase(file, target, passphrase)
            else:
                age.unseal_stream(file, target, identities)
            plain.seek(0)
            yield target


def is_sealed(path: str | os.PathLike[str]) -> bool:
    """Whether a file is in the age format; False if it cannot be read."""
    with contextlib.suppress(OSError, InvalidInputError), _open_regular(path) as file:
        return _is_age(file)
    return False


def _is_age(file: BinaryIO) -> bool:
    begin = file.read(len(_AGE))
    file.seek(0)
    return begin == _AGE


def needs_passphrase(path: str | os.PathLike[str]) -> bool:
    """Whether a file is sealed with a passphrase; False if it cannot be read."""
    with contextlib.suppress(OSError, InvalidInputError), _open_regular(path) as file:
        return file.read(len(_AGE) + len(_PASSPHRASE)) == _AGE + _PASSPHRASE
    return False


def _open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file; a FIFO does not block."""
    import stat

    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags | getattr(os, "O_CLOEXEC", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InvalidInputError(f"{os.fspath(path)} is not a file", hint="give an exported file")
    return os.fdopen(descriptor, "rb")


def _sealing(recipients: Sequence[str], passphrase: str | None) -> Filter | None:
    if not recipients and passphrase is None:
        return None
    from tweakio.vault import age

    if passphrase is not None:
        if recipients:
            raise InvalidInputError(
                "a file has recipients or a passphrase", hint="leave one of them out"
            )
        if not passphrase:
            raise InvalidInputError("the passphrase is empty", hint="give one")
        secret = passphrase
        return lambda source, target: age.seal_stream_passphrase(source, target, secret)
    checked = [age.check_recipient(text) for text in recipients]
    return lambda source, target: age.seal_stream(source, target, checked)
