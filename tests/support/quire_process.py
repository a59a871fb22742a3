"""`quire serve` as a process of its own, to be killed."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import quote

import psutil

from ledger.keys import SigningKeyring
from ledger.storage.database import RETENTION_ROLE, SIGNER_ROLE
from server.embedded import OWNER_ROLE, SERVER_ROLE, SUPERUSER
from server.keys.first_start import load_secrets
from tests.support.clusters import Database, as_role
from tests.support.reaper import processes_of
from tests.support.serving import (
    AS_OPERATOR,
    MASTER_KEY,
    METRICS_TOKEN,
    SIGNING_KEY,
    server_settings,
)

QUIRE = (
    sys.executable,
    "-c",
    "import sys; from server.cli.main import main; main(prog_name='quire')",
)
START_S = 60.0
STOP_S = 60.0
SHUTDOWN_S = 10


def logins(database_url: str) -> dict[str, str]:
    """Return the settings of the logins, by the URL of the server's role."""
    return {
        "QUIRE_DATABASE_URL": database_url,
        "QUIRE_DATABASE_SIGNER_URL": as_role(database_url, SIGNER_ROLE),
        "QUIRE_DATABASE_RETENTION_URL": as_role(database_url, RETENTION_ROLE),
    }


class QuireProcess:
    """A `quire serve` on a port of its own, without a database URL on the embedded database."""

    def __init__(self, data_dir: Path, database_url: str | None = None, workers: int = 1) -> None:
        self.data_dir = data_dir
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = data_dir.with_suffix(".log")
        self._workers = workers
        self._process: subprocess.Popen[bytes] | None = None
        self._environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("QUIRE_")},
            "QUIRE_AUDIT_SECRET_KEY": SIGNING_KEY,
            "QUIRE_MASTER_KEY": MASTER_KEY,
            "QUIRE_METRICS_TOKEN": METRICS_TOKEN,
            "QUIRE_LOG_LEVEL": "warning",
            "QUIRE_OWN_ENTRIES_SECONDS": "3600",
            # Nor on when it writes security events about callers, and judges their traffic.
            "QUIRE_SECURITY_EVENT_SECONDS": "3600",
            "QUIRE_TRAFFIC_SECONDS": "3600",
            "QUIRE_SHUTDOWN_SECONDS": str(SHUTDOWN_S),
        }
        if database_url is not None:
            self._environ |= logins(database_url)

    def settings(self, **values: str) -> None:
        """Set more settings by name, for the next start."""
        self._environ |= values

    def command_settings(self) -> dict[str, str]:
        """The settings of a command on the server's machine."""
        own = {name: value for name, value in self._environ.items() if name.startswith("QUIRE_")}
        return {**own, "QUIRE_DATA_DIR": str(self.data_dir)}

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        self.launch()
        deadline = time.monotonic() + START_S
        while not self._ready():
            assert self.process.poll() is None, f"it ended:\n{self._last_words()}"
            assert time.monotonic() < deadline, f"not ready:\n{self._last_words()}"
            time.sleep(0.02)

    def launch(self) -> None:
        """Start it without waiting."""
        arguments = ["serve", "--port", str(self.port), "--workers", str(self._workers)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*QUIRE, *arguments, "--data-dir", str(self.data_dir)],
                env=self._environ,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _last_words(self) -> str:
        return self.log.read_text()[-4_000:]

    def _ready(self) -> bool:
        with contextlib.suppress(OSError, urllib.error.URLError):
            urllib.request.urlopen(f"{self.url}/readyz", timeout=5).close()
            return True
        return False

    def metrics(self) -> str:
        """Return the metrics as an operator reads them."""
        asked = urllib.request.Request(f"{self.url}/metrics", headers=AS_OPERATOR)
        with urllib.request.urlopen(asked, timeout=30) as answer:
            text: str = answer.read().decode()
            return text

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def kill(self) -> None:
        """kill -9 the server (with several workers: their supervisor)."""
        self.process.kill()
        self.process.wait(STOP_S)

    def terminate(self) -> int:
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_S)

    def pids(self) -> list[int]:
        """The server's running processes: supervisor, workers, embedded PostgreSQL."""
        return processes_of(str(self.data_dir))

    def workers(self) -> list[int]:
        """The worker processes of the supervisor."""
        found = []
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if "spawn_main" in " ".join(child.cmdline()):
                    found.append(child.pid)
        return found

    def followers(self) -> list[int]:
        """The processes that follow the trails: signer and indexer, as far as they run."""
        return self.beside("signer") + self.beside("indexer")

    def beside(self, name: str) -> list[int]:
        """The running processes of this name beside the workers, by their ids: none, or one."""
        found = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if child.name() == f"quire-{name}":
                    found.append(child.pid)
        return found

    def postmaster(self) -> int:
        """The process id of the embedded PostgreSQL."""
        return int(self._postmaster_file()[0])

    def embedded(self) -> Database:
        """The embedded database, with the URLs of its three roles."""
        lines = self._postmaster_file()
        address = f"host={quote(lines[4], safe='')}&port={lines[3]}"
        owner, server, superuser = (
            f"postgresql://{role}@/quire?{address}" for role in (OWNER_ROLE, SERVER_ROLE, SUPERUSER)
        )
        return Database("quire", owner, server, superuser)

    def _postmaster_file(self) -> list[str]:
        (pid_file,) = self.data_dir.glob("**/postmaster.pid")
        return pid_file.read_text().splitlines()

    def keyring(self) -> SigningKeyring:
        """The keys with which the server signs entries."""
        settings = server_settings(self.data_dir)
        return load_secrets(settings, database_is_new=False).keyring

    def create_org(self, privacy: str) -> tuple[str, str]:
        """A new org and a key that may append to it."""
        platform_key = (self.data_dir / "platform.key").read_text().strip()
        slug = f"org-{secrets.token_hex(4)}"
        _post(f"{self.url}/v1/orgs", platform_key, {"slug": slug, "privacy": privacy})
        body = {"name": "load", "role": "member"}
        made = _post(f"{self.url}/v1/orgs/{slug}/keys", platform_key, body)
        return slug, made["key"]


def _post(url: str, key: str, body: dict[str, str]) -> dict[str, str]:
    headers = {"x-api-key": key, "content-type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST")
    with urllib.request.urlopen(request, timeout=30) as answer:
        content: dict[str, str] = json.load(answer)
    return content


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


GONE_S = 20.0


def names_of(pids: list[int]) -> list[str]:
    names = []
    for pid in pids:
        with contextlib.suppress(OSError):
            names.append(f"{pid} {Path(f'/proc/{pid}/comm').read_text().strip()}")
    return names


def wait_until_ended(server: QuireProcess) -> None:
    """Wait until all processes of the server have ended."""
    deadline = time.monotonic() + GONE_S
    while server.pids():
        assert time.monotonic() < deadline, f"still running: {names_of(server.pids())}"
        time.sleep(0.05)


def eager_process(data_dir: Path, url: str | None = None, workers: int = 1) -> QuireProcess:
    server = QuireProcess(data_dir, url, workers)
    server.settings(
        QUIRE_LOG_LEVEL="info",
        QUIRE_LOG_FORMAT="json",
        QUIRE_ANCHOR_SECONDS="0.5",
        QUIRE_ARCHIVE_SECONDS="0.5",
        QUIRE_ARCHIVE_URL=data_dir.with_name(f"{data_dir.name}-archive").as_uri(),
    )
    return server
