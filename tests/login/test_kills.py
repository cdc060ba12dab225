"""A few rounds of ``python -m tests.login``."""

from __future__ import annotations

import pytest

from login.kills import campaign

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("browser")]


def test_kills(cli, whatsapp):
    whatsapp.sync_seconds = 1.0
    outcomes = campaign(cli, whatsapp, seed=4, rounds=2)
    assert sum(outcomes.values()) == 2
