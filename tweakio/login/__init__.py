"""Logging in and out, and looking whether a profile is still logged in (docs/login.md).

Everything here is imported when it is first used: keeping profiles needs none of it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tweakio.login.check import Checked, check_profiles
    from tweakio.login.flow import LoginOutcome, log_in
    from tweakio.login.leaving import LogoutOutcome, log_out
    from tweakio.login.opening import hold_open
    from tweakio.login.ui import LoginUI

__all__ = [
    "Checked",
    "LoginOutcome",
    "LoginUI",
    "LogoutOutcome",
    "check_profiles",
    "hold_open",
    "log_in",
    "log_out",
]

_MODULES = {
    "Checked": "check",
    "LoginOutcome": "flow",
    "LoginUI": "ui",
    "LogoutOutcome": "leaving",
    "check_profiles": "check",
    "hold_open": "opening",
    "log_in": "flow",
    "log_out": "leaving",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'tweakio.login' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"tweakio.login.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
