"""The vault's recipients: a tracked file at the root of the repository."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["RECIPIENTS", "dump", "parse"]

RECIPIENTS = ".age-recipients"
"""As the ``age`` program reads it with ``-R``: a recipient a line, and comments."""

_HEAD = "# Who can open the sealed sessions here; 'tweakio vault recipients' changes it.\n"


def parse(content: bytes | None) -> list[str]:
    """The recipients in a file, each once; whether they are some is not looked at.

    Args:
        content: of the file; None if there is none.
    """
    lines = (line.strip() for line in (content or b"").decode("utf-8", "replace").splitlines())
    return list(dict.fromkeys(line for line in lines if line and not line.startswith("#")))


def dump(recipients: Iterable[str]) -> bytes:
    """The content of the file for some recipients."""
    return (_HEAD + "".join(f"{item}\n" for item in recipients)).encode()
