"""Profiles with browser data that is closed."""

from __future__ import annotations

from pathlib import Path

from tests.crash.operations import fill

__all__ = ["fill_closed"]


def fill_closed(directory: Path, label: str) -> None:
    """As ``fill``, with the link of a browser that ended in order gone."""
    fill(directory, label)
    (directory / "browser_profile" / "SingletonLock").unlink()
