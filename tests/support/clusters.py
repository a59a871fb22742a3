"""PostgreSQL for tests: databases cloned from a migrated template, and a private cluster to kill."""

import asyncio
import os
import signal
import socket
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import asyncpg

from ledger.storage.database import RETENTION_ROLE, SIGNER_ROLE
from ledger.storage.migrate import migrate
from ledger.storage.provision import provision
from server.embedded import OWNER_ROLE, SERVER_ROLE, SUPERUSER, EmbeddedPostgres

T = TypeVar("T")
TEMPLATE = "quire_template"


def blocking(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine from synchronous code, without using the test's own event loop."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


@dataclass(frozen=True)
class Database:
    """One database, with the URLs for its roles."""

    name: str
    owner_url: str
    server_url: str
    superuser_url: str

    @property
    def signer_url(self) -> str:
        return as_role(self.server_url, SIGNER_ROLE)

    @property
    def retention_url(self) -> str:
        return as_role(self.server_url, RETENTION_ROLE)


def as_role(server_url: str, role: str) -> str:
    """Return the URL of the server's role for another role of the same database."""
    before, found, after = server_url.partition(f"//{SERVER_ROLE}@")
    assert found, f"not a URL of {SERVER_ROLE}: {server_url}"
    return f"{before}//{role}@{after}"


class Cluster:
    """A running embedded PostgreSQL with a migrated template database."""

    def __init__(self, postgres: EmbeddedPostgres) -> None:
        self.postgres = postgres
        self.superuser_url = postgres.url(SUPERUSER)
        self._template_made = False

    def named(self, name: str) -> Database:
        return Database(
            name,
            self.postgres.url(OWNER_ROLE, name),
            self.postgres.url(SERVER_ROLE, name),
            self.postgres.url(SUPERUSER, name),
        )

    def empty(self) -> Database:
        """A new database with the roles and without migrations."""
        database = self.named(f"t_{uuid4().hex}")
        blocking(provision(self.superuser_url, database.name))
        return database

    def migrated(self) -> Database:
        """A new database cloned from the template."""
        if not self._template_made:
            blocking(self._make_template())
            self._template_made = True
        database = self.named(f"t_{uuid4().hex}")
        blocking(self._clone(database.name))
        return database

    def drop(self, database: Database) -> None:
        blocking(self._execute(f"DROP DATABASE IF EXISTS {database.name} WITH (FORCE)"))

    async def _make_template(self) -> None:
        await provision(self.superuser_url, TEMPLATE)
        await migrate(self.named(TEMPLATE).owner_url)

    async def _clone(self, name: str) -> None:
        await self._execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} OWNER {OWNER_ROLE}")
        await provision(self.superuser_url, name)  # its rights are not cloned

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self.superuser_url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


class OwnCluster:
    """A private cluster that a test may kill, on 127.0.0.1:`port` and on its socket."""

    def __init__(self, data_dir: Path, template: Path | None = None) -> None:
        """Make its files: by initdb, or as a copy of the files of another cluster that was stopped."""
        self.postgres = EmbeddedPostgres(data_dir)
        if template is None:
            self.postgres.initialise()
        else:
            self._copy(template)
        self.port = _free_port()
        self._listen()

    def _copy(self, template: Path) -> None:
        _, account = self.postgres._claim()
        copied = account.run("cp", "-a", template, self.postgres.data)
        assert copied.returncode == 0, copied.stderr

    def start(self) -> None:
        """Start it, or start it again after `kill`; returns when it accepts connections."""
        self.postgres.ensure_running()

    def kill(self) -> None:
        """kill -9 the postmaster and wait until it is dead; its backends end by themselves."""
        pid = self.postgres.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # `start` reaps it

    def stop(self) -> None:
        self.postgres.stop()

    def provide(self) -> None:
        """Make the database `quire` with its roles and migrations."""
        blocking(self._provide())

    @property
    def owner_url(self) -> str:
        return self._url(OWNER_ROLE, "quire")

    @property
    def server_url(self) -> str:
        return self._url(SERVER_ROLE, "quire")

    @property
    def superuser_url(self) -> str:
        return self._url(SUPERUSER, "quire")

    def _url(self, role: str, database: str) -> str:
        return f"postgresql://{role}@127.0.0.1:{self.port}/{database}"

    async def _provide(self) -> None:
        await provision(self._url(SUPERUSER, "postgres"))
        await migrate(self.owner_url)

    def _listen(self) -> None:
        with (self.postgres.data / "postgresql.conf").open("a") as config:
            config.write(f"listen_addresses = '127.0.0.1'\nport = {self.port}\n")
        rules = self.postgres.data / "pg_hba.conf"
        rules.write_text("local all all trust\nhost all all 127.0.0.1/32 trust\n")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
