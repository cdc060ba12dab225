"""A real Redis."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


class Redis:
    """A server of one's own, which can be stopped.

    Args:
        place: its directory.
        *options: more for its command line.

    Attributes:
        url: with one database.
        port: where it listens.
    """

    def __init__(self, place: Path, *options: str) -> None:
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("redis-server is not installed")
        pytest.importorskip("redis")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.port = port
        self.url = f"redis://127.0.0.1:{port}/0"
        self.process = subprocess.Popen(
            [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "",
             "--appendonly", "no", *(option.replace("PORT", str(port)) for option in options)],
            cwd=place, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)  # a server says nothing when it is ready

    def hang(self) -> None:
        """It takes connections and says nothing any more."""
        self.process.send_signal(signal.SIGSTOP)

    def end(self) -> None:
        """It is gone."""
        self.process.kill()
        self.process.wait(10)


@contextlib.contextmanager
def running(place: Path, *options: str) -> Iterator[Redis]:
    server = Redis(place, *options)
    try:
        yield server
    finally:
        server.end()


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    place = tmp_path / "redis"
    place.mkdir()
    with running(place) as server:
        yield server
