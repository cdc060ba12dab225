"""What holders of leases are called, so that others can say who it is."""

from __future__ import annotations

import os
import secrets
import socket

from tweakio.store.processes import process_start

__all__ = ["holder_name", "is_dead", "is_here", "parse_holder"]

_LONGEST_PID = 10


def holder_name() -> str:
    """A name that no other holder has: machine, process, and a random part."""
    return f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"


def parse_holder(name: str) -> tuple[str, int]:
    """Machine and process of a holder; 0 if the name is nobody's of ours."""
    host, _, rest = name.partition("/")
    process = rest.partition("/")[0]
    usual = len(process) <= _LONGEST_PID and process.isascii() and process.isdigit()
    return host, int(process) if usual else 0


def is_here(holder: str) -> bool:
    """Whether a holder says that it is of this machine; two may have one name."""
    return parse_holder(holder)[0] == socket.gethostname()


def is_dead(holder: str) -> bool:
    """Whether a holder was a process of this machine that has ended."""
    process = parse_holder(holder)[1]
    return is_here(holder) and process > 0 and process_start(process) is None
