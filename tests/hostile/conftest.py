"""One worker and one sound home for all tests of a process."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links and FIFOs of POSIX")
if sys.platform == "win32":
    collect_ignore_glob = ["test_*.py"]  # the watch is made of fork, rlimits and signals


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, object]]:
    """A template, and the worker that uses its copies."""
    from tests.hostile import homes
    from tests.hostile.worker import Worker

    base = tmp_path_factory.mktemp("hostile")
    (base / "user").mkdir()
    before = dict(os.environ)
    os.environ.update(homes.ENVIRONMENT)
    homes.build(base / "home")
    os.environ.clear()
    os.environ.update(before)
    worker = Worker(base / "user")
    yield base / "home", worker
    worker.close()
