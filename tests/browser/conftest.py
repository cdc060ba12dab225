"""``tests`` is not installed; its modules are found from the repository's root."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import pytest  # noqa: E402

from tests.browsers import page_server  # noqa: E402


@pytest.fixture
def origin():
    """A service on 127.0.0.1 with one page."""
    with page_server() as found:
        yield found
