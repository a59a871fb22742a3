"""A real Quire server for tests: uvicorn and the application in a thread, on loopback."""

from __future__ import annotations

import json
import secrets
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import msgspec
import uvicorn

from server.app.features import FEATURES
from server.feature import Feature, added_settings
from server.http.protocol.factory import ProtocolFactory
from server.http.protocol.watching.connections import Connections
from server.process.serve import prepare
from server.process.worker import application, uvicorn_config
from server.settings import Settings
from server.trails.services import Services
from tests.support.clusters import Database, blocking

SIGNING_KEY = "test signing key of more than thirty-two bytes"
MASTER_KEY = "5f" * 32
METRICS_TOKEN = "metrics-token-of-tests"
AS_OPERATOR = {"authorization": f"Bearer {METRICS_TOKEN}"}
START_TIMEOUT_S = 30


@dataclass
class PeerAnswer:
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Server:
    """A running server with an org; `.org` seals by default."""

    url: str
    platform_key: str
    settings: Settings
    database: Database
    org: str = ""
    admin_key: str = ""
    services: Services | None = None
    _server: uvicorn.Server | None = None
    _thread: threading.Thread | None = None
    keys: dict[str, str] = field(default_factory=dict)

    def internal_errors(self) -> str:
        """Return the number of answers with status 500 of this process so far, as its metric says."""
        lines = self.metrics().splitlines()
        named = 'quire_http_problems_total{status="500"} '
        return next((line.removeprefix(named) for line in lines if line.startswith(named)), "0")

    def metrics(self) -> str:
        """Return the metrics as an operator reads them."""
        answer = self.request("GET", "/metrics", headers=AS_OPERATOR)
        assert answer.status == 200, answer.body
        return answer.body.decode()

    def readiness(self) -> PeerAnswer:
        """Return the answer of readyz as an operator gets it."""
        return self.request("GET", "/readyz", headers=AS_OPERATOR)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = None,
        headers: dict[str, str] | None = None,
        timeout: float = 60,
    ) -> PeerAnswer:
        """Send one request; dicts and lists are sent as JSON, bytes unchanged."""
        sent = dict(headers or {})
        if key is not None:
            sent["x-api-key"] = key
        data = None
        if isinstance(body, (bytes, bytearray)):
            data = bytes(body)
        elif body is not None:
            data = msgspec.json.encode(body)
        if data is not None and "content-type" not in {name.lower() for name in sent}:
            sent["content-type"] = "application/json"
        request = urllib.request.Request(self.url + path, data, sent, method=method)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as reply:
                return PeerAnswer(reply.status, dict(reply.headers), reply.read())
        except urllib.error.HTTPError as error:
            return PeerAnswer(error.code, dict(error.headers), error.read())

    @property
    def connections(self) -> Connections:
        """The connections of the server, whose limits a test may change."""
        assert self._server is not None
        factory = cast("ProtocolFactory", self._server.config.http)
        assert factory.connections is not None, "there was no connection yet"
        return factory.connections

    def create_org(self, privacy: str = "sealed", slug: str | None = None) -> tuple[str, str]:
        """Create an org; returns its slug and an admin key."""
        slug = slug or f"org-{secrets.token_hex(4)}"
        made = self.request(
            "POST", "/v1/orgs", {"slug": slug, "privacy": privacy}, key=self.platform_key
        )
        assert made.status == 201, made.body
        return slug, self.create_key(slug, "admin")

    def create_key(self, org: str, role: str) -> str:
        """Create an API key of an org."""
        made = self.request(
            "POST", f"/v1/orgs/{org}/keys", {"name": role, "role": role}, key=self.platform_key
        )
        assert made.status == 201, made.body
        return str(made.json()["key"])

    def stop(self) -> None:
        """Shut down gracefully."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(60)
            assert not self._thread.is_alive(), "the server did not stop"


def server_settings(
    data_dir: Path, features: Sequence[Feature] = FEATURES, **changes: Any
) -> Settings:
    """Settings with made-up keys, on loopback; without a metrics token if it is given as None."""
    environ = {
        "QUIRE_DATA_DIR": str(data_dir),
        "QUIRE_AUDIT_SECRET_KEY": SIGNING_KEY,
        "QUIRE_MASTER_KEY": MASTER_KEY,
        "QUIRE_METRICS_TOKEN": METRICS_TOKEN,
        "QUIRE_LOG_LEVEL": "error",
        "QUIRE_SHUTDOWN_SECONDS": "10",
        # No test depends on when the server tells in its own entries what was read.
        "QUIRE_OWN_ENTRIES_SECONDS": "3600",
        # Nor on when it writes security events about callers, and judges their traffic.
        "QUIRE_SECURITY_EVENT_SECONDS": "3600",
        "QUIRE_TRAFFIC_SECONDS": "3600",
        # These servers have no signer of their own.
        "QUIRE_UNSIGNED_EVENT_SECONDS": "86400",
        "QUIRE_UNSIGNED_LIMIT_SECONDS": "86400",
    }
    if changes.get("metrics_token", METRICS_TOKEN) is None:
        del environ["QUIRE_METRICS_TOKEN"]
    return Settings.from_env(environ, changes, added_settings(features))


def start_server(
    database: Database, data_dir: Path, features: Sequence[Feature] = FEATURES, **changes: Any
) -> Server:
    """Start a server on a database; it has a platform key and no org yet."""
    data_dir.mkdir(parents=True, exist_ok=True)
    settings = server_settings(data_dir, features, database_url=database.server_url, **changes)
    blocking(prepare(settings, database.server_url))
    listener = socket.create_server(("127.0.0.1", 0))
    listeners = [listener]
    if settings.metrics_port is not None:
        listeners.append(socket.create_server((settings.metrics_host, settings.metrics_port)))
    app = application(settings, database.server_url, features)
    runner = uvicorn.Server(uvicorn_config(settings, app))
    thread = threading.Thread(target=runner.run, kwargs={"sockets": listeners}, daemon=True)
    thread.start()
    deadline = time.monotonic() + START_TIMEOUT_S
    while not runner.started:
        assert thread.is_alive(), "the server ended while starting"
        assert time.monotonic() < deadline, "the server did not start in time"
        time.sleep(0.01)
    port = listener.getsockname()[1]
    key = (data_dir / "platform.key").read_text().strip()
    return Server(
        f"http://127.0.0.1:{port}",
        key,
        settings,
        database,
        services=app.state.services,
        _server=runner,
        _thread=thread,
    )
