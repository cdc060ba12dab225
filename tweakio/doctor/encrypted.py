"""Encrypted data that is not where it belongs, as far as it can be told without a question."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tweakio.changes import name_some
from tweakio.errors import TweakioError
from tweakio.lease.locking import locks_of

if TYPE_CHECKING:
    from tweakio.doctor.case import Case
    from tweakio.store.repository import Repository

__all__ = ["look_at_encrypted"]


def look_at_encrypted(case: Case, repository: Repository) -> None:
    """Look at what is encrypted of each profile: whether it says that it belongs there.

    Nobody is asked for a passphrase; what cannot be decrypted without one is not looked at.
    """
    from tweakio.vault.vault import Vault

    locks = locks_of(case.layout)
    vault = Vault(case.layout, lambda: repository, lambda: repository, locks, lambda name: name)
    try:
        if not vault.recipients():
            return
        found = vault.examine()
    except TweakioError as error:
        case.add("encrypted-unknown", "note", f"encrypted data was not examined: {error.message}")
        return
    for profile_id, problem in found.problems:
        hint = "it is not used; log in again or set it again, which replaces it"
        case.add("encrypted-misplaced", "problem", f"profile '{profile_id}': {problem}", hint=hint)
    if found.unbound:
        case.add(
            "encrypted-unbound",
            "note",
            f"what is encrypted of {name_some(found.unbound)} does not say whose it is",
            hint="run 'tweakio vault reseal'",
        )
