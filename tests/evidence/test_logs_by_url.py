"""`quire-verify --log URL` against servers that are slow, never finish, or do not answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ledger.errors import EvidenceError
from ledger.evidence.logs import verify_log_at
from ledger.evidence.logs.source import open_source
from tests.support.evidence import PINS, entries, write_log

LARGE, CHUNK = 1 << 24, 1 << 10


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return write_log(tmp_path / "acme", entries(700), (256, 300))


@contextmanager
def serving(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    """Run a server with this handler; yields its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def served(log: Path) -> Iterator[str]:
    """The URL of an HTTP file server for the log."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with serving(partial(Quiet, directory=str(log))) as url:
        yield url


def test_a_log_behind_a_url(served: str, log: Path) -> None:
    verdict = verify_log_at(served, PINS)
    assert verdict == verify_log_at(f"{served}/", PINS)
    assert verdict.outcome == "verified", verdict
    assert "older checkpoints can't be listed below a URL" in verdict.reasons["checkpoints"]
    tile = log / "tile/0/000"
    tile.write_bytes(tile.read_bytes()[::-1])
    assert verify_log_at(served, PINS).tree is False
    (log / "tile/0/001").unlink()
    assert verify_log_at(served, PINS).outcome == "refuted"


class Dripping(BaseHTTPRequestHandler):
    """Answers byte by byte until the client disconnects, and sends large files in small chunks."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        slow = self.path == "/slow"
        self.send_response(200)
        self.end_headers()
        with suppress(OSError):
            for _ in range(1_000_000 if slow else LARGE // CHUNK):
                self.wfile.write(b"x" * (1 if slow else CHUNK))
                if slow:
                    time.sleep(0.02)


@pytest.fixture
def dripping() -> Iterator[str]:
    with serving(Dripping) as url:
        yield url


def test_a_file_below_a_url_has_a_deadline_and_a_bound(dripping: str) -> None:
    longer = pytest.raises(EvidenceError, match=r"/slow takes longer than 0\.3 s")
    with open_source(dripping, file_seconds=0.3) as source, longer:
        source.read("slow")
    with open_source(dripping) as source:
        assert source.read("large", LARGE) == b"x" * LARGE
        with pytest.raises(EvidenceError, match=f"more than {LARGE - 1} bytes"):
            source.read("large", LARGE - 1)


def test_a_server_that_is_asked_too_often_is_asked_again_later(log: Path) -> None:
    """Each file is refused once, as by a rate limit; a file that is refused on is given up."""
    refused: set[str] = set()

    class Busy(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

        def do_GET(self) -> None:
            if self.path in refused:
                super().do_GET()
                return
            if self.path != "/never":
                refused.add(self.path)
            self.send_response(429)
            self.send_header("retry-after", "0" if self.path != "/never" else "60")
            self.end_headers()

    with serving(partial(Busy, directory=str(log))) as url:
        assert verify_log_at(url, PINS).outcome == "verified"
        assert len(refused) > 3
        given_up = pytest.raises(EvidenceError, match="asked too often")
        with open_source(url, file_seconds=30) as source, given_up:
            source.read("never")


def test_a_url_that_no_server_answers() -> None:
    assert verify_log_at("http://127.0.0.1:9/log").outcome == "unreadable"
