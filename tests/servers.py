"""A server of HTTP for tests."""

from __future__ import annotations

import _thread
from http.server import ThreadingHTTPServer
from typing import Any

__all__ = ["Server"]


class Server(ThreadingHTTPServer):
    """Answers each request in a thread of its own.

    Not one of ``threading``: those are traced for coverage, and Python 3.11 gives one up that
    starts while another is just getting its trace function ("Cannot install a trace function").
    """

    daemon_threads = True

    def process_request(self, request: Any, client_address: Any) -> None:
        _thread.start_new_thread(self.process_request_thread, (request, client_address))
