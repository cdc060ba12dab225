"""Other machines for tests: git over https with certificates of our own, and a bad line to them."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


class Authority:
    """A certificate authority that is thrown away.

    Attributes:
        file: its certificate.
    """

    def __init__(self, place: Path) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("needs openssl, to make certificates")
        place.mkdir(exist_ok=True)
        self._place = place
        self.file = place / "ca.pem"
        self._openssl(
            "req", "-x509", *_KEY, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ours",
            "-addext", "keyUsage=keyCertSign", "-days", "30",
        )  # fmt: skip

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self._place, check=True, capture_output=True)

    def issue(self, name: str = "localhost", *, expired: bool = False) -> tuple[Path, Path]:
        """A certificate and its key."""
        file = f"{name}{'-expired' * expired}"
        self._openssl("req", "-new", *_KEY, "-keyout", f"{file}.key", "-out", f"{file}.csr",
                      "-subj", f"/CN={name}")  # fmt: skip
        (self._place / "extensions").write_text(f"subjectAltName=DNS:{name},IP:127.0.0.1\n"
                                                if name == "localhost" else
                                                f"subjectAltName=DNS:{name}\n")  # fmt: skip
        options = ["-days", "-1" if expired else "30"]
        sign = ["x509", "-req", "-in", f"{file}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
                "-out", f"{file}.pem", "-extfile", "extensions", "-set_serial"]  # fmt: skip
        try:
            self._openssl(*sign, "7", *options)
        except subprocess.CalledProcessError:
            pytest.skip("this openssl cannot date a certificate back")
        return self._place / f"{file}.pem", self._place / f"{file}.key"


_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


class _Git(BaseHTTPRequestHandler):
    """``git http-backend`` as a web server runs it."""

    protocol_version = "HTTP/1.0"
    root = ""

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        length = int(self.headers.get("Content-Length") or 0)
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            body = b""
            while size := int(self.rfile.readline() or b"0", 16):
                body += self.rfile.read(size)
                self.rfile.readline()
        else:
            body = self.rfile.read(length)
        if len(body) < length:
            return  # cut
        environment = {
            **os.environ, "GIT_PROJECT_ROOT": self.root, "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""), "REMOTE_USER": "somebody",
            "REMOTE_ADDR": "127.0.0.1", "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }  # fmt: skip
        done = subprocess.run(
            ["git", "-c", "safe.directory=*", "http-backend"], input=body,
            capture_output=True, env=environment, check=False,
        )  # fmt: skip
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().splitlines())
        self.send_response(int(fields.pop("Status", "200").split()[0]))
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET  # noqa: N815 - as http.server calls it

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    context: ssl.SSLContext

    def finish_request(self, request: socket.socket, address: object) -> None:  # type: ignore[override]
        request.settimeout(30)
        with (
            contextlib.suppress(OSError),
            self.context.wrap_socket(request, server_side=True) as wrapped,
        ):
            self.RequestHandlerClass(wrapped, address, self)  # type: ignore[arg-type]
            wrapped.unwrap()

    def handle_error(self, *_: object) -> None:
        pass  # a client that goes away


@contextlib.contextmanager
def https(root: Path, certificate: Path, key: Path) -> Iterator[int]:
    """Serve the repositories below a directory; gives the port."""
    if shutil.which("git") is None:
        pytest.skip("needs git, to serve with")
    handler = type("Handler", (_Git,), {"root": os.fspath(root)})
    with _Server(("127.0.0.1", 0), handler) as server:
        server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.context.load_cert_chain(certificate, key)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield int(server.server_address[1])
        server.shutdown()
        thread.join()


class Line:
    """A line to a port of this machine, which can be bad.

    Attributes:
        port: of this end.
        cut_after: bytes from this end after which a connection is cut; None for never.
        stalled: whether nothing is carried any more.
        delay: seconds that each piece takes, there and back as one.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self.cut_after: int | None = None
        self.stalled = False
        self.delay = 0.0
        self.pieces = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                here, _ = self._socket.accept()
                there = socket.create_connection(("127.0.0.1", self._to))
                threading.Thread(target=self._carry, args=(here, there, True), daemon=True).start()
                threading.Thread(target=self._carry, args=(there, here, False), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, there: bool) -> None:
        carried = 0
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                while self.stalled:
                    time.sleep(0.02)
                carried += len(data)
                if there:
                    self.pieces += 1
                    time.sleep(self.delay)
                    if self.cut_after is not None and carried > self.cut_after:
                        break
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def line(port: int) -> Iterator[Line]:
    found = Line(port)
    try:
        yield found
    finally:
        found.close()
