"""Asking for a secret: without echo at a terminal, else a line of standard input."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from tweakio.cli.asking import SecretLines
from tweakio.errors import InvalidInputError
from tweakio.references import holds_sealed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tweakio.manager import ProfileManager
    from tweakio.models import Profile
    from tweakio.vault.vault import Vault

__all__ = ["ask", "ask_new", "ask_secret", "unlock", "unlock_for"]

_lines = SecretLines()


def ask_secret(what: str) -> str:
    """One line that nobody sees.

    Raises:
        InvalidInputError: there is none.
    """
    at_terminal = sys.stdin is not None and sys.stdin.isatty()
    if at_terminal and sys.stderr is not None:
        sys.stderr.write(f"tweakio: {what}: ")
        sys.stderr.flush()
    try:
        return asyncio.run(_lines.next())
    except EOFError:
        raise InvalidInputError(
            f"no {what} was given", hint="type it, or give it as one line on standard input"
        ) from None
    finally:
        if at_terminal and sys.stderr is not None:
            sys.stderr.write("\n")


def ask() -> str:
    """The passphrase of the identity."""
    return ask_secret("passphrase of the identity")


def unlock(vault: Vault) -> None:
    """Ask for the passphrase of the identity, if it has one, before something is drawn."""
    if not vault.status().protected:
        return
    vault.ask_passphrase = ask
    try:
        vault.identities()
    finally:
        vault.ask_passphrase = None


def unlock_for(manager: ProfileManager, profiles: Iterable[Profile]) -> None:
    """The same if some profiles have settings in which a secret is sealed."""
    if any(
        map(holds_sealed, (item for one in profiles for item in (one.platform_config, one.browser)))
    ):
        unlock(manager.vault)


def ask_new() -> str:
    """A new passphrase; at a terminal it is asked for twice.

    Raises:
        InvalidInputError: it is empty, or the two differ.
    """
    chosen = ask_secret("new passphrase")
    if not chosen:
        raise InvalidInputError("the passphrase is empty", hint="give one")
    if sys.stdin is not None and sys.stdin.isatty() and ask_secret("once more") != chosen:
        raise InvalidInputError("the two passphrases differ", hint="run it again")
    return chosen
