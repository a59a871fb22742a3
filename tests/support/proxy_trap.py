"""An HTTP proxy that nothing should reach: it records what it is sent, and answers 403."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Trap:
    """A proxy that records what it is sent, and answers 403."""

    url: str
    seen: list[str] = field(default_factory=list)


class _Handler(http.server.BaseHTTPRequestHandler):
    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65_537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        trap: Trap = self.server.trap  # type: ignore[attr-defined]
        trap.seen.append(f"{self.requestline} {self.headers.get('authorization')}")
        self.send_response(403)
        self.send_header("content-length", "0")
        self.end_headers()
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def proxy_trap() -> Iterator[Trap]:
    """Run a trap."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        trap = Trap(f"http://127.0.0.1:{server.server_port}")
        server.trap = trap  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield trap
        server.shutdown()
