"""Homes, stand-in services and the browser for the tests of logging in."""

from __future__ import annotations

import os

import pytest
from cli_helpers import Cli
from standin import Discord, Telegram, WhatsApp

from login.helpers import find_browser

if os.name != "posix":
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def browser() -> str:
    """The path of the browser; tests with a real one ask for it."""
    found = find_browser()
    if found is None:
        pytest.skip("no browser is installed")
    return found


@pytest.fixture
def cli(tmp_path) -> Cli:
    return Cli(tmp_path)


@pytest.fixture
def whatsapp():
    with WhatsApp() as service:
        yield service


@pytest.fixture
def telegram():
    with Telegram() as service:
        yield service


@pytest.fixture
def discord():
    with Discord() as service:
        yield service
