"""An HTTP server that gives every request one fixed answer, for answers that no real peer gives."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

POLL_S = 0.02  # interval of the checks whether to stop


@dataclass
class Canned:
    """The fixed answer, which may be changed between requests, and the received requests."""

    status: int = 200
    body: bytes = b""
    media_type: str = "text/plain"
    headers: dict[str, str] = field(default_factory=dict)
    url: str = ""
    requests: list[tuple[str, bytes]] = field(default_factory=list)


@contextmanager
def canned_server() -> Iterator[Canned]:
    """Serve on loopback until the context ends."""
    canned = Canned()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            canned.requests.append((self.path, body))
            self.send_response(canned.status)
            self.send_header("content-type", canned.media_type)
            self.send_header("content-length", str(len(canned.body)))
            for name, value in canned.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(canned.body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    canned.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(POLL_S,), daemon=True).start()
    try:
        yield canned
    finally:
        server.shutdown()
        server.server_close()
